-- SPDX-License-Identifier: MIT
--- Step `delegate`: a foreign IPAM plugin, executed as the specification says (section 4): same
-- bytes on its stdin, same environment but for the command.
-- @module cni.step.delegate

local cjson = require "cjson"
local fail = require "cni.fail"
local netlink = require "netlink"

local sys = netlink.sys
local M = { last = true }

local timeout_ms = 120000

--- Find a plugin's executable.
-- @tparam string type_name a plain name, no path
-- @tparam table dirs list of directories
-- @treturn string its path; a plugin that is nowhere is an error
function M.find(type_name, dirs)
  if not type_name:find("^[A-Za-z0-9][A-Za-z0-9._-]*$") then
    fail.config("ipam.type", ("%q is not the name of a plugin"):format(type_name))
  end
  for _, dir in ipairs(dirs) do
    local path = (dir == "" and "." or dir) .. "/" .. type_name
    local stat = sys.stat(path)
    if stat and stat.type == "file" then return path end
  end
  fail.throw {
    code = fail.codes.internal,
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
  return env
end

-- Its own error, unchanged; what is no CNI error is quoted.
local function failed(type_name, command, run)
  local ok, object = pcall(cjson.decode, run.stdout)
  if ok and type(object) == "table" and type(object.msg) == "string" then
    fail.throw { code = math.tointeger(object.code) or fail.codes.internal, msg = object.msg,
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
-- @tparam table request `stdin`, `path` (list), `environ()`
-- @treturn string what it printed
function M.call(command, type_name, request)
  local path = M.find(type_name, request.path)
  local run, msg, errno = sys.exec {
    path = path, argv = { path }, env = environment(request, command),
    stdin = request.stdin, timeout_ms = timeout_ms, stdout_limit = 1 << 20,
  }
  if not run then fail.kernel("execute " .. path, msg, errno) end
  if run.status ~= 0 then failed(type_name, command, run) end
  if run.stderr ~= "" and request.log then request.log(run.stderr) end
  return run.stdout
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
local function recorded(header)
  return {
    stdin = header.config, path = header.path,
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
  local text = M.call("ADD", step.want.type, plan.request)
  local json = require "cni.json"
  local result = require "cni.result"
  local what = "the result of " .. step.want.type
  return result.parse_any(json.decode(text, what), plan.request.version, what)
end

function M.undo(step, plan)
  local ok, err = pcall(M.call, "DEL", step.want.type,
    plan.request or recorded(plan.record.header))
  -- To whom the container is unknown there is nothing to free.
  if not ok and fail.wrap(err).code ~= fail.codes.unknown_container then error(err, 0) end
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
  if plan.mode == "apply" then
    return plan:now(step)
  end
  plan:push(step)
  if plan.mode == "verify" then M.call("CHECK", type_name, plan.request) end
  return known(plan)
end

return M
