-- SPDX-License-Identifier: MIT
--- Ports that are deleted together with their bridge. The kernel waits for RCU, some 15 ms, whenever it
-- deletes a link; but only once for all links of a group. So when a shared bridge may go with this
-- attachment, the undo of its port puts the deletion off to the undo of the bridge, which comes later. If the
-- bridge stays, the port is deleted there alone.
--
-- @module cni.links.along

local fail = require "cni.fail"

local M = {}
M.__index = M

--- Whether a shared link may be deleted by the undo of this plan.
-- @tparam table plan being taken back
-- @tparam string name
-- @tparam handle h of its namespace
-- @treturn boolean
function M.may_go(plan, name, h)
  if plan.batch then return false end
  for _, step in ipairs(plan.steps) do
    if step.kind == "shared_link" and step.did and step.want.name == name and step.ns == h.name then
      return not (step.want.keep and plan:was_whole())
    end
  end
  return false
end

--- Put a deletion off to the undo of the link that it may go with.
-- @tparam table plan
-- @tparam function action called then, with a function `gone(link, port)`. The action calls that with the
-- index of the link to be deleted, and that of the port if it is not the same. `gone` returns true when the
-- link has been deleted; otherwise the action deletes it itself
function M.later(plan, action)
  plan.along = plan.along or {}
  table.insert(plan.along, action)
end

local function go_on(self, job, ...)
  local ok, link, port = coroutine.resume(job, ...)
  if not ok then
    self.errors[#self.errors + 1] = fail.wrap(link)
  elseif coroutine.status(job) == "suspended" then
    self.jobs[#self.jobs + 1] = job
    self.links[#self.links + 1] = link
    self.ports[port or link] = true
  end
end

--- Begin with all deletions that were put off: each goes as far as its call of `gone`.
-- @tparam table plan
-- @treturn table `links`: list of the indices to be deleted; `ports`: set of indices. Finish it
function M.begin(plan)
  local self = setmetatable({ jobs = {}, links = {}, ports = {}, errors = {} }, M)
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
  for _, job in ipairs(jobs) do go_on(self, job, gone) end
  if #self.errors > 0 then error(fail.join(self.errors), 0) end
end

function M:__close()
  self:finish(false)
end

--- Do all deletions that were put off, each link by itself.
-- @tparam table plan
function M.let_go(plan)
  if plan.along then M.begin(plan):finish(false) end
end

return M
