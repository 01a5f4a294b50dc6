-- SPDX-License-Identifier: MIT
-- The format of Go's encoding/gob, as far as its documentation goes and the reference's programs use it.

local gob = require "cni.protocol.gob"
local t = require "support"

local function bytes(hex) return (hex:gsub("%s", ""):gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end)) end

-- What reads a text, as a stream.
local function reader(text)
  local at = 1
  return gob.reader(function(count)
    local part = text:sub(at, at + count - 1)
    at = at + count
    return part ~= "" and part or nil
  end)
end

local function values(text)
  local list, one = {}, reader(text)
  while true do
    local value = one:value()
    if not value then return list end
    list[#list + 1] = value
  end
end

-- What a program in Go says that calls a method.
local request = bytes [[2f ff 81 03 01 01 07 52 65 71 75 65 73 74 01 ff 82 00 01 02 01 0d 53 65 72 76 69 63 65 4d 65 74 68 6f 64
  01 0c 00 01 03 53 65 71 01 06 00 00 00 11 ff 82 01 0c 44 48 43 50 2e 52 65 6c 65 61 73 65 00]]

local inner = gob.struct("Inner", { { "N", gob.int }, { "B", gob.bytes } })
local outer = gob.struct("Outer", { { "Name", gob.string }, { "Yes", gob.bool }, { "Many", gob.list("[]Inner", inner) },
  { "Texts", gob.list("[]string", gob.string) }, { "One", inner }, { "Big", gob.uint } })
local full = { Name = "ü", Yes = true, Many = { { N = -1 }, { B = "\0\255" }, {} }, Texts = { "", "x" }, One = { N = 1 << 40 },
  Big = 1 << 62 }

describe("gob", function()
  it("reads what Go writes: a call of a method", function()
    t.same({ { ServiceMethod = "DHCP.Release" } }, values(request))
  end)

  it("writes as Go does: types once, and fields that are zero not at all", function()
    local t_request = gob.struct("Request", { { "ServiceMethod", gob.string }, { "Seq", gob.uint } })
    local writer = gob.writer()
    assert.equal(request, writer:value(t_request, { ServiceMethod = "DHCP.Release", Seq = 0 }))
    assert.equal(bytes "06 ff 82 02 ff 80 00", (writer:value(t_request, { Seq = 128 })))
    assert.equal(bytes "0a ff 83 03 01 02 ff 84 00 00 00 03 ff 84 00", writer:value(gob.struct("", {}), {}))
  end)

  it("reads what it writes, numbers of all sizes, lists with elements that are zero", function()
    local text = gob.writer():value(outer, full)
    t.same({ full }, values(text))
    t.same({ {} }, values(gob.writer():value(outer, {})))
    for _, n in ipairs { 1, -1, 63, 64, -64, -65, 127, 128, 255, 256, 1 << 31, -(1 << 31), math.maxinteger, math.mininteger } do
      t.same({ { N = n } }, values(gob.writer():value(inner, { N = n })))
    end
    local writer = gob.writer()
    t.same({ { N = 1 }, full, { N = 2 } }, values(writer:value(inner, { N = 1 }) .. writer:value(outer, full)
      .. writer:value(inner, { N = 2 })))
  end)

  it("refuses with a sentence what is none, and what would go on for ever", function()
    local whole = gob.writer():value(outer, full)
    for cut = 1, #whole - 1 do
      local ok, got = pcall(values, whole:sub(1, cut))
      assert.is_true(ok and #got == 0 or type(got) == "string" and got:find "^this is no gob: " ~= nil, tostring(got))
    end
    -- A type that is a list of itself, as deep as anybody likes.
    local own = bytes "0a ff 81 02 01 02 ff 82 00 01 ff 82 00 00"
    for _, text in ipairs { own .. "\x42\xff\x82" .. ("\1"):rep(64), "\xf7", "\xfc\x7f\xff\xff\xff", "\1\2", "\0", request .. request:sub(1, 48) } do
      local ok, got = pcall(values, text)
      assert.is_false(ok)
      assert.matches("^this is no gob: ", got)
    end
  end)

  it("survives any bytes", function()
    local whole, random = request .. gob.writer():value(outer, full), math.random
    for _ = 1, t.thorough and 1000000 or 20000 do
      local text = whole
      for _ = 1, random(4) do
        local at = random(#text)
        text = text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + random(0, 2))
      end
      local ok, got = pcall(values, text)
      assert.is_true(ok or type(got) == "string" and got:find("^this is no gob: ") ~= nil, tostring(got))
    end
  end)
end)
