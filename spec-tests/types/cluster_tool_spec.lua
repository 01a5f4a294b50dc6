-- SPDX-License-Identifier: MIT
-- luacni pool, as a person calls it; and what others have written into etcd.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function says(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

-- It ends with a status, and says something.
local function refused(status, pattern, m, ...)
  local out, got, err = m:tool(...)
  assert.equal("", out)
  assert.equal(status, got, err)
  says(err, pattern)
end

local function asked(address) return { args = "IP=" .. address } end

describe("luacni pool", function()
  it("asks who has a block, a single address too, and has it moved; nobody else, and no name that is none", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c0"
    m:add("c1", asked "10.5.250.7")
    local block
    for name in pairs(m:blocks()) do block = name:find "/28$" and name or block end
    local where = { "--data-dir", m.dir }
    refused(1, "nobody has the block", m, "free", "pods", "10.5.250.8/32", table.unpack(where))
    refused(1, "nobody has the block", m, "free", "pods", "nonsense", table.unpack(where))
    refused(1, "nobody has the block", m, "free", "pods", block:gsub("/28", "") .. "/27", table.unpack(where))
    for _, name in ipairs { "n2/x", "..", "a b" } do
      refused(1, "is no name", m, "free", "pods", block, "--to", name, table.unpack(where))
      refused(1, "is no name", m, "release", "pods", name, table.unpack(where))
    end
    local before = p:keys()
    refused(1, "network others has no pool here", m, "free", "others", block, table.unpack(where))
    refused(1, "network pods has no pool other", m, "release", "pods", "n2", "--pool", "other", table.unpack(where))
    refused(2, "NETWORK NODE is wanted", m, "release", "pods", table.unpack(where))
    t.same(before, p:keys())
    local out, status, err = m:tool("free", "pods", "10.5.250.7/32", "--data-dir", m.dir)
    assert.equal(0, status, err)
    says(out, "n1 is asked to give back 10%.5%.250%.7/32 when")
    assert.is_true(m:refill "--look")
    m:does("DEL", "c1")
    m:settle()
    assert.is_true(m:refill "--look")
    assert.equal("10.5.250.7/16", n:add("c1", asked "10.5.250.7"))
    p:assert_sane { m, n }
  end)

  it("moves a block to a machine that has none yet, and back", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c1"
    local block = next(m:blocks())
    m:does("DEL", "c1")
    m:tool("free", "pods", block, "--to", "n2", "--data-dir", m.dir)
    m:refill "--look"
    assert.is_true(m:refill())
    assert.equal("n2", p:owners()[block])
    assert.is_nil(m:blocks()[block])
    n:add "c1"
    n:settle()
    assert.is_true(n:refill "--look")
    assert.equal("confirmed", n:blocks()[block])
    p:assert_sane { m, n }
    -- A name of nobody is no loss for ever.
    n:tool("free", "pods", block, "--to", "nobody", "--data-dir", n.dir)
    n:refill "--look"
    n:does("DEL", "c1")
    n:settle()
    n:refill()
    assert.equal("nobody", p:owners()[block])
    local out = m:tool("release", "pods", "nobody", "--data-dir", m.dir)
    says(out, "free now: " .. block:gsub("%W", "%%%0"))
    p:assert_sane { m, n }
  end)

  it("releases what a dead machine has lent, borrowed and claimed alone; nothing of it is lost for others", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/27", blockSize = 28 } }, giveBackAfter = 0 }
    local m, dead, poor = p:machine "n1", p:machine "n2", p:machine "n3"
    m:add "c1"
    dead:add "c1"
    assert.equal(11, poor:fails "ADD".code)
    assert.is_true(dead:refill "--look")
    poor:add "c1"
    local out = m:tool("release", "pods", "n2", "--data-dir", m.dir)
    says(out, "free now: 10%.5%.0")
    -- The rest of its block is had by others, all but what is borrowed.
    local seen, n = {}, 0
    for i = 2, 40 do
      local got = m:call("ADD", "c" .. i)
      if got.rc ~= 0 then break end
      n = n + 1
      seen[got.json.ips[1].address:match "^[^/]*"] = true
    end
    m:settle()
    p.etcd:ctl "e del --prefix /luacni/v1/default/wanted/"
    for _ = 1, 2 do m:refill "--look" end
    for i = 50, 70 do
      if m:call("ADD", "c" .. i).rc ~= 0 then break end
      n = n + 1
    end
    for address in pairs(poor:leases()) do assert.is_nil(seen[address], address) end
    local borrowed = 0
    for block in pairs(poor:blocks()) do borrowed = borrowed + (block:find "/32$" and 1 or 0) end
    assert.equal(32 - 3 - borrowed, n + 1)
    poor:settle()
  end)
end)

describe("What others have written into etcd", function()
  for what, script in pairs {
    ["keys that are no blocks"] = [[
      for k in nodes/n1/x nodes/n1/ nodes/n1/a/b nodes/n1/10.5.0.1/28 blocks/x singles/x singles/x/y singles/10.5.0.0/28/z wanted/ \
        fences/x machines/; do
        e put /luacni/v1/default/$k '{"machine":"MACHINE","network":"pods","node":"n1"}'
      done]],
    ["values that are no JSON"] = [[
      for k in nodes/n1/10.5.9.0/28 blocks/10.5.9.0/28 singles/10.5.8.0/28/10.5.8.1; do e put /luacni/v1/default/$k '{{{'; done]],
    ["values of another shape"] = [[
      for k in nodes/n1/10.5.9.0/28 blocks/10.5.9.0/28 singles/10.5.8.0/28/10.5.8.1; do
        e put /luacni/v1/default/$k '{"machine":7,"network":[],"node":{}}'
      done]],
    ["a block of no part of the grid"] = [[
      for k in nodes/n1/10.77.0.0/28 blocks/10.77.0.0/28; do
        e put /luacni/v1/default/$k '{"machine":"MACHINE","network":"pods","node":"n1"}'
      done]],
  } do
    it("keeps nobody from his addresses: " .. what, function()
      local p = pool.new()
      local m = p:machine "n1"
      m:add "c0"
      p.etcd:ctl((script:gsub("MACHINE", p:keys()["machines/n1"])))
      local seen = {}
      for i = 1, 20 do
        local address = m:add("c" .. i)
        says(address, "^10%.5%.")
        assert.is_nil(seen[address])
        seen[address] = true
      end
      m:settle()
      local ok, text = m:refill "--look"
      assert(ok, text)
      assert.equal("10.5.250.7/16", m:add("c40", asked "10.5.250.7"))
      m:does("DEL", "c40")
      m:settle()
      local _, status, err = m:tool("list", "--data-dir", m.dir)
      assert.equal(0, status, err)
      for i = 0, 20 do m:does("DEL", "c" .. i) end
      ok, text = m:refill "--look"
      assert(ok, text)
    end)
  end
end)
