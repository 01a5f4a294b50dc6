-- SPDX-License-Identifier: MIT
-- luacni repair

local attachments = require "cni.command.attachments"
local cache = require "cni.runtime.cache"
local fail = require "cni.fail"
local host = require "host"
local job = require "cni.command.job"
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

-- Collects what is found. `tell` is given each line at once.
local function account(entry, tell)
  local self = { steps = json.list {}, problems = json.list {} }
  local function name(header)
    return ("%s  %s %s  %s"):format(header.network, header.id, header.ifname, header.type)
  end
  function self.step(header, words, differs)
    self.steps[#self.steps + 1] = { type = header.type, step = words, differs = differs }
    tell(("%s  %s"):format(name(header), differs))
  end
  function self.left(header, err)
    self.problems[#self.problems + 1] = { type = header.type, problem = tostring(err) }
    tell(nil, ("%s: %s"):format(name(header), tostring(err)))
  end
  function self.told()
    return { network = entry.network, container = entry.container, interface = entry.interface,
      steps = self.steps, problems = self.problems }
  end
  return self
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
    json = { about = "as JSON: each attachment with `steps` done anew (--dry-run: missing), and `problems`" },
  }),
  examples = { "luacni repair", "luacni repair demo blue --dry-run" },
  run = function(words, options)
    local list = attachments.all(job.network_name(words[1], options), words[2])
    if not list[1] then job.must_be_known(words[1], options) end
    local dry, failed, found, out = options["dry-run"], false, false, json.list {}
    local env = { log = host.log, time_left = host.time_left, environ = host.environ, dry = dry,
      watch = job.watch() }
    for n, entry in ipairs(list) do
      host.progress(("repair: %d of %d looked at"):format(n, #list))
      local told = account(entry, function(line, why)
        if options.json then return end
        if line then return say.lines { line } end
        host.log("luacni: " .. why)
      end)
      env.prev = stored(entry)
      local ok, err = pcall(repair.attachment, entry.records, env, told)
      if not ok then told.left(entry.header, fail.wrap(err)) end
      found, failed = found or told.steps[1] ~= nil, failed or told.problems[1] ~= nil
      if told.steps[1] or told.problems[1] then out[#out + 1] = told.told() end
    end
    if options.json then
      say.json(out)
    elseif not list[1] then
      say.nothing(words[1], words[2])
    elseif not found and not failed then
      host.log "nothing is missing"
    end
    return failed and 1 or 0
  end,
}
