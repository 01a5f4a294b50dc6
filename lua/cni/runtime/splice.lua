-- SPDX-License-Identifier: MIT
--- Changing members of a JSON object in its text, so that every other byte stays as it was
-- written: decoding and encoding would lose the order of keys, the spelling of numbers, and
-- whether an empty table was `[]` or `{}`.
--
-- The text must be valid JSON: decode it first.
--
-- @module cni.runtime.splice

local M = {}

local function skip_space(text, at)
  return text:find("[^ \t\r\n]", at)
end

-- The closing quote of the string that begins at `at`.
local function string_end(text, at)
  at = at + 1
  while true do
    at = text:find('["\\]', at)
    if text:byte(at) == 34 then return at end
    at = at + 2
  end
end

-- The last byte of the value that begins at `at`.
local function value_end(text, at)
  local first = text:sub(at, at)
  if first == '"' then return string_end(text, at) end
  if first ~= "{" and first ~= "[" then
    return (text:find("[,%]} \t\r\n]", at) or #text + 1) - 1
  end
  local depth = 0
  while true do
    at = text:find('["%[%]{}]', at)
    local mark = text:sub(at, at)
    if mark == '"' then
      at = string_end(text, at)
    else
      depth = depth + ((mark == "{" or mark == "[") and 1 or -1)
      if depth == 0 then return at end
    end
    at = at + 1
  end
end

local function key_of(raw)
  if not raw:find("\\", 1, true) then return raw:sub(2, -2) end
  return (next(require("cni.json").decode("{" .. raw .. ":0}")))
end

--- The members of an object, in their order, duplicates included.
-- @tparam string text
-- @treturn {{key=string,raw_key=string,value=string},...} `value` and `raw_key` as written
function M.members(text)
  local list = {}
  local at = skip_space(text, skip_space(text, 1) + 1)
  while text:sub(at, at) ~= "}" do
    local key_to = string_end(text, at)
    local raw_key = text:sub(at, key_to)
    local from = skip_space(text, text:find(":", key_to, true) + 1)
    local to = value_end(text, from)
    list[#list + 1] = { key = key_of(raw_key), raw_key = raw_key, value = text:sub(from, to) }
    at = skip_space(text, to + 1)
    if text:sub(at, at) == "," then at = skip_space(text, at + 1) end
  end
  return list
end

--- The elements of a list, as written.
-- @tparam string text
-- @treturn {string,...}
function M.elements(text)
  local list = {}
  local at = skip_space(text, skip_space(text, 1) + 1)
  while text:sub(at, at) ~= "]" do
    local to = value_end(text, at)
    list[#list + 1] = text:sub(at, to)
    at = skip_space(text, to + 1)
    if text:sub(at, at) == "," then at = skip_space(text, at + 1) end
  end
  return list
end

--- The same text without white space between its parts: on one line.
-- @tparam string text
-- @treturn string
function M.compact(text)
  local parts, at = {}, 1
  while true do
    local from = text:find('[ \t\r\n"]', at)
    parts[#parts + 1] = text:sub(at, (from or 0) - 1)
    if not from then return table.concat(parts) end
    at = from + 1
    if text:byte(from) == 34 then
      local to = string_end(text, from)
      parts[#parts + 1] = text:sub(from, to)
      at = to + 1
    end
  end
end

--- The same text with a member, or an element, a line.
-- @tparam string text
-- @treturn string
function M.indented(text)
  text = M.compact(text)
  local parts, depth, at = {}, 0, 1
  local function say(...)
    for _, part in ipairs { ... } do parts[#parts + 1] = part end
  end
  local function line() return "\n" .. ("  "):rep(depth) end
  while at <= #text do
    local to = text:byte(at) == 34 and string_end(text, at) or text:find("^[%[{][%]}]", at) and at + 1 or at
    local word = text:sub(at, to)
    if word == "{" or word == "[" then
      depth = depth + 1
      say(word, line())
    elseif word == "}" or word == "]" then
      depth = depth - 1
      say(line(), word)
    elseif word == "," then
      say(word, line())
    else
      say(word == ":" and ": " or word)
    end
    at = to + 1
  end
  return table.concat(parts)
end

--- The text of one member; of several by the same key the last, which is the one that counts.
-- @tparam string text
-- @tparam string key
-- @treturn ?string nil when there is none
function M.get(text, key)
  local value
  for _, member in ipairs(M.members(text)) do
    if member.key == key then value = member.value end
  end
  return value
end

--- Set or remove members. Others keep their bytes and their order; new ones come last.
-- @tparam string text
-- @tparam table changes by key: the new value as JSON text, or false to remove the member
-- @treturn string
function M.set(text, changes)
  local parts, seen = {}, {}
  for _, member in ipairs(M.members(text)) do
    local new = changes[member.key]
    if new == nil then
      parts[#parts + 1] = member.raw_key .. ":" .. member.value
    elseif new and not seen[member.key] then
      parts[#parts + 1] = member.raw_key .. ":" .. new
      seen[member.key] = true
    end
  end
  local added = {}
  for key, new in pairs(changes) do
    if new and not seen[key] then added[#added + 1] = ('"%s":%s'):format(key, new) end
  end
  table.sort(added)
  table.move(added, 1, #added, #parts + 1, parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

return M
