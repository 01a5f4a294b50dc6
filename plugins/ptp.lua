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

-- The sandbox's own network is not on the link either: it lies behind the gateway.
local function routes_of(lease)
  local routes, seen = {}, {}
  for _, ip in ipairs(lease.ips) do
    local cidr, gateway = addr.parse(ip.address), gateway_of(ip)
    local network = tostring(cidr:network())
    if not seen[gateway] then
      routes[#routes + 1] = { dst = gateway, scope = "link", src = cidr:text() }
    end
    if network ~= gateway and not seen[network] then
      routes[#routes + 1] = { dst = network, gw = ip.gateway, src = cidr:text() }
    end
    seen[gateway], seen[network] = true, true
  end
  return routes
end

local function serve(host, port, lease)
  local seen = {}
  for _, ip in ipairs(lease.ips) do
    local cidr, gateway = addr.parse(ip.address), gateway_of(ip)
    if not seen[gateway] then host:add_addr(port, gateway, { nodad = true }) end
    if not seen[cidr.family] then host:enable_forwarding(cidr.family) end
    seen[gateway], seen[cidr.family] = true, true
    host:add_route { dst = tostring(cidr:host()), link = port,
      scope = cidr.family == "inet" and "host" or nil }
  end
end

local function add(req)
  local c, host = req.conf, req.host
  local lease = ipam.add(req)
  local port, eth = host:add_veth {
    mtu = c.mtu, peer = { ns = req.pod, name = req.ifname, mac = common.mac(req) },
  }
  host:lock_down(port)
  host:set_link(port, { up = true })
  ipam.apply(lease, req.pod, eth, { routes = routes_of(lease) })
  serve(host, port, lease)
  if c.ipMasq then masq.add(req, lease.ips) end
  return ipam.answer(req, lease, { port, eth })
end

return { conf = conf, add = add }
