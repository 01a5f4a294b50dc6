-- SPDX-License-Identifier: MIT
--- Values as programs in Go write them to each other: the format of its package encoding/gob, whose
-- documentation describes it. A stream is messages, each a definition of a type or a value of one. Types go
-- by the names of their fields: who reads takes those that he knows.
--
-- A *type* is here `string`, `bytes`, `int`, `uint` or `bool` of this module, or one of @{list} or @{struct}.
-- @module cni.protocol.gob

local M = {}

local byte, char, rep = string.byte, string.char, string.rep

M.bool, M.int, M.uint, M.bytes, M.string = { id = 1 }, { id = 2 }, { id = 3 }, { id = 5 }, { id = 6 }

--- A slice.
-- @string name
-- @tparam table elem its elements' type
-- @treturn table
function M.list(name, elem) return { name = name, elem = elem } end

--- A struct.
-- @string name
-- @tparam {table,...} fields each `{ name, type }`
-- @treturn table
function M.struct(name, fields) return { name = name, fields = fields } end

-- Numbers --------------------------------------------------------------------------------

local function put_uint(n)
  if n >= 0 and n < 128 then return char(n) end
  local digits = (">I8"):pack(n):gsub("^\0+", "")
  return char(256 - #digits) .. digits
end

local function put_int(n)
  return put_uint(n < 0 and ~n << 1 | 1 or n << 1)
end

local function put_string(text) return put_uint(#text) .. text end

-- Writing --------------------------------------------------------------------------------

local put_value

-- Fields that are zero are left out.
local function put_struct(t, value)
  local parts, last = {}, 0
  for i, field in ipairs(t.fields) do
    local text = put_value(field[2], value[field[1]])
    if text then
      parts[#parts + 1] = put_uint(i - last) .. text
      last = i
    end
  end
  return table.concat(parts) .. "\0"
end

local function put_list(t, list)
  local parts = { put_uint(#list) }
  for i, item in ipairs(list) do
    parts[i + 1] = put_value(t.elem, item) or t.elem.fields and "\0" or put_uint(0)
  end
  return table.concat(parts)
end

-- nil: it is zero.
function put_value(t, value)
  if t.fields then
    local text = value and put_struct(t, value)
    return text ~= "\0" and text or nil
  elseif t.elem then
    return value and value[1] ~= nil and put_list(t, value) or nil
  elseif t == M.bool then
    return value and put_uint(1) or nil
  elseif t == M.int or t == M.uint then
    return value and value ~= 0 and (t == M.int and put_int or put_uint)(value) or nil
  end
  return value and value ~= "" and put_string(value) or nil
end

local Writer = {}
Writer.__index = Writer

--- What writes the values of one stream.
-- @treturn table for @{Writer:value}
function M.writer() return setmetatable({ ids = {}, next_id = 65 }, Writer) end

local function message(text) return put_uint(#text) .. text end

local function id_of(writer, t) return t.id or writer.ids[t] end

-- A definition as Go's own type for it has it: the second of its fields is a slice's, the third a struct's.
local function definition(writer, t)
  local common = "\1" .. (t.name ~= "" and "\1" .. put_string(t.name) .. "\1" or "\2")
    .. put_int(id_of(writer, t)) .. "\0"
  if t.elem then return "\2" .. common .. "\1" .. put_int(id_of(writer, t.elem)) .. "\0\0" end
  local parts = {}
  for i, field in ipairs(t.fields) do
    parts[i] = "\1" .. put_string(field[1]) .. "\1" .. put_int(id_of(writer, field[2])) .. "\0"
  end
  local fields = parts[1] and "\1" .. put_uint(#parts) .. table.concat(parts) or ""
  return "\3" .. common .. fields .. "\0\0"
end

-- The types that have not been defined yet, those that others are made of behind them.
local function undefined(writer, t, list)
  if id_of(writer, t) then return list end
  writer.ids[t] = writer.next_id
  writer.next_id = writer.next_id + 1
  list[#list + 1] = t
  if t.elem then undefined(writer, t.elem, list) end
  for _, field in ipairs(t.fields or {}) do undefined(writer, field[2], list) end
  return list
end

--- Write a value, and before it the types that it needs and that the stream has not had yet.
-- @tparam table t a struct's type
-- @tparam table value by its fields' names; what is absent is zero
-- @treturn string
function Writer:value(t, value)
  local parts = {}
  for _, one in ipairs(undefined(self, t, {})) do
    parts[#parts + 1] = message(put_int(-id_of(self, one)) .. definition(self, one))
  end
  parts[#parts + 1] = message(put_int(id_of(self, t)) .. put_struct(t, value))
  return table.concat(parts)
end

-- Reading --------------------------------------------------------------------------------

local most <const>, deepest <const> = 1 << 20, 32

local function bad(text) error("this is no gob: " .. text, 0) end

local function get_uint(text, at)
  local first = byte(text, at)
  if not first then bad "it ends early" end
  if first < 128 then return first, at + 1 end
  local count = 256 - first
  if count > 8 or at + count > #text then bad "a number has no end" end
  return (">I8"):unpack(rep("\0", 8 - count) .. text:sub(at + 1, at + count)), at + count + 1
end

local function get_int(text, at)
  local n
  n, at = get_uint(text, at)
  return n & 1 == 1 and ~(n >> 1) or n >> 1, at
end

local function get_count(text, at)
  local n
  n, at = get_uint(text, at)
  if n < 0 or n > #text - at + 1 then bad "it has less than it says" end
  return n, at
end

local function get_bytes(text, at)
  local n
  n, at = get_count(text, at)
  return text:sub(at, at + n - 1), at + n
end

local function get_bool(text, at)
  local n
  n, at = get_uint(text, at)
  return n ~= 0, at
end

local readers = { get_bool, get_int, get_uint, get_uint, get_bytes, get_bytes }

local get_value

local function get_struct(types, t, text, at, depth)
  local value, field = {}, 0
  while true do
    local delta
    delta, at = get_uint(text, at)
    if delta == 0 then return value, at end
    field = field + delta
    local known = t.fields[field]
    if not known then bad "a field is not defined" end
    value[known.name], at = get_value(types, known.type, text, at, depth + 1)
  end
end

local function get_list(types, elem, text, at, depth)
  local count, first = get_count(text, at)
  local list = {}
  at = first
  for i = 1, count do list[i], at = get_value(types, elem, text, at, depth + 1) end
  return list, at
end

local function get_map(types, t, text, at, depth)
  local count, first = get_count(text, at)
  local map = {}
  at = first
  for _ = 1, count do
    local key, value
    key, at = get_value(types, t.key, text, at, depth + 1)
    value, at = get_value(types, t.elem, text, at, depth + 1)
    if type(key) ~= "table" then map[key] = value end
  end
  return map, at
end

-- t: the number of a basic type or of one that was defined, or one that is known here.
function get_value(types, t, text, at, depth)
  if depth > deepest then bad "it is nested too deeply" end
  if readers[t] then return readers[t](text, at) end
  t = type(t) == "table" and t or types[t]
  if not t then bad "a type is not defined" end
  if t.fields then return get_struct(types, t, text, at, depth) end
  if t.key then return get_map(types, t, text, at, depth) end
  return get_list(types, t.elem, text, at, depth)
end

-- What a definition is a value of.
local function known(...)
  local fields = {}
  for i, entry in ipairs { ... } do fields[i] = { name = entry[1], type = entry[2] } end
  return { fields = fields }
end
local common = known({ "name", 6 }, { "id", 2 })
local field_type = known({ "name", 6 }, { "id", 2 })
local encoder = known({ "common", common })
local wire_type = known({ "array", known({ "common", common }, { "elem", 2 }, { "len", 2 }) },
  { "slice", known({ "common", common }, { "elem", 2 }) },
  { "struct", known({ "common", common }, { "fields", { elem = field_type } }) },
  { "map", known({ "common", common }, { "key", 2 }, { "elem", 2 }) },
  { "gob", encoder }, { "binary", encoder }, { "text", encoder })

local function define(types, id, wire)
  local list = wire.array or wire.slice
  if list then
    types[id] = { elem = list.elem or 0 }
  elseif wire.map then
    types[id] = { key = wire.map.key or 0, elem = wire.map.elem or 0 }
  elseif wire.struct then
    local fields = {}
    for i, field in ipairs(wire.struct.fields or {}) do
      fields[i] = { name = field.name or "", type = field.id or 0 }
    end
    types[id] = { fields = fields }
  else
    -- A type that writes itself: bytes.
    types[id] = { elem = 3 }
  end
end

local Reader = {}
Reader.__index = Reader

--- What reads the values of one stream.
-- @tparam function take is given a count, and gives so many bytes; nil at the end of the stream
-- @treturn table for @{Reader:value}
function M.reader(take) return setmetatable({ take = take, types = {} }, Reader) end

-- The next message; nil: there is none.
local function next_message(reader)
  local first = reader.take(1)
  if not first or first == "" then return nil end
  local count = byte(first) >= 128 and 256 - byte(first) or 0
  if count > 8 then bad "a message's length is no number" end
  local size = get_uint(first .. (count > 0 and reader.take(count) or ""), 1)
  if size <= 0 or size > most then bad(("a message of %d bytes"):format(size)) end
  return reader.take(size)
end

--- Read the next value.
-- @treturn table|nil a struct by its fields' names, without those that are zero; nil: the stream has ended
-- @raise a sentence, for what is no such stream
function Reader:value()
  while true do
    local text = next_message(self)
    if not text then return nil end
    local id, at = get_int(text, 1)
    if id >= 0 then
      local t = self.types[id]
      if not (t and t.fields) then bad "a value is no struct" end
      return (get_struct(self.types, t, text, at, 0))
    end
    if self.types[-id] or -id < 64 then bad "a type is defined twice" end
    define(self.types, -id, (get_struct(self.types, wire_type, text, at, 0)))
  end
end

return M
