-- SPDX-License-Identifier: MIT
--- Step `set`: attributes of a link that exists (or that an earlier step makes).
-- @module cni.step.set

local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno
local M = { of_interface = true }

function M.links(step)
  return { step.want.link, step.want.master ~= 0 and step.want.master or nil }
end

local function attributes(handle, name, values)
  local attrs = { index = handle:index(name) }
  for key, value in pairs(values) do
    if key ~= "link" then attrs[key] = value end
  end
  if values.master and values.master ~= 0 then attrs.master = handle:index(values.master) end
  return attrs
end

function M.requests(step, handle)
  return { { "set", "link", attributes(handle, step.want.link, step.want) } }
end

-- The link in the host, or here, on which another one stands.
local function below(handle, link)
  if not (link and link.link and require("cni.links.kinds").stands_on[link.kind]) then return nil end
  local home = link.link_netnsid and handle.plan.host or handle
  return home:link(link.link, { "mtu" })
end

function M.cause(step, handle, errno)
  local want = step.want
  if not want.mtu or errno ~= errors.EINVAL and errno ~= errors.ERANGE then return nil end
  local master = below(handle, handle:link(want.link))
  return master and require("cni.links.obstacle").too_large(master.name, master, want.mtu)
end

local function words(values)
  local list = {}
  for key, value in pairs(values) do
    if key == "up" then
      list[#list + 1] = value and "up" or "down"
    elseif key == "port" then
      for option, setting in pairs(value) do
        list[#list + 1] = option .. " " .. tostring(setting)
      end
    elseif key ~= "link" then
      list[#list + 1] = key .. " " .. tostring(value)
    end
  end
  table.sort(list)
  return table.concat(list, ", ")
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = h:link(want.link)
  local place = step.ns == "pod" and "sandbox" or "host"
  if not link then return ("link %s is not in the %s"):format(want.link, place) end
  for key, value in pairs(want) do
    local have = link[key]
    if key == "master" then
      local master = value ~= 0 and h:link(value)
      if value ~= 0 and (not master or have ~= master.index) then
        return ("link %s is not plugged into %s"):format(want.link, value)
      elseif value == 0 and have then
        local other = h:link(have, {})
        return ("link %s is plugged into %s"):format(want.link, other and other.name or "another link")
      end
    elseif key == "port" then
      for option, setting in pairs(value) do
        if not have or have[option] ~= setting then
          return ("port %s: %s is not %s"):format(want.link, option, tostring(setting))
        end
      end
    elseif key == "up" and have ~= value then
      return ("link %s in the %s is %s"):format(want.link, place, have and "up" or "down")
    elseif key ~= "link" and have ~= value and not (key == "alias" and value == "" and not have)
        and not (step.covered and (key == "mac" or key == "mtu")) then
      return ("link %s in the %s: %s is %s, not %s"):format(want.link, place, key,
        tostring(have), tostring(value))
    end
  end
end

-- The values without those whose names are in the set `later`, to which the names of all of them are added.
local function left(values, later, about)
  local kept = {}
  for key, value in pairs(values) do
    local name = ("%s %s"):format(about, key)
    if key == "port" then
      kept[key] = left(value, later, name)
    elseif key == "link" or not later[name] then
      kept[key] = value
    end
    later[name] = key ~= "link" and key ~= "port" or nil
  end
  return kept
end

function M.without(step, later)
  local want = step.want
  return setmetatable({ want = left(want, later, ("%s %s"):format(step.ns, want.link)) }, { __index = step })
end

--- For steps that keep their values elsewhere.
M.left = left

-- What the kernel says of a value that a link cannot have.
local unfit = { [errors.EINVAL] = true, [errors.ERANGE] = true }

--- Give a link back what it had. A value that it cannot have any more, such as an MTU above that of the link
-- below it by now, is told in the log: it would be refused the next time too, and the container could never
-- be removed.
-- @tparam handle h
-- @tparam plan plan
-- @string what it is for
-- @tparam table attrs as netlink has them, with the `index`
-- @treturn[1] boolean true
-- @return[2] nil
-- @treturn[2] string what went wrong
-- @treturn[2] integer errno
function M.give_back(h, plan, what, attrs)
  local ok, msg, errno = h:socket():send { { "set", "link", attrs } }
  if ok or not unfit[errno] then return ok, msg, errno end
  local keys = {}
  for key in pairs(attrs) do
    if key ~= "index" and key ~= "kind" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    -- The kernel understands the options of a kind only beside the kind.
    ok, msg, errno = h:socket():send {
      { "set", "link", { index = attrs.index, kind = attrs.kind, [key] = attrs[key] } } }
    if not ok and not unfit[errno] then return ok, msg, errno end
    if not ok then
      plan:tell(("%s: %s: the value from before, which does not come back: %s"):format(what,
        words { [key] = attrs[key] }, msg))
    end
  end
  return true
end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  if not h or not h:link(step.want.link) then return end
  local before, what = step.had, "restore link " .. step.want.link
  if not before then return end
  local ok, msg, errno = M.give_back(h, plan, what, attributes(h, step.want.link, before))
  if not ok then fail.kernel(what, msg, errno) end
end

-- Not in the host: there the values may have been set for others too.
function M.stands(step, plan)
  return step.ns == "pod" and not M.verify(step, plan)
end

function M.say(step)
  return ("set %s in the %s: %s"):format(step.want.link,
    step.ns == "pod" and "sandbox" or "host", words(step.want))
end

return M
