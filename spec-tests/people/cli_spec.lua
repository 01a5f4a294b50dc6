-- SPDX-License-Identifier: MIT
-- The command line for people, and under it: changing members of a JSON text without touching
-- the others.

local t = require "support"
local splice = require "cni.runtime.splice"
local world = require "world"

local conf = "/run/spec/demo.conflist"
local list = [[{
  "cniVersion": "1.0.0", "name": "demo",
  "plugins": [{ "type": "bridge", "bridge": "demo0", "isGateway": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.9.8.0/24" }]PAD],
              "routes": [{ "dst": "0.0.0.0/0" }] } }] }]]
list = list:gsub("PAD", "")

-- Run luacni in a network of its own; nothing may be left of it afterwards but the lease folder.
local function luacni(words, opts)
  opts = opts or {}
  local command = { t.build .. "/luacni", table.unpack(words) }
  return t.sh(command, opts)
end

local function usage(words, pattern)
  local out, status, err = luacni(words)
  assert.equal(2, status)
  assert.equal("", out)
  assert.equal(1, select(2, err:gsub("\n", "\n")), err)
  assert.is_truthy(err:find(pattern, 1, true), err)
end

local function nothing_left()
  assert.is_nil(t.link(nil, "demo0"))
  assert.same({}, t.files("/run/netns"))
  for name in pairs(t.files(t.lease_dir)) do assert.is_nil(name:find("10%.9%.8")) end
end

before_each(function() t.write(conf, list) end)
after_each(function()
  os.remove(conf)
  t.cleanup()
end)

local commands = { "types", "show", "doc", "new", "test", "link", "validate", "schema", "check-scripts", "bundle", "unbundle", "run", "add", "check", "del",
  "gc", "status", "version", "list", "tree", "explain", "repair", "update", "dhcp", "pool", "trace", "doctor", "completion" }

describe("the command line", function()
  it("helps, and says its version", function()
    for _, word in ipairs { "--help", "-h", "help" } do
      local out, status = luacni { word }
      assert.equal(0, status)
      for _, command in ipairs(commands) do
        assert.is_truthy(out:find("\n  luacni " .. command:gsub("%-", "%%-") .. "[ \n]"))
      end
      assert.equal(#commands, select(2, out:gsub("\n  luacni %l", "")))
    end
    assert.is_truthy(luacni({ "--version" }):find("^luacni %d+%.%d+"))
  end)

  it("says in one line what is wrong, and what was meant", function()
    usage({}, "--help")
    usage({ "rn" }, 'did you mean "run"?')
    usage({ "xyzzyx" }, 'unknown command "xyzzyx"')
    usage({ "show" }, "usage: luacni show TYPE")
    usage({ "show", "brigde" }, 'did you mean "bridge"?')
    usage({ "doc", "brigde" }, 'did you mean "bridge"?')
    usage({ "run" }, "usage: luacni run CONF")
    usage({ "run", conf }, "no command")
    usage({ "run", "--ifnam", "x", conf, "--", "true" }, 'did you mean "--ifname"?')
    usage({ "run", conf, "--ifname" }, "--ifname needs a value")
    usage({ "run", "--dry-run=yes", conf }, "takes no value")
    usage({ "run", conf, "ping", "--count", "1" }, "put -- before the command")
    usage({ "lsit" }, 'did you mean "list"?')
    usage({ "list", "--jsn" }, 'did you mean "--json"?')
    usage({ "list", "a", "b", "c" }, "usage: luacni list [NETWORK [WHO]]")
    usage({ "run", "/no/such/file", "--dry-run" }, "/no/such/file: No such file")
  end)

  it("helps with each command, with examples", function()
    for _, command in ipairs(commands) do
      for _, words in ipairs { { command, "--help" }, { command, "-h" }, { "help", command } } do
        local out, status, err = luacni(words)
        t.same({ 0, "" }, { status, err })
        local name = command:gsub("%-", "%%-")
        assert.is_truthy(out:find("^usage: luacni " .. name), out)
        assert.is_truthy(out:find("\n  luacni " .. name .. "[^\n]*\n$") or out:find("\n  CNI_PATH"), out)
        assert.is_truthy(out:find "[Ee]xit%s+status", out)
        assert.is_nil(out:find("\27", 1, true))
      end
    end
    -- Behind -- it is the command's.
    local out = luacni { "run", conf, "--", "printf", "%s\n", "--help" }
    assert.equal("--help\n", out)
  end)

  it("fails when its answer cannot be written, and not without a word", function()
    for _, words in ipairs { "types", "--help", "doc bridge", "show bridge", "types --json", "list --json", "tree --json",
      "explain --json", "gc --json", "doctor", "schema", "completion zsh", "version", "doc --markdown",
      "check-scripts --json", "validate --json " .. conf, "run --dry-run " .. conf } do
      local _, status, err = t.sh(("%s/luacni %s >/dev/full"):format(t.build, words))
      assert.equal(1, status, words)
      assert.is_truthy(err:find("No space left", 1, true), err)
    end
    -- Whoever has seen enough closes the pipe.
    local _, _, err = t.sh(("%s/luacni types | true"):format(t.build))
    assert.equal("", err)
  end)

  it("has command lines in the README and in its own help that use what there is", function()
    local options, lines, count = {}, {}, 0
    for _, command in ipairs(commands) do
      local help = luacni { command, "--help" }
      options[command] = {}
      for option in help:gmatch "\n  [-%a, ]*(%-%-[%l-]+)" do options[command][option] = true end
      for letter in help:gmatch "\n  (%-%a), " do options[command][letter] = true end
      for line in help:gmatch "\n  (luacni [^\n]+)" do lines[#lines + 1] = line end
    end
    local readme = t.read "README.md"
    for line in readme:gmatch "\n    %$? ?(luacni %l[^\n]*)" do lines[#lines + 1] = line end
    for block in readme:gmatch "```sh(\n.-)```" do
      for line in block:gmatch "\n(luacni [^\n]+)" do lines[#lines + 1] = line end
    end
    for _, line in ipairs(lines) do
      for command, words in line:gmatch "luacni (%l[%l-]*)([^;|<>&#]*)" do
        assert.is_table(options[command], line)
        -- Behind -- stands a program with options of its own; of what is traced, trace has the options before it.
        words = words:gsub("%s%-%-%s.*$", "")
        for option in words:gmatch "%s(%-[%a-]+)" do
          assert.is_true(options[command][option], line)
          count = count + 1
        end
      end
    end
    assert.is_true(#lines > 50 and count > 12, #lines .. ", " .. count)
    -- Those that have --json are named.
    local named, have = {}, {}
    for command in readme:match "\n(`list`[^.]-)have%s`%-%-json`":gmatch "`([%l-]+)`" do named[command] = true end
    for command, known in pairs(options) do have[command] = known["--json"] end
    t.same(have, named)
  end)

  it("has a licence beside it, which the headers name, and a change log of its version", function()
    assert.matches("^MIT License\n", t.read "LICENSE")
    assert.matches("SPDX-License-Identifier: MIT", t.read "host/main.c", 1, true)
    local version = luacni({ "--version" }):match "%d[%d.]*"
    assert.is_truthy(t.read "CHANGELOG.md":find("\n## " .. version:gsub("%.", "%%.") .. "[,\n]"))
  end)

  it("documents in TYPES.md what the scripts declare", function()
    local out = luacni { "doc", "--markdown" }
    assert.equal(out, t.read("TYPES.md"):match("\n(### .*)$"), "run make types")
    assert.is_truthy(out:find("### vlan", 1, true))
    assert.is_truthy(out:find("\n| `vlanId` | integer from 0 to 4094 | `0` |", 1, true))
    assert.is_nil(luacni({ "doc", "--markdown", "vlan" }):find("### bridge", 1, true))
  end)

  it("has scripts in the README that work as they stand: ADD, CHECK, DEL", function()
    local scripts, hook = {}, nil
    for script in t.read("README.md"):gmatch("```lua\n(.-)```") do
      -- Others are parts of one.
      if script:find "^return {\n  match" then
        hook = script
      elseif ("\n" .. script):find "\nreturn {" then
        scripts[#scripts + 1] = script
      end
    end
    assert.equal(3, #scripts)
    local function try(type, script, config)
      t.write("/etc/luacni/plugins/" .. type .. ".lua", script)
      local w, call = world.new(t.merge({ type = type }, config)), { type = "luacni" }
      local before = w:picture()
      local result = w:add(call)
      w:check(call)
      return w, result, function()
        w:del(call)
        t.same(before, w:picture())
        t.cleanup()
      end
    end

    local w, result, finish = try("smallest", scripts[1])
    assert.equal("127.0.0.1/8", result.ips[1].address)
    assert.is_true(t.has_flag(t.link(w.pods[1], "lo"), "UP"))
    finish()
    w, result, finish = try("wire", scripts[2], { mtu = 1400,
      ipam = { type = "host-local", subnet = "10.9.8.0/24" } })
    local port = w:port()
    t.same({ port.ifname, "eth0" }, { result.interfaces[1].name, result.interfaces[2].name })
    t.same({ 1400, "UP" }, { port.mtu, port.operstate })
    t.same({ "10.9.8.2/24" }, world.addrs(w.pods[1], "eth0"))
    finish()
    assert.is_nil(world.lease("10.9.8.2"))
    w, result, finish = try("answering", scripts[3], { bridge = "arp0", removeUnused = true,
      ipam = { type = "host-local", subnet = "10.9.8.0/24" } })
    assert.equal("arp0", result.interfaces[1].name)
    assert.equal("1\n", t.run({ "cat", "/proc/sys/net/ipv4/conf/arp0/proxy_arp" }, { host = w.host }))
    finish()

    w = world.new { type = "bridge", bridge = "br0", removeUnused = true,
      ipam = { type = "host-local", subnet = "10.9.8.0/24" } }
    t.write("/etc/luacni/hooks.d/tenants.lua", assert(hook))
    local before = w:picture()
    local blue = { conf = { name = "tenant-a" }, args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue" }
    assert.same({ nameservers = { "192.0.2.53" } }, w:add(blue).dns)
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    assert.matches("prohibit 169%.254%.169%.254", t.run({ "ip", "route" }, { host = w.pods[1] }))
    w:check(blue)
    w:del(blue)
    t.same(before, w:picture())
    assert.is_nil(w:add({ conf = { name = "tenant-a" } }).dns)
  end)

  it("has a tutorial in the README whose commands work as they stand", function()
    local tutorial = t.read("README.md"):match("\n## A type of your own.-```sh\n(.-)```")
    t.run("mkdir -p /run/spec/bin /run/spec/work; cp " .. t.build .. "/luacni /run/spec/bin; "
      .. "for type in loopback host-local; do ln -s luacni /run/spec/bin/$type; done")
    local out, status, err = t.sh("cd /run/spec/work; export PATH=" .. t.build .. ":$PATH CNI_PATH=/run/spec/bin; set -e\n"
      .. tutorial, { timeout = 60 })
    assert.equal(0, status, out .. err)
    for _, text in ipairs { "3 successes / 0 failures", "create veth pair", "mtu 1400", "inet 10.9.8.", "MTU of both ends" } do
      assert.is_truthy(out:find(text, 1, true), text .. out .. err)
    end
    t.write("/run/spec/work/readme_spec.lua", assert(t.read("README.md"):match("```lua\n(local spec = .-)```")))
    out, status, err = t.sh("cd /run/spec/work; " .. t.build .. "/luacni test readme_spec.lua", { timeout = 60 })
    assert.equal(0, status, out .. err)
    assert.truthy(t.run("readlink /run/spec/bin/wire"):find("luacni", 1, true))
    t.run("rm -rf /etc/luacni/plugins/wire.lua /etc/luacni/spec /run/spec/bin /run/spec/work")
  end)

  it("lists types, shows sources, documents keys", function()
    local out = luacni { "types" }
    assert.is_truthy(out:find("bridge +built in"))
    assert.equal(t.read("plugins/bridge.lua"), (luacni { "show", "bridge" }))
    assert.is_truthy(luacni({ "doc", "bridge" }):find("\nisGateway +boolean +false"))
    assert.equal(0, select(2, luacni { "doc", "loopback" }))
    t.write("/etc/luacni/plugins/own.lua", "return { add = function() end }")
    assert.is_truthy(luacni({ "types" }):find("own +/etc/luacni/plugins/own%.lua"))
  end)

  it("shows a shipped script into the file that it is to become; what stands there is shown then", function()
    local own = "/etc/luacni/plugins/bridge.lua"
    t.write(own, "") -- as the shell does, before the program runs
    local source = luacni { "show", "bridge" }
    assert.equal(t.read("plugins/bridge.lua"), source)
    t.write(own, source .. "-- mine\n")
    assert.equal(source .. "-- mine\n", (luacni { "show", "bridge" }))
    t.write("/etc/luacni/plugins/own.lua", "") -- nothing is shipped under this name
    local empty, status = luacni { "show", "own" }
    t.same({ "", 0 }, { empty, status })
    os.remove(own)
    os.remove("/etc/luacni/plugins/own.lua")
  end)

  it("validates a configuration", function()
    assert.equal(0, select(2, luacni { "validate", conf }))
    t.write(conf, (list:gsub("isGateway", "isGatway")))
    local out, status = luacni { "validate", conf }
    assert.equal(1, status)
    assert.is_truthy(out:find('"isGatway", did you mean "isGateway"', 1, true), out)
    t.write(conf, (list:gsub('"isGateway": true', '"isGateway": 1')))
    out, status = luacni { "validate", conf }
    assert.equal(1, status)
    assert.is_truthy(out:find("isGateway", 1, true), out)
    t.write(conf, "{ nonsense")
    assert.equal(1, select(2, luacni { "validate", conf }))
  end)
end)

describe("luacni list and explain", function()
  it("say that there is nothing, and name what was asked for", function()
    t.write("/etc/cni/net.d/net.conflist", '{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"loopback"}]}')
    finally(function() os.remove "/etc/cni/net.d/net.conflist" end)
    for _, command in ipairs { "list", "explain" } do
      t.same({ "", 0, "nothing is attached\n" }, { luacni { command } })
      t.same({ "", 0, "nothing is attached to network net for container c9\n" }, { luacni { command, "net", "c9" } })
    end
    t.same({ "[]\n", 0, "" }, { luacni { "list", "--json" } })
  end)

  it("name every attachment once, whatever types worked for it", function()
    local w = world.new({ type = "bridge", bridge = "br0", ipam = { type = "host-local", subnet = "10.9.8.0/24" } },
      { pods = 2, neighbours = false })
    w:add()
    w:add { id = "c2", pod = 2, conf = { name = "other" } }
    local out = luacni { "list" }
    assert.is_truthy(out:find("\nnet +c1 +eth0 +pod1 +bridge +%d+s +10%.9%.8%.2/24\n"), out)
    assert.is_truthy(out:find("\nother +c2 +eth0 +pod2 +bridge +%d+s +10%.9%.8%.2/24\n"), out)
    assert.is_nil(luacni({ "list", "net" }):find("c2", 1, true))
    assert.is_nil(luacni({ "list", "net", "c2" }):find("c1", 1, true))
    local first = t.decode((luacni { "list", "--json" }))[1]
    t.same({ "c1", "eth0", { "10.9.8.2/24" }, "attached", w.pods[1].path, { "bridge" } }, { first.container,
      first.interface, first.addresses, first.state, first.sandbox, first.types })
    assert.is_truthy(math.abs(first.since - os.time()) < 60)
    assert.is_truthy(luacni({ "explain", "net" }):find("lease an address of network net", 1, true))
    w:del()
    w:del { id = "c2", pod = 2, conf = { name = "other" } }
    t.same({ "", 0, "nothing is attached\n" }, { luacni { "list" } })
  end)
end)

describe("luacni new and link", function()
  local folder = "/run/spec/bin"

  before_each(function()
    t.run(("mkdir -p %s; cp %s/luacni %s; ln -s luacni %s/loopback"):format(folder, t.build, folder, folder))
  end)
  after_each(function() t.run("rm -rf /etc/luacni/plugins /etc/luacni/spec " .. folder) end)

  it("make a type that a runtime finds", function()
    local out, status, err = luacni { "new", "mine" }
    t.same({ "/etc/luacni/plugins/mine.lua\n/etc/luacni/spec/mine_spec.lua\n", 0 }, { out, status })
    assert.is_truthy(err:find("luacni link mine", 1, true))
    local env = { env = { "CNI_PATH=" .. folder } }
    assert.is_truthy(luacni({ "types" }, env):find("\nmine +/etc/luacni/plugins/mine%.lua +none: luacni link mine\n"))
    t.same({ folder .. "/mine\n", 0, "" }, { luacni({ "link", "mine" }, env) })
    t.same({ folder .. "/mine\n", 0, "" }, { luacni({ "link", "mine" }, env) })
    assert.is_truthy(luacni({ "types" }, env):find(" " .. folder .. "/mine", 1, true))
    local w = world.new({ type = "mine", mtu = 1400, ipam = { type = "static",
      addresses = { { address = "10.9.8.7/24" } } } }, { neighbours = false })
    local got = t.cni { verb = "ADD", type = "mine", bin = folder, conf = w:config(), host = w.host,
      netns = w.pods[1] }
    assert.equal(0, got.rc, got.out)
    t.same({ "10.9.8.7/24" }, world.addrs(w.pods[1], "eth0"))
    assert.is_truthy(luacni({ "doc", "mine" }):find("mtu", 1, true))
  end)

  it("begin with a copy of another type", function()
    t.same({ "/etc/luacni/plugins/bridge.lua\n/etc/luacni/spec/bridge_spec.lua\n", 0, "" }, { luacni { "new", "bridge", "--from", "bridge" } })
    assert.equal(t.read "plugins/bridge.lua", t.read "/etc/luacni/plugins/bridge.lua")
    assert.equal("644\n", t.run "stat -c %a /etc/luacni/plugins/bridge.lua")
  end)

  it("make a file whole or not at all", function()
    t.run "mkdir -p /etc/luacni/plugins; mount -t tmpfs -o size=4k,mode=755 full /etc/luacni/plugins"
    local out, status, err = luacni { "new", "bridge", "--from", "bridge" }
    local left = t.run "ls -A /etc/luacni/plugins; umount /etc/luacni/plugins"
    t.same({ "", 1, "" }, { out, status, left })
    assert.is_truthy(err:find("No space left on device", 1, true), err)
  end)

  it("refuse what is there, and what cannot be", function()
    usage({ "new", "bridge" }, "--from bridge")
    usage({ "new", "mine", "--from", "brigde" }, 'did you mean "bridge"?')
    usage({ "new", "../mine" }, "cannot be the name of a type")
    usage({ "new", "luacni" }, "cannot be the name of a type")
    assert.is_nil(t.read "/etc/luacni/plugins/mine.lua")
    luacni { "new", "mine" }
    usage({ "new", "mine" }, "is there already")
    usage({ "link", "nobody" }, 'there is no type "nobody"')
    usage({ "link", "mine", "--dir", "/run/none" }, "there is no folder /run/none")
    t.write(folder .. "/mine", "somebody's")
    local out, status, err = luacni({ "link", "mine" }, { env = { "CNI_PATH=" .. folder } })
    t.same({ "", 1 }, { out, status })
    assert.is_truthy(err:find("/mine is there, and is no link to luacni", 1, true), err)
    assert.equal("somebody's", t.read(folder .. "/mine"))
    assert.is_truthy(luacni({ "types" }, { env = { "CNI_PATH=" .. folder } }):find("mine (not luacni)", 1, true))
  end)
end)

describe("luacni run", function()
  it("runs a command in the network, and takes that down again", function()
    local out, status, err = luacni { "run", conf, "--", "ip", "-br", "-4", "addr", "show", "eth0" }
    assert.equal(0, status, err)
    assert.is_truthy(out:find("^eth0.*10%.9%.8%.2/24"), out)
    nothing_left()
  end)

  it("passes standard input and output through, and the exit status", function()
    local out, status, err = luacni({ "run", conf, "--", "sh", "-c", "cat; echo err >&2; exit 37" },
      { stdin = "some text" })
    assert.equal("some text", out)
    assert.equal("err\n", err)
    assert.equal(37, status)
    assert.equal(128 + 15, select(2, luacni { "run", conf, "--", "sh", "-c", "kill -TERM $$" }))
    assert.equal(127, select(2, luacni { "run", conf, "--", "/no/such/command" }))
    assert.equal(126, select(2, luacni { "run", conf, "--", "/etc/passwd" }))
    nothing_left()
  end)

  it("takes the configuration from standard input, and another name for the interface", function()
    local out, status = luacni({ "run", "-", "--ifname=net7", "--", "ip", "-br", "link" },
      { stdin = list })
    assert.equal(0, status)
    assert.is_truthy(out:find("net7@", 1, true))
    assert.is_nil(out:find("eth0", 1, true))
    nothing_left()
  end)

  it("takes a single plugin's configuration", function()
    t.write(conf, '{ "cniVersion": "0.3.1", "name": "lo", "type": "loopback" }')
    local out = luacni { "run", conf, "--", "ip", "-br", "link", "show", "lo" }
    assert.is_truthy(out:find("LOOPBACK,UP", 1, true))
  end)

  it("says what failed, and takes back what was done", function()
    local bad = list:gsub("}%]\n?%s*}$", '}, { "type": "loopback", "prevResult": 7 },'
      .. ' { "type": "no-such" }] }')
    t.write(conf, bad)
    local out, status, err = luacni { "run", conf, "--", "echo", "ran" }
    assert.equal(125, status)
    assert.equal("", out)
    assert.is_truthy(err:find("no%-such"), err)
    nothing_left()
  end)

  it("takes down the network when it is told to end", function()
    for _, signal in ipairs { "TERM", "INT", "HUP" } do
      -- A shell starts background commands with SIGINT ignored.
      local words = { "env", "--default-signal=INT", t.build .. "/luacni", "run", conf, "--",
        "sh", "-c", "touch /run/spec/up; exec sleep 60" }
      for i, word in ipairs(words) do words[i] = t.quote(word) end
      local out = t.run(("%s & pid=$!; while [ ! -e /run/spec/up ]; do sleep 0.05; done; "
        .. "kill -%s $pid; wait $pid; echo $?; rm /run/spec/up")
        :format(table.concat(words, " "), signal), { timeout = 20 })
      local number = ({ TERM = 15, INT = 2, HUP = 1 })[signal]
      assert.equal(("%d\n"):format(128 + number), out)
      nothing_left()
    end
  end)

  it("gives a plugin its own bytes, and no others", function()
    t.write("/run/spec/bin/spy", "#!/bin/sh\ncat >/run/spec/seen.$CNI_COMMAND\n"
      .. "env >/run/spec/env.$CNI_COMMAND\n"
      .. [[if [ $CNI_COMMAND = ADD ]; then echo '{"cniVersion":"1.0.0","ips":[],"x":{}}'; fi]])
    t.run "chmod 755 /run/spec/bin/spy"
    t.write(conf, [[{ "cniVersion": "1.0.0", "name": "demo", "plugins": [
      { "type": "spy", "empty": {}, "none": [], "n": 1.50, "u": "\u00e9<&>", "name": "old",
        "capabilities": { "mac": true, "ips": true, "bandwidth": false } },
      { "type": "spy" }] }]])
    local _, status, err = luacni({ "run", conf, "--args", "A=b",
      "--cap-args", '{"mac":"0a:00:00:00:00:01","bandwidth":{}}', "--", "true" },
      { env = { "CNI_PATH=/run/spec/bin" } })
    assert.equal(0, status, err)
    -- DEL goes backwards, so the last one seen is the first plugin's.
    local del = t.read("/run/spec/seen.DEL")
    assert.is_truthy(del:find('"empty":{},"none":[],"n":1.50,"u":"\\u00e9<&>","name":"demo"', 1,
      true), del)
    assert.is_truthy(del:find('"runtimeConfig":{"mac":"0a:00:00:00:00:01"}', 1, true), del)
    assert.is_truthy(del:find('"prevResult":{"cniVersion":"1.0.0","ips":[],"x":{}}', 1, true), del)
    local add = t.read("/run/spec/seen.ADD")
    assert.is_truthy(add:find('"prevResult":', 1, true), add)
    assert.is_truthy(t.read("/run/spec/env.ADD"):find("\nCNI_ARGS=A=b\n"))
    t.run "rm -r /run/spec/bin /run/spec/seen.* /run/spec/env.*"
  end)

  it("only says what it would do", function()
    local before = t.snapshot()
    local out, status, err = luacni { "run", conf, "--dry-run" }
    assert.equal(0, status, err)
    assert.is_truthy(out:find("demo0", 1, true))
    assert.is_truthy(out:find("veth", 1, true))
    t.same(before, t.snapshot())
  end)
end)

describe("splice", function()
  it("sets, adds and removes members and leaves the others' bytes", function()
    local text = '{ "a" : [ 1,{"b":[]} , "]}" ],"n\\u0061me":"x\\"y", "z": -1.50e3 }'
    assert.equal('{"a":[ 1,{"b":[]} , "]}" ],"n\\u0061me":"x\\"y","z":-1.50e3}',
      splice.set(text, {}))
    assert.equal('{"a":[ 1,{"b":[]} , "]}" ],"n\\u0061me":"new","z":-1.50e3,"q":{}}',
      splice.set(text, { name = '"new"', q = "{}" }))
    assert.equal('{"n\\u0061me":"x\\"y"}', splice.set(text, { a = false, z = false, none = false }))
    assert.equal("{}", splice.set(" { } ", {}))
    assert.equal('{"a":1}', splice.set("{}", { a = "1" }))
  end)

  it("counts the last of two members, and sets it once", function()
    local text = '{"a":1,"a":2}'
    assert.equal("2", splice.get(text, "a"))
    assert.is_nil(splice.get(text, "b"))
    assert.equal('{"a":3}', splice.set(text, { a = "3" }))
  end)

  it("takes white space away, but for that in strings", function()
    assert.equal('{"a b":[1,"x\\" y",{"c":" "}]}', splice.compact('\n{ "a b" : [ 1,\t"x\\" y" , {"c":" "} ] }\r\n'))
    assert.equal("{}", splice.compact "{}")
  end)

  it("takes lists apart", function()
    assert.same({ "1", '"a,]"', "[ ]", '{"x":[1]}', "null" },
      splice.elements(' [1, "a,]" ,[ ],{"x":[1]} , null ]'))
    assert.same({}, splice.elements("[ ]"))
  end)
end)
