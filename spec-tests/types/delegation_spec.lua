-- SPDX-License-Identifier: MIT
-- IPAM by somebody else, in both directions: a foreign ipam.type is executed with
-- the same bytes and environment, and our host-local serves the reference bridge.

local t = require "support"
local world = require "world"

local bin = "/run/spec/bin"

-- A plugin that notes its call and answers as told.
local function fake(name, answer, opts)
  opts = opts or {}
  t.write(bin .. "/" .. name, ([[
#!/bin/sh
mkdir -p %s/log; n=$(ls %s/log | grep -c stdin)
cat >%s/log/$n.$CNI_COMMAND.stdin
env | sort >%s/log/$n.$CNI_COMMAND.env
%s
case $CNI_COMMAND in
ADD) cat <<'END'
%s
END
%s;;
esac
exit 0
]]):format(bin, bin, bin, bin, opts.before or ":", answer or "",
    opts.status and "exit " .. opts.status or ":"))
  t.run("chmod +x " .. bin .. "/" .. name)
end

local function calls()
  local list = {}
  for name in pairs(t.files(bin .. "/log")) do
    local n, verb = name:match("^(%d+)%.(%u+)%.stdin$")
    if n then list[tonumber(n) + 1] = { verb = verb, stdin = t.read(bin .. "/log/" .. name),
      env = t.read(bin .. "/log/" .. name:gsub("stdin$", "env")) } end
  end
  return list
end

local function verbs()
  local words = {}
  for i, call in ipairs(calls()) do words[i] = call.verb end
  return table.concat(words, " ")
end

local answer = '{"cniVersion":"1.1.0","ips":[{"address":"10.4.0.9/24","gateway":"10.4.0.1"}],' ..
  '"routes":[{"dst":"10.44.0.0/16"}],"dns":{"nameservers":["10.4.0.53"]}}'

local function new(more, opts)
  local conf = { type = "bridge", bridge = "br0",
    removeUnused = true, ipam = { type = "fake", some = { "thing" } } }
  for key, value in pairs(more or {}) do conf[key] = value end
  opts = opts or {}
  opts.path = opts.path or bin
  opts.forwarding = true
  t.run("rm -rf " .. bin)
  return world.new(conf, opts)
end

describe("A foreign IPAM plugin", function()
  it("gives address, gateway, routes and dns", function()
    local w = new({ isGateway = true })
    fake("fake", answer)
    local result = w:add()
    t.same({ { address = "10.4.0.9/24", gateway = "10.4.0.1", interface = 2 } }, result.ips)
    t.same({ nameservers = { "10.4.0.53" } }, result.dns)
    t.same({ { dst = "10.44.0.0/16" } }, result.routes)
    t.same({ "10.4.0.9/24" }, world.addrs(w.pods[1], "eth0"))
    t.same({ "10.4.0.1/24" }, world.addrs(w.host, "br0"))
    assert.equal("10.4.0.1", t.ip(w.pods[1], "route show 10.44.0.0/16")[1].gateway)
  end)

  it("gets the very bytes and the whole environment, CNI_COMMAND apart", function()
    local w = new()
    fake("fake", answer)
    local bytes = '{ "type":"bridge",\n "bridge":"br0", "name":"net","cniVersion":"1.1.0",' ..
      '"unknown": [1, 2.50, null],"ipam":{"type":"fake"} }  \n'
    w:ok("ADD", { conf = bytes, args = "IgnoreUnknown=1;K8S_POD_NAME=x",
      env = { SITE_SPECIFIC = "yes" } })
    w:ok("DEL", { conf = bytes, args = "IgnoreUnknown=1;K8S_POD_NAME=x",
      env = { SITE_SPECIFIC = "yes" } })
    local list = calls()
    assert.equal("ADD DEL", verbs())
    for _, call in ipairs(list) do
      assert.equal(bytes, call.stdin)
      for _, pair in ipairs({ "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "SITE_SPECIFIC=yes",
        "CNI_NETNS=/run/netns/pod1", "CNI_PATH=" .. bin, "CNI_COMMAND=" .. call.verb,
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=x" }) do
        assert.truthy(("\n" .. call.env):find("\n" .. pair .. "\n", 1, true),
          pair .. " is missing from\n" .. call.env)
      end
    end
  end)

  it("hears every verb", function()
    local w = new()
    fake("fake", answer)
    w:ok("STATUS")
    w:add()
    w:check()
    w:gc({ { "c1" } })
    w:del()
    assert.equal("STATUS ADD CHECK GC DEL", verbs())
  end)

  it("hears DEL also when the namespace is gone", function()
    local w = new()
    fake("fake", answer)
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del({ pod = "/run/netns/pod1" })
    assert.equal("ADD DEL", verbs())
  end)

  it("hears DEL also when nothing is known of the attachment", function()
    local w = new()
    fake("fake", answer)
    w:del()
    assert.equal("DEL", verbs())
  end)

  it("hears DEL by a GC of the attachment", function()
    local w = new()
    local before = w:picture()
    fake("fake", answer)
    w:add()
    w:gc({})
    t.same(before, w:picture())
    assert.truthy(verbs():find("DEL", 1, true), verbs())
  end)

  it("that fails has its error passed on as it is, and hears DEL", function()
    local w = new()
    local before = w:picture()
    fake("fake", '{"cniVersion":"1.1.0","code":11,"msg":"later","details":"d"}', { status = 1 })
    local e = w:fails("ADD", nil, 11)
    assert.equal("later", e.msg)
    assert.equal("d", e.details)
    t.same(before, w:picture())
    assert.equal("ADD DEL", verbs())
  end)

  it("hears DEL when what comes after it fails", function()
    local w = new({ ipMasq = true })
    local before = w:picture()
    fake("fake", '{"cniVersion":"1.1.0","ips":[{"address":"10.4.0.9/24"}],' ..
      '"routes":[{"dst":"10.44.0.0/16","gw":"172.16.0.1"}]}')
    w:fails("ADD")
    assert.equal("ADD DEL", verbs())
    t.same(before, w:picture())
  end)

  local function broken(name, text, opts, code)
    it(name .. " is an error, and nothing is left", function()
      local w = new()
      local before = w:picture()
      fake("fake", text, opts)
      local e = w:fails("ADD", nil, code)
      assert.is_true(e.code ~= 0)
      t.same(before, w:picture())
    end)
  end

  broken("that gives no address", '{"cniVersion":"1.1.0","ips":[]}')
  broken("that prints nothing", "")
  broken("that prints no JSON", "hello")
  broken("that fails without a word", "", { status = 7 })
  broken("that fails with no JSON", "panic: oh", { status = 2 })
  broken("that crashes", answer, { before = "[ $CNI_COMMAND = DEL ] || kill -SEGV $$" })
  broken("that gives an address that is none",
    '{"cniVersion":"1.1.0","ips":[{"address":"10.4.0.900/24"}]}')

  it("names itself and its words when it dies", function()
    local w = new()
    fake("fake", "", { before = "[ $CNI_COMMAND = DEL ] || { echo out of cheese >&2; exit 3; }" })
    local e = w:fails("ADD")
    assert.truthy(e.text:find("fake", 1, true), e.text)
    assert.truthy(e.text:find("out of cheese", 1, true), e.text)
  end)

  it("has its stderr passed on", function()
    local w = new()
    fake("fake", answer, { before = "echo a note >&2" })
    local got = w:call("ADD")
    assert.equal(0, got.rc)
    assert.truthy(got.err:find("a note", 1, true), got.err)
  end)

  it("whose CHECK fails makes CHECK fail", function()
    local w = new()
    fake("fake", answer, { before = [[if [ $CNI_COMMAND = CHECK ]; then
      echo '{"code":123,"msg":"not mine"}'; exit 1; fi]] })
    w:add()
    local e = w:fails("CHECK", nil, 123)
    assert.equal("not mine", e.msg)
  end)

  it("whose STATUS fails makes STATUS fail", function()
    local w = new()
    fake("fake", answer, { before = [[if [ $CNI_COMMAND = STATUS ]; then
      echo '{"code":50,"msg":"full"}'; exit 1; fi]] })
    w:fails("STATUS", nil, 50)
  end)

  it("may answer in an older version, or in none", function()
    for _, text in ipairs({ '{"cniVersion":"0.4.0","ips":[{"version":"4",' ..
      '"address":"10.4.0.9/24"}]}', '{"ips":[{"address":"10.4.0.9/24"}]}',
      '{"cniVersion":"0.2.0","ip4":{"ip":"10.4.0.9/24"}}' }) do
      local w = new()
      fake("fake", text)
      assert.equal("10.4.0.9/24", w:add().ips[1].address)
      w:del()
      t.cleanup()
    end
  end)

  it("is looked for in every directory of CNI_PATH, in order", function()
    local w = new(nil, { path = "/nowhere:" .. bin .. "/empty:" .. bin .. ":/usr/lib/cni" })
    fake("fake", answer)
    t.run("mkdir " .. bin .. "/empty")
    assert.equal("10.4.0.9/24", w:add().ips[1].address)
  end)

  it("that is nowhere is named, with the places looked at", function()
    local w = new({ ipam = { type = "nowhere" } }, { path = "/a/b:/c" })
    local e = w:fails("ADD")
    assert.truthy(e.text:find("nowhere", 1, true), e.text)
    assert.truthy(e.text:find("/a/b", 1, true), e.text)
  end)

  it("is never a path", function()
    for _, name in ipairs({ "../fake", "/run/spec/bin/fake", "a/b", ".." }) do
      local w = new({ ipam = { type = name } })
      fake("fake", answer)
      w:fails("ADD")
      t.same({}, calls())
      t.cleanup()
    end
  end)
end)

describe("The reference host-local under another name", function()
  local function theirs(name)
    t.needs("reference")
    local w = new({ cniVersion = "1.0.0", isDefaultGateway = true, ipMasq = true,
      ipam = { type = "theirs", ranges = { { { subnet = "10.1.0.0/24" } },
      { { subnet = "fd01::/64" } } } } })
    t.run(("mkdir -p %s; ln -s /usr/lib/cni/%s %s/theirs"):format(bin, name, bin))
    return w
  end

  it("serves our bridge: ADD, CHECK, DEL, DEL", function()
    local w = theirs("host-local")
    local before = w:picture()
    local result = w:add()
    assert.equal("10.1.0.2/24", result.ips[1].address)
    assert.equal("c1\r\neth0", world.lease("10.1.0.2"))
    w:check()
    w:del()
    w:del()
    t.same(before, w:picture())
  end)

  it("that finds no free address: its error, nothing left", function()
    local w = theirs("host-local")
    w.conf.ipam.ranges = { { { subnet = "10.1.0.0/24", rangeStart = "10.1.0.5",
      rangeEnd = "10.1.0.5" } } }
    t.write(t.lease_dir .. "/net/10.1.0.5", "other\r\neth0")
    local before = w:picture()
    local e = w:fails("ADD", nil, 999)
    assert.truthy(e.msg:find("10.1.0.5", 1, true), e.msg)
    t.same(before, w:picture())
  end)

  it("has its lease removed: CHECK says so", function()
    local w = theirs("host-local")
    w:add()
    t.run("rm " .. t.lease_dir .. "/net/10.1.0.2 " .. t.lease_dir .. "/net/fd01::2")
    w:fails("CHECK")
  end)

  it("and so does the reference static", function()
    local w = theirs("static")
    w.conf.ipam = { type = "theirs", addresses = { { address = "10.1.0.5/24",
      gateway = "10.1.0.1" } } }
    local before = w:picture()
    assert.equal("10.1.0.5/24", w:add().ips[1].address)
    w:check()
    w:del()
    t.same(before, w:picture())
  end)
end)

describe("Our IPAM under the reference bridge", function()
  local function ours(ipam)
    t.needs("reference")
    return world.new({ cniVersion = "1.0.0", type = "bridge", bridge = "br0", removeUnused = true,
      isGateway = true, ipam = ipam }, { bin = "reference", path = t.bin.ours, pods = 2 })
  end

  it("host-local: ADD, CHECK, DEL, DEL", function()
    local w = ours({ type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } },
      { { subnet = "fd01::/64" } } }, routes = { { dst = "0.0.0.0/0" } } })
    local result = w:add()
    assert.equal("10.1.0.2/24", result.ips[1].address)
    assert.equal("fd01::2/64", result.ips[2].address)
    assert.equal("0.0.0.0/0", result.routes[1].dst)
    assert.equal("c1\r\neth0", world.lease("10.1.0.2"))
    w:check()
    w:del()
    assert.is_nil(world.lease("10.1.0.2"))
    assert.is_nil(world.lease("fd01::2"))
    w:del()
    t.same({}, t.snapshot().records)
  end)

  it("host-local: CHECK fails when the lease is gone", function()
    local w = ours({ type = "host-local", subnet = "10.1.0.0/24" })
    w:add()
    t.run("rm " .. t.lease_dir .. "/net/10.1.0.2")
    w:fails("CHECK")
  end)

  it("host-local: its error comes through", function()
    local w = ours({ type = "host-local", subnet = "10.1.0.0/24",
      rangeStart = "10.1.0.5", rangeEnd = "10.1.0.5" })
    w:add()
    local e = w:fails("ADD", { id = "c2", pod = 2 })
    assert.truthy(e.text:find("10.1.0.5", 1, true), e.text)
    w:del({ id = "c2", pod = 2 })
    assert.truthy(world.lease("10.1.0.5"))
  end)

  it("static: ADD, CHECK, DEL", function()
    local w = ours({ type = "static", addresses = { { address = "10.1.0.5/24",
      gateway = "10.1.0.1" } } })
    assert.equal("10.1.0.5/24", w:add().ips[1].address)
    w:check()
    w:del()
  end)

  it("and the reference host-local take turns on one directory", function()
    local w = ours({ type = "host-local", subnet = "10.1.0.0/24" })
    assert.equal("10.1.0.2/24", w:add().ips[1].address)
    w:del({ path = "/usr/lib/cni" })
    assert.is_nil(world.lease("10.1.0.2"))
    assert.equal("10.1.0.3/24", w:add({ path = "/usr/lib/cni" }).ips[1].address)
    w:check()
    w:del()
    assert.is_nil(world.lease("10.1.0.3"))
    assert.equal("10.1.0.4/24", w:add().ips[1].address)
  end)
end)

describe("Our own IPAM under our own plugin", function()
  it("starts no other program", function()
    t.needs("strace")
    local w = new({ isDefaultGateway = true, ipMasq = true,
      ipam = { type = "host-local", subnet = "10.1.0.0/24" } }, { path = t.bin.ours })
    for _, verb in ipairs({ "ADD", "CHECK", "GC", "STATUS", "DEL" }) do
      local conf = w:config(verb == "GC" and { ["cni.dev/valid-attachments"] =
        t.list({ { containerID = "c1", ifname = "eth0" } }) } or nil)
      conf.prevResult = verb == "CHECK" and w.result or nil
      local line = t.cni_words({ verb = verb, type = "bridge", host = w.host,
        netns = w.pods[1], under = "strace -f -qq -o /run/spec/trace -e trace=execve" })
      local out, status = t.sh(line, { stdin = t.conf_bytes(conf) })
      assert.equal(0, status, verb .. out)
      if verb == "ADD" then w.result = t.decode(out) end
      local count = 0
      for text in t.read("/run/spec/trace"):gmatch("[^\n]+") do
        if text:find("execve(", 1, true) and text:find("= 0", 1, true) then count = count + 1 end
      end
      -- nsenter, env -i, and the plugin.
      assert.equal(3, count, verb .. "\n" .. t.read("/run/spec/trace"))
    end
  end)
end)
