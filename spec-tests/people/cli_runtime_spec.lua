-- SPDX-License-Identifier: MIT
-- luacni add, check, del, gc, status, version: a runtime's verbs for a person, on what other runtimes have
-- attached as well.

local cli = require "cli"
local t = require "support"

local folder, results = "/etc/cni/net.d", "/var/lib/cni/results"
local host
local luacni, succeeds, fails = cli.luacni, cli.succeeds, cli.fails

local function put(name, list) t.write(("%s/%s.conflist"):format(folder, name), t.json(list)) end

local bridge = { type = "bridge", bridge = "demo0", isGateway = true, removeUnused = true,
  ipam = { type = "host-local", subnet = "10.9.8.0/24" } }

local function demo(more, ...)
  put("demo", t.merge({ cniVersion = "1.0.0", name = "demo", plugins = { bridge, ... } }, more or {}))
end

-- A plugin that notes down what it was called with, and does what the shell words say.
local function spy(name, words)
  local path = "/run/spec/bin/" .. name
  t.write(path, ([[#!/bin/sh
input=$(cat)
printf '%%s %%s id=%%s ns=%%s if=%%s args=%%s path=%%s\n%%s\n' "${0##*/}" "$CNI_COMMAND" "$CNI_CONTAINERID" \
  "$CNI_NETNS" "$CNI_IFNAME" "$CNI_ARGS" "$CNI_PATH" "$input" >>/run/spec/calls
%s
[ $CNI_COMMAND != VERSION ] || echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","1.0.0","1.1.0"]}'
]]):format(words or "[ $CNI_COMMAND != ADD ] || printf '%s' '{\"cniVersion\":\"1.0.0\",\"x\":1.50}'"))
  t.run("chmod 755 " .. path)
end

local spies = { env = { "CNI_PATH=/run/spec/bin" } }

-- The calls so far: "TYPE VERB ...", and each one's standard input; forgotten then.
local function calls()
  local heads, inputs = {}, {}
  for head, input in (t.read "/run/spec/calls" or ""):gmatch "([^\n]*)\n([^\n]*)\n" do
    heads[#heads + 1], inputs[#inputs + 1] = head, t.decode(input)
  end
  os.remove "/run/spec/calls"
  return heads, inputs
end

local function verbs()
  local list = {}
  for i, head in ipairs((calls())) do list[i] = head:match "^%S+ %S+" end
  return table.concat(list, ", ")
end

local function id_of(path) return "cnitool-" .. t.run({ "sh", "-c", "printf %s " .. path .. " | sha512sum" }):sub(1, 20) end

before_each(function()
  host = t.host "node"
  cli.host = host
end)
after_each(function()
  t.run("rm -rf /run/spec/bin /run/spec/calls " .. folder .. " " .. results)
  t.cleanup()
end)

describe("luacni add, check, del", function()
  it("attach a namespace, ask after it, and take it away: lists with others' plugins", function()
    t.needs("reference")
    demo(nil, { type = "tuning", sysctl = { ["net.core.somaxconn"] = "500" } })
    local blue = t.netns "blue"
    local before = t.snapshot { ns = { host, blue } }
    local out = succeeds { "add", "demo", "blue" }
    local result = t.decode(out)
    assert.equal("10.9.8.2/24", result.ips[1].address)
    assert.equal("}\n", out:sub(-2))
    assert.is_truthy(t.run("ip -br -4 addr show eth0", { host = blue }):find("10.9.8.2/24", 1, true))
    assert.is_true(t.ping(host, "10.9.8.2"))
    assert.equal("500", t.sysctl(blue, "net/core/somaxconn"))
    local id = id_of "/run/netns/blue"
    local stored = t.decode(t.read(("%s/demo-%s-eth0"):format(results, id)))
    t.same({ "cniCacheV1", id, "eth0", "demo", "/run/netns/blue", result }, { stored.kind, stored.containerId,
      stored.ifName, stored.networkName, stored.netns, stored.result })
    assert.equal(t.read(folder .. "/demo.conflist"), t.run({ "base64", "-d" }, { stdin = stored.config }))

    t.same({ "", "" }, { succeeds { "check", "demo", "/run/netns/../netns//blue" } })
    t.run("ip addr flush dev eth0", { host = blue })
    fails(1, { "check", "demo", "blue" }, "CHECK bridge: address 10.9.8.2/24 is not on eth0")
    t.same({ "", "" }, { succeeds { "del", "demo", "blue" } })
    t.same({ "", "" }, { succeeds { "del", "demo", "blue" } })
    t.same({}, t.files(results))
    -- That plugin's settings stay with the namespace.
    t.run("sysctl -qw net.core.somaxconn=" .. t.sysctl(host, "net/core/somaxconn"), { host = blue })
    t.same(before, t.snapshot { ns = { host, blue } })
  end)

  it("delete what is gone, by the same words, and with no file of the network any more", function()
    demo()
    local blue = t.netns "blue"
    succeeds { "add", "demo", "blue", "-i", "net3" }
    assert.is_truthy(t.link(blue, "net3"))
    t.remove_netns(blue)
    os.remove(folder .. "/demo.conflist")
    fails(2, { "del", "demo", "blue" }, "there is no network in /etc/cni/net.d")
    succeeds { "del", "demo", "blue", "--ifname", "net3" }
    t.same({}, t.files(results))
    t.same("", t.records())
    assert.is_nil(t.link(host, "demo0"))
  end)

  it("refuse to attach what is there already, and leave it", function()
    demo()
    local blue = t.netns "blue"
    succeeds { "add", "demo", "blue" }
    local before = t.snapshot { ns = { host, blue } }
    fails(1, { "add", "demo", "blue" }, "already attached to network demo; luacni del takes it away")
    fails(1, { "add", "demo", "blue", "--id", "other" }, "there is a eth0 in /run/netns/blue already; --ifname")
    t.same(before, t.snapshot { ns = { host, blue } })
    succeeds { "add", "demo", "blue", "--id", "other", "--ifname", "eth1" }
    fails(2, { "add", "demo", "blue", "--id", "../x" }, "cannot be a container's ID")
    succeeds { "del", "demo", "blue", "--id", "other", "--ifname", "eth1" }
    t.same(before, t.snapshot { ns = { host, blue } })
    succeeds { "del", "demo", "blue" }
  end)

  it("leave what is there already to its owner whichever look of theirs fails", function()
    t.needs("macvlan")
    local pod = t.netns("pod")
    t.run({ "ip", "link", "add", "below0", "type", "veth", "peer", "name", "beyond0" }, { host = host })
    t.run({ "ip", "link", "add", "eth0", "netns", pod.name, "link", "below0", "type", "macvlan", "mode", "bridge" },
      { host = host })
    put("demo", { cniVersion = "1.0.0", name = "demo", plugins = { { type = "macvlan", master = "below0" } } })
    local index = t.link(pod, "eth0").ifindex
    local report, n, tried = "/run/spec/report", 1, 0
    repeat
      for _, errno in ipairs { "EMFILE", "ENOMEM" } do
        os.remove(report)
        local line = ("exec %s -e %s -o %s %d %s/luacni add demo %s"):format(t.helper "killat", errno, report, n,
          t.build, pod.path)
        local out, status = t.sh(line, { host = host })
        assert.not_equal(0, status, out)
        assert.equal(index, (t.link(pod, "eth0") or {}).ifindex, t.read(report))
        tried = tried + 1
      end
      n = n + 1
    until not (t.read(report) or ""):find "^failed"
    assert.is_true(tried > 60, "only " .. tried)
  end)

  it("say that a folder of plugins cannot be looked into, instead of calling what another folder has", function()
    put("demo", { cniVersion = "1.0.0", name = "demo", plugins = { { type = "odd" } } })
    spy "odd"
    local report, n, seen = "/run/spec/report", 1, false
    repeat
      os.remove(report)
      local _, status, err = t.sh(("exec %s -e EACCES -o %s %d %s/luacni version demo"):format(t.helper "killat",
        report, n, t.build), t.merge({ host = host }, spies))
      seen = seen or status ~= 0 and err:find("look for plugin odd: ", 1, true) ~= nil
      assert.is_nil(err:find("there is no plugin", 1, true), err)
      n = n + 1
    until not (t.read(report) or ""):find "^failed"
    assert.is_true(seen)
  end)

  it("take back an ADD that has failed, of the whole list", function()
    t.needs("reference")
    demo(nil, { type = "tuning", sysctl = { ["net/no/such"] = "1" } })
    local blue = t.netns "blue"
    local before = t.snapshot { ns = { host, blue } }
    fails(1, { "add", "demo", "blue" }, "ADD tuning: ")
    t.same({}, t.files(results))
    t.same(before, t.snapshot { ns = { host, blue } })
  end)

  it("hand bytes, arguments and capabilities to every plugin, in order and back", function()
    spy "one"
    spy "two"
    put("net", { cniVersion = "1.0.0", name = "net", plugins = {
      { type = "one", name = "old", capabilities = { mac = true, ips = false } }, { type = "two", prevResult = 7 } } })
    local blue = t.netns "blue"
    local with = t.merge(spies, { env = { "CNI_PATH=/run/spec/bin", "CNI_ARGS=A=b", "CNI_IFNAME=net1",
      'CAP_ARGS={"mac":"0a:00:00:00:00:01","ips":["10.0.0.9/24"]}', "CNI_CONTAINERID=nobody" } })
    assert.equal('{"cniVersion":"1.0.0","x":1.50}\n', (succeeds({ "add", "net", blue.path }, with)))
    local bytes = t.read "/run/spec/calls"
    assert.is_truthy(bytes:find('"prevResult":{"cniVersion":"1.0.0","x":1.50}', 1, true), bytes)
    local heads, inputs = calls()
    local who = "id=" .. id_of "/run/netns/blue" .. " ns=/run/netns/blue if=net1 args=A=b path=/run/spec/bin"
    t.same({ "one ADD " .. who, "two ADD " .. who }, heads)
    t.same({ "net", "1.0.0", { mac = "0a:00:00:00:00:01" } }, { inputs[1].name, inputs[1].cniVersion, inputs[1].runtimeConfig })
    t.same({}, { inputs[1].prevResult, inputs[2].runtimeConfig })
    -- What is stored is asked with again; the options say it otherwise.
    succeeds({ "check", "net", blue.path, "--ifname", "net1", "--args", "C=d" }, spies)
    heads, inputs = calls()
    t.same({ "one CHECK " .. who:gsub("A=b", "C=d"), "two CHECK " .. who:gsub("A=b", "C=d") }, heads)
    t.same({ 1.5, 1.5 }, { inputs[1].prevResult.x, inputs[2].prevResult.x })
    succeeds({ "del", "net", blue.path, "-i", "net1" }, spies)
    heads, inputs = calls()
    t.same({ "two DEL " .. who, "one DEL " .. who }, heads)
    t.same({ 1.5, "0a:00:00:00:00:01" }, { inputs[1].prevResult.x, inputs[2].runtimeConfig.mac })
    succeeds({ "del", "net", blue.path, "-i", "net1" }, spies)
    assert.is_nil(select(2, calls())[1].prevResult)
  end)

  it("keep what is stored of a DEL that has failed, which stops there; of an ADD nothing", function()
    spy "one"
    spy("two", "[ $CNI_COMMAND != DEL ] || { echo '{\"code\":11,\"msg\":\"later\",\"details\":\"much\"}'; exit 1; }; "
      .. "echo '{\"cniVersion\":\"1.0.0\"}'")
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" }, { type = "two" } } })
    local blue = t.netns "blue"
    succeeds({ "add", "net", blue.path }, spies)
    fails(1, { "del", "net", blue.path }, "DEL two: later; much", spies)
    assert.equal("one ADD, two ADD, two DEL", verbs())
    assert.is_truthy(next(t.files(results)))
    spy "two"
    succeeds({ "del", "net", blue.path }, spies)
    verbs()
    for _, words in ipairs { "echo gone >&2; exit 3", "echo '{\"cniVersion\":\"9.4.0\"}'", "echo '[1'", "kill -9 $$" } do
      spy("two", "[ $CNI_COMMAND = DEL ] || { " .. words .. "; }")
      fails(1, { "add", "net", blue.path }, words:find "9.4" and 'unsupported CNI result version "9.4.0"'
        or words:find "kill" and "ended by signal 9" or words:find "exit" and "gone (exit status 3)" or "two", spies)
      assert.equal("one ADD, two ADD, two DEL, one DEL", verbs())
    end
    t.same({}, t.files(results))
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" }, { type = "oen" } } })
    fails(1, { "add", "net", blue.path }, 'there is no plugin "oen" in /run/spec/bin; did you mean "one"?', spies)
  end)

  it("say the one error of an ADD that was refused, and nothing of DELs that have nothing to do", function()
    local blue = t.netns "blue"
    local function says(text, plugins, options)
      put("net", { cniVersion = "1.0.0", name = "net", plugins = plugins })
      local out, status, err = luacni({ "add", "net", blue.path }, options)
      t.same({ 1, "", "luacni: " .. text .. "\n" }, { status, out, err })
    end
    local refused = 'ADD bridge: mtu: "x" is not an integer from 68 to 65535'
    local wrong = t.merge(bridge, { mtu = "x" })
    says(refused, { wrong })
    says(refused, { wrong, { type = "tuning", mtu = 1400 } })
    spy "two"
    says('there is no plugin "none-such" in /run/spec/bin', { { type = "none-such" }, { type = "two" } }, spies)
    t.write("/etc/luacni/plugins/own.lua", "return {")
    says("ADD own: /etc/luacni/plugins/own.lua:1: unexpected symbol near <eof>", { { type = "own" } })
    os.remove "/etc/luacni/plugins/own.lua"
    -- Others' plugins, and what they write to stderr.
    local refuse = "[ $CNI_COMMAND != ADD ] || { echo '{\"code\":7,\"msg\":\"no\"}'; exit 1; }; echo nothing to do >&2"
    spy("one", refuse)
    spy("two", "echo nothing here >&2")
    says("ADD one: no", { { type = "one" }, { type = "two" } }, spies)
    assert.equal("one ADD, two DEL, one DEL", verbs())
  end)

  it("tell all that taking back an ADD has to tell: DELs that fail, and what is said of what was attached", function()
    local blue = t.netns "blue"
    local function says(text, ...)
      put("net", { cniVersion = "1.0.0", name = "net", plugins = { ... } })
      local out, status, err = luacni({ "add", "net", blue.path }, spies)
      t.same({ 1, "", text }, { status, out, err })
    end
    -- What an ADD has left is no matter of the next one.
    local function take_away()
      spy("one", "true")
      spy("two", "true")
      succeeds({ "del", "net", blue.path }, spies)
    end
    local refuse = "[ $CNI_COMMAND != ADD ] || { echo '{\"code\":7,\"msg\":\"no\"}'; exit 1; }; "
    local stuck = "[ $CNI_COMMAND != DEL ] || { echo '{\"code\":11,\"msg\":\"stuck\"}'; exit 1; }; "
    local attach = "[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\":\"1.0.0\"}'; "
    spy("one", refuse .. stuck)
    spy("two", stuck)
    says("luacni: ADD one: no; taking it back failed too: DEL one: stuck\n", { type = "one" })
    take_away()
    spy("one", refuse .. stuck)
    spy("two", stuck)
    says("luacni: ADD one: no; taking it back failed too: DEL two: stuck; taking it back failed too: DEL one: stuck\n",
      { type = "one" }, { type = "two" })
    take_away()
    -- What was attached has something to say, also that its error is this one.
    spy("first", attach .. "[ $CNI_COMMAND != DEL ] || echo no way back for a route >&2")
    spy("one", refuse)
    says("no way back for a route\nluacni: ADD one: no\n", { type = "first" }, { type = "one" })
    -- A program that is gone by the time of its DEL has attached something.
    spy("first", attach .. "rm -f /run/spec/bin/first")
    says('luacni: ADD one: no; taking it back failed too: there is no plugin "first" in /run/spec/bin\n',
      { type = "first" }, { type = "one" })
  end)

  it("do no more than the network's version and its switches allow", function()
    spy "one"
    local blue = t.netns "blue"
    local function network(more) put("net", t.merge({ name = "net", plugins = { { type = "one" } } }, more)) end
    network { cniVersion = "0.3.1" }
    succeeds({ "add", "net", blue.path }, spies)
    fails(1, { "check", "net", blue.path }, 'configuration version "0.3.1" does not support the CHECK command', spies)
    succeeds({ "del", "net", blue.path }, spies)
    local heads, inputs = calls()
    t.same({ 2, nil }, { #heads, inputs[2].prevResult })
    network { cniVersion = "1.0.0", disableCheck = "True" }
    assert.is_truthy(select(2, succeeds({ "check", "net", blue.path }, spies)):find("disableCheck", 1, true))
    assert.is_truthy(select(2, succeeds({ "status", "net", blue.path }, spies)):find("nobody is asked", 1, true))
    t.same({}, (calls()))
    network { cniVersion = "1.1.0" }
    t.same({ "", "" }, { succeeds({ "status", "net", blue.path }, spies) })
    assert.equal("one STATUS", verbs())
    spy("one", "echo '{\"code\":50,\"msg\":\"not now\"}'; exit 1")
    fails(1, { "status", "net" }, "not now", spies)
    -- A result of another version than the list's is turned into that one.
    network { cniVersion = "1.0.0" }
    spy "one"
    t.write(("%s/net-%s-eth0"):format(results, id_of(blue.path)),
      '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.2/24"}]}')
    calls()
    succeeds({ "check", "net", blue.path }, spies)
    inputs = select(2, calls())
    t.same({ "1.0.0", "10.0.0.2/24", nil }, { inputs[1].prevResult.cniVersion, inputs[1].prevResult.ips[1].address,
      inputs[1].prevResult.ips[1].version })
    -- One that cannot be read does not hold a container; but CHECK says so.
    t.write(("%s/net-%s-eth0"):format(results, id_of(blue.path)), "{ nonsense")
    fails(1, { "check", "net", blue.path }, results, spies)
    succeeds({ "del", "net", blue.path }, spies)
    t.same({ "one DEL", {} }, { verbs(), t.files(results) })
  end)

  it("find an attachment by its namespace, and ask with what another runtime has stored", function()
    spy "one"
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one", capabilities = { dns = true } } } })
    t.netns "blue"
    local function entry(id, more)
      t.write(("%s/net-%s-eth0"):format(results, id), t.json(t.merge({ kind = "cniCacheV1", containerId = id,
        config = (t.run({ "base64", "-w0", folder .. "/net.conflist" })), ifName = "eth0", networkName = "net",
        netns = "/var/run/netns/blue", cniArgs = t.list { t.list { "IgnoreUnknown", "1" }, t.list { "UID", "" },
          t.list { "X", "a=b" } }, capabilityArgs = { dns = { Servers = t.list { "10.0.0.1" } } },
        result = { cniVersion = "1.0.0", ips = t.list {} } }, more or {})))
    end
    entry "pod-7"
    succeeds({ "check", "net", "blue" }, spies)
    local heads, inputs = calls()
    t.same({ "one CHECK id=pod-7 ns=/run/netns/blue if=eth0 args=IgnoreUnknown=1;UID=;X=a=b path=/run/spec/bin" }, heads)
    t.same({ dns = { Servers = { "10.0.0.1" } } }, inputs[1].runtimeConfig)
    -- By ID alone it is the namespace as it is stored; of two in one namespace, --id says which.
    succeeds({ "check", "net", "--id", "pod-7" }, spies)
    assert.is_truthy(calls()[1]:find("id=pod-7 ns=/var/run/netns/blue ", 1, true))
    entry "pod-8"
    fails(2, { "del", "net", "blue" }, "--id says which: pod-7, pod-8", spies)
    succeeds({ "del", "net", "blue", "--id", "pod-8" }, spies)
    -- DEL is done with the configuration that the ADD was.
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "two" } } })
    calls()
    succeeds({ "del", "net", "blue" }, spies)
    t.same({ "one DEL", {} }, { verbs(), t.files(results) })
  end)

  it("ask without a result where none is stored, and leave the file's runtimeConfig where nothing replaces it", function()
    spy "one"
    put("net", { cniVersion = "1.1.0", name = "net", plugins = { { type = "one", capabilities = { mac = true },
      runtimeConfig = { x = 1 } } } })
    t.netns "blue"
    local function asked(words, env)
      succeeds(words, t.merge(spies, { env = { "CNI_PATH=/run/spec/bin", env } }))
      local heads, inputs = calls()
      t.same({ 1, nil }, { #heads, inputs[1].prevResult })
      return inputs[1].runtimeConfig
    end
    t.same({ x = 1 }, asked { "check", "net", "blue" })
    t.same({ x = 1 }, asked { "check", "net", "blue", "--cap-args", '{"ips":["10.0.0.9/24"]}' })
    t.same({ mac = "0a:00:00:00:00:01" }, asked { "check", "net", "blue", "--cap-args", '{"mac":"0a:00:00:00:00:01"}' })
    -- What is about the network has no attachment's arguments.
    for _, verb in ipairs { "status", "gc" } do
      t.same({ x = 1 }, asked({ verb, "net" }, 'CAP_ARGS={"mac":"0a:00:00:00:00:01"}'))
    end
  end)

  it("take empty variables for none, and pass over the namespace behind a network that cnitool wants", function()
    spy "one"
    put("net", { cniVersion = "1.1.0", name = "net", plugins = { { type = "one" } } })
    t.netns "blue"
    local empty = { env = { "CNI_PATH=/run/spec/bin", "NETCONFPATH=", "CNI_IFNAME=", "CNI_ARGS=", "CAP_ARGS=" } }
    succeeds({ "add", "net", "blue" }, empty)
    assert.is_truthy(calls()[1]:find(" if=eth0 args= ", 1, true))
    for verb, asked in pairs { gc = "one GC", status = "one STATUS", version = "one VERSION" } do
      for _, netns in ipairs { "blue", "/no/such/namespace" } do
        succeeds({ verb, "net", netns }, empty)
        assert.equal(asked, verbs())
      end
      fails(2, { verb, "net", "blue", "red" }, "usage: luacni " .. verb, empty)
    end
  end)

  it("say of a program that is being written that it is, and take nothing for done", function()
    spy "one"
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" } } })
    local blue = t.netns "blue"
    local stored = ("%s/net-%s-eth0"):format(results, id_of(blue.path))
    local function busy(verb)
      local out, status, err = t.sh(("exec 9>>/run/spec/bin/one; exec %s/luacni %s net blue"):format(t.build, verb),
        t.merge({ host = host }, spies))
      t.same({ "", 1, true }, { out, status, err:find("Text file busy", 1, true) ~= nil }, err)
    end
    busy "add"
    t.same({ "", nil }, { verbs(), t.read(stored) })
    succeeds({ "add", "net", "blue" }, spies)
    busy "check"
    busy "del"
    t.same({ "one ADD", true }, { verbs(), t.read(stored) ~= nil })
    succeeds({ "del", "net", "blue" }, spies)
    assert.is_nil(t.read(stored))
  end)

  it("take null and {} for an empty result, and nothing at all for a mistake", function()
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" } } })
    local blue = t.netns "blue"
    for _, text in ipairs { "null", "{}" } do
      spy("one", "[ $CNI_COMMAND != ADD ] || echo '" .. text .. "'")
      assert.equal("{}\n", (succeeds({ "add", "net", "blue" }, spies)))
      t.same({ cniVersion = "1.0.0" }, t.decode(t.read(("%s/net-%s-eth0"):format(results, id_of(blue.path)))).result)
      succeeds({ "del", "net", "blue" }, spies)
    end
    for _, words in ipairs { "true", "[ $CNI_COMMAND != ADD ] || echo '{} {}'", "[ $CNI_COMMAND != ADD ] || echo 7" } do
      spy("one", words)
      fails(1, { "add", "net", "blue" }, "the result of one", spies)
      t.same({}, t.files(results))
    end
  end)

  it("say which interfaces a container has, when it is asked after another one", function()
    demo()
    t.netns "blue"
    succeeds { "add", "demo", "blue", "-i", "eth1", "--id", "c7" }
    fails(2, { "check", "demo", "--id", "c7" }, "container c7 has no eth0 on network demo: -i NAME asks of "
      .. "another, it has eth1")
    succeeds { "check", "demo", "--id", "c7", "-i", "eth1" }
    succeeds { "del", "demo", "blue", "-i", "eth1", "--id", "c7" }
  end)

  it("say where the disk is full, and change nothing", function()
    demo()
    local blue = t.netns "blue"
    local before = t.snapshot { ns = { host, blue } }
    t.run "mkdir -p /run/luacni/runs; mount -t tmpfs -o size=4k,mode=755 full /run/luacni/runs"
    t.run "head -c 4096 /dev/zero >/run/luacni/runs/.full"
    fails(1, { "add", "demo", "blue" }, "/run/luacni/runs/")
    t.run "umount /run/luacni/runs; rm -r /run/luacni"
    t.same(before, t.snapshot { ns = { host, blue } })
  end)

  it("say in one line what is wrong with the words", function()
    demo()
    t.netns "blue"
    fails(2, { "add", "demo" }, "usage: luacni add NETWORK NETNS")
    fails(2, { "add", "dmo", "blue" }, 'no network in /etc/cni/net.d has the name "dmo"; did you mean "demo"?')
    fails(2, { "add", "dmo", "blue", "--conf-dir", "/no/such" }, "there is no network in /no/such")
    fails(2, { "add", "dmo", "blue" }, "there is no network in /run/spec", { env = { "NETCONFPATH=/run/spec" } })
    fails(2, { "add", "demo", "blue", "--args", "A" }, 'invalid CNI_ARGS pair "A"; wanted is KEY=VALUE;KEY=VALUE')
    fails(2, { "add", "demo", "blue", "-i", "a/b" }, "interface name contains /")
    fails(2, { "add", "demo", "blue", "--cap-args", "{" }, "--cap-args")
    fails(1, { "add", "demo", "no-such" }, 'failed to open netns "/run/netns/no-such"')
    fails(2, { "check", "demo" }, "which namespace?")
    fails(2, { "check", "demo", "--id", "c9" }, "nothing is stored of container c9 on network demo")
    fails(2, { "del", "/no/such/file.conflist", "blue" }, "/no/such/file.conflist: No such file")
    t.write(folder .. "/00-bad.conflist", "{ nonsense")
    fails(1, { "add", "demo", "blue" }, "00-bad.conflist")
    t.same({ "", {} }, { t.records(), t.files(results) })
    -- A file needs no folder.
    succeeds { "add", folder .. "/demo.conflist", "blue" }
    succeeds { "del", folder .. "/demo.conflist", "blue" }
  end)
end)

describe("the verbs in plain Lua", function()
  it("serve a program of its own", function()
    local config, runtime = require "cni.runtime.config", require "cni.runtime.verbs"
    demo()
    local blue = t.netns "blue"
    local function job()
      return { network = config.find("demo", folder), id = "c1", netns = blue.path, ifname = "eth0", path = t.bin.ours,
        environ = function() return { "PATH=/usr/sbin:/usr/bin" } end }
    end
    local own = job()
    assert.is_nil(runtime.add(own))
    assert.equal("10.9.8.2/24", t.decode(own.result).ips[1].address)
    assert.is_true(runtime.check(job()))
    t.run("ip link del eth0", { host = blue })
    assert.is_false((pcall(runtime.check, job())))
    runtime.del(job())
    t.same({ {}, "" }, { t.files(results), t.records() })
    own = job()
    own.ifname = "a/b"
    assert.is_false((pcall(runtime.add, own)))
    -- Whoever asks it to stop has all of it taken back.
    assert.equal("enough", runtime.add(job(), function() return t.link(blue, "eth0") and "enough" or nil end))
    t.same({ {}, "", nil }, { t.files(results), t.records(), t.link(blue, "eth0") })
  end)
end)

describe("luacni version", function()
  it("asks each plugin of a network", function()
    spy "one"
    spy("old", "echo '{\"code\":4,\"msg\":\"unknown CNI_COMMAND: VERSION\"}'; exit 1")
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" } } })
    local out = succeeds({ "version", "net" }, spies)
    assert.is_truthy(out:find("\none +/run/spec/bin/one +0%.3%.1 1%.0%.0 1%.1%.0\n"), out)
    t.same({ { "one VERSION id=dummy ns=dummy if=dummy args= path=/run/spec/bin" }, { { cniVersion = "1.1.0" } } },
      { calls() })
    put("net", { cniVersion = "1.0.0", name = "net", plugins = { { type = "one" }, { type = "old" }, { type = "none" } } })
    local status
    out, status = luacni({ "version", "net", "--json" }, spies)
    local list = t.decode(out)
    t.same({ 1, 3, { "0.1.0" }, {} }, { status, #list, list[2].versions, list[3].versions })
    assert.is_truthy(list[2].problem:find("does not support 1.0.0", 1, true))
    assert.is_truthy(list[3].problem:find('no plugin "none"', 1, true))
    assert.is_truthy(succeeds { "version" }:find "^luacni %d")
  end)
end)

describe("luacni gc", function()
  it("deletes what is stored and gone, and nothing that lives", function()
    demo()
    local blue, red = t.netns "blue", t.netns "red"
    succeeds { "add", "demo", "blue" }
    succeeds { "add", "demo", "red" }
    t.same({ "", "nothing is left of anything dead\n" }, { succeeds { "gc" } })
    t.remove_netns(blue)
    local before = t.snapshot { ns = { red } }
    local gone = ("demo  %s eth0  namespace /run/netns/blue is gone"):format(id_of(blue.path))
    assert.equal(gone .. "\n", (succeeds { "gc", "--dry-run" }))
    t.same(before, t.snapshot { ns = { red } })
    assert.is_truthy(t.read "/var/lib/cni/networks/demo/10.9.8.2")
    assert.equal(gone .. ": taken away\n", (succeeds { "gc" }))
    assert.is_nil(t.read "/var/lib/cni/networks/demo/10.9.8.2")
    assert.is_truthy(t.read "/var/lib/cni/networks/demo/10.9.8.3")
    assert.equal(1, select(2, t.run("ls " .. results):gsub("\n", "")))
    assert.is_true(t.ping(host, "10.9.8.3"))
    -- As cnitool does it, living ones too.
    fails(2, { "gc", "--all" }, "--all needs a network")
    assert.is_truthy(succeeds { "gc", "demo", "--all" }:find("eth0  stored: taken away", 1, true))
    t.same({ {}, "" }, { t.files(results), t.records() })
    assert.is_nil(t.link(red, "eth0"))
  end)

  it("tells a network's plugins of all that lives", function()
    spy "one"
    put("net", { cniVersion = "1.1.0", name = "net", plugins = { { type = "one" } } })
    local blue, red = t.netns "blue", t.netns "red"
    succeeds({ "add", "net", "blue" }, spies)
    succeeds({ "add", "net", "red", "--args", "A=b", "-i", "eth7" }, spies)
    t.remove_netns(blue)
    calls()
    succeeds({ "gc", "net" }, spies)
    local heads, inputs = calls()
    t.same({ "one DEL id=" .. id_of(blue.path) .. " ns=/run/netns/blue if=eth0 args= path=/run/spec/bin",
      "one GC id= ns= if= args= path=/run/spec/bin" }, heads)
    local valid = { { containerID = id_of(red.path), ifname = "eth7" } }
    t.same({ valid, valid }, { inputs[2]["cni.dev/valid-attachments"], inputs[2]["cni.dev/attachments"] })
    -- A list may keep others out.
    put("net", { cniVersion = "1.1.0", name = "net", disableGC = true, plugins = { { type = "one" } } })
    succeeds({ "gc", "net", "--all" }, spies)
    t.same({}, (calls()))
    put("net", { cniVersion = "1.1.0", name = "net", plugins = { { type = "one" } } })
    spy("one", "[ $CNI_COMMAND = GC ] && exit 1")
    fails(1, { "gc", "net" }, "GC one: exit status 1", spies)
  end)

  it("gives DEL what the ADD was given, and goes on behind what fails: a DEL, a plugin's GC", function()
    spy "one"
    spy("two", [[ [ $CNI_COMMAND.$CNI_IFNAME != DEL.eth9 ] || { echo '{"code":11,"msg":"it stays"}'; exit 1; }
      [ $CNI_COMMAND != GC ] || { echo '{"code":11,"msg":"not now"}'; exit 1; }
      [ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0"}' ]])
    put("net", { cniVersion = "1.1.0", name = "net", plugins = { { type = "one", capabilities = { mac = true } },
      { type = "two" }, { type = "one" } } })
    local blue, red, green = t.netns "blue", t.netns "red", t.netns "green"
    succeeds({ "add", "net", "blue", "--args", "C=d", "--cap-args", '{"mac":"0a:00:00:00:00:01"}' }, spies)
    succeeds({ "add", "net", "red" }, spies)
    succeeds({ "add", "net", "green", "--ifname", "eth9" }, spies)
    t.remove_netns(blue)
    t.remove_netns(green)
    calls()
    local out, status, err = luacni({ "gc", "net" }, spies)
    assert.equal(1, status)
    assert.equal(("net  %s eth0  namespace /run/netns/blue is gone: taken away\n"):format(id_of(blue.path)), out)
    for _, text in ipairs { id_of(green.path), "DEL two: it stays", "GC two: not now" } do
      assert.is_truthy(err:find(text, 1, true), err)
    end
    local heads, inputs = calls()
    local count, given = {}, {}
    for i, head in ipairs(heads) do
      local verb = head:match "^%S+ %S+"
      count[verb] = (count[verb] or 0) + 1
      local config = inputs[i].runtimeConfig
      if head:find(id_of(blue.path), 1, true) then given[#given + 1] = head:match "args=(%S*)" end
      if config then given[#given + 1] = config.mac end
    end
    t.same({ ["one DEL"] = 3, ["two DEL"] = 2, ["one GC"] = 2, ["two GC"] = 1 }, count)
    t.same({ "C=d", "C=d", "C=d", "0a:00:00:00:00:01" }, given)
    t.same({ true, true, nil }, { t.read(("%s/net-%s-eth9"):format(results, id_of(green.path))) ~= nil,
      t.read(("%s/net-%s-eth0"):format(results, id_of(red.path))) ~= nil,
      t.read(("%s/net-%s-eth0"):format(results, id_of(blue.path))) })
  end)

  it("takes down what a luacni run that was killed has left, at any time", function()
    demo({ name = "demo" }, { type = "loopback" })
    local before = t.snapshot { ns = { host } }
    local function namespaces() return (t.sh "ls /run/netns | grep luacni") end
    local function run(script)
      return t.sh(([[ %s/luacni run demo -- sh -c 'touch /run/spec/up; exec sleep 60' & pid=$!
        %s
        kill -9 $pid; wait $pid; rm -f /run/spec/up ]]):format(t.build, script), { host = host })
    end
    run "while [ ! -e /run/spec/up ]; do sleep 0.02; done"
    assert.is_truthy(t.link(host, "demo0"))
    local out = succeeds { "gc" }
    assert.is_truthy(out:find "^demo  run%-%x+ eth0  left of luacni run: taken away\n$", out)
    t.same(before, t.snapshot { ns = { host } })
    t.same({ {}, {}, "" }, { t.files "/run/luacni/runs", t.files(results), namespaces() })
    for _, delay in ipairs { 0.002, 0.004, 0.006, 0.008, 0.01, 0.013, 0.02 } do
      run("sleep " .. delay)
      succeeds { "gc" }
      t.same(before, t.snapshot { ns = { host } }, tostring(delay))
      t.same({ {}, {}, "" }, { t.files "/run/luacni/runs", t.files(results), namespaces() })
    end
  end)

  it("leaves a run that lives, and one whose process has outlived it", function()
    demo()
    local script = [[ %s/luacni run demo -- sh -c 'sleep 60 & touch /run/spec/up; wait' & pid=$!
      while [ ! -e /run/spec/up ]; do sleep 0.02; done
      %s/luacni gc; echo $?
      kill -9 $pid; wait $pid
      %s/luacni gc; echo $?
      kill $(ip netns pids luacni-$(ls /run/luacni/runs | cut -d: -f2)); sleep 0.1
      %s/luacni gc >&2; echo $?
      rm /run/spec/up ]]
    local out, _, err = t.sh(script:gsub("%%s", t.build), { host = host })
    assert.equal("0\n1\n0\n", out, err)
    assert.is_truthy(err:find("process %d+ %(sleep%) still runs in /run/netns/luacni%-run%-%x+; end it"), err)
    assert.is_truthy(err:find("left of luacni run: taken away", 1, true), err)
    assert.is_nil(t.link(host, "demo0"))
  end)
end)
