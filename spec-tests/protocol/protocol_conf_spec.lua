-- SPDX-License-Identifier: MIT
-- The protocol, from outside: the configuration, the order of checks, errors, CNI_ARGS.
-- IDs are requirements of the CNI specification and of the library that runtimes read
-- answers with.

local p = require "protocol"
local t = require "support"

local call, conf, empty, with = p.call, p.conf, p.empty, t.merge

after_each(t.cleanup)

describe("configuration:", function()
  it("T-11, P-CFG-02: null has no name", function()
    p.error(call("ADD", { conf = "null" }), 7, "missing network name")
  end)

  it("T-12, T-13, P-CFG-02: what is not one JSON object is error 6", function()
    local good = t.json(conf())
    for _, text in ipairs { "", " \n", "x", "[]", "5", '"x"', "true", good .. " xx", good .. good,
      good .. "\0", "\u{FEFF}" .. good, good:sub(1, -2), good:gsub('"net"', "'net'"),
      '{"name":"net",}', '{"name":"net" /* x */}', '{"name":"n\xff"}', '{"name":"a\nb"}',
      '{"name":"net","x":NaN}', '{"name":"net","x":0x1}', '{"name":"net","x":1e999}',
      '{"name":"net","x":01}', ("["):rep(100000), ('{"a":'):rep(100000) } do
      for _, verb in ipairs { "ADD", "DEL", "GC" } do
        p.error(call(verb, { conf = text }), 6)
      end
    end
  end)

  it("P-CFG-02: says where the fault is", function()
    p.error(call("ADD", { conf = '{\n  "name": "net",\n  "mtu": 15oo\n}' }), 6, "line 3")
  end)

  it("P-CFG-03: the name is judged for every verb, the verb after it", function()
    for _, verb in ipairs { "ADD", "CHECK", "DEL", "GC", "STATUS", "NOPE" } do
      p.error(call(verb, { conf = '{"cniVersion":"9.9.9"}' }), 7)
    end
  end)

  it("T-15, P-CFG-04: a version is supported by its exact text", function()
    for _, version in ipairs { "1.0", "0.4", "9.9.9", "1", "v1.0.0", "1.0.0 ", "abc", "0.3.2" } do
      for _, verb in ipairs { "ADD", "DEL" } do
        local err = p.error(call(verb, { conf = { cniVersion = version } }), 1,
          "incompatible CNI versions")
        assert.is_truthy(err.details:find('"1.1.0"', 1, true))
        assert.is_truthy(err.details:find(version, 1, true))
      end
    end
  end)

  it("T-18, P-CFG-05: an absent version is 0.1.0, which has no CHECK, GC, STATUS", function()
    for i, version in ipairs { false, "" } do
      local got = call("ADD", { id = "v" .. i, conf = { cniVersion = version } })
      assert.equal("10.1.0." .. i + 1 .. "/24", p.shaped(got.out, "0.1.0").ip4.ip)
      p.silent(call("DEL", { id = "v" .. i, conf = { cniVersion = version } }))
      for _, verb in ipairs { "CHECK", "GC", "STATUS" } do
        p.error(call(verb, { conf = { cniVersion = version } }), 1,
          "config version does not allow " .. verb)
      end
    end
  end)

  it("T-16, P-CFG-06: a version of another type is error 6", function()
    for _, value in ipairs { 1, 1.5, true, t.list(), { a = 1 } } do
      for _, verb in ipairs { "ADD", "DEL", "CHECK", "GC", "STATUS" } do
        p.error(call(verb, { conf = { cniVersion = value } }), 6, "cniVersion")
      end
    end
    p.error(call("ADD", { conf = { name = 5 } }), 6, "name")
  end)

  it("P-CFG-06: a text that is no version is error 6 where it has to be compared", function()
    for _, verb in ipairs { "CHECK", "GC", "STATUS" } do
      p.error(call(verb, { conf = { cniVersion = "abc" } }), 6)
      p.error(call(verb, { conf = { cniVersion = "1.0.0.0" } }), 6)
    end
  end)

  it("P-CFG-07: keys of any letter case are found, the last of two equals wins", function()
    local got = p.ok(call("ADD", { conf = [[{"CNIVERSION":"1.0.0","NAME":"net",
      "type":"host-local","IPAM":{"Type":"host-local","SUBNET":"10.9.0.0/24"}}]] }))
    assert.equal("10.9.0.2/24", got.ips[1].address)
    got = p.ok(call("ADD", { id = "c2", conf = [[{"cniVersion":"0.2.0","cniVersion":"1.0.0",
      "name":"x","name":"net","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}}]] }))
    assert.equal("10.9.0.3/24", got.ips[1].address)
  end)

  it("P-CFG-08, P-GC-12, TOL-10: reserved and unknown keys are no error", function()
    local more = { args = { cni = { labels = { { key = "a", value = "b" } } }, org = { 1 } },
      capabilities = { ips = true, nonsense = true }, runtimeConfig = { unknown = { { {} } },
        ["io.kubernetes.cri.pod-annotations"] = t.null, aliases = { net = { "a" } } },
      ["cni.dev/valid-attachments"] = t.null, ["cni.dev/attachments"] = t.null,
      ["cni.dev/other"] = { 5 }, ipMasq = true, dns = {}, prevResult = t.null,
      isGateway = true, whatever = t.list({ t.null }) }
    local got = p.ok(call("ADD", { conf = more }))
    assert.equal("10.1.0.2/24", got.ips[1].address)
    p.silent(call("CHECK", { conf = more }))
    p.silent(call("DEL", { conf = more }))
  end)

  it("P-CFG-09: what parses and cannot be is error 7, and names the key", function()
    for key, ipam in pairs {
      ["ipam"] = { type = "host-local" },
      ["subnet"] = { type = "host-local", subnet = "10.1.0.0/33" },
      ["rangeStart"] = { type = "host-local", subnet = "10.1.0.0/24", rangeStart = "x" },
    } do
      p.error(call("ADD", { conf = { ipam = ipam } }), 7, key)
    end
    p.error(call("ADD", { conf = { ipam = "host-local" } }), 7, "ipam")
    p.error(call("ADD", { conf = { runtimeConfig = t.list({ 5 }) } }), 7, "runtimeConfig")
  end)

  it("P-CFG-10: numbers are read as numbers, however they are spelt", function()
    local text = [[{"cniVersion":"1.1.0","name":"net","big":12345678901234567890,"f":1.50,
      "ipam":{"type":"host-local","subnet":"10.1.0.0/24",
      "routes":[{"dst":"10.0.0.0/8","mtu":MTU}]}}]]
    for i, spelt in ipairs { "1400", "1400.0", "1.4e3" } do
      local got = call("ADD", { id = "c" .. i, conf = (text:gsub("MTU", spelt)) })
      assert.equal(1400, p.shaped(got.out, "1.1.0").routes[1].mtu)
    end
    for _, bad in ipairs { "1400.5", '"1400"', "12345678901234567890", "-1" } do
      p.error(call("ADD", { id = "c9", conf = (text:gsub("MTU", bad)) }), 7, "mtu")
    end
  end)

  it("P-CFG-11: the order of keys means nothing", function()
    for i, text in ipairs {
      '{"cniVersion":"1.0.0","ipam":{"subnet":"10.1.0.0/24","type":"host-local"},"name":"net"}',
      '{"name":"net","ipam":{"type":"host-local","subnet":"10.1.0.0/24"},"cniVersion":"1.0.0"}',
    } do
      local got = p.ok(call("ADD", { id = "c" .. i, conf = text }))
      assert.equal("10.1.0." .. i + 1 .. "/24", got.ips[1].address)
    end
  end)

  it("V-CASE-01, TOL-11: capability values are read in any letter case", function()
    for i, range in ipairs { { subnet = "10.3.0.0/24", rangeStart = "10.3.0.7" },
      { Subnet = "10.3.0.0/24", RangeStart = "10.3.0.7" } } do
      local got = p.ok(call("ADD", { conf = { name = "n" .. i, ipam = { type = "host-local" },
        runtimeConfig = { ipRanges = { { range } } } } }))
      assert.equal("10.3.0.7/24", got.ips[1].address)
    end
  end)

  it("P-RES-11: addresses with leading zeros are refused, an empty gateway is none", function()
    p.error(call("ADD", { conf = { ipam = { type = "host-local", subnet = "10.01.0.0/24" } } }), 7)
    p.error(call("ADD", { conf = { ipam = { type = "host-local", subnet = "10.1.0.0/024" } } }), 7)
    local got = p.ok(call("ADD", { conf = { ipam = { type = "host-local",
      subnet = "10.1.0.0/24", gateway = "" } } }))
    assert.equal("10.1.0.1", got.ips[1].gateway)
  end)

  it("P-RES-07, P-RES-09: routes have a prefix, dns has its four keys", function()
    local dns = { nameservers = { "10.1.0.53", "fd01::53" }, domain = "a.b",
      search = { "a.b", "c" }, options = { "ndots:2" } }
    local function static(route)
      return call("ADD", { type = "static", conf = { ipam = { type = "static", dns = dns,
        addresses = { { address = "10.5.0.1/24" } }, routes = { route } } } })
    end
    local got = p.shaped(static({ dst = "0.0.0.0/0", gw = "10.5.0.9" }).out, "1.1.0")
    t.same({ { dst = "0.0.0.0/0", gw = "10.5.0.9" } }, got.routes)
    t.same(dns, got.dns)
    p.error(static({ dst = "default" }), 7, "dst")
    p.error(static({ dst = "0.0.0.0/0", gw = "10.5.0.9/24" }), 7, "gw")
  end)

  it("P-CFG-12: the name it is called by picks the plugin, not the parent's type", function()
    local got = p.ok(call("ADD", { conf = { type = "bridge" } }))
    assert.equal("10.1.0.2/24", got.ips[1].address)
    assert.is_nil(got.interfaces)
  end)

  it("P-CFG-12: called as luacni, the configuration's type does", function()
    assert.equal("10.1.0.2/24", p.ok(call("ADD", { type = "luacni" })).ips[1].address)
    for _, name in ipairs { "../static", "/bin/sh", "no-such", "", "a b" } do
      p.error(call("ADD", { type = "luacni", conf = { type = name } }), 7)
    end
    p.error(call("ADD", { type = "luacni", conf = { type = 5 } }), 7)
    p.error(call("ADD", { type = "luacni", conf = { type = false } }), 7)
  end)
end)

describe("the order of checks:", function()
  it("P-ORD-01: a bad value comes before a missing variable", function()
    p.error(call("ADD", { id = false, ifname = ("x"):rep(16) }), 4, "too long")
    p.error(call("ADD", { id = "-", ifname = ("x"):rep(16) }), 4, "containerID")
    p.error(call("ADD", { id = "-", path = false }), 4, "containerID")
  end)

  it("P-ORD-02: a missing variable comes before a bad stdin", function()
    p.error(call("ADD", { id = false, conf = "x" }), 4, "[CNI_CONTAINERID]")
  end)

  it("T-02, P-ORD-03, P-VER-02: VERSION reads no stdin", function()
    for _, text in ipairs { "", "garbage", "[]", '{"cniVersion":"9.9.9"}', ("x"):rep(1 << 17) } do
      p.ok(call("VERSION", with(empty, { conf = text })))
    end
  end)

  it("T-04, P-ORD-05: stdin comes before an unknown verb, the version after it", function()
    p.error(call("NOPE", { conf = "" }), 6)
    p.error(call("NOPE", { conf = "{}" }), 7)
    p.error(call("NOPE", { conf = { cniVersion = 5 } }), 4, "unknown CNI_COMMAND: NOPE")
    p.error(call("NOPE", with(empty, { conf = t.json(conf()) })), 4, "unknown CNI_COMMAND")
  end)

  it("T-17, T-19, P-ORD-06, P-CHK-02, P-STA-07, P-GC-10: the verb's version", function()
    for verb, first in pairs { CHECK = "0.4.0", GC = "1.1.0", STATUS = "1.1.0" } do
      for _, version in ipairs(p.versions) do
        if version < first then
          p.error(call(verb, { conf = { cniVersion = version } }), 1,
            "config version does not allow " .. verb)
        end
      end
      p.error(call(verb, { conf = { cniVersion = "9.9.9" } }), 1,
        "plugin version does not allow " .. verb)
    end
    p.error(call("CHECK", { conf = { cniVersion = "1.0" } }), 1, "incompatible CNI versions")
  end)

  it("P-ORD-07: the protocol comes before the plugin's own configuration", function()
    p.error(call("ADD", { conf = { cniVersion = "9.9.9", ipam = false } }), 1)
    p.error(call("ADD", { conf = { name = "-", ipam = false } }), 7, "network name")
  end)
end)

describe("errors:", function()
  local faults = {
    { 4, "ADD", { id = false } }, { 4, "ADD", { id = "-" } }, { 4, "NOPE", {} },
    { 6, "ADD", { conf = "x" } }, { 7, "ADD", { conf = "{}" } },
    { 1, "ADD", { conf = { cniVersion = "9.9.9" } } },
    { 7, "ADD", { conf = { ipam = { type = "host-local", subnet = "x" } } } },
    { false, "CHECK", {} },
  }

  it("P-ERR-01, P-ERR-03, P-ERR-05: are an object of the right types, never mute", function()
    for _, fault in ipairs(faults) do p.error(call(fault[2], fault[3]), fault[1] or nil) end
  end)

  it("P-ERR-01: have no keys but cniVersion, code, msg and details", function()
    for _, fault in ipairs(faults) do
      for key in pairs(p.strict(call(fault[2], fault[3]).out)) do
        assert.is_truthy(({ cniVersion = 1, code = 1, msg = 1, details = 1 })[key], key)
      end
    end
  end)

  it("P-ERR-04: carry the configuration's version once it is known", function()
    for _, version in ipairs(p.versions) do
      local err = p.error(call("ADD", { conf = { cniVersion = version, ipam = false } }))
      assert.equal(version, err.cniVersion)
    end
    assert.equal("1.1.0", p.error(call("ADD", { conf = "x" })).cniVersion)
  end)

  it("P-ERR-02: of ours stay out of the numbers of others", function()
    local known = { 1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 999 }
    for _, fault in ipairs(faults) do
      local code, found = p.error(call(fault[2], fault[3])).code, false
      for _, k in ipairs(known) do found = found or k == code end
      assert.is_true(found, code)
    end
  end)

  it("P-ERR-06: say everything on stdout", function()
    for _, fault in ipairs(faults) do assert.not_equal("", call(fault[2], fault[3]).out) end
  end)

  it("P-IO-09: stay UTF-8 when what they complain of is not", function()
    p.error(call("ADD", { id = "a\xff" }), 4)
    p.error(call("ADD", { ifname = "a\xff" }), 4)
    p.error(call("\xff\xfe"), 4)
  end)

  it("P-ERR-05: keep to the format with hostile texts", function()
    local id = '"},{\n\t\\u0000\1\127'
    assert.equal(id, p.error(call("ADD", { id = id }), 4).details)
  end)
end)

describe("CNI_ARGS:", function()
  it("T-28, P-ARG-02: an unknown key is an error", function()
    p.error(call("ADD", { args = "FOO=BAR" }), nil, "ARGS: unknown args")
    p.error(call("ADD", { args = "ip=10.1.0.9" }), nil, "IP")
  end)

  it("T-29, P-ARG-02: unless IgnoreUnknown is set, anywhere", function()
    for i, args in ipairs { "FOO=BAR;IgnoreUnknown=1", "IgnoreUnknown=true;FOO=BAR",
      "IgnoreUnknown=TRUE;FOO=" } do
      p.ok(call("ADD", { id = "c" .. i, args = args }))
    end
    for _, args in ipairs { "FOO=BAR;IgnoreUnknown=0", "IgnoreUnknown=false;FOO=1",
      "IgnoreUnknown=yes", "ignoreunknown=1;FOO=1" } do
      p.error(call("ADD", { id = "c9", args = args }))
    end
  end)

  it("P-ARG-01: a pair has one =, and none is empty", function()
    for _, args in ipairs { "IP=10.1.0.9;", "IP", ";", "IP=10.1.0.9=x",
      "IgnoreUnknown=1;a=b=c" } do
      p.error(call("ADD", { args = args }), nil, "ARGS: invalid pair")
    end
    p.ok(call("ADD", { args = "" }))
  end)

  it("P-ARG-03: IP asks for an address", function()
    local got = p.ok(call("ADD", { args = "IP=10.1.0.9" }))
    assert.equal("10.1.0.9/24", got.ips[1].address)
    p.error(call("ADD", { id = "c2", args = "IP=10.1.0.x" }))
    p.error(call("ADD", { id = "c2", args = "IP=10.2.0.1" }))
  end)

  it("P-ARG-05, TOL-13: what kubelets send is taken, in any order", function()
    p.ok(call("ADD", { id = "a", args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;" ..
      "K8S_POD_NAME=pod;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=" }))
    p.ok(call("ADD", { id = "b", args = "K8S_POD_UID=;K8S_POD_NAME=p;IgnoreUnknown=true" }))
  end)

  it("P-ARG-04: args of the configuration that nobody knows are ignored", function()
    p.ok(call("ADD", { conf = { args = { cni = { labels = { { key = "a", value = "b" } } },
      ["org.x"] = { y = 1 } } } }))
  end)

  it("P-ARG-06: a malformed capability value is an error, not ignored", function()
    for _, ips in ipairs { "10.1.0.9", { "x" }, { 5 }, { t.null }, { "10.2.0.1" } } do
      p.error(call("ADD", { conf = { runtimeConfig = { ips = ips } } }))
    end
    local got = p.ok(call("ADD", { conf = { runtimeConfig = { ips = { "10.1.0.9" } } } }))
    assert.equal("10.1.0.9/24", got.ips[1].address)
  end)
end)
