-- SPDX-License-Identifier: MIT
--- Routing by source: what leaves from an address goes by a routing table of that address's own, in which are
-- the routes of its link. A script that makes a link, or is behind one that does, needs one line for it:
--
--     local source_routing = require "cni.source_routing"
--     return { add = function(req)
--       local result = req:delegate "macvlan"
--       source_routing.add(req, req.ifname, result.ips, { routes = result.routes })
--       return result
--     end }
--
-- For each address there is a rule, `from 10.5.0.9 lookup 100`, ahead of all rules that are there, and the
-- table that it leads to, of the smallest number from 100 that nothing uses. The routes are taken out of the
-- main table, which keeps those of other links alone; DEL gives them back. A route goes to the tables of all
-- addresses of its family; if its source or next hop is in the network of one of them, to that one's alone. A
-- family that the link has no address of stays as it is.
--
-- @module cni.source_routing

local addr = require "cni.addr"
local args = require "cni.engine.args"
local fail = require "cni.fail"
local json = require "cni.json"

local M = {}

local first_table <const>, main <const> = 100, 254

local function changed(object, changes)
  local copy = {}
  for key, value in pairs(object) do copy[key] = value end
  for key, value in pairs(changes) do copy[key] = value or nil end
  return copy
end

-- Rules ----------------------------------------------------------------------------------

local takes_from = args.call("source_routing.rules_from", { "handle", args.handle }, { "address", args.ip })

--- The rules that lead from an address to a routing table and ask for nothing else.
-- @tparam handle handle
-- @tparam string address such as 10.5.0.9
-- @treturn {table,...} `from`, `table` and `priority` each, as `add_rule` takes them; empty: there is none
function M.rules_from(handle, address)
  handle, address = takes_from(handle, address)
  local found, family = {}, addr.family(addr.ip(address))
  for _, rule in ipairs(handle.absent and {} or handle:dump("rule", { family = family })) do
    local more = rule.to or rule.iif or rule.oif or rule.fwmark or rule.invert or rule.ip_proto
    if rule.from == address .. (family == "inet" and "/32" or "/128") and not more
      and rule.action == "lookup" then
      found[#found + 1] = { from = address, table = rule.table or 0, priority = rule.priority }
    end
  end
  return found
end

local takes_rules = args.call("source_routing.ahead", { "handle", args.handle },
  { "rules", args.list(args.table) })

--- Give rules priorities by which they count before all that are there, the last of them first: as the kernel
-- does with rules that come without.
--
--     local rules = req:once("rules", function()
--       return source_routing.ahead(req.pod, { { from = "10.5.0.9", table = 7 } })
--     end)
--     for _, rule in ipairs(rules) do req.pod:add_rule(rule) end
--
-- Which rules there are is decided by the ADD: so keep the list with `req:once`.
-- @tparam handle handle
-- @tparam {table,...} rules as `add_rule` takes them
-- @treturn {table,...} copies, with `priority`
function M.ahead(handle, rules)
  handle, rules = takes_rules(handle, rules)
  local lowest, list = { inet = 32766, inet6 = 32766 }, {}
  for family, number in pairs(handle.absent and {} or lowest) do
    for _, rule in ipairs(handle:dump("rule", { family = family })) do
      local own = rule.priority or 0
      if own > 1 and own < number then number = own end
    end
    lowest[family] = number
  end
  for i, rule in ipairs(rules) do
    local address = rule.from or rule.to
    local family = rule.family or address and address:find(":", 1, true) and "inet6" or "inet"
    lowest[family] = lowest[family] - 1
    list[i] = changed(rule, { priority = lowest[family] })
  end
  return list
end

-- Addresses ------------------------------------------------------------------------------

--- Gateways by family.
-- @tparam[opt] {string,...} gateways addresses, at most one of each family
-- @treturn[1] table by `inet` and `inet6`
-- @treturn[2] nil
-- @treturn[2] string what is wrong with them
function M.gateways(gateways)
  local found = {}
  for _, text in ipairs(gateways or {}) do
    local bytes = addr.ip(text)
    if not bytes then return nil, ("%q is no IP address"):format(text) end
    local family = addr.family(bytes)
    if found[family] then return nil, ("%s and %s are of one family"):format(found[family], text) end
    found[family] = addr.text(bytes)
  end
  return found
end

--- The addresses that the plugins before in the chain have given to a link of the sandbox.
-- @tparam table req
-- @tparam string name of the link
-- @treturn ?{table,...} `address` and `gateway` each, as in the result; nil: there is no result to go by
function M.ips_of(req, name)
  local prev, list = req.prev, {}
  for _, ip in ipairs(prev and prev.ips or {}) do
    local entry = ip.interface and (prev.interfaces or {})[ip.interface + 1]
    if not entry or entry.name == name then list[#list + 1] = ip end
  end
  return prev and list or nil
end

local function source(text, gateway)
  local cidr = addr.parse(text)
  return { ip = cidr:text(), net = cidr:network(), family = cidr.family, gateway = gateway }
end

local function sources_of(req, name, ips)
  local list = {}
  for i, ip in ipairs(ips or {}) do list[i] = source(ip.address, ip.gateway) end
  for _, have in ipairs(list[1] and {} or req.pod:addrs(name)) do
    if have.scope ~= "link" then list[#list + 1] = source(have.address) end
  end
  return list
end

-- Routes ---------------------------------------------------------------------------------

local function is_near(text, own)
  return text ~= nil and (text == own.gateway or own.net:contains(addr.ip(text)))
end

local function near(route, own)
  return is_near(route.src, own) or is_near(route.multipath and route.multipath[1].gw or route.gw, own)
end

-- Whether a route is for packets from an address: unless it is another one's.
local function is_for(route, own, all)
  if addr.parse(route.dst).family ~= own.family then return false end
  if near(route, own) then return true end
  for _, other in ipairs(all) do
    if other.family == own.family and near(route, other) then return false end
  end
  return true
end

local function is_default(route, family) return addr.parse(route.dst) == addr.default(family) end

-- The routes that the kernel did not take, since another link has routes to the same places.
local function add_reported(list, routes, own, seen)
  for _, route in ipairs(routes or {}) do
    local dst = addr.parse(route.dst):network()
    local gw = route.gw or own.gateway
    local into_main = (route.table or main) == main or route.table == 0
    if dst.family == own.family and into_main and not seen[tostring(dst)] and is_near(gw, own) then
      seen[tostring(dst)] = true
      list[#list + 1] = { dst = tostring(dst), gw = gw, mtu = route.mtu, advmss = route.advmss,
        priority = route.priority }
    end
  end
end

-- The routes for packets from an address, of those that the link has. `static`: the gateway to use instead.
local function routes_for(own, all, have, reported, static)
  local list, seen = {}, {}
  if static then seen[tostring(addr.default(own.family))] = true end
  for _, route in ipairs(have) do
    if is_for(route, own, all) and not (static and is_default(route, own.family)) then
      list[#list + 1] = route
      seen[tostring(addr.parse(route.dst))] = true
    end
  end
  -- The kernel makes this one some time after the link is up.
  if own.family == "inet6" and not seen["fe80::/64"] then
    table.insert(list, 1, { dst = "fe80::/64", protocol = "kernel", priority = 256 })
  end
  add_reported(list, reported, own, seen)
  local default, gw = tostring(addr.default(own.family)), static or own.gateway
  if gw and (static or not seen[default]) then list[#list + 1] = { dst = default, gw = gw } end
  return list
end

-- What the main table has in place of a route: the route itself, another one, or nothing.
local function left_in_main(route, all, hints)
  local dst, concerned = addr.parse(route.dst), false
  for _, own in ipairs(all) do concerned = concerned or own.family == dst.family end
  if not concerned or tostring(dst) == "fe80::/64" then return route end
  if not hints then return nil end
  for _, own in ipairs(all) do
    if dst == own.net and not route.src then
      return changed(route, { src = own.ip, protocol = "boot",
        priority = dst.family == "inet" and route.priority })
    end
  end
  return not route.gw and not route.multipath and route or nil
end

-- What an ADD does, and what one has done ------------------------------------------------

-- Whether a rule is one that `add` makes: to the table that it was told, or to one that it chose.
local function leads_apart(rule, number)
  if number then return rule.table == number end
  return rule.table >= first_table and (rule.table < 253 or rule.table > 255)
end

-- What somebody, or an ADD whose record is lost, does for an address already would count before ours.
local function need_none(req, name, own)
  for _, rule in ipairs(M.rules_from(req.pod, own.ip)) do
    if leads_apart(rule) and req.pod:routes_of(name, rule.table)[1] then
      fail.throw { msg = ("%s has the routing table %d already"):format(own.ip, rule.table),
        hint = "a DEL of this attachment takes it away" }
    end
  end
end

local function new_rules(req, all, tables)
  local rules = {}
  for i, own in ipairs(all) do rules[i] = { from = own.ip, table = tables[i] } end
  return M.ahead(req.pod, rules)
end

local function exchange(req, name, all, options)
  local have, static = req.pod:routes_of(name), M.gateways(options.gateways) or {}
  local numbers = { req.pod:free_table(first_table, #all) }
  local made = { rules = new_rules(req, all, numbers), add = {}, remove = {} }
  for i, own in ipairs(all) do
    need_none(req, name, own)
    for _, route in ipairs(routes_for(own, all, have, options.routes, static[own.family])) do
      made.add[#made.add + 1] = changed(route, { table = numbers[i] })
    end
  end
  for _, route in ipairs(have) do
    local stays = left_in_main(route, all, options.hints)
    if stays and stays ~= route then made.add[#made.add + 1] = stays end
    if stays ~= route then made.remove[#made.remove + 1] = route end
  end
  return made
end

-- What a DEL without a record has to undo beside the rules: the tables' routes go back, with the address's
-- gateway in place of the one of `options`, and hints go.
local function given_back(req, name, own, made, number, options)
  local static = (M.gateways(options.gateways) or {})[own.family]
  for _, route in ipairs(req.pod:routes_of(name, number)) do
    if addr.parse(route.dst).family == own.family then
      local replaced = static and route.gw == static and is_default(route, own.family)
      made.add[#made.add + 1] = route
      if not replaced or own.gateway then
        local gw = replaced and own.gateway or route.gw
        made.remove[#made.remove + 1] = changed(route, { table = main, gw = gw })
      end
    end
  end
  for _, route in ipairs(options.hints and req.pod:routes_of(name) or {}) do
    if addr.parse(route.dst) == own.net and route.src == own.ip and route.protocol == "boot" then
      made.add[#made.add + 1] = route
    end
  end
end

-- What an ADD must have done of which there is no record, such as the reference's.
local function found(req, name, all, options)
  local made, checked = { rules = {}, add = {}, remove = {} }, req.plan.mode == "verify"
  for _, own in ipairs(req.pod.absent and {} or all) do
    local any = false
    for _, rule in ipairs(M.rules_from(req.pod, own.ip)) do
      if leads_apart(rule, options.table) then
        any = true
        made.rules[#made.rules + 1] = rule
        if not checked and not options.table then given_back(req, name, own, made, rule.table, options) end
      end
    end
    if checked and not any then
      made.rules[#made.rules + 1] = { from = own.ip, table = options.table or first_table }
    end
  end
  return made
end

local function decide(req, name, all, options)
  local mode = req.plan.mode
  if mode == "verify" or mode == "erase" then return found(req, name, all, options) end
  if not options.table then return exchange(req, name, all, options) end
  local tables = {}
  for i in ipairs(all) do tables[i] = options.table end
  return { rules = new_rules(req, all, tables), add = {}, remove = {} }
end

local function link_of_sandbox(value, req) return args.link(value, req.pod) end

local addressed = { address = args.cidr, gateway = args.ip }
local routed = { dst = args.cidr, gw = args.ip }

local function one_a_family(options)
  local _, problem = M.gateways(options.gateways)
  if problem then return problem, "gateways" end
end

local takes = args.call("source_routing.add", { "req", args.request }, { "link", link_of_sandbox },
  { "ips", args.optional(args.list(args.record(addressed, { required = { "address" },
    loose = args.always }))) },
  { "options", args.optional(args.record({ table = args.integer(1, 0xffffffff), hints = args.boolean,
    gateways = args.list(args.ip),
    routes = args.list(args.record(routed, { required = { "dst" }, loose = args.always })),
  }, { check = one_a_family })) })

-- What routes there are, and are taken away, an ADD sees: an update goes on with that.
local function must_be_the_same(req, ips)
  local record = req.plan.mode == "update" and req.plan:past()
  if not record then return end
  local before = json.decode(record.header.config, "record")
  local known = {}
  for _, ip in ipairs(type(before.prevResult) == "table" and before.prevResult.ips or {}) do
    known[ip.address] = true
  end
  local same = require("cni.record.journal").digest(before) == require("cni.record.journal").digest(req.raw)
  for _, ip in ipairs(ips or {}) do same = same and known[ip.address] end
  if same then return end
  fail.throw { msg = "routing by source is decided by an ADD, and no update: keys or addresses are others",
    hint = "DEL and ADD make it anew; what runs in the sandbox loses its connections" }
end

--- Have what leaves from the addresses of a link of the sandbox go by tables of their own. Steps that are
-- pending are done before.
-- @tparam table req
-- @tparam table|string link object or name, in the sandbox
-- @tparam[opt] {table,...} ips its addresses, `address` and `gateway` each, as in a result; nil or empty:
-- those that it has, but for link-local ones
-- @tparam[opt] table options
--
-- - `gateways`: addresses, at most one of each family, of default routes in place of what the link has
-- - `routes`: routes as in a result: those with a next hop in an address's network go to its table too, also
--   where the kernel did not take them because another link leads to the same place
-- - `hints`: true: the main table keeps routes to the link's own networks, with its address as source
-- - `table`: an existing table: there is a rule to it for each address, and nothing else is done
-- @raise in an ADD: an address has a table of its own already
function M.add(req, link, ips, options)
  req, link, ips, options = takes(req, link, ips, options)
  local name = type(link) == "table" and link.name or link
  options = options or {}
  must_be_the_same(req, ips)
  local made = req:once("source_routing " .. name, function()
    return decide(req, name, sources_of(req, name, ips), options)
  end)
  for _, rule in ipairs(made.rules) do req.pod:add_rule(rule) end
  if #made.add + #made.remove > 0 then
    req.pod:change_routes(name, { add = made.add, remove = made.remove })
  end
end

return M
