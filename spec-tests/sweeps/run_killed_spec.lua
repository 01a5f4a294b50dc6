-- SPDX-License-Identifier: MIT
-- luacni run and add, killed with all that they have started at each of their calls that change something: what is
-- left, luacni gc and del take away.

local t = require "support"

local folder = "/etc/cni/net.d"
local host

local function luacni(...) return t.sh({ t.build .. "/luacni", ... }, { host = host }) end

-- Killed at the n-th such call; whether it had come to its end before.
local function killed(n, ...)
  local report = "/run/spec/report"
  local _, status, err = t.sh({ t.helper "killat", "-o", report, n, t.build .. "/luacni", ... }, { host = host })
  assert.is_true(status == 100 or status == 101, err)
  return status == 100, ("%d: %s"):format(n, t.read(report))
end

before_each(function()
  t.needs "nft-nat"
  host = t.host("node", { lived_in = false })
  t.write(folder .. "/demo.conflist", t.json { cniVersion = "1.0.0", name = "demo", plugins = {
    { type = "bridge", bridge = "demo0", isGateway = true, ipMasq = true, removeUnused = true,
      ipam = { type = "host-local", subnet = "10.9.8.0/24" } }, { type = "loopback" } } })
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results " .. folder)
  t.cleanup()
end)

describe("luacni", function()
  it("gc clears what a luacni run that was killed has left", function()
    -- Forwarding stays on, once it is.
    assert.equal(0, select(2, luacni("run", "demo", "--", "true")))
    local before, n, ended, at = t.snapshot { ns = { host } }, 0
    repeat
      n = n + 1
      ended, at = killed(n, "run", "demo", "--", "true")
      local out, status, err = luacni "gc"
      t.same({ 0, "" }, { status, (err:gsub("nothing is left of anything dead\n", "")) }, at .. out)
      t.same(before, t.snapshot { ns = { host } }, at)
      local rest = t.sh "ls -A /run/netns /run/luacni/runs /var/lib/cni/results 2>/dev/null | grep run-"
      assert.equal("", rest, at)
    until ended
    assert.is_true(n > 100)
  end)

  it("del takes away what a luacni add that was killed has made", function()
    local blue = t.netns "blue"
    luacni("add", "demo", "blue")
    luacni("del", "demo", "blue")
    local before, n, ended, at = t.snapshot { ns = { host, blue } }, 0
    repeat
      n = n + 1
      ended, at = killed(n, "add", "demo", "blue")
      t.same({ "", 0, "" }, { luacni("del", "demo", "blue") }, at)
      t.same(before, t.snapshot { ns = { host, blue } }, at)
      t.same({}, t.files "/var/lib/cni/results", at)
    until ended
    assert.is_true(n > 50)
  end)
end)
