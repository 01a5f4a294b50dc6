-- SPDX-License-Identifier: MIT
--- Step `shared_sysctl`: settings below /proc/sys that other attachments may set too (cni.record.values).
-- @module cni.step.shared_sysctl

local sysctl = require "cni.step.sysctl"
local values = require "cni.record.values"

local M = { chosen = { id = true }, say = sysctl.say, without = sysctl.without, key = sysctl.key }

-- The setting for all links that, when it is written, also changes this one of a single link.
local function above(path)
  local family, link, rest = path:match "^net/(ipv%d)/conf/([^/]+)/(.+)"
  if family and link ~= "all" then return ("sysctl net/%s/conf/all/%s"):format(family, rest) end
end

local function looker(step, h)
  return function()
    local list, items = step.want.list, {}
    local now = h.absent and {} or sysctl.values(h, list)
    for i, entry in ipairs(list) do
      items[i] = { key = "sysctl " .. entry[1], name = entry[1], value = entry[2],
        now = now[i] or nil, optional = entry[3], after = above(entry[1]) }
    end
    return items
  end
end

-- As `set` and `give_back` of cni.step.sysctl take them.
local function writes_of(items)
  local writes = {}
  for i, item in ipairs(items) do writes[i] = { item.name, item.value, item.optional } end
  return writes
end

function M.run(step, plan)
  local h = plan[step.ns]
  values.set(step, plan, looker(step, h), function(items)
    sysctl.set(writes_of(items), h, M.say(step))
  end)
  sysctl.kept(step, h)
end

function M.verify(step, plan)
  local h, list = plan[step.ns], {}
  local difference = sysctl.verify(step, plan)
  if not difference then return nil end
  for i, item in ipairs(looker(step, h)()) do
    if not values.overruled(step, plan, item) then list[#list + 1] = step.want.list[i] end
  end
  return sysctl.verify({ ns = step.ns, want = { list = list } }, plan)
end

--- The new value above the old one, which then goes from below it.
function M.change(from, to, plan)
  M.run(to, plan)
  M.undo(from, plan)
end

function M.undo(step, plan)
  local h = plan[step.ns]
  values.give_back(step, plan, looker(step, h), function(items)
    sysctl.give_back(writes_of(items), h, plan)
  end)
end

return M
