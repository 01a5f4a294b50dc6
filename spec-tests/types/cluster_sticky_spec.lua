-- SPDX-License-Identifier: MIT
-- The type cluster with `sticky`: a pod that comes back gets the address that it had.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function of(name, more)
  return t.with({ args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=" .. name }, more)
end

local function folder(m) return m.dir .. "/sticky/default/pods" end

local dual = { sticky = true, subnets = { { subnet = "10.5.0.0/16", blockSize = 28 },
  { subnet = "fd05::/64", blockSize = 124 } } }

describe("A pod that comes back", function()
  it("gets the addresses that it had, of both families, as another container; and any others where `sticky` is not set", function()
    local p = pool.new(dual)
    local m, n = p:machine "n1", p:machine "n2"
    n.ipam.sticky = nil
    for _, each in ipairs { m, n } do
      local id = each.node
      local four, six = each:add(id .. "a", of "web-0")
      local others = { each:add(id .. "b", of "web-1") }
      each:does("DEL", id .. "a", of "web-0")
      each:add(id .. "c", of "web-2")
      local again_four, again_six = each:add(id .. "d", of "web-0")
      if each == m then
        t.same({ four, six }, { again_four, again_six })
        each:does("CHECK", id .. "d", of "web-0")
      else
        assert.not_equal(four, again_four)
        assert.not_equal(six, again_six)
      end
      assert.not_equal(others[1], again_four)
    end
    assert.is_nil(t.read(folder(n)))
    t.same({}, t.files(n.dir .. "/sticky"))
    p:assert_sane { m, n }
  end)

  it("is known by namespace and name: one of another namespace, or without a name, gets what is next", function()
    local p = pool.new { sticky = true }
    local m = p:machine "n1"
    local address = m:add("a", of "web-0")
    m:does("DEL", "a", of "web-0")
    assert.not_equal(address, m:add("b", { args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=red;K8S_POD_NAME=web-0" }))
    assert.not_equal(address, m:add("c", { args = "IgnoreUnknown=1;K8S_POD_NAME=web-0" }))
    assert.not_equal(address, m:add "d")
    assert.equal(address, m:add("e", of "web-0"))
  end)

  it("gets another one where its own is somebody's, is excluded by now, or is in no block of the machine any more", function()
    local p = pool.new { sticky = true }
    local m = p:machine "n1"
    local first = m:add("a", of "web-0"):match "^[^/]*"
    m:does("DEL", "a", of "web-0")
    m:add("b", t.with(of "web-1", { conf = { runtimeConfig = { ips = { first } } } }))
    local second = m:add("c", of "web-0"):match "^[^/]*"
    assert.not_equal(first, second)
    m:does("DEL", "c", of "web-0")
    m.ipam.exclude = { second }
    local third = m:add("d", of "web-0"):match "^[^/]*"
    assert.is_true(third ~= first and third ~= second)
    m:does("DEL", "d", of "web-0")
    m:does("DEL", "b", of "web-1")
    m:tool("free", "pods", (next(m:blocks())), "--data-dir", m.dir)
    assert.is_true(m:refill "--look")
    assert.is_true(m:refill())
    t.same({}, m:blocks())
    m:add("e", of "web-0")
    p:assert_sane { m }
  end)

  it("gets the address that it asks for before the one that it had", function()
    local p = pool.new { sticky = true }
    local m = p:machine "n1"
    m:add("a", of "web-0")
    m:does("DEL", "a", of "web-0")
    local asked = t.with(of "web-0", { conf = { runtimeConfig = { ips = { "10.5.250.7" } } } })
    assert.equal("10.5.250.7/16", m:add("b", asked))
    p:assert_sane { m }
  end)

  it("gets one, too, where it cannot be kept which, or what was kept is rubbish", function()
    local p = pool.new { sticky = true }
    local m = p:machine "n1"
    t.write(m.dir .. "/sticky", "no folder")
    m:add("a", of "web-0")
    m:does("DEL", "a", of "web-0")
    t.run("rm " .. m.dir .. "/sticky")
    m:add("b", of "web-0")
    m:does("DEL", "b", of "web-0")
    for name in pairs(t.files(folder(m))) do t.write(folder(m) .. "/" .. name, "../../x\n\0 10.5.0.300 10.99.0.1\n") end
    m:add("c", of "web-0")
    m:does("CHECK", "c", of "web-0")
    p:assert_sane { m }
  end)

  it("is forgotten when its address was another's: there are no more files than addresses, however many pods come", function()
    local p = pool.new { sticky = true, subnets = { { subnet = "10.5.0.0/27", blockSize = 28 } } }
    local m = p:machine "n1"
    for i = 1, 70 do
      m:add("c" .. i, of("job-" .. i))
      m:does("DEL", "c" .. i, of("job-" .. i))
    end
    local addresses, pods = 0, 0
    for name, text in pairs(t.files(folder(m))) do
      if name:find "%." then
        addresses = addresses + 1
        assert.equal(name, (t.read(folder(m) .. "/" .. text:match "%x+"):match "^[^\n]*"))
      else
        pods = pods + 1
      end
    end
    assert.equal(addresses, pods)
    assert.is_true(pods <= 29 and pods >= 13, pods)
  end)
end)
