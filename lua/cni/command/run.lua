-- SPDX-License-Identifier: MIT
-- luacni run

local host = require "host"
local say = require "cni.command.say"

local function dry_run(run)
  local request, verbs = require "cni.protocol.request", require "cni.engine.verbs"
  for _, entry in ipairs(run.network.plugins) do
    local env = { CNI_COMMAND = "ADD", CNI_CONTAINERID = run.id, CNI_NETNS = run.netns,
      CNI_IFNAME = run.ifname, CNI_PATH = run.path, CNI_ARGS = run.args }
    local req = request.from_env(function(name) return env[name] end)
    local text = require("cni.command.runtime").stdin(run.network, entry, nil, run.capability_args)
    request.read_config(req, text)
    verbs.equip(req, host)
    local plugin = verbs.plugin(host, entry.type)
    req.type = entry.type
    say.lines { entry.type .. (plugin and ":" or ": not one of luacni's types") }
    if plugin then
      for _, line in ipairs(verbs.dry_run(req, plugin)) do say.lines { "  " .. line } end
    end
  end
end

return {
  words = "CONF [OPTION...] -- COMMAND...",
  about = "run a command in a network made for it",
  text = "Makes a namespace, attaches it as a runtime would, runs the command there, and takes all of " ..
    "it down again. Plugins are looked for in CNI_PATH. The exit status is the command's; 125 " ..
    "when the network could not be made or taken down, 126 or 127 when the command could not be " ..
    "run.",
  least = 1, most = math.huge, conf = true, command = true,
  options = {
    ["dry-run"] = { about = "print what would be done, and do nothing" },
    ifname = { value = "NAME", about = "name of the interface inside (eth0)" },
    args = { value = "ARGS", about = "CNI_ARGS, as KEY=VALUE;KEY=VALUE" },
    ["cap-args"] = { value = "JSON", about = "capability arguments, for plugins that say they take them" },
  },
  examples = { "luacni run net.conflist -- ping -c1 10.22.0.1", "luacni run net.conflist --dry-run" },
  run = function(words, options)
    local runtime = require "cni.command.runtime"
    local capability_args
    if options["cap-args"] then
      capability_args = require("cni.json").decode(options["cap-args"], "--cap-args", { object = true })
    end
    local job = runtime.new(host, say.network(words[1]),
      { ifname = options.ifname, args = options.args, capability_args = capability_args })
    if options["dry-run"] then return dry_run(job) end
    local command = table.move(words, 2, #words, 1, {})
    if not command[1] then say.usage("run: there is no command to run, give one behind --") end
    return runtime.command(job, command)
  end,
}
