-- SPDX-License-Identifier: MIT
-- luacni show

local host = require "host"
local say = require "cni.command.say"

return {
  words = "TYPE",
  about = "print the script of a type",
  text = "The one that is used: a site's own, else the built-in one. To begin with a copy of it, see " ..
    "`luacni new`.",
  least = 1, most = 1,
  examples = { "luacni show bridge" },
  run = function(words)
    local source = host.source(words[1])
    if not source then
      say.usage(("there is no type %q"):format(words[1]), words[1], say.type_names())
    end
    say.bytes(source)
  end,
}
