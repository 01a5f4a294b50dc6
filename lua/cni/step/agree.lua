-- SPDX-License-Identifier: MIT
--- Step `agree`: a value that the kernel keeps once for all links of a kind on one master, such as the mode
-- of ipvlan. A new link with another value would change the links that are there, other containers' too. So
-- the first attachment decides, and another value is an error as long as there are such links.
-- @module cni.step.agree

local fail = require "cni.fail"
local shared = require "cni.record.shared"

local M = {}

local function check(want)
  for _, other in ipairs(shared.objects(want.group)) do
    local user = other ~= want.value and shared.a_user(want.group, other)
    if user then
      fail.throw {
        code = fail.codes.config,
        msg = ("%s carries %s links in mode %s, not %s"):format(want.link, want.of, other,
          want.value),
        details = ("one of them belongs to %s (network:container:interface)"):format(user),
        hint = "links on one master have all the same mode: take that one, or another master",
      }
    end
  end
end

-- The next attachment sees who has joined, even before the link is there: so the lock can end here.
function M.run(step, plan)
  local want = step.want
  local _ <close> = shared.lock(want.group, "exclusive")
  check(want)
  shared.join(want.group, want.value, plan.owner)
end

function M.undo(step, plan)
  local want = step.want
  if not shared.leave(want.group, want.value, plan.owner) then return end
  shared.tidy(want.group, shared.lock(want.group, "exclusive"))
end

function M.say(step)
  local want = step.want
  return ("make sure that %s links on %s are in mode %s"):format(want.of, want.link, want.value)
end

return M
