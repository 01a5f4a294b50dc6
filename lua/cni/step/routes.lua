-- SPDX-License-Identifier: MIT
--- Step `routes`: routes by a link of another plugin, some added, others taken away, all at once. They are
-- listed in full, so that each can be told from any other and is put back as it was.
-- @module cni.step.routes

local addr = require "cni.addr"
local carry = require "cni.links.carry"
local errors = require("netlink").sys.errno
local fail = require "cni.fail"

local M = { of_interface = true }

-- What the kernel chooses where nothing is said.
local function priority_of(route)
  local given = route.priority or 0
  return given == 0 and addr.parse(route.dst).family == "inet6" and 1024 or given
end

-- The requests that delete a route. Without an IPv6 metric any one would be deleted; hops of IPv6 are routes
-- of their own to the kernel.
local function deletions(route, index)
  local list, family = {}, addr.parse(route.dst).family
  local hops = family == "inet6" and route.multipath or { route }
  for _, hop in ipairs(hops) do
    local attrs = { dst = route.dst, table = route.table, priority = priority_of(route), tos = route.tos,
      scope = family == "inet" and route.scope or nil, protocol = route.protocol, src = route.src,
      type = route.type, gw = hop.gw }
    if hop.multipath then attrs.multipath = hop.multipath else attrs.oif = index end
    list[#list + 1] = { "del", "route", attrs }
  end
  return list
end

local absent = { [errors.ESRCH] = true, [errors.ENOENT] = true, [errors.ENODEV] = true }

local function remove(h, link, routes, what)
  local requests = {}
  for _, route in ipairs(routes) do
    for _, request in ipairs(deletions(route, link.index)) do requests[#requests + 1] = request end
  end
  if #requests == 0 then return end
  local ok, msg, errno, _, statuses = h:socket():send(requests)
  if ok then return end
  for i, status in ipairs(statuses or { errno }) do
    if status ~= 0 and not absent[status] and not (requests[i] and h.has_no(status, requests[i][3].dst)) then
      fail.kernel(what, msg, errno)
    end
  end
end

local function words(route)
  local gw = route.gw or route.multipath and "several gateways"
  return ("%s%s%s"):format(route.dst, gw and " via " .. gw or "",
    (route.table or 254) ~= 254 and (" in table %d"):format(route.table) or "")
end

local function put(h, link, routes)
  for _, route in ipairs(routes) do
    route.oif = not route.multipath and link.index or nil
    for _, hop in ipairs(route.multipath or {}) do hop.oif = link.index end
  end
  local requests = {}
  for i, route in ipairs(routes) do requests[i] = { "append", "route", route } end
  if #requests == 0 then return end
  local ok, msg, errno, index, statuses = h:socket():send(requests)
  if ok then return end
  for i, status in ipairs(statuses or {}) do
    if status ~= 0 and status ~= errors.EEXIST then index = i break end
    if i == #statuses then return end
  end
  local route = routes[index or 1]
  local cause = require("cni.step.route").cause({ entry = true, want = { dst = route.dst, gw = route.gw,
    link = link.name, onlink = route.onlink } }, h, statuses and statuses[index] or errno)
  fail.kernel(("add route %s dev %s"):format(words(route), link.name), msg, errno, nil, cause)
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link, {})
  if not link then fail.throw { msg = ("link %s is not in the sandbox"):format(want.link) } end
  put(h, link, want.add)
  remove(h, link, want.remove, M.say(step))
end

-- Whether one of the routes that are there is a wanted one.
local function is_there(list, route, index)
  local dst = addr.parse(route.dst)
  for _, have in ipairs(list) do
    local hop = route.multipath and route.multipath[1] or route
    for _, own in ipairs(have.multipath or { have }) do
      if addr.parse(have.dst) == dst and own.oif == index and (own.gw or false) == (hop.gw or false)
        and (have.src or false) == (route.src or false) and (have.priority or 0) == priority_of(route) then
        return true
      end
    end
  end
  return false
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link, {})
  if not link then return ("link %s is not in the sandbox"):format(want.link) end
  local tables = {}
  local function there(route)
    local number, family = route.table or 254, addr.parse(route.dst).family
    local key = ("%d %s"):format(number, family)
    tables[key] = tables[key] or h:routes { family = family, table = number }
    return is_there(tables[key], route, link.index)
  end
  for _, route in ipairs(want.add) do
    if not there(route) then return ("route %s on %s is missing"):format(words(route), want.link) end
  end
  for _, route in ipairs(want.remove) do
    if there(route) then return ("route %s on %s is there again"):format(words(route), want.link) end
  end
end

function M.undo(step, plan)
  local want, h = step.want, plan:at(step.ns)
  local link = h and h:link(want.link, {})
  if not link then return end
  -- Back first: a packet finds one or the other.
  carry.restore(h, link, { routes = want.remove })
  remove(h, link, want.add, "remove routes of " .. want.link)
end

function M.say(step)
  local want, parts = step.want, {}
  for _, what in ipairs { "add", "remove" } do
    local list = {}
    for i, route in ipairs(want[what]) do list[i] = words(route) end
    if #list > 0 then
      parts[#parts + 1] = ("%s route%s %s"):format(what, #list > 1 and "s" or "", table.concat(list, ", "))
    end
  end
  return ("on %s in the %s: %s"):format(want.link, step.ns == "pod" and "sandbox" or "host",
    #parts > 0 and table.concat(parts, "; ") or "no route changes")
end

return M
