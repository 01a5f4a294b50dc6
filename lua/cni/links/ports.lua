-- SPDX-License-Identifier: MIT
--- Whose the ports of a bridge are. Our records know which ports are ours. Ports of another runtime, which
-- has a /run of its own, or of anybody else are known to the bridge alone.
-- @module cni.links.ports

local addr = require "cni.addr"
local fail = require "cni.fail"
local kinds = require "cni.links.kinds"
local shared = require "cni.record.shared"

local M = {}

-- The other end of a pair that is here with both its ends.
local function end_here(h, link)
  if not kinds.pairs[link.kind] or not link.link or link.link_netnsid then return nil end
  return h:link(link.link, { "master" })
end

-- Whether a link is shared, and was made here.
local function is_made(h, name)
  local known = shared.facts(h:group(name)).link
  return known and not known.before
end

-- The bridge that a link is, or is plugged into with its other end.
local function bridge_of(h, link)
  if link.kind == "bridge" then return link end
  local port = end_here(h, link)
  return port and port.master and h:link(port.master, {})
end

-- Steps that bring a link into a namespace.
local brings = { link = true, tap = true, move = true }

-- The name of the link that a step brings into a namespace, or nil: either end of a pair may be there.
local function name_in(step, h)
  local want = step.want
  if not brings[step.kind] then return nil end
  if (want.into or step.ns) == h.name then return want.name end
  return want.peer and want.peer.ns == h.name and want.peer.name or nil
end

local function note_names(names, steps, h)
  for _, step in ipairs(steps) do
    local name = name_in(step, h)
    if name then names[name] = true end
  end
end

-- The ports that none of our attachments has plugged in.
local function of_others(plan, h, bridge)
  local keys = { "name", "index", "kind", "link", "link_netnsid" }
  local own, recorded, others = {}, nil, {}
  note_names(own, plan.steps, h)
  for _, port in ipairs(h:dump("link", { master = bridge.index }, keys)) do
    local other = not own[port.name] and end_here(h, port)
    if not own[port.name] and not (other and is_made(h, other.name)) then
      if not recorded then
        recorded = {}
        local journal = require "cni.record.journal"
        for _, record in ipairs(journal.all()) do note_names(recorded, record.steps, h) end
      end
      if not recorded[port.name] then others[#others + 1] = port end
    end
  end
  return others
end

-- Whether the other end of a port has another address of a network. nil: it tells nothing, since it is not in
-- another namespace or has no address at all (a virtual machine behind it may have one).
local function leads_to(h, port, cidr)
  if not kinds.pairs[port.kind] or not port.link_netnsid then return nil end
  local list, msg, errno = h:socket():dump("addr",
    { index = port.link, netnsid = port.link_netnsid, family = cidr.family }, { "address", "scope" })
  if not list then
    if not h:link(port.index, {}) then return false end -- it has just gone
    fail.kernel("list the addresses at the other end of " .. port.name, msg, errno)
  end
  local found
  for _, have in ipairs(list) do
    local other = addr.parse(have.address)
    if other.ip == cidr.ip then return false end -- it has that very address itself
    if other:overlaps(cidr) then
      found = true
    elseif have.scope ~= "link" then
      found = found or false
    end
  end
  return found
end

--- The steps of an attachment before one of them that have brought what is now a port of a link: a script may
-- make its own link first, and plug it in later.
-- @tparam table plan of the attachment, being taken back
-- @tparam handle h
-- @tparam string name of the link that has ports
-- @tparam table step where to stop
-- @treturn {table,...} newest first
function M.older(plan, h, name, step)
  local found, link = {}, nil
  for _, older in ipairs(plan.steps) do
    if older == step then break end
    local own = older.did and name_in(older, h)
    link = own and (link or h:link(name, {}))
    local port = link and h:link(own, { "master" })
    if port and port.master == link.index then table.insert(found, 1, older) end
  end
  return found
end

--- Whether somebody else's port needs an address of a bridge. A port whose other end has another address of
-- the same network needs it. One whose other end has only addresses of other networks, or this very address,
-- does not. When the other end tells nothing, the port needs it if the bridge was made here. An address that
-- a failed ADD has put on somebody else's bridge nobody needs.
-- @tparam table plan of an attachment, being taken back
-- @tparam handle h
-- @tparam table link that the address is on, with `kind`, `link` and `link_netnsid`: a bridge, or one whose
-- other end is plugged into one
-- @tparam string address such as 10.22.0.1/16
-- @treturn boolean
function M.need(plan, h, link, address)
  local bridge = bridge_of(h, link)
  local made = bridge and is_made(h, bridge.name)
  if not bridge or not made and not plan:was_whole() then return false end
  local cidr = addr.parse(address)
  for _, port in ipairs(of_others(plan, h, bridge)) do
    local leads = leads_to(h, port, cidr)
    if leads or leads == nil and made then return true end
  end
  return false
end

return M
