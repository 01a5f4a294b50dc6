-- SPDX-License-Identifier: MIT
-- Every shipped type, in the configurations that exercise it: what kill_sweep_spec,
-- check_spec and parallel_spec go through. A plugin joins all three by an entry here;
-- check_spec fails when a shipped type has none.
--
-- An entry:
--   name    what the tests call it
--   conf    the configuration; cniVersion and name are filled in. A function of the
--           pod's number where pods cannot have the same
--   needs   what the kernel has to have, as for t.needs
--   script  the site's script of that type, in the place of the one that came with the program
--   host    shell, once, in the host: what has to be there before
--   each    shell, in the host, for a pod: @N@ is its number
--   pod     shell, in each pod: what has to be there before
--   far     shell, in the namespace behind the host's uplink up0 (which is there for
--           every entry that has this)
--   daemon  the file with the process ID of what that starts
--   prev    the result of the plugins before it in its chain; @NETNS@ is the pod's path, @N@ its number
--   ipam    true: an IPAM plugin, which makes no interface
--   ips     how many addresses of the lease folder each pod gets (default 0)
--   reach   addresses that answer the pod after ADD and do not before it
--   updates what an update makes another: { conf = what is another in the configuration, sh = shell, at as for
--           breaks, shows = pattern of what that prints then }
--   breaks  what CHECK has to notice: { what, at = "host" | "pod" (default), sh = shell,
--           says = pattern of the message }. @PORT@ is the host's end of the pod's eth0

local t = require "support"
local world = require "world"
local pair = t.pair

local M = {}

local dual = { type = "host-local", ranges = {
  { { subnet = "10.20.0.0/22" } }, { { subnet = "fd20::/64" } } } }
local gateways = { "10.20.0.1", "fd20::1" }

-- The same for every link to come: a link's own setting does not survive a move.
local no_link_local = "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode"

-- With the first VRF of a namespace come rules that the kernel never takes away.
local vrf_rules = "ip link add v0 type vrf table 9; ip link del v0; "

-- The neighbours have elements in the same set.
local unmasked = "nft delete element inet luacni masked4_22 { $(ip -n pod1 -4 -o addr show dev eth0 | " ..
  "awk '{ print $4 }' | cut -d/ -f1) . 10.20.0.0 }"

-- What breaks any plugin that gives a link addresses.
local function addressed(more)
  local list = {
    { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
    { "the IPv4 address is gone", sh = "ip -4 addr flush dev eth0", says = "10%.20%.0%.%d+/22" },
    { "the IPv6 address is gone", sh = "ip -6 addr del $(ip -o -6 addr show dev eth0 " ..
      "scope global | awk '{ print $4 }') dev eth0", says = "fd20::%x+/64" },
    { "the MAC is another", sh = "ip link set eth0 address 02:00:00:00:00:77",
      says = "eth0.*mac is 02:00:00:00:00:77" },
    { "the interface is down", sh = "ip link set eth0 down", says = "eth0" },
    { "the lease is gone", at = "host", sh = "rm /var/lib/cni/networks/every/10.*",
      says = "10%.20%.0%.%d+" },
  }
  for _, item in ipairs(more or {}) do list[#list + 1] = item end
  return list
end

-- An interface that a plugin before it has given all it needs.
local routed = "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode; " .. pair("eth0", "e1") ..
  "ip addr add 10.20.0.9/24 dev eth0; ip -6 addr add fd20::9/64 dev eth0 nodad; " ..
  "ip route add default via 10.20.0.1; ip -6 route add default via fd20::1"
local reported = { cniVersion = "1.1.0",
  interfaces = { { name = "eth0", sandbox = "@NETNS@" } },
  ips = { { address = "10.20.0.9/24", interface = 0, gateway = "10.20.0.1" },
    { address = "fd20::9/64", interface = 0, gateway = "fd20::1" } },
  routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } }

-- A list of plugins as one plugin, which runs them in one process.
local function chain_of(n, more)
  return { type = "luacni", capabilities = { portMappings = true },
    runtimeConfig = { portMappings = { { hostPort = 8080 + n, containerPort = 80, protocol = "tcp" } } },
    plugins = {
      { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true, ipam = dual },
      { type = "portmap", capabilities = { portMappings = true } }, { type = "firewall" },
      { type = "tuning", sysctl = { ["net.ipv4.conf.all.arp_filter"] = "1" } },
      { type = "bandwidth", ingressRate = more.rate or 8000000, ingressBurst = 800000 },
      { type = "tuning", sysctl = { ["net.ipv4.conf.IFNAME.arp_announce"] = "1" } },
    } }
end

-- An interface whose ports are published.
local published = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "@NETNS@" } },
  ips = { { address = "10.20.1.@N@/22", interface = 0 }, { address = "fd20::1:@N@/64", interface = 0 } } }

-- The same, with its other end in the host.
local paired = "ip link add dev@N@ address 02:00:00:00:01:0@N@ type veth peer name eth0 netns pod@N@; " ..
  "ip link set dev@N@ addrgenmode none up; ip -n pod@N@ link set eth0 addrgenmode none up"

M.list = {
  { name = "loopback", conf = { type = "loopback" }, reach = { "127.0.0.1" }, breaks = {
    { "lo is down", sh = "ip link set lo down", says = "lo" },
  } },

  { name = "bandwidth", needs = { "ifb" }, each = paired, prev = reported,
    conf = { type = "bandwidth", ingressRate = 10000000, egressRate = 5000000, egressBurst = 400000 },
    updates = {
      { conf = { ingressRate = 20000000 }, at = "host", sh = "tc qdisc show dev @PORT@", shows = "rate 20Mbit" },
      { conf = { egressRate = 0, egressBurst = 0 }, at = "host", sh = "ip -o link show type ifb | grep -c bwp; true", shows = "^0" },
      { conf = { unshapedSubnets = { "10.9.0.0/16" } }, at = "host", sh = "tc qdisc show dev @PORT@", shows = "htb 1:" },
    }, breaks = {
      { "nothing limits what comes", at = "host", sh = "tc qdisc del dev @PORT@ root", says = "tbf qdisc 1: on dev1 is missing" },
      { "more may come", at = "host", sh = "tc qdisc change dev @PORT@ root handle 1: tbf rate 20mbit burst 25000 limit 290000",
        says = "rate is 2500000, not 1250000" },
      { "more may come at once", at = "host",
        sh = "tc qdisc change dev @PORT@ root handle 1: tbf rate 10mbit burst 30000 limit 287144", says = "burst is not as wanted" },
      { "the ifb link is gone", at = "host", sh = "ip link del bwp$(printf everyc1 | sha512sum | cut -c1-12)", says = "bwp" },
      { "nothing limits what goes", at = "host", sh = "tc qdisc del dev bwp$(printf everyc1 | sha512sum | cut -c1-12) root",
        says = "tbf qdisc 1: on bwp%x+ is missing" },
      { "nothing is sent to it", at = "host", sh = "tc filter del dev @PORT@ parent ffff:", says = "u32 filter of ffff:" },
      { "nor could be", at = "host", sh = "tc qdisc del dev @PORT@ ingress", says = "ingress qdisc ffff:" },
    } },

  { name = "bandwidth in the sandbox, for some networks", needs = { "ifb" }, prev = reported, pod = routed,
    conf = { type = "bandwidth", ingressRate = 10000000, egressRate = 5000000,
      unshapedSubnets = { "10.20.0.0/16", "fd20::/60" } },
    updates = {
      { conf = { egressRate = 3000000 }, sh = "tc class show dev eth0", shows = "rate 3Mbit" },
      { conf = { unshapedSubnets = { "10.21.0.0/16" } }, sh = "tc filter show dev eth0 parent 1:", shows = "match 0a15" },
    }, breaks = {
      { "the class is gone", sh = "tc qdisc del dev eth0 root; tc qdisc add dev eth0 root handle 1: htb default 10",
        says = "htb class 1:10 on eth0 is missing" },
      { "a network is limited", sh = "tc filter del dev eth0 parent 1: protocol ipv6 pref 2", says = "filter of 1: ipv6 on eth0" },
      { "the ifb link is gone", sh = "ip link del bwp$(printf everyc1 | sha512sum | cut -c1-12)", says = "bwp" },
    } },

  { name = "host-local, two sets", ipam = true, ips = 2,
    conf = { type = "host-local", ipam = dual }, breaks = {
      { "a lease is gone", at = "host", sh = "rm /var/lib/cni/networks/every/10.*",
        says = "10%.20%.0%.%d+" },
      { "the other lease is gone", at = "host", sh = "rm /var/lib/cni/networks/every/fd20*",
        says = "fd20::%x+" },
      { "a lease is another's", at = "host",
        sh = "for f in /var/lib/cni/networks/every/10.*; do printf 'other\r\neth0' >$f; done",
        says = "10%.20%.0%.%d+" },
    } },

  { name = "cluster, with a file of blocks", ipam = true, ips = 2,
    host = "printf '10.20.0.0/26\\n10.20.1.0/26\\nfd20::40/122\\n' >/run/spec/blocks",
    conf = { type = "cluster", ipam = { type = "cluster", blocksFile = "/run/spec/blocks",
      dataDir = "/var/lib/cni/networks/pool",
      subnets = { { subnet = "10.20.0.0/22" }, { subnet = "fd20::/64" } } } }, breaks = {
      { "a lease is gone", at = "host", sh = "rm /var/lib/cni/networks/pool/leases/default/every/10.*",
        says = "10%.20%.0%.%d+" },
      { "a lease is another's", at = "host",
        sh = "for f in /var/lib/cni/networks/pool/leases/default/every/10.*; do printf 'other\r\neth0' >$f; done",
        says = "10%.20%.0%.%d+" },
    } },

  { name = "static", ipam = true,
    conf = { type = "static", ipam = { type = "static",
      addresses = { { address = "10.20.0.5/24", gateway = "10.20.0.1" } },
      routes = { { dst = "0.0.0.0/0" } } } },
    breaks = {} },

  { name = "dhcp", reach = { "10.20.0.1" }, needs = { "macvlan", "dnsmasq" },
    daemon = "/run/spec/dhcp.pid",
    far = "ip addr add 10.20.0.1/22 dev up0; p=/run/spec/dhcp.pid; ! [ -s $p ] || kill $(cat $p); " ..
      "dnsmasq --conf-file=/dev/null --user=root --port=0 --interface=up0 --bind-interfaces --no-ping " ..
      "--dhcp-range=10.20.0.10,10.20.3.200,1h --dhcp-authoritative --leasefile-ro --pid-file=$p",
    conf = { type = "macvlan", master = "up0", ipam = { type = "dhcp", probe = 10 } },
    updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
    }, breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the address is gone", sh = "ip -4 addr flush dev eth0", says = "10%.20%.%d%.%d+/22" },
      { "the default route is gone", sh = "ip route del default", says = "0%.0%.0%.0/0" },
      { "what the server has granted is not known", at = "host", sh = "rm /run/luacni/dhcp/every/*", says = "DHCP server" },
    } },

  { name = "bridge, layer 2", conf = { type = "bridge", bridge = "br0", removeUnused = true }, updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
      { conf = { portIsolation = true, hairpinMode = true }, at = "host", sh = "bridge -d link show dev @PORT@", shows = "isolated on" },
    }, breaks = {
    { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
    { "the port is unplugged", at = "host", sh = "ip link set @PORT@ nomaster",
      says = "not plugged into br0" },
    { "the bridge is gone", at = "host", sh = "ip link del br0", says = "br0" },
    { "the port is down", at = "host", sh = "ip link set @PORT@ down", says = "veth" },
  } },

  { name = "bridge, dual stack with masquerade", ips = 2, reach = gateways,
    needs = { "nft-nat" },
    conf = { type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true, ipMasq = true,
      hairpinMode = true, ipam = dual },
    updates = {
      { conf = { ipMasq = false }, at = "host", sh = "nft list ruleset | grep -c every/c1; true", shows = "^0" },
      { conf = { isDefaultGateway = false, isGateway = true }, sh = "ip route show default | wc -l", shows = "^0" },
      { conf = { mtu = 1400, hairpinMode = false }, sh = "ip link show eth0", shows = "mtu 1400" },
    }, breaks = addressed {
      { "the gateway's address is gone", at = "host", sh = "ip addr del 10.20.0.1/22 dev br0",
        says = "10%.20%.0%.1/22" },
      { "the default route is gone", sh = "ip route del default", says = "0%.0%.0%.0/0" },
      { "the port does not reflect", at = "host",
        sh = "bridge link set dev @PORT@ hairpin off", says = "hairpin" },
      { "the masquerade is gone", at = "host", sh = unmasked, says = "masquerad" },
      { "forwarding is off", at = "host", sh = "echo 0 >/proc/sys/net/ipv4/ip_forward",
        says = "ip_forward" },
    } },

  { name = "flannel", ips = 2, reach = gateways, needs = { "nft-nat" },
    host = "mkdir -p /run/flannel; printf 'FLANNEL_%s\\n' NETWORK=10.20.0.0/15 SUBNET=10.20.0.1/22 " ..
      "IPV6_NETWORK=fd20::/48 IPV6_SUBNET=fd20::1/64 MTU=1400 IPMASQ=false >/run/flannel/subnet.env",
    conf = { type = "flannel", delegate = { bridge = "br0", removeUnused = true, hairpinMode = true, isDefaultGateway = true } },
    updates = {
      { conf = { delegate = { bridge = "br0", removeUnused = true, isDefaultGateway = true, mtu = 1350 } },
        sh = "ip link show eth0", shows = "mtu 1350" },
    }, breaks = addressed {
      { "the route to the other nodes is gone", sh = "ip route del 10.20.0.0/15", says = "10%.20%.0%.0/15" },
      { "the masquerade is gone", at = "host", sh = unmasked, says = "masquerad" },
    } },

  { name = "bridge with a guard", ips = 2, reach = gateways, needs = { "nft-bridge" },
    conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, ipSpoofChk = true, ipam = dual },
    updates = {
      { conf = { ipSpoofChk = false, macspoofchk = true }, at = "host", sh = "nft list ruleset | grep -c addressed; true", shows = "^0" },
      { conf = { ipSpoofChk = false }, at = "host", sh = "bridge -d link show dev @PORT@", shows = " learning on" },
    }, breaks = addressed {
      { "the port's MAC is not known", at = "host", sh = "nft flush set bridge luacni macs", says = "may send from" },
      { "its addresses are not known", at = "host", sh = "nft flush set bridge luacni ipv4", says = "10%.20%.0%.%d+" },
      { "the rule is gone", at = "host", sh = "nft flush chain bridge luacni forged_macs", says = "forged_macs" },
      { "the table is gone", at = "host", sh = "nft delete table bridge luacni", says = "bridge luacni" },
    } },

  { name = "bridge, by a script that has more verbs", ips = 1, reach = { "10.20.0.1" },
    conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, more = true,
      ipam = { type = "host-local", subnet = "10.20.0.0/22" } },
    script = [[
      return { add = function(req)
        if not req.raw.more then return req:delegate("bridge") end
        local mtu = req:once("mtu", function() return 1400 end)
        local result = req:delegate("bridge", { mtu = mtu })
        local port, eth, own = result.interfaces[2], result.interfaces[3], nil
        for _, ip in ipairs(result.ips) do own = own or ip.address:match "^[%d.]+" end
        req.pod:add_neigh(eth, { dst = "10.20.0.77", mac = "02:00:00:00:00:77" })
        req.host:add_fdb(port, { mac = eth.mac, master = true })
        if own then
          req.host:add_rule { from = own, table = 77 }
          req.host:add_route { dst = own .. "/32", type = "blackhole", table = 77 }
        end
        req:call { program = "/bin/true", undo = {}, check = {} }
        return result
      end }]],
    breaks = {
      { "the neighbour is gone", sh = "ip neigh del 10.20.0.77 dev eth0", says = "neighbour 10%.20%.0%.77" },
      { "the forwarding entry is gone", at = "host", sh = "bridge fdb del $(ip -n pod1 -o link show eth0 | " ..
        "sed 's/.*ether \\([^ ]*\\).*/\\1/') dev @PORT@ master",
        says = "forwarding of" },
      { "the rule is gone", at = "host", sh = "ip rule del table 77", says = "lookup 77" },
      { "the route is gone", at = "host", sh = "ip route flush table 77", says = "blackhole 10%.20.*table 77" },
      { "the port is unplugged", at = "host", sh = "ip link set @PORT@ nomaster", says = "not plugged into br0" },
    } },

  { name = "bridge, by a script that has a table of nf_tables", ips = 1, reach = { "10.20.0.1" }, needs = { "nft-nat" },
    conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, filtered = true,
      ipam = { type = "host-local", subnet = "10.20.0.0/22" } },
    script = [[
      local nft = require "cni.nft"
      return { add = function(req)
        local result = req:delegate "bridge"
        if not req.raw.filtered then return result end
        local own = req.host:ensure_nft_table { name = "own",
          sets = { { name = "known", key_type = "ipv4_addr . ipv4_addr", interval = true } },
          chains = { { name = "each" }, { name = "forward", type = "filter", hook = "forward", priority = 0, rules = {
            nft.rule(nft.fields_in("ip", { "saddr", "daddr" }, "known"), nft.verdict("jump", "each")) } } } }
        for _, ip in ipairs(result.ips) do
          local address = ip.address:match "^[%d.]+"
          req.host:add_nft_elements(own, { { set = "known", key = { address, "198.51.100.0/24" } } })
          req.host:add_nft_rule(own, "each", nft.rule(nft.saddr(address), nft.counter(), nft.verdict "drop"))
          req.host:add_nft_rule(nil, "admin_forward", nft.rule(nft.saddr(address), nft.counter()))
        end
        return result
      end }]],
    breaks = {
      { "the element is gone", at = "host", sh = "nft flush set inet own known", says = "element in set known is missing" },
      { "the attachments' rules are gone", at = "host", sh = "nft flush chain inet own each", says = "its rule 1 is missing" },
      { "its rule in the administrator's chain is gone", at = "host", sh = "nft flush chain inet luacni admin_forward",
        says = "its rule 2 is missing from chain admin_forward" },
      { "the rule of the table is gone", at = "host", sh = "nft flush chain inet own forward", says = "a rule of chain forward" },
      { "the table is gone", at = "host", sh = "nft delete table inet own", says = "set known is missing from table inet own" },
    } },

  { name = "bridge with a VLAN", ips = 2, reach = gateways, needs = { "bridge-vlan" },
    conf = { type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true, vlan = 100,
      vlanTrunk = { { minID = 200, maxID = 202 } }, ipam = dual },
    updates = {
      { conf = { vlanTrunk = { { minID = 201, maxID = 204 } } }, at = "host", sh = "bridge vlan show dev @PORT@", shows = "204" },
      { conf = { vlanTrunk = { { id = 300 } } }, at = "host", sh = "bridge vlan show dev @PORT@", shows = "300" },
    }, breaks = addressed {
      { "the VLAN is gone", at = "host", sh = "bridge vlan del dev @PORT@ vid 100",
        says = "100" },
      { "a VLAN of the trunk is gone", at = "host", sh = "bridge vlan del dev @PORT@ vid 201",
        says = "201" },
      { "the bridge does not filter", at = "host",
        sh = "ip link set br0 type bridge vlan_filtering 0", says = "vlan_filtering" },
    } },

  { name = "vlan", ips = 2, needs = { "vlan" }, reach = { "10.20.3.250", "fd20::fa" },
    conf = function(n)
      return { type = "vlan", master = "up0", vlanId = 4 + n, enabledad = false, ipam = dual,
        mtu = 1400, ingressQosMap = { { from = 1, to = 2 } },
        egressQosMap = { { from = 3, to = 4 } } }
    end,
    far = "ip link add link up0 v5 type vlan id 5; ip addr add 10.20.3.250/22 dev v5; " ..
      "ip -6 addr add fd20::fa/64 dev v5 nodad; ip link set v5 up",
    updates = {
      { conf = { mtu = 1300 }, sh = "ip link show eth0", shows = "mtu 1300" },
    }, breaks = addressed {
      { "the VLAN is another", at = "host", sh = "m=$(ip -n pod1 -j link show eth0 | " ..
        "sed 's/.*\"address\":\"\\([^\"]*\\).*/\\1/'); ip -n pod1 link del eth0; " ..
        "ip link add link up0 name v99 netns pod1 address $m type vlan id 99 " ..
        "ingress-qos-map 1:2 egress-qos-map 3:4; ip -n pod1 link set v99 name eth0",
        says = "vlan_id is 99, not 5" },
      { "the kind is another", sh = "ip link del eth0; ip link add eth0 type dummy",
        says = "kind is dummy, not vlan" },
    } },

  { name = "vlan on a master in the sandbox", ips = 2, needs = { "vlan" },
    conf = { type = "vlan", master = "m0", linkInContainer = true, vlanId = 7,
      protocol = "802.1ad", enabledad = false, ipam = dual },
    pod = pair("m0", "m1"),
    breaks = addressed {
      { "the master is gone", sh = "ip link del m0", says = "m0" },
      { "the protocol is another", sh = "ip link del eth0; " ..
        "ip link add link m0 eth0 type vlan id 7", says = "802%.1" },
    } },

  { name = "macvlan", ips = 2, needs = { "macvlan" },
    reach = { "10.20.3.250", "fd20::fa" },
    conf = { type = "macvlan", master = "up0", enabledad = false, ipam = dual },
    far = "ip addr add 10.20.3.250/22 dev up0; ip -6 addr add fd20::fa/64 dev up0 nodad",
    updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
      { conf = { mode = "private" }, sh = "ip -d link show eth0", shows = "mode private" },
    }, breaks = addressed {
      { "the mode is another", sh = "ip link set eth0 type macvlan mode vepa",
        says = "mode is vepa, not bridge" },
      { "the kind is another", sh = "ip link del eth0; ip link add eth0 type veth " ..
        "peer name e1", says = "kind is veth, not macvlan" },
    } },

  { name = "macvlan with a shim", ips = 2, needs = { "macvlan" },
    conf = { type = "macvlan", master = "up0", shim = "shim0", enabledad = false, ipam = dual },
    far = "",
    breaks = addressed {
      { "the shim is gone", at = "host", sh = "ip link del shim0", says = "shim0" },
      { "the route by the shim is gone", at = "host",
        sh = "ip route del $(ip route show dev shim0 | awk '{ print $1 }') dev shim0",
        says = "10%.20%.0%.%d+" },
    } },

  { name = "macvlan on a master in the sandbox, layer 2", needs = { "macvlan" },
    conf = { type = "macvlan", master = "m0", mode = "private", linkInContainer = true,
      runtimeConfig = { mac = "02:00:00:00:00:42" } },
    pod = pair("m0", "m1"),
    breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the interface is down", sh = "ip link set eth0 down", says = "eth0" },
      { "the MAC is another", sh = "ip link set eth0 address 02:00:00:00:00:77",
        says = "02:00:00:00:00:77" },
    } },

  { name = "ipvlan", ips = 2, needs = { "ipvlan" }, reach = { "10.20.3.250", "fd20::fa" },
    conf = { type = "ipvlan", master = "up0", enabledad = false, ipam = dual },
    far = "ip addr add 10.20.3.250/22 dev up0; ip -6 addr add fd20::fa/64 dev up0 nodad",
    updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
    }, breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the IPv4 address is gone", sh = "ip -4 addr flush dev eth0",
        says = "10%.20%.0%.%d+/22" },
      { "the interface is down", sh = "ip link set eth0 down", says = "eth0" },
      { "the mode is another", sh = "ip link set eth0 type ipvlan mode l3",
        says = "mode is l3, not l2" },
      { "the flag is another", sh = "ip link set eth0 type ipvlan mode l2 vepa",
        says = "flag is vepa, not bridge" },
    } },

  { name = "ipvlan on top of another plugin's link", needs = { "ipvlan" },
    conf = { type = "ipvlan", mode = "l3", linkInContainer = true, enabledad = false },
    pod = pair("m0", "m1"),
    prev = { cniVersion = "1.1.0",
      interfaces = { { name = "m0", mac = "02:00:00:00:00:01", sandbox = "@NETNS@" } },
      ips = { { address = "10.20.0.9/24", interface = 0 } } },
    breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the address is gone", sh = "ip -4 addr flush dev eth0", says = "10%.20%.0%.9/24" },
      { "the mode is another", sh = "ip link set eth0 type ipvlan mode l2",
        says = "mode is l2, not l3" },
    } },

  { name = "ptp", ips = 2, reach = gateways, needs = { "nft-nat" },
    conf = { type = "ptp", ipMasq = true, ipam = dual },
    updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
      { conf = { ipMasq = false }, at = "host", sh = "nft list ruleset | grep -c every/c1; true", shows = "^0" },
    }, breaks = addressed {
      { "the gateway's address is gone", at = "host", sh = "ip addr del 10.20.0.1/32 dev @PORT@",
        says = "10%.20%.0%.1/32" },
      { "the route to the pod is gone", at = "host",
        sh = "ip route del $(ip -4 route show dev @PORT@ | awk '{ print $1 }')",
        says = "10%.20%.0%.%d+" },
      { "the route to the gateway is gone", sh = "ip route del 10.20.0.1 dev eth0",
        says = "10%.20%.0%.1" },
      { "the masquerade is gone", at = "host", sh = unmasked, says = "masquerad" },
    } },

  { name = "dummy", ips = 2, needs = { "dummy" },
    conf = { type = "dummy", mtu = 1300, ipam = dual },
    updates = {
      { conf = { mtu = 1400 }, sh = "ip link show eth0", shows = "mtu 1400" },
    }, breaks = addressed {
      { "the kind is another", sh = "ip link del eth0; ip link add eth0 type veth " ..
        "peer name e1", says = "kind is veth, not dummy" },
    } },

  { name = "tap", ips = 2,
    conf = { type = "tap", owner = 1000, group = 1001, multiQueue = true, mtu = 1400,
      bridge = "pb0", ipam = dual },
    pod = "ip link add pb0 address 02:00:00:00:00:b0 type bridge; ip link set pb0 addrgenmode none; " ..
      "ip link set pb0 up",
    updates = {
      { conf = { mtu = 1300 }, sh = "ip link show eth0", shows = "mtu 1300" },
    }, breaks = addressed {
      { "it is not plugged in", sh = "ip link set eth0 nomaster", says = "not plugged into pb0" },
      { "the bridge is gone", sh = "ip link del pb0", says = "pb0" },
      { "the kind is another", sh = "ip link del eth0; ip link add eth0 type veth " ..
        "peer name e1", says = "kind is veth, not tun" },
    } },

  { name = "tap, layer 2", conf = { type = "tap" }, breaks = {
    { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
    { "the interface is down", sh = "ip link set eth0 down", says = "eth0" },
  } },

  { name = "host-device", ips = 2,
    conf = function(n) return { type = "host-device", device = "dev" .. n, ipam = dual } end,
    host = no_link_local, each = pair("dev@N@", "end@N@") .. "ip link set dev@N@ alias 'a name of its own'",
    breaks = addressed {
      { "it has another name", sh = "ip link set eth0 down; ip link set eth0 name eth9",
        says = "eth0" },
    } },

  { name = "host-device, no addresses",
    conf = function(n) return { type = "host-device", device = "dev" .. n } end,
    host = no_link_local, each = pair("dev@N@", "end@N@"),
    breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the interface is down", sh = "ip link set eth0 down", says = "eth0" },
    } },

  { name = "vrf", needs = { "vrf" }, conf = { type = "vrf", vrfname = "red", table = 10 },
    pod = vrf_rules .. pair("eth0", "e1") .. "ip addr add 10.20.0.9/24 dev eth0; " ..
      "ip -6 addr add fd20::9/64 dev eth0 nodad; ip route add default via 10.20.0.1; " ..
      "ip -6 route add default via fd20::1",
    prev = { cniVersion = "1.1.0",
      interfaces = { { name = "eth0", sandbox = "@NETNS@" } },
      ips = { { address = "10.20.0.9/24", interface = 0, gateway = "10.20.0.1" },
        { address = "fd20::9/64", interface = 0, gateway = "fd20::1" } },
      routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } },
    breaks = {
      { "the interface is not in it", sh = "ip link set eth0 nomaster", says = "red" },
      { "the VRF is gone", sh = "ip link del red", says = "red" },
      { "the VRF is down", sh = "ip link set red down", says = "red" },
      { "its table is another", sh = "ip link del red; ip link add red type vrf table 11; " ..
        "ip link set red up; ip link set eth0 master red", says = "11" },
    } },

  { name = "sbr", conf = { type = "sbr", gateways = { "10.20.0.2" } }, pod = routed, prev = reported, breaks = {
    { "the rule is gone", sh = "ip rule del table 100", says = "rule 32765 from 10%.20%.0%.9/32 lookup 100 is missing" },
    { "the rule of IPv6 is gone", sh = "ip -6 rule del table 101", says = "lookup 101 is missing" },
    { "the default route is gone", sh = "ip route del default table 100",
      says = "route 0%.0%.0%.0/0 via 10%.20%.0%.2 in table 100 on eth0 is missing" },
    { "the default route has another gateway", sh = "ip route replace default via 10.20.0.1 table 100",
      says = "route 0%.0%.0%.0/0 via 10%.20%.0%.2 in table 100" },
    { "the network of IPv6 is gone", sh = "ip -6 route del fd20::/64 table 101", says = "route fd20::/64 in table 101" },
    { "the main table has a route again", sh = "ip -6 route add default via fd20::1 dev eth0 onlink",
      says = "route ::/0 via fd20::1 on eth0 is there again" },
    { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
  } },

  { name = "sbr, hints", conf = { type = "sbr", addSourceHints = true }, pod = routed, prev = reported, breaks = {
    { "the hint is gone", sh = "ip -6 route del fd20::/64 table main", says = "route fd20::/64 on eth0 is missing" },
  } },

  { name = "sbr, a table that is there", conf = { type = "sbr", table = 500 }, pod = routed, prev = reported,
    breaks = { { "the rule is gone", sh = "ip rule del table 500", says = "lookup 500 is missing" } } },

  { name = "firewall", needs = { "nft-nat", "nft-bridge" },
    conf = { type = "firewall", backend = "nftables", ingressPolicy = "isolated", unpublished = "drop" },
    pod = pair("eth0", "e1"),
    prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "@NETNS@",
      mac = "02:00:00:00:00:09" }, { name = "br0" } },
      ips = { { address = "10.20.0.1@N@/24", interface = 0 }, { address = "fd20::1@N@/64", interface = 0 } } },
    updates = {
      { conf = { ingressPolicy = "same-bridge" }, at = "host", sh = "nft list ruleset", shows = "br0. . 10.20.0.11" },
      { conf = { ingressPolicy = "open", unpublished = "" }, at = "host", sh = "nft list ruleset | grep -c unpublished; true", shows = "^0" },
    }, breaks = {
      { "its address is not known", at = "host", sh = "nft flush set inet luacni forwarded4",
        says = "let pass what 10%.20%.0%.11 sends, and what answers it: its element in set forwarded4 is missing" },
      { "who may reach it is not known", at = "host", sh = "nft flush set inet luacni isolated6",
        says = "keep all bridges off fd20::11: " },
      { "who is a neighbour is not known", at = "host", sh = "nft flush set bridge luacni isolated4",
        says = "keep neighbours off 10%.20%.0%.11: " },
      { "its address is not kept", at = "host", sh = "nft flush set inet luacni unpublished4",
        says = "keep all off 10%.20%.0%.11 but for published ports: " },
      { "the rule in FORWARD is gone", at = "host",
        sh = "iptables-nft -D FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT", says = "0x1000 is missing from FORWARD" },
      { "the administrator's chain is not seen", at = "host", sh = "iptables-nft -D FORWARD -j CNI-ADMIN",
        says = "FORWARD of table ip filter does not lead to chain CNI%-ADMIN" },
      { "nothing is marked", at = "host", sh = "nft flush chain inet luacni forwarded", says = "chain forwarded" },
      { "the mark stays", at = "host", sh = "nft flush chain inet luacni forwarded_end", says = "chain forwarded_end" },
      { "the table is gone", at = "host", sh = "nft delete table inet luacni", says = "admin_forward is missing" },
    } },

  { name = "firewall, open", needs = { "nft-nat" },
    conf = { type = "firewall", backend = "iptables", iptablesAdminChainName = "CNI-ADMIN", markBit = 12 },
    pod = pair("eth0", "e1"),
    prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "@NETNS@" } },
      ips = { { address = "10.20.0.1@N@/24", interface = 0 } } },
    breaks = {
      { "its address is not known", at = "host", sh = "nft flush set inet luacni forwarded4", says = "10%.20%.0%.11" },
    } },

  { name = "tuning", conf = { type = "tuning", mac = "02:00:00:00:00:55", mtu = 1400, promisc = true,
      allmulti = true, txQLen = 77, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1",
        ["net.ipv6.conf.all.accept_ra"] = "0", ["net.ipv4.ip_local_port_range"] = "4000 5000" } },
    pod = pair("eth0", "e1"),
    prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", mac = "02:00:00:00:00:01", sandbox = "@NETNS@" } } },
    updates = {
      { conf = { mtu = 1300 }, sh = "ip link show eth0", shows = "mtu 1300" },
      { conf = { mac = "02:00:00:00:00:56", promisc = false }, sh = "ip link show eth0", shows = "02:00:00:00:00:56" },
      { conf = { sysctl = { ["net.ipv4.ip_local_port_range"] = "4000 6000" } }, sh = "cat /proc/sys/net/ipv4/ip_local_port_range", shows = "6000" },
    }, breaks = {
      { "the MAC is another", sh = "ip link set eth0 address 02:00:00:00:00:77", says = "mac is 02:00:00:00:00:77" },
      { "the MTU is another", sh = "ip link set eth0 mtu 1300", says = "mtu is 1300, not 1400" },
      { "it is not promiscuous", sh = "ip link set eth0 promisc off", says = "promisc is false" },
      { "it takes no multicast", sh = "ip link set eth0 allmulticast off", says = "allmulti is false" },
      { "its queue is another", sh = "ip link set eth0 txqueuelen 9", says = "txqlen is 9, not 77" },
      { "a sysctl of it is another", sh = "echo 0 >/proc/sys/net/ipv4/conf/eth0/arp_filter",
        says = "arp_filter is 0, not 1" },
      { "a sysctl is another", sh = "echo '4000 6000' >/proc/sys/net/ipv4/ip_local_port_range",
        says = "ip_local_port_range is 4000%s6000, not 4000 5000" },
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
    } },

  -- By an address of the host: then no link of it is made to route 127.0.0.1.
  { name = "portmap", needs = { "nft-nat" },
    conf = function(n)
      return { type = "portmap", conditionsV4 = { "!", "-d", "198.51.100.0/24" }, runtimeConfig = { portMappings = {
        { hostPort = 8080 + n, containerPort = 80, protocol = "tcp", hostIP = "10.20.0.1" },
        { hostPort = 9080 + n, containerPort = 80, protocol = "udp", hostIP = "::", allow = { "fd00::/8" } },
        { hostPort = 10000 + 100 * n, containerPort = 10000 + 100 * n, protocol = "udp", hostIP = "::", range = 100 },
      } } }
    end,
    pod = pair("eth0", "e1"), prev = published,
    updates = {
      { conf = { runtimeConfig = { portMappings = {
        { hostPort = 8081, containerPort = 81, protocol = "tcp", hostIP = "10.20.0.1" },
        { hostPort = 10100, containerPort = 10100, protocol = "udp", hostIP = "::", range = 120 } } } },
        at = "host", sh = "nft list map inet luacni any_ranges6", shows = "10100%-10219" },
    }, breaks = {
      { "a port leads nowhere", at = "host", sh = "nft flush map inet luacni ports4",
        says = "publish 10%.20%.0%.1:8081/tcp to 10%.20%.1%.1:80: its element in set ports4 is missing" },
      { "a range leads elsewhere", at = "host", sh = "nft flush map inet luacni any_ranges6; nft add element inet " ..
        "luacni any_ranges6 '{ udp . 10100-10199 comment \"every/pod1/eth0\" : fd20::8 }'", says = "set any_ranges6 " },
      { "nobody may use it", at = "host", sh = "nft flush set inet luacni any_permits6", says = "any_permits6 is missing" },
      { "a neighbour's answer gets lost", at = "host", sh = "nft flush set inet luacni hairpin4", says = "hairpin4" },
      { "the guard is gone", at = "host", sh = "nft flush chain inet luacni guard", says = "guard" },
      { "the table is gone", at = "host", sh = "nft delete table inet luacni", says = "chain admin is missing" },
    } },

  -- Each part as in a list; one type twice.
  { name = "a chain in one process", needs = { "nft-nat", "ifb" }, ips = 2, reach = gateways,
    conf = function(n) return chain_of(n, {}) end,
    updates = {
      { conf = { plugins = chain_of(1, { rate = 16000000 }).plugins }, at = "host", sh = "tc qdisc show",
        shows = "rate 16Mbit" },
    }, breaks = {
      { "the interface is gone", sh = "ip link del eth0", says = "eth0" },
      { "the IPv4 address is gone", sh = "ip -4 addr flush dev eth0", says = "bridge: .*10%.20%.0%.%d+/22" },
      { "the address is not masqueraded", at = "host", sh = unmasked, says = "bridge: .*masked4_22" },
      { "a port leads nowhere", at = "host", sh = "nft flush map inet luacni any_ports4", says = "portmap: publish" },
      { "a setting is another", sh = "echo 0 >/proc/sys/net/ipv4/conf/all/arp_filter",
        says = "tuning: .*arp_filter is 0, not 1" },
      { "the second setting is another", sh = "echo 0 >/proc/sys/net/ipv4/conf/eth0/arp_announce",
        says = "tuning: .*arp_announce is 0, not 1" },
      { "the rate is another", at = "host", sh = "tc qdisc del dev @PORT@ root", says = "bandwidth: " },
    } },

  { name = "portmap, by every address of the host", needs = { "nft-nat" },
    conf = function(n)
      return { type = "portmap", runtimeConfig = { portMappings = {
        { hostPort = 8080 + n, containerPort = 80, protocol = "tcp" },
        { hostPort = 9080 + n, containerPort = 90, protocol = "udp" },
      } } }
    end,
    host = pair("pm0", "pm1") .. "ip addr add 10.20.0.1/22 dev pm0; ip -6 addr add fd20::1/64 dev pm0 nodad",
    pod = pair("eth0", "e1"), prev = published,
    updates = {
      { conf = { runtimeConfig = { portMappings = { { hostPort = 8082, containerPort = 80 } } } }, at = "host", sh = "nft list map inet luacni any_ports4", shows = "tcp . 8082" },
    }, breaks = {
      { "a port leads nowhere", at = "host", sh = "nft flush map inet luacni any_ports4", says = "publish %*:%d+/%a+ to 10%.20" },
      { "a port of IPv6 leads nowhere", at = "host", sh = "nft flush map inet luacni any_ports6", says = "any_ports6" },
      { "127.0.0.1 is not led there", at = "host", sh = "echo 0 >/proc/sys/net/ipv4/conf/pm0/route_localnet",
        says = "pm0/route_localnet is 0, not 1" },
    } },

  { name = "vrf, the table chosen", needs = { "vrf" }, conf = { type = "vrf", vrfname = "blue" },
    pod = vrf_rules .. pair("eth0", "e1") .. "ip addr add 10.20.0.9/24 dev eth0",
    prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "@NETNS@" } },
      ips = { { address = "10.20.0.9/24", interface = 0 } } },
    breaks = {
      { "the VRF is gone", sh = "ip link del blue", says = "blue" },
      { "its table is another", sh = "ip link del blue; ip link add blue type vrf table 11; " ..
        "ip link set blue up; ip link set eth0 master blue", says = "11" },
    } },
}

local with = t.merge

--- The configuration of an entry for a pod (default 1), changed by `more`.
function M.conf(entry, n, more)
  local conf = type(entry.conf) == "function" and entry.conf(n or 1) or entry.conf
  return with(with({ cniVersion = "1.1.0", name = "every" }, conf), more)
end

--- The type of an entry.
function M.type(entry) return M.conf(entry).type end

--- What the plugins before it in its chain gave a pod, or nil.
function M.prev(entry, pod)
  return entry.prev and t.decode((t.json(entry.prev):gsub("@NETNS@", pod.path)
    :gsub("@N@", pod.name:match "%d*$")))
end

--- The namespaces of an entry: a world (see world.lua) with `pods` of them, forwarding on, and its neighbours
-- but for those that `beside` leaves out.
function M.world(entry, pods, beside)
  local w = world.new(M.conf(entry), { pods = pods or 1, forwarding = true,
    far = entry.far ~= nil, neighbours = beside })
  if entry.script then t.write(("/etc/luacni/plugins/%s.lua"):format(M.type(entry)), entry.script) end
  if entry.host then w:sh(entry.host) end
  if entry.daemon then t.ends_with_test(entry.daemon) end
  if entry.far and entry.far ~= "" then t.run(entry.far, { host = w.far }) end
  for n = 1, #w.pods do
    if entry.each then w:sh((entry.each:gsub("@N@", n))) end
    if entry.pod then w:in_pod(entry.pod, n) end
  end
  return w
end

return M
