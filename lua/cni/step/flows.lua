-- SPDX-License-Identifier: MIT
--- Flows that connection tracking goes on to treat as before, although elements have changed what is to
-- become of them: those are forgotten, and no others. For cni.step.elements.
--
-- A `flow` of a step: `family`, `proto` (a number), `first` and `last`, ports of the host; `dst`, its
-- address, or nil for all of this host; `to`, who answers by the elements; `unless`, names of sets: what an
-- element of somebody else has there by address, protocol and port is that one's.
--
-- @module cni.step.flows

local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

-- Whether an address is one of this host, once for each.
local function local_to(h)
  local known = {}
  return function(dst)
    if known[dst] == nil then
      local route = h:socket():way(dst)
      known[dst] = route ~= nil and route.type == "local"
    end
    return known[dst]
  end
end

local function tracked(socket, flow)
  local one = flow.first == flow.last
  local list, msg, errno = socket:flows { family = flow.family, proto = flow.proto, dst = flow.dst,
    port = one and flow.first or nil }
  -- Nothing is tracked where the kernel cannot be asked: its module is loaded by the question.
  if not list and errno == netlink.sys.errno.EINVAL then return {} end
  if not list then fail.kernel("list tracked flows", msg, errno) end
  return list
end

--- Forget what elements that were added, or removed, have an effect on.
-- @tparam handle h of the namespace
-- @param socket of nf_tables
-- @tparam table flows see above
-- @tparam boolean removed whether the elements are gone
-- @tparam function taken (name of a set, flow): whether an element of somebody else has it
function M.forget(h, socket, flows, removed, taken)
  local is_local, lists, doomed = local_to(h), {}, {}
  for _, flow in ipairs(flows) do
    -- Many ranges of one protocol are one look.
    local key = ("%s %d %s %s"):format(flow.family, flow.proto, flow.dst or "",
      flow.first == flow.last and #flows < 4 and flow.first or "")
    lists[key] = lists[key] or tracked(socket, #flows < 4 and flow
      or { family = flow.family, proto = flow.proto, dst = flow.dst, first = 0, last = 65535 })
    for _, found in ipairs(lists[key]) do
      local mine = found.to == flow.to
      local meant = found.port >= flow.first and found.port <= flow.last and mine == removed
      if meant and not removed then
        meant = is_local(found.dst)
        for _, name in ipairs(meant and flow.unless or {}) do meant = meant and not taken(name, found) end
      end
      if meant then doomed[#doomed + 1] = found end
    end
  end
  local count, msg, errno = socket:forget(doomed)
  if not count then fail.kernel("forget tracked flows", msg, errno) end
end

return M
