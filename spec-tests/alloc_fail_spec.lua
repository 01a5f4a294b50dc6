-- SPDX-License-Identifier: MIT
-- Every binding, with the n-th allocation failing, for every n until it works:
-- an error is all that may come of it, and no descriptor may stay open. A new
-- binding gets a line here.

local lfs = require "lfs"
local t = require "support"

local MOST = 20000

--- What each binding needs before (not counted), and what is run over and over.
-- The body gets what the setup returned as `...`.
local bindings = {
  { "ip.pack and ip.text", "return require('netlink').ip", [[
    local ip = ...
    assert(ip.text(ip.pack("fd00::1")) == "fd00::1")]] },
  { "ns.self, ns:id", "return require('netlink').ns", [[
    local ns = ...
    local a, b = ns.self(), ns.self()
    assert(a == b and a:id() == b:id() and a:path() and tostring(a))
    a:close()]] },
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
    for _, object in ipairs { "link", "addr", "route", "rule", "neigh", "vlan" } do
      (...).describe(object)
    end]] },
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
  { "json", "return require('netlink').json", [[
    local json, List, many = ..., {}, {}
    for i = 1, 40 do many["key" .. i] = i end
    local text = json.encode({ many, setmetatable({}, List), { a = { ("x"):rep(5000) } } }, List,
      "  ", { key7 = 1 })
    assert(#text > 5000 and json.tame(text) == false)
    local value = { { "mark" }, { a = 1.0 } }
    assert(json.tidy(value, List, "mark") and math.type(value[2].a) == "integer")]] },
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
    for i = 0, 3 do assert(s:release_owner(own(i))) end]] },
  { "store, rebuild of the index", "return require('netlink').store", [[
    os.remove("/run/spec/alloc/leases/10.0.0.77")
    io.open("/run/spec/alloc/leases/10.0.0.77", "w"):close()
    local s <close> = assert((...).open("/run/spec/alloc/leases", "/run/spec/alloc/index"))
    assert(s:reserve("10.0.0.77", "c1", "eth0") and s:release("10.0.0.77"))]] },
  { "del_link_quick", "return require('netlink').open('/run/netns/alloc')", [[
    local h = ...
    assert(h:del_link_quick { name = "none0" })]] },
}

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
  after_each(function() t.sh("ip netns del made") end)

  for _, binding in ipairs(bindings) do
    local name, before, body = table.unpack(binding)
    it(name .. " leaks nothing and says so", function()
      local how, left, message
      for n = 0, MOST do
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
