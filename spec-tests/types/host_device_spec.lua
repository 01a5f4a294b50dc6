-- SPDX-License-Identifier: MIT
-- What plugin `host-device` promises: a device of the host lent to the pod, and returned
-- under its old name and as it was, wherever it is by then and whatever it is called.

local promises = require("promises").for_spec(it)
local t = require "support"
local world = require "world"

local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local mac1, mac2 = "0a:00:00:00:00:d1", "0a:00:00:00:00:d2"

local with = t.merge

-- A world whose host has the links dev1 and dev2, up unless opts.down; their other ends are end1
-- and end2.
local function lender(conf, opts)
  conf = with({ type = "host-device", device = "dev1" }, conf)
  conf.device = conf.device or nil
  local w = world.new(conf, with({ forwarding = true }, opts))
  -- Without addresses of its own: what a link has of IPv6 does not survive a move.
  for _, ns in ipairs { w.host, table.unpack(w.pods) } do
    t.run("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode", { host = ns })
  end
  for n, mac in ipairs { mac1, mac2 } do
    w:sh((("ip link add dev@ address %s type veth peer name end@; ip link set dev@ %s; " ..
      "ip link set end@ up"):format(mac, opts and opts.down and "down" or "up"):gsub("@", n)))
  end
  return w
end

-- --- sysfs as it would be with such devices -----------------------------------------

local mounted = {}

-- devices: "pci/ID" or "auxiliary/ID" -> { net = NAME, or links = folder of such names, virtio = NAME,
-- driver = NAME }
local function sysfs(devices)
  for _, dir in ipairs { "/sys/bus", "/sys/devices" } do
    t.run { "mount", "-t", "tmpfs", "fake", dir }
    mounted[#mounted + 1] = dir
  end
  t.run "mkdir -p /sys/bus/pci/devices /sys/bus/pci/drivers /sys/bus/auxiliary/devices"
  for place, device in pairs(devices) do
    local bus, id = place:match("^(.-)/(.*)$")
    local path = "/sys/devices/there/" .. id
    t.run { "mkdir", "-p", path, "/sys/bus/pci/drivers/" .. (device.driver or "none") }
    if device.net then t.run { "mkdir", "-p", path .. "/net/" .. device.net } end
    if device.links then t.run { "ln", "-s", device.links, path .. "/net" } end
    if device.virtio then
      t.run { "mkdir", "-p", path .. "/virtio3/net/" .. device.virtio, path .. "/msi_irqs" }
    end
    if device.driver then
      t.run { "ln", "-s", "../../../bus/pci/drivers/" .. device.driver, path .. "/driver" }
    end
    t.run { "ln", "-s", "../../../devices/there/" .. id, "/sys/bus/" .. bus .. "/devices/" .. id }
  end
end

after_each(function()
  for i = #mounted, 1, -1 do
    t.run { "umount", mounted[i] }
    mounted[i] = nil
  end
end)

-- ------------------------------------------------------------------------------------

describe("host-device ADD", function()
  it("moves the device, renamed and up; the alias is its old name", function()
    local w = lender()
    local index = t.link(w.host, "dev1").ifindex
    w:add()
    local eth = t.link(w.pods[1], "eth0")
    assert.is_nil(t.link(w.host, "dev1"))
    assert.equal(mac1, eth.address)
    assert.equal("dev1", eth.ifalias)
    assert.is_true(t.has_flag(eth, "UP"))
    assert.equal(index, t.link(w.pods[1], "eth0").ifindex)
    assert.truthy(t.link(w.host, "dev2"))
    w:check()
  end)

  it("works without ipam: link up, no addresses", function()
    local w = lender()
    local result = w:add()
    t.same({ cniVersion = "1.1.0",
      interfaces = { { name = "eth0", mac = mac1, sandbox = w.pods[1].path } } }, result)
    t.same({}, world.addrs(w.pods[1], "eth0"))
  end)

  it("gives it addresses and routes that work", function()
    local w = lender({ ipam = with(dual, { routes = { { dst = "0.0.0.0/0" } } }) })
    w:sh("ip addr add 10.1.0.1/24 dev end1; ip -6 addr add fd01::1/64 dev end1 nodad")
    w:add()
    t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
    assert.equal("10.1.0.1", t.ip(w.pods[1], "route show default")[1].gateway)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    assert.is_true(t.ping(w.pods[1], "fd01::1"))
    w:check()
  end)

  it("keeps the alias of the device for its return", function()
    local w = lender()
    w:sh("ip link set dev1 alias 'uplink 7'")
    local before = w:picture()
    w:add()
    assert.equal("dev1", t.link(w.pods[1], "eth0").ifalias)
    w:del()
    assert.equal("uplink 7", t.link(w.host, "dev1").ifalias)
    t.same(before, w:picture())
  end)

  it("gives the result the dns of the configuration", function()
    local dns = { nameservers = { "10.1.0.53" } }
    t.same(dns, lender({ ipam = dual, dns = dns }):add().dns)
  end)

  it("may be of a name that the pod keeps", function()
    local w = lender()
    local before = w:picture()
    w:add({ ifname = "dev1" })
    assert.equal("dev1", t.link(w.pods[1], "dev1").ifalias)
    w:check({ ifname = "dev1" })
    w:del({ ifname = "dev1" })
    t.same(before, w:picture())
  end)
end)

describe("host-device finds the device", function()
  local pci, aux = "0000:3b:00.1", "mlx5_core.sf.4"

  -- Which of the two was lent.
  local function lent(w, c)
    local result = w:add(c)
    local mac = t.link(w.pods[1], "eth0").address
    w:check(c)
    w:del(c)
    assert.is_true(t.link(w.host, "dev1") ~= nil and t.link(w.host, "dev2") ~= nil)
    return mac == mac1 and "dev1" or mac == mac2 and "dev2", result
  end

  it("by its name", function()
    assert.equal("dev2", lent(lender({ device = "dev2" })))
  end)

  it("by its MAC, in any spelling", function()
    assert.equal("dev2", lent(lender({ device = false, hwaddr = mac2 })))
    t.cleanup()
    assert.equal("dev2", lent(lender({ device = false, hwaddr = "0A-00-00-00-00-D2" })))
  end)

  it("by its path in sysfs", function()
    sysfs({ ["pci/" .. pci] = { net = "dev2" } })
    assert.equal("dev2", lent(lender({ device = false,
      kernelpath = "/sys/devices/there/" .. pci })))
  end)

  it("by its PCI address, and the result says so", function()
    sysfs({ ["pci/" .. pci] = { net = "dev2", driver = "ixgbe" } })
    local name, result = lent(lender({ device = false, pciBusID = pci }))
    assert.equal("dev2", name)
    assert.equal(pci, result.interfaces[1].pciID)
    assert.equal(mac2, result.interfaces[1].mac)
  end)

  it("by its PCI address, as a virtio device", function()
    sysfs({ ["pci/" .. pci] = { virtio = "dev2", driver = "virtio-pci" } })
    assert.equal("dev2", lent(lender({ device = false, pciBusID = pci })))
  end)

  it("by runtimeConfig.deviceID, PCI", function()
    sysfs({ ["pci/" .. pci] = { net = "dev2", driver = "ixgbe" } })
    local name, result = lent(lender({ device = false, runtimeConfig = { deviceID = pci },
      capabilities = { deviceID = true } }))
    assert.equal("dev2", name)
    assert.equal(pci, result.interfaces[1].pciID)
  end)

  it("by runtimeConfig.deviceID, auxiliary", function()
    sysfs({ ["auxiliary/" .. aux] = { net = "dev2" } })
    local name, result = lent(lender({ device = false, runtimeConfig = { deviceID = aux } }))
    assert.equal("dev2", name)
    assert.is_nil(result.interfaces[1].pciID)
  end)

  it("by the first that is given: device, hwaddr, kernelpath, PCI", function()
    sysfs({ ["pci/" .. pci] = { net = "dev2", driver = "ixgbe" },
      ["pci/0000:01:00.0"] = { net = "dev1", driver = "ixgbe" } })
    local first = "/sys/devices/there/0000:01:00.0"
    local function given(name, more)
      assert.equal(name, (lent(lender(with({ device = false }, more)))))
      t.cleanup()
    end
    given("dev1", { device = "dev1", hwaddr = mac2, pciBusID = pci })
    given("dev1", { hwaddr = mac1, kernelpath = "/sys/devices/there/" .. pci })
    given("dev1", { kernelpath = first, pciBusID = pci })
    given("dev1", { device = "dev1", runtimeConfig = { deviceID = pci } })
    given("dev1", { pciBusID = pci, runtimeConfig = { deviceID = "0000:01:00.0" } })
  end)

  it("takes empty texts for none", function()
    assert.equal("dev2", lent(lender({ device = "", hwaddr = mac2, kernelpath = "",
      pciBusID = "" })))
  end)
end)

describe("host-device with a driver for programs (DPDK)", function()
  local pci = "0000:3b:00.1"

  for _, driver in ipairs { "vfio-pci", "uio_pci_generic", "igb_uio" } do
    it(driver .. ": gives addresses, touches no link, reports no MAC", function()
      sysfs({ ["pci/" .. pci] = { driver = driver } })
      local w = lender({ device = false, pciBusID = pci, ipam = dual })
      local before = w:picture()
      local result = w:add()
      t.same({
        cniVersion = "1.1.0",
        interfaces = { { name = "eth0", sandbox = w.pods[1].path, pciID = pci } },
        ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 },
          { address = "fd01::2/64", gateway = "fd01::1", interface = 0 } },
      }, result)
      t.same(before.kernel, w:picture().kernel)
      assert.truthy(world.lease("10.1.0.2"))
      w:check()
      w:del()
      w:del()
      t.same(before, w:picture())
    end)
  end

  it("CHECK notices that the lease is gone", function()
    sysfs({ ["pci/" .. pci] = { driver = "vfio-pci" } })
    local w = lender({ device = false, pciBusID = pci, ipam = dual })
    w:add()
    t.run("rm " .. t.lease_dir .. "/net/10.1.0.2")
    assert.truthy(w:fails("CHECK").text:find("10.1.0.2", 1, true))
  end)

  it("another driver's device is lent", function()
    sysfs({ ["pci/" .. pci] = { net = "dev2", driver = "vfio-pci-like" } })
    local w = lender({ device = false, pciBusID = pci })
    w:add()
    assert.equal(mac2, t.link(w.pods[1], "eth0").address)
  end)
end)

describe("host-device DEL", function()
  promises.del(function() return lender({ ipam = dual }) end, { more = {
    { "when it was renamed in the pod", nil, function(w)
      w:in_pod("ip link set eth0 down; ip link set eth0 name eth7")
    end },
    { "when its name in the pod was given to another for a while", nil, function(w)
      w:in_pod("ip link set eth0 down; ip link set eth0 name eth7; " ..
        "ip link add eth0 type bridge; ip link del eth0")
    end },
    { "when it was changed in the pod", nil, function(w)
      w:in_pod("ip link set eth0 down; ip link set eth0 mtu 1300 address 0a:00:00:00:00:77")
    end },
    { "when it got another alias in the pod", nil, function(w)
      w:in_pod("ip link set eth0 down; ip link set eth0 name eth7 alias mine")
    end },
  }, spared = { ["without its record"] = true, ["when the namespace is gone"] = true } })

  it("returns the device up when it was up, down when it was down", function()
    for _, was in ipairs { "up", "down" } do
      local w = lender(nil, { down = was == "down" })
      local before = w:picture()
      w:add()
      assert.is_true(t.has_flag(t.link(w.pods[1], "eth0"), "UP"))
      w:del()
      assert.equal(was == "up", t.has_flag(t.link(w.host, "dev1"), "UP"))
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("returns the device though it cannot have its MTU any more, and says so", function()
    t.needs "macvlan"
    local w = lender({ device = "m0" })
    w:sh "ip link add m0 address 0a:00:00:00:00:0d link dev1 type macvlan; ip link set m0 up"
    local before = w:picture()
    w:add()
    -- What stands on a link gets a lower MTU with it, and a higher one not.
    w:sh "ip link set dev1 mtu 1450"
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    local got = w:call("DEL")
    assert.equal(0, got.rc, got.out)
    assert.matches("return m0 to the host: mtu 1500: ", got.err, 1, true)
    t.same({ 1450, true }, { t.link(w.host, "m0").mtu, t.has_flag(t.link(w.host, "m0"), "UP") })
    w:sh "ip link set dev1 mtu 1500; ip link set m0 mtu 1500"
    t.same(before, w:picture())
    -- And where it can, not a word.
    w:add()
    got = w:call("DEL")
    t.same({ 0, "" }, { got.rc, got.err })
    t.same(before, w:picture())
  end)

  it("leaves a link that took its place in the pod", function()
    local w = lender()
    w:add()
    w:in_pod("ip link set eth0 down; ip link set eth0 name eth7; " ..
      "ip link add eth0 type veth peer name x")
    w:del()
    assert.equal(mac1, t.link(w.host, "dev1").address)
    assert.truthy(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.link(w.pods[1], "eth7"))
  end)

  it("without a record returns it by its alias, its own alias lost", function()
    local w = lender()
    w:add()
    t.run("rm -rf /run/luacni")
    w:del({ prev = false })
    assert.equal(mac1, t.link(w.host, "dev1").address)
    assert.is_nil(t.link(w.host, "dev1").ifalias)
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)

  it("without a record and alias leaves the link where it is", function()
    local w = lender()
    w:in_pod("ip link add eth0 type veth peer name other")
    local before = w:picture()
    w:del()
    t.same(before, w:picture())
  end)

  it("returns the device that the reference has lent", function()
    t.needs("reference")
    local w = lender({ cniVersion = "1.0.0", ipam = dual })
    w:add({ bin = "reference" })
    assert.equal("dev1", t.link(w.pods[1], "eth0").ifalias)
    w:del()
    assert.equal(mac1, t.link(w.host, "dev1").address)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    t.same({}, w:picture().leases)
  end)

  it("leaves what the reference can return", function()
    t.needs("reference")
    local w = lender({ cniVersion = "1.0.0", ipam = dual })
    w:add()
    w:check({ bin = "reference" })
    w:del({ bin = "reference" })
    assert.equal(mac1, t.link(w.host, "dev1").address)
    t.same({}, w:picture().leases)
  end)

  it("says so when its name is taken in the host, and returns it when that is mended", function()
    local w = lender({ ipam = dual })
    local before = w:picture()
    w:add()
    w:sh("ip link add dev1 type veth peer name other")
    local e = w:fails("DEL")
    assert.truthy(e.text:find("dev1", 1, true), e.text)
    assert.truthy(e.text:find("another link", 1, true), e.text)
    assert.equal(mac1, t.link(w.pods[1], "eth0").address)
    assert.not_equal(mac1, t.link(w.host, "dev1").address)
    w:sh("ip link del dev1")
    w:del()
    t.same(before, w:picture())
  end)

  it("needs neither the device of the configuration nor sysfs", function()
    local pci = "0000:3b:00.1"
    sysfs({ ["pci/" .. pci] = { net = "dev2", driver = "ixgbe" } })
    local w = lender({ device = false, pciBusID = pci })
    local before = w:picture()
    w:add()
    t.run { "rm", "-r", "/sys/devices/there", "/sys/bus/pci" }
    w:del()
    t.same(before, w:picture())
  end)

  it("is content when the namespace took a virtual link with it", function()
    local w = lender()
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del({ pod = "/run/netns/pod1" })
    assert.is_nil(t.link(w.host, "dev1"))
    w:del({ pod = "/run/netns/pod1" })
    t.same({}, w:picture().records)
  end)

  it("takes no other link of the host for it that has its MAC", function()
    local w = lender()
    w:sh("ip link set dev2 address " .. mac1)
    w:add()
    local kept = t.link(w.host, "dev2")
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del({ pod = "/run/netns/pod1" })
    assert.is_nil(t.link(w.host, "dev1"))
    t.same(kept, t.link(w.host, "dev2"))
  end)

  it("takes no other link of the pod for it that has its MAC", function()
    local w = lender()
    w:sh("ip link set dev2 address " .. mac1)
    w:add()
    local second = { ifname = "net1", conf = { name = "other", device = "dev2" } }
    w:add(second)
    w:in_pod("ip link set eth0 down; ip link set eth0 name eth7 alias mine")
    w:del()
    assert.is_nil(t.link(w.host, "dev1"))
    assert.equal("dev2", t.link(w.pods[1], "net1").ifalias)
    w:del(second)
    assert.equal(mac1, t.link(w.host, "dev2").address)
  end)
end)

describe("host-device brings back", function()
  local things = [[
    ip addr add 192.0.2.5/24 broadcast 192.0.2.255 dev dev1
    ip addr add 192.0.2.6/24 dev dev1 label dev1:second
    ip addr add 198.18.0.1 peer 198.18.0.2/32 dev dev1
    ip -6 addr add 2001:db8:7::5/64 dev dev1 nodad
    ip addr add 192.0.2.77/32 dev dev1 valid_lft 500 preferred_lft 500
    ip route add 198.51.100.0/24 via 192.0.2.1 dev dev1 metric 50 mtu 1400
    ip route add default via 192.0.2.1 dev dev1
    ip route add 203.0.113.0/24 dev dev1 table 77
    ip -6 route add 2001:db8:8::/64 via 2001:db8:7::1 dev dev1
    ip -6 route add default via 2001:db8:7::1 dev dev1 metric 30 ]]

  local function furnished()
    local w = lender({ ipam = dual }, { pods = 2 })
    w:sh(things)
    local before = w:picture()
    w:sh("ip addr del 192.0.2.77/32 dev dev1; true")
    local lasting = w:picture()
    w:sh("ip addr add 192.0.2.77/32 dev dev1 valid_lft 500 preferred_lft 500")
    assert.is_false(pcall(t.same, before, lasting))
    return w, lasting
  end

  it("the addresses and routes that the device had, but for what somebody has to renew", function()
    local w, lasting = furnished()
    w:add()
    assert.equal("", (t.run("ip route show table all dev dev1 2>/dev/null; true", { host = w.host })))
    w:del()
    t.same(lasting, w:picture())
    w:sh("ip addr add 192.0.2.77/32 dev dev1 valid_lft 500 preferred_lft 500")
    w:add()
    w:gc({})
    t.same(lasting, w:picture())
  end)

  it("them too when the ADD fails", function()
    local w, lasting = furnished()
    w:fails("ADD", { conf = { ipam = with(dual, { routes = {
      { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } })
    t.same(lasting, w:picture())
  end)

  it("what still fits of them", function()
    local w = furnished()
    w:add()
    w:sh("ip addr add 192.0.2.9/24 dev dev2; ip route add 198.18.64.0/24 via 192.0.2.1 dev dev2")
    w:del()
    local list = " " .. table.concat(world.addrs(w.host, "dev1"), " ") .. " "
    assert.truthy(list:find(" 192.0.2.5/24 ", 1, true), list)
    assert.equal("dev2", t.ip(w.host, "-4 route show 198.18.64.0/24")[1].dev)
  end)

  it("none to a device that had none, or was down", function()
    local w = lender({}, { down = true })
    w:sh("ip addr add 192.0.2.5/24 dev dev1")
    local before = w:picture()
    w:add()
    w:del()
    t.same(before, w:picture())
  end)
end)

describe("host-device ADD of what a sandbox that is gone had borrowed", function()
  -- A link that the kernel has brought home from it, under a name of its choice.
  local function strayed(change, opts)
    local w = lender({}, with({ pods = 2 }, opts))
    w:sh("ip link set dev1 alias mine; ip addr add 192.0.2.5/24 dev dev1")
    local before = w:picture()
    w:add()
    w:in_pod((change or ":") .. "; ip link set eth0 down; ip link set eth0 netns host name back7")
    t.remove_netns(w.pods[1])
    w.pods[1] = table.remove(w.pods, 2)
    before.kernel.pod1 = nil
    return w, before
  end

  for name, how in pairs {
    ["by its name"] = { conf = {} },
    ["by its MAC"] = { conf = { device = false, hwaddr = mac1 } },
    ["by its MAC, which the sandbox had changed"] = { conf = { device = false, hwaddr = mac1 },
      change = "ip link set eth0 down; ip link set eth0 address 0a:00:00:00:00:99" },
    ["by its path in sysfs"] = { conf = { device = false, kernelpath = "/sys/devices/there/0000:3b:00.1" },
      at = "pci/0000:3b:00.1" },
    ["by its PCI address"] = { conf = { device = false, pciBusID = "0000:3b:00.1" }, at = "pci/0000:3b:00.1" },
    ["by runtimeConfig.deviceID, PCI"] = { conf = { device = false,
      runtimeConfig = { deviceID = "0000:3b:00.1" } }, at = "pci/0000:3b:00.1" },
    ["by runtimeConfig.deviceID, auxiliary"] = { conf = { device = false,
      runtimeConfig = { deviceID = "mlx5_core.sf.4" } }, at = "auxiliary/mlx5_core.sf.4" },
  } do
    it("takes it back first, and finds it " .. name, function()
      local w, before = strayed(how.change, how.at and { lived_in = false, neighbours = false })
      if how.at then
        -- The links of the host by the names that they have at the moment: the first one is it.
        t.run("mkdir -p /run/spec/sys; mount -t sysfs of-the-host /run/spec/sys", { host = w.host })
        mounted[#mounted + 1] = "/run/spec/sys"
        sysfs({ [how.at] = { links = "/run/spec/sys/devices/virtual/net", driver = "ixgbe" } })
      end
      w:add({ id = "c2", conf = how.conf })
      assert.equal("dev1", t.link(w.pods[1], "eth0").ifalias)
      assert.equal(mac1, t.link(w.pods[1], "eth0").address)
      w:check({ id = "c2", conf = how.conf })
      w:del({ id = "c2", conf = how.conf })
      t.same(before, w:picture())
    end)
  end

  it("knows its name by the alias, where the record is lost", function()
    local w = strayed()
    t.run("rm -rf /run/luacni")
    w:add({ id = "c2" })
    w:del({ id = "c2" })
    local dev = t.link(w.host, "dev1")
    assert.equal(mac1, dev.address)
    assert.is_nil(t.link(w.host, "back7"))
    -- Of two that could be it, none is.
    w:sh("ip link set dev1 alias dev9; ip link set dev2 alias dev9")
    w:fails("ADD", { id = "c3", conf = { device = "dev9" } }, 7)
  end)

  it("leaves alone what a living one has", function()
    local w = lender({}, { pods = 2 })
    w:add()
    local before = w:picture()
    w:fails("ADD", { id = "c2", pod = 2 }, 7)
    w:fails("ADD", { id = "c2", pod = 2, conf = { device = false, hwaddr = mac1 } }, 7)
    t.same(before, w:picture())
  end)
end)

describe("host-device GC", function()
  it("returns what is not in the list, and leaves what is", function()
    local w = lender({ ipam = dual }, { pods = 2 })
    w:add({ id = "c2", pod = 2, conf = { device = "dev2" } })
    local before = w:picture()
    w:add()
    w:gc({ { "c2" } })
    t.same(before, w:picture())
    w:check({ id = "c2", pod = 2, conf = { device = "dev2" } })
  end)

  it("is content when the namespace took a virtual link with it", function()
    local w = lender({ ipam = dual })
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:gc({ { "c1" } })
    local left = w:picture()
    t.same({}, left.records)
    t.same({}, left.leases)
  end)
end)

describe("host-device CHECK", function()
  local function notices(what, says, sh)
    it("notices that " .. what, function()
      local w = lender({ ipam = dual })
      w:add()
      w:check()
      w:in_pod(sh)
      local e = w:fails("CHECK")
      assert.truthy(e.text:find(says), e.text)
    end)
  end

  notices("the device is gone", "eth0 is not in the sandbox", "ip link del eth0")
  notices("it has another name", "eth0 is not in the sandbox",
    "ip link set eth0 down; ip link set eth0 name eth7")
  notices("another link is in its place", "eth0", "ip link set eth0 down; " ..
    "ip link set eth0 name eth7; ip link add eth0 type veth peer name x; ip link set eth0 up; " ..
    "ip addr add 10.1.0.2/24 dev eth0; ip -6 addr add fd01::2/64 dev eth0")
  notices("its MAC is another", "mac is 0a:00:00:00:00:77",
    "ip link set eth0 address 0a:00:00:00:00:77")
  notices("it is down", "eth0 in the sandbox is down", "ip link set eth0 down; " ..
    "ip addr replace 10.1.0.2/24 dev eth0")
  notices("an address is gone", "fd01::2/64", "ip -6 addr del fd01::2/64 dev eth0")
end)

describe("host-device ADD that fails returns the device:", function()
  local pci = "0000:3b:00.1"
  local function fails(name, conf, opts)
    promises.fails(name, function() return lender(conf, opts) end, opts)
  end

  fails("a route whose gateway is out of reach", { ipam = with(dual, { routes = {
    { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) }, { says = "10.9.0.0/16" })
  fails("a link with an alias, which was down", { ipam = with(dual, { routes = {
    { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) }, { says = "10.9.0.0/16",
    down = true, prepare = function(w) w:sh("ip link set dev1 alias mine") end })
  fails("the name is taken in the pod", { ipam = dual }, { says = { "eth0", "sandbox" },
    prepare = function(w) w:in_pod("ip link add eth0 type veth peer name x") end })
  fails("no such device", { device = "dev9", ipam = dual }, { code = 7, says = "dev9" })
  fails("no device of such a MAC", { device = false, hwaddr = "0a:00:00:00:00:99" },
    { code = 7, says = "0a:00:00:00:00:99" })
  fails("lo, which every namespace keeps", { device = "lo", ipam = dual }, { code = 7, says = "lo" })
  fails("none is named", { device = false }, { code = 7, says = "hwaddr" })
  fails("a MAC that is none", { device = false, hwaddr = "zz" }, { code = 7, says = "hwaddr" })
  fails("a path that is not of a device", { device = false, kernelpath = "/sys/class/net/dev1" },
    { code = 7, says = "/sys/devices" })
  fails("a path that climbs", { device = false, kernelpath = "/sys/devices/../class/x" },
    { code = 7, says = "kernelpath" })
  fails("a device without a link", { device = false, kernelpath = "/sys/devices/there/" .. pci },
    { code = 7, says = pci, prepare = function() sysfs({ ["pci/" .. pci] = {} }) end })
  fails("a PCI device that is not there", { device = false, pciBusID = pci },
    { code = 7, says = pci, prepare = function() sysfs({}) end })
  fails("a PCI device without a driver", { device = false, pciBusID = pci },
    { code = 7, says = "driver", prepare = function()
      sysfs({ ["pci/" .. pci] = { net = "dev1" } })
    end })
  fails("a PCI device whose link is elsewhere", { device = false, pciBusID = pci },
    { code = 7, says = pci, prepare = function()
      sysfs({ ["pci/" .. pci] = { driver = "ixgbe" } })
    end })
  fails("a PCI address that is a path", { device = false, pciBusID = "../../x" },
    { code = 7, says = "pciBusID" })
  fails("a deviceID that no bus knows", { runtimeConfig = { deviceID = "nothing.sf.1" } },
    { code = 7, says = "nothing.sf.1", prepare = function() sysfs({}) end })
  fails("the device is lent to another pod", {}, { code = 7, says = "dev1", call = { id = "c9",
    pod = 1, ifname = "net1" }, prepare = function(w) w:add() end })
end)

describe("host-device result", function()
  promises.results(function() return lender({ ipam = with(dual, { routes = {
    { dst = "0.0.0.0/0" } } }) }) end, { expected = function(w)
    return {
      interfaces = { { name = "eth0", mac = mac1, sandbox = w.pods[1].path } },
      ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 },
        { address = "fd01::2/64", gateway = "fd01::1", interface = 0 } },
      routes = { { dst = "0.0.0.0/0" } },
    }
  end })
end)

-- Links made by `ip link add` die with their namespace; a device's own comes back to the first
-- namespace, under a name of the kernel's choice.
describe("host-device whose namespace vanishes:", function()
  local w, before

  -- The card as it is, nil when it has not its name; no records, no leases are left beside it.
  local function card()
    local link = t.link(w.host, "eth0")
    return { mac = link and link.address, mtu = link and link.mtu, up = link and t.has_flag(link, "UP"),
      alias = link and link.ifalias, parent = link and link.parentdev,
      left = next(t.snapshot({ ns = {} }).records) }
  end

  local function lend(up)
    t.needs("card")
    -- The host is another one than that of a world, and the sandbox goes.
    w = world.new({ type = "host-device", device = "eth0" }, { neighbours = false })
    w.host = { name = "first", path = "/proc/1/ns/net" }
    w:sh("ip link set eth0 addrgenmode none; ip link set eth0 " .. (up and "up" or "down"))
    before = card()
    assert.truthy(before.parent)
    w:add({ ifname = "net1" })
    assert.equal("eth0", t.link(w.pods[1], "net1").ifalias)
  end

  -- The namespace goes; with a name, the kernel has given the card back under that one.
  local function vanish(name)
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:sh("for i in $(seq 100); do ip -d -o link show " .. (name or "") .. " 2>/dev/null | " ..
      "grep -q parentdev && exit; sleep 0.1; done; exit 1")
    assert.is_nil(t.link(w.host, "eth0"))
  end

  local gone = { ifname = "net1", pod = "/run/netns/pod1" }

  it("DEL returns it under its old name, down as it was", function()
    lend()
    vanish("net1")
    w:del(gone)
    t.same(before, card())
    w:del(gone)
    t.same(before, card())
  end)

  it("DEL returns it up when it was up", function()
    lend(true)
    vanish("net1")
    w:del(gone)
    assert.is_true(card().up)
    t.same(before, card())
  end)

  it("DEL returns it when it was renamed and changed in the pod", function()
    lend()
    w:in_pod("ip link set net1 down; " ..
      "ip link set net1 name other alias mine address 0a:00:00:00:00:77 mtu 1400")
    vanish("other")
    w:del(gone)
    t.same(before, card())
  end)

  it("DEL returns it when another link has the name that it had in the pod", function()
    lend()
    w:sh("ip link add net1 type veth peer name net2")
    vanish()
    w:del(gone)
    w:sh("ip link del net1")
    t.same(before, card())
  end)

  it("DEL says so when its name is taken, GC returns it when that is mended", function()
    lend()
    vanish("net1")
    w:sh("ip link add eth0 type veth peer name taken")
    local e = w:fails("DEL", gone)
    assert.truthy(e.text:find("eth0", 1, true), e.text)
    w:sh("ip link del eth0")
    w:gc({ { "c1", "net1" } })
    t.same(before, card())
  end)

  it("the next ADD takes it from there", function()
    lend()
    vanish("net1")
    w.pods[1] = t.netns("pod1")
    w:add({ ifname = "net1" })
    assert.equal("eth0", t.link(w.pods[1], "net1").ifalias)
    w:del({ ifname = "net1" })
    t.same(before, card())
  end)

  it("the ADD of another container takes it from there, by name and by MAC", function()
    for _, conf in ipairs { {}, { device = false, hwaddr = "mac" } } do
      lend(true)
      if conf.hwaddr then conf.hwaddr = t.link(w.pods[1], "net1").address end
      vanish("net1")
      w.pods[1] = t.netns("pod2")
      w:add({ id = "c2", ifname = "net1", conf = conf })
      assert.equal("eth0", t.link(w.pods[1], "net1").ifalias)
      w:del({ id = "c2", ifname = "net1", conf = conf })
      t.same(before, card())
      t.cleanup()
    end
  end)

  it("DEL takes it from there while somebody is in it still", function()
    lend()
    w:in_pod("sleep 99 >/dev/null 2>&1 & echo $! >/run/spec/stays")
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del(gone)
    t.run("kill $(cat /run/spec/stays)")
    t.same(before, card())
  end)

  it("DEL waits while it is held by a descriptor alone, says so, and returns it when that is closed", function()
    lend()
    w:in_pod("sh -c 'exec 7</proc/self/ns/net; exec nsenter --net=/proc/1/ns/net sleep 99' " ..
      ">/dev/null 2>&1 & echo $! >/run/spec/stays; sleep 0.5")
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:fails("DEL", gone, 11)
    t.run("kill $(cat /run/spec/stays)")
    w:del(gone)
    t.same(before, card())
  end)
end)
