-- SPDX-License-Identifier: MIT
--- What `luacni doc` tells, as declarations for lua-language-server: an editor then completes verbs and keys,
-- and says what is wrong with them.
-- @module cni.command.meta
-- @see cni.command.pages

local host = require "host"
local pages = require "cni.command.pages"

local M = {}

-- Types as the rows of the bindings, and the comments, call them; others have their own names there.
local types = { mac = "string", ip = "string", bytes = "string", words = "string[]", list = "table",
  other = "any", int = "integer", bool = "boolean", cidr = "luacni.cidr",
  lease = "luacni.lease", record = "luacni.record", handle = "luacni.handle",
  Node = "luacni.node", Pod = "luacni.pod" }
for _, name in ipairs { "string", "number", "integer", "boolean", "table", "function", "nil", "any" } do
  types[name] = name
end

local function type_of(kind)
  if kind == "" then return "any" end
  if kind:find("[{}%[%]]") then return "table" end
  local names = {}
  for name in kind:gsub("^%?", ""):gmatch("[^|]+") do
    names[#names + 1] = types[name] or "table"
  end
  return table.concat(names, "|")
end

local function comment(lines, texts)
  for _, text in ipairs(texts) do lines[#lines + 1] = ("--- " .. text):gsub("%s+$", "") end
end

local function put_function(lines, entry, owner, separator, is_method)
  lines[#lines + 1] = ""
  comment(lines, entry.text)
  local names = {}
  for _, item in ipairs(entry.takes) do
    local name = item.name:match("^[%w_]+") or "..."
    if not (is_method and name == "req") then
      names[#names + 1] = name
      lines[#lines + 1] = ("---@param %s%s %s %s"):format(name, item.optional and "?" or "",
        name == "req" and "luacni.req" or type_of(item.kind), table.concat(item, " ")):gsub("%s+$", "")
    end
  end
  for _, item in ipairs(entry.gives) do
    local about = table.concat(item, " ")
    lines[#lines + 1] = ("---@return %s%s"):format(type_of(item.kind), about ~= "" and " # " .. about or "")
  end
  lines[#lines + 1] = ("function %s%s%s(%s) end"):format(owner, separator, entry.name,
    table.concat(names, ", "))
end

-- What is no function: its comment alone tells what it is.
local function put_value(lines, entry, owner)
  lines[#lines + 1] = ""
  comment(lines, entry.text)
  lines[#lines + 1] = ("%s.%s = nil ---@type any"):format(owner, entry.name)
end

-- What a module gives that has methods. Its table has a capital letter, as the module may have its name.
local function put_object(lines, entry, made)
  local class = entry.class or entry.owner
  class = class:lower()
  local name = class:gsub("^%l", string.upper)
  if not made[class] then
    lines[#lines + 1] = ""
    comment(lines, entry.class and entry.text or {})
    local base = entry.extends and " : luacni." .. entry.extends:lower() or ""
    lines[#lines + 1] = "---@class luacni." .. class .. base
    for _, field in ipairs(entry.fields) do
      lines[#lines + 1] = ("---@field %s any %s"):format(field.name, table.concat(field, " "))
    end
    lines[#lines + 1] = ("local %s = {}"):format(name)
    made[class] = true
  end
  if entry.owner then put_function(lines, entry, name, ":") end
end

local function put_entries(lines, page, owner, separator)
  local made = {}
  for _, entry in ipairs(page) do
    if entry.class or entry.owner then
      put_object(lines, entry, made)
    elseif entry.usage:find("%(") then
      put_function(lines, entry, owner, separator, separator == ":")
    else
      put_value(lines, entry, owner)
    end
  end
end

local function put_class(lines, name)
  local page = pages.module(name)
  lines[#lines + 1] = ""
  comment(lines, page.text)
  lines[#lines + 1] = "---@class luacni." .. name
  for _, line in ipairs(page.text) do
    -- A list of what it has beside its verbs: names, two spaces, what each is.
    local names, about = line:match("^    ([%l_]+[%l_, ]*)  +(%S.*)$")
    for field in (names or ""):gmatch("[%l_]+") do
      local kind = (field == "host" or field == "pod") and "luacni.handle" or "any"
      lines[#lines + 1] = ("---@field %s %s %s"):format(field, kind, about)
    end
  end
  lines[#lines + 1] = ("local %s = {}"):format(name)
  put_entries(lines, page, name, ":")
end

local function put_keys(lines, object)
  table.move({ "", "--- " .. pages.objects[object], "---@class luacni." .. object:gsub("%-", "_") }, 1, 3,
    #lines + 1, lines)
  local kinds = pages.kinds(object)
  for i = 0, #kinds do
    for _, row in ipairs(pages.keys(object, kinds[i])) do
      local words = row[2]:find("|", 1, true) or not row[2]:find("^%l+$") and not row[2]:find("^integer")
      local kind = words and '"' .. row[2]:gsub(" | ", '"|"') .. '"' or type_of(row[2]:match("^%l+"))
      local key = row[1]:find("^%d") and "[" .. row[1] .. "]" or row[1]
      local about = (row[2]:match("^integer(, .*)") or "") .. (kinds[i] and ", of kind " .. kinds[i] or "")
      lines[#lines + 1] = ("---@field %s? %s%s"):format(key, kind, about:gsub("^,", ""))
    end
  end
end

--- The declarations, a file each.
-- @treturn {[string]=string,...} text by path, below a folder that the language server is told of
function M.files()
  local out, lines = {}, { "---@meta luacni" }
  for _, name in ipairs { "handle", "req" } do put_class(lines, name) end
  for object in next, pages.objects do put_keys(lines, object) end
  out["luacni.lua"] = table.concat(lines, "\n") .. "\n"
  for _, name in ipairs(host.pages()) do
    if name ~= "handle" and name ~= "req" then
      local page = pages.module(name)
      local required = pages.require_name(name)
      lines = { "---@meta " .. required, "" }
      comment(lines, page.text)
      lines[#lines + 1] = ("local %s = {}"):format(name)
      put_entries(lines, page, name, ".")
      table.move({ "", "return " .. name }, 1, 2, #lines + 1, lines)
      out[required:gsub("%.", "/") .. ".lua"] = table.concat(lines, "\n") .. "\n"
    end
  end
  return out
end

return M
