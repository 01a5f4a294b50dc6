-- SPDX-License-Identifier: MIT
-- What the specs compare by: a glance (spec-tests/look.c) that is the same stands for a closer look
-- by ip, bridge and nft, so that it has to tell whatever that tells.

local t = require "support"

local setup = [[
  ip link add v0 type veth peer name v1
  ip link set v0 up
  ip link set v1 up
  ip link add br0 type bridge
  ip link set v1 master br0
  ip addr add 10.1.0.1/24 dev v0
  ip -6 addr add fd01::1/64 dev v0 nodad
  ip route add 10.2.0.0/16 via 10.1.0.9 dev v0]]

-- Each is seen, by its picture too; needs as for t.needs.
local changes = {
  { "ip link add c type bridge" }, { "ip link del br0" }, { "ip link set v0 down" },
  { "ip link set v0 mtu 1400" }, { "ip link set v0 address 02:00:00:00:00:01" },
  { "ip link set v0 alias x" }, { "ip link set v0 txqueuelen 7" }, { "ip link set v0 addrgenmode none" },
  { "ip link set v0 promisc on" }, { "ip link set v1 nomaster" }, { "ip link set v0 group 5" },
  { "ip link property add dev v0 altname other" }, { "ip link set v0 down; ip link set v0 name c" },
  { "bridge link set dev v1 hairpin on" }, { "bridge link set dev v1 isolated on" },
  { "ip link set br0 type bridge forward_delay 300" },
  { "ip addr add 10.1.0.2/24 dev v0" }, { "ip addr del 10.1.0.1/24 dev v0" },
  { "ip -6 addr del fd01::1/64 dev v0" }, { "ip -6 addr change fd01::1/64 dev v0 noprefixroute" },
  { "ip -6 addr del fd01::1/64 dev v0; ip -6 addr add fd01::1/64 dev v0" },
  { "ip route del 10.2.0.0/16" }, { "ip route change 10.2.0.0/16 via 10.1.0.8" },
  { "ip route change 10.2.0.0/16 via 10.1.0.9 mtu 1300" },
  { "ip route add 10.2.0.0/16 via 10.1.0.9 metric 5" },
  { "ip route add 10.2.0.0/16 via 10.1.0.9 table 7" },
  { "ip -6 route add fd02::/64 via fd01::9" }, { "ip rule add from 10.1.0.1 lookup 7" },
  { "ip -6 rule add from fd01::1 lookup 7", needs = "ip6-rules" },
  { "nft add table inet x", needs = "nft-nat" },
  { "ip link set br0 type bridge vlan_filtering 1", needs = "bridge-vlan" },
  { "bridge vlan add dev v1 vid 7", needs = "bridge-vlan" },
  { "bridge vlan add dev v1 vid 1", needs = "bridge-vlan" },
}

local nft = "nft add table inet x; nft 'add chain inet x c'; " ..
  "nft 'add set inet x s { type ipv4_addr; }'; nft 'add element inet x s { 10.0.0.1 }'; "
local nft_changes = {
  "nft 'add rule inet x c accept'", "nft 'add element inet x s { 10.0.0.2 }'",
  "nft 'delete element inet x s { 10.0.0.1 }'", "nft 'add chain inet x d'",
  "nft 'add set inet x z { type ipv4_addr; }'",
  "nft 'delete element inet x s { 10.0.0.1 }; " ..
    "add element inet x s { 10.0.0.1 comment \"x\" }'",
}

local counting = "nft add table inet x; nft 'add chain inet x c { type filter hook output priority 0; " ..
  "policy accept; }'; nft 'add rule inet x c ip daddr 127.0.0.1 counter accept'"

-- One world for each change.
local function sees(before, command, settings)
  local ns = t.netns("n", { lo = "up" })
  t.run(before, { host = ns })
  local was = t.glance(ns, settings)
  t.run(command, { host = ns })
  local seen = t.glance(ns, settings) ~= was
  t.remove_netns(ns)
  return seen
end

describe("a glance", function()
  it("tells every change of links, addresses, routes and rules", function()
    for _, change in ipairs(changes) do
      if not change.needs or t.has(change.needs) then
        assert.is_true(sees(setup, change[1]), change[1])
      end
    end
  end)

  it("tells every change of VLANs", function()
    t.needs("bridge-vlan")
    for _, change in ipairs(changes) do
      if change.needs == "bridge-vlan" then assert.is_true(sees(setup, change[1]), change[1]) end
    end
  end)

  it("tells every change of nf_tables, and within its sets", function()
    t.needs("nft-nat")
    for _, change in ipairs(nft_changes) do assert.is_true(sees(nft, change), change) end
  end)

  it("tells settings and permanent neighbours when asked to, and not else", function()
    for _, command in ipairs({
      "echo 0 >/proc/sys/net/ipv6/conf/v0/accept_ra", "echo 1 >/proc/sys/net/ipv4/conf/v0/arp_notify",
      "echo 1 >/proc/sys/net/ipv4/ip_forward", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_ra",
      "ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev v0 nud permanent",
    }) do
      assert.is_true(sees(setup, command, true), command)
      assert.is_false(sees(setup, command), command)
    end
  end)

  it("is the same when nothing was changed, whatever was sent and counted", function()
    assert.is_false(sees("ip addr add 10.1.0.1/24 dev lo", "ping -n -q -c 1 10.1.0.1"))
    assert.is_false(sees(":", ":", true))
    if t.has("nft-nat") then
      assert.is_false(sees(counting, "ping -n -q -c 1 127.0.0.1"))
      assert.is_true(sees(counting, "nft 'insert rule inet x c counter'"))
    end
  end)
end)

describe("a picture", function()
  it("is of now, and nobody's changes of one are in the next", function()
    local ns = t.netns("n", { lo = "up" })
    local before = t.snapshot({ ns = { ns } })
    before.kernel.n.links.lo = nil
    assert.is_truthy(t.snapshot({ ns = { ns } }).kernel.n.links.lo)
    t.run("ip link set lo mtu 1400", { host = ns })
    assert.equal(1400, t.snapshot({ ns = { ns } }).kernel.n.links.lo.mtu)
    t.run("ip link set lo mtu 1500", { host = ns })
    assert.equal(1500, t.snapshot({ ns = { ns } }).kernel.n.links.lo.mtu)
  end)
end)
