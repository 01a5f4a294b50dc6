-- SPDX-License-Identifier: MIT
-- netlink.ns.frames and netlink.ns.datagrams: packets of a namespace, sent and heard. The other end is played by
-- socat, ping, and nft, which counts.

local netlink = require "netlink"
local t = require "support"
local ns, sys = netlink.ns, netlink.sys

local ip_type <const>, arp_type <const> = 0x0800, 0x0806
local all_macs <const> = ("\255"):rep(6)
local own, peer = "\10\1\0\1", "\10\1\0\2"

local host, pod
local wires = {}

-- A wire that is closed behind the test.
local function keep(wire, msg)
  wires[#wires + 1] = assert(wire, msg)
  return wire
end

local function fails(errno, ...)
  local ok, msg, got = ...
  assert.is_nil(ok)
  assert.is_string(msg)
  assert.equal(sys.errno[errno], got, msg)
end

local function mistake(f, ...) assert.is_false((pcall(f, ...)), "no error was raised") end

local function index_of(where, name) return t.link(where, name).ifindex end
local function mac_of(where, name)
  return (t.link(where, name).address:gsub("%x%x:?", function(x) return string.char(tonumber(x:sub(1, 2), 16)) end))
end

local function frames(where, name, ...) return keep(ns.frames(where.path, index_of(where, name), ...)) end
local function host_frames(...) return frames(host, "v0", ip_type, ...) end
local function pod_frames(...) return frames(pod, "eth0", ip_type, ...) end

local function descriptors() return #sys.list "/proc/self/fd" end
local function where_we_are() return sys.readlink "/proc/self/ns/net" end

local function checksum(bytes)
  local total = 0
  for i = 1, #bytes, 2 do total = total + string.unpack(">I2", bytes, i) end
  while total > 0xffff do total = (total & 0xffff) + (total >> 16) end
  return ~total & 0xffff
end

-- A packet of IPv4 from the host to the pod, or as `more` says.
local function packet(more)
  more = more or {}
  local options, body = more.options or "", more.body or "text"
  local payload = string.pack(">I2I2I2I2", more.from_port or 1000, more.port or 68, 8 + #body, 0) .. body
  local function head(check)
    return string.pack(">BBI2I2I2BBI2c4c4", 0x45 + #options // 4, 0, 20 + #options + #payload, 7, more.fragment or 0,
      64, more.protocol or 17, check, more.from or own, more.to or peer) .. options
  end
  return head(checksum(head(0))) .. payload
end

-- A datagram by socat, which speaks as a program does.
local function say(where, text, to, port)
  t.run({ "socat", "-u", "-", ("UDP4-SENDTO:%s:%d"):format(to, port) }, { host = where, stdin = text })
end

-- Count what comes in and fits; returns how to ask how many there were.
local function counter(where, rule)
  t.run(([[nft 'table ip seen {
    counter fits { }
    chain c { type filter hook prerouting priority -400; %s counter name fits; }
  }']]):format(rule), { host = where })
  return function() return tonumber(t.run("nft list counter ip seen fits", { host = where }):match "packets (%d+)") end
end

-- A packet may still be under way to who counts it.
local function comes_to(count, want)
  for _ = 1, 100 do
    if count() >= want then break end
    sys.sleep(10)
  end
  assert.equal(want, count())
end

local function is_up(where, name) return t.link(where, name).operstate == "UP" end

before_each(function()
  host, pod = t.netns "host", t.netns "pod"
  t.run([[ip link set lo up
    ip link add v0 type veth peer name eth0 netns pod
    ip link set v0 addrgenmode none; ip -n pod link set eth0 addrgenmode none
    ip addr add 10.1.0.1/24 dev v0; ip -n pod addr add 10.1.0.2/24 dev eth0
    ip link set v0 up; ip -n pod link set lo up; ip -n pod link set eth0 up]], { host = host })
  -- What is sent before the kernel has seen to the carrier is lost.
  for _ = 1, 200 do
    if is_up(host, "v0") and is_up(pod, "eth0") then return end
    sys.sleep(20)
  end
  error "the links do not come up"
end)

after_each(function()
  for i = #wires, 1, -1 do
    wires[i]:close()
    wires[i] = nil
  end
  t.cleanup()
end)

describe("netlink.ns.frames", function()
  it("sends what a machine at the other end takes, and to no other machine", function()
    local count = counter(pod, "ip saddr 10.1.0.1 udp dport 68")
    local wire = host_frames()
    assert.is_true(wire:send(packet(), all_macs))
    comes_to(count, 1)
    assert.is_true(wire:send(packet(), mac_of(pod, "eth0")))
    comes_to(count, 2)
    assert.is_true(wire:send(packet(), "\2\0\0\0\0\7"))
    assert.is_true(wire:send(packet { port = 69 }, all_macs))
    assert.is_true(wire:send(packet(), all_macs))
    comes_to(count, 3)
  end)

  it("sends from a link that has no address", function()
    local count = counter(pod, "ip saddr 0.0.0.0 udp sport 1000")
    t.run("ip addr flush dev v0", { host = host })
    assert.is_true(host_frames():send(packet { from = "\0\0\0\0", to = "\255\255\255\255" }, all_macs))
    comes_to(count, 1)
  end)

  it("hears a datagram, whose it is, and that its checksum was left to a card", function()
    local wire = pod_frames(68)
    say(host, "hello", "10.1.0.2", 68)
    local bytes, mac, is_summed = wire:receive()
    assert.equal("hello", bytes:sub(29))
    t.same({ 0x45, 17, own, peer, 68 }, { bytes:byte(1), bytes:byte(10), bytes:sub(13, 16), bytes:sub(17, 20),
      (string.unpack(">I2", bytes, 23)) })
    assert.equal(mac_of(host, "v0"), mac)
    assert.is_false(is_summed)
    fails("ETIMEDOUT", wire:receive(0))
  end)

  it("tells that a checksum is there, where the sender has made it", function()
    local wire, text = pod_frames(68), packet()
    host_frames():send(text, all_macs)
    t.same({ text, mac_of(host, "v0"), true }, { wire:receive() })
  end)

  it("hears in order, each packet by itself, as long as the link has them", function()
    local wire, from = pod_frames(68), host_frames()
    for _, len in ipairs { 0, 1, 300, 1472 } do
      assert.is_true(from:send(packet { body = ("x"):rep(len) }, all_macs))
    end
    for _, len in ipairs { 0, 1, 300, 1472 } do assert.equal(28 + len, #wire:receive()) end
    fails("EMSGSIZE", from:send(packet { body = ("x"):rep(1473) }, all_macs))
    fails("ETIMEDOUT", wire:receive(50))
  end)

  it("does not hear what it sends itself", function()
    local wire = pod_frames()
    assert.is_true(wire:send(packet { from = peer, to = own }, all_macs))
    fails("ETIMEDOUT", wire:receive(50))
    assert.is_true(host_frames():send(packet(), all_macs))
    assert.is_string((wire:receive()))
  end)

  local others = {
    { "UDP to another port", { port = 69 } },
    { "UDP from the port", { from_port = 68, port = 67 } },
    { "TCP", { protocol = 6 } },
    { "ICMP", { protocol = 1 } },
    { "a later fragment", { fragment = 1 } },
    { "a later fragment that more follow", { fragment = 0x2001 } },
    { "the last possible fragment", { fragment = 0x1fff } },
    { "another port behind options", { port = 69, options = ("\1"):rep(8) } },
    { "options that look like the port", { port = 69, options = ("\0\68"):rep(6) } },
  }
  for _, case in ipairs(others) do
    it("does not hear " .. case[1] .. ", where it listens to a port; and does, where to none", function()
      local wire, all, from = pod_frames(68), pod_frames(), host_frames()
      assert.is_true(from:send(packet(case[2]), all_macs))
      assert.is_true(from:send(packet { body = "last" }, all_macs))
      assert.equal("last", wire:receive():sub(-4))
      fails("ETIMEDOUT", wire:receive(0))
      assert.equal(packet(case[2]), (all:receive()))
    end)
  end

  local its_own = {
    { "behind options", { options = ("\1"):rep(8) } },
    { "behind the most options", { options = ("\1"):rep(40) } },
    { "in the first fragment", { fragment = 0x2000 } },
    { "that is not to be fragmented", { fragment = 0x4000 } },
    { "from any port to any address", { from_port = 9, to = "\255\255\255\255" } },
  }
  for _, case in ipairs(its_own) do
    it("hears a datagram to its port " .. case[1], function()
      local wire = pod_frames(68)
      assert.is_true(host_frames():send(packet(case[2]), all_macs))
      assert.equal(packet(case[2]), (wire:receive()))
    end)
  end

  it("does not stumble over a packet that ends before its port", function()
    local wire, from = pod_frames(68), host_frames()
    local whole = packet()
    for len = 1, 23 do assert.is_true(from:send(whole:sub(1, len), all_macs)) end
    assert.is_true(from:send(whole, all_macs))
    assert.equal(whole, (wire:receive()))
    fails("ETIMEDOUT", wire:receive(0))
  end)

  it("hears one protocol, and what was said before it listened is gone", function()
    local function ask() t.sh({ "ping", "-c", 1, "-W", 1, "10.1.0.77" }, { host = host }) end
    ask()
    local ip, arp = pod_frames(), frames(pod, "eth0", arp_type)
    fails("ETIMEDOUT", arp:receive(0))
    ask()
    local bytes, mac = arp:receive()
    assert.equal("\10\1\0\77", bytes:sub(25, 28))
    assert.equal(mac_of(host, "v0"), mac)
    fails("ETIMEDOUT", ip:receive(0))
    say(host, "x", "10.1.0.2", 9)
    assert.is_string((ip:receive()))
  end)

  it("hears one link", function()
    t.run([[ip link add w0 type veth peer name eth1 netns pod
      ip link set w0 up; ip -n pod link set eth1 up]], { host = host })
    for _ = 1, 200 do
      if is_up(host, "w0") and is_up(pod, "eth1") then break end
      sys.sleep(20)
    end
    local first, second, from = pod_frames(68), frames(pod, "eth1", ip_type, 68), frames(host, "w0", ip_type)
    assert.is_true(from:send(packet(), all_macs))
    assert.equal(packet(), (second:receive()))
    fails("ETIMEDOUT", first:receive(0))
  end)

  it("needs no hardware address on lo", function()
    local wire = frames(host, "lo", ip_type, 68)
    assert.is_true(wire:send(packet { from = "\127\0\0\1", to = "\127\0\0\1" }))
    assert.equal("text", wire:receive():sub(29))
  end)

  it("is ENODEV without the link", function()
    for _, index in ipairs { 12345, 0x7fffffff } do fails("ENODEV", ns.frames(pod.path, index, ip_type)) end
    -- To packet(7) it is all links.
    mistake(ns.frames, pod.path, 0, ip_type)
  end)

  it("is ENETDOWN when the link is down, and not when it is up again", function()
    local index = index_of(pod, "eth0")
    t.run("ip link set eth0 down", { host = pod })
    fails("ENETDOWN", ns.frames(pod.path, index, ip_type, 68))
    t.run("ip link set eth0 up", { host = pod })
    keep(ns.frames(pod.path, index, ip_type, 68))
  end)

  it("tells while it listens that the link went down, and hears on when it came back", function()
    local wire = pod_frames(68)
    os.execute "(sleep 0.3; ip -n pod link set eth0 down) </dev/null >/dev/null 2>&1 &"
    local began = sys.clock()
    fails("ENETDOWN", wire:receive(20000))
    assert.is_true(sys.clock() - began < 10)
    fails("ENETDOWN", wire:send(packet(), all_macs))
    fails("ETIMEDOUT", wire:receive(0))
    t.run("ip link set eth0 up", { host = pod })
    local from
    for _ = 1, 200 do
      if is_up(pod, "eth0") and is_up(host, "v0") then break end
      sys.sleep(20)
    end
    from = host_frames()
    assert.is_true(from:send(packet(), all_macs))
    assert.equal(packet(), (wire:receive()))
  end)

  it("tells that the link is gone", function()
    local wire = pod_frames()
    t.run("ip link del eth0", { host = pod })
    fails("ENETDOWN", wire:receive())
    fails("ENXIO", wire:send(packet(), all_macs))
  end)

  it("refuses arguments that are none", function()
    local index = index_of(pod, "eth0")
    for _, bad in ipairs { -1, 0x80000000, 1.5, "eth0", {}, false } do
      mistake(ns.frames, pod.path, bad, ip_type)
    end
    for _, bad in ipairs { -1, 65536, 1.5, "ip", {}, false } do
      mistake(ns.frames, pod.path, index, bad)
      mistake(ns.frames, pod.path, index, ip_type, bad)
    end
    for _, bad in ipairs { 1, {}, true } do mistake(ns.frames, bad, index, ip_type) end
    mistake(ns.frames, pod.path, index)
    mistake(ns.frames, pod.path)
    local wire = pod_frames()
    mistake(wire.send, wire)
    mistake(wire.send, wire, {})
    mistake(wire.send, wire, packet(), ("\2"):rep(9))
    mistake(wire.send, wire, packet(), {})
    for _, bad in ipairs { -1, 0x80000000, 1.5, "long", {} } do mistake(wire.receive, wire, bad) end
    mistake(wire.receive, {})
    mistake(wire.receive, nil)
    assert.is_true(wire:send(packet(), all_macs))
  end)
end)

describe("netlink.ns.datagrams", function()
  local function datagrams(where, from, from_port, to, to_port)
    return keep(ns.datagrams(where, from, from_port, to, to_port))
  end

  it("sends to its peer from its address and port, and hears the answer", function()
    local count = counter(host, "ip saddr 10.1.0.2 udp sport 68 ip daddr 10.1.0.1 udp dport 67")
    os.execute(("nsenter --net=%s timeout 20 socat UDP4-RECVFROM:67,fork EXEC:'tr a-z A-Z' "
      .. "</dev/null >/dev/null 2>&1 &"):format(host.path))
    t.run("for i in $(seq 100); do ss -lun | grep -q ':67 ' && exit 0; sleep 0.05; done; exit 1", { host = host })
    local wire = datagrams(pod.path, peer, 68, own, 67)
    assert.is_true(wire:send "hello")
    t.same({ "HELLO", own, true }, { wire:receive(5000) })
    comes_to(count, 1)
    t.run("pkill -f '^socat UDP4-RECVFROM:67' --ns $$ --nslist mnt; true")
  end)

  it("hears others than its peer, and what is to its own port and address alone", function()
    local wire = datagrams(pod.path, peer, 68, "\10\1\0\9", 67)
    t.run("ip addr add 10.1.0.3/24 dev eth0", { host = pod })
    say(host, "to another port", "10.1.0.2", 69)
    say(host, "to another address", "10.1.0.3", 68)
    say(host, "to it", "10.1.0.2", 68)
    t.same({ "to it", own, true }, { wire:receive() })
    fails("ETIMEDOUT", wire:receive(0))
  end)

  it("moves the longest there are whole, and none longer", function()
    local a, b = datagrams(pod.path, peer, 68, own, 67), datagrams(host.path, own, 67, peer, 68)
    for _, len in ipairs { 0, 1, 1473, 65507 } do
      local text = ("x"):rep(len)
      assert.is_true(a:send(text))
      assert.equal(text, (b:receive()))
    end
    fails("EMSGSIZE", a:send(("x"):rep(65508)))
    fails("ETIMEDOUT", b:receive(50))
  end)

  it("is EADDRNOTAVAIL without the address, and not once it is there", function()
    fails("EADDRNOTAVAIL", ns.datagrams(pod.path, "\10\1\0\3", 68, own, 67))
    t.run("ip addr add 10.1.0.3/24 dev eth0", { host = pod })
    datagrams(pod.path, "\10\1\0\3", 68, own, 67)
  end)

  it("is EADDRINUSE while another keeps the port to itself", function()
    os.execute(("nsenter --net=%s timeout 20 socat -u UDP4-RECV:68,bind=10.1.0.2 - </dev/null >/dev/null 2>&1 &")
      :format(pod.path))
    t.run("for i in $(seq 100); do ss -lun | grep -q ':68 ' && exit 0; sleep 0.05; done; exit 1", { host = pod })
    fails("EADDRINUSE", ns.datagrams(pod.path, peer, 68, own, 67))
    datagrams(pod.path, peer, 69, own, 67)
    t.run("pkill -f '^socat -u UDP4-RECV:68' --ns $$ --nslist mnt; while ss -lun | grep -q ':68 '; do sleep 0.05; done",
      { host = pod })
    datagrams(pod.path, peer, 68, own, 67)
  end)

  it("shares a port with others of its kind", function()
    datagrams(pod.path, peer, 68, own, 67)
    datagrams(pod.path, peer, 68, own, 67)
  end)

  it("tells that no route leads to the peer", function()
    fails("ENETUNREACH", datagrams(pod.path, peer, 68, "\10\77\0\1", 67):send "x")
    assert.is_true(datagrams(pod.path, peer, 68, own, 67):send "x")
  end)

  it("refuses arguments that are none", function()
    for _, bad in ipairs { "", "\10\1\0", "\10\1\0\2\0", ("\0"):rep(16), "10.1.0.2", 1, {}, false } do
      mistake(ns.datagrams, pod.path, bad, 68, own, 67)
      mistake(ns.datagrams, pod.path, peer, 68, bad, 67)
    end
    for _, bad in ipairs { -1, 65536, 1.5, "bootpc", {}, false } do
      mistake(ns.datagrams, pod.path, peer, bad, own, 67)
      mistake(ns.datagrams, pod.path, peer, 68, own, bad)
    end
    mistake(ns.datagrams, pod.path, peer, 68, own)
    mistake(ns.datagrams, 1, peer, 68, own, 67)
    datagrams(pod.path, peer, 68, own, 67)
  end)
end)

local kinds = {
  { "netlink.ns.frames", function(where) return ns.frames(where, index_of(pod, "eth0"), ip_type, 68) end },
  { "netlink.ns.datagrams", function(where) return ns.datagrams(where, peer, 68, own, 67) end },
}
for _, kind in ipairs(kinds) do
  local open = kind[2]
  describe(kind[1], function()
    it("waits asleep until the deadline, a second by default", function()
      local wire = keep(open(pod.path))
      for _, case in ipairs { { 0, 0, 0.2 }, { 250, 0.24, 2 }, { nil, 0.99, 3 } } do
        local wall, cpu = sys.clock(), os.clock()
        fails("ETIMEDOUT", wire:receive(case[1]))
        wall, cpu = sys.clock() - wall, os.clock() - cpu
        assert.is_true(wall >= case[2] and wall < case[3], wall)
        assert.is_true(cpu < 0.1, cpu)
      end
    end)

    it("is awake as soon as something comes", function()
      local wire = keep(open(pod.path))
      os.execute(("(sleep 0.3; echo hello | nsenter --net=%s socat -u - UDP4-SENDTO:10.1.0.2:68) >/dev/null 2>&1 &")
        :format(host.path))
      local began = sys.clock()
      assert.truthy(wire:receive(20000):find("hello\n", 1, true))
      assert.is_true(sys.clock() - began < 10)
    end)

    it("opens in a namespace by its path and as an object, and leaves the process in its own", function()
      local home = where_we_are()
      local object <close> = assert(ns.open(pod.path))
      assert.not_equal(home, "net:[" .. object:id():match ":(%d+)$" .. "]")
      for _, where in ipairs { pod.path, object } do
        local wire <close> = assert(open(where))
        assert.equal(home, where_we_are())
        say(host, "hello", "10.1.0.2", 68)
        assert.truthy(wire:receive():find("hello", 1, true))
        assert.is_true(wire:send(packet(), all_macs))
        assert.equal(home, where_we_are())
      end
      fails("ENOENT", open "/run/netns/none")
      fails("EINVAL", open "/proc/self/ns/mnt")
      fails("EINVAL", open "/etc/passwd")
      assert.equal(home, where_we_are())
    end)

    it("opens in the process's own namespace where none is said", function()
      assert.is_nil((ns.datagrams(nil, peer, 68, own, 67)))
      local wire <close> = assert(ns.datagrams(nil, "\127\0\0\1", 0, "\127\0\0\1", 67))
      assert.is_true(wire:send "x")
      assert(ns.frames(nil, 1, ip_type)):close()
    end)

    it("does not open in a namespace that is closed", function()
      local object = assert(ns.open(pod.path))
      keep(open(object))
      object:close()
      mistake(open, object)
    end)

    it("goes on where its namespace's handle is closed", function()
      local object = assert(ns.open(pod.path))
      local wire = keep(open(object))
      object:close()
      say(host, "hello", "10.1.0.2", 68)
      assert.is_string((wire:receive()))
    end)

    it("does nothing once it is closed, and closing twice is fine", function()
      local before = descriptors()
      local wire = assert(open(pod.path))
      assert.equal(before + 1, descriptors())
      wire:close()
      wire:close()
      assert.equal(before, descriptors())
      mistake(wire.send, wire, "x")
      mistake(wire.receive, wire, 0)
      mistake(wire.close, {})
      assert.is_string(getmetatable(wire))
    end)

    it("is closed by its block, by an error in it, and by the collector", function()
      local before = descriptors()
      do
        local wire <close> = assert(open(pod.path))
        assert.equal(before + 1, descriptors())
        assert.is_not_nil(wire)
      end
      assert.equal(before, descriptors())
      mistake(function()
        local wire <close> = assert(open(pod.path))
        wire:receive {}
      end)
      assert.equal(before, descriptors())
      -- The collector is not to come too early.
      collectgarbage "stop"
      for _ = 1, 10 do assert(open(pod.path)) end
      assert.equal(before + 10, descriptors())
      collectgarbage "restart"
      collectgarbage()
      collectgarbage()
      assert.equal(before, descriptors())
    end)

    it("loses no descriptor where it does not open", function()
      local before = descriptors()
      for _ = 1, 10 do
        open "/run/netns/none"
        ns.frames(pod.path, 12345, ip_type, 68)
        ns.datagrams(pod.path, "\10\1\0\9", 68, own, 67)
        pcall(ns.frames, pod.path, -1, ip_type)
        pcall(ns.datagrams, pod.path, "", 68, own, 67)
      end
      assert.equal(before, descriptors())
    end)

    it("is not handed on to programs", function()
      local ls = { path = "/bin/ls", argv = { "ls", "/proc/self/fd" } }
      local before = sys.exec(ls).stdout
      keep(open(pod.path))
      assert.equal(before, sys.exec(ls).stdout)
    end)
  end)
end
