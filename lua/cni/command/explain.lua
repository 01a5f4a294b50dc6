-- SPDX-License-Identifier: MIT
-- luacni explain

local attachments = require "cni.command.attachments"
local job = require "cni.command.job"
local json = require "cni.json"
local plan = require "cni.engine.plan"
local say = require "cni.command.say"

local function heading(entry, type_name, netns, remark)
  return ("%s  %s %s  %s  %s%s"):format(entry.network, entry.container, entry.interface, type_name,
    netns or "no namespace", remark and ("  (%s)"):format(remark) or "")
end

local function steps_of(record)
  local steps = json.list {}
  for i, step in ipairs(record.steps) do steps[i] = plan.say(step) end
  return steps
end

local function state_of(record)
  return record.leaving and "half deleted" or record.done and "attached" or "unfinished"
end

local function as_json(list)
  local told = json.list {}
  for i, entry in ipairs(list) do
    local records = json.list {}
    for n, record in ipairs(entry.records) do
      records[n] = { type = record.header.type, sandbox = record.header.netns, state = state_of(record),
        steps = steps_of(record) }
    end
    told[i] = attachments.told(entry)
    told[i].records = records
  end
  return told
end

return {
  words = "[NETWORK [WHO]]",
  about = "say what was done for attachments",
  text = "From the records: each attachment, and under it the steps that were taken for it, in their " ..
    "order. A DEL takes them back from the last to the first. Of what only a runtime has stored it says " ..
    "that there is no record. WHO is a namespace's name or path, or the container's ID.",
  least = 0, most = 2, network = true,
  options = job.options({ "conf-dir" }, {
    json = { about = "as JSON: steps in `records`, one of a type each" },
  }),
  examples = { "luacni explain", "luacni explain demo blue" },
  run = function(words, options)
    local list, lines = attachments.all(job.network_name(words[1], options), words[2]), {}
    if not list[1] then job.must_be_known(words[1], options) end
    if options.json then return say.json(as_json(list)) end
    if not list[1] then return say.nothing(words[1], words[2]) end
    for _, entry in ipairs(list) do
      for _, record in ipairs(entry.records) do
        local header, state = record.header, state_of(record)
        lines[#lines + 1] = heading(entry, header.type, header.netns, state ~= "attached" and state or nil)
        for _, step in ipairs(steps_of(record)) do lines[#lines + 1] = "  " .. step end
      end
      if not entry.recorded then
        lines[#lines + 1] = heading(entry, table.concat(entry.types, " "), entry.sandbox,
          entry.state == "begun" and attachments.unusual(entry) or "no record of it")
      end
    end
    say.lines(lines)
  end,
}
