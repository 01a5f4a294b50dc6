-- SPDX-License-Identifier: MIT
--- Step `await`: nothing is changed, but the attachment is not ready before a link is operational, its
-- addresses are accepted, or duplicates of its own address are looked for.
-- @module cni.step.await

local addr = require "cni.addr"
local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

-- So many times a millisecond it is waited for what the kernel does by itself, some microseconds after the
-- link is up.
local patience <const> = 20

local function dump(h, object, index)
  local list, msg, errno = h:socket():dump(object, { family = "inet6", index = index })
  return list or fail.kernel("look at the addresses of a link", msg, errno)
end

-- The link's own address while it is looked for duplicates of it; false when there is one, and they are not.
local function tentative(h, index)
  for _, entry in ipairs(dump(h, "addr", index)) do
    if entry.scope == "link" then return entry.tentative and entry.address:match "^[^/]+" end
  end
end

-- The kernel looks for duplicates in the group of the address, which it joins before.
local function has_joined(h, index, address)
  local group = addr.text("\xff\2" .. ("\0"):rep(9) .. "\1\xff" .. addr.ip(address):sub(-3))
  for _, entry in ipairs(dump(h, "group", index)) do
    if entry.address == group then return true end
  end
end

local function gives_itself_addresses(h, name)
  local link = h:link(name, { "carrier", "addr_gen_mode" })
  if not link or not link.carrier or link.addr_gen_mode == "none" then return false end
  local off = netlink.ns.sysctl_get(h.where, { "net/ipv6/conf/" .. name .. "/disable_ipv6" })
  return off and off[1] == "0"
end

-- Nothing is wrong where it does not begin: then the kernel asks for routers early.
local function await_dad(h, name)
  local index = h:index(name)
  for n = 1, patience do
    local address = tentative(h, index)
    if address == false or address and has_joined(h, index, address) then return end
    if n == 1 and not address and not gives_itself_addresses(h, name) then return end
    h:socket():await("addr", { index = index }, { tentative = false, scope = "link" }, {}, 1)
  end
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  if want.dad then return await_dad(h, want.link) end
  local object, key, wanted = "link", { name = want.link }, { operstate = "up" }
  if want.addrs then
    -- Without a carrier the kernel detects no duplicates; it begins when there is one.
    local link = h:link(want.link)
    if link and not link.carrier then return end
    object, key, wanted = "addr", { index = h:index(want.link) }, { tentative = false }
  end
  local seen, msg, errno = h:socket():await(object, key, wanted, {}, want.seconds * 1000 // 1)
  if seen then return end
  if errno == netlink.sys.errno.ETIMEDOUT then
    local now = want.up and h:link(want.link, { "operstate" })
    msg = ("not so after %g seconds%s"):format(want.seconds,
      now and ("; it is %s"):format(now.operstate or "down") or "")
  end
  fail.kernel(M.say(step), msg or "it is gone", errno)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  if want.addrs or want.dad then return nil end
  local link = h:link(want.link)
  if not link then return ("link %s is gone"):format(want.link) end
  if link.operstate ~= "up" and link.operstate ~= "unknown" then
    return ("link %s is %s"):format(want.link, link.operstate or "down")
  end
end

function M.say(step)
  if step.want.dad then
    return ("wait until duplicates of the own address of %s are looked for"):format(step.want.link)
  end
  return step.want.addrs and "wait until the addresses of " .. step.want.link .. " are accepted"
    or "wait until " .. step.want.link .. " is operational"
end

return M
