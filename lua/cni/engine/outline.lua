-- SPDX-License-Identifier: MIT
--- What is remembered of an ADD's answer, and whether a result is that answer.
-- @module cni.engine.outline

local M = {}

--- What a record keeps of an answer, to know it again by.
-- @tparam table result
-- @treturn table `ips`, their addresses; `interfaces`, those of the sandbox; nil where there are none
function M.of(result)
  local outline = {}
  for i, ip in ipairs(result.ips or {}) do
    outline.ips = outline.ips or {}
    outline.ips[i] = ip.address
  end
  for _, entry in ipairs(result.interfaces or {}) do
    if (entry.sandbox or "") ~= "" then
      outline.interfaces = outline.interfaces or {}
      table.insert(outline.interfaces, { name = entry.name, mac = entry.mac, sandbox = entry.sandbox })
    end
  end
  return outline
end

--- Whether a record's ADD gave the result that the runtime now sends as prevResult.
-- @tparam Record record
-- @tparam table req its `prev`, `ifname`
-- @treturn boolean
function M.is_reported(record, req)
  local outline, prev = record.done, req.prev
  if not outline or not prev then return false end
  local entry = require("cni.engine.erase").reported(prev, req.ifname)
  for _, own in ipairs(entry and outline.interfaces or {}) do
    if own.name == entry.name and own.sandbox == entry.sandbox
      and (own.mac or ""):lower() == (entry.mac or ""):lower() then return true end
  end
  if outline.interfaces or not outline.ips then return false end
  local reported = {}
  for _, ip in ipairs(prev.ips or {}) do reported[ip.address] = true end
  for _, address in ipairs(outline.ips) do
    if not reported[address] then return false end
  end
  return true
end

return M
