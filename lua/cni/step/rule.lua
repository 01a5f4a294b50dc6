-- SPDX-License-Identifier: MIT
--- Step `rule`: a rule that says which routing table counts for what.
-- @module cni.step.rule

local addr = require "cni.addr"
local entry = require "cni.step.entry"

-- What a rule selects by. Each has to be as wanted; one that is not wanted has to be absent.
local selectors = { "from", "to", "iif", "oif", "fwmark", "fwmask", "ip_proto", "invert" }

-- Ahead of the rule for the main table, and behind all that has a number of its own.
local default_priority <const> = 32765

local function network(text)
  local cidr = addr.parse(text)
  return cidr ~= addr.default(cidr.family) and tostring(cidr) or nil, cidr.family
end

-- The rule as the kernel tells of it: what selects everything is left out.
local function normal(want)
  local rule = {}
  for key, value in next, want do rule[key] = value end
  local from_family, to_family
  if want.from then rule.from, from_family = network(want.from) end
  if want.to then rule.to, to_family = network(want.to) end
  rule.family = want.family or from_family or to_family or "inet"
  rule.priority = want.priority or default_priority
  rule.action = want.action or "lookup"
  if rule.action == "lookup" then rule.table = want.table or 254 end
  -- The kernel takes the whole mark when no mask is given, and the mark 0 when none is.
  if rule.fwmark or rule.fwmask then
    rule.fwmark, rule.fwmask = want.fwmark or 0, want.fwmask or 0xffffffff
  end
  return rule
end

local function say(want)
  local rule, words = want.entry, {}
  for _, key in ipairs(selectors) do
    if rule[key] and not (key == "fwmask" and rule[key] == 0xffffffff) then
      words[#words + 1] = key .. " " .. tostring(rule[key])
    end
  end
  words[#words + 1] = rule.action == "lookup" and ("lookup %d"):format(rule.table) or rule.action
  return ("%s rule %d %s"):format(rule.family == "inet6" and "IPv6" or "IPv4", rule.priority,
    table.concat(words, " "))
end

local function is(have, want)
  for _, key in ipairs(selectors) do
    -- The kernel does not tell of what is 0 or false.
    local mine, theirs = want[key] or nil, have[key] or nil
    if (mine ~= 0 and mine or nil) ~= (theirs ~= 0 and theirs or nil) then return false end
  end
  return (have.priority or 0) == want.priority and have.action == want.action
    and (want.action ~= "lookup" or have.table == want.table)
end

local function there(want, h)
  for _, have in ipairs(h:dump("rule", { family = want.entry.family })) do
    if is(have, want.entry) then return true end
  end
  return false
end

local M = entry.kind {
  say = say, there = there,
  add = function(want) return { "add", "rule", want.entry } end,
  remove = function(want) return { "del", "rule", want.entry } end,
}

--- The `want` of a step, made of what a script gave and cni.engine.takes has checked.
function M.want(given)
  local want = { entry = normal(given) }
  want.key = entry.key(say(want))
  return want
end

return M
