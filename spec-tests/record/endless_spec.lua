-- SPDX-License-Identifier: MIT
-- Scripts that never end, where a DEL or GC finds no record: it goes without them in a few seconds, names them,
-- takes back what is to be found, and has the whole time of a call for that. An ADD gives a script that time.

local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/slow.lua"

-- How much shorter than the deadline of a whole call a DEL with two such scripts is.
local soon <const> = 20

local whole = [[
  local ipam, schema = require "cni.ipam", require "cni.schema"
  LOAD
  local conf = schema.record { more = schema.string }
  DECLARE
  return { conf = conf, add = function(req)
    local lease = ipam.add(req)
    local port, eth = req.host:add_veth { name = "slow0", peer = { ns = req.pod, name = req.ifname } }
    ipam.apply(lease, req.pod, eth)
    return ipam.answer(req, lease, { port, eth })
  end }]]

local pool = [[
  local leases, schema = require "cni.leases", require "cni.schema"
  LOAD
  local conf = schema.record { ipam = schema.record { subnet = schema.cidr } }
  DECLARE
  return { ipam = true, conf = conf,
    add = function(req)
      return { ips = req:lease { dir = leases.default_dir, network = req.network, requested = {},
        sets = { { { subnet = "10.5.0.0/24", first = "10.5.0.2", last = "10.5.0.9" } } } } }
    end,
    gc = function(req)
      local _, valid = req:valid_attachments()
      leases.gc(leases.place(req.raw), valid)
    end }]]

local loop = "while true do local x = {} end"

-- In what way it does not end, and on which line that is.
local ways = {
  ["at load"] = { LOAD = loop, line = 2 },
  ["in what it calls at load"] = { LOAD = "for _ = 1, math.huge do schema.record { a = schema.string } end", line = 2 },
  ["in its declaration"] = { DECLARE = "conf:check(function() " .. loop .. " end)", line = 4 },
}

-- Ways to go on behind what stops a script.
local again = {
  ["while true do pcall(function() LOOP end) end"] = true,
  ["while true do xpcall(function() LOOP end, function() return 'mine' end) end"] = true,
  ["while true do xpcall(function() LOOP end, function() LOOP end) end"] = true,
  ["xpcall(error, function() LOOP end)"] = true,
  ["local fail = require 'cni.fail' while true do fail.try(function() LOOP end) end"] = true,
  ["local function f() pcall(f) return f() end f()"] = true,
  ["while true do local x <close> = setmetatable({}, { __close = function() LOOP end }) local y = nil + 1 end"] = true,
}

local function write(name, text, way)
  t.write("/etc/luacni/plugins/" .. name .. ".lua", (text:gsub("%u%u%u%u+", function(word)
    if word == "LOAD" or word == "DECLARE" then return way and way[word] or "" end
  end)))
end

local function new()
  write("slow", whole)
  write("pool", pool)
  local w = world.new({ type = "slow", ipam = { type = "pool", subnet = "10.5.0.0/24" } }, { neighbours = false })
  return w, w:picture()
end

local function timed(w, verb, conf)
  local before = os.time()
  local got = w:call(verb, { type = "luacni", conf = conf })
  return got, os.time() - before
end

local function none_valid() return { ["cni.dev/valid-attachments"] = t.list {} } end

describe("Without a record", function()
  for what, way in pairs(ways) do
    it("a DEL goes without a script that never ends " .. what, function()
      local w, before = new()
      w:add { type = "luacni" }
      t.run "rm -r /run/luacni/attachments"
      write("slow", whole, way)
      local got, took = timed(w, "DEL")
      assert.equal(0, got.rc, got.out)
      assert.is_true(took < soon, took .. " s")
      assert.matches(("DEL goes without the script of slow: %s:%d: stopped: it ran for more than 5 seconds")
        :format(path, way.line), got.err, 1, true)
      t.same(before, w:picture())
    end)

    it("a DEL goes without an IPAM script that never ends " .. what, function()
      local w, before = new()
      w:add { type = "luacni" }
      t.run "rm -r /run/luacni/attachments"
      write("pool", pool, way)
      local got, took = timed(w, "DEL")
      assert.equal(0, got.rc, got.out)
      assert.is_true(took < soon, took .. " s")
      assert.matches(("the script of pool: /etc/luacni/plugins/pool.lua:%d: stopped: it ran for more than 5 seconds")
        :format(way.line), got.err, 1, true)
      t.same(before, w:picture())
    end)
  end

  it("a GC goes without a script that never ends at load, and frees what is leased", function()
    local w, before = new()
    w:add { type = "luacni" }
    t.run "rm -r /run/luacni/attachments"
    write("slow", whole, ways["at load"])
    local got, took = timed(w, "GC", none_valid())
    assert.equal(0, got.rc, got.out)
    assert.is_true(took < soon, took .. " s")
    assert.matches("GC goes without the script of slow: " .. path .. ":2: stopped", got.err, 1, true)
    assert.is_nil(world.lease "10.5.0.2")
    write("slow", whole)
    w:ok("DEL", { type = "luacni" })
    t.same(before, w:picture())
  end)

  it("a GC says which IPAM script never ends, and is done by the next one", function()
    for _, what in ipairs { "at load", "in its declaration" } do
      local w = new()
      w:add { type = "luacni" }
      t.run "rm -r /run/luacni/attachments"
      write("pool", pool, ways[what])
      local got, took = timed(w, "GC", none_valid())
      assert.equal(1, got.rc)
      assert.is_true(took < soon, took .. " s")
      assert.matches(("/etc/luacni/plugins/pool.lua:%d: stopped: it ran for more than 5 seconds")
        :format(ways[what].line), got.json.msg, 1, true)
      assert.truthy(world.lease "10.5.0.2")
      write("pool", pool)
      w:ok("GC", { type = "luacni", conf = none_valid() })
      assert.is_nil(world.lease "10.5.0.2")
      w:ok("DEL", { type = "luacni" })
      t.cleanup()
    end
  end)

  it("there is the rest of the call's time behind such a script, and no more", function()
    local w = new()
    t.impatient(9, "/run/spec/luacni")
    finally(function() os.remove "/run/spec/luacni" end)
    w.bin = "/run/spec"
    -- The `del` of a script has what is left: its IPAM script has had five seconds of it.
    write("pool", pool, ways["at load"])
    write("slow", ([[
      return { add = function() end, del = function(req)
        require("cni.ipam").add(req)
        %s
      end }]]):format(loop))
    local got, took = timed(w, "DEL")
    assert.equal(1, got.rc)
    assert.matches("slow.lua:3: stopped: it ran for more than 9 seconds", got.json.msg, 1, true)
    assert.is_true(took >= 8 and took <= 12, took .. " s")
  end)
end)

describe("With a record", function()
  it("a DEL and a GC do not ask a script that never ends", function()
    for _, verb in ipairs { "DEL", "GC" } do
      local w, before = new()
      w:add { type = "luacni" }
      write("slow", whole, ways["at load"])
      write("pool", pool, ways["at load"])
      local _, took = timed(w, verb, verb == "GC" and none_valid() or nil)
      assert.is_true(took < (verb == "GC" and soon or 3), took .. " s")
      t.same(before, w:picture())
      t.cleanup()
    end
  end)
end)

describe("An ADD", function()
  it("gives a script the whole call's time", function()
    local w, before = new()
    t.impatient(8, "/run/spec/luacni")
    finally(function() os.remove "/run/spec/luacni" end)
    w.bin = "/run/spec"
    write("slow", whole, ways["at load"])
    local got = timed(w, "ADD")
    assert.equal(1, got.rc)
    assert.matches(path .. ":2: stopped: it ran for more than 8 seconds", got.json.msg, 1, true)
    t.same(before, w:picture())
  end)
end)

describe("A script that catches what stops it", function()
  it("is stopped all the same, in its time", function()
    local file = "/run/spec/again.lua"
    for way in pairs(again) do
      t.write(file, (way:gsub("LOOP", loop)) .. "\nreturn { add = function() end }")
      local before = os.time()
      local out, status = t.sh({ t.build .. "/luacni", "check-scripts", file }, { timeout = 30 })
      t.same({ file .. ":1: stopped: it ran for more than 5 seconds\n", 1 }, { out, status }, way)
      assert.is_true(os.time() - before <= 8, way)
    end
    -- Before that, both are as the manual has them.
    t.write(file, [[
      local function same(a, ...) assert(select("#", ...) == #a) for i, v in ipairs { ... } do assert(a[i] == v) end end
      same({ true, 1, 2 }, pcall(function(...) return ... end, 1, 2))
      same({ true, 1, 2 }, xpcall(function(...) return ... end, error, 1, 2))
      same({ false, "mine" }, pcall(error, "mine", 0))
      same({ false, "MINE" }, xpcall(error, string.upper, "mine", 0))
      assert(not pcall(pcall) and not pcall(xpcall, error))
      return { add = function() end }]])
    t.same({ "the only one is fine\n", 0, "" }, { t.sh { t.build .. "/luacni", "check-scripts", file } })
    os.remove(file)
  end)

  it("holds no DEL without a record, and an ADD with it is taken back", function()
    local w, before = new()
    local caught = whole:gsub("local port", "while true do pcall(function() " .. loop:gsub("%%", "%%%%")
      .. " end) end\n    local port", 1)
    w:add { type = "luacni" }
    t.run "rm -r /run/luacni/attachments"
    write("slow", caught)
    local got, took = timed(w, "DEL")
    assert.equal(0, got.rc, got.out)
    assert.is_true(took < soon, took .. " s")
    t.same(before, w:picture())
    t.impatient(8, "/run/spec/luacni")
    finally(function() os.remove "/run/spec/luacni" end)
    w.bin = "/run/spec"
    got, took = timed(w, "ADD")
    assert.equal(1, got.rc)
    assert.matches(path .. ":7: stopped: it ran for more than 8 seconds", got.json.msg, 1, true)
    assert.is_true(took <= 11, took .. " s")
    t.same(before, w:picture())
  end)
end)
