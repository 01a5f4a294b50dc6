-- SPDX-License-Identifier: MIT
--- Repair: what an ADD has done, as its record says, and what is not there any more, is done anew: rules
-- that somebody has flushed, a bridge that was removed, a setting that was set back. What is as it was is
-- only looked at. No script is run: the steps are those of the record, whatever its script would do today.
--
-- Nothing is written down, for the record has it all: a repair that is killed is finished by the next one,
-- and a DEL takes back what is there. What only an ADD can decide (a lease, what another program has done)
-- stays as it is, and so does what was moved into the sandbox.
--
-- @module cni.engine.repair

local fail = require "cni.fail"
local journal = require "cni.record.journal"
local plans = require "cni.engine.plan"
local verbs = require "cni.engine.verbs"

local M = {}

-- What is made anew may be what other things stood on: these are seen to be gone when it is looked again.
local passes <const> = 4

-- The types of an attachment in the order of their ADDs: what was there first is made first.
local function in_order(records)
  local types, first = {}, {}
  for _, record in ipairs(records) do
    local name = record.header.type
    local behind = record.header.config:find('"prevResult"%s*:') ~= nil
    if not first[name] then
      first[name] = { behind = behind, since = record.since or 0 }
      types[#types + 1] = name
    end
    first[name].behind = first[name].behind and behind
  end
  table.sort(types, function(a, b)
    local one, other = first[a], first[b]
    if one.behind ~= other.behind then return other.behind end
    if one.since ~= other.since then return one.since < other.since end
    return a < b
  end)
  return types
end

-- The result that a runtime has, as far as the last record of the chain tells it.
local function outlined(records, types)
  for i = #types, 1, -1 do
    for _, record in ipairs(records) do
      local done = record.header.type == types[i] and record.done
      if done and done.interfaces then return { interfaces = done.interfaces } end
    end
  end
end

-- Look, and do anew what is not there, until all is or nothing gets better.
local function mend(record, ns, env, prev, told)
  local header, done = record.header, {}
  for pass = 1, passes do
    local plan <close> = plans.new("repair", { record = record, prev = prev, request = env,
      owner = { network = header.network, id = header.id, ifname = header.ifname },
      pod = ns and { ns = ns, sandbox = header.netns } or nil })
    plan.steps = record.steps
    local lacking, left = plan:lacking()
    local dry, better = env.dry, false
    if not dry then plan:redo(lacking) end
    for _, entry in ipairs(lacking) do
      better = better or not dry and not entry.problem
      if not entry.problem and not done[entry.differs] then
        done[entry.differs] = true
        told.step(header, plans.say(entry.step), entry.differs)
      end
    end
    if not better or pass == passes then
      for _, entry in ipairs(lacking) do
        local again = not dry and not entry.problem
        if entry.problem then left[#left + 1] = entry.problem end
        if again then left[#left + 1] = fail.new { msg = entry.differs .. ", although it was done anew" } end
      end
      for _, err in ipairs(left) do told.left(header, err) end
      return
    end
  end
end

--- Do anew what is missing of an attachment.
-- @tparam {Record,...} records its records, as `of` of cni.record.journal gives them
-- @tparam table env `prev`, the result that its runtime has stored: then it is attached, although nothing of
-- it may be there any more; `log`, `time_left` of the program; `dry`: only look
-- @tparam table told functions that are told of what is found:
--   step(header, words, differs)  a step is done anew, and why
--   left(header, err)             what stays as it is, or failed
function M.attachment(records, env, told)
  local types = in_order(records) -- none: it has no record
  local prev = env.prev or outlined(records, types)
  for _, type_name in ipairs(types) do
    local book <close> = journal.open(records[1].header, type_name)
    local living = book:living()
    for i = #living, 1, -1 do
      local record = living[i]
      local ok, live, ns = pcall(verbs.is_live, record)
      if not ok then
        told.left(record.header, fail.wrap(live))
      elseif book.damaged then
        told.left(record.header, fail.new { hint = "DEL and ADD make it anew",
          msg = "its record was damaged, and does not tell all that was done" })
      elseif not live and not (env.prev and ns and record:is_whole()) then
        told.left(record.header, fail.new { msg = "nothing of it is there any more",
          hint = "luacni gc takes its record away" })
      else
        mend(record, ns, env, prev, told)
      end
    end
  end
end

return M
