-- SPDX-License-Identifier: MIT
--- Like bridge, but for a node whose packets go through a tunnel: containers leave room for its headers, and
-- what is sent to one that is not there does not leave by the default route.
--
--     { "type": "tunnelled", "overhead": 50, "bridge": "cni0", "isDefaultGateway": true,
--       "ipam": { "type": "host-local", "subnet": "10.22.0.0/24" } }

local fail, schema = require "cni.fail", require "cni.schema"

return {
  conf = schema.record {
    overhead = schema.integer { min = 0, max = 200, default = 50, doc = "Bytes of the tunnel's headers." },
    ipam = schema.record { subnet = schema.cidr { required = true } } { required = true },
  },
  add = function(req)
    local mtu = req:once("mtu", function()
      return (req.host:default_link() or fail.throw "this node has no default route").mtu
    end)
    req.host:ensure_route { dst = req.conf.ipam.subnet, type = "unreachable", priority = 9999 }
    return req:delegate("bridge", { mtu = mtu - req.conf.overhead })
  end,
}
