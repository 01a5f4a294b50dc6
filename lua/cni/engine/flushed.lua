-- SPDX-License-Identifier: MIT
--- Repair, before each attachment is looked at: where somebody has flushed the rules of a node, what its
-- attachments had in sets of nf_tables comes back for many of them at once, so that packets flow again long
-- before all of it is looked at.
--
-- Nothing depends on this: what is left out here, since somebody works on it or it is not as expected, the
-- repair of its attachment finds (cni.engine.repair).
--
-- @module cni.engine.flushed

local elements = require "cni.step.elements"
local journal = require "cni.record.journal"
local of_all = require "cni.step.elements_of_all"
local plans = require "cni.engine.plan"
local records_of = require "cni.engine.records"

local M = {}

-- Books that are held at a time, each an open file.
local most <const> = 200

local function is_shipped(step)
  return step.kind == "elements" and step.did and step.ns == "host" and step.want.module ~= nil
    and elements.knows(step)
end

-- The steps of a record that may have lost something.
local function steps_of(record, list)
  for _, step in ipairs(record:is_whole() and record.steps or {}) do
    if is_shipped(step) then
      list[#list + 1] = { step = step, record = record, owner = records_of.owner(record.header) }
    end
  end
end

-- Nothing but records of ADDs that have ended, so that no killed call is to be finished first.
local function is_settled(book)
  for _, record in ipairs(book:living()) do
    if not record:is_whole() then return false end
  end
  return not book.damaged
end

local function close_all(books)
  for _, book in ipairs(books) do book:close() end
end

-- Make what is missing in some of the books, while nobody else works with them.
local function mend(plan, heads, told)
  local books, items = {}, {}
  local ok, err = pcall(function()
    for _, head in ipairs(heads) do
      local book = journal.open_idle(head.owner, head.type)
      books[#books + 1] = book
      local living = book and is_settled(book) and book:living() or {}
      for _, record in ipairs(living) do steps_of(record, items) end
    end
    for _, item in ipairs(of_all.make(plan, of_all.lacking(plan, items))) do
      told(item.record.header, plans.say(item.step), item.differs)
    end
  end)
  close_all(books)
  if not ok then error(err, 0) end
end

--- Make what is missing of the rules of attachments.
-- @tparam {Record,...} records of theirs; the oldest attachment gets what several want
-- @tparam table env as of `attachment` of cni.engine.repair
-- @tparam function told(header, words, differs) is told of each step that is whole again
-- @raise where nf_tables cannot be asked
function M.mend(records, env, told)
  local items, heads, seen = {}, {}, {}
  for _, record in ipairs(records) do steps_of(record, items) end
  if #items < 2 then return end
  local plan <close> = plans.new("repair", { request = env })
  table.sort(items, function(a, b) return (a.record.since or 0) < (b.record.since or 0) end)
  for _, item in ipairs(of_all.lacking(plan, items)) do
    local head = { owner = item.owner, type = item.record.header.type }
    local name = table.concat({ head.owner.network, head.owner.id, head.owner.ifname, head.type }, "\0")
    if not seen[name] then seen[name], heads[#heads + 1] = true, head end
  end
  for i = 1, #heads, most do mend(plan, table.move(heads, i, i + most - 1, 1, {}), told) end
end

return M
