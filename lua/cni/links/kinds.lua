-- SPDX-License-Identifier: MIT
--- Which kinds of links Linux has. A kernel may lack some of them, and a newer one have others: so a kind
-- that is not here is no mistake, unless it is nearly one that is.
-- @module cni.links.kinds

local M = {}

local list <const> = "amt bareudp batadv bond bridge can dsa dummy erspan geneve gre gretap gtp hsr ifb "
  .. "ip6erspan ip6gre ip6gretap ip6tnl ipip ipoib ipvlan ipvtap lowpan macsec macvlan macvtap netdevsim "
  .. "netkit nlmon ovpn ppp rmnet sit team tun vcan veth virt_wifi vlan vrf vsockmon vti vti6 vxcan vxlan "
  .. "wireguard wwan xfrm"

local known = {}
for kind in list:gmatch "%S+" do known[kind] = true end

--- The kind that was probably meant by one that there is none of.
-- @string kind
-- @treturn string|nil nil: it is one, or may be one that we do not know
function M.meant(kind)
  if known[kind] then return nil end
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  return require("cni.protocol.hints").nearest(kind, names)
end

return M
