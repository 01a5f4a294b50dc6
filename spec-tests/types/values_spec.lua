-- SPDX-License-Identifier: MIT
-- Values that several attachments set on one link or sysctl that was there before them: whichever goes first,
-- whoever is killed when, the others keep theirs, and after the last one all is as it was; what somebody
-- else has set meanwhile stays.

local t = require "support"
local world = require "world"

local path = "net/ipv4/conf/up0/proxy_arp"

-- A site's type that sets what its configuration says, on a link and a sysctl of the host.
local script = [[
  return { add = function(req)
    local c = req.raw
    if c.set then req.host:set_link(c.link or "up0", c.set) end
    if c.lo then req.pod:set_link("lo", c.lo) end
    if c.sysctl then req.host:set_sysctl { { c.path or "]] .. path .. [[", c.sysctl } } end
    if c.bad then error "no" end
    return {}
  end }]]

local function new(more, opts)
  -- No neighbours: what is written down of a host is looked at as a whole, and has to be nothing at last.
  local w = world.new(t.with({ type = "luacni" }, more), t.merge({ neighbours = false }, opts))
  t.write("/etc/luacni/plugins/site.lua", script)
  w:sh("ip link add up0 type veth peer name up1; ip link set up0 addrgenmode none; " ..
    "ip link set up1 addrgenmode none; ip link set up0 up; ip link set up0 down; " ..
    "ip link add br0 address 0a:00:00:00:00:01 type bridge; ip link set br0 addrgenmode none; " ..
    "ip link add br1 address 0a:00:00:00:00:02 type bridge; ip link set br1 addrgenmode none")
  return w
end

local function conf(more) return t.merge({ type = "site" }, more) end

local function call(id, more) return { id = id, type = "luacni", conf = conf(more) } end

-- What is set: how to see it, what is there before, two values.
local cases = {
  { "the MTU", { { mtu = 1400 }, { mtu = 1300 } },
    function(w) return t.link(w.host, "up0").mtu end, 1500, { 1400, 1300 } },
  { "up", { { up = true }, { up = true } },
    function(w) return t.has_flag(t.link(w.host, "up0"), "UP") end, false, { true, true } },
  { "promiscuity", { { promisc = true }, { promisc = true } },
    function(w) return t.has_flag(t.link(w.host, "up0"), "PROMISC") end, false, { true, true } },
  { "the master", { { master = "br0" }, { master = "br1" } },
    function(w) return t.link(w.host, "up0").master or "none" end, "none", { "br0", "br1" } },
  { "a flag of the port", { { port = { hairpin = true } }, { port = { hairpin = true } } },
    function(w) return t.link(w.host, "up0").linkinfo.info_slave_data.hairpin end, false,
    { true, true }, "ip link set up0 master br0" },
}

local function both_orders(what, first, second, look, before, values, prepare)
  for _, order in ipairs { { "c1", "c2" }, { "c2", "c1" } } do
    it(("%s is right whatever order they go in: %s first"):format(what, order[1]), function()
      local w = new()
      if prepare then w:sh(prepare) end
      local calls = { c1 = call("c1", first), c2 = call("c2", second) }
      local whole = w:picture()
      assert.equal(before, look(w))
      w:add(calls.c1)
      assert.equal(values[1], look(w))
      w:add(calls.c2)
      assert.equal(values[2], look(w))
      w:check(calls.c1)
      w:check(calls.c2)
      w:del(calls[order[1]])
      assert.equal(order[1] == "c1" and values[2] or values[1], look(w))
      w:check(calls[order[2]])
      w:del(calls[order[2]])
      assert.equal(before, look(w))
      t.same(whole, w:picture())
    end)
  end
end

describe("What two attachments set on one link:", function()
  for _, case in ipairs(cases) do
    both_orders(case[1], { set = case[2][1] }, { set = case[2][2] }, case[3], case[4], case[5], case[6])
  end
end)

describe("What two attachments set by sysctl:", function()
  local function look(w) return t.sysctl(w.host, path) end
  both_orders("a value of a link", { sysctl = "1" }, { sysctl = "1" }, look, "0", { "1", "1" })
  local other = "net/ipv4/ip_local_port_range"
  both_orders("a value in several words", { path = other, sysctl = "20000 30000" },
    { path = other, sysctl = "21000\t31000" }, function(w) return t.sysctl(w.host, other) end,
    "32768\t60999", { "20000\t30000", "21000\t31000" })
end)

describe("What three attachments set, on a link and by sysctl,", function()
  local stale = "net/ipv4/neigh/up0/gc_stale_time"
  local values = { 1400, 1300, 1200 }

  for _, order in ipairs { { 1, 2, 3 }, { 1, 3, 2 }, { 2, 1, 3 }, { 2, 3, 1 }, { 3, 1, 2 }, { 3, 2, 1 } } do
    it("is the youngest's that is there, in the order " .. table.concat(order, " "), function()
      local w = new()
      local before, own, calls, there = w:picture(), t.sysctl(w.host, stale), {}, {}
      for i, value in ipairs(values) do
        calls[i] = call("c" .. i, { set = { mtu = value }, path = stale, sysctl = tostring(value) })
        w:add(calls[i])
        there[i] = value
      end
      for _, i in ipairs(order) do
        w:del(calls[i])
        there[i] = false
        local top = there[3] or there[2] or there[1]
        assert.equal(top or 1500, t.link(w.host, "up0").mtu)
        assert.equal(top and tostring(top) or own, t.sysctl(w.host, stale))
        for j = 1, 3 do
          if there[j] then w:check(calls[j]) end
        end
      end
      t.same(before, w:picture())
    end)
  end
end)

describe("In the sandbox,", function()
  it("lo stays up until the last attachment that wants it so has gone", function()
    local w = new()
    local function up() return t.has_flag(t.link(w.pods[1], "lo"), "UP") end
    local one, two = call("c1", { lo = { up = true } }), call("c1", { lo = { up = true } })
    two.ifname = "net1"
    w:add(one)
    w:add(two)
    w:del(one)
    assert.is_true(up())
    w:check(two)
    w:del(two)
    assert.is_false(up())
    assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
  end)
end)

describe("A value", function()
  local mtu = function(w) return t.link(w.host, "up0").mtu end

  it("that somebody else has set since stays, also when the one below goes", function()
    local w = new()
    local one, two = call("c1", { set = { mtu = 1400 } }), call("c2", { set = { mtu = 1300 } })
    w:add(one)
    w:add(two)
    w:sh("ip link set up0 mtu 1234")
    assert.truthy(w:fails("CHECK", two).text:find("1234", 1, true))
    w:del(two)
    assert.equal(1234, mtu(w))
    w:del(one)
    assert.equal(1234, mtu(w))
    assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
  end)

  it("that was so already is left so, and CHECK sees when it is not", function()
    local w = new()
    local one = call("c1", { set = { mtu = 1500 }, sysctl = "0" })
    w:add(one)
    w:check(one)
    w:sh("ip link set up0 mtu 1499")
    w:fails("CHECK", one)
    w:del(one)
    assert.equal(1499, mtu(w))
  end)

  it("of a failed ADD is taken back, and a younger one's is not touched", function()
    local w = new()
    local before = w:picture()
    w:fails("ADD", call("c1", { set = { mtu = 1400 }, sysctl = "1", bad = true }))
    t.same(before, w:picture())
    w:add(call("c2", { set = { mtu = 1300 } }))
    local with = w:picture()
    w:fails("ADD", call("c1", { set = { mtu = 1400 }, bad = true }))
    t.same(with, w:picture())
    w:del(call("c2", { set = { mtu = 1300 } }))
    t.same(before, w:picture())
  end)

  it("set twice by one attachment comes back once", function()
    local w = new()
    t.write("/etc/luacni/plugins/site.lua", [[
      return { add = function(req)
        req.host:set_link("up0", { mtu = 1400 })
        req.host:set_link("up0", { mtu = 1300 })
        return {}
      end }]])
    w:add(call("c1"))
    assert.equal(1300, mtu(w))
    w:check(call("c2"))
    w:del(call("c1"))
    assert.equal(1500, mtu(w))
  end)

  it("that was empty before is empty again", function()
    local w = new()
    local ports = "net/ipv4/ip_local_reserved_ports"
    local one = call("c1", { path = ports, sysctl = "8000-8010" })
    assert.equal("", t.sysctl(w.host, ports))
    w:add(one)
    assert.equal("8000-8010", t.sysctl(w.host, ports))
    w:del(one)
    assert.equal("", t.sysctl(w.host, ports))
  end)

  it("that the kernel does not take any more is told; the others come back, and DEL has done its work", function()
    local w = new()
    local own = "net/ipv6/conf/up0/mtu"
    t.write("/etc/luacni/plugins/site.lua", ([[
      return { add = function(req)
        req.host:set_sysctl { { "%s", "1400" }, { "%s", "1" } }
        return {}
      end }]]):format(own, path))
    assert.equal("1500", t.sysctl(w.host, own))
    w:add(call("c1"))
    w:sh(("ip link set up0 mtu 1450; echo 1400 >/proc/sys/%s"):format(own))
    local got = w:call("DEL", call("c1"))
    assert.equal(0, got.rc, got.out)
    local line = got.err:match "[^\n]*1500[^\n]*"
    assert.truthy(line and line:find(own, 1, true), got.err)
    t.same({ "1400", "0" }, { t.sysctl(w.host, own), t.sysctl(w.host, path) })
    assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
    -- And where it does, not a word.
    w:sh(("ip link set up0 mtu 1500; echo 1500 >/proc/sys/%s"):format(own))
    w:add(call("c1"))
    got = w:call("DEL", call("c1"))
    t.same({ 0, "" }, { got.rc, got.err })
    t.same({ "1500", "0" }, { t.sysctl(w.host, own), t.sysctl(w.host, path) })
  end)

  it("that its link cannot have any more is told; the others come back, and DEL has done its work", function()
    t.needs "macvlan"
    local w = new()
    w:sh "ip link add m0 link up0 type macvlan; ip link set m0 addrgenmode none"
    local queue = t.link(w.host, "m0").txqlen
    local one = call("c1", { link = "m0", set = { mtu = 1400, txqlen = 55 } })
    local function now() return { t.link(w.host, "m0").mtu, t.link(w.host, "m0").txqlen } end
    w:add(one)
    t.same({ 1400, 55 }, now())
    w:sh "ip link set up0 mtu 1450"
    local got = w:call("DEL", one)
    assert.equal(0, got.rc, got.out)
    assert.matches("restore link m0: mtu 1500: ", got.err, 1, true)
    assert.is_nil(got.err:find("txqlen", 1, true), got.err)
    t.same({ 1400, queue }, now())
    assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
    -- And where it can, not a word.
    w:sh "ip link set up0 mtu 1500; ip link set m0 mtu 1500"
    w:add(one)
    got = w:call("DEL", one)
    t.same({ 0, "" }, { got.rc, got.err })
    t.same({ 1500, queue }, now())
  end)

  it("that cannot be given back where /proc/sys is read-only is, by the next DEL", function()
    local w = new()
    local one = call("c1", { sysctl = "1" })
    local under = "unshare -m sh -ec " .. t.quote('mount --rbind /proc/sys /proc/sys; '
      .. 'mount -o remount,bind,ro /proc/sys; exec "$@"') .. " sh"
    w:add(one)
    local e = w:fails("DEL", t.merge(one, { under = under }))
    assert.truthy(e.text:find(path, 1, true) and e.text:find("Read-only", 1, true), e.text)
    assert.equal("1", t.sysctl(w.host, path))
    w:del(one)
    assert.equal("0", t.sysctl(w.host, path))
  end)

  it("without a record is taken back by whose it is", function()
    local w = new()
    local one, two = call("c1", { set = { mtu = 1400 } }), call("c2", { set = { mtu = 1300 } })
    w:add(one)
    w:add(two)
    t.run("rm -rf /run/luacni/attachments")
    w:del(two)
    assert.equal(1400, mtu(w))
    w:del(one)
    assert.equal(1500, mtu(w))
  end)
end)

describe("When the link is gone,", function()
  for what, harm in pairs({ ["for good"] = "ip link del up0", ["and there is another of its name"] =
      "ip link del up0; ip link add up0 mtu 1400 type veth peer name up1" }) do
    it(what .. ", DEL goes through and leaves nothing written down", function()
      local w = new()
      local one = call("c1", { set = { mtu = 1400, up = true }, sysctl = "1" })
      local two = call("c2", { set = { mtu = 1300 } })
      w:add(one)
      w:add(two)
      w:sh(harm)
      w:del(one)
      w:del(two)
      assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
      local link = t.link(w.host, "up0")
      assert.equal(harm:find("another") and 1400 or nil, link and harm:find("another") and link.mtu)
    end)
  end

  it("as well as when the sandbox is", function()
    local w = new()
    local one = call("c1", { lo = { up = true, mtu = 60000 } })
    w:add(one)
    t.remove_netns(w.pods[1])
    one.pod = "/run/netns/pod1"
    w:del(one)
    w.pods[1] = nil
    assert.equal("", (t.sh("find /run/luacni/shared -mindepth 1")))
  end)
end)

describe("Killed at every change,", function()
  local function sweep(verb, recover)
    local w = new()
    local before = w:picture()
    local one = call("c1", { set = { mtu = 1400, up = true, promisc = true }, sysctl = "1" })
    local two = call("c2", { set = { mtu = 1300 }, sysctl = "1" })
    w:add(two)
    local with, swept = w:picture(), 0
    for n = 1, 150, t.stride(3, { sanitized = 9 }) do
      if verb == "DEL" then w:add(one) end
      local line = t.cni_words({ verb = verb, type = "luacni", host = w.host, netns = w.pods[1], id = "c1",
        under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = t.conf_bytes(w:config(one.conf)) })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      recover(w, one)
      t.same(with, w:picture(), ("%s killed at change %d"):format(verb, n))
    end
    assert.is_true(swept > 10 and swept < 150)
    w:del(one)
    w:del(two)
    t.same(before, w:picture())
  end

  it("an ADD is mended by a DEL", function() sweep("ADD", function(w, one) w:del(one) end) end)
  it("a DEL is mended by a DEL", function() sweep("DEL", function(w, one) w:del(one) end) end)
end)
