-- SPDX-License-Identifier: MIT
--- Step `nft_rule`: a rule of this attachment alone, in a chain that another step has made
-- (cni.step.elements). Its comment says whose it is, and which of that one's rules.
--
-- To take it back its comment is enough, and CHECK has it from the script; the record has it to be made anew.
--
-- @module cni.step.nft_rule

local fail = require "cni.fail"
local layouts = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"

local errors = netlink.sys.errno
local M = {}

local function comment_of(step, plan)
  return layouts.owner_comment(plan.owner, step.want.number)
end

local function in_chain(want, fields)
  fields.family, fields.table, fields.chain = want.family, want.table, want.chain
  return fields
end

-- The rules with the step's comment.
local function find(socket, step, plan)
  local rules, msg, errno = socket:dump("rule", in_chain(step.want, {}))
  if not rules and errno ~= errors.ENOENT then
    fail.kernel("look at chain " .. step.want.chain, msg, errno)
  end
  local list, comment = {}, comment_of(step, plan)
  for _, rule in ipairs(rules or {}) do
    if rule.comment == comment then list[#list + 1] = rule end
  end
  return list
end

-- What the rule is; a record of an older version does not tell.
local function rule_of(step)
  local rule = step.rule or layouts.thaw(step.want.frozen)
  return rule or fail.throw { hint = "DEL and ADD make it anew",
    msg = M.say(step) .. ": its record is of a version that did not write rules down" }
end

function M.run(step, plan)
  local socket = nft.open(plan[step.ns])
  local ok, msg, errno, at = layouts.commit(socket, { { "add", "rule",
    in_chain(step.want, { exprs = rule_of(step), comment = comment_of(step, plan) }) } })
  if not ok then
    fail.kernel(M.say(step), msg, errno, nil, at and errno == errors.ENOENT
      and require("cni.protocol.hints").expression({ "add", "rule", { exprs = rule_of(step) } }, msg) or nil)
  end
end

function M.key(step)
  local want = step.want
  return ("%s %s %s %d"):format(want.family, want.table, want.chain, want.number)
end

--- The one in the place of the other, at once.
function M.change(_, to, plan)
  local socket, batch = nft.open(plan[to.ns]), {}
  for _, rule in ipairs(find(socket, to, plan)) do
    batch[#batch + 1] = { "del", "rule", in_chain(to.want, { handle = rule.handle }) }
  end
  batch[#batch + 1] = { "add", "rule",
    in_chain(to.want, { exprs = rule_of(to), comment = comment_of(to, plan) }) }
  local ok, msg, errno = layouts.commit(socket, batch)
  if not ok then fail.kernel(M.say(to), msg, errno) end
end

function M.verify(step, plan)
  local socket = nft.open(plan[step.ns])
  local found, want = find(socket, step, plan)[1], step.want
  local place = ("chain %s of table %s %s"):format(want.chain, want.family, want.table)
  if not found then return ("its rule %d is missing from %s"):format(want.number, place) end
  if #(found.exprs or {}) ~= #rule_of(step) then
    return ("its rule %d in %s is another"):format(want.number, place)
  end
end

function M.undo(step, plan)
  local h = plan[step.ns]
  if h.absent then return end
  local socket = nft.open_if_any(h)
  local batch = {}
  for i, rule in ipairs(socket and find(socket, step, plan) or {}) do
    batch[i] = { "del", "rule", in_chain(step.want, { handle = rule.handle }) }
  end
  if #batch > 0 then
    local ok, msg, errno = socket:commit(batch)
    if not ok and errno ~= errors.ENOENT then fail.kernel("undo: " .. M.say(step), msg, errno) end
  end
end

function M.say(step)
  local want = step.want
  return ("add rule %d to chain %s of table %s %s"):format(want.number, want.chain, want.family, want.table)
end

return M
