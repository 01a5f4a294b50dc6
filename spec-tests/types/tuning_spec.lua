-- SPDX-License-Identifier: MIT
-- What plugin `tuning` promises: behind the plugin that makes the interface it changes settings of that and of
-- the sandbox, before the first packet; DEL puts everything back, sysctls too; what a node's list does not
-- allow is not set.

local t = require "support"
local world = require "world"

local allow = "/etc/cni/tuning/allowlist.conf"

local with = t.merge

local function new(conf, opts)
  return world.new(with({ type = "ptp", ipam = { type = "host-local", subnet = "10.5.3.0/24" } }, conf), opts)
end

-- The call of tuning behind the one of `c`.
local function tuning(w, conf, c)
  local key = (c and c.id or "c1") .. " " .. (c and c.ifname or "eth0")
  local call = with({ type = "tuning", prev = w.results[key] }, c)
  call.conf = with({ type = "tuning", ipam = false }, conf)
  return call
end

local function sysctl(w, path, pod) return t.sysctl(w.pods[pod or 1], path) end

-- The picture once the kernel has given both ends their own addresses, a moment after the carrier.
local function settled(w)
  w:in_pod("for i in $(seq 50); do ip -6 addr show dev eth0 scope link -tentative | " ..
    "grep -q fe80 && break; sleep 0.1; done")
  return w:picture()
end

local function link(w) return t.link(w.pods[1], "eth0") end

-- How many router solicitations come to a namespace by links of such names from now on, those of the host but for:
-- the links need not be there yet.
local function count_solicitations(ns, links)
  t.needs("nft-nat")
  t.run(([[nft 'table inet spec { chain pre { type filter hook prerouting priority 0;
    iifname "%s" ip6 saddr != fe80::1 icmpv6 type nd-router-solicit counter; }; }']]):format(links), { host = ns })
  return function()
    return tonumber(t.run("nft list chain inet spec pre", { host = ns }):match "packets (%d+)")
  end
end

after_each(function()
  os.remove(allow)
  t.cleanup()
end)

describe("tuning behind ptp", function()
  it("sets a link, says its MAC in the result, and DEL puts back what was there", function()
    local w = new()
    w:add()
    local before = settled(w)
    local wanted = { mac = "0A:00:00:00:00:07", mtu = 1400, promisc = true, allmulti = true, txQLen = 55 }
    local result = w:add(tuning(w, wanted))
    local eth = link(w)
    t.same({ "0a:00:00:00:00:07", 1400, 55 }, { eth.address, eth.mtu, eth.txqlen })
    assert.is_true(t.has_flag(eth, "PROMISC") and t.has_flag(eth, "ALLMULTI"))
    local macs = {}
    for _, entry in ipairs(result.interfaces) do
      macs[entry.sandbox and "sandbox" or "host"] = entry.mac
    end
    assert.equal("0a:00:00:00:00:07", macs.sandbox)
    assert.not_equal("0a:00:00:00:00:07", macs.host)
    assert.is_true(t.ping(w.pods[1], "10.5.3.1"))
    w:check(tuning(w, wanted))
    w:del(tuning(w, wanted))
    w:del(tuning(w, wanted))
    t.same(before, settled(w))
    assert.is_true(t.ping(w.pods[1], "10.5.3.1"))
  end)

  it("leaves alone what it is not told to set", function()
    local w = new()
    w:add()
    local before = settled(w)
    local result = w:add(tuning(w, { mtu = 0, promisc = false }))
    t.same(w.results["c1 eth0"], result)
    local after = settled(w)
    after.records, before.records = nil, nil
    t.same(before, after)
    w:del(tuning(w))
  end)

  it("sets sysctls of the sandbox alone, and DEL gives the old values back", function()
    local w = new(nil, { pods = 2 })
    w:add()
    w:add { id = "c2", pod = 2 }
    local list = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1", ["net.ipv4.ip_local_port_range"] = "4000 5000",
      ["net/ipv4/conf/all/log_martians"] = "1" }
    local paths = { "net/ipv4/conf/eth0/arp_filter", "net/ipv4/ip_local_port_range",
      "net/ipv4/conf/all/log_martians" }
    local function values(pod)
      local found = {}
      for i, path in ipairs(paths) do found[i] = sysctl(w, path, pod) end
      return found
    end
    local first, second = values(1), values(2)
    local port_range = t.sysctl(w.host, "net/ipv4/ip_local_port_range")
    w:add(tuning(w, { sysctl = list }))
    t.same({ "1", "4000\t5000", "1" }, values(1))
    t.same(second, values(2))
    assert.equal(port_range, t.sysctl(w.host, "net/ipv4/ip_local_port_range"))
    w:check(tuning(w, { sysctl = list }))
    w:in_pod "echo 1024 9999 >/proc/sys/net/ipv4/ip_local_port_range"
    local err = w:fails("CHECK", tuning(w, { sysctl = list }))
    assert.equal("sysctl net/ipv4/ip_local_port_range is 1024\t9999, not 4000 5000", err.msg)
    w:in_pod "echo 4000 5000 >/proc/sys/net/ipv4/ip_local_port_range"
    w:del(tuning(w, { sysctl = list }))
    t.same(first, values(1))
  end)

  it("finds the sysctls of an interface whose name has a dot, behind ptp and macvlan; DEL gives back what it had", function()
    for _, conf in ipairs { { type = "ptp" }, { type = "macvlan", master = "up0" } } do
      if conf.type == "ptp" or t.has "macvlan" then
        local w = new(conf, { far = true })
        local c, conf_of = { ifname = "eth0.100" }, { sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } }
        w:add(c)
        w:in_pod "echo 2 >/proc/sys/net/ipv4/conf/eth0.100/arp_filter"
        w:add(tuning(w, conf_of, c))
        assert.equal("1", sysctl(w, "net/ipv4/conf/eth0.100/arp_filter"))
        -- No other way to write it reaches another interface, or leaves net.
        local err = w:fails("ADD", tuning(w, conf_of, { ifname = "eth0/100", prev = w.results["c1 eth0.100"] }), 4)
        assert.truthy(err.msg:find("CNI_IFNAME", 1, true), err.msg)
        err = w:fails("ADD", tuning(w, { sysctl = { ["net.ipv4.conf.IFNAME/../../../../kernel.domainname"] = "x" } }, c), 7)
        assert.truthy(err.msg:find("is no name of a sysctl", 1, true), err.msg)
        w:del(tuning(w, conf_of, c))
        assert.equal("2", sysctl(w, "net/ipv4/conf/eth0.100/arp_filter"))
        t.cleanup()
      end
    end
  end)

  it("of all links first, so that the one of the interface stands", function()
    local w = new()
    w:add()
    w:add(tuning(w, { sysctl = { ["net.ipv6.conf.IFNAME.disable_ipv6"] = "0",
      ["net.ipv6.conf.all.disable_ipv6"] = "1" } }))
    t.same({ "1", "0" }, { sysctl(w, "net/ipv6/conf/lo/disable_ipv6"), sysctl(w, "net/ipv6/conf/eth0/disable_ipv6") })
    w:del(tuning(w, { sysctl = { ["net.ipv6.conf.IFNAME.disable_ipv6"] = "0",
      ["net.ipv6.conf.all.disable_ipv6"] = "1" } }))
  end)

  it("twice in a chain: each DEL puts back what its ADD found", function()
    local w = new()
    w:add()
    local before = settled(w)
    local one, two = { mtu = 1400, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } },
      { mtu = 1300, txQLen = 5, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "0" } }
    w:add(tuning(w, one))
    w:add(tuning(w, two))
    -- Each CHECK is content with what the later one has set, and with nothing else.
    w:check(tuning(w, one))
    w:check(tuning(w, two))
    w:in_pod "ip link set eth0 mtu 1350"
    assert.matches("mtu is 1350, not 1400", w:fails("CHECK", tuning(w, one)).msg)
    w:in_pod "ip link set eth0 mtu 1300"
    t.same({ 1300, 5, "0" }, { link(w).mtu, link(w).txqlen, sysctl(w, "net/ipv4/conf/eth0/arp_filter") })
    w:del(tuning(w, two))
    t.same({ 1400, 1000, "1" }, { link(w).mtu, link(w).txqlen, sysctl(w, "net/ipv4/conf/eth0/arp_filter") })
    w:check(tuning(w, one))
    w:del(tuning(w, one))
    t.same(before, settled(w))
    -- A DEL of both that comes in another order, and one without records, end at the same.
    w:add(tuning(w, one))
    w:add(tuning(w, two))
    w:del(tuning(w, one))
    t.same({ 1300, 5, "0" }, { link(w).mtu, link(w).txqlen, sysctl(w, "net/ipv4/conf/eth0/arp_filter") })
    w:check(tuning(w, two))
    w:del(tuning(w, two))
    t.same(before, settled(w))
    -- What the link had is in the one file of both, which keeps what the first has found. (Of sysctls it tells
    -- nothing.)
    one.sysctl, two.sysctl = nil, nil
    w:add(tuning(w, one))
    w:add(tuning(w, two))
    w:lose_records()
    w:del(tuning(w, two))
    w:del(tuning(w, one))
    t.same({ 1500, 1000 }, { link(w).mtu, link(w).txqlen })
  end)

  it("twice in a chain: when the second ADD fails, what the first has set stays", function()
    local w = new()
    w:add()
    w:add(tuning(w, { mtu = 1400, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } }))
    local before = settled(w)
    w:fails("ADD", tuning(w, { mtu = 1300, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "0",
      ["net.ipv4.conf.IFNAME.rp_filter"] = "many" } }))
    t.same(before.kernel, settled(w).kernel)
    w:check(tuning(w, { mtu = 1400, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } }))
  end)

  it("called twice with the same bytes is one attachment, and one DEL takes it back", function()
    local w = new()
    w:add()
    local before = settled(w)
    local call = tuning(w, { mtu = 1400 })
    w:call("ADD", call)
    w:call("ADD", call)
    assert.equal(1400, link(w).mtu)
    w:ok("DEL", call)
    t.same(before, settled(w))
  end)

  it("or any other that makes no interface: a repeated ADD of one that does is refused, and what lives stays", function()
    local so_far = { cniVersion = "1.1.0", interfaces = { { name = "lo", mac = "00:00:00:00:00:00",
      sandbox = "/run/netns/pod1" } }, ips = { { address = "127.0.0.1/8", interface = 0 } } }
    for _, conf in ipairs { { type = "ptp" }, { type = "bridge", bridge = "br0", isGateway = true } } do
      local w = new(conf, { neighbours = false })
      local call = { prev = so_far }
      w:add(call)
      local before = w:picture()
      w:fails("ADD", call)
      local after = w:picture()
      t.same({ before.kernel, before.leases }, { after.kernel, after.leases })
      assert.is_true(t.ping(w.pods[1], "10.5.3.1"))
      w:ok("DEL", call)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      t.cleanup()
    end
  end)

  it("takes back what it has done when the kernel refuses a value", function()
    local w = new()
    w:add()
    local before = settled(w)
    local err = w:fails("ADD", tuning(w, { mtu = 1400, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1",
      ["net.ipv4.conf.IFNAME.rp_filter"] = "many" } }))
    assert.truthy(err.msg:find("net/ipv4/conf/eth0/rp_filter", 1, true), err.msg)
    t.same(before, settled(w))
    err = w:fails("ADD", tuning(w, { mtu = 1400, sysctl = { ["net.ipv4.ip_no_such_thing"] = "1" } }))
    assert.truthy(err.details:find("this kernel knows no such setting", 1, true), err.details)
    t.same(before, settled(w))
  end)

  it("takes sysctls back when the kernel refuses what the link is to have", function()
    t.needs "macvlan"
    local w = new({ type = "macvlan", master = "up0" }, { far = true })
    w:add()
    w:in_pod "echo 2 >/proc/sys/net/ipv4/conf/eth0/arp_filter"
    local before = settled(w)
    -- More than the link below it takes.
    local wanted = { mtu = 1501, promisc = true, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } }
    local err = w:fails("ADD", tuning(w, wanted))
    assert.truthy(err.msg:find("mtu 1501", 1, true), err.msg)
    t.same(before, settled(w))
    assert.equal("2", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
    wanted.mtu = 1500
    w:add(tuning(w, wanted))
    assert.equal("1", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
  end)
end)

-- Where duplicates are detected the kernel asks for routers a second after the link came up, or later.
describe("Who listens at the other end from the start", function()
  local function solicited(conf, at, links)
    -- Neighbours ask for routers too.
    local w = world.new(conf, { far = true, lived_in = false, neighbours = false })
    local quiet = { sysctl = { ["net.ipv6.conf.IFNAME.accept_ra"] = "0" } }
    local asked = count_solicitations(w[at], links)
    w:add()
    w:add(tuning(w, quiet))
    t.run "sleep 4"
    assert.equal(0, asked())
    w:del(tuning(w, quiet))
    w:del()
    assert.equal(0, asked())
    -- The negative twin: without it there is one.
    w:add()
    w:add(tuning(w, { mtu = 1400 }))
    for _ = 1, 60 do
      if asked() > 0 then break end
      t.run "sleep 0.1"
    end
    assert.is_true(asked() > 0)
  end
  local v4 = { type = "host-local", subnet = "10.5.3.0/24" }

  it("sees no router asked when tuning behind macvlan sets accept_ra to 0", function()
    t.needs "macvlan"
    solicited({ type = "macvlan", master = "up0", ipam = v4 }, "far", "up0")
  end)

  for _, detects in ipairs { true, false } do
    it("sees none behind a bridge " .. (detects and "with enabledad" or "without enabledad"), function()
      solicited({ type = "bridge", bridge = "br0", enabledad = detects, ipam = v4 }, "host", "br0")
    end)
  end

  it("sees none behind ptp", function()
    solicited({ type = "ptp", ipam = v4 }, "host", "veth*")
  end)
end)

describe("Where settings are said in several places, tuning", function()
  it("takes args before the capability, that before CNI_ARGS, and that before the configuration", function()
    local w = new()
    w:add()
    local conf = { mac = "0a:00:00:00:00:01" }
    local function mac(more, c)
      local call = tuning(w, with(conf, more), c)
      w:call("ADD", call)
      local found = link(w).address
      w:ok("DEL", call)
      return found
    end
    assert.equal("0a:00:00:00:00:01", mac())
    assert.equal("0a:00:00:00:00:02", mac({}, { args = "MAC=0a:00:00:00:00:02" }))
    assert.equal("0a:00:00:00:00:03", mac({ runtimeConfig = { mac = "0a:00:00:00:00:03" } },
      { args = "MAC=0a:00:00:00:00:02" }))
    assert.equal("0a:00:00:00:00:04", mac({ runtimeConfig = { mac = "0a:00:00:00:00:03" },
      args = { cni = { mac = "0a:00:00:00:00:04" } } }))
  end)
end)

describe("A sysctl is not set by tuning", function()
  local function refused(conf, code, msg, list)
    local w = new()
    w:add()
    local before = settled(w)
    if list then
      t.run "mkdir -p /etc/cni/tuning"
      t.write(allow, list)
    end
    local err = w:fails("ADD", tuning(w, { mtu = 1400, sysctl = conf }), code)
    assert.equal(msg, err.msg)
    t.same(before, settled(w))
    return err
  end
  local filter = "net.ipv4.conf.IFNAME.arp_filter"

  it("that is not below net, by whatever spelling, though a list allows all", function()
    t.run "mkdir -p /etc/cni/tuning"
    t.write(allow, ".*\n")
    for _, name in ipairs { "kernel.hostname", "net/../kernel/hostname", "/net/ipv4/ip_forward", "net..ipv4", "net" } do
      local w = new()
      w:add()
      local err = w:fails("ADD", tuning(w, { sysctl = { [name] = "1" } }), 7)
      assert.truthy(err.msg:find(('sysctl: "%s" is '):format(name), 1, true), err.msg)
      t.cleanup()
    end
  end)

  it("that a namespace has not of its own, without a list", function()
    local err = refused({ ["net.nf_conntrack_max"] = "1" }, 7, "sysctl.net.nf_conntrack_max: may not be set here")
    assert.truthy(err.details:find(allow, 1, true))
  end)

  it("that no line of the list matches as a whole", function()
    refused({ [filter] = "1" }, 7, "sysctl." .. filter .. ": may not be set here",
      "arp_filter\nnet.ipv4\n^net|arp_filter$\nnet.ipv4.conf.eth0.arp_filter\n")
    t.cleanup()
    refused({ [filter] = "1" }, 7, "sysctl." .. filter .. ": may not be set here", "")
  end)

  it("while the list is broken or cannot be read", function()
    local err = refused({ [filter] = "1" }, 7, allow .. ': expression 2, "(": Unmatched ( or \\(', ".*\n(\n")
    assert.truthy(err.details:find("no sysctl may be set", 1, true))
    os.remove(allow)
    t.cleanup()
    t.run("mkdir -p " .. allow)
    local w = new()
    w:add()
    err = w:fails("ADD", tuning(w, { sysctl = { [filter] = "1" } }), 5)
    assert.truthy(err.msg:find(allow, 1, true))
    t.run("rmdir " .. allow)
    -- A link to a list that is not there is no list that is not there.
    t.run("ln -s /etc/cni/tuning/none " .. allow)
    err = w:fails("ADD", tuning(w, { sysctl = { [filter] = "1" } }), 5)
    assert.truthy(err.msg:find(allow, 1, true))
    assert.truthy(err.details:find("no sysctl may be set", 1, true))
    assert.equal("0", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
    -- Nothing needs a list that sets no sysctl; and without any there is the one of the program.
    w:add(tuning(w, { mtu = 1400 }))
    w:del(tuning(w, { mtu = 1400 }))
    os.remove(allow)
    w:add(tuning(w, { sysctl = { [filter] = "1" } }))
    assert.equal("1", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
  end)

  it("but is when a line matches, and DEL and CHECK do not ask the list", function()
    t.run "mkdir -p /etc/cni/tuning"
    t.write(allow, "  ^net\\.ipv4\\.conf\\.IFNAME\\.arp_(filter|ignore)$  \r\n")
    local w = new()
    w:add()
    local call = tuning(w, { sysctl = { [filter] = "1" } })
    w:add(call)
    assert.equal("1", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
    t.write(allow, "")
    w:check(tuning(w, { sysctl = { [filter] = "1" } }))
    w:del(call)
    assert.equal("0", sysctl(w, "net/ipv4/conf/eth0/arp_filter"))
  end)
end)

describe("The reference's tuning and ours", function()
  local wanted = { mac = "0a:00:00:00:00:07", mtu = 1400, promisc = true, allmulti = true,
    dataDir = "/run/spec/tuned", cniVersion = "1.0.0" }

  it("read each other's dataDir, element for element", function()
    t.needs "reference"
    local files = {}
    for _, set in ipairs { "reference", "ours" } do
      local w = new({ cniVersion = "1.0.0" })
      w:add()
      w:in_pod "ip link set eth0 address 02:00:00:00:00:44"
      w:add(tuning(w, wanted, { bin = set }))
      files[set] = t.files "/run/spec/tuned"
      w:ok("DEL", tuning(w, wanted, { bin = set == "ours" and "reference" or "ours" }))
      t.same({ "02:00:00:00:00:44", 1500 }, { link(w).address, link(w).mtu })
      t.same({}, t.files "/run/spec/tuned")
      t.cleanup()
    end
    t.same(files.reference, files.ours)
  end)

  it("a file is left when the DEL cannot tell the sandbox", function()
    t.needs "reference"
    local w = new({ cniVersion = "1.0.0" })
    w:add()
    w:in_pod "ip link set eth0 address 02:00:00:00:00:44"
    local result = w.results["c1 eth0"]
    w:ok("ADD", tuning(w, wanted, { bin = "reference" }))
    -- The interface has another MAC than this result says: it may be another container's.
    w:ok("DEL", tuning(w, wanted, { prev = result }))
    assert.equal(1400, link(w).mtu)
    w:ok("DEL", tuning(w, wanted, { bin = "reference" }))
    t.same({ "02:00:00:00:00:44", 1500 }, { link(w).address, link(w).mtu })
  end)

  it("a file that is none holds up no DEL", function()
    for _, text in ipairs { "", "{", "[]", '{"mtu":"x","mac":7}', ("x"):rep(5000), '{"mtu":70000}' } do
      local w = new()
      w:add()
      t.run "mkdir -p /run/spec/tuned"
      t.write("/run/spec/tuned/c1_eth0.json", text)
      w:ok("DEL", tuning(w, wanted))
      t.sh "rm -rf /run/spec/tuned"
      assert.equal(1500, link(w).mtu)
      t.cleanup()
    end
  end)
end)

describe("Bad input of tuning", function()
  local function says(conf, text)
    local w = new()
    w:add()
    local before = settled(w)
    local err = w:fails("ADD", tuning(w, conf), 7)
    assert.equal(text, err.msg:sub(1, #text))
    t.same(before, settled(w))
    t.cleanup()
  end

  it("is said, and changes nothing", function()
    says({ mac = "0a:00" }, 'mac: "0a:00" is not a MAC address')
    says({ mtu = -1 }, "mtu: -1 is not an integer")
    says({ txQLen = -1 }, "txQLen: -1 is not an integer from 0 to 2147483647")
    says({ allmulti = "true" }, 'allmulti: "true" is not true or false')
    says({ sysctl = { ["net.ipv4.ip_forward"] = 1 } }, "sysctl.net.ipv4.ip_forward: 1 is not a string")
  end)

  it("behind nothing is said", function()
    local w = new()
    local err = w:fails("ADD", { type = "tuning", conf = { type = "tuning", ipam = false, mtu = 1400 } }, 7)
    assert.equal("prevResult: is missing", err.msg)
  end)
end)
