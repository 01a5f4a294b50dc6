-- SPDX-License-Identifier: MIT
--- What the ADD of an attachment has chosen or found, by its record: an update goes on with that.
-- @module cni.engine.former

local fail = require "cni.fail"

local M = {}

local function steps_of(h)
  local plan = h.plan
  local record = plan.mode == "update" and plan:past()
  return record and record.steps or {}
end

--- What was wanted of a link.
-- @tparam handle h
-- @string kind of step
-- @string name of the link
-- @string ns name of the namespace that it is in
-- @treturn table empty in anything but an update, and when there is no such link
function M.link(h, kind, name, ns)
  for _, step in ipairs(steps_of(h)) do
    local want = step.want
    if step.kind == kind and want.name == name and (want.into or step.ns) == ns then return want end
  end
  return {}
end

--- The same for a pair, by the end that the script names.
-- @tparam handle h of the namespace of its other end
-- @tparam table peer `name`, `ns` (handle)
-- @treturn table|nil
function M.pair(h, peer)
  for _, step in ipairs(steps_of(h)) do
    local other = step.kind == "link" and step.ns == h.name and step.want.peer
    if other and other.name == peer.name and other.ns == peer.ns.name then return step.want end
  end
end

--- The step that has lent a link.
-- @tparam handle h
-- @tparam handle home where the link is now
-- @tparam table want as of `lend_link`
-- @treturn table|nil
-- @raise when another device is wanted: that is lent by an ADD alone
function M.lent(h, home, want)
  local device = want.wanted and want.wanted.device
  for _, step in ipairs(steps_of(h)) do
    if step.kind == "move" and step.want.into == home.name and step.want.name == want.name then
      if device and device ~= step.want.link then
        fail.throw { msg = ("%s is %s of the %s; another device is lent by an ADD, and no update"):format(
          want.name, step.want.link, h.name) }
      end
      return step
    end
  end
end

return M
