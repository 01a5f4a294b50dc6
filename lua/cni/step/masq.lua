-- SPDX-License-Identifier: MIT
--- Step `masq`: the attachment's addresses in the sets that are masqueraded; cni.masq has the whole
-- picture. The sets are shared objects (cni.shared) of a group of their own.
-- @module cni.step.masq

local fail = require "cni.fail"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.shared"

local errors = netlink.sys.errno
local M = {}

-- No link can have such a name.
local group = "nft:masq"
local multicast = { "224.0.0.0/4", "ff00::/8" }

local function open(h)
  local socket, msg, errno = netlink.nft(h:namespace())
  if not socket then fail.kernel("open nf_tables", msg, errno) end
  return socket
end

local function in_table(fields)
  fields.family, fields.table = "inet", "luacni"
  return fields
end

-- A name that nft can list and read back.
local function set_of(subnet)
  return "masq_" .. subnet:gsub(":", "_")
end

local types = { inet = "ipv4_addr", inet6 = "ipv6_addr" }

local function key_of(want)
  return { [types[want.family]] = want.address }
end

local function element(want, owner)
  return in_table {
    set = set_of(want.subnet),
    elements = { { key = key_of(want), comment = owner
      and nft.comment(("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)) } },
  }
end

local function get(socket, object, key)
  local found, msg, errno = socket:get(object, key)
  if not found and errno and errno ~= errors.ENOENT then
    fail.kernel("look at the masquerading rules", msg, errno)
  end
  return found
end

local function has_element(socket, want)
  return get(socket, "element", in_table { set = set_of(want.subnet), key = key_of(want) }) ~= nil
end

local function commit(socket, batch, what)
  if #batch == 0 then return end
  local ok, msg, errno = socket:commit(batch)
  if not ok then fail.kernel(what, msg, errno) end
end

local function add_table(batch)
  batch[#batch + 1] = { "add", "table", { family = "inet", name = "luacni",
    comment = "masquerading of containers" } }
  batch[#batch + 1] = { "add", "chain", in_table { name = "postrouting", type = "nat",
    hook = "postrouting", priority = 100, policy = "accept" } }
  for _, prefix in ipairs(multicast) do
    batch[#batch + 1] = { "add", "rule", in_table { chain = "postrouting", comment = prefix,
      exprs = nft.rule(nft.daddr(prefix), nft.verdict "return") } }
  end
end

local function add_subnet(batch, want)
  local proto = want.family == "inet" and "ip" or "ip6"
  local name = set_of(want.subnet)
  batch[#batch + 1] = { "add", "set", in_table { name = name, key_type = types[want.family] } }
  batch[#batch + 1] = { "add", "rule", in_table {
    chain = "postrouting", comment = want.subnet,
    exprs = nft.rule(nft.saddr_in(proto, name), nft.daddr(want.subnet, "!="), nft.masquerade()),
  } }
end

-- The rules of the chain by the prefix each is for; nil without the chain.
local function rules_by_prefix(socket)
  local list = get(socket, "chain", in_table { name = "postrouting" })
    and socket:dump("rule", in_table { chain = "postrouting" })
  if not list then return nil end
  local by = {}
  for _, rule in ipairs(list) do by[rule.comment or ""] = rule end
  return by
end

-- Whatever is missing of table, sets and rules, because nobody made it yet or somebody flushed it.
-- The group is locked exclusively.
local function make(socket, step)
  local facts, batch, seen = shared.facts(group), {}, {}
  local rules = rules_by_prefix(socket)
  if not rules or not rules[multicast[1]] then
    if rules then batch[1] = { "flush", "chain", in_table { name = "postrouting" } } end
    add_table(batch)
    rules = {}
  end
  for _, want in ipairs(step.want.addresses) do
    facts.addrs[want.subnet] = true
    if not rules[want.subnet] and not seen[want.subnet] then add_subnet(batch, want) end
    seen[want.subnet] = true
  end
  shared.save(group, facts)
  commit(socket, batch, M.say(step))
end

-- Before an element is there twice: a refused batch costs a wait for RCU, a look costs nothing.
local function put(socket, step, owner)
  local batch = {}
  for _, want in ipairs(step.want.addresses) do
    if has_element(socket, want) then batch[#batch + 1] = { "del", "element", element(want) } end
    batch[#batch + 1] = { "create", "element", element(want, owner) }
  end
  commit(socket, batch, M.say(step))
end

local function all_made(socket, step)
  for _, want in ipairs(step.want.addresses) do
    if not get(socket, "set", in_table { name = set_of(want.subnet) }) then return false end
  end
  return true
end

function M.run(step, plan)
  local socket <close> = open(plan[step.ns])
  local function join(how)
    plan:lock(group, how)
    for _, want in ipairs(step.want.addresses) do shared.join(group, want.subnet, plan.owner) end
  end
  join("shared")
  if not all_made(socket, step) then
    join("exclusive")
    make(socket, step)
  end
  put(socket, step, plan.owner)
end

function M.verify(step, plan)
  local socket <close> = open(plan[step.ns])
  local rules = rules_by_prefix(socket) or {}
  for _, want in ipairs(step.want.addresses) do
    local missing = not rules[want.subnet] and "the rule of its subnet is"
      or not (rules[multicast[1]] and rules[multicast[2]]) and "the rules for multicast are"
      or not has_element(socket, want) and "its element in set " .. set_of(want.subnet) .. " is"
    if missing then
      return ("address %s is not masqueraded: %s missing from table inet luacni"):format(
        want.address, missing)
    end
  end
end

-- The last address of a subnet is gone: take the subnet out, and the table if it was the last.
local function remove(socket, want)
  local lock <close> = shared.lock(group, "exclusive")
  if shared.used(group, want.subnet) then return end
  local facts = shared.facts(group)
  facts.addrs[want.subnet] = nil
  local rules = rules_by_prefix(socket)
  if rules then
    local batch = {}
    if next(facts.addrs) == nil then
      batch[1] = { "del", "table", { family = "inet", name = "luacni" } }
    else
      if rules[want.subnet] then
        batch[1] = { "del", "rule", in_table { chain = "postrouting",
          handle = rules[want.subnet].handle } }
      end
      if get(socket, "set", in_table { name = set_of(want.subnet) }) then
        batch[#batch + 1] = { "del", "set", in_table { name = set_of(want.subnet) } }
      end
    end
    commit(socket, batch, "stop masquerading " .. want.subnet)
  end
  shared.save(group, facts)
  shared.tidy(group, lock)
end

function M.undo(step, plan)
  local socket <close> = open(plan:at(step.ns))
  local batch = {}
  for _, want in ipairs(step.want.addresses) do
    if has_element(socket, want) then batch[#batch + 1] = { "del", "element", element(want) } end
  end
  commit(socket, batch, "stop masquerading")
  for _, want in ipairs(step.want.addresses) do
    if shared.leave(group, want.subnet, plan.owner) then remove(socket, want) end
  end
  socket:leave_open()
end

function M.say(step)
  local list = {}
  for i, want in ipairs(step.want.addresses) do list[i] = want.address end
  return "masquerade " .. table.concat(list, ", ")
end

return M
