-- SPDX-License-Identifier: MIT
--- Change settings of the sandbox's interface: sysctls, MAC, MTU, flags, length of its queue. Used in a
-- chain, behind the plugin that makes the interface. DEL gives back what was there before. Which sysctls may
-- be set, `/etc/cni/tuning/allowlist.conf` says: a line, a regular expression, has to match the whole name as
-- it is written; without the file it is what a network namespace has of its own.

local common = require "cni.common"
local schema = require "cni.schema"
local sysctls = require "cni.sysctls"

local function settings()
  return {
    sysctl = schema.map(schema.string, {
      doc = "Values by sysctl below net, such as net.ipv4.conf.IFNAME.arp_filter; IFNAME: the interface." }),
    mac = schema.mac { doc = "MAC; `runtimeConfig`, CNI_ARGS and `args` count before it." },
    mtu = schema.mtu { strict = true, doc = "MTU." },
    promisc = schema.boolean { doc = "Take all frames, whoever they are for." },
    allmulti = schema.flag { doc = "Take all multicast frames, or no longer." },
    txQLen = schema.integer { min = 0, max = 0x7fffffff, doc = "Frames that may queue for sending." },
  }
end

local fields = settings()
fields.dataDir = schema.string { default = "/run/cni/tuning", empty = "absent",
  doc = "Where the reference's tuning finds the old values, should it do the DEL; and leaves them for ours. "
    .. "An absolute path." }
fields.args = schema.record { cni = schema.record(settings()) }
fields.runtimeConfig = common.runtime
local conf = schema.record(fields)
conf:check(function(c)
  return sysctls.problem(c.sysctl) or sysctls.problem(c.args and c.args.cni and c.args.cni.sysctl)
end, "sysctl has names below net.")

-- What is wanted, of all places where it can be said; those of `args` count most.
local function wanted(req)
  local c = req.conf
  local cni = c.args and c.args.cni or {}
  local function first(key)
    if cni[key] ~= nil and cni[key] ~= false then return cni[key] end
    return c[key]
  end
  local allmulti = cni.allmulti
  if allmulti == nil then allmulti = c.allmulti end
  local link = {
    mac = cni.mac or common.mac(req) or c.mac, mtu = first "mtu", txqlen = first "txQLen",
    promisc = first "promisc" or nil, allmulti = allmulti,
  }
  return link, first "sysctl" or {}
end

-- What the chain says of the interface so far, with another MAC.
local function answer(req, mac)
  for _, entry in ipairs(mac and req.prev and req.prev.interfaces or {}) do
    if entry.name == req.ifname and (entry.sandbox or "") ~= "" then entry.mac = mac end
  end
  return req.prev
end

local function need_dir(req) common.need_absolute(req, "dataDir", req.conf.dataDir) end

local function add(req)
  common.need_chain(req)
  need_dir(req)
  local link, values = wanted(req)
  local list = sysctls.paths(values, req.ifname)
  if req.command == "ADD" then sysctls.need_allowed(values) end
  -- With an MTU below 1280 the interface loses its settings of IPv6.
  if #list > 0 then req.pod:set_sysctl(list) end
  if next(link) then
    req.pod:back_up(req.ifname, link, req.conf.dataDir)
    req.pod:set_link(req.ifname, link)
  end
  return answer(req, link.mac)
end

return { conf = conf, add = add, status = need_dir, chained = true }
