-- SPDX-License-Identifier: MIT
--- Step `addr`: an address on a link of this attachment.
-- @module cni.step.addr

local addr = require "cni.addr"
local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno

local M = { of_interface = true }

function M.links(step)
  return { step.want.link }
end

local function attributes(step, handle)
  local want = step.want
  local cidr = addr.parse(want.address)
  local times = want.leased and require("cni.step.dhcp").lifetimes(handle.plan.owner, want.address) or {}
  return {
    index = handle:index(want.link), address = want.address, nodad = want.nodad,
    noprefixroute = want.noprefixroute, valid_lft = times.valid_lft, preferred_lft = times.preferred_lft,
    -- As ifconfig and ip do; a /31 and a /32 have no broadcast address.
    broadcast = cidr.family == "inet" and cidr.len < 31 and addr.text(cidr:last()) or nil,
  }
end

function M.requests(step, handle)
  return { { "add", "addr", attributes(step, handle) } }
end

-- Whether an earlier step of the plan gives the link this address.
local function given_before(step, handle)
  local want = step.want
  for _, other in ipairs(handle.plan.steps) do
    if other == step then return nil end
    if other.kind == "addr" and other.ns == step.ns and other.want.link == want.link
      and addr.parse(other.want.address) == addr.parse(want.address) then return true end
  end
end

-- What is in the way of an address that has to be new.
local function in_the_way(step, handle)
  local want = step.want
  local cidr = addr.parse(want.address)
  for _, have in ipairs(handle:socket():dump("addr", { index = handle:index(want.link) }) or {}) do
    local own = addr.parse(have.address)
    if own and own:text() == cidr:text() and (own == cidr or cidr.family == "inet6") then
      return given_before(step, handle) and ("%s has been given %s before in this ADD"):format(want.link,
        have.address) or ("%s had %s before%s"):format(want.link, have.address,
        step.ns == "host" and "; what attachments share is made with ensure_addr" or "")
    end
  end
end

function M.cause(step, handle, errno)
  if errno == errors.EEXIST then return in_the_way(step, handle) end
  if addr.parse(step.want.address).family ~= "inet6" then return nil end
  return require("cni.protocol.hints").ipv6_off(handle, step.want.link)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local cidr = addr.parse(want.address)
  local link = h:link(want.link)
  if not link then return ("link %s is not in the sandbox"):format(want.link) end
  for _, have in ipairs(h:addrs(want.link)) do
    if addr.parse(have.address) == cidr then
      if have.dadfailed then return ("address %s: a duplicate was detected"):format(want.address) end
      return nil
    end
  end
  return ("address %s is not on %s"):format(want.address, want.link)
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  local link = h and h:link(step.want.link)
  if not link then return end
  local ok, msg, errno = h:socket():send {
    { "del", "addr", { index = link.index, address = step.want.address } },
  }
  if not ok and errno ~= errors.EADDRNOTAVAIL and not h.has_no(errno, step.want.address) then
    fail.kernel("remove address " .. step.want.address, msg, errno)
  end
end

function M.key(step) return step.want.link .. " " .. step.want.address end

--- The others of its network stay: left to itself, the kernel takes them away with the first one.
function M.drop(step, plan, rest)
  for _, other in ipairs(rest) do
    if other.kind == step.kind and other.ns == step.ns and M.key(other) == M.key(step) then return end
  end
  local h, name = plan:at(step.ns), step.want.link
  if not h or not h:link(name, {}) then return end
  local sysctl, path = require "cni.step.sysctl", "net/ipv4/conf/" .. name .. "/promote_secondaries"
  local before = sysctl.values(h, { { path } })[1]
  -- It may be on already, or not be for us to switch.
  local switched = before == "0" and pcall(sysctl.set, { { path, "1" } }, h, M.say(step))
  local ok, err = pcall(M.undo, step, plan)
  if switched then sysctl.set({ { path, before } }, h, M.say(step)) end
  if not ok then error(err, 0) end
end

function M.say(step)
  return ("give %s the address %s"):format(step.want.link, step.want.address)
end

return M
