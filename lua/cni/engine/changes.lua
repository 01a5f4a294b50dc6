-- SPDX-License-Identifier: MIT
--- Changes of a configuration: keys of objects one by one, anything else as a whole; `json.null` takes a key
-- out. As a JSON merge patch (RFC 7396).
--
-- @module cni.engine.changes

local json = require "cni.json"

local M = {}

local function is_object(value)
  return type(value) == "table" and not json.is_list(value)
end

--- A configuration with changes laid over it.
-- @tparam table base
-- @tparam table changes
-- @treturn table a copy, as far as it is changed
function M.merge(base, changes)
  local out = {}
  for key, value in next, base do out[key] = value end
  for key, value in next, changes do
    if value == json.null then
      out[key] = nil
    elseif is_object(value) then
      out[key] = M.merge(is_object(out[key]) and out[key] or {}, value)
    else
      out[key] = value
    end
  end
  return out
end

--- Two changes as one.
-- @tparam table older
-- @tparam table newer counts where both change the same
-- @treturn table a copy, as far as it is changed
function M.both(older, newer)
  local out = {}
  for key, value in next, older do out[key] = value end
  for key, value in next, newer do
    local objects = is_object(value) and is_object(out[key])
    out[key] = objects and M.both(out[key], value) or value
  end
  return out
end

return M
