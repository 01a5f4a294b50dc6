-- SPDX-License-Identifier: MIT
-- luacni list

local journal = require "cni.record.journal"
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

local function state(record)
  return record.leaving and "half deleted" or record.done and "attached" or "unfinished"
end

-- An attachment for each container's interface in a network, made of the records of all types.
local function attachments(network, id)
  local list, by_key = json.list {}, {}
  for _, record in ipairs(journal.all(network)) do
    local header = record.header
    local key = ("%s\0%s\0%s"):format(header.network, header.id, header.ifname)
    local entry = by_key[key]
    if not entry and (not id or header.id == id) then
      entry = { network = header.network, container = header.id, interface = header.ifname,
        sandbox = header.netns, types = json.list {}, addresses = json.list {}, state = "attached",
        since = record.since and math.floor(record.since) }
      by_key[key] = entry
      list[#list + 1] = entry
    end
    if entry then
      table.insert(entry.types, header.type)
      if state(record) ~= "attached" then entry.state = state(record) end
      local seen = {}
      for _, address in ipairs(entry.addresses) do seen[address] = true end
      for _, address in ipairs(record.done and record.done.ips or {}) do
        if not seen[address] then table.insert(entry.addresses, address) end
      end
    end
  end
  return list
end

return {
  words = "[NETWORK [ID]]",
  about = "list the attachments",
  text = "From the records: container, interface, addresses, the types that worked for it, how long " ..
    "ago. What was attached by other plugins is not in them.",
  least = 0, most = 2,
  options = { json = { about = "as JSON" } },
  examples = { "luacni list", "luacni list demo --json" },
  run = function(words, options)
    local list = attachments(words[1], words[2])
    if options.json then return say.json(list) end
    if not list[1] then return say.nothing(words[1], words[2]) end
    local now = sys.time()
    local rows = { { "NETWORK", "CONTAINER", "INTERFACE", "TYPES", "AGE", "ADDRESSES" } }
    for i, entry in ipairs(list) do
      local unusual = entry.state == "attached" and "" or " (" .. entry.state .. ")"
      rows[i + 1] = { entry.network, entry.container, entry.interface, table.concat(entry.types, " "),
        entry.since and age(math.floor(now) - entry.since) or "?",
        table.concat(entry.addresses, " ") .. unusual }
    end
    say.columns(rows)
  end,
}
