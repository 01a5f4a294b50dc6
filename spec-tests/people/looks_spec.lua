-- SPDX-License-Identifier: MIT
-- A script's `gc` and `status` look at the host by req.host, as its `add` does; what changes something is refused
-- there, and nothing is done.

local t = require "support"
local world = require "world"

local function write(verb, body)
  t.write("/etc/luacni/plugins/own.lua", ([[
local fail, ipam = require "cni.fail", require "cni.ipam"
return {
  add = function(req)
    local p, e = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
    return { interfaces = { p, e } }
  end,
  %s = function(req)
    %s
  end,
}]]):format(verb, body))
end

local function new(verb, body)
  write(verb, body)
  return world.new({ type = "own", ipam = { type = "host-local", subnet = "10.9.0.0/24" } }, { neighbours = false })
end

local looks <const> = [[
    local h, fail = req.host, require "cni.fail"
    local lo = h:link "lo"
    local one = h:addrs("lo", "inet")[1]
    local default = h:default_link()
    local count = #h:routes { family = "inet", table = 254 }
    h:free_table()
    fail.throw(("lo %s %s, %s, %d routes, pod %s"):format(lo.index, one and one.address, default and default.name,
      count, tostring(req.pod)))]]

-- Verbs that change something, and how the refusal names them.
local changes <const> = {
  ["req.host:add_link { kind = 'bridge', name = 'mine' }"] = "add_link",
  ["req.host:ensure_link { kind = 'bridge', name = 'mine' }"] = "ensure_link",
  ["req.host:set_link('lo', { up = true })"] = "set_link",
  ["req.host:set_sysctl { { 'net/ipv4/ip_forward', '1' } }"] = "set_sysctl",
  ["req.host:add_route { dst = '10.77.0.0/16', type = 'blackhole' }"] = "add_route",
  ["req.host:enable_forwarding 'inet'"] = "enable_forwarding",
  -- Called last, it has left the stack.
  ["return req.host:add_link { kind = 'bridge', name = 'mine' }"] = "a verb",
  ["req:call { program = '/bin/touch', args = { '/run/spec/touched' } }"] = "req:call",
  ["req:http { url = 'http://127.0.0.1:1/' }"] = "req:http",
  ["req:number('pool', 'key', 1, 9)"] = "req:number",
  ["req:lease { dir = '/run/spec/leases', network = 'net', sets = require 'cni.ranges'.read { { where = 'ours', "
    .. "sets = { { { subnet = '10.9.0.0/24' } } } } } }"] = "req:lease",
  ["req:once('value', function() return 1 end)"] = "req:once",
  ["require('cni.ipam').add(req)"] = "ipam.add",
}

before_each(function() t.wipe() end)

for verb, command in pairs { status = "STATUS", gc = "GC" } do
  local function call(w, code)
    return w:fails(command, { type = "luacni", conf = command == "GC" and { ["cni.dev/valid-attachments"] = t.list() }
      or nil }, code)
  end

  describe("A script's " .. verb, function()
    it("finds links, addresses and routes of the host by req.host", function()
      local w = new(verb, looks)
      w:sh "ip link set lo up"
      local uplink = t.ip(w.host, "-4 route show default")[1].dev
      assert.equal(("lo 1 127.0.0.1/8, %s, %d routes, pod nil"):format(uplink,
        #t.ip(w.host, "-4 route show table main")), call(w).msg)
    end)

    it("is refused what changes something, which is not done", function()
      local w = new(verb, "")
      local before = w:picture()
      for text, name in pairs(changes) do
        write(verb, text)
        local e = call(w)
        assert.truthy(e.msg:find(("own.lua:%d: %s: a script's '%s' only looks"):format(
          text:find "^return" and 7 or 8, name, verb), 1, true), text .. ": " .. e.text)
        assert.equal("", (t.run("ls -d /run/spec/touched 2>/dev/null || true")))
        t.same(before, w:picture())
      end
    end)
  end)
end
