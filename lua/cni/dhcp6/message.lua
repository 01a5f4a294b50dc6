-- SPDX-License-Identifier: MIT
--- Messages of DHCPv6 (RFC 8415) between a client and a server, and their options.
--
-- What comes is from anybody on the wire: a length that leads out of the message makes the message none, and
-- a value that has not its option's form is as if the option was not there.
-- @module cni.dhcp6.message

local addr = require "cni.addr"
local message4 = require "cni.dhcp.message"

local M = {}

--- Kinds of messages, by name.
M.kinds = { solicit = 1, advertise = 2, request = 3, renew = 5, rebind = 6, reply = 7, release = 8,
  decline = 9, information = 11 }

local kind_of = {}
for name, number in next, M.kinds do kind_of[number] = name end

--- Options by name, as far as they are known here.
M.options = { client = 1, server = 2, ia = 3, ia_address = 5, wanted = 6, preference = 7, elapsed = 8,
  status = 13, rapid_commit = 14, dns = 23, domains = 24, refresh = 32, fqdn = 39, longest_solicit = 82,
  longest_inform = 83 }

local code = M.options

--- What a server says has come of it, by name.
M.statuses = { success = 0, failed = 1, no_addresses = 2, no_binding = 3, not_on_link = 4, use_multicast = 5 }

--- A time that does not end.
M.forever = 0xffffffff

-- Writing ----------------------------------------------------------------------------------

local function option(number, value) return string.pack(">I2s2", number, value) end

--- The bytes of a message of a client.
-- @tparam table message `kind`; `xid`, of 24 bits; `options`: list of { number, bytes }
-- @treturn string
function M.encode(message)
  local parts = { string.pack(">BI3", M.kinds[message.kind], message.xid) }
  for _, entry in ipairs(message.options) do parts[#parts + 1] = option(entry[1], entry[2]) end
  return table.concat(parts)
end

--- The value of an option IA_NA: an identity, and addresses that are asked for, or had.
-- @tparam integer iaid
-- @tparam {string,...} addresses 16 bytes each
-- @treturn string
function M.ia(iaid, addresses)
  local parts = { string.pack(">I4I4I4", iaid, 0, 0) }
  for _, bytes in ipairs(addresses) do
    parts[#parts + 1] = option(code.ia_address, bytes .. string.pack(">I4I4", 0, 0))
  end
  return table.concat(parts)
end

--- The value of an option of numbers of 16 bits, such as the options that are asked for.
-- @tparam {integer,...} numbers
-- @treturn string
function M.numbers(numbers)
  return string.pack(">" .. ("I2"):rep(#numbers), table.unpack(numbers))
end

-- Reading ----------------------------------------------------------------------------------

-- Options by number, each a list of values; nil: one leads out of the bytes.
local function read_options(bytes, at)
  local options = {}
  while at <= #bytes do
    if at + 3 > #bytes then return nil end
    local number, len = string.unpack(">I2I2", bytes, at)
    if at + 3 + len > #bytes then return nil end
    local list = options[number] or {}
    list[#list + 1] = bytes:sub(at + 4, at + 3 + len)
    options[number], at = list, at + 4 + len
  end
  return options
end

--- A message of a server.
-- @tparam string bytes
-- @treturn table `kind` (a name), `xid`, `options`: by number a list of values
-- @treturn[2] nil
-- @treturn[2] string why it is none
function M.decode(bytes)
  if #bytes < 4 then return nil, "it is too short" end
  local number, xid = string.unpack(">BI3", bytes)
  local kind = kind_of[number]
  if kind ~= "advertise" and kind ~= "reply" then return nil, "it is no answer" end
  local options = read_options(bytes, 5)
  if not options then return nil, "an option leads out of it" end
  return { kind = kind, xid = xid, options = options }
end

--- The value of an option: of one that stands several times the first.
-- @tparam table options by number
-- @tparam integer number
-- @treturn string|nil
function M.first(options, number) return options[number] and options[number][1] end

--- A number of an option.
-- @tparam table options by number
-- @tparam integer number
-- @tparam integer len how many bytes it has
-- @treturn integer|nil
function M.number(options, number, len)
  return message4.number(M.first(options, number), len)
end

--- What a server says has come of it.
-- @tparam table options by number
-- @treturn integer one of @{statuses}, or another; 0 also where it says nothing
-- @treturn ?string and in words
function M.status(options)
  local value = M.first(options, code.status)
  if not value or #value < 2 then return 0 end
  return string.unpack(">I2", value), message4.text(value:sub(3))
end

-- An address of an IA that has one; nil: it is none, or is to be passed over (RFC 8415, 18.2.10.1).
local function read_address(value)
  if #value < 24 then return nil end
  local bytes, preferred, valid, at = string.unpack(">c16I4I4", value)
  local options = read_options(value, at)
  if not options or preferred > valid or M.status(options) ~= 0 then return nil end
  return { bytes = bytes, preferred = preferred, valid = valid }
end

--- What a message has for an identity.
-- @tparam table options by number
-- @tparam integer iaid
-- @treturn table|nil `t1`, `t2`, `status`, `said` (a text), `addresses`: list of `bytes`, `preferred` and
-- `valid` in seconds; nil: it has nothing that can be read
-- @treturn ?string why it is passed over
function M.identity(options, iaid)
  for _, value in ipairs(options[code.ia] or {}) do
    local own, t1, t2, inner
    if #value >= 12 then
      own, t1, t2 = string.unpack(">I4I4I4", value)
      inner = own == iaid and read_options(value, 13)
    end
    if inner then
      -- RFC 8415, 21.4: such an identity is to be passed over.
      if t1 > t2 and t2 > 0 then return nil, ("says T1 %d behind T2 %d"):format(t1, t2) end
      local status, said = M.status(inner)
      local list = {}
      for _, item in ipairs(inner[code.ia_address] or {}) do list[#list + 1] = read_address(item) end
      return { t1 = t1, t2 = t2, status = status, said = said, addresses = list }
    end
  end
end

--- The addresses of an option.
-- @tparam table options by number
-- @tparam integer number
-- @treturn {string,...} 16 bytes each
function M.addresses(options, number)
  local value, list = M.first(options, number) or "", {}
  for i = 1, #value - 15, 16 do list[#list + 1] = value:sub(i, i + 15) end
  return list
end

--- Whether some bytes can be the address of one machine.
-- @tparam string bytes
-- @treturn boolean
function M.is_host(bytes)
  return not (addr.is_unspecified(bytes) or addr.is_multicast(bytes) or addr.is_loopback(bytes))
end

--- What a message says of names: resolvers and the search list.
-- @tparam table options by number
-- @treturn table|nil `nameservers`, `search`
function M.dns(options)
  local servers, search = {}, message4.domains(M.first(options, code.domains))
  for _, bytes in ipairs(M.addresses(options, code.dns)) do
    if M.is_host(bytes) then servers[#servers + 1] = addr.text(bytes) end
  end
  local dns = { nameservers = servers[1] and servers or nil, search = search[1] and search or nil }
  return next(dns) and dns or nil
end

return M
