-- SPDX-License-Identifier: MIT
-- What somebody else has in the host, and a script would add: the ADD is refused, and neither that nor the DEL
-- which a runtime sends behind it takes anything away, or stands before it.

local t = require "support"
local world = require "world"

-- make: shell by which the administrator makes it; list: shell that prints something while it is there.
local things = {
  { "a bridge", 'add_link { kind = "bridge", name = "mine" }', make = "ip link add mine type bridge",
    list = "ip link show mine" },
  { "a tap", 'add_tap { name = "mine" }', make = "ip tuntap add mine mode tap", list = "ip link show mine" },
  { "an address", 'add_addr("up0", "192.0.2.77/24")', make = "ip addr add 192.0.2.77/24 dev up0",
    list = "ip addr show to 192.0.2.77" },
  { "an address of IPv6", 'add_addr("up0", "2001:db8::77/64")', make = "ip addr add 2001:db8::77/64 dev up0 nodad",
    list = "ip -6 addr show to 2001:db8::77" },
  { "a route", 'add_route { dst = "10.99.0.0/16", gw = "192.0.2.2", link = "up0" }',
    make = "ip route add 10.99.0.0/16 via 192.0.2.2 dev up0", list = "ip route show 10.99.0.0/16",
    says = "there is a route to it via 192.0.2.2 dev up0 already" },
  { "a route by another way", 'add_route { dst = "10.99.0.0/16", gw = "192.0.2.9", link = "up0" }',
    make = "ip route add 10.99.0.0/16 via 192.0.2.2 dev up0", list = "ip route show 10.99.0.0/16",
    says = "there is a route to it via 192.0.2.2 dev up0 already" },
  { "a neighbour", 'add_neigh("up0", { dst = "192.0.2.77", mac = "02:00:00:00:00:07" })',
    make = "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:01 dev up0", list = "ip neigh show 192.0.2.77 dev up0",
    says = "192.0.2.77 is at 02:00:00:00:00:01 there already" },
  { "a route of IPv6", 'add_route { dst = "fd99::/64", gw = "2001:db8::9", link = "up0" }',
    make = "ip route add fd99::/64 via 2001:db8::2 dev up0", list = "ip -6 route show fd99::/64",
    says = "there is a route to it via 2001:db8::2 dev up0 already" },
}

local call = { type = "luacni" }

local function new(thing)
  t.wipe()
  t.write("/etc/luacni/plugins/own.lua", ([[return { add = function(req)
    local made = req.host:%s
    return made and { interfaces = { made } } or nil
  end }]]):format(thing[2]))
  local w = world.new({ type = "own" }, { pods = 2, far = true, neighbours = false, lived_in = false })
  return w, w:picture()
end

local function is_there(w, thing) return t.sh(thing.list, { host = w.host }) ~= "" end

for _, thing in ipairs(things) do
  describe(thing[1] .. " of the administrator's", function()
    it("is there as it was after the ADD and the DEL of a script that would add it", function()
      local w = new(thing)
      w:sh(thing.make)
      local before = w:picture()
      local err = w:fails("ADD", call)
      if thing.says then assert.matches(thing.says, err.text, 1, true) end
      t.same(before, w:picture())
      for _ = 1, 2 do
        w:ok("DEL", call)
        t.same(before, w:picture())
      end
    end)

    it("is another attachment's in its turn: only that one's DEL takes it", function()
      local w, before = new(thing)
      assert.is_false(is_there(w, thing))
      w:ok("ADD", call)
      assert.is_true(is_there(w, thing))
      local c2 = { type = "luacni", pod = 2, id = "c2" }
      w:fails("ADD", c2)
      w:ok("DEL", c2)
      assert.is_true(is_there(w, thing))
      w:ok("CHECK", call)
      w:ok("DEL", call)
      t.same(before, w:picture())
    end)
  end)
end

describe("A route of another priority", function()
  it("stands beside the administrator's, and goes alone", function()
    local w = new { "", 'add_route { dst = "10.99.0.0/16", gw = "192.0.2.9", link = "up0", priority = 50 }' }
    w:sh("ip route add 10.99.0.0/16 via 192.0.2.2 dev up0")
    local before = w:picture()
    w:ok("ADD", call)
    assert.matches("via 192.0.2.9 dev up0 metric 50", t.run("ip route show 10.99.0.0/16", { host = w.host }), 1, true)
    w:ok("CHECK", call)
    w:ok("DEL", call)
    t.same(before, w:picture())
  end)
end)
