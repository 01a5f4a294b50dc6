-- SPDX-License-Identifier: MIT
--- JSON, strictly, over lua-cjson.
-- The decoder accepts what RFC 8259 does and no more, and gives plain Lua values: whole
-- numbers are integers, a member that is null is absent, and `[]` is told from `{}`. A whole number of more
-- than 64 bits is a value of its own (@{is_number}), which is printed as it was written.
-- The encoder is ours (netlink.json): sorted keys, exact integers, lists that stay lists.
-- @module cni.json

local cjson = require "cjson"
local binding = require("netlink").json

local M = {}

local max_depth <const> = 64
local find, byte, sub, gsub = string.find, string.byte, string.sub, string.gsub

local parser = cjson.new()
parser.decode_invalid_numbers(false)
parser.decode_max_depth(max_depth)
local parse, null = parser.decode, cjson.null
local tame, tidy, encode = binding.tame, binding.tidy, binding.encode

--- Stands for null where it cannot be left out: as an element of a list.
M.null = null

-- Carried by lists that would otherwise look like objects.
local List = { __name = "json.list" }

-- A whole number that no integer has room for: its digits.
local Number = { __name = "json.number", __number = true, __tostring = function(n) return n.text end }

-- cjson makes each number a float, so that it is fed those of many digits as strings that begin with this.
local digits_mark <const> = "\0#"
local digits_text <const> = "\\u0000#"

-- cjson decodes [] and {} alike, so [] is fed to it as a list of this one string.
local empty_mark <const> = "\0[]"
local empty_text <const> = '["\\u0000[]"]'

--- Mark a table as a list, so that it is printed as one even when empty.
-- @tparam table t
-- @treturn table the same one
function M.list(t)
  return setmetatable(t, List)
end

--- Whether a table is a list. An empty table that nobody marked is an object.
-- @param t anything
-- @treturn boolean
function M.is_list(t)
  return type(t) == "table" and (t[1] ~= nil or getmetatable(t) == List)
end

--- Whether a value is a whole number of more than 64 bits.
-- @param t anything
-- @treturn boolean
function M.is_number(t) return getmetatable(t) == Number end

--- A value as an error message shows it: short, and on one line.
-- @param v anything
-- @treturn string
function M.show(v)
  if v == null or v == nil then return "null" end
  if M.is_number(v) then return #v.text > 64 and "a number of many digits" or v.text end
  if type(v) == "table" then return M.is_list(v) and "a list" or "an object" end
  if type(v) ~= "string" then return tostring(v) end
  if #v > 64 then v = sub(v, 1, 61) .. "..." end
  return M.compact(v)
end

-- Decoding ---------------------------------------------------------------------------

local function refuse(what, reason, text, at)
  local details
  if at then
    local _, line = gsub(sub(text, 1, at - 1), "\n", "\n")
    local column = at - (find(sub(text, 1, at - 1), "\n[^\n]*$") or 0)
    local before, after = sub(text, math.max(1, at - 24), at - 1), sub(text, at, at + 24)
    details = "line " .. line + 1 .. ", column " .. column .. ", near "
      .. gsub(before .. after, "%c+", " ")
  end
  require("cni.fail").throw {
    code = 6, msg = "cannot decode " .. what .. ": " .. reason, details = details,
  }
end

local words = {
  T_OBJ_BEGIN = "{", T_OBJ_END = "}", T_ARR_BEGIN = "[", T_ARR_END = "]",
  T_COMMA = "a comma", T_COLON = "a colon", T_STRING = "a string", T_NUMBER = "a number",
  T_BOOLEAN = "true or false", T_NULL = "null", T_END = "the end of the text",
}

-- What other formats allow, by what stands where the fault was found: the pattern, and what is said of it.
local habits = {
  { "^//", "JSON has no comments" }, { "^/%*", "JSON has no comments" }, { "^#", "JSON has no comments" },
  { "^'", "a string stands in double quotes" },
}

local function refuse_syntax(what, err, text)
  local reason, at = err:match("^(.-) at character (%d+)$")
  if not reason then reason = err end
  reason, at = gsub(gsub(reason, "^%u", string.lower), "T_[A-Z_]+", words), tonumber(at)
  local comma = at and find(text, "^[%]}]", at) and find(sub(text, 1, at - 1), ",%s*$")
  if comma then refuse(what, "there is a comma before ] or }", text, comma) end
  for _, habit in ipairs(at and habits or {}) do
    if find(text, habit[1], at) then reason = habit[2] end
  end
  refuse(what, reason, text, at)
end

-- The end of the string that opens at `from`.
local function string_end(what, text, from)
  local at = from + 1
  while true do
    at = find(text, '["\\%c]', at)
    if not at then refuse(what, "a string has no end", text, from) end
    local c = byte(text, at)
    if c == 34 then return at end
    if c ~= 92 and c ~= 127 then
      refuse(what, "a string holds a raw control character", text, at)
    end
    at = at + (c == 92 and 2 or 1)
  end
end

local sixteen <const> = ("%d"):rep(16)

-- A whole number that a float may not hold.
local function mark_digits(token)
  local digits = token:match "^%-?([1-9]%d*)$"
  return digits and #digits > 15 and '"' .. digits_text .. token .. '"' or nil
end

-- Refuse what cjson lets pass, and mark empty lists and many digits. Works on what is outside strings,
-- and so is run only on texts that could need it. Returns whether digits were marked, too.
local function scrub(what, text)
  local out, n, at = {}, 0, 1
  local marks, marked = not find(text, digits_text, 1, true), false
  while true do
    local open = find(text, '"', at, true)
    local plain = sub(text, at, (open or 0) - 1)
    local bad = find(plain, "%.%D") or find(plain, "%.$") or find(plain, "%-%.")
    if bad then
      refuse(what, "a number needs digits on both sides of its point", text, at + bad - 1)
    end
    -- A number is no key.
    if marks and find(plain, sixteen) and not find(plain, "%d%s*:") then
      plain, marked = gsub(plain, "[%w%.+-]+", mark_digits), true
    end
    out[n + 1] = gsub(plain, "%[[ \t\r\n]*%]", empty_text)
    if not open then return table.concat(out), marked end
    local close = string_end(what, text, open)
    out[n + 2] = sub(text, open, close)
    n, at = n + 2, close + 1
  end
end

-- What lua-cjson is to be given for a text that is not tame; refused where it would be content
-- and RFC 8259 is not. And whether it has marked digits.
local function clean(what, text)
  if not find(text, "%S") then refuse(what, "it is empty") end
  if sub(text, 1, 3) == "\xEF\xBB\xBF" then
    refuse(what, "it starts with a byte order mark", text, 1)
  end
  local valid, bad = utf8.len(text)
  if not valid then refuse(what, "it is not UTF-8 (byte " .. bad .. ")") end
  bad = find(text, "\0", 1, true)
  if bad then refuse(what, "it holds a zero byte", text, bad) end
  local ok, scrubbed, marked = pcall(scrub, what, text)
  if not ok then
    -- The grammar comes first: it names the fault better, where there is one.
    local parsed, err = pcall(parse, text)
    if not parsed then refuse_syntax(what, err, text) end
    error(scrubbed, 0)
  end
  return scrubbed, marked
end

--- Decode one JSON text.
-- Members that are null are left out; null in a list stays, as @{null}.
-- @tparam string text
-- @string[opt="JSON"] what the text is, for the message
-- @tparam[opt] table opts `object = true` to insist on an object (or null)
-- @return the value; nil for null
-- @raise code 6 with reason and position
function M.decode(text, what, opts)
  what = what or "JSON"
  local source, marked = text, false
  if not tame(text) then source, marked = clean(what, text) end
  local ok, value = pcall(parse, source)
  if not ok then
    if source ~= text then
      -- Positions have shifted: ask again about the text as it came.
      local again, err = pcall(parse, text)
      if not again then value = err end
    end
    refuse_syntax(what, value, text)
  end
  if opts and opts.object and value ~= null
    and (type(value) ~= "table" or not find(text, "^%s*{"))
  then
    refuse(what, "it is not an object")
  end
  if value == null then return nil end
  local holder = { value }
  if not tidy(holder, List, empty_mark, Number, marked and digits_mark or nil) then
    refuse(what, "a number is out of range")
  end
  return holder[1]
end

-- Our own notes ----------------------------------------------------------------------

-- Bytes that are no UTF-8 (of CNI_ARGS, of a link's name) are written as these private characters, one
-- each: U+EF80 to U+EFFF. Those characters themselves are written byte by byte.
local private <const> = "\xEE[\xBE\xBF][\x80-\xBF]"

local function hide(char) return (gsub(char, ".", function(b) return utf8.char(0xEF00 + byte(b)) end)) end
local function show_again(char) return string.char(utf8.codepoint(char) - 0xEF00) end

local function hide_bytes(text)
  local out, at = {}, 1
  while true do
    local valid, bad = utf8.len(text, at)
    out[#out + 1] = gsub(sub(text, at, (bad or 0) - 1), private, hide)
    if valid then return table.concat(out) end
    out[#out + 1] = hide(sub(text, bad, bad))
    at = bad + 1
  end
end

local function restore(value)
  if type(value) == "string" then return (gsub(value, private, show_again)) end
  if type(value) ~= "table" then return value end
  local keys = {}
  for key in next, value do keys[#keys + 1] = key end
  for _, key in ipairs(keys) do
    local item = restore(value[key])
    value[key] = nil
    value[restore(key)] = item
  end
  return value
end

--- Print a value on one line, for @{decode_lines}: a string comes back byte for byte, UTF-8 or not.
-- @param value
-- @treturn string without an end of line
function M.note(value)
  local line = cjson.encode(value)
  if utf8.len(line) and not find(line, private) then return line end
  return hide_bytes(line)
end

local function hidden(value)
  if type(value) == "string" then return hide_bytes(value) end
  if type(value) ~= "table" then return value end
  local copy = setmetatable({}, getmetatable(value))
  for key, item in next, value do copy[hidden(key)] = hidden(item) end
  return copy
end

--- As @{note}, with sorted keys: equal values are equal texts.
-- @param value
-- @treturn string without an end of line
function M.sorted_note(value)
  local line = M.compact(value)
  -- What is printed for a byte that is no UTF-8.
  if not find(line, "\u{FFFD}", 1, true) and not find(line, private) then return line end
  return M.compact(hidden(value))
end

--- Decode one JSON text a line, as @{note} and @{sorted_note} print it.
-- @tparam string text each line with its end
-- @string[opt="JSON"] what the text is, for the message
-- @treturn table list of the values
-- @raise code 6, as @{decode}
function M.decode_lines(text, what)
  if text == "" then return {} end
  local list, breaks = gsub(sub(text, 1, -2), "\n", ",")
  local values = M.decode("[" .. list .. "]", what)
  if #values ~= breaks + 1 then refuse(what or "JSON", "a line is not one value") end
  return find(text, private) and restore(values) or values
end

-- Encoding ---------------------------------------------------------------------------

--- Print a value for people and Go readers: sorted keys, one member a line.
-- A table is a list when it has an element 1 or was marked by @{list}; a value whose
-- metatable has `__tostring`, an address for one, is printed as that text.
-- @param value
-- @string[opt="    "] indent
-- @tparam[opt] {[string]=integer,...} rank members named here come first, in this order
-- @treturn string
function M.encode(value, indent, rank)
  return encode(value, List, indent or "    ", rank)
end

--- Print a value on one line, sorted.
-- @param value
-- @treturn string
function M.compact(value)
  return encode(value, List)
end

return M
