-- SPDX-License-Identifier: MIT
-- A list of plugins as a whole, run as a runtime runs it, of the shape of nomad's: [loopback, bridge, firewall],
-- the last one the reference's. What the list says, opens and leaves behind is what it is with the
-- reference's plugins alone.

local t = require "support"
local world = require "world"

local address = { v4 = "10.1.0.9", v6 = "fd01::9" }
local plugins = {
  { type = "loopback" },
  { type = "bridge", bridge = "nomad", ipMasq = true, isGateway = true, forceAddress = true,
    ipam = { type = "host-local", routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } }, ranges = {
      { { subnet = "10.1.0.0/24", rangeStart = address.v4, rangeEnd = address.v4 } },
      { { subnet = "fd01::/64", rangeStart = address.v6, rangeEnd = address.v6 } } } } },
  { type = "firewall", backend = "iptables", iptablesAdminChainName = "NOMAD-ADMIN" },
}

-- A directory of plugins as a node has it that changes over: ours, and the reference's firewall beside them.
local function mixed()
  local dir = "/run/spec/mixed"
  t.run(("mkdir -p %s; ln -sf %s/* %s; ln -sf %s/firewall %s"):format(dir, t.bin.ours, dir, t.bin.reference, dir))
  return dir
end

-- Call a list as libcni does: ADD gives each plugin the result so far, CHECK and DEL give all of them the
-- last one; DEL goes from the end. add() returns the results, one a plugin; changed(i, result) may change one.
local function list_of(w, bin, version, changed)
  local list, results = {}, {}
  local function call(verb, i, prev)
    return w:ok(verb, { type = plugins[i].type, bin = bin, prev = prev or false,
      conf = t.merge(plugins[i], { cniVersion = version, name = "nomad" }) })
  end
  function list.add(upto)
    for i = 1, upto or #plugins do
      results[i] = call("ADD", i, results[i - 1])
      if changed then changed(i, results[i]) end
    end
    return results
  end
  function list.check()
    for i = 1, #plugins do call("CHECK", i, results[#plugins]) end
  end
  function list.del()
    for i = #plugins, 1, -1 do call("DEL", i, results[#plugins] or results[#results]) end
  end
  return list
end

-- A host that an administrator lets nothing pass through. What the reference leaves for good (a bridge, its
-- chains) is there from the beginning.
local function new()
  t.needs("reference", "iptables", "nft-nat")
  local w = world.new({ type = "bridge", bridge = "nomad", name = "nomad", ipam = { type = "host-local",
    ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } }, { forwarding = true })
  -- Addresses that ripen would answer late, and make two pictures differ.
  local still = "for c in all default; do echo 0 >/proc/sys/net/ipv6/conf/$c/accept_dad; done"
  w:sh(still)
  w:in_pod(still)
  local list = list_of(w, "reference", "1.0.0")
  list.add()
  list.del()
  w:so_be_it()
  return w
end

-- Names and MACs are chosen anew each time; an empty dns, as the reference has it in 1.0.0, says nothing.
local function steady(result)
  if result.dns and not next(result.dns) then result.dns = nil end
  for _, interface in ipairs(result.interfaces or {}) do
    interface.name = interface.name:gsub("^veth%x+$", "veth*")
    if interface.name ~= "lo" then
      assert.truthy(interface.mac:find("^%x%x:%x%x:%x%x:%x%x:%x%x:%x%x$"), interface.mac)
      interface.mac = "*"
    end
  end
  return result
end

-- What the firewall lets pass, beside its administrator's chain.
local function opened(w)
  local rules = {}
  for _, program in ipairs { "iptables", "ip6tables" } do
    for line in w:sh(program .. " -S CNI-FORWARD"):gmatch("[^\n]+") do
      if line:find("^%-A") and not line:find("NOMAD-ADMIN", 1, true) then rules[line] = true end
    end
  end
  return rules
end

local function rules_of(...)
  local rules = {}
  for _, each in ipairs { ... } do
    rules[("-A CNI-FORWARD -d %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"):format(each)] = true
    rules[("-A CNI-FORWARD -s %s -j ACCEPT"):format(each)] = true
  end
  return rules
end

local function reaches_the_router(w)
  return { t.ping(w.pods[1], "198.51.100.1"), t.ping(w.pods[1], "2001:db8:5::1") }
end

describe("The list [loopback, bridge, firewall] with the reference's firewall", function()
  for _, version in ipairs { "0.4.0", "1.0.0" } do
    it("gives the results of the reference's list, element for element, in version " .. version, function()
      local w = new()
      local found = {}
      for i, bin in ipairs { "reference", mixed() } do
        local list = list_of(w, bin, version)
        found[i] = list.add()
        list.check()
        list.del()
      end
      -- (The reference's loopback names no family in 0.4.0.)
      for i = 2, #plugins do
        t.same(steady(found[1][i]), steady(found[2][i]), plugins[i].type)
      end
      assert.equal(address.v4 .. "/24", found[2][2].ips[1].address)
    end)
  end

  it("opens the bridge's addresses and no others, and DEL takes all of it back", function()
    local w = new()
    local before = w:picture()
    local list = list_of(w, mixed(), "1.0.0")
    list.add()
    t.same(rules_of(address.v4 .. "/32", address.v6 .. "/128"), opened(w))
    t.same({ true, true }, reaches_the_router(w))
    list.check()
    list.del()
    t.same({}, opened(w))
    t.same(before, w:picture())
    list.del()
    t.same(before, w:picture())
  end)

  it("lets nothing pass, and opens nothing, without the last plugin", function()
    local w = new()
    local before = w:picture()
    local list = list_of(w, mixed(), "1.0.0")
    list.add(2)
    t.same({}, opened(w))
    t.same({ false, false }, reaches_the_router(w))
    list.del()
    t.same(before, w:picture())
  end)

  -- The firewall opens whatever the result has: what loopback says must not be in it.
  it("would open 127.0.0.1 if bridge passed on what loopback said", function()
    local w = new()
    local list = list_of(w, mixed(), "1.0.0", function(i, result)
      if i == 2 then table.insert(result.ips, 1, { address = "127.0.0.1/8" }) end
    end)
    list.add()
    t.same(rules_of("127.0.0.1/32", address.v4 .. "/32", address.v6 .. "/128"), opened(w))
    list.del()
    t.same({}, opened(w))
  end)

  it("fails CHECK when a plugin's part is gone, whosever that is", function()
    local w = new()
    local list = list_of(w, mixed(), "1.0.0")
    list.add()
    list.check()
    w:sh(("iptables -D CNI-FORWARD -s %s/32 -j ACCEPT"):format(address.v4))
    assert.is_false((pcall(list.check)))
    w:sh(("iptables -A CNI-FORWARD -s %s/32 -j ACCEPT"):format(address.v4))
    list.check()
    w:in_pod("ip link set lo down")
    assert.is_false((pcall(list.check)))
    w:in_pod("ip link set lo up")
    w:in_pod(("ip addr del %s/24 dev eth0"):format(address.v4))
    assert.is_false((pcall(list.check)))
    list.del()
    t.same({}, opened(w))
  end)
end)
