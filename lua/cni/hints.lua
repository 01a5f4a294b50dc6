-- SPDX-License-Identifier: MIT
--- What only an error needs: probable causes of kernel refusals, and the nearest valid
-- word to a mistyped one. Loaded when something went wrong, never before.
-- @module cni.hints

local M = {}

-- Ordered: the first word found in the description of the step decides, so a longer
-- word stands before one that it contains.
local options = {
  { "macvtap", "CONFIG_MACVTAP" },
  { "macvlan", "CONFIG_MACVLAN" },
  { "ipvtap", "CONFIG_IPVTAP" },
  { "ipvlan", "CONFIG_IPVLAN" },
  { "vxlan", "CONFIG_VXLAN" },
  { "veth", "CONFIG_VETH" },
  { "netkit", "CONFIG_NETKIT" },
  { "geneve", "CONFIG_GENEVE" },
  { "wireguard", "CONFIG_WIREGUARD" },
  { "macsec", "CONFIG_MACSEC" },
  { "dummy", "CONFIG_DUMMY" },
  { "bond", "CONFIG_BONDING" },
  { "team", "CONFIG_NET_TEAM" },
  { "ip6gre", "CONFIG_IPV6_GRE" },
  { "gre", "CONFIG_NET_IPGRE" },
  { "ipip", "CONFIG_NET_IPIP" },
  { "sit", "CONFIG_IPV6_SIT" },
  { "xfrm", "CONFIG_XFRM_INTERFACE" },
  { "vrf", "CONFIG_NET_VRF" },
  { "ifb", "CONFIG_IFB" },
  { "tun", "CONFIG_TUN" },
  { "tap", "CONFIG_TUN" },
  { "masq", "CONFIG_NFT_MASQ" },
  { "fib", "CONFIG_NFT_FIB" },
  { "nft", "CONFIG_NF_TABLES" },
  { "routing rule", "CONFIG_IP_MULTIPLE_TABLES" },
  { "vlan_filtering", "CONFIG_BRIDGE_VLAN_FILTERING" },
  { "bridge vlan", "CONFIG_BRIDGE_VLAN_FILTERING" },
  { "vlan", "CONFIG_VLAN_8021Q" },
  { "bridge", "CONFIG_BRIDGE" },
}

local unprivileged = "not allowed: run as root with CAP_NET_ADMIN in the user namespace "
  .. "that owns the network namespace"

local causes = {
  [1] = unprivileged,
  [2] = "no such object: it was never made, or something else removed it",
  [13] = unprivileged,
  [16] = "in use: the device belongs to a bridge, bond or macvlan already, or has "
    .. "another kind of upper device",
  [17] = "an object of that name or address exists already; an earlier ADD may have "
    .. "left it: DEL first",
  [19] = "no such device: was it removed, renamed, or is it in another namespace?",
  [23] = "the system is out of file handles: see fs.file-max",
  [24] = "the process is out of file handles: see ulimit -n",
  [28] = "no space left: a full disk, or the limit of this object's number is reached",
  [30] = "the file system is read-only: in a container, /proc/sys often is",
  [34] = "out of range: the MTU must fit below that of the device underneath",
  [97] = "the kernel has no such address family: is IPv6 built in and not disabled "
    .. "(ipv6.disable=1)?",
  [99] = "the address cannot be used here: a multicast or zero MAC, or an address of no "
    .. "local interface",
  [100] = "the network is down: the device must be up before this",
  [101] = "the gateway is not reachable: no address on the link covers it and the route "
    .. "is not onlink",
  [105] = "the kernel is out of socket buffer memory; try again",
  [107] = "the peer of the link is missing",
  [110] = "no answer in time: the kernel or the device is overloaded",
  [113] = "no route to the gateway: no address on the link covers it",
}

local function missing_option(text)
  for _, row in ipairs(options) do
    if text:find(row[1], 1, true) then
      return "this kernel may lack it: needs " .. row[2]
        .. " (built in, or the module loadable)"
    end
  end
  return nil
end

--- A probable cause, for people.
-- @tparam integer errno
-- @string what step, object, and the failure's text
-- @string[opt] kind link kind, when known
-- @treturn ?string
function M.kernel(errno, what, kind)
  local text = ((kind or "") .. " " .. what):lower()
  -- EOPNOTSUPP, EPROTONOSUPPORT.
  if errno == 95 or errno == 93 then
    return missing_option(text) or "this kernel does not support it"
  end
  -- nf_tables has no better word for an expression whose module is missing.
  if errno == 2 and (text:find("masq", 1, true) or text:find("fib", 1, true))
    and text:find("rule", 1, true)
  then
    return missing_option(text)
  end
  return causes[errno]
end

-- Levenshtein distance, given up beyond `limit`.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local corner, best = row[0], i
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and corner or corner + 1
      corner = row[j]
      row[j] = math.min(cost, corner + 1, row[j - 1] + 1)
      best = math.min(best, row[j])
    end
    if best > limit then return limit + 1 end
  end
  return row[#b]
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
  return found
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
