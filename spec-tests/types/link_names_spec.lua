-- SPDX-License-Identifier: MIT
-- Names that no link can have, wherever one is named: the runtime's CNI_IFNAME, a key of a configuration, a
-- site's script. One error, before anything changes; and DEL is content.

local t = require "support"
local world = require "world"

-- Names, and what is said of them. The kernel refuses all of them.
local bad = {
  { "all", "all or default" }, { "default", "all or default" },
  { ".", ". or .." }, { "..", ". or .." }, { "a/b", "contains /" }, { "a:b", "contains /" },
  { "a b", "contains /" }, { "a\tb", "contains /" }, { ("x"):rep(16), "16 bytes" },
  { "a\u{E0}", "byte A0" },
}
-- It takes these.
local good = { "All", "defaults", "all0", "conf", "...", "a-b", "a\u{E9}", ("x"):rep(15) }

local pool = { type = "host-local", subnet = "10.1.0.0/24" }
-- Where a configuration names a link.
local keys = {
  { "bridge", "bridge" }, { "macvlan", "master" }, { "macvlan", "shim", { master = "lo" } }, { "ipvlan", "master" },
  { "vlan", "master" }, { "host-device", "device" }, { "tap", "bridge" }, { "vrf", "vrfname" },
}

local function kernel_takes(name)
  local ns = t.netns()
  local _, status = t.sh({ "ip", "link", "add", "name", name, "type", "bridge" }, { host = ns })
  t.remove_netns(ns)
  return status == 0
end

describe("A name that no link can have", function()
  it("is one that the kernel refuses, and no other is", function()
    local names = require "cni.names"
    for _, entry in ipairs(bad) do
      assert.is_false(kernel_takes(entry[1]), entry[1])
      assert.truthy(names.link_problem(entry[1]))
    end
    for _, name in ipairs(good) do
      assert.is_true(kernel_takes(name), name)
      assert.is_nil(names.link_problem(name))
    end
  end)

  it("is refused as CNI_IFNAME before anything changes, and what no link has needs no DEL", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = pool })
    local before = w:picture()
    for _, entry in ipairs(bad) do
      for _, verb in ipairs { "ADD", "CHECK" } do
        local e = w:fails(verb, { ifname = entry[1] }, 4)
        assert.truthy(e.text:find(entry[2], 1, true), e.text)
        assert.truthy(e.msg:find("(CNI_IFNAME)", 1, true), e.msg)
      end
    end
    t.same(before, w:picture())
    for _, name in ipairs { "all", "default", "a\u{E0}", "eth%d", "a\xff" } do w:del({ ifname = name }) end
    t.same(before, w:picture())
    for _, name in ipairs(good) do
      w:add({ ifname = name })
      assert.truthy(t.link(w.pods[1], name))
      w:del({ ifname = name })
    end
    t.same(before, w:picture())
  end)

  it("is refused in every key that names a link", function()
    local w = world.new({ type = "bridge", ipam = pool }, { neighbours = false })
    local before = w:picture()
    for _, key in ipairs(keys) do
      for _, entry in ipairs(bad) do
        local c = { type = key[1], conf = t.merge({ type = key[1], [key[2]] = entry[1] }, key[3]) }
        local e = w:fails("ADD", c, 7)
        assert.equal(key[2] .. ": ", e.msg:sub(1, #key[2] + 2))
        assert.truthy(e.text:find(entry[2], 1, true), e.text)
        w:del(c)
      end
    end
    t.same(before, w:picture())
  end)

  it("is refused in a site's script before anything changes", function()
    local w = world.new({ type = "named" }, { neighbours = false })
    local before = w:picture()
    local steps = {
      "req.host:add_link { kind = 'bridge', name = NAME }", "req.host:ensure_link { kind = 'bridge', name = NAME }",
      "req.host:add_veth { name = NAME, peer = { ns = req.pod, name = 'eth0' } }",
      "req.host:add_veth { peer = { ns = req.pod, name = NAME } }", "req.pod:add_tap { name = NAME }",
      "req.host:lend_link(function() return 'lo' end, { ns = req.pod, name = NAME })",
    }
    for _, step in ipairs(steps) do
      for _, name in ipairs { "all", "a b", ("x"):rep(16) } do
        t.write("/etc/luacni/plugins/named.lua", ("return { add = function(req) req.host:add_link "
          .. "{ kind = 'bridge', name = 'first0' } %s return {} end }"):format((step:gsub("NAME", ("%q"):format(name)))))
        local e = w:fails("ADD", { type = "luacni" }, 999)
        assert.truthy(e.msg:find(("link %q: interface name"):format(name), 1, true), e.text)
        t.same(before, w:picture())
      end
    end
  end)
end)
