-- SPDX-License-Identifier: MIT
-- What an ADD has accepted, the CHECK straight after it is content with. The kernel says "done" to some requests
-- and does something else, or nothing: those are refused when they are made, with the reason and nothing
-- changed. Beside each stands what is right.

local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/own.lua"
local frame = [[
return { add = function(req)
  local host, pod = req.host, req.pod
  local port, eth = host:add_veth { name = "port0", peer = { ns = pod, name = req.ifname } }
  host:set_link(port, { up = true }) pod:set_link(eth, { up = true })
  STEP
  return { interfaces = { port, eth } }
end }
]]

local host_side = [[
ip link add br0 type bridge; ip link set br0 up
ip link add q0 type veth peer name q1; ip link set q0 master br0 up; ip link set q1 up
ip addr add 192.0.2.1/24 dev q1
]]

-- Each: what is refused, and how; and what is right.
local cases = {
  { "pod:add_addr(eth, '0.0.0.0/24')", "add_addr: address: 0.0.0.0/24 is no address that a link can have",
    "pod:add_addr(eth, '10.0.0.0/24')" },
  { "host:ensure_addr('br0', '0.0.0.0/24')", "ensure_addr: address: 0.0.0.0/24 is no address that a link can have",
    "host:ensure_addr('br0', '10.0.0.1/24')" },
  { "host:add_neigh('lo', { dst = '192.0.2.5', mac = '02:00:00:00:00:05' })", "add_neigh: add neighbour 192.0.2.5 at "
    .. "02:00:00:00:00:05 on lo: lo has no neighbours, it is a loopback link",
    "host:add_neigh('q1', { dst = '192.0.2.5', mac = '02:00:00:00:00:05' })" },
  { "host:add_neigh('tun0', { dst = 'fd00::5', mac = '02:00:00:00:00:05' })", "add_neigh: add neighbour fd00::5 at "
    .. "02:00:00:00:00:05 on tun0: tun0 has no hardware addresses, and asks for nobody's",
    "host:add_neigh('tun0', { dst = 'fd00::5', proxy = true })",
    host = "ip tuntap add tun0 mode tun; ip link set tun0 up" },
  { "host:add_neigh('q1', { dst = '192.0.2.5', mac = '02:00:00:00:00:05:06:07' })", "add_neigh: add neighbour 192.0.2.5 "
    .. "at 02:00:00:00:00:05:06:07 on q1: hardware addresses on q1 are as long as its own, %x[%x:]+",
    "host:add_neigh('q1', { dst = 'fd00::5', mac = '02:00:00:00:00:0A', router = true })" },
  { "pod:add_neigh(eth, { dst = '10.0.0.5', mac = '02:00:00:00:00:05' }) pod:set_link(eth, { mac = '02:00:00:00:00:09' })",
    "set_link: mac: eth0 loses its neighbours with this, which it has been given before: change it first",
    "pod:set_link(eth, { mac = '02:00:00:00:00:09' }) pod:add_neigh(eth, { dst = '10.0.0.5', mac = '02:00:00:00:00:05' })" },
  { "pod:add_route { dst = '10.8.0.0/16', link = eth } pod:set_link(eth, { up = false })",
    "set_link: up: eth0 loses its routes with this, which it has been given before: change it first",
    "pod:set_link(eth, { up = false }) pod:set_link(eth, { up = true }) pod:add_route { dst = '10.8.0.0/16', link = eth }" },
  { "pod:add_addr(eth, 'fd00::5/64') pod:set_link(eth, { up = false })",
    "set_link: up: eth0 loses its addresses of IPv6 with this, which it has been given before: change it first",
    "pod:add_addr(eth, '10.0.0.5/24') pod:set_link(eth, { up = false })" },
  { "host:add_fdb('q0', { mac = '02:00:00:00:00:05', master = true, dst = '10.0.0.1' })",
    "add_fdb: dst: is of a tunnel, and master = true of a bridge's port",
    "host:add_fdb('q0', { mac = '02:00:00:00:00:05', master = true })" },
  { "host:ensure_fdb('q0', { mac = '02:00:00:00:00:05', dst = '10.0.0.1' })", "ensure_fdb: add forwarding of "
    .. "02:00:00:00:00:05 by q0 to 10.0.0.1: q0 is no tunnel, and dst, vni and port are of one",
    "host:ensure_fdb('q0', { mac = '02:00:00:00:00:05' })" },
  { "host:add_fdb('x0', { mac = '02:00:00:00:00:05', dst = '192.0.2.9', vlan = 5 })", "add_fdb: add forwarding of "
    .. "02:00:00:00:00:05 in VLAN 5 by x0 to 192.0.2.9: x0 is a tunnel, and vlan is of a bridge",
    "host:add_fdb('x0', { mac = '00:00:00:00:00:00', dst = '192.0.2.9', vni = 9 }) "
    .. "host:add_fdb('x0', { mac = '00:00:00:00:00:00', dst = '192.0.2.9', vni = 10 }) "
    .. "host:add_fdb('x0', { mac = '00:00:00:00:00:00', dst = '192.0.2.9', port = 4444, vni = 7 })",
    host = "ip link add x0 type vxlan id 7 dstport 4789 dev q1", needs = "vxlan" },
  { "host:add_rule { ip_proto = 0, table = 5 }", "add_rule: ip_proto: 0 selects nothing: the kernel takes it for none",
    "host:add_rule { ip_proto = 6, table = 5, priority = 0 }" },
  { "host:add_rule { from = '10.1.0.5', to = 'fd00::1', table = 5 }",
    "add_rule: to: fd00::1/128 is not of the family of the rule, inet", "host:add_rule { fwmark = 0, table = 5 }" },
  { "host:add_rule { from = '10.1.0.5', family = 'inet6', table = 5 }",
    "add_rule: from: 10.1.0.5/32 is not of the family of the rule, inet6", "host:add_rule { fwmask = 5, table = 5 }" },
  { "pod:add_route { dst = '10.8.0.0/16', link = eth, mtu = 70000 }", "add_route: mtu: 70000 is above 65520",
    "pod:add_route { dst = '10.8.0.0/16', link = eth, mtu = 65520, advmss = 65495 }" },
  { "host:ensure_route { dst = '10.8.0.0/16', link = 'q1', advmss = 65500 }", "ensure_route: advmss: 65500 is above 65495",
    "host:ensure_route { dst = '10.8.0.0/16', link = 'q1', gw = '0.0.0.0', tos = 8 }" },
  { "host:set_sysctl { { 'net/ipv4/conf/q1/proxy_arp', '0x1' } }", "set_sysctl: sysctl net/ipv4/conf/q1/proxy_arp = 0x1: "
    .. 'the kernel has made "1" of it, write that',
    "host:set_sysctl { { 'net/ipv4/ip_local_port_range', '20000   30000' } }" },
  { "host:set_sysctl({ { 'net/ipv4/neigh/port0/retrans_time_ms', '1001' } }, { link = port })",
    'set_sysctl: sysctl net/ipv4/neigh/port0/retrans_time_ms = 1001: the kernel has made "%d+" of it, write that',
    "host:set_sysctl({ { 'net/ipv4/neigh/port0/retrans_time_ms', '1000' } }, { link = port })" },
  { "host:set_sysctl { { 'net/ipv4/route/flush', '1' } }", "set_sysctl: sysctl net/ipv4/route/flush = 1: the kernel does "
    .. "not show it, so that CHECK could not compare it, and DEL not give it back",
    "host:lock_down(port) host:set_sysctl({ { 'net/ipv6/conf/port0/accept_ra', '1' } }, { link = port })" },
  { "host:set_sysctl { { 'net/ipv4/conf/q1/arp_filter', 'banana', true } }",
    "set_sysctl: sysctl in the host: net/ipv4/conf/q1/arp_filter=banana: sysctl net/ipv4/conf/q1/arp_filter = banana: "
    .. "Invalid argument", "host:set_sysctl { { 'net/ipv4/conf/q1/banana', '1', true } }" },
  { "host:set_sysctl { { 'net/ipv4/tcp_congestion_control', 'banana' } }",
    "set_sysctl: sysctl in the host: net/ipv4/tcp_congestion_control=banana: sysctl "
    .. "net/ipv4/tcp_congestion_control = banana: Invalid argument",
    "host:set_sysctl { { 'net/ipv4/tcp_congestion_control', 'reno' } }" },
  { "host:add_link { name = 'v9', kind = 'bridge', ageing_time = 31 }", "add_link: create bridge link v9 in the host: the "
    .. "kernel does not keep ageing_time as asked for, 31: it has made 30 of it",
    "host:add_link { name = 'v9', kind = 'bridge', ageing_time = 3000, mac = '02:00:00:00:00:0B' }" },
  -- What a script sets anew counts as it is at the end.
  { "host:set_link(port, { alias = 7 })", "set_link: alias: expected a string, got a number",
    "host:set_link('q1', { mtu = 1400, mac = '02:00:00:00:00:0A', alias = '' }) host:set_link('q1', { mtu = 1300 }) "
    .. "host:set_link(port, { master = 'br0' }) host:set_link(port, { master = 0 })" },
}

describe("What an ADD has accepted", function()
  for _, case in ipairs(cases) do
    it("the CHECK after it is content with: not " .. case[1], function()
      t.needs(case.needs)
      t.wipe()
      local function write(step) t.write(path, (frame:gsub("STEP", function() return step end))) end
      local w = world.new({ type = "own" }, { neighbours = false, lived_in = false })
      w:sh(host_side .. (case.host or ""))
      local function entries() return (t.sh("ip neigh show nud permanent", { host = w.host })) end
      local before, known = w:picture(), entries()
      write(case[1])
      local e = w:fails("ADD", { type = "luacni" })
      local place = path .. ":5: "
      assert.equal(place, e.msg:sub(1, #place))
      local said = e.msg:sub(#place + 1)
      assert.is_truthy(said == case[2] or said:find("^" .. case[2] .. "$"), said)
      t.same(before, w:picture())
      assert.equal(known, entries())
      write(case[3])
      w:ok("ADD", { type = "luacni" })
      w:ok("CHECK", { type = "luacni" })
      w:ok("DEL", { type = "luacni" })
      t.same(before, w:picture())
      assert.equal(known, entries())
    end)
  end
end)
