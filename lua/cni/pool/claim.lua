-- SPDX-License-Identifier: MIT
--- Blocks of a pool, claimed and given back. That something is asked for is written down before
-- (`claiming`): so a machine that is killed looks first what it has, and never claims a second time for want
-- of a place to write.
--
-- Where no block is free any more, single addresses are borrowed: who is in want says so, and who has plenty
-- sets some apart for anybody.
--
-- @module cni.pool.claim

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local keys = require "cni.pool.keys"
local transaction = require "cni.pool.transaction"
local sys = require("netlink").sys

local M = {}

-- Seconds that an ADD waits for addresses; and a claim that nobody waits for.
local patience <const>, leisure <const> = 10, 30

-- As many blocks are tried in one request, for each that is wanted; and so many are wanted at most.
local tries <const>, most_at_once <const> = 8, 8

-- Seconds in which a single address that was claimed is leased by who has asked for it.
local grace <const> = 30

-- So often, in seconds, etcd is asked for what is ours without a reason; and where few blocks are free, as
-- others may be in want.
local look_every <const>, look_often <const> = 600, 60

-- Addresses that are set apart, or borrowed, at once.
local most_lent <const> = 16

local most_requests <const> = 12

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

-- Look at what there is, under the lock: how many blocks of each family are wanted, and which go. What goes
-- is leaving from here on; what was lost, and has no lease any more, is forgotten. used: which have leases.
local function assess(state, s, now, used, is_waited_for)
  local settings, want = state.settings, {}
  local sets, owned = blocks.sets(state), {}
  local is_idle = not is_waited_for
  for i, family in ipairs(blocks.families(settings)) do
    local free, size = blocks.count(s, sets[i])
    owned[family] = { free = free, size = size, count = 0 }
  end
  for _, block in ipairs(state.blocks) do
    local cidr = addr.parse(block.block)
    local family, is_single = owned[cidr.family], blocks.is_single(cidr)
    local is_used = files.must(s:used(cidr:text(), addr.text(cidr:last()))) > 0
    used[block.block] = is_used
    is_idle = is_idle and not is_used
    block.empty_at = not is_used and (block.empty_at or now) or nil
    local stays = block.is_common and block.empty_at and block.empty_at + settings.keep > now
      or block.claimed_at and block.claimed_at + grace > now
    -- What the configuration does not speak of any more is of no use.
    local is_meant = blocks.block_of(settings, cidr:text()) and (not is_single or stays)
      and not settings.retired
    if block.state == "confirmed" and not is_used and not is_meant then block.state = "leaving" end
    if block.state == "confirmed" and family and not is_single then family.count = family.count + 1 end
  end
  for _, family in pairs(owned) do is_idle = is_idle and family.count == 0 end
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
  -- Who has nothing, and nobody to give it to, has given it back because he was asked to.
  return is_idle and {} or want
end

-- One pass -----------------------------------------------------------------------------------

-- What a look has told beside: blocks that are ours without our knowing, and what is in those that we know.
local function take_in(c, got, state)
  local known = {}
  for _, block in ipairs(state.blocks) do
    known[block.block] = true
    if got.ours[block.block] and (block.holes or {})[1] then
      got.holes[block.block] = c:holes(block.block, got.is_wanted)
    end
  end
  for block, value in pairs(got.ours) do
    if not known[block] and c:take_over(block, value) then
      got.claimed[#got.claimed + 1] = { block = block, state = "confirmed", holes = c:holes(block, true) }
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
      block.holes = got.holes[block.block] or block.holes
      if not got.returned[block.block] then
        rest[#rest + 1] = block
        known[block.block] = true
      end
    end
    for _, block in ipairs(got.claimed) do
      if not known[block.block] then rest[#rest + 1] = block end
    end
    -- What was asked twice may have been done twice: the next pass looks.
    state.blocks, state.claiming, state.failed = rest, got.retried, nil
    for _, block in ipairs(rest) do
      -- Each ADD reads what stands there.
      if block.holes and not block.holes[1] then block.holes = nil end
    end
    state.known, state.fence, state.endpoint = c.grid, c.fence, c.client.endpoint
    for family, place_of in pairs(got.places) do state.cursor[family] = place_of end
    if got.ours then state.looked_at, state.is_tight = sys.uptime(), got.is_tight end
    if got.wants ~= nil then state.wants = got.wants or nil end
    blocks.date(state)
  end)
end

local function full(settings, family, count)
  local kind = blocks.kind(family)
  if count == 0 then
    return fail.new { code = fail.codes.again,
      msg = ("the pool %s has no address of %s that may be given"):format(settings.pool, kind),
      details = "all are excluded, gateways, or the network's own" }
  end
  return fail.new { code = fail.codes.again,
    msg = ("the pool %s has no free block of %s: all %d are claimed"):format(settings.pool, kind, count),
    details = "no other machine has set addresses apart yet; they are asked to",
    hint = ("luacni pool list %s shows by whom"):format(settings.network) }
end

-- Where there is no block: addresses of another's, if there are any to be had.
local function borrow(c, family, count)
  local list = c:spare(family, most_lent)
  for _, entry in ipairs(list) do
    -- One that is asked for is claimed as such.
    if not c.asked[entry.text] then c:add_borrow(entry) end
  end
  if list[1] then return nil end
  -- Where it is not known what has come of that, it is as with any request: see the fence.
  blocks.change(c.place, function(state) state.wants, state.claiming = true, true end)
  local retried = c:want()
  blocks.change(c.place, function(state) state.claiming = retried end)
  return full(c.settings, family, count)
end

-- Blocks that nobody has, where trying has found none.
local function free_blocks(c, family, n)
  local taken, count = c:taken()
  local list = {}
  for block in walk(c, family) do
    if not taken[block] and blocks.is_useful(c.settings, block) then list[#list + 1] = { block = block } end
    if #list >= n then break end
  end
  return list, count
end

-- Blocks to be tried, from where this machine came to last.
local function next_blocks(c, family, n)
  local list, own = {}, {}
  for _, block in ipairs(c.state.blocks) do own[block.block] = true end
  for block, place in walk(c, family) do
    if not own[block] and blocks.is_useful(c.settings, block) then
      list[#list + 1] = { block = block, place = place }
    end
    if #list >= n then break end
  end
  return list
end

-- Returns why a family can have nothing.
local function add_claims(c, want)
  local problem
  for family, n in pairs(want) do
    n = math.min(n, most_at_once)
    local list, count
    if not c.scan then list = next_blocks(c, family, n * tries) end
    if not list or not list[1] then list, count = free_blocks(c, family, n * tries) end
    if not list[1] then problem = borrow(c, family, count) or problem end
    -- Each claim has blocks of its own to try.
    for i = 1, math.min(n, #list) do
      local some = {}
      for k = i, #list, n do some[#some + 1] = list[k] end
      c:add_claim(family, some)
    end
  end
  return problem
end

-- Set some addresses apart for others who are in want: those that nobody here will miss.
local function lend(c, place)
  local texts = {}
  blocks.change(place, function(state, s)
    texts = {}
    local low = math.min(2 * state.settings.low, 90)
    for _, set in ipairs(blocks.sets(state)) do
      local free, size = blocks.count(s, set)
      local n = math.min(most_lent, (free - size * low / 100) // 2)
      for _, block in ipairs(state.blocks) do
        local cidr = addr.parse(block.block)
        for _, range in ipairs(set) do
          local is_of = block.state == "confirmed" and cidr:contains(addr.ip(range.last))
          local after
          while is_of and not range.single and n > 0 do
            local text = files.must(s:next_free(range.first, range.last, after, range.gateway) or "")
            if text == "" then break end
            block.holes = block.holes or json.list {}
            block.holes[#block.holes + 1], texts[#texts + 1] = text, text
            after, n = text, n - 1
          end
        end
      end
    end
    return texts[1] ~= nil
  end)
  for _, text in ipairs(texts) do c:add_spare(text) end
  return texts[1] ~= nil
end

-- One request: all that is to be done, as far as it is known. Returns what has come of it, nil: there is
-- nothing to ask.
local function round(c, place, requested)
  local want, problem
  local now = sys.uptime()
  c.state = blocks.change(place, function(state, s)
    want = assess(state, s, now, c.used, c.is_waited_for)
  end)
  local state = c.state
  local every = state.is_tight and look_often or look_every
  local doubtful = state.claiming or c.was_sent_away
  if c.look or doubtful or not state.looked_at or state.looked_at + every <= now then c:add_look() end
  for _, block in ipairs(state.blocks) do
    if block.state == "leaving" and not c.used[block.block] then c:add_return(block) end
  end
  -- What is ours already is known before more is asked for.
  c.asked = {}
  for _, text in ipairs(requested) do c.asked[text] = true end
  if not doubtful then
    problem = add_claims(c, want)
    for _, text in ipairs(requested) do c:add_single(text, c.lent[text]) end
    if state.wants and not next(want) then c:want_no_more() end
  end
  if c.lends then c.lends = lend(c, place) and nil end
  if not c:has_work() and problem then error(problem, 0) end
  if not c:has_work() then return nil end
  blocks.change(place, function(old) old.claiming = true end)
  local got = c:send()
  if not got then return {} end
  c.was_sent_away, c.look = nil, nil
  if got.ours then take_in(c, got, state) end
  note(c, place, got)
  c.lends = got.is_wanted
  return got
end

-- Which of the addresses that are asked for are to be claimed.
local function missing(place, requested)
  local state, list = blocks.read(place), {}
  for _, text in ipairs(requested) do
    local _, around = blocks.block_of(state.settings, text)
    local single, own = tostring(addr.cidr(addr.ip(text))), false
    for _, block in ipairs(state.blocks) do
      local is_in = block.block == single or block.block == around
      for _, hole in ipairs(block.block == around and block.holes or {}) do is_in = is_in and hole ~= text end
      own = own or block.state == "confirmed" and is_in
    end
    if not own and blocks.is_useful(state.settings, single) then list[#list + 1] = text end
  end
  return list
end

local function refuse(c, text, value)
  local node = tostring(keys.decoded(value).node)
  fail.throw { msg = ("the requested address %s is of the node %s"):format(text, node),
    details = ("pool %s, network %s"):format(c.settings.pool, c.settings.network) }
end

local function claim(place, options)
  local c, count = transaction.new(place, leisure), 0
  if not c then return count end
  blocks.check_twin(place, blocks.read(place))
  c.look, c.used, c.lent, c.is_waited_for = options.look, {}, {}, options.since
  for _ = 1, most_requests do
    c.client.timeout = math.max(0.2, options.till - sys.uptime())
    local got = round(c, place, missing(place, options.requested or {}))
    if not got then break end
    count = count + #(got.claimed or {})
    for text, value in pairs(got.refused or {}) do
      -- What is set apart is for whoever needs it, and so for who asks for it.
      if c.lent[text] == value or not keys.decoded(value).spare then refuse(c, text, value) end
      c.lent[text] = value
    end
    c.scan = got.missed
  end
  return count
end

--- Do all that is due for a pool: claim blocks where there is little left, give back what was not needed for
-- a while, see what etcd says that we have. Kill-safe at any point.
-- @tparam table place of cni.pool.blocks
-- @tparam[opt] table options `requested`: addresses to have, list; `seconds` to take; `since`: what was
-- refused to another call after that moment is refused to this one; `look`: ask etcd in any case what is
-- ours; `try`: not when another call is at it
-- @treturn boolean false: another call is at it
-- @treturn ?integer blocks that were claimed
-- @raise code 11 and others: why that is not to be had
function M.tend(place, options)
  options = options or {}
  local seconds = options.seconds or leisure
  options.till = sys.uptime() + seconds
  files.must(sys.mkdirs(place.lock:match "^(.*)/", 448)) -- 0700
  local lock <close>, msg, errno = sys.open_locked(place.lock, options.try and "try" or "exclusive",
    math.ceil(seconds * 1000))
  if not lock then
    if options.try and errno == sys.errno.ETIMEDOUT then return false end
    if errno == sys.errno.ETIMEDOUT then
      require("cni.record.holder").refuse("claim addresses", place.lock, seconds)
    end
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
      local now = sys.uptime()
      state.failed = { at = now, since = state.failed and state.failed.since or now,
        text = tostring(fail.wrap(err)) }
      blocks.date(state)
    end)
  end
  error(err, 0)
end

-- What is not to be had, as an ADD says it.
local function missed(spec, err)
  err = fail.wrap(err)
  if err.code ~= fail.codes.again then return err end
  local text = "this machine has no address of the pool %s left, and can claim none: %s"
  return fail.new { code = err.code, msg = text:format(spec.settings.pool, err.msg), details = err.details,
    hint = err.hint, errno = err.errno }
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
    local tended, done, count = pcall(M.tend, spec, { requested = spec.requested, since = began,
      seconds = math.max(rest, 0.1) })
    if not tended then error(missed(spec, done), 0) end
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
