-- SPDX-License-Identifier: MIT
--- Give the sandbox a tap link: what is sent to it, a program reads from /dev/net/tun, such as a
-- virtual machine's monitor.

local common = require "cni.common"
local ipam = require "cni.ipam"
local schema = require "cni.schema"

local id = schema.integer { min = 0, max = 0xffffffff }

local conf = schema.record {
  mac = schema.mac { doc = "MAC; `args`, CNI_ARGS and `runtimeConfig` count before it." },
  mtu = schema.mtu { strict = true, doc = "MTU." },
  multiQueue = schema.boolean { doc = "Let it be opened several times, a queue each." },
  owner = id { doc = "Number of the user who may open it." },
  group = id { doc = "Number of the group who may open it." },
  selinuxContext = schema.string { empty = "absent", doc = "SELinux context of the link." },
  bridge = schema.ifname { empty = "absent", doc = "A bridge of the sandbox to plug it into." },
  dns = common.dns, ipam = common.ipam, args = common.args, runtimeConfig = common.runtime,
}

local function add(req)
  local c = req.conf
  local tap = req.pod:add_tap {
    name = req.ifname, mac = common.mac(req) or c.mac, mtu = c.mtu, multi_queue = c.multiQueue,
    owner = c.owner, group = c.group, label = c.selinuxContext,
    vnet_hdr = c.owner ~= nil and c.group ~= nil and not c.selinuxContext,
  }
  if c.bridge then req.pod:set_link(tap, { master = c.bridge }) end
  local options = { announce = true }
  local lease = ipam.add(req, options)
  ipam.apply(lease, req.pod, tap, options)
  return ipam.answer(req, lease, { tap })
end

return { conf = conf, add = add }
