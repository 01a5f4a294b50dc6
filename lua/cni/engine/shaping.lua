-- SPDX-License-Identifier: MIT
--- Traffic control on the links of one network namespace: queueing disciplines, their classes, filters. Each
-- handle has these verbs beside its others (cni.engine.handle).
-- @module cni.engine.shaping

local addr = require "cni.addr"
local takes = require "cni.engine.takes"

local M = {}

local function name_of(link)
  return type(link) == "table" and link.name or link
end

-- Push a step of cni.step.tc. What is on a link of this plan, or below a discipline of it, goes with that.
local function push(self, object, link, attrs, to)
  local name, above = name_of(link), attrs.parent:match "^%x+:"
  local covered = self.fresh[name] or above and self.fresh[name .. " " .. above]
  if object == "qdisc" then self.fresh[name .. " " .. attrs.handle] = true end
  self.plan:push { kind = "tc", ns = self.name, covered = covered and true or nil,
    want = { object = object, link = name, attrs = attrs, to = name_of(to) } }
end

local on_arrival <const> = { ingress = true, clsact = true }

--- Give a link a queueing discipline. One that is there already is an error, but for the one that the kernel
-- itself gives a link.
--
--     req.host:add_qdisc(port, { kind = "tbf", rate = 1250000, burst = 25000, limit = 60000 })
--     req.host:add_qdisc(port, { kind = "fq_codel", handle = "10:", parent = "1:1" })
--
-- @tparam table|string link object or name
-- @tparam table want
--   kind    such as tbf, htb, fq_codel, cake; `ingress` or `clsact` hold filters for what arrives
--   handle  what it is called, in hexadecimal digits; default: "1:", for what arrives "ffff:"
--   parent  the class of another one that it is for, such as "1:1"; default: "root", the link's own
--   and what its kind has: `luacni doc qdisc KIND`. Rates are in bytes a second, sizes in bytes
function M:add_qdisc(link, want)
  link, want = takes.add_qdisc(self, link, want)
  local attrs, arrives = {}, on_arrival[want.kind]
  for key, value in next, want do attrs[key] = value end
  attrs.handle = want.handle or arrives and "ffff:" or "1:"
  attrs.parent = want.parent or arrives and "ingress" or "root"
  if want.kind == "htb" then attrs.default = want.default or 0 end
  push(self, "qdisc", link, attrs)
end

--- Give a queueing discipline a class. One that is there already is an error.
--
--     req.host:add_qdisc(port, { kind = "htb", default = 0x10 })
--     req.host:add_class(port, { kind = "htb", handle = "1:10", rate = 1250000, burst = 25000 })
--
-- @tparam table|string link object or name
-- @tparam table want
--   kind    of the discipline, such as htb
--   handle  what it is called, in hexadecimal digits
--   parent  the class that it is in; default: the discipline itself
--   rate    what it has, in bytes a second
--   ceil    what it may have when others leave that; default: rate
--   burst   bytes that may go at once
--   and what its kind has: `luacni doc class KIND`
function M:add_class(link, want)
  link, want = takes.add_class(self, link, want)
  local attrs = require("cni.step.tc").class_attrs(want)
  attrs.parent = want.parent or want.handle:match "^%x+:"
  push(self, "class", link, attrs)
end

-- What a packet has to have where: the words of an address, from a byte of its header on.
local function words_of(cidr, at, list)
  local bits = cidr.len
  for i = 1, #cidr.ip, 4 do
    local taken = math.max(0, math.min(32, bits - (i - 1) * 8))
    local mask = taken == 0 and 0 or 0xffffffff << (32 - taken) & 0xffffffff
    if mask ~= 0 then
      list[#list + 1] = { at = at + i - 1, value = (">I4"):unpack(cidr.ip, i) & mask, mask = mask }
    end
  end
end

-- Where an address is in a header, and where filters of a protocol are by default: no two protocols can have
-- one number.
local layout <const> = {
  inet = { protocol = "ip", from = 12, to = 16 },
  inet6 = { protocol = "ipv6", from = 8, to = 24 },
}
local numbers <const> = { ip = 1, ipv6 = 2 }
local other_number <const> = 3

--- Give a queueing discipline a filter: what it does with some packets.
--
--     req.host:add_filter(port, { parent = "1:", to = "10.0.0.0/8", class = "1:10" })
--     req.host:add_filter(port, { parent = "ffff:", redirect = ifb })
--
-- @tparam table|string link object or name
-- @tparam table want
--   parent    the discipline
--   from, to  address or network: of packets from there, to there
--   class     where they queue: a class of the discipline; the name of an htb itself: nowhere, they just go
--   redirect  object or name of another link, by which they go out
--   kind      u32 or matchall; default: u32
--   protocol  ip, ipv6, all ...; default: that of the addresses, else all
--   priority  the lower number is asked first; default: 1 for ip, 2 for ipv6, 3 for others
--   and what its kind has, in place of from, to, redirect: `luacni doc filter KIND`
function M:add_filter(link, want)
  link, want = takes.add_filter(self, link, want)
  local attrs, match = {}, {}
  for key, value in next, want do attrs[key] = value end
  attrs.from, attrs.to, attrs.redirect = nil, nil, nil
  attrs.kind = want.kind or "u32"
  for _, key in ipairs { "from", "to" } do
    local cidr = want[key] and addr.parse(want[key])
    if cidr then
      attrs.protocol = layout[cidr.family].protocol
      words_of(cidr, layout[cidr.family][key], match)
    end
  end
  attrs.protocol = attrs.protocol or "all"
  attrs.priority = want.priority or numbers[attrs.protocol] or other_number
  if attrs.kind == "u32" and not attrs.match then
    attrs.match = match[1] and match or { { at = 0, value = 0, mask = 0 } }
  end
  if want.redirect then attrs.action = { kind = "mirred", how = "redirect", verdict = "stolen" } end
  push(self, "filter", link, attrs, want.redirect)
end

return M
