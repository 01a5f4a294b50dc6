-- SPDX-License-Identifier: MIT
-- luacni validate

local fail = require "cni.fail"
local host = require "host"
local say = require "cni.command.say"

-- Keys that nothing reads. What is below ipam is for the IPAM plugin to read.
local function unknown_keys(plugin, raw)
  local schema_doc = require "cni.command.schema_doc"
  local found = {}
  local ipam = type(raw.ipam) == "table" and type(raw.ipam.type) == "string"
    and host.load_plugin(raw.ipam.type)
  for _, key in ipairs(schema_doc.unknown_keys(plugin.conf, raw)) do
    if not key.path:find("^ipam%.") then found[#found + 1] = key end
  end
  if ipam and ipam ~= plugin and ipam.conf then
    for _, key in ipairs(schema_doc.unknown_keys(ipam.conf, raw)) do
      if key.path:find("^ipam%.") then found[#found + 1] = key end
    end
  end
  return found
end

-- What is wrong with one plugin's configuration, as lines.
local function problems_of(network, entry, plugin)
  local problems, notes = {}, {}
  local req = { command = "ADD" }
  local ok, err = pcall(function()
    local stdin = require("cni.runtime.plugin").stdin({ network = network }, entry)
    require("cni.protocol.request").read_config(req, stdin)
    local schema = require "cni.schema"
    notes = schema.notes(plugin.conf, schema.read(plugin.conf, req.raw))
  end)
  if not ok then problems[1] = tostring(fail.wrap(err)) end
  table.move(notes, 1, #notes, #problems + 1, problems)
  for _, key in ipairs(unknown_keys(plugin, req.raw or entry.raw)) do
    problems[#problems + 1] = ("nothing reads the key %q%s"):format(key.path,
      key.nearest and (', did you mean "%s"?'):format(key.nearest) or "")
  end
  return problems
end

return {
  words = "CONF",
  about = "look for faults and unknown keys in a configuration",
  text = "Reads every key that one of luacni's types declares, as an ADD would. Exit status 1 when " ..
    "there is anything to say; what is said goes to standard output.",
  least = 1, most = 1, conf = true,
  examples = { "luacni validate /etc/cni/net.d/10-demo.conflist" },
  run = function(words, options)
    local network = require("cni.command.job").network(words[1], options)
    local lines = {}
    for i, entry in ipairs(network.plugins) do
      local plugin = host.load_plugin(entry.type)
      local problems = plugin and plugin.conf and problems_of(network, entry, plugin) or {}
      if not plugin then problems[1] = "not one of luacni's types, so nobody here can tell" end
      for _, text in ipairs(problems) do
        lines[#lines + 1] = ("plugins[%d] (%s): %s"):format(i - 1, entry.type, text)
      end
    end
    if not lines[1] then return 0 end
    say.lines(lines)
    return 1
  end,
}
