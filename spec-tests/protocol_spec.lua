-- SPDX-License-Identifier: MIT
-- The protocol, from outside: streams, environment, values, configuration, the order of
-- checks, the namespace guard, VERSION, errors, CNI_ARGS. IDs are requirements of the
-- CNI specification and of the library that runtimes read answers with; T-01 to T-32 are
-- a table of calls and their outcome.

local p = require "protocol"
local t = require "support"
local system = require "system"

local call, conf = p.call, p.conf
local empty = { id = false, ifname = false, path = false, netns = false }

local function with(base, more)
  local out = {}
  for key, value in pairs(base) do out[key] = value end
  for key, value in pairs(more) do out[key] = value end
  return out
end

after_each(t.cleanup)

describe("streams:", function()
  -- A call whose redirections are the test's own.
  local function shell(tail, more)
    local c = with({ verb = "ADD", type = "host-local", netns = "/run/netns/nowhere" },
      more or {})
    local out, rc, err = t.sh(t.cni_words(c) .. " " .. tail, { stdin = t.conf_bytes(conf()) })
    return { out = out, rc = rc, err = err }
  end

  it("P-IO-01: the verb comes from the environment, arguments change nothing", function()
    local got = p.ok(shell("DEL --version doctor help"))
    assert.equal("10.1.0.2/24", got.ips[1].address)
    p.silent(shell("ADD VERSION", { verb = "DEL" }))
  end)

  it("P-IO-03, P-IO-04: ADD prints one result and ends with 0", function()
    local got = call("ADD")
    assert.equal(0, got.rc)
    p.shaped(got.out, "1.1.0")
  end)

  it("P-IO-03: an error ends with another status", function()
    assert.not_equal(0, call("ADD", { conf = "" }).rc)
  end)

  it("P-IO-05: CHECK, DEL, GC and STATUS succeed without a word", function()
    p.ok(call("ADD"))
    for _, verb in ipairs { "CHECK", "STATUS", "GC", "DEL" } do
      local got = call(verb, { conf = verb == "GC" and { ["cni.dev/valid-attachments"] =
        { { containerID = "c1", ifname = "eth0" } } } or nil })
      assert.equal("", got.err)
      p.silent(got)
    end
  end)

  it("P-IO-06: stdout is the protocol's alone, whatever becomes of stderr", function()
    p.shaped(shell("2>&-").out, "1.1.0")
    p.error(shell("2>/dev/full", { id = "-" }), 4)
  end)

  it("P-IO-07: nothing goes on holding stdout or stderr", function()
    local began = system.monotime()
    p.ok(call("ADD"))
    p.silent(call("DEL"))
    assert.is_true(system.monotime() - began < 3)
  end)

  it("P-IO-09: results are UTF-8, indented by 4 spaces; VERSION is one line", function()
    local out = call("ADD").out
    local begins = '{\n    "cniVersion": "1.1.0",\n    "ips": [\n        {\n'
    assert.equal(begins, out:sub(1, #begins))
    assert.equal("}", out:sub(-1))
    assert.equal(1, select(2, call("VERSION").out:gsub("\n", "")))
    assert.equal("\n", call("VERSION").out:sub(-1))
  end)

  it("P-IO-10: escapes in the configuration mean what they say", function()
    local got = p.ok(call("ADD", { type = "static", conf = [[{"cniVersion":"1.0.0",
      "name":"net","type":"static","ipam":{"type":"static",
      "addresses":[{"address":"10.5.0.1/24"}],
      "dns":{"domain":"\u003ca\u0026b\u003e","search":["\u00e9\ud83d\ude00"]}}}]] }))
    assert.equal("<a&b>", got.dns.domain)
    assert.equal("é\u{1F600}", got.dns.search[1])
  end)

  it("P-CFG-01: a stdin that cannot be read is error 5", function()
    local got = shell("</")
    assert.is_truthy(p.error(got, 5).msg:find("^error reading from stdin"))
  end)

  it("P-CFG-02: a closed stdin is an error like an empty one", function()
    local got = p.error(shell("<&-"))
    assert.is_true(got.code == 5 or got.code == 6)
  end)

  it("a stdin beyond 1 MiB is refused, one below is read", function()
    local function sized(n)
      return (t.json(conf()):gsub("}$", ',"x":"' .. ("y"):rep(n) .. '"}'))
    end
    p.error(call("ADD", { conf = sized(1 << 20) }))
    p.ok(call("ADD", { conf = sized(1000000) }))
  end)
end)

describe("environment:", function()
  it("T-05, P-ENV-01: all that is missing is named, in order", function()
    p.error(call("ADD", empty), 4,
      "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing")
    p.error(call("CHECK", empty), 4,
      "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing")
    p.error(call("DEL", empty), 4,
      "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing")
  end)

  it("P-ENV-01: each is required by itself, empty counts as missing", function()
    for name, key in pairs { CNI_CONTAINERID = "id", CNI_IFNAME = "ifname", CNI_PATH = "path" } do
      for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
        p.error(call(verb, { [key] = false }), 4, "[" .. name .. "]")
        p.error(call(verb, { [key] = "" }), 4, "[" .. name .. "]")
      end
    end
  end)

  it("T-27, P-ENV-01: ADD and CHECK need CNI_NETNS", function()
    for _, verb in ipairs { "ADD", "CHECK" } do
      p.error(call(verb, { netns = false }), 4, "[CNI_NETNS]")
      p.error(call(verb, { env = { CNI_NETNS = "" } }), 4, "[CNI_NETNS]")
    end
  end)

  it("T-23, P-ENV-06: DEL does not need CNI_NETNS", function()
    p.silent(call("DEL", { netns = false }))
    p.silent(call("DEL", { env = { CNI_NETNS = "" } }))
    p.silent(call("DEL", { netns = "/run/netns/gone" }))
  end)

  it("T-20, P-ENV-01: GC and STATUS need CNI_PATH and nothing else", function()
    for _, verb in ipairs { "GC", "STATUS" } do
      p.error(call(verb, empty), 4, "[CNI_PATH]")
      p.silent(call(verb, with(empty, { path = "/opt/cni/bin" })))
    end
  end)

  it("T-22: STATUS does with CNI_COMMAND and CNI_PATH", function()
    p.silent(call("STATUS", with(empty, { path = "/opt/cni/bin" })))
  end)

  it("T-21, P-ENV-05: GC, STATUS and VERSION do not judge the attachment", function()
    for _, verb in ipairs { "GC", "STATUS", "VERSION" } do
      local got = call(verb, { id = "-/..", ifname = ("x"):rep(40), netns = "/etc/hosts" })
      assert.equal(0, got.rc, got.out)
    end
  end)

  it("P-ENV-02: an error about a value names the variable", function()
    p.error(call("ADD", { id = "-a" }), 4, "CNI_CONTAINERID")
    p.error(call("ADD", { ifname = "a b" }), 4, "CNI_IFNAME")
  end)

  it("T-03, P-ENV-03: the verb's letter case counts", function()
    for _, verb in ipairs { "add", "Add", "ADD ", "dEL" } do
      assert.equal("unknown CNI_COMMAND: " .. verb, p.error(call(verb), 4).msg)
    end
  end)

  it("T-01, P-ENV-04: without CNI_COMMAND it says what it is, on stderr", function()
    for _, command in ipairs { false, "" } do
      local got = call("x", with(empty, { env = { CNI_COMMAND = command } }))
      assert.equal(0, got.rc)
      assert.equal("", got.out)
      assert.is_truthy(got.err:find("host-local", 1, true))
      for _, version in ipairs(p.versions) do
        assert.is_truthy(got.err:find(version, 1, true))
      end
    end
  end)

  it("P-ENV-07, P-ENV-08: foreign variables change nothing", function()
    local got = p.ok(call("ADD", { env = { CNI_VERSION = "9.9.9", TRACEPARENT = "00-1-2-3",
      TRACESTATE = "a=b", BAGGAGE = "x", XDG_RUNTIME_DIR = "", LUA_INIT = "error('LUA_INIT')",
      LUA_INIT_5_4 = "error('x')", LUA_PATH = "/nowhere/?.lua", LUA_PATH_5_4 = "/nowhere/?",
      LUA_CPATH = "/nowhere/?.so", HOME = false, PATH = "/nowhere", LANG = "tr_TR.UTF-8" } }))
    assert.equal("10.1.0.2/24", got.ips[1].address)
  end)

  it("P-ENV-08, TOL-16: an environment without PATH and HOME is enough", function()
    p.ok(call("ADD", { env = { PATH = false } }))
  end)

  it("P-ENV-09: the version probe of runtimes is answered", function()
    p.ok(call("VERSION", { conf = '{"cniVersion":"1.1.0"}', id = "", ifname = "dummy",
      netns = "dummy", path = "dummy", args = "" }))
  end)

  it("P-ENV-10: CNI_PATH may have many folders and empty elements", function()
    p.ok(call("ADD", { path = "/nowhere::/opt/cni/bin:" }))
  end)
end)

describe("values:", function()
  it("T-06, P-VAL-01: a container ID has legal characters, or is in the details", function()
    for _, id in ipairs { "-a", ".", "..", "_a", "a/b", "a b", "a\n", "é", "../../x", "a:b",
      "a;b", "$(id)", "a\\b" } do
      for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
        local err = p.error(call(verb, { id = id }), 4, "invalid characters in containerID")
        assert.equal(id, err.details)
      end
    end
    for i, id in ipairs { "a", "0", "A_b.c-d", "a..", "1-" } do
      p.ok(call("ADD", { id = id, conf = { name = "n" .. i } }))
      p.silent(call("DEL", { id = id, conf = { name = "n" .. i } }))
    end
  end)

  it("T-07, P-VAL-01: a container ID has any length", function()
    for _, n in ipairs { 1, 64, 300, 4000 } do
      local id = ("a"):rep(n)
      p.ok(call("ADD", { id = id }))
      p.silent(call("CHECK", { id = id }))
      p.silent(call("DEL", { id = id }))
      p.error(call("CHECK", { id = id }))
    end
  end)

  it("P-VAL-01: long IDs of one beginning are told apart", function()
    local a, b = ("a"):rep(300) .. "b", ("a"):rep(300) .. "c"
    p.ok(call("ADD", { id = a }))
    p.ok(call("ADD", { id = b }))
    p.silent(call("DEL", { id = a }))
    p.silent(call("CHECK", { id = b }))
  end)

  it("P-VAL-02: an empty container ID is a missing one", function()
    p.error(call("ADD", { id = "" }), 4, "CNI_CONTAINERID")
  end)

  it("T-14, P-VAL-03: a network name has legal characters, or is in the details", function()
    for _, name in ipairs { "a%%b", "..", "-a", "a/b", "../x", "a b", "é", "a\n" } do
      for _, verb in ipairs { "ADD", "DEL", "GC", "STATUS", "CHECK" } do
        local err = p.error(call(verb, { conf = { name = name } }), 7,
          "invalid characters found in network name")
        assert.equal(name, err.details)
      end
    end
    p.ok(call("ADD", { conf = { name = "a.." } }))
    p.error(call("ADD", { conf = { name = false } }), 7, "missing network name")
    p.error(call("ADD", { conf = { name = "" } }), 7, "missing network name")
  end)

  it("T-08, T-09, P-VAL-04, P-VAL-05: an interface name has 1 to 15 bytes", function()
    for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
      p.error(call(verb, { ifname = ("x"):rep(16) }), 4, "interface name is too long")
      p.error(call(verb, { ifname = ("é"):rep(8) }), 4, "interface name is too long")
    end
    p.ok(call("ADD", { ifname = ("x"):rep(15) }))
    p.ok(call("ADD", { ifname = ("é"):rep(7) }))
  end)

  it("T-10, P-VAL-04: an interface name is no folder and has no white space", function()
    p.error(call("DEL", { ifname = "." }), 4, "interface name is . or ..")
    p.error(call("DEL", { ifname = ".." }), 4, "interface name is . or ..")
    for _, name in ipairs { "a/b", "a:b", "a b", "a\tb", "a\u{A0}b", "a\u{2003}", "\n" } do
      p.error(call("DEL", { ifname = name }), 4,
        "interface name contains / or : or whitespace characters")
    end
    p.ok(call("ADD", { ifname = "a-b_c.d@e" }))
  end)
end)

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

describe("the namespace guard:", function()
  -- loopback, called from a namespace whose lo is down.
  local function loopback(verb, host, netns, more)
    return t.cni(with({ verb = verb, type = "loopback", host = host, netns = netns,
      ifname = "lo", conf = { cniVersion = "1.0.0", name = "lo", type = "loopback" } },
      more or {}))
  end

  local function lo_is_up(ns)
    return t.run("ip link show lo", { host = ns }):find("[<,]UP[,>]") ~= nil
  end

  it("T-25, P-NS-01, P-NS-02: the program's own namespace is error 8, before acting", function()
    local ns = t.netns()
    for _, path in ipairs { ns.path, "/proc/self/ns/net", "/proc/thread-self/ns/net" } do
      local err = p.error(loopback("ADD", ns, path), 8)
      assert.equal("plugin's netns and netns from CNI_NETNS should not be the same", err.msg)
      assert.is_false(lo_is_up(ns))
    end
    t.run("ip link set lo up", { host = ns })
    p.error(loopback("DEL", ns, ns.path), 8)
    assert.is_true(lo_is_up(ns))
  end)

  it("P-NS-01: another namespace is fine", function()
    local host, pod = t.netns(), t.netns()
    p.shaped(loopback("ADD", host, pod.path).out, "1.0.0")
    assert.is_true(lo_is_up(pod))
    assert.is_false(lo_is_up(host))
    p.silent(loopback("DEL", host, pod.path))
  end)

  it("P-NS-01: a link to the namespace is the namespace", function()
    local ns = t.netns()
    t.run({ "ln", "-s", ns.path, "/run/spec/link" })
    p.error(loopback("ADD", ns, "/run/spec/link"), 8)
    os.remove("/run/spec/link")
  end)

  it("T-26, P-NS-03: an override switches it off", function()
    for _, value in ipairs { "1", "true", "tRuE" } do
      local ns = t.netns()
      p.ok(loopback("ADD", ns, ns.path, { env = { CNI_NETNS_OVERRIDE = value } }))
      assert.is_true(lo_is_up(ns))
      p.silent(loopback("DEL", ns, ns.path, { env = { CNI_NETNS_OVERRIDE = value } }))
    end
  end)

  it("P-NS-03: no other value does", function()
    local ns = t.netns()
    for _, value in ipairs { "yes", "0", "", "true ", "11", "on" } do
      p.error(loopback("ADD", ns, ns.path, { env = { CNI_NETNS_OVERRIDE = value } }), 8)
    end
  end)

  it("P-NS-04: it is not for CHECK, GC and STATUS, nor for a path that does not open", function()
    local ns = t.host()
    p.silent(loopback("CHECK", ns, ns.path))
    p.silent(loopback("STATUS", ns, ns.path, { conf = conf { type = "loopback" } }))
    p.silent(loopback("GC", ns, ns.path, { conf = conf { type = "loopback" } }))
    p.silent(loopback("DEL", ns, "/run/netns/nowhere"))
    p.silent(loopback("DEL", ns, false))
  end)
end)

describe("VERSION:", function()
  it("P-VER-01, P-VER-07: names its version and all it supports, and nothing else", function()
    for _, plugin in ipairs { "loopback", "bridge", "host-local", "static", "luacni" } do
      local got = p.ok(call("VERSION", with(empty, { type = plugin, conf = "" })))
      assert.same({ cniVersion = "1.1.0", supportedVersions = p.versions }, got)
    end
  end)

  it("P-VER-04: lists them as a list of texts", function()
    assert.is_truthy(call("VERSION").out:find('"supportedVersions":["0.1.0",', 1, true))
  end)

  it("P-VER-05: no plugin answers it like one from before VERSION", function()
    assert.is_nil(call("VERSION", { conf = "x" }).out:find("unknown", 1, true))
  end)

  it("P-VER-08: changes nothing and needs nothing", function()
    local before = t.snapshot()
    for _ = 1, 5 do p.ok(call("VERSION", empty)) end
    t.same(before, t.snapshot())
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
