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
  endpoints = schema.list(schema.string { pattern = "https?://[^/%s@?#%c]+/?",
      wanted = "an address, such as https://10.0.0.1:2379" },
    { required = true, min_items = 1, doc = "Addresses of its members, such as https://10.0.0.1:2379." }),
  prefix = schema.string { default = "/luacni", doc = "What all keys begin with." },
  caFile = schema.string { empty = "absent", doc = "Certificates that its members' are checked by." },
  certFile = schema.string { empty = "absent", doc = "Certificate of this client." },
  keyFile = schema.string { empty = "absent", doc = "The key of that." },
  user = schema.string { empty = "absent", doc = "User name." },
  password = schema.string { empty = "absent", doc = "Password." },
  passwordFile = schema.string { empty = "absent", doc = "File that the password is in." },
} { doc = "The etcd that blocks are claimed from." }

-- KEY=VALUE a line, as `kubectl get node --show-labels` has them between commas.
local function read_labels(path)
  local found = {}
  for line in (files.read(path) or ""):gmatch "[^\n,]+" do
    local key, value = line:match "^%s*([^=#%s]+)%s*=%s*(.-)%s*$"
    if key then found[key] = value end
  end
  return found
end

local function fits_node(pool, labels)
  for label, value in pairs(pool.nodeLabels) do
    if not facts.is_one(labels[label], value) then return false end
  end
  return true
end

-- A pool is one thing, and no address is of two.
local function check_pools(pools)
  local subnets = {}
  for i, pool in ipairs(pools) do
    for n, entry in ipairs(pool.subnets or {}) do
      local subnet = addr.parse(entry.subnet)
      for _, other in ipairs(subnets) do
        if other.pool ~= i and subnet:overlaps(other.subnet) then
          fail.config(("ipam.pools[%d].subnets[%d].subnet"):format(i - 1, n - 1),
            ("%s overlaps %s of the pool %s"):format(entry.subnet, tostring(other.subnet),
              pools[other.pool].name))
        end
      end
      subnets[#subnets + 1] = { pool = i, subnet = subnet }
    end
    for k = 1, i - 1 do
      if pools[k].name == pool.name then
        fail.config(("ipam.pools[%d].name"):format(i - 1), pool.name .. " is the name of another one",
          "a pool has several subnets in its list `subnets`")
      end
    end
  end
end

-- The pools that are for this node.
local function pools_of_node(ipam)
  if not ipam.pools then return { ipam } end
  check_pools(ipam.pools)
  local list, labels = {}, nil
  for _, pool in ipairs(ipam.pools) do
    if pool.nodeLabels then labels = labels or read_labels(ipam.labelsFile) end
    if not pool.nodeLabels or fits_node(pool, labels) then list[#list + 1] = pool end
  end
  return list
end

local function none_fits(whom)
  fail.config("ipam.pools", "none is for " .. whom,
    "a pool without namespaces and nodeLabels, the last one, is for all others")
end

-- Which pool this attachment's addresses are of.
local function choose(req)
  local ipam = req.conf.ipam
  if not ipam.pools then return ipam end
  local name = req:once("pool", function()
    for _, pool in ipairs(pools_of_node(ipam)) do
      local is_for = not pool.namespaces or facts.is_one(req.workload.namespace, pool.namespaces)
      if is_for then return pool.name end
    end
    none_fits "this node and this pod"
  end)
  for _, pool in ipairs(ipam.pools) do
    if pool.name == name then return pool end
  end
  -- It has been taken out since: what it gave is still there.
  return ipam.pools[1], name
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
  if given.user and not password then
    fail.config("ipam.etcd.password", "is missing: the user has none", "passwordFile names a file with it")
  end
  return { endpoints = given.endpoints, prefix = given.prefix, ca = given.caFile, cert = given.certFile,
    key = given.keyFile, user = given.user, password = password }
end

local function check_name(where, name)
  if names.is_id(name) then return name end
  fail.config(where, ("%q is no name: it has letters, digits, and . _ - behind the first"):format(name))
end

-- What is leased of a pool.
local function spec_of(req, pool, name, requested)
  local ipam = req.conf.ipam
  local where = pool == ipam and "ipam" or "ipam.pools"
  name = name or pool.name or pool.pool
  if (ipam.etcd == nil) == (ipam.blocksFile == nil) then
    fail.config("ipam.etcd", "either this or blocksFile says where blocks come from")
  end
  local spec = blocks.place(ipam.dataDir, check_name(where .. ".name", name), req.network)
  local node = ipam.node or req.node.name
  if not ipam.node and not names.is_id(node) then
    fail.config("ipam.node", ("is missing, and this machine's host name is none: %q"):format(node))
  end
  spec.requested = requested
  local workload = ipam.sticky and req.workload
  if workload and workload.namespace and workload.name then
    local sticky = require "cni.pool.sticky"
    spec.sticky = sticky.of(("%s/sticky/%s/%s"):format(ipam.dataDir, name, req.network), workload.namespace,
      workload.name)
    spec.wished = sticky.wished(spec.sticky)
  end
  spec.settings = { pool = name, network = req.network, node = check_name("ipam.node", node),
    subnets = subnets_of(pool, where), exclude = excluded(pool, where),
    by_block = pool.gatewayPerBlock or nil,
    etcd = ipam.etcd and etcd_of(ipam.etcd), blocks_file = ipam.blocksFile, low = ipam.lowWater,
    keep = ipam.giveBackAfter }
  return spec
end

--- What is leased, as `req:lease` takes it.
-- @tparam table req its `conf.ipam` has the keys of `luacni show cluster`
-- @tparam[opt] {string,...} requested addresses that are asked for
-- @treturn table
-- @raise code 7 for what is wrong in the configuration
function M.spec(req, requested)
  local pool, name = choose(req)
  return spec_of(req, pool, name, requested)
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

--- Free what no valid attachment has, and give up pools that are none of this node any more.
-- @tparam table req its `conf` is absent where the configuration is not valid
-- @tparam table valid as of `req:valid_attachments`
function M.gc(req, valid)
  local ok, pools = pcall(function() return pools_of_node(req.conf.ipam) end)
  local is_meant = {}
  for _, pool in ipairs(ok and pools or {}) do is_meant[pool.name or pool.pool] = true end
  for _, place in ipairs(M.places(req)) do
    leases.gc(place, valid)
    if ok and not is_meant[place.pool] and blocks.retire(place) then
      require("cni.pool.claim").start(place, req.environ())
    end
  end
end

local function check_lost(state, pool)
  for _, block in ipairs(state.blocks) do
    if block.state == "lost" then
      local text = "the block %s of the pool %s is not this machine's any more"
      fail.throw { code = fail.codes.no_add, msg = text:format(block.block, pool),
        details = "containers have addresses of it", hint = "attach them anew" }
    end
  end
end

local function check_pool(req, spec)
  local state, settings = blocks.read(spec), spec.settings
  state.settings = settings
  check_lost(state, settings.pool)
  blocks.check_twin(spec, state)
  local outlook, is_due = blocks.outlook(spec, state)
  -- Where a runtime makes no ADD after that, nobody else would ask etcd again.
  if is_due then require("cni.pool.claim").start(spec, req.environ()) end
  spec.sets = blocks.sets(state)
  local ok, err = pcall(leases.status, spec)
  if ok and outlook then req.log(("luacni: pool %s: %s"):format(settings.pool, outlook)) end
  if ok then return end
  -- Whoever has no address left claims some by an ADD.
  local can_claim = fail.is(err) and err.lacking and not settings.blocks_file
  if can_claim and not state.failed then return end
  if not can_claim then error(err, 0) end
  fail.throw { code = fail.codes.no_add, details = state.failed.text,
    msg = ("this machine has no address of the pool %s left, and can claim none"):format(settings.pool) }
end

--- Whether an ADD would get addresses; of several pools, of one of them. What is left is logged where no more
-- is to be had.
-- @tparam table req
-- @raise code 50 where it would not
function M.status(req)
  local problem
  for _, pool in ipairs(pools_of_node(req.conf.ipam)) do
    local ok, err = pcall(function() check_pool(req, spec_of(req, pool)) end)
    if ok then return end
    problem = problem or err
  end
  if not problem then none_fits "this node" end
  error(problem, 0)
end

return M
