-- SPDX-License-Identifier: MIT
--- JSON, strictly, over lua-cjson.
-- The decoder accepts what RFC 8259 does and no more, and gives plain Lua values: whole
-- numbers are integers, a member that is null is absent, and `[]` is told from `{}`.
-- The encoder is ours: sorted keys, exact integers, lists that stay lists.
-- @module cni.json

local cjson = require "cjson"

local M = {}

local max_depth <const> = 64
local find, byte, sub, gsub = string.find, string.byte, string.sub, string.gsub

local parser = cjson.new()
parser.decode_invalid_numbers(false)
parser.decode_max_depth(max_depth)
local parse, null = parser.decode, cjson.null

--- Stands for null where it cannot be left out: as an element of a list.
M.null = null

-- Carried by lists that would otherwise look like objects.
local List = { __name = "json.list" }

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

--- A value as an error message shows it: short, and on one line.
-- @param v anything
-- @treturn string
function M.show(v)
  if v == null or v == nil then return "null" end
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

local function refuse_syntax(what, err, text)
  local reason, at = err:match("^(.-) at character (%d+)$")
  if not reason then reason = err end
  reason = gsub(gsub(reason, "^%u", string.lower), "T_[A-Z_]+", words)
  refuse(what, reason, text, tonumber(at))
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

-- Refuse what cjson lets pass, and mark empty lists. Works on what is outside strings,
-- and so is run only on texts that could need it.
local function scrub(what, text)
  local out, n, at = {}, 0, 1
  while true do
    local open = find(text, '"', at, true)
    local plain = sub(text, at, (open or 0) - 1)
    local bad = find(plain, "%.%D") or find(plain, "%.$") or find(plain, "%-%.")
    if bad then
      refuse(what, "a number needs digits on both sides of its point", text, at + bad - 1)
    end
    out[n + 1] = gsub(plain, "%[[ \t\r\n]*%]", empty_text)
    if not open then return table.concat(out) end
    local close = string_end(what, text, open)
    out[n + 2] = sub(text, open, close)
    n, at = n + 2, close + 1
  end
end

local tidy

local function tidy_value(t, k, v, what)
  if v == null then
    if math.type(k) == nil then t[k] = nil end
  elseif type(v) == "table" then
    tidy(v, what)
  elseif v == v // 1 then
    if v - v ~= 0 then refuse(what, "a number is out of range") end
    -- Beyond 2^53 neighbours are lost: what was written is no longer known.
    if v <= 0x1p53 and v >= -0x1p53 then t[k] = math.tointeger(v) end
  end
end

-- Whole numbers become integers, null members go, marked lists are emptied.
function tidy(t, what)
  if t[1] == empty_mark and t[2] == nil then
    t[1] = nil
    setmetatable(t, List)
    return
  end
  for k, v in next, t do
    local kind = type(v)
    if kind ~= "string" and kind ~= "boolean" then tidy_value(t, k, v, what) end
  end
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
  if not find(text, "%S") then refuse(what, "it is empty") end
  if sub(text, 1, 3) == "\xEF\xBB\xBF" then
    refuse(what, "it starts with a byte order mark", text, 1)
  end
  local valid, bad = utf8.len(text)
  if not valid then refuse(what, "it is not UTF-8 (byte " .. bad .. ")") end
  bad = find(text, "\0", 1, true)
  if bad then refuse(what, "it holds a zero byte", text, bad) end

  local source = text
  if find(text, "%c") or find(text, "%[ *%]") or find(text, "%.%D")
    or find(text, "-.", 1, true)
  then
    local ok, clean = pcall(scrub, what, text)
    if ok then source = clean else
      -- The grammar comes first: it names the fault better, where there is one.
      local parsed, err = pcall(parse, text)
      if not parsed then refuse_syntax(what, err, text) end
      error(clean, 0)
    end
  end
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
  tidy(holder, what)
  return holder[1]
end

-- Encoding ---------------------------------------------------------------------------

local escapes = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n",
  ["\r"] = "\\r", ["\t"] = "\\t",
}

local function escape(c)
  return escapes[c] or string.format("\\u%04x", byte(c))
end

-- Bytes that are no UTF-8 would make the whole text unreadable.
local function mend_utf8(s)
  local out = {}
  while true do
    local _, bad = utf8.len(s)
    if not bad then break end
    out[#out + 1] = sub(s, 1, bad - 1)
    out[#out + 1] = "\u{FFFD}"
    s = sub(s, bad + 1)
  end
  return table.concat(out) .. s
end

local function quote(s)
  if find(s, '[%c"\\\128-\255]') then
    s = gsub(s, '[%c"\\]', escape)
    if not utf8.len(s) then s = mend_utf8(s) end
  end
  return '"' .. s .. '"'
end

local function number(v)
  local whole = math.tointeger(v)
  if whole then return tostring(whole) end
  if v - v ~= 0 then error("JSON has no number " .. tostring(v), 0) end
  local text = string.format("%.15g", v)
  if tonumber(text) ~= v then text = string.format("%.17g", v) end
  return text
end

local put

-- `style`: `step` one level of indentation (nil: all on one line), `rank` the order of
-- some keys; `pads` what stands before a line of each level.
local function new_style(step, rank)
  return { step = step, rank = rank, pads = {} }
end

local function pad_of(style, level)
  local step = style.step
  if not step then return "" end
  local pad = style.pads[level]
  if not pad then
    pad = "\n" .. step:rep(level)
    style.pads[level] = pad
  end
  return pad
end

local function put_list(out, t, style, level)
  local pad = pad_of(style, level + 1)
  local before = "[" .. pad
  for i = 1, #t do
    out[#out + 1] = before
    put(out, t[i], style, level + 1)
    if i == 1 then before = "," .. pad end
  end
  out[#out + 1] = pad_of(style, level) .. "]"
end

local function sorted_keys(t, rank)
  local keys, n = {}, 0
  for k in next, t do
    if type(k) ~= "string" then
      error("JSON object with a key that is no string: " .. tostring(k), 0)
    end
    n = n + 1
    keys[n] = k
  end
  if n == 1 then return keys end
  if not rank then
    table.sort(keys)
    return keys
  end
  table.sort(keys, function(a, b)
    local x, y = rank[a] or math.huge, rank[b] or math.huge
    if x ~= y then return x < y end
    return a < b
  end)
  return keys
end

local function put_object(out, t, style, level)
  local pad = pad_of(style, level + 1)
  local colon = style.step and ": " or ":"
  local before = "{" .. pad
  for i, key in ipairs(sorted_keys(t, style.rank)) do
    out[#out + 1] = before .. quote(key) .. colon
    put(out, t[key], style, level + 1)
    if i == 1 then before = "," .. pad end
  end
  out[#out + 1] = pad_of(style, level) .. "}"
end

local function put_table(out, t, style, level)
  if level > 2 * max_depth then error("JSON nested too deeply", 0) end
  local meta = getmetatable(t)
  if meta and meta.__tostring then
    out[#out + 1] = quote(tostring(t))
  elseif t[1] ~= nil then
    put_list(out, t, style, level)
  elseif next(t) == nil then
    out[#out + 1] = meta == List and "[]" or "{}"
  else
    put_object(out, t, style, level)
  end
end

function put(out, v, style, level)
  local kind = type(v)
  if kind == "string" then
    out[#out + 1] = quote(v)
  elseif kind == "number" then
    out[#out + 1] = number(v)
  elseif kind == "table" then
    put_table(out, v, style, level)
  elseif kind == "boolean" then
    out[#out + 1] = v and "true" or "false"
  elseif v == null then
    out[#out + 1] = "null"
  else
    error("JSON has no " .. kind, 0)
  end
end

--- Print a value for people and Go readers: sorted keys, one member a line.
-- A table is a list when it has an element 1 or was marked by @{list}; a value whose
-- metatable has `__tostring`, an address for one, is printed as that text.
-- @param value
-- @string[opt="    "] indent
-- @tparam[opt] {[string]=integer,...} rank members named here come first, in this order
-- @treturn string
function M.encode(value, indent, rank)
  local out = {}
  put(out, value, new_style(indent or "    ", rank), 0)
  return table.concat(out)
end

local on_one_line = new_style()

--- Print a value on one line, sorted.
-- @param value
-- @treturn string
function M.compact(value)
  local out = {}
  put(out, value, on_one_line, 0)
  return table.concat(out)
end

return M
