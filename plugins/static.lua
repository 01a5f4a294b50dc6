-- SPDX-License-Identifier: MIT
--- Addresses as they are written: in the configuration, or by whoever calls.

local addr = require "cni.addr"
local common = require "cni.common"
local fail = require "cni.fail"
local ipam_conf = require "cni.ipam_conf"
local schema = require "cni.schema"

local cidrs = schema.list(schema.cidr)

local conf = schema.record {
  ipam = schema.record {
    type = schema.string,
    addresses = schema.list(schema.record {
      address = schema.cidr { required = true, doc = "Address with its prefix length." },
      gateway = schema.ip { doc = "Gateway of this address." },
    }, { doc = "The addresses." }),
    routes = ipam_conf.routes,
    dns = common.dns { doc = "Resolver settings of the result." },
  } { required = true },
  args = schema.record {
    cni = schema.record { ips = cidrs { doc = "Addresses instead of the configured ones." } },
  },
  runtimeConfig = schema.record {
    ips = cidrs { doc = "Addresses instead of all others (capability `ips`)." },
  },
}

-- Each gateway goes to the addresses in whose network it is, unless they have one.
local function add_gateways(list, words)
  for _, word in ipairs(words) do
    local bytes = addr.ip(word)
    if not bytes then ipam_conf.bad_arg("GATEWAY", word, "an IP address") end
    for _, entry in ipairs(list) do
      if not entry.gateway and addr.parse(entry.address):contains(bytes) then
        entry.gateway = addr.text(bytes)
      end
    end
  end
end

local function from_conf_and_args(req)
  local list = {}
  for i, entry in ipairs(req.conf.ipam.addresses or {}) do
    list[i] = { address = entry.address, gateway = entry.gateway }
  end
  for _, word in ipairs(ipam_conf.from_args(req, "IP")) do
    local cidr = addr.parse(word)
    if not cidr then ipam_conf.bad_arg("IP", word, "an address with prefix length") end
    list[#list + 1] = { address = tostring(cidr) }
  end
  add_gateways(list, ipam_conf.from_args(req, "GATEWAY"))
  return list
end

local function addresses(req)
  local list = from_conf_and_args(req)
  local instead = (req.conf.runtimeConfig or {}).ips
  if not instead or #instead == 0 then instead = ipam_conf.args_ips(req.conf) end
  if instead and #instead > 0 then
    list = {}
    for i, text in ipairs(instead) do list[i] = { address = text } end
  end
  local texts = {}
  for i, entry in ipairs(list) do texts[i] = entry.address end
  ipam_conf.check_families(req, texts, "address")
  return list
end

local function find(ips, address)
  local wanted = addr.parse(address)
  for _, ip in ipairs(ips) do
    if addr.parse(ip.address) == wanted then return ip end
  end
end

return {
  ipam = true,
  conf = conf,

  add = function(req)
    local c = req.conf.ipam
    return { ips = addresses(req), routes = c.routes, dns = c.dns }
  end,

  check = function(req)
    if not req.prev then fail.config("prevResult", "is missing: CHECK compares with it") end
    for _, entry in ipairs(addresses(req)) do
      local ip = find(req.prev.ips or {}, entry.address)
      if not ip then
        fail.throw { msg = "the result of ADD does not have the address " .. entry.address }
      end
      if entry.gateway and ip.gateway ~= entry.gateway then
        fail.throw { msg = ("the gateway of %s is %s in the result of ADD, and %s by configuration")
          :format(entry.address, ip.gateway or "absent", entry.gateway) }
      end
    end
  end,
}
