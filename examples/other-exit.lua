-- SPDX-License-Identifier: MIT
--- A bridge whose containers leave the host by a gateway of their own, whatever the host's default route is:
-- a rule of policy routing for each address, and one routing table that all of them share.
--
--     { "type": "other-exit", "table": 200, "uplink": "eth1", "gateway": "192.0.2.254", ... keys of bridge }

local schema = require "cni.schema"

return {
  conf = schema.record { table = schema.integer { min = 1, max = 252, required = true },
    uplink = schema.ifname { required = true }, gateway = schema.ip { family = "inet", required = true } },
  add = function(req)
    local result, conf = req:delegate "bridge", req.conf
    req.host:ensure_route { dst = "0.0.0.0/0", gw = conf.gateway, link = conf.uplink, table = conf.table }
    for _, ip in ipairs(result.ips) do
      req.host:add_rule { from = ip.address:match "^[%d.]+", table = conf.table }
    end
    return result
  end,
}
