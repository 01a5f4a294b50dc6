-- SPDX-License-Identifier: MIT
-- GC of many attachments: they are taken back together, in more than one portion; those that are valid, and
-- links of others in whatever group, notice nothing; killed at any point, the next GC takes the rest.

local t = require "support"
local world = require "world"

local conf = { type = "bridge", bridge = "br0", isGateway = true, ipMasq = true, removeUnused = true,
  ipam = { type = "host-local", subnet = "10.1.0.0/24" } }

local function add_many(w, first, last)
  t.write("/run/spec/conf", t.conf_bytes(w:config()))
  local lines = {}
  for i = first, last do
    lines[#lines + 1] = t.cni_words({ verb = "ADD", type = "bridge", host = w.host, netns = w.pods[i],
      id = "c" .. i }) .. " </run/spec/conf >/dev/null"
  end
  t.run(table.concat(lines, " && "), { timeout = 200 })
end

describe("A GC of more attachments than are taken back at a time", function()
  it("takes them all and nothing else", function()
    local w = world.new(conf, { pods = 68, forwarding = true, accepts = { "br0" } })
    w:sh("ip link add mine0 group 77 type veth peer name mine1 group 4711")
    local before = w:picture()
    w:add({ id = "c1", pod = 1 })
    w:add({ id = "c2", pod = 2 })
    local both = w:picture()
    add_many(w, 3, 68)
    assert.equal(68, #t.ip(w.host, "link show master br0"))
    w:gc({ { "c1" }, { "c2" } })
    t.same(both, w:picture())
    w:check({ id = "c1", pod = 1 })
    assert.is_true(t.ping(w.pods[1], world.addrs(w.pods[2], "eth0")[1]:match("[^/]+")))
    w:gc({})
    t.same(before, w:picture())
  end)

  it("deletes the links of a portion by one request", function()
    t.needs("strace")
    -- The end of a batch for nf_tables has the number of a deletion.
    local w = world.new(t.with(conf, { ipMasq = false }), { pods = 40, forwarding = true, neighbours = false })
    local before = w:picture()
    add_many(w, 1, 40)
    t.write("/run/spec/conf", t.conf_bytes(w:config({ ["cni.dev/valid-attachments"] = t.list() })))
    t.run(t.cni_words({ verb = "GC", type = "bridge", host = w.host, netns = false, id = false, ifname = false,
      under = "strace -f -e trace=sendto -o /run/spec/trace" }) .. " </run/spec/conf")
    t.same(before, w:picture())
    local trace = t.read("/run/spec/trace")
    local deletions = select(2, trace:gsub("nlmsg_type=RTM_DELLINK", "")) + select(2, trace:gsub("nlmsg_type=0x11[ ,]", ""))
    -- The ports, and the bridge.
    assert.is_true(deletions >= 1 and deletions <= 3, deletions)
  end)

  -- Where links come and go fast, a list of them is interrupted time after time.
  it("deletes each link alone when no list of links is to be had", function()
    local batch = require "cni.links.batch"
    local sent = {}
    local function handle(list)
      return { plan = { flush = function() end }, socket = function()
        return { send = function(_, requests) table.move(requests, 1, #requests, #sent + 1, sent) return true end,
          del_group_quick = function() return true end,
          dump = function() if list then return list end return nil, "list link: interrupted", 11 end }
      end }
    end
    local function take_two(h)
      local b, gone = batch.new(), 0
      for index = 5, 6 do
        b:start(function()
          b:gone(h, index)
          gone = gone + 1
        end)
      end
      t.same({}, b:finish())
      return gone
    end
    assert.equal(2, take_two(handle(nil)))
    assert.is_false(batch.delete_few(handle(nil), { 5, 6 }, nil))
    t.same({}, sent)
    assert.equal(2, take_two(handle({ { group = 77 } })))
    assert.is_true(batch.delete_few(handle(nil), { 5, 6 }, { { group = 77 } }))
    assert.equal("del", sent[3][1])
  end)

  it("takes what it can when one of them resists, and says which", function()
    local w = world.new(conf, { pods = 4, forwarding = true })
    local before = w:picture()
    add_many(w, 1, 4)
    local book = "/run/luacni/attachments/net/c2:eth0/bridge"
    local kept = t.read(book)
    -- A link that leads to itself: it cannot be told whether there is a lease.
    t.run "ln -s nonsense /run/spec/nonsense"
    local bad, changed = kept:gsub('"dir":"[^"]+"', '"dir":"/run/spec/nonsense"')
    assert.equal(1, changed)
    t.write(book, bad)
    local e = w:fails("GC", { conf = { ["cni.dev/valid-attachments"] = t.list() } })
    assert.truthy(e.text:find("nonsense", 1, true), e.text)
    t.same({ "c2:eth0" }, { (t.run("ls /run/luacni/attachments/net"):gsub("%s+$", "")) })
    t.write(book, kept)
    w:gc({})
    t.same(before, w:picture())
  end)

  it("and killed at every change, is mended by the next GC", function()
    local w = world.new(conf, { pods = 3, forwarding = true })
    local before, swept = w:picture(), 0
    local gc = t.conf_bytes(w:config({ ["cni.dev/valid-attachments"] = t.list() }))
    for n = 1, 300, t.stride(7, { sanitized = 23 }) do
      add_many(w, 1, 3)
      local line = t.cni_words({ verb = "GC", type = "bridge", host = w.host, netns = false, id = false,
        ifname = false, under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = gc })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      w:gc({})
      t.same(before, w:picture(), "killed at change " .. n)
    end
    assert.is_true(swept > 25 and swept < 290)
  end)
end)
