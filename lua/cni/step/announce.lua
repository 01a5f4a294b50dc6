-- SPDX-License-Identifier: MIT
--- Step `announce`: the neighbours are told whose addresses are, which they may know another's MAC for.
-- Nothing is there to be compared, or taken back.
-- @module cni.step.announce

local M = {}

function M.run(step, plan)
  local h, want = plan[step.ns], step.want
  local link = h:link(want.link, { "mac" })
  for _, address in ipairs(link and want.addresses or {}) do
    local client = require(address:find(":", 1, true) and "cni.dhcp6.client" or "cni.dhcp.client")
    -- Whoever is not told will ask.
    pcall(client.announce, h.where, link, address)
  end
end

function M.say(step)
  return ("tell the neighbours of %s of %s"):format(step.want.link, table.concat(step.want.addresses, ", "))
end

return M
