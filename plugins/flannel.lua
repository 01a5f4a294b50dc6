-- SPDX-License-Identifier: MIT
--- Have another type make the interface, by default bridge, with an address of the subnet that flannel has
-- for this node. Its configuration is `delegate`; what that leaves open flannel's file says: the MTU, whether
-- to masquerade (where flannel does not), and the routes to the networks that flannel connects. What the file
-- says when a container is attached is so for as long as it is, also in an update.

local common = require "cni.common"
local fail = require "cni.fail"
local flannel = require "cni.flannel_subnet"
local schema = require "cni.schema"

local conf = schema.record {
  subnetFile = schema.string { empty = "absent", default = "/run/flannel/subnet.env",
    doc = "What flannel has written down for this node." },
  dataDir = schema.string { empty = "absent", default = "/var/lib/cni/flannel",
    doc = "Where flannel's own plugin finds how a container was attached, should it do the DEL; and leaves "
      .. "that for ours. An absolute path." },
  delegate = schema.map(schema.any, { doc = "The type that makes the interface, and its keys." }),
  ipam = schema.map(schema.any, { doc = "Of the IPAM plugin, by default host-local; flannel gives it "
    .. "`ranges`, and more `routes`." }),
}
conf:check(function(c)
  local d = c.delegate or {}
  if d.type ~= nil and (type(d.type) ~= "string" or d.type == "" or d.type == "flannel") then
    return "delegate.type is not the name of a type that makes an interface"
  elseif d.name ~= nil or d.ipam ~= nil then
    return "delegate: name and ipam are not its own, they stand beside it"
  end
end, "delegate has neither name nor ipam.")

local nothing <const> = { subnets = {}, networks = {} }

local function delegate_of(req, given)
  local d = { type = "bridge" }
  for key, value in next, req.conf.delegate or {} do d[key] = value end
  if d.ipMasq == nil then d.ipMasq = not given.masquerades end
  if d.mtu == nil then d.mtu = given.mtu end
  if d.isGateway == nil and d.type == "bridge" then d.isGateway = true end
  d.ipam = flannel.ipam(req.conf.ipam, given)
  return d
end

-- What was given is written down, and stays: the file may have changed since. DEL does without.
local function given_to(req)
  return req:once("subnet", function()
    local ok, found = pcall(flannel.read, req.conf.subnetFile)
    return ok and found or req.command == "DEL" and nothing or error(found, 0)
  end)
end

local function add(req)
  common.need_absolute(req, "dataDir", req.conf.dataDir)
  local d = req.command == "DEL" and flannel.kept(req) or delegate_of(req, given_to(req))
  flannel.keep(req, d)
  return req:delegate(d.type, d, true)
end

return {
  conf = conf, add = add,
  status = function(req)
    local ok, found = pcall(flannel.read, req.conf.subnetFile)
    if not ok then fail.throw { code = fail.codes.no_add, msg = tostring(found) } end
    local d = delegate_of(req, found)
    req:delegate(d.type, d, true)
  end,
  gc = function(req)
    local d = delegate_of(req, nothing)
    req:delegate(d.type, d, true)
  end,
}
