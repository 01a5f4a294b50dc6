-- SPDX-License-Identifier: MIT
-- What plugin `vrf` promises: behind the plugin that makes the interface, it puts that with all
-- its addresses and routes into a routing table of its own; DEL puts everything back.
--
-- Seconds a test takes on the second kernel: 7

local t = require "support"
local world = require "world"

local dual = { type = "host-local", routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } },
  ranges = { { { subnet = "10.5.2.0/24" } }, { { subnet = "fd05:1::/64" } } } }

local with = t.merge

-- A world of ptp, or of another plugin; vrf is called behind it by `vrf`.
local function new(conf, opts)
  t.needs("vrf")
  return world.new(with({ type = "ptp", ipam = dual }, conf), with({ forwarding = true }, opts))
end

-- The call of vrf behind the one of `c`.
local function vrf(w, conf, c)
  local call = with({ type = "vrf", prev = w.results[(c and c.id or "c1") .. " " ..
    (c and c.ifname or "eth0")] }, c)
  call.conf = with({ type = "vrf", ipam = false, bridge = false, isGateway = false,
    vrfname = "red" }, conf)
  return call
end

local function chain(w, conf, c)
  w:add(c)
  return w:add(vrf(w, conf, c))
end

-- The picture once the kernel has given eth0 its own address, a moment after the carrier.
local function settled(w)
  w:in_pod("for i in $(seq 50); do ip -6 addr show dev eth0 scope link -tentative | " ..
    "grep -q fe80 && break; sleep 0.1; done")
  return w:picture()
end

-- Routes of a table as `ip` writes them, but for those that the kernel makes for addresses.
local function route_lines(ns, table_id)
  local lines = {}
  for _, family in ipairs { "-4", "-6" } do
    local out = t.sh(("ip -o %s route show table %s"):format(family, table_id), { host = ns })
    for line in out:gmatch("[^\n]+") do
      line = line:gsub("[%s\\]+", " "):gsub(" $", "")
      if not line:find("proto kernel", 1, true) then lines[#lines + 1] = line end
    end
  end
  table.sort(lines)
  return lines
end

-- The same as "DST via GATEWAY dev NAME" alone.
local function routes(ns, table_id)
  local lines = route_lines(ns, table_id)
  for i, line in ipairs(lines) do lines[i] = line:match("^.- dev %S+") end
  return lines
end

local all = {
  "10.5.2.0/24 via 10.5.2.1 dev eth0", "10.5.2.1 dev eth0",
  "default via 10.5.2.1 dev eth0", "default via fd05:1::1 dev eth0",
  "fd05:1::/64 via fd05:1::1 dev eth0", "fd05:1::1 dev eth0",
}

local function answers(ns, address, link)
  return select(2, t.sh(("ping -n -q -c 1 -W 1 %s %s"):format(link and "-I " .. link or "", address),
    { host = ns })) == 0
end

describe("vrf behind ptp", function()
  it("moves addresses and routes of both families to the VRF's table, DEL moves them back", function()
    local w = new()
    w:add()
    t.same(all, routes(w.pods[1], "main"))
    local before = settled(w)
    local given = w.results["c1 eth0"]
    local result = w:add(vrf(w, { table = 10 }))
    t.same(given, result)
    local red = t.link(w.pods[1], "red")
    t.same({ "vrf", 10 }, { red.linkinfo.info_kind, red.linkinfo.info_data.table })
    assert.equal("red", t.link(w.pods[1], "eth0").master)
    t.same({ "10.5.2.2/24", "fd05:1::2/64" }, world.addrs(w.pods[1], "eth0"))
    t.same(all, routes(w.pods[1], 10))
    t.same({}, routes(w.pods[1], "main"))

    -- From within the VRF the host is there, from without it is not.
    for _, gateway in ipairs { "10.5.2.1", "fd05:1::1" } do
      assert.is_true(answers(w.pods[1], gateway, "red"))
      assert.is_false(answers(w.pods[1], gateway))
    end
    -- Both plugins of the chain find all as they left it.
    w:check(vrf(w, { table = 10 }))
    w:check()

    w:del(vrf(w, { table = 10 }))
    w:del(vrf(w, { table = 10 }))
    assert.is_nil(t.link(w.pods[1], "red"))
    -- The first VRF of a namespace brings two rules of the kernel's, which stay.
    local after = settled(w)
    before.kernel.pod1.rules, after.kernel.pod1.rules = nil, nil
    t.same(before, after)
    assert.is_true(answers(w.pods[1], "fd05:1::1"))
  end)

  it("chooses a table that no VRF, rule or route has, and keeps it", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    w:in_pod("ip link add other type vrf table 1; ip rule add from 192.0.2.7 lookup 2; " ..
      "ip route add blackhole 192.0.2.0/24 table 3; ip -6 route add blackhole fd77::/64 table 4")
    chain(w)
    assert.equal(5, t.link(w.pods[1], "red").linkinfo.info_data.table)
    assert.is_true(answers(w.pods[1], "10.5.2.1", "red"))
    w:check(vrf(w))
    w:del(vrf(w))
    assert.is_nil(t.link(w.pods[1], "red"))
    assert.equal(1, t.link(w.pods[1], "other").linkinfo.info_data.table)
  end)

  it("is joined by a second interface, and goes with the last one", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    local second = { ifname = "net1", conf = { name = "other",
      ipam = { type = "host-local", subnet = "10.6.2.0/24" } } }
    chain(w, { table = 10 })
    w:add(second)
    local behind = vrf(w, { name = "other" }, { ifname = "net1" })
    w:add(behind)
    assert.equal("red", t.link(w.pods[1], "net1").master)
    assert.is_true(answers(w.pods[1], "10.5.2.1", "red"))
    assert.is_true(answers(w.pods[1], "10.6.2.1", "red"))
    w:del(vrf(w, { table = 10 }))
    assert.is_nil(t.link(w.pods[1], "eth0").master)
    t.same({ "10.5.2.0/24 via 10.5.2.1 dev eth0", "10.5.2.1 dev eth0" }, routes(w.pods[1], "main"))
    t.same({ "10.6.2.0/24 via 10.6.2.1 dev net1", "10.6.2.1 dev net1" }, routes(w.pods[1], 10))
    assert.is_true(answers(w.pods[1], "10.6.2.1", "red"))
    w:check(behind)
    w:del(behind)
    assert.is_nil(t.link(w.pods[1], "red"))
    assert.is_true(answers(w.pods[1], "10.6.2.1"))
  end)

  it("joins a VRF that somebody else made, which stays, down or up as it was", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    w:in_pod("ip link add red type vrf table 77; ip link set red up")
    w:add()
    local before = settled(w)
    w:add(vrf(w))
    t.same({ "10.5.2.0/24 via 10.5.2.1 dev eth0", "10.5.2.1 dev eth0" }, routes(w.pods[1], 77))
    assert.equal("red", t.link(w.pods[1], "eth0").master)
    w:del(vrf(w))
    t.same(before, settled(w))
  end)

  it("keeps what routes and addresses have of their own, there and back", function()
    local w = new()
    w:add()
    w:in_pod("ip route add 198.51.100.0/24 via 10.5.2.1 metric 77 mtu 1300 advmss 1200 initcwnd 20; " ..
      "ip route add 192.0.2.0/24 proto static " ..
      "nexthop via 10.5.2.1 dev eth0 weight 3 nexthop via 10.5.2.7 dev eth0 onlink; " ..
      "ip -6 route add fd77::/64 via fd05:1::1 metric 5 mtu lock 1290; " ..
      "ip -6 addr add fd05:9::9/64 dev eth0 nodad preferred_lft 5000 valid_lft 6000; " ..
      "ip -6 addr add fd05:8::9 peer fd05:8::1/128 dev eth0 nodad")
    local lines, addrs = route_lines(w.pods[1], "main"), world.addrs(w.pods[1], "eth0")
    w:add(vrf(w, { table = 10 }))
    t.same(lines, route_lines(w.pods[1], 10))
    t.same({}, route_lines(w.pods[1], "main"))
    t.same(addrs, world.addrs(w.pods[1], "eth0"))
    assert.truthy(w:in_pod("ip -6 addr show dev eth0 to fd05:9::9"):find("preferred_lft [45]%d%d%dsec"))
    w:del(vrf(w, { table = 10 }))
    t.same(lines, route_lines(w.pods[1], "main"))
    t.same(addrs, world.addrs(w.pods[1], "eth0"))
  end)

  it("leaves routes of other interfaces where they are", function()
    local w = new()
    w:add()
    w:in_pod("ip link add p0 type veth peer name p1; ip addr add 10.9.0.1/24 dev p0; " ..
      "ip link set p0 up; ip link set p1 up; ip route add 10.10.0.0/24 via 10.9.0.2; " ..
      "ip route add blackhole 10.11.0.0/24")
    w:add(vrf(w, { table = 10 }))
    t.same(all, routes(w.pods[1], 10))
    t.same({ "10.10.0.0/24 via 10.9.0.2 dev p0", "blackhole 10.11.0.0/24" },
      route_lines(w.pods[1], "main"))
  end)
end)

-- Two interfaces, each the default route's, as of the cluster's network and another one.
describe("vrf beside another interface with the same destinations", function()
  local function both(prefix, six)
    return { type = "host-local", ranges = { { { subnet = prefix .. ".0/24" } }, { { subnet = six .. "/64" } } } }
  end

  local function two()
    t.needs("vrf")
    local w = world.new({ type = "bridge", bridge = "br0", isDefaultGateway = true,
      ipam = both("10.5.2", "fd05:1::") }, { forwarding = true })
    local second = { ifname = "net1", conf = { name = "other", bridge = "br1",
      ipam = both("10.6.2", "fd06:1::") } }
    w:add()
    w:add(second)
    return w, second
  end

  local first = { "default via 10.5.2.1 dev eth0", "default via fd05:1::1 dev eth0" }
  local other = { "default via 10.6.2.1 dev net1", "default via fd06:1::1 dev net1" }

  -- Default routes of a table, each hop of those that the kernel has joined as a line.
  local function defaults(ns, table_id)
    local lines = {}
    for _, family in ipairs { "-4", "-6" } do
      for _, route in ipairs(t.ip(ns, family .. " route show default table " .. table_id)) do
        for _, hop in ipairs(route.nexthops or { route }) do
          lines[#lines + 1] = ("default via %s dev %s"):format(hop.gateway, hop.dev)
        end
      end
    end
    table.sort(lines)
    return lines
  end

  local function sorted(...)
    local all_of = {}
    for _, list in ipairs({ ... }) do table.move(list, 1, #list, #all_of + 1, all_of) end
    table.sort(all_of)
    return all_of
  end

  it("moves its own default routes alone, there and back, and takes none of the other's along", function()
    local w, second = two()
    t.same(sorted(first, other), defaults(w.pods[1], "main"))
    local behind = vrf(w, { name = "other", table = 10 }, { ifname = "net1" })
    w:add(behind)
    t.same(first, defaults(w.pods[1], "main"))
    t.same(other, defaults(w.pods[1], 10))
    w:check()
    w:check(second)
    w:check(behind)
    w:del(behind)
    t.same(sorted(first, other), defaults(w.pods[1], "main"))
    w:check()
    w:check(second)
    w:del(second)
    t.same(first, defaults(w.pods[1], "main"))
    assert.is_true(answers(w.pods[1], "10.5.2.1"))
    w:check()
  end)

  it("shares a VRF with it, and leaves it there with its own", function()
    for _, lost in ipairs { false, true } do
      local w, second = two()
      local mine, behind = vrf(w, { table = 10 }), vrf(w, { name = "other", table = 10 }, { ifname = "net1" })
      w:add(mine)
      w:add(behind)
      t.same({}, defaults(w.pods[1], "main"))
      t.same(sorted(first, other), defaults(w.pods[1], 10))
      for _, call in ipairs({ false, second, mine, behind }) do w:check(call or nil) end
      if lost then t.run("rm -rf /run/luacni") end
      w:del(mine)
      t.same(first, defaults(w.pods[1], "main"))
      t.same(other, defaults(w.pods[1], 10))
      assert.is_true(answers(w.pods[1], "10.6.2.1", "red"))
      w:del()
      t.same({}, defaults(w.pods[1], "main"))
      t.same(other, defaults(w.pods[1], 10))
      w:del(behind)
      t.same(other, defaults(w.pods[1], "main"))
      t.cleanup()
    end
  end)

  it("moves two routes of one destination that differ in metric or gateway", function()
    local w = two()
    w:in_pod("ip route add 198.51.100.0/24 via 10.5.2.1 metric 7; " ..
      "ip route add 198.51.100.0/24 via 10.5.2.9 metric 8; " ..
      "ip route append 192.0.2.0/24 via 10.5.2.1; ip route append 192.0.2.0/24 via 10.5.2.9; " ..
      "ip -6 route add fd77::/64 via fd05:1::1 metric 7; ip -6 route add fd77::/64 via fd05:1::9 metric 8; " ..
      "ip -6 route append fd78::/64 via fd05:1::1; ip -6 route append fd78::/64 via fd05:1::9")
    local function lines(table_id)
      return t.run(("for f in -4 -6; do ip $f route show dev eth0 proto boot table %s | " ..
        "grep -v default; done; " ..
        "ip -6 route show fd78::/64 table %s"):format(table_id, table_id), { host = w.pods[1] })
        :gsub(" table %d+", "")
    end
    local before = lines("main")
    w:add(vrf(w, { table = 10 }))
    assert.equal(before, lines(10))
    w:del(vrf(w, { table = 10 }))
    assert.equal(before, lines("main"))
  end)
end)

describe("vrf behind bridge", function()
  it("carries what bridge gave, and lets it go again", function()
    local w = new({ type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true,
      ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    chain(w, { table = 10 })
    t.same({ "default via 10.5.2.1 dev eth0" }, routes(w.pods[1], 10))
    assert.is_true(answers(w.pods[1], "10.5.2.1", "red"))
    assert.is_false(answers(w.pods[1], "10.5.2.1"))
    w:check(vrf(w, { table = 10 }))
    w:check()
    w:del(vrf(w, { table = 10 }))
    t.same({ "default via 10.5.2.1 dev eth0" }, routes(w.pods[1], "main"))
    assert.is_true(answers(w.pods[1], "10.5.2.1"))
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)
end)

describe("vrf ADD that fails changes nothing:", function()
  it("another table, no VRF, an interface that has a master, no interface, no prevResult", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    w:add()
    w:in_pod("ip link add red type vrf table 10; ip link set red up; " ..
      "ip link add name bro0 type bridge; " ..
      "ip link add p0 type veth peer name p1; ip link set p0 master bro0")
    local before = settled(w)
    local function fails(conf, c, code, ...)
      local e = w:fails("ADD", with(vrf(w, conf), c), code)
      for _, text in ipairs { ... } do assert.truthy(e.text:find(text, 1, true), e.text) end
      t.same(before, settled(w))
    end
    fails({ table = 12 }, nil, 7, "red", "10", "12")
    fails({ vrfname = "bro0" }, nil, 7, "bro0", "bridge")
    fails({}, { ifname = "p0" }, nil, "p0", "bro0")
    fails({}, { ifname = "net9" }, nil, "net9")
    fails({}, { prev = false }, 7, "prevResult")
    fails({ vrfname = "" }, nil, 7, "vrfname")
    fails({ vrfname = "a/b" }, nil, 7, "vrfname")
  end)
end)

describe("vrf DEL", function()
  it("is content when the namespace is gone, and GC too", function()
    for _, verb in ipairs { "DEL", "GC" } do
      local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
      chain(w, { table = 10 })
      t.remove_netns(w.pods[1])
      w.pods[1] = nil
      if verb == "DEL" then
        w:del(with(vrf(w, { table = 10 }), { pod = "/run/netns/pod1" }))
        w:del({ pod = "/run/netns/pod1" })
      else
        w:gc({ { "c1" } }, vrf(w, { table = 10 }))
        w:gc({ { "c1" } })
      end
      t.same({}, w:picture().records)
      t.cleanup()
    end
  end)

  it("without its record lets the interface go", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    chain(w, { table = 10 })
    t.run("rm -rf /run/luacni")
    w:del(vrf(w, { table = 10 }))
    assert.is_nil(t.link(w.pods[1], "eth0").master)
    t.same({ "10.5.2.0/24 via 10.5.2.1 dev eth0", "10.5.2.1 dev eth0" }, routes(w.pods[1], "main"))
    w:del(vrf(w, { table = 10 }))
    t.same({ "10.5.2.0/24 via 10.5.2.1 dev eth0", "10.5.2.1 dev eth0" }, routes(w.pods[1], "main"))
  end)

  it("is content when interface or VRF are gone", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    chain(w, { table = 10 })
    w:in_pod("ip link del eth0")
    w:del(vrf(w, { table = 10 }))
    assert.is_nil(t.link(w.pods[1], "red"))
    w:del()
    chain(w, { table = 10 })
    w:in_pod("ip link del red")
    w:del(vrf(w, { table = 10 }))
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)
end)

describe("vrf CHECK", function()
  local conf = { ipam = { type = "host-local", subnet = "10.5.2.0/24",
    routes = { { dst = "0.0.0.0/0" } } } }
  local another = "ip link del red; ip link add red type vrf table 11; ip link set red up; " ..
    "ip link set eth0 master red"

  -- of: the plugin of the chain whose CHECK fails; given: what vrf is called with.
  local function notices(what, of, given, sh, ...)
    local says = { ... }
    it("notices " .. what, function()
      local w = new(conf)
      chain(w, given)
      w:check()
      w:check(vrf(w, given))
      w:in_pod(sh)
      local e = w:fails("CHECK", of == "vrf" and vrf(w, given) or nil)
      for _, text in ipairs(says) do assert.truthy(e.text:find(text, 1, true), e.text) end
    end)
  end
  local given = { table = 10 }
  notices("an interface outside of it", "vrf", given, "ip link set eth0 nomaster", "eth0", "red")
  notices("an interface in another one", "vrf", given, "ip link add blue type vrf table 11; " ..
    "ip link set blue up; ip link set eth0 master blue", "eth0", "red")
  notices("an interface that is gone", "vrf", given, "ip link del eth0", "eth0")
  notices("a VRF that is gone", "vrf", given, "ip link del red", "red")
  notices("a VRF that is down", "vrf", given, "ip link set red down", "red", "up")
  notices("another table", "vrf", given, another, "red", "11", "10")
  notices("another table than the one it chose", "vrf", {}, another, "red", "11", "1")
  notices("a bridge in its place", "vrf", given,
    "ip link del red; ip link add red type bridge; ip link set eth0 master red", "red", "bridge")
  notices("a route that is gone from its table", "ptp", given, "ip route del default vrf red",
    "0.0.0.0/0")
  notices("a route that is in the main table instead", "ptp", given,
    "ip route del default vrf red; ip route add 0.0.0.0/0 dev eth0", "0.0.0.0/0")
  notices("routes that went with the VRF", "ptp", given, "ip link del red", "0.0.0.0/0")
end)

describe("vrf result", function()
  it("is the one of the chain, in every version", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.5.2.0/24" } })
    for _, version in ipairs { "0.3.1", "0.4.0", "1.0.0", "1.1.0" } do
      local call = { conf = { cniVersion = version } }
      local given = w:add(call)
      t.same(given, w:add(vrf(w, { cniVersion = version, table = 10 })))
      w:del(vrf(w, { cniVersion = version, table = 10 }))
      w:del(call)
    end
  end)
end)
