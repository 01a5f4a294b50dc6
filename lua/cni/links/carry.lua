-- SPDX-License-Identifier: MIT
--- What the kernel takes from a link that goes to another namespace or another master: its addresses, and
-- the routes that leave by it. Routes that the kernel makes by itself for an address are not carried: it
-- makes them again. When the link is away for long (`lasting`), neither is what others renew: addresses that
-- run out, and what routers announce.
--
-- @module cni.links.carry

local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno

local M = {}

-- What a route keeps.
local of_route = { "dst", "from", "gw", "src", "tos", "protocol", "scope", "type", "onlink",
  "priority", "realms", "pref", "ttl_propagate", "multipath", "lock", "mtu", "window", "rtt", "rttvar",
  "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "initcwnd", "features", "rto_min",
  "initrwnd", "quickack", "congestion", "fastopen_no_cookie" }

local of_hop = { "oif", "gw", "weight", "onlink", "realms" }

-- What an address keeps.
local of_addr = { "address", "peer", "valid_lft", "preferred_lft", "priority", "proto",
  "noprefixroute" }

-- What an IPv4 address keeps beside that.
local of_addr4 = { "broadcast", "label", "scope" }

-- Routes that somebody renews.
local passing = { ra = true, redirect = true }

local function pick(into, from, keys)
  for _, key in ipairs(keys) do into[key] = from[key] end
  return into
end

-- The part of a route that leaves by a link; nil when nothing does. The kernel joins IPv6 routes that differ
-- only in the next hop, whoever made them: there each hop counts as a route. An IPv4 route counts only when
-- all its hops leave by the link.
local function part_by(route, index, family)
  local part, others = pick({ table = route.table }, route, of_route), false
  if not route.multipath then return route.oif == index and part or nil end
  part.multipath = {}
  for _, hop in ipairs(route.multipath) do
    if hop.oif == index then
      part.multipath[#part.multipath + 1] = pick({}, hop, of_hop)
    else
      others = true
    end
  end
  if #part.multipath == 0 or others and family == "inet" then return nil end
  if #part.multipath == 1 then
    part.gw, part.onlink = part.multipath[1].gw, part.multipath[1].onlink
    part.multipath = nil
  end
  return part
end

--- The addresses of a link, but for those of scope link.
-- @tparam handle h
-- @tparam table link as netlink gives it
-- @tparam[opt] table options `family`: only this one's; `lasting`: only those that do not run out
-- @treturn table list, for `restore`
function M.addrs(h, link, options)
  local list = {}
  options = options or {}
  for _, have in ipairs(h:addrs(link.name, options.family)) do
    if have.scope ~= "link" and have.scope ~= 253 and (have.permanent or not options.lasting) then
      local address = pick({ family = have.family }, have, of_addr)
      if have.family == "inet" then pick(address, have, of_addr4) end
      -- Duplicate detection is not repeated, unless it has not ended yet.
      if have.family == "inet6" then address.nodad = not have.tentative or nil end
      list[#list + 1] = address
    end
  end
  return list
end

--- The routes that leave by a link, and the hops of those that the kernel has joined with others'.
-- @tparam handle h
-- @tparam table link as netlink gives it
-- @tparam[opt] table options
--   table    only the routes of this table
--   kernel   also those that the kernel makes for addresses
--   lasting  only routes that nobody renews, with one hop. The kernel picks them, however many routes of
--            other links there are
-- @treturn table list, for `restore`
function M.routes(h, link, options)
  local list, by_gateway = {}, {}
  options = options or {}
  for _, family in ipairs { "inet", "inet6" } do
    for _, have in ipairs(h:routes { family = family, table = options.table,
      oif = options.lasting and link.index or nil }) do
      if (options.kernel or have.protocol ~= "kernel")
        and not (options.lasting and passing[have.protocol]) then
        local part = part_by(have, link.index, family)
        local fit = part and (part.gw or part.multipath) and by_gateway or list
        fit[#fit + 1] = part
      end
    end
  end
  -- A gateway has to be reachable first: so routes by gateways come last. Otherwise the order is kept, since
  -- it ranks them.
  return table.move(by_gateway, 1, #by_gateway, #list + 1, list)
end

-- Errnos of what is there already, or does not fit any more because addresses or links have changed since.
-- All that is asked for the kernel had itself; so EINVAL means that the rest has changed: a route's source or
-- gateway is an address that the host has not, or has itself by now. EACCES: IPv6 is switched off on the
-- link.
local outdated = { [errors.EEXIST] = true, [errors.ENETUNREACH] = true, [errors.EHOSTUNREACH] = true,
  [errors.EINVAL] = true, [errors.ENODEV] = true, [errors.EADDRNOTAVAIL] = true,
  [errors.ENETDOWN] = true, [errors.EACCES] = true }

--- Give a link back what it had, as far as it still fits.
-- @tparam handle h
-- @tparam table link `index`, `name`
-- @tparam table had `addrs` and `routes` of @{addrs} and @{routes}
-- @raise when the kernel cannot do it now
function M.restore(h, link, had)
  local requests = {}
  for _, address in ipairs(had.addrs or {}) do
    address.index = link.index
    requests[#requests + 1] = { "add", "addr", address }
  end
  for _, route in ipairs(had.routes or {}) do
    route.oif = not route.multipath and link.index or nil
    for _, hop in ipairs(route.multipath or {}) do hop.oif = link.index end
    requests[#requests + 1] = { "append", "route", route }
  end
  if #requests == 0 then return end
  local ok, msg, errno, _, statuses = h:socket():send(requests)
  if ok then return end
  for _, status in ipairs(statuses or { errno }) do
    if status ~= 0 and not outdated[status] then
      fail.kernel("give " .. link.name .. " back its addresses and routes", msg, errno)
    end
  end
end

return M
