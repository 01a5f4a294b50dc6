-- SPDX-License-Identifier: MIT
-- luacni status

local host = require "host"
local job_of = require "cni.command.job"

return {
  words = "NETWORK",
  about = "ask whether a network could be attached to",
  text = "Calls STATUS of the network's plugins. Prints nothing when all is well. (NETNS may follow, " ..
    "as for cnitool; it is not looked at.)",
  least = 1, most = 2, network = true, calls = true,
  options = job_of.options { "conf-dir" },
  examples = { "luacni status demo" },
  run = function(words, options)
    local network = job_of.network(words[1], options)
    if require("cni.runtime.verbs").status(job_of.new(network, {})) then return end
    host.log(("luacni: network %s is of a version before 1.1.0, which has no STATUS: nobody is asked")
      :format(network.name))
  end,
}
