-- SPDX-License-Identifier: MIT
-- The record against the world: one that has outlived what it records, a network with
-- another name, a configuration or a script that has gone bad, a record by a newer version.
-- Whose sandbox a record is of: sandbox_spec.
--
-- Seconds a test takes on the second kernel: 16

local plugins = require "plugins"
local t = require "support"
local world = require "world"

local bridge = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true,
  ipam = { type = "host-local", subnet = "10.1.0.0/24" } }
local site = "/etc/luacni/plugins/"
local with = t.merge

local function new(conf, opts)
  local w = world.new(with(bridge, conf), with({ forwarding = true }, opts))
  -- Links give themselves no addresses, since those come some time later.
  for _, ns in ipairs { w.host, table.unpack(w.pods) } do
    t.run("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode", { host = ns })
  end
  return w
end

local function lose_records() t.run("rm -rf /run/luacni/attachments") end

local records = t.records

local function lend(w)
  w:sh("ip link add dev1 address 0a:00:00:00:00:d1 type veth peer name end1; ip link set dev1 up; ip link set end1 up")
end

-- ------------------------------------------------------------------------------------

describe("A record that has outlived what it records", function()
  local function outlived(name, undo, conf, opts)
    it("does not keep the next ADD from its work: " .. name, function()
      if opts and opts.needs then t.needs(opts.needs) end
      local w = new(conf)
      local before = w:picture()
      w:add()
      undo(w)
      assert.truthy(records() ~= "")
      w:add()
      w:check()
      w:del()
      t.same(before, w:picture())
    end)
  end

  outlived("link and lease were removed by hand", function(w)
    w:in_pod("ip link del eth0")
    t.run("rm " .. t.lease_dir .. "/net/10.*")
  end)
  outlived("the reference plugin has done the DEL", function(w)
    w:del({ bin = "reference", path = "/usr/lib/cni" })
  end, { cniVersion = "1.0.0" }, { needs = "reference" })
  outlived("loopback was set down", function(w) w:in_pod("ip link set lo down") end,
    { type = "loopback", ipam = false })

  it("is told from a living one, of which something is there", function()
    for _, undo in ipairs { "rm " .. t.lease_dir .. "/net/10.*", "ip -n pod1 link del eth0" } do
      local w = new()
      w:add()
      t.run(undo)
      local before = w:picture()
      assert.truthy(w:fails("ADD", nil, 999).msg:find("already attached", 1, true))
      t.same(before, w:picture(), undo)
      w:del()
      t.cleanup()
    end
    local w = new({ type = "loopback", ipam = false })
    w:add()
    w:fails("ADD", nil, 999)
  end)

  local function host_local(verb, more, c)
    local ipam = with({ type = "host-local", subnet = "10.1.0.0/24" }, more)
    return t.cni(with({ verb = verb, type = "host-local", netns = t.current.pod,
      conf = { cniVersion = "1.0.0", name = "net", type = "bridge", ipam = ipam } }, c))
  end

  it("does not keep host-local from a lease directory that was emptied, or is another", function()
    t.current.pod = t.netns()
    assert.equal(0, host_local("ADD").rc)
    t.run("rm " .. t.lease_dir .. "/net/10.*")
    assert.equal(0, host_local("ADD").rc)
    assert.equal(1, host_local("ADD").rc)
    assert.equal("c1\r\neth0", world.lease("10.1.0.3") or world.lease("10.1.0.2"))

    local other = { dataDir = "/run/spec/leases" }
    assert.equal(0, host_local("ADD", other).rc)
    assert.equal(1, host_local("ADD", other).rc)
    assert.equal(0, host_local("DEL", other).rc)
    t.same({}, t.snapshot({ leases = "/run/spec/leases" }).leases)
    -- The other one's has stayed.
    assert.truthy(world.lease("10.1.0.3") or world.lease("10.1.0.2"))
    assert.equal(0, host_local("DEL").rc)
    t.same({}, t.snapshot().leases)
    assert.equal("", records())
  end)

  it("takes its lease along, also from a directory that is no longer named", function()
    t.current.pod = t.netns()
    assert.equal(0, host_local("ADD", { dataDir = "/run/spec/leases" }).rc)
    assert.equal(0, host_local("DEL").rc)
    t.same({}, t.snapshot({ leases = "/run/spec/leases" }).leases)
  end)
end)

-- ------------------------------------------------------------------------------------

describe("A network with another name since the ADD:", function()
  local renamed = { name = "new" }

  it("DEL takes back the record that prevResult is of", function()
    local w = new()
    local before = w:picture()
    w:add()
    w:del({ conf = renamed })
    t.same(before, w:picture())
    w:del({ conf = renamed })
    t.same(before, w:picture())
  end)

  it("a lent device comes home", function()
    local w = new({ type = "host-device", device = "dev1" })
    lend(w)
    local before = w:picture()
    w:add()
    w:del({ conf = renamed })
    t.same(before, w:picture())
  end)

  it("also when the sandbox is gone", function()
    local w = new()
    local before = w:picture()
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del({ conf = renamed, pod = "/run/netns/pod1" })
    assert.equal("", records())
    t.same(before.leases, w:picture().leases)
  end)

  it("a stale DEL, whose prevResult is another's, takes nothing", function()
    local w = new({ type = "host-device", device = "dev1" })
    lend(w)
    w:add()
    local before, result = w:picture(), w.results["c1 eth0"]
    local function prev(more)
      local copy = t.decode(t.json(result))
      for key, value in pairs(more) do copy.interfaces[1][key] = value end
      return copy
    end
    for _, stale in ipairs { prev({ mac = "0a:00:00:00:00:d9" }), prev({ sandbox = "/run/netns/old" }),
      prev({ name = "eth7" }), false, { cniVersion = "1.1.0" } } do
      w:del({ conf = renamed, prev = stale })
      t.same(before, w:picture(), t.json(stale))
    end
    w:del({ id = "c2", conf = renamed, prev = result })
    w:del({ ifname = "eth1", conf = renamed, prev = result })
    t.same(before, w:picture())
    w:check()
  end)

  it("of two parts of one type each DEL takes its own", function()
    t.write(site .. "marker.lua", [[
      local schema = require "cni.schema"
      return { conf = schema.record { link = schema.ifname }, add = function(req)
        req.host:add_link { name = req.conf.link, kind = "bridge" }
      end }]])
    local w = world.new({ type = "marker" })
    local prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", mac = "0a:00:00:00:00:01",
      sandbox = "/run/netns/pod1" } } }
    local before = w:picture()
    local function call(verb, link, name)
      w:ok(verb, { type = "luacni", prev = prev, conf = { link = link, name = name } })
    end
    call("ADD", "one", "net")
    call("ADD", "two", "net")
    call("DEL", "one", "new")
    assert.is_nil(t.link(w.host, "one"))
    assert.truthy(t.link(w.host, "two"))
    call("DEL", "one", "new")
    assert.truthy(t.link(w.host, "two"), "a second DEL took the sibling's")
    call("DEL", "two", "new")
    t.same(before, w:picture())
  end)

  it("an IPAM plugin's record is known by its addresses", function()
    local pod = t.netns()
    local function call(verb, name, prev)
      return t.cni({ verb = verb, type = "host-local", netns = pod, conf = { cniVersion = "1.0.0",
        name = name, type = "bridge", prevResult = prev, ipam = bridge.ipam } })
    end
    assert.equal(0, call("ADD", "net").rc)
    local function prev(address)
      return { cniVersion = "1.0.0", ips = { { address = address } },
        interfaces = { { name = "eth0", mac = "0a:00:00:00:00:01", sandbox = pod.path } } }
    end
    assert.equal(0, call("DEL", "new", prev("10.1.0.9/24")).rc)
    assert.truthy(world.lease("10.1.0.2"))
    assert.equal(0, call("DEL", "new", prev("10.1.0.2/24")).rc)
    assert.is_nil(world.lease("10.1.0.2"))
    assert.equal("", records())
  end)
end)

-- ------------------------------------------------------------------------------------

describe("Without a record, a configuration that ADD refuses", function()
  for _, entry in t.due(plugins.list, 3) do
    local type = plugins.type(entry)
    -- What flannel has refused lies in its delegate.
    local has_keys = type ~= "loopback" and type ~= "luacni" and type ~= "flannel"
    if not entry.ipam and not entry.prev and has_keys then
      it("is good enough for DEL: " .. entry.name, function()
        t.needs(table.unpack(entry.needs or {}))
        for _, bad in ipairs {
          { mtu = "big", hwaddr = "zz", portIsolation = "true", owner = "x", flag = "odd", mode = 7 },
          { dns = "none", runtimeConfig = { mac = 7, ips = "x" }, args = { cni = 1 }, nothing = {} },
        } do
          t.wipe()
          local w = plugins.world(entry)
          local before = w:picture()
          w:add()
          lose_records()
          w:fails("ADD", { conf = bad }, 7)
          w:del({ conf = bad })
          if type == "host-device" then
            -- What it was like is in the record alone, but for its name.
            assert.truthy(t.link(w.host, "dev1"))
            t.same(before.leases, w:picture().leases)
          else
            t.same(before, w:picture(), t.json(bad))
          end
          t.cleanup()
          if t.guest then return end
        end
      end)
    end
  end

  it("frees the address where IPAM's part is bad", function()
    local w = new()
    local before = w:picture()
    for _, ipam in ipairs { { type = "host-local", subnet = "10.1.0.0/33" },
      { type = "host-local", ranges = "none" }, { type = "host-local", routes = { { dst = "x" } } } } do
      w:add()
      lose_records()
      w:del({ conf = { ipam = ipam } })
      t.same(before, w:picture(), t.json(ipam))
    end
  end)

  it("of an attachment that the reference made is good enough too", function()
    t.needs("reference")
    local w = new({ cniVersion = "1.0.0" })
    local links = #t.ip(w.host, "link show type veth")
    w:add({ bin = "reference", path = "/usr/lib/cni" })
    w:del({ conf = { portIsolation = "true", hairpinMode = 1 } })
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.equal(links, #t.ip(w.host, "link show type veth"))
    t.same({}, t.snapshot().leases)
  end)

  it("does not make DEL take a link of another MAC than prevResult's", function()
    local w = new()
    local before = w:picture()
    w:add()
    lose_records()
    local mac = t.link(w.pods[1], "eth0").address
    w:in_pod("ip link set eth0 address 0a:00:00:00:00:11")
    w:del({ conf = { mtu = "big" } })
    assert.truthy(t.link(w.pods[1], "eth0"))
    w:in_pod("ip link set eth0 address " .. mac)
    w:del({ conf = { mtu = "big" } })
    t.same(before, w:picture())
  end)
end)

-- ------------------------------------------------------------------------------------

local wire = [[
local ipam = require "cni.ipam"
return { add = function(req)
  local lease = ipam.add(req)
  local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
  req.host:set_link(port, { up = true })
  ipam.apply(lease, req.pod, eth)
  if req.raw.to then require("cni.addr").parse(req.raw.to):network() end
  return { interfaces = { port, eth }, ips = lease.ips, routes = lease.routes }
end }
]]

-- What may become of a script.
local broken = {
  { "a syntax error", function(path) t.write(path, "return { add = function(req }") end },
  { "an error when it is loaded", function(path) t.write(path, "error('on purpose')") end },
  { "no end", function(path) t.write(path, "while true do end") end },
  { "no add", function(path) t.write(path, "return {}") end },
  { "writers other than root", function(path) t.run { "chmod", "666", path } end },
  { "gone", function(path) os.remove(path) end },
  { "a value that it chokes on", function() end, { to = "10.0.0.0/33" } },
}

describe("A site's script that has", function()
  local function made(name)
    t.wipe()
    t.write(site .. "wire.lua", wire)
    t.run("mkdir -p /run/spec/bin; ln -sf " .. t.build .. "/luacni /run/spec/bin/wire")
    local w = new({ type = "wire" })
    w.bin = name == "wire" and "/run/spec/bin" or "ours"
    return w, w:picture()
  end

  for _, name in ipairs { "wire", "luacni" } do
    for _, way in ipairs(broken) do
      it(("%s holds no attachment: DEL and GC, as %s"):format(way[1], name), function()
        local w, before = made(name)
        local c = { type = name, conf = way[3] }
        local function spoilt()
          os.remove(site .. "wire.lua")
          t.write(site .. "wire.lua", wire)
          w:ok("ADD", { type = name })
          assert.truthy(t.link(w.pods[1], "eth0"))
          way[2](site .. "wire.lua")
        end
        spoilt()
        w:ok("DEL", c)
        t.same(before, w:picture(), "DEL by the record")
        if way[1] == "no end" then return end
        spoilt()
        w:ok("GC", { type = name, conf = with(way[3] or {}, { ["cni.dev/valid-attachments"] = t.list() }) })
        t.same(before, w:picture(), "GC by the record")
        spoilt()
        lose_records()
        w:ok("DEL", c)
        t.same(before, w:picture(), "DEL without a record")
        w:ok("DEL", c)
        w:fails("ADD", c)
        t.same(before, w:picture())
      end)
    end
  end

  it("served as IPAM plugin and is broken holds no address", function()
    for _, way in ipairs(broken) do
      if not way[3] and way[1] ~= "no end" then
        t.wipe()
        local pool = "return { ipam = true, add = function(req) return { ips = req:lease { " ..
          "dir = '/var/lib/cni/networks', network = req.network, sets = { { { subnet = '10.1.0.0/24', " ..
          "first = '10.1.0.5', last = '10.1.0.9' } } } } } end }"
        t.write(site .. "pool.lua", pool)
        local w = new({ ipam = { type = "pool" } })
        local before = w:picture()
        for _, forget in ipairs { false, true } do
          os.remove(site .. "pool.lua")
          t.write(site .. "pool.lua", pool)
          w:add()
          assert.truthy(next(t.snapshot().leases))
          way[2](site .. "pool.lua")
          if forget then lose_records() end
          w:del()
          t.same(before, w:picture(), way[1])
        end
        t.cleanup()
      end
    end
  end)
end)

-- ------------------------------------------------------------------------------------

describe("A record with a step that a newer version has written", function()
  local function newer()
    local w = new()
    local before = w:picture()
    w:add()
    local path = "/run/luacni/attachments/net/c1:eth0/bridge"
    local text = t.read(path):gsub('\n({"done")',
      '\n{"kind":"quota","ns":"pod","want":{"rate":"10mbit"}}\n%1')
    t.write(path, text)
    return w, before
  end

  it("is taken back as far as it is known; the rest is said once", function()
    local w, before = newer()
    local got = w:call("DEL")
    assert.equal(0, got.rc, got.out)
    t.same(before, w:picture())
    local _, times = got.err:gsub("quota", "")
    assert.equal(1, times, got.err)
    assert.truthy(got.err:find("10mbit", 1, true), got.err)
    got = w:call("DEL")
    assert.equal("", got.err)
  end)

  it("does not hold up GC, nor the next ADD", function()
    local w, before = newer()
    local got = w:call("GC", { conf = { ["cni.dev/valid-attachments"] = t.list() } })
    assert.equal(0, got.rc, got.out)
    assert.truthy(got.err:find("quota", 1, true), got.err)
    t.same(before, w:picture())
    t.cleanup()
    w = newer()
    w:fails("ADD", nil, 999)
    w:in_pod("ip link del eth0")
    t.run("rm " .. t.lease_dir .. "/net/10.*")
    w:add()
    w:check()
  end)

  it("is taken back as far as it is known when it is the layout of a step that is new", function()
    for _, change in ipairs { { '"masked4_24"%]', '"masked9_24"]' }, { '"set":"masked4_24"', '"set":"hidden"' },
      { '"module":"masq"', '"module":"nat"' } } do
      t.cleanup()
      local w = new({ ipMasq = true }, { neighbours = false })
      local before = w:picture()
      w:add()
      local path = "/run/luacni/attachments/net/c1:eth0/bridge"
      local text, changed = t.read(path):gsub(change[1], change[2])
      assert.equal(1, changed)
      t.write(path, text)
      local got = w:call("DEL")
      assert.equal(0, got.rc, got.out)
      assert.matches("elements", got.err)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      w:sh(t.flush)
      t.same(before.kernel, w:picture().kernel)
    end
  end)

  it("is explained", function()
    newer()
    assert.truthy(t.run({ t.build .. "/luacni", "explain" }):find("quota", 1, true))
  end)
end)
