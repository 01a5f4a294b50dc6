-- SPDX-License-Identifier: MIT
-- cni.schema: what is declared is what is read, refused, and documented.

local json = require "cni.json"
local schema = require "cni.schema"
local schema_doc = require "cni.command.schema_doc"

local function read(rec, text)
  return schema.read(rec, json.decode(text))
end

local function refused(rec, text, message)
  local ok, err = pcall(read, rec, text)
  assert.is_false(ok, "was accepted: " .. text)
  assert.are.equal(7, err.code)
  if message then assert.are.equal(message, tostring(err)) end
  return err
end

-- One key `x` of a type.
local function one(type) return schema.record { x = type } end
local function value(type, text) return read(one(type), '{"x":' .. text .. "}").x end
local function no(type, text, message)
  return refused(one(type), '{"x":' .. text .. "}", message and "x: " .. message)
end

describe("a record", function()
  it("is optional in every key unless a key says otherwise", function()
    local rec = schema.record {
      a = schema.boolean, b = schema.integer, c = schema.string, d = schema.cidr,
      e = schema.list(schema.ip), f = schema.record { g = schema.mac }, h = schema.any,
    }
    assert.are.same({ a = false }, read(rec, "{}"))
  end)

  it("insists on a required key, and names it", function()
    local rec = schema.record { master = schema.ifname { required = true } }
    refused(rec, "{}", "master: is missing: interface name is wanted")
    assert.are.equal("eth0", read(rec, '{"master":"eth0"}').master)
    refused(schema.record { m = schema.string { optional = false } }, "{}")
  end)

  it("fills in defaults, also of nested records", function()
    local inner = schema.record { n = schema.integer { default = 5 } }
    local rec = schema.record { a = inner, b = inner { default = {} } }
    assert.are.same({ b = { n = 5 } }, read(rec, "{}"))
    assert.are.same({ a = { n = 5 }, b = { n = 1 } }, read(rec, '{"a":{},"b":{"n":1}}'))
  end)

  it("1.3: takes null for absent", function()
    assert.are.same({ x = 5 }, read(one(schema.integer { default = 5 }), '{"x":null}'))
  end)

  it("P-CFG-08: ignores unknown keys, and does not hand them on", function()
    assert.are.same({ x = 1 }, read(one(schema.integer), '{"x":1,"y":2,"args":[null]}'))
  end)

  it("P-CFG-07, V-CASE-01: finds keys in any letter case, at any depth", function()
    local rec = schema.record {
      isGateway = schema.boolean,
      runtimeConfig = schema.record {
        portMappings = schema.list(schema.record {
          hostPort = schema.integer, containerPort = schema.integer, hostIP = schema.ip,
        }),
      },
    }
    local plain = read(rec, '{"isGateway":true,"runtimeConfig":{"portMappings":' ..
      '[{"hostPort":80,"containerPort":8080,"hostIP":""}]}}')
    assert.are.same(plain, read(rec, '{"IsGateway":true,"RUNTIMECONFIG":{"PortMappings":' ..
      '[{"HostPort":80,"ContainerPort":8080,"HostIP":""}]}}'))
    assert.are.equal(80, plain.runtimeConfig.portMappings[1].hostPort)
  end)

  it("prefers the declared spelling", function()
    assert.are.equal(1, read(one(schema.integer), '{"X":2,"x":1}').x)
  end)

  it("does not take a list, a text or a number for an object", function()
    refused(one(schema.any), "[1]", "a list is not an object")
    refused(one(schema.any), "[]", "a list is not an object")
    refused(one(schema.any), '"x"', '"x" is not an object')
    no(schema.record {}, "[]", "a list is not an object")
    no(schema.record {}, "5", "5 is not an object")
  end)

  it("starts its paths where it is told", function()
    local ok, err = pcall(schema.read, one(schema.integer), { x = "a" }, "ipam.ranges[0]")
    assert.is_false(ok)
    assert.are.equal('ipam.ranges[0].x: "a" is not an integer', tostring(err))
  end)

  it("reports the same one of several faults every time", function()
    local rec = schema.record {}
    for i = 1, 20 do rec.fields["k" .. i] = schema.integer end
    local fields, raw = {}, {}
    for i = 1, 20 do fields["k" .. i], raw["k" .. i] = schema.integer, "bad" end
    for _ = 1, 5 do
      local ok, err = pcall(schema.read, schema.record(fields), raw)
      assert.is_false(ok)
      assert.is_truthy(err.msg:find("^k1: "))
    end
  end)

  it("does not change what it reads, nor the declaration", function()
    local raw = { x = { "0A-58-00-00-00-01" }, Y = 1 }
    local rec = schema.record { x = schema.list(schema.mac), y = schema.integer }
    assert.are.same({ x = { "0a:58:00:00:00:01" }, y = 1 }, schema.read(rec, raw))
    assert.are.same({ x = { "0A-58-00-00-00-01" }, Y = 1 }, raw)
    assert.are.same({}, schema.read(schema.record { x = schema.list(schema.mac) }, {}))
  end)

  it("refuses a declaration that is none, when it is made", function()
    assert.has_error(function() schema.record { x = 5 } end)
    assert.has_error(function() schema.record { x = {} } end)
    assert.has_error(function() return schema.integer { mimimum = 5 } end)
    assert.has_error(function() schema.record({}):implies("a", "b") end)
  end)
end)

describe("rules between keys", function()
  local function flags()
    return schema.record { a = schema.boolean, b = schema.boolean, n = schema.integer }
  end

  it("implies sets what follows", function()
    local rec = flags():implies("a", "b")
    assert.is_true(read(rec, '{"a":true}').b)
    assert.is_true(read(rec, '{"a":true,"b":false}').b)
    assert.is_false(read(rec, '{"a":false}').b)
    assert.is_false(read(rec, '{"b":true}').a)
  end)

  it("never_both refuses both, and says why", function()
    local rec = flags():never_both("a", "b", "frames would loop")
    refused(rec, '{"a":true,"b":true}', "a and b cannot both be set; frames would loop")
    assert.is_true(read(rec, '{"a":true,"b":false}').a)
    assert.is_true(read(rec, '{"b":true}').b)
  end)

  it("never_both takes 0 for not set", function()
    local rec = flags():never_both("a", "n")
    assert.is_true(read(rec, '{"a":true,"n":0}').a)
    refused(rec, '{"a":true,"n":1}')
  end)

  it("check sees what was read, and names the path", function()
    local rec = flags():check(function(conf) return conf.n == 7 and "7 is taken" or nil end)
    refused(schema.record { r = rec }, '{"r":{"n":7}}', "r: 7 is taken")
    assert.are.equal(8, read(rec, '{"n":8}').n)
  end)

  it("apply in the order they were given", function()
    local rec = flags():implies("a", "b"):never_both("b", "n")
    refused(rec, '{"a":true,"n":1}', "b and n cannot both be set")
  end)

  it("of one record are not those of a copy's original", function()
    local rec = flags()
    local copy = rec { doc = "x" }
    assert.are.equal("x", copy.doc)
    assert.is_nil(rec.doc)
  end)
end)

describe("a boolean", function()
  it("is true, false, or a default", function()
    assert.is_true(value(schema.boolean, "true"))
    assert.is_false(value(schema.boolean, "false"))
    assert.is_true(read(one(schema.boolean { default = true }), "{}").x)
    assert.is_false(value(schema.boolean { default = true }, "false"))
  end)

  it("is nothing else", function()
    no(schema.boolean, '"true"', '"true" is not true or false; write it without quotes')
    no(schema.boolean, "1", "1 is not true or false")
    no(schema.boolean, "[]")
  end)
end)

describe("an integer", function()
  local vlan = schema.integer { min = 0, max = 4094, default = 0 }

  it("stays within its range", function()
    assert.are.equal(0, value(vlan, "0"))
    assert.are.equal(4094, value(vlan, "4094"))
    no(vlan, "4095", "4095 is not an integer from 0 to 4094")
    no(vlan, "-1", "-1 is not an integer from 0 to 4094")
    no(schema.integer { min = 1 }, "0", "0 is not an integer not below 1")
    no(schema.integer { max = 1 }, "2", "2 is not an integer not above 1")
  end)

  it("P-CFG-10: may be spelt with a fraction of nothing, and is an integer then", function()
    assert.are.equal("integer", math.type(value(vlan, "100.0")))
  end)

  it("V-NUM-01: has more than 32 bits", function()
    assert.are.equal(34359738359, value(schema.integer, "34359738359"))
    assert.are.equal(10 ^ 15 // 1, value(schema.integer, "1000000000000000"))
  end)

  it("is not a fraction, a text, or beyond exactness", function()
    no(vlan, "1.5", "1.5 is not an integer from 0 to 4094")
    no(vlan, '"5"', '"5" is not an integer from 0 to 4094; write it without quotes')
    no(vlan, '"x"', '"x" is not an integer from 0 to 4094')
    no(vlan, "true")
    no(schema.integer, "12345678901234567890", "12345678901234567890 is not an integer; there is room for 64 bits")
    assert.are.equal(9007199254740993, value(schema.integer, "9007199254740993"))
  end)
end)

describe("an mtu", function()
  it("is absent when 0 or below, and within what links take otherwise", function()
    assert.is_nil(value(schema.mtu, "0"))
    assert.are.equal(1500, value(schema.mtu { default = 1500 }, "0"))
    assert.are.equal(68, value(schema.mtu, "68"))
    assert.are.equal(65535, value(schema.mtu, "65535"))
    no(schema.mtu, "67", "67 is not an integer from 68 to 65535")
    no(schema.mtu, "65536")
    assert.is_nil(value(schema.mtu, "-1"))
    no(schema.mtu, '"1500"')
    no(schema.mtu, "-0.5")
  end)
end)

describe("a string", function()
  it("is a text, of the length and form that was asked for", function()
    assert.are.equal("", value(schema.string, '""'))
    assert.is_nil(value(schema.string { empty = "absent" }, '""'))
    no(schema.string { min_len = 1 }, '""')
    no(schema.string { max_len = 3 }, '"abcd"', '"abcd" is not a string of 0 to 3 bytes')
    local lower = schema.string { pattern = "%l+", wanted = "a lower-case word" }
    assert.are.equal("abc", value(lower, '"abc"'))
    no(lower, '"abC"', '"abC" is not a lower-case word')
    no(lower, '""')
    no(schema.string, "5", "5 is not a string")
  end)

  it("holds no zero byte", function()
    no(schema.string, [["a\u0000b"]], "contains a zero byte")
  end)
end)

describe("an enum", function()
  local mode = schema.enum { values = { "bridge", "private", "vepa" }, default = "bridge" }

  it("is one of its words", function()
    assert.are.equal("vepa", value(mode, '"vepa"'))
    assert.are.equal("bridge", read(one(mode), "{}").x)
    no(mode, '"bridg"',
      '"bridg" is not one of bridge, private, vepa; did you mean "bridge"?')
    no(mode, '"wireguard"', '"wireguard" is not one of bridge, private, vepa')
    no(mode, '"Bridge"')
    no(mode, "1")
    no(mode, '""')
  end)

  it("can take an empty text for absent", function()
    assert.are.equal("bridge", value(mode { empty = "absent" }, '""'))
  end)
end)

describe("an interface name", function()
  it("P-VAL-04: is one the kernel takes", function()
    assert.are.equal("cni0", value(schema.ifname, '"cni0"'))
    assert.are.equal("123456789012345", value(schema.ifname, '"123456789012345"'))
    for _, bad in ipairs { "", "1234567890123456", ".", "..", "a/b", "a:b", "a b", "a\tb",
      "eth%d", "a\u{A0}b", "a\u{3000}", "éééééééé" } do
      no(schema.ifname, json.compact(bad))
    end
    no(schema.ifname, [["a\u0000b"]])
    no(schema.ifname, "0")
  end)

  it("may hold other letters than ASCII's", function()
    assert.are.equal("ééééééé", value(schema.ifname, '"ééééééé"'))
  end)
end)

describe("a mac", function()
  it("is read in every usual form, printed in one", function()
    for _, text in ipairs { "0a:58:0a:01:02:03", "0A:58:0A:01:02:03", "0a-58-0a-01-02-03",
      "0a58.0a01.0203" } do
      assert.are.equal("0a:58:0a:01:02:03", value(schema.mac, json.compact(text)))
    end
    assert.is_nil(value(schema.mac, '""'))
  end)

  it("is a station's address of six bytes", function()
    for _, bad in ipairs { "0a:58:0a:01:02", "0a:58:0a:01:02:03:04", "0a:58:0a:01:02:3",
      "0a:58:0a-01:02:03", "0g:58:0a:01:02:03", "0a580a010203", " 0a:58:0a:01:02:03",
      "0a58.0a01.02", "x", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00" } do
      no(schema.mac, json.compact(bad))
    end
    no(schema.mac, "5")
  end)
end)

describe("an ip", function()
  it("is an address, in canonical form", function()
    assert.are.equal("10.1.2.3", value(schema.ip, '"10.1.2.3"'))
    assert.are.equal("fd00::1", value(schema.ip, '"FD00:0::1"'))
    assert.are.equal("10.1.2.3", value(schema.ip, '"::ffff:10.1.2.3"'))
  end)

  it("P-RES-11: is absent when empty", function()
    assert.is_nil(value(schema.ip, '""'))
  end)

  it("is nothing else", function()
    no(schema.ip, '"10.1.2.3/24"',
      '"10.1.2.3/24" is not an IP address; write it without the prefix length')
    no(schema.ip, '"10.1.2.03"', '"10.1.2.03" is not an IP address')
    no(schema.ip, '"[::1]"', '"[::1]" is not an IP address; write it without the brackets')
    no(schema.ip, '"[x]"', '"[x]" is not an IP address')
    no(schema.ip, '"fe80::1%eth0"', '"fe80::1%eth0" is not an IP address; write it without the zone')
    no(schema.ip, '"localhost"', '"localhost" is not an IP address; names are not looked up: write the address')
    no(schema.ip, "10")
    no(schema.ip { family = "inet" }, '"::1"', '"::1" is not an IPv4 address')
    no(schema.ip { family = "inet6" }, '"10.0.0.1"')
  end)
end)

describe("a cidr", function()
  it("is an address with its length, host bits kept", function()
    assert.are.equal("10.1.2.3/24", value(schema.cidr, '"10.1.2.3/24"'))
    assert.are.equal("fd00::/64", value(schema.cidr, '"FD00::0/64"'))
    no(schema.cidr, '"10.1.2.3"')
    no(schema.cidr, '"10.1.2.0/33"',
      '"10.1.2.0/33" is not an address with prefix length such as 10.1.2.0/24')
    no(schema.cidr, '""')
    no(schema.cidr { family = "inet6" }, '"10.0.0.0/8"')
  end)

  it("is a network when that is asked for", function()
    local net = schema.cidr { network = true }
    assert.are.equal("10.1.2.0/24", value(net, '"10.1.2.0/24"'))
    no(net, '"10.1.2.5/24"', '"10.1.2.5/24" is not a network: it has host bits set; ' ..
      "the network is 10.1.2.0/24")
  end)
end)

describe("a list", function()
  local ports = schema.list(schema.integer { min = 1, max = 65535 })

  it("has elements of its type, and says which is wrong, from 0", function()
    assert.are.same({ 80, 443 }, value(ports, "[80,443]"))
    assert.are.same({}, value(ports, "[]"))
    no(ports, "[80,0]", nil)
    assert.are.equal("x[1]: 0 is not an integer from 1 to 65535",
      tostring(refused(one(ports), '{"x":[80,0]}')))
  end)

  it("TOL-10: does not stumble over null elements", function()
    refused(one(ports), '{"x":[null]}', "x[0]: null is not integer from 1 to 65535")
  end)

  it("is not an object, a text or a number", function()
    no(ports, '{"a":1}', "an object is not a list")
    no(ports, '"80"', '"80" is not a list')
    no(ports, "80", "80 is not a list; one alone is written in brackets too: [ ... ]")
    no(ports, "80")
  end)

  it("has as many elements as it may", function()
    local two = schema.list(schema.any, { min_items = 1, max_items = 2 })
    no(two, "[]")
    no(two, "[1,2,3]")
    assert.are.equal(2, #value(two, "[1,2]"))
  end)

  it("stays a list when printed", function()
    assert.are.equal("[]", json.compact(value(ports, "[]")))
  end)

  it("of records of lists names the whole path", function()
    local sets = schema.record { ipam = schema.record {
      ranges = schema.list(schema.list(schema.record { subnet = schema.cidr })) } }
    refused(sets, '{"ipam":{"ranges":[[],[{},{"subnet":"x"}]]}}',
      'ipam.ranges[1][1].subnet: "x" is not an address with prefix length such as ' ..
      "10.1.2.0/24")
  end)
end)

describe("a map", function()
  local sysctl = schema.map(schema.string)

  it("has free keys and values of one type", function()
    assert.are.same({ ["net.ipv4.x"] = "1" }, value(sysctl, '{"net.ipv4.x":"1"}'))
    assert.are.same({}, value(sysctl, "{}"))
    refused(one(sysctl), '{"x":{"a":1}}', "x.a: 1 is not a string")
    no(sysctl, '["a"]', "a list is not an object")
  end)
end)

describe("schema_doc.unknown_keys", function()
  local rec = schema.record {
    vlan = schema.integer,
    ranges = schema.list(schema.record { subnet = schema.cidr }),
  }

  it("finds them at every depth, with the nearest word", function()
    assert.are.same({
      { path = "ranges[1].subnte", nearest = "subnet" },
      { path = "vlam", nearest = "vlan" },
      { path = "zebra" },
    }, schema_doc.unknown_keys(rec, json.decode
      '{"vlam":1,"zebra":2,"ranges":[{"subnet":"10.0.0.0/8"},{"subnte":1}]}'))
  end)

  it("P-CFG-08: does not report the keys everybody has", function()
    assert.are.same({}, schema_doc.unknown_keys(rec, json.decode [[{
      "cniVersion":"1.0.0","name":"a","type":"b","ipam":{},"dns":{},"args":{"x":1},
      "capabilities":{},"runtimeConfig":{},"prevResult":{},"cni.dev/attachments":[],
      "VLAN":5}]]))
  end)
end)

describe("schema_doc.describe", function()
  it("has a row a key, nested ones after theirs, in order", function()
    local rec = schema.record {
      vlan = schema.integer { min = 0, max = 4094, default = 0, doc = "VLAN ID." },
      isGateway = schema.boolean { doc = "Be the gateway." },
      mode = schema.enum { values = { "a", "b" }, default = "a" },
      ranges = schema.list(schema.record { subnet = schema.cidr { required = true } }),
      sysctl = schema.map(schema.string),
      isDefault = schema.boolean,
    }
    rec:implies("isDefault", "isGateway"):never_both("vlan", "mode", "no reason")
    local rows, rules = schema_doc.describe(rec)
    assert.are.same({
      { key = "isDefault", type = "boolean", default = "false", required = false },
      { key = "isGateway", type = "boolean", default = "false", required = false,
        doc = "Be the gateway." },
      { key = "mode", type = "one of a, b", default = '"a"', required = false },
      { key = "ranges", type = "list of object", required = false },
      { key = "ranges[].subnet", type = "IP address as ADDRESS/LENGTH", required = true },
      { key = "sysctl", type = "object of string by name", required = false },
      { key = "vlan", type = "integer from 0 to 4094", default = "0", required = false,
        doc = "VLAN ID." },
    }, rows)
    assert.are.same({
      "isDefault implies isGateway.",
      "vlan and mode exclude each other: no reason.",
    }, rules)
  end)

  it("has a text for every type", function()
    for _, type in ipairs { schema.boolean, schema.integer, schema.mtu, schema.string,
      schema.enum { values = { "a" } }, schema.ifname, schema.mac, schema.ip,
      schema.cidr, schema.any, schema.list(schema.any), schema.map(schema.any),
      schema.record {} } do
      assert.is_truthy(type:describe():find("%l"))
    end
  end)
end)
