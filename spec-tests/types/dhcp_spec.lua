-- SPDX-License-Identifier: MIT
-- An IPAM plugin of others that needs the interface: the reference's dhcp, whose daemon asks a DHCP
-- server (dnsmasq) on the wire from within the sandbox. And any other one finds the interface up.
--
-- Seconds a test takes on the second kernel: 8

local t = require "support"
local dhcp = require "dhcp_world"
local on_master = require "on_master"
local world = require "world"

local with = t.with

-- The same for every link to come: a link's own setting does not survive a move.
local no_link_local = "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode; "

after_each(dhcp.stop_all)

-- The reference's plugin by another name, as its own is that of a type of ours.
local theirs = "/run/spec/theirs"

-- A world with the reference's daemon in it.
local function with_daemon(conf, opts)
  t.needs "reference"
  t.run(("mkdir -p %s; ln -sf /usr/lib/cni/dhcp %s/reference-dhcp"):format(theirs, theirs))
  local w = dhcp.new(with(conf, { ipam = { type = "reference-dhcp" } }),
    with(opts, { path = t.bin.ours .. ":" .. theirs }))
  dhcp.start "/usr/lib/cni/dhcp daemon"
  t.run "for i in $(seq 200); do [ -S /run/cni/dhcp.sock ] && exit; sleep 0.02; done; exit 1"
  return w
end

local cases = {
  { "bridge", { bridge = "br0" }, { host = "ip link add br0 type bridge; ip link set br0 up; " ..
    "ip addr flush dev up0; ip link set up0 master br0" } },
  { "bridge", { bridge = "br0", isDefaultGateway = true }, { host = "ip link add br0 type bridge; " ..
    "ip link set br0 up; ip addr flush dev up0; ip link set up0 master br0" } },
  { "macvlan", {}, { needs = { "macvlan" } } },
  { "vlan", { vlanId = 7 }, { needs = { "vlan" }, wire = "v7",
    far = "ip link add link up0 name v7 type vlan id 7; ip link set v7 up" } },
  { "ipvlan", {}, { needs = { "ipvlan" } } },
  { "host-device", { device = "dev1" }, {
    host = no_link_local .. t.pair("dev1", "dev2") .. "ip link set dev2 netns far", wire = "dev2",
    far = "ip link set dev2 up" } },
}

for whose, new in pairs { ["of ours"] = dhcp.new, ["of the reference"] = with_daemon } do
  describe("DHCP " .. whose, function()
    for i, case in ipairs(cases) do
      local kind, conf, opts = table.unpack(case)
      it(("serves %s (%d): ADD gets an address, DEL gives it back"):format(kind, i), function()
        -- Links of ipvlan hear only what is for their addresses: the reference's client does not ask for more.
        local server = whose ~= "of ours" and { options = "--dhcp-option=3,10.9.0.1 --dhcp-broadcast" } or nil
        local w = new(with({ type = kind }, conf), with(opts, { server = server }))
        local before = on_master.glance(w)
        local result = w:add()
        t.same(dhcp.given(), { "10.9.0.10" })
        t.same({ "10.9.0.10/24" }, world.addrs(w.pods[1], "eth0"))
        assert.equal("10.9.0.10/24", result.ips[1].address)
        assert.equal("10.9.0.1", result.ips[1].gateway)
        t.same({ { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
        t.same({}, result.dns or {})
        assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
        w:check()
        w:del()
        dhcp.await_given(0)
        on_master.unchanged(w, before)
      end)
    end
  end)
end

-- An IPAM plugin that writes down what it sees of the interface.
local probe = [[#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND $(nsenter --net=$CNI_NETNS ip -o link show $CNI_IFNAME 2>/dev/null |
  sed 's/.*<\(.*\)>.*/\1/; s/$/,/; s/^/,/')" >>/run/spec/seen
[ $CNI_COMMAND != ADD ] || cat <<.
{ "cniVersion": "1.0.0", "ips": [ { "address": "10.9.0.10/24", "gateway": "10.9.0.1" },
  { "address": "fd09::10/64", "gateway": "fd09::1" } ], "routes": [ { "dst": "0.0.0.0/0" } ] }
.
]]

local probed = {
  { { type = "bridge", bridge = "br0", removeUnused = true }, up = true },
  { { type = "macvlan", master = "up0" }, up = true, needs = "macvlan" },
  { { type = "vlan", master = "up0", vlanId = 7 }, up = true, needs = "vlan" },
  { { type = "ipvlan", master = "up0" }, up = true, needs = "ipvlan" },
  { { type = "host-device", device = "dev1" }, up = true },
  { { type = "dummy" }, up = true, needs = "dummy" },
  { { type = "tap" }, up = true },
  { { type = "wire" }, up = true },
  { { type = "early" } },
  -- As with the reference, the addresses come first.
  { { type = "ptp" } },
}

local function script(early)
  local ask = "local lease = ipam.add(req)\n"
  return ([[
    local ipam = require "cni.ipam"
    return { add = function(req)
      %s
      local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
      req.host:set_link(port, { up = true })
      %s
      ipam.apply(lease, req.pod, eth)
      return { interfaces = { port, eth }, ips = lease.ips, routes = lease.routes }
    end }]]):format(early and ask or "", early and "" or ask)
end

local function with_probe(conf)
  local bin = "/run/spec/bin"
  t.run(("rm -rf %s /run/spec/seen; mkdir %s; ln -s %s/* %s; "
    .. "ln -s %s/luacni %s/wire; ln -s wire %s/early"):format(bin, bin, t.bin.ours, bin, t.bin.ours,
      bin, bin))
  t.write(bin .. "/probe", probe)
  t.run("chmod 0755 " .. bin .. "/probe")
  t.write("/etc/luacni/plugins/wire.lua", script(false))
  t.write("/etc/luacni/plugins/early.lua", script(true))
  local w = world.new(with({ cniVersion = "1.0.0", ipam = { type = "probe" } }, conf),
    { far = true, forwarding = true, bin = bin })
  w:sh(no_link_local .. t.pair("dev1", "dev2"))
  return w
end

describe("An IPAM plugin of others", function()
  for _, case in ipairs(probed) do
    local conf = case[1]
    it(("%s the link of %s, on ADD and on DEL"):format(case.up and "finds, up," or "does not find yet",
      conf.type), function()
      if case.needs then t.needs(case.needs) end
      local w = with_probe(conf)
      local before = on_master.glance(w)
      local result = w:add()
      t.same({ "10.9.0.10/24", "fd09::10/64" }, world.addrs(w.pods[1], "eth0"))
      assert.truthy(t.run("ip route show default", { host = w.pods[1] }):find("10.9.0.1", 1, true))
      assert.equal("10.9.0.10/24", result.ips[1].address)
      local seen = t.read("/run/spec/seen")
      assert.equal(case.up, seen:find("^ADD .*,UP,") and true or nil, seen)
      w:check()
      w:del()
      seen = t.read("/run/spec/seen")
      assert.equal(case.up, seen:find("DEL .*,UP,") and true or nil, seen)
      on_master.unchanged(w, before)
    end)
  end

  it("that refuses leaves no link; one that is nowhere makes none", function()
    local w = with_probe({ type = "bridge", bridge = "br0", removeUnused = true })
    local before = on_master.glance(w)
    t.write("/run/spec/bin/probe", "#!/bin/sh\ncat >/dev/null\n[ $CNI_COMMAND = DEL ] || " ..
      "{ echo '{ \"code\": 100, \"msg\": \"no room\" }'; exit 1; }\n")
    assert.equal("no room", w:fails("ADD", nil, 100).msg)
    on_master.unchanged(w, before)
    local names, status = on_master.names_seen(w, { ipam = { type = "nowhere" } })
    assert.equal(1, status)
    assert.equal("", names)
  end)

  it("does not keep the neighbours from being told of its addresses", function()
    t.needs("macvlan")
    local w = with_probe({ type = "macvlan", master = "up0", enabledad = false })
    t.run("ip addr add 10.9.0.1/24 dev up0; ip -6 addr add fd09::1/64 dev up0 nodad; " ..
      "for a in 10.9.0.10 10.9.0.11 fd09::10 fd09::11; do " ..
      "ip neigh replace $a lladdr 02:00:00:00:00:99 dev up0 nud reachable; done", { host = w.far })
    local mac = w:add().interfaces[1].mac
    local list = t.run(("for i in $(seq 100); do [ $(ip neigh show dev up0 | grep -c %s) -ge 2 ] && "
      .. "break; sleep 0.02; done; ip neigh show dev up0"):format(mac), { host = w.far })
    for address, has in pairs({ ["10.9.0.10"] = mac, ["fd09::10"] = mac,
      ["10.9.0.11"] = "02:00:00:00:00:99", ["fd09::11"] = "02:00:00:00:00:99" }) do
      assert.equal(has, list:match(address:gsub("%p", "%%%0") .. " lladdr (%S+)"), list)
    end
  end)
end)
