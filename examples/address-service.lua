-- SPDX-License-Identifier: MIT
--- Addresses from a service that speaks HTTP on a unix socket, and is told when they are free again. For
-- `ipam`.
--
--     "ipam": { "type": "address-service", "socket": "/run/addresses.sock" }
--
-- POST /addresses/CONTAINER/INTERFACE answers { "address": "10.22.0.7/24", "gateway": "10.22.0.1" }, DELETE
-- of the same takes it back, and GET says whether it is given.

local json = require "cni.json"

return {
  ipam = true,
  add = function(req)
    local function curl(verb)
      return { program = "/usr/bin/curl", timeout = 5, args = { "-sSf", "-X", verb, "--unix-socket",
        req.raw.ipam.socket, ("http://ipam/addresses/%s/%s"):format(req.container_id, req.ifname) } }
    end
    local post = curl("POST")
    post.undo, post.check = curl("DELETE"), curl("GET")
    local text = req:call(post)
    return { ips = text and { json.decode(text, "the answer of the service") } or {} }
  end,
}
