-- SPDX-License-Identifier: MIT
-- Which namespace an attachment is in, when the caller's path says something else, or
-- nothing: the record's sandbox is found by its cookie wherever it is, no other one is
-- touched, and what cannot be told stops the verb.

local plugins = require "plugins"
local t = require "support"
local world = require "world"

local bridge = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true,
  ipam = { type = "host-local", subnet = "10.1.0.0/24" } }

-- Links give themselves no addresses in it, since those come some time later.
local function new()
  local w = world.new(bridge, { pods = 2, forwarding = true })
  w:sh("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode")
  return w
end

local function lose_records() t.run("rm -rf /run/luacni/attachments") end

local records = t.records

-- A path that cannot be opened, and for no reason that says that nothing is there.
local function loop(path)
  os.remove(path)
  t.run { "ln", "-s", path, path }
end

-- A path of a file that is bound to a pod's namespace.
local function bind(pod, path)
  t.write(path, "")
  t.run { "mount", "--bind", pod.path, path }
end

local bound = {}
after_each(function()
  for _, path in ipairs(bound) do t.sh { "umount", "-l", path } end
  bound = {}
  t.sh("rm -rf /run/spec/ns")
end)

local function bound_at(pod, path)
  bind(pod, path)
  bound[#bound + 1] = path
  return path
end

describe("A DEL without a record", function()
  it("touches nothing in a sandbox that another container's record is for", function()
    for _, network in ipairs { "net", "other" } do
      local w = new()
      local other = { name = network }
      w:add({ id = "c2", pod = 2, conf = other })
      local before = w:picture()
      w:del({ id = "c9", pod = 2 })
      t.same(before, w:picture(), network)
      w:check({ id = "c2", pod = 2, conf = other })
      assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
      t.cleanup()
    end
  end)

  it("nor under another type; what is its owner's elsewhere, it takes back", function()
    local w = new()
    w:add({ id = "c2", pod = 2 })
    w:add({ id = "c9", pod = 1, ifname = "eth0" })
    lose_records()
    w:add({ id = "c3", pod = 2, ifname = "net1", conf = { name = "third", isGateway = false,
      ipam = false } })
    w:del({ id = "c9", pod = 2, prev = false })
    assert.truthy(t.link(w.pods[2], "eth0"))
    assert.truthy(t.link(w.pods[2], "net1"))
    assert.is_nil(world.lease("10.1.0.3"))
    assert.truthy(world.lease("10.1.0.2"))
  end)

  it("takes back what is in its own sandbox", function()
    local w = new()
    local before = w:picture()
    w:add()
    lose_records()
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    t.same(before.kernel.pod1, w:picture().kernel.pod1)
    assert.is_nil(world.lease("10.1.0.2"))
  end)

  it("fails where its namespace cannot be opened, and is content where there is none", function()
    local w = new()
    loop("/run/netns/odd")
    for path, code in pairs { ["/run/netns/odd"] = 5, ["/run/netns/none"] = 0,
      ["/run/netns/pod1/below"] = 0, ["/etc/passwd"] = 0 } do
      local got = w:call("DEL", { pod = path })
      assert.equal(code, got.json and got.json.code or got.rc, path .. got.out)
    end
    os.remove("/run/netns/odd")
  end)
end)

describe("A second ADD", function()
  it("with another namespace is refused while the first attachment lives", function()
    local w = new()
    w:add()
    local before, result = w:picture(), w.results["c1 eth0"]
    local e = w:fails("ADD", { pod = 2 }, 999)
    assert.truthy(e.msg:find("already attached", 1, true), e.msg)
    assert.truthy(e.text:find(w.pods[1].path, 1, true), e.text)
    w:fails("ADD", { pod = 2, prev = result }, 999)
    t.same(before, w:picture())
    w:check()
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
  end)

  it("is refused too where the path of the first has gone, and a process still is in it", function()
    local w = new()
    bound_at(w.pods[1], "/run/spec/ns/one")
    w:add({ pod = "/run/spec/ns/one" })
    t.run { "umount", "/run/spec/ns/one" }
    os.remove("/run/spec/ns/one")
    local before = w:picture()
    w:fails("ADD", { pod = 2 }, 999)
    t.same(before, w:picture())
  end)

  it("goes through over a sandbox that is gone", function()
    local w = new()
    local before = w:picture()
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = w.pods[2]
    w:add()
    assert.same({ "10.1.0.3/24" }, world.addrs(w.pods[2], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
    w:check()
    w:del()
    t.same(before.kernel.pod2, w:picture().kernel.pod2)
    assert.equal("", records())
  end)

  it("fails, and changes nothing, where it cannot be told whether the first one lives", function()
    local w = new()
    bound_at(w.pods[1], "/run/spec/ns/one")
    w:add({ pod = "/run/spec/ns/one" })
    t.run { "umount", "/run/spec/ns/one" }
    loop("/run/spec/ns/one")
    -- The namespace is gone in fact; but who knows?
    t.remove_netns(w.pods[1])
    w.pods[1] = w.pods[2]
    w:sh("while ip -o link show master br0 2>&- | grep -q .; do sleep 0.05; done")
    local before = w:picture()
    w:fails("ADD", nil, 5)
    t.same(before, w:picture())
  end)
end)

-- The ways in which a DEL may come without the path of the ADD; each gives what to call it with.
local strayed = {
  { "with another sandbox's path", function() return 2 end },
  { "without a path", function() return false end },
  { "with a path that names nothing", function() return "/run/netns/none" end },
  { "with the path of a file", function() return "/etc/hostname" end },
  { "after the path was bound anew", function(w, path)
    t.run { "umount", path }
    bind(w.pods[2], path)
    bound_at(w.pods[1], "/run/spec/ns/moved there")
    return path
  end },
  { "after the path has gone, and a process is in it", function(w, path)
    t.run { "umount", path }
    os.remove(path)
    w.process = t.run("nsenter --net=" .. w.pods[1].path ..
      " sleep 60 >/dev/null 2>&1 & echo $!"):match("%d+")
    -- Not by that mount.
    t.run("umount -l /run/netns/pod1; touch /run/netns/hidden")
    return false
  end },
}

describe("A DEL of a record", function()
  for _, entry in t.due(plugins.list, 3) do
    if not entry.ipam and not entry.prev and entry.conf and plugins.type(entry) ~= "loopback" then
      it(("(%s) takes it back in the sandbox that it is for"):format(entry.name), function()
        t.needs(table.unpack(entry.needs or {}))
        -- In a guest, where all takes longer, those that find it in different places.
        for _, way in ipairs(t.guest and { strayed[1], strayed[6] } or strayed) do
          t.wipe()
          local w = plugins.world(entry, 2)
          local before = w:picture()
          -- Somebody else's.
          t.run("ip link add eth0 type veth peer name e9", { host = w.pods[2] })
          local theirs = t.link(w.pods[2], "eth0")
          local path = bound_at(w.pods[1], "/run/spec/ns/one")
          w:add({ pod = path })
          local pod = way[2](w, path)
          w:del({ pod = pod })
          if w.process then
            local left = t.sh("nsenter -t " .. w.process .. " --net ip -o link show eth0")
            t.sh("kill " .. w.process)
            assert.equal("", left, way[1])
          else
            t.run("ip link del eth0", { host = w.pods[2] })
            t.same(before, w:picture(), way[1])
          end
          if not w.process then assert.truthy(theirs) end
          assert.equal("", records(), way[1])
          t.same({}, t.snapshot().leases, way[1])
          t.sh { "umount", "-l", path }
          t.sh { "umount", "-l", "/run/spec/ns/moved there" }
          t.cleanup()
        end
      end)
    end
  end

  it("fails, and keeps it, where the sandbox may be there and cannot be reached", function()
    t.needs("macvlan")
    local w = world.new({ type = "macvlan", master = "up0",
      ipam = bridge.ipam }, { pods = 2, far = true })
    local before = w:picture()
    bound_at(w.pods[1], "/run/spec/ns/one")
    w:add({ pod = "/run/spec/ns/one" })
    -- Held by a descriptor alone.
    local holder = t.run("nsenter --net=" .. w.pods[1].path .. " sh -c 'exec 7</proc/self/ns/net; " ..
      "exec nsenter --net=" .. w.host.path .. " sleep 60' >/dev/null 2>&1 & echo $!"):match("%d+")
    t.run("sleep 0.2; umount /run/spec/ns/one && umount /run/netns/pod1")
    loop("/run/spec/ns/one")
    w:fails("DEL", { pod = 2 }, 5)
    assert.truthy(records() ~= "")
    assert.truthy(world.lease("10.1.0.2"))
    t.run("rm /run/spec/ns/one && touch /run/spec/ns/one && mount --bind /proc/" .. holder ..
      "/fd/7 /run/spec/ns/one && mount --bind /run/spec/ns/one /run/netns/pod1 && kill " .. holder)
    w:del({ pod = 2 })
    t.same(before, w:picture())
  end)
end)

describe("GC", function()
  it("leaves what is listed where its namespace cannot be opened", function()
    local w = new()
    local path = bound_at(w.pods[1], "/run/spec/ns/one")
    w:add({ pod = path })
    t.run { "umount", path }
    os.remove(path)
    loop(path)
    local before = w:picture()
    w:gc({ { "c1" } })
    t.same(before, w:picture())
    os.remove(path)
    -- Nor is it dead while it is to be seen elsewhere.
    w:gc({ { "c1" } })
    t.same(before, w:picture())
    bound_at(w.pods[2], path)
    w:gc({ { "c1" } })
    t.same(before, w:picture())
    w:check()
  end)

  it("in a mount namespace that does not show the path leaves what is listed", function()
    local w = new()
    w:add()
    local before = w:picture()
    local conf = w:config({ ["cni.dev/valid-attachments"] =
      t.list({ { containerID = "c1", ifname = "eth0" } }) })
    local line = t.cni_words({ verb = "GC", type = "bridge", netns = false, id = false, ifname = false })
    for _, hide in ipairs { "umount /run/netns/pod1", "umount -l /run/netns && mount -t tmpfs none /run/netns" } do
      local out, status, err = t.sh("unshare -m --propagation private sh -c " ..
        t.quote(hide .. " && exec " .. line), { stdin = t.conf_bytes(conf), host = w.host })
      assert.equal(0, status, out .. err)
      t.same(before, w:picture(), hide)
    end
    w:check()
  end)

  it("takes what is not listed in whichever sandbox it is", function()
    t.needs("macvlan")
    local w = world.new({ type = "macvlan", master = "up0", ipam = bridge.ipam },
      { pods = 2, far = true })
    local before = w:picture()
    local path = bound_at(w.pods[1], "/run/spec/ns/one")
    w:add({ pod = path })
    t.run { "umount", path }
    os.remove(path)
    w:gc({})
    t.same(before, w:picture())
  end)
end)

describe("With any number of descriptors to be had", function()
  -- 0, 1 and 2 are the caller's.
  local function limited(w, verb, limit)
    local got = t.cni({ verb = verb, type = w.conf.type, host = w.host, netns = w.pods[1],
      conf = w:config({ prevResult = verb == "DEL" and w.results["c1 eth0"] or nil }),
      under = "prlimit --nofile=" .. limit })
    if verb == "ADD" and got.rc == 0 then w.results["c1 eth0"] = got.json end
    return got.rc == 0, got.out .. got.err
  end

  it("ADD and DEL are whole or can be repeated", function()
    t.needs("macvlan")
    local w = world.new({ type = "macvlan", master = "up0", ipam = bridge.ipam }, { far = true })
    local before = w:picture()
    local whole, failed = 0, 0
    for limit = 4, 16 do
      local ok, said = limited(w, "ADD", limit)
      if ok then
        whole = whole + 1
      else
        failed = failed + 1
        assert.is_nil(t.link(w.pods[1], "eth0"), said)
        w:add()
      end
      w:check()
      ok, said = limited(w, "DEL", limit)
      if not ok then
        failed = failed + 1
        w:del()
      end
      t.same(before, w:picture(), limit .. said)
    end
    assert.is_true(whole > 0 and failed > 0, whole .. " " .. failed)
  end)
end)
