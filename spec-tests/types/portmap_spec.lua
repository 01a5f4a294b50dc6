-- SPDX-License-Identifier: MIT
-- Published ports: who reaches them, from where, and who does not; what is in the kernel for them, and what is left.

local t = require "support"
local talk = require "talk"
local world = require "world"

local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local host4, host6, far4 = "192.0.2.1", "2001:db8::1", "192.0.2.2"

-- A world whose pods are plugged into a bridge, each with a result to publish ports by.
local function new(pods, opts)
  t.needs "nft-nat"
  opts = t.merge({ pods = pods or 1, far = true, forwarding = true, neighbours = { masked = false }, lived_in = false }, opts or {})
  local w = world.new({ type = "bridge", bridge = "br0", isDefaultGateway = true, hairpinMode = true, ipam = dual }, opts)
  w.plugged = {}
  w:sh("ip addr add 192.0.2.11/32 dev lo; ip -6 addr add 2001:db8::11/128 dev lo nodad; ip link set lo up")
  for n = 1, pods or 1 do w.plugged[n] = w:ok("ADD", { pod = n, id = "c" .. n }) end
  return w
end

local function call(n, mappings, more)
  return { type = "portmap", pod = n, id = "c" .. n, conf = t.merge({ type = "portmap", ipam = false, bridge = false,
    isDefaultGateway = false, hairpinMode = false, runtimeConfig = { portMappings = mappings } }, more or {}) }
end

local function with_prev(w, c)
  c.prev = w.plugged[c.pod]
  return c
end

local function publish(w, n, mappings, more) return w:ok("ADD", with_prev(w, call(n, mappings, more))) end
local function refused(w, n, mappings, more)
  local got = w:call("ADD", with_prev(w, call(n, mappings, more)))
  assert.not_equal(0, got.rc, "it is not refused")
  return got.json
end
local function unpublish(w, n, mappings, more) return w:ok("DEL", with_prev(w, call(n, mappings, more))) end

local function names(answers)
  local list = {}
  for i, answer in ipairs(answers) do list[i] = answer:match "^%S+" or "-" end
  return table.concat(list, " ")
end

local function servers(w, n, name)
  local list = {}
  for _, kind in ipairs { "TCP4", "TCP6", "UDP4", "UDP6" } do list[#list + 1] = { w.pods[n], kind, 80, name or "pod" .. n } end
  return list
end

local both = { { hostPort = 8080, containerPort = 80, protocol = "tcp" }, { hostPort = 8081, containerPort = 80, protocol = "udp" } }

-- Sends to a port of the host ten times a second, always from one port; at each line of input once more, and says at which
-- of the servers that one came in. By TCP a connection to another port stands all the time; `tcp` says whether a byte
-- comes through it.
local steady = [[
import ctypes, select, socket, sys
libc = ctypes.CDLL(None)
def at(path):
    with open(path) as f:
        assert libc.setns(f.fileno(), 0x40000000) == 0
far, to, port, tcp_at, tcp_port = sys.argv[1:6]
servers = {}
for word in sys.argv[6:]:
    name, path, number = word.split("=")
    at(path)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", int(number)))
    servers[s] = name
at(tcp_at)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 80))
listener.listen(1)
at(far)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("", 4321))
stands, accepted = None, None
number, asked = 0, None
def send():
    global number
    number += 1
    try: client.sendto(b"%d" % number, (to, int(port)))
    except OSError: pass
    return number
while True:
    ready = select.select([*servers, sys.stdin], [], [], 0.1)[0]
    if not ready: send()
    for s in ready:
        if s is not sys.stdin: s.recv(99)
        elif not (line := sys.stdin.readline().strip()): sys.exit(0)
        elif line == "tcp":
            if not stands:
                stands = socket.create_connection((to, int(tcp_port)), 3)
                accepted = listener.accept()[0]
                accepted.settimeout(2)
            stands.send(b"x")
            try: print(accepted.recv(9) == b"x", flush=True)
            except OSError: print(False, flush=True)
        else:
            wanted, found, rest = send(), "-", 10
            while found == "-" and rest:
                rest -= 1
                for at_one in select.select(list(servers), [], [], 0.1)[0]:
                    if int(at_one.recv(99)) == wanted: found = servers[at_one]
            print(found, flush=True)
]]

-- A client as above: a function that asks it a word, and one that ends it.
local function start_steady(w, words)
  t.write("/run/spec/steady.py", steady)
  t.sh(("rm -f /run/spec/to /run/spec/said; mkfifo /run/spec/to; exec 3<>/run/spec/to; " ..
    "python3 /run/spec/steady.py %s %s <&3 >/run/spec/said 2>&1 & sleep 0.3"):format(w.far.path, words))
  local count = 0
  local function ask(word)
    count = count + 1
    t.sh(("echo %s >/run/spec/to; for i in $(seq 100); do [ $(grep -c . /run/spec/said) -ge %d ] && break; sleep 0.05; done")
      :format(word, count))
    local lines = {}
    for line in t.read("/run/spec/said"):gmatch "[^\n]+" do lines[#lines + 1] = line end
    return lines[count]
  end
  return ask, function() t.sh("echo >/run/spec/to; for i in $(seq 40); do pgrep -f /run/spec/steady.p[y] >/dev/null || break; sleep 0.05; done") end
end

local function table_of(w) return t.sh("nft list table inet luacni", { host = w.host }) end

describe("portmap", function()
  for what, value in pairs { ["are shown to nf_tables"] = 1, ["nobody else sees"] = 0 } do
  it("leads from everywhere to the sandbox, both families, tcp and udp, where a bridge's frames " .. what, function()
    local w = new(2)
    -- A kernel without that setting shows none.
    w:sh(("cd /proc/sys/net/bridge 2>/dev/null || exit 0; echo %d >bridge-nf-call-iptables; echo %d >bridge-nf-call-ip6tables")
      :format(value, value))
    publish(w, 1, both)
    local from = {}
    for _, ns in ipairs { w.host, w.far, w.pods[2], w.pods[1] } do
      from[#from + 1] = { ns, "TCP4", host4, 8080 }
      from[#from + 1] = { ns, "TCP6", host6, 8080 }
      from[#from + 1] = { ns, "UDP4", host4, 8081 }
      from[#from + 1] = { ns, "UDP6", host6, 8081 }
    end
    from[#from + 1] = { w.host, "TCP4", "127.0.0.1", 8080 }
    from[#from + 1] = { w.host, "UDP4", "127.0.0.1", 8081 }
    from[#from + 1] = { w.pods[1], "TCP4", "10.1.0.1", 8080 }
    local answers = talk(servers(w, 1), from)
    assert.equal(("pod1 "):rep(#from):sub(1, -2), names(answers))
    assert.equal("pod1 " .. far4, answers[5]) -- who is elsewhere is not hidden
    w:ok("CHECK", with_prev(w, call(1, both)))
  end)
  end

  it("is for no other port, protocol, or address, and for nobody once it is taken back", function()
    local w = new(2)
    t.run("ip addr add 192.0.2.77/32 dev lo; ip -6 addr add 2001:db8:7::7/128 dev lo nodad; ip link set lo up",
      { host = w.far })
    w:sh("ip route add 192.0.2.77/32 via 192.0.2.2; ip route add 2001:db8:7::7/128 via 2001:db8::2")
    publish(w, 1, { both[1] })
    local clients = {
      { w.far, "TCP4", host4, 80 }, { w.far, "TCP4", host4, 8081 }, { w.far, "UDP4", host4, 8080 },
      { w.pods[2], "TCP4", "192.0.2.77", 8080 }, -- routed through
      { w.pods[1], "TCP4", "127.0.0.1", 8080 },
      { w.far, "TCP6", host6, 80 }, { w.far, "TCP6", host6, 8081 }, { w.far, "UDP6", host6, 8080 },
      { w.pods[2], "TCP6", "2001:db8:7::7", 8080 }, { w.pods[1], "TCP6", "::1", 8080 },
    }
    local servers_there = servers(w, 1)
    servers_there[5], servers_there[6] = { w.far, "TCP4", 8080, "far" }, { w.far, "TCP6", 8080, "far" }
    assert.equal("- - - far - - - - far -", names(talk(servers_there, clients)))
    unpublish(w, 1, { both[1] })
    assert.equal("- -", names(talk(servers(w, 1), { { w.far, "TCP4", host4, 8080 }, { w.host, "TCP4", "127.0.0.1", 8080 } })))
    assert.equal("", table_of(w))
    assert.equal("0", t.sysctl(w.host, "net/ipv4/conf/br0/route_localnet"))
  end)

  it("keeps neighbours off 127.0.0.0/8, which the host lets out by the bridge", function()
    local w = new(2)
    publish(w, 1, both)
    assert.equal("1", t.sysctl(w.host, "net/ipv4/conf/br0/route_localnet"))
    w:in_pod("ip route add 127.0.0.1/32 via 10.1.0.1 table 9; ip rule add to 127.0.0.1 lookup 9 pref 0; " ..
      "ip rule del pref 0 lookup local; ip rule add pref 5 lookup local; " ..
      "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet", 2)
    local from = { w.pods[2], "TCP4", "127.0.0.1", 9090 }
    assert.equal("-", names(talk({ { w.host, "TCP4", 9090, "host" } }, { from })))
    w:sh("nft flush chain inet luacni guard")
    assert.equal("host", names(talk({ { w.host, "TCP4", 9090, "host" } }, { from })))
  end)

  it("is for one address of the host where hostIP says so, and several containers share a port by it", function()
    local w = new(2)
    publish(w, 1, { { hostPort = 8080, containerPort = 80, protocol = "tcp", hostIP = "192.0.2.11" },
      { hostPort = 8080, containerPort = 80, protocol = "tcp", hostIP = "2001:db8::11" } })
    local clients = { { w.host, "TCP4", "192.0.2.11", 8080 }, { w.host, "TCP6", "2001:db8::11", 8080 },
      { w.host, "TCP4", host4, 8080 }, { w.host, "TCP6", host6, 8080 }, { w.host, "TCP4", "10.1.0.1", 8080 },
      { w.host, "TCP4", "127.0.0.1", 8080 } }
    local all = servers(w, 1)
    for _, l in ipairs(servers(w, 2)) do all[#all + 1] = l end
    assert.equal("pod1 pod1 - - - -", names(talk(all, clients)))
    assert.equal("0", t.sysctl(w.host, "net/ipv4/conf/br0/route_localnet"))
    publish(w, 2, { { hostPort = 8080, containerPort = 80, protocol = "tcp", hostIP = "0.0.0.0" } })
    assert.equal("pod1 pod1 pod2 - pod2 pod2", names(talk(all, clients)))
    unpublish(w, 1, {})
    assert.equal("pod2 - pod2 - pod2 pod2", names(talk(all, clients)))
  end)

  it("belongs to one container: the second is told who has it, and changes nothing", function()
    local w = new(2)
    publish(w, 1, { both[1], { hostPort = 5000, containerPort = 5000, protocol = "udp", range = 100 } })
    local before = t.nft(w.host)
    for _, mapping in ipairs { both[1], { hostPort = 5050, containerPort = 1, protocol = "udp" },
      { hostPort = 4950, containerPort = 4950, protocol = "udp", range = 60 },
      { hostPort = 4000, containerPort = 4000, protocol = "udp", range = 2000 },
      { hostPort = 8000, containerPort = 8000, protocol = "tcp", range = 100 } } do
      local err = refused(w, 2, { { hostPort = 9999, containerPort = 1, protocol = "tcp" }, mapping })
      assert.matches("net/c1/eth0 has it already", err.msg)
      t.same(before, t.nft(w.host))
    end
    publish(w, 2, { { hostPort = 5050, containerPort = 80, protocol = "tcp" } })
    publish(w, 1, { { hostPort = 8089, containerPort = 80, protocol = "tcp" } }, { name = "other" })
  end)

  it("of a container in two networks leads there by the first, and by the other when that has gone", function()
    local w = new(3)
    local before = t.nft(w.host)
    local mappings = { both[1], both[2], { hostPort = 60, containerPort = 60, protocol = "udp", range = 40 } }
    local first, third = call(1, mappings), call(3, mappings, { name = "third" })
    local second = call(2, mappings, { name = "a-network-whose-name-is-long-enough-for-comments-to-be-cut" })
    first.id = ("c"):rep(64)
    for _, c in ipairs { first, second, third } do
      c.id = first.id
      with_prev(w, c)
    end
    local all = {}
    for n = 1, 3 do for _, server in ipairs(servers(w, n)) do all[#all + 1] = server end end
    local function answers()
      return names(talk(all, { { w.far, "TCP4", host4, 8080 }, { w.far, "UDP4", host4, 80 }, { w.host, "TCP6", host6, 8080 },
        { w.far, "UDP6", host6, 8081 } }))
    end
    w:ok("ADD", first)
    w:ok("ADD", second)
    assert.equal("pod1 pod1 pod1 pod1", answers())
    -- Another container has neither.
    assert.matches("has it already", refused(w, 2, { both[1] }).msg)
    w:ok("ADD", third)
    for _, c in ipairs { first, second, third } do w:ok("CHECK", c) end

    w:ok("DEL", third)
    assert.equal("pod1 pod1 pod1 pod1", answers())
    w:ok("ADD", third)
    -- As after a kill: taken out, and not yet handed on.
    t.sh("nft delete element inet luacni any_ports4 '{ tcp . 8080 }'", { host = w.host })
    w:ok("DEL", first)
    local next_one = answers():match "%w+"
    assert.is_truthy(next_one == "pod2" or next_one == "pod3", next_one)
    assert.equal((next_one .. " "):rep(3) .. next_one, answers())
    for _, c in ipairs { second, third } do w:ok("CHECK", c) end
    w:ok("ADD", first)
    assert.equal((next_one .. " "):rep(3) .. next_one, answers())
    w:ok("DEL", second)
    w:ok("DEL", third)
    assert.equal("pod1 pod1 pod1 pod1", answers())
    w:ok("CHECK", first)
    w:ok("DEL", first)
    assert.equal("- - - -", answers())
    t.same(before, t.nft(w.host))
  end)

  it("has one element a family for a range", function()
    local w = new(1)
    publish(w, 1, { { hostPort = 5000, containerPort = 5000, protocol = "udp", range = 1000 } })
    local text = table_of(w)
    assert.equal(1, select(2, text:gsub("udp %. 5000%-5999 comment \"net/c1/eth0\" : 10%.1%.0%.2", "")))
    assert.equal(1, select(2, text:gsub("udp %. 5000%-5999 comment \"net/c1/eth0\" : fd01::2", "")))
    assert.equal("pod1 pod1 -", names(talk({ { w.pods[1], "UDP4", 5999, "pod1" }, { w.pods[1], "UDP4", 5000, "pod1" } },
      { { w.far, "UDP4", host4, 5999 }, { w.far, "UDP4", host4, 5000 }, { w.far, "UDP4", host4, 6000 } })))
  end)

  it("leads each port of a range to its own, one that another has is named, and that one's stays", function()
    local w = new(2)
    local range = { { hostPort = 5000, containerPort = 6000, protocol = "udp", range = 300, hostIP = host4 } }
    publish(w, 2, { { hostPort = 5299, containerPort = 80, protocol = "udp", hostIP = host4 } })
    local err = refused(w, 1, range)
    assert.matches("publish 192.0.2.1:5299/udp to 10.1.0.2:6299: net/c2/eth0 has it already", err.msg, 1, true)
    assert.is_nil(table_of(w):find("c1", 1, true))
    range[1].range = 299
    publish(w, 1, range)
    w:ok("CHECK", with_prev(w, call(1, range)))
    assert.equal("pod1 pod1 pod2", names(talk({ { w.pods[1], "UDP4", 6000, "pod1" }, { w.pods[1], "UDP4", 6298, "pod1" },
      { w.pods[2], "UDP4", 80, "pod2" } }, { { w.far, "UDP4", host4, 5000 }, { w.far, "UDP4", host4, 5298 },
      { w.far, "UDP4", host4, 5299 } })))
    w:sh "nft delete element inet luacni ports4 '{ 192.0.2.1 . udp . 5123 }'"
    local got = w:call("CHECK", with_prev(w, call(1, range)))
    assert.matches("publish 192.0.2.1:5123/udp to 10.1.0.2:6123: its element in set ports4 is missing", got.json.msg, 1, true)
    unpublish(w, 1, range)
    assert.is_nil(table_of(w):find("c1", 1, true))
    assert.matches("5299 comment \"net/c2/eth0\"", table_of(w), 1, true)
  end)

  it("is for those alone whom allow names", function()
    local w = new(2)
    publish(w, 1, { { hostPort = 8080, containerPort = 80, protocol = "tcp", allow = { "192.0.2.11/32", "10.1.0.0/24" } },
      { hostPort = 8081, containerPort = 80, protocol = "tcp", allow = { "2001:db8::2/128" } } })
    assert.equal("- pod1 pod1 - - pod1 -", names(talk(servers(w, 1), { { w.far, "TCP4", host4, 8080 },
      { w.host, "TCP4", "192.0.2.11", 8080 }, { w.pods[2], "TCP4", host4, 8080 },
      { w.far, "TCP6", host6, 8080 }, { w.far, "TCP4", host4, 8081 }, { w.far, "TCP6", host6, 8081 },
      { w.host, "TCP6", host6, 8081 } })))
  end)

  for _, words in ipairs { { "-d", "192.0.2.11" }, { "!", "-d", "192.0.2.0/29" }, { "ip", "daddr", "!=", "{ 192.0.2.1, 10.0.0.0/8 }" } } do
    it(("is for the packets that its own conditions name, and no other container's: %s"):format(table.concat(words, " ")), function()
      local w = new(2)
      publish(w, 1, { both[1] }, { conditionsV4 = words })
      publish(w, 2, { { hostPort = 8082, containerPort = 80, protocol = "tcp" } })
      local all = servers(w, 1)
      for _, l in ipairs(servers(w, 2)) do all[#all + 1] = l end
      assert.equal("pod1 - pod1 pod2", names(talk(all, { { w.host, "TCP4", "192.0.2.11", 8080 }, { w.host, "TCP4", host4, 8080 },
        { w.far, "TCP6", host6, 8080 }, { w.host, "TCP4", host4, 8082 } })))
    end)
  end

  it("hides all senders with masqAll, and none without snat", function()
    local w = new(1)
    publish(w, 1, both, { masqAll = true })
    local answer = talk(servers(w, 1), { { w.far, "TCP4", host4, 8080 } })[1]
    assert.equal("pod1 10.1.0.1", answer)
    unpublish(w, 1, both, { masqAll = true })
    w.conf.snat = false
    publish(w, 1, both)
    assert.equal("0", t.sysctl(w.host, "net/ipv4/conf/br0/route_localnet"))
    local answers = talk(servers(w, 1), { { w.far, "TCP4", host4, 8080 }, { w.pods[1], "TCP4", host4, 8080 } })
    assert.equal("pod1 " .. far4, answers[1])
    assert.equal("", answers[2])
  end)

  it("lets the next one have the flows of a port by UDP, and cuts no other's", function()
    local w = new(2)
    local neighbour = { hostPort = 8125, containerPort = 80, protocol = "udp", hostIP = "192.0.2.11" }
    local mapping = { hostPort = 8125, containerPort = 80, protocol = "udp" }
    local all = { { w.pods[1], "UDP4", 80, "pod1" }, { w.pods[2], "UDP4", 80, "pod2" }, { w.host, "UDP4", 8125, "host" } }
    local client = { { w.far, "UDP4", host4, 8125, 4321 } }
    w:sh("nft add table inet x; nft 'add chain inet x c { type filter hook prerouting priority 0; }'; nft add rule inet x c ct state new accept")
    t.run("ip route add 192.0.2.11/32 via " .. host4, { host = w.far })
    assert.equal("host", names(talk(all, client)))
    publish(w, 1, { mapping })
    assert.equal("pod1", names(talk(all, client)))
    unpublish(w, 1, { mapping })
    publish(w, 2, { neighbour, { hostPort = 8126, containerPort = 80, protocol = "udp" } })
    assert.equal("pod2 pod2", names(talk(all, { { w.far, "UDP4", "192.0.2.11", 8125, 4322 }, { w.far, "UDP4", host4, 8126, 4323 } })))
    local function kept()
      local text = t.sh("cat /proc/net/nf_conntrack", { host = w.host })
      return select(2, text:gsub("sport=4322 dport=8125 ", "")) + select(2, text:gsub("sport=4323 dport=8126 ", ""))
    end
    assert.equal(2, kept())
    publish(w, 1, { mapping })
    assert.equal(2, kept())
    assert.equal("pod1", names(talk(all, client)))
    unpublish(w, 1, { mapping })
    assert.equal(2, kept())
    assert.equal("host", names(talk(all, client)))
  end)

  it("has a client that never stops reach the next one with the first datagram after its ADD, and leaves TCP's as they are", function()
    local w = new(3)
    local udp, tcp = { hostPort = 8125, containerPort = 80, protocol = "udp" }, { hostPort = 8125, containerPort = 80, protocol = "tcp" }
    publish(w, 3, { tcp })
    publish(w, 1, { udp })
    local ask, stop = start_steady(w, ("%s 8125 %s 8125 pod1=%s=80 pod2=%s=80 host=%s=8125"):format(host4, w.pods[3].path,
      w.pods[1].path, w.pods[2].path, w.host.path))
    t.same({ "pod1", "True" }, { ask "udp", ask "tcp" })
    unpublish(w, 1, { udp })
    t.sh "sleep 0.3"
    assert.equal("host", ask "udp")
    publish(w, 2, { udp })
    assert.equal("pod2", ask "udp")
    -- The end of its own mapping cuts no connection that stands, while anything is translated here.
    unpublish(w, 3, { tcp })
    assert.equal("True", ask "tcp")
    publish(w, 3, { tcp })
    unpublish(w, 2, { udp })
    t.same({ "host", "True" }, { ask "udp", ask "tcp" })
    stop()
  end)

  it("takes no address, 0.0.0.0 and :: for all of the host's, of both families or of that one", function()
    local w = new(1)
    local all = { { w.far, "TCP4", host4, 8080 }, { w.host, "TCP4", "192.0.2.11", 8080 }, { w.host, "TCP4", "127.0.0.1", 8080 },
      { w.far, "TCP6", host6, 8080 }, { w.host, "TCP6", "2001:db8::11", 8080 } }
    for _, case in ipairs { { "", "pod1 pod1 pod1 pod1 pod1" }, { "0.0.0.0", "pod1 pod1 pod1 - -" }, { "::", "- - - pod1 pod1" } } do
      local mapping = t.merge(both[1], { hostIP = case[1] })
      publish(w, 1, { mapping })
      assert.equal(case[2], names(talk(servers(w, 1), all)))
      unpublish(w, 1, { mapping })
    end
    assert.equal("- - - - -", names(talk(servers(w, 1), all)))
    assert.equal("", table_of(w))
  end)

  it("leaves a table of another's alone, whatever is in it and whatever it is called", function()
    local w = new(1)
    w:sh [[nft -f - <<'X'
      table ip nat {
        set theirs { type ipv4_addr . inet_service; flags interval; elements = { 203.0.113.0/24 . 80-90 }; }
        map to { type inet_service : ipv4_addr . inet_service; elements = { 7000 : 203.0.113.7 . 70 }; }
        chain pre { type nat hook prerouting priority -100; ip daddr . tcp dport @theirs return; dnat ip to tcp dport map @to; }
      }
      table ip6 nat { set theirs { type ipv6_addr; elements = { 2001:db8:9::1 }; }
        chain pre { type nat hook prerouting priority -100; ip6 daddr @theirs return; }
      }
X]]
    local function theirs() return t.run("nft list table ip nat; nft list table ip6 nat", { host = w.host }) end
    local before = theirs()
    publish(w, 1, both)
    assert.equal("pod1 pod1", names(talk(servers(w, 1), { { w.far, "TCP4", host4, 8080 }, { w.far, "TCP6", host6, 8080 } })))
    w:ok("CHECK", with_prev(w, call(1, both)))
    assert.equal(before, theirs())
    unpublish(w, 1, both)
    assert.equal(before, theirs())
    assert.equal("", table_of(w))
    w:sh "nft delete table ip nat; nft delete table ip6 nat"
  end)

  it("looks for flows of ports alone that datagrams were sent to, and of all while that is not known", function()
    local w = new(2)
    local mapping = { hostPort = 8125, containerPort = 80, protocol = "udp" }
    local all = { { w.pods[1], "UDP4", 80, "pod1" }, { w.host, "UDP4", 8125, "host" }, { w.host, "UDP4", 8127, "host" } }
    local client = { { w.far, "UDP4", host4, 8125, 4321 } }
    local function asked(text) return table_of(w):match("set asked_udp %b{}"):find("%f[%w]" .. text .. "%f[%W]") ~= nil end
    local function flush(more)
      w:sh("nft flush set inet luacni asked_udp; " .. (more or ""))
      assert.is_false(asked("8125"))
    end
    w:sh("nft add table inet x; nft 'add chain inet x c { type filter hook prerouting priority 0; }'; nft add rule inet x c ct state new accept")
    assert.equal("host", names(talk(all, { { w.far, "UDP4", host4, 8127, 4321 } })))
    publish(w, 2, { { hostPort = 8126, containerPort = 80, protocol = "udp" } })
    assert.is_true(asked("8127"))
    assert.is_false(asked("8125") or asked("0"))
    assert.equal("host", names(talk(all, client)))
    assert.is_true(asked("8125"))
    publish(w, 1, { mapping })
    assert.equal("pod1", names(talk(all, client)))
    unpublish(w, 1, { mapping })
    assert.equal("host", names(talk(all, client)))
    flush("nft add element inet luacni asked_udp '{ 0 }'")
    publish(w, 1, { mapping })
    assert.equal("pod1", names(talk(all, client)))
    unpublish(w, 1, { mapping })
    assert.equal("host", names(talk(all, client)))
    flush()
    publish(w, 1, { mapping })
    assert.equal("host", names(talk(all, client)))
  end)

  it("goes after others that translate the same, and leaves the administrator's chain as it is", function()
    local w = new(2)
    publish(w, 1, { both[1] })
    w:sh("nft add table ip kube; nft 'add chain ip kube services { type nat hook prerouting priority -100; }'; " ..
      "nft add rule ip kube services ip daddr 192.0.2.1 tcp dport 8080 dnat to 10.1.0.3:80")
    local all = servers(w, 1)
    for _, l in ipairs(servers(w, 2)) do all[#all + 1] = l end
    local client = { { w.far, "TCP4", host4, 8080 } }
    assert.equal("pod2", names(talk(all, client)))
    w:sh("nft delete table ip kube; nft add rule inet luacni admin ip saddr 192.0.2.2 tcp dport 8080 drop")
    assert.equal("-", names(talk(all, client)))
    publish(w, 2, { { hostPort = 8088, containerPort = 80, protocol = "tcp" } })
    unpublish(w, 1, {})
    unpublish(w, 2, {})
    local text = table_of(w)
    assert.matches("tcp dport 8080 drop", text)
    assert.not_matches("chain guard", text)
  end)

  it("is made anew where another version's chains are, and what is published stays", function()
    local w = new(2)
    publish(w, 1, { both[1] })
    w:sh("nft flush chain inet luacni published_in; nft delete chain inet luacni published_in")
    local client = { { w.far, "TCP4", host4, 8080 } }
    assert.equal("-", names(talk(servers(w, 1), client)))
    local got = w:call("CHECK", with_prev(w, call(1, { both[1] })))
    assert.matches("chain published_in is missing", got.json.msg)
    publish(w, 2, { { hostPort = 8088, containerPort = 80, protocol = "tcp" } })
    assert.equal("pod1", names(talk(servers(w, 1), client)))
  end)

  describe("refuses", function()
    local w
    local function says(pattern, mappings, more)
      w = w or new(1)
      local before = t.nft(w.host)
      local err = refused(w, 1, mappings, more)
      assert.equal(7, err.code)
      assert.matches(pattern, err.msg)
      t.same(before, t.nft(w.host))
    end
    local function one(more) return { t.merge(both[1], more) } end

    it("what is no port, protocol or address", function()
      w = nil
      says("hostPort", one { hostPort = 0 })
      says("hostPort", one { hostPort = 65536 })
      says("containerPort", one { containerPort = 0 })
      says("protocol: \"icmp\" is none of", one { protocol = "icmp" })
      says("hostIP: \"here\" is no address", one { hostIP = "here" })
      says("range", one { range = 60000 })
      says("allow", one { allow = { "all" } })
      says("is mapped twice", { both[1], { hostPort = 8080, containerPort = 81, protocol = "tcp" } })
    end)

    it("conditions that are not understood, and keys that exclude each other", function()
      w = nil
      says("conditionsV4: \"%-m\" is not served", both, { conditionsV4 = { "-m", "mark", "--mark", "1" } })
      says("conditionsV6: .* is not of this family", both, { conditionsV6 = { "-d", "10.0.0.0/8" } })
      says("markMasqBit", both, { markMasqBit = 32 })
      says("externalSetMarkChain", both, { markMasqBit = 3, externalSetMarkChain = "KUBE-MARK-MASQ" })
      says("backend", both, { backend = "pf" })
    end)

    it("a call outside of a chain", function()
      w = new(1)
      local c = call(1, both)
      c.prev = false
      local got = w:call("ADD", c)
      assert.equal(7, got.json.code)
      assert.matches("prevResult", got.json.msg)
    end)
  end)
end)
