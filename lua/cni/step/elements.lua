-- SPDX-License-Identifier: MIT
--- Step `elements`: elements of this attachment in sets of nf_tables. The table, with chains and sets, is
-- there for all attachments (cni.step.layout): made by the first, removed with the last.
--
-- `want.elements` is a list of
--
--     set, key, key_end, data   as netlink.nft has them, key and data by the types of the set
--     excludes                  names of sets with such keys, too: what is in one of them for any of the keys
--                               is in the way
--     replace                   true: an element that is there already is replaced, whoever it belonged to
--     says                      the element in words
--     each                      how many elements it stands for: the last number of key and of data goes up
--                               by one from each to the next; `says_each` has one in words, with %d for both
--
-- `want.flows` are those of connection tracking that end with such a change, see cni.step.flows.
--
-- `want.instead` names a function of cni.reference.leftovers which tells whether the reference has done the
-- same, and `want.theirs` one that takes back what it has done.
--
-- To whom an element belongs, its comment says. One batch adds all of them, and one removes them. An element
-- that somebody else has is an error which names him; nothing is added then. What another attachment of the
-- same container has is left to it until it goes (cni.step.siblings).
--
-- @module cni.step.elements

local fail = require "cni.fail"
local flows = require "cni.step.flows"
local layouts = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.record.shared"
local siblings = require "cni.step.siblings"

local errors = netlink.sys.errno
local M = {}

local patience <const> = 100

-- The shipped layout that a step names, by its module and its name there; what of a script's own the record
-- has, or all of it on ADD.
local function layout_of(step)
  local want = step.want
  return step.layout or want.module and require("cni." .. want.module)[want.layout or "layout"] or want.layout
end

local function group_of(layout, h) return h:group("nft:" .. layout.table .. "." .. layout.name) end

-- The object that all attachments use; the others are sets with `noted`.
local whole <const> = "layout"

local function owner_comment(owner)
  local text = ("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)
  if #text > 128 then text = text:sub(1, 100) .. "/" .. netlink.sys.hash64(text) end
  return nft.comment(text)
end

-- All elements that those of a step stand for.
local function all_of(elements)
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

local function set_of(layout, name)
  local by = sets_by_name[layout]
  if not by then
    by = {}
    for _, set in ipairs(layout.sets) do by[set.name] = set end
    sets_by_name[layout] = by
  end
  if by[name] then return by[name] end
  fail.throw { code = fail.codes.internal, msg = ("there is no set %s"):format(name) }
end

local function listed(layout, set, fields)
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

-- The answer to a question about elements, nil when there are none. The kernel says EINVAL where a set has
-- keys of another length, and of much else.
local function answer(socket, layout, set, found, msg, errno)
  if found or not errno or errno == errors.ENOENT then return found end
  if errno == errors.EINVAL and is_not_ours(socket, layout, set) then return nil end
  fail.kernel("look at set " .. set.name, msg, errno)
end

-- The element for a key in a set, or nil. No set, or one of another layout: it is not in there.
local function find(socket, layout, name, key)
  local set = set_of(layout, name)
  return answer(socket, layout, set, socket:get("element", listed(layout, set, { key = key })))
end

-- The element for each of some in a set, or false. Many are one question.
local function find_all(socket, layout, elements)
  local found, lists = {}, {}
  for i, element in ipairs(elements) do
    local set = set_of(layout, element.set)
    if set.interval then
      found[i] = find(socket, layout, element.set, element.key) or false
    else
      local list = lists[set] or {}
      lists[set] = list
      list[#list + 1] = i
    end
  end
  for set, list in pairs(lists) do
    local keys = {}
    for n, i in ipairs(list) do keys[n] = { key = elements[i].key } end
    local all = answer(socket, layout, set, socket:find(listed(layout, set, { elements = keys })))
    for n, i in ipairs(list) do found[i] = all and all[n] or false end
  end
  return found
end

-- All keys of an element: of an interval, those from its first port, or number, to the last.
local function keys_of(element)
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

local function said(element)
  local key, to, run = element.key, element.data, element.run
  if run and run.says_each then return run.says_each:format(key[#key], to[#to]) end
  if (element.says or "") ~= "" then return element.says end
  local function text(value)
    return type(value) == "table" and table.concat(value, " . ") or tostring(value)
  end
  local data = element.data
  return ("%s%s%s in %s"):format(text(element.key), element.key_end and "-" .. text(element.key_end) or "",
    data and " : " .. text(data.verdict and { data.verdict, data.chain } or data) or "", element.set)
end

-- Elements that are left out, since another attachment of an owner's container has them: itself a key of it.
local function left_out(owner) return { owner = owner, known = {} } end

local function is_siblings(apart, comment)
  local known = apart.known
  if comment and known[comment] == nil then
    known[comment] = siblings.any(apart.owner, function(other) return owner_comment(other) == comment end)
  end
  return comment ~= nil and known[comment]
end

-- Somebody has an element: it is left out when that is a sibling, or else an error.
local function occupied(apart, element, found)
  local by = found.comment or "somebody"
  if is_siblings(apart, found.comment) then
    apart[element], apart.some = true, true
    return
  end
  fail.throw { msg = ("%s: %s has it already"):format(said(element), by),
    details = "its owner is written network/container/interface" }
end

-- See who has one of the keys of elements in another set, or in its own between its ends.
local function look_for_others(socket, layout, elements, group, comment, apart)
  local used = {}
  local function is_used(name)
    if used[name] == nil then used[name] = not set_of(layout, name).noted or shared.used(group, name) end
    return used[name]
  end
  local asked = {}
  for _, element in ipairs(elements) do
    for _, name in ipairs(element.excludes or {}) do
      for _, key in ipairs(is_used(name) and keys_of(element) or {}) do
        asked[#asked + 1] = { set = name, key = key, of = element }
      end
    end
  end
  for i, found in ipairs(find_all(socket, layout, asked)) do
    if found and found.comment ~= comment then occupied(apart, asked[i].of, found) end
  end
end

local function entry(element, comment)
  return { key = element.key, key_end = element.key_end, data = element.data, comment = comment }
end

-- Put elements into a batch, those of one set together.
local function batch_of(layout, verb, elements, comment)
  local batch, by = {}, {}
  for _, element in ipairs(elements) do
    local set = set_of(layout, element.set)
    local list = by[element.set]
    if not list then
      list = {}
      by[element.set] = list
      batch[#batch + 1] = { verb, "element", listed(layout, set, { elements = list }) }
    end
    list[#list + 1] = verb == "del" and { key = element.key, key_end = element.key_end }
      or entry(element, comment)
  end
  return batch
end

-- Of the elements those that are there; of somebody else only such as are to be replaced.
local function there(socket, layout, elements, comment, apart, only)
  local list, asked = {}, {}
  for _, element in ipairs(elements) do
    if not only or element[only] then asked[#asked + 1] = element end
  end
  local all = find_all(socket, layout, asked)
  for i, element in ipairs(asked) do
    local found = all[i]
    if found and (found.comment == comment or element.replace) then
      list[#list + 1] = element
    elseif found and only ~= "replace" then
      occupied(apart, element, found)
    end
  end
  return list
end

-- Commit; nil and the errno when that is refused.
local function commit(socket, layout, elements, comment, replaced)
  local batch = batch_of(layout, "del", replaced)
  table.move(batch_of(layout, "create", elements, comment), 1, #elements, #batch + 1, batch)
  if #batch == 0 then return true end
  local ok, msg, errno = socket:commit(batch)
  return ok, errno, msg
end

-- Whether there is an element that would be in the way of an interval, without having its first key.
local function overlap(socket, layout, elements, comment, apart)
  for _, element in ipairs(elements) do
    local found = element.key_end and find(socket, layout, element.set, element.key_end)
    if found and found.comment ~= comment then occupied(apart, element, found) end
  end
end

local function but_for(apart, elements)
  if not apart.some then return elements end
  local list = {}
  for _, element in ipairs(elements) do
    if not apart[element] then list[#list + 1] = element end
  end
  return list
end

local function take(plan, group, want, layout)
  local alone = false
  for _, element in ipairs(want.elements) do
    alone = alone or element.key_end ~= nil and element.excludes ~= nil
  end
  plan:lock(group, alone and "exclusive" or "shared")
  shared.join(group, whole, plan.owner)
  for _, element in ipairs(want.elements) do
    if set_of(layout, element.set).noted then shared.join(group, element.set, plan.owner) end
  end
end

local function forget(step, h, socket, layout, removed, comment)
  if not socket or not step.want.flows or h.absent then return end
  local tracked = step.want.flows
  if not removed or not layouts.missing(socket, layout) then
    tracked = layouts.may_track(socket, layout, tracked)
  end
  flows.forget(h, socket, tracked, removed, function(name, flow)
    local found = find(socket, layout, name, { flow.dst, flow.proto, flow.port })
    return found ~= nil and found.comment ~= comment
  end)
end

function M.run(step, plan)
  local h, layout, want = plan[step.ns], layout_of(step), step.want
  local socket, group = nft.open(h), group_of(layout, h)
  local comment, elements = owner_comment(plan.owner), all_of(want.elements)
  take(plan, group, want, layout)
  local ok, errno, msg, waits
  local function try()
    local apart = left_out(plan.owner)
    look_for_others(socket, layout, elements, group, comment, apart)
    ok, errno, msg = commit(socket, layout, but_for(apart, elements), comment,
      there(socket, layout, elements, comment, apart, "replace"))
    if not ok and (errno == errors.EEXIST or errno == errors.ENOTEMPTY) then
      -- Somebody has one of them: that is said. Or a killed call of this very attachment has left some.
      local mine = there(socket, layout, elements, comment, apart)
      overlap(socket, layout, elements, comment, apart)
      ok, errno, msg = commit(socket, layout, but_for(apart, elements), comment, mine)
    end
    return ok and apart.some
  end
  for _ = 1, patience do
    if layouts.missing(socket, layout) then
      plan:lock(group, "exclusive")
      take(plan, group, want, layout)
      layouts.make(socket, layout, M.say(step))
    end
    if try() and not waits then
      siblings.wait(group, plan.owner)
      waits = true
      try()
    end
    if ok then return forget(step, h, socket, layout, false, comment) end
    -- Gone since we looked, or come.
    if errno ~= errors.ENOENT and errno ~= errors.EEXIST then break end
  end
  fail.kernel(M.say(step), msg, errno)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  return true
end

local function differs(step, plan)
  local h, layout = plan[step.ns], layout_of(step)
  local socket, comment = nft.open(h), owner_comment(plan.owner)
  local missing = layouts.missing(socket, layout)
  if missing then
    return ("%s is missing from table %s %s"):format(missing, layout.family or "inet", layout.table)
  end
  local elements = all_of(step.want.elements)
  local all, apart = find_all(socket, layout, elements), left_out(plan.owner)
  for i, element in ipairs(elements) do
    local set, found = set_of(layout, element.set), all[i]
    local others = found and found.comment ~= comment
    if not found then
      return ("%s: its element in set %s is missing"):format(said(element), element.set)
    elseif others and is_siblings(apart, found.comment) then
      goto continue
    elseif others and not element.replace then
      return ("%s: its element in set %s belongs to %s"):format(said(element), element.set,
        found.comment or "somebody")
    elseif set.data_type and set.data_type ~= "verdict" and not same(element.data, found.data) then
      return ("%s: its element in set %s leads elsewhere"):format(said(element), element.set)
    end
    ::continue::
  end
end

-- What a reference plugin has made may stand in the place of the elements (`want.instead`).
function M.verify(step, plan)
  local text, instead = differs(step, plan), step.want.instead
  local theirs = text and instead and require("cni.reference.leftovers")[instead]
  if theirs and theirs(plan[step.ns], plan.owner, step.want) then return nil end
  return text
end

-- Elements of an owner that no record tells of.
local function unrecorded(socket, layout, comment)
  local list = {}
  for _, set in ipairs(layout.sets) do
    local found = not set.tracks
      and answer(socket, layout, set, socket:dump("element", listed(layout, set, {})))
    for _, element in ipairs(found or {}) do
      if element.comment == comment then
        list[#list + 1] = { set = set.name, key = element.key, key_end = element.key_end }
      end
    end
  end
  return list
end

local function take_out(step, plan, socket, layout)
  local comment = owner_comment(plan.owner)
  local elements = step.want.elements
  if plan.mode == "erase" then
    elements = unrecorded(socket, layout, comment)
  else
    local mine, all = {}, all_of(elements)
    for i, found in ipairs(find_all(socket, layout, all)) do
      if found and found.comment == comment then mine[#mine + 1] = all[i] end
    end
    elements = mine
  end
  if #elements == 0 then return true end
  local ok, msg, errno = socket:commit(batch_of(layout, "del", elements))
  if not ok and errno ~= errors.ENOENT then fail.kernel("undo: " .. M.say(step), msg, errno) end
  return ok
end

-- What is gone is made for those who have waited for it; one by one where a third has some of it.
local function hand_on(step, plan, socket, layout, group)
  siblings.hand_on(group, plan.owner, step.want, function(owner, elements)
    local comment, all, missing = owner_comment(owner), all_of(elements), {}
    for i, found in ipairs(find_all(socket, layout, all)) do
      if not found then missing[#missing + 1] = all[i] end
    end
    local ok, errno, msg = commit(socket, layout, missing, comment, {})
    for i = 1, not ok and errno == errors.EEXIST and #missing or 0 do
      ok, errno, msg = commit(socket, layout, { missing[i] }, comment, {})
      if not ok and errno ~= errors.EEXIST then break end
      ok = true
    end
    if not ok then fail.kernel("hand on what waits in set " .. missing[1].set, msg, errno) end
  end)
end

-- Without a socket there are no nf_tables: only the books are to be kept.
local function undo(step, plan, socket)
  local h, layout = plan[step.ns], layout_of(step)
  local group = group_of(layout, h)
  siblings.go(group, plan.owner)
  for _ = 1, patience do
    if not socket or take_out(step, plan, socket, layout) then break end
  end
  if socket then hand_on(step, plan, socket, layout, group) end
  if step.want.theirs then require("cni.reference.leftovers")[step.want.theirs](plan) end
  forget(step, h, socket, layout, true, owner_comment(plan.owner))
  for _, set in ipairs(layout.sets) do
    if set.noted then shared.leave(group, set.name, plan.owner) end
  end
  if not shared.leave(group, whole, plan.owner) then return end
  local lock <close> = shared.lock(group, "exclusive")
  if shared.used(group, whole) then return end
  if socket then layouts.drop(socket, layout) end
  shared.tidy(group, lock)
end

function M.undo(step, plan)
  local h = plan[step.ns]
  if not h.absent then undo(step, plan, nft.open_if_any(h)) end
end

function M.say(step)
  local words = {}
  for i, element in ipairs(step.want.elements) do
    if element.says ~= "" then words[#words + 1] = said(step.want.elements[i]) end
  end
  return #words == 0 and "add nothing to nf_tables" or table.concat(words, ", ")
end

return M
