-- SPDX-License-Identifier: MIT
-- The type dhcp, and luacni dhcp, with other servers than dnsmasq: kea and dhcpd; behind a relay; two on a wire.
--
-- Seconds a test takes on the second kernel: 20

local json = require "cni.json"
local t = require "support"
local dhcp = require "dhcp_world"
local on_master = require "on_master"
local servers = require "dhcp_servers"
local world = require "world"

local with = t.with
local program = t.build .. "/luacni"

after_each(function()
  dhcp.stop_all()
  os.remove "/etc/cni/net.d/10-net.conf"
end)

-- A world without a server yet.
local function new(opts)
  return dhcp.new({ ipam = { type = "dhcp", probe = 0 } }, with({ server = false, far = servers.far }, opts))
end

local function path(ifname) return "/run/luacni/dhcp/net/c1:" .. (ifname or "eth0") end
local function lease(ifname) return json.decode(assert(t.read(path(ifname)), "there is no lease")) end

-- As if so many seconds had gone by.
local function wait(seconds)
  local now = lease()
  for _, key in ipairs { "granted", "renew_at", "rebind_at", "expires_at", "tried_at" } do
    now[key] = now[key] and now[key] - seconds
  end
  t.write(path(), json.note(now))
end

-- Renew what is due; returns what is said of the one lease: twice, where another one is got in its place.
local function renew(w)
  local out, code, err = t.sh({ program, "dhcp", "renew", "--json" }, { host = w.host })
  assert.equal(0, code, out .. err)
  return table.unpack(json.decode(out).leases)
end

-- Count packets to servers in a namespace: by broadcast, and from the leased address to that of the server.
local function count_packets(ns, server)
  t.run(([[nft 'table ip seen {
    counter unicast { }
    counter broadcast { }
    chain c {
      type filter hook prerouting priority -400
      ip saddr 10.9.0.0/24 ip daddr %s udp sport 68 udp dport 67 counter name unicast
      ip daddr 255.255.255.255 udp dport 67 counter name broadcast
    }
  }']]):format(server), { host = ns })
  return function()
    local function of(name) return t.run("nft list counter ip seen " .. name, { host = ns }):match "packets (%d+)" end
    return of "unicast" .. " " .. of "broadcast"
  end
end

local function conf_file(w) t.write("/etc/cni/net.d/10-net.conf", t.json(w:config())) end

local full <const> = { routers = "10.9.0.1", ["domain-name-servers"] = "10.9.0.1, 10.9.0.2",
  ["domain-name"] = '"example.net"', ["interface-mtu"] = "1400",
  ["classless-routes"] = "16, 10, 50, 10, 9, 0, 7, 0, 10, 9, 0, 1" }

for _, server in ipairs { servers.kea, servers.dhcpd } do
  local function served(opts, more)
    local w = new(with({ needs = { "macvlan", server.needs } }, more))
    w.server = server.serve(w, opts)
    return w
  end

  -- The server ends, and another is there in its place.
  local function replaced(w, opts)
    dhcp.stop(w.server)
    w.server = server.serve(w, opts)
  end

  describe("The type dhcp with " .. server.name, function()
    it("gets address, router, resolvers, routes and MTU, and gives the address back", function()
      local w = served { options = full }
      local before = on_master.glance(w)
      local result = w:add()
      t.same({ { address = "10.9.0.10/24", gateway = "10.9.0.1", interface = 0 } }, result.ips)
      t.same({ { dst = "10.50.0.0/16", gw = "10.9.0.7" }, { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
      t.same({ nameservers = { "10.9.0.1", "10.9.0.2" }, domain = "example.net" }, result.dns)
      assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
      assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
      local now = lease()
      local lasts = now.expires_at - now.granted
      assert.is_true(lasts > 3500 and lasts <= 3600, lasts)
      t.same({ "10.9.0.10" }, server.given())
      w:check()
      w:del()
      servers.await_given(server, 0)
      on_master.unchanged(w, before)
    end)

    it("asks it alone at half of the time, and anybody at seven eighths", function()
      local w = served()
      w:add()
      local count = count_packets(w.far, "10.9.0.1")
      wait(1801)
      assert.equal("renewed", renew(w).done)
      assert.equal("1 0", count())
      wait(3151)
      assert.equal("renewed", renew(w).done)
      assert.equal("1 1", count())
      t.same({ "10.9.0.10" }, server.given())
      w:check()
      w:del()
      servers.await_given(server, 0)
    end)

    it("gives an address up that it refuses to renew, and gets another", function()
      local w = served()
      conf_file(w)
      w:add()
      replaced(w, { first = 11, refused = "10.9.0.10", keeps = true })
      wait(1801)
      local gone, told = renew(w)
      t.same({ "given up", "10.9.0.10/24" }, { gone.done, gone.address })
      t.same({ "anew", "10.9.0.11/24" }, { told.done, told.address })
      t.same({ "10.9.0.11/24" }, world.addrs(w.pods[1], "eth0"))
      assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
      w:del { prev = false }
      servers.await_given(server, 0)
    end)

    it("has two leases for two interfaces of a container", function()
      local w = served()
      w:add()
      w:add { ifname = "eth1" }
      t.same({ "10.9.0.10", "10.9.0.11" }, server.given())
      w:del()
      t.same({ "10.9.0.11" }, server.given())
      w:check { ifname = "eth1" }
      assert.equal("10.9.0.11/24", lease("eth1").address)
      w:del { ifname = "eth1" }
      servers.await_given(server, 0)
    end)

    it("gives the address back where the file of the lease is lost", function()
      local w = served()
      w:add()
      os.remove(path())
      w:del()
      servers.await_given(server, 0)
    end)
  end)

  describe("The type dhcp with a relay before " .. server.name, function()
    local function relayed()
      local w = new { needs = { "macvlan", "dhcrelay", server.needs }, far = servers.far
        .. "; echo 1 >/proc/sys/net/ipv4/ip_forward" }
      local beyond = t.netns("beyond", { lo = "up" })
      t.run("ip link add r0 type veth peer name s0 netns beyond; ip addr add 10.8.0.2/24 dev r0; ip link set r0 up",
        { host = w.far })
      t.run("ip addr add 10.8.0.1/24 dev s0; ip link set s0 up; ip route add 10.9.0.0/24 via 10.8.0.2",
        { host = beyond })
      w.beyond = beyond
      w.server = server.serve(w, { ns = beyond, wire = "s0", address = "10.8.0.1", relayed = "10.8.0.0" })
      w.relay = servers.relay(w, "up0", "r0", "10.8.0.1")
      return w
    end

    it("gets an address, renews it with the server itself, and gives it back there", function()
      local w = relayed()
      local before = on_master.glance(w)
      assert.equal("10.9.0.10/24", w:add().ips[1].address)
      assert.equal("10.8.0.1", lease().server)
      w:check()
      local count = count_packets(w.beyond, "10.8.0.1")
      wait(1801)
      assert.equal("renewed", renew(w).done)
      assert.equal("1 0", count())
      w:del()
      servers.await_given(server, 0)
      assert.equal("2 0", count())
      on_master.unchanged(w, before)
    end)

    it("asks by broadcast at seven eighths, which the relay passes on", function()
      local w = relayed()
      w:add()
      wait(3151)
      assert.equal("renewed", renew(w).done)
      w:check()
      w:del()
      servers.await_given(server, 0)
    end)
  end)
end

describe("The type dhcp with kea", function()
  it("keeps for ever what it gets for ever, and asks nobody", function()
    local w = new { needs = { "macvlan", "kea" } }
    servers.kea.serve(w, { seconds = servers.forever })
    w:add()
    assert.is_nil(lease().expires_at)
    wait(1e9)
    assert.is_nil((renew(w)))
    w:check()
    w:del()
    servers.await_given(servers.kea, 0)
  end)
end)

describe("The type dhcp with dhcpd", function()
  it("gets its former address in an ADD after the DEL", function()
    local w = new { needs = { "macvlan", "dhcpd" }, pods = 2 }
    servers.dhcpd.serve(w)
    w:add { id = "c2", pod = 2 }
    local former = w:add().ips[1].address
    w:del { id = "c2", pod = 2 }
    w:del()
    servers.await_given(servers.dhcpd, 0)
    assert.equal(former, w:add().ips[1].address)
  end)
end)

-- What each of two servers gives, and calls itself by.
local both <const> = {
  { server = servers.dhcpd, name = "first", address = "10.9.0.1", first = 10, last = 20 },
  { server = servers.kea, name = "second", address = "10.9.0.2", first = 30, last = 40 },
}

-- A world with both of them. mine, other: what is different with these
local function with_both(i, mine, other)
  local w = new { needs = { "macvlan", "dhcpd", "kea" }, wire = "b0", far = servers.far
    .. "; ip link add b0 type bridge; ip link set b0 up; ip link set up0 master b0" }
  local second = t.netns("second", { lo = "up" })
  t.run("ip link add b1 type veth peer name s0 netns second; ip link set b1 master b0 up", { host = w.far })
  t.run("ip addr add 10.9.0.2/24 dev s0; ip link set s0 up", { host = second })
  local place = { first = { ns = w.far, wire = "b0" }, second = { ns = second, wire = "s0" } }
  local one, two = with(both[i], mine), with(both[3 - i], other)
  one, two = with(one, place[one.name]), with(two, place[two.name])
  for _, opts in ipairs { one, two } do opts.pid = opts.server.serve(w, opts) end
  return w, one, two
end

local function given_by(which) return which.server.given(which.name) end

describe("The type dhcp with two servers on a wire", function()
  for i, which in ipairs(both) do
    local name = which.server.name

    it("takes what " .. name .. " offers where that comes first, and the other keeps nothing", function()
      local w, one, two = with_both(i)
      t.run("kill -STOP " .. two.pid)
      w:add()
      assert.equal(one.address, lease().server)
      t.run("kill -CONT " .. two.pid)
      t.run(servers.heard(two.server, 2, two.name))
      t.same({ "10.9.0." .. one.first }, given_by(one))
      t.same({}, given_by(two))
      wait(1801)
      assert.equal("renewed", renew(w).done)
      assert.equal(one.address, lease().server)
      w:del()
      servers.await_given(one.server, 0, one.name)
    end)

    it("gives back what " .. name .. " has where the file is lost, though the other is the first to offer", function()
      local w, one, two = with_both(i)
      t.run("kill -STOP " .. two.pid)
      w:add()
      os.remove(path())
      t.run(("kill -CONT %s; kill -STOP %s"):format(two.pid, one.pid))
      t.run(servers.heard(two.server, 2, two.name))
      dhcp.start(("{ %s; sleep 0.05; kill -CONT %s; }"):format(servers.heard(two.server, 3, two.name), one.pid), w.far)
      w:del()
      servers.await_given(one.server, 0, one.name)
      t.same({}, given_by(two))
    end)

    it("is served by the other in the end where " .. name .. " is gone", function()
      local w, one, two = with_both(i)
      conf_file(w)
      t.run("kill -STOP " .. two.pid)
      w:add()
      t.run("kill -CONT " .. two.pid)
      dhcp.stop(one.pid)
      wait(3601)
      local gone, told = renew(w)
      t.same({ "given up", "10.9.0." .. one.first .. "/24" }, { gone.done, gone.address })
      assert.equal("anew", told.done)
      assert.equal(two.address, lease().server)
      t.same(given_by(two), { (world.addrs(w.pods[1], "eth0")[1]:gsub("/24$", "")) })
      w:del { prev = false }
      servers.await_given(two.server, 0, two.name)
    end)
  end

  it("takes no offer of dhcpd's that has no mask, but kea's", function()
    local w, one, two = with_both(1, { options = { ["subnet-mask"] = "0.0.0.0" } })
    t.run("kill -STOP " .. two.pid)
    dhcp.start(("{ %s; sleep 0.05; kill -CONT %s; }"):format(servers.heard(one.server, 1, one.name), two.pid), w.far)
    w:add()
    assert.equal(two.address, lease().server)
    t.same({}, given_by(one))
    w:check()
    w:del()
    servers.await_given(two.server, 0, two.name)
  end)
end)
