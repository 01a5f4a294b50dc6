-- SPDX-License-Identifier: MIT
--- Links that are deleted along with the one that they are plugged into. The kernel waits for RCU whenever
-- it deletes a link, some 15 ms, and once for all links of a group. So when a shared bridge may go, a port
-- of it is not deleted in its own step, but in the bridge's, which is older; or by itself there, if the
-- bridge stays.
--
-- @module cni.links.along

local fail = require "cni.fail"

local M = {}
M.__index = M

--- Whether a shared link may go with this attachment.
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

--- Take a link away when that one's turn has come.
-- @tparam table plan
-- @tparam function action is given a function, which it calls with the index of the link to be deleted, and
-- that of the port if that is another one; which returns whether the link is gone: else the action deletes it
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

--- Begin with all that was put off.
-- @tparam table plan
-- @treturn table `links` that are to be deleted (a list of indices), `ports`, a set; finish it
function M.begin(plan)
  local self = setmetatable({ jobs = {}, links = {}, ports = {}, errors = {} }, M)
  local actions = plan.along or {}
  plan.along = nil
  for _, action in ipairs(actions) do go_on(self, coroutine.create(action), coroutine.yield) end
  return self
end

--- End it; twice is fine.
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

--- Delete what was put off, each link by itself.
-- @tparam table plan
function M.let_go(plan)
  if plan.along then M.begin(plan):finish(false) end
end

return M
