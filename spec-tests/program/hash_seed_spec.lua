-- SPDX-License-Identifier: MIT
-- The program's stored state has the seed of its hashes in it. Strings that were chosen to fall
-- together under that seed cost what any others cost, wherever they come from; and a long
-- configuration is none the worse for it.

local p = require "protocol"
local t = require "support"
local world = require "world"

-- A type that tells on stderr where the state has its empty string.
local function telling(w)
  t.write("/etc/luacni/plugins/telling.lua", [[
    local function tell() print(("at %p"):format("")) end
    return { add = tell, check = tell, status = tell }
  ]])
  w = w or world.new({ type = "telling" })
  return w, function(got)
    assert.equal(0, got.rc, got.out .. got.err)
    return tonumber(got.err:match("at (0x%x+)"))
  end
end

-- Where the stored state is, in memory and in the program; nil when it has none.
local function section()
  local from, offset, size = t.run({ "readelf", "-SW", t.build .. "/luacni" })
    :match("luaimage%s+PROGBITS%s+(%x+) (%x+) (%x+)")
  if not from then return nil end
  return tonumber(from, 16), tonumber(offset, 16), tonumber(size, 16)
end

local function is_stored(address)
  local from, _, size = section()
  return from ~= nil and address >= from and address < from + size
end

--- The seed that is in the program; nil when it has no stored state.
local function stored_seed()
  local w, where = telling()
  local at = where(w:call("STATUS", { type = "luacni" }))
  if not is_stored(at) then return nil end
  local from, offset = section()
  -- The empty string's hash is the seed; it stands behind a pointer, and four single bytes.
  return (("<I4"):unpack(t.read(t.build .. "/luacni"), offset + at - from + 12 + 1))
end

-- What a call takes of the processor, in seconds.
local function cost(conf)
  t.write("/run/spec/conf.json", conf)
  local line = t.cni_words({ verb = "ADD", type = "static", netns = "/run/netns/nowhere" })
  local out = t.run(line .. " </run/spec/conf.json >/run/spec/answer; times", { timeout = 120 })
  assert.is_truthy(p.strict(t.read("/run/spec/answer")).ips, t.read("/run/spec/answer"))
  local m1, s1, m2, s2 = out:match("\n(%d+)m([%d.]+)s (%d+)m([%d.]+)s")
  return (m1 + m2) * 60 + s1 + s2
end

local function conf(more)
  return ('{"cniVersion":"1.0.0","name":"net","type":"static","ipam":{"type":"static","addresses":'
    .. '[{"address":"10.0.0.1/24"}]},"x":%s}'):format(more)
end

local function keys(list) return conf('{"' .. table.concat(list, '":1,"') .. '":1}') end
local function values(list) return conf('["' .. table.concat(list, '","') .. '"]') end

local shapes = {
  { "keys of an object", 8, 40000, keys },
  { "keys that are long", 48, 18000, keys },
  { "strings of a list", 8, 40000, values },
  { "strings with escapes", 8, 40000, function(list)
    local escaped = {}
    for i, text in ipairs(list) do escaped[i] = ("\\u%04x"):format(text:byte()) .. text:sub(2) end
    return values(escaped)
  end },
}

describe("Strings that fall together", function()
  local function strings(seed, len, count)
    local list = {}
    local out = t.run({ t.helper("collide"), seed, len, count })
    for text in out:gmatch("[^\n]+") do list[#list + 1] = text end
    assert.equal(count, #list)
    return list
  end

  for _, shape in ipairs(shapes) do
    local name, len, count, make = table.unpack(shape)
    it("cost what others cost: " .. name, function()
      if t.sanitized then count = count // 4 end
      local seed = stored_seed() or 0
      local fair = cost(make(strings(seed ~ 0x55555555, len, count)))
      local chosen = cost(make(strings(seed, len, count)))
      assert.is_true(chosen < 4 * fair + 0.1, ("%.2f s, others %.2f s"):format(chosen, fair))
    end)
  end

  it("are too few to matter where the stored state takes them in", function()
    local seed = stored_seed() or 0
    local chosen = cost(values(strings(seed, 7, 2200)))
    assert.is_true(chosen < 0.2, chosen)
  end)
end)

describe("The stored state", function()
  local long = t.list()
  for i = 1, 3000 do long[i] = ("text%06d"):format(i) end

  it("is what an ordinary call has", function()
    if not section() or t.sanitized then return end
    local w, where = telling()
    local few = { x = { table.unpack(long, 1, 500) } }
    for _, verb in ipairs({ "STATUS", "ADD" }) do
      local got = w:call(verb, { type = "luacni", conf = few, args = "K=" .. ("v"):rep(1000) })
      assert.is_true(is_stored(where(got)))
    end
  end)

  it("is not what a call has with a long configuration, or long arguments", function()
    local w, where = telling()
    for _, verb in ipairs({ "STATUS", "ADD", "CHECK" }) do
      assert.is_false(is_stored(where(w:call(verb, { type = "luacni", conf = { x = long } }))))
    end
    assert.is_false(is_stored(where(w:call("ADD", { id = "c2", type = "luacni",
      args = "IgnoreUnknown=1;" .. ("K1=v2;"):rep(5000):sub(1, -2) }))))
  end)
end)

describe("A long configuration", function()
  it("reaches a delegate byte for byte", function()
    p.foreign("tell", 'cat >$0.stdin; echo \'{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.2/24"}]}\'')
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "tell" } },
      { path = p.foreign_dir })
    local before = w:picture()
    local text = t.conf_bytes(w:config({ pad = ("\u{E9} x"):rep(50000) }))
    w:add({ conf = text })
    assert.equal(text, t.read(p.foreign_dir .. "/tell.stdin"))
    w:del()
    t.same(before, w:picture())
  end)

  it("may list ten thousand attachments, and those are kept", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "host-local",
      subnet = "10.5.0.0/24" } }, { pods = 2 })
    local function id(n) return ("%064x"):format(n) end
    w:add({ id = id(1), pod = 1 })
    w:add({ id = id(10000), pod = 2 })
    local valid = {}
    for n = 1, 10000 do valid[n] = { id(n) } end
    w:gc(valid)
    assert.is_truthy(t.link(w.pods[1], "eth0"))
    assert.is_truthy(t.link(w.pods[2], "eth0"))
    valid[10000] = { id(10001) }
    w:gc(valid)
    assert.is_truthy(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.link(w.pods[2], "eth0"))
  end)
end)
