-- SPDX-License-Identifier: MIT
--- Checks of the declarations that cni.schema makes. A declaration is checked when it is made: in a site's
-- script, when that is loaded. An error has the script's line:
--
--     /etc/luacni/plugins/wire.lua:3: schema.integer: unknown option 'minn' (did you mean 'min'?)
--
-- The types that came with the program are declared while it is built, so no request pays for this.
--
-- @module cni.engine.declared

local args = require "cni.engine.args"
local fail = require "cni.fail"

local M = {}

-- Options ----------------------------------------------------------------------------

-- What is wrong with a Lua pattern, in Lua's own words; nil: nothing. Lua itself says it only when a match
-- comes to that place.
local function pattern_problem(pattern)
  local at, count, open, closed = 1, 0, {}, {}
  while at <= #pattern do
    local c, next_one = pattern:sub(at, at), pattern:sub(at + 1, at + 1)
    local width = 1
    if c == "%" then
      width = next_one == "b" and 4 or 2
      if next_one == "" then return "malformed pattern (ends with '%')" end
      if at + width - 1 > #pattern then return "malformed pattern (missing arguments to '%b')" end
      if next_one == "f" and pattern:sub(at + 2, at + 2) ~= "[" then
        return "missing '[' after '%f' in pattern"
      end
      if next_one:find "%d" and not closed[tonumber(next_one)] then
        return ("invalid capture index %%%s in pattern"):format(next_one)
      end
    elseif c == "[" then
      -- The first ] stands for itself, and so does one behind a %.
      local last = pattern:sub(at + 1):match "^%^?%]?()"
      local rest = pattern:sub(at + last):gsub("%%.", "xx")
      local length = rest:find("]", 1, true)
      if not length then return "malformed pattern (missing ']')" end
      width = last + length
    elseif c == "(" then
      count = count + 1
      open[#open + 1] = count
    elseif c == ")" then
      local capture = table.remove(open)
      if not capture then return "invalid pattern capture" end
      closed[capture] = true
    end
    at = at + width
  end
  if open[1] then return "unfinished capture" end
end

-- A Lua pattern for the whole of a text.
local function pattern(value)
  if type(value) ~= "string" then return nil, args.expected("a Lua pattern", value) end
  local problem = pattern_problem(value)
  if problem then return nil, ("%q: %s"):format(value, problem) end
  local escapes = value:match "(%%*)%$$"
  if value:find "^%^" or escapes and #escapes % 2 == 0 then
    return nil, ("%q is for the whole text as it is, and written without ^ and $"):format(value)
  end
  return value
end

local function whole(least)
  return function(value)
    if math.type(value) == "integer" and (not least or value >= least) then return value end
    return nil, args.expected(least and "a whole number not below " .. least or "a whole number", value)
  end
end

local function words(value)
  local list, problem, at = args.list(args.string)(value)
  if problem then return nil, problem, at end
  if not list[1] then return nil, "there is no word in it" end
  return value
end

--- Readers for what an option takes, as those of cni.engine.args.
M.readers = {
  integer = whole(), count = whole(0), boolean = args.boolean, string = args.string, pattern = pattern,
  words = words, absent = args.word { "absent" }, family = args.word { "inet", "inet6" },
}

-- Options that every type takes.
local common = {
  default = function(value) return value end, required = args.boolean, optional = args.boolean,
  doc = args.string,
}

local function sorted(...)
  local names = {}
  for _, set in ipairs { ... } do
    for name in next, set do names[#names + 1] = name end
  end
  table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
  return names
end

--- Raise unless options are what a type takes.
-- @tparam type t
-- @param options
function M.options(t, options)
  local what = "schema." .. t.name
  if type(options) ~= "table" then args.refuse(what, nil, args.expected("a table of options", options)) end
  if getmetatable(options) then args.refuse(what, nil, "expected a table of options, got another type") end
  for _, key in ipairs(sorted(options)) do
    local read = common[key] or t.options[key]
    if type(key) ~= "string" then
      args.refuse(what, nil, ("expected options by name, got %s without one"):format(args.said(options[key])),
        t.example and "such as " .. t.example)
    end
    if not read then
      local names = sorted(common, t.options)
      args.refuse(what, nil, args.unknown(key, names, "option", false),
        "it takes " .. table.concat(names, ", "))
    end
    local _, problem, at = read(options[key])
    if problem then args.refuse(what, key .. (at or ""), problem) end
  end
  if options.required and options.default ~= nil then
    args.refuse(what, "default", "a key that is required has none")
  end
end

local pairs_of_limits = { { "min", "max" }, { "min_len", "max_len" }, { "min_items", "max_items" } }

--- Raise unless the options of a type go together, all that it has.
-- @tparam type t
function M.together(t)
  local what = "schema." .. t.name
  for _, limits in ipairs(pairs_of_limits) do
    local least, most = t[limits[1]], t[limits[2]]
    if least and most and least > most then
      args.refuse(what, limits[1], ("%d is above %s, which is %d"):format(least, limits[2], most))
    end
  end
  if t.default == nil or t.incomplete then return end
  local ok, err = pcall(t.read, t, t.default, "default")
  -- Other errors do not count: a check of the script's own may need something that is not there yet.
  if not ok and fail.is(err) then args.refuse(what, nil, err.msg, err.hint) end
end

-- Types ------------------------------------------------------------------------------

--- Raise unless a value can be the type of a key or of an element.
-- @tparam string what the function that has got it
-- @tparam string|nil where
-- @param value
-- @tparam boolean is_type
-- @tparam table makers functions that give types, each with how it is called
function M.type(what, where, value, is_type, makers)
  if is_type then
    if value.incomplete then
      args.refuse(what, where, ("schema.%s without its option '%s'"):format(value.name, value.needs),
        "such as " .. value.example)
    end
    return
  end
  local example = makers[value]
  if example then args.refuse(what, where, example.name .. " is not called", "such as " .. example.usage) end
  args.refuse(what, where, args.expected("a type of cni.schema, such as schema.string", value),
    type(value) == "table" and "an object is schema.record { ... }, a list is schema.list(schema.string)"
    or nil)
end

--- Raise unless a value is what the keys of a record are declared by.
-- @param fields
function M.fields(fields)
  if type(fields) ~= "table" or getmetatable(fields) then
    args.refuse("schema.record", nil, args.expected("a table of keys", fields),
      "such as schema.record { mtu = schema.mtu }")
  end
  local spelled = {}
  for _, key in ipairs(sorted(fields)) do
    if type(key) ~= "string" then
      args.refuse("schema.record", nil, ("expected a type by the name of its key, got %s without one"):format(
        args.said(fields[key])), "such as schema.record { mtu = schema.mtu }")
    end
    local other = spelled[key:lower()]
    if other then
      args.refuse("schema.record", key, ("is the same key as '%s': letter case does not count"):format(other))
    end
    spelled[key:lower()] = key
  end
end

--- What every type may be asked for, as a set.
M.is_option = common

local function names_of(methods)
  local names = {}
  for key, value in next, methods do
    if type(value) == "function" then names[#names + 1] = key end
  end
  table.sort(names)
  return names
end

--- Raise because of a method that a type has not got.
-- @string what the type, in words
-- @param name
-- @tparam string place of the script
-- @tparam table methods that it has
-- @tparam[opt] table others that records have beside
function M.no_method(what, name, place, methods, others)
  local near = others and require("cni.protocol.hints").nearest(name, names_of(others))
  local hint = near and ("'%s' is a method of records: schema.record { ... }:%s(...)"):format(near, near)
    or others and "what a type takes is written in braces, such as schema.string { optional = true }"
  args.refuse(what, nil, args.unknown(name, names_of(methods), "method", false), hint or nil, place)
end

--- Raise unless a key is one of a record.
-- @tparam record t
-- @tparam string what the method
-- @param key
function M.key(t, what, key)
  if not t.fields[key] then args.refuse(what, nil, args.unknown(key, t.keys)) end
end

--- Raise unless what a method of a record has got is right.
-- @tparam string what the method
-- @tparam boolean is_record whether it has been called with one
-- @tparam table ... each name, reader, value
function M.method(what, is_record, ...)
  if not is_record then
    args.refuse(what, nil, "is called with a colon, on a record", "conf:" .. what:match "[^:]*$" .. "(...)")
  end
  for _, argument in ipairs { ... } do
    local _, problem, at = argument[2](argument[3])
    if problem then args.refuse(what, argument[1] .. (at or ""), problem) end
  end
end

return M
