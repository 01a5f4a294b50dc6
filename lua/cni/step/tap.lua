-- SPDX-License-Identifier: MIT
--- Step `tap`: a persistent tap link. Unlike any other link it is made by an ioctl; from then on it
-- is a link like the others (cni.step.link).
-- @module cni.step.tap

local fail = require "cni.fail"
local files = require "cni.record.files"
local link = require "cni.step.link"
local netlink = require "netlink"

local M = { of_interface = true, telling = true, verify = link.verify, mend = link.mend, undo = link.undo,
  stands = link.stands, say = link.say }

-- SELinux gives a tap the context of the process that makes it, and a process gets its context when it is
-- executed: so another program has to make the tap.
local function by_labelled_process(want, where)
  local argv = { "ip", "tuntap", "add", "mode", "tap", "name", want.name }
  local function option(...) for _, word in ipairs { ... } do argv[#argv + 1] = word end end
  if want.tun_multi_queue then option("multi_queue") end
  if want.tun_vnet_hdr then option("vnet_hdr") end
  if want.tun_owner then option("user", tostring(want.tun_owner)) end
  if want.tun_group then option("group", tostring(want.tun_group)) end
  local path
  for dir in ("/usr/sbin /sbin /usr/bin /bin"):gmatch("%S+") do
    if files.exists(dir .. "/ip") then path = dir .. "/ip" break end
  end
  if not path then
    fail.throw { msg = "selinuxContext needs the program ip, which is not installed" }
  end
  local run, msg, errno = netlink.sys.exec {
    path = path, argv = argv, ns = where, label = want.label, timeout_ms = 30000,
  }
  if not run then
    fail.throw { errno = errno,
      msg = ("execute ip with the SELinux context %q: %s"):format(want.label, msg),
      hint = not (netlink.sys.read_file "/proc/filesystems" or ""):find("selinuxfs", 1, true)
        and "this kernel has no SELinux, or it is switched off" or nil }
  end
  return run.status == 0 or nil, run.stderr:gsub("%s+$", "")
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  local ok, msg, errno
  if want.label then
    ok, msg, errno = by_labelled_process(want, h.where)
  else
    ok, msg, errno = netlink.ns.tap(h.where, {
      name = want.name, mac = want.mac, multi_queue = want.tun_multi_queue,
      vnet_hdr = want.tun_vnet_hdr, owner = want.tun_owner, group = want.tun_group,
    })
  end
  if ok then return end
  step.did = nil
  if h:link(want.name) then
    local obstacle = require "cni.links.obstacle"
    local why, hint = obstacle.explain(step, h, netlink.sys.errno.EEXIST, link.home(step))
    if why then fail.throw { msg = M.say(step) .. ": " .. why, hint = hint } end
  end
  fail.kernel(M.say(step), msg, errno)
end

function M.key(step) return step.want.name end

--- Refuse what a tap can only be made with.
function M.adopt(to, from)
  for key, value in pairs(to.want) do
    if from.want[key] ~= value then
      fail.throw { msg = ("tap %s cannot be changed: its %s is %s, and was %s"):format(to.want.name, key,
        tostring(value), tostring(from.want[key])), hint = "DEL and ADD make it anew" }
    end
  end
end

return M
