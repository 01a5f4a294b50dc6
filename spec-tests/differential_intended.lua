-- SPDX-License-Identifier: MIT
-- Where ours differs from the reference on purpose. An entry: why, and rules; a
-- rule covers a difference when its patterns match: step, key, reference, ours,
-- and its function `only`, given our facts, agrees. An entry with a rule marked
-- `must` counts only when that rule covers something. A case names the entries it
-- is to show; one marked `everywhere` needs no naming, but has to come somewhere, where the
-- kernel has what it `needs`.
-- W-nn: weaknesses of the reference; "older": Debian's 1.1.1 lacks what today's has.

local none = "^%(none%)$"

local function failed(facts) return facts.status == "1" end

-- The sandbox's interface is on a wire that nobody else is on.
local function alone(facts)
  local kind = facts["pa link eth0"] or facts["pb link eth0"]
  return kind == nil or kind == "veth" or kind == "dummy" or kind == "tun"
end

-- The reference fails, ours does the work: from there on all is different.
local function works(why, step)
  return { why = why,
    { key = "^status$", step = step, reference = "^1$", ours = "^0$", must = true },
    { key = "." },
  }
end

-- The answer of one verb turns from failure to success, nothing else.
local function passes(why, verb)
  return { why = why,
    { key = "^status$", step = verb, reference = "^1$", ours = "^0$", must = true },
    { key = "^error code$", step = verb, ours = none },
    { key = "^result$", step = verb, reference = none, ours = "^nothing$" },
    { key = "^stdout$", step = verb, reference = none, ours = '^""$' },
  }
end

return {
  -- tuning.
  ["length of the queue"] = { why = "older: there is no txQLen",
    { key = "^pa link eth0 txqlen$", reference = "^1000$", must = true },
  },
  ["CHECK of IFNAME"] = passes("older: CHECK looks for the sysctls of an interface called IFNAME", "CHECK"),
  ["allow list"] = { why = "older: there is no allow list of sysctls",
    { key = "^error code$", step = "ADD", reference = none, ours = "^7$", must = true },
    { key = "." },
  },
  -- What is made and what is left.
  ["bridge's own MAC"] = { everywhere = true,
    why = "a bridge that was made keeps its MAC when the last port has gone (W-24)",
    { step = "DEL", key = "^host link %a+0 mac$", reference = "^[0:]+$", ours = "^any$" },
  },
  ["bridge restored"] = { why = "a bridge that was down before the first ADD is down again",
    { step = "DEL", key = "^host link br0 up$", reference = "true", ours = "false" },
    { step = "DEL", key = "^host route .* dev br0 ", ours = none },
  },
  ["address put back"] = {
    why = "an address that forceAddress took away comes back with the last attachment",
    { step = "DEL", key = "^host %a+ .*10%.99%.0%.", reference = none },
  },
  ["gateway address removed"] = { why = "so does one that was put on a bridge of others: it goes (W-38)",
    { step = "DEL", key = "^host %a+ .*10%.1%.0%.", ours = none },
  },
  ["default VLAN"] = { why = "older: the default VLAN stays unless it is to be preserved",
    { key = "^host vlan veth%d 1%-1$", ours = none },
  },
  ["filtering switched on"] = { why = "a bridge that is there already filters from then on (W-27)",
    { step = "ADD", key = "^host link br0 vlan_filtering$", reference = "0", ours = "1" },
  },
  ["rollback"] = { why = "a failed ADD takes everything back (W-28, W-29)",
    { step = "ADD", key = "^host .*veth%d", ours = none, only = failed },
    { step = "ADD", key = "^host .*br0", ours = none, only = failed },
    { step = "ADD", key = "^p%a .*eth0", ours = none, only = failed },
    { step = "ADD", key = "^lease .*/%d", ours = none, only = failed },
    { step = "ADD", key = "^lease ", reference = none, only = failed },
    { step = "ADD", key = "^host .*dev%d", reference = none, only = failed },
    { step = "ADD", key = "^p%a .*dev%d", ours = none, only = failed },
    { step = "ADD", key = "^host sysctl ", ours = "^0$", only = failed },
    { step = "ADD", key = "^p%a .*veth%d", ours = none, only = failed },
    { step = "DEL", key = "^lease ", reference = none },
    { step = "DEL", key = "^p%a .*eth0", ours = none },
    { step = "DEL", key = "^host .*br0", ours = none },
  },
  ["address first"] = {
    why = "the address is chosen before the link is made, so last_reserved_ip moves on",
    { key = "^lease .*/last_reserved_ip", reference = none },
    { key = "^lease .*/last_reserved_ip", reference = "10.1.0.2", ours = "10.1.0.3" },
    { key = "^lease .*/lock$", reference = none },
  },
  ["sets together"] = {
    why = "all range sets or none: a set that is full moves no other's last_reserved_ip (W-66)",
    { key = "^lease .*/last_reserved_ip.0$" },
  },
  ["nothing for a refused request"] = {
    why = "a requested address that no set has changes nothing on disk (W-66)",
    { key = "^lease .*/last_reserved_ip.0$", ours = none },
  },
  ["no lock without leases"] = {
    why = "DEL and CHECK of a network without leases make no directory",
    { key = "^lease .*/lock$", reference = '^""$', ours = none },
  },
  ["gateway nodad"] = { everywhere = true,
    why = "the bridge's own gateway address is used at once, not after a second",
    { key = "^host addr br0[.%d]* fd", reference = "nodad=false", ours = "nodad=true" },
  },
  ["txqueuelen"] = { everywhere = true,
    why = "a queue length of 0 is a default taken by accident (W-05)",
    { key = "link [%w.]+ txqlen$", reference = "^0$", ours = "^1000$" },
  },

  ["announced"] = { everywhere = true, needs = "vlan",
    why = "the neighbours are told of an address when its link comes up",
    { key = "^p%a sysctl ipv4/conf/%w+/arp_notify$", reference = "^0$", ours = "^1$" },
  },
  ["MTU of a later plugin"] = passes("a later plugin of the chain may change the MTU", "CHECK"),
  ["no duplicates"] = { everywhere = true,
    why = "where an IPv6 address is unique by construction, nothing waits for duplicates",
    { key = "^p%a sysctl ipv6/conf/%w+/accept_dad$", reference = "^1$", ours = "^0$",
      only = alone },
    { key = "^p%a addr .* fd", reference = "nodad=false", ours = "nodad=true", only = alone },
    { key = "^host addr veth%d+ fd", reference = "nodad=false", ours = "nodad=true" },
    { key = "^host sysctl ipv6/conf/veth%d+/accept_dad$", reference = "^1$", ours = "^0$" },
  },
  ["gateway link locked down"] = {
    why = "the host believes nothing that comes in by the link of a VLAN's gateway says of routes",
    { key = "^host sysctl ipv6/conf/br0%.%d+/accept_ra$", reference = "^1$", ours = "^0$", must = true },
  },
  ["IPv6 at once"] = { passing = true, why = "so that it can be used at once",
    { step = "ping", key = "^answers$", reference = "false", ours = "true" },
  },
  ["lease given back"] = { why = "a DEL that passes gives the address back (W-43, W-55)",
    { step = "DEL", key = "^lease .*/[%d.]+$", ours = none },
  },
  ["device as it was"] = { everywhere = true,
    why = "a device comes back as it was lent, up if it was (W-58)",
    { step = "DEL", key = "^host link dev%d alias$", reference = "^dev%d$", ours = "^%-$" },
    { step = "DEL", key = "^host link dev%d up$", reference = "false", ours = "true" },
  },
  ["device returned"] = { why = "DEL returns the device by the record, without a namespace (W-55)",
    { step = "DEL", key = "^host .*dev0", reference = none },
    { step = "DEL", key = "^p%a .*eth0", ours = none },
    { step = "DEL", key = "^lease .*/[%d.]+$", ours = none },
  },
  ["link gone without namespace"] = {
    why = "DEL takes the link away by the record, without a namespace (W-30, W-41)",
    { step = "DEL", key = "veth", ours = none },
    { step = "DEL", key = "^p%a .*eth0", ours = none },
    { step = "DEL", key = "^host route local 10%.1%.", ours = none },
  },
  ["dns in layer 2"] = { why = "dns of the configuration counts without IPAM, too",
    { step = "ADD", key = "^result%.dns", reference = none },
  },
  ["VRF of another stays"] = {
    why = "a VRF that was there before the first ADD stays (W-110)",
    { step = "DEL", key = "^pa .*red", reference = none },
  },
  ["VRF removed"] = { why = "the VRF goes although the interface is gone already (W-110)",
    { step = "DEL", key = "^pa .*red", ours = none },
  },
  ["VRF with the routes"] = { why = "older: the routes of the interface are lost, not moved",
    { step = "ADD", key = "^pa route 100 ", reference = none, must = true },
    { step = "CHECK", key = "^pa route 100 ", reference = none },
  },
  ["routes given back"] = { why = "DEL gives the interface its routes again, and leaves none in a table",
    { step = "DEL", key = "^pa route main ", reference = none, must = true },
    { step = "DEL", key = "^pa route %d+ ", ours = none },
  },
  ["table of one family"] = { why = "a table has the routes of its address's family alone (W-107)",
    { key = "^pa route 100 %x+::", ours = none, must = true },
  },
  ["table given"] = { why = "older: there is no table",
    { step = "ADD", key = "^pa rule .*\"100\"", ours = none, must = true }, { key = "." },
  },
  ["routes of nobody stay"] = { why = "routes that no table takes stay in the main one",
    { key = "^pa route main ", reference = none, must = true },
  },
  ["rule removed"] = { why = "the rule goes although the interface is gone already (W-108)",
    { step = "DEL", key = "^pa rule ", ours = none, must = true },
  },
  ["VRF given back"] = { why = "DEL gives the interface its routes and IPv6 addresses again",
    { step = "DEL", key = "^pa route main ", reference = none, must = true },
    { step = "DEL", key = "^pa addr eth0 %x*:", reference = none },
  },
  ["CHECK in a chain"] = { why = "older: CHECK looks at nothing (W-108)",
    { key = "^status$", step = "CHECK", reference = "^0$", ours = "^1$", must = true },
    { key = "^error code$", step = "CHECK", reference = none, ours = "^999$" },
    { key = "^result$", step = "CHECK", reference = "^nothing$", ours = none },
    { key = "^stdout$", step = "CHECK", reference = '^""$', ours = none },
  },
  ["rollback in a chain"] = { why = "a failed ADD takes everything back (W-28)",
    { step = "ADD", key = "^pa .*", only = failed },
  },
  ["gateway on the link"] = { everywhere = true,
    why = "no route to the own network is on the link, so that another gateway there says it is",
    { key = "^p%a route .* via 10.1.0.77", reference = "flags= ", ours = "flags=onlink " },
  },
  ["one kind of tap"] = {
    why = "a tap is the same whatever options it has: MTU and MAC count, no packet headers (W-52)",
    { step = "ADD", key = "^pa link eth0 %w+$" }, { step = "ADD", key = "^result%.interfaces" },
  },
  ["not hijacked"] = works("an interface of another's is left alone (W-51)"),

  -- What an older reference does not know yet.
  ["dns left out"] = { everywhere = true,
    why = "older: from 1.0.0 on an empty dns is left out",
    { step = "ADD", key = "^result%.dns$", reference = "^%(empty%)$", ours = none },
  },
  ["dns of IPAM"] = { why = "older, W-45: the dns of the IPAM plugin is passed on",
    { step = "ADD", key = "^result%.dns%.", reference = none },
  },
  ["keep_addr_on_down"] = { everywhere = true,
    why = "older: IPv6 addresses are kept when the link goes down",
    { key = "^p%a sysctl .*/keep_addr_on_down$", reference = "^0$", ours = "^1$" },
  },
  ["bcqueuelen"] = { why = "older: the length of the queue for broadcasts is unknown",
    { key = "^p%a link eth0 bcqueuelen$", ours = "^2000$" },
  },
  ["linkInContainer is heeded"] = { why = "older: there is no linkInContainer",
    { key = "^status$", reference = "^0$", ours = "^1$", must = true }, { key = "." },
  },
  ["linkInContainer"] = works("older: there is no linkInContainer", "ADD"),
  ["CHECK of routes"] = passes("older: CHECK takes a route without gw for missing", "CHECK"),
  ["layer 2 CHECK"] = passes("a layer-2 network can pass CHECK (W-35)", "CHECK"),
  ["CHECK passes"] = passes("CHECK finds the master as ADD did (W-48)", "CHECK"),
  ["DEL passes"] = passes("DEL needs no namespace and no valid configuration (W-70)", "DEL"),

  -- Where the reference fails and need not.
  ["two gateways"] = works("several IPv4 gateways on one bridge (W-26)"),
  ["addresses side by side"] = works("addresses that do not overlap are no conflict (W-26)"),
  ["ptp works"] = works("/32 addresses and a gateway of several addresses (W-40)", "ADD"),
  ["one default route"] = works("an IPAM default route without gw is the one (W-25)"),
  ["arguments of both"] = works("our IPAM knows the plugin's CNI_ARGS, and the reverse"),

  -- Errors.
  ["code 7"] = { everywhere = true,
    why = "an invalid configuration has the code the specification gives it (W-02)",
    { key = "^error code$", reference = "^999$", ours = "^7$" },
  },
  ["code 4"] = { everywhere = true,
    why = "a bad variable has the code the specification gives it (W-02)",
    { key = "^error code$", reference = "^999$", ours = "^4$" },
  },
  ["code 8"] = { why = "a namespace that cannot be opened has a code of its own (W-02)",
    { key = "^error code$", reference = "^999$", ours = "^8$" },
  },
  ["code 1"] = { why = "so has a version that does not fit (W-02)",
    { key = "^error code$", reference = "^999$", ours = "^1$" },
  },
  ["own namespace"] = {
    why = "the own namespace is refused before the work is done, not after it (W-01)",
    { key = "^error code$", reference = none, ours = "^8$", must = true },
    { key = "^status$", reference = "^0$", ours = "^1$" },
    { key = "^host ", ours = none },
    { key = "^host sysctl" },
    { key = "^lease ", ours = none },
    { key = "^result", ours = none },
  },

  -- Shapes.
  ["loopback's own shape"] = {
    why = "a result in version 0.x has the shape of that version (W-60)",
    { step = "ADD", key = "^result%." },
    { step = "ADD", key = "^stdout$" },
  },
  ["loopback goes down again"] = {
    why = "a failed ADD takes everything back, lo as well (W-28)",
    { step = "ADD", key = "^pa ", only = failed },
  },
}
