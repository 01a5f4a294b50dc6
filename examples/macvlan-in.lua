-- SPDX-License-Identifier: MIT
--- A macvlan link on whichever link of the host has an address in a network: nodes name their links
-- differently, or an address has moved since.
--
--     { "type": "macvlan-in", "network": "10.2.0.0/16",
--       "ipam": { "type": "host-local", "subnet": "10.2.7.0/24" } }

local addr, fail, schema = require "cni.addr", require "cni.fail", require "cni.schema"

return {
  conf = schema.record { network = schema.cidr { required = true, doc = "Of an address of the master." } },
  add = function(req)
    local network = addr.parse(req.conf.network)
    local master = req:once("master", function()
      for _, have in ipairs(req.host:dump("addr", { family = network.family })) do
        if network:contains(addr.parse(have.address).ip) then return req.host:link(have.index).name end
      end
    end)
    if not master then fail.config("network", "no link of the host has an address there") end
    return req:delegate("macvlan", { master = master })
  end,
}
