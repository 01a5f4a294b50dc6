-- SPDX-License-Identifier: MIT
--- Addresses from ranges, remembered in a directory of this machine: one file each, in the format
-- of the reference plugin of the same name. The next one is that behind the address given last, going
-- round.

local common = require "cni.common"
local ipam_conf = require "cni.ipam_conf"
local leases = require "cni.leases"
local ranges = require "cni.ranges"
local schema = require "cni.schema"

local conf = schema.record {
  ipam = schema.record {
    type = schema.string,
    ranges = ranges.sets { doc = "Range sets: the attachment gets an address of each." },
    subnet = ranges.fields.subnet { doc = "A single range; stands before `ranges`." },
    rangeStart = ranges.fields.rangeStart { doc = "Of `subnet`." },
    rangeEnd = ranges.fields.rangeEnd { doc = "Of `subnet`." },
    gateway = ranges.fields.gateway { doc = "Of `subnet`." },
    routes = ipam_conf.routes,
    resolvConf = schema.string { empty = "absent", doc = "File to take resolver settings from." },
    dataDir = schema.string { empty = "absent", default = leases.default_dir,
      doc = "Where the leases are, an absolute path; each network has a directory in it." },
  } { required = true },
  args = ipam_conf.args,
  runtimeConfig = schema.record {
    ipRanges = ranges.sets { doc = "Range sets before all others (capability `ipRanges`)." },
    ips = schema.list(schema.string, { doc = "Addresses asked for (capability `ips`)." }),
  },
}

local function spec_of(req)
  common.need_absolute(req, "ipam.dataDir", req.conf.ipam.dataDir)
  return { dir = leases.place(req.raw).dir, network = req.network, sets = ranges.of(req),
    requested = ipam_conf.requested(req) }
end

return {
  ipam = true,
  conf = conf,

  add = function(req)
    local dns = req.conf.ipam.resolvConf and require("cni.resolv").of(req)
    return { ips = req:lease(spec_of(req)), routes = req.conf.ipam.routes, dns = dns }
  end,

  -- Only the place is needed: what was leased is freed although the configuration has gone bad.
  del = function(req)
    req:lease(leases.place(req.raw))
  end,

  status = function(req)
    leases.status(spec_of(req))
  end,

  gc = function(req)
    local _, valid = req:valid_attachments()
    leases.gc(leases.place(req.raw), valid)
  end,
}
