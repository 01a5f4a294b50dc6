-- SPDX-License-Identifier: MIT
-- The protocol, from outside: streams, environment, values, the namespace guard, VERSION.
-- IDs are requirements of the CNI specification and of the library that runtimes read
-- answers with; T-01 to T-32 are a table of calls and their outcome.

local p = require "protocol"
local t = require "support"
local system = require "system"

local call, conf, empty, with = p.call, p.conf, p.empty, t.merge

after_each(t.cleanup)

describe("streams:", function()
  -- A call whose redirections are the test's own.
  local function shell(tail, more)
    local c = with({ verb = "ADD", type = "host-local", netns = "/run/netns/nowhere" },
      more or {})
    local out, rc, err = t.sh(t.cni_words(c) .. " " .. tail, { stdin = t.conf_bytes(conf()) })
    return { out = out, rc = rc, err = err }
  end

  it("P-IO-01, P-IO-02: the verb comes from the environment, arguments change nothing", function()
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
  it("P-VER-01, P-VER-03, P-VER-07: names its version and all it supports", function()
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
