-- SPDX-License-Identifier: MIT
--- Source based routing: what leaves from an address of the sandbox's interface goes by this interface. Used
-- in a chain, behind the plugin that makes the interface. Each address gets a routing table of its own, with
-- the routes that the interface has, and a rule that leads there; the main table keeps those of other
-- interfaces. DEL gives the routes back.

local addr = require "cni.addr"
local common = require "cni.common"
local fail = require "cni.fail"
local schema = require "cni.schema"

local first_table <const> = 100

local conf = schema.record {
  table = schema.integer { min = 1, max = 0xffffffff,
    doc = "An existing table: there is a rule for each address, and nothing else is done." },
  gateways = schema.list(schema.string, {
    doc = "Gateways of the default routes, at most one a family, in place of those that the result has." }),
  addSourceHints = schema.boolean {
    doc = "Leave routes to the interface's own networks in the main table, with its address as source." },
}

local function families(gateways)
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

-- With a table of its own the gateways count for nothing.
conf:check(function(c)
  if c.table then return nil end
  local _, problem = families(c.gateways)
  return problem and "gateways: " .. problem
end, "gateways has addresses, at most one of each family.")

local function address(text, gateway)
  local cidr = addr.parse(text)
  return { ip = cidr:text(), net = cidr:network(), family = cidr.family, gateway = gateway }
end

-- The interface's addresses, as the plugins before have given them; a DEL that is told nothing looks at the
-- link.
local function addresses(req)
  local list, prev = {}, req.prev
  for _, have in ipairs(prev and prev.ips or {}) do
    local entry = have.interface and (prev.interfaces or {})[have.interface + 1]
    if not entry or entry.name == req.ifname then list[#list + 1] = address(have.address, have.gateway) end
  end
  if not prev and req.plan.mode == "erase" then
    for _, have in ipairs(req.pod:addrs(req.ifname)) do
      if have.scope ~= "link" then list[#list + 1] = address(have.address) end
    end
  end
  return list
end

local function near(route, own)
  local function is_near(text)
    return text ~= nil and (text == own.gateway or own.net:contains(addr.ip(text)))
  end
  return is_near(route.src) or is_near(route.multipath and route.multipath[1].gw or route.gw)
end

-- Whether a route is for packets from an address: unless it is another one's.
local function is_of(route, own, all)
  if addr.parse(route.dst).family ~= own.family then return false end
  if near(route, own) then return true end
  for _, other in ipairs(all) do
    if other.family == own.family and near(route, other) then return false end
  end
  return true
end

local function changed(route, changes)
  local copy = {}
  for key, value in pairs(route) do copy[key] = value end
  for key, value in pairs(changes) do copy[key] = value or nil end
  return copy
end

local function is_default(route, family) return addr.parse(route.dst) == addr.default(family) end

-- The routes of the result that the kernel did not take, since another interface has routes to the same
-- places.
local function add_reported(list, req, own, seen)
  for _, route in ipairs(req.prev and req.prev.routes or {}) do
    local dst = addr.parse(route.dst):network()
    local gw = route.gw or own.gateway
    local into_main = (route.table or 254) == 254 or route.table == 0
    if dst.family == own.family and into_main and not seen[tostring(dst)]
      and gw and near({ gw = gw }, own) then
      seen[tostring(dst)] = true
      list[#list + 1] = { dst = tostring(dst), gw = gw, mtu = route.mtu, advmss = route.advmss,
        priority = route.priority }
    end
  end
end

-- The routes for packets from an address. `static`: the gateway that the configuration gives it.
local function routes_for(req, own, all, have, static)
  local list, seen = {}, {}
  if static then seen[tostring(addr.default(own.family))] = true end
  for _, route in ipairs(have) do
    if is_of(route, own, all) and not (static and is_default(route, own.family)) then
      list[#list + 1] = route
      seen[tostring(addr.parse(route.dst))] = true
    end
  end
  -- The kernel makes this one some time after the link is up.
  if own.family == "inet6" and not seen["fe80::/64"] then
    table.insert(list, 1, { dst = "fe80::/64", protocol = "kernel", priority = 256 })
  end
  add_reported(list, req, own, seen)
  local default, gw = tostring(addr.default(own.family)), static or own.gateway
  if gw and (static or not seen[default]) then list[#list + 1] = { dst = default, gw = gw } end
  return list
end

-- What the main table has in place of a route: the route itself, another one, or nothing. A family that no
-- address is of stays as it is.
local function left_in_main(req, route, all)
  local dst, concerned = addr.parse(route.dst), false
  for _, own in ipairs(all) do concerned = concerned or own.family == dst.family end
  if not concerned or tostring(dst) == "fe80::/64" then return route end
  if not req.conf.addSourceHints then return nil end
  for _, own in ipairs(all) do
    if dst == own.net and not route.src then
      return changed(route, { src = own.ip, protocol = "boot",
        priority = dst.family == "inet" and route.priority })
    end
  end
  return not route.gw and not route.multipath and route or nil
end

-- The rules that lead from an address to a table.
local function rules_from(req, own)
  local found = {}
  for _, rule in ipairs(req.pod:dump("rule", { family = own.family })) do
    local more = rule.to or rule.iif or rule.oif or rule.fwmark or rule.invert or rule.ip_proto
    local number, wanted = rule.table or 0, req.conf.table
    local chosen = not wanted and number >= first_table and (number < 253 or number > 255)
    if rule.from == own.ip .. (own.family == "inet" and "/32" or "/128") and not more
      and rule.action == "lookup" and (chosen or number == wanted) then
      found[#found + 1] = { from = own.ip, table = number, priority = rule.priority }
    end
  end
  return found
end

-- What somebody, or an ADD whose record is lost, does for an address already would count before ours.
local function need_none(req, own)
  for _, rule in ipairs(rules_from(req, own)) do
    if req.pod:routes_of(req.ifname, rule.table)[1] then
      fail.throw { msg = ("%s has the routing table %d already"):format(own.ip, rule.table),
        hint = "a DEL of this attachment takes it away" }
    end
  end
end

-- The rules of an ADD, each ahead of all that are there, as the kernel itself would choose. `tables`: one for
-- each address.
local function new_rules(req, all, tables)
  local rules, lowest = {}, { inet = 32766, inet6 = 32766 }
  for family, number in pairs(req.pod.absent and {} or lowest) do
    for _, rule in ipairs(req.pod:dump("rule", { family = family })) do
      local own = rule.priority or 0
      if own > 1 and own < number then number = own end
    end
    lowest[family] = number
  end
  for i, own in ipairs(all) do
    lowest[own.family] = lowest[own.family] - 1
    rules[i] = { from = own.ip, table = tables[i], priority = lowest[own.family] }
  end
  return rules
end

local function exchange(req, all)
  local have, static = req.pod:routes_of(req.ifname), families(req.conf.gateways) or {}
  local numbers = { req.pod:free_table(first_table, #all) }
  local made = { rules = new_rules(req, all, numbers), add = {}, remove = {} }
  for i, own in ipairs(all) do
    if not req.pod.absent then need_none(req, own) end
    for _, route in ipairs(routes_for(req, own, all, have, static[own.family])) do
      made.add[#made.add + 1] = changed(route, { table = numbers[i] })
    end
  end
  for _, route in ipairs(have) do
    local stays = left_in_main(req, route, all)
    if stays and stays ~= route then made.add[#made.add + 1] = stays end
    if stays ~= route then made.remove[#made.remove + 1] = route end
  end
  return made
end

-- What a DEL without a record has to undo beside the rules: the tables' routes go back, with the result's
-- gateway in place of the configuration's, and hints go.
local function given_back(req, own, made, number)
  local static = (families(req.conf.gateways) or {})[own.family]
  for _, route in ipairs(req.pod:routes_of(req.ifname, number)) do
    if addr.parse(route.dst).family == own.family then
      local replaced = static and route.gw == static and is_default(route, own.family)
      made.add[#made.add + 1] = route
      if not replaced or own.gateway then
        local gw = replaced and own.gateway or route.gw
        made.remove[#made.remove + 1] = changed(route, { table = 254, gw = gw })
      end
    end
  end
  for _, route in ipairs(req.conf.addSourceHints and req.pod:routes_of(req.ifname) or {}) do
    if addr.parse(route.dst) == own.net and route.src == own.ip and route.protocol == "boot" then
      made.add[#made.add + 1] = route
    end
  end
end

-- What an ADD must have done of which there is no record, such as the reference's.
local function found(req, all)
  local made = { rules = {}, add = {}, remove = {} }
  for _, own in ipairs(req.pod.absent and {} or all) do
    local rules, checked = rules_from(req, own), req.plan.mode == "verify"
    if #rules == 0 and checked then rules = { { from = own.ip, table = req.conf.table or first_table } } end
    for _, rule in ipairs(rules) do
      made.rules[#made.rules + 1] = rule
      if not checked and not req.conf.table then given_back(req, own, made, rule.table) end
    end
  end
  return made
end

local function decide(req, all)
  local mode = req.plan.mode
  if mode == "verify" or mode == "erase" then return found(req, all) end
  if not req.conf.table then return exchange(req, all) end
  local tables = {}
  for i in ipairs(all) do tables[i] = req.conf.table end
  return { rules = new_rules(req, all, tables), add = {}, remove = {} }
end

local function add(req)
  common.need_chain(req)
  local mode = req.plan.mode
  if mode == "apply" or mode == "verify" then
    if #(req.prev.ips or {}) == 0 then
      fail.config("prevResult.ips", "is empty: there is no source to route by")
    end
    if not req.pod:link(req.ifname, {}) then
      fail.throw { msg = ("link %s is not in the sandbox"):format(req.ifname) }
    end
  end
  local made = req:once("made", function() return decide(req, addresses(req)) end)
  for _, rule in ipairs(made.rules) do req.pod:add_rule(rule) end
  if #made.add + #made.remove > 0 then
    req.pod:change_routes(req.ifname, { add = made.add, remove = made.remove })
  end
end

return { conf = conf, add = add, chained = true }
