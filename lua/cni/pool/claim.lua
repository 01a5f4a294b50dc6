-- SPDX-License-Identifier: MIT
--- Blocks of a pool, claimed of etcd and given back to it. In etcd there are, below PREFIX/v1/POOL/,
--
--     grid                       the subnets, and how long the prefixes of their blocks are
--     machines/NODE              which machine has that name
--     blocks/BLOCK               whose it is
--     singles/BLOCK/ADDRESS      likewise, of an address that is claimed alone
--     nodes/NODE/BLOCK           what a node has; a single address is a block, too
--
-- Nothing there has a time to live, and nobody watches it. A request is a transaction that does all of what
-- is wanted, or the part of it that is to be had: so a machine that is killed behind it finds in nodes/NODE
-- what it does not know of. That it asks is written down before (`claiming`), and so it never claims a second
-- time for want of a place to write.
--
-- @module cni.pool.claim

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local etcd = require "cni.pool.etcd"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local sys = require("netlink").sys

local M = {}

-- Seconds that an ADD waits for addresses; and a claim that nobody waits for.
local patience <const>, leisure <const> = 10, 30

-- As many blocks are tried in one request, for each that is wanted; and so many are wanted at most.
local tries <const>, most_at_once <const> = 8, 8

-- Seconds in which a single address that was claimed is leased by who has asked for it.
local grace <const> = 30

-- So often etcd is asked for what is ours without a reason.
local look_every <const> = 3600

local most_requests <const> = 12

-- Keys and values -----------------------------------------------------------------------

local function key(settings, ...)
  return table.concat({ settings.etcd.prefix, "v1", settings.pool, ... }, "/")
end

-- What tells this machine from another one of its name. The system's identifier is nobody's business: its hash
-- does as well. Where there is none, one is made up that lasts as long as the leases.
local function machine_of(place)
  local text = files.read "/etc/machine-id"
  if not text or text:match "^%s*$" then
    local path = place.root .. "/machine"
    text = files.read(path)
    if not text then
      text = files.must(sys.random(16)):gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. "\n"
      files.must(sys.write_file(path, text))
    end
  end
  return sys.hash64("luacni " .. text)
end

local function owner_of(settings, machine)
  return json.sorted_note { machine = machine, network = settings.network, node = settings.node }
end

-- Where it stands whose a block is.
local function key_of(settings, block)
  local cidr = addr.parse(block)
  if not blocks.is_single(cidr) then return key(settings, "blocks", block) end
  local _, around = blocks.block_of(settings, cidr:text())
  return key(settings, "singles", around or "?", cidr:text())
end

local function index_of(settings, block) return key(settings, "nodes", settings.node, block) end

-- The grid ----------------------------------------------------------------------------------

local function grid_of(settings, others)
  local subnets = {}
  for subnet, len in pairs(others or {}) do subnets[subnet] = len end
  for _, entry in ipairs(settings.subnets) do subnets[entry.subnet] = entry.block end
  return json.sorted_note { version = 1, subnets = subnets }
end

-- The grid of etcd with our subnets in it.
local function merged(settings, text)
  local ok, grid = pcall(json.decode, text, "the grid")
  local subnets = ok and type(grid) == "table" and grid.version == 1 and grid.subnets
  if type(subnets) ~= "table" then
    fail.throw { msg = ("etcd: %s is of no known version"):format(key(settings, "grid")) }
  end
  for subnet, len in pairs(subnets) do
    for _, entry in ipairs(settings.subnets) do
      local same = entry.subnet == subnet
      local clash = same and entry.block ~= len or
        not same and addr.parse(entry.subnet):overlaps(addr.parse(subnet))
      if clash then
        fail.config("ipam.subnets", ("%s with blocks of /%d: the pool %s has %s with blocks of /%d"):format(
          entry.subnet, entry.block, settings.pool, subnet, len),
          "all machines of a pool divide it alike; another name is another pool")
      end
    end
  end
  return grid_of(settings, subnets)
end

-- What is wanted ------------------------------------------------------------------------------

local function gcd(a, b)
  while b ~= 0 do a, b = b, a % b end
  return a
end

-- The blocks of a family, each once, in an order that is each machine's own, from where it came to last.
-- Returns a function that gives the next one, and the place behind it; nil when all were given.
local function walk(c, family)
  local grid, count = blocks.grid(c.settings, family)
  local stride = math.max(1, math.floor(count * 0.618))
  while gcd(stride, count) ~= 1 do stride = stride + 1 end
  local first = tonumber(sys.hash64(c.owner):sub(1, 8), 16) % count
  local at, given = c.state.cursor[family] or 0, 0
  return function()
    if given >= count then return nil end
    local n = (first + at % count * stride) % count
    at, given = at + 1, given + 1
    return blocks.nth(grid, n), at % count
  end
end

-- How many blocks of a family are wanted: as many as bring it over the mark, and in the long run half as
-- many again as there are, so that who needs many does not ask for each.
local function lack(settings, free, size, owned, block_size)
  if not blocks.is_low(settings, free, size) then return 0 end
  local n = 1
  while blocks.is_low(settings, free + n * block_size, size + n * block_size) do n = n + 1 end
  return math.max(n, (owned + 1) // 2)
end

local function size_of(block)
  local cidr = addr.parse(block)
  return 2.0 ^ (#cidr.ip * 8 - cidr.len)
end

-- Look at what there is, under the lock: how many blocks of each family are wanted, and which go. What goes is
-- leaving from here on; what was lost, and has no lease any more, is forgotten.
local function assess(state, s, now, used)
  local settings, want = state.settings, {}
  local sets, owned = blocks.sets(state), {}
  for i, family in ipairs(blocks.families(settings)) do
    local free, size = blocks.count(s, sets[i])
    owned[family] = { free = free, size = size, count = 0 }
  end
  for _, block in ipairs(state.blocks) do
    local cidr = addr.parse(block.block)
    local family, is_single = owned[cidr.family], blocks.is_single(cidr)
    local is_used = files.must(s:used(cidr:text(), addr.text(cidr:last()))) > 0
    used[block.block] = is_used
    block.empty_at = not is_used and (block.empty_at or now) or nil
    if block.state == "confirmed" and family and not is_single then family.count = family.count + 1 end
    local is_fresh = block.claimed_at and block.claimed_at + grace > now
    if block.state == "confirmed" and is_single and not is_used and not is_fresh then block.state = "leaving" end
  end
  for _, block in ipairs(state.blocks) do
    local family = owned[addr.parse(block.block).family]
    if block.state == "confirmed" and family and family.count > 1 and block.empty_at
      and block.empty_at + settings.keep <= now then
      local size = size_of(block.block)
      local rest = { free = family.free - size, size = family.size - size }
      -- Twice the mark is to be left, so that what goes is not wanted back at once.
      if rest.size > 0 and rest.free * 100 >= rest.size * math.min(2 * settings.low, 90) then
        block.state = "leaving"
        family.free, family.size, family.count = rest.free, rest.size, family.count - 1
      end
    end
  end
  for i = #state.blocks, 1, -1 do
    local block = state.blocks[i]
    if block.state == "lost" and not used[block.block] then table.remove(state.blocks, i) end
  end
  for family, have in pairs(owned) do
    local grid = blocks.grid(settings, family)
    local n = lack(settings, have.free, have.size, have.count,
      2.0 ^ (#grid[1].subnet.ip * 8 - grid[1].len))
    if n > 0 then want[family] = n end
  end
  return want
end

-- Requests ----------------------------------------------------------------------------------

local function claim_of(settings, block, owner)
  return { etcd.put(key_of(settings, block), owner), etcd.put(index_of(settings, block), owner) }
end

-- Try blocks one after the other, in one transaction.
local function chain(settings, owner, list, i)
  local block = list[i].block
  local success = claim_of(settings, block, owner)
  success[3] = etcd.list(key(settings, "singles", block) .. "/")
  return etcd.txn { compare = { etcd.absent(key_of(settings, block)) }, success = success,
    failure = { list[i + 1] and chain(settings, owner, list, i + 1) } }
end

local function add_single(c, text)
  local settings = c.settings
  local _, around = blocks.block_of(settings, text)
  local single = tostring(addr.cidr(addr.ip(text)))
  local at, block_at = key_of(settings, single), key(settings, "blocks", around)
  c:add(etcd.txn { compare = { etcd.absent(at), etcd.absent(block_at) },
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

local function last_part(text) return text:match "([^/]*)$" end

local function add_chain(c, family, list)
  c:add(chain(c.settings, c.owner, list, 1), function(answer, got)
    for _, try in ipairs(list) do
      c.places[family] = try.place or c.places[family]
      if answer.succeeded then
        local holes = json.list {}
        for _, entry in ipairs(answer[3]) do holes[#holes + 1] = last_part(entry.key) end
        got.claimed[#got.claimed + 1] = { block = try.block, state = "confirmed", holes = holes }
        return
      end
      answer = answer[1]
    end
    got.missed = true
  end)
end

-- Give a block back, or to a node that it was promised to. What is another's by now stays his.
local function add_return(c, block)
  local settings, name = c.settings, block.block
  local at, index = key_of(settings, name), index_of(settings, name)
  local give = { etcd.delete(at), etcd.delete(index) }
  if block.to then
    local owner = json.sorted_note { network = settings.network, node = block.to }
    give = { etcd.put(at, owner), etcd.delete(index), etcd.put(key(settings, "nodes", block.to, name), owner) }
  end
  c:add(etcd.txn { compare = { etcd.is(at, c.owner) }, success = give, failure = { etcd.delete(index) } },
    function(_, got) got.returned[name] = true end)
end

local function decoded(value)
  local ok, entry = pcall(json.decode, value, "etcd")
  return ok and type(entry) == "table" and entry or {}
end

-- What etcd says that we have: ours, or another network's of this machine. What another machine has moved here
-- names no machine yet.
local function add_look(c)
  local prefix = key(c.settings, "nodes", c.settings.node) .. "/"
  c:add(etcd.list(prefix), function(answer, got)
    got.ours = {}
    for _, entry in ipairs(answer) do
      local value = decoded(entry.value)
      local is_ours = value.network == c.settings.network
        and (value.machine == c.machine or value.machine == nil)
      if is_ours then got.ours[entry.key:sub(#prefix + 1)] = value end
    end
  end)
end

local Context = {}
Context.__index = Context

function Context:add(op, take)
  self.ops[#self.ops + 1], self.takes[#self.takes + 1] = op, take
end

local function strangers(c, machine)
  fail.config("node", ("%s is the name of another machine, which has blocks of the pool %s"):format(
    c.settings.node, c.settings.pool), ("the key `node` gives this one another name; if there is no other " ..
    "machine any more: luacni pool release %s (its identifier was %s)"):format(c.settings.node, machine))
end

-- What the failure of the request's condition tells: somebody has never been here, or has been sent away, or
-- the grid is not what we think.
local function learn(c, grid, machine)
  local grid_at, machine_at = key(c.settings, "grid"), key(c.settings, "machines", c.settings.node)
  if machine and machine ~= c.machine then strangers(c, machine) end
  if not grid then
    c.client:txn { compare = { etcd.absent(grid_at) }, success = { etcd.put(grid_at, c.grid) } }
  elseif grid ~= c.grid then
    local wanted = merged(c.settings, grid)
    if wanted ~= grid then
      c.client:txn { compare = { etcd.is(grid_at, grid) }, success = { etcd.put(grid_at, wanted) } }
    end
    c.grid = wanted
  end
  if not machine and not c.is_new then
    c.client:txn { compare = { etcd.absent(machine_at) }, success = { etcd.put(machine_at, c.machine) } }
    c.was_sent_away = true
  end
end

-- Send what was added. Where it was not done, false: it is to be put together anew.
local function send(c)
  local grid_at, machine_at = key(c.settings, "grid"), key(c.settings, "machines", c.settings.node)
  local failure = { etcd.get(grid_at), etcd.get(machine_at) }
  local same_grid, shift = etcd.is(grid_at, c.grid), 0
  if c.is_new then
    failure = { etcd.txn { compare = { same_grid, etcd.absent(machine_at) }, failure = failure,
      success = { etcd.put(machine_at, c.machine), table.unpack(c.ops) } } }
  end
  local answer = c.client:txn { compare = { same_grid, etcd.is(machine_at, c.machine) }, success = c.ops,
    failure = failure }
  if not answer.succeeded and c.is_new then
    answer = answer[1]
    shift = answer.succeeded and 1 or 0
  end
  if not answer.succeeded then
    local grid, machine = answer[1][1], answer[2][1]
    learn(c, grid and grid.value, machine and machine.value)
    return false
  end
  local got = { claimed = {}, returned = {}, refused = {} }
  for i, take in ipairs(c.takes) do take(answer[i + shift], got) end
  return got
end

-- Addresses in blocks that are ours without our knowing.
local function holes_of(c, block)
  local holes = json.list {}
  if blocks.is_single(addr.parse(block)) then return holes end
  for _, entry in ipairs(c.client:list(key(c.settings, "singles", block) .. "/")) do
    holes[#holes + 1] = last_part(entry.key)
  end
  return holes
end

-- What another machine has given us is ours once it names this one.
local function take_over(c, block, value)
  if value.machine then return true end
  local at = key_of(c.settings, block)
  return c.client:txn { compare = { etcd.is(at, json.sorted_note(value)) },
    success = claim_of(c.settings, block, c.owner) }.succeeded
end

local function adopt(c, got, state)
  local known = {}
  for _, block in ipairs(state.blocks) do known[block.block] = true end
  for block, value in pairs(got.ours or {}) do
    if not known[block] and take_over(c, block, value) then
      got.claimed[#got.claimed + 1] = { block = block, state = "confirmed", holes = holes_of(c, block) }
    end
  end
end

-- What has come of a request, written down.
local function note(c, place, got)
  return blocks.change(place, function(state)
    local rest, known = json.list {}, {}
    for _, block in ipairs(state.blocks) do
      local is_ours = not got.ours or got.ours[block.block]
      if not is_ours and block.state == "confirmed" then block.state = "lost" end
      local told = got.ours and got.ours[block.block]
      if told and block.state == "lost" then block.state = "confirmed" end
      if told and told.leave then block.state, block.to = "leaving", told.to end
      if not got.returned[block.block] then
        rest[#rest + 1] = block
        known[block.block] = true
      end
    end
    for _, block in ipairs(got.claimed) do
      if not known[block.block] then rest[#rest + 1] = block end
    end
    state.blocks, state.claiming, state.failed = rest, nil, nil
    state.known, state.endpoint = c.grid, c.client.endpoint
    for family, place_of in pairs(c.places) do state.cursor[family] = place_of end
    if got.ours then state.looked_at = sys.uptime() end
    blocks.date(state)
  end)
end

-- One pass -----------------------------------------------------------------------------------

local function full(settings, family, count)
  fail.throw { code = fail.codes.again, msg = ("the pool %s has no free block of %s: all %d are claimed"):format(
    settings.pool, family == "inet" and "IPv4" or "IPv6", count),
    hint = ("luacni pool list %s shows by whom"):format(settings.network) }
end

-- Blocks that nobody has, where trying has found none.
local function free_blocks(c, family, n)
  local taken, prefix = {}, key(c.settings, "blocks") .. "/"
  local count = 0
  for _, entry in ipairs(c.client:list(prefix, { keys_only = true })) do
    taken[entry.key:sub(#prefix + 1)] = true
    count = count + 1
  end
  local list, next_block = {}, walk(c, family)
  for block in next_block do
    if not taken[block] and blocks.is_useful(c.settings, block) then list[#list + 1] = block end
    if #list >= n then break end
  end
  if not list[1] then full(c.settings, family, count) end
  return list
end

-- What is to be tried for a family, one after the other.
local function candidates(c, family, n)
  if not c.scan then return walk(c, family) end
  local list, i = free_blocks(c, family, n * tries), 0
  return function()
    i = i + 1
    return list[i]
  end
end

local function add_claims(c, want)
  local own = {}
  for _, block in ipairs(c.state.blocks) do own[block.block] = true end
  for family, n in pairs(want) do
    local next_block = candidates(c, family, n)
    for _ = 1, math.min(n, most_at_once) do
      local some = {}
      for block, place in next_block do
        if not own[block] and blocks.is_useful(c.settings, block) then
          some[#some + 1] = { block = block, place = place }
        end
        if #some >= tries then break end
      end
      if some[1] then add_chain(c, family, some) elseif not c.scan then c.is_out = true end
    end
  end
end

-- One request: all that is to be done, as far as it is known. Returns what has come of it, nil: there is
-- nothing to ask.
local function round(c, place, requested)
  local want
  c.ops, c.takes, c.places = {}, {}, {}
  local now = sys.uptime()
  c.state = blocks.change(place, function(state, s) want = assess(state, s, now, c.used) end)
  local state = c.state
  local doubtful = state.claiming or c.was_sent_away
  local wants_look = c.look
  c.look = nil
  if wants_look or doubtful or not state.looked_at or state.looked_at + look_every <= now then add_look(c) end
  c.is_new = not state.known
  c.grid = c.grid or state.known or grid_of(c.settings)
  for _, block in ipairs(state.blocks) do
    if block.state == "leaving" and not c.used[block.block] then add_return(c, block) end
  end
  -- What is ours already is known before more is asked for.
  if not doubtful then
    add_claims(c, want)
    for _, text in ipairs(requested) do add_single(c, text) end
  end
  if not c.ops[1] then return nil end
  blocks.change(place, function(old) old.claiming = true end)
  local got = send(c)
  if not got then return {} end
  c.was_sent_away = nil
  adopt(c, got, state)
  note(c, place, got)
  return got
end

-- Which of the addresses that are asked for are to be claimed.
local function missing(place, requested)
  local state, list = blocks.read(place), {}
  for _, text in ipairs(requested) do
    local entry, around = blocks.block_of(state.settings, text)
    local single, own = tostring(addr.cidr(addr.ip(text))), false
    for _, block in ipairs(state.blocks) do
      own = own or block.state == "confirmed" and (block.block == around or block.block == single)
    end
    if entry and not own then list[#list + 1] = text end
  end
  return list
end

local function refuse(c, text, value)
  fail.throw { msg = ("the requested address %s is of the node %s"):format(text, tostring(decoded(value).node)),
    details = ("pool %s, network %s"):format(c.settings.pool, c.settings.network) }
end

-- What is needed to ask etcd of a pool; nil: its blocks come from elsewhere.
local function context(place, seconds)
  local state = blocks.read(place)
  local settings = state.settings
  if not settings then fail.throw { msg = place.blocks .. " says of no pool" } end
  if settings.blocks_file then return nil end
  local e = settings.etcd
  local machine = machine_of(place)
  return setmetatable({ settings = settings, owner = owner_of(settings, machine), machine = machine, used = {},
    client = etcd.new { endpoints = e.endpoints, ca = e.ca, cert = e.cert, key = e.key, user = e.user,
      password = e.password, prefer = state.endpoint, timeout = seconds } }, Context)
end

local function claim(place, options)
  local c, count = context(place, options.seconds), 0
  if not c then return count end
  c.look = options.look
  for _ = 1, most_requests do
    local got = round(c, place, missing(place, options.requested or {}))
    if not got then break end
    count = count + #(got.claimed or {})
    for text, value in pairs(got.refused or {}) do refuse(c, text, value) end
    c.scan = got.missed or c.is_out
  end
  return count
end

--- Do all that is due for a pool: claim blocks where there is little left, give back what was not needed for a
-- while, see what etcd says that we have. Kill-safe at any point.
-- @tparam table place of cni.pool.blocks
-- @tparam[opt] table options `requested`: addresses to have, list; `seconds` to take; `since`: what was refused
-- to another call after that moment is refused to this one; `look`: ask etcd in any case what is ours; `try`: not when another call is at it
-- @treturn boolean false: another call is at it
-- @treturn ?integer blocks that were claimed
-- @raise code 11 and others: why that is not to be had
function M.tend(place, options)
  options = options or {}
  options.seconds = options.seconds or leisure
  files.must(sys.mkdirs(place.lock:match "^(.*)/", 448)) -- 0700
  local lock <close>, msg, errno = sys.open_locked(place.lock, options.try and "try" or "exclusive",
    math.ceil(options.seconds * 1000))
  if not lock then
    if options.try and errno == sys.errno.ETIMEDOUT then return false end
    fail.throw { code = fail.codes.again, msg = "claim addresses: " .. tostring(msg), errno = errno }
  end
  local failed = blocks.read(place).failed
  if failed and options.since and failed.at >= options.since then
    fail.throw { code = fail.codes.again, msg = failed.text }
  end
  local ok, err = pcall(claim, place, options)
  if ok then return true, err end
  -- It is told to those who wait, but not where it is about one address alone.
  if not (options.requested and options.requested[1]) then
    pcall(blocks.change, place, function(state)
      state.failed = { at = sys.uptime(), text = fail.wrap(err).msg }
      blocks.date(state)
    end)
  end
  error(err, 0)
end

-- For who looks after a pool -------------------------------------------------------------------

--- Whose the blocks and the single addresses of a pool are.
-- @tparam table place
-- @treturn ?{table,...} `block`, `node`, `network`, `machine`; nil: they are not of an etcd
-- @raise when etcd cannot be asked
function M.owners(place)
  local c = context(place, leisure)
  if not c then return nil end
  local list = {}
  for _, part in ipairs { "blocks", "singles" } do
    local prefix = key(c.settings, part) .. "/"
    for _, entry in ipairs(c.client:list(prefix)) do
      local owner, name = decoded(entry.value), entry.key:sub(#prefix + 1)
      local block = part == "blocks" and name or tostring(addr.cidr(addr.ip(last_part(name)) or "\0\0\0\0"))
      list[#list + 1] = { block = block, node = owner.node, network = owner.network, machine = owner.machine }
    end
  end
  return list
end

--- Free all that a node has, which is dead for ever: whoever runs on it would share addresses with others.
-- @tparam table place
-- @string node
-- @treturn {string,...} the blocks that are free now
-- @raise when etcd cannot be asked; when it is this machine
function M.release(place, node)
  local c = context(place, leisure)
  if not c then fail.throw "this pool's blocks come from a file" end
  if node == c.settings.node then
    fail.throw { msg = node .. " is this machine", hint = "it gives back what it does not need by itself" }
  end
  local prefix, freed = key(c.settings, "nodes", node) .. "/", {}
  for _, entry in ipairs(c.client:list(prefix)) do
    local block, value = entry.key:sub(#prefix + 1), decoded(entry.value)
    local at = addr.parse(block) and key_of(c.settings, block)
    -- As the block has it: without what is asked of its owner.
    local owner = json.sorted_note { machine = value.machine, network = value.network, node = value.node }
    local done = at and c.client:txn { compare = { etcd.is(at, owner), etcd.is(entry.key, entry.value) },
      success = { etcd.delete(at), etcd.delete(entry.key) } }.succeeded
    if done then freed[#freed + 1] = block end
  end
  c.client:txn { success = { etcd.delete(key(c.settings, "machines", node)) } }
  return freed
end

--- Ask the owner of a block to give it back, or to another node, as soon as nobody has an address of it.
-- @tparam table place
-- @string block
-- @string[opt] to a node
-- @treturn string the node that has it
-- @raise when nobody has it; when etcd cannot be asked
function M.free(place, block, to)
  local c = context(place, leisure)
  if not c then fail.throw "this pool's blocks come from a file" end
  local cidr = addr.parse(block)
  local value = cidr and c.client:get(key_of(c.settings, tostring(cidr)))
  local owner = value and decoded(value)
  if not owner or type(owner.node) ~= "string" then
    fail.throw { msg = ("nobody has the block %s of the pool %s"):format(block, c.settings.pool),
      hint = ("luacni pool list %s shows those that somebody has"):format(c.settings.network) }
  end
  owner.leave, owner.to = true, to
  local done = c.client:txn { compare = { etcd.is(key_of(c.settings, tostring(cidr)), value) },
    success = { etcd.put(key(c.settings, "nodes", owner.node, tostring(cidr)), json.sorted_note(owner)) } }
  if not done.succeeded then fail.throw { code = fail.codes.again, msg = block .. " has just changed hands" } end
  return owner.node
end

--- Claim addresses until a lease is to be had.
-- @tparam table spec of cni.leases, with `blocks` and `lock`
-- @tparam function lease raises an error that is `lacking` where there is no address yet
-- @return what that returns
-- @raise what it raises; why none can be claimed
function M.until_had(spec, lease)
  local began, in_vain = sys.uptime(), 0
  while true do
    local rest = began + patience - sys.uptime()
    local _, count = M.tend(spec, { requested = spec.requested, since = began, seconds = math.max(rest, 0.1) })
    local ok, value = pcall(lease)
    if ok then return value end
    -- Others may have had what was claimed; but where nothing is claimed, nothing will come.
    in_vain = count == 0 and in_vain + 1 or 0
    if not (fail.is(value) and value.lacking) or rest <= 0 or in_vain > 1 then error(value, 0) end
  end
end

--- Have a process of its own do what is due, and do not wait for it.
-- @tparam table place
-- @tparam {string,...} environ
function M.start(place, environ)
  -- Who is at it already sees what there is to do.
  local lock = sys.open_locked_existing(place.lock, "try")
  if not lock and files.exists(place.lock) then return end
  if lock then lock:close() end
  local env = {}
  for _, entry in ipairs(environ) do
    if not entry:find "^CNI_" then env[#env + 1] = entry end
  end
  -- Where it cannot be started, the next ADD or the timer does it.
  sys.exec { path = "/proc/self/exe", detached = true, env = env,
    argv = { "luacni", "pool", "refill", place.network, "--data-dir", place.root } }
end

return M
