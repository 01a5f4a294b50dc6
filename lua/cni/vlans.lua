-- SPDX-License-Identifier: MIT
--- VLANs of a bridge port, as the bridge plugin's keys describe them.
-- @module cni.vlans

local schema = require "cni.schema"

local M = {}

local id = schema.integer { min = 1, max = 4094 }

local entry = schema.record {
  id = id { doc = "One VLAN." },
  minID = id { doc = "First VLAN of a range." },
  maxID = id { doc = "Last VLAN of the range." },
}
entry:check(function(e)
  if (e.minID == nil) ~= (e.maxID == nil) then return "minID and maxID go together" end
  if e.minID and e.minID > e.maxID then return "minID is above maxID" end
  if not e.id and not e.minID then return "names neither id nor minID and maxID" end
end, "minID and maxID go together; minID is not above maxID.")

--- `vlanTrunk`: a list of VLANs and ranges.
M.trunk = schema.list(entry)

-- Ranges sorted and merged, so that a trunk of 4094 VLANs is one request.
local function ranges(trunk)
  local list = {}
  for _, e in ipairs(trunk) do
    if e.id then list[#list + 1] = { e.id, e.id } end
    if e.minID then list[#list + 1] = { e.minID, e.maxID } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  local merged = {}
  for _, range in ipairs(list) do
    local last = merged[#merged]
    if last and range[1] <= last[2] + 1 then
      last[2] = math.max(last[2], range[2])
    else
      merged[#merged + 1] = range
    end
  end
  return merged
end

local function put(list, first, last, absent)
  if first > last then return end
  list[#list + 1] = { vid = first, vid_end = last > first and last or nil, absent = absent }
end

-- What lies between the VLANs of a port, and before and after them.
local function others(taken)
  local list, next_id = {}, 1
  table.sort(taken, function(a, b) return a.vid < b.vid end)
  for _, vlan in ipairs(taken) do
    put(list, next_id, vlan.vid - 1, true)
    next_id = (vlan.vid_end or vlan.vid) + 1
  end
  put(list, next_id, 4094, true)
  return list
end

--- The VLANs of a port, in the order in which they are set.
-- @tparam table conf `vlan`, `vlanTrunk`, `preserveDefaultVlan`
-- @treturn table list of { vid, vid_end, pvid, untagged, absent }; empty: leave the port alone
function M.of(conf)
  local trunk = ranges(conf.vlanTrunk or {})
  if conf.vlan == 0 and #trunk == 0 then return {} end
  local native = conf.vlan ~= 0 and conf.vlan or 1
  local taken = { { vid = native, pvid = true, untagged = true } }
  for _, range in ipairs(trunk) do
    -- Tagged membership would take the native VLAN's own marks away.
    if range[1] <= native and native <= range[2] then
      put(taken, range[1], native - 1)
      put(taken, native + 1, range[2])
    else
      put(taken, range[1], range[2])
    end
  end
  local list = conf.preserveDefaultVlan and {} or others(table.move(taken, 1, #taken, 1, {}))
  return table.move(taken, 1, #taken, #list + 1, list)
end

return M
