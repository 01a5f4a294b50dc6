-- SPDX-License-Identifier: MIT
-- The type cluster: how machines claim blocks of a pool, lose them, and give them back; killed at any point, with
-- their files gone, with others of their name.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function says(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

local function count(map, value)
  local n = 0
  for _, have in pairs(map) do
    if value == nil or have == value then n = n + 1 end
  end
  return n
end

-- The one block of a machine.
local function only_block(m)
  local block = next(m:blocks())
  assert.equal(1, count(m:blocks()))
  return block
end

describe("A machine", function()
  it("claims the next block when less than a quarter is left, whatever was there before", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16", blockSize = 27 } } }
    local m = p:machine "n1"
    for i = 1, 24 do
      m:add("c" .. i)
      m:settle()
      assert.equal(1, count(m:blocks()), i)
    end
    m:add "c25"
    m:settle()
    assert.equal(2, count(m:blocks()))
    for i = 26, 48 do m:add("c" .. i) end
    m:settle()
    assert.equal(2, count(m:blocks()))
    m:add "c49"
    m:settle()
    assert.equal(3, count(m:blocks()))
    p:assert_sane { m }
  end)

  it("makes up for a claim that came to nothing: it is the level that counts, not that it was reached", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    p.etcd:stop(1)
    for i = 2, 14 do m:add("c" .. i) end
    m:settle()
    assert.equal(1, count(m:blocks()))
    says(m:state().failed.text, "Connection refused")
    p.etcd:start(1)
    -- By the timer, without an ADD; and by an ADD once it is asked again.
    assert.is_true(m:refill())
    assert.equal(2, count(m:blocks()))
    assert.is_nil(m:state().failed)
    p:assert_sane { m }
  end)

  it("gives back what it has not needed for a while, but one block, and not what it would want back at once", function()
    local p = pool.new { giveBackAfter = 0 }
    local m = p:machine "n1"
    for i = 1, 60 do m:add("c" .. i) end
    m:settle()
    assert.is_true(m:refill())
    local most = count(m:blocks())
    assert.is_true(most >= 5)
    for i = 21, 60 do m:does("DEL", "c" .. i) end
    m:settle()
    assert.is_true(m:refill())
    p:assert_sane { m }
    local kept = count(m:blocks())
    assert.is_true(kept < most and kept >= 2, kept)
    for i = 1, 20 do m:does("DEL", "c" .. i) end
    assert.is_true(m:refill())
    only_block(m)
    p:assert_sane { m }
    assert.equal(1, count(p:owners()))
    local patient = p:machine("n2", { giveBackAfter = 600 })
    for i = 1, 60 do patient:add("c" .. i) end
    for i = 1, 60 do patient:does("DEL", "c" .. i) end
    most = count(patient:blocks())
    assert.is_true(patient:refill())
    assert.is_true(count(patient:blocks()) >= most)
  end)

  it("that is killed at any change of a claim, or of giving back, has what etcd says, and no more", function()
    local p = pool.new { giveBackAfter = 0 }
    local m, program = p:machine "n1", "build/luacni"
    local step, n = t.stride(5), 0
    local all = {}
    for _, verb in ipairs { "ADD", "DEL" } do
      local script = {}
      for i = 1, 14 do
        script[i] = t.cni_words { verb = verb, type = "cluster", id = "c" .. i, netns = "/run/none" }
          .. " </run/spec/conf || exit"
      end
      all[verb] = table.concat(script, "\n")
    end
    t.write("/run/spec/conf", t.json(m:conf()))
    m:add "c0"
    m:does("DEL", "c0")
    -- Nobody else claims meanwhile: who holds the lock would.
    local function each(verb)
      t.run(("flock %s/blocks/default/pods.lock sh -c %s"):format(m.dir, t.quote(all[verb])), { host = p.host })
    end
    local function killed(...)
      local _, status = t.sh({ t.helper "killat", "-o", "/run/spec/report", tostring(n), program, "pool", "refill",
        "--data-dir", m.dir, ... }, { host = p.host })
      local at = ("killed at %d: %s"):format(n, t.read "/run/spec/report" or "")
      assert.is_true(status == 100 or status == 101, at)
      return at, status == 100
    end
    repeat
      n = n + step
      each "ADD"
      local at, ended = killed "--look"
      assert.is_true(m:refill(), at)
      assert.is_true(count(m:blocks()) <= 3, at)
      p:assert_sane { m }
      each "DEL"
      at = killed()
      assert.is_true(m:refill(), at)
      assert.is_true(m:refill(), at)
      only_block(m)
      p:assert_sane { m }
    until ended
    assert.is_true(n > 5, n)
  end)

  it("claims nothing that it cannot write down, however often it is asked", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    for i = 2, 13 do m:add("c" .. i) end
    m:settle()
    t.run(([[mkdir -p FULL; mount -t tmpfs -o size=64k full FULL; cp -a %s/. FULL
      dd if=/dev/zero of=FULL/fill bs=4k 2>/dev/null || true]]):gsub("FULL", "/run/spec/full"):format(m.dir))
    local full = p:machine("n1", { dataDir = "/run/spec/full" })
    full.dir = "/run/spec/full"
    local before = count(p:owners())
    for _ = 1, 5 do
      local ok, text = full:refill "--look"
      assert.is_nil(ok)
      says(text, "No space left")
    end
    assert.equal(before, count(p:owners()))
    t.run "umount /run/spec/full"
    assert.is_true(m:refill "--look")
    p:assert_sane { m }
  end)

  for what, lose in pairs {
    ["the file of its blocks"] = function(m) return "rm " .. m.dir .. "/blocks/default/pods.json" end,
    ["half of that file"] = function(m)
      local path = m.dir .. "/blocks/default/pods.json"
      return ("head -c 100 %s >%s.x; mv %s.x %s"):format(path, path, path, path)
    end,
    ["all its files"] = function(m) return "rm -r " .. m.dir end,
  } do
    it("that has lost " .. what .. " has its blocks again, and gives no address of a living container", function()
      local p = pool.new()
      local m, pods = p:machine "n1", {}
      for i = 1, 15 do pods[i] = t.netns("pod" .. i) end
      local bridge = { type = "bridge", bridge = "br0" }
      local function add(i)
        local got = t.cni { verb = "ADD", type = "bridge", id = "c" .. i, netns = pods[i], host = p.host,
          conf = m:conf(bridge) }
        assert(got.rc == 0, got.out)
        return got.json.ips[1].address
      end
      local seen = {}
      for i = 1, 10 do seen[add(i)] = true end
      m:settle()
      local block = only_block(m)
      t.run(lose(m))
      for i = 11, 15 do
        local address = add(i)
        assert.is_nil(seen[address], address)
        seen[address] = true
      end
      m:settle()
      assert.is_true(m:refill())
      assert.equal("confirmed", m:blocks()[block])
      p:assert_sane { m }
      assert.equal(15, count(m:leases()))
      for i = 1, 15 do
        local got = t.cni { verb = "DEL", type = "bridge", id = "c" .. i, netns = pods[i], host = p.host,
          conf = m:conf(bridge) }
        assert(got.rc == 0, got.out)
      end
      t.same({}, m:leases())
    end)
  end

  it("of the name of another one is refused, and takes nothing of what that has", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    t.write("/run/spec/machine-id", ("f"):rep(32) .. "\n")
    local other = p:machine("n1", { dataDir = "/var/lib/cni/pools/other" })
    other.dir = "/var/lib/cni/pools/other"
    local words = t.cni_words { verb = "ADD", type = "cluster", id = "c2", netns = "/run/none" }
    t.write("/run/spec/conf", t.json(other:conf()))
    local out, status = t.sh(("unshare -m sh -c %s"):format(t.quote(
      "mount --bind /run/spec/machine-id /etc/machine-id; " .. words .. " </run/spec/conf")), { host = p.host })
    assert.not_equal(0, status)
    says(out, "n1 is the name of another machine, which has blocks of the pool default")
    says(out, "luacni pool release")
    t.same({}, other:blocks())
    p:assert_sane { m }
  end)
end)

describe("Machines", function()
  it("that claim of one small pool at once share no address, and none is lost", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/23", blockSize = 28 } } }
    local machines, script = {}, {}
    for k = 1, 5 do
      local m = p:machine("n" .. k)
      machines[k] = m
      t.write("/run/spec/many/conf" .. k, t.json(m:conf()))
    end
    for i = 1, 40 do
      for k = 1, 5 do
        script[#script + 1] = ("%s </run/spec/many/conf%d >/run/spec/many/%d.%d || true"):format(t.cni_words { verb = "ADD",
          type = "cluster", id = "c" .. i, netns = "/run/none" }, k, k, i)
      end
    end
    -- As many at once as a busy machine can bear: each has ten seconds.
    t.write("/run/spec/many/script", table.concat(script, "\n") .. "\n")
    t.run("xargs -P 60 -d '\\n' -n 1 sh -c </run/spec/many/script", { host = p.host, timeout = 120 })
    local seen = {}
    for k, m in ipairs(machines) do
      for i = 1, 40 do
        local got = t.decode(t.read(("/run/spec/many/%d.%d"):format(k, i)))
        assert(got.ips, t.json(got))
        assert.is_nil(seen[got.ips[1].address])
        seen[got.ips[1].address] = true
      end
      m:settle()
      assert.is_true(m:refill())
      assert.equal(40, count(m:leases()))
    end
    p:assert_sane(machines)
  end)

  it("borrow single addresses where no block is free, of those that have plenty, which have them back", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/26", blockSize = 28 } }, giveBackAfter = 0 }
    local machines = {}
    for k = 1, 4 do
      machines[k] = p:machine("n" .. k)
      machines[k]:add "c1"
    end
    local rich, poor = machines[1], p:machine "n5"
    machines[5] = poor
    local err = poor:fails "ADD"
    assert.equal(11, err.code)
    says(err.text, "all 4 are claimed")
    assert.is_true(rich:refill "--look")
    p:assert_sane(machines)
    local first = poor:add "c1"
    assert.not_nil(poor:blocks()[first:gsub("/26$", "/32")])
    p:assert_sane(machines)
    -- What was lent is not given by who has lent it.
    local lent = rich:state().blocks[1].holes
    assert.is_true(#lent >= 1)
    for i = 2, 15 - #lent do
      local got = rich:call("ADD", "c" .. i)
      for _, address in ipairs(lent) do assert.is_nil(got.out:find('"' .. address .. "/", 1, true)) end
    end
    p:assert_sane(machines)
    poor:does("DEL", "c1")
    poor:settle()
    t.run("sed -i 's/\"claimed_at\": [0-9.]*/\"claimed_at\": 0/' " .. poor.dir .. "/blocks/default/pods.json")
    poor:refill()
    t.same({}, poor:blocks())
    rich:refill "--look"
    assert.is_nil(rich:state().blocks[1].holes)
    p:assert_sane(machines)
  end)

  it("that are dead for ever are released by hand; one that was not dead learns it, and gives nothing of that any more", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c1"
    n:add "c1"
    local block = only_block(n)
    local out, status, err = m:tool("release", "pods", "n2", "--data-dir", m.dir)
    assert.equal(0, status, err)
    says(out, "free now: " .. block:gsub("%W", "%%%0"))
    p:assert_sane { m }
    out = m:tool("release", "pods", "n2", "--data-dir", m.dir)
    says(out, "n2 had no block")
    out, status, err = m:tool("release", "pods", "n1", "--data-dir", m.dir)
    assert.equal("", out)
    assert.equal(1, status)
    says(err, "n1 is this machine")
    assert.is_true(n:refill "--look")
    assert.equal("lost", n:blocks()[block])
    local status_of = n:fails("STATUS", false, { ifname = false })
    assert.equal(50, status_of.code)
    says(status_of.text, block:gsub("%W", "%%%0") .. " of the pool default is not this machine's any more")
    local address = n:add "c2"
    assert.is_nil(block:match "^(.*)%.%d+/28$" == address:match "^(.*)%.%d+/16$"
      and tonumber(address:match "(%d+)/16") // 16 == tonumber(block:match "(%d+)/28") // 16 or nil)
    n:does("DEL", "c1")
    assert.is_true(n:refill())
    assert.is_nil(n:blocks()[block])
    n:does("STATUS", false, { ifname = false })
    p:assert_sane { m, n }
  end)

  it("are asked to give a block back, or to another one, and do so when nobody has an address of it", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c1"
    n:add "c1"
    local block = only_block(m)
    local out, status, err = n:tool("free", "pods", block, "--to", "n2", "--data-dir", n.dir)
    assert.equal(0, status, err)
    says(out, "n1 is asked")
    assert.is_true(m:refill "--look")
    assert.equal("leaving", m:blocks()[block])
    assert.is_true(m:refill())
    assert.equal("leaving", m:blocks()[block])
    m:add "c2"
    m:does("DEL", "c1")
    assert.is_true(m:refill())
    assert.is_nil(m:blocks()[block])
    assert.is_true(n:refill "--look")
    assert.equal("confirmed", n:blocks()[block])
    p:assert_sane { m, n }
    out, status, err = n:tool("free", "pods", "10.5.255.240/28", "--data-dir", n.dir)
    assert.equal("", out)
    assert.equal(1, status)
    says(err, "nobody has the block 10%.5%.255%.240/28")
  end)
end)

describe("luacni pool list", function()
  it("shows whose the blocks are and how full its own, as JSON too; without etcd its own, and says so", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    for i = 1, 3 do m:add("c" .. i) end
    n:add "c1"
    local out, status = m:tool("list", "--data-dir", m.dir)
    assert.equal(0, status)
    says(out, "default  pods     %S+ +n1    confirmed  3 of 16")
    says(out, "default  pods     %S+ +n2    confirmed\n")
    local list = t.decode((m:tool("list", "pods", "--json", "--data-dir", m.dir)))
    assert.equal(2, #list)
    assert.equal(3, list[1].leases)
    p.etcd:stop(1)
    local err
    out, status, err = m:tool("list", "--data-dir", m.dir)
    assert.equal(1, status)
    says(out, "3 of 16")
    says(err, "blocks of other machines are not shown.*Connection refused")
    out, status, err = m:tool("list", "others", "--data-dir", m.dir)
    assert.equal("", out)
    assert.equal(0, status)
    says(err, "no block of a pool is known")
    out, status, err = m:tool "refil"
    assert.equal("", out)
    assert.equal(2, status)
    says(err, "refill")
  end)
end)
