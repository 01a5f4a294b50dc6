-- SPDX-License-Identifier: MIT
--- The blocks of a pool that this machine has, and the addresses in them. A *pool* is some subnets that many
-- machines share; a *block* is an aligned part of one of them that is one machine's.
--
-- What the machine knows stands in a file, which is replaced as a whole and changed only under the lock of
-- the directory of leases:
--
--     settings   what the network's configuration says of the pool, see cni.cluster_pool; `retired`: nothing
--                any more
--     blocks     list of { block = "10.1.4.64/26", state =, holes = addresses in it that are another's,
--                empty_at = since when it has had no lease }. One of a single address, 10.1.9.7/32, is the
--                address alone, and given to nobody who does not ask for it, unless it is_common; it has
--                claimed_at
--     claiming   something is being asked for: it may be ours already, and we do not know it
--     known      the pool's grid, as it stands in etcd
--     fence      likewise, see cni.pool.transaction
--     taken      how often somebody else has put up another one, as only a machine does that takes itself for
--                this one
--     cursor     which block of each family is to be tried next
--     boot, looked_at    when etcd was last asked for all that is ours
--     failed     { at =, since =, text = }: the last thing that was asked for was not to be had; nor what was
--                asked for before, since then
--     endpoint   who has answered last
--
-- A block is *confirmed*: addresses are given from it; *leaving*: no more are, and it goes back when nobody
-- has one of it; or *lost*: in etcd it is not this machine's any more, and no more are given.
--
-- Moments are on the clock of netlink.sys.uptime, and count for one boot.
-- @module cni.pool.blocks

local addr = require "cni.addr"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local ranges = require "cni.ranges"
local store = require("netlink").store
local sys = require("netlink").sys

local M = {}

--- Where leases are indexed, as of cni.leases; dies with the boot.
M.index_dir = "/run/luacni/leases"

local lock_ms <const> = 30000

-- Seconds in which nobody asks again for what was just not to be had.
local pause <const> = 10

--- Where a pool's things are on this machine, for a network.
-- @string root the pool's data directory
-- @string pool
-- @string network
-- @treturn table `dir` and `network`, of the leases; `blocks`, the file; `lock`, held by whoever asks etcd;
-- `root`
function M.place(root, pool, network)
  local base = ("%s/blocks/%s/%s"):format(root, pool, network)
  return { dir = root .. "/leases/" .. pool, network = network, root = root, blocks = base .. ".json",
    lock = base .. ".lock" }
end

--- The places of all pools below a data directory.
-- @string root
-- @treturn {table,...} as of @{place}, with `pool`
function M.places(root)
  local list = {}
  for _, pool in ipairs(files.list(root .. "/blocks")) do
    for _, name in ipairs(files.list(root .. "/blocks/" .. pool)) do
      local network = not name:find "^%." and name:match "^(.+)%.json$"
      if network then
        list[#list + 1] = M.place(root, pool, network)
        list[#list].pool = pool
      end
    end
  end
  return list
end

-- The file --------------------------------------------------------------------------------

local function boot()
  return ((files.read "/proc/sys/kernel/random/boot_id" or ""):gsub("%s+$", ""))
end

-- What is no list in a file that nobody should have written in is as good as none.
local function list_of(value)
  return type(value) == "table" and json.is_list(value) and value or json.list {}
end

-- Moments of another boot say nothing.
local function forget_moments(state)
  if state.boot == boot() then return end
  state.boot, state.looked_at, state.failed, state.taken = nil, nil, nil, nil
  for _, block in ipairs(state.blocks) do block.empty_at, block.claimed_at = nil, nil end
end

-- Where the file is no JSON any more, as a machine that has lost its power may leave it, what is ours is
-- asked of etcd before anything else.
local function decoded(text, path)
  local ok, state = pcall(json.decode, text, path)
  if not ok or type(state) ~= "table" then return { claiming = true } end
  if state.version == 1 then return state end
  fail.throw { code = fail.codes.decode, msg = ("%s is of no known version"):format(path),
    hint = "without it what this machine has is asked of etcd again" }
end

--- What this machine has of a pool.
-- @tparam table place
-- @treturn table the file's content; empty where there is none
-- @raise code 5 when it cannot be read; 6 when a newer program has written it
function M.read(place)
  local text = files.read(place.blocks)
  local state = text and decoded(text, place.blocks) or {}
  state.version, state.blocks = 1, list_of(state.blocks)
  state.cursor = type(state.cursor) == "table" and state.cursor or {}
  forget_moments(state)
  return state
end

--- Note that moments count from now on for this boot.
-- @tparam table state
function M.date(state) state.boot = boot() end

local function write(place, state)
  files.must(sys.mkdirs(place.blocks:match "^(.*)/", 448)) -- 0700
  files.must(sys.write_file(place.blocks, json.encode(state) .. "\n"))
end

--- Change what is known, while nobody leases or releases.
-- @tparam table place
-- @tparam function change is called with the state and the store; false: nothing is to be written
-- @treturn table the state as it is now
-- @raise code 5, 11
function M.change(place, change)
  local s <close>, msg, errno = store.open(place.dir .. "/" .. place.network, M.index_dir, lock_ms)
  if not s then
    if errno == sys.errno.ETIMEDOUT then
      require("cni.record.holder").refuse("blocks", place.dir .. "/" .. place.network .. "/lock",
        lock_ms / 1000)
    end
    fail.throw { code = fail.codes.io, msg = "blocks: " .. tostring(msg), errno = errno }
  end
  local state = M.read(place)
  if change(state, s) ~= false then write(place, state) end
  return state
end

--- Give up what a network has of a pool that its configuration does not speak of any more, as soon as nobody
-- has an address of it; an ADD that is of the pool takes that back.
-- @tparam table place
-- @treturn boolean whether there is something to do
function M.retire(place)
  local is_empty = true
  M.change(place, function(state, s)
    for _ in s:each() do is_empty = false end
    if not is_empty or not state.settings or state.settings.retired then return false end
    state.settings.retired = true
  end)
  return is_empty
end

--- Note that single addresses are not waited for any more by who has asked for them.
-- @tparam table place
-- @tparam {string,...} list addresses
function M.let_go(place, list)
  local gone = {}
  for _, text in ipairs(list) do gone[tostring(addr.cidr(addr.ip(text)))] = true end
  M.change(place, function(state)
    for _, block in ipairs(state.blocks) do
      if gone[block.block] then block.claimed_at = nil end
    end
  end)
end

-- The grid ----------------------------------------------------------------------------------

-- n-th block of a length in a subnet, from 0. There can be more than an integer has room for; asked for are
-- fewer.
local function nth_block(subnet, len, n)
  local bits = #subnet.ip * 8 - len
  if #subnet.ip == 4 then
    return addr.cidr((">I4"):pack((">I4"):unpack(subnet.ip) | n << bits), len)
  end
  local high, low = (">i8i8"):unpack(subnet.ip)
  if bits >= 64 then
    high = high | n << (bits - 64)
  else
    low = low | n << bits
    if bits > 0 then high = high | n >> (64 - bits) end
  end
  return addr.cidr((">i8i8"):pack(high, low), len)
end

local most_blocks <const> = 1 << 40

--- The subnets of a pool that are of a family, and how many blocks they have.
-- @tparam table settings
-- @string family
-- @treturn {table,...} `subnet`, a cidr, `len`, of its blocks, `count`
-- @treturn integer blocks in all
function M.grid(settings, family)
  local list, count = {}, 0
  for _, entry in ipairs(settings.subnets) do
    local subnet = addr.parse(entry.subnet)
    if subnet.family == family then
      local n = entry.block - subnet.len >= 40 and most_blocks or 1 << (entry.block - subnet.len)
      list[#list + 1] = { subnet = subnet, len = entry.block, count = n }
      count = count + n
    end
  end
  return list, count
end

--- How many blocks a pool has.
-- @tparam table settings
-- @treturn integer
function M.total(settings)
  local _, inet = M.grid(settings, "inet")
  local _, inet6 = M.grid(settings, "inet6")
  return inet + inet6
end

--- A block of the grid.
-- @tparam {table,...} grid
-- @tparam integer n from 0
-- @treturn string
function M.nth(grid, n)
  for _, part in ipairs(grid) do
    if n < part.count then return tostring(nth_block(part.subnet, part.len, n)) end
    n = n - part.count
  end
end

--- The subnet of the pool that an address is of, and its block.
-- @tparam table settings
-- @tparam string text an address
-- @treturn ?table the subnet's settings; nil: it is of none
-- @treturn ?string the block
function M.block_of(settings, text)
  local bytes = addr.ip(text)
  for _, entry in ipairs(settings.subnets) do
    local subnet = addr.parse(entry.subnet)
    if subnet:contains(bytes) then return entry, tostring(addr.cidr(bytes, entry.block):network()) end
  end
end

-- The addresses --------------------------------------------------------------------------

-- What is left of spans of addresses without another one.
local function cut(spans, first, last)
  local left = {}
  for _, span in ipairs(spans) do
    local apart = #first ~= #span[1] or addr.cmp(last, span[1]) < 0 or addr.cmp(first, span[2]) > 0
    if apart then
      left[#left + 1] = span
    else
      if addr.cmp(span[1], first) < 0 then left[#left + 1] = { span[1], addr.prev(first) } end
      if addr.cmp(last, span[2]) < 0 then left[#left + 1] = { addr.next(last), span[2] } end
    end
  end
  return left
end

local function whole(text)
  local cidr = addr.parse(text) or addr.cidr(addr.ip(text))
  return cidr:network().ip, cidr:last()
end

local function smaller(a, b) return addr.cmp(a, b) < 0 and a or b end
local function greater(a, b) return addr.cmp(a, b) > 0 and a or b end

--- Whether a block is an address alone.
-- @tparam cidr block
-- @treturn boolean
function M.is_single(block) return block.len == #block.ip * 8 end

-- A network as containers see it: the first and the last of its addresses that may be theirs.
local function network_of(text, gateway)
  local net = addr.parse(text)
  local first, last = net:first_host(), net:last()
  if net.family == "inet" then last = addr.prev(last) end
  return { text = text, cidr = net, first = first, last = last, gateway = gateway or addr.text(first) }
end

-- The subnets of the settings, as `network_of` has them. An ADD looks at each block: what is the same for all
-- of them is found out once.
local function networks_of(settings)
  local list = {}
  for i, entry in ipairs(settings.subnets) do
    list[i] = network_of(entry.subnet, entry.gateway)
    list[i].len = entry.block
  end
  return list
end

-- The ranges of a block that containers may have addresses of.
local function add_ranges(set, settings, networks, block, holes)
  local net
  for _, other in ipairs(networks) do
    if other.cidr:contains(block.ip) then
      net = other
      break
    end
  end
  if not net then return end
  local is_single = M.is_single(block)
  if settings.by_block then
    net = network_of(tostring(is_single and addr.cidr(block.ip, net.len):network() or block))
  end
  local spans = { { greater(block:network().ip, net.first), smaller(block:last(), net.last) } }
  if addr.cmp(spans[1][1], spans[1][2]) > 0 then return end
  for _, list in ipairs { settings.exclude or {}, holes or {} } do
    for _, other in ipairs(list) do spans = cut(spans, whole(other)) end
  end
  for _, span in ipairs(spans) do
    set[#set + 1] = { subnet = net.text, gateway = net.gateway, first = addr.text(span[1]),
      last = addr.text(span[2]), single = is_single or nil }
  end
end

--- Whether anybody could have an address of a block.
-- @tparam table settings
-- @tparam string block
-- @treturn boolean
function M.is_useful(settings, block)
  local set = {}
  add_ranges(set, settings, networks_of(settings), addr.parse(block))
  return set[1] ~= nil
end

--- The families of a pool, in the order of its subnets.
-- @tparam table settings
-- @treturn {string,...}
function M.families(settings)
  local list, seen = {}, {}
  for _, entry in ipairs(settings.subnets) do
    local family = addr.parse(entry.subnet).family
    if not seen[family] then seen[family], list[#list + 1] = true, family end
  end
  return list
end

-- What somebody who knows has written into a file: a block a line.
local function blocks_in(path)
  local text, msg, errno = sys.read_file(path, 1 << 20)
  if not text then
    local absent = files.absent(errno)
    fail.throw { code = absent and fail.codes.again or fail.codes.io, msg = msg, errno = errno,
      hint = absent and "it is to hold the blocks of this machine, one a line, such as 10.1.4.0/26" or nil }
  end
  local list, n = {}, 0
  for line in (text .. "\n"):gmatch "(.-)\n" do
    n = n + 1
    local word = line:gsub("#.*", ""):match "^%s*(.-)%s*$"
    local block = addr.parse(word)
    if word ~= "" and not (block and block:is_network()) then
      fail.config("blocksFile", ("%s:%d: %s is no network"):format(path, n, json.show(word)))
    end
    if block then list[#list + 1] = { block = tostring(block), state = "confirmed" } end
  end
  return list
end

--- The addresses that this machine may give, as range sets: one of each family.
-- @tparam table state of @{read}
-- @tparam[opt] {string,...} requested by which single addresses are had
-- @treturn {table,...} as `read` of cni.ranges gives them; a set without a range where there is no block
function M.sets(state, requested)
  local settings = state.settings
  if not settings then return {} end
  local sets, of, networks = {}, {}, networks_of(settings)
  for i, family in ipairs(M.families(settings)) do
    sets[i] = {}
    of[family] = sets[i]
  end
  local asked = {}
  for _, text in ipairs(requested or {}) do asked[text] = true end
  for _, block in ipairs(settings.blocks_file and blocks_in(settings.blocks_file) or state.blocks) do
    local cidr = addr.parse(block.block)
    local set = of[cidr.family]
    local is_meant = not M.is_single(cidr) or block.is_common or asked[cidr:text()]
    if set and is_meant and block.state == "confirmed" then
      add_ranges(set, settings, networks, cidr, block.holes)
    end
  end
  return sets
end

--- A family as people call it.
-- @string family
-- @treturn string
function M.kind(family) return family == "inet" and "IPv4" or "IPv6" end

--- How full a set is.
-- @tparam table s a store
-- @tparam {table,...} set
-- @treturn number addresses that are free
-- @treturn number and that there are
function M.count(s, set)
  local used, size = 0, 0
  for _, range in ipairs(set) do
    used = used + files.must(s:used(range.first, range.last))
    size = size + store.size(range.first, range.last)
    if ranges.contains(range, range.gateway) then
      used = used - files.must(s:used(range.gateway, range.gateway))
      size = size - 1
    end
  end
  return size - used, size
end

--- Whether less of a set is free than there is to be.
-- @tparam table settings
-- @tparam number free
-- @tparam number size
-- @treturn boolean
function M.is_low(settings, free, size)
  return size == 0 or free * 100 < size * settings.low
end

-- The store of a directory that is not there.
local nothing = setmetatable({ used = function() return 0 end }, { __close = function() end })

--- How long it goes on where nothing more is to be had.
-- @tparam table place
-- @tparam table state of @{read}
-- @treturn ?string nil: what was asked for last was to be had
-- @treturn boolean whether it may be asked for again
-- @raise code 5
function M.outlook(place, state)
  local failed = state.failed
  if not failed then return nil, false end
  local s <close> = store.open_existing(place.dir .. "/" .. place.network, M.index_dir) or nothing
  local left = {}
  for i, set in ipairs(M.sets(state)) do
    left[i] = ("%.0f of %s"):format(M.count(s, set), M.kind(M.families(state.settings)[i]))
  end
  local now = sys.uptime()
  return ("no more addresses are to be had since %.0f s (%s); left are %s"):format(
    now - (failed.since or failed.at), failed.text, table.concat(left, ", ")), failed.at + pause <= now
end

-- Have the file say what the configuration says. true: it has said something else, so that etcd is to be
-- asked what is ours.
local function settle(place, state, settings)
  if state.settings and json.sorted_note(state.settings) == json.sorted_note(settings) then return false end
  local is_first, old = state.settings == nil, state.settings or settings
  -- What was another node's, or stands elsewhere, is ours only when etcd says so.
  if old.node ~= settings.node or (old.etcd or {}).prefix ~= (settings.etcd or {}).prefix then
    for _, block in ipairs(state.blocks) do
      if block.state == "confirmed" then block.state = "lost" end
    end
  end
  state.settings, state.failed, state.looked_at, state.taken = settings, nil, nil, nil
  write(place, state)
  return not is_first
end

-- That no two of the addresses that are requested are of a family, and none is a gateway: before any of them
-- is claimed.
local function check_requested(settings, requested)
  local first = {}
  for _, text in ipairs(requested or {}) do
    local family, entry, around = addr.family(addr.ip(text)), M.block_of(settings, text)
    if entry and first[family] then
      fail.throw { msg = ("not all requested addresses can be given: %s and %s"):format(first[family], text),
        details = "an attachment gets one of each family" }
    end
    local gateway = entry and entry.gateway
    if entry and settings.by_block then gateway = addr.text(addr.parse(around):first_host()) end
    if gateway == text then
      fail.throw(("the requested address %s is a gateway of the pool %s"):format(text, settings.pool))
    end
    first[family] = text
  end
end

--- That no other machine takes itself for this one, with its name and its identifier: both have the same
-- blocks. Once may be an etcd, or a file of this machine's, that was put back from a copy.
-- @tparam table place
-- @tparam table state of @{read}
-- @raise code 7
function M.check_twin(place, state)
  if not math.tointeger(state.taken) or state.taken < 2 then return end
  fail.config("ipam.node", ("another machine has the name %s too, and the same identifier (/etc/machine-id): "
    .. "it has the same blocks of the pool %s"):format(state.settings.node, state.settings.pool),
    ("give one of them another name and identifier, and attach its containers anew; if there is no other, " ..
    "remove %s"):format(place.blocks))
end

--- What an ADD finds: the sets, and whether they are to be added to soon. Under the lock of the leases. What
-- the configuration says of the pool is written down, where it is new.
-- @tparam table spec of cni.leases, with `blocks` and `settings`
-- @tparam table s its store
-- @treturn {table,...} sets
-- @treturn boolean
-- @raise with `lacking` where what is requested has to be claimed first
function M.look(spec, s)
  check_requested(spec.settings, spec.requested)
  local state = M.read(spec)
  local is_low = settle(spec, state, spec.settings)
  M.check_twin(spec, state)
  local sets = M.sets(state, spec.requested)
  for _, text in ipairs(spec.requested or {}) do
    local own, single = false, tostring(addr.cidr(addr.ip(text)))
    for _, set in ipairs(sets) do own = own or ranges.find(set, text) ~= nil end
    if not own and not state.settings.blocks_file and M.is_useful(state.settings, single) then
      local err = fail.new(("the requested address %s is in no block of this machine"):format(text))
      err.lacking = true
      error(err, 0)
    end
  end
  for _, set in ipairs(not state.settings.blocks_file and sets or {}) do
    -- One of them goes now.
    local free, size = M.count(s, set)
    is_low = M.is_low(state.settings, free - 1, size) or is_low
  end
  -- Who has just been refused is not asked again by each ADD.
  local failed = state.failed
  return sets, is_low and not (failed and failed.at + pause > sys.uptime())
end

return M
