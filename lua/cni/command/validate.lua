-- SPDX-License-Identifier: MIT
--- luacni validate
-- @module cni.command.validate

local config = require "cni.runtime.config"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local names = require "cni.names"
local plugins = require "cni.runtime.plugin"
local request = require "cni.protocol.request"
local say = require "cni.command.say"
local schema = require "cni.schema"
local schema_doc = require "cni.command.schema_doc"
local splice = require "cni.runtime.splice"

-- What of a key is asked: of the interface's plugin what does not lie below ipam, of the IPAM plugin what
-- does.
local function is_below_ipam(path) return path:find "^ipam%." ~= nil end

-- The types that a plugin's part is for: its own, and its IPAM plugin's. Each: `name`, `script` (nil: it is
-- not luacni's), `conf` (nil: nothing is known), `is_ipam`.
local function readers_of(plugin)
  local function reader(name, is_ipam)
    local ok, script = say.bounded(host.load_plugin, name)
    if not ok or not script then
      return { name = name, conf = require("cni.command.foreign")[name], is_ipam = is_ipam,
        bad = not ok and fail.wrap(script) or nil }
    end
    return { name = name, script = script, conf = script.conf, is_ipam = is_ipam }
  end
  local list = { reader(plugin.type, false) }
  local ipam = plugin.raw.ipam
  local ipam_type = type(ipam) == "table" and ipam.type
  if type(ipam_type) == "string" and ipam_type ~= "" and ipam_type ~= plugin.type then
    list[2] = reader(ipam_type, true)
  end
  return list
end

-- Keys that stand twice in an object, at any depth: a reader takes the last one, and nobody sees the other.
local function seek_doubles(text, path, note)
  local first = text:sub(1, 1)
  if first == "{" then
    local seen = {}
    for _, member in ipairs(splice.members(text)) do
      local at = path == "" and member.key or path .. "." .. member.key
      if seen[member.key] then note(("the key %q stands twice; the last one counts"):format(at)) end
      seen[member.key] = true
      seek_doubles(member.value, at, note)
    end
  elseif first == "[" then
    for i, element in ipairs(splice.elements(text)) do
      seek_doubles(element, ("%s[%d]"):format(path, i - 1), note)
    end
  end
end

local list_keys = { "cniVersion", "cniVersions", "name", "disableCheck", "disableGC",
  "loadOnlyInlinedPlugins", "plugins" }

local function is_among(word, list)
  for _, known in ipairs(list) do
    if known == word then return true end
  end
  return false
end

local function is_known(version)
  return version == "" or is_among(version, request.versions)
end

local function check_list(network, text, problem, remark)
  if not names.is_id(network.name) then
    problem(("name: %s has characters that no network's name may have"):format(json.show(network.name)),
      "letters, digits, and _ . - behind the first")
  end
  if network.version == "" then
    problem("cniVersion is missing, and counts as 0.1.0, whose results have room for one address of a family",
      "1.0.0 is what every runtime and plugin of today speaks")
  elseif not request.at_least(network.version, "0") then
    problem(("cniVersion: %s is not a version"):format(json.show(network.version)))
  else
    if not is_known(network.version) then
      problem(("cniVersion: luacni does not speak %s"):format(network.version), "it speaks "
        .. table.concat(request.versions, ", "))
    end
  end
  if network.is_single then return end
  for _, member in ipairs(splice.members(text)) do
    if not is_among(member.key, list_keys) then
      local near = require("cni.protocol.hints").did_you_mean(member.key, list_keys)
      -- podman's own is common; a runtime may have others.
      local tell = near and problem or remark
      tell(("nothing reads the key %q of the list%s"):format(member.key, near and ", " .. near or ""))
    end
  end
end

-- Whether a runtime would find a type's program.
local function check_program(job, reader, problem, remark)
  local path, unseen = files.program(request.split_path(job.path), reader.name)
  if path then
    if not reader.script and not reader.conf then
      remark(("type %s is not luacni's: its keys cannot be told here"):format(reader.name))
    end
    return
  elseif unseen then
    return remark(("the program of type %s cannot be looked for: %s"):format(reader.name, unseen))
  end
  if reader.bad then
    return problem(("type %s cannot be loaded: %s"):format(reader.name, tostring(reader.bad)))
  end
  -- One of our own can be run without; but no runtime finds it.
  local hint = reader.script and "luacni link " .. reader.name
    or require("cni.protocol.hints").did_you_mean(reader.name, say.type_names())
  local tell = reader.script and remark or problem
  local found = tell(("no folder of %s has a program %q, which is what a runtime calls"):format(job.path,
    reader.name), hint)
  found.program = reader.name
end

local function check_keys(reader, raw, problem)
  local ok, conf = pcall(schema.read, reader.conf, raw)
  if not ok then
    problem(tostring(fail.wrap(conf)))
  else
    for _, note in ipairs(schema.notes(reader.conf, conf)) do problem(note) end
  end
  return ok
end

-- Keys that nobody reads: neither those who are asked, nor the types that a script delegates to.
local function check_unknown(reader, plugin, raw, delegates, problem, remark)
  local read = {}
  for _, conf in ipairs(delegates) do
    local unknown = {}
    for _, key in ipairs(schema_doc.unknown_keys(conf, raw)) do unknown[key.path] = true end
    read[#read + 1] = unknown
  end
  for _, key in ipairs(schema_doc.unknown_keys(reader.conf, raw)) do
    local is_read = plugin.raw.ipam ~= nil and is_below_ipam(key.path) ~= reader.is_ipam
    for _, unknown in ipairs(read) do is_read = is_read or not unknown[key.path] end
    if not is_read then
      local tell = reader.script and problem or remark
      tell(("nothing reads the key %q%s"):format(key.path,
        key.nearest and (', did you mean "%s"?'):format(key.nearest) or ""))
    end
  end
end

-- Capabilities that are declared: a runtime gives what belongs to them, and somebody has to take it.
local function check_capabilities(readers, plugin, problem, remark)
  local declared = plugin.raw.capabilities
  if declared == nil then return end
  if type(declared) ~= "table" or json.is_list(declared) then
    return problem(("capabilities: %s is not an object"):format(json.show(declared)))
  end
  local sorted, taken, is_told = {}, {}, true
  for key in pairs(declared) do sorted[#sorted + 1] = key end
  table.sort(sorted)
  for _, reader in ipairs(readers) do
    local fields = reader.conf and reader.conf.fields.runtimeConfig
    for key in pairs(fields and fields.fields or {}) do taken[#taken + 1] = key end
    is_told = is_told and reader.conf ~= nil
  end
  for _, key in ipairs(sorted) do
    if type(declared[key]) ~= "boolean" then
      problem(("capabilities.%s: %s is neither true nor false"):format(key, json.show(declared[key])))
    elseif declared[key] and is_told and not is_among(key, taken) then
      remark(("nothing reads the capability %q"):format(key),
        require("cni.protocol.hints").did_you_mean(key, taken))
    end
  end
end

-- What an ADD would do here: rules between values, and what this machine has for them. Gives what the types
-- declare that the script delegates to.
local function check_plan(job, plugin, reader, problem, remark)
  if reader.script.chained then return {} end
  local verbs = require "cni.engine.verbs"
  local env = { CNI_COMMAND = "ADD", CNI_CONTAINERID = job.id, CNI_NETNS = job.netns, CNI_IFNAME = job.ifname,
    CNI_PATH = job.path }
  local req, confs = nil, {}
  local ok, err = say.bounded(function()
    req = request.from_env(function(name) return env[name] end)
    req.type = plugin.type
    request.read_config(req, plugins.stdin(job, plugin))
    verbs.equip(req, host)
    verbs.dry_run(req, verbs.plugin(host, plugin.type))
  end)
  for _, name in ipairs(req and req.plan and req.plan.delegates or {}) do
    local loads, script = pcall(host.load_plugin, name)
    if loads and script and script.conf then confs[#confs + 1] = script.conf end
  end
  if ok then return confs end
  err = fail.wrap(err)
  if err.code == fail.codes.config or err.mistake or err.msg:find("stopped: it ran", 1, true) then
    problem(tostring(err))
  else
    remark("on this machine: " .. tostring(err))
  end
  return confs
end

local function check_plugin(job, plugin, problem, remark)
  local readers, is_well = readers_of(plugin), true
  local raw = json.decode(plugins.stdin(job, plugin), "stdin", { object = true })
  for _, reader in ipairs(readers) do
    check_program(job, reader, problem, remark)
    if reader.conf then is_well = check_keys(reader, raw, problem) and is_well end
  end
  check_capabilities(readers, plugin, problem, remark)
  local delegates = {}
  if is_well and readers[1].script and is_known(job.network.version) then
    delegates = check_plan(job, plugin, readers[1], problem, remark)
  end
  for _, reader in ipairs(readers) do
    if reader.conf then check_unknown(reader, plugin, raw, delegates, problem, remark) end
  end
end

local M = {
  words = "[CONF]",
  about = "look for faults and unknown keys in a configuration",
  text = "Reads every value that one of luacni's types declares, and of the reference plugins' other " ..
    "types what is known of them; plans the ADD on this machine, without doing anything; looks for the " ..
    "programs. Says what is missing, unknown, given twice, or does nothing. A remark (note) is no " ..
    "fault: what is not known of others' types, or what failed here for another reason. Without CONF: " ..
    "all networks in the folder.",
  least = 0, most = 1, conf = true,
  options = job_of.options({ "conf-dir" }, {
    strict = { about = "take remarks for faults" },
    json = { about = "as JSON" },
  }),
  examples = { "luacni validate /etc/cni/net.d/10-demo.conflist", "luacni validate --strict" },
}

--- What is to be said of a network.
-- @tparam table network as of cni.runtime.config
-- @treturn {table,...} `where`; `level`: fault, or note; `text`; `program`: that is missing
function M.findings(network)
  local list = json.list {}
  local function told(where)
    local function add(level)
      return function(text, hint)
        list[#list + 1] = { where = where, level = level, text = hint and text .. "; " .. hint or text }
        return list[#list]
      end
    end
    return add "fault", add "note"
  end
  local job = job_of.new(network, { id = "validate", netns = "/run/netns/validate", ifname = "eth0" })
  local problem, remark = told(network.is_single and "configuration" or "list")
  check_list(network, network.text, problem, remark)
  seek_doubles(splice.compact(network.text), "", problem)
  for i, plugin in ipairs(network.plugins) do
    problem, remark = told(("plugins[%d] (%s)"):format(i - 1, plugin.type))
    if plugin.is_sibling then seek_doubles(splice.compact(plugin.text), "", problem) end
    check_plugin(job, plugin, problem, remark)
  end
  return list
end

local function networks_of(word, options)
  if word then return { job_of.network(word, options) } end
  local networks, problems = config.all(job_of.folder(options))
  if problems[1] then error(problems[1].problem, 0) end
  if not networks[1] then say.usage(("there is no network in %s"):format(job_of.folder(options))) end
  return networks
end

--- Look, and tell.
-- @tparam {string,...} words
-- @tparam table options
-- @treturn integer exit status: 1 when there is a fault
function M.run(words, options)
  local all, lines, status = json.list {}, {}, 0
  local networks = networks_of(words[1], options)
  for _, network in ipairs(networks) do
    for _, found in ipairs(M.findings(network)) do
      found.network = network.name
      all[#all + 1] = found
      if found.level == "fault" or options.strict then status = 1 end
      lines[#lines + 1] = ("%s%s: %s%s"):format(networks[2] and network.name .. ": " or "", found.where,
        found.level == "note" and "note: " or "", found.text)
    end
  end
  if options.json then
    say.json(all)
  elseif lines[1] then
    say.lines(lines)
  end
  return status
end

return M
