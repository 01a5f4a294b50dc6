-- SPDX-License-Identifier: MIT
-- What an author of a site's script gets wrong is told where it was written: the script's file and line, the
-- verb, the argument, what is wrong, and the nearest that is right. Before anything changes: there is
-- neither link nor record of it. Beside each kind of mistake stands its right twin.

local lfs = require "lfs"
local plugins = require "plugins"
local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/odd.lua"

-- Steps stand in line 6, behind what has to be taken back when they fail.
local frame = [[
local addr, ipam, masq, schema = require "cni.addr", require "cni.ipam", require "cni.masq", require "cni.schema"
return { conf = schema.record { ipam = schema.any and nil }, add = function(req)
  local host, pod = req.host, req.pod
  local dummy = host:add_link { kind = "bridge", name = "first0" }
  local port, eth = host:add_veth { name = "port0", peer = { ns = pod, name = req.ifname } }
  STEP
  return { interfaces = { eth } }
end }
]]
frame = frame:gsub("conf = schema.record { ipam = schema.any and nil }, ", "")

local function script_of(step) return (frame:gsub("STEP", function() return step end)) end

-- A lease of one range set, unless other sets are given.
local function lease(spec, sets)
  return ("req:lease { %s, sets = %s }"):format(spec, sets
    or "require('cni.ranges').read { { where = 'x', sets = { { { subnet = '10.0.0.0/24' } } } } }")
end

-- Of verbs, a group a kind of mistake: steps, and what is said of each; and steps that are right.
local verbs = {
  {
    { "host:add_veth { mut = 1400, peer = { ns = pod, name = 'e1' } }",
      "add_veth: unknown key 'mut' (did you mean 'mtu'?)" },
    { "host:add_veth { mtu = '1400', peer = { ns = pod, name = 'e1' } }",
      "add_veth: mtu: expected an integer, got a string" },
    { "host:add_veth { mtu = -1, peer = { ns = pod, name = 'e1' } }", "add_veth: mtu: -1 is not in 0..2147483647" },
    { "host:add_veth { mac = '02:00', peer = { ns = pod, name = 'e1' } }",
      "add_veth: mac: '02:00' is not a hardware address" },
    { "host:add_veth { peer = { name = 'e1' } }", "add_veth: peer.ns: is missing" },
    { "host:add_veth { peer = { ns = 'pod', name = 'e1' } }",
      'add_veth: peer.ns: expected a handle, req.host or req.pod, got "pod"' },
    { "host:add_veth { peer = { ns = pod, naem = 'e1' } }",
      "add_veth: peer: unknown key 'naem' (did you mean 'name'?)" },
    { "host:add_veth { peer = 'e1' }", 'add_veth: peer: expected a table, got "e1"' },
    { "host:add_veth { mtu = 1400 }", "add_veth: peer: is missing" },
    { "host:add_veth()", "add_veth: expected a table, got nil" },
    { "host.add_veth { peer = { ns = pod, name = 'e1' } }", "add_veth: expected a handle before it, got a table" },
    { "host:add_veth { master = eth, peer = { ns = pod, name = 'e1' } }",
      "add_veth: master: eth0 is a link of the sandbox, and this is the handle of the host" },
    { "host:add_vet { peer = { ns = pod, name = 'e1' } }",
      "a handle: unknown verb 'add_vet' (did you mean 'add_veth'?)" },
    right = { "host:add_veth { mtu = 1400, mac = '02:00:00:00:00:07', master = dummy, peer = { ns = pod, name = 'e1',"
      .. " mac = '02:00:00:00:00:08' } }" },
  },
  {
    { "require 'cni.ipam_conf'.written(req, { '10.0.0.1/24' })",
      'ipam_conf.written: configured[1]: expected a table, got "10.0.0.1/24"' },
    { "require 'cni.ipam_conf'.written(req, { { gateway = '10.0.0.1' } })",
      "ipam_conf.written: configured[1].address: is missing" },
    { "ipam.add(req):default_via('10.0.0.1/24')", "lease:default_via: gateway: expected an address without a"
      .. ' prefix length, such as 10.1.2.3, got "10.0.0.1/24"' },
    right = { "require 'cni.ipam_conf'.written(req, { { address = '10.0.0.1/24', gateway = '10.0.0.9' } })",
      "ipam.add(req):default_via('10.0.0.1')" },
  },
  {
    { "host:add_link { kind = 'vxlna', name = 'v0' }", "add_link: kind: unknown kind 'vxlna' (did you mean 'vxlan'?)" },
    { "host:add_link { kind = 'vxlan', name = 'v0', vxlanid = 5 }",
      "add_link: unknown key 'vxlanid' (did you mean 'vxlan_id'?)" },
    { "host:add_link { kind = 'vxlan', name = 'v0', vxlan_id = 1 << 30 }",
      "add_link: vxlan_id: 1073741824 is not in 0..16777215" },
    { "host:add_link { kind = 'vlan', name = 'v0', link = port, vxlan_id = 5 }",
      "add_link: key 'vxlan_id' needs kind = \"vxlan\"" },
    { "host:add_link { kind = 'macvlan', name = 'v0', link = port, macvlan_mode = 'brigde' }",
      "add_link: macvlan_mode: unknown value 'brigde' (did you mean 'bridge'?)" },
    { "host:add_link { name = 'v0' }", "add_link: kind: is missing" },
    { "host:add_link { kind = 'bridge', name = 7 }", "add_link: name: expected a string, got 7" },
    { "host:add_link { kind = 'bridge', name = 'a b' }", 'add_link: name: link "a b": interface name contains / or : '
      .. "or whitespace characters (a name has none of them)" },
    { "host:add_link { kind = 'bridge', name = 'v0', netns = '/run/netns/pod1' }",
      "add_link: netns: is not given as such: ns = req.pod" },
    { "host:add_link { kind = 'bridge', name = 'v0', msater = 'first0' }",
      "add_link: unknown key 'msater' (did you mean 'master'?)" },
    { "host:add_link { kind = 'bridge', name = 'v0', running = true }", "add_link: running: is read-only" },
    right = { "host:add_link { kind = 'bridge', name = 'v0', ns = pod, stp = true, forward_delay = 400 }",
      "host:add_link { kind = 'bridge', name = 'v0', alias = 'of ' .. req.ifname, txqlen = 100 }" },
  },
  {
    { "host:ensure_link { kind = 'bridge', name = 'v0', kepe = true }",
      "ensure_link: unknown key 'kepe' (did you mean 'keep'?)" },
    { "host:ensure_link { kind = 'bridge', name = 'v0', keep = 1 }", "ensure_link: keep: expected true or false, got 1" },
    { "host:ensure_link { kind = 'veth', name = 'v0', peer = { master = dummy }, port_vlans = { { vid = 5000 } } }",
      "ensure_link: port_vlans[1].vid: 5000 is not in 1..4094" },
    right = { "host:ensure_link { kind = 'bridge', name = 'v0', up = true }" },
  },
  {
    { "host:set_link(port, { pu = true })", "set_link: unknown key 'pu' (did you mean 'up'?)" },
    { "host:set_link(port, { up = 'yes' })", "set_link: up: expected a boolean, got a string" },
    { "host:set_link(port, { port = { hairpn = true } })",
      "set_link: port: unknown key 'hairpn' (did you mean 'hairpin'?)" },
    { "host:set_link(prot, { up = true })", false, "global 'prot' is not defined (did you mean 'print'?)" },
    { "host:set_link(nil, { up = true })", "set_link: link: expected a link or the name of one, got nil" },
    { "host:set_link(eth, { up = true })",
      "set_link: link: eth0 is a link of the sandbox, and this is the handle of the host" },
    { "host:set_link(pod, { up = true })", "set_link: link: expected a link or the name of one, got a handle" },
    { "host:set_link(port, { name = 'other0' })", "set_link: name: is given when a link is made, and stays" },
    { "host:set_link(port)", "set_link: expected a table, got nil" },
    { "host:set_link(port, { master = eth })",
      "set_link: master: eth0 is a link of the sandbox, and this is the handle of the host" },
    right = { "local up = { up = true } host:set_link(port, up) pod:set_link(eth, up)",
      "host:set_link(port, { master = dummy, port = { hairpin = true } })" },
  },
  {
    { "pod:add_addr(eth, '10.0.0.300/24')", 'add_addr: address: expected an address with its prefix length, such as '
      .. '10.1.2.3/24, got "10.0.0.300/24"' },
    { "pod:add_addr(eth, '10.0.0.3')", "add_addr: address: expected an address with its prefix length, such as "
      .. '10.0.0.3/32, got "10.0.0.3"' },
    { "pod:add_addr(eth, addr.parse('10.0.0.300/24'))", "add_addr: address: expected an address with its prefix "
      .. "length, such as 10.1.2.3/24, got nil" },
    { "pod:add_addr(eth, '10.0.0.3/24', { nodat = true })",
      "add_addr: options: unknown key 'nodat' (did you mean 'nodad'?)" },
    { "pod:add_addr(eth, '10.0.0.3/24', true)", "add_addr: options: expected a table, got true" },
    { "host:add_addr(eth, '10.0.0.3/24')",
      "add_addr: link: eth0 is a link of the sandbox, and this is the handle of the host" },
    { "host:ensure_addr(dummy, '10.0.0.1/24', { replce = true })",
      "ensure_addr: options: unknown key 'replce' (did you mean 'replace'?)" },
    right = { "pod:add_addr(eth, addr.parse '10.0.0.3/24')", "pod:add_addr('eth0', 'fd00::3/64', { nodad = true })",
      "host:ensure_addr('first0', '10.0.0.1/24', { keep = false })" },
  },
  {
    { "pod:add_route { dst = '10.0.0/8', link = eth }", "add_route: dst: expected an address with its prefix length, "
      .. 'such as 10.1.2.3/24, got "10.0.0/8"' },
    { "pod:add_route { dst = 'default', link = eth }",
      "add_route: dst: a default route is written 0.0.0.0/0 or ::/0" },
    { "pod:add_route { dst = '10.0.0.0/8', gw = '10.0.0.1/24', link = eth }",
      'add_route: gw: expected an address without a prefix length, such as 10.1.2.3, got "10.0.0.1/24"' },
    { "pod:add_route { dst = '10.0.0.0/8', gw = 'fd00::1', link = eth }",
      "add_route: gw: fd00::1 is not of the family of dst, 10.0.0.0/8" },
    { "pod:add_route { dst = '10.0.0.0/8', link = eth, scope = 'lnik' }",
      "add_route: scope: unknown value 'lnik' (did you mean 'link'?)" },
    { "pod:add_route { dst = '10.0.0.0/8', link = eth, priorty = 5 }",
      "add_route: unknown key 'priorty' (did you mean 'priority'?)" },
    { "pod:add_route { dst = '10.0.0.0/8', gw = '10.0.0.1' }",
      "add_route: link: is missing: by which link 10.0.0.1 is reached is not looked up" },
    { "host:ensure_route { dst = '10.0.0.0/8' }", "ensure_route: link: is missing (without one a route has a type: "
      .. "blackhole, unreachable, prohibit or throw)" },
    { "pod:add_route { dst = '10.0.0.0/8', link = port }",
      "add_route: link: port0 is a link of the host, and this is the handle of the sandbox" },
    right = { "pod:set_link(eth, { up = true }) host:set_link(port, { up = true })"
      .. " local route = { dst = '10.0.0.0/8', link = eth, scope = 'link', priority = 5 }"
      .. " pod:add_route(route) assert(route.link == eth and route.dst == '10.0.0.0/8')" },
  },
  -- A destination with host bits: the kernel refuses it, and which of two was meant cannot be told.
  {
    { "pod:add_route { dst = '10.0.0.7/8', link = eth }", "add_route: dst: 10.0.0.7/8 is no network, it has host bits "
      .. "set: the network is 10.0.0.0/8, the one address 10.0.0.7/32" },
    { "host:ensure_route { dst = addr.parse 'fd00::7/64', type = 'blackhole' }", "ensure_route: dst: fd00::7/64 is no "
      .. "network, it has host bits set: the network is fd00::/64, the one address fd00::7/128" },
    { "host:add_rule { from = '10.9.0.5/16', table = 7 }", "add_rule: from: 10.9.0.5/16 is no network, it has host bits "
      .. "set: the network is 10.9.0.0/16, the one address 10.9.0.5/32" },
    { "host:ensure_rule { to = 'fd00::5/64', table = 7 }", "ensure_rule: to: fd00::5/64 is no network, it has host bits "
      .. "set: the network is fd00::/64, the one address fd00::5/128" },
    right = { "host:ensure_route { dst = addr.parse('fd00::7/64'):network(), type = 'blackhole' }",
      "host:add_rule { from = '10.9.0.5', to = 'fd00::/64' and nil, table = 7 }",
      "host:ensure_rule { to = 'fd00::/64', table = 7 }" },
  },
  {
    { "host:set_vlan(port, { pvid = true })", "set_vlan: vid: is missing" },
    { "host:set_vlan(port, { vid = 5, vid_end = 4 })", "set_vlan: vid_end: 4 is not in 5..4094" },
    { "host:set_vlan(port, { vid = '5' })", "set_vlan: vid: expected an integer, got a string" },
    { "host:set_vlan(port, { vid = 5, utagged = true })",
      "set_vlan: unknown key 'utagged' (did you mean 'untagged'?)" },
    right = {}, -- bridge_vlan_spec has them
  },
  {
    { "host:set_sysctl { { '/proc/sys/net/ipv4/ip_forward', '1' } }", "set_sysctl: list[1]: "
      .. '"/proc/sys/net/ipv4/ip_forward" is no path below /proc/sys, such as net/ipv4/ip_forward' },
    { "host:set_sysctl { { 'net.ipv4.ip_forward', '1' } }",
      'set_sysctl: list[1]: "net.ipv4.ip_forward" is written with slashes: net/ipv4/ip_forward' },
    { "host:set_sysctl { { 'kernel/shmmax', '1' } }", 'set_sysctl: list[1]: "kernel/shmmax" does not begin with net/: the rest of /proc/sys is no network namespace\'s' },
    { "host:set_sysctl { 'net/ipv4/ip_forward', '1' }", "set_sysctl: list[1]: expected { path, value }" },
    { "host:set_sysctl { ['net/ipv4/ip_forward'] = '1' }",
      "set_sysctl: list: expected a list, got a table with the key 'net/ipv4/ip_forward'" },
    { "host:set_sysctl({ { 'net/ipv4/ip_forward', '1' } }, { kepe = true })",
      "set_sysctl: options: unknown key 'kepe' (did you mean 'keep'?)" },
    { "host:lock_down()", "lock_down: link: expected a link or the name of one, got nil" },
    { "host:enable_forwarding 'ipv4'", "enable_forwarding: family: unknown value 'ipv4', expected one of inet, inet6" },
    { "host:await_up(port, '5')",
      'await_up: seconds: expected a number of seconds from 0 to 3600, got "5"' },
    right = { "host:set_sysctl { { 'net/ipv4/conf/port0/proxy_arp', 1 } }", "host:lock_down(port)",
      "host:set_link(port, { up = true }) pod:set_link(eth, { up = true }) host:await_up(port, 5)" },
  },
  {
    { "host:dump 'lnik'", "dump: object: unknown value 'lnik' (did you mean 'link'?), expected one of addr, class, "
      .. "filter, link, neigh, qdisc, route, rule, vlan" },
    { "host:dump('link', { kimd = 'bridge' })", "dump: unknown key 'kimd' (did you mean 'kind'?)" },
    { "host:routes { tabel = 254 }", "dump: unknown key 'tabel' (did you mean 'table'?)" },
    { "host:link('lo', { 'mtuu' })", "link: unknown key 'mtuu' (did you mean 'mtu'?)" },
    { "host:link(nil)", "link: expected the name of a link, or its index, got nil" },
    { "host:addrs()", "addrs: link: expected a link or the name of one, got nil" },
    { "host:addrs('lo', 'ipv4')", "addrs: family: unknown value 'ipv4', expected one of inet, inet6" },
    right = { "assert(host:link('lo', { 'mtu' }).mtu and #host:dump('link', { kind = 'bridge' }) > 0)",
      "assert(host:link('nosuch0') == nil and host:routes { table = 254 } and host:addrs('lo', 'inet'))" },
  },
  {
    { "ipam.apply(nil, pod, eth)", "ipam.apply: lease: expected a lease, as ipam.add gives it, got nil" },
    { "ipam.apply(ipam.add(req), pod, port)",
      "ipam.apply: link: port0 is a link of the host, and this is the handle of the sandbox" },
    { "ipam.apply(ipam.add(req), pod, 'eth0')",
      'ipam.apply: link: expected a link as a verb gives it, got the name "eth0"' },
    { "ipam.apply(ipam.add(req), eth)", "ipam.apply: pod: expected a handle, req.host or req.pod, got a table" },
    { "ipam.add()", "ipam.add: req: expected req, as the script's function has got it, got nil" },
    { "ipam.aply(ipam.add(req), pod, eth)", false, "cni.ipam has no 'aply' (did you mean 'apply'?)" },
    { "masq.add(req, { { address = '10.0.0.300/24' } })", "masq.add: ips[1].address: expected an address with its "
      .. 'prefix length, such as 10.1.2.3/24, got "10.0.0.300/24"' },
    { "masq.add(req, '10.0.0.3/24')", 'masq.add: ips: expected a list, got "10.0.0.3/24"' },
    right = { "ipam.apply(ipam.add(req), pod, eth)" },
  },
  {
    { "local h = req.hots", "req: unknown name 'hots' (did you mean 'host'?)" },
    { "req:add_veth { peer = { ns = req.pod } }",
      "req: 'add_veth' is a verb of its handles: req.host:add_veth, req.pod:add_veth" },
    { "req:delegte('bridge')", "req: unknown name 'delegte' (did you mean 'delegate'?)" },
    { "req:delegate { 'bridge' }", "req:delegate: type: expected a string, got a table" },
    { "req:once('mtu')", "req:once: decide: expected a function, got nil" },
    { "req:number('vlans', 'blue', 1)", "req:number: max: expected a whole number from 0 to 4294967295, got nil" },
    { "req:call { program = '/bin/true', ags = {} }", "req:call: unknown key 'ags' (did you mean 'args'?)" },
    { "host:add_rule { form = '10.0.0.3', table = 7 }", "add_rule: unknown key 'form' (did you mean 'from'?)" },
    { "host:ensure_neigh(port, { dst = '10.0.0.3', mac = '02:00' })",
      "ensure_neigh: mac: '02:00' is not a hardware address" },
    { "host:add_fdb(eth, { mac = '02:00:00:00:00:07' })",
      "add_fdb: link: eth0 is a link of the sandbox, and this is the handle of the host" },
    right = { "assert(req.prev == nil and req.args == nil and req.runtime and req.once)",
      "host:add_rule { from = '10.0.0.3', table = 7 }" },
  },
  {
    { "req:lease()", "req:lease: expected a table, got nil" },
    { lease "network = 'x', dir = 'leases'", 'req:lease: dir: expected an absolute path, got "leases"' },
    { lease "network = 'x', dri = '/run/spec/leases'", "req:lease: unknown key 'dri' (did you mean 'dir'?)" },
    { lease "network = 'x'", "req:lease: dir: is missing" },
    { lease "dir = '/run/spec/leases', network = 7", "req:lease: network: expected a string, got 7" },
    { lease "dir = '/run/spec/leases', network = 'a/b'",
      'req:lease: network: "a/b" cannot be the name of a directory: it has letters, digits, and . _ - behind the first' },
    { lease("dir = '/run/spec/leases', network = 'x'", "nil"), "req:lease: sets: is missing" },
    { lease("dir = '/run/spec/leases', network = 'x'", "{ { subnet = '10.0.0.0/24' } }"), "req:lease: sets[1]: "
      .. "expected a list, got a table with the key 'subnet' (it is to be as ranges.read gives it)" },
    { lease("dir = '/run/spec/leases', network = 'x'", "{ { { subnet = '10.0.0.0/24' } } }"),
      "req:lease: sets[1][1].first: is missing (it is to be as ranges.read gives it)" },
    { lease "dir = '/run/spec/leases', network = 'x', requested = '10.0.0.7'",
      'req:lease: requested: expected a list, got "10.0.0.7"' },
    { lease "dir = '/run/spec/leases', network = 'x', requested = { '10.0.0.7/24' }", "req:lease: requested[1]: "
      .. 'expected an address without a prefix length, such as 10.1.2.3, got "10.0.0.7/24"' },
    { "require('cni.ranges').read { where = 'x', sets = { { { subnet = '10.0.0.0/24' } } } }",
      "ranges.read: sources: expected a list, got a table with the key 'sets'" },
    { "require('cni.ranges').read { { where = 'x', sets = { { subnet = '10.0.0.0/24' } } } }",
      "ranges.read: sources[1].sets[1]: expected a list, got a table with the key 'subnet'" },
    { "require('cni.ranges').read { { where = 'x', sets = { { { subnet = '10.0.0.0/24', rangestart = '10.0.0.9' } } } } }",
      "ranges.read: sources[1].sets[1][1]: unknown key 'rangestart' (did you mean 'rangeStart'?)" },
    { "require('cni.ranges').read { { sets = {} } }", "ranges.read: sources[1].where: is missing" },
    right = { lease "dir = '/run/spec/leases', network = 'x', requested = { '10.0.0.7' }" },
  },
}

-- Of answers: what `add` returns, and what is said.
local answers = {
  { "{ interface = { eth } }", "unknown key 'interface' (did you mean 'interfaces'?)" },
  { "{ interfaces = { 'eth0' } }", 'interfaces[1]: expected a link as a verb gives it, got "eth0"' },
  { "{ interfaces = eth }", "interfaces: expected a list, got a table with the key 'mac'", any = true },
  { "7", "expected a table, got 7" },
  { "{ ips = { '10.0.0.3/24' } }", 'ips[1]: expected a table, got "10.0.0.3/24"' },
  { "{ ips = { { adress = '10.0.0.3/24' } } }", "ips[1]: unknown key 'adress' (did you mean 'address'?)" },
  { "{ ips = { { gateway = '10.0.0.1' } } }", "ips[1].address: is missing" },
  { "{ ips = { { address = '10.0.0.3' } } }", 'ips[1].address: expected an address with its prefix length, such as '
    .. '10.0.0.3/32, got "10.0.0.3"' },
  { "{ ips = { { address = '10.0.0.3/24', interface = 'eth0' } } }",
    'ips[1].interface: expected a link as a verb gives it, got "eth0"' },
  { "{ interfaces = { eth }, ips = { { address = '10.0.0.3/24', interface = 1 } } }",
    "ips[1].interface: 1 is beyond the last of 1 interfaces, which count from 0" },
  { "{ routes = { { dst = 'default' } } }", "routes[1].dst: a default route is written 0.0.0.0/0 or ::/0" },
  { "{ routes = { { dst = '10.0.0.7/8' } } }", "routes[1].dst: 10.0.0.7/8 is no network, it has host bits set: the "
    .. "network is 10.0.0.0/8, the one address 10.0.0.7/32" },
  -- What was made, and nobody is told of.
  { "nil", "nothing, though it has made first0 in the host, port0 in the host, eth0 in the sandbox" },
  { "{}", "interfaces: eth0 in the sandbox is missing, which add has made" },
  { "{ ips = pod:addrs(eth) }", "interfaces: eth0 in the sandbox is missing, which add has made" },
  { "{ interfaces = { port } }", "interfaces: eth0 in the sandbox is missing, which add has made" },
  { "{ routes = { { dst = '0.0.0.0/0', via = '10.0.0.1' } } }", "routes[1]: unknown key 'via' (here it is 'gw')" },
  { "{ dns = { nameserver = { '10.0.0.1' } } }", "dns: unknown key 'nameserver' (did you mean 'nameservers'?)" },
  { "{ dns = { nameservers = '10.0.0.1' } }", 'dns.nameservers: expected a list, got "10.0.0.1"' },
}

-- Of whole scripts: the text, and the message behind the script's path.
local scripts = {
  { "return { add = function() end, chek = function() end }", ": unknown field 'chek' (did you mean 'check'?)" },
  { "return { add = {} }", ": field 'add' must be a function, it is a table" },
  { "return { ad = function() end }", ": unknown field 'ad' (did you mean 'add'?)" },
  { "return { del = function() end }", ": field 'add' is missing" },
  { "return function() end", ": a plugin returns a table with a function 'add'; this returns a function" },
  { "return { add = function() end, ipam = 'yes' }", ": field 'ipam' must be a boolean, it is a string" },
  { "return { api = 2, add = function() end }",
    ": field 'api' is 2, and this program speaks version 1 of the interface" },
  { "return { api = '1', add = function() end }", ": field 'api' must be an integer, it is a string" },
  { "local schema = require 'cni.schema'\nreturn { conf = { mtu = schema.mtu }, add = function() end }",
    ": field 'conf' must be a schema.record, it is a table" },
  { "local schema = require 'cni.shema'\nreturn {}",
    ":1: a plugin cannot require 'cni.shema' (did you mean 'cni.schema'?): ", start = true },
  { "local schema = require 'cni.schema'\nlocal c = schema.record { mtu = schema.intger }\nreturn {}",
    ":2: cni.schema has no 'intger' (did you mean 'integer'?)" },
  { "local schema = require 'cni.schema'\nlocal c = schema.integer { mim = 1 }\nreturn {}",
    ":2: schema.integer: unknown option 'mim' (did you mean 'min'?)" },
  { "\nlocal c = tabel.concat", ":2: global 'tabel' is not defined (did you mean 'table'?)" },
  { "return {\n  add = function(req)\n    retrun x\n  end }", ":3: syntax error near 'x'" },
}

-- Of declarations, a group a kind of mistake: what stands in line 2, and what is said of it; and what is right.
local a_type = "expected a type of cni.schema, such as schema.string, got "
local declarations = {
  {
    { "schema.list { doc = 'x' }", "schema.list: " .. a_type .. "a table" },
    { "schema.list { schema.integer }", "schema.list: " .. a_type .. "a table" },
    { "schema.list()", "schema.list: " .. a_type .. "nil" },
    { "schema.list(schema)", "schema.list: " .. a_type .. "a table" },
    { "schema.list(schema.integer, 'doc')", 'schema.list: expected a table of options, got "doc"' },
    { "schema.list(schema.integer, { min_items = 5, max_items = 2 })",
      "schema.list: min_items: 5 is above max_items, which is 2" },
    { "schema.list(schema.integer, { max = 2 })", "schema.list: unknown option 'max' (did you mean 'max_items'?)" },
    { "schema.map { doc = 'x' }", "schema.map: " .. a_type .. "a table" },
    right = { "schema.list(schema.integer, { doc = 'x', min_items = 1, max_items = 2, default = { 1 } })",
      "schema.map(schema.list(schema.string))" },
  },
  {
    { "schema.record { x = schema.enum }", "schema.record: x: schema.enum without its option 'values'" },
    { "schema.list(schema.enum { doc = 'x' })", "schema.list: schema.enum without its option 'values'" },
    { "schema.enum { 'a', 'b' }", 'schema.enum: expected options by name, got "a" without one' },
    { "schema.enum { values = 'a' }", 'schema.enum: values: expected a list, got "a"' },
    { "schema.enum { values = {} }", "schema.enum: values: there is no word in it" },
    { "schema.enum { values = { 'a', 7 } }", "schema.enum: values[2]: expected a string, got 7" },
    { "schema.enum { values = { 'blue' }, default = 'bleu' }", 'schema.enum: default: "bleu" is not one of blue' },
    right = { "schema.record { x = schema.enum { doc = 'x' } { values = { 'a' } } { default = 'a' } }" },
  },
  {
    { "schema.integer { minn = 3 }", "schema.integer: unknown option 'minn' (did you mean 'min'?)" },
    { "schema.integer { min = '3' }", 'schema.integer: min: expected a whole number, got "3"' },
    { "schema.integer { max = 1.5 }", "schema.integer: max: expected a whole number, got 1.5" },
    { "schema.integer { min = 5, max = 1 }", "schema.integer: min: 5 is above max, which is 1" },
    { "schema.integer { min = 5 } { max = 1 }", "schema.integer: min: 5 is above max, which is 1" },
    { "schema.integer { default = '7' }", 'schema.integer: default: "7" is not an integer' },
    { "schema.integer { min = 5, default = 1 }", "schema.integer: default: 1 is not an integer not below 5" },
    { "schema.integer { default = 1 } { min = 5 }", "schema.integer: default: 1 is not an integer not below 5" },
    { "schema.integer { default = 1, required = true }", "schema.integer: default: a key that is required has none" },
    { "schema.integer { required = 1 }", "schema.integer: required: expected true or false, got 1" },
    { "schema.integer { doc = 7 }", "schema.integer: doc: expected a string, got 7" },
    { "schema.integer(5)", "schema.integer: expected a table of options, got 5" },
    { "schema.integer(schema.string)", "schema.integer: expected a table of options, got another type" },
    { "schema.mtu { strict = 'yes' }", 'schema.mtu: strict: expected true or false, got "yes"' },
    { "schema.boolean { default = 'true' }", 'schema.boolean: default: "true" is not true or false' },
    right = { "schema.integer { min = 5, max = 5, default = 5, optional = true }", "schema.mtu { default = 0 }",
      "schema.integer { default = 1 } { required = true }" },
  },
  {
    { "schema.string { pattern = '[a' }", 'schema.string: pattern: "[a": malformed pattern (missing \']\')' },
    { "schema.string { pattern = 'xy[]' }", 'schema.string: pattern: "xy[]": malformed pattern (missing \']\')' },
    { "schema.string { pattern = 'x%' }", 'schema.string: pattern: "x%": malformed pattern (ends with \'%\')' },
    { "schema.string { pattern = 'x(a' }", 'schema.string: pattern: "x(a": unfinished capture' },
    { "schema.string { pattern = 'x)' }", 'schema.string: pattern: "x)": invalid pattern capture' },
    { "schema.string { pattern = '^a+$' }",
      'schema.string: pattern: "^a+$" is for the whole text as it is, and written without ^ and $' },
    { "schema.string { min_len = -1 }", "schema.string: min_len: expected a whole number not below 0, got -1" },
    { "schema.string { empty = true }", "schema.string: empty: expected one of absent, got true" },
    { "schema.string { pattern = '%l+', default = 'A' }", 'schema.string: default: "A" is not a string' },
    { "schema.ip { family = 'ipv4' }", "schema.ip: family: unknown value 'ipv4', expected one of inet, inet6" },
    { "schema.ip { default = '10.0.0.300' }", 'schema.ip: default: "10.0.0.300" is not an IP address' },
    { "schema.cidr { network = 1 }", "schema.cidr: network: expected true or false, got 1" },
    right = { "schema.string { pattern = '[]%]^]x%%%$', min_len = 3, max_len = 3 }",
      "schema.string { pattern = '((%l)%2)%1[^]]%b()%f[%w]', empty = 'absent', default = '' }",
      "schema.ip { family = 'inet6', default = 'fd00::1' }" },
  },
  {
    { "schema.record { x = schema.record }", "schema.record: x: schema.record is not called" },
    { "schema.record { x = schema.list }", "schema.record: x: schema.list is not called" },
    { "schema.record { x = { y = schema.mtu } }", "schema.record: x: " .. a_type .. "a table" },
    { "schema.record { x = 'string' }", "schema.record: x: " .. a_type .. '"string"' },
    { "schema.record { schema.mtu }",
      "schema.record: expected a type by the name of its key, got a table without one" },
    { "schema.record { mtu = schema.mtu, MTU = schema.mtu }",
      "schema.record: mtu: is the same key as 'MTU': letter case does not count" },
    { "schema.record()", "schema.record: expected a table of keys, got nil" },
    { "schema.record(schema.mtu)", "schema.record: expected a table of keys, got a table" },
    { "schema.record { x = schema.mtu { required = true } } { default = {} }",
      "schema.record: default.x: is missing: integer from 68 to 65535 is wanted" },
    { "schema.record { x = schema.int }", "cni.schema has no 'int' (did you mean 'integer'?)" },
    { "schema.bool", "cni.schema has no 'bool' (did you mean 'boolean'?)" },
    right = { "schema.record { x = schema.record { y = schema.mtu } { default = {} }, y = schema.list(schema.any) }" },
  },
  {
    { "schema.record {}:chek(print)", "a record: unknown method 'chek' (did you mean 'check'?)" },
    { "schema.record {} { doc = 'x' }:chek(print)", "a record: unknown method 'chek' (did you mean 'check'?)" },
    { "schema.record {}.check(print)", "record:check: is called with a colon, on a record" },
    { "schema.record {}:check 'x'", 'record:check: check: expected a function, got "x"' },
    { "schema.record { x = schema.boolean, mtu = schema.mtu }:implies('x', 'mtuu')",
      "record:implies: unknown key 'mtuu' (did you mean 'mtu'?)" },
    { "schema.string:foo()", "a type: unknown method 'foo'" },
    { "schema.string { min_len = 1 }:descrbe()", "a type: unknown method 'descrbe' (did you mean 'describe'?)" },
    { "schema.mtu:chek(print)", "a type: unknown method 'chek'" },
    { "schema.list(schema.string):check(print)", "a type: unknown method 'check'" },
    { "schema.read({}, {})", "schema.read: rec: expected a record of cni.schema, got a table" },
    { "schema.record { x = schema.boolean }:implies('x')", "record:implies: b: expected a string, got nil" },
    { "schema.record { x = schema.boolean }:never_both('x', 'zone')", "record:never_both: unknown key 'zone' (there is x)" },
    { "schema.record { x = schema.boolean }:idle('x', 'y', 'z')",
      'record:idle: idle: expected a function, got "y"' },
    right = { "schema.read(schema.record { x = schema.boolean }, {})", "schema.string { doc = 'x' }:describe()",
      "schema.list(schema.enum { values = { 'a' } }):describe()",
      "schema.record { x = schema.boolean, y = schema.boolean }:implies('x', 'y'):check(print, 'x')"
      .. ":never_both('x', 'y', 'why'):idle('x', print, 'why')",
      -- A rule may need what the script has only later.
      "(function() local late local r = schema.record {}:check(function() late() end) return r { default = {} } end)()" },
  },
}

local function declaring(text)
  return "local schema = require 'cni.schema'\nlocal declared = " .. text
    .. "\nreturn { add = function() return {} end }"
end

local w

local function call(verb, text, conf)
  t.write(path, text)
  return w:call(verb, { type = "luacni", conf = t.merge({ type = "odd" }, conf) })
end

-- What an ADD of a script says, which has changed nothing.
local function refusal(text, code)
  t.write(path, text)
  local e = w:fails("ADD", { type = "luacni", conf = { type = "odd" } }, code or 999)
  assert.equal("", t.records())
  return e
end

describe("A script's author", function()
  local before
  before_each(function()
    w = world.new({ type = "odd" }, { neighbours = false })
    before = w:picture()
  end)
  after_each(t.cleanup)

  it("is told of every mistake in what a verb is given, with its line, and nothing has changed", function()
    local count = 0
    for _, group in ipairs(verbs) do
      for _, case in ipairs(group) do
        local script = script_of(case[1])
        assert.equal(path .. ":6: " .. (case[2] or case[3]), refusal(script).msg, case[1])
        local del = call("DEL", script)
        assert.equal(0, del.rc, "the DEL after it: " .. case[1] .. del.out)
        count = count + 1
      end
    end
    assert.is_true(count >= 38)
    t.same(before, w:picture())
  end)

  it("may write what is right beside each", function()
    for _, group in ipairs(verbs) do
      for _, step in ipairs(group.right) do
        local got = call("ADD", script_of(step))
        assert.equal(0, got.rc, step .. ": " .. got.out)
        assert.equal("eth0", got.json.interfaces[1].name)
        w:del { type = "luacni", conf = { type = "odd" } }
        t.same(before, w:picture())
      end
    end
  end)

  it("is told of what add may not return, with the line where it begins", function()
    for _, case in ipairs(answers) do
      local e = refusal(script_of("if true then return " .. case[1] .. " end"))
      assert.equal(path .. ":2: what add returns: " .. case[2], e.msg, case[1])
    end
    t.same(before, w:picture())
    for _, answer in ipairs { "{ interfaces = { eth } }", "{ interfaces = { port, eth } }", "{ interfaces = { eth }, ips = "
      .. "{ { address = '10.0.0.3/24', gateway = '10.0.0.1', interface = 0 } } }",
      "{ interfaces = { eth }, ips = { { address = addr.parse '10.0.0.3/24', interface = eth } }, "
      .. "routes = { { dst = '0.0.0.0/0', gw = '10.0.0.1' } }, dns = { nameservers = { '10.0.0.1' } } }",
      "{ interfaces = { eth }, ips = pod:addrs(eth) }" } do
      local got = call("ADD", script_of("if true then return " .. answer .. " end"))
      assert.equal(0, got.rc, answer .. ": " .. got.out)
      if answer:find("interface =", 1, true) then
        assert.equal(0, got.json.ips[1].interface)
        assert.equal("10.0.0.3/24", got.json.ips[1].address)
      end
      w:del { type = "luacni", conf = { type = "odd" } }
      t.same(before, w:picture())
    end
  end)

  it("may return nothing where nothing is made that a result tells of, and behind others in a chain", function()
    local prev = { prevResult = { cniVersion = "1.1.0", ips = t.list { { address = "10.0.0.3/24" } } } }
    for _, step in ipairs { "", "req.pod:set_link('lo', { up = true })",
      "req.host:set_sysctl { { 'net/ipv4/conf/lo/proxy_arp', '1' } }",
      "req.host:ensure_link { kind = 'bridge', name = 'br0' }", "req.host:add_rule { from = '10.0.0.3', table = 7 }" } do
      local got = call("ADD", ("return { add = function(req)\n %s\n end }"):format(step))
      assert.equal(0, got.rc, step .. ": " .. got.out)
      w:del { type = "luacni", conf = { type = "odd" } }
      w:in_pod "ip link set lo down"
    end
    local made = "return { chained = true, add = function(req)\n"
      .. " req.host:add_veth { name = 'port0', peer = { ns = req.pod, name = req.ifname } } end }"
    assert.equal(path .. ":1: what add returns: nothing, though it has made port0 in the host, eth0 in the sandbox",
      call("ADD", made).json.msg)
    t.same(before, w:picture())
    local got = call("ADD", made, prev)
    assert.equal("10.0.0.3/24", got.json.ips[1].address)
    w:del { type = "luacni", conf = { type = "odd" } }
    t.same(before, w:picture())
  end)

  it("is told what another type did in his, where that is not passed on", function()
    local delegating = "return { add = function(req)\n local r = req:delegate('ptp', { ipam = { type = 'static', "
      .. "addresses = { { address = '10.0.0.3/24', gateway = '10.0.0.1' } } } })\n %s end }"
    assert.matches(":1: what add returns: nothing, though it has made veth%x+ in the host, eth0 in the sandbox$",
      call("ADD", delegating:format "").json.msg)
    t.same(before, w:picture())
    local got = call("ADD", delegating:format "return r")
    assert.equal("10.0.0.3/24", got.json.ips[1].address)
    w:del { type = "luacni", conf = { type = "odd" } }
    t.same(before, w:picture())
  end)

  it("is told the line and the verb of what the kernel refuses when it is sent, some verbs later", function()
    local two = "pod:add_addr(eth, '10.0.0.3/24')\n host:set_link(port, { up = true })\n"
      .. " pod:add_addr(eth, '10.0.0.%s/24')\n pod:set_link(eth, { up = true })"
    assert.equal(path .. ":8: add_addr: give eth0 the address 10.0.0.3/24: add addr 10.0.0.3/24: File exists",
      refusal(script_of(two:format "3")).msg:match "^(.-File exists)")
    assert.equal(path .. ":7: add_route: route 10.8.0.0/16 via 10.9.9.9 dev eth0: ", refusal(script_of(
      "pod:set_link(eth, { up = true })\n pod:add_route { dst = '10.8.0.0/16', gw = '10.9.9.9', link = eth }\n"
      .. " host:set_link(port, { up = true })")).msg:sub(1, #path + 56))
    assert.equal(path .. ":6: ensure_route: ", refusal(script_of("host:ensure_route { dst = '10.8.0.0/16', "
      .. "gw = '10.9.9.9', link = 'lo' }\n host:set_link(port, { up = true })")).msg:sub(1, #path + 18))
    assert.equal(path .. ":7: add_route: blackhole 10.8.0.0/16 is there already", refusal(script_of("local r = { "
      .. "dst = '10.8.0.0/16', type = 'blackhole' } host:add_route(r)\n host:add_route(r)")).msg)
    -- In a function of the script's own it is that function's line.
    assert.equal(path .. ":1: set_link: ", refusal("local function up(h) h:set_link('none0', { up = true }) end\n"
      .. "return { add = function(req)\n up(req.host) end }").msg:sub(1, #path + 14))
    t.same(before, w:picture())
    assert.equal(0, call("ADD", script_of(two:format "4")).rc)
    w:del { type = "luacni", conf = { type = "odd" } }
    t.same(before, w:picture())
  end)

  it("is told what to write in place of what Lua has elsewhere", function()
    for name, instead in pairs { io = "req:call { program = ... }", os = "req:call { program = ... }",
      load = "req:delegate(type)", dofile = "req:delegate(type)", debug = "req.log(text)", log = "req.log(text)",
      _G = "declare it local", unpack = "table.unpack", pod = "req.pod", host = "req.host", bit32 = "& | ~ << >>",
      schema = 'local schema = require "cni.schema"', ipam = 'local ipam = require "cni.ipam"' } do
      local e = refusal(("return { add = function()\n local v = %s end }"):format(name))
      assert.equal(path .. ":2: global '" .. name .. "' is not defined: ", e.msg:sub(1, #path + #name + 30))
      assert.is_truthy(e.msg:find(instead, 1, true), e.msg)
    end
    for _, right in ipairs { "table.unpack { 1 }", "req.pod", "req.host", "req.log('a line')", "5 & 3 | 4",
      "require 'cni.schema'", "print('another')" } do
      assert.equal(0, call("ADD", ("return { add = function(req)\n local v = %s end }"):format(right)).rc, right)
      w:del { type = "luacni", conf = { type = "odd" } }
    end
  end)

  it("is told of what the chain's result may not become", function()
    local text = "return { add = function(req)\n %s\n return req.prev end }"
    local prev = { prevResult = { cniVersion = "1.1.0", ips = t.list { { address = "10.0.0.3/24", unknown = 7 } } } }
    local e = call("ADD", text:format("req.prev.ips[1].address = '10.0.0.3'"), prev).json
    assert.equal(path .. ":1: what add returns: ips[1].address: expected an address with its prefix length, such as "
      .. '10.0.0.3/32, got "10.0.0.3"', e.msg)
    e = call("ADD", text:format("req.prev.dns = { nameserver = { '10.0.0.1' } }"), prev).json
    assert.equal(path .. ":1: what add returns: dns: unknown key 'nameserver' (did you mean 'nameservers'?)", e.msg)
    local answer = call("ADD", text:format("req.prev.dns = { nameservers = { '10.0.0.1' } }"), prev).json
    t.same({ 7, "10.0.0.1" }, { answer.ips[1].unknown, answer.dns.nameservers[1] })
    w:del { type = "luacni", conf = { type = "odd" } }
    t.same(before, w:picture())
  end)

  it("is told of what a script may not be", function()
    for _, case in ipairs(scripts) do
      local e, said = refusal(case[1]), path .. case[2]
      if case.start then e.msg = e.msg:sub(1, #said) end
      assert.equal(said, e.msg, case[1])
    end
    t.same(before, w:picture())
    for _, text in ipairs {
      "return { add = function() return {} end }", "return { api = 1, add = function() return {} end }",
      "local schema = require 'cni.schema'\nreturn { conf = schema.record { mtu = schema.mtu }, doc = 'x', "
        .. "chained = true, add = function() return {} end, check = print, del = print, gc = print, status = print }",
    } do
      assert.equal(0, call("ADD", text).rc)
      w:del { type = "luacni", conf = { type = "odd" } }
    end
    t.same(before, w:picture())
  end)

  it("is told of every mistake in a declaration when the script is loaded, with its line", function()
    for _, group in ipairs(declarations) do
      for _, case in ipairs(group) do
        assert.equal(path .. ":2: " .. case[2], refusal(declaring(case[1])).msg, case[1])
      end
    end
    t.same(before, w:picture())
  end)

  it("may declare what is right beside each", function()
    for _, group in ipairs(declarations) do
      for _, text in ipairs(group.right) do
        local got = call("ADD", declaring(text))
        assert.equal(0, got.rc, text .. ": " .. got.out)
        w:del { type = "luacni", conf = { type = "odd" } }
      end
    end
    t.same(before, w:picture())
  end)

  it("is told the line in a script that lies elsewhere, too", function()
    local elsewhere = "/run/spec-elsewhere.lua"
    t.write(elsewhere, declaring "schema.integer { min = '3' }")
    local out, status = t.sh { t.build .. "/luacni", "check-scripts", elsewhere }
    os.remove(elsewhere)
    assert.equal(1, status)
    assert.equal(elsewhere .. ':2: schema.integer: min: expected a whole number, got "3"\n', out)
  end)

  it("is told the line of a call that is returned as it is, as far as it is known: where its function begins",
    function()
      local e = refusal("return {\n  add = function(req)\n    return req.pod:set_link('lo', { pu = true })\n  end }")
      assert.equal(path .. ":2: set_link: unknown key 'pu' (did you mean 'up'?)", e.msg)
    end)

  it("is told the line of his own function, not of the library's, when an error comes from there", function()
    local e = refusal("local addr = require 'cni.addr'\nreturn { add = function()\n  addr.text(7)\nend }")
    assert.equal(path .. ":3: ", e.msg:sub(1, #path + 4), e.msg)
    e = refusal("return { add = function()\n  error('mine', 0)\nend }")
    assert.equal(path .. ":2: mine", e.msg)
    e = refusal("return { add = function()\n  require('cni.fail').throw 'mine'\nend }")
    assert.equal("mine", e.msg)
    e = refusal("return { add = function()\n  error { msg = 'mine', code = 123 }\nend }", 123)
    assert.equal("mine", e.msg)
  end)

  it("is told of a key of his configuration that he has not declared; modules look at what they know", function()
    local text = "local schema, common = require 'cni.schema', require 'cni.common'\nreturn { conf = schema.record "
      .. "{ mtu = schema.mtu }, add = function(req)\n assert(common.mac(req) == nil)\n local c = req.conf.%s end }"
    assert.equal(path .. ":4: req.conf: unknown name 'mtuu' (did you mean 'mtu'?)", refusal(text:format("mtuu")).msg)
    assert.equal(0, call("ADD", text:format("mtu")).rc)
  end)

  it("finds his tables as he has made them", function()
    local text = script_of [[
      local up, veth = { up = true }, { mtu = 1400, peer = { ns = pod, name = "e1" } }
      local bridge = { kind = "bridge", name = "b0", ns = pod }
      host:set_link(port, up) pod:set_link(eth, up) host:set_link("port0", up)
      host:add_veth(veth) pod:add_link(bridge) pod:set_vlan("b0", { vid = 5, absent = true })
      assert(next(up) == "up" and next(up, "up") == nil)
      assert(bridge.mac == nil and bridge.ns == pod and veth.name == nil and veth.peer.mac == nil)
      local routes = { { dst = "10.9.0.0/16" } }
      local lease = ipam.add(req)
      ipam.apply(lease, pod, eth, { routes = routes })
      assert(routes[1].link == nil)]]
    local got = call("ADD", (text:gsub("pod:set_vlan%b()", "")))
    assert.equal(0, got.rc, got.out)
    w:del { type = "luacni", conf = { type = "odd" } }
    t.same(before, w:picture())
  end)

  it("holds no pod with a script that has gone bad", function()
    local ipam_conf = { ipam = { type = "host-local", subnet = "10.9.0.0/24" } }
    local good = script_of("ipam.apply(ipam.add(req), pod, eth)")
    for _, bad in ipairs { "return {", "return { add = 7 }", "return { api = 9, add = print }", "return {}",
      script_of("host:add_veth { mut = 1 }"), script_of("ipam.apply(ipam.add(req), pod, eth) if true then return { interface = 1 } end") } do
      assert.equal(0, call("ADD", good, ipam_conf).rc)
      local got = call("DEL", bad, ipam_conf)
      assert.equal(0, got.rc, got.out)
      t.same(before, w:picture())
      -- Without a record, what can be told is taken back too.
      assert.equal(0, call("ADD", good, ipam_conf).rc)
      w:lose_records()
      got = call("DEL", bad, ipam_conf)
      assert.equal(0, got.rc, bad .. ": " .. got.out)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      assert.same({}, w:picture().leases)
      w:sh("ip link del first0 2>/dev/null; true")
      got = call("ADD", good, ipam_conf)
      assert.equal(0, got.rc, bad .. ": " .. got.out)
      t.write(path, bad)
      w:gc({}, { type = "luacni", conf = t.merge({ type = "odd" }, ipam_conf) })
      t.same(before.kernel, w:picture().kernel)
    end
  end)
end)

-- What came with the program is not looked at again at each ADD. So it is here: as the site's own, word for word.
describe("As a script of the site's", function()
  after_each(t.cleanup)
  for _, entry in ipairs(plugins.list) do
    it(entry.name .. " gives every verb what it takes", function()
      t.needs(table.unpack(entry.needs or {}))
      local world_of = plugins.world(entry, 1, false)
      for name in lfs.dir("plugins") do
        if name:find("%.lua$") then t.write("/etc/luacni/plugins/" .. name, t.read("plugins/" .. name)) end
      end
      local c = { conf = plugins.conf(entry, 1), prev = plugins.prev(entry, world_of.pods[1]) }
      local answer = world_of:add(c)
      c.prev = entry.prev and (next(answer) and answer or c.prev) or nil
      world_of:check(c)
      world_of:del(c)
      assert.equal("", t.records())
    end)
  end
end)

describe("luacni check-scripts", function()
  local function checked(...)
    local out, status = t.sh { t.build .. "/luacni", "check-scripts", ... }
    return out, status
  end

  before_each(function() t.run("rm -rf /etc/luacni/plugins; mkdir -p /etc/luacni/plugins") end)
  after_each(t.cleanup)

  it("says of each script what a call would say, and of right ones that they are fine", function()
    t.same({ "", 0 }, { checked() })
    for i, case in ipairs(scripts) do
      t.write(path, case[1])
      local out, status = checked()
      assert.equal(1, status)
      assert.equal(path .. case[2], out:sub(1, #path + #case[2]), i)
      local found = t.decode((checked "--json"))
      assert.equal(path, found[1].script)
      assert.equal(path .. case[2], found[1].problem:sub(1, #path + #case[2]))
    end
    t.write(path, "return { add = function() end }")
    t.same({ "the only one is fine\n", 0 }, { checked() })
    for name in lfs.dir("plugins") do
      if name:find("%.lua$") then t.write("/etc/luacni/plugins/" .. name, t.read("plugins/" .. name)) end
    end
    assert.matches("^all %d+ are fine\n$", (checked()))
    t.write(path, "return {")
    local out, status = checked()
    assert.equal(1, status)
    assert.matches("^/etc/luacni/plugins/odd.lua:1: [^\n]*\n$", out)
    for _, found in ipairs(t.decode((checked "--json"))) do
      assert.equal(found.script == path, found.problem ~= nil)
    end
  end)

  it("says what makes a script one that is not to be trusted, and what name no type can have", function()
    local good = "return { add = function() end }"
    for mode, said in pairs { ["chmod 666"] = "can be written by everybody; chmod go-w " .. path,
      ["chown 1000"] = "is not owned by root; chown root " .. path } do
      t.write(path, good)
      t.same({ "the only one is fine\n", 0 }, { checked() })
      t.run(mode .. " " .. path)
      local out, status = checked()
      t.same({ path .. ": refused: " .. path .. " " .. said .. " mends it\n", 1 }, { out, status })
      t.run("rm " .. path)
    end
    t.write("/etc/luacni/plugins/a b.lua", good)
    assert.matches("^/etc/luacni/plugins/a b.lua: no type can have this name", (checked()))
  end)

  it("looks at files anywhere, by the names they are given with", function()
    local file = "/run/spec/mine.lua"
    t.write(file, "return { add = function() end }")
    t.run("chmod 666 " .. file)
    t.same({ "the only one is fine\n", 0 }, { checked(file) })
    t.write(file, "return { add = function() end, chek = print }")
    t.same({ file .. ": unknown field 'chek' (did you mean 'check'?); a script's table has add, api, args, chained, "
      .. "check, conf, del, doc, gc, ipam, on_link, status\n", 1 }, { checked(file) })
    local out, status = t.sh("cd /run/spec; " .. t.build .. "/luacni check-scripts mine.lua none.lua")
    assert.equal(1, status)
    assert.matches("^mine.lua: unknown field", out)
    assert.matches("none.lua: No such file", out)
    t.write(file, string.dump(function() end))
    assert.matches("it is bytecode", (checked(file)))
    t.write(file, "while true do end")
    out, status = checked(file)
    assert.equal(1, status)
    assert.matches("mine.lua:1: stopped: it ran for more than %d+ seconds", out)
  end)
end)
