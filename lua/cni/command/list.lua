-- SPDX-License-Identifier: MIT
-- luacni list

local attachments = require "cni.command.attachments"
local job = require "cni.command.job"
local json = require "cni.json"
local say = require "cni.command.say"
local sys = require("netlink").sys

local units = { { 86400, "d" }, { 3600, "h" }, { 60, "m" } }

local function age(seconds)
  for _, unit in ipairs(units) do
    if seconds >= unit[1] then return ("%d%s"):format(seconds // unit[1], unit[2]) end
  end
  return ("%ds"):format(math.max(seconds, 0))
end

local unusual = { gone = " (its namespace is gone)", unfinished = " (unfinished)",
  ["half deleted"] = " (half deleted)" }

local function tell_attachments(list)
  local now = math.floor(sys.time())
  local rows = { { "NETWORK", "CONTAINER", "INTERFACE", "NETNS", "TYPES", "AGE", "ADDRESSES" } }
  for i, entry in ipairs(list) do
    rows[i + 1] = { entry.network, entry.container, entry.interface, job.netns_name(entry.sandbox),
      table.concat(entry.types, " "),
      entry.since and age(now - entry.since) or "?",
      table.concat(entry.addresses, " ") .. (unusual[entry.state] or "") }
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
  words = "[NETWORK [ID]]",
  about = "list the attachments, or who has which address",
  text = "Container, interface, namespace, the types that worked for it, how long ago, addresses: " ..
    "from the records of luacni's types, and from what runtimes made of libcni have stored of others. " ..
    "--leases: from the lease directories, and whether the one who has an address is attached.",
  least = 0, most = 2,
  options = {
    json = { about = "as JSON" },
    leases = { about = "the addresses that are leased, instead of the attachments" },
  },
  examples = { "luacni list --leases", "luacni list demo --json" },
  run = function(words, options)
    local list, leases = attachments.all(words[1], words[2])
    if options.leases then
      local of_id = json.list {}
      for _, lease in ipairs(leases) do
        if not words[2] or lease.container == words[2] then of_id[#of_id + 1] = lease end
      end
      if options.json then return say.json(of_id) end
      if not of_id[1] then return say.nothing(words[1], words[2], "no address is leased") end
      return tell_leases(of_id)
    end
    if options.json then
      for i, entry in ipairs(list) do list[i] = attachments.told(entry) end
      return say.json(list)
    end
    if not list[1] then return say.nothing(words[1], words[2]) end
    tell_attachments(list)
  end,
}
