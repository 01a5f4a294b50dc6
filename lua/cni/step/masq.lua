-- SPDX-License-Identifier: MIT
--- Step `masq`: the attachment's addresses in the sets that are masqueraded; cni.masq has the whole
-- picture. The sets are shared objects (cni.record.shared) of a group of their own.
-- @module cni.step.masq

local fail = require "cni.fail"
local layout = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local M = {}

local multicast = { "224.0.0.0/4", "ff00::/8" }

-- How often it is tried again when somebody else changes the rules at the same moment.
local patience <const> = 100

-- No link can have such a name.
local function group_of(step, h)
  return shared.group(step, h, "nft:masq")
end

local function in_table(fields)
  fields.family, fields.table = "inet", "luacni"
  return fields
end

-- Older versions had one set for all networks of a subnet: their steps name no set.
local function set_of(want)
  return want.set or "masq_" .. want.subnet:gsub(":", "_")
end

-- The object of the group, and the comment of the rule.
local function mark_of(want)
  return want.set or want.subnet
end

local types = { inet = "ipv4_addr", inet6 = "ipv6_addr" }

local function key_of(want)
  return { [types[want.family]] = want.address }
end

local function comment_of(want, owner)
  local text = ("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)
  if want.set and #text > 128 then text = text:sub(1, 100) .. "/" .. netlink.sys.hash64(text) end
  return nft.comment(text)
end

local function element(want, owner)
  return in_table {
    set = set_of(want),
    elements = { { key = key_of(want), comment = owner and comment_of(want, owner) } },
  }
end

local function checked(found, msg, errno)
  if not found and errno and errno ~= errors.ENOENT then
    fail.kernel("look at the masquerading rules", msg, errno)
  end
  return found
end

local function get(socket, object, key)
  return checked(socket:get(object, key))
end

local function list(socket, object, filter)
  return checked(socket:dump(object, filter)) or {}
end

-- Somebody else's set of that name may be of other keys: then the kernel refuses the question, and the
-- element is not in it.
local function get_element(socket, want)
  local found, msg, errno = socket:get("element", in_table { set = set_of(want), key = key_of(want) })
  if not found and errno == errors.EINVAL then
    local set = get(socket, "set", in_table { name = set_of(want) })
    if set and set.key_type ~= types[want.family] then return nil end
  end
  return checked(found, msg, errno)
end

-- Look at the rules and change them so that nobody else's change comes between. `build` gives the batch.
local function change(socket, what, build)
  local ok, msg, errno, hint
  for _ = 1, patience do
    local generation = checked(socket:generation())
    local batch = build()
    if #batch == 0 then return end
    local at
    ok, msg, errno, at = socket:commit(batch, nil, generation)
    if ok then return end
    hint = errno == errors.ENOENT and require("cni.protocol.hints").expression(batch[at], msg) or nil
    if errno ~= errors.ERESTART then break end
  end
  fail.kernel(what, msg, errno, nil, hint)
end

local function add_table(batch)
  batch[#batch + 1] = { "add", "table", { family = "inet", name = "luacni", comment = layout.of_luacni } }
  batch[#batch + 1] = { "add", "chain", in_table { name = "postrouting", type = "nat",
    hook = "postrouting", priority = 100, policy = "accept" } }
  for _, prefix in ipairs(multicast) do
    batch[#batch + 1] = { "add", "rule", in_table { chain = "postrouting", comment = prefix,
      exprs = nft.rule(nft.daddr(prefix), nft.verdict "return") } }
  end
end

local function add_set(batch, want)
  local proto = want.family == "inet" and "ip" or "ip6"
  local name = set_of(want)
  batch[#batch + 1] = { "add", "set", in_table { name = name, key_type = types[want.family] } }
  batch[#batch + 1] = { "add", "rule", in_table {
    chain = "postrouting", comment = mark_of(want),
    exprs = nft.rule(nft.saddr_in(proto, name), nft.daddr(want.subnet, "!="), nft.masquerade()),
  } }
end

-- The rules of the chain by their comments; nil without the chain.
local function rules_by_mark(socket)
  if not get(socket, "chain", in_table { name = "postrouting" }) then return nil end
  local by = {}
  for _, rule in ipairs(list(socket, "rule", in_table { chain = "postrouting" })) do
    by[rule.comment or ""] = rule
  end
  return by
end

-- Whatever is missing of table, sets and rules, because nobody made it yet or somebody flushed it.
local function make(socket, step)
  change(socket, M.say(step), function()
    local batch, seen = {}, {}
    local rules = rules_by_mark(socket)
    if not rules or not rules[multicast[1]] then
      if rules then batch[1] = { "flush", "chain", in_table { name = "postrouting" } } end
      add_table(batch)
      rules = {}
    end
    for _, want in ipairs(step.want.addresses) do
      local mark = mark_of(want)
      if not seen[mark] and not (rules[mark]
          and get(socket, "set", in_table { name = set_of(want) })) then
        add_set(batch, want)
      end
      seen[mark] = true
    end
    return batch
  end)
end

-- Write the elements. False when the sets have vanished. It looks for each element before, and replaces it:
-- the kernel would refuse a second one, and a refused batch costs a wait for RCU; a look costs nothing.
local function put(socket, step, owner)
  local batch = {}
  for _, want in ipairs(step.want.addresses) do
    if get_element(socket, want) then batch[#batch + 1] = { "del", "element", element(want) } end
    batch[#batch + 1] = { "create", "element", element(want, owner) }
  end
  local ok, msg, errno = socket:commit(batch)
  if not ok and errno ~= errors.ENOENT then fail.kernel(M.say(step), msg, errno) end
  return ok, msg, errno
end

-- Whether each address has the rule of its set. Then the set is there: a rule keeps it from being deleted.
local function all_made(socket, step)
  local made = {}
  for _, rule in ipairs(list(socket, "rule", in_table { chain = "postrouting" })) do
    made[rule.comment or ""] = true
  end
  for _, want in ipairs(step.want.addresses) do
    if not made[mark_of(want)] then return false end
  end
  return true
end

function M.run(step, plan)
  local h = plan[step.ns]
  local socket, group = nft.open(h), group_of(step, h)
  local function join(how)
    plan:lock(group, how)
    for _, want in ipairs(step.want.addresses) do shared.join(group, mark_of(want), plan.owner) end
  end
  join("shared")
  local done, msg, errno
  for _ = 1, patience do
    if not all_made(socket, step) then
      join("exclusive")
      make(socket, step)
    end
    done, msg, errno = put(socket, step, plan.owner)
    if done then return end
  end
  fail.kernel(M.say(step), msg, errno)
end

local function missing(socket, rules, want)
  return not rules[mark_of(want)] and "the rule of its subnet is"
    or not (rules[multicast[1]] and rules[multicast[2]]) and "the rules for multicast are"
    or not get_element(socket, want) and "its element in set " .. set_of(want) .. " is"
end

-- As an older version would have written it down, which had one set for a subnet.
local function of_old(want)
  return { address = want.address, subnet = want.subnet, family = want.family }
end

function M.verify(step, plan)
  local socket = nft.open(plan[step.ns])
  local rules = rules_by_mark(socket) or {}
  for _, want in ipairs(step.want.addresses) do
    local what = missing(socket, rules, want)
    if what and missing(socket, rules, of_old(want))
        and not require("cni.reference.leftovers").masquerades(plan[step.ns], plan.owner, want.address) then
      return ("address %s is not masqueraded: %s missing from table inet luacni"):format(
        want.address, what)
    end
  end
end

-- Remove a set that has no users in our files any more, if it has no element in the kernel either; and the
-- table, if it was the last set.
local function remove(socket, group, want)
  local lock <close> = shared.lock(group, "exclusive")
  local mark, name = mark_of(want), set_of(want)
  if shared.used(group, mark) then return end
  local function batch_of()
    if #list(socket, "element", in_table { set = name }) > 0 then return {} end
    local batch, last = {}, true
    for _, set in ipairs(list(socket, "set", in_table {})) do
      if set.name == name then
        batch[1] = { "del", "set", in_table { name = name } }
      elseif set.name:find("^masq_") then
        last = false
      end
    end
    local rules = rules_by_mark(socket)
    if last then
      if rules then
        table.insert(batch, 1, { "flush", "chain", in_table { name = "postrouting" } })
        table.insert(batch, 2, { "del", "chain", in_table { name = "postrouting" } })
      end
      -- Published ports are in the table too.
      layout.drop_table(batch, socket, "inet", "luacni", { [name] = true, postrouting = true })
    elseif rules and rules[mark] then
      table.insert(batch, 1, { "del", "rule", in_table { chain = "postrouting",
        handle = rules[mark].handle } })
    end
    return batch
  end
  if socket then change(socket, "stop masquerading " .. want.subnet, batch_of) end
  -- Older versions wrote facts about it.
  local facts = shared.facts(group)
  facts.addrs[mark] = nil
  shared.save(group, facts)
  shared.tidy(group, lock)
end

-- Remove the elements of an owner. An element with another owner's comment is that one's.
local function take_out(socket, wants, owner)
  local batch = {}
  for _, want in ipairs(wants) do
    local found = get_element(socket, want)
    if found and found.comment == comment_of(want, owner) then
      batch[#batch + 1] = { "del", "element", element(want) }
    end
  end
  if #batch == 0 then return true end
  local ok, msg, errno = socket:commit(batch)
  if not ok and errno ~= errors.ENOENT then fail.kernel("stop masquerading", msg, errno) end
  return ok
end

-- Without a socket there are no nf_tables: only the books are to be kept.
local function undo(socket, step, plan)
  local group = group_of(step, plan[step.ns])
  local wants = table.move(step.want.addresses, 1, #step.want.addresses, 1, {})
  if plan.mode == "erase" then
    -- Without a record nobody knows which version made the elements.
    for i = 1, #wants do wants[#wants + 1] = of_old(wants[i]) end
  end
  for _ = 1, patience do
    if not socket or take_out(socket, wants, plan.owner) then break end
  end
  for _, want in ipairs(wants) do
    if shared.leave(group, mark_of(want), plan.owner) then remove(socket, group, want) end
  end
end

function M.undo(step, plan)
  undo(nft.open_if_any(plan[step.ns]), step, plan)
end

function M.say(step)
  local words = {}
  for i, want in ipairs(step.want.addresses) do words[i] = want.address end
  return "masquerade " .. table.concat(words, ", ")
end

return M
