-- SPDX-License-Identifier: MIT
-- luacni show

local files = require "cni.record.files"
local host = require "host"
local say = require "cni.command.say"
local sys = require("netlink").sys

return {
  words = "TYPE",
  about = "print the script of a type, or a hook",
  text = "The one that is used: a site's own, else the built-in one. To begin with a copy of it, see " ..
    "`luacni new`. A hook is called hooks.d/NAME.",
  least = 1, most = 1,
  examples = { "luacni show bridge" },
  run = function(words)
    local hook = words[1]:match "^hooks%.d/([^/]+)$"
    if hook then
      local hooks = require "cni.engine.hooks"
      return say.bytes(files.must(sys.read_file(("%s/%s.lua"):format(hooks.folder, hook))))
    end
    local source = host.source(words[1])
    if not source then
      say.usage(("there is no type %q"):format(words[1]), words[1], say.type_names())
    end
    say.bytes(source)
  end,
}
