-- SPDX-License-Identifier: MIT
--- Pools of addresses that many machines share: each machine claims blocks of a pool from etcd, or is given
-- them by a file, and gives addresses out of them by itself.
-- @module cni.cluster_pool

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local facts = require "cni.engine.facts"
local fail = require "cni.fail"
local files = require "cni.record.files"
local leases = require "cni.leases"
local names = require "cni.names"
local schema = require "cni.schema"

local M = {}

--- Where what a machine has is kept unless the configuration says otherwise.
M.default_dir = "/var/lib/cni/pools"

local default_block <const> = { inet = 26, inet6 = 122 }
local longest_block <const> = { inet = 30, inet6 = 126 }

local texts = schema.list(schema.string)

--- The keys of a pool.
M.pool = {
  subnets = schema.list(schema.record {
    subnet = schema.cidr { required = true, network = true, doc = "A network." },
    blockSize = schema.integer { min = 8, max = 126,
      doc = "How long the prefix of a block is; 26, with IPv6 122." },
    gateway = schema.ip { unspecified = "absent",
      doc = "Gateway, never given away; the one after the network's own." },
  }, { doc = "The pool: networks that all machines divide into blocks alike." }),
  exclude = texts { doc = "Addresses and networks that are not given." },
  gatewayPerBlock = schema.boolean { doc = "Each block is a network of its own, whose first address is " ..
    "the gateway: for machines that route to each other's blocks." },
}

--- Where blocks come from.
M.etcd = schema.record {
  endpoints = schema.list(schema.string, { required = true, min_items = 1,
    doc = "Addresses of its members, such as https://10.0.0.1:2379." }),
  prefix = schema.string { default = "/luacni", doc = "What all keys begin with." },
  caFile = schema.string { empty = "absent", doc = "Certificates that its members' are checked by." },
  certFile = schema.string { empty = "absent", doc = "Certificate of this client." },
  keyFile = schema.string { empty = "absent", doc = "The key of that." },
  user = schema.string { empty = "absent", doc = "User name." },
  password = schema.string { empty = "absent", doc = "Password." },
  passwordFile = schema.string { empty = "absent", doc = "File that the password is in." },
} { doc = "The etcd that blocks are claimed from." }

local function is_chosen(req, pool, labels)
  if pool.namespaces and not facts.is_one(req.workload.namespace, pool.namespaces) then return false end
  for label, value in pairs(pool.nodeLabels or {}) do
    if not facts.is_one(labels()[label], value) then return false end
  end
  return true
end

-- KEY=VALUE a line, as `kubectl get node --show-labels` has them between commas.
local function read_labels(path)
  local found = {}
  for line in (files.read(path) or ""):gmatch "[^\n,]+" do
    local key, value = line:match "^%s*([^=#%s]+)%s*=%s*(.-)%s*$"
    if key then found[key] = value end
  end
  return found
end

-- Which pool this attachment's addresses are of.
local function choose(req)
  local ipam = req.conf.ipam
  if not ipam.pools then return ipam.pool, ipam end
  local labels
  local function labels_of_node()
    labels = labels or read_labels(ipam.labelsFile)
    return labels
  end
  local name = req:once("pool", function()
    for _, pool in ipairs(ipam.pools) do
      if is_chosen(req, pool, labels_of_node) then return pool.name end
    end
    fail.config("ipam.pools", "none is for this node and this pod",
      "a pool without namespaces and nodeLabels, the last one, is for all others")
  end)
  for _, pool in ipairs(ipam.pools) do
    if pool.name == name then return name, pool end
  end
  return name, ipam.pools[1]
end

local function subnets_of(pool, where)
  local list = {}
  for i, entry in ipairs(pool.subnets or {}) do
    local at = ("%s.subnets[%d]"):format(where, i - 1)
    local subnet = addr.parse(entry.subnet)
    local block = entry.blockSize or math.max(default_block[subnet.family], subnet.len)
    if block < subnet.len or block > longest_block[subnet.family] then
      fail.config(at .. ".blockSize", ("a block of %s can be from /%d to /%d, not /%d"):format(entry.subnet,
        subnet.len, longest_block[subnet.family], block))
    end
    local gateway = entry.gateway or addr.text(subnet:first_host())
    if addr.family(addr.ip(gateway)) ~= subnet.family then
      fail.config(at .. ".gateway", ("%s is of another family than %s"):format(gateway, entry.subnet))
    end
    for _, other in ipairs(list) do
      if subnet:overlaps(addr.parse(other.subnet)) then
        fail.config(at .. ".subnet", ("%s overlaps %s"):format(entry.subnet, other.subnet))
      end
    end
    list[i] = { subnet = entry.subnet, block = block, gateway = gateway }
  end
  if not list[1] then
    fail.config(where .. ".subnets", "is missing: there is nothing to take an address from")
  end
  return list
end

local function excluded(pool, where)
  for i, text in ipairs(pool.exclude or {}) do
    if not (addr.parse(text) or addr.ip(text)) then
      fail.config(("%s.exclude[%d]"):format(where, i - 1), ("%q is no address and no network"):format(text))
    end
  end
  return pool.exclude
end

local function etcd_of(given)
  local password = given.password
  if given.passwordFile then
    password = files.read(given.passwordFile)
    if not password then
      fail.config("ipam.etcd.passwordFile", ("%s is not there"):format(given.passwordFile))
    end
    password = password:gsub("%s+$", "")
  end
  return { endpoints = given.endpoints, prefix = given.prefix, ca = given.caFile, cert = given.certFile,
    key = given.keyFile, user = given.user, password = password }
end

local function check_name(where, name)
  if names.is_id(name) then return name end
  fail.config(where, ("%q is no name: it has letters, digits, and . _ - behind the first"):format(name))
end

--- What is leased, as `req:lease` takes it.
-- @tparam table req its `conf.ipam` has the keys of `luacni show cluster`
-- @tparam[opt] {string,...} requested addresses that are asked for
-- @treturn table
-- @raise code 7 for what is wrong in the configuration
function M.spec(req, requested)
  local ipam = req.conf.ipam
  local name, pool = choose(req)
  local where = pool == ipam and "ipam" or "ipam.pools"
  if (ipam.etcd == nil) == (ipam.blocksFile == nil) then
    fail.config("ipam.etcd", "either this or blocksFile says where blocks come from")
  end
  local spec = blocks.place(ipam.dataDir, check_name(where .. ".name", name), req.network)
  local node = ipam.node or req.node.name
  spec.requested = requested
  spec.settings = { pool = name, network = req.network, node = check_name("ipam.node", node),
    subnets = subnets_of(pool, where), exclude = excluded(pool, where),
    by_block = pool.gatewayPerBlock or nil,
    etcd = ipam.etcd and etcd_of(ipam.etcd), blocks_file = ipam.blocksFile, low = ipam.lowWater,
    keep = ipam.giveBackAfter }
  return spec
end

-- A key of a configuration that need not be valid otherwise.
local function text_at(raw, key)
  local ipam = type(raw) == "table" and type(raw.ipam) == "table" and raw.ipam or {}
  return type(ipam[key]) == "string" and ipam[key] ~= "" and ipam[key] or nil
end

--- Where leases of a network can be: in each pool that this machine knows.
-- @tparam table req of which only `raw` and `network` are looked at
-- @treturn {table,...}
function M.places(req)
  local list = {}
  for _, place in ipairs(blocks.places(files.absolute(text_at(req.raw, "dataDir") or M.default_dir))) do
    if place.network == req.network then list[#list + 1] = place end
  end
  return list
end

--- Whether an ADD would get addresses.
-- @tparam table req
-- @raise code 50 where it would not
function M.status(req)
  local spec = M.spec(req)
  local state = blocks.read(spec)
  state.settings = spec.settings
  local sets, failed = blocks.sets(state), state.failed
  local is_out = false
  for _, set in ipairs(sets) do is_out = is_out or not set[1] end
  -- Whoever has no block yet claims one by an ADD.
  if is_out and not spec.settings.blocks_file and not failed then return end
  for _, block in ipairs(state.blocks) do
    if block.state == "lost" then
      local text = "the block %s of the pool %s is not this machine's any more"
      fail.throw { code = fail.codes.no_add, msg = text:format(block.block, spec.settings.pool),
        details = "containers have addresses of it", hint = "attach them anew" }
    end
  end
  spec.sets = sets
  local ok, err = pcall(leases.status, spec)
  if ok then return end
  if failed then err = fail.new { code = fail.codes.no_add, msg = err.msg, details = failed.text } end
  error(err, 0)
end

return M
