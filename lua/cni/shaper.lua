-- SPDX-License-Identifier: MIT
--- How much goes through the sandbox's interface, and how fast. Towards the sandbox is ingress, from it
-- egress.
--
--     host:  [ veth ]--sandbox: [ eth0 ]      sandbox: [ eth0 ]---
--               |                                         |
--            [ bwp... ]                                [ bwp... ]
--
-- Where the other end of the interface is in the host, a token bucket on that end shapes what goes towards
-- the sandbox. What comes from the sandbox is sent through an ifb link, which has a token bucket too.
-- Any other interface (macvlan, ipvlan, vlan, tap) is shaped where it is, in the sandbox, with the directions
-- exchanged: so a container that may configure its network can undo it.
-- @module cni.shaper

local args = require "cni.engine.args"
local fail = require "cni.fail"

local M = {}

-- A burst is this long, where it is ours to choose.
local burst_ms <const> = 20

-- What the first bytes of a frame take that are no part of the MTU: Ethernet, one VLAN tag.
local header <const> = 18

-- How long a queue is, where nobody has said how long packets may wait. TCP needs so much to keep a rate in
-- each second: with less it loses packets when it begins, and what came behind them counts for a later one.
-- Where the burst is given, it is as the reference has it.
local usual_ms <const>, roomy <const> = 25, 256 * 1024
local most_ms <const>, least_frames <const> = 2000, 16

local most <const> = 0xffffffff

-- What goes at a rate in some milliseconds; in two parts, so that large rates do not overflow.
local function in_time(rate, ms) return rate // 1000 * ms + rate % 1000 * ms // 1000 end

-- Tokens, and room to wait, for a limit on a link with that MTU. What is given is kept, unless no frame fits.
local function bucket(limit, mtu)
  local rate, frame = limit.rate // 8, mtu + header
  local burst = limit.burst and limit.burst // 8 or in_time(rate, burst_ms)
  burst = math.min(most, math.max(burst, frame))
  local room = in_time(rate, limit.latency or usual_ms)
  if not limit.burst and not limit.latency then
    room = math.max(room, math.min(roomy, in_time(rate, most_ms)), least_frames * frame)
  end
  return rate, burst, math.min(most, room + burst)
end

-- Faster than any link, in bytes a second.
local endless <const> = 125000000000

-- What TCP hands down in one piece can have so many bytes. From this rate on it goes within a millisecond.
local piece <const> = 65536
local quick <const> = piece * 1000

-- Have what a link sends go no faster than that. `side`: from or to, the end that is not the sandbox.
local function shape(h, link, limit, mtu, side)
  local rate, burst, room = bucket(limit, mtu)
  local shaped, unshaped = limit.shaped or {}, limit.unshaped or {}
  local above = "1:1"
  -- A bucket that limits nothing, but has large packets cut into frames.
  local function cut(parent)
    h:add_qdisc(link, { kind = "tbf", handle = "10:", parent = parent, rate = endless,
      burst = mtu + header, limit = room })
    above = "10:1"
  end
  if not shaped[1] and not unshaped[1] then
    h:add_qdisc(link, { kind = "tbf", rate = rate, burst = burst, limit = room })
    -- Of those whose turn it is one sends a frame, not a piece that all others wait for.
    if limit.qdisc and rate < quick then cut "1:1" end
  else
    -- What is in no class goes as it comes. A class sends large packets whole.
    local class = "1:10"
    h:add_qdisc(link, { kind = "htb", default = unshaped[1] and 0x10 or 0, direct_qlen = 1000 })
    h:add_class(link, { kind = "htb", handle = class, rate = rate, burst = burst, quantum = mtu + header })
    for _, subnet in ipairs(shaped) do
      h:add_filter(link, { parent = "1:", [side] = subnet, class = class })
    end
    for _, subnet in ipairs(unshaped) do
      h:add_filter(link, { parent = "1:", [side] = subnet, class = "1:" })
    end
    cut(class)
  end
  if limit.qdisc then h:add_qdisc(link, { kind = limit.qdisc, handle = "20:", parent = above }) end
end

-- The name that the reference gives to the ifb link of a container in a network; and one for a second
-- interface of the same container.
local function names_of(req)
  local sha512 = require "cni.reference.sha512"
  local text = req.network .. req.container_id
  return "bwp" .. sha512(text):sub(1, 12), "bwp" .. sha512(text .. req.ifname):sub(1, 12)
end

local function alias_of(req) return "bandwidth of " .. req.ifname end

-- The name of an ifb link that was made by an ADD of which there is no record.
local function found_name(req, h)
  local first, second = names_of(req)
  local link = h:link(first, { "alias" })
  if link and ((link.alias or "") == "" or link.alias == alias_of(req)) then return first end
  return (link or h:link(second, {})) and second or first
end

local function ifb_name(req, h)
  return req:once("ifb", function()
    local mode = req.plan.mode
    if mode ~= "apply" and mode ~= "update" or h.absent then return found_name(req, h) end
    return h:free_name { names_of(req) } or (names_of(req))
  end)
end

-- Have what arrives by a link go no faster than that: it is sent through an ifb link first.
local function shape_arrivals(req, h, link, limit, mtu, side)
  local ifb = h:add_link { kind = "ifb", name = ifb_name(req, h), mtu = mtu, txqlen = 0, up = true,
    owned = true, alias = req.plan.mode ~= "verify" and alias_of(req) or nil }
  shape(h, ifb, limit, mtu, side)
  h:add_qdisc(link, { kind = "ingress" })
  h:add_filter(link, { parent = "ffff:", protocol = "all", priority = 1, redirect = ifb })
  return ifb
end

-- In a dry run the links of the plugins before are known by their names alone.
local function foreseen(req)
  for _, entry in ipairs(req.prev and req.prev.interfaces or {}) do
    if (entry.sandbox or "") == "" and entry.name:find "^veth" then return entry end
  end
end

-- Where the interface is shaped: the handle, the link, its MTU.
local function place(req)
  local host, pod, name = req.host, req.pod, req.ifname
  local port, eth = host:other_end(pod, name)
  if port then return host, port, port.mtu end
  eth = eth or pod:link(name)
  if req.plan.mode == "dry" then
    port = foreseen(req)
    return port and host or pod, port or { name = name }, eth and eth.mtu or 1500
  end
  if not eth then
    fail.throw { msg = ("link %s is not in the sandbox"):format(name),
      hint = "the plugin before it in the chain makes the interface" }
  end
  return pod, eth, eth.mtu
end

-- All that there may be of an attachment of which there is no record.
local function forget(req)
  local port = req.host:other_end(req.pod, req.ifname)
  local eth = not port and req.pod:link(req.ifname)
  local h, link = port and req.host or req.pod, port or eth
  for _, at in ipairs { req.host, req.pod } do
    if not at.absent then
      at:add_link { kind = "ifb", name = found_name(req, at), mtu = 1500, owned = true }
    end
  end
  if not link then return end
  for _, kind in ipairs { "htb", "tbf" } do
    h:add_qdisc(link, { kind = kind, rate = 1, burst = 1, limit = 1 })
  end
  h:add_qdisc(link, { kind = "ingress" })
end

local args_optional, count = args.optional, args.integer(0, math.maxinteger)
local limit = args_optional(args.record({
  rate = args.integer(8, math.maxinteger), burst = args_optional(count),
  latency = args_optional(args.integer(1, 10000)), qdisc = args_optional(args.word { "fq_codel", "cake" }),
  shaped = args_optional(args.list(args.networks)), unshaped = args_optional(args.list(args.networks)),
}, { required = { "rate" } }))

local takes = args.call("shaper.limit", { nil, args.request },
  { nil, args.record { ingress = limit, egress = limit } })

--- Limit what goes through the sandbox's interface. DEL takes the limits away; a DEL without a record too.
--
--     shaper.limit(req, { ingress = { rate = 10000000 }, egress = { rate = 5000000, qdisc = "fq_codel" } })
--
-- @tparam table req
-- @tparam table limits `ingress`, `egress`, each with
--   rate      bits a second
--   burst     bits that may go at once; default: so few that each second has its rate, the first one too
--   latency   how long a packet may wait, in milliseconds; default: 25 with a burst, else as long as TCP
--             needs to keep the rate
--   qdisc     fq_codel or cake: who waits for whom; default: one queue for all
--   shaped    networks of the other side: only what comes from there, or goes there, is limited
--   unshaped  networks of the other side that are not limited
-- @treturn ?table the ifb link, for the result; nil: there is none
function M.limit(req, limits)
  req, limits = takes(req, limits)
  if req.plan.mode == "erase" then return forget(req) end
  local ingress, egress = limits.ingress, limits.egress
  if not ingress and not egress then return nil end
  local h, link, mtu = place(req)
  local sends, arrives, outer, inner = ingress, egress, "from", "to"
  if h == req.pod then sends, arrives, outer, inner = egress, ingress, "to", "from" end
  if sends then shape(h, link, sends, mtu, outer) end
  return arrives and shape_arrivals(req, h, link, arrives, mtu, inner) or nil
end

return M
