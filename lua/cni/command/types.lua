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

-- The hooks of the site, likewise.
local function put_hooks(list, rows, check)
  local hooks = require "cni.engine.hooks"
  for _, name in ipairs(hooks.names(host)) do
    local path = ("%s/%s.lua"):format(hooks.folder, name)
    local problem = check.problem(path)
    local matched = not problem and hooks.told(host.load_hook(name)) or nil
    list[#list + 1] = { hook = name, script = path, match = matched, problem = problem }
    rows[#rows + 1] = { "(hook) " .. name, path, problem and "cannot be loaded: luacni check-scripts says why"
      or "round " .. matched }
  end
end

return {
  words = "",
  about = "list the types of plugins there are, and the hooks",
  text = "Where the script of each comes from, and the program that a runtime calls it by. Without one " ..
    "a type can be used by `luacni run` alone; `luacni link` makes it. (Looked for in CNI_PATH, " ..
    "or in the usual places.) Behind them the hooks of this site, and which attachments they are for.",
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
    put_hooks(list, rows, check)
    if options.json then say.json(list) else say.columns(rows) end
  end,
}
