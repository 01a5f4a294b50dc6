-- SPDX-License-Identifier: MIT
-- luacni explain

local journal = require "cni.record.journal"
local plan = require "cni.engine.plan"
local say = require "cni.command.say"

local function heading(record)
  local header = record.header
  return ("%s  %s %s  %s  %s%s"):format(header.network, header.id, header.ifname, header.type,
    header.netns or "no namespace",
    record.leaving and "  (half deleted)" or record.done and "" or "  (unfinished)")
end

return {
  words = "[NETWORK [ID]]",
  about = "say what was done for attachments",
  text = "From the records: each attachment, and under it the steps that were taken for it, in their " ..
    "order. A DEL takes them back from the last to the first.",
  least = 0, most = 2,
  examples = { "luacni explain", "luacni explain demo web1" },
  run = function(words)
    local network, id, lines = words[1], words[2], {}
    for _, record in ipairs(journal.all(network)) do
      if not id or record.header.id == id then
        lines[#lines + 1] = heading(record)
        for _, step in ipairs(record.steps) do
          lines[#lines + 1] = "  " .. plan.kind_of(step).say(step)
        end
      end
    end
    if not lines[1] then return say.nothing(network, id) end
    say.lines(lines)
  end,
}
