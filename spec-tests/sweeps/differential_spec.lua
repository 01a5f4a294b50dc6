-- SPDX-License-Identifier: MIT
-- The reference plugins and ours, given the same configurations and the same
-- verbs, must leave the same kernel, the same leases and the same answers. Every
-- difference we want stands in differential_intended.lua with its reason; one
-- that stands there and does not occur is a failure like any other.
--
-- Seconds a test takes on the second kernel: 13

local lfs = require "lfs"
local t = require "support"
local worlds = require "differential_world"
local cases = worlds.cases()
local intended = require "differential_intended"

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

for _, case in t.due(playable, 4) do
  it("does as the reference does: " .. case.name, function()
    t.needs("reference", table.unpack(case.needs or {}))
    local reference = worlds.play("reference", case)
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
    local ours = worlds.play("ours", case)
    worlds.judge(ours, judge(case, worlds.compare(reference, ours)))
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
  -- dhcp_spec plays its cases with ours, and with the reference's daemon.
  local cased = { dhcp = true }
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
