-- SPDX-License-Identifier: MIT
-- luacni test, and the specs that luacni new writes: what a site's author sees, with root and without.

local lfs = require "lfs"
local t = require "support"

local bin, work = "/run/spec/bin", "/run/spec/work"
local path = "PATH=" .. bin .. ":/usr/local/bin:/usr/bin:/bin"

local function luacni(words, opts)
  opts = opts or {}
  local line = "cd " .. work .. "; exec \"$@\""
  local command = { "/bin/sh", "-c", line, "sh" }
  if opts.user then
    table.move({ "setpriv", "--reuid=4321", "--regid=4321", "--clear-groups" }, 1, 4, #command + 1, command)
  end
  command[#command + 1] = "luacni"
  table.move(words, 1, #words, #command + 1, command)
  return t.sh(command, { env = { opts.path or path, "TERM=dumb", "CNI_IFNAME=mine", "LUA_PATH_5_4=?" }, timeout = 120 })
end

-- Run a spec of these tests, with a type of these.
local function try(spec, script, words)
  t.write(work .. "/own.lua", script)
  t.write(work .. "/own_spec.lua", 'local spec = require "luacni.spec"\n' .. spec)
  local command = { "test", "own_spec.lua", "--" }
  return luacni(table.move(words or {}, 1, #(words or {}), 4, command))
end

local function has(text, wanted) assert.is_truthy(text:find(wanted, 1, true), text) end

local wire = [[
local ipam = require "cni.ipam"
return { conf = require("cni.schema").record {}, add = function(req)
  local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
  req.host:set_link(port, { up = true })
  local lease = ipam.add(req)
  ipam.apply(lease, req.pod, eth)
  %s
  return { interfaces = { port, eth }, ips = lease.ips }
end }
]]
local node = [[local node = spec.node { type = "own", ipam = { type = "host-local", subnet = "10.9.8.0/24" } }
]]

before_each(function()
  t.run(("mkdir -p %s %s; cp %s/luacni %s; chmod 755 %s/luacni; chmod 777 %s")
    :format(bin, work, t.build, bin, bin, work))
end)
after_each(function()
  t.run(("rm -rf %s %s /etc/luacni/*"):format(bin, work))
  t.cleanup()
end)

describe("luacni new", function()
  if t.is_due(0, 3) then it("makes a spec that passes in /run itself too, and in folders there that the test has as well", function()
    luacni { "new", "wire" }
    for _, folder in ipairs { "/run", "/run/netns", "/run/luacni-test" } do
      t.run(("mkdir -p %s; mv /etc/luacni/plugins/wire.lua /etc/luacni/spec/wire_spec.lua %s"):format(folder, folder))
      local before = t.files "/run"
      for _, words in ipairs { { folder .. "/wire_spec.lua" }, { "./wire_spec.lua", cwd = folder } } do
        -- Killing takes long, and goes the same way everywhere.
        local out, status, err = t.sh { "env", "-C", words.cwd or "/", path, "TERM=dumb", "luacni", "test", words[1],
          "--", "--filter-out=killed" }
        assert.equal(0, status, out .. err)
        has(out, "2 successes / 0 failures / 0 errors")
      end
      t.same(before, t.files "/run")
      t.run(("mkdir -p /etc/luacni/spec; mv %s/wire.lua /etc/luacni/plugins; mv %s/wire_spec.lua /etc/luacni/spec")
        :format(folder, folder))
    end
    t.run "rmdir /run/luacni-test"
  end) end

  it("makes a type and its spec, which passes at once", function()
    local before = t.snapshot()
    t.same({ "/etc/luacni/plugins/wire.lua\n/etc/luacni/spec/wire_spec.lua\n", 0,
      "luacni run uses it at once; for a runtime: luacni link wire\n" }, { luacni { "new", "wire" } })
    local script = t.read "/etc/luacni/plugins/wire.lua"
    local out, status, err = luacni { "test", "wire" }
    assert.equal(0, status, out .. err)
    has(out, "3 successes / 0 failures / 0 errors")
    assert.is_nil(out:find("\27", 1, true))
    out, status = luacni { "test", "--", "--filter-out=killed" }
    t.same({ 0, true }, { status, out:find("2 successes", 1, true) ~= nil })
    assert.equal(script, t.read "/etc/luacni/plugins/wire.lua")
    os.remove "/etc/luacni/spec/wire_spec.lua"
    os.remove "/etc/luacni/plugins/wire.lua"
    t.same(before, t.snapshot())
    assert.is_nil(t.read "/run/luacni-test/bin/luacni")
  end)

  it("does so in a folder, where it takes no root to test", function()
    t.same({ "./mine.lua\n./mine_spec.lua\n", 0, "" }, { luacni({ "new", "mine", "--dir", "." }, { user = true }) })
    t.write("/etc/luacni/plugins/mine.lua", "the one beside the spec counts")
    local out, status, err = luacni({ "test", "mine_spec.lua", "--", "--filter-out=killed" }, { user = true })
    assert.equal(0, status, out .. err)
    has(out, "2 successes / 0 failures / 0 errors")
    assert.is_nil(io.open(work .. "/mine.lua"):read "a":find("counts", 1, true))
  end)

  local shipped = {}
  for name in lfs.dir "plugins" do shipped[#shipped + 1] = name:match "^(.*)%.lua$" end
  table.sort(shipped)
  -- A copy of dhcp asks a server, which its world has not until somebody writes one into the spec.
  for i = #shipped, 1, -1 do
    if shipped[i] == "dhcp" then table.remove(shipped, i) end
  end
  for _, type in t.due(shipped, 3) do
    local needs = ({ macvlan = "macvlan", ipvlan = "ipvlan", vlan = "vlan", dummy = "dummy", vrf = "vrf" })[type]
    it("gives a copy of " .. type .. " a spec that passes", function()
      if needs then t.needs(needs) end
      luacni { "new", "copy", "--from", type, "--dir", "." }
      local words = { "test", "copy_spec.lua" }
      -- Twenty ADDs: one type will do.
      if type ~= "bridge" then table.move({ "--", "--filter-out=killed" }, 1, 2, 3, words) end
      local out, status, err = luacni(words)
      assert.equal(0, status, out .. err)
      has(out, (type == "bridge" and 3 or 2) .. " successes / 0 failures / 0 errors")
    end)
  end

  it("gives a copy of a site's type the keys that its declaration requires", function()
    t.write("/etc/luacni/plugins/odd.lua", [[
      local schema = require "cni.schema"
      return { chained = true, add = function() end, conf = schema.record {
        level = schema.integer { min = 3, max = 9, required = true }, mode = schema.enum { values = { "one", "two" }, required = true },
        list = schema.list(schema.string, { required = true, doc = "what it is for" }), other = schema.string } }]])
    local _, status, err = luacni { "new", "odder", "--from", "odd", "--dir", "." }
    assert.equal(0, status, err)
    local text = t.read(work .. "/odder_spec.lua")
    for _, line in ipairs { '{ type = "ptp",', 'level = 3,', 'mode = "one",', "-- list = list of string: what it is for" } do
      has(text, line)
    end
    assert.is_nil(text:find("other", 1, true))
  end)

  it("leaves what is there", function()
    t.write(work .. "/mine_spec.lua", "somebody's")
    local _, status, err = luacni { "new", "mine", "--dir", "." }
    assert.equal(2, status)
    has(err, "./mine_spec.lua is there already")
    assert.is_nil(t.read(work .. "/mine.lua"))
    assert.equal("somebody's", t.read(work .. "/mine_spec.lua"))
    has(select(3, luacni { "new", "mine_spec" }), "is a spec, and no type")
  end)
end)

describe("luacni test", function()
  it("ends as busted does, whose options it takes", function()
    local spec = node .. [[
it("first", function() assert.equal(1, 2) end)
it("second", function() assert.is_nil(node:pod():link "eth0") end)]]
    t.write(work .. "/say.lua", "error 'a type has the name of a module of busted'")
    local out, status = try(spec, wire:format "")
    t.same({ 1, true }, { status, out:find("1 success / 1 failure", 1, true) ~= nil })
    out, status = try(spec, wire:format "", { "--filter=second" })
    t.same({ 0, true }, { status, out:find("1 success / 0 failures", 1, true) ~= nil })
    t.write(work .. "/good_spec.lua", "it('passes', function() end)")
    local _, several, err = luacni { "test", "own_spec.lua", "good_spec.lua" }
    assert.equal(1, several)
    has(err, work .. "/good_spec.lua\n")
  end)

  it("gives a node with an uplink, and pods that see what they should", function()
    local out, status, err = try(node .. [[
it("is", function()
  assert.is_true(node:reaches "192.0.2.2")
  assert.is_true(node:reaches "2001:db8::2")
  assert.is_false(node:reaches "10.9.8.77")
  local one, two = node:pod(), node:pod "blue"
  assert.is_false(one:reaches "192.0.2.2")
  one:add()
  two:add { ifname = "net1", args = "IgnoreUnknown=1;X=y" }
  assert.same({ "10.9.8.2/24" }, one:addresses "eth0")
  assert.same({ "10.9.8.3/24" }, two:addresses "net1")
  assert.is_nil(two:link "eth0")
  assert.equal("eth0", one:link("eth0").ifname)
  assert.equal("10.9.8.0/24", two:ip("route show")[1].dst)
  assert.equal("blue\n", two:sh "ip netns identify $$")
  one:check()
  two:check { ifname = "net1" }
  two:sh "ip address flush dev net1"
  assert.matches("10.9.8.3", two:check_fails { ifname = "net1" }, 1, true)
  assert.matches("is already attached", one:add_fails(), 1, true)
  -- An error is the spec's own line's.
  local function fails(f)
    local ok, err = pcall(f)
    assert.is_false(ok)
    assert.matches("^[^\n]*own_spec.lua:" .. debug.getinfo(f, "S").linedefined .. ": ", err)
    return err
  end
  fails(function() two:sh "exit 3" end)
  fails(function() one:ip "nonsense" end)
  fails(function() one:check_fails() end)
  fails(function() one:add() end)
  fails(function() two:check { ifname = "net1" } end)
  local left = fails(function() node:leaves_nothing() end)
  assert.matches("pod1 has: .*eth0", left)
  assert.matches("luacni list %-%-leases has: .*10.9.8.2", left)
  one:del()
  two:del { ifname = "net1" }
  node:leaves_nothing()
end)]], wire:format "")
    assert.equal(0, status, out .. err)
  end)

  it("finds what a type leaves, whole and killed", function()
    -- What a program has made, nobody takes back.
    local function ip(words)
      return ('req:call { program = "/usr/sbin/ip", args = { "link", %s, "left" %s } } '):format(words:match "^(%S+)(.*)$")
    end
    local made, gone = ip '"add" , "type", "veth", "peer", "name", "tfel"', ip '"del"'
    local wait = 'req:call { program = "/usr/bin/sleep", args = { "0.05" } } '
    local goes = node .. 'it("goes", function() local pod = node:pod() pod:add() pod:del() node:leaves_nothing() end)'
    local killed = node .. 'it("is killed", function() node:pod():killed() end)'
    local function ends(status, spec, what, text)
      local out, got = try(spec, wire:format(what))
      assert.equal(status, got, out)
      assert.is_truthy(out:find(text), out)
    end
    ends(1, goes, made, "something is left:\nhost has: left@tfel")
    ends(0, goes, made .. wait .. gone, "1 success")
    ends(1, killed, made, "not killed: .*host has: left@tfel")
    ends(1, killed, made .. wait .. gone, "killed after [%d.]+ ms: .*host has: left@tfel")
    ends(0, killed, wait, "1 success")
    ends(1, killed, "req.host:set_link('nobody', { up = true })", "nobody")
  end)

  it("finds a sysctl that a type leaves, and none that comes back, or stays by design", function()
    local goes = node .. 'it("goes", function() local pod = node:pod() pod:add() pod:del() node:leaves_nothing() end)'
    local sysctl = "net/ipv4/conf/up0/proxy_arp"
    for what, left in pairs {
      [('req:call { program = "/bin/sh", args = { "-c", "echo 1 >/proc/sys/%s" } }'):format(sysctl)] =
        "host has: " .. sysctl .. " = 1, which was 0",
      [("req.host:set_sysctl({ { %q, '1' } }, { keep = true })"):format(sysctl)] = "host has: " .. sysctl .. " = 1, which was 0",
      [("req.host:set_sysctl { { %q, '1' } }"):format(sysctl)] = "1 success / 0 failures",
      ["req.host:enable_forwarding 'inet' req.host:enable_forwarding 'inet6'"] = "1 success / 0 failures",
    } do
      local out, status = try(goes, wire:format(what))
      assert.equal(left:find "^1" and 0 or 1, status, out)
      has(out, left)
    end
  end)

  it("ends as pending what the kernel cannot do, and no other failure", function()
    local lacking
    for _, type in ipairs { "dummy", "vrf", "ipvlan", "macvlan" } do lacking = lacking or not t.has(type) and type end
    if not lacking then return t.current.pending "this kernel lacks none of them" end
    local makes = "req.host:add_link { kind = %q, name = 'k0', link = 'up0' }"
    local spec = node .. [[
it("adds", function() node:pod():add() end)
it("is killed", function() node:pod():killed() end)
it("fails", function() assert.matches("no links of kind", node:pod():add_fails()) end)]]
    local out, status = try(spec, wire:format((makes:format(lacking):gsub(lacking ~= "dummy" and "" or ", link = 'up0'", ""))))
    assert.equal(0, status, out)
    has(out, "1 success / 0 failures / 0 errors / 2 pending")
    has(out, "this kernel makes no links of kind " .. lacking)
    out, status = try(spec, wire:format "error 'another reason'")
    assert.equal(1, status, out)
    has(out, "0 successes / 1 failure / 2 errors / 0 pending")
  end)

  it("gives every file a world of its own, in which nothing of the machine's is", function()
    t.write("/var/lib/cni/networks/spec/10.9.8.2", "somebody\r\neth0")
    t.write("/etc/cni/net.d/10-mine.conflist", "{}")
    local out, status, err = try([[
it("is empty", function()
  local node = spec.node { type = "loopback" }
  assert.equal("", node:sh "find /var/lib/cni /etc/cni /run/netns -type f ! -path '/run/netns/*'")
  assert.equal("10.9.8.1\n", node:sh "echo 10.9.8.1 >/etc/cni/net.d/x; mkdir -p /var/lib/cni/networks; cat /etc/cni/net.d/x")
  assert.is_nil(node:link "host0")
end)]], wire:format "")
    assert.equal(0, status, out .. err)
    assert.equal("somebody\r\neth0", t.read "/var/lib/cni/networks/spec/10.9.8.2")
    assert.is_nil(t.read "/etc/cni/net.d/x")
    t.run "rm -rf /etc/cni/net.d"
  end)

  it("says what is missing", function()
    local _, status, err = luacni({ "test", "x_spec.lua" })
    t.same({ "luacni: test: there is no " .. work .. "/x_spec.lua\n", 2 }, { err, status })
    t.write("/etc/luacni/spec/wire_spec.lua", "")
    _, status, err = luacni({ "test", "wier" })
    assert.equal(2, status)
    has(err, 'did you mean "wire"?')
    _, status, err = luacni({ "test", "wire" }, { path = "PATH=" .. bin .. ":/bin/nothing" })
    assert.equal(1, status)
    has(err, "lua5.4 is not in PATH, and specs need it; apt-get install lua-busted lua5.4")
    os.remove "/etc/luacni/spec/wire_spec.lua"
    t.same({ "", 0, "there is no spec in /etc/luacni/spec\n" }, { luacni { "test" } })
  end)
end)
