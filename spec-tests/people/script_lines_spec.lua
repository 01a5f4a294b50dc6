-- SPDX-License-Identifier: MIT
-- What fails in the middle of a script's verb (a lease, a number, a program, a service, another plugin, the
-- kernel) says which line of the script asked for it. What is not the script's doing, the configuration or
-- what CHECK finds, has no line.

local t = require "support"
local world = require "world"

local bin = "/run/spec/bin"
local own = "/etc/luacni/plugins/own.lua"
local full = { type = "host-local", subnet = "10.1.0.0/30" }

-- A script whose line 3 is `step`.
local function new(step, conf, path)
  t.write(own, ("local ipam, json = require 'cni.ipam', require 'cni.json'\nreturn { add = function(req)\n%s\n"
    .. "return req.prev end }"):format(step))
  return world.new(t.merge({ type = "own" }, conf), { neighbours = false, lived_in = false, path = path, pods = 2 })
end

local function call(w, verb, c) return w:call(verb, t.merge({ type = "luacni" }, c)) end

local function said(w, verb, c)
  local got = call(w, verb, c)
  assert.not_equal(0, got.rc)
  return got.json.msg
end

local function foreign()
  t.run("rm -rf " .. bin)
  t.write(bin .. "/fake", [[
#!/bin/sh
cat >/dev/null
[ $CNI_COMMAND = DEL ] || { echo '{"code":123,"msg":"no more"}'; exit 1; }
]])
  t.run("chmod +x " .. bin .. "/fake")
end

before_each(function() t.wipe() end)
after_each(t.cleanup)

describe("The line of the script is in what is said when", function()
  for what, case in pairs {
    ["a program fails"] = { 'req:call { program = "/bin/false" }', "req:call: /bin/false failed: exit status 1" },
    ["a program is not there"] = { 'req:call { program = "/bin/none" }', "req:call: /bin/none: " },
    ["a service does not answer"] = { 'req:http { socket = "/run/spec/none", url = "/x" }', "req:http: GET " },
    ["a pool is full"] = { 'req:number("x", req.raw.key or "a", 1, 1)',
      "req:number: pool x has no number left",
      holds = "b" },
    ["a range is full"] = { "ipam.add(req)", "ipam.add: ", conf = { ipam = full }, taken = true },
    ["what another type does fails at once"] = { "req:delegate('ptp')", "req:delegate: ", conf = { ipam = full },
      taken = true },
    ["a foreign type fails"] = { 'req:delegate("fake")', "req:delegate: no more", code = 123 },
    ["a foreign type is not there"] = { 'req:delegate("fale")', 'req:delegate: failed to find plugin "fale"' },
    ["a foreign type for addresses fails"] = { "ipam.add(req)", "ipam.add: no more", code = 123,
      conf = { ipam = { type = "fake" } } },
    ["another type refuses what the script has changed"] =
      { 'req:delegate("bridge", { mtu = "x" })', "req:delegate: changes: mtu: " },
    ["it names no type"] = { 'req:delegate("../x")', 'req:delegate: type: "../x" is not the name of a plugin' },
  } do
    it(what, function()
      t.wipe()
      foreign()
      local w = new(case[1], case.conf, bin)
      if case.taken then
        t.write("/var/lib/cni/networks/net/10.1.0.2", "other\r\neth0")
      end
      if case.holds then call(w, "ADD", { id = "c2", pod = 2, conf = { key = case.holds } }) end
      local before = w:picture()
      for _, text in ipairs { own .. ":3: ", own .. ":2: " } do
        local got = call(w, "ADD")
        local wanted = text .. case[2]
        assert.equal(wanted, got.json.msg:sub(1, #wanted), got.out)
        assert.equal(1, select(2, got.json.msg:gsub("own%.lua", "")))
        if case.code then assert.equal(case.code, got.json.code) end
        t.same(before, w:picture())
        -- Called last, the line is known no more: it is the function's.
        t.write(own, (t.read(own):gsub("\n([^\n]*)\nreturn req.prev", "\nreturn %1")))
      end
    end)
  end

  it("what another type has asked for is refused by the kernel later", function()
    local w = new('local r = req:delegate("bridge", { removeUnused = true })\n if r then return r end')
    w:in_pod "ip link add eth0 type veth peer name p1"
    local before = w:picture()
    assert.equal(own .. ":3: req:delegate: create veth pair ", said(w, "ADD"):sub(1, #own + 35))
    t.same(before, w:picture())
    t.write(own, 'return { add = function(req)\n return req:delegate("bridge", { removeUnused = true }) end }')
    assert.equal(own .. ":1: req:delegate: create veth pair ", said(w, "ADD"):sub(1, #own + 35))
  end)
end)

describe("No line of a script is in what is said", function()
  it("of a type that came with the program", function()
    local w = world.new({ type = "bridge", ipam = full }, { neighbours = false, lived_in = false })
    t.write("/var/lib/cni/networks/net/10.1.0.2", "other\r\neth0")
    assert.is_nil(said(w, "ADD"):find("%.lua:"))
  end)

  it("of the configuration", function()
    local w = new("ipam.add(req)", { ipam = { type = "host-local", subnet = "10.1.0.0/33" } })
    local got = call(w, "ADD")
    t.same({ 7, nil }, { got.json.code, (got.json.msg:find("%.lua:")) })
    t.cleanup()
    -- The delegate's own key is wrong, and the script has left it as it was.
    w = new('req:delegate("bridge", { isGateway = true })', { mtu = "x", ipam = full })
    got = call(w, "ADD")
    t.same({ 7, nil }, { got.json.code, (got.json.msg:find("%.lua:")) })
    assert.matches("^mtu: ", got.json.msg)
  end)

  it("of what CHECK finds", function()
    local w = new('req:number("x", "a", 1, 1) req:call { program = "/bin/true", check = { program = "/bin/false" } }')
    assert.equal(0, call(w, "ADD").rc)
    assert.is_nil(said(w, "CHECK"):find("%.lua:"))
    t.run "rm -r /run/luacni/shared"
    assert.matches("^no number of pool x", said(w, "CHECK"))
    call(w, "DEL")
  end)
end)

describe("What is in the way of", function()
  -- What the script does, what somebody has done in the host before, and the hint; nil: it is no error.
  for what, case in pairs {
    ["an address that the link of others has"] = { 'req.host:add_addr("p0", "10.3.0.1/24")',
      "ip addr add 10.3.0.1/24 dev p0", "p0 had 10.3.0.1/24 before; what attachments share is made with ensure_addr" },
    ["an address of IPv6, in another network too"] = { 'req.host:add_addr("p0", "fd03::1/64", { nodad = true })',
      "ip addr add fd03::1/60 dev p0 nodad",
      "p0 had fd03::1/60 before; what attachments share is made with ensure_addr" },
    ["an address that is given twice"] = { 'req.pod:add_addr("lo", "10.3.0.1/24") req.pod:add_addr("lo", "10.3.0.1/24")',
      "true", "lo has been given 10.3.0.1/24 before in this ADD" },
    ["no address of another network"] = { 'req.host:add_addr("p0", "10.3.0.1/24")', "ip addr add 10.3.0.1/25 dev p0" },
    ["a tunnel's forwarding entry"] = { 'req.host:add_fdb("x0", { mac = "02:00:00:00:00:78", dst = "192.0.2.9" })',
      "bridge fdb add 02:00:00:00:00:78 dev x0 dst 192.0.2.8",
      "x0 has an entry for 02:00:00:00:00:78 already, to 192.0.2.8", needs = "vxlan" },
    ["a tunnel's forwarding entry that is shared"] =
      { 'req.host:ensure_fdb("x0", { mac = "02:00:00:00:00:78", dst = "192.0.2.9" })',
      "bridge fdb add 02:00:00:00:00:78 dev x0 dst 192.0.2.8",
      "x0 has an entry for 02:00:00:00:00:78 already, to 192.0.2.8", needs = "vxlan" },
    ["no forwarding entry for another MAC"] =
      { 'req.host:add_fdb("x0", { mac = "02:00:00:00:00:78", dst = "192.0.2.9" })',
      "bridge fdb add 02:00:00:00:00:79 dev x0 dst 192.0.2.8", needs = "vxlan" },
  } do
    it(what .. " is told", function()
      t.needs(case.needs)
      local w = new(case[1])
      w:sh(t.pair("p0", "p1") .. (case.needs and "ip link add x0 type vxlan id 7 dstport 4789 dev p0; " or "") .. case[2])
      local before = w:picture()
      local got = call(w, "ADD")
      t.same({ case[3] and 1 or 0, case[3] }, { got.rc, got.json and got.json.details })
      call(w, "DEL")
      t.same(before, w:picture())
    end)
  end
end)
