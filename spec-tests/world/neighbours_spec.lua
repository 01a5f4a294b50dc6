-- SPDX-License-Identifier: MIT
-- The neighbours of a world notice what is done to them: a test in which one is harmed fails, in the call
-- that follows and at its end.

local neighbours = require "neighbours"
local t = require "support"
local world = require "world"

local function new()
  return world.new({ type = "ptp", ipMasq = true, ipam = { type = "host-local", subnet = "10.1.0.0/24" } },
    { forwarding = true })
end

-- What is done, and what is said of it.
local harms = {
  { "its masquerading element is removed", needs = "nft-nat", says = "no longer reaches",
    sh = "nft delete element inet luacni masked4_24 { 10.1.0.253 . 10.1.0.0 }" },
  { "its lease is gone", sh = "rm /var/lib/cni/networks/beside/10.*", says = "CHECK" },
  { "its address is another container's", sh = "printf 'other\\r\\neth0' >/var/lib/cni/networks/beside/10.1.0.253",
    says = "CHECK" },
  { "its link is down", sh = "ip -n beside link set eth0 down", says = "no longer reaches" },
  { "its CHECK is discontent", sh = "ip -n pod1 link set side0 address 02:00:00:00:00:77", says = "CHECK" },
}

describe("A neighbour notices", function()
  for _, harm in ipairs(harms) do
    it("that " .. harm[1], function()
      t.needs(harm.needs)
      local w = new()
      w:add()
      w:sh(harm.sh)
      local said = {}
      for n = 1, 2 do -- they are checked in turns
        local good, why = pcall(w.check, w)
        said[n] = not good and tostring(why) or ""
      end
      local text = table.concat(said, "\n")
      -- A guest checks at the end alone.
      if not t.guest or harm.says ~= "CHECK" then assert.truthy(text:find(harm.says, 1, true), text) end
      text = table.concat(neighbours.noticed(), "\n")
      assert.truthy(text:find(harm.says, 1, true), text)
    end)
  end

  it("nothing of an ADD, a DEL and an ADD that fails", function()
    local w = new()
    assert.equal(2, #w.neighbours)
    w:add()
    w:fails("ADD")
    w:del()
    t.same({}, neighbours.noticed())
  end)

  it("what the spec says that it did itself no longer", function()
    local w = new()
    w:sh("ip -n beside link set eth0 down")
    w:so_be_it()
    w:add()
    t.same({}, neighbours.noticed_in(w))
  end)
end)

-- What the spec itself has attached, as a neighbour of the others: what is done to c2, and what is said of it.
local own_harms = {
  { "its masquerading element is removed", needs = "nft-nat", says = "CHECK of c2 eth0",
    sh = "nft delete element inet luacni masked4_24 { 10.1.0.3 . 10.1.0.0 }" },
  { "its lease is gone", says = "CHECK of c2 eth0", sh = "rm $(grep -l c2 /var/lib/cni/networks/net/10.*)" },
  { "its address is another container's", says = "CHECK of c2 eth0",
    sh = "printf 'other\\r\\neth0' >$(grep -l c2 /var/lib/cni/networks/net/10.*)" },
  { "its link is down", says = "c2 eth0 no longer reaches 10.1.0.", sh = "ip -n pod2 link set eth0 down" },
}

describe("Another container of the same network notices", function()
  local function with_two()
    local w = world.new({ type = "ptp", ipMasq = true, ipam = { type = "host-local", subnet = "10.1.0.0/24" } },
      { forwarding = true, pods = 2 })
    w:add()
    w:add({ id = "c2", pod = 2 })
    return w
  end

  for _, harm in ipairs(own_harms) do
    it("that " .. harm[1] .. ", in a call that is about the first", function()
      t.needs(harm.needs)
      local w = with_two()
      w:sh(harm.sh)
      -- The neighbour beside is asked of its own lease and element, so that every turn is taken.
      local said = {}
      for n = 1, 3 do
        local good, why = pcall(w.call, w, "CHECK")
        said[n] = not good and tostring(why) or ""
      end
      local text = table.concat(said, "\n")
      if not t.guest or harm.says:find("reaches") then assert.truthy(text:find(harm.says, 1, true), text) end
      -- What a call is about is no neighbour of it.
      assert.not_equal(0, w:call("CHECK", { id = "c2", pod = 2 }).rc)
      w:del({ id = "c2", pod = 2 })
    end)
  end

  it("nothing of an ADD, a DEL and a GC that spares it, and that it was let go", function()
    local w = with_two()
    w:del()
    w:add()
    w:gc({ { "c1" }, { "c2" } })
    assert.equal(4, #w.neighbours)
    w:sh("ip -n pod2 link set eth0 down")
    w:let_go({ id = "c2" })
    for _ = 1, 3 do w:check() end
    w:gc({})
    assert.equal(2, #w.neighbours)
  end)
end)
