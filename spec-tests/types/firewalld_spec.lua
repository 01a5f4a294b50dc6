-- SPDX-License-Identifier: MIT
-- firewall and portmap beside firewalld itself, which runs in the host's namespace with a bus of its own: what passes
-- and what does not, before and after firewalld has made its rules anew.

local t = require "support"
local talk = require "talk"
local world = require "world"

local host4, far4, far6 = "192.0.2.1", "192.0.2.2", "2001:db8::2"
local none = { ipam = false, bridge = false, isDefaultGateway = false, hairpinMode = false, ipMasq = false }
local bus = [[
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow user="*"/><allow send_destination="*"/><allow eavesdrop="true"/></policy>
</busconfig>]]

local running

local function stop()
  if running then t.sh("for p in /run/firewalld.pid /run/spec/bus.pid; do kill $(cat $p); done; " ..
    "for i in $(seq 100); do busctl --system list >/dev/null 2>&1 || break; sleep 0.05; done") end
  running = nil
  t.sh "rm -rf /run/dbus /run/firewalld* /etc/firewalld/*"
end

local function ask(method, ...)
  return (t.run { "busctl", "--system", "call", "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1", method, ... })
end
local function is_source(zone, address)
  return ask("org.fedoraproject.FirewallD1.zone", "querySource", "ss", zone, address):find("true", 1, true) ~= nil
end
local function reload() ask("org.fedoraproject.FirewallD1", "reload") end

-- A host with an uplink, where firewalld runs, and plugged-in pods. settings: lines of its configuration
local function new(pods, settings)
  t.needs("nft-nat", "firewalld")
  local w = world.new({ type = "bridge", bridge = "br0", isDefaultGateway = true, hairpinMode = true, ipam = { type = "host-local",
    ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } },
    { pods = pods, far = true, forwarding = true, neighbours = false, lived_in = false })
  t.write("/run/spec/bus.conf", bus)
  t.run "mkdir -p /run/dbus; cp -r build/unpacked/firewalld/etc/firewalld/. /etc/firewalld"
  if settings then t.run("echo " .. settings .. " >>/etc/firewalld/firewalld.conf") end
  running = true
  w:sh [[dbus-daemon --config-file=/run/spec/bus.conf --nofork --nopidfile >/run/spec/bus.log 2>&1 & echo $! >/run/spec/bus.pid
    for i in $(seq 100); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.05; done
    u=$PWD/build/unpacked
    PYTHONPATH=$u/python3-firewall/usr/lib/python3/dist-packages:$u/python3-nftables/usr/lib/python3/dist-packages \
      PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 $u/firewalld/usr/sbin/firewalld --nofork --nopid \
      --default-config=$u/firewalld/usr/lib/firewalld --log-file=/run/spec/firewalld >/run/spec/firewalld.log 2>&1 &
    echo $! >/run/firewalld.pid
    for i in $(seq 200); do busctl --system list 2>/dev/null | grep -q FirewallD1 && nft list table inet firewalld >/dev/null 2>&1 &&
      busctl --system call org.fedoraproject.FirewallD1 /org/fedoraproject/FirewallD1 org.fedoraproject.FirewallD1 getDefaultZone \
      >/dev/null 2>&1 && exit; sleep 0.1; done; cat /run/spec/firewalld.log; exit 1]]
  w.plugged = {}
  for n = 1, pods do w.plugged[n] = w:ok("ADD", { pod = n, id = "c" .. n }) end
  return w
end

local function call(w, type, n, more)
  return { type = type, pod = n, id = "c" .. n, prev = w.plugged[n], conf = t.merge(none, t.merge({ type = type }, more or {})) }
end

local function names(answers)
  local list = {}
  for i, answer in ipairs(answers) do list[i] = answer:match "^%S+" or "-" end
  return table.concat(list, " ")
end

-- Whether a pod reaches who is elsewhere, by each family; and they the pod.
local function passes(w, n)
  local own4, own6 = w.plugged[n].ips[1].address:match "^[^/]+", w.plugged[n].ips[2].address:match "^[^/]+"
  return names(talk({ { w.far, "TCP4", 90, "far" }, { w.far, "TCP6", 90, "far" }, { w.pods[n], "TCP4", 80, "pod" },
    { w.pods[n], "TCP6", 80, "pod" } }, { { w.pods[n], "TCP4", far4, 90 }, { w.pods[n], "TCP6", far6, 90 },
    { w.far, "TCP4", own4, 80 }, { w.far, "TCP6", own6, 80 } }))
end

describe("Beside firewalld", function()
  after_each(stop)

  it("firewall makes a sandbox's addresses sources of a zone, and what it sends passes; DEL takes them out", function()
    local w = new(2)
    assert.equal("- - - -", passes(w, 1))
    w:ok("ADD", call(w, "firewall", 1))
    assert.is_true(is_source("trusted", "10.1.0.2/32") and is_source("trusted", "fd01::2/128"))
    assert.equal("far far - -", passes(w, 1))
    assert.equal("- - - -", passes(w, 2))
    w:ok("CHECK", call(w, "firewall", 1))
    w:ok("ADD", call(w, "firewall", 2, { backend = "firewalld", firewalldZone = "internal" }))
    assert.is_true(is_source("internal", "10.1.0.3/32"))
    w:ok("DEL", call(w, "firewall", 1))
    w:ok("DEL", call(w, "firewall", 1))
    assert.is_false(is_source("trusted", "10.1.0.2/32") or is_source("trusted", "fd01::2/128"))
    assert.is_true(is_source("internal", "10.1.0.3/32"))
    assert.equal("- - - -", passes(w, 1))
    w:ok("DEL", call(w, "firewall", 2, { backend = "firewalld", firewalldZone = "internal" }))
    assert.is_false(is_source("internal", "10.1.0.3/32"))
  end)

  it("firewall says which zone is not known, and changes nothing", function()
    local w = new(1)
    local before = w:picture()
    local e = w:fails("ADD", call(w, "firewall", 1, { firewalldZone = "nowhere" }), 7)
    assert.is_truthy(e.text:find("firewalld knows no zone nowhere", 1, true), e.text)
    t.same(before, w:picture())
  end)

  it("firewall executes the one program that asks firewalld, and no other", function()
    t.needs("strace", "calls")
    local w = new(1)
    for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
      local c = call(w, "firewall", 1)
      c.under = "strace -f -qq -o /run/spec/trace -e signal=none -e trace=execve,execveat "
      w:ok(verb, c)
      local programs, seen = {}, false
      for name in t.read("/run/spec/trace"):gmatch 'execve%("[^"]*/([^"/]+)"[^\n]*= 0\n' do
        if seen then programs[#programs + 1] = name end
        seen = seen or name == "firewall"
      end
      assert.is_true(#programs > 0)
      for _, name in ipairs(programs) do assert.equal("busctl", name) end
    end
  end)

  it("a reload leaves our table, and takes the sources: CHECK says so, and the next ADD brings them back", function()
    local w = new(2)
    w:ok("ADD", call(w, "firewall", 1))
    local before = t.run("nft list table inet luacni", { host = w.host })
    reload()
    assert.equal(before, t.run("nft list table inet luacni", { host = w.host }))
    assert.is_truthy(w:fails("CHECK", call(w, "firewall", 1)).text:find("10.1.0.2 is not a source of zone trusted", 1, true))
    assert.equal("- - - -", passes(w, 1))
    w:ok("DEL", call(w, "firewall", 1))
    w:ok("ADD", call(w, "firewall", 1))
    w:ok("CHECK", call(w, "firewall", 1))
    assert.equal("far far - -", passes(w, 1))
    w:ok("DEL", call(w, "firewall", 1))
    assert.is_false(is_source("trusted", "10.1.0.2/32"))
  end)

  it("a published port is reached from elsewhere, after a reload too", function()
    local w = new(1)
    local ports = { runtimeConfig = { portMappings = { { hostPort = 8080, containerPort = 80, protocol = "tcp" } } } }
    local function reached()
      return names(talk({ { w.pods[1], "TCP4", 80, "pod" } }, { { w.far, "TCP4", host4, 8080 }, { w.host, "TCP4", host4, 8080 } }))
    end
    assert.equal("- -", reached())
    w:ok("ADD", call(w, "portmap", 1, ports))
    assert.equal("pod pod", reached())
    reload()
    assert.equal("pod pod", reached())
    w:ok("CHECK", call(w, "portmap", 1, ports))
    w:ok("DEL", call(w, "portmap", 1, ports))
    assert.equal("- -", reached())
  end)

  it("portmap says what to do where StrictForwardPorts is on, and changes nothing; without ports it has no say", function()
    local w = new(1, "StrictForwardPorts=yes")
    local ports = { runtimeConfig = { portMappings = { { hostPort = 8080, containerPort = 80, protocol = "tcp" } } } }
    local before = w:picture()
    local e = w:fails("ADD", call(w, "portmap", 1, ports))
    assert.is_truthy(e.msg:find("StrictForwardPorts is on", 1, true), e.text)
    assert.is_truthy(e.text:find("--add-forward-port=port=8080:proto=tcp:toport=80:toaddr=10.1.0.2", 1, true), e.text)
    t.same(before, w:picture())
    w:ok("ADD", call(w, "portmap", 1))
    w:ok("DEL", call(w, "portmap", 1))
    t.run "sed -i s/StrictForwardPorts=yes/StrictForwardPorts=no/ /etc/firewalld/firewalld.conf"
    w:ok("ADD", call(w, "portmap", 1, ports))
    w:ok("DEL", call(w, "portmap", 1, ports))
  end)
end)
