-- SPDX-License-Identifier: MIT
--- Flows that connection tracking goes on to treat as before, although elements have changed what is to
-- become of them: those are forgotten, and no others. For cni.step.elements.
--
-- A `flow` of a step: `family`, `proto` (a number), `first` and `last`, ports of the host; `dst`, its
-- address, or nil for all of this host; `to`, who answers by the elements; `unless`, names of sets: what an
-- element of somebody else has there by address, protocol and port is that one's; `asked`, the set of the
-- layout that tracks the protocol, if there is one (cni.step.layout).
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

-- Flows by protocol: `filter`, what those of it have in common, since each list that the kernel gives costs
-- it a walk through all that is tracked on the machine; `at`, those of one port by it; `ranges`, the others.
local function by_protocol(flows)
  local all = {}
  for _, flow in ipairs(flows) do
    local port = flow.first == flow.last and flow.first or nil
    local same = all[flow.proto]
    if not same then
      same = { at = {}, ranges = {},
        filter = { proto = flow.proto, family = flow.family, dst = flow.dst, port = port } }
      all[flow.proto] = same
    end
    local filter = same.filter
    if flow.family ~= filter.family then filter.family = nil end
    if flow.dst ~= filter.dst or not filter.family then filter.dst = nil end
    if port ~= filter.port then filter.port = nil end
    local list = same.ranges
    if port then
      list = same.at[port] or {}
      same.at[port] = list
    end
    list[#list + 1] = flow
  end
  return all
end

local function tracked(socket, filter)
  local list, msg, errno = socket:flows(filter)
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
  local is_local, doomed = local_to(h), {}
  local function is_meant(found, flow)
    if found.family ~= flow.family or found.port < flow.first or found.port > flow.last
      or flow.dst and found.dst ~= flow.dst or (found.to == flow.to) ~= removed then return false end
    if removed then return true end
    if not is_local(found.dst) then return false end
    for _, name in ipairs(flow.unless or {}) do
      if taken(name, found) then return false end
    end
    return true
  end
  for _, same in pairs(by_protocol(flows)) do
    for _, found in ipairs(tracked(socket, same.filter)) do
      for _, list in ipairs { same.at[found.port] or {}, same.ranges } do
        for _, flow in ipairs(list) do
          if is_meant(found, flow) then doomed[#doomed + 1] = found end
        end
      end
    end
  end
  local count, msg, errno = socket:forget(doomed)
  if not count then fail.kernel("forget tracked flows", msg, errno) end
end

return M
