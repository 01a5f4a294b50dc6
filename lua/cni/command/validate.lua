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
-- not luacni's, or `bad`: why it cannot be loaded), `conf` (nil: nothing is known), `is_ipam`, `is_site` (a
-- script of the site's, which may read what it does not declare).
local function readers_of(plugin)
  local function reader(name, is_ipam)
    local script, bad = say.script(name)
    if not script then return { name = name, is_ipam = is_ipam, bad = bad } end
    return { name = name, script = script, conf = script.conf, is_ipam = is_ipam,
      is_site = select(2, host.source(name)) ~= "built in" }
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

-- What a part of a chain in one process is never given, since the chain does not ask for it.
local function check_around(plugin, problem)
  local taken = type(plugin.around.capabilities) == "table" and plugin.around.capabilities or {}
  local missing = {}
  for key, wanted in pairs(type(plugin.raw.capabilities) == "table" and plugin.raw.capabilities or {}) do
    if wanted == true and taken[key] ~= true then missing[#missing + 1] = key end
  end
  table.sort(missing)
  for _, key in ipairs(missing) do
    problem(("capabilities: the plugin luacni around it does not have %s: no runtime gives it"):format(key),
      "luacni bundle writes all of them")
  end
end

-- Whether a runtime would find a type's program.
local function check_program(job, reader, problem, remark)
  if reader.bad then
    return problem(("type %s cannot be loaded: %s"):format(reader.name, tostring(reader.bad)))
  end
  local path, unseen = files.program(request.split_path(job.path), reader.name)
  if path and not reader.script and say.is_own(path) then
    return problem(("%s is luacni, which has no type of that name: its script is gone"):format(path),
      "luacni types lists what there is; rm takes the link away")
  elseif path then
    if not reader.script and not reader.conf then
      remark(("type %s is not luacni's: its keys cannot be told here"):format(reader.name))
    end
    return
  elseif unseen then
    return remark(("the program of type %s cannot be looked for: %s"):format(reader.name, unseen))
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

local function tell_unread(reader, key, path, problem, remark)
  local tell = reader.script and problem or remark
  tell(("nothing reads the key %q%s"):format(path,
    key.nearest and (', did you mean "%s"?'):format(key.nearest) or ""),
    not key.nearest and reader.script and ("luacni doc %s lists what is read"):format(reader.name) or nil)
end

-- Keys that nobody reads: neither those who are asked, nor the types that a script delegates to. Of what is
-- for all (`args`) the other reader of a plugin's part may be the one who does.
local function check_unknown(reader, readers, plugin, raw, seen, problem, remark)
  if reader.is_site and not seen.ran then return end
  local read = {}
  local function add(conf)
    local unknown = {}
    for _, key in ipairs(schema_doc.unknown_keys(conf, raw)) do unknown[key.path] = true end
    read[#read + 1] = unknown
  end
  for _, conf in ipairs(seen.delegates) do add(conf) end
  local is_foreign = false
  for _, other in ipairs(readers) do
    if other ~= reader and other.conf then add(other.conf) end
    is_foreign = is_foreign or not other.conf
  end
  for _, key in ipairs(schema_doc.unknown_keys(reader.conf, raw)) do
    local is_read = plugin.raw.ipam ~= nil and is_below_ipam(key.path) ~= reader.is_ipam
    is_read = is_read or is_foreign and key.path:find "^args%." ~= nil
    for _, unknown in ipairs(read) do is_read = is_read or not unknown[key.path] end
    if not is_read then tell_unread(reader, key, key.path, problem, remark) end
  end
end

-- Keys of a configuration within one: flannel's `delegate` is that of the type which makes the interface.
local function check_delegate(plugin, raw, problem, remark)
  local within = plugin.type == "flannel" and raw.delegate
  if type(within) ~= "table" then return end
  local reader = readers_of({ type = within.type or "bridge", raw = within })[1]
  for _, key in ipairs(reader.conf and schema_doc.unknown_keys(reader.conf, within) or {}) do
    if key.path ~= "type" then tell_unread(reader, key, "delegate." .. key.path, problem, remark) end
  end
end

-- Capabilities that are declared: a runtime gives what belongs to them, and somebody has to take it.
local function check_capabilities(readers, plugin, seen, problem, remark)
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
    is_told = is_told and reader.conf ~= nil and (not reader.is_site or seen.ran)
  end
  for key in pairs(seen.runtime) do taken[#taken + 1] = key end
  for _, key in ipairs(sorted) do
    if type(declared[key]) ~= "boolean" then
      problem(("capabilities.%s: %s is neither true nor false"):format(key, json.show(declared[key])))
    elseif declared[key] and is_told and not is_among(key, taken) then
      remark(("nothing reads the capability %q"):format(key),
        require("cni.protocol.hints").did_you_mean(key, taken))
    end
  end
end

-- Has what a script asks of the runtime noted in `seen`: the capabilities that it reads, and which options
-- would give what was not there. What others read for themselves, that the script calls, does not count.
local function watch(req, seen)
  local given, guard, delegate = req.runtime, getmetatable(req).__index, req.delegate
  local function asks(option)
    -- 1 is this function, 2 what it is called by; then who reads: the script, or a verb that it calls.
    local place = host.script_line(3) or host.script_line(4)
    if place and place:find "^/" then seen.wanted[option] = true end
  end
  req.runtime = setmetatable({}, {
    __index = function(_, key)
      seen.runtime[key] = true
      if given[key] == nil then asks "--cap-args" end
      return given[key]
    end,
    __pairs = function()
      for key in pairs(given) do seen.runtime[key] = true end
      return pairs(given)
    end,
  })
  setmetatable(req, { __index = function(t, key)
    if key == "args" then asks "--args" end
    return guard(t, key)
  end })
  req.delegate = function(...)
    seen.is_delegating = true
    local result = delegate(...)
    seen.is_delegating = false
    return result
  end
end

-- Tell why an ADD would fail here. A script that refuses for want of what only a runtime can say is no fault
-- of the configuration; when something of it was `given`, that was to be all of it.
local function tell_failure(err, seen, given, problem, remark)
  local wanted, is_own = {}, not given and not seen.is_delegating
  for option in pairs(is_own and seen.wanted or {}) do wanted[#wanted + 1] = option end
  table.sort(wanted)
  -- What is missing of CNI_ARGS the script asks for by its declaration.
  if is_own and err.code == fail.codes.env and err.msg:find "^CNI_ARGS" then wanted[1] = "--args" end
  if err.mistake == true or fail.stopped(err) then
    problem(tostring(err))
  elseif wanted[1] then
    remark("without what a runtime would say: " .. tostring(err), ("the script asks for it, %s %s it")
      :format(table.concat(wanted, " or "), wanted[2] and "give" or "gives"))
  elseif err.mistake or err.code == fail.codes.config then
    problem(tostring(err))
  else
    remark("on this machine: " .. tostring(err))
  end
end

-- What an ADD would do here: rules between values, and what this machine has for them. Gives what was seen of
-- it: `ran` to its end; `delegates`, what the types declare that the script delegates to; `runtime`, a set,
-- the capabilities that it has read; `wanted`, another: the options for what it has asked for in vain;
-- `is_delegating`: what it has delegated to was not through. `chain`: `result`, that of the plugins before as
-- it would be, which this one's takes the place of; `is_unknown`: it cannot be told; `made`: the links
-- that they would have made, as of cni.engine.lacks; nil when one of them is not known.
local function check_plan(job, plugin, reader, chain, problem, remark)
  local seen = { delegates = {}, runtime = {}, wanted = {} }
  local prev = chain.result
  if reader.script.chained and not prev then
    if not chain.is_unknown then
      problem("nothing is before it that makes the interface",
        "it is used in a chain, behind a plugin that does")
    end
    return seen
  end
  local made = chain.made
  chain.result, chain.is_unknown, chain.made = nil, true, nil
  local verbs = require "cni.engine.verbs"
  local env = { CNI_COMMAND = "ADD", CNI_CONTAINERID = job.id, CNI_NETNS = job.netns, CNI_IFNAME = job.ifname,
    CNI_PATH = job.path, CNI_ARGS = job.args }
  local req
  local ok, err = say.bounded(function()
    req = request.from_env(function(name) return env[name] end)
    req.type = plugin.type
    request.read_config(req, plugins.stdin(job, plugin, { prevResult = prev or false }))
    verbs.equip(req, host)
    if reader.is_site then watch(req, seen) end
    local script = require("cni.engine.script").plugin(host, plugin.type)
    if made then made.by = chain.at end
    local _, planned, lacking, twice = verbs.dry_run(req, script, made)
    chain.result, chain.is_unknown, chain.made = planned, not planned, made
    for _, other in ipairs(twice) do problem(tostring(other)) end
    for _, lack in ipairs(lacking) do remark("on this machine: " .. tostring(lack)) end
  end)
  for _, name in ipairs(req and req.plan and req.plan.delegates or {}) do
    local script = say.script(name)
    if script and script.conf then table.insert(seen.delegates, script.conf) end
  end
  seen.ran = ok
  local given = job.args or job.capability_args
  if not ok then tell_failure(fail.wrap(err), seen, given, problem, remark) end
  return seen
end

local function check_plugin(job, plugin, chain, problem, remark)
  local readers, is_well = readers_of(plugin), true
  local raw = json.decode(plugins.stdin(job, plugin), "stdin", { object = true })
  for _, reader in ipairs(readers) do
    check_program(job, reader, problem, remark)
    if reader.conf then is_well = check_keys(reader, raw, problem) and is_well end
  end
  local seen = { delegates = {}, runtime = {}, wanted = {} }
  if is_well and readers[1].script and is_known(job.network.version) then
    seen = check_plan(job, plugin, readers[1], chain, problem, remark)
  else
    -- Others' types that come behind another one pass on what they are given, mostly.
    chain.is_unknown, chain.made = not chain.result, nil
  end
  check_capabilities(readers, plugin, seen, problem, remark)
  for _, reader in ipairs(readers) do
    if reader.conf then check_unknown(reader, readers, plugin, raw, seen, problem, remark) end
  end
  check_delegate(plugin, raw, problem, remark)
end

local M = {
  words = "[CONF]",
  about = "look for faults and unknown keys in a configuration",
  text = "Reads every value that one of luacni's types declares, and of the reference plugins' other " ..
    "types what is known of them; plans the ADD on this machine, without doing anything; looks for the " ..
    "programs. Says what is missing, unknown, given twice, or does nothing. A remark (note) is no " ..
    "fault: what is not known of others' types, what this machine lacks (a link, a delegate), or what " ..
    "failed here for another reason. A script that wants what only a runtime can say is given it by " ..
    "--args and --cap-args. Without CONF: all networks in the folder.",
  least = 0, most = 1, conf = true,
  options = job_of.options({ "conf-dir", "ifname", "args", "cap-args" }, {
    strict = { about = "take remarks for faults" },
    json = { about = "as JSON" },
  }),
  examples = { "luacni validate /etc/cni/net.d/10-demo.conflist", "luacni validate --strict" },
}

--- What is to be said of a network.
-- @tparam table network as of cni.runtime.config
-- @tparam[opt] table want of an attachment: `ifname`, `args`, `capability_args`
-- @treturn {table,...} `where`; `level`: fault, or note; `text`; `program`: that is missing
function M.findings(network, want)
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
  want = want or {}
  local job = job_of.new(network, { id = "validate", netns = "/run/netns/validate",
    ifname = want.ifname or "eth0", args = want.args, capability_args = want.capability_args })
  local problem, remark = told(network.is_single and "configuration" or "list")
  local misnamed = network.file and config.misnamed(network)
  if misnamed then told(network.file)(misnamed) end
  check_list(network, network.text, problem, remark)
  seek_doubles(splice.compact(network.text), "", problem)
  local chain = { made = { host = {}, pod = {} } }
  for i, plugin in ipairs(network.plugins) do
    chain.at = ("plugins[%d] (%s)"):format(i - 1, plugin.type)
    problem, remark = told(chain.at)
    if plugin.is_sibling then seek_doubles(splice.compact(plugin.text), "", problem) end
    check_plugin(job, plugin, chain, problem, remark)
    if plugin.around then check_around(plugin, problem) end
  end
  if network.is_bundled and not files.program(request.split_path(job.path), "luacni") then
    told("list")(("no program luacni in %s, which type luacni is"):format(job.path))
  end
  return list
end

-- The networks that are meant; and what is to be said of files beside them.
local function networks_of(word, options)
  if word then return { job_of.network(word, options) }, {} end
  local networks, problems, others = config.all(job_of.folder(options))
  local found = {}
  for _, entry in ipairs(problems) do
    -- The text of what cannot be read begins with the file, mostly.
    local text, start = tostring(entry.problem), entry.file .. ": "
    found[#found + 1] = { where = entry.file, level = "fault",
      text = text:sub(1, #start) == start and text:sub(#start + 1) or text }
  end
  for _, entry in ipairs(others) do
    found[#found + 1] = { where = entry.file, level = "note", network = entry.name,
      text = ("nobody reads it: network %s is in %s, which comes before it"):format(entry.name, entry.by) }
  end
  if not networks[1] and not found[1] then
    say.usage(("there is no network in %s"):format(job_of.folder(options)))
  end
  return networks, found
end

--- Look, and tell.
-- @tparam {string,...} words
-- @tparam table options
-- @treturn integer exit status: 1 when there is a fault
function M.run(words, options)
  local all, lines, status, want = json.list {}, {}, 0, job_of.given(options)
  local networks, beside = networks_of(words[1], options)
  local function tell(found, before)
    all[#all + 1] = found
    if found.level == "fault" or options.strict then status = 1 end
    lines[#lines + 1] = ("%s%s: %s%s"):format(before, found.where,
      found.level == "note" and "note: " or "", found.text)
  end
  for _, found in ipairs(beside) do tell(found, "") end
  for i, network in ipairs(networks) do
    host.progress(("validate: network %s, %d of %d"):format(network.name, i, #networks))
    for _, found in ipairs(M.findings(network, want)) do
      found.network = network.name
      tell(found, (networks[2] or beside[1]) and network.name .. ": " or "")
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
