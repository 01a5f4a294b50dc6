-- SPDX-License-Identifier: MIT
--- A bridge that answers ARP for whatever the host has a route to: containers need no gateway. The setting is
-- shared by all on the bridge, and is as it was when the last of them is gone.
--
--     { "type": "proxy-arp", "bridge": "cni0", "ipam": { "type": "host-local", "subnet": "10.22.0.0/24" } }

return {
  add = function(req)
    local result = req:delegate("bridge")
    local bridge = result.interfaces[1]
    req.host:set_sysctl { { "net/ipv4/conf/" .. bridge.name .. "/proxy_arp", "1" } }
    return result
  end,
}
