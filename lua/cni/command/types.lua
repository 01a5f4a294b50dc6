-- SPDX-License-Identifier: MIT
-- luacni types

local files = require "cni.record.files"
local host = require "host"
local json = require "cni.json"
local say = require "cni.command.say"

-- The program of a type in one of these folders, as a runtime looks for it, and whether it is this one.
local function program(folders, name)
  local path = files.program(folders, name)
  if not path then return nil end
  return path, say.is_own(path)
end

local function told(path, is_own, name)
  if not path then return "none: luacni link " .. name end
  return is_own and path or path .. " (not luacni)"
end

return {
  words = "",
  about = "list the types of plugins there are",
  text = "Where the script of each comes from, and the program that a runtime calls it by. Without one " ..
    "a type can be used by `luacni run` alone; `luacni link` makes it. (Looked for in CNI_PATH, " ..
    "or in the usual places.)",
  options = { json = { about = "as JSON; `luacni`: whether the program is this one" } },
  examples = { "luacni types", "CNI_PATH=/opt/cni/bin luacni types --json" },
  run = function(_, options)
    local folders = require("cni.command.link").folders()
    local list, rows = json.list {}, { { "TYPE", "SCRIPT", "PROGRAM" } }
    local check = require "cni.command.check-scripts"
    local types = host.types()
    for i, entry in ipairs(types) do
      host.progress(("types: %s, %d of %d"):format(entry.name, i, #types))
      local path, is_own = program(folders, entry.name)
      local problem = entry.origin ~= "built in" and check.problem(entry.origin) or nil
      list[i] = { type = entry.name, script = entry.origin, program = path, luacni = path and is_own,
        problem = problem }
      rows[i + 1] = { entry.name, entry.origin, told(path, is_own, entry.name)
        .. (problem and "; cannot be loaded: luacni check-scripts says why" or "") }
    end
    if options.json then say.json(list) else say.columns(rows) end
  end,
}
