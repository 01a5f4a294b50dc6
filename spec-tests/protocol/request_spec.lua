-- SPDX-License-Identifier: MIT
-- cni.protocol.request: which faults are found, in which order, with which code.

local json = require "cni.json"
local request = require "cni.protocol.request"

local base = {
  CNI_COMMAND = "ADD", CNI_CONTAINERID = "c1", CNI_NETNS = "/run/netns/x",
  CNI_IFNAME = "eth0", CNI_PATH = "/opt/cni/bin",
}

-- The base environment with changes; false takes a variable out.
local function env(changes)
  local all = {}
  for k, v in pairs(base) do all[k] = v end
  for k, v in pairs(changes or {}) do all[k] = v end
  return function(name) return all[name] or nil end
end

local function from(changes) return request.from_env(env(changes)) end

local function refused(code, text, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok, "was accepted")
  assert.are.equal(code, err.code, tostring(err))
  assert.are_not.equal("", err.msg)
  if text then assert.is_truthy(tostring(err):find(text, 1, true), tostring(err)) end
  return err
end

local function config(text, changes, supported)
  local req = from(changes)
  request.read_config(req, text, supported)
  return req
end

local function conf(fields)
  local all = { name = "net", type = "t", cniVersion = "1.1.0" }
  for k, v in pairs(fields or {}) do all[k] = v end
  return json.encode(all)
end

describe("the environment", function()
  it("becomes a request", function()
    local req = from { CNI_ARGS = "A=B" }
    assert.are.same({
      command = "ADD", container_id = "c1", netns = "/run/netns/x", ifname = "eth0",
      args = "A=B", path = { "/opt/cni/bin" }, path_text = "/opt/cni/bin",
      netns_override = false,
    }, req)
  end)

  it("P-ENV-01: names all that is missing, in order", function()
    local none = { CNI_CONTAINERID = false, CNI_NETNS = false, CNI_IFNAME = false,
      CNI_PATH = false }
    assert.are.equal(
      "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
      refused(4, nil, from, none).msg)
    none.CNI_COMMAND = "DEL"
    assert.are.equal(
      "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing",
      refused(4, nil, from, none).msg)
    for _, verb in ipairs { "GC", "STATUS" } do
      none.CNI_COMMAND = verb
      assert.are.equal("required env variables [CNI_PATH] missing",
        refused(4, nil, from, none).msg)
    end
  end)

  it("P-ENV-01: takes an empty value for a missing one", function()
    for name in pairs(base) do refused(4, name, from, { [name] = "" }) end
  end)

  it("P-ENV-04: names CNI_COMMAND alone when that is missing", function()
    local err = refused(4, nil, from, { CNI_COMMAND = false, CNI_PATH = false })
    assert.are.equal("required env variables [CNI_COMMAND] missing", err.msg)
  end)

  it("P-ENV-09: asks nothing of VERSION", function()
    assert.are.equal("VERSION", request.from_env(function(name)
      return name == "CNI_COMMAND" and "VERSION" or nil
    end).command)
    assert.are.equal("VERSION", from({ CNI_COMMAND = "VERSION", CNI_NETNS = "dummy",
      CNI_IFNAME = "dummy", CNI_PATH = "dummy", CNI_CONTAINERID = "" }).command)
  end)

  it("P-ENV-05: does not look at the attachment for GC, STATUS and VERSION", function()
    for _, verb in ipairs { "GC", "STATUS", "VERSION" } do
      local req = from { CNI_COMMAND = verb, CNI_CONTAINERID = "-a/", CNI_IFNAME = "a b" }
      assert.is_nil(req.container_id)
      assert.is_nil(req.ifname)
      assert.is_nil(req.netns)
    end
  end)

  it("P-ENV-06: does without CNI_NETNS for DEL, not for ADD and CHECK", function()
    assert.is_nil(from({ CNI_COMMAND = "DEL", CNI_NETNS = false }).netns)
    assert.is_nil(from({ CNI_COMMAND = "DEL", CNI_NETNS = "" }).netns)
    refused(4, "[CNI_NETNS]", from, { CNI_NETNS = false })
    refused(4, "[CNI_NETNS]", from, { CNI_COMMAND = "CHECK", CNI_NETNS = "" })
  end)

  it("P-ORD-01: ends at the first bad value, even after a missing one", function()
    refused(4, "too long", from, { CNI_CONTAINERID = false, CNI_IFNAME = ("x"):rep(16) })
    refused(4, "containerID", from, { CNI_CONTAINERID = "-", CNI_IFNAME = ("x"):rep(16) })
  end)

  it("P-ORD-05: lets an unknown verb pass, for stdin to be judged first", function()
    assert.are.equal("NOPE", request.from_env(function(name)
      return name == "CNI_COMMAND" and "NOPE" or nil
    end).command)
  end)

  it("P-ENV-10: splits CNI_PATH", function()
    local here = require("lfs").currentdir()
    assert.are.same({ "/a", "/b c", here }, request.split_path "/a:/b c:")
    assert.are.same({ here, "/a", here, "/b" }, request.split_path ":/a::/b")
    assert.are.same({ here, here .. "/bin", here .. "/../x" }, request.split_path ".:bin:../x")
    assert.are.same({}, request.split_path "")
  end)

  it("P-NS-03: switches the guard off by 1 and true alone", function()
    for value, off in pairs { ["1"] = true, ["true"] = true, tRuE = true, TRUE = true,
      yes = false, ["0"] = false, [""] = false, ["11"] = false, [" true"] = false } do
      assert.are.equal(off, from({ CNI_NETNS_OVERRIDE = value }).netns_override, value)
    end
  end)
end)

describe("a container ID", function()
  it("P-VAL-01: is letters, digits, _ . - after a letter or digit", function()
    for _, id in ipairs { "a", "0", "A_b.c-d", ("a"):rep(300), "1..", "a--" } do
      assert.are.equal(id, from({ CNI_CONTAINERID = id }).container_id)
    end
    for _, id in ipairs { "-a", ".", "..", "_a", "a/b", "a b", "a\n", "a\0b", "é", "a%",
      "../x", " a", "a:" } do
      local err = refused(4, "containerID", from, { CNI_CONTAINERID = id })
      assert.are.equal(id, err.details)
    end
  end)

  it("P-ENV-02: is called by its variable in the error", function()
    refused(4, "CNI_CONTAINERID", from, { CNI_CONTAINERID = "-a" })
    refused(4, "CNI_IFNAME", from, { CNI_IFNAME = "a b" })
  end)

  it("P-VAL-05: is judged for DEL too", function()
    refused(4, nil, from, { CNI_COMMAND = "DEL", CNI_CONTAINERID = "-a" })
    refused(4, nil, from, { CNI_COMMAND = "DEL", CNI_IFNAME = "a/b" })
  end)
end)

describe("an interface name", function()
  local function bad(name, message) refused(4, message, from, { CNI_IFNAME = name }) end

  it("P-VAL-04: has 1 to 15 bytes", function()
    assert.are.equal(15, #from({ CNI_IFNAME = ("x"):rep(15) }).ifname)
    bad(("x"):rep(16), "interface name is too long")
    bad(("x"):rep(16), "less than 16")
    bad(("é"):rep(8), "interface name is too long")
    assert.are.equal(14, #from({ CNI_IFNAME = ("é"):rep(7) }).ifname)
  end)

  it("P-VAL-04: is no folder", function()
    bad(".", "interface name is . or ..")
    bad("..", "interface name is . or ..")
    assert.are.equal("...", from({ CNI_IFNAME = "..." }).ifname)
  end)

  it("P-VAL-04: has no slash, colon or white space, ASCII's or other", function()
    local message = "interface name contains / or : or whitespace characters"
    for _, name in ipairs { "a/b", "a:b", "a b", "a\tb", "a\nb", "a\vb", "a\u{85}b",
      "a\u{A0}b", "a\u{1680}", "\u{2003}a", "a\u{2028}", "a\u{202F}", "a\u{205F}",
      "a\u{3000}" } do
      bad(name, message)
    end
    for _, name in ipairs { "a\u{200B}b", "a-b", "a.b", "a@b", "veth0", "a\u{E9}b" } do
      assert.are.equal(name, from({ CNI_IFNAME = name }).ifname)
    end
  end)

  it("P-VAL-06: is none that the kernel would turn into another, or refuses", function()
    bad("eth%d", "contains %")
    bad("all", "all or default")
    bad("default", "all or default")
    bad("a\u{E0}", "the byte A0")
    for _, name in ipairs { "eth0", "all0", "defaults", "All", "conf" } do
      assert.are.equal(name, from({ CNI_IFNAME = name }).ifname)
    end
  end)

  it("that the kernel alone refuses is a DEL's with nothing to do", function()
    for _, name in ipairs { "eth%d", "all", "default", "a\u{E0}", "eth\xff" } do
      assert.are.equal(name, from({ CNI_COMMAND = "DEL", CNI_IFNAME = name }).ifname)
      refused(4, nil, from, { CNI_COMMAND = "CHECK", CNI_IFNAME = name })
    end
  end)

  it("is UTF-8, or no result could name it", function()
    bad("eth\xff", "not UTF-8")
  end)
end)

describe("the configuration", function()
  it("is read", function()
    local text = conf { runtimeConfig = { mac = "x" } }
    local req = config(text)
    assert.are.equal(text, req.stdin)
    assert.are.equal("net", req.network)
    assert.are.equal("1.1.0", req.version)
    assert.are.same({ mac = "x" }, req.runtime)
    assert.are.equal("t", req.raw.type)
  end)

  it("has an empty runtime when there are no capability arguments", function()
    assert.are.same({}, config(conf()).runtime)
    assert.are.same({}, config('{"name":"n","runtimeConfig":null}').runtime)
    refused(7, "runtimeConfig", config, '{"name":"n","runtimeConfig":"x"}')
    refused(7, "runtimeConfig", config, '{"name":"n","runtimeConfig":["x"]}')
  end)

  it("P-CFG-02: is one JSON object", function()
    for _, text in ipairs { "", " ", "x", "[]", "5", '"x"', "{}{}", '{"name":"n"} xx',
      "\xEF\xBB\xBF{}", '{"name":}', "{" } do
      refused(6, "stdin", config, text)
    end
    refused(7, "missing network name", config, "null")
  end)

  it("P-VAL-03: has a name of legal characters", function()
    for _, name in ipairs { "a", "0", "a..", "A_b.c-d", ("n"):rep(300) } do
      assert.are.equal(name, config(conf { name = name }).network)
    end
    for _, name in ipairs { "..", "-a", "a/b", "a b", "a%%b", "é", "a\n", "../../etc" } do
      local err = refused(7, "invalid characters found in network name", config,
        conf { name = name })
      assert.are.equal(name, err.details)
    end
    refused(7, "missing network name", config, "{}")
    refused(7, "missing network name", config, '{"name":""}')
    refused(7, "missing network name", config, '{"name":null}')
    refused(6, "name: 5 is not a string", config, '{"name":5}')
    refused(6, nil, config, '{"name":["a"]}')
  end)

  it("P-CFG-07: has its well-known keys in any letter case", function()
    local req = config '{"NAME":"n","CNIVERSION":"0.4.0","PrevResult":{"a":1},"IPAM":{}}'
    assert.are.equal("n", req.network)
    assert.are.equal("0.4.0", req.version)
    assert.are.same({ a = 1 }, req.raw.prevResult)
    assert.is_truthy(req.raw.ipam)
    assert.are.equal("n", config('{"NAME":"x","name":"n"}').network)
  end)

  it("P-CFG-08: may hold anything else", function()
    config(conf { capabilities = { a = true }, args = { b = 1 }, whatever = { { {} } },
      ["cni.dev/x"] = 5, ["cni.dev/attachments"] = json.list {} })
  end)
end)

describe("the protocol version", function()
  it("P-CFG-05: is 0.1.0 when absent", function()
    assert.are.equal("0.1.0", config('{"name":"n"}').version)
    assert.are.equal("0.1.0", config('{"name":"n","cniVersion":""}').version)
    assert.are.equal("0.1.0", config('{"name":"n","cniVersion":null}').version)
  end)

  it("P-CFG-04: is one of ours, by exact text", function()
    for _, version in ipairs(request.versions) do
      assert.are.equal(version, config(conf { cniVersion = version }).version)
    end
    for _, version in ipairs { "1.0", "0.4", "9.9.9", "1.0.0 ", "v1.0.0", "abc", "01.0.0",
      "1.1.1", "0.3.2", "1" } do
      local err = refused(1, "incompatible CNI versions", config,
        conf { cniVersion = version })
      assert.is_truthy(err.details:find('"0.1.0"', 1, true))
      assert.is_truthy(err.details:find(version, 1, true))
    end
  end)

  it("P-CFG-06: is a text", function()
    for _, text in ipairs { "1", "1.0", "true", "{}", "[]" } do
      refused(6, "cniVersion", config, '{"name":"n","cniVersion":' .. text .. "}")
    end
  end)

  it("P-CFG-06: is 6 for CHECK, GC and STATUS when it is no version", function()
    for _, verb in ipairs { "CHECK", "GC", "STATUS" } do
      for _, version in ipairs { "abc", "1.2.3.4", "1..0", "1.0.", ".1", "v1.0.0", "1.x" } do
        refused(6, "not a version", config, conf { cniVersion = version },
          { CNI_COMMAND = verb })
      end
    end
  end)

  it("P-CHK-02, P-STA-07, P-GC-10: is old enough for the verb", function()
    local first = { CHECK = "0.4.0", GC = "1.1.0", STATUS = "1.1.0" }
    for verb, least in pairs(first) do
      for _, version in ipairs(request.versions) do
        local text, change = conf { cniVersion = version }, { CNI_COMMAND = verb }
        if request.at_least(version, least) then
          assert.are.equal(version, config(text, change).version)
        else
          refused(1, "config version does not allow " .. verb, config, text, change)
        end
      end
      refused(1, "config version does not allow", config, '{"name":"n"}',
        { CNI_COMMAND = verb })
      refused(1, "plugin version does not allow " .. verb, config,
        conf { cniVersion = "9.9.9" }, { CNI_COMMAND = verb })
    end
  end)

  it("P-ORD-06: is exact also when it compares well", function()
    refused(1, "incompatible", config, conf { cniVersion = "1.0" }, { CNI_COMMAND = "CHECK" })
    refused(1, "incompatible", config, conf { cniVersion = "1.1" }, { CNI_COMMAND = "GC" })
  end)

  it("can be narrowed by a plugin", function()
    local few = { "0.4.0", "1.0.0" }
    assert.are.equal("1.0.0", config(conf { cniVersion = "1.0.0" }, nil, few).version)
    refused(1, "incompatible", config, conf { cniVersion = "0.3.1" }, nil, few)
    refused(1, "plugin version does not allow CHECK", config, conf(),
      { CNI_COMMAND = "CHECK" }, few)
  end)

  it("is left open when it is not supported", function()
    local req = from()
    refused(1, nil, request.read_config, req, conf { cniVersion = "9.9.9" })
    assert.is_nil(req.version)
    assert.are.equal("net", req.network)
  end)

  it("compares by number", function()
    assert.is_true(request.at_least("1.0.0", "0.4.0"))
    assert.is_true(request.at_least("0.4.0", "0.4.0"))
    assert.is_true(request.at_least("0.10.0", "0.4.0"))
    assert.is_false(request.at_least("0.3.1", "0.4.0"))
    assert.is_false(request.at_least("abc", "0.4.0"))
  end)
end)

describe("the order of checks", function()
  it("P-ORD-04, P-ORD-05: is JSON, name, verb, version", function()
    local nope = { CNI_COMMAND = "NOPE" }
    refused(6, nil, config, "", nope)
    refused(7, nil, config, '{"cniVersion":"9.9.9"}', nope)
    refused(4, "unknown CNI_COMMAND: NOPE", config, conf { cniVersion = 5 }, nope)
    refused(4, "unknown CNI_COMMAND: add", config, conf(), { CNI_COMMAND = "add" })
    refused(7, nil, config, '{"name":"-","cniVersion":5}')
  end)

  it("P-ENV-03: guesses the verb that was meant, in the details alone", function()
    local err = refused(4, nil, config, conf(), { CNI_COMMAND = "add" })
    assert.are.equal("unknown CNI_COMMAND: add", err.msg)
    assert.are.equal('did you mean "ADD"?', err.hint)
  end)

  it("P-CFG-01: has code 5 for a stdin that cannot be read", function()
    local err = refused(5, nil, request.no_stdin, "Is a directory")
    assert.are.equal("error reading from stdin: Is a directory", err.msg)
  end)
end)

describe("the namespace guard", function()
  local function ask(changes, own, pod)
    return pcall(request.same_namespace, from(changes), own, pod)
  end

  it("P-NS-01: refuses the program's own namespace", function()
    for _, verb in ipairs { "ADD", "DEL" } do
      local ok, err = ask({ CNI_COMMAND = verb }, "4:1", "4:1")
      assert.is_false(ok)
      assert.are.equal(8, err.code)
      assert.are.equal(
        "plugin's netns and netns from CNI_NETNS should not be the same", err.msg)
    end
    assert.is_true((ask({}, "4:1", "4:2")))
  end)

  it("P-NS-03: can be overridden", function()
    assert.is_true((ask({ CNI_NETNS_OVERRIDE = "1" }, "4:1", "4:1")))
    assert.is_false((ask({ CNI_NETNS_OVERRIDE = "yes" }, "4:1", "4:1")))
  end)

  it("P-NS-04: is for ADD and DEL", function()
    assert.is_true((ask({ CNI_COMMAND = "CHECK" }, "4:1", "4:1")))
  end)
end)

describe("CNI_ARGS", function()
  local function args(text) return request.args(text, { IP = true, MAC = true }) end

  it("P-ARG-01: is pairs between semicolons", function()
    assert.are.same({}, args(nil))
    assert.are.same({}, args "")
    assert.are.same({ IP = "10.0.0.1" }, args "IP=10.0.0.1")
    assert.are.same({ IP = "a", MAC = "b" }, args "IP=a;MAC=b")
    assert.are.same({ IP = "" }, args "IP=")
    assert.are.same({ IP = "b" }, args "IP=a;IP=b")
  end)

  it("P-ARG-01: has one = in each pair, and no empty one", function()
    for _, text in ipairs { "IP", "IP=a;", ";IP=a", "IP=a=b", ";", "IP=a;;MAC=b",
      "IgnoreUnknown=1;IP" } do
      refused(4, "ARGS: invalid pair", args, text)
    end
  end)

  it("P-ARG-02: has no unknown keys, unless told to ignore them", function()
    refused(4, "ARGS: unknown args [FOO=BAR]", args, "FOO=BAR")
    refused(4, "unknown args [A=1 B=2]", args, "B=2;A=1;IP=x")
    for _, flag in ipairs { "1", "true", "TRUE", "True" } do
      assert.are.same({ IP = "x" }, args("FOO=BAR;IP=x;IgnoreUnknown=" .. flag))
      assert.are.same({ IP = "x" }, args("IgnoreUnknown=" .. flag .. ";FOO=BAR;IP=x"))
    end
    for _, flag in ipairs { "0", "false", "False" } do
      refused(4, "unknown args", args, "FOO=BAR;IgnoreUnknown=" .. flag)
      assert.are.same({ IP = "x" }, args("IP=x;IgnoreUnknown=" .. flag))
    end
    for _, flag in ipairs { "", "2", "yes" } do
      refused(4, "IgnoreUnknown", args, "IgnoreUnknown=" .. flag)
    end
  end)

  it("P-ARG-02: tells letter case apart, and says so", function()
    local err = refused(4, nil, args, "mac=x")
    assert.are.equal('did you mean "MAC"? (keys are case-sensitive)', err.hint)
  end)

  it("P-ARG-05: takes what kubelets send", function()
    assert.are.same({}, args("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;" ..
      "K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID="))
  end)
end)

describe("the valid attachments of GC", function()
  local function valid(member)
    local req = config('{"name":"n","cniVersion":"1.1.0"' .. member .. "}",
      { CNI_COMMAND = "GC" })
    return request.valid_attachments(req)
  end
  local one = '[{"containerID":"c1","ifname":"eth0"}]'

  it("P-GC-02: are pairs of container and interface", function()
    local list, set = valid(',"cni.dev/valid-attachments":' .. one)
    assert.are.same({ { containerID = "c1", ifname = "eth0" } }, list)
    assert.are.same({ ["c1/eth0"] = true }, set)
  end)

  it("P-GC-03: may stand under the older name, which comes second", function()
    assert.are.equal("c1", valid(',"cni.dev/attachments":' .. one)[1].containerID)
    assert.are.equal("c1", valid(',"cni.dev/valid-attachments":' .. one ..
      ',"cni.dev/attachments":[]')[1].containerID)
    assert.are.equal(0, #valid(',"cni.dev/valid-attachments":[],' ..
      '"cni.dev/attachments":' .. one))
    assert.are.equal("c1", valid(',"cni.dev/valid-attachments":null,' ..
      '"cni.dev/attachments":' .. one)[1].containerID)
  end)

  it("P-GC-04: are none when null, absent or []", function()
    assert.are.same({}, (valid ""))
    assert.are.same({}, (valid ',"cni.dev/valid-attachments":null'))
    assert.are.same({}, (valid ',"cni.dev/valid-attachments":[]'))
    assert.are.same({}, (valid ',"cni.dev/attachments":null,"cni.dev/valid-attachments":null'))
  end)

  it("are not taken for none when they cannot be understood", function()
    for _, list in ipairs { '"x"', "{}", '{"a":1}', "5", "true", "[5]", "[null]", '["c1"]',
      '[{"containerID":"c1"}]', '[{"ifname":"eth0"}]', '[{"containerID":5,"ifname":"e"}]',
      "[{}]" } do
      refused(7, "cni.dev/valid-attachments", valid, ',"cni.dev/valid-attachments":' .. list)
    end
  end)

  it("V-CASE-01: have keys in any letter case, and more than we know", function()
    assert.are.same({ { containerID = "c1", ifname = "eth0" } },
      (valid ',"cni.dev/valid-attachments":[{"ContainerID":"c1","IfName":"eth0","x":1}]'))
  end)
end)
