-- SPDX-License-Identifier: MIT
-- A host has an eth0 of its own, and its containers have one each. Before Linux 6.15 a link that is born
-- in another namespace collides there with one of that name here.
--
-- Seconds a test takes on the second kernel: 12

local t = require "support"
local on_master = require "on_master"
local world = require "world"

local kinds = {
  { "macvlan" }, { "ipvlan" }, { "vlan", { vlanId = 100 } },
  { "macvlan", { mac = "02:00:00:00:00:42" } }, { "macvlan", { mtu = 1400 } },
}

local function new(kind, more, opts)
  t.needs("clash", kind)
  local w = world.new(t.with({ type = kind, master = "up0", enabledad = false, ipam = on_master.v4 },
    more), t.merge({ far = true }, opts))
  if not t.link(w.host, "eth0") then
    w:sh(t.pair("eth0", "eth9") .. "ip addr add 203.0.113.1/24 dev eth0")
  end
  return w
end

describe("A link of a name that the host has too", function()
  for _, case in ipairs(kinds) do
    local kind, more = table.unpack(case)
    it(("is made by %s%s, and the host's is left alone"):format(kind,
      more and " with a " .. next(more) or ""), function()
      -- The links of the sandbox are counted.
      local w = new(kind, more, { neighbours = { interface = false } })
      local before, own = on_master.glance(w), t.link(w.host, "eth0")
      local result = w:add()
      local eth = t.link(w.pods[1], "eth0")
      assert.equal(kind, eth.linkinfo.info_kind)
      assert.is_true(t.has_flag(eth, "UP"))
      assert.is_true(on_master.stands_on(w, "up0"))
      assert.equal(eth.address, result.interfaces[1].mac)
      assert.equal(more and more.mac or eth.address, eth.address)
      assert.equal(more and more.mtu or 1500, eth.mtu)
      t.same({ "10.1.0.2/24" }, world.addrs(w.pods[1], "eth0"))
      t.same(own, t.link(w.host, "eth0"))
      assert.equal(2, #t.ip(w.pods[1], "link show"))
      w:check()
      on_master.refused(w, { {}, nil, "eth0", "already" })
      w:del()
      on_master.unchanged(w, before)
    end)
  end

  it("on a VLAN that is taken is told by the VLAN, and by the name if the sandbox has it", function()
    local w = new("vlan", { vlanId = 100 }, { pods = 2 })
    w:add()
    on_master.refused(w,
      { { id = "c2", pod = 2 }, nil, "VLAN 100 of up0 is taken by eth0 of container c1" },
      { { id = "c2", conf = { vlanId = 101, ipam = { type = "host-local", subnet = "10.2.0.0/24" } } },
        nil, "link eth0 exists already in the sandbox" })
    w:add({ id = "c2", pod = 2, conf = { vlanId = 101 } })
    w:check()
  end)

  it("is refused with the kernel's own reason, not with the name's", function()
    local w = new("macvlan", { mode = "passthru" }, { pods = 2 })
    w:add()
    on_master.refused(w, { { id = "c2", pod = 2 }, nil, "up0 carries eth0 of container c1" })
  end)

  -- Beside it other requests of the same send are refused, or carried out.
  it("is made by a script of the site, and what it asks for beside it", function()
    t.needs("clash", "vxlan")
    t.write("/etc/luacni/plugins/tunnels.lua", [[
      local schema = require "cni.schema"
      return {
        conf = schema.record { port = schema.string },
        add = function(req)
          local host, list = req.host, {}
          local function vxlan(name, ns, id)
            list[#list + 1] = host:add_link { kind = "vxlan", name = name, ns = ns, vxlan_id = id,
              vxlan_port = 4789, up = true }
          end
          host:add_link { kind = "bridge", name = "one" }
          vxlan("eth0", req.pod, 7)
          vxlan(req.conf.port, nil, 8)
          vxlan("eth9", req.pod, 9)
          host:add_link { kind = "bridge", name = "two" }
          return { interfaces = list }
        end,
      }]])
    local w = new("macvlan", { type = "tunnels", port = "port0" })
    t.run("mkdir /run/spec/site; ln -s " .. t.bin.ours .. "/luacni /run/spec/site/tunnels")
    w.bin = "/run/spec/site"
    local before = on_master.glance(w)
    w:add()
    for name, id in pairs({ eth0 = 7, eth9 = 9 }) do
      local link = t.link(w.pods[1], name)
      assert.equal(id, link.linkinfo.info_data.id)
      assert.is_true(t.has_flag(link, "UP"))
    end
    for _, name in ipairs({ "one", "two", "port0" }) do assert.truthy(t.link(w.host, name), name) end
    w:check()
    w:del()
    on_master.unchanged(w, before)
    on_master.refused(w, { { conf = { port = "up0" } }, nil, "up0 exists already in the host" })
  end)

  for _, kind in ipairs({ "macvlan", "ipvlan", "vlan" }) do
    it(("killed at any change of ADD is taken back, %s"):format(kind), function()
      -- Everybody's records are lost on the way.
      local w = new(kind, nil, { neighbours = false })
      -- Once round, for the files that stay.
      w:add()
      w:del()
      local before, swept = on_master.glance(w), 0
      local ways = {
        function() w:del() end,
        -- An ADD that was killed has answered nothing: the world's result is of another link, which DEL
        -- tells by its MAC.
        function() t.run("rm -rf /run/luacni") w:del({ prev = false }) end,
        function() w:gc({}) end,
        function() if w:call("ADD").rc == 0 then w:check() end w:del() end,
      }
      for n = 1, 200, t.stride(3) do
        for _, mend in ipairs(n % 2 == 0 and { ways[1], ways[2] } or { ways[3], ways[4] }) do
          local call = { verb = "ADD", type = kind, host = w.host, netns = w.pods[1],
            under = ("%s %d"):format(t.helper("killat"), n) }
          local _, status = t.sh(t.cni_words(call), { stdin = t.conf_bytes(w:config()) })
          if status == 100 then
            assert.is_true(swept > 10, tostring(swept))
            return
          end
          assert.equal(101, status)
          swept = n
          mend()
          on_master.unchanged(w, before, "killed at change " .. n)
        end
      end
      error("it never came to its end")
    end)
  end
end)
