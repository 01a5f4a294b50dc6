-- SPDX-License-Identifier: MIT
-- A command that is asked to end, or whose answer nobody gets: what it started ends with it, and what was done is
-- taken back.

local t = require "support"

local luacni = t.build .. "/luacni"
local host

-- A shell's lines in the host; what they print.
local function shell(lines)
  return (t.sh({ "timeout", "40", "sh", "-c", lines }, { host = host, env = { "CNI_PATH=/run/spec/bin" } }))
end

local function put(...)
  t.write("/etc/cni/net.d/demo.conflist", t.json { cniVersion = "1.0.0", name = "demo", plugins = { ... } })
end

-- A program that says in a file that it has begun, and who it is; then `words`.
local function program(path, words)
  t.write(path, ("#!/bin/sh\necho $$ >>/run/spec/begun\n%s\n"):format(words))
  t.run { "chmod", "755", path }
end

-- Call luacni, send a signal when the program has begun, and say how it ended, and how many of the programs that
-- have begun, or of the given name, are left then.
local function ended_by(signal, words, before)
  local out = shell(([[rm -f /run/spec/begun
    %s env --default-signal=INT,TERM %s %s >/run/spec/said 2>&1 & p=$!
    i=0; while [ ! -s /run/spec/begun ] && [ $i -lt 200 ]; do sleep 0.05; i=$((i+1)); done; sleep 0.2
    kill -%s $p; wait $p; echo status $?
    sleep 0.1; for pid in $(cat /run/spec/begun); do kill -0 $pid 2>/dev/null && echo left; done
    pgrep -f '[s]leep 3333' >/dev/null && echo left]]):format(before or "", luacni, words, signal))
  return out, t.read "/run/spec/said"
end

before_each(function()
  host = t.host()
  t.run "mkdir -p /etc/cni/net.d /run/spec/bin; ip netns add blue"
  t.run { "ln", "-s", luacni, "/run/spec/bin/own" }
end)
after_each(function()
  t.run "rm -rf /etc/cni/net.d /etc/luacni/plugins /run/spec/bin /run/spec/begun /run/spec/said /run/spec/slow; ip netns del blue"
  t.cleanup()
end)

local own = [[return { add = function(req)
  local bridge = req.host:add_link { kind = "bridge", name = "own0" }
  req:call { program = "/run/spec/slow", undo = { args = { "down" } } }
  return { interfaces = { bridge } }
end }]]

describe("a command that is asked to end", function()
  it("ends the plugin at work, with all that this has started, and takes back what it did", function()
    t.write("/etc/luacni/plugins/own.lua", own)
    put { type = "own" }
    program("/run/spec/slow", "[ \"$1\" = down ] && exit; sleep 3333 & sleep 3333")
    for signal, status in pairs { TERM = 143, INT = 130, HUP = 129 } do
      local begun = os.time()
      t.same({ "status " .. status .. "\n", "" }, { ended_by(signal, "add demo blue") })
      assert.is_true(os.time() - begun < 8)
      assert.is_nil(t.link(host, "own0"))
    end
    -- One that comes to its end stays.
    program("/run/spec/slow", "exit")
    local said = shell(luacni .. " add demo blue 2>&1")
    assert.is_truthy(t.link(host, "own0"), said)
    shell(luacni .. " del demo blue")
    assert.is_nil(t.link(host, "own0"))
  end)

  it("ends somebody else's plugin too", function()
    put { type = "other" }
    program("/run/spec/bin/other", [[echo $CNI_COMMAND >>/run/spec/verbs; trap '' HUP
      [ $CNI_COMMAND = DEL ] && exit; sleep 3333 & sleep 3333]])
    t.same({ "status 143\n", "" }, { ended_by("TERM", "add demo blue") })
    assert.equal("ADD\nDEL\n", t.read "/run/spec/verbs")
    os.remove "/run/spec/verbs"
    -- One that does not want to is killed.
    program("/run/spec/bin/other", [[[ $CNI_COMMAND = DEL ] && exit; trap '' TERM; sleep 3333; sleep 3333]])
    t.same({ "status 143\n", "" }, { ended_by("TERM", "add demo blue") })
    -- A DEL and a CHECK, which hold no signal back, go with what they called.
    program("/run/spec/bin/other", "sleep 3333; exit 0")
    t.same({ "status 143\n", "" }, { ended_by("TERM", "del demo blue") })
    t.same({ "status 130\n", "" }, { ended_by("INT", "check demo blue") })
  end)

  it("is not asked by what it was started to ignore", function()
    put { type = "other" }
    program("/run/spec/bin/other", [[[ $CNI_COMMAND = DEL ] && exit; sleep 1; echo '{"cniVersion":"1.0.0"}']])
    local out, said = ended_by("HUP", "add demo blue", "trap '' HUP;")
    assert.equal("status 0\n", out)
    assert.equal("1.0.0", t.decode(said).cniVersion)
  end)

  it("takes down what luacni run has made", function()
    t.write("/etc/luacni/plugins/own.lua", own)
    put { type = "own" }
    program("/run/spec/slow", "[ \"$1\" = down ] && exit; sleep 3333 & sleep 3333")
    t.same({ "status 143\n", "" }, { ended_by("TERM", "run demo -- true") })
    assert.is_nil(t.link(host, "own0"))
    assert.equal("", shell "ls /run/netns | grep luacni-run")
  end)
end)

describe("luacni add", function()
  local bridge = { type = "bridge", bridge = "demo0", removeUnused = true, ipam = { type = "host-local", subnet = "10.9.8.0/24" } }

  it("takes back what it cannot say, as a plugin does", function()
    put(bridge)
    for where, why in pairs { [">/dev/full"] = "No space left on device", [">&-"] = "Bad file descriptor",
      ["| true"] = "Broken pipe" } do
      local line = where == "| true" and ("{ %s add demo blue 2>/run/spec/said; echo $? >/run/spec/begun; } | "
        .. "sh -c 'exec <&-; sleep 1'") or "%s add demo blue 2>/run/spec/said " .. where .. "; echo $? >/run/spec/begun"
      shell(line:format(luacni))
      assert.equal("luacni: the answer cannot be given: write: " .. why .. "\n", t.read "/run/spec/said")
      assert.equal("1\n", t.read "/run/spec/begun")
      assert.is_nil(t.link(host, "demo0"))
      assert.equal("[]\n", shell(luacni .. " list --json"))
    end
    assert.equal("1.0.0", t.decode(shell(luacni .. " add demo blue")).cniVersion)
    assert.is_truthy(t.link(host, "demo0"))
    shell(luacni .. " del demo blue")
  end)

  it("says once what its ADD has failed for, and its DEL too", function()
    local function said()
      local out = shell(luacni .. " add demo blue 2>&1")
      assert.equal(1, select(2, out:gsub("\n", "\n")), out)
      return out
    end
    t.write("/etc/luacni/plugins/own.lua", "return {")
    put { type = "own" }
    assert.equal(1, select(2, said():gsub("unexpected symbol", "")))
    put { type = "onw" }
    local text = said()
    assert.equal(1, select(2, text:gsub("there is no plugin", "")))
    assert.matches('; did you mean "own"%?\n$', text)
    -- Another failure is said.
    program("/run/spec/bin/other", [[echo '{"cniVersion":"1.0.0","code":100,"msg":"no '$CNI_COMMAND'"}'; exit 1]])
    put { type = "other" }
    assert.matches("ADD other: no ADD; taking it back failed too: DEL other: no DEL\n", said())
  end)
end)
