-- SPDX-License-Identifier: MIT
--- Step `sysctl`: settings below /proc/sys, as seen from one namespace.
-- @module cni.step.sysctl

local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno
local M = {}

local function values_at(h, paths)
  local now, msg, errno = netlink.ns.sysctl_get(h.where, paths)
  if not now then fail.kernel("read sysctls", msg, errno) end
  return now
end

local function paths_of(list)
  local paths = {}
  for i, entry in ipairs(list) do paths[i] = entry[1] end
  return paths
end

--- What settings are now.
-- @tparam handle h
-- @tparam table list of { path, ... }
-- @treturn table values in its order, false for one that is not there
function M.values(h, list)
  return values_at(h, paths_of(list))
end

-- The kernel shows a value of several words with tabs between them.
local function is(now, value)
  return now and now:gsub("%s+", " ") == value:gsub("%s+", " ")
end

-- Why a setting could not be written.
local function cause(h, entry, errno)
  local path, value = entry[1], entry[2]
  if errno == errors.ENOENT then
    local link = path:match("^net/ipv%d/conf/([^/]+)/") or path:match("^net/ipv%d/neigh/([^/]+)/")
    if link and link ~= "all" and link ~= "default" and not h:link(link) then
      return ("link %s is not there"):format(link)
    end
    return path:find("^net/ipv6/") and require("cni.protocol.hints").no_ipv6()
      or "this kernel knows no such setting"
  elseif errno == errors.EROFS then
    local now = values_at(h, { path })[1]
    return ("/proc/sys is read-only here, and the value is %s: have %s set, or /proc/sys writable")
      :format(now or "not to be read", value)
  end
end

local function write(list, h, what)
  local ok, msg, errno, nth = netlink.ns.sysctl(h.where, list)
  if ok then return end
  local hint = nth and cause(h, list[nth], errno)
  if not hint then fail.kernel(what, msg, errno) end
  fail.throw { msg = what .. ": " .. msg, errno = errno, hint = hint }
end

local advertised <const> = 2 -- IFAPROT_KERNEL_RA

-- Links that have routes or addresses by router advertisements, by their index.
local function taught(h)
  local links = {}
  for _, route in ipairs(h:dump("route", { family = "inet6", protocol = "ra" }, { "oif" })) do
    if route.oif then links[route.oif] = true end
  end
  for _, entry in ipairs(h:dump("addr", { family = "inet6" }, { "index", "proto" })) do
    if entry.proto == advertised then links[entry.index] = true end
  end
  return links
end

-- A host that begins to forward IPv6 forgets what routers told it, its default route too, and listens to them
-- no more; except on links whose accept_ra is 2. Returns the settings made.
local function keep_routers(h)
  local paths, set = {}, {}
  for index in pairs(taught(h)) do
    local link = h:link(index, {})
    if link then paths[#paths + 1] = "net/ipv6/conf/" .. link.name .. "/accept_ra" end
  end
  for i, value in ipairs(values_at(h, paths)) do
    if value == "1" then
      local ok, msg, errno = netlink.ns.sysctl(h.where, { { paths[i], "2" } })
      -- A link that has just gone has no routes to lose.
      if not ok and errno ~= errors.ENOENT then
        fail.kernel("keep listening to routers", msg, errno)
      end
      set[#set + 1] = { paths[i], "2" }
    end
  end
  return set
end

local function begins_to_forward(list)
  for _, entry in ipairs(list) do
    if entry[1]:find("^net/ipv6/conf/[^/]+/forwarding$") and entry[2] ~= "0" then return true end
  end
end

--- Write settings in order, and what keeps them from doing harm.
-- @tparam table list of { path, value [, optional] }
-- @tparam handle h
-- @tparam string what it is for
-- @treturn table list of those that keep it from doing harm
function M.set(list, h, what)
  if #list == 0 then return {} end
  local beside = begins_to_forward(list) and keep_routers(h) or {}
  write(list, h, what)
  return beside
end

local gone = { [errors.ENOENT] = true, [errors.ENOTDIR] = true }

--- Write the values that settings had before. A setting that is not there any more is passed over: its link
-- has gone. A value that the kernel does not take any more, such as an MTU above that of its link by now, is
-- told in the log: it would be refused the next time too, and the container could never be removed.
-- @tparam table list of { path, value }
-- @tparam handle h
-- @tparam plan plan
function M.give_back(list, h, plan)
  if begins_to_forward(list) then keep_routers(h) end
  while #list > 0 do
    local ok, msg, errno, nth = netlink.ns.sysctl(h.where, list)
    if ok then return end
    local is_refused = nth and errno == errors.EINVAL
    if not is_refused and not (nth and gone[errno]) then fail.kernel("restore sysctls", msg, errno) end
    if is_refused then plan:tell(("%s: the value from before, which does not come back"):format(msg)) end
    list = table.move(list, nth + 1, #list, 1, {})
  end
end

--- Raise unless the kernel shows the values that a site's script has written. It changes some values; and one
-- that cannot be read can neither be compared by CHECK nor be given back by DEL.
-- @tparam table step
-- @tparam handle h
function M.kept(step, h)
  if not step.by_site then return end
  local list = step.want.list
  local now = M.values(h, list)
  for i, entry in ipairs(list) do
    if not entry[3] and not is(now[i], entry[2]) then
      local what = now[i] and ("has made %s of it, write that"):format(require("cni.json").show(now[i]))
        or "does not show it, so that CHECK could not compare it, and DEL not give it back"
      fail.throw { msg = ("sysctl %s = %s: the kernel %s"):format(entry[1], entry[2], what) }
    end
  end
end

-- Whether all values in a list are single digits, which the kernel shows as they are written.
local function are_switches(list)
  for _, entry in ipairs(list) do
    if not entry[2]:find("^%d$") then return false end
  end
  return true
end

function M.run(step, plan)
  local list, h = step.want.list, plan[step.ns]
  if step.want.keep then
    -- Reading is cheap; a write to ip_forward walks every link of the host.
    local now, missing = M.values(h, list), {}
    for i, entry in ipairs(list) do
      if not is(now[i], entry[2]) then missing[#missing + 1] = entry end
    end
    list = missing
  end
  local beside = M.set(list, h, M.say(step))
  if step.want.keep and step.ns == "host" then
    local all = step.want.list
    require("cni.record.standing").keep(table.move(all, 1, #all, #beside + 1, beside))
  end
  if step.by_site and not are_switches(list) then M.kept(step, h) end
end

function M.verify(step, plan)
  local list, h = step.want.list, plan[step.ns]
  local now = M.values(h, list)
  -- One that need not be there is brought back where it is; not for ever, since it may not be written.
  local tries = plan.mode == "repair" and not plan.again
  for i, entry in ipairs(list) do
    if (not entry[3] or tries and now[i]) and not is(now[i], entry[2]) then
      return ("sysctl %s is %s, not %s"):format(entry[1], now[i] or "absent", entry[2])
    end
  end
end

function M.without(step, later)
  local want, list = {}, {}
  for i = #step.want.list, 1, -1 do
    local entry = step.want.list[i]
    local name = ("%s sysctl %s"):format(step.ns, entry[1])
    if not later[name] then table.insert(list, 1, entry) end
    later[name] = true
  end
  for key, value in pairs(step.want) do want[key] = value end
  want.list = list
  return setmetatable({ want = want }, { __index = step })
end

--- What an update sets on a link that is there already, that has had.
function M.before(to, plan, from)
  if from then return from.had end
  local h, had = plan[to.ns], {}
  if to.want.keep or h.absent then return nil end
  for i, value in ipairs(M.values(h, to.want.list)) do
    if value then had[#had + 1] = { to.want.list[i][1], value } end
  end
  return had
end

function M.key(step)
  local paths = {}
  for i, entry in ipairs(step.want.list) do paths[i] = entry[1] end
  return table.concat(paths, " ") .. (step.want.keep and " keep" or "")
end

function M.change(_, to, plan) M.run(to, plan) end

function M.undo(step, plan)
  local h = plan:at(step.ns)
  if h and step.had then M.give_back(step.had, h, plan) end
end

function M.say(step)
  local words = {}
  for i, entry in ipairs(step.want.list) do words[i] = entry[1] .. "=" .. entry[2] end
  local guard = begins_to_forward(step.want.list)
    and ", and accept_ra=2 on links that know routers by their advertisements" or ""
  return ("sysctl in the %s: %s%s"):format(step.ns == "pod" and "sandbox" or "host",
    table.concat(words, " "), guard)
end

return M
