-- SPDX-License-Identifier: MIT
--- Masquerading: hide a sandbox behind the host's address, except towards its own subnet and
-- towards multicast groups.
--
--     table inet luacni
--       set   masked4_24       addresses in subnets of 24 bits, each with its subnet: 10.22.0.5 . 10.22.0.0
--       chain masquerade4_24   ip daddr 224.0.0.0/4 return
--                              ip saddr . ip saddr & 255.255.255.0 @masked4_24
--                                ip saddr . ip daddr & 255.255.255.0 != @masked4_24 masquerade
--       set   shared4_24       who else has an address in the set
--
-- The same with a 6, and for each length of a prefix that a subnet has: on most nodes one of each family. So
-- a packet and an ADD cost the same with one attachment and with ten thousand, and with one network and with
-- a hundred. (Pairs of whole subnets in one set of intervals would not do: where one network's subnet lies in
-- another's, the kernel refuses the second, and neither would be masqueraded towards the rest of the wider
-- one.)
--
-- What an attachment has in a set, the comment of the element says. Networks may have the same subnet, each
-- on a bridge of its own, and the same addresses in it: see cni.step.elements.
--
-- Versions before had a set and a rule for each subnet of a network, in the chain `postrouting`. What they
-- have made stays as it is until its attachments go (cni.step.masq); a new attachment is not among it.
--
-- @module cni.masq

local addr = require "cni.addr"
local args = require "cni.engine.args"
local layouts = require "cni.step.layout"
local nft = require "cni.nft"

local M = {}

local multicast <const> = { inet = "224.0.0.0/4", inet6 = "ff00::/8" }

local function name_of(family, length) return ("%s_%d"):format(layouts.protos[family].suffix, length) end

-- The layout for subnets whose prefixes are of one length; it has the name of its set.
layouts.when_asked(M, function(name)
  local suffix, length = name:match "^masked([46])_(%d+)$"
  if not suffix then return nil end
  local family = suffix == "4" and "inet" or "inet6"
  local p, own = layouts.protos[family], name_of(family, length)
  local set = "masked" .. own
  return {
    table = "luacni", group = "masked", name = set, version = "1", comment = layouts.of_luacni,
    sets = {
      { name = set, key_type = p.type .. " . " .. p.type, shared = "shared" .. own,
        comment = "sandboxes, and their subnets" },
      { name = "shared" .. own, key_type = ("%s . %s . mark"):format(p.type, p.type),
        comment = "who else has one of these" },
    },
    chains = {
      { name = "masquerade" .. own, type = "nat", hook = "postrouting", priority = 100,
        comment = ("hides sandboxes of subnets /%d"):format(length), rules = {
          nft.rule(nft.daddr(multicast[family]), nft.verdict "return"),
          nft.rule(nft.fields_in(p.word, { "saddr", { "saddr", tonumber(length) } }, set),
            nft.fields_in(p.word, { "saddr", { "daddr", tonumber(length) } }, set, "!="), nft.masquerade()),
        } },
    },
  }
end)

local takes = args.call("masq.add", { "req", args.request },
  { "ips", args.list(args.record({ address = args.cidr },
    { required = { "address" }, loose = args.always })) })

--- Masquerade what an attachment sends from its addresses.
-- @tparam table req the request
-- @tparam table ips list of { address = "10.22.0.5/16" }, as in a result
function M.add(req, ips)
  req, ips = takes(req, ips)
  local elements, names, known = {}, {}, {}
  for _, ip in ipairs(ips) do
    local cidr = addr.parse(ip.address)
    local name = "masked" .. name_of(cidr.family, cidr.len)
    -- All addresses are of a subnet of 0 bits.
    if cidr.len > 0 then
      elements[#elements + 1] = { set = name, key = { cidr:text(), addr.text(cidr:network().ip) },
        says = "masquerade " .. cidr:text() }
      if not known[name] then names[#names + 1], known[name] = name, true end
    end
  end
  if #elements == 0 then return end
  -- Without a record nobody knows which version made them.
  if req.plan.mode == "erase" then require("cni.step.masq").push(req, ips) end
  req.plan:push { kind = "elements", ns = "host", want = { module = "masq", layout = names,
    elements = elements, before = "masq", instead = "masquerades" } }
end

return M
