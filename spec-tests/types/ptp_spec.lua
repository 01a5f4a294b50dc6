-- SPDX-License-Identifier: MIT
-- What plugin `ptp` promises: a pair of links between pod and host with routes at both
-- ends, so that everything of the pod goes by the host; nothing left of it after DEL or a
-- failed ADD.

local promises = require("promises").for_spec(it)

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.5.2.0/24" }
local v6 = { type = "host-local", subnet = "fd05:1::/64" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.5.2.0/24" } }, { { subnet = "fd05:1::/64" } } } }
local defaults = { { dst = "0.0.0.0/0" }, { dst = "::/0" } }

local with = t.merge

local function ptp(conf, opts) return world.new(with({ type = "ptp" }, conf), opts) end

local function static(...)
  return { type = "static", addresses = { ... } }
end

-- Routes as lines "DST via GW dev NAME scope S src SRC"; a port of the host is called port.
local function routes(ns, family)
  local lines = {}
  for _, r in ipairs(t.ip(ns, family .. " route show")) do
    if r.dev ~= "side0" and r.dst ~= "fe80::/64" and not (r.dst == "default" and r.dev == "lo") then
      local words = { r.dst }
      for _, key in ipairs { "gateway", "dev", "scope", "prefsrc", "protocol" } do
        local value = r[key]
        if key == "dev" and value:find("^veth") then value = "port" end
        if value and not (key == "protocol" and value == "boot") then
          words[#words + 1] = ({ gateway = "via ", dev = "dev ", scope = "scope ",
            prefsrc = "src ", protocol = "proto " })[key] .. value
        end
      end
      lines[#lines + 1] = table.concat(words, " ")
    end
  end
  table.sort(lines)
  return lines
end

local function tentative(ns)
  for _, link in ipairs(t.ip(ns, "-6 addr show")) do
    for _, a in ipairs(link.addr_info or {}) do
      if a.scope == "global" and a.tentative then return a["local"] end
    end
  end
end

describe("ptp ADD", function()
  it("puts addresses and routes at both ends, IPv4", function()
    local w = ptp({ ipam = with(v4, { routes = { { dst = "0.0.0.0/0" } } }) })
    local before = #routes(w.host, "-4")
    w:add()
    t.same({ "10.5.2.2/24" }, world.addrs(w.pods[1], "eth0"))
    t.same({ "10.5.2.1/32" }, world.addrs(w.host, w:port().ifname))
    t.same({
      "10.5.2.0/24 via 10.5.2.1 dev eth0 src 10.5.2.2",
      "10.5.2.1 dev eth0 scope link src 10.5.2.2",
      "default via 10.5.2.1 dev eth0",
    }, routes(w.pods[1], "-4"))
    assert.equal("10.5.2.2 dev port scope host", routes(w.host, "-4")[1])
    assert.equal(before + 1, #routes(w.host, "-4"))
    assert.is_true(t.ping(w.pods[1], "10.5.2.1"))
    assert.is_true(t.ping(w.host, "10.5.2.2"))
  end)

  it("puts addresses and routes at both ends, IPv6", function()
    local w = ptp({ ipam = with(v6, { routes = { { dst = "::/0" } } }) })
    w:add()
    t.same({ "fd05:1::2/64" }, world.addrs(w.pods[1], "eth0"))
    t.same({ "fd05:1::1/128" }, world.addrs(w.host, w:port().ifname))
    t.same({
      "default via fd05:1::1 dev eth0",
      "fd05:1::/64 via fd05:1::1 dev eth0 src fd05:1::2",
      "fd05:1::1 dev eth0 src fd05:1::2",
    }, routes(w.pods[1], "-6"))
    local seen = {}
    for _, line in ipairs(routes(w.host, "-6")) do seen[line] = true end
    assert.is_true(seen["fd05:1::2 dev port"])
    assert.is_true(t.ping(w.pods[1], "fd05:1::1"))
    assert.is_true(t.ping(w.host, "fd05:1::2"))
  end)

  it("serves both families, and one pod reaches the other by the host alone", function()
    local w = ptp({ ipam = with(dual, { routes = defaults }) }, { pods = 2, accepts = { "veth+" } })
    w:add()
    w:add({ id = "c2", pod = 2 })
    for _, to in ipairs { "10.5.2.1", "10.5.2.3", "fd05:1::1", "fd05:1::3" } do
      assert.is_true(t.ping(w.pods[1], to), to)
    end
    -- Each by its own pair: no ARP for the neighbour on the pod's link.
    t.same({}, t.ip(w.pods[1], "neigh show 10.5.2.3"))
    w:sh("ip link set " .. w:port(2).ifname .. " down")
    assert.is_false(t.ping(w.pods[1], "10.5.2.3"))
    assert.is_true(t.ping(w.pods[1], "10.5.2.1"))
  end)

  it("switches forwarding on for the families it serves and no other", function()
    local w = ptp({ ipam = v4 })
    assert.equal("0", t.sysctl(w.host, "net/ipv4/ip_forward"))
    w:add()
    assert.equal("1", t.sysctl(w.host, "net/ipv4/ip_forward"))
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
    w:add({ ifname = "net1", conf = { name = "six", ipam = v6 } })
    assert.equal("1", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
  end)

  it("uses the MTU for both ends, and the kernel's without one", function()
    local w = ptp({ mtu = 1400, ipam = v4 })
    w:add()
    assert.equal(1400, w:port().mtu)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    w:add({ ifname = "net1", conf = { mtu = 0 } })
    assert.equal(1500, w:port(1, "net1").mtu)
    assert.equal(1500, t.link(w.pods[1], "net1").mtu)
  end)

  it("locks the host's end down, and leaves the pod's end as the kernel has it", function()
    local w = ptp({ ipam = dual })
    local usual = t.sysctl(w.pods[1], "net/ipv6/conf/default/accept_ra")
    w:add()
    local conf = "net/ipv6/conf/" .. w:port().ifname
    assert.equal("0", t.sysctl(w.host, conf .. "/accept_ra"))
    assert.equal("0", t.sysctl(w.host, conf .. "/accept_redirects"))
    assert.equal(usual, t.sysctl(w.pods[1], "net/ipv6/conf/eth0/accept_ra"))
  end)

  it("gives two addresses that share a gateway one route to it", function()
    local w = ptp({ ipam = static({ address = "10.5.2.7/24", gateway = "10.5.2.1" },
      { address = "10.5.2.8/24", gateway = "10.5.2.1" },
      { address = "10.5.3.9/24", gateway = "10.5.2.1" }) }, { forwarding = true })
    local before = w:picture()
    w:add()
    t.same({ "10.5.2.1/32" }, world.addrs(w.host, w:port().ifname))
    t.same({
      "10.5.2.0/24 via 10.5.2.1 dev eth0 src 10.5.2.7",
      "10.5.2.1 dev eth0 scope link src 10.5.2.7",
      "10.5.3.0/24 via 10.5.2.1 dev eth0 src 10.5.3.9",
    }, routes(w.pods[1], "-4"))
    for _, to in ipairs { "10.5.2.7", "10.5.2.8", "10.5.3.9" } do
      assert.is_true(t.ping(w.host, to), to)
    end
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("gives each of two gateways its own route", function()
    local w = ptp({ ipam = static({ address = "10.5.2.7/24", gateway = "10.5.2.1" },
      { address = "10.6.2.7/24", gateway = "10.6.2.1" }) })
    w:add()
    t.same({ "10.5.2.1/32", "10.6.2.1/32" }, world.addrs(w.host, w:port().ifname))
    assert.is_true(t.ping(w.pods[1], "10.5.2.1"))
    assert.is_true(t.ping(w.pods[1], "10.6.2.1"))
    w:check()
  end)

  it("works with an address that is a network of its own", function()
    local w = ptp({ ipam = static({ address = "10.5.2.7/32", gateway = "10.5.2.1" },
      { address = "fd05:1::7/128", gateway = "fd05:1::1" }) })
    w:add()
    assert.is_true(t.ping(w.pods[1], "10.5.2.1"))
    assert.is_true(t.ping(w.pods[1], "fd05:1::1"))
    w:check()
  end)

  it("does not wait for duplicates: an IPv6 address is usable at once", function()
    local w = ptp({ ipam = with(dual, { routes = defaults }) },
      { far = true, forwarding = true })
    w:in_pod("echo 1 >/proc/sys/net/ipv6/conf/default/accept_dad")
    w:sh("echo 1 >/proc/sys/net/ipv6/conf/default/accept_dad")
    w:add()
    assert.is_nil(tentative(w.pods[1]))
    assert.is_nil(tentative(w.host))
    -- The first packet goes out and comes back, and one that is forwarded to the pod arrives.
    assert.is_true(t.ping(w.pods[1], "fd05:1::1"))
    assert.is_true(t.ping(w.far, "fd05:1::2"))
    -- The link's own address is looked at as ever.
    assert.equal("1", t.sysctl(w.pods[1], "net/ipv6/conf/eth0/accept_dad"))
  end)

  it("enables IPv6 in a pod where it is off", function()
    local w = ptp({ ipam = v6 })
    w:in_pod("for c in default lo; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done")
    w:add()
    t.same({ "fd05:1::2/64" }, world.addrs(w.pods[1], "eth0"))
  end)

  it("gives the result the dns of the configuration, else the IPAM plugin's", function()
    local own = { nameservers = { "10.5.2.53" }, search = { "example.org" } }
    t.write("/run/spec/resolv.conf", "nameserver 10.5.2.1\n")
    local ipam = with(v4, { resolvConf = "/run/spec/resolv.conf" })
    t.same(own, ptp({ dns = own, ipam = ipam }):add().dns)
    t.cleanup()
    t.same({ nameservers = { "10.5.2.1" } }, ptp({ ipam = ipam }):add().dns)
  end)
end)

describe("ptp MAC", function()
  promises.mac(function(conf) return ptp(with({ ipam = v4 }, conf)) end, { interface = 2,
    look = function(w, mac) assert.not_equal(mac, w:port().address) end })
end)

describe("ptp ipMasq", function()
  local far4, far6 = "192.0.2.2", "2001:db8::2"

  it("hides the pod behind the host's address, both families", function()
    local w = ptp({ ipMasq = true, ipam = with(dual, { routes = defaults }) },
      { far = true, forwarding = true })
    local before = w:picture()
    w:add()
    assert.equal("192.0.2.1", t.tcp_source(w.pods[1], w.far, far4))
    assert.equal("2001:db8::1", t.tcp_source(w.pods[1], w.far, far6))
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("is not done without it", function()
    local w = ptp({ ipam = with(dual, { routes = defaults }) },
      { far = true, forwarding = true })
    w:add()
    assert.equal("10.5.2.2", t.tcp_source(w.pods[1], w.far, far4))
    assert.equal("fd05:1::2", t.tcp_source(w.pods[1], w.far, far6))
  end)

  it("leaves what goes to a neighbour of the same subnet as it is", function()
    local w = ptp({ ipMasq = true, ipam = with(dual, { routes = defaults }) },
      { pods = 2, accepts = { "veth+" } })
    w:add()
    w:add({ id = "c2", pod = 2 })
    assert.equal("10.5.2.2", t.tcp_source(w.pods[1], w.pods[2], "10.5.2.3"))
    assert.equal("fd05:1::2", t.tcp_source(w.pods[1], w.pods[2], "fd05:1::3"))
  end)
end)

describe("ptp CHECK", function()
  local function notices(what, says, sh, at)
    it("notices that " .. what, function()
      local w = ptp({ mtu = 1400, ipMasq = true, ipam = with(dual, { routes = defaults }) },
        { forwarding = true })
      w:add()
      w:check()
      local port = w:port().ifname
      t.run((sh:gsub("@PORT@", port)), { host = at == "host" and w.host or w.pods[1] })
      w:so_be_it()
      local e = w:fails("CHECK")
      assert.truthy(e.text:find(says), e.text)
    end)
  end

  notices("the link is gone", "eth0", "ip link del eth0")
  notices("an address of the pod is gone", "10%.5%.2%.2/24", "ip addr del 10.5.2.2/24 dev eth0")
  notices("the MAC is another", "mac is 02:00:00:00:00:07",
    "ip link set eth0 address 02:00:00:00:00:07")
  notices("the pod's end is down", "eth0", "ip link set eth0 down")
  notices("the route to the gateway is gone", "10%.5%.2%.1", "ip route del 10.5.2.1/32")
  notices("the route to the network is gone", "10%.5%.2%.0/24", "ip route del 10.5.2.0/24")
  notices("the network is on the link instead", "10%.5%.2%.0/24",
    "ip route replace 10.5.2.0/24 dev eth0 scope link")
  notices("a default route is gone", "::/0", "ip -6 route del default")
  notices("the gateway's address is gone", "fd05:1::1/128",
    "ip -6 addr del fd05:1::1/128 dev @PORT@", "host")
  notices("the host's route is gone", "10%.5%.2%.2", "ip route del 10.5.2.2/32", "host")
  notices("the host's end is down", "veth", "ip link set @PORT@ down", "host")
  notices("the MTU of the host's end is another", "mtu is 1300, not 1400",
    "ip link set @PORT@ mtu 1300", "host")
  notices("forwarding is off", "ip_forward", "echo 0 >/proc/sys/net/ipv4/ip_forward", "host")
  notices("the rules are flushed", "masquerad", t.flush, "host")
end)

describe("ptp DEL", function()
  local function new()
    return ptp({ ipMasq = true, ipam = with(dual, { routes = defaults }) },
      { forwarding = true })
  end
  promises.del(new, { more = {
    { "when the pod's end is gone", nil, function(w) w:in_pod("ip link del eth0") end },
    { "when the pod's end was renamed", nil, function(w)
      w:in_pod("ip link set eth0 down; ip link set eth0 name eth7")
    end },
    { "when the rules are flushed", nil, function(w, before) w:lose_rules(before) end },
    { "when the host's end was renamed", nil, function(w)
      w:sh("ip link set " .. w:port().ifname .. " down name mine")
    end },
  } })

  it("takes an attachment down that the reference made", function()
    t.needs("reference")
    local w = ptp({ cniVersion = "1.0.0", ipam = v4 }, { forwarding = true })
    local before = w:picture()
    w:add({ bin = "reference" })
    w:del()
    t.same(before, w:picture())
  end)

  it("leaves what the reference can take down", function()
    t.needs("reference")
    local w = ptp({ cniVersion = "1.0.0", ipam = with(v4, { routes = { { dst = "0.0.0.0/0" } } }) },
      { forwarding = true })
    w:add()
    w:check({ bin = "reference" })
    w:del({ bin = "reference" })
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.5.2.2"))
  end)
end)

describe("ptp GC", function()
  promises.gc(function(pods)
    return ptp({ ipMasq = true, ipam = dual }, { pods = pods, forwarding = true })
  end)
end)

describe("ptp result", function()
  promises.results(function()
    return ptp({ ipam = with(dual, { routes = defaults }) })
  end, { expected = function(w)
    local port = w:port()
    return {
      interfaces = { { name = port.ifname, mac = port.address },
        { name = "eth0", mac = t.link(w.pods[1], "eth0").address, sandbox = w.pods[1].path } },
      ips = { { address = "10.5.2.2/24", gateway = "10.5.2.1", interface = 1 },
        { address = "fd05:1::2/64", gateway = "fd05:1::1", interface = 1 } },
      routes = defaults,
    }
  end })
end)

describe("ptp ADD that fails leaves nothing behind:", function()
  local function fails(name, conf, opts)
    promises.fails(name, function() return ptp(conf, { forwarding = true }) end, opts)
  end

  fails("no ipam", {}, { code = 7, says = "ipam" })
  fails("an ipam without a type", { ipam = { subnet = "10.5.2.0/24" } },
    { code = 7, says = "ipam" })
  fails("an address without a gateway", { ipMasq = true,
    ipam = static({ address = "10.5.2.7/24", gateway = "10.5.2.1" },
      { address = "10.5.3.7/24" }) },
    { says = { "10.5.3.7/24", "without a gateway" } })
  fails("the name is taken in the pod", { ipMasq = true, ipam = dual }, { says = "eth0",
    prepare = function(w)
      w:in_pod("ip link add eth0 type veth peer name other")
    end })
  fails("a route whose gateway is out of reach", { ipMasq = true,
    ipam = with(dual, { routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) },
    { says = "10.9.0.0/16" })
  fails("a mtu beyond reason", { mtu = 1000000, ipam = v4 }, { says = "mtu" })
  fails("a mtu that is a text", { mtu = "1400", ipam = v4 }, { code = 7, says = "mtu" })
  fails("a backend that is none", { ipMasq = true, ipMasqBackend = "pf", ipam = v4 },
    { code = 7, says = "ipMasqBackend" })
  fails("a MAC that is none", { ipam = v4, runtimeConfig = { mac = "zz:00" } },
    { code = 7, says = "zz:00" })

  it("its own namespace as the pod", function()
    local w = ptp({ ipam = dual }, { forwarding = true })
    local before = w:picture()
    w:fails("ADD", { pod = "/run/netns/host" }, 8)
    t.same(before, w:picture())
  end)
end)

describe("ptp STATUS", function()
  it("is silent when an ADD can be served, and gives code 50 when not", function()
    local w = ptp({ ipam = with(v4, { rangeStart = "10.5.2.5", rangeEnd = "10.5.2.5" }) })
    w:ok("STATUS")
    w:add()
    w:fails("STATUS", nil, 50)
    w:del()
    w:ok("STATUS")
  end)
end)
