-- SPDX-License-Identifier: MIT
-- firewall: what passes on a host whose FORWARD drops, and what does not; who reaches which sandbox; what is in
-- the kernel for it, and what is left.

local t = require "support"
local world = require "world"

local function dual(n)
  return { type = "host-local",
    ranges = { { { subnet = ("10.%d.0.0/24"):format(n) } }, { { subnet = ("fd0%d::/64"):format(n) } } } }
end

-- The network of a pod's bridge.
local function bridge(n) return { bridge = "br" .. n, name = "net" .. n, ipam = dual(n) } end

-- A world with a host outside, whose way to the pods leads through FORWARD, which drops.
local function new(pods, opts)
  local w = world.new({ type = "bridge", bridge = "br1", isDefaultGateway = true, hairpinMode = true, ipam = dual(1) },
    t.merge({ pods = pods or 1, forwarding = true, neighbours = false }, opts or {}))
  w.outside = t.netns("outside", { lo = "up" })
  w:sh [[
    ip link add out0 type veth peer name in0 netns outside
    ip addr add 192.0.2.1/24 dev out0; ip -6 addr add 2001:db8::1/64 dev out0 nodad; ip link set out0 up]]
  t.run([[
    ip addr add 192.0.2.2/24 dev in0; ip -6 addr add 2001:db8::2/64 dev in0 nodad; ip link set in0 up
    ip route add default via 192.0.2.1; ip -6 route add default via 2001:db8::1]], { host = w.outside })
  w.plugged, w.ips = {}, {}
  return w
end

local function plug(w, n, more)
  w.plugged[n] = w:ok("ADD", { pod = n, id = "c" .. n, conf = more })
  w.ips[n] = {}
  for i, ip in ipairs(w.plugged[n].ips) do w.ips[n][i] = ip.address:match "^[^/]+" end
end

local function call(w, n, more)
  return { type = "firewall", pod = n, id = "c" .. n, prev = w.plugged[n], conf = t.merge({ type = "firewall",
    ipam = false, bridge = false, isDefaultGateway = false, hairpinMode = false }, more or {}) }
end

local function firewall(w, n, more) return w:ok("ADD", call(w, n, more)) end
local function undo(w, n, more) return w:ok("DEL", call(w, n, more)) end
local function check(w, n, more) return w:ok("CHECK", call(w, n, more)) end

local function rules(w) return t.sh("nft list ruleset", { host = w.host }) end
local function saved(w) return t.run("iptables-nft -S FORWARD", { host = w.host }) end

-- Listens in one namespace after the other, connects, says for each whether the connection came about.
local program = [[
import ctypes, socket, sys, time
libc = ctypes.CDLL(None)
def at(path):
    with open(path) as f:
        assert libc.setns(f.fileno(), 0x40000000) == 0
def kind(address): return socket.AF_INET6 if ":" in address else socket.AF_INET
servers, clients = {}, []
for line in sys.stdin:
    client, server, listens, address, port = line.split()
    key = (server, listens, kind(address))
    if key not in servers:
        at(server)
        s = socket.socket(kind(address), socket.SOCK_STREAM)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind(address) == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind(("", int(listens)))
        s.listen(64)
        servers[key] = s
    at(client)
    s = socket.socket(kind(address), socket.SOCK_STREAM)
    s.setblocking(False)
    s.connect_ex((address, int(port)))
    clients.append(s)
end, got = time.time() + 2.5, [0] * len(clients)
while time.time() < end and not all(got):
    for i, s in enumerate(clients):
        try:
            s.getpeername()
            got[i] = 1
        except OSError: pass
    time.sleep(0.01)
print(*got)
]]

-- Whether connections come about: a list of { from, to, address, port that is connected to (80), expected }.
-- `to` listens at port 80.
local function connect(list)
  t.write("/run/spec/connect.py", program)
  local lines = {}
  for i, c in ipairs(list) do
    lines[i] = ("%s %s 80 %s %d"):format(c[1].path, c[2].path, c[3], c.port or 80)
  end
  local got, wrong, i = t.run({ "python3", "/run/spec/connect.py" }, { stdin = table.concat(lines, "\n") .. "\n" }), {}, 0
  for flag in got:gmatch "%d" do
    i = i + 1
    if (flag == "1") ~= list[i][4] then
      wrong[#wrong + 1] = ("%s to %s port %d: %s"):format(list[i][1].path, list[i][3], list[i].port or 80,
        flag == "1" and "passes" or "does not pass")
    end
  end
  assert.equal(#list, i)
  t.same({}, wrong)
end

-- From a namespace to a pod, by both families.
local function both(list, from, w, n, expected, port)
  for _, ip in ipairs(w.ips[n]) do list[#list + 1] = { from, w.pods[n], ip, expected, port = port } end
  return list
end

local far4, far6 = "192.0.2.2", "2001:db8::2"

local function out(list, w, n, expected)
  list[#list + 1] = { w.pods[n], w.outside, far4, expected }
  list[#list + 1] = { w.pods[n], w.outside, far6, expected }
  return list
end

describe("firewall", function()
  before_each(function() t.needs("nft-nat") end)

  it("lets pass what a sandbox sends, and what answers it, and nothing that begins outside", function()
    local w = new(3)
    for n = 1, 3 do plug(w, n, n == 3 and bridge(2) or nil) end
    connect(both(out({}, w, 1, false), w.pods[1], w, 3, false))
    firewall(w, 1)
    local list = both(out(out({}, w, 1, true), w, 2, false), w.pods[1], w, 3, true)
    both(both(list, w.outside, w, 1, false), w.pods[3], w, 1, false)
    connect(list)
    check(w, 1)
    firewall(w, 2)
    undo(w, 1)
    connect(out(out({}, w, 1, false), w, 2, true))
    check(w, 2)
    undo(w, 2)
    undo(w, 2)
    connect(out({}, w, 2, false))
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
    assert.falsy(rules(w):find("CNI-ADMIN", 1, true), rules(w))
  end)

  it("has one rule a family in FORWARD, whatever there is, which iptables lists and saves as it is", function()
    local w = new(2)
    plug(w, 1)
    plug(w, 2)
    firewall(w, 1)
    firewall(w, 2)
    local function ours()
      for _, family in ipairs { "ip", "ip6" } do
        local text = t.run(("nft list chain %s filter FORWARD"):format(family), { host = w.host })
        assert.equal(1, select(2, text:gsub("meta mark & 0x00001000 == 0x00001000 counter [^\n]* accept", "")), text)
        assert.falsy(text:find("@", 1, true), text)
        assert.truthy(text:find("^[^{]*{[^{]*{%s*type[^\n]*\n%s*counter[^\n]*jump CNI%-ADMIN%s*meta mark"), text)
      end
      assert.truthy(saved(w):find("-A FORWARD -j CNI-ADMIN\n-A FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT\n", 1, true),
        saved(w))
    end
    ours()
    w:sh("iptables-nft-save -t filter >/run/spec/saved; iptables-nft-restore </run/spec/saved; rm /run/spec/saved")
    w:so_be_it()
    ours()
    check(w, 1)
    connect(out({}, w, 1, true))
    firewall(w, 1)
    ours()
    undo(w, 1)
    ours()
    undo(w, 2)
    assert.falsy(saved(w):find("0x1000", 1, true), saved(w))
  end)

  it("is missed by CHECK when somebody flushes FORWARD, and is made anew by the next ADD", function()
    local w = new(2, { lived_in = false })
    w:sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP")
    plug(w, 1)
    plug(w, 2)
    firewall(w, 1)
    connect(out({}, w, 1, true))
    w:sh("iptables-nft -F; ip6tables-nft -F")
    connect(out({}, w, 1, false))
    local e = w:fails("CHECK", call(w, 1))
    assert.truthy(e.text:find("0x1000 is missing from FORWARD of table ip filter", 1, true), e.text)
    firewall(w, 2)
    check(w, 1)
    connect(out(out({}, w, 1, true), w, 2, true))
    undo(w, 1)
    undo(w, 2)
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
  end)

  it("makes nothing in iptables' tables where there are none; CHECK misses the rule when they come", function()
    local w = new(1, { lived_in = false })
    plug(w, 1)
    firewall(w, 1)
    assert.equal("table inet luacni\n", t.run("nft list tables", { host = w.host }))
    connect(out({}, w, 1, true))
    check(w, 1)
    w:sh("iptables-nft -P FORWARD DROP")
    assert.truthy(w:fails("CHECK", call(w, 1)).text:find("FORWARD of table ip filter", 1, true))
    undo(w, 1)
    assert.equal("-P FORWARD DROP\n", saved(w))
  end)

  it("leaves others' tables as they are, a flush of those has no effect on it", function()
    local w = new(1, { lived_in = false })
    local theirs = "table inet firewalld {\n chain filter_FORWARD { type filter hook forward priority 10; policy accept; "
      .. "ct state established,related accept; }\n}\n"
    t.run({ "nft", "-f", "-" }, { host = w.host, stdin = theirs })
    plug(w, 1)
    local before = t.run("nft list table inet firewalld", { host = w.host })
    firewall(w, 1)
    assert.equal(before, t.run("nft list table inet firewalld", { host = w.host }))
    t.run({ "nft", "-f", "-" }, { host = w.host, stdin = "delete table inet firewalld\n" .. theirs })
    check(w, 1)
    undo(w, 1)
    assert.equal(before, t.run("nft list ruleset", { host = w.host }))
  end)

  it("has the mark on its packets within the hook forward alone, by the bit that is chosen", function()
    local w = new(1)
    plug(w, 1)
    w:sh([[nft -f - <<'X'
      table inet watch {
        chain before { type filter hook prerouting priority 400; tcp dport 80 meta mark != 0 counter; }
        chain within { type filter hook forward priority 100; meta mark 0x80000 counter; }
        chain later { type filter hook postrouting priority -400; tcp dport 80 meta mark != 0 counter; }
      }
X]])
    firewall(w, 1, { markBit = 19 })
    connect(out({}, w, 1, true))
    local text = t.run("nft list table inet watch", { host = w.host })
    local before, within, later = text:match("packets (%d+).*packets (%d+).*packets (%d+)")
    t.same({ "0", true, "0" }, { before, tonumber(within) > 0, later })
    assert.truthy(saved(w):find("--mark 0x80000/0x80000", 1, true))
    assert.falsy(saved(w):find("0x1000/", 1, true))
    undo(w, 1, { markBit = 19 })
    w:sh("nft delete table inet watch")
    assert.falsy(rules(w):find("luacni", 1, true))
  end)

  it("takes an address over from an attachment whose DEL comes late", function()
    local w = new(2)
    plug(w, 1)
    firewall(w, 1)
    w.plugged[2] = w.plugged[1]
    firewall(w, 2)
    undo(w, 1)
    connect(out({}, w, 1, true))
    check(w, 2)
    undo(w, 2)
    connect(out({}, w, 1, false))
  end)
end)

describe("The administrator's chain of firewall", function()
  before_each(function() t.needs("nft-nat") end)

  it("is seen first, never flushed, and stays with the rules that are in it", function()
    local w = new(2)
    plug(w, 1)
    plug(w, 2)
    firewall(w, 1, { iptablesAdminChainName = "MINE" })
    assert.truthy(saved(w):find("^%-P FORWARD DROP\n%-A FORWARD %-j MINE\n"), saved(w))
    w:sh("iptables-nft -A MINE -d 192.0.2.2 -j DROP")
    connect { { w.pods[1], w.outside, far4, false }, { w.pods[1], w.outside, far6, true } }
    firewall(w, 2, { iptablesAdminChainName = "OTHER" })
    assert.truthy(saved(w):find("DROP\n-A FORWARD -j OTHER\n-A FORWARD -j MINE\n-A FORWARD -m mark", 1, true), saved(w))
    w:sh("iptables-nft -D FORWARD 3")
    w:so_be_it()
    w:fails("CHECK", call(w, 2, { iptablesAdminChainName = "OTHER" }))
    firewall(w, 2, { iptablesAdminChainName = "OTHER" })
    local _, lines = saved(w):gsub("\n", "")
    assert.truthy(saved(w):find("-j MINE\n-A FORWARD -m mark", 1, true) or saved(w):find("-j OTHER\n-A FORWARD -m mark", 1, true), saved(w))
    undo(w, 1, { iptablesAdminChainName = "MINE" })
    undo(w, 2, { iptablesAdminChainName = "OTHER" })
    assert.equal("-N MINE\n-A MINE -d 192.0.2.2/32 -j DROP\n", t.run("iptables-nft -S MINE", { host = w.host }))
    assert.falsy(rules(w):find("OTHER", 1, true))
    assert.equal(lines - 2, select(2, saved(w):gsub("\n", "")))
    w:sh("iptables-nft -D FORWARD -j MINE; iptables-nft -F MINE; iptables-nft -X MINE")
    w:so_be_it()
  end)

  it("that was there before is there afterwards", function()
    local w = new(1)
    plug(w, 1)
    w:sh("iptables-nft -N CNI-ADMIN")
    firewall(w, 1)
    undo(w, 1)
    assert.equal("-N CNI-ADMIN\n", t.run("iptables-nft -S CNI-ADMIN", { host = w.host }))
    assert.falsy(saved(w):find("CNI", 1, true))
    w:sh("iptables-nft -X CNI-ADMIN")
    w:so_be_it()
  end)

  it("in our own table is the same", function()
    local w = new(1)
    plug(w, 1)
    firewall(w, 1)
    w:sh("nft add rule inet luacni admin_forward ip daddr 192.0.2.2 drop")
    connect { { w.pods[1], w.outside, far4, false }, { w.pods[1], w.outside, far6, true } }
    undo(w, 1)
    assert.truthy(rules(w):find("chain admin_forward {[^}]*192%.0%.2%.2 drop"), rules(w))
    assert.falsy(rules(w):find("chain forwarded", 1, true))
    firewall(w, 1)
    connect { { w.pods[1], w.outside, far4, false }, { w.pods[1], w.outside, far6, true } }
    undo(w, 1)
    w:sh("nft flush chain inet luacni admin_forward")
    firewall(w, 1)
    undo(w, 1)
    assert.falsy(rules(w):find("luacni", 1, true))
  end)
end)

-- What portmap would make: a port of the host leads to a pod.
local function publish(w, n)
  w:sh(([[nft -f - <<'X'
    table inet ports {
      chain pre { type nat hook prerouting priority -100;
        ip daddr 192.0.2.1 tcp dport 8080 dnat ip to %s:80; ip6 daddr 2001:db8::1 tcp dport 8080 dnat ip6 to [%s]:80; }
      chain post { type nat hook postrouting priority 100;
        ct status dnat ip saddr 10.1.0.0/24 masquerade; ct status dnat ip6 saddr fd01::/64 masquerade; }
    }
X]]):format(w.ips[n][1], w.ips[n][2]))
end

local function published(list, from, w, n, expected)
  list[#list + 1] = { from, w.pods[n], "192.0.2.1", expected, port = 8080 }
  list[#list + 1] = { from, w.pods[n], "2001:db8::1", expected, port = 8080 }
  return list
end

describe("ingressPolicy", function()
  before_each(function() t.needs("nft-nat") end)

  -- Pods 1 and 2 on one bridge, 3 on another, on a host whose FORWARD lets all pass.
  local function open_host(conf1, conf3)
    local w = new(3, { lived_in = false })
    plug(w, 1)
    plug(w, 2)
    plug(w, 3, bridge(2))
    publish(w, 1)
    local all = both(both(both({}, w.pods[2], w, 1, true), w.pods[3], w, 1, true), w.outside, w, 1, true)
    connect(published(published(all, w.pods[3], w, 1, true), w.pods[2], w, 1, true))
    if conf1 then firewall(w, 1, conf1) end
    if conf3 then firewall(w, 3, conf3) end
    return w
  end

  it("open lets all bridges in", function()
    local w = open_host({ ingressPolicy = "open" }, {})
    connect(both(both(both({}, w.pods[2], w, 1, true), w.pods[3], w, 1, true), w.pods[1], w, 3, true))
  end)

  it("same-bridge lets the own bridge in, the outside, answers and published ports, and no other bridge", function()
    for _, other in ipairs { false, { ingressPolicy = "same-bridge" }, {} } do
      local w = open_host({ ingressPolicy = "same-bridge" }, other or nil)
      local list = both(both(both({}, w.pods[2], w, 1, true), w.pods[3], w, 1, false), w.outside, w, 1, true)
      -- The other one's own policy, if it has one, keeps this one off.
      both(list, w.pods[1], w, 3, not (other and other.ingressPolicy))
      published(list, w.pods[3], w, 1, true)
      published(list, w.outside, w, 1, true)
      connect(list)
      check(w, 1, { ingressPolicy = "same-bridge" })
      undo(w, 1, { ingressPolicy = "same-bridge" })
      if other then undo(w, 3, other) end
      connect(both({}, w.pods[3], w, 1, true))
      assert.falsy(rules(w):find("luacni", 1, true), rules(w))
      t.cleanup()
    end
  end)

  it("isolated keeps neighbours off, too, but for published ports", function()
    t.needs("nft-bridge")
    local w = open_host({ ingressPolicy = "isolated" }, {})
    local list = both(both(both({}, w.pods[2], w, 1, false), w.pods[3], w, 1, false), w.outside, w, 1, true)
    published(published(list, w.pods[2], w, 1, true), w.pods[3], w, 1, true)
    both(both(list, w.pods[1], w, 2, false), w.pods[1], w, 3, true)
    connect(list)
    check(w, 1, { ingressPolicy = "isolated" })
    undo(w, 1, { ingressPolicy = "isolated" })
    undo(w, 3)
    connect(both(both({}, w.pods[2], w, 1, true), w.pods[3], w, 1, true))
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
  end)

  it("is for connections that are there already, too", function()
    local w = new(3, { lived_in = false })
    plug(w, 1)
    plug(w, 2)
    plug(w, 3, bridge(2))
    local function flows(policy, n)
      t.write("/run/spec/flow.py", [[
import ctypes, socket, subprocess, sys
libc = ctypes.CDLL(None)
def at(path):
    with open(path) as f:
        assert libc.setns(f.fileno(), 0x40000000) == 0
pairs = []
for address in sys.argv[3:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    at(sys.argv[2])
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", 90)); s.listen(1)
    at(sys.argv[1])
    c = socket.create_connection((address, 90), 3)
    a, _ = s.accept()
    a.settimeout(1)
    pairs.append((c, a))
def passes():
    out = []
    for c, a in pairs:
        c.send(b"x")
        try: out.append(a.recv(9) != b"")
        except socket.timeout: out.append(False)
    return out
print(passes(), flush=True)
sys.stdin.readline()
print(passes(), flush=True)
]])
      t.sh(("rm -f /run/spec/f /run/spec/said; mkfifo /run/spec/f; exec 3<>/run/spec/f; " ..
        "python3 /run/spec/flow.py %s %s %s %s <&3 >/run/spec/said 2>&1 & sleep 0.1"):format(w.pods[n].path,
        w.pods[1].path, w.ips[1][1], w.ips[1][2]))
      t.sh "for i in $(seq 100); do grep -q '\\]' /run/spec/said && break; sleep 0.05; done"
      firewall(w, 1, { ingressPolicy = policy })
      t.sh "echo >/run/spec/f; for i in $(seq 100); do [ $(grep -c . /run/spec/said) = 2 ] && break; sleep 0.05; done"
      return t.read "/run/spec/said"
    end
    local said = flows("same-bridge", 3)
    assert.truthy(said:find("%[True, True%].*%[False, False%]"), said)
    undo(w, 1, { ingressPolicy = "same-bridge" })
    said = flows("same-bridge", 2)
    assert.truthy(said:find("%[True, True%].*%[True, True%]"), said)
    undo(w, 1, { ingressPolicy = "same-bridge" })
  end)

  it("needs a link of the host", function()
    local w = new(1)
    plug(w, 1)
    local prev = t.merge(w.plugged[1], { interfaces = { w.plugged[1].interfaces[3] } })
    for _, ip in ipairs(prev.ips) do ip.interface = 0 end
    local c = call(w, 1, { ingressPolicy = "same-bridge" })
    c.prev = prev
    assert.truthy(w:fails("ADD", c, 7).text:find("names no link of the host", 1, true))
    assert.falsy(rules(w):find("luacni", 1, true))
  end)
end)

describe("unpublished", function()
  it("drop lets in from elsewhere what comes by a published port alone", function()
    t.needs("nft-nat")
    local w = new(3, { lived_in = false })
    plug(w, 1)
    plug(w, 2)
    plug(w, 3, bridge(2))
    publish(w, 1)
    firewall(w, 1, { unpublished = "drop" })
    local list = both(both(both({}, w.pods[2], w, 1, true), w.pods[3], w, 1, false), w.outside, w, 1, false)
    published(published(published(list, w.pods[2], w, 1, true), w.pods[3], w, 1, true), w.outside, w, 1, true)
    connect(out(list, w, 1, true))
    check(w, 1, { unpublished = "drop" })
    undo(w, 1, { unpublished = "drop" })
    connect(both({}, w.outside, w, 1, true))
  end)
end)

describe("A published port of a sandbox with firewall", function()
  it("is reached from outside though FORWARD drops", function()
    t.needs("nft-nat")
    local w = new(1)
    plug(w, 1)
    publish(w, 1)
    connect(published({}, w.outside, w, 1, false))
    firewall(w, 1)
    connect(both(published({}, w.outside, w, 1, true), w.outside, w, 1, false))
    undo(w, 1)
  end)
end)

describe("firewall, given what it cannot take,", function()
  it("says what and where, and changes nothing", function()
    local w = new(1)
    plug(w, 1)
    local before = w:picture()
    local function refuses(more, says)
      local e = w:fails("ADD", call(w, 1, more), 7)
      assert.truthy(e.text:find(says, 1, true), e.text)
    end
    refuses({ backend = "ipfw" }, "backend")
    refuses({ ingressPolicy = "closed" }, "ingressPolicy")
    refuses({ markBit = 32 }, "markBit")
    refuses({ unpublished = "maybe" }, "unpublished")
    refuses({ iptablesAdminChainName = "has space" }, "iptablesAdminChainName")
    refuses({ iptablesAdminChainName = "FORWARD" }, "iptablesAdminChainName")
    refuses({ iptablesAdminChainName = ("x"):rep(29) }, "iptablesAdminChainName")
    local c = call(w, 1)
    c.prev = nil
    assert.truthy(w:fails("ADD", c, 7).text:find("prevResult", 1, true))
    t.same(before, w:picture())
  end)
end)
