-- SPDX-License-Identifier: MIT
--- Step `head`: rules at the head of iptables' FORWARD, which all attachments share: one that accepts what
-- has a mark (cni.forwarded sets it), and ahead of it a jump to the administrator's chain. Where iptables is
-- installed and has not made its chain yet, that is made as iptables makes it: Docker or ufw, started later,
-- have it drop then. It goes with the last attachment, unless somebody else has rules there by then, or a
-- policy.
--
--     table ip filter
--       chain CNI-ADMIN     empty when it is made, then the administrator's; it stays while it has a rule
--       chain FORWARD       counter jump CNI-ADMIN
--                           meta mark & 0x1000 == 0x1000 counter accept
--                           ... what others have there
--
-- The handles of the rules are written down: an ADD asks for these two, and does not list the chain. When
-- somebody has flushed it, the next ADD makes them anew. cni.reference.legacy does the same in the older
-- tables of iptables, where there are such.
--
-- @module cni.step.head

local fail = require "cni.fail"
local files = require "cni.record.files"
local layouts = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local M = {}

local families = { ip = "iptables", ip6 = "ip6tables" }
local folders <const> = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" }

local function in_filter(family, fields)
  fields.family, fields.table = family, "filter"
  return fields
end

local function checked(found, msg, errno)
  if found == nil and errno and errno ~= errors.ENOENT then
    fail.kernel("look at iptables' FORWARD", msg, errno)
  end
  return found
end

local function chain_of(socket, family, name)
  return checked(socket:get("chain", in_filter(family, { name = name })))
end

local function forward(family, handle)
  return in_filter(family, { chain = "FORWARD", handle = handle })
end

-- Whether iptables has its chain, or somebody else one that is like it.
local function has_forward(socket, family)
  local found = chain_of(socket, family, "FORWARD")
  return found ~= nil and found.hook == "forward"
end

-- Whether the chain is to be made: there is none of that name, and there is who would make it later. Where
-- the older tables are in use, he would make it there.
local function is_to_make(socket, family)
  if chain_of(socket, family, "FORWARD") or require("cni.reference.legacy").has_filter(family) then
    return false
  end
  for _, folder in ipairs(folders) do
    if files.exists(folder .. "/" .. families[family]) then return true end
  end
  return false
end

-- Rules -----------------------------------------------------------------------------------

local function bytes_of(bit) return string.pack("=I4", 1 << bit) end

local function accepting(bit)
  return { { "meta", key = "mark", dreg = 1 },
    { "bitwise", sreg = 1, dreg = 1, len = 4, mask = bytes_of(bit), xor = ("\0"):rep(4) },
    { "cmp", sreg = 1, op = "eq", data = bytes_of(bit) }, { "counter" },
    { "immediate", dreg = "verdict", data = { verdict = "accept" } } }
end

local function jump(name)
  return { { "counter" }, { "immediate", dreg = "verdict", data = { verdict = "jump", chain = name } } }
end

local function verdict_of(rule)
  local last = rule.exprs and rule.exprs[#rule.exprs]
  return last and last[1] == "immediate" and type(last.data) == "table" and last.data or {}
end

local function is_accepting(rule, bit)
  local exprs = rule.exprs or {}
  local mask, value = exprs[2], exprs[3]
  return #exprs == 5 and exprs[1][1] == "meta" and exprs[1].key == "mark" and mask[1] == "bitwise"
    and mask.mask == bytes_of(bit) and value[1] == "cmp" and value.op == "eq" and value.data == bytes_of(bit)
    and verdict_of(rule).verdict == "accept"
end

local function is_jump(rule, name)
  local exprs = rule.exprs or {}
  return #exprs <= 2 and (#exprs == 1 or exprs[1][1] == "counter") and verdict_of(rule).verdict == "jump"
    and verdict_of(rule).chain == name
end

-- Objects of the group, and what is written down of each.
local function mark_object(want, family) return ("mark %d %s"):format(want.bit, family) end
local function admin_object(name, family) return ("admin %s %s"):format(name, family) end
local function forward_fact(family) return "FORWARD " .. family end

-- The names of the administrators' chains that attachments have.
local function admins(group, family)
  local names = {}
  for _, object in ipairs(shared.objects(group)) do
    names[#names + 1] = object:match("^admin (.*) " .. family .. "$")
  end
  return names
end

-- Making ----------------------------------------------------------------------------------

local function objects_of(want, visit)
  for _, family in ipairs(want.families) do
    visit(mark_object(want, family))
    visit(admin_object(want.chain, family))
  end
end

local function take(plan, want, how)
  plan:lock(want.group, how)
  objects_of(want, function(object) shared.join(want.group, object, plan.owner) end)
end

-- Whether the rules are where they were made.
local function stands(socket, want, family, handles)
  local function rule(object, is, what)
    local handle = handles[object]
    local found = handle and checked(socket:get("rule", forward(family, handle)))
    return found and is(found, what)
  end
  return rule(mark_object(want, family), is_accepting, want.bit)
    and rule(admin_object(want.chain, family), is_jump, want.chain)
end

local function listed(socket, family, chain)
  return checked(socket:dump("rule", in_filter(family, { chain = chain or "FORWARD" }))) or {}
end

local function find(rules, is, what)
  for at, rule in ipairs(rules) do
    if is(rule, what) then return rule, at end
  end
end

-- The part of a batch for a family: what is missing comes first, and jumps ahead of it.
local function put(batch, socket, want, family)
  local rules = listed(socket, family)
  local accept, at = find(rules, is_accepting, want.bit)
  local own, own_at = find(rules, is_jump, want.chain)
  local function add(verb, fields)
    fields.chain = "FORWARD"
    batch[#batch + 1] = { verb, "rule", in_filter(family, fields) }
  end
  if not chain_of(socket, family, want.chain) then
    batch[#batch + 1] = { "add", "chain", in_filter(family, { name = want.chain }) }
  end
  if not accept then
    add("insert", { exprs = accepting(want.bit) })
    for _, name in ipairs(admins(want.group, family)) do
      local other = name ~= want.chain and find(rules, is_jump, name)
      if other then
        add("del", { handle = other.handle })
        add("insert", { exprs = jump(name) })
      end
    end
  end
  if own and not (accept and own_at < at) then add("del", { handle = own.handle }) end
  if not (own and accept and own_at < at) then add("insert", { exprs = jump(want.chain) }) end
end

-- Make what is missing; hold the lock exclusively.
local function make(socket, want, what)
  local facts = shared.facts(want.group)
  local made = facts.made or {}
  facts.made = made
  for _, family in ipairs(want.families) do
    local key = admin_object(want.chain, family)
    -- We make it together with the jump.
    if has_forward(socket, family) and not made[key] and chain_of(socket, family, want.chain)
      and not find(listed(socket, family), is_jump, want.chain) then
      made["there: " .. key] = true
    end
    if is_to_make(socket, family) then
      made[forward_fact(family)] = true
      shared.save(want.group, facts)
    end
  end
  layouts.change(socket, what, function()
    local batch = {}
    for _, family in ipairs(want.families) do
      local makes = made[forward_fact(family)] and not chain_of(socket, family, "FORWARD")
      if makes then
        batch[#batch + 1] = { "add", "table", { family = family, name = "filter" } }
        batch[#batch + 1] = { "add", "chain", in_filter(family, { name = "FORWARD", type = "filter",
          hook = "forward", priority = 0, policy = "accept" }) }
      end
      if makes or has_forward(socket, family) then put(batch, socket, want, family) end
    end
    return batch
  end)
  for _, family in ipairs(want.families) do
    local rules = has_forward(socket, family) and listed(socket, family) or {}
    made[mark_object(want, family)] = (find(rules, is_accepting, want.bit) or {}).handle
    for _, name in ipairs(admins(want.group, family)) do
      made[admin_object(name, family)] = (find(rules, is_jump, name) or {}).handle
    end
  end
  shared.save(want.group, facts)
end

function M.run(step, plan)
  local want = step.want
  local socket = nft.open(plan[step.ns])
  take(plan, want, "shared")
  local handles, lacking = shared.facts(want.group).made or {}, false
  for _, family in ipairs(want.families) do
    if has_forward(socket, family) then
      lacking = lacking or not stands(socket, want, family, handles)
    else
      lacking = lacking or is_to_make(socket, family)
    end
  end
  if lacking then
    take(plan, want, "exclusive")
    make(socket, want, M.say(step))
  end
  for _, family in ipairs(want.families) do
    require("cni.reference.legacy").accept(family, want.bit, want.chain)
  end
end

-- Comparing -------------------------------------------------------------------------------

local function differs(socket, want, family)
  if not has_forward(socket, family) then
    local made = (shared.facts(want.group).made or {})[forward_fact(family)]
    return made and is_to_make(socket, family) and ("chain FORWARD of table %s filter is gone"):format(family)
      or nil
  end
  local rules = listed(socket, family)
  local accept, at = find(rules, is_accepting, want.bit)
  local own, own_at = find(rules, is_jump, want.chain)
  return not accept and ("the rule for packets with the mark 0x%x is missing from FORWARD of table %s filter")
      :format(1 << want.bit, family)
    or not own and ("FORWARD of table %s filter does not lead to chain %s"):format(family, want.chain)
    or own_at > at and ("FORWARD of table %s filter leads to chain %s after it has accepted"):format(family,
      want.chain)
end

function M.verify(step, plan)
  local want = step.want
  local socket = nft.open(plan[step.ns])
  for _, family in ipairs(want.families) do
    local text = differs(socket, want, family)
      or require("cni.reference.legacy").lacks(family, want.bit, want.chain)
    local theirs = text and require("cni.reference.leftovers").accepts(plan[step.ns], plan.owner, want)
    if text and not theirs then return text end
  end
end

-- Taking back -----------------------------------------------------------------------------

-- What goes with the last user of the administrator's chain, unless that has a rule: then both stay.
local function drop_admin(batch, socket, family, name, was_there)
  local chain = chain_of(socket, family, name)
  if not chain or #listed(socket, family, name) > 0 then return end
  local rule = find(listed(socket, family), is_jump, name)
  if rule then batch[#batch + 1] = { "del", "rule", forward(family, rule.handle) } end
  if not was_there and (chain.use or 0) <= (rule and 1 or 0) then
    batch[#batch + 1] = { "del", "chain", in_filter(family, { name = name }) }
  end
end

-- The chain that was made here goes with its last rule, and the table with its last chain. A batch has what
-- is deleted already.
local function drop_forward(batch, socket, family)
  local rules, chains = 0, 1
  for _, change in ipairs(batch) do
    local what, fields = change[2], change[3]
    if fields.family == family then
      if what == "rule" then rules = rules + 1 else chains = chains + 1 end
    end
  end
  local chain = chain_of(socket, family, "FORWARD")
  if not chain or chain.policy ~= "accept" or chain.use ~= rules then return end
  batch[#batch + 1] = { "del", "chain", in_filter(family, { name = "FORWARD" }) }
  local container = checked(socket:get("table", { family = family, name = "filter" }))
  if container and container.use == chains then
    batch[#batch + 1] = { "del", "table", { family = family, name = "filter" } }
  end
end

-- Whether others, of whom our books do not know, use these rules: nobody does by our books, and yet the
-- layout that sets the mark is there.
local function is_used(socket, want, unused)
  for _, family in ipairs(want.families) do
    if not unused[mark_object(want, family)] then return false end
  end
  return checked(socket:get("chain", { family = "inet", table = "luacni", name = want.marks })) ~= nil
end

-- Without a socket there are no nf_tables, and nobody uses what is in them.
local function drop(socket, want, unused)
  local facts = shared.facts(want.group)
  local made = facts.made or {}
  facts.made = made
  local function batch_of()
    local batch = {}
    for object in pairs(unused) do
      local kind, name, family = object:match "^(%a+) (.*) (ip6?)$"
      if kind == "mark" and has_forward(socket, family) then
        local rule = find(listed(socket, family), is_accepting, math.tointeger(name))
        if rule then batch[#batch + 1] = { "del", "rule", forward(family, rule.handle) } end
      elseif kind == "admin" then
        drop_admin(batch, socket, family, name, made["there: " .. object])
      end
    end
    for family in pairs(families) do
      if made[forward_fact(family)] then drop_forward(batch, socket, family) end
    end
    return batch
  end
  if not socket or not is_used(socket, want, unused) then
    if socket then layouts.change(socket, "take the rule out of iptables' FORWARD", batch_of) end
    for object in pairs(unused) do
      local kind, name, family = object:match "^(%a+) (.*) (ip6?)$"
      require("cni.reference.legacy").lets_go(family, kind == "mark" and math.tointeger(name) or nil,
        kind == "admin" and name or nil)
    end
  end
  for object in pairs(unused) do made[object], made["there: " .. object] = nil, nil end
  for family in pairs(families) do
    local key = forward_fact(family)
    made[key] = made[key] and socket and chain_of(socket, family, "FORWARD") ~= nil or nil
  end
  shared.save(want.group, facts)
end

function M.key(step) return ("%d %s"):format(step.want.bit, step.want.chain) end

--- A family that is wanted no more has it until the attachment goes.
function M.adopt(to, from)
  local all, has = {}, {}
  for _, list in ipairs { from.want.families, to.want.families } do
    for _, family in ipairs(list) do
      if not has[family] then has[family], all[#all + 1] = true, family end
    end
  end
  to.want.families = all
end

function M.change(_, to, plan) M.run(to, plan) end

local function undo(step, plan, staying)
  local h, want = plan[step.ns], step.want
  if h.absent then return end
  local unused, group = {}, want.group
  objects_of(want, function(object)
    if not staying[object] and shared.leave(group, object, plan.owner) then unused[object] = true end
  end)
  local socket = nft.open_if_any(h)
  -- The reference may have made the attachment, before or after we did.
  if socket then require("cni.reference.leftovers").accept_no_more(socket, want.addresses) end
  if not next(unused) then return end
  local lock <close> = shared.lock(group, "exclusive")
  for object in pairs(unused) do
    if shared.used(group, object) then unused[object] = nil end
  end
  drop(socket, want, unused)
  shared.tidy(group, lock)
end

function M.undo(step, plan) undo(step, plan, {}) end

--- But for the rules that other steps have too.
function M.drop(step, plan, rest)
  local staying = {}
  for _, other in ipairs(rest) do
    if other.kind == step.kind then objects_of(other.want, function(object) staying[object] = true end) end
  end
  undo(step, plan, staying)
end

function M.say(step)
  local want, words = step.want, {}
  for i, family in ipairs(want.families) do words[i] = families[family] end
  return ("let %s pass what is marked 0x%x, after chain %s"):format(table.concat(words, " and "),
    1 << want.bit, want.chain)
end

return M
