-- SPDX-License-Identifier: MIT
--- Let pass what a sandbox sends and what answers it, on a host whose FORWARD drops; and say who may reach
-- the sandbox. Used in a chain, behind the plugin that gives it its addresses. Packets are known by sets of
-- nf_tables and get a mark, which one rule at the head of iptables' FORWARD accepts: their cost does not grow
-- with the number of sandboxes.

local addr = require "cni.addr"
local common = require "cni.common"
local fail = require "cni.fail"
local forwarded = require "cni.forwarded"
local names = require "cni.names"
local schema = require "cni.schema"

local conf = schema.record {
  backend = schema.enum { values = { "iptables", "nftables", "firewalld" }, empty = "absent",
    doc = "firewalld: make the addresses sources of a zone of it, too. The others are accepted for " ..
      "compatibility: the rules are nf_tables' either way. None: firewalld where it runs." },
  firewalldZone = schema.string { default = "trusted", empty = "absent", doc = "The zone." },
  iptablesAdminChainName = schema.string { default = "CNI-ADMIN", empty = "absent",
    doc = "Chain for the administrator's rules: iptables' FORWARD jumps to it first; it is never flushed." },
  ingressPolicy = schema.enum { values = { "open", "same-bridge", "isolated" }, default = "open",
    empty = "absent", doc = "Who may reach the sandbox: all; of bridges only its own; not even neighbours " ..
      "there. Published ports are reached all the same." },
  unpublished = schema.enum { values = { "accept", "drop" }, default = "accept", empty = "absent",
    doc = "drop: what is routed to the sandbox from elsewhere than its own bridge passes by published " ..
      "ports alone. (The reference has no such key.)" },
  markBit = schema.integer { min = 0, max = 31, default = forwarded.bit,
    doc = "Number of the bit of a packet's mark that means: passes. Nobody else may use it. (The " ..
      "reference has no such key.)" },
}

-- Names that iptables has a meaning of its own for.
local reserved = { ACCEPT = true, DROP = true, RETURN = true, QUEUE = true, REJECT = true, INPUT = true,
  FORWARD = true, OUTPUT = true }
conf:check(function(c)
  local name = c.iptablesAdminChainName
  if #name > 28 or not name:find "^[%w_.:+@][%w_.:+@-]*$" or reserved[name] then
    return ("iptablesAdminChainName: %q is no name of a chain of iptables"):format(name)
  end
end, "iptablesAdminChainName has at most 28 characters.")

local function addresses(req)
  local list = {}
  for _, ip in ipairs(req.prev and req.prev.ips or {}) do
    if not addr.is_loopback(addr.parse(ip.address).ip) then list[#list + 1] = ip.address end
  end
  return list
end

-- The links of the host that the plugins before have made or named.
local function links(req)
  local list = {}
  for _, entry in ipairs(req.prev and req.prev.interfaces or {}) do
    local on_host = (entry.sandbox or "") == "" and not names.ifname_problem(entry.name or "")
    if on_host then list[#list + 1] = entry.name end
  end
  return list
end

local ethernet = "^" .. ("%x%x:"):rep(5) .. "%x%x$"

local function mac(req)
  for _, entry in ipairs(req.prev and req.prev.interfaces or {}) do
    if entry.name == req.ifname and (entry.sandbox or "") ~= "" then
      return (entry.mac or ""):match(ethernet)
    end
  end
end

local function add(req)
  common.need_chain(req)
  local c, ips = req.conf, addresses(req)
  local ways = links(req)
  if req.plan.attached and #ips == 0 and #(req.prev.interfaces or {}) == 0 then
    fail.config("prevResult", "has no interface and no address")
  end
  local limits = c.ingressPolicy ~= "open" or c.unpublished == "drop"
  if limits and #ways == 0 and common.expects_all(req) then
    fail.config("prevResult.interfaces", "names no link of the host",
      "a policy is for the bridge that the plugin before this one has made")
  end
  local backend = c.backend or req:once("backend", function()
    return forwarded.has_firewalld() and "firewalld" or "nftables"
  end)
  forwarded.add(req, ips, { bit = c.markBit, admin = c.iptablesAdminChainName, policy = c.ingressPolicy,
    links = ways, mac = mac(req), unpublished = c.unpublished == "drop",
    zone = backend == "firewalld" and c.firewalldZone or nil })
  return req.prev
end

return { conf = conf, add = add, chained = true }
