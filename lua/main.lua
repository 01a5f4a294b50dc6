-- SPDX-License-Identifier: MIT
--- Where the program starts: who called, which script, which verb; the answer and the exit status.
--
-- stdout carries the protocol alone. Every failure is one CNI error object there.
--
-- @module main

local host = require "host"
local verbs = require "cni.engine.verbs"
local fail = require "cni.fail"
local request = require "cni.protocol.request"
local scripts = require "cni.engine.script"

local M = {}

local stdin_limit = 1 << 20

-- More than this of the caller's words is not taken apart in a state whose hashes can be foreseen: strings
-- chosen for it would cost the square of their number.
local foreseeable = 24 << 10

local function no_plugin(type_name)
  local types = {}
  for i, entry in ipairs(host.types()) do types[i] = entry.name end
  fail.throw {
    code = fail.codes.config,
    msg = ("there is no plugin of type %q"):format(type_name),
    details = "known types: " .. table.concat(types, ", "),
    hint = require("cni.protocol.hints").did_you_mean(type_name, types),
  }
end

-- The name we were called by picks the script if there is one of that name, and if it is the IPAM
-- plugin's: a delegated call carries its parent's configuration. Otherwise, and called as luacni, the
-- configuration's type does. Also, whether the script is known to be there.
local function type_of(name, req)
  if name ~= "luacni" then
    local ipam, known = req.raw.ipam, host.has_plugin(name)
    if known or type(ipam) == "table" and ipam.type == name then return name, known end
  end
  local type_name = req.raw.type
  if type(type_name) ~= "string" or type_name == "" then
    fail.config("type", "is missing: it names the plugin")
  end
  return type_name
end

-- The plugin. One without a script is what a DEL or GC may come for when the script has been removed: the
-- error waits until the script is asked for.
local function find_plugin(name, req)
  local type_name, known = type_of(name, req)
  local plugin = scripts.plugin(host, type_name, known, req.command)
  if plugin then return plugin end
  local function missing() no_plugin(type_name) end
  if req.command ~= "DEL" and req.command ~= "GC" then missing() end
  return setmetatable({ type = type_name }, { __index = missing })
end

local function version()
  return require("cni.json").compact {
    cniVersion = request.versions[#request.versions], supportedVersions = request.versions,
  } .. "\n"
end

local function read_stdin()
  local bytes, msg, errno = host.read_stdin(stdin_limit)
  if bytes then return bytes end
  local too_long = errno == require("netlink").sys.errno.EFBIG
  request.no_stdin(too_long and "it is longer than 1 MiB" or msg,
    too_long and "a network configuration has a few hundred bytes" or nil)
end

-- An IPAM plugin that one of our own types has executed executes IPAM plugins alone, and a plugin that a
-- script has delegated to any but that script's type; anything else would go round for ever.
local function is_called_back(plugin)
  local delegate = require "cni.step.delegate"
  local around = host.getenv(delegate.within)
  if around and around:find((" %s "):format(plugin.type), 1, true) then return true end
  if not host.getenv(delegate.mark) then return false end
  local loads, ipam = pcall(function() return plugin.ipam end)
  return loads and not ipam
end

local function answer(name, req, watch)
  if req.command == "VERSION" then return version() end
  local bytes = read_stdin()
  if #bytes + #(req.args or "") > foreseeable then host.afresh(bytes) end
  request.read_config(req, bytes)
  verbs.equip(req, host, watch)
  if name == "luacni" and req.raw.type == name and not host.has_plugin(name) then
    req.type = name
    require("cni.runtime.chain").new(req, bytes, host, watch):run()
    return ""
  end
  local plugin = find_plugin(name, req)
  req.type = plugin.type
  if is_called_back(plugin) then
    if req.command == "DEL" then return "" end
    fail.throw { code = fail.codes.config,
      msg = ("%s is called by the plugin that it calls itself"):format(plugin.type) }
  end
  verbs[req.command:lower()](req, plugin)
  return "" -- an ADD has given its answer already
end

-- Called by hand under a plugin's name: say what this is, and succeed.
local function about(name)
  host.log(("CNI %s plugin, luacni %s"):format(name, host.version))
  host.log("CNI protocol versions supported: " .. table.concat(request.versions, ", "))
  return 0
end

-- Whoever wants to know of this call: nil where there are no settings, or they are to blame.
local function begin_watch(command)
  local text, problem = host.settings()
  if not text and not problem then return nil end
  return require("cni.watch.call").begin(host, command, text, problem)
end

--- Run.
-- @tparam string name what the program was called as, without directory
-- @tparam table args the other arguments
-- @treturn int exit status
function M.main(name, args)
  local command = host.getenv("CNI_COMMAND")
  -- Its variables are for the program that is traced.
  if name == "luacni" and args[1] == "trace" then
    host.deadline(0)
    command = nil
  end
  if not command or command == "" then
    if name == "luacni" or #args > 0 then return require("cni.command.main").main(args) end
    return about(name)
  end
  local req, watch = nil, begin_watch(command)
  local ok, text = xpcall(function()
    req = request.from_env(host.getenv)
    return answer(name, req, watch)
  end, fail.wrap)
  local failed = not ok and text or nil
  -- Out of memory is the one error that no handler sees.
  if not ok then text = fail.wrap(text):json(req and req.version) end
  local said, why = host.write(1, text)
  if not said then host.log("luacni: the answer cannot be given: " .. why .. ": " .. text) end
  if watch then watch:finish(watch.subject(host, req, name), failed or why) end
  return said and ok and 0 or 1
end

return M
