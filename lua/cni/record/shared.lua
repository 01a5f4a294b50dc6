-- SPDX-License-Identifier: MIT
--- Objects that attachments share: who uses them, and who made them.
--
--     /run/luacni/shared/GROUP/lock            held shared while one joins, exclusive to make or remove
--     /run/luacni/shared/GROUP/facts           what was made here, and what was there before (JSON)
--     /run/luacni/shared/GROUP/OBJECT/USER     an empty file an attachment
--
-- A group is what is locked together: a link, whose objects are the link itself and addresses on it; the
-- links on one master, whose object is what they agree on; all entries or values of a namespace, the numbers
-- of a pool. Its name ends in the cookie of its namespace, since several hosts may share our /run (`group` of
-- cni.engine.namespace). To join is to make a file, to leave is to remove it, and whoever can then remove the
-- directory was the last: so there is no counter that a killed process could leave wrong.
--
-- What cannot be read is an error, and never taken for "none": only ENOENT says that there is
-- nothing, and only ENOTEMPTY that others use a thing.
--
-- @module cni.record.shared

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local netlink = require "netlink"

local sys = netlink.sys

local M = {}

--- Where the files live.
M.root = "/run/luacni/shared"

local function path_of(group, name)
  return M.root .. "/" .. group .. (name and "/" .. name:gsub("/", ",") or "")
end

-- `owner.part` tells the uses of one attachment apart, where it may have several.
local function user_of(owner)
  local user = ("%s:%s:%s"):format(owner.network, owner.id, owner.ifname)
  if #user > 200 then user = user:sub(1, 150) .. "~" .. sys.hash64(user) end
  return owner.part and user .. ":" .. owner.part or user
end

local function check(ok, msg, errno)
  if ok == nil and errno then
    fail.throw { code = fail.codes.io, errno = errno, msg = "keep track of shared links: " .. msg }
  end
  return ok
end

-- A folder that is not empty: the kernel may say so in two ways.
local occupied = { [sys.errno.ENOTEMPTY] = true, [sys.errno.EEXIST] = true }

-- Older versions called groups of the host by the name alone, without a cookie. The first call that looks for
-- the new name renames the old folder to it.
local function adopt(group)
  local name, cookie = group:match "^(.*):(%d+)$"
  if not name or not files.exists(path_of(name)) then return false end
  local own <close> = netlink.ns.self()
  if not own or own:cookie() ~= cookie then return false end
  local done, msg, errno = sys.rename(path_of(name), path_of(group))
  return occupied[errno] == nil and check(done, msg, errno)
end

--- The group that a step's object is in.
-- @tparam table step
-- @tparam handle h of its namespace
-- @tparam string name what to call it when the step does not tell, being one of an old record
-- @treturn string
function M.group(step, h, name)
  if step.want.group then return step.want.group end
  local group = h:group(name)
  adopt(group)
  return group
end

--- Lock a group.
-- @tparam string group
-- @tparam string how "shared" or "exclusive"
-- @return the lock; close it
function M.lock(group, how)
  for _ = 1, 1000 do -- another call may remove the folder between our mkdirs and our open
    local lock, msg, errno = sys.open_locked(path_of(group, "lock"), how, 30000)
    if lock then return lock end
    if errno == sys.errno.ETIMEDOUT then
      fail.throw { code = fail.codes.again, errno = errno,
        msg = ("what attachments share as %s has been locked for 30 seconds"):format(group),
        hint = require("cni.record.holder").of_lock(path_of(group, "lock")) }
    elseif errno ~= sys.errno.ENOENT then
      check(nil, msg, errno)
    end
    if not adopt(group) then check(sys.mkdirs(path_of(group), 448)) end
  end
  fail.throw { code = fail.codes.again, msg = "link " .. group .. " keeps changing hands" }
end

--- Become a user of an object. Hold the group's lock.
-- @tparam string group
-- @tparam string object
-- @tparam table owner `network`, `id`, `ifname`; `part`, where it uses an object in several
function M.join(group, object, owner)
  local dir = path_of(group, object)
  for _ = 1, 1000 do -- another call may remove the folder between our mkdirs and our touch
    local ok, msg, errno = sys.touch(dir .. "/" .. user_of(owner), 384)
    if ok then return end
    if errno ~= sys.errno.ENOENT then check(nil, msg, errno) end
    check(sys.mkdirs(dir, 448))
  end
  fail.throw { code = fail.codes.again, msg = "link " .. group .. " keeps changing hands" }
end

--- Stop being a user.
-- @tparam string group
-- @tparam string object
-- @tparam table owner `network`, `id`, `ifname`; `part`, where it uses an object in several
-- @treturn boolean true when nobody uses it any more
function M.leave(group, object, owner)
  local dir = path_of(group, object)
  check(sys.unlink(dir .. "/" .. user_of(owner)))
  local gone, msg, errno = sys.rmdir(dir)
  if occupied[errno] then return false end
  check(gone, msg, errno)
  return true
end

-- The names of an owner's uses of an object.
local function uses_of(group, object, owner)
  local prefix, found = user_of(owner) .. ":", {}
  for _, name in ipairs(files.list(path_of(group, object))) do
    if name:sub(1, #prefix) == prefix then found[#found + 1] = name end
  end
  return found
end

--- Whether an owner uses an object, in whatever part.
-- @tparam string group
-- @tparam string object
-- @tparam table owner `network`, `id`, `ifname`; `part`, where it uses an object in several
-- @treturn boolean
function M.has(group, object, owner)
  return #uses_of(group, object, owner) > 0
end

--- Stop being a user, with all parts.
-- @tparam string group
-- @tparam string object
-- @tparam table owner `network`, `id`, `ifname`; `part`, where it uses an object in several
function M.leave_all(group, object, owner)
  for _, name in ipairs(uses_of(group, object, owner)) do
    check(sys.unlink(path_of(group, object) .. "/" .. name))
  end
  local gone, msg, errno = sys.rmdir(path_of(group, object))
  if not occupied[errno] then check(gone, msg, errno) end
end

--- Whether an object has users.
-- @tparam string group
-- @tparam string object
-- @treturn boolean
function M.used(group, object)
  return files.exists(path_of(group, object))
end

--- The objects of a group that have users.
-- @tparam string group
-- @treturn {string,...} names, as they are on disk
function M.objects(group)
  local objects = {}
  for _, name in ipairs(files.list(path_of(group))) do
    if name ~= "lock" and name ~= "facts" and name:sub(1, 1) ~= "." then
      objects[#objects + 1] = name
    end
  end
  return objects
end

--- Some user of an object, for messages.
-- @tparam string group
-- @tparam string object
-- @treturn string|nil "network:id:ifname"
function M.a_user(group, object)
  return files.list(path_of(group, object))[1]
end

local function decoded(text, path)
  -- An older version ended no line.
  local ok, facts = pcall(json.decode_lines, text:gsub("\n*$", "\n", 1), "facts")
  if ok then facts = facts[1] end
  if ok and type(facts) ~= "table" then ok, facts = false, "not an object" end
  for _, key in ipairs { "link", "addrs", "removed", "values", "made" } do
    if ok and facts[key] ~= nil and type(facts[key]) ~= "table" then
      ok, facts = false, key .. " is not an object"
    end
  end
  if ok then return facts end
  fail.throw { code = fail.codes.io, msg = ("%s cannot be understood: %s"):format(path, tostring(facts)),
    hint = "it says what was there before the first attachment; without it that is not put back" }
end

--- What was made here, and what was there before.
-- @tparam string group
-- @treturn table
--   link     of one made here { mac =, kind =, vrf_table =, mtu =, options =, stays = }; of one that was
--            there { before = {...} }, what it had; or nil
--   addrs    { [cidr] = true or "stays" }: addresses that were put on the link
--   removed  { [cidr] = { {...}, ... } }: addresses that were taken away for one, as they were
--   values   see cni.record.values
--   made     { [key] = true }: entries that were made here, see cni.step.entry
-- @raise code 5 when they are there and cannot be read
function M.facts(group)
  local path = path_of(group, "facts")
  local text = files.read(path)
  local facts = text and decoded(text, path) or {}
  facts.addrs, facts.removed = facts.addrs or {}, facts.removed or {}
  return facts
end

--- Write the facts; hold the lock exclusively.
-- @tparam string group
-- @tparam table facts as of @{facts}
function M.save(group, facts)
  if facts.link or next(facts.addrs) or next(facts.removed) or next(facts.values or {})
    or next(facts.made or {}) then
    check(sys.write_file(path_of(group, "facts"), json.sorted_note(facts) .. "\n", 384))
  else
    check(sys.unlink(path_of(group, "facts")))
  end
end

--- Change the facts, which most often need no change. It is no error when there is no room to write them: a
-- full /run must not keep the rest of an attachment from being taken back.
-- @tparam string group not locked
-- @tparam function change is given the facts; it changes them and returns true, or returns false
function M.note(group, change)
  if not change(M.facts(group)) then return end
  local lock <close> = M.lock(group, "exclusive")
  local facts = M.facts(group)
  local ok, err = pcall(function()
    if change(facts) then M.save(group, facts) end
  end)
  M.tidy(group, lock)
  if not ok and fail.wrap(err).errno ~= sys.errno.ENOSPC then error(err, 0) end
end

--- Remove the group's folder when nothing is left in it but the lock, which is let go.
-- @tparam string group
-- @param lock of the group, held exclusively
function M.tidy(group, lock)
  local _ <close> = lock
  local path = path_of(group)
  local names = files.list(path)
  for i = #names, 1, -1 do
    -- Left by a writer that was killed: nobody else holds the lock.
    if names[i]:sub(1, 1) == "." then
      check(sys.unlink(path .. "/" .. table.remove(names, i)))
    end
  end
  if #names ~= 1 or names[1] ~= "lock" then return end
  -- Whoever waits for this lock finds that the path names another file, and asks again.
  check(sys.unlink(path .. "/lock"))
  local gone, msg, errno = sys.rmdir(path)
  if not occupied[errno] then check(gone, msg, errno) end
end

return M
