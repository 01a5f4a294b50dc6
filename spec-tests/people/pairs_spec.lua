-- SPDX-License-Identifier: MIT
-- Pairs of links of another kind than veth, made by a script. Where the kernel has none of the kind, the request
-- and the error are looked at.

local cli = require "cli"
local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/pair.lua"

-- A script that makes a pair with what is given beside its peer, and no more.
local function write(more, peer_more)
  t.write(path, ([[
return { add = function(req)
  local port, eth = req.host:add_veth { name = "p0", %s, peer = { ns = req.pod, name = req.ifname, %s } }
  return { interfaces = { port, eth } }
end }]]):format(more, peer_more or ""))
end

describe("A pair that a script makes", function()
  local w, before
  before_each(function()
    t.wipe()
    w = world.new({ type = "pair" }, { neighbours = false, lived_in = false })
    before = w:picture()
  end)
  after_each(t.cleanup)

  local function call(verb) return w:call(verb, { type = "luacni", conf = { type = "pair" } }) end

  -- It lives as attachments do, and goes with them, killed or not.
  local function lives(kind)
    local got = call("ADD")
    assert.equal(0, got.rc, got.out)
    local port, eth = t.link(w.host, "p0"), t.link(w.pods[1], "eth0")
    t.same({ kind, kind, 1400, 1400 }, { port.linkinfo.info_kind, eth.linkinfo.info_kind, port.mtu, eth.mtu })
    got = call("CHECK")
    assert.equal(0, got.rc, got.out)
    w:sh "ip link set p0 mtu 1300"
    assert.matches("link p0: mtu is 1300, not 1400", call("CHECK").json.msg)
    for _ = 1, 2 do assert.equal(0, call("DEL").rc) end
    t.same(before, w:picture())
    assert.equal(0, call("ADD").rc)
    w:lose_records()
    assert.equal(0, call("DEL").rc)
    t.same(before, w:picture())
  end

  it("may be named veth, and lives as one", function()
    write "kind = 'veth', mtu = 1400"
    lives "veth"
  end)

  it("may be of kind netkit where the kernel has it; where it has not, that is said and nothing is left", function()
    for _, mode in ipairs { "l2", "l3" } do
      write(("kind = 'netkit', netkit_mode = '%s', mtu = 1400"):format(mode))
      if t.has "netkit" then
        lives "netkit"
      else
        local got = call("ADD")
        t.same({ 1, path .. ":2: add_veth: create netkit pair p0, peer eth0 in the sandbox: add link p0: Operation not "
          .. "supported (Unknown device type)", "this kernel makes no links of kind netkit: CONFIG_NETKIT is off, or its "
          .. "module is not there" }, { got.rc, got.json.msg, got.json.details })
        assert.equal(0, call("DEL").rc)
        t.same(before, w:picture())
      end
    end
  end)

  it("is asked for with what its kind has: a netkit with MACs in the mode l2 alone", function()
    t.needs "calls"
    cli.host = w.host
    t.run "mkdir -p /etc/cni/net.d"
    finally(function() t.run "rm -rf /etc/cni/net.d" end)
    t.write("/etc/cni/net.d/10-net.conflist", t.json { cniVersion = "1.0.0", name = "net",
      plugins = { { type = "pair" } } })
    local mac = "%x%x:%x%x:%x%x:%x%x:%x%x:%x%x"
    for more, wanted in pairs {
      ["kind = 'netkit', netkit_mode = 'l2', netkit_policy = 'drop', mtu = 1400"] =
        " name=p0 mac=" .. mac .. " mtu=1400 kind=netkit peer={name=eth0 mac=" .. mac .. " mtu=1400 netns=pod} "
        .. "netkit_mode=l2 netkit_policy=drop ",
      ["kind = 'netkit', mtu = 1400"] = " name=p0 mtu=1400 kind=netkit peer={name=eth0 mtu=1400 netns=pod} %[",
      ["mtu = 1400"] = " name=p0 mac=" .. mac .. " mtu=1400 kind=veth peer={name=eth0 mac=" .. mac .. " mtu=1400 netns=pod} ",
    } do
      write(more)
      local out, _, err = cli.luacni({ "trace", "add", "net", w.pods[1].path }, { env = { "CNI_PATH=" .. t.build } })
      local line = (out .. err):match "RTM_NEWLINK %(create[^\n]*"
      assert.matches(wanted, line or out .. err)
      cli.luacni({ "del", "net", w.pods[1].path }, { env = { "CNI_PATH=" .. t.build } })
    end
    t.same(before, w:picture())
  end)

  it("is refused where a kind is none of pairs, or an option is not the kind's", function()
    for more, msg in pairs {
      ["kind = 'netkti'"] = "kind: unknown kind of pair 'netkti' (did you mean 'netkit'?)",
      ["kind = 'bridge'"] = "kind: unknown kind of pair 'bridge' (there are netkit, veth)",
      ["netkit_mode = 'l2'"] = "key 'netkit_mode' needs kind = \"netkit\"",
      ["kind = 'netkit', mac = '02:00:00:00:00:01'"] = 'mac: a netkit has one with netkit_mode = "l2" alone',
    } do
      write(more)
      assert.equal(path .. ":2: add_veth: " .. msg, call("ADD").json.msg)
    end
    write("kind = 'netkit'", "mac = '02:00:00:00:00:01'")
    assert.equal(path .. ':2: add_veth: peer.mac: a netkit has one with netkit_mode = "l2" alone', call("ADD").json.msg)
    t.same(before, w:picture())
  end)
end)
