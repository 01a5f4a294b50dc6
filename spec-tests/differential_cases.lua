-- SPDX-License-Identifier: MIT
-- The configurations and verbs that differential_spec gives to both sides.
--
-- A case: name, type, conf (cniVersion 1.0.0 and name "net" are filled in; false
-- takes a key out; a text goes as it is), steps (default ADD, CHECK, DEL, DEL, all
-- for container c1, eth0, in the pod pa), differs (names of entries in
-- differential_intended.lua), needs, traffic (a far network behind the host), setup and
-- setup_pod (shell, in the host and in each pod, before all else), prev (the result of
-- the plugins before it in its chain, for ADD).
-- A step is a verb or a table: verb with id, ifname, netns, args, conf, prev, env;
-- sh (a command, in the host or `at` a pod); tcp or ping (an address); dial (a list of
-- { from, "TCP4", address, port }, to `servers` that listen at port 80, pa); remove_ns.

local t = require "support"

local M = {}

local function case(entry) M[#M + 1] = entry end

local with = t.merge

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local v6 = { type = "host-local", subnet = "fd01::/64" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local gw = { isGateway = true, ipam = v4 }
local add_only = { "ADD" }

local function bridge(name, conf, more)
  if type(conf) == "table" then conf = with({ bridge = "br0" }, conf) end
  case(with({ name = "bridge, " .. name, type = "bridge", conf = conf }, more))
end

-- --- bridge: shapes ----------------------------------------------------------

bridge("layer 2 only", {}, { steps = { "ADD", "DEL", "DEL" } })
bridge("default name of the bridge", { bridge = false }, { differs = { "layer 2 CHECK" } })
bridge("addresses without a gateway", { ipam = v4 })
bridge("isGateway", gw)
bridge("isGateway with IPv6", { isGateway = true, ipam = v6 })
bridge("isGateway dual stack", { isGateway = true, ipam = dual })
bridge("isDefaultGateway", { isDefaultGateway = true, ipam = v4 })
bridge("isDefaultGateway dual stack", { isDefaultGateway = true, ipam = dual })
bridge("isDefaultGateway with a default route from IPAM", { isDefaultGateway = true,
  ipam = with(v4, { routes = { { dst = "0.0.0.0/0", gw = "10.1.0.9" } } }) })
bridge("isDefaultGateway with a default route without gw", { isDefaultGateway = true,
  ipam = with(v4, { routes = { { dst = "0.0.0.0/0" } } }) },
  { differs = { "one default route" } })
bridge("routes from IPAM", { isGateway = true, ipam = with(v4, { routes = {
  { dst = "0.0.0.0/0" }, { dst = "10.7.0.0/16", gw = "10.1.0.77" },
  { dst = "10.8.0.0/16" } } }) }, { differs = { "CHECK of routes" } })
bridge("routes from IPAM, IPv6", { isGateway = true, ipam = with(v6, { routes = {
  { dst = "::/0" }, { dst = "fd07::/64", gw = "fd01::77" } } }) })
bridge("a gateway address of one's own", { isGateway = true,
  ipam = with(v4, { gateway = "10.1.0.254" }) })
bridge("mtu", { mtu = 1400, isGateway = true, ipam = v4 })
bridge("mtu zero and negative are ignored", { mtu = -5, ipam = v4 }, { steps = add_only })
bridge("hairpinMode", { hairpinMode = true, ipam = v4 })
bridge("promiscMode", { promiscMode = true, ipam = v4 })
bridge("enabledad", { enabledad = true, ipam = v6, isGateway = true })
bridge("two IPv4 range sets without gateway", { ipam = { type = "host-local", ranges = {
  { { subnet = "10.1.0.0/24" } }, { { subnet = "10.2.0.0/24" } } } } })
bridge("two IPv4 range sets with isGateway", { isGateway = true, ipam = {
  type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } },
  { { subnet = "10.2.0.0/24" } } } } }, { steps = { "ADD", "DEL" },
  differs = { "two gateways" } })
bridge("dns of its own", { ipam = v4, dns = { nameservers = { "1.1.1.1" },
  domain = "example.org", search = { "a", "b" }, options = { "ndots:2" } } })
bridge("static addresses", { isGateway = true, ipam = { type = "static",
  addresses = { { address = "10.1.0.5/24", gateway = "10.1.0.1" },
  { address = "fd01::5/64" } },
  routes = { { dst = "0.0.0.0/0" } }, dns = { nameservers = { "9.9.9.9" } } } },
  { differs = { "dns of IPAM" } })
bridge("a /32 address", { ipam = { type = "static",
  addresses = { { address = "10.1.0.5/32" } } } }, { steps = { "ADD", "DEL" } })
-- --- bridge: VLANs ---------------------------------------------------------------
-- The older reference knows no vlanTrunk and keeps the default VLAN.

local function vlan(name, conf, more)
  bridge("vlan, " .. name, conf, with({ needs = { "bridge-vlan" } }, more))
end

vlan("native", { vlan = 100, ipam = v4 }, { differs = { "default VLAN" } })
vlan("preserveDefaultVlan", { vlan = 100, preserveDefaultVlan = true, ipam = v4 })
vlan("layer 2", { vlan = 100, preserveDefaultVlan = true }, { steps = { "ADD", "DEL" } })
vlan("isDefaultGateway", { vlan = 100, preserveDefaultVlan = true, isDefaultGateway = true,
  ipam = v4 }, { steps = { "ADD", { ping = "10.1.0.1" }, "CHECK", "DEL" },
  differs = { "gateway link locked down" } })
vlan("isGateway, dual stack, mtu", { vlan = 100, preserveDefaultVlan = true, mtu = 1400,
  isGateway = true, ipam = dual }, { steps = { "ADD", "CHECK", "DEL" },
  differs = { "gateway link locked down" } })
vlan("two containers in one and in two VLANs", { vlan = 100, preserveDefaultVlan = true,
  ipam = v4 }, { steps = { "ADD", { verb = "ADD", id = "c2", netns = "pb" },
  { ping = "10.1.0.3" }, { verb = "DEL", id = "c2", netns = "pb" },
  { verb = "ADD", id = "c2", netns = "pb", conf = { bridge = "br0", vlan = 200, ipam = v4 } },
  { ping = "10.1.0.4" }, "DEL" }, differs = { "default VLAN" } })
vlan("a bridge that does not filter", { vlan = 100, preserveDefaultVlan = true, ipam = v4 },
  { steps = { { sh = "ip link add br0 type bridge" }, "ADD", "DEL" },
  differs = { "filtering switched on", "bridge restored" } })

-- --- bridge: MAC ---------------------------------------------------------------

local mac1, mac2, mac3 = "0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"

bridge("MAC by CNI_ARGS", { ipam = v4 }, { args = "IgnoreUnknown=1;MAC=" .. mac1 })
bridge("MAC by CNI_ARGS that are not said to be for others too", { ipam = v4 },
  { args = "MAC=" .. mac1, differs = { "arguments of both" } })
bridge("MAC by args.cni", { ipam = v4, args = { cni = { mac = mac2 } } })
bridge("MAC by runtimeConfig", { ipam = v4, runtimeConfig = { mac = mac3 },
  capabilities = { mac = true } })
bridge("MAC, all three at once", { ipam = v4, runtimeConfig = { mac = mac3 },
  args = { cni = { mac = mac2 } } }, { args = "IgnoreUnknown=1;MAC=" .. mac1 })
bridge("MAC, two of three", { ipam = v4, args = { cni = { mac = mac2 } } },
  { args = "IgnoreUnknown=1;MAC=" .. mac1 })
bridge("MAC that is none", { runtimeConfig = { mac = "zz" } }, { steps = { "ADD", "DEL" },
  differs = { "rollback" } })

-- --- bridge: what was there before ---------------------------------------------

bridge("an existing bridge keeps its MTU", { mtu = 1300, ipam = v4 }, { steps = {
  { sh = "ip link add br0 mtu 1400 type bridge" }, "ADD", "DEL" },
  differs = { "bridge restored" } })
bridge("a link that is no bridge has the name", { ipam = v4 }, { steps = {
  { sh = "ip link add br0 type veth peer name other" }, "ADD", "DEL" },
  differs = { "address first" } })
bridge("another address on the bridge", gw, { steps = {
  { sh = "ip link add br0 type bridge; ip addr add 10.99.0.1/24 dev br0" }, "ADD", "DEL" },
  differs = { "addresses side by side" } })
bridge("another address on the bridge, forceAddress", with(gw, { forceAddress = true }),
  { steps = { { sh = "ip link add br0 type bridge; ip addr add 10.99.0.1/24 dev br0" },
  "ADD", "DEL" }, differs = { "bridge restored", "gateway address removed",
  "address put back" } })
bridge("the gateway's address is there already", gw, { steps = {
  { sh = "ip link add br0 type bridge; ip addr add 10.1.0.1/24 dev br0" }, "ADD", "DEL" },
  differs = { "bridge restored" } })
bridge("the interface name is taken in the pod", gw, { steps = {
  { sh = "ip link add eth0 type veth peer name other", at = "pa" }, "ADD" },
  differs = { "address first", "rollback" } })
bridge("two containers", gw, { steps = { "ADD", { verb = "ADD", id = "c2", netns = "pb" },
  { ping = "10.1.0.3" }, { ping = "10.1.0.1" }, "CHECK", "DEL",
  { verb = "CHECK", id = "c2", netns = "pb" }, { ping = "10.1.0.1", from = "pb" },
  { verb = "DEL", id = "c2", netns = "pb" } } })
bridge("two interfaces of one container", gw, { steps = { "ADD",
  { verb = "ADD", ifname = "net1" }, { verb = "CHECK", ifname = "net1" }, "DEL",
  { verb = "CHECK", ifname = "net1" }, { verb = "DEL", ifname = "net1" } } })
bridge("ADD twice", gw, { steps = { "ADD", "ADD", "CHECK", "DEL" } })
bridge("ADD, DEL, ADD again", gw, { steps = { "ADD", "DEL", "ADD", "CHECK", "DEL" } })
bridge("DEL of what never was", gw, { steps = { "DEL", { verb = "DEL", netns = false } },
  differs = { "no lock without leases" } })

-- --- bridge: masquerade ----------------------------------------------------------

bridge("ipMasq as seen from afar", { isDefaultGateway = true, ipMasq = true, ipam = v4 },
  { traffic = true, steps = { "ADD", { tcp = "192.0.2.2", to = "far" }, "CHECK", "DEL" } })
bridge("no ipMasq as seen from afar", { isDefaultGateway = true, ipam = v4 },
  { traffic = true, steps = { "ADD", { tcp = "192.0.2.2", to = "far" } } })
bridge("ipMasq dual stack as seen from afar and near", { isDefaultGateway = true,
  ipMasq = true, ipam = dual }, { traffic = true, steps = { "ADD",
  { verb = "ADD", id = "c2", netns = "pb" },
  { tcp = "192.0.2.2", to = "far" }, { tcp = "2001:db8::2", to = "far" },
  { tcp = "10.1.0.3", to = "pb" }, { tcp = "fd01::3", to = "pb" }, "DEL",
  { tcp = "192.0.2.2", to = "far", from = "pb" } } })

-- --- bridge: DEL in hard times ---------------------------------------------------

bridge("DEL with an empty CNI_NETNS", gw, { steps = { "ADD", { verb = "DEL", netns = "" } },
  differs = { "link gone without namespace" } })
bridge("DEL with the namespace gone", gw, { steps = { "ADD", { remove_ns = "pa" },
  { verb = "DEL", netns = "/run/netns/pa" }, { verb = "DEL", netns = "/run/netns/pa" } } })
bridge("DEL with the interface gone", gw, { steps = { "ADD",
  { sh = "ip link del eth0", at = "pa" }, "DEL" } })
bridge("DEL without prevResult", gw, { steps = { "ADD", { verb = "DEL", prev = false } } })
bridge("DEL of another network and container", gw, { steps = { "ADD",
  { verb = "DEL", conf = { name = "other", bridge = "br0", isGateway = true, ipam = v4 },
  id = "c9", netns = "pb" }, "CHECK" }, differs = { "no lock without leases" } })

-- --- bridge: CHECK after tampering -----------------------------------------------

local function tampered(what, where, command)
  bridge("CHECK after " .. what, { isDefaultGateway = true, ipam = v4 },
    { steps = { "ADD", { sh = command, at = where }, "CHECK" } })
end

tampered("the address was removed", "pa", "ip addr flush dev eth0")
tampered("the default route was removed", "pa", "ip route del default")
tampered("the interface was removed", "pa", "ip link del eth0")
tampered("the bridge was removed", nil, "ip link del br0")
tampered("the MAC was changed", "pa", "ip link set eth0 address 0a:00:00:00:00:77")
tampered("the lease was removed", nil, "rm /var/lib/cni/networks/net/10.1.0.2")
tampered("an address was added", "pa", "ip addr add 10.9.0.1/24 dev eth0")
tampered("a route was added", "pa", "ip route add 10.50.0.0/16 via 10.1.0.1")

-- --- bridge: errors -------------------------------------------------------------

bridge("hairpin with promisc", { hairpinMode = true, promiscMode = true },
  { steps = { "ADD", "DEL" } })
bridge("vlan out of range", { vlan = 5000 }, { steps = { "ADD", "DEL" },
  differs = { "DEL passes" } })
bridge("an empty bridge name", { bridge = "" }, { steps = { "ADD" } })
bridge("a namespace that does not exist", gw, { steps = {
  { verb = "ADD", netns = "/run/netns/nowhere" } }, differs = { "code 8", "rollback" } })
bridge("a namespace path that is none", gw, { steps = {
  { verb = "ADD", netns = "/etc/hosts" } }, differs = { "code 8", "rollback" } })
bridge("an IPAM type that does not exist", { ipam = { type = "no-such-ipam" } },
  { steps = { "ADD", "DEL" }, differs = { "rollback", "DEL passes" } })
bridge("the pool is empty", { ipam = with(v4, { rangeStart = "10.1.0.5",
  rangeEnd = "10.1.0.5" }) }, { steps = { "ADD", { verb = "ADD", id = "c2", netns = "pb" } },
  differs = { "rollback" } })
bridge("an unreachable gateway of a route", { ipam = with(v4, { routes = {
  { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) }, { steps = { "ADD", "DEL" },
  differs = { "rollback" } })
bridge("mtu of the wrong type", { mtu = "big" }, { steps = { "ADD" } })
bridge("unknown CNI_ARGS", gw, { args = "FOO=bar", steps = { "ADD" } })
bridge("unknown CNI_ARGS with IgnoreUnknown", gw, { args = "IgnoreUnknown=1;FOO=bar" })
bridge("unknown CNI_ARGS with IgnoreUnknown in another place", gw,
  { args = "FOO=bar;K8S_POD_NAME=x;IgnoreUnknown=true" })
bridge("malformed CNI_ARGS", gw, { args = "IgnoreUnknown=1;FOO", steps = { "ADD" } })
bridge("IP by CNI_ARGS", gw, { args = "IgnoreUnknown=1;IP=10.1.0.77" })
-- In a host with an eth0 the reference would fail for that name alone.
bridge("its own namespace as the pod", gw, { bare = true, steps = {
  { verb = "ADD", netns = "/run/netns/host" } }, differs = { "own namespace" } })
bridge("layer 2 under 0.2.0", { cniVersion = "0.2.0" }, { steps = { "ADD", "DEL" },
  differs = { "rollback" } })
bridge("keys in other letter case", '{"cniVersion":"1.0.0","name":"net","type":"bridge",' ..
  '"Bridge":"br0","ISGATEWAY":true,"IPAM":{"Type":"host-local","SUBNET":"10.1.0.0/24"}}',
  { steps = { "ADD", { verb = "DEL" } } })
bridge("unknown keys", { isGateway = true, ipam = with(v4, { foo = 1 }), bar = { 1, 2 } })

-- --- versions -------------------------------------------------------------------

for _, version in ipairs({ "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0" }) do
  bridge("result in version " .. version, { cniVersion = version, isDefaultGateway = true,
    ipam = dual, dns = { nameservers = { "1.1.1.1" } } }, { steps = { "ADD", "DEL" } })
  bridge("result without dns in version " .. version, { cniVersion = version, ipam = v4 },
    { steps = { "ADD", "DEL" } })
end
bridge("no cniVersion", { cniVersion = false, ipam = v4 }, { steps = { "ADD", "DEL" } })
bridge("a version from the future", { cniVersion = "9.9", ipam = v4 }, { steps = { "ADD" } })
bridge("CHECK under 0.3.1", { cniVersion = "0.3.1", ipam = v4 })
bridge("prevResult of another version family", gw, { steps = { "ADD",
  { verb = "CHECK", prev = { cniVersion = "0.4.0", interfaces = t.list() } } },
  differs = { "code 1" } })

-- --- the entry ------------------------------------------------------------------

bridge("no name", { name = false }, { steps = { "ADD" } })
bridge("a name that is none", { name = "a b" }, { steps = { "ADD" } })
bridge("nothing on stdin", "", { steps = { "ADD", "DEL" } })
bridge("no JSON on stdin", "{", { steps = { "ADD" } })
bridge("a number for a name", '{"cniVersion":"1.0.0","name":5,"type":"bridge"}',
  { steps = { "ADD" } })
bridge("no container ID", gw, { steps = { { verb = "ADD", id = "" } } })
bridge("a bad container ID", gw, { steps = { { verb = "ADD", id = "c/1" } } })
bridge("a long interface name", gw, { steps = { { verb = "ADD", ifname = "sixteen-bytes-01" } } })
bridge("a bad interface name", gw, { steps = { { verb = "ADD", ifname = "a:b" } } })
bridge("no CNI_NETNS for ADD", gw, { steps = { { verb = "ADD", netns = false } } })
bridge("an unknown command", gw, { steps = { { verb = "FOO" } } })

-- --- loopback ---------------------------------------------------------------------

local function loopback(name, conf, more)
  case(with({ name = "loopback, " .. name, type = "loopback", conf = conf }, more))
end

loopback("ADD, CHECK, DEL", {})
loopback("with the name lo", {}, { steps = { { verb = "ADD", ifname = "lo" },
  { verb = "CHECK", ifname = "lo" }, { verb = "DEL", ifname = "lo" } } })
loopback("CHECK when lo is down", {}, { steps = { "ADD",
  { sh = "ip link set lo down", at = "pa" }, "CHECK" } })
loopback("passes prevResult on", { prevResult = { cniVersion = "1.0.0",
  interfaces = { { name = "eth0", mac = "0a:00:00:00:00:05", sandbox = "/run/netns/pa" } },
  ips = { { address = "10.1.2.3/24", interface = 0 } }, dns = { domain = "x" } } },
  { steps = { "ADD" } })
loopback("an address of the outside on lo", {}, { steps = {
  { sh = "ip addr add 10.5.5.5/32 dev lo", at = "pa" }, "ADD" },
  differs = { "loopback goes down again" } })
loopback("version 0.4.0", { cniVersion = "0.4.0" }, { steps = { "ADD", "DEL" },
  differs = { "loopback's own shape" } })
loopback("no version", { cniVersion = false }, { steps = { "ADD", "DEL" } })
loopback("the namespace is gone", {}, { steps = { "ADD", { remove_ns = "pa" },
  { verb = "DEL", netns = "/run/netns/pa" }, { verb = "DEL", netns = "" } } })

return M
