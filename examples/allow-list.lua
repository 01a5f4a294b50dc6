-- SPDX-License-Identifier: MIT
--- A bridge whose containers are spoken to, by way of the host, by the sources of a list alone; what answers
-- them comes back.
--
--     { "type": "allow-list", "from": [ "192.0.2.0/24", "198.51.100.7/32" ], ... keys of bridge }

local nft, schema = require "cni.nft", require "cni.schema"
local other = nft.rule(nft.daddr_in("ip", "own"), nft.ct_state "new",
  nft.fields_in("ip", { "daddr", "saddr" }, "allowed", "!="), nft.verdict "drop")

return {
  conf = schema.record { from = schema.list(schema.cidr { family = "inet" }, { required = true }) },
  add = function(req)
    local result = req:delegate "bridge"
    local lists = req.host:ensure_nft_table { name = "allow-list", comment = "who may speak to whom",
      sets = { { name = "own", key_type = "ipv4_addr" },
        { name = "allowed", key_type = "ipv4_addr . ipv4_addr", interval = true } },
      chains = { { name = "new", type = "filter", hook = "forward", priority = -5, rules = { other } } } }
    for _, ip in ipairs(result.ips) do
      local own, elements = ip.address:match "^[%d.]+", {}
      for i, from in ipairs(req.conf.from) do elements[i] = { set = "allowed", key = { own, from } } end
      req.host:add_nft_elements(lists, { { set = "own", key = own }, table.unpack(elements) })
    end
    return result
  end,
}
