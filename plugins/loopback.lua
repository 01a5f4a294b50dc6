-- SPDX-License-Identifier: MIT
--- Bring the sandbox's loopback interface up.

local addr = require "cni.addr"
local fail = require "cni.fail"

return {
  add = function(req)
    local lo = req.pod:set_link("lo", { up = true })
    local ips = req.pod:addrs(lo)
    for _, ip in ipairs(ips) do
      if not addr.is_loopback(addr.parse(ip.address).ip) then
        fail.throw { msg = ("lo has the address %s, which is no loopback address"):format(ip.address) }
      end
    end
    return not req.prev and { interfaces = { lo }, ips = ips } or nil
  end,
}
