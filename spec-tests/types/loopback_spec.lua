-- SPDX-License-Identifier: MIT
-- What plugin `loopback` promises: `lo` of the pod up, its addresses reported,
-- a result of the right shape in every version, prevResult passed on untouched.

local t = require "support"
local world = require "world"

local function loopback(conf)
  local full = { type = "loopback" }
  for key, value in pairs(conf or {}) do full[key] = value end
  return world.new(full)
end

local function is_up(ns)
  for _, flag in ipairs(t.link(ns, "lo").flags) do
    if flag == "UP" then return true end
  end
  return false
end

describe("loopback ADD", function()
  it("sets lo up and reports it with both addresses", function()
    local w = loopback()
    assert.is_false(is_up(w.pods[1]))
    t.same({
      cniVersion = "1.1.0",
      interfaces = { { name = "lo", mac = "00:00:00:00:00:00", sandbox = "/run/netns/pod1" } },
      ips = { { address = "127.0.0.1/8", interface = 0 }, { address = "::1/128", interface = 0 } },
    }, w:add())
    assert.is_true(is_up(w.pods[1]))
  end)

  it("means lo whatever CNI_IFNAME is", function()
    local w = loopback()
    assert.equal("lo", w:add({ ifname = "net7" }).interfaces[1].name)
    assert.is_true(is_up(w.pods[1]))
  end)

  it("without IPv6 reports IPv4 alone", function()
    local w = loopback()
    w:in_pod("for c in all default lo; do " ..
      "echo 1 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done")
    t.same({ { address = "127.0.0.1/8", interface = 0 } }, w:add().ips)
  end)

  it("passes prevResult on as it is", function()
    local prev = { cniVersion = "1.1.0",
      interfaces = { { name = "eth0", mac = "0a:00:00:00:00:01", sandbox = "/run/netns/pod1",
        mtu = 1400 } },
      ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 } },
      routes = { { dst = "0.0.0.0/0", gw = "10.1.0.1", priority = 5 } },
      dns = { nameservers = { "1.1.1.1" } } }
    local w = loopback()
    t.same(prev, w:add({ prev = prev }))
    assert.is_true(is_up(w.pods[1]))
  end)

  it("refuses a prevResult that does not parse and leaves lo down", function()
    local w = loopback()
    w:fails("ADD", { prev = { cniVersion = "0.3.1", interfaces = t.list() } })
    w:fails("ADD", { prev = { cniVersion = "1.1.0", ips = "x" } })
    assert.is_false(is_up(w.pods[1]))
  end)

  it("refuses an address of the outside on lo", function()
    local w = loopback()
    w:in_pod("ip addr add 10.5.5.5/32 dev lo")
    local e = w:fails("ADD")
    assert.truthy(e.text:find("10.5.5.5", 1, true), e.text)
    assert.is_false(is_up(w.pods[1]))
  end)

  it("refuses a namespace that is not there", function()
    loopback():fails("ADD", { pod = "/run/netns/nowhere" })
  end)

  it("gives every version its own shape", function()
    local w = loopback({ cniVersion = "0.4.0" })
    t.same({ cniVersion = "0.4.0", dns = {},
      interfaces = { { name = "lo", mac = "00:00:00:00:00:00", sandbox = "/run/netns/pod1" } },
      ips = { { version = "4", address = "127.0.0.1/8", interface = 0 },
        { version = "6", address = "::1/128", interface = 0 } } }, w:add())
    w:del()
    for _, version in ipairs({ "0.1.0", "0.2.0" }) do
      t.same({ cniVersion = version, dns = {}, ip4 = { ip = "127.0.0.1/8" },
        ip6 = { ip = "::1/128" } }, w:add({ conf = { cniVersion = version } }))
      w:del({ conf = { cniVersion = version } })
    end
  end)
end)

describe("loopback DEL", function()
  it("sets lo down again, and twice is fine", function()
    local w = loopback()
    local before = w:picture()
    w:add()
    w:del()
    assert.is_false(is_up(w.pods[1]))
    w:del()
    t.same(before, w:picture())
  end)

  it("is content without a namespace, and with one that is gone", function()
    local w = loopback()
    local before = w:picture().records
    w:add()
    w:del({ pod = false })
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:del({ pod = "/run/netns/pod1" })
    t.same(before, t.snapshot().records)
  end)
end)

describe("loopback CHECK", function()
  it("passes after ADD and changes nothing", function()
    local w = loopback()
    w:add()
    local before = w:picture()
    w:check()
    w:check({ prev = false })
    t.same(before, w:picture())
  end)

  it("names lo when it is down", function()
    local w = loopback()
    w:add()
    w:in_pod("ip link set lo down")
    local e = w:fails("CHECK")
    assert.truthy(e.text:find("%f[%w]lo%f[%W]"), e.text)
    assert.is_false(is_up(w.pods[1]))
  end)
end)

describe("loopback beside bridge", function()
  it("in one chain, each takes back its own part", function()
    local w = loopback()
    local bridge = { type = "bridge", bridge = "br0", removeUnused = true,
      ipam = { type = "host-local", subnet = "10.1.0.0/24" } }
    local before = w:picture()
    local first = w:add()
    local second = w:add({ type = "bridge", conf = bridge })
    w:del({ type = "bridge", conf = bridge, prev = second })
    assert.is_true(is_up(w.pods[1]))
    assert.is_nil(t.link(w.pods[1], "eth0"))
    w:del({ prev = first })
    t.same(before, w:picture())
  end)
end)
