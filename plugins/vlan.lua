-- SPDX-License-Identifier: MIT
--- Give the sandbox one VLAN of a link.
--
--     host:  [ eth1 ]--- VLAN 100 ---sandbox: [ eth0 ]
--            master                           tags what it sends

local common = require "cni.common"
local ipam = require "cni.ipam"
local master = require "cni.master"
local schema = require "cni.schema"

local priority, any = { min = 0, max = 7, required = true }, { min = 0, max = 0xffffffff,
  required = true }

local conf = schema.record {
  master = master.required,
  linkInContainer = master.in_container,
  vlanId = schema.integer { min = 0, max = 4094, default = 0, doc = "The VLAN." },
  protocol = schema.enum { values = { "802.1Q", "802.1ad" }, default = "802.1Q",
    doc = "How frames are tagged." },
  ingressQosMap = schema.list(schema.record {
    from = schema.integer(priority), to = schema.integer(any),
  }, { doc = "Priority of a received frame to the kernel's." }),
  egressQosMap = schema.list(schema.record {
    from = schema.integer(any), to = schema.integer(priority),
  }, { doc = "The kernel's priority to that of a sent frame." }),
  mtu = schema.mtu { strict = true, doc = "MTU; default: the master's." },
  enabledad = common.enabledad,
  dns = common.dns, ipam = common.ipam_required, args = common.args,
  runtimeConfig = common.runtime,
}

local function add(req)
  local c = req.conf
  local home, parent = master.find(req)
  local eth = home:add_link {
    kind = "vlan", name = req.ifname, ns = req.pod, link = parent, mtu = c.mtu,
    mac = common.mac(req), vlan_id = c.vlanId, vlan_protocol = c.protocol,
    ingress_qos = c.ingressQosMap, egress_qos = c.egressQosMap,
  }
  local options = { dad = c.enabledad, announce = true }
  local lease = ipam.add(req, options)
  ipam.apply(lease, req.pod, eth, options)
  return ipam.answer(req, lease, { eth })
end

return { conf = conf, add = add }
