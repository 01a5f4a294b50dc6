-- SPDX-License-Identifier: MIT
--- Repairs as soon as the kernel tells of a loss, for `luacni repair`. Here it is only listened; each repair
-- is done by a program, which ends and gives its memory back.
-- @module cni.command.repair_watch

local fail = require "cni.fail"
local host = require "host"
local json = require "cni.json"
local netlink = require "netlink"
local say = require "cni.command.say"

local sys = netlink.sys

local M = {}

-- Who flushes rules often makes others at once: the end of that is waited for, but not long.
local quiet_ms <const>, longest_ms <const> = 10, 50

-- Where things are lost again and again, repairs take a tenth of a processor at the most; but a loss waits no
-- longer than some seconds, or than a repair takes. The first in a row wait for nothing.
local share <const>, free <const>, least_pause_ms <const>, longest_pause_ms <const> = 9, 3, 200, 5000

-- What looks like a problem may be an ADD or DEL that is at work.
local second_look_ms <const> = 2000

-- The kernel does not tell of everything: not of most settings, nor of a namespace that it has no number for.
local anyway_ms <const> = 300000

-- A repair of thousands of attachments takes long, and says a line for each step.
local timeout_ms <const>, most_bytes <const> = 3600000, 256 << 20

local function now_ms() return sys.clock() * 1000 // 1 | 0 end

local function begin_to_listen()
  local losses, msg, errno = netlink.losses()
  if not losses then fail.kernel("repair --watch", msg, errno) end
  return losses
end

local function listen(losses, ms)
  local lost, msg, errno = losses:wait(ms)
  if lost == nil then fail.kernel("repair --watch", msg, errno) end
  return lost
end

local function settle(losses)
  local till = now_ms() + longest_ms
  while now_ms() < till and listen(losses, quiet_ms) do end
end

-- Whether something was lost meanwhile.
local function pause(losses, ms)
  local till, lost = now_ms() + ms, false
  while now_ms() < till do lost = listen(losses, till - now_ms()) or lost end
  return lost
end

-- What the repairs have taken of the processors so far. (Waiting for a lock is no work.)
local function worked_ms()
  local text = sys.read_file "/proc/self/stat" or ""
  local user, system = text:match "%) %S %d+ %d+ %d+ %d+ %-?%d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ (%d+) (%d+)"
  return user and (tonumber(user) + tonumber(system)) * 10 or 0
end

-- A repair, told as JSON. What is not about an attachment ends the watch as it would have ended the repair.
local function repair(argv)
  local function run(path)
    return sys.exec { path = path, argv = argv, env = host.environ(), timeout_ms = timeout_ms,
      stdout_limit = most_bytes }
  end
  local ran, msg, errno = run(argv[1])
  -- A newer program may stand in its place, or none.
  if not ran and errno == sys.errno.ENOENT then ran, msg, errno = run "/proc/self/exe" end
  if not ran then fail.kernel("repair", msg, errno) end
  local ok, list = pcall(json.decode, ran.stdout, "the repair's answer")
  if ran.stderr ~= "" then host.write(2, ran.stderr) end
  if not ok then return nil, ran.status or 1 end
  return list
end

-- What to tell of a repair: all that was done, and problems that are new, once a second repair has met them
-- too: an attachment that just comes or goes looks like one with a problem.
local function news(list, met)
  local told, seen, unsure = json.list {}, {}, false
  for _, entry in ipairs(list) do
    local problems = json.list {}
    for _, problem in ipairs(entry.problems) do
      local key = table.concat({ entry.network, entry.container, entry.interface, entry.since or "",
        problem.type, problem.problem }, "\0")
      seen[key] = met[key] and "told" or "met"
      unsure = unsure or not met[key]
      if met[key] == "met" then problems[#problems + 1] = problem end
    end
    entry.problems = problems
    if entry.steps[1] or problems[1] then told[#told + 1] = entry end
  end
  return told, seen, unsure
end

local function tell(told, as_json)
  if as_json then
    if told[1] then say.lines { json.compact(told) } end
    return
  end
  for _, entry in ipairs(told) do
    local said, lines = {}, {}
    local function line(of, text)
      local words = ("%s  %s %s  %s  %s"):format(entry.network, entry.container, entry.interface, of, text)
      if said[words] then return end
      said[words], lines[#lines + 1] = true, words
      return words
    end
    for _, step in ipairs(entry.steps) do line(step.type, step.differs) end
    if lines[1] then say.lines(lines) end
    for _, problem in ipairs(entry.problems) do
      local words = line(problem.type, problem.problem)
      if words then host.log("luacni: " .. words) end
    end
  end
end

--- Repair, and again whenever the kernel tells that something was lost, until a signal ends it.
-- @tparam {string,...} argv of a repair, without its options for what is printed
-- @tparam boolean as_json print a list for each repair that has something to tell
-- @treturn integer exit status of a repair that could not be
function M.run(argv, as_json)
  local losses <close> = begin_to_listen()
  argv = table.move(argv, 1, #argv, 2, { assert(host.exe()) })
  argv[#argv + 1] = "--json"
  local met, announced, in_a_row = {}, false, 0
  while true do
    local before = worked_ms()
    local list, status = repair(argv)
    if not list then return status end
    local told, unsure
    told, met, unsure = news(list, met)
    pcall(tell, told, as_json) -- a disk that is full is no reason to watch no more
    if not announced then host.log "luacni: watching" end
    announced = true
    local work, rest = worked_ms() - before, least_pause_ms
    in_a_row = in_a_row + 1
    if in_a_row > free then
      rest = math.max(rest, math.min(work * share, math.max(work, longest_pause_ms)))
    end
    if unsure then
      pause(losses, math.max(rest, second_look_ms))
    elseif not pause(losses, rest) then
      in_a_row = 0
      if listen(losses, anyway_ms) then settle(losses) end
    end
  end
end

return M
