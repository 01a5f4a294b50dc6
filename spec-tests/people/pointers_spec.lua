-- SPDX-License-Identifier: MIT
-- Who comes from elsewhere, or has made a slip of another kind than a misspelt word, is told what to write: in
-- scripts, and in configurations. Beside each stands its right twin.

local cli = require "cli"
local t = require "support"
local world = require "world"

local path = "/etc/luacni/plugins/odd.lua"
local w

-- A script whose line 5 is `step`.
local function script_of(step, answer)
  return ([[
local addr, fail = require "cni.addr", require "cni.fail"
return { add = function(req)
  local host, pod, br = req.host, req.pod, req.host:add_link { kind = "bridge", name = "first0" }
  local port, eth = host:add_veth { name = "port0", peer = { ns = pod, name = req.ifname } }
  STEP
  return ANSWER
end }
]]):gsub("STEP", function() return step end):gsub("ANSWER", function() return answer or "{ interfaces = { eth } }" end)
end

local function call(verb, step, answer)
  t.write(path, (script_of(step, answer)))
  return w:call(verb, { type = "luacni", conf = { type = "odd" } })
end

-- Its ADD fails with this message, and details where they are given, and nothing has changed.
local function is_told(step, msg, details)
  local before = w:picture()
  local got = call("ADD", step)
  assert.not_equal(0, got.rc, step)
  assert.equal(path .. ":5: " .. msg, got.json.msg, step)
  if details then assert.equal(details, got.json.details, step) end
  t.same(before, w:picture())
end

-- Its ADD, its CHECK and its DEL succeed.
local function is_right(step, answer)
  local before = w:picture()
  for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
    local got = call(verb, step, answer)
    assert.equal(0, got.rc, verb .. " " .. step .. ": " .. got.out)
  end
  t.same(before, w:picture())
end

describe("An author of a script", function()
  before_each(function()
    t.wipe()
    w = world.new({ type = "odd" }, { neighbours = false, lived_in = false })
  end)
  after_each(t.cleanup)

  it("is told what a key is called here that others call otherwise", function()
    for step, msg in pairs {
      ["pod:add_route { dst = '0.0.0.0/0', via = '10.0.0.1', link = eth }"] = "add_route: unknown key 'via' (here it is 'gw')",
      ["pod:add_route { dst = '0.0.0.0/0', gw = '10.0.0.1', dev = eth }"] = "add_route: unknown key 'dev' (here it is 'link')",
      ["pod:add_route { dst = '0.0.0.0/0', link = eth, metric = 5 }"] =
        "add_route: unknown key 'metric' (here it is 'priority')",
      ["pod:set_link(eth, { address = '02:00:00:00:00:01' })"] = "set_link: unknown key 'address' (here it is 'mac')",
      ["pod:set_link(eth, { txqueuelen = 5 })"] = "set_link: unknown key 'txqueuelen' (here it is 'txqlen')",
      ["pod:add_neigh(eth, { ip = '10.0.0.1', mac = '02:00:00:00:00:01' })"] =
        "add_neigh: unknown key 'ip' (here it is 'dst')",
      ["host:add_link { type = 'macvlan', name = 'v0', link = br }"] = "add_link: unknown key 'type' (here it is 'kind')",
      ["host:add_link { kind = 'macvlan', name = 'v0', link = br, mode = 'bridge' }"] =
        "add_link: unknown key 'mode' (here it is 'macvlan_mode')",
      ["host:add_link { kind = 'vxlan', name = 'v0', id = 5 }"] = "add_link: unknown key 'id' (here it is 'vxlan_id')",
    } do is_told(step, msg) end
    is_right("pod:set_link(eth, { up = true, txqlen = 5, mac = '02:00:00:00:00:01' }) host:set_link(port, { up = true })"
      .. " pod:add_route { dst = '0.0.0.0/0', link = eth, priority = 5 }")
  end)

  it("is told what there is where no key is near, or the page that lists it", function()
    is_told("pod:add_addr(eth, '10.0.0.3/24', { broadcast = true })",
      "add_addr: options: unknown key 'broadcast' (there are nodad, noprefixroute)")
    is_told("host:add_veth { peer = { ns = pod, name = 'e1', qqq = 1 } }",
      "add_veth: peer: unknown key 'qqq' (there are mac, name, ns)")
    is_told("pod:set_link(eth, { xyzzy = true })", "set_link: unknown key 'xyzzy' (`luacni doc link` lists them)")
    is_told("host:add_link { kind = 'vxlan', name = 'v0', xyzzy = 1 }",
      "add_link: unknown key 'xyzzy' (`luacni doc link vxlan` lists them)")
    is_told("pod:frobnicate(eth)", "a handle: unknown verb 'frobnicate' (`luacni doc handle` lists them)")
    is_told("local x = req.frobnicate", "req: unknown name 'frobnicate' (`luacni doc req` lists them)")
  end)

  it("is told the kind that he meant before its options are looked at, and the link that a kind stands on", function()
    is_told("host:add_link { kind = 'vxlna', name = 'v0', vxlan_id = 5 }",
      "add_link: kind: unknown kind 'vxlna' (did you mean 'vxlan'?)")
    for _, kind in ipairs { "macvlan", "vlan", "ipvlan", "macvtap", "ipvtap" } do
      for _, verb in ipairs { "add_link", "ensure_link" } do
        is_told(("host:%s { kind = '%s', name = 'v0' }"):format(verb, kind),
          ("%s: link: is missing: a %s stands on another link"):format(verb, kind))
      end
    end
    is_right("pod:add_link { kind = 'bridge', name = 'v0' }")
  end)

  it("is told how a gateway is reached that lies in no network of its link, and it is reached so", function()
    local at = "pod:set_link(eth, { up = true }) host:set_link(port, { up = true }) "
    for _, case in ipairs {
      { own = "10.1.0.5/24", dst = "10.9.0.0/16", gw = "10.77.0.1", way = '{ dst = "10.77.0.1/32", link = the same, scope = "link" }' },
      { own = "fd01::5/64", dst = "fd10::/64", gw = "fd77::1", way = '{ dst = "fd77::1/128", link = the same }' },
    } do
      local head = at .. ("pod:add_addr(eth, '%s', { nodad = true }) "):format(case.own)
      local route = ("{ dst = '%s', gw = '%s', link = eth }"):format(case.dst, case.gw)
      local hint = ("no address of eth0 is in one network with the gateway %s; onlink = true takes it for a neighbour all "
        .. "the same; or a route to it comes before: %s"):format(case.gw, case.way)
      for _, verb in ipairs { "add_route", "ensure_route" } do
        local got = call("ADD", head .. "pod:" .. verb .. route)
        t.same({ 1, hint }, { got.rc, got.json.details })
        is_right(head .. "pod:" .. verb .. route:gsub(" }$", ", onlink = true }"))
        is_right(head .. "pod:add_route " .. case.way:gsub("the same", "eth") .. " pod:" .. verb .. route)
      end
    end
    -- Where the gateway is in the link's network, and something else is wrong, neither is named.
    local got = call("ADD", "pod:add_addr(eth, '10.1.0.5/24') pod:add_route { dst = '10.9.0.0/16', gw = '10.1.0.1', link = eth }")
    t.same({ 1, nil }, { got.rc, got.json.details })
  end)

  it("is told that an MTU is above that of the link below, and nothing where it is not", function()
    t.needs "macvlan"
    is_told("host:add_link { kind = 'macvlan', name = 'v0', link = br, mtu = 9000 }",
      "add_link: create macvlan link v0 on first0 in the host: mtu 9000 is above that of first0, on which it stands: 1500")
    local got = call("ADD", "local m = host:add_link { kind = 'macvlan', name = 'v0', link = br, ns = pod }"
      .. " pod:set_link(m, { mtu = 9000 })")
    assert.equal("mtu 9000 is above that of first0, on which it stands: 1500", got.json.details)
    is_right("host:add_link { kind = 'macvlan', name = 'v0', link = br, mtu = 1400, ns = pod }")
  end)

  it("is told at his line what a function of the library takes, and what he gave", function()
    local bytes = "expected the bytes of an address, as addr.ip(text) or the field ip of a cidr has them, got "
    for step, msg in pairs {
      ["addr.next('10.0.0.1')"] = "addr.next: " .. bytes .. '"10.0.0.1"',
      ["addr.cidr()"] = "addr.cidr: " .. bytes .. "nil",
      ["addr.cidr(addr.ip('10.0.0.1'), 33)"] = "addr.cidr: len: expected a whole number from 0 to 32, got 33",
      ["addr.family(addr.parse('10.0.0.1/8'))"] = "addr.family: " .. bytes .. "10.0.0.1/8",
      ["addr.parse('10.0.0.0/8'):contains('10.0.0.1')"] = "cidr:contains: " .. bytes .. '"10.0.0.1"',
      ["addr.parse('10.0.0.0/8'):overlaps('10.0.0.1')"] =
        'cidr:overlaps: expected a cidr, as addr.parse(text) gives it, got "10.0.0.1"',
      ["addr.default('ipv4')"] = 'addr.default: family: expected "inet" or "inet6", got "ipv4"',
      ["req.log(nil)"] = "req.log: expected a text, got nil",
      ["req:log { 1 }"] = "req.log: expected a text, got a table",
      ["error { a = 1 }"] = "error: expected a text, or a table with a text as msg, got a table with the key 'a'",
      ["error()"] = "error: expected a text, or a table with a text as msg, got nil",
      ["error(req.host)"] = "error: expected a text, or a table with a text as msg, got a handle",
      ["req:once('x', function() return req.host end)"] =
        "req:once: x: a string, number, boolean or table of such can be kept, not a handle",
      ["req:once('x', function() return { addr.parse('10.0.0.1/8') } end)"] =
        "req:once: x[1]: a string, number, boolean or table of such can be kept, not the cidr 10.0.0.1/8: tostring(it) can",
      ["host:enslave('up0', br)"] = "enslave: put up0 into VRF first0: link up0 is not in the host",
      ["host:enslave(port, 'red')"] = "enslave: put port0 into VRF red: link red is not in the host",
    } do is_told(step, msg) end
    -- What no function says by itself has the line at least, and the name where it has one.
    for step, name in pairs { ["require('cni.ranges').of(7)"] = "ranges.of", ["require('cni.json').list(7)"] = "json.list",
      ["require('cni.names').is_id()"] = "names.is_id", ["require('cni.leases').place()"] = "leases.place" } do
      local got, start = call("ADD", step), path .. ":5: " .. name .. ": cannot do with what it is given: cni/"
      t.same({ start, ("`luacni doc %s` says what it takes"):format(name:gsub("%.", " ")) },
        { got.json.msg:sub(1, #start), got.json.details }, step)
    end
    is_right("local b = addr.next(addr.ip('10.0.0.1')) req.log(5) req:log('x') assert(addr.parse('10.0.0.0/8'):contains(b))"
      .. " assert(req:once('x', function() return { a = { 1 } } end).a[1] == 1)")
    local got = call("ADD", "error(setmetatable({}, { __tostring = function() return 'mine' end }))")
    assert.matches("mine", got.out)
  end)
end)

describe("luacni validate", function()
  before_each(function()
    t.wipe()
    cli.host = t.host("node", { lived_in = false })
    t.run("mkdir -p /etc/cni/net.d /run/spec/bin")
  end)
  after_each(function()
    t.run "rm -rf /etc/cni/net.d /etc/luacni/plugins /run/spec/bin"
    t.cleanup()
  end)

  -- What is said of a network, and the exit status. Plugins are found in `folders`.
  local function said(config, folders)
    t.write("/etc/cni/net.d/10-net.conflist", type(config) == "table" and t.json(config) or config)
    local out, status = cli.luacni({ "validate" }, { env = { "CNI_PATH=" .. (folders or t.build .. "/cni-bin") } })
    return { out, status }
  end

  local function network(...) return { cniVersion = "1.0.0", name = "net", plugins = t.list { ... } } end

  local file = "/etc/cni/net.d/10-net.conflist: "

  it("says where a comma is too many, and what JSON has not", function()
    local start = file .. "cannot decode " .. file
    for text, line in pairs {
      ['{ "name": "net",\n "plugins": [ { "type": "loopback" }, ] }'] = "there is a comma before ] or }; line 2, column 37, ",
      ['{ "name": "net",\n "plugins": [ { "type": "loopback",\n } ] }'] = "there is a comma before ] or }; line 2, column 35, ",
      ['{ "name": "net", // x\n "plugins": [] }'] = "JSON has no comments; line 1, column 18, ",
      ["{ 'name': 'net' }"] = "a string stands in double quotes; line 1, column 3, ",
    } do
      local got = said(text)
      t.same({ start .. line, 1 }, { got[1]:sub(1, #start + #line), got[2] })
    end
    t.same({ "", 0 }, said '{ "cniVersion": "1.0.0", "name": "net", "plugins": [ { "type": "loopback" } ] }')
  end)

  it("finds keys of the list that are written in capitals", function()
    for key, where in pairs { plugins = "plugins: is missing, and no other file has them",
      type = "plugins[0].type: is missing: it names the plugin", name = "name: is missing: it names the network" } do
      local text = '{ "cniVersion": "1.0.0", "name": "net", "plugins": [ { "type": "loopback" } ] }'
      local other = key:sub(1, 1):upper() .. key:sub(2)
      t.same({ ("%s%s; %q is there: it is written %q\n"):format(file, where, other, key), 1 },
        said((text:gsub('"' .. key .. '"', '"' .. other .. '"'))))
    end
  end)

  it("names the page of a type when nothing is near an unknown key", function()
    local ipam = { type = "host-local", subnet = "10.1.0.0/24" }
    t.same({ 'plugins[0] (ptp): nothing reads the key "xyzzy"; luacni doc ptp lists what is read\n', 1 },
      said(network { type = "ptp", ipam = ipam, xyzzy = 1 }))
    t.same({ 'plugins[0] (ptp): nothing reads the key "ipam.xyzzy"; luacni doc host-local lists what is read\n', 1 },
      said(network { type = "ptp", ipam = t.merge(ipam, { xyzzy = 1 }) }))
  end)

  it("takes for a fault what a script does wrong on every machine, and for a note what this one lacks", function()
    t.run("ln -s " .. t.build .. "/luacni /run/spec/bin/odd")
    local function odd(body)
      t.write(path, "return { add = function(req)\n" .. body .. "\nend }")
      return said(network { type = "odd" }, "/run/spec/bin")
    end
    local at = "plugins[0] (odd): "
    for body, msg in pairs {
      ["local x = io.open('/etc/passwd')"] = "global 'io' is not defined: ",
      ["local x = foo"] = "global 'foo' is not defined",
      ["foo = 1"] = "assignment to global 'foo': declare it local",
      ["local x x()"] = "attempt to call a nil value (local 'x')",
      ["req.conf.no_such_thing()"] = "attempt to call a nil value (field 'no_such_thing')",
      ["return nil + 1"] = "attempt to perform arithmetic on a nil value",
      ["string.rep()"] = "bad argument #1 to 'rep'",
      ["req.log(nil)"] = "req.log: expected a text, got nil",
      ["require('cni.addr').next('x')"] = "addr.next: expected the bytes of an address",
      ["error { a = 1 }"] = "error: expected a text",
      ["req.host:add_link { kind = 'vlan', name = 'v0', vlan_id = 5 }"] = "add_link: link: is missing: a vlan stands on another link",
    } do
      local got, line = odd(body), at .. path .. ":2: " .. msg
      t.same({ line, 1 }, { got[1]:sub(1, #line), got[2] }, body)
    end
    for body, msg in pairs {
      ["error('no card')"] = "note: on this machine: " .. path .. ":2: no card\n",
      ["assert(nil, 'no card')"] = "note: on this machine: " .. path .. ":2: no card\n",
      ["require('cni.fail').throw 'no card'"] = "note: on this machine: no card\n",
      ["local p = req.runtime.portMappings[1]"] = "note: without what a runtime would say: " .. path
        .. ":2: attempt to index a nil value (field 'portMappings'); the script asks for it, --cap-args gives it\n",
      -- Whatever a runtime would say.
      ["local p = req.runtime.portMappings or foo"] = path .. ":2: global 'foo' is not defined\n",
    } do
      local got = odd(body)
      t.same({ at .. msg, msg:find "^note" and 0 or 1 }, got, body)
    end
  end)

  it("finds a link to luacni whose script is gone", function()
    t.run("ln -s " .. t.build .. "/luacni /run/spec/bin/gone")
    t.same({ "plugins[0] (gone): /run/spec/bin/gone is luacni, which has no type of that name: its script is gone; "
      .. "luacni types lists what there is; rm takes the link away\n", 1 }, said(network { type = "gone" }, "/run/spec/bin"))
    t.write("/etc/luacni/plugins/gone.lua", "return { add = function() return {} end }")
    t.same({ "", 0 }, said(network { type = "gone" }, "/run/spec/bin"))
  end)

  it("finds two plugins of a chain that make the same interface", function()
    local function ptp(subnet, more)
      return t.merge({ type = "ptp", ipam = { type = "host-local", subnet = subnet } }, more or {})
    end
    t.same({ "plugins[1] (dummy): link eth0 in the sandbox is made by plugins[0] (ptp) as well; another interface is "
      .. "another attachment, with an interface name of its own\n", 1 }, said(network(ptp "10.1.0.0/24",
        { type = "dummy", ipam = { type = "host-local", subnet = "10.2.0.0/24" } })))
    t.same({ "", 0 }, said(network(ptp "10.1.0.0/24", { type = "tuning", mtu = 1400 })))
    for _, name in ipairs { "one", "two" } do
      t.write(("/etc/luacni/plugins/%s.lua"):format(name), ([[
        return { add = function(req)
          req.host:ensure_link { kind = "bridge", name = "both0" }
          req.host:add_link { kind = "bridge", name = "%s" }
          return req.prev or {}
        end }]]):format("only0"))
      t.run(("ln -s %s/luacni /run/spec/bin/%s"):format(t.build, name))
    end
    local got = said(network({ type = "one" }, { type = "two" }), "/run/spec/bin")
    t.same({ "plugins[1] (two): /etc/luacni/plugins/two.lua:3: add_link: link only0 in the host is made by plugins[0] (one) "
      .. "as well; another interface is another attachment, with an interface name of its own\n", 1 }, got)
  end)
end)

describe("An interface that somebody has deleted, in a namespace that lives,", function()
  local blue
  before_each(function()
    t.wipe()
    cli.host = t.host("node", { lived_in = false })
    blue = t.netns "blue"
    t.netns "red"
    t.write("/etc/cni/net.d/10-net.conflist", t.json { cniVersion = "1.0.0", name = "net",
      plugins = { { type = "ptp", ipam = { type = "host-local", subnet = "10.1.0.0/24" } } } })
  end)
  after_each(function()
    t.run "rm -rf /etc/cni/net.d /var/lib/cni/results"
    t.cleanup()
  end)

  it("is told by list, doctor, gc and check, with the command that takes back the rest, and by none before", function()
    local path_of = { env = { "CNI_PATH=" .. t.build .. "/cni-bin" } }
    local function doctor()
      for _, item in ipairs(t.decode((cli.luacni { "doctor", "--json" }))) do
        if item.check == "leftovers" then return { item.level, item.mend } end
      end
    end
    local function states()
      local list = {}
      for _, entry in ipairs(t.decode((cli.succeeds { "list", "--json" }))) do list[#list + 1] = entry.state end
      return list
    end
    for _, id in ipairs { "", "c1" } do
      local more = id ~= "" and { "--id", id } or {}
      cli.succeeds({ "add", "net", "blue", table.unpack(more) }, path_of)
      cli.succeeds({ "add", "net", "red" }, path_of)
      local command = "luacni del net blue" .. (id ~= "" and " --id " .. id or "")
      t.same({ { "attached", "attached" }, "ok" }, { states(), doctor()[1] })
      t.same({ "", "nothing is left of anything dead\n" }, { cli.succeeds { "gc" } })
      t.run("ip link del eth0", { host = blue })
      local list = states()
      table.sort(list)
      t.same({ { "attached", "unplugged" }, { "warning", command } }, { list, doctor() })
      assert.matches("10.1.0.%d+/24 %(its interface is gone%)\n", (cli.succeeds { "list" }))
      local name = id ~= "" and id or "cnitool%-%x+"
      assert.matches("eth0 of container " .. name .. ", network net, is gone, but its namespace lives: "
        .. command:gsub("%-", "%%-") .. " takes back the rest\n$", (select(2, cli.succeeds { "gc" })))
      cli.fails(1, { "check", "net", "blue", table.unpack(more) },
        "; " .. command .. " takes back the rest, and then an ADD makes it anew", path_of)
      cli.succeeds({ "del", "net", "blue", table.unpack(more) }, path_of)
      cli.succeeds({ "del", "net", "red" }, path_of)
      t.same({ {}, "ok" }, { states(), doctor()[1] })
    end
  end)
end)
