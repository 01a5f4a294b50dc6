-- SPDX-License-Identifier: MIT
--- Ranges of addresses as host-local's configuration has them: declared, completed, checked.
--
-- A *range* is a part of a subnet; a *range set* is a list of ranges of one family. An attachment
-- gets one address of each set.
-- @module cni.ranges

local addr = require "cni.addr"
local args = require "cni.engine.args"
local fail = require "cni.fail"
local ipam_conf = require "cni.ipam_conf"
local schema = require "cni.schema"

local M = {}

--- The keys of a range.
M.fields = {
  subnet = schema.cidr { network = true, doc = "Network that the addresses are of." },
  rangeStart = schema.ip { doc = "First address to give; the one after the network's own." },
  rangeEnd = schema.ip { doc = "Last address to give; the last before IPv4's broadcast." },
  gateway = schema.ip { unspecified = "absent",
    doc = "Gateway, never given away; the one after the network's own." },
}

--- A list of range sets.
M.sets = schema.list(schema.list(schema.record(M.fields)))

local function cmp(a, b)
  return addr.cmp(addr.ip(a), addr.ip(b))
end

--- Whether an address lies between the ends of a range.
-- @tparam table range of @{read}
-- @string text
-- @treturn boolean
function M.contains(range, text)
  local bytes = addr.ip(text)
  local first, last = addr.ip(range.first), addr.ip(range.last)
  return #bytes == #first and addr.cmp(bytes, first) >= 0 and addr.cmp(bytes, last) <= 0
end

--- The range of a set that an address lies in.
-- @tparam {table,...} set
-- @tparam string text the address
-- @treturn ?table range
-- @treturn ?integer its place in the set
function M.find(set, text)
  for i, range in ipairs(set) do
    if M.contains(range, text) then return range, i end
  end
end

--- A set in words: "10.1.2.1-10.1.2.254,10.1.4.1-10.1.4.254".
-- @tparam {table,...} set
-- @treturn string
function M.text(set)
  local parts = {}
  for i, range in ipairs(set) do parts[i] = range.first .. "-" .. range.last end
  return table.concat(parts, ",")
end

local function limit(subnet, text, where, key)
  if not subnet:contains(addr.ip(text)) then
    fail.config(where .. "." .. key, ("%s is not in %s"):format(text, tostring(subnet)))
  end
  return text
end

local function complete(raw, where)
  if not raw.subnet then fail.config(where .. ".subnet", "is missing") end
  local subnet = addr.parse(raw.subnet)
  local inet = subnet.family == "inet"
  local most = inet and 30 or 126
  if subnet.len > most then
    fail.config(where .. ".subnet", ("%s is too small: it can be a /%d at most"):format(
      raw.subnet, most))
  end
  local gateway = raw.gateway or addr.text(subnet:first_host())
  if addr.family(addr.ip(gateway)) ~= subnet.family then
    fail.config(where .. ".gateway", ("%s is of another family than %s"):format(gateway,
      raw.subnet))
  end
  local last = subnet:last()
  local range = {
    subnet = raw.subnet, gateway = gateway,
    first = limit(subnet, raw.rangeStart or addr.text(subnet:first_host()), where, "rangeStart"),
    last = limit(subnet, raw.rangeEnd or addr.text(inet and addr.prev(last) or last), where,
      "rangeEnd"),
  }
  if cmp(range.first, range.last) > 0 then
    fail.config(where, ("rangeStart %s is behind rangeEnd %s"):format(range.first, range.last))
  end
  return range
end

local function overlap(a, b)
  return #addr.ip(a.first) == #addr.ip(b.first)
    and cmp(a.first, b.last) <= 0 and cmp(b.first, a.last) <= 0
end

local function check_apart(range, set, where)
  for _, other in ipairs(set) do
    if overlap(range, other) then
      fail.config(where, ("%s-%s overlaps %s-%s"):format(range.first, range.last, other.first,
        other.last))
    end
  end
end

local function read_set(raw, where)
  if #raw == 0 then fail.config(where, "is empty: a range set has one range or more") end
  local set = {}
  for i, item in ipairs(raw) do
    local at = ("%s[%d]"):format(where, i - 1)
    local range = complete(item, at)
    if set[1] and #addr.ip(range.first) ~= #addr.ip(set[1].first) then
      fail.config(at, ("%s is of another family than %s: a range set has one family"):format(
        range.subnet, set[1].subnet), "write one set for each family")
    end
    check_apart(range, set, at)
    set[i] = range
  end
  return set
end

local raw_range = args.record { subnet = args.network, rangeStart = args.ip, rangeEnd = args.ip,
  gateway = args.ip }

local takes_read = args.call("ranges.read", { "sources", args.list(args.record({ where = args.string,
  sets = args.list(args.list(raw_range)) }, { required = { "where" } })) })

-- `single`: the sets of a source are a range each.
local function read(sources)
  local sets = {}
  for _, source in ipairs(sources) do
    for i, raw in ipairs(source.sets or {}) do
      local where = source.single and source.where or ("%s[%d]"):format(source.where, i - 1)
      local set = source.single and { complete(raw, where) } or read_set(raw, where)
      for _, earlier in ipairs(sets) do
        for _, range in ipairs(set) do check_apart(range, earlier, where) end
      end
      sets[#sets + 1] = set
    end
  end
  return sets
end

--- Complete and check range sets.
--
--     local sets = ranges.read { { where = "pool", sets = { { { subnet = "10.1.0.0/24" } } } } }
--
-- @tparam {table,...} sources a list; each has `sets`, a list of range sets as declared by @{sets} (may be
-- nil), and `where`, the key of the configuration that they are of, to be named in errors
-- @treturn {table,...} sets; ranges have `subnet`, `first`, `last`, `gateway`, all of them text
-- @raise code 7
function M.read(sources)
  return read((takes_read(sources)))
end

--- The range sets of a configuration: of the capability `ipRanges`, of `subnet`, of `ranges`.
-- @tparam table req its `conf` has `ipam` and `runtimeConfig`
-- @treturn {table,...} sets as of @{read}
-- @raise code 7 when there is none, or what @{read} raises
function M.of(req)
  local c, runtime = req.conf.ipam, req.conf.runtimeConfig or {}
  local sets = read {
    { where = "runtimeConfig.ipRanges", sets = runtime.ipRanges },
    { where = "ipam", single = true, sets = c.subnet and { c } },
    { where = "ipam.ranges", sets = c.ranges },
  }
  if #sets == 0 then
    fail.config("ipam.ranges", "is missing: there is no range to take an address from")
  end
  local subnets = {}
  for i, set in ipairs(sets) do subnets[i] = set[1].subnet end
  ipam_conf.check_families(req, subnets, "range set")
  return sets
end

return M
