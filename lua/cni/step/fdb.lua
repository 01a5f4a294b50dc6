-- SPDX-License-Identifier: MIT
--- Step `fdb`: where frames to a MAC go: on a port of a bridge (`master`), or from a tunnel's own table, such
-- as a VXLAN's.
-- @module cni.step.fdb

local entry = require "cni.step.entry"
local errors = require("netlink").sys.errno

-- A tunnel sends frames that no other entry is for to the address of each entry with this MAC.
local everybody <const> = "00:00:00:00:00:00"

local permanent <const> = 0x80 -- NUD_PERMANENT, beside which others may stand

local function say(want)
  local fdb = want.entry
  return ("forwarding of %s%s by %s%s%s%s"):format(fdb.mac, fdb.vlan and " in VLAN " .. fdb.vlan or "",
    want.link, fdb.dst and " to " .. fdb.dst or "", fdb.port and " port " .. fdb.port or "",
    fdb.vni and " with VNI " .. fdb.vni or "")
end

local function request(verb, want, h)
  local fdb = want.entry
  return { verb, "neigh", { family = "bridge", index = h:index(want.link), mac = fdb.mac, dst = fdb.dst,
    vlan = fdb.vlan, vni = fdb.vni, port = fdb.port, flags = { fdb.master and "master" or "self" },
    -- On a bridge's port "permanent" would say that the MAC is the host's own.
    state = fdb.master and "noarp" or "permanent" } }
end

-- An entry that was learnt does not count. In a tunnel's own table other states may stand beside "permanent".
local function is_static(have, fdb)
  if fdb.master then return have.state == "noarp" end
  return have.state == "permanent" or math.type(have.state) == "integer" and have.state & permanent ~= 0
end

-- The kernel tells port and VNI only where they are not the tunnel's own.
local function is(have, fdb, link)
  for key, own in next, { vni = link.vxlan_id or false, port = link.vxlan_port or false } do
    if (have[key] or own) ~= (fdb[key] or own) then return false end
  end
  return have.mac == fdb.mac and (have.dst or false) == (fdb.dst or false)
    and (not fdb.vlan or have.vlan == fdb.vlan) and is_static(have, fdb)
end

local function there(want, h)
  local fdb, link = want.entry, h:link(want.link, { "vxlan_id", "vxlan_port" })
  if not link then return false end
  for _, have in ipairs(h:dump("neigh", { family = "bridge" })) do
    if have.index == link.index and is(have, fdb, link) then return true end
  end
  return false
end

-- What is in the way: a link's own table has a MAC but once.
local function in_the_way(want, h)
  local fdb, link = want.entry, h:link(want.link, {})
  for _, have in ipairs(link and h:dump("neigh", { family = "bridge" }) or {}) do
    if have.index == link.index and have.mac == fdb.mac and not have.master then
      return ("%s has an entry for %s already%s"):format(want.link, fdb.mac,
        have.dst and have.dst ~= fdb.dst and ", to " .. have.dst or "")
    end
  end
end

local M = entry.kind {
  say = say, there = there,
  cause = function(want, h, errno) return errno == errors.EEXIST and in_the_way(want, h) or nil end,
  add = function(want, h)
    return request(want.entry.mac == everybody and "append" or want.entry.master and "replace" or "add",
      want, h)
  end,
  remove = function(want, h) return h:link(want.link, {}) and request("del", want, h) end,
  cannot = function(want, h)
    local fdb = want.entry
    if not fdb.vlan and not fdb.dst and not fdb.vni and not fdb.port then return nil end
    local link = h:link(want.link, { "kind" })
    local is_tunnel = link and link.kind == "vxlan"
    if is_tunnel and fdb.vlan then return want.link .. " is a tunnel, and vlan is of a bridge" end
    if not link or is_tunnel or fdb.vlan then return nil end
    return want.link .. " is no tunnel, and dst, vni and port are of one"
  end,
}

--- The `want` of a step, made of what a script gave and cni.engine.takes has checked.
function M.want(given, link)
  local want = { link = link, entry = { mac = given.mac:lower(), dst = given.dst,
    vlan = given.vlan, vni = given.vni, port = given.port, master = given.master } }
  want.key = entry.key(say(want))
  return want
end

return M
