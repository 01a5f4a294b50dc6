-- SPDX-License-Identifier: MIT
-- The type dhcp and IPv6, with dnsmasq as router and server: what an ADD gives, what CHECK sees, what DEL gives
-- back, by each way to an address.
--
-- Seconds a test takes on the second kernel: 20

local sys = require("netlink").sys
local t = require "support"
local dhcp = require "dhcp_world"
local dhcp6 = require "dhcp6_world"
local on_master = require "on_master"
local world = require "world"

local with = t.with

after_each(dhcp.stop_all)

local function default_route(pod) return t.ip(pod, "-6 route show default") end

local on_bridge <const> = "ip link add br0 type bridge; ip link set br0 up; ip addr flush dev up0; ip link set up0 master br0"

local cases = {
  { "bridge", { bridge = "br0" }, { host = on_bridge } },
  { "bridge", { bridge = "br0", isDefaultGateway = true }, { host = on_bridge } },
  { "macvlan", {}, {} },
  { "macvlan", { enabledad = true }, {} },
  { "vlan", { vlanId = 7 }, { needs = { "vlan" }, wire = "v7",
    far = "ip link add link up0 name v7 type vlan id 7; ip link set v7 up" } },
  { "ipvlan", {}, { needs = { "ipvlan" } } },
  { "host-device", { device = "dev1" }, { host = "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode; "
    .. t.pair("dev1", "dev2") .. "ip link set dev2 netns far; ip link set dev1 addrgenmode eui64", wire = "dev2",
    far = "ip link set dev2 up" } },
}

for by, check in pairs {
  stateful = function(result, given)
    t.same({ { address = given[1] .. "/128", gateway = result.ips[1].gateway, interface = result.ips[1].interface } },
      result.ips)
  end,
  slaac = function(result, given)
    assert.truthy(result.ips[1].address:find "^fd09::.*/64$")
    t.same({}, given)
  end,
} do
  describe("IPv6 by " .. by, function()
    for i, case in ipairs(cases) do
      local kind, conf, opts = table.unpack(case)
      it(("serves %s (%d): ADD gets an address and knows the router, CHECK agrees, DEL gives all back"):format(kind, i),
        function()
          local w = dhcp6.new({ ipv6 = by }, with({ type = kind, conf = conf, server = { by = by } }, opts))
          local before = on_master.glance(w)
          local result = w:add()
          check(result, dhcp6.given())
          local gateway = result.ips[1].gateway
          assert.truthy(gateway and gateway:find "^fe80::", t.json(result))
          -- The route stays the kernel's own.
          local routes = default_route(w.pods[1])
          assert.equal(1, #routes)
          t.same({ gateway, "ra" }, { routes[1].gateway, routes[1].protocol })
          t.same({}, result.routes or {})
          local own = dhcp6.addrs(w.pods[1])
          assert.equal(result.ips[1].address, own[1]["local"] .. "/" .. own[1].prefixlen)
          assert.is_nil(own[1].tentative)
          assert.is_true(t.ping(w.pods[1], "fd09::1"))
          w:check()
          w:del()
          dhcp6.await_given(0)
          assert.is_nil(t.read(dhcp6.path))
          on_master.unchanged(w, before)
        end)
    end
  end)
end

describe("A lease of IPv6", function()
  it("brings resolvers and search list, and the kernel knows how long it lasts", function()
    local w = dhcp6.new()
    local result = w:add()
    t.same({ nameservers = { "fd09::1", "fd09::2" }, search = { "one.example", "two.example" } }, result.dns)
    local own = dhcp6.addrs(w.pods[1])[1]
    for _, key in ipairs { "valid_life_time", "preferred_life_time" } do
      assert.is_true(own[key] > 3500 and own[key] <= 3600, own[key])
    end
    assert.truthy(t.run(t.build .. "/luacni dhcp list", { host = w.host })
      :find "net%s+c1%s+eth0%s+fd09::%x+/128%s+fe80::2%s+%d+ s")
  end)

  it("is asked for as is wanted, and another is given where that is taken", function()
    local w = dhcp6.new({}, { pods = 2 })
    assert.equal("fd09::15/128", w:add({ args = "IP=fd09::15" }).ips[1].address)
    assert.not_equal("fd09::15/128", w:add({ id = "c2", pod = 2, args = "IP=fd09::15" }).ips[1].address)
    assert.equal(2, #dhcp6.given())
    w:del { id = "c2", pod = 2 }
    t.same({ "fd09::15" }, dhcp6.given())
    w:check()
  end)

  it("is known by one DUID, of the kind UUID, which another container has not", function()
    local w = dhcp6.new({}, { pods = 2 })
    w:add()
    local first = dhcp6.leases()[1].client
    assert.truthy(first:find "^00:04:%x%x:.*$" and #first == 18 * 3 - 1, first)
    w:add { id = "c2", pod = 2 }
    assert.not_equal(first, dhcp6.leases()[2].client == first and dhcp6.leases()[1].client or dhcp6.leases()[2].client)
    w:del()
    w:add()
    assert.truthy(dhcp6.leases()[1].client == first or dhcp6.leases()[2].client == first)
  end)

  it("takes two messages, where both sides are content with that", function()
    for _, case in ipairs { { true, "SOLICIT REPLY" }, { false, "SOLICIT ADVERTISE REQUEST REPLY" } } do
      local w = dhcp6.new({ rapidCommit = case[1] }, { server = { options = "--dhcp-rapid-commit" } })
      w:add()
      assert.equal(case[2], table.concat(dhcp6.told(), " "))
      w:check()
      w:del()
      dhcp6.await_given(0)
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("that somebody has is declined, and the next one taken", function()
    local w = dhcp6.new({ probe = 300 }, { pods = 2 })
    local first = w:add().ips[1].address
    w:del()
    dhcp6.await_given(0)
    w:add { id = "c2", pod = 2, conf = { ipam = { type = "static", addresses = { { address = first:gsub("/.*", "/64") } } } } }
    assert.not_equal(first, w:add().ips[1].address)
    assert.truthy(table.concat(dhcp6.told(), " "):find("DECLINE", 1, true))
    assert.is_true(t.ping(w.pods[1], "fd09::1"))
    w:check()
  end)

  it("has the name that provide says, for the server's own entries", function()
    local w = dhcp6.new { provide = { { option = "host-name", value = "no", fromArg = "K8S_POD_NAME" } } }
    w:add { args = "IgnoreUnknown=1;K8S_POD_NAME=blue" }
    assert.equal("blue", dhcp6.leases()[1].name)
  end)

  it("is got where IPv6 was off in the sandbox, and that is so again afterwards", function()
    local w = dhcp6.new()
    w:in_pod "for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done"
    local before = on_master.glance(w)
    w:add()
    assert.is_true(t.ping(w.pods[1], "fd09::1"))
    w:check()
    w:del()
    on_master.unchanged(w, before)
  end)

  it("has the neighbours told of it", function()
    local w = dhcp6.new({ ipv4 = true }, { server = { ipv4 = true } })
    t.run([[nft 'table inet seen {
      counter told { }
      chain c { type filter hook prerouting priority -400; icmpv6 type nd-neighbor-advert ip6 saddr fd09::/64 ip6 daddr ff02::1 counter name told; }
    }
    table arp seen {
      counter told { }
      chain c { type filter hook input priority 0; arp operation request arp saddr ip 10.9.0.10 arp daddr ip 10.9.0.10 counter name told; }
    }']], { host = w.far })
    w:add()
    for _, family in ipairs { "inet", "arp" } do
      assert.equal("1", t.run(("nft list counter %s seen told"):format(family), { host = w.far }):match "packets (%d+)", family)
    end
  end)
end)

describe("Both families", function()
  it("are got in one ADD, and given back in one DEL", function()
    local w = dhcp6.new({ ipv4 = true }, { server = { ipv4 = true, options = "--dhcp-option=6,10.9.0.1 --domain=example.net" } })
    local before = on_master.glance(w)
    local result = w:add()
    t.same({ "10.9.0.10/24", "fd09::11/128" }, { result.ips[1].address, "fd09::11/128" })
    assert.equal(2, #result.ips)
    t.same({ { dst = "0.0.0.0/0", gw = "10.9.0.1" } }, result.routes)
    t.same({ nameservers = { "10.9.0.1", "fd09::1", "fd09::2" }, domain = "example.net",
      search = { "one.example", "two.example" } }, result.dns)
    for _, address in ipairs { "10.9.0.1", "fd09::1" } do assert.is_true(t.ping(w.pods[1], address), address) end
    t.same({ "10.9.0.10" }, dhcp.given())
    t.same(1, #dhcp6.given())
    w:check()
    w:del()
    dhcp.await_given(0)
    dhcp6.await_given(0)
    on_master.unchanged(w, before)
  end)

  it("are none where one of them is not to be had; the error says which", function()
    t.needs "calls"
    for _, case in ipairs { { "slaac", "no router advertises itself on eth0", { ipv4 = true, range = "" } },
      { "stateful", "no DHCPv6 server answers on eth0", { ipv4 = true, range = "" } },
      { "stateful", "no DHCP server answers on eth0", {} } } do
      local w = dhcp6.new({ ipv4 = true, ipv6 = case[1] }, { server = case[3] })
      local before = on_master.glance(w)
      on_master.says(w:fails("ADD", nil, 11), case[2])
      t.same({}, dhcp.given())
      t.same({}, dhcp6.given())
      on_master.unchanged(w, before)
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("of which none is wanted are refused", function()
    local w = dhcp6.new({}, { server = false })
    on_master.refused(w, { { conf = { ipam = { type = "dhcp", ipv4 = false } } }, 7, "ipam.ipv4", "ipam.ipv6" },
      { { conf = { ipam = { type = "dhcp", ipv6 = "dhcp" } } }, 7, "ipam.ipv6", "stateful" })
  end)
end)

describe("Addresses as routers advertise", function()
  it("have their resolvers of the router, and by stateless those of a DHCPv6 server", function()
    for by, told in pairs { slaac = "", stateless = "INFORMATION-REQUEST" } do
      local w = dhcp6.new({ ipv6 = by }, { server = { by = "stateless" } })
      local result = w:add()
      t.same({ nameservers = { "fd09::1", "fd09::2" }, search = { "one.example", "two.example" } }, result.dns)
      assert.equal(told ~= "", (t.read "/run/spec/daemon.out"):find("DHCPINFORMATION", 1, true) ~= nil)
      w:check()
      w:del()
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("are waited for as auto says: by what the router says of DHCPv6", function()
    for by, want in pairs { stateful = "/128", stateless = "/64", slaac = "/64" } do
      local w = dhcp6.new({ ipv6 = "auto" }, { server = { by = by } })
      local result = w:add()
      assert.equal(want, result.ips[1].address:match "/%d+$")
      assert.equal(by, dhcp6.lease().by)
      w:check()
      w:del()
      dhcp6.await_given(0)
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("are missed by CHECK, and a repair has the kernel's next one", function()
    local w = dhcp6.new({ ipv6 = "slaac" }, { server = { by = "slaac" } })
    local address = w:add().ips[1].address
    w:in_pod "ip -6 addr flush dev eth0 scope global"
    on_master.says(w:fails "CHECK", "eth0", address)
    local out, status, err = t.sh({ t.build .. "/luacni", "repair" }, { host = w.host })
    assert.equal(0, status, out .. err)
    assert.is_true(t.ping(w.pods[1], "fd09::1"))
    w:check()
    w:del()
  end)

  it("are all of them in the result, each router's", function()
    local w = dhcp6.new({ ipv6 = "slaac" }, { far = "ip addr add fd0a::1/64 dev up0 nodad",
      server = { range = "--dhcp-range=fd09::,ra-only --dhcp-range=fd0a::,ra-only --enable-ra" } })
    local nets = {}
    for _, ip in ipairs(w:add().ips) do nets[#nets + 1] = ip.address:sub(1, 4) end
    table.sort(nets)
    t.same({ "fd09", "fd0a" }, nets)
    w:check()
    w:del()
  end)

  it("that do not come are told of, with what was seen", function()
    local function says(by, opts, prepare, ...)
      local w = dhcp6.new({ ipv6 = by }, opts)
      if prepare then w:in_pod(prepare) end
      local before = on_master.glance(w)
      local began = sys.clock()
      on_master.says(w:fails("ADD", nil, 11), ...)
      assert.is_true(sys.clock() - began < 20)
      on_master.unchanged(w, before)
      dhcp.stop_all()
      t.cleanup()
    end
    says("slaac", { server = false }, nil, "no router advertises itself on eth0", "radvd")
    says("auto", { server = false }, nil, "no router advertises itself on eth0")
    says("slaac", {}, nil, "fe80::2 advertises fd09::/64 (its flag A is off)", [["ipv6": "stateful"]])
    says("slaac", { far = "ip addr add fd0a::1/48 dev up0 nodad",
      server = { range = "--dhcp-range=fd0a::,ra-only,48 --enable-ra" } }, nil, "fd0a::/48 (only networks of 64 bits do)")
    says("slaac", { server = { by = "slaac" } }, "echo 0 >/proc/sys/net/ipv6/conf/default/accept_ra",
      "no address of fd09::/64, which fe80::2 advertises", "accept_ra is 0 in the sandbox")
    says("slaac", { server = { by = "slaac" } }, "echo 0 >/proc/sys/net/ipv6/conf/default/autoconf", "autoconf is 0")
    says("slaac", { server = { by = "slaac" } }, "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
      "the sandbox forwards, and accept_ra is 1, not 2")
    says("stateful", {}, "echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode",
      "eth0 has no link-local address of IPv6 to ask from: its addr_gen_mode is none")
  end)

  it("are none where the address is another's already", function()
    local w = dhcp6.new({ ipv6 = "slaac" }, { server = { by = "slaac" }, conf = { mac = "02:00:00:00:00:07" } })
    t.run("ip addr add fd09::ff:fe00:7/64 dev up0 nodad", { host = w.far })
    local before = on_master.glance(w)
    on_master.says(w:fails("ADD", nil, 11), "another machine has fd09::ff:fe00:7/64, which eth0 has given itself")
    on_master.unchanged(w, before)
  end)
end)

describe("DEL of a lease of IPv6", function()
  for what, prepare in pairs {
    ["whose file is lost"] = function() os.remove(dhcp6.path) end,
    ["without a record"] = function() t.run "rm -rf /run/luacni/attachments" end,
    ["of which nothing is left"] = function() t.run "rm -rf /run/luacni" end,
  } do
    it(what .. " gives it back all the same", function()
      for by, count in pairs { stateful = 1, slaac = 0 } do
        local w = dhcp6.new({ ipv6 = by }, { server = { by = by } })
        local before = on_master.glance(w)
        w:add()
        dhcp6.await_given(count)
        prepare()
        w:del()
        dhcp6.await_given(0)
        on_master.unchanged(w, before)
        w:del()
        dhcp.stop_all()
        t.cleanup()
      end
    end)
  end

  it("is not kept up by a server that is not there", function()
    for _, lost in ipairs { false, true } do
      local w = dhcp6.new()
      local before = on_master.glance(w)
      w:add()
      dhcp.silence(w)
      if lost then os.remove(dhcp6.path) end
      local began = sys.clock()
      w:del()
      assert.is_true(sys.clock() - began <= 2)
      on_master.unchanged(w, before)
      t.cleanup()
    end
  end)

  it("is fine where the link has no address to say it from, or the sandbox is gone, and says who keeps it", function()
    for _, prepare in ipairs { function(w) w:in_pod "ip -6 addr flush dev eth0 scope link" end,
      function(w) t.remove_netns(w.pods[1]) end } do
      local w = dhcp6.new()
      local address = w:add().ips[1].address
      prepare(w)
      w:let_go()
      local got = w:call("DEL", { pod = w.pods[1] and t.sh("test -e /run/netns/pod1 && echo x"):find "x" and 1 or false })
      assert.equal(0, got.rc, got.out)
      assert.truthy(got.err:find(("the DHCP server fe80::2 keeps %s"):format(address), 1, true), got.err)
      assert.is_nil(t.read(dhcp6.path))
      dhcp.stop_all()
      t.cleanup()
    end
  end)

  it("by the reference's macvlan, which has had it from here, gives it back", function()
    t.needs "reference"
    t.run("mkdir -p /run/spec/both; ln -sf " .. t.build .. "/luacni /run/spec/both/dhcp")
    local w = dhcp6.new({}, { bin = "reference", path = "/run/spec/both" })
    local result = w:add()
    assert.truthy(result.ips[1].address:find "^fd09::%x+/128$")
    w:check()
    w:del()
    dhcp6.await_given(0)
  end)
end)

describe("luacni dhcp and a lease of IPv6", function()
  local function luacni(w, ...) return t.sh({ t.build .. "/luacni", ... }, { host = w.host }) end

  local json = require "cni.json"
  local function renew(w, status)
    local out, code, err = luacni(w, "dhcp", "renew", "--json")
    assert.equal(status or 0, code, out .. err)
    return json.decode(out)
  end

  local function told_since(count) return table.concat(dhcp6.told(), " ", count + 1) end

  it("asks nobody before it is time; the server alone from T1 on; anybody from T2 on; and the kernel knows", function()
    local w = dhcp6.new({}, { server = { range = "--dhcp-range=fd09::10,fd09::20,64,2000 --enable-ra" } })
    w:add()
    local count = #dhcp6.told()
    local told = renew(w)
    t.same({}, told.leases)
    assert.is_true(told.next_in > 900 and told.next_in <= 1000, told.next_in)
    assert.equal(count, #dhcp6.told())
    w:in_pod("ip addr change " .. dhcp6.lease().address .. " dev eth0 valid_lft 900 preferred_lft 900 nodad")
    dhcp6.wait(1001)
    assert.equal("renewed", renew(w).leases[1].done)
    assert.equal("RENEW REPLY", told_since(count))
    local own = dhcp6.addrs(w.pods[1])[1]
    assert.is_true(own.valid_life_time > 1900 and own.preferred_life_time > 1900, t.json(own))
    dhcp6.wait(1760)
    assert.equal("renewed", renew(w).leases[1].done)
    assert.equal("RENEW REPLY REBIND REPLY", told_since(count))
    w:check()
    w:del()
    dhcp6.await_given(0)
  end)

  it("makes the attachment as the server says now", function()
    local w = dhcp6.new()
    w:add()
    dhcp.silence(w)
    dhcp6.serve(w, { keeps = true, options = "--dhcp-option=option6:dns-server,[fd09::3]" })
    dhcp6.wait(1801)
    assert.equal("changed", renew(w).leases[1].done)
    assert.equal("fd09::3", dhcp6.lease().dns.nameservers[#dhcp6.lease().dns.nameservers])
    t.same({}, renew(w).leases)
    w:del { prev = false }
    dhcp6.await_given(0)
  end)

  it("keeps the address of a server that has forgotten it, and gives it up for another where that has none", function()
    local w = dhcp6.new()
    local first = w:add().ips[1].address
    dhcp.silence(w)
    dhcp6.serve(w)
    dhcp6.wait(1801)
    assert.equal("renewed", renew(w).leases[1].done)
    t.same({ first:match "^[^/]+" }, dhcp6.given())
    dhcp.silence(w)
    dhcp6.serve(w, { range = "--dhcp-range=fd09::30,fd09::40,64,1h --enable-ra" })
    dhcp6.wait(1801)
    local leases = renew(w).leases
    t.same({ "given up", first }, { leases[1].done, leases[1].address })
    assert.equal("anew", leases[2].done)
    assert.truthy(leases[2].address:find "^fd09::[34]%x/128$", leases[2].address)
    t.same({ leases[2].address }, world.addrs(w.pods[1], "eth0"))
    assert.is_true(t.ping(w.pods[1], "fd09::1"))
    w:check()
    w:del { prev = false }
    dhcp6.await_given(0)
  end)

  it("says who does not answer, goes on until the time is up, and then the address goes at once", function()
    local w = dhcp6.new()
    local address = w:add().ips[1].address
    dhcp.silence(w)
    dhcp6.wait(1801)
    local told = renew(w, 1)
    assert.truthy(told.leases[1].problem:find("fe80::2", 1, true), told.leases[1].problem)
    -- After 10 seconds, then 20, and so on (RFC 8415, 7.6).
    assert.is_true(told.next_in > 5 and told.next_in <= 10, told.next_in)
    dhcp6.wait(11)
    told = renew(w, 1)
    assert.is_true(told.next_in > 15 and told.next_in <= 20, told.next_in)
    t.same({ address }, world.addrs(w.pods[1], "eth0"))
    w:check()
    dhcp6.wait(3600)
    renew(w, 1)
    t.same({}, world.addrs(w.pods[1], "eth0"))
    on_master.says(w:fails "CHECK", address)
    dhcp6.serve(w, { keeps = true })
    dhcp6.wait(21)
    assert.equal("anew", renew(w).leases[1].done)
    t.same({ address }, world.addrs(w.pods[1], "eth0"))
    assert.is_true(t.ping(w.pods[1], "fd09::1"))
    w:check()
    w:del()
    dhcp6.await_given(0)
  end)

  it("asks anew by and by for what a server has told who makes its own addresses", function()
    local w = dhcp6.new({ ipv6 = "stateless" }, { server = { by = "stateless", options = "--dhcp-option=option6:32,3600" } })
    local address = w:add().ips[1].address
    local left = dhcp6.lease().renew_at - sys.uptime()
    assert.is_true(left > 600 and left <= 86400, left)
    dhcp.silence(w)
    dhcp6.serve(w, { by = "stateless", options = "--dhcp-option=option6:dns-server,[fd09::3]" })
    dhcp6.wait(86401)
    assert.equal("changed", renew(w).leases[1].done)
    assert.equal("fd09::3", dhcp6.lease().dns.nameservers[#dhcp6.lease().dns.nameservers])
    assert.equal(address, dhcp6.lease().address)
    t.same({}, renew(w).leases)
    w:check()
    w:del { prev = false }
  end)

  it("renews both families of an attachment, each by itself, as a daemon too", function()
    local w = dhcp6.new({ ipv4 = true }, { server = { ipv4 = true } })
    w:add()
    dhcp6.wait(1801)
    t.same({ "fd09::" }, { renew(w).leases[1].address:match "^fd09::" })
    dhcp6.wait(1801)
    dhcp.start(t.build .. "/luacni dhcp daemon", w.host)
    for _ = 1, 100 do
      if dhcp6.lease().renew_at > sys.uptime() then break end
      t.sh "sleep 0.1"
    end
    assert.is_true(dhcp6.lease().renew_at > sys.uptime())
    w:check()
    w:del()
    dhcp.await_given(0)
    dhcp6.await_given(0)
  end)

  it("and a repair do what is lost: the server tells again what it has granted", function()
    local w = dhcp6.new()
    local address = w:add().ips[1].address
    os.remove(dhcp6.path)
    on_master.says(w:fails "CHECK", "not known any more")
    local out, status, err = luacni(w, "repair")
    assert.equal(0, status, out .. err)
    assert.equal(address, dhcp6.lease().address)
    w:check()
    renew(w)
    w:in_pod("ip addr del " .. address .. " dev eth0")
    on_master.says(w:fails "CHECK", address)
    out, status, err = luacni(w, "repair")
    assert.equal(0, status, out .. err)
    assert.is_true(dhcp6.addrs(w.pods[1])[1].valid_life_time <= 3600)
    w:check()
    w:del()
    dhcp6.await_given(0)
  end)

  it("that is killed at any change is finished by the next one", function()
    local w = dhcp6.new()
    local step, n, ended = t.stride(11), 0, nil
    repeat
      n = n + step
      w:add()
      dhcp6.wait(1801)
      dhcp.silence(w)
      dhcp6.serve(w, { range = "--dhcp-range=fd09::30,fd09::40,64,1h --enable-ra" })
      local _, status = t.sh({ t.helper "killat", "-o", "/run/spec/report", tostring(n), t.build .. "/luacni", "dhcp",
        "renew" }, { host = w.host })
      ended = status == 100
      local at = ("killed at %d: %s"):format(n, t.read "/run/spec/report")
      assert.is_true(ended or status == 101, at)
      if dhcp6.lease().tried_at then dhcp6.wait(61) end
      renew(w)
      local own = world.addrs(w.pods[1], "eth0")
      assert.truthy(#own == 1 and own[1]:find "^fd09::[34]%x/128$", at .. t.json(own))
      assert.is_true(t.ping(w.pods[1], "fd09::1"))
      w:del { prev = false }
      dhcp6.await_given(0)
      dhcp.silence(w)
      dhcp6.serve(w)
    until ended
    assert.is_true(n > 10, n)
  end)
end)
