-- SPDX-License-Identifier: MIT
-- Hooks of a site: scripts in /etc/luacni/hooks.d, round every attachment. What they ask for is journalled as
-- the type's own work, so DEL, CHECK, GC, rollback and the dry run know of it.

local t = require "support"
local world = require "world"

local folder = "/etc/luacni/hooks.d"
local bridge = { type = "bridge", bridge = "br0", isGateway = true, removeUnused = true,
  ipam = { type = "host-local", subnet = "10.1.0.0/24" } }

local function hook(name, text)
  t.run("mkdir -p " .. folder)
  t.write(("%s/%s.lua"):format(folder, name), text)
end

-- A world, after any other one; what hooks there are stays.
local function new(conf, opts)
  local hooks = t.files(folder)
  t.cleanup()
  for name, text in pairs(hooks) do hook(name:match "([^/]+)%.lua$", text) end
  return world.new(conf or bridge, opts or { neighbours = false })
end

local function blackholes(w)
  local list = {}
  for _, route in ipairs(t.ip(w.pods[1], "route show table all type blackhole")) do
    list[#list + 1] = route.dst
  end
  return table.concat(list, " ")
end

-- Two things beside the type's: one in the sandbox, one in the host, which stays when the sandbox goes.
local beside = [[
return {
  after = function(req, result)
    req.pod:add_route { dst = "192.0.2.0/24", type = "blackhole", table = 77 }
    req.host:set_sysctl { { "net/ipv4/conf/" .. result.interfaces[1].name .. "/proxy_arp", "1" } }
  end,
}
]]

before_each(function() t.wipe() end)

describe("A hook", function()
  it("asks for more beside the type, and DEL and CHECK know of it", function()
    hook("10-beside", beside)
    local w = new()
    local before = w:picture()
    w:add()
    assert.equal("192.0.2.0/24", blackholes(w))
    assert.equal("1", t.sysctl(w.host, "net/ipv4/conf/br0/proxy_arp"))
    w:check()
    t.run({ "ip", "route", "del", "blackhole", "192.0.2.0/24", "table", "77" }, { host = w.pods[1] })
    assert.matches("192%.0%.2%.0/24", w:fails("CHECK").text)
    w:del()
    t.same(before, w:picture())
    w:del()
    t.same(before, w:picture())
  end)

  it("is not there: nothing of it is, either", function()
    t.run("mkdir -p " .. folder)
    local w = new()
    w:add()
    assert.equal("", blackholes(w))
    assert.equal("0", t.sysctl(w.host, "net/ipv4/conf/br0/proxy_arp"))
  end)

  it("needs not be there any more for DEL and GC, nor for CHECK of what the others have made", function()
    for _, verb in ipairs { "DEL", "GC" } do
      hook("10-beside", beside)
      local w = new()
      local before = w:picture()
      w:add()
      t.run("rm -r " .. folder)
      w:check()
      if verb == "DEL" then w:del() else w:gc({}) end
      t.same(before, w:picture())
    end
  end)

  it("that came after the ADD is not missed by its CHECK, and is there for the next ADD", function()
    local w = new(nil, { pods = 2, neighbours = false })
    w:add()
    hook("10-beside", beside)
    w:check()
    assert.equal("", blackholes(w))
    w:add({ id = "c2", pod = 2 })
    w:check({ id = "c2", pod = 2 })
    assert.equal("1", t.sysctl(w.host, "net/ipv4/conf/br0/proxy_arp"))
  end)

  it("is taken back without a record too", function()
    hook("10-beside", beside)
    local w = new()
    local before = w:picture()
    w:add()
    t.run("rm -rf /run/luacni")
    w:del()
    assert.equal("", blackholes(w))
    assert.same(before.links, w:picture().links)
  end)

  it("that is broken holds no DEL without a record, which says so", function()
    local w = new()
    w:add()
    hook("10-broken", "return {")
    hook("20-raises", "return { before = function() error('none of that') end }")
    hook("30-endless", "while true do end")
    w:lose_records()
    local said = w:call("DEL")
    assert.equal(0, said.rc)
    assert.matches("without the hook 10%-broken", said.err)
    assert.matches("without the hook 20%-raises: .*none of that", said.err)
    assert.matches("without the hook 30%-endless: .*stopped", said.err)
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)

  it("has values of its own that are decided once", function()
    hook("10-a", "return { before = function(req) return { mtu = req:once('mtu', function() return 1401 end) } end }")
    hook("20-b", "return { after = function(req) req.host:set_sysctl { { 'net/ipv4/conf/br0/medium_id', "
      .. "tostring(req:once('mtu', function() return 7 end)) } } end }")
    local w = new()
    w:add()
    assert.equal(1401, t.link(w.pods[1], "eth0").mtu)
    assert.equal("7", t.sysctl(w.host, "net/ipv4/conf/br0/medium_id"))
    hook("10-a", "return { before = function(req) return { mtu = req:once('mtu', function() return 1402 end) } end }")
    w:check()
    w:del()
  end)

  it("is round a type of the chain that makes no interface, when it names that", function()
    hook("10-a", "return { match = { type = 'tuning' }, before = function(req) return { mtu = 1300 } end, "
      .. "after = function(req, result) result.dns = { search = { req.prev.interfaces[1].name } } end }")
    local w = new()
    local prev = w:add()
    local chained = { type = "tuning", conf = { type = "tuning", ipam = false, bridge = false }, prev = prev }
    local before = w:picture()
    local result = w:add(chained)
    assert.equal(1300, t.link(w.pods[1], "eth0").mtu)
    t.same({ search = { "br0" } }, result.dns)
    t.same(prev.ips, result.ips)
    chained.prev = result
    w:check(chained)
    w:del(chained)
    t.same(before.kernel, w:picture().kernel)
  end)

  it("changes the configuration, as the ones before it have", function()
    hook("10-mtu", "return { before = function(req) return { mtu = 1400, ipam = { subnet = '10.9.0.0/24' } } end }")
    hook("20-less", "return { before = function(req) return { mtu = req.conf.mtu - 50 } end }")
    local w = new()
    local before = w:picture()
    local result = w:add()
    assert.equal("10.9.0.2/24", result.ips[1].address)
    assert.equal(1350, t.link(w.pods[1], "eth0").mtu)
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("gives what the configuration lacks: ADD, CHECK, STATUS and DEL are content", function()
    t.run "mkdir -p /etc/luacni/plugins"
    local script = [[
local schema = require "cni.schema"
return {
  conf = schema.record { tenant = schema.string { required = true } },
  add = function(req)
    return { interfaces = { req.pod:add_link { name = req.ifname, kind = "bridge", alias = req.conf.tenant } } }
  end,
}]]
    local w = new({ type = "luacni" })
    w.conf.type = "own"
    t.write("/etc/luacni/plugins/own.lua", script)
    local function with(c) return t.merge(c or {}, { type = "luacni" }) end
    assert.matches("tenant", w:fails("ADD", with()).text)
    assert.matches("tenant", w:fails("STATUS", with()).text)
    hook("10-tenant", "return { before = function(req) return { tenant = 'blue' } end }")
    w:ok("STATUS", with())
    local before = w:picture()
    w:add(with())
    assert.equal("blue", t.link(w.pods[1], "eth0").ifalias)
    w:check(with())
    t.run("rm -rf /run/luacni")
    w:del(with())
    t.same(before.kernel, w:picture().kernel)
  end)

  it("changes the result, or gives another one", function()
    hook("10-dns", "return { after = function(req, result) result.dns = { nameservers = { '10.1.0.53' } } end }")
    local w = new()
    t.same({ nameservers = { "10.1.0.53" } }, w:add().dns)
    w:del()
    hook("20-other", "return { after = function(req, result) return { interfaces = result.interfaces, "
      .. "ips = { { address = '10.1.0.77/24' } } } end }")
    t.same({ { address = "10.1.0.77/24", interface = 2 } }, w:add().ips)
  end)

  it("that fails makes the ADD fail with its line, and nothing is left", function()
    for what, words in pairs {
      ["req.host:add_link { name = 'x0', kind = 'bridge' }\n error('not here')"] = "10%-fails%.lua:2: not here",
      ["req.host:add_link { name = 'x0', kind = 'bridge' }\n fail.throw 'not now'"] = "not now",
      ["req.pod:set_link('eth0', { mut = 1400 })"] = "10%-fails%.lua:1: set_link: unknown key 'mut'",
      ["return { interfaces = 7 }"] = "10%-fails%.lua:1: what add returns: interfaces",
    } do
      hook("10-fails", "local fail = require 'cni.fail' return { after = function(req, result) "
        .. (what:find("fail.throw") and "" or "local _ = fail; ") .. what .. " end }")
      local w = new()
      local before = w:picture()
      assert.matches(words, w:fails("ADD").text)
      t.same(before, w:picture())
    end
    hook("10-fails", "return { before = function(req) return { mtv = 1400 } end }")
    local w = new()
    local before = w:picture()
    assert.matches("10%-fails%.lua:1: .*mtv.*mtu", w:fails("ADD").text)
    hook("10-fails", "return { before = function(req) return 7 end }")
    assert.matches("10%-fails%.lua:1: what before returns", w:fails("ADD").text)
    hook("10-fails", "return { before = function(req) return { type = 'ptp' } end }")
    assert.matches("type cannot be changed", w:fails("ADD").text)
    t.same(before, w:picture())
  end)

  it("is refused when it is no hook, or anybody can write it: the ADD fails, and changes nothing", function()
    local w = new()
    local before = w:picture()
    for text, words in pairs {
      ["return 7"] = "a hook returns a table",
      ["return { add = function() end }"] = "unknown field 'add'",
      ["return { doc = 'nothing' }"] = "'before' or 'after' is missing",
      ["return { before = 7 }"] = "field 'before' must be a function, it is a number",
      ["return { before = function() end, match = { typ = 'bridge' } }"] = "unknown field 'typ'.*'type'",
      ["return { before = function() end, match = { type = 7 } }"] = "match%.type' must be a text",
      ["return { before = function() end, match = { type = {} } }"] = "match%.type' must be a text",
      ["return { before = function() end, match = { args = 'x' } }"] = "match%.args' must be a table",
      ["return { before = function() end, match = { args = { A = {} } } }"] = "match%.args%.A' must be a text",
      ["return { before = function() end, api = 9 }"] = "field 'api' is 9",
      ["x = 1"] = "assignment to global 'x'",
      ["return {"] = "unexpected symbol",
    } do
      hook("10-bad", text)
      assert.matches("10%-bad%.lua:.*" .. words, w:fails("ADD").text)
    end
    hook("10-bad", beside)
    t.run("chmod 666 " .. folder .. "/10-bad.lua")
    assert.matches("10%-bad%.lua: refused", w:fails("ADD").text)
    t.run("rm -r " .. folder .. "; echo >" .. folder)
    assert.matches("hooks%.d", w:fails("ADD").text)
    t.run("rm " .. folder)
    t.same(before, w:picture())
    w:add()
  end)

  it("says nothing for a dry run's kernel, and is in what it prints", function()
    hook("10-beside", beside)
    local w = new()
    local before = w:picture()
    t.write("/run/spec/net.conflist", t.json({ cniVersion = "1.0.0", name = "net", plugins = { bridge } }))
    local out = t.run({ t.build .. "/luacni", "run", "--dry-run", "/run/spec/net.conflist" }, { host = w.host })
    assert.matches("192%.0%.2%.0/24", out)
    t.same(before, w:picture())
  end)

  it("has its name in explain, beside its steps and no others", function()
    hook("10-beside", beside)
    local w = new()
    w:add()
    local out = t.run({ t.build .. "/luacni", "explain" }, { host = w.host })
    assert.matches("192%.0%.2%.0/24[^\n]*%(hook 10%-beside%)", out)
    assert.is_nil(out:match("veth[^\n]*%(hook"))
    w:del()
  end)
end)

describe("A hook that a call is killed in", function()
  -- Kill a verb at each of its changes, then have another one take all back.
  local function sweep(verb, recover)
    hook("10-beside", beside)
    local w = new()
    w:add()
    w:del()
    local before, swept = w:picture(), 0
    for n = 1, 300, t.stride(3, { sanitized = 9 }) do
      if verb == "DEL" then w:add() end
      local _, status = t.sh(t.cni_words({ verb = verb, type = "bridge", host = w.host, netns = w.pods[1],
        under = ("%s %d"):format(t.helper("killat"), n) }), { stdin = t.conf_bytes(w:config()) })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      recover(w)
      t.same(before, w:picture(), "killed at change " .. n)
    end
    assert.is_true(swept > 10 and swept < 290, swept)
  end

  it("is taken back by a DEL that no longer has it", function()
    sweep("ADD", function(w)
      t.run("mv " .. folder .. " /run/spec/away")
      w:del()
      t.run("mv /run/spec/away " .. folder)
    end)
  end)

  it("is taken back by a GC", function() sweep("ADD", function(w) w:gc({}) end) end)

  it("is taken back by the DEL after a DEL", function() sweep("DEL", function(w) w:del() end) end)
end)

describe("match", function()
  local counted = "%s before = function(req) req.log('called for ' .. req.type) end }"
  local chain = { { type = "bridge" }, { type = "tuning" } }

  -- For which types of a chain a hook is called.
  local function called(match, opts)
    opts = opts or {}
    hook("10-match", counted:format("return { match = { " .. match .. " },"))
    local w = new()
    local said = {}
    local prev
    for _, plugin in ipairs(chain) do
      local conf = plugin.type == "bridge" and bridge or { type = "tuning" }
      conf = t.with(conf, { cniVersion = "1.0.0", name = "net", prevResult = prev,
        runtimeConfig = opts.runtime })
      local answer = t.cni { verb = "ADD", type = plugin.type, host = w.host, netns = w.pods[1], id = "c1",
        ifname = "eth0", conf = conf, args = opts.args }
      assert.equal(0, answer.rc, answer.out)
      for name in answer.err:gmatch "called for ([%w-]+)" do said[#said + 1] = name end
      prev = answer.json
    end
    return table.concat(said, " ")
  end

  it("is by type: absent, the one that makes the interface; named, any", function()
    assert.equal("bridge", called(""))
    assert.equal("tuning", called("type = 'tuning'"))
    assert.equal("bridge tuning", called("type = { 'bridge', 'tun*' }"))
    assert.equal("", called("type = 'bridg'"))
    assert.equal("bridge", called("type = 'bridg?'"))
  end)

  it("is by network and by interface", function()
    assert.equal("bridge", called("network = 'n*', ifname = 'eth0'"))
    assert.equal("", called("network = 'n*', ifname = 'eth1'"))
    assert.equal("", called("network = 'other', ifname = 'eth0'"))
    assert.equal("", called("network = 'n.t'"))
  end)

  it("is by CNI_ARGS and by the pod's annotations, whatever those are", function()
    local args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue"
    assert.equal("bridge", called("args = { K8S_POD_NAMESPACE = 'bl*' }", { args = args }))
    assert.equal("", called("args = { K8S_POD_NAMESPACE = 'red' }", { args = args }))
    assert.equal("", called("args = { K8S_POD_NAMESPACE = '*' }"))
    local key = "io.kubernetes.cri.pod-annotations"
    local match = "annotations = { ['example.org/net'] = { 'fast', 'slow' } }"
    assert.equal("bridge", called(match, { runtime = { [key] = { ["example.org/net"] = "slow" } } }))
    for _, given in ipairs { { ["example.org/net"] = "slower" }, { ["example.org/net"] = 7 }, { other = "slow" },
      "slow", t.list({ "slow" }), { ["example.org/net"] = { "slow" } } } do
      assert.equal("", called(match, { runtime = { [key] = given } }))
    end
    assert.equal("", called(match))
  end)
end)

describe("luacni", function()
  local function luacni(words, opts) return t.sh(t.build .. "/luacni " .. words, opts) end

  it("lists the hooks, for whom they are, and which is broken", function()
    hook("20-few", "return { after = function() end, match = { type = { 'bridge', 'vlan' }, args = { A = 'x*' } } }")
    hook("10-all", "return { after = function() end }")
    local out = luacni "types"
    assert.matches("%(hook%) 10%-all +/etc/luacni/hooks%.d/10%-all%.lua +round all\n%(hook%) 20%-few +%S+ +round "
      .. "args%[A%]=x%* type=bridge|vlan\n$", out)
    hook("30-bad", "return { after = 7 }")
    out = luacni "types --json"
    local list = t.decode(out)
    assert.equal("30-bad", list[#list].hook)
    assert.matches("must be a function", list[#list].problem)
    local status
    out, status = luacni "check-scripts"
    assert.equal(1, status)
    assert.matches("^/etc/luacni/hooks%.d/30%-bad%.lua: field 'after' must be a function", out)
    t.run("rm " .. folder .. "/30-bad.lua")
    out, status = luacni "check-scripts"
    assert.equal("all 2 are fine\n0", out .. status)
  end)

  it("looks at a hook that is elsewhere, and shows one", function()
    hook("10-all", "return { after = function() end }")
    assert.equal("return { after = function() end }", (luacni "show hooks.d/10-all"))
    local _, status, err = luacni "show hooks.d/10-al"
    assert.matches("No such file", err)
    assert.equal(1, status)
    t.write("/run/spec/hooks.d/mine.lua", "return { before = 7 }")
    assert.matches("'before' must be a function", (luacni "check-scripts /run/spec/hooks.d/mine.lua"))
    t.write("/run/spec/hooks.d/mine.lua", "return { before = function() end }")
    assert.matches("fine", (luacni "check-scripts /run/spec/hooks.d/mine.lua"))
  end)

  it("has all that a hook may have in its documentation", function()
    local out = luacni "doc hook"
    for _, word in ipairs { "after", "api", "before", "doc", "match", "annotations", "args", "ifname", "network",
      "type" } do
      assert.matches("\n" .. word .. " ", out)
      assert.matches("\n" .. word .. " ", (luacni("doc hook " .. word)))
    end
    local _, status, err = luacni "doc hook befor"
    assert.equal(2, status)
    assert.matches('did you mean "before"', err)
  end)
end)
