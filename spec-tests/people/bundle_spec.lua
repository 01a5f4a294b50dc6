-- SPDX-License-Identifier: MIT
-- A chain in one process, type luacni with plugins of its own: the same as the list that a runtime calls plugin
-- by plugin. (Kills, failing calls, lost state, CHECK, update and repair: its row in plugins.lua.)

local cli = require "cli"
local t = require "support"

local v4 = { type = "host-local", subnet = "10.9.0.0/24" }
local dual = { type = "host-local", ranges = { { { subnet = "10.9.0.0/24" } }, { { subnet = "fd09::/64" } } } }
local bridge = { type = "bridge", bridge = "br0", isGateway = true, ipMasq = true, hairpinMode = true, ipam = dual }
local portmap = { type = "portmap", capabilities = { portMappings = true } }
local bandwidth = { type = "bandwidth", capabilities = { bandwidth = true } }
local tuning = { type = "tuning", sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" }, mtu = 1400 }
local firewall = { type = "firewall" }
local given = { portMappings = { { hostPort = 8080, containerPort = 80, protocol = "tcp" } },
  bandwidth = { ingressRate = 8000000, ingressBurst = 800000 } }

-- Another's program, which writes down what it is called with, and passes the result on; `fails`: its n-th
-- call of a verb.
local theirs = [[#!/bin/sh
conf=$(cat)
echo "$CNI_COMMAND $CNI_IFNAME $CNI_ARGS" >>/run/spec/calls
printf %s "$conf" >/run/spec/conf.$CNI_COMMAND
if [ -e /run/spec/fails.$CNI_COMMAND ]; then
  echo '{"cniVersion":"1.1.0","code":123,"msg":"not today"}'
  exit 1
fi
[ $CNI_COMMAND != ADD ] || printf %s "$conf" | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))'
]]

local host, blue, clean, bin
local version = "1.1.0"

local function picture() return t.snapshot { ns = { host, blue } } end

local function new()
  t.cleanup()
  t.wipe()
  host = t.host "node"
  blue = t.netns "blue"
  cli.host = host
  t.run "mkdir -p /run/spec/bin; rm -f /run/spec/calls /run/spec/fails.*"
  t.write("/run/spec/bin/theirs", theirs)
  t.run("chmod 755 /run/spec/bin/theirs; ln -sf /usr/lib/cni/tuning /run/spec/bin/their-tuning")
  bin = t.bin.ours .. ":/run/spec/bin"
  clean = picture()
end

after_each(function()
  version = "1.1.0"
  t.cleanup()
end)

local function call(verb, conf, more)
  return t.cni(t.merge({ verb = verb, type = conf.type, conf = conf, host = host, netns = blue, path = bin,
    args = "IgnoreUnknown=1;K8S_POD_NAME=x", bin = conf.type:find "^their" and "/run/spec/bin" or nil }, more or {}))
end

-- Forms of a list: each is a function of a verb, its prevResult and what else the configuration has.
local forms = {}

function forms.bundle(list, verb, prev, more)
  local takes = {}
  for _, plugin in ipairs(list) do
    for key in pairs(plugin.capabilities or {}) do takes[key] = true end
  end
  return call(verb, t.merge({ cniVersion = version, name = "net", type = "luacni", capabilities = takes,
    runtimeConfig = given, plugins = t.list(list), prevResult = prev }, more or {}))
end

-- As libcni does it.
function forms.list(list, verb, prev, more)
  local from, to, step = 1, #list, 1
  if verb == "DEL" then from, to, step = to, from, -1 end
  local got, result
  for i = from, to, step do
    local takes
    for key in pairs(list[i].capabilities or {}) do
      takes = takes or {}
      takes[key] = given[key]
    end
    got = call(verb, t.merge(t.merge(list[i], { cniVersion = version, name = "net", runtimeConfig = takes,
      prevResult = verb == "ADD" and result or prev }), more or {}))
    if got.rc ~= 0 then return got end
    result = got.json
  end
  return got
end

local function ok(form, ...)
  local got = forms[form](...)
  if got.rc ~= 0 then error(("%s: %s%s"):format(form, got.out, got.err), 2) end
  return got.json
end

-- Random names and addresses by the order in which they come.
local function plain(text, names)
  return (text:gsub("%f[%w](%x%x:%x%x:%x%x:%x%x:%x%x:%x%x)", function(mac)
    return mac == "00:00:00:00:00:00" and mac or "<mac>"
  end):gsub("(%a+)(%x%x%x%x%x%x%x%x+)", function(kind, rest)
    if kind ~= "veth" and kind ~= "bwp" and kind ~= "macvtap" then return kind .. rest end
    return "<" .. kind .. ">"
  end):gsub('\\"user\\":\\"%x+', names or "%0"))
end

-- What there is, as a set of lines.
local function lines()
  local shot, set = picture(), {}
  shot.records = nil
  for _, line in ipairs(t.differences({ kernel = {}, leases = {} }, shot)) do
    if not line:find("fe80::", 1, true) and not line:find "index" and not line:find "kernel.*master_id" then
      set[plain(line)] = true
    end
  end
  return set
end

local lists = {
  ["podman's"] = { bridge, portmap, firewall, { type = "tuning" } },
  ["that of many a Kubernetes node"] = { t.merge(bridge, { isDefaultGateway = true, ipam = v4 }), portmap, bandwidth },
  ["nomad's"] = { { type = "loopback" }, bridge, firewall, portmap },
  ["one with each type twice"] = { bridge, tuning, { type = "tuning", sysctl = { ["net.ipv4.conf.all.arp_filter"] = "1" } },
    bandwidth, { type = "tuning", promisc = true } },
  ["one with the same twice"] = { { type = "ptp", ipam = v4 }, { type = "sbr" }, { type = "sbr" }, tuning, tuning },
  ["one with another's program in the middle"] = { bridge, portmap, { type = "theirs", x = { 1 } }, firewall },
  ["one with the reference's in the middle"] = { bridge, { type = "their-tuning", mtu = 1400, sysctl = { ["net.ipv4.conf.all.arp_filter"] = "1" } }, bandwidth },
  ["ptp's"] = { { type = "ptp", ipam = v4 }, bandwidth, { type = "sbr" }, tuning },
  ["one alone"] = { bridge },
}

describe("A chain in one process,", function()
  for name, list in pairs(lists) do
    it(name .. ", is the same as the list: results, what is there, CHECK, DEL in either form", function()
      t.needs("nft-nat", "ifb", "reference")
      local seen, results = {}, {}
      -- The newest that Debian's plugins speak.
      version = name:find "reference" and "1.0.0" or "1.1.0"
      for _, form in ipairs { "list", "bundle" } do
        new()
        local result = ok(form, list, "ADD")
        results[form], seen[form] = t.decode(plain(t.json(result))), lines()
        for other in pairs(forms) do ok(other, list, "CHECK", result) end
        ok(form == "list" and "bundle" or "list", list, "DEL", result)
        ok(form, list, "DEL", result)
        t.run("ip link del br0 2>/dev/null || true", { host = host })
        assert.equal("", t.records())
        assert.equal(0, #t.ip(blue, "link show type veth"))
        assert.equal("", t.our_rules(host))
      end
      t.same(results.list, results.bundle)
      t.same(seen.list, seen.bundle)
    end)
  end

  it("gives each part what it says it takes, byte for byte, and CNI_ARGS", function()
    t.needs "nft-nat"
    new()
    local text = '{"cniVersion":"1.1.0","name":"net","type":"luacni","runtimeConfig":{"mine": [12345678901234567890, [], {}],'
      .. '"portMappings":[]},"plugins":[{"type":"bridge","bridge":"br0","ipam":{"type":"host-local","subnet":"10.9.0.0/24"}},'
      .. '{"type":"theirs","capabilities":{"mine":true,"portMappings":false},"n":12345678901234567890,"l":[],"o":{}}]}'
    local got = call("ADD", { type = "luacni" }, { conf = text })
    assert.equal(0, got.rc, got.out)
    local conf = t.read "/run/spec/conf.ADD"
    for _, part in ipairs { '"n":12345678901234567890,"l":[],"o":{}', '"runtimeConfig":{"mine":[12345678901234567890, [], {}]}' } do
      assert.is_truthy(conf:find(part, 1, true), conf)
    end
    assert.equal("ADD eth0 IgnoreUnknown=1;K8S_POD_NAME=x\n", t.read "/run/spec/calls")
    call("DEL", { type = "luacni" }, { conf = text })
  end)

  it("that fails in a part says which, and leaves nothing: our own parts, and another's, which gets a DEL", function()
    t.needs("nft-nat", "ifb")
    for _, case in ipairs {
      { { bridge, { type = "theirs" }, portmap, t.merge(firewall, { ingressPolicy = "no" }) }, 7, "firewall: ingressPolicy" },
      { { bridge, portmap, { type = "theirs" }, firewall }, 123, "ADD theirs: not today", fails = true },
      { { bridge, portmap, { type = "missing" }, firewall }, 7, 'there is no plugin "missing"' },
      { { bridge, t.merge(tuning, { mtu = 99999999 }), { type = "theirs" } }, nil, "tuning: " },
      { { bridge, { type = "luacni" } }, 7, "plugins[1].plugins: is missing: type luacni is a chain" },
    } do
      new()
      -- Once round: for the bridge that stays.
      local result = ok("bundle", { bridge }, "ADD")
      ok("bundle", { bridge }, "DEL", result)
      local before = picture()
      if case.fails then t.write("/run/spec/fails.ADD", "") end
      local got = forms.bundle(case[1], "ADD")
      assert.equal(1, got.rc, got.out)
      if case[2] then assert.equal(case[2], got.json.code, got.out) end
      assert.is_truthy(got.json.msg:find(case[3], 1, true), got.out)
      t.same(before, picture())
      local calls = t.read "/run/spec/calls" or ""
      assert.equal(select(2, calls:gsub("ADD", "")), select(2, calls:gsub("DEL", "")), calls)
      -- What can be told before is told before.
      if case[2] == 7 then assert.equal("", calls) end
      ok("bundle", case[1], "DEL", nil, { plugins = t.list { bridge } })
    end
  end)

  it("whose answer cannot be given leaves nothing", function()
    t.needs "nft-nat"
    new()
    local result = ok("bundle", { bridge }, "ADD")
    ok("bundle", { bridge }, "DEL", result)
    local before = picture()
    t.write("/run/spec/conf", t.json { cniVersion = "1.1.0", name = "net", type = "luacni", plugins = t.list { bridge, firewall } })
    local _, status = t.sh(t.cni_words { verb = "ADD", type = "luacni", host = host, netns = blue }
      .. " </run/spec/conf >/dev/full")
    assert.equal(1, status)
    t.same(before, picture())
  end)

  it("has a DEL that goes on where a part fails, and says so; the next one does the rest", function()
    t.needs "nft-nat"
    new()
    local list = { bridge, portmap, { type = "theirs" }, firewall }
    local result = ok("bundle", list, "ADD")
    t.write("/run/spec/fails.DEL", "")
    local got = forms.bundle(list, "DEL", result)
    t.same({ 1, 123 }, { got.rc, got.json.code })
    assert.is_truthy(got.json.msg:find("not today", 1, true))
    assert.equal("", t.records())
    os.remove "/run/spec/fails.DEL"
    ok("bundle", list, "DEL", result)
  end)

  it("has a DEL that goes by its records where the list cannot be read any more", function()
    t.needs "nft-nat"
    new()
    ok("bundle", { bridge, portmap, firewall }, "ADD")
    for _, bad in ipairs { { { type = "../x" } }, { { x = 1 } }, {}, false } do
      local got = bad and forms.bundle({ bridge }, "DEL", nil, { plugins = t.list(bad) })
        or call("DEL", { cniVersion = version, name = "net", type = "luacni" })
      assert.equal(0, got.rc, got.out)
      t.same({ "", "", 0 }, { t.records(), t.our_rules(host), #t.ip(blue, "link show type veth") })
      ok("bundle", { bridge, portmap, firewall }, "ADD")
    end
    ok("bundle", { bridge, portmap, firewall }, "DEL")
    assert.equal(1, forms.bundle({ bridge }, "DEL", nil, { plugins = t.list { { x = 1 } } }).rc)
  end)

  it("keeps what is valid in a GC, and takes back what is not", function()
    t.needs "nft-nat"
    new()
    local list = { bridge, portmap, firewall }
    ok("bundle", list, "ADD")
    local rules = t.our_rules(host)
    ok("bundle", list, "GC", nil, { ["cni.dev/valid-attachments"] = t.list { { containerID = "c1", ifname = "eth0" } } })
    assert.equal(rules, t.our_rules(host))
    ok("bundle", list, "GC", nil, { ["cni.dev/valid-attachments"] = t.list() })
    t.same({ "", "", 0 }, { t.records(), t.our_rules(host), #t.ip(blue, "link show type veth") })
  end)

  it("is whole when its first part was updated, or its record is lost: a GC takes nothing that is valid", function()
    t.needs "nft-nat"
    for _, how in ipairs { "updated", "lost" } do
      new()
      t.write("/etc/cni/net.d/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { { type = "luacni",
        capabilities = { portMappings = true }, plugins = t.list { bridge, portmap, firewall } } } })
      local result = ok("bundle", { bridge, portmap, firewall }, "ADD")
      if how == "updated" then
        cli.succeeds { "update", "net", "c1", "--set", "mtu=1300", "--plugin", "bridge" }
      else
        os.remove "/run/luacni/attachments/net/c1:eth0/bridge"
      end
      local rules, records = t.our_rules(host), t.records()
      ok("bundle", { bridge, portmap, firewall }, "GC", nil,
        { ["cni.dev/valid-attachments"] = t.list { { containerID = "c1", ifname = "eth0" } } })
      t.same({ rules, records }, { t.our_rules(host), t.records() }, how)
      cli.succeeds { "repair" }
      ok("bundle", { t.merge(bridge, { mtu = how == "updated" and 1300 or nil }), portmap, firewall }, "DEL", result)
      t.same({ "", "", 0 }, { t.records(), t.our_rules(host), #t.ip(blue, "link show type veth") }, how)
      t.run "rm -rf /etc/cni/net.d /var/lib/cni/results"
    end
  end)

  it("has the STATUS of its parts, and speaks the versions that we do", function()
    t.needs "nft-nat"
    new()
    ok("bundle", { bridge, { type = "theirs" } }, "STATUS")
    t.write("/run/spec/fails.STATUS", "")
    local got = forms.bundle({ bridge, { type = "theirs" } }, "STATUS")
    t.same({ 1, 123 }, { got.rc, got.json.code })
    assert.equal("1.1.0", call("VERSION", { type = "luacni" }).json.cniVersion)
  end)

  it("is a list of plugins, which are there", function()
    new()
    for text, says in pairs {
      [""] = "plugins: is missing: type luacni is a chain", [',"plugins":[]'] = "plugins: has no plugin in it",
      [',"plugins":{}'] = "plugins", [',"plugins":[{"type":"a/b"}]'] = 'is not the name of a plugin',
      [',"plugins":[{"type":"brigde"}]'] = 'there is no plugin "brigde"', [',"plugins":[5]'] = "plugins[0]",
    } do
      local got = call("ADD", { type = "luacni" }, { conf = '{"cniVersion":"1.1.0","name":"net","type":"luacni"' .. text .. "}" })
      assert.equal(1, got.rc)
      assert.is_truthy(got.json.msg:find(says, 1, true), got.out)
    end
    t.same(clean, picture())
  end)

  it("is told by validate that it asks the runtime for too little, or that its program is missing", function()
    t.needs "nft-nat"
    new()
    local path = "/run/spec/v.conflist"
    t.write(path, t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { { type = "luacni",
      plugins = t.list { bridge, portmap } } } })
    local out, status = cli.luacni { "validate", path }
    assert.equal(1, status)
    assert.is_truthy(out:find("plugins[1] (portmap): capabilities: the plugin luacni around it does not have portMappings",
      1, true), out)
    t.write(path, (cli.succeeds { "bundle", path }))
    assert.equal("", (cli.succeeds { "validate", path }))
    out, status = cli.luacni({ "validate", path }, { env = { "CNI_PATH=/usr/lib/cni" } })
    assert.equal(1, status)
    assert.is_truthy(out:find("no program luacni in /usr/lib/cni", 1, true), out)
  end)

  it("may be the one plugin of a .conf, as runtimes read it", function()
    t.needs "nft-nat"
    new()
    t.write("/etc/cni/net.d/10-one.conf", t.json { cniVersion = "1.1.0", name = "net", type = "luacni",
      plugins = t.list { bridge, firewall } })
    t.same("", (cli.succeeds { "validate", "net" }))
    cli.succeeds { "add", "net", "blue" }
    cli.succeeds { "check", "net", "blue" }
    cli.succeeds { "del", "net", "blue" }
    assert.equal("", t.records())
    t.run "rm -rf /etc/cni/net.d /var/lib/cni/results"
  end)

  it("is taken over from a list, and given back to one, by luacni's commands", function()
    t.needs("nft-nat", "ifb")
    new()
    local file = "/etc/cni/net.d/net.conflist"
    local function put(plugins) t.write(file, t.json { cniVersion = "1.1.0", name = "net", plugins = t.list(plugins) }) end
    put { bridge, { type = "luacni", capabilities = { bandwidth = true }, plugins = t.list { bandwidth, firewall } } }
    cli.succeeds { "validate", "net" }
    cli.succeeds { "add", "net", "blue", "--cap-args", t.json { bandwidth = given.bandwidth } }
    cli.succeeds { "check", "net", "blue" }
    cli.succeeds { "unbundle", "net", "--write" }
    cli.succeeds { "check", "net", "blue" }
    cli.succeeds { "bundle", "net", "--write" }
    t.same({ "luacni", 3 }, { t.decode(t.read(file)).plugins[1].type, #t.decode(t.read(file)).plugins[1].plugins })
    cli.succeeds { "update", "net", "blue", "--set", "mtu=1300", "--plugin", "bridge" }
    cli.succeeds { "del", "net", "blue" }
    t.run "rm -rf /etc/cni/net.d /var/lib/cni/results"
    assert.equal("", t.records())
  end)
end)

describe("luacni bundle and unbundle", function()
  before_each(new)

  local text = [[{ "cniVersion": "1.1.0", "name": "net", "n": 12345678901234567890, "disableCheck": true,
    "plugins": [ { "type": "bridge", "x": [], "y": {}, "s": "a \"b\" {[,:" },
      { "type": "portmap", "capabilities": { "portMappings": true, "z": false } }, { "type": "theirs", "f": 1.50 } ] }]]

  local function file(name, bytes)
    local path = "/run/spec/" .. name
    t.write(path, bytes)
    return path
  end

  it("give the one form and the other; all that is not known stays as it is written", function()
    local path = file("net.conflist", text)
    local bundled = cli.succeeds { "bundle", path }
    local list = t.decode(bundled)
    t.same({ 1, "luacni", { portMappings = true }, 3, true },
      { #list.plugins, list.plugins[1].type, list.plugins[1].capabilities, #list.plugins[1].plugins, list.disableCheck })
    for _, part in ipairs { '"n": 12345678901234567890', '"x": []', '"y": {}', [["s": "a \"b\" {[,:"]], '"f": 1.50' } do
      assert.is_truthy(bundled:find(part, 1, true), bundled)
    end
    local back = cli.succeeds { "unbundle", file("other.conflist", bundled) }
    assert.equal((text:gsub("%s", "")), (back:gsub("%s", "")))
    -- What is in the form already is the same.
    assert.equal(bundled, (cli.succeeds { "bundle", file("other.conflist", bundled) }))
    assert.equal(back, (cli.succeeds { "unbundle", path }))
    assert.equal(text, t.read(path))
  end)

  it("write the file where that is asked for, with its mode, and through a link", function()
    local path = file("net.conflist", text)
    t.run("chmod 640 " .. path .. "; ln -sf net.conflist /run/spec/link.conflist")
    assert.equal("", (cli.succeeds { "bundle", "/run/spec/link.conflist", "-w" }))
    assert.equal("640 file\n", t.run("stat -c '%a file' " .. path))
    assert.equal("luacni", t.decode(t.read(path)).plugins[1].type)
    assert.equal("net.conflist\n", t.run "readlink /run/spec/link.conflist")
    -- From the folder itself, through two.
    t.run "ln -sf link.conflist /run/spec/far.conflist"
    cli.succeeds({ "unbundle", "far.conflist", "-w" }, { cwd = "/run/spec" })
    t.same({ "bridge", "link.conflist\n" }, { t.decode(t.read(path)).plugins[1].type, t.run "readlink /run/spec/far.conflist" })
  end)

  it("refuse what is no list, and what cannot be written", function()
    local one = file("net.conf", '{"cniVersion":"1.1.0","name":"net","type":"bridge"}')
    cli.fails(2, { "bundle", one }, "that is one plugin, and no list")
    cli.fails(2, { "bundle" }, "CONF")
    cli.fails(2, { "bundle", "-", "--write" }, "--write is for a file", { stdin = text })
    t.same('{"cniVersion":"1.1.0","name":"net","type":"bridge"}', t.read(one))
    -- What is one plugin, and a chain.
    local chain = file("chain.conf", '{"cniVersion":"1.1.0","name":"net","type":"luacni","plugins":[{"type":"bridge"},{"type":"firewall"}]}')
    t.same({ "bridge", "firewall" }, { t.decode((cli.succeeds { "unbundle", chain })).plugins[1].type,
      t.decode((cli.succeeds { "unbundle", chain })).plugins[2].type })
    cli.fails(2, { "unbundle", chain, "--write" }, "a list has a name that ends in .conflist")
  end)
end)
