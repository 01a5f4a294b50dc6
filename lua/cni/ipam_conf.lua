-- SPDX-License-Identifier: MIT
--- Keys that IPAM plugins share, and what they do not say in their configuration: addresses asked
-- for by CNI_ARGS, by `args.cni` and by capability.
-- @module cni.ipam_conf

local addr = require "cni.addr"
local args = require "cni.engine.args"
local common = require "cni.common"
local fail = require "cni.fail"
local request = require "cni.protocol.request"
local schema = require "cni.schema"

local M = {}

local number = schema.integer { min = 0, max = 4294967295 }

--- `routes`: passed on to the result.
M.routes = schema.list(schema.record {
  dst = schema.cidr { required = true, masked = true, doc = "Destination." },
  gw = schema.ip { doc = "Next hop; the gateway of the address when absent, none when 0.0.0.0 or ::." },
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

-- Values of CNI_ARGS, each split at its commas.
local function from_args(req, key)
  local list = {}
  local text = request.args(request.args_text(req), req.known_args or common.known_args)[key]
  for word in (text or ""):gmatch("[^,]+") do list[#list + 1] = word end
  return list
end

local function bad_arg(key, value, what)
  fail.throw { code = fail.codes.env,
    msg = ("CNI_ARGS: %s: %q is not %s"):format(key, value, what) }
end

local function from_config(conf)
  return conf.args and conf.args.cni and conf.args.cni.ips
end

local function from_runtime(conf)
  return conf.runtimeConfig and conf.runtimeConfig.ips
end

--- Addresses asked for beside the configuration, each once, without the prefix length that they
-- may have: by CNI_ARGS `IP`, by `args.cni.ips` and by the capability `ips`.
-- @tparam table req
-- @treturn {string,...}
-- @raise code 4 or 7 for what is no address
function M.requested(req)
  local list, seen = {}, {}
  local function add(words, bad)
    for i, word in ipairs(words or {}) do
      local cidr = addr.parse(word)
      local bytes = cidr and cidr.ip or addr.ip(word)
      if not bytes then bad(word, i) end
      local text = addr.text(bytes)
      if not seen[text] then list[#list + 1] = text end
      seen[text] = true
    end
  end
  local function in_conf(where)
    return function(word, i)
      fail.config(("%s[%d]"):format(where, i - 1), ("%q is not an IP address"):format(word))
    end
  end
  add(from_args(req, "IP"), function(word) bad_arg("IP", word, "an IP address") end)
  add(from_config(req.conf), in_conf("args.cni.ips"))
  add(from_runtime(req.conf), in_conf("runtimeConfig.ips"))
  return list
end

-- Each gateway goes to the addresses in whose network it is, unless they have one.
local function add_gateways(list, words)
  for _, word in ipairs(words) do
    local bytes = addr.ip(word)
    if not bytes then bad_arg("GATEWAY", word, "an IP address") end
    for _, entry in ipairs(addr.is_unspecified(bytes) and {} or list) do
      if not entry.gateway and addr.parse(entry.address):contains(bytes) then
        entry.gateway = addr.text(bytes)
      end
    end
  end
end

-- Each address once.
local function distinct(list)
  local once, seen = {}, {}
  for _, entry in ipairs(list) do
    local first = seen[entry.address]
    if first then
      first.gateway = first.gateway or entry.gateway
    else
      once[#once + 1] = entry
      seen[entry.address] = entry
    end
  end
  return once
end

local takes_written = args.call("ipam_conf.written", { "req", args.table },
  { "configured", args.optional(args.list(args.record({ address = args.cidr, gateway = args.ip },
    { required = { "address" } }))) })

--- Addresses as they are written: those of the capability `ips`, else of `args.cni.ips`, else the
-- configured ones with those of CNI_ARGS `IP` and `GATEWAY`.
-- @tparam table req
-- @tparam {table,...}|nil configured list of { address, gateway }
-- @treturn {table,...} the same shape
-- @raise code 4 or 7
function M.written(req, configured)
  req, configured = takes_written(req, configured)
  local list, instead = {}, from_runtime(req.conf)
  if not instead or #instead == 0 then instead = from_config(req.conf) or {} end
  for i, text in ipairs(instead) do list[i] = { address = text } end
  if #list > 0 then return distinct(list) end
  for i, entry in ipairs(configured or {}) do
    list[i] = { address = entry.address, gateway = entry.gateway }
  end
  for _, word in ipairs(from_args(req, "IP")) do
    local cidr = addr.parse(word)
    if not cidr then bad_arg("IP", word, "an address with prefix length") end
    list[#list + 1] = { address = tostring(cidr) }
  end
  list = distinct(list)
  add_gateways(list, from_args(req, "GATEWAY"))
  return list
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
