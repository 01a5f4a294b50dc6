-- SPDX-License-Identifier: MIT
-- A pool that several machines share: an etcd, and machines, each a node's name with a folder of its own for blocks
-- and leases, in the namespace that the etcd is in. What a machine has is seen by its files and by etcdctl.

local assert = require "luassert"

local addr = require "cni.addr"
local etcd_world = require "etcd_world"
local t = require "support"

local M = {}

local Pool, Machine = {}, {}
Pool.__index, Machine.__index = Pool, Machine

local program <const> = "build/luacni"

--- A new pool. ipam: keys of all machines' configurations; opts: as of etcd_world.new.
function M.new(ipam, opts)
  local cluster = etcd_world.new(opts)
  local etcd = { endpoints = cluster.endpoints, user = cluster.user, password = cluster.password,
    caFile = cluster.tls and etcd_world.cert "ca.pem" or nil,
    certFile = cluster.client_certs and etcd_world.cert "client.pem" or nil,
    keyFile = cluster.client_certs and etcd_world.cert "client.key" or nil }
  return setmetatable({ etcd = cluster, host = cluster.ns, ipam = t.with({ type = "cluster", etcd = etcd,
    subnets = { { subnet = "10.5.0.0/16", blockSize = 28 } } }, ipam) }, Pool)
end

--- What stands in etcd below the pool's prefix, without it.
function Pool:keys(pool)
  local found, prefix = {}, ("/luacni/v1/%s/"):format(pool or "default")
  for key, value in pairs(self.etcd:keys(prefix)) do found[key:sub(#prefix + 1)] = value end
  return found
end

--- What etcd says is whose: blocks by node, and the same by the nodes' own lists, which has to agree.
function Pool:owners()
  local by_block, by_node = {}, {}
  for key, value in pairs(self:keys()) do
    local block = key:match "^blocks/(.*)$"
    local around, single = key:match "^singles/(.*)/([^/]*)$"
    local node, listed = key:match "^nodes/([^/]*)/(.*)$"
    if around and not t.decode(value).spare then block = tostring(addr.cidr(addr.ip(single))) end
    if block then by_block[block] = t.decode(value).node end
    if listed then by_node[listed] = by_node[listed] and "two" or node end
  end
  t.same(by_block, by_node, "etcd's lists")
  return by_block
end

--- A machine. ipam: keys of its own; network: its network's name.
function Pool:machine(node, ipam, network)
  return setmetatable({ pool = self, node = node, network = network or "pods", dir = "/var/lib/cni/pools/" .. node,
    ipam = t.with(self.ipam, t.with({ node = node, dataDir = "/var/lib/cni/pools/" .. node }, ipam)) }, Machine)
end

--- A machine without an etcd: `conf` and calls are all that it has.
function M.machine_of(host, ipam)
  return setmetatable({ pool = { host = host }, node = "n1", network = "pods", ipam = ipam }, Machine)
end

--- Its network's configuration.
function Machine:conf(more)
  return t.with({ cniVersion = "1.1.0", name = self.network, type = "bridge", ipam = self.ipam }, more)
end

--- A call for a container. more: as of t.cni, and conf: keys of the configuration.
function Machine:call(verb, id, more)
  more = more or {}
  return t.cni(t.with({ verb = verb, type = "cluster", id = id, netns = "/run/none", host = self.pool.host },
    t.with(more, { conf = self:conf(more.conf) })))
end

--- An ADD that goes well: its addresses.
function Machine:add(id, more)
  local got = self:call("ADD", id or "c1", more)
  assert(got.rc == 0, got.out .. got.err)
  local list = {}
  for i, ip in ipairs(got.json.ips) do list[i] = ip.address end
  return table.unpack(list)
end

--- Any other verb that goes well.
function Machine:does(verb, id, more)
  local got = self:call(verb, id or "c1", more)
  assert(got.rc == 0, got.out .. got.err)
  return got
end

--- The error of a verb.
function Machine:fails(verb, id, more)
  local got = self:call(verb, id or "c1", more)
  assert(got.rc ~= 0, got.out)
  got.json.text = ("%s; %s"):format(got.json.msg, got.json.details or "")
  return got.json
end

--- luacni pool, with words; its output, status, standard error.
function Machine:tool(...)
  return t.sh({ program, "pool", ... }, { host = self.pool.host, stdin = "" })
end

--- Have it do what is due; true where that goes well, else what it said.
function Machine:refill(...)
  local out, status, err = self:tool("refill", "--data-dir", self.dir, ...)
  if status == 0 then return true end
  return nil, out .. err
end

--- What it knows: its file.
function Machine:state(pool)
  return t.decode(t.read(("%s/blocks/%s/%s.json"):format(self.dir, pool or "default", self.network)) or "{}")
end

--- The blocks that it has, by their states.
function Machine:blocks()
  local list = {}
  for _, block in ipairs(self:state().blocks or {}) do list[block.block] = block.state end
  return list
end

--- The addresses that its containers have: address -> container.
function Machine:leases(pool)
  local found = {}
  for name, bytes in pairs(t.files(("%s/leases/%s/%s"):format(self.dir, pool or "default", self.network))) do
    if addr.ip(name) then found[name] = bytes:match "^[^\r\n]*" end
  end
  return found
end

--- Wait until the processes that ADDs have started have done what is due; with a signal, until they have ended of that.
-- By the time that the ADD ends such a process is there, and has its own words or still those of the ADD.
function Machine:settle(signal)
  t.run(("for i in $(seq 1000); do %s -x -f 'luacni pool refill %s --data-dir %s|[^ ]*/(cluster|bridge)' --ns $$ --nslist mnt >&2 "
    .. "|| exit 0; sleep 0.03; done; exit 1"):format(signal and "pkill -" .. signal or "pgrep", self.network, self.ipam.dataDir))
end

--- Assert that what etcd and the machines' files say is the same, but for what was lost, and that no address is twice.
function Pool:assert_sane(machines)
  local owners, seen, known = self:owners(), {}, {}
  for _, m in ipairs(machines) do
    for block, state in pairs(m:blocks()) do
      if state ~= "lost" then
        assert.equal(m.node, owners[block], block .. " of " .. m.node)
        known[block] = m.node
      end
    end
    for address, id in pairs(m:leases()) do
      assert.is_nil(seen[address], ("%s: %s of %s, and %s"):format(address, id, m.node, tostring(seen[address])))
      seen[address] = id .. " of " .. m.node
    end
  end
  t.same(owners, known, "what etcd knows, and what machines know")
end

--- For after_each.
function M.stop_all() etcd_world.stop_all() end

return M
