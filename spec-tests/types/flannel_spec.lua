-- SPDX-License-Identifier: MIT
-- flannel: another type makes the interface, with what flannel has written down for this node. The lists are
-- those that k3s and kubeadm's flannel bring along.

local t = require "support"
local world = require "world"

local with = t.with
local env, data_dir = "/run/flannel/subnet.env", "/var/lib/cni/flannel"
local kubeadm = { type = "flannel", delegate = { hairpinMode = true, isDefaultGateway = true } }
local k3s = { type = "flannel", delegate = { hairpinMode = true, forceAddress = true, isDefaultGateway = true } }

local node <const> = { FLANNEL_NETWORK = "10.42.0.0/16", FLANNEL_SUBNET = "10.42.3.1/24", FLANNEL_MTU = "1450",
  FLANNEL_IPMASQ = "true" }
local dual <const> = with(node, { FLANNEL_IPV6_NETWORK = "fd42::/48", FLANNEL_IPV6_SUBNET = "fd42:0:0:3::1/64" })

local function flanneld(values)
  local lines = {}
  for key, value in pairs(values) do lines[#lines + 1] = ("%s=%s\n"):format(key, value) end
  table.sort(lines)
  t.write(env, table.concat(lines))
end

local function new(conf, opts)
  t.needs "nft-nat"
  flanneld((opts or {}).node or node)
  return world.new(with({ cniVersion = "1.0.0", name = "cbr0" }, conf or kubeadm), opts)
end

local function kept(id) return t.read(data_dir .. "/" .. (id or "c1")) end

local function has(text, wanted) assert.truthy(text:find(wanted, 1, true), text) end

-- Whether our table has an address, which is to masquerade it.
local function masqueraded(w, what)
  return t.run("nft list table inet luacni 2>/dev/null; true", { host = w.host }):find(what, 1, true) ~= nil
end

after_each(function()
  os.remove(env)
  t.run("rm -rf /run/flannel /run/spec/bin")
  t.cleanup()
end)

describe("flannel", function()
  it("gives addresses of the node's subnet, flannel's MTU, and routes to its networks by the bridge", function()
    local w = new(k3s, { node = dual, pods = 2, accepts = { "cni0" } })
    local result = w:add()
    assert.equal("cni0", result.interfaces[1].name)
    t.same({ { address = "10.42.3.2/24", gateway = "10.42.3.1", interface = 2 },
      { address = "fd42:0:0:3::2/64", gateway = "fd42:0:0:3::1", interface = 2 } }, result.ips)
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    local routes = {}
    for _, family in ipairs { "-4", "-6" } do
      for _, route in ipairs(t.ip(w.pods[1], family .. " route show")) do routes[route.dst] = route.gateway or "" end
    end
    assert.equal("10.42.3.1", routes["10.42.0.0/16"])
    assert.equal("fd42:0:0:3::1", routes["fd42::/48"])
    w:add { id = "c2", pod = 2 }
    w:in_pod "ping -c1 -W2 10.42.3.3"
    w:in_pod "ping -c1 -W2 fd42:0:0:3::3"
    w:check()
    w:check { id = "c2", pod = 2 }
    w:del()
    w:in_pod("ping -c1 -W2 10.42.3.1", 2)
    w:del { id = "c2", pod = 2 }
    t.same({}, t.files(data_dir))
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
  end)

  it("masquerades where flannel does not, and only there, unless the configuration says so", function()
    for _, case in ipairs { { "true", nil, false }, { "false", nil, true }, { "true", true, true }, { "false", false, false } } do
      local w = new({ type = "flannel", delegate = { ipMasq = case[2] } }, { node = with(node, { FLANNEL_IPMASQ = case[1] }) })
      w:add()
      assert.equal(case[3], masqueraded(w, "10.42.3.2"))
      w:del()
      assert.is_false(masqueraded(w, "10.42.3.2"))
      t.cleanup()
    end
  end)

  it("takes what the configuration says before what flannel says, and passes over what the type does not know", function()
    local w = new { type = "flannel", delegate = { mtu = 1300, bridge = "k0", isGateway = false, isDefaultGateway = false,
      nobodyReads = 7 }, ipam = { routes = { { dst = "192.0.2.0/24" } }, dataDir = "/var/lib/cni/elsewhere" } }
    local result = w:add()
    assert.equal("k0", result.interfaces[1].name)
    assert.equal(1300, t.link(w.pods[1], "eth0").mtu)
    t.same({ { dst = "192.0.2.0/24" }, { dst = "10.42.0.0/16" } }, result.routes)
    t.same({}, t.ip(w.host, "-4 addr show dev k0")[1] and t.ip(w.host, "-4 addr show dev k0")[1].addr_info or {})
    assert.is_truthy(t.read "/var/lib/cni/elsewhere/cbr0/10.42.3.2")
    w:del()
    assert.is_nil(t.read "/var/lib/cni/elsewhere/cbr0/10.42.3.2")
  end)

  it("keeps what its DEL needs where flannel's own plugin looks for it, until the last interface goes", function()
    local w = new(kubeadm, { neighbours = false })
    w:add()
    t.same({ type = "bridge", name = "cbr0", cniVersion = "1.0.0", hairpinMode = true, isDefaultGateway = true,
      isGateway = true, ipMasq = false, mtu = 1450, ipam = { type = "host-local",
        ranges = { { { subnet = "10.42.3.0/24" } } }, routes = { { dst = "10.42.0.0/16" } } } }, t.decode(kept()))
    assert.equal("rw-------", require("lfs").attributes(data_dir .. "/c1", "permissions"))
    w:add { ifname = "net1" }
    w:del()
    assert.is_truthy(kept())
    w:del { ifname = "net1" }
    assert.is_nil(kept())
  end)

  it("is told by the record what it was given, whatever has become of flannel's file", function()
    local w = new()
    w:add()
    flanneld(with(node, { FLANNEL_SUBNET = "10.42.9.1/24", FLANNEL_MTU = "1400" }))
    w:check()
    os.remove(env)
    w:check()
    w:in_pod "ip route del 10.42.0.0/16"
    has(w:fails("CHECK").text, "10.42.0.0/16")
    os.remove(data_dir .. "/c1")
    w:del()
    w:del()
    t.same({}, t.files(data_dir))
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
  end)

  it("goes on when flannel has another subnet for the node: who is there keeps what it has", function()
    for _, conf in ipairs { kubeadm, k3s } do
      local w = new(conf, { pods = 2, accepts = { "cni0" } })
      w:add()
      flanneld(with(node, { FLANNEL_SUBNET = "10.42.9.1/24" }))
      assert.equal("10.42.9.2/24", w:add({ id = "c2", pod = 2 }).ips[1].address)
      w:in_pod("ping -c1 -W2 10.42.9.1", 2)
      if conf == kubeadm then w:in_pod "ping -c1 -W2 10.42.3.1" end
      w:del()
      w:del { id = "c2", pod = 2 }
      t.cleanup()
    end
  end)

  it("whose record, file and flannel's file are lost frees address and interface", function()
    local w = new({ type = "flannel" }, { node = with(node, { FLANNEL_IPMASQ = "false" }) })
    w:add()
    assert.is_true(masqueraded(w, "10.42.3.2"))
    t.run("rm -r /run/luacni " .. data_dir .. " /run/flannel")
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    assert.is_false(masqueraded(w, "10.42.3.2"))
  end)

  it("whose record is lost is taken back with a configuration that ADD refuses", function()
    for _, bad in ipairs { { delegate = { hairpinMode = "yes", mtu = "big" } }, { delegate = "x", ipam = 7 },
      { delegate = { type = "flannel", ipam = {} }, subnetFile = 7, dataDir = false } } do
      for _, lost in ipairs { "/run/luacni", "/run/luacni " .. data_dir } do
        local w = new()
        w:add()
        t.run("rm -r " .. lost)
        w:fails("ADD", { conf = bad }, 7)
        w:del { conf = bad }
        t.same({}, t.files(data_dir))
        assert.is_nil(t.link(w.pods[1], "eth0"))
        assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
        t.cleanup()
      end
    end
  end)

  it("whose file cannot be read is taken back all the same, and the DEL says what it could not remove", function()
    local w = new()
    w:add()
    t.run("rm -r /run/luacni " .. data_dir .. "/c1; mkdir " .. data_dir .. "/c1")
    has(w:fails("DEL", nil, 5).text, data_dir .. "/c1")
    assert.is_nil(t.link(w.pods[1], "eth0"))
    t.run("rmdir " .. data_dir .. "/c1")
    w:del()
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
  end)

  it("goes by the file alone where that is all there is, whatever the configuration says now", function()
    local w = new()
    w:add()
    t.run "rm -r /run/luacni"
    w:del { conf = { ipam = { dataDir = "/run/spec/elsewhere" }, delegate = { mtu = 1300, bridge = "k9" } } }
    t.same({}, t.files(data_dir))
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
  end)

  it("keeps the file while the DEL of its delegate fails, or that is not to be found, and asks it again", function()
    local calls = "/run/spec/calls"
    t.write("/run/spec/bin/theirs", "#!/bin/sh\ncat >/dev/null; echo $CNI_COMMAND >>" .. calls .. "\n" ..
      [[case $CNI_COMMAND in ADD) echo '{"cniVersion":"1.0.0"}' ;; DEL) [ ! -e /run/spec/bad ] || { echo '{"code":11,"msg":"no"}'; exit 1; } ;; esac]])
    t.run "chmod 755 /run/spec/bin/theirs"
    local w = new({ type = "flannel", delegate = { type = "theirs" } },
      { path = "/run/spec/bin:" .. t.bin.ours, neighbours = false })
    for _, lost in ipairs { false, true } do
      t.write("/run/spec/bad", "")
      w:add()
      if lost then t.run "rm -r /run/luacni" end
      assert.equal("no", w:fails("DEL", { prev = false, conf = { delegate = false } }, 11).msg)
      assert.is_truthy(kept())
      t.run "rm /run/spec/bad; mv /run/spec/bin/theirs /run/spec/bin/hidden"
      has(w:fails("DEL", { prev = false, conf = { delegate = false } }).text, "theirs")
      assert.is_truthy(kept())
      t.run("mv /run/spec/bin/hidden /run/spec/bin/theirs; rm " .. calls)
      w:del { prev = false, conf = { delegate = false } }
      t.same({ "DEL\n" }, { t.read(calls) })
      assert.is_nil(kept())
    end
    t.run "rm -f /run/spec/bad"
  end)

  it("goes by no file that names no plugin: it says so, and the configuration tells", function()
    for _, text in ipairs { '{"type":"../../../bin/sh","name":"cbr0"}', "nonsense", "", '["bridge"]', '{"type":5}' } do
      local w = new()
      w:add()
      t.run "rm -r /run/luacni"
      t.write(data_dir .. "/c1", text)
      local got = w:call("DEL")
      t.same({ 0, true }, { got.rc, got.err:find("it is no plugin's configuration", 1, true) ~= nil }, text .. got.out)
      assert.is_nil(t.link(w.pods[1], "eth0"))
      assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
      assert.is_nil(kept())
      t.cleanup()
    end
  end)

  it("gives a delegate its own keys and no others, with the runtime's, and writes down the same", function()
    t.write("/run/spec/bin/rec", "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exec cat >/dev/null\ncat >/run/spec/got; " ..
      [[echo '{"cniVersion":"1.0.0"}']])
    t.run "chmod 755 /run/spec/bin/rec"
    local w = new({ type = "flannel", args = { cni = { x = 1 } }, dns = { nameservers = { "192.0.2.9" } },
      runtimeConfig = { mac = "02:00:00:00:00:05" }, delegate = { type = "rec", args = { q = 1 }, dns = { domain = "d" },
        cniVersion = "0.3.1", runtimeConfig = { own = 1 } } },
      { path = "/run/spec/bin:" .. t.bin.ours, neighbours = false })
    w:add()
    local got = t.decode(t.read "/run/spec/got")
    t.same({ { q = 1 }, { domain = "d" }, "1.0.0", { mac = "02:00:00:00:00:05" }, 1450 },
      { got.args, got.dns, got.cniVersion, got.runtimeConfig, got.mtu })
    t.same(got, t.decode(kept()))
    w:del()
    w.conf.runtimeConfig = nil
    w:add()
    t.same({ own = 1 }, t.decode(t.read "/run/spec/got").runtimeConfig)
    w:del()
  end)

  it("reads keys as they stand at the beginning of a line, and each network once", function()
    local w = new()
    t.write(env, "#FLANNEL_SUBNET=10.9.9.1/24\r\nFLANNEL_NETWORK=10.42.0.0/16,10.43.0.0/16,10.42.0.0/16\r\n" ..
      "FLANNEL_SUBNET=10.42.3.1/24\r\nFLANNEL_MTU=1450\r\nFLANNEL_IPMASQ=true\r\n#FLANNEL_SUBNET=10.9.9.1/24\n" ..
      "X-FLANNEL_MTU=701\nsomething")
    local result = w:add()
    assert.equal("10.42.3.2/24", result.ips[1].address)
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    assert.equal("10.42.0.0/16 10.43.0.0/16", result.routes[1].dst .. " " .. result.routes[2].dst)
    w:del()
  end)

  it("goes by no file of another network", function()
    local w = new()
    w:add()
    t.write(data_dir .. "/c1", t.json { name = "other", type = "nobody" })
    t.run "rm -r /run/luacni"
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
  end)

  it("has GC free the addresses whose records are lost, and no others", function()
    local w = new(with(kubeadm, { cniVersion = "1.1.0" }), { pods = 2, neighbours = false })
    w:add()
    w:add { id = "c2", pod = 2 }
    t.run "rm -r /run/luacni"
    w:gc { { "c2" } }
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    assert.is_truthy(t.read "/var/lib/cni/networks/cbr0/10.42.3.3")
    w:del { id = "c2", pod = 2 }
    w:del()
  end)
end)

-- What flannel's own plugin does is to write the file and call the delegate, or to read it and call that.
describe("A node with flannel's own plugin", function()
  local function theirs(w, verb, id)
    return t.cni_ok { verb = verb, conf = kept(id), type = t.decode(kept(id)).type, id = id, netns = w.pods[1], host = w.host,
      bin = "reference" }
  end

  it("changes over: what that has attached our DEL takes away, rules, address and file included", function()
    t.needs("reference", "iptables")
    local w = new({ type = "flannel" }, { lived_in = false, neighbours = false })
    t.write(data_dir .. "/c1", t.json { name = "cbr0", cniVersion = "1.0.0", type = "bridge", bridge = "k0", ipMasq = true,
      mtu = 1450, isGateway = true, ipam = { type = "host-local", ranges = { { { subnet = "10.42.3.0/24" } } },
        routes = { { dst = "10.42.0.0/16" } } } })
    local result = theirs(w, "ADD", "c1")
    has(t.run("nft list ruleset", { host = w.host }), "10.42.3.2")
    os.remove(env)
    w:del { prev = result }
    assert.is_nil(kept())
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    assert.is_nil(t.run("nft list ruleset", { host = w.host }):find("10.42.3.2", 1, true))
  end)

  it("changes back: that takes away what we have attached, and a GC the record", function()
    t.needs("reference", "iptables")
    local w = new(kubeadm, { lived_in = false, neighbours = false })
    w:add()
    theirs(w, "DEL", "c1")
    os.remove(data_dir .. "/c1")
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    w:gc({}, { conf = { cniVersion = "1.1.0" } })
    t.same({}, t.files "/run/luacni/attachments")
  end)

  it("may have a delegate that is not ours: it is executed, with the whole configuration", function()
    t.needs("reference", "iptables")
    t.run "mkdir -p /run/spec/bin && cp /usr/lib/cni/bridge /run/spec/bin/theirs"
    local w = new({ type = "flannel", delegate = { type = "theirs", bridge = "k0" } },
      { path = "/run/spec/bin:" .. t.bin.ours, neighbours = false, accepts = { "k0" } })
    local result = w:add()
    assert.equal("10.42.3.2/24", result.ips[1].address)
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    assert.equal("theirs", t.decode(kept()).type)
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    assert.is_nil(kept())
  end)

  it("asks a delegate that is not ours in STATUS and GC, with what a runtime says, and so it does ours", function()
    t.write("/run/spec/bin/rec", "#!/bin/sh\ncat >/run/spec/got.$CNI_COMMAND; [ ! -e /run/spec/ill ] || " ..
      [[{ echo '{"cniVersion":"1.1.0","code":50,"msg":"ill today"}'; exit 1; }]])
    t.run "chmod 755 /run/spec/bin/rec"
    local w = new({ type = "flannel", cniVersion = "1.1.0", delegate = { type = "rec", big = { 1 << 60 }, none = t.list {} } },
      { path = "/run/spec/bin:" .. t.bin.ours, neighbours = false })
    w:ok "STATUS"
    local got = t.decode(t.read "/run/spec/got.STATUS")
    t.same({ "rec", "cbr0", "1.1.0", 1450, "10.42.3.0/24" }, { got.type, got.name, got.cniVersion, got.mtu,
      got.ipam.ranges[1][1].subnet })
    has(t.read "/run/spec/got.STATUS", '"none":[]')
    w:gc { { "c7" } }
    got = t.decode(t.read "/run/spec/got.GC")
    t.same({ { containerID = "c7", ifname = "eth0" } }, got["cni.dev/valid-attachments"])
    t.write("/run/spec/ill", "")
    has(w:fails("STATUS", nil, 50).text, "ill today")
    os.remove "/run/spec/ill"
    -- Ours says what it lacks.
    w.conf.delegate = { type = "macvlan", master = "nolink0" }
    w:ok "STATUS"
    w.conf.delegate = { type = "macvlan", mode = "sideways" }
    has(w:fails("STATUS", nil, 7).text, "sideways")
    -- And so does a site's script.
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req) return req:delegate("bridge", req.raw, true) end,
      status = function() error("not before noon") end }]])
    w.conf.delegate = { type = "own" }
    has(w:fails("STATUS").text, "not before noon")
    os.remove "/etc/luacni/plugins/own.lua"
  end)
end)

describe("What flannel keeps", function()
  it("is written anew by a repair that finds it gone, and a CHECK does not mind", function()
    local w = new()
    w:add()
    local before = kept()
    os.remove(data_dir .. "/c1")
    w:ok "CHECK"
    local out, status, err = t.sh({ t.build .. "/luacni", "repair" }, { host = w.host })
    assert.equal(0, status, out .. err)
    has(out, data_dir .. "/c1 is gone")
    assert.equal(before, kept())
    out, status = t.sh({ t.build .. "/luacni", "repair" }, { host = w.host })
    t.same({ "", 0 }, { out, status })
    w:del()
    assert.is_nil(kept())
  end)

  it("stays when it is another network's by now", function()
    local w = new()
    w:add()
    local others = kept():gsub('"name":"cbr0"', '"name":"cbr1"')
    t.write(data_dir .. "/c1", others)
    w:del()
    assert.equal(others, kept())
    os.remove(data_dir .. "/c1")
  end)
end)

describe("flannel says what is wrong, and leaves nothing:", function()
  local function refuses(w, code, words, conf)
    local before = w:picture()
    has(w:fails("ADD", { conf = conf }, code).text, words)
    t.same(before, w:picture())
    t.same({}, t.files(data_dir))
  end

  it("flannel has written nothing yet; STATUS says so too", function()
    local w = new(with(kubeadm, { cniVersion = "1.1.0" }))
    w:ok "STATUS"
    os.remove(env)
    refuses(w, 11, "does it run here?")
    has(w:fails("STATUS", nil, 50).text, env)
  end)

  it("its file lacks something, or has what cannot be", function()
    local w = new()
    for _, case in ipairs {
      { { FLANNEL_SUBNET = false }, "no FLANNEL_SUBNET" }, { { FLANNEL_NETWORK = false }, "no FLANNEL_NETWORK" },
      { { FLANNEL_MTU = false }, "no FLANNEL_MTU" }, { { FLANNEL_IPMASQ = false }, "no FLANNEL_IPMASQ" },
      { { FLANNEL_MTU = "much" }, '"much" is no MTU' }, { { FLANNEL_MTU = "-1" }, '"-1" is no MTU' },
      { { FLANNEL_MTU = "0x5aa" }, '"0x5aa" is no MTU' }, { { FLANNEL_MTU = "70000" }, '"70000" is no MTU' },
      { { FLANNEL_MTU = "67" }, '"67" is no MTU' }, { { FLANNEL_SUBNET = "10.42.3.1/24,10.42.4.1/24" }, "more than one" }, { { FLANNEL_SUBNET = "10.42.3.1" }, "FLANNEL_SUBNET" },
      { { FLANNEL_SUBNET = "fd42::1/64" }, "FLANNEL_SUBNET" }, { { FLANNEL_NETWORK = "10.42.0.0/16,x" }, '"x"' },
    } do
      local values = {}
      for key, value in pairs(with(node, case[1])) do values[key] = value or nil end
      flanneld(values)
      refuses(w, 7, case[2])
    end
    t.write(env, ("x"):rep(1 << 17))
    refuses(w, 5, env)
  end)

  it("the configuration says what flannel is to say, or what the delegate cannot have", function()
    local w = new()
    for _, case in ipairs {
      { { name = "x" }, "name and ipam" }, { { ipam = {} }, "name and ipam" }, { { type = 7 }, "delegate.type" },
      { { type = "" }, "delegate.type" }, { { type = "flannel" }, "delegate.type" }, { { hairpinMode = "yes" }, "hairpinMode" }, { { bridge = "much-too-long-a-name" }, "bridge" },
    } do
      refuses(w, 7, case[2], { delegate = case[1] })
    end
    refuses(w, 7, "absolute path", { dataDir = "flannel" })
    has(w:fails("ADD", { conf = { delegate = { type = "nobody" } } }).text, "nobody")
    for _, name in ipairs { "host-local", "dhcp", "static", "cluster" } do
      refuses(w, 7, name .. " gives addresses, and makes no interface", { delegate = { type = name } })
    end
    t.same({}, t.files(data_dir))
  end)
end)
