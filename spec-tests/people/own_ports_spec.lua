-- SPDX-License-Identifier: MIT
-- A link that attachments share goes with its last user, also when a script makes its own link first and plugs
-- it in later: undo goes backwards, and a port of this attachment's own is nobody else's.

local t = require "support"
local world = require "world"

local first <const> = [[local p, e = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } } ]]
local bridge <const> = [[local br = req.host:ensure_link { kind = "bridge", name = "bro", up = true } ]]
local plug <const> = [[req.host:set_link(p, { master = br, up = true }) ]]

local orders <const> = {
  ["its own link first"] = first .. bridge .. plug,
  ["its own link first, and an address on the bridge"] = first .. bridge
    .. [[req.host:ensure_addr(br, "10.9.0.1/24") ]] .. plug,
  ["its own link first, from the sandbox"] = [[
    local e, p = req.pod:add_veth { name = req.ifname, peer = { ns = req.host, name = "hostend" .. req.container_id } }
  ]] .. bridge .. plug,
  ["its own links first, of which one is in another bridge"] = [[
    local a = req.host:ensure_link { kind = "bridge", name = "bra", up = true }
    req.host:add_veth { master = a, peer = { ns = req.pod, name = "other0" } }
  ]] .. first .. bridge .. plug,
  ["its own link first, and a lease in between"] = first .. [[require("cni.ipam").add(req) ]] .. bridge .. plug,
}

local function write(body)
  t.write("/etc/luacni/plugins/own.lua",
    ("return { add = function(req) %s return { interfaces = { p, e } } end }"):format(body))
end

local function new(body, pods)
  write(body)
  return world.new({ type = "own", ipam = { type = "host-local", subnet = "10.9.0.0/24" } }, { neighbours = false, pods = pods })
end

local function with(c)
  c = c or {}
  c.type = "luacni"
  return c
end

before_each(function() t.wipe() end)

local names = {}
for name in pairs(orders) do names[#names + 1] = name end
table.sort(names)

describe("A shared link goes with its last user, with", function()
  for _, name in ipairs(names) do
    it(name, function()
      local w = new(orders[name], 2)
      local before = w:picture()
      w:add(with())
      w:add(with { id = "c2", pod = 2 })
      w:del(with())
      assert.truthy(t.link(w.host, "bro"))
      w:check(with { id = "c2", pod = 2 })
      w:del(with { id = "c2", pod = 2 })
      t.same(before, w:picture())
    end)
  end
end)

describe("A bridge whose port was made before it", function()
  local body <const> = orders["its own link first, and an address on the bridge"]

  it("goes by a DEL without a record, by GC of several, and with a failed ADD", function()
    local w = new(body, 2)
    local before = w:picture()
    w:add(with())
    w:del(with { pod = false })
    t.same(before, w:picture())
    w:add(with())
    w:add(with { id = "c2", pod = 2 })
    w:gc({}, { type = "luacni" })
    t.same(before, w:picture())
    write(body .. [[req.host:set_link("nothing", { up = true }) ]])
    assert.matches("nothing", w:fails("ADD", with()).text)
    t.same(before, w:picture())
  end)

  it("stays while somebody else's port is in it, and goes with the last user of the next time", function()
    local w = new(body)
    local before = w:picture()
    w:add(with())
    w:sh("ip link add mine0 type dummy || ip link add mine0 type veth peer name mine1; ip link set mine0 master bro")
    w:del(with())
    assert.equal("bro", t.link(w.host, "mine0").master)
    w:sh("ip link del mine0")
    w:add(with())
    w:del(with())
    t.same(before, w:picture())
  end)

  it("goes too when a DEL is killed at any change", function()
    local w = new(body)
    local before, swept = w:picture(), 0
    local conf = t.conf_bytes(w:config())
    for n = 1, 200, t.stride(3, { sanitized = 9 }) do
      w:add(with())
      local _, status = t.sh(t.cni_words({ verb = "DEL", type = "luacni", host = w.host, netns = w.pods[1],
        under = ("%s %d"):format(t.helper("killat"), n) }), { stdin = conf })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      w:del(with())
      t.same(before, w:picture(), "killed at change " .. n)
    end
    assert.is_true(swept > 5 and swept < 190, swept)
  end)
end)

describe("A handle on the sandbox", function()
  it("makes links that are born in the host, pairs and others", function()
    local w = new([[
      local e, p = req.pod:add_veth { name = req.ifname, peer = { ns = req.host, name = "hostend" } }
      req.pod:add_link { kind = "bridge", name = "outside", ns = req.host } ]])
    local before = w:picture()
    w:add(with())
    assert.equal("veth", t.link(w.host, "hostend").linkinfo.info_kind)
    assert.equal("bridge", t.link(w.host, "outside").linkinfo.info_kind)
    assert.is_nil(t.link(w.pods[1], "hostend"))
    assert.is_nil(t.link(w.pods[1], "outside"))
    w:check(with())
    w:del(with())
    t.same(before, w:picture())
  end)
end)
