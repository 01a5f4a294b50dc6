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

-- What flags of a bridge's port are at its birth.
local port_flags <const> = { hairpin = false, isolated = false, bpdu_guard = false, root_block = false,
  fast_leave = false, learning = true, flood = true, mcast_flood = true, bcast_flood = true,
  proxy_arp = false, proxy_arp_wifi = false, mcast_to_unicast = false, vlan_tunnel = false,
  neigh_suppress = false, locked = false, mab = false }

-- The MTU of a link that is given none.
local function usual_mtu(h, link)
  local lower = below(h, link)
  return lower and lower.mtu or 1500
end

--- What has to be set so that a link has what `new` says in place of what `old` said.
-- @tparam handle h
-- @tparam string name of the link
-- @tparam table old attributes as a step has them
-- @tparam table new
-- @tparam[opt] table had what there was before `old`
-- @treturn table attributes as a step has them; empty: nothing
-- @raise when something is not wanted any more, and it is not known what there was before
function M.exchange(h, name, old, new, had)
  local set = {}
  had = had or {}
  local function unset(key)
    if had[key] ~= nil then return had[key] end
    if key == "mtu" then return usual_mtu(h, h:link(name)) end
    if key == "master" then return 0 end
    fail.throw { msg = ("%s of link %s was %s, and what it was before is not known"):format(key, name,
      tostring(old[key])), hint = "say what it is to be, or DEL and ADD it" }
  end
  for key, value in pairs(new) do
    if key ~= "link" and key ~= "port" and old[key] ~= value then set[key] = value end
  end
  for key in pairs(old) do
    if key ~= "link" and key ~= "port" and new[key] == nil then set[key] = unset(key) end
  end
  local port, before = {}, had.port or {}
  for option, value in pairs(new.port or {}) do
    if (old.port or {})[option] ~= value then port[option] = value end
  end
  for option, value in pairs(old.port or {}) do
    if (new.port or {})[option] == nil then
      local was = before[option]
      if was == nil then was = port_flags[option] end
      if was == nil then
        fail.throw { msg = ("port %s: %s was %s, and what it was before is not known"):format(name, option,
          tostring(value)) }
      end
      port[option] = was
    end
  end
  set.port = next(port) ~= nil and port or nil
  return set
end

-- In a record there are several of a link: those that set the same belong together.
function M.key(step)
  return step.want.link
end

--- What an update sets on a link that is there already, that has had.
function M.before(to, plan, from)
  local h, had = plan[to.ns], {}
  local link, before = h:link(to.want.link) or {}, from and from.had or {}
  for key in pairs(to.want) do
    if key == "port" then
      had.port = {}
      for option in pairs(to.want.port) do
        had.port[option] = (before.port or {})[option]
        local known = from and (from.want.port or {})[option] ~= nil
        if had.port[option] == nil and not known then had.port[option] = (link.port or {})[option] end
      end
    elseif key == "master" then
      local master = link.master and h:link(link.master, {})
      had.master = before.master or not (from and from.want.master) and (master and master.name or 0) or nil
    elseif key ~= "link" then
      had[key] = before[key]
      if had[key] == nil and not (from and from.want[key] ~= nil) then had[key] = link[key] end
    end
  end
  return had
end

function M.change(from, to, plan)
  local name, h = to.want.link, plan[to.ns]
  -- What was new in one of the two, and is not in the other, has what it had before.
  local had = setmetatable({}, { __index = from.had })
  local set = M.exchange(h, name, from.want, to.want, had)
  if next(set) == nil then return end
  local ok, msg, errno = h:socket():send { { "set", "link", attributes(h, name, set) } }
  if not ok then fail.kernel(M.say(to), msg, errno, nil, M.cause(to, h, errno)) end
end

--- What is set no more gets back what there was before, as far as that is known.
function M.drop(step, plan)
  M.change(step, { kind = step.kind, ns = step.ns, want = { link = step.want.link } }, plan)
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
