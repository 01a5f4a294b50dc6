-- SPDX-License-Identifier: MIT
-- What is promised on a kernel that was started with ipv6.disable=1: other_kernels_spec runs this there.

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } }, routes = { { dst = "0.0.0.0/0" } } }
local dual = t.with(v4, { ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } })

local types = {
  { type = "bridge", bridge = "br0", isGateway = true, ipMasq = true },
  { type = "ptp", ipMasq = true },
  { type = "macvlan", master = "port0" },
  { type = "ipvlan", master = "port0" },
  { type = "vlan", master = "port0", vlanId = 5 },
  { type = "host-device", device = "port0" },
  { type = "dummy" },
  { type = "tap" },
}

local function new(conf, ipam)
  local w = world.new(t.with(conf, { ipam = ipam }), { lived_in = false, neighbours = false, pods = 2 })
  w:sh "ip link add port0 type veth peer name port1; ip link set port1 up; ip link set port0 up"
  return w
end

-- All that an attachment may leave, without asking for what this kernel has not.
local function picture(w)
  local shot = { records = t.files "/run/luacni/attachments", leases = {} }
  for name in pairs(t.files(t.lease_dir)) do
    if name:find "/%x+[.:]" then shot.leases[name] = true end
  end
  for _, ns in ipairs { w.host, table.unpack(w.pods) } do
    shot[ns.name] = t.run("ip -d link; ip -4 addr; ip -4 route show table all; nft list ruleset", { host = ns })
      :gsub("state %u+", "")
  end
  return shot
end

after_each(t.cleanup)

it("the kernel has none", function() assert.is_nil(t.read "/proc/sys/net/ipv6/conf/all/forwarding") end)

for _, conf in ipairs(types) do
  describe(conf.type, function()
    it("serves IPv4", function()
      local w = new(conf, v4)
      local before = picture(w)
      w:add()
      t.same({ "10.1.0.2/24" }, world.addrs(w.pods[1], "eth0"))
      w:check()
      if conf.bridge then
        w:add { id = "c2", pod = 2 }
        w:in_pod "ping -c1 -W5 10.1.0.3"
        w:in_pod "ping -c1 -W5 10.1.0.1"
        w:del { id = "c2", pod = 2 }
      end
      w:del()
      w:del()
      local after = picture(w)
      if conf.bridge then before.host, after.host = nil, nil end
      t.same(before, after)
    end)

    it("refuses IPv6, says why, and leaves nothing", function()
      local w = new(conf, dual)
      local before = picture(w)
      local err = w:fails("ADD")
      assert.truthy(err.text:find("Operation not supported", 1, true), err.text)
      assert.truthy(err.text:find("this kernel has no IPv6", 1, true), err.text)
      assert.is_nil(err.text:find("taking it back failed", 1, true), err.text)
      t.same(before, picture(w))
      w:del()
      t.same(before, picture(w))
    end)
  end)
end
