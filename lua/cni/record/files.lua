-- SPDX-License-Identifier: MIT
--- Looks at files and folders whose absence is an answer.
--
-- ENOENT and ENOTDIR say that something is not there. Any other errno is a look that failed (no descriptor
-- or memory left, no right, a bad disk): it says nothing of what is there, and is raised.
--
-- @module cni.record.files

local fail = require "cni.fail"
local sys = require("netlink").sys

local M = {}

local errors = sys.errno

--- Whether an errno says that what a path names is not there.
-- @tparam int|nil errno
-- @treturn boolean
function M.absent(errno)
  return errno == errors.ENOENT or errno == errors.ENOTDIR
end

--- What a function of netlink.sys gave, or nil when its path names nothing.
-- @param value what it returned first
-- @param msg
-- @param errno
-- @raise code 5 for any other failure
function M.unless_absent(value, msg, errno)
  if value ~= nil or M.absent(errno) then return value end
  fail.throw { code = fail.codes.io, msg = msg, errno = errno }
end

--- What a function of netlink.sys gave, which must not fail.
-- @param value what it returned first
-- @param msg
-- @param errno
-- @return the value
-- @raise code 5
function M.must(value, msg, errno)
  if value == nil then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return value
end

-- Errnos that say that a path names no program.
local nowhere = { [errors.ENOENT] = true, [errors.ENOTDIR] = true, [errors.ELOOP] = true,
  [errors.ENAMETOOLONG] = true }

--- A plugin's program, as CNI_PATH is searched: the first file of that name.
-- @tparam {string,...} folders
-- @string name
-- @treturn string|nil its path; nil: none of them has it
-- @treturn ?string what kept a folder from being looked into, when none has it as far as could be seen
-- @treturn ?integer its errno
function M.program(folders, name)
  local problem, failed
  for _, folder in ipairs(folders) do
    local path = (folder == "" and "." or folder) .. "/" .. name
    local stat, msg, errno = sys.stat(path)
    if stat and stat.type == "file" then return path end
    if not stat and not nowhere[errno] then problem, failed = problem or msg, failed or errno end
  end
  return nil, problem, failed
end

--- The names in a folder.
-- @tparam string path
-- @treturn {string,...} sorted; empty when there is no such folder
function M.list(path)
  local names = M.unless_absent(sys.list(path)) or {}
  table.sort(names)
  return names
end

--- A file's bytes.
-- @tparam string path
-- @treturn string|nil nil: there is no such file
function M.read(path)
  return M.unless_absent(sys.read_file(path))
end

--- Whether a path names something.
-- @tparam string path
-- @treturn boolean
function M.exists(path)
  return M.unless_absent(sys.stat(path)) ~= nil
end

--- A file's name from free text without a slash: what is too long keeps its start and ends in a digest.
-- @string text
-- @treturn string
function M.component(text)
  if #text <= 200 then return text end
  return text:sub(1, 150) .. "~" .. sys.hash64(text)
end

--- A folder's path that is right from anywhere: a record keeps it.
-- @string folder empty: the current one
-- @treturn string
function M.absolute(folder)
  local here = folder:sub(1, 1) ~= "/" and sys.readlink "/proc/self/cwd"
  if not here then return folder end
  return (folder == "" or folder == ".") and here or here .. "/" .. folder
end

return M
