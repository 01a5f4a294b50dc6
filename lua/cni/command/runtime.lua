-- SPDX-License-Identifier: MIT
--- A small runtime: a configuration's chain of plugins, run on one namespace as any CNI runtime
-- would, each plugin a process of its own. `luacni run` is made of it.
-- @module cni.command.runtime

local fail = require "cni.fail"
local json = require "cni.json"
local netlink = require "netlink"
local request = require "cni.protocol.request"
local splice = require "cni.command.splice"

local sys = netlink.sys

local M = {}

-- Above this a plugin is taken to hang; libcni knows no limit at all.
local plugin_timeout_ms = 120000

-- The newest version that the list offers and we speak.
local function version_of(raw)
  local best = raw.cniVersion
  local newest = request.versions[#request.versions]
  for _, version in ipairs(type(raw.cniVersions) == "table" and raw.cniVersions or {}) do
    if type(version) == "string" and request.at_least(newest, version)
      and (not best or request.at_least(version, best))
    then
      best = version
    end
  end
  if best ~= nil and type(best) ~= "string" then
    fail.config("cniVersion", json.show(best) .. " is not a string")
  end
  return best or ""
end

local function add_plugin(network, text, where)
  local raw = json.decode(text, where, { object = true })
  if type(raw.type) ~= "string" or raw.type == "" or raw.type:find("/", 1, true) then
    fail.config(where .. ".type", json.show(raw.type) .. " is not the name of a plugin")
  end
  network.plugins[#network.plugins + 1] = { type = raw.type, text = text, raw = raw }
end

--- Read a network configuration: a list (`.conflist`), or the single object of older files.
-- @tparam string text
-- @tparam string what the text is, for messages
-- @treturn table `name`, `version`, and `plugins`: a list of `type`, `text` (as written), `raw`
-- @raise codes 6 and 7
function M.read(text, what)
  local raw = json.decode(text, what, { object = true })
  if type(raw) ~= "table" then fail.config(what, "null is not a configuration") end
  if type(raw.name) ~= "string" or raw.name == "" then
    fail.config("name", "is missing: it names the network")
  end
  local network = { name = raw.name, version = version_of(raw), plugins = {} }
  if raw.plugins == nil then
    add_plugin(network, text, what)
    return network
  end
  if not json.is_list(raw.plugins) or #raw.plugins == 0 then
    fail.config("plugins", json.is_list(raw.plugins)
      and "has no plugin in it" or json.show(raw.plugins) .. " is not a list of plugins")
  end
  for i, element in ipairs(splice.elements(splice.get(text, "plugins"))) do
    add_plugin(network, element, ("plugins[%d]"):format(i - 1))
  end
  return network
end

-- What of the caller's capability arguments a plugin says it takes.
local function runtime_config(plugin, capability_args)
  local given = {}
  for key, wanted in pairs(plugin.raw.capabilities or {}) do
    if wanted == true then given[key] = capability_args[key] end
  end
  return next(given) and json.compact(given) or nil
end

--- The standard input of one plugin.
-- @tparam table network of @{read}
-- @tparam table plugin one of its plugins
-- @tparam ?string result of the plugin before, as it printed it
-- @tparam ?table capability_args
-- @treturn string
function M.stdin(network, plugin, result, capability_args)
  return splice.set(plugin.text, {
    name = json.compact(network.name),
    cniVersion = json.compact(network.version),
    prevResult = result or false,
    runtimeConfig = runtime_config(plugin, capability_args or {}),
    removeUnused = plugin.leaves_nothing and "true" or nil,
  })
end

-- A command leaves nothing behind: what a type would keep for the next attachment goes too, unless the
-- configuration says otherwise.
local function leave_nothing(host, network)
  for _, plugin in ipairs(network.plugins) do
    local ok, script = pcall(host.load_plugin, plugin.type)
    local conf = ok and script and script.conf
    plugin.leaves_nothing = conf and conf.fields and conf.fields.removeUnused ~= nil
      and plugin.raw.removeUnused == nil
  end
end

--- Where plugins are looked for: CNI_PATH, or when that does not say, beside this program, in the build
-- tree's folder of links, where packages put them.
-- @tparam table host the module of that name
-- @treturn string folders, colons between them
function M.path(host)
  local path = host.getenv("CNI_PATH")
  if path and path ~= "" then return path end
  local here = assert(host.exe()):match("^(.*)/[^/]*$")
  return table.concat({ here, here .. "/cni-bin", "/opt/cni/bin", "/usr/lib/cni" }, ":")
end

-- The program for a type. One of our own types needs no link: we are its program under any name.
local function find_program(run, type_name)
  for _, folder in ipairs(request.split_path(run.path)) do
    local path = folder .. "/" .. type_name
    local found = sys.stat(path)
    if found and found.type == "file" then return path end
  end
  if run.host.source(type_name) then return run.exe end
  local types = {}
  for i, entry in ipairs(run.host.types()) do types[i] = entry.name end
  fail.throw {
    code = fail.codes.config,
    msg = ("there is no plugin %q in %s"):format(type_name, run.path),
    hint = require("cni.protocol.hints").did_you_mean(type_name, types),
  }
end

local function environment(run, verb)
  local list = {}
  for _, entry in ipairs(run.host.environ()) do
    if not entry:find("^CNI_") then list[#list + 1] = entry end
  end
  for name, value in pairs {
    COMMAND = verb, CONTAINERID = run.id, NETNS = run.netns, IFNAME = run.ifname,
    ARGS = run.args or "", PATH = run.path,
  } do
    list[#list + 1] = ("CNI_%s=%s"):format(name, value)
  end
  return list
end

-- The error object of a plugin, in words; whatever else it said is shown as it is.
local function complaint(answer)
  local ok, object = pcall(json.decode, answer.stdout, "answer", { object = true })
  if ok and type(object) == "table" and object.msg then
    return object.details and object.msg .. "; " .. object.details or object.msg
  end
  local text = (answer.stderr .. answer.stdout):gsub("%s+$", "")
  if text ~= "" then return text end
  return answer.signal and "ended by signal " .. answer.signal or "exit status " .. answer.status
end

local function call(run, verb, plugin, result)
  local answer, msg = sys.exec {
    path = find_program(run, plugin.type), argv = { plugin.type },
    env = environment(run, verb), timeout_ms = plugin_timeout_ms,
    stdin = M.stdin(run.network, plugin, result, run.capability_args),
  }
  local what = ("%s %s"):format(verb, plugin.type)
  if not answer then fail.throw { msg = ("%s: %s"):format(what, msg) } end
  if answer.status ~= 0 then fail.throw { msg = ("%s: %s"):format(what, complaint(answer)) } end
  if answer.stderr ~= "" then run.host.write(2, answer.stderr) end
  return answer.stdout
end

--- Attach: ADD for each plugin in order, each given the result of the one before.
-- @tparam table run of @{new}
-- @treturn ?integer a signal that asked to end meanwhile; the chain is not finished then
-- @raise what the first failing plugin said
function M.attach(run)
  for _, plugin in ipairs(run.network.plugins) do
    local signal = run.host.held_signal()
    if signal then return signal end
    local result = call(run, "ADD", plugin, run.result)
    json.decode(result, ("the result of %s"):format(plugin.type), { object = true })
    run.result = result
  end
  return run.host.held_signal()
end

--- Detach: DEL for each plugin, last first, going on after failures.
-- @tparam table run
-- @treturn {string,...} what failed
function M.detach(run)
  local failures = {}
  local result = request.at_least(run.network.version, "0.4.0") and run.result or nil
  for i = #run.network.plugins, 1, -1 do
    local ok, err = pcall(call, run, "DEL", run.network.plugins[i], result)
    if not ok then failures[#failures + 1] = tostring(fail.wrap(err)) end
  end
  return failures
end

--- Prepare to attach.
-- @tparam table host the module of that name
-- @tparam table network of @{read}
-- @tparam table options `ifname`, `args`, `capability_args`
-- @treturn table run; its namespace is not made yet
function M.new(host, network, options)
  local id = "run-" .. sys.random(6):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  local exe = assert(host.exe())
  leave_nothing(host, network)
  return {
    host = host, network = network, id = id, exe = exe,
    path = M.path(host),
    netns = "/run/netns/luacni-" .. id, ifname = options.ifname or "eth0",
    args = options.args, capability_args = options.capability_args,
  }
end

local function make_namespace(run)
  sys.mkdirs("/run/netns", 493)
  local ok, msg = netlink.ns.create(run.netns)
  if not ok then fail.throw { msg = msg } end
  local h <close> = assert(netlink.open(run.netns))
  assert(h:send { { "set", "link", { name = "lo", up = true } } })
end

--- Make a namespace, attach it, run a command in it, detach it, remove it; the last two
-- whatever happens.
-- @tparam table run
-- @tparam {string,...} command
-- @treturn integer exit status: the command's own; 125 when the network is at fault, 126 or 127
--   when the command cannot be run, 128 and its number for a signal
function M.command(run, command)
  local host, status = run.host, 125
  host.hold_signals()
  make_namespace(run)
  local ok, err = pcall(function()
    local signal = M.attach(run)
    if signal then
      status = 128 + signal
      return
    end
    local ended, msg, errno = host.run(command, run.netns)
    if not ended then
      host.log("luacni: " .. msg)
      ended = errno == sys.errno.ENOENT and 127 or 126
    end
    status = ended
  end)
  if not ok then host.log("luacni: " .. tostring(fail.wrap(err))) end
  local failures = M.detach(run)
  local removed, msg = netlink.ns.remove(run.netns)
  if not removed then failures[#failures + 1] = msg end
  for _, text in ipairs(failures) do host.log("luacni: " .. text) end
  return failures[1] and status == 0 and 125 or status
end

return M
