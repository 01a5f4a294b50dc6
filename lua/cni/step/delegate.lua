-- SPDX-License-Identifier: MIT
--- Step `delegate`: a foreign IPAM plugin, executed as the specification says (section 4): same
-- bytes on its stdin, same environment but for the command.
--
-- A plugin that hangs is ended with its children while there is time left to take back what it may have
-- taken. One that is this program again, or that calls it again, is refused: it would go round for ever.
-- @module cni.step.delegate

local cjson = require "cjson"
local fail = require "cni.fail"
local netlink = require "netlink"

local sys = netlink.sys
local errors = sys.errno
local M = { last = true }

-- How long a plugin may take, and how much of our own time is kept for what comes after it, in seconds.
local limit = { ADD = 40, otherwise = 50 }
local reserve = { ADD = 15, otherwise = 2 }

--- In the environment of a plugin: the type that executed it.
M.mark = "LUACNI_IPAM_OF"

local function is_name(type_name)
  return type_name:find "^[A-Za-z0-9][A-Za-z0-9._-]*$" ~= nil
end

-- What a path is that names nothing.
local nowhere = { [errors.ENOENT] = true, [errors.ENOTDIR] = true, [errors.ELOOP] = true,
  [errors.ENAMETOOLONG] = true }

--- Find a plugin's executable.
-- @tparam string type_name a plain name, no path
-- @tparam table dirs list of directories
-- @treturn string its path; a plugin that is nowhere is an error
function M.find(type_name, dirs)
  if not is_name(type_name) then
    fail.config("ipam.type", ("%q is not the name of a plugin"):format(type_name))
  end
  local problem, failed
  for _, dir in ipairs(dirs) do
    local path = (dir == "" and "." or dir) .. "/" .. type_name
    local stat, msg, errno = sys.stat(path)
    if stat and stat.type == "file" then return path end
    if not stat and not nowhere[errno] then problem, failed = problem or msg, failed or errno end
  end
  fail.throw {
    code = fail.codes.internal, errno = failed, details = problem,
    msg = ("failed to find plugin %q in path [%s]"):format(type_name, table.concat(dirs, " ")),
    hint = "CNI_PATH lists the directories to search",
  }
end

local function environment(request, command)
  local env = {}
  for _, entry in ipairs(request.environ()) do
    if entry:sub(1, 12) ~= "CNI_COMMAND=" then env[#env + 1] = entry end
  end
  env[#env + 1] = "CNI_COMMAND=" .. command
  env[#env + 1] = M.mark .. "=" .. (request.type or "luacni")
  return env
end

--- Find a plugin's executable, unless that is this program again.
-- @tparam string type_name
-- @tparam table request `path` (list)
-- @treturn string its path; any other outcome is an error
function M.executable(type_name, request)
  local path = M.find(type_name, request.path)
  local own, other = sys.stat "/proc/self/exe", sys.stat(path)
  if own and other and own.ino == other.ino and own.dev == other.dev then
    fail.config("ipam.type", ("%s is this program, which has no IPAM plugin of that name"):format(type_name))
  end
  return path
end

local function patience(request, command)
  local seconds = limit[command] or limit.otherwise
  local left = request.time_left and request.time_left()
  if left then seconds = math.min(seconds, left - (reserve[command] or reserve.otherwise)) end
  return math.floor(math.max(seconds, 0.5) * 1000)
end

-- Its own error, unchanged; what is no CNI error is quoted.
local function failed(type_name, command, run)
  local ok, object = pcall(cjson.decode, run.stdout)
  if ok and type(object) == "table" and type(object.msg) == "string" then
    fail.throw { code = object.code, msg = object.msg,
      details = type(object.details) == "string" and object.details or nil }
  end
  local said = run.stderr ~= "" and run.stderr or run.stdout
  fail.throw {
    code = fail.codes.internal,
    msg = ("ipam plugin %s failed (%s): %s"):format(type_name, command:lower(),
      run.signal and "signal " .. run.signal or "exit status " .. tostring(run.status)),
    details = said ~= "" and said:sub(1, 2000) or nil,
  }
end

--- Execute a foreign IPAM plugin.
-- @tparam string command ADD, DEL, CHECK, STATUS or GC
-- @tparam string type_name
-- @tparam table request `stdin`, `path` (list), `environ()`; `time_left()`, `log()`, `type` if there are
-- @treturn string what it printed
-- @treturn[2] nil
-- @treturn[2] fail the error that it has answered with
-- @raise when it has not answered
function M.ask(command, type_name, request)
  local path = M.executable(type_name, request)
  local ms = patience(request, command)
  local run, msg, errno = sys.exec {
    path = path, argv = { path }, env = environment(request, command),
    stdin = request.stdin, timeout_ms = ms, stdout_limit = 1 << 20,
  }
  if not run and errno == sys.errno.ETIMEDOUT then
    fail.throw { code = fail.codes.again, errno = errno,
      msg = ("ipam plugin %s did not end within %.0f seconds (%s); it was ended"):format(type_name,
        ms / 1000, command:lower()) }
  end
  if not run then fail.kernel("execute " .. path, msg, errno) end
  if run.status and run.status ~= 0 then
    return nil, select(2, pcall(failed, type_name, command, run))
  end
  if run.signal then failed(type_name, command, run) end
  if run.stderr ~= "" and request.log then request.log(run.stderr) end
  return run.stdout
end

--- Execute a foreign IPAM plugin, and raise the error that it answers with.
-- @tparam string command
-- @tparam string type_name
-- @tparam table request see @{ask}
-- @treturn string what it printed
function M.call(command, type_name, request)
  local text, err = M.ask(command, type_name, request)
  if not text then error(err, 0) end
  return text
end

-- What the runtime knows of the addresses, when they cannot be asked for.
local function known(plan)
  local lease = { ips = {}, routes = plan.prev and plan.prev.routes or {} }
  for _, ip in ipairs(plan.prev and plan.prev.ips or {}) do
    lease.ips[#lease.ips + 1] = { address = ip.address, gateway = ip.gateway }
  end
  return lease
end

-- For a record that outlived its request: what was asked then.
local function recorded(plan)
  local header = plan.record.header
  return {
    stdin = header.config, path = header.path, type = header.type, time_left = plan.time_left,
    environ = function()
      return {
        "CNI_CONTAINERID=" .. header.id, "CNI_IFNAME=" .. header.ifname,
        "CNI_NETNS=" .. (header.netns or ""), "CNI_ARGS=" .. (header.args or ""),
        "CNI_PATH=" .. table.concat(header.path, ":"), "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      }
    end,
  }
end

function M.run(step, plan)
  local text, err = M.ask("ADD", step.want.type, plan.request)
  if not text then
    -- By the specification it has cleaned up; it is told to all the same.
    step.refused = true
    error(err, 0)
  end
  local json = require "cni.json"
  local result = require "cni.protocol.result"
  local what = "the result of " .. step.want.type
  return result.parse_any(json.decode(text, what), plan.request.version, what)
end

function M.undo(step, plan)
  if not is_name(step.want.type) then return end
  local text, err = M.ask("DEL", step.want.type, plan.request or recorded(plan))
  -- Who has refused the ADD, and answers that it cannot do the DEL either, holds nothing; nor does one to
  -- whom the container is unknown.
  if text or step.refused or err.code == fail.codes.unknown_container then return end
  error(err, 0)
end

function M.say(step)
  return "ask the IPAM plugin " .. step.want.type .. " for addresses"
end

--- What a foreign plugin gives, by the plan's mode.
-- @tparam table plan
-- @tparam string type_name
-- @treturn table an IPAM result
function M.obtain(plan, type_name)
  local step = { kind = "delegate", ns = "host", want = { type = type_name } }
  if plan.mode == "apply" then return plan:now(step) end
  plan:push(step)
  if plan.mode == "verify" then M.call("CHECK", type_name, plan.request) end
  return known(plan)
end

return M
