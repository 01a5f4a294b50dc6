-- SPDX-License-Identifier: MIT
-- Options of a kind of link: CHECK compares them, a link that is another tunnel is not taken for the wanted
-- one, and those of a link that is there are set and given back. And the name that a script chose.

local t = require "support"
local world = require "world"

-- A world whose plugin does what `script` says.
local function new(script, host)
  t.wipe()
  t.write("/etc/luacni/plugins/own.lua", ("return { add = function(req) %s end }"):format(script))
  local w = world.new({ type = "own" }, { pods = 2, neighbours = false, lived_in = false })
  if host then w:sh(host) end
  return w, w:picture()
end

local function call(w, verb, pod)
  return w:ok(verb, { type = "luacni", pod = pod or 1, id = "c" .. (pod or 1) })
end

local function fails(w, verb) return w:fails(verb, { type = "luacni" }).msg end

local function snooping(w) return t.link(w.host, "b0").linkinfo.info_data.mcast_snooping end

describe("An option of a shared link", function()
  local bridge = [[req.host:ensure_link { kind = "bridge", name = "b0", up = true, mcast_snooping = false,
    ageing_time = 1000 }]]

  it("is as it was made, or CHECK names it", function()
    local w, before = new(bridge)
    call(w, "ADD")
    assert.equal(0, snooping(w))
    call(w, "CHECK")
    w:sh("ip link set b0 type bridge mcast_snooping 1")
    assert.equal("bridge b0: mcast_snooping is true, not false", fails(w, "CHECK"))
    w:sh("ip link set b0 type bridge mcast_snooping 0")
    call(w, "ADD", 2)
    call(w, "CHECK", 2)
    call(w, "DEL", 1)
    call(w, "DEL", 2)
    t.same(before, w:picture())
  end)

  it("counts only when the link is made: on one of others it is as they have it", function()
    local w, before = new(bridge, "ip link add b0 type bridge; ip link set b0 up")
    call(w, "ADD")
    assert.equal(1, snooping(w))
    call(w, "CHECK")
    call(w, "DEL")
    t.same(before, w:picture())
  end)

  it("is compared with what the link was made with, and not with what a later script says", function()
    local w = new(bridge)
    call(w, "ADD")
    t.write("/etc/luacni/plugins/own.lua", "return { add = function(req) req.host:ensure_link { kind = 'bridge', "
      .. "name = 'b0', up = true, ageing_time = 2000 } end }")
    call(w, "ADD", 2)
    call(w, "CHECK", 2)
    w:sh("ip link set b0 type bridge ageing_time 3000")
    assert.equal("bridge b0: ageing_time is 3000, not 1000", fails(w, "CHECK"))
    call(w, "DEL", 1)
    call(w, "DEL", 2)
  end)
end)

describe("A tunnel", function()
  local tunnel = [[req.host:ensure_link { kind = "vxlan", name = "x0", up = true, vxlan_id = 42,
    vxlan_port = 4789, vxlan_local = "192.0.2.1" }]]
  local up0 = "ip link add up0 type veth peer name up1; ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; "

  it("that somebody has made anew with another ID or port is noticed by CHECK", function()
    t.needs "vxlan"
    for made, says in pairs {
      ["id 43 dstport 4789 local 192.0.2.1"] = "x0 exists, and its vxlan_id is 43, not 42",
      ["id 42 dstport 4790 local 192.0.2.1"] = "x0 exists, and its vxlan_port is 4790, not 4789",
      ["id 42 dstport 4789 local 192.0.2.7"] = "x0 exists, and its vxlan_local is 192.0.2.7, not 192.0.2.1",
    } do
      local w = new(tunnel, up0)
      call(w, "ADD")
      call(w, "CHECK")
      w:sh("ip link del x0; ip link add x0 type vxlan " .. made .. "; ip link set x0 up")
      assert.equal(says, fails(w, "CHECK"))
      t.cleanup()
    end
  end)

  it("has the MTU that it was made with, or CHECK names it", function()
    t.needs "vxlan"
    local w = new(tunnel:gsub("vxlan_id", "mtu = 1450, vxlan_id"), up0)
    call(w, "ADD")
    call(w, "CHECK")
    w:sh("ip link set x0 mtu 1400")
    assert.equal("vxlan x0: mtu is 1400, not 1450", fails(w, "CHECK"))
  end)

  it("that there is under another name is said in the kernel's words", function()
    t.needs "vxlan"
    local w, before = new(tunnel, up0 .. "ip link add vy type vxlan id 42 dstport 4789 local 192.0.2.1; ip link set vy up")
    assert.matches("link x0 could not be made.*VNI already exists", w:fails("ADD", { type = "luacni" }).text)
    t.same(before, w:picture())
  end)

  it("of another ID that is there is an error, and stays", function()
    t.needs "vxlan"
    local w, before = new(tunnel, up0 .. "ip link add x0 type vxlan id 43 dstport 4789 local 192.0.2.1")
    assert.matches("own.lua:1: ensure_link: x0 exists, and its vxlan_id is 43, not 42", fails(w, "ADD"), 1, true)
    t.same(before, w:picture())
  end)

  it("of the same ID that is there serves, and stays", function()
    t.needs "vxlan"
    local w, before = new(tunnel, up0 .. "ip link add x0 type vxlan id 42 dstport 4789 local 192.0.2.1; ip link set x0 up")
    call(w, "ADD")
    call(w, "CHECK")
    call(w, "DEL")
    t.same(before, w:picture())
  end)
end)

describe("set_link", function()
  local set = 'req.host:set_link("b0", { mcast_snooping = false%s })'
  local b0 = "ip link add b0 type bridge; ip link set b0 up"

  it("sets options of a link that is there, whether their kind is said or not; they come back", function()
    for _, more in ipairs { "", ', kind = "bridge"', ", ageing_time = 900" } do
      local w, before = new(set:format(more), b0)
      call(w, "ADD")
      assert.equal(0, snooping(w))
      call(w, "ADD", 2)
      call(w, "CHECK")
      call(w, "DEL")
      assert.equal(0, snooping(w))
      w:sh("ip link set b0 type bridge mcast_snooping 1")
      assert.equal("link b0 in the host: mcast_snooping is true, not false",
        w:fails("CHECK", { type = "luacni", pod = 2, id = "c2" }).msg)
      w:sh("ip link set b0 type bridge mcast_snooping 0")
      call(w, "DEL", 2)
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("sets those of a link that the same script makes", function()
    local w, before = new([[local br = req.host:ensure_link { kind = "bridge", name = "b0", up = true }
      req.host:set_link(br, { mcast_snooping = false })]])
    call(w, "ADD")
    assert.equal(0, snooping(w))
    call(w, "CHECK")
    call(w, "DEL")
    t.same(before, w:picture())
  end)

  it("refuses options of another kind than the link's, and of two kinds", function()
    local w, before = new(set:format(""), t.pair("b0", "b1"))
    assert.matches("set b0 in the host: .*it is no bridge but a veth", fails(w, "ADD"))
    t.same(before, w:picture())
    t.cleanup()
    w, before = new(set:format(", vxlan_ttl = 5"), b0)
    assert.matches("own.lua:1: set_link", w:fails("ADD", { type = "luacni" }).text)
    t.same(before, w:picture())
  end)
end)

describe("The host's end of a pair", function()
  local function pair(name)
    return ([[local a, b = req.host:add_veth { %s peer = { ns = req.pod, name = req.ifname } }
      req.host:set_link(a, { up = true })
      return { interfaces = { a, b } }]]):format(name)
  end

  it("has the name that the script chose, or CHECK says so", function()
    local w = new(pair 'name = "ns-web",')
    call(w, "ADD")
    call(w, "CHECK")
    w:sh("ip link set ns-web down; ip link set ns-web name nw; ip link set nw up")
    assert.equal("the end of eth0 in the host is called nw, not ns-web", fails(w, "CHECK"))
    call(w, "DEL")
    assert.is_nil(t.link(w.host, "nw"))
  end)

  it("may be called anything where the script left it to chance", function()
    local w = new(pair "")
    call(w, "ADD")
    local port = w:port(1).ifname
    w:sh(("ip link set %s down; ip link set %s name nw; ip link set nw up"):format(port, port))
    call(w, "CHECK")
    call(w, "DEL")
    assert.is_nil(t.link(w.host, "nw"))
  end)
end)
