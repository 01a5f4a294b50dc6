-- SPDX-License-Identifier: MIT
-- A DEL leaves a detached child behind that waits for the kernel to finish. Whoever kills that child
-- alone, before its request, within it or afterwards, changes nothing: the DEL answers that it
-- is done, and it is.

local t = require "support"
local world = require "world"

local conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, ipMasq = true,
  ipam = { type = "host-local", subnet = "10.5.0.0/24" } }

local function new()
  local w = world.new(conf, { forwarding = true })
  w:add()
  w:del()
  return w, w:picture()
end

-- A DEL whose children are killed at their n-th call, as the flags of killat say. Returns the call's
-- name, nil when there was none, and the DEL's own status and answer.
local function del(w, n, flags)
  local report = "/run/spec/killat.report"
  os.remove(report)
  local out, status, err = t.sh(t.cni_words({ verb = "DEL", type = "bridge", host = w.host,
    netns = w.pods[1], under = ("%s -d %s -o %s %d"):format(t.helper("killat"), flags, report, n) }),
    { stdin = t.conf_bytes(w:config()) })
  local text = assert(t.read(report), out .. err)
  local name, rc = text:match("^killed %d+ (%g+) (%d+)")
  assert.equal(name and 101 or 100, status, out .. err)
  return name, tonumber(rc or text:match("(%d+)\n$")), out .. err
end

-- Kill at the first, second ... call of the children until there are no more; after each, nothing is
-- left, and the same attachment can be made at once.
local function sweep(flags)
  local w, before = new()
  for n = 1, 100, t.stride(1, { sanitized = 4 }) do
    w:add()
    local name, rc, text = del(w, n, flags)
    assert.equal(0, rc, ("%s at %d: %s"):format(name or "nothing", n, text))
    assert.equal("", text)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.link(w.host, "br0"))
    if not name then
      t.same(before, w:picture(), "at the end")
      return n - 1
    end
    w:add()
    w:check()
    w:del()
    t.same(before, w:picture(), ("killed at call %d, %s"):format(n, name))
  end
  error("it never came to its end")
end

describe("A detached child of a DEL", function()
  it("is there, and sends what the parent waits for", function()
    local w = new()
    w:add()
    assert.equal("sendto", (del(w, 1, "")))
  end)

  it("killed before any of its requests has the parent do it", function()
    assert.is_true(sweep("") >= 1)
  end)

  it("killed at any of its system calls has the parent do it", function()
    assert.is_true(sweep("-a") >= 6)
  end)

  for _, us in ipairs({ 0, 50, 200, 1000, 5000, 20000 }) do
    it(("killed %d microseconds into a request has it done all the same"):format(us), function()
      assert.is_true(sweep("-w " .. us) >= 1)
    end)
  end

  it("is not waited for: the parent answers while it lives", function()
    -- Nobody holds the pipes: the end of file comes with the parent's end.
    local w = new()
    for _ = 1, 5 do
      w:add()
      local got = w:call("DEL")
      assert.equal(0, got.rc, got.out .. got.err)
      assert.is_nil(t.link(w.pods[1], "eth0"))
    end
  end)
end)
