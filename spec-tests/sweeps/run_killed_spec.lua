-- SPDX-License-Identifier: MIT
-- luacni run and add, killed with all that they have started at each of their calls that change something: what is
-- left, luacni gc and del take away, and the next add. And add when its calls fail.

local t = require "support"

local folder = "/etc/cni/net.d"
local stride = t.stride(9)
local host

local function called(words)
  return t.sh(words, { host = host, env = { "CNI_PATH=/run/spec/bin" } })
end

local function luacni(...) return called { t.build .. "/luacni", ... } end

-- Killed at the n-th such call; whether it had come to its end before.
local function killed(n, ...)
  local report = "/run/spec/report"
  local _, status, err = called { t.helper "killat", "-o", report, n, t.build .. "/luacni", ... }
  assert.is_true(status == 100 or status == 101, err)
  return status == 100, ("%d: %s"):format(n, t.read(report))
end

-- Somebody else's plugin, which keeps no record, and leaves a file.
local foreign = [[#!/bin/sh
case $CNI_COMMAND in
ADD) : >/run/spec/mark; echo '{"cniVersion":"1.0.0"}' ;;
DEL) rm -f /run/spec/mark ;;
esac
]]

before_each(function()
  t.needs "nft-nat"
  host = t.host("node", { lived_in = false })
  t.write("/run/spec/bin/foreign", foreign)
  t.run("chmod 755 /run/spec/bin/foreign; ln -sf " .. t.build .. "/luacni /run/spec/bin/bridge; "
    .. "ln -sf " .. t.build .. "/luacni /run/spec/bin/host-local; ln -sf " .. t.build .. "/luacni /run/spec/bin/loopback")
  t.write(folder .. "/demo.conflist", t.json { cniVersion = "1.0.0", name = "demo", plugins = {
    { type = "bridge", bridge = "demo0", isGateway = true, ipMasq = true, removeUnused = true,
      ipam = { type = "host-local", subnet = "10.9.8.0/24" } }, { type = "foreign" }, { type = "loopback" } } })
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results /run/spec/bin /run/spec/mark " .. folder)
  t.cleanup()
end)

describe("luacni", function()
  it("gc clears what a luacni run that was killed has left", function()
    -- Forwarding stays on, once it is.
    assert.equal(0, select(2, luacni("run", "demo", "--", "true")))
    local before, n, ended, at = t.snapshot { ns = { host } }, 1 - stride
    repeat
      n = n + stride
      ended, at = killed(n, "run", "demo", "--", "true")
      local out, status, err = luacni "gc"
      t.same({ 0, "" }, { status, (err:gsub("nothing is left of anything dead\n", "")) }, at .. out)
      t.same(before, t.snapshot { ns = { host } }, at)
      local rest = t.sh "ls -A /run/netns /run/luacni/runs /var/lib/cni/results /run/spec/mark 2>/dev/null | grep 'run-\\|mark'"
      assert.equal("", rest, at)
    until ended
    assert.is_true(n > 100)
  end)

  -- An ADD that is killed at each of its calls; `clear` is told at which, and has nothing left then.
  local function each_killed(clear)
    local blue = t.netns "blue"
    assert.equal(0, select(2, luacni("add", "demo", "blue")))
    assert.is_truthy(t.read "/run/spec/mark")
    luacni("del", "demo", "blue")
    local before, n, ended, at = t.snapshot { ns = { host, blue } }, 2 - stride
    repeat
      n = n + stride
      ended, at = killed(n, "add", "demo", "blue")
      clear(at)
      t.same(before, t.snapshot { ns = { host, blue } }, at)
      t.same({ {}, {}, nil }, { t.files "/var/lib/cni/results", t.files "/run/luacni/runs", t.read "/run/spec/mark" }, at)
    until ended
    assert.is_true(n > 100)
  end

  it("del takes away what a luacni add that was killed has made", function()
    each_killed(function(at) t.same({ "", 0, "" }, { luacni("del", "demo", "blue") }, at) end)
  end)

  it("gc does, unless all was made and stored", function()
    local stored, taken = 0, 0
    each_killed(function(at)
      local out, status, err = luacni "gc"
      t.same({ 0, "" }, { status, (err:gsub("nothing is left of anything dead\n", "")) }, at .. out)
      if not next(t.files "/var/lib/cni/results") then
        taken = taken + (out == "" and 0 or 1)
        return
      end
      stored = stored + 1
      assert.equal("attached", t.decode((luacni("list", "--json")))[1].state, at)
      assert.is_truthy(t.read "/run/spec/mark", at)
      luacni("del", "demo", "blue")
    end)
    assert.is_true(stored > 0 and stored < 5 and taken > 50 / stride, ("%d stored, %d taken back"):format(stored, taken))
  end)

  it("add does, and makes the same again", function()
    each_killed(function(at)
      local _, status, err = luacni("add", "demo", "blue")
      if status == 1 then
        assert.is_truthy(err:find("is already attached to network demo", 1, true), at .. err)
      else
        assert.equal(0, status, at .. err)
      end
      t.same({ "attached", {} }, { t.decode((luacni("list", "--json")))[1].state, t.files "/run/luacni/runs" }, at)
      t.same({ "", 0, "" }, { luacni("del", "demo", "blue") }, at)
    end)
  end)

  it("add that fails at any call leaves nothing, and one that does not leaves all", function()
    local blue = t.netns "blue"
    luacni("add", "demo", "blue")
    luacni("del", "demo", "blue")
    local before, n, failures, report = t.snapshot { ns = { host, blue } }, 3 - stride, 0, "/run/spec/report"
    repeat
      n = n + stride
      os.remove(report)
      local _, status = called { t.helper "killat", "-e", "EIO", "-o", report, n, t.build .. "/luacni", "add", "demo",
        "blue" }
      local at = ("%d: %s"):format(n, t.read(report))
      -- An empty one says that nothing had begun.
      for _, text in pairs(t.files "/run/luacni/runs") do assert.equal("", text, at) end
      if status == 0 then
        t.same({ "attached", "" }, { t.decode((luacni("list", "--json")))[1].state, t.read "/run/spec/mark" }, at)
      else
        failures = failures + 1
        t.same({ {}, nil }, { t.files "/var/lib/cni/results", t.read "/run/spec/mark" }, at)
        t.same(before.kernel, t.snapshot({ ns = { host, blue } }).kernel, at)
      end
      t.same({ "", 0, "" }, { luacni("del", "demo", "blue") }, at)
      t.same(before, t.snapshot { ns = { host, blue } }, at)
      t.same({ {}, nil }, { t.files "/run/luacni/runs", t.read "/run/spec/mark" }, at)
    until not t.read(report):find "^failed"
    assert.is_true(failures > 60 / stride, ("%d calls, %d failures"):format(n, failures))
  end)
end)
