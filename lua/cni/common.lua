-- SPDX-License-Identifier: MIT
--- Keys that several plugins have, declared and read once.
-- @module cni.common

local fail = require "cni.fail"
local request = require "cni.protocol.request"
local schema = require "cni.schema"

local M = {}

--- `dns`: resolver settings of the result.
M.dns = schema.record {
  nameservers = schema.list(schema.string, { doc = "Addresses, the preferred one first." }),
  domain = schema.string { empty = "absent", doc = "The local domain." },
  search = schema.list(schema.string, { doc = "Domains to search, in order." }),
  options = schema.list(schema.string, { doc = "Options of the resolver." }),
} { doc = "Resolver settings of the result, instead of the IPAM plugin's." }

--- `ipam`, as far as an interface plugin looks into it.
M.ipam = schema.record {
  type = schema.string { empty = "absent", doc = "The IPAM plugin; none: layer 2 only." },
}

--- `ipam`, where there have to be addresses.
M.ipam_required = schema.record {
  type = schema.string { required = true, min_len = 1, doc = "The IPAM plugin." },
} { required = true }

--- `ipMasq` and `ipMasqBackend`.
M.ip_masq = schema.boolean { doc = "Hide the sandbox behind the host's address." }
M.ip_masq_backend = schema.enum { values = { "iptables", "nftables" }, empty = "absent",
  doc = "Accepted for compatibility; the rules are nf_tables' either way." }

--- `enabledad`, where the link is shared with strangers.
M.enabledad = schema.boolean { default = true,
  doc = "Detect duplicate IPv6 addresses, and wait for the outcome." }

--- `args`: where a MAC can be asked for beside `runtimeConfig` and CNI_ARGS.
M.args = schema.record {
  cni = schema.record { mac = schema.mac { doc = "MAC of the sandbox's interface." } },
}

--- `runtimeConfig`: the capability `mac`.
M.runtime = schema.record {
  mac = schema.mac { doc = "MAC of the sandbox's interface (capability `mac`)." },
}

--- The keys of CNI_ARGS that our plugins know between them; each ignores the others' keys.
M.known_args = { MAC = true, IP = true, GATEWAY = true }

--- The MAC that was asked for: by capability, by `args`, or by CNI_ARGS, in this order.
-- @tparam table req a request whose `conf` has `runtimeConfig` and `args` from above
-- @treturn string|nil
function M.mac(req)
  local from_args = request.args(request.args_text(req), req.known_args or M.known_args).MAC
  local conf = req.conf
  return conf.runtimeConfig and conf.runtimeConfig.mac
    or conf.args and conf.args.cni and conf.args.cni.mac
    or from_args and schema.mac.read(schema.mac, from_args, "CNI_ARGS: MAC") or nil
end

--- Whether all that the chain has made so far is there to be seen, and what is missing is an error: in ADD
-- and CHECK. A dry run, and a DEL that finds no record, make do with what there is.
-- @tparam table req
-- @treturn boolean
function M.expects_all(req)
  return req.plan.mode == "apply" or req.plan.attached
end

--- Raise an error unless the plugin is called in a chain, behind another one.
-- @tparam table req
function M.need_chain(req)
  if not req.prev and M.expects_all(req) then
    fail.config("prevResult", "is missing",
      "this plugin is used in a chain, behind the one that makes the interface")
  end
end

--- Raise an error where a path is relative. Only ADD, dry runs of it, and STATUS do: what is attached already
-- is compared and taken back whatever its path is.
-- @tparam table req
-- @tparam string where the path's key: "ipam.dataDir"
-- @tparam string path
-- @raise code 7
function M.need_absolute(req, where, path)
  if path:sub(1, 1) == "/" or req.command ~= "ADD" and req.command ~= "STATUS" then return end
  fail.config(where, require("cni.json").show(path) .. " is not an absolute path",
    "a relative path would depend on the caller's working directory")
end

--- The result's DNS settings: the configuration's if it says anything, else the IPAM plugin's.
-- @tparam table conf has `dns`
-- @tparam table lease from cni.ipam
-- @treturn table|nil
function M.dns_of(conf, lease)
  local own = conf.dns
  if own and (own.nameservers or own.search or own.options or own.domain) then return own end
  return lease.dns
end

return M
