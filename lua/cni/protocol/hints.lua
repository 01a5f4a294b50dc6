-- SPDX-License-Identifier: MIT
--- What only an error needs: the cause of a kernel's refusal, when it can be seen, and the nearest
-- valid word to a mistyped one. Loaded when something went wrong, never before.
--
-- An errno has many causes. So a cause is named only when it was seen, or when the errno can mean nothing
-- else. Where a step knows more (which link, which address), it says so itself.
-- @module cni.protocol.hints

local netlink = require "netlink"

local sys = netlink.sys
local errors = sys.errno
local M = {}

local options = {
  macvtap = "CONFIG_MACVTAP", macvlan = "CONFIG_MACVLAN", ipvtap = "CONFIG_IPVTAP",
  ipvlan = "CONFIG_IPVLAN", vxlan = "CONFIG_VXLAN", veth = "CONFIG_VETH", netkit = "CONFIG_NETKIT",
  geneve = "CONFIG_GENEVE", wireguard = "CONFIG_WIREGUARD", macsec = "CONFIG_MACSEC",
  dummy = "CONFIG_DUMMY", bond = "CONFIG_BONDING", team = "CONFIG_NET_TEAM",
  ip6gre = "CONFIG_IPV6_GRE", gre = "CONFIG_NET_IPGRE", gretap = "CONFIG_NET_IPGRE",
  ipip = "CONFIG_NET_IPIP", sit = "CONFIG_IPV6_SIT", xfrm = "CONFIG_XFRM_INTERFACE",
  vrf = "CONFIG_NET_VRF", ifb = "CONFIG_IFB", vlan = "CONFIG_VLAN_8021Q",
  bridge = "CONFIG_BRIDGE",
}

local function line_of(path, pattern)
  return (sys.read_file(path) or ""):match(pattern)
end

-- Whether this process has a capability, by its number.
local function is_capable(number)
  local set = line_of("/proc/self/status", "CapEff:%s*(%x+)")
  return set and tonumber(set, 16) >> number & 1 == 1
end

local net_admin <const> = 12

-- What this process lacks, or where it stands.
local function privileges()
  if is_capable(net_admin) == false then
    return "this process has no CAP_NET_ADMIN: run as root"
  end
  if not line_of("/proc/self/uid_map", "^%s*0%s+0%s+4294967295%s*$") then
    return "this process is in a user namespace, and may change only network namespaces that belong to it"
  end
end

--- Whether the kernel has IPv6 at all.
-- @treturn ?string that it has not
function M.no_ipv6()
  local _, _, errno = sys.stat("/proc/sys/net/ipv6")
  if errno == errors.ENOENT then
    return "this kernel has no IPv6: it is not built in, or switched off (ipv6.disable=1)"
  end
end

--- Whether IPv6 is switched off for a link.
-- @tparam table handle of its namespace
-- @string link its name
-- @treturn ?string that it is
function M.ipv6_off(handle, link)
  local path = ("net/ipv6/conf/%s/disable_ipv6"):format(link)
  local now = netlink.ns.sysctl_get(handle.where, { path })
  if now and now[1] == "1" then
    return ("IPv6 is switched off on %s: /proc/sys/%s is 1"):format(link, path)
  end
  return M.no_ipv6()
end

local function limit_of_files()
  local limit = line_of("/proc/self/limits", "Max open files%s+(%d+)")
  return limit and ("this process may have %s files open (ulimit -n)"):format(limit)
end

local function files_of_system()
  local limit = line_of("/proc/sys/fs/file-max", "%d+")
  return limit and ("the machine has all files open that it may, fs.file-max = %s"):format(limit)
end

-- By errno: what there is to see.
local looks = {
  [errors.EPERM] = privileges,
  [errors.EACCES] = privileges,
  [errors.ENFILE] = files_of_system,
  [errors.EMFILE] = limit_of_files,
  [errors.EAFNOSUPPORT] = M.no_ipv6,
}

-- Which capability opens what belongs to root: of files, and of namespaces.
local openers = { [errors.EACCES] = { 1, "CAP_DAC_OVERRIDE" }, [errors.EPERM] = { 21, "CAP_SYS_ADMIN" } }

--- Why a file or a namespace could not be opened.
-- @tparam integer errno
-- @treturn ?string nil when there is no cause to be seen
function M.file(errno)
  if errno == errors.EMFILE or errno == errors.ENFILE then return looks[errno]() end
  local number, name = table.unpack(openers[errno] or {})
  if number and is_capable(number) == false then
    return ("this process has no %s: run as root"):format(name)
  end
end

--- The cause of a refusal, for people.
-- @tparam integer errno
-- @string text step, object, and the kernel's own words
-- @string[opt] kind of the link that the step makes
-- @treturn ?string nil when there is none to be seen
function M.kernel(errno, text, kind)
  if errno == errors.EOPNOTSUPP and text:find("Unknown device type", 1, true) then
    return options[kind] and ("this kernel makes no links of kind %s: %s is off, or its module is "
      .. "not there"):format(kind, options[kind])
  end
  return looks[errno] and looks[errno]()
end

-- Expressions that refer to no other object: for these ENOENT can only mean that their own module is missing.
local expressions = { masq = "CONFIG_NFT_MASQ", fib = "CONFIG_NFT_FIB", nat = "CONFIG_NFT_NAT",
  ct = "CONFIG_NFT_CT" }

--- Why nf_tables knows "no such file or directory" of a rule.
-- @tparam ?table entry of the batch, that was refused
-- @string text the refusal: it says at which expression
-- @treturn ?string nil when it is not for want of an expression
function M.expression(entry, text)
  local nth = math.tointeger(text:match("exprs%[(%d+)%]"))
  local exprs = nth and entry and entry[3].exprs
  local option = exprs and exprs[nth] and expressions[exprs[nth][1]]
  return option and ("this kernel has no expression %s: %s is off, or its module is not there"):format(
    exprs[nth][1], option)
end

-- Families of tables that a kernel may do without.
local families = { bridge = "CONFIG_NF_TABLES_BRIDGE", netdev = "CONFIG_NF_TABLES_NETDEV" }

--- Why a batch of nf_tables was refused.
-- @tparam table entry of the batch, that was refused
-- @string text the refusal
-- @tparam integer errno
-- @treturn ?string nil when there is nothing to be seen
function M.batch(entry, text, errno)
  local attrs = entry[3]
  local option = entry[2] == "chain" and attrs.type and families[attrs.family]
  if option and (errno == errors.ENOENT or errno == errors.EOPNOTSUPP or errno == errors.EAFNOSUPPORT) then
    return ("this kernel has no nf_tables for frames of the family %s: %s is off, or its module is not there")
      :format(attrs.family, option)
  end
  if entry[2] == "table" and (errno == errors.EOPNOTSUPP or errno == errors.EAFNOSUPPORT) then
    return ("this kernel has no nf_tables for tables of the family %s: CONFIG_NF_TABLES or " ..
      "CONFIG_NF_TABLES_%s is off, or its module is not there"):format(attrs.family, attrs.family:upper())
  end
  return errno == errors.ENOENT and M.expression(entry, text) or nil
end

-- The edit distance of two words: how many letters are added, left out, replaced, or swapped with their
-- neighbour. Above `limit` it is not worked out.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local above, row = {}, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local before, best = above, i
    above, row = row, { [0] = i }
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      row[j] = math.min(same and above[j - 1] or above[j - 1] + 1, above[j] + 1, row[j - 1] + 1)
      if not same and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        row[j] = math.min(row[j], before[j - 2] + 1)
      end
      best = math.min(best, row[j])
    end
    if best > limit then return limit + 1 end
  end
  return row[#b]
end

-- The valid word that begins with `word`, which was cut short; nil when there are several, or when `word` has
-- less than three letters.
local function longer(word, valid)
  local found
  for _, candidate in ipairs(#word >= 3 and valid or {}) do
    if candidate:sub(1, #word):lower() == word then
      if found then return nil end
      found = candidate
    end
  end
  return found
end

--- The valid word that was probably meant.
-- @string word
-- @tparam {string,...} valid
-- @treturn ?string nil when none is near
function M.nearest(word, valid)
  if #word > 64 then return nil end
  local folded = word:lower()
  local limit = math.max(1, #word // 3)
  local found, found_at
  for _, candidate in ipairs(valid) do
    local d = distance(folded, candidate:lower(), limit)
    if d <= limit and (not found or d < found_at or d == found_at and candidate < found)
    then
      found, found_at = candidate, d
    end
  end
  return (not found or found_at > 1) and longer(folded, valid) or found
end

-- What other tools and configurations call what our verbs call otherwise, for each the names here.
local elsewhere <const> = {
  via = "gw", gateway = "gw", nexthop = "gw", gw = "gateway", dev = "link", device = "link", parent = "link",
  lower = "link", metric = "priority", pref = "priority", preference = "priority", prio = "priority",
  qlen = "txqlen", txqueuelen = "txqlen", address = "mac", lladdr = "mac", hwaddr = "mac", type = "kind",
  to = "dst", dest = "dst", destination = "dst", prefix = "dst", addr = "address", ip = "address dst",
  cidr = "address", namespace = "ns", state = "up", lookup = "table", vid = "vlan", vlan = "vid", id = "vid",
  dstport = "vxlan_port port", hwmode = "port", nomaster = "master",
}

-- The shortest valid word that ends in _WORD, such as macvlan_mode of mode; nil when two are as short.
local function ending(word, valid)
  local found
  for _, candidate in ipairs(valid) do
    if candidate:sub(-#word - 1) == "_" .. word then
      if found and #found == #candidate then return nil end
      if not found or #candidate < #found then found = candidate end
    end
  end
  return found
end

--- What a word that others use is called here.
-- @string word
-- @tparam {string,...} valid
-- @treturn ?string one of `valid`
function M.here(word, valid)
  local is_valid = {}
  for _, candidate in ipairs(valid) do is_valid[candidate] = true end
  for name in (elsewhere[word] or ""):gmatch "%S+" do
    if is_valid[name] then return name end
  end
end

-- More names than this are no help.
local most_named <const> = 16

--- What to write in place of an unknown word: what it is called here, the nearest, or all that there are.
-- @tparam string word
-- @tparam {string,...} valid
-- @tparam ?string|boolean page of `luacni doc` that lists them, where they are many; false: they are told
-- elsewhere
-- @treturn string " (...)"; or ""
function M.instead(word, valid, page)
  local name = M.here(word, valid)
  if name then return (" (here it is '%s')"):format(name) end
  name = M.nearest(word, valid) or ending(word, valid)
  if name then return (" (did you mean '%s'?)"):format(name) end
  if page == false or not valid[1] then return "" end
  if #valid <= most_named then
    return (" (there %s %s)"):format(valid[2] and "are" or "is", table.concat(valid, ", "))
  end
  return page and (" (`luacni doc %s` lists them)"):format(page)
    or (" (there are %s and %d more)"):format(table.concat(valid, ", ", 1, most_named), #valid - most_named)
end

--- A question to put at the end of an error, or nil.
-- @string word
-- @tparam {string,...} valid
-- @treturn ?string
function M.did_you_mean(word, valid)
  local near = M.nearest(word, valid)
  return near and 'did you mean "' .. near .. '"?' or nil
end

return M
