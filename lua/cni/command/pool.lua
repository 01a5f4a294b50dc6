-- SPDX-License-Identifier: MIT
-- luacni pool

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local claim = require "cni.pool.claim"
local cluster_pool = require "cni.cluster_pool"
local fail = require "cni.fail"
local host = require "host"
local json = require "cni.json"
local names = require "cni.names"
local owners = require "cni.pool.owners"
local say = require "cni.command.say"
local store = require("netlink").store

local function text_of(err) return say.mistake(err) or tostring(fail.wrap(err)) end

local function places(network, options)
  local list = {}
  for _, place in ipairs(blocks.places(options["data-dir"] or cluster_pool.default_dir)) do
    if not network or place.network == network then list[#list + 1] = place end
  end
  return list
end

-- Of the one pool that is meant.
local function one(network, options)
  local list = places(network, options)
  local pools = {}
  for _, place in ipairs(list) do
    pools[#pools + 1] = place.pool
    if place.pool == options.pool then return place end
  end
  if options.pool or not list[1] then
    fail.throw { msg = options.pool and ("network %s has no pool %s here"):format(network, options.pool)
      or ("network %s has no pool here"):format(network), hint = "an ADD makes it known to this machine" }
  end
  if list[2] then
    fail.throw { msg = ("network %s has %d pools here"):format(network, #list),
      hint = "--pool says which: " .. table.concat(pools, ", ") }
  end
  return list[1]
end

-- What this machine has of a pool.
local function own_blocks(place)
  local list = {}
  local state = blocks.read(place)
  local s <close> = store.open_existing(place.dir .. "/" .. place.network, blocks.index_dir)
  for _, block in ipairs(state.blocks) do
    local cidr = addr.parse(block.block)
    list[#list + 1] = { pool = place.pool, network = place.network, block = block.block, here = true,
      node = state.settings.node, state = block.state,
      leases = s and s:used(cidr:text(), addr.text(cidr:last())) or 0,
      holes = #(block.holes or {}), size = store.size(cidr:text(), addr.text(cidr:last())) }
  end
  return list, state
end

local function list(network, options)
  local out, failed = json.list {}, false
  for _, place in ipairs(places(network, options)) do
    local own, state = own_blocks(place)
    local here = {}
    for _, entry in ipairs(own) do
      here[entry.block] = true
      out[#out + 1] = entry
    end
    local ok, others = pcall(owners.list, place)
    for _, entry in ipairs(ok and others or {}) do
      local is_own = here[entry.block] and entry.node == state.settings.node
      if not is_own then
        out[#out + 1] = { pool = place.pool, network = entry.network, block = entry.block, node = entry.node,
          state = "confirmed", here = false }
      end
    end
    if not ok then
      failed = true
      host.log("luacni: the blocks of other machines are not shown: " .. text_of(others))
    end
    local outlook = state.settings and blocks.outlook(place, state)
    if outlook then
      host.log(("luacni: pool %s, network %s: %s"):format(place.pool, place.network, outlook))
    end
  end
  if options.json then
    say.json(out)
  elseif not out[1] then
    say.nothing(network, nil, "no block of a pool is known")
  else
    local rows = { { "POOL", "NETWORK", "BLOCK", "NODE", "STATE", "LEASES" } }
    for _, entry in ipairs(out) do
      rows[#rows + 1] = { entry.pool, entry.network or "?", entry.block, entry.node or "?", entry.state,
        entry.here and ("%d of %.0f"):format(entry.leases, entry.size) or "" }
    end
    say.columns(rows)
  end
  return failed and 1 or 0
end

local function refill(network, options)
  local failed = false
  for _, place in ipairs(places(network, options)) do
    local ok, err = pcall(claim.tend, place, { look = options.look, try = true })
    if not ok then
      failed = true
      host.log(("luacni: pool %s, network %s: %s"):format(place.pool, place.network, text_of(err)))
    end
  end
  return failed and 1 or 0
end

local function check_node(name)
  if not names.is_id(name) then
    fail.throw { msg = ("%q is no name of a node"):format(name), hint = "luacni pool list shows them" }
  end
end

local function release(network, options, node)
  check_node(node)
  local freed = owners.release(one(network, options), node)
  say.lines { freed[1] and "free now: " .. table.concat(freed, ", ")
    or ("the node %s had no block"):format(node) }
end

local function free(network, options, block)
  if options.to then check_node(options.to) end
  local node = owners.free(one(network, options), block, options.to)
  say.lines { ("%s is asked to give back %s%s when nobody has an address of it"):format(node, block,
    options.to and " to " .. options.to or "") }
end

local verbs <const> = { list = { list, "[NETWORK]" }, refill = { refill, "[NETWORK]" },
  release = { release, "NETWORK NODE" }, free = { free, "NETWORK BLOCK" } }

return {
  words = "VERB [NETWORK [NODE|BLOCK]]",
  about = "look after pools of addresses that many machines share",
  text = "VERB is list, refill, release or free. list shows the blocks that this machine has of its " ..
    "pools, how many addresses of each are leased, and those of other machines. refill does what is due, " ..
    "once: it claims blocks where little is left, and gives back those that nobody has needed for a " ..
    "while; an ADD starts it, and the timer luacni-pool-refill. release frees all that a node has that " ..
    "is dead for ever: containers that still run on it would share their addresses with others. free " ..
    "asks the node that has a block to give it back, or to another node, as soon as nobody has an " ..
    "address of it; a node looks every ten minutes.",
  least = 1, most = 3,
  options = {
    json = { about = "list: as JSON" },
    pool = { value = "NAME", about = "the pool, where a network has several" },
    to = { value = "NODE", about = "free: who is to have the block" },
    look = { about = "refill: ask in any case what is this machine's" },
    ["data-dir"] = { value = "DIR", about = "where pools are kept, as `ipam.dataDir`" },
  },
  examples = { "luacni pool list", "luacni pool refill", "luacni pool release pods node-7",
    "luacni pool free pods 10.1.4.64/26 --to node-8" },
  run = function(words, options)
    local verb = verbs[words[1]]
    if not verb then
      say.usage(("pool: there is no %q"):format(words[1]), words[1], { "list", "refill", "release", "free" })
    end
    local wants = select(2, verb[2]:gsub("%u+", ""))
    if #words - 1 > wants or wants == 2 and #words < 3 then
      say.usage(("pool %s: %s is wanted"):format(words[1], verb[2]))
    end
    return verb[1](words[2], options, words[3])
  end,
}
