-- SPDX-License-Identifier: MIT
--- Step `link`: a link that this attachment alone has. It is born complete (name, MAC, MTU, master,
-- peer) and taken back by its name; when it is not certain that the link of that name is ours (the
-- ADD died in the middle), its kind and the MAC we chose decide.
-- @module cni.step.link

local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

-- Keys of `want` that are not attributes to compare with the kernel's.
local not_attributes = {
  name = true, peer = true, mac = true, mtu = true, into = true, link = true, master = true,
  up = true, named = true, port = true,
}

local function home(step)
  return step.want.into or step.ns
end

function M.links(step)
  return { step.want.master, step.want.link }
end

function M.requests(step, handle)
  local want, plan = step.want, handle.plan
  local attrs = {}
  for key, value in pairs(want) do attrs[key] = value end
  attrs.named, attrs.into = nil, nil
  attrs.master = want.master and handle:index(want.master)
  attrs.link = want.link and handle:index(want.link)
  attrs.netns = want.into and plan[want.into]:namespace()
  if want.peer then
    attrs.peer = {
      name = want.peer.name, mac = want.peer.mac, mtu = want.mtu,
      netns = want.peer.ns ~= step.ns and plan[want.peer.ns]:namespace() or nil,
    }
  end
  return { { "add", "link", attrs } }
end

--- Name the link that is in the way, which the kernel does not.
function M.refused(step, handle, errno)
  if errno ~= netlink.sys.errno.EEXIST then return end
  local peer = step.want.peer
  local place = peer and peer.ns or home(step)
  local name = peer and handle.plan[peer.ns]:link(peer.name) and peer.name or step.want.name
  fail.throw {
    code = fail.codes.internal,
    msg = ("%s: link %s exists already in the %s"):format(M.say(step), name,
      place == "pod" and "sandbox" or "host"),
    hint = "a second ADD needs a DEL first; a link of another origin is left as it is",
  }
end

-- The MAC that the runtime knows a link by; a later plugin of the chain may have changed it.
local function reported_mac(plan, name, sandbox)
  for _, interface in ipairs(plan.prev and plan.prev.interfaces or {}) do
    if interface.name == name and (interface.sandbox or "") == (sandbox or "") then
      return interface.mac and interface.mac ~= "" and interface.mac:lower() or nil
    end
  end
end

local function same_mac(plan, link, place)
  local mac = reported_mac(plan, link.name, link.sandbox)
  if mac and link.mac ~= mac then
    return ("link %s in the %s: mac is %s, not %s"):format(link.name, place, link.mac, mac)
  end
end

function M.verify(step, plan)
  local want, h = step.want, plan[home(step)]
  local place = h.name == "pod" and "sandbox" or "host"
  local peer = want.peer and plan[want.peer.ns]:link(want.peer.name)
  if want.peer and not peer then
    return ("link %s is not in the sandbox"):format(want.peer.name)
  end
  local link = h:link(want.name)
  if not link then
    return want.peer and ("link %s in the sandbox has no veth end here"):format(want.peer.name)
      or ("link %s is not in the %s"):format(want.name, place)
  end
  if link.kind ~= want.kind then
    return ("link %s: kind is %s, not %s"):format(want.name, link.kind or "none", want.kind)
  end
  if want.master then
    local master = h:link(want.master)
    if not master or link.master ~= master.index then
      return ("link %s is not plugged into %s"):format(want.name, want.master)
    end
  end
  for key, value in pairs(want.port or {}) do
    if not link.port or link.port[key] ~= value then
      return ("port %s: %s is not %s"):format(want.name, key, tostring(value))
    end
  end
  -- MTU and MAC of the container's end belong to the later plugins of a chain too.
  if want.mtu and h.name == "host" and link.mtu ~= want.mtu then
    return ("link %s: mtu is %d, not %d"):format(want.name, link.mtu, want.mtu)
  end
  for key, value in pairs(want) do
    if not not_attributes[key] and link[key] ~= value then
      return ("link %s: %s is %s, not %s"):format(want.name, key, tostring(link[key]),
        tostring(value))
    end
  end
  return same_mac(plan, link, place) or (peer and same_mac(plan, peer, "sandbox"))
end

function M.undo(step, plan)
  local want, h = step.want, plan:at(home(step))
  local link = h and h:link(want.name)
  if not link or link.kind ~= want.kind then return end
  local certain = plan.mode ~= "undo" or (plan.record and plan.record.done)
  if not certain and want.mac and link.mac ~= want.mac then return end
  local ok, msg, errno = h:socket():del_link_quick({ index = link.index }, 5000)
  if not ok then fail.kernel("remove link " .. want.name, msg, errno) end
  h:forget(want.name)
end

function M.say(step)
  local want = step.want
  if want.peer then
    return ("create veth pair %s%s, peer %s in the %s"):format(want.name,
      want.master and " on " .. want.master or "", want.peer.name,
      want.peer.ns == "pod" and "sandbox" or "host")
  end
  return ("create %s link %s in the %s"):format(want.kind, want.name,
    home(step) == "pod" and "sandbox" or "host")
end

return M
