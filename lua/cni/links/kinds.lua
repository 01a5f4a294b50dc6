-- SPDX-License-Identifier: MIT
--- Which kinds of links Linux has, and how the options of a kind are compared. A kernel may lack some kinds,
-- and a newer one have others: so a kind that is not here is no mistake, unless it is nearly one that is.
-- @module cni.links.kinds

local M = {}

local list <const> = "amt bareudp batadv bond bridge can dsa dummy erspan geneve gre gretap gtp hsr ifb "
  .. "ip6erspan ip6gre ip6gretap ip6tnl ipip ipoib ipvlan ipvtap lowpan macsec macvlan macvtap netdevsim "
  .. "netkit nlmon ovpn ppp rmnet sit team tun vcan veth virt_wifi vlan vrf vsockmon vti vti6 vxcan vxlan "
  .. "wireguard wwan xfrm"

local known = {}
for kind in list:gmatch "%S+" do known[kind] = true end

--- Set of the kinds that the kernel makes on another link only.
M.stands_on = { ipvlan = true, ipvtap = true, macsec = true, macvlan = true, macvtap = true, vlan = true }

--- Set of the kinds that are born as pairs, each end naming the other.
M.pairs = { netkit = true, veth = true }

--- Whether a link has a MAC that can be chosen: a netkit has one in its mode l2 alone.
-- @tparam table want `kind`, and its options
-- @treturn boolean
function M.has_mac(want)
  return want.kind ~= "netkit" or want.netkit_mode == "l2"
end

--- The kind that was probably meant by an unknown one.
-- @string kind
-- @treturn string|nil nil: it is one, or may be one that we do not know
function M.meant(kind)
  if known[kind] then return nil end
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  return require("cni.protocol.hints").nearest(kind, names)
end

-- Keys of a wanted link that are no options of its kind; and tun_vnet_hdr, which the program that opens a tap
-- decides.
local no_options <const> = {
  tun_vnet_hdr = true,
  name = true, peer = true, mac = true, mtu = true, into = true, link = true, master = true,
  up = true, arp = true, named = true, port = true, label = true,
  group = true, keep = true, owned = true, port_vlans = true, promisc = true, vlan_filtering = true,
  vrf_table = true,
}

-- Whether the kernel has what is wanted; of a list, every entry in any order.
local function has(have, want)
  if type(want) ~= "table" then return have == want end
  for key, value in pairs(want) do
    if math.type(key) ~= "integer" then
      if type(have) ~= "table" or not has(have[key], value) then return false end
    else
      local found = false
      for _, item in ipairs(have or {}) do found = found or has(item, value) end
      if not found then return false end
    end
  end
  return true
end

--- The options of its kind that are wanted of a link.
-- @tparam table want as the verbs of a handle take it
-- @treturn table
function M.options(want)
  local options = {}
  for key, value in pairs(want) do
    if not no_options[key] and key ~= "kind" then options[key] = value end
  end
  return options
end

--- The first option of its kind that a link has not as wanted.
-- @tparam table want
-- @tparam table link with all its attributes
-- @treturn ?string its key; nil: all are
function M.odd_option(want, link)
  for key, value in pairs(M.options(want)) do
    if not has(link[key], value) then return key end
  end
end

--- How an option differs, in words.
-- @tparam table want
-- @tparam table link
-- @string key
-- @treturn string
function M.difference(want, link, key)
  local value = want[key]
  if type(value) == "table" then return key .. " is not as wanted" end
  return ("%s is %s, not %s"):format(key, tostring(link[key]), tostring(value))
end

--- Options that tell which tunnel or VLAN a link is: one that has others is another one.
M.identity = {}
for key in ("geneve_id geneve_port geneve_remote geneve_remote6 vlan_id vlan_protocol vxlan_group "
  .. "vxlan_group6 vxlan_id vxlan_local vxlan_local6 vxlan_port xfrm_if_id"):gmatch "%S+" do
  M.identity[key] = true
end

return M
