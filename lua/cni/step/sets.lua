-- SPDX-License-Identifier: MIT
--- Elements of sets of nf_tables: where they are, asked for, put into a batch. For cni.step.elements and
-- cni.step.elements_of_all.
-- @module cni.step.sets

local fail = require "cni.fail"
local layouts = require "cni.step.layout"
local netlink = require "netlink"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local M = {}

--- The layouts of a step: the shipped ones that it names, by their module and their names there; one of a
-- script's own (`layout` of the step) the record has frozen, and that of an older version only what is to be
-- taken back of it.
-- @tparam table step
-- @treturn {table,...}|nil nil: this version has not all of them
-- @treturn ?string the name of one that it has not
function M.layouts_of(step)
  local want = step.want
  if not want.module then return { step.layout or layouts.thaw(want.layout.frozen) or want.layout } end
  local module, names = require("cni." .. want.module), want.layout or "layout"
  local list = {}
  for i, name in ipairs(type(names) == "table" and names or { names }) do
    list[i] = module[name]
    if not list[i] then return nil, name end
  end
  return list
end

--- The group (cni.record.shared) that a layout is locked as.
-- @tparam table layout
-- @tparam handle h of the namespace that it is in
-- @tparam table want of the step
-- @treturn string
function M.group_of(layout, h, want)
  return want.group or h:group(("nft:%s.%s"):format(layout.table, layout.group or layout.name))
end

--- The object of its group that all attachments with elements in a layout use; the others are sets with
-- `noted`.
-- @tparam table layout
-- @treturn string
function M.whole(layout) return layout.group and layout.name or "layout" end

--- Lock the groups of layouts, and become a user of them and of the sets that are `noted`.
-- @tparam table plan
-- @tparam handle h of the namespace
-- @tparam {table,...} all layouts
-- @tparam table want of the step
-- @tparam[opt] table owner who becomes one; by default the plan's
function M.take(plan, h, all, want, owner)
  owner = owner or plan.owner
  local alone = false
  for _, element in ipairs(want.elements) do
    alone = alone or element.key_end ~= nil and element.excludes ~= nil
  end
  for _, layout in ipairs(all) do
    local group = M.group_of(layout, h, want)
    plan:lock(group, alone and "exclusive" or "shared")
    shared.join(group, M.whole(layout), owner)
  end
  for _, element in ipairs(want.elements) do
    local set, layout = M.set_of(all, element.set)
    if set.noted then shared.join(M.group_of(layout, h, want), element.set, owner) end
  end
end

--- All keys of an element: of an interval, those from its first port, or number, to the last.
-- @tparam table element
-- @treturn table list
function M.keys_of(element)
  local key, to = element.key, element.key_end
  if not to then return { key } end
  if type(key) ~= "table" then return { key, to } end
  local keys, at = {}, #key
  for value = key[at], to[at] do
    local one = table.move(key, 1, at, 1, {})
    one[at] = value
    keys[#keys + 1] = one
  end
  return keys
end

--- An element in words.
-- @tparam table element
-- @treturn string
function M.said(element)
  local run = element.run
  if run and run.says_each then
    return run.says_each:format(element.key[#element.key], element.data[#element.data])
  end
  if (element.says or "") ~= "" then return element.says end
  local function text(value)
    return type(value) == "table" and table.concat(value, " . ") or tostring(value)
  end
  local data = element.data
  if type(data) == "table" and data.verdict then data = { data.verdict, data.chain } end
  return ("%s%s%s in %s"):format(text(element.key), element.key_end and "-" .. text(element.key_end) or "",
    data and " : " .. text(data) or "", element.set)
end

--- All elements that those of a step stand for.
-- @tparam {table,...} elements as a step has them, some with `each`
-- @treturn {table,...}
function M.all_of(elements)
  local list = {}
  for _, element in ipairs(elements) do
    if not element.each then list[#list + 1] = element end
    local key, data = element.key, element.data
    for i = 0, (element.each or 0) - 1 do
      local one, to = table.move(key, 1, #key, 1, {}), table.move(data, 1, #data, 1, {})
      one[#one], to[#to] = one[#one] + i, to[#to] + i
      list[#list + 1] = { set = element.set, key = one, data = to, excludes = element.excludes,
        replace = element.replace, run = element }
    end
  end
  return list
end

local sets_by_name = setmetatable({}, { __mode = "k" })

--- A set by its name, and the layout that has it.
-- @tparam {table,...} all layouts
-- @tparam string name
-- @treturn table the set
-- @treturn table the layout
function M.set_of(all, name)
  for _, layout in ipairs(all) do
    local by = sets_by_name[layout]
    if not by then
      by = {}
      for _, set in ipairs(layout.sets) do by[set.name] = set end
      sets_by_name[layout] = by
    end
    if by[name] then return by[name], layout end
  end
end

--- What netlink takes of elements of a set.
-- @tparam table layout
-- @tparam table set of it
-- @tparam table fields `key` or `elements`; it is written into
-- @treturn table
function M.listed(layout, set, fields)
  fields.set, fields.key_type, fields.data_type = set.name, set.key_type, set.data_type
  fields.interval = set.interval or nil
  return layouts.of(layout, fields)
end

-- Whether there is no such set, or one of other types, which is somebody else's.
local function is_not_ours(socket, layout, set)
  local found, msg, errno = socket:get("set", layouts.of(layout, { name = set.name }))
  if not found and errno and errno ~= errors.ENOENT then
    fail.kernel("look at set " .. set.name, msg, errno)
  end
  return not found or found.key_type ~= set.key_type or found.data_type ~= set.data_type
end

--- The answer to a question about elements. The kernel says EINVAL where a set has keys of another length,
-- and of much else.
-- @param socket of nf_tables
-- @tparam table layout
-- @tparam table set
-- @param found what the socket gave
-- @tparam[opt] string msg
-- @tparam[opt] integer errno
-- @return what was found; nil when there is none
function M.answer(socket, layout, set, found, msg, errno)
  if found or not errno or errno == errors.ENOENT then return found end
  if errno == errors.EINVAL and is_not_ours(socket, layout, set) then return nil end
  fail.kernel("look at set " .. set.name, msg, errno)
end

-- Ask for elements by their keys. One that no element of the set can have, which a script has given, is in
-- none; any other error is one.
local function ask(socket, method, ...)
  local sound, found, msg, errno = pcall(socket[method], socket, ...)
  if sound then return found, msg, errno end
  if type(found) ~= "string" or found == "not enough memory" or fail.stopped(found) then error(found, 0) end
  return nil
end

--- The element for a key in a set. No set, or one of another layout: it is not in there.
-- @param socket of nf_tables
-- @tparam {table,...} all layouts
-- @tparam string name of the set
-- @param key
-- @treturn table|nil
function M.find(socket, all, name, key)
  local set, layout = M.set_of(all, name)
  return M.answer(socket, layout, set, ask(socket, "get", "element", M.listed(layout, set, { key = key })))
end

--- The element that is there for each of some. Many are one question.
-- @param socket of nf_tables
-- @tparam {table,...} all layouts
-- @tparam {table,...} elements
-- @treturn {table|boolean,...} false: there is none
function M.find_all(socket, all, elements)
  local found, lists = {}, {}
  for i, element in ipairs(elements) do
    local set = M.set_of(all, element.set)
    if set.interval then
      found[i] = M.find(socket, all, element.set, element.key) or false
    else
      local list = lists[set] or {}
      lists[set] = list
      list[#list + 1] = i
    end
  end
  for set, list in pairs(lists) do
    local keys, _, layout = {}, M.set_of(all, set.name)
    for n, i in ipairs(list) do keys[n] = { key = elements[i].key } end
    local asked = M.listed(layout, set, { elements = keys })
    local some = M.answer(socket, layout, set, ask(socket, "find", asked))
    for n, i in ipairs(list) do found[i] = some and some[n] or false end
  end
  return found
end

--- Put elements into a batch, those of one set together.
-- @tparam table batch
-- @tparam {table,...} all layouts
-- @tparam string verb create or del
-- @tparam {table,...} elements
-- @tparam[opt] string comment whose they are; nil: each has its own, or none
function M.add_to(batch, all, verb, elements, comment)
  local by = {}
  for _, element in ipairs(elements) do
    local set, layout = M.set_of(all, element.set)
    local list = by[element.set]
    if not list then
      list = {}
      by[element.set] = list
      batch[#batch + 1] = { verb, "element", M.listed(layout, set, { elements = list }) }
    end
    list[#list + 1] = verb == "del" and { key = element.key, key_end = element.key_end }
      or { key = element.key, key_end = element.key_end, data = element.data,
        comment = comment or element.comment }
  end
end

return M
