-- SPDX-License-Identifier: MIT
-- Where the program may not write: /run, the leases or /proc/sys are read-only, /run is full, IPv6 is off. What
-- can be done without is done; what cannot fails, says what cannot be written, and is done when it can again.
--
-- Seconds a test takes on the second kernel: 17

local plugins = require "plugins"
local t = require "support"
local world = require "world"

local conf = { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true,
  ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } }

-- A command that runs another one where a folder is read-only.
local function read_only(folder)
  return "unshare -m sh -ec " .. t.quote(('mount --rbind %s %s; mount -o remount,bind,ro %s; exec "$@"')
    :format(folder, folder, folder)) .. " sh"
end

local function new(opts)
  return world.new(conf, t.merge({ forwarding = true }, opts))
end

describe("Where /run is read-only,", function()
  local under = read_only("/run")

  it("an ADD fails and changes nothing", function()
    local w = new()
    local before = w:picture()
    local e = w:fails("ADD", { under = under }, 5)
    assert.truthy(e.text:find("Read-only file system", 1, true), e.text)
    t.same(before, w:picture())
    w:add()
    w:del()
    t.same(before, w:picture())
  end)

  it("a CHECK is content, DEL and GC fail and change nothing, until it is not", function()
    local w = new({ pods = 2 })
    local before = w:picture()
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:ok("CHECK", { under = under })
    local attached = w:picture()
    for verb, more in pairs { DEL = {}, GC = { conf = { ["cni.dev/valid-attachments"] = t.list {} } } } do
      more.under = under
      local e = w:fails(verb, more, 5)
      assert.truthy(e.text:find("Read-only file system", 1, true), e.text)
      t.same(attached, w:picture())
    end
    w:del()
    w:gc({})
    t.same(before, w:picture())
  end)
end)

describe("Where /run is full,", function()
  it("an ADD fails and changes nothing; what there was is checked, taken back, and collected", function()
    -- The neighbours have records there too.
    local w = new({ pods = 3, neighbours = false })
    t.run("mkdir -p /run/luacni && mount -t tmpfs -o size=64k,mode=0700 spec /run/luacni")
    finally(function() t.run("umount /run/luacni") end)
    local before = w:picture()
    w:add()
    w:add({ id = "c2", pod = 2 })
    t.sh("dd if=/dev/zero of=/run/luacni/full bs=4k 2>/dev/null")
    local attached = w:picture()
    local e = w:fails("ADD", { id = "c3", pod = 3 })
    assert.truthy(e.text:find("No space left on device", 1, true), e.text)
    t.same(attached, w:picture())
    w:check()
    w:del()
    w:gc({})
    os.remove("/run/luacni/full")
    t.same(before, w:picture())
  end)
end)

describe("Where the leases are read-only,", function()
  local under = read_only("/var/lib/cni")

  it("an ADD fails and changes nothing", function()
    local w = new()
    local before = w:picture()
    local e = w:fails("ADD", { under = under })
    assert.truthy(e.text:find("Read-only file system", 1, true), e.text)
    t.same(before, w:picture())
  end)

  it("a DEL takes back all else and fails; the next one that may ends it", function()
    local w = new()
    local before = w:picture()
    w:add()
    w:ok("CHECK", { under = under })
    local e = w:fails("DEL", { under = under }, 5)
    assert.truthy(e.text:find("Read-only file system", 1, true), e.text)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.link(w.host, "br0"))
    assert.truthy(world.lease("10.1.0.2"))
    w:del()
    t.same(before, w:picture())
  end)
end)

describe("Where /proc/sys is read-only,", function()
  local under = read_only("/proc/sys")

  it("dual stack is served on a host that forwards already", function()
    local w = new({ far = true })
    local before = w:picture()
    w:ok("ADD", { under = under })
    for _, address in ipairs { "192.0.2.2", "2001:db8::2" } do assert.is_true(t.ping(w.pods[1], address)) end
    w:ok("CHECK", { under = under })
    w:ok("DEL", { under = under })
    t.same(before, w:picture())
  end)

  for _, entry in t.due(plugins.list, 3) do
    -- For settings that have to be written.
    local asks = plugins.type(entry) == "tuning" or plugins.type(entry) == "luacni"
      or entry.name == "portmap, by every address of the host"
    it(entry.name .. (asks and " says what it cannot set, and nothing stays" or " is served there too"), function()
      t.needs(table.unpack(entry.needs or {}))
      local w = plugins.world(entry)
      w:sh("echo 1 >/proc/sys/net/ipv4/ip_forward; echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra; " ..
        "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
      w:so_be_it()
      local before, call = w:picture(), { under = under, prev = plugins.prev(entry, w.pods[1]) }
      if asks then
        assert.truthy(w:fails("ADD", call).text:find("Read-only file system", 1, true))
      else
        w:ok("ADD", call)
        for _, address in ipairs(entry.reach or {}) do assert.is_true(t.ping(w.pods[1], address)) end
        w:ok("CHECK", { under = under })
        w:ok("DEL", { under = under })
      end
      t.same(before, w:picture())
    end)
  end

  it("forwarding that is off cannot be switched on, which is said, and nothing stays", function()
    local w = world.new(conf, { lived_in = false })
    local before = w:picture()
    local e = w:fails("ADD", { under = under })
    assert.truthy(e.text:find("forward", 1, true), e.text)
    assert.truthy(e.text:find("Read-only file system", 1, true), e.text)
    t.same(before, w:picture())
  end)
end)

describe("Where IPv6 is off,", function()
  local off = "for c in all default lo; do echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done"

  local function without()
    -- Nobody else has IPv6 either, so there are no neighbours to lose it.
    local w = world.new(conf, { lived_in = false, neighbours = false })
    w:sh(off)
    w:in_pod(off)
    return w, w:picture()
  end

  it("an address of it cannot be given, for that very reason, and nothing stays", function()
    local w, before = without()
    local e = w:fails("ADD")
    assert.truthy(e.text:find("IPv6", 1, true) and e.text:find("disable", 1, true), e.text)
    assert.is_nil(e.text:find("root", 1, true), e.text)
    t.same(before, w:picture())
  end)

  it("IPv4 alone is served as ever", function()
    local w, before = without()
    local more = { conf = { ipam = { type = "host-local", subnet = "10.1.0.0/24" } } }
    w:add(more)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:check(more)
    w:del(more)
    t.same(before, w:picture())
  end)
end)
