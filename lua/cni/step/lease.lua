-- SPDX-License-Identifier: MIT
--- Step `lease`: addresses from a lease directory. They are given back last. The undo goes by the owner, and
-- names no address: so the step can be written down before an address is chosen.
-- @module cni.step.lease

local fail = require "cni.fail"
local leases = require "cni.leases"

local M = { last = true, telling = true }

function M.run(_, plan)
  return plan.choice:commit()
end

function M.verify(step, plan)
  return leases.problem(step.want, plan.owner, plan.prev and plan.prev.ips)
end

function M.undo(step, plan)
  leases.release(step.want, plan.owner)
end

function M.stands(step, plan)
  return #leases.held(step.want, plan.owner) > 0
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
  if plan.mode == "apply" then
    -- Refusals come before the step is written down: its undo frees whatever the owner has, and a
    -- refused ADD must not free the address of a live attachment of the same owner.
    local choice <close> = leases.prepare(spec, plan.owner)
    plan.choice, plan.foreign = choice, choice.foreign
    return plan:now(step)
  end
  plan:push_ahead(step)
  if plan.mode == "dry" then return leases.peek(spec, plan.owner) end
  local problem = plan.mode == "verify" and M.verify(step, plan)
  if problem then fail.throw { code = fail.codes.internal, msg = problem } end
  return leases.held(spec, plan.owner)
end

return M
