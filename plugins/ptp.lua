-- SPDX-License-Identifier: MIT
--- Connect the sandbox to the host alone, by a pair of links with routes at both ends.
--
--     host:  [ veth5f3a9c01 ]--------sandbox: [ eth0 ]
--            the gateway's address            everything goes by the gateway

local addr = require "cni.addr"
local common = require "cni.common"
local fail = require "cni.fail"
local ipam = require "cni.ipam"
local masq = require "cni.masq"
local schema = require "cni.schema"

local conf = schema.record {
  mtu = schema.mtu { doc = "MTU of both ends." },
  ipMasq = common.ip_masq, ipMasqBackend = common.ip_masq_backend,
  dns = common.dns, ipam = common.ipam_required, args = common.args,
  runtimeConfig = common.runtime,
}

local function gateway_of(ip)
  if not ip.gateway then
    fail.throw { msg = ("the IPAM plugin gave %s without a gateway"):format(ip.address),
      hint = "ptp gives the gateway's address to the host's end" }
  end
  return tostring(addr.cidr(addr.ip(ip.gateway)))
end

-- Both ends' routes, and the gateway's addresses. The sandbox's own network is not on the link either:
-- it lies behind the gateway.
local function layout_of(lease)
  local inside, gateways, outside, seen = {}, {}, {}, {}
  for _, ip in ipairs(lease.ips) do
    local cidr, gateway = addr.parse(ip.address), gateway_of(ip)
    local network, ipv4 = tostring(cidr:network()), cidr.family == "inet"
    if not seen[gateway] then
      gateways[#gateways + 1] = gateway
      inside[#inside + 1] = { dst = gateway, scope = "link", src = cidr:text() }
    end
    if network ~= gateway and not seen[network] then
      inside[#inside + 1] = { dst = network, gw = ip.gateway, src = cidr:text() }
    end
    outside[#outside + 1] = { dst = tostring(cidr:host()), scope = ipv4 and "host" or nil }
    seen[gateway], seen[network] = true, true
  end
  return inside, gateways, outside
end

local function add(req)
  local c, host = req.conf, req.host
  local lease = ipam.add(req)
  local port, eth = host:add_veth {
    mtu = c.mtu, peer = { ns = req.pod, name = req.ifname, mac = common.mac(req) },
  }
  local inside, gateways, outside = layout_of(lease)
  host:lock_down(port, { nodad = true })
  host:set_link(port, { up = true })
  ipam.apply(lease, req.pod, eth, { routes = inside })
  for _, address in ipairs(gateways) do host:add_addr(port, address, { nodad = true }) end
  for _, route in ipairs(outside) do
    route.link = port
    host:add_route(route)
  end
  ipam.forward(req, lease)
  if c.ipMasq then masq.add(req, lease.ips) end
  return ipam.answer(req, lease, { port, eth })
end

return { conf = conf, add = add }
