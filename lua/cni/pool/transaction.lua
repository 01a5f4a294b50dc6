-- SPDX-License-Identifier: MIT
--- What is asked of etcd for a pool, put together to one transaction: it does all of what is wanted, or the
-- part of it that is to be had. It does anything only while etcd's grid is the one that we know, the node's
-- name is this machine's, and its fence is up.
--
-- The *fence* is a value that is another one when it is not known what has come of a request: that one may be
-- carried out late, and would give back what was claimed anew meanwhile, or lend what was given. Behind the
-- new fence it does nothing any more.
-- @module cni.pool.transaction

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local etcd = require "cni.pool.etcd"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local keys = require "cni.pool.keys"
local sys = require("netlink").sys

local M = {}

--- Requests of one pool, for one pass.
-- @type transaction
local Transaction = {}
Transaction.__index = Transaction

-- `take` is given what has come of it, and adds to what `send` returns.
local function add(c, op, take)
  c.ops[#c.ops + 1], c.takes[#c.takes + 1] = op, take
end

local function claim_of(settings, block, owner)
  return { etcd.put(keys.of(settings, block), owner), etcd.put(keys.index(settings, block), owner) }
end

-- Try blocks one after the other, in one transaction.
local function chain(settings, owner, list, i)
  local block = list[i].block
  local success = claim_of(settings, block, owner)
  success[3] = etcd.list(keys.at(settings, "singles", block) .. "/")
  return etcd.txn { compare = { etcd.absent(keys.of(settings, block)) }, success = success,
    failure = { list[i + 1] and chain(settings, owner, list, i + 1) } }
end

--- Claim an address alone.
-- @string text
-- @string[opt] spare whose it is, as etcd has it, where it is set apart
function Transaction:add_single(text, spare)
  local c = self
  local settings = c.settings
  local _, around = blocks.block_of(settings, text)
  local single = tostring(addr.cidr(addr.ip(text)))
  local at, block_at = keys.of(settings, single), keys.at(settings, "blocks", around)
  local is_free = spare and { etcd.is(at, spare) } or { etcd.absent(at), etcd.absent(block_at) }
  add(c, etcd.txn { compare = is_free,
    success = claim_of(settings, single, c.owner), failure = { etcd.get(at), etcd.get(block_at) } },
  function(answer, got)
    if answer.succeeded then
      got.claimed[#got.claimed + 1] = { block = single, state = "confirmed", claimed_at = sys.uptime() }
    else
      local holder = answer[1][1] or answer[2][1]
      got.refused[text] = holder and holder.value or "?"
    end
  end)
end

--- Claim a block: the first of some that nobody has.
-- @string family
-- @tparam {table,...} list `block`, and `place`, which `got.places` has of the family when it was tried
function Transaction:add_claim(family, list)
  local c = self
  add(c, chain(c.settings, c.owner, list, 1), function(answer, got)
    for _, try in ipairs(list) do
      got.places[family] = try.place or got.places[family]
      if answer.succeeded then
        local holes = json.list {}
        for _, entry in ipairs(answer[3]) do
          local text = keys.last(entry.key)
          if addr.ip(text) then holes[#holes + 1] = text end
        end
        got.claimed[#got.claimed + 1] = { block = try.block, state = "confirmed", holes = holes }
        return
      end
      answer = answer[1]
    end
    got.missed = true
  end)
end

--- Give a block back, or to a node that it was promised to. What is another's by now stays his.
-- @tparam table block of cni.pool.blocks
function Transaction:add_return(block)
  local c = self
  local settings, name = c.settings, block.block
  local at, index = keys.of(settings, name), keys.index(settings, name)
  local give = { etcd.delete(at), etcd.delete(index) }
  if block.to then
    local owner = json.sorted_note { network = settings.network, node = block.to }
    local theirs = keys.at(settings, "nodes", block.to, name)
    give = { etcd.put(at, owner), etcd.delete(index), etcd.put(theirs, owner) }
  end
  add(c, etcd.txn { compare = { etcd.is(at, c.owner) }, success = give, failure = { etcd.delete(index) } },
    function(_, got) got.returned[name] = true end)
end

--- Ask what this machine has for the network. What another one has moved here names no machine yet.
function Transaction:add_look()
  local c = self
  local prefix = keys.at(c.settings, "nodes", c.settings.node) .. "/"
  add(c, etcd.list(prefix), function(answer, got)
    got.ours = {}
    for _, entry in ipairs(answer) do
      local block, value = entry.key:sub(#prefix + 1), keys.decoded(entry.value)
      local is_ours = value.network == c.settings.network
        and (value.machine == c.machine or value.machine == nil)
      if is_ours and keys.is_block(block) then got.ours[block] = value end
    end
  end)
  local wanted, all = keys.at(c.settings, "wanted") .. "/", keys.at(c.settings, "blocks") .. "/"
  add(c, etcd.list(wanted, { keys_only = true, limit = 2 }), function(answer, got)
    for _, entry in ipairs(answer) do
      got.is_wanted = got.is_wanted or keys.last(entry.key) ~= c.settings.node
    end
  end)
  add(c, etcd.list(all, { keys_only = true, limit = 1 }), function(answer, got)
    got.is_tight = answer.count * 4 >= blocks.total(c.settings) * 3
  end)
end

local function strangers(c, machine)
  fail.config("node", ("%s is the name of another machine, which has blocks of the pool %s"):format(
    c.settings.node, c.settings.pool), ("the key `node` gives this one another name; if there is no other " ..
    "machine any more: luacni pool release %s (its identifier was %s)"):format(c.settings.node, machine))
end

local function new_fence() return sys.hash64(files.must(sys.random(16))) end

-- Have the fence be another one, by what it was.
local function renew_fence(c, fence, is_ours)
  local at, new = keys.fence(c.settings), new_fence()
  local same = fence and etcd.is(at, fence) or etcd.absent(at)
  local answer = c.client:txn { compare = { is_ours, same }, success = { etcd.put(at, new) } }
  c.fence = answer.succeeded and new or nil
end

-- What the failure of the request's condition tells: somebody has never been here, or has been sent away, or
-- the grid is not what we think, or the fence.
local function learn(c, grid, machine, fence)
  local grid_at, machine_at = keys.at(c.settings, "grid"), keys.at(c.settings, "machines", c.settings.node)
  if machine and machine ~= c.machine then strangers(c, machine) end
  if not grid then
    c.client:txn { compare = { etcd.absent(grid_at) }, success = { etcd.put(grid_at, c.grid) } }
  elseif grid ~= c.grid then
    local wanted = keys.merged(c.settings, grid)
    if wanted ~= grid then
      c.client:txn { compare = { etcd.is(grid_at, grid) }, success = { etcd.put(grid_at, wanted) } }
    end
    c.grid = wanted
  end
  if not machine and not c.is_new then
    c.client:txn { compare = { etcd.absent(machine_at) }, success = { etcd.put(machine_at, c.machine) } }
    c.was_sent_away = true
  end
  -- There was no doubt about it.
  if machine and fence and c.fence and fence ~= c.fence then
    local state = blocks.change(c.place, function(state)
      state.taken = (math.tointeger(state.taken) or 0) + 1
      blocks.date(state)
    end)
    blocks.check_twin(c.place, state)
    c.was_sent_away = true
  end
  -- Where it is not known what has come of that, it is not as expected the next time.
  if machine or not c.is_new then renew_fence(c, fence, etcd.is(machine_at, c.machine)) end
end

--- Send what was added, and forget it.
-- @treturn table|false false: it was not done, as not all was known that is now, and is to be put together
-- anew. Otherwise
--
-- - `claimed`, blocks as of cni.pool.blocks, and `returned`, a set of them by name
-- - `refused`, whose the addresses are that were to be claimed alone, by address
-- - `missed`: all blocks of a claim were somebody's; `places`: how far trying has come, by family
-- - `ours`, values by block; `is_wanted`: somebody is in want; `is_tight`: few blocks are free; `holes`
-- - `wants`: whether this machine is in want, where that has changed
-- - `retried`: as of cni.pool.etcd
function Transaction:send()
  local c = self
  local ops, takes = c.ops, c.takes
  c.ops, c.takes = {}, {}
  local grid_at, machine_at = keys.at(c.settings, "grid"), keys.at(c.settings, "machines", c.settings.node)
  local fence_at = keys.fence(c.settings)
  local failure = { etcd.get(grid_at), etcd.get(machine_at), etcd.get(fence_at) }
  local same_grid, shift = etcd.is(grid_at, c.grid), 0
  local first = c.is_new and new_fence()
  if c.is_new then
    failure = { etcd.txn { compare = { same_grid, etcd.absent(machine_at) }, failure = failure,
      success = { etcd.put(machine_at, c.machine), etcd.put(fence_at, first), table.unpack(ops) } } }
  end
  -- No fence is empty.
  local whole = c.client:txn { compare = { same_grid, etcd.is(machine_at, c.machine),
    etcd.is(fence_at, c.fence or "") }, success = ops, failure = failure }
  local answer = whole
  if not answer.succeeded and c.is_new then
    answer = answer[1]
    if answer.succeeded then shift, c.fence = 2, first end
  end
  if not answer.succeeded then
    local found = {}
    for i = 1, 3 do found[i] = answer[i][1] and answer[i][1].value or false end
    learn(c, table.unpack(found))
    return false
  end
  c.is_new = false
  if whole.retried then c.fence = nil end
  local got = { claimed = {}, returned = {}, refused = {}, places = {}, holes = {}, retried = whole.retried }
  for i, take in ipairs(takes) do take(answer[i + shift], got) end
  return got
end

--- Borrow an address.
-- @tparam table entry of @{spare}
function Transaction:add_borrow(entry)
  local c, single = self, tostring(addr.cidr(addr.ip(entry.text)))
  add(c, etcd.txn { compare = { etcd.is(entry.key, entry.value) },
    success = claim_of(c.settings, single, c.owner) }, function(answer, got)
    if answer.succeeded then
      got.claimed[#got.claimed + 1] = { block = single, state = "confirmed", is_common = true,
        claimed_at = sys.uptime() }
    end
  end)
end

--- Set an address of an own block apart for whoever needs it.
-- @string text
function Transaction:add_spare(text)
  local owner = json.sorted_note { machine = self.machine, network = self.settings.network,
    node = self.settings.node, spare = true }
  add(self, etcd.put(keys.of(self.settings, tostring(addr.cidr(addr.ip(text)))), owner), function() end)
end

--- Say that this machine is in want of addresses, behind its fence as all that it asks for.
-- @treturn boolean as `retried` of cni.pool.etcd
function Transaction:want()
  local wanted = keys.at(self.settings, "wanted", self.settings.node)
  return self.client:txn { compare = { etcd.is(keys.fence(self.settings), self.fence or "") },
    success = { etcd.put(wanted, self.machine) } }.retried
end

--- Take that back.
function Transaction:want_no_more()
  add(self, etcd.delete(keys.at(self.settings, "wanted", self.settings.node)), function(_, got)
    got.wants = false
  end)
end

--- Whether there is anything to send.
-- @treturn boolean
function Transaction:has_work() return self.ops[1] ~= nil end

--- Addresses that other machines have set apart.
-- @string family
-- @tparam integer most
-- @treturn {table,...} `text`, `key`, `value`
function Transaction:spare(family, most)
  local list = {}
  for _, entry in ipairs(self.client:list(keys.at(self.settings, "singles") .. "/")) do
    local bytes = addr.ip(keys.last(entry.key))
    if #list < most and bytes and addr.family(bytes) == family and keys.decoded(entry.value).spare then
      list[#list + 1] = { text = addr.text(bytes), key = entry.key, value = entry.value }
    end
  end
  return list
end

--- Take a block over that another machine has given this one.
-- @string block
-- @tparam table value of `ours`
-- @treturn boolean it is ours
function Transaction:take_over(block, value)
  if value.machine then return true end
  return self.client:txn { compare = { etcd.is(keys.of(self.settings, block), json.sorted_note(value)) },
    success = claim_of(self.settings, block, self.owner) }.succeeded
end

--- The addresses in a block that are claimed alone, or set apart. What was set apart for nobody is had back.
-- @string block
-- @tparam boolean is_wanted somebody is in want
-- @treturn {string,...}
function Transaction:holes(block, is_wanted)
  local list = json.list {}
  if blocks.is_single(addr.parse(block)) then return list end
  for _, entry in ipairs(self.client:list(keys.at(self.settings, "singles", block) .. "/")) do
    local is_back = not is_wanted and keys.decoded(entry.value).spare and self.client:txn {
      compare = { etcd.is(entry.key, entry.value) }, success = { etcd.delete(entry.key) } }.succeeded
    if not is_back and addr.ip(keys.last(entry.key)) then list[#list + 1] = keys.last(entry.key) end
  end
  return list
end

--- Which blocks are somebody's.
-- @treturn table a set
-- @treturn integer how many
function Transaction:taken()
  local set, prefix, count = {}, keys.at(self.settings, "blocks") .. "/", 0
  for _, entry in ipairs(self.client:list(prefix, { keys_only = true })) do
    set[entry.key:sub(#prefix + 1)], count = true, count + 1
  end
  return set, count
end

-- The grid that etcd is expected to have. Where what is known of it does not go with the configuration, etcd
-- is to say so, or to have none any more.
local function expected(settings, known)
  local ok, grid = pcall(keys.merged, settings, known or "")
  return ok and grid or keys.grid(settings)
end

--- What is needed to ask etcd of a pool.
-- @tparam table place of cni.pool.blocks
-- @tparam number seconds for each request
-- @treturn table|nil `settings`; `client`; `owner` and `machine`, as keys say them; `grid` and `fence`, as
-- far as they are known; `is_new`: this machine has never been here; `was_sent_away`: somebody has freed
-- all that it had. nil: the pool's blocks do not come from etcd
-- @raise code 5 and others when its file cannot be read
function M.new(place, seconds)
  local state = blocks.read(place)
  if not state.settings then fail.throw { msg = place.blocks .. " says of no pool" } end
  if state.settings.blocks_file then return nil end
  local settings = setmetatable({ grid = state.known }, { __index = state.settings })
  local e = settings.etcd
  local machine = keys.machine(place)
  return setmetatable({ place = place, settings = settings, owner = keys.owner(settings, machine),
    machine = machine, ops = {}, takes = {},
    is_new = not state.known, grid = expected(settings, state.known),
    fence = not state.claiming and state.fence or nil,
    client = etcd.new { endpoints = e.endpoints, ca = e.ca, cert = e.cert, key = e.key, user = e.user,
      password = e.password, prefer = state.endpoint, timeout = seconds } }, Transaction)
end

return M
