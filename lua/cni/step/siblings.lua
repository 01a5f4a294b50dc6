-- SPDX-License-Identifier: MIT
-- Attachments of one container that want the same elements: a runtime gives each of its networks all of the
-- ports. The first has them; the others wait, and get them when it goes. For cni.step.elements.
--
-- Who waits, the group's object `waiting` says; what for, its record. A call becomes one who waits before
-- it looks who has an element, and one that takes elements out looks afterwards who waits: so none is
-- forgotten. The group is locked while elements are handed on; one who goes stops waiting before its own are
-- taken out.

local journal = require "cni.record.journal"
local shared = require "cni.record.shared"

local M = {}

local object <const> = "waiting"

-- Owners with parts are those that can be looked for.
local function waiter(owner)
  return { network = owner.network, id = owner.id, ifname = owner.ifname, part = object }
end

--- Wait for elements that another attachment has.
-- @string group
-- @tparam table owner
function M.wait(group, owner) shared.join(group, object, waiter(owner)) end

--- Whether an attachment of an owner's container, but not this one, is one of whom a function says true.
-- @tparam table owner
-- @tparam function is takes an owner
-- @treturn boolean
function M.any(owner, is)
  for _, record in ipairs(journal.of_container(owner.id)) do
    local other = record.header
    if (other.network ~= owner.network or other.ifname ~= owner.ifname) and is(other) then return true end
  end
  return false
end

--- Wait no longer, for it goes.
-- @string group
-- @tparam table owner
function M.go(group, owner)
  if not shared.used(group, object) then return end
  local lock <close> = shared.lock(group, "exclusive") -- luacheck: ignore lock
  shared.leave_all(group, object, owner)
end

--- Hand on what an attachment had to those of its container that wait.
-- @string group
-- @tparam table owner whose elements are gone
-- @tparam table want of its step
-- @tparam function give takes another owner and elements: makes those of them that nobody has
function M.hand_on(group, owner, want, give)
  if not shared.used(group, object) then return end
  local lock <close> = shared.lock(group, "exclusive") -- luacheck: ignore lock
  for _, record in ipairs(journal.of_container(owner.id)) do
    local waits = shared.has(group, object, record.header)
    for _, step in ipairs(waits and record.steps or {}) do
      local other = step.want
      if step.kind == "elements" and other.module == want.module and other.layout == want.layout then
        give(record.header, other.elements)
      end
    end
  end
end

return M
