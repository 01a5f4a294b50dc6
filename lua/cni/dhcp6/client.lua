-- SPDX-License-Identifier: MIT
--- A client of DHCPv6 (RFC 8415), and of what comes without it: on a link of a sandbox, from its link-local
-- address. Nothing is written down here, and no address is put on a link.
--
-- A *lease* is, as with cni.dhcp.client, plain data:
--
--     by              stateful: a server gives the addresses; stateless: the kernel has made them as routers
--                     advertise, and a server has told the rest; slaac: nothing but that
--     address         the first of `addresses`
--     addresses       list of `address`, with 128 bits where a server gives it, since it knows of no network;
--                     `preferred_until` and `valid_until`, on the clock of `netlink.sys.uptime`: absent of
--                     what is for ever, and of what the kernel sees to
--     gateway         the router that the kernel has taken by its advertisements; absent: none
--     dns             `nameservers`, `search`; absent: nobody has told any
--     server          who is called that in messages for people; `server_id`, its DUID in hexadecimal digits
--     client          our own DUID, likewise
--     granted         when, on the same clock; `renew_at`, `rebind_at`, `expires_at`: absent: never. Of a
--                     stateless one only `renew_at`
--     longest_solicit what a server has said of how seldom it wants to be asked, in seconds
--
-- @module cni.dhcp6.client

local addr = require "cni.addr"
local fail = require "cni.fail"
local files = require "cni.record.files"
local icmp = require "cni.dhcp6.icmp"
local message = require "cni.dhcp6.message"
local netlink = require "netlink"
local routers = require "cni.dhcp6.routers"

local sys, ns = netlink.sys, netlink.ns
local code, status = message.options, message.statuses

local M = {}

local client_port <const>, server_port <const> = 546, 547
local servers <const> = addr.ip "ff02::1:2"
local ip_type <const> = 0x86dd

-- Each attachment is a client of its own, and has one identity.
local iaid <const> = 1

-- How a message is sent again (RFC 8415, 7.6 and 15): after `first` seconds, then after twice as long each
-- time, at most `longest`; each a tenth more or less.
local retries <const> = {
  solicit = { first = 1, longest = 3600 }, request = { first = 1, longest = 30 },
  renew = { first = 10, longest = 600 }, rebind = { first = 10, longest = 600 },
  information = { first = 1, longest = 3600 },
  release = { first = 1, longest = 4 }, decline = { first = 1, longest = 4 },
}

-- So often a request is sent for what was advertised, before another server is looked for. (RFC 8415 has ten,
-- which is minutes.)
local requests <const> = 4

-- How long the answer to a DECLINE, and to a RELEASE, is waited for.
local decline_seconds <const>, release_seconds <const> = 2.5, 1.4

-- After an answer that refuses or gives what another has: a server may be out of its mind.
local pause <const> = 1

-- So long after the first offer the others are waited for, where it matters whose they are.
local other_offers <const> = 0.25

-- A router may be known that long after it was asked; the lease does not depend on it.
local router_seconds <const> = 1

-- What a server may say of how seldom it wants to be asked, in seconds (RFC 8415, 21.24).
local least_longest <const>, most_longest <const> = 60, 86400

-- How soon what is not leased is asked for again, in seconds (RFC 8415, 21.23).
local least_refresh <const>, usual_refresh <const> = 600, 86400

local function random_number()
  return (string.unpack("I4", files.must(sys.random(4))))
end

local function from_hex(text)
  return (text:gsub("%x%x", function(pair) return string.char(tonumber(pair, 16)) end))
end

local function to_hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function mac_text(bytes)
  return (bytes:gsub(".", function(c) return ("%02x:"):format(c:byte()) end):sub(1, -2))
end

local function ms_left(till) return math.max(0, (till - sys.clock()) * 1000 + 0.5) // 1 | 0 end

local function must(value, what, msg, errno)
  return value or fail.kernel(what, msg, errno)
end

-- Talking ----------------------------------------------------------------------------------

-- One conversation: a socket, and what all messages of it have alike.
local Talk = {}
Talk.__close = function(self) self.wire:close() end

local function begin(where, link, own, want)
  local wire, msg, errno = ns.datagrams(where, own, client_port, servers, server_port, link.index)
  return setmetatable({
    wire = must(wire, "speak DHCPv6 on " .. link.name, msg, errno), where = where, link = link, want = want,
    client = from_hex(want.client), heard = {}, silent = {}, sent = 0, began = sys.clock(),
  }, Talk)
end

-- What is asked for in most messages.
local function wanted(kind)
  local list = { code.dns, code.domains }
  if kind == "information" then table.move({ code.refresh, code.longest_inform }, 1, 2, 3, list) end
  if kind == "solicit" or kind == "request" or kind == "renew" or kind == "rebind" then
    list[#list + 1] = code.longest_solicit
  end
  return message.numbers(list)
end

local function send(talk, kind, more, began)
  local options = { { code.client, talk.client },
    { code.elapsed, message.numbers { math.min(0xffff, (sys.clock() - began) * 100 // 1 | 0) } } }
  if kind ~= "release" and kind ~= "decline" then
    options[#options + 1] = { code.wanted, wanted(kind) }
    if talk.want.fqdn and kind ~= "information" then options[#options + 1] = { code.fqdn, talk.want.fqdn } end
  end
  table.move(more, 1, #more, #options + 1, options)
  local ok, msg, errno = talk.wire:send(message.encode { kind = kind, xid = talk.xid, options = options })
  must(ok, "speak DHCPv6 on " .. talk.link.name, msg, errno)
  talk.sent, talk.asked_at = talk.sent + 1, sys.uptime()
end

-- The next answer to this conversation that `take` gives a value for; nil: none came in time, however much
-- comes of others.
local function hear(talk, till, take)
  repeat
    local bytes, from, errno = talk.wire:receive(ms_left(till))
    if not bytes then
      if errno == sys.errno.ETIMEDOUT then return nil end
      fail.kernel("hear DHCPv6 on " .. talk.link.name, from, errno)
    end
    local answer = message.decode(bytes)
    local is_ours = answer and answer.xid == talk.xid
      and message.first(answer.options, code.client) == talk.client
      and message.first(answer.options, code.server)
    if is_ours then
      answer.asked_at = talk.asked_at
      answer.from, answer.server = addr.text(from), message.first(answer.options, code.server)
      local value = take(answer)
      if value then return value end
    end
  until sys.clock() >= till
end

-- What a server says is wrong, for the error in the end.
local function note(talk, answer, what, said)
  local text = ("%s %s%s"):format(answer.from, what,
    said and (": %q"):format(said:gsub("[^\32-\126]", "?"):sub(1, 100)) or "")
  if text ~= talk.heard[#talk.heard] then table.insert(talk.heard, text) end
end

local function fuzz() return (random_number() % 2001 - 1000) / 10000 end

-- Send a message, again and again, until an answer is taken; nil: none was, by the deadline or after as many
-- times as `count` says. `collect` is called after the first wait, as another chance.
local function exchange(talk, kind, options, deadline, take, count, collect)
  local retry = retries[kind]
  local began, n, wait = sys.clock(), 0, nil
  talk.xid = random_number() & 0xffffff
  repeat
    local longest = kind == "solicit" and talk.longest_solicit or retry.longest
    -- The first solicitation is not sent again before all of a second is over (RFC 8415, 18.2.1).
    local first = retry.first * (1 + (kind == "solicit" and math.abs(fuzz()) or fuzz()))
    wait = not wait and first or wait * (2 + fuzz())
    if wait > longest then wait = longest * (1 + fuzz()) end
    send(talk, kind, options, began)
    local answer = hear(talk, math.min(deadline, sys.clock() + wait), take) or collect and collect()
    if answer then return answer end
    n = n + 1
  until sys.clock() >= deadline or n == count
end

-- Reading ----------------------------------------------------------------------------------

local function text_of(list)
  local texts = {}
  for i, entry in ipairs(list) do texts[i] = addr.text(entry.bytes) end
  return table.concat(texts, ", ")
end

-- Addresses of an identity that can be used.
local function usable(identity)
  local list = {}
  for _, entry in ipairs(identity.addresses) do
    if entry.valid > 0 and message.is_host(entry.bytes) and not addr.is_link_local(entry.bytes) then
      list[#list + 1] = entry
    end
  end
  return list
end

-- Words for what a status means, beside the server's own.
local meanings <const> = {
  [status.failed] = "fails", [status.no_addresses] = "has no address left",
  [status.no_binding] = "knows of no lease",
  [status.not_on_link] = "says that the address is not of this network",
  [status.use_multicast] = "wants to be asked by multicast, as it was",
}

local function meaning(number) return meanings[number] or ("answers with status %d"):format(number) end

local function take_limits(talk, answer)
  local seconds = message.number(answer.options, code.longest_solicit, 4)
  if seconds and seconds >= least_longest and seconds <= most_longest then talk.longest_solicit = seconds end
end

-- What a message grants; nil: nothing, and a status where that is why. It is noted.
local function granted(talk, answer)
  take_limits(talk, answer)
  local number, said = message.status(answer.options)
  local identity, why
  if number == 0 then
    identity, why = message.identity(answer.options, iaid)
    if identity then number, said = identity.status, identity.said end
  end
  if number ~= 0 then
    note(talk, answer, meaning(number), said)
    return nil, number
  end
  local list = identity and usable(identity) or {}
  if not list[1] then
    note(talk, answer, why or "gives no address")
    return nil
  end
  identity.usable = list
  return identity
end

local function until_of(seconds, now)
  return seconds ~= message.forever and now + seconds or nil
end

-- When to renew, and so on. What a server says counts only where it makes sense.
local function set_times(lease, identity, now)
  local preferred, valid = message.forever, 0
  for _, entry in ipairs(identity.usable) do
    preferred = math.min(preferred, entry.preferred > 0 and entry.preferred or entry.valid)
    valid = math.max(valid, entry.valid)
  end
  local is_for_ever = identity.t1 == message.forever or preferred == message.forever
  if valid == message.forever and is_for_ever then return end
  local t1, t2 = identity.t1, identity.t2
  -- What is left to the client is half and four fifths (RFC 8415, 14.2 and 21.4).
  local base = preferred ~= message.forever and preferred or valid
  if t2 == 0 or t2 >= valid then t2 = math.max(base * 0.8, math.min(t1, valid * 0.8)) end
  if t1 == 0 or t1 > t2 then t1 = math.min(base * 0.5, t2) end
  -- Who began together does not go on together.
  lease.renew_at, lease.rebind_at = now + t1 * (1 - random_number() % 1000 / 20000), now + t2
  lease.expires_at = until_of(valid, now)
end

-- The lease in an answer, with what it leaves as it was.
local function lease_of(talk, answer, identity, old)
  local asked_at = answer.asked_at
  local lease = { by = "stateful", client = talk.want.client, server = answer.from,
    server_id = to_hex(answer.server), granted = asked_at, addresses = {}, dns = message.dns(answer.options),
    gateway = old and old.gateway, longest_solicit = talk.longest_solicit }
  local told = {}
  for _, entry in ipairs(identity.addresses) do told[addr.text(entry.bytes) .. "/128"] = true end
  for i, entry in ipairs(identity.usable) do
    lease.addresses[i] = { address = addr.text(entry.bytes) .. "/128",
      preferred_until = until_of(entry.preferred, asked_at), valid_until = until_of(entry.valid, asked_at) }
  end
  for _, entry in ipairs(old and old.addresses or {}) do
    local lives = not entry.valid_until or entry.valid_until > sys.uptime()
    if lives and not told[entry.address] then table.insert(lease.addresses, entry) end
  end
  lease.address = lease.addresses[1].address
  set_times(lease, identity, asked_at)
  return lease
end

local function bytes_of(lease)
  local list = {}
  for i, entry in ipairs(lease.addresses) do list[i] = addr.parse(entry.address).ip end
  return list
end

-- Conflicts --------------------------------------------------------------------------------

-- Whose one of some addresses is already, and which; nil: nobody has said so (RFC 4862, 5.4, with a shorter
-- wait).
local function owner_of(talk, list)
  local ms = talk.want.probe_ms
  if ms == 0 then return nil end
  local what, own = "probe an address on " .. talk.link.name, talk.link.mac:lower()
  local wire <close>, msg, errno = ns.frames(talk.where, talk.link.index, ip_type, icmp.types.neighbour)
  must(wire, what, msg, errno)
  for _ = 1, 2 do
    for _, entry in ipairs(list) do
      local bytes, mac = icmp.probe(entry.bytes)
      local ok
      ok, msg, errno = wire:send(bytes, mac)
      must(ok, what, msg, errno)
    end
    local till = sys.clock() + ms / 2000
    repeat
      local bytes, by, is_summed = wire:receive(ms_left(till))
      if not bytes and is_summed ~= sys.errno.ETIMEDOUT then fail.kernel(what, by, is_summed) end
      local target = bytes and mac_text(by) ~= own and icmp.read_neighbour(bytes, is_summed)
      for _, entry in ipairs(target and list or {}) do
        if entry.bytes == target then return mac_text(by), entry end
      end
    until sys.clock() >= till
  end
end

-- Acquiring --------------------------------------------------------------------------------

-- What a server offers that has not been silent since; of several the one that wants most to be taken
-- (RFC 8415, 18.2.9), or at once an answer of two messages. nil: none by the deadline.
local function solicit(talk, deadline)
  local want = talk.want
  local best, spare
  local function better(answer)
    return not best or answer.preference > best.preference
  end
  local options = { { code.ia, message.ia(iaid, want.address and { addr.ip(want.address) } or {}) } }
  if want.rapid then options[#options + 1] = { code.rapid_commit, "" } end
  return exchange(talk, "solicit", options, deadline, function(answer)
    if answer.kind == "reply" and not (want.rapid and message.first(answer.options, code.rapid_commit)) then
      return nil
    end
    answer.identity = granted(talk, answer)
    if not answer.identity then return nil end
    if answer.kind == "reply" then return answer end
    answer.preference = message.number(answer.options, code.preference, 1) or 0
    if talk.silent[answer.server] then
      spare = answer
    elseif better(answer) then
      best = answer
    end
    -- After the first second whoever comes is the one.
    return best and (best.preference == 255 or talk.has_waited) and best or nil
  end, nil, function()
    talk.has_waited = true
    return best or spare
  end)
end

-- The answer to a request for some addresses; false: the server has refused it; nil: it does not answer.
local function request(talk, server, list, deadline, count)
  talk.has_requested = true
  local refused = false
  local answer = exchange(talk, "request", { { code.server, server }, { code.ia, message.ia(iaid, list) } },
    deadline, function(answer)
      if answer.kind ~= "reply" or answer.server ~= server then return nil end
      local number
      answer.identity, number = granted(talk, answer)
      -- Asked by multicast it was; and what says nothing of addresses is no answer to that.
      if not answer.identity and number == status.use_multicast then return nil end
      refused = not answer.identity
      return answer
    end, count)
  if refused then return false end
  return answer
end

local function decline(talk, answer, entry, owner)
  note(talk, answer, ("gives %s, which %s has already"):format(addr.text(entry.bytes), owner))
  local options = { { code.server, answer.server }, { code.ia, message.ia(iaid, { entry.bytes }) } }
  exchange(talk, "decline", options, sys.clock() + decline_seconds, function(reply)
    return reply.kind == "reply" and reply.server == answer.server
  end)
end

local function rest(talk, seconds)
  hear(talk, sys.clock() + seconds, function() end)
end

-- One round: an answer that grants addresses that nobody has; nil: not yet.
local function round(talk, deadline)
  local answer = solicit(talk, deadline)
  if not answer then return nil end
  if answer.kind == "advertise" then
    local offer, list = answer, {}
    for i, entry in ipairs(offer.identity.usable) do list[i] = entry.bytes end
    answer = request(talk, offer.server, list, deadline, requests)
    if answer == nil then
      talk.silent[offer.server] = true
      note(talk, offer, ("has offered %s, and then given no answer"):format(
        text_of(offer.identity.usable)))
    end
    if not answer then
      if answer == false then rest(talk, math.min(pause, math.max(0, deadline - sys.clock()))) end
      return nil
    end
  end
  talk.has_requested = true
  local owner, entry = owner_of(talk, answer.identity.usable)
  if not owner then return answer end
  decline(talk, answer, entry, owner)
  rest(talk, math.min(pause, math.max(0, deadline - sys.clock())))
end

local function nothing(talk, what, seconds)
  local heard = talk.heard[#talk.heard]
  fail.throw { code = fail.codes.again,
    msg = heard and ("no DHCPv6 server has %s %s: %s"):format(what, talk.link.name, heard)
      or ("no DHCPv6 server answers on %s: %d requests in %.0f seconds"):format(talk.link.name, talk.sent,
        seconds),
    details = #talk.heard > 1 and table.concat(talk.heard, "; ") or nil,
    hint = not heard and "is there one on this network, and does what is between let UDP 546 and 547 through?"
      or nil }
end

local function stateful(talk, deadline, seconds)
  repeat
    local answer = round(talk, deadline)
    if answer then return lease_of(talk, answer, answer.identity) end
  until sys.clock() >= deadline
  nothing(talk, "given an address to", seconds)
end

-- What servers tell who has addresses already (RFC 8415, 18.2.6). nil: none answers.
local function inform(talk, deadline)
  return exchange(talk, "information", {}, deadline, function(answer)
    return answer.kind == "reply" and answer or nil
  end)
end

local function autoconfigured(watch, want, by, seconds)
  local list = {}
  for i, address in ipairs(watch:await_addresses(seconds)) do list[i] = { address = address } end
  return { by = by, client = want.client, address = list[1].address, addresses = list,
    granted = sys.uptime() }
end

local function put_information(lease, talk, answer)
  local refresh = message.number(answer.options, code.refresh, 4) or usual_refresh
  lease.dns, lease.server = message.dns(answer.options), answer.from
  if refresh ~= message.forever then lease.renew_at = sys.uptime() + math.max(refresh, least_refresh) end
  lease.client = talk.want.client
  return lease
end

local function way_of(watch, want, seconds)
  if want.ipv6 ~= "auto" then return want.ipv6 end
  local router = watch:await_router(seconds)
  return router.is_managed and "stateful" or router.has_more and "stateless" or "slaac"
end

--- Get addresses, as `want.ipv6` says: of a server, by SOLICIT, ADVERTISE, REQUEST, REPLY, and a probe
-- whether somebody has them; or of the kernel.
-- @param where the sandbox, for netlink.ns
-- @tparam table link of it: `name`, `index`, `mac`
-- @tparam table want
--
-- - `ipv6`: stateful, stateless, slaac; or auto: as the first router says that is heard
-- - `client`: our DUID, in hexadecimal digits
-- - `address`: to ask for, as text; nil: any
-- - `fqdn`: what option 39 says, bytes; nil: nothing
-- - `rapid`: be content with two messages, where the server is
-- - `probe_ms`: how long others have to say that they have an address; 0: they are not asked
-- @tparam number seconds at most
-- @treturn table a lease
-- @raise code 11 where none is to be had; `unasked`: no server can have granted one
function M.acquire(where, link, want, seconds)
  local deadline = sys.clock() + seconds
  local has_requested = false
  local function left() return math.max(0, deadline - sys.clock()) end
  local ok, lease = pcall(function()
    local watch <close> = routers.watch(where, link)
    local own = watch:own_address(seconds)
    watch:ask(own)
    local by = way_of(watch, want, left())
    local talk <close> = by ~= "slaac" and begin(where, link, own, want) or nil
    local got
    if by == "stateful" then
      local fine
      fine, got = pcall(stateful, talk, deadline, seconds)
      has_requested = talk.has_requested or want.rapid
      if not fine then error(got, 0) end
    else
      got = autoconfigured(watch, want, by, left())
      got.dns = watch:dns()
      local answer = talk and inform(talk, deadline)
      if talk and not answer then nothing(talk, "told anything to", seconds) end
      if talk then put_information(got, talk, answer) end
    end
    got.gateway = watch:gateway(router_seconds)
    return got
  end)
  if ok then return lease end
  lease = fail.wrap(lease)
  lease.unasked = not has_requested or nil
  error(lease, 0)
end

-- Keeping ----------------------------------------------------------------------------------

--- When a server that was silent is to be asked again (RFC 8415, 18.2.4).
-- @tparam table lease with `tried_at`, and `tries` in vain
-- @treturn number on the clock of netlink.sys.uptime
function M.retry_at(lease)
  local retry, doubled = retries.renew, math.min((lease.tries or 1) - 1, 10)
  local next_at = lease.tried_at + math.min(retry.first << doubled, retry.longest)
  for _, limit in ipairs { lease.rebind_at or false, lease.expires_at or false } do
    if limit and lease.tried_at < limit then next_at = math.min(next_at, limit) end
  end
  return next_at
end

--- How long to wait before another address is looked for again, where there was none.
-- @tparam table lease with `tries` in vain
-- @treturn number seconds
function M.anew_pause(lease)
  return math.min(10 << math.min(lease.tries or 0, 10), math.max(lease.longest_solicit or 120, 10))
end

-- The addresses of a lease, for what an answer says of them: what is kept, and whether any is.
local function keeps_any(lease, identity)
  for _, entry in ipairs(identity.usable) do
    for _, own in ipairs(lease.addresses) do
      if own.address == addr.text(entry.bytes) .. "/128" then return true end
    end
  end
  return false
end

-- What an answer to RENEW or REBIND says: the lease, or false or nil and why.
local function renewed(talk, lease, answer, till)
  local identity, number = granted(talk, answer)
  -- It knows of no lease: it may grant it anew (RFC 8415, 18.2.10.1).
  if number == status.no_binding then
    answer = request(talk, answer.server, bytes_of(lease), till)
    identity = answer and answer.identity
    if not identity then return answer, talk.heard[#talk.heard] end
  end
  if not identity then
    local found = number == nil and message.identity(answer.options, iaid)
    for _, entry in ipairs(found and found.addresses or {}) do
      if entry.valid == 0 then
        note(talk, answer, "takes it back")
        return false, talk.heard[#talk.heard]
      end
    end
    return nil, talk.heard[#talk.heard]
  end
  -- Another address is to be asked for, and looked for, as any new one.
  if not keeps_any(lease, identity) then
    note(talk, answer, ("gives %s in its place"):format(text_of(identity.usable)))
    return false, talk.heard[#talk.heard]
  end
  return lease_of(talk, answer, identity, lease)
end

local function silence(seconds)
  return ("no DHCPv6 server has answered within %.1f seconds"):format(seconds)
end

-- More addresses may have come, and others gone.
local function look_again(where, link, want, lease, seconds)
  local deadline = sys.clock() + seconds
  local watch <close> = routers.watch(where, link)
  local own = watch:own_address(seconds)
  watch:ask(own)
  local ok, got = pcall(autoconfigured, watch, want, lease.by, seconds)
  if not ok then return nil, tostring(fail.wrap(got)) end
  local talk <close> = begin(where, link, own, want)
  local answer = inform(talk, math.max(deadline, sys.clock() + 0.5))
  if not answer then return nil, silence(seconds) end
  got.gateway = watch:gateway(router_seconds) or lease.gateway
  return put_information(got, talk, answer)
end

--- Ask for more time: the server that has granted a lease, or, from its `rebind_at` on, any. Of what is not
-- leased, ask what there is now.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table want as for @{acquire}
-- @tparam table lease
-- @tparam number seconds to wait for an answer
-- @treturn table|boolean a lease, perhaps with other values; false: it is refused, and the addresses are to
-- be given up at once; nil: nobody answers
-- @treturn ?string with false or nil: what is known of why
function M.renew(where, link, want, lease, seconds)
  if lease.by ~= "stateful" then return look_again(where, link, want, lease, seconds) end
  local watch <close> = routers.watch(where, link)
  local talk <close> = begin(where, link, watch:own_address(seconds), setmetatable({ client = lease.client },
    { __index = want }))
  local till, rebinds = sys.clock() + seconds, lease.rebind_at and sys.uptime() >= lease.rebind_at
  local options = { { code.ia, message.ia(iaid, bytes_of(lease)) } }
  local server = not rebinds and from_hex(lease.server_id)
  if server then table.insert(options, 1, { code.server, server }) end
  local answer = exchange(talk, rebinds and "rebind" or "renew", options, till, function(answer)
    return answer.kind == "reply" and (not server or answer.server == server) and answer or nil
  end)
  if not answer then return nil, silence(seconds) end
  return renewed(talk, lease, answer, math.max(till, sys.clock() + seconds))
end

-- Giving back ------------------------------------------------------------------------------

local function release(talk, server, list)
  exchange(talk, "release", { { code.server, server }, { code.ia, message.ia(iaid, list) } },
    sys.clock() + release_seconds, function(answer)
      return answer.kind == "reply" and answer.server == server
    end)
end

--- Give a lease back (RELEASE). An answer is waited for a little: the message may be lost.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table lease
-- @raise errno EADDRNOTAVAIL where the link has no address of its own to say it from
function M.release(where, link, lease)
  if lease.by ~= "stateful" then return end
  local watch <close> = routers.watch(where, link)
  local talk <close> = begin(where, link, watch:own_address(0.5), { client = lease.client })
  release(talk, from_hex(lease.server_id), bytes_of(lease))
end

--- Give back what servers have for our DUID, where it is not known what that is: a server offers a client
-- what it has. There an address that was only offered can be given back too.
-- @param where as for @{acquire}
-- @tparam table link as for @{acquire}
-- @tparam table want as for @{acquire}
-- @tparam number seconds to wait for an offer
function M.forget(where, link, want, seconds)
  if want.ipv6 ~= "stateful" and want.ipv6 ~= "auto" then return end
  local watch <close> = routers.watch(where, link)
  local talk <close> = begin(where, link, watch:own_address(0.5), want)
  talk.xid = random_number() & 0xffffff
  send(talk, "solicit", { { code.ia, message.ia(iaid, {}) } }, sys.clock())
  local till = sys.clock() + seconds
  local function take(answer)
    answer.identity = answer.kind == "advertise" and granted(talk, answer)
    return answer.identity and answer
  end
  local offer, offers = hear(talk, till, take), {}
  till = math.min(till, sys.clock() + other_offers)
  while offer do
    offers[#offers + 1] = offer
    offer = hear(talk, till, take)
  end
  for _, one in ipairs(offers) do
    local list = {}
    for i, entry in ipairs(one.identity.usable) do list[i] = entry.bytes end
    release(talk, one.server, list)
  end
end

--- Tell the neighbours whose an address is: they may know another's MAC for it.
-- @param where as for @{acquire}
-- @tparam table link
-- @string address which the link has
-- @raise why it cannot be sent
function M.announce(where, link, address)
  local wire <close>, msg, errno = ns.frames(where, link.index, ip_type)
  must(wire, "announce an address on " .. link.name, msg, errno)
  local mac = link.mac:gsub("%x%x:?", function(pair) return string.char(tonumber(pair:sub(1, 2), 16)) end)
  local bytes, group = icmp.announce(addr.ip(address), mac)
  local ok
  ok, msg, errno = wire:send(bytes, group)
  must(ok, "announce an address on " .. link.name, msg, errno)
end

return M
