-- SPDX-License-Identifier: MIT
--- What all steps about one entry of the kernel's tables have in common: a rule, a neighbour, an address in
-- a bridge's or tunnel's forwarding table, a route that goes with no link of ours.
--
-- Attachments may want the very same entry. So its users are written down (cni.record.shared), and it goes
-- with the last one, if it was made here. An entry that is to be new is refused when it is there already. An
-- entry on a link that the same plan makes goes with the link (`covered`): no users are written down.
--
-- The step's `want` has `entry`, as the kind understands it; `key`, which tells it from other entries of
-- the namespace; `link`, the link it is on, if any; `new`; `group`.
--
-- @module cni.step.entry

local fail = require "cni.fail"
local netlink = require "netlink"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local M = {}

--- What tells an entry from others, short enough to be the name of a file.
-- @tparam string text all that it is
-- @treturn string
function M.key(text)
  return #text <= 200 and text or text:sub(1, 150) .. "~" .. netlink.sys.hash64(text)
end

local function send(h, requests, what, content, cause)
  local ok, msg, errno = h:socket():send(requests)
  if not ok and not (content and content[errno]) then
    fail.kernel(what, msg, errno, nil, cause and cause(errno) or nil)
  end
end

--- Make the functions of a kind.
-- @tparam table kind
--   say(want)             the entry in words
--   there(want, h)        whether the kernel has it
--   taken(want, h)        optional: what is in its place, in words, when it is not there
--   add(want, h)          the request that adds it
--   remove(want, h)       the request that removes it; nil or false when its link is gone
--   cause(want, h, errno) optional: why it was refused
--   cannot(want, h)       optional: why the kernel would accept it and not do it
--   faithful              the kernel has whatever it accepts: nobody need look
-- @treturn table the step kind
function M.kind(kind)
  local step_kind = {}

  local function put(want, h)
    local why = kind.cannot and kind.cannot(want, h)
    if why then fail.throw { msg = ("add %s: %s"):format(kind.say(want), why) } end
    send(h, { kind.add(want, h) }, "add " .. kind.say(want), nil, kind.cause and function(errno)
      return kind.cause(want, h, errno)
    end)
    -- The kernel says "done" to some entries and keeps nothing of them, or not what was asked for.
    if kind.faithful or kind.there(want, h) then return end
    local request = kind.remove(want, h)
    if request then h:socket():send { request } end
    fail.throw { msg = ("add %s: the kernel has accepted it, and does not have it"):format(kind.say(want)) }
  end

  local function refuse(want, user)
    fail.throw { msg = ("%s is there already"):format(kind.say(want)),
      details = user and ("it belongs to %s (network:container:interface)"):format(user) or nil,
      hint = "what attachments share is made with the verb that begins with ensure_" }
  end

  function step_kind.run(step, plan)
    local want, h = step.want, plan[step.ns]
    if step.covered then return put(want, h) end
    local lock <close> = shared.lock(want.group, "exclusive")
    local used, there = shared.used(want.group, want.key), kind.there(want, h)
    local facts = shared.facts(want.group)
    facts.made = facts.made or {}
    -- Of what is made anew it is a user itself.
    if want.new and (used and plan.mode ~= "repair" or there and not facts.made[want.key]) then
      local user = used and shared.a_user(want.group, want.key)
      shared.tidy(want.group, lock)
      refuse(want, user)
    end
    local taken = not there and kind.taken and kind.taken(want, h)
    if taken then
      shared.tidy(want.group, lock)
      fail.throw { msg = ("%s: %s already"):format(kind.say(want), taken) }
    end
    shared.join(want.group, want.key, plan.owner)
    if there then return end
    facts.made[want.key] = true
    shared.save(want.group, facts)
    put(want, h)
  end

  function step_kind.verify(step, plan)
    if not kind.there(step.want, plan[step.ns]) then return kind.say(step.want) .. " is missing" end
  end

  local gone = { [errors.ENOENT] = true, [errors.ESRCH] = true, [errors.ENODEV] = true }

  function step_kind.undo(step, plan)
    local want, h = step.want, plan[step.ns]
    if not want.group then -- on a link of the attachment's own, which stays
      local own = not h.absent and h:link(want.link) and kind.there(want, h) and kind.remove(want, h)
      if own then send(h, { own }, "remove " .. kind.say(want), gone) end
      return
    end
    if not shared.leave(want.group, want.key, plan.owner) then return end
    local lock <close> = shared.lock(want.group, "exclusive")
    if shared.used(want.group, want.key) then return end
    local facts = shared.facts(want.group)
    facts.made = facts.made or {}
    -- The facts of an entry that was to be new may be lost: cni.engine.erase has found out that it is ours.
    local ours = facts.made[want.key] or plan.mode == "erase" and want.new
    local request = ours and not h.absent and kind.there(want, h) and kind.remove(want, h)
    if request then send(h, { request }, "remove " .. kind.say(want), gone) end
    facts.made[want.key] = nil
    shared.save(want.group, facts)
    shared.tidy(want.group, lock)
  end

  function step_kind.key(step)
    local want = step.want
    return want.key or want.link .. " " .. kind.say(want)
  end

  function step_kind.change(_, to, plan)
    if to.want.group then shared.join(to.want.group, to.want.key, plan.owner) end
  end

  function step_kind.say(step)
    local want = step.want
    return ("%s %s in the %s"):format(want.new and "add" or "make sure of", kind.say(want),
      step.ns == "pod" and "sandbox" or "host")
  end

  return step_kind
end

return M
