-- SPDX-License-Identifier: MIT
--- Put the sandbox's interface into a VRF: a routing table of its own. Used in a chain, behind the
-- plugin that makes the interface; interfaces of several networks can share a VRF.

local common = require "cni.common"
local fail = require "cni.fail"
local schema = require "cni.schema"

local conf = schema.record {
  vrfname = schema.ifname { required = true, doc = "Name of the VRF in the sandbox." },
  table = schema.integer { min = 0, max = 0xffffffff, default = 0,
    doc = "Number of its routing table; 0: one that nothing uses." },
}

local function find_vrf(req)
  local c = req.conf
  local vrf = req.pod:link(c.vrfname)
  if vrf and vrf.kind == "vrf" and c.table ~= 0 and vrf.vrf_table ~= c.table then
    fail.config("table", ("VRF %s has the table %d, not %d"):format(c.vrfname, vrf.vrf_table,
      c.table))
  end
  return vrf
end

local function find_interface(req)
  local link = req.pod:link(req.ifname)
  if req.plan.mode ~= "apply" then return end
  if not link then
    fail.throw { msg = ("link %s is not in the sandbox"):format(req.ifname) }
  elseif link.master then
    fail.throw { msg = ("link %s belongs to %s already"):format(req.ifname,
      req.pod:link(link.master).name) }
  end
end

local function add(req)
  common.need_chain(req)
  local vrf = find_vrf(req)
  find_interface(req)
  local table_id = vrf and vrf.vrf_table or req.conf.table
  if table_id == 0 then table_id = req.pod:free_table() end
  local link = req.pod:ensure_link {
    kind = "vrf", name = req.conf.vrfname, vrf_table = table_id, up = true,
  }
  req.pod:enslave(req.ifname, link, table_id)
end

return { conf = conf, add = add }
