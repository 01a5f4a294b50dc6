-- SPDX-License-Identifier: MIT
-- make IMAGE=0: the program without its stored Lua state lies anywhere in memory, and does the same.

local lfs = require "lfs"
local p = require "protocol"
local t = require "support"
local world = require "world"

-- A sanitized build is one without.
local plain = t.sanitized and t.build or "/run/spec/plain"
local with_state = (t.read(t.build .. "/image.chosen") or ""):find("1", 1, true) ~= nil

setup(function()
  if t.sanitized then return end
  t.run({ "make", "-s", "-j2", "IMAGE=0", "BUILD=" .. plain, "all" }, { timeout = 600 })
end)

local function kind(dir) return t.run({ "readelf", "-h", dir .. "/luacni" }):match("Type:%s+(%u+)") end

-- Where the empty string is, run after run.
local function places(dir)
  t.write("/etc/luacni/plugins/telling.lua",
    'return { add = function() end, status = function() print(("%p"):format("")) end }')
  local seen, count = {}, 0
  for _ = 1, 8 do
    local got = t.cni({ verb = "STATUS", type = "luacni", conf = { cniVersion = "1.1.0", name = "net",
      type = "telling" }, id = false, ifname = false, bin = dir .. "/cni-bin" })
    assert.equal(0, got.rc, got.out)
    count = count + (seen[got.err] and 0 or 1)
    seen[got.err] = true
  end
  return count
end

describe("The program without its stored state", function()
  it("is position-independent; with it, it is not", function()
    assert.equal("DYN", kind(plain))
    if with_state then assert.equal("EXEC", kind(t.build)) end
  end)

  it("has its strings elsewhere each time; with it, in one place", function()
    -- AddressSanitizer's heap begins where it always does.
    if not t.sanitized then assert.is_true(places(plain) > 4) end
    if with_state then assert.equal(1, places(t.build)) end
  end)

  it("answers to all its names, and has their scripts", function()
    for name in lfs.dir("plugins") do
      name = name:match("^(.*)%.lua$")
      if name then
        local version = t.cni({ verb = "VERSION", type = name, bin = plain .. "/cni-bin" })
        assert.truthy(version.json.supportedVersions, version.out .. version.err)
        assert.equal(t.read("plugins/" .. name .. ".lua"), t.run({ plain .. "/luacni", "show", name }))
      end
    end
  end)

  it("attaches, checks, and takes back", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, isGateway = true,
      ipMasq = true, ipam = { type = "host-local", subnet = "10.5.0.0/24" } }, { bin = plain .. "/cni-bin", forwarding = true })
    local before = w:picture()
    p.shaped(w:call("ADD").out, "1.1.0")
    assert.same({ "10.5.0.2/24" }, world.addrs(w.pods[1], "eth0"))
    w:check()
    -- Records are the same: either does what is left to do.
    w.bin = "ours"
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("says where a script fails", function()
    t.write("/etc/luacni/plugins/wrong.lua", "return { add = function(req)\n  return req.none.at.all\nend }")
    local w = world.new({ type = "wrong" }, { bin = plain .. "/cni-bin" })
    w:fails("ADD", { type = "luacni" })
    assert.truthy(w:fails("ADD", { type = "luacni" }).text:find("wrong.lua:2:", 1, true))
  end)
end)
