-- SPDX-License-Identifier: MIT
--- Step `vlan`: VLAN membership of a bridge port.
-- @module cni.step.vlan

local fail = require "cni.fail"
local netlink = require "netlink"

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

-- The wanted VLANs, in pieces, without those that later steps have set anew.
local function pieces(want)
  local list = { { vid = want.vid, vid_end = want.vid_end or want.vid } }
  for _, other in ipairs(want.later or {}) do
    local rest = {}
    for _, piece in ipairs(list) do
      local first, last = math.max(piece.vid, other.vid), math.min(piece.vid_end, other.vid_end or other.vid)
      if first > last then
        rest[#rest + 1] = piece
      else
        if piece.vid < first then rest[#rest + 1] = { vid = piece.vid, vid_end = first - 1 } end
        if last < piece.vid_end then rest[#rest + 1] = { vid = last + 1, vid_end = piece.vid_end } end
      end
    end
    list = rest
  end
  return list
end

-- The first of the wanted VLANs that are in an entry, or nil.
local function shared(entry, piece)
  local first = math.max(entry.vid, piece.vid)
  return first <= math.min(entry.vid_end or entry.vid, piece.vid_end) and first or nil
end

local function as_wanted(entry, want)
  return (entry.pvid or false) == (want.pvid or false)
    and (entry.untagged or false) == (want.untagged or false)
end

-- How the entries of a port, in order, differ from what is wanted of a piece.
local function piece_difference(list, link, want, piece)
  local missing = piece.vid
  for _, entry in ipairs(list) do
    local vid = entry.index == link.index and shared(entry, piece)
    if vid and want.absent then return ("port %s: VLAN %d is present"):format(link.name, vid) end
    if vid and not as_wanted(entry, want) then
      return ("port %s: VLAN %d is there in another way"):format(link.name, vid)
    end
    if vid == missing then missing = (entry.vid_end or entry.vid) + 1 end
  end
  if want.absent or missing > piece.vid_end then return nil end
  return ("port %s: VLAN %d is missing"):format(link.name, missing)
end

--- How a port's VLANs differ from what is wanted, in words, or nil.
-- @tparam table h handle of the port's namespace
-- @tparam table link the port, as the kernel has it
-- @tparam table want { vid, vid_end, pvid, untagged, absent }; `later`: a list of such that are not looked at
function M.difference(h, link, want)
  local list, msg, errno = h:socket():dump("vlan", { index = link.index })
  -- A kernel whose bridges filter none has no VLANs on their ports.
  if not list and errno == netlink.sys.errno.EOPNOTSUPP then list = {} end
  if not list then fail.kernel("list VLANs of " .. link.name, msg, errno) end
  table.sort(list, function(a, b) return a.vid < b.vid end)
  for _, piece in ipairs(pieces(want)) do
    local difference = piece_difference(list, link, want, piece)
    if difference then return difference end
  end
end

-- A port has one native VLAN: the one before is it no more.
function M.without(step, later)
  local want, about = step.want, ("%s %s VLANs"):format(step.ns, step.want.link)
  local others = later[about] or {}
  later[about] = others
  local left = { later = { table.unpack(others) } }
  for _, other in ipairs(others) do
    if other.pvid and not other.absent then left.pvid = false end
  end
  others[#others + 1] = want
  return #others > 1 and setmetatable({ want = setmetatable(left, { __index = want }) }, { __index = step })
    or step
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link)
  if not link then return ("port %s is gone"):format(want.link) end
  return M.difference(h, link, want)
end

function M.key(step)
  local want = step.want
  return ("%s %d %d %s"):format(want.link, want.vid, want.vid_end or want.vid, want.absent and "absent" or "")
end

function M.change(_, to, plan)
  local h = plan[to.ns]
  local ok, msg, errno = h:socket():send(M.requests(to, h))
  if not ok then fail.kernel(M.say(to), msg, errno) end
end

--- Without those that other steps want.
function M.drop(step, plan, rest)
  local want, later = { later = {} }, {}
  for key, value in pairs(step.want) do want[key] = value end
  for _, other in ipairs(rest) do
    if other.kind == step.kind and other.ns == step.ns and other.want.link == want.link then
      later[#later + 1] = other.want
    end
  end
  want.later = later
  for _, piece in ipairs(pieces(want)) do
    M.undo({ kind = step.kind, ns = step.ns, want = { link = want.link, vid = piece.vid,
      vid_end = piece.vid_end > piece.vid and piece.vid_end or nil, absent = want.absent } }, plan)
  end
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
