-- SPDX-License-Identifier: MIT
--- Links of the host that the steps of a dry run stand on and that are not there: its ADD would fail for want
-- of them, though nothing has asked for their index. What a sandbox has by then, nobody can know.
-- @module cni.engine.lacks

local args = require "cni.engine.args"
local fail = require "cni.fail"

local M = {}

-- The names in a step's `want` of links that it makes, and of links that it stands on.
local function names_of(want)
  local set, peer = want.set or {}, want.peer or {}
  return { want.name, peer.name, set.name }, { want.link, want.master, peer.master, set.master }
end

local function each_name(names, action)
  for i = 1, 4 do
    if type(names[i]) == "string" then action(names[i]) end
  end
end

--- What is not there.
-- @tparam table plan of a dry run
-- @tparam table made set of names: what is made by now, by plugins before this one of the chain; what this
-- one makes comes to it
-- @treturn {fail,...} what its ADD would say of each link, once
function M.links(plan, made)
  for _, step in ipairs(plan.steps) do
    if step.ns == "host" then
      each_name((names_of(step.want)), function(name) made[name] = true end)
    end
  end
  local found, seen = {}, {}
  for _, step in ipairs(plan.steps) do
    if step.ns == "host" then
      each_name(select(2, names_of(step.want)), function(name)
        if made[name] or seen[name] or plan.host:link(name) then return end
        seen[name] = true
        found[#found + 1] = args.placed(fail.new {
          code = fail.codes.internal, msg = ("link %s is not in the host"):format(name),
        }, step)
      end)
    end
  end
  return found
end

return M
