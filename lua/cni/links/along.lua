-- SPDX-License-Identifier: MIT
--- What goes together with its bridge. The kernel waits for RCU, some 15 ms, whenever it deletes a link; but
-- only once for all links of a group. So when a shared bridge may go with this attachment, the undo of its
-- port puts the deletion off to the undo of the bridge, which comes later. If the bridge stays, the port is
-- deleted there alone. The undo of an address on the bridge does the same: no request is needed for an
-- address whose link goes.
--
-- @module cni.links.along

local fail = require "cni.fail"

local M = {}
M.__index = M

--- Whether a shared link may be deleted by the undo of this plan.
-- @tparam table plan being taken back
-- @tparam string name
-- @tparam handle h of its namespace
-- @tparam[opt] string kind only a link of this kind
-- @treturn boolean
function M.may_go(plan, name, h, kind)
  if plan.batch then return false end
  for _, step in ipairs(plan.steps) do
    if step.kind == "shared_link" and step.did and step.want.name == name and step.ns == h.name
        and (not kind or step.want.kind == kind) then
      return not (step.want.keep and plan:was_whole())
    end
  end
  return false
end

--- Put a deletion off to the undo of the link that it may go with.
-- @tparam table plan
-- @tparam function action called then, with a function `gone(what)`. The action calls that with what is to
-- go: a table of `link`, the index of a link to be deleted, with `port`, that of its end in the bridge if
-- it is not the same; or `address`, one on the bridge. `gone` returns true when that has been deleted.
-- Otherwise the action deletes it itself; a second value is the group whose lock is held meanwhile, if any
function M.later(plan, action)
  plan.along = plan.along or {}
  table.insert(plan.along, action)
end

local function go_on(self, job, ...)
  local ok, what = coroutine.resume(job, ...)
  if not ok then
    self.errors[#self.errors + 1] = fail.wrap(what)
  elseif coroutine.status(job) == "suspended" then
    self.jobs[#self.jobs + 1] = job
    if what.address then
      self.addresses[what.address] = true
    else
      self.links[#self.links + 1] = what.link
      self.ports[what.port or what.link] = true
    end
  end
end

--- Begin with all deletions that were put off: each goes as far as its call of `gone`.
-- @tparam table plan
-- @tparam[opt] string held the group (cni.record.shared) whose lock the caller holds
-- @treturn table `links`: list of the indices to be deleted; `ports`: set of indices; `addresses`: set of
-- those that go. Finish it
function M.begin(plan, held)
  local self = setmetatable({ held = held, jobs = {}, links = {}, ports = {}, addresses = {},
    errors = {} }, M)
  local actions = plan.along or {}
  plan.along = nil
  for _, action in ipairs(actions) do go_on(self, coroutine.create(action), coroutine.yield) end
  return self
end

--- Let the actions go on, which wait in `gone`; twice is fine.
-- @tparam boolean gone whether the links were deleted
function M:finish(gone)
  local jobs = self.jobs
  self.jobs = {}
  for _, job in ipairs(jobs) do go_on(self, job, gone, self.held) end
  if #self.errors > 0 then error(fail.join(self.errors), 0) end
end

function M:__close()
  self:finish(false)
end

--- Do all deletions that were put off, each by itself.
-- @tparam table plan
-- @tparam[opt] string held as for @{begin}
function M.let_go(plan, held)
  if plan.along then M.begin(plan, held):finish(false) end
end

return M
