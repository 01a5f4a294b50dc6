-- SPDX-License-Identifier: MIT
--- Settings of the node that stay as we want them, told to those who set them again from files: `sysctl
-- --system`, systemd-sysctl. A file each in the folder of files that live as long as the node runs, behind
-- what packages and administrators have: as the settings themselves, it stays. (What `sysctl --system` of
-- procps takes from /etc/sysctl.conf comes last whatever there is.)
-- @module cni.record.standing

local sys = require("netlink").sys

local M = {}

--- The folder, see sysctl.d(5).
M.folder = "/run/sysctl.d"

-- Those programs set what the node has, whose namespace is that of its first process.
local function is_node()
  local own, first = sys.stat "/proc/self/ns/net", sys.stat "/proc/1/ns/net"
  return own and first and own.ino == first.ino and own.dev == first.dev
end

--- Have settings stay. Where no file can be written they are set all the same.
-- @tparam {table,...} list of { path below /proc/sys, value }, in the namespace that this process is in
function M.keep(list)
  if not is_node() then return end
  for _, entry in ipairs(list) do
    -- Behind 99-sysctl.conf, which leads to /etc/sysctl.conf on many a node.
    local path = ("%s/zz-luacni-%s.conf"):format(M.folder, (entry[1]:gsub("/", ".")))
    if not sys.stat(path) then
      sys.mkdirs(M.folder)
      -- A link may have gone by then: the minus says that this is no error.
      sys.write_file(path, ("# luacni: containers need it.\n-%s = %s\n"):format(entry[1], entry[2]), 420)
    end
  end
end

return M
