-- SPDX-License-Identifier: MIT
--- Give the sandbox a link that leads nowhere: somewhere to put addresses.

local common = require "cni.common"
local ipam = require "cni.ipam"
local schema = require "cni.schema"

local conf = schema.record {
  mtu = schema.mtu { doc = "MTU." },
  dns = common.dns, ipam = common.ipam_required, args = common.args,
  runtimeConfig = common.runtime,
}

local function add(req)
  local eth = req.pod:add_link {
    kind = "dummy", name = req.ifname, mtu = req.conf.mtu, mac = common.mac(req),
  }
  local lease = ipam.add(req)
  ipam.apply(lease, req.pod, eth)
  return ipam.answer(req, lease, { eth })
end

return { conf = conf, add = add }
