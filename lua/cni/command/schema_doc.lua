-- SPDX-License-Identifier: MIT
--- What people are told about a declaration: the tables of `luacni doc`, and the keys
-- that `luacni validate` finds unknown. No request needs it.
-- @module cni.command.schema_doc
-- @see cni.schema

local json = require "cni.json"

local M = {}

-- Keys of every plugin configuration, read by the host or left to other plugins.
local standard = {}
for _, key in ipairs { "cniVersion", "name", "type", "ipam", "dns", "ipMasq", "args",
  "capabilities", "runtimeConfig", "prevResult" } do
  standard[key:lower()] = true
end

local function sorted_keys(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local seek

local function seek_record(t, raw, path, found)
  local keys, folded = sorted_keys(t.fields), {}
  for _, key in ipairs(keys) do folded[key:lower()] = key end
  for _, key in ipairs(sorted_keys(raw)) do
    local known = t.fields[key] and key or folded[key:lower()]
    local at = path == "" and key or path .. "." .. key
    if known then
      seek(t.fields[known], raw[key], at, found)
    elseif path ~= "" or not (standard[key:lower()] or key:find("^cni%.dev/")) then
      found[#found + 1] = {
        path = at, nearest = require("cni.protocol.hints").nearest(key, keys),
      }
    end
  end
end

function seek(t, raw, path, found)
  if type(raw) ~= "table" then return end
  if t.fields then
    if not json.is_list(raw) then seek_record(t, raw, path, found) end
  elseif t.name == "list" then
    for i, item in ipairs(raw) do seek(t.item, item, path .. "[" .. i - 1 .. "]", found) end
  elseif t.name == "map" then
    for _, key in ipairs(sorted_keys(raw)) do
      seek(t.item, raw[key], path .. "." .. tostring(key), found)
    end
  end
end

--- The keys that nothing reads.
-- @tparam record rec of cni.schema
-- @tparam table raw decoded configuration
-- @treturn {table,...} `path` and, where one is near, `nearest` each
function M.unknown_keys(rec, raw)
  local found = {}
  seek(rec, raw, "", found)
  return found
end

local function put_rows(rows, rules, t, path)
  while t.item do
    path = path .. (t.name == "map" and ".NAME" or "[]")
    t = t.item
  end
  if not t.fields then return end
  local prefix = path == "" and "" or path .. "."
  for _, rule in ipairs(t.rules) do
    if rule.doc then
      rules[#rules + 1] = path == "" and rule.doc or "In " .. path .. ": " .. rule.doc
    end
  end
  for _, key in ipairs(sorted_keys(t.fields)) do
    local field = t.fields[key]
    rows[#rows + 1] = {
      key = prefix .. key,
      type = field:describe(),
      default = field.default ~= nil and json.compact(field.default) or nil,
      required = field.required or false,
      doc = field.doc,
    }
    put_rows(rows, rules, field, prefix .. key)
  end
end

--- What a record takes, as rows for a table; nested keys follow theirs, as "ipam.type"
-- and "ranges[].subnet".
-- @tparam record rec of cni.schema
-- @treturn {table,...} `key`, `type`, `default` (JSON text or nil), `required`, `doc` each
-- @treturn {string,...} rules between keys, a sentence each
function M.describe(rec)
  local rows, rules = {}, {}
  put_rows(rows, rules, rec, "")
  return rows, rules
end

return M
