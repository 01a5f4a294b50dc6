-- SPDX-License-Identifier: MIT
--- Masquerading: hide a sandbox behind the host's address, except towards its own subnet and
-- towards multicast groups.
--
--     table inet luacni
--       set masq_10.22.0.0/16_net  one element an address; its comment says whose
--       chain postrouting          ip daddr 224.0.0.0/4 return, ip6 daddr ff00::/8 return; and a set:
--                                  ip saddr @masq_10.22.0.0/16_net ip daddr != 10.22.0.0/16 masquerade
--
-- There is a set and a rule for each subnet of a network, not a rule an attachment: a packet and an ADD cost
-- the same with one attachment and with ten thousand. (One map from addresses to chains would do with
-- even fewer rules, but the kernel walks all of such a map whenever an element is added.) Networks may
-- have the same subnet, each on a bridge of its own, and the same addresses in it.
--
-- Set and rule go with the last address in the set, the table with the last set. Our own books say when it
-- is time to look; what there is, the kernel says: the books may have been lost, or be those of one of
-- several that work in one namespace, each with a /run of its own.
--
-- @module cni.masq

local addr = require "cni.addr"
local args = require "cni.engine.args"
local netlink = require "netlink"

local M = {}

-- A name that nft can list and read back; it is the comment of the rule too, which has room for 128
-- bytes. A network's name never has a slash.
local function set_of(subnet, network)
  if #network > 60 then network = network:sub(1, 40) .. "/" .. netlink.sys.hash64(network) end
  return ("masq_%s_%s"):format(subnet:gsub(":", "_"), network)
end

local takes = args.call("masq.add", { "req", args.request },
  { "ips", args.list(args.record({ address = args.cidr },
    { required = { "address" }, loose = args.always })) })

--- Masquerade what an attachment sends from its addresses.
-- @tparam table req the request
-- @tparam table ips list of { address = "10.22.0.5/16" }, as in a result
function M.add(req, ips)
  req, ips = takes(req, ips)
  if #ips == 0 then return end
  local list = {}
  for i, ip in ipairs(ips) do
    local cidr = addr.parse(ip.address)
    local subnet = tostring(cidr:network())
    list[i] = { address = cidr:text(), subnet = subnet, family = cidr.family,
      set = set_of(subnet, req.network) }
  end
  req.plan:push { kind = "masq", ns = "host",
    want = { addresses = list, group = req.host:group("nft:masq") } }
end

return M
