-- SPDX-License-Identifier: MIT
-- luacni bundle

local chain = require "cni.runtime.chain"
local rewrite = require "cni.command.rewrite"

return {
  words = "CONF",
  about = "print a list of plugins as one plugin, which runs them in one process",
  text = "A runtime starts a program for each plugin of a list. Behind `\"type\": \"luacni\"` a list of " ..
    "its own stands for all of them: same results, CHECK, GC and records, all or nothing, and one program " ..
    "to start. Types that are none of luacni's are programs as before. What is attached already is " ..
    "deleted, checked and updated in either form. The program has to be in the runtime's folder of " ..
    "plugins, by the name luacni.",
  least = 1, most = 1, conf = true,
  options = rewrite.options,
  examples = { "luacni bundle demo", "luacni bundle /etc/cni/net.d/10-demo.conflist --write" },
  run = function(words, options) return rewrite.run("bundle", words, options, chain.bundle) end,
}
