-- SPDX-License-Identifier: MIT
--- Values that several attachments set on one thing that was there before them: an attribute of a link, a
-- sysctl. They are a stack in the facts of a group (cni.record.shared):
--
--     facts.values["link eth0 mtu"] = { before = 1500, of = 4, users = { { user =, id =, value = }, ... } }
--
-- `before` is the value before the first attachment, `of` tells the thing from a later one of the same name.
-- The value of the youngest user counts. Users go in any order, and each takes its own entry out. When it was
-- the youngest, the value below its own is set again; but only if the kernel still has the user's own value:
-- one that somebody else has set since stays. A call may be killed between facts and kernel: the facts are
-- written before a value is set, and after it is given back.
--
-- @module cni.record.values

local shared = require "cni.record.shared"

local M = {}

-- Texts count as the same whatever their case and their white space.
local function same(a, b)
  if type(a) ~= "string" or type(b) ~= "string" then return a == b end
  return a:lower():gsub("%s+", " ") == b:lower():gsub("%s+", " ")
end

local function user_of(plan)
  local owner = plan.owner
  return ("%s:%s:%s"):format(owner.network, owner.id, owner.ifname)
end

-- Where a step's entry is among the users; without a record the youngest one of the attachment.
local function find(entry, step, plan)
  for i = #entry.users, 1, -1 do
    local one = entry.users[i]
    if one.id == step.want.id or plan.mode == "erase" and one.user == user_of(plan) then return i end
  end
end

local function note(facts, step, plan, items)
  local changed = false
  facts.values = facts.values or {}
  for _, item in ipairs(items) do
    local entry = facts.values[item.key]
    if entry and entry.of ~= item.of then entry = nil end
    -- A value that is so already, and that no attachment has set, needs no entry: it is not taken back.
    if entry or not same(item.now, item.value) then
      entry = entry or { before = item.now, of = item.of, users = {} }
      -- When the value is set anew, it has its entry already.
      if not find(entry, step, plan) then
        table.insert(entry.users, { user = user_of(plan), id = step.want.id, value = item.value })
        facts.values[item.key], changed = entry, true
      end
    end
  end
  return changed
end

--- Set values for an attachment.
-- @tparam table step its `want` has the `group`, and an `id` that no other step has
-- @tparam plan plan
-- @tparam function look gives the list of { key =, value =, now =, of =, after = }. `after` is the key of an
-- item that changes this one too: when that is written before, `now` is outdated, and this one is written too
-- @tparam function write sets what its list names
function M.set(step, plan, look, write)
  local group = step.want.group
  local lock <close> = shared.lock(group, "exclusive")
  local facts, items, list, written = shared.facts(group), look(), {}, {}
  if note(facts, step, plan, items) then shared.save(group, facts) end
  for _, item in ipairs(items) do
    if not same(item.now, item.value) or item.after and written[item.after] then
      list[#list + 1], written[item.key] = item, true
    end
  end
  if #list > 0 then write(list) end
  shared.tidy(group, lock)
end

-- Take an entry out; returns the value to give back, if any.
local function take_out(facts, step, plan, item)
  local entry = facts.values[item.key]
  local i = entry and find(entry, step, plan)
  if not i then return nil end
  local own, below = entry.users[i], entry.before
  if i > 1 then below = entry.users[i - 1].value end
  local youngest = i == #entry.users
  table.remove(entry.users, i)
  if #entry.users == 0 then facts.values[item.key] = nil end
  if youngest and entry.of == item.of and same(item.now, own.value) and not same(below, own.value) then
    return below
  end
end

--- Take an attachment's values back.
-- @tparam table step
-- @tparam plan plan
-- @tparam function look as for @{set}; `now` and `of` are nil of what is gone
-- @tparam function write as for @{set}
function M.give_back(step, plan, look, write)
  local group = step.want.group
  local lock <close> = shared.lock(group, "exclusive")
  local facts, list = shared.facts(group), {}
  if facts.values then
    for _, item in ipairs(look()) do
      local value = take_out(facts, step, plan, item)
      if value ~= nil then list[#list + 1] = { key = item.key, name = item.name, value = value } end
    end
    if #list > 0 then write(list) end
    shared.save(group, facts)
  end
  shared.tidy(group, lock)
end

--- Whether a value that differs from an attachment's is a younger one's: another attachment's, or a later
-- plugin's of the same chain.
-- @tparam table step
-- @tparam plan plan
-- @tparam table item as of `look`
-- @treturn boolean
function M.overruled(step, plan, item)
  local values = shared.facts(step.want.group).values
  local entry = values and values[item.key]
  local top = entry and entry.users[#entry.users]
  if not top or not same(top.value, item.now) then return false end
  local user = user_of(plan)
  if top.user ~= user then return true end
  for _, below in ipairs(entry.users) do
    if below.user == user and same(below.value, item.value) then return true end
  end
  return false
end

return M
