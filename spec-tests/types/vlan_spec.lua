-- SPDX-License-Identifier: MIT
-- What plugin `vlan` promises: one VLAN of a link of the host, tagged on its wire, and no other.
--
-- Seconds a test takes on the second kernel: 8

local t = require "support"
local world = require "world"
local on_master = require "on_master"

local refused = on_master.refused

on_master.promises({ describe = describe, it = it }, {
  needs = "vlan", conf = { type = "vlan", vlanId = 100 }, second = { vlanId = 200 },
  far = "ip link add link up0 name up0.100 type vlan id 100; " ..
    "ip addr add 10.1.0.250/24 dev up0.100; ip -6 addr add fd01::fa/64 dev up0.100 nodad; " ..
    "ip link set up0.100 up",
  wire = "up0.100",
  other = { "ip link del eth0; nsenter --net=/run/netns/host ip link add link up0 name v99 " ..
    "netns pod1 address @MAC@ type vlan id 99; ip link set v99 name eth0", "vlan_id is 99, not 100" },
  like = "nsenter --net=/run/netns/host ip link add link up1 name like0 netns pod1 " ..
    "address @MAC@ type vlan id 100; ip link set like0 name eth0",
})

local function vlan(conf, opts)
  return world.new(t.with({ type = "vlan", master = "up0", vlanId = 100,
    enabledad = false, ipam = on_master.v4 }, conf), t.with({ far = true }, opts))
end

local function data_of(w) return t.link(w.pods[1], "eth0").linkinfo.info_data end

describe("vlan frames", function()
  local mac = "02:00:00:00:00:55"

  -- What the far end of the wire counts of the frames from `mac`, by their tag: VLAN 100 with
  -- priority 5, with another one, other VLANs, 802.1ad, any other frame.
  local function count(w)
    t.run(([[
      tc qdisc add dev up0 ingress
      n=1
      for match in "802.1Q flower vlan_id 100 vlan_prio 5" "802.1Q flower vlan_id 100" \
          "802.1Q flower" "802.1ad flower vlan_id 100" "all flower"; do
        tc filter add dev up0 ingress pref $n protocol $match src_mac @MAC@ action pass
        n=$((n + 1))
      done]]):gsub("@MAC@", mac), { host = w.far })
  end

  local function counted(w)
    local seen, pref = {}, nil
    local out = t.run("tc -s filter show dev up0 ingress", { host = w.far })
    for line in out:gmatch("[^\n]+") do
      pref = tonumber(line:match("^filter .* pref (%d) ")) or pref
      local packets = line:match("Sent %d+ bytes (%d+) pkt")
      if packets then seen[pref] = tonumber(packets) end
    end
    return seen, out
  end

  it("carry the tag of their VLAN and reach nobody in another", function()
    t.needs("vlan")
    local w = vlan({}, { pods = 3 })
    t.run([[
      ip link add link up0 name up0.100 type vlan id 100
      ip link add link up0 name eth9 netns pod3 type vlan id 200
      ip addr add 10.1.0.250/24 dev up0.100; ip link set up0.100 up
      ip -n pod3 addr add 10.1.0.250/24 dev eth9; ip -n pod3 link set eth9 up]], { host = w.far })
    count(w)
    w:add({ args = "MAC=" .. mac })
    w:add({ id = "c2", pod = 2, conf = { vlanId = 200 } })
    w:sh("ip addr add 10.1.0.99/24 dev up0")
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    assert.is_true(t.ping(w.pods[2], "10.1.0.250"))
    assert.is_false(t.ping(w.pods[1], "10.1.0.3"))
    assert.is_false(t.ping(w.pods[1], "10.1.0.99"))
    local seen, out = counted(w)
    assert.is_true(seen[2] > 0, out)
    t.same({ 0, 0, 0, 0 }, { seen[1], seen[3], seen[4], seen[5] }, out)
    t.run("ip link set up0.100 down", { host = w.far })
    assert.is_false(t.ping(w.pods[1], "10.1.0.250"))
    assert.is_true(t.ping(w.pods[2], "10.1.0.250"))
  end)

  it("have the priority that the map gives them; the maps are the kernel's", function()
    t.needs("vlan")
    local w = vlan({ egressQosMap = { { from = 6, to = 5 }, { from = 1, to = 2 } },
      ingressQosMap = { { from = 3, to = 70000 } } })
    t.run("ip link add link up0 name up0.100 type vlan id 100; ip link set up0.100 up; " ..
      "ip addr add 10.1.0.250/24 dev up0.100", { host = w.far })
    count(w)
    w:add({ args = "MAC=" .. mac })
    local data = data_of(w)
    table.sort(data.egress_qos, function(a, b) return a.from < b.from end)
    t.same({ { from = 1, to = 2 }, { from = 6, to = 5 } }, data.egress_qos)
    t.same({ { from = 3, to = 70000 } }, data.ingress_qos)
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    local seen, out = counted(w)
    assert.equal(0, seen[1], out)
    assert.is_true(seen[2] > 0, out)
    w:in_pod("ping -n -q -c 1 -W 1 -Q 0x10 10.1.0.250")
    seen, out = counted(w)
    assert.is_true(seen[1] > 0, out)
    t.same({ 0, 0, 0 }, { seen[3], seen[4], seen[5] }, out)
    w:check()
    assert.truthy(w:fails("CHECK", { conf = { egressQosMap = { { from = 6, to = 4 } } } })
      .text:find("egress_qos", 1, true))
    refused(w, { { id = "c2", conf = { vlanId = 7, egressQosMap = { { from = 6, to = 8 } } } }, 7,
      "egressQosMap" })
  end)

  it("are tagged as 802.1ad when that is asked for, and not 802.1Q", function()
    t.needs("vlan")
    local w = vlan({ protocol = "802.1ad" }, { pods = 2 })
    t.run("ip link add link up0 name ctag type vlan id 100; " ..
      "ip link add link up0 name stag type vlan proto 802.1ad id 100; ip link set ctag up; " ..
      "ip link set stag up; ip addr add 10.1.0.250/24 dev stag",
      { host = w.far })
    count(w)
    w:add({ args = "MAC=" .. mac })
    t.same({ "802.1ad", 100 }, { data_of(w).protocol, data_of(w).id })
    assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
    local seen, out = counted(w)
    t.same({ 0, 0, 0, 0 }, { seen[1], seen[2], seen[3], seen[5] }, out)
    assert.is_true(seen[4] > 0, out)
    w:check({ args = "MAC=" .. mac })
    assert.truthy(w:fails("CHECK", { conf = { protocol = "802.1Q" } }).text
      :find("802.1ad, not 802.1Q", 1, true))
    t.run("ip addr del 10.1.0.250/24 dev stag; ip addr add 10.1.0.250/24 dev ctag", { host = w.far })
    assert.is_false(t.ping(w.pods[1], "10.1.0.250"))
    -- One VLAN ID of both kinds is two VLANs.
    w:add({ pod = 2, id = "c2", conf = { protocol = "802.1Q" } })
    assert.is_true(t.ping(w.pods[2], "10.1.0.250"))
  end)
end)

describe("vlan ADD", function()
  it("without a vlanId takes VLAN 0, and 4094 at most", function()
    t.needs("vlan")
    local w = vlan({})
    w:add({ conf = { vlanId = false } })
    t.same({ "802.1Q", 0 }, { data_of(w).protocol, data_of(w).id })
    w:del()
    w:add({ conf = { vlanId = 4094 } })
    assert.equal(4094, data_of(w).id)
    w:del()
    refused(w,
      { { conf = { vlanId = 4095 } }, 7, "vlanId", "4095", "4094" },
      { { conf = { vlanId = -1 } }, 7, "vlanId", "-1" },
      { { conf = { vlanId = "100" } }, 7, "vlanId", "quotes" },
      { { conf = { protocol = "802.1q" } }, 7, "protocol", '"802.1Q"?' },
      { { conf = { master = false } }, 7, "master" },
      { { conf = { ipam = false } }, 7, "ipam" },
      { { conf = { ipam = {} } }, 7, "ipam.type" })
  end)

  it("of a VLAN that is taken names who has it", function()
    t.needs("vlan")
    local w = vlan({}, { pods = 2 })
    w:add()
    local second = { id = "c2", pod = 2, conf = { name = "other",
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } } }
    refused(w, { second, nil, "VLAN 100 of up0", "eth0 of container c1, network net" })
    w:check()
    w:del()
    w:add(second)
    w:del(second)
    w:sh("ip link add link up0 name mine type vlan id 100")
    refused(w, { second, nil, "VLAN 100 of up0", "link mine in the host" })
    w:sh("ip link set mine netns far")
    refused(w, { second, nil, "VLAN 100 of up0", "another namespace" })
    t.run("ip link del mine", { host = w.far })
    w:add(second)
  end)

  it("of a VLAN taken in the sandbox names who has it", function()
    t.needs("vlan")
    local w = vlan({ master = "m0", linkInContainer = true })
    w:in_pod("ip link add m0 type veth peer name m1; ip link set m0 addrgenmode none up")
    w:add()
    refused(w, { { id = "c2", ifname = "eth1" }, nil, "VLAN 100 of m0", "eth0 of container c1" })
    w:add({ id = "c2", ifname = "eth1", conf = { vlanId = 101 } })
    w:in_pod("ip link add link m0 name mine type vlan id 5")
    refused(w, { { id = "c3", ifname = "eth2", conf = { vlanId = 5 } }, nil, "VLAN 5 of m0",
      "link mine in the sandbox" })
  end)
end)
