-- SPDX-License-Identifier: MIT
-- A CHECK of what is not attached says that, and who holds what; of what is attached, what differs.

local t = require "support"
local world = require "world"

local conf = { type = "bridge", bridge = "br0", ipam = { type = "host-local", subnet = "10.4.0.0/24" } }
local none = ": there is no record of it, and no link eth0 in /run/netns/pod"

local function new(pods)
  t.wipe()
  return world.new(conf, { pods = pods, neighbours = false, lived_in = false })
end

describe("A CHECK", function()
  it("of what was never attached says that alone", function()
    local w = new(1)
    local before = w:picture()
    local err = w:fails("CHECK", {})
    assert.equal("eth0 of container c1 is not attached to network net" .. none .. "1", err.msg)
    assert.is_nil(err.details)
    t.same(before, w:picture())
    w:add()
    w:check()
    w:del()
    assert.equal("eth0 of container c1 is not attached to network net" .. none .. "1", w:fails("CHECK", {}).msg)
  end)

  it("names who is attached: another interface of the container, another container there, another network", function()
    local w = new(2)
    w:add { ifname = "eth1" }
    local err = w:fails("CHECK", {})
    assert.equal("eth0 of container c1 is not attached to network net" .. none .. "1", err.msg)
    assert.equal("eth1 of container c1 is attached to network net, in /run/netns/pod1", err.details)
    err = w:fails("CHECK", { id = "c9", ifname = "eth1" })
    assert.equal("eth1 of container c9 is not attached to network net: eth1 in /run/netns/pod1 is another one's", err.msg)
    assert.equal("eth1 of container c1 is attached to network net, in /run/netns/pod1", err.details)
    err = w:fails("CHECK", { ifname = "eth1", conf = { name = "other" } })
    assert.equal("eth1 of container c1 is not attached to network other: eth1 in /run/netns/pod1 is another one's", err.msg)
    -- In a sandbox of its own nobody else's is named.
    err = w:fails("CHECK", { id = "c2", pod = 2 })
    assert.equal("eth0 of container c2 is not attached to network net" .. none .. "2", err.msg)
    assert.is_nil(err.details)
    w:check { ifname = "eth1" }
  end)

  it("says that it is attached in another namespace", function()
    local w = new(2)
    w:add()
    local err = w:fails("CHECK", { pod = 2 })
    assert.equal("eth0 of container c1 is not attached to network net in /run/netns/pod2, but in another namespace",
      err.msg)
    assert.equal("that was /run/netns/pod1 at its ADD", err.details)
    w:check()
  end)

  it("says what differs of what is attached, with a record or without one", function()
    local w = new(1)
    w:add()
    w:in_pod "ip addr flush dev eth0"
    assert.matches("^address 10%.4%.0%.2/24 is not on eth0$", w:fails("CHECK", {}).msg)
    w:in_pod "ip link del eth0"
    assert.equal("link eth0 is not in the sandbox", w:fails("CHECK", {}).msg)
    w:del()
    w:add()
    w:lose_records()
    w:check()
    w:in_pod "ip addr flush dev eth0"
    assert.matches("^address 10%.4%.0%.%d/24 is not on eth0$", w:fails("CHECK", {}).msg)
  end)
end)
