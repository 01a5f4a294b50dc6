-- SPDX-License-Identifier: MIT
--- A namespace that is made for one command, attached, and taken down again: what `luacni run` does. What is
-- to be taken down is written down before anything is made (cni.runtime.begun): when luacni is killed,
-- `luacni gc` finds it.
--
-- @module cni.command.scratch

local begun = require "cni.runtime.begun"
local config = require "cni.runtime.config"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local job_of = require "cni.command.job"
local netlink = require "netlink"
local sandbox = require "cni.record.sandbox"
local say = require "cni.command.say"
local verbs = require "cni.runtime.verbs"

local sys = netlink.sys
local M = {}

-- A command leaves nothing behind: what a type would keep for the next attachment goes too, unless the
-- configuration says otherwise.
local function leave_nothing(network)
  for _, plugin in ipairs(network.plugins) do
    host.progress(("load the script of type %s, network %s"):format(plugin.type, network.name))
    local ok, script = say.bounded(host.load_plugin, plugin.type)
    local conf = ok and script and script.conf
    if conf and conf.fields and conf.fields.removeUnused ~= nil and plugin.raw.removeUnused == nil then
      config.set(network, plugin, "removeUnused", true)
    end
  end
end

--- Prepare to run.
-- @tparam table network
-- @tparam table want `ifname`, `args`, `capability_args`
-- @treturn table job; its namespace is not made yet
function M.new(network, want)
  local id = "run-" .. sys.random(6):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  leave_nothing(network)
  return job_of.new(network, { id = id, netns = "/run/netns/luacni-" .. id, ifname = want.ifname,
    args = want.args, capability_args = want.capability_args })
end

local function make_namespace(path)
  sys.mkdirs("/run/netns", 493)
  local ok, msg = netlink.ns.create(path)
  if not ok then fail.throw { msg = msg } end
  local h <close> = assert(netlink.open(path))
  assert(h:send { { "set", "link", { name = "lo", up = true } } })
end

--- Detach, and remove the namespace.
-- @tparam table job
-- @treturn {fail,...} what failed
function M.take_down(job)
  local failures = verbs.detach(job, true)
  if files.exists(job.netns) then
    local removed, msg, errno = netlink.ns.remove(job.netns)
    if not removed then
      failures[#failures + 1] = fail.new { code = fail.codes.io, msg = msg, errno = errno }
    end
  end
  return failures
end

--- Make the namespace, attach it, run a command in it, detach it, remove it; the last two whatever happens.
-- @tparam table job
-- @tparam {string,...} command
-- @treturn integer exit status: the command's own; 125 when the network is at fault, 126 or 127
--   when the command cannot be run, 128 and its number for a signal
function M.run(job, command)
  local status = 125
  host.hold_signals()
  local mark <close> = begun.open { network = job.network.name, id = job.id, ifname = job.ifname }
  mark:note(job, true)
  local ok, err = pcall(function()
    make_namespace(job.netns)
    local signal = verbs.attach(job, host.held_signal)
    if signal then
      status = 128 + signal
      return
    end
    host.progress() -- the terminal is the command's
    local ended, msg, errno = host.run(command, job.netns)
    if not ended then
      host.log("luacni: " .. msg)
      ended = errno == sys.errno.ENOENT and 127 or 126
    end
    status = ended
  end)
  if not ok then host.log("luacni: " .. tostring(fail.wrap(err))) end
  local failures = M.take_down(job)
  for _, failure in ipairs(failures) do host.log("luacni: " .. tostring(failure)) end
  if failures[1] then
    host.log("luacni: what is left of it, luacni gc takes down")
    return status == 0 and 125 or status
  end
  mark:remove()
  return status
end

-- A process in a namespace, in words; nil when there is none. A namespace that cannot be looked at is not an
-- empty one.
local function inhabitant(netns)
  local ns <close> = sandbox.open(netns)
  local inode = ns and ns:id():match ":(%d+)$"
  for _, pid in ipairs(inode and files.list "/proc" or {}) do
    if pid:find "^%d" and sys.readlink(("/proc/%s/ns/net"):format(pid)) == "net:[" .. inode .. "]" then
      return ("%s (%s)"):format(pid, (sys.read_file(("/proc/%s/comm"):format(pid)) or "?"):gsub("%s+$", ""))
    end
  end
end

--- Whether a process keeps a run's namespace from being taken down.
-- @tparam table job
-- @raise which process it is
function M.must_be_empty(job)
  local process = inhabitant(job.netns)
  if process then
    fail.throw { msg = ("process %s still runs in %s"):format(process, job.netns),
      hint = "end it, and luacni gc takes the network down" }
  end
end

return M
