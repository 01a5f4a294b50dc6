-- SPDX-License-Identifier: MIT
--- Addresses from a service that speaks HTTP on a unix socket, and is told when they are free again. For
-- `ipam`.
--
--     "ipam": { "type": "address-service", "socket": "/run/addresses.sock" }
--
-- POST /addresses/CONTAINER/INTERFACE answers { "address": "10.22.0.7/24", "gateway": "10.22.0.1" }, DELETE
-- of the same takes it back, and GET says whether it is given.

return {
  ipam = true,
  add = function(req)
    local answer = req:http { method = "POST", socket = req.raw.ipam.socket, timeout = 5,
      url = ("/addresses/%s/%s"):format(req.container_id, req.ifname), undo = {}, check = {} }
    return { ips = answer and { answer.json } or {} }
  end,
}
