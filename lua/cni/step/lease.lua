-- SPDX-License-Identifier: MIT
--- Step `lease`: addresses from a lease directory. They are given back last. An owner may have several: by
-- several plugins of a chain, by several steps of one script. So the step names in `taken` those that it
-- takes, one of each range set. It is written down while the directory is locked, and so before anybody else
-- can have them.
--
-- What names none means all that the owner has and that no record names: a DEL without a record, and the
-- record of an older version.
-- @module cni.step.lease

local fail = require "cni.fail"
local journal = require "cni.record.journal"
local leases = require "cni.leases"

local M = { new_only = "addresses are leased by an ADD", last = true, telling = true }

-- What a step of a record has taken from the folder of a spec; nil: nothing, or it does not say.
local function taken_by(step, spec)
  local want = step.want
  local here = step.kind == "lease" and step.did and want.dir == spec.dir and want.network == spec.network
  return here and want.taken or nil
end

-- What the step means, for cni.leases.
local function meant(step, plan)
  local want, others = step.want, {}
  if want.taken then return want end
  for _, record in ipairs(journal.of(plan.owner)) do
    for _, other in ipairs(record.steps) do
      local taken = taken_by(other, want)
      if taken then table.move(taken, 1, #taken, #others + 1, others) end
    end
  end
  return { dir = want.dir, network = want.network, sets = want.sets, others = others }
end

-- Addresses that were claimed alone, and that nobody has: another machine may be asked for them next.
local function give_back(plan, place, list)
  require("cni.pool.blocks").let_go(place, list)
  require("cni.pool.claim").start(place, plan.request.environ())
end

function M.run(_, plan)
  return plan.choice:commit()
end

function M.verify(step, plan)
  return leases.problem(meant(step, plan), plan.owner, plan.prev and plan.prev.ips)
end

function M.undo(step, plan)
  local freed, taken = leases.release(meant(step, plan), plan.owner), step.want.taken
  -- Somebody else has freed them, and may have leased others to this owner since.
  if taken and taken[1] and not freed[1] then plan.missed = true end
  if step.want.pool and plan.request then give_back(plan, step.want.pool, freed) end
end

function M.stands(step, plan)
  return #M.held(step, plan) > 0
end

function M.say(step)
  return ("lease an address of network %s in %s"):format(step.want.network, step.want.dir)
end

--- The addresses of a step that its owner holds.
-- @tparam table step
-- @tparam table plan
-- @treturn {table,...} as of `held` of cni.leases
function M.held(step, plan)
  return leases.held(meant(step, plan), plan.owner)
end

-- What the ADD took by this step: its record has the steps of the script in the order of its calls.
local function recorded(plan, spec)
  local record = plan.past and plan:past()
  plan.leased = plan.leased or {}
  for _, step in ipairs(record and record.steps or {}) do
    if taken_by(step, spec) and not plan.leased[step] then
      plan.leased[step] = true
      return step.want
    end
  end
end

-- Where an address that was claimed alone is to be given back to.
local function single_of(want, sets)
  for _, set in ipairs(want.blocks and sets or {}) do
    if set[1].single then
      return { dir = want.dir, network = want.network, root = want.root, blocks = want.blocks,
        lock = want.lock }
    end
  end
end

local function take(plan, want)
  return leases.allocate(want, plan.owner, function(choice)
    plan.choice, plan.foreign = choice, plan.foreign or choice.foreign
    plan.is_low = choice.is_low
    local step = { kind = "lease", ns = "host", want = { dir = want.dir, network = want.network,
      sets = choice.sets, requested = want.requested, taken = choice.taken,
      pool = single_of(want, choice.sets) } }
    local ips = plan:now(step)
    -- Somebody who does not heed the lock was faster: this step has taken nothing.
    if not ips then plan:annul(step) end
    return ips
  end)
end

-- Of what this machine has of a pool. Where that does not do, more is claimed while the caller waits; where
-- it does, but little is left, by another process.
local function take_of_pool(plan, want)
  local ok, ips = pcall(take, plan, want)
  if not ok and (want.settings.blocks_file or not (fail.is(ips) and ips.lacking)) then error(ips, 0) end
  if not ok then
    ok, ips = pcall(require("cni.pool.claim").until_had, want, function() return take(plan, want) end)
    if not ok then
      if want.requested[1] then pcall(give_back, plan, want, want.requested) end
      error(ips, 0)
    end
  end
  if want.sticky then require("cni.pool.sticky").note(want.sticky, ips) end
  if plan.is_low then require("cni.pool.claim").start(want, plan.request.environ()) end
  return ips
end

-- What the machine has now. Of the addresses that an attachment has, its record tells the range.
local function sets_of(spec)
  if not spec.blocks then return spec.sets end
  local blocks = require "cni.pool.blocks"
  return blocks.sets(blocks.read(spec), spec.requested)
end

-- What would be had now. Which block would be claimed nobody knows.
local function foresee(plan, spec)
  local ok, ips = pcall(leases.peek, setmetatable({ sets = sets_of(spec) }, { __index = spec }), plan.owner)
  if ok then return ips end
  if spec.blocks and fail.is(ips) and ips.lacking then return {} end
  error(ips, 0)
end

--- What the lease gives, by the plan's mode; called for a plugin's `req:lease(spec)`.
-- @tparam table plan
-- @tparam table spec see cni.leases
-- @treturn table list of { address =, gateway = }
function M.obtain(plan, spec)
  if plan.mode == "apply" then return (spec.blocks and take_of_pool or take)(plan, spec) end
  -- Nothing was ever leased where nothing can be.
  if plan.mode == "erase" and not leases.is_place(spec) then return {} end
  local step = { kind = "lease", ns = "host", want = { dir = spec.dir, network = spec.network,
    sets = spec.sets, requested = spec.requested } }
  if plan.attached then
    local had = recorded(plan, spec)
    step.want.taken, step.want.sets = had and had.taken, spec.sets or had and had.sets or sets_of(spec)
    -- Where none is left, somebody else may have leased others: the reference, by its DEL and ADD.
    if #M.held(step, plan) == 0 then step.want.taken = nil end
  end
  plan:push_ahead(step)
  if plan.mode == "dry" then return foresee(plan, spec) end
  local problem = plan.attached and M.verify(step, plan)
  if problem and plan.mode == "update" then
    fail.throw { msg = ("%s; addresses are leased by an ADD, and no update"):format(problem) }
  elseif problem then
    fail.throw { code = fail.codes.internal, msg = problem }
  end
  return M.held(step, plan)
end

return M
