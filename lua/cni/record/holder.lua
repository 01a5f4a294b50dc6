-- SPDX-License-Identifier: MIT
--- Which process holds the lock that a call waited for in vain. Loaded only when a wait was given up.
-- @module cni.record.holder

local fail = require "cni.fail"
local netlink = require "netlink"

local sys = netlink.sys
local M = {}

-- Whether a process has a file open. On overlay file systems /proc/locks and stat(2) number the device in
-- different ways: so only the inode is compared there, and this decides.
local function has_open(pid, stat)
  local dir = ("/proc/%s/fd"):format(pid)
  for _, fd in ipairs(sys.list(dir) or {}) do
    local other = sys.stat(dir .. "/" .. fd)
    if other and other.ino == stat.ino and other.dev == stat.dev then return true end
  end
  return false
end

-- A process of another PID namespace is not listed.
local function pid_of(path)
  local stat = sys.stat(path)
  if not stat then return nil end
  for line in (sys.read_file("/proc/locks") or ""):gmatch("[^\n]+") do
    local pid, inode = line:match("^%d+: FLOCK%s+%S+%s+%S+%s+(%d+)%s+%x+:%x+:(%d+)")
    if pid and math.tointeger(inode) == stat.ino and has_open(pid, stat) then
      return math.tointeger(pid)
    end
  end
end

local function split(text)
  local words = {}
  for word in (text or ""):gmatch("[^\0]+") do words[#words + 1] = word end
  return words
end

-- Name of the program, and what it was called for if it is a CNI call.
local function describe(pid)
  local command = split(sys.read_file(("/proc/%d/cmdline"):format(pid)))
  local text = ("process %d"):format(pid)
  if not command[1] then return text end
  local env = {}
  for _, entry in ipairs(split(sys.read_file(("/proc/%d/environ"):format(pid)))) do
    local key, value = entry:match("^(CNI_%u+)=(.*)$")
    if key then env[key] = value end
  end
  local name = table.concat(command, " ")
  if #name > 120 then name = name:sub(1, 117) .. "..." end
  text = ("%s (%s)"):format(text, (name:gsub("%c", " ")))
  if not env.CNI_COMMAND then return text end
  return ("%s, %s of %s of container %s"):format(text, env.CNI_COMMAND, env.CNI_IFNAME or "?",
    env.CNI_CONTAINERID or "?")
end

--- Who holds the lock of a file right now.
-- @string path
-- @treturn ?string a process in words, for a hint; nil when it is not to be seen
function M.of_lock(path)
  local pid = pid_of(path)
  return pid and "it is locked by " .. describe(pid) or nil
end

--- Raise that a lock was not to be had in time.
-- @string what is to be done: "allocate"
-- @string path of the file that is locked
-- @tparam number seconds that were waited
-- @raise code 11, with who holds it, where that is to be seen
function M.refuse(what, path, seconds)
  fail.throw { code = fail.codes.again, errno = netlink.sys.errno.ETIMEDOUT, hint = M.of_lock(path),
    msg = ("%s: another call has held the lock %s for %.0f s"):format(what, path, seconds) }
end

return M
