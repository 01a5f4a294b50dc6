-- SPDX-License-Identifier: MIT
--- What stands in the way of a link that the kernel refused to make. The kernel says "file
-- exists" or "busy"; here it is found out which object that is, and whose. Loaded when a request
-- was refused, never before.
-- @module cni.links.obstacle

local journal = require "cni.record.journal"
local netlink = require "netlink"

local errors = netlink.sys.errno
local M = {}

local function place(ns)
  return ns == "pod" and "sandbox" or "host"
end

-- Links that stand on the same one as the refused link: those of attachments, which may be in
-- any namespace, and those of the namespace itself.
local function neighbours(step, handle)
  local want, found = step.want, {}
  for _, record in ipairs(journal.all()) do
    local header = record.header
    for _, other in ipairs(record.steps) do
      local same = other.kind == "link" and other.ns == step.ns and other.want.link == want.link
      if same and other.did and not (step.ns == "pod" and header.netns ~= handle.sandbox)
          and header.id .. header.ifname ~= handle.plan.owner.id .. handle.plan.owner.ifname then
        found[#found + 1] = { want = other.want, name = ("%s of container %s, network %s")
          :format(header.ifname, header.id, header.network) }
      end
    end
  end
  local parent = handle:link(want.link)
  for _, link in ipairs(parent and handle:socket():dump("link") or {}) do
    if link.link == parent.index and not link.link_netnsid then
      found[#found + 1] = { want = link, name = ("link %s in the %s"):format(link.name,
        place(step.ns)) }
    end
  end
  return found
end

--- Why a link cannot have an MTU.
-- @string name of the link that it stands on
-- @tparam ?table below that link
-- @tparam ?int mtu
-- @treturn ?string nil: that is not the cause
function M.too_large(name, below, mtu)
  if mtu and below and below.mtu and mtu > below.mtu then
    return ("mtu %d is above that of %s, on which it stands: %d"):format(mtu, name, below.mtu)
  end
end

-- By kind: why a link cannot be made on its master.
local reasons = {}

function reasons.vlan(step, handle, errno)
  local want = step.want
  if errno == errors.EINVAL or errno == errors.ERANGE then
    return M.too_large(want.link, handle:link(want.link), want.mtu)
  end
  if errno ~= errors.EEXIST then return nil end
  local protocol = want.vlan_protocol or "802.1Q"
  for _, other in ipairs(neighbours(step, handle)) do
    if other.want.kind == "vlan" and other.want.vlan_id == want.vlan_id
        and (other.want.vlan_protocol or "802.1Q") == protocol then
      return ("VLAN %d of %s is taken by %s"):format(want.vlan_id, want.link, other.name),
        "a link can have each VLAN ID once: use another vlanId, or plug both into a bridge"
    end
  end
  return ("VLAN %d of %s is taken by a link in another namespace"):format(want.vlan_id,
    want.link), "a link can have each VLAN ID once"
end

-- EINVAL is the kernel's word for a macvlan in passthru mode beside others, and for a lot more: that is only
-- named as the cause when it is seen.
function reasons.macvlan(step, handle, errno)
  if errno ~= errors.EBUSY and errno ~= errors.EINVAL then return nil end
  local want = step.want
  local parent = handle:link(want.link)
  local large = errno == errors.EINVAL and M.too_large(want.link, parent, want.mtu)
  if large then return large end
  if parent and parent.master then
    local owner = handle:link(parent.master)
    return ("%s is a port of %s"):format(want.link, owner and owner.name or "another link"),
      "name that one as the master instead"
  end
  for _, other in ipairs(neighbours(step, handle)) do
    local kind = other.want.kind
    if kind ~= want.kind and (kind == "macvlan" or kind == "ipvlan") then
      return ("%s carries %s, a link of kind %s"):format(want.link, other.name, kind),
        "a link carries macvlan or ipvlan, not both"
    end
    if want.kind == "macvlan" and kind == "macvlan"
        and (want.macvlan_mode == "passthru" or other.want.macvlan_mode == "passthru") then
      return ("%s carries %s already"):format(want.link, other.name),
        "passthru needs the master for itself"
    end
  end
end
reasons.ipvlan, reasons.macvtap, reasons.ipvtap = reasons.macvlan, reasons.macvlan, reasons.macvlan

-- Whether a step made, or lent, a link of that name in that namespace.
local function is_of(step, ns, name)
  local want = step.want
  if step.kind == "move" then return want.into == ns and want.name == name end
  if step.kind ~= "link" and step.kind ~= "tap" then return false end
  local home, peer = want.into or step.ns, want.peer
  return home == ns and want.name == name or peer ~= nil and peer.ns == ns and peer.name == name
end

--- Whose a link is, by the records.
-- @tparam table handle of its namespace
-- @string name
-- @treturn string for a hint
function M.owner(handle, name)
  local cookie = handle.name == "pod" and handle:namespace():cookie()
  local own = handle.plan.owner
  for _, record in ipairs(journal.all()) do
    local header = record.header
    -- The call that asks has a record too, of what it was about to make.
    local asking = not record.done and header.id == own.id and header.ifname == own.ifname
      and header.network == own.network
    for _, step in ipairs(asking and {} or record.steps) do
      if step.did and is_of(step, handle.name, name) and (not cookie or header.cookie == cookie) then
        return ("it is %s of container %s, network %s"):format(header.ifname, header.id,
          header.network)
      end
    end
  end
  return "no attachment on record has made it, so it is left as it is"
end

--- To which container a link of the host is lent.
-- @string name what the host calls it
-- @treturn ?string for a hint
function M.borrower(name)
  for _, record in ipairs(journal.all()) do
    local header = record.header
    for _, step in ipairs(record.steps) do
      if step.did and step.kind == "move" and step.want.link == name then
        return ("it is lent to container %s, network %s"):format(header.id, header.network)
      end
    end
  end
end

local function name_taken(step, handle, home)
  local want, plan = step.want, handle.plan
  local peer = want.peer
  if peer and plan[peer.ns]:link(peer.name) then return peer.name, peer.ns end
  if plan[home]:link(want.name) then return want.name, home end
end

--- What is in the way of a new link, if that can be found out.
-- @tparam table step the one that was to make it, of kind `link` or `tap`
-- @tparam table handle the one it was sent on
-- @tparam int errno what the kernel said
-- @string home the namespace that the link is born in: "host" or "pod"
-- @treturn ?string nil when nothing was found
-- @treturn ?string a hint
function M.explain(step, handle, errno, home)
  local name, ns
  if errno == errors.EEXIST then name, ns = name_taken(step, handle, home) end
  if name then
    return ("link %s exists already in the %s"):format(name, place(ns)), M.owner(handle.plan[ns], name)
  end
  local reason = reasons[step.want.kind]
  if reason then return reason(step, handle, errno) end
end

return M
