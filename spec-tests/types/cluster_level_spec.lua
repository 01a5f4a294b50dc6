-- SPDX-License-Identifier: MIT
-- The type cluster: when the next block is claimed, and what is said when none can be.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local clock = require("netlink").sys.clock

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

local function says(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

-- Blocks of a family.
local function of_family(m, pattern)
  local n = 0
  for block in pairs(m:blocks()) do
    if block:find(pattern) then n = n + 1 end
  end
  return n
end

describe("The next block of a pool", function()
  -- Where this is not sampled, for each number of addresses that can be in use.
  it("is claimed when less than a quarter of 64 is free, and not before, however many were taken meanwhile", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16" } } }
    local cases = { 1, 47, 48, 49, 63, 64 }
    for n = 2, 62, t.stride(20) do cases[#cases + 1] = n end
    for k, n in ipairs(cases) do
      local m = p:machine("n" .. k)
      m:add "c1"
      p.etcd:pause(1)
      for i = 2, n do m:add("c" .. i) end
      m:settle "KILL"
      p.etcd:resume(1)
      assert.equal(1, count(m:blocks()), n)
      assert.is_true(m:refill(), n)
      assert.equal(n <= 48 and 1 or 2, count(m:blocks()), n)
      assert.is_true(m:refill "--look", n)
      assert.equal(n <= 48 and 1 or 2, count(m:blocks()), n)
    end
  end)

  for _, case in ipairs { { 1, 16 }, { 50, 8 }, { 90, 1 } } do
    local low, last = table.unpack(case)
    it(("is claimed when less than %d per cent are free, where the configuration says so"):format(low), function()
      local p = pool.new { lowWater = low }
      local m = p:machine "n1"
      for i = 1, last do
        m:add("c" .. i)
        m:settle()
        -- With 16 of 16 in use none is free, which is less than one per cent of it.
        if i < last or low > 1 then assert.equal(1, count(m:blocks()), i) end
      end
      if low > 1 then m:add "more" end
      m:settle()
      assert.is_true(count(m:blocks()) >= 2)
      p:assert_sane { m }
    end)
  end

  it("is of the family that has little left", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16" }, { subnet = "fd05::/64", blockSize = 126 } } }
    local m = p:machine "n1"
    m:add "c1"
    m:settle()
    assert.same({ 1, 1 }, { of_family(m, "^10%."), of_family(m, "^fd05") })
    for i = 2, 10 do m:add("c" .. i) end
    m:settle()
    assert.is_true(m:refill())
    assert.equal(1, of_family(m, "^10%."))
    assert.is_true(of_family(m, "^fd05") >= 3)
    p:assert_sane { m }
  end)

  it("is asked for by an ADD again when it was not to be had a while ago, and by none just after", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    p.etcd:stop(1)
    for i = 2, 13 do m:add("c" .. i) end
    m:settle()
    says(m:state().failed.text, "Connection refused")
    p.etcd:start(1)
    local connections = p.etcd:count()
    m:add "c14"
    m:settle()
    assert.equal(0, connections())
    t.run(("sed -i 's/\"at\": *[0-9.]*/\"at\":0/' %s/blocks/default/pods.json"):format(m.dir))
    m:add "c15"
    m:settle()
    assert.equal(2, count(m:blocks()))
    assert.is_nil(m:state().failed)
    p:assert_sane { m }
  end)

  it("costs an ADD no time, whatever etcd does", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16" } } }
    local m = p:machine "n1"
    m:add "c1"
    local function of_each(first, last)
      local longest = 0
      for i = first, last do
        local began = clock()
        m:add("c" .. i)
        longest = math.max(longest, clock() - began)
      end
      return longest
    end
    local usual = of_each(2, 48)
    p.etcd:pause(1)
    local slow = of_each(49, 64)
    p.etcd:resume(1)
    m:settle()
    assert(slow < usual * 3 + 0.2, ("%.3f s, and %.3f s"):format(usual, slow))
    assert.equal(2, count(m:blocks()))
    p:assert_sane { m }
  end)
end)

describe("An ADD of a machine without an address", function()
  it("is refused in time, names each endpoint, and why it does not answer", function()
    local p = pool.new()
    local silent = p.etcd.endpoints[1]
    local m = p:machine("n1", { etcd = { endpoints = { "http://127.0.0.1:1", "http://127.0.0.1:2", silent } } })
    p.etcd:pause(1)
    local began = clock()
    local err = m:fails "ADD"
    local took = clock() - began
    assert(took < 13, took)
    assert.equal(11, err.code)
    says(err.text, "http://127%.0%.0%.1:1: Connection refused")
    says(err.text, "http://127%.0%.0%.1:2: Connection refused")
    says(err.text, silent:gsub("%W", "%%%0") .. ": no answer")
    p.etcd:resume(1)
    m:add "c1"
    assert.is_true(m:refill "--look")
    p:assert_sane { m }
  end)

  it("waits for the claim of another ADD, and gets an address of it", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16" } } }
    local m = p:machine "n1"
    p.etcd:pause(1)
    t.write("/run/spec/conf", t.json(m:conf()))
    local script = { "mkdir -p /run/spec/many" }
    for i = 1, 30 do
      script[#script + 1] = t.cni_words { verb = "ADD", type = "cluster", id = "c" .. i, netns = "/run/none" }
        .. " </run/spec/conf >/run/spec/many/" .. i .. " &"
    end
    script[#script + 1] = "sleep 2; kill -CONT " .. p.etcd.pids[1] .. "; wait"
    t.run(table.concat(script, "\n"), { host = p.host, timeout = 60 })
    local seen = {}
    for i = 1, 30 do
      local got = t.decode(t.read("/run/spec/many/" .. i))
      assert(got.ips, t.json(got))
      assert.is_nil(seen[got.ips[1].address])
      seen[got.ips[1].address] = true
    end
    m:settle()
    assert.is_true(m:refill "--look")
    assert.is_true(count(m:blocks()) <= 2)
    p:assert_sane { m }
  end)

  it("of which there are 30 at once with etcd away: all are refused within 15 s", function()
    local p = pool.new()
    local m = p:machine("n1", { etcd = { endpoints = { p.etcd.endpoints[1], "http://127.0.0.1:1" } } })
    p.etcd:pause(1)
    t.write("/run/spec/conf", t.json(m:conf()))
    local script = { "mkdir -p /run/spec/many" }
    for i = 1, 30 do
      script[#script + 1] = t.cni_words { verb = "ADD", type = "cluster", id = "c" .. i, netns = "/run/none" }
        .. " </run/spec/conf >/run/spec/many/" .. i .. " &"
    end
    local began = clock()
    t.run(table.concat(script, "\n") .. "\nwait", { host = p.host, timeout = 60 })
    local took = clock() - began
    assert(took < 15, took)
    for i = 1, 30 do
      local err = t.decode(t.read("/run/spec/many/" .. i))
      assert.equal(11, err.code)
    end
    t.same({}, m:leases())
    local err = m:fails("STATUS", false, { ifname = false })
    assert.equal(50, err.code)
    says(err.text, "127%.0%.0%.1:2379")
    says(err.text, "127%.0%.0%.1:1")
    p.etcd:resume(1)
    m:add "c1"
    m:does("STATUS", false, { ifname = false })
    assert.is_true(m:refill "--look")
    p:assert_sane { m }
  end)
end)
