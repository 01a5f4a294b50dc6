-- SPDX-License-Identifier: MIT
--- Declarations (cni.schema) as JSON Schema, for editors and for whoever checks configurations before they
-- are on a node. It says less than a script's reader does: what a text means (that an address is one, that a
-- range lies in its subnet) is for `luacni validate`. What it refuses, the reader refuses.
-- @module cni.command.json_schema

local json = require "cni.json"
local schema = require "cni.schema"

local M = {}

local to_schema

-- An absent value may be written as null, so what may be absent may be null.
local function of_kind(kind, field, more)
  more.type = field.required and kind or { kind, "null" }
  return more
end

local function text(field)
  return of_kind("string", field, {
    -- Lengths are of bytes there and of characters here: one tells nothing but that there is something.
    minLength = field.min_len and field.min_len > 0 and field.empty ~= "absent" and 1 or nil,
  })
end

local kinds = {}

function kinds.boolean(field) return of_kind("boolean", field, {}) end
function kinds.unserved() return { enum = { false, json.null } } end
function kinds.any() return {} end
kinds.string, kinds.ifname, kinds.mac, kinds.ip, kinds.cidr = text, text, text, text, text

function kinds.integer(field)
  return of_kind("integer", field, { minimum = field.min, maximum = field.max })
end

-- 0, and what is below it, is the default.
function kinds.mtu(field)
  local out = of_kind("integer", field, { maximum = field.max })
  if field.strict then out.anyOf = { { const = 0 }, { minimum = field.min }, { type = "null" } } end
  return out
end

function kinds.enum(field)
  local words = table.move(field.values, 1, #field.values, 1, {})
  if field.empty == "absent" then words[#words + 1] = "" end
  if not field.required then words[#words + 1] = json.null end
  return { enum = words }
end

function kinds.list(field)
  return of_kind("array", field, { items = to_schema(field.item), minItems = field.min_items,
    maxItems = field.max_items })
end

function kinds.map(field)
  return of_kind("object", field, { additionalProperties = to_schema(field.item) })
end

function kinds.record(field)
  local properties, required = {}, {}
  for key, inner in next, field.fields do properties[key] = to_schema(inner) end
  for _, key in ipairs(field.keys) do
    if field.fields[key].required then required[#required + 1] = key end
  end
  return of_kind("object", field, { properties = properties, required = required[1] and required or nil })
end

function to_schema(field)
  local out = kinds[field.name](field)
  out.description = field.doc
  if field.default ~= nil and field.name ~= "record" then out.default = field.default end
  return out
end

-- What holds where `key`, a way of one or two keys, is that word.
local function where(key, word, holds)
  local inner, outer = key:match("^(.-)%.?([^.]+)$")
  local condition = { properties = { [outer] = { const = word } }, required = { outer } }
  if inner ~= "" then condition = { properties = { [inner] = condition }, required = { inner } } end
  return { ["if"] = condition, ["then"] = holds }
end

--- The schema of network configurations: lists of plugins, and single plugins.
-- @tparam {[string]=table,...} scripts what the script of each type returned
-- @treturn table
function M.of(scripts)
  local rules, names, cni_args = {}, {}, {}
  for name in next, scripts do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local script = scripts[name]
    -- No part of a configuration: for whoever makes the environment that a plugin is called in.
    if script.args then cni_args[name] = kinds.record(script.args) end
    if schema.is_record(script.conf) then
      local holds = kinds.record(setmetatable({ required = true }, { __index = script.conf }))
      rules[#rules + 1] = where("type", name, holds)
      if script.ipam then rules[#rules + 1] = where("ipam.type", name, holds) end
    end
  end
  local word = { type = "string", minLength = 1 }
  local plugin = { type = "object", required = { "type" }, properties = {
    type = word, capabilities = { type = { "object", "null" }, additionalProperties = { type = "boolean" } },
  }, allOf = rules }
  local list = { properties = {
    plugins = { type = "array", minItems = 1, items = { ["$ref"] = "#/$defs/plugin" } },
    disableCheck = { type = { "boolean", "string", "null" } },
    loadOnlyInlinedPlugins = { type = { "boolean", "null" } },
  } }
  return {
    ["$schema"] = "https://json-schema.org/draft/2020-12/schema",
    title = "CNI network configuration",
    type = "object", required = { "name" },
    properties = { cniVersion = { type = { "string", "null" } }, name = word },
    ["if"] = { required = { "plugins" } }, ["then"] = list, ["else"] = { ["$ref"] = "#/$defs/plugin" },
    ["$defs"] = { plugin = plugin, CNI_ARGS = next(cni_args) and cni_args or nil },
  }
end

return M
