-- SPDX-License-Identifier: MIT
-- luacni status

local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local say = require "cni.command.say"

return {
  words = "NETWORK",
  about = "ask whether a network could be attached to",
  text = "Calls STATUS of the network's plugins. Prints nothing when all is well. (NETNS may follow, " ..
    "as for cnitool; it is not looked at.)",
  least = 1, most = 2, network = true, calls = true,
  options = job_of.options({ "conf-dir" }, {
    json = { about = "as JSON: `asked`, whether plugins were; `problem`, what one of them said" },
  }),
  examples = { "luacni status demo" },
  run = function(words, options)
    local network = job_of.network(words[1], options)
    local ask = require("cni.runtime.verbs").status
    if options.json then
      local ok, result = pcall(ask, job_of.new(network, {}))
      say.json { network = network.name, asked = not ok or result, problem = not ok
        and tostring(fail.wrap(result)) or nil }
      return ok and 0 or 1
    end
    if ask(job_of.new(network, {})) then return end
    host.log(("luacni: network %s is of a version before 1.1.0, which has no STATUS: nobody is asked")
      :format(network.name))
  end,
}
