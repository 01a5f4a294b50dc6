-- SPDX-License-Identifier: MIT
-- The reference's plugin dhcp, which asks a daemon at a socket for what it needs, on a node whose daemon is ours.

local dhcp = require "dhcp_world"
local json = require "cni.json"
local sys = require("netlink").sys
local t = require "support"
local world = require "world"

local program = t.build .. "/luacni"
local socket = "/run/spec/cni/dhcp.sock"
local lease_path = "/run/luacni/dhcp/net/c1:eth0"
local daemon

after_each(function()
  dhcp.stop_all()
  t.run "rm -rf /run/spec/cni"
end)

local function await(what)
  for _ = 1, 200 do
    if select(2, t.sh { "test", "-S", what }) == 0 then return end
    t.sh "sleep 0.02"
  end
  error("nobody listens at " .. what .. "\n" .. (t.read "/run/spec/daemon.out" or ""))
end

local function ours(w) daemon = dhcp.start(("%s dhcp daemon --socket %s"):format(program, socket), w.host); await(socket) end

local function theirs(w)
  t.run "mkdir -p /run/spec/cni"
  daemon = dhcp.start("/usr/lib/cni/dhcp daemon -socketpath " .. socket, w.host)
  await(socket)
end

-- A world in which macvlan is the reference's, and so is the plugin that it asks.
local function new(opts)
  t.needs "reference"
  opts = opts or {}
  opts.bin, opts.path = "reference", "/usr/lib/cni"
  return dhcp.new({ ipam = { type = "dhcp", daemonSocketPath = socket } }, opts)
end

local function lease() return json.decode(assert(t.read(lease_path), "there is no lease")) end

-- As if so many seconds had gone by.
local function wait(seconds, path)
  path = path or lease_path
  local now = json.decode(assert(t.read(path)))
  for _, key in ipairs { "granted", "renew_at", "rebind_at", "expires_at", "tried_at" } do
    now[key] = now[key] and now[key] - seconds
  end
  t.write(path, json.note(now))
end

-- What the daemon says to somebody who is no plugin, and how long that takes: it has let him in then.
local function knock(w)
  local began = sys.clock()
  local said = t.sh({ "socat", "-t5", "-", "UNIX-CONNECT:" .. socket }, { host = w.host, stdin = "GET / HTTP/1.1\n\n" })
  assert.matches("^HTTP/1%.0 405 ", said)
  return sys.clock() - began
end

describe("The reference's plugin dhcp, with luacni dhcp daemon --socket,", function()
  it("gets an address, which CHECK finds, the daemon renews, and DEL gives back", function()
    local w = new { server = { options = "--dhcp-option=3,10.9.0.1 --dhcp-option=6,10.9.0.1 --domain=example.net" } }
    ours(w)
    local result = w:add()
    t.same({ { address = "10.9.0.10/24", gateway = "10.9.0.1", interface = 0 } }, result.ips)
    t.same({ { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
    t.same({ "10.9.0.10/24" }, world.addrs(w.pods[1], "eth0"))
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    dhcp.await_given(1)
    w:check()
    t.same({ "10.9.0.10" }, dhcp.given())
    local listed = json.decode(t.run({ program, "dhcp", "list", "--json" }, { host = w.host }))
    t.same({ "net", "c1", "10.9.0.10/24" }, { listed[1].network, listed[1].container, listed[1].address })
    -- Half of its time is over.
    local before = lease()
    wait(1801)
    for _ = 1, 400 do
      if lease().granted > before.granted then break end
      t.sh "sleep 0.02"
    end
    assert.is_true(lease().granted > before.granted)
    w:del()
    dhcp.await_given(0)
    t.same({}, t.files "/run/luacni/dhcp")
    t.same({}, t.files "/run/luacni/attachments/net")
    w:del()
  end)

  it("gets a result of each version that it speaks", function()
    for version, shape in pairs { ["0.2.0"] = { ip = "10.9.0.10/24", gateway = "10.9.0.1",
        routes = { { dst = "0.0.0.0/0", gw = "10.9.0.1" } } },
      ["0.3.1"] = { address = "10.9.0.10/24", gateway = "10.9.0.1", version = "4", interface = 0 } } do
      local w = new()
      ours(w)
      local result = w:add { conf = { cniVersion = version } }
      t.same(shape, result.ip4 or result.ips[1])
      w:del { conf = { cniVersion = version } }
      dhcp.await_given(0)
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("has another address on its interface, where the server refuses to renew the first", function()
    local w = new()
    ours(w)
    w:add()
    dhcp.silence(w)
    dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h", options = "--dhcp-option=3,10.9.0.2 "
      .. "--dhcp-option=121,10.50.0.0/16,10.9.0.7,10.60.0.0/16,0.0.0.0,0.0.0.0/0,10.9.0.2" })
    wait(1801)
    local out, status, err = t.sh({ program, "dhcp", "renew", "--json" }, { host = w.host })
    assert.equal(0, status, out .. err)
    t.same({ "10.9.0.30/24" }, world.addrs(w.pods[1], "eth0"))
    local function routes() return (w:in_pod "ip route show dev eth0 | sort") end
    for _, line in ipairs { "default via 10.9.0.2", "10.50.0.0/16 via 10.9.0.7", "10.60.0.0/16 scope link" } do
      assert.truthy(routes():find(line, 1, true), routes())
    end
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    assert.is_nil(lease().was)
    -- Another router, and the same address.
    dhcp.silence(w)
    dhcp.serve(w, { keeps = true, range = "10.9.0.30,10.9.0.40,1h" })
    wait(1801)
    assert.equal(0, select(2, t.sh({ program, "dhcp", "renew" }, { host = w.host })))
    assert.equal("10.9.0.0/24 proto kernel scope link src 10.9.0.30 \ndefault via 10.9.0.1 \n", routes())
    w:del()
    dhcp.await_given(0)
    t.same({}, t.files "/run/luacni/attachments/net")
  end)

  it("is told by CHECK that the time of its lease is up, and gets no second one", function()
    local w = new()
    ours(w)
    w:add()
    dhcp.silence(w)
    wait(3601)
    dhcp.stop(daemon)
    ours(w)
    for _ = 1, 200 do
      if lease().is_over then break end
      t.sh "sleep 0.02"
    end
    assert.matches("the lease of 10.9.0.10/24 came to its end", w:fails("CHECK").text, 1, true)
    assert.equal(1, select(2, t.read("/run/luacni/attachments/net/c1:eth0/dhcp"):gsub('"done"', "")))
    w:del()
    t.same({}, t.files "/run/luacni/attachments/net")
  end)

  it("that is killed while it is waiting for an address leaves nothing in the way of its DEL", function()
    local w = new { server = false }
    ours(w)
    t.write("/run/spec/conf", t.json(w:config()))
    t.sh({ "sh", "-c", "CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/pod1 CNI_IFNAME=eth0 "
      .. "CNI_PATH=/usr/lib/cni exec timeout -s KILL 1 /usr/lib/cni/macvlan </run/spec/conf" }, { host = w.host })
    local began = sys.clock()
    w:del()
    assert.is_true(sys.clock() - began < 5, sys.clock() - began)
    t.same({}, t.files "/run/luacni/attachments/net")
  end)

  it("passes on why there is none, and knows nothing of it", function()
    local w = new { server = false }
    ours(w)
    assert.matches("no DHCP server", w:fails("ADD").text, 1, true)
    t.same({}, t.files "/run/luacni/attachments/net")
  end)

  it("serves others while a client stalls or talks nonsense, and many at once", function()
    local w = new { pods = 1 }
    ours(w)
    dhcp.start(("socat -u UNIX-CONNECT:%s -"):format(socket), w.host)
    t.sh({ "socat", "-t0.1", "-", "UNIX-CONNECT:" .. socket }, { host = w.host,
      stdin = "CONNECT /_goRPC_ HTTP/1.0\n\n\255\129" })
    assert.matches("^HTTP/1%.0 405 ", (t.sh({ "socat", "-t5", "-", "UNIX-CONNECT:" .. socket }, { host = w.host,
      stdin = "GET / HTTP/1.1\r\nHost: x\r\n\r\n" })))
    t.sh({ "socat", "-t5", "-", "UNIX-CONNECT:" .. socket }, { host = w.host,
      stdin = "CONNECT /_goRPC_ HTTP/1.0\n\n" .. ("\255"):rep(1000) })
    t.sh(("for i in $(seq 30); do socat -u OPEN:/dev/null UNIX-CONNECT:%s & done; wait"):format(socket), { host = w.host })
    w:add()
    w:del()
    dhcp.await_given(0)
  end)

  it("is served while servers are silent that other leases are to be renewed by", function()
    local w = dhcp.new({ ipam = { type = "dhcp", probe = 0 } }, { pods = 3 })
    for i = 1, 3 do
      w:add { id = "q" .. i, pod = i }
      local path = ("/run/luacni/dhcp/net/q%d:eth0"):format(i)
      t.write(path, (t.read(path):gsub('"server":"10.9.0.1"', ('"server":"10.9.0.9%d"'):format(i))))
      wait(1801, path)
    end
    ours(w)
    -- Two seconds for each of them.
    assert.is_true(knock(w) < 4)
    dhcp.stop_all()
    for i = 1, 3 do w:del { id = "q" .. i, pod = i } end
  end)

  it("is served again by a daemon that could not let anybody in", function()
    local w = new()
    daemon = dhcp.start(("{ ulimit -S -n 5; exec %s dhcp daemon --socket %s; }"):format(program, socket), w.host)
    await(socket)
    dhcp.start(("socat -u UNIX-CONNECT:%s -"):format(socket), w.host)
    for _ = 1, 200 do
      if t.read("/run/spec/daemon.out"):find("accept at .*Too many open files") then break end
      t.sh "sleep 0.02"
    end
    assert.matches("accept at .*Too many open files", t.read "/run/spec/daemon.out")
    t.run(("prlimit --pid %s --nofile=100:"):format(daemon))
    assert.is_true(knock(w) < 5)
    w:add()
    w:del()
  end)

  it("finds the reference's daemon at a socket that ours, asked to end, has left", function()
    local w = new()
    for _, signal in ipairs { "TERM", "INT" } do
      local _, status, err = t.sh({ "timeout", "--preserve-status", "-s", signal, "0.5", program, "dhcp", "daemon",
        "--socket", socket }, { host = w.host })
      assert.equal(0, status, signal .. err)
    end
    t.same({}, t.files "/run/spec/cni")
    theirs(w)
    w:add()
    w:del()
    dhcp.await_given(0)
  end)

  it("is refused a second daemon at one socket, and finds one where the last was killed", function()
    local w = new()
    ours(w)
    assert.equal("600\n", t.run { "stat", "-c", "%a", socket })
    local out, status, err = t.sh({ program, "dhcp", "daemon", "--socket", socket }, { host = w.host })
    t.same({ "", 1 }, { out, status })
    assert.matches("another daemon listens there", err, 1, true)
    t.run("kill -9 " .. daemon)
    for _ = 1, 100 do
      if select(2, t.sh { "kill", "-0", daemon }) ~= 0 then break end
      t.sh "sleep 0.02"
    end
    ours(w)
    t.sh "sleep 0.3"
    w:add()
    w:del()
    out, status, err = t.sh({ program, "dhcp", "list", "--socket", socket }, { host = w.host })
    t.same({ "", 2 }, { out, status })
    assert.matches("--socket is for daemon", err, 1, true)
  end)
end)

describe("A node changes over, with containers running,", function()
  it("from the reference's daemon to ours: they keep their addresses, and give them back", function()
    local w = new()
    theirs(w)
    w:add()
    dhcp.await_given(1)
    t.run("kill -9 " .. daemon)
    t.sh "sleep 0.1"
    ours(w)
    t.sh "sleep 0.3"
    w:check()
    t.same({ "10.9.0.10" }, dhcp.given())
    t.same({ "10.9.0.10/24" }, world.addrs(w.pods[1], "eth0"))
    -- What CHECK has asked for is ours to renew from now on.
    assert.equal("10.9.0.10/24", lease().address)
    w:del()
    dhcp.await_given(0)
  end)

  it("from the reference's plugins to ours: what its daemon has got, our DEL gives back", function()
    local w = new()
    theirs(w)
    local result = w:add()
    dhcp.await_given(1)
    t.cni_ok { verb = "DEL", type = "macvlan", conf = w:config(), id = "c1", netns = w.pods[1], host = w.host, prev = result }
    assert.is_nil(t.link(w.pods[1], "eth0"))
    dhcp.await_given(0)
  end)

  it("and back: the reference's DEL takes the link, and GC what is left of ours", function()
    local w = new()
    ours(w)
    w:add()
    dhcp.await_given(1)
    t.run("kill -9 " .. daemon)
    t.sh "sleep 0.1"
    os.remove(socket)
    theirs(w)
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    t.cni_ok { verb = "GC", type = "dhcp", host = w.host, path = t.bin.ours,
      conf = w:config { cniVersion = "1.1.0", ["cni.dev/valid-attachments"] = t.list {} } }
    t.same({}, t.files "/run/luacni/attachments/net")
    t.same({}, t.files "/run/luacni/dhcp")
  end)
end)
