-- SPDX-License-Identifier: MIT
-- What a script asks of `req` itself: the work of another type (delegate), a value that is decided once (once),
-- and what CHECK, DEL with and without a record, rollback and GC make of it.

local t = require "support"
local world = require "world"

local bin = "/run/spec/bin"
local subnet = { type = "host-local", subnet = "10.1.0.0/24" }

-- A site's script of a type, and a world whose network is of it.
local function new(body, more, opts)
  t.write("/etc/luacni/plugins/own.lua", ([[
local json, schema = require "cni.json", require "cni.schema"
return { add = function(req) %s end }
]]):format(body))
  local conf = { type = "own", bridge = "br0", removeUnused = true, ipam = subnet }
  for key, value in pairs(more or {}) do conf[key] = value ~= false and value or nil end
  return world.new(conf, opts or { neighbours = false })
end

-- The program picks the script by the configuration's type.
local function with(c)
  c = c or {}
  c.type = c.type or "luacni"
  return c
end

local function add(w, c) return w:add(with(c)) end
local function del(w, c) return w:del(with(c)) end
local function check(w, c) return w:check(with(c)) end

before_each(function() t.wipe() end)

describe("req:delegate", function()
  it("has another type do its work with the configuration changed, and its steps are the script's", function()
    local w = new([[
      local result = req:delegate("bridge", { mtu = 1400, isGateway = true, ipam = { subnet = "10.2.0.0/24" } })
      req.host:set_sysctl { { "net/ipv4/conf/" .. result.interfaces[1].name .. "/proxy_arp", "1" } }
      result.dns = { nameservers = { "10.2.0.53" } }
      return result
    ]], nil, { pods = 2, neighbours = false })
    local before = w:picture()
    local result = add(w)
    t.same({ { address = "10.2.0.2/24", gateway = "10.2.0.1", interface = 2 } }, result.ips)
    t.same({ nameservers = { "10.2.0.53" } }, result.dns)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    -- The kernel begins to send by a bridge some time after its first port is up.
    assert.is_true(t.ping(w.pods[1], "10.2.0.1") or t.ping(w.pods[1], "10.2.0.1"))
    assert.equal("1", t.sysctl(w.host, "net/ipv4/conf/br0/proxy_arp"))
    add(w, { id = "c2", pod = 2 })
    check(w)
    -- What the delegate has made is compared,
    w:sh("ip addr del 10.2.0.1/24 dev br0")
    assert.matches("10%.2%.0%.1/24", w:fails("CHECK", with()).text)
    w:sh("ip addr add 10.2.0.1/24 dev br0")
    -- and what the script has done beside it.
    w:sh("echo 0 >/proc/sys/net/ipv4/conf/br0/proxy_arp")
    assert.matches("proxy_arp", w:fails("CHECK", with()).text)
    w:sh("echo 1 >/proc/sys/net/ipv4/conf/br0/proxy_arp")
    del(w)
    assert.equal("1", t.sysctl(w.host, "net/ipv4/conf/br0/proxy_arp"))
    check(w, { id = "c2", pod = 2 })
    del(w, { id = "c2", pod = 2 })
    t.same(before, w:picture())
  end)

  it("takes back what the delegate did when the script fails behind it", function()
    local w = new([[ req:delegate("bridge", { isGateway = true }) req.host:set_link("nothing", { up = true }) ]])
    local before = w:picture()
    assert.matches("nothing", w:fails("ADD", with()).text)
    t.same(before, w:picture())
  end)

  it("is taken back without a record too, and by GC", function()
    local w = new([[ return req:delegate("bridge", { isGateway = true }) ]])
    local before = w:picture()
    add(w)
    w:gc({}, { type = "luacni" })
    t.same(before, w:picture())
    add(w)
    w:lose_records()
    del(w)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.3"))
  end)

  it("takes keys out", function()
    local w = new([[ return req:delegate("bridge", { ipam = json.null, mtu = json.null }) ]], { mtu = 1300 })
    local result = add(w)
    assert.is_nil(result.ips)
    assert.equal(1500, t.link(w.pods[1], "eth0").mtu)
    check(w)
    del(w)
  end)

  it("lays objects over objects and lists in the place of lists; one for addresses delegates to another", function()
    local w = new("return nil", { ipam = { type = "own", subnet = "10.1.0.0/24",
      routes = { { dst = "10.7.0.0/16" }, { dst = "10.8.0.0/16" } } }, type = "bridge" })
    t.write("/etc/luacni/plugins/own.lua", [[return { ipam = true, add = function(req)
      return req:delegate("host-local", { ipam = { routes = { { dst = "10.9.0.0/16" } } } })
    end }]])
    local before = w:picture()
    local result = w:add()
    t.same({ { dst = "10.9.0.0/16" } }, result.routes)
    t.same({ { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 2 } }, result.ips)
    w:check()
    w:lose_records()
    w:del()
    assert.is_nil(world.lease("10.1.0.2"))
    w:sh("ip link del br0")
    t.same(before.kernel, w:picture().kernel)
  end)

  it("gets the type that came with the program from a script of that very name", function()
    local w = new("return nil", { type = "bridge" })
    t.write("/etc/luacni/plugins/bridge.lua",
      'return { add = function(req) return req:delegate("bridge", { mtu = 1300 }) end }')
    local before = w:picture()
    w:add()
    assert.equal(1300, t.link(w.pods[1], "eth0").mtu)
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  for what, case in pairs {
    ["itself, where no type of that name came with the program"] =
      { [[ return req:delegate("own") ]], "own leads to itself" },
    ["a type that there is not, naming the nearest"] =
      { [[ return req:delegate("brigde") ]], 'failed to find plugin "brigde".*did you mean "bridge"' },
    ["a path"] = { [[ return req:delegate("../x") ]], "is not the name of a plugin" },
    ["another network"] = { [[ return req:delegate("bridge", { name = "other" }) ]], "name cannot be changed" },
    ["changes that are a list"] = { [[ return req:delegate("bridge", { "mtu" }) ]], "no table of" },
    ["changes of a key that the type does not read"] =
      { [[ return req:delegate("bridge", { mtuu = 1400 }) ]], "own.lua:2: req:delegate: changes: unknown key 'mtuu' "
        .. "%(did you mean 'mtu'%?%)" },
    ["a configuration that the type refuses"] = { [[ return req:delegate("bridge", { mtu = "x" }) ]], "mtu" },
  } do
    it("refuses " .. what, function()
      local w = new(case[1])
      local before = w:picture()
      assert.matches(case[2], w:fails("ADD", with()).text)
      t.same(before, w:picture())
    end)
  end

  it("executes a foreign type: ADD, CHECK, and DEL with what its ADD was given", function()
    local w = new([[
      local result = req:delegate("fake", { extra = { 1, 2 }, ipam = json.null })
      result.routes[1] = { dst = "10.3.0.0/16" }
      return result
    ]], nil, { path = bin, neighbours = false })
    t.run("rm -rf " .. bin)
    t.write(bin .. "/fake", ([[
#!/bin/sh
mkdir -p BIN/log; cat >BIN/log/$CNI_COMMAND; echo "$LUACNI_WITHIN" >>BIN/log/within
case $CNI_COMMAND in
ADD) ip -n $(basename $CNI_NETNS) link add eth0 type veth peer name f0 netns $$
     echo '{"cniVersion":"1.1.0","interfaces":[{"name":"f0"},{"name":"eth0","sandbox":"'$CNI_NETNS'"}],
       "ips":[{"address":"10.3.0.2/16","interface":1}]}' ;;
DEL) ip link del f0 2>/dev/null ;;
esac
exit 0
]]):gsub("BIN", bin))
    t.run("chmod +x " .. bin .. "/fake")
    local before = w:picture()
    local result = add(w)
    t.same({ { address = "10.3.0.2/16", interface = 1 } }, result.ips)
    t.same({ { dst = "10.3.0.0/16" } }, result.routes)
    local given = t.decode(t.read(bin .. "/log/ADD"))
    assert.equal("fake", given.type)
    t.same({ 1, 2 }, given.extra)
    assert.is_nil(given.ipam)
    check(w)
    t.same(result, t.decode(t.read(bin .. "/log/CHECK")).prevResult)
    -- With the record alone: the script is no more, and the configuration is another one.
    os.remove("/etc/luacni/plugins/own.lua")
    del(w)
    given = t.decode(t.read(bin .. "/log/DEL"))
    t.same({ 1, 2 }, given.extra)
    t.same(result, given.prevResult)
    assert.equal((" own \n"):rep(3), t.read(bin .. "/log/within"))
    t.same(before, w:picture())
  end)

  it("has a foreign type for addresses help one of the site's, as the one that is named", function()
    local w = new("return nil", { type = "bridge", ipam = { type = "own", pool = "a" } },
      { path = bin, neighbours = false })
    t.write("/etc/luacni/plugins/own.lua", [[return { ipam = true, add = function(req)
      return req:delegate("fake", { ipam = { pool = "b" } }) end }]])
    t.run("rm -rf " .. bin)
    t.write(bin .. "/fake", ([[
#!/bin/sh
mkdir -p BIN/log; cat >BIN/log/$CNI_COMMAND
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.3.0.2/16"}]}'
]]):gsub("BIN", bin))
    t.run("chmod +x " .. bin .. "/fake")
    local before = w:picture()
    t.same({ { address = "10.3.0.2/16", interface = 2 } }, w:add().ips)
    w:check()
    w:del()
    for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
      local given = t.decode(t.read(bin .. "/log/" .. verb))
      t.same({ type = "fake", pool = "b" }, given.ipam)
      assert.equal("bridge", given.type)
    end
    t.same(before, w:picture())
  end)

  it("passes the error of a foreign type on, and has it take back what it did", function()
    local w = new([[ return req:delegate("fake") ]], nil, { path = bin, neighbours = false })
    t.run("rm -rf " .. bin)
    t.write(bin .. "/fake", ([[
#!/bin/sh
cat >/dev/null; echo $CNI_COMMAND >>BIN/verbs
[ $CNI_COMMAND = DEL ] || { echo '{"code":123,"msg":"no more"}'; exit 1; }
]]):gsub("BIN", bin))
    t.run("chmod +x " .. bin .. "/fake")
    local before = w:picture()
    assert.matches("no more", w:fails("ADD", with(), 123).text)
    assert.equal("ADD\nDEL\n", t.read(bin .. "/verbs"))
    t.same(before, w:picture())
  end)

  it("does not go round: a foreign type that calls the script's type again is refused there", function()
    local w = new([[ return req:delegate("again") ]], nil, { path = bin, neighbours = false })
    t.run("rm -rf " .. bin)
    t.write(bin .. "/again", "#!/bin/sh\nexec " .. t.build .. "/luacni\n")
    t.run(("chmod +x %s/again"):format(bin))
    -- `exec` gives the program the configuration, whose type is "again": so it is called by the name.
    t.write(bin .. "/again", ("#!/bin/sh\nsed 's/\"again\"/\"own\"/' | %s/luacni\n"):format(t.build))
    assert.matches("own is called by the plugin that it calls itself", w:fails("ADD", with()).text)
  end)
end)

describe("req:once", function()
  local body = [[
    local up = req.host:link("up0", { "mtu" })
    local mtu = req:once("mtu", function() return up.mtu - 50 end)
    local again = req:once("mtu", function() error "asked again" end)
    assert(mtu == again)
    return req:delegate("bridge", { mtu = mtu })
  ]]

  it("gives CHECK the value of the ADD, though what it came from has changed", function()
    local w = new(body, nil, { far = true, pods = 2, neighbours = false })
    local before = w:picture()
    add(w)
    assert.equal(1450, t.link(w.pods[1], "eth0").mtu)
    w:sh("ip link set up0 mtu 1400")
    check(w)
    -- The next container has what is so now.
    add(w, { id = "c2", pod = 2 })
    assert.equal(1350, t.link(w.pods[2], "eth0").mtu)
    -- What somebody has changed on the container's link is noticed all the same.
    w:sh("ip link set " .. w:port().ifname .. " mtu 1200")
    assert.matches("mtu is 1200, not 1450", w:fails("CHECK", with()).text)
    del(w, { id = "c2", pod = 2 })
    del(w)
    w:sh("ip link set up0 mtu 1500")
    t.same(before, w:picture())
  end)

  it("decides anew where nothing was written down: without a record", function()
    local w = new(body, nil, { far = true, neighbours = false })
    local before = w:picture()
    add(w)
    w:lose_records(before)
    check(w)
    del(w)
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
  end)

  it("keeps the values of a script apart from those of the type that it delegates to", function()
    t.write("/etc/luacni/plugins/inner.lua", [[return { add = function(req)
      local value = req:once("x", function() return { 2, { "inner" } } end)
      return { dns = { domain = value[2][1] .. value[1] } }
    end }]])
    local w = new([[
      local value = req:once("x", function() return "outer" end)
      local result = req:delegate("inner")
      result.dns.search = { value }
      assert(req:once("none", function() return nil end) == nil)
      return result
    ]])
    t.same({ domain = "inner2", search = { "outer" } }, add(w).dns)
    check(w)
    del(w)
  end)

  it("refuses what cannot be written down", function()
    local w = new([[ req:once("f", function() return print end) ]])
    assert.matches("own%.lua:2: req:once: f: a string, number, boolean or table of such can be kept, not a function",
      w:fails("ADD", with()).text)
  end)
end)

describe("req.log", function()
  it("writes a line to standard error, called either way, and no command to a terminal", function()
    local w = new([[req.log "one" req:log "two\27[31m\tred\127\0end" ]])
    local got = w:call("ADD", with())
    assert.equal("one\ntwo?[31m\tred??end\n", got.err)
    del(w)
  end)
end)

describe("A link that the script has asked for", function()
  it("is found at once, with all that the kernel says of it; and one that is not there is not", function()
    local w = new([[
      local br = req.host:ensure_link { kind = "bridge", name = "br0", up = true }
      assert(req.host:link("br0").kind == "bridge")
      local port, eth = req.host:add_veth { master = br, mtu = 1300, peer = { ns = req.pod, name = req.ifname } }
      local found = req.host:link(port.name)
      assert(found and found.mtu == 1300 and found.mac == port.mac and found.master)
      assert(req.pod:link("eth0", { "mtu" }).mtu == 1300)
      assert(req.host:link("veth-none") == nil)
      -- By its name it is the same object.
      assert(req.host:set_link(port.name, { up = true }) == port)
      return { interfaces = { br, port, eth } }
    ]])
    local before = w:picture()
    add(w)
    check(w)
    del(w)
    t.same(before, w:picture())
  end)

  it("is found in a dry run, as far as it can be told", function()
    local w = new([[
      local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
      local found = req.host:link(port.name)
      assert(found.name == port.name and found.mac == port.mac)
      assert(#req.host:addrs(port) == 0 and req.host:link("veth-none") == nil)
      return { interfaces = { port, eth } }
    ]])
    t.write("/run/spec/own.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { w:config() } })
    local out = t.run({ t.build .. "/luacni", "run", "/run/spec/own.conflist", "--dry-run" }, { host = w.host })
    assert.matches("create veth pair veth%x+", out)
  end)
end)

describe("req:number", function()
  local body = [[
    local vid = req:number("vlans", req.raw.tenant, 100, 102)
    local port, eth = req.host:add_veth { name = ("t%d.%s"):format(vid, req.container_id),
      peer = { ns = req.pod, name = req.ifname } }
    return { interfaces = { port, eth } }
  ]]
  local books = "/run/luacni/shared"

  local function numbered(tenants)
    local w = new(body, nil, { pods = #tenants, neighbours = false })
    local calls = {}
    for i, tenant in ipairs(tenants) do calls[i] = { id = "c" .. i, pod = i, conf = { tenant = tenant } } end
    return w, calls
  end

  local function number_of(w, c)
    local name = (add(w, c).interfaces[1] or {}).name
    return tonumber(name:match "^t(%d+)")
  end

  it("gives a key one number, another key another, and lets go with the last attachment", function()
    local w, calls = numbered { "a", "b", "a", "../c d", "e" }
    local before = w:picture()
    assert.equal(100, number_of(w, calls[1]))
    assert.equal(101, number_of(w, calls[2]))
    assert.equal(100, number_of(w, calls[3]))
    assert.equal(102, number_of(w, calls[4]))
    local err = w:fails("ADD", with(calls[5]))
    assert.matches('pool vlans has no number left for "e": 100 to 102 are taken', err.text)
    for i = 1, 4 do check(w, calls[i]) end
    del(w, calls[1])
    check(w, calls[3])
    -- The tenant has one attachment left.
    assert.matches("no number left", w:fails("ADD", with(calls[5])).text)
    del(w, calls[3])
    assert.equal(100, number_of(w, calls[5]))
    -- CHECK misses one that the books have lost.
    t.run("rm -r '" .. t.shared_dir(w.host, "number.vlans") .. "/101 b'")
    assert.matches('no number of pool vlans is held for "b"', w:fails("CHECK", with(calls[2])).text)
    for _, i in ipairs { 2, 4, 5 } do del(w, calls[i]) end
    t.same(before, w:picture())
    assert.is_nil(next(t.files(books)))
  end)

  it("is given back by an ADD that fails, by GC, and by a DEL without a record", function()
    local w = new([[ req:number("vlans", "a", 7, 9) req:number("vlans", "b", 7, 9)
      if req.raw.fails then error "no more" end ]])
    local before = w:picture()
    assert.matches("no more", w:fails("ADD", with { conf = { fails = true } }).text)
    t.same(before, w:picture())
    add(w)
    w:gc({}, { type = "luacni" })
    t.same(before, w:picture())
    add(w)
    check(w)
    t.run("rm -r /run/luacni/attachments")
    del(w)
    assert.is_nil(next(t.files(books)))
  end)

  it("is not given back by one script while another one of the chain has it", function()
    local w = new([[ return { dns = { domain = "n" .. req:number("vlans", "a", 7, 9) } } ]])
    t.write("/etc/luacni/plugins/second.lua", [[return { chained = true, add = function(req)
      return { dns = { domain = "n" .. req:number("vlans", "a", 7, 9) } } end }]])
    add(w)
    local second = with { conf = { type = "second" }, prev = { cniVersion = "1.1.0" } }
    t.same({ domain = "n7" }, add(w, second).dns)
    del(w, second)
    check(w, with { prev = { cniVersion = "1.1.0" } })
    t.same({ "7 a" }, { (t.run("ls '" .. t.shared_dir(w.host, "number.vlans") .. "' | grep -v lock"):gsub("\n", "")) })
    del(w)
    assert.is_nil(next(t.files(books)))
  end)

  it("says so when the key has a number out of the range, and for what is no pool, key or range", function()
    local w = new([[ req:number("vlans", "a", req.raw.min, req.raw.max) ]], nil, { pods = 2, neighbours = false })
    add(w, { conf = { min = 7, max = 9 } })
    assert.matches('"a" has the number 7 of pool vlans already, which is not from 8 to 9.*net:c1:eth0',
      w:fails("ADD", with { id = "c2", pod = 2, conf = { min = 8, max = 9 } }).text)
    assert.matches("req:number: max: 8 is below min, 9",
      w:fails("ADD", with { id = "c2", pod = 2, conf = { min = 9, max = 8 } }).text)
    del(w, { conf = { min = 7, max = 9 } })
    for what, line in pairs { ["pool: expected a name"] = 'req:number("../x", "a", 1, 2)', ["key: is empty"] = 'req:number("x", "", 1, 2)' } do
      t.write("/etc/luacni/plugins/own.lua", ("return { add = function(req) %s end }"):format(line))
      assert.matches(what, w:fails("ADD", with()).text)
    end
  end)
end)

describe("req:call", function()
  -- A service that gives addresses: each is a file that names its owner.
  local service = [[
#!/bin/sh
mkdir -p BIN/given
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $LUACNI_NETWORK $*" >>BIN/calls
case $1 in
get) for n in 1 2 3 4; do
       [ -e BIN/given/$n ] || { echo $CNI_CONTAINERID >BIN/given/$n; echo 10.5.0.$n/24; exit 0; }
     done; echo "none left" >&2; exit 3 ;;
put) for f in BIN/given/*; do [ "$(cat $f)" != $CNI_CONTAINERID ] || rm $f; done; cat >>BIN/taken ;;
have) grep -q $CNI_CONTAINERID BIN/given/* || { echo "not leased" >&2; exit 1; } ;;
sleep) sleep 30 & echo $! >BIN/child; wait ;;
where) ip -br link ;;
esac
]]
  local program = bin .. "/service"
  local lease = ([[
    local text = req:call { program = "PROGRAM", args = { "get" }, undo = { args = { "put" } },
      check = { args = { "have" } } }
    return { ips = text and { { address = text:match "%S+" } } or {} }
  ]]):gsub("PROGRAM", program)

  local function served(body, more, opts)
    local w = new(body:gsub("PROGRAM", program), more, opts)
    t.run("rm -rf " .. bin)
    t.write(program, (service:gsub("BIN", bin):gsub("^\n", "")))
    t.run("chmod +x " .. program)
    return w
  end

  local function given() return (t.sh("ls " .. bin .. "/given")) end

  it("gives what the program says; CHECK is given the same, and asks; DEL gives it back", function()
    local w = served(lease, nil, { pods = 2, neighbours = false })
    local before = w:picture()
    t.same({ { address = "10.5.0.1/24" } }, add(w).ips)
    t.same({ { address = "10.5.0.2/24" } }, add(w, { id = "c2", pod = 2 }).ips)
    check(w)
    assert.is_truthy(t.run({ t.build .. "/luacni", "explain", "net", "c1" }):find(("  run %s get; DEL runs %s put; "
      .. "CHECK runs %s have\n"):format(program, program, program), 1, true))
    os.remove(bin .. "/given/1")
    assert.matches("service have failed: exit status 1.*not leased", w:fails("CHECK", with()).text)
    del(w)
    assert.equal("2\n", given())
    del(w, { id = "c2", pod = 2 })
    assert.equal("", given())
    -- What the call had printed is what its undo is given.
    assert.equal("10.5.0.1/24\n10.5.0.2/24\n", t.read(bin .. "/taken"))
    assert.matches("^ADD c1 eth0 net get\nADD c2 eth0 net get\nCHECK c1 eth0 net have\n", t.read(bin .. "/calls"))
    t.same(before, w:picture())
  end)

  it("is taken back when the script fails later, when the program fails, by GC, and without a record", function()
    local w = served((lease:gsub("return", 'if req.raw.fails then error "no more" end return')))
    local before = w:picture()
    assert.matches("no more", w:fails("ADD", with { conf = { fails = true } }).text)
    assert.equal("", given())
    add(w)
    w:gc({}, { type = "luacni" })
    assert.equal("", given())
    add(w)
    w:lose_records()
    del(w)
    assert.equal("", given())
    t.run(("for n in 1 2 3 4; do echo x >%s/given/$n; done"):format(bin))
    assert.matches("service get failed: exit status 3.*none left", w:fails("ADD", with()).text)
    t.same(before, w:picture())
    assert.equal("1\n2\n3\n4\n", given())
  end)

  it("that cannot be undone keeps the record, for the next DEL; a program that is gone does not", function()
    local w = served(lease)
    local before = w:picture()
    add(w)
    t.run(("mv %s %s.kept; printf '#!/bin/sh\necho busy >&2; exit 7' >%s; chmod +x %s"):format(program, program,
      program, program))
    assert.matches("service put failed: exit status 7.*busy", w:fails("DEL", with()).text)
    t.run(("mv %s.kept %s"):format(program, program))
    del(w)
    assert.equal("", given())
    add(w)
    os.remove(program)
    local got = w:call("DEL", with())
    assert.equal(0, got.rc)
    assert.matches("DEL goes without .*service put", got.err)
    t.same(before, w:picture())
  end)

  it("that was never begun is not undone, and the cause is named that was seen", function()
    local w = served(lease)
    local before = w:picture()
    t.run("chmod -x " .. program)
    local err = w:fails("ADD", with())
    assert.matches("service get: .*Permission denied", err.text)
    assert.matches("it is not executable: chmod %+x " .. program:gsub("%p", "%%%0"), err.text)
    assert.is_nil(err.text:find("put", 1, true))
    t.same(before, w:picture())
    t.write(program, "no first line")
    t.run("chmod +x " .. program)
    err = w:fails("ADD", with())
    assert.matches("it is no program", err.text)
    t.same(before, w:picture())
  end)

  it("that cannot be undone is what the next ADD of that container says it is", function()
    local w = served((lease:gsub("return", 'if req.raw.fails then error "no more" end return')))
    local before = w:picture()
    local works = t.read(program)
    t.write(program, works:gsub("put%)", "put) echo closed >&2; exit 9;;\nputt)"))
    local err = w:fails("ADD", with { conf = { fails = true } })
    -- Once, and in one piece.
    assert.equal(1, select(2, err.text:gsub("exit status 9", "")))
    assert.is_nil(err.text:find(" | ", 1, true))
    err = w:fails("ADD", with { conf = { fails = true } })
    assert.matches("eth0 of container c1 was attached before, and that cannot be taken back: .*service put failed",
      err.text)
    t.write(program, works)
    del(w)
    t.same(before, w:picture())
  end)

  it("ends a program at its deadline, with what it has started", function()
    local w = served([[ req:call { program = "PROGRAM", args = { "sleep" }, timeout = 0.6 } ]])
    local before = w:picture()
    local err = w:fails("ADD", with(), 11)
    assert.matches("service sleep did not end within 0%.6 seconds", err.text)
    -- Ended, and perhaps not yet buried.
    assert.equal("", (t.sh("ps -o stat= -p $(cat " .. bin .. "/child) | grep -v Z")))
    t.same(before, w:picture())
  end)

  it("does what is pending before, and runs in the sandbox when it is told", function()
    local w = served([[
      local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
      local inside = req:call { program = "PROGRAM", args = { "where" }, ns = req.pod, undo = {} }
      local outside = req:call { program = "PROGRAM", args = { "where" } }
      return { interfaces = { port, eth }, dns = { search = { tostring(inside:find "eth0@" ~= nil),
        tostring(inside:find(port.name, 1, true) ~= nil), tostring(outside:find(port.name, 1, true) ~= nil) } } }
    ]])
    local before = w:picture()
    t.same({ "true", "false", "true" }, add(w).dns.search)
    check(w)
    assert.is_truthy(t.run({ t.build .. "/luacni", "explain" }):find(("  run %s where; DEL runs nothing\n"):format(program),
      1, true))
    w:lose_records()
    -- Without a namespace there is nobody to ask in it.
    del(w)
    t.same(before, w:picture())
  end)

  it("in a sandbox that is gone is not undone, and that is said", function()
    local w = served [[ req:call { program = "PROGRAM", args = { "where" }, ns = req.pod, undo = { args = { "here" } } } ]]
    add(w)
    t.remove_netns(w.pods[1])
    local got = w:call("DEL", with())
    assert.equal(0, got.rc)
    assert.matches("DEL goes without " .. program .. " here: its sandbox is gone", got.err, 1, true)
    assert.is_nil(t.read(bin .. "/calls"):find("DEL", 1, true))
  end)

  for what, case in pairs {
    ["a name in the place of a path"] = { 'program = "true"', 'req:call: program: expected an absolute path, got "true"' },
    ["no program"] = { 'args = {}', "req:call: program: is missing" },
    ["a key that there is not, naming the nearest"] = { 'program = "/bin/true", arg = {}', "unknown key 'arg' %(did you mean 'args'%?%)" },
    ["arguments that are no strings"] = { 'program = "/bin/true", args = { 1 }', "args%[1%]: expected a string, got 1" },
    ["an undo of an undo"] = { 'program = "/bin/true", undo = { undo = {} }', "req:call: undo: unknown key 'undo'" },
    ["a program that is not there"] = { 'program = "/bin/not-there"', "/bin/not%-there: .*No such file" },
  } do
    it("refuses " .. what, function()
      local w = new(("req:call { %s }"):format(case[1]))
      local before = w:picture()
      assert.matches(case[2], w:fails("ADD", with()).text)
      t.same(before, w:picture())
    end)
  end
end)

describe("An ADD with all of these verbs, killed at any change,", function()
  local body = [[
    local vid = req:number("vlans", "tenant", 5, 9)
    local mark = req:once("mark", function() return vid * 2 end)
    req.host:add_rule { fwmark = mark, table = vid }
    local result = req:delegate("fake")
    req.host:add_neigh("f0", { dst = "10.3.0.2", mac = "02:00:00:00:00:03" })
    req:call { program = "BIN/mark", args = { "BIN/marked" }, undo = { program = "/bin/rm",
      args = { "-f", "BIN/marked" } } }
    return result
  ]]
  local fake = [[
#!/bin/sh
case $CNI_COMMAND in
ADD) ip -n $(basename $CNI_NETNS) link add eth0 type veth peer name f0 netns $$ || exit 1
     echo '{"cniVersion":"1.1.0","interfaces":[{"name":"f0"},{"name":"eth0","sandbox":"'$CNI_NETNS'"}]}' ;;
DEL) ip link del f0 2>/dev/null ;;
esac
exit 0
]]

  for how, recover in pairs {
    ["a DEL"] = function(w) del(w) end,
    ["a GC"] = function(w) w:gc({}, { type = "luacni" }) end,
    -- One that was killed in giving its answer is attached, and refuses the next.
    ["the next ADD and its DEL"] = function(w)
      w:call("ADD", with())
      del(w)
    end,
  } do
    it("is taken back by " .. how, function()
      local w = new((body:gsub("BIN", bin)), nil, { path = bin, neighbours = false })
      t.run("rm -rf " .. bin)
      t.write(bin .. "/fake", fake)
      t.write(bin .. "/mark", "#!/bin/sh\n>$1\n")
      t.run(("chmod +x %s/fake %s/mark"):format(bin, bin))
      add(w)
      check(w)
      del(w)
      local before, n = w:picture(), 1
      while true do
        w:call("ADD", with { under = ("%s -o /run/spec/report %d"):format(t.helper "killat", n) })
        local killed = t.read("/run/spec/report"):find "^killed" ~= nil
        recover(w)
        t.same(before, w:picture(), ("killed at change %d"):format(n))
        assert.is_nil(t.read(bin .. "/marked"))
        if not killed then break end
        n = n + t.stride(3, { sanitized = 7 })
      end
      assert.is_true(n > 20, n .. " changes")
    end)
  end
end)

describe("A tunnel that stands on a link of the host", function()
  it("is given with `link`, whatever the kernel calls that of its kind; CHECK is content, and sees another", function()
    t.needs("vxlan")
    local w = new([[
      local eth = req.host:add_link { name = req.ifname, ns = req.pod, kind = "vxlan", vxlan_id = 7,
        vxlan_port = 4789, link = "under0", vxlan_local = "192.0.2.1" }
      return { interfaces = { eth } }
    ]], { ipam = false })
    w:sh("ip link add under0 type veth peer name over0; ip addr add 192.0.2.1/24 dev under0; ip link set under0 up")
    local before = w:picture()
    add(w)
    assert.truthy(t.run({ "ip", "-d", "link", "show", "eth0" }, { host = w.pods[1] }):find("vxlan id 7 [^\n]* dev "))
    check(w)
    del(w)
    t.same(before, w:picture())
    add(w)
    w:sh("ip link add under1 type veth peer name over1")
    t.run({ "ip", "link", "del", "eth0" }, { host = w.pods[1] })
    w:sh("ip link add eth0 netns " .. w.pods[1].name .. " type vxlan id 7 dstport 4789 dev under1 local 192.0.2.1")
    assert.matches("does not stand on under0", w:fails("CHECK", with()).text)
    del(w)
    w:sh("ip link del under1")
    t.same(before, w:picture())
  end)
end)
