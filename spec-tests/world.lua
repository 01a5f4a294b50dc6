-- SPDX-License-Identifier: MIT
-- A host namespace, pods, and a runtime's memory: what the specs of interface
-- plugins play with. Every call remembers results, so that CHECK and DEL carry
-- the prevResult that a runtime would send.

local lived_in = require "lived_in"
local neighbours = require "neighbours"
local spawn = require "spawn"
local t = require "support"

local M = {}
local World = {}
World.__index = World

-- What opts.far asks for. Link-local addresses are given, as the kernel's own come some time later.
local far = { host = [[
link add up0 type veth peer name up0 netns far
addr add 192.0.2.1/24 dev up0
addr add 2001:db8::1/64 dev up0 nodad
addr add fe80::1/64 dev up0 nodad
link set up0 addrgenmode none up
]], far = [[
addr add 192.0.2.2/24 dev up0
addr add 2001:db8::2/64 dev up0 nodad
addr add fe80::2/64 dev up0 nodad
link set up0 addrgenmode none up
route add default via 192.0.2.1
route add default via 2001:db8::1
]] }

--- A new world.
-- conf: the configuration of its network (cniVersion 1.1.0 and a name are filled in);
-- opts: pods (number of them, 1), forwarding (true: already on), far (a network
-- behind the host's link up0, at 192.0.2.2 and 2001:db8::2; the host's administrator lets pass what
-- goes by up0), accepts (list of other links that he lets pass), lived_in (false: a bare host, and the
-- spec says why), neighbours (see neighbours.lua; which there are: { network = false } or { interface =
-- false } leaves one out, false both, and the spec says why), bin, path.
function M.new(conf, opts)
  opts = opts or {}
  local function at(name) return { name = name, path = "/run/netns/" .. name } end
  local w = setmetatable({ conf = conf, bin = opts.bin, path = opts.path, results = {},
    pods = {}, host = at("host") }, World)
  local accepts = { table.unpack(opts.accepts or {}) }
  if opts.far then accepts[#accepts + 1] = "up0" end
  local plan, passing = neighbours.plan(conf, opts)
  -- The reference's plugins lose what a router advertised, unless the administrator takes care.
  t.host("host", { forwarding = opts.forwarding, accepts = accepts, passing = passing, lived_in = opts.lived_in,
    accept_ra = opts.bin == "reference" and 2 or nil })
  for i = 1, opts.pods or 1 do
    w.pods[i] = at("pod" .. i)
    -- The kernel's own 127.0.0.1 comes with the first time up, and stays.
    t.netns("pod" .. i, { lo = "down" })
  end
  if opts.forwarding and opts.lived_in == false then
    spawn.sysctl(w.host.path, "net/ipv4/ip_forward", "1")
    spawn.sysctl(w.host.path, "net/ipv6/conf/all/forwarding", "1")
  end
  if opts.far then
    w.far = t.netns("far", { lo = "up" })
    for _, side in ipairs { "host", "far" } do
      t.run({ "ip", "-b", "-" }, { host = w[side], stdin = far[side] })
      spawn.sysctl(w[side].path, "net/ipv6/conf/up0/accept_dad", "0")
    end
  end
  if plan then neighbours.put(w, plan) end
  return w
end

--- The configuration of a call: the world's, changed by `more` (false takes a key out).
function World:config(more)
  local conf = { cniVersion = "1.1.0", name = "net" }
  for key, value in pairs(self.conf) do conf[key] = value end
  for key, value in pairs(more or {}) do conf[key] = value ~= false and value or nil end
  return conf
end

local function key_of(c) return (c.id or "c1") .. " " .. (c.ifname or "eth0") end

--- Make a call without judging it. c: pod (number, 1; false: no CNI_NETNS; a path),
-- id, ifname, conf (changes to the configuration), args, env, under, prev (false: none).
function World:call(verb, c)
  c = c or {}
  local conf = type(c.conf) == "string" and c.conf or self:config(c.conf)
  if type(conf) == "table" and (verb == "CHECK" or verb == "DEL") and c.prev ~= false then
    conf.prevResult = c.prev or self.results[key_of(c)]
  elseif type(conf) == "table" and c.prev then
    conf.prevResult = c.prev
  end
  local pod = c.pod == nil and 1 or c.pod
  local none = verb == "GC" or verb == "STATUS" or nil
  local call = { verb = verb, type = c.type or self.conf.type, conf = conf,
    host = self.host, netns = not none and (self.pods[pod] or pod) or false,
    id = none and false or c.id, ifname = none and false or c.ifname, args = c.args,
    env = c.env, path = c.path or self.path, bin = c.bin or self.bin }
  local got = t.cni(t.merge(call, { under = c.under }))
  local key = none and "the network" or key_of(c)
  local added = verb == "ADD" and got.rc == 0
  if added then self.results[key] = got.json end
  if verb == "ADD" or verb == "DEL" then
    neighbours.leave(self, key)
  elseif verb == "GC" then
    neighbours.leave(self, nil, type(conf) == "table" and conf["cni.dev/valid-attachments"])
  end
  self:nobody_noticed(("%s of %s"):format(verb, key), key)
  if added then neighbours.joined(self, key, call, got.json) end
  return got
end

--- Raise unless all the neighbours have what they had before something was done. Every call ends with this.
-- key: the attachment of the spec's own that it was about
function World:nobody_noticed(what, key)
  local noticed = neighbours.noticed_in(self, true, key)
  if #noticed > 0 then error(("after %s %s"):format(what, table.concat(noticed, "\n")), 0) end
end

--- Take the other interface of the first pod away: the spec is to remove that pod, and compares.
function World:leave_interface() neighbours.detach(self, neighbours.interface) end

--- What the spec does to this attachment is not by a call of the world's: it is no neighbour from now on.
function World:let_go(c) neighbours.leave(self, key_of(c or {})) end

--- What the spec itself did to what is others' on the host, and to neighbours, is so from now on.
function World:so_be_it()
  lived_in.so_be_it(self.host)
  neighbours.so_be_it(self)
end

--- A call that has to succeed; returns the decoded answer.
function World:ok(verb, c)
  local got = self:call(verb, c)
  if got.rc ~= 0 then
    error(("%s ends with %d: %s%s"):format(verb, got.rc, got.out, got.err), 2)
  end
  if verb ~= "ADD" then assert(got.out == "", verb .. " printed " .. got.out) end
  return got.json
end

--- A call that has to fail with a CNI error; returns it. `code` may be nil.
function World:fails(verb, c, code)
  local got = self:call(verb, c)
  if got.rc == 0 then error(verb .. " succeeds: " .. got.out, 2) end
  if not got.json or math.type(got.json.code) == nil or type(got.json.msg) ~= "string" then
    error(("%s gives no error object: %s%s"):format(verb, got.out, got.err), 2)
  end
  if code and got.json.code ~= code then
    error(("%s: code %s, not %d: %s"):format(verb, got.json.code, code, got.json.msg), 2)
  end
  got.json.text = got.json.msg .. "\n" .. tostring(got.json.details or "")
  return got.json
end

function World:add(c) return self:ok("ADD", c) end
function World:del(c) return self:ok("DEL", c) end
function World:check(c) return self:ok("CHECK", c) end

--- GC with a list of { id, ifname } that are valid.
function World:gc(valid, c)
  local list = {}
  for i, v in ipairs(valid) do list[i] = { containerID = v[1], ifname = v[2] or "eth0" } end
  c = c or {}
  c.conf = c.conf or {}
  c.conf["cni.dev/valid-attachments"] = t.list(list)
  return self:ok("GC", c)
end

--- A picture of the host, all pods, leases and records.
function World:picture()
  local ns = { self.host }
  for _, pod in ipairs(self.pods) do ns[#ns + 1] = pod end
  return t.snapshot({ ns = ns })
end

--- A picture with an attachment in it: the kernel gives the bridge an address of its own some time after the
-- first port came up, and until then two pictures may differ by it. bridge: another one than the world's
function World:settled(bridge)
  self:sh(("for i in $(seq 300); do ip -6 addr show dev %s | grep -q fe80 && exit; sleep 0.05; done; exit 1"):format(
    bridge or self.conf.bridge))
  return self:picture()
end

--- Lose all records, or all rules of ours: the neighbours' too. shot: a picture, which loses the same.
function World.lose_records(_, shot)
  t.run("rm -rf /run/luacni")
  if shot then shot.records = {} end
end

function World:lose_rules(shot)
  self:sh(t.flush)
  neighbours.so_be_it(self)
  local rules = shot and shot.kernel[self.host.name].nft or {}
  for rule in pairs(rules) do
    if rule:find('"luacni"', 1, true) then rules[rule] = nil end
  end
end

--- Shell in the host namespace, and in a pod.
function World:sh(command) return t.run(command, { host = self.host }) end
function World:in_pod(command, pod) return t.run(command, { host = self.pods[pod or 1] }) end

--- The host end of a pod's interface, as ip -j -d link shows it.
function World:port(pod, ifname)
  local eth = t.link(self.pods[pod or 1], ifname or "eth0")
  if not eth then return nil end
  for _, link in ipairs(t.ip(self.host, "-d link show type veth")) do
    if link.ifindex == eth.link_index then return link end
  end
end

--- Addresses "a/len" of a link, those of the link itself (fe80::) left out.
function M.addrs(ns, name)
  local found = {}
  for _, link in ipairs(t.ip(ns, "addr show dev " .. name)) do
    for _, a in ipairs(link.addr_info) do
      if a.scope == "global" then
        found[#found + 1] = ("%s/%d"):format(a["local"], a.prefixlen)
      end
    end
  end
  table.sort(found)
  return found
end

--- A lease file's content, or nil.
function M.lease(address, network)
  return t.read(("%s/%s/%s"):format(t.lease_dir, network or "net", address))
end

return M
