-- SPDX-License-Identifier: MIT
--- Step `number`: a number that goes with a key, such as the VLAN of a tenant. All attachments that name the
-- key have the same one; it is free for another key when the last of them is gone. All of this is in the
-- files of cni.record.shared: the pool is a group, each object in it is a `NUMBER KEY`, and its users have
-- that number. The step names no number: so it can be written down before one is chosen.
-- @module cni.step.number

local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"
local shared = require "cni.record.shared"

local M = { chosen = { part = true }, new_only = "a number is leased by an ADD", last = true }

-- A key as part of a file's name.
local function coded(key)
  local text = key:gsub("[^%w._:-]", function(c) return ("%%%02x"):format(c:byte()) end)
  return #text <= 120 and text or text:sub(1, 100) .. "~" .. netlink.sys.hash64(key)
end

-- The pool as it is: the key's number, if it has one; the object of each number that is taken.
local function look(want)
  local own, taken = nil, {}
  for _, object in ipairs(shared.objects(want.group)) do
    local number, key = object:match "^(%d+) (.*)$"
    number = math.tointeger(tonumber(number))
    if number then taken[number] = object end
    if number and key == coded(want.key) then own = number end
  end
  return own, taken
end

local function object_of(number, want) return ("%d %s"):format(number, coded(want.key)) end

local function full(want, taken)
  fail.throw { msg = ("pool %s has no number left for %q: %d to %d are taken"):format(want.pool, want.key,
    want.min, want.max), details = "the first of them by " .. taken[want.min]:match " (.*)",
    hint = "a number is free again when the last attachment with its key is deleted" }
end

local function choose(want)
  local own, taken = look(want)
  if own and (own < want.min or own > want.max) then
    fail.throw { msg = ("%q has the number %d of pool %s already, which is not from %d to %d"):format(
      want.key, own, want.pool, want.min, want.max),
      details = ("%s has it (network:container:interface)"):format(
        tostring(shared.a_user(want.group, taken[own]))) }
  end
  if own then return own end
  for number = want.min, want.max do
    if not taken[number] then return number end
  end
  full(want, taken)
end

-- One attachment may have the number several times, by scripts of several types: each gives its own back.
local function user(step, plan)
  local owner = plan.owner
  return { network = owner.network, id = owner.id, ifname = owner.ifname, part = step.want.part }
end

function M.run(step, plan)
  local want = step.want
  local lock <close> = shared.lock(want.group, "exclusive")
  local ok, number = pcall(choose, want)
  if not ok then
    shared.tidy(want.group, lock)
    error(number, 0)
  end
  shared.join(want.group, object_of(number, want), user(step, plan))
  return number
end

-- The number that the key has, if this attachment is one of those that have it.
local function held(want, plan)
  local number, taken = look(want)
  return number and shared.has(want.group, taken[number], plan.owner) and number or nil
end

function M.verify(step, plan)
  local want = step.want
  if held(want, plan) then return nil end
  return ("no number of pool %s is held for %q by this attachment"):format(want.pool, want.key)
end

function M.undo(step, plan)
  local want = step.want
  local number = look(want)
  local object = number and object_of(number, want)
  if object and plan.mode == "erase" then
    shared.leave_all(want.group, object, plan.owner)
  elseif object then
    shared.leave(want.group, object, user(step, plan))
  end
  -- Even when there is no number: an ADD that died before it had one may have left the lock.
  shared.tidy(want.group, shared.lock(want.group, "exclusive"))
end

function M.say(step)
  local want = step.want
  return ("take a number from %d to %d of pool %s for %s"):format(want.min, want.max, want.pool, want.key)
end

--- The number, by the plan's mode.
-- @tparam table plan
-- @tparam table want `pool`, `key`, `min`, `max`, `group`
-- @treturn int
-- @raise when there is none left; in CHECK, and in a DEL without a record, when this attachment has none
function M.obtain(plan, want)
  want.part = ("%016x"):format((string.unpack("I8", files.must(netlink.sys.random(8)))))
  local step = { kind = "number", ns = "host", want = want }
  if plan.mode == "apply" then return plan:now(step) end
  if plan.mode == "dry" then
    plan:push(step)
    return choose(want)
  end
  local number = held(want, plan)
  if not number then fail.throw { msg = M.verify(step, plan) } end
  plan:push_ahead(step)
  return number
end

return M
