-- SPDX-License-Identifier: MIT
--- Routes beside those of the plugin before it in the chain: each with a destination, a gateway, and what
-- else a route has.
--
--     { "type": "extra-routes", "routes": [ { "dst": "10.96.0.0/12", "gw": "10.22.0.9" } ] }

local ipam_conf, schema = require "cni.ipam_conf", require "cni.schema"

return {
  chained = true,
  conf = schema.record { routes = ipam_conf.routes },
  add = function(req)
    for _, route in ipairs(req.conf.routes or {}) do
      req.pod:add_route { dst = route.dst, gw = route.gw, link = req.ifname, mtu = route.mtu,
        priority = route.priority, table = route.table }
    end
    return { routes = req.conf.routes }
  end,
}
