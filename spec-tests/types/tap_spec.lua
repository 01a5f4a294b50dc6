-- SPDX-License-Identifier: MIT
-- What plugin `tap` promises: a tap link that a program in the pod opens, owned by whom it
-- should be, in a bridge of the pod if wanted; nothing left of it after DEL or a failed ADD.

local promises = require("promises").for_spec(it)
local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

local with = t.merge

local function tap(conf, opts) return world.new(with({ type = "tap" }, conf), opts) end

local function tap_of(w, name) return t.link(w.pods[1], name or "eth0").linkinfo.info_data end

-- A program of a user's and group's in the pod, which opens the tap and is a machine behind
-- it. Returns what it says once it is through with opening.
local running = {}
local function open(w, user, group, queues)
  t.run("mkdir -p -m 0777 /run/spec/tap; [ -c /run/spec/tap/tun ] || " ..
    "mknod -m 0666 /run/spec/tap/tun c 10 200")
  local name = "/run/spec/tap/" .. #running
  w:in_pod(("setpriv --reuid %d --regid %d --clear-groups %s /run/spec/tap/tun eth0 %d " ..
    "</dev/null >%s.out 2>&1 & echo $! >%s.pid; " ..
    "for i in $(seq 200); do [ -s %s.out ] && exit; sleep 0.05; done; exit 1")
    :format(user, group, t.helper("answer"), queues or 1, name, name, name))
  running[#running + 1] = t.read(name .. ".pid"):match("%d+")
  return t.read(name .. ".out")
end

-- The link has a carrier from the moment on that it is opened; the kernel, and the port of a bridge, take note of
-- that up to a second later.
local function is_answered(w)
  return select(2, t.sh({ "ping", "-n", "-q", "-c", "1", "-w", "5", "10.1.0.9" }, { host = w.pods[1] })) == 0
end

after_each(function()
  for i, pid in ipairs(running) do
    t.sh("kill " .. pid)
    running[i] = nil
  end
  t.run("rm -rf /run/spec/tap")
end)

describe("tap ADD", function()
  it("makes a tap that stays, up, with the addresses and routes of the lease", function()
    local w = tap({ ipam = with(dual, { routes = { { dst = "10.9.0.0/16" } } }) })
    w:add()
    local eth = t.link(w.pods[1], "eth0")
    assert.equal("tun", eth.linkinfo.info_kind)
    t.same({ type = "tap", pi = false, vnet_hdr = false, multi_queue = false, persist = true },
      { type = tap_of(w).type, pi = tap_of(w).pi, vnet_hdr = tap_of(w).vnet_hdr,
        multi_queue = tap_of(w).multi_queue, persist = tap_of(w).persist })
    assert.is_nil(tap_of(w).user)
    assert.is_nil(tap_of(w).group)
    assert.is_true(t.has_flag(eth, "UP"))
    t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
    assert.equal("10.1.0.1", t.ip(w.pods[1], "route show 10.9.0.0/16")[1].gateway)
    assert.equal("1", t.sysctl(w.pods[1], "net/ipv4/conf/eth0/arp_notify"))
    w:check()
  end)

  it("is layer 2 without ipam: up, no address", function()
    local w = tap({})
    local result = w:add()
    t.same({ cniVersion = "1.1.0", interfaces = { { name = "eth0",
      mac = t.link(w.pods[1], "eth0").address, sandbox = w.pods[1].path } } }, result)
    assert.is_true(t.has_flag(t.link(w.pods[1], "eth0"), "UP"))
    t.same({}, world.addrs(w.pods[1], "eth0"))
    w:check()
  end)

  it("gives it owner and group", function()
    local w = tap({ owner = 61000, group = 61001 })
    w:add()
    t.same({ 61000, 61001 }, { tap_of(w).user, tap_of(w).group })
    w:check()
    w:add({ ifname = "net1", conf = { group = false } })
    t.same({ 61000 }, { tap_of(w, "net1").user, tap_of(w, "net1").group })
    w:add({ ifname = "net2", conf = { owner = 0, group = 0 } })
    t.same({ "root", "root" }, { tap_of(w, "net2").user, tap_of(w, "net2").group })
  end)

  it("makes several queues with multiQueue, one without", function()
    local w = tap({ multiQueue = true })
    w:add()
    assert.is_true(tap_of(w).multi_queue)
    w:check()
    w:add({ ifname = "net1", conf = { multiQueue = false } })
    assert.is_false(tap_of(w, "net1").multi_queue)
  end)

  it("uses the MTU, with an owner and without", function()
    for _, who in ipairs { {}, { owner = 61000, group = 61001 }, { owner = 61000 } } do
      local w = tap(with({ mtu = 1300, ipam = v4 }, who))
      w:add()
      assert.equal(1300, t.link(w.pods[1], "eth0").mtu)
      w:check()
      t.cleanup()
    end
    local w = tap({ mtu = 0 })
    w:add()
    assert.equal(1500, t.link(w.pods[1], "eth0").mtu)
  end)

  it("plugs it into a bridge of the pod", function()
    local w = tap({ bridge = "pb0", ipam = v4 })
    w:in_pod("ip link add pb0 type bridge; ip link set pb0 up")
    w:add()
    assert.equal("pb0", t.link(w.pods[1], "eth0").master)
    w:check()
    w:add({ ifname = "net1", conf = { bridge = false } })
    assert.is_nil(t.link(w.pods[1], "net1").master)
  end)

  it("gives the result the dns of the configuration", function()
    local dns = { nameservers = { "10.1.0.53" } }
    t.same(dns, tap({ dns = dns, ipam = v4 }):add().dns)
  end)
end)

describe("tap MAC", function()
  local mac = "0a:00:00:00:00:04"
  local mac_of = promises.mac(tap, { interface = 1, conf = { mac = mac } })

  it("is taken from mac", function() assert.equal(mac, mac_of({})) end)
  it("is taken from mac with owner and group too", function()
    assert.equal(mac, mac_of({ owner = 61000, group = 61001 }))
  end)
end)

describe("a program in the pod", function()
  it("opens the tap as its owner, and frames go both ways", function()
    local w = tap({ owner = 61000, group = 61001, ipam = v4 })
    w:add()
    assert.is_false(t.ping(w.pods[1], "10.1.0.9"))
    assert.equal("open\n", open(w, 61000, 61001))
    assert.is_true(is_answered(w))
    w:check()
  end)

  it("is refused when it is of another user or group", function()
    local w = tap({ owner = 61000, group = 61001, ipam = v4 })
    w:add()
    for _, who in ipairs { { 61002, 61001 }, { 61000, 61002 } } do
      local said = open(w, table.unpack(who))
      assert.truthy(said:find("eth0: Operation not permitted", 1, true), said)
    end
  end)

  it("opens several queues with multiQueue, one at a time without", function()
    local w = tap({ owner = 61000, group = 61001, multiQueue = true, ipam = v4 })
    w:add()
    assert.equal("open\n", open(w, 61000, 61001, 4))
    assert.is_true(is_answered(w))
    t.cleanup()
    w = tap({ owner = 61000, group = 61001, ipam = v4 })
    w:add()
    assert.equal("open\n", open(w, 61000, 61001))
    local said = open(w, 61000, 61001)
    assert.truthy(said:find("busy", 1, true), said)
  end)

  it("reaches the pod's bridge by it", function()
    local w = tap({ owner = 61000, group = 61001, bridge = "pb0" })
    w:in_pod("ip link add pb0 type bridge; ip addr add 10.1.0.7/24 dev pb0; ip link set pb0 up")
    w:add()
    assert.is_false(t.ping(w.pods[1], "10.1.0.9"))
    open(w, 61000, 61001)
    assert.is_true(is_answered(w))
  end)

  it("is no obstacle to DEL", function()
    local w = tap({ owner = 61000, group = 61001, ipam = v4 })
    local before = w:picture()
    w:add()
    open(w, 61000, 61001)
    assert.is_true(is_answered(w))
    w:del()
    t.same(before, w:picture())
    w:del()
  end)
end)

describe("tap CHECK", function()
  local function notices(what, says, sh)
    it("notices that " .. what, function()
      local w = tap({ owner = 61000, group = 61001, bridge = "pb0", multiQueue = true, mtu = 1400,
        mac = "0a:00:00:00:00:01", ipam = dual })
      w:in_pod("ip link add pb0 type bridge; ip link set pb0 up")
      w:add()
      w:check()
      w:in_pod(sh)
      local e = w:fails("CHECK")
      assert.truthy(e.text:find(says), e.text)
    end)
  end
  local again = "; ip link set eth0 address 0a:00:00:00:00:01 mtu 1400 master pb0 up; " ..
    "ip addr add 10.1.0.2/24 dev eth0; ip -6 addr add fd01::2/64 dev eth0 nodad"

  notices("the link is gone", "eth0", "ip link del eth0")
  notices("it is not in the bridge", "pb0", "ip link set eth0 nomaster")
  notices("an address is gone", "10%.1%.0%.2/24", "ip addr del 10.1.0.2/24 dev eth0")
  notices("it is down", "eth0", "ip link set eth0 down")
  notices("the MAC is another", "mac is 0a:00:00:00:00:77",
    "ip link set eth0 address 0a:00:00:00:00:77")
  notices("the owner is another", "owner is 61002, not 61000", "ip link del eth0; " ..
    "ip tuntap add mode tap name eth0 user 61002 group 61001 multi_queue vnet_hdr" .. again)
  notices("it has one queue", "multi_queue is false", "ip link del eth0; " ..
    "ip tuntap add mode tap name eth0 user 61000 group 61001 vnet_hdr" .. again)
  notices("it is a tun", "tun", "ip link del eth0; ip tuntap add mode tun name eth0; " ..
    "ip link set eth0 up")
end)

describe("tap DEL", function()
  promises.del(function() return tap({ owner = 61000, group = 61001, ipam = dual }) end, { more = {
    { "when the link is gone", nil, function(w) w:in_pod("ip link del eth0") end },
  } })

  it("takes it out of the pod's bridge, which stays", function()
    local w = tap({ bridge = "pb0", ipam = v4 })
    w:in_pod("ip link add pb0 address 0a:00:00:00:00:b0 type bridge; ip link set pb0 up")
    w:add()
    w:del()
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.equal("bridge", t.link(w.pods[1], "pb0").linkinfo.info_kind)
  end)
end)

describe("tap GC", function()
  promises.gc(function(pods) return tap({ ipam = dual }, { pods = pods }) end)
end)

describe("tap result", function()
  promises.results(function()
    return tap({ ipam = with(dual, { routes = { { dst = "0.0.0.0/0" } } }) })
  end, { expected = function(w)
    return {
      interfaces = { { name = "eth0", mac = t.link(w.pods[1], "eth0").address,
        sandbox = w.pods[1].path } },
      ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 },
        { address = "fd01::2/64", gateway = "fd01::1", interface = 0 } },
      routes = { { dst = "0.0.0.0/0" } },
    }
  end })
end)

describe("tap with an SELinux context", function()
  it("is made by a program of that context, with all that was asked for", function()
    t.needs("selinux")
    local w = tap({ selinuxContext = "system_u:system_r:container_t:s0", mtu = 1400,
      owner = 61000, group = 61001, multiQueue = true, mac = "0a:00:00:00:00:01", ipam = v4 })
    local before = w:picture()
    w:add()
    local eth = t.link(w.pods[1], "eth0")
    local data = eth.linkinfo.info_data
    t.same({ 1400, "0a:00:00:00:00:01", true, true, 61000, 61001 }, { eth.mtu, eth.address,
      data.multi_queue, data.persist, data.user, data.group })
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("on a kernel without SELinux is a clear error that leaves nothing", function()
    if t.has("selinux") then return end
    local w = tap({ selinuxContext = "system_u:system_r:container_t:s0", ipam = v4 })
    local before = w:picture()
    local e = w:fails("ADD")
    assert.truthy(e.text:find("SELinux", 1, true), e.text)
    assert.truthy(e.text:find("container_t", 1, true), e.text)
    t.same(before, w:picture())
  end)
end)

describe("tap ADD that fails leaves nothing behind:", function()
  local function fails(name, conf, opts)
    promises.fails(name, function() return tap(conf) end, opts)
  end

  fails("no such bridge", { bridge = "pb9", ipam = dual }, { says = "pb9" })
  fails("a bridge that is none", { bridge = "pb0", ipam = dual }, { says = "pb0",
    prepare = function(w) w:in_pod("ip link add pb0 type veth peer name x") end })
  fails("a bridge of the host", { bridge = "hb0", ipam = dual }, { says = "hb0",
    prepare = function(w) w:sh("ip link add hb0 type bridge") end })
  fails("the name is taken", { ipam = dual }, { says = { "eth0", "exists already" },
    prepare = function(w) w:in_pod("ip link add eth0 type veth peer name x") end })

  it("the name is taken by a tap of somebody else's, which stays", function()
    for _, more in ipairs { {}, { multiQueue = true } } do
      local w = tap(with({ owner = 61000, group = 61001, ipam = dual }, more))
      w:in_pod("ip tuntap add mode tap name eth0" .. (more.multiQueue and " multi_queue" or ""))
      local before = w:picture()
      local e = w:fails("ADD")
      assert.truthy(e.text:find("eth0 exists already", 1, true), e.text)
      t.same(before, w:picture())
      t.cleanup()
    end
  end)
  fails("a route whose gateway is out of reach", { owner = 61000, group = 61001,
    ipam = with(dual, { routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) },
    { says = "10.9.0.0/16" })
  fails("a mtu beyond reason", { mtu = 1000000, ipam = v4 }, { says = "mtu" })
  fails("an owner that is a name", { owner = "root" }, { code = 7, says = "owner" })
  fails("an owner below zero", { owner = -1 }, { code = 7, says = "owner" })
  fails("a group beyond 32 bits", { group = 4294967296 }, { code = 7, says = "group" })
  fails("a MAC that is none", { mac = "zz" }, { code = 7, says = "mac" })
end)
