-- SPDX-License-Identifier: MIT
-- luacni check

local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local say = require "cni.command.say"

-- An interface that is gone nothing brings back but another ADD.
local function with_remedy(err, network, want)
  local attachments = require "cni.command.attachments"
  for _, entry in ipairs((attachments.all(network, want.id))) do
    if entry.state == "unplugged" and entry.container == want.id and entry.interface == want.ifname then
      err.hint = err.hint or ("%s takes back the rest, and then an ADD makes it anew"):format(
        attachments.del_command(entry))
    end
  end
  return err
end

-- The other interfaces that a container has in the network; nil: none that is known.
local function elsewhere(network, want)
  local names = {}
  for _, entry in ipairs((require("cni.command.attachments").all(network, want.id))) do
    if entry.container == want.id then names[#names + 1] = entry.interface end
  end
  return names[1] and table.concat(names, ", ")
end

return {
  words = "NETWORK NETNS",
  about = "ask whether an attachment is as it was made",
  text = "Calls CHECK of the network's plugins, with the result that is stored for the attachment, " ..
    "whichever runtime has stored it. Prints nothing when all is well.",
  least = 1, most = 2, network = true, calls = true,
  options = job_of.options { "conf-dir", "ifname", "args", "cap-args", "id" },
  examples = { "luacni check demo blue" },
  run = function(words, options)
    local network = job_of.network(words[1], options)
    local want, entry, problem = job_of.attachment(network.name, words[2], options)
    if problem then error(problem, 0) end
    if entry and entry.list then
      fail.throw { msg = ("the ADD of %s of container %s to network %s has not ended")
        :format(want.ifname, want.id, network.name), hint = "luacni del takes back what there is of it" }
    end
    if not want.netns then
      local others = elsewhere(network.name, want)
      if others then
        say.usage(("container %s has no %s on network %s: -i NAME asks of another, it has %s"):format(want.id,
          want.ifname, network.name, others))
      end
      say.usage(("nothing is stored of container %s on network %s: which namespace? Its path or name comes "
        .. "behind the network's"):format(want.id, network.name))
    end
    local job = job_of.new(network, want)
    local ok, checked = pcall(require("cni.runtime.verbs").check, job)
    if not ok then error(with_remedy(fail.wrap(checked), network.name, want), 0) end
    if checked then return end
    host.log(("luacni: network %s says disableCheck: nothing is looked at"):format(network.name))
  end,
}
