-- SPDX-License-Identifier: MIT
-- luacni del

local config = require "cni.runtime.config"
local host = require "host"
local job_of = require "cni.command.job"
local names = require "cni.names"

-- An attachment is taken back by the configuration that it was made with. Where none is stored, and for a
-- configuration that is given as a file, it is that of the command line.
local function network_of(word, options, attachment)
  local entry = names.is_id(word) and attachment(word)
  if entry and entry.list then return entry.list end
  local ok, network = pcall(config.read, entry and entry.config or "", "the stored configuration",
    job_of.folder(options))
  return ok and network.name == word and network or job_of.network(word, options)
end

return {
  words = "NETWORK NETNS",
  about = "take an attachment away",
  text = "Calls DEL of the network's plugins, the last one first, with the configuration, the " ..
    "arguments and the result that are stored for the attachment, whichever runtime has stored them; " ..
    "what is not stored is as the files in the folder of networks and the options say. Of an ADD that was " ..
    "killed it takes back what there is. The namespace may be gone already. Twice is fine.",
  least = 1, most = 2, network = true, calls = true,
  options = job_of.options { "conf-dir", "ifname", "args", "cap-args", "id" },
  examples = { "luacni del demo blue", "luacni del podman --id 6f0e3cde5a4b" },
  run = function(words, options)
    local function attachment(name) return select(2, job_of.attachment(name, words[2], options)) end
    local network = network_of(words[1], options, attachment)
    local want, _, problem = job_of.attachment(network.name, words[2], options)
    if problem then host.log("luacni: " .. problem.msg .. ": the network is taken as it is now") end
    require("cni.runtime.verbs").del(job_of.new(network, want))
  end,
}
