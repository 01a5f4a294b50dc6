-- SPDX-License-Identifier: MIT
--- Who has what of a pool, for who looks after it.
-- @module cni.pool.owners

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local etcd = require "cni.pool.etcd"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local keys = require "cni.pool.keys"
local names = require "cni.names"
local store = require("netlink").store
local transaction = require "cni.pool.transaction"

local M = {}

-- Seconds for one request.
local patience <const> = 10

--- Whose the blocks and the single addresses of a pool are.
-- @tparam table place
-- @treturn ?{table,...} `block`, `node`, `network`, `machine`; nil: they are not of an etcd
-- @raise when etcd cannot be asked
function M.list(place)
  local c = transaction.new(place, patience)
  if not c then return nil end
  local list = {}
  for _, part in ipairs { "blocks", "singles" } do
    local prefix = keys.at(c.settings, part) .. "/"
    for _, entry in ipairs(c.client:list(prefix)) do
      local owner, name = keys.decoded(entry.value), entry.key:sub(#prefix + 1)
      local block = part == "blocks" and name or tostring(addr.cidr(addr.ip(keys.last(name)) or "\0\0\0\0"))
      list[#list + 1] = { block = block, node = owner.node, network = owner.network, machine = owner.machine }
    end
  end
  return list
end

-- That nobody here has an address of what this machine had by another name.
local function check_unused(place, node, prefix, entries)
  for _, entry in ipairs(entries) do
    local cidr, network = addr.parse(entry.key:sub(#prefix + 1)), keys.decoded(entry.value).network
    local dir = cidr and network and names.is_id(network) and place.dir .. "/" .. network
    local s <close> = dir and store.open_existing(dir, blocks.index_dir) or nil
    local used = s and files.must(s:used(cidr:text(), addr.text(cidr:last()))) or 0
    if used > 0 then
      local msg = "%s is a former name of this machine: containers of network %s have %d addresses of %s"
      fail.throw { msg = msg:format(node, network, used, tostring(cidr)),
        hint = "it can be released when they have gone, or are attached anew" }
    end
  end
end

--- Free all that a node has, which is dead for ever: whoever runs on it would share addresses with others.
-- @tparam table place
-- @string node
-- @treturn {string,...} the blocks that are free now
-- @raise when etcd cannot be asked; when it is this machine, by a name that it had before too, as long as
-- containers have addresses of that
function M.release(place, node)
  local c = transaction.new(place, patience)
  if not c then fail.throw "this pool's blocks come from a file" end
  local machine_at = keys.at(c.settings, "machines", node)
  local is_own = c.client:get(machine_at) == c.machine
  if is_own and node == c.settings.node then
    fail.throw { msg = node .. " is this machine", hint = "it gives back what it does not need by itself" }
  end
  c.settings.grid = c.client:get(keys.at(c.settings, "grid"))
  local fences_at, fences = keys.at(c.settings, "fences", node) .. "/", {}
  for _, entry in ipairs(c.client:list(fences_at)) do fences[entry.key] = entry.value end
  local prefix, freed = keys.at(c.settings, "nodes", node) .. "/", {}
  local entries = c.client:list(prefix)
  if is_own then check_unused(place, node, prefix, entries) end
  for _, entry in ipairs(entries) do
    local block, value = entry.key:sub(#prefix + 1), keys.decoded(entry.value)
    local at = keys.is_block(block) and keys.of(c.settings, block)
    -- As the block has it: without what is asked of its owner.
    local owner = json.sorted_note { machine = value.machine, network = value.network, node = value.node }
    local fence_at = fences_at .. tostring(value.network)
    local fence = fences[fence_at] and etcd.is(fence_at, fences[fence_at]) or etcd.absent(fence_at)
    local done = at and c.client:txn {
      compare = { etcd.is(at, owner), etcd.is(entry.key, entry.value), fence },
      success = { etcd.delete(at), etcd.delete(entry.key) } }.succeeded
    if done then freed[#freed + 1] = block end
  end
  local rest = { etcd.delete(machine_at) }
  for key in pairs(fences) do rest[#rest + 1] = etcd.delete(key) end
  c.client:txn { success = rest }
  return freed
end

--- Ask the owner of a block to give it back, or to another node, as soon as nobody has an address of it.
-- @tparam table place
-- @string block
-- @string[opt] to a node
-- @treturn string the node that has it
-- @raise when nobody has it; when etcd cannot be asked
function M.free(place, block, to)
  local c = transaction.new(place, patience)
  if not c then fail.throw "this pool's blocks come from a file" end
  local cidr = addr.parse(block)
  local value = cidr and c.client:get(keys.of(c.settings, tostring(cidr)))
  local owner = value and keys.decoded(value)
  if not owner or type(owner.node) ~= "string" then
    fail.throw { msg = ("nobody has the block %s of the pool %s"):format(block, c.settings.pool),
      hint = ("luacni pool list %s shows those that somebody has"):format(c.settings.network) }
  end
  owner.leave, owner.to = true, to
  local done = c.client:txn { compare = { etcd.is(keys.of(c.settings, tostring(cidr)), value) },
    success = { etcd.put(keys.at(c.settings, "nodes", owner.node, tostring(cidr)),
      json.sorted_note(owner)) } }
  if not done.succeeded then
    fail.throw { code = fail.codes.again, msg = block .. " has just changed hands" }
  end
  return owner.node
end

return M
