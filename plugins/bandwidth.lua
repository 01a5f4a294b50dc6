-- SPDX-License-Identifier: MIT
--- Limit how much goes through the sandbox's interface. Used in a chain, behind the plugin that makes the
-- interface. Ingress is towards the sandbox, egress from it; rates are bits a second, bursts bits. A burst
-- that is not given, or is one of the numbers that runtimes write for none, is chosen so that each second has
-- its rate, the first one too; a burst is one frame at least.

local common = require "cni.common"
local schema = require "cni.schema"
local shaper = require "cni.shaper"

-- What runtimes write where nobody has asked for a burst: cri-dockerd, containerd, and CRI-O.
local none <const> = { [0] = true, [0x7fffffff] = true, [0xffffffff] = true, [0x100000000] = true,
  [34359738359] = true }

-- The kernel counts the seconds that a burst takes at its rate up to this, and the bytes up to 2^32-1.
local most_seconds <const>, most_bytes <const> = 274, 0xffffffff

local rate = schema.integer { min = 0 }

local function limits()
  return {
    ingressRate = rate { doc = "Bits a second towards the sandbox; 0: no limit." },
    ingressBurst = rate { doc = "Bits that may come at once; default: chosen to fit the rate." },
    egressRate = rate { doc = "Bits a second from the sandbox; 0: no limit." },
    egressBurst = rate { doc = "Bits that may go at once; default: chosen to fit the rate." },
    shapedSubnets = schema.list(schema.cidr { masked = true }, {
      doc = "Networks: only what goes there, or comes from there, is limited." }),
    unshapedSubnets = schema.list(schema.cidr { masked = true }, {
      doc = "Networks: what goes there, or comes from there, is not limited." }),
  }
end

local function is_some(list) return list ~= nil and list[1] ~= nil end

-- What is wrong with the limit of a direction.
local function problem(c, direction)
  local bits, burst = c[direction .. "Rate"] or 0, c[direction .. "Burst"] or 0
  if bits == 0 then
    if burst == 0 then return nil end
    return ("%sBurst is given without %sRate"):format(direction, direction)
  end
  if bits < 8 then return ("%sRate: %d is less than a byte a second"):format(direction, bits) end
  if none[burst] then return nil end
  local bytes = bits // 8
  local fits = bytes > most_bytes and most_bytes or math.min(bytes * most_seconds, most_bytes)
  if burst // 8 > fits then
    return ("%sBurst: the kernel cannot hold %d bits at this rate: at most %d"):format(direction, burst,
      fits * 8 + 7)
  end
end

local function check(record)
  return record:check(function(c)
    return problem(c, "ingress") or problem(c, "egress")
  end, "A burst goes with a rate, and is one that the kernel can hold."):check(function(c)
    if is_some(c.shapedSubnets) and is_some(c.unshapedSubnets) then
      return "shapedSubnets and unshapedSubnets exclude each other"
    end
  end, "shapedSubnets and unshapedSubnets exclude each other.")
end

local fields = limits()
fields.latency = schema.integer { min = 1, max = 10000,
  doc = "Milliseconds that a packet may wait; default: 25 with a burst, else what TCP needs." }
fields.qdisc = schema.enum { values = { "fq_codel", "cake" }, empty = "absent",
  doc = "How those that wait take turns; default: one behind the other." }
fields.runtimeConfig = schema.record {
  bandwidth = check(schema.record(limits())) {
    doc = "Limits of this sandbox (capability `bandwidth`); they count where the network has none." },
}
local conf = check(schema.record(fields))

-- Whose limits count: the network's, if it has any.
local function chosen(c)
  local own = (c.ingressRate or 0) > 0 or (c.egressRate or 0) > 0
  return own and c or c.runtimeConfig and c.runtimeConfig.bandwidth or {}
end

local function limit(c, from, direction)
  local bits, burst = from[direction .. "Rate"] or 0, from[direction .. "Burst"] or 0
  if bits == 0 then return nil end
  local subnets = (is_some(from.shapedSubnets) or is_some(from.unshapedSubnets)) and from or c
  return { rate = bits, burst = not none[burst] and burst or nil, latency = c.latency, qdisc = c.qdisc,
    shaped = subnets.shapedSubnets, unshaped = subnets.unshapedSubnets }
end

local function add(req)
  common.need_chain(req)
  local c, from = req.conf, chosen(req.conf)
  local ifb = shaper.limit(req, { ingress = limit(c, from, "ingress"), egress = limit(c, from, "egress") })
  return ifb and { interfaces = { ifb } }
end

return { conf = conf, add = add, chained = true }
