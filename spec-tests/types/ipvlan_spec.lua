-- SPDX-License-Identifier: MIT
-- What plugin `ipvlan` promises: a link that shares the MAC of a host's link and has addresses
-- of its own, alone or behind another plugin.
--
-- Seconds a test takes on the second kernel: 8

local t = require "support"
local world = require "world"
local on_master = require "on_master"

local glance, refused, unchanged = on_master.glance, on_master.refused, on_master.unchanged
local dual, with = on_master.dual, t.with

local neighbour = "ip addr add 10.1.0.250/24 dev up0; ip -6 addr add fd01::fa/64 dev up0 nodad"

on_master.promises({ describe = describe, it = it }, {
  needs = "ipvlan", conf = { type = "ipvlan" }, second = {}, finds = true, shared_mac = true,
  far = neighbour, wire = "up0",
  other = { "ip link set eth0 type ipvlan mode l3", "mode is l3, not l2" },
  like = "nsenter --net=/run/netns/host ip link add link up1 name like0 netns pod1 " ..
    "type ipvlan mode l2; ip link set like0 name eth0",
})

local function ipvlan(conf, opts)
  return world.new(with({ type = "ipvlan", master = "up0", enabledad = false, ipam = dual },
    conf), with({ far = true, pods = 2 }, opts))
end

local second = { id = "c2", pod = 2 }

local function data_of(w, pod) return t.link(w.pods[pod or 1], "eth0").linkinfo.info_data end

-- Two containers of one network, and a neighbour in theirs.
local function pair_of(conf)
  t.needs("ipvlan")
  local w = ipvlan(conf)
  t.run(neighbour, { host = w.far })
  w:add()
  w:add(second)
  w:check()
  w:check(second)
  return w
end

describe("ipvlan mode", function()
  -- Routes without a gateway: beyond the link the host routes.
  local routed = with(dual, { routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } })

  it("l2 is the default: the containers are on the wire, and nobody routes", function()
    local w = pair_of({ ipam = routed, mac = "02:00:00:00:00:01" })
    assert.equal("l2", data_of(w).mode)
    assert.equal(t.link(w.host, "up0").address, t.link(w.pods[1], "eth0").address)
    assert.is_false(t.has_flag(t.link(w.pods[1], "eth0"), "NOARP"))
    assert.is_true(t.ping(w.pods[1], "10.1.0.3"))
    assert.is_true(t.ping(w.pods[1], "fd01::3"))
    assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.pods[2], "10.1.0.3"))
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    assert.is_false(t.ping(w.pods[1], "192.0.2.2"))
  end)

  -- The neighbour reaches the containers by the host's address, 192.0.2.1.
  local function routed_pair(mode)
    local w = pair_of({ mode = mode, ipam = routed })
    t.run("ip addr del 10.1.0.250/24 dev up0; ip -6 addr del fd01::fa/64 dev up0",
      { host = w.far })
    assert.equal(mode, data_of(w).mode)
    assert.is_true(t.has_flag(t.link(w.pods[1], "eth0"), "NOARP"))
    for _, address in ipairs({ "10.1.0.3", "fd01::3", "192.0.2.2", "2001:db8::2" }) do
      assert.is_true(t.ping(w.pods[1], address), address)
    end
    assert.is_true(t.ping(w.far, "10.1.0.2"))
    assert.is_true(t.ping(w.far, "fd01::2"))
    -- What nobody routes is not looked for on the wire.
    t.run("ip addr add 10.1.0.250/24 dev up0", { host = w.far })
    assert.is_false(t.ping(w.pods[1], "10.1.0.250"))
    t.run("ip addr del 10.1.0.250/24 dev up0", { host = w.far })
    w:sh("iptables-legacy -A INPUT -d 10.1.0.2 -j DROP")
    return w
  end

  it("l3: the host routes for the links; its filters of what comes in are not asked", function()
    t.needs("ipvlan", "iptables-legacy")
    local w = routed_pair("l3")
    assert.is_true(t.ping(w.far, "10.1.0.2"))
  end)

  it("l3s: the same, and the host's filters are asked", function()
    t.needs("ipvlan", "iptables-legacy")
    local w = routed_pair("l3s")
    assert.is_false(t.ping(w.far, "10.1.0.2"))
    assert.is_true(t.ping(w.far, "10.1.0.3"))
  end)

  it("that is none is an error which asks for the nearest; so is a flag", function()
    t.needs("ipvlan")
    refused(ipvlan({}),
      { { conf = { mode = "l2s" } }, 7, "mode", "l2s", '"l2"?' },
      { { conf = { mode = "L3" } }, 7, "mode", "L3", '"l3"?' },
      { { conf = { mode = 2 } }, 7, "mode" },
      { { conf = { flag = "Private" } }, 7, "flag", "Private", '"private"?' },
      { { conf = { flag = "passthru" } }, 7, "flag", "passthru" })
  end)

  -- The kernel has one mode and flag for all links on a master, and the last to come sets them.
  it("or flag other than that of a link there is refused, and its link left as it is", function()
    t.needs("ipvlan")
    local w = ipvlan({}, { pods = 3 })
    w:sh("ip link add up1 type veth peer name up2; ip link set up2 up; ip link set up1 up")
    local before = glance(w)
    local l3 = with(second, { conf = { name = "other", mode = "l3", ipam = on_master.fixed } })
    w:add()
    refused(w, { l3, 7, "up0", "l2 bridge", "l3 bridge", "net:c1:eth0" },
      { with(second, { conf = { flag = "private" } }), 7, "up0", "l2 bridge", "l2 private" })
    w:check()
    w:add({ id = "c3", pod = 3, conf = { master = "up1", mode = "l3" } })
    w:check()
    w:del({ id = "c3", pod = 3, conf = { master = "up1", mode = "l3" } })
    w:add(second)
    w:del()
    refused(w, { { id = "c3", pod = 3, conf = { mode = "l3" } }, 7, "net:c2:eth0" })
    w:gc({})
    -- One that failed does not count.
    w:fails("ADD", { conf = { mode = "l3s", ipam = with(dual, {
      routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } })
    w:add(l3)
    w:check(l3)
    assert.equal("l3", data_of(w, 2).mode)
    w:del(l3)
    unchanged(w, before)
  end)
end)

describe("ipvlan flag", function()
  -- A ping from pod1 to pod2, whose MAC it knows: whether it was answered, how many requests
  -- reached pod2, how many the wire.
  local function ping(w)
    local mac = t.link(w.host, "up0").address
    local out = t.run((([[
      nsenter --net=/run/netns/far sh -c '
        tc qdisc del dev up0 ingress 2>&-; tc qdisc add dev up0 ingress
        tc filter add dev up0 ingress pref 1 protocol ip flower dst_ip 10.1.0.3 action pass'
      ip -n pod1 neigh replace 10.1.0.3 lladdr @MAC@ dev eth0
      ip -n pod2 neigh replace 10.1.0.2 lladdr @MAC@ dev eth0
      heard() { nsenter --net=/run/netns/pod2 awk '/^Icmp: [0-9]/ { print $10 }' /proc/net/snmp; }
      before=$(heard)
      nsenter --net=/run/netns/pod1 ping -n -q -c 1 -W 1 10.1.0.3 >/dev/null; answered=$?
      echo $answered $(($(heard) - before)) \
        $(nsenter --net=/run/netns/far tc -s filter show dev up0 ingress |
          sed -n 's/.*Sent [0-9]* bytes \([0-9]*\) pkt.*/\1/p')]]):gsub("@MAC@", mac)))
    local status, heard, wire = out:match("(%d+) (%d+) (%d+)")
    return { answered = status == "0", heard = tonumber(heard), wire = tonumber(wire) }
  end

  local function flag(name)
    local w = pair_of({ flag = name })
    assert.is_true(data_of(w)[name or "bridge"])
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    assert.is_true(t.ping(w.pods[2], "fd01::fa"))
    local other = name == "private" and "vepa" or "private"
    assert.truthy(w:fails("CHECK", { conf = { flag = other } }).text:find(
      ("%s, not %s"):format(name or "bridge", other), 1, true))
    return w
  end

  -- A bridge in the neighbour that sends frames back where they came from.
  local function reflect(w)
    t.run("ip link add br9 type bridge; ip link set br9 up; ip link set up0 master br9; " ..
      "bridge link set dev up0 hairpin on", { host = w.far })
  end

  it("bridge is the default: the links of one master reach each other, not by the wire", function()
    t.same({ answered = true, heard = 1, wire = 0 }, ping(flag(nil)))
  end)

  it("private: nothing arrives, nor leaves, not even with a switch that reflects", function()
    local w = flag("private")
    t.same({ answered = false, heard = 0, wire = 0 }, ping(w))
    reflect(w)
    t.same({ answered = false, heard = 0, wire = 0 }, ping(w))
    assert.is_false(t.ping(w.pods[1], "fd01::3"))
  end)

  it("vepa: all goes by the wire, and arrives if the switch reflects", function()
    local w = flag("vepa")
    t.same({ answered = false, heard = 0, wire = 1 }, ping(w))
    reflect(w)
    t.same({ answered = true, heard = 1, wire = 1 }, ping(w))
  end)
end)

describe("ipvlan ADD", function()
  it("needs an IPAM plugin, unless a chain has addresses", function()
    t.needs("ipvlan")
    local w = ipvlan({})
    refused(w, { { conf = { ipam = false } }, 7, "ipam.type", "is missing", "chain" },
      { { conf = { ipam = {} } }, 7, "ipam.type" },
      { { conf = { ipam = { type = "" } } }, 7, "ipam.type" },
      { { conf = { ipam = false }, prev = { cniVersion = "1.1.0", interfaces = t.list({}) } }, 7,
        "ipam.type" })
    w:add()
  end)

  it("with an address that another container on the master has is an error", function()
    t.needs("ipvlan")
    local w = ipvlan({ ipam = on_master.fixed })
    w:add()
    refused(w, { second, nil, "10.1.0.2/24", "already" },
      { with(second, { conf = { ipam = { type = "static",
        addresses = { { address = "fd01::2/64" } } } } }), nil, "fd01::2/64", "already" })
    w:check()
    w:del()
    w:add(second)
  end)

  it("names what has the master: a bridge, or links of another kind", function()
    t.needs("ipvlan", "macvlan")
    local w = ipvlan({})
    w:sh("ip link add br9 type bridge; ip link set up0 master br9")
    refused(w, { {}, nil, "up0 is a port of br9", "name that one" })
    w:sh("ip link del br9; ip link add link up0 name mine type macvlan")
    refused(w, { {}, nil, "up0 carries link mine in the host", "macvlan", "not both" })
    w:sh("ip link del mine")
    w:add()
  end)
end)

describe("ipvlan behind another plugin", function()
  local function prev(more)
    return with({ cniVersion = "1.1.0", interfaces = { { name = "up0" } },
      ips = { { address = "10.1.0.7/24", gateway = "10.1.0.1", interface = 0 },
        { address = "fd01::7/64" } },
      routes = { { dst = "10.9.0.0/16" } }, dns = { nameservers = { "192.0.2.53" } } }, more)
  end
  local function chained(conf)
    return ipvlan(with({ master = false, ipam = false }, conf))
  end

  it("stands on its interface and has its addresses and routes", function()
    t.needs("ipvlan")
    local w = chained({})
    t.run(neighbour, { host = w.far })
    -- The default route, which is eth0's, is not asked then.
    local before = glance(w)
    local result = w:add({ prev = prev() })
    t.same({ cniVersion = "1.1.0",
      interfaces = { { name = "eth0", mac = t.link(w.host, "up0").address,
        sandbox = "/run/netns/pod1" } },
      ips = { { address = "10.1.0.7/24", gateway = "10.1.0.1", interface = 0 },
        { address = "fd01::7/64", interface = 0 } },
      routes = { { dst = "10.9.0.0/16" } }, dns = { nameservers = { "192.0.2.53" } } }, result)
    assert.is_true(on_master.stands_on(w, "up0"))
    t.same({ "10.1.0.7/24", "fd01::7/64" }, world.addrs(w.pods[1], "eth0"))
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    local route = t.ip(w.pods[1], "route get 10.9.0.1")[1]
    t.same({ "10.1.0.1", "eth0" }, { route.gateway, route.dev })
    w:ok("STATUS")
    w:check()
    w:in_pod("ip addr del 10.1.0.7/24 dev eth0")
    on_master.says(w:fails("CHECK"), "10.1.0.7/24")
    w:in_pod("ip link del eth0")
    on_master.says(w:fails("CHECK"), "eth0", "is not in the sandbox")
    w:del()
    unchanged(w, before)
    -- Taken down without a record: by what CHECK is told too, by what ADD was, by nothing.
    for _, told in ipairs({ result, prev(), false }) do
      w:add({ prev = prev() })
      t.run("rm -rf /run/luacni")
      w:del({ prev = told })
      unchanged(w, before)
    end
  end)

  it("has its own IPAM plugin's addresses if it names one, and its own master", function()
    t.needs("ipvlan")
    local w = chained({ ipam = dual, dns = { domain = "example.org" } })
    local before = glance(w)
    local result = w:add({ prev = prev() })
    t.same({ domain = "example.org" }, result.dns)
    t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
    t.same({ 1, 2, nil }, { #result.interfaces, #result.ips, result.routes })
    w:check()
    -- A plugin behind it has added an interface; it has no say in what is to be taken down.
    result.interfaces[2] = { name = "other", sandbox = "/run/netns/pod1" }
    w:check({ prev = result })
    t.run("rm -rf /run/luacni")
    w:del({ prev = result })
    unchanged(w, before)
    w:sh("ip link add up1 type veth peer name up2; ip link set up2 up; ip link set up1 up")
    w:add({ conf = { master = "up1" }, prev = prev() })
    assert.is_true(on_master.stands_on(w, "up1"))
  end)

  it("does not take a link of the sandbox for its master, which has the same number in the host", function()
    t.needs("ipvlan")
    local w = chained({})
    local result = w:add({ prev = prev() })
    local up0 = t.link(w.host, "up0")
    w:in_pod(([[ip link del eth0
      ip link add m0 index %d address %s type veth peer name m1; ip link set m0 up
      ip link add eth0 link m0 type ipvlan mode l2; ip link set eth0 up
      ip addr add 10.1.0.7/24 dev eth0; ip -6 addr add fd01::7/64 dev eth0 nodad
      ip route add 10.9.0.0/16 via 10.1.0.1]]):format(up0.ifindex, up0.address))
    on_master.says(w:fails("CHECK", { prev = result }), "eth0", "stands on no link of the host")
    on_master.says(w:fails("CHECK", { prev = result, conf = { master = "up0" } }), "eth0 does not stand on up0")
  end)

  it("needs to know which of its interfaces to stand on", function()
    t.needs("ipvlan")
    local w = chained({})
    local two = { { name = "up0" }, { name = "lo" } }
    refused(w, { { prev = prev({ interfaces = t.list({}) }) }, 7, "master", "0 interfaces" },
      { { prev = prev({ interfaces = two }) }, 7, "master", "2 interfaces" },
      { { prev = prev({ interfaces = { { name = "nowhere" } } }) }, 7, "nowhere", "host" },
      { { prev = prev(), conf = { mtu = 1501 } }, 7, "1501", "1500", "up0" })
    w:add({ prev = prev({ interfaces = two }), conf = { master = "up0" } })
    t.same({ "10.1.0.7/24", "fd01::7/64" }, world.addrs(w.pods[1], "eth0"))
  end)

  it("stands on an interface of the sandbox with linkInContainer", function()
    t.needs("ipvlan")
    local w = chained({ linkInContainer = true })
    w:in_pod("ip link add m0 type veth peer name m1; ip link set m0 addrgenmode none")
    local call = { prev = prev({ interfaces = { { name = "m0", sandbox = "/run/netns/pod1" } } }) }
    local before = glance(w)
    w:add(call)
    assert.equal("m0", t.link(w.pods[1], "eth0").link)
    w:check()
    w:del()
    unchanged(w, before)
    refused(w, { { prev = prev() }, 7, "up0", "sandbox" })
  end)
end)
