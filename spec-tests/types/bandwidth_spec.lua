-- SPDX-License-Identifier: MIT
-- What plugin `bandwidth` promises: behind the plugin that makes the interface it limits what goes through that,
-- each second within a tenth of the rate, the first one too, in both families and between containers of one
-- node; nobody else is limited; DEL takes all of it away. What there is in the kernel, tc tells.

local t = require "support"
local world = require "world"

local with = t.merge

local dual = { type = "host-local", ranges = { { { subnet = "10.9.0.0/24" } }, { { subnet = "fd09::/64" } } } }
local bridge = { type = "bridge", bridge = "br0", isGateway = true, ipam = dual }
local second <const> = { id = "c2", pod = 2 }

-- A host whose bridge the administrator lets pass.
local function new(conf, opts)
  return world.new(with(bridge, conf), with({ pods = 2, forwarding = true, accepts = { "br0" } }, opts))
end

local function key_of(c) return (c and c.id or "c1") .. " " .. (c and c.ifname or "eth0") end

-- The call of bandwidth behind that of `c`.
local function limits(w, conf, c)
  local call = with({ type = "bandwidth", prev = w.results[key_of(c)] }, c)
  call.conf = with({ type = "bandwidth", ipam = false }, conf)
  return call
end

-- One ADD of it; the world forgets its result, so that another one comes behind the same.
local function add(w, conf, c)
  local key = key_of(c)
  local before = w.results[key]
  local result = w:add(limits(w, conf, c))
  w.results[key] = before
  return result
end

local function tc(ns, what) return t.decode(t.run("tc -j " .. what, { host = ns })) end

local function qdisc(ns, dev, kind)
  for _, found in ipairs(tc(ns, "qdisc show dev " .. dev)) do
    if found.kind == kind then return found end
  end
end

-- The ifb links that there are.
local function ifbs(ns)
  local names = {}
  for _, link in ipairs(t.ip(ns, "-d link show type ifb")) do names[#names + 1] = link.ifname end
  return names
end

local function address(w, c, family)
  for _, ip in ipairs(w.results[key_of(c)].ips) do
    local text = ip.address:match "^[^/]+"
    if (text:find(":", 1, true) ~= nil) == (family == 6) then return text end
  end
end

local seconds <const> = 3

-- How much of a rate comes through in each second.
local function parts(from, to, address_there, rate, own)
  local words = { t.helper "pour", from.path, to.path, address_there, seconds, own }
  local out, status, err = t.sh(words)
  assert.equal(0, status, err)
  local list = {}
  for count in out:gmatch "%d+" do list[#list + 1] = count * 8 / rate end
  return list
end

-- Whether each second has what TCP can have of a rate: 1448 bytes of a frame of 1514. Kernels in an emulator, and busy
-- machines, have hiccups: one more try.
local function has_rate(from, to, there, rate, own)
  local list
  for _ = 1, 2 do
    list = parts(from, to, there, rate, own)
    local fits = #list == seconds
    for _, part in ipairs(list) do fits = fits and part > 0.9 and part < 1.1 end
    if fits then return end
  end
  error(("the seconds have %s of %d bit/s"):format(t.json(list), rate), 2)
end

local function is_free(from, to, there, rate, own)
  local list = parts(from, to, there, rate, own)
  for _, part in ipairs(list) do assert.is_true(part > 2, t.json(list)) end
end

-- Of 400 sleeps of 1.2 ms, what frames take here, how late 99 of a hundred come back at most, in milliseconds.
local lateness <const> = [[
import time
late = []
for _ in range(400):
    began = time.monotonic()
    time.sleep(0.0012)
    late.append(time.monotonic() - began - 0.0012)
print(sorted(late)[395] * 1000)]]

-- What 99 of a hundred pings take at most, in milliseconds, of 250 while bytes are poured the same way; and how late a
-- clock is meanwhile: not by us, but by an emulator or a busy machine.
local function waits(from, to, there)
  t.write("/run/spec/late.py", lateness)
  local out = t.run(("%s %s %s %s 8 >/dev/null & sleep 1; { sleep 0.1; python3 /run/spec/late.py >/run/spec/late; } & " ..
    "nsenter --net=%s ping -n -i 0.02 -c 250 %s; wait"):format(t.helper "pour", from.path, to.path, there, from.path, there))
  local times = {}
  for time in out:gmatch "time=([%d.]+) ms" do times[#times + 1] = tonumber(time) end
  assert.is_true(#times >= 245, out)
  table.sort(times)
  return times[math.ceil(#times * 0.99)], tonumber(t.read "/run/spec/late")
end

after_each(t.cleanup)

describe("bandwidth", function()
  local conf = { ingressRate = 10000000, egressRate = 5000000 }

  it("limits both directions of both families, in each second, and nobody else", function()
    local w = new(nil, { pods = 3 })
    w:add()
    w:add(second)
    w:add { id = "c3", pod = 3 }
    add(w, conf)
    for _, family in ipairs { 4, 6 } do
      has_rate(w.pods[2], w.pods[1], address(w, nil, family), 10000000)
      has_rate(w.pods[1], w.pods[2], address(w, second, family), 5000000)
    end
    is_free(w.pods[3], w.pods[2], address(w, second, 4), 10000000)
  end)

  it("has a token bucket on the host's end and one on an ifb link, which the result names", function()
    local w = new()
    w:add()
    local before = w.results["c1 eth0"]
    local port = w:port(1).ifname
    local result = add(w, { ingressRate = 1000000, ingressBurst = 800000, egressRate = 2000000, egressBurst = 400000 })
    local ifb = result.interfaces[#result.interfaces]
    t.same({ #before.interfaces + 1, false }, { #result.interfaces, ifb.sandbox or false })
    t.same(before.ips, result.ips)
    -- What the reference calls it: of network and container.
    assert.equal("bwp" .. t.run("printf netc1 | sha512sum"):sub(1, 12), ifb.name)
    local link = t.link(w.host, ifb.name)
    t.same({ ifb.mac, w:port(1).mtu, true }, { link.address, link.mtu, t.has_flag(link, "UP") })
    t.same({ handle = "1:", root = true, rate = 125000, burst = 100000, lat = 25000 },
      (function(q) return { handle = q.handle, root = q.root, rate = q.options.rate, burst = q.options.burst,
        lat = q.options.lat } end)(qdisc(w.host, port, "tbf")))
    local towards = qdisc(w.host, ifb.name, "tbf")
    t.same({ 250000, 50000, 25000 }, { towards.options.rate, towards.options.burst, towards.options.lat })
    assert.equal("ffff:", qdisc(w.host, port, "ingress").handle)
    local sent
    for _, filter in ipairs(tc(w.host, ("filter show dev %s parent ffff:"):format(port))) do
      for _, action in ipairs(filter.options and filter.options.actions or {}) do sent = action end
    end
    t.same({ "mirred", "redirect", "egress", ifb.name }, { sent.kind, sent.mirred_action, sent.direction, sent.to_dev })
  end)

  it("gives the ifb link the MTU of the interface", function()
    local w = new { mtu = 1400 }
    w:add()
    add(w, { egressRate = 1000000 })
    assert.equal(1400, t.link(w.host, ifbs(w.host)[1]).mtu)
  end)

  it("limits one direction alone", function()
    local w = new()
    w:add()
    local port = w:port(1).ifname
    local before = w.results["c1 eth0"]
    t.same(before, add(w, { ingressRate = 1000000 }))
    t.same({}, ifbs(w.host))
    assert.is_nil(qdisc(w.host, port, "ingress"))
    w:del(limits(w, { ingressRate = 1000000 }))
    add(w, { egressRate = 1000000 })
    assert.equal(1, #ifbs(w.host))
    assert.is_nil(qdisc(w.host, port, "tbf"))
  end)

  it("does nothing where nothing is to be limited", function()
    local w = new()
    w:add()
    local before = w:settled()
    for _, none in ipairs { {}, { ingressRate = 0, ingressBurst = 0, egressRate = 0, egressBurst = 0 },
      { runtimeConfig = { bandwidth = {} } } } do
      t.same(w.results["c1 eth0"], add(w, none))
      t.same(before.kernel, w:picture().kernel)
      w:check(limits(w, none))
      w:del(limits(w, none))
    end
  end)

  it("takes the capability's limits, in any letter case, unless the network has its own", function()
    local w = new()
    w:add()
    local port = w:port(1).ifname
    local zeros = { ingressRate = 0, ingressBurst = 0 }
    local function rate_with(more)
      add(w, more)
      local rate = qdisc(w.host, port, "tbf").options.rate
      w:del(limits(w, more))
      return rate
    end
    local given = { runtimeConfig = { bandwidth = { ingressRate = 8000000, ingressBurst = 4294967295 } } }
    assert.equal(1000000, rate_with(given))
    assert.equal(1000000, rate_with { runtimeConfig = { bandwidth = { IngressRate = 8000000,
      IngressBurst = 4294967295, EgressRate = 0, EgressBurst = 0 } } })
    assert.equal(1000000, rate_with(with(zeros, given)))
    assert.equal(2000000, rate_with(with({ ingressRate = 16000000 }, given)))
  end)

  it("chooses the burst where there is none, or a number that runtimes write for none", function()
    local w = new()
    w:add()
    local port = w:port(1).ifname
    for _, burst in ipairs { false, 0, 2147483647, 4294967295, 4294967296, 34359738359 } do
      local limited = { ingressRate = 10000000, ingressBurst = burst or nil }
      add(w, limited)
      local options = qdisc(w.host, port, "tbf").options
      t.same({ 1250000, 25000 }, { options.rate, options.burst }, tostring(burst))
      w:del(limits(w, limited))
    end
  end)

  it("keeps rates beyond 32 bits", function()
    local w = new()
    w:add()
    local port = w:port(1).ifname
    local limited = { ingressRate = 100000000000, egressRate = 1000000000000000 }
    add(w, limited)
    t.same({ 12500000000, 125000000000000 }, { qdisc(w.host, port, "tbf").options.rate,
      qdisc(w.host, ifbs(w.host)[1], "tbf").options.rate })
    w:check(limits(w, limited))
  end)

  it("lets what goes to unshaped networks pass, and limits what goes to others", function()
    local w = new(nil, { pods = 3 })
    w:add()
    w:add(second)
    w:add { id = "c3", pod = 3 }
    local limited = { ingressRate = 4000000, egressRate = 4000000,
      unshapedSubnets = { address(w, second, 4) .. "/32", address(w, second, 6) .. "/128" } }
    add(w, limited)
    for _, family in ipairs { 4, 6 } do
      is_free(w.pods[2], w.pods[1], address(w, nil, family), 4000000)
      is_free(w.pods[1], w.pods[2], address(w, second, family), 4000000)
    end
    has_rate(w.pods[3], w.pods[1], address(w, nil, 4), 4000000)
    has_rate(w.pods[1], w.pods[3], address(w, { id = "c3" }, 6), 4000000)
    w:check(limits(w, limited))
  end)

  it("limits what goes to shaped networks, and lets all else pass", function()
    local w = new(nil, { pods = 3 })
    w:add()
    w:add(second)
    w:add { id = "c3", pod = 3 }
    local limited = { ingressRate = 4000000, egressRate = 4000000,
      shapedSubnets = { address(w, second, 4) .. "/32", address(w, second, 6) .. "/128" } }
    local before = w:picture()
    add(w, limited)
    has_rate(w.pods[2], w.pods[1], address(w, nil, 6), 4000000)
    has_rate(w.pods[1], w.pods[2], address(w, second, 4), 4000000)
    for _, family in ipairs { 4, 6 } do
      is_free(w.pods[3], w.pods[1], address(w, nil, family), 4000000)
      is_free(w.pods[1], w.pods[3], address(w, { id = "c3" }, family), 4000000)
    end
    w:check(limits(w, limited))
    w:del(limits(w, limited))
    t.same(before, w:picture())
  end)

  it("goes with DEL, twice is fine, and without the sandbox too", function()
    local w = new()
    w:add()
    local before = w:settled()
    add(w, conf)
    w:check(limits(w, conf))
    w:del(limits(w, conf))
    w:del(limits(w, conf))
    t.same(before, w:picture())
    add(w, conf)
    assert.equal(1, #ifbs(w.host))
    t.remove_netns(w.pods[1])
    w:del(limits(w, conf))
    t.same({}, ifbs(w.host))
  end)

  it("goes without a record, with the sandbox or without; another container's stays", function()
    for _, gone in ipairs { false, true } do
      local w = new()
      w:add()
      w:add(second)
      local before = w:settled()
      add(w, conf)
      add(w, conf, second)
      local other = t.run("printf netc2 | sha512sum"):sub(1, 12)
      w:lose_records()
      if gone then t.remove_netns(w.pods[1]) end
      w:del(with(limits(w, conf), { conf = { type = "bandwidth", ipam = false, runtimeConfig = {} } }))
      t.same({ "bwp" .. other }, ifbs(w.host))
      if not gone then
        w:del(limits(w, conf, second))
        t.same(before.kernel, w:picture().kernel)
      end
      t.cleanup()
    end
  end)

  it("is for two interfaces of one container in one network", function()
    local w = new()
    local other = { ifname = "eth1" }
    w:add()
    w:add(other)
    local before = w:settled()
    add(w, conf)
    add(w, { egressRate = 7000000 }, other)
    assert.equal(2, #ifbs(w.host))
    w:check(limits(w, conf))
    w:check(limits(w, { egressRate = 7000000 }, other))
    w:del(limits(w, conf))
    t.same({ 875000 }, { qdisc(w.host, ifbs(w.host)[1], "tbf").options.rate })
    w:check(limits(w, { egressRate = 7000000 }, other))
    -- Without its record the one that is left is known by its name.
    w:lose_records()
    w:del(limits(w, conf))
    assert.equal(1, #ifbs(w.host))
    w:del(limits(w, { egressRate = 7000000 }, other))
    t.same(before.kernel, w:picture().kernel)
  end)

  it("changes nothing when the kernel refuses a part of it", function()
    local w = new()
    w:add()
    local port = w:port(1).ifname
    w:sh("tc qdisc add dev " .. port .. " ingress")
    local before = w:settled()
    local err = w:fails("ADD", limits(w, conf), 999)
    assert.is_truthy(err.msg:find("add ingress qdisc ffff: on " .. port, 1, true), err.msg)
    t.same(before, w:picture())
  end)

  local on_wire = { type = "host-local", subnet = "192.0.2.0/24", rangeStart = "192.0.2.50" }
  for _, own in ipairs {
    { needs = "macvlan", there = "192.0.2.2", conf = { type = "macvlan", master = "up0", ipam = on_wire } },
    { needs = "ipvlan", there = "192.0.2.2", conf = { type = "ipvlan", master = "up0", ipam = on_wire } },
    { needs = "vlan", there = "10.7.0.1", conf = { type = "vlan", master = "up0", vlanId = 7,
        ipam = { type = "host-local", subnet = "10.7.0.0/24", rangeStart = "10.7.0.50" } },
      far = "ip link add link up0 name up0.7 type vlan id 7; ip addr add 10.7.0.1/24 dev up0.7; ip link set up0.7 up" },
  } do
    it("shapes in the sandbox where the interface has no end in the host: " .. own.needs, function()
      t.needs(own.needs)
      local w = world.new(own.conf, { far = true })
      if own.far then t.run(own.far, { host = w.far }) end
      w:add()
      local before = w:picture()
      is_free(w.far, w.pods[1], address(w, nil, 4), 10000000)
      local result = add(w, conf)
      local ifb = result.interfaces[#result.interfaces]
      assert.equal(w.pods[1].path, ifb.sandbox)
      has_rate(w.far, w.pods[1], address(w, nil, 4), 10000000)
      has_rate(w.pods[1], w.far, own.there, 5000000)
      t.same({}, ifbs(w.host))
      w:check(limits(w, conf))
      w:del(limits(w, conf))
      t.same(before, w:picture())
    end)
  end

  -- Whoever has a tap open, and the sandbox: each sends datagrams of 1442 bytes on the wire as fast as it can for three
  -- seconds, and the bits of a second that came at the other one, of the last two, are printed.
  local tap_peer <const> = [[
import ctypes, fcntl, os, select, socket, struct, sys, time
path, index_of, address = sys.argv[1:4]
with open(path) as f: assert ctypes.CDLL(None).setns(f.fileno(), 0x40000000) == 0
tap = os.open("/run/spec/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"eth0", 0x1002))
mac = bytes.fromhex(index_of.replace(":", ""))
own = socket.inet_aton(address)
def summed(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
def datagram(to, src, size):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + size, 0, 0, 64, 17, 0, src, to)
    head = head[:10] + struct.pack("!H", summed(head)) + head[12:]
    return head + struct.pack("!HHHH", 9, 9, 8 + size, 0) + bytes(size)
there = own[:3] + bytes([99])
frame = mac + b"\2\0\0\0\0\x99" + b"\x08\0" + datagram(own, there, 1400)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 9))
sock.setblocking(False)
time.sleep(1.5)
def measure(send, receive):
    began, got = time.monotonic(), 0
    while (now := time.monotonic() - began) < 3:
        for _ in range(20):
            try: send()
            except OSError: break
        while size := receive():
            if now > 1: got += size
    print(got * 8 // 2)
def from_tap():
    try: data = os.read(tap, 2000)
    except BlockingIOError: return 0
    return len(data) if len(data) > 1000 else 1
def from_sock():
    try: return len(sock.recv(2000)) + 42
    except BlockingIOError: return 0
measure(lambda: sock.sendto(bytes(1400), (socket.inet_ntoa(there), 9)), from_tap)
measure(lambda: os.write(tap, frame), from_sock)
]]

  it("shapes in the sandbox where a program has the interface open: tap", function()
    local w = world.new({ type = "tap", ipam = { type = "host-local", subnet = "10.7.0.0/24", rangeStart = "10.7.0.50" } },
      { lived_in = false })
    t.run "mknod -m 0600 /run/spec/tun c 10 200"
    finally(function() os.remove "/run/spec/tun" end)
    t.write("/run/spec/tap.py", tap_peer)
    w:add()
    local own = address(w, nil, 4)
    w:in_pod("ip neigh add 10.7.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
    local function seconds_of()
      local out, list = t.run { "python3", "/run/spec/tap.py", w.pods[1].path, t.link(w.pods[1], "eth0").address, own }, {}
      for count in out:gmatch "%d+" do list[#list + 1] = tonumber(count) end
      return list
    end
    local free = seconds_of()
    assert.is_true(free[1] > 20000000 and free[2] > 20000000, t.json(free))
    local result = add(w, conf)
    assert.equal(w.pods[1].path, result.interfaces[#result.interfaces].sandbox)
    local list
    for _ = 1, 2 do
      list = seconds_of()
      if math.abs(list[1] / 5000000 - 1) < 0.1 and math.abs(list[2] / 10000000 - 1) < 0.1 then break end
    end
    assert.is_true(math.abs(list[1] / 5000000 - 1) < 0.1 and math.abs(list[2] / 10000000 - 1) < 0.1, t.json(list))
    w:check(limits(w, conf))
    w:del(limits(w, conf))
    local again = seconds_of()
    assert.is_true(again[1] > 20000000 and again[2] > 20000000, t.json(again))
  end)

  it("lets nobody wait behind another one's queue with fair queues", function()
    for _, kind in ipairs { "fq_codel", "cake" } do
      t.needs(kind)
      local w = new()
      w:add()
      w:add(second)
      local fair = { ingressRate = 10000000, egressRate = 10000000, qdisc = kind }
      add(w, fair)
      w:check(limits(w, fair))
      has_rate(w.pods[2], w.pods[1], address(w, nil, 4), 10000000)
      local most, late
      for _ = 1, 3 do
        most, late = waits(w.pods[2], w.pods[1], address(w, nil, 4))
        if most <= 5 then break end
      end
      -- A ping waits for a timer each way.
      assert.is_true(most <= 5 + 2 * late, ("%s: of a hundred pings one takes more than %g ms, a sleep %g too long"):format(kind,
        most, late))
      w:del(limits(w, fair))
      -- The negative twin: behind one queue they wait their turn.
      if kind == "cake" then
        add(w, with(fair, { qdisc = false }))
        assert.is_true(waits(w.pods[2], w.pods[1], address(w, nil, 4)) > 8)
      end
      t.cleanup()
    end
  end)

  it("says so when the kernel has no fair queues", function()
    if t.has "fq_codel" then return end
    local w = new()
    w:add()
    local before = w:settled()
    local err = w:fails("ADD", limits(w, { ingressRate = 1000000, qdisc = "fq_codel" }))
    assert.is_truthy(err.text:find("this kernel has no fq_codel", 1, true), err.text)
    t.same(before, w:picture())
  end)
end)

describe("bandwidth refuses", function()
  local cases = {
    { "a burst without a rate", { ingressBurst = 8000 }, "ingressBurst is given without ingressRate" },
    { "one of the runtime", { runtimeConfig = { bandwidth = { egressBurst = 8000 } } },
      "runtimeConfig.bandwidth: egressBurst is given without egressRate" },
    { "a rate below a byte a second", { ingressRate = 7 }, "ingressRate: 7 is less than a byte a second" },
    { "a negative rate", { ingressRate = -1 }, "ingressRate: -1 is not an integer not below 0" },
    { "a rate that is text", { egressRate = "1M" }, 'egressRate: "1M" is not an integer' },
    { "a burst that takes longer than the kernel can count", { ingressRate = 8000, ingressBurst = 8000000000 },
      "ingressBurst: the kernel cannot hold 8000000000 bits at this rate: at most 2192007" },
    { "a burst beyond 32 bits of bytes", { egressRate = 100000000000, egressBurst = 34359738368 },
      "egressBurst: the kernel cannot hold 34359738368 bits at this rate: at most 34359738367" },
    { "networks of both kinds", { ingressRate = 8000, shapedSubnets = { "10.0.0.0/8" }, unshapedSubnets = { "fd00::/8" } },
      "shapedSubnets and unshapedSubnets exclude each other" },
    { "what is no network", { ingressRate = 8000, unshapedSubnets = { "10.0.0.0/8", "hello" } },
      'unshapedSubnets[1]: "hello" is not an address with prefix length' },
    { "no time to wait", { ingressRate = 8000, latency = 0 }, "latency: 0 is not an integer from 1 to 10000" },
    { "another queue", { ingressRate = 8000, qdisc = "red" }, 'qdisc: "red" is not one of fq_codel, cake' },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local w = new()
      w:add()
      local before = w:settled()
      local err = w:fails("ADD", limits(w, case[2]), 7)
      assert.equal(case[3], err.msg:sub(1, #case[3]))
      t.same(before, w:picture())
    end)
  end

  it("to begin a chain", function()
    local w = new()
    local before = w:picture()
    local err = w:fails("ADD", { type = "bandwidth", conf = { type = "bandwidth", ipam = false, ingressRate = 8000 } }, 7)
    assert.equal("prevResult: is missing", err.msg)
    t.same(before, w:picture())
  end)

  it("an interface that is not there", function()
    local w = new()
    w:add()
    local before = w:settled()
    local call = with(limits(w, { ingressRate = 8000 }), { ifname = "eth7" })
    assert.equal("link eth7 is not in the sandbox", w:fails("ADD", call, 999).msg)
    t.same(before, w:picture())
  end)
end)
