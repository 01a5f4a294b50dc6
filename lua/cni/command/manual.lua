-- SPDX-License-Identifier: MIT
--- What a plugin's script says of itself, for people: the comment at its head, and the keys it
-- declares. `luacni doc` prints it, and the README's tables are made of it.
-- @module cni.command.manual

local host = require "host"
local schema_doc = require "cni.command.schema_doc"

local M = {}

-- Rows that at least so many types have alike are told once.
local common_from = 4

--- The comment at the head of a script.
-- @tparam string type_name
-- @treturn {string,...} lines, without the marks; empty when there is none
function M.about(type_name)
  local lines, begun = {}, false
  for line in host.source(type_name):gmatch("([^\n]*)\n") do
    local text = line:match("^%-%-+ ?(.*)$")
    if begun and not text then break end
    begun = begun or text and text ~= "" and not text:find("^SPDX%-")
    if begun then lines[#lines + 1] = text end
  end
  return lines
end

local function rows_of(declared)
  local rows, rules = schema_doc.describe(declared)
  local cells = {}
  for i, row in ipairs(rows) do
    cells[i] = { row.key, row.type, row.default or row.required and "required" or "-", row.doc or "" }
  end
  return cells, rules
end

--- Rows of text, a key each, and the rules between keys.
-- @tparam table plugin what the script returned
-- @treturn {table,...} { key, type, default, description }
-- @treturn {string,...} a sentence each
function M.keys(plugin)
  if not plugin.conf then return {}, {} end
  return rows_of(plugin.conf)
end

--- Rows of text for what a script reads of CNI_ARGS.
-- @tparam table plugin what the script returned
-- @treturn {table,...} as those of @{keys}
function M.args(plugin)
  return plugin.args and rows_of(plugin.args) or {}
end

local function mark(text)
  return text ~= "-" and "`" .. text .. "`" or ""
end

local function put_table(lines, rows)
  if not rows[1] then return end
  lines[#lines + 1] = "| key | type | default | |"
  lines[#lines + 1] = "|---|---|---|---|"
  for _, row in ipairs(rows) do
    lines[#lines + 1] = ("| `%s` | %s | %s | %s |"):format(row[1], row[2],
      row[3] == "required" and row[3] or mark(row[3]), row[4])
  end
  lines[#lines + 1] = ""
end

-- The sentences before the picture, as one paragraph.
local function summary(type_name)
  local text = {}
  for _, line in ipairs(M.about(type_name)) do
    if line == "" then break end
    text[#text + 1] = line
  end
  return table.concat(text, " ")
end

--- All of that as Markdown.
-- @tparam {string,...} types
-- @treturn {string,...} lines
function M.markdown(types)
  local tables, count, common, lines = {}, {}, {}, {}
  for i, name in ipairs(types) do
    local rows, rules = M.keys(host.load_plugin(name))
    tables[i] = { rows = {}, rules = rules }
    for _, row in ipairs(rows) do
      -- An object is told by its keys, unless there is something to say of it.
      if row[2] ~= "object" or row[4] ~= "" then table.insert(tables[i].rows, row) end
      local id = table.concat(row, "\0")
      count[id] = (count[id] or 0) + 1
    end
  end
  local function is_common(row)
    local id = table.concat(row, "\0")
    local times = count[id]
    if times >= common_from and not common[id] then
      common[id] = true
      common[#common + 1] = row
    end
    return times >= common_from
  end
  for i, name in ipairs(types) do
    local own = {}
    for _, row in ipairs(tables[i].rows) do
      if not is_common(row) then own[#own + 1] = row end
    end
    table.move({ "### " .. name, "", summary(name), "" }, 1, 4, #lines + 1, lines)
    put_table(lines, own)
    if tables[i].rules[1] then
      table.move({ table.concat(tables[i].rules, " "), "" }, 1, 2, #lines + 1, lines)
    end
  end
  table.sort(common, function(a, b) return a[1] < b[1] end)
  table.move({ "### Keys of several types", "", "Where they make sense, with one meaning.", "" },
    1, 4, #lines + 1, lines)
  put_table(lines, common)
  lines[#lines] = nil
  return lines
end

return M
