-- SPDX-License-Identifier: MIT
--- Steps `elements` of many attachments at once: somebody has flushed the rules of a node, and one batch
-- brings back what thousands had in them, while no other call can come between.
--
-- Only what nobody has is made here. Whatever needs a thought, an element that is somebody else's, one that
-- waits or leads elsewhere, is left to the step's own `run`. Items come in the order of their ADDs.
--
-- @module cni.step.elements_of_all

local elements = require "cni.step.elements"
local layouts = require "cni.step.layout"
local nft = require "cni.nft"
local sets = require "cni.step.sets"

local M = {}

-- Items by the layouts that they have elements in.
local function by_layouts(items)
  local lists, names = {}, {}
  for _, item in ipairs(items) do
    local want = item.step.want
    local named = want.layout or "layout"
    local name = want.module .. " " .. (type(named) == "table" and table.concat(named, " ") or named)
    local list = lists[name]
    if not list then
      list = { all = sets.layouts_of(item.step) }
      lists[name], names[#names + 1] = list, name
    end
    list[#list + 1] = item
  end
  local out = {}
  for i, name in ipairs(names) do out[i] = lists[name] end
  return out
end

local function lacking_of(socket, layout)
  local missing = layouts.missing(socket, layout)
  return missing and ("%s is missing from table %s %s"):format(missing, layout.family or "inet", layout.table)
end

-- Have each item know its elements, whose they are to be, what of them nobody has, and, of the first, why.
local function look(socket, list)
  local lacking, asked, of = {}, {}, {}
  for _, layout in ipairs(list.all) do lacking[layout] = lacking_of(socket, layout) end
  for _, item in ipairs(list) do
    item.elements, item.comment = sets.all_of(item.step.want.elements), layouts.owner_comment(item.owner)
    item.missing, item.differs, item.odd = {}, nil, false
    -- Some layouts are all that a step wants.
    for _, layout in ipairs(#item.elements == 0 and list.all or {}) do item.differs = lacking[layout] end
    for _, element in ipairs(item.elements) do asked[#asked + 1], of[#of + 1] = element, item end
  end
  for i, found in ipairs(sets.find_all(socket, list.all, asked)) do
    local item, element = of[i], asked[i]
    if found then
      item.odd = item.odd or found.comment ~= item.comment and not element.replace
    else
      local _, layout = sets.set_of(list.all, element.set)
      item.missing[#item.missing + 1] = element
      item.differs = item.differs or ("%s: %s"):format(sets.said(element),
        lacking[layout] or ("its element in set %s is missing"):format(element.set))
    end
  end
end

-- Note which items have a key that is somebody's in another set.
local function look_elsewhere(socket, list)
  local asked, of = {}, {}
  for _, item in ipairs(list) do
    for _, element in ipairs(item.missing) do
      for _, name in ipairs(element.excludes or {}) do
        for _, key in ipairs(sets.keys_of(element)) do
          asked[#asked + 1], of[#of + 1] = { set = name, key = key }, item
        end
      end
    end
  end
  for i, found in ipairs(sets.find_all(socket, list.all, asked)) do
    of[i].odd = of[i].odd or found and found.comment ~= of[i].comment
  end
end

local function place_of(element)
  local key = element.key
  return element.set .. "\0" .. (type(key) == "table" and table.concat(key, "\0") or tostring(key))
end

-- What of a list can be made, and whose it is. None is made twice: the first who wants it gets it; what is
-- replaced in an ADD, the last one.
local function choose(list)
  local made, at, chosen = {}, {}, {}
  for _, item in ipairs(list) do
    local free = not item.odd and item.differs ~= nil
    for _, element in ipairs(item.missing) do
      free = free and (element.replace or not at[place_of(element)])
    end
    for _, element in ipairs(free and item.missing or {}) do
      local place = place_of(element)
      at[place] = at[place] or #made + 1
      made[at[place]] = { set = element.set, key = element.key, key_end = element.key_end,
        data = element.data, comment = item.comment }
    end
    if free then chosen[#chosen + 1] = item end
  end
  return made, chosen
end

local function take(plan, list)
  for _, item in ipairs(list) do sets.take(plan, plan.host, list.all, item.step.want, item.owner) end
end

-- Make what is missing of the steps of a list; none of it where the kernel refuses that.
local function make(plan, list)
  local h, socket, first = plan.host, nft.open(plan.host), list[1].step
  take(plan, list)
  look(socket, list)
  for _, layout in ipairs(list.all) do
    if layouts.missing(socket, layout) then
      plan:lock(sets.group_of(layout, h, first.want), "exclusive")
      take(plan, list)
      layouts.make(socket, layout, elements.say(first))
    end
  end
  look_elsewhere(socket, list)
  local made, chosen = choose(list)
  local batch = {}
  sets.add_to(batch, list.all, "create", made)
  if #batch > 0 and not layouts.commit(socket, batch) then return {} end
  for _, item in ipairs(chosen) do elements.forget(item.step, h, socket, list.all, false, item.comment) end
  return chosen
end

--- Which of some steps lack anything.
-- @tparam table plan
-- @tparam {table,...} items `step`, whose elements are in layouts of this program, on the host; `owner`
-- @treturn {table,...} those that do, with `differs`: what, in words
function M.lacking(plan, items)
  local socket, found = nft.open(plan.host), {}
  for _, list in ipairs(by_layouts(items)) do
    look(socket, list)
    for _, item in ipairs(list) do
      if item.differs then found[#found + 1] = item end
    end
  end
  return found
end

--- Make what is missing of some steps: a batch for all of a layout.
-- @tparam table plan
-- @tparam {table,...} items of @{lacking}, of attachments that nobody else works on
-- @treturn {table,...} those that are whole again, with `differs`
-- @raise where the kernel cannot be asked, or has not what a layout needs
function M.make(plan, items)
  local whole = {}
  for _, list in ipairs(by_layouts(items)) do
    local ok, chosen = pcall(make, plan, list)
    plan:unlock()
    if not ok then error(chosen, 0) end
    table.move(chosen, 1, #chosen, #whole + 1, whole)
  end
  return whole
end

return M
