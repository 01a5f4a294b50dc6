-- SPDX-License-Identifier: MIT
--- Step `enslave`: a link put under a VRF. The kernel takes the link down and up for it and drops
-- routes and IPv6 addresses on the way: they are put back, into the VRF's table, and into the main one
-- when the link is let go.
-- @module cni.step.enslave

local carry = require "cni.links.carry"
local errors = require("netlink").sys.errno
local fail = require "cni.fail"

local M = { of_interface = true, telling = true }

local main = 254

--- What there is to remember of a link before its master changes: its IPv6 addresses and its routes,
-- but for those that the kernel makes for each address.
-- @tparam handle h
-- @tparam table link as netlink gives it
-- @tparam[opt] int table_id the table its routes are in, by default the main one
-- @treturn table for the step's `had`
function M.before(h, link, table_id)
  return { addrs = carry.addrs(h, link, { family = "inet6" }),
    routes = carry.routes(h, link, { table = table_id or main }) }
end

-- Requests that take a link's hops out of the IPv6 routes that it shares with other links: such a route stays
-- when the link goes down, and would use the link again once it is up.
local function leave_shared(h, link, table_id)
  local requests = {}
  for _, route in ipairs(h:routes { family = "inet6", table = table_id }) do
    local others, own = false, {}
    for _, hop in ipairs(route.multipath or {}) do
      if hop.oif == link.index then own[#own + 1] = hop else others = true end
    end
    for _, hop in ipairs(others and own or {}) do
      requests[#requests + 1] = { "del", "route", { dst = route.dst, gw = hop.gw, oif = hop.oif,
        table = table_id, priority = route.priority } }
    end
  end
  return requests
end

-- Put the link under a master (0: none), and give it back its addresses and its routes: these move from the
-- table `from` to `table_id`, behind routes of others to the same destinations. Returns true; or nil, message
-- and errno of the first refusal that matters, and whether the link has its master.
local function put(h, link, had, master, from, table_id)
  local requests = leave_shared(h, link, from)
  local first = #requests + 1
  requests[first] = { "set", "link", { index = link.index, master = master } }
  for _, address in ipairs(had.addrs) do
    address.index = link.index
    requests[#requests + 1] = { "replace", "addr", address }
  end
  for _, route in ipairs(had.routes) do
    route.oif, route.table = not route.multipath and link.index or nil, table_id
    requests[#requests + 1] = { "append", "route", route }
  end
  local ok, msg, errno, index, statuses = h:socket():send(requests)
  if ok or not statuses then return ok, msg, errno end
  for i, status in ipairs(statuses) do
    -- That the very same route is there already is no failure.
    if status ~= 0 and not (status == errors.EEXIST and requests[i][2] == "route") then
      local again, why, number = false, msg, errno
      if i ~= index then again, why, number = h:socket():send { requests[i] } end
      if not again then return nil, why, number, statuses[first] == 0 end
    end
  end
  return true
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  local link, vrf = h:link(want.link), h:link(want.master, { "vrf_table" })
  for name, found in pairs { [want.link] = link or false, [want.master] = vrf or false } do
    if not found then
      fail.throw { msg = ("%s: link %s is not in the %s"):format(M.say(step), name,
        step.ns == "pod" and "sandbox" or "host") }
    end
  end
  -- What it had when it was first put there is no more what it has now.
  local had = plan.mode == "repair" and M.before(h, link) or step.had
  local ok, msg, errno = put(h, link, had, vrf.index, main, vrf.vrf_table)
  if not ok then fail.kernel(M.say(step), msg, errno) end
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link, master = h:link(want.link), h:link(want.master)
  if not link then return ("link %s is not in the sandbox"):format(want.link) end
  if not master or link.master ~= master.index then
    return ("link %s is not in VRF %s"):format(want.link, want.master)
  end
end

-- A link that somebody has put under another master is left alone. The remembered addresses and routes may
-- not fit any more: then the link leaves the VRF without them.
function M.undo(step, plan)
  local want, h = step.want, plan:at(step.ns)
  local link = h and h:link(want.link)
  local vrf = link and h:link(want.master, { "vrf_table" })
  if not link or link.master and not (vrf and link.master == vrf.index) then return end
  local had = step.had or M.before(h, link, link.master and vrf.vrf_table)
  local from = link.master and vrf.vrf_table or main
  local ok, msg, errno, free = put(h, link, had, 0, from, main)
  if not ok and not free then
    fail.kernel(("take %s out of VRF %s"):format(want.link, want.master), msg, errno)
  end
end

function M.stands(step, plan)
  return not M.verify(step, plan)
end

function M.say(step)
  return ("put %s into VRF %s"):format(step.want.link, step.want.master)
end

return M
