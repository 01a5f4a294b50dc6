-- SPDX-License-Identifier: MIT
--- Publish ports of the host: what comes to them goes to the sandbox. Used in a chain, behind the plugin
-- that gives the sandbox its address. Which ports, the runtime says (capability `portMappings`). A mapping
-- is for every address of the host, or for that of `hostIP`; the most specific one counts. Two containers
-- cannot have one port. One container in several networks can: the port leads there by the first of them, and
-- by another one when that has gone.

local addr = require "cni.addr"
local common = require "cni.common"
local conditions = require "cni.conditions"
local fail = require "cni.fail"
local forwarded = require "cni.forwarded"
local published = require "cni.published"
local schema = require "cni.schema"

local port = schema.integer { min = 1, max = 65535, required = true }

local mapping = schema.record {
  hostPort = port { doc = "Port of the host." },
  containerPort = port { doc = "Port of the sandbox." },
  protocol = schema.string { default = "tcp", empty = "absent", doc = "tcp, udp or sctp." },
  hostIP = schema.string { empty = "absent",
    doc = "Address of the host; none: all, 0.0.0.0: all of IPv4, `::`: all of IPv6." },
  range = schema.integer { min = 1, max = 65535, default = 1,
    doc = "How many ports, from these on. (The reference has no such key.)" },
  allow = schema.list(schema.cidr, {
    doc = "Who may connect; to others the port is not published. (The reference has no such key.)" }),
}
mapping:check(function(m)
  local proto = m.protocol:lower()
  if proto ~= "tcp" and proto ~= "udp" and proto ~= "sctp" then
    return ("protocol: %q is none of tcp, udp, sctp"):format(m.protocol)
  end
  if m.hostIP and not addr.ip(m.hostIP) then return ("hostIP: %q is no address"):format(m.hostIP) end
  if math.max(m.hostPort, m.containerPort) + m.range - 1 > 65535 then
    return ("range: %d ports from %d on go beyond 65535"):format(m.range,
      math.max(m.hostPort, m.containerPort))
  end
end)

local conf = schema.record {
  runtimeConfig = schema.record {
    portMappings = schema.list(mapping, { doc = "The ports (capability `portMappings`)." }),
  },
  snat = schema.flag { doc = "Hide the sender where the answer would not come back by this host: the " ..
    "sandbox itself, its neighbours, 127.0.0.1. Default: true." },
  masqAll = schema.boolean { doc = "Hide all senders." },
  backend = schema.enum { values = { "iptables", "nftables" }, empty = "absent",
    doc = "Accepted for compatibility; the rules are nf_tables' either way." },
  markMasqBit = schema.integer { min = 0, max = 31,
    doc = "Accepted for compatibility: what is hidden needs no mark here." },
  externalSetMarkChain = schema.string { empty = "absent",
    doc = "Accepted for compatibility: what is hidden needs no mark here, and no chain that sets one." },
  conditionsV4 = schema.list(schema.string, { doc = "For which packets of IPv4 this container's mappings " ..
    "are, in words of iptables or nft about source and destination addresses." }),
  conditionsV6 = schema.list(schema.string, { doc = "The same for IPv6." }),
}
conf:never_both("markMasqBit", "externalSetMarkChain", "they are two ways to mark what is to be hidden")
conf:check(function(c)
  return conditions.problem(c.conditionsV4, "inet", "conditionsV4")
    or conditions.problem(c.conditionsV6, "inet6", "conditionsV6")
end)

-- The sandbox's first address of each family.
local function addresses(req)
  local found, list = {}, {}
  for _, ip in ipairs(req.prev and req.prev.ips or {}) do
    local entry = ip.interface and req.prev.interfaces and req.prev.interfaces[ip.interface + 1]
    local cidr = addr.parse(ip.address)
    if (not entry or entry.name == req.ifname and (entry.sandbox or "") ~= "") and not found[cidr.family] then
      found[cidr.family] = true
      list[#list + 1] = ip.address
    end
  end
  return list
end

local function mappings(c)
  local list = {}
  for i, m in ipairs(c.runtimeConfig and c.runtimeConfig.portMappings or {}) do
    local bytes, allow = m.hostIP and addr.ip(m.hostIP), nil
    for k, prefix in ipairs(m.allow or {}) do
      allow = allow or {}
      allow[k] = addr.parse(prefix)
    end
    list[i] = {
      proto = m.protocol:lower(), first = m.hostPort, last = m.hostPort + m.range - 1, together = m.range > 1,
      offset = m.containerPort - m.hostPort, allow = allow, family = bytes and addr.family(bytes),
      host = bytes and not addr.is_unspecified(bytes) and addr.text(bytes) or nil,
    }
  end
  return list
end

local function add(req)
  common.need_chain(req)
  local c, list = req.conf, mappings(req.conf)
  local ips = addresses(req)
  if #list > 0 and #ips == 0 and common.expects_all(req) then
    fail.config("prevResult", "has no address of " .. req.ifname,
      "ports are published to an address of the sandbox")
  end
  if #list > 0 and req.command == "ADD" and forwarded.is_strict() then
    fail.throw { msg = "firewalld lets no published port pass: StrictForwardPorts is on", hint = ("say " ..
      "StrictForwardPorts=no in /etc/firewalld/firewalld.conf and reload it, or have firewalld publish: " ..
      "firewall-cmd --add-forward-port=port=%d:proto=%s:toport=%d:toaddr=%s"):format(list[1].first,
      list[1].proto, list[1].first + list[1].offset, ips[1] and addr.parse(ips[1]):text() or "ADDRESS") }
  end
  published.add(req, ips, list, {
    hide = c.snat ~= false, masq_all = c.masqAll,
    limits = { inet = conditions.limits(c.conditionsV4, "inet"),
      inet6 = conditions.limits(c.conditionsV6, "inet6") },
  })
  return req.prev
end

return { conf = conf, add = add, chained = true }
