-- SPDX-License-Identifier: MIT
--- The reader (cni.engine.args) of what a netlink object takes. That is not written down again: the rows of
-- netlink-bindings are asked.
-- @module cni.engine.attributes

local args = require "cni.engine.args"
local netlink = require "netlink"

local below, copy, is_lenient, sorted = args.below, args.copy, args.is_lenient, args.sorted
local check = netlink.check
local M = {}

-- The keys of an object that can be given, with those of its kind.
local function keys_of(object, kind)
  local keys = {}
  for _, row in ipairs(netlink.describe(object)) do
    if not row.readonly and (not row.when or row.when == kind) then keys[row.key] = true end
  end
  return keys
end

-- What the rows say is wrong, in terms of the table that the verb was given: the problem, and where in it.
local function problem_of(text, spec, value)
  local at, problem = text:match "^%a+(.-): (.*)$"
  if not problem then return text end
  local key = at == "" and problem:match "^unknown key '([^']*)'"
  if key then
    local keys, page = spec.only or keys_of(spec.object, value.kind), spec.object
    for name in next, spec.only and {} or spec.never or {} do keys[name] = nil end
    if page == "link" and type(value.kind) == "string" then
      local of_kind = value.kind .. "_" .. key
      if keys[of_kind] then return ("unknown key '%s' (here it is '%s')"):format(key, of_kind) end
      page = "link " .. value.kind
    end
    return args.unknown(key, sorted(spec.own, keys), nil, page)
  end
  return problem, at ~= "" and at:gsub("^%.", "") or nil
end

-- The kind of link that has the options that are given, when there is but one.
local function kind_of_options(object, value)
  local found
  for _, row in ipairs(netlink.describe(object)) do
    if row.when and value[row.key] ~= nil and row.when ~= found then
      if found then return nil end
      found = row.when
    end
  end
  return found
end

--- Attributes of a netlink object, by the rows of netlink-bindings; and keys that are the verb's own.
-- @tparam table spec
--   object           of netlink, such as link
--   own              reader by key, for keys that the rows do not see
--   only             set of the keys of the rows that can be given; nil: all
--   never            by key, why it cannot be given
--   infers           true: the options tell the kind
--   first            as `check`, on what was given, before the rows look at it
--   required, check  as for `record`
-- @treturn function reader
function M.reader(spec)
  local own, only, never = spec.own or {}, spec.only, spec.never or {}
  local required, check_whole = spec.required or {}, spec.check
  spec.own = own
  local object = spec.object
  return function(value, self)
    if type(value) ~= "table" or args.is_handle(value) then return nil, args.expected("a table", value) end
    local out, lenient, rest = {}, is_lenient(self), nil
    for key, item in next, value do
      local read = own[key]
      if read then
        local problem, at
        out[key], problem, at = read(item, self)
        if problem then return nil, problem, below(key, at) end
      elseif lenient then
        out[key] = copy(item)
      elseif never[key] then
        return nil, never[key], key
      elseif only and not only[key] then
        return nil, args.unknown(key, sorted(own, only))
      else
        if type(item) == "table" then item = copy(item) end
        -- As the kernel tells of it, and so comparable.
        if key == "mac" and type(item) == "string" then item = item:lower() end
        rest = rest or {}
        out[key], rest[key] = item, item
      end
    end
    local problem, at = args.lacking(value, out, required)
    if problem then return nil, problem, at end
    if spec.first then
      problem, at = spec.first(out, self)
      if problem then return nil, problem, at end
    end
    if rest then
      local ok, text = pcall(check, object, rest)
      local kind = not ok and spec.infers and not rest.kind and kind_of_options(object, rest)
      if kind then
        out.kind, rest.kind = kind, kind
        ok, text = pcall(check, object, rest)
      end
      if not ok then return nil, problem_of(text, spec, value) end
    end
    if check_whole then
      problem, at = check_whole(out, self)
      if problem then return nil, problem, at end
    end
    return out
  end
end

return M
