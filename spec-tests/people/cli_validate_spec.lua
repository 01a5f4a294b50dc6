-- SPDX-License-Identifier: MIT
-- luacni validate: each fault is found and named, and what is right has none.

local t = require "support"

local path
local host

local function validate(words, opts)
  return t.sh({ t.build .. "/luacni", "validate", table.unpack(words or { path }) }, t.merge({ host = host }, opts or {}))
end

local function put(config)
  config = type(config) == "table" and t.json(config) or config
  path = config:find '"plugins"' and "/run/spec/net.conflist" or "/run/spec/net.conf"
  t.write(path, config)
end

local function list(plugins, more)
  return t.merge({ cniVersion = "1.0.0", name = "net", plugins = plugins }, more or {})
end

local host_local = { type = "host-local", subnet = "10.9.8.0/24" }

local function bridge(more) return t.merge({ type = "bridge", ipam = host_local }, more or {}) end

-- Nothing is said.
local function is_right(config)
  put(config)
  t.same({ "", 0, "" }, { validate() }, t.json(config))
end

-- One thing is said, a fault or a note.
local function says(status, config, line)
  put(config)
  local out, got, err = validate()
  t.same({ line .. "\n", status, "" }, { out, got, err })
end

local function is_fault(config, line) says(1, config, line) end
local function is_note(config, line)
  says(0, config, line)
  t.same({ line .. "\n", 1, "" }, { validate { "--strict", path } })
end

before_each(function() host = t.host("node", { lived_in = false }) end)
after_each(function()
  t.run "rm -rf /run/spec/net.conf /run/spec/net.conflist /etc/cni/net.d /etc/luacni/plugins /run/spec/bin"
  t.cleanup()
end)

describe("luacni validate", function()
  it("says nothing of what is right, and changes nothing", function()
    t.needs "reference"
    local before = t.snapshot { ns = { host } }
    is_right(list { bridge { isGateway = true, ipMasq = true, vlan = 5, capabilities = { mac = true, ips = true } },
      { type = "tuning", sysctl = { ["net.core.somaxconn"] = "500" }, mac = "0a:00:00:00:00:01" },
      { type = "portmap", snat = true, capabilities = { portMappings = true } },
      { type = "bandwidth", ingressRate = 1000, ingressBurst = 8000, egressRate = 1000,
        capabilities = { bandwidth = true } },
      { type = "firewall", backend = "", ingressPolicy = "same-bridge" }, { type = "sbr", gateways = { "10.9.8.1" } } })
    is_right(list({ { type = "loopback" } }, { disableCheck = true, cniVersions = { "0.4.0", "1.1.0" } }))
    is_right { cniVersion = "0.3.1", name = "net", type = "bridge", ipam = host_local }
    is_right(list { { type = "ptp", ipam = { type = "static", addresses = { { address = "10.9.8.7/24",
      gateway = "10.9.8.1" } }, routes = { { dst = "0.0.0.0/0" } } } } })
    is_right(list { bridge { ipam = { type = "dhcp", request = { { option = "routers" } } } } })
    for _, ipam in ipairs { host_local, { type = "dhcp" } } do
      is_right(list { bridge { ipam = ipam, args = { cni = { ips = { "10.9.8.7" } } } } })
    end
    t.same(before, t.snapshot { ns = { host } })
  end)

  it("finds what is wrong with values, of IPAM types too", function()
    local at = "plugins[0] (bridge): "
    is_fault(list { bridge { args = { cni = { ipz = { "10.9.8.7" } } } } },
      at .. 'nothing reads the key "args.cni.ipz"; luacni doc bridge lists what is read')
    is_fault(list { bridge { isGateway = 1 } }, at .. "isGateway: 1 is not true or false")
    is_fault(list { bridge { vlan = 4095 } }, at .. "vlan: 4095 is not an integer from 0 to 4094")
    is_fault(list { bridge { isGatway = true } }, at .. 'nothing reads the key "isGatway", did you mean "isGateway"?')
    local function ipam(value, line) is_fault(list { bridge { ipam = value } }, at .. line) end
    ipam({ type = "host-local" }, "ipam.ranges: is missing: there is no range to take an address from")
    ipam(t.merge(host_local, { rangeStart = "10.9.9.1" }), "ipam.rangeStart: 10.9.9.1 is not in 10.9.8.0/24")
    ipam(t.merge(host_local, { dataDir = "leases" }), 'ipam.dataDir: "leases" is not an absolute path; '
      .. "a relative path would depend on the caller's working directory")
    ipam(t.merge(host_local, { gatway = "10.9.8.1" }), 'nothing reads the key "ipam.gatway", did you mean "gateway"?')
    ipam({ type = "host-local", ranges = { { { subnet = "10.0.0.0/24" } }, { { subnet = "10.0.0.0/16" } } } },
      "ipam.ranges[1]: 10.0.0.1-10.0.255.254 overlaps 10.0.0.1-10.0.0.254")
    ipam({ type = "static", addresses = { { address = "10.9.8.7" } } },
      'ipam.addresses[0].address: "10.9.8.7" is not an address with prefix length such as 10.1.2.0/24; add the prefix '
      .. "length, such as 10.9.8.7/24")
    -- Against what is on this machine.
    t.run("ip link add up0 type veth peer name up1", { host = host })
    is_fault(list { { type = "macvlan", master = "up0", mtu = 9000 } },
      "plugins[0] (macvlan): mtu: 9000 is more than the 1500 of the master, up0")
    is_right(list { { type = "macvlan", master = "up0", mtu = 1400 } })
  end)

  it("reads the keys of types that a script delegates to", function()
    t.write("/etc/luacni/plugins/like.lua", [[
      return { conf = require("cni.schema").record { more = require("cni.schema").integer },
        add = function(req) return req:delegate("bridge") end }]])
    local function read(key)
      put(list { bridge { type = "like", more = 1, [key] = true } })
      return (validate()):find("nothing reads the key", 1, true) == nil
    end
    assert.is_true(read "isGateway")
    assert.is_false(read "isGatewy")
    assert.is_nil((validate()):find("on this machine", 1, true))
    os.remove "/etc/luacni/plugins/like.lua"
  end)

  it("takes a script's mistake for a fault, and one that never ends too; what this machine lacks is a note", function()
    local path_of_script = "/etc/luacni/plugins/like.lua"
    for body, said in pairs {
      ["req.pod:add_vet {}"] = { 1, "like.lua:1: a handle: unknown verb 'add_vet' %(did you mean 'add_veth'%?%)" },
      ["while true do end"] = { 1, "like.lua:1: stopped: it ran for more than 5 seconds" },
      ["require('cni.fail').throw 'no such card here'"] = { 0, "note: on this machine: [^\n]*no such card here" },
    } do
      t.write(path_of_script, "return { add = function(req) " .. body .. " end }")
      put(list { { type = "like" } })
      local out, status = validate()
      assert.equal(said[1], status, out)
      assert.matches(said[2], out)
    end
    os.remove(path_of_script)
  end)

  it("finds what is wrong with the list", function()
    put('{ "name": "net", "plugins": [{ "type": "loopback" }] }')
    assert.is_truthy(validate():find("^list: cniVersion is missing, and counts as 0%.1%.0"))
    is_fault(list({ { type = "loopback" } }, { cniVersion = "1.9.0" }),
      "list: cniVersion: luacni does not speak 1.9.0; it speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")
    is_fault(list({ { type = "loopback" } }, { cniVersion = "new" }), 'list: cniVersion: "new" is not a version')
    put(list({ { type = "loopback" } }, { name = "a/b" }))
    assert.is_truthy(validate():find('^list: name: "a/b" has characters'))
    is_fault(list({ { type = "loopback" } }, { disbleCheck = true }),
      'list: nothing reads the key "disbleCheck" of the list, did you mean "disableCheck"?')
    is_note(list({ { type = "loopback" } }, { args = {} }), 'list: note: nothing reads the key "args" of the list')
    is_fault('{ "cniVersion": "1.0.0", "name": "net", "plugins": [{ "type": "loopback", "x": { "a b": 1, "a b": 2 } }] }',
      'list: the key "plugins[0].x.a b" stands twice; the last one counts')
    is_fault('{ "cniVersion": "1.0.0", "name": "net", "type": "loopback", "\\u0074ype": "loopback" }',
      'configuration: the key "type" stands twice; the last one counts')
  end)

  it("looks for programs, and knows the types of others as far as they are known", function()
    t.needs "reference"
    put(list { { type = "brigde" } })
    local out, status = validate()
    assert.equal(1, status)
    assert.is_truthy(out:find('has a program "brigde", which is what a runtime calls; did you mean "bridge"?', 1, true), out)
    put(list { bridge { ipam = { type = "host-locl" } } })
    assert.is_truthy(validate():find('has a program "host-locl", which is what a runtime calls; did you mean "host-local"?',
      1, true))
    is_fault(list { bridge(), { type = "portmap", backend = "nft" } },
      'plugins[1] (portmap): backend: "nft" is not one of iptables, nftables; did you mean "nftables"?')
    is_fault(list { bridge(), { type = "tuning", sysctl = { ["kernel.domainname"] = "x" } } },
      'plugins[1] (tuning): sysctl: "kernel.domainname" is not below net: the rest of /proc/sys is the whole machine\'s')
    is_fault(list { bridge(), { type = "bandwidth", ingressBurst = 5 } },
      "plugins[1] (bandwidth): ingressBurst is given without ingressRate")
    is_fault(list { bridge(), { type = "sbr", tabel = 100 } },
      'plugins[1] (sbr): nothing reads the key "tabel", did you mean "table"?')
    is_fault(list { bridge(), { type = "firewall", backnd = "iptables" } },
      'plugins[1] (firewall): nothing reads the key "backnd", did you mean "backend"?')
    is_fault(list { { type = "flannel", delegate = { isDefaultGatway = true } } },
      "plugins[0] (flannel): note: on this machine: read /run/flannel/subnet.env: No such file or directory; " ..
      "flanneld writes it when it has a subnet for this node: does it run here?\n" ..
      'plugins[0] (flannel): nothing reads the key "delegate.isDefaultGatway", did you mean "isDefaultGateway"?')
    is_fault(list { { type = "flannel", delegate = { type = "macvlan", ipam = {} } } },
      "plugins[0] (flannel): delegate: name and ipam are not its own, they stand beside it")
    is_fault(list { bridge(), { type = "bandwidth", ingressRat = 5 } },
      'plugins[1] (bandwidth): nothing reads the key "ingressRat", did you mean "ingressRate"?')
    is_fault(list { bridge(), { type = "firewall", ingressPolicy = "isolate" } },
      'plugins[1] (firewall): ingressPolicy: "isolate" is not one of open, same-bridge, isolated; did you mean "isolated"?')
    is_fault(list { bridge { ipam = { type = "dhcp", priority = -1 } } },
      "plugins[0] (bridge): ipam.priority: -1 is not an integer from 0 to 4294967295")
    is_note(list { bridge { capabilities = { portMappings = true } } },
      'plugins[0] (bridge): note: nothing reads the capability "portMappings"')
    is_fault(list { bridge { capabilities = { mac = "yes" } } },
      'plugins[0] (bridge): capabilities.mac: "yes" is neither true nor false')
    -- Of a type that nobody here knows, its program alone.
    t.run "mkdir -p /run/spec/bin; cp /bin/true /run/spec/bin/wire"
    put(list { { type = "wire", whatever = 1 } })
    t.same({ "plugins[0] (wire): note: type wire is not luacni's: its keys cannot be told here\n", 0, "" },
      { validate(nil, { env = { "CNI_PATH=/run/spec/bin" } }) })
    -- A type of this site, that has no link.
    t.write("/etc/luacni/plugins/own.lua", [[return { conf = require("cni.schema").record {
      size = require("cni.schema").integer { min = 1, max = 9 } }, add = function() end }]])
    put(list { { type = "own", size = 10 } })
    out = validate()
    assert.is_truthy(out:find('"own", which is what a runtime calls; luacni link own\n', 1, true), out)
    assert.is_truthy(out:find("plugins[0] (own): size: 10 is not an integer from 1 to 9\n", 1, true), out)
    t.write("/etc/luacni/plugins/own.lua", "return {")
    assert.is_truthy(validate():find("plugins[0] (own): type own cannot be loaded: ", 1, true))
  end)

  it("looks at all networks, and at the files of each", function()
    t.write("/etc/cni/net.d/10-a.conflist", t.json(list({ bridge() }, { name = "a" })))
    t.write("/etc/cni/net.d/20-b.conflist", t.json(list({ bridge { hairpin = true } }, { name = "b" })))
    t.write("/etc/cni/net.d/a/10.conf", '{ "type": "loopback", "x": 1, "x": 2 }')
    local out, status = validate {}
    t.same({ 'a: plugins[1] (loopback): the key "x" stands twice; the last one counts\n'
      .. 'b: plugins[0] (bridge): nothing reads the key "hairpin"\n', 1 }, { (out:gsub(', did you mean[^\n]*', "")), status })
    local found = t.decode((validate { "--json" }))
    t.same({ 2, "a", "fault", "plugins[1] (loopback)" }, { #found, found[1].network, found[1].level, found[1].where })
    t.same({ "", 2 }, { (validate { "none" }), (select(2, validate { "none" })) })
    assert.equal(1, (select(2, validate { "a" })))
    -- What cannot be read does not keep the others from being looked at; what nobody reads is said.
    t.write("/etc/cni/net.d/05-c.conflist", "{")
    t.write("/etc/cni/net.d/30-b.conflist", t.json(list({ bridge() }, { name = "b" })))
    out, status = validate {}
    assert.equal(1, status)
    assert.matches("^/etc/cni/net%.d/05%-c%.conflist: cannot decode ", out)
    assert.matches("\n/etc/cni/net%.d/30%-b%.conflist: note: nobody reads it: network b is in /etc/cni/net%.d/20%-b", out)
    assert.matches('\nb: plugins%[0%] %(bridge%): nothing reads the key "hairpin"', out)
    os.remove "/etc/cni/net.d/05-c.conflist"
    t.same({ "[]\n", 0, "" }, { validate({ "-", "--json" }, { stdin = t.json(list { { type = "loopback" } }) }) })
  end)

  it("says of a script that no call would load why, whoever's program has the type's name", function()
    local script = "/etc/luacni/plugins/own.lua"
    t.run { "mkdir", "-p", "/run/spec/bin" }
    t.run { "ln", "-s", t.build .. "/luacni", "/run/spec/bin/own" }
    put(list { { type = "own" } })
    local function run() return validate(nil, { env = { "CNI_PATH=/run/spec/bin" } }) end
    local good = "return { add = function(req) return { dns = {} } end }"
    t.write(script, good)
    t.same({ "", 0, "" }, { run() })
    for _, text in ipairs { "return {", "", good:gsub("add", "ad"), "require 'io' " .. good } do
      t.write(script, text)
      local out, status = run()
      assert.equal(1, status, out)
      assert.matches("^plugins%[0%] %(own%): type own cannot be loaded: /etc/luacni/plugins/own%.lua[^\n]*\n$", out)
    end
    t.write(script, good)
    t.run { "chmod", "777", "/etc/luacni" }
    finally(function() t.run { "chmod", "755", "/etc/luacni" } end)
    local out, status = run()
    assert.equal(1, status, out)
    assert.matches("cannot be loaded: [^\n]*refused: /etc/luacni can be written by everybody", out)
  end)

  it("takes what a script wants of the runtime for no fault, and can be told it", function()
    local script = "/etc/luacni/plugins/own.lua"
    t.run { "mkdir", "-p", "/run/spec/bin" }
    t.run { "ln", "-s", t.build .. "/luacni", "/run/spec/bin/own" }
    local function run(...)
      return validate({ path, ... }, { env = { "CNI_PATH=/run/spec/bin" } })
    end
    local function says_all(status, text, ...)
      local out, got, err = run(...)
      t.same({ text, status, "" }, { out, got, err })
    end
    local caps = "io.kubernetes.cri.pod-annotations"
    t.write(script, ([[local fail = require "cni.fail"
      return { conf = require("cni.schema").record {}, add = function(req)
        local notes = req.runtime["%s"] or {}
        local who = notes.who or (req.args or ""):match "WHO=(%%a+)"
        if who ~= "me" then fail.config("who", who or "nobody") end
        return req:delegate("bridge", { ipam = { type = "host-local", subnet = "10.3.2.0/24" } })
      end }]]):format(caps))
    put(list { { type = "own", isGateway = true, capabilities = { [caps] = true } } })
    local at = "plugins[0] (own): "
    local want = "note: without what a runtime would say: who: nobody; the script asks for it, "
    says_all(0, at .. want .. "--args or --cap-args give it\n")
    says_all(0, "", "--args", "IgnoreUnknown=1;WHO=me")
    says_all(0, "", "--cap-args", t.json { [caps] = { who = "me" } })
    -- All is said, and it is refused.
    says_all(1, at .. "who: you\n", "--args", "IgnoreUnknown=1;WHO=you", "--cap-args", t.json { [caps] = { x = "y" } })
    -- What nobody reads is said when the script has run; before that nobody knows.
    put(list { { type = "own", isGatewy = true, capabilities = { [caps] = true, other = true } } })
    says_all(0, at .. want .. "--args or --cap-args give it\n")
    local out, status = run("--args", "IgnoreUnknown=1;WHO=me")
    assert.equal(1, status)
    assert.is_truthy(out:find('note: nothing reads the capability "other"\n', 1, true), out)
    assert.is_truthy(out:find('nothing reads the key "isGatewy"', 1, true), out)
    assert.is_nil(out:find(caps, 1, true), out)
    -- A fault of the configuration is one, though a type that the script calls reads the arguments for itself.
    t.write(script, [[return { add = function(req)
      local who = req.args
      return req:delegate("bridge", { ipam = { type = "host-local", subnet = "10.9.8.0/24", rangeStart = "10.9.9.1" } })
    end }]])
    put(list { { type = "own" } })
    says_all(1, at .. "ipam.rangeStart: 10.9.9.1 is not in 10.9.8.0/24\n")
  end)

  it("says of a file what keeps runtimes from it", function()
    local one = { cniVersion = "1.0.0", name = "net", type = "loopback" }
    for file, case in pairs {
      ["a.conflist"] = { one, "is one plugin" }, ["a.conf"] = { list { { type = "loopback" } }, "is a list of plugins" },
      ["a.json"] = { list { { type = "loopback" } }, "is a list of plugins" },
      ["a.yaml"] = { one, "its name ends in none of .conflist, .conf and .json" },
    } do
      file = "/run/spec/" .. file
      t.write(file, t.json(case[1]))
      local out, status = validate { file }
      t.run { "rm", file }
      assert.equal(1, status, out)
      assert.equal(1, out:find(file .. ": " .. case[2], 1, true), out)
    end
    t.write("/run/spec/a.json", t.json(one))
    t.same({ "", 0, "" }, { validate { "/run/spec/a.json" } })
    os.remove "/run/spec/a.json"
  end)

  it("plans what comes in a chain behind what the plugins before it would answer", function()
    t.write("/etc/luacni/plugins/lab.lua", [[return { chained = true, add = function(req)
      local fail, ip = require "cni.fail", req.prev.ips[1]
      if req.pod:link(req.ifname).name ~= "eth0" then fail.throw "no interface" end
      if ip.address ~= req.raw.wants then fail.config("wants", "it is " .. ip.address) end
      ip.address = "10.99.0.1/24"
      if not req.raw.silent then return req.prev end
    end }]])
    t.write("/run/spec/bin/lab", "")
    t.run "chmod +x /run/spec/bin/lab"
    local function chain(...) return list { { type = "ptp", ipam = host_local }, ... } end
    local function lab(wants, more) return t.merge({ type = "lab", wants = wants }, more or {}) end
    local folders = ("CNI_PATH=%s/cni-bin:/run/spec/bin"):format(t.build)
    local function said(config)
      put(config)
      local out, status = t.sh({ "env", folders, t.build .. "/luacni", "validate", path }, { host = host })
      return { out, status }
    end
    t.same({ "", 0 }, said(chain(lab "10.9.8.2/24")))
    t.same({ "", 0 }, said(chain(lab "10.9.8.2/24", { type = "tuning", mtu = 1400 }, lab "10.99.0.1/24")))
    t.same({ "plugins[1] (lab): wants: it is 10.9.8.2/24\n", 1 }, said(chain(lab "10.9.8.3/24")))
    t.same({ "plugins[2] (lab): wants: it is 10.99.0.1/24\n", 1 }, said(chain(lab "10.9.8.2/24", lab "10.9.8.2/24")))
    -- Behind others' types it cannot be told, and is not guessed.
    t.write("/run/spec/bin/theirs", "")
    t.run "chmod +x /run/spec/bin/theirs"
    local note = "note: type theirs is not luacni's: its keys cannot be told here\n"
    t.same({ "plugins[0] (theirs): " .. note, 0 }, said(list { { type = "theirs" }, lab "10.9.8.3/24" }))
    t.same({ "plugins[1] (theirs): " .. note .. "plugins[2] (lab): wants: it is 10.9.8.2/24\n", 1 },
      said(chain({ type = "theirs" }, lab "10.9.8.3/24")))
    local _, status, err = t.sh({ t.build .. "/luacni", "run", path, "--dry-run" }, { host = host })
    t.same({ 1, "luacni: wants: it is 10.9.8.2/24\n" }, { status, err })
    put(chain({ type = "theirs" }, lab "10.9.8.2/24"))
    assert.matches("theirs: not one of luacni's types\nlab:\n$",
      t.run({ t.build .. "/luacni", "run", path, "--dry-run" }, { host = host }))
  end)

  it("notes a link, a master or a delegate that a script wants of this machine and that is not there", function()
    local folders = ("CNI_PATH=%s/cni-bin:/run/spec/bin"):format(t.build)
    t.run "mkdir -p /run/spec/bin; printf '#!/bin/sh\n' >/run/spec/bin/m; cp /run/spec/bin/m /run/spec/bin/other"
    t.run "chmod +x /run/spec/bin/*"
    local function said(body, ...)
      t.write("/etc/luacni/plugins/m.lua", "return { add = function(req) " .. body .. " end }")
      put(list { { type = "m" }, ... })
      local out, status = validate(nil, { env = { folders } })
      return out, status
    end
    local function notes(body, text)
      local out, status = said(body)
      t.same({ "plugins[0] (m): note: on this machine: " .. text .. "\n", 0 }, { out, status })
      assert.equal(1, select(2, validate({ "--strict", path }, { env = { folders } })))
    end
    local line, ending = "/etc/luacni/plugins/m.lua:1: ", " return {}"
    local cases = {
      add_veth = 'return { interfaces = { req.host:add_veth { master = "way0", peer = { ns = req.pod, name = req.ifname } } } }',
      set_link = 'req.host:set_link("way0", { up = true })' .. ending,
      add_addr = 'req.host:add_addr("way0", "192.0.2.1/24")' .. ending,
      ensure_addr = 'req.host:ensure_addr("way0", "192.0.2.1/24")' .. ending,
      add_route = 'req.host:add_route { dst = "192.0.2.0/24", link = "way0" }' .. ending,
      ensure_route = 'req.host:ensure_route { dst = "192.0.2.0/24", link = "way0" }' .. ending,
      add_neigh = 'req.host:add_neigh("way0", { dst = "192.0.2.1", mac = "02:00:00:00:00:01" })' .. ending,
      ensure_link = 'req.host:ensure_link { kind = "macvlan", name = "mv0", link = "way0" }' .. ending,
      await_up = 'req.host:await_up("way0")' .. ending,
    }
    for verb, body in pairs(cases) do notes(body, line .. verb .. ": link way0 is not in the host") end
    -- Once, however often; the place is the first one's.
    notes(cases.add_addr:sub(1, -#ending - 1) .. " " .. cases.set_link, line .. "add_addr: link way0 is not in the host")
    notes('return req:delegate "brigde"', line .. ('req:delegate: failed to find plugin "brigde" in path [%s/cni-bin /run/spec/bin]; did you '
      .. 'mean "bridge"?'):format(t.build))
    -- What the script makes itself, or a plugin before it, is there by then; behind another's nobody knows.
    local make = 'req.host:add_link { kind = "bridge", name = "way0" } '
    for verb, body in pairs(cases) do t.same({ "", 0 }, { said(make .. body) }, verb) end
    t.write("/etc/luacni/plugins/other.lua", "return { add = function(req) " .. make .. " return {} end }")
    said(cases.set_link)
    put(list { { type = "other" }, { type = "m" } })
    t.same({ "", 0, "" }, { validate(nil, { env = { folders } }) })
    put(list { { type = "m" }, { type = "other" } })
    assert.matches("^plugins%[0%] %(m%): note: on this machine: [^\n]*way0[^\n]*\n$", (validate(nil, { env = { folders } })))
    os.remove "/etc/luacni/plugins/other.lua"
    put(list { { type = "other" }, { type = "m" } })
    assert.is_nil((validate(nil, { env = { folders } })):find("on this machine", 1, true))
    -- And when it is there.
    t.run("ip link add way0 type dummy 2>&1 || ip link add way0 type bridge", { host = host })
    for verb, body in pairs(cases) do t.same({ "", 0 }, { said(body) }, verb) end
    t.same({ "", 0 }, { said 'return req:delegate "other"' })
    os.remove "/etc/luacni/plugins/m.lua"
  end)

  it("finds a chained type that has nothing before it", function()
    is_fault(list { { type = "tuning", mtu = 1400 } }, "plugins[0] (tuning): nothing is before it that makes the "
      .. "interface; it is used in a chain, behind a plugin that does")
    is_right(list { { type = "ptp", ipam = host_local }, { type = "tuning", mtu = 1400 } })
  end)
end)
