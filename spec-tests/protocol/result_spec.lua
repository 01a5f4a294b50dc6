-- SPDX-License-Identifier: MIT
-- cni.protocol.result: read from every version, printed in every version, nothing invented.

local addr = require "cni.addr"
local json = require "cni.json"
local result = require "cni.protocol.result"

local modern = { "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" }
local old = { "0.1.0", "0.2.0" }

local function refused(code, text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok, "was accepted")
  assert.are.equal(code, err.code, tostring(err))
  if text then assert.is_truthy(tostring(err):find(text, 1, true), tostring(err)) end
  return err
end

-- What goes in as JSON in one version, as compact JSON in another.
local function through(text, from, to)
  local internal = result.parse_any(json.decode(text), from)
  return json.compact(json.decode(result.render(internal, to or from)))
end

local function same(text)
  return json.compact(json.decode(text))
end

local full = {
  interfaces = {
    { name = "cni0", mac = "0a:00:00:00:00:01", mtu = 1400 },
    { name = "eth0", mac = "0a:00:00:00:00:02", sandbox = "/run/netns/x", pciID = "p",
      socketPath = "/s" },
  },
  ips = {
    { address = "10.1.2.3/24", gateway = "10.1.2.1", interface = 1 },
    { address = "fd00::3/64", gateway = "fd00::1", interface = 1 },
    { address = "10.9.9.9/24", interface = 1 },
  },
  routes = {
    { dst = "0.0.0.0/0", gw = "10.1.2.1", mtu = 1300, advmss = 1260, priority = 5,
      table = 100, scope = 0 },
    { dst = "fd00:1::/64" },
  },
  dns = { nameservers = { "10.1.2.1" }, domain = "a.b", search = { "a.b", "c" },
    options = { "ndots:2" } },
}

describe("result.render", function()
  it("P-RES-01: has the version that was asked for", function()
    for _, list in ipairs { modern, old } do
      for _, version in ipairs(list) do
        assert.are.equal(version, json.decode(result.render(full, version)).cniVersion)
      end
    end
    assert.are.equal("0.1.0", json.decode(result.render(full, "")).cniVersion)
  end)

  it("P-CNV-03: knows no other version", function()
    for _, version in ipairs { "1.0", "9.9.9", "0.3" } do
      local err = refused(1, nil, result.render, full, version)
      assert.are.equal("no converter for CNI result version 1.1.0 to " .. version, err.msg)
    end
  end)

  it("P-RES: prints 1.1.0 with all there is", function()
    assert.are.equal(same [[{"cniVersion":"1.1.0",
      "dns":{"domain":"a.b","nameservers":["10.1.2.1"],"options":["ndots:2"],"search":["a.b","c"]},
      "interfaces":[{"mac":"0a:00:00:00:00:01","mtu":1400,"name":"cni0"},
        {"mac":"0a:00:00:00:00:02","name":"eth0","pciID":"p","sandbox":"/run/netns/x",
         "socketPath":"/s"}],
      "ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1},
        {"address":"fd00::3/64","gateway":"fd00::1","interface":1},
        {"address":"10.9.9.9/24","interface":1}],
      "routes":[{"advmss":1260,"dst":"0.0.0.0/0","gw":"10.1.2.1","mtu":1300,"priority":5,
        "scope":0,"table":100},{"dst":"fd00:1::/64"}]}]],
      json.compact(json.decode(result.render(full, "1.1.0"))))
  end)

  it("P-CNV: prints 1.0.0 as 1.1.0 but for the version", function()
    local newer = result.render(full, "1.1.0")
    assert.are.equal((newer:gsub('"1%.1%.0"', '"1.0.0"')), result.render(full, "1.0.0"))
  end)

  it("P-CNV: prints 0.3 and 0.4 with families, without the newer interface keys", function()
    for _, version in ipairs { "0.3.0", "0.3.1", "0.4.0" } do
      local r = json.decode(result.render(full, version))
      assert.are.same({ "4", "6", "4" },
        { r.ips[1].version, r.ips[2].version, r.ips[3].version })
      assert.are.same({ name = "cni0", mac = "0a:00:00:00:00:01" }, r.interfaces[1])
      assert.is_nil(r.interfaces[2].pciID)
      assert.is_nil(r.interfaces[2].socketPath)
      assert.are.equal(1300, r.routes[1].mtu)
    end
  end)

  it("P-CNV: prints 0.1 and 0.2 with the first address of each family", function()
    for _, version in ipairs(old) do
      assert.are.equal(same((([[{"cniVersion":"VERSION",
        "dns":{"domain":"a.b","nameservers":["10.1.2.1"],"options":["ndots:2"],
          "search":["a.b","c"]},
        "ip4":{"gateway":"10.1.2.1","ip":"10.1.2.3/24",
          "routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"}]},
        "ip6":{"gateway":"fd00::1","ip":"fd00::3/64","routes":[{"dst":"fd00:1::/64"}]}}]]
)
        :gsub("VERSION", version))), json.compact(json.decode(result.render(full, version))))
    end
  end)

  it("P-CNV: loses the routes of a family without address", function()
    local r = json.decode(result.render({ ips = { { address = "10.0.0.1/8" } },
      routes = { { dst = "::/0" }, { dst = "10.0.0.0/8" } } }, "0.2.0"))
    assert.is_nil(r.ip6)
    assert.are.same({ { dst = "10.0.0.0/8" } }, r.ip4.routes)
  end)

  it("P-CNV-01: has no 0.1 or 0.2 without an address", function()
    for _, version in ipairs(old) do
      local err = refused(999, nil, result.render, { interfaces = full.interfaces }, version)
      assert.are.equal("cannot convert: no valid IP addresses", err.msg)
    end
    assert.is_truthy(result.render({ interfaces = full.interfaces }, "0.3.0"))
  end)

  it("P-RES-12: has an empty dns in 0.x, none in 1.x", function()
    for _, version in ipairs { "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0" } do
      assert.is_truthy(result.render({ ips = { { address = "10.0.0.1/8" } } }, version)
        :find('"dns": {}', 1, true))
    end
    for _, version in ipairs { "1.0.0", "1.1.0" } do
      for _, dns in ipairs { {}, { nameservers = {} }, { domain = "" } } do
        assert.is_nil(result.render({ dns = dns }, version):find("dns", 1, true))
      end
    end
  end)

  it("P-RES: leaves out what is empty or zero", function()
    assert.are.equal('{\n    "cniVersion": "1.1.0"\n}', result.render({}, "1.1.0"))
    assert.are.equal('{\n    "cniVersion": "1.1.0"\n}', result.render(nil, "1.1.0"))
    assert.are.equal('{"cniVersion":"1.0.0","interfaces":[{"name":"a"}],' ..
      '"ips":[{"address":"10.0.0.1/8","interface":0}],"routes":[{"dst":"10.0.0.0/8"}]}',
      json.compact(result.convert({
        interfaces = { { name = "a", mac = "", sandbox = "", mtu = 0, socketPath = "" } },
        ips = { { address = "10.0.0.1/8", gateway = "", interface = 0 } },
        routes = { { dst = "10.0.0.0/8", gw = "", mtu = 0, advmss = 0, priority = 0 } },
        dns = { search = {} },
      }, "1.0.0")))
  end)

  it("P-RES-08: keeps table 0 and scope 0, which mean something", function()
    local r = json.decode(result.render({ routes = { { dst = "::/0", table = 0, scope = 0 } } },
      "1.1.0"))
    assert.are.same({ dst = "::/0", table = 0, scope = 0 }, r.routes[1])
  end)

  it("P-RES-10: prints integers as integers", function()
    local text = result.render({
      interfaces = { { name = "a", mtu = 1500.0 } },
      ips = { { address = "10.0.0.1/8", interface = 0.0 } },
    }, "1.1.0")
    assert.is_truthy(text:find('"mtu": 1500,', 1, true))
    assert.is_truthy(text:find('"interface": 0\n', 1, true))
    refused(999, "mtu", result.render, { interfaces = { { name = "a", mtu = 1.5 } } }, "1.1.0")
    refused(999, "mtu", result.render, { interfaces = { { name = "a", mtu = "5" } } }, "1.1.0")
  end)

  it("P-RES-10: prints lists as lists and dns as an object", function()
    for _, version in ipairs(modern) do
      local text = result.render({ interfaces = {}, ips = {}, routes = {},
        dns = json.list {} }, version)
      assert.is_nil(text:find("[]", 1, true))
    end
  end)

  it("P-RES-05: keeps host bits, and prints canonical addresses", function()
    local r = json.decode(result.render({ ips = { { address = "FD00:0::1/64",
      gateway = "FD00::0:2" } } }, "1.0.0"))
    assert.are.same({ address = "fd00::1/64", gateway = "fd00::2" }, r.ips[1])
  end)

  it("takes address values as well as texts", function()
    local r = json.decode(result.render({ ips = { { address = addr.parse "10.1.2.3/24" } },
      routes = { { dst = addr.default "inet" } } }, "1.0.0"))
    assert.are.equal("10.1.2.3/24", r.ips[1].address)
    assert.are.equal("0.0.0.0/0", r.routes[1].dst)
  end)

  it("P-RES-05: turns an interface into its index, from 0", function()
    local a, b = { name = "a" }, { name = "b" }
    local r = json.decode(result.render({ interfaces = { a, b },
      ips = { { address = "10.0.0.1/8", interface = b } } }, "1.0.0"))
    assert.are.equal(1, r.ips[1].interface)
  end)

  it("P-RES-05: prints no index that is out of range", function()
    local function with(interface, n)
      local list = {}
      for i = 1, n do list[i] = { name = "i" .. i } end
      return { interfaces = list, ips = { { address = "10.0.0.1/8", interface = interface } } }
    end
    refused(999, "ips[0].interface", result.render, with(1, 1), "1.0.0")
    refused(999, "ips[0].interface", result.render, with(0, 0), "1.0.0")
    refused(999, "ips[0].interface", result.render, with(-2, 1), "1.0.0")
    refused(999, "ips[0].interface", result.render, with({ name = "i1" }, 1), "1.0.0")
    assert.is_truthy(result.render(with(0, 1), "1.0.0"))
  end)

  it("says where a plugin's result is wrong, as the plugin's fault", function()
    for where, bad in pairs {
      ["ips[0].address"] = { ips = { { address = "10.0.0.1" } } },
      ["ips[0].address: is missing"] = { ips = { {} } },
      ["ips[0].gateway"] = { ips = { { address = "10.0.0.1/8", gateway = "10.0.0.0/8" } } },
      ["ips[0]"] = { ips = { "10.0.0.1/8" } },
      ["result.ips"] = { ips = { address = "10.0.0.1/8" } },
      ["interfaces[0].name"] = { interfaces = { {} } },
      ["interfaces[0].mac"] = { interfaces = { { name = "a", mac = 5 } } },
      ["routes[1].dst"] = { routes = { { dst = "::/0" }, { dst = "default" } } },
      ["dns.nameservers[0]"] = { dns = { nameservers = { 5 } } },
      ["dns.search"] = { dns = { search = "a" } },
    } do
      refused(999, where, result.render, bad, "1.0.0")
    end
  end)

  it("leaves out what a plugin's tables hold beside the result", function()
    local r = json.decode(result.render({ interfaces = { { name = "a", index = 5,
      kind = "veth" } }, ips = { { address = "10.0.0.1/8", len = 8 } }, extra = 1 }, "1.1.0"))
    assert.are.same({ cniVersion = "1.1.0", interfaces = { { name = "a" } },
      ips = { { address = "10.0.0.1/8" } } }, r)
  end)

  it("does not change what it prints", function()
    local before = json.compact(full)
    for _, list in ipairs { modern, old } do
      for _, version in ipairs(list) do result.render(full, version) end
    end
    assert.are.equal(before, json.compact(full))
  end)

  it("P-IO-09: has sorted keys from 1.0.0 on, the customary order before", function()
    local text = result.render(full, "0.4.0")
    local last = 0
    for _, key in ipairs { "cniVersion", "interfaces", "ips", "routes", "dns" } do
      local at = text:find('\n    "' .. key .. '"', 1, true)
      assert.is_truthy(at and at > last, key)
      last = at
    end
    assert.is_truthy(result.render(full, "1.0.0"):find('^{\n    "cniVersion".-\n    "dns"' ..
      '.-\n    "interfaces".-\n    "ips".-\n    "routes".-\n}$'))
  end)
end)

describe("result.parse", function()
  local function parse(text, version) return result.parse(json.decode(text), version) end

  it("P-PRV-01: gives back what went in, in every version", function()
    for _, version in ipairs(modern) do
      local text = result.render(full, version)
      assert.are.equal(same(text), through(text, version))
    end
    for _, version in ipairs(old) do
      local text = result.render(full, version)
      assert.are.equal(same(text), through(text, version))
    end
  end)

  it("P-PRV-03: takes the configuration's version for a missing one", function()
    local internal = parse('{"ips":[{"version":"4","address":"10.0.0.1/8"}]}', "0.4.0")
    assert.are.same({ ips = { { address = "10.0.0.1/8" } } }, internal)
    assert.are.equal("10.0.0.1/8",
      parse('{"cniVersion":"","ip4":{"ip":"10.0.0.1/8"}}', "0.2.0").ips[1].address)
  end)

  it("P-PRV-04: refuses another family, and takes another number", function()
    local family = { ["0.1.0"] = 1, ["0.2.0"] = 1, ["0.3.0"] = 2, ["0.3.1"] = 2,
      ["0.4.0"] = 2, ["1.0.0"] = 3, ["1.1.0"] = 3 }
    for given, a in pairs(family) do
      for wanted, b in pairs(family) do
        local text = '{"cniVersion":"' .. given .. '"}'
        if a == b then
          parse(text, wanted)
        else
          refused(1, "could not parse prevResult: result type supports", parse, text, wanted)
        end
      end
    end
  end)

  it("P-CNV-04: refuses a version nobody knows", function()
    refused(1, 'unsupported CNI result version "9.4.0"', parse, '{"cniVersion":"9.4.0"}', "1.0.0")
    refused(1, "unsupported CNI result version", result.parse_any,
      { cniVersion = "9.4.0" }, "1.0.0")
    refused(1, nil, parse, '{"cniVersion":5}', "1.0.0")
  end)

  it("P-PRV-06: takes null and {} for an empty result", function()
    for _, version in ipairs(modern) do
      assert.are.same({}, result.parse(nil, version))
      assert.are.same({}, parse("null", version))
      assert.are.same({}, parse("{}", version))
    end
  end)

  it("P-RES-10: takes null and [] for absent members", function()
    assert.are.equal('{"cniVersion":"1.0.0"}', through('{"interfaces":null,"ips":[],' ..
      '"routes":[],"dns":null}', "1.0.0"))
    assert.are.equal('{"cniVersion":"1.0.0"}', through('{"dns":[]}', "1.0.0"))
  end)

  it("refuses what is no result, naming the place", function()
    for text, where in pairs {
      ["[]"] = "prevResult: a list is not an object",
      ['"x"'] = 'prevResult: "x" is not an object',
      ["5"] = "prevResult",
      ['{"interfaces":{"a":1}}'] = "prevResult.interfaces: an object is not a list",
      ['{"interfaces":[null]}'] = "prevResult.interfaces[0]: null is not an object",
      ['{"interfaces":["eth0"]}'] = 'prevResult.interfaces[0]: "eth0" is not an object',
      ['{"interfaces":[{"name":5}]}'] = "prevResult.interfaces[0].name: 5 is not a string",
      ['{"interfaces":[{"name":"a","mtu":"5"}]}'] = "prevResult.interfaces[0].mtu",
      ['{"ips":[null]}'] = "prevResult.ips[0]: null is not an object",
      ['{"ips":["10.0.0.1/8"]}'] = "prevResult.ips[0]",
      ['{"ips":[{}]}'] = "prevResult.ips[0].address: is missing",
      ['{"ips":[{"address":"10.0.0.1"}]}'] = "prevResult.ips[0].address",
      ['{"ips":[{"address":"10.0.0.01/8"}]}'] = "prevResult.ips[0].address",
      ['{"ips":[{"address":{"ip":"x"}}]}'] = "prevResult.ips[0].address: an object",
      ['{"ips":[{"address":"10.0.0.1/8","interface":{}}]}'] = "prevResult.ips[0].interface",
      ['{"ips":[{"address":"10.0.0.1/8","interface":[0]}]}'] = "prevResult.ips[0].interface",
      ['{"ips":[{"address":null}]}'] = "prevResult.ips[0].address: is missing",
      ['{"ips":[{"address":"10.0.0.1/8","gateway":"x"}]}'] = "prevResult.ips[0].gateway",
      ['{"ips":[{"address":"10.0.0.1/8","interface":"0"}]}'] = "prevResult.ips[0].interface",
      ['{"ips":[{"address":"10.0.0.1/8","interface":0.5}]}'] = "prevResult.ips[0].interface",
      ['{"ips":[{"address":"10.0.0.1/8","interface":-2}]}'] = "prevResult.ips[0].interface",
      ['{"routes":[null]}'] = "prevResult.routes[0]: null is not an object",
      ['{"routes":[{"gw":"10.0.0.1"}]}'] = "prevResult.routes[0].dst: is missing",
      ['{"routes":[{"dst":"default"}]}'] = "prevResult.routes[0].dst",
      ['{"routes":[{"dst":"::/0","mtu":-1}]}'] = "prevResult.routes[0].mtu",
      ['{"dns":"x"}'] = "prevResult.dns",
      ['{"dns":["x"]}'] = "prevResult.dns",
      ['{"dns":{"nameservers":"x"}}'] = "prevResult.dns.nameservers",
      ['{"dns":{"search":[null]}}'] = "prevResult.dns.search[0]: null is not a string",
    } do
      refused(7, where, parse, text, "1.0.0")
    end
    for text, where in pairs {
      ['{"ip4":{}}'] = "prevResult.ip4.ip: is missing",
      ['{"ip4":"x"}'] = "prevResult.ip4",
      ['{"ip6":{"ip":"x"}}'] = "prevResult.ip6.ip",
      ['{"ip4":{"ip":"10.0.0.1/8","routes":[null]}}'] = "prevResult.ip4.routes[0]",
    } do
      refused(7, where, parse, text, "0.2.0")
    end
  end)

  it("P-RES-05: judges the index of an address", function()
    local text = '{"interfaces":[{"name":"a"}],"ips":[{"address":"10.0.0.1/8","interface":%s}]}'
    assert.are.equal(0, parse(text:format "0", "1.0.0").ips[1].interface)
    local err = refused(7, "prevResult.ips[0].interface", parse, text:format "1", "1.0.0")
    assert.is_truthy(err.msg:find("1 is beyond the last of 1 interfaces", 1, true))
  end)

  it("P-CNV-06: forgives -1, and an index when there are no interfaces", function()
    local text = '{"ips":[{"address":"10.0.0.1/8","interface":%s}]}'
    assert.is_nil(parse(text:format "-1", "0.3.1").ips[1].interface)
    assert.is_nil(parse(text:format "0", "0.3.1").ips[1].interface)
    assert.is_nil(parse(text:format "null", "0.3.1").ips[1].interface)
  end)

  it("P-RES-11: reads an empty gateway as none", function()
    assert.is_nil(parse('{"ips":[{"address":"10.0.0.1/8","gateway":""}]}', "1.0.0").ips[1].gateway)
  end)

  it("P-PRV-02: keeps keys it does not know, at every level, in one family", function()
    local text = '{"cniVersion":"1.0.0","dns":{"x":1},"interfaces":[{"name":"a","x":[]}],' ..
      '"ips":[{"address":"10.0.0.1/8","x":{"y":[1,2.5]}}],"routes":[{"dst":"::/0","x":[null]}],' ..
      '"x":"<a&b>"}'
    assert.are.equal(text, through(text, "1.0.0"))
    assert.are.equal((text:gsub("1%.0%.0", "1.1.0")), through(text, "1.0.0", "1.1.0"))
    local older = '{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.0.0.1/8",' ..
      '"version":"4","x":1}],"x":{}}'
    assert.are.equal(older, through(older, "0.4.0"))
  end)

  it("P-PRV-08: loses them between families", function()
    assert.are.equal('{"cniVersion":"0.4.0","dns":{},"ips":[{"address":"10.0.0.1/8",' ..
      '"version":"4"}]}',
      through('{"x":1,"ips":[{"address":"10.0.0.1/8","x":1}]}', "1.0.0", "0.4.0"))
    assert.are.equal('{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8"}]}', through(
      '{"x":1,"ips":[{"address":"10.0.0.1/8","version":"4","x":1}]}', "0.4.0", "1.0.0"))
  end)

  it("P-PRV-02: prints changes made to it", function()
    local prev = parse('{"interfaces":[{"name":"a","mac":"x","z":1}],"y":2}', "1.0.0")
    prev.interfaces[1].mac = "0a:00:00:00:00:01"
    prev.interfaces[2] = { name = "b" }
    assert.are.equal('{"cniVersion":"1.0.0","interfaces":[{"mac":"0a:00:00:00:00:01",' ..
      '"name":"a","z":1},{"name":"b"}],"y":2}',
      json.compact(json.decode(result.render(prev, "1.0.0"))))
  end)

  it("does not change what it reads", function()
    local raw = json.decode '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.1/8"}]}'
    local before = json.compact(raw)
    result.parse(raw, "0.4.0").ips[1].address = "x"
    assert.are.equal(before, json.compact(raw))
  end)
end)

describe("conversion", function()
  it("P-CNV: from 0.1 and 0.2 puts IPv4 first, without interfaces", function()
    local text = '{"ip6":{"ip":"fd00::1/64","gateway":"fd00::2","routes":[{"dst":"::/0"}]},' ..
      '"ip4":{"ip":"10.0.0.1/8","routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.2"}]},' ..
      '"dns":{"nameservers":["1.1.1.1"]}}'
    for _, from in ipairs(old) do
      assert.are.equal('{"cniVersion":"1.0.0","dns":{"nameservers":["1.1.1.1"]},' ..
        '"ips":[{"address":"10.0.0.1/8"},{"address":"fd00::1/64","gateway":"fd00::2"}],' ..
        '"routes":[{"dst":"0.0.0.0/0","gw":"10.0.0.2"},{"dst":"::/0"}]}',
        through(text, from, "1.0.0"))
      assert.is_truthy(through(text, from, "0.3.0"):find('"version":"6"', 1, true))
    end
  end)

  it("P-CNV: 0.1.0 and 0.2.0 differ in the version alone", function()
    local text = '{"cniVersion":"0.1.0","dns":{},"ip4":{"ip":"10.0.0.1/8"}}'
    assert.are.equal((text:gsub("0%.1%.0", "0.2.0")), through(text, "0.1.0", "0.2.0"))
  end)

  it("P-CNV: 0.3.0 to 0.4.0 differ in the version alone", function()
    for _, a in ipairs { "0.3.0", "0.3.1", "0.4.0" } do
      for _, b in ipairs { "0.3.0", "0.3.1", "0.4.0" } do
        assert.are.equal(same(result.render(full, b)), through(result.render(full, a), a, b))
      end
    end
  end)

  it("P-CNV: from 0.3 and 0.4 drops the family, and comes back", function()
    local text = result.render(full, "0.4.0")
    assert.is_nil(through(text, "0.4.0", "1.0.0"):find("version", 1, true))
    local internal = result.parse_any(json.decode(through(text, "0.4.0", "1.0.0")), "1.0.0")
    assert.are.equal(text, result.render(internal, "0.4.0"))
  end)

  it("P-CNV-02: an item without `version` is not lost on the way to 0.1 and 0.2", function()
    -- The address says its family: what it lacks, or says wrong, is not believed.
    for _, item in ipairs { '', ',"version":"4"', ',"version":"6"', ',"version":""' } do
      for _, to in ipairs(old) do
        local r = json.decode(through('{"ips":[{"address":"fd00::1/64"' .. item ..
          '},{"address":"10.0.0.1/8"' .. item .. '}]}', "0.4.0", to))
        assert.are.same({ ip = "10.0.0.1/8" }, r.ip4)
        assert.are.same({ ip = "fd00::1/64" }, r.ip6)
      end
    end
    refused(999, "no valid IP addresses", through, '{"ips":[]}', "0.4.0", "0.2.0")
  end)

  it("P-CNV-05: 0.1 and 0.2 to newer leaves the new fields empty", function()
    local text = '{"dns":{},"ip4":{"ip":"10.0.0.1/8","gateway":"10.0.0.2"}}'
    for _, from in ipairs(old) do
      for _, to in ipairs(modern) do
        local r = json.decode(through(text, from, to))
        assert.is_nil(r.interfaces)
        assert.is_nil(r.routes)
        assert.are.equal(1, #r.ips)
        assert.is_nil(r.ips[1].interface)
        assert.are.equal("10.0.0.2", r.ips[1].gateway)
        assert.is_nil(r.ip4)
      end
    end
  end)

  it("P-CNV-05: newer to 0.1 and 0.2 loses what has no place there, and nothing else", function()
    for _, from in ipairs(modern) do
      for _, to in ipairs(old) do
        local r = json.decode(through(result.render(full, from), from, to))
        assert.are.same({ ip = "10.1.2.3/24", gateway = "10.1.2.1",
          routes = { { dst = "0.0.0.0/0", gw = "10.1.2.1" } } }, r.ip4)
        assert.are.same({ ip = "fd00::3/64", gateway = "fd00::1",
          routes = { { dst = "fd00:1::/64" } } }, r.ip6)
        assert.are.same(full.dns, r.dns)
        for _, key in ipairs { "interfaces", "ips", "routes" } do assert.is_nil(r[key]) end
      end
    end
  end)

  it("P-CNV-05: what 0.3 can say goes to 1.0 and back without a loss, and the other way", function()
    local plain = result.copy(full)
    for _, key in ipairs { "mtu", "pciID", "socketPath" } do
      for _, interface in ipairs(plain.interfaces) do interface[key] = nil end
    end
    for _, a in ipairs { "0.3.0", "0.3.1", "0.4.0" } do
      for _, b in ipairs { "1.0.0", "1.1.0" } do
        local in_a, in_b = result.render(plain, a), result.render(plain, b)
        assert.are.equal(same(in_b), through(in_a, a, b))
        assert.are.equal(same(in_a), through(through(in_a, a, b), b, a))
        assert.are.equal(same(in_b), through(through(in_b, b, a), a, b))
      end
    end
  end)

  it("P-CNV: counts IPv4-mapped IPv6 as IPv4", function()
    local r = json.decode(through('{"ips":[{"address":"::ffff:10.0.0.1/120"}]}', "1.0.0", "0.4.0"))
    assert.are.same({ version = "4", address = "10.0.0.1/24" }, r.ips[1])
  end)

  it("P-DLG-08: reads an IPAM plugin's result of any version", function()
    assert.are.equal("10.0.0.1/8", result.parse_any(
      json.decode '{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.1/8"}}', "1.1.0").ips[1].address)
    assert.are.equal("10.0.0.1/8", result.parse_any(
      json.decode '{"ips":[{"address":"10.0.0.1/8"}]}', "1.1.0").ips[1].address)
    local err = refused(7, nil, result.parse_any, json.decode '{"ips":[{}]}', "1.1.0",
      "the result of host-local")
    assert.are.equal("the result of host-local.ips[0].address: is missing", err.msg)
  end)
end)

describe("result.copy", function()
  it("is deep, and as faithful as the original", function()
    local text = '{"cniVersion":"1.0.0","interfaces":[{"name":"a","x":[]}],"y":1}'
    local one = result.parse(json.decode(text), "1.0.0")
    local two = result.copy(one)
    two.interfaces[1].name = "b"
    assert.are.equal("a", one.interfaces[1].name)
    assert.are.equal((text:gsub('"a"', '"b"')),
      json.compact(json.decode(result.render(two, "1.0.0"))))
  end)

  it("keeps an interface and its reference one", function()
    local eth = { name = "a" }
    local two = result.copy { interfaces = { eth },
      ips = { { address = "10.0.0.1/8", interface = eth } } }
    assert.are.equal(two.interfaces[1], two.ips[1].interface)
  end)
end)

describe("results of any make", function()
  local scalars = { "", 0, 1, -1, 1.5, "10.0.0.1/8", "fd00::1", "x", true, false, json.null,
    "1.0.0", "0.4.0", "\0", 2 ^ 53 + 2 }
  local keys = { "cniVersion", "interfaces", "ips", "routes", "dns", "ip4", "ip6", "name",
    "mac", "mtu", "address", "gateway", "interface", "dst", "gw", "ip", "nameservers", "x" }

  local function anything(depth)
    local kind = math.random(10)
    if depth == 0 or kind <= 3 then return scalars[math.random(#scalars)] end
    local t = kind <= 6 and json.list {} or {}
    for i = 1, math.random(0, 4) do
      local value = anything(depth - 1)
      if kind <= 6 then t[i] = value
      elseif value ~= json.null then t[keys[math.random(#keys)]] = value end
    end
    return t
  end

  -- Sound but for one member replaced by anything at all.
  local function nearly()
    local raw = json.decode(result.render(full, "1.1.0"))
    raw.cniVersion = nil
    local place = raw
    for _ = 1, math.random(0, 2) do
      local names = {}
      for k, v in pairs(place) do if type(v) == "table" then names[#names + 1] = k end end
      if #names == 0 then break end
      table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
      place = place[names[math.random(#names)]]
    end
    local key = #place > 0 and math.random(#place) or keys[math.random(#keys)]
    local value = anything(2)
    if value ~= json.null or type(key) == "number" then place[key] = value end
    return raw
  end

  it("are read or refused, and what is read can be printed", function()
    local fail = require "cni.fail"
    math.randomseed(21)
    local read = 0
    for i = 1, 3000 do
      local raw = i % 4 == 0 and anything(4) or nearly()
      local ok, internal = pcall(result.parse_any, raw, i % 3 == 0 and "0.4.0" or "1.0.0")
      if ok then
        read = read + 1
        local text = result.render(internal, "1.0.0")
        local again = result.parse_any(json.decode(text), "1.0.0")
        assert.are.equal(text, result.render(again, "1.0.0"))
      else
        assert.is_true(fail.is(internal), tostring(internal))
      end
    end
    assert.is_true(read > 300)
  end)
end)
