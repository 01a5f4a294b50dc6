-- SPDX-License-Identifier: MIT
-- What plugin `macvlan` promises: a link of its own MAC on the wire of a host's link, and a shim
-- by which the host reaches it.

local system = require "system"
local t = require "support"
local world = require "world"
local on_master = require "on_master"

local glance, refused, unchanged = on_master.glance, on_master.refused, on_master.unchanged
local dual = on_master.dual

local neighbour = "ip addr add 10.1.0.250/24 dev up0; ip -6 addr add fd01::fa/64 dev up0 nodad"

on_master.promises({ describe = describe, it = it }, {
  needs = "macvlan", conf = { type = "macvlan" }, second = {}, finds = true, optional_ipam = true,
  far = neighbour, wire = "up0",
  other = { "ip link set eth0 type macvlan mode vepa", "mode is vepa, not bridge" },
  like = "nsenter --net=/run/netns/host ip link add link up1 name like0 netns pod1 " ..
    "address @MAC@ type macvlan mode bridge; ip link set like0 name eth0",
})

local function macvlan(conf, opts)
  return world.new(t.with({ type = "macvlan", master = "up0", enabledad = false,
    ipam = dual }, conf), t.with({ far = true, pods = 2 }, opts))
end

local second = { id = "c2", pod = 2 }

local function data_of(w, pod) return t.link(w.pods[pod or 1], "eth0").linkinfo.info_data end

describe("macvlan mode", function()
  local function pair_of(mode)
    t.needs("macvlan")
    local w = macvlan({ mode = mode })
    t.run(neighbour, { host = w.far })
    w:add()
    w:add(second)
    assert.equal(mode or "bridge", data_of(w).mode)
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    w:check()
    w:check(second)
    return w
  end

  -- A bridge in the neighbour that sends frames back where they came from. Who was asked for
  -- without it is asked for again at once.
  local function reflect(w)
    t.run("ip link add br9 type bridge; ip link set br9 up; ip link set up0 master br9; " ..
      "bridge link set dev up0 hairpin on", { host = w.far })
    w:in_pod("ip neigh flush dev eth0")
  end

  it("bridge is the default: the links of one master reach each other", function()
    local w = pair_of(nil)
    assert.is_true(t.ping(w.pods[1], "10.1.0.3"))
    assert.is_true(t.ping(w.pods[1], "fd01::3"))
    assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.pods[2], "10.1.0.3"))
  end)

  it("private: they do not, not even by a switch that reflects", function()
    local w = pair_of("private")
    assert.is_false(t.ping(w.pods[1], "10.1.0.3"))
    reflect(w)
    assert.is_false(t.ping(w.pods[1], "10.1.0.3"))
  end)

  it("vepa: they do by a switch that reflects, and not without", function()
    local w = pair_of("vepa")
    assert.is_false(t.ping(w.pods[1], "10.1.0.3"))
    reflect(w)
    assert.is_true(t.ping(w.pods[1], "10.1.0.3"))
  end)

  it("passthru has the master and its MAC for itself", function()
    t.needs("macvlan")
    local w = macvlan({ mode = "passthru" })
    t.run(neighbour, { host = w.far })
    local before = glance(w)
    local mac = t.link(w.host, "up0").address
    assert.equal(mac, w:add().interfaces[1].mac)
    assert.equal(mac, t.link(w.pods[1], "eth0").address)
    assert.equal("passthru", data_of(w).mode)
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    w:check()
    refused(w, { second, nil, "up0", "eth0 of container c1", "passthru" },
      { { id = "c2", pod = 2, conf = { mode = "bridge" } }, nil, "up0", "eth0 of container c1",
        "passthru" })
    w:del()
    unchanged(w, before)
    -- A MAC of its own becomes the master's too, for as long as it is there.
    local own = { args = "MAC=02:00:00:00:00:55" }
    assert.equal("02:00:00:00:00:55", w:add(own).interfaces[1].mac)
    assert.equal("02:00:00:00:00:55", t.link(w.pods[1], "eth0").address)
    assert.equal("02:00:00:00:00:55", t.link(w.host, "up0").address)
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    w:check(own)
    w:del(own)
    unchanged(w, before)
    w:add({ conf = { mode = "bridge" } })
    refused(w, { second, nil, "up0", "eth0 of container c1", "passthru" })
  end)

  it("that is none is an error which asks for the nearest", function()
    t.needs("macvlan")
    refused(macvlan({}),
      { { conf = { mode = "bridged" } }, 7, "mode", "bridged", '"bridge"?' },
      { { conf = { mode = "Private" } }, 7, "mode", "Private", '"private"?' },
      { { conf = { mode = "source" } }, 7, "mode", "source" })
  end)
end)

describe("macvlan ADD", function()
  it("takes its mac and bcqueuelen; other places of a MAC count before it", function()
    t.needs("macvlan")
    local w = macvlan({ mac = "02:00:00:00:00:0a", bcqueuelen = 1234 })
    assert.equal("02:00:00:00:00:0a", w:add().interfaces[1].mac)
    assert.equal("02:00:00:00:00:0a", t.link(w.pods[1], "eth0").address)
    assert.equal(1234, data_of(w).bc_queue_len or data_of(w).bcqueuelen)
    w:check()
    w:del()
    local c = { args = "MAC=02:00:00:00:00:0b", conf = { bcqueuelen = false } }
    assert.equal("02:00:00:00:00:0b", w:add(c).interfaces[1].mac)
    assert.equal(1000, data_of(w).bc_queue_len or data_of(w).bcqueuelen)
    refused(w, { { id = "c2", pod = 2, conf = { mac = "02:00" } }, 7, "mac", "02:00" },
      { { id = "c2", pod = 2, conf = { bcqueuelen = -1 } }, 7, "bcqueuelen", "-1" })
  end)

  it("chooses a MAC of its own when none is given: local, and not twice the same", function()
    t.needs("macvlan")
    local w = macvlan({})
    local one, two = w:add().interfaces[1].mac, w:add(second).interfaces[1].mac
    assert.not_equal(one, two)
    assert.not_equal(one, t.link(w.host, "up0").address)
    assert.equal(2, tonumber(one:sub(1, 2), 16) & 3)
  end)

  it("without ipam brings the link up and gives it nothing", function()
    t.needs("macvlan")
    local w = macvlan({ ipam = false })
    local before = glance(w)
    local result = w:add()
    t.same({ cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "/run/netns/pod1",
      mac = t.link(w.pods[1], "eth0").address } } }, result)
    assert.is_true(t.has_flag(t.link(w.pods[1], "eth0"), "UP"))
    t.same({}, world.addrs(w.pods[1], "eth0"))
    w:check()
    w:ok("STATUS")
    w:del()
    unchanged(w, before)
  end)

  it("names what has the master: a bridge, or links of another kind", function()
    t.needs("macvlan")
    local w = macvlan({})
    w:sh("ip link add br9 type bridge; ip link set up0 master br9")
    refused(w, { {}, nil, "up0 is a port of br9", "name that one" })
    w:sh("ip link set up0 nomaster; ip link del br9")
    w:add()
  end)
end)

describe("macvlan shim", function()
  it("lets the host reach its containers, who do not without it", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    local before = glance(w)
    w:add({ conf = { shim = false } })
    w:sh("ip addr add 10.1.0.99/24 dev up0; ip -6 addr add fd01::63/64 dev up0 nodad")
    assert.is_false(t.ping(w.host, "10.1.0.2"))
    assert.is_false(t.ping(w.pods[1], "10.1.0.99"))
    w:del({ conf = { shim = false } })
    local c = { conf = { ipam = on_master.fixed } }
    w:add(c)
    for _, address in ipairs({ "10.1.0.2", "fd01::2" }) do
      assert.is_true(t.ping(w.host, address), address)
    end
    assert.is_true(t.ping(w.pods[1], "10.1.0.99"))
    assert.is_true(t.ping(w.pods[1], "fd01::63"))
    -- The first address of the host is 192.0.2.1, which the container knows no way to.
    assert.equal("10.1.0.99", t.tcp_source(w.host, w.pods[1], "10.1.0.2"))
    local shim = t.link(w.host, "shim0")
    assert.equal("up0", shim.link)
    assert.equal("bridge", shim.linkinfo.info_data.mode)
    w:check(c)
    w:del(c)
    assert.is_false(t.ping(w.host, "10.1.0.2"))
    w:sh("ip addr del 10.1.0.99/24 dev up0; ip -6 addr del fd01::63/64 dev up0")
    unchanged(w, before)
  end)

  local function routes(w)
    local dst = {}
    for _, family in ipairs({ "-4", "-6" }) do
      for _, route in ipairs(t.ip(w.host, family .. " route show dev shim0")) do
        if route.protocol ~= "kernel" then dst[#dst + 1] = route.dst end
      end
    end
    return dst
  end

  it("goes with the last container, its routes with each", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    w:sh("ip addr add 10.1.0.99/24 dev up0; ip -6 addr add fd01::63/64 dev up0 nodad")
    local before = glance(w)
    w:add()
    w:add(second)
    assert.is_true(t.ping(w.host, "fd01::3"))
    t.same({ "10.1.0.2", "10.1.0.3", "fd01::2", "fd01::3" }, routes(w))
    w:del()
    t.same({ "10.1.0.3", "fd01::3" }, routes(w))
    assert.is_true(t.ping(w.host, "10.1.0.3"))
    assert.is_true(t.ping(w.pods[2], "fd01::63"))
    w:check(second)
    t.remove_netns(w.pods[2])
    w:del({ id = "c2", pod = false })
    assert.is_nil(t.link(w.host, "shim0"))
    t.netns("pod2")
    w:in_pod("ip link set lo up; ip link set lo down", 2)
    -- What was in the namespace that is gone holds on to its master a little longer.
    for _ = 1, 50 do
      if #t.differences(before, glance(w)) == 0 then break end
      system.sleep(0.02)
    end
    unchanged(w, before)
  end)

  it("goes with a failed ADD and with GC, if that was the only user", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    local before = glance(w)
    refused(w, { { conf = { ipam = t.with(dual, {
      routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } }, nil, "172.16.0.1" })
    w:add()
    refused(w, { { id = "c2", pod = 2, conf = { ipam = t.with(dual, {
      routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } }, nil, "172.16.0.1" })
    assert.truthy(t.link(w.host, "shim0"))
    w:gc({})
    unchanged(w, before)
  end)

  it("keeps an address that somebody put on it", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    w:add()
    w:sh("ip addr add 10.1.0.77/32 dev shim0")
    w:del()
    t.same({ "10.1.0.77/32" }, world.addrs(w.host, "shim0"))
    w:add(second)
    w:del(second)
    t.same({ "10.1.0.77/32" }, world.addrs(w.host, "shim0"))
    w:sh("ip addr del 10.1.0.77/32 dev shim0")
    w:add()
    w:del()
    assert.is_nil(t.link(w.host, "shim0"))
  end)

  it("of somebody else is used and left; one on another master is an error", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    w:sh("ip link add link up0 name shim0 type macvlan mode bridge; " ..
      "ip link set shim0 addrgenmode none up; ip addr add 10.1.0.99/24 dev shim0")
    local before = glance(w)
    w:add()
    assert.is_true(t.ping(w.host, "10.1.0.2"))
    w:del()
    unchanged(w, before)
    w:sh("ip link del shim0; ip link add up1 type veth peer name up2; " ..
      "ip link add link up1 name shim0 type macvlan mode bridge")
    refused(w, { {}, 7, "shim0", "another link than up0" })
    w:sh("ip link del shim0; ip link add shim0 type veth peer name other")
    refused(w, { {}, 7, "shim0", "veth" })
  end)

  it("goes when the master is gone, record or not", function()
    t.needs("macvlan")
    local w = macvlan({ shim = "shim0" })
    w:sh("ip link add up1 type veth peer name up2; ip link set up2 up; ip link set up1 up")
    local on_up1 = { conf = { master = "up1" } }
    w:add(on_up1)
    t.run("rm -rf /run/luacni")
    w:del(on_up1)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    w:sh("ip link del shim0 2>&- || :")
    w:add(on_up1)
    w:sh("ip link del up1")
    assert.is_nil(t.link(w.host, "shim0"))
    w:del(on_up1)
    assert.is_nil(world.lease("10.1.0.3"))
  end)

  it("needs the mode bridge and a master in the host", function()
    t.needs("macvlan")
    refused(macvlan({ shim = "shim0" }),
      { { conf = { mode = "private" } }, 7, "shim needs the mode bridge" },
      { { conf = { linkInContainer = true } }, 7, "shim", "linkInContainer" },
      { { conf = { shim = "a/b" } }, 7, "shim" },
      { { conf = { shim = "up0" } }, 7, "up0" })
  end)
end)
