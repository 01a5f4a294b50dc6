-- SPDX-License-Identifier: MIT
--- A client of DHCP (RFC 2131), on a link of a sandbox that may have no address yet. Nothing is written down
-- here, and no address is put on a link.
--
-- A *lease* is what a server has granted, as plain data:
--
--     address         with its prefix length
--     gateway         the first router; absent: none
--     routes          list of `dst`, and `gw`: an address, or 0.0.0.0 for what is on the link
--     dns             `nameservers`, `domain`, `search`; absent: the server has told nothing of them
--     mtu             absent: the server has told none
--     server          address of the server; `server_mac`, by whom its packets come
--     client          the client identifier, in hexadecimal digits
--     granted         when, on the clock of `netlink.sys.uptime`; `renew_at`, `rebind_at`, `expires_at` on
--                     the same; without the last three: for ever
--
-- Who keeps it may add to it, see cni.step.dhcp.
--
-- @module cni.dhcp.client

local addr = require "cni.addr"
local fail = require "cni.fail"
local files = require "cni.record.files"
local message = require "cni.dhcp.message"
local netlink = require "netlink"

local sys, ns = netlink.sys, netlink.ns
local code = message.options

local M = {}

local ip_type <const>, arp_type <const> = 0x0800, 0x0806
local nobody <const>, everybody <const> = ("\0"):rep(4), ("\255"):rep(4)
local all_macs <const> = ("\255"):rep(6)

-- A message is sent again after 4, 8, 16, 32, 64 s, each a second more or less (RFC 2131, 4.1).
local first_wait <const>, longest_wait <const> = 4, 64

-- So often a request is sent for what was offered, before another offer is asked for.
local requests <const> = 2

-- After a DECLINE (RFC 2131, 3.1); and at most after a NAK, which a server that is out of its mind may always
-- send. One that offers the same to all who ask at a time refuses all but the first, and they are not to come
-- again together.
local after_decline <const>, after_nak <const> = 10, 2

-- So long after the first offer the others are waited for, where it matters whose they are.
local other_offers <const> = 0.25

local forever <const> = 0xffffffff

-- What every host takes (RFC 2131, 2); by a smaller MTU no server would be heard again.
local least_mtu <const> = 576

local function random_number()
  return (string.unpack("I4", files.must(sys.random(4))))
end

local function mac_text(bytes)
  return (bytes:gsub(".", function(c) return ("%02x:"):format(c:byte()) end):sub(1, -2))
end

local function mac_bytes(text)
  return (text:gsub("%x%x:?", function(pair) return string.char(tonumber(pair:sub(1, 2), 16)) end))
end

local function from_hex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

local function ms_left(till) return math.max(0, (till - sys.clock()) * 1000 + 0.5) // 1 | 0 end

local function must(value, what, msg, errno)
  return value or fail.kernel(what, msg, errno)
end

-- Talking ----------------------------------------------------------------------------------

-- One conversation: a socket, and what all messages of it have alike.
local Talk = {}
Talk.__close = function(self) self.wire:close() end

local function begin(where, link, want)
  local wire, msg, errno = ns.frames(where, link.index, ip_type, 68)
  return setmetatable({
    wire = must(wire, "speak DHCP on " .. link.name, msg, errno), where = where, link = link, want = want,
    xid = random_number(), mac = mac_bytes(link.mac), began = sys.clock(), heard = {},
    silent = {},
  }, Talk)
end

local function options_of(want, kind)
  local options = { [code.client] = from_hex(want.client) }
  if kind ~= "decline" and kind ~= "release" then
    options[code.longest] = string.pack(">I2", 1500)
    options[code.wanted] = want.wanted
    for number, value in next, want.provide or {} do options[number] = value end
  end
  return options
end

local function build(talk, kind, more)
  local secs = math.min(0xffff, (sys.clock() - talk.began) // 1 | 0)
  local options = options_of(talk.want, kind)
  for number, value in next, more.options or {} do options[number] = value end
  local told = kind == "discover" or kind == "request"
  return message.encode { kind = kind, xid = talk.xid, secs = told and secs or 0, chaddr = talk.mac,
    flags = told and talk.want.broadcast and message.broadcast or 0, ciaddr = more.ciaddr,
    options = options }
end

local function send(talk, kind, more)
  local bytes = message.wrap(more.ciaddr or nobody, more.to or everybody, build(talk, kind, more))
  local ok, msg, errno = talk.wire:send(bytes, more.mac or all_macs)
  must(ok, "speak DHCP on " .. talk.link.name, msg, errno)
end

-- The next answer to this conversation that `take` gives a value for; nil: none came in time, however much
-- comes of others.
local function hear(talk, till, take)
  repeat
    local bytes, mac, is_summed = talk.wire:receive(ms_left(till))
    if not bytes then
      if is_summed == sys.errno.ETIMEDOUT then return nil end
      fail.kernel("hear DHCP on " .. talk.link.name, mac, is_summed)
    end
    local text, from = message.unwrap(bytes, is_summed)
    local answer = text and message.decode(text)
    if answer and answer.xid == talk.xid and answer.chaddr == talk.mac then
      answer.mac, answer.from = mac, from
      local value, more = take(answer)
      if value then return value, more end
    end
  until sys.clock() >= till
end

local function text_of(bytes) return addr.text(bytes) end

local function usable(bytes)
  return bytes and bytes ~= nobody and not addr.is_multicast(bytes) and not addr.is_loopback(bytes)
    and bytes:byte() < 224
end

local function server_of(answer)
  local server = answer.options[code.server]
  return server and #server == 4 and usable(server) and server or nil
end

-- What a server says is wrong, for the error in the end.
local function note(talk, answer, what)
  local by = addr.text(server_of(answer) or answer.from)
  local said = message.text(answer.options[code.message])
  local text = ("%s %s%s"):format(by, what,
    said and (": %q"):format(said:gsub("[^\32-\126]", "?"):sub(1, 100)) or "")
  if text ~= talk.heard[#talk.heard] then table.insert(talk.heard, text) end
end

-- Leases -----------------------------------------------------------------------------------

local function prefix_len(mask)
  local bits = message.number(mask, 4)
  local len = bits and 32
  while len and len > 0 and bits & 1 == 0 do bits, len = bits >> 1, len - 1 end
  if not bits or len == 0 or bits ~= (1 << len) - 1 then return nil end
  return len
end

-- Routes of the server: option 121 stands in place of all others (RFC 3442).
local function routes_of(options, gateway)
  local list = {}
  local classless = message.classless(options[code.classless_routes])
  local given = classless[1] and classless or message.static(options[code.static_routes])
  for _, entry in ipairs(given) do
    local to = addr.parse(entry.dst).ip
    if not addr.is_loopback(to) and not addr.is_multicast(to) then
      list[#list + 1] = { dst = entry.dst, gw = text_of(entry.router) }
    end
  end
  if not classless[1] and gateway then list[#list + 1] = { dst = "0.0.0.0/0", gw = gateway } end
  return list
end

local function dns_of(options)
  local servers, search, domain = {}, message.domains(options[code.domain_search]),
    message.text(options[code.domain_name])
  for _, bytes in ipairs(message.addresses(options[code.dns])) do
    if usable(bytes) then servers[#servers + 1] = text_of(bytes) end
  end
  domain = message.is_domain(domain) and domain or nil
  local dns = { nameservers = servers[1] and servers or nil, domain = domain,
    search = search[1] and search or nil }
  return next(dns) and dns or nil
end

-- When to renew, and so on. What a server says counts only where it makes sense.
local function times_of(options, now)
  local lasts = message.number(options[code.duration], 4)
  if lasts == forever then return {} end
  local t1, t2 = message.number(options[code.renew], 4), message.number(options[code.rebind], 4)
  if not t2 or t2 == 0 or t2 >= lasts then t2 = lasts * 0.875 end
  if not t1 or t1 == 0 or t1 >= t2 then t1 = math.min(lasts * 0.5, t2) end
  -- Who began together does not go on together (RFC 2131, 4.4.5).
  local fuzz = 1 - random_number() % 1000 / 20000
  return { renew_at = now + t1 * fuzz, rebind_at = now + t2, expires_at = now + lasts }
end

-- Why an answer grants nothing that can be used; nil: it does.
local function flaw(answer)
  local options = answer.options
  if not usable(answer.yiaddr) then return "gives no address" end
  if not server_of(answer) then return "does not say who it is" end
  if (message.number(options[code.duration], 4) or 0) == 0 then return "does not say for how long" end
  if not prefix_len(options[code.subnet_mask]) then return "gives no subnet mask that is one" end
end

-- The lease in an acknowledgement without a flaw.
local function lease_of(talk, answer, asked_at)
  local options = answer.options
  local router = message.addresses(options[code.routers])[1]
  local gateway = usable(router) and text_of(router) or nil
  local lease = times_of(options, asked_at)
  local len = prefix_len(options[code.subnet_mask])
  lease.address, lease.gateway = tostring(addr.cidr(answer.yiaddr, len)), gateway
  lease.routes, lease.dns = routes_of(options, gateway), dns_of(options)
  local mtu = message.number(options[code.mtu], 2)
  lease.mtu = mtu and mtu >= least_mtu and mtu or nil
  lease.server, lease.server_mac = text_of(server_of(answer)), mac_text(answer.mac)
  lease.client, lease.granted = talk.want.client, asked_at
  return lease
end

local function host_of(lease) return addr.parse(lease.address).ip end

-- Conflicts --------------------------------------------------------------------------------

local arp <const> = ">I2I2BBI2c6c4c6c4"

-- Whose an address is already; nil: nobody has said so (RFC 5227, 2.1.1, with a shorter wait).
local function owner_of(talk, address)
  local ms = talk.want.probe_ms
  if ms == 0 then return nil end
  local wire <close>, msg, errno = ns.frames(talk.where, talk.link.index, arp_type)
  must(wire, "probe an address on " .. talk.link.name, msg, errno)
  for part = 1, 2 do
    must(wire:send(string.pack(arp, 1, ip_type, 6, 4, 1, talk.mac, nobody, ("\0"):rep(6), address), all_macs))
    local till = sys.clock() + ms / 2000
    repeat
      local bytes, by, problem = wire:receive(ms_left(till))
      if not bytes and problem ~= sys.errno.ETIMEDOUT then fail.kernel("probe an address", by, problem) end
      if not bytes then break end
      if #bytes >= 28 then
        local _, _, _, _, op, mac, from, _, to = string.unpack(arp, bytes)
        local probes = op == 1 and from == nobody and to == address
        if mac ~= talk.mac and (from == address or probes) then return mac_text(mac) end
      end
    until sys.clock() >= till
    if part == 2 then return nil end
  end
end

--- Tell the neighbours whose an address is: they may know another's MAC for it. Once: RFC 5227, 2.3, has a
-- second one two seconds later, which is for who is there by then.
-- @param where as for @{acquire}
-- @tparam table link
-- @string address
-- @raise why it cannot be sent
function M.announce(where, link, address)
  local mac, bytes = mac_bytes(link.mac), addr.ip(address)
  local wire <close>, msg, errno = ns.frames(where, link.index, arp_type)
  must(wire, "announce an address on " .. link.name, msg, errno)
  must(wire:send(string.pack(arp, 1, ip_type, 6, 4, 1, mac, bytes, ("\0"):rep(6), bytes), all_macs))
end

-- Acquiring --------------------------------------------------------------------------------

local function wait_of(n)
  return math.min(first_wait << n, longest_wait) + (random_number() % 2001 - 1000) / 1000
end

-- An offer, or at once an acknowledgement (RFC 4039); nil: none by the deadline. That of a server which has
-- said nothing more after another one counts only where there is no other.
local function discover(talk, deadline)
  local want, n = talk.want, 0
  repeat
    local spare
    send(talk, "discover", { options = {
      [code.address] = want.address and addr.ip(want.address) or nil,
      [code.rapid_commit] = want.rapid and "" or nil,
    } })
    talk.asked_at = sys.uptime()
    talk.sent = (talk.sent or 0) + 1
    local offer = hear(talk, math.min(deadline, sys.clock() + wait_of(n)), function(answer)
      local rapid = answer.kind == "ack" and want.rapid and answer.options[code.rapid_commit]
      if answer.kind ~= "offer" and not rapid then return nil end
      local problem = flaw(answer)
      if problem then
        note(talk, answer, problem)
      elseif talk.silent[server_of(answer)] then
        spare = answer
      else
        return answer
      end
    end)
    if offer or spare then return offer or spare end
    n = n + 1
  until sys.clock() >= deadline
end

-- The acknowledgement of what was offered; false: the server has refused it; nil: it does not answer.
local function request(talk, offer, deadline)
  local server = server_of(offer)
  for n = 0, requests - 1 do
    talk.has_requested = true
    send(talk, "request", { options = { [code.address] = offer.yiaddr, [code.server] = server } })
    talk.asked_at = sys.uptime()
    local answer = hear(talk, math.min(deadline, sys.clock() + wait_of(n)), function(answer)
      if server_of(answer) ~= server or answer.kind == "ack" and answer.yiaddr ~= offer.yiaddr then
        return nil
      end
      if answer.kind == "nak" then return answer end
      return answer.kind == "ack" and not flaw(answer) and answer or nil
    end)
    if answer and answer.kind == "ack" then return answer end
    if answer then
      note(talk, answer, "refuses what it has offered")
      return false
    end
    if sys.clock() >= deadline then break end
  end
  talk.silent[server] = true
  note(talk, offer, ("has offered %s, and then given no answer"):format(text_of(offer.yiaddr)))
end

local function decline(talk, answer, owner)
  send(talk, "decline", { options = { [code.address] = answer.yiaddr, [code.server] = server_of(answer) } })
  note(talk, answer, ("gives %s, which %s has already"):format(text_of(answer.yiaddr), owner))
end

local function nothing(talk, seconds)
  local heard = talk.heard[#talk.heard]
  fail.throw { code = fail.codes.again,
    msg = heard and ("no DHCP server has given %s an address: %s"):format(talk.link.name, heard)
      or ("no DHCP server answers on %s: %d requests in %.0f seconds"):format(talk.link.name, talk.sent or 0,
        seconds),
    details = #talk.heard > 1 and table.concat(talk.heard, "; ") or nil,
    hint = not heard and "is there one on this network, and does what is between let UDP 67 and 68 through?"
      or nil }
end

-- One round: an acknowledgement; nil, and how long to wait before the next.
local function round(talk, deadline)
  local offer = discover(talk, deadline)
  if not offer then return nil, 0 end
  local answer = offer
  if offer.kind == "offer" then answer = request(talk, offer, deadline) end
  if answer == false then return nil, after_nak * (0.05 + random_number() % 1000 / 1000) end
  if not answer then return nil, 0 end
  local owner = owner_of(talk, answer.yiaddr)
  if not owner then return answer end
  decline(talk, answer, owner)
  return nil, after_decline
end

--- Get a lease: DISCOVER, OFFER, REQUEST, ACK, and a probe whether somebody has the address.
-- @param where the sandbox, for netlink.ns
-- @tparam table link of it: `name`, `index`, `mac`
-- @tparam table want
--
-- - `client`: client identifier, in hexadecimal digits
-- - `wanted`: option 55, the bytes; `provide`: options to send, bytes by number
-- - `address`: to ask for, as text; nil: any
-- - `rapid`: be content with two messages, where the server is
-- - `broadcast`: have answers sent to all, where the link hears no others before it has an address
-- - `probe_ms`: how long others have to say that they have the address; 0: they are not asked
-- @tparam number seconds at most
-- @treturn table a lease
-- @raise code 11 where none is to be had; `unasked`: no server can have granted one
function M.acquire(where, link, want, seconds)
  local talk <close> = begin(where, link, want)
  local deadline = sys.clock() + seconds
  local ok, lease = pcall(function()
    repeat
      local answer, rest = round(talk, deadline)
      if answer then return lease_of(talk, answer, talk.asked_at) end
      if sys.clock() + rest >= deadline then break end
      hear(talk, sys.clock() + rest, function() end)
      talk.xid = random_number()
    until sys.clock() >= deadline
    nothing(talk, seconds)
  end)
  if ok then return lease end
  lease = fail.wrap(lease)
  lease.unasked = not talk.has_requested and not want.rapid or nil
  error(lease, 0)
end

-- Keeping ----------------------------------------------------------------------------------

local function granted_or_not(answer)
  return (answer.kind == "ack" or answer.kind == "nak") and answer or nil
end

-- By the server's address (RENEWING): as the routes of the sandbox lead there. The answer may be for all, and
-- is heard with the others.
local function ask_server(talk, lease, till)
  local own = host_of(lease)
  local wire <close>, msg, errno = ns.datagrams(talk.where, own, 68, addr.ip(lease.server), 67)
  if not wire then return nil, msg, errno end
  local ok
  ok, msg, errno = wire:send(build(talk, "request", { ciaddr = own }))
  if not ok then return nil, msg, errno end
  return hear(talk, till, granted_or_not)
end

-- By broadcast (REBINDING).
local function ask_all(talk, lease, till)
  send(talk, "request", { ciaddr = host_of(lease) })
  return hear(talk, till, granted_or_not)
end

--- Ask for more time: the server that has granted a lease, or, from its `rebind_at` on, any.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table want as for @{acquire}
-- @tparam table lease
-- @tparam number seconds to wait for an answer
-- @treturn table|boolean a lease, perhaps with other values; false: it is refused, and the address is to be
-- given up at once; nil: nobody answers
-- @treturn ?string with false or nil: what is known of why
function M.renew(where, link, want, lease, seconds)
  local talk <close> = begin(where, link, want)
  local till, rebinds = sys.clock() + seconds, lease.rebind_at and sys.uptime() >= lease.rebind_at
  local asked_at = sys.uptime()
  local answer, why = (rebinds and ask_all or ask_server)(talk, lease, till)
  if not answer then
    return nil, why or ("no DHCP server has answered within %.0f seconds"):format(seconds)
  end
  if answer.kind == "nak" then
    note(talk, answer, "refuses to renew it")
    return false, talk.heard[1]
  end
  -- A server that answers by its address alone need not name it again.
  if not server_of(answer) then answer.options[code.server] = addr.ip(lease.server) end
  local problem = flaw(answer)
  if problem then
    note(talk, answer, problem)
    return nil, talk.heard[1]
  end
  -- Another address is to be asked for, and looked for, as any new one.
  if answer.yiaddr ~= host_of(lease) then
    note(talk, answer, ("gives %s in its place"):format(text_of(answer.yiaddr)))
    return false, talk.heard[1]
  end
  return lease_of(talk, answer, asked_at)
end

-- Giving back ------------------------------------------------------------------------------

--- Give a lease back (RELEASE): sent as from the leased address, whether the link has it still or not. There
-- is no answer to it.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table lease
function M.release(where, link, lease)
  local talk <close> = begin(where, link, { client = lease.client })
  local server = addr.ip(lease.server)
  send(talk, "release", { ciaddr = host_of(lease), to = server, mac = mac_bytes(lease.server_mac),
    options = { [code.server] = server } })
end

--- Give back what servers have for a client identifier, where it is not known what that is: a server offers a
-- client the address that it has. Another one may be the first to make an offer, and there an address that
-- was only offered can be given back too.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table want as for @{acquire}
-- @tparam number seconds to wait for an offer
function M.forget(where, link, want, seconds)
  local talk <close> = begin(where, link, want)
  send(talk, "discover", { options = { [code.address] = want.address and addr.ip(want.address) or nil } })
  local till = sys.clock() + seconds
  local function take(answer)
    return answer.kind == "offer" and usable(answer.yiaddr) and server_of(answer) and answer or nil
  end
  local offer = hear(talk, till, take)
  till = math.min(till, sys.clock() + other_offers)
  while offer do
    M.release(where, link, { client = want.client, address = text_of(offer.yiaddr) .. "/32",
      server = text_of(server_of(offer)), server_mac = mac_text(offer.mac) })
    offer = hear(talk, till, take)
  end
end

return M
