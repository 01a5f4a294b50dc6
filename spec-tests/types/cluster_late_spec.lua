-- SPDX-License-Identifier: MIT
-- The type cluster: requests that etcd carries out when nobody waits for them any more, as a member does that stood
-- still, or behind a network that was cut; and those whose answer is lost.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function asked(address) return { args = "IP=" .. address } end

local function count(map)
  local n = 0
  for _ in pairs(map) do n = n + 1 end
  return n
end

-- A pool whose machine n1 speaks to etcd by a relay.
local function world(ipam)
  local p = pool.new(t.with({ subnets = { { subnet = "10.5.0.0/27", blockSize = 28 } } }, ipam))
  local relay = p.etcd:relay()
  return p, relay, p:machine("n1", { etcd = { endpoints = { relay.endpoint } } }), p:machine "n2"
end

-- What is due is begun, and ended by force while it waits for etcd.
local function cut_off(m, ...)
  m:settle "KILL"
  t.sh({ "timeout", "-s", "KILL", "1", "build/luacni", "pool", "refill", "--data-dir", m.dir, ... }, { host = m.pool.host })
end

describe("A request that is carried out late", function()
  it("gives no address back that was asked for since", function()
    local p, relay, m, n = world { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 } } }
    m:add "c0"
    m:add("c1", asked "10.5.250.7")
    relay:hold()
    m:does("DEL", "c1")
    cut_off(m)
    relay:pass()
    assert.is_true(m:refill())
    assert.is_nil(p:owners()["10.5.250.7/32"])
    m:add("c2", asked "10.5.250.7")
    assert.is_true(relay:deliver() > 0)
    p:assert_sane { m }
    n:fails("ADD", "c1", asked "10.5.250.7")
    assert.is_true(m:refill "--look")
    p:assert_sane { m, n }
  end)

  it("gives no block back that was claimed since", function()
    local p, relay, m, n = world { giveBackAfter = 0 }
    for i = 1, 20 do m:add("c" .. i) end
    m:settle()
    assert.equal(2, count(p:owners()))
    relay:hold()
    for i = 1, 20 do m:does("DEL", "c" .. i) end
    cut_off(m)
    relay:pass()
    assert.is_true(m:refill())
    assert.equal(1, count(p:owners()))
    for i = 1, 20 do m:add("c" .. i) end
    m:settle()
    assert.equal(2, count(p:owners()))
    assert.is_true(relay:deliver() > 0)
    p:assert_sane { m }
    n:fails("ADD", "c1")
  end)

  it("lends no address that was given since", function()
    local p, relay, m, n = world { subnets = { { subnet = "10.5.0.0/28", blockSize = 28 } } }
    m:add "c1"
    n:fails "ADD"
    -- It hears that there is want, and what it sets apart then is not heard of.
    relay:hold(1)
    cut_off(m, "--look")
    relay:pass()
    local lent = m:state().blocks[1].holes
    assert.is_true(#lent > 0)
    -- Then nobody is in want.
    p.etcd:ctl "e del --prefix /luacni/v1/default/wanted/"
    assert.is_true(m:refill "--look")
    for i = 2, 13 do m:add("c" .. i) end
    m:settle()
    assert.is_true(relay:deliver() > 0)
    local err = n:fails "ADD"
    assert.equal(11, err.code)
    p:assert_sane { m, n }
  end)

  it("claims a block more, at most, which is found", function()
    local p, relay, m = world { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 } } }
    m:add "c1"
    relay:hold()
    for i = 2, 13 do m:add("c" .. i) end
    cut_off(m)
    relay:pass()
    assert.is_true(m:refill())
    assert.equal(2, count(p:owners()))
    assert.is_true(relay:deliver() > 0)
    assert.is_true(count(p:owners()) <= 3)
    assert.is_true(m:refill "--look")
    p:assert_sane { m }
  end)

  it("says of nobody that he is in want who is not any more", function()
    local p, relay, m, n = world { subnets = { { subnet = "10.5.0.0/28", blockSize = 28 } } }
    n:add "c1"
    t.write("/run/spec/conf", t.json(m:conf()))
    local words = "timeout -s KILL 1 " .. t.cni_words { verb = "ADD", type = "cluster", id = "d1", netns = "/run/none" }
    -- An ADD of which some requests pass; whether it has said that it is in want.
    local function says_so(after)
      relay:pass()
      m:fails("ADD", "d1")
      m:settle()
      p.etcd:ctl "e del --prefix /luacni/v1/default/wanted/"
      relay:hold(after)
      t.sh(words .. " </run/spec/conf", { host = p.host })
      m:settle "KILL"
      return p:keys()["wanted/n1"] ~= nil
    end
    local after = 0
    while not says_so(after) do after = after + 1 end
    t.sh "rm /run/spec/etcd/relay/*.held"
    assert.is_false(says_so(after - 1))
    relay:pass()
    n:does("DEL", "c1")
    n:tool("free", "pods", "10.5.0.0/28", "--data-dir", n.dir)
    assert.is_true(n:refill "--look")
    assert.is_true(n:refill())
    m:add "d2"
    m:settle()
    assert.is_true(m:refill())
    assert.is_true(relay:deliver() > 0)
    assert.is_nil(p:keys()["wanted/n1"])
    p:assert_sane { m, n }
  end)
end)

describe("Any request", function()
  -- Both machines have blocks, one an address alone; what is due is one to be given back, one to be claimed, and want
  -- to be heard of.
  local function does_what_is_due(m, at, ...)
    local ok, text = m:refill(...)
    assert(ok or text:find("all 4 are claimed", 1, true), at .. tostring(text))
  end

  local function sweep(what)
    local p, relay, m, n = world { giveBackAfter = 0, subnets = { { subnet = "10.5.0.0/26", blockSize = 28 } } }
    local poor, k = p:machine "n3", -1
    repeat
      k = k + 1
      local at = ("%s after %d: "):format(what, k)
      for i = 1, 20 do m:add("c" .. i) end
      m:settle()
      n:add "c1"
      for _, each in ipairs { m, n } do does_what_is_due(each, at) end
      for block in pairs(n:blocks()) do
        if k % 2 == 0 then m:tool("free", "pods", block, "--to", "n1", "--data-dir", m.dir) end
      end
      for i = 1, 20 do m:does("DEL", "c" .. i) end
      n:does("DEL", "c1")
      m:settle()
      relay[what](relay, k)
      cut_off(m, "--look")
      local ended = relay:is_unspent()
      relay:pass()
      does_what_is_due(m, at)
      for i = 1, 20 do m:add("c" .. i) end
      m:settle()
      relay:deliver()
      -- Others take all that etcd says is nobody's.
      local others = 0
      for i = 1, 64 do
        if poor:call("ADD", "c" .. i).rc ~= 0 then break end
        others = i
      end
      poor:settle()
      local seen = {}
      for _, each in ipairs { m, n, poor } do
        for address, id in pairs(each:leases()) do
          assert.is_nil(seen[address], at .. address .. id)
          seen[address] = true
        end
      end
      -- What one gives to another, that one has to look for.
      for _, each in ipairs { m, n, poor, m } do does_what_is_due(each, at, "--look") end
      p:assert_sane { m, n, poor }
      for _, block in ipairs(m:state().blocks) do assert.not_equal("lost", block.state, at) end
      for i = 1, others do poor:does("DEL", "c" .. i) end
      for i = 1, 20 do m:does("DEL", "c" .. i) end
      m:settle()
      poor:settle()
      for _, each in ipairs { m, n, poor } do does_what_is_due(each, at, "--look") end
      t.same({}, m:leases())
    until ended
    return k
  end

  it("may be carried out late, without an address twice or a block lost", function() assert.is_true(sweep "hold" >= 2) end)

  it("may have its answer lost, likewise", function() assert.is_true(sweep "mute" >= 2) end)
end)

describe("A request whose answer is lost", function()
  it("claims a block more, at most, and no refill that is killed claims another", function()
    local p, relay, m = world { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 } } }
    m:add "c1"
    relay:mute()
    for i = 2, 14 do m:add("c" .. i) end
    for _ = 1, 500 do
      if count(p:owners()) == 2 then break end
      t.sh "sleep 0.02"
    end
    for _ = 1, 4 do cut_off(m) end
    assert.equal(2, count(p:owners()))
    relay:pass()
    assert.is_true(m:refill())
    assert.equal(2, count(p:owners()))
    p:assert_sane { m }
  end)
end)
