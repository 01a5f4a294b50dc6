-- SPDX-License-Identifier: MIT
--- Addresses that stay with a pod: that of NAME-3 is always the one three after the first of its range. For
-- `ipam`; other pods get what is free.
--
--     "ipam": { "type": "sticky", "subnet": "10.22.0.0/24", "rangeStart": "10.22.0.100" }

local addr, schema = require "cni.addr", require "cni.schema"

return {
  ipam = true,
  conf = schema.record { ipam = schema.record {
    rangeStart = schema.ip { required = true, doc = "The address of the pod with the number 0." },
  } { required = true } },
  add = function(req)
    local ordinal = (req.args or ""):match "K8S_POD_NAME=[^;]*%-(%d+)%f[;\0]"
    if not ordinal or tonumber(ordinal) > 10000 then return req:delegate("host-local") end
    local wish = addr.ip(req.conf.ipam.rangeStart)
    for _ = 1, tonumber(ordinal) do wish = addr.next(wish) end
    return req:delegate("host-local", { args = { cni = { ips = { addr.text(wish) } } } })
  end,
}
