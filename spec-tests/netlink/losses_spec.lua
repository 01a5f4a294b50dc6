-- SPDX-License-Identifier: MIT
-- netlink.losses: which changes in the kernel it takes for a loss, and which not.

local netlink = require "netlink"
local t = require "support"

local host, pod, losses

-- Run shell in a namespace, and say whether that was a loss.
local function is_loss(command, ns)
  while losses:wait(100) do end
  t.run(command, { host = ns or host })
  return losses:wait(300)
end

local function is_up(ns, name) return t.link(ns, name).operstate == "UP" end

before_each(function()
  host, pod = t.netns "host", t.netns "pod"
  t.run([[ip link set lo up
    ip link add br0 type bridge; ip link set br0 up
    ip link add v0 type veth peer name eth0 netns pod; ip link set v0 master br0
    ip link set br0 addrgenmode none; ip link set v0 addrgenmode none; ip -n pod link set eth0 addrgenmode none
    ip link set v0 up; ip -n pod link set eth0 up]], { host = host })
  losses = assert(netlink.losses(host.path))
  -- That a link is up the kernel tells when it gets round to it.
  local tries = 100
  while tries > 0 and not (is_up(host, "v0") and is_up(host, "br0") and is_up(pod, "eth0")) do
    tries = tries - 1
    losses:wait(100)
  end
  assert.is_true(tries > 0)
  while losses:wait(300) do end
end)
after_each(function()
  losses:close()
  t.cleanup()
end)

describe("netlink.losses hears that", function()
  local made = {
    { "an address", "ip addr add 10.1.0.1/24 dev br0", "ip addr del 10.1.0.1/24 dev br0" },
    { "an address of IPv6", "ip -6 addr add fd00::1/64 dev lo nodad", "ip -6 addr del fd00::1/64 dev lo" },
    { "a route", "ip route add 10.7.0.0/16 dev lo", "ip route del 10.7.0.0/16" },
    { "a rule", "ip rule add from 10.1.0.1 table 7", "ip rule del from 10.1.0.1 table 7" },
    { "an entry of a bridge", "bridge fdb add 02:00:00:00:00:07 dev v0 master static",
      "bridge fdb del 02:00:00:00:00:07 dev v0 master" },
    { "a set's element", "nft add table inet x; nft 'add set inet x s { type ipv4_addr; }'; nft add element inet x s { 10.1.0.1 }",
      "nft delete element inet x s { 10.1.0.1 }" },
    { "a table", "nft add table inet y", "nft delete table inet y" },
    { "a rule of nf_tables", "nft add table inet z; nft add chain inet z c; nft add rule inet z c accept",
      "nft flush chain inet z c" },
  }
  for _, case in ipairs(made) do
    it(case[1] .. " is gone, and not that it comes", function()
      assert.is_false(is_loss(case[2]))
      assert.is_true(is_loss(case[3]))
    end)
  end

  it("a link is gone, has left its bridge, or has other settings", function()
    assert.is_true(is_loss "ip link set v0 nomaster")
    assert.is_true(is_loss "ip link set br0 mtu 1400")
    assert.is_true(is_loss "ip link del br0")
  end)

  it("a queueing discipline is another, or gone", function()
    assert.is_true(is_loss "tc qdisc add dev v0 root tbf rate 8mbit burst 8kb latency 25ms")
    assert.is_true(is_loss "tc qdisc del dev v0 root")
  end)

  it("a queueing discipline is changed, and not that somebody asks for it, of which the kernel tells all", function()
    local h <close> = assert(netlink.open(host.path))
    local index = t.link(host, "v0").ifindex
    local function asked()
      while losses:wait(100) do end
      assert.equal("tbf", assert(h:get("qdisc", { index = index, handle = "1:" })).kind)
      return losses:wait(300)
    end
    local rate = "tc qdisc %s dev v0 root handle 1: tbf rate %dmbit burst 8kb latency 25ms"
    assert.is_true(is_loss(rate:format("add", 8)))
    for mbit = 9, 10 do
      assert.is_false(asked())
      assert.is_true(is_loss(rate:format("change", mbit)))
      assert.is_false(is_loss(rate:format("change", mbit)))
    end
  end)

  it("forwarding is switched", function()
    assert.is_true(is_loss "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/ip_forward")
  end)

  it("something is gone in a sandbox whose link has its other end here", function()
    t.run("ip addr add 10.1.0.2/24 dev eth0", { host = pod })
    assert.is_false(is_loss("ip addr add 10.1.0.3/24 dev eth0", pod))
    assert.is_true(is_loss("ip addr del 10.1.0.3/24 dev eth0", pod))
  end)

  it("nothing is, where nobody takes anything away; and it is deaf once it is closed", function()
    assert.is_false(is_loss "true")
    losses:close()
    losses:close()
    assert.is_false((pcall(losses.wait, losses, 10)))
    assert.is_false((pcall(netlink.losses().wait, netlink.losses(), -1)))
  end)

  it("it has missed something, when more came than it could take", function()
    while losses:wait(100) do end
    t.run("for i in $(seq 5000); do echo route add 10.77.$((i / 250)).$((i % 250)) dev lo; done | ip -b - 2>/dev/null || true",
      { host = host })
    assert.is_true(losses:wait(0))
  end)
end)
