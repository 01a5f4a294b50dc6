-- SPDX-License-Identifier: MIT
--- A plan: the steps a plugin's `add` asks for, in order, and the ways to use them.
--
-- Plugins call verbs on handles; every change becomes a *step* here. What happens with the
-- steps is the plan's mode. A plugin asks for the same in each; a few look at it where only an ADD can decide
-- something, or where less is there to be seen than in an ADD (cni.common.expects_all):
--
--     apply    write the steps to the record, then do them        (ADD)
--     verify   compare what they want with the kernel             (CHECK)
--     dry      do nothing, keep them to be printed                (--dry-run)
--     erase    do nothing, then take back what they would have done (DEL without a record)
--     undo     steps come from a record and are taken back        (DEL, GC, debris)
--     repair   steps come from a record; those whose things are gone are done anew (repair)
--     update   what is there is found as in verify; then what is to be another is changed (update)
--
-- A step is plain data, `{ kind=, ns="host"|"pod", want={...}, had={...}, covered=true, by= }`, and
-- its kind is a module `cni.step.<kind>` with some of these functions:
--
--     requests(step, handle)  netlink requests that do it; neighbours travel in one send
--     made(step, handle, echo)  is given the kernel's echo of a request that asked for one
--     refused(step, handle, errno)  raises a better error than the kernel's, or does it in another
--                             way and gives true
--     kept(step, plan)        raises when the kernel has done something else than a site's script has asked
--                             for: CHECK would always fail
--     cause(step, handle, errno)    a hint: why it was refused, if that can be seen
--     links(step)             names of the links whose index `requests` needs
--     run(step, plan)         does it, for what is not a netlink request
--     verify(step, plan)      nil, or a sentence: what differs
--     mend(step, plan)        what is there differs: it is changed to what is wanted. False: it is not there,
--                             and the step is to be done anew
--     undo(step, plan)        take it back; absent is fine, and so is a second time
--     ahead(step, plan)       older steps that are to be undone before it
--     stands(step, plan)      whether what it made is still there; only kinds that make something for one
--                             attachment alone have it
--     knows(step)             false: the step of a record is of a newer version, although the kind is known
--     say(step)               the step in words
--     at_add(step, plan)      true: a repair does not do it anew, nor anything that comes after it
--     key(step)               of a kind whose things can be changed: a text that names the thing. A step of
--                             an update with the key of one of the record is about the same thing
--     change(from, to, plan)  make what the step `to` wants of what `from` has done, wholly or in part; also
--                             where `to` is done already. A kind without it has the one taken back, the other
--                             done
--     before(to, plan, from)  the `had` of a step of an update that is not in the record as it is
--     adopt(to, from)         what the step `to` of an update takes over of `from`; raises where the kernel
--                             cannot make the one of the other
--     drop(step, plan, rest)  take back what is wanted no more, beside the steps `rest` that stay; a kind
--                             without it has it undone, unless one of those has its key
--     without(step, later)    of a kind that sets values: the step without the values whose names are keys of
--                             `later`, to which it adds its names. CHECK goes through the steps backwards:
--                             so it does not miss a value that a later step has set anew
--
-- `had` is what was there before, for undo. `by` is the hook of the site that has asked for it. `covered`
-- marks a step whose thing goes with a link that the same plan makes: it is not taken back by itself. A kind
-- has these fields for what is true of all its steps:
--
--     last          its undo gives back something that others may then be given, such as an address: it is
--                   done only when all newer steps are undone; and a repair does it anew by `mend` alone
--     along         it makes a link that may be deleted together with an older one (cni.links.along): the
--                   undo of a kind without this begins when no such deletion is put off any more
--     of_interface  it is about the sandbox's interface: where there is no record, and another network
--                   has that interface too, it is not taken back
--     chosen        a set: keys of `want` that an ADD chooses by itself, which do not tell steps apart
--     new_only      only an ADD does it, and no update: why
--     telling       what it made is there from the ADD until it is taken back: a DEL that finds it, but no
--                   record, knows that a record was lost
--
-- @module cni.engine.plan

local args = require "cni.engine.args"
local fail = require "cni.fail"
local files = require "cni.record.files"
local handle = require "cni.engine.handle"
local netlink = require "netlink"

local M = {}
M.__index = M

--- Start a plan.
-- @tparam string mode apply, verify, dry, erase, undo, repair; or look, which takes no steps
-- @tparam table env what the steps act upon
--   owner      { network, id, ifname }
--   pod        { ns = object, sandbox = path }; nil when the namespace is gone
--   seek       in place of pod: a function that finds it, called when the undo of a step needs it
--   record     in the modes apply, undo and repair
--   prev       the result so far
--   request    of the call, when it is about this attachment
--   time_left  of the call, when there is no request
--   batch      of cni.links.batch, when many attachments are taken back together
--   watch      of cni.watch.call, in a call that is watched
--   again      in the mode repair: what need not succeed has been tried
--   bare       the links of the steps stay when these are taken back: nothing is `covered`
--   rest       the steps of the record that an update has put in place of this one
-- @treturn table the plan, with handles `host` and `pod`
function M.new(mode, env)
  local plan = setmetatable({
    mode = mode, steps = {}, next = 1, locks = {}, last = {},
    owner = env.owner, record = env.record, prev = env.prev, request = env.request,
    doing = nil, -- the step that is being done, for an error to name
    seek = env.seek, time_left = env.time_left, batch = env.batch, again = env.again,
    bare = env.bare, rest = env.rest,
    -- Whether what the plugin asks for is there already.
    attached = mode == "verify" or mode == "update",
    watch = env.watch or env.request and env.request.watch,
  }, M)
  plan.host = handle.new(plan, "host", env.host)
  plan.pod = handle.new(plan, "pod", env.pod or { absent = true })
  return plan
end

-- A kind of step that a newer version has written down: this one can neither do it nor undo it.
local function unknown(name)
  return { unknown = true,
    say = function() return ("do %q, which this version does not know"):format(name) end }
end

local function kind_of(step)
  local ok, kind = pcall(require, "cni.step." .. step.kind)
  if ok then return kind end
  if not tostring(kind):find("there is no module", 1, true) then error(kind, 0) end
  return unknown(step.kind)
end
M.kind_of = kind_of

--- The handle of a namespace, for a step's undo.
-- @tparam string ns "host" or "pod"
-- @treturn handle|nil nil when the namespace is gone
function M:at(ns)
  local h = self[ns]
  return not h.absent and h or nil
end

--- Add a step.
-- @tparam table step see above
-- @treturn table the same step
function M:push(step)
  args.may_change(self)
  if self.mode == "apply" or self.mode == "dry" then args.note_place(step) end
  step.by = self.by
  self.steps[#self.steps + 1] = step
  return step
end

--- Add a step ahead of the pending ones. Undo goes backwards: so an address is given back after all that uses
-- it is undone.
-- @tparam table step
function M:push_ahead(step)
  args.may_change(self)
  step.by = self.by
  table.insert(self.steps, self.next, step)
end

--- Lock a group of shared objects until the steps that were pushed so far are done.
-- Going from shared to exclusive lets go in between: look again at what there is.
-- @tparam string group see cni.record.shared
-- @tparam string how "shared" or "exclusive"
function M:lock(group, how)
  local held = self.locks[group]
  if held and (held.how == how or held.how == "exclusive") then return end
  if held then held.lock:close() end
  self.locks[group] = { how = how, lock = require("cni.record.shared").lock(group, how) }
end

--- Lock a namespace against those who choose a number in it that only the kernel knows of (a routing table),
-- the reference's sbr included, until the steps that were pushed so far are done.
-- @tparam handle h of the namespace
function M:lock_namespace(h)
  local name = "namespace " .. h.name
  if self.mode ~= "apply" or self.locks[name] then return end
  local sys, ns = netlink.sys, h:namespace() or files.must(netlink.ns.self())
  local ok, msg, errno = sys.lock_netns(ns, 30000)
  if not ok then
    fail.throw { code = fail.codes.again, errno = errno, msg = ("%s of the %s"):format(msg, h.name) }
  end
  self.locks[name] = { how = "exclusive", lock = { close = function() sys.unlock_netns(ns) end } }
end

--- Let go of all locks, before a step takes back what may be another's from now on.
function M:unlock()
  for group, held in pairs(self.locks) do
    held.lock:close()
    self.locks[group] = nil
  end
end

--- Call a function once, when the pending steps are done.
-- @tparam function action
function M:finally(action)
  self.last[#self.last + 1] = action
end

-- Send the requests that have gathered for one handle. The first refusal is the error; unless the kind of
-- that step does it in another way (`refused`): then the others that were refused are sent once more.
local function send(batch)
  local owners = batch.owners
  if #batch.requests == 0 then return end
  local ok, msg, errno, index, statuses = batch.handle:socket():send(batch.requests)
  if ok then
    for _, step in ipairs(owners) do step.did = true end
    for i, echo in pairs(msg or {}) do
      local step = owners[i]
      kind_of(step).made(step, batch.handle, echo)
    end
    for _, step in ipairs(owners) do
      local kept = step.by_site and kind_of(step).kept
      if kept then
        batch.handle.plan.doing = step
        kept(step, batch.handle.plan)
      end
    end
    return
  end
  local rest = { handle = batch.handle, requests = {}, owners = {} }
  for i, step in ipairs(owners) do
    -- A step of several requests is undone even when only one of them was done. A step whose answer did not
    -- come may be done or not (`unsure`): its undo is careful, see cni.step.link.
    local status = statuses and statuses[i]
    if status and status <= 0 then
      step.did, step.unsure = true, step.unsure or status < 0 or nil
    elseif i ~= index then
      rest.requests[#rest.requests + 1] = batch.requests[i]
      rest.owners[#rest.owners + 1] = step
    end
  end
  local step = owners[index or 1]
  local kind = kind_of(step)
  batch.handle.plan.doing = step
  if kind.refused and kind.refused(step, batch.handle, errno) then return send(rest) end
  fail.kernel(kind.say(step), msg, errno, step.want.kind,
    kind.cause and kind.cause(step, batch.handle, errno))
end

--- Call a function that does something about a step, or about steps that are sent together. In a watched call
-- it is noted how long that takes.
-- @tparam string what see cni.watch.call
-- @tparam table steps a step, or a list
-- @tparam function action
-- @param ... its arguments
-- @return what it returns
function M:about(what, steps, action, ...)
  local watch = self.watch
  if watch then return watch:about(self.owner, what, steps, action, ...) end
  return action(...)
end

local function ready(h, kind, step)
  for _, name in ipairs(kind.links and kind.links(step) or {}) do
    if not h:knows(name) then return false end
  end
  return true
end

local function execute(plan, first, last)
  local batch
  local function flush()
    if batch then
      local full = batch
      batch = nil
      if full.owners[1] then plan:about("do", full.owners, send, full) end
    end
  end
  for i = first, last do
    local step = plan.steps[i]
    local kind, h = kind_of(step), plan[step.ns]
    if kind.requests then
      if batch and (batch.handle ~= h or not ready(h, kind, step)) then flush() end
      plan.doing = step
      for _, name in ipairs(kind.links and kind.links(step) or {}) do h:index(name) end
      batch = batch or { handle = h, requests = {}, owners = {} }
      for _, request in ipairs(kind.requests(step, h)) do
        batch.requests[#batch.requests + 1] = request
        batch.owners[#batch.owners + 1] = step
      end
    elseif kind.run then
      flush()
      plan.doing = step
      step.did = true -- from here on it may be half done, and undo takes back a half too
      plan:about("do", step, kind.run, step, plan)
    end
  end
  flush()
end

--- Do what is pending (apply mode), after writing it down. In other modes: nothing.
function M:flush()
  local first, last = self.next, #self.steps
  if self.mode ~= "apply" or first > last then return end
  self.next = last + 1
  self.record:append(self.steps, first, last)
  local ok, err = pcall(execute, self, first, last)
  if not ok then error(args.placed(err, self.doing), 0) end
  for i, action in ipairs(self.last) do
    self.last[i] = nil
    action()
  end
  self:unlock()
end

--- Write a step down and do it at once, ahead of what is pending: for the few steps whose
-- outcome the plugin needs before it can go on (an address).
-- @tparam table step a step whose kind has `run`
-- @return what `run` returns
function M:now(step)
  self:push_ahead(step)
  self.next = self.next + 1
  self.record:append(self.steps, self.next - 1, self.next - 1)
  step.did = true
  return self:about("do", step, kind_of(step).run, step, self)
end

--- Note that a step which was done at once, and written down last, has changed nothing.
-- @tparam table step
function M:annul(step)
  step.did = nil
  self.record:note_undone(self.next - 2)
end

-- Kinds of step that are about a link which must be in their namespace already.
local on_link = { set = true, addr = true, route = true, vlan = true, await = true,
  shared_addr = true, enslave = true, shared_set = true, neigh = true, fdb = true, tc = true }

-- Kinds of step that make a link, which others are about.
local makes_link = { link = true, tap = true, shared_link = true }

-- When the link of a step is missing, CHECK says that, in place of what should be on it.
local function link_missing(plan, step)
  local name, h = step.want.link, plan[step.ns]
  if not on_link[step.kind] or h:link(name) then return nil end
  return ("link %s is not in the %s"):format(name, step.ns == "pod" and "sandbox" or "host")
end

-- The steps without what later ones have set anew.
local function latest(plan)
  local steps, later = {}, {}
  for i = #plan.steps, 1, -1 do
    local step = plan.steps[i]
    local kind = kind_of(step)
    steps[i] = kind.without and kind.without(step, later) or step
  end
  return steps
end

-- How a step differs from what is there, in words; nil: it does not, or cannot.
local function difference(plan, step)
  local kind = kind_of(step)
  local text = kind.verify and plan:about("compare", step, kind.verify, step, plan)
  return text and (link_missing(plan, step) or text) or nil
end

--- Compare every step with the kernel.
-- @treturn table sentences, each once; empty when all is as wanted
function M:differences()
  local found, said = {}, {}
  for _, step in ipairs(latest(self)) do
    local text = difference(self, step)
    -- A pair's own step says that its end in the host is gone.
    if on_link[step.kind] and step.want.link == handle.gone then text = nil end
    if text and not said[text] then
      said[text], found[#found + 1] = true, text
    end
  end
  return found
end

--- Look which steps of a record are not as they were done.
-- @treturn {table,...} those that can be done anew: `step`, `differs` in words
-- @treturn {fail,...} what an ADD alone could do, or could not be looked at
-- @treturn boolean whether it ends with one that only an ADD does: what comes after it is not looked at
function M:lacking()
  local list, left = {}, {}
  for _, step in ipairs(latest(self)) do
    local kind = kind_of(step)
    local ok, text = true, nil
    if step.did then ok, text = pcall(difference, self, step) end
    local ends = ok and text and kind.at_add and kind.at_add(step, self)
    if not ok or ends or text and kind.last and not kind.mend then
      left[#left + 1] = ok and fail.new { msg = text } or fail.wrap(text)
      if ends then return list, left, true end
    elseif text then
      list[#list + 1] = { step = step, differs = text }
    end
  end
  return list, left, false
end

--- Do steps of a record anew. Nothing is written down: the record has them already, with what was there
-- before the first time. So what a killed call has done is taken back by a DEL, and finished by a repair. One
-- that fails does not stop the others; but nothing is put on a link that is not the attachment's.
-- @tparam {table,...} lacking as of @{lacking}; each that fails gets `problem`, the error, and of those that
-- were not tried the list has none in the end
-- @treturn boolean whether a link was not to be had
function M:redo(lacking)
  for i, entry in ipairs(lacking) do
    local step = setmetatable({ did = false }, { __index = entry.step })
    local kind = kind_of(step)
    self.steps = { step }
    local ok, err = pcall(function()
      if not (kind.mend and self:about("do", step, kind.mend, step, self)) then execute(self, 1, 1) end
    end)
    self:unlock()
    entry.problem = not ok and fail.wrap(err) or nil
    if entry.problem and makes_link[step.kind] then
      for n = #lacking, i + 1, -1 do lacking[n] = nil end
      return true
    end
  end
  return false
end

--- Say what the caller should know, and is no error, in the log of the call.
-- @string text
function M:tell(text)
  local log = self.request and self.request.log
  if log then log("luacni: " .. text) end
end

--- A step in words, and the hook that has asked for it.
-- @tparam table step
-- @treturn string
function M.say(step)
  local words = kind_of(step).say(step)
  return step.by and ("%s (hook %s)"):format(words, step.by) or words
end

--- The steps in words.
-- @treturn table of strings
function M:words()
  local words = {}
  for i, step in ipairs(self.steps) do words[i] = M.say(step) end
  return words
end

--- Whether anything that steps of a record made for their attachment alone is there.
-- @tparam table steps
-- @treturn boolean true also when there are steps, but none that can tell
function M:stands(steps)
  local told = #steps == 0
  for _, step in ipairs(steps) do
    local kind = kind_of(step)
    if step.did and kind.stands then
      if kind.stands(step, self) then return true end
      told = true
    end
  end
  return not told
end

-- Whether one of the steps that stay is about the same thing.
local function is_shared(plan, step, kind)
  local key = kind.key and kind.key(step)
  for _, other in ipairs(key and plan.rest or {}) do
    if other.kind == step.kind and other.ns == step.ns and kind.key(other) == key then return true end
  end
  return false
end

-- Take a step back beside those that stay.
local function drop(plan, step)
  local kind = kind_of(step)
  if kind.drop then return plan:about("undo", step, kind.drop, step, plan, plan.rest) end
  if kind.undo and not is_shared(plan, step, kind) then plan:about("undo", step, kind.undo, step, plan) end
end

-- The sandbox is looked for when the first step needs it: to take back a veth pair its end in the host
-- is enough.
local function find_pod(plan, step)
  local want = step.want
  local there = step.ns == "pod" or want.into == "pod" or want.undo and want.undo.ns == "pod"
  if not plan.seek or not there then return end
  local found = plan.seek()
  plan.seek = nil
  if found then plan.pod = handle.new(plan, "pod", found) end
end

--- Take back what was done, newest first. A failure does not stop it before the first step that gives
-- something back for reuse (`last`): what is newer has to be undone before. Steps of unknown kinds stay.
-- @treturn table fail values, empty when all is taken back that is known here
-- @treturn table steps of kinds that are not known
function M:undo()
  local errors, strange = {}, {}
  local function try(action)
    local ok, err = pcall(action)
    if not ok then errors[#errors + 1] = fail.wrap(err) end
    return ok
  end
  local function let_go() if self.along then require("cni.links.along").let_go(self) end end
  self:unlock()
  -- Pending steps are not wanted any more. A look at a link, which flushes, must not do them.
  self.next = #self.steps + 1
  local undo_one
  function undo_one(step, kind)
    if self.along and not kind.along then try(let_go) end
    local ok = try(function()
      find_pod(self, step)
      local ahead = kind.ahead and kind.ahead(step, self) or {}
      for _, older in ipairs(ahead) do undo_one(older, kind_of(older)) end
      if self.rest then return drop(self, step) end
      self:about("undo", step, kind.undo, step, self)
    end)
    if ok then step.did = nil end
  end
  for i = #self.steps, 1, -1 do
    local step = self.steps[i]
    local kind = kind_of(step)
    try(function()
      if step.did and kind.knows and not kind.knows(step) then kind = unknown(step.kind) end
    end)
    if step.did and kind.unknown then strange[#strange + 1] = step end
    if step.did and (self.bare or not step.covered) and kind.undo then
      if kind.last and #errors > 0 then break end
      if kind.last and self.record then self.record:note_undone(i) end
      undo_one(step, kind)
    end
  end
  try(let_go)
  return errors, strange
end

-- Make what a step wants of what another one has done.
local function change(plan, from, to)
  local kind = kind_of(to)
  plan.doing = to
  if kind.change then return plan:about("do", to, kind.change, from, to, plan) end
  plan:about("undo", from, kind.undo, from, plan)
  local steps = plan.steps
  plan.steps = { to }
  local ok, err = pcall(execute, plan, 1, 1)
  plan.steps = steps
  if not ok then error(err, 0) end
end

--- Do the steps of an update, in order, all of which are written down: what is new is done as in an ADD, what
-- was another (`was`) is changed, what is `kept` is not touched.
-- @tparam table old the steps of the record before
function M:renew(old)
  local first
  self.rest = self.steps
  local function new_ones(last)
    if first then execute(self, first, last) end
    first = nil
  end
  for i, step in ipairs(self.steps) do
    if step.kept or step.was then new_ones(i - 1) else first = first or i end
    if step.was and not step.kept then
      step.did = true
      change(self, old[step.was], step)
    end
  end
  new_ones(#self.steps)
  self:unlock()
end

--- Take back what an update has done so far, newest first; what was changed becomes what it was.
-- @tparam table old as for @{renew}
-- @treturn {fail,...} what failed: the others are taken back all the same
function M:revert(old)
  local errors = {}
  self:unlock()
  self.rest = old
  for i = #self.steps, 1, -1 do
    local step = self.steps[i]
    if step.did and not step.kept then
      local ok, err = pcall(function()
        find_pod(self, step)
        if step.was then return change(self, step, old[step.was]) end
        drop(self, step)
      end)
      if ok then step.did = nil else errors[#errors + 1] = fail.wrap(err) end
    end
  end
  self:unlock()
  return errors
end

--- Whether what is taken back was a whole attachment, and not what a failed ADD has left.
-- @treturn boolean
function M:was_whole()
  return self.mode == "erase" or self.mode == "undo" and self.record.done ~= nil
end

--- Close the sockets.
function M:close()
  self:unlock()
  self.host:close()
  self.pod:close()
end

function M:__close() self:close() end

return M
