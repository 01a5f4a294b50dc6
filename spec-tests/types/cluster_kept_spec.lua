-- SPDX-License-Identifier: MIT
-- The type cluster: what a machine keeps of a pool, when calls are killed, the kernel refuses, files are gone, and the
-- configuration is another one.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function says(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

local function asked(address) return { args = "IP=" .. address } end

-- A call for c1 that is killed at its n-th change: what killat says of it, and whether it came to its end.
local function under(m, n, verb, more)
  m:call(verb, "c1", t.with({ under = ("%s -o /run/spec/report %d"):format(t.quote(t.helper "killat"), n) }, more))
  local report = t.read "/run/spec/report"
  return ("%s killed at %d: %s"):format(verb, n, report), report:find "^finished" ~= nil
end

describe("What a machine has of a pool", function()
  it("is what etcd says, when the ADD that claims its first block is killed at any change", function()
    local p, n, all = pool.new(), 0, {}
    repeat
      n = n + t.stride(7)
      local m = p:machine("n" .. n)
      local at, ended = under(m, n, "ADD")
      m:settle()
      m:does("DEL", "c1")
      t.same({}, m:leases(), at)
      m:add "c2"
      m:settle()
      assert.is_true(m:refill "--look", at)
      assert.is_true(count(m:blocks()) <= 2, at)
      all[#all + 1] = m
      p:assert_sane(all)
    until ended
    assert.is_true(n > 20, n)
  end)

  it("is what etcd says, when an ADD that claims an address alone is killed at any change, or its DEL is", function()
    local p, n = pool.new(), 0
    local m, other = p:machine "n1", p:machine "n2"
    m:add "c0"
    repeat
      n = n + t.stride(11)
      local at, ended = under(m, n, "ADD", asked "10.5.250.7")
      m:does("DEL", "c1")
      m:settle()
      assert.equal("10.5.250.7/16", m:add("c1", asked "10.5.250.7"), at)
      other:fails("ADD", "c1", asked "10.5.250.7")
      under(m, n, "DEL")
      m:does("DEL", "c1")
      m:settle()
      t.run(("sed -i 's/\"claimed_at\": *[0-9.]*/\"claimed_at\":0/' %s/blocks/default/pods.json"):format(m.dir))
      assert.is_true(m:refill "--look", at)
      p:assert_sane { m, other }
      assert.is_nil(p:owners()["10.5.250.7/32"], at)
    until ended
    assert.equal("10.5.250.7/16", other:add("c1", asked "10.5.250.7"))
  end)

  for _, errno in ipairs { "EIO", "ENOSPC" } do
    it("is what etcd says, whatever call of a claim comes to " .. errno, function()
      local p = pool.new { giveBackAfter = 0 }
      local m, n = p:machine "n1", 0
      m:add "c0"
      repeat
        n = n + t.stride(25)
        for i = 1, 12 do m:add("c" .. i) end
        m:settle()
        m:does("DEL", "c12")
        for i = 12, 14 do m:add("c" .. i) end
        m:settle "KILL"
        t.sh({ t.helper "killat", "-e", errno, "-o", "/run/spec/report", tostring(n), "build/luacni", "pool", "refill",
          "--data-dir", m.dir, "--look" }, { host = p.host })
        local report = t.read "/run/spec/report"
        local at = ("%s at %d: %s"):format(errno, n, report)
        assert.is_true(m:refill "--look", at)
        assert.is_true(count(m:blocks()) <= 4, at)
        p:assert_sane { m }
        assert.equal(15, count(m:leases()), at)
        for i = 1, 14 do m:does("DEL", "c" .. i) end
        m:settle()
        assert.is_true(m:refill "--look", at)
      until report:find "^finished"
      assert.is_true(n > 20, n)
    end)
  end

  it("is had again by an ADD where its leases and the index of them are gone, too", function()
    local p = pool.new()
    local m, pods, seen = p:machine "n1", {}, {}
    for i = 1, 9 do pods[i] = t.netns("pod" .. i) end
    local function call(verb, i)
      local got = t.cni { verb = verb, type = "bridge", id = "c" .. i, netns = pods[i], host = p.host,
        conf = m:conf { type = "bridge", bridge = "br0" } }
      assert(got.rc == 0, got.out)
      return verb == "ADD" and got.json.ips[1].address
    end
    local function add(i)
      local address = call("ADD", i)
      assert.is_nil(seen[address], address)
      seen[address] = true
    end
    for i = 1, 3 do add(i) end
    t.run("rm -r " .. m.dir .. "/leases")
    for i = 4, 6 do add(i) end
    t.run("rm -r /run/luacni/leases " .. m.dir .. "/leases")
    for i = 7, 9 do add(i) end
    m:settle()
    assert.equal(9, count(m:leases()))
    for i = 1, 9 do call("DEL", i) end
    t.same({}, m:leases())
    assert.equal(1, count(p:owners()))
    p:assert_sane { m }
  end)

  it("is there after the machine has started anew, and moments of before say nothing", function()
    local p = pool.new { giveBackAfter = 600 }
    local m = p:machine "n1"
    m:add "c1"
    p.etcd:stop(1)
    for i = 2, 14 do m:add("c" .. i) end
    m:settle()
    -- As it is after a long life: the clock begins anew.
    t.run(("sed -i 's/\"\\(at\\|looked_at\\)\": [0-9.]*/\"\\1\": 1e9/' %s/blocks/default/pods.json"):format(m.dir))
    p.etcd:start(1)
    m:add "c15"
    m:settle()
    local block = next(m:blocks())
    assert.equal(1, count(m:blocks()))
    t.write("/run/spec/boot", "00000000-0000-4000-8000-000000000000\n")
    t.run "rm -r /run/luacni; mount --bind /run/spec/boot /proc/sys/kernel/random/boot_id"
    local ok, err = pcall(function()
      -- Those of before had their addresses for one boot.
      m:add "d1"
      assert.equal(1, count(m:leases()))
      for i = 2, 13 do m:add("d" .. i) end
      m:settle()
      assert.equal("confirmed", m:blocks()[block])
      assert.equal(2, count(m:blocks()))
      for i = 1, 15 do m:does("DEL", "c" .. i) end
      assert.equal(13, count(m:leases()))
      p:assert_sane { m }
    end)
    t.run "umount /proc/sys/kernel/random/boot_id"
    assert(ok, err)
  end)

  it("does not depend on what the time is: clocks are an hour off, and are put right, while it gives and takes", function()
    local library = "/run/spec/clock_off.so"
    local asan = (os.getenv "ASAN_OPTIONS" or "") .. ":verify_asan_link_order=0"
    t.run { "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", library, "spec-tests/clock_off.c" }
    local function off(hours, more)
      return t.with({ env = { LD_PRELOAD = library, CLOCK_OFF = tostring(hours * 3600), ASAN_OPTIONS = asan } }, more)
    end
    local function listed(hours)
      return { "LD_PRELOAD=" .. library, "CLOCK_OFF=" .. hours * 3600, "ASAN_OPTIONS=" .. asan }
    end
    -- It does what it says.
    local now = tonumber(t.run "date +%s")
    local seen = tonumber(t.run("date +%s", { env = listed(1) }))
    assert.is_true(seen - now >= 3600 and seen - now < 3700, seen - now)
    local p = pool.new { giveBackAfter = 600 }
    local m, n = p:machine "n1", p:machine "n2"
    local function refill(machine, hours)
      t.run({ "build/luacni", "pool", "refill", "--look", "--data-dir", machine.dir },
        { host = p.host, stdin = "", env = listed(hours) })
    end
    for i = 1, 20 do
      m:add("c" .. i, off(i % 3 - 1))
      n:add("d" .. i, off(1 - i % 3))
    end
    m:settle()
    n:settle()
    for i = 2, 20 do m:does("DEL", "c" .. i, off(-1)) end
    refill(m, -1)
    local before = t.json(p:owners())
    -- An hour or two later by that clock, nothing has been empty for ten minutes.
    for _, hours in ipairs { 0, 1, -1, 1 } do
      refill(m, hours)
      refill(n, -hours)
      assert.equal(before, t.json(p:owners()))
    end
    -- The index is made anew, and nobody's address is taken for one of an earlier boot's.
    t.run "rm -r /run/luacni/leases"
    m:add("c30", off(1))
    assert.equal(2, count(m:leases()))
    m:does("CHECK", "c1", off(1))
    -- Of what was not to be had at a time long ago, or to come, it is asked again.
    p.etcd:stop(1)
    for i = 31, 60 do
      if m:call("ADD", "c" .. i, off(1)).rc ~= 0 then break end
    end
    m:settle()
    p.etcd:start(1)
    m:add("c70", off(-1))
    refill(m, 0)
    p:assert_sane { m, n }
  end)

  it("is not read by a program that is older than its file, which says so", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    local path = m.dir .. "/blocks/default/pods.json"
    t.run(("sed -i 's/^ *\"version\": 1$/\"version\": 2/' %s"):format(path))
    local err = m:fails("ADD", "c2")
    assert.equal(6, err.code)
    says(err.text, "pods%.json is of no known version")
    local ok, text = m:refill()
    assert.is_nil(ok)
    says(text, "of no known version")
    m:does("DEL", "c1")
  end)
end)

describe("A configuration that is another one by now", function()
  it("excludes from then on what it did not before; who has such an address keeps it", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/28", blockSize = 28 } } }
    local m = p:machine "n1"
    for i = 1, 3 do m:add("c" .. i) end
    local had = m:leases()
    m.ipam.exclude = { "10.5.0.0/29" }
    for i = 4, 10 do
      local last = tonumber(m:add("c" .. i):match "%.(%d+)/")
      assert.is_true(last >= 8 and last < 15, last)
    end
    assert.equal(11, m:fails("ADD", "more").code)
    for address in pairs(had) do assert.not_nil(m:leases()[address]) end
    for i = 1, 3 do m:does("CHECK", "c" .. i) end
    for i = 1, 10 do m:does("DEL", "c" .. i) end
    t.same({}, m:leases())
  end)

  it("has one family less or more", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    m.ipam.subnets = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "fd05::/64" } }
    local _, six = m:add "c2"
    says(six, "^fd05::.*/64$")
    m:does("CHECK", "c1")
    m:does("CHECK", "c2")
    m.ipam.subnets = { { subnet = "fd05::/64" } }
    says(m:add "c3", "^fd05::")
    m:does("CHECK", "c1")
    for i = 1, 3 do m:does("DEL", "c" .. i) end
    t.same({}, m:leases())
    m:settle()
    assert.is_true(m:refill "--look")
    p:assert_sane { m }
    for block in pairs(m:blocks()) do says(block, "^fd05") end
  end)

  it("has another name for the node: what the first one had stays its own, and no address is twice", function()
    local p = pool.new()
    local m = p:machine "n1"
    local first = m:add "c1"
    m.ipam.node = "n2"
    local second = m:add "c2"
    assert.not_equal(first, second)
    m:settle()
    m:refill "--look"
    local third = m:add "c3"
    assert.is_true(third ~= first and third ~= second)
    for block, node in pairs(p:owners()) do says(node .. " " .. block, "^n[12] ") end
    for i = 1, 3 do m:does("DEL", "c" .. i) end
    t.same({}, m:leases())
  end)

  it("is of another network on the same node, which has blocks of its own of the same pool", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine("n1", nil, "others")
    local seen = {}
    for i = 1, 20 do
      for _, each in ipairs { m, n } do
        local address = each:add("c" .. i)
        assert.is_nil(seen[address], address)
        seen[address] = true
      end
    end
    m:settle()
    n:settle()
    assert.is_true(m:refill "--look")
    p:assert_sane { m, n }
    m:does("DEL", "c1")
    assert.equal(19, count(m:leases()))
    assert.equal(20, count(n:leases()))
    local list = t.decode((m:tool("list", "pods", "--json", "--data-dir", m.dir)))
    local here = 0
    for _, entry in ipairs(list) do
      if entry.here then
        here = here + 1
        assert.equal("pods", entry.network)
      end
    end
    assert.equal(count(m:blocks()), here)
  end)
end)

describe("A file of blocks", function()
  local function machine(text, ipam)
    t.write("/run/spec/blocks", text)
    return pool.machine_of(t.netns("host", { lo = "up" }), t.with({ type = "cluster",
      subnets = { { subnet = "10.5.0.0/16" }, { subnet = "fd05::/64" } }, blocksFile = "/run/spec/blocks",
      node = "n1" }, ipam))
  end

  it("has those of both families; one that is not of the pool is of no use", function()
    local m = machine("  10.5.7.16/30 # here\n\nfd05::10/126\r\n10.9.0.0/24\n")
    local seen = {}
    for i = 1, 4 do
      local four, six = m:add("c" .. i)
      says(four, "^10%.5%.7%.1[6789]/16$")
      says(six, "^fd05::1[0-3]/64$")
      assert.is_nil(seen[four] or seen[six])
      seen[four], seen[six] = true, true
    end
    says(m:fails("ADD", "c5").text, "full: 4 of 4")
    m:does("CHECK", "c1")
    m:does("DEL", "c1")
    m:does("DEL", "c1")
    m:add "c5"
    local err = m:fails("STATUS", false, { ifname = false })
    assert.equal(50, err.code)
    m:does("DEL", "c2")
    m:does("STATUS", false, { ifname = false })
  end)

  it("with a block twice, or one in another, gives no address twice", function()
    local m = machine("10.5.7.0/29\n10.5.7.4/30\n10.5.7.0/29\n", { subnets = { { subnet = "10.5.0.0/16" } } })
    local seen = {}
    for i = 1, 8 do
      local address = m:add("c" .. i)
      assert.is_nil(seen[address], address)
      seen[address] = true
    end
    says(m:fails("ADD", "c9").text, "range set 0 is full")
  end)

  it("has no block of a family that the pool has: the error says which is lacking", function()
    local m = machine "10.5.7.0/28\n"
    local err = m:fails "ADD"
    says(err.text, "range set 1 is full: 0 of 0")
    t.same({}, t.files "/var/lib/cni/pools/leases/default/pods/10.5.7.0")
    m:does "DEL"
  end)
end)
