-- SPDX-License-Identifier: MIT
--- Objects that attachments share: who uses them, and who made them.
--
--     /run/luacni/shared/GROUP/lock            held shared while one joins, exclusive to make or remove
--     /run/luacni/shared/GROUP/facts           what was made here, and what was there before (JSON)
--     /run/luacni/shared/GROUP/OBJECT/USER     an empty file an attachment
--
-- A group is a link, its objects are the link itself and addresses on it; or the links on one master,
-- its object what they agree on. Joining is making a file, leaving is removing it, and whoever can
-- then remove the directory was the last: no counter that a killed process could leave wrong, and
-- nothing that grows with the number of users.
--
-- @module cni.shared

local fail = require "cni.fail"
local json = require "cni.json"
local netlink = require "netlink"

local sys = netlink.sys

local M = {}

--- Where the files live.
M.root = "/run/luacni/shared"

local function path_of(group, name)
  return M.root .. "/" .. group .. (name and "/" .. name:gsub("/", ",") or "")
end

local function user_of(owner)
  local user = ("%s:%s:%s"):format(owner.network, owner.id, owner.ifname)
  return #user <= 200 and user or user:sub(1, 150) .. "~" .. sys.hash64(user)
end

local function check(ok, msg, errno)
  if ok == nil and errno then
    fail.throw { code = fail.codes.io, msg = "keep track of shared links: " .. msg }
  end
  return ok
end

--- Lock a group.
-- @tparam string group
-- @tparam string how "shared" or "exclusive"
-- @return the lock; close it
function M.lock(group, how)
  for _ = 1, 1000 do -- the last to leave removes the folder, perhaps between our two steps
    local lock, msg, errno = sys.open_locked(path_of(group, "lock"), how, 30000)
    if lock then return lock end
    if errno == sys.errno.ETIMEDOUT then
      fail.throw { code = fail.codes.again, msg = "link " .. group .. " is locked for 30 seconds" }
    elseif errno ~= sys.errno.ENOENT then
      check(nil, msg, errno)
    end
    check(sys.mkdirs(path_of(group), 448))
  end
  fail.throw { code = fail.codes.again, msg = "link " .. group .. " keeps changing hands" }
end

--- Become a user of an object. Hold the group's lock.
function M.join(group, object, owner)
  local dir = path_of(group, object)
  for _ = 1, 1000 do -- whoever leaves may remove the directory between our two steps
    local ok, msg, errno = sys.touch(dir .. "/" .. user_of(owner), 384)
    if ok then return end
    if errno ~= sys.errno.ENOENT then check(nil, msg, errno) end
    check(sys.mkdirs(dir, 448))
  end
  fail.throw { code = fail.codes.again, msg = "link " .. group .. " keeps changing hands" }
end

--- Stop being a user.
-- @treturn boolean true when nobody uses it any more
function M.leave(group, object, owner)
  local dir = path_of(group, object)
  check(sys.unlink(dir .. "/" .. user_of(owner)))
  local gone, _, errno = sys.rmdir(dir)
  return gone ~= nil or errno == sys.errno.ENOENT
end

--- Whether an object has users.
function M.used(group, object)
  return sys.stat(path_of(group, object)) ~= nil
end

--- The objects of a group that have users.
-- @treturn {string,...} names, as they are on disk
function M.objects(group)
  local objects = {}
  for _, name in ipairs(sys.list(path_of(group)) or {}) do
    if name ~= "lock" and name ~= "facts" and name:sub(1, 1) ~= "." then
      objects[#objects + 1] = name
    end
  end
  return objects
end

--- Some user of an object, for messages.
-- @treturn string|nil "network:id:ifname"
function M.a_user(group, object)
  local users = sys.list(path_of(group, object))
  return users and users[1]
end

--- What was made here, and what was there before.
-- @treturn table `link`: nil, { mac =, kind =, vrf_table = } of one made here, or { before = {...} },
-- what was found; `addrs`: { [cidr] = true }, put there; `removed`: { [cidr] = { {...}, ... } }, the
-- addresses that were taken away for one, as they were
function M.facts(group)
  local text = sys.read_file(path_of(group, "facts"))
  local ok, facts = pcall(json.decode, text or "{}", "facts")
  facts = ok and facts or {}
  facts.addrs, facts.removed = facts.addrs or {}, facts.removed or {}
  return facts
end

--- Write that down; hold the lock exclusively.
function M.save(group, facts)
  if facts.link or next(facts.addrs) or next(facts.removed) then
    check(sys.write_file(path_of(group, "facts"), json.compact(facts), 384))
  else
    check(sys.unlink(path_of(group, "facts")))
  end
end

--- Remove the group's folder when nothing is left in it but the lock, which is let go.
-- @param lock held exclusively
function M.tidy(group, lock)
  local names = sys.list(path_of(group)) or {}
  for i = #names, 1, -1 do
    -- A file half written by somebody who was killed: we alone hold the lock.
    if names[i]:sub(1, 1) == "." then
      sys.unlink(path_of(group, table.remove(names, i)))
    end
  end
  if #names == 1 and names[1] == "lock" then
    -- Whoever waits for this lock finds that the path names another file, and asks again.
    sys.unlink(path_of(group, "lock"))
    sys.rmdir(path_of(group))
  end
  lock:close()
end

return M
