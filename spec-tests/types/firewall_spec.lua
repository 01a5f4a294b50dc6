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
  t.needs("nft-nat")
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
local function tables(w) return t.run("nft list tables | sort", { host = w.host }) end
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

  it("lets pass what comes after: iptables' FORWARD that drops, of Docker or ufw, which nobody had made yet", function()
    local w = new(2, { lived_in = false })
    plug(w, 1)
    plug(w, 2)
    firewall(w, 1)
    w:sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP; iptables-nft -A FORWARD -i docker0 -j ACCEPT")
    connect(out(out({}, w, 1, true), w, 2, false))
    check(w, 1)
    firewall(w, 2)
    undo(w, 1)
    connect(out(out({}, w, 1, false), w, 2, true))
    undo(w, 2)
    assert.equal("-P FORWARD DROP\n-A FORWARD -i docker0 -j ACCEPT\n", saved(w))
    assert.truthy(t.run("nft list table ip6 filter", { host = w.host }):find("policy drop", 1, true))
  end)

  for what, left in pairs { ["true"] = "", ["iptables-nft -A FORWARD -i docker0 -j ACCEPT"] = "table ip filter\n",
    ["iptables-nft -N OTHER"] = "table ip filter\n", ["nft flush ruleset"] = "" } do
  it("takes the chain that it has made for that back, unless somebody has something in its table, after " .. what, function()
    local w = new(2, { lived_in = false })
    plug(w, 1)
    plug(w, 2)
    firewall(w, 1)
    assert.equal("table inet luacni\ntable ip filter\ntable ip6 filter\n", tables(w))
    w:sh(what)
    firewall(w, 2)
    undo(w, 1)
    connect(out({}, w, 2, true))
    undo(w, 2)
    assert.equal(left, tables(w))
  end)
  end

  it("makes nothing where somebody else has a chain of that name", function()
    local w = new(1, { lived_in = false })
    plug(w, 1)
    w:sh("nft 'table ip filter { chain FORWARD { counter; }; }'")
    local before = t.run("nft list table ip filter", { host = w.host })
    firewall(w, 1)
    assert.equal(before, t.run("nft list table ip filter", { host = w.host }))
    connect(out({}, w, 1, true))
    check(w, 1)
    undo(w, 1)
    assert.equal(before, t.run("nft list ruleset", { host = w.host }))
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

describe("firewall on a node with iptables' older tables", function()
  it("lets pass in them too, and takes that back", function()
    t.needs("nft-nat", "iptables-legacy")
    local w = new(2, { lived_in = false })
    w:sh("iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP")
    plug(w, 1)
    plug(w, 2)
    connect(out({}, w, 1, false))
    firewall(w, 1)
    firewall(w, 2)
    connect(both(out({}, w, 1, true), w.outside, w, 1, false))
    local function listed() return t.run("iptables-legacy -S FORWARD; ip6tables-legacy -S FORWARD", { host = w.host }) end
    local rules_of_one = "-P FORWARD DROP\n-A FORWARD -j CNI-ADMIN\n-A FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT\n"
    assert.equal(rules_of_one:rep(2), listed())
    check(w, 1)
    w:sh("iptables-legacy -F FORWARD")
    local e = w:fails("CHECK", call(w, 1))
    assert.truthy(e.text:find("older filter table of ip does not accept", 1, true), e.text)
    undo(w, 1)
    firewall(w, 1)
    assert.equal(rules_of_one:rep(2), listed())
    undo(w, 1)
    undo(w, 2)
    assert.equal(("-P FORWARD DROP\n"):rep(2), listed())
    connect(out({}, w, 1, false))
  end)
end)

-- A bus, and on it somebody who answers as firewalld does: zones `trusted` and `public`, sources of them in a file.
local bus = [[
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow user="*"/><allow send_destination="*"/><allow eavesdrop="true"/></policy>
</busconfig>]]
local firewalld = [==[
import os, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/run/dbus/system_bus_socket")
s.send(b"\0AUTH EXTERNAL " + b"0".hex().encode() + b"\r\n")
s.recv(100)
s.send(b"BEGIN\r\n")
serial, sources = 0, {"trusted": set(), "public": set()}
def text(v): return struct.pack("<I", len(v)) + v.encode() + b"\0"
def pad(b, n): return b + b"\0" * (-len(b) % n)
def send(kind, fields, sig=None, body=b""):
    global serial
    serial += 1
    out = b""
    if sig: fields = fields + [(8, "g", sig)]
    for code, t, v in fields:
        out = pad(out, 8) + bytes([code, 1]) + t.encode() + b"\0"
        if t == "u": out = pad(out, 4) + struct.pack("<I", v)
        elif t == "g": out += bytes([len(v)]) + v.encode() + b"\0"
        else: out = pad(out, 4) + text(v)
    head = b"l" + bytes([kind, 0, 1]) + struct.pack("<III", len(body), serial, len(out)) + out
    s.sendall(pad(head, 8) + body)
def exactly(n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more: sys.exit(0)
        data += more
    return data
def receive():
    head = exactly(16)
    length, number, fields = struct.unpack("<III", head[4:16])
    raw = exactly(fields + (-fields % 8))
    body, found, at = exactly(length), {}, 0
    while at < fields:
        at += -at % 8
        code, kind = raw[at], chr(raw[at + 2])
        at += 4
        if kind == "g":
            found[code] = raw[at + 1:at + 1 + raw[at]].decode()
            at += raw[at] + 2
        elif kind == "u":
            found[code] = struct.unpack_from("<I", raw, at)[0]
            at += 4
        else:
            n = struct.unpack_from("<I", raw, at)[0]
            found[code] = raw[at + 4:at + 4 + n].decode()
            at += 5 + n
    return head[1], number, found, body
def bus(member, sig=None, body=b""):
    send(1, [(1, "o", "/org/freedesktop/DBus"), (2, "s", "org.freedesktop.DBus"), (3, "s", member),
        (6, "s", "org.freedesktop.DBus")], sig, body)
bus("Hello")
bus("RequestName", "su", pad(text("org.fedoraproject.FirewallD1"), 4) + struct.pack("<I", 0))
while True:
    kind, number, fields, body = receive()
    if kind != 1: continue
    to = [(5, "u", number), (6, "s", fields[7])]
    member, args, at = fields[3], [], 0
    while fields.get(8) == "ss" and at < len(body):
        at += -at % 4
        n = struct.unpack_from("<I", body, at)[0]
        args.append(body[at + 4:at + 4 + n].decode())
        at += 5 + n
    def fail(words): send(3, to + [(4, "s", "org.fedoraproject.FirewallD1.Exception")], "s", text(words))
    if fields.get(2) != "org.fedoraproject.FirewallD1.zone": fail("no such interface")
    elif args[0] not in sources: fail("INVALID_ZONE: " + args[0])
    else:
        zone, source = sources[args[0]], args[1]
        if member == "querySource": send(2, to, "b", struct.pack("<I", source in zone))
        elif member == "addSource" and source in zone: fail("ZONE_ALREADY_SET: '%s' already bound" % source)
        elif member == "removeSource" and source not in zone: fail("UNKNOWN_SOURCE: " + source)
        else:
            (zone.add if member == "addSource" else zone.discard)(source)
            send(2, to, "s", text(args[0]))
    with open("/run/spec/zones.new", "w") as f:
        for name in sorted(sources): f.write(name + ": " + " ".join(sorted(sources[name])) + "\n")
    os.rename("/run/spec/zones.new", "/run/spec/zones")
]==]

describe("firewall with firewalld", function()
  local function start()
    t.write("/run/spec/bus.conf", bus)
    t.write("/run/spec/firewalld.py", firewalld)
    t.write("/run/spec/zones", "public: \ntrusted: \n")
    t.run([[mkdir -p /run/dbus
      dbus-daemon --config-file=/run/spec/bus.conf --nofork --nopidfile >/run/spec/bus.log 2>&1 & echo $! >/run/spec/bus.pid
      for i in $(seq 100); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.02; done
      python3 /run/spec/firewalld.py >/run/spec/firewalld.log 2>&1 & echo $! >/run/firewalld.pid
      for i in $(seq 100); do busctl --system list 2>/dev/null | grep -q FirewallD1 && break; sleep 0.05; done]])
  end
  local function stop(pid) t.sh(("kill $(cat %s); rm -f %s"):format(pid, pid)) end
  local function zones() return t.read("/run/spec/zones") end
  after_each(function()
    t.sh("for p in /run/firewalld.pid /run/spec/bus.pid; do [ ! -f $p ] || kill $(cat $p); rm -f $p; done; rm -rf /run/dbus")
  end)

  it("makes addresses sources of a zone, chosen or found, and takes them away", function()
    t.needs("nft-nat")
    start()
    local w = new(2)
    plug(w, 1)
    plug(w, 2)
    local both_of = { w.ips[1][1] .. "/32", w.ips[1][2] .. "/128" }
    firewall(w, 1)
    assert.equal("public: \ntrusted: " .. table.concat(both_of, " ") .. "\n", zones())
    check(w, 1)
    connect(out({}, w, 1, true))
    firewall(w, 2, { backend = "firewalld", firewalldZone = "public" })
    assert.equal(("public: %s/32 %s/128\ntrusted: %s\n"):format(w.ips[2][1], w.ips[2][2], table.concat(both_of, " ")),
      zones())
    undo(w, 1)
    t.run(("busctl --system call org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 " ..
      "org.fedoraproject.FirewallD1.zone removeSource ss public %s/32"):format(w.ips[2][1]))
    assert.truthy(w:fails("CHECK", call(w, 2, { backend = "firewalld", firewalldZone = "public" })).text
      :find(w.ips[2][1] .. " is not a source of zone public", 1, true))
    undo(w, 2, { backend = "firewalld", firewalldZone = "public" })
    undo(w, 2, { backend = "firewalld", firewalldZone = "public" })
    assert.equal("public: \ntrusted: \n", zones())
  end)

  it("asks nothing of it for another backend; one that has gone keeps no DEL from its end", function()
    t.needs("nft-nat")
    start()
    local w = new(1)
    plug(w, 1)
    firewall(w, 1, { backend = "nftables" })
    assert.equal("public: \ntrusted: \n", zones())
    undo(w, 1, { backend = "nftables" })
    firewall(w, 1)
    stop("/run/firewalld.pid")
    undo(w, 1)
    firewall(w, 1)
    check(w, 1)
    undo(w, 1)
    assert.falsy(rules(w):find("luacni", 1, true))
  end)

  it("says which zone it does not know, and when it does not run, and changes nothing", function()
    t.needs("nft-nat")
    local w = new(1)
    plug(w, 1)
    local before = w:picture()
    assert.truthy(w:fails("ADD", call(w, 1, { backend = "firewalld" })).text:find("firewalld does not run", 1, true))
    t.same(before, w:picture())
    start()
    local e = w:fails("ADD", call(w, 1, { firewalldZone = "dmz" }), 7)
    assert.truthy(e.text:find("firewalld knows no zone dmz", 1, true), e.text)
    t.same(before, w:picture())
    stop("/run/firewalld.pid")
    assert.truthy(w:fails("ADD", call(w, 1, { backend = "firewalld" })).text:find("firewalld does not run", 1, true))
    t.same(before, w:picture())
  end)
end)

describe("A node that changes over with firewall", function()
  local path = { PATH = "/run/spec/nft-programs:/usr/sbin:/usr/bin:/sbin:/bin" }

  local function changing(pods)
    t.needs("reference", "iptables", "nft-nat")
    t.run("mkdir -p /run/spec/nft-programs; for p in iptables ip6tables; do " ..
      "ln -sf /usr/sbin/$p-nft /run/spec/nft-programs/$p; done")
    local w = new(pods or 2, { lived_in = false })
    w:sh("iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP")
    for n = 1, pods or 2 do plug(w, n, { cniVersion = "1.0.0" }) end
    function w.by(set, verb, n)
      local c = call(w, n, { cniVersion = "1.0.0" })
      c.bin, c.env = set, path
      return w:ok(verb, c)
    end
    -- The reference's chains stay for good.
    w.by("reference", "ADD", 1)
    w.by("reference", "DEL", 1)
    return w
  end

  it("has the reference's rules of an attachment taken back by our DEL, after our CHECK was content, and no others",
    function()
      local w = changing()
      w.by("reference", "ADD", 1)
      w.by("reference", "ADD", 2)
      w.by("ours", "CHECK", 1)
      w.by("ours", "DEL", 1)
      connect(out(out({}, w, 1, false), w, 2, true))
      w.by("ours", "CHECK", 2)
      w:sh("iptables-nft -D CNI-FORWARD -s " .. w.ips[2][1] .. " -j ACCEPT; iptables-nft -F CNI-FORWARD")
      local c = call(w, 2, { cniVersion = "1.0.0" })
      assert.truthy(w:fails("CHECK", c).text:find("FORWARD", 1, true))
    end)

  it("has what we made taken back by our GC and DEL, whatever the reference's DEL did, and leaves its chains", function()
    local w = changing()
    local before = rules(w):gsub("packets %d+ bytes %d+", "")
    w.by("ours", "ADD", 1)
    w.by("reference", "ADD", 2)
    connect(out(out({}, w, 1, true), w, 2, true))
    w.by("reference", "DEL", 1)
    w.by("reference", "DEL", 2)
    connect(out({}, w, 2, false))
    w.by("ours", "DEL", 1)
    assert.equal(before, (rules(w):gsub("packets %d+ bytes %d+", "")))
  end)
end)

describe("firewall on a kernel without nf_tables", function()
  it("is refused, and leaves nothing; its DEL is fine", function()
    if t.has("nft-nat") then return end
    local w = world.new({ type = "firewall" }, { lived_in = false, neighbours = false })
    local prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = w.pods[1].path } },
      ips = { { address = "10.1.0.2/24", interface = 0 } } }
    local before = w:picture()
    local e = w:fails("ADD", { prev = prev })
    assert.truthy(e.text:find("this kernel has no nf_tables", 1, true), e.text)
    t.same(before, w:picture())
    w:del { prev = prev }
    t.same(before, w:picture())
  end)
end)

describe("firewall", function()
  it("executes no other program", function()
    t.needs("strace")
    local w = new(1)
    plug(w, 1)
    for _, verb in ipairs { "ADD", "CHECK", "DEL", "DEL" } do
      local c = call(w, 1, { ingressPolicy = "isolated" })
      c.under = "strace -f -qq -o /run/spec/trace -e trace=execve"
      w:ok(verb, c)
      -- nsenter, env -i, and the plugin.
      local _, count = t.read("/run/spec/trace"):gsub("execve%([^\n]*= 0\n", "")
      assert.equal(3, count, t.read("/run/spec/trace"))
    end
  end)
end)

describe("A chain of loopback, bridge and firewall", function()
  it("works from its first plugin to its last, and back", function()
    t.needs("nft-nat")
    local w = new(1)
    local list = { { type = "loopback", bridge = false, isDefaultGateway = false, hairpinMode = false, ipam = false },
      { type = "bridge", bridge = "nomad", isGateway = true, ipMasq = true, forceAddress = true,
        isDefaultGateway = false, hairpinMode = false, ipam = { type = "host-local",
          ranges = { { { subnet = "172.26.64.0/20" } } }, routes = { { dst = "0.0.0.0/0" } } } },
      { type = "firewall", backend = "iptables", iptablesAdminChainName = "NOMAD-ADMIN", bridge = false,
        isDefaultGateway = false, hairpinMode = false, ipam = false } }
    local prev
    local function verb(name, n)
      return w:ok(name, { type = list[n].type, id = "task", prev = prev, conf = t.merge(list[n],
        { cniVersion = "1.0.0" }) })
    end
    for n = 1, 3 do prev = verb("ADD", n) end
    connect { { w.pods[1], w.outside, far4, true } }
    for n = 1, 3 do verb("CHECK", n) end
    assert.truthy(saved(w):find("-A FORWARD -j NOMAD-ADMIN\n-A FORWARD -m mark", 1, true))
    for n = 3, 1, -1 do verb("DEL", n) end
    assert.falsy(rules(w):find("luacni", 1, true), rules(w))
    assert.falsy(rules(w):find("NOMAD", 1, true), rules(w))
  end)
end)
