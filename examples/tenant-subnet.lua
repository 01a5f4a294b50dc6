-- SPDX-License-Identifier: MIT
--- Addresses from a subnet a tenant: the first attachment of a tenant takes a /24 of 10.200.0.0/16 for it,
-- the last gives it back. For `ipam` of any bridge, ours or the reference's: that one executes it, so that it
-- needs its link beside that (`luacni link tenant-subnet`).
--
--     "ipam": { "type": "tenant-subnet", "tenant": "blue" }

local schema = require "cni.schema"

return {
  ipam = true,
  conf = schema.record { ipam = schema.record {
    tenant = schema.string { required = true, min_len = 1, doc = "Who the network is for." },
  } { required = true } },
  add = function(req)
    local number = req:number("tenants", req.conf.ipam.tenant, 0, 255)
    return req:delegate("host-local", { ipam = { subnet = ("10.200.%d.0/24"):format(number) } })
  end,
}
