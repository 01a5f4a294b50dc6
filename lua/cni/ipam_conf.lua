-- SPDX-License-Identifier: MIT
--- Keys that IPAM plugins share, and what they do not say in their configuration: addresses asked
-- for by CNI_ARGS, by `args.cni` and by capability.
-- @module cni.ipam_conf

local addr = require "cni.addr"
local common = require "cni.common"
local fail = require "cni.fail"
local request = require "cni.request"
local schema = require "cni.schema"

local M = {}

local number = schema.integer { min = 0, max = 4294967295 }

--- `routes`: passed on to the result.
M.routes = schema.list(schema.record {
  dst = schema.cidr { required = true, doc = "Destination." },
  gw = schema.ip { doc = "Next hop; the gateway of the address when absent." },
  mtu = number { doc = "Path MTU." },
  advmss = number { doc = "Segment size to announce." },
  priority = number { doc = "Metric." },
  table = number { doc = "Routing table." },
  scope = schema.integer { min = 0, max = 255, doc = "Scope, as a number." },
}, { doc = "Routes of the result." })

--- `args`: addresses asked for.
M.args = schema.record {
  cni = schema.record { ips = schema.list(schema.string, { doc = "Addresses asked for." }) },
}

--- Values of CNI_ARGS, each split at its commas.
-- @tparam table req
-- @string key `IP` or `GATEWAY`
-- @treturn {string,...}
function M.from_args(req, key)
  local list = {}
  local text = request.args(req.args, common.known_args)[key]
  for word in (text or ""):gmatch("[^,]+") do list[#list + 1] = word end
  return list
end

--- Raise the error for a value of CNI_ARGS.
-- @string key
-- @string value
-- @string what it must be
-- @raise code 4
function M.bad_arg(key, value, what)
  fail.throw { code = fail.codes.env,
    msg = ("CNI_ARGS: %s: %q is not %s"):format(key, value, what) }
end

--- `args.cni.ips` of a configuration that was read with @{args}.
-- @treturn {string,...}|nil
function M.args_ips(conf)
  return conf.args and conf.args.cni and conf.args.cni.ips
end

--- Refuse more than one of a family where the protocol has no room for it.
-- @tparam table req
-- @tparam {string,...} list addresses or subnets, with or without a prefix length
-- @string what they are: "address", "range set"
-- @raise code 7
function M.check_families(req, list, what)
  if request.at_least(req.version, "0.3.0") then return end
  local seen = {}
  for _, text in ipairs(list) do
    local cidr = addr.parse(text) or addr.cidr(addr.ip(text))
    if seen[cidr.family] then
      fail.config("ipam", ("more than one %s of a family needs cniVersion 0.3.0 or later, not %s")
        :format(what, req.version))
    end
    seen[cidr.family] = true
  end
end

return M
