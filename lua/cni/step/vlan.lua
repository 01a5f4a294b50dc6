-- SPDX-License-Identifier: MIT
--- Step `vlan`: VLAN membership of a bridge port.
-- @module cni.step.vlan

local fail = require "cni.fail"

local M = {}

function M.links(step)
  return { step.want.link }
end

local function attributes(step, handle)
  local want = step.want
  return { index = handle:index(want.link), vid = want.vid, vid_end = want.vid_end,
    pvid = want.pvid, untagged = want.untagged }
end

function M.requests(step, handle)
  return { { step.want.absent and "del" or "add", "vlan", attributes(step, handle) } }
end

local function covers(entry, want)
  return entry.vid <= want.vid and (entry.vid_end or entry.vid) >= (want.vid_end or want.vid)
    and (entry.pvid or false) == (want.pvid or false)
    and (entry.untagged or false) == (want.untagged or false)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link)
  if not link then return ("port %s is gone"):format(want.link) end
  local list, msg, errno = h:socket():dump("vlan", { index = link.index })
  if not list then fail.kernel("list VLANs of " .. want.link, msg, errno) end
  local found = false
  for _, entry in ipairs(list) do
    if entry.index == link.index and covers(entry, want) then found = true end
  end
  if found == not want.absent then return nil end
  return ("port %s: VLAN %d is %s"):format(want.link, want.vid, found and "present" or "missing")
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  if not h or step.want.absent or not h:link(step.want.link) then return end
  h:socket():send { { "del", "vlan", attributes(step, h) } }
end

function M.say(step)
  local want = step.want
  return ("%s VLAN %d%s%s%s on %s"):format(want.absent and "remove" or "put", want.vid,
    want.vid_end and "-" .. want.vid_end or "", want.pvid and " (native)" or "",
    want.untagged and " untagged" or "", want.link)
end

return M
