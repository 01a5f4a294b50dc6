-- SPDX-License-Identifier: MIT
-- The protocol, from outside: what DEL, CHECK, STATUS and GC promise on a bridge with
-- host-local, and what many at once do.
-- IDs are requirements of the CNI specification and its library.

local p = require "protocol"
local t = require "support"
local world = require "world"

local bridge, with, without = p.bridge, t.with, p.without

after_each(t.cleanup)

describe("DEL:", function()
  it("P-DEL-01, P-STT-02: takes back what ADD did, and nothing else's", function()
    local w = bridge({}, { pods = 2 })
    local before = w:picture()
    w:add()
    local one = w:picture()
    w:add({ pod = 2, id = "c2" })
    w:add({ ifname = "eth1" })
    w:add({ conf = { name = "other", bridge = "br1", ipam = with(p.dual, { ranges =
      { { { subnet = "10.2.0.0/24" } } } }) }, ifname = "eth2" })
    w:del({ conf = { name = "other", bridge = "br1" }, ifname = "eth2" })
    w:del({ ifname = "eth1" })
    w:del({ pod = 2, id = "c2" })
    t.same(one, w:picture())
    w:del()
    t.same(before, w:picture())
  end)

  it("T-24, P-DEL-02, P-DEL-11, TOL-02: succeeds as often as it is called", function()
    local w = bridge()
    w:add()
    for _ = 1, 4 do
      local got = w:call("DEL")
      assert.equal("", got.err)
      p.silent(got)
    end
  end)

  it("P-DEL-03: succeeds when the interface is gone", function()
    local w = bridge()
    local before = w:picture()
    w:add()
    w:in_pod("ip link del eth0")
    w:del()
    t.same(before, w:picture())
  end)

  it("P-DEL-03: succeeds when the bridge is gone", function()
    local w = bridge()
    local before = p.links(w.host)
    w:add()
    w:sh("ip link del br0")
    w:del()
    assert.equal(before, p.links(w.host))
  end)

  for name, pod in pairs { ["without CNI_NETNS"] = false,
    ["with a CNI_NETNS that is gone"] = "/run/netns/gone",
    ["with a CNI_NETNS that is a file"] = "/etc/hosts" } do
    it("P-DEL-04, P-DEL-05, P-DEL-08, TOL-01: frees everything " .. name, function()
      local w = bridge()
      local before = without(w, "pod1")
      w:add()
      t.remove_netns(w.pods[1])
      w:del({ pod = pod })
      w.pods = { t.netns("pod1") }
      t.same(before, without(w, "pod1"))
      t.run("rm -f " .. t.lease_dir .. "/net/last_reserved_ip.*")
      assert.equal("10.1.0.2/24", w:add({ id = "c2" }).ips[1].address)
    end)
  end

  it("P-DEL-04: without CNI_NETNS unplugs a living container too", function()
    local w = bridge()
    local before = w:picture()
    w:add()
    w:del({ pod = false })
    t.same(before, w:picture())
  end)

  it("P-DEL-06, P-STT-05, TOL-05: frees everything also with another configuration", function()
    for _, conf in ipairs {
      { bridge = "br9", ipMasq = false, isGateway = false },
      { ipam = with(p.dual, { ranges = { { { subnet = "10.99.0.0/24" } } } }) },
      { ipam = false }, { vlan = 5000 }, { mtu = "x" }, { bridge = 5 },
    } do
      local w = bridge()
      local before = w:picture()
      w:add()
      w:del({ conf = conf })
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("TOL-04: frees everything also with other arguments", function()
    local w = bridge()
    local before = w:picture()
    w:add({ args = "IP=10.1.0.77" })
    w:del({ args = "FOO=BAR;x", conf = { runtimeConfig = { ips = "broken" } } })
    t.same(before, w:picture())
  end)

  it("P-DEL-07, TOL-02: of an attachment that never was succeeds, and touches nothing", function()
    local w = bridge({}, { pods = 2 })
    w:add()
    local before = w:settled()
    w:del({ pod = 2, id = "c2" })
    w:del({ ifname = "eth1" })
    w:del({ conf = { name = "other" }, prev = false })
    t.same(before, w:picture())
  end)

  it("P-DEL-09: goes on past what it cannot do", function()
    local w = bridge()
    local before = w:picture()
    w:add()
    w:lose_rules(before)
    w:in_pod("ip link del eth0")
    w:del()
    t.same(before, w:picture())
  end)

  -- A bridge whose foreign IPAM plugin says that it does not know the container.
  local function stranger(verbs, also)
    p.foreign("stranger", "case $CNI_COMMAND in " .. verbs .. ")\n" .. (also or ":") ..
      '\necho \'{"cniVersion":"1.1.0","code":3,"msg":"no such container"}\'; exit 1;;\n' ..
      'ADD) echo \'{"cniVersion":"1.1.0","ips":[{"address":"10.5.0.9/24"}]}\';; esac')
    return bridge({ ipam = { type = "stranger" } }, { path = p.foreign_dir })
  end

  it("P-DEL-12: code 3 tells the runtime to clean up nothing, and nothing is left", function()
    local w = stranger("ADD")
    local before = w:picture()
    p.error(w:call("ADD"), 3, "no such container")
    t.same(before, w:picture())
  end)

  it("P-DEL-12: code 3 is not said while something is left to clean up", function()
    local w = stranger("ADD", "chmod -x $0")
    local before = w:picture()
    local e = p.error(w:call("ADD"), nil, "no such container")
    assert.not_equal(3, e.code)
    assert.is_truthy(e.text:find("taking it back failed too", 1, true), e.text)
    t.run("chmod +x " .. p.foreign_dir .. "/stranger")
    w:del()
    t.same(before, w:picture())
  end)

  it("P-DEL-12: code 3 of an IPAM plugin is no reason to stop: there is nothing to free", function()
    local w = stranger("DEL")
    local before = w:picture()
    w:add()
    w:del()
    w:del()
    t.same(before, w:picture())
  end)

  it("P-DEL-12: another code of an IPAM plugin is, and the next DEL goes on from there", function()
    p.foreign("broken", "case $CNI_COMMAND in DEL) [ -e $0.mended ] && exit 0\n" ..
      'echo \'{"cniVersion":"1.1.0","code":11,"msg":"come again"}\'; exit 1;;\n' ..
      'ADD) echo \'{"cniVersion":"1.1.0","ips":[{"address":"10.5.0.9/24"}]}\';; esac')
    local w = bridge({ ipam = { type = "broken" } }, { path = p.foreign_dir })
    os.remove(p.foreign_dir .. "/broken.mended")
    local before = w:picture()
    w:add()
    p.error(w:call("DEL"), 11, "come again")
    assert.equal("lo", p.links(w.pods[1]))
    p.error(w:call("DEL"), 11, "come again")
    t.write(p.foreign_dir .. "/broken.mended", "")
    w:del()
    t.same(before, w:picture())
  end)

  it("P-DEL-10, P-PRV-06: needs no prevResult in old versions", function()
    for _, version in ipairs { "0.1.0", "0.2.0", "0.3.0", "0.3.1" } do
      local w = bridge({ cniVersion = version })
      local before = w:picture()
      w:add()
      w:del({ prev = false })
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("P-IPM-03: of IPAM frees without a namespace, repeatedly", function()
    p.ok(p.call("ADD"))
    assert.is_truthy(world.lease("10.1.0.2"))
    p.silent(p.call("DEL", { netns = false }))
    assert.is_nil(world.lease("10.1.0.2"))
    p.silent(p.call("DEL", { netns = false }))
  end)

  it("P-STT-04: after a kill cleans up what there was", function()
    local w = bridge()
    local before = w:picture()
    for _, delay in ipairs { "0.001", "0.002", "0.003", "0.005" } do
      t.sh("timeout -s KILL " .. delay .. " " .. t.cni_words({ verb = "ADD", type = "bridge",
        netns = w.pods[1], host = w.host }), { stdin = t.conf_bytes(w:config()) })
      w:del()
      t.same(before, w:picture())
    end
  end)
end)

describe("CHECK:", function()
  it("P-CHK-01, P-CHK-07, P-CHK-09: passes right after ADD, silent, and changes nothing",
    function()
      for _, version in ipairs(p.since("0.4.0")) do
        local w = bridge({ cniVersion = version })
        w:add()
        w:check()
        local before = w:settled()
        for _ = 1, 3 do w:check() end
        t.same(before, w:picture())
        t.cleanup()
      end
    end)

  it("TOL-07: passes while addresses are tentative", function()
    local w = bridge({ enabledad = true })
    w:add()
    w:check()
  end)

  local broken = {
    ["the link"] = "ip link del eth0",
    ["an address"] = "ip addr del 10.1.0.2/24 dev eth0",
    ["an IPv6 address"] = "ip addr del fd01::2/64 dev eth0",
    ["a route"] = "ip route del default",
    ["an IPv6 route"] = "ip -6 route del default",
  }
  for what, command in pairs(broken) do
    it("P-CHK-03: fails when " .. what .. " is gone, and says so", function()
      local w = bridge()
      w:add()
      w:in_pod(command)
      local err = w:fails("CHECK")
      assert.is_truthy(err.text:find("%w"))
    end)
  end

  it("P-CHK-03: fails when the link is down or another one", function()
    local w = bridge()
    w:add()
    w:in_pod("ip link set eth0 down")
    w:fails("CHECK")
    w:in_pod("ip link del eth0; ip link add eth0 type veth peer name p0")
    w:fails("CHECK")
  end)

  it("P-CHK-03: fails when the gateway address is gone from the bridge", function()
    local w = bridge()
    w:add()
    w:sh("ip addr del 10.1.0.1/24 dev br0")
    w:fails("CHECK")
  end)

  it("P-CHK-05: fails when the rules or the reservation are gone", function()
    local w = bridge()
    w:add()
    w:lose_rules()
    w:fails("CHECK")
    w:del()
    w:add()
    t.run("rm " .. t.lease_dir .. "/net/10.1.0.*")
    w:fails("CHECK")
  end)

  it("P-CHK-06: fails when the port is out of the bridge", function()
    local w = bridge()
    w:add()
    w:sh("ip link set " .. w:port().ifname .. " nomaster")
    w:fails("CHECK")
  end)

  it("P-CHK-04: does not mind what others added", function()
    local w = bridge({}, { pods = 2 })
    w:add()
    w:in_pod("ip addr add 10.50.0.1/24 dev eth0; ip route add 10.51.0.0/16 dev eth0; " ..
      "ip link set eth0 mtu 1300; ip link set eth0 txqueuelen 7")
    w:sh("nft add table inet someone; ip addr add 10.52.0.1/24 dev br0")
    w:add({ pod = 2, id = "c2" })
    w:check()
    w:check({ pod = 2, id = "c2" })
  end)

  it("P-CHK-08: asks IPAM, and fails with it", function()
    p.ok(p.call("ADD"))
    p.silent(p.call("CHECK"))
    p.error(p.call("CHECK", { id = "c2" }))
    p.error(p.call("CHECK", { ifname = "eth1" }))
  end)

  it("fails for an attachment that never was, or was deleted", function()
    local w = bridge()
    local result = w:add()
    w:del()
    w:fails("CHECK", { prev = result })
    w:fails("CHECK", { id = "c9", prev = result })
  end)
end)

describe("STATUS:", function()
  it("P-STA-01, P-STA-08, P-STA-09: is silent, changes nothing, needs no attachment", function()
    local w = bridge()
    local before = w:picture()
    for _ = 1, 3 do w:ok("STATUS") end
    t.same(before, w:picture())
  end)

  it("P-STA-02, P-STA-03, P-STA-04: a full pool is code 50, on stdout", function()
    local w = bridge()
    local conf = { ipam = p.narrow_pool(w) }
    w:ok("STATUS", { conf = conf })
    w:add({ conf = conf })
    w:fails("STATUS", { conf = conf }, 50)
    w:del({ conf = conf })
    w:ok("STATUS", { conf = conf })
  end)

  it("P-STA-04: of IPAM alone says so too", function()
    local conf = { ipam = { type = "host-local", subnet = "10.1.0.0/30" } }
    p.ok(p.call("ADD", { conf = conf }))
    p.error(p.call("STATUS", { conf = conf }), 50)
  end)

  it("P-STA-05: other verbs work although it fails", function()
    local w = bridge()
    local conf = { ipam = p.narrow_pool(w) }
    w:add({ conf = conf })
    w:fails("STATUS", { conf = conf }, 50)
    w:check({ conf = conf })
    w:del({ conf = conf })
    w:add({ conf = conf })
  end)

  it("P-STA-06: asks the IPAM plugin, a missing one is an error", function()
    bridge({ ipam = { type = "no-such-ipam" } }):fails("STATUS")
  end)

  it("P-STA-07: a plugin without anything to say is silent", function()
    p.silent(t.cni({ verb = "STATUS", type = "loopback", id = false, ifname = false,
      conf = { cniVersion = "1.1.0", name = "lo", type = "loopback" } }))
  end)
end)

describe("GC:", function()
  local function three()
    local w = bridge({}, { pods = 3 })
    for i = 1, 3 do w:add({ pod = i, id = "c" .. i }) end
    return w
  end

  it("P-GC-01, P-GC-02, P-GC-09: takes back what is not listed, and nothing else", function()
    local w = bridge({}, { pods = 3 })
    w:add({ pod = 1, id = "c1" })
    local before = w:settled()
    w:add({ pod = 2, id = "c2" })
    w:add({ pod = 1, id = "c1", ifname = "eth1" })
    w:gc({ { "c1" }, { "c9" } })
    t.same(before, w:picture())
    w:check({ id = "c1" })
  end)

  it("P-GC-02: keeps all that are listed", function()
    local w = three()
    local before = w:picture()
    w:gc({ { "c1" }, { "c2" }, { "c3" } })
    t.same(before, w:picture())
  end)

  it("P-GC-03: reads the newer key, else the older one", function()
    local w = three()
    local function list(...)
      local items = t.list()
      for i, id in ipairs { ... } do items[i] = { containerID = id, ifname = "eth0" } end
      return items
    end
    w:ok("GC", { conf = { ["cni.dev/attachments"] = list("c1", "c2") } })
    w:check({ id = "c1" })
    w:check({ pod = 2, id = "c2" })
    w:fails("CHECK", { pod = 3, id = "c3" })
    w:ok("GC", { conf = { ["cni.dev/valid-attachments"] = list("c1"),
      ["cni.dev/attachments"] = list("c1", "c2") } })
    w:check({ id = "c1" })
    w:fails("CHECK", { pod = 2, id = "c2" })
  end)

  for name, value in pairs { ["null"] = t.null, ["absent"] = false, ["[]"] = t.list() } do
    it("T-32, P-GC-04, TOL-18: frees everything when the list is " .. name, function()
      local w = bridge({}, { pods = 2 })
      local before = w:picture()
      w:add({ pod = 1, id = "c1" })
      w:add({ pod = 2, id = "c2" })
      w:ok("GC", { conf = { ["cni.dev/valid-attachments"] = value,
        ["cni.dev/attachments"] = value } })
      t.same(before, w:picture())
    end)
  end

  it("P-GC-04: frees nothing when the list cannot be understood", function()
    local w = three()
    local before = w:picture()
    for _, value in ipairs { "x", 5, { a = 1 }, t.list { t.null }, t.list { "c1" },
      t.list { { containerID = "c1" } }, t.list { { ifname = "eth0" } }, true } do
      w:fails("GC", { conf = { ["cni.dev/valid-attachments"] = value } }, 7)
      t.same(before, w:picture())
    end
  end)

  it("P-GC-05: does not touch other networks", function()
    local w = bridge({}, { pods = 1 })
    w:add()
    local before = w:settled()
    w:gc({}, { conf = { name = "other" } })
    w:gc({}, { conf = { name = "ne" } })
    w:gc({}, { conf = { name = "net2" } })
    t.same(before, w:picture())
  end)

  it("P-GC-06: goes on past what fails, and reports it", function()
    local fake = "/run/spec/bin/fake"
    t.write(fake, '#!/bin/sh\n[ $CNI_COMMAND != ADD ] || ' ..
      [[echo '{"cniVersion":"1.1.0","ips":[{"address":"10.4.0.2/24"}]}']])
    t.run("chmod +x " .. fake)
    local w = bridge({}, { pods = 3, path = "/run/spec/bin" })
    w:add({ id = "c1" })
    w:add({ pod = 2, id = "c2", conf = { ipam = { type = "fake" } } })
    w:add({ pod = 3, id = "c3" })
    os.remove(fake)
    local err = w:fails("GC")
    assert.is_truthy(err.text:find("fake", 1, true))
    assert.equal("lo", p.links(w.pods[1]))
    assert.equal("lo", p.links(w.pods[3]))
    assert.is_nil(world.lease("10.1.0.2"))
    assert.is_nil(world.lease("10.1.0.3"))
    t.run("rmdir /run/spec/bin")
  end)

  it("P-GC-07: frees the reservations of IPAM too", function()
    local w = three()
    w:gc({ { "c2" } })
    assert.is_nil(world.lease("10.1.0.2"))
    assert.is_truthy(world.lease("10.1.0.3"))
    assert.is_nil(world.lease("10.1.0.4"))
  end)

  it("P-GC-07: of IPAM alone frees what is not listed", function()
    p.ok(p.call("ADD", { id = "c1" }))
    p.ok(p.call("ADD", { id = "c2" }))
    p.silent(p.call("GC", { conf = { ["cni.dev/valid-attachments"] =
      { { containerID = "c2", ifname = "eth0" } } } }))
    assert.is_nil(world.lease("10.1.0.2"))
    assert.is_truthy(world.lease("10.1.0.3"))
  end)

  it("P-GC-08: takes back what is left of a container whose namespace is gone", function()
    local w = bridge({}, { pods = 2 })
    w:add({ pod = 1, id = "c1" })
    local before = without(w, "pod2")
    w:add({ pod = 2, id = "c2" })
    t.remove_netns(w.pods[2])
    w.pods[2] = t.netns("pod2")
    w:gc({ { "c1" } })
    t.same(before, without(w, "pod2"))
  end)

  it("is silent when there is nothing to do, again and again", function()
    local w = bridge()
    for _ = 1, 3 do w:gc({}) end
  end)
end)

describe("concurrency:", function()
  it("P-GC-11, R-LIF-03: GC meanwhile does not take what is valid", function()
    local list = {}
    for i = 1, 20 do list[i] = { containerID = "c" .. i, ifname = "eth0" } end
    t.write("/run/spec/conf", t.json(p.conf { ["cni.dev/valid-attachments"] = list }))
    local lines = {}
    for i = 1, 20 do
      for _, verb in ipairs { "ADD", "GC" } do
        lines[#lines + 1] = t.cni_words({ verb = verb, type = "host-local", id = "c" .. i,
          netns = "/run/netns/x" }) .. " </run/spec/conf >/dev/null & "
      end
    end
    t.run(table.concat(lines) .. "wait")
    for i = 1, 20 do p.silent(p.call("CHECK", { id = "c" .. i })) end
    os.remove("/run/spec/conf")
  end)

  it("P-STT-01, P-ADD-07: 30 ADDs at once get 30 addresses, 30 DELs free them", function()
    local function all(verb)
      local lines = {}
      t.write("/run/spec/conf", t.json(p.conf()))
      for i = 1, 30 do
        lines[i] = t.cni_words({ verb = verb, type = "host-local", id = "c" .. i,
          netns = "/run/netns/x" }) .. " </run/spec/conf >/run/spec/out." .. i .. " & "
      end
      t.run(table.concat(lines) .. "wait")
      local outs = {}
      for i = 1, 30 do
        outs[i] = t.read("/run/spec/out." .. i)
        os.remove("/run/spec/out." .. i)
      end
      os.remove("/run/spec/conf")
      return outs
    end
    local seen, n = {}, 0
    for _, out in ipairs(all("ADD")) do
      local address = p.shaped(out, "1.1.0").ips[1].address
      if not seen[address] then n = n + 1 end
      seen[address] = true
    end
    assert.equal(30, n)
    for _, out in ipairs(all("DEL")) do assert.equal("", out) end
    for name in pairs(t.files(t.lease_dir .. "/net")) do assert.is_nil(name:find("^10%.")) end
  end)
end)
