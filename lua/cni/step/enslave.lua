-- SPDX-License-Identifier: MIT
--- Step `enslave`: a link put under a VRF. The kernel takes the link down and up for it and drops
-- routes and IPv6 addresses on the way: they are put back, into the VRF's table, and into the main one
-- when the link is let go.
-- @module cni.step.enslave

local fail = require "cni.fail"

local M = {}

local main = 254

-- What a route keeps in another table.
local kept = { "dst", "gw", "src", "scope", "protocol", "priority", "mtu", "advmss", "onlink" }

--- What there is to remember of a link before it is enslaved: its IPv6 addresses and the routes
-- of the main table, but for those that the kernel makes for each address.
-- @tparam handle h
-- @tparam table link as netlink gives it
-- @treturn table for the step's `had`
function M.before(h, link)
  local had = { addrs = {}, routes = {} }
  for _, have in ipairs(h:addrs(link.name)) do
    if have.family == "inet6" and have.scope ~= "link" and have.scope ~= 253 then
      had.addrs[#had.addrs + 1] = { address = have.address, nodad = true,
        noprefixroute = have.noprefixroute or nil }
    end
  end
  for _, family in ipairs { "inet", "inet6" } do
    for _, have in ipairs(h:routes { family = family, table = main }) do
      if have.oif == link.index and have.protocol ~= "kernel" then
        local route = {}
        for _, key in ipairs(kept) do route[key] = have[key] end
        had.routes[#had.routes + 1] = route
      end
    end
  end
  -- A gateway can be named when it can be reached.
  table.sort(had.routes, function(a, b) return a.gw == nil and b.gw ~= nil end)
  return had
end

-- Put the link under a master (nil: none), with what it had, into a table.
local function carry(step, h, link, master, table_id)
  local requests = { { "set", "link", { index = link.index, master = master or 0 } } }
  for _, had in ipairs(step.had and step.had.addrs or {}) do
    local attrs = { index = link.index }
    for key, value in pairs(had) do attrs[key] = value end
    requests[#requests + 1] = { "replace", "addr", attrs }
  end
  for _, had in ipairs(step.had and step.had.routes or {}) do
    local route = { oif = link.index, table = table_id }
    for key, value in pairs(had) do route[key] = value end
    requests[#requests + 1] = { "replace", "route", route }
  end
  local ok, msg, errno = h:socket():send(requests)
  if not ok then fail.kernel(M.say(step), msg, errno) end
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  carry(step, h, h:link(want.link), h:index(want.master), want.table)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link, master = h:link(want.link), h:link(want.master)
  if not link then return ("link %s is not in the sandbox"):format(want.link) end
  if not master or link.master ~= master.index then
    return ("link %s is not in VRF %s"):format(want.link, want.master)
  end
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  local link = h and h:link(step.want.link)
  if link then carry(step, h, link, nil, main) end
end

function M.say(step)
  return ("put %s into VRF %s"):format(step.want.link, step.want.master)
end

return M
