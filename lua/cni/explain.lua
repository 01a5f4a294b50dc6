-- SPDX-License-Identifier: MIT
--- The records, for people: who is attached, and what was done for it.
-- @module cni.explain

local journal = require "cni.journal"
local plan = require "cni.plan"

local M = {}

local function heading(record)
  local header = record.header
  return ("%s  %s %s  %s  %s%s"):format(header.network, header.id, header.ifname, header.type,
    header.netns or "no namespace",
    record.leaving and "  (half deleted)" or record.done and "" or "  (unfinished)")
end

--- Explain what is recorded.
-- @tparam[opt] string network only this one
-- @tparam[opt] string id only this container
-- @treturn table lines; empty when there is nothing
function M.lines(network, id)
  local lines = {}
  for _, record in ipairs(journal.all()) do
    local header = record.header
    if (not network or header.network == network) and (not id or header.id == id) then
      lines[#lines + 1] = heading(record)
      for _, step in ipairs(record.steps) do
        lines[#lines + 1] = "  " .. plan.kind_of(step).say(step)
      end
    end
  end
  return lines
end

return M
