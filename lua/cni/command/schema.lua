-- SPDX-License-Identifier: MIT
-- luacni schema

local host = require "host"
local say = require "cni.command.say"

return {
  words = "",
  about = "print a JSON Schema of network configurations",
  text = "Made of what the scripts of this machine declare, the site's own too; for an editor, or for a " ..
    "check before a configuration is on a node. It knows keys and kinds of values; luacni validate knows " ..
    "what they mean as well. Other types' plugins may have anything.",
  examples = { "luacni schema >cni.schema.json" },
  run = function()
    local scripts = {}
    for _, name in ipairs(say.type_names()) do
      host.progress("schema: type " .. name)
      local loads, script = say.bounded(host.load_plugin, name)
      if loads and script then
        scripts[name] = script
      else
        host.log(("luacni: type %s is left out: its script cannot be loaded"):format(name))
      end
    end
    say.json(require("cni.command.json_schema").of(scripts))
  end,
}
