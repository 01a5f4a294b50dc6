-- SPDX-License-Identifier: MIT
--- A bridge whose containers reach the host and one pod alone, the one that serves them all, but not each
-- other.
--
--     { "type": "isolated", "server": "registry-0", "bridge": "cni0", "isGateway": true,
--       "ipam": { "type": "host-local", "subnet": "10.22.0.0/24" } }

local schema = require "cni.schema"

return {
  conf = schema.record {
    server = schema.string { required = true, doc = "Name of the pod that all may reach." },
  },
  add = function(req)
    local pod = (req.args or ""):match "K8S_POD_NAME=([^;]*)"
    return req:delegate("bridge", { portIsolation = pod ~= req.conf.server })
  end,
}
