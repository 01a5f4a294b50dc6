-- SPDX-License-Identifier: MIT
--- An address from the DHCP server of the network that the sandbox's interface is in; and with `ipv6` those
-- of IPv6, from a DHCPv6 server or as routers advertise. There is no daemon to ask: the servers are spoken to
-- by this program, on the interface itself.

local dhcp_lease = require "cni.dhcp_lease"
local ipam_conf = require "cni.ipam_conf"
local schema = require "cni.schema"

local conf = schema.record {
  ipam = schema.record {
    type = schema.string,
    daemonSocketPath = schema.string { empty = "absent",
      doc = "Accepted for compatibility; nothing is asked there." },
    ipv4 = schema.boolean { default = true, doc = "An address of IPv4; false: of IPv6 alone." },
    ipv6 = schema.enum { values = { "none", "stateful", "stateless", "slaac", "auto" }, default = "none",
      empty = "absent", doc = "Addresses of IPv6: stateful from a DHCPv6 server; slaac those that the kernel "
        .. "gives itself as routers advertise; stateless those, and resolvers from a DHCPv6 server; auto as "
        .. "the first router says." },
    priority = schema.integer { min = 0, max = 0xffffffff, default = 0,
      doc = "Metric of the routes; 0: none." },
    provide = dhcp_lease.provide,
    request = dhcp_lease.request,
    rapidCommit = schema.boolean {
      doc = "Be content with two messages in place of four, where the server is." },
    probe = schema.integer { min = 0, max = 10000, default = 200,
      doc = "Milliseconds in which others can say that they have the address; 0: they are not asked." },
  } { required = true },
  args = ipam_conf.args,
  runtimeConfig = schema.record {
    ips = schema.list(schema.string, { doc = "The address to ask for (capability `ips`)." }),
  },
}

conf:check(function(c)
  if not c.ipam.ipv4 and c.ipam.ipv6 == "none" then
    return "ipam.ipv4 is false and ipam.ipv6 none: then there is no address to ask for"
  end
end, "One of `ipam.ipv4` and `ipam.ipv6` asks for something.")

return {
  ipam = true,
  on_link = true,
  conf = conf,

  add = function(req)
    local ipam = req.conf.ipam
    return dhcp_lease.obtain(req, { ipv4 = ipam.ipv4,
      ipv6 = ipam.ipv6 ~= "none" and ipam.ipv6 or nil, provide = ipam.provide, request = ipam.request,
      priority = ipam.priority,
      rapid = ipam.rapidCommit, probe = ipam.probe, requested = ipam_conf.requested(req) })
  end,
}
