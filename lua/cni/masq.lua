-- SPDX-License-Identifier: MIT
--- Masquerading: hide a sandbox behind the host's address, except towards its own subnet and
-- towards multicast groups.
--
--     table inet luacni
--       set masq_10.22.0.0/16    one element an address
--       chain postrouting        ip daddr 224.0.0.0/4 return, ip6 daddr ff00::/8 return; and a subnet:
--                                ip saddr @masq_10.22.0.0/16 ip daddr != 10.22.0.0/16 masquerade
--
-- There is a rule a subnet, not a rule an attachment: a packet and an ADD cost the same with one
-- attachment and with ten thousand. (One map from addresses to chains would do with even fewer
-- rules, but the kernel walks all of such a map whenever an element is added.) Set and rule go with the
-- last address of the subnet, the table with the last subnet.
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
