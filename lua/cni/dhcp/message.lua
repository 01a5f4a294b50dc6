-- SPDX-License-Identifier: MIT
--- Messages of DHCP (RFC 2131), their options (RFC 2132), and the IPv4 datagrams around them.
--
-- What comes is from anybody on the wire: a length that leads out of the message makes the message none, and
-- a value that has not its option's length is as if the option was not there.
-- @module cni.dhcp.message

local addr = require "cni.addr"

local M = {}

--- Kinds of messages, by name: option 53.
M.kinds = { discover = 1, offer = 2, request = 3, decline = 4, ack = 5, nak = 6, release = 7 }

local kind_of = {}
for name, number in next, M.kinds do kind_of[number] = name end

--- Options by name, as far as they are known here.
M.options = { subnet_mask = 1, routers = 3, dns = 6, host_name = 12, domain_name = 15, mtu = 26,
  static_routes = 33, ntp = 42, address = 50, duration = 51, overload = 52, kind = 53, server = 54,
  wanted = 55, message = 56, longest = 57, renew = 58, rebind = 59, client = 61, rapid_commit = 80,
  fqdn = 81, domain_search = 119, classless_routes = 121 }

local code = M.options

local cookie <const> = "\x63\x82\x53\x63"
local head <const> = ">BBBBI4I2I2c4c4c4c4c16c64c128"
local head_len <const> = string.packsize(head)

-- Relays and servers of old drop what is shorter than BOOTP's.
local least_len <const> = 300

--- The flag that asks for answers by broadcast.
M.broadcast = 0x8000

-- Writing ----------------------------------------------------------------------------------

-- An option that is too long for one stands several times (RFC 3396).
local function add_option(parts, number, value)
  repeat
    local piece = value:sub(1, 255)
    parts[#parts + 1] = string.pack("Bs1", number, piece)
    value = value:sub(256)
  until value == ""
end

--- The bytes of a message of a client.
-- @tparam table message `kind`; `xid`, `secs`, `flags` (integers), `ciaddr` (four bytes) where they are not
-- 0; `chaddr`, the bytes of the hardware address; `options`: bytes by number
-- @treturn string
function M.encode(message)
  local numbers, parts = { code.kind }, {}
  for number in next, message.options or {} do
    if number ~= code.kind then numbers[#numbers + 1] = number end
  end
  table.sort(numbers)
  for _, number in ipairs(numbers) do
    local own = number == code.kind
    add_option(parts, number, own and string.char(M.kinds[message.kind]) or message.options[number])
  end
  local nobody = ("\0"):rep(4)
  local bytes = string.pack(head, 1, 1, #message.chaddr, 0, message.xid or 0, message.secs or 0,
    message.flags or 0, message.ciaddr or nobody, nobody, nobody, nobody, message.chaddr, "", "")
    .. cookie .. table.concat(parts) .. "\255"
  return bytes .. ("\0"):rep(least_len - #bytes)
end

-- Reading ----------------------------------------------------------------------------------

-- Put the options of a field behind those that were found. False: one leads out of it.
local function read_options(bytes, at, options)
  while at <= #bytes do
    local number = bytes:byte(at)
    if number == 255 then return true end
    if number == 0 then
      at = at + 1
    else
      local len = bytes:byte(at + 1)
      if not len or at + 1 + len > #bytes then return false end
      options[number] = (options[number] or "") .. bytes:sub(at + 2, at + 1 + len)
      at = at + 2 + len
    end
  end
  return true
end

--- A message of a server.
-- @tparam string bytes
-- @treturn table `kind` (a name), `xid`, `flags`, `yiaddr` and `giaddr` (four bytes), `chaddr`, `options`
-- (bytes by number)
-- @treturn[2] nil
-- @treturn[2] string why it is none
function M.decode(bytes)
  if #bytes < head_len + #cookie then return nil, "it is too short" end
  local op, htype, hlen, _, xid, _, flags, _, yiaddr, _, giaddr, chaddr, sname, file, at =
    string.unpack(head, bytes)
  if bytes:sub(at, at + 3) ~= cookie then return nil, "it has not the cookie of DHCP" end
  if op ~= 2 then return nil, "it is no answer" end
  if htype ~= 1 or hlen > 16 then return nil, "its hardware address is none of Ethernet" end
  local options = {}
  if not read_options(bytes, at + 4, options) then return nil, "an option leads out of it" end
  local also = (options[code.overload] or "\0"):byte() or 0
  if also & 1 ~= 0 and not read_options(file, 1, options)
    or also & 2 ~= 0 and not read_options(sname, 1, options) then
    return nil, "an option leads out of its field"
  end
  local kind = kind_of[(options[code.kind] or ""):byte()]
  if not kind then return nil, "it does not say what it is" end
  return { kind = kind, xid = xid, flags = flags, yiaddr = yiaddr, giaddr = giaddr,
    chaddr = chaddr:sub(1, hlen), options = options }
end

--- A number of an option.
-- @tparam ?string value
-- @tparam integer len how many bytes it has
-- @treturn integer|nil
function M.number(value, len)
  if not value or #value ~= len then return nil end
  return (string.unpack(">I" .. len, value))
end

--- The addresses of an option.
-- @tparam ?string value
-- @treturn {string,...} four bytes each
function M.addresses(value)
  local list = {}
  for i = 1, #(value or "") - 3, 4 do list[#list + 1] = value:sub(i, i + 3) end
  return list
end

--- A text of an option, without the zero that some end it with.
-- @tparam ?string value
-- @treturn string|nil
function M.text(value)
  local text = value and value:gsub("%z+$", "")
  return text ~= "" and text or nil
end

--- Whether a text can be the name of a domain in a resolver's file.
-- @tparam ?string text
-- @treturn boolean
function M.is_domain(text)
  return text ~= nil and #text <= 253 and text:find "^[%w_][%w_.-]*$" ~= nil and not text:find("..", 1, true)
end

-- More labels a name has not, each with a pointer before it.
local longest_walk <const> = 256

-- A name from a place in a list of such, and where the next one begins; nil: it leads nowhere. What it points
-- to lies before it: so it comes to an end, and soon, whatever the list.
local function read_name(value, at)
  local labels, behind, bound = {}, nil, at
  for _ = 1, longest_walk do
    local len = value:byte(at)
    if not len then return nil end
    if len == 0 then return table.concat(labels, "."), behind or at + 1 end
    if len >= 0xc0 then
      local low = value:byte(at + 1)
      local to = low and ((len & 0x3f) << 8 | low) + 1
      if not to or to >= bound then return nil end
      behind, bound, at = behind or at + 2, to, to
    elseif len > 63 or at + len > #value then
      return nil
    else
      labels[#labels + 1] = value:sub(at + 1, at + len)
      at = at + 1 + len
    end
  end
end

-- More domains no resolver looks through; and few bytes can stand for many.
local most_domains <const> = 32

--- The domains of a search list (RFC 3397).
-- @tparam ?string value
-- @treturn {string,...} the first 32 at most, up to one that cannot be read
function M.domains(value)
  local list, at = {}, 1
  while value and at <= #value and #list < most_domains do
    local name, behind = read_name(value, at)
    if not M.is_domain(name) then break end
    list[#list + 1] = name
    at = behind
  end
  return list
end

local function route(bytes, len, router)
  return { dst = tostring(addr.cidr(bytes, len):network()), router = router }
end

--- Classless static routes (RFC 3442).
-- @tparam ?string value
-- @treturn {table,...} `dst`, `router` (four bytes); empty where any of them cannot be read
function M.classless(value)
  local list, at = {}, 1
  while value and at <= #value do
    local len = value:byte(at)
    local count = (len + 7) // 8
    if len > 32 or at + count + 4 > #value then return {} end
    local bytes = value:sub(at + 1, at + count) .. ("\0"):rep(4 - count)
    list[#list + 1] = route(bytes, len, value:sub(at + count + 1, at + count + 4))
    at = at + count + 5
  end
  return list
end

--- Static routes of old: the class of the destination says how long its prefix is.
-- @tparam ?string value
-- @treturn {table,...} as of @{classless}
function M.static(value)
  local list, parts = {}, M.addresses(value)
  for i = 1, #parts - 1, 2 do
    local first = parts[i]:byte()
    local len = first < 128 and 8 or first < 192 and 16 or first < 224 and 24
    -- A default route cannot be told by it (RFC 2132, 5.8).
    if len and first > 0 then list[#list + 1] = route(parts[i], len, parts[i + 1]) end
  end
  return list
end

-- Datagrams --------------------------------------------------------------------------------

local ip_head <const> = ">BBI2I2I2BBI2c4c4"

--- The sum of the Internet (RFC 1071) of some bytes.
-- @tparam string bytes
-- @tparam[opt] integer start what to add it to
-- @treturn integer of 16 bits; 0xffff over what has the complement of its sum in it
function M.sum(bytes, start)
  local total = start or 0
  if #bytes % 2 == 1 then bytes = bytes .. "\0" end
  for i = 1, #bytes, 2 do
    local high, low = bytes:byte(i, i + 1)
    total = total + (high << 8 | low)
  end
  while total > 0xffff do total = (total & 0xffff) + (total >> 16) end
  return total
end

local function pseudo(from, to, len) return M.sum(from .. to .. string.pack(">I2I2", 17, len)) end

--- An IPv4 packet of a client, port 68, to a server, port 67.
-- @tparam string from four bytes
-- @tparam string to four bytes
-- @tparam string bytes the message
-- @treturn string
function M.wrap(from, to, bytes)
  local len = #bytes + 8
  local function ip(check) return string.pack(ip_head, 0x45, 0, len + 20, 0, 0, 64, 17, check, from, to) end
  local function udp(check) return string.pack(">I2I2I2I2", 68, 67, len, check) .. bytes end
  local check = ~M.sum(udp(0), pseudo(from, to, len)) & 0xffff
  return ip(~M.sum(ip(0)) & 0xffff) .. udp(check == 0 and 0xffff or check)
end

--- The message in an IPv4 packet to a client's port.
-- @tparam string bytes
-- @tparam boolean is_summed the checksum of UDP was filled in
-- @treturn string|nil nil: it has none that is whole
-- @treturn ?string who sent it, four bytes
function M.unwrap(bytes, is_summed)
  if #bytes < 28 then return nil end
  local first, _, total, _, fragment, _, protocol, _, from, to = string.unpack(ip_head, bytes)
  local at = (first & 15) * 4
  if first >> 4 ~= 4 or at < 20 or total > #bytes or total < at + 8 or protocol ~= 17
    or fragment & 0x3fff ~= 0 or M.sum(bytes:sub(1, at)) ~= 0xffff then
    return nil
  end
  local udp = bytes:sub(at + 1, total)
  local _, port, len, check = string.unpack(">I2I2I2I2", udp)
  if port ~= 68 or len < 8 or len > #udp then return nil end
  udp = udp:sub(1, len)
  if is_summed and check ~= 0 and M.sum(udp, pseudo(from, to, len)) ~= 0xffff then return nil end
  return udp:sub(9), from
end

return M
