-- SPDX-License-Identifier: MIT
--- Sysctls as a configuration names them, and which of them it may set.
--
-- A name has dots or slashes, `net.ipv4.conf.IFNAME.arp_filter`; IFNAME is the sandbox's interface. It may be
-- set when a line of `/etc/cni/tuning/allowlist.conf` matches all of it. The lines are extended regular
-- expressions, which see the name as it is written, with IFNAME in it. Where there is no such file, what a
-- network namespace has of its own may be set. A file that cannot be read, or with a line that is no
-- expression, allows nothing; nor does a link to a file that is not there.
--
-- @module cni.sysctls

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local netlink = require "netlink"

local sys = netlink.sys
local M = {}

--- Where a node says which sysctls may be set.
M.allow_file = "/etc/cni/tuning/allowlist.conf"

-- What a namespace has of its own on the kernels that are in use; what is of the whole machine is not below
-- net there, or cannot be written.
local builtin <const> = {
  [[net\.core\.(somaxconn|optmem_max|tstamp_allow_data|txrehash|rps_default_mask)]],
  [[net\.core\.([rw]mem_(default|max)|xfrm_[a-z_]+)]],
  [[net\.ipv4\.(tcp|udp|icmp|igmp|ip|ipfrag|fib|ping|fwmark|raw|nexthop|xfrm4)_[a-z0-9_]+]],
  [[net\.ipv6\.[a-z0-9_]+]],
  [[net\.ipv[46]\.(route|icmp|vs)\.[a-z0-9_]+]],
  [[net\.ipv[46]\.(conf|neigh)\..+\.[a-z0-9_]+]],
  [[net\.(bridge|ieee802154|mpls|mptcp|netfilter|sctp|unix|vsock)\..+]],
}

local function lines_of(text)
  local lines = {}
  for line in text:gmatch "[^\r\n]+" do
    line = line:match "^%s*(.-)%s*$"
    if line ~= "" then lines[#lines + 1] = line end
  end
  return lines
end

-- The expressions that count, and what they are called; every one is looked at, so that a broken file is
-- found whichever name is asked for.
local function allowed()
  local text, msg, errno = sys.read_file(M.allow_file)
  if not text then
    -- Where a link leads nowhere, somebody meant to have a list.
    local absent = files.absent(errno) and not files.unless_absent(sys.readlink(M.allow_file))
    if absent then return builtin end
    fail.throw { code = fail.codes.io, msg = msg, errno = errno,
      hint = "while it cannot be read, no sysctl may be set" }
  end
  local patterns = lines_of(text)
  for i, pattern in ipairs(patterns) do
    local ok, why = sys.matches(pattern, "")
    if ok == nil then
      fail.config(M.allow_file, ("expression %d, %s: %s"):format(i, json.show(pattern), why),
        "while one of its lines is no regular expression, no sysctl may be set")
    end
  end
  return patterns
end

local function may_be_set(patterns, name)
  for _, pattern in ipairs(patterns) do
    if sys.matches(pattern, name) then return true end
  end
  return false
end

-- Its path below /proc/sys; or nil and what is wrong with the name. The dots become slashes before the
-- interface is put in, which may have dots.
local function path_of(name, ifname)
  local path = name:gsub("%.", "/"):gsub("IFNAME", (ifname:gsub("%%", "%%%%")), 1)
  for part in (path .. "/"):gmatch "(.-)/" do
    if part == "" or part == "." or part == ".." or part:find("%c") then
      return nil, "is no name of a sysctl, such as net.ipv4.ip_local_port_range"
    end
  end
  if path:sub(1, 4) ~= "net/" then
    return nil, "is not below net: the rest of /proc/sys is the whole machine's"
  end
  return path
end

--- What is wrong with the names of sysctls, for a rule of a schema.
-- @tparam ?{[string]=string,...} values by name
-- @treturn ?string nil: nothing
function M.problem(values)
  local names = {}
  for name in pairs(values or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local path, problem = path_of(name, "eth0")
    if not path then return ("sysctl: %s %s"):format(json.show(name), problem) end
  end
end

-- Those of all links, or of links to come, before those of one: they change it too.
local function rank(path)
  if path:find "/all/" then return 1 end
  return path:find "/default/" and 2 or 3
end

--- Raise an error unless all sysctls of a configuration may be set on this node.
-- @tparam {[string]=string,...} values by name
-- @string[opt="sysctl"] where the key, for messages
-- @raise code 7: one may not be, or the list has a line that is no expression; code 5: it cannot be read
function M.need_allowed(values, where)
  local patterns = next(values) and allowed()
  for name in pairs(values) do
    if not may_be_set(patterns, name) and not may_be_set(patterns, (name:gsub("/", "."))) then
      fail.config((where or "sysctl") .. "." .. name, "may not be set here", patterns == builtin
        and ("list it in %s, with all others that may be set"):format(M.allow_file)
        or ("no line of %s matches all of it"):format(M.allow_file))
    end
  end
end

--- The sysctls that a configuration wants, in an order in which none undoes another.
-- @tparam {[string]=string,...} values by name
-- @string ifname what IFNAME stands for
-- @string[opt="sysctl"] where the key, for messages
-- @treturn table list of { path, value } for `set_sysctl`
-- @raise code 7: a name that is none, or one sysctl under two names
function M.paths(values, ifname, where)
  where = where or "sysctl"
  local list, seen = {}, {}
  for name, value in pairs(values) do
    local path, problem = path_of(name, ifname)
    if not path then fail.config(where .. "." .. name, problem) end
    if seen[path] then fail.config(where, ("%s is set twice"):format(path)) end
    seen[path], list[#list + 1] = true, { path, value }
  end
  table.sort(list, function(a, b)
    local one, other = rank(a[1]), rank(b[1])
    if one ~= other then return one < other end
    return a[1] < b[1]
  end)
  return list
end

return M
