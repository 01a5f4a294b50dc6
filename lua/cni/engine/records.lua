-- SPDX-License-Identifier: MIT
--- What is to be made of a record: whether its attachment is live (see cni.engine.verbs), how it is taken
-- back, and what becomes of an update that was killed.
--
-- @module cni.engine.records

local fail = require "cni.fail"
local journal = require "cni.record.journal"
local plans = require "cni.engine.plan"
local sandbox = require "cni.record.sandbox"

local M = {}

--- Whose a record is.
-- @tparam table header of the record
-- @treturn table {network, id, ifname}
function M.owner(header)
  return { network = header.network, id = header.id, ifname = header.ifname }
end

--- What a plan has of a sandbox.
-- @tparam ?ns ns
-- @tparam ?string path
-- @treturn table|nil nil: there is none
function M.place(ns, path)
  return ns and { ns = ns, sandbox = path } or nil
end

-- A plan that takes a record back. What an update has left in it (`replaced`) is on links that stay, and so
-- is what an update that was killed has added.
local function undoing(record, caller, req, more)
  local header, successor = record.header, record:successor()
  local plan = plans.new("undo", {
    owner = M.owner(header), record = record, time_left = req.time_left, watch = req.watch,
    seek = function() return M.place(sandbox.find(header, caller), header.netns) end,
    request = more and more.request, batch = more and more.batch,
    bare = successor ~= nil, rest = successor and successor.steps,
  })
  plan.steps = record.steps
  return plan
end

--- Take a record back and forget it. On failure it stays, for a later try.
-- @tparam Record record
-- @tparam ?table caller see cni.record.sandbox
-- @tparam table req `log`, `time_left`, `watch`
-- @tparam[opt] boolean asked the request is for this very attachment
-- @tparam[opt] table batch with others, in an action of cni.links.batch
-- @treturn {fail,...} what failed
-- @treturn ?boolean whether something that should have been there was not
function M.undo(record, caller, req, asked, batch)
  local header = record.header
  record:note_leaving()
  local plan = undoing(record, caller, req, { request = asked and req or nil, batch = batch })
  local errors, strange = plan:undo()
  plan:close()
  if #errors > 0 then return errors end
  for _, step in ipairs(strange) do
    req.log(("luacni: %s of container %s, network %s: what a newer version has done by %q is not known "
      .. "here and stays: %s"):format(header.ifname, header.id, header.network, step.kind,
      require("cni.json").compact(step.want)))
  end
  record:remove()
  return errors, plan.missed
end

--- Whether anything that a record made for its attachment alone is still there.
-- @tparam Record record
-- @tparam ?ns ns its sandbox
-- @treturn boolean true also when it has steps, but none that can tell
function M.stands(record, ns)
  local header = record.header
  local plan <const> = plans.new("undo", { owner = M.owner(header), record = record,
    pod = M.place(ns, header.netns) })
  local found = plan:stands(record.steps)
  plan:close()
  return found
end

--- Whether a record is live: see the head of cni.engine.verbs.
-- @tparam Record record
-- @tparam[opt] table caller see cni.record.sandbox
-- @return a boolean, and its namespace where that was to be found
function M.is_live(record, caller)
  local ns = record:is_whole() and sandbox.find(record.header, caller) or nil
  return record:is_whole() and (ns ~= nil or record.header.cookie == "") and M.stands(record, ns), ns
end

--- Whether the attachment of a record is certainly no more: its ADD or DEL died, its sandbox is gone, or all
-- that it made is gone (the reference's DEL knows nothing of records). A record without steps tells nothing.
-- @tparam Record record
-- @treturn boolean
function M.is_stale(record)
  if not (record:is_whole() or record.book.damaged) or sandbox.is_gone(record.header) then return true end
  if #record.steps == 0 then return false end
  local ns = sandbox.find(record.header)
  return (ns ~= nil or record.header.cookie == "") and not M.stands(record, ns)
end

--- Take back what an update has done, and has not ended.
-- @tparam Record record of the update
-- @tparam table plan in the mode undo, with the record's steps
-- @raise what failed, joined; the record stays
function M.revert(record, plan)
  local old = record.book.records[record.header.update.of]
  local errors = plan:revert(old and old.steps or {})
  if errors[1] then error(fail.join(errors), 0) end
  record:remove()
end

--- Bring updates that were killed to an end, in a book that is locked: one of which the first record counts
-- is finished, any other is taken back, and the attachment is as it was. What an update no longer wants is
-- debris of the record before, see cni.record.journal.
-- @tparam Book book
-- @tparam table req `log`, `time_left`, `watch`
-- @tparam[opt] table caller see cni.record.sandbox. With it the attachment itself is to go: then what such an
-- update has done is taken away, and nothing brought back
-- @raise when it cannot be taken back
function M.settle(book, req, caller)
  for _, record in ipairs(book:living()) do
    local update = record:is_update() and record.header.update
    if update and record.ready and journal.is_updated(M.owner(record.header), update.id) then
      record:finish(record.ready)
    elseif update and caller then
      local errors = M.undo(record, caller, req, true)
      if errors[1] then error(fail.join(errors), 0) end
    elseif update then
      local plan <close> = undoing(record, nil, req)
      M.revert(record, plan)
    end
  end
end

--- As @{settle}; and take back what updates want no more.
-- @tparam Book book
-- @tparam table req
-- @raise when something cannot be taken back
function M.finish(book, req)
  M.settle(book, req)
  for _, record in ipairs(book:living()) do
    local errors = record.replaced and M.undo(record, nil, req) or {}
    if errors[1] then error(fail.join(errors), 0) end
  end
end

--- Take back the stale records of a network, of all types: debris, records of sandboxes that are gone, and
-- outlived ones.
-- @tparam table req `network`; `log`, `time_left`, `watch` of the program
-- @tparam[opt] boolean dry only look
-- @tparam[opt] function before told the header of each record that is looked at
-- @treturn {table,...} for each such record its `header` (nil: it cannot be read), and `problem`, the error
-- for which it stays
function M.tidy(req, dry, before)
  local list = {}
  local function note(header, err) list[#list + 1] = { header = header, problem = err } end
  for found, unreadable in journal.each(req.network) do
    local book <close> = found
    if not found then note(nil, unreadable) end
    if found and not dry then pcall(M.settle, book, req) end
    for _, record in ipairs(found and book:living() or {}) do
      if before then before(record.header) end
      local ok, stale = pcall(M.is_stale, record)
      if not ok then
        note(record.header, fail.wrap(stale))
      elseif stale then
        local undone, errors = pcall(function() return dry and {} or M.undo(record, nil, req) end)
        if not undone then errors = { fail.wrap(errors) } end
        note(record.header, errors[1] and fail.join(errors))
      end
    end
  end
  return list
end

return M
