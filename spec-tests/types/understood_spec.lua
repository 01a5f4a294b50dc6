-- SPDX-License-Identifier: MIT
-- Values are understood before they are compared, accepted or handed to the kernel: what means the same
-- does the same, what means nothing is said to, and CHECK is content with whatever ADD has accepted.

local t = require "support"
local world = require "world"

local with = t.with
local subnet = { type = "host-local", subnet = "10.1.0.0/24" }
local v6 = { type = "host-local", subnet = "fd01::/64" }

local function new(conf, opts)
  return world.new(with({ type = "bridge", bridge = "br0", ipam = subnet }, conf), opts)
end

local function static(addresses, more)
  local list = {}
  for i, text in ipairs(addresses) do list[i] = { address = text } end
  return with({ type = "static", addresses = list }, more)
end

-- ADD, CHECK, what `look` says, DEL.
local function accepted(w, call, look)
  local result = w:add(call)
  w:check(call)
  look(result)
  w:del(call)
  assert.is_nil(t.link(w.pods[1], "eth0"))
end

local function routes(w, family, dst)
  return t.ip(w.pods[1], ("%s route show %s"):format(family, dst))
end

describe("A route", function()
  it("is to the network of its destination, whatever host bits that has", function()
    local w = new({})
    accepted(w, { conf = { ipam = with(subnet, { routes = { { dst = "10.9.8.7/16" } } }) } }, function(result)
      t.same({ { dst = "10.9.0.0/16" } }, result.routes)
      assert.equal("10.1.0.1", routes(w, "-4", "10.9.0.0/16")[1].gateway)
    end)
    accepted(w, { conf = { isDefaultGateway = true, ipam = with(v6, { routes = { { dst = "2000::/0" } } }) } },
      function(result)
        t.same({ { dst = "::/0" } }, result.routes)
        local list = routes(w, "-6", "default")
        t.same({ 1, "fd01::1" }, { #list, list[1].gateway })
      end)
    accepted(w, { conf = { isDefaultGateway = true, ipam = with(subnet, { routes = { { dst = "10.0.0.0/0" } } }) } },
      function(result)
        t.same({ { dst = "0.0.0.0/0" } }, result.routes)
        assert.equal(1, #routes(w, "-4", "default"))
      end)
  end)

  it("on the link has no next hop", function()
    local w = new({})
    for _, route in ipairs({ { dst = "10.9.0.0/16", scope = 253 }, { dst = "10.9.0.0/16", gw = "0.0.0.0" },
      { dst = "10.9.0.0/16", gw = "0.0.0.0", scope = 253 } }) do
      accepted(w, { conf = { isGateway = true, ipam = with(subnet, { routes = { route } }) } }, function()
        local list = routes(w, "-4", "10.9.0.0/16")
        assert.equal(1, #list)
        assert.is_nil(list[1].gateway)
      end)
    end
    accepted(w, { conf = { ipam = with(v6, { routes = { { dst = "fd09::/64", gw = "::" } } }) } }, function()
      assert.is_nil(routes(w, "-6", "fd09::/64")[1].gateway)
    end)
    -- The negative twin: without a scope it goes by the gateway.
    accepted(w, { conf = { isGateway = true, ipam = with(subnet, { routes = { { dst = "10.9.0.0/16" } } }) } },
      function() assert.equal("10.1.0.1", routes(w, "-4", "10.9.0.0/16")[1].gateway) end)
  end)
end)

describe("A gateway of 0.0.0.0 or ::", function()
  it("is none, wherever it is written", function()
    local w = new({ isGateway = true })
    local fixed = { type = "static", addresses = { { address = "10.1.0.9/24", gateway = "0.0.0.0" },
      { address = "fd01::9/64", gateway = "::" } } }
    accepted(w, { conf = { isGateway = false, ipam = fixed } }, function(result)
      for _, ip in ipairs(result.ips) do assert.is_nil(ip.gateway) end
    end)
    accepted(w, { conf = { ipam = fixed } }, function(result)
      t.same({ "10.1.0.1", "fd01::1" }, { result.ips[1].gateway, result.ips[2].gateway })
      t.same({ "10.1.0.1/24", "fd01::1/64" }, world.addrs(w.host, "br0"))
    end)
    accepted(w, { conf = { isGateway = false, ipam = static {} }, args = "IP=10.1.0.9/24;GATEWAY=0.0.0.0" },
      function(result) assert.is_nil(result.ips[1].gateway) end)
    accepted(w, { conf = { ipam = with(subnet, { gateway = "0.0.0.0" }) } }, function(result)
      assert.equal("10.1.0.1", result.ips[1].gateway)
    end)
  end)
end)

describe("An address written twice", function()
  it("is one", function()
    local w = new({ capabilities = { ips = true } })
    local twice = { "10.1.0.9/24", "10.1.0.9/24", "fd01::9/64", "FD01:0::9/64" }
    local function one(result)
      assert.equal(2, #result.ips)
      t.same({ "10.1.0.9/24", "fd01::9/64" }, world.addrs(w.pods[1], "eth0"))
    end
    accepted(w, { conf = { ipam = static(twice) } }, one)
    accepted(w, { conf = { ipam = static {}, runtimeConfig = { ips = twice } } }, one)
    accepted(w, { conf = { ipam = static {}, args = { cni = { ips = twice } } } }, one)
    accepted(w, { conf = { ipam = static {} }, args = "IP=" .. table.concat(twice, ",") }, one)
    accepted(w, { conf = { ipam = static { "10.1.0.9/24" } }, args = "IP=10.1.0.9/24,fd01::9/64" }, one)
    accepted(w, { conf = { ipam = subnet, runtimeConfig = { ips = { "10.1.0.9", "10.1.0.9/24" } } } },
      function(result) assert.equal("10.1.0.9/24", result.ips[1].address) end)
  end)
end)

describe("A configuration", function()
  local cases = {
    { "negative MTU, vlan", { type = "vlan", master = "up0", mtu = -100 }, "mtu" },
    { "negative MTU, macvlan", { type = "macvlan", master = "up0", mtu = -100 }, "mtu" },
    { "negative MTU, tap", { type = "tap", mtu = -100 }, "mtu" },
    { "a name for the VLAN's gateway that is too long", { bridge = "br0123456789abc", vlan = 5,
      isGateway = true }, "br0123456789abc.5" },
    { "that is none of its values", { macspoofchk = "true" }, "macspoofchk" },
  }
  for _, case in ipairs(cases) do
    it("is refused when it is read, before the namespace is looked at: " .. case[1], function()
      local w = new(case[2])
      local before = w:picture()
      for _, pod in ipairs({ 1, "/run/netns/none" }) do
        assert.truthy(w:fails("ADD", { pod = pod }, 7).msg:find(case[3], 1, true))
      end
      -- DEL has nothing to ask of it.
      w:del()
      t.same(before, w:picture())
    end)
  end

  it("that is near one of those is accepted", function()
    for _, conf in ipairs({ { mtu = -100 }, { mtu = 0 }, { type = "ptp", mtu = -1, bridge = false },
      { type = "tap", mtu = 0, bridge = false }, { bridge = "br0123456789abc", isGateway = true },
      { bridge = "br0123456789abc", ipam = false, isGateway = true }, { macspoofchk = false } }) do
      local w = new(conf)
      accepted(w, {}, function(result)
        if conf.mtu then assert.equal(1500, t.link(w.pods[1], "eth0").mtu) end
        assert.truthy(result)
      end)
      t.cleanup()
    end
  end)

  it("that asks for what does nothing is told so, by ADD and by validate", function()
    local w = new({})
    for key, other in pairs({ isGateway = { ipam = false }, isDefaultGateway = { ipam = false },
      ipMasq = { ipam = false }, forceAddress = {} }) do
      for _, on in ipairs({ true, false }) do
        local conf = t.merge(other, { [key] = on })
        local got = w:call("ADD", { conf = conf })
        assert.equal(0, got.rc, got.out)
        assert.equal(on, got.err:find(key .. " does nothing", 1, true) ~= nil, got.err)
        w:del({ conf = conf })
        t.write("/run/spec/net.conf", t.conf_bytes(w:config(conf)))
        local out, status = t.sh({ t.bin.ours .. "/luacni", "validate", "/run/spec/net.conf" })
        assert.equal(on and 1 or 0, status, out)
        assert.equal(on, out:find(key .. " does nothing", 1, true) ~= nil, out)
      end
    end
  end)

  it("of a version before 1.1.0 gets no pciID that is ours", function()
    t.write("/etc/luacni/plugins/card.lua", [[return { add = function(req)
      return { interfaces = { { name = req.ifname, sandbox = req.pod.sandbox, pciID = "0000:3b:00.1",
        socketPath = "/run/s" } } }
    end }]])
    t.run(("rm -rf /run/spec/cards; mkdir /run/spec/cards; ln -s %s/luacni /run/spec/cards/card"):format(t.bin.ours))
    local w = new({ type = "card", ipam = false }, { bin = "/run/spec/cards" })
    for version, has in pairs({ ["1.1.0"] = true, ["1.0.0"] = false, ["0.4.0"] = false }) do
      local c = { conf = { cniVersion = version } }
      local entry = w:add(c).interfaces[1]
      t.same({ has, has }, { entry.pciID ~= nil, entry.socketPath ~= nil })
      w:del(c)
    end
  end)
end)

describe("A key that the reference's plugins have", function()
  -- Those of a type's own, and in `ipam` of those that give addresses.
  local theirs = {
    bridge = "bridge isGateway isDefaultGateway forceAddress ipMasq ipMasqBackend mtu hairpinMode promiscMode vlan "
      .. "vlanTrunk preserveDefaultVlan macspoofchk enabledad disableContainerInterface portIsolation ipam dns args "
      .. "runtimeConfig",
    ptp = "ipMasq ipMasqBackend mtu ipam dns",
    vlan = "master vlanId mtu linkInContainer ipam dns",
    macvlan = "master mode mtu mac linkInContainer bcqueuelen ipam dns args runtimeConfig",
    ipvlan = "master mode mtu linkInContainer ipam dns",
    ["host-device"] = "device hwaddr kernelpath pciBusID runtimeConfig ipam dns",
    dummy = "ipam", tap = "multiQueue mtu mac owner group selinuxContext bridge ipam dns args runtimeConfig",
    vrf = "vrfname table", tuning = "sysctl mac promisc mtu txQLen allmulti dataDir args runtimeConfig",
    bandwidth = "ingressRate ingressBurst egressRate egressBurst shapedSubnets unshapedSubnets runtimeConfig",
    firewall = "backend iptablesAdminChainName firewalldZone ingressPolicy",
    portmap = "backend snat markMasqBit externalSetMarkChain masqAll conditionsV4 conditionsV6 runtimeConfig",
    sbr = "table gateways addSourceHints",
    ["host-local"] = "ipam.subnet ipam.rangeStart ipam.rangeEnd ipam.gateway ipam.ranges ipam.routes ipam.dataDir "
      .. "ipam.resolvConf",
    dhcp = "ipam.daemonSocketPath ipam.priority ipam.provide ipam.request",
    static = "ipam.addresses ipam.routes ipam.dns", loopback = "",
    flannel = "subnetFile dataDir delegate ipam",
    -- The reference has none of that name.
    cluster = "",
  }

  it("is one that ours know: none is passed over in silence", function()
    for path in t.run("ls plugins/*.lua"):gmatch("%S+") do
      local type_name = path:match("([^/]+)%.lua$")
      local conf = dofile(path).conf
      for key in assert(theirs[type_name], type_name):gmatch("%S+") do
        local within, own = key:match("^(ipam)%.(.*)$")
        local record = within and conf.fields.ipam or conf
        assert.truthy(record.fields[own or key], type_name .. " " .. key)
      end
      assert.is_nil(conf and conf.fields.macspoofchkk)
    end
  end)
end)

describe("IPv6 routes that the kernel has joined into one of several hops", function()
  local function dual(four, six)
    return { type = "host-local", ranges = { { { subnet = four } }, { { subnet = six } } } }
  end
  local function hops(ns, dst)
    local list = {}
    for _, route in ipairs(t.ip(ns, "-6 route show " .. dst)) do
      for _, hop in ipairs(route.nexthops or { route }) do
        list[#list + 1] = ("%s %s %d"):format(hop.dev, hop.gateway, route.metric)
      end
    end
    table.sort(list)
    return list
  end

  it("are each attachment's own: CHECK finds them, and misses one that is gone", function()
    local w = new({ isDefaultGateway = true, ipam = dual("10.1.0.0/24", "fd01::/64") })
    local second = { ifname = "net1", conf = { name = "other", bridge = "br1",
      ipam = dual("10.2.0.0/24", "fd02::/64") } }
    w:add()
    w:add(second)
    t.same({ "eth0 fd01::1 1024", "net1 fd02::1 1024" }, hops(w.pods[1], "default"))
    w:check()
    w:check(second)
    w:let_go(second)
    w:in_pod("ip -6 route del default via fd02::1 dev net1")
    w:check()
    assert.truthy(w:fails("CHECK", second).text:find("::/0 via fd02::1", 1, true))
    w:in_pod("ip -6 route append default via fd02::1 dev net1")
    w:del()
    t.same({ "net1 fd02::1 1024" }, hops(w.pods[1], "default"))
    w:check(second)
  end)

  it("go hop by hop, and by metric, when a DEL takes a route off a link that stays", function()
    t.write("/etc/luacni/plugins/way.lua", [[
      local schema = require "cni.schema"
      return { conf = schema.record { by = schema.string, gw = schema.ip, metric = schema.integer },
        add = function(req)
          local c = req.conf
          req.pod:add_route { dst = "fd77::/64", link = c.by, gw = c.gw, priority = c.metric }
          return { interfaces = {} }
        end }]])
    t.run(("rm -rf /run/spec/ways; mkdir /run/spec/ways; ln -s %s/luacni /run/spec/ways/way"):format(t.bin.ours))
    local w = new({ type = "way", ipam = false }, { bin = "/run/spec/ways" })
    w:in_pod(t.pair("a0", "a1") .. t.pair("b0", "b1") ..
      "ip -6 addr add fd01::2/64 dev a0 nodad; ip -6 addr add fd02::2/64 dev b0 nodad; " ..
      "ip -6 route add fd77::/64 via fd01::1 dev a0 metric 5")
    local one = { id = "c1", conf = { by = "a0", gw = "fd01::1" } }
    local two = { id = "c2", conf = { by = "b0", gw = "fd02::1" } }
    w:add(one)
    w:add(two)
    t.same({ "a0 fd01::1 1024", "a0 fd01::1 5", "b0 fd02::1 1024" }, hops(w.pods[1], "fd77::/64"))
    w:check(one)
    w:check(two)
    w:del(one)
    t.same({ "a0 fd01::1 5", "b0 fd02::1 1024" }, hops(w.pods[1], "fd77::/64"))
    w:check(two)
    w:del(two)
    t.same({ "a0 fd01::1 5" }, hops(w.pods[1], "fd77::/64"))
  end)
end)
