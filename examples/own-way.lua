-- SPDX-License-Identifier: MIT
--- A macvlan beside the sandbox's first interface: what comes in by it is answered by it, by way of a gateway
-- that is not the default one of the sandbox.
--
--     { "type": "own-way", "gateway": "192.0.2.254", ... keys of macvlan }

local schema = require "cni.schema"
local source_routing = require "cni.source_routing"

return {
  conf = schema.record { gateway = schema.ip { required = true } },
  add = function(req)
    local result = req:delegate "macvlan"
    source_routing.add(req, req.ifname, result.ips, { gateways = { req.conf.gateway } })
    return result
  end,
}
