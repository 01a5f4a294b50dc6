-- SPDX-License-Identifier: MIT
--- Changes the result of the plugins before it, whoever made it: resolver settings of the pod's namespace,
-- and a smaller MTU. Behind the plugin that makes the interface, ours or not.
--
--     { "type": "cluster-dns", "server": "10.96.0.10", "domain": "cluster.local", "mtu": 1400 }

local common, schema = require "cni.common", require "cni.schema"

return {
  chained = true,
  conf = schema.record { server = schema.ip { required = true }, domain = schema.string { required = true },
    mtu = schema.mtu },
  add = function(req)
    common.need_chain(req)
    local namespace = (req.args or ""):match "K8S_POD_NAMESPACE=([^;]*)" or "default"
    if req.conf.mtu then req.pod:set_link(req.ifname, { mtu = req.conf.mtu }) end
    local search = ("%s.svc.%s"):format(namespace, req.conf.domain)
    local result = req.prev or {}
    result.dns = { nameservers = { req.conf.server }, search = { search } }
    return result
  end,
}
