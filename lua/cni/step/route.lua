-- SPDX-License-Identifier: MIT
--- Step `route`: a route through a link of this attachment.
-- @module cni.step.route

local addr = require "cni.addr"
local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno
local M = { of_interface = true }

function M.links(step)
  return { step.want.link }
end

local function attributes(step, handle)
  local attrs = {}
  for key, value in pairs(step.want) do
    if key ~= "link" and key ~= "new" then attrs[key] = value end
  end
  attrs.oif = handle:index(step.want.link)
  return attrs
end

function M.requests(step, handle)
  return { { step.want.new and "add" or "ensure", "route", attributes(step, handle) } }
end

-- What tells a route from another to the same destination by the same link, in words.
local function via(want)
  return want.gw and " via " .. want.gw or ""
end
local function of_table(want)
  return (want.table and (" in table %d"):format(want.table) or "")
    .. (want.priority and (" with metric %d"):format(want.priority) or "")
end

-- Whether an address of the link is in one network with the gateway. True also when that cannot be seen: then
-- it is not named as the cause.
local function reaches(handle, link, gw)
  local list = handle:socket():dump("addr", { index = handle:index(link) })
  for _, have in ipairs(list or {}) do
    local own = addr.parse(have.peer or have.address)
    if own and own:contains(addr.ip(gw)) then return true end
  end
  return not list
end

-- What the kernel says of a gateway that it cannot reach, and of much else: so it only has the addresses
-- looked at, and a cause is named when they show it.
local unreachable = { [errors.ENETUNREACH] = true, [errors.EHOSTUNREACH] = true,
  [errors.EINVAL] = true }

-- What is in the way of a route that has to be new.
local function in_the_way(want, handle)
  local dst = addr.parse(want.dst)
  for _, have in ipairs(handle:routes { family = dst.family, table = want.table or 254 }) do
    if addr.parse(have.dst) == dst and (want.priority or have.priority or 0) == (have.priority or 0) then
      local link = have.oif and handle:link(have.oif, {})
      return ("there is a route to it%s%s already; one with another priority can stand beside it, and one "
        .. "that attachments share is made by ensure_route"):format(have.gw and " via " .. have.gw or "",
        link and " dev " .. link.name or "")
    end
  end
end

-- What makes the kernel take a gateway that no address of the link reaches.
local function remedy(step, gw)
  local is_v6 = gw:find(":", 1, true)
  local host = gw .. (is_v6 and "/128" or "/32")
  if not step.entry then
    return ('a route before it leads there: { "dst": "%s"%s }'):format(host, is_v6 and "" or ', "scope": 253')
  end
  return ("onlink = true takes it for a neighbour all the same; or a route to it comes before: "
    .. '{ dst = "%s", link = the same%s }'):format(host, is_v6 and "" or ', scope = "link"')
end

function M.cause(step, handle, errno)
  local want = step.want
  if errno == errors.EEXIST then return in_the_way(want, handle) end
  local off = addr.parse(want.dst).family == "inet6"
    and require("cni.protocol.hints").ipv6_off(handle, want.link)
  if off then return off end
  if want.gw and unreachable[errno] and not want.onlink and not reaches(handle, want.link, want.gw) then
    return ("no address of %s is in one network with the gateway %s; %s"):format(want.link, want.gw,
      remedy(step, want.gw))
  end
end

-- Whether a later plugin of the chain has taken the route away on purpose: the script's result had it, and
-- the runtime's does not have it any more.
local function given_up(step, prev)
  if not step.reported or not prev then return false end
  local want = step.want
  local dst = addr.parse(want.dst)
  for _, route in ipairs(prev.routes or {}) do
    local gw = route.gw and not addr.is_unspecified(addr.ip(route.gw)) and route.gw
    if addr.parse(route.dst):network() == dst and (not gw or gw == want.gw)
      and (route.table or 0) == (want.table or 0) then return false end
  end
  return true
end

-- Whether a route, or a hop of one that the kernel has joined with others', leaves by a link and gateway.
local function has_hop(want, have, index)
  for _, hop in ipairs(have.multipath or { have }) do
    if hop.oif == index and (hop.gw or false) == (want.gw or false) then return true end
  end
  return false
end

local function matches(want, have, index)
  if not has_hop(want, have, index) then return false end
  for _, key in ipairs { "mtu", "advmss", "src" } do
    if want[key] and want[key] ~= 0 and have[key] ~= want[key] then return false end
  end
  return not want.priority or want.priority == 0 or have.priority == want.priority
end

-- The table that a route without one is in: the VRF's when a later plugin of the chain has put its
-- link into one.
local function table_of(h, link)
  local master = link.master and h:link(link.master)
  return master and master.kind == "vrf" and master.vrf_table or 254
end

-- The tables that rules send to what comes from an address of the link: a later plugin of the chain may have
-- moved the route there.
local function tables_by_source(h, link, family)
  local own, found = {}, {}
  for _, have in ipairs(h:addrs(link, family)) do own[have.address:match "^[^/]+"] = true end
  for _, rule in ipairs(h:dump("rule", { family = family })) do
    local from = rule.from and rule.from:match "^[^/]+"
    if from and own[from] and rule.action == "lookup" then found[#found + 1] = rule.table end
  end
  return found
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  if given_up(step, plan.prev) then return nil end
  local link = h:link(want.link)
  if not link then return ("link %s is not in the sandbox"):format(want.link) end
  local dst = addr.parse(want.dst)
  local function is_in(number)
    for _, have in ipairs(h:routes { family = dst.family, table = number }) do
      if addr.parse(have.dst) == dst and matches(want, have, link.index) then return true end
    end
  end
  if is_in(want.table or table_of(h, link)) then return nil end
  for _, number in ipairs(want.table and {} or tables_by_source(h, link, dst.family)) do
    if is_in(number) then return nil end
  end
  return ("route %s%s on %s is missing"):format(want.dst, via(want) .. of_table(want), want.link)
end

--- Give the route back what it has lost, such as the source address that was gone for a moment.
function M.mend(step, plan)
  local want, h = step.want, plan[step.ns]
  local link, dst = h:link(want.link), addr.parse(want.dst)
  local number = want.table or link and table_of(h, link)
  for _, have in ipairs(link and h:routes { family = dst.family, table = number } or {}) do
    local same = addr.parse(have.dst) == dst and has_hop(want, have, link.index) and not have.multipath
    local metric = (want.priority or 0) > 0 and want.priority or dst.family == "inet6" and 1024 or 0
    if same and (have.priority or 0) == metric then
      local attrs = attributes(step, h)
      attrs.table = number
      local ok, msg, errno = h:socket():send { { "replace", "route", attrs } }
      if not ok then fail.kernel("change " .. M.say(step), msg, errno) end
      return true
    end
  end
  return false
end

function M.key(step)
  local want = step.want
  return ("%s %s %s %s"):format(want.dst, want.table or 254, want.priority or 0, want.type or "")
end

--- In its place, so that there is no moment without it.
function M.change(_, to, plan)
  local h = plan[to.ns]
  local ok, msg, errno = h:socket():send { { "replace", "route", attributes(to, h) } }
  if not ok then fail.kernel("change " .. M.say(to), msg, errno, nil, M.cause(to, h, errno)) end
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  if not h or not h:link(step.want.link) then return end
  local route = attributes(step, h)
  -- The kernel has given an IPv6 route without a metric this one. Without it, any metric would be deleted.
  if (route.priority or 0) == 0 and addr.parse(route.dst).family == "inet6" then route.priority = 1024 end
  local ok, msg, errno = h:socket():send { { "del", "route", route } }
  if not ok and errno ~= errors.ESRCH and not h.has_no(errno, route.dst) then
    fail.kernel("remove route " .. step.want.dst, msg, errno)
  end
end

function M.say(step)
  local want = step.want
  return ("route %s%s dev %s%s"):format(want.dst, via(want), want.link, of_table(want))
end

return M
