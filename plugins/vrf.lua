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

local function need_free_interface(req)
  if req.plan.mode ~= "apply" then return end
  local link = req.pod:link(req.ifname)
  if not link then
    fail.throw { msg = ("link %s is not in the sandbox"):format(req.ifname) }
  elseif link.master then
    local master = req.pod:link(link.master, {})
    fail.throw { msg = ("link %s belongs to %s already"):format(req.ifname,
      master and master.name or "another link") }
  end
end

local function add(req)
  common.need_chain(req)
  need_free_interface(req)
  local c = req.conf
  local vrf = req.pod:ensure_link {
    kind = "vrf", name = c.vrfname, vrf_table = c.table ~= 0 and c.table or nil, up = true,
  }
  req.pod:enslave(req.ifname, vrf)
end

-- The interface is another plugin's: a DEL that knows nothing else leaves it.
return { conf = conf, add = add, chained = true }
