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
    sh = "nft flush set inet luacni masq_10.1.0.0/24_beside" },
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
