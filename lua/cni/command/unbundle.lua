-- SPDX-License-Identifier: MIT
-- luacni unbundle

local chain = require "cni.runtime.chain"
local rewrite = require "cni.command.rewrite"

return {
  words = "CONF",
  about = "print what luacni bundle has made as a list of plugins",
  text = "Each plugin stands for itself again; what is not known of them stays as it is.",
  least = 1, most = 1, conf = true,
  options = rewrite.options,
  examples = { "luacni unbundle demo" },
  run = function(words, options) return rewrite.run("unbundle", words, options, chain.unbundle) end,
}
