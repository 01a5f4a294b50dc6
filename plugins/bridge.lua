-- SPDX-License-Identifier: MIT
--- Plug the sandbox into a Linux bridge.
--
--     host:  [ cni0 ]=====[ veth5f3a9c01 ]----sandbox: [ eth0 ]
--            gateway        port                        peer
--
-- Bridge and gateway address are shared: the first attachment makes them, and they stay for the next
-- one; with removeUnused the last one takes them away.

local addr = require "cni.addr"
local common = require "cni.common"
local guard = require "cni.guard"
local ipam = require "cni.ipam"
local masq = require "cni.masq"
local schema = require "cni.schema"
local vlans = require "cni.vlans"

-- With a VLAN the gateway's address lives on a link of its own, plugged into the bridge.
local function gateway_name(c) return c.bridge .. "." .. c.vlan end

local conf = schema.record {
  bridge = schema.ifname { default = "cni0", doc = "Name of the bridge." },
  mtu = schema.mtu { doc = "MTU of both ends, and of the bridge when it is made." },
  isGateway = schema.boolean { doc = "Give the bridge the gateway's address; forward packets." },
  isDefaultGateway = schema.boolean { doc = "Be the sandbox's default route; implies isGateway." },
  forceAddress = schema.boolean { doc = "Replace an address in the way that nobody needs." },
  ipMasq = common.ip_masq, ipMasqBackend = common.ip_masq_backend,
  hairpinMode = schema.boolean { doc = "Let the port send back what came from it." },
  promiscMode = schema.boolean { doc = "Make the bridge promiscuous." },
  macspoofchk = schema.boolean { doc = "Drop what the sandbox sends from a MAC that is not its own." },
  ipSpoofChk = schema.boolean { doc = "Drop what it sends from addresses that are not its own, in IP, " ..
    "ARP and neighbour discovery; implies macspoofchk." },
  portIsolation = schema.boolean { doc = "Isolate the port from other isolated ports." },
  vlan = schema.integer { min = 0, max = 4094, default = 0, doc = "The port's native VLAN; 0: none." },
  vlanTrunk = vlans.trunk { doc = "VLANs that the port carries tagged." },
  preserveDefaultVlan = schema.boolean { doc = "Keep the port's default VLAN beside those." },
  removeUnused = schema.boolean {
    doc = "Take the bridge that was made, and its address, away with the last attachment. " ..
      "What its ADD was told counts." },
  enabledad = schema.boolean { doc = "Detect duplicate IPv6 addresses." },
  disableContainerInterface = schema.boolean { doc = "Leave the sandbox's interface down." },
  dns = common.dns, ipam = common.ipam, args = common.args, runtimeConfig = common.runtime,
}
conf:implies("isDefaultGateway", "isGateway")
conf:implies("ipSpoofChk", "macspoofchk")
conf:never_both("hairpinMode", "promiscMode", "a promiscuous bridge would see every packet twice")
local function without_addresses(c) return not (c.ipam and c.ipam.type) end
for _, key in ipairs { "isDefaultGateway", "isGateway", "ipMasq" } do
  conf:idle(key, without_addresses, "there are no addresses without ipam.type")
end
conf:idle("forceAddress", function(c) return not c.isGateway end, "it is for isGateway")
conf:check(function(c)
  local name = c.vlan > 0 and c.isGateway and not without_addresses(c) and gateway_name(c)
  if name and #name > 15 then
    return ("bridge: the gateway of a VLAN has a link of its own, and %s is more than 15 bytes long")
      :format(name)
  end
end)
conf:check(function(c)
  if c.ipSpoofChk and without_addresses(c) then
    return "ipSpoofChk needs ipam: without addresses there is nothing that the sandbox may send from"
  end
end)
conf:check(function(c)
  if c.disableContainerInterface and c.ipam and c.ipam.type then
    return "disableContainerInterface and ipam exclude each other: a link that is down has no routes"
  end
end)

local function ensure_bridge(req)
  local c = req.conf
  return req.host:ensure_link {
    kind = "bridge", name = c.bridge, mtu = c.mtu, up = true, promisc = c.promiscMode or nil,
    vlan_filtering = (c.vlan > 0 or c.vlanTrunk ~= nil) or nil, keep = not c.removeUnused or nil,
  }
end

local function plug(req, br)
  local host, c = req.host, req.conf
  local port, eth = host:add_veth {
    mtu = c.mtu, master = br, peer = { ns = req.pod, name = req.ifname, mac = common.mac(req) },
  }
  for _, vlan in ipairs(vlans.of(c)) do host:set_vlan(port, vlan) end
  host:lock_down(port)
  -- A bridge learns from frames to the groups of its own protocols before any rule sees them: so it learns
  -- nothing from a guarded port. The reference does not see to that, and CHECK is content with what it made.
  local blind = c.macspoofchk and req.command ~= "CHECK"
  if blind then host:add_fdb(port, { mac = eth.mac, master = true }) end
  local own = { hairpin = c.hairpinMode or nil, isolated = c.portIsolation or nil }
  if blind then own.learning = false end
  host:set_link(port, { up = true, port = next(own) and own or nil })
  return port, eth
end

local function gateway_link(req, br)
  local c = req.conf
  if c.vlan == 0 then return br end
  local native = { vlan = c.vlan, preserveDefaultVlan = c.preserveDefaultVlan }
  return req.host:ensure_link {
    kind = "veth", name = gateway_name(c), mtu = c.mtu, up = true,
    peer = { master = br }, port_vlans = vlans.of(native), keep = not c.removeUnused or nil,
  }
end

local function serve_gateways(req, link, lease)
  local c = req.conf
  for _, ip in ipairs(lease.ips) do
    local cidr = addr.parse(ip.address)
    -- Another router is known by its advertisements, or none.
    if not ip.advertised then
      ip.gateway = ip.gateway or addr.text(cidr:first_host())
      req.host:ensure_addr(link, tostring(cidr:with_ip(addr.ip(ip.gateway))),
        { replace = c.forceAddress, keep = not c.removeUnused })
      if c.isDefaultGateway then lease:default_via(ip.gateway) end
    end
  end
  ipam.forward(req, lease)
end

local function add(req)
  local c = req.conf
  local br = ensure_bridge(req)
  local port, eth = plug(req, br)
  local options = { dad = c.enabledad == true, announce = true }
  local lease = ipam.add(req, options)
  if c.macspoofchk then guard.add(req, port, eth.mac, c.ipSpoofChk and lease.ips or nil) end
  local gateway = c.isGateway and #lease.ips > 0 and gateway_link(req, br)
  if gateway then serve_gateways(req, gateway, lease) end
  if not c.disableContainerInterface then
    ipam.apply(lease, req.pod, eth, options)
  end
  if c.ipMasq then masq.add(req, lease.ips) end
  if not c.disableContainerInterface then req.host:await_up(port) end
  return ipam.answer(req, lease, { br, port, eth, gateway ~= br and gateway or nil })
end

return { conf = conf, add = add }
