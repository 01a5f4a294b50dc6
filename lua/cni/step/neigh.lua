-- SPDX-License-Identifier: MIT
--- Step `neigh`: the MAC of a neighbour, so that the link need not ask for it; or, with `proxy`, an address
-- that the link answers for.
-- @module cni.step.neigh

local addr = require "cni.addr"
local entry = require "cni.step.entry"

local function say(want)
  local neigh = want.entry
  return ("neighbour %s%s on %s"):format(neigh.proxy and "by proxy " or "",
    neigh.mac and neigh.dst .. " at " .. neigh.mac or neigh.dst, want.link)
end

local function request(verb, want, h)
  local neigh = want.entry
  local flags = neigh.proxy and { "proxy" } or neigh.router and { "router" } or nil
  return { verb, "neigh", { index = h:index(want.link), dst = neigh.dst, mac = neigh.mac, flags = flags } }
end

local function is(have, neigh)
  if have.dst ~= neigh.dst then return false end
  return neigh.proxy or have.state == "permanent" and have.mac == neigh.mac
end

local function there(want, h)
  local neigh, link = want.entry, h:link(want.link, {})
  if not link then return false end
  local filter = { family = neigh.family, index = link.index, flags = neigh.proxy and { "proxy" } or nil }
  for _, have in ipairs(h:dump("neigh", filter)) do
    if have.index == link.index and is(have, neigh) then return true end
  end
  return false
end

-- The entry that the administrator, or somebody else, has made for the address. What the kernel has learnt
-- does not count.
local function taken(want, h)
  local neigh, link = want.entry, h:link(want.link, {})
  if not link or neigh.proxy then return nil end
  for _, have in ipairs(h:dump("neigh", { family = neigh.family, index = link.index })) do
    if have.index == link.index and have.dst == neigh.dst and have.state == "permanent" then
      return ("%s is at %s there"):format(have.dst, have.mac or "no MAC")
    end
  end
end

local M = entry.kind {
  say = say, there = there, taken = taken,
  -- What the kernel has learnt of the same address gives way.
  add = function(want, h) return request("replace", want, h) end,
  remove = function(want, h) return h:link(want.link, {}) and request("del", want, h) end,
  -- On these links the kernel keeps another neighbour than the one it is given, which nobody could take back.
  cannot = function(want, h)
    local link, neigh = h:link(want.link, { "mac", "loopback" }), want.entry
    if not link or neigh.proxy then return nil end
    if not link.mac then return want.link .. " has no hardware addresses, and asks for nobody's" end
    if #link.mac ~= #neigh.mac then
      return ("hardware addresses on %s are as long as its own, %s"):format(want.link, link.mac)
    end
    if not link.loopback or neigh.family ~= "inet" then return nil end
    return want.link .. " has no neighbours, it is a loopback link"
  end,
}

--- The `want` of a step, made of what a script gave and cni.engine.takes has checked.
function M.want(given, link)
  local want = { link = link, entry = { dst = given.dst, mac = given.mac and given.mac:lower(),
    proxy = given.proxy, router = given.router, family = addr.family(addr.ip(given.dst)) } }
  want.key = entry.key(say(want))
  return want
end

return M
