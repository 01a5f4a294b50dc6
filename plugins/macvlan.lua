-- SPDX-License-Identifier: MIT
--- Give the sandbox a link of its own MAC on the wire of a host's link.
--
--     host:  [ eth1 ]---+---sandbox: [ eth0 ]
--            master     +---host:    [ shim ]   by which the host reaches its containers

local addr = require "cni.addr"
local common = require "cni.common"
local ipam = require "cni.ipam"
local master = require "cni.master"
local schema = require "cni.schema"

local conf = schema.record {
  master = master.optional,
  linkInContainer = master.in_container,
  mode = schema.enum { values = { "bridge", "private", "vepa", "passthru" }, default = "bridge",
    empty = "absent", doc = "Whether links on one master reach each other." },
  mtu = schema.mtu { strict = true, doc = "MTU; default: the master's." },
  mac = schema.mac { doc = "MAC; `args`, CNI_ARGS and `runtimeConfig` count before it." },
  bcqueuelen = schema.integer { min = 0, max = 0xffffffff, default = 0,
    doc = "Broadcast frames that may queue on the master; 0: the kernel's default." },
  shim = schema.ifname { empty = "absent",
    doc = "A macvlan link for the host itself, and routes by it to the containers." },
  enabledad = common.enabledad,
  dns = common.dns, ipam = common.ipam, args = common.args, runtimeConfig = common.runtime,
}
conf:never_both("shim", "linkInContainer", "the host is not on a master in the sandbox")
conf:check(function(c)
  if c.shim and c.mode ~= "bridge" then return "shim needs the mode bridge" end
end, "shim needs the mode bridge.")

local function address_near(cidr, addresses)
  for _, have in ipairs(addresses) do
    local own = addr.parse(have.address)
    if own:contains(cidr) and not have.tentative then return own end
  end
end

-- Frames between a master and the links on it never meet: the host needs a link beside them. It
-- speaks there with the address of its own in the containers' network, the shim's or the master's.
local function serve_host(req, parent, lease)
  local host = req.host
  local shim = host:ensure_link {
    kind = "macvlan", name = req.conf.shim, link = parent, macvlan_mode = "bridge", up = true,
  }
  for _, ip in ipairs(lease.ips) do
    local cidr = addr.parse(ip.address)
    local own = not address_near(cidr, host:addrs(shim)) and address_near(cidr, host:addrs(parent))
    -- Unlike ARP, IPv6 answers for an address only where it is.
    if own and own.family == "inet6" then host:ensure_addr(shim, tostring(own:host())) end
    host:add_route { dst = tostring(cidr:host()), link = shim, scope = "link",
      src = own and own:text() or nil }
  end
end

local function add(req)
  local c = req.conf
  local home, parent = master.find(req)
  local eth = home:add_link {
    kind = "macvlan", name = req.ifname, ns = req.pod, link = parent, mtu = c.mtu,
    mac = common.mac(req) or c.mac, macvlan_mode = c.mode,
    macvlan_bc_queue_len = c.bcqueuelen > 0 and c.bcqueuelen or nil,
  }
  local options = { dad = c.enabledad, announce = true }
  local lease = ipam.add(req, options)
  ipam.apply(lease, req.pod, eth, options)
  if c.shim then serve_host(req, parent, lease) end
  return ipam.answer(req, lease, { eth })
end

return { conf = conf, add = add }
