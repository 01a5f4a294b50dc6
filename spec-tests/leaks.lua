-- SPDX-License-Identifier: MIT
-- Holds every test to leaving nothing behind: the handler asks for the state
-- before a test and for what is new after it.

local lfs = require "lfs"
local system = require "system"
local t = require "support"

local M = {}

local function lines_of(path, edit)
  local set = {}
  for line in (t.read(path) or ""):gmatch("[^\n]+") do
    line = edit and edit(line) or line
    set[line] = true
  end
  return set
end

local function open_fds()
  local fds = {}
  for name in lfs.dir("/proc/self/fd") do
    local target = lfs.symlinkattributes("/proc/self/fd/" .. name, "target")
    -- The listing's own descriptor is gone by the time it is looked at.
    if target and not target:find("^/proc/%d+/fd$") then
      fds["descriptor " .. name .. " " .. target] = true
    end
  end
  return fds
end

local own_mnt = lfs.symlinkattributes("/proc/self/ns/mnt", "target")

local function processes()
  local set = {}
  for name in lfs.dir("/proc") do
    if name:find("^%d+$")
      and lfs.symlinkattributes("/proc/" .. name .. "/ns/mnt", "target") == own_mnt then
      local words = (t.read("/proc/" .. name .. "/cmdline") or ""):gsub("%z", " ")
      set["process " .. name .. " " .. words] = true
    end
  end
  return set
end

local function first_word(line) return line:match("^%s*([^:%s]+)") end

local function nft_and_rules()
  local lines = {}
  for line in t.glance():gmatch("[^\n]+") do
    local kind = line:match("^%S+ (%S+)")
    if kind == "rule" or kind == "table" or kind == "chain" or kind == "rules" or kind == "set"
      or kind == "element" then
      lines[line] = true
    end
  end
  return lines
end

local function state()
  collectgarbage()
  collectgarbage()
  return {
    fds = open_fds(),
    self = { [lfs.symlinkattributes("/proc/self/ns/net", "target")] = true },
    links = lines_of("/proc/self/net/dev", first_word),
    addr6 = lines_of("/proc/self/net/if_inet6"),
    routes = lines_of("/proc/self/net/fib_trie"),
    routes6 = lines_of("/proc/self/net/ipv6_route",
      function(line) return (line:gsub("(%x+) %x+ %x+ (%x+ +%S+)$", "%1 %2")) end),
    mounts = lines_of("/proc/self/mountinfo",
      function(line) return (line:gsub("^%d+ %d+ ", "")) end),
    processes = processes(),
    resolver = lines_of("/etc/resolv.conf"),
  }
end

local before, rules_seen

--- Note the state before a test. Called by the handler.
function M.watch()
  before = state()
  before.spawned = t.spawned
  -- Only a test that ran a command or our bindings can have touched rules.
  before.rules = rules_seen or nft_and_rules()
  rules_seen = before.rules
end

local function added(was, is, prefix, out)
  for key in pairs(is) do
    if not was[key] then out[#out + 1] = ("%s: %s"):format(prefix, key) end
  end
  for key in pairs(was) do
    if not is[key] and prefix ~= "processes" then
      out[#out + 1] = ("%s gone: %s"):format(prefix, key)
    end
  end
end

-- End what a test started and forgot, lest it disturb the next one.
local function end_processes(now)
  for key in pairs(now) do
    if not before.processes[key] then t.sh({ "kill", "-9", key:match("%d+") }) end
  end
end

--- What the test left behind: a list of lines. Waits a moment for processes
-- that are on their way out.
function M.left()
  local now
  local patience = system.monotime() + 3
  repeat
    now = state()
    local out = {}
    for part, was in pairs(before) do
      if type(was) == "table" and part ~= "rules" then
        added(was, now[part], part, out)
      end
    end
    if #out == 0 then break end
    if system.monotime() > patience then
      end_processes(now.processes)
      return out
    end
    system.sleep(0.01)
  until false
  local out = {}
  if t.spawned ~= before.spawned or package.loaded.netlink then
    local rules = nft_and_rules()
    added(before.rules, rules, "rules", out)
    if #out > 0 then out[#out + 1] = t.run("nft list ruleset; ip -4 rule; ip -6 rule || :") end
    rules_seen = rules
  end
  return out
end

return M
