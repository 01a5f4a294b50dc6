-- SPDX-License-Identifier: MIT
--- Give the sandbox a link that shares the MAC of a host's link, and has addresses of its own.
--
--     host:  [ eth1 ]---sandbox: [ eth0 ]
--            master              same MAC

local common = require "cni.common"
local fail = require "cni.fail"
local ipam = require "cni.ipam"
local master = require "cni.master"
local schema = require "cni.schema"

local conf = schema.record {
  master = master.optional,
  linkInContainer = master.in_container,
  mode = schema.enum { values = { "l2", "l3", "l3s" }, default = "l2", empty = "absent",
    doc = "Switch (l2) or route (l3; l3s: through the host's filters) between the links." },
  flag = schema.enum { values = { "bridge", "private", "vepa" }, default = "bridge",
    empty = "absent", doc = "Whether links on one master reach each other." },
  mtu = schema.mtu { doc = "MTU; default: the master's." },
  enabledad = common.enabledad,
  dns = common.dns, ipam = common.ipam, args = common.args, runtimeConfig = common.runtime,
}

-- In a chain the master is the one link that there is so far. CHECK is told of the link made here:
-- then it is what that one stands on.
local function link_of_chain(req)
  if not req.prev then return nil end
  local interfaces = req.prev.interfaces or {}
  local name = #interfaces == 1 and interfaces[1].name
  if not name then
    fail.config("master", ("is not given, and the chain has %d interfaces, not one")
      :format(#interfaces))
  end
  local own = name == req.ifname and req.pod:link(name)
  local home = req.conf.linkInContainer and req.pod or req.host
  local parent = own and own.link and home:link(own.link)
  return parent and parent.name or name
end

local function add(req)
  local c = req.conf
  local home, parent = master.find(req, not c.master and link_of_chain(req) or nil)
  local of_chain = not ipam.type_of(req) and ipam.of_chain(req)
  local lease = of_chain or ipam.add(req)
  local eth = home:add_link {
    kind = "ipvlan", name = req.ifname, ns = req.pod, link = parent, mtu = c.mtu,
    ipvlan_mode = c.mode, ipvlan_flag = c.flag,
  }
  ipam.apply(lease, req.pod, eth, { dad = c.enabledad, announce = true })
  local answer = ipam.answer(req, lease, { eth })
  answer.instead = req.prev ~= nil
  return answer
end

return { conf = conf, add = add }
