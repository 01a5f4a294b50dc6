-- SPDX-License-Identifier: MIT
-- cni.fail: every failure is one kind of value, and says enough to act on.

local cjson = require "cjson"
local fail = require "cni.fail"

local function caught(f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  return err
end

describe("fail", function()
  it("raises a value that it knows again", function()
    local err = caught(fail.throw, { code = 11, msg = "busy" })
    assert.is_true(fail.is(err))
    assert.are.equal(11, err.code)
    assert.are.equal("busy", err.msg)
  end)

  it("does not take other things for its own", function()
    for _, v in ipairs { "text", 5, {}, true, { code = 7, msg = "x" } } do
      assert.is_false(fail.is(v))
    end
    assert.is_false(fail.is(nil))
  end)

  it("takes a text alone for the message, and of a table that was raised what it says", function()
    local err = caught(fail.throw, "busy")
    assert.are.same({ 999, "busy" }, { err.code, err.msg })
    err = fail.wrap { msg = "busy", code = 123, details = "why" }
    assert.are.same({ 123, "busy", "why" }, { err.code, err.msg, err.details })
    assert.are.equal("unknown error; there is no msg, and message = busy",
      tostring(fail.new { message = "busy" }))
    assert.are.equal("no; why", tostring(fail.new { msg = "no", message = "busy", details = "why" }))
    assert.are.equal("mtu: unknown error", caught(fail.config, "mtu").msg)
    -- Of what has no text, or gives none willingly, nothing is taken.
    assert.truthy(fail.wrap { code = 123 }.msg:find("^error without a text"))
    assert.truthy(fail.wrap { msg = {} }.msg:find("^error without a text"))
    local closed = setmetatable({}, { __index = function() error "closed" end })
    assert.truthy(fail.wrap(closed).msg:find("^error without a text"))
  end)

  it("has code 999 unless told another", function()
    assert.are.equal(999, fail.new({ msg = "x" }).code)
  end)

  it("P-ERR-03: has the codes of the specification", function()
    local codes = fail.codes
    assert.are.same({ 1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999 }, {
      codes.version, codes.unsupported, codes.unknown_container, codes.env, codes.io,
      codes.decode, codes.config, codes.netns, codes.again, codes.no_add, codes.limited,
      codes.internal,
    })
  end)

  it("P-ERR-05: never has an empty message", function()
    assert.are.equal("unknown error", fail.new({ msg = "" }).msg)
    assert.are.equal("unknown error", fail.new({}).msg)
    assert.are.equal("unknown error", fail.wrap(fail.new { msg = "" }).msg)
  end)

  it("names the key of a configuration error", function()
    local err = caught(fail.config, "ipam.ranges[1].subnet", "is missing", "write one")
    assert.are.equal(7, err.code)
    assert.are.equal("ipam.ranges[1].subnet: is missing", err.msg)
    assert.are.equal("ipam.ranges[1].subnet: is missing; write one", tostring(err))
  end)

  it("does not print a separator for the whole configuration", function()
    assert.are.equal("is a list", caught(fail.config, "", "is a list").msg)
  end)
end)

describe("fail as JSON", function()
  it("P-ERR-01: is one object with cniVersion, code, msg, details", function()
    local text = fail.new({ code = 7, msg = "no", details = "why" }):json("0.4.0")
    assert.are.same(
      { cniVersion = "0.4.0", code = 7, msg = "no", details = "why" }, cjson.decode(text))
  end)

  it("P-ERR-01: prints the code as a whole number", function()
    assert.is_truthy(fail.new({ code = 7.0, msg = "x" }):json():find('"code": 7,', 1, true))
  end)

  it("leaves details out when there are none", function()
    assert.is_nil(cjson.decode(fail.new({ msg = "x" }):json()).details)
    assert.is_nil(cjson.decode(fail.new({ msg = "x", details = "" }):json()).details)
  end)

  it("P-ERR-04: has the newest version before the request's is known", function()
    assert.are.equal("1.1.0", cjson.decode(fail.new({ msg = "x" }):json()).cniVersion)
  end)

  it("puts the hint at the end of the details", function()
    local function details(fields)
      return cjson.decode(fail.new(fields):json()).details
    end
    assert.are.equal("a; b", details { msg = "x", details = "a", hint = "b" })
    assert.are.equal("b", details { msg = "x", hint = "b" })
    assert.are.equal("a; b", details { msg = "x", details = "a; b", hint = "b" })
  end)

  it("P-IO-09: stays UTF-8 whatever the message holds", function()
    local text = fail.new({ msg = "bad \xff\xfe name", details = "\xe2\x82" }):json()
    assert.is_truthy(utf8.len(text))
    assert.are.equal("bad \u{FFFD}\u{FFFD} name", cjson.decode(text).msg)
  end)
end)

describe("fail.wrap", function()
  it("keeps an error value", function()
    local err = fail.new { code = 11, msg = "x" }
    assert.are.equal(err, fail.wrap(err))
  end)

  it("keeps file and line of a Lua error", function()
    local err = fail.wrap(caught(error, "plugins/x.lua:3: attempt to index nil"))
    assert.are.equal(999, err.code)
    assert.are.equal("plugins/x.lua:3: attempt to index nil", err.msg)
  end)

  it("puts a traceback into the details", function()
    local err = fail.wrap("x.lua:3: boom\nstack traceback:\n\t[C]: in ?")
    assert.are.equal("x.lua:3: boom", err.msg)
    assert.is_truthy(err.details:find("^stack traceback:"))
  end)

  it("prints one line", function()
    assert.is_nil(tostring(fail.new { msg = "a\nb", details = "c\n\td" }):find("\n"))
  end)

  it("survives an error that is no text", function()
    assert.is_truthy(fail.wrap({}).msg:find("table", 1, true))
    assert.is_truthy(fail.wrap(nil).msg:find("nil", 1, true))
  end)
end)

describe("fail.kernel", function()
  local function hint(what, errno, kind)
    return caught(fail.kernel, what, "refused", errno, kind).hint
  end

  it("names step, object and the kernel's text", function()
    local err = caught(fail.kernel, "bridge cni0: set mtu", "Invalid argument", 22)
    assert.are.equal(999, err.code)
    assert.are.equal(22, err.errno)
    assert.are.equal("bridge cni0: set mtu: Invalid argument", err.msg)
  end)

  it("has no hint for an errno alone: it has many causes", function()
    for errno = 1, 133 do
      local text = hint("add link x", errno)
      local limit = errno == 23 and "fs.file-max" or errno == 24 and "ulimit"
      assert.is_true(text == nil or limit and text:find(limit, 1, true) ~= nil, text)
    end
    assert.is_nil(caught(fail.kernel, "add link x", "refused").hint)
  end)

  it("names the option of a link kind that the kernel says it does not know", function()
    local function unknown(what, kind)
      return caught(fail.kernel, what, "Operation not supported (Unknown device type)", 95, kind).hint
    end
    assert.matches("CONFIG_MACVLAN is off", unknown("add eth0", "macvlan"), 1, true)
    assert.matches("CONFIG_VLAN_8021Q is off", unknown("add eth0.5", "vlan"), 1, true)
    assert.is_nil(unknown("add eth0", "newfangled"))
    -- The word is in the text, but it is not what the kernel speaks of.
    assert.is_nil(hint("give macvlan0 an address", 95))
    assert.is_nil(hint("add macvlan", 95, "macvlan"))
  end)

  it("takes the hint of whoever has seen the cause", function()
    assert.are.equal("eth0 is down", caught(fail.kernel, "x", "refused", 1, nil, "eth0 is down").hint)
  end)
end)

describe("An expression of nf_tables that the kernel lacks", function()
  local hints = require "cni.protocol.hints"
  local entry = { "add", "rule", { exprs = { { "lookup", set = "s" }, { "masq" } } } }

  it("is named", function()
    assert.matches("CONFIG_NFT_MASQ is off", hints.expression(entry, "add rule c (exprs[2]): no"), 1, true)
  end)

  it("is not what is missing when the rule looks for something else", function()
    assert.is_nil(hints.expression(entry, "add rule c (exprs[1]): no"))
    assert.is_nil(hints.expression(entry, "add rule c (table): no"))
    assert.is_nil(hints.expression(entry, "add rule c (exprs[7]): no"))
    assert.is_nil(hints.expression(nil, "nft batch: no"))
  end)
end)

describe("fail.join", function()
  it("says everything once", function()
    local err = fail.join {
      fail.new { code = 11, msg = "a", details = "d", hint = "h" },
      fail.new { code = 5, msg = "b", details = "d", hint = "h" },
      fail.new { msg = "a", hint = "other" },
    }
    assert.are.same({ 11, "a", "d; b", "h; other" }, { err.code, err.msg, err.details, err.hint })
  end)

  it("of one error is that error", function()
    local err = fail.join { fail.new { code = 7, msg = "a" } }
    assert.are.same({ 7, "a" }, { err.code, err.msg })
    assert.is_nil(err.details)
    assert.is_nil(err.hint)
  end)
end)

describe("the nearest word", function()
  local hints = require "cni.protocol.hints"

  it("is found through a slip of the finger", function()
    local words = { "bridge", "private", "vepa", "passthru" }
    assert.are.equal("bridge", hints.nearest("bridg", words))
    assert.are.equal("passthru", hints.nearest("passtrhu", words))
    assert.are.equal("vepa", hints.nearest("VEPA", words))
  end)

  it("is nil when nothing is near", function()
    -- Two letters that have changed places are one mistake.
    assert.are.equal("list", hints.nearest("lsit", { "list", "types" }))
    assert.are.equal("mtu", hints.nearest("mut", { "mtu", "name" }))
    assert.is_nil(hints.nearest("tum", { "mtu" }))
    assert.is_nil(hints.nearest("wireguard", { "bridge", "vepa" }))
    assert.is_nil(hints.nearest("x", {}))
    assert.is_nil(hints.nearest(("x"):rep(100), { ("x"):rep(99) }))
  end)

  it("is the same one every time among equals", function()
    assert.are.equal("ab", hints.nearest("aa", { "ac", "ab" }))
    assert.are.equal("ab", hints.nearest("aa", { "ab", "ac" }))
  end)
end)
