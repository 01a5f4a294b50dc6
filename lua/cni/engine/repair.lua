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
local records_of = require "cni.engine.records"
local sandbox = require "cni.record.sandbox"

local M = {}

-- What is made anew may be what other things stand on, or need: these are seen when it is looked again.
local passes <const> = 5

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

-- Whether an attachment lives, as far as anything tells: a runtime that has stored it, or one of its records.
local function lives(records, env)
  if env.prev then return true end
  for _, record in ipairs(records) do
    local ok, live = pcall(records_of.is_live, record)
    if ok and live then return true end
  end
  return false
end

-- Why a record is none to go by; nil: it is.
local function unfit(record, ns, alive)
  if record.book.damaged then
    return { msg = "its record was damaged, and does not tell all that was done",
      hint = "DEL and ADD make it anew" }
  elseif not record:is_whole() then
    return { msg = "its ADD or DEL did not come to an end",
      hint = "luacni del takes back what there is of it" }
  elseif not alive or not ns and record.header.cookie ~= "" then
    return { msg = "nothing of it is there any more", hint = "luacni gc takes its record away" }
  end
end

-- Look at a record once, and do anew what is not there. `again`: what may fail has been tried. Returns
-- whether anything got better, and whether the attachment has no link of its own to go on with.
local function mend(record, ns, state, again)
  local header, better, stop = record.header, false, false
  local plan <close> = plans.new("repair", { record = record, prev = state.prev, request = state.env,
    owner = { network = header.network, id = header.id, ifname = header.ifname },
    pod = ns and { ns = ns, sandbox = header.netns } or nil, again = again })
  plan.steps = record.steps
  local lacking, left, lost = plan:lacking()
  if not state.env.dry then stop = plan:redo(lacking) or lost end
  for _, entry in ipairs(lacking) do
    local words = plans.say(entry.step)
    local key = header.type .. " " .. words
    -- What is done later may undo it once.
    local times = state.done[key] or 0
    if entry.problem or times == 2 then
      left[#left + 1] = entry.problem or fail.new { msg = entry.differs .. ", although it was done anew" }
    else
      better = better or not state.env.dry
      state.done[key] = times + 1
      if times == 0 then state.told.step(header, words, entry.differs) end
    end
  end
  for _, err in ipairs(left) do state.left[#state.left + 1] = { header, err } end
  return better, stop
end

-- Look at all records of an attachment, in the order of its chain.
local function round(types, owner, state, again)
  local better = false
  state.left = {}
  for _, type_name in ipairs(types) do
    local book <close> = journal.open(owner, type_name)
    local settled, problem = pcall(state.env.dry and function() end or records_of.finish, book,
      state.env)
    if not settled then state.left[#state.left + 1] = { book:living()[1].header, fail.wrap(problem) } end
    local living = book:living()
    for i = #living, 1, -1 do
      local record = living[i]
      local ok, ns = pcall(sandbox.find, record.header)
      local why = not ok and ns or unfit(record, ns, state.alive)
      if why then
        state.left[#state.left + 1] = { record.header, fail.wrap(why) }
      else
        local gained, stop = mend(record, ns, state, again)
        better = better or gained
        -- What comes behind it is about that link.
        if stop then return better end
      end
    end
  end
  return better
end

--- Do anew what is missing of an attachment.
-- @tparam {Record,...} records its records, as `of` of cni.record.journal gives them
-- @tparam table env `prev`, the result that its runtime has stored: then it is attached, although nothing of
-- it may be there any more; `log`, `time_left` of the program; `dry`: only look
-- @tparam table told functions that are told of what is found:
--   step(header, words, differs)  a step is done anew, and why
--   left(header, err)             what stays as it is, or failed
function M.attachment(records, env, told)
  if not records[1] then return end
  local types = in_order(records)
  local state = { env = env, told = told, done = {}, alive = lives(records, env),
    prev = env.prev or outlined(records, types) }
  for pass = 1, passes do
    -- What stands on a link that was made anew is seen the second time.
    if not round(types, records[1].header, state, pass > 2) then break end
  end
  for _, item in ipairs(state.left) do told.left(item[1], item[2]) end
end

return M
