-- SPDX-License-Identifier: MIT
--- Masquerading: hide a sandbox behind the host's address, except towards its own subnet and
-- towards multicast groups.
--
--     table inet luacni
--       chain postrouting     multicast: return; then the source address picks a chain, in one look-up
--       map masq4, masq6      one element an address: goto its subnet's chain
--       chain net_10.22.0.0/16    towards the own subnet: return; else masquerade
--
-- The rules stay the same whatever the number of attachments: a packet and an ADD cost what they
-- cost with one. Chains go with the last address of their subnet, the table with the last chain.
--
-- @module cni.masq

local addr = require "cni.addr"

local M = {}

--- Masquerade what an attachment sends from its addresses.
-- @tparam table req the request
-- @tparam table ips list of { address = "10.22.0.5/16" }, as in a result
function M.add(req, ips)
  if #ips == 0 then return end
  local list = {}
  for i, ip in ipairs(ips) do
    local cidr = addr.parse(ip.address)
    list[i] = { address = cidr:text(), subnet = tostring(cidr:network()), family = cidr.family }
  end
  req.plan:push { kind = "masq", ns = "host", want = { addresses = list } }
end

return M
