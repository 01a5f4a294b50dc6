-- SPDX-License-Identifier: MIT
--- Addresses for an attachment: ask the IPAM plugin that the configuration names, put what it
-- gives on a link. Our own IPAM scripts run inside this process; a foreign one is executed.
--
-- @module cni.ipam

local addr = require "cni.addr"
local args = require "cni.engine.args"
local common = require "cni.common"
local fail = require "cni.fail"
local schema = require "cni.schema"
local scripts = require "cni.engine.script"

local M = {}

--- Addresses that an attachment has got.
-- @type lease
-- @field ips list of { address, gateway }, an address with its prefix length; `there`: the kernel has put it
-- on the link itself; `leased`: of add_addr; `advertised`: its network and way out come by routers'
-- advertisements
-- @field routes list of { dst, gw }
-- @field dns as in a result; nil when there is none
-- @field mtu for the link, where the source of the addresses tells one; the configuration's counts before it
-- @field stays_up true: what it is about would be lost if the link were taken down once more
-- @field none true for a layer-2 network, which has none of these
local Lease = { __name = "lease" }
Lease.__index = Lease

-- What the functions here take -------------------------------------------------------

local function a_lease(value)
  if type(value) == "table" and type(value.ips) == "table" then return value end
  return nil, args.expected("a lease, as ipam.add gives it", value)
end

local function link_of_pod(value, _, values)
  return args.object(value, values[2])
end

local apply_options = args.optional(args.record { dad = args.boolean, announce = args.boolean,
  routes = args.list(args.record({}, { loose = args.always })) })

local takes = {
  add = args.call("ipam.add", { "req", args.request }, { "options", apply_options }),
  apply = args.call("ipam.apply", { "lease", a_lease }, { "pod", args.handle }, { "link", link_of_pod },
    { "options", apply_options }),
  default_via = args.call("lease:default_via", { "lease", a_lease }, { "gateway", args.ip }),
  forward = args.call("ipam.forward", { "req", args.request }, { "lease", a_lease }),
  answer = args.call("ipam.answer", { "req", args.request }, { "lease", a_lease },
    { "interfaces", args.list(args.any_link) }),
}

--- The type of IPAM plugin that a configuration names.
-- @tparam table req the request
-- @treturn string|nil nil: none, a layer-2 network
function M.type_of(req)
  if req.raw.ipam == nil then return nil end
  return schema.read(common.ipam, req.raw.ipam, "ipam").type
end

-- The request as our own IPAM script sees it: its type and configuration, everything else as it is.
local function own_request(req, script, read)
  return setmetatable({
    type = req.raw.ipam.type,
    conf = script.conf and (read or schema.read)(script.conf, req.raw) or req.raw,
  }, { __index = req })
end

-- What the runtime knows to have been given, but for what another attachment has by now.
local function reported(req)
  local leases = require "cni.leases"
  local place, ips = leases.place(req.raw), {}
  for _, ip in ipairs(req.prev and req.prev.ips or {}) do
    local id = leases.holder(place, addr.parse(ip.address):text())
    if not id or id == req.container_id then
      ips[#ips + 1] = { address = ip.address, gateway = ip.gateway }
    end
  end
  return ips
end

-- What a configuration and a script that may have gone bad, and leases that may be lost, still let us find.
local function held(req, name)
  local loads, script = fail.try(req.load_plugin, name)
  if loads and not script then
    local delegate = require "cni.step.delegate"
    local there, why = fail.try(delegate.executable, name, req)
    if there then return delegate.obtain(req.plan, name, req) end
    req.log("luacni: DEL goes without the IPAM plugin: " .. tostring(why))
    loads = false
  end
  local own = script
  if loads then loads, own = fail.try(scripts.bounded, own_request, req, script, schema.salvage) end
  if not loads and own then
    req.log(("luacni: DEL goes without the script of %s: %s"):format(name, tostring(own)))
  end
  local ok, lease = false, nil
  if loads then ok, lease = fail.try(scripts.add, script, own) end
  lease = ok and lease or {}
  if not ok and loads and script.del then
    scripts.call(script, "del", req)
  elseif not ok then
    req:lease(require("cni.leases").place(req.raw))
  end
  if #(lease.ips or {}) == 0 then lease.ips = reported(req) end
  return lease
end

local function has_ipv6(lease)
  for _, ip in ipairs(lease.ips) do
    if addr.parse(ip.address).family == "inet6" then return true end
  end
  return false
end

-- Sysctls of the link before it is up.
local function prepare_link(pod, link, options, ipv6)
  local conf4, conf6 = "net/ipv4/conf/" .. link.name, "net/ipv6/conf/" .. link.name
  local list = {}
  local function set(path, value, optional) list[#list + 1] = { path, value, optional } end
  if options.dad then
    set(conf6 .. "/accept_dad", "1", true)
    set(conf6 .. "/enhanced_dad", "1", true)
  end
  if options.announce then
    set(conf4 .. "/arp_notify", "1", true)
    if ipv6 then set(conf6 .. "/ndisc_notify", "1", true) end
  end
  if ipv6 then
    set("net/ipv6/conf/lo/disable_ipv6", "0", true)
    set(conf6 .. "/disable_ipv6", "0", true)
    set(conf6 .. "/keep_addr_on_down", "1", true)
  end
  if #list > 0 then pod:set_sysctl(list, { link = link }) end
end

-- Without detection an address is accepted at once. But for the link's own one it goes on: when that is
-- accepted the kernel asks for routers, and what a later plugin of the chain says of those comes first.
local function end_detection(pod, link)
  pod:await_dad(link)
  pod:set_sysctl({ { "net/ipv6/conf/" .. link.name .. "/accept_dad", "0", true } }, { link = link })
end

-- What others say, in our words: no interfaces, destinations without host bits, no gateway of 0.0.0.0 or ::.
local function normal(lease)
  for _, ip in ipairs(lease.ips or {}) do
    ip.interface = nil
    if ip.gateway and addr.is_unspecified(addr.ip(ip.gateway)) then ip.gateway = nil end
  end
  for _, route in ipairs(lease.routes or {}) do
    route.dst = tostring(addr.parse(route.dst):network())
  end
  return lease
end

-- Who gives the addresses may want to use the interface: what the plan has so far is done, and the link up.
local function make_ready(req, options)
  local plan, pod, name = req.plan, req.pod, req.ifname
  if plan.mode == "erase" then return false end
  local made = pod.fresh[name]
  if made then
    prepare_link(pod, { name = name }, options, false)
    pod:set_link(name, { up = true })
  end
  plan:flush()
  return made
end

local function ask_others(req, name, options)
  local delegate = require "cni.step.delegate"
  -- What cannot be executed has given nothing that an undo would have to return.
  if req.plan.mode == "apply" then delegate.executable(name, req) end
  local early = make_ready(req, options)
  local lease = normal(delegate.obtain(req.plan, name, req))
  lease.early = early
  return lease
end

local function obtain(req, options)
  local name = M.type_of(req)
  if not name then return setmetatable({ ips = {}, routes = {}, none = true }, Lease) end
  local script = req.plan.mode ~= "erase" and req.load_plugin(name)
  local lease
  if req.plan.mode == "erase" then
    lease = held(req, name)
  elseif not script then
    lease = ask_others(req, name, options or {})
  else
    local early = script.on_link and make_ready(req, options or {})
    lease = scripts.add(script, own_request(req, script)) or {}
    lease.early = early
  end
  -- Said again where the configuration says another, so that an update from the one to the other is seen.
  local own = math.type(req.raw.mtu) == "integer" and req.raw.mtu > 0 and req.raw.mtu
  local mtu = lease.mtu and (own or lease.mtu) or nil
  lease = { ips = lease.ips or {}, routes = lease.routes or {}, dns = lease.dns, early = lease.early,
    stays_up = lease.stays_up, mtu = mtu }
  if #lease.ips == 0 and req.plan.mode == "apply" then
    fail.throw { code = fail.codes.internal,
      msg = ("IPAM plugin %s gave no address"):format(name) }
  end
  return setmetatable(lease, Lease)
end

--- Get addresses (ADD), the addresses held (CHECK, DEL) or those that would be got (dry run). Call it
-- when the link is made that they are for: a foreign plugin, and one that speaks DHCP, finds it in the
-- sandbox and up. Our others do not need it, and run ahead of all that is not done yet.
-- @tparam table req the request
-- @tparam[opt] table options those that `apply` will get
-- @treturn lease all empty for a layer-2 network, which `none` tells
function M.add(req, options)
  req, options = takes.add(req, options)
  return args.at_once(req.plan, "ipam.add", obtain, req, options)
end

--- Make sure of a default route through a gateway, unless there is a default route of the
-- family already.
-- @tparam string gateway an address
-- @raise no address
function Lease:default_via(gateway)
  gateway = select(2, takes.default_via(self, gateway))
  local default = addr.default(#addr.ip(gateway) == 4 and "inet" or "inet6")
  for _, route in ipairs(self.routes) do
    if addr.parse(route.dst) == default then return end
  end
  self.routes[#self.routes + 1] = { dst = tostring(default), gw = gateway }
end

-- The gateway of a route that names none: the first of its family among the addresses.
local function gateways(ips)
  local first = {}
  for _, ip in ipairs(ips) do
    local family = addr.parse(ip.address).family
    if ip.gateway and not first[family] then first[family] = ip.gateway end
  end
  return first
end

-- Whether an address is in a network of the lease, and none of its gateways.
local function is_neighbour(ips, gw)
  local bytes, inside = addr.ip(gw), false
  for _, ip in ipairs(ips) do
    if ip.gateway and addr.ip(ip.gateway) == bytes then return false end
    inside = inside or addr.parse(ip.address):contains(bytes)
  end
  return inside
end

-- What is on the link (scope 253, and 254 for the host itself) has no next hop; nor has what names none.
local function next_hop(route, gateway)
  if not route.gw then return (route.scope or 0) < 253 and gateway or nil end
  return not addr.is_unspecified(addr.ip(route.gw)) and route.gw or nil
end

-- alone: the own networks are not on the link; the route by a neighbour there has to say it is.
local function add_routes(lease, pod, link, alone)
  local via, seen = gateways(lease.ips), {}
  for _, route in ipairs(lease.routes) do
    local dst = addr.parse(route.dst)
    local gw = next_hop(route, via[dst.family])
    local key = table.concat({ route.dst, gw or "", route.table or 254, route.priority or 0 }, " ")
    if not seen[key] then
      seen[key] = true
      pod:add_route({
        dst = route.dst, gw = gw, link = link, mtu = route.mtu, advmss = route.advmss,
        priority = route.priority, scope = route.scope,
        table = route.table ~= 0 and route.table or nil,
        onlink = alone and gw and is_neighbour(lease.ips, gw) or nil,
      }, { reported = true })
    end
  end
end

--- Put a lease on a link of the sandbox: addresses, up, routes. Without a lease it is only
-- brought up.
-- @tparam table lease from `add`
-- @tparam table pod the sandbox's handle
-- @tparam table link the link there
-- @tparam[opt] table options `dad`: detect duplicate IPv6 addresses, and wait for the outcome; false: do not,
-- the addresses to come included; absent: those of the lease need none, and of others the kernel decides;
-- `announce`: tell the neighbours of the addresses when the link comes up; `routes`: what
-- `pod:add_route` takes, to be added before the lease's, the only ones then: the addresses bring
-- no routes to their networks
function M.apply(lease, pod, link, options)
  lease, pod, link, options = takes.apply(lease, pod, link, options)
  options = options or {}
  if not lease.none then prepare_link(pod, link, options, has_ipv6(lease)) end
  -- What is announced is what the link has when it comes up.
  local announces = lease.early and options.announce
  if announces and not lease.stays_up then pod:set_link(link, { up = false }) end
  local given, added = {}, {}
  for _, ip in ipairs(lease.ips) do
    ip.interface = link
    -- Without detection it is usable at once, as the source of a route, too.
    local nodad = not options.dad and addr.parse(ip.address).family == "inet6"
    if not given[ip.address] and not ip.there then
      pod:add_addr(link, ip.address, { nodad = nodad or nil, leased = ip.leased,
        noprefixroute = options.routes and true or nil })
      added[#added + 1] = addr.parse(ip.address):text()
    end
    given[ip.address] = true
  end
  pod:set_link(link, { up = true, mtu = lease.mtu })
  for _, route in ipairs(options.routes or {}) do
    route.link = link
    pod:add_route(route)
  end
  add_routes(lease, pod, link, options.routes ~= nil)
  if options.dad and has_ipv6(lease) then pod:await_addrs(link) end
  if announces and lease.stays_up and added[1] then
    pod.plan:push { kind = "announce", ns = pod.name, want = { link = link.name, addresses = added } }
  end
  if options.dad == false and not lease.none then end_detection(pod, link) end
end

--- Let the host forward packets of every family that a lease has an address of.
-- @tparam table req the request
-- @tparam lease lease
function M.forward(req, lease)
  req, lease = takes.forward(req, lease)
  local seen = {}
  for _, ip in ipairs(lease.ips) do
    local family = addr.parse(ip.address).family
    if not seen[family] then req.host:enable_forwarding(family) end
    seen[family] = true
  end
end

--- The addresses and routes that the chain has so far, as a lease: for a plugin that puts them
-- on a link of its own.
-- @tparam table req
-- @treturn table|nil lease; nil when the chain has none
function M.of_chain(req)
  local prev = req.prev
  if not prev or not prev.ips or #prev.ips == 0 then return nil end
  local lease = { ips = {}, routes = {}, dns = prev.dns }
  for i, ip in ipairs(prev.ips) do
    lease.ips[i] = { address = ip.address, gateway = ip.gateway }
  end
  for i, route in ipairs(prev.routes or {}) do
    lease.routes[i] = {}
    for key, value in pairs(route) do lease.routes[i][key] = value end
  end
  return setmetatable(normal(lease), Lease)
end

--- What a plugin of an interface answers: its interfaces, and what the lease gave. A result begins with
-- it: what the chain had before is not passed on.
-- @tparam table req its `conf` may have `dns`, which then counts instead of the lease's
-- @tparam table lease from `add`
-- @tparam table interfaces list of links
-- @treturn table `interfaces`, `ips`, `routes`, `dns`, `instead`
function M.answer(req, lease, interfaces)
  req, lease, interfaces = takes.answer(req, lease, interfaces)
  return { instead = true, interfaces = interfaces, ips = lease.ips, routes = lease.routes,
    dns = common.dns_of(req.conf, lease) }
end

-- STATUS and GC go to the IPAM plugin as they are.
local function forward(req, command, verb)
  local name = M.type_of(req)
  if not name then return end
  local script = req.load_plugin(name)
  if not script then
    require("cni.step.delegate").call(command, name, req)
  elseif script[verb] then
    local own
    if verb == "gc" then
      own = scripts.bounded(own_request, req, script, schema.salvage)
    else
      own = own_request(req, script)
    end
    scripts.call(script, verb, own)
  end
end

--- Ask the IPAM plugin whether an ADD could be served; what it raises says why not.
-- @tparam table req the request
-- @raise why an ADD could not be served
function M.status(req)
  forward(req, "STATUS", "status")
end

--- Have the IPAM plugin free what no valid attachment holds.
-- @tparam table req the request
function M.gc(req)
  forward(req, "GC", "gc")
end

return M
