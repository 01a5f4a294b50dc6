-- SPDX-License-Identifier: MIT
--- Settings of a pod's network namespace that its annotations ask for, of those that the list allows. Anybody
-- who can make a pod can write annotations. Behind the plugin that makes the interface.
--
--     { "type": "pod-sysctls", "allowed": ["net/ipv4/ip_unprivileged_port_start"],
--       "capabilities": { "io.kubernetes.cri.pod-annotations": true } }
--
-- A pod: annotations: { "sysctl.example.org/net.ipv4.ip_unprivileged_port_start": "80" }

local schema = require "cni.schema"

return {
  chained = true,
  conf = schema.record { allowed = schema.list(schema.string, { doc = "Paths below /proc/sys." }) },
  add = function(req)
    local annotations, list = req.runtime["io.kubernetes.cri.pod-annotations"] or {}, {}
    for _, path in ipairs(req.conf.allowed or {}) do
      local value = annotations["sysctl.example.org/" .. path:gsub("/", ".")]
      if type(value) == "string" then list[#list + 1] = { path, value } end
    end
    if #list > 0 then req.pod:set_sysctl(list) end
  end,
}
