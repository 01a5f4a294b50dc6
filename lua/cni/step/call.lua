-- SPDX-License-Identifier: MIT
--- Step `call`: a program that a script runs. What it prints is written down for CHECK and undo. Its undo is
-- another call, which has that on its standard input. The undo comes last, since it may give back something
-- that others are given then.
-- @module cni.step.call

local delegate = require "cni.step.delegate"
local fail = require "cni.fail"
local netlink = require "netlink"
local once = require "cni.step.once"

local sys = netlink.sys
local M = { new_only = "it is called by an ADD", last = true }

local function words(call)
  return table.concat({ call.program, table.unpack(call.args or {}) }, " ")
end

-- The errnos by which a program is not begun.
local not_run <const> = { [sys.errno.ENOENT] = true, [sys.errno.ENOTDIR] = true, [sys.errno.EACCES] = true,
  [sys.errno.EPERM] = true, [sys.errno.ENOEXEC] = true, [sys.errno.ELOOP] = true }

-- Who the call is for, as plugins are told.
local function environment(plan, command)
  local owner, about = plan.owner, plan.request
  about = about or { netns = plan.record.header.netns, args = plan.record.header.args }
  local text = require("cni.protocol.request").args_text(about)
  return {
    "CNI_COMMAND=" .. command, "CNI_CONTAINERID=" .. owner.id, "CNI_IFNAME=" .. owner.ifname,
    "CNI_NETNS=" .. (about.netns or ""), "CNI_ARGS=" .. (text or ""),
    "LUACNI_NETWORK=" .. owner.network, "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    table.unpack(plan.watch and plan.watch:entries() or {}),
  }
end

local longest <const> = 64 << 10

-- What keeps a program from being run, if that can be seen.
local function cause(program, errno)
  local about = errno == sys.errno.EACCES and sys.stat(program)
  if about and about.type == "file" and about.mode & 73 == 0 then -- 0111
    return ("it is not executable: chmod +x %s"):format(program)
  end
  return errno == sys.errno.ENOEXEC and "it is no program, and has no first line such as #!/bin/sh" or nil
end

--- Run a program for a step, as long as there is time.
-- @tparam table step
-- @tparam table plan
-- @tparam string command ADD, CHECK or DEL
-- @tparam string what it does, in words
-- @tparam table call `program`, `args`, `stdin`, `file`, `timeout`; `ns` where that is not the step's
-- @treturn table as of netlink.sys.exec
-- @treturn[2] nil
-- @treturn[2] fail why it could not be run, or did not come to an end
-- @treturn[2] boolean true when it was not even begun
function M.exec(step, plan, command, what, call)
  local h = plan[call.ns or step.ns]
  if h.absent then
    return nil, fail.new { code = fail.codes.netns, msg = what .. ": its sandbox is gone" }
  end
  local ms = delegate.patience(plan.request or plan, command, call.timeout)
  local ran, msg, errno = sys.exec {
    path = call.program, argv = { call.program, table.unpack(call.args or {}) },
    env = environment(plan, command), stdin = call.stdin, file = call.file, ns = h.where, timeout_ms = ms,
    stdout_limit = longest,
  }
  if ran then return ran end
  if errno == sys.errno.ETIMEDOUT then
    return nil, fail.new { code = fail.codes.again, errno = errno,
      msg = ("%s did not end within %.1f seconds; it was ended"):format(what, ms / 1000) }
  end
  if errno == sys.errno.EFBIG then msg = "it says more than 64 KiB" end
  local err = fail.new { msg = ("%s: %s"):format(what, msg), errno = errno,
    hint = cause(call.program, errno) }
  return nil, err, not_run[errno] ~= nil
end

-- Run a program; nil and what went wrong when it fails, or could not be run; and true when it was not begun.
local function run(step, plan, command, call, stdin)
  local given = setmetatable({ stdin = call.stdin or stdin }, { __index = call })
  local ran, err, never = M.exec(step, plan, command, words(call), given)
  if not ran then return nil, err, never end
  if ran.status == 0 then return ran.stdout end
  local said = (ran.stderr ~= "" and ran.stderr or ran.stdout):gsub("%s+$", "")
  return nil, fail.new { msg = ("%s failed: %s"):format(words(call),
    ran.signal and "signal " .. ran.signal or "exit status " .. ran.status), details = said:sub(1, 2000) }
end

function M.run(step, plan)
  local text, err, never = run(step, plan, "ADD", step.want.call)
  if never then step.did = nil end
  if not text then error(err, 0) end
  return once.keep(plan, "call", step.want.nth, text)
end

function M.verify(step, plan)
  local check = step.want.check
  if not check then return nil end
  local text, err = run(step, plan, "CHECK", check, M.printed(step, plan))
  return not text and tostring(err) or nil
end

--- What the call printed, if that is written down.
function M.printed(step, plan)
  local record = plan.past and plan:past()
  local _, text = once.find(record and record.steps or plan.steps, step.kind, step.want.nth)
  return text
end

local nowhere = { [sys.errno.ENOENT] = true, [sys.errno.ENOTDIR] = true }

--- Say what is not taken back.
function M.goes_without(plan, err)
  plan:tell("DEL goes without " .. tostring(err))
end

--- Raise the error of an undo; but only log it when the program is there no more: else the container could
-- never be deleted.
function M.unless_gone(plan, err)
  if not nowhere[err.errno] then error(err, 0) end
  M.goes_without(plan, err)
end

function M.undo(step, plan)
  local undo = step.want.undo
  if not undo then return end
  if plan[undo.ns or step.ns].absent then
    return M.goes_without(plan, words(undo) .. ": its sandbox is gone")
  end
  local text, err = run(step, plan, "DEL", undo, M.printed(step, plan))
  if not text then M.unless_gone(plan, err) end
end

function M.say(step)
  local want = step.want
  return ("run %s; DEL runs %s%s"):format(words(want.call), want.undo and words(want.undo) or "nothing",
    want.check and "; CHECK runs " .. words(want.check) or "")
end

--- Run a program, by the plan's mode.
-- @tparam table plan
-- @tparam string ns "host" or "pod"
-- @tparam table want `call`, `check`, `undo`
-- @string[opt="call"] kind of step
-- @treturn string|nil what it printed
function M.obtain(plan, ns, want, kind)
  local step = { kind = kind or "call", ns = ns, want = want }
  want.nth = 1
  for _, other in ipairs(plan.steps) do
    if other.kind == step.kind then want.nth = want.nth + 1 end
  end
  if plan.mode == "apply" then
    plan:flush()
    return plan:now(step)
  end
  plan:push(step)
  return plan.attached and M.printed(step, plan) or nil
end

return M
