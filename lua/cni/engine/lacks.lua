-- SPDX-License-Identifier: MIT
--- Links of the host that the steps of a dry run stand on and that are not there: its ADD would fail for want
-- of them, though nothing has asked for their index. What a sandbox has by then, nobody can know. And links
-- that two plugins of one chain would make.
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
-- @tparam table made of @{twice}: what is made by now, by plugins before this one of the chain; what this one
-- makes comes to it
-- @treturn {fail,...} what its ADD would say of each link, once
function M.links(plan, made)
  for _, step in ipairs(plan.steps) do
    if step.ns == "host" then
      each_name((names_of(step.want)), function(name) made.host[name] = made.host[name] or made.by end)
    end
  end
  local found, seen = {}, {}
  for _, step in ipairs(plan.steps) do
    if step.ns == "host" then
      each_name(select(2, names_of(step.want)), function(name)
        if made.host[name] or seen[name] or plan.host:link(name) then return end
        seen[name] = true
        found[#found + 1] = args.placed(fail.new {
          code = fail.codes.internal, msg = ("link %s is not in the host"):format(name),
        }, step)
      end)
    end
  end
  return found
end

local place_of <const> = { host = "host", pod = "sandbox" }

-- The links that a step makes, and that can be there once only: names by namespace.
local function makes(step)
  local want = step.want
  if step.kind == "move" then return { [want.into] = want.name } end
  if step.kind ~= "link" and step.kind ~= "tap" then return {} end
  local names = { [want.into or step.ns] = want.name }
  if want.peer then names[want.peer.ns] = want.peer.name end
  return names
end

--- Links that a plugin before this one of the chain makes as well.
-- @tparam table plan of a dry run
-- @tparam table made `host` and `pod`, who makes a link by its name; `by`, who this plugin is. What this one
-- makes comes to it
-- @treturn {fail,...} what is wrong with each
function M.twice(plan, made)
  local found = {}
  for _, step in ipairs(plan.steps) do
    for ns, name in pairs(makes(step)) do
      local other = made[ns][name]
      if other and other ~= made.by then
        found[#found + 1] = args.placed(fail.new {
          msg = ("link %s in the %s is made by %s as well"):format(name, place_of[ns], other),
          hint = "another interface is another attachment, with an interface name of its own",
        }, step)
      end
      made[ns][name] = other or made.by
    end
  end
  return found
end

return M
