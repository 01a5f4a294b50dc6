-- SPDX-License-Identifier: MIT
-- A script declares which keys of CNI_ARGS it reads: it gets values, and who gives something else is told.

local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/own.lua"
local script = [[
local schema = require "cni.schema"
return {
  args = schema.record {
    TENANT = schema.string { required = true, doc = "Whose it is." },
    VLAN = schema.integer { min = 1, max = 4094, default = 7 }, FAST = schema.boolean,
  },
  add = function(req)
    return { dns = { domain = table.concat({ req.args.TENANT, math.type(req.args.VLAN), tostring(req.args.FAST) }, " "),
      search = { tostring(req.args.MORE) } } }
  end,
}
]]
local good = script:gsub(",\n%s*search.-}", "")

local w

local function domain(args)
  local got = w:call("ADD", { type = "luacni", args = args })
  assert.equal(0, got.rc, got.out)
  w:del { type = "luacni", args = args }
  return got.json.dns.domain
end

local function refusal(args)
  return w:fails("ADD", { type = "luacni", args = args }, 4).text
end

describe("What a script declares of CNI_ARGS", function()
  before_each(function()
    t.wipe()
    w = world.new({ type = "own" }, { neighbours = false, lived_in = false })
    t.write(path, good)
  end)
  after_each(t.cleanup)

  it("it gets as values, with defaults; keys that nobody knows need IgnoreUnknown", function()
    assert.equal("blue integer false", domain "TENANT=blue")
    assert.equal("blue integer true", domain "IgnoreUnknown=1;K8S_POD_NAME=p;TENANT=blue;VLAN=9;FAST=true;IP=10.0.0.1")
    assert.matches("unknown args %[TENNANT=blue%].*did you mean \"TENANT\"%?", refusal "TENANT=blue;TENNANT=blue")
    assert.matches("^CNI_ARGS%.TENANT: is missing: string is wanted", refusal "VLAN=9")
    assert.matches('^CNI_ARGS%.VLAN: 5000 is not an integer from 1 to 4094', refusal "TENANT=blue;VLAN=5000")
    assert.matches('^CNI_ARGS%.VLAN: "x" is not an integer from 1 to 4094', refusal "TENANT=blue;VLAN=x")
    assert.matches('^CNI_ARGS%.FAST: "maybe" is not true or false', refusal "TENANT=blue;FAST=maybe")
    assert.equal("", t.records())
  end)

  it("and a key that it has not declared is a mistake of its author's", function()
    t.write(path, script)
    local e = w:fails("ADD", { type = "luacni", args = "TENANT=blue" })
    assert.equal(path .. ":9: req.args: unknown name 'MORE'", e.msg)
    t.write(path, (script:gsub("schema.boolean", "schema.list(schema.string)")))
    assert.matches("field 'args': FAST is a list, and a value of CNI_ARGS is one text",
      w:fails("ADD", { type = "luacni", args = "TENANT=blue" }).msg)
    t.write(path, "return { args = { TENANT = 'x' }, add = print }")
    assert.matches("field 'args' must be a schema.record", w:fails("ADD", { type = "luacni" }).msg)
  end)

  it("what runs within it has CNI_ARGS as it was given, and knows its keys; DEL needs none", function()
    t.write(path, (good:gsub("return { dns", function() return [[
    local r = req:delegate("ptp", { ipam = { type = "host-local", subnet = "10.9.0.0/24" } })
    r.dns = { domain = req.args.TENANT } return r end, }
    --[=[ { dns]] end):gsub("$", "]=]")))
    local answer = w:add { type = "luacni", args = "TENANT=blue;IP=10.9.0.77" }
    assert.equal("10.9.0.77/24", answer.ips[1].address)
    assert.equal("blue", answer.dns.domain)
    w:check { type = "luacni", args = "TENANT=blue;IP=10.9.0.77" }
    w:lose_records()
    w:del { type = "luacni" }
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)

  it("is in luacni doc and schema, and validate is told what is missing by --args", function()
    local function luacni(...) return t.sh({ t.build .. "/luacni", ... }, { host = w.host }) end
    assert.matches("CNI_ARGS%s+type%s+default.*\nTENANT%s+string%s+required%s+Whose it is%.", (luacni("doc", "own")))
    assert.same({ "TENANT" }, t.decode((luacni "schema"))["$defs"].CNI_ARGS.own.required)
    t.write("/run/spec/own.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { w:config() } })
    local out, status = luacni("validate", "/run/spec/own.conflist")
    assert.equal(0, status, out)
    assert.matches("note: without what a runtime would say: CNI_ARGS%.TENANT: is missing", out)
    assert.is_nil((luacni("validate", "--args", "TENANT=blue", "/run/spec/own.conflist")):find("TENANT", 1, true))
    out, status = luacni("validate", "--args", "TENANT=blue;VLAN=0", "/run/spec/own.conflist")
    assert.equal(0, status)
    assert.matches("CNI_ARGS%.VLAN: 0 is not an integer from 1 to 4094", out)
    os.remove "/run/spec/own.conflist"
  end)
end)
