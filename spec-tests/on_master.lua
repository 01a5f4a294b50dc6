-- SPDX-License-Identifier: MIT
-- What vlan, macvlan and ipvlan promise alike: an interface of the sandbox that stands on a link
-- of the host. `up0` of the host is a wire to the namespace `far`, which plays the neighbours.
-- A test makes one world and does several things in it: on a slow kernel a world costs a second.

local assert = require "luassert"
local neighbours = require "neighbours"
local system = require "system"
local t = require "support"
local world = require "world"

local M = {}

M.fixed = { type = "static", addresses = {
  { address = "10.1.0.2/24" }, { address = "fd01::2/64" } } }
M.v4 = { type = "host-local", subnet = "10.1.0.0/24" }
M.dual = { type = "host-local", ranges = {
  { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

local with = t.with

--- Links, addresses, routes, leases and records of a world, to be compared by `unchanged`.
function M.glance(w)
  local words = { t.helper("look") }
  for _, ns in ipairs({ w.host, w.far or nil, table.unpack(w.pods) }) do
    words[#words + 1] = ns.path
  end
  local set = {}
  for line in t.run(words):gmatch("[^\n]+") do
    local file = line:match("^file /run/luacni/(.-) %x*$") or line:match("^file /var/lib/cni/networks/(.-) %x*$")
    if file and neighbours.owns(file) then goto next end
    while set[line] do line = line .. " (again)" end
    set[line] = true
    ::next::
  end
  return set
end

--- Raise unless everything is as it was at a `glance`.
function M.unchanged(w, before, what)
  t.same(before, M.glance(w), what)
end

--- Raise unless an error's text has all of these words.
function M.says(err, ...)
  for _, word in ipairs({ ... }) do
    if not err.text:find(word, 1, true) then
      error(("%q is not in: %s"):format(word, err.text), 2)
    end
  end
end

--- ADDs have to fail, and change nothing. Each: { call or {}, code or false, word... }, the words
-- being in the error's text.
function M.refused(w, ...)
  local before = M.glance(w)
  for _, case in ipairs({ ... }) do
    M.says(w:fails("ADD", case[1], case[2] or nil), table.unpack(case, 3))
  end
  M.unchanged(w, before)
end

--- Whether a link of a pod stands on a link of the host.
function M.stands_on(w, name, pod)
  return t.link(w.pods[pod or 1], "eth0").link_index == t.link(w.host, name).ifindex
end

--- A link's global addresses as { ["10.1.0.2"] = { flags as ip shows them } }.
function M.addr_flags(ns)
  local found = {}
  for _, a in ipairs(t.ip(ns, "addr show dev eth0")[1].addr_info) do
    if a.scope == "global" then found[a["local"]] = a end
  end
  return found
end

--- Packets that a link has received.
function M.received(ns, name)
  return t.ip(ns, "-s link show dev " .. name)[1].stats64.rx.packets
end

-- What the kernel tells of links while a plugin runs: in which namespace, under which name. Links
-- named as marks say when a watcher has begun to listen, and when it has heard all.
local watching = [[
  mark() {
    until grep -q " $2[:@]" /run/spec/$1.events; do
      ip -n $1 link add $2 type bridge && ip -n $1 link del $2
    done
  }
  for n in host pod1; do
    ip -n $n -o monitor link >/run/spec/$n.events & pids="$pids $!"
    mark $n begin
  done
  %s </run/spec/watched.conf >/run/spec/watched.out; status=$?
  for n in host pod1; do
    mark $n end
    sed -n 's/^Deleted //; s/^[0-9]*: *\([^:@]*\).*/\1/p' /run/spec/$n.events |
      grep -vxe begin -e end | sort -u | sed "s/^/$n /"
  done
  kill $pids; wait $pids 2>/dev/null
  exit $status]]

local function names_seen(w, conf)
  t.write("/run/spec/watched.conf", t.conf_bytes(w:config(conf)))
  local out, status = t.sh(watching:format(t.cni_words { verb = "ADD", type = w.conf.type,
    host = w.host, netns = w.pods[1] }))
  return out, status
end
M.names_seen = names_seen

--- Describe what all such plugins promise. `spec`: the spec file's `describe` and `it`. p:
--   needs   a kernel feature, or nil
--   conf    the least configuration, without ipam
--   second  changes to it for a second attachment beside the first
--   far     shell that makes `wire`, in the host's neighbour
--   wire    the link there that meets the plugin's
--   other   { shell that makes eth0 another one of its kind, what CHECK says of it }
--   like    shell that makes eth0 in pod1 as the plugin would, but on up1, with MAC @MAC@
--   shared_mac  true: the MAC is the master's
--   finds   true: without `master` the default route's is taken
--   optional_ipam  true: without ipam it is a layer 2 network
function M.promises(spec, p)
  local describe, it = spec.describe, spec.it
  local conf = with({ master = "up0", ipam = M.dual }, p.conf)
  local kind = conf.type

  local function test(name, body)
    it(name, function()
      if p.needs then t.needs(p.needs) end
      body()
    end)
  end

  local function new(more, opts)
    local c = with(conf, more)
    c.enabledad = more and more.enabledad or false
    return world.new(c, with({ far = true }, opts))
  end
  M.new = new

  describe(kind .. " ADD", function()
    test("makes one link, born in the sandbox under its name, nothing in the host", function()
      local w = new()
      local before = t.ip(w.host, "link show")
      local names, status = names_seen(w)
      assert.equal(0, status, t.read("/run/spec/watched.out"))
      -- Links that are there already get their carrier meanwhile.
      for _, link in ipairs(before) do names = names:gsub("host " .. link.ifname .. "\n", "") end
      if t.has("clash") then names = names:gsub("pod1 tmp%x+\n", "") end
      assert.equal("pod1 eth0\n", names)
      assert.equal(#before, #t.ip(w.host, "link show"))
      -- lo, and the interface that was there before.
      assert.equal(3, #t.ip(w.pods[1], "link show"))
      assert.truthy(t.link(w.pods[1], "eth0"))
      w:del()
    end)

    test("makes it under no other name first where the host has no link of that one", function()
      -- A node's uplink is called so.
      local w = world.new(with(conf, { enabledad = false }), { far = true, lived_in = false })
      local before = t.ip(w.host, "link show")
      local names, status = names_seen(w)
      assert.equal(0, status, t.read("/run/spec/watched.out"))
      for _, link in ipairs(before) do names = names:gsub("host " .. link.ifname .. "\n", "") end
      assert.equal("pod1 eth0\n", names)
    end)

    test("reports the link as the kernel has it, up, with every address of the lease", function()
      local w = new()
      local result = w:add()
      local eth = t.link(w.pods[1], "eth0")
      t.same({
        cniVersion = "1.1.0",
        interfaces = { { name = "eth0", mac = eth.address, sandbox = "/run/netns/pod1" } },
        ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 },
          { address = "fd01::2/64", gateway = "fd01::1", interface = 0 } },
      }, result)
      t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
      assert.equal(kind, eth.linkinfo.info_kind)
      assert.is_true(t.has_flag(eth, "UP"))
      assert.equal(1500, eth.mtu)
      assert.is_true(M.stands_on(w, "up0"))
      local same = eth.address == t.link(w.host, "up0").address
      assert.equal(p.shared_mac or kind == "vlan", same)
      w:check()
    end)

    test("reaches the neighbours on the wire by ping and TCP, and not before", function()
      local w = new()
      t.run(p.far, { host = w.far })
      assert.is_false(t.ping(w.pods[1], "10.1.0.250"))
      w:add()
      assert.is_true(t.ping(w.pods[1], "10.1.0.250"))
      assert.is_true(t.ping(w.pods[1], "fd01::fa"))
      assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.far, "10.1.0.250"))
      w:del()
      assert.is_false(t.ping(w.far, "10.1.0.2"))
    end)

    test("takes the mtu given, up to the master's, and no other", function()
      local w = new({ mtu = 1400 })
      M.refused(w, { { conf = { mtu = 1501 } }, 7, "mtu", "1501", "1500", "up0" })
      w:add()
      assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
      w:del()
      w:add({ conf = { mtu = 1500 } })
      assert.equal(1500, t.link(w.pods[1], "eth0").mtu)
    end)

    local one, two, three = "0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"
    test(p.shared_mac and "has the MAC of the master, whatever is asked for"
        or "takes a MAC from runtimeConfig, else args, else CNI_ARGS", function()
      local w = new()
      for _, call in ipairs({
        { one, args = "MAC=" .. one },
        { two, args = "MAC=" .. one, conf = { args = { cni = { mac = "0A-00-00-00-00-02" } } } },
        { three, args = "MAC=" .. one, conf = { args = { cni = { mac = two } },
          runtimeConfig = { mac = three }, capabilities = { mac = true } } },
      }) do
        local mac = p.shared_mac and t.link(w.host, "up0").address or call[1]
        assert.equal(mac, w:add(call).interfaces[1].mac)
        assert.equal(mac, t.link(w.pods[1], "eth0").address)
        if call[1] == three then w:check(call) end
        w:del(call)
      end
      M.refused(w, { { conf = { runtimeConfig = { mac = "zz:00" } } }, 7, "mac", "zz:00" },
        not p.shared_mac and { { args = "MAC=01:00:5e:00:00:01" }, 7, "MAC",
          "01:00:5e:00:00:01" } or nil)
    end)

    test("that cannot be says why, and changes nothing", function()
      local w = new()
      M.refused(w,
        { { conf = { master = "nowhere" } }, 7, "master", "nowhere", "host", "linkInContainer" },
        { { conf = { master = "nowhere", linkInContainer = true } }, 7, "master", "nowhere",
          "sandbox" },
        { { conf = { master = "../up0" } }, 7, "master" },
        { { conf = { ipam = with(M.dual, {
          routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } }, nil, "10.9.0.0/16",
          "172.16.0.1" },
        { { conf = { ipam = { type = "nowhere" } } }, nil, "nowhere" },
        { { pod = "/run/netns/none" }, nil, "/run/netns/none" })
      w:in_pod("ip link add eth0 type veth peer name other")
      M.refused(w, { {}, nil, "eth0", "exists already in the sandbox" })
      w:in_pod("ip link del eth0")
      w:add()
    end)

    test("twice is an error that leaves the first as it is", function()
      local w = new()
      w:add()
      M.refused(w, { {}, nil, "eth0", "c1", "already" })
      w:check()
    end)

    test("takes the configuration's dns, else the IPAM plugin's", function()
      local w = new({ ipam = { type = "static", addresses = { { address = "10.1.0.9/24" } },
        dns = { nameservers = { "192.0.2.53" } } } })
      t.same({ nameservers = { "192.0.2.53" } }, w:add().dns)
      w:del()
      local own = { domain = "example.org", search = { "a.example.org" } }
      t.same(own, w:add({ conf = { dns = own } }).dns)
    end)

    test("answers in every version of the protocol that has interfaces", function()
      local w = new()
      for _, version in ipairs({ "0.3.1", "0.4.0", "1.0.0", "1.1.0" }) do
        local c = { conf = { cniVersion = version } }
        local result = w:add(c)
        assert.equal(version, result.cniVersion)
        assert.equal("eth0", result.interfaces[1].name)
        assert.equal(version:find("^0") and "4" or nil, result.ips[1].version)
        if version ~= "0.3.1" then w:check(c) end
        w:del(c)
        assert.is_nil(t.link(w.pods[1], "eth0"))
      end
    end)
  end)

  describe(kind .. " on a master in the sandbox", function()
    test("works, checks, rolls back and goes like one on a master in the host", function()
      local w = new({ master = "m0", linkInContainer = true })
      w:sh("ip link add m0 netns pod1 type veth peer name m1 netns far; " ..
        "ip -n pod1 link set m0 addrgenmode none up; ip -n far link set m1 addrgenmode none up")
      local before = M.glance(w)
      M.refused(w, { { conf = { mtu = 1501 } }, 7, "1501", "1500", "m0" },
        { { conf = { ipam = with(M.v4, {
          routes = { { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) } }, nil, "172.16.0.1" })
      local result = w:add()
      assert.equal(1, #result.interfaces)
      local eth = t.link(w.pods[1], "eth0")
      assert.equal("m0", eth.link)
      assert.equal(kind, eth.linkinfo.info_kind)
      assert.equal(eth.address, result.interfaces[1].mac)
      w:check()
      w:del()
      M.unchanged(w, before)
      w:add()
      t.run("rm -rf /run/luacni")
      w:del()
      M.unchanged(w, before, "without a record")
      -- The same name in the host is not meant.
      w:sh("ip link add m0 type veth peer name m9")
      w:add()
      assert.equal("m0", t.link(w.pods[1], "eth0").link)
      w:del()
    end)
  end)

  if p.finds then
    describe(kind .. " without a master", function()
      test("stands on the link of the default route, IPv4's before IPv6's", function()
        local w = new({ master = false })
        w:add()
        assert.is_true(M.stands_on(w, "eth0"))
        w:del()
        w:sh("ip route del default; ip -6 route del default")
        w:so_be_it()
        M.refused(w, { {}, 7, "master", "default route", "host" },
          { { conf = { linkInContainer = true } }, 7, "default route", "sandbox" })
        w:sh("ip link add up6 type veth peer name up7; ip link set up7 addrgenmode none up; " ..
          "ip link set up6 addrgenmode none up; ip -6 route add default dev up6; " ..
          "ip route add 10.77.0.0/16 via 192.0.2.2")
        w:add()
        assert.is_true(M.stands_on(w, "up6"))
        w:check()
        w:del()
        w:sh("ip route add default via 192.0.2.2")
        w:add()
        assert.is_true(M.stands_on(w, "up0"))
        w:check()
        -- It is not looked for again to take it down.
        w:sh("ip route del default; ip -6 route del default")
        w:del()
        assert.is_nil(t.link(w.pods[1], "eth0"))
        w:sh("ip route add default via 192.0.2.2")
        w:add()
        w:sh("ip route del default")
        t.run("rm -rf /run/luacni")
        w:del()
        assert.is_nil(t.link(w.pods[1], "eth0"))
      end)
    end)
  end

  describe(kind .. " DEL", function()
    test("takes everything back, once and twice, whatever became of it", function()
      local w = new()
      local before = M.glance(w)
      for _, case in ipairs({
        { "as it is", twice = true },
        { "without prevResult and CNI_NETNS", call = { prev = false, pod = false }, twice = true },
        { "the link is gone", sh = "ip -n pod1 link del eth0" },
        { "the link was renamed and is down",
          sh = "ip -n pod1 link set eth0 down; ip -n pod1 link set eth0 name eth7",
          debris = "ip -n pod1 link del eth7" },
        { "the record is gone", sh = "rm -rf /run/luacni", twice = true },
        { "the record and prevResult are gone", sh = "rm -rf /run/luacni",
          call = { prev = false } },
        { "the record is gone, the master's mtu is less than the configuration's",
          sh = "rm -rf /run/luacni; ip -n host link set up0 mtu 1300",
          debris = "ip -n host link set up0 mtu 1500", call = { conf = { mtu = 1400 } } },
        { "the configuration has gone bad", call = { conf = { master = "nowhere", mtu = 9999 } } },
      }) do
        w:add()
        if case.sh then w:sh(case.sh) end
        w:del(case.call)
        if case.twice then w:del(case.call) end
        if case.debris then w:sh(case.debris) end
        M.unchanged(w, before, case[1])
      end
    end)

    test("works without the master and without its namespace", function()
      local w = new({}, { pods = 2 })
      local function base()
        w:sh("ip link show up1 2>&- >&- || { ip link add up1 type veth peer name up2; " ..
          "ip link set up2 up; ip link set up1 up; }")
        return { conf = { master = "up1" } }
      end
      for _, lost in ipairs({ "", "; rm -rf /run/luacni" }) do
        local c = base()
        w:add(c)
        w:sh("ip link del up1" .. lost)
        assert.is_nil(t.link(w.pods[1], "eth0"))
        w:del(c)
        assert.is_nil(world.lease("10.1.0.2"))
      end
      -- A master that has another name by now still carries the link.
      local c = base()
      w:add(c)
      w:sh("ip link set up1 down; ip link set up1 name up8; rm -rf /run/luacni")
      w:del(c)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      assert.is_nil(world.lease("10.1.0.2"))
      w:sh("ip link del up8")
      for _, lost in ipairs({ "", "rm -rf /run/luacni" }) do
        w:add({ pod = 2, id = "c2" })
        t.remove_netns(w.pods[2])
        if lost ~= "" then t.run(lost) end
        w:del({ pod = "/run/netns/pod2", id = "c2" })
        w:del({ pod = false, id = "c2" })
        assert.is_nil(world.lease("10.1.0.2"))
        t.netns("pod2")
      end
    end)

    test("takes down what the reference made, and the reference what we made", function()
      t.needs("reference")
      local w = new({ cniVersion = "1.0.0", ipam = M.v4 })
      local before = M.glance(w)
      w:add({ bin = "reference" })
      assert.truthy(t.link(w.pods[1], "eth0"))
      w:check()
      w:del()
      M.unchanged(w, before, "ours after the reference")
      w:add()
      w:check({ bin = "reference" })
      w:del({ bin = "reference" })
      assert.is_nil(t.link(w.pods[1], "eth0"))
      w:del()
      M.unchanged(w, before, "the reference after ours")
    end)

    test("of one attachment leaves the other; so does GC", function()
      local w = new({}, { pods = 2 })
      local before = M.glance(w)
      local other = { id = "c2", pod = 2, conf = p.second }
      w:add()
      w:add(other)
      w:del()
      assert.is_nil(t.link(w.pods[1], "eth0"))
      w:check(other)
      w:add()
      w:gc({ { "c2" } })
      assert.is_nil(t.link(w.pods[1], "eth0"))
      w:check(other)
      w:gc({})
      M.unchanged(w, before)
    end)
  end)

  describe(kind .. " CHECK", function()
    test("names what differs, each thing that does", function()
      local w = new({ ipam = with(M.dual, { routes = { { dst = "10.9.0.0/16" } } }) })
      w:sh("ip link add up1 type veth peer name up2; ip link set up2 up; ip link set up1 up")
      w:add()
      w:check()
      local text, mac = "", t.link(w.pods[1], "eth0").address
      for _, break_ in ipairs({
        { "ip link set eth0 mtu 1300", nil },
        { "ip route flush 10.9.0.0/16", "10%.9%.0%.0/16" },
        { "ip addr del 10.1.0.2/24 dev eth0", "10%.1%.0%.2/24" },
        { "ip link set eth0 down", "eth0[^;\n]* down" },
        p.other,
        { "ip link del eth0; " .. p.like, "does not stand on up0" },
        { "ip link del eth0; ip link add eth0 type veth peer name e1", "kind is veth" },
        { "ip link del eth0", "eth0 is not in the sandbox" },
      }) do
        w:in_pod((break_[1]:gsub("@MAC@", mac)))
        if break_[2] then
          assert.is_nil(text:find(break_[2]), break_[1])
          text = w:fails("CHECK").text
          assert.truthy(text:find(break_[2]), break_[2] .. " is not in " .. text)
        end
      end
      w:del()
      w:add()
      w:check()
      assert.truthy(w:fails("CHECK", { conf = { master = "up1" } }).text:find("up1", 1, true))
    end)
  end)

  describe(kind .. " and IPv6", function()
    local mac = "02:00:00:00:00:99"

    test("refuses an address that a neighbour has, unless enabledad is false", function()
      local w = new({ ipam = M.fixed })
      t.run(p.far .. ("; ip -6 addr add fd01::2/64 dev %s nodad"):format(p.wire), { host = w.far })
      M.refused(w, { { conf = { enabledad = true } }, nil, "duplicate" })
      w:add()
      local got = M.addr_flags(w.pods[1])["fd01::2"]
      assert.is_nil(got.tentative)
      assert.is_nil(got.dadfailed)
      w:del()
      t.run(("ip -6 addr del fd01::2/64 dev %s"):format(p.wire), { host = w.far })
      w:add({ conf = { enabledad = true } })
    end)

    test("answers when detection has accepted the address, if there is a carrier", function()
      local w = new({ enabledad = true, ipam = M.fixed })
      w:add()
      local got = M.addr_flags(w.pods[1])["fd01::2"]
      assert.is_nil(got.tentative)
      assert.is_nil(got.nodad)
      w:check()
      w:del()
      t.run("ip link set up0 down", { host = w.far })
      local began = system.monotime()
      w:add()
      assert.is_true(system.monotime() - began < 4)
      assert.is_true(M.addr_flags(w.pods[1])["fd01::2"].tentative)
      w:check()
    end)

    test("tells the neighbours of the addresses, and of no other", function()
      for _, dad in ipairs({ true, false }) do
        local w = new({ enabledad = dad })
        t.run(p.far .. ("; for a in 10.1.0.2 10.1.0.3 fd01::2 fd01::3; do " ..
          "ip neigh replace $a lladdr %s dev %s nud reachable; done"):format(mac, p.wire),
          { host = w.far })
        local eth = w:add().interfaces[1].mac
        local has = t.run(("for i in $(seq 100); do [ $(ip neigh show dev %s | " ..
          "grep -c %s) -ge 2 ] && break; sleep 0.02; done; ip neigh show dev %s"):format(p.wire,
            eth, p.wire), { host = w.far })
        local macs = {}
        for line in has:gmatch("[^\n]+") do
          macs[line:match("^%S+")] = line:match("lladdr (%S+)")
        end
        assert.equal(eth, macs["10.1.0.2"])
        assert.equal(eth, macs["fd01::2"])
        assert.equal(mac, macs["10.1.0.3"])
        assert.equal(mac, macs["fd01::3"])
        t.cleanup()
      end
    end)
  end)

  describe(kind .. " STATUS and dry run", function()
    test("tell what an ADD would do, and change nothing", function()
      local w = new({ ipam = with(M.v4, { rangeStart = "10.1.0.5", rangeEnd = "10.1.0.5" }) })
      local before = M.glance(w)
      w:ok("STATUS")
      local out = t.run({ t.bin.ours .. "/luacni", "run", "--dry-run", "-", "--", "true" },
        { host = w.host, stdin = t.json(w:config()) })
      assert.truthy(out:find("create " .. kind .. " link eth0 on up0 in the sandbox", 1, true), out)
      assert.truthy(out:find("10.1.0.5", 1, true), out)
      M.unchanged(w, before)
      w:add()
      w:fails("STATUS", nil, 50)
    end)
  end)
end

return M
