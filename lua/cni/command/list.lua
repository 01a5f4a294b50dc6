-- SPDX-License-Identifier: MIT
-- luacni list

local attachments = require "cni.command.attachments"
local job = require "cni.command.job"
local say = require "cni.command.say"
local sys = require("netlink").sys

local units = { { 86400, "d" }, { 3600, "h" }, { 60, "m" } }

local function age(seconds)
  for _, unit in ipairs(units) do
    if seconds >= unit[1] then return ("%d%s"):format(seconds // unit[1], unit[2]) end
  end
  return ("%ds"):format(math.max(seconds, 0))
end

local function remark_of(entry)
  local words = { attachments.unusual(entry) }
  if not entry.recorded then words[#words + 1] = "no record" end
  words[#words + 1] = entry.problem
  return words[1] and (" (%s)"):format(table.concat(words, ", ")) or ""
end

local function tell_attachments(list)
  local now = math.floor(sys.time())
  local rows = { { "NETWORK", "CONTAINER", "INTERFACE", "NETNS", "TYPES", "AGE", "ADDRESSES" } }
  for i, entry in ipairs(list) do
    rows[i + 1] = { entry.network, entry.container, entry.interface, job.netns_name(entry.sandbox),
      table.concat(entry.types, " "),
      entry.since and age(now - entry.since) or "?",
      table.concat(entry.addresses, " ") .. remark_of(entry) }
  end
  say.columns(rows)
end

local function tell_leases(list)
  local rows = { { "NETWORK", "ADDRESS", "CONTAINER", "INTERFACE", "" } }
  for i, lease in ipairs(list) do
    rows[i + 1] = { lease.network, lease.address, lease.container,
      lease.interface ~= "" and lease.interface or "?", lease.attached and "" or "nobody that is known here" }
  end
  say.columns(rows)
end

return {
  words = "[NETWORK [WHO]]",
  about = "list the attachments, or who has which address",
  text = "Container, interface, namespace, the types that worked for it, how long ago, addresses: " ..
    "from the records of luacni's types, from what runtimes made of libcni have stored of others, and " ..
    "from what luacni has begun. " ..
    "\"no record\": a runtime has stored it, but luacni's records do not know it. Either another's plugin " ..
    "made it, or its record is lost. \"begun and not ended\": the `luacni add` or `run` that made it was " ..
    "killed, or could not take back what it had done; `luacni del` and `luacni gc` do. \"its interface is " ..
    "gone\": somebody has deleted it, and its namespace lives; `luacni del` takes back the rest. WHO is a " ..
    "namespace's name or path, or the container's ID. --leases: from the lease directories, and whether " ..
    "the one who has an address is attached.",
  least = 0, most = 2, network = true,
  options = job.options({ "conf-dir" }, {
    json = { about = "as JSON" },
    leases = { about = "the addresses that are leased, instead of the attachments" },
  }),
  examples = { "luacni list --leases", "luacni list demo blue", "luacni list demo --json" },
  run = function(words, options)
    local list, leases = attachments.all(job.network_name(words[1], options), words[2])
    if not list[1] and not leases[1] then job.must_be_known(words[1], options) end
    if options.leases then
      if options.json then return say.json(leases) end
      if not leases[1] then return say.nothing(words[1], words[2], "no address is leased") end
      return tell_leases(leases)
    end
    if options.json then
      for i, entry in ipairs(list) do list[i] = attachments.told(entry) end
      return say.json(list)
    end
    if not list[1] then return say.nothing(words[1], words[2]) end
    tell_attachments(list)
  end,
}
