-- SPDX-License-Identifier: MIT
-- luacni repair

local attachments = require "cni.command.attachments"
local cache = require "cni.runtime.cache"
local fail = require "cni.fail"
local host = require "host"
local job = require "cni.command.job"
local journal = require "cni.record.journal"
local json = require "cni.json"
local repair = require "cni.engine.repair"
local say = require "cni.command.say"

-- The result that a runtime has stored, which tells what later plugins of the chain have changed on purpose.
local function stored(entry)
  local ok, result = pcall(function()
    local kept = cache.load { network = entry.network, id = entry.container, ifname = entry.interface }
    return kept and kept.result
      and require("cni.protocol.result").parse_any(json.decode(kept.result), "1.1.0")
  end)
  return ok and result or nil
end

-- The types of ours that have worked for an attachment, as a runtime has stored it, and have no record.
local function unrecorded(entry)
  local ours, names = {}, {}
  for _, one in ipairs(host.types()) do ours[one.name] = true end
  for _, record in ipairs(entry.records) do ours[record.header.type] = nil end
  for _, name in ipairs(entry.stored and entry.types or {}) do
    if ours[name] then names[#names + 1] = name end
  end
  return names[1] and table.concat(names, ", ")
end

-- Collects what is found: for JSON, and each sentence once for people.
local function account(entry)
  local self, said = { steps = json.list {}, problems = json.list {}, lines = {}, notes = {} }, {}
  local function say_once(list, of, text)
    local line = ("%s  %s %s  %s  %s"):format(entry.network, entry.container, entry.interface, of, text)
    if not said[line] then said[line], list[#list + 1] = true, line end
  end
  function self.step(header, words, differs)
    self.steps[#self.steps + 1] = { type = header.type, step = words, differs = differs }
    say_once(self.lines, header.type, differs)
  end
  function self.problem(of, text)
    self.problems[#self.problems + 1] = { type = of, problem = text }
    say_once(self.notes, of, text)
  end
  function self.left(header, err) self.problem(header.type, tostring(err)) end
  function self.note(of, text) say_once(self.notes, of, text) end
  function self.told()
    return { network = entry.network, container = entry.container, interface = entry.interface,
      since = entry.since, steps = self.steps, problems = self.problems }
  end
  return self
end

-- What is the same for many is done for all at once, first. Whatever is wrong with that, each attachment's
-- own repair meets, and tells.
local function mend_together(list, accounts, env)
  local records, of = {}, {}
  local function key_of(network, id, ifname) return table.concat({ network, id, ifname }, "\0") end
  for _, entry in ipairs(list) do
    of[key_of(entry.network, entry.container, entry.interface)] = accounts[entry]
    local alive = entry.state == "attached" and entry.records or {}
    table.move(alive, 1, #alive, #records + 1, records)
  end
  pcall(require("cni.engine.flushed").mend, records, env, function(header, words, differs)
    of[key_of(header.network, header.id, header.ifname)].step(header, words, differs)
  end)
end

local function look_at(entry, env, told)
  if entry.state == "gone" then
    told.note(table.concat(entry.types, " "), "its namespace is gone; luacni gc takes back what is left")
    return
  end
  env.prev = stored(entry)
  local ok, err = pcall(repair.attachment, entry.records, env, told)
  if not ok then told.problem(table.concat(entry.types, " "), tostring(fail.wrap(err))) end
  local missing = unrecorded(entry)
  -- While a DEL is at work, some of its plugins have done theirs.
  if missing and journal.busy { network = entry.network, id = entry.container, ifname = entry.interface } then
    return
  end
  if missing and entry.recorded then
    told.problem(missing, "there is no record; DEL and ADD make it anew")
  elseif missing then
    told.note(missing, "there is no record: another's plugin has made it, or the record is lost")
  end
end

local function keep(words, options)
  if options["dry-run"] then say.usage "repair: --watch repairs, and --dry-run does not" end
  local argv = { "repair", table.unpack(words) }
  if options["conf-dir"] then argv[#argv + 1] = "--conf-dir=" .. options["conf-dir"] end
  return require("cni.command.repair_watch").run(argv, options.json)
end

return {
  words = "[NETWORK [WHO]]",
  about = "do anew what is missing of attachments",
  text = "Compares what ADDs have done, as the records say, with what is there: links, addresses, routes, " ..
    "settings, traffic control, nf_tables, iptables' FORWARD. What somebody has removed or changed since " ..
    "is done anew, in the order of the ADD, and what was missing is printed. What is as it was is not " ..
    "touched, and connections through it go on. What only an ADD can do is told, and left: a lease, a " ..
    "device that was moved into the sandbox, the work of other programs. An interface that was deleted is " ..
    "made anew where its namespace lives; it has its MAC, and another index. WHO is a namespace's name or " ..
    "path, or the container's ID.",
  least = 0, most = 2, network = true,
  options = job.options({ "conf-dir" }, {
    ["dry-run"] = { about = "say what is missing, and do nothing" },
    watch = { about = "go on: repair again as soon as the kernel tells of a loss, until a signal comes" },
    json = { about = "as JSON: each attachment with `steps` done (--dry-run: to be done) and `problems`; " ..
      "with --watch a list a line" },
  }),
  examples = { "luacni repair", "luacni repair demo blue --dry-run", "luacni repair --watch" },
  run = function(words, options)
    if options.watch then return keep(words, options) end
    local list = attachments.all(job.network_name(words[1], options), words[2])
    if not list[1] then job.must_be_known(words[1], options) end
    local failed, quiet, out = false, true, json.list {}
    local env = { log = host.log, time_left = host.time_left, environ = host.environ,
      dry = options["dry-run"], watch = job.watch() }
    local accounts = {}
    for _, entry in ipairs(list) do accounts[entry] = account(entry) end
    if not env.dry then mend_together(list, accounts, env) end
    for n, entry in ipairs(list) do
      host.progress(("repair: %d of %d looked at"):format(n, #list))
      local told = accounts[entry]
      look_at(entry, env, told)
      if not options.json then
        if told.lines[1] then say.lines(told.lines) end
        for _, note in ipairs(told.notes) do host.log("luacni: " .. note) end
      end
      quiet = quiet and not told.lines[1] and not told.notes[1]
      failed = failed or told.problems[1] ~= nil
      if told.steps[1] or told.problems[1] then out[#out + 1] = told.told() end
    end
    if options.json then
      say.json(out)
    elseif not list[1] then
      say.nothing(words[1], words[2])
    elseif quiet then
      host.log "nothing is missing"
    end
    return failed and 1 or 0
  end,
}
