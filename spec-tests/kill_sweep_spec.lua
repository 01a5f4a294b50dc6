-- SPDX-License-Identifier: MIT
-- Kill a plugin at every system call that changes something, one run for each,
-- in ADD and in DEL. Whatever it had done by then, a DEL, or the next ADD and its
-- DEL, or a GC takes everything back: kernel, leases and records are as before
-- the first ADD. (Forwarding, once switched on, stays on, as with every other
-- tool; empty directories may stay.)

local t = require "support"

local most = 2000

local dual = { type = "host-local", ranges = {
  { { subnet = "10.20.0.0/24" } }, { { subnet = "fd20::/64" } } } }

-- What is swept. A plugin joins by being listed: `again` says what a second ADD
-- without a DEL between is expected to be ("error" for an interface plugin).
local plugins = {
  { name = "loopback", conf = { type = "loopback" } },
  { name = "host-local, two sets", conf = { type = "host-local", ipam = dual } },
  { name = "bridge, layer 2", conf = { type = "bridge", bridge = "br0" } },
  { name = "bridge, dual stack with masquerade", conf = { type = "bridge",
    bridge = "br0", isDefaultGateway = true, ipMasq = true, ipam = dual } },
}

local host, pod

local function conf_of(plugin, more)
  local conf = { cniVersion = "1.1.0", name = "sweep" }
  for key, value in pairs(plugin.conf) do conf[key] = value end
  for key, value in pairs(more or {}) do conf[key] = value end
  return conf
end

local function call(plugin, verb, more)
  local request = { verb = verb, conf = conf_of(plugin, more), host = host, netns = pod,
    timeout = 30 }
  if verb == "GC" then request.netns, request.id, request.ifname = false, false, false end
  return t.cni(request)
end

local function must(plugin, verb, more)
  local got = call(plugin, verb, more)
  if got.rc ~= 0 then
    error(("%s ends with %d: %s%s"):format(verb, got.rc, got.out, got.err), 0)
  end
  return got
end

-- Run a verb and kill it at its n-th change (0: never). Returns the name of the
-- call, or nil and the number of changes when the command came to its end first.
local function killed(plugin, verb, n, flags)
  local report = "/run/spec/killat.report"
  os.remove(report)
  local line = t.cni_words({ verb = verb, type = plugin.conf.type, host = host,
    netns = pod, under = ("%s %s -o %s %d"):format(t.helper("killat"), flags or "", report, n) })
  local out, status, err = t.sh(line, { stdin = t.conf_bytes(conf_of(plugin)), timeout = 30 })
  local text = t.read(report) or ""
  if status == 100 then
    if flags ~= "-d" then assert.equal("finished", text:match("^%a+"), text) end
    if text:match("(%d+)\n$") ~= "0" then
      error(("%s fails by itself: %s%s"):format(verb, out, err), 0)
    end
    return nil, tonumber(text:match("^finished (%d+)"))
  end
  assert.equal(101, status, "killat: " .. out .. err)
  return assert(text:match("^killed %d+ (%g+)"), text)
end

local function picture() return t.snapshot({ ns = { host, pod } }) end

-- The three ways out, each of which alone has to be enough.
local recoveries = {
  { name = "a DEL", run = function(plugin) must(plugin, "DEL") end },
  { name = "the next ADD and its DEL", run = function(plugin, may_live)
    local got = call(plugin, "ADD")
    if got.rc ~= 0 and not may_live then
      error(("the next ADD ends with %d: %s%s"):format(got.rc, got.out, got.err), 0)
    end
    if got.rc == 0 then must(plugin, "CHECK", { prevResult = got.json }) end
    must(plugin, "DEL")
  end },
  { name = "a GC", run = function(plugin)
    must(plugin, "GC", { ["cni.dev/valid-attachments"] = t.list() })
  end },
}

-- An unswept start: forwarding on, as it is going to be anyway.
local function new_world()
  t.cleanup()
  t.wipe()
  host, pod = t.host("host"), t.netns("pod")
  t.run("echo 1 >/proc/sys/net/ipv4/ip_forward; " ..
    "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding", { host = host })
  -- The kernel's own 127.0.0.1 comes with the first time up, and stays.
  t.run("ip link set lo up; ip link set lo down", { host = pod })
end

-- Whether an ADD came as far as to call itself done.
local function finished()
  return select(2, t.sh("grep -rqs '\"done\"' /run/luacni/attachments")) == 0
end

local function sweep(plugin, verb, recovery)
  new_world()
  local before = picture()
  -- Once round, for the folders that stay.
  must(plugin, "ADD")
  must(plugin, "DEL")
  local calls = 0
  for n = 1, most do
    if verb == "DEL" then must(plugin, "ADD") end
    local name = killed(plugin, verb, n)
    if not name then break end
    calls = n
    -- A DEL killed before its first change leaves a live attachment, and so does
    -- an ADD killed in giving its answer: a second ADD is the error it has to be.
    local may_live = verb == "DEL" or finished()
    local ok, why = pcall(recovery.run, plugin, may_live)
    if ok then ok, why = pcall(t.same, before, picture()) end
    if not ok then
      error(("%s killed at change %d (%s), then %s: %s"):format(verb, n, name,
        recovery.name, tostring(why)), 0)
    end
  end
  assert.is_true(calls > 0, "nothing was killed")
  assert.is_true(calls < most, "it never came to its end")
  if verb == "ADD" then must(plugin, "DEL") end
  t.same(before, picture(), "at the end")
end

for _, plugin in ipairs(plugins) do
  describe(plugin.name .. ":", function()
    for _, verb in ipairs({ "ADD", "DEL" }) do
      for _, recovery in ipairs(recoveries) do
        it(("%s killed at every change is mended by %s"):format(verb, recovery.name),
          function() sweep(plugin, verb, recovery) end)
      end
    end

    it("is not disturbed by the debris of another container", function()
      new_world()
      local before = picture()
      local other = t.netns("other")
      local n = 1
      while killed(plugin, "ADD", n) do
        local request = { conf = conf_of(plugin), host = host, netns = other, id = "c2" }
        request.verb = "ADD"
        t.cni_ok(request)
        request.verb = "DEL"
        t.cni_ok(request)
        must(plugin, "DEL")
        n = n + 3
      end
      must(plugin, "DEL")
      assert.is_true(n > 1)
      t.same(before, picture())
    end)

    it("has answered for good when a child it left behind is killed", function()
      new_world()
      local before = picture()
      for n = 1, 20 do
        must(plugin, "ADD")
        if not killed(plugin, "DEL", n, "-d") then break end
        must(plugin, "DEL")
        t.same(before, picture())
      end
      t.same(before, picture())
    end)
  end)
end

describe("killat", function()
  it("kills before the call is carried out, and counts", function()
    local killat = t.helper("killat")
    for n, made in pairs({ [1] = "no", [2] = "yes" }) do
      os.remove("/run/spec/made")
      local _, status = t.sh({ killat, n, "mkdir", "/run/spec/made", "/run/spec/made2" })
      assert.equal(101, status)
      assert.equal(made == "yes" and 0 or 1,
        select(2, t.sh("test -d /run/spec/made")))
      t.sh("rm -rf /run/spec/made /run/spec/made2")
    end
  end)

  it("says so when the command ends first", function()
    local _, status = t.sh({ t.helper("killat"), 99, "true" })
    assert.equal(100, status)
  end)

  it("takes children along", function()
    local _, status = t.sh({ t.helper("killat"), 2, "sh", "-c",
      "(sleep 30; touch /run/spec/late) & mkdir /run/spec/made" })
    assert.equal(101, status)
  end)
end)
