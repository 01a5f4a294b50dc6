-- SPDX-License-Identifier: MIT
-- The other kernels of spec-tests/run: that they boot on every processor, that one that does not is
-- a failure and not a skip, that a guest changes nothing here and does not outlive its limit, and that
-- what a test needs is spelt right.

local lfs = require "lfs"
local t = require "support"

describe("what the second kernel is started with", function()
  local function try(length, preload)
    t.run { "make", "-s", "BUILD=" .. t.build, t.build .. "/xstate.so" }
    local made = t.run({ t.helper("xstate_try"), length },
      { env = preload and { "LD_PRELOAD=" .. t.build .. "/xstate.so" } })
    return made, tonumber(made:match("whole (%d+)"))
  end

  local peeks = "peek -1 errno 0\npeek 7 errno 0\npeek nowhere -1 errno 5\npoke 0 then 9 errno 0\n"

  it("sets what it knows of a processor that has more", function()
    t.needs("guests")
    local bare, whole = try(576)
    assert.truthy(whole > 576, "a processor of 2010 at least")
    assert.truthy(bare:find("set Bad address\nregister 1, tiles not in use\n", 1, true), bare)
    local mended = try(576, true)
    assert.truthy(mended:find("set done\nregister 5, tiles not in use\n", 1, true), mended)
  end)

  it("passes on what is whole, and refuses less than a header", function()
    t.needs("guests")
    for _, preload in ipairs { false, true } do
      local made = try(0, preload)
      assert.truthy(made:find("set done\nregister 5, ", 1, true), made)
      assert.truthy(try(512, preload):find("set Bad address\nregister 1, ", 1, true))
    end
  end)

  it("peeks and pokes as the library does", function()
    t.needs("guests")
    assert.equal(peeks, try(0):sub(1, #peeks))
    assert.equal(peeks, try(0, true):sub(1, #peeks))
  end)
end)

describe("a second kernel", function()
  local dir

  -- Below /run the runner has a world of its own.
  before_each(function() dir = t.run("mktemp -d"):gsub("%s+$", "") end)
  after_each(function() t.run { "rm", "-r", dir } end)

  -- Runs a file with a test for the second kernel alone, whose program dies the first `deaths` times.
  local function run(deaths, kernel)
    t.write(dir .. "/linux.uml", ([[#!/bin/sh
tries=$(cat DIR/tries 2>/dev/null || echo 0)
echo $((tries + 1)) >DIR/tries
[ $tries -ge %d ] && exec /usr/bin/linux.uml "$@"
echo "userspace - ptrace set fp regs failed, errno = 14"
echo Aborted
]]):format(deaths):gsub("DIR", dir))
    os.remove(dir .. "/tries")
    t.run { "chmod", "0755", dir .. "/linux.uml" }
    t.write(dir .. "/card_spec.lua", [[
local t = require "support"
it("has a card", function() t.needs("card") end)
it("has none", function() t.needs("card") error("there is one") end)
]])
    local words = { "spec-tests/run", "-v", dir .. "/card_spec.lua" }
    if kernel then words = { "spec-tests/run", "-v", "-K", kernel, dir .. "/card_spec.lua" } end
    local out, status, err = t.sh(words, { timeout = 120, env = {
      "-u", "LUACNI_SPEC_LIST", "-u", "LUACNI_SPEC_ONLY", "-u", "LUACNI_SPEC_LATER",
      "PATH=" .. dir .. ":" .. os.getenv("PATH") } })
    return out .. err, status, tonumber(t.read(dir .. "/tries") or 0)
  end

  it("that does not boot is tried again", function()
    t.needs("guests")
    local out, status, tries = run(1)
    assert.equal(2, tries)
    assert.equal(1, status)
    assert.truthy(out:find("\n1 passed, 1 failed, 0 skipped\n", 1, true), out)
    assert.truthy(out:find("on the second kernel, Linux 6", 1, true), out)
    assert.truthy(out:find("there is one", 1, true), out)
  end)

  it("that does not boot at all is a failure", function()
    t.needs("guests")
    for _, kernel in ipairs { false, "second" } do
      local out, status, tries = run(100, kernel)
      assert.equal(2, tries)
      assert.equal(1, status)
      assert.truthy(out:find("FAILED  the second kernel: it did not boot: userspace - ptrace set fp", 1,
        true), out)
      assert.truthy(out:find(kernel and "\n0 passed, 1 failed, 0 skipped\n"
        or "\n0 passed, 2 failed, 0 skipped\n", 1, true), out)
    end
  end)
end)

for kernel, release in pairs({ second = "^6%.1", stock = "^6%.1%.0%-%d+%-amd64" }) do
  describe("a command on the " .. kernel .. " kernel", function()
    local dir

    before_each(function() dir = t.run("mktemp -d"):gsub("%s+$", "") end)
    after_each(function() t.run { "rm", "-r", dir } end)

    local function guest(command, limit)
      local _, status, err = t.sh({ "spec-tests/" .. kernel .. "-kernel", dir, "sh", "-c", command },
        { timeout = 400, env = { "MARK=a b", "LUACNI_GUEST_LIMIT=" .. (limit or 300) } })
      return t.read(dir .. "/output"), status, err
    end

    local function of_guest()
      local found = ""
      for pid in lfs.dir("/proc") do
        local words = pid:find("^%d") and t.read("/proc/" .. pid .. "/cmdline") or ""
        if words:find(dir, 1, true) then found = found .. words:gsub("%z", " ") .. "\n" end
      end
      return found
    end

    -- Processes here that were started for this guest. What was killed takes a moment to end.
    local function left()
      for _ = 1, 50 do
        if of_guest() == "" then break end
        t.sh("sleep 0.1")
      end
      return of_guest()
    end

    it("has this machine's files, its words and its environment, and writes to one folder", function()
      t.needs("guests")
      local out, status = guest("uname -r; pwd; echo $MARK; id -u; touch /etc/x-$$ && echo written; " ..
        "echo a >/tmp/in-the-guest && echo b >" .. dir .. "/made; nft add table inet t && echo nft; exit 7")
      assert.equal(7, status)
      local lines = {}
      for line in out:gmatch("[^\n]+") do lines[#lines + 1] = line end
      assert.truthy(lines[1]:find(release), out)
      assert.same({ t.run("pwd"):gsub("%s+$", ""), "a b", "0" }, { lines[2], lines[3], lines[4] })
      assert.is_nil(out:find("written", 1, true))
      assert.equal(kernel == "stock", out:find("\nnft\n", 1, true) ~= nil, out)
      assert.equal("b\n", t.read(dir .. "/made"))
      assert.is_nil(t.read("/tmp/in-the-guest"))
      assert.equal("", left())
    end)

    if not t.is_due(kernel == "stock" and 1 or 0, 3) then return end

    it("ends at its limit, and nothing of it is left", function()
      t.needs("guests")
      local began = os.time()
      local out, status = guest("echo begun; sleep 500", kernel == "stock" and 90 or 45)
      assert.equal(124, status)
      assert.equal("begun\n", out)
      assert.truthy(os.time() - began < 300)
      assert.equal("", left())
    end)

    it("goes with whoever started it", function()
      t.needs("guests")
      t.sh({ "sh", "-c", ([[
        spec-tests/%s-kernel %s sleep 500 & guest=$!
        until [ -f %s/booted ]; do kill -0 $guest || exit 1; sleep 0.2; done
        kill $guest; wait $guest]]):format(kernel, dir, dir) }, { timeout = 200 })
      assert.truthy(t.read(dir .. "/booted"))
      assert.equal("", left())
    end)
  end)
end

-- The third of what takes minutes: one of them today.
if t.is_due(2, 3) then describe("a kernel that was started without IPv6", function()
  it("is served with IPv4, and told why it has no more", function()
    t.needs("guests")
    local out, status = t.sh({ "spec-tests/run", "-K", "stock", "spec-tests/kernel_without_ipv6.lua" },
      { timeout = 600, env = { "-u", "LUACNI_SPEC_LIST", "-u", "LUACNI_SPEC_ONLY", "-u", "LUACNI_SPEC_LATER",
        "LUACNI_GUEST_PARAMETERS=ipv6.disable=1" } })
    assert.equal(0, status, out)
    assert.truthy(out:find("\n%d+ passed, 0 failed, 0 skipped\n$"), out)
  end)
end) end

describe("what a test needs", function()
  it("has to be known", function()
    local ok, message = pcall(t.needs, "strace", "starce")
    assert.equal(false, ok)
    assert.truthy(message:find("nobody knows.*starce"), message)
    assert.equal(false, (pcall(t.has, "sh")))
  end)

  it("may be a command that is there", function() assert.equal(true, t.has("setarch")) end)
end)
