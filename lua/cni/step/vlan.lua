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

-- The first of the wanted VLANs that are in an entry, or nil.
local function shared(entry, want)
  local first = math.max(entry.vid, want.vid)
  return first <= math.min(entry.vid_end or entry.vid, want.vid_end or want.vid) and first or nil
end

local function as_wanted(entry, want)
  return (entry.pvid or false) == (want.pvid or false)
    and (entry.untagged or false) == (want.untagged or false)
end

--- How a port's VLANs differ from what is wanted, in words, or nil.
-- @tparam table h handle of the port's namespace
-- @tparam table link the port, as the kernel has it
-- @tparam table want { vid, vid_end, pvid, untagged, absent }
function M.difference(h, link, want)
  local list, msg, errno = h:socket():dump("vlan", { index = link.index })
  if not list then fail.kernel("list VLANs of " .. link.name, msg, errno) end
  local missing = want.vid
  table.sort(list, function(a, b) return a.vid < b.vid end)
  for _, entry in ipairs(list) do
    local vid = entry.index == link.index and shared(entry, want)
    if vid and want.absent then return ("port %s: VLAN %d is present"):format(link.name, vid) end
    if vid and not as_wanted(entry, want) then
      return ("port %s: VLAN %d is there in another way"):format(link.name, vid)
    end
    if vid == missing then missing = (entry.vid_end or entry.vid) + 1 end
  end
  if want.absent or missing > (want.vid_end or want.vid) then return nil end
  return ("port %s: VLAN %d is missing"):format(link.name, missing)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link)
  if not link then return ("port %s is gone"):format(want.link) end
  return M.difference(h, link, want)
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
