-- SPDX-License-Identifier: MIT
-- luacni version

local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local plugins = require "cni.runtime.plugin"
local say = require "cni.command.say"
local verbs = require "cni.runtime.verbs"

-- What a plugin says of itself.
local function row_of(job, plugin, version)
  local row = { type = plugin.type, program = plugins.program(job, plugin.type), versions = json.list {} }
  local ok, versions = pcall(verbs.versions, job, plugin)
  if not ok then
    row.problem = tostring(fail.wrap(versions))
    return row
  end
  row.versions = json.list(versions)
  for _, known in ipairs(versions) do
    if known == version then return row end
  end
  row.problem = ("does not support %s, which the network is of"):format(version)
  return row
end

return {
  words = "[NETWORK]",
  about = "ask a network's plugins which versions they speak",
  text = "Calls VERSION of each. Exit status 1 when one does not speak the network's version. Without " ..
    "NETWORK: prints the version of luacni. (NETNS may follow, as for the other verbs; it is not " ..
    "looked at.)",
  least = 0, most = 2, network = true, calls = true,
  options = job_of.options({ "conf-dir" }, { json = { about = "as JSON" } }),
  examples = { "luacni version demo" },
  run = function(words, options)
    if not words[1] then
      if options.json then return say.json { luacni = host.version } end
      return say.lines { "luacni " .. host.version }
    end
    local network = job_of.network(words[1], options)
    local job, list, rows = job_of.new(network, {}), json.list {}, { { "TYPE", "PROGRAM", "VERSIONS" } }
    local status = 0
    for i, plugin in ipairs(network.plugins) do
      local row = row_of(job, plugin, network.version ~= "" and network.version or "0.1.0")
      list[i] = row
      rows[i + 1] = { row.type, row.program or "none",
        row.problem and row.problem or table.concat(row.versions, " ") }
      if row.problem then status = 1 end
    end
    if options.json then say.json(list) else say.columns(rows) end
    return status
  end,
}
