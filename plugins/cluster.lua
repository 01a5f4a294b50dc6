-- SPDX-License-Identifier: MIT
--- Addresses of a pool that many machines share. A machine claims blocks of it from etcd before it needs
-- them, and gives addresses out of them by itself: an ADD asks nobody.

local cluster_pool = require "cni.cluster_pool"
local common = require "cni.common"
local ipam_conf = require "cni.ipam_conf"
local schema = require "cni.schema"

local pool = cluster_pool.pool

local conf = schema.record {
  ipam = schema.record {
    type = schema.string,
    pool = schema.string { empty = "absent", default = "default", doc = "The pool's name in etcd." },
    subnets = pool.subnets, exclude = pool.exclude, gatewayPerBlock = pool.gatewayPerBlock,
    pools = schema.list(schema.record {
      name = schema.string { required = true, doc = "The pool's name in etcd." },
      subnets = pool.subnets, exclude = pool.exclude, gatewayPerBlock = pool.gatewayPerBlock,
      namespaces = schema.list(schema.string, { doc = "For pods of these namespaces; * is anything." }),
      nodeLabels = schema.map(schema.string, { doc = "On nodes with these labels; * is anything." }),
    }, { min_items = 1, doc = "Several pools, in place of `subnets`: the first that fits is taken." }),
    labelsFile = schema.string { default = "/etc/luacni/labels",
      doc = "Labels of this node, KEY=VALUE a line." },
    etcd = cluster_pool.etcd,
    blocksFile = schema.string { empty = "absent",
      doc = "In place of etcd: a file with the blocks of this machine, one a line." },
    node = schema.string { empty = "absent", doc = "This machine's name in the pool; its host name." },
    lowWater = schema.integer { min = 1, max = 90, default = 25,
      doc = "When less is free, in per cent, the next block is claimed." },
    giveBackAfter = schema.integer { min = 0, max = 31536000, default = 600,
      doc = "Seconds after which a block that nobody has an address of is given back." },
    sticky = schema.boolean {
      doc = "A pod, by its name, gets the address that it had here last, where that is free." },
    routes = ipam_conf.routes,
    resolvConf = schema.string { empty = "absent", doc = "File to take resolver settings from." },
    dataDir = schema.string { empty = "absent", default = cluster_pool.default_dir,
      doc = "Where blocks and leases are, an absolute path." },
  } { required = true },
  args = ipam_conf.args,
  runtimeConfig = schema.record {
    ips = schema.list(schema.string, { doc = "Addresses asked for (capability `ips`)." }),
  },
}

return {
  ipam = true,
  conf = conf,

  add = function(req)
    common.need_absolute(req, "ipam.dataDir", req.conf.ipam.dataDir)
    local dns = req.conf.ipam.resolvConf and require("cni.resolv").of(req)
    return { ips = req:lease(cluster_pool.spec(req, ipam_conf.requested(req))),
      routes = req.conf.ipam.routes, dns = dns }
  end,

  -- Only the places are needed: what was leased is freed although the configuration has gone bad.
  del = function(req)
    for _, place in ipairs(cluster_pool.places(req)) do req:lease(place) end
  end,

  status = cluster_pool.status,

  gc = function(req)
    local _, valid = req:valid_attachments()
    cluster_pool.gc(req, valid)
  end,
}
