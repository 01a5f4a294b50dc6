-- SPDX-License-Identifier: MIT
--- Step `lease`: addresses from a lease directory. Given back last, and by owner: no number is
-- needed, so it can be written down before an address is chosen.
-- @module cni.step.lease

local fail = require "cni.fail"
local leases = require "cni.leases"

local M = { last = true }

function M.run(step, plan)
  return leases.allocate(step.want, plan.owner)
end

function M.verify(step, plan)
  if #leases.held(step.want, plan.owner) == 0 then
    return ("no address of network %s is leased to this attachment"):format(step.want.network)
  end
end

function M.undo(step, plan)
  leases.release(step.want, plan.owner)
end

function M.say(step)
  return ("lease an address of network %s in %s"):format(step.want.network, step.want.dir)
end

--- What the lease gives, by the plan's mode; called for a plugin's `req:lease(spec)`.
-- @tparam table plan
-- @tparam table spec see cni.leases
-- @treturn table list of { address =, gateway = }
function M.obtain(plan, spec)
  local step = { kind = "lease", ns = "host", want = spec }
  if plan.mode == "apply" then return plan:now(step) end
  plan:push(step)
  if plan.mode == "dry" then return leases.peek(spec, plan.owner) end
  local held = leases.held(spec, plan.owner)
  if plan.mode == "verify" and #held == 0 then
    fail.throw { code = fail.codes.internal, msg = M.verify(step, plan) }
  end
  return held
end

return M
