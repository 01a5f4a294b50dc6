-- SPDX-License-Identifier: MIT
--- Step `delegate`: a foreign plugin, executed as the specification says (section 4): same bytes on its
-- stdin, same environment but for the command. Mostly it is an IPAM plugin. One that a script delegates to
-- (`want.interface`) makes an interface, and is given the configuration that the script has made of ours.
--
-- A plugin that hangs is ended with its children while there is time left to take back what it may have
-- done. One that is this program, or that calls this program again, is refused: it would go round for ever.
-- @module cni.step.delegate

local cjson = require "cjson"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local names = require "cni.names"
local netlink = require "netlink"
local once = require "cni.step.once"

local sys = netlink.sys
local M = { new_only = "another plugin does its part in an ADD", last = true }

-- In seconds: how long a plugin may take, and how much of our own time is left for what comes after it.
local limit = { ADD = 40, otherwise = 50 }
local reserve = { ADD = 15, otherwise = 2 }

--- In the environment of a plugin for addresses: the type that executed it.
M.mark = "LUACNI_IPAM_OF"

--- In the environment of any other plugin that a script delegates to: the types that are at work already,
-- with blanks round each.
M.within = "LUACNI_WITHIN"

-- What a plugin is called in messages, and which key has named it.
local function role(request) return request.as_interface and "plugin" or "ipam plugin" end
local function key(request) return request.as_interface and "delegate" or "ipam.type" end

-- Find a plugin's executable.
local function find(type_name, request)
  local dirs = request.path
  if not names.is_id(type_name) then
    fail.config(key(request), ("%q is not the name of a plugin"):format(type_name))
  end
  local path, problem, failed = files.program(dirs, type_name)
  if path then return path end
  fail.throw {
    code = fail.codes.internal, errno = failed, details = problem,
    msg = ("failed to find plugin %q in path [%s]"):format(type_name, table.concat(dirs, " ")),
    hint = request.near and request.near(type_name) or "CNI_PATH lists the directories to search",
  }
end

local function environment(request, command)
  local env, around = {}, " "
  for _, entry in ipairs(request.environ()) do
    local name, value = entry:match "^([^=]*)=(.*)"
    if name == M.within then around = value end
    if name ~= "CNI_COMMAND" and name ~= M.within then env[#env + 1] = entry end
  end
  env[#env + 1] = "CNI_COMMAND=" .. command
  if request.as_interface then
    env[#env + 1] = ("%s=%s%s "):format(M.within, around, request.outer)
  else
    env[#env + 1] = M.mark .. "=" .. (request.type or "luacni")
  end
  return env
end

--- Find a plugin's executable, unless that is this program again.
-- @tparam string type_name
-- @tparam table request `path` (list); `as_interface`: it is not for addresses
-- @treturn string its path; any other outcome is an error
function M.executable(type_name, request)
  local path = find(type_name, request)
  local own, other = sys.stat "/proc/self/exe", sys.stat(path)
  local is_own = own and other and own.ino == other.ino and own.dev == other.dev
  -- An older version had another's program do what this one has a script for.
  if is_own and not (request.is_past and require("host").has_plugin(type_name)) then
    fail.throw { code = not request.as_interface and fail.codes.config or nil,
      msg = ("%s: %s is this program, which has no %s of that name"):format(key(request), type_name,
        request.as_interface and "type" or "IPAM plugin") }
  end
  return path
end

--- How long something that is executed may take.
-- @tparam table request its `time_left()`, if it has it
-- @tparam string command
-- @tparam[opt] number seconds at most; by default what a plugin may take
-- @treturn int milliseconds
function M.patience(request, command, seconds)
  seconds = math.min(seconds or math.huge, limit[command] or limit.otherwise)
  local left = request.time_left and request.time_left()
  if left then seconds = math.min(seconds, left - (reserve[command] or reserve.otherwise)) end
  return math.floor(math.max(seconds, 0.5) * 1000)
end

-- Raise the plugin's own error, unchanged; or quote its output, when that is no CNI error.
local function failed(type_name, command, run, what)
  local ok, object = pcall(cjson.decode, run.stdout)
  if ok and type(object) == "table" and type(object.msg) == "string" then
    fail.throw { code = object.code, msg = object.msg,
      details = type(object.details) == "string" and object.details or nil }
  end
  local said = run.stderr ~= "" and run.stderr or run.stdout
  fail.throw {
    code = fail.codes.internal,
    msg = ("%s %s failed (%s): %s"):format(what, type_name, command:lower(),
      run.signal and "signal " .. run.signal or "exit status " .. tostring(run.status)),
    details = said ~= "" and said:sub(1, 2000) or nil,
  }
end

--- Execute a foreign plugin.
-- @tparam string command ADD, DEL, CHECK, STATUS or GC
-- @tparam string type_name
-- @tparam table request
--   stdin               text
--   path                list of folders
--   environ()           list of NAME=value
--   time_left(), log(), type  may be nil
--   as_interface        it is no IPAM plugin
--   outer               with as_interface: the type whose script has delegated to it
--   is_past             it is asked to take back what its record says
-- @treturn string what it printed
-- @treturn[2] nil
-- @treturn[2] fail the error that it has answered with
-- @raise when it has not answered
function M.ask(command, type_name, request)
  local path = M.executable(type_name, request)
  local ms = M.patience(request, command)
  local run, msg, errno = sys.exec {
    path = path, argv = { path }, env = environment(request, command),
    stdin = request.stdin, timeout_ms = ms, stdout_limit = 1 << 20,
  }
  if not run and errno == sys.errno.ETIMEDOUT then
    fail.throw { code = fail.codes.again, errno = errno,
      msg = ("%s %s did not end within %.0f seconds (%s); it was ended"):format(role(request), type_name,
        ms / 1000, command:lower()) }
  end
  if not run then fail.kernel("execute " .. path, msg, errno) end
  if run.status and run.status ~= 0 then
    return nil, select(2, pcall(failed, type_name, command, run, role(request)))
  end
  if run.signal then failed(type_name, command, run, role(request)) end
  if run.stderr ~= "" and request.log then request.log(run.stderr) end
  return run.stdout
end

--- Execute a foreign plugin, and raise the error that it answers with.
-- @tparam string command
-- @tparam string type_name
-- @tparam table request see @{ask}
-- @treturn string what it printed
function M.call(command, type_name, request)
  local text, err = M.ask(command, type_name, request)
  if not text then error(err, 0) end
  return text
end

-- The addresses in the runtime's result, where the IPAM plugin cannot be asked for them.
local function known(plan)
  local lease = { ips = {}, routes = plan.prev and plan.prev.routes or {} }
  for _, ip in ipairs(plan.prev and plan.prev.ips or {}) do
    lease.ips[#lease.ips + 1] = { address = ip.address, gateway = ip.gateway }
  end
  return lease
end

-- The request of the ADD as its record has it, for when the present call is not about this attachment.
local function recorded(plan)
  local header = plan.record.header
  return {
    stdin = header.config, path = header.path, type = header.type, time_left = plan.time_left,
    environ = function()
      return {
        "CNI_CONTAINERID=" .. header.id, "CNI_IFNAME=" .. header.ifname,
        "CNI_NETNS=" .. (header.netns or ""), "CNI_ARGS=" .. (header.args or ""),
        "CNI_PATH=" .. table.concat(header.path, ":"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        table.unpack(plan.watch and plan.watch:entries() or {}),
      }
    end,
  }
end

-- A result, with the entry of `interfaces` in each address that is on one.
local function parsed(text, type_name, version)
  local what = "the result of " .. type_name
  local result = require("cni.protocol.result").parse_any(json.decode(text, what), version, what)
  for _, ip in ipairs(result.ips or {}) do
    if math.type(ip.interface) == "integer" then ip.interface = result.interfaces[ip.interface + 1] end
  end
  return result
end

-- The request for the DEL of a plugin. When its ADD had a configuration of its own, so has its DEL, with the
-- chain's final result in it.
local function asked_again(step, plan)
  local want = step.want
  local request = setmetatable({ is_past = plan.mode == "undo" },
    { __index = plan.request or recorded(plan) })
  if not want.config then return request end
  local stdin, reported = want.config, plan.request and plan.request.raw.prevResult
  if reported then
    local conf = json.decode(stdin, "record")
    conf.prevResult = reported
    stdin = json.compact(conf)
  end
  return setmetatable({ stdin = stdin, as_interface = want.interface, outer = request.type },
    { __index = request })
end

function M.run(step, plan)
  local text, err = M.ask("ADD", step.want.type, step.request)
  if not text then
    -- By the specification it has cleaned up; it is sent a DEL all the same.
    step.refused = true
    error(err, 0)
  end
  local result = parsed(text, step.want.type, plan.request.version)
  if step.want.interface then once.keep(plan, "delegate", step.want.nth, text) end
  return result
end

-- Whether no program can have been executed: there is none, and neither a record, a result of the chain nor a
-- file tells of an ADD.
local function never_was(step, plan)
  if plan.mode ~= "erase" or plan.prev or not step.want.interface then return false end
  for _, other in ipairs(plan.steps) do
    if other.kind == "file" and require("cni.step.file").is_there(other) then return false end
  end
  local found, err = pcall(find, step.want.type, plan.request)
  return not found and not fail.wrap(err).errno
end

function M.undo(step, plan)
  if not names.is_id(step.want.type) or never_was(step, plan) then return end
  local text, err = M.ask("DEL", step.want.type, asked_again(step, plan))
  -- A plugin that has refused the ADD, and then also fails the DEL, holds nothing; nor does one that does not
  -- know the container.
  if text or step.refused or err.code == fail.codes.unknown_container then return end
  error(err, 0)
end

function M.say(step)
  local want = step.want
  return want.interface and ("have the plugin %s do its part"):format(want.type)
    or ("ask the IPAM plugin %s for addresses"):format(want.type)
end

-- What a plugin has answered to the ADD: it is not asked again.
local function answered(step, plan)
  local record = plan.past and plan:past()
  local _, text = once.find(record and record.steps or {}, "delegate", step.want.nth)
  return text and parsed(text, step.want.type, plan.request.version) or plan.prev or {}
end

--- A request to a plugin that is no IPAM plugin.
-- @tparam table request
-- @string outer the type whose script delegates
-- @treturn table for @{ask}
function M.as_interface(request, outer)
  return setmetatable({ as_interface = true, outer = outer }, { __index = request })
end

local function new_step(plan, type_name, request, as_interface)
  local want = { type = type_name, config = request.changed and request.stdin or nil }
  if as_interface then
    want.interface, want.nth = true, 1
    for _, step in ipairs(plan.steps) do
      if step.kind == "delegate" and step.want.nth then want.nth = want.nth + 1 end
    end
    request = M.as_interface(request, plan.request.type)
  end
  return { kind = "delegate", ns = "host", want = want, request = request }
end

--- What a foreign plugin gives, by the plan's mode.
-- @tparam table plan
-- @tparam string type_name
-- @tparam table request what it is called with: the caller's request, or one that a script has made of it;
-- that has `changed`
-- @tparam[opt] boolean as_interface it is no IPAM plugin: pending steps are done before it is called, and its
-- answer stands instead of what the chain has so far
-- @treturn table a result
function M.obtain(plan, type_name, request, as_interface)
  local step = new_step(plan, type_name, request, as_interface)
  if plan.mode == "apply" then
    if as_interface then
      M.executable(type_name, step.request)
      plan:flush()
    end
    local result = plan:now(step)
    result.instead = as_interface
    return result
  end
  -- What a script does with an answer of nothing would say less of what is wrong than this.
  if plan.mode == "dry" and as_interface then M.executable(type_name, step.request) end
  plan:push(step)
  if plan.mode == "verify" then plan:about("check", step, M.call, "CHECK", type_name, step.request) end
  if not as_interface then return known(plan) end
  return answered(step, plan)
end

return M
