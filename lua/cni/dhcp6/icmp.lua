-- SPDX-License-Identifier: MIT
--- What neighbours and routers say of themselves (RFC 4861): the IPv6 packets, from header to options.
--
-- What comes is from anybody on the wire: what RFC 4861 has dropped without a word is none here either.
-- @module cni.dhcp6.icmp

local addr = require "cni.addr"
local message4 = require "cni.dhcp.message"

local M = {}

--- Types of ICMPv6, for netlink.ns.frames.
M.types = { router = 134, neighbour = 136 }

local ip_head <const> = ">I4I2BBc16c16"
local head_len <const> = 40
local solicits_router <const>, solicits <const>, advertises <const> = 133, 135, 136
local nobody <const> = ("\0"):rep(16)
local all_nodes <const>, all_routers <const> = addr.ip "ff02::1", addr.ip "ff02::2"

-- Writing ----------------------------------------------------------------------------------

local function checksum(from, to, body)
  return ~message4.sum(from .. to .. string.pack(">I4I4", #body, 58) .. body) & 0xffff
end

-- The packet, and the hardware address of the group that it is for.
local function packet(from, to, kind, body)
  local function icmp(check) return string.pack(">BBI2", kind, 0, check) .. body end
  local bytes = icmp(checksum(from, to, icmp(0)))
  return string.pack(ip_head, 6 << 28, #bytes, 58, 255, from, to) .. bytes, "\x33\x33" .. to:sub(-4)
end

local function own_mac(kind, mac) return #mac == 6 and string.pack("BBc6", kind, 1, mac) or "" end

--- Ask routers to say what they are.
-- @tparam string from our link-local address, 16 bytes
-- @tparam string mac bytes
-- @treturn string the packet
-- @treturn string whose it is: a hardware address, bytes
function M.ask_routers(from, mac)
  return packet(from, all_routers, solicits_router, "\0\0\0\0" .. own_mac(1, mac))
end

--- Ask whether somebody has an address (RFC 4862, 5.4).
-- @tparam string address 16 bytes
-- @treturn string the packet
-- @treturn string whose it is
function M.probe(address)
  local group = addr.ip "ff02::1:ff00:0":sub(1, 13) .. address:sub(-3)
  return packet(nobody, group, solicits, "\0\0\0\0" .. address)
end

--- Tell the neighbours whose an address is.
-- @tparam string address 16 bytes; the link has it
-- @tparam string mac bytes
-- @treturn string the packet
-- @treturn string whose it is
function M.announce(address, mac)
  return packet(address, all_nodes, advertises, string.pack(">I4", 1 << 29) .. address .. own_mac(2, mac))
end

-- Reading ----------------------------------------------------------------------------------

-- Who sent a packet of a type, and what stands behind type, code and checksum.
local function read(bytes, is_summed, kind)
  if #bytes < head_len + 8 then return nil end
  local first, len, next_header, hops, from, to = string.unpack(ip_head, bytes)
  local body = bytes:sub(head_len + 1, head_len + len)
  if first >> 28 ~= 6 or next_header ~= 58 or hops ~= 255 or len < 8 or #body < len then return nil end
  if body:byte(1) ~= kind or body:byte(2) ~= 0 then return nil end
  -- Over what has its own sum in it, the sum is nothing.
  if is_summed and checksum(from, to, body) ~= 0 then return nil end
  return from, body:sub(5)
end

-- Options from a place on, as { type, value }; nil: one leads out of it, or has no length.
local function options_of(body, at)
  local list = {}
  while at <= #body do
    local kind, len = body:byte(at, at + 1)
    if not len or len == 0 or at + len * 8 - 1 > #body then return nil end
    list[#list + 1] = { kind, body:sub(at + 2, at + len * 8 - 1) }
    at = at + len * 8
  end
  return list
end

local reads = {}

-- A prefix.
reads[3] = function(value, router)
  if #value ~= 30 then return end
  local len, flags, valid, preferred, _, bytes = string.unpack(">BBI4I4I4c16", value)
  if len > 128 then return end
  table.insert(router.prefixes, { prefix = tostring(addr.cidr(bytes, len):network()), len = len,
    is_on_link = flags & 0x80 ~= 0, is_autonomous = flags & 0x40 ~= 0 and preferred <= valid, valid = valid })
end

-- Resolvers, and a search list (RFC 8106). Both for no time are withdrawn.
reads[25] = function(value, router)
  if #value < 22 or string.unpack(">I4", value, 3) == 0 then return end
  for i = 7, #value - 15, 16 do
    local bytes = value:sub(i, i + 15)
    if not (addr.is_multicast(bytes) or addr.is_unspecified(bytes)) then
      table.insert(router.nameservers, addr.text(bytes))
    end
  end
end

reads[31] = function(value, router)
  if #value < 6 or string.unpack(">I4", value, 3) == 0 then return end
  for _, name in ipairs(message4.domains(value:sub(7))) do table.insert(router.search, name) end
end

--- What a router says of itself and its network.
-- @tparam string bytes the packet
-- @tparam boolean is_summed its checksum was filled in
-- @treturn table|nil `router`, an address as text; `lifetime`, seconds for which it is a default router;
-- `is_managed`: addresses are given by DHCPv6; `has_more`: other values are; `prefixes`: list of `prefix`
-- (text), `len`, `is_on_link`, `is_autonomous`, `valid`; `nameservers`, `search`. nil: it is no such packet
function M.read_router(bytes, is_summed)
  local from, body = read(bytes, is_summed, M.types.router)
  if not from or #body < 12 or not addr.is_link_local(from) then return nil end
  local options = options_of(body, 13)
  if not options then return nil end
  local _, flags, lifetime = string.unpack(">BBI2", body)
  local router = { router = addr.text(from), lifetime = lifetime, is_managed = flags & 0x80 ~= 0,
    has_more = flags & 0x40 ~= 0, prefixes = {}, nameservers = {}, search = {} }
  for _, option in ipairs(options) do
    local take = reads[option[1]]
    if take then take(option[2], router) end
  end
  return router
end

--- Which address somebody says is theirs.
-- @tparam string bytes the packet
-- @tparam boolean is_summed its checksum was filled in
-- @treturn string|nil 16 bytes; nil: it is no such packet
function M.read_neighbour(bytes, is_summed)
  local from, body = read(bytes, is_summed, M.types.neighbour)
  if not from or #body < 20 or not options_of(body, 21) then return nil end
  return body:sub(5, 20)
end

return M
