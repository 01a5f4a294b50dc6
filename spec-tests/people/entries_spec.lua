-- SPDX-License-Identifier: MIT
-- Entries in the kernel's tables that go with no link of an attachment's own: rules, neighbours, forwarding
-- entries, routes that are shared or have no link. `add_` refuses what is there, `ensure_` is counted.

local t = require "support"
local world = require "world"

-- verb: what follows req.host:add_ or ensure_; list: shell that prints a line for the entry while it is there;
-- take: shell that takes it away; make: shell by which somebody else makes the very same one.
local entries = {
  { "a rule", 'rule { from = "10.9.0.0/16", table = 100 }',
    list = "ip rule | grep 'from 10.9.0.0/16 lookup 100'",
    take = "ip rule del from 10.9.0.0/16 lookup 100",
    make = "ip rule add from 10.9.0.0/16 lookup 100 priority 32765", says = "from 10%.9%.0%.0/16 lookup 100" },
  { "a rule to a table by its name", 'rule { from = "10.9.0.0/16", table = "default" }',
    list = "ip rule | grep 'from 10.9.0.0/16 lookup default'",
    take = "ip rule del from 10.9.0.0/16 lookup default",
    make = "ip rule add from 10.9.0.0/16 lookup default priority 32765", says = "from 10%.9%.0%.0/16 lookup 253" },
  { "a rule of IPv6 by mark and link",
    'rule { family = "inet6", fwmark = 7, iif = "lo", action = "prohibit", priority = 50 }',
    list = "ip -6 rule | grep '^50:.*fwmark 0x7 iif lo prohibit'", take = "ip -6 rule del pref 50",
    make = "ip -6 rule add pref 50 fwmark 7 iif lo prohibit", says = "IPv6 rule 50 iif lo fwmark 7 prohibit",
    needs = "ip6-rules" },
  { "a blackhole route", 'route { dst = "10.128.0.0/9", type = "blackhole" }',
    list = "ip route show type blackhole 10.128.0.0/9", take = "ip route del blackhole 10.128.0.0/9",
    make = "ip route add blackhole 10.128.0.0/9", says = "blackhole 10%.128%.0%.0/9" },
  { "a blackhole route in a table by its name", 'route { dst = "10.128.0.0/9", type = "blackhole", table = "default" }',
    list = "ip route show table default type blackhole 10.128.0.0/9",
    take = "ip route del blackhole 10.128.0.0/9 table default",
    make = "ip route add blackhole 10.128.0.0/9 table default", says = "blackhole 10%.128%.0%.0/9 in table 253" },
  { "an unreachable route of IPv6 in a table", 'route { dst = "fd99::/64", type = "unreachable", table = 7 }',
    list = "ip -6 route show table 7 fd99::/64 type unreachable",
    take = "ip -6 route del unreachable fd99::/64 table 7",
    make = "ip -6 route add unreachable fd99::/64 table 7", says = "unreachable fd99::/64 in table 7" },
  { "a prohibit route with a metric", 'route { dst = "10.127.0.0/16", type = "prohibit", priority = 9 }',
    list = "ip route show type prohibit 10.127.0.0/16", take = "ip route del prohibit 10.127.0.0/16",
    make = "ip route add prohibit 10.127.0.0/16 metric 9", says = "prohibit 10%.127%.0%.0/16 with metric 9" },
  { "a route by a link of others", 'route { dst = "10.126.0.0/16", gw = "192.0.2.2", link = "up0" }',
    list = "ip route show 10.126.0.0/16 via 192.0.2.2", take = "ip route del 10.126.0.0/16",
    make = "ip route add 10.126.0.0/16 via 192.0.2.2", says = "10%.126%.0%.0/16 via 192%.0%.2%.2 dev up0",
    only = "ensure" },
  { "a neighbour", 'neigh("up0", { dst = "192.0.2.77", mac = "02:00:00:00:00:77" })',
    list = "ip neigh show 192.0.2.77 dev up0 | grep 02:00:00:00:00:77.PERMANENT",
    take = "ip neigh del 192.0.2.77 dev up0",
    make = "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev up0", says = "neighbour 192%.0%.2%.77 at 02" },
  { "a neighbour of IPv6 by proxy", 'neigh("up0", { dst = "2001:db8::77", proxy = true })',
    list = "ip -6 neigh show proxy | grep '2001:db8::77 dev up0'",
    take = "ip -6 neigh del proxy 2001:db8::77 dev up0",
    make = "ip -6 neigh add proxy 2001:db8::77 dev up0", says = "by proxy 2001:db8::77 on up0" },
  { "a forwarding entry of a bridge's port", 'fdb("p0", { mac = "02:00:00:00:00:78", master = true })',
    host = "ip link add b0 type bridge; ip link add p0 type veth peer name p1; ip link set p0 master b0",
    list = "bridge fdb show dev p0 | grep '02:00:00:00:00:78.*static'",
    take = "bridge fdb del 02:00:00:00:00:78 dev p0 master",
    make = "bridge fdb add 02:00:00:00:00:78 dev p0 master static", says = "02:00:00:00:00:78 by p0" },
  { "a forwarding entry of a VXLAN", 'fdb("x0", { mac = "00:00:00:00:00:00", dst = "192.0.2.9" })',
    needs = "vxlan", host = "ip link add x0 type vxlan id 7 dstport 4789 dev up0",
    list = "bridge fdb show dev x0 | grep '^00:00:00:00:00:00 dst 192.0.2.9'",
    take = "bridge fdb del 00:00:00:00:00:00 dev x0 dst 192.0.2.9",
    make = "bridge fdb append 00:00:00:00:00:00 dev x0 dst 192.0.2.9", says = "to 192%.0%.2%.9" },
}

-- A world whose plugin brings up lo, so that a picture of it is easily compared, and does `line`.
local function new(entry, how)
  t.needs(entry.needs)
  t.wipe()
  t.write("/etc/luacni/plugins/own.lua",
    ("return { add = function(req) req.host:%s_%s end }"):format(how, entry[2]))
  local w = world.new({ type = "own" }, { pods = 2, far = true, neighbours = false, lived_in = false })
  if entry.host then w:sh(entry.host) end
  return w, w:picture()
end

local function call(w, verb, pod, more)
  return w:ok(verb, t.merge({ type = "luacni", pod = pod, id = "c" .. pod }, more or {}))
end

local function is_there(w, entry) return t.sh(entry.list, { host = w.host }) ~= "" end

for _, entry in ipairs(entries) do
  describe(entry[1], function()
    it("that is made sure of is there for as long as one attachment wants it, and CHECK misses it", function()
      local w, before = new(entry, "ensure")
      assert.is_false(is_there(w, entry))
      call(w, "ADD", 1)
      assert.is_true(is_there(w, entry))
      call(w, "ADD", 2)
      call(w, "CHECK", 2)
      w:sh(entry.take)
      assert.matches(entry.says, w:fails("CHECK", { type = "luacni" }).text)
      w:sh(entry.make)
      call(w, "CHECK", 1)
      call(w, "DEL", 1)
      assert.is_true(is_there(w, entry))
      call(w, "DEL", 2)
      assert.is_false(is_there(w, entry))
      t.same(before, w:picture())
    end)

    it("that somebody else has made stays his", function()
      local w = new(entry, "ensure")
      w:sh(entry.make)
      local before = w:picture()
      call(w, "ADD", 1)
      call(w, "DEL", 1)
      t.same(before, w:picture())
    end)

    it("that is added is an error where it is there, whoever made it, and nothing has changed", function()
      if entry.only then return end
      local w, before = new(entry, "add")
      call(w, "ADD", 1)
      assert.is_true(is_there(w, entry))
      local shot = w:picture()
      local err = w:fails("ADD", { type = "luacni", pod = 2, id = "c2" })
      assert.matches(entry.says .. ".* is there already", err.msg)
      assert.matches("net:c1:eth0", err.text)
      t.same(shot, w:picture())
      call(w, "CHECK", 1)
      call(w, "DEL", 1)
      t.same(before, w:picture())
      w:sh(entry.make)
      shot = w:picture()
      assert.matches("is there already", w:fails("ADD", { type = "luacni" }).msg)
      t.same(shot, w:picture())
      -- The runtime's DEL behind it takes nothing of others either, and says so.
      local got = w:call("DEL", { type = "luacni" })
      assert.equal(0, got.rc)
      assert.matches("there is no record of eth0 of container c1, and what may be somebody else's stays: .*"
        .. entry.says, got.err)
      t.same(shot, w:picture())
      w:sh(entry.take)
    end)

    it("that is added is taken without a record when it is certain whose it is", function()
      if entry.only then return end
      local w, before = new(entry, "add")
      local script = t.read("/etc/luacni/plugins/own.lua")
      t.write("/etc/luacni/plugins/own.lua", (script:gsub("add = function%(req%)", [[%0
        local a, b = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }]])
        :gsub(" end }$", " return { interfaces = { a, b } } end }")))
      -- By prevResult's interface, for as long as it is there; a second DEL finds it gone.
      local result = w:ok("ADD", { type = "luacni" })
      w:lose_records()
      w:ok("DEL", { type = "luacni", prev = result })
      assert.is_false(is_there(w, entry))
      t.same(before.kernel, w:picture().kernel)
      w:sh(entry.make)
      w:ok("DEL", { type = "luacni", prev = result })
      assert.is_true(is_there(w, entry))
      w:sh(entry.take)
      -- Without prevResult nothing tells.
      w:ok("ADD", { type = "luacni" })
      w:lose_records()
      w:ok("DEL", { type = "luacni", prev = { cniVersion = "1.1.0" } })
      assert.is_true(is_there(w, entry))
      w:sh(entry.take)
      t.same(before.kernel, w:picture().kernel)
    end)
  end)
end

describe("An entry on a link of the attachment's own", function()
  it("goes with it, and CHECK misses it", function()
    t.wipe()
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req)
      local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
      req.host:set_link(port, { up = true })
      req.pod:add_addr(eth, "10.1.0.2/24")
      req.pod:set_link(eth, { up = true })
      req.pod:add_neigh(eth, { dst = "10.1.0.1", mac = port.mac })
      req.host:add_neigh(port, { dst = "10.1.0.2", mac = eth.mac })
      req.host:add_route { dst = "10.1.0.2/32", link = port }
      return { interfaces = { port, eth } }
    end }]])
    local w = world.new({ type = "own" }, { neighbours = false, lived_in = false })
    local before = w:picture()
    call(w, "ADD", 1)
    call(w, "CHECK", 1)
    assert.is_nil(next(t.files("/run/luacni/shared")))
    w:in_pod("ip neigh del 10.1.0.1 dev eth0")
    assert.matches("neighbour 10%.1%.0%.1 at .* on eth0 is missing", w:fails("CHECK", { type = "luacni" }).text)
    call(w, "DEL", 1)
    t.same(before, w:picture())
  end)
end)

for what, case in pairs {
  ["a network that is none"] = { 'add_rule { from = "10.1/33" }', 'from: expected an address or a network, got "10.1/33"' },
  ["a neighbour without a MAC"] = { 'add_neigh("lo", { dst = "10.1.0.1" })', "either a mac or proxy" },
  ["a neighbour without an address"] = { 'add_neigh("lo", { mac = "02:00:00:00:00:01" })', "dst: is missing" },
  ["a blackhole with a gateway"] =
    { 'add_route { dst = "10.0.0.0/8", type = "blackhole", gw = "10.0.0.1" }', "has no link and no gateway" },
  ["a shared route without a link or type"] = { 'ensure_route { dst = "10.0.0.0/8" }', "link: is missing" },
  ["a forwarding entry without a MAC"] = { 'add_fdb("lo", {})', "mac: is missing" },
  ["a rule that the kernel refuses"] = { 'add_rule { ip_proto = 300 }', "ip_proto" },
} do
  it("Refused is " .. what .. ", and nothing has changed", function()
    local w, before = new({ "", "" }, "x")
    t.write("/etc/luacni/plugins/own.lua",
      ("return { add = function(req) req.host:%s end }"):format(case[1]))
    assert.matches(case[2], w:fails("ADD", { type = "luacni" }).text)
    t.same(before, w:picture())
  end)
end

describe("A shared link that is plugged into another", function()
  local function plugged(w) return (t.link(w.host, "p0") or {}).master end

  local function new_port(host, more)
    t.wipe()
    t.write("/etc/luacni/plugins/own.lua", ([[return { add = function(req)
      local br = req.host:ensure_link { kind = "bridge", name = "b0", up = true }
      req.host:ensure_link { kind = "veth", name = "p0", up = true, master = br%s }
    end }]]):format(more or ""))
    local w = world.new({ type = "own" }, { pods = 2, neighbours = false, lived_in = false })
    if host then w:sh(host) end
    return w, w:picture()
  end

  it("is made so, CHECK misses it, and it goes with the last attachment", function()
    local w, before = new_port()
    call(w, "ADD", 1)
    call(w, "ADD", 2)
    assert.equal("b0", plugged(w))
    call(w, "CHECK", 1)
    w:sh("ip link set p0 nomaster")
    assert.matches("p0 is not plugged into b0", w:fails("CHECK", { type = "luacni" }).msg)
    w:sh("ip link set p0 master b0")
    call(w, "DEL", 1)
    assert.equal("b0", plugged(w))
    call(w, "DEL", 2)
    t.same(before, w:picture())
  end)

  it("goes with its bridge when its other end is in there too", function()
    local w, before = new_port(nil, ", peer = { master = br }")
    call(w, "ADD", 1)
    call(w, "CHECK", 1)
    assert.equal(2, #t.ip(w.host, "link show master b0"))
    call(w, "DEL", 1)
    t.same(before, w:picture())
  end)

  it("is plugged in when it was there, and unplugged with the last attachment", function()
    local w, before = new_port(t.pair("p0", "p1") .. "ip link set p0 down")
    call(w, "ADD", 1)
    assert.equal("b0", plugged(w))
    call(w, "CHECK", 1)
    call(w, "DEL", 1)
    assert.is_nil(plugged(w))
    t.same(before, w:picture())
  end)

  it("is an error when it is plugged into another one already, which it stays", function()
    local w, before = new_port("ip link add other type bridge; ip link add p0 type veth peer name p1; " ..
      "ip link set p0 master other")
    assert.matches("plugged into another link than b0", w:fails("ADD", { type = "luacni" }).msg)
    t.same(before, w:picture())
  end)
end)
