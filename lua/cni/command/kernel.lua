-- SPDX-License-Identifier: MIT
--- What this kernel can do for which types, found out by trying it in a namespace made for that.
-- @module cni.command.kernel

local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"
local nft = require "cni.nft"

local sys = netlink.sys
local M = {}

-- A namespace that is gone when it is closed, or when this process ends: it has a name only for the moment
-- between making and opening it. Whoever is killed in that moment leaves the name to the next one.
local function scratch()
  for _, name in ipairs(files.list "/run") do
    local pid = name:match "^luacni%-doctor%-(%d+)$"
    if pid and not files.exists("/proc/" .. pid) then netlink.ns.remove("/run/" .. name) end
  end
  local path = ("/run/luacni-doctor-%d"):format(sys.pid())
  files.must(netlink.ns.create(path))
  local ns, msg, errno = netlink.ns.open(path)
  netlink.ns.remove(path)
  files.must(ns, msg, errno)
  local h, why = netlink.open(ns)
  return setmetatable({ ns = ns, h = h, why = why }, {
    __close = function(self)
      if self.h then self.h:close() end
      self.ns:close()
    end,
  })
end

local function link(want)
  return function(place)
    local sent, msg, errno = place.h:send { { "add", "link", want(place) } }
    if not sent then fail.kernel("add a link of kind " .. want(place).kind, msg, errno, want(place).kind) end
  end
end

local function index_of(place, name)
  local found = place.h:get("link", { name = name }, { "index" })
  return found and found.index
end

local function commit(place, batch)
  local socket, msg, errno = netlink.nft(place.ns)
  if not socket then fail.kernel("open nf_tables", msg, errno) end
  local ok, why, number, at = socket:commit(batch)
  if ok then return end
  fail.kernel("add a rule", why, number, nil,
    batch[at] and require("cni.protocol.hints").batch(batch[at], why, number))
end

local function masquerading(place)
  commit(place, {
    { "add", "table", { family = "inet", name = "t" } },
    { "add", "chain", { family = "inet", table = "t", name = "c", type = "nat", hook = "postrouting",
      priority = 100 } },
    { "add", "rule", { family = "inet", table = "t", chain = "c", exprs = nft.rule(nft.masquerade()) } },
  })
end

local function marking(place)
  local mark = { { "ct", key = "state", dreg = 1 }, { "meta", key = "mark", sreg = 1 } }
  commit(place, {
    { "add", "table", { family = "inet", name = "t" } },
    { "add", "chain", { family = "inet", table = "t", name = "c", type = "filter", hook = "forward",
      priority = -20 } },
    { "add", "rule", { family = "inet", table = "t", chain = "c", exprs = mark } },
  })
end

local function guarding(place)
  commit(place, {
    { "add", "table", { family = "bridge", name = "t" } },
    { "add", "chain", { family = "bridge", table = "t", name = "c", type = "filter", hook = "prerouting",
      priority = -300 } },
  })
end

local function tap(place)
  local ok, msg, errno = netlink.ns.tap(place.ns, { name = "t0" })
  if ok then return end
  fail.throw { msg = "make a tap: " .. msg, errno = errno,
    hint = not sys.stat "/dev/net/tun" and "there is no /dev/net/tun" or nil }
end

local function ipv6()
  local none = require("cni.protocol.hints").no_ipv6()
  if none then fail.throw { msg = none } end
end

-- What is tried, in this order: who needs it (types; a key of theirs), the module that may bring it; what
-- EOPNOTSUPP says there, where nobody else knows that.
local features = {
  { name = "veth", types = "bridge ptp", module = "veth",
    try = link(function() return { kind = "veth", name = "v0", peer = { name = "v1" } } end) },
  { name = "bridge", types = "bridge", module = "bridge",
    try = link(function() return { kind = "bridge", name = "b0" } end) },
  { name = "VLANs on a bridge", types = "bridge", key = "vlan or vlanTrunk",
    cause = "this kernel's bridges filter no VLANs: CONFIG_BRIDGE_VLAN_FILTERING is off",
    try = link(function() return { kind = "bridge", name = "b1", vlan_filtering = true } end) },
  { name = "masquerading", types = "bridge ptp", key = "ipMasq", module = "nft_masq", try = masquerading },
  { name = "guarded ports", types = "bridge", key = "macspoofchk or ipSpoofChk", module = "nf_tables",
    try = guarding },
  { name = "marked packets", types = "firewall", module = "nft_ct", try = marking },
  { name = "neighbours kept off", types = "firewall", key = "ingressPolicy isolated", module = "nf_tables",
    try = guarding },
  { name = "macvlan", types = "macvlan", module = "macvlan", try = link(function(place)
    return { kind = "macvlan", name = "m0", link = index_of(place, "v0"), macvlan_mode = "bridge" }
  end) },
  { name = "ipvlan", types = "ipvlan", module = "ipvlan", try = link(function(place)
    return { kind = "ipvlan", name = "i0", link = index_of(place, "v1"), ipvlan_mode = "l2" }
  end) },
  { name = "vlan", types = "vlan", module = "8021q", try = link(function(place)
    return { kind = "vlan", name = "l0", link = index_of(place, "v0"), vlan_id = 5 }
  end) },
  { name = "dummy", types = "dummy", module = "dummy",
    try = link(function() return { kind = "dummy", name = "d0" } end) },
  { name = "vrf", types = "vrf", module = "vrf",
    try = link(function() return { kind = "vrf", name = "r0", vrf_table = 10 } end) },
  { name = "tap", types = "tap", module = "tun", try = tap },
  { name = "IPv6", types = "", try = ipv6 },
}

--- Try everything.
-- @treturn {table,...} `name`, `types` (space between them), `key` of theirs that needs it (nil: they do
-- without one), `module`, `problem`: in words, nil when the kernel can do it
-- @raise when no namespace can be made
function M.features()
  local place <close> = scratch()
  if not place.h then fail.throw { msg = place.why } end
  local list = {}
  for i, feature in ipairs(features) do
    local ok, err = pcall(feature.try, place)
    err = not ok and fail.wrap(err) or nil
    local cause = err and (err.errno == sys.errno.EOPNOTSUPP and feature.cause or err.hint)
    list[i] = { name = feature.name, types = feature.types, key = feature.key, module = feature.module,
      problem = err and (cause or tostring(err)) }
  end
  return list
end

--- The kernel's version, and whether it is one that can be stood on.
-- @treturn string
-- @treturn boolean
function M.version()
  local release = (sys.read_file "/proc/sys/kernel/osrelease" or "?"):gsub("%s+$", "")
  local major, minor = release:match "^(%d+)%.(%d+)"
  if not major then return release, true end
  major, minor = tonumber(major), tonumber(minor)
  return release, major > 5 or major == 5 and minor >= 14
end

return M
