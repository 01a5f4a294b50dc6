-- SPDX-License-Identifier: MIT
-- What the bindings promise, seen from outside: through ip, bridge and /proc,
-- with the bindings' own answers compared with theirs.

local t = require "support"
local netlink = require "netlink"

local EEXIST, ENODEV, EINVAL, ENOENT, ETIMEDOUT, EADDRINUSE = 17, 19, 22, 2, 110, 98

local host, pod, h

--- A raised error's text; fails when nothing was raised.
local function mistake(f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok, "no error was raised")
  return message
end

local function send(...)
  local requests = { ... }
  local ok, msg = h:send(requests)
  assert.is_true(ok, msg)
end

local function refused(want, ...)
  local ok, msg, errno, index, statuses = h:send({ ... })
  assert.is_nil(ok)
  assert.equal(want, errno, msg)
  return msg, index, statuses
end

local function index_of(name, handle) return (handle or h):get("link", { name = name }).index end

--- Run a Lua chunk in another process, in the background, inside the host namespace.
local function background(shell) os.execute(("nsenter --net=%s sh -c %s &"):format(host.path,
  t.quote(shell))) end

--- What strace says of a Lua chunk run in the host namespace, perhaps with a fault put into it.
local function traced(calls, chunk, inject)
  local preload = os.getenv("LD_PRELOAD")
  local _, status, trace = t.sh({ "strace", "-f", "-e", "trace=" .. calls,
    "-e", inject or "trace=" .. calls, "-E", "LD_PRELOAD=" .. (preload or ""),
    "lua5.4", "-e", chunk }, { host = host })
  assert.equal(0, status, trace)
  return trace
end

local function routes(args, ns) return t.ip(ns or host, args) end

before_each(function()
  host, pod = t.netns("host"), t.netns("pod")
  h = assert(netlink.open(host.path))
end)

after_each(function()
  h:close()
  t.cleanup()
end)

describe("netlink.ip", function()
  local pack, text = netlink.ip.pack, netlink.ip.text

  it("packs and writes IPv4", function()
    assert.equal("\10\1\2\3", pack("10.1.2.3"))
    assert.equal("255.255.255.255", text("\255\255\255\255"))
  end)

  it("refuses what only looks like IPv4", function()
    for _, bad in ipairs { "", "10.1.2", "10.1.2.3.4", "10.1.2.256", "010.1.2.3", "10.1.2.03",
      " 10.1.2.3", "10.1.2.3 ", "10.1.2.3/24", "0x0a.1.2.3", "10.1.2.3\0", "1", "a.b.c.d" } do
      assert.is_nil(pack(bad), bad)
    end
  end)

  it("writes IPv6 as RFC 5952 has it", function()
    for given, want in pairs {
      ["2001:DB8:0:0:0:0:0:1"] = "2001:db8::1", ["::"] = "::", ["::1"] = "::1", ["1::"] = "1::",
      ["2001:db8:0:1:1:1:1:1"] = "2001:db8:0:1:1:1:1:1", ["1:0:0:2:0:0:0:3"] = "1:0:0:2::3",
      ["1:0:0:2:3:0:0:4"] = "1::2:3:0:0:4", ["fe80::0202:b3ff:fe1e:8329"] =
      "fe80::202:b3ff:fe1e:8329", ["::0a01:0203"] = "::a01:203", ["64:ff9b::1.2.3.4"] =
      "64:ff9b::102:304", ["1:2:3:4:5:6:7:0"] = "1:2:3:4:5:6:7:0", ["0:1:2:3:4:5:6:7"] =
      "0:1:2:3:4:5:6:7", ["0:0:1::"] = "0:0:1::",
    } do
      assert.equal(want, text(pack(given)))
    end
  end)

  it("refuses what only looks like IPv6", function()
    for _, bad in ipairs { ":", ":::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", "fe80::1%lo",
      "g::", "12345::", "::1/64", "::1.2.3", "::\0" } do
      assert.is_nil(pack(bad), bad)
    end
  end)

  it("makes a mapped address IPv4", function()
    assert.equal("\10\1\2\3", pack("::ffff:10.1.2.3"))
    assert.equal("::ffff:10.1.2.3", text(("\0"):rep(10) .. "\255\255\10\1\2\3"))
  end)

  it("raises on bytes that are no address", function()
    assert.matches("4 or 16 bytes", mistake(text, "abc"))
  end)
end)

describe("netlink.ns", function()
  local ns = netlink.ns

  it("tells namespaces apart by id, not by path", function()
    local a, b, other = ns.open(host.path), ns.open(host.path), ns.open(pod.path)
    local dev, inode = t.run("stat -L -c '%d %i' " .. host.path):match("(%d+) (%d+)")
    assert.equal(dev .. ":" .. inode, a:id())
    assert.is_true(a == b)
    assert.is_false(a == other)
    assert.equal(host.path, a:path())
    assert.are_not.equal(a:id(), ns.self():id())
    for _, n in ipairs { a, b, other } do n:close() end
  end)

  it("refuses what is not a network namespace", function()
    t.write("/run/file", "")
    for path, errno in pairs { ["/run/file"] = EINVAL, ["/proc/version"] = EINVAL, ["/run"] = EINVAL,
      ["/proc/self/ns/mnt"] = EINVAL, ["/dev/null"] = EINVAL, ["/run/none"] = ENOENT } do
      local n, msg, got = ns.open(path)
      assert.is_nil(n)
      assert.equal(errno, got, path)
      assert.matches(path, msg, 1, true)
      local handle, _, again = netlink.open(path)
      assert.is_nil(handle)
      assert.equal(errno, again)
    end
  end)

  it("closes once, twice, by itself, and is then of no use", function()
    local n = assert(ns.open(host.path))
    n:close()
    n:close()
    assert.matches("closed", tostring(n))
    assert.matches("closed", mistake(n.id, n))
    assert.matches("closed", mistake(netlink.open, n))
    assert.is_false(n == ns.self())
  end)

  it("writes settings there and nowhere else, in order", function()
    local before = t.sysctl(nil, "net/ipv4/ip_forward")
    local here = ns.self():id()
    assert.is_true(ns.sysctl(pod.path, { { "net/ipv4/ip_forward", "1" },
      { "net/ipv4/conf/lo/arp_notify", "0" }, { "net/ipv4/conf/lo/arp_notify", "1" } }))
    assert.equal("1", t.sysctl(pod, "net/ipv4/ip_forward"))
    assert.equal("1", t.sysctl(pod, "net/ipv4/conf/lo/arp_notify"))
    assert.equal("0", t.sysctl(host, "net/ipv4/conf/lo/arp_notify"))
    assert.equal(before, t.sysctl(nil, "net/ipv4/ip_forward"))
    assert.equal(here, ns.self():id())
  end)

  it("stops at the first setting refused and says which", function()
    local ok, msg, errno, index = ns.sysctl(pod.path, { { "net/ipv4/conf/lo/arp_notify", "1" },
      { "net/ipv4/conf/none/arp_notify", "1" }, { "net/ipv4/ip_forward", "1" } })
    assert.is_nil(ok)
    assert.equal(ENOENT, errno)
    assert.equal(2, index)
    assert.matches("net/ipv4/conf/none/arp_notify = 1", msg, 1, true)
    assert.equal("1", t.sysctl(pod, "net/ipv4/conf/lo/arp_notify"))
    assert.equal("0", t.sysctl(pod, "net/ipv4/ip_forward"))
    assert.equal(EINVAL, select(3, ns.sysctl(pod.path, { { "net/ipv4/ip_forward", "maybe" } })))
  end)

  it("goes on after an optional setting", function()
    assert.is_true(ns.sysctl(pod.path, { { "net/ipv4/conf/none/arp_notify", "1", true },
      { "net/ipv4/ip_forward", "1" } }))
    assert.equal("1", t.sysctl(pod, "net/ipv4/ip_forward"))
  end)

  it("refuses a value that the kernel does not know, of an optional setting too", function()
    local filter, control = "net/ipv4/conf/lo/arp_filter", "net/ipv4/tcp_congestion_control"
    local before = t.sysctl(pod, control)
    for _, optional in ipairs { false, true } do
      for path, value in pairs { [filter] = "banana", [control] = "banana",
        ["net/ipv4/ip_forward"] = "1 banana" } do
        local ok, msg, errno, index = ns.sysctl(pod.path, { { path, value, optional } })
        t.same({ nil, EINVAL, 1 }, { ok, errno, index })
        assert.matches(path .. " = " .. value, msg, 1, true)
      end
    end
    assert.equal("0", t.sysctl(pod, filter))
    assert.equal(before, t.sysctl(pod, control))
    -- What is not there has no values at all.
    assert.is_true(ns.sysctl(pod.path, { { "net/ipv4/conf/lo/banana", "banana", true }, { filter, "1", true } }))
    assert.equal("1", t.sysctl(pod, filter))
  end)

  it("writes an empty value, which takes away what is there", function()
    local ports = "net/ipv4/ip_local_reserved_ports"
    assert.is_true(ns.sysctl(pod.path, { { ports, "8000-8010" } }))
    assert.equal("8000-8010", t.sysctl(pod, ports))
    assert.is_true(ns.sysctl(pod.path, { { ports, "" } }))
    assert.equal("", t.sysctl(pod, ports))
  end)

  it("has each setting in its own folder, whichever came before", function()
    local function of(link, value) return { "net/ipv4/conf/" .. link .. "/arp_notify", value, true },
      { "net/ipv4/conf/" .. link .. "/arp_ignore", value, true } end
    local list = {}
    for _, item in ipairs { { "lo", "1" }, { "none", "1" }, { "default", "1" }, { "all", "0" }, { "none", "0" } } do
      list[#list + 1], list[#list + 2] = of(item[1], item[2])
    end
    list[#list + 1] = { "net/ipv4/conf/lo/arp_announce", "2" }
    assert.is_true(ns.sysctl(pod.path, list))
    local paths = {}
    for i, item in ipairs(list) do paths[i] = item[1] end
    t.same({ "1", "1", false, false, "1", "1", "0", "0", false, false, "2" }, ns.sysctl_get(pod.path, paths))
    for i, value in pairs { [1] = "1", [2] = "1", [5] = "1", [7] = "0", [11] = "2" } do
      assert.equal(value, t.sysctl(pod, paths[i]))
    end
  end)

  it("takes no path that leaves net/", function()
    for _, bad in ipairs { "kernel/hostname", "net/../kernel/hostname", "/net/ipv4/ip_forward",
      "net/ipv4/..", "net//ipv4", "net/", "", "net/./x", "net/a\0b" } do
      assert.matches("not a path below net/", mistake(ns.sysctl, nil, { { bad, "1" } }))
      assert.matches("not a path below net/", mistake(ns.sysctl_get, nil, { bad }))
    end
    assert.matches("must be a string", mistake(ns.sysctl, nil, { { "net/ipv4/ip_forward", 1 } }))
  end)

  it("reads settings, false for what is not there", function()
    t.run("echo 1 >/proc/sys/net/ipv4/ip_forward", { host = pod })
    t.same({ "1", false, "1000" }, ns.sysctl_get(pod.path, { "net/ipv4/ip_forward",
      "net/ipv4/none", "net/ipv4/icmp_ratelimit" }))
  end)

  it("says so when the namespace is not there", function()
    local ok, msg, errno = ns.sysctl("/run/netns/none", { { "net/ipv4/ip_forward", "1" } })
    assert.is_nil(ok)
    assert.equal(ENOENT, errno)
    assert.matches("/run/netns/none", msg, 1, true)
    assert.equal(ENOENT, select(3, ns.sysctl_get("/run/netns/none", { "net/ipv4/ip_forward" })))
  end)

  it("makes a namespace and removes it", function()
    local here = ns.self():id()
    assert.is_true(ns.create("/run/netns/made"))
    assert.equal(here, ns.self():id())
    assert.equal("1", t.run("ip netns list | grep -c made"):match("%d"))
    assert.is_false(t.has_flag(t.link("made", "lo"), "UP"))
    assert.equal(EEXIST, select(3, ns.create("/run/netns/made")))
    assert.is_true(ns.remove("/run/netns/made"))
    assert.equal(ENOENT, select(3, ns.remove("/run/netns/made")))
    assert.equal("", t.run("ls /run/netns | grep made || true"))
  end)
end)

describe("netlink.ns.tap", function()
  local tap = netlink.ns.tap
  local EBUSY, EADDRNOTAVAIL = 16, 99

  it("makes a tap there and nowhere else, that stays while nobody has it open", function()
    local here = netlink.ns.self():id()
    local there <close> = assert(netlink.ns.open(pod.path))
    for name, where in pairs { byobject = there, bypath = pod.path } do
      assert.is_true(tap(where, { name = name, mac = "02:00:00:00:0a:0B" }))
      assert.equal(here, netlink.ns.self():id())
      local link = t.link(pod, name)
      t.same({ "tun", "02:00:00:00:0a:0b" }, { link.linkinfo.info_kind, link.address })
      t.same({ type = "tap", pi = false, vnet_hdr = false, multi_queue = false, persist = true },
        link.linkinfo.info_data)
      assert.is_false(t.has_flag(link, "UP"))
      assert.is_nil(t.link(host, name))
      assert.is_nil(t.link(nil, name))
    end
  end)

  it("makes one here when no namespace is named", function()
    assert.is_true(tap(nil, { name = "here0" }))
    local found = t.link(nil, "here0")
    t.run("ip link del here0")
    assert.equal("tun", found.linkinfo.info_kind)
  end)

  it("sets who may open it, its queues and what its packets begin with, where that is asked for", function()
    assert.is_true(tap(pod.path, { name = "t0", owner = 0, group = 4294967294, multi_queue = true,
      vnet_hdr = true }))
    local data = t.link(pod, "t0").linkinfo.info_data
    t.same({ true, true, true }, { data.persist, data.multi_queue, data.vnet_hdr })
    assert.is_true(tap(pod.path, { name = "t1", owner = 61000, group = 61001 }))
    data = t.link(pod, "t1").linkinfo.info_data
    t.same({ 61000, 61001 }, { data.user, data.group })
    assert.is_true(tap(pod.path, { name = "t2", group = 61002 }))
    data = t.link(pod, "t2").linkinfo.info_data
    t.same({ false, false }, { data.multi_queue, data.vnet_hdr })
    assert.is_nil(data.user)
    assert.equal(61002, data.group)
  end)

  it("takes no name that a link has, whoever made that", function()
    assert.is_true(tap(pod.path, { name = "t0", mac = "02:00:00:00:00:01" }))
    t.run("ip link add v0 type veth peer name v1", { host = pod })
    local before = t.run("ip -d -j link", { host = pod })
    for _, name in ipairs { "t0", "v0" } do
      local ok, msg, errno = tap(pod.path, { name = name, mac = "02:00:00:00:00:02" })
      assert.is_nil(ok)
      assert.equal(EBUSY, errno)
      assert.matches("make tap " .. name, msg, 1, true)
    end
    assert.equal(before, t.run("ip -d -j link", { host = pod }))
  end)

  it("leaves nothing when a part of it is refused, or the namespace is not there", function()
    local descriptors = #netlink.sys.list("/proc/self/fd")
    local _, _, errno = tap(pod.path, { name = "t0", mac = "01:00:00:00:00:01" })
    assert.equal(EADDRNOTAVAIL, errno)
    assert.is_nil(t.link(pod, "t0"))
    _, _, errno = tap("/run/netns/none", { name = "t0" })
    assert.equal(ENOENT, errno)
    assert.equal(descriptors, #netlink.sys.list("/proc/self/fd"))
  end)

  it("names the mistake", function()
    for name, says in pairs { [1] = "name must be a string", [""] = "not the name",
      ["a\0b"] = "not the name", [("x"):rep(16)] = "not the name" } do
      assert.matches(says, mistake(tap, pod.path, { name = name ~= 1 and name or nil }))
    end
    for _, mac in ipairs { "", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:0g" } do
      assert.matches("not six bytes", mistake(tap, pod.path, { name = "t0", mac = mac }))
    end
    for _, id in ipairs { -2, 1 << 32, "root", 1.5 } do
      assert.matches("owner must be", mistake(tap, pod.path, { name = "t0", owner = id }))
      assert.matches("group must be", mistake(tap, pod.path, { name = "t0", group = id }))
    end
    assert.is_nil(t.link(pod, "t0"))
    assert.is_true(tap(pod.path, { name = ("x"):rep(15) }))
  end)
end)

describe("a handle", function()
  it("stays in the namespace it was opened in", function()
    t.run("ip link add only_here type veth peer name other_end", { host = pod })
    local object = netlink.ns.open(pod.path)
    for _, where in ipairs { pod.path, object } do
      local p <close> = assert(netlink.open(where))
      assert.is_not_nil(p:get("link", { name = "only_here" }))
    end
    object:close()
    assert.is_nil(h:get("link", { name = "only_here" }))
    local here <close> = assert(netlink.open())
    assert.is_nil(here:get("link", { name = "only_here" }))
  end)

  it("closes once, twice, and is then of no use", function()
    assert.matches("^rtnl %(%d+%)$", tostring(h))
    h:close()
    h:close()
    assert.equal(-1, h:fd())
    assert.equal("rtnl (closed)", tostring(h))
    for _, method in ipairs { "send", "get", "dump", "await", "del_link_quick", "del_group_quick" } do
      assert.matches("handle is closed", mistake(h[method], h, "link", {}))
    end
  end)

  it("keeps its inside to itself", function()
    assert.equal("netlink.rtnl", getmetatable(h))
    assert.is_nil(h.__gc)
    assert.is_nil(h.__index)
    assert.matches("netlink.rtnl expected", mistake(h.send, netlink.ns.self(), {}))
  end)

  it("is of use again after a mistake", function()
    mistake(h.send, h, { { "add", "link", { name = "v0", kind = "veth" } },
      { "add", "link", { bad = 1 } } })
    assert.is_true(h:send({}))
    assert.is_nil(t.link(host, "v0"))
    assert.equal("lo", h:get("link", { name = "lo" }).name)
  end)

  it("is closed by the collector", function()
    local highest = 0
    for _ = 1, 50 do highest = math.max(highest, netlink.open():fd()) end
    collectgarbage()
    local again <close> = netlink.open()
    assert.is_true(again:fd() < highest)
  end)
end)

describe("links", function()
  it("veth: both ends in place with name, MAC, MTU, queue length, alias", function()
    local ns = netlink.ns.open(pod.path)
    send({ "add", "link", { name = "v0", kind = "veth", mtu = 1400, mac = "02:00:00:00:00:01",
      txqlen = 0, alias = "of c1", up = true, num_tx_queues = 2,
      peer = { name = "eth0", netns = ns, mtu = 1400, mac = "02:00:00:00:00:02" } } })
    ns:close()
    local a, b = t.link(host, "v0"), t.link(pod, "eth0")
    assert.equal("veth", a.linkinfo.info_kind)
    assert.equal("02:00:00:00:00:01", a.address)
    assert.equal("02:00:00:00:00:02", b.address)
    assert.equal(1400, a.mtu)
    assert.equal(1400, b.mtu)
    assert.is_nil(a.txqlen)
    assert.equal(1000, b.txqlen)
    assert.equal("of c1", a.ifalias)
    assert.equal(2, a.num_tx_queues)
    assert.is_true(t.has_flag(a, "UP"))
    assert.is_false(t.has_flag(b, "UP"))
    assert.is_nil(t.link(host, "eth0"))
  end)

  it("are read as ip reads them", function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
    for _, name in ipairs { "v0", "v1", "lo" } do
      -- Kernels before 6.8 are some time behind with the state of operation.
      t.run("sleep 0.1; ip link show " .. name, { host = host })
      local theirs = t.link(host, name)
      local ours = h:await("link", { name = name }, { operstate = theirs.operstate:lower() }, nil, 3000)
      assert.equal(theirs.ifindex, ours.index)
      assert.equal(theirs.address, ours.mac)
      assert.equal(theirs.broadcast, ours.broadcast)
      assert.equal(theirs.mtu, ours.mtu)
      assert.equal(theirs.txqlen, ours.txqlen)
      assert.equal(theirs.operstate:lower(), ours.operstate)
      assert.equal(theirs.inet6_addr_gen_mode, ours.addr_gen_mode)
      assert.equal(t.has_flag(theirs, "UP"), ours.up)
      assert.equal(t.has_flag(theirs, "LOWER_UP"), ours.lower_up)
      assert.equal(not t.has_flag(theirs, "NOARP"), ours.arp)
      assert.equal(theirs.linkinfo and theirs.linkinfo.info_kind, ours.kind)
      t.same(ours, h:get("link", { index = ours.index }))
    end
    assert.equal(index_of "v1", h:get("link", { name = "v0" }).link)
  end)

  it("bridge: every option asked for", function()
    send({ "add", "link", { name = "br0", kind = "bridge", up = true, mac = "02:00:00:00:00:09",
      stp = true, forward_delay = 400, hello_time = 100, max_age = 700, ageing_time = 1000,
      bridge_priority = 100, mcast_snooping = false, mcast_router = 2, group_addr =
      "01:80:c2:00:00:04", nf_call_iptables = true, no_linklocal_learn = true,
      bridge_group_fwd_mask = 8, mcast_query_interval = 13000 } })
    local data = t.link(host, "br0").linkinfo.info_data
    assert.equal(1, data.stp_state)
    assert.equal(400, data.forward_delay)
    assert.equal(100, data.hello_time)
    assert.equal(700, data.max_age)
    assert.equal(1000, data.ageing_time)
    assert.equal(100, data.priority)
    assert.equal(0, data.mcast_snooping)
    assert.equal(2, data.mcast_router)
    assert.equal("01:80:c2:00:00:04", data.group_addr)
    assert.equal(1, data.nf_call_iptables)
    assert.equal("0x8", data.group_fwd_mask)
    assert.equal(13000, data.mcast_query_intvl)
    local ours = h:get("link", { name = "br0" })
    assert.is_true(ours.no_linklocal_learn)
    assert.is_true(ours.stp)
    assert.is_false(ours.mcast_snooping)
  end)

  it("bridge: an option changes alone", function()
    send({ "add", "link", { name = "br0", kind = "bridge", ageing_time = 1000, stp = true } })
    send({ "set", "link", { name = "br0", kind = "bridge", ageing_time = 2000 } })
    local data = t.link(host, "br0").linkinfo.info_data
    assert.equal(2000, data.ageing_time)
    assert.equal(1, data.stp_state)
  end)

  it("join a bridge and get port settings in one request", function()
    send({ "add", "link", { name = "br0", kind = "bridge" } })
    send({ "add", "link", { name = "v0", kind = "veth", master = index_of "br0", peer = { name = "v1" },
      port = { hairpin = true, isolated = true, learning = false, cost = 77 } } })
    local link = t.link(host, "v0")
    assert.equal("br0", link.master)
    local port = link.linkinfo.info_slave_data
    assert.is_true(port.hairpin)
    assert.is_true(port.isolated)
    assert.is_false(port.learning)
    assert.equal(77, port.cost)
    assert.is_true(port.flood)
    local ours = h:get("link", { name = "v0" })
    assert.equal("bridge", ours.port_kind)
    assert.is_true(ours.port.hairpin)
    send({ "set", "link", { name = "v0", port = { hairpin = false } } })
    assert.is_false(t.link(host, "v0").linkinfo.info_slave_data.hairpin)
    assert.is_true(t.link(host, "v0").linkinfo.info_slave_data.isolated)
    send({ "set", "link", { name = "v0", master = 0 } })
    assert.is_nil(t.link(host, "v0").master)
  end)

  it("have no port settings without a bridge", function()
    send({ "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } })
    local _, _, statuses = refused(95, { "set", "link", { name = "v0", port = { hairpin = true } } })
    t.same({ 95 }, statuses)
  end)

  it("that are made and then refused something say that they may be there", function()
    local _, _, statuses = refused(95, { "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" },
      port = { hairpin = true } } })
    t.same({ -95 }, statuses)
    assert.is_not_nil(t.link(host, "v0"))
  end)

  it("of a kind we have no words for take numbered attributes", function()
    local ageing, multi, snooping = 4, 23, 1
    send({ "add", "link", { name = "br0", kind = "bridge",
      kind_data = { { ageing, ("=I4"):pack(4200) }, { multi, "\0" } } } })
    local data = t.link(host, "br0").linkinfo.info_data
    assert.equal(4200, data.ageing_time)
    assert.equal(0, data.mcast_snooping)
    for _, bad in ipairs { 5, { 5 }, { { "x", "y" } }, { { 1, 2 } }, { { -1, "" } }, { { snooping } } } do
      assert.matches("link.kind_data", mistake(h.send, h, { { "add", "link", { name = "br1", kind =
        "bridge", kind_data = bad } } }), 1, true)
    end
  end)

  it("macvlan: mode, parent, straight into the pod", function()
    t.needs("macvlan")
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
    local ns = netlink.ns.open(pod.path)
    send({ "add", "link", { name = "eth0", kind = "macvlan", link = index_of "v0", netns = ns,
      macvlan_mode = "private", macvlan_bc_queue_len = 500, mac = "02:00:00:00:00:07" } })
    ns:close()
    local link = t.link(pod, "eth0")
    assert.equal("private", link.linkinfo.info_data.mode)
    assert.equal("02:00:00:00:00:07", link.address)
    assert.equal(index_of "v0", link.link_index)
    assert.equal(500, link.linkinfo.info_data.bcqueuelen)
    local p <close> = netlink.open(pod.path)
    assert.equal("private", p:get("link", { name = "eth0" }).macvlan_mode)
  end)

  it("vxlan: what it was given", function()
    t.needs("vxlan")
    send({ "add", "link", { name = "x0", kind = "vxlan", vxlan_id = 42, vxlan_port = 4789,
      vxlan_group = "239.1.1.1", vxlan_link = 1, vxlan_ttl = 7, vxlan_learning = false,
      vxlan_port_low = 1000, vxlan_port_high = 2000 } })
    local data = t.link(host, "x0").linkinfo.info_data
    assert.equal(42, data.id)
    assert.equal(4789, data.port)
    assert.equal("239.1.1.1", data.group)
    assert.equal(7, data.ttl)
    assert.is_false(data.learning)
    assert.equal(1000, data.port_range.low)
    assert.equal(2000, data.port_range.high)
    local ours = h:get("link", { name = "x0" })
    assert.equal(4789, ours.vxlan_port)
    assert.equal(2000, ours.vxlan_port_high)
    assert.matches("IPv4", mistake(h.send, h, { { "add", "link", { name = "x1", kind = "vxlan",
      vxlan_id = 1, vxlan_group = "ff02::1" } } }))
  end)

  it("vlan: id, protocol, flags", function()
    t.needs("vlan")
    send({ "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } })
    send({ "add", "link", { name = "v0.5", kind = "vlan", link = index_of "v0", vlan_id = 5,
      vlan_protocol = "802.1ad", gvrp = true, reorder_hdr = false,
      egress_qos = { { from = 1, to = 3 } } } })
    local data = t.link(host, "v0.5").linkinfo.info_data
    assert.equal(5, data.id)
    assert.equal("802.1ad", data.protocol)
    t.same({ "GVRP" }, data.flags)
    t.same({ { from = 1, to = 3 } }, data.egress_qos)
    assert.is_true(h:get("link", { name = "v0.5" }).gvrp)
    t.same({ { from = 1, to = 3 } }, h:get("link", { name = "v0.5" }).egress_qos)
  end)

  it("ipvlan: mode and flag", function()
    t.needs("ipvlan")
    send({ "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } })
    send({ "add", "link", { name = "i0", kind = "ipvlan", link = index_of "v0", ipvlan_mode = "l3",
      ipvlan_flag = "private" } })
    local data = t.link(host, "i0").linkinfo.info_data
    assert.equal("l3", data.mode)
    assert.is_true(data.private)
  end)

  it("dummy and vrf", function()
    t.needs("dummy", "vrf")
    send({ "add", "link", { name = "r0", kind = "vrf", vrf_table = 77 } },
      { "add", "link", { name = "d0", kind = "dummy" } })
    assert.equal(77, t.link(host, "r0").linkinfo.info_data.table)
    send({ "set", "link", { name = "d0", master = index_of "r0" } })
    assert.equal("r0", t.link(host, "d0").master)
    assert.equal(77, h:get("link", { name = "d0" }).port.vrf_table)
  end)

  it("go up and down, are renamed, lose their alias, gain a group", function()
    send({ "add", "link", { name = "v0", kind = "veth", alias = "x", peer = { name = "v1" } } })
    local index = index_of "v0"
    send({ "set", "link", { index = index, name = "w0", alias = "", group = 7 } },
      { "set", "link", { index = index, up = true, arp = false, promisc = true } })
    local link = t.link(host, "w0")
    assert.equal(index, link.ifindex)
    assert.is_nil(link.ifalias)
    assert.equal("7", link.group)
    assert.is_true(t.has_flag(link, "UP") and t.has_flag(link, "NOARP") and t.has_flag(link, "PROMISC"))
    send({ "set", "link", { index = index, up = false } })
    link = t.link(host, "w0")
    assert.is_false(t.has_flag(link, "UP"))
    assert.is_true(t.has_flag(link, "PROMISC"))
  end)

  it("are found by an alternative name, long or short", function()
    local long = ("n"):rep(40)
    send({ "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } })
    t.run("ip link property add dev v0 altname short altname " .. long, { host = host })
    assert.equal("v0", h:get("link", { name = "short" }).name)
    assert.equal("v0", h:get("link", { name = long }).name)
    t.same({ "short", long }, h:get("link", { name = "v0" }).altnames)
    assert.is_nil(h:get("link", { name = ("m"):rep(40) }))
    assert.matches("not an interface name", mistake(h.get, h, "link", { name = ("n"):rep(128) }))
  end)

  it("have their addr_gen_mode before they are up", function()
    send({ "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } })
    send({ "set", "link", { name = "v1", up = true } },
      { "set", "link", { name = "v0", addr_gen_mode = "none", up = true, mtu = 1400 } },
      { "add", "link", { name = "br0", kind = "bridge", addr_gen_mode = "none", up = true } })
    for _, name in ipairs { "v0", "br0" } do
      local link = t.link(host, name)
      assert.equal("none", link.inet6_addr_gen_mode)
      assert.is_true(t.has_flag(link, "UP"))
      t.same({}, t.ip(host, "-6 addr show dev " .. name))
    end
    assert.are_not.same({}, t.ip(host, "-6 addr show dev v1"))
    assert.equal(1400, t.link(host, "v0").mtu)
  end)

  it("say what a peer cannot be born with", function()
    for _, key in ipairs { "up", "alias", "addr_gen_mode" } do
      assert.matches("link.peer." .. key .. ": cannot be set before the pair is there", mistake(h.send, h,
        { { "add", "link", { name = "v0", kind = "veth", peer = { name = "v1", [key] = true } } } }), 1, true)
    end
    local ns <close> = netlink.ns.open(pod.path)
    assert.matches("cannot go with 'netns'", mistake(h.send, h, { { "add", "link", { name = "v0",
      kind = "bridge", alias = "x", netns = ns } } }))
  end)

  it("that are absent are nil", function()
    assert.is_nil(h:get("link", { name = "none0" }))
    assert.equal(1, select("#", h:get("link", { name = "none0" })))
    assert.is_nil(h:get("link", { index = 99999 }))
    assert.matches("'index' or 'name'", mistake(h.get, h, "link", {}))
  end)

  it("of one kind or one master are listed alone", function()
    send({ "add", "link", { name = "br0", kind = "bridge" } })
    send({ "add", "link", { name = "v0", kind = "veth", master = index_of "br0", peer = { name = "v1" } } },
      { "add", "link", { name = "v2", kind = "veth", up = true, peer = { name = "v3" } } })
    local function names(filter)
      local list = {}
      for _, link in ipairs(assert(h:dump("link", filter))) do list[#list + 1] = link.name end
      table.sort(list)
      return table.concat(list, " ")
    end
    assert.equal("br0 lo v0 v1 v2 v3", names())
    assert.equal("br0", names { kind = "bridge" })
    assert.equal("v0 v1 v2 v3", names { kind = "veth" })
    assert.equal("v0", names { master = index_of "br0" })
    assert.equal("v2", names { up = true, kind = "veth" })
    assert.equal("", names { kind = "vxlan" })
    assert.equal("v0", names { kind = "veth", master = index_of "br0" })
  end)
end)

describe("addresses", function()
  local index

  before_each(function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
    index = index_of "v0"
    send({ "set", "link", { name = "v1", up = true } })
  end)

  local function shown(family)
    local list = {}
    for _, a in ipairs(t.ip(host, family .. " addr show dev v0")[1].addr_info) do
      if a.scope ~= "link" then list[#list + 1] = a end
    end
    return list
  end

  it("IPv4 with label, broadcast, scope, lifetimes", function()
    send({ "add", "addr", { index = index, address = "10.1.2.3/24", broadcast = "10.1.2.255",
      label = "v0:x", valid_lft = 1000, preferred_lft = 500 } },
      { "add", "addr", { index = index, address = "10.1.3.3/32", scope = "host" } })
    local by = {}
    for _, a in ipairs(shown("-4")) do by[a["local"]] = a end
    local one, two = by["10.1.2.3"], by["10.1.3.3"]
    assert.equal(24, one.prefixlen)
    assert.equal("10.1.2.255", one.broadcast)
    assert.equal("v0:x", one.label)
    assert.is_true(one.valid_life_time > 990 and one.valid_life_time <= 1000)
    assert.is_true(one.preferred_life_time > 490 and one.preferred_life_time <= 500)
    assert.equal("host", two.scope)
    assert.equal(4294967295, two.valid_life_time)
    local ours = h:get("addr", { index = index, address = "10.1.2.3/24" })
    assert.equal("v0:x", ours.label)
    assert.equal("10.1.2.255", ours.broadcast)
    assert.equal("inet", ours.family)
    assert.is_false(ours.permanent)
    assert.is_nil(ours.peer)
  end)

  it("of a link in another namespace, by the number that it has here", function()
    send({ "add", "link", { name = "w0", kind = "veth", peer = { name = "w1", netns = netlink.ns.open(pod.path) } } })
    t.run("ip addr add 10.1.2.3/24 dev w1; ip -6 addr add fd00::5/64 dev w1 nodad", { host = pod })
    send({ "add", "addr", { index = index, address = "10.1.9.9/24" } })
    local w0 = h:get("link", { name = "w0" })
    local function addresses(more)
      local list = {}
      for _, a in ipairs(assert(h:dump("addr", t.merge({ index = w0.link, netnsid = w0.link_netnsid }, more)))) do
        list[#list + 1] = a.address
      end
      return list
    end
    t.same({ "10.1.2.3/24", "fd00::5/64" }, addresses())
    t.same({ "10.1.2.3/24" }, addresses({ family = "inet" }))
    t.same({ "fd00::5/64" }, addresses({ family = "inet6" }))
    local list, _, errno = h:dump("addr", { index = w0.link, netnsid = 4711 })
    assert.is_nil(list)
    assert.equal(22, errno)
  end)

  it("the groups that IPv6 has joined for them, to be looked at alone", function()
    send({ "add", "addr", { index = index, address = "fd00::1:2345/64" } })
    local joined = {}
    -- The kernel joins it some time after it has the address.
    for _ = 1, 100 do
      for _, group in ipairs(assert(h:dump("group", { family = "inet6", index = index }))) do joined[group.address] = group.index end
      if joined["ff02::1:ff01:2345"] then break end
      t.sh "sleep 0.05"
    end
    assert.equal(index, joined["ff02::1:ff01:2345"])
    for _, verb in ipairs { "add", "del" } do
      assert.is_nil(h:send({ { verb, "group", { index = index, family = "inet6" } } }))
    end
  end)

  it("IPv6 with nodad, noprefixroute", function()
    send({ "add", "addr", { index = index, address = "FD00:0::5/64", nodad = true,
      noprefixroute = true } })
    local a = shown("-6")[1]
    assert.equal("fd00::5", a["local"])
    assert.is_nil(a.tentative)
    assert.is_true(a.noprefixroute)
    local ours = h:get("addr", { index = index, address = "fd00::5/64" })
    assert.is_true(ours.nodad)
    assert.is_false(ours.tentative)
    t.same({}, routes("-6 route show dev v0 fd00::/64"))
  end)

  it("with a peer", function()
    send({ "add", "addr", { index = index, address = "10.1.2.3/32", peer = "10.9.9.9/32" } })
    local a = t.ip(host, "-4 addr show dev v0")[1].addr_info[1]
    assert.equal("10.1.2.3", a["local"])
    assert.equal("10.9.9.9", a.address)
    assert.equal("10.9.9.9/32", h:dump("addr", { index = index, family = "inet" })[1].peer)
  end)

  it("twice is EEXIST, replaced is not, deleted twice is EADDRNOTAVAIL", function()
    local a = { index = index, address = "10.1.2.3/24" }
    send({ "add", "addr", a })
    assert.matches("add addr 10.1.2.3/24: File exists", refused(EEXIST, { "add", "addr", a }), 1, true)
    send({ "replace", "addr", a })
    send({ "del", "addr", a })
    t.same({}, t.ip(host, "-4 addr show dev v0"))
    refused(99, { "del", "addr", a })
    assert.is_nil(h:get("addr", a))
  end)

  it("are listed by link and family", function()
    send({ "add", "addr", { index = index, address = "10.1.2.3/24" } },
      { "add", "addr", { index = index, address = "fd00::5/64" } },
      { "add", "addr", { index = 1, address = "10.1.9.9/32" } })
    local function list(filter)
      local out = {}
      for _, a in ipairs(assert(h:dump("addr", filter))) do
        if a.scope == "global" then out[#out + 1] = a.address end
      end
      return table.concat(out, " ")
    end
    assert.equal("10.1.2.3/24", list { index = index, family = "inet" })
    assert.equal("fd00::5/64", list { index = index, family = "inet6" })
    assert.equal("10.1.2.3/24 fd00::5/64", list { index = index })
    assert.equal("10.1.9.9/32", list { index = 1, family = "inet" })
    assert.equal("10.1.9.9/32", list { address = "10.1.9.9/32" })
    assert.equal(ENODEV, select(3, h:dump("addr", { index = 4711 })))
  end)

  it("that are none are refused before the kernel sees them", function()
    for _, bad in ipairs { "10.1.2.3/33", "10.1.2.3/", "10.1.2.3/024", "10.1.2.3/-1", "/24", "fd00::/129",
      "10.1.2/24", "x", "::ffff:10.1.2.3/120", "10.1.2.3/24/8", "10.1.2.3/24 ", "" } do
      assert.matches("is not an address", mistake(h.send, h, { { "add", "addr",
        { index = index, address = bad } } }), 1, true)
    end
    assert.matches("IPv4 is meant", mistake(h.send, h, { { "add", "addr", { index = index,
      family = "inet", address = "fd00::1/64" } } }))
  end)
end)

describe("routes", function()
  local index

  before_each(function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } },
      { "set", "link", { name = "v1", up = true } })
    index = index_of "v0"
    send({ "add", "addr", { index = index, address = "10.1.2.3/24" } },
      { "add", "addr", { index = index, address = "fd00::3/64", nodad = true } })
  end)

  it("default of both families", function()
    send({ "add", "route", { dst = "default", gw = "10.1.2.1" } },
      { "add", "route", { dst = "default", gw = "fd00::1" } })
    assert.equal("10.1.2.1", routes("-4 route show default")[1].gateway)
    assert.equal("fd00::1", routes("-6 route show default")[1].gateway)
    assert.equal("0.0.0.0/0", h:get("route", { dst = "default", gw = "10.1.2.1" }).dst)
    assert.equal(2, #h:dump("route", { dst = "default", table = 254 }))
    assert.equal(1, #h:dump("route", { dst = "default", family = "inet6", table = 254 }))
    assert.equal(1, #h:dump("route", { dst = "0.0.0.0/0" }))
    send({ "del", "route", { dst = "default", family = "inet6" } })
    t.same({}, routes("-6 route show default"))
    assert.equal(1, #routes("-4 route show default"))
  end)

  it("metrics, priority, source, scope, protocol, type, table", function()
    send({ "add", "route", { dst = "10.9.0.0/16", oif = index, mtu = 1300, advmss = 1200, window = 5000,
      rtt = 80, rttvar = 40, ssthresh = 10, cwnd = 9, hoplimit = 33, initcwnd = 11, initrwnd = 12,
      quickack = true, rto_min = 200, congestion = "reno", lock = { "mtu", "cwnd" }, reordering = 5,
      features = { "ecn" }, src = "10.1.2.3", scope = "link", protocol = "static", priority = 99,
      table = 1000 } })
    local r = routes("-4 -d route show table 1000")[1]
    assert.equal("10.9.0.0/16", r.dst)
    assert.equal("v0", r.dev)
    assert.equal("10.1.2.3", r.prefsrc)
    assert.equal("link", r.scope)
    assert.equal("static", r.protocol)
    assert.equal(99, r.metric)
    local text = t.run("ip -4 route show table 1000", { host = host })
    for _, word in ipairs { "mtu lock 1300", "advmss 1200", "window 5000", "cwnd lock 9", "hoplimit 33",
      "initcwnd 11", "initrwnd 12", "quickack 1", "congctl reno", "features ecn", "reordering 5",
      "rto_min 200ms", "ssthresh 10" } do
      assert.matches(word, text, 1, true)
    end
    local ours = h:get("route", { dst = "10.9.0.0/16", table = 1000 })
    assert.equal(1000, ours.table)
    assert.equal(1300, ours.mtu)
    t.same({ "mtu", "cwnd" }, ours.lock)
    assert.is_true(ours.quickack)
    assert.equal("reno", ours.congestion)
    assert.is_nil(h:get("route", { dst = "10.9.0.0/16", table = 1001 }))
    assert.is_nil(h:get("route", { dst = "10.9.0.0/16", table = "main" }))
    assert.is_nil(h:get("route", { dst = "10.9.0.0/17", table = 1000 }))
    t.same({}, h:dump("route", { table = 4242 }))
  end)

  it("what was read can be written again", function()
    send({ "add", "route", { dst = "10.9.0.0/16", gw = "10.1.2.1", mtu = 1300, lock = { "mtu" } } })
    local r = h:get("route", { dst = "10.9.0.0/16" })
    r.table, r.dead, r.linkdown = 1000, nil, nil
    send({ "replace", "route", r })
    local copy = h:get("route", { dst = "10.9.0.0/16", table = 1000 })
    copy.dead, copy.linkdown = nil, nil
    t.same(r, copy)
  end)

  it("onlink, blackhole, IPv4 by an IPv6 gateway", function()
    send({ "add", "route", { dst = "10.9.0.0/16", gw = "192.0.2.1", oif = index, onlink = true } },
      { "add", "route", { dst = "10.8.0.0/16", type = "blackhole" } },
      { "add", "route", { dst = "10.7.0.0/16", gw = "fd00::1", oif = index } })
    assert.equal("onlink", routes("-4 route show 10.9.0.0/16")[1].flags[1])
    assert.equal("blackhole", routes("-4 route show 10.8.0.0/16")[1].type)
    assert.equal("fd00::1", routes("-4 route show 10.7.0.0/16")[1].via.host)
    assert.equal("fd00::1", h:get("route", { dst = "10.7.0.0/16" }).gw)
    assert.is_true(h:get("route", { dst = "10.9.0.0/16" }).onlink)
    refused(101, { "add", "route", { dst = "10.6.0.0/16", gw = "192.0.2.1" } })
  end)

  it("multipath of both families", function()
    send({ "add", "route", { dst = "10.9.0.0/16", multipath = { { gw = "10.1.2.1", weight = 3 },
      { gw = "10.1.2.2", oif = index }, { gw = "fd00::9", oif = index } } } },
      { "add", "route", { dst = "fd09::/64", multipath = { { gw = "fd00::1", weight = 2 },
      { gw = "fd00::2" } } } })
    local hops = routes("-4 route show 10.9.0.0/16")[1].nexthops
    assert.equal(3, #hops)
    assert.equal("10.1.2.1", hops[1].gateway)
    assert.equal(3, hops[1].weight)
    assert.equal(1, hops[2].weight)
    assert.equal("fd00::9", hops[3].via.host)
    local ours = h:get("route", { dst = "10.9.0.0/16" }).multipath
    assert.equal(3, ours[1].weight)
    assert.equal("10.1.2.2", ours[2].gw)
    assert.equal("fd00::9", ours[3].gw)
    assert.equal("fd00::1", h:get("route", { dst = "fd09::/64" }).multipath[1].gw)
    assert.matches("multipath%[1%].gw", mistake(h.send, h, { { "add", "route", { dst = "10.6.0.0/16",
      multipath = { { gw = "x" } } } } }))
    assert.matches("unknown key 'wieght' %(did you mean 'weight'", mistake(h.send, h, { { "add",
      "route", { dst = "10.6.0.0/16", multipath = { { wieght = 1 } } } } }))
  end)

  it("add, append, replace, ensure as the kernel means them", function()
    local one = { dst = "10.9.0.0/16", gw = "10.1.2.1" }
    local two = { dst = "10.9.0.0/16", gw = "10.1.2.2" }
    send({ "add", "route", one })
    refused(EEXIST, { "add", "route", two })
    refused(EEXIST, { "ensure", "route", one })
    send({ "append", "route", two })
    assert.equal(2, #routes("-4 route show 10.9.0.0/16"))
    send({ "del", "route", two }, { "replace", "route", two })
    assert.equal("10.1.2.2", routes("-4 route show 10.9.0.0/16")[1].gateway)
    assert.equal(1, #routes("-4 route show 10.9.0.0/16"))
    send({ "del", "route", { dst = "10.9.0.0/16" } })
    refused(3, { "del", "route", { dst = "10.9.0.0/16" } })
  end)

  it("say what the kernel says", function()
    local msg = refused(EINVAL, { "add", "route", { dst = "10.9.0.1/16", gw = "10.1.2.1" } })
    assert.matches("add route 10.9.0.1/16: Invalid argument (", msg, 1, true)
    assert.matches("IPv4 is meant", mistake(h.send, h, { { "add", "route", { dst = "10.9.0.0/16",
      src = "fd00::3" } } }))
  end)
end)

describe("rules and neighbours", function()
  it("rules of both families", function()
    send({ "add", "rule", { from = "10.1.2.3/32", table = 100, priority = 500 } },
      { "add", "rule", { from = "fd00::1/128", to = "fd01::/64", table = 1000, iif = "lo" } },
      { "add", "rule", { fwmark = 16, fwmask = 255, action = "blackhole", priority = 600 } })
    local rules = routes("-4 rule show")
    assert.equal("10.1.2.3", rules[2].src)
    assert.equal("100", rules[2].table)
    assert.equal(500, rules[2].priority)
    assert.equal("blackhole", rules[3].action)
    assert.equal("0x10", rules[3].fwmark)
    local six = routes("-6 rule show")
    assert.equal("1000", six[2].table)
    assert.equal("fd01::", six[2].dst)
    assert.equal(64, six[2].dstlen)
    assert.equal("lo", six[2].iif)
    assert.equal(500, h:get("rule", { from = "10.1.2.3/32", table = 100 }).priority)
    assert.is_nil(h:get("rule", { from = "10.1.2.4/32" }))
    assert.equal(1, #h:dump("rule", { family = "inet6", table = 1000 }))
    send({ "del", "rule", { from = "10.1.2.3/32", table = 100 } })
    assert.is_nil(h:get("rule", { from = "10.1.2.3/32" }))
    assert.is_not_nil(h:get("rule", { fwmark = 16 }))
    refused(ENOENT, { "del", "rule", { from = "10.1.2.3/32", table = 100 } })
  end)

  it("neighbours of both families", function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
    send({ "set", "link", { name = "v1", up = true } })
    local index = index_of "v0"
    assert(h:await("link", { index = index }, { operstate = "up" }, nil, 5000))
    send({ "add", "neigh", { index = index, dst = "10.1.2.9", mac = "02:00:00:00:00:55" } },
      { "add", "neigh", { index = index, dst = "fd00::9", mac = "02:00:00:00:00:56", state = "noarp" } })
    local list = routes("neigh show dev v0 nud all")
    local by = {}
    for _, n in ipairs(list) do by[n.dst] = n end
    assert.equal("02:00:00:00:00:55", by["10.1.2.9"].lladdr)
    t.same({ "PERMANENT" }, by["10.1.2.9"].state)
    t.same({ "NOARP" }, by["fd00::9"].state)
    assert.equal("permanent", h:get("neigh", { index = index, dst = "10.1.2.9" }).state)
    assert.is_nil(h:get("neigh", { index = index, dst = "10.1.2.8" }))
    assert.equal(1, #h:dump("neigh", { index = index, state = "permanent" }))
    send({ "del", "neigh", { index = index, dst = "10.1.2.9" } })
    assert.is_nil(h:get("neigh", { index = index, dst = "10.1.2.9" }))
  end)

  it("forwarding entries of a bridge", function()
    send({ "add", "link", { name = "br0", kind = "bridge" } })
    send({ "add", "link", { name = "v0", kind = "veth", master = index_of "br0", peer = { name = "v1" } } })
    send({ "add", "neigh", { family = "bridge", index = index_of "v0", mac = "02:00:00:00:00:77",
      flags = { "master" } } })
    local found = false
    for _, entry in ipairs(t.bridge(host, "fdb show dev v0")) do
      found = found or (entry.mac == "02:00:00:00:00:77" and entry.state == "permanent")
    end
    assert.is_true(found)
  end)

  it("forwarding entries of a tunnel, to an address of either family; and proxies alone", function()
    t.needs("vxlan")
    send({ "add", "link", { name = "x0", kind = "vxlan", vxlan_id = 7, vxlan_port = 4789 } })
    send({ "add", "neigh", { family = "bridge", index = index_of "x0", mac = "02:00:00:00:00:78",
      dst = "192.0.2.9", flags = { "self" } } })
    local list = h:dump("neigh", { family = "bridge" })
    assert.equal(1, #list)
    assert.equal("192.0.2.9", list[1].dst)
    assert.equal("192.0.2.9", t.bridge(host, "fdb show dev x0")[1].dst)
    send({ "add", "neigh", { index = index_of "x0", dst = "10.1.2.9", flags = { "proxy" } } })
    local proxies = h:dump("neigh", { family = "inet", flags = { "proxy" } })
    assert.equal(1, #proxies)
    assert.equal("10.1.2.9", proxies[1].dst)
  end)
end)

describe("bridge VLANs", function()
  local function shown(name)
    local out = {}
    for _, dev in ipairs(t.bridge(host, "vlan show")) do
      if dev.ifname == name then
        for _, v in ipairs(dev.vlans) do
          out[#out + 1] = ("%d%s%s"):format(v.vlan, v.vlanEnd and "-" .. v.vlanEnd or "",
            v.flags and #v.flags > 0 and " " .. table.concat(v.flags, ",") or "")
        end
      end
    end
    return table.concat(out, "; ")
  end

  it("single, ranges, pvid, of the port and of the bridge itself", function()
    t.needs("bridge-vlan")
    send({ "add", "link", { name = "br0", kind = "bridge", vlan_filtering = true, vlan_default_pvid = 0 } })
    send({ "add", "link", { name = "v0", kind = "veth", master = index_of "br0", peer = { name = "v1" } } })
    local port, bridge = index_of "v0", index_of "br0"
    send({ "add", "vlan", { index = port, vid = 5, pvid = true, untagged = true } },
      { "add", "vlan", { index = port, vid = 10, vid_end = 20 } },
      { "add", "vlan", { index = bridge, vid = 5, self = true } })
    assert.equal("5 PVID,Egress Untagged; 10; 20", (shown("v0"):gsub("; 1[1-9]", "")))
    assert.equal("5", shown("br0"))
    local ours = h:dump("vlan", { index = port })
    assert.equal(2, #ours)
    assert.is_true(ours[1].pvid and ours[1].untagged)
    assert.equal(20, ours[2].vid_end)
    assert.equal(port, ours[2].index)
    assert.equal(5, h:get("vlan", { index = port, vid = 5 }).vid)
    assert.equal(20, h:get("vlan", { index = port, vid = 15 }).vid_end)
    assert.is_nil(h:get("vlan", { index = port, vid = 21 }))
    assert.is_nil(h:get("vlan", { index = port, vid = 15, pvid = true }))
    send({ "del", "vlan", { index = port, vid = 12, vid_end = 20 } },
      { "del", "vlan", { index = bridge, vid = 5, self = true } })
    assert.equal("", shown("br0"))
    assert.equal(11, h:dump("vlan", { index = port })[2].vid_end)
  end)

  it("out of range are refused before the kernel sees them", function()
    for _, bad in ipairs { { vid = 0 }, { vid = 4095 }, { vid = 5, vid_end = 4 }, { vid = -1 },
      { vid = 1.5 }, { vid = "5" } } do
      bad.index = 1
      assert.matches("vlan.vid", mistake(h.send, h, { { "add", "vlan", bad } }), 1, true)
    end
    assert.matches("without 'vid'", mistake(h.send, h, { { "add", "vlan", { index = 1, pvid = true } } }))
  end)
end)

describe("mistakes", function()
  local function add(attrs) return mistake(h.send, h, { { "add", "link", attrs } }) end

  it("in a key name the nearest one", function()
    assert.matches("request 1: link: unknown key 'nmae' %(did you mean 'name'%?%)", add { nmae = "x" })
    assert.matches("did you mean 'mac'", add { mca = "x" })
    assert.matches("link.peer: unknown key 'mttu' %(did you mean 'mtu'",
      add { name = "x", kind = "veth", peer = { mttu = 1 } })
    assert.matches("link.port: unknown key 'harpin' %(did you mean 'hairpin'", add { name = "x", port = { harpin = true } })
    assert.matches("did you mean 'vlan_filtering'", add { kind = "bridge", vlan_filterin = true })
    assert.matches("unknown key 'completely_different'$", add { completely_different = 1 })
    assert.matches("unexpected list element", add { name = "x", "y" })
  end)

  it("in the kind name the one that has the key", function()
    assert.matches("key 'vlan_filtering' needs kind = \"bridge\"", add { vlan_filtering = true }, 1, true)
    assert.matches("key 'macvlan_mode' needs kind = \"macvlan\"",
      add { kind = "veth", macvlan_mode = "bridge" }, 1, true)
  end)

  it("in a value name path, value and range", function()
    assert.matches("link.mtu: %-1 is not in 0..2147483647", add { mtu = -1 })
    assert.matches("link.mtu: expected an integer, got a string", add { mtu = "1500" })
    assert.matches("link.mtu: expected an integer", add { mtu = 1500.5 })
    assert.matches("link.up: expected a boolean, got a number", add { up = 1 })
    assert.matches("link.name: 16 bytes", add { name = ("n"):rep(16) })
    assert.matches("link.name: 0 bytes", add { name = "" })
    assert.matches("link.name: text with a zero byte", add { name = "a\0b" })
    assert.matches("link.mac: '02:00' is not a hardware address", add { mac = "02:00" })
    assert.matches("is not a hardware address", add { mac = "02-00-00-00-00-01" })
    assert.matches("is not a hardware address", add { mac = "02:00:00:00:00:0g" })
    assert.matches("is not a hardware address", add { mac = "02:00:00:00:00:01:" })
    assert.matches("is not a hardware address", add { mac = "" })
    assert.matches("link.operstate: is read%-only", add { operstate = "up" })
    assert.matches("link.vlan_id: 4096", add { kind = "vlan", vlan_id = 4096 })
    assert.matches("unknown value 'brigde' %(did you mean 'bridge'",
      add { kind = "macvlan", macvlan_mode = "brigde" })
    assert.matches("link.peer: expected a table", add { kind = "veth", peer = "v1" })
    assert.matches("link.netns: expected an open ns object", add { netns = "/run/netns/pod" })
    assert.matches("egress_qos%[2%].to: expected an integer, got a boolean",
      add { kind = "vlan", egress_qos = { { from = 1, to = 2 }, { from = 1, to = true } } })
    assert.matches("egress_qos: expected a list", add { kind = "vlan", egress_qos = { a = 1 } })
    local deep = { name = "x", kind = "veth" }
    deep.peer = deep
    assert.matches("too deep", add(deep))
  end)

  it("in a request name its number", function()
    local ok = { "set", "link", { name = "lo", up = true } }
    assert.matches("request 2: no such verb 'ad'", mistake(h.send, h, { ok, { "ad", "link", {} } }))
    assert.matches("request 2: no such object 'lnk'", mistake(h.send, h, { ok, { "add", "lnk", {} } }))
    assert.matches("request 2: expected a table", mistake(h.send, h, { ok, 5 }))
    assert.matches("request 2: link: expected a table, got a nil", mistake(h.send, h, { ok, { "add", "link" } }))
    assert.matches("no such object 'lnk'", mistake(h.get, h, "lnk", {}))
    assert.is_false(t.has_flag(t.link(host, "lo"), "UP"))
  end)

  it("have the caller's file and line", function()
    local _, message = pcall(function() h:send({ { "add", "link", { nmae = "x" } } }) end)
    assert.matches("netlink_spec.lua:%d+:", message)
  end)

  it("in a filter name the nearest key as well", function()
    assert.matches("unknown key 'kidn' %(did you mean 'kind'", mistake(h.dump, h, "link", { kidn = "x" }))
    assert.matches("did you mean 'table'", mistake(h.get, h, "route", { tabel = 5 }))
  end)

  it("metamethods are not asked", function()
    local trap = setmetatable({ name = "v0", kind = "veth" }, { __index = function() error("asked") end,
      __pairs = function() error("asked") end, __len = function() error("asked") end })
    send({ "add", "link", trap })
    assert.is_not_nil(t.link(host, "v0"))
  end)
end)

describe("a batch", function()
  it("goes on after a refusal and tells each", function()
    local msg, index, statuses = refused(ENODEV,
      { "add", "link", { name = "v0", kind = "veth", peer = { name = "v1" } } },
      { "set", "link", { name = "none0", up = true } },
      { "add", "link", { name = "v0", kind = "veth", peer = { name = "v2" } } },
      { "set", "link", { name = "v1", up = true } })
    assert.equal(2, index)
    assert.equal("set link none0: No such device", msg)
    t.same({ 0, ENODEV, EEXIST, 0 }, statuses)
    assert.is_true(t.has_flag(t.link(host, "v1"), "UP"))
  end)

  it("names the attribute the kernel objects to", function()
    t.needs("vxlan")
    local msg = refused(EINVAL, { "add", "link", { name = "x0", kind = "vxlan", vxlan_id = 3, mtu = 10 } })
    assert.matches("add link x0: Invalid argument (", msg, 1, true)
    assert.matches("), at 'mtu'", msg, 1, true)
    assert.is_nil(t.link(host, "x0"))
  end)

  it("sets nothing on a link that was there before", function()
    t.run("ip link add v0 alias mine type veth peer name v1; ip link set v0 alias mine", { host = host })
    send({ "add", "link", { name = "br0", kind = "bridge" } })
    local _, _, statuses = refused(EEXIST,
      { "add", "link", { name = "v0", kind = "veth", alias = "theirs", master = index_of "br0",
        port = { hairpin = true }, peer = { name = "v2" } } }, { "set", "link", { name = "v1", mtu = 1400 } })
    t.same({ EEXIST, 0 }, statuses)
    assert.equal("mine", t.link(host, "v0").ifalias)
    assert.is_nil(t.link(host, "v0").master)
    assert.equal(1400, t.link(host, "v1").mtu)
  end)

  it("of any size is carried out in order, however many datagrams it takes", function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
    local requests, index = {}, index_of "v0"
    for i = 0, 1999 do
      requests[#requests + 1] = { "add", "addr", { index = index,
        address = ("10.%d.%d.1/32"):format(i // 256, i % 256) } }
    end
    requests[1500] = { "add", "addr", { index = index, address = "10.0.0.1/32" } }
    local ok, _, errno, at, statuses = h:send(requests)
    assert.is_nil(ok)
    assert.equal(EEXIST, errno)
    assert.equal(1500, at)
    assert.equal(2000, #statuses)
    assert.equal(0, statuses[2000])
    assert.equal(1999, #t.ip(host, "-4 addr show dev v0")[1].addr_info)
    local ours = assert(h:dump("addr", { index = index, family = "inet" }))
    assert.equal(1999, #ours)
    assert.equal("10.0.0.1/32", ours[1].address)
  end)

  it("leaves in one datagram and is answered in few calls", function()
    t.needs("strace")
    local trace = traced("%network", [[
      local h = require("netlink").open()
      local up = { "set", "link", { name = "lo", up = true } }
      h:send { up, up, up, up }]])
    assert.equal(1, select(2, trace:gsub("sendto%(", "")))
    assert.equal(1, select(2, trace:gsub("recvmmsg%(", "")))
  end)
end)

describe("a dump", function()
  it("is whole while links come and go", function()
    local requests = {}
    for i = 1, 60 do
      requests[#requests + 1] = { "add", "link", { name = "k" .. i, kind = "bridge" } }
    end
    assert.is_true(h:send(requests))
    background("i=0; while [ $i -lt 40 ]; do ip link add c0 type bridge; ip link del c0; " ..
      "i=$((i+1)); done; touch /run/churned")
    local dumps = 0
    repeat
      local list, msg, errno = h:dump("link")
      if list then
        local seen = 0
        for _, link in ipairs(list) do
          if link.name:find("^k%d+$") then seen = seen + 1 end
        end
        assert.equal(60, seen)
        dumps = dumps + 1
      else
        assert.equal(11, errno, msg)
      end
    until t.read("/run/churned")
    os.remove("/run/churned")
    assert.is_true(dumps > 0)
  end)

  it("larger than the receive buffer comes in pieces", function()
    local requests = {}
    for i = 1, 300 do
      requests[i] = { "add", "route", { dst = ("10.%d.%d.0/24"):format(i // 256, i % 256), type = "blackhole",
        table = 500 } }
    end
    send(table.unpack(requests))
    assert.equal(300, #h:dump("route", { table = 500 }))
  end)
end)

describe("await", function()
  before_each(function()
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "v1" } } })
  end)

  it("returns at once what is so already", function()
    assert.equal("v0", h:await("link", { name = "v0" }, { up = true }, nil, 0).name)
  end)

  it("sees a link come up", function()
    assert.equal("down", h:get("link", { name = "v0" }).operstate == "up" and "up" or "down")
    background("sleep 0.2; ip link set v1 up")
    local link, msg = h:await("link", { name = "v0" }, { operstate = "up" }, nil, 5000)
    assert.is_not_nil(link, msg)
    assert.equal("up", link.operstate)
  end)

  it("sees a link appear", function()
    background("sleep 0.2; ip link add late0 type bridge")
    assert.equal("late0", h:await("link", { name = "late0" }, {}, nil, 5000).name)
  end)

  it("sees routes and neighbours", function()
    background("sleep 0.2; ip route add blackhole 10.55.0.0/16; ip neigh add 10.1.1.1 " ..
      "lladdr 02:00:00:00:00:01 dev v0")
    assert.equal("blackhole", h:await("route", { dst = "10.55.0.0/16" }, {}, nil, 5000).type)
    assert.equal("permanent", h:await("neigh", { index = index_of "v0", dst = "10.1.1.1" }, {}, nil, 5000).state)
  end)

  it("gives up in time", function()
    local before = os.time()
    local link, msg, errno = h:await("link", { name = "v0" }, { operstate = "up" }, nil, 100)
    assert.is_nil(link)
    assert.equal(ETIMEDOUT, errno)
    assert.matches("await link v0", msg, 1, true)
    assert.is_true(os.time() - before <= 2)
  end)

  it("waits for duplicate detection to end", function()
    send({ "set", "link", { name = "v1", up = true } })
    local index = index_of "v0"
    send({ "add", "addr", { index = index, address = "fd00::1/64" } })
    local list, msg = h:await("addr", { index = index }, { tentative = false }, nil, 8000)
    assert.is_not_nil(list, msg)
    for _, a in ipairs(list) do assert.is_false(a.tentative) end
    assert.is_nil(t.run("ip -6 addr show dev v0", { host = host }):match("tentative"))
  end)

  it("reports a duplicate", function()
    local ns = netlink.ns.open(pod.path)
    send({ "add", "link", { name = "w0", kind = "veth", peer = { name = "eth0", netns = ns } } })
    ns:close()
    t.run("ip link set eth0 up; ip addr add fd00::7/64 dev eth0 nodad", { host = pod })
    send({ "set", "link", { name = "w0", up = true } })
    local index = index_of "w0"
    assert.is_not_nil(h:await("link", { name = "w0" }, { operstate = "up" }, nil, 5000))
    send({ "add", "addr", { index = index, address = "fd00::7/64" } })
    local list, msg, errno = h:await("addr", { index = index }, { tentative = false }, nil, 8000)
    assert.is_nil(list)
    assert.equal(EADDRINUSE, errno, msg)
    assert.matches("fd00::7/64: duplicate address", msg, 1, true)
  end)
end)

describe("wanted keys", function()
  local function keys_of(object)
    local list = {}
    for key in pairs(object) do list[#list + 1] = key end
    table.sort(list)
    return list
  end

  it("come, and no others", function()
    local all = h:get("link", { name = "lo" })
    local some = h:get("link", { name = "lo" }, { "mtu", "up", "index" })
    t.same({ "index", "mtu", "up" }, keys_of(some))
    for key, value in pairs(some) do assert.equal(all[key], value, key) end
    t.same({}, h:get("link", { name = "lo" }, {}))
  end)

  it("bring what they depend on", function()
    send({ "add", "link", { name = "br0", kind = "bridge", ageing_time = 4200 } },
      { "add", "link", { name = "p0", kind = "veth", peer = { name = "p1" } } })
    send({ "set", "link", { name = "p0", master = index_of "br0" } })
    t.same({ ageing_time = 4200, kind = "bridge" },
      h:get("link", { name = "br0" }, { "ageing_time" }))
    local port = h:get("link", { name = "p0" }, { "port" })
    t.same({ "port", "port_kind" }, keys_of(port))
    assert.is_false(port.port.hairpin)
    -- A key of another kind is not there.
    t.same({ kind = "bridge" }, h:get("link", { name = "br0" }, { "vlan_id" }))
  end)

  it("come with what a dump is filtered by", function()
    for _, have in ipairs(h:dump("link", { up = false, mtu = 65536 }, { "name" })) do
      t.same({ "mtu", "name", "up" }, keys_of(have))
    end
    assert(t.run { "ip", "-n", host.name, "addr", "add", "10.9.9.9/24", "dev", "lo" })
    t.same({ { address = "10.9.9.9/24", index = 1, family = "inet" } },
      h:dump("addr", { index = 1, family = "inet" }, { "address" }))
  end)

  it("are those of await too", function()
    send({ "add", "link", { name = "p0", kind = "veth", up = true, peer = { name = "p1" } } })
    t.same({ mtu = 1500, name = "p0", up = true },
      h:await("link", { name = "p0" }, { up = true }, { "mtu" }, 1000))
  end)

  it("are refused when there is no such key", function()
    for _, bad in ipairs {
      { { "idnex" }, "link: unknown key 'idnex' (did you mean 'index'?)" },
      { { "index", "vlan_idd" }, "did you mean 'vlan_id'?" },
      { { 1 }, "a wanted key is a number" },
      { "index", "table expected" },
    } do
      assert.matches(bad[2], mistake(h.get, h, "link", { name = "lo" }, bad[1]), 1, true)
      assert.matches(bad[2], mistake(h.dump, h, "link", {}, bad[1]), 1, true)
      assert.matches(bad[2], mistake(h.await, h, "link", { name = "lo" }, {}, bad[1]), 1, true)
    end
    assert.matches("all keys come", mistake(h.dump, h, "vlan", { index = 1 }, { "vid" }))
  end)
end)

describe("echo", function()
  local function make(name, extra)
    local request = { "add", "link", { name = name, kind = "veth", peer = { name = name .. "p" } } }
    for key, value in pairs(extra or {}) do request[key] = value end
    return request
  end

  it("tells the indices of a new pair, or nothing", function()
    local ok, echoes = h:send { { "set", "link", { name = "lo", up = true } },
      make("v0", { echo = { "index", "link" } }), make "v1" }
    assert.is_true(ok)
    assert.is_nil(echoes[1])
    assert.is_nil(echoes[3])
    -- Linux before 6.2 has none of links.
    if echoes[2] then
      t.same({ index = index_of "v0", link = index_of "v0p" }, echoes[2])
    end
    assert.is_true(index_of "v1" > 0)
  end)

  it("is nothing when it was not asked for", function()
    t.same({ n = 1, true }, table.pack(h:send { make "v0" }))
  end)

  it("does not hide a refusal", function()
    send(make "v0")
    local ok, msg, errno, index, statuses = h:send { make("w0", { echo = { "index" } }),
      make("v0", { echo = { "index" } }) }
    assert.is_nil(ok)
    assert.equal(17, errno, msg)
    assert.equal(2, index)
    t.same({ 0, 17 }, statuses)
  end)

  it("is refused for a key that is none, before anything is sent", function()
    assert.matches("did you mean 'index'", mistake(h.send, h, { make("v0", { echo = { "idnex" } }) }))
    assert.matches("echo", mistake(h.send, h, { make("v0", { echo = true }) }))
    assert.is_nil(t.link(host, "v0"))
  end)
end)

describe("del_link_quick", function()
  local function pair()
    local ns = netlink.ns.open(pod.path)
    send({ "add", "link", { name = "v0", kind = "veth", up = true, peer = { name = "eth0", netns = ns } } })
    ns:close()
  end

  -- Give the child the time it is there for.
  after_each(function() os.execute("sleep 0.1") end)

  it("returns when the link is gone for every observer", function()
    local p <close> = netlink.open(pod.path)
    for _ = 1, 10 do
      pair()
      assert.is_true(h:del_link_quick({ name = "v0" }))
      assert.is_nil(h:get("link", { name = "v0" }))
      assert.is_nil(p:get("link", { name = "eth0" }))
      assert.is_nil(t.link(host, "v0"))
      assert.is_nil(t.link(pod, "eth0"))
    end
  end)

  it("is followed by the same names, again and again", function()
    for _ = 1, 20 do
      pair()
      assert.is_true(h:del_link_quick({ index = index_of "v0" }))
    end
  end)

  it("is content with a link that is not there", function()
    assert.is_true(h:del_link_quick({ name = "none0" }))
    assert.is_true(h:del_link_quick({ index = 4711 }))
  end)

  it("has a sister for the links of a group, which are all gone then, and no other", function()
    for _ = 1, 10 do
      send({ "add", "link", { name = "other0", kind = "bridge", group = 4712 } })
      send({ "add", "link", { name = "b0", kind = "bridge", up = true, group = 4711 } })
      pair()
      send({ "set", "link", { index = index_of "v0", master = index_of "b0", group = 4711 } })
      assert.is_true(h:del_group_quick(4711, index_of "b0"))
      assert.is_nil(h:get("link", { name = "b0" }))
      assert.is_nil(h:get("link", { name = "v0" }))
      assert.is_nil(t.link(pod, "eth0"))
      assert.is_nil(t.link(host, "b0"))
      assert.truthy(t.link(host, "other0"))
      send({ "del", "link", { name = "other0" } })
    end
    assert.is_true(h:del_group_quick(4711, 1))
    assert.matches("a group is", mistake(h.del_group_quick, h, 0, 1))
    assert.matches("an index is", mistake(h.del_group_quick, h, 1, 0))
  end)

  it("refuses a group with a link that cannot go, and deletes none of it", function()
    pair()
    send({ "set", "link", { name = "v0", group = 4711 } })
    send({ "set", "link", { name = "lo", group = 4711 } })
    local ok, msg, errno = h:del_group_quick(4711, index_of "v0")
    send({ "set", "link", { name = "lo", group = 0 } })
    assert.is_nil(ok)
    assert.equal(95, errno)
    assert.matches("del links of group 4711", msg)
    assert.truthy(t.link(host, "v0"))
    assert.is_true(h:del_link_quick({ name = "v0" }))
  end)

  it("says why a link cannot go", function()
    local ok, msg, errno = h:del_link_quick({ name = "lo" })
    assert.is_nil(ok)
    assert.equal(95, errno)
    assert.matches("del link lo", msg, 1, true)
    assert.is_not_nil(t.link(host, "lo"))
  end)

  it("lets the namespace go straight after", function()
    pair()
    assert.is_true(h:del_link_quick({ name = "v0" }))
    t.remove_netns(pod)
  end)

  it("holds none of the caller's descriptors", function()
    t.needs("strace")
    pair()
    local trace = traced("setsid,chdir,close_range,sendto",
      [[assert(require("netlink").open():del_link_quick { name = "v0" })]])
    -- All of that before it waits.
    assert.matches("setsid%(%).*chdir%(\"/\"%).*close_range%(0, (%d+), 0%).*"
      .. "close_range%(%d+, 4294967295, 0%).*sendto%(", trace)
    -- The socket and the pipe that tells of the caller's end stay.
    local kept, from = 0, 0
    for first, last in trace:gmatch("close_range%((%d+), (%d+), 0%)") do
      kept, from = kept + tonumber(first) - from, tonumber(last) + 1
    end
    assert.equal(2, kept, trace)
  end)

  it("does it itself when the child is killed", function()
    t.needs("strace")
    pair()
    local trace = traced("setsid,sendto",
      [[assert(require("netlink").open():del_link_quick { name = "v0" })]],
      "inject=setsid:signal=KILL")
    assert.matches("killed by SIGKILL", trace, 1, true)
    assert.is_nil(t.link(host, "v0"))
  end)

  it("says why a link cannot go by index too", function()
    pair()
    local p <close> = netlink.open(pod.path)
    local ok, msg, errno = p:del_link_quick({ index = p:get("link", { name = "lo" }).index })
    assert.is_nil(ok)
    assert.equal(95, errno, msg)
  end)

  it("starts no process for a link that is not there", function()
    t.needs("strace")
    assert.is_nil(traced("setsid,clone,fork,vfork",
      [[assert(require("netlink").open():del_link_quick { name = "v0" })]]):match("setsid"))
  end)
end)

describe("describe", function()
  it("lists the keys of every object", function()
    local function by_key(object)
      local keys = {}
      for _, row in ipairs(netlink.describe(object)) do keys[row.key] = row end
      return keys
    end
    local link = by_key("link")
    assert.equal("integer", link.mtu.kind)
    assert.equal("bridge", link.vlan_filtering.when)
    assert.is_true(link.operstate.readonly)
    t.same({ "l2", "l3", "l3s" }, link.ipvlan_mode.words)
    assert.equal(4095, link.vlan_id.max)
    assert.is_nil(link.hairpin)
    assert.equal("words", by_key("route").lock.kind)
    assert.is_not_nil(by_key("addr").address)
    assert.is_not_nil(by_key("vlan").vid_end)
    assert.matches("no such object", mistake(netlink.describe, "x"))
  end)

  it("shows no key twice, unless two kinds are the same", function()
    for _, object in ipairs { "link", "addr", "group", "route", "rule", "neigh", "vlan", "qdisc", "class", "filter" } do
      local seen = {}
      for _, row in ipairs(netlink.describe(object)) do
        local other = seen[row.key]
        assert.is_true(other == nil or (other.when ~= nil and row.when ~= nil), row.key)
        seen[row.key] = row
      end
    end
  end)
end)
