-- SPDX-License-Identifier: MIT
-- The type dhcp, and luacni dhcp: leases of a server on the wire, how they are kept, given back, and lost.
--
-- Seconds a test takes on the second kernel: 8

local json = require "cni.json"
local sys = require("netlink").sys
local t = require "support"
local dhcp = require "dhcp_world"
local on_master = require "on_master"
local world = require "world"

local with = t.with
local program = t.build .. "/luacni"

after_each(dhcp.stop_all)

local function new(ipam, opts)
  return dhcp.new({ ipam = with({ type = "dhcp", probe = 0 }, ipam) }, opts)
end

local function luacni(w, ...)
  return t.sh({ program, ... }, { host = w.host })
end

-- One in which the reference's macvlan executes ours.
local function new_for_others()
  t.needs "reference"
  t.run("mkdir -p /run/spec/both; ln -sf " .. program .. " /run/spec/both/dhcp")
  return new({}, { bin = "reference", path = "/run/spec/both" })
end

-- The file of the lease, and another in its place.
local path = "/run/luacni/dhcp/net/c1:eth0"
local function lease() return json.decode(assert(t.read(path), "there is no lease")) end

-- As if so many seconds had gone by.
local function wait(seconds)
  local now = lease()
  for _, key in ipairs { "granted", "renew_at", "rebind_at", "expires_at", "tried_at" } do
    now[key] = now[key] and now[key] - seconds
  end
  t.write(path, json.note(now))
end

-- Renew what is due; returns what is printed, decoded.
local function renew(w, status)
  local out, code, err = luacni(w, "dhcp", "renew", "--json")
  assert.equal(status or 0, code, out .. err)
  return json.decode(out)
end

-- Count packets from a sandbox to servers, in the far namespace: by unicast from the leased address, and others.
local function count_packets(w)
  t.run([[nft 'table ip seen {
    counter unicast { }
    counter broadcast { }
    chain c {
      type filter hook input priority -400
      ip saddr 10.9.0.10 ip daddr 10.9.0.1 udp sport 68 udp dport 67 counter name unicast
      ip daddr 255.255.255.255 udp dport 67 counter name broadcast
    }
  }']], { host = w.far })
  return function(name)
    return tonumber(t.run("nft list counter ip seen " .. name, { host = w.far }):match "packets (%d+)")
  end
end

-- Count those of an address to its neighbours.
local function count_announcements(w, address)
  t.run(([[nft 'table arp seen {
    counter told { }
    chain c {
      type filter hook input priority 0
      arp operation request arp saddr ip %s arp daddr ip %s counter name told
    }
  }']]):format(address, address), { host = w.far })
  return function() return t.run("nft list counter arp seen told", { host = w.far }):match "packets (%d+)" end
end

describe("The type dhcp", function()
  it("puts what the server tells into the result: routes, resolvers, and on the link a smaller MTU", function()
    local w = new({}, { server = { options = "--dhcp-option=3,10.9.0.1 --dhcp-option=6,10.9.0.1,10.9.0.2 "
      .. "--domain=example.net --dhcp-option=option:domain-search,one.example,two.example "
      .. "--dhcp-option=26,1400 --dhcp-option=121,10.50.0.0/16,10.9.0.7,10.60.0.0/16,0.0.0.0,0.0.0.0/0,10.9.0.1" } })
    local result = w:add()
    t.same({ { address = "10.9.0.10/24", gateway = "10.9.0.1", interface = 0 } }, result.ips)
    t.same({ { dst = "10.60.0.0/16", gw = "0.0.0.0", scope = 253 }, { dst = "10.50.0.0/16", gw = "10.9.0.7" },
      { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
    t.same({ nameservers = { "10.9.0.1", "10.9.0.2" }, domain = "example.net",
      search = { "one.example", "two.example" } }, result.dns)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    local routes = w:in_pod "ip route show"
    for _, line in ipairs { "default via 10.9.0.1", "10.50.0.0/16 via 10.9.0.7", "10.60.0.0/16 dev eth0 scope link" } do
      assert.truthy(routes:find(line, 1, true), routes)
    end
    w:check()
    assert.truthy(t.run(program .. " dhcp list", { host = w.host }):find "net%s+c1%s+eth0%s+10.9.0.10/24%s+10.9.0.1%s+%d+ s")
  end)

  it("reaches a router that is in no network of the lease's, as where each machine is alone in its own", function()
    local w = new({}, { server = { options = "--dhcp-option=3,10.9.0.1 --dhcp-option-force=1,255.255.255.255" } })
    local result = w:add()
    t.same({ { address = "10.9.0.10/32", gateway = "10.9.0.1", interface = 0 } }, result.ips)
    t.same({ { dst = "10.9.0.1/32", gw = "0.0.0.0", scope = 253 }, { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
    local routes = w:in_pod "ip route show"
    for _, line in ipairs { "10.9.0.1 dev eth0 scope link", "default via 10.9.0.1 dev eth0" } do
      assert.truthy(routes:find(line, 1, true), routes)
    end
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    w:check()
    w:del()
    dhcp.await_given(0)
    -- One that the server says is on the link needs no other way.
    dhcp.silence(w)
    dhcp.serve(w, { options = "--dhcp-option-force=1,255.255.255.255 "
      .. "--dhcp-option=121,0.0.0.0/0,10.9.0.1,10.9.0.0/24,0.0.0.0" })
    t.same({ { dst = "10.9.0.0/24", gw = "0.0.0.0", scope = 253 }, { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, w:add().routes)
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    w:del()
  end)

  it("leaves a MTU that the configuration has, and none larger than the link's is taken", function()
    for _, case in ipairs { { 1300, "1200", 1300 }, { nil, "9000", 1500 } } do
      local w = dhcp.new({ mtu = case[1], ipam = { type = "dhcp", probe = 0 } },
        { server = { options = "--dhcp-option=26," .. case[2] } })
      w:add()
      assert.equal(case[3], t.link(w.pods[1], "eth0").mtu)
      w:check()
      w:del()
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("sends what provide says, asks for what request says, and nothing else where it skips the others", function()
    local w = new({ priority = 50,
      provide = { { option = "host-name", value = "no", fromArg = "K8S_POD_NAME" }, { option = "60", value = "x" } },
      request = { { option = "routers", skipDefault = true }, { option = "subnet-mask" } },
    }, { server = { options = "--dhcp-option=3,10.9.0.1 --dhcp-option=6,10.9.0.2" } })
    local result = w:add { args = "IgnoreUnknown=1;K8S_POD_NAME=blue" }
    assert.is_nil(result.dns)
    local given = dhcp.leases()
    t.same({ { dst = "0.0.0.0/0", gw = "10.9.0.1", priority = 50 } },
      w:add({ conf = { cniVersion = "1.1.0" }, id = "c2", ifname = "eth1", args = "IgnoreUnknown=1" }).routes)
    assert.equal("blue", given[1].name)
    assert.equal(("\0c1/net/eth0"):gsub(".", function(c) return ("%02x:"):format(c:byte()) end):sub(1, -2), given[1].client)
    assert.truthy(t.run("ip route show default", { host = w.pods[1] }):find("metric 50", 1, true))
  end)

  it("asks for the address that is wanted, and is given another where that is taken", function()
    local w = new({}, { pods = 2 })
    assert.equal("10.9.0.15/24", w:add({ args = "IP=10.9.0.15" }).ips[1].address)
    assert.not_equal("10.9.0.15/24", w:add({ id = "c2", pod = 2, args = "IP=10.9.0.15" }).ips[1].address)
  end)

  it("is content with two messages, where both sides are", function()
    for _, case in ipairs { { true, 1 }, { false, 2 } } do
      local w = new({ rapidCommit = case[1] }, { server = { options = "--dhcp-rapid-commit" } })
      local count = count_packets(w)
      w:add()
      assert.equal(case[2], count "broadcast")
      w:check()
      w:del()
      dhcp.await_given(0)
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("declines an address that somebody has, and gets the next one", function()
    local w = new({ probe = 200 }, { pods = 2 })
    w:add { id = "c2", pod = 2, conf = { ipam = { type = "static", addresses = { { address = "10.9.0.10/24" } } } } }
    assert.equal("10.9.0.11/24", w:add().ips[1].address)
    local told = table.concat(dhcp.told(), " ")
    assert.truthy(told:find("ACK DECLINE DISCOVER", 1, true), told)
  end)

  it("gets an address for each of many that ask at a time, where the server offers the first free one to all", function()
    local count = t.guest and 8 or 40
    local w = new({}, { server = { range = "10.9.0.10,10.9.0.200,1h" } })
    t.netns_many("q", count)
    t.write("/run/spec/conf", t.json(w:config()))
    local function all(verb)
      t.run(([[mkdir -p /run/spec/many; for i in $(seq %d); do
        CNI_COMMAND=%s CNI_CONTAINERID=q$i CNI_NETNS=/run/netns/q$i CNI_IFNAME=eth0 CNI_PATH=%s %s/macvlan           </run/spec/conf >/run/spec/many/$i & done; wait]]):format(count, verb, t.bin.ours, t.bin.ours),
        { host = w.host, timeout = 120 })
    end
    all "ADD"
    local told, given = {}, dhcp.given()
    for i = 1, count do told[i] = t.decode(t.read("/run/spec/many/" .. i)).ips[1].address:match "^[^/]+" end
    table.sort(told)
    table.sort(given)
    t.same(given, told)
    assert.equal(count, #given)
    all "DEL"
    dhcp.await_given(0)
  end)

  it("asks again where the server comes late", function()
    local w = new({}, { server = false, needs = { "dnsmasq" } })
    dhcp.start(("sleep 1; exec dnsmasq --conf-file=/dev/null -k --user=root --port=0 --interface=up0 --bind-interfaces "
      .. "--dhcp-range=10.9.0.10,10.9.0.20 --no-ping --dhcp-authoritative --dhcp-leasefile=/run/spec/dnsmasq.leases"), w.far)
    w:add()
    w:check()
  end)

  it("says what is wrong with a configuration, and asks nobody", function()
    local w = new({}, { server = false })
    on_master.refused(w,
      { { conf = { ipam = { type = "dhcp", provide = { { option = "hostname", value = "x" } } } } }, 7,
        "ipam.provide[0].option", "hostname", "host-name" },
      { { conf = { ipam = { type = "dhcp", request = { { option = "256" } } } } }, 7, "ipam.request[0].option", "256" },
      { { conf = { ipam = { type = "dhcp", request = { {} } } } }, 7, "ipam.request[0].option", "missing" },
      { { conf = { ipam = { type = "dhcp", provide = { { option = "53", value = "x" } } } } }, 7, "53", "cannot be chosen" },
      { { conf = { ipam = { type = "dhcp", provide = { { option = "12", value = ("x"):rep(256) } } } } }, 7, "256 bytes" },
      { { conf = { ipam = { type = "dhcp", priority = -1 } } }, 7, "ipam.priority" },
      { { conf = { ipam = { type = "dhcp", probe = -1 } } }, 7, "ipam.probe" })
  end)
end)

describe("DEL of a lease", function()
  for what, prepare in pairs {
    ["whose file is lost"] = function() os.remove(path) end,
    ["without a record"] = function() t.run "rm -rf /run/luacni/attachments" end,
    ["of which nothing is left"] = function() t.run "rm -rf /run/luacni" end,
  } do
    it(what .. " gives it back all the same", function()
      local w = new()
      local before = on_master.glance(w)
      w:add()
      prepare()
      w:del()
      dhcp.await_given(0)
      on_master.unchanged(w, before)
      w:del()
    end)
  end

  it("that the reference's daemon has got for an older version is given back by this one", function()
    t.needs "reference"
    t.run("mkdir -p /run/spec/theirs /run/spec/both; ln -sf /usr/lib/cni/dhcp /run/spec/theirs/others; "
      .. "ln -sf " .. t.build .. "/luacni /run/spec/both/dhcp")
    local w = dhcp.new({ ipam = { type = "others" } }, { path = "/run/spec/theirs" })
    dhcp.start "/usr/lib/cni/dhcp daemon"
    t.run "for i in $(seq 200); do [ -S /run/cni/dhcp.sock ] && exit; sleep 0.02; done; exit 1"
    local before = on_master.glance(w)
    w:add()
    -- As its record would be, had the type been none of ours.
    t.run [[sed -i 's/"others"/"dhcp"/; s/\"others\"/\"dhcp\"/; s|/run/spec/theirs|/run/spec/both|' /run/luacni/attachments/net/*/*]]
    w:del { conf = { ipam = { type = "dhcp" } }, path = "/run/spec/both" }
    dhcp.await_given(0)
    on_master.unchanged(w, before)
  end)

  it("by the reference's macvlan, which has had it from here, gives it back", function()
    local w = new_for_others()
    local result = w:add()
    assert.equal("10.9.0.10/24", result.ips[1].address)
    w:check()
    w:del()
    dhcp.await_given(0)
    assert.equal("", t.sh "ls /run/luacni/attachments /run/luacni/dhcp 2>/dev/null | grep net")
  end)

  it("is not kept up by a server that is not there", function()
    local w = new()
    local before = on_master.glance(w)
    w:add()
    dhcp.silence(w)
    local began = os.time()
    w:del()
    assert.is_true(os.time() - began <= 2)
    on_master.unchanged(w, before)
  end)

  it("is fine where the sandbox is gone, and says who keeps the address", function()
    local w = new()
    w:add()
    t.remove_netns(w.pods[1])
    w:let_go()
    local got = w:call("DEL", { pod = false })
    assert.equal(0, got.rc, got.out)
    assert.truthy(got.err:find("the DHCP server 10.9.0.1 keeps 10.9.0.10/24", 1, true), got.err)
    assert.is_nil(t.read(path))
  end)

  it("that another container has is not touched by it", function()
    local w = new({}, { pods = 2 })
    w:add()
    w:add { id = "c2", pod = 2 }
    w:del()
    dhcp.await_given(1)
    w:check { id = "c2", pod = 2 }
    w:del { id = "c2", pod = 2 }
    dhcp.await_given(0)
  end)
end)

describe("luacni dhcp", function()
  it("asks nobody before it is time, and says when that is", function()
    local w = new()
    w:add()
    local count = count_packets(w)
    local told = renew(w)
    t.same({}, told.leases)
    assert.is_true(told.next_in > 1400 and told.next_in <= 1800, told.next_in)
    assert.equal(0, count "unicast" + count "broadcast")
  end)

  it("asks the server alone at half of the time, and anybody at seven eighths", function()
    local w = new()
    w:add()
    local count = count_packets(w)
    wait(1801)
    assert.equal("renewed", renew(w).leases[1].done)
    assert.equal("1 0", ("%d %d"):format(count "unicast", count "broadcast"))
    local told = renew(w)
    assert.is_true(told.next_in > 1400, t.json(told) .. t.read(path))
    wait(3151)
    assert.equal("renewed", renew(w).leases[1].done)
    assert.equal("1 1", ("%d %d"):format(count "unicast", count "broadcast"))
    w:check()
    w:del()
    dhcp.await_given(0)
  end)

  it("makes the attachment as the server says now: its routes, MTU, resolvers, in the runtime's result too", function()
    local w = new({}, { server = { options = "--dhcp-option=3,10.9.0.1 --dhcp-option=6,10.9.0.1" } })
    t.write("/etc/cni/net.d/10-net.conf", t.json(w:config()))
    w:add()
    dhcp.silence(w)
    dhcp.serve(w, { keeps = true, options = "--dhcp-option=3,10.9.0.2 --dhcp-option=6,10.9.0.3 --dhcp-option=26,1400" })
    wait(1801)
    assert.equal("changed", renew(w).leases[1].done)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    local routes = w:in_pod "ip route show default"
    assert.truthy(routes:find("10.9.0.2", 1, true) and not routes:find("10.9.0.1 ", 1, true), routes)
    t.same({}, renew(w).leases)
    w:del { prev = false }
    dhcp.await_given(0)
    os.remove "/etc/cni/net.d/10-net.conf"
  end)

  it("gives an address up that the server refuses to renew, and gets another", function()
    local w = new()
    t.write("/etc/cni/net.d/10-net.conf", t.json(w:config()))
    w:add()
    dhcp.silence(w)
    dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h" })
    wait(1801)
    -- The neighbours are told of the next one.
    local announced = count_announcements(w, "10.9.0.30")
    local gone, told = table.unpack(renew(w).leases)
    t.same({ "given up", "10.9.0.10/24" }, { gone.done, gone.address })
    assert.truthy(gone.why:find("10.9.0.1 refuses to renew it", 1, true), gone.why)
    t.same({ "anew", "10.9.0.30/24" }, { told.done, told.address })
    t.same({ "10.9.0.30/24" }, world.addrs(w.pods[1], "eth0"))
    assert.equal("1", announced())
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    w:del { prev = false }
    dhcp.await_given(0)
    os.remove "/etc/cni/net.d/10-net.conf"
  end)

  for text, shell in pairs {
    ["Network is down"] = { "ip -n pod1 link set eth0 down", "ip -n pod1 link set eth0 up" },
    ["eth0 is not in its sandbox"] = { "ip -n pod1 link set eth0 down; ip -n pod1 link set eth0 name eth9",
      "ip -n pod1 link set eth9 name eth0; ip -n pod1 link set eth0 up" },
    ["Read-only file system"] = { "mount --bind /run/luacni /run/luacni; mount -o remount,ro,bind /run/luacni",
      "umount /run/luacni" },
  } do
    it("says once what is wrong, and ends: " .. text, function()
      local w = new()
      w:add()
      wait(1801)
      t.run(shell[1])
      local _, status, err = t.sh({ "timeout", "10", program, "dhcp", "renew" }, { host = w.host })
      t.run(shell[2])
      assert.equal(1, status, err)
      assert.equal(1, select(2, err:gsub(text:gsub("%p", "%%%0"), "")), err)
      -- Half of what is left until anybody is asked.
      wait(700)
      assert.equal("renewed", renew(w).leases[1].done)
      w:del { prev = false }
      dhcp.await_given(0)
    end)
  end

  it("names a lease that cannot be read, and looks after the others", function()
    local w = new({}, { pods = 2 })
    w:add()
    w:add { id = "a", pod = 2 }
    wait(1801)
    t.write("/run/luacni/dhcp/net/a:eth0", "{")
    local out, status, err = luacni(w, "dhcp", "renew", "--json")
    assert.equal(1, status, out)
    assert.truthy(err:find("dhcp/net/a:eth0", 1, true), err)
    assert.equal("renewed", json.decode(out).leases[1].done)
    w:del { id = "a", pod = 2 }
    w:del()
    dhcp.await_given(0)
  end)

  it("follows a site's script that answers with the lease itself", function()
    t.write("/etc/luacni/plugins/wire.lua", [[
      local ipam = require "cni.ipam"
      return { add = function(req)
        local eth = req.host:add_link { kind = "macvlan", name = req.ifname, ns = req.pod, link = "up0" }
        local lease = ipam.add(req)
        ipam.apply(lease, req.pod, eth)
        lease.interfaces = { eth }
        return lease
      end }]])
    t.run(("mkdir -p /run/spec/site; ln -sf %s/luacni /run/spec/site/wire"):format(t.build))
    local w = dhcp.new({ type = "wire", ipam = { type = "dhcp", probe = 0 } },
      { bin = "/run/spec/site", server = { options = "--dhcp-option=26,1400" } })
    w:add()
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    w:check()
    w:del()
    dhcp.await_given(0)
  end)

  it("needs no network's file, and nothing that a runtime has stored", function()
    local w = new()
    w:add()
    dhcp.silence(w)
    dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h" })
    wait(1801)
    assert.equal("10.9.0.30/24", renew(w).leases[2].address)
    t.same({ "10.9.0.30/24" }, world.addrs(w.pods[1], "eth0"))
    w:del { prev = false }
    dhcp.await_given(0)
  end)

  it("renews what cannot be made so as well: no address is used after its end", function()
    local w = new()
    w:add()
    -- A route by what is no machine, which the kernel refuses.
    dhcp.silence(w)
    dhcp.serve(w, { keeps = true, options = "--dhcp-option=121,10.50.0.0/16,10.9.0.255" })
    wait(1801)
    assert.truthy(renew(w, 1).leases[1].problem:find("10.50.0.0/16", 1, true))
    t.same({}, renew(w).leases)
    wait(1801)
    assert.equal("renewed", renew(w, 1).leases[1].done)
    assert.is_true(lease().expires_at - sys.uptime() > 3000)
    -- It is one again.
    dhcp.silence(w)
    dhcp.serve(w, { keeps = true })
    wait(1801)
    assert.equal("changed", renew(w).leases[1].done)
    w:check()
    w:del { prev = false }
    dhcp.await_given(0)
  end)

  it("gives back by the name that it has asked by", function()
    local w = new { provide = { { option = "dhcp-client-identifier", value = "blue" } } }
    w:add()
    assert.equal("62:6c:75:65", dhcp.leases()[1].client)
    w:del()
    dhcp.await_given(0)
  end)

  it("has an update leave the server's MTU, unless the update says another; and all of a chain is listed anew", function()
    local w = new({}, { server = { options = "--dhcp-option=26,1300" } })
    w:add()
    w:let_go()
    for _, case in ipairs { { "ipam.priority=5", 1300 }, { "mtu=1400", 1400 }, { "mtu=0", 1300 } } do
      local out, status, err = luacni(w, "update", "net", "c1", "--set", case[1])
      assert.equal(0, status, out .. err)
      assert.equal(case[2], t.link(w.pods[1], "eth0").mtu, case[1])
    end
    w:del { prev = false }
    dhcp.await_given(0)
  end)

  it("says who does not answer, goes on until the time is up, and then the address goes at once", function()
    local w = new()
    t.write("/etc/cni/net.d/10-net.conf", t.json(w:config()))
    w:add()
    dhcp.silence(w)
    wait(1801)
    local told = renew(w, 1)
    assert.truthy(told.leases[1].problem:find("10.9.0.1", 1, true), told.leases[1].problem)
    -- Half of what is left until anybody is asked.
    assert.is_true(told.next_in > 500 and told.next_in < 700, told.next_in)
    t.same({ "10.9.0.10/24" }, world.addrs(w.pods[1], "eth0"))
    w:check()
    wait(3600)
    renew(w, 1)
    t.same({}, world.addrs(w.pods[1], "eth0"))
    assert.truthy(w:fails("CHECK").text:find("10.9.0.10", 1, true))
    -- The server is back.
    dhcp.serve(w, { keeps = true })
    wait(11)
    assert.equal("anew", renew(w).leases[1].done)
    t.same({ "10.9.0.10/24" }, world.addrs(w.pods[1], "eth0"))
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    w:check()
    w:del()
    dhcp.await_given(0)
    os.remove "/etc/cni/net.d/10-net.conf"
  end)

  it("as a daemon renews what is due, and what comes later", function()
    local w = new({}, { pods = 2 })
    local count = count_packets(w)
    w:add()
    wait(1801)
    dhcp.start(program .. " dhcp daemon", w.host)
    local function renewed(packets)
      t.run(("for i in $(seq 200); do nft list counter ip seen unicast | grep -q 'packets %d' && exit; sleep 0.1; done; "
        .. "cat /run/spec/daemon.out; exit 1"):format(packets), { host = w.far })
      -- What is answered is written down a moment later.
      for _ = 1, 100 do
        if lease().renew_at > sys.uptime() then return end
        t.sh "sleep 0.02"
      end
      error "what was granted is not written down"
    end
    renewed(1)
    wait(1801)
    renewed(2)
    w:check()
    w:del()
    dhcp.await_given(0)
    assert.equal(2, count "unicast" - 1, "the last one is the release")
  end)

  it("as a daemon tells the neighbours twice of an address that has come by a renewal", function()
    local w = new()
    w:add()
    dhcp.silence(w)
    dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h" })
    wait(1801)
    local told = count_announcements(w, "10.9.0.30")
    dhcp.start(program .. " dhcp daemon", w.host)
    for _ = 1, 200 do
      if told() == "1" then break end
      t.sh "sleep 0.02"
    end
    assert.equal("1", told())
    t.sh "sleep 5"
    assert.equal("2", told())
    w:del { prev = false }
    dhcp.await_given(0)
  end)

  for what, prepare in pairs {
    ["one with other values"] = function(w)
      dhcp.serve(w, { keeps = true, options = "--dhcp-option=3,10.9.0.2 --dhcp-option=26,1400" })
      return "10.9.0.10/24"
    end,
    ["another address"] = function(w)
      dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h", options = "--dhcp-option=3,10.9.0.2" })
      return "10.9.0.30/24"
    end,
    ["another address, on an interface of the reference's plugin"] = function(w)
      dhcp.serve(w, { range = "10.9.0.30,10.9.0.40,1h", options = "--dhcp-option=3,10.9.0.2" })
      return "10.9.0.30/24"
    end,
  } do
    it("that is killed at any change is finished by the next one: " .. what, function()
      local w = (what:find "reference" and new_for_others or new)()
      t.write("/etc/cni/net.d/10-net.conf", t.json(w:config()))
      local step, n, ended = t.stride(11), 0
      repeat
        n = n + step
        w:add()
        wait(1801)
        dhcp.silence(w)
        local address = prepare(w)
        local _, status = t.sh({ t.helper "killat", "-o", "/run/spec/report", tostring(n), program, "dhcp", "renew" },
          { host = w.host })
        ended = status == 100
        local at = ("killed at %d: %s"):format(n, t.read "/run/spec/report")
        assert.is_true(ended or status == 101, at)
        -- It may have been killed behind its last attempt to make the attachment so.
        if json.decode(t.read(path)).tried_at then wait(61) end
        renew(w)
        t.same({ address }, world.addrs(w.pods[1], "eth0"), at)
        assert.truthy(w:in_pod("ip route show default"):find("10.9.0.2", 1, true), at)
        w:del { prev = false }
        dhcp.await_given(0)
        dhcp.silence(w)
        dhcp.serve(w)
      until ended
      assert.is_true(n > 10, n)
      os.remove "/etc/cni/net.d/10-net.conf"
    end)
  end

  it("and a repair do what is lost: the server tells again what it has granted", function()
    local w = new()
    w:add()
    os.remove(path)
    assert.truthy(w:fails("CHECK").text:find("not known any more", 1, true))
    local out, status, err = luacni(w, "repair")
    assert.equal(0, status, out .. err)
    assert.equal("10.9.0.10/24", lease().address)
    w:check()
    renew(w)
    assert.is_true(renew(w).next_in > 1400)
    w:check()
    w:del()
    dhcp.await_given(0)
  end)

  it("takes no other word, and says so", function()
    local out, status, err = t.sh({ program, "dhcp", "renw" })
    assert.equal(2, status, out)
    assert.truthy(err:find('"renew"', 1, true), err)
  end)
end)
