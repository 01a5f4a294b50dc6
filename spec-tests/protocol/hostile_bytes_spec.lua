-- SPDX-License-Identifier: MIT
-- Bytes that are no UTF-8, from whoever calls and from the kernel: what we print is JSON in UTF-8 all
-- the same, and what we write down for ourselves we can read back.

local p = require "protocol"
local t = require "support"
local world = require "world"

local bridge = { type = "bridge", bridge = "br0", removeUnused = true,
  ipam = { type = "host-local", subnet = "10.5.0.0/24" } }

-- The answer is nothing, or one JSON object, whatever the outcome.
local function judged(got)
  if got.rc ~= 0 then return p.error(got) end
  if got.out ~= "" then return p.strict(got.out) end
end

describe("Bytes of the caller that are no UTF-8", function()
  local odd = { "\xff", "a\xffb", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\xaf", "\u{EFFF}\xff", "\x80",
    "ok\u{E9}", "\u{EF80}", "\1\127" }

  for _, where in ipairs({ "CNI_ARGS", "CNI_PATH", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_COMMAND" }) do
    it("in " .. where .. " reach no answer, and DEL takes back what ADD has made", function()
      local w = world.new(bridge)
      local before = w:picture()
      for _, bytes in ipairs(odd) do
        local value = ({ CNI_ARGS = "IgnoreUnknown=1;K=" .. bytes, CNI_PATH = t.bin.ours .. ":/" .. bytes,
          CNI_CONTAINERID = "c" .. bytes })[where] or bytes
        local c = { env = { [where] = value }, prev = false }
        local got = w:call("ADD", c)
        judged(got)
        if got.rc == 0 then
          -- As another caller may: what there was at ADD is in the record alone.
          local plain = where == "CNI_IFNAME" and c or {}
          judged(w:call("CHECK", t.with(c, { prev = got.json })))
          local said = t.run({ t.bin.ours .. "/luacni", "explain" }, { host = w.host })
          assert.is_truthy(said:find("c1", 1, true), said)
          w:gc({ { "c1", where == "CNI_IFNAME" and bytes or "eth0" } }, { path = plain.path })
          -- lo, the interface that was there before, and this one.
          assert.equal(3, #t.ip(w.pods[1], "link show"))
          w:del(t.with(plain, { prev = false }))
        else
          judged(w:call("CHECK", c))
          judged(w:call("DEL", c))
        end
        judged(w:call("STATUS", c))
        judged(w:call("GC", c))
        t.same(before, w:picture(), ("%q"):format(bytes))
      end
    end)
  end

  it("in CNI_NETNS are refused where results would name them, and DEL takes them", function()
    local w = world.new(bridge)
    local before = w:picture()
    local path = "/run/spec/ns\xff"
    t.run({ "ln", "-s", w.pods[1].path, path })
    local c = { env = { CNI_NETNS = path }, prev = false }
    for _, verb in ipairs({ "ADD", "CHECK" }) do
      p.error(w:call(verb, c), 4, "not UTF-8 (CNI_NETNS)")
    end
    t.same(before, w:picture())
    w:add()
    w:del(c)
    t.same(before, w:picture())
    os.remove(path)
  end)
end)

describe("Bytes of the kernel's that are no UTF-8", function()
  it("are an address's label again when the last attachment gives it back", function()
    local w = world.new(t.with(bridge, { isGateway = true, forceAddress = true }), { pods = 2 })
    for _, label in ipairs({ "br0:" .. ("\xff"):rep(11), "br0:\u{EFFF}\xc3", "br0:\u{E9}" }) do
      -- Both at once would be up first.
      w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none; ip link set br0 up")
      t.run({ "ip", "addr", "add", "10.5.0.77/24", "dev", "br0", "label", label }, { host = w.host })
      local function seen() return w:sh("ip -o addr show dev br0"):gsub("^%d+", "") end
      local before = seen()
      assert.is_truthy(before:find(label, 1, true), before)
      w:add()
      w:add({ id = "c2", pod = 2 })
      assert.is_nil(seen():find("10.5.0.77", 1, true))
      w:check()
      w:del()
      w:gc({})
      assert.equal(before, seen())
      w:sh("ip link del br0")
    end
  end)

  it("are a device's name and alias again when it comes home", function()
    local w = world.new({ type = "host-device", hwaddr = "02:00:00:00:00:07" })
    w:sh("ip link add name dev\xff\xc3 address 02:00:00:00:00:07 type veth peer name other")
    w:sh("ip link set dev\xff\xc3 alias a\xffb")
    local function seen() return w:sh("ip -o link show; cat /sys/class/net/*/ifalias"):gsub("@[^:]*", "") end
    local before = seen()
    assert.is_truthy(before:find("dev\xff\xc3", 1, true), before)
    p.strict(w:call("ADD").out)
    assert.is_nil(seen():find("dev\xff\xc3", 1, true))
    w:check()
    w:del({ prev = false, pod = false })
    assert.equal(before, seen())
  end)
end)
