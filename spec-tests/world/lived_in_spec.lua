-- SPDX-License-Identifier: MIT
-- What is others' on a host: whatever is done to it is noticed, and what a plugin may do is not.

local lived_in = require "lived_in"
local t = require "support"

local function noticed(opts, shell)
  local host = t.host("host", opts)
  if shell then t.run(shell, { host = host }) end
  local lines = table.concat(lived_in.noticed(), "\n")
  t.cleanup()
  return lines
end

-- What is done, and what the kernel has to have for it.
local harms = {
  { "an address of the uplink, IPv4, is gone", "ip addr del 198.51.100.10/24 dev eth0" },
  { "an address of the uplink, IPv6, is gone", "ip -6 addr del 2001:db8:5::10/64 dev eth0" },
  { "the uplink has an address more", "ip addr add 203.0.113.5/32 dev eth0" },
  { "the default route is gone", "ip route del default" },
  { "the default route that a router advertised is gone", "ip -6 route del default" },
  { "another routing table has lost its route", "ip route del default table 100" },
  { "the policy rule is gone", "ip rule del pref 1000" },
  { "Docker's bridge is down", "ip link set docker0 down" },
  { "Docker's bridge has another MAC", "ip link set docker0 address 02:42:00:00:00:99" },
  { "Docker's port is unplugged", "ip link set veth5d1c9e0 nomaster" },
  { "the uplink has another MTU", "ip link set eth0 mtu 1400" },
  { "rp_filter is off", "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter" },
  { "router advertisements are not accepted", "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_ra" },
  { "what passes is everything", "iptables-nft -P FORWARD ACCEPT", "nft-nat" },
  { "Docker's chain is no longer asked", "iptables-nft -D FORWARD -j DOCKER-FORWARD", "nft-nat" },
  { "Docker's chain says more", "iptables-nft -I DOCKER-USER -j ACCEPT", "nft-nat" },
  { "an element of a set is gone", "nft delete element inet filter ports '{ 22 }'", "nft-nat" },
  { "a set has an element more", "nft add element ip nat own '{ 198.51.100.78 }'", "nft-nat" },
  { "a table of others has a chain more", "nft add chain inet filter more", "nft-nat" },
  { "a table of others is gone", "nft delete table ip6 filter", "nft-nat" },
}

describe("On a host that is lived in it is noticed that", function()
  for _, harm in ipairs(harms) do
    it(harm[1], function()
      t.needs(harm[3])
      assert.not_equal("", noticed(nil, harm[2]))
    end)
  end

  it("forwarding is switched off where it was on", function()
    assert.not_equal("", noticed({ forwarding = true }, "echo 0 >/proc/sys/net/ipv4/ip_forward"))
    assert.not_equal("", noticed({ forwarding = true }, "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding"))
  end)
end)

describe("On a host that is lived in no harm is", function()
  it("done by nothing", function()
    assert.equal("", noticed())
    assert.equal("", noticed { forwarding = true })
  end)

  it("a link, an address or a table that is one's own", function()
    assert.equal("", noticed(nil, "ip link add own0 type veth peer name own1; ip addr add 10.7.0.1/24 dev own0; " ..
      "ip link set own0 up"))
    if t.has("nft-nat") then assert.equal("", noticed(nil, "nft add table inet luacni")) end
  end)

  it("forwarding that is switched on, and what keeps a learnt route then", function()
    assert.equal("", noticed(nil, "echo 2 >/proc/sys/net/ipv6/conf/eth0/accept_ra; " ..
      "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"))
  end)
end)
