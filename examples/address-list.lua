-- SPDX-License-Identifier: MIT
--- Addresses from a list, as they were handed out by whoever rules the network. For `ipam`.
--
--     "ipam": { "type": "address-list", "subnet": "10.22.0.0/24", "gateway": "10.22.0.254",
--       "addresses": ["10.22.0.7", "10.22.0.12", "10.22.0.40"] }

local json, schema = require "cni.json", require "cni.schema"

return {
  ipam = true,
  conf = schema.record { ipam = schema.record { subnet = schema.cidr { required = true }, gateway = schema.ip,
    addresses = schema.list(schema.ip, { doc = "Each is given once." }) } { required = true } },
  add = function(req)
    local c, set = req.conf.ipam, json.list {}
    for i, ip in ipairs(c.addresses or {}) do
      set[i] = { subnet = c.subnet, rangeStart = ip, rangeEnd = ip, gateway = c.gateway }
    end
    return req:delegate("host-local",
      { ipam = { ranges = { set }, subnet = json.null, gateway = json.null } })
  end,
}
