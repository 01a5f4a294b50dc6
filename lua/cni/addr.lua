-- SPDX-License-Identifier: MIT
--- Addresses and prefixes.
-- An address by itself is its bytes in network order, 4 or 16 of them; an address with
-- a prefix length is a `cidr` value. IPv4-mapped IPv6 is IPv4 from the start.
-- @module cni.addr

local pack, unpack = string.pack, string.unpack
local ip = require("netlink").ip
local to_bytes, to_text = ip.pack, ip.text

local M = {}

--- An address with its prefix length, host bits kept. Compare with `==`, print with
-- `tostring`; do not change it.
-- @type cidr
-- @field ip bytes
-- @field len prefix length
-- @field family `"inet"` or `"inet6"`
local Cidr = { __name = "cidr" }
Cidr.__index = Cidr

local function refuse(what, wanted, given)
  local text = type(given) == "string" and ("%q"):format(given) or tostring(given)
  if type(given) == "table" and getmetatable(given) ~= Cidr then text = "a table" end
  error(("%s: expected %s, got %s"):format(what, wanted, text), 0)
end

-- Raise unless a function of this module has got the bytes of an address: scripts have it as text, mostly.
local function need(bytes, what)
  if type(bytes) == "string" and (#bytes == 4 or #bytes == 16) then return end
  refuse(what, "the bytes of an address, as addr.ip(text) or the field ip of a cidr has them", bytes)
end

local function make(bytes, len)
  return setmetatable({
    ip = bytes, len = len, family = #bytes == 4 and "inet" or "inet6",
  }, Cidr)
end

function Cidr.__eq(a, b)
  return a.ip == b.ip and a.len == b.len
end

function Cidr:__tostring()
  return to_text(self.ip) .. "/" .. self.len
end

-- The `bits` highest of 64, as a mask; any count is fine.
local function mask64(bits)
  if bits <= 0 then return 0 end
  if bits >= 64 then return -1 end
  return ~((1 << 64 - bits) - 1)
end

-- Keep the first `len` bits; the others become zero, or one with `fill`.
local function cut(bytes, len, fill)
  if #bytes == 4 then
    local mask = mask64(len + 32)
    local n = unpack(">I4", bytes)
    return pack(">I4", (fill and n | ~mask or n & mask) & 0xFFFFFFFF)
  end
  local high, low = unpack(">i8i8", bytes)
  local m, n = mask64(len), mask64(len - 64)
  if fill then return pack(">i8i8", high | ~m, low | ~n) end
  return pack(">i8i8", high & m, low & n)
end

--- The network: host bits zero, same length.
-- @treturn cidr
function Cidr:network()
  return make(cut(self.ip, self.len), self.len)
end

--- Whether no host bit is set.
-- @treturn boolean
function Cidr:is_network()
  return cut(self.ip, self.len) == self.ip
end

--- The address after the network's own: the customary gateway.
-- @treturn string bytes
function Cidr:first_host()
  return M.next(cut(self.ip, self.len)) or self.ip
end

--- The last address of the network: IPv4's broadcast.
-- @treturn string bytes
function Cidr:last()
  return cut(self.ip, self.len, true)
end

--- The broadcast address an interface wants: IPv4 with room for one.
-- @treturn ?string bytes
function Cidr:broadcast()
  return self.family == "inet" and self.len < 31 and self:last() or nil
end

--- Whether an address, or the whole of another prefix, lies inside this one.
-- @tparam string|cidr what bytes or a cidr
-- @treturn boolean
function Cidr:contains(what)
  local bytes = what
  if getmetatable(what) == Cidr then
    if what.len < self.len then return false end
    bytes = what.ip
  end
  need(bytes, "cidr:contains")
  return #bytes == #self.ip and cut(bytes, self.len) == cut(self.ip, self.len)
end

--- Whether two prefixes have an address in common.
-- @tparam cidr other
-- @treturn boolean
function Cidr:overlaps(other)
  if getmetatable(other) ~= Cidr then
    refuse("cidr:overlaps", "a cidr, as addr.parse(text) gives it", other)
  end
  if #self.ip ~= #other.ip then return false end
  local len = math.min(self.len, other.len)
  return cut(self.ip, len) == cut(other.ip, len)
end

--- Another address with this prefix length.
-- @tparam string bytes
-- @treturn cidr
function Cidr:with_ip(bytes)
  need(bytes, "cidr:with_ip")
  return make(bytes, self.len)
end

--- This address alone: /32 or /128.
-- @treturn cidr
function Cidr:host()
  return make(self.ip, #self.ip * 8)
end

--- The address without its length, as text.
-- @treturn string
function Cidr:text()
  return to_text(self.ip)
end

--- @section end

--- Read an address. No leading zeros, no zone, no spaces.
-- @string text
-- @treturn ?string bytes, nil when it is no address
function M.ip(text)
  if type(text) ~= "string" then return nil end
  return to_bytes(text)
end

--- Print an address in its canonical form.
-- @tparam string bytes
-- @treturn string
function M.text(bytes)
  need(bytes, "addr.text")
  return to_text(bytes)
end

--- Read an address with a prefix length.
-- @string text "10.1.2.3/24"
-- @treturn ?cidr nil when it is none
function M.parse(text)
  if type(text) ~= "string" then return nil end
  local address, digits = text:match("^([^/]+)/(%d%d?%d?)$")
  if not address or digits:find("^0%d") then return nil end
  local bytes = to_bytes(address)
  if not bytes then return nil end
  local len = math.tointeger(tonumber(digits))
  -- ::ffff:10.0.0.1/120 is 10.0.0.1/24
  if #bytes == 4 and address:find(":", 1, true) then len = len - 96 end
  if len < 0 or len > #bytes * 8 then return nil end
  return make(bytes, len)
end

--- Put an address and a length together.
-- @tparam string bytes
-- @tparam[opt] integer len the whole address when absent
-- @treturn cidr
function M.cidr(bytes, len)
  need(bytes, "addr.cidr")
  if len and not (math.type(len) == "integer" and len >= 0 and len <= #bytes * 8) then
    refuse("addr.cidr: len", ("a whole number from 0 to %d"):format(#bytes * 8), len)
  end
  return make(bytes, len or #bytes * 8)
end

--- Whether a value is a `cidr`.
-- @param v anything
-- @treturn boolean
function M.is_cidr(v)
  return getmetatable(v) == Cidr
end

--- The destination of a default route.
-- @string family `"inet"` or `"inet6"`
-- @treturn cidr
function M.default(family)
  if family ~= "inet" and family ~= "inet6" then
    refuse("addr.default: family", '"inet" or "inet6"', family)
  end
  return make(family == "inet" and "\0\0\0\0" or ("\0"):rep(16), 0)
end

--- The family of an address.
-- @tparam string bytes
-- @treturn string `"inet"` or `"inet6"`
function M.family(bytes)
  need(bytes, "addr.family")
  return #bytes == 4 and "inet" or "inet6"
end

--- Order two addresses; IPv4 comes before IPv6.
-- @tparam string a bytes
-- @tparam string b bytes
-- @treturn integer below, equal to, or above 0
function M.cmp(a, b)
  need(a, "addr.cmp")
  need(b, "addr.cmp")
  if a == b then return 0 end
  if #a ~= #b then return #a - #b end
  if #a == 4 then return unpack(">I4", a) < unpack(">I4", b) and -1 or 1 end
  local ah, al = unpack(">i8i8", a)
  local bh, bl = unpack(">i8i8", b)
  if ah ~= bh then return math.ult(ah, bh) and -1 or 1 end
  return math.ult(al, bl) and -1 or 1
end

--- The address after this one.
-- @tparam string bytes
-- @treturn ?string nil after the very last
function M.next(bytes)
  need(bytes, "addr.next")
  if #bytes == 4 then
    local n = unpack(">I4", bytes) + 1
    return n <= 0xFFFFFFFF and pack(">I4", n) or nil
  end
  local high, low = unpack(">i8i8", bytes)
  low = low + 1
  if low == 0 then
    high = high + 1
    if high == 0 then return nil end
  end
  return pack(">i8i8", high, low)
end

--- The address before this one.
-- @tparam string bytes
-- @treturn ?string nil before the very first
function M.prev(bytes)
  need(bytes, "addr.prev")
  if #bytes == 4 then
    local n = unpack(">I4", bytes)
    return n > 0 and pack(">I4", n - 1) or nil
  end
  local high, low = unpack(">i8i8", bytes)
  if low == 0 then
    if high == 0 then return nil end
    high = high - 1
  end
  return pack(">i8i8", high, low - 1)
end

--- Whether an address is for many receivers (224.0.0.0/4, ff00::/8).
-- @tparam string bytes
-- @treturn boolean
function M.is_multicast(bytes)
  need(bytes, "addr.is_multicast")
  local first = bytes:byte()
  if #bytes == 4 then return first >= 224 and first < 240 end
  return first == 255
end

--- Whether an address holds on one link only (169.254.0.0/16, fe80::/10).
-- @tparam string bytes
-- @treturn boolean
function M.is_link_local(bytes)
  need(bytes, "addr.is_link_local")
  local first, second = bytes:byte(1, 2)
  if #bytes == 4 then return first == 169 and second == 254 end
  return first == 0xFE and second & 0xC0 == 0x80
end

--- Whether an address is a loopback one (127.0.0.0/8, ::1).
-- @tparam string bytes
-- @treturn boolean
function M.is_loopback(bytes)
  need(bytes, "addr.is_loopback")
  if #bytes == 4 then return bytes:byte() == 127 end
  return bytes == ("\0"):rep(15) .. "\1"
end

--- Whether an address is 0.0.0.0 or ::.
-- @tparam string bytes
-- @treturn boolean
function M.is_unspecified(bytes)
  need(bytes, "addr.is_unspecified")
  return not bytes:find("[^\0]")
end

return M
