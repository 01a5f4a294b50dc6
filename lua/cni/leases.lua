-- SPDX-License-Identifier: MIT
--- Which address an attachment gets, on top of `netlink.store`.
--
-- A *spec* says what is wanted, in plain data that can be written down and read back:
--
--     dir        the data directory
--     network    its part for this network
--     sets       range sets, as `read` of cni.ranges gives them; an address is taken from each
--     requested  addresses asked for by name
--     wished     addresses that are taken where they are to be had
--     blocks     in place of `sets`: the file of cni.pool.blocks that says of which blocks an address may be.
--                It is read under the lock
--     taken      in @{held}, @{problem} and @{release}: these addresses alone, as text
--     others     likewise: all but these
--
-- Everything is done under the lock of the directory, and for all sets or for none. An *owner* is
-- `{ id =, ifname = }`. Releasing needs `dir` and `network` alone, so that it works when the
-- configuration is lost or no longer valid.
-- @module cni.leases

local addr = require "cni.addr"
local fail = require "cni.fail"
local files = require "cni.record.files"
local journal = require "cni.record.journal"
local names = require "cni.names"
local ranges = require "cni.ranges"
local store = require("netlink").store
local sys = require("netlink").sys

local M = {}

--- Where leases are kept unless the configuration says otherwise.
M.default_dir = "/var/lib/cni/networks"

--- Where the indexes are; dies with the boot.
M.index_dir = "/run/luacni/leases"

--- How long to wait for the directory's lock.
M.timeout_ms = 30000

--- Whether leases can be where a spec says. Where they cannot be, nothing is leased.
-- @tparam table spec whatever a script has given
-- @treturn boolean
function M.is_place(spec)
  return type(spec.dir) == "string" and type(spec.network) == "string" and names.is_id(spec.network)
end

local function path_of(spec)
  if not names.is_id(spec.network) then
    fail.config("network", ("%q cannot be the name of a directory"):format(spec.network))
  end
  return spec.dir .. "/" .. spec.network
end

local function broken(what, msg, errno, path)
  if errno == sys.errno.ETIMEDOUT and path then
    require("cni.record.holder").refuse(what, path .. "/lock", M.timeout_ms / 1000)
  end
  fail.throw { code = fail.codes.io, errno = errno, msg = what .. ": " .. msg }
end

-- The value, unless it is nil for a reason.
local function must(what, value, msg, errno)
  if value == nil and msg then broken(what, msg, errno) end
  return value
end

local function open(spec)
  local s, msg, errno = store.open(path_of(spec), M.index_dir, M.timeout_ms)
  if not s then broken("allocate", msg, errno, path_of(spec)) end
  return s
end

-- nil when there is no such directory: nothing is leased, and nothing is to be made.
local function open_existing(spec)
  if not M.is_place(spec) then return nil end
  local s, msg, errno = store.open_existing(path_of(spec), M.index_dir, M.timeout_ms)
  -- A file in the place of the folder has no leases in it.
  if s or errno == sys.errno.ENOENT or errno == sys.errno.ENOTDIR then return s end
  broken("read the leases", msg, errno, path_of(spec))
end

--- Who holds an address, by its file.
-- @tparam table spec `dir` and `network`
-- @string text the address
-- @treturn[1] string container
-- @treturn[1] string interface, "" in files of old
-- @return[2] nil nobody
-- @raise code 5 when that cannot be read
function M.holder(spec, text)
  local bytes = files.read(path_of(spec) .. "/" .. text) or ""
  return bytes:match("^([^\r\n]+)\r?\n?([^\r\n]*)")
end

local function held_by(spec, text)
  local id, ifname = M.holder(spec, text)
  if not id then return nil end
  return ("it is held by %scontainer %s"):format(ifname ~= "" and ifname .. " of " or "", id)
end

-- The store of a directory that is not there.
local nothing = setmetatable({
  find = function() return {} end,
  last = function() end,
  used = function() return 0 end,
  next_free = function(_, first, last, _, skip)
    if first ~= skip then return first end
    return first ~= last and addr.text(addr.next(addr.ip(first))) or nil
  end,
}, { __close = function() end })

local function address_of(range, text)
  return { address = tostring(addr.parse(range.subnet):with_ip(addr.ip(text))),
    gateway = range.gateway }
end

-- The first free address behind the one given last, going round: the rest of its range, the
-- ranges after it, those before it, and what its own range has up to it.
local function next_in(s, set, n)
  local function free(range, last, after)
    return must("search", s:next_free(range.first, last, after, range.gateway))
  end
  local last = must("search", s:last(n))
  local start, place
  if last then start, place = ranges.find(set, last) end
  if start then
    local text = free(start, start.last, last)
    if text then return text, start end
  end
  place = place or 0
  for i = 1, start and #set - 1 or #set do
    local range = set[(place + i - 1) % #set + 1]
    local text = free(range, range.last)
    if text then return text, range end
  end
  if start then
    local text = free(start, last)
    if text then return text, start end
  end
end

-- How much of a set is taken, its gateways left out: they are not to be had.
local function count(s, set)
  local used, size = 0, 0
  for _, range in ipairs(set) do
    used = used + must("count", s:used(range.first, range.last))
    size = size + store.size(range.first, range.last)
    if ranges.contains(range, range.gateway) then
      used = used - must("count", s:used(range.gateway, range.gateway))
      size = size - 1
    end
  end
  return used, size
end

local function full(s, spec, set, n, code)
  local used, size = count(s, set)
  local err = fail.new {
    code = code,
    msg = ("range set %d is full: %d of %.0f addresses are leased"):format(n, used, size),
    details = ranges.text(set),
    hint = ("each lease is a file in %s that names its container"):format(path_of(spec)),
  }
  err.lacking = true
  error(err, 0)
end

local function named(set, n, requested, done, s, spec)
  for i, text in ipairs(requested) do
    local range = not done[i] and ranges.find(set, text)
    if range then
      done[i] = true
      if text == range.gateway then
        fail.throw { msg = ("the requested address %s is the gateway of range set %d"):format(
          text, n) }
      end
      if must("search", s:next_free(text, text)) then return text, range end
      fail.throw { msg = ("the requested address %s of range set %d (%s) is leased already"):format(
        text, n, ranges.text(set)), details = held_by(spec, text) }
    end
  end
end

-- The first of the addresses that somebody would like to have.
local function wished(s, set, list)
  for _, text in ipairs(list or {}) do
    local range = ranges.find(set, text)
    if range and text ~= range.gateway and must("search", s:next_free(text, text)) then return text, range end
  end
end

local function refuse_second(spec, set, n, held, owner)
  for _, text in ipairs(held) do
    if ranges.find(set, text) then
      fail.throw {
        msg = ("%s of container %s holds %s of range set %d already"):format(owner.ifname,
          owner.id, text, n),
        details = "a second address of the same set is not given",
        hint = ("a DEL of that attachment gives it back; it is a file in %s"):format(path_of(spec)),
      }
    end
  end
end

local function refuse_rest(requested, done)
  local rest = {}
  for i, text in ipairs(requested) do
    if not done[i] then rest[#rest + 1] = text end
  end
  if rest[1] then
    fail.throw {
      msg = "not all requested addresses can be given: " .. table.concat(rest, ", "),
      details = "each must lie in a range set, and no two in the same one",
    }
  end
end

-- One address for each set, chosen and not yet taken. Sets do not overlap, so no choice spoils
-- another.
local function choose(s, spec, owner)
  local held = must("search", s:find(owner.id, owner.ifname))
  local requested, done, picks = spec.requested or {}, {}, {}
  for i, set in ipairs(spec.sets) do
    refuse_second(spec, set, i - 1, held, owner)
    local text, range = named(set, i - 1, requested, done, s, spec)
    local asked = text ~= nil
    if not asked then text, range = wished(s, set, spec.wished) end
    if not text then text, range = next_in(s, set, i - 1) end
    if not text then full(s, spec, set, i - 1) end
    picks[i] = { text = text, range = range, set = set, spec = spec, n = i - 1, asked = asked }
  end
  refuse_rest(requested, done)
  return picks
end

-- The addresses that are to be taken, and whether somebody else has changed the directory. What should be in
-- it is asked only where that is not known.
local function look(s, spec, owner)
  local foreign = s:foreign()
  if s:unknown() then must("lease again", require("cni.record.relet").all(s, spec, owner)) end
  if not spec.blocks then return choose(s, spec, owner), foreign end
  local sets, is_low = require("cni.pool.blocks").look(spec, s)
  return choose(s, setmetatable({ sets = sets }, { __index = spec }), owner), foreign, is_low
end

-- false: somebody who does not heed the lock has an address by now. The index has just learned what it did
-- not know, and the next choice is another one.
local function take(s, picks, owner, taken)
  for _, pick in ipairs(picks) do
    if not must("allocate", s:reserve(pick.text, owner.id, owner.ifname)) then
      if not pick.asked then return false end
      fail.throw { msg = ("%s is leased already"):format(pick.text), details = held_by(pick.spec, pick.text) }
    end
    taken[#taken + 1] = pick.text
    must("allocate", s:set_last(pick.n, pick.text))
  end
  return true
end

local function answer(picks)
  local ips = {}
  for i, pick in ipairs(picks) do ips[i] = address_of(pick.range, pick.text) end
  return ips
end

local Prepared = {}
Prepared.__index = Prepared

--- Choose addresses, and keep the directory locked until they are taken or the choice is closed.
-- What an owner held before is never touched by this: whoever holds an address of a set already is
-- refused here, before there is anything to write down or to take back.
-- @tparam table spec
-- @tparam table owner
-- @treturn table a choice with `taken` (the addresses as text, one of each set), `sets` (the ranges that
-- they are of), `foreign` (somebody else has changed the directory since the last choice), `is_low` (of
-- `blocks` few addresses are left), `commit()` and `close()`; close it
-- @raise as @{allocate}; `lacking` says that there is no address to choose
function M.prepare(spec, owner)
  local s = open(spec)
  local ok, picks, foreign, is_low = pcall(look, s, spec, owner)
  if not ok then
    s:close()
    error(picks, 0)
  end
  local taken, sets = {}, spec.sets or {}
  for i, pick in ipairs(picks) do
    taken[i], sets[i] = addr.text(addr.ip(pick.text)), sets[i] or { pick.range }
  end
  return setmetatable({ store = s, picks = picks, owner = owner, taken = taken, sets = sets,
    foreign = foreign, is_low = is_low }, Prepared)
end

--- Take what was chosen: all of it, or on failure none.
-- @treturn[1] {table,...} as of @{allocate}
-- @treturn[2] nil it is to be chosen anew: somebody has taken it without the lock
function Prepared:commit()
  local s <const>, taken = self.store, {}
  local ok, whole = pcall(take, s, self.picks, self.owner, taken)
  if not (ok and whole) then
    for _, text in ipairs(taken) do s:release(text) end
  end
  s:close()
  if not ok then error(whole, 0) end
  return whole and answer(self.picks) or nil
end

--- Give the lock back; twice is fine.
function Prepared:close()
  self.store:close()
end
Prepared.__close = Prepared.close

--- Lease one address of each range set: all or none.
-- @tparam table spec
-- @tparam table owner
-- @tparam[opt] function commit is given each choice (@{prepare}) in place of its `commit`, which it calls
-- @treturn {table,...} `address` with the subnet's prefix length, and `gateway`, a set each
-- @raise when a set is full, the owner has an address of it already, a requested address cannot be
--   given; code 11 when the lock is not to be had
function M.allocate(spec, owner, commit)
  local last
  for _ = 1, 100 do
    local choice <close> = M.prepare(spec, owner)
    local ips = (commit or choice.commit)(choice)
    if ips then return ips end
    last = choice.taken
  end
  fail.throw { msg = table.concat(last, ", ") .. ": leased already",
    details = ("somebody takes addresses of %s without its lock"):format(path_of(spec)) }
end

--- What @{allocate} would give now. Changes nothing.
-- @tparam table spec
-- @tparam table owner
-- @treturn {table,...}
-- @raise as @{allocate}
function M.peek(spec, owner)
  local s <close> = open_existing(spec) or nothing
  return answer(choose(s, spec, owner))
end

local function describe(spec, text)
  local bytes = addr.ip(text)
  for _, set in ipairs(spec.sets or {}) do
    local range = ranges.find(set, text)
    if range then return address_of(range, text) end
  end
  for _, set in ipairs(spec.sets or {}) do
    for _, range in ipairs(set) do
      if addr.parse(range.subnet):contains(bytes) then return address_of(range, text) end
    end
  end
  return { address = tostring(addr.cidr(bytes)) }
end

-- In the order of the range sets, as allocate() gave them.
local function sort_by_set(spec, list)
  local rank = {}
  for _, text in ipairs(list) do
    rank[text] = #(spec.sets or {}) + 1
    for n, set in ipairs(spec.sets or {}) do
      if ranges.find(set, text) then
        rank[text] = n
        break
      end
    end
  end
  table.sort(list, function(a, b)
    if rank[a] ~= rank[b] then return rank[a] < rank[b] end
    return addr.cmp(addr.ip(a), addr.ip(b)) < 0
  end)
end

local function set_of(list)
  local set = {}
  for _, item in ipairs(list or {}) do set[item] = true end
  return set
end

-- What an owner holds, as far as the spec means it.
local function find(s, spec, owner)
  local found, taken, others = {}, spec.taken and set_of(spec.taken), set_of(spec.others)
  for _, text in ipairs(must("read the leases", s:find(owner.id, owner.ifname))) do
    if (not taken or taken[text]) and not others[text] then found[#found + 1] = text end
  end
  return found
end

--- What an owner holds. Changes nothing; a directory that is not there holds nothing.
-- @tparam table spec its `sets`, if any, say what prefix length and gateway an address has
-- @tparam table owner
-- @treturn {table,...} as of @{allocate}, in the order of the sets
function M.held(spec, owner)
  local s <close> = open_existing(spec)
  if not s then return {} end
  local list = find(s, spec, owner)
  sort_by_set(spec, list)
  local ips = {}
  for i, text in ipairs(list) do ips[i] = describe(spec, text) end
  return ips
end

--- What is wrong with what an owner holds. Changes nothing.
-- @tparam table spec
-- @tparam table owner
-- @tparam ?{table,...} expected what it was given, `address` each, by a result; those that lie in
--   no range of the sets are somebody else's business. Without: any address of each set will do.
-- @treturn ?string nil when nothing is
function M.problem(spec, owner, expected)
  local s <close> = open_existing(spec) or nothing
  local all, held, sets = set_of(must("read the leases", s:find(owner.id, owner.ifname))),
    find(s, spec, owner), spec.sets or {}
  local function missing(text)
    return ("%s of network %s is not leased to this attachment"):format(text, spec.network)
  end
  for _, ip in ipairs(expected or {}) do
    local text = addr.text(addr.parse(ip.address).ip)
    for _, set in ipairs(sets) do
      if not all[text] and ranges.find(set, text) then return missing(text) end
    end
  end
  for _, text in ipairs(spec.taken or {}) do
    if not all[text] then return missing(text) end
  end
  if not held[1] then
    return ("no address of network %s is leased to this attachment"):format(spec.network)
  end
  for n, set in ipairs((expected or spec.taken) and {} or sets) do
    local found = false
    for _, text in ipairs(held) do found = found or ranges.find(set, text) end
    if not found then
      return ("no address of range set %d (%s) of network %s is leased to this attachment"):format(
        n - 1, ranges.text(set), spec.network)
    end
  end
end

--- Free what an owner holds, whatever range it is of. Nothing to free is fine.
-- @tparam table spec `dir` and `network`; `taken` or `others`
-- @tparam table owner
-- @treturn {string,...} the addresses that are free now
function M.release(spec, owner)
  local s <close> = open_existing(spec)
  if not s then return {} end
  if not spec.taken and not (spec.others and spec.others[1]) then
    return must("release", s:release_owner(owner.id, owner.ifname))
  end
  local freed = {}
  for _, text in ipairs(find(s, spec, owner)) do
    -- A file that names no interface is the container's when it has no other lease; and here it may have.
    local _, ifname = M.holder(spec, text)
    if ifname == owner.ifname and must("release", s:release(text)) then freed[#freed + 1] = text end
  end
  return freed
end

-- A lease of an old version has the container ID alone: any interface of that container keeps it.
local function ids_of(keep)
  local ids = {}
  for key in next, keep do ids[key:match("^[^/]*")] = true end
  return ids
end

--- Free every lease whose owner is not in a list. Files that name no container stay.
-- @tparam table spec `dir` and `network`
-- @tparam table keep set of "ID/IFNAME", as `req:valid_attachments()` gives it
-- @treturn {string,...} the addresses that are free now
-- @raise after the sweep, when some could not be freed
function M.gc(spec, keep)
  local s <close> = open_existing(spec)
  if not s then return {} end
  local ids, stale, freed, problem = ids_of(keep), {}, {}, nil
  for text, id, ifname in s:each() do
    if not text then broken("free stale leases", id, ifname) end
    local alive = ids[id]
    if ifname then
      -- An ADD that is under way has its record before it has its lease.
      alive = keep[id .. "/" .. ifname] or journal.busy { network = spec.network, id = id, ifname = ifname }
    end
    if not alive then stale[#stale + 1] = text end
  end
  for _, text in ipairs(stale) do
    local done, msg, errno = s:release(text)
    if done then freed[#freed + 1] = text end
    if done == nil then problem = problem or { msg, errno } end
  end
  if problem then broken("free stale leases", problem[1], problem[2]) end
  return freed
end

--- How full the range sets are.
-- @tparam table spec
-- @treturn {table,...} `used`, `size` and `full` of each set; gateways do not count
function M.usage(spec)
  local s <close> = open_existing(spec) or nothing
  local list = {}
  for i, set in ipairs(spec.sets) do
    local used, size = count(s, set)
    list[i] = { used = used, size = size, full = not next_in(s, set, i - 1) }
  end
  return list
end

--- Whether an address could be leased now. Changes nothing.
-- @tparam table spec
-- @raise code 50: a set is full, or the directory cannot be written
function M.status(spec)
  local no_add = fail.codes.no_add
  local ok, msg, errno = store.writable(path_of(spec))
  if not ok then fail.throw { code = no_add, msg = "leases cannot be written: " .. msg, errno = errno } end
  local s <close> = open_existing(spec) or nothing
  for i, set in ipairs(spec.sets) do
    if not next_in(s, set, i - 1) then full(s, spec, set, i - 1, no_add) end
  end
end

-- Go readers take a key in any letter case.
local function member(object, key)
  if object[key] ~= nil then return object[key] end
  for k, v in next, object do
    if type(k) == "string" and k:lower() == key:lower() then return v end
  end
end

--- Where the leases of a network are, from a configuration that need not be valid otherwise.
-- @tparam table raw decoded configuration
-- @treturn table `dir` and `network`
function M.place(raw)
  local ipam = raw.ipam
  local dir = type(ipam) == "table" and member(ipam, "dataDir")
  if type(dir) ~= "string" or dir == "" then dir = M.default_dir end
  if dir:sub(1, 1) ~= "/" then dir = files.absolute(dir) end
  return { dir = dir, network = raw.name }
end

return M
