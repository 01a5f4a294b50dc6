-- SPDX-License-Identifier: MIT
-- The cases of differential_spec for the interface plugins beside bridge, and for
-- vrf. The format is that of differential_cases.lua.

local t = require "support"

local pair, with = t.pair, t.merge

local M = {}

-- A family of cases of one type: base configuration and base case.
local function family(type, base, fields)
  return function(name, conf, more)
    local case = with(with({ name = type .. ", " .. name, type = type }, fields), more)
    case.conf = _G.type(conf) == "table" and with(base, conf) or conf
    M[#M + 1] = case
    return case
  end
end

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local v6 = { type = "host-local", subnet = "fd01::/64" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local routed = with(v4, { routes = { { dst = "0.0.0.0/0" },
  { dst = "10.8.0.0/16", gw = "10.1.0.77" } } })
local with_dns = { type = "static", addresses = { { address = "10.1.0.5/24" } },
  dns = { nameservers = { "9.9.9.9" } } }
local full = { type = "host-local", subnet = "10.1.0.0/24", rangeStart = "10.1.0.5",
  rangeEnd = "10.1.0.5" }
local dns = { nameservers = { "1.1.1.1" }, domain = "example.org", search = { "a" } }

local master = pair("m0", "m1")
local add, both, twice = { "ADD" }, { "ADD", "DEL" }, { "ADD", "DEL", "DEL" }
local second = { verb = "ADD", id = "c2", netns = "pb" }
local mac1, mac2, mac3 = "0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"

local function gone(...)
  return { "ADD", { remove_ns = "pa" }, { verb = "DEL", netns = "/run/netns/pa" }, ... }
end
local nowhere = { verb = "DEL", netns = "" }
local function tampered(command) return { "ADD", { sh = command, at = "pa" }, "CHECK" } end

-- --- vlan -----------------------------------------------------------------------

local vlan = family("vlan", { master = "m0", vlanId = 100, ipam = v4 },
  { needs = { "vlan" }, setup = master })

vlan("one address", {})
vlan("routes", { ipam = routed }, { steps = twice })
vlan("dual stack", { ipam = dual })
vlan("mtu", { mtu = 1400 })
vlan("mtu of the master", { mtu = 1500 }, { steps = both })
vlan("mtu above the master's", { mtu = 1501 }, { steps = both, differs = { "DEL passes" } })
vlan("negative mtu", { mtu = -1 }, { steps = both, differs = { "DEL passes" } })
vlan("the first and the last VLAN", { vlanId = 0 }, { steps = { "ADD",
  { verb = "ADD", ifname = "net1", conf = { master = "m0", vlanId = 4094, ipam = v4 } } } })
vlan("a VLAN out of range", { vlanId = 4095 }, { steps = both, differs = { "DEL passes" } })
vlan("a negative VLAN", { vlanId = -1 }, { steps = add })
vlan("no master", { master = false }, { steps = both, differs = { "DEL passes" } })
vlan("a master that is not there", { master = "nope" },
  { steps = both, differs = { "DEL passes" } })
vlan("the master goes before DEL", {}, { steps = { "ADD", { sh = "ip link del m0" }, "DEL" },
  differs = { "DEL passes", "lease given back" } })
vlan("no ipam", { ipam = false }, { steps = both, differs = { "rollback", "DEL passes" } })
vlan("dns of its own", { dns = dns }, { steps = add })
vlan("dns of IPAM", { ipam = with_dns }, { steps = add, differs = { "dns of IPAM" } })
vlan("in the sandbox", { linkInContainer = true }, { setup = "", setup_pod = master,
  differs = { "linkInContainer" } })
vlan("in the sandbox, no master there", { linkInContainer = true },
  { steps = both, differs = { "linkInContainer is heeded" } })
vlan("two containers, two VLANs", {}, { steps = { "ADD", { verb = "ADD", id = "c2",
  netns = "pb", conf = { master = "m0", vlanId = 101, ipam = v4 } }, { ping = "10.1.0.3" },
  "CHECK" } })
vlan("one VLAN twice", {}, { steps = { "ADD", second, "CHECK", "DEL" },
  differs = { "address first" } })
vlan("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add,
  differs = { "address first", "rollback" } })
vlan("the pool is empty", { ipam = full }, { steps = { "ADD",
  { verb = "ADD", id = "c2", netns = "pb", conf = { master = "m0", vlanId = 101, ipam = full } } },
  differs = { "rollback" } })
vlan("DEL with the namespace gone", {}, { steps = gone(nowhere) })
vlan("DEL of what never was", {}, { steps = { "DEL", nowhere },
  differs = { "no lock without leases" } })
vlan("CHECK, the VLAN is another", {}, { steps = tampered("m=$(ip -j link show eth0 | " ..
  "sed 's/.*\"address\":\"\\([^\"]*\\).*/\\1/'); ip link del eth0; " .. master ..
  "ip link add link m0 eth0 address $m type vlan id 7; ip addr add 10.1.0.2/24 dev eth0; " ..
  "ip link set eth0 up") })
vlan("CHECK, the MTU is another", { mtu = 1400 },
  { steps = tampered("ip link set eth0 mtu 1300"), differs = { "MTU of a later plugin" } })
vlan("CHECK, the address is gone", {}, { steps = tampered("ip addr flush dev eth0") })

-- --- macvlan --------------------------------------------------------------------

local macvlan = family("macvlan", { master = "m0", ipam = v4 },
  { needs = { "macvlan" }, setup = master })
-- Why a host is bare: a lived-in one has a default route.
local no_default = true
local default_route = master .. "ip addr add 192.0.2.1/24 dev m0; ip route add default via 192.0.2.9"

macvlan("one address", {})
macvlan("routes", { ipam = routed }, { steps = twice })
macvlan("dual stack", { ipam = dual })
macvlan("IPv6 alone", { ipam = v6 }, { steps = { "ADD", "CHECK", "DEL" } })
for _, mode in ipairs({ "bridge", "private", "vepa", "passthru" }) do
  macvlan("mode " .. mode, { mode = mode }, { steps = { "ADD", "CHECK", "DEL" } })
end
macvlan("a mode that is none", { mode = "source" }, { steps = both,
  differs = { "no lock without leases" } })
macvlan("an empty mode", { mode = "" }, { steps = both })
macvlan("layer 2", { ipam = false }, { steps = { "ADD", "DEL", "DEL" } })
macvlan("layer 2 with an empty ipam", { ipam = {} }, { steps = both })
macvlan("CHECK of layer 2", { ipam = false }, { steps = { "ADD", "CHECK" } })
macvlan("mtu", { mtu = 1400 })
macvlan("mtu above the master's", { mtu = 9000 }, { steps = both, differs = { "DEL passes" } })
macvlan("negative mtu", { mtu = -1 }, { steps = both, differs = { "DEL passes" } })
macvlan("mac", { mac = mac1 }, { steps = { "ADD", "CHECK", "DEL" } })
macvlan("mac by CNI_ARGS", { mac = mac1 }, { steps = both, args = "IgnoreUnknown=1;MAC=" .. mac2 })
macvlan("mac by runtimeConfig", { mac = mac1, runtimeConfig = { mac = mac3 },
  capabilities = { mac = true } }, { steps = both, args = "IgnoreUnknown=1;MAC=" .. mac2 })
macvlan("mac that is none", { mac = "zz" }, { steps = both,
  differs = { "no lock without leases" } })
macvlan("bcqueuelen", { bcqueuelen = 2000 }, { steps = both, differs = { "bcqueuelen" } })
macvlan("the master of the default route", { master = false }, { setup = default_route, bare = no_default })
macvlan("no master and no default route", { master = false },
  { bare = no_default, steps = both, differs = { "DEL passes" } })
macvlan("a master that is not there", { master = "nope" },
  { steps = both, differs = { "DEL passes" } })
macvlan("the master goes before DEL", {}, { steps = { "ADD", { sh = "ip link del m0" }, "DEL" },
  differs = { "DEL passes", "lease given back" } })
macvlan("in the sandbox", { linkInContainer = true }, { setup = "", setup_pod = master,
  differs = { "linkInContainer" } })
macvlan("in the sandbox, by its default route", { linkInContainer = true, master = false },
  { setup = "", setup_pod = default_route, bare = no_default, steps = both, differs = { "linkInContainer" } })
macvlan("dns of its own", { dns = dns }, { steps = add })
macvlan("dns of IPAM", { ipam = with_dns }, { steps = add, differs = { "dns of IPAM" } })
macvlan("two containers", {}, { steps = { "ADD", second, { ping = "10.1.0.3" }, "CHECK" } })
macvlan("private containers", { mode = "private" },
  { steps = { "ADD", second, { ping = "10.1.0.3" } } })
macvlan("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add,
  differs = { "address first" } })
macvlan("the pool is empty", { ipam = full }, { steps = { "ADD", second },
  differs = { "rollback" } })
macvlan("DEL with the namespace gone", {}, { steps = gone(nowhere) })
macvlan("CHECK, the mode is another", {},
  { steps = tampered("ip link set eth0 type macvlan mode vepa") })
macvlan("CHECK, the MAC is another", {}, { steps = tampered("ip link set eth0 address " .. mac1) })
macvlan("CHECK, the route is gone", { ipam = routed },
  { steps = tampered("ip route del 10.8.0.0/16") })

-- --- ipvlan ---------------------------------------------------------------------

local ipvlan = family("ipvlan", { master = "m0", ipam = v4 },
  { needs = { "ipvlan" }, setup = master })
local below = { cniVersion = "1.0.0",
  interfaces = { { name = "m0", mac = mac1, sandbox = "/run/netns/pa" } },
  ips = { { address = "10.1.0.9/24", gateway = "10.1.0.1", interface = 0 } },
  routes = { { dst = "0.0.0.0/0" } } }

ipvlan("one address", {})
ipvlan("routes", { ipam = routed }, { steps = twice })
ipvlan("dual stack", { ipam = dual }, { steps = { "ADD", "CHECK", "DEL" } })
for _, mode in ipairs({ "l2", "l3", "l3s" }) do
  ipvlan("mode " .. mode, { mode = mode }, { steps = { "ADD", "CHECK", "DEL" } })
end
ipvlan("a mode that is none", { mode = "l4" }, { steps = both,
  differs = { "no lock without leases" } })
ipvlan("mtu", { mtu = 1400 }, { steps = both })
ipvlan("the master of the default route", { master = false }, { setup = default_route, bare = no_default,
  steps = { "ADD", "DEL" } })
ipvlan("no master and no default route", { master = false },
  { bare = no_default, steps = both, differs = { "DEL passes" } })
ipvlan("CHECK with the master of the default route", { master = false },
  { setup = default_route, bare = no_default, steps = { "ADD", "CHECK" }, differs = { "CHECK passes" } })
ipvlan("a master that is not there", { master = "nope" }, { steps = both,
  differs = { "no lock without leases" } })
ipvlan("no ipam", { ipam = false }, { steps = both, differs = { "rollback" } })
ipvlan("on top of another plugin's link", { master = false, ipam = false,
  linkInContainer = true }, { setup = "", setup_pod = master, prev = below, steps = both,
  differs = { "linkInContainer" } })
ipvlan("on top of two links", { master = false, ipam = false, linkInContainer = true },
  { setup = "", setup_pod = master, steps = both, prev = with(below,
  { interfaces = { below.interfaces[1], { name = "m1", sandbox = "/run/netns/pa" } } }) })
ipvlan("in the sandbox", { linkInContainer = true }, { setup = "", setup_pod = master,
  differs = { "linkInContainer" } })
ipvlan("dns of its own", { dns = dns }, { steps = add })
ipvlan("two containers", {}, { steps = { "ADD", second, { ping = "10.1.0.3" }, "CHECK" } })
ipvlan("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add,
  differs = { "address first", "rollback" } })
ipvlan("the pool is empty", { ipam = full }, { steps = { "ADD", second },
  differs = { "rollback" } })
ipvlan("DEL with the namespace gone", {}, { steps = gone(nowhere) })
ipvlan("the master goes before DEL", {}, { steps = { "ADD", { sh = "ip link del m0" }, "DEL" } })
ipvlan("CHECK, the mode is another", {},
  { steps = tampered("ip link set eth0 type ipvlan mode l3") })

-- --- ptp ------------------------------------------------------------------------

local ptp = family("ptp", { ipam = v4 })

ptp("one address", {})
ptp("routes", { ipam = routed }, { steps = twice })
ptp("dual stack with both default routes", { ipam = with(dual,
  { routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } }) },
  { steps = { "ADD", { ping = "10.1.0.1" }, { ping = "fd01::1" }, "CHECK", "DEL", "DEL" },
  differs = { "IPv6 at once" } })
ptp("IPv6 alone", { ipam = v6 }, { steps = both })
ptp("mtu", { mtu = 1400 }, { steps = { "ADD", "CHECK", "DEL" } })
ptp("two containers", {}, { steps = { "ADD", second, { ping = "10.1.0.3" }, "DEL",
  { verb = "CHECK", id = "c2", netns = "pb" } } })
ptp("ipMasq as seen from afar", { ipMasq = true, ipam = routed }, { traffic = true,
  steps = { "ADD", { tcp = "192.0.2.2", to = "far" }, "DEL" } })
ptp("no ipMasq as seen from afar", { ipam = routed }, { traffic = true,
  steps = { "ADD", { tcp = "192.0.2.2", to = "far" } } })
ptp("no ipam", { ipam = false }, { steps = both, differs = { "DEL passes" } })
ptp("a /32 address", { ipam = { type = "static", addresses = {
  { address = "10.1.0.5/32", gateway = "10.1.0.1" } } } },
  { steps = { "ADD", { ping = "10.1.0.1" }, "DEL" }, differs = { "ptp works" } })
ptp("an address without a gateway", { ipam = { type = "static",
  addresses = { { address = "10.1.0.5/24" } } } }, { steps = add, differs = { "rollback" } })
ptp("two addresses, one gateway", { ipam = { type = "static", addresses = {
  { address = "10.1.0.5/24", gateway = "10.1.0.1" },
  { address = "10.1.0.6/24", gateway = "10.1.0.1" } } } },
  { steps = both, differs = { "ptp works" } })
ptp("dns of its own", { dns = dns }, { steps = add })
ptp("dns of IPAM", { ipam = with_dns, dns = false }, { steps = add, differs = { "rollback" } })
ptp("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add,
  differs = { "rollback" } })
ptp("the pool is empty", { ipam = full }, { steps = { "ADD", second } })
ptp("DEL with the namespace gone", {}, { steps = gone(nowhere) })
ptp("DEL with an empty CNI_NETNS", {}, { steps = { "ADD", nowhere },
  differs = { "link gone without namespace" } })
ptp("CHECK, the address is gone", {}, { steps = tampered("ip addr flush dev eth0") })
ptp("CHECK, the interface is gone", {}, { steps = tampered("ip link del eth0") })

-- --- host-device ----------------------------------------------------------------

local device = family("host-device", { device = "dev0", ipam = v4 },
  { setup = pair("dev0", "dev1") })
local marked = pair("dev0", "dev1") .. "ip link set dev0 address " .. mac1

device("by name", {}, { steps = { "ADD", "CHECK", "DEL" } })
device("by name, layer 2", { ipam = false }, { steps = { "ADD", "DEL" } })
device("by MAC", { device = false, hwaddr = mac1 }, { setup = marked, steps = both })
device("by name rather than by MAC", { hwaddr = mac2 }, { setup = marked, steps = both })
device("a MAC that nobody has", { device = false, hwaddr = mac2 }, { steps = add })
device("a MAC that is none", { device = false, hwaddr = "zz" }, { steps = add })
device("no selector", { device = false }, { steps = both, differs = { "DEL passes" } })
device("a device that is not there", { device = "nope" }, { steps = add })
device("a kernelpath that is not there", { device = false,
  kernelpath = "/sys/devices/pci0000:00/nope" }, { steps = add })
device("a kernelpath outside of /sys/devices", { device = false, kernelpath = "/etc" },
  { steps = add })
device("a PCI address that is not there", { device = false, pciBusID = "0000:7f:1f.7" },
  { steps = add })
device("a deviceID that is not there", { device = false,
  runtimeConfig = { deviceID = "0000:7f:1f.7" }, capabilities = { deviceID = true } },
  { steps = add })
device("dual stack", { ipam = dual }, { steps = { "ADD", "CHECK", "DEL" } })
device("routes", { ipam = routed }, { steps = both })
device("dns of its own", { dns = dns }, { steps = add })
device("dns of its own, layer 2", { dns = dns, ipam = false }, { steps = add,
  differs = { "dns in layer 2" } })
device("DEL twice", {}, { steps = twice, differs = { "DEL passes" } })
device("DEL of what never was", {}, { steps = { "DEL" },
  differs = { "DEL passes", "no lock without leases" } })
device("DEL with the namespace gone", {}, { steps = gone(),
  differs = { "DEL passes", "lease given back" } })
device("DEL with an empty CNI_NETNS", {}, { steps = { "ADD", nowhere },
  differs = { "device returned" } })
device("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add,
  differs = { "address first", "rollback" } })
device("the pool is empty", { ipam = full }, { setup = pair("dev0", "dev1") ..
  pair("dev2", "dev3"), steps = { "ADD", { verb = "ADD", id = "c2", netns = "pb",
  conf = { device = "dev2", ipam = full } } }, differs = { "rollback" } })
device("CHECK, the address is gone", {}, { steps = tampered("ip addr flush dev eth0") })
device("CHECK, the MAC is another", {},
  { steps = tampered("ip link set eth0 address " .. mac3) })

-- --- dummy ----------------------------------------------------------------------

local dummy = family("dummy", { ipam = v4 }, { needs = { "dummy" } })

dummy("one address", {})
dummy("routes", { ipam = routed }, { steps = both })
dummy("dual stack", { ipam = dual }, { steps = { "ADD", "CHECK", "DEL" } })
dummy("no ipam", { ipam = false }, { steps = both, differs = { "DEL passes" } })
dummy("dns of IPAM", { ipam = with_dns }, { steps = add, differs = { "dns of IPAM" } })
dummy("the name is taken", {}, { setup_pod = pair("eth0", "e1"), steps = add })
dummy("the pool is empty", { ipam = full }, { steps = { "ADD", second } })
dummy("DEL with the namespace gone", {}, { steps = gone(nowhere) })
dummy("CHECK, the interface is down", {}, { steps = tampered("ip link set eth0 down") })
dummy("CHECK, the kind is another", {}, { steps = tampered("ip link del eth0; " ..
  pair("eth0", "e1") .. "ip addr add 10.1.0.2/24 dev eth0") })

-- --- tap ------------------------------------------------------------------------

local tap = family("tap", { ipam = v4 })
local bridge = "ip link add pb0 type bridge; ip link set pb0 up"

tap("one address", {})
tap("layer 2", { ipam = false }, { steps = twice })
tap("dual stack", { ipam = dual }, { steps = { "ADD", "DEL" } })
tap("routes", { ipam = routed }, { steps = both })
tap("owner", { owner = 1000, ipam = false }, { steps = both })
tap("group", { group = 1001, ipam = false }, { steps = both })
tap("owner and group", { owner = 1000, group = 1001, ipam = false },
  { steps = both, differs = { "one kind of tap" } })
tap("owner and group of root", { owner = 0, group = 0, ipam = false },
  { steps = both, differs = { "one kind of tap" } })
tap("multiQueue", { multiQueue = true, ipam = false }, { steps = both })
tap("multiQueue, owner and group", { multiQueue = true, owner = 1, group = 2, ipam = false },
  { steps = both, differs = { "one kind of tap" } })
tap("mtu", { mtu = 1400, ipam = false }, { steps = both })
tap("negative mtu", { mtu = -5, ipam = false }, { steps = add, differs = { "rollback" } })
tap("mac", { mac = mac1, ipam = false }, { steps = both })
tap("mac by CNI_ARGS", { mac = mac1, ipam = false },
  { steps = both, args = "IgnoreUnknown=1;MAC=" .. mac2 })
tap("mac by runtimeConfig", { mac = mac1, ipam = false, runtimeConfig = { mac = mac3 },
  capabilities = { mac = true } }, { steps = both })
tap("mac that is none", { mac = "zz", ipam = false }, { steps = add, differs = { "rollback" } })
tap("mtu and mac with owner and group", { owner = 1, group = 2, mtu = 1400, mac = mac1,
  ipam = false }, { steps = both, differs = { "one kind of tap" } })
tap("a bridge", { bridge = "pb0", ipam = false }, { setup_pod = bridge, steps = both })
tap("a bridge that is not there", { bridge = "pb0", ipam = false },
  { steps = add, differs = { "rollback" } })
tap("args that are no object", { args = "x", ipam = false }, { steps = add })
tap("dns of its own", { dns = dns }, { steps = add })
tap("the name is taken", { ipam = false }, { setup_pod = pair("eth0", "e1"),
  steps = { "ADD", "DEL" }, differs = { "not hijacked" } })
tap("the pool is empty", { ipam = full }, { steps = { "ADD", second },
  differs = { "rollback" } })
tap("DEL with the namespace gone", {}, { steps = gone(nowhere) })
tap("CHECK, the address is gone", {}, { steps = tampered("ip addr flush dev eth0") })

-- --- vrf ------------------------------------------------------------------------

local chained = { cniVersion = "1.0.0",
  interfaces = { { name = "eth0", sandbox = "/run/netns/pa" } },
  ips = { { address = "10.1.0.5/24", gateway = "10.1.0.1", interface = 0 } },
  routes = { { dst = "0.0.0.0/0" } } }
local pod_link = pair("eth0", "e1") .. "ip addr add 10.1.0.5/24 dev eth0; "
local pod_routes = pod_link .. "ip route add default via 10.1.0.1; " ..
  "ip route add 10.8.0.0/16 via 10.1.0.77 metric 5; "
local pod_dual = pod_routes .. "ip -6 addr add fd01::5/64 dev eth0 nodad; " ..
  "ip -6 route add default via fd01::1; "
local vrf = family("vrf", { vrfname = "red" },
  { needs = { "vrf" }, setup_pod = pod_link, prev = chained })

vrf("the table chosen", {})
vrf("a table given", { table = 100 }, { steps = both })
vrf("routes", { table = 100 }, { setup_pod = pod_routes,
  differs = { "VRF with the routes", "VRF given back" } })
vrf("dual stack", { table = 100 }, { setup_pod = pod_dual,
  differs = { "VRF with the routes", "VRF given back" } })
vrf("a VRF that is there", { table = 100 }, { setup_pod = pod_link ..
  "ip link add red type vrf table 100; ip link set red up", steps = both,
  differs = { "VRF of another stays" } })
vrf("a VRF of another table", { table = 100 },
  { setup_pod = pod_link .. "ip link add red type vrf table 7", steps = add })
vrf("a link that is no VRF", {}, { setup_pod = pod_link .. pair("red", "r1"), steps = add })
vrf("the smallest table that no VRF has", {}, { setup_pod = pod_link ..
  "ip link add blue type vrf table 1", steps = add })
vrf("no name", { vrfname = false }, { steps = both, differs = { "DEL passes" } })
vrf("no chain", {}, { prev = false, steps = add })
vrf("no such interface", {}, { steps = { { verb = "ADD", ifname = "net1" } },
  differs = { "rollback in a chain" } })
vrf("an interface that has a master", {}, { setup_pod = pod_link ..
  "ip link add b0 type bridge; ip link set eth0 master b0", steps = add,
  differs = { "rollback in a chain" } })
vrf("two interfaces in one VRF", { table = 100 }, { setup_pod = pod_link ..
  pair("net1", "n1") .. "ip addr add 10.2.0.5/24 dev net1", steps = { "ADD",
  { verb = "ADD", ifname = "net1" }, "DEL", { verb = "DEL", ifname = "net1" } } })
vrf("DEL with the namespace gone", {}, { steps = gone(nowhere) })
vrf("DEL with the VRF gone", {}, { steps = { "ADD", { sh = "ip link del red", at = "pa" },
  "DEL" } })
vrf("DEL with the interface gone", {}, { steps = { "ADD",
  { sh = "ip link del eth0", at = "pa" }, "DEL" }, differs = { "DEL passes", "VRF removed" } })
vrf("DEL with a link that is no VRF", {}, { steps = { "ADD",
  { sh = "ip link del red; " .. pair("red", "r1"), at = "pa" }, "DEL" },
  differs = { "DEL passes" } })
vrf("CHECK, the interface is not in it", {}, { steps = tampered("ip link set eth0 nomaster"),
  differs = { "CHECK in a chain" } })
vrf("CHECK, the VRF is gone", {}, { steps = tampered("ip link del red"),
  differs = { "CHECK in a chain" } })
vrf("version 0.3.1", { cniVersion = "0.3.1" }, { steps = both,
  prev = { cniVersion = "0.3.1", interfaces = chained.interfaces,
  ips = { { version = "4", address = "10.1.0.5/24", interface = 0 } } } })

-- --- sbr ------------------------------------------------------------------------

local pod_default = pod_link .. "ip route add default via 10.1.0.1; "
local sbr = family("sbr", {}, { setup_pod = pod_default, prev = chained })
local chained_dual = with(chained, { ips = { chained.ips[1],
  { address = "fd01::5/64", gateway = "fd01::1", interface = 0 } } })

local back = { "routes given back" }

sbr("an address", {}, { differs = back })
sbr("more routes", {}, { setup_pod = pod_routes, differs = back })
sbr("dual stack", {}, { setup_pod = pod_dual, prev = chained_dual,
  differs = { "routes given back", "table of one family" } })
sbr("a table given", { table = 500 }, { steps = both, differs = { "table given" } })
sbr("the smallest table from 100 that no rule has", {}, { setup_pod = pod_default ..
  "ip rule add from 192.0.2.7 lookup 100 prio 32765", differs = back })
sbr("no gateway", {}, { setup_pod = pod_link, prev = with(chained, {
  ips = { { address = "10.1.0.5/24", interface = 0 } } }), differs = back })
sbr("an address of another interface", {}, { prev = with(chained, {
  interfaces = { { name = "other", sandbox = "/run/netns/pa" } } }), differs = { "routes of nobody stay" } })
sbr("no addresses", {}, { prev = with(chained, { ips = t.list() }), steps = add })
sbr("no chain", {}, { prev = false, steps = add })
sbr("no such interface", {}, { steps = { { verb = "ADD", ifname = "net1" } } })
sbr("a gateway out of reach", {}, { setup_pod = pod_link, prev = with(chained, {
  ips = { { address = "10.1.0.5/24", gateway = "10.77.0.1", interface = 0 } } }), steps = add,
  differs = { "rollback in a chain" } })
sbr("DEL with the namespace gone", {}, { steps = gone(), differs = { "DEL passes" } })
sbr("DEL with the interface gone", {}, { steps = { "ADD", { sh = "ip link del eth0", at = "pa" }, "DEL" },
  differs = { "DEL passes", "rule removed" } })
sbr("CHECK, the rule is gone", {}, { steps = tampered("ip rule del table 100"),
  differs = { "CHECK in a chain" } })

-- --- firewall -------------------------------------------------------------------

local firewall = family("firewall", {}, { needs = { "iptables", "nft-nat" }, setup_pod = pod_link, prev = chained })
local bridged = with(chained_dual, { interfaces = { { name = "eth0", sandbox = "/run/netns/pa" }, { name = "br0" } } })

firewall("an address", {}, { steps = twice })
firewall("dual stack", { backend = "iptables", iptablesAdminChainName = "MINE" }, { prev = chained_dual })
firewall("a policy", { backend = "iptables", ingressPolicy = "same-bridge" }, { prev = bridged })
firewall("no addresses", {}, { prev = with(chained, { ips = t.list() }), steps = both })
firewall("no chain", {}, { prev = false, steps = add })
firewall("a policy that there is not", { ingressPolicy = "closed" }, { steps = add })
firewall("a policy, and no link", { ingressPolicy = "isolated" }, { prev = with(chained, { interfaces = t.list() }),
  steps = add })
firewall("DEL with the namespace gone", {}, { steps = gone() })
firewall("CHECK, the rules are gone", {}, { steps = { "ADD", { sh = "iptables -F CNI-FORWARD; " .. t.flush }, "CHECK", "DEL" } })

-- --- bandwidth ------------------------------------------------------------------

local limited = { cniVersion = "1.0.0", interfaces = { { name = "v5" }, { name = "eth0", sandbox = "/run/netns/pa" } },
  ips = { { address = "10.1.0.5/24", interface = 1 } } }
local bandwidth = family("bandwidth", {}, { needs = { "ifb" }, prev = limited,
  setup = "ip link add v5 type veth peer name eth0 netns pa; ip link set v5 up; ip -n pa link set eth0 up" })
local limits = { ingressRate = 8000000, ingressBurst = 400000, egressRate = 16000000, egressBurst = 800000 }

bandwidth("both ways", limits)
bandwidth("towards the container", { ingressRate = 8000000, ingressBurst = 400000 })
bandwidth("from the container", { egressRate = 8000000, egressBurst = 400000 })
bandwidth("by the runtime", { runtimeConfig = { bandwidth = limits } })
bandwidth("more than 32 bits hold", { ingressRate = 100000000000, ingressBurst = 8000000000 },
  { differs = { "a tick of burst" } })
bandwidth("no limits", { ingressRate = 0, ingressBurst = 0 })
bandwidth("nothing", {}, { differs = { "CHECK of no limits" } })
bandwidth("a burst without a rate", { ingressBurst = 400000 }, { steps = add })
bandwidth("a rate that is none", { ingressRate = "fast", ingressBurst = 400000 }, { steps = add })
bandwidth("no chain", limits, { prev = false, steps = add })
bandwidth("DEL twice", limits, { steps = twice })
bandwidth("DEL with the namespace gone", limits, { steps = gone() })
bandwidth("CHECK, the limit is gone", limits, { steps = { "ADD", { sh = "tc qdisc del dev v5 root" }, "CHECK" },
  differs = { "CHECK of limits" } })
bandwidth("CHECK, the ifb is gone", limits, { steps = { "ADD", { sh = "ip link del bwp623e1c388032" }, "CHECK" } })

-- --- tuning ---------------------------------------------------------------------

local tuning = family("tuning", {}, { setup_pod = pod_link, prev = chained })
local sysctl1 = { sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } }

tuning("nothing", {})
tuning("a MAC", { mac = mac1 })
tuning("a MAC that is none", { mac = "0a:00" }, { steps = both })
tuning("an MTU", { mtu = 1400 })
tuning("an MTU that the link cannot have", { mtu = 65600 }, { steps = add })
tuning("flags", { promisc = true, allmulti = true })
tuning("allmulti off", { allmulti = false }, { setup_pod = pod_link .. "ip link set eth0 allmulticast on" })
tuning("promisc off is nothing", { promisc = false }, { setup_pod = pod_link .. "ip link set eth0 promisc on",
  steps = both })
tuning("a queue", { txQLen = 55 }, { differs = { "length of the queue" } })
tuning("a queue of none", { txQLen = 0 }, { differs = { "length of the queue" } })
tuning("all of them", { mac = mac1, mtu = 1400, promisc = true, allmulti = true })
tuning("sysctls", sysctl1, { steps = { "ADD", "CHECK" }, differs = { "CHECK of IFNAME" } })
tuning("a sysctl of several words", { sysctl = { ["net.ipv4.ip_local_port_range"] = "4000\t5000" } },
  { steps = { "ADD", "CHECK" } })
tuning("a sysctl with slashes", { sysctl = { ["net/ipv4/conf/eth0/arp_filter"] = "1" } },
  { steps = { "ADD", "CHECK" } })
tuning("a sysctl that is not below net", { sysctl = { ["kernel.hostname"] = "x" } }, { steps = add })
tuning("a sysctl that there is not", { sysctl = { ["net.ipv4.conf.IFNAME.arp_filtre"] = "1" } }, { steps = add })
tuning("a value that the kernel refuses", { sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "x" } }, { steps = add })
tuning("a value that is no text", { sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = 1 } }, { steps = add })
tuning("CNI_ARGS", {}, { steps = { { verb = "ADD", args = "MAC=" .. mac2 } } })
tuning("the capability", { mac = mac1, runtimeConfig = { mac = mac2 } }, { steps = both })
tuning("args", { mac = mac1, runtimeConfig = { mac = mac2 }, args = { cni = { mac = mac3, mtu = 1300,
  promisc = true, allmulti = true } } }, { steps = both })
tuning("args with a sysctl", with(sysctl1, { args = { cni = { sysctl = {
  ["net.ipv4.conf.IFNAME.log_martians"] = "1" } } } }), { steps = add })
local unlisted = { sh = "rm -r /etc/cni/tuning" }
tuning("an allow list", sysctl1, { steps = { "ADD", unlisted }, setup = "mkdir -p /etc/cni/tuning; " ..
  "echo '^net\\.ipv4\\.conf\\.IFNAME\\.arp_(filter|ignore)$' >/etc/cni/tuning/allowlist.conf" })
tuning("not on the allow list", sysctl1, { steps = { "ADD", unlisted }, differs = { "allow list" }, setup = "mkdir -p /etc/cni/tuning; " ..
  "echo '^net\\.ipv4\\.tcp_.*$' >/etc/cni/tuning/allowlist.conf" })
tuning("no chain", { mtu = 1400 }, { prev = false, steps = add })
tuning("no such interface", { mtu = 1400 }, { steps = { { verb = "ADD", ifname = "net1" } } })
tuning("DEL with the namespace gone", { mtu = 1400 }, { steps = gone(nowhere) })
tuning("DEL with the interface gone", { mtu = 1400 }, { steps = { "ADD", { sh = "ip link del eth0", at = "pa" },
  "DEL" } })
tuning("CHECK, another MTU", { mtu = 1400 }, { steps = tampered("ip link set eth0 mtu 1300") })
tuning("CHECK, another sysctl", sysctl1, { steps = tampered("echo 0 >/proc/sys/net/ipv4/conf/eth0/arp_filter") })
tuning("version 0.3.1", { cniVersion = "0.3.1", mtu = 1400 }, { steps = both,
  prev = { cniVersion = "0.3.1", interfaces = chained.interfaces,
  ips = { { version = "4", address = "10.1.0.5/24", interface = 0 } } } })

-- --- in a chain -------------------------------------------------------------------

-- What the plugins before have said, in a network such as nomad's: [loopback, TYPE, firewall].
local so_far = { cniVersion = "1.0.0",
  interfaces = { { name = "lo", mac = "00:00:00:00:00:00", sandbox = "/run/netns/pa" } },
  ips = { { address = "127.0.0.1/8", interface = 0 }, { address = "::1/128", interface = 0 } },
  routes = { { dst = "10.99.0.0/16", gw = "10.1.0.99" } }, dns = { nameservers = { "192.0.2.53" } } }

for _, entry in ipairs({
  { "bridge", { bridge = "br0", isGateway = true, ipam = routed } },
  { "bridge", { bridge = "br0" } },
  { "bridge", { bridge = "br0", ipam = with_dns }, { "dns of IPAM" } },
  { "ptp", { ipam = v4 } },
  { "vlan", { master = "m0", vlanId = 100, ipam = v4 } },
  { "macvlan", { master = "m0", ipam = v4 } },
  { "macvlan", { master = "m0" } },
  { "ipvlan", { master = "m0", ipam = v4 } },
  { "host-device", { device = "dev0", ipam = v4 } },
  { "host-device", { device = "dev0" } },
  { "dummy", { ipam = v4 } },
  { "tap", { ipam = v4 } },
  { "tap", { ipam = false } },
  { "loopback", {} },
  { "host-local", { ipam = routed } },
  { "static", { ipam = with_dns } },
}) do
  local type, conf = entry[1], entry[2]
  family(type, conf, { setup = master .. pair("dev0", "dev1"), steps = both, prev = so_far,
    needs = ({ vlan = { "vlan" }, ipvlan = { "ipvlan" }, dummy = { "dummy" } })[type] })(
    "in a chain, " .. t.json(conf), {}, { differs = entry[3] })
end

return M
