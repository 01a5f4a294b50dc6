-- SPDX-License-Identifier: MIT
-- luacni update

local attachments = require "cni.command.attachments"
local cache = require "cni.runtime.cache"
local config = require "cni.runtime.config"
local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local plans = require "cni.engine.plan"
local plugins = require "cni.runtime.plugin"
local say = require "cni.command.say"
local splice = require "cni.runtime.splice"
local update = require "cni.engine.update"

-- Keys -------------------------------------------------------------------------------------

-- A member of an object, and of objects in it: the text with another value there.
local function set_at(text, path, value)
  local key, rest = path:match "^([^.]+)%.?(.*)$"
  if not key or not text:find "^%s*{" then
    say.usage(("--set %s: there is no object to have that key"):format(path))
  end
  if rest ~= "" then value = set_at(splice.get(text, key) or "{}", rest, value) end
  return splice.set(text, { [key] = value })
end

-- What a key is set to, as JSON: a value that is none is a text.
local function json_of(text)
  if pcall(json.decode, text) then return text end
  return json.compact(text)
end

local function conf_of(plugin)
  local ok, script = pcall(function() return require("cni.engine.script").plugin(host, plugin.type).conf end)
  return ok and script or nil
end

-- The plugin of a chain that --plugin names by its type or its number; without it the one that has the key.
local function plugin_of(network, word, key)
  local types, having, keys = {}, {}, {}
  for i, plugin in ipairs(network.plugins) do
    types[i] = plugin.type
    if word == plugin.type or word == tostring(i) then return plugin end
    local conf = not word and conf_of(plugin)
    if plugin.raw[key] ~= nil or conf and conf.fields[key] then having[#having + 1] = plugin end
    for name in pairs(conf and conf.fields or {}) do keys[#keys + 1] = name end
  end
  if word then say.usage(("network %s has no plugin %q"):format(network.name, word), word, types) end
  if #having == 1 then return having[1] end
  if not having[1] then
    say.usage(("--set %s: no plugin of the network has that key"):format(key), key, keys)
  end
  say.usage(("--set %s: several plugins of the network have that key; --plugin says which: %s"):format(key,
    table.concat(types, ", ")))
end

-- Keys that are the runtime's, or say which plugin it is.
local not_to_be_set <const> = { name = true, type = true, cniVersion = true, prevResult = true,
  runtimeConfig = true, capabilities = true }

-- Refuse a key that the plugin does not read. Those of `ipam` are the IPAM plugin's.
local function must_be_read(plugin, path)
  if not_to_be_set[path:match "^[^.]+"] then
    say.usage(("--set %s: that is not for a plugin to be updated with"):format(path))
  end
  local ipam = plugin.raw.ipam
  local is_ipam = path:find "^ipam%." and type(ipam) == "table" and type(ipam.type) == "string"
  local conf = conf_of(is_ipam and { type = ipam.type } or plugin)
  for _, found in ipairs(conf and require("cni.command.schema_doc").unknown_keys(conf, plugin.raw) or {}) do
    if found.path == path or path:sub(1, #found.path + 1) == found.path .. "." then
      say.usage(("--set %s: %s has no such key%s"):format(path, plugin.type,
        found.nearest and (" (did you mean %q?)"):format(found.nearest) or ""))
    end
  end
end

local function apply_sets(network, options)
  for _, text in ipairs(options.set or {}) do
    local path, value = text:match "^([^=]+)=(.*)$"
    if not path then say.usage(("--set %s: it is KEY=VALUE"):format(text)) end
    if path == "" then say.usage(("--set %s: it is KEY=VALUE"):format(text)) end
    local plugin = plugin_of(network, options.plugin, path:match "^[^.]+")
    plugin.text = set_at(plugin.text, path, json_of(value))
    plugin.raw = json.decode(plugin.text, plugin.type, { object = true })
    must_be_read(plugin, path)
    network.is_changed = true
  end
  return network
end

-- What is wanted ---------------------------------------------------------------------------

local function from_file(options)
  local file = options.file
  local network = job_of.network(file == "-" and file or file:find("/", 1, true) and file or "./" .. file,
    options)
  return network
end

local from_runtime <const> = { name = false, cniVersion = false, prevResult = false, runtimeConfig = false }

-- The network as it is for an attachment: what each plugin was given last, as far as there are records.
local function in_force(network, entry)
  local nth = {}
  for _, plugin in ipairs(network.plugins) do
    local n = (nth[plugin.type] or 0) + 1
    nth[plugin.type] = n
    for _, record in ipairs(entry.records) do
      if record.header.type == plugin.type and not record.replaced and record.done then
        n = n - 1
        if n == 0 then
          plugin.text = splice.set(record.header.config, from_runtime)
          plugin.raw, network.is_changed = json.decode(plugin.text), true
        end
      end
    end
  end
  return network
end

-- The network as far as the records of an attachment tell: its plugins of ours.
local function recorded(entry)
  local list, newest = {}, nil
  for _, record in ipairs(entry.records) do
    local header = record.header
    local ok, raw = pcall(json.decode, header.config, "record")
    -- One that another has executed for addresses was given that one's configuration.
    if ok and raw.type == header.type and record.done and not record.replaced then
      list[#list + 1] = { n = #list, at = raw.prevResult and 1 or 0, since = record.since or 0,
        text = splice.set(header.config, from_runtime) }
      newest = newest or raw.cniVersion
    end
  end
  table.sort(list, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    if a.since ~= b.since then return a.since < b.since end
    return a.n < b.n
  end)
  for i, one in ipairs(list) do list[i] = one.text end
  return config.read(('{"cniVersion":%s,"name":%s,"plugins":[%s]}'):format(json.compact(newest or "0.1.0"),
    json.compact(entry.network), table.concat(list, ",")), "what the records say")
end

-- The network as it is to be for an attachment.
local function network_of(word, entry, stored, options, given)
  local network
  if options.file then
    network = from_file(options)
  elseif (options.set or given) and stored and stored.config then
    network = in_force(config.read(stored.config, "the stored configuration", job_of.folder(options)), entry)
  else
    local found, err = pcall(job_of.network, word, options)
    if found then
      network = err
      if options.set or given then network = in_force(network, entry) end
    elseif options.set and entry.records[1] then
      network = recorded(entry)
    else
      error(err, 0)
    end
  end
  if network.name ~= entry.network then
    say.usage(("that is a configuration of network %s, not of %s"):format(network.name, entry.network))
  end
  return apply_sets(network, options)
end

local function merged(base, more)
  local all = {}
  for key, value in pairs(base or {}) do all[key] = value end
  for key, value in pairs(more or {}) do all[key] = value end
  return all
end

-- What a plugin is given by capability: what it was given last, with other values.
local function runtime_config(part, plugin, stored, given)
  local text = part.old and splice.get(part.old.header.config, "runtimeConfig") or "{}"
  local takes, changes = type(plugin.raw.capabilities) == "table" and plugin.raw.capabilities or {}, {}
  local had = {}
  for _, member in ipairs(splice.members(text)) do
    had[member.key] = true
    if takes[member.key] ~= true then changes[member.key] = false end
  end
  for key, wanted in pairs(takes) do
    local value = given and given[key]
    if value == nil and not had[key] and stored then value = stored[key] end
    if wanted == true and value ~= nil then changes[key] = json.compact(value) end
  end
  text = splice.set(text, changes)
  return #splice.members(text) > 0 and text or false
end

-- The chain that is stored, by type and number among those of its type; nil: none can be read.
local function stored_chain(stored)
  local ok, before = pcall(config.read, stored and stored.config or "", "the stored configuration")
  if not ok then return nil end
  local chain, nth = {}, {}
  for _, plugin in ipairs(before.plugins) do
    nth[plugin.type] = (nth[plugin.type] or 0) + 1
    chain[plugin.type .. " " .. nth[plugin.type]] = plugin
  end
  return chain
end

-- Refuse to leave out what another's plugin has done.
local function must_stay(chain, seen, ours)
  for key, plugin in pairs(chain or {}) do
    if not seen[key] and not ours[plugin.type] then
      fail.throw { msg = ("%s is not one of luacni's types: an update cannot take it out of the chain")
        :format(plugin.type), hint = "DEL and ADD make the attachment anew" }
    end
  end
end

local function parts_of(network, entry, stored, given)
  local ours, parts = {}, {}
  for _, one in ipairs(host.types()) do ours[one.name] = true end
  local job = job_of.new(network, { id = entry.container, ifname = entry.interface })
  local chain, nth, seen = stored_chain(stored), {}, {}
  for i, plugin in ipairs(network.plugins) do
    nth[plugin.type] = (nth[plugin.type] or 0) + 1
    local key = plugin.type .. " " .. nth[plugin.type]
    local before = chain and chain[key]
    seen[key] = true
    local part = { type = plugin.type, foreign = not ours[plugin.type] or nil, is_stored = before ~= nil }
    part.changed = part.foreign and chain
      and (not before or splice.compact(before.text) ~= splice.compact(plugin.text))
    function part.stdin(prev)
      return plugins.stdin(job, plugin, { prevResult = prev,
        runtimeConfig = runtime_config(part, plugin, stored and stored.capability_args, given) })
    end
    parts[i] = part
  end
  must_stay(chain, seen, ours)
  return parts
end

-- Doing ------------------------------------------------------------------------------------

local words_of <const> = { ["+"] = "added", ["~"] = "changed", ["-"] = "removed" }

-- Values of `want` that are another, by the names of their keys.
local function differing(old, new, name, list)
  if type(old) == "table" and type(new) == "table" and #old == 0 and #new == 0 then
    local keys, all = {}, {}
    for _, one in ipairs { old, new } do
      for key in pairs(one) do
        if not keys[key] then keys[key], all[#all + 1] = true, key end
      end
    end
    table.sort(all)
    for _, key in ipairs(all) do differing(old[key], new[key], tostring(key), list) end
  elseif name and type(old) ~= "table" and type(new) ~= "table" and old ~= new then
    list[#list + 1] = ("%s: %s, not %s"):format(name, tostring(new == nil and "none" or new),
      tostring(old == nil and "none" or old))
  end
  return list
end

-- What is told of a step: the line for people, and for JSON.
local function line_of(part, sign, step, from)
  local text = plans.say(step)
  local before = from and plans.say(from)
  if before and before ~= text then
    text = ("%s (it was: %s)"):format(text, before)
  elseif from then
    local list = differing(from.want, step.want, nil, {})
    if list[1] then text = ("%s (%s)"):format(text, table.concat(list, ", ")) end
  end
  local is_anew = sign == "~" and not plans.kind_of(step).change
  if is_anew then text = text .. "; made anew, with an interruption" end
  return ("%s %s  %s"):format(sign, part.type, text),
    { change = words_of[sign], type = part.type, step = text }
end

local function store(entry, network, stored, text, given)
  cache.store(merged(stored, { network = entry.network, id = entry.container, ifname = entry.interface,
    netns = stored.netns, config = config.stored(network), result = text,
    capability_args = merged(stored.capability_args, given) }))
end

-- As long as a runtime's call may take.
local patience <const> = 60

local function parsed(stored)
  local ok, result = pcall(function()
    return require("cni.protocol.result").parse_any(json.decode(stored.result), "1.1.0")
  end)
  return ok and result or nil
end

-- Update one attachment. Returns what is told of it. (Another command uses it as well.)
local function one(word, entry, options, given)
  host.deadline(patience)
  local owner = { network = entry.network, id = entry.container, ifname = entry.interface }
  local stored = cache.load(owner)
  if stored and not stored.config then stored = nil end
  if options.cache and not stored then
    fail.throw { msg = ("no runtime has stored %s of container %s in %s"):format(entry.interface,
      entry.container, cache.folder) }
  end
  local network = network_of(word, entry, stored, options, given)
  local said = { network = entry.network, container = entry.container, interface = entry.interface,
    steps = json.list {}, lines = {} }
  local text, changed = update.attachment(owner, parts_of(network, entry, stored, given), {
    host = host, log = host.log, time_left = host.time_left, watch = job_of.watch(), dry = options["dry-run"],
    version = network.version ~= "" and network.version or "0.1.0",
    result = stored and parsed(stored), stores = stored ~= nil,
  }, function(...)
    local line, step = line_of(...)
    said.lines[#said.lines + 1], said.steps[#said.steps + 1] = line, step
  end)
  host.deadline(0)
  if changed and stored and not options["dry-run"] then store(entry, network, stored, text, given) end
  said.text, said.changed = text, changed
  return said
end

-- The attachments that the words mean.
local function meant(words, options)
  local name = job_of.network_name(words[1], options)
  local list = attachments.all(name, words[2])
  local found, names = {}, {}
  for _, entry in ipairs(list) do
    if not words[3] or entry.interface == words[3] then found[#found + 1] = entry end
    names[#names + 1] = entry.interface
  end
  if options.all and not list[1] then job_of.must_be_known(words[1], options) end
  if found[1] or options.all then return found end
  if words[3] and list[1] then
    say.usage(("no %s of %s is attached to network %s"):format(words[3], words[2], name), words[3], names)
  end
  job_of.must_be_known(words[1], options)
  local ids = {}
  for _, entry in ipairs(attachments.all(name)) do
    ids[#ids + 1] = entry.container
    if entry.sandbox then ids[#ids + 1] = job_of.netns_name(entry.sandbox) end
  end
  say.usage(("nothing of %s is attached to network %s"):format(words[2], name), words[2], ids)
end

local function check_words(words, options)
  if options.all and words[2] then say.usage "update: --all is for every attachment of the network" end
  if not options.all and not words[2] then
    say.usage "update: which attachment? WHO comes behind the network's name; --all is for every one"
  end
  if options.plugin and not options.set then say.usage "update: --plugin is for --set" end
  if options.all and (options.set or options["cap-args"]) then
    say.usage "update: --set and --cap-args are for one attachment; for --all change the network's file"
  end
end

local function tell(said, options)
  if options["dry-run"] then
    if said.lines[1] then say.lines(said.lines) else host.log "nothing would change" end
    return
  end
  for _, line in ipairs(said.lines) do host.log(line) end
  if not said.changed then
    host.log "nothing has changed"
  elseif not said.lines[1] then
    host.log "the same is to be done by the new configuration"
  end
  say.bytes((said.text:gsub("\n*$", "\n")))
end

local function of_all(list, words, options, given)
  local failed, out, count = false, json.list {}, 0
  for n, entry in ipairs(list) do
    if host.held_signal() then break end
    host.progress(("update: %d of %d looked at"):format(n - 1, #list))
    local ok, said = pcall(one, words[1], entry, options, given)
    if not ok and say.mistake(said) then error(said, 0) end
    if ok then
      count = count + (said.changed and 1 or 0)
      for _, line in ipairs(not options.json and options["dry-run"] and said.lines or {}) do
        say.lines { ("%s %s  %s"):format(entry.container, entry.interface, line) }
      end
      out[#out + 1] = { network = said.network, container = said.container, interface = said.interface,
        steps = said.steps, result = json.decode(said.text) }
    else
      failed = true
      local err = tostring(fail.wrap(said))
      out[#out + 1] = { network = entry.network, container = entry.container, interface = entry.interface,
        problem = err }
      if not options.json then
        host.log(("luacni: %s  %s %s  %s"):format(entry.network, entry.container, entry.interface, err))
      end
    end
  end
  host.progress()
  if options.json then
    say.json(out)
  else
    say.lines { ("%d of %d %s"):format(count, #list,
      options["dry-run"] and "would change" or "have changed") }
  end
  return failed and 1 or 0
end

-- What is begun is ended; then a signal that asks to end is heeded.
local function ended(status)
  local signal = host.held_signal()
  return signal and 128 + signal or status
end

return {
  words = "NETWORK [WHO [IFNAME]]",
  about = "bring attachments to what their configuration says now",
  text = "Runs the plugins' scripts once more, compares what they ask for with what the records say was " ..
    "done, and does the difference: what is the same is not touched, and connections through it go on; " ..
    "addresses stay. What is added or changed comes first, what is wanted no more goes after. All or " ..
    "nothing: what fails, or is killed, is taken back. The configuration is that of the network's file as " ..
    "it is now, or of --file; or with --set and --cap-args what the attachment has, with other values. " ..
    "The result is printed, and the changes before it on standard error. What only an ADD can do, such as " ..
    "leasing another address, is refused. What a runtime made of libcni has stored of the attachment is " ..
    "brought up to date. WHO is a namespace's name or path, or the container's ID.",
  least = 1, most = 3, network = true,
  options = job_of.options({ "conf-dir", "cap-args" }, {
    file = { value = "FILE", short = "f", about = "the configuration; - is standard input" },
    set = { value = "KEY=VALUE", many = true, may_be_empty = true,
      about = "a key of one plugin, such as ipMasq=true or ipam.ranges=[...]; may be repeated" },
    plugin = { value = "PLUGIN", about = "whose key that is: a plugin by its type, or its number from 1" },
    all = { about = "every attachment of the network" },
    cache = { value = "DIR", about = "libcni's folder, where the attachment is stored (/var/lib/cni)" },
    ["dry-run"] = { about = "say what would be added (+), changed (~), removed (-); do nothing" },
    json = { about = "as JSON: the `steps`, and the `result`; with --all a list, of what failed `problem`" },
  }),
  attachment = one,
  examples = { "luacni update demo blue --set mtu=1400 --plugin bridge --dry-run",
    "luacni update demo --all" },
  run = function(words, options)
    check_words(words, options)
    if options.cache then cache.folder = options.cache .. "/results" end
    local given = job_of.given(options).capability_args
    local list = meant(words, options)
    host.hold_signals()
    if options.all then return ended(of_all(list, words, options, given)) end
    if list[2] then
      local names = {}
      for i, entry in ipairs(list) do names[i] = entry.container .. " " .. entry.interface end
      say.usage(("%s has several attachments to network %s: %s; ID and IFNAME say which"):format(words[2],
        words[1], table.concat(names, ", ")))
    end
    local said = one(words[1], list[1], options, given)
    if not options.json then return ended(tell(said, options)) end
    say.json { network = said.network, container = said.container, interface = said.interface,
      steps = said.steps, result = json.decode(said.text) }
    return ended()
  end,
}
