-- SPDX-License-Identifier: MIT
-- One table for all attachments, whose packets pass whatever others do to rules of their own: a flush of iptables'
-- tables, a reload of firewalld, another network, another luacni, and the table that an older luacni has left.

local t = require "support"
local talk = require "talk"
local world = require "world"

local host4, host6 = "192.0.2.1", "2001:db8::1"
local none = { ipam = false, bridge = false, isGateway = false, isDefaultGateway = false, ipMasq = false, hairpinMode = false }

-- The network of a pod's bridge, its list, and how its pod is called.
local function bridge(n)
  return { name = "net" .. n, bridge = "br" .. n, isDefaultGateway = true, ipMasq = true, hairpinMode = true,
    ipam = { type = "host-local", ranges = { { { subnet = ("10.%d.0.0/24"):format(n) } },
      { { subnet = ("fd0%d::/64"):format(n) } } } } }
end

local function list(n)
  return { { type = "bridge", conf = bridge(n) },
    { type = "portmap", conf = t.merge(none, { type = "portmap", name = "net" .. n, runtimeConfig = { portMappings = {
      { hostPort = 8887 + n, containerPort = 80, protocol = "tcp" } } } }) },
    { type = "firewall", conf = t.merge(none, { type = "firewall", name = "net" .. n }) } }
end

local function new(pods)
  t.needs "nft-nat"
  -- What is in iptables' tables is the spec's own.
  local w = world.new({ type = "bridge" }, { pods = pods or 1, far = true, forwarding = true, neighbours = false,
    lived_in = false })
  w:sh("ip addr add 192.0.2.3/24 dev up0")
  w.prev = {}
  return w
end

-- A verb with each plugin of a pod's list. change: of a call, by its type
local function run(w, verb, n, change)
  local plugins = list(n)
  for i = 1, #plugins do
    local plugin = plugins[verb == "DEL" and #plugins + 1 - i or i]
    local call = t.merge({ type = plugin.type, pod = n, id = "c" .. n, prev = w.prev[n] }, change and change(plugin) or {})
    call.conf = t.merge(plugin.conf, call.conf or {})
    local got = w:ok(verb, call)
    if verb == "ADD" then w.prev[n] = got end
  end
end

local function fails(w, n, which)
  local plugin = list(n)[which]
  return w:fails("CHECK", { type = plugin.type, pod = n, id = "c" .. n, prev = w.prev[n], conf = plugin.conf }).text
end

local function rules(w) return t.sh("nft list ruleset", { host = w.host }) end
local function ours(w) return t.sh("nft list table inet luacni", { host = w.host }) end

local function names(answers)
  local words = {}
  for i, answer in ipairs(answers) do words[i] = answer:match "^%S+" or "-" end
  return table.concat(words, " ")
end

-- The port of a pod from elsewhere, from the host and from all pods `but` one, both families; and whom a server elsewhere sees when
-- the pod asks it: the host, and not the pod.
local function pass(w, n, but)
  local listeners, clients, expected = { { w.far, "TCP4", 90, "far" }, { w.far, "TCP6", 90, "far" } }, {}, {}
  for _, kind in ipairs { "TCP4", "TCP6" } do
    listeners[#listeners + 1] = { w.pods[n], kind, 80, "pod" .. n }
    local from = { w.far, w.host }
    for _, pod in ipairs(w.pods) do
      if pod ~= but then from[#from + 1] = pod end
    end
    for _, ns in ipairs(from) do
      clients[#clients + 1] = { ns, kind, kind == "TCP4" and host4 or host6, 8887 + n }
      expected[#expected + 1] = "pod" .. n
    end
  end
  clients[#clients + 1] = { w.pods[n], "TCP4", "192.0.2.2", 90 }
  clients[#clients + 1] = { w.pods[n], "TCP6", "2001:db8::2", 90 }
  local answers = talk(listeners, clients)
  local seen = table.concat(table.move(answers, #answers - 1, #answers, 1, {}), " ")
  assert.equal("far " .. host4 .. " far 2001:0db8:0000:0000:0000:0000:0000:0001", seen)
  assert.equal(table.concat(expected, " ") .. " far far", names(answers))
end

local function ended(w, n)
  assert.equal("- -", names(talk({ { w.pods[n], "TCP4", 80, "pod" }, { w.pods[n], "TCP6", 80, "pod" } },
    { { w.far, "TCP4", host4, 8887 + n }, { w.host, "TCP6", host6, 8887 + n } })))
end

local flush_all = "for p in iptables-nft ip6tables-nft; do for t in filter nat mangle raw; do $p -t $t -F; done; done"

describe("What passes by our table", function()
  it("passes after iptables -F of every table, in both families", function()
    local w = new()
    w:sh("for p in iptables-nft ip6tables-nft; do for t in filter nat mangle raw; do $p -t $t -N X; done; " ..
      "$p -A FORWARD -j X; $p -t nat -A POSTROUTING -j X; done")
    run(w, "ADD", 1)
    local before = ours(w)
    pass(w, 1)
    w:sh(flush_all)
    pass(w, 1)
    assert.equal(before, ours(w))
    -- The one rule in iptables' own chain went, and CHECK says so; the next ADD brings it back.
    assert.truthy(fails(w, 1, 3):find("is missing from FORWARD", 1, true))
    w:sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP")
    assert.equal("-", names(talk({ { w.pods[1], "TCP4", 80, "pod1" } }, { { w.far, "TCP4", host4, 8888 } })))
    run(w, "DEL", 1)
    run(w, "ADD", 1)
    pass(w, 1)
    run(w, "DEL", 1)
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
  end)

  it("passes after firewalld has made all of its rules anew, those in iptables' tables too", function()
    local w = new()
    local theirs = [[table inet firewalld {
      chain nat_PREROUTING { type nat hook prerouting priority -90; policy accept; ip daddr 203.0.113.7 dnat ip to 203.0.113.8; }
      chain nat_POSTROUTING { type nat hook postrouting priority 110; policy accept; ip saddr 203.0.113.7 masquerade; }
      chain filter_PREROUTING { type filter hook prerouting priority 10; policy accept; ct state invalid drop; }
      chain filter_FORWARD { type filter hook forward priority 10; policy accept;
        ct state established,related accept; ct status dnat accept; ip saddr 10.0.0.0/8 accept; ip6 saddr fd00::/8 accept;
        ip daddr 203.0.113.0/24 reject with icmpx admin-prohibited; }
    }]]
    local function reload(first)
      t.run({ "nft", "-f", "-" }, { host = w.host, stdin = (first and "" or "delete table inet firewalld\n") .. theirs })
    end
    reload(true)
    run(w, "ADD", 1)
    local before = ours(w)
    pass(w, 1)
    reload()
    w:sh(flush_all)
    pass(w, 1)
    assert.equal(before, ours(w))
    run(w, "DEL", 1)
    ended(w, 1)
    assert.truthy(rules(w):find("table inet firewalld", 1, true))
    assert.falsy(rules(w):find("luacni", 1, true))
  end)

  it("is of two networks; the end of one of them, without its ports being told, is none of the other", function()
    local w = new(2)
    run(w, "ADD", 1)
    run(w, "ADD", 2)
    assert.equal(1, select(2, rules(w):gsub("table inet luacni {", "")))
    pass(w, 1)
    pass(w, 2)
    run(w, "DEL", 1, function() return { conf = { runtimeConfig = { portMappings = t.list() } } } end)
    ended(w, 1)
    pass(w, 2, w.pods[1])
    run(w, "CHECK", 2)
    assert.falsy(ours(w):find("10.1.0.", 1, true), ours(w))
    run(w, "DEL", 2)
    ended(w, 2)
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
  end)

  -- Such as two container engines, each in a mount namespace of its own.
  it("is of two luacni that do not know of each other: the last attachment of one is not that of the other", function()
    local w = new(2)
    local elsewhere = "mkdir -p /run/spec/elsewhere; mount --bind /run/spec/elsewhere /run/luacni"
    local function in_other() return { under = "unshare -m sh -c '" .. elsewhere .. "; exec \"$@\"' sh" } end
    t.run "mkdir -p /run/luacni"
    run(w, "ADD", 1)
    run(w, "ADD", 2, in_other)
    pass(w, 1)
    pass(w, 2)
    run(w, "DEL", 1)
    ended(w, 1)
    pass(w, 2, w.pods[1])
    run(w, "CHECK", 2, in_other)
    run(w, "DEL", 2, in_other)
    ended(w, 2)
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
  end)

  it("passes by the table that an older luacni has left, and by the chains that ours makes of it", function()
    local w = new(2)
    run(w, "ADD", 1)
    -- Another version's: its chains have other comments, one has a rule less, one is no more, one set is not there yet.
    local old = ours(w):gsub("(%[%l+) %d+%]\"", "%1 0]\""):gsub("\t\tct status dnat meta nfproto ipv6[^\n]*masquerade\n", "", 1)
      :gsub("\tset masquerade_all6 {.-\n\t}\n", "", 1):gsub("[^\n]*@masquerade_all6[^\n]*\n", "")
      :gsub("\n}\n$", "\n\tchain of_old {\n\t\ttype filter hook forward priority 5; policy accept;\n\t}\n}\n")
    t.run({ "nft", "-f", "-" }, { host = w.host, stdin = "delete table inet luacni\n" .. old })
    assert.truthy(ours(w):find(" 0]", 1, true))
    assert.truthy(fails(w, 1, 2):find("as this version makes it", 1, true))
    assert.equal("pod1 pod1", names(talk({ { w.pods[1], "TCP4", 80, "pod1" }, { w.pods[1], "TCP6", 80, "pod1" } },
      { { w.far, "TCP4", host4, 8888 }, { w.far, "TCP6", host6, 8888 } })))
    run(w, "ADD", 2)
    -- The administrator's own are never touched.
    assert.falsy(ours(w):gsub("never changed %[%l+ 0%]", ""):find(" 0]", 1, true), ours(w))
    pass(w, 1)
    pass(w, 2)
    run(w, "CHECK", 2)
    run(w, "DEL", 2)
    pass(w, 1, w.pods[2])
    run(w, "DEL", 1)
    ended(w, 1)
    -- What we do not know is left, and it alone.
    assert.truthy(ours(w):find("^table inet luacni {[^{]*chain of_old {[^}]*}%s*}%s*$"), ours(w))
  end)
end)
