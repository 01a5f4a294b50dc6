-- SPDX-License-Identifier: MIT
--- Step `tc`: traffic control. A queueing discipline, a class of one, or a filter, on a link.
--
-- The step's `want` has `object` (qdisc, class, filter), `link`, `attrs` as netlink takes them but for
-- indices, and `to`, the link that a filter's action sends packets to. What is below a discipline of the same
-- plan goes with it (`covered`), and so does what is on a link of the same plan.
-- @module cni.step.tc

local fail = require "cni.fail"
local netlink = require "netlink"

local errors = netlink.sys.errno
local M = { of_interface = true, telling = true }

-- The kernel counts the time that a burst takes in ticks, and tells it so, in 32 bits.
local tick <const>, most_ticks <const> = 64e-9, 0xffffffff

--- How long the longest burst is that the kernel can tell of, in seconds.
M.longest_burst = most_ticks * tick

local function ticks(burst, rate)
  return burst / rate / tick
end

--- The most bytes that a burst can have at a rate.
-- @tparam integer rate bytes a second
-- @treturn integer
function M.most_burst(rate)
  return math.floor(math.min(0xffffffff, rate * M.longest_burst))
end

--- What netlink takes, of what a verb was given: the burst of a class is a time.
-- @tparam table attrs with `burst`, in bytes, of a class
-- @treturn table
function M.class_attrs(attrs)
  local out = {}
  for key, value in pairs(attrs) do out[key] = value end
  local burst = out.burst
  out.burst, out.ceil = nil, out.ceil or out.rate
  if burst then
    out.buffer = math.max(1, math.floor(ticks(burst, out.rate)))
    out.cbuffer = math.max(1, math.floor(ticks(burst, out.ceil)))
  end
  return out
end

function M.links(step)
  return { step.want.link, step.want.to }
end

local function attrs_of(step, h)
  local want, attrs = step.want, {}
  for key, value in pairs(want.attrs) do attrs[key] = value end
  attrs.index = h:index(want.link)
  if want.to then
    attrs.action = {}
    for key, value in pairs(want.attrs.action) do attrs.action[key] = value end
    attrs.action.link = h:index(want.to)
  end
  return attrs
end

function M.requests(step, h)
  return { { "add", step.want.object, attrs_of(step, h) } }
end

local function say(want)
  local attrs = want.attrs
  if want.object == "filter" then
    return ("%s filter of %s %s on %s%s"):format(attrs.kind, attrs.parent, attrs.protocol, want.link,
      want.to and ", to " .. want.to or "")
  end
  return ("%s %s %s on %s"):format(attrs.kind, want.object, attrs.handle, want.link)
end

function M.say(step)
  return ("add %s in the %s"):format(say(step.want), step.ns == "pod" and "sandbox" or "host")
end

-- Why the kernel has refused it.
function M.cause(step, h, errno)
  local want = step.want
  local kind = want.attrs.kind
  if errno == errors.ENOENT then
    local link, above = h:link(want.link, {}), want.attrs.parent:match "^%x+:"
    if link and above and not h:socket():get("qdisc", { index = link.index, handle = above }) then
      return ("there is no queueing discipline %s on %s"):format(above, want.link)
    end
    return ("this kernel has no %s: it is not built in, and its module (%s_%s) is not there"):format(kind,
      want.object == "filter" and "cls" or "sch", kind)
  elseif errno == errors.EEXIST and want.object == "qdisc" then
    return ("%s has a queueing discipline there already, which is another one's"):format(want.link)
  end
end

-- Values that the kernel keeps in a coarser unit.
local coarse <const> = { target = 2, interval = 2, ce_threshold = 2 }

local function differs(want, have, key)
  if type(want) == "table" then
    if type(have) ~= "table" then return true end
    for name, value in pairs(want) do
      if differs(value, have[name], name) then return true end
    end
    return false
  end
  if coarse[key] and math.type(have) == "integer" then return math.abs(want - have) > coarse[key] end
  return want ~= have
end

-- Where the kernel does not tell a value as it was given.
local untold <const> = { handle = true, parent = true, burst = true, peakburst = true }

-- The first key that differs.
local function odd(step, have, h)
  local want, keys = attrs_of(step, h), {}
  for key in pairs(want) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return (a == "rate" and "" or a) < (b == "rate" and "" or b) end)
  for _, key in ipairs(keys) do
    if not untold[key] and differs(want[key], have[key], key) then return key end
  end
  if want.burst and want.rate then
    local wanted = ticks(want.burst, want.rate)
    if math.abs(wanted - (have.buffer or 0)) > 16 + wanted / 1000 then return "burst" end
  end
end

-- What the kernel has in the place of a step: of filters, which have no name, one that is as wanted.
local function find(step, h)
  local want = step.want
  local attrs, link = want.attrs, h:link(want.link, {})
  if not link or not link.index then return nil end
  if want.to and not h:link(want.to, {}) then return nil end
  if want.object ~= "filter" then
    local have, msg, errno = h:socket():get(want.object, { index = link.index, handle = attrs.handle })
    if errno then fail.kernel("look up " .. say(want), msg, errno) end
    return have
  end
  local list, msg, errno = h:socket():dump("filter", { index = link.index, parent = attrs.parent })
  if not list and errno ~= errors.ENODEV and errno ~= errors.EINVAL and errno ~= errors.ENOENT then
    fail.kernel("look up " .. say(want), msg, errno)
  end
  for _, have in ipairs(list or {}) do
    if not odd(step, have, h) then return have end
  end
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local have = find(step, h)
  if not have or have.kind ~= want.attrs.kind then return say(want) .. " is missing" end
  local key = odd(step, have, h)
  if not key then return nil end
  local value = want.attrs[key]
  if key == "burst" or type(value) == "table" then
    return ("%s: %s is not as wanted"):format(say(want), key)
  end
  return ("%s: %s is %s, not %s"):format(say(want), key, tostring(have[key]), tostring(value))
end

--- Give a discipline or a class its values again; a filter has none that could be another.
function M.mend(step, plan)
  local want, h = step.want, plan[step.ns]
  local have = want.object ~= "filter" and find(step, h)
  if not have or have.kind ~= want.attrs.kind then return false end
  local ok, msg, errno = h:socket():send { { "replace", want.object, attrs_of(step, h) } }
  if not ok then fail.kernel("change " .. say(want), msg, errno) end
  return true
end

function M.key(step)
  local want = step.want
  if want.object == "filter" then return nil end
  return ("%s %s %s"):format(want.link, want.object, want.attrs.handle)
end

--- One of the same kind in its place: what waits in it goes on waiting.
function M.change(from, to, plan)
  if from.want.attrs.kind == to.want.attrs.kind and M.mend(to, plan) then return end
  M.undo(from, plan)
  local h = plan[to.ns]
  local ok, msg, errno = h:socket():send(M.requests(to, h))
  if not ok then fail.kernel(M.say(to), msg, errno, nil, M.cause(to, h, errno)) end
end

--- Raise unless the kernel has kept what a script has asked for.
function M.kept(step, plan)
  local difference = M.verify(step, plan)
  if difference then
    fail.throw { msg = ("%s: the kernel does not keep it as asked for: %s"):format(M.say(step), difference) }
  end
end

local gone = { [errors.ENOENT] = true, [errors.ENODEV] = true }

function M.undo(step, plan)
  local want, h = step.want, plan:at(step.ns)
  local have = h and find(step, h)
  if not have or have.kind ~= want.attrs.kind then return end
  -- An ADD that died may not have come so far: then one that is there is another's, unless it is as wanted.
  local certain = not step.unsure and (plan.mode ~= "undo" or plan.record and plan.record.done)
  if not certain and odd(step, have, h) then return end
  local attrs = want.attrs
  local request = { index = h:index(want.link), parent = attrs.parent, handle = have.handle }
  if want.object == "filter" then
    request.protocol, request.priority, request.kind = have.protocol, have.priority, have.kind
  end
  local ok, msg, errno = h:socket():send { { "del", want.object, request } }
  if not ok and not gone[errno] then fail.kernel("remove " .. say(want), msg, errno) end
end

function M.stands(step, plan)
  local h = plan:at(step.ns)
  local have = h and find(step, h)
  return have ~= nil and have ~= false and have.kind == step.want.attrs.kind
end

return M
