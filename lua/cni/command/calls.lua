-- SPDX-License-Identifier: MIT
--- What a system call changes beside netlink, in words, for `luacni trace`.
-- @module cni.command.calls

local sys = require("netlink").sys

local M = {}

local function link_of(...)
  return sys.readlink(("/proc/%d/%s"):format(...))
end

-- The path that a directory's descriptor and a path in the thread's memory mean.
local function path_at(trace, e, dirfd, address)
  local path = trace:text(address)
  if not path then return "?" end
  if path:sub(1, 1) == "/" then return path end
  dirfd = dirfd & 0xffffffff
  local below = dirfd == 0xffffff9c and link_of(e.tid, "cwd") or link_of(e.tid, ("fd/%d"):format(dirfd))
  if not below then return path end
  return path == "" and below or (below == "/" and "" or below) .. "/" .. path
end

local here <const> = 0xffffff9c -- AT_FDCWD

local function words_of(bits, rows)
  local list = {}
  for _, row in ipairs(rows) do
    if bits & row[1] == row[1] then list[#list + 1] = row[2] end
  end
  return table.concat(list, " ")
end

local open_flags <const> = { { 0x400000, "unnamed" }, { 0x40, "create" }, { 0x80, "exclusive" },
  { 0x200, "truncate" }, { 0x400, "append" } }

-- Whether a file is no device, and none of the kernel's own but a setting: what changes there stays.
local function is_told(path)
  return path == "/dev/net/tun"
    or not path:find "^/dev/" and (not path:find "^/proc/" or path:find "^/proc/sys/")
end

local function open(trace, e, dirfd, address, flags)
  if flags & 3 == 0 and flags & 0x240 == 0 then return end
  local path = path_at(trace, e, dirfd, address)
  -- What a setting becomes, the write to it tells.
  if not is_told(path) or e.result >= 0 and path:find "^/proc/sys/" then return end
  local words = words_of(flags, open_flags)
  return "open", path .. (flags & 3 == 0 and "" or " for writing") .. (words == "" and "" or ", " .. words)
end

local kinds <const> = { { 0x40000000, "net" }, { 0x20000, "mnt" }, { 0x10000000, "user" },
  { 0x20000000, "pid" }, { 0x04000000, "uts" }, { 0x08000000, "ipc" }, { 0x02000000, "cgroup" },
  { 0x80, "time" } }

local function two_paths(word)
  return function(trace, e)
    return word, path_at(trace, e, here, e[1]) .. " -> " .. path_at(trace, e, here, e[2])
  end
end

local function one_path(word)
  return function(trace, e) return word, path_at(trace, e, here, e[1]) end
end

local ioctls <const> = { [0x400454ca] = "TUNSETIFF", [0x400454cb] = "TUNSETPERSIST", [0x8946] = "SIOCETHTOOL",
  [0x89a0] = "SIOCBRADDBR", [0x89a1] = "SIOCBRDELBR" }

-- By the name of the call: what it does and to what; nothing: it changes nothing.
local by_name <const> = {
  open = function(trace, e) return open(trace, e, here, e[1], e[2]) end,
  creat = function(trace, e) return open(trace, e, here, e[1], 0x241) end,
  openat = function(trace, e) return open(trace, e, e[1], e[2], e[3]) end,
  openat2 = function(trace, e)
    local how = trace:bytes(e[3], 8)
    if #how == 8 then return open(trace, e, e[1], e[2], (("<I8"):unpack(how))) end
  end,
  write = function(trace, e)
    local path = link_of(e.tid, ("fd/%d"):format(e[1] & 0xffffffff)) or ""
    if not path:find "^/proc/sys/" and not path:find "^/sys/" then return end
    return "write", path .. " " .. ("%q"):format(trace:datagrams()[1]:gsub("%s+$", ""))
  end,
  flock = function(_, e)
    local how = e[2] & 3
    if how == 0 then return end
    return "flock", ("%s %s"):format(link_of(e.tid, ("fd/%d"):format(e[1] & 0xffffffff)) or "?",
      how == 1 and "shared" or "exclusive")
  end,
  setns = function(_, e)
    local now = e.result == 0 and link_of(e.tid, "ns/net")
    local kind = words_of(e[2], kinds)
    if kind == "net" or kind == "" and now then return "setns", "net", now end
    return "setns", kind
  end,
  unshare = function(_, e)
    local kind = words_of(e[1], kinds)
    if kind == "" then return end
    return "unshare", kind, e.result == 0 and e[1] & 0x40000000 ~= 0 and link_of(e.tid, "ns/net") or nil
  end,
  mount = function(trace, e)
    local kind = trace:text(e[3])
    return "mount", ("%s on %s%s"):format(trace:text(e[1]) or "none", path_at(trace, e, here, e[2]),
      kind and kind ~= "" and " type " .. kind or "")
  end,
  umount2 = one_path "umount",
  move_mount = function(trace, e) return "move_mount", path_at(trace, e, e[3], e[4]) end,
  unlink = one_path "unlink", rmdir = one_path "rmdir", mkdir = one_path "mkdir",
  unlinkat = function(trace, e)
    return e[3] & 0x200 ~= 0 and "rmdir" or "unlink", path_at(trace, e, e[1], e[2])
  end,
  mkdirat = function(trace, e) return "mkdir", path_at(trace, e, e[1], e[2]) end,
  rename = two_paths "rename", link = two_paths "link",
  symlink = function(trace, e)
    return "symlink", path_at(trace, e, here, e[2]) .. " -> " .. (trace:text(e[1]) or "?")
  end,
  symlinkat = function(trace, e)
    return "symlink", path_at(trace, e, e[2], e[3]) .. " -> " .. (trace:text(e[1]) or "?")
  end,
  renameat = function(trace, e)
    return "rename", path_at(trace, e, e[1], e[2]) .. " -> " .. path_at(trace, e, e[3], e[4])
  end,
  ioctl = function(trace, e)
    local name = ioctls[e[2] & 0xffffffff]
    if not name then return end
    return "ioctl", name == "TUNSETPERSIST" and ("%s %d"):format(name, e[3])
      or name .. " " .. trace:bytes(e[3], 15):match "^[^%z]*"
  end,
  execve = function(trace, e)
    -- PATH is searched by trying.
    if e.error ~= "ENOENT" then return "exec", trace:text(e[1]) or "?" end
  end,
}
by_name.renameat2, by_name.linkat = by_name.renameat, function(trace, e)
  return "link", path_at(trace, e, e[1], e[2]) .. " -> " .. path_at(trace, e, e[3], e[4])
end

--- What a call changes.
-- @tparam userdata trace of netlink.trace
-- @tparam table e an event of it, of the kind "call"
-- @treturn ?string the verb; nil: nothing
-- @treturn ?string what it does that to
-- @treturn ?string the network namespace that the thread is in afterwards, as a link of /proc, where that
-- changed
function M.change(trace, e)
  local tell = by_name[e.call]
  if tell then return tell(trace, e) end
end

return M
