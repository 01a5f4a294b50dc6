-- SPDX-License-Identifier: MIT
-- luacni doc

local say = require "cni.command.say"

return {
  words = "TYPE",
  about = "say what a type does, and list its configuration keys",
  text = "What the comment at the head of its script says, a row for each key that it declares, and " ..
    "the rules between keys.",
  least = 0, most = math.huge,
  options = { markdown = { about = "of several types, or all, for a document" } },
  examples = { "luacni doc bridge", "luacni doc --markdown bridge vlan" },
  run = function(words, options)
    local manual = require "cni.command.manual"
    for _, name in ipairs(words) do say.plugin(name) end
    if options.markdown then
      return say.lines(manual.markdown(words[1] and words or say.type_names()))
    elseif not words[1] then
      say.usage("usage: luacni doc TYPE; luacni types lists them")
    end
    local about = manual.about(words[1])
    if about[1] then say.lines(about) end
    local rows, rules = manual.keys(say.plugin(words[1]))
    if rows[1] then
      if about[1] then say.lines { "" } end
      table.insert(rows, 1, { "key", "type", "default", "" })
      say.columns(rows)
    end
    if rules[1] then
      say.lines { "" }
      say.lines(rules)
    end
  end,
}
