-- SPDX-License-Identifier: MIT
-- What a step is in words, in a dry run, in `explain` and in a CHECK's error: all that tells it from another one.

local t = require "support"
local world = require "world"
local cli = require "cli"

local bin = "/run/spec/bin"

local function new(body, more)
  t.write("/etc/luacni/plugins/own.lua", ("return { %s add = function(req) %s end }"):format(more or "", body))
  return world.new({ type = "own" }, { neighbours = false })
end

local function with(c) return t.merge({ type = "luacni" }, c or {}) end

-- The lines that tell of steps, of a dry run and of `explain`.
local function said(w)
  cli.host = w.host
  t.write("/etc/cni/net.d/net.conflist", t.conf_bytes { cniVersion = "1.1.0", name = "net", plugins = t.list { { type = "own" } } })
  local dry = cli.succeeds { "run", "net", "--dry-run" }
  return { dry, (cli.succeeds { "explain", "net", "c1" }) }
end

local veth <const> = [[local p, e = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
  req.pod:set_link(e, { up = true }) req.host:set_link(p, { up = true }) ]]
local done <const> = " return { interfaces = { p, e } }"

before_each(function() t.wipe() end)

describe("Words of a step", function()
  it("have the table and the metric of a route, where it has them", function()
    local w = new(veth .. [[req.pod:add_route { dst = "10.1.0.0/16", link = e, table = 77, priority = 5, scope = 253 }
      req.pod:add_route { dst = "10.2.0.0/16", link = e, scope = 253 }]] .. done)
    w:add(with())
    for _, text in ipairs(said(w)) do
      assert.truthy(text:find("route 10.1.0.0/16 dev eth0 in table 77 with metric 5\n", 1, true), text)
      assert.truthy(text:find("route 10.2.0.0/16 dev eth0\n", 1, true), text)
    end
    w:check(with())
    w:in_pod "ip route del 10.1.0.0/16 table 77"
    assert.matches("route 10.1.0.0/16 in table 77 with metric 5 on eth0 is missing", w:fails("CHECK", with()).text)
    w:in_pod "ip route del 10.2.0.0/16"
    assert.matches("route 10.2.0.0/16 on eth0 is missing", w:fails("CHECK", with()).text)
  end)

  it("have what a link is plugged into, where it is", function()
    local w = new([[local br = req.host:ensure_link { kind = "bridge", name = "bro", up = true }
      req.host:ensure_link { kind = "bridge", name = "brd" }
      local v = req.host:ensure_link { kind = "veth", name = "va0", up = true, master = br, peer = { master = br } }
      ]] .. veth .. done)
    w:add(with())
    for _, text in ipairs(said(w)) do
      assert.truthy(text:find("make sure of bridge bro in the host: up\n", 1, true), text)
      assert.truthy(text:find("make sure of bridge brd in the host\n", 1, true), text)
      assert.truthy(text:find("make sure of veth va0 in the host: up, plugged into bro, its other end ", 1, true), text)
    end
  end)
end)

describe("A call's `undo` and `check`", function()
  -- A program that says which links it sees.
  local function served(body, opts)
    local w = new((body:gsub("PROGRAM", bin .. "/where")), opts)
    t.run("mkdir -p " .. bin)
    t.write(bin .. "/where", ("#!/bin/sh\necho $CNI_COMMAND $(ip -o link show eth7 2>/dev/null | wc -l) >>%s/seen\n")
      :format(bin))
    t.run(("chmod +x %s/where; rm -f %s/seen"):format(bin, bin))
    w:in_pod "ip link add eth7 type dummy || ip link add eth7 type veth peer name eth8"
    return w
  end

  it("run where their own ns says, else where the call ran", function()
    local w = served(veth .. [[req:call { program = "PROGRAM", undo = { ns = req.pod }, check = { ns = req.pod } } ]] .. done)
    local function round()
      w:add(with())
      w:check(with())
      w:del(with())
      return t.read(bin .. "/seen")
    end
    assert.equal("ADD 0\nCHECK 1\nDEL 1\n", round())
    t.write("/etc/luacni/plugins/own.lua", (t.read("/etc/luacni/plugins/own.lua")
      :gsub("undo = { ns = req.pod }, check", "ns = req.pod, undo = { ns = req.host }, check")))
    t.run("rm " .. bin .. "/seen")
    assert.equal("ADD 1\nCHECK 1\nDEL 0\n", round())
    t.write("/etc/luacni/plugins/own.lua", (t.read("/etc/luacni/plugins/own.lua")
      :gsub("undo = { ns = req.host }, check = { ns = req.pod }", "undo = {}, check = {}")))
    t.run("rm " .. bin .. "/seen")
    assert.equal("ADD 1\nCHECK 1\nDEL 1\n", round())
  end)

  it("of a request by HTTP take ns too; what is no handle is refused", function()
    local w = served(veth .. [[req:http { url = "http://127.0.0.1:1/", undo = { ns = "pod" } } ]] .. done)
    assert.matches("req:http: undo.ns: expected a handle", w:fails("ADD", with()).text)
    t.write("/etc/luacni/plugins/own.lua", (t.read("/etc/luacni/plugins/own.lua"):gsub('"pod"', "req.pod")))
    assert.matches("GET http://127.0.0.1:1/", w:fails("ADD", with()).text)
  end)
end)

describe("A CHECK where the script needs a key of CNI_ARGS", function()
  it("says that nothing is attached, or that the key is missing, as is so", function()
    local w = new(veth .. done, [[args = require("cni.schema").record {
      TENANT = require("cni.schema").string { required = true } },]])
    assert.matches("eth0 of container c1 is not attached to network net", w:fails("CHECK", with()).msg)
    w:add(with { args = "TENANT=a" })
    w:check(with { args = "TENANT=a" })
    assert.matches("TENANT", w:fails("CHECK", with(), 4).msg)
  end)
end)

describe("luacni tree", function()
  it("finds an interface that the script has called otherwise, by the result", function()
    local w = new([[local p, e = req.host:add_veth { name = "hostend", peer = { ns = req.pod, name = "inner" } }]] .. done)
    w:add(with())
    cli.host = w.host
    local plain = { env = { "LC_ALL=C" } }
    assert.equal("hostend  veth, down\n`- c1 eth0 (inner)  network net\n", (cli.succeeds({ "tree", "net" }, plain)))
    w:in_pod "ip link del inner"
    assert.equal("on no link of the host\n`- c1 eth0  network net  (there is no such interface)\n",
      (cli.succeeds({ "tree", "net" }, plain)))
  end)
end)

describe("A DEL without a record of a script that never ends", function()
  it("goes on without it in five seconds, and takes back what the script had asked for by then", function()
    local w = new(veth .. done)
    local before = w:picture()
    w:add(with())
    w:lose_records()
    t.write("/etc/luacni/plugins/own.lua", ("return { add = function(req) %s while true do end end }"):format(veth))
    local begin = os.time()
    w:del(with())
    assert.is_true(os.time() - begin < 30)
    t.same(before, w:picture())
  end)
end)

describe("A VLAN that a port is not to have", function()
  it("is content with a kernel that has none, and CHECK finds one that is there", function()
    local body = [[
      local br = req.host:ensure_link { kind = "bridge", name = "bro", up = true }
      local p, e = req.host:add_veth { name = "hostend", master = br, peer = { ns = req.pod, name = req.ifname } }
      req.host:set_vlan(p, { vid = 7, absent = true })]]
    local w = new(body .. done)
    w:add(with())
    w:check(with())
    if t.has "bridge-vlan" then
      w:sh "bridge vlan add dev hostend vid 7"
      assert.matches("port hostend: VLAN 7 is present", w:fails("CHECK", with()).text)
    end
    w:del(with())
  end)

  it("is not content where one is wanted", function()
    local w = new([[
      local br = req.host:ensure_link { kind = "bridge", name = "bro", up = true }
      local p, e = req.host:add_veth { name = "hostend", master = br, peer = { ns = req.pod, name = req.ifname } }
      req.host:set_vlan(p, { vid = 7 })]] .. done)
    if t.has "bridge-vlan" then
      w:add(with())
      w:sh "bridge vlan del dev hostend vid 7"
      assert.matches("port hostend: VLAN 7 is missing", w:fails("CHECK", with()).text)
    else
      w:fails("ADD", with())
    end
  end)
end)
