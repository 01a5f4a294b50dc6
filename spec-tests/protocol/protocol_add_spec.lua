-- SPDX-License-Identifier: MIT
-- The protocol, from outside: what ADD promises on a bridge with host-local, its results in
-- every version, and prevResult in and out.
-- IDs are requirements of the CNI specification and its library.

local p = require "protocol"
local t = require "support"
local world = require "world"

local bridge, with = p.bridge, t.with

after_each(t.cleanup)

describe("ADD:", function()
  it("P-ADD-01, P-IO-08: makes CNI_IFNAME inside CNI_NETNS, called from the host", function()
    local w = bridge()
    local before = t.run("ls -l /proc/self/ns/net", { host = w.host })
    w:add({ ifname = "net7" })
    assert.equal("lo net7", p.links(w.pods[1]))
    assert.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "net7"))
    assert.equal(before:match("net:%[%d+%]"),
      t.run("ls -l /proc/self/ns/net", { host = w.host }):match("net:%[%d+%]"))
  end)

  it("P-VAL-06: takes no other name than CNI_IFNAME", function()
    local w = bridge()
    local before = w:picture()
    for _, name in ipairs { "eth%d", "%", "a%b" } do
      w:fails("ADD", { ifname = name })
      t.same(before, w:picture())
    end
    w:add({ ifname = "a-b.c_d@1" })
    assert.equal("a-b.c_d@1 lo", p.links(w.pods[1]))
  end)

  it("P-ADD-02: a link of the name is an error, and stays as it is", function()
    local w = bridge()
    w:in_pod("ip link add eth0 type veth peer name p0; ip addr add 10.7.0.1/24 dev eth0")
    local before = w:picture()
    w:fails("ADD")
    t.same(before, w:picture())
  end)

  it("P-ADD-04, P-DLG-06: that fails leaves nothing, not even in IPAM", function()
    local w = bridge({ ipam = with(p.dual, { routes = { { dst = "10.7.0.0/16",
      gw = "172.16.0.1" } } }) })
    local before = w:picture()
    w:fails("ADD")
    t.same(before, w:picture())
  end)

  it("P-ADD-05: adds the routes of IPAM, with metric 0", function()
    local w = bridge()
    w:add()
    local route = t.ip(w.pods[1], "route show default")[1]
    assert.equal("10.1.0.1", route.gateway)
    assert.is_nil(route.metric)
    assert.equal("fd01::1", t.ip(w.pods[1], "-6 route show default")[1].gateway)
  end)

  it("P-ADD-06, TOL-01: a namespace that is none is an error", function()
    local w = bridge()
    local before = w:picture()
    for _, path in ipairs { "/run/netns/nowhere", "/etc/hosts", "/", "/proc/self/ns/mnt",
      "/dev/null", "relative/path" } do
      local err = w:fails("ADD", { pod = path })
      assert.is_truthy(err.text:find(path, 1, true), err.text)
      t.same(before, w:picture())
    end
  end)

  it("TOL-15: a namespace may be given by a link or by a process", function()
    local w = bridge()
    t.run({ "ln", "-s", w.pods[1].path, "/run/spec/link" })
    local got = w:add({ pod = "/run/spec/link" })
    assert.equal("/run/spec/link", got.interfaces[3].sandbox)
    os.remove("/run/spec/link")
    w:del()
  end)

  it("P-ADD-08, P-DEL-07: a DEL after a failed ADD succeeds", function()
    local w = bridge({ ipam = with(p.dual, { routes = { { dst = "10.7.0.0/16",
      gw = "172.16.0.1" } } }) })
    w:fails("ADD")
    w:del()
    w:del({ pod = false })
  end)

  it("P-ADD-09, TOL-23: a second one without DEL is an error, after DEL it works", function()
    local w = bridge()
    w:add()
    local before = w:picture()
    w:fails("ADD")
    t.same(before, w:picture())
    w:check()
    w:del()
    w:add()
  end)

  it("P-ADD-10: the attributes of a route reach the kernel", function()
    local w = bridge({ ipam = with(p.dual, { routes = { { dst = "10.7.0.0/16", mtu = 1300,
      advmss = 1200, priority = 77, table = 1000 } } }) })
    local got = w:add()
    assert.equal(77, got.routes[1].priority)
    local line = w:in_pod("ip route show table 1000")
    for _, word in ipairs { "10.7.0.0/16", "metric 77", "mtu 1300", "advmss 1200" } do
      assert.is_truthy(line:find(word, 1, true), line)
    end
    assert.is_nil(w:in_pod("ip route show"):find("10.7.0.0", 1, true))
  end)

  it("P-STT-03, TOL-06: two at once in one namespace", function()
    local w = bridge()
    local lines = {}
    for _, ifname in ipairs { "eth0", "eth1", "eth2", "eth3" } do
      local file = "/run/spec/conf." .. ifname
      t.write(file, t.conf_bytes(w:config()))
      lines[#lines + 1] = t.cni_words({ verb = "ADD", type = "bridge", netns = w.pods[1],
        host = w.host, ifname = ifname }) .. " <" .. file .. " >/dev/null & "
    end
    t.run(table.concat(lines) .. "wait")
    assert.equal("eth0 eth1 eth2 eth3 lo", p.links(w.pods[1]))
    t.run("rm /run/spec/conf.*")
  end)
end)

describe("results:", function()
  for _, version in ipairs(p.versions) do
    it("T-31, P-ADD-03, P-RES-01, P-VER-06: are in the shape of " .. version, function()
      local w = bridge({ cniVersion = version, isDefaultGateway = true,
        dns = { nameservers = { "10.1.0.53" }, search = { "a.b" } } })
      local got = w:call("ADD")
      assert.equal(0, got.rc, got.out)
      local result = p.shaped(got.out, version)
      assert.same({ "10.1.0.53" }, result.dns.nameservers)
      if version < "0.3.0" then
        assert.equal("10.1.0.2/24", result.ip4.ip)
        assert.equal("10.1.0.1", result.ip4.gateway)
        assert.equal("0.0.0.0/0", result.ip4.routes[1].dst)
        assert.equal("fd01::2/64", result.ip6.ip)
        assert.equal("::/0", result.ip6.routes[1].dst)
      else
        assert.equal(3, #result.interfaces)
        assert.equal("10.1.0.2/24", result.ips[1].address)
        assert.equal(2, result.ips[1].interface)
        assert.equal(2, #result.ips)
        assert.equal(2, #result.routes)
      end
      w:del()
    end)

    it("P-RES-12, P-RES-10: without dns, routes and addresses, in " .. version, function()
      local w = bridge({ cniVersion = version, isGateway = false, ipMasq = false,
        ipam = { type = "host-local", subnet = "10.1.0.0/24" } })
      p.shaped(w:call("ADD").out, version)
      t.cleanup()
      w = bridge({ cniVersion = version, isGateway = false, ipMasq = false, ipam = false })
      local got = w:call("ADD")
      if version >= "0.3.0" then
        p.shaped(got.out, version)
      else
        p.error(got, nil, "cannot convert: no valid IP addresses")
        assert.equal("lo", p.links(w.pods[1]))
      end
      w:del()
    end)
  end

  it("P-RES-03: name every link made, the pod's by CNI_NETNS and CNI_IFNAME", function()
    local w = bridge()
    local got = w:add()
    assert.equal("br0", got.interfaces[1].name)
    assert.is_nil(got.interfaces[1].sandbox)
    assert.is_nil(got.interfaces[2].sandbox)
    assert.equal("eth0", got.interfaces[3].name)
    assert.equal(w.pods[1].path, got.interfaces[3].sandbox)
    assert.equal(t.link(w.host, "br0").address, got.interfaces[1].mac)
    assert.equal(w:port().ifname, got.interfaces[2].name)
    assert.equal(w:port().address, got.interfaces[2].mac)
    assert.equal(t.link(w.pods[1], "eth0").address, got.interfaces[3].mac)
  end)

  it("P-RES-05, P-RES-06: addresses keep host bits, gateways have no length", function()
    local got = bridge():add()
    assert.equal("10.1.0.2/24", got.ips[1].address)
    assert.equal("10.1.0.1", got.ips[1].gateway)
    assert.equal("fd01::1", got.ips[2].gateway)
  end)

  it("P-IPM-01: of IPAM name no interfaces, in any version", function()
    for i, version in ipairs(p.versions) do
      local got = p.call("ADD", { id = "c" .. i, conf = { cniVersion = version } })
      local result = p.shaped(got.out, version)
      assert.is_nil(result.interfaces)
      assert.is_nil((result.ips or { {} })[1].interface)
    end
  end)

  it("P-CNV: several addresses of a family shrink to the first in 0.2.0", function()
    local conf = { type = "static", ipam = { type = "static", addresses = {
      { address = "10.5.0.1/24", gateway = "10.5.0.254" }, { address = "fd05::1/64" } },
      routes = { { dst = "10.6.0.0/16" }, { dst = "fd06::/64", gw = "fd05::9" } } } }
    conf.cniVersion = "0.2.0"
    local result = p.shaped(p.call("ADD", { type = "static", conf = conf }).out, "0.2.0")
    assert.same({ ip = "10.5.0.1/24", gateway = "10.5.0.254",
      routes = { { dst = "10.6.0.0/16" } } }, result.ip4)
    assert.same({ ip = "fd05::1/64", routes = { { dst = "fd06::/64", gw = "fd05::9" } } },
      result.ip6)
  end)

  it("P-CNV-01: of 0.1.0 and 0.2.0 need an address", function()
    for _, version in ipairs { "0.1.0", "0.2.0" } do
      p.error(p.call("ADD", { type = "static", conf = { cniVersion = version,
        ipam = { type = "static" } } }), nil, "cannot convert: no valid IP addresses")
    end
  end)

  -- A bridge whose foreign IPAM plugin prints `answer` on ADD.
  local function served(answer, version)
    p.foreign("served", "[ $CNI_COMMAND = ADD ] || exit 0\ncat <<'END'\n" .. answer .. "\nEND")
    return p.bridge({ ipMasq = false, cniVersion = version, ipam = { type = "served" } },
      { path = p.foreign_dir })
  end

  it("P-RES-02: are in the version asked for, whatever an IPAM plugin answers in", function()
    local old = '{"cniVersion":"0.2.0","ip4":{"ip":"10.5.0.9/24","gateway":"10.5.0.1",' ..
      '"routes":[{"dst":"10.6.0.0/16"}]}}'
    local new = '{"cniVersion":"1.1.0","ips":[{"address":"10.5.0.9/24","gateway":"10.5.0.1"}],' ..
      '"routes":[{"dst":"10.6.0.0/16"}]}'
    for i, version in ipairs(p.versions) do
      local w = served(i % 2 == 0 and new or i <= 2 and new or old, version)
      local got = w:call("ADD")
      local result = p.shaped(got.out, version)
      assert.equal("10.5.0.9/24", result.ip4 and result.ip4.ip or result.ips[1].address)
      assert.equal("10.6.0.0/16", (result.ip4 or result).routes[1].dst)
      w:del()
      t.cleanup()
    end
  end)

  it("P-RES-02: in no version that was not asked for, though a plugin can do no other", function()
    local w = served('{"cniVersion":"3.0.0","ips":[{"address":"10.5.0.9/24"}]}', "1.0.0")
    local before = w:picture()
    p.error(w:call("ADD"), 1, '"3.0.0"')
    t.same(before, w:picture())
  end)

  it("P-RES-13: empty in 0.3.0 and later are an object with a version, never an empty stdout",
    function()
      for _, version in ipairs(p.since("0.3.0")) do
        t.write("/etc/luacni/plugins/silent.lua", "return { add = function() end }\n")
        local w = world.new({ type = "silent", cniVersion = version })
        local result = p.shaped(w:call("ADD", { type = "luacni" }).out, version)
        result.cniVersion, result.dns = nil, nil
        assert.is_nil(next(result))
        t.cleanup()
      end
    end)

  it("P-RES-13: of an IPAM plugin may be null or {}, and then hold no address", function()
    for _, answer in ipairs { "null", "{}", " { } ", '{"cniVersion":"1.1.0","ips":null}' } do
      local w = served(answer)
      local before = w:picture()
      p.error(w:call("ADD"), 999, "served gave no address")
      t.same(before, w:picture())
      assert.equal("ADD DEL ", (t.read(p.foreign_dir .. "/served.calls"):gsub("\n", " ")))
      t.cleanup()
    end
  end)

  it("P-RES-13: of an IPAM plugin that printed nothing, or no JSON, are an error", function()
    for _, answer in ipairs { "", " ", "ok", "{} {}", "[]", '"x"' } do
      local w = served(answer)
      local before = w:picture()
      p.error(w:call("ADD"), nil, "the result of served")
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("P-CNV: print IPv4-mapped IPv6 as IPv4", function()
    local got = p.call("ADD", { type = "static", conf = { cniVersion = "0.4.0",
      ipam = { type = "static", addresses = { { address = "::ffff:10.5.0.1/120" } } } } })
    assert.same({ version = "4", address = "10.5.0.1/24" },
      p.shaped(got.out, "0.4.0").ips[1])
  end)
end)

describe("prevResult:", function()
  -- A chained call of loopback, which changes nothing of a result.
  local function chained(prev, version, verb)
    t.cleanup()
    local w = world.new({ type = "loopback", cniVersion = version or "1.0.0" })
    return w:call(verb or "ADD", { prev = prev }), w
  end

  local prev = { cniVersion = "1.0.0",
    interfaces = { { name = "br0", mac = "0a:00:00:00:00:01" },
      { name = "eth0", mac = "0a:00:00:00:00:02", sandbox = "/run/netns/pod1", mtu = 1400 } },
    ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 1 },
      { address = "fd01::2/64", interface = 1 } },
    routes = { { dst = "0.0.0.0/0", gw = "10.1.0.1", priority = 5, table = 0, scope = 0 } },
    dns = { nameservers = { "10.1.0.53" }, domain = "a", search = { "b" }, options = { "c" } } }

  it("P-PRV-01: comes out of a plugin that changes nothing as it went in", function()
    t.same(prev, p.ok((chained(prev))))
    for _, version in ipairs { "0.3.0", "0.3.1", "0.4.0" } do
      local old = { cniVersion = version, dns = {}, interfaces = { { name = "eth0" } },
        ips = { { version = "4", address = "10.1.0.2/24", interface = 0 } } }
      t.same(old, p.ok((chained(old, version))))
    end
  end)

  it("P-PRV-02: keeps what nobody knows, lists and numbers as they were", function()
    local odd = with(prev, { vendor = { list = t.list(), object = {}, n = 5, f = 1.5,
      text = "<&>" } })
    odd.interfaces = { with(prev.interfaces[1], { ["vendor.x"] = "y" }), prev.interfaces[2] }
    local got = chained(odd)
    t.same(odd, p.ok(got))
    assert.is_truthy(got.out:find('"list": []', 1, true))
    assert.is_truthy(got.out:find('"object": {}', 1, true))
    assert.is_truthy(got.out:find('"n": 5,', 1, true))
  end)

  it("P-PRV-02: gains what a plugin of the chain adds, and loses nothing", function()
    t.write("/etc/luacni/plugins/gain.lua", [[
      return { add = function(req)
        local lo = req.pod:set_link("lo", { up = true })
        return { interfaces = { lo }, ips = { { address = "10.7.0.2/24", interface = lo } } }
      end }
    ]])
    local w = world.new({ type = "gain", cniVersion = "1.0.0" })
    local got = w:add({ type = "luacni", prev = with(prev, { vendor = "x" }) })
    assert.equal(3, #got.interfaces)
    assert.same(prev.interfaces[2], got.interfaces[2])
    assert.equal("lo", got.interfaces[3].name)
    assert.equal("10.1.0.2/24", got.ips[1].address)
    assert.equal(1, got.ips[1].interface)
    assert.equal("10.7.0.2/24", got.ips[3].address)
    assert.equal(2, got.ips[3].interface)
    assert.equal("x", got.vendor)
    p.shaped(t.json(with(got, { vendor = false })), "1.0.0")
  end)

  it("P-PRV-02: gives way to that of a plugin which makes an interface", function()
    local w = bridge({ cniVersion = "1.0.0" })
    local got = w:add({ prev = with(prev, { vendor = "x" }), ifname = "net1" })
    assert.equal(3, #got.interfaces)
    assert.equal("net1", got.interfaces[3].name)
    assert.equal(2, got.ips[1].interface)
  end)

  it("P-RES-04, P-RES-14: keeps mtu, socketPath and pciID, in 1.x alone", function()
    local one = { name = "eth0", mtu = 1400, socketPath = "/run/s", pciID = "0000:00:1f.6" }
    for _, version in ipairs { "1.0.0", "1.1.0" } do
      t.same({ one }, p.ok((chained({ interfaces = { one } }, version))).interfaces)
    end
    t.same({ { name = "eth0" } },
      p.ok((chained({ interfaces = { one } }, "0.4.0"))).interfaces)
  end)

  it("P-PRV-03: without a version has the configuration's", function()
    local got = p.ok((chained({ ips = { { version = "4", address = "10.1.0.2/24" } } }, "0.4.0")))
    assert.same({ version = "4", address = "10.1.0.2/24" }, got.ips[1])
  end)

  it("T-30, P-PRV-04: of another family is an error, of another number is not", function()
    for _, pair in ipairs { { "0.4.0", "1.0.0" }, { "1.0.0", "0.4.0" }, { "0.2.0", "1.1.0" },
      { "1.0.0", "0.2.0" } } do
      local got = chained({ cniVersion = pair[1], dns = {} }, pair[2])
      p.error(got, nil, "could not parse prevResult")
    end
    for _, pair in ipairs { { "1.1.0", "1.0.0" }, { "1.0.0", "1.1.0" }, { "0.3.0", "0.4.0" } } do
      local got = chained({ cniVersion = pair[1], ips = t.list() }, pair[2])
      assert.equal(pair[2], p.ok(got).cniVersion)
    end
  end)

  it("P-CNV-04: of an unknown version is an error", function()
    p.error((chained({ cniVersion = "9.4.0" })), nil, 'unsupported CNI result version "9.4.0"')
  end)

  it("P-RES-10: may have null anywhere in place of a list or an object", function()
    p.shaped(chained({ cniVersion = "1.0.0", interfaces = t.null, ips = t.null,
      routes = t.null, dns = t.null }).out, "1.0.0")
    p.shaped(chained({ cniVersion = "1.0.0", ips = { { address = "10.1.0.2/24",
      gateway = t.null, interface = t.null } } }).out, "1.0.0")
  end)

  it("that is malformed is an error that names the place", function()
    for where, bad in pairs {
      ["prevResult"] = t.list { 1 },
      ["prevResult.interfaces"] = { interfaces = { a = 1 } },
      ["prevResult.interfaces[0]"] = { interfaces = t.list { t.null } },
      ["prevResult.ips[0].address"] = { ips = { { address = "10.1.0.300/24" } } },
      ["prevResult.ips[0].interface"] = { interfaces = { { name = "a" } },
        ips = { { address = "10.1.0.2/24", interface = 1 } } },
      ["prevResult.ips[1]"] = { ips = { { address = "10.1.0.2/24" }, "x" } },
      ["prevResult.routes[0].dst"] = { routes = { { dst = "default" } } },
      ["prevResult.dns.search[0]"] = { dns = { search = { 5 } } },
    } do
      p.error((chained(bad)), nil, where)
    end
  end)

  it("P-PRV-05: missing is an error of plugins that only work in a chain", function()
    local conf = { type = "vrf", vrfname = "red", table = 77 }
    for _, value in ipairs { false, t.null } do
      local w = world.new(conf)
      local before = w:picture()
      p.error(w:call("ADD", { conf = { prevResult = value } }), 7, "prevResult")
      t.same(before, w:picture())
      w:del()
      t.cleanup()
    end
    -- With one it goes on, to the interface that is not there.
    p.error(world.new(conf):call("ADD", { prev = prev }), nil, "link eth0 is not in the sandbox")
  end)

  it("P-PRV-05: missing is how the first of a chain is called", function()
    p.ok(p.bridge():call("ADD", { prev = false }))
  end)

  it("P-PRV-06, P-DEL-04: is not needed for DEL: absent, null, {} or broken", function()
    for _, value in ipairs { false, t.null, {}, t.list(), "x", { cniVersion = "9.9.9" },
      { cniVersion = "0.4.0", ips = { 5 } } } do
      local w = bridge()
      local before = w:picture()
      w:add()
      w:del({ prev = false, conf = { prevResult = value } })
      w:del({ prev = false, conf = { prevResult = value } })
      t.same(before.kernel.pod1, w:picture().kernel.pod1)
      t.same(before.leases, w:picture().leases)
      t.cleanup()
    end
  end)

  it("P-PRV-07: missing on CHECK is no crash", function()
    local w = bridge()
    w:add()
    local got = w:call("CHECK", { prev = false })
    if got.rc == 0 then p.silent(got) else p.error(got) end
  end)

  it("P-PRV-09, TOL-24: on CHECK and DEL may be the work of later plugins too", function()
    local w = bridge()
    local before = w:picture()
    local result = w:add()
    w:in_pod("ip link set eth0 address 0a:aa:00:00:00:01; ip link add x0 type veth peer name x1")
    result.interfaces[3].mac = "0a:aa:00:00:00:01"
    result.interfaces[4] = { name = "x0", sandbox = w.pods[1].path }
    result.ips[3] = { address = "10.77.0.1/32" }
    w:check({ prev = result })
    w:del({ prev = result })
    w:in_pod("ip link del x0")
    t.same(before, w:picture())
  end)
end)
