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

-- In a chain the master is the one link that there is so far.
local function link_of_chain(req)
  local interfaces = req.prev.interfaces or {}
  if #interfaces ~= 1 or not interfaces[1].name then
    fail.config("master", ("is not given, and the chain has %d interfaces, not one")
      :format(#interfaces))
  end
  return interfaces[1].name
end

-- Once the link is made, the chain tells of that one: the master is what it stands on.
local function link_below(req)
  local home = req.conf.linkInContainer and req.pod or req.host
  local eth = req.pod:link(req.ifname)
  -- An index is of a namespace, and of another one than the link's own when that has a number there.
  local there = eth and (eth.link_netnsid ~= nil) == (home ~= req.pod)
  local parent = there and eth.link and home:link(eth.link)
  if not parent and req.plan.attached then
    fail.throw { msg = ("link %s %s"):format(req.ifname,
      eth and "stands on no link of the " .. home.name or "is not in the sandbox") }
  end
  return parent and parent.name
end

local function find_master(req)
  local mode = req.plan.mode
  if req.conf.master then return master.find(req) end
  if req.plan.attached or mode == "erase" then return master.find(req, link_below(req)) end
  return master.find(req, req.prev and link_of_chain(req))
end

local function add(req)
  local c = req.conf
  local home, parent = find_master(req)
  home:agree(parent, "ipvlan", c.mode .. " " .. c.flag)
  local eth = home:add_link {
    kind = "ipvlan", name = req.ifname, ns = req.pod, link = parent, mtu = c.mtu,
    ipvlan_mode = c.mode, ipvlan_flag = c.flag,
    -- A routed link has none; one that loses it in coming up has IPv6 only a second later.
    arp = c.mode == "l2",
  }
  local options = { dad = c.enabledad, announce = true }
  local lease = not ipam.type_of(req) and ipam.of_chain(req) or ipam.add(req, options)
  if lease.none then
    fail.config("ipam.type", "is missing", "only a chain that has addresses can do without")
  end
  ipam.apply(lease, req.pod, eth, options)
  return ipam.answer(req, lease, { eth })
end

return { conf = conf, add = add }
