-- SPDX-License-Identifier: MIT
-- A bridge that was made stays after DEL, with the gateway's address, its MAC and its index, for whoever
-- listens there; a failed or killed ADD still takes back what it made; removeUnused takes it away. A
-- bridge of others is as it was found.

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local refused = { ipam = { type = "host-local", subnet = "10.1.0.0/24",
  routes = { { dst = "10.77.0.0/16", gw = "172.16.0.1" } } } }

local function new(more, opts)
  opts = opts or {}
  opts.forwarding = true
  -- The rules of all are counted here, so that the neighbours have none.
  opts.neighbours = { masked = false }
  return world.new(t.with({ type = "bridge", bridge = "br0", isGateway = true,
    ipMasq = t.has("nft-nat"), ipam = v4 }, more), opts)
end

-- What somebody who listens on the bridge would notice.
local function bridge(w, name)
  local link = t.link(w.host, name or "br0")
  return link and { index = link.ifindex, mac = link.address, up = t.has_flag(link, "UP"),
    addrs = world.addrs(w.host, name or "br0"),
    routes = #t.ip(w.host, "route show dev " .. (name or "br0")) }
end

local gone = { removeUnused = true }

describe("The bridge", function()
  it("and its gateway's address stay after the last DEL, and serve the next ADD", function()
    local w = new()
    local bridges, veths = #t.ip(w.host, "link show type bridge"), #t.ip(w.host, "link show type veth")
    w:add()
    local was = bridge(w)
    t.same({ "10.1.0.1/24" }, was.addrs)
    w:del()
    t.same(was, bridge(w))
    assert.equal("", t.our_rules(w.host))
    assert.equal(bridges + 1, #t.ip(w.host, "link show type bridge"))
    assert.equal(veths, #t.ip(w.host, "link show type veth"))
    w:add()
    w:check()
    t.same(was, bridge(w))
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:gc({})
    t.same(was, bridge(w))
  end)

  it("goes with removeUnused also when somebody has given it another MAC, and stays when he has made it anew", function()
    local w = new(gone, { pods = 2 })
    for change, left in pairs {
      ["ip link set br0 address 02:11:22:33:44:55"] = false,
      ["ip link del br0; ip link add br0 type bridge; ip link set br0 address 02:11:22:33:44:55"] = true,
    } do
      w:add()
      w:sh(change)
      if not left then
        w:in_pod "ip neigh flush dev eth0"
        w:check()
        -- The next attachment does not forget whose it is.
        w:add { id = "c2", pod = 2 }
        w:del { id = "c2", pod = 2 }
      end
      w:del()
      assert.equal(left, bridge(w) ~= nil, change)
      w:sh "ip link del br0 2>/dev/null; true"
    end
  end)

  it("stays too when /run is too full to write that down, and the rest goes", function()
    local w = new()
    t.run("mkdir -p /run/luacni && mount -t tmpfs -o size=64k,mode=0700 spec /run/luacni")
    finally(function() t.run("umount /run/luacni") end)
    w:add()
    local was = bridge(w)
    t.sh("dd if=/dev/zero of=/run/luacni/full bs=4k 2>/dev/null")
    w:del()
    t.same(was, bridge(w))
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
    assert.equal("", t.our_rules(w.host))
    os.remove("/run/luacni/full")
    w:add()
    w:check()
    t.same(was, bridge(w))
  end)

  it("stays while a listener on the gateway's address hears one container after the other", function()
    local w = new()
    w:add()
    w:del()
    t.sh([[timeout 20 socat -u TCP4-LISTEN:7070,bind=10.1.0.1,fork,reuseaddr OPEN:/run/spec/heard,creat,append \
      >/dev/null 2>&1 & echo $! >/run/spec/listener]], { host = w.host })
    for _ = 1, 2 do
      w:add()
      w:in_pod("echo here | socat -u - TCP4:10.1.0.1:7070,retry=40,interval=0.05")
      w:del()
    end
    t.run("for i in $(seq 40); do [ \"$(wc -l </run/spec/heard)\" = 2 ] && break; sleep 0.05; done; " ..
      "kill $(cat /run/spec/listener)")
    assert.equal("here\nhere\n", t.read("/run/spec/heard"))
    os.remove("/run/spec/heard")
  end)

  it("goes with the last DEL that has removeUnused", function()
    local w = new(gone)
    local before = w:picture()
    w:add()
    w:del()
    t.same(before, w:picture())
  end)

  -- How many requests a DEL deletes links with. Without masquerading: the end of a batch for nf_tables has
  -- the same number.
  local function deletions(w, id, pod)
    t.write("/run/spec/conf", t.conf_bytes(w:config()))
    os.remove("/run/spec/trace")
    t.run(t.cni_words({ verb = "DEL", type = "bridge", host = w.host, netns = w.pods[pod], id = id,
      under = "strace -f -e trace=sendto -o /run/spec/trace" }) .. " </run/spec/conf")
    -- The name, or the number where strace does not know what socket it is.
    local named, numbered = "nlmsg_type=RTM_DELLINK", "nlmsg_type=0x11[ ,]"
    local trace = t.read("/run/spec/trace")
    return select(2, trace:gsub(named, "")) + select(2, trace:gsub(numbered, ""))
  end

  for name, more in pairs({ ["the last port"] = {}, ["the last port and a VLAN's gateway"] = { vlan = 100 } }) do
    it("goes with " .. name .. " by one request", function()
      t.needs("strace", more.vlan and "bridge-vlan" or nil)
      local w = new(t.merge({ removeUnused = true, ipMasq = false }, more), { pods = 2 })
      local before = w:picture()
      w:add()
      w:add({ id = "c2", pod = 2 })
      assert.equal(1, deletions(w, "c1", 1), t.read("/run/spec/trace"))
      assert.truthy(bridge(w))
      assert.equal(1, deletions(w, "c2", 2), t.read("/run/spec/trace"))
      t.same(before, w:picture())
      -- The gateway's address goes with the bridge.
      if not more.vlan then
        local trace = t.read("/run/spec/trace")
        assert.is_nil(trace:find "nlmsg_type=RTM_DELADDR" or trace:find "nlmsg_type=0x15[ ,]", trace)
      end
    end)
  end

  it("with an address of somebody else stays, while the port and the gateway's address go", function()
    local w = new({ removeUnused = true, ipMasq = false })
    local before = w:picture()
    w:add()
    w:sh("ip addr add 10.7.0.1/24 dev br0")
    w:del()
    t.same({ "10.7.0.1/24" }, world.addrs(w.host, "br0"))
    t.same({}, t.ip(w.host, "link show master br0"))
    w:sh("ip addr del 10.7.0.1/24 dev br0")
    w:add()
    w:del()
    t.same(before, w:picture())
  end)

  it("of somebody else loses the gateway's address that an attachment put there", function()
    local w = new({ removeUnused = true, ipMasq = false })
    w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up; ip addr add 10.7.0.1/24 dev br0")
    w:add()
    t.same({ "10.1.0.1/24", "10.7.0.1/24" }, world.addrs(w.host, "br0"))
    w:del()
    t.same({ "10.7.0.1/24" }, world.addrs(w.host, "br0"))
    t.same({}, t.ip(w.host, "link show master br0"))
  end)

  it("with an address of somebody else stays, while the port and a VLAN's gateway go", function()
    t.needs("bridge-vlan")
    local w = new({ removeUnused = true, ipMasq = false, vlan = 100 })
    w:add()
    w:sh("ip addr add 10.7.0.1/24 dev br0")
    w:del()
    assert.truthy(bridge(w))
    assert.is_nil(bridge(w, "br0.100"))
    t.same({}, t.ip(w.host, "link show master br0"))
    w:sh("ip addr del 10.7.0.1/24 dev br0")
    w:add()
    w:sh("ip addr add 10.7.0.1/24 dev br0.100")
    w:del()
    t.same({ "10.7.0.1/24" }, world.addrs(w.host, "br0.100"))
    assert.equal(1, #t.ip(w.host, "link show master br0"))
    w:sh("ip addr del 10.7.0.1/24 dev br0.100")
  end)

  it("stays with its address for whatever else is plugged in, and goes when that is gone", function()
    local w = new(gone)
    local before = w:picture()
    w:add()
    local was = bridge(w)
    w:sh("ip tuntap add vm0 mode tap; ip link set vm0 master br0 up")
    w:del()
    t.same(was, bridge(w))
    w:add()
    w:check()
    w:sh("ip link del vm0")
    w:del()
    t.same(before, w:picture())
  end)

  it("of somebody else that had its MAC from the port gets back the one before", function()
    local w = new({ removeUnused = true, isGateway = false, ipMasq = false })
    w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up")
    local before = t.link(w.host, "br0").address
    w:add()
    assert.not_equal(before, t.link(w.host, "br0").address)
    w:del()
    assert.equal(before, t.link(w.host, "br0").address)
  end)

  it("stays with a DEL without a record", function()
    local w = new()
    w:add()
    local was = bridge(w)
    t.run("rm -rf /run/luacni")
    w:del()
    t.same(was, bridge(w))
  end)

  it("that stayed goes with the last one that has removeUnused", function()
    local w = new(nil, { pods = 2 })
    local before = w:picture()
    w:add()
    w:del()
    w:add({ conf = gone })
    w:add({ id = "c2", pod = 2, conf = gone })
    w:del({ conf = gone })
    assert.truthy(bridge(w))
    w:del({ id = "c2", pod = 2, conf = gone })
    t.same(before, w:picture())
  end)

  it("that somebody has removed since, or made anew, is made again, or left", function()
    local w = new()
    w:add()
    w:del()
    w:sh("ip link del br0")
    w:add()
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
    w:del()
    w:sh("ip link del br0; ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up")
    local theirs = bridge(w)
    w:add()
    w:del()
    t.same(theirs, bridge(w))
    w:add({ conf = gone })
    w:del({ conf = gone })
    assert.truthy(bridge(w), "one of others is not ours to remove")
  end)

  it("of others loses the gateway's address with the last attachment", function()
    local w = new()
    w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up; " ..
      "ip addr add 10.1.0.77/24 dev br0")
    w:add({ conf = { forceAddress = true } })
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
    w:del({ conf = { forceAddress = true } })
    t.same({ "10.1.0.77/24" }, world.addrs(w.host, "br0"))
  end)

  it("has the addresses of all networks on it, each of which stays", function()
    local w = new(nil, { pods = 2 })
    local other = { id = "c2", pod = 2, conf = { name = "other",
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } } }
    w:add()
    w:del()
    w:add(other)
    w:del(other)
    t.same({ "10.1.0.1/24", "10.2.0.1/24" }, world.addrs(w.host, "br0"))
    other.conf.removeUnused = true
    w:add(other)
    w:del(other)
    -- Of a bridge that others have put an address on nothing but one's own goes.
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
  end)
end)

describe("A failed ADD", function()
  it("takes back the bridge that it made", function()
    local w = new()
    local before = w:picture()
    w:fails("ADD", { conf = refused })
    t.same(before, w:picture())
  end)

  it("leaves a bridge that has stayed, with its address, and takes back one that it put there", function()
    local w = new()
    w:add()
    w:del()
    local before = w:picture()
    w:fails("ADD", { conf = refused })
    t.same(before, w:picture())
    w:fails("ADD", { conf = t.merge(gone, refused) })
    t.same(before, w:picture())
    local far = { type = "host-local", subnet = "10.2.0.0/24", routes = refused.ipam.routes }
    w:fails("ADD", { conf = { ipam = far } })
    t.same(before, w:picture())
  end)

  it("leaves a bridge that it made and that another attachment has had meanwhile", function()
    local w = new(nil, { pods = 2 })
    -- Held before its last step by an IPAM plugin that waits and then fails.
    t.write("/run/spec/bin/slow", "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\n" ..
      "for i in $(seq 400); do [ -e /run/spec/go ] && break; sleep 0.05; done\n" ..
      "echo '{\"cniVersion\":\"1.1.0\",\"code\":11,\"msg\":\"no\"}'; exit 1\n")
    t.run("chmod +x /run/spec/bin/slow; rm -f /run/spec/go")
    local line = t.cni_words({ verb = "ADD", type = "bridge", host = w.host, netns = w.pods[1],
      path = "/run/spec/bin" })
    t.write("/run/spec/conf", t.conf_bytes(w:config({ ipam = { type = "slow" } })))
    t.sh(("%s </run/spec/conf >/run/spec/slow.out 2>&1 & echo $! >/run/spec/slow.pid"):format(line))
    t.run("for i in $(seq 200); do ip link show br0 >/dev/null 2>&1 && break; sleep 0.05; done",
      { host = w.host })
    local second = { id = "c2", pod = 2 }
    w:add(second)
    local was = bridge(w)
    w:del(second)
    t.run("touch /run/spec/go; while kill -0 $(cat /run/spec/slow.pid) 2>/dev/null; do sleep 0.05; done")
    assert.truthy(t.read("/run/spec/slow.out"):find('"no"', 1, true), t.read("/run/spec/slow.out"))
    t.same(was, bridge(w))
    t.run("rm -rf /run/spec/bin")
  end)

  -- The first ones of a node, all killed at some point; whoever comes next finds nothing of them.
  it("or several that were killed leave nothing when the next call has cleared them", function()
    local w = new(nil, { pods = 3 })
    local before, killed = w:picture(), 0
    for n = 4, 120, t.stride(7, { sanitized = 29 }) do
      local lines = {}
      for i = 1, 3 do
        t.write("/run/spec/conf" .. i, t.conf_bytes(w:config()))
        lines[i] = ("%s </run/spec/conf%d >/dev/null 2>&1 || :"):format(t.cni_words({ verb = "ADD",
          type = "bridge", host = w.host, netns = w.pods[i], id = "c" .. i,
          under = ("%s %d"):format(t.helper("killat"), n + 3 * i) }), i)
      end
      t.sh(table.concat(lines, " & ") .. " & wait")
      local whole = t.sh("grep -rs '\"done\"' /run/luacni/attachments/net") ~= ""
      if whole then break end
      killed = n
      w:gc({})
      t.same(before, w:picture(), "killed at " .. n)
    end
    assert.is_true(killed > 10)
  end)
end)

describe("luacni run", function()
  local conf = [[{ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0",
    "isGateway": true, %s"ipam": { "type": "host-local", "subnet": "10.1.0.0/24" } }]]

  local function run(w, more)
    t.write("/run/spec/conf", conf:format(more))
    w:sh(t.bin.ours .. "/luacni run /run/spec/conf -- true")
  end

  it("leaves no bridge behind, unless the configuration says that it stays", function()
    local w = new()
    run(w, "")
    assert.is_nil(t.link(w.host, "br0"))
    run(w, '"removeUnused": false, ')
    assert.truthy(t.link(w.host, "br0"))
  end)
end)

describe("With a VLAN", function()
  it("the gateway's link stays with the bridge; with removeUnused both go", function()
    t.needs("bridge-vlan")
    local w = new({ vlan = 100, ipMasq = false })
    local before = w:picture()
    w:add()
    local was = bridge(w, "br0.100")
    t.same({ "10.1.0.1/24" }, was.addrs)
    w:del()
    t.same(was, bridge(w, "br0.100"))
    w:add({ conf = gone })
    w:check({ conf = gone })
    t.same(was, bridge(w, "br0.100"))
    w:del({ conf = gone })
    t.same(before, w:picture())
  end)
end)

describe("The MAC of an administrator's bridge with the gateway's address on it", function()
  it("stays while ports come and go, and afterwards", function()
    for _, removed in ipairs({ true, false }) do
      local w = new({ removeUnused = removed }, { pods = 3 })
      w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up; " ..
        "ip addr add 10.1.0.1/24 dev br0")
      local mac = t.link(w.host, "br0").address
      for i = 1, 3 do
        local result = w:add({ id = "c" .. i, pod = i })
        assert.equal(mac, result.interfaces[1].mac)
        assert.equal(mac, t.link(w.host, "br0").address)
      end
      for i = 1, 3 do
        w:del({ id = "c" .. i, pod = i })
        assert.equal(mac, t.link(w.host, "br0").address)
      end
      t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
      t.cleanup()
    end
  end)

  it("that the administrator changes meanwhile stays changed", function()
    local w = new(nil, { pods = 2 })
    w:sh("ip link add br0 type bridge; ip link set br0 up; ip addr add 10.1.0.1/24 dev br0")
    w:add()
    w:sh("ip link set br0 address 0a:00:00:00:00:77")
    w:let_go() -- it still knows the MAC before
    w:add({ id = "c2", pod = 2 })
    assert.equal("0a:00:00:00:00:77", t.link(w.host, "br0").address)
    w:del()
    w:del({ id = "c2", pod = 2 })
    assert.equal("0a:00:00:00:00:77", t.link(w.host, "br0").address)
  end)
end)
