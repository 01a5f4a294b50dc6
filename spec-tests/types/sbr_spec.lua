-- SPDX-License-Identifier: MIT
-- What plugin `sbr` promises: what leaves from an interface's address goes by that interface, by a table of its
-- own with the routes that the interface had; nothing else of the sandbox is touched; DEL gives all back.

local t = require "support"
local world = require "world"

local with = t.merge

-- Two networks, each with a default route; that of IPv6 counts less in the second, or the kernel would join both.
local function network(n)
  return { type = "macvlan", master = "up0", enabledad = false, ipam = { type = "static", addresses = {
    { address = ("10.%d.0.9/24"):format(n), gateway = ("10.%d.0.1"):format(n) },
    { address = ("fd0%d::9/64"):format(n), gateway = ("fd0%d::1"):format(n) } },
    routes = { { dst = "0.0.0.0/0" }, { dst = "::/0", priority = n > 5 and 2048 or 1024 } } } }
end

local function new(conf)
  t.needs "macvlan"
  return world.new(with(network(5), conf), { far = true })
end

local function sbr(w, conf, c)
  local key = (c and c.id or "c1") .. " " .. (c and c.ifname or "eth0")
  local call = with({ type = "sbr", prev = w.results[key] }, c)
  call.conf = with({ type = "sbr", ipam = false, master = false }, conf)
  return call
end

-- Routes of a table "dst [via gw] dev link [src ip]", sorted; what the kernel makes for fe80:: only if asked, and
-- none by the link of a neighbour.
local function routes(w, number, with_local)
  local lines = {}
  for _, family in ipairs { "-4", "-6" } do
    local out = t.run(("ip %s -j route show table %s 2>/dev/null || true"):format(family, number), { host = w.pods[1] })
    for _, route in ipairs(out:find "%S" and t.decode(out) or {}) do
      for _, hop in ipairs(route.nexthops or { route }) do
        if hop.dev ~= "side0" and (with_local or route.dst ~= "fe80::/64") then
          lines[#lines + 1] = ("%s%s%s dev %s%s"):format(family == "-6" and route.dst == "default" and "::" or "",
            route.dst, hop.gateway and " via " .. hop.gateway or "", hop.dev,
            route.prefsrc and " src " .. route.prefsrc or "")
        end
      end
    end
  end
  table.sort(lines)
  return lines
end

-- Rules that are not the kernel's: "from lookup", in the order of their counting.
local function rules(w)
  local lines = {}
  for _, family in ipairs { "-4", "-6" } do
    for _, rule in ipairs(t.ip(w.pods[1], family .. " rule show")) do
      if rule.src ~= "all" then lines[#lines + 1] = ("%s lookup %s"):format(rule.src, rule.table) end
    end
  end
  return lines
end

-- The link by which a packet leaves.
local function way(w, to, from)
  local out, status = t.sh(("ip -j route get %s%s"):format(to, from and " from " .. from or ""), { host = w.pods[1] })
  return status == 0 and t.decode(out)[1].dev or "none"
end

local two = { ifname = "net1", conf = with(network(6), { name = "other" }) }
local function second(conf) return with({ name = "other" }, conf), { ifname = "net1" } end

local function settled(w)
  w:in_pod("for i in $(seq 100); do ip -6 addr show scope link tentative | grep -q fe80 || break; sleep 0.1; done")
  return w:picture()
end

describe("sbr behind macvlan", function()
  it("moves the routes of the interface into a table an address, and DEL gives them back", function()
    local w = new()
    w:add()
    local before = settled(w)
    local main = routes(w, "main", true)
    t.same(w.results["c1 eth0"], w:add(sbr(w)))
    t.same({ "10.5.0.9 lookup 100", "fd05::9 lookup 101" }, rules(w))
    t.same({ "10.5.0.0/24 dev eth0 src 10.5.0.9", "default via 10.5.0.1 dev eth0" }, routes(w, 100))
    t.same({ "::default via fd05::1 dev eth0", "fd05::/64 dev eth0", "fe80::/64 dev eth0" }, routes(w, 101, true))
    t.same({ "fe80::/64 dev eth0" }, routes(w, "main", true))
    -- Another source of the same networks uses the main table.
    w:in_pod "ip addr add 10.5.0.10/32 dev eth0; ip -6 addr add fd05::10/128 dev eth0 nodad"
    t.same({ "eth0", "eth0", "none", "none", "none" }, { way(w, "192.0.2.7", "10.5.0.9"),
      way(w, "2001:db8::7", "fd05::9"), way(w, "192.0.2.7"), way(w, "192.0.2.7", "10.5.0.10"),
      way(w, "2001:db8::7", "fd05::10") })
    w:in_pod "ip addr del 10.5.0.10/32 dev eth0; ip -6 addr del fd05::10/128 dev eth0"
    w:check(sbr(w))
    w:check()
    w:del(sbr(w))
    w:del(sbr(w))
    t.same(main, routes(w, "main", true))
    t.same(before, settled(w))
    w:check()
  end)

  it("keeps several interfaces apart: an answer leaves by the link that the question came by", function()
    local w = new()
    t.run("ip addr add 10.5.0.1/24 dev up0; ip addr add 10.6.0.1/24 dev up0; ip addr add 203.0.113.1/32 dev lo; " ..
      "ip -6 addr add fd05::1/64 dev up0 nodad; ip -6 addr add fd06::1/64 dev up0 nodad; " ..
      "ip -6 addr add fd99::1/128 dev lo", { host = w.far })
    w:add()
    w:add(two)
    -- How many packets from an address have left by a link.
    w:in_pod([[nft 'table inet spec { chain out { type filter hook postrouting priority 0;
      ip saddr 10.6.0.9 oifname "net1" counter; ip saddr 10.6.0.9 oifname "eth0" counter;
      ip6 saddr fd06::9 oifname "net1" counter; ip6 saddr fd06::9 oifname "eth0" counter; }; }']])
    local seen = {}
    local function counted()
      local numbers = {}
      for n in t.run("nft list table inet spec", { host = w.pods[1] }):gmatch "counter packets (%d+)" do
        numbers[#numbers + 1] = tonumber(n)
      end
      for i, n in ipairs(numbers) do numbers[i], seen[i] = n - (seen[i] or 0), n end
      return numbers
    end
    local function ask()
      for _, whom in ipairs { "10.6.0.9 -I 203.0.113.1", "fd06::9 -I fd99::1" } do
        t.sh("ping -c 3 -i 0.2 -W 1 " .. whom, { host = w.far })
      end
    end
    w:add(sbr(w, second()))
    ask()
    local by = counted()
    assert.is_true(by[1] >= 3 and by[3] >= 3, t.json(by))
    t.same({ 0, 0 }, { by[2], by[4] })
    t.same({ "net1", "eth0" }, { way(w, "203.0.113.1", "10.6.0.9"), way(w, "203.0.113.1") })
    for _, call in ipairs { {}, two, (sbr(w, second())) } do w:check(call) end
    w:add(sbr(w))
    t.same({ "10.5.0.9 lookup 102", "10.6.0.9 lookup 100", "fd05::9 lookup 103", "fd06::9 lookup 101" },
      (function(list) table.sort(list) return list end)(rules(w)))
    assert.equal("none", way(w, "203.0.113.1"))
    w:del(sbr(w))
    t.same({ "10.6.0.9 lookup 100", "fd06::9 lookup 101" }, rules(w))
    w:check(sbr(w, second()))
    w:check()
    w:check(two)
    -- The negative twin: without it they leave by eth0.
    w:del(sbr(w, second()))
    ask()
    by = counted()
    assert.is_true(by[2] >= 3 and by[4] >= 3, t.json(by))
    t.same({ 0, 0 }, { by[1], by[3] })
    w:in_pod "nft flush ruleset"
  end)

  it("serves three interfaces of one pod, of ranges that the runtime gives: no default route stays in the main table", function()
    local w = new()
    local names, calls = { "eth0", "net1", "net2" }, {}
    for n, name in ipairs(names) do
      local conf = with(network(n), { name = "of" .. name, runtimeConfig = { ipRanges = {
        { { subnet = ("10.%d.0.0/24"):format(n) } }, { { subnet = ("fd0%d::/64"):format(n) } } } } })
      conf.ipam = { type = "host-local", routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } }
      calls[n] = { ifname = name, conf = conf }
      w:add(calls[n])
      w:add(sbr(w, { name = "of" .. name, runtimeConfig = false }, { ifname = name }))
    end
    for n, name in ipairs(names) do
      t.same({ ("10.%d.0.0/24 dev %s src 10.%d.0.2"):format(n, name, n), ("default via 10.%d.0.1 dev %s"):format(n, name) },
        routes(w, 98 + 2 * n))
      t.same({ ("::default via fd0%d::1 dev %s"):format(n, name), ("fd0%d::/64 dev %s"):format(n, name) },
        routes(w, 99 + 2 * n))
      t.same({ name, name }, { way(w, "198.51.100.7", ("10.%d.0.2"):format(n)), way(w, "2001:db8:7::7", ("fd0%d::2"):format(n)) })
    end
    t.same({}, routes(w, "main"))
    for n = 3, 1, -1 do
      local of = sbr(w, { name = "of" .. names[n], runtimeConfig = false }, { ifname = names[n] })
      w:check(of)
      w:check(calls[n])
      w:del(of)
      w:del(calls[n])
      assert.equal(2 * (n - 1), #rules(w))
    end
  end)

  it("takes the gateways of the configuration before those of the result and the kernel", function()
    local w = new()
    w:add()
    local main = routes(w, "main")
    w:add(sbr(w, { gateways = { "10.5.0.77" } }))
    t.same({ "10.5.0.0/24 dev eth0 src 10.5.0.9", "default via 10.5.0.77 dev eth0" }, routes(w, 100))
    t.same({ "::default via fd05::1 dev eth0", "fd05::/64 dev eth0" }, routes(w, 101))
    w:del(sbr(w, { gateways = { "10.5.0.77" } }))
    t.same(main, routes(w, "main"))
  end)

  it("leaves routes alone of a family that it has no address of, and of an interface that is not the result's", function()
    local w = new()
    w:add()
    local main = routes(w, "main")
    local four = with({}, w.results["c1 eth0"])
    four.ips = { four.ips[1] }
    w:add(sbr(w, nil, { prev = four }))
    t.same({ "10.5.0.9 lookup 100" }, rules(w))
    t.same({ "::default via fd05::1 dev eth0", "fd05::/64 dev eth0" }, routes(w, "main"))
    w:check(sbr(w, nil, { prev = four }))
    w:del(sbr(w, nil, { prev = four }))
    t.same(main, routes(w, "main"))
    local other = with({}, w.results["c1 eth0"])
    other.interfaces = { with(other.interfaces[1], { name = "other" }) }
    w:add(sbr(w, nil, { prev = other }))
    t.same({}, rules(w))
    t.same(main, routes(w, "main"))
    w:del(sbr(w, nil, { prev = other }))
  end)

  it("leaves hints in the main table when asked to", function()
    local w = new()
    w:add()
    local main = routes(w, "main", true)
    w:add(sbr(w, { addSourceHints = true }))
    t.same({ "10.5.0.0/24 dev eth0 src 10.5.0.9", "fd05::/64 dev eth0 src fd05::9", "fe80::/64 dev eth0" },
      routes(w, "main", true))
    w:check(sbr(w, { addSourceHints = true }))
    w:del(sbr(w, { addSourceHints = true }))
    t.same(main, routes(w, "main", true))
  end)

  it("with a table makes rules, and nothing else; a rule that was there stays", function()
    local w = new()
    w:add()
    w:in_pod "ip rule add from 10.5.0.9 lookup 77 prio 20000"
    local main = routes(w, "main", true)
    w:add(sbr(w, { table = 77 }))
    t.same({ "10.5.0.9 lookup 77", "10.5.0.9 lookup 77", "fd05::9 lookup 77" }, rules(w))
    assert.equal(19999, t.ip(w.pods[1], "-4 rule show")[2].priority)
    t.same(main, routes(w, "main", true))
    t.same({}, routes(w, 77))
    w:check(sbr(w, { table = 77 }))
    w:del(sbr(w, { table = 77 }))
    t.same({ "10.5.0.9 lookup 77" }, rules(w))
  end)

  it("chooses tables that no rule, route or VRF has, and leaves those alone", function()
    local w = new()
    w:add()
    w:in_pod("ip rule add from 192.0.2.7 lookup 100; ip route add blackhole 192.0.2.0/24 table 101; " ..
      "ip -6 route add blackhole fd77::/64 table 103")
    w:add(sbr(w))
    t.same({ "10.5.0.9 lookup 102", "192.0.2.7 lookup 100", "fd05::9 lookup 104" },
      (function(list) table.sort(list) return list end)(rules(w)))
    w:del(sbr(w))
    t.same({ "192.0.2.7 lookup 100" }, rules(w))
    assert.truthy(w:in_pod("ip route show table 101"):find "blackhole")
  end)

  it("takes routes of the result that the kernel did not take for the sake of another interface", function()
    local w = new()
    w:add()
    w:in_pod "ip route add 198.51.100.0/24 via 10.5.0.1"
    local prev = with({}, w.results["c1 eth0"])
    prev.routes = { { dst = "198.51.100.0/24" }, { dst = "203.0.113.0/24", gw = "10.5.0.3" },
      { dst = "192.0.2.0/24", gw = "10.99.0.3" } }
    w:add(sbr(w, nil, { prev = prev }))
    t.same({ "10.5.0.0/24 dev eth0 src 10.5.0.9", "198.51.100.0/24 via 10.5.0.1 dev eth0",
      "203.0.113.0/24 via 10.5.0.3 dev eth0", "default via 10.5.0.1 dev eth0" }, routes(w, 100))
    w:del(sbr(w))
  end)

  it("gives parallel ADDs in one sandbox tables of their own", function()
    local w = new()
    w:add()
    w:add(two)
    local calls = {}
    for _, name in ipairs { "eth0", "net1" } do
      local conf = { cniVersion = "1.1.0", name = name == "eth0" and "net" or "other", type = "sbr",
        prevResult = w.results["c1 " .. name] }
      local path = "/run/spec/" .. name .. ".json"
      t.write(path, t.json(conf))
      calls[#calls + 1] = ("CNI_IFNAME=%s %s/sbr <%s & "):format(name, t.bin.ours, path)
    end
    for _ = 1, 5 do
      t.run(("export CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=%s CNI_PATH=%s; %s wait"):format(w.pods[1].path,
        t.bin.ours, table.concat(calls)), { host = w.host })
      local taken = {}
      for _, family in ipairs { "-4", "-6" } do
        for _, rule in ipairs(t.ip(w.pods[1], family .. " rule show")) do
          if rule.src ~= "all" then
            taken[#taken + 1] = rule.table .. (family == "-6" and " of IPv6" or "")
          end
        end
      end
      table.sort(taken)
      assert.equal(4, #taken)
      for i = 2, 4 do assert.not_equal(taken[i - 1], taken[i]) end
      w:del(sbr(w))
      w:del(sbr(w, second()))
    end
  end)
end)

describe("CHECK of the plugin before sbr", function()
  it("finds its routes in the tables of its addresses, and misses what is in none", function()
    local w = new()
    w:add()
    w:add(sbr(w))
    w:check()
    w:in_pod "ip route del default table 100; ip route add default dev eth0 via 10.5.0.1 onlink table 300"
    assert.truthy(w:fails("CHECK").text:find("route 0.0.0.0/0 via 10.5.0.1 on eth0 is missing", 1, true))
    w:in_pod "ip rule add from 10.5.0.9 lookup 300"
    w:check()
    w:fails("CHECK", sbr(w))
    w:in_pod "ip rule del lookup 300; ip route flush table 300"
    w:del(sbr(w))
  end)
end)

describe("sbr DEL", function()
  it("without a record finds rules and tables in the kernel", function()
    local w = new()
    w:add()
    local main = routes(w, "main", true)
    w:add(sbr(w))
    t.run("rm -rf /run/luacni")
    w:check(sbr(w))
    w:del(sbr(w))
    t.same({}, rules(w))
    t.same({}, routes(w, 100))
    t.same(main, routes(w, "main", true))
  end)

  it("takes back what the reference has made, and the reverse", function()
    t.needs "reference"
    local w = new()
    w:add()
    local main = routes(w, "main")
    local ten = { cniVersion = "1.0.0" }
    local prev = with({}, w.results["c1 eth0"], ten)
    prev.cniVersion = "1.0.0"
    w:add(sbr(w, ten, { bin = "reference", prev = prev }))
    assert.equal(2, #rules(w))
    w:del(sbr(w, ten))
    t.same({}, rules(w))
    t.same(main, routes(w, "main"))
    w:add(sbr(w, ten, { prev = prev }))
    w:del(sbr(w, ten, { bin = "reference", prev = prev }))
    t.same({}, rules(w))
    w:del(sbr(w, ten, { prev = prev }))
  end)

  it("is content when interface or namespace are gone, and leaves no rule", function()
    local w = new()
    w:add()
    w:add(sbr(w))
    w:in_pod "ip link del eth0"
    w:del(sbr(w))
    t.same({}, rules(w))
    w:del()
    w:add()
    w:add(sbr(w))
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del(with(sbr(w), { pod = "/run/netns/pod1" }))
    w:del { pod = "/run/netns/pod1" }
  end)
end)

describe("sbr ADD that fails changes nothing:", function()
  it("wrong gateways, a wrong table, no prevResult, no address, a gateway out of reach", function()
    local w = new()
    w:add()
    local before = settled(w)
    local function fails(conf, c, code, text)
      local e = w:fails("ADD", with(sbr(w, conf), c), code)
      assert.truthy(e.text:find(text, 1, true), e.text)
      t.same(before, settled(w))
    end
    fails({ gateways = t.list { "10.5.0.x" } }, nil, 7, "gateways")
    fails({ gateways = t.list { "10.5.0.1", "10.5.0.2" } }, nil, 7, "gateways: 10.5.0.1 and 10.5.0.2 are of one family")
    fails({ gateways = t.list { "10.77.0.1" } }, nil, nil, "no address of eth0 is in one network with the gateway 10.77.0.1")
    fails({ table = -1 }, nil, 7, "table")
    fails({ table = 0x100000000 }, nil, 7, "table")
    fails({ table = "x" }, nil, 7, "table")
    fails(nil, { prev = false }, 7, "prevResult")
    fails(nil, { prev = { cniVersion = "1.1.0", interfaces = t.list {}, ips = t.list {} } }, 7, "prevResult.ips")
    fails(nil, { ifname = "net7", prev = w.results["c1 eth0"] }, nil, "link net7 is not in the sandbox")
  end)
end)

describe("A script of a site that changes routes", function()
  local function script(body)
    t.write("/etc/luacni/plugins/moves.lua", "return { chained = true, add = function(req) " .. body .. " end }")
  end
  after_each(function() os.remove "/etc/luacni/plugins/moves.lua" end)

  it("takes away what it names, gives it back, and is told of a mistake", function()
    local w = new()
    w:add()
    local main = routes(w, "main", true)
    local call = { type = "luacni", conf = { type = "moves", ipam = false, master = false },
      prev = w.results["c1 eth0"] }
    script [[local gone = req:once("routes", function() return req.pod:routes_of "eth0" end)
      req.pod:change_routes("eth0", { remove = gone, add = { { dst = "192.0.2.0/24", table = 7 } } }) ]]
    w:add(call)
    t.same({}, routes(w, "main", true))
    t.same({ "192.0.2.0/24 dev eth0" }, routes(w, 7))
    w:check(call)
    w:in_pod "ip route add 192.0.2.0/24 dev eth0; ip route del 192.0.2.0/24 table 7"
    assert.truthy(w:fails("CHECK", call).text:find("route 192.0.2.0/24 in table 7 on eth0 is missing", 1, true))
    w:in_pod "ip route del 192.0.2.0/24 dev eth0"
    w:del(call)
    t.same(main, routes(w, "main", true))
    script [[req.pod:change_routes("eth0", { remove = { { dst = "nowhere" } } })]]
    assert.truthy(w:fails("ADD", call).text:find("change_routes", 1, true))
    t.same(main, routes(w, "main", true))
  end)
end)

describe("A script of a site that routes by source", function()
  local function script(body)
    t.write("/etc/luacni/plugins/routes.lua", "local source_routing = require 'cni.source_routing'\n" ..
      "return { chained = true, add = function(req) " .. body .. " end }")
  end
  after_each(function() os.remove "/etc/luacni/plugins/routes.lua" end)

  local function call(w)
    return { type = "luacni", conf = { type = "routes", ipam = false, master = false }, prev = w.results["c1 eth0"] }
  end

  it("takes the addresses that a link has, where it names none; CHECK misses them, DEL gives the routes back", function()
    local w = new()
    w:add()
    local before, main = settled(w), routes(w, "main", true)
    script "source_routing.add(req, 'eth0', nil, { gateways = { 'fd05::77' } })"
    w:add(call(w))
    t.same({ "10.5.0.9 lookup 100", "fd05::9 lookup 101" }, rules(w))
    t.same({ "10.5.0.0/24 dev eth0 src 10.5.0.9", "default via 10.5.0.1 dev eth0" }, routes(w, 100))
    t.same({ "::default via fd05::77 dev eth0", "fd05::/64 dev eth0" }, routes(w, 101))
    w:check(call(w))
    w:in_pod "ip -6 rule del table 101"
    assert.matches("from fd05::9/128 lookup 101 is missing", w:fails("CHECK", call(w)).text)
    w:del(call(w))
    t.same(main, routes(w, "main", true))
    t.same(before, settled(w))
    -- Without a record, too; of a gateway that was replaced nobody would know.
    script "source_routing.add(req, 'eth0')"
    w:add(call(w))
    t.same({ "10.5.0.9 lookup 100", "fd05::9 lookup 101" }, rules(w))
    t.run "rm -rf /run/luacni"
    w:del(call(w))
    t.same({}, rules(w))
    t.same(main, routes(w, "main", true))
  end)

  it("finds the rules of an address, and puts its own ahead of all", function()
    local w = new()
    w:add()
    w:in_pod("ip rule add from 10.5.0.9 lookup 77 prio 20000; ip rule add from 10.5.0.9 iif eth0 lookup 78; " ..
      "ip rule add from 10.5.0.8 lookup 79; ip -6 rule add from fd05::9 lookup 80 prio 300")
    script [[for _, from in ipairs { "10.5.0.9", "fd05::9" } do
        assert(#source_routing.rules_from(req.pod, from) == (req.command == "ADD" and 1 or 2))
      end
      local found = req:once("found", function() return source_routing.rules_from(req.pod, "10.5.0.9")[1] end)
      assert(found.from == "10.5.0.9" and found.table == 77 and found.priority == 20000)
      for _, rule in ipairs(req:once("rules", function()
        return source_routing.ahead(req.pod, { { from = "10.5.0.9", table = 7 }, { to = "192.0.2.0/24", table = 8 },
          { from = "fd05::9", iif = "lo", table = 9 }, { from = "fd05::9", table = 10 } })
      end)) do req.pod:add_rule(rule) end ]]
    w:add(call(w))
    local found = {}
    for _, family in ipairs { "-4", "-6" } do
      for _, rule in ipairs(t.ip(w.pods[1], family .. " rule show")) do
        if tonumber(rule.table) and tonumber(rule.table) <= 10 then
          found[#found + 1] = ("%d %s %s"):format(rule.priority, rule.table, rule.iif or rule.dst or "")
        end
      end
    end
    t.same({ "19996 8 192.0.2.0", "19997 7 ", "298 10 ", "299 9 lo" }, found)
    w:check(call(w))
    w:del(call(w))
    t.same({ "10.5.0.8 lookup 79", "10.5.0.9 lookup 77", "10.5.0.9 lookup 78", "fd05::9 lookup 80" },
      (function(list) table.sort(list) return list end)(rules(w)))
  end)

  it("is told of a mistake, with its line, and nothing is changed", function()
    local w = new()
    w:add()
    local before = settled(w)
    for body, says in pairs {
      ["source_routing.add('eth0')"] = "routes.lua:2: source_routing.add: req: expected req",
      ["source_routing.add(req, nil)"] = "routes.lua:2: source_routing.add: link: expected a link or the name of one",
      ["source_routing.add(req, 'eth0', { { adress = '10.5.0.9/24' } })"] = "ips[1]",
      ["source_routing.add(req, 'eth0', nil, { gateway = '10.5.0.1' })"] = "did you mean 'gateways'?",
      ["source_routing.add(req, 'eth0', nil, { gateways = { '10.5.0.1', '10.5.0.2' } })"] = "are of one family",
      ["source_routing.rules_from(req, '10.5.0.9')"] = "source_routing.rules_from: handle: expected a handle",
      ["source_routing.rules_from(req.pod, '10.5.0.9/24')"] = "source_routing.rules_from: address: expected an address",
      ["source_routing.ahead(req.pod, 7)"] = "source_routing.ahead: rules: expected a list",
    } do
      script(body)
      local text = w:fails("ADD", call(w)).text
      assert.truthy(text:find(says, 1, true), text)
      t.same(before, settled(w))
    end
  end)
end)
