-- SPDX-License-Identifier: MIT
--- Which network namespace an attachment is in.
--
-- A namespace is known by its cookie, which no other one ever has while the machine runs. Paths are
-- hints: one may be gone while the namespace lives on in a process or under another mount, or name
-- another namespace by now (a process number used again, a file bound anew). So the sandbox of a record
-- is looked for in this order: by the caller's path, the record's path, every mount of a namespace that
-- we see, every process. A namespace that none of them shows is gone.
--
-- A path names no namespace when it is not there, or when it is a file of another kind. Any other failure
-- (no descriptor left, no permission) does not say whether it names one, and is an error.
--
-- @module cni.record.sandbox

local fail = require "cni.fail"
local netlink = require "netlink"

local sys = netlink.sys
local errors = sys.errno

local M = {}

-- EINVAL is what netlink.ns says of a file that is no namespace, ESRCH what /proc does of a process
-- that has just ended.
local absent = { [errors.ENOENT] = true, [errors.ENOTDIR] = true, [errors.ESRCH] = true,
  [errors.EINVAL] = true }

local forbidden = { [errors.EACCES] = true, [errors.EPERM] = true }

-- What may be better the next time.
local passing = { [errors.EMFILE] = true, [errors.ENFILE] = true, [errors.ENOMEM] = true,
  [errors.EINTR] = true, [errors.EAGAIN] = true }

local function unreadable(msg, errno)
  fail.throw { code = passing[errno] and fail.codes.again or fail.codes.io, errno = errno, msg = msg }
end

--- Open the namespace that a path names.
-- @tparam string path
-- @treturn[1] ns
-- @return[2] nil there is none
-- @treturn[2] string why
-- @raise code 11 or 5 when that cannot be told
function M.open(path)
  local ns, msg, errno = netlink.ns.open(path)
  if not ns and not absent[errno] then unreadable(msg, errno) end
  return ns, msg
end

--- The cookie of a namespace.
-- @tparam ns ns
-- @treturn string
-- @raise code 11 or 5 when it cannot be read
function M.cookie(ns)
  local cookie, msg, errno = ns:cookie()
  if not cookie then unreadable(msg, errno) end
  return cookie
end

--- What a record says of its namespace, to know it again.
-- @tparam ns|nil ns
-- @treturn string cookie, "" for none
-- @treturn string|nil device and inode
-- @treturn string|nil the mount namespace that its path is of
function M.identity(ns)
  if not ns then return "" end
  return M.cookie(ns), ns:id(), (sys.readlink "/proc/self/ns/mnt")
end

-- The paths of namespaces that are mounted or that a process is in, by inode number in text.
local seen

local function note(inode, path)
  seen[inode] = seen[inode] or {}
  table.insert(seen[inode], path)
end

local function unescaped(path)
  return (path:gsub("\\(%d%d%d)", function(digits) return string.char(tonumber(digits, 8)) end))
end

local function look_around()
  seen = {}
  local mounts, msg, errno = sys.read_file "/proc/self/mountinfo"
  if not mounts and not absent[errno] then unreadable(msg, errno) end
  for inode, path in (mounts or ""):gmatch("[^\n ]+ %d+ %d+:%d+ net:%[(%d+)%] ([^\n ]+)") do
    note(inode, unescaped(path))
  end
  local processes
  processes, msg, errno = sys.list "/proc"
  if not processes and not absent[errno] then unreadable(msg, errno) end
  for _, pid in ipairs(processes or {}) do
    -- A process that ends meanwhile, or that we may not look into, shows nothing.
    local path, target = pid:find "^%d" and "/proc/" .. pid .. "/ns/net", nil
    if path then target, msg, errno = sys.readlink(path) end
    if path and not target and not absent[errno] and not forbidden[errno] then unreadable(msg, errno) end
    local inode = target and target:match "^net:%[(%d+)%]$"
    if inode then note(inode, path) end
  end
end

-- The namespace with a cookie, opened by the first of several paths that names it. All of them named one with
-- its inode number a moment ago.
local function first_that_is(cookie, paths)
  local problem
  for _, path in ipairs(paths) do
    local ok, ns = pcall(M.open, path)
    if ok and ns and M.cookie(ns) == cookie then return ns end
    problem = problem or not ok and ns
  end
  if problem then error(problem, 0) end
end

local function search(header)
  if not seen then look_around() end
  local inode = header.ns and header.ns:match ":(%d+)$"
  if inode then return first_that_is(header.cookie, seen[inode] or {}) end
  for _, paths in pairs(seen) do
    local ns = first_that_is(header.cookie, paths)
    if ns then return ns end
  end
end

local function is_of(header, ns)
  return ns and M.cookie(ns) == header.cookie
end

--- Where the sandbox of a record is.
-- @tparam table header of the record: `cookie`, `ns`, `netns`
-- @tparam[opt] table caller `ns`: the namespace that the caller's path names, and `problem`: why
-- that cannot be told
-- @treturn ns|nil nil: it is gone, or the record is of none
-- @raise when it cannot be told
function M.find(header, caller)
  if header.cookie == "" then return nil end
  local ns, problem = caller and caller.ns, caller and caller.problem
  if is_of(header, ns) then return ns end
  if header.netns then
    local ok, there = pcall(M.open, header.netns)
    if ok and is_of(header, there) then return there end
    problem = problem or not ok and there
  end
  ns = search(header)
  if not ns and problem then error(problem, 0) end
  return ns
end

--- Whether a record's sandbox is certainly gone, whatever somebody else believes: its path names
-- nothing, or another namespace, and nothing else shows it. A path of a process says nothing: the process
-- may be gone and the namespace be held by something else. Nor does one of another mount namespace.
-- @tparam table header of the record
-- @treturn boolean
function M.is_gone(header)
  local path = header.netns
  if header.cookie == "" or not path or path:find "^/proc/" then return false end
  local ok, found = pcall(M.find, header)
  return ok and not found and header.mnt ~= nil and header.mnt == sys.readlink "/proc/self/ns/mnt"
end

return M
