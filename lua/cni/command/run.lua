-- SPDX-License-Identifier: MIT
-- luacni run

local host = require "host"
local job_of = require "cni.command.job"
local say = require "cni.command.say"

-- Nothing is printed of a chain that fails: a heading without steps would say that there are none.
local function dry_run(job)
  local said = {}
  local request, verbs = require "cni.protocol.request", require "cni.engine.verbs"
  local result -- of the chain so far, as it would be
  for _, entry in ipairs(job.network.plugins) do
    host.progress(("dry run of %s, network %s"):format(entry.type, job.network.name))
    local env = { CNI_COMMAND = "ADD", CNI_CONTAINERID = job.id, CNI_NETNS = job.netns,
      CNI_IFNAME = job.ifname, CNI_PATH = job.path, CNI_ARGS = job.args }
    local req = request.from_env(function(name) return env[name] end)
    request.read_config(req, require("cni.runtime.plugin").stdin(job, entry,
      { prevResult = result or false }))
    verbs.equip(req, host)
    local plugin = require("cni.engine.script").plugin(host, entry.type)
    req.type = entry.type
    said[#said + 1] = entry.type .. (plugin and ":" or ": not one of luacni's types")
    if plugin then
      local ok, lines, planned = say.bounded(verbs.dry_run, req, plugin)
      if not ok then error(lines, 0) end
      result = planned
      for _, line in ipairs(lines) do said[#said + 1] = "  " .. line end
    end
  end
  say.lines(said)
end

local function job_for(word, options)
  return require("cni.command.scratch").new(job_of.network(word, options), job_of.given(options))
end

return {
  words = "CONF [OPTION...] -- COMMAND...",
  about = "run a command in a network made for it",
  text = "Makes a namespace, attaches it as a runtime would, runs the command there, and takes all of " ..
    "it down again. Plugins are looked for in CNI_PATH. The exit status is the command's; 125 " ..
    "when the network could not be made or taken down, 126 or 127 when the command could not be " ..
    "run. When luacni is killed, so is the command; `luacni gc` takes down what is left.",
  least = 1, most = math.huge, conf = true, calls = true, command = true,
  options = job_of.options({ "conf-dir", "ifname", "args", "cap-args" },
    { ["dry-run"] = { about = "print what would be done, and do nothing" } }),
  examples = { "luacni run net.conflist -- ping -c1 10.22.0.1", "luacni run net.conflist --dry-run" },
  run = function(words, options)
    local command = table.move(words, 2, #words, 1, {})
    if options["dry-run"] then return dry_run(job_for(words[1], options)) end
    if not command[1] then say.usage("run: there is no command to run, give one behind --") end
    local scratch = require "cni.command.scratch"
    return say.or_status(125, function() return scratch.run(job_for(words[1], options), command) end)
  end,
}
