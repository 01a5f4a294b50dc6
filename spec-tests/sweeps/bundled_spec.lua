-- SPDX-License-Identifier: MIT
-- What a chain in one process does is what its plugins do that a runtime calls: the cases of differential_spec,
-- each once as it is and once run by the type luacni. Lists of several plugins are in bundle_spec.

local t = require "support"
local worlds = require "differential_world"

-- A text that is no JSON has no plugin to be run; and what gives addresses alone makes no interface.
local function can_be_bundled(case)
  if case.type == "host-local" or case.type == "static" or type(case.conf) ~= "table" then return false end
  for _, step in ipairs(case.steps or {}) do
    if type(step) == "table" and type(step.conf) == "string" then return false end
  end
  return true
end

local cases = {}
for _, case in ipairs(worlds.cases()) do
  if can_be_bundled(case) then cases[#cases + 1] = case end
end

for _, case in t.due(cases, 12) do
  it("is the same in one process: " .. case.name, function()
    t.needs(table.unpack(case.needs or {}))
    local alone, bundled = worlds.play("ours", case), worlds.play("bundled", case)
    local complaints = {}
    for _, d in ipairs(worlds.compare(alone, bundled)) do
      complaints[#complaints + 1] = ("%s: %s\n  alone:   %s\n  bundled: %s"):format(d.step, d.key, d.reference, d.ours)
        .. (d.said and "\n  " .. d.said or "")
    end
    worlds.judge(bundled, complaints)
  end)
end

it("has most of the cases", function() assert.is_true(#cases > 200, #cases) end)
