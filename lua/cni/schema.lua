-- SPDX-License-Identifier: MIT
--- Configuration declared as data.
-- A plugin says once which keys it has: type, range, default, and a sentence each. From
-- that one table come the validated configuration, the text of errors, `luacni doc`,
-- and the tables of the README.
--
--    conf = schema.record {
--      mtu    = schema.mtu,
--      vlan   = schema.integer { min = 0, max = 4094, default = 0, doc = "VLAN ID." },
--      ranges = schema.list(schema.record { subnet = schema.cidr { required = true } }),
--    }
--
-- Each type is used bare, or called with options: `default`, `required`, `doc`, and the
-- ones the type has. Bare means optional: absent is nil, for a boolean false. What is
-- read is plain data: addresses are canonical text, lists are lists, numbers integers.
-- Keys match in any letter case, as they do for Go readers; the declared spelling wins.
-- In paths the first element of a list is [0].
-- @module cni.schema

local args = require "cni.engine.args"
local declared = require "cni.engine.declared"
local fail = require "cni.fail"
local json = require "cni.json"

local M = {}

local config, show = fail.config, json.show

-- A type is a table: `name`, `read(type, value, where)`, `text(type)` for people, and
-- its options. Calling it gives a type with more options, which falls back on it.
local Type = { __name = "cni.schema.type" }
Type.__index = Type

-- What a type may lack: options, and what only some types have. Anything else that a script asks a type for
-- is a mistake, and told; whoever else asks finds nil.
local may_lack = { text = true, item = true, fields = true, keys = true, rules = true, notes = true,
  needs = true, incomplete = true, example = true, default = true, required = true, optional = true,
  doc = true }

local function derive(self, options)
  declared.options(self, options)
  local copy = {}
  for k, v in next, options do copy[k] = v end
  if options.optional == false then copy.required = true end
  local meta = rawget(self, "derived")
  if not meta then
    meta = { __index = self, __call = derive }
    self.derived = meta
  end
  setmetatable(copy, meta)
  if copy.needs and copy[copy.needs] ~= nil then copy.incomplete = false end
  declared.together(copy)
  return copy
end
Type.__call = derive

local function is_type(v)
  local meta = type(v) == "table" and getmetatable(v)
  return type(meta) == "table" and rawget(meta, "__call") == derive
end

local function new(name, read, options, meta)
  for option in next, options do may_lack[option] = true end
  return setmetatable({ name = name, read = read, options = options }, meta or Type)
end

local function range_text(t, unit)
  local least, most = t.min, t.max
  if least and most then return unit .. " from " .. least .. " to " .. most end
  if least then return unit .. " not below " .. least end
  if most then return unit .. " not above " .. most end
  return unit
end

local function wanted(where, value, what, hint)
  config(where, show(value) .. " is not " .. what, hint)
end

local function need_string(where, value, what)
  if type(value) ~= "string" then wanted(where, value, what) end
end

local function read_value(t, value, where)
  if value == nil then
    if t.required then config(where, "is missing: " .. t:describe() .. " is wanted") end
    value = t.default
    if value == nil or t.name ~= "record" then return value end
  end
  return t.read(t, value, where)
end

--- What a type takes, for people: "integer from 0 to 4094".
-- @treturn string
function Type:describe()
  return self.text and self.text(self) or self.name
end

local takes <const> = declared.readers
local none <const>, ranged <const> = {}, { min = takes.integer, max = takes.integer }

--- A key that promises something which is not done here: what asks for it is refused, and not taken for
-- done. Absent and false are fine. Options `doc`.
M.unserved = new("unserved", function(_, value, where)
  if value == false then return false end
  config(where, show(value) .. ": luacni does not do this, and a container would be taken for protected",
    "leave it out, or have another plugin do it")
end, none)
M.unserved.text = function() return "false" end

-- Scalars ----------------------------------------------------------------------------

local function read_boolean(_, value, where)
  if type(value) == "boolean" then return value end
  local hint
  if value == "true" or value == "false" then hint = "write it without quotes" end
  wanted(where, value, "true or false", hint)
end

--- true or false.
M.boolean = new("boolean", read_boolean, none)
M.boolean.default = false

--- true or false, where it is another thing to say nothing: absent is nil.
M.flag = new("boolean", read_boolean, none)

--- A whole number. Options `min`, `max`.
M.integer = new("integer", function(t, value, where)
  local n = math.type(value) == "integer" and value
  if not n or t.min and n < t.min or t.max and n > t.max then
    local hint
    if type(value) == "string" and math.tointeger(tonumber(value)) then
      hint = "write it without quotes"
    elseif json.is_number(value) then
      hint = "there is room for 64 bits"
    end
    wanted(where, value, range_text(t, "an integer"), hint)
  end
  return n
end, ranged)
M.integer.text = function(t) return range_text(t, "integer") end

--- The MTU of a link. 0 means the default, as if it were absent, and so does what is below it, but for
-- `strict = true`.
M.mtu = new("mtu", function(t, value, where)
  if math.type(value) == "integer" and (value == 0 or value < 0 and not t.strict) then
    return t.default
  end
  return M.integer.read(t, value, where)
end, { min = takes.integer, max = takes.integer, strict = takes.boolean })
M.mtu.min, M.mtu.max = 68, 65535
M.mtu.text = M.integer.text

--- A text. Options `pattern` (a Lua pattern for the whole) with `wanted` (what it
-- means: "a name of lower-case letters"), `min_len`, `max_len`; `empty = "absent"` to
-- take "" for a key that is not there.
M.string = new("string", function(t, value, where)
  local what = t.wanted or "a string"
  need_string(where, value, what)
  if value == "" and t.empty == "absent" then return t.default end
  if value:find("\0", 1, true) then config(where, "contains a zero byte") end
  if t.min_len and #value < t.min_len or t.max_len and #value > t.max_len then
    wanted(where, value, what .. " of " .. (t.min_len or 0) .. " to "
      .. (t.max_len or "any number of") .. " bytes")
  end
  if t.pattern and not value:find("^" .. t.pattern .. "$") then
    wanted(where, value, what)
  end
  return value
end, { pattern = takes.pattern, wanted = takes.string, min_len = takes.count, max_len = takes.count,
  empty = takes.absent })

--- One of some words. Option `values`.
M.enum = new("enum", function(t, value, where)
  if value == "" and t.empty == "absent" then return t.default end
  for _, word in ipairs(t.values) do
    if value == word then return value end
  end
  local hint = type(value) == "string"
    and require("cni.protocol.hints").did_you_mean(value, t.values) or nil
  wanted(where, value, "one of " .. table.concat(t.values, ", "), hint)
end, { values = takes.words, empty = takes.absent })
M.enum.needs, M.enum.incomplete = "values", true
M.enum.example = 'schema.enum { values = { "blue", "green" } }'
M.enum.text = function(t) return "one of " .. table.concat(t.values, ", ") end

--- The name of a network interface.
M.ifname = new("ifname", function(t, value, where)
  if value == "" and t.empty == "absent" then return t.default end
  need_string(where, value, "an interface name")
  local problem, hint = require("cni.names").link_problem(value)
  if problem then config(where, show(value) .. ": " .. problem, hint) end
  return value
end, { empty = takes.absent })
M.ifname.text = function() return "interface name" end

-- Addresses --------------------------------------------------------------------------

-- Pairs with : or -, or quads with dots; six bytes.
local function mac_digits(value)
  local sep = value:match("^%x%x([:-])")
  if sep then
    return #value == 17 and value:find("^%x%x" .. ("%" .. sep .. "%x%x"):rep(5) .. "$")
      and value:gsub("%" .. sep, "") or nil
  end
  return value:find("^%x%x%x%x%.%x%x%x%x%.%x%x%x%x$") and value:gsub("%.", "") or nil
end

--- A hardware address of six bytes, read in any usual form: "0a:58:0a:01:02:03". An
-- empty text counts as absent.
M.mac = new("mac", function(t, value, where)
  if value == "" then return t.default end
  need_string(where, value, "a MAC address")
  local digits = mac_digits(value)
  if not digits then wanted(where, value, "a MAC address such as 0a:58:0a:01:02:03") end
  digits = digits:lower()
  if tonumber(digits:sub(2, 2), 16) & 1 == 1 then
    wanted(where, value, "the address of one station",
      "its first byte must be even, or it is a multicast address")
  end
  if digits == "000000000000" then wanted(where, value, "a usable MAC address") end
  return (digits:gsub("%x%x", "%0:"):sub(1, 17))
end, none)
M.mac.text = function() return "MAC address" end

local family_words = { inet = "IPv4 ", inet6 = "IPv6 " }

local function check_family(t, bytes, value, where, what)
  if t.family and t.family ~= require("cni.addr").family(bytes) then
    wanted(where, value, "an " .. family_words[t.family] .. what)
  end
end

-- Why a text is no address, where that is plain to see.
local function ip_hint(addr, value)
  if type(value) ~= "string" then return nil end
  if value:find("/", 1, true) and addr.parse(value) then return "write it without the prefix length" end
  local bracketed, zoned = value:match "^%[(.*)%]$", value:match "^(.*)%%"
  if bracketed and addr.ip(bracketed) then return "write it without the brackets" end
  if zoned and addr.ip(zoned) then return "write it without the zone" end
  if value:find "^%a[%w.-]*$" then return "names are not looked up: write the address" end
end

--- An address without prefix length. Options `family` ("inet", "inet6"); `unspecified = "absent"` to
-- take 0.0.0.0 and :: for none. An empty text counts as absent. Read as canonical text.
M.ip = new("ip", function(t, value, where)
  if value == "" then return t.default end
  local addr = require "cni.addr"
  local bytes = addr.ip(value)
  if not bytes then wanted(where, value, "an IP address", ip_hint(addr, value)) end
  check_family(t, bytes, value, where, "address")
  if t.unspecified == "absent" and addr.is_unspecified(bytes) then return t.default end
  return addr.text(bytes)
end, { family = takes.family, unspecified = takes.absent })
M.ip.text = function(t) return (family_words[t.family] or "IP ") .. "address" end

local function network_hint(cidr)
  return "the network is " .. tostring(cidr:network())
end

--- An address with prefix length: "10.1.2.0/24". Options `family`; `network = true`
-- when no host bit may be set; `masked = true` to set them to zero. Read as canonical text, host bits
-- kept otherwise.
M.cidr = new("cidr", function(t, value, where)
  local addr = require "cni.addr"
  local cidr = addr.parse(value)
  if not cidr then
    local hint
    local bytes = addr.ip(value)
    if bytes then
      hint = ("add the prefix length, such as %s/%d"):format(value, #bytes == 4 and 24 or 64)
    end
    wanted(where, value, "an address with prefix length such as 10.1.2.0/24", hint)
  end
  check_family(t, cidr.ip, value, where, "address with prefix length")
  if t.network and not cidr:is_network() then
    wanted(where, value, "a network: it has host bits set", network_hint(cidr))
  end
  return tostring(t.masked and cidr:network() or cidr)
end, { family = takes.family, network = takes.boolean, masked = takes.boolean })
M.cidr.text = function(t)
  local family = family_words[t.family] or "IP "
  return t.network and family .. "network as ADDRESS/LENGTH"
    or family .. "address as ADDRESS/LENGTH"
end

-- Containers -------------------------------------------------------------------------

--- Whatever JSON has, unchecked.
M.any = new("any", function(_, value) return value end, none)
M.any.text = function() return "any value" end

local function read_list(t, value, where)
  if type(value) ~= "table" or next(value) ~= nil and value[1] == nil then
    local alone = pcall(t.item.read, t.item, value, where)
    wanted(where, value, "a list", alone and "one alone is written in brackets too: [ ... ]" or nil)
  end
  local n = #value
  if t.min_items and n < t.min_items or t.max_items and n > t.max_items then
    config(where, "has " .. n .. " elements, and must have "
      .. range_text({ min = t.min_items, max = t.max_items }, "a number"))
  end
  local list = {}
  for i = 1, n do
    local at = where .. "[" .. i - 1 .. "]"
    if value[i] == json.null then wanted(at, nil, t.item:describe()) end
    list[i] = t.item.read(t.item, value[i], at)
  end
  return json.list(list)
end

-- Functions that give types, and how they are called: none of them is a type itself.
local makers = {}

local function need_type(what, where, value)
  declared.type(what, where, value, is_type(value), makers)
end

-- A type around another one.
local function around(name, read, options, text, item, more)
  need_type("schema." .. name, nil, item)
  local t = new(name, read, options)
  t.item, t.text = item, text
  if more == nil then return t end
  return t(more)
end

local function list_text(t)
  return "list of " .. t.item:describe()
end

local counted <const> = { min_items = takes.count, max_items = takes.count }

--- A list of one type.
-- @tparam type item
-- @tparam[opt] table options `min_items`, `max_items`, and the common ones
-- @treturn type
function M.list(item, options)
  return around("list", read_list, counted, list_text, item, options)
end
makers[M.list] = { name = "schema.list", usage = "schema.list(schema.string)" }

local function read_map(t, value, where)
  if type(value) ~= "table" or json.is_list(value) then
    wanted(where, value, "an object")
  end
  local map = {}
  for key, item in next, value do
    map[key] = t.item.read(t.item, item, where == "" and key or where .. "." .. key)
  end
  return map
end

local function map_text(t)
  return "object of " .. t.item:describe() .. " by name"
end

--- An object whose keys are free, and whose values are of one type.
-- @tparam type item
-- @tparam[opt] table options
-- @treturn type
function M.map(item, options)
  return around("map", read_map, none, map_text, item, options)
end
makers[M.map] = { name = "schema.map", usage = "schema.map(schema.string)" }

-- Records ----------------------------------------------------------------------------

--- An object with declared keys. Calling it gives a copy with options, as with every
-- type: `schema.record { ... } { doc = "..." }`.
-- @type record
local Record = { __name = "cni.schema.record", __call = derive }
Record.__index = { describe = Type.describe, required = false, notes = false }

setmetatable(Type, { __index = function(_, name)
  local place = not may_lack[name] and args.reader()
  if place then declared.no_method("a type", name, place, { describe = Type.describe }, Record.__index) end
end })

-- A method that there is not is told to a script; whoever else asks finds nil.
setmetatable(Record.__index, { __index = function(methods, name)
  local place = not declared.is_option[name] and args.reader()
  if place then declared.no_method("a record", name, place, methods) end
end })

-- The values whose keys are spelled in another letter case, by their proper key; nil: there is none.
local function folded_keys(t, raw)
  local folded, from
  for key, value in next, raw do
    local right = not t.fields[key] and t.spelling[key:lower()]
    if right then
      folded, from = folded or {}, from or {}
      -- Of several spellings the same one wins every time.
      if folded[right] == nil or key < from[right] then
        folded[right], from[right] = value, key
      end
    end
  end
  return folded
end

-- What most keys are, absent: their default, or nothing. Of the others `read_value` must decide.
local unclear <const> = {}

local function absent_value(field)
  if field.required or field.default ~= nil and field.name == "record" then return unclear end
  return field.default
end

local function read_record(t, raw, where)
  if type(raw) ~= "table" or json.is_list(raw) then wanted(where, raw, "an object") end
  local fields, keys, absent, conf = t.fields, t.keys, t.absent, {}
  local folded = folded_keys(t, raw)
  local prefix = where == "" and "" or where .. "."
  for i = 1, #keys do
    local key = keys[i]
    local value = raw[key]
    if value == nil and folded then value = folded[key] end
    if value == nil and absent[key] ~= unclear then
      conf[key] = absent[key]
    else
      conf[key] = read_value(fields[key], value, prefix .. key)
    end
  end
  for _, rule in ipairs(t.rules) do rule.apply(rule, conf, where) end
  return conf
end

local function record_text() return "object" end

--- Declare an object.
-- @tparam {[string]=type,...} fields
-- @treturn record
function M.record(fields)
  declared.fields(fields)
  local keys = {}
  for key in next, fields do keys[#keys + 1] = key end
  -- Read in one order, so that of several faults the same one is reported every time.
  table.sort(keys)
  for _, key in ipairs(keys) do need_type("schema.record", key, fields[key]) end
  local t = new("record", read_record, none, Record)
  t.fields, t.keys, t.rules, t.text = fields, keys, {}, record_text
  t.absent, t.spelling = {}, {}
  for key, field in next, fields do
    t.absent[key], t.spelling[key:lower()] = absent_value(field), key
  end
  return t
end

makers[M.record] = { name = "schema.record", usage = "schema.record { mtu = schema.mtu }" }

--- Whether a value is a record of a schema, with options or without.
-- @param v anything
-- @treturn boolean
function M.is_record(v)
  return is_type(v) and v.read == read_record
end

local a_text, maybe_text, a_function = args.string, args.optional(args.string), args.func

-- What a method of a record has got: each argument's name, reader and value.
local function look(t, method, ...)
  declared.method("record:" .. method, M.is_record(t), ...)
end

local function add_rule(t, method, rule, ...)
  for _, key in ipairs { ... } do declared.key(t, "record:" .. method, key) end
  t.rules[#t.rules + 1] = rule
  return t
end

local function is_set(value)
  return value ~= nil and value ~= false and value ~= 0 and value ~= ""
end

local function apply_implies(rule, conf)
  if conf[rule.a] == true then conf[rule.b] = true end
end

--- When `a` is true, so is `b`.
-- @string a
-- @string b
-- @treturn record itself
function Record.__index:implies(a, b)
  look(self, "implies", { "a", a_text, a }, { "b", a_text, b })
  return add_rule(self, "implies", {
    apply = apply_implies, a = a, b = b, doc = a .. " implies " .. b .. ".",
  }, a, b)
end

local function apply_never_both(rule, conf, where)
  if is_set(conf[rule.a]) and is_set(conf[rule.b]) then
    config(where, rule.a .. " and " .. rule.b .. " cannot both be set", rule.why)
  end
end

--- `a` and `b` exclude each other. False, 0 and "" count as not set.
-- @string a
-- @string b
-- @string[opt] why
-- @treturn record itself
function Record.__index:never_both(a, b, why)
  look(self, "never_both", { "a", a_text, a }, { "b", a_text, b }, { "why", maybe_text, why })
  return add_rule(self, "never_both", {
    apply = apply_never_both, a = a, b = b, why = why,
    doc = a .. " and " .. b .. " exclude each other" .. (why and ": " .. why or "") .. ".",
  }, a, b)
end

local function apply_check(rule, conf, where)
  local problem = rule.check(conf, where)
  if problem then config(where, problem) end
end

--- Any other rule between keys.
-- @tparam function check called with the values read and the path; returns what is
--   wrong, or nil; may also raise
-- @string[opt] doc the rule as a sentence
-- @treturn record itself
function Record.__index:check(check, doc)
  look(self, "check", { "check", a_function, check }, { "doc", maybe_text, doc })
  return add_rule(self, "check", { apply = apply_check, check = check, doc = doc })
end

--- A key that does nothing when others are not set: no mistake, but seldom meant.
-- @string key
-- @tparam function idle called with the values read; true when it does nothing
-- @string why what it would need
-- @treturn record itself
function Record.__index:idle(key, idle, why)
  look(self, "idle", { "key", a_text, key }, { "idle", a_function, idle }, { "why", a_text, why })
  add_rule(self, "idle", { apply = function() end, key = key, idle = idle, why = why }, key)
  self.notes = true
  return self
end

--- @section end

--- The keys that are set and do nothing, a sentence each.
-- @tparam record rec
-- @tparam table conf of @{read}
-- @treturn {string,...}
function M.notes(rec, conf)
  local list = {}
  for _, rule in ipairs(rec.notes and rec.rules or {}) do
    if rule.idle and is_set(conf[rule.key]) and rule.idle(conf) then
      list[#list + 1] = ("%s does nothing: %s"):format(rule.key, rule.why)
    end
  end
  return list
end

--- Read and validate a configuration.
-- @tparam record rec
-- @tparam table raw decoded JSON; unknown keys are ignored
-- @string[opt=""] where path of `raw`, for errors
-- @treturn table a new one, complete with defaults
-- @raise code 7 naming the path, the value and what is wanted
function M.read(rec, raw, where)
  local read_it = type(rec) == "table" and rec.read
  if not read_it then args.refuse("schema.read", "rec", args.expected("a record of cni.schema", rec)) end
  return read_it(rec, raw, where or "")
end

-- As pcall; but what was stopped, because it has not ended by itself, is at its end here too.
local function attempt(...)
  local results = table.pack(pcall(...))
  if not results[1] and fail.stopped(results[2]) then error(results[2], 0) end
  return table.unpack(results, 1, results.n)
end

-- A record as far as it can be read, whatever it is.
local function salvage(t, raw)
  if type(raw) ~= "table" or json.is_list(raw) then raw = {} end
  local folded, conf = folded_keys(t, raw), {}
  for _, key in ipairs(t.keys) do
    local field, value = t.fields[key], raw[key]
    if value == nil and folded then value = folded[key] end
    local ok, got = attempt(read_value, field, value, key)
    if not ok then got = field.fields and salvage(field, value) or field.default end
    conf[key] = got
  end
  for _, rule in ipairs(t.rules) do attempt(rule.apply, rule, conf, "") end
  return conf
end

--- Read a configuration that need not be valid, for taking back what it made: a value that is refused
-- counts as absent, and no rule is one that it could break.
-- @tparam record rec
-- @tparam table raw decoded JSON
-- @treturn table as of @{read}; what is required may be missing
function M.salvage(rec, raw)
  return salvage(rec, raw)
end

return M
