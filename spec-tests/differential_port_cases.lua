-- SPDX-License-Identifier: MIT
-- The cases of differential_spec for portmap. The format is that of differential_cases.lua. The pods are at a
-- bridge of the host, with a result as a plugin before portmap would have given it.

local t = require "support"

local M = {}

local host4, host6, other4 = "192.0.2.1", "2001:db8::1", "192.0.2.11"

-- A bare host: the rules of one that is lived in would have to know the bridge.
local setup = [[
  echo 1 >/proc/sys/net/ipv4/ip_forward
  echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
  ip addr add 192.0.2.11/32 dev lo
  ip link add br0 address 0a:00:00:00:00:b0 type bridge
  ip link set br0 addrgenmode none
  ip addr add 10.1.0.1/24 dev br0
  ip -6 addr add fd01::1/64 dev br0 nodad
  ip link set br0 up
  n=5
  for p in pa pb; do
    [ -e /run/netns/$p ] || continue
    ip link add v$n type veth peer name eth0 netns $p
    ip link set v$n addrgenmode none master br0 up
    bridge link set dev v$n hairpin on
    ip -n $p link set lo up
    ip -n $p link set eth0 addrgenmode none up
    ip -n $p addr add 10.1.0.$n/24 dev eth0
    ip -n $p -6 addr add fd01::$n/64 dev eth0 nodad
    ip -n $p route add default via 10.1.0.1
    ip -n $p -6 route add default via fd01::1
    n=6
  done
]]

local function result(pod, n, families)
  local ips = {}
  if families:find("4") then ips[#ips + 1] = { address = ("10.1.0.%d/24"):format(n), interface = 0 } end
  if families:find("6") then ips[#ips + 1] = { address = ("fd01::%d/64"):format(n), interface = 0 } end
  return { cniVersion = "1.0.0", interfaces = { { name = "eth0", sandbox = "/run/netns/" .. pod } }, ips = ips }
end

local function conf(mappings, more)
  return t.merge({ runtimeConfig = { portMappings = mappings } }, more or {})
end

local function portmap(name, conf_of, more)
  local case = { name = "portmap, " .. name, type = "portmap", bare = true, traffic = true, setup = setup,
    needs = { "nft-nat", "iptables" }, prev = result("pa", 5, "46"), conf = conf_of }
  M[#M + 1] = t.merge(case, more or {})
end

local function one(more)
  return t.merge({ hostPort = 8080, containerPort = 80, protocol = "tcp" }, more or {})
end

local function dials(list, ...) return { dial = list, servers = { ... } } end

local both = { "ADD", "DEL" }
local from_all4 = dials({ { "far", "TCP4", host4, 8080 }, { "host", "TCP4", host4, 8080 },
  { "host", "TCP4", "127.0.0.1", 8080 }, { "pa", "TCP4", host4, 8080 }, { "pb", "TCP4", host4, 8080 },
  { "far", "TCP4", host4, 80 }, { "pb", "TCP4", "10.1.0.1", 8080 } }, "pa")
local from_all6 = dials({ { "far", "TCP6", host6, 8080 }, { "host", "TCP6", host6, 8080 },
  { "pa", "TCP6", host6, 8080 }, { "pb", "TCP6", host6, 8080 } }, "pa")
local by_address = dials({ { "host", "TCP4", other4, 8080 }, { "host", "TCP4", host4, 8080 },
  { "far", "TCP4", host4, 8080 }, { "far", "TCP6", host6, 8080 }, { "host", "TCP6", host6, 8080 } }, "pa")

portmap("IPv4", conf { one() }, { prev = result("pa", 5, "4"), differs = { "CHECK of ports", "neighbour seen" },
  steps = { "ADD", from_all4, "CHECK", "DEL", from_all4, "DEL" } })
portmap("IPv6", conf { one() }, { prev = result("pa", 5, "6"), differs = { "CHECK of ports", "neighbour seen" },
  steps = { "ADD", from_all6, "CHECK", "DEL", from_all6 } })
portmap("dual stack", conf { one() }, { steps = { "ADD", by_address, "CHECK", "DEL", by_address }, differs = { "CHECK of ports" } })
portmap("udp", conf { one { protocol = "udp" } }, { steps = { "ADD", dials({ { "far", "UDP4", host4, 8080 },
  { "far", "UDP6", host6, 8080 }, { "host", "UDP4", "127.0.0.1", 8080 }, { "far", "TCP4", host4, 8080 } }, "pa"),
  "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("sctp", conf { one { protocol = "sctp" } }, { differs = { "CHECK of ports" } })
portmap("hostIP", conf { one { hostIP = other4 } }, { steps = { "ADD", by_address, "CHECK", "DEL", by_address }, differs = { "CHECK of ports" } })
portmap("hostIP of IPv6", conf { one { hostIP = host6 } }, { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("hostIP of no family that the container has", conf { one { hostIP = host6 } },
  { prev = result("pa", 5, "4"), steps = { "ADD", by_address, "DEL" } })
portmap("hostIP 0.0.0.0", conf { one { hostIP = "0.0.0.0" } }, { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("hostIP ::", conf { one { hostIP = "::" } }, { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("an empty hostIP", conf { one { hostIP = "" } }, { steps = { "ADD", by_address, "DEL" } })
portmap("no snat", conf({ one() }, { snat = false }), { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("masqAll", conf({ one() }, { masqAll = true }), { steps = { "ADD", by_address, "DEL" }, differs = { "all are hidden" } })
portmap("a bit to mark with", conf({ one() }, { markMasqBit = 20 }), { prev = result("pa", 5, "4"),
  differs = { "CHECK of ports", "neighbour seen" }, steps = { "ADD", from_all4, "CHECK", "DEL" } })
portmap("a bit that there is not", conf({ one() }, { markMasqBit = 32 }), { steps = { "ADD" } })
portmap("a chain that marks", conf({ one() }, { externalSetMarkChain = "MARK-IT" }), { setup = setup ..
  "for i in iptables ip6tables; do $i -t nat -N MARK-IT; done", steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("two ways to mark", conf({ one() }, { markMasqBit = 3, externalSetMarkChain = "MARK-IT" }),
  { steps = { "ADD" } })
portmap("conditions", conf({ one() }, { conditionsV4 = { "-d", other4 }, conditionsV6 = { "!", "-s", "2001:db8::2" } }),
  { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("several ports", conf { one(), one { hostPort = 8081, protocol = "udp" }, one { hostPort = 8082, hostIP = other4 } },
  { steps = { "ADD", dials({ { "far", "TCP4", host4, 8080 }, { "far", "UDP4", host4, 8081 },
  { "host", "TCP4", other4, 8082 }, { "host", "TCP4", host4, 8082 } }, "pa"), "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("one port twice", conf { one(), one { containerPort = 81 } }, { steps = { "ADD" }, differs = { "one port twice" } })
portmap("no ports", conf(t.list()), { differs = {} })
portmap("nothing from the runtime", {}, {})
portmap("a backend", conf({ one() }, { backend = "iptables" }), { steps = { "ADD", by_address, "CHECK", "DEL" }, differs = { "CHECK of ports" } })
portmap("a backend that there is not", conf({ one() }, { backend = "pf" }), { steps = { "ADD" },
  differs = { "backend" } })
portmap("port 0", conf { one { hostPort = 0 } }, { steps = both, differs = { "DEL passes" } })
portmap("port 65536", conf { one { hostPort = 65536 } }, { steps = { "ADD" } })
portmap("a protocol that there is not", conf { one { protocol = "icmpx" } }, { steps = { "ADD" } })
portmap("no chain", conf { one() }, { prev = false, steps = { "ADD" } })
portmap("a DEL that names no ports", conf { one() }, { steps = { "ADD", { verb = "DEL", conf = {} }, by_address },
  differs = { "DEL without ports" } })
portmap("DEL with the namespace gone", conf { one() }, { steps = { "ADD", { remove_ns = "pa" },
  { verb = "DEL", netns = "/run/netns/pa" }, { verb = "DEL", netns = "" } } })
portmap("two containers with a port each, by one address each", conf { one { hostIP = other4 } }, { steps = { "ADD",
  { verb = "ADD", id = "c2", netns = "pb", prev = result("pb", 6, "46"), conf = conf { one { hostIP = host4 } } },
  dials({ { "host", "TCP4", other4, 8080 }, { "far", "TCP4", host4, 8080 } }, "pa", "pb"), "DEL",
  dials({ { "host", "TCP4", other4, 8080 }, { "far", "TCP4", host4, 8080 } }, "pa", "pb") } })
portmap("two containers with one port", conf { one() }, { steps = { "ADD",
  { verb = "ADD", id = "c2", netns = "pb", prev = result("pb", 6, "46") } }, differs = { "port of another" } })
for what, command in pairs { ["the rules are gone"] =
  "iptables -t nat -F; ip6tables -t nat -F; nft delete table inet luacni 2>/dev/null; true" } do
  portmap("CHECK, " .. what, conf { one() }, { steps = { "ADD", { sh = command }, "CHECK" } })
end

return M
