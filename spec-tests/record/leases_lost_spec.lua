-- SPDX-License-Identifier: MIT
-- Lease files that are gone while their containers live: the next ADD leases the addresses to them again
-- before it chooses. Whoever has lost the address too gets no lease.

local t = require "support"
local world = require "world"

local dir = t.lease_dir .. "/net"

-- A bridge network of small subnets, and two containers in it: c1 and c2, each in a pod of its own.
local function two(conf)
  local w = world.new(t.merge({ type = "bridge", bridge = "br0", isGateway = true,
    ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/29" } }, { { subnet = "fd01::/64" } } } } },
    conf or {}), { pods = 4, neighbours = false })
  w:add { id = "c1" }
  w:add { id = "c2", pod = 2 }
  return w
end

local function addresses(result)
  local list = {}
  for i, ip in ipairs(result.ips) do list[i] = ip.address:match("[^/]+") end
  return list
end

local function holder(address) return (t.read(dir .. "/" .. address) or "nobody"):match("^[^\r\n]+") end

local function lose(what)
  t.run(("rm -rf %s/%s"):format(t.lease_dir, what or "*"))
end

describe("A lease that is gone while its container lives", function()
  it("is there again before the next ADD chooses, of each family", function()
    local w = two()
    lose()
    t.same({ "10.1.0.4", "fd01::4" }, addresses(w:add { id = "c3", pod = 3 }))
    for n = 1, 3 do
      assert.equal("c" .. n, holder("10.1.0." .. n + 1))
      assert.equal("c" .. n, holder("fd01::" .. n + 1))
      w:check { id = "c" .. n, pod = n }
    end
  end)

  it("is there again though a CHECK, a STATUS and a DEL have read the directory in between", function()
    local w = two()
    w:add { id = "c3", pod = 3 }
    lose "net/[0-9f]*"
    w:fails("CHECK", { id = "c1" })
    w:ok("STATUS", {})
    w:del { id = "c3", pod = 3 }
    lose "net/last*"
    w:add { id = "c3", pod = 3 }
    assert.equal("c1", holder("10.1.0.2"))
    assert.equal("c2", holder("10.1.0.3"))
    assert.equal("c3", holder("10.1.0.4"))
  end)

  it("is freed by that container's DEL", function()
    local w = two()
    lose()
    w:add { id = "c3", pod = 3 }
    w:del { id = "c2", pod = 2 }
    assert.equal("nobody", holder("10.1.0.3"))
    assert.equal("c1", holder("10.1.0.2"))
  end)

  it("stays lost when somebody else has its address by now, and that one keeps it", function()
    local w = two()
    lose()
    t.write(dir .. "/10.1.0.2", "elsewhere\r\neth0")
    w:add { id = "c3", pod = 3 }
    assert.equal("elsewhere", holder("10.1.0.2"))
    assert.equal("c2", holder("10.1.0.3"))
    assert.equal("c1", holder("fd01::2"))
  end)

  it("is not made for a sandbox that is gone, nor for an interface that is", function()
    local w = two()
    w:in_pod("ip link del eth0", 2)
    t.run("ip netns del " .. w.pods[1].name)
    lose()
    t.same({ "10.1.0.2", "fd01::2" }, addresses(w:add { id = "c3", pod = 3 }))
    assert.equal("nobody", holder("10.1.0.3"))
  end)

  it("is not made in another directory than its own", function()
    local w = two()
    local other = t.lease_dir .. "/other"
    lose()
    w:add { id = "c3", pod = 3, conf = { ipam = { type = "host-local", dataDir = other, subnet = "10.1.0.0/29" } } }
    assert.equal("c3", t.read(other .. "/net/10.1.0.2"):match("^%w+"))
    assert.is_nil(t.read(other .. "/net/10.1.0.3"))
    assert.equal("nobody", holder("10.1.0.2"))
  end)

  it("stays lost where something else has the place of its file", function()
    local w = two()
    lose()
    t.run(("mkdir -p %s/10.1.0.2"):format(dir))
    w:add { id = "c3", pod = 3 }
    assert.equal("c2", holder("10.1.0.3"))
  end)
end)
