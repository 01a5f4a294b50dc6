-- SPDX-License-Identifier: MIT
--- A guard at a port of a bridge: what a sandbox sends from a MAC, or an address, that is not its own is
-- dropped before the bridge has learnt from it.
--
--     table bridge luacni
--       set guarded, macs             ports, and port . MAC: what these may send from
--       chain forged_macs             hook prerouting
--       set addressed, arp_macs, ipv4, ipv6   ports whose addresses count, and what these may send from, and
--                                     speak for in ARP and neighbour discovery
--       chain forged_addresses        hook prerouting, and the chains that it leads to
--
-- An element is an attachment's; its comment says whose. A frame costs the same, however many there are.
--
-- A port whose addresses count may send, beside what is from its addresses and the link-local one of its MAC:
--
--     IPv4     from 0.0.0.0 what a DHCP client sends
--     ARP      as sender its own MAC, and its own address; or none, when it probes for its own address
--     IPv6     from :: solicitations that look for a duplicate of its own address or for a router, and
--              reports of multicast listeners
--     other    what is neither, but for frames with a second VLAN tag: nobody sees what is behind it
--
-- A neighbour advertisement has one of its addresses as target. One VLAN tag is looked through.
--
-- @module cni.guard

local addr = require "cni.addr"
local fail = require "cni.fail"
local netlink = require "netlink"
local nft = require "cni.nft"

local M = {}

-- Registers of 16 bytes: the port, and behind it what of the frame is looked for together with it.
local port_at <const>, field_at <const> = 1, 2

local port = { "meta", key = "iifname", dreg = port_at }

local function field(base, offset, len)
  return { "payload", base = base, offset = offset, len = len, dreg = field_at }
end

local function lookup(set, inverted)
  return { "lookup", set = set, sreg = port_at, flags = inverted and { "inverted" } or nil }
end

-- What the port has, or has not, in a set together with a field.
local function own(set, ...) return { port, field(...), lookup(set) } end
local function strange(set, ...) return { port, field(...), lookup(set, true) } end

local function bytes(data, base, offset, op)
  return { field(base, offset, #data), { "cmp", sreg = field_at, op = op or "eq", data = data } }
end

local function protocol(word) return nft.meta("protocol", { ether_type = word }) end
local function l4(word) return nft.meta("l4proto", { inet_proto = word }) end

-- One rule of parts; its comment is for people.
local function rule(comment, ...)
  local list = { comment = comment }
  for _, part in ipairs { ... } do
    for _, expr in ipairs(part) do list[#list + 1] = expr end
  end
  return list
end

local drop, accept = nft.verdict "drop", nft.verdict "accept"
local zero4, zero6 = ("\0"):rep(4), ("\0"):rep(16)

-- Offsets in the headers.
local source4 <const>, source6 <const> = 12, 8
local sender_mac <const>, sender <const>, probed <const> = 8, 14, 24
local target <const> = 8

local solicits <const>, advertises <const>, reports2 <const> = "\135", "\136", "\143"

-- Reports of multicast listeners, that they leave, and solicitations of routers.
local function reports()
  return { field("transport", 0, 1), { "range", sreg = field_at, op = "eq", from = "\131", to = "\133" } }
end

local function base(name, comment, rules)
  return { name = name, type = "filter", hook = "prerouting", priority = -300, comment = comment,
    rules = rules }
end

local about <const> = "guarded ports of bridges"

--- What there is for MACs; see cni.step.layout.
-- @local
M.macs = {
  family = "bridge", table = "luacni", name = "macs", version = 1, comment = about,
  sets = {
    { name = "guarded", key_type = "ifname", comment = "ports whose MACs count" },
    { name = "macs", key_type = "ifname . ether_addr", comment = "what they may send from" },
  },
  chains = {
    base("forged_macs", "what is not from a port's own MAC ends here", {
      rule("forged MAC", { port, lookup "guarded" }, strange("macs", "link", 6, 6), drop),
    }),
  },
}

-- ARP in the rules of its chain is looked for once more, since nft cannot show what is in it otherwise.
local arp = protocol "arp"

--- What there is for addresses.
-- @local
M.addresses = {
  family = "bridge", table = "luacni", name = "addresses", version = 1, comment = about,
  sets = {
    { name = "addressed", key_type = "ifname", comment = "ports whose addresses count" },
    { name = "arp_macs", key_type = "ifname . ether_addr", comment = "what they may name as theirs" },
    { name = "ipv4", key_type = "ifname . ipv4_addr", comment = "what they may send from" },
    { name = "ipv6", key_type = "ifname . ipv6_addr", comment = "what they may send from" },
  },
  chains = {
    { name = "speaks_arp", comment = "who speaks for which address", rules = {
      rule("not of Ethernet and IPv4", bytes("\0\1\8\0\6\4", "network", 0, "neq"), drop),
      rule("forged MAC inside", arp, strange("arp_macs", "network", sender_mac, 6), drop),
      rule(nil, arp, own("ipv4", "network", sender, 4), accept),
      rule("duplicate address detection", arp, bytes(zero4, "network", sender),
        own("ipv4", "network", probed, 4), accept),
      rule("forged address", drop),
    } },
    { name = "discovery", comment = "ICMPv6 of ports whose addresses count", rules = {
      rule("forged target", bytes(advertises, "transport", 0),
        strange("ipv6", "transport", target, 16), drop),
      rule("duplicate address detection", bytes(zero6, "network", source6), bytes(solicits, "transport", 0),
        own("ipv6", "transport", target, 16), accept),
      rule("router solicitation, multicast listeners", bytes(zero6, "network", source6), reports(), accept),
      rule("multicast listeners", bytes(zero6, "network", source6), bytes(reports2, "transport", 0), accept),
    } },
    { name = "by_address", comment = "frames of ports whose addresses count", rules = {
      rule(nil, arp, nft.verdict("goto", "speaks_arp")),
      rule(nil, protocol "ip", own("ipv4", "network", source4, 4), accept),
      rule("DHCP", protocol "ip", bytes(zero4, "network", source4), l4 "udp",
        bytes("\0\68\0\67", "transport", 0), accept),
      rule("forged address", protocol "ip", drop),
      rule(nil, protocol "ip6", l4 "icmpv6", nft.verdict("jump", "discovery")),
      rule(nil, protocol "ip6", own("ipv6", "network", source6, 16), accept),
      rule("forged address", protocol "ip6", drop),
      rule("second VLAN tag", protocol "8021q", drop),
      rule("second VLAN tag", protocol "8021ad", drop),
    } },
    base("forged_addresses", "what is not from a port's own address ends here", {
      rule(nil, { port, lookup "addressed" }, nft.verdict("goto", "by_address")),
    }),
  },
}

-- The link-local address that a MAC gives.
local function link_local(mac)
  local b = {}
  for byte in mac:gmatch "%x%x" do b[#b + 1] = tonumber(byte, 16) end
  return addr.text("\xfe\x80\0\0\0\0\0\0"
    .. string.char(b[1] ~ 2, b[2], b[3], 0xff, 0xfe, b[4], b[5], b[6]))
end

-- A step that is ahead of the pending ones: so it stands before any link is up, and a kernel that has no such
-- tables refuses it before a link is made.
local function push(req, layout, elements)
  req.plan:push_ahead { kind = "elements", ns = "host",
    want = { module = "guard", layout = layout, elements = elements,
      instead = layout == "macs" and "guards" or nil } }
end

--- Guard a port: from now on only what the attachment was given leaves its sandbox by it.
-- @tparam table req
-- @tparam table link the port, object in the host
-- @tparam string mac of the sandbox
-- @tparam[opt] table ips the addresses of the attachment, as in a result; nil: addresses do not count
-- @local
function M.add(req, link, mac, ips)
  local name = link.name
  local function keeps(set, what)
    return { set = set, key = name, replace = true, says = ("keep forged %s from %s"):format(what, name) }
  end
  local function may_send(set, from, says)
    return { set = set, key = { name, from }, replace = true,
      says = says or ("%s may send from %s"):format(name, from) }
  end
  if ips then
    local elements = { keeps("addressed", "addresses"),
      may_send("arp_macs", mac, ("%s may name itself %s"):format(name, mac)) }
    for _, ip in ipairs(ips) do
      local cidr = addr.parse(ip.address)
      elements[#elements + 1] = may_send(cidr.family == "inet" and "ipv4" or "ipv6", cidr:text())
    end
    elements[#elements + 1] = may_send("ipv6", link_local(mac))
    push(req, "addresses", elements)
  end
  push(req, "macs", { keeps("guarded", "MACs"), may_send("macs", mac) })
end

local hint <const> = "whoever makes the link has to know its MAC: for a bridge that is `mac` in args.cni or "
  .. "runtimeConfig, or MAC in CNI_ARGS"

local function unknown_mac(name, mac, whose)
  fail.config("mac", ("%s cannot become the MAC of %s: what is not from the MAC that it was given is dropped "
    .. "(macspoofchk%s)"):format(mac, name, whose and " of " .. whose or ""), hint)
end

local errors = netlink.sys.errno

-- What the kernel says where it has no nf_tables of bridges, no such table or set: nothing is guarded there.
local no_element = { [errors.ENOENT] = true, [errors.EAFNOSUPPORT] = true, [errors.EOPNOTSUPP] = true }

local function there(found, msg, errno)
  if found ~= nil or not errno or no_element[errno] then return found end
  fail.kernel("look at the guards of bridges", msg, errno)
end

--- Raise an error if a guarded link would lose its voice by another MAC.
-- @tparam handle host
-- @string other the link's other end, in the host
-- @string name of the link
-- @string mac
-- @raise code 7
-- @local
function M.need_known(host, other, name, mac)
  local socket = nft.open_if_any(host)
  local function find(set, key)
    return socket and there(socket:get("element", { family = M.macs.family, table = M.macs.table,
      set = set.name, key_type = set.key_type, key = key }))
  end
  local guarded, macs = table.unpack(M.macs.sets)
  local found = find(guarded, other)
  if found and not find(macs, { other, mac }) then unknown_mac(name, mac, found.comment) end
end

--- As @{need_known}, of a link that the same plan makes.
-- @tparam table plan
-- @string name of the link
-- @string mac
-- @raise code 7
-- @local
function M.need_planned(plan, name, mac)
  local guarded, known = false, false
  for _, step in ipairs(plan.steps) do
    for _, element in ipairs(step.kind == "elements" and step.want.module == "guard" and step.want.elements
      or {}) do
      guarded = guarded or element.set == "guarded"
      known = known or element.set == "macs" and element.key[2] == mac
    end
  end
  if guarded and not known then unknown_mac(name, mac) end
end

--- Nothing is known of what an attachment had: what is its is taken back.
-- @tparam table req in the mode erase
-- @local
function M.forget(req)
  push(req, "macs", {})
  push(req, "addresses", {})
end

return M
