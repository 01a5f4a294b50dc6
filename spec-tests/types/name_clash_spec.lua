-- SPDX-License-Identifier: MIT
-- Names that are chosen at random may be somebody's: then another one is chosen. The dice are loaded
-- (dice.c), everything else is the real thing.

local t = require "support"
local world = require "world"

local library = "/run/spec/dice.so"
local asan = (os.getenv("ASAN_OPTIONS") or "") .. ":verify_asan_link_order=0"

setup(function()
  t.run({ "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library,
    "spec-tests/dice.c" })
end)

local conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, ipMasq = true,
  ipam = { type = "host-local", subnet = "10.5.0.0/24" } }

local function new()
  local w = world.new(conf, { forwarding = true })
  w:sh("ip link add vethdeadbeef type veth peer name other")
  return w
end

-- A call in which so many names are vethdeadbeef.
local function loaded(dice, more)
  local c = { env = { LD_PRELOAD = library, DICE = tostring(dice), ASAN_OPTIONS = asan } }
  for key, value in pairs(more or {}) do c[key] = value end
  return c
end

local function leases()
  local count = 0
  for name in pairs(t.files(t.lease_dir .. "/net")) do
    if name:find("^10%.") then count = count + 1 end
  end
  return count
end

describe("A random name that somebody has", function()
  it("is given up for another one, and the other's link is left alone", function()
    for dice = 1, 3 do
      local w = new()
      local before = w:picture()
      local result = w:add(loaded(dice))
      local name = result.interfaces[2].name
      assert.truthy(name:find("^veth%x%x%x%x%x%x%x%x$"), name)
      assert.not_equal("vethdeadbeef", name)
      assert.equal("br0", t.link(w.host, name).master)
      assert.is_nil(t.link(w.host, "vethdeadbeef").master)
      assert.equal(1, leases())
      local steps = t.run({ t.bin.ours .. "/luacni", "explain" })
      assert.truthy(steps:find(name, 1, true), steps)
      assert.is_nil(steps:find("vethdeadbeef", 1, true), steps)
      w:check()
      w:del()
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("again and again is an error in the end, and leaves nothing", function()
    local w = new()
    local before = w:picture()
    local e = w:fails("ADD", loaded(1000), 999)
    assert.truthy(e.msg:find("vethdeadbeef exists already in the host", 1, true), e.msg)
    t.same(before, w:picture())
  end)

  it("is taken when nobody has it", function()
    local w = new()
    w:sh("ip link del vethdeadbeef")
    assert.equal("vethdeadbeef", w:add(loaded(1)).interfaces[2].name)
  end)

  it("does not hide that the pod's name is taken", function()
    local w = new()
    w:in_pod("ip link add eth0 type veth peer name p0")
    local before = w:picture()
    local e = w:fails("ADD", loaded(1), 999)
    assert.truthy(e.msg:find("eth0 exists already in the sandbox", 1, true), e.msg)
    t.same(before, w:picture())
  end)

  it("for the end of a shared pair is given up too", function()
    t.needs("bridge-vlan")
    local w = new()
    local before = w:picture()
    -- The port's name is the first, the shared pair's the second.
    local vlan = { vlan = 7, ipMasq = false }
    w:add(loaded(2, { conf = vlan }))
    assert.truthy(t.link(w.host, "br0.7"))
    assert.is_nil(t.link(w.host, "vethdeadbeef").master)
    w:check({ conf = vlan })
    w:del({ conf = vlan })
    t.same(before, w:picture())
  end)

  it("killed at any change on the way to another one is found and taken back by a DEL", function()
    local w = new()
    -- Once round, for the files that stay.
    w:add()
    w:del()
    local before, swept = w:picture(), 0
    for n = 1, 200, t.stride(3, { sanitized = 6 }) do
      local c = loaded(1, { verb = "ADD", type = "bridge", host = w.host, netns = w.pods[1] })
      c.under = ("%s %d"):format(t.helper("killat"), n)
      local _, status = t.sh(t.cni_words(c), { stdin = t.conf_bytes(w:config()) })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      w:del()
      t.same(before, w:picture(), "killed at change " .. n)
    end
    assert.is_true(swept > 20 and swept < 200, tostring(swept))
  end)
end)
