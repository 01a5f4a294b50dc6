-- SPDX-License-Identifier: MIT
--- Step `await`: nothing is changed, but the attachment is not ready before a link is operational or its
-- addresses are accepted.
-- @module cni.step.await

local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
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
  if want.addrs then return nil end
  local link = h:link(want.link)
  if not link then return ("link %s is gone"):format(want.link) end
  if link.operstate ~= "up" and link.operstate ~= "unknown" then
    return ("link %s is %s"):format(want.link, link.operstate or "down")
  end
end

function M.say(step)
  return step.want.addrs and "wait until the addresses of " .. step.want.link .. " are accepted"
    or "wait until " .. step.want.link .. " is operational"
end

return M
