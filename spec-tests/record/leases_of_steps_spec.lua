-- SPDX-License-Identifier: MIT
-- An attachment with several leases in the folder of its network: those of two plugins of its chain, or of two
-- steps of one script. Each looks at, and takes back, what it took itself.

local lease_world = require "lease_world"
local t = require "support"
local world = require "world"

local journal = require "cni.record.journal"
local json = require "cni.json"
local leases = require "cni.leases"
local plans = require "cni.engine.plan"

local ours, second = "10.1.0.2", "10.60.0.2"

local second_script = [[
return { chained = true, add = function(req)
  local got = req:delegate("host-local", { ipam = { type = "host-local", subnet = "10.60.0.0/24" } })
  local address = got.ips[1].address
  req.pod:add_addr(req.ifname, address)
  %s
  table.insert(req.prev.ips, { address = address, interface = 2 })
  return req.prev
end }
]]

local chained = { type = "luacni", conf = { type = "second", bridge = false, ipam = false } }

-- A bridge's attachment, and `second` behind it, which gives it an address more and then does `more`.
local function chain(more)
  t.write("/etc/luacni/plugins/second.lua", second_script:format(more or ""))
  local w = world.new({ type = "bridge", bridge = "br0", ipam = { type = "host-local", subnet = "10.1.0.0/24" } },
    { neighbours = false })
  return w, w:add()
end

local function behind(prev) return t.merge(chained, { prev = prev }) end

local function both()
  local w, first = chain()
  return w, first, w:add(behind(first))
end

local function addresses(w) return table.concat(world.addrs(w.pods[1], "eth0"), " ") end

before_each(function() t.wipe() end)

describe("Two plugins of a chain that lease in one folder", function()
  it("are both whole in CHECK, and each misses its own lease alone", function()
    local w, _, result = both()
    assert.equal("10.1.0.2/24 10.60.0.2/24", addresses(w))
    w:check()
    w:check(behind(result))
    local path = t.lease_dir .. "/net/"
    local kept = world.lease(second)
    os.remove(path .. second)
    assert.matches(second .. " of network net is not leased", w:fails("CHECK", behind(result)).text)
    -- The result of the chain has no say of what is no range of the bridge's.
    w:check()
    t.write(path .. second, kept)
    os.remove(path .. ours)
    assert.matches(ours .. " of network net is not leased", w:fails("CHECK").text)
    w:check(behind(result))
  end)

  it("DEL of the second frees its own lease, twice too, and leaves the first whole", function()
    local w, first, result = both()
    for _ = 1, 2 do
      w:del(behind(result))
      assert.is_nil(world.lease(second))
      assert.equal("c1\r\neth0", world.lease(ours))
      assert.equal("10.1.0.2/24", addresses(w))
    end
    w:check { prev = first }
    w:del()
    assert.is_nil(world.lease(ours))
  end)

  it("DEL of the first frees its own lease alone", function()
    local w = both()
    w:del()
    assert.is_nil(world.lease(ours))
    assert.equal("c1\r\neth0", world.lease(second))
  end)

  it("an ADD of the second that fails gives back its own, and so does the DEL behind it", function()
    local w, first = chain 'error "not today"'
    assert.matches("not today", w:fails("ADD", behind(first)).text)
    assert.is_nil(world.lease(second))
    assert.equal("c1\r\neth0", world.lease(ours))
    -- It has no record, and its script would take the addresses back that it finds leased.
    w:del(behind(first))
    assert.equal("c1\r\neth0", world.lease(ours))
    assert.equal("10.1.0.2/24", addresses(w))
    w:check { prev = first }
  end)

  it("without any record a DEL frees all that the owner has, as the reference does, and no others'", function()
    local w = both()
    t.write(t.lease_dir .. "/net/10.1.0.9", "c2\r\neth0")
    w:lose_records()
    w:del()
    t.same({ nil, nil, "c2\r\neth0" }, { world.lease(ours), world.lease(second), world.lease "10.1.0.9" })
  end)

  local function age(name)
    local path, lines, count = journal.root .. "/net/c1:eth0/" .. name, {}, 0
    for i, line in ipairs(json.decode_lines(t.read(path), "record")) do
      if line.want and line.want.taken then line.want.taken, count = nil, count + 1 end
      lines[i] = json.note(line) .. "\n"
    end
    assert.equal(1, count)
    t.write(path, table.concat(lines))
  end

  it("a record of an older version, without the addresses, stands for what no other record names", function()
    local w, _, result = both()
    age "bridge"
    w:check()
    w:check(behind(result))
    w:del()
    t.same({ nil, "c1\r\neth0" }, { world.lease(ours), world.lease(second) })
  end)

  it("when all records are such, a DEL frees what the owner has, as it did", function()
    local w = both()
    age "bridge"
    age "second"
    w:del()
    t.same({}, lease_world.files())
  end)
end)

describe("Two leases of one script in one folder", function()
  it("are checked each, and given back", function()
    t.write("/etc/luacni/plugins/own.lua", [[
      local ranges = require "cni.ranges"
      return { add = function(req)
        local result = req:delegate("bridge")
        local sets = ranges.read { { where = "own", sets = { { { subnet = "10.60.0.0/24" } } } } }
        for _, ip in ipairs(req:lease { dir = "/var/lib/cni/networks", network = req.network, sets = sets }) do
          req.pod:add_addr(result.interfaces[3], ip.address)
          table.insert(result.ips, { address = ip.address, interface = result.interfaces[3] })
        end
        return result
      end }]])
    local w = world.new({ type = "own", bridge = "br0", removeUnused = true,
      ipam = { type = "host-local", subnet = "10.1.0.0/24" } }, { neighbours = false })
    local call = { type = "luacni" }
    local before = w:picture()
    w:add(call)
    assert.equal("10.1.0.2/24 10.60.0.2/24", addresses(w))
    w:check(call)
    for _, address in ipairs { ours, second } do
      local path = t.lease_dir .. "/net/" .. address
      local kept = t.read(path)
      os.remove(path)
      assert.matches(address .. " of network net is not leased", w:fails("CHECK", call).text)
      t.write(path, kept)
    end
    w:check(call)
    w:del(call)
    t.same({}, lease_world.files())
    t.same(before.kernel, w:picture().kernel)
  end)
end)

describe("A lease that somebody without the lock is faster with", function()
  local net24, prepare = lease_world.spec_of(lease_world.net24), leases.prepare

  after_each(function() leases.prepare = prepare end)

  it("is another one, and the record names none that was not taken", function()
    local owner = { network = "net", id = "c1", ifname = "eth0" }
    local book <close> = journal.open(owner, "own")
    local plan = plans.new("apply", { owner = owner, record = book:begin(t.merge(owner, { type = "own" })) })
    local raced = false
    leases.prepare = function(...)
      local choice = prepare(...)
      if not raced then t.write(lease_world.dir .. "/" .. choice.taken[1], "fast\r\neth0") end
      raced = true
      return choice
    end
    t.same({ "10.1.0.3/24" }, { require("cni.step.lease").obtain(plan, net24)[1].address })
    local steps = journal.of(owner)[1].steps
    t.same({ "10.1.0.2", nil, "10.1.0.3", true },
      { steps[1].want.taken[1], steps[1].did, steps[2].want.taken[1], steps[2].did })
    t.same({}, (plan:undo()))
    t.same({ ["10.1.0.2"] = "fast\r\neth0" }, lease_world.files())
    plan:close()
  end)
end)

describe("A lease that a script asks for wrongly", function()
  local script = [[
    local ranges = require "cni.ranges"
    return { add = function(req)
      local result = req:delegate("bridge")
      req:lease { %s sets = %s }
      req.host:set_sysctl { { "net/ipv4/conf/all/proxy_arp_pvlan", "1" } }
      return result
    end }]]
  local given = 'ranges.read { { where = "own", sets = { { { subnet = "10.60.0.0/24" } } } } }'
  local call = { type = "luacni" }

  before_each(function() t.run "rm -rf /run/spec/leases" end)

  local function new(place, sets)
    t.write("/etc/luacni/plugins/own.lua", script:format(place, sets or given))
    local w = world.new({ type = "own", bridge = "br0", removeUnused = true,
      ipam = { type = "host-local", subnet = "10.1.0.0/24" } }, { neighbours = false })
    return w, w:picture()
  end

  for name, case in pairs {
    ["with a name that no folder has"] = { 'dir = "/run/spec/leases", network = "a/b",',
      said = '/own.lua:4: req:lease: network: "a/b" cannot be the name of a directory' },
    ["without a folder"] = { 'network = "x",', said = "/own.lua:4: req:lease: dir: is missing" },
    ["without a name"] = { 'dir = "/run/spec/leases",', said = "/own.lua:4: req:lease: network: is missing" },
    ["with sets that are none"] = { 'dir = "/run/spec/leases", network = "x",', '{ { subnet = "10.60.0.0/24" } }',
      said = "/own.lua:4: req:lease: sets[1]: expected a list" },
  } do
    it(name .. ": the ADD says so and leaves nothing, and no DEL fails", function()
      local w, before = new(case[1], case[2])
      local said = w:fails("ADD", call).msg
      assert.truthy(said:find(case.said, 1, true), said)
      t.same(before, w:picture())
      w:del(call)
      w:del(call)
      t.same(before, w:picture())
    end)

    it(name .. ": a DEL whose record is lost takes back what there is", function()
      local w, before = new 'dir = "/run/spec/leases", network = "x",'
      w:add(call)
      assert.truthy(t.read "/run/spec/leases/x/10.60.0.2")
      w:lose_records()
      t.write("/etc/luacni/plugins/own.lua", script:format(case[1], case[2] or given))
      w:del(call)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      assert.is_nil(world.lease(ours))
      -- Where it was is still known when only the sets have gone bad.
      assert.equal(case[2] ~= nil, t.read "/run/spec/leases/x/10.60.0.2" == nil)
      t.same(before.kernel[w.pods[1].name], w:picture().kernel[w.pods[1].name])
    end)
  end
end)
