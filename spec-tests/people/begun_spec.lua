-- SPDX-License-Identifier: MIT
-- A luacni add that was killed before its attachment was stored: who tells of it, and who takes it back.

local cli = require "cli"
local t = require "support"

local folder, results, runs = "/etc/cni/net.d", "/var/lib/cni/results", "/run/luacni/runs"
local host, blue, id
local luacni, succeeds, fails = cli.luacni, cli.succeeds, cli.fails

local spies = { env = { "CNI_PATH=/run/spec/bin" } }
local ends_it = "[ $CNI_COMMAND != ADD ] || kill -9 $PPID"

-- Somebody else's plugin, which leaves a file by its name and notes what it was called with; and does what the shell
-- words say.
local function foreign(name, words)
  t.write("/run/spec/bin/" .. name, ([[#!/bin/sh
input=$(cat)
printf '%%s %%s %%s %%s %%s\n%%s\n' "${0##*/}" "$CNI_COMMAND" "$CNI_IFNAME" "$CNI_NETNS" "$CNI_ARGS" "$input" >>/run/spec/calls
[ $CNI_COMMAND != ADD ] || >/run/spec/marks/${0##*/}
%s
[ $CNI_COMMAND != DEL ] || rm -f /run/spec/marks/${0##*/}
[ $CNI_COMMAND != ADD ] || printf '{"cniVersion":"1.1.0"}'
]]):format(words or ""))
  t.run("chmod 755 /run/spec/bin/" .. name)
end

-- The calls so far, and each one's standard input; forgotten then.
local function calls()
  local heads, inputs = {}, {}
  for head, input in (t.read "/run/spec/calls" or ""):gmatch "([^\n]*)\n([^\n]*)\n" do
    heads[#heads + 1], inputs[#inputs + 1] = head, t.decode(input)
  end
  os.remove "/run/spec/calls"
  return heads, inputs
end

local function put(...)
  t.write(folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { ... } })
end

local function names(path)
  local list = {}
  for name in pairs(t.files(path)) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- Nothing is left of any ADD.
local function nothing()
  t.same({ {}, {}, {}, "" }, { names(runs), names(results), names "/run/spec/marks", t.records() })
end

-- An ADD by one and two, in which two ends luacni.
local function killed(...)
  foreign("two", ends_it)
  local _, status = luacni({ "add", "net", "blue", ... }, spies)
  assert.equal(137, status)
  foreign "two"
  t.same({ { "one", "two" }, {} }, { names "/run/spec/marks", names(results) })
  calls()
end

local function listed() return t.decode((succeeds { "list", "--json" })) end

before_each(function()
  host = t.host "node"
  cli.host = host
  t.run "mkdir -p /run/spec/marks"
  blue = t.netns "blue"
  id = "cnitool-" .. t.run({ "sh", "-c", "printf %s " .. blue.path .. " | sha512sum" }):sub(1, 20)
  foreign "one"
  foreign "two"
  put({ type = "one", capabilities = { mac = true } }, { type = "two" })
end)
after_each(function()
  t.run("rm -rf /run/spec/bin /run/spec/calls /run/spec/marks " .. folder .. " " .. results .. " " .. runs)
  t.cleanup()
end)

describe("a luacni add that was killed", function()
  it("is told of by list, explain, check and doctor", function()
    killed()
    local entry = listed()[1]
    t.same({ "net", id, "eth0", blue.path, { "one", "two" }, "begun", false, false }, { entry.network, entry.container,
      entry.interface, entry.sandbox, entry.types, entry.state, entry.recorded, entry.stored })
    assert.is_truthy(succeeds { "list", "net", "blue" }:find("(begun and not ended, no record)", 1, true))
    assert.is_truthy(succeeds { "explain" }:find("(begun and not ended)", 1, true))
    fails(1, { "check", "net", "blue" }, "has not ended; luacni del takes back what there is of it", spies)
    local found = {}
    for _, item in ipairs(t.decode((luacni { "doctor", "--json" }))) do
      if item.check == "leftovers" then found[#found + 1] = { item.level, item.text, item.mend } end
    end
    t.same({ { "error", ("net  %s eth0  left of luacni add"):format(id), "luacni gc" } }, found)
    -- Looks change nothing.
    t.same({ { "one", "two" }, {} }, { names "/run/spec/marks", (calls()) })
    succeeds({ "del", "net", "blue" }, spies)
    t.same({}, listed())
    nothing()
  end)

  it("takes the plugin that it has called along, and what that has called", function()
    -- Who is killed, and what the plugin does behind that: it leaves a mark unless it is ended.
    local late = "sleep 0.4; [ $CNI_COMMAND != ADD ] || >/run/spec/marks/late"
    local function ends(words)
      foreign("two", words)
      local _, status = luacni({ "add", "net", "blue" }, { env = { "CNI_PATH=/run/spec/bin:" .. t.build .. "/cni-bin" } })
      t.run "sleep 1"
      local is_late = t.read "/run/spec/marks/late" ~= nil
      foreign "two"
      succeeds({ "del", "net", "blue" }, spies)
      t.run "rm -f /run/spec/marks/*"
      return { status, is_late }
    end
    t.same({ 137, false }, ends("[ $CNI_COMMAND != ADD ] || kill -9 $PPID; " .. late))
    t.same({ 0, true }, ends(late))
    -- A type of ours stands between.
    put { type = "ptp", ipam = { type = "two" } }
    t.same({ 137, false },
      ends("[ $CNI_COMMAND != ADD ] || kill -9 $(sed -n 's/^PPid:[[:space:]]*//p' /proc/$PPID/status); " .. late))
  end)

  it("is taken back by one del, or gc, though a plugin fails at half of what it was killed over, once", function()
    local words = "if [ $CNI_COMMAND = DEL ] && rm /run/spec/half 2>/dev/null; then exit 1; fi"
    for _, take in ipairs { { "del", "net", "blue" }, { "gc" } } do
      killed()
      foreign("two", words)
      t.write("/run/spec/half", "")
      succeeds(take, spies)
      assert.is_nil(t.read "/run/spec/half")
      nothing()
    end
    -- One that goes on failing fails.
    killed()
    foreign("two", "[ $CNI_COMMAND != DEL ] || exit 1")
    fails(1, { "del", "net", "blue" }, "DEL two: ", spies)
    foreign "two"
    succeeds({ "del", "net", "blue" }, spies)
    nothing()
  end)

  it("is taken back by del, with what it was given, though the network is another now", function()
    killed("--args", "A=b", "--cap-args", '{"mac":"0a:00:00:00:00:01"}')
    put { type = "none" }
    succeeds { "del", "net", "blue" }
    local heads, inputs = calls()
    t.same({ "two DEL eth0 /run/netns/blue A=b", "one DEL eth0 /run/netns/blue A=b" }, heads)
    t.same({ "0a:00:00:00:00:01", nil }, { inputs[2].runtimeConfig.mac, inputs[2].prevResult })
    nothing()
    -- It is over.
    fails(1, { "del", "net", "blue" }, 'there is no plugin "none"', spies)
  end)

  it("is taken back by del when its ID or its namespace is named, and by no other", function()
    killed("--id", "c1", "-i", "net3")
    succeeds({ "del", "net", "blue" }, spies)
    succeeds({ "del", "net", "--id", "c2", "-i", "net3" }, spies)
    succeeds({ "del", "net", "--id", "c1" }, spies)
    assert.equal("begun", listed()[1].state)
    calls()
    succeeds { "del", "net", "blue", "-i", "net3" }
    t.same({ "two DEL net3 /run/netns/blue ", "one DEL net3 /run/netns/blue " }, (calls()))
    nothing()
  end)

  it("is taken back by gc, once", function()
    killed("--args", "A=b")
    put { type = "none" }
    local text = ("net  %s eth0  left of luacni add"):format(id)
    assert.equal(text .. "\n", (succeeds { "gc", "--dry-run" }))
    t.same({ { "one", "two" }, {} }, { names "/run/spec/marks", (calls()) })
    assert.equal(text .. ": taken away\n", (succeeds { "gc" }))
    t.same({ "two DEL eth0 /run/netns/blue A=b", "one DEL eth0 /run/netns/blue A=b" }, (calls()))
    nothing()
    t.same({ "", "nothing is left of anything dead\n" }, { succeeds { "gc" } })
  end)

  it("is taken back before the same is added again", function()
    killed("--args", "A=b")
    local out, err = succeeds({ "add", "net", "blue" }, spies)
    t.same({ { cniVersion = "1.1.0" }, ("an ADD of eth0 of container %s to network net has not ended: what it had left "
      .. "is taken back\n"):format(id) }, { t.decode(out), err })
    t.same({ "two DEL eth0 /run/netns/blue A=b", "one DEL eth0 /run/netns/blue A=b", "one ADD eth0 /run/netns/blue ",
      "two ADD eth0 /run/netns/blue " }, (calls()))
    t.same({ "attached", {} }, { listed()[1].state, names(runs) })
    fails(1, { "add", "net", "blue" }, "is already attached", spies)
    t.same({ {}, "attached" }, { names(runs), listed()[1].state })
    succeeds({ "del", "net", "blue" }, spies)
    nothing()
  end)

  it("stays known as long as something of it does not go", function()
    killed()
    foreign("two", "[ $CNI_COMMAND != DEL ] || { echo '{\"code\":11,\"msg\":\"it stays\"}'; exit 1; }")
    local bytes = t.files(runs)
    fails(1, { "add", "net", "blue" }, ("an ADD of eth0 of container %s to network net has not ended, and what it has left "
      .. "does not go: DEL two: it stays"):format(id), spies)
    fails(1, { "del", "net", "blue" }, "DEL two: it stays", spies)
    fails(1, { "gc" }, "left of luacni add: DEL two: it stays", spies)
    t.same({ bytes, { "two" } }, { t.files(runs), names "/run/spec/marks" })
    foreign "two"
    succeeds { "gc" }
    nothing()
  end)

  it("stays known when it failed by itself and could not be taken back", function()
    foreign("two", "echo '{\"code\":11,\"msg\":\"no '$CNI_COMMAND'\"}'; exit 1")
    fails(1, { "add", "net", "blue" }, "ADD two: no ADD; taking it back failed too: DEL two: no DEL", spies)
    t.same({ "begun", { "two" } }, { listed()[1].state, names "/run/spec/marks" })
    foreign "two"
    succeeds({ "del", "net", "blue" }, spies)
    nothing()
  end)

  it("is taken back by another configuration, which del is given as a file, when its plugins are gone", function()
    killed()
    os.remove "/run/spec/bin/two"
    local way = "; luacni del goes by another configuration than that of its ADD when NETWORK is a file"
    for _, words in ipairs { { "add", "net", "blue" }, { "del", "net", "blue" }, { "gc" } } do
      fails(1, words, 'there is no plugin "two" in /run/spec/bin' .. way, spies)
    end
    t.write("/run/spec/bin/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { { type = "one" } } })
    succeeds({ "del", "/run/spec/bin/net.conflist", "blue" }, spies)
    os.remove "/run/spec/marks/two"
    nothing()
  end)

  it("has nothing to do with another namespace that has its path by now", function()
    for _, again in ipairs { "gc", "del", "add" } do
      killed()
      t.run "ip netns del blue; ip netns add blue"
      succeeds(again == "gc" and { "gc" } or { again, "net", "blue" }, spies)
      local heads = calls()
      t.same({ "two DEL eth0  ", "one DEL eth0  " }, { heads[1], heads[2] }, again)
      if again == "add" then succeeds({ "del", "net", "blue" }, spies) end
      nothing()
    end
    -- Where it has another path as well, that is as good.
    killed("--id", "c1")
    t.run "touch /run/netns/red; mount --bind /run/netns/blue /run/netns/red; ip netns del blue"
    succeeds({ "del", "net", "red", "--id", "c1" }, spies)
    t.same({ "two DEL eth0 /run/netns/red ", "one DEL eth0 /run/netns/red " }, (calls()))
    t.run "ip netns del red"
    nothing()
  end)
end)

-- An ADD in which two waits for a file: lines of a shell meanwhile, and what they print.
local function at_work(lines)
  foreign("two", "[ $CNI_COMMAND != ADD ] || { >/run/spec/there; while [ ! -e /run/spec/go ]; do sleep 0.02; done; }")
  local script = ([[ export CNI_PATH=/run/spec/bin; luacni=%s/luacni
    $luacni add net blue >/run/spec/said 2>&1 & add=$!
    while [ ! -e /run/spec/there ]; do sleep 0.02; done
    %s
    >/run/spec/go; wait $add; echo add $?; wait; cat /run/spec/rest 2>/dev/null
    rm -f /run/spec/there /run/spec/go /run/spec/rest ]]):format(t.build, lines)
  return (t.sh({ "timeout", "60", "sh", "-c", script }, { host = host }))
end

describe("a luacni add that is at work", function()
  it("is let be by gc, which tells plugins that it lives, and is unfinished for list", function()
    assert.equal("folder 700 file 600\nnothing is left of anything dead\n0\nunfinished\nadd 0\n", at_work [[
      echo folder $(stat -c %a /run/luacni/runs) file $(stat -c %a /run/luacni/runs/*)
      $luacni gc net 2>&1; echo $?
      $luacni list --json | sed -n 's/.*"state": "\(.*\)".*/\1/p']])
    local heads, inputs = calls()
    t.same({ "one ADD eth0 /run/netns/blue ", "two ADD eth0 /run/netns/blue ", "one GC   ", "two GC   " }, heads)
    for _, n in ipairs { 3, 4 } do
      t.same({ { containerID = id, ifname = "eth0" } }, inputs[n]["cni.dev/valid-attachments"])
    end
    t.same({ "attached", {} }, { listed()[1].state, names(runs) })
  end)

  it("is waited for by the same add, which is refused then, and by del, which takes it away", function()
    local out = at_work [[
      { $luacni add net blue 2>&1; echo $?; } >/run/spec/rest & sleep 0.3; [ -s /run/spec/rest ] && echo early]]
    t.same("add 0\nluacni: eth0 of container " .. id .. " is already attached to network net; luacni del takes it away\n1\n",
      out)
    succeeds({ "del", "net", "blue" }, spies)
    calls()
    assert.equal("add 0\n0\n", at_work [[
      { $luacni del net blue 2>&1; echo $?; } >/run/spec/rest & sleep 0.3; [ -s /run/spec/rest ] && echo early]])
    t.same({ "one ADD", "two ADD", "two DEL", "one DEL" }, { table.unpack((function()
      local list = {}
      for i, head in ipairs((calls())) do list[i] = head:match "^%S+ %S+" end
      return list
    end)()) })
    nothing()
  end)
end)

describe("what has begun, in plain Lua,", function()
  it("is waited for no longer than a plugin's call waits, and who holds it is said", function()
    local begun, journal = require "cni.runtime.begun", require "cni.record.journal"
    local patience, owner = journal.patience, { network = "net", id = "c1", ifname = "eth0" }
    local first <close> = begun.open(owner)
    journal.patience = 100
    for _, open in ipairs { begun.open, begun.find } do
      local ok, err = pcall(open, owner)
      t.same({ false, 11, "luacni still works on eth0 of container c1, network net" }, { ok, err.code, err.msg })
      assert.is_truthy(tostring(err):find("; it is locked by process %d+ %("), tostring(err))
    end
    journal.patience = patience
    first:close()
    t.same({ {}, nil }, { names(runs), begun.find(owner) })
  end)

  it("is known by names of any length", function()
    local begun = require "cni.runtime.begun"
    local long = { network = ("n"):rep(150), id = ("c"):rep(150), ifname = "eth0" }
    local other = { network = long.network, id = long.id, ifname = "eth1" }
    local first <close> = begun.open(long)
    local second <close> = begun.open(other)
    for i, mark in ipairs { first, second } do
      mark:note { network = { name = long.network, bytes = t.json { cniVersion = "1.0.0", name = long.network,
        plugins = { { type = "one" } } } }, id = long.id, ifname = "eth" .. i - 1, netns = blue.path, path = "/run/spec/bin" }
    end
    first:close()
    second:close()
    t.same({ long.id, "eth1" }, { begun.look(other).id, begun.look(other).ifname })
    local found = {}
    for item in begun.each(long.network) do
      local mark <close> = item
      found[#found + 1] = mark.ifname
    end
    table.sort(found)
    t.same({ "eth0", "eth1" }, found)
  end)
end)

describe("the file of a luacni add that was killed", function()
  local function path() return ("%s/net:%s:eth0"):format(runs, id) end

  local function is_told(what)
    local entry = listed()[1]
    t.same({ "net", id, "eth0", "begun" }, { entry.network, entry.container, entry.interface, entry.state })
    assert.is_truthy(entry.problem:find(what, 1, true), entry.problem)
    local text = luacni { "doctor" }
    assert.is_truthy(text:find(("error    leftovers: net  %s eth0  left of luacni add: "):format(id), 1, true), text)
    for _, words in ipairs { { "gc" }, { "gc", "net" }, { "gc", "--dry-run" }, { "add", "net", "blue" },
      { "check", "net", "blue" } } do
      fails(1, words, what, spies)
    end
    t.same({ { "one", "two" }, path() .. "\n" }, { names "/run/spec/marks", (t.sh("ls -d " .. path())) })
  end

  it("is told when it cannot be understood; del goes by the network as it is, and says so", function()
    killed()
    local whole = t.read(path())
    for _, text in ipairs { "garbage\n", "5\n", "{}\n", "null\n", whole .. whole, (whole:gsub('"eth0"', '"eth1"')),
      (whole:gsub('"network":"net"', '"network":"ten"')), (whole:gsub("plugins", "plugin")) } do
      assert.not_equal(whole, text)
      t.write(path(), text)
      is_told "luacni del with --id and --ifname takes it back by the network's configuration as it is now"
      assert.equal(text, t.read(path()))
      calls()
    end
    local _, err = succeeds({ "del", "net", "blue" }, spies)
    assert.is_truthy(err:find("what has begun cannot be told: ", 1, true), err)
    assert.is_truthy(err:find(": the network is taken as it is now\n", 1, true), err)
    t.same({ "two DEL eth0 /run/netns/blue ", "one DEL eth0 /run/netns/blue " }, (calls()))
    nothing()
  end)

  it("is told when it cannot be read, and holds del as well", function()
    killed()
    os.remove(path())
    t.run { "mkdir", path() }
    is_told "Is a directory"
    -- It may be at work: plugins are told that it lives.
    local _, inputs = calls()
    t.same({ { containerID = id, ifname = "eth0" } }, inputs[1]["cni.dev/valid-attachments"])
    fails(1, { "del", "net", "blue" }, "Is a directory", spies)
    t.same({ { "one", "two" }, {} }, { names "/run/spec/marks", (calls()) })
    t.run { "rmdir", path() }
    succeeds({ "del", "net", "blue" }, spies)
    nothing()
  end)

  it("says that nothing had begun when it is not whole", function()
    for _, text in ipairs { "", '{"network":"net"' } do
      t.write(path(), text)
      t.same({}, listed())
      succeeds({ "del", "net", "blue" }, spies)
      nothing()
      t.write(path(), text)
      assert.equal(("net  %s eth0  left of luacni add: taken away\n"):format(id), (succeeds { "gc" }))
      nothing()
      t.write(path(), text)
      calls()
      succeeds({ "add", "net", "blue" }, spies)
      t.same({ { "one ADD eth0 /run/netns/blue ", "two ADD eth0 /run/netns/blue " }, {} }, { (calls()), names(runs) })
      succeeds({ "del", "net", "blue" }, spies)
      nothing()
    end
  end)

  it("goes when an ADD and its DEL fail for the same: nothing can have been made", function()
    foreign("two", "echo '{\"code\":7,\"msg\":\"a bad key\"}'; rm /run/spec/marks/two; exit 1")
    fails(1, { "add", "net", "blue" }, "ADD two: a bad key", spies)
    nothing()
    foreign "two"
    succeeds({ "add", "net", "blue" }, spies)
    succeeds({ "del", "net", "blue" }, spies)
  end)

  it("is not made when a plugin is missing: none is called then", function()
    os.remove "/run/spec/bin/two"
    fails(1, { "add", "net", "blue" }, 'there is no plugin "two" in /run/spec/bin', spies)
    t.same({ {}, {} }, { names(runs), (calls()) })
  end)

  it("is not made by what is refused, nor by a runtime's call of a plugin", function()
    t.run("ip link add eth0 type dummy || ip link add eth0 type bridge", { host = blue })
    fails(1, { "add", "net", "blue" }, "there is a eth0 in /run/netns/blue already", spies)
    t.same({ {}, {} }, { names(runs), (calls()) })
    t.run("rm -rf " .. runs)
    local out, status = t.sh({ t.build .. "/luacni" }, { host = host, stdin =
      '{"cniVersion":"1.0.0","name":"net","type":"loopback"}', env = { "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1",
      "CNI_NETNS=" .. blue.path, "CNI_IFNAME=lo", "CNI_PATH=/run/spec/bin" } })
    t.same({ 0, "" }, { status, (t.sh("ls -d " .. runs .. " 2>/dev/null")) }, out)
  end)
end)
