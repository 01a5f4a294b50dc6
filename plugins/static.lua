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
      gateway = schema.ip { unspecified = "absent", doc = "Gateway of this address." },
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

local function addresses(req)
  local list, texts = ipam_conf.written(req, req.conf.ipam.addresses), {}
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
