-- SPDX-License-Identifier: MIT
--- Rules of nf_tables in words instead of registers.
--
-- Each function gives the expressions of one match or statement, `rule` puts them
-- together; the result is what `exprs` of a rule wants:
--
--     nft.rule(nft.saddr("10.1.0.0/16"), nft.oifname("br0", "!="), nft.masquerade())
--
-- Matches of an address look at the packet's family first where the table is of more
-- than one, so a rule about IPv4 never reads the bytes of an IPv6 header.
--
-- Speed, measured: a commit of one element takes 9 us in a set or a map of values
-- whatever its size; in a map of verdicts that lead to chains the kernel looks at every
-- element again (0.6 ms at 10,000, 10 ms at 60,000). A refused batch waits 12 ms for RCU:
-- ask before (`get`, 7 us) or `destroy` rather than let a batch fail.
-- A handle's `ensure_nft_table` and `add_nft_rule` take them.
--
-- @module cni.nft

local addr = require "cni.addr"

local M = {}

local ops = { ["=="] = "eq", ["!="] = "neq" }

-- Where the address fields are, by protocol, and how to tell the protocol.
local headers = {
  ip = { saddr = 12, daddr = 16, len = 4, nfproto = "ipv4" },
  ip6 = { saddr = 8, daddr = 24, len = 16, nfproto = "ipv6" },
}

local function op_of(op)
  local word = ops[op or "=="]
  if not word then error(("operator %q is neither == nor !="):format(op), 3) end
  return word
end

local function cmp(op, data)
  return { "cmp", sreg = 1, op = op, data = data }
end

-- Load `len` bytes, by default all, of an address. `needs` is for `rule`.
local function field_of(proto, field, len)
  local header = headers[proto] or error(("unknown protocol %q"):format(proto), 3)
  return { needs = proto,
    { "payload", base = "network", offset = header[field], len = len or header.len,
      dreg = 1 } }
end

local function parse(text)
  local cidr = addr.parse(text)
  if cidr then return cidr:network().ip, cidr.len end
  local bytes = addr.ip(text)
  if not bytes then error(("%q is neither an address nor a prefix"):format(text), 4) end
  return bytes, 8 * #bytes
end

-- The first `len` bits set, of `count` bytes.
local function mask(len, count)
  local out = {}
  for i = 1, count do
    local bits = math.max(0, math.min(8, len - 8 * (i - 1)))
    out[i] = string.char(0xff << (8 - bits) & 0xff)
  end
  return table.concat(out)
end

local function address(field, text, op)
  local bytes, len = parse(text)
  local word = op_of(op)
  -- Whole bytes need no mask; odd prefixes nft recognises by theirs.
  local count = len % 8 == 0 and len // 8 or #bytes
  local list = field_of(#bytes == 4 and "ip" or "ip6", field, count)
  if count == 0 then
    if word == "neq" then error("no address differs from " .. text, 3) end
    list[1] = nil
    return list
  end
  if len % 8 ~= 0 then
    list[2] = { "bitwise", sreg = 1, dreg = 1, len = count, mask = mask(len, count),
      xor = ("\0"):rep(count) }
  end
  list[#list + 1] = cmp(word, bytes:sub(1, count))
  return list
end

--- Match the source address.
-- @tparam string prefix address or prefix, IPv4 or IPv6; bits beyond it do not count
-- @tparam[opt="=="] string op or `"!="`: the other addresses of the same family
-- @treturn table expressions
function M.saddr(prefix, op) return address("saddr", prefix, op) end

--- Match the destination address; see `saddr`.
-- @tparam string prefix address or prefix
-- @tparam[opt="=="] string op or `"!="`
-- @treturn table expressions
function M.daddr(prefix, op) return address("daddr", prefix, op) end

local function lookup(proto, field, set, op)
  local list = field_of(proto, field)
  list[2] = { "lookup", set = set, sreg = 1,
    flags = op_of(op) == "neq" and { "inverted" } or nil }
  return list
end

--- Match source addresses in a set.
-- @tparam string proto `"ip"` or `"ip6"`
-- @tparam string set name of a set of the same table
-- @tparam[opt="=="] string op or `"!="`: not in it
-- @treturn table expressions
function M.saddr_in(proto, set, op) return lookup(proto, "saddr", set, op) end

--- Match destination addresses in a set; see `saddr_in`.
-- @tparam string proto `"ip"` or `"ip6"`
-- @tparam string set name of a set of the same table
-- @tparam[opt="=="] string op or `"!="`
-- @treturn table expressions
function M.daddr_in(proto, set, op) return lookup(proto, "daddr", set, op) end

local function vmap(proto, field, map)
  local list = field_of(proto, field)
  list[2] = { "lookup", set = map, sreg = 1, dreg = "verdict" }
  return list
end

--- Let the source address pick a verdict; without one the rule does not match.
-- @tparam string proto `"ip"` or `"ip6"`
-- @tparam string map name of a map of verdicts
-- @treturn table expressions
function M.saddr_vmap(proto, map) return vmap(proto, "saddr", map) end

--- Let the destination address pick a verdict; see `saddr_vmap`.
-- @tparam string proto `"ip"` or `"ip6"`
-- @tparam string map name of a map of verdicts
-- @treturn table expressions
function M.daddr_vmap(proto, map) return vmap(proto, "daddr", map) end

-- Fields of a packet by name: how each is loaded, how many registers of four bytes it fills.
local function piece(proto, name, register)
  if name == "saddr" or name == "daddr" then
    local header = headers[proto]
    return { "payload", base = "network", offset = header[name], len = header.len, dreg = register },
      header.len // 4
  elseif name == "sport" or name == "dport" then
    return { "payload", base = "transport", offset = name == "dport" and 2 or 0, len = 2, dreg = register }, 1
  elseif name == "iifname" or name == "oifname" then
    return { "meta", key = name, dreg = register }, 4
  elseif name == "l4proto" or name == "mark" then
    return { "meta", key = name, dreg = register }, 1
  end
  error(("unknown field %q"):format(tostring(name)), 4)
end

local first_register <const> = 8 -- of four bytes; those below are of sixteen

local function fields_of(proto, names)
  if not headers[proto] then error(("unknown protocol %q"):format(tostring(proto)), 3) end
  local list, register = { needs = proto }, first_register
  for _, item in ipairs(names) do
    local name, bits = item, nil
    if type(item) == "table" then name, bits = item[1], item[2] end
    local load, count = piece(proto, name, register)
    local size = count * 4
    list[#list + 1] = load
    if bits and bits < size * 8 then
      list[#list + 1] = { "bitwise", sreg = register, dreg = register, len = size, mask = mask(bits, size),
        xor = ("\0"):rep(size) }
    end
    register = register + count
  end
  return list
end

--- Match by several fields at once, in a set whose key is a concatenation of their types. The set may be one
-- of intervals.
-- @tparam string proto `"ip"` or `"ip6"`: the packets that it is about
-- @tparam {string,...} names in the order of the key: `saddr`, `daddr`, `l4proto`, `sport`, `dport`,
-- `iifname`, `oifname`, `mark`; of an address `{ "daddr", 24 }` is its network: the first 24 bits alone
-- @tparam string set name of a set of the same table
-- @tparam[opt="=="] string op or `"!="`: not in it
-- @treturn table expressions
function M.fields_in(proto, names, set, op)
  local list = fields_of(proto, names)
  list[#list + 1] = { "lookup", set = set, sreg = first_register,
    flags = op_of(op) == "neq" and { "inverted" } or nil }
  return list
end

--- Send a connection to another destination, which a map has for some fields of its first packet. Without one
-- there the rule does not match. For base chains of type `nat`.
-- @tparam string proto `"ip"` or `"ip6"`
-- @tparam {string,...} names of the fields, see `fields_in`
-- @tparam string map name of a map of the same table, from the types of the fields to an address, or to an
-- address and a port
-- @tparam[opt=false] boolean port whether the map tells the port too; otherwise it stays as it is
-- @treturn table expressions
function M.dnat_by(proto, names, map, port)
  local list = fields_of(proto, names)
  list[#list + 1] = { "lookup", set = map, sreg = first_register, dreg = first_register }
  list[#list + 1] = { "nat", type = "dnat", family = proto, addr_min = first_register,
    port_min = port and first_register + headers[proto].len // 4 or nil }
  return list
end

--- Put fields of a packet into a set, which is `dynamic`.
-- @tparam string proto `"ip"` or `"ip6"`: the packets that it is about
-- @tparam {string,...} names of the fields, see `fields_in`
-- @tparam string set name of a set of the same table
-- @treturn table expressions
function M.fields_into(proto, names, set)
  local list = fields_of(proto, names)
  list[#list + 1] = { "dynset", set = set, op = "add", sreg_key = first_register }
  return list
end

local states <const> = { invalid = 1, established = 2, related = 4, new = 8, untracked = 64 }

--- Match packets of connections that are in one of some states.
-- @tparam string ... of invalid, established, related, new, untracked
-- @treturn table expressions
function M.ct_state(...)
  local bits = 0
  for _, word in ipairs { ... } do
    bits = bits | (states[word] or error(("unknown state %q"):format(tostring(word)), 2))
  end
  return { { "ct", key = "state", dreg = 1 },
    { "bitwise", sreg = 1, dreg = 1, len = 4, mask = string.pack("=I4", bits), xor = ("\0"):rep(4) },
    { "cmp", sreg = 1, op = "neq", data = ("\0"):rep(4) } }
end

--- Match connections whose destination was translated.
-- @treturn table expressions
function M.is_dnatted()
  local dnat = string.pack("=I4", 32)
  return { { "ct", key = "status", dreg = 1 },
    { "bitwise", sreg = 1, dreg = 1, len = 4, mask = dnat, xor = ("\0"):rep(4) },
    { "cmp", sreg = 1, op = "neq", data = ("\0"):rep(4) } }
end

--- Match a property of the packet.
-- @tparam string key as in `meta`: "iifname", "mark", "l4proto", ...
-- @param data bytes or { type = value }
-- @tparam[opt="=="] string op
-- @treturn table expressions
function M.meta(key, data, op)
  return { { "meta", key = key, dreg = 1 }, cmp(op_of(op), data) }
end

--- Match the family of the packet: `"ipv4"` or `"ipv6"`.
-- @tparam string proto
-- @tparam[opt="=="] string op or `"!="`
-- @treturn table expressions
function M.nfproto(proto, op) return M.meta("nfproto", { nf_proto = proto }, op) end

--- Match the name of the interface it came in by.
-- @tparam string name
-- @tparam[opt="=="] string op or `"!="`
-- @treturn table expressions
function M.iifname(name, op) return M.meta("iifname", { ifname = name }, op) end

--- Match the name of the interface it leaves by.
-- @tparam string name
-- @tparam[opt="=="] string op or `"!="`
-- @treturn table expressions
function M.oifname(name, op) return M.meta("oifname", { ifname = name }, op) end

--- Match by what the destination address is to this host.
-- @tparam string kind `"local"`, `"broadcast"`, `"multicast"`, `"unicast"`, ...
-- @tparam[opt="=="] string op
-- @treturn table expressions
function M.fib_daddr(kind, op)
  return { { "fib", result = "type", flags = { "daddr" }, dreg = 1 },
    cmp(op_of(op), { fib_addrtype = kind }) }
end

--- A verdict: `"accept"`, `"drop"`, `"return"`, or `"jump"` and `"goto"` with a chain.
-- @tparam string word
-- @tparam[opt] string chain
-- @treturn table expressions
function M.verdict(word, chain)
  return { { "immediate", dreg = "verdict", data = { verdict = word, chain = chain } } }
end

--- Give the packet the address of the interface it leaves by.
function M.masquerade() return { { "masq" } } end

--- Count the packets that come this far.
function M.counter() return { { "counter" } } end

-- How a table of a family tells one protocol from the other; nil: it has only that one.
local function guard(family, proto)
  if family == "inet" then return M.nfproto(headers[proto].nfproto) end
  if family == "bridge" or family == "netdev" then
    return M.meta("protocol", { ether_type = proto })
  end
  if family ~= proto then
    error(("no %s in a table of family %s"):format(proto, family), 3)
  end
end

local function append(list, more)
  for _, expression in ipairs(more or {}) do list[#list + 1] = expression end
end

--- The expressions of one rule.
-- @tparam[opt="inet"] string family of the table
-- @param ... matches and statements, in order
-- @treturn table for `exprs`
function M.rule(family, ...)
  if type(family) ~= "string" then return M.rule("inet", family, ...) end
  local list, known = {}, nil
  for _, part in ipairs { ... } do
    if part.needs and part.needs ~= known then
      append(list, guard(family, part.needs))
      known = part.needs
    end
    append(list, part)
  end
  return list
end

--- A text as a comment can hold it: what nft cannot read back becomes `?`, and the end
-- is cut off at 128 bytes.
-- @tparam string text
-- @treturn string
function M.comment(text)
  return (text:gsub('[%c"\127]', "?"):sub(1, 128))
end

-- Who keeps the socket: the handle; or, where many attachments are taken back together, what they have in
-- common. One that is closed waits for RCU when anything has just been deleted, by whatever socket: so a call
-- has one alone, to look and to change.
local function keeper_of(h)
  return h.name == "host" and h.plan.batch or h
end

--- The socket of nf_tables, opened when it is first needed and closed with the handle.
-- @tparam handle h of the namespace
-- @return the socket; do not close it
-- @raise when it cannot be opened, the kernel has none among others
-- @local
function M.open(h)
  local keeper = keeper_of(h)
  if keeper.nft then return keeper.nft end
  local socket, msg, errno = require("netlink").nft(h:namespace())
  if not socket then require("cni.fail").kernel("open nf_tables", msg, errno) end
  keeper.nft = socket
  return socket
end

--- The same, to look for what may be there or to take it back.
-- @tparam handle h of the namespace
-- @return the socket; do not close it. nil: the kernel has no nf_tables, and so nothing in them
-- @raise when it cannot be opened for another reason
-- @local
function M.open_if_any(h)
  local keeper = keeper_of(h)
  if keeper.nft then return keeper.nft end
  local fail, netlink = require "cni.fail", require "netlink"
  local errors = netlink.sys.errno
  local socket, msg, errno = netlink.nft(h:namespace())
  -- No family of netlink for netfilter.
  if not socket and errno == errors.EPROTONOSUPPORT then return nil end
  if not socket then fail.kernel("open nf_tables", msg, errno) end
  -- EINVAL is what the kernel says of a subsystem of netfilter that it has not: the question has no
  -- arguments that could be invalid. It says so each time, and not once, as a call does that fails.
  for _ = 1, 2 do
    local generation
    generation, msg, errno = socket:generation()
    if generation then
      keeper.nft = socket
      return socket
    end
    if errno ~= errors.EINVAL then break end
  end
  socket:close()
  if errno ~= errors.EINVAL then fail.kernel("look at nf_tables", msg, errno) end
end

return M
