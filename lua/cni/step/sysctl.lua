-- SPDX-License-Identifier: MIT
--- Step `sysctl`: settings below /proc/sys, as seen from one namespace.
-- @module cni.step.sysctl

local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

local function write(list, h, what)
  local ok, msg, errno = netlink.ns.sysctl(h.where, list)
  if not ok then fail.kernel(what, msg, errno) end
end

function M.run(step, plan)
  local list, h = step.want.list, plan[step.ns]
  if step.want.keep then
    -- Reading is cheap; a write to ip_forward walks every link of the host.
    local paths = {}
    for i, entry in ipairs(list) do paths[i] = entry[1] end
    local now = netlink.ns.sysctl_get(h.where, paths) or {}
    local missing = {}
    for i, entry in ipairs(list) do
      if now[i] ~= entry[2] then missing[#missing + 1] = entry end
    end
    list = missing
  end
  if #list > 0 then write(list, h, M.say(step)) end
end

function M.verify(step, plan)
  local list, h = step.want.list, plan[step.ns]
  local paths = {}
  for i, entry in ipairs(list) do paths[i] = entry[1] end
  local now = netlink.ns.sysctl_get(h.where, paths) or {}
  for i, entry in ipairs(list) do
    if not entry[3] and now[i] ~= entry[2] then
      return ("sysctl %s is %s, not %s"):format(entry[1], now[i] or "absent", entry[2])
    end
  end
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  if h and step.had and #step.had > 0 then write(step.had, h, "restore sysctls") end
end

function M.say(step)
  local words = {}
  for i, entry in ipairs(step.want.list) do words[i] = entry[1] .. "=" .. entry[2] end
  return ("sysctl in the %s: %s"):format(step.ns == "pod" and "sandbox" or "host",
    table.concat(words, " "))
end

return M
