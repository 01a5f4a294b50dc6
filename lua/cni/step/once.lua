-- SPDX-License-Identifier: MIT
--- Step `once`: a value that the ADD decides, written down for CHECK and for the undo of other steps. There
-- is nothing to do, and nothing to take back.
-- @module cni.step.once

local fail = require "cni.fail"
local json = require "cni.json"

local M = {}

--- Write a value down.
-- @tparam table plan in the mode apply
-- @tparam string of whose it is: the type of a script, or a kind of step
-- @tparam string name what they call it
-- @param value what JSON can say
-- @return the value
-- @raise when it cannot be written down
function M.keep(plan, of, name, value)
  local step = { kind = "once", ns = "host", want = { of = of, name = name, value = value } }
  local ok, why = pcall(json.note, step.want)
  if not ok then
    fail.throw { msg = ("%s: the value cannot be written down: %s"):format(name, why),
      hint = "it may be a string, a number, a boolean, or a table of such" }
  end
  plan:push(step)
  return value
end

--- What keeps a value from being written down.
-- @param value
-- @tparam[opt] function object what a table is in words, when it is one of ours that has more to it than its
-- fields; nil for any other
-- @tparam[opt] integer depth how deep in another value it is
-- @treturn ?string nil when nothing does
-- @treturn ?string where in the value
function M.problem(value, object, depth)
  local kind = type(value)
  if value == nil or kind == "string" or kind == "number" or kind == "boolean" then return nil end
  if kind ~= "table" then
    return "a string, number, boolean or table of such can be kept, not a " .. kind
  end
  local what = object and object(value)
  if what then return "a string, number, boolean or table of such can be kept, not " .. what end
  if (depth or 0) > 30 then return "it is too deep" end
  for key, item in next, value do
    if type(key) ~= "string" and math.type(key) ~= "integer" then
      return "keys are strings, or those of a list", ("[%s]"):format(tostring(key))
    end
    local problem, at = M.problem(item, object, (depth or 0) + 1)
    if problem then return problem, (math.type(key) and "[%d]%s" or ".%s%s"):format(key, at or "") end
  end
end

--- A value that was written down.
-- @tparam {table,...} steps of a plan or of a record
-- @tparam string of
-- @tparam string name
-- @treturn boolean whether there is one
-- @return it
function M.find(steps, of, name)
  for _, step in ipairs(steps) do
    local want = step.want
    if step.kind == "once" and want.of == of and want.name == name then return true, want.value end
  end
  return false
end

function M.say(step)
  return ("keep %s of %s: %s"):format(step.want.name, step.want.of, json.show(step.want.value))
end

return M
