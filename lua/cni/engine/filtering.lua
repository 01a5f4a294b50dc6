-- SPDX-License-Identifier: MIT
--- Tables of nf_tables that a script has of its own, what attachments have in their sets, and rules. Each
-- handle has these verbs beside its others (cni.engine.handle). Rules are put together with cni.nft.
-- @module cni.engine.filtering

local addr = require "cni.addr"
local args = require "cni.engine.args"
local netlink = require "netlink"
local takes = require "cni.engine.takes"

local M = {}

-- The layout (cni.step.layout) of each table that a verb has given.
local layouts = setmetatable({}, { __mode = "k" })

-- A definition as text, the same for the same one.
local function written(value)
  if type(value) ~= "table" then return ("%s %q"):format(type(value), tostring(value)) end
  local parts = {}
  for key, item in next, value do parts[#parts + 1] = ("%s=%s"):format(key, written(item)) end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

-- What of a layout is written down: what there is to take back, and to make it anew.
local function outline(layout)
  local out = { family = layout.family, table = layout.table, name = layout.name, group = layout.group,
    own = layout.own, comment = layout.comment, sets = {}, chains = {},
    frozen = require("cni.step.layout").freeze(layout) }
  for i, set in ipairs(layout.sets) do
    out.sets[i] = { name = set.name, key_type = set.key_type, data_type = set.data_type,
      interval = set.interval }
  end
  local jumps = require("cni.step.layout").jumps_of(layout)
  for i, chain in ipairs(layout.chains) do
    out.chains[i] = { name = chain.name, kept = chain.kept, jumps = jumps[chain.name] }
  end
  return out
end

local function push(self, layout, elements)
  self.plan:push { kind = "elements", ns = self.name, layout = layout,
    want = { layout = outline(layout), elements = elements,
      group = self:group(("nft:%s.%s"):format(layout.table, layout.group)) } }
end

--- Make sure of a table of nf_tables that is the script's own, with sets and chains. Attachments share it: it
-- is made by the first, and goes with the last. One of that name that somebody else has made is an error.
-- When the script changes, the next ADD makes chains and their rules anew, in one batch; sets stay, with all
-- that is in them.
--
--     local guests = req.host:ensure_nft_table {
--       name = "guests", sets = { { name = "allowed", key_type = "ipv4_addr . ipv4_addr" } },
--       chains = { { name = "forward", type = "filter", hook = "forward", priority = 0, rules = {
--         nft.rule(nft.fields_in("ip", { "daddr", "saddr" }, "allowed"), nft.verdict "accept"),
--       } } },
--     }
--
-- @tparam table want
--   name     of the table
--   family   inet, ip, ip6, bridge or netdev; default: inet
--   comment  for people who list the table
--   sets     list of { name =, key_type =, data_type =, interval =, comment = }: types as nft calls them;
--            with a `data_type` it is a map, with `interval = true` an element may be from one key to another
--   chains   list of { name =, rules =, comment = }, a chain behind those that it jumps to; a base chain has
--            `type`, `hook` and `priority` too. `rules` is a list of what cni.nft's `rule` gives; a chain
--            without it is for rules of attachments, and stays as it is when the script changes
-- @treturn table the table, for the other verbs
function M:ensure_nft_table(want)
  want = takes.ensure_nft_table(self, want)
  local chains = {}
  for i, chain in ipairs(want.chains or {}) do
    chains[i] = { name = chain.name, comment = chain.comment, type = chain.type, hook = chain.hook,
      priority = chain.priority, rules = chain.rules, kept = not chain.rules or nil }
  end
  local layout = {
    family = want.family or "inet", table = want.name, name = want.name, group = want.family or "inet",
    own = true, sets = want.sets or {}, chains = chains, version = netlink.sys.hash64(written(want)),
    comment = ("%s (made and removed by luacni)"):format(want.comment or "of a script"),
  }
  local object = { name = want.name, family = layout.family }
  layouts[object] = layout
  push(self, layout, {})
  return object
end

-- The layout that has a table's object; a script that gives another is told so.
local function layout_of(verb, object)
  return layouts[object] or args.refuse(verb, "table", "expected a table as ensure_nft_table gives it")
end

-- Prefixes in the key of an interval: from the first address to the last.
local function spread(element)
  local from, to, found = {}, {}, false
  for i, part in ipairs(type(element.key) == "table" and element.key or { element.key }) do
    local cidr = type(part) == "string" and addr.parse(part)
    from[i] = cidr and addr.text(cidr:network().ip) or part
    to[i] = cidr and addr.text(cidr:last()) or part
    found = found or cidr ~= nil and cidr ~= false
  end
  if not found or element.key_end ~= nil then return end
  if type(element.key) ~= "table" then from, to = from[1], to[1] end
  element.key, element.key_end = from, to
end

--- Put elements into sets of a table: they are this attachment's, as their comments say, and DEL takes them
-- out. All that are given go in one batch, or none. One that another attachment has is an error that names
-- it.
--
--     req.host:add_nft_elements(guests, { { set = "allowed", key = { "10.1.0.5", "192.0.2.9" } } })
--
-- A packet and an ADD cost the same however many elements a set has, but for sets with `interval`.
-- @tparam table table as `ensure_nft_table` gives it
-- @tparam table elements list of
--   set      name of a set of the table
--   key      a value, or a list of values where the type has several parts; in a set with `interval` a prefix
--            such as "10.1.0.0/16" stands for all its addresses
--   key_end  of an interval: the last key
--   data     of a map: a value or a list; { verdict = "accept" }, { verdict = "jump", chain = "..." }
--   says     the element in words, for CHECK, dry runs and `explain`
function M:add_nft_elements(table, elements)
  table, elements = takes.add_nft_elements(self, table, elements)
  local layout, known, names = layout_of("add_nft_elements", table), {}, {}
  for i, set in ipairs(layout.sets) do known[set.name], names[i] = set, set.name end
  for i, element in ipairs(elements) do
    local set = known[element.set]
    if not set then
      args.refuse("add_nft_elements", ("[%d].set"):format(i), args.unknown(element.set, names, "set"))
    end
    if set.interval then spread(element) end
  end
  if #elements > 0 or self.plan.mode == "erase" then push(self, layout, elements) end
end

--- Add a rule that is this attachment's, at the end of a chain; DEL takes it out. Each packet that comes to
-- the chain pays for it: where many attachments want the same, a set and one rule of the table cost less.
--
--     req.host:add_nft_rule(guests, "own", nft.rule(nft.saddr(ip), nft.counter(), nft.verdict "drop"))
--     req.host:add_nft_rule(nil, "admin_forward", nft.rule(nft.saddr(ip), nft.verdict "drop"))
--
-- @tparam ?table table as `ensure_nft_table` gives it; nil: the table `inet luacni`, in which `admin` sees
-- first what arrives where ports are published, and `admin_forward` what is forwarded where `firewall` is
-- used
-- @string chain of the table, one without `rules`
-- @tparam table rule as cni.nft's `rule` gives it
function M:add_nft_rule(table, chain, rule)
  table, chain, rule = takes.add_nft_rule(self, table, chain, rule)
  local layout = table and layout_of("add_nft_rule", table)
  if not layout then
    if chain ~= "admin" and chain ~= "admin_forward" then
      args.refuse("add_nft_rule", "chain", args.unknown(chain, { "admin", "admin_forward" }, "chain"))
    end
    layout = { family = "inet", table = "luacni", name = chain, group = "scripts", version = "1",
      comment = require("cni.step.layout").of_luacni, sets = {}, chains = {
        { name = chain, kept = true, comment = "yours, and scripts': sees first, is never changed" } } }
    push(self, layout, {})
  end
  local names, found = {}, nil
  for i, one in ipairs(layout.chains) do
    names[i] = one.name
    if one.name == chain then found = one end
  end
  if not found then args.refuse("add_nft_rule", "chain", args.unknown(chain, names, "chain")) end
  if not found.kept then
    args.refuse("add_nft_rule", "chain", chain .. " has the table's rules: attachments' go to one without")
  end
  local number = 1
  for _, step in ipairs(self.plan.steps) do
    if step.kind == "nft_rule" then number = number + 1 end
  end
  self.plan:push { kind = "nft_rule", ns = self.name, rule = rule,
    want = { family = layout.family, table = layout.table, chain = chain, number = number,
      frozen = require("cni.step.layout").freeze(rule) } }
end

return M
