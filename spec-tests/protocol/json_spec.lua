-- SPDX-License-Identifier: MIT
-- cni.json: strict where lua-cjson is not, and exact both ways.

local json = require "cni.json"

local function refused(text, reason, opts)
  local ok, err = pcall(json.decode, text, "stdin", opts)
  assert.is_false(ok, "was accepted: " .. text)
  assert.are.equal(6, err.code)
  if reason then
    assert.is_truthy(tostring(err):find(reason, 1, true), tostring(err))
  end
  return err
end

describe("json.decode accepts", function()
  it("objects, lists, strings, numbers, booleans", function()
    assert.are.same({ a = { 1, "x", true, false, 1.5, { b = "c" } } },
      json.decode '{"a":[1,"x",true,false,1.5,{"b":"c"}]}')
  end)

  it("white space, and text of people's making", function()
    assert.are.same({ a = 1, b = { c = "d" } },
      json.decode ' {\n\t"a" : 1 ,\r\n "b":{ "c" :"d"} }\n ')
  end)

  it("P-IO-10: escapes, with surrogate pairs", function()
    assert.are.equal("<a&b> \u{1F600} \"\\/\b\f\n\r\t",
      json.decode [["\u003ca\u0026b\u003e \ud83d\ude00 \"\\\/\b\f\n\r\t"]])
  end)

  it("a dot or a bracket inside a string", function()
    assert.are.same({ "1. x", "-.", "[]", "[ ]", '"[]"' },
      json.decode [=[["1. x", "-.", "[]", "[ ]", "\"[]\""]]=])
  end)

  it("the last of duplicate keys", function()
    assert.are.same({ a = 2 }, json.decode '{"a":1,"a":2}')
  end)

  it("nesting 64 deep, not 65", function()
    assert.are.equal("table", type(json.decode(("["):rep(64) .. ("]"):rep(64))))
    refused(("["):rep(65) .. ("]"):rep(65), "too many nested")
    assert.are.equal("table", type(json.decode(('{"a":'):rep(64) .. "1" .. ("}"):rep(64))))
    refused(('{"a":'):rep(65) .. "1" .. ("}"):rep(65), "too many nested")
  end)

  it("a mebibyte", function()
    local text = '{"a":"' .. ("x"):rep(1 << 20) .. '"}'
    assert.are.equal(1 << 20, #json.decode(text).a)
  end)
end)

describe("json.decode refuses", function()
  local bad = {
    ["nothing"] = "", ["white space alone"] = " \n\t",
    ["a byte order mark"] = "\xEF\xBB\xBF{}",
    ["text after the object"] = "{} xx", ["a second object"] = "{}{}",
    ["a zero byte and what follows"] = "{}\0x", ["a zero byte in a string"] = '"a\0b"',
    ["text that is not UTF-8"] = '"\xff"', ["an overlong form"] = '"\xc0\xaf"',
    ["a raw surrogate"] = '"\xed\xa0\x80"', ["half a pair"] = [["\ud800"]],
    ["a raw line feed in a string"] = '{"a":"x\ny"}', ["a raw tab"] = '["x\ty"]',
    ["a raw control character"] = '["\1"]', ["NaN"] = "[NaN]", ["nan"] = "[nan]",
    ["Infinity"] = "[Infinity]", ["-Infinity"] = "[-Infinity]", ["hex"] = "[0x10]",
    ["a plus sign"] = "[+1]", ["leading zeros"] = "[01]", ["-01"] = "[-01]",
    ["a number out of range"] = "[1e999]", ["one below the range"] = "[-1e999]",
    ["a bare point"] = "[.5]", ["-.5"] = "[-.5]", ["1."] = "[1.]", ["1.e5"] = "[1.e5]",
    ["1. in an object"] = '{"a":1.}', ["1. before a space"] = "[1. ]",
    ["an exponent without digits"] = "[1e]", ["1e+"] = "[1e+]", ["a lone minus"] = "[-]",
    ["a comma too many"] = "[1,]", ["one in an object"] = '{"a":1,}',
    ["a comma too few"] = "[1 2]", ["single quotes"] = "{'a':1}",
    ["a comment"] = "{/* */}", ["a line comment"] = '{"a":1} // x',
    ["a key without quotes"] = "{a:1}", ["an open string"] = '{"a":"b',
    ["an open object"] = '{"a":1', ["an open list"] = "[1", ["an unknown escape"] = [["\x"]],
    ["True"] = "[True]", ["trux"] = "[trux]", ["vertical tab as space"] = "[\v1]",
    ["vertical tab in an empty list"] = "[\v]",
  }
  for name, text in pairs(bad) do
    it(name, function() refused(text) end)
  end

  it("with line, column and the text around", function()
    local err = refused('{\n  "a": 1,\n  "b": tru\n}', "invalid token")
    assert.is_truthy(err.details:find("line 3, column 8", 1, true), err.details)
    assert.is_truthy(err.details:find('"b": tru', 1, true), err.details)
  end)

  it("with the right position although empty lists come before", function()
    local err = refused('{"a":[],"b":[ ],"c":x}')
    assert.is_truthy(err.details:find("line 1, column 21", 1, true), err.details)
  end)

  it("in words that say what the text is", function()
    assert.is_truthy(refused("{").msg:find("cannot decode stdin: ", 1, true))
    assert.is_nil(refused("[1").msg:find("T_", 1, true))
  end)

  it("P-CFG-02: what is no object, when told to", function()
    for _, text in ipairs { "[]", "[1]", "5", '"x"', "true" } do
      refused(text, "not an object", { object = true })
    end
    assert.are.same({}, json.decode("{}", "stdin", { object = true }))
    assert.are.same({}, json.decode(" {}", "stdin", { object = true }))
    assert.is_nil(json.decode("null", "stdin", { object = true }))
  end)
end)

describe("json.decode gives", function()
  it("whole numbers as integers", function()
    local v = json.decode "[1, -5, 1.0, 1e3, -0, 9007199254740992, 34359738359]"
    for _, n in ipairs(v) do assert.are.equal("integer", math.type(n)) end
    assert.are.same({ 1, -5, 1, 1000, 0, 9007199254740992, 34359738359 }, v)
  end)

  it("P-CFG-10: integers beyond 2^53 exactly, and those beyond 64 bits as they were written", function()
    for _, text in ipairs { "9007199254740993", "-9007199254740993", "9223372036854775807", "-9223372036854775808" } do
      assert.are.equal("integer", math.type(json.decode(text)))
      assert.are.equal(text, json.compact(json.decode(text)))
      assert.is_false(json.is_number(json.decode(text)))
    end
    for _, text in ipairs { "9223372036854775808", "-9223372036854775809", "18446744073709551615", ("9"):rep(400) } do
      assert.is_true(json.is_number(json.decode(text)))
      assert.are.equal(text, json.compact(json.decode(text)))
    end
    assert.are.equal("18446744073709551615", json.show(json.decode "18446744073709551615"))
    local text = '{"a":{"b":[12345678901234567890,1,12345678901234567891]},"c":"12345678901234567892"}'
    assert.are.equal(text, json.compact(json.decode(text)))
    assert.are.equal(text, json.compact(json.decode(json.encode(json.decode(text)))))
  end)

  it("numbers of many digits that are not whole as floats, and strings as they are, whatever they look like", function()
    assert.are.same({ 0.12345678901234567890, 123456789012345678e3 }, json.decode "[0.12345678901234567890,123456789012345678e3]")
    for _, text in ipairs { '["\\u0000#5"]', '["\\u0000#12345678901234567890"]', '["12345678901234567890:"]' } do
      assert.are.equal(text, json.compact(json.decode(text)))
    end
    assert.are.same({ "\0#1", 1.2345678901234567e+19 }, json.decode '["\\u0000#1",12345678901234567890]')
  end)

  it("no number that JSON has not, however many digits it has", function()
    for _, text in ipairs { "[012345678901234567890]", "[12345678901234567890abc]", "{12345678901234567890:1}",
      "[1 2345678901234567890123]", "[+12345678901234567890]", "[12345678901234567890.]" } do
      refused(text)
    end
  end)

  it("no member that is null, at any depth", function()
    assert.are.same({ a = { c = 1 }, e = { {} } },
      json.decode '{"a":{"b":null,"c":1},"d":null,"e":[{"f":null}]}')
  end)

  it("null in a list as json.null", function()
    assert.are.same({ json.null, 1 }, json.decode "[null,1]")
  end)

  it("nil for null", function()
    assert.is_nil(json.decode "null")
  end)

  it("empty lists that differ from empty objects", function()
    local v = json.decode '{"a":[],"b":{},"c":[[ ],{}],"d":"[]"}'
    assert.is_true(json.is_list(v.a))
    assert.is_false(json.is_list(v.b))
    assert.is_true(json.is_list(v.c[1]))
    assert.is_false(json.is_list(v.c[2]))
    assert.are.equal(0, #v.a)
    assert.is_nil(next(v.a))
    assert.are.equal('{"a":[],"b":{},"c":[[],{}],"d":"[]"}', json.compact(v))
  end)
end)

describe("json.decode_lines", function()
  it("gives a value a line", function()
    assert.are.same({}, json.decode_lines "")
    assert.are.same({ { a = 1 }, { b = {} }, { c = "\n[]" } },
      json.decode_lines '{"a":1}\n{"b":[]}\n{"c":"\\n[]"}\n')
  end)

  it("refuses a line that is none", function()
    for _, bad in ipairs { '{"a":1}\n{"b"\n', '{"a":"\n"}\n', "1,2]\n[3\n", "1,2\n", "\n", "{}\n\n" } do
      local ok, err = pcall(json.decode_lines, bad, "record")
      assert.is_false(ok, "was accepted: " .. bad)
      assert.are.equal(6, err.code)
    end
  end)
end)

describe("json.encode", function()
  it("sorts keys and indents by four spaces, without a final newline", function()
    assert.are.equal('{\n    "a": [\n        1,\n        {\n            "c": true\n' ..
      '        }\n    ],\n    "b": "x"\n}', json.encode { b = "x", a = { 1, { c = true } } })
  end)

  it("P-RES-10: prints integers without point or exponent", function()
    assert.are.equal("[1500,0,-3,4294967295,9007199254740992,1e+300]",
      json.compact { 1500.0, -0.0, -3, 4294967295, 2.0 ^ 53, 1e300 })
    assert.are.equal("9223372036854775807", json.compact(math.maxinteger))
  end)

  it("prints fractions so that they come back the same", function()
    for _, n in ipairs { 0.1, 1 / 3, 1.5, 123456.789, 5e-324 } do
      assert.are.equal(n, json.decode(json.compact { n })[1])
    end
    assert.are.equal("0.1", json.compact(0.1))
  end)

  it("does not print what JSON has not", function()
    for _, v in ipairs { 0 / 0, math.huge, -math.huge, print, io.stdout } do
      assert.has_error(function() json.compact { v } end)
    end
    assert.has_error(function() json.compact { [5] = 1 } end)
    assert.has_error(function() json.compact { [true] = 1 } end)
  end)

  it("P-RES-10: keeps lists lists and objects objects when empty", function()
    assert.are.equal("[]", json.encode(json.list {}))
    assert.are.equal("{}", json.encode {})
  end)

  it("escapes what must be, and no slash", function()
    assert.are.equal([["a\"b\\c/d\n\t\u0001\u007f\u0000é"]],
      json.compact "a\"b\\c/d\n\t\1\127\0é")
    assert.are.equal([[{"a\"b":1}]], json.compact { ['a"b'] = 1 })
  end)

  it("P-IO-09: mends bytes that are no UTF-8", function()
    assert.are.equal('"a\u{FFFD}b\u{FFFD}"', json.compact "a\xffb\xc3")
  end)

  it("prints values that know their text as that text", function()
    local v = setmetatable({}, { __tostring = function() return "10.0.0.1/8" end })
    assert.are.equal('{"a":"10.0.0.1/8"}', json.compact { a = v })
  end)

  it("can put some members first", function()
    assert.are.equal('{\n  "z": 1,\n  "a": 2,\n  "b": 3\n}',
      json.encode({ a = 2, b = 3, z = 1 }, "  ", { z = 1 }))
  end)

  it("prints json.null as null", function()
    assert.are.equal("[null,1]", json.compact { json.null, 1 })
  end)

  it("comes back from decode the same", function()
    local text = '{"a":[{"b":[]},{}],"c":"\\u0000é","d":-1.5,"e":false}'
    assert.are.equal(text, json.compact(json.decode(text)))
  end)

  it("does not go on for ever over a cycle", function()
    local t = {}
    t.t = t
    assert.has_error(function() json.encode(t) end)
  end)
end)

describe("json.note", function()
  local function there_and_back(value)
    local line = json.note(value)
    assert.is_truthy(utf8.len(line), line)
    assert.is_nil(line:find("\n", 1, true))
    return json.decode_lines(line .. "\n")[1]
  end

  it("is read back byte for byte, UTF-8 or not", function()
    local every = {}
    for b = 0, 255 do every[b + 1] = string.char(b) end
    for _, text in ipairs { "", "plain", "\u{E9}\u{1F600}", "a\xffb\xc3", table.concat(every), "\u{EF80}", "\u{EFFF}\xff",
      "\xee\xbe", "\xed\xa0\x80", "\u{EF7F}\u{F000}" } do
      local back = there_and_back { text, { [text] = { text } } }
      assert.are.equal(text, back[1])
      assert.are.equal(text, back[2][text][1])
    end
  end)

  it("is what anybody would print, of what is UTF-8", function()
    assert.are.equal('{"a":"\u{E9}\u{FFFD}"}', json.note { a = "\u{E9}\u{FFFD}" })
    assert.are.equal("\u{EF80}", json.decode('["\u{EF80}"]')[1])
  end)
end)

describe("json.show", function()
  it("is short and on one line", function()
    assert.are.equal('"a\\nb"', json.show "a\nb")
    assert.are.equal("null", json.show(nil))
    assert.are.equal("null", json.show(json.null))
    assert.are.equal("a list", json.show { 1 })
    assert.are.equal("a list", json.show(json.list {}))
    assert.are.equal("an object", json.show {})
    assert.are.equal("5000", json.show(5000))
    assert.is_true(#json.show(("x"):rep(1000)) < 80)
  end)
end)

describe("json against mutilated texts", function()
  local seeds = {
    '{"bridge":"cni0","ipam":{"ranges":[[{"subnet":"10.1.2.0/24"}]]},"x":[],"y":{},' ..
      '"n":[1,-2.5e3,0.1,true,null],"u":"\\u00e9\\ud83d\\ude00 é"}',
    '{\n  "a": [ ],\n\t"b": "x\\n",\n "c": [[],[ [ ] ],{}]\n}\n',
  }
  local bits = { "{", "}", "[", "]", ",", ":", '"', "\\", ".", "-", "e", "0", "null", "[]",
    "\n", "\0", "\1", "\xff", "NaN", "1.", "\\ud800", "1e999", "\v", "é" }

  it("raises code 6 or gives what prints and reads back the same", function()
    math.randomseed(20)
    local read = 0
    for _ = 1, 5000 do
      local text = seeds[math.random(#seeds)]
      for _ = 1, math.random(0, 3) do
        local at = math.random(0, #text)
        local skip = math.random(0, 2)
        text = text:sub(1, at) .. bits[math.random(#bits)] .. text:sub(at + 1 + skip)
      end
      local ok, value = pcall(json.decode, text)
      if ok then
        read = read + 1
        local printed = json.compact(value == nil and json.null or value)
        local again = json.decode(printed)
        assert.are.equal(printed, json.compact(again == nil and json.null or again))
      else
        assert.are.equal(6, value.code, text)
      end
    end
    assert.is_true(read > 500)
  end)
end)
