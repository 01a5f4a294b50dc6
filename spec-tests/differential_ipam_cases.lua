-- SPDX-License-Identifier: MIT
-- The IPAM half of the cases of differential_spec: host-local and static, called
-- on their own. The format is that of differential_cases.lua.

local t = require "support"

local M = {}

local with = t.merge

local function add(id, more) return with({ verb = "ADD", id = id }, more) end
local function del(id, more) return with({ verb = "DEL", id = id }, more) end

-- --- host-local ---------------------------------------------------------------

local function host_local(name, ipam, more)
  local conf = more and more.top or {}
  conf.ipam = type(ipam) == "table" and with({ type = "host-local" }, ipam) or nil
  M[#M + 1] = with({ name = "host-local, " .. name, type = "host-local",
    conf = type(ipam) == "string" and ipam or conf }, more)
end

local net = { subnet = "10.1.0.0/24" }
local small = { subnet = "10.1.0.0/29" }

host_local("one subnet", net, { steps = { "ADD", "CHECK", "DEL", "DEL", "CHECK" } })
host_local("goes on after the last address", small, { steps = { add("c1"), add("c2"),
  add("c3"), del("c2"), add("c4"), add("c5"), add("c6"), del("c4"), add("c7") } })
host_local("the pool is empty", { ranges = { { { subnet = "10.1.0.0/24",
  rangeStart = "10.1.0.10", rangeEnd = "10.1.0.11" } } } },
  { steps = { add("c1"), add("c2"), add("c3"), del("c1"), add("c3") } })
host_local("two sets, dual stack", { ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "fd01::/64" } } } })
host_local("the second set is empty", { ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "10.2.0.0/24", rangeStart = "10.2.0.9", rangeEnd = "10.2.0.9" } } } },
  { steps = { add("c1"), add("c2"), add("c3") }, differs = { "sets together" } })
host_local("a set of two ranges", { ranges = { {
  { subnet = "10.1.0.0/24", rangeStart = "10.1.0.5", rangeEnd = "10.1.0.6" },
  { subnet = "10.2.0.0/24", rangeStart = "10.2.0.8", rangeEnd = "10.2.0.9",
    gateway = "10.2.0.200" } } } },
  { steps = { add("c1"), add("c2"), add("c3"), add("c4"), add("c5"), del("c3"), add("c6") } })
host_local("subnet beside ranges", with(net, { ranges = { { { subnet = "10.3.0.0/24" } } } }))
host_local("a gateway inside the range is stepped over", { subnet = "10.1.0.0/29",
  gateway = "10.1.0.3" }, { steps = { add("c1"), add("c2"), add("c3") } })
host_local("a gateway outside of the subnet", { subnet = "10.1.0.0/29",
  gateway = "192.168.0.1" }, { steps = { add("c1") } })
host_local("routes are passed on", with(net, { routes = { { dst = "0.0.0.0/0" },
  { dst = "10.5.0.0/16", gw = "10.1.0.9" } } }), { steps = { "ADD" } })
host_local("a directory of one's own", with(net, { dataDir = "/var/lib/cni/other" }))
host_local("resolvConf", with(net, { resolvConf = "/run/spec/resolv.conf" }), { steps = {
  { sh = "printf 'nameserver 1.2.3.4\\n# no\\n; no\\n\\ndomain a.b\\nsearch x y\\n" ..
    "search z\\noptions ndots:3 rotate\\nnameserver fd00::1\\nsortlist\\n' " ..
    ">/run/spec/resolv.conf" }, "ADD" } })
host_local("resolvConf that is not there", with(net, { resolvConf = "/nowhere" }),
  { steps = { "ADD" } })
host_local("IP by CNI_ARGS", net, { args = "IP=10.1.0.50" })
host_local("IP with a length by CNI_ARGS", net, { args = "IP=10.1.0.50/16" })
host_local("IP outside of the subnet", net, { args = "IP=10.9.0.50", steps = { "ADD" },
  differs = { "nothing for a refused request" } })
host_local("IP that is none", net, { args = "IP=ten", steps = { "ADD" } })
host_local("the gateway as IP", net, { args = "IP=10.1.0.1", steps = { "ADD" } })
host_local("an IP that is taken", net, { steps = { add("c1", { args = "IP=10.1.0.50" }),
  add("c2", { args = "IP=10.1.0.50" }), del("c1"), add("c2", { args = "IP=10.1.0.50" }) } })
host_local("ips by runtimeConfig", { ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "fd01::/64" } } } }, { top = { runtimeConfig = { ips = { "10.1.0.60",
  "fd01::60/64" } } } })
host_local("ips by args.cni", net, { top = { args = { cni = { ips = { "10.1.0.61" } } } } })
host_local("ipRanges by runtimeConfig come first", net, { top = { runtimeConfig = {
  ipRanges = { { { subnet = "10.4.0.0/24" } } } } } })
host_local("the same container twice", net, { steps = { "ADD", "ADD", "DEL", "ADD" } })
host_local("two interfaces of a container", net, { steps = { "ADD",
  add("c1", { ifname = "eth1" }), "DEL", { verb = "CHECK", ifname = "eth1" },
  del("c1", { ifname = "eth1" }) } })
host_local("DEL of somebody else's", net, { steps = { "ADD", del("c2"), "CHECK" } })
host_local("a file with nothing but an ID is taken and freed", net, { steps = {
  { sh = "mkdir -p /var/lib/cni/networks/net; " ..
    "printf old >/var/lib/cni/networks/net/10.1.0.2" },
  add("c1"), { verb = "CHECK", id = "old" }, add("old"), del("old") } })
host_local("CHECK without a lease", net, { steps = { "CHECK" },
  differs = { "no lock without leases" } })
host_local("ADD without a namespace", net, { steps = { add("c1", { netns = false }) } })
host_local("DEL without a namespace", net, { steps = { "ADD", del("c1", { netns = false }) } })
host_local("versions before 0.3.0", net, { top = { cniVersion = "0.2.0" },
  steps = { "ADD", "DEL" } })
host_local("two sets of a family under 0.2.0", { ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "10.2.0.0/24" } } } }, { top = { cniVersion = "0.2.0" }, steps = { "ADD" } })

local function refused(what, ipam)
  host_local("refuses " .. what, ipam, { steps = { "ADD" } })
end

refused("a configuration without ipam", false)
refused("no range at all", {})
refused("a subnet with host bits", { subnet = "10.1.0.5/24" })
refused("a subnet that is none", { subnet = "10.1.0.0" })
refused("a subnet too small", { subnet = "10.1.0.0/31" })
refused("an end before the start", with(net, { rangeStart = "10.1.0.9",
  rangeEnd = "10.1.0.5" }))
refused("a start outside", with(net, { rangeStart = "10.2.0.9" }))
refused("an end outside", with(net, { rangeEnd = "10.2.0.9" }))
refused("an address that is none", with(net, { rangeStart = "10.1.0.300" }))
refused("an empty set", { ranges = { t.list() } })
refused("families mixed in a set", { ranges = { { { subnet = "10.1.0.0/24" },
  { subnet = "fd01::/64" } } } })
refused("overlap inside a set", { ranges = { { { subnet = "10.1.0.0/24" },
  { subnet = "10.1.0.0/25" } } } })
refused("overlap between sets", { ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "10.1.0.0/16" } } } })
refused("a list where an object belongs", '{"cniVersion":"1.0.0","name":"net","ipam":[]}')

-- --- static ---------------------------------------------------------------------

local function static(name, ipam, more)
  local conf = more and more.top or {}
  conf.ipam = with({ type = "static" }, ipam)
  M[#M + 1] = with({ name = "static, " .. name, type = "static", conf = conf }, more)
end

local one = { addresses = { { address = "10.1.0.5/24", gateway = "10.1.0.1" } } }

static("one address", one)
static("all there is", { addresses = { { address = "10.1.0.5/24", gateway = "10.1.0.1" },
  { address = "fd01::5/64", gateway = "fd01::1" } },
  routes = { { dst = "0.0.0.0/0" }, { dst = "fd07::/64", gw = "fd01::9" } },
  dns = { nameservers = { "9.9.9.9" }, domain = "d", search = { "s" }, options = { "o" } } })
static("IP by CNI_ARGS is added", one, { args = "IP=10.2.0.7/24;GATEWAY=10.2.0.1" })
static("several by CNI_ARGS", {}, { args = "IP=10.2.0.7/24,fd02::7/64;GATEWAY=10.2.0.1,fd02::1" })
static("IP without a length", {}, { args = "IP=10.2.0.7", steps = { "ADD" } })
static("GATEWAY that is none", {}, { args = "IP=10.2.0.7/24;GATEWAY=x", steps = { "ADD" } })
static("ips by args.cni replace", one, { top = { args = { cni = { ips = { "10.3.0.7/24" } } } } })
static("ips by runtimeConfig replace", one, { top = { args = { cni = { ips = {
  "10.3.0.7/24" } } }, runtimeConfig = { ips = { "10.4.0.7/24", "fd04::7/64" } } } })
static("an address without a length", { addresses = { { address = "10.1.0.5" } } },
  { steps = { "ADD" } })
static("no address at all", {}, { steps = { "ADD" } })
static("no address at all under 0.2.0", {}, { top = { cniVersion = "0.2.0" },
  steps = { "ADD" } })
static("version 0.4.0", one, { top = { cniVersion = "0.4.0" } })

return M
