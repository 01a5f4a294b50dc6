-- SPDX-License-Identifier: MIT
-- Every binding, with the n-th allocation failing, for every n until it works:
-- an error is all that may come of it, and no descriptor may stay open. A new
-- binding gets a line here; a test tells which has none.

local lfs = require "lfs"
local t = require "support"

local MOST = 20000

--- What each binding needs before (not counted), and what is run over and over.
-- The body gets what the setup returned as `...`. A number: under the sanitizers, which make the program
-- that it starts a slow one, only every so many'th allocation fails.
local bindings = {
  { "ip.pack and ip.text", "return require('netlink').ip", [[
    local ip = ...
    assert(ip.text(ip.pack("fd00::1")) == "fd00::1")]] },
  { "ns.self, ns:id", "return require('netlink').ns", [[
    local ns = ...
    local a, b = ns.self(), ns.self()
    assert(a == b and a:id() == b:id() and a:cookie() == b:cookie() and a:path() and tostring(a))
    a:close()]] },
  { "ns.enter", "return require('netlink').ns", [[
    local ns = ...
    assert(ns.enter("/proc/self/ns/net"))
    assert(select(3, ns.enter("/nonexistent")) == 2)]] },
  { "ns.tap", [[
    local netlink = require('netlink')
    return { tap = netlink.ns.tap, h = netlink.open('/run/netns/alloc') }]], [[
    local u = ...
    u.h:send { { "del", "link", { name = "tap0" } } }
    assert(u.tap("/run/netns/alloc", { name = "tap0", mac = "02:00:00:00:00:01", owner = 1, group = 2,
      multi_queue = true, vnet_hdr = true }))
    assert(select(3, u.tap("/run/netns/alloc", { name = "tap0" })) == 16)
    assert(not u.tap("/nonexistent", { name = "tap0" }))]] },
  { "ns.frames, ns.datagrams, wire:send, wire:receive, wire:close", [[
    local netlink = require('netlink')
    local h <close> = netlink.open('/run/netns/alloc')
    assert(h:send { { "set", "link", { index = 1, up = true } } })
    return netlink.ns]], [[
    local ns, where, own = ..., "/run/netns/alloc", "\127\0\0\1"
    local datagrams <close> = assert(ns.datagrams(where, own, 68, own, 68))
    local frames <close> = assert(ns.frames(where, 1, 0x0800, 68))
    assert(datagrams:send "x" and datagrams:receive() == "x" and frames:receive())
    assert(frames:send("x", ("\0"):rep(6)))
    assert(select(3, datagrams:receive(0)) == 110)
    assert(not ns.frames(where, 9999, 0x0800) and not ns.datagrams(where, "\1\2\3\4", 68, own, 67))
    datagrams:close()]] },
  { "ns.open that fails", "return require('netlink').ns", [[
    local ns = ...
    assert(select(3, ns.open("/nonexistent")) == 2)
    assert(not ns.open("/proc/version"))]] },
  { "ns.create and ns.remove", "return require('netlink').ns", [[
    local ns = ...
    ns.remove("/run/netns/made")
    assert(ns.create("/run/netns/made"))
    local made <close> = assert(ns.open("/run/netns/made"))
    assert(ns.remove("/run/netns/made"))]] },
  { "ns.sysctl and ns.sysctl_get", "return require('netlink').ns", [[
    local ns = ...
    assert(ns.sysctl("/run/netns/alloc", {
      { "net/ipv4/conf/lo/arp_notify", "1" }, { "net/none", "1", true } }))
    assert(not ns.sysctl(nil, { { "net/none", "1" } }))
    assert(ns.sysctl_get("/run/netns/alloc", { "net/ipv4/conf/lo/arp_notify", "net/none" })[1] == "1")]] },
  { "open and close", "return require('netlink')", [[
    local netlink = ...
    local h <close> = assert(netlink.open("/proc/self/ns/net"))
    assert(tostring(h) and h:fd() > 2)
    assert(not netlink.open("/nonexistent"))]] },
  { "describe", "return require('netlink')", [[
    for _, object in ipairs { "link", "addr", "route", "rule", "neigh", "vlan", "qdisc", "class", "filter" } do
      (...).describe(object)
    end]] },
  { "check", "return require('netlink')", [[
    local check = (...).check
    check("link", { name = "x0", kind = "vxlan", vxlan_id = 7, port = { isolated = true } })
    local ok, msg = pcall(check, "link", { nmae = "x" })
    if ok then error("no mistake") end
    if not msg:find("name") then error(msg, 0) end]] },
  { "send, links", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    h:send { { "del", "link", { name = "alloc0" } } }
    assert(h:send {
      { "add", "link", { name = "alloc0", kind = "veth", alias = "x", up = true,
        peer = { name = "alloc1", mac = "02:00:00:00:00:01", mtu = 1400 } } },
      { "set", "link", { name = "alloc1", up = true } },
    })]] },
  { "send that is refused", "return require('netlink').open('/run/netns/alloc')", [[
    local _, msg, errno, index, statuses = (...):send {
      { "set", "link", { name = "lo", up = true } },
      { "set", "link", { name = "none0", up = true } },
      { "add", "route", { dst = "192.0.2.0/24", table = 1000, type = "local" } } }
    assert(msg and errno == 19 and index == 2 and statuses[2] == 19)]] },
  { "send that is a mistake", "return require('netlink').open('/run/netns/alloc')", [[
    local ok, msg = pcall((...).send, ..., { { "add", "link", { nmae = "x" } } })
    if ok then error("no mistake") end
    if not msg:find("name") then error(msg, 0) end]] },
  { "send, addresses and routes", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    h:send { { "del", "addr", { index = 1, address = "192.0.2.1/32" } },
      { "del", "route", { dst = "198.51.100.0/24" } } }
    assert(h:send {
      { "set", "link", { name = "lo", up = true } },
      { "add", "addr", { index = 1, address = "192.0.2.1/32", label = "lo:x",
        preferred_lft = 100, valid_lft = 200 } },
      { "add", "route", { dst = "198.51.100.0/24", oif = 1, mtu = 1400, lock = { "mtu" } } },
    })]] },
  { "send, get and dump, traffic control", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    h:send { { "del", "qdisc", { index = 1, parent = "root", handle = "7:" } } }
    assert(h:send {
      { "add", "qdisc", { index = 1, parent = "root", handle = "7:", kind = "htb", default = 16 } },
      { "add", "class", { index = 1, parent = "7:", handle = "7:10", kind = "htb", rate = 1 << 33, ceil = 1 << 33,
        buffer = 1000, cbuffer = 1000, quantum = 1514 } },
      { "add", "filter", { index = 1, parent = "7:", protocol = "ip", priority = 1, kind = "u32", class = "7:10",
        match = { { at = 16, value = 0x0a000000, mask = 0xff000000 } },
        action = { kind = "mirred", how = "mirror", verdict = "pipe", link = 1 } } },
      { "add", "qdisc", { index = 1, parent = "7:10", handle = "8:", kind = "tbf", rate = 1000, burst = 2000,
        limit = 4000 } } })
    assert(h:get("qdisc", { index = 1, handle = "8:" }).rate == 1000)
    assert(h:get("class", { index = 1, handle = "7:10" }).rate == 1 << 33)
    assert(#h:dump("filter", { index = 1, parent = "7:", kind = "u32", class = "7:10" }) == 1)
    assert(h:get("qdisc", { index = 1, handle = "9:" }) == nil)]] },
  { "send with an echo", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    h:send { { "del", "link", { name = "echo0" } } }
    local ok, echoes = h:send { { "add", "link", { name = "echo0", kind = "veth",
      peer = { name = "echo1" } }, echo = { "index", "link" } } }
    assert(ok and (not echoes[1] or echoes[1].index > 1))]] },
  { "get", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    assert(h:get("link", { name = "lo" }).index == 1)
    assert(h:get("link", { name = "none0" }) == nil)
    assert(h:get("link", { name = "lo" }, { "mtu", "vlan_id" }).mtu)
    h:get("addr", { index = 1, address = "127.0.0.1/8" })]] },
  { "dump", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    for _, object in ipairs { "link", "addr", "route", "rule", "neigh" } do
      assert(h:dump(object))
    end
    assert(h:dump("route", { table = 254, dst = "default" }))]] },
  { "way", [[
    local h = require('netlink').open('/run/netns/alloc')
    assert(h:send { { "set", "link", { index = 1, up = true } } })
    return h]], [[
    local h = ...
    for address, type in pairs { ["127.0.0.1"] = "local", ["2001:db8::1"] = false } do
      local way, msg, errno = h:way(address)
      if errno then error(msg, 0) end
      assert((way and way.type or false) == type)
    end]] },
  { "nft find", [[
    local h = require('netlink').nft('/run/netns/alloc')
    assert(h:commit { { "add", "table", { family = "ip", name = "found" } },
      { "add", "set", { family = "ip", table = "found", name = "s", key_type = "inet_service" } },
      { "add", "element", { family = "ip", table = "found", set = "s", key_type = "inet_service",
        elements = { { key = 80, comment = "here" } } } } })
    return h]], [[
    local h, keys = ..., { { key = 81 }, { key = 80 } }
    local list = assert(h:find { family = "ip", table = "found", set = "s", key_type = "inet_service",
      elements = keys })
    assert(#list == 2 and not list[1] and list[2].comment == "here")]] },
  { "flows and forget", "return require('netlink').nft('/run/netns/alloc')", [[
    local h = ...
    for _, filter in ipairs { { family = "inet6", proto = 17, dst = "2001:db8::1", port = 53 }, { proto = 17 } } do
      local list, msg, errno = h:flows(filter)
      if not list and errno ~= 22 then error(msg, 0) end -- the kernel has no connection tracking
    end
    assert(h:forget {} == 0)]] },
  { "json", "return require('netlink').json", [[
    local json, List, many = ..., {}, {}
    for i = 1, 40 do many["key" .. i] = i end
    local text = json.encode({ many, setmetatable({}, List), { a = { ("x"):rep(5000) } } }, List,
      "  ", { key7 = 1 })
    assert(#text > 5000 and json.tame(text) == false)
    local value, Number = { { "mark" }, { a = 1.0, b = "#12", c = "#123456789012345678901" } }, {}
    assert(json.tidy(value, List, "mark", Number, "#") and math.type(value[2].a) == "integer")
    assert(value[2].b == 12 and getmetatable(value[2].c) == Number and value[2].c.text == "123456789012345678901")]] },
  { "await", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    assert(h:await("link", { name = "lo" }, { index = 1 }, { "mtu" }, 1000))
    assert(select(3, h:await("link", { name = "none0" }, { up = true }, nil, 1)) == 110)]] },
  { "nft, open and close", "return require('netlink')", [[
    local netlink = ...
    local h <close> = assert(netlink.nft("/proc/self/ns/net"))
    assert(tostring(h) and h:fd() > 2 and h:generation())
    assert(not netlink.nft("/nonexistent"))
    assert(#h:keys("chain") > 5)]] },
  { "nft commit", "return require('netlink').nft('/run/netns/alloc')", [[
    local h = ...
    local function of(fields)
      fields.family, fields.table = "inet", "t"
      return fields
    end
    local elements = {}
    for i = 1, 20 do
      elements[i] = { key = "10.0.0." .. i, data = { verdict = "goto", chain = "c" },
        comment = ("-"):rep(100), timeout = 60000 }
    end
    assert(h:commit {
      { "add", "table", { family = "inet", name = "t", comment = "x" } },
      { "add", "chain", of { name = "c" } },
      { "add", "chain", of { name = "base", type = "nat", hook = "postrouting",
        priority = -1, policy = "accept" } },
      { "add", "map", of { name = "m", key_type = { "ipv4_addr" }, data_type = "verdict",
        comment = "y", size = 100, timeout = 90000 } },
      { "add", "rule", of { chain = "c", exprs = {
        { "immediate", dreg = 1, data = { mark = 5 } },
        { "immediate", dreg = "verdict", data = { verdict = "drop" } } } } },
      { "add", "element", of { set = "m", key_type = "ipv4_addr", elements = elements } },
    })]] },
  { "nft commit that is refused", "return require('netlink').nft('/run/netns/alloc')", [[
    local _, msg, errno, index = (...):commit {
      { "add", "table", { family = "inet", name = "t" } },
      { "add", "set", { family = "inet", table = "t", name = "s", key_type = "mark" } },
      { "del", "element", { family = "inet", table = "t", set = "s", key_type = "mark",
        elements = { { key = 1 } } } } }
    assert(msg:find("del element inet t s (elements[1])", 1, true) and errno == 2 and index == 3)]] },
  { "nft commit that is a mistake", "return require('netlink').nft('/run/netns/alloc')", [[
    local ok, msg = pcall((...).commit, ..., { { "add", "table", { family = "inet", nmae = "x" } } })
    if ok then error("no mistake") end
    if not msg:find("name") then error(msg, 0) end]] },
  { "nft get and dump", [[
    local h = require('netlink').nft('/run/netns/alloc')
    local t = { family = "inet", name = "t", comment = "x" }
    assert(h:commit {
      { "add", "table", t }, { "del", "table", t }, { "add", "table", t },
      { "add", "chain", { family = "inet", table = "t", name = "c" } },
      { "add", "set", { family = "inet", table = "t", name = "s",
        key_type = "ipv4_addr . mark" } },
      { "add", "rule", { family = "inet", table = "t", chain = "c", exprs = {
        { "immediate", dreg = "verdict", data = { verdict = "drop" } } } } },
      { "add", "element", { family = "inet", table = "t", set = "s",
        key_type = "ipv4_addr . mark", elements = { { key = { "10.0.0.1", 1 } } } } } })
    return h]], [[
    local h = ...
    for _, object in ipairs { "table", "chain", "rule", "set" } do
      assert(#h:dump(object, { family = "inet" }) == 1)
    end
    local list = { family = "inet", table = "t", set = "s", key_type = "ipv4_addr . mark" }
    assert(h:dump("element", list)[1].key[2] == 1)
    list.key = { "10.0.0.1", 1 }
    assert(h:get("element", list).key[1] == "10.0.0.1")
    assert(h:get("table", { family = "ip", name = "t" }) == nil)]] },
  { "store, open and close", "return require('netlink').store", [[
    local store = ...
    local s <close> = assert(store.open("/run/spec/alloc/leases", "/run/spec/alloc/index"))
    assert(tostring(s) and select(3, store.open_existing("/nonexistent", "/run/spec")) == 2)
    assert(store.size("10.0.0.0", "10.0.0.255") == 256 and store.writable("/run/spec"))]] },
  { "store, leases", "return require('netlink').store", [[
    local s <close> = assert((...).open("/run/spec/alloc/leases", "/run/spec/alloc/index"))
    local function own(n) return "c" .. n, "eth0" end
    for i = 0, 3 do s:release_owner(own(i)) end
    for i = 1, 12 do assert(s:reserve("10.0.0." .. i, own(i % 4))) end
    assert(#s:find(own(1)) == 3 and s:used("10.0.0.0", "10.0.255.255") == 12)
    assert(s:next_free("10.0.0.1", "10.0.0.50", nil, "10.0.0.13") == "10.0.0.14")
    assert(s:set_last(0, "10.0.0.12") and s:last(0) == "10.0.0.12")
    local n = 0
    for _ in s:each() do n = n + 1 end
    assert(n == 12 and s:release("10.0.0.1") and not s:release("10.0.0.1"))
    assert(type(s:unknown()) == "boolean" and type(s:foreign()) == "boolean")
    s:known()
    for i = 0, 3 do assert(s:release_owner(own(i))) end]] },
  { "store, rebuild of the index", [[
    local store = require('netlink').store
    assert(store.open("/run/spec/alloc/leases", "/run/spec/alloc/index")):close()
    return store]], [[
    os.remove("/run/spec/alloc/leases/10.0.0.77")
    io.open("/run/spec/alloc/leases/10.0.0.77", "w"):close()
    local s <close> = assert((...).open("/run/spec/alloc/leases", "/run/spec/alloc/index"))
    assert(s:reserve("10.0.0.77", "c1", "eth0") and s:release("10.0.0.77"))]] },
  { "del_link_quick", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    assert(h:del_link_quick { name = "none0" })]] },
  { "del_link_quick of a link", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    local made, _, errno = h:send { { "add", "link", { name = "alloc2", kind = "veth",
      peer = { name = "alloc3" } } } }
    assert(made or errno == 17)
    assert(h:del_link_quick { name = "alloc2" })]] },
  { "del_group_quick", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    local made, _, errno = h:send { { "add", "link", { name = "alloc2", kind = "veth", group = 4711,
      peer = { name = "alloc3" } } } }
    assert(made or errno == 17)
    assert(h:del_group_quick(4711, 1))]] },
  { "sys, folders", "return require('netlink').sys", [[
    local sys = ...
    assert(sys.mkdirs("/run/spec/alloc/a/b", 448) ~= nil and sys.mkdir("/run/spec/alloc/c", 448) ~= nil)
    for i = 1, 40 do assert(sys.touch("/run/spec/alloc/c/" .. i, 384)) end
    assert(#sys.list("/run/spec/alloc/c") == 40 and not sys.list("/nonexistent"))
    for i = 1, 40 do sys.unlink("/run/spec/alloc/c/" .. i) end
    assert(sys.rmdir("/run/spec/alloc/c") and sys.rmdir("/run/spec/alloc/a/b"))
    assert(not sys.rmdir("/run/spec/alloc/c"))
    assert(not sys.mkdir("/nonexistent/a", 448) and not sys.mkdirs("/proc/version/a", 448))]] },
  { "sys, files", "return require('netlink').sys", [[
    local sys = ...
    assert(sys.write_file("/run/spec/alloc.f", ("x"):rep(100000), 384))
    assert(sys.rename("/run/spec/alloc.f", "/run/spec/alloc.g"))
    assert(#sys.read_file("/run/spec/alloc.g") == 100000)
    assert(sys.stat("/run/spec/alloc.g").size == 100000 and sys.lstat("/run/spec/alloc.g"))
    assert(sys.readlink("/proc/self/ns/net") and not sys.readlink("/nonexistent"))
    sys.unlink("/run/spec/alloc.l")
    assert(sys.symlink("there", "/run/spec/alloc.l") and not sys.symlink("there", "/run/spec/alloc.l"))
    assert(sys.readlink("/run/spec/alloc.l") == "there" and sys.unlink("/run/spec/alloc.l"))
    assert(not sys.write_file("/nonexistent/a", "x", 384) and not sys.touch("/nonexistent/a", 384))
    assert(not sys.read_file("/nonexistent") and not sys.stat("/nonexistent"))
    assert(not sys.lstat("/nonexistent") and not sys.rename("/nonexistent", "/run/spec/alloc.f"))
    assert(sys.unlink("/run/spec/alloc.g") and not sys.unlink("/run/spec"))]] },
  { "sys, locked files", "return require('netlink').sys", [[
    local sys = ...
    local f <close> = assert(sys.open_locked("/run/spec/alloc.l", "exclusive", 1000))
    assert(f:truncate() and f:append(("y"):rep(10000)) and #f:read() == 10000)
    assert(tostring(f) and f:fd() > 2)
    assert(not sys.open_locked("/run/spec/alloc.l", "try"))
    f:close()
    assert(sys.open_locked_existing("/run/spec/alloc.l", "shared", 1000)):close()
    assert(not sys.open_locked_existing("/run/spec/alloc.none", "shared", 1000))]] },
  { "sys, a locked namespace", "return require('netlink')", [[
    local netlink = ...
    local one <close> = netlink.ns.self()
    local other <close> = netlink.ns.self()
    assert(netlink.sys.lock_netns(one, 0) and not netlink.sys.lock_netns(other, 0))
    assert(netlink.sys.unlock_netns(one))]] },
  { "sys.exec", "return require('netlink').sys", [[
    local sys = ...
    local text = ("z"):rep(20000)
    local got = assert(sys.exec { path = "/bin/sh", argv = { "sh", "-c", "cat; echo err >&2" },
      env = { "PATH=/usr/bin:/bin" }, stdin = text, ns = "/run/netns/alloc", timeout_ms = 30000 })
    assert(got.stdout == text and got.stderr == "err\n" and got.status == 0)
    assert(not sys.exec { path = "/nonexistent" })
    assert(not sys.exec { path = "/bin/true", ns = "/nonexistent" })
    assert(not sys.exec { path = "/bin/cat", stdin = text, stdout_limit = 10 })]] },
  { "sys, listening", "return require('netlink').sys", [[
    local sys = ...
    local path = "/run/spec/alloc.sock"
    do
      local listener <close> = assert(sys.listen(path))
      assert(listener:accept(0) == false and not sys.listen(path))
      listener:close()
    end
    assert(sys.receive(10, 0) or true)]] },
  { "sys, small things", "return require('netlink').sys", [[
    local sys = ...
    assert(#sys.hash64("abc") == 16 and #sys.random(100) == 100 and sys.clock() and sys.time()
      and sys.uptime() and not sys.sleep(0))
    assert(sys.pid() > 1 and sys.strerror(2) and sys.errno.ENOENT == 2)
    assert(sys.matches("a+", "aa") and not sys.matches("(", "a"))]] },
  { "dissect", "return require('netlink').dissect", [[
    local dissect = ...
    local link = ("I4I2I2I4I4"):pack(32 + 12, 18, 1, 1, 0) .. ("\0"):rep(16) .. ("I2I2"):pack(12, 3) .. "eth0\0\0\0\0"
    local list, left = dissect.messages(0, link .. "x")
    assert(list[1].attrs.name == "eth0" and left == 1)
    assert(#dissect.messages(12, ("I4I2I2I4I4"):pack(20, 0x0a00, 1, 1, 0) .. ("\0"):rep(4)) == 1)
    assert(dissect.locate(0, link, 32) == "name")]] },
  { "losses, losses:wait, losses:close", "return require('netlink')", [[
    local netlink = ...
    local losses <close> = assert(netlink.losses())
    local h <close> = assert(netlink.open())
    assert(h:send { { "set", "link", { name = "lo", up = false } }, { "set", "link", { name = "lo", up = true } } })
    assert(losses:wait(1000) == true)
    losses:close()]] },
  { "trace", "return require('netlink').trace", [[
    local trace = ...
    local t <close> = assert(trace { "/usr/sbin/ip", "-n", "alloc", "link", "set", "lo", "up" })
    repeat
      local event = assert(t:next())
      if event.kind == "call" then
        t:datagrams()
        t:bytes(event[2], 8)
        t:text(event[2])
        t:socket(event[1])
      end
    until event.kind == "end"
    t:close()]], 7 },
}


-- What is let off: it is there to keep a descriptor open, and takes no memory.
local let_off = { ["nft:leave_open"] = true }

-- Every function that the module gives: { [function] = name }, those of its handles among them. What
-- the collector calls is called at the end of every run.
local function functions()
  local found = {}
  local function collect(where, prefix)
    for key, value in pairs(where) do
      local name = prefix .. key
      if type(value) == "table" and key ~= "__index" then
        collect(value, name .. ".")
      elseif type(value) == "function" and key ~= "__gc" and not (found[value] and key:find("^__")) then
        found[value] = name
      end
    end
  end
  collect(require("netlink"), "")
  for name, meta in pairs(debug.getregistry()) do
    local kind = type(name) == "string" and type(meta) == "table" and name:match("^netlink%.(.*)")
    if kind then
      if type(meta.__index) == "table" then collect(meta.__index, kind .. ":") end
      collect(meta, kind .. ":")
    end
  end
  return found
end

-- Run a body as it is, and take note of what it calls.
local function listen(called, before, body)
  local given = assert(load(before))()
  local run = assert(load(body))
  debug.sethook(function() called[debug.getinfo(2, "f").func] = true end, "c")
  local ok, why = pcall(run, given)
  debug.sethook()
  assert(ok, why)
end

local function helper()
  local path = t.build .. "/alloc_fail.so"
  if not lfs.attributes(path) then
    path = "/run/spec/alloc_fail.so"
    t.run({ "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC",
      "-I/usr/include/lua5.4", "-o", path, "spec-tests/alloc_fail.c" })
  end
  return assert(package.loadlib(path, "luaopen_alloc_fail"))()
end

describe("with memory running out", function()
  local alloc_fail
  setup(function() alloc_fail = helper() end)
  before_each(function() t.netns("alloc") end)
  after_each(function() t.sh("ip netns del made; rm -rf /run/spec/alloc /run/spec/alloc.[fgl]") end)

  it("every binding is tried here", function()
    local called, left = {}, {}
    for _, binding in ipairs(bindings) do listen(called, binding[2], binding[3]) end
    -- Only now: some types of handles are made when they are first needed.
    for f, name in pairs(functions()) do
      if not called[f] and not let_off[name] then left[#left + 1] = name end
    end
    table.sort(left)
    t.same({}, left)
  end)

  for _, binding in ipairs(bindings) do
    local name, before, body, stride = table.unpack(binding)
    it(name .. " leaks nothing and says so", function()
      local how, left, message
      for n = 0, MOST, t.sanitized and stride or 1 do
        how, left, message = alloc_fail.run(before, body, n)
        assert.equal(0, left, ("%d descriptors open after allocation %d failed"):format(left, n))
        assert.are_not.equal("setup", how, message)
        if how == "done" then return end
        assert.equal("memory", how, ("allocation %d: %s"):format(n, message))
      end
      error("not done after " .. MOST .. " allocations: " .. message)
    end)
  end
end)
