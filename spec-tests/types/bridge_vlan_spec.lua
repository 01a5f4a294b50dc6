-- SPDX-License-Identifier: MIT
-- What plugin `bridge` promises of its VLAN keys: which VLANs a port is in, the link
-- that a VLAN's gateway lives on, and that nothing crosses from one VLAN to another,
-- which is told by the frames that arrive.
--
-- Seconds a test takes on the second kernel: 6

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local native_marks = "PVID, Egress Untagged"

local function bridge(conf, opts)
  t.needs("bridge-vlan")
  conf.type, conf.bridge, conf.removeUnused = "bridge", "br0", true
  return world.new(conf, opts)
end

local function static(address)
  return { type = "static", addresses = { { address = address } } }
end

-- The VLANs of a port as `bridge` shows them, ranges as "first-last": { id = marks }.
local function vlans_of(ns, port)
  local found = {}
  local shown = t.bridge(ns, "-compressvlans vlan show dev " .. port)[1]
  for _, entry in ipairs(shown and shown.vlans or {}) do
    local name = ("%d"):format(entry.vlan)
    if entry.vlanEnd then name = ("%d-%d"):format(entry.vlan, entry.vlanEnd) end
    found[name] = table.concat(entry.flags or {}, ", ")
  end
  return found
end

local function vlans(w, pod) return vlans_of(w.host, w:port(pod).ifname) end

-- The port of a gateway link.
local function gateway_port(w, name)
  local link = t.link(w.host, name)
  for _, other in ipairs(t.ip(w.host, "-d link show master br0")) do
    if other.link_index == link.ifindex or other.link == name then return other end
  end
end

describe("bridge vlan", function()
  it("is the port's native VLAN, and its only one", function()
    local w = bridge({ vlan = 100 })
    w:add()
    t.same({ ["100"] = native_marks }, vlans(w))
    assert.equal(1, t.link(w.host, "br0").linkinfo.info_data.vlan_filtering)
  end)

  it("may be the highest, and the default one", function()
    for _, vid in ipairs({ 4094, 1 }) do
      local w = bridge({ vlan = vid })
      w:add()
      t.same({ [tostring(vid)] = native_marks }, vlans(w))
      w:check()
      t.cleanup()
    end
  end)

  it("of 0 is as none: no filtering, the default VLAN", function()
    for _, conf in ipairs({ {}, { vlan = 0 }, { preserveDefaultVlan = true } }) do
      local w = bridge(conf)
      w:add()
      t.same({ ["1"] = native_marks }, vlans(w))
      assert.equal(0, t.link(w.host, "br0").linkinfo.info_data.vlan_filtering)
      t.cleanup()
    end
  end)

  it("with preserveDefaultVlan leaves the default VLAN beside it", function()
    local w = bridge({ vlan = 100, preserveDefaultVlan = true })
    w:add()
    t.same({ ["1"] = "Egress Untagged", ["100"] = native_marks }, vlans(w))
    w:check()
  end)

  it("switches filtering on for a bridge of others, and off again", function()
    local w = bridge({ vlan = 100 })
    w:sh("ip link add br0 address 0a:00:00:00:00:b0 type bridge; " ..
      "ip link set br0 addrgenmode none up")
    local before = w:picture()
    w:add()
    assert.equal(1, t.link(w.host, "br0").linkinfo.info_data.vlan_filtering)
    w:del()
    t.same(before, w:picture())
  end)
end)

describe("bridge vlanTrunk", function()
  local function carried(name, conf, expected)
    it(name, function()
      local w = bridge(conf)
      w:add()
      t.same(expected, vlans(w))
      w:check()
    end)
  end

  carried("carries single VLANs and ranges, tagged, with VLAN 1 for the rest",
    { vlanTrunk = { { id = 300 }, { minID = 200, maxID = 202 } } },
    { ["1"] = native_marks, ["200-202"] = "", ["300"] = "" })
  carried("is the union of its entries",
    { vlanTrunk = { { minID = 10, maxID = 20 }, { id = 15 }, { minID = 18, maxID = 25 },
      { id = 26 }, { minID = 28, maxID = 28 } } },
    { ["1"] = native_marks, ["10-26"] = "", ["28"] = "" })
  carried("takes id beside minID and maxID as one more",
    { vlanTrunk = { { id = 50, minID = 60, maxID = 61 } } },
    { ["1"] = native_marks, ["50"] = "", ["60-61"] = "" })
  carried("goes together with vlan", { vlan = 100, vlanTrunk = { { id = 200 } } },
    { ["100"] = native_marks, ["200"] = "" })
  carried("leaves the native VLAN native when a range covers it",
    { vlan = 100, vlanTrunk = { { minID = 99, maxID = 101 } } },
    { ["99"] = "", ["100"] = native_marks, ["101"] = "" })
  carried("leaves the native VLAN native when it is named",
    { vlan = 100, vlanTrunk = { { id = 100 }, { id = 1 } } },
    { ["1"] = "", ["100"] = native_marks })
  carried("may be all there are", { vlanTrunk = { { minID = 1, maxID = 4094 } } },
    { ["1"] = native_marks, ["2-4094"] = "" })
  carried("of no entries is none", { vlanTrunk = t.list() }, { ["1"] = native_marks })
  carried("with preserveDefaultVlan leaves the default VLAN beside it",
    { vlan = 100, vlanTrunk = { { id = 200 } }, preserveDefaultVlan = true },
    { ["1"] = "Egress Untagged", ["100"] = native_marks, ["200"] = "" })
end)

describe("bridge gateway with vlan", function()
  it("is on a link of its own, named after bridge and VLAN", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = v4 })
    local result = w:add()
    local link = t.link(w.host, "br0.100")
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0.100"))
    t.same({}, world.addrs(w.host, "br0"))
    t.same({ ["100"] = native_marks }, vlans_of(w.host, gateway_port(w, "br0.100").ifname))
    t.same({ name = "br0.100", mac = link.address }, result.interfaces[4])
    assert.equal(2, result.ips[1].interface)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    assert.equal("1", t.sysctl(w.host, "net/ipv4/ip_forward"))
    w:check()
  end)

  it("is not made without isGateway, nor without addresses", function()
    for _, conf in ipairs({ { vlan = 100, ipam = v4 }, { vlan = 100, isGateway = true } }) do
      local w = bridge(conf)
      assert.equal(3, #w:add().interfaces)
      assert.is_nil(t.link(w.host, "br0.100"))
      t.cleanup()
    end
  end)

  it("has the configured MTU", function()
    local w = bridge({ vlan = 100, isGateway = true, mtu = 1400, ipam = v4 })
    w:add()
    assert.equal(1400, t.link(w.host, "br0.100").mtu)
    assert.equal(1400, gateway_port(w, "br0.100").mtu)
  end)

  it("leads out of the bridge", function()
    local w = bridge({ vlan = 100, isDefaultGateway = true, ipam = v4 }, { far = true })
    w:add()
    assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.far, "192.0.2.2"))
  end)

  it("serves both families", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = { type = "host-local",
      ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } })
    w:add()
    t.same({ "10.1.0.1/24", "fd01::1/64" }, world.addrs(w.host, "br0.100"))
    assert.is_true(t.ping(w.pods[1], "fd01::1"))
  end)

  it("goes with the last attachment, no sooner", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = v4 },
      { pods = 2, forwarding = true })
    local before = w:picture()
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:del()
    assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
    w:check({ id = "c2", pod = 2 })
    w:del({ id = "c2", pod = 2 })
    t.same(before, w:picture())
  end)

  it("of one VLAN leaves alone that of another", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = v4 }, { pods = 2 })
    local other = { name = "other", vlan = 200,
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } }
    w:add()
    local before = w:picture()
    w:add({ id = "c2", pod = 2, conf = other })
    assert.is_true(t.ping(w.pods[2], "10.2.0.1"))
    w:del({ id = "c2", pod = 2, conf = other })
    t.same(before, w:picture())
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
  end)

  it("of others is used and kept", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = v4 }, { forwarding = true })
    w:sh([[set -e
      ip link add br0 address 0a:00:00:00:00:b0 type bridge vlan_filtering 1
      ip link set br0 addrgenmode none up
      ip link add br0.100 type veth peer name mine
      ip link set mine master br0 addrgenmode none up
      ip link set br0.100 addrgenmode none up
      bridge vlan del vid 1 dev mine
      bridge vlan add vid 100 pvid untagged dev mine]])
    local before = w:picture()
    w:add()
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("is refused when another kind of link has its name", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = v4 }, { forwarding = true })
    w:sh("ip link add br0.100 type bridge")
    local before = w:picture()
    local e = w:fails("ADD")
    assert.truthy(e.text:find("br0.100", 1, true), e.text)
    t.same(before, w:picture())
  end)
end)

-- ---------------------------------------------------------------------------
-- What arrives
-- ---------------------------------------------------------------------------

-- A world where IPv6 is off everywhere, with neither neighbours nor anybody else who takes note of the host:
-- then nobody sends anything that the test did not ask for.
local function quiet(conf, pods)
  local w = bridge(conf, { pods = pods, lived_in = false, neighbours = false })
  local off = "for c in all default; do " ..
    "echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done"
  w:sh(off)
  for i in ipairs(w.pods) do w:in_pod(off, i) end
  return w
end

local function received(w, pod, link)
  local shown = t.ip(w.pods[pod], "-s link show dev " .. (link or "eth0"))[1]
  return shown.stats64.rx.packets
end

describe("bridge VLANs keep apart:", function()
  it("a pod hears those of its own VLAN and no frame of another", function()
    local w = quiet({ ipam = static("10.9.0.1/24"), vlan = 100 }, 3)
    w:add()
    w:add({ id = "c2", pod = 2, conf = { ipam = static("10.9.0.2/24") } })
    w:add({ id = "c3", pod = 3, conf = { ipam = static("10.9.0.3/24"), vlan = 200 } })
    local same, other = received(w, 2), received(w, 3)
    assert.is_false(t.ping(w.pods[1], "10.9.0.3"))
    assert.is_true(received(w, 2) > same, "the question was heard in the same VLAN")
    assert.is_true(t.ping(w.pods[1], "10.9.0.2"))
    assert.equal(other, received(w, 3))
    assert.is_false(t.ping(w.pods[3], "10.9.0.1"))
  end)

  it("without vlan the same pods hear each other", function()
    local w = quiet({ ipam = static("10.9.0.1/24") }, 2)
    w:add()
    w:add({ id = "c2", pod = 2, conf = { ipam = static("10.9.0.2/24") } })
    local before = received(w, 2)
    assert.is_true(t.ping(w.pods[1], "10.9.0.2"))
    assert.is_true(received(w, 2) > before)
  end)

  it("the bridge itself is in none of them", function()
    local w = quiet({ ipam = static("10.9.0.1/24"), vlan = 100 })
    w:sh("ip link add br0 type bridge; ip addr add 10.9.0.9/24 dev br0; ip link set br0 up")
    w:add()
    assert.is_false(t.ping(w.pods[1], "10.9.0.9"))
    w:sh("bridge vlan add vid 100 pvid untagged dev br0 self")
    assert.is_true(t.ping(w.pods[1], "10.9.0.9"))
  end)
end)

describe("bridge trunks", function()
  -- A link of an 802.1Q trunk inside a pod, with an address.
  local function tagged(w, pod, vid, address)
    w:in_pod(("ip link add link eth0 name eth0.%d type vlan id %d; " ..
      "ip addr add %s dev eth0.%d; ip link set eth0.%d up"):format(vid, vid, address, vid, vid),
      pod)
  end

  local function trunks()
    t.needs("bridge-vlan", "vlan")
    local w = quiet({ vlan = 7, vlanTrunk = { { minID = 200, maxID = 202 } } }, 3)
    w:add()
    return w
  end

  it("carry tagged frames from trunk to trunk", function()
    local w = trunks()
    w:add({ id = "c2", pod = 2 })
    tagged(w, 1, 201, "10.9.1.1/24")
    tagged(w, 2, 201, "10.9.1.2/24")
    tagged(w, 2, 202, "10.9.2.2/24")
    local arrived, beside = received(w, 2, "eth0.201"), received(w, 2, "eth0.202")
    assert.is_true(t.ping(w.pods[1], "10.9.1.2"))
    assert.is_true(received(w, 2, "eth0.201") > arrived)
    assert.equal(beside, received(w, 2, "eth0.202"))
  end)

  it("stop what they do not carry", function()
    local w = trunks()
    w:add({ id = "c2", pod = 2 })
    tagged(w, 1, 203, "10.9.3.1/24")
    tagged(w, 2, 203, "10.9.3.2/24")
    local before = received(w, 2)
    assert.is_false(t.ping(w.pods[1], "10.9.3.2"))
    assert.equal(before, received(w, 2))
    w:sh(("for p in %s %s; do bridge vlan add vid 203 dev $p; done")
      :format(w:port(1).ifname, w:port(2).ifname))
    assert.is_true(t.ping(w.pods[1], "10.9.3.2"))
  end)

  it("become others under a stream in one of them, of which nothing is lost", function()
    local w = trunks()
    w:add({ id = "c2", pod = 2 })
    tagged(w, 1, 201, "10.9.1.1/24")
    tagged(w, 2, 201, "10.9.1.2/24")
    local new = w:config { vlanTrunk = { { minID = 201, maxID = 204 } } }
    local network = new.name
    t.write("/run/spec/new.conflist", t.json { cniVersion = new.cniVersion, name = network, plugins = { new } })
    local got = t.run({ "bash", "-c", ([[
      nsenter --net=%s socat -u TCP4-LISTEN:80,reuseaddr OPEN:/run/spec/received,creat,trunc & server=$!
      for i in $(seq 100); do nsenter --net=%s ss -Hln | grep -q :80 && break; sleep 0.05; done
      (for i in $(seq 60); do echo $i; sleep 0.05; done) | nsenter --net=%s socat -u - TCP4:10.9.1.2:80 & client=$!
      sleep 0.3
      nsenter --net=%s %s/luacni update %s c1 --file /run/spec/new.conflist 2>&1 >/dev/null || echo failed
      wait $client $server
      nsenter --net=%s nstat -asz TcpRetransSegs | awk '/TcpRetrans/ { print "again", $2 }'
      wc -l </run/spec/received]]):format(w.pods[2].path, w.pods[2].path, w.pods[1].path, w.host.path, t.build,
      network, w.pods[1].path) })
    assert.matches("again 0\n60\n$", got)
    assert.is_nil(got:find "failed", got)
    t.same({ ["7"] = native_marks, ["201-204"] = "" }, vlans(w, 1))
    t.same({ ["7"] = native_marks, ["200-202"] = "" }, vlans(w, 2))
  end)

  it("reach pods whose native VLAN is among theirs, without the tag", function()
    local w = trunks()
    w:add({ id = "c2", pod = 2, conf = { vlan = 201, vlanTrunk = false,
      ipam = static("10.9.1.2/24") } })
    w:add({ id = "c3", pod = 3, conf = { vlan = 202, vlanTrunk = false,
      ipam = static("10.9.1.3/24") } })
    tagged(w, 1, 201, "10.9.1.1/24")
    local other = received(w, 3)
    assert.is_true(t.ping(w.pods[1], "10.9.1.2"))
    assert.is_false(t.ping(w.pods[1], "10.9.1.3"))
    assert.equal(other, received(w, 3))
  end)
end)

-- ---------------------------------------------------------------------------
-- CHECK, DEL, failures
-- ---------------------------------------------------------------------------

describe("bridge CHECK with VLANs", function()
  local conf = { vlan = 100, vlanTrunk = { { minID = 200, maxID = 204 } }, isGateway = true,
    ipam = v4 }

  it("passes twice, and names what was changed", function()
    local w = bridge(conf)
    w:add()
    w:check()
    w:check()
    local port, gateway = w:port().ifname, gateway_port(w, "br0.100").ifname
    for _, change in ipairs({
      { "bridge vlan del vid 100 dev " .. port,
        "bridge vlan add vid 100 pvid untagged dev " .. port, "VLAN 100" },
      { "bridge vlan del vid 202 dev " .. port, "bridge vlan add vid 202 dev " .. port,
        "VLAN 202" },
      { "bridge vlan add vid 203 untagged dev " .. port,
        "bridge vlan add vid 203 dev " .. port, "VLAN 203" },
      { "bridge vlan add vid 777 dev " .. port, "bridge vlan del vid 777 dev " .. port,
        "VLAN 777" },
      { "bridge vlan del vid 100 dev " .. gateway,
        "bridge vlan add vid 100 pvid untagged dev " .. gateway, "VLAN 100" },
      { ("ip link set %s nomaster"):format(gateway), nil, "br0.100" },
    }) do
      w:sh(change[1])
      local e = w:fails("CHECK")
      assert.truthy(e.text:find(change[3], 1, true), change[1] .. ": " .. e.text)
      if change[2] then
        w:sh(change[2])
        w:check()
      end
    end
  end)

  it("names a bridge that filters no more, and a gateway link that is gone", function()
    local w = bridge(conf)
    w:add()
    w:sh("ip link set br0 type bridge vlan_filtering 0")
    local e = w:fails("CHECK")
    assert.truthy(e.text:find("vlan_filtering", 1, true), e.text)
    w:sh("ip link set br0 type bridge vlan_filtering 1")
    w:check()
    w:sh("ip link del br0.100")
    e = w:fails("CHECK")
    assert.truthy(e.text:find("br0.100", 1, true), e.text)
  end)
end)

describe("bridge with VLANs leaves nothing behind:", function()
  local conf = { vlan = 100, vlanTrunk = { { minID = 200, maxID = 204 } }, isGateway = true,
    ipam = v4 }

  it("DEL, twice, and without namespace and prevResult", function()
    local w = bridge(conf, { forwarding = true })
    local before = w:picture()
    for _, call in ipairs({ {}, { pod = false, prev = false } }) do
      w:add()
      w:del(call)
      w:del(call)
      t.same(before, w:picture())
    end
  end)

  it("DEL when the gateway link is gone, and when the bridge is", function()
    for _, name in ipairs({ "br0.100", "br0" }) do
      local w = bridge(conf, { forwarding = true })
      local before = w:picture()
      w:add()
      w:sh("ip link del " .. name)
      w:del()
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("an ADD that fails after the gateway was made", function()
    local w = bridge({ vlan = 100, isGateway = true, ipam = { type = "host-local",
      subnet = "10.1.0.0/24", routes = { { dst = "10.8.0.0/16", gw = "172.16.0.1" } } } },
      { forwarding = true })
    local before = w:picture()
    w:fails("ADD")
    t.same(before, w:picture())
  end)

  it("GC of an attachment that is no longer valid", function()
    local w = bridge(conf, { forwarding = true })
    local before = w:picture()
    w:add()
    w:gc({ { "c1" } })
    w:check()
    w:gc({})
    t.same(before, w:picture())
  end)
end)

describe("bridge refuses, and changes nothing:", function()
  local function refused(name, conf)
    it(name, function()
      conf.type, conf.bridge = "bridge", "br0"
      local w = world.new(conf)
      local before = w:picture()
      w:fails("ADD", nil, 7)
      t.same(before, w:picture())
    end)
  end

  refused("vlan above 4094", { vlan = 4095 })
  refused("vlan below 0", { vlan = -1 })
  refused("vlan as a text", { vlan = "100" })
  refused("vlan with a fraction", { vlan = 1.5 })
  refused("a trunk VLAN 0", { vlanTrunk = { { id = 0 } } })
  refused("a trunk VLAN 4095", { vlanTrunk = { { id = 4095 } } })
  refused("a trunk range from 0", { vlanTrunk = { { minID = 0, maxID = 5 } } })
  refused("a trunk range to 4095", { vlanTrunk = { { minID = 5, maxID = 4095 } } })
  refused("a trunk range from high to low", { vlanTrunk = { { minID = 9, maxID = 3 } } })
  refused("a trunk range without end", { vlanTrunk = { { minID = 9 } } })
  refused("a trunk range without start", { vlanTrunk = { { maxID = 9 } } })
  refused("a trunk range without end beside an id", { vlanTrunk = { { id = 5, minID = 9 } } })
  refused("a trunk entry that names nothing", { vlanTrunk = { {} } })
  refused("a trunk that is no list", { vlanTrunk = { id = 5 } })
  refused("null in a trunk", { vlanTrunk = { t.null } })
  refused("preserveDefaultVlan as a text", { vlan = 5, preserveDefaultVlan = "yes" })
end)

-- A script that says something else of a VLAN later means that; so CHECK asks for what was said last.
describe("VLANs that a script sets anew", function()
  local vlan = require "cni.step.vlan"

  -- What CHECK finds when a port has `have`, and these were set one after the other.
  local function found(have, ...)
    local handle = { link = function() return { index = 3, name = "p0" } end, socket = function()
      return { dump = function()
        local list = {}
        for i, entry in ipairs(have) do list[i] = t.merge({ index = 3 }, entry) end
        return list
      end }
    end }
    local steps, later = { ... }, {}
    for i = #steps, 1, -1 do
      steps[i] = vlan.without({ ns = "host", want = t.merge({ link = "p0" }, steps[i]) }, later)
    end
    for _, step in ipairs(steps) do
      local difference = vlan.verify(step, { host = handle })
      if difference then return difference end
    end
  end

  it("are looked for as they were set last, the others as before", function()
    local tagged, native = { vid = 5 }, { vid = 5, pvid = true, untagged = true }
    assert.is_nil(found({ native }, tagged, native))
    assert.equal("port p0: VLAN 5 is there in another way", found({ tagged }, tagged, native))
    assert.equal("port p0: VLAN 5 is there in another way", found({ native }, native, tagged))
    -- There is one native VLAN.
    local other = { vid = 6, pvid = true, untagged = true }
    assert.is_nil(found({ { vid = 5, untagged = true }, other }, native, other))
    assert.equal("port p0: VLAN 5 is there in another way", found({ native, other }, native, other))
    -- All are taken off, and one is put there again, as behind a bridge with a VLAN.
    local none = { vid = 1, vid_end = 4094, absent = true }
    assert.is_nil(found({ tagged }, none, tagged))
    assert.equal("port p0: VLAN 8 is present", found({ tagged, { vid = 8 } }, none, tagged))
    -- One is taken out of a range.
    local range, out = { vid = 2, vid_end = 9 }, { vid = 5, absent = true }
    assert.is_nil(found({ { vid = 2, vid_end = 4 }, { vid = 6, vid_end = 9 } }, range, out))
    assert.equal("port p0: VLAN 5 is present", found({ range }, range, out))
    assert.equal("port p0: VLAN 9 is missing", found({ { vid = 2, vid_end = 4 }, { vid = 6, vid_end = 8 } }, range, out))
  end)

  it("are so in the kernel, behind a bridge with a VLAN too", function()
    t.needs("bridge-vlan")
    t.wipe()
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req)
      local result = req:delegate("bridge")
      local port = result.interfaces[2]
      req.host:set_vlan(port, { vid = 7 })
      req.host:set_vlan(port, { vid = 7, untagged = true })
      req.host:set_vlan(port, { vid = 20, vid_end = 29 })
      req.host:set_vlan(port, { vid = 25, absent = true })
      return result
    end }]])
    local w = world.new({ type = "own", bridge = "br0", removeUnused = true, vlan = 100, ipam = v4 })
    local own = { type = "luacni" }
    w:add(own)
    t.same({ ["7"] = "Egress Untagged", ["20-24"] = "", ["26-29"] = "", ["100"] = native_marks }, vlans(w))
    w:check(own)
    w:sh("bridge vlan add dev " .. w:port().ifname .. " vid 25")
    assert.matches("VLAN 25 is present", w:fails("CHECK", own).text)
    w:del(own)
  end)
end)
