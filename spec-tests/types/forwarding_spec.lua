-- SPDX-License-Identifier: MIT
-- Forwarding is switched on for attachments. A kernel that forwards IPv6 forgets the routes that
-- routers advertised, and hears no more of them; the host must notice nothing.

local t = require "support"
local world = require "world"

local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local v4 = { type = "host-local", subnet = "10.1.0.0/24" }

-- A router on the link `up0` of the host, in the namespace `router`. accept_ra: the link's own.
local function new(conf, accept_ra)
  local full = { type = "bridge", bridge = "br0", isGateway = true, ipam = dual }
  for key, value in pairs(conf or {}) do full[key] = value end
  -- The one router is this one.
  local w = world.new(full, { lived_in = false })
  w.router = t.netns("router", { lo = "up" })
  w:sh(([[ip link add up0 type veth peer name r0 netns router
    echo 0 >/proc/sys/net/ipv6/conf/up0/accept_dad; echo %d >/proc/sys/net/ipv6/conf/up0/accept_ra
    ip link add quiet0 type veth peer name q0 netns router
    ip link set up0 up; ip link set quiet0 up]]):format(accept_ra or 1))
  t.run([[echo 0 >/proc/sys/net/ipv6/conf/r0/accept_dad
    ip link set r0 up; ip link set q0 up; ip addr add fe80::1/64 dev r0 nodad]], { host = w.router })
  return w
end

local function advertise(w)
  t.run({ t.helper("advertise"), "r0", "20010db800000001" }, { host = w.router })
end

local function learnt(w)
  local found = {}
  for _, route in ipairs(t.ip(w.host, "-6 route show dev up0")) do
    if route.dst == "default" or route.dst:find("^2001:") then
      found[#found + 1] = route.dst .. " " .. (route.gateway or "")
    end
  end
  table.sort(found)
  return table.concat(found, ", ")
end

-- What comes before a link is quite up is lost, and said again, as routers do.
local function await_learnt(w)
  for attempt = 1, 100 do
    if learnt(w):find("default") then break end
    if attempt % 20 == 0 then advertise(w) end
    t.sh("sleep 0.02")
  end
  return learnt(w)
end

local function accept_ra(w, link) return t.sysctl(w.host, "net/ipv6/conf/" .. link .. "/accept_ra") end

local both <const> = "2001:db8:0:1::/64 , default fe80::1"

describe("Switching IPv6 forwarding on", function()
  for _, type_name in ipairs { "bridge", "ptp" } do
    it("keeps the routes that a router advertised, and hears the next advertisement: " .. type_name,
      function()
        local w = new { type = type_name }
        advertise(w)
        assert.matches(both, await_learnt(w), 1, true)
        w:add()
        assert.equal("1", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
        assert.equal(both, learnt(w))
        assert.equal("2", accept_ra(w, "up0"))
        w:sh("ip -6 route flush dev up0 proto ra; ip -6 route del default || :")
        assert.is_nil(learnt(w):find("default"))
        advertise(w)
        assert.matches("default fe80::1", await_learnt(w), 1, true)
        w:del()
        -- Forwarding stays on, and so does what it needs.
        assert.equal("2", accept_ra(w, "up0"))
        assert.matches("default fe80::1", learnt(w), 1, true)
      end)
  end

  it("loses them in the kernel's own way", function()
    local w = new()
    advertise(w)
    assert.equal(both, await_learnt(w))
    w:sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    assert.is_nil(learnt(w):find("default"))
  end)

  it("leaves links alone that no router has told anything", function()
    local w = new()
    w:add()
    assert.equal("1", accept_ra(w, "up0"))
    assert.equal("1", accept_ra(w, "quiet0"))
  end)

  it("leaves a link alone whose routes a program learns", function()
    local w = new(nil, 0)
    w:sh("ip -6 route add default via fe80::1 dev up0 proto ra")
    w:add()
    assert.equal("0", accept_ra(w, "up0"))
    assert.equal("default fe80::1", learnt(w))
  end)

  it("is not done for IPv4 alone", function()
    local w = new { ipam = v4 }
    advertise(w)
    await_learnt(w)
    w:add()
    assert.equal("0", t.sysctl(w.host, "net/ipv6/conf/all/forwarding"))
    assert.equal("1", accept_ra(w, "up0"))
    assert.equal(both, learnt(w))
  end)

  it("that is on already changes nothing", function()
    local w = new()
    w:sh("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; ip -6 route add default via fe80::1 dev up0 proto ra")
    w:add()
    assert.equal("1", accept_ra(w, "up0"))
  end)

  it("by a script's own sysctl keeps them too, on one link as on all", function()
    for _, link in ipairs { "all", "quiet0" } do
      local w = new { type = "router" }
      t.write("/etc/luacni/plugins/router.lua", ([[
return { add = function(req)
  req.host:set_sysctl { { "net/ipv6/conf/%s/forwarding", "1" } }
  return {}
end }]]):format(link))
      advertise(w)
      assert.equal(both, await_learnt(w))
      w:add { type = "luacni" }
      assert.equal(both, learnt(w))
      w:del { type = "luacni" }
      assert.equal("0", t.sysctl(w.host, ("net/ipv6/conf/%s/forwarding"):format(link)))
      t.cleanup()
    end
  end)
end)

describe("What is switched on for the node", function()
  -- sysctl --system as an administrator runs it, with files of this test alone.
  local function system(w, line)
    t.run(([[
      mount -t tmpfs none /etc/sysctl.d && mount -t tmpfs none /usr/lib/sysctl.d && mount --bind /dev/null /etc/sysctl.conf
      printf '%s\n' >/etc/sysctl.d/99-sysctl.conf
      sysctl --system >/dev/null; status=$?
      umount /etc/sysctl.d /usr/lib/sysctl.d /etc/sysctl.conf; exit $status]]):format(line), { host = w.host })
  end

  local hardened = "net.ipv4.ip_forward=0\\nnet.ipv6.conf.all.forwarding=0\\nnet.ipv6.conf.up0.accept_ra=1"

  local function values(w)
    return table.concat({ t.sysctl(w.host, "net/ipv4/ip_forward"), t.sysctl(w.host, "net/ipv6/conf/all/forwarding"),
      accept_ra(w, "up0") }, " ")
  end

  after_each(function() t.run "rm -rf /run/sysctl.d" end)

  it("stays on when its settings are read from files anew, and so what keeps it from doing harm", function()
    local w = new()
    advertise(w)
    await_learnt(w)
    -- The first process of a node is in the node's namespace.
    w:add { under = "unshare --pid --fork --mount-proc" }
    assert.equal("1 1 2", values(w))
    t.same({ "zz-luacni-net.ipv4.ip_forward.conf", "zz-luacni-net.ipv6.conf.all.forwarding.conf",
      "zz-luacni-net.ipv6.conf.up0.accept_ra.conf" }, (function()
      local names = {}
      for name in t.run("ls /run/sysctl.d"):gmatch "%S+" do names[#names + 1] = name end
      return names
    end)())
    system(w, hardened)
    assert.equal("1 1 2", values(w))
    w:del()
  end)

  it("is no node's where luacni runs in a namespace of its own: there is no file; and is the node's too when it was on", function()
    local w = new()
    w:add()
    w:del()
    t.same({}, t.files "/run/sysctl.d")
    system(w, hardened)
    assert.equal("0 0 1", values(w))
    w:sh "echo 1 >/proc/sys/net/ipv4/ip_forward"
    w:add { under = "unshare --pid --fork --mount-proc" }
    system(w, hardened)
    assert.equal("1 1", values(w):sub(1, 3))
    w:del()
  end)

  it("is no error of those programs when its link has gone", function()
    local w = new()
    t.write("/run/sysctl.d/zz-luacni-net.ipv6.conf.gone.accept_ra.conf", "-net/ipv6/conf/gone/accept_ra = 2\n")
    system(w, hardened)
    w:add()
    w:del()
  end)

  it("is switched on where no such file can be written", function()
    local w = new()
    t.write("/run/sysctl.d", "")
    w:add { under = "unshare --pid --fork --mount-proc" }
    assert.equal("1 1", values(w):sub(1, 3))
    w:del()
  end)
end)
