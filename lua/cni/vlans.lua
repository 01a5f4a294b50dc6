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

--- The VLANs of a port, in the order in which they are set.
-- @tparam table conf `vlan`, `vlanTrunk`, `preserveDefaultVlan`
-- @treturn table list of { vid, vid_end, pvid, untagged, absent }; empty: leave the port alone
function M.of(conf)
  local list, trunk = {}, ranges(conf.vlanTrunk or {})
  if conf.vlan == 0 and #trunk == 0 then return list end
  if not conf.preserveDefaultVlan then
    list[1] = { vid = 1, vid_end = 4094, absent = true }
  end
  list[#list + 1] = { vid = conf.vlan ~= 0 and conf.vlan or 1, pvid = true, untagged = true }
  for _, range in ipairs(trunk) do
    local vlan = { vid = range[1], vid_end = range[2] > range[1] and range[2] or nil }
    -- Tagged membership would take the native VLAN's own marks away.
    if not (vlan.vid == list[#list].vid and list[#list].pvid and not vlan.vid_end) then
      list[#list + 1] = vlan
    end
  end
  return list
end

return M
