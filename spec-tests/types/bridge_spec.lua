-- SPDX-License-Identifier: MIT
-- What plugin `bridge` promises: the pod plugged into a bridge of the host, with
-- addresses, gateway, masquerade; nothing left of it after DEL or a failed ADD.

local promises = require("promises").for_spec(it)
local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local v6 = { type = "host-local", subnet = "fd01::/64" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

local with = t.merge

local function bridge(conf, opts)
  return world.new(with({ type = "bridge", bridge = "br0", removeUnused = true }, conf), opts)
end

local function port_data(link) return link.linkinfo.info_slave_data end

describe("bridge ADD", function()
  it("plugs a veth pair into the bridge, both ends up", function()
    local w = bridge({})
    w:add()
    local br, port, eth = t.link(w.host, "br0"), w:port(), t.link(w.pods[1], "eth0")
    assert.equal("bridge", br.linkinfo.info_kind)
    assert.equal("br0", port.master)
    for _, link in ipairs({ br, port, eth }) do assert.is_true(t.has_flag(link, "UP")) end
    assert.equal("UP", port.operstate)
    assert.truthy(port.ifname:find("^veth%x%x%x%x%x%x%x%x$"), port.ifname)
  end)

  it("reports the bridge, the host's end and the pod's end with their MACs", function()
    local w = bridge({ ipam = v4 })
    local result = w:add()
    local port = w:port()
    t.same({
      cniVersion = "1.1.0",
      interfaces = {
        { name = "br0", mac = t.link(w.host, "br0").address },
        { name = port.ifname, mac = port.address },
        { name = "eth0", mac = t.link(w.pods[1], "eth0").address,
          sandbox = "/run/netns/pod1" },
      },
      ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 2 } },
    }, result)
  end)

  it("makes the bridge cni0 when none is named", function()
    local w = world.new({ type = "bridge", removeUnused = true })
    w:add()
    assert.equal("bridge", t.link(w.host, "cni0").linkinfo.info_kind)
  end)

  it("gives every address of the lease to the pod", function()
    local w = bridge({ ipam = dual })
    w:add()
    t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
  end)

  it("without isGateway leaves the bridge without address and forwarding off", function()
    local w = bridge({ ipam = dual })
    w:add()
    t.same({}, world.addrs(w.host, "br0"))
    assert.equal("0", t.sysctl(w.host, "net/ipv4/ip_forward"))
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
  end)

  it("with isGateway gives the bridge the gateways and switches forwarding on", function()
    local w = bridge({ isGateway = true, ipam = dual })
    w:add()
    t.same({ "10.1.0.1/24", "fd01::1/64" }, world.addrs(w.host, "br0"))
    assert.equal("1", t.sysctl(w.host, "net/ipv4/ip_forward"))
    assert.equal("1", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
  end)

  it("switches forwarding on for the families it serves and no other", function()
    local w = bridge({ isGateway = true, ipam = v4 })
    w:add()
    assert.equal("1", t.sysctl(w.host, "net/ipv4/ip_forward"))
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
  end)

  it("with isDefaultGateway adds one default route a family", function()
    local w = bridge({ isDefaultGateway = true, ipam = dual })
    local result = w:add()
    t.same({ { dst = "0.0.0.0/0", gw = "10.1.0.1" }, { dst = "::/0", gw = "fd01::1" } },
      result.routes)
    assert.equal("10.1.0.1", t.ip(w.pods[1], "route show default")[1].gateway)
    assert.equal("fd01::1", t.ip(w.pods[1], "-6 route show default")[1].gateway)
  end)

  it("with isGateway alone adds no default route", function()
    local w = bridge({ isGateway = true, ipam = dual })
    assert.is_nil(w:add().routes)
    t.same({}, t.ip(w.pods[1], "route show default"))
    t.same({}, t.ip(w.pods[1], "-6 route show default"))
  end)

  it("makes one default route of isDefaultGateway and an IPAM route without gw", function()
    local w = bridge({ isDefaultGateway = true,
      ipam = with(v4, { routes = { { dst = "0.0.0.0/0" } } }) })
    w:add()
    local routes = t.ip(w.pods[1], "route show default")
    assert.equal(1, #routes)
    assert.equal("10.1.0.1", routes[1].gateway)
  end)

  it("keeps the default route that IPAM gives", function()
    local w = bridge({ isDefaultGateway = true,
      ipam = with(v4, { routes = { { dst = "0.0.0.0/0", gw = "10.1.0.9" } } }) })
    w:add()
    local routes = t.ip(w.pods[1], "route show default")
    assert.equal(1, #routes)
    assert.equal("10.1.0.9", routes[1].gateway)
  end)

  it("applies mtu, priority, table and scope of a route", function()
    local w = bridge({ isGateway = true, ipam = with(v4, { routes = {
      { dst = "10.5.0.0/16", mtu = 1300, advmss = 1200, priority = 77 },
      { dst = "10.6.0.0/16", table = 500 },
      { dst = "10.7.0.0/16", gw = "10.1.0.9", table = 0 } } }) })
    w:add()
    local main = t.ip(w.pods[1], "-d route show 10.5.0.0/16")[1]
    assert.equal(77, main.metric)
    assert.equal(1300, main.metrics[1].mtu)
    assert.equal(1200, main.metrics[1].advmss)
    assert.equal(1, #t.ip(w.pods[1], "route show table 500"))
    assert.equal("10.1.0.9", t.ip(w.pods[1], "route show 10.7.0.0/16")[1].gateway)
    w:check()
  end)

  it("serves two IPv4 subnets as their gateway, and all of it goes again", function()
    local w = bridge({ isGateway = true, ipam = { type = "host-local", ranges = {
      { { subnet = "10.1.0.0/24" } }, { { subnet = "10.2.0.0/24" } } } } },
      { forwarding = true })
    local before = w:picture()
    w:add()
    t.same({ "10.1.0.1/24", "10.2.0.1/24" }, world.addrs(w.host, "br0"))
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    assert.is_true(t.ping(w.pods[1], "10.2.0.1"))
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("uses the MTU for the bridge it makes and both ends", function()
    local w = bridge({ mtu = 1400 })
    w:add()
    assert.equal(1400, t.link(w.host, "br0").mtu)
    assert.equal(1400, w:port().mtu)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
  end)

  it("takes a mtu of zero for none", function()
    local w = bridge({ mtu = 0 })
    w:add()
    assert.equal(1500, t.link(w.pods[1], "eth0").mtu)
  end)

  it("locks links down: accept_ra off on bridge and host end, arp_notify on", function()
    local w = bridge({ isGateway = true, ipam = dual })
    w:add()
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/br0/accept_ra"))
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/" .. w:port().ifname .. "/accept_ra"))
    assert.equal("1", t.sysctl(w.pods[1], "net/ipv4/conf/eth0/arp_notify"))
    assert.equal("1", t.sysctl(w.pods[1], "net/ipv6/conf/eth0/keep_addr_on_down"))
  end)

  it("switches duplicate address detection off", function()
    local w = bridge({ ipam = v6 })
    w:add()
    assert.equal("0", t.sysctl(w.pods[1], "net/ipv6/conf/eth0/accept_dad"))
  end)

  it("leaves duplicate address detection on with enabledad, and waits for it", function()
    local w = bridge({ enabledad = true, isGateway = true, ipam = v6 })
    w:add()
    assert.equal("1", t.sysctl(w.pods[1], "net/ipv6/conf/eth0/accept_dad"))
    for _, link in ipairs(t.ip(w.pods[1], "addr show dev eth0")) do
      for _, a in ipairs(link.addr_info) do assert.is_nil(a.tentative, a["local"]) end
    end
  end)

  it("enables IPv6 in a pod where it is off", function()
    local w = bridge({ ipam = v6 })
    w:in_pod("for c in default lo; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done")
    w:add()
    t.same({ "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
  end)
end)

describe("bridge port options:", function()
  it("none are set when none are asked for", function()
    local w = bridge({})
    w:add()
    local data = port_data(w:port())
    assert.is_false(data.hairpin)
    assert.is_false(data.isolated)
    assert.is_false(t.has_flag(t.link(w.host, "br0"), "PROMISC"))
  end)

  it("hairpinMode", function()
    local w = bridge({ hairpinMode = true })
    w:add()
    assert.is_true(port_data(w:port()).hairpin)
    assert.is_false(port_data(w:port()).isolated)
  end)

  it("portIsolation keeps pods apart, not from the gateway", function()
    local w = bridge({ portIsolation = true, isGateway = true, ipam = v4 }, { pods = 2 })
    w:add()
    w:add({ id = "c2", pod = 2 })
    assert.is_true(port_data(w:port()).isolated)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    assert.is_false(t.ping(w.pods[1], "10.1.0.3"))
  end)

  it("without portIsolation pods reach each other", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { pods = 2, accepts = { "br0" } })
    w:add()
    w:add({ id = "c2", pod = 2 })
    assert.is_true(t.ping(w.pods[1], "10.1.0.3"))
  end)

  it("promiscMode", function()
    local w = bridge({ promiscMode = true })
    w:add()
    assert.is_true(t.has_flag(t.link(w.host, "br0"), "PROMISC"))
    w:check()
  end)

  it("disableContainerInterface leaves the pod's end down", function()
    local w = bridge({ disableContainerInterface = true })
    w:add()
    assert.is_false(t.has_flag(t.link(w.pods[1], "eth0"), "UP"))
    w:check()
  end)

  it("vlan and vlanTrunk", function()
    t.needs("bridge-vlan")
    local w = bridge({ vlan = 100, vlanTrunk = { { minID = 200, maxID = 202 }, { id = 300 } } })
    w:add()
    local vids = {}
    for _, entry in ipairs(t.bridge(w.host, "vlan show dev " .. w:port().ifname)[1].vlans) do
      for vid = entry.vlan, entry.vlanEnd or entry.vlan do vids[#vids + 1] = vid end
    end
    t.same({ 100, 200, 201, 202, 300 }, vids)
  end)

  it("preserveDefaultVlan keeps VLAN 1, its absence removes it", function()
    t.needs("bridge-vlan")
    for keep, count in pairs({ [true] = 2, [false] = 1 }) do
      local w = bridge({ vlan = 100, preserveDefaultVlan = keep })
      w:add()
      assert.equal(count,
        #t.bridge(w.host, "vlan show dev " .. w:port().ifname)[1].vlans)
      w:del()
      t.cleanup()
    end
  end)
end)

describe("bridge MAC", function()
  local mac_of = promises.mac(bridge, { interface = 3 })

  it("may be written in other ways", function()
    assert.equal("0a:00:00:00:00:01", mac_of({ runtimeConfig = { mac = "0A-00-00-00-00-01" } }))
  end)
  it("that is none is refused before anything is made", function()
    local w = bridge({ runtimeConfig = { mac = "zz:00" } })
    local before = w:picture()
    w:fails("ADD", nil, 7)
    t.same(before, w:picture())
  end)

  it("of the bridge stays when a port with a lower one joins and leaves", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { pods = 2 })
    w:add()
    local mac = t.link(w.host, "br0").address
    w:sh("ip link add low address 00:00:00:00:00:01 type veth peer name low2; " ..
      "ip link set low master br0; ip link set low up")
    assert.equal(mac, t.link(w.host, "br0").address)
    w:sh("ip link del low")
    w:add({ id = "c2", pod = 2 })
    assert.equal(mac, t.link(w.host, "br0").address)
    w:check()
  end)

  it("of a bridge that had lost its last port is no obstacle", function()
    local w = bridge({ isGateway = true, ipam = v4 })
    w:sh("ip link add br0 type bridge; ip link add v0 type veth peer name v1; " ..
      "ip link set v0 master br0; ip link del v0")
    local result = w:add()
    assert.truthy(t.ping(w.pods[1], "10.1.0.1"))
    assert.equal(t.link(w.host, "br0").address, result.interfaces[1].mac)
    assert.not_equal("00:00:00:00:00:00", result.interfaces[1].mac)
  end)
end)

describe("bridge on what is there already:", function()
  it("an existing bridge is used, kept as it was, and not removed", function()
    local w = bridge({ mtu = 1300, isGateway = true, ipam = v4 }, { forwarding = true })
    w:sh("ip link add br0 address 0a:00:00:00:00:b0 type bridge; " ..
      "ip link set br0 mtu 1450 up; " ..
      "ip link add stay type veth peer name stay2; ip link set stay master br0 up; " ..
      "ip link set stay2 up; for i in $(seq 50); do " ..
      "ip -6 addr show dev br0 | grep -q fe80 && break; sleep 0.1; done")
    local before = w:picture()
    w:add()
    assert.equal(1450, t.link(w.host, "br0").mtu)
    w:del()
    t.same(before, w:picture())
  end)

  it("a bridge it made goes with the last attachment, no sooner", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { pods = 2 })
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:del()
    assert.truthy(t.link(w.host, "br0"))
    assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
    w:del({ id = "c2", pod = 2 })
    assert.is_nil(t.link(w.host, "br0"))
  end)

  it("a bridge that somebody plugged a port of his own into stays", function()
    local w = bridge({})
    w:add()
    w:sh("ip link add mine type veth peer name mine2; ip link set mine master br0")
    w:del()
    assert.truthy(t.link(w.host, "br0"))
    assert.equal("br0", t.link(w.host, "mine").master)
  end)

  it("two networks on one bridge each take their gateway along", function()
    local w = bridge({ isGateway = true, ipam = v6 }, { pods = 2 })
    local other = { name = "other", ipam = { type = "host-local", subnet = "fd02::/64" } }
    w:add()
    w:add({ id = "c2", pod = 2, conf = other })
    t.same({ "fd01::1/64", "fd02::1/64" }, world.addrs(w.host, "br0"))
    w:del({ id = "c2", pod = 2, conf = other })
    t.same({ "fd01::1/64" }, world.addrs(w.host, "br0"))
    w:del()
    assert.is_nil(t.link(w.host, "br0"))
  end)

  it("a link of the name that is no bridge is an error and is left alone", function()
    local w = bridge({})
    w:sh("ip link add br0 type veth peer name other")
    local before = w:picture()
    local e = w:fails("ADD")
    assert.truthy(e.text:find("br0", 1, true), e.text)
    t.same(before, w:picture())
  end)

  it("an overlapping address of somebody else's is an error that names both", function()
    for _, theirs in ipairs({ "10.1.0.77/24", "10.1.0.1/16" }) do
      local w = bridge({ isGateway = true, ipam = v4 })
      w:sh(("ip link add br0 address 0a:00:00:00:00:b0 type bridge; " ..
        "ip addr add %s dev br0; ip link set br0 up"):format(theirs))
      local before = w:picture()
      local e = w:fails("ADD")
      assert.truthy(e.text:find(theirs, 1, true), e.text)
      assert.truthy(e.text:find("10.1.0.1/24", 1, true), e.text)
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("an address of somebody else's in another subnet stays beside its own", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { forwarding = true })
    w:sh("ip link add br0 type bridge; ip addr add 10.99.0.1/24 dev br0; ip link set br0 up")
    w:add()
    t.same({ "10.1.0.1/24", "10.99.0.1/24" }, world.addrs(w.host, "br0"))
    w:del()
    t.same({ "10.99.0.1/24" }, world.addrs(w.host, "br0"))
  end)

  it("forceAddress replaces addresses in the way", function()
    for _, theirs in ipairs({ "10.1.0.77/24", "10.99.0.1/24" }) do
      local w = bridge({ isGateway = true, forceAddress = true, ipam = v4 })
      w:sh(("ip link add br0 type bridge; ip addr add %s dev br0; ip link set br0 up")
        :format(theirs))
      w:add()
      t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
      t.cleanup()
    end
  end)

  it("forceAddress does not take the gateway of another network", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { pods = 2 })
    w:add()
    w:call("ADD", { id = "c2", pod = 2, conf = { name = "other", forceAddress = true,
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } } })
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:check()
  end)

  it("the interface name taken in the pod is an error and that link is left alone", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { forwarding = true })
    w:in_pod("ip link add eth0 type veth peer name other")
    local before = w:picture()
    w:fails("ADD")
    t.same(before, w:picture())
  end)
end)

describe("bridge ADD that fails leaves nothing behind:", function()
  local function clean(name, conf, call, code, prepare)
    it(name, function()
      local w = bridge(conf, { forwarding = true })
      if prepare then prepare(w) end
      local before = w:picture()
      w:fails("ADD", call, code)
      t.same(before, w:picture())
      -- The DEL that a runtime sends after a failed ADD; an IPAM plugin that is not
      -- there cannot be asked for it.
      if conf.ipam == nil or conf.ipam.type ~= "nowhere" then
        w:del(call and { id = call.id, args = call.args })
      end
    end)
  end

  clean("hairpinMode with promiscMode", { hairpinMode = true, promiscMode = true }, nil, 7)
  clean("vlan out of range", { vlan = 4095 }, nil, 7)
  clean("negative vlan", { vlan = -1 }, nil, 7)
  clean("a trunk from high to low", { vlanTrunk = { { minID = 9, maxID = 3 } } }, nil, 7)
  clean("a trunk with half a range", { vlanTrunk = { { minID = 9 } } }, nil, 7)
  clean("null in a list", { vlanTrunk = { t.null } })
  clean("an empty bridge name", { bridge = "" }, nil, 7)
  clean("a bridge name that is a path", { bridge = "../x" }, nil, 7)
  clean("a mtu of the wrong type", { mtu = "1400" }, nil, 7)
  clean("a mtu beyond reason", { mtu = 1000000 })
  clean("IPAM with disableContainerInterface", { disableContainerInterface = true,
    ipam = v4 }, nil, 7)
  clean("a masquerade backend that is none", { ipMasq = true, ipMasqBackend = "pf",
    ipam = v4 }, nil, 7)
  clean("a namespace that is not there", { isGateway = true, ipam = v4 },
    { pod = "/run/netns/nowhere" })
  clean("a namespace path that is a file", { isGateway = true, ipam = v4 },
    { pod = "/etc/hosts" })
  clean("an IPAM plugin that is not there", { ipam = { type = "nowhere" } })
  clean("a subnet with host bits", { isGateway = true,
    ipam = { type = "host-local", subnet = "10.1.0.7/24" } }, nil, 7)
  clean("a route whose gateway is out of reach", { isDefaultGateway = true, ipMasq = true,
    ipam = with(dual, { routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) })
  clean("layer 2 in a version that cannot say so", { cniVersion = "0.2.0" })
  clean("unknown CNI_ARGS", { isGateway = true, ipam = v4 }, { args = "FOO=1" })
  clean("a full pool", { isGateway = true, ipMasq = true, ipam = { type = "host-local",
    ranges = { { { subnet = "fd01::/64" } },
    { { subnet = "10.1.0.0/24", rangeStart = "10.1.0.9", rangeEnd = "10.1.0.9" } } } } },
    { id = "c9" }, nil, function()
      t.write(t.lease_dir .. "/net/10.1.0.9", "other\r\neth0")
    end)

  it("its own namespace as the pod: one error object, code 8", function()
    local w = bridge({ isGateway = true, ipam = v4 }, { forwarding = true })
    local before = w:picture()
    w:fails("ADD", { pod = "/run/netns/host" }, 8)
    t.same(before, w:picture())
  end)
end)

describe("bridge DEL", function()
  local full = { isDefaultGateway = true, ipMasq = true, ipam = dual }

  local function deleted(name, prepare, call)
    it("takes everything back " .. name, function()
      local w = bridge(full, { forwarding = true })
      local before = w:picture()
      w:add()
      if prepare then prepare(w, before) end
      w:del(call)
      w:del(call)
      if w.pods[1] then
        t.same(before, w:picture())
      else
        before.kernel.pod1 = nil
        t.same(before, w:picture())
      end
    end)
  end

  deleted("")
  deleted("without prevResult", nil, { prev = false })
  deleted("without CNI_NETNS", nil, { pod = false })
  deleted("with an empty CNI_NETNS", nil, { pod = "" })
  deleted("without CNI_NETNS and prevResult", nil, { pod = false, prev = false })
  deleted("when the interface is gone", function(w) w:in_pod("ip link del eth0") end)
  deleted("when the host's end is gone", function(w)
    w:sh("ip link del " .. w:port().ifname)
  end)
  deleted("when the bridge is gone", function(w) w:sh("ip link del br0") end)
  deleted("when the rules are flushed", function(w, before) w:lose_rules(before) end)
  deleted("when the lease is gone", function()
    t.run("rm " .. t.lease_dir .. "/net/10.1.0.2")
  end)
  deleted("when the configuration lost its details", nil, { conf = { ipMasq = false,
    ipam = false, isDefaultGateway = false, bridge = false } })
  deleted("when the interface was renamed", function(w)
    w:in_pod("ip link set eth0 down; ip link set eth0 name eth7")
  end)
  deleted("when the namespace is gone", function(w)
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
  end, { pod = "/run/netns/pod1" })
  deleted("when the namespace path became an ordinary file", function(w)
    t.remove_netns(w.pods[1])
    t.write("/run/netns/pod1", "")
    w.pods[1] = nil
  end, { pod = "/run/netns/pod1" })

  it("of what never was is content", function()
    local w = bridge(full, { forwarding = true })
    local before = w:picture()
    w:del()
    w:del({ pod = false })
    t.same(before, w:picture())
  end)

  it("of one container leaves the other's everything", function()
    local w = bridge(full, { pods = 2, far = true })
    w:add({ id = "c2", pod = 2 })
    local before = w:picture()
    w:add()
    w:del()
    t.same(before, w:picture())
    w:check({ id = "c2", pod = 2 })
    assert.equal("192.0.2.1", t.tcp_source(w.pods[2], w.far, "192.0.2.2"))
  end)

  it("of one interface leaves the other interface of the container", function()
    local w = bridge({ isGateway = true, ipMasq = true, ipam = dual })
    w:add()
    local before = w:picture()
    w:add({ ifname = "net1" })
    w:del({ ifname = "net1" })
    t.same(before, w:picture())
    w:check()
  end)

  it("of a network leaves the attachment of the same name to another network", function()
    local w = bridge({ isGateway = true, ipMasq = true, ipam = v4 })
    local other = { name = "other", bridge = "br1", ipam = { type = "host-local",
      subnet = "10.2.0.0/24" } }
    w:add()
    local before = w:picture()
    w:add({ ifname = "net1", conf = other })
    w:del({ ifname = "net1", conf = other })
    t.same(before, w:picture())
    w:check()
  end)

  it("takes an attachment down that the reference made", function()
    t.needs("reference")
    local w = world.new({ cniVersion = "1.0.0", type = "bridge", bridge = "br0", removeUnused = true,
      isGateway = true, ipam = v4 })
    w:add({ bin = "reference" })
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
  end)

  it("leaves addresses that the reference can take over, and the reverse", function()
    t.needs("reference")
    local w = world.new({ cniVersion = "1.0.0", type = "bridge", bridge = "br0", removeUnused = true,
      isGateway = true, ipam = v4 })
    w:add()
    w:check({ bin = "reference" })
    w:del({ bin = "reference" })
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
    w:del()
    w:add()
    w:check()
  end)
end)

describe("bridge STATUS", function()
  it("is silent when an ADD can be served", function()
    bridge({ ipam = v4 }):ok("STATUS")
  end)
  it("without IPAM is silent", function() bridge({}):ok("STATUS") end)
  it("gives code 50 when the pool is empty", function()
    local w = bridge({ ipam = with(v4, { rangeStart = "10.1.0.5", rangeEnd = "10.1.0.5" }) })
    w:ok("STATUS")
    w:add()
    w:fails("STATUS", nil, 50)
    w:del()
    w:ok("STATUS")
  end)
  it("changes nothing", function()
    local w = bridge({ ipam = v4, isGateway = true })
    local before = w:picture()
    w:ok("STATUS")
    t.same(before, w:picture())
  end)
  it("needs version 1.1.0", function()
    bridge({ ipam = v4, cniVersion = "1.0.0" }):fails("STATUS", nil, 1)
  end)
end)
