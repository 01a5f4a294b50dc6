-- SPDX-License-Identifier: MIT
-- The reference plugins and ours, given the same configurations and the same
-- verbs, must leave the same kernel, the same leases and the same answers. Every
-- difference we want stands in differential_intended.lua with its reason; one
-- that stands there and does not occur is a failure like any other.

local lfs = require "lfs"
local system = require "system"
local t = require "support"
local worlds = require "differential_world"
local talk = require "talk"
local cases = require "differential_cases"
for _, more in ipairs { "differential_ipam_cases", "differential_interface_cases", "differential_port_cases" } do
  for _, case in ipairs(require(more)) do cases[#cases + 1] = case end
end
local intended = require "differential_intended"

local standard = { "ADD", "CHECK", "DEL", "DEL" }

local function step_name(number, step)
  return ("%d %s"):format(number, step.verb or step.sh and "sh" or step.tcp and "tcp"
    or step.ping and "ping" or step.dial and "dial")
end

-- Each of a list of { from, kind, address, port }: who answers, and as whom it sees the client.
local function dial(world, step)
  local clients, servers, facts = {}, {}, {}
  local function at(name) return world.pods[name] or world[name] end
  for i, d in ipairs(step.dial) do clients[i] = { at(d[1]), d[2], d[3], d[4] } end
  for _, name in ipairs(step.servers or { "pa" }) do
    for _, kind in ipairs { "TCP4", "TCP6", "UDP4", "UDP6" } do
      servers[#servers + 1] = { at(name), kind, 80, name }
    end
  end
  for i, answer in ipairs(talk(servers, clients)) do
    facts["dial " .. table.concat(step.dial[i], " ")] = answer == "" and "none" or answer
  end
  return facts
end

-- Run one step on one side; returns its facts.
local function take(world, step)
  if step.sh then
    t.run(step.sh, { host = step.at and world.pods[step.at] or world.host })
    return {}
  elseif step.tcp then
    local to = step.to == "far" and world.far or world.pods[step.to]
    return { source = t.tcp_source(world.pods[step.from or "pa"], to, step.tcp) or "none" }
  elseif step.dial then
    return dial(world, step)
  elseif step.ping then
    return { answers = tostring(t.ping(world.pods[step.from or "pa"], step.ping)) }
  elseif step.remove_ns then
    -- The kernel takes the other ends of its links away a little later.
    local function ends()
      local count = 0
      for _, link in ipairs(t.ip(world.host, "link show type veth")) do
        if link.link_netnsid then count = count + 1 end
      end
      return count
    end
    local before = ends()
    t.remove_netns(world.pods[step.remove_ns])
    for _ = 1, 100 do
      if before == 0 or ends() < before then break end
      system.sleep(0.02)
    end
    world.pods[step.remove_ns] = nil
    return {}
  end
  return world:call(step)
end

-- What ADD has accepted, CHECK is content with straight after.
local function check_again(world, step)
  local facts, got = world:call(t.merge(step, { verb = "CHECK" }))
  return facts.status ~= "0" and got.out .. got.err or nil
end

local function play(side, case)
  local world = worlds.new(side, case)
  local history = { { name = "0 start", facts = world:facts() } }
  local steps = case.steps or standard
  for number, step in ipairs(steps) do
    if type(step) == "string" then step = { verb = step } end
    step.last = number == #steps or nil
    local facts, got = take(world, step)
    history[#history + 1] = {
      name = step.remove_ns and number .. " namespace gone" or step_name(number, step),
      facts = facts, said = got and got.rc ~= 0 and got.out .. got.err or nil,
      discontent = side == "ours" and step.verb == "ADD" and facts.status == "0" and world:checks(step)
        and check_again(world, step) or nil,
    }
  end
  t.cleanup()
  t.wipe()
  return history
end

-- Differences as { step, key, reference, ours }.
local function compare(reference, ours)
  local found = {}
  for i, theirs in ipairs(reference) do
    local mine = ours[i].facts
    local keys = {}
    for key in pairs(theirs.facts) do keys[key] = true end
    for key in pairs(mine) do keys[key] = true end
    for key in pairs(keys) do
      if theirs.facts[key] ~= mine[key] then
        found[#found + 1] = { step = theirs.name, key = key,
          reference = theirs.facts[key] or "(none)", ours = mine[key] or "(none)",
          facts = mine, said = key == "status" and (theirs.said or ours[i].said) or nil }
      end
    end
  end
  table.sort(found, function(a, b)
    if a.step ~= b.step then return a.step < b.step end
    return a.key < b.key
  end)
  return found
end

local function covers(rule, difference)
  return (not rule.step or difference.step:find(rule.step) ~= nil)
    and difference.key:find(rule.key) ~= nil
    and (not rule.reference or difference.reference:find(rule.reference) ~= nil)
    and (not rule.ours or difference.ours:find(rule.ours) ~= nil)
    and (not rule.only or rule.only(difference.facts, difference.step))
end

local came_somewhere = {}

-- Take out of `found` what an entry covers; whether there was any. An entry with a
-- rule marked `must` covers nothing unless that rule does.
local function take_out(id, found)
  local entry, came, must = intended[id], false, false
  for _, rule in ipairs(entry) do
    must = must or rule.must
    for _, d in ipairs(found) do
      came = came or (rule.must and covers(rule, d))
    end
  end
  if must and not came then return false end
  for i = #found, 1, -1 do
    for _, rule in ipairs(entry) do
      if found[i] and covers(rule, found[i]) then
        came, came_somewhere[id] = true, true
        table.remove(found, i)
      end
    end
  end
  return came
end

-- Take out the differences that are announced; complain about the rest, and about
-- what the case announces and does not come.
local function judge(case, found)
  local complaints = {}
  for _, id in ipairs(case.differs or {}) do
    local entry = intended[id] or error("no such intended difference: " .. id)
    -- In a guest a second may have gone by before anybody looks.
    if not take_out(id, found) and not (entry.passing and t.guest) then
      complaints[#complaints + 1] = ("intended, but did not occur: %s (%s)"):format(id,
        entry.why)
    end
  end
  for id, entry in pairs(intended) do
    if entry.everywhere then take_out(id, found) end
  end
  for _, d in ipairs(found) do
    complaints[#complaints + 1] = ("%s: %s\n  reference: %s\n  ours:      %s"):format(
      d.step, d.key, d.reference, d.ours) .. (d.said and "\n  " .. d.said or "")
  end
  return complaints
end

local debugging = os.getenv("LUACNI_DIFF_SHOW")

-- An older set has not every type. Without any set at all the cases are there, to be skipped.
local function has_type(name)
  return lfs.attributes(t.bin.reference .. "/" .. name) ~= nil
    or not lfs.attributes(t.bin.reference)
end

local playable = {}
for _, case in ipairs(cases) do
  if has_type(case.type) then playable[#playable + 1] = case end
end

for _, case in t.due(playable, 3) do
  it("does as the reference does: " .. case.name, function()
    t.needs("reference", table.unpack(case.needs or {}))
    local reference = play("reference", case)
    if debugging then
      for _, entry in ipairs(reference) do
        local keys = {}
        for key in pairs(entry.facts) do keys[#keys + 1] = key end
        table.sort(keys)
        print("== " .. entry.name)
        for _, key in ipairs(keys) do
          if entry.name ~= "0 start" and reference[1].facts[key] ~= entry.facts[key] then
            print("  ", key, entry.facts[key])
          end
        end
      end
    end
    local ours = play("ours", case)
    local complaints = judge(case, compare(reference, ours))
    for _, entry in ipairs(ours) do
      if entry.discontent then
        complaints[#complaints + 1] = entry.name .. ": CHECK straight after: " .. entry.discontent
      end
    end
    if #complaints > 0 then error(table.concat(complaints, "\n"), 0) end
  end)
end

it("has at least 40 cases, each with a name of its own", function()
  local names = {}
  for _, case in ipairs(cases) do
    assert.is_nil(names[case.name], case.name)
    names[case.name] = true
  end
  assert.is_true(#cases >= 40)
end)

it("has cases for every type that both have", function()
  local cased = {}
  for _, case in ipairs(cases) do cased[case.type] = true end
  for name in lfs.dir("plugins") do
    local type = name:match("^(.*)%.lua$")
    if type and has_type(type) then assert.is_true(cased[type], type) end
  end
end)

it("differs in every way that is listed", function()
  local used = {}
  for _, case in ipairs(cases) do
    for _, id in ipairs(case.differs or {}) do used[id] = true end
  end
  local unused = {}
  for id, entry in pairs(intended) do
    assert.is_string(entry.why)
    local came = came_somewhere[id] or not t.thorough
    if not (entry.everywhere and came or used[id]
      or entry.needs and not t.has(entry.needs)) then
      unused[#unused + 1] = id
    end
  end
  table.sort(unused)
  assert.equal("", table.concat(unused, ", "), "did not occur in any case")
end)
