-- SPDX-License-Identifier: MIT
--- Step `shared_route`: a route that goes with no link of this attachment: one that several of them need, or
-- one without a link, which drops packets (blackhole) or refuses them (unreachable, prohibit) or has the next
-- rule decide (throw).
-- @module cni.step.shared_route

local addr = require "cni.addr"
local entry = require "cni.step.entry"

local linkless = { blackhole = true, unreachable = true, prohibit = true, throw = true }

local function say(want)
  local route = want.entry
  return ("%s %s%s%s%s%s"):format(route.type or "route", route.dst, route.gw and " via " .. route.gw or "",
    want.link and " dev " .. want.link or "",
    route.table and (" in table %d"):format(route.table) or "",
    route.priority and (" with metric %d"):format(route.priority) or "")
end

local function request(verb, want, h)
  local attrs = {}
  for key, value in next, want.entry do attrs[key] = value end
  attrs.oif = want.link and h:index(want.link) or nil
  return { verb, "route", attrs }
end

local function is(have, route, index)
  if (have.type or "unicast") ~= (route.type or "unicast") or (have.gw or false) ~= (route.gw or false) then
    return false
  end
  -- An IPv6 route without a link has the loopback interface in the kernel: so it is not compared.
  if index and have.oif ~= index then return false end
  return (have.priority or 0) == (route.priority or 0) and (have.tos or 0) == (route.tos or 0)
end

local function there(want, h)
  local route, link = want.entry, want.link and h:link(want.link, {})
  if want.link and not link then return false end
  local dst = addr.parse(route.dst)
  for _, have in ipairs(h:routes { family = dst.family, table = route.table or 254 }) do
    if addr.parse(have.dst) == dst and is(have, route, link and link.index) then return true end
  end
  return false
end

local M = entry.kind {
  say = say, there = there, faithful = true,
  add = function(want, h) return request("add", want, h) end,
  remove = function(want, h)
    return not (want.link and not h:link(want.link, {})) and request("del", want, h)
  end,
  cause = function(want, h, errno)
    if not want.link then return nil end
    return require("cni.step.route").cause({ entry = true, want = { dst = want.entry.dst, gw = want.entry.gw,
      link = want.link, onlink = want.entry.onlink } }, h, errno)
  end,
}

--- Whether routes of a type have no link.
function M.is_linkless(type_name)
  return linkless[type_name] ~= nil
end

--- The `want` of a step, made of what a script gave and cni.engine.takes has checked.
function M.want(given)
  local route = {}
  for key, value in next, given do route[key] = value end
  local link = route.link
  route.link = nil
  -- The metric that the kernel gives a route without one.
  if addr.parse(route.dst).family == "inet6" and (route.priority or 0) == 0 then route.priority = 1024 end
  if route.table == 254 or route.table == 0 then route.table = nil end
  if route.gw and addr.is_unspecified(addr.ip(route.gw)) then route.gw = nil end
  local want = { link = link, entry = route }
  want.key = entry.key(say(want))
  return want
end

return M
