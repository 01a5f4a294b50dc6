-- SPDX-License-Identifier: MIT
--- A namespace that is made for one command, attached, and taken down again: what `luacni run` does.
--
--     /run/luacni/runs/ID
--
-- says what is to be taken down, before anything is made. Whoever runs the command holds the file's lock:
-- when he is killed, the lock is free, and `luacni gc` finds what he has left.
--
-- @module cni.command.scratch

local config = require "cni.runtime.config"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local netlink = require "netlink"
local sandbox = require "cni.record.sandbox"
local say = require "cni.command.say"
local verbs = require "cni.runtime.verbs"

local sys = netlink.sys
local M = {}

local folder <const> = "/run/luacni/runs"

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

-- Write down what is going to be made. The file is locked as long as it is open.
local function note(job)
  files.must(sys.mkdirs(folder, 493))
  local file = files.must(sys.open_locked(folder .. "/" .. job.id))
  files.must(file:append(json.note {
    config = config.stored(job.network), netns = job.netns, ifname = job.ifname, args = job.args,
    capability_args = job.capability_args, path = job.path,
  } .. "\n"))
  return file
end

local function forget(id)
  files.must(sys.unlink(folder .. "/" .. id))
  sys.rmdir(folder)
end

local function make_namespace(path)
  sys.mkdirs("/run/netns", 493)
  local ok, msg = netlink.ns.create(path)
  if not ok then fail.throw { msg = msg } end
  local h <close> = assert(netlink.open(path))
  assert(h:send { { "set", "link", { name = "lo", up = true } } })
end

-- Detach and remove the namespace. Returns what failed.
local function take_down(job)
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
  local noted, kept = pcall(note, job)
  if not noted then error(kept, 0) end
  local file <close> = kept -- luacheck: ignore 211
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
  local failures = take_down(job)
  for _, failure in ipairs(failures) do host.log("luacni: " .. tostring(failure)) end
  if failures[1] then
    host.log("luacni: what is left of it, luacni gc takes down")
    return status == 0 and 125 or status
  end
  forget(job.id)
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

local function job_from(id, text)
  local kept = json.decode_lines(text, "run")[1]
  local job = job_of.new(config.read(kept.config, "the network of " .. id), { id = id, netns = kept.netns,
    ifname = kept.ifname, args = kept.args, capability_args = kept.capability_args })
  job.path = kept.path
  return job
end

-- Take down what a run has left. A file that was not written whole is of one that had not begun.
local function clear(id, job, dry)
  local process = job and inhabitant(job.netns)
  if process then
    fail.throw { msg = ("process %s still runs in %s"):format(process, job.netns),
      hint = "end it, and luacni gc takes the network down" }
  end
  if dry then return end
  local failures = job and take_down(job) or {}
  if failures[1] then error(fail.join(failures), 0) end
  forget(id)
end

--- Take down what was left by runs that were killed.
-- @tparam[opt] string network only of this one
-- @tparam[opt] boolean dry only say what there is
-- @treturn {table,...} `network`, `container`, `interface` (nil where they are not known), `problem`: the
-- error that kept it from going
function M.clear(network, dry)
  local list = {}
  for _, id in ipairs(files.list(folder)) do
    local file <close>, msg, errno = sys.open_locked_existing(folder .. "/" .. id, "try")
    if not file and errno ~= sys.errno.ETIMEDOUT then files.unless_absent(nil, msg, errno) end
    local text = file and files.must(file:read())
    local known, job = pcall(job_from, id, text or "")
    if text and (not network or known and job.network.name == network) then
      local found = { network = known and job.network.name or nil, container = id,
        interface = known and job.ifname or nil }
      if not known and text:find "\n$" then
        found.problem = fail.wrap(job)
      else
        local ok, err = pcall(clear, id, known and job, dry)
        found.problem = not ok and fail.wrap(err) or nil
      end
      list[#list + 1] = found
    end
  end
  return list
end

return M
