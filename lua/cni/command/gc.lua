-- SPDX-License-Identifier: MIT
--- luacni gc
-- @module cni.command.gc

local attachments = require "cni.command.attachments"
local begun = require "cni.runtime.begun"
local cache = require "cni.runtime.cache"
local config = require "cni.runtime.config"
local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local journal = require "cni.record.journal"
local json = require "cni.json"
local sandbox = require "cni.record.sandbox"
local say = require "cni.command.say"
local verbs = require "cni.runtime.verbs"

local function key_of(network, id, ifname)
  return ("%s\0%s\0%s"):format(network, id, ifname)
end

-- Attachments whose record says that their namespace lives, wherever it is: it need not be at its path.
local function recorded()
  local alive, networks = {}, {}
  for _, record in ipairs(journal.all()) do
    local header = record.header
    networks[header.network] = true
    local ok, ns = pcall(sandbox.find, header)
    if record:is_whole() and (not ok or ns) then
      alive[key_of(header.network, header.id, header.ifname)] = { network = header.network,
        containerID = header.id, ifname = header.ifname }
    end
  end
  return alive, networks
end

-- What a path names that is not there, or no namespace, is gone; what cannot be looked at is not.
local function is_gone(entry)
  if not entry.netns then return false end
  local ok, ns = pcall(sandbox.open, entry.netns)
  return ok and not ns
end

-- The configuration that an attachment was made with, or the network's as it is now.
local function network_of(entry, folder)
  local ok, network = pcall(config.read, entry.config or "", "the stored configuration", folder)
  if ok and network.name == entry.network then return network end
  return (config.find(entry.network, folder))
end

local function delete(network, entry)
  if not network then
    fail.config("config", "none is stored of the attachment, and no file has the network")
  end
  verbs.del(job_of.new(network, entry))
end

-- For somebody who waits: how many have been looked at.
local function counter()
  local count = 0
  return function(network, id)
    count = count + 1
    host.progress(("gc: %d looked at, network %s, container %s"):format(count, network, id))
  end
end

-- Collects what goes, each attachment once. `tell` is given each at once, since it may take a while: what
-- it is, in words; the error that kept it from going; the same for JSON.
local function account(tell)
  local self, seen = { count = 0, failed = false, looked_at = counter() }, {}
  function self.note(network, id, ifname, what, problem)
    local key = key_of(network or "", id or "", ifname or "")
    if id and seen[key] and not problem then return end
    seen[key] = true
    if problem then
      self.failed = true
    else
      self.count = self.count + 1
    end
    tell(("%s  %s %s  %s"):format(network or "?", id or "?", ifname or "?", what), problem,
      { network = network, container = id, interface = ifname, what = what })
  end
  return self
end

local function clear_stored(only, all, dry, folder, alive, told)
  local valid = {}
  for _, entry in ipairs(cache.all(only)) do
    local key = key_of(entry.network, entry.id, entry.ifname)
    told.looked_at(entry.network, entry.id)
    local dead = all or not alive[key] and is_gone(entry)
    local found, network = pcall(network_of, entry, folder)
    if dead and not (found and network and network.disable_gc) then
      local ok, err = pcall(function()
        if not found then error(network, 0) end
        if not dry then delete(network, entry) end
      end)
      told.note(entry.network, entry.id, entry.ifname,
        all and "stored" or "namespace " .. entry.netns .. " is gone", not ok and fail.wrap(err))
      if ok then alive[key] = nil end
    else
      valid[#valid + 1] = { containerID = entry.id, ifname = entry.ifname }
    end
  end
  return valid
end

local function clear_records(only, networks, dry, told)
  local records = require "cni.engine.records"
  for network in pairs(networks) do
    if not only or only == network then
      local req = { network = network, log = host.log, time_left = host.time_left,
        watch = job_of.watch() }
      for _, found in ipairs(records.tidy(req, dry, function(header)
        told.looked_at(header.network, header.id)
      end)) do
        local header = found.header or { network = network }
        told.note(header.network, header.id, header.ifname, ("left of %s"):format(header.type or "a record"),
          found.problem)
      end
    end
  end
end

-- GC of the plugins: they are told of all that lives.
local function collect(network, valid, alive, told)
  local known = {}
  for _, item in ipairs(valid) do known[item.containerID .. "/" .. item.ifname] = true end
  for _, item in pairs(alive) do
    if item.network == network.name and not known[item.containerID .. "/" .. item.ifname] then
      valid[#valid + 1] = { containerID = item.containerID, ifname = item.ifname }
    end
  end
  for _, failure in ipairs(verbs.gc(job_of.new(network, {}), valid)) do
    told.note(network.name, nil, nil, "GC", failure)
  end
end

local function take_back(mark, dry)
  if mark.problem then error(mark.problem, 0) end
  local job = mark.kept and begun.job(mark.kept, job_of.new(nil, {}))
  local scratch = job and mark.kept.namespace and require "cni.command.scratch"
  if scratch then scratch.must_be_empty(job) end
  if dry then return end
  if scratch then
    local failures = scratch.take_down(job)
    if failures[1] then error(fail.join(failures), 0) end
  elseif job then
    verbs.recover(mark, job)
  end
  mark:remove()
end

-- What has begun and not ended: what is at work lives.
local function clear_begun(only, dry, alive, told)
  for item in begun.each(only, not dry and "try" or nil) do
    local mark <close> = item
    local network, id, ifname = mark.network, mark.id, mark.ifname
    -- What could not be looked at may live.
    if id and not mark.file then
      alive[key_of(network, id, ifname)] = { network = network, containerID = id, ifname = ifname }
    end
    if not mark.living then
      local ok, err = pcall(take_back, mark, dry)
      local by = mark.kept and mark.kept.namespace and "run" or "add"
      told.note(network, id or mark.path:match "[^/]*$", ifname, "left of luacni " .. by,
        not ok and fail.wrap(err))
    end
  end
end

-- All that is dead. Returns what lives.
local function clear(only, all, dry, folder, told)
  local at_work = {}
  clear_begun(only, dry, at_work, told)
  local alive, networks = recorded()
  for key, item in pairs(at_work) do alive[key] = item end
  local valid = clear_stored(only, all, dry, folder, alive, told)
  clear_records(only, networks, dry, told)
  return valid, alive
end

local M = {
  words = "[NETWORK]",
  about = "clear what dead attachments have left",
  text = "Takes down what a `luacni run` or `luacni add` that was killed has left; deletes attachments " ..
    "that are stored (by whichever runtime) and whose namespace is gone; takes back what dead calls of " ..
    "luacni's types have left. With NETWORK: of this one alone, and its plugins' GC is called too, told " ..
    "of all that is stored, recorded or at work and lives. (NETNS may follow, as for cnitool; it is not " ..
    "looked at.) Where a namespace's path names nothing here, it is gone: do not run this where the " ..
    "runtime's namespaces are not to be seen.",
  least = 0, most = 2, network = true, calls = true,
  options = job_of.options({ "conf-dir" }, {
    all = { about = "of NETWORK, delete every attachment that is stored, living ones too, as cnitool does" },
    ["dry-run"] = { about = "say what there is, and do nothing" },
    json = { about = "as JSON: each with `cleared`, or `problem` where it would not go" },
  }),
  examples = { "luacni gc", "luacni gc demo --dry-run" },
}

--- What there is to be cleared; nothing is done.
-- @string folder of networks
-- @treturn {table,...} `text`, and `problem`: why it could not be told, or would not go
function M.leftovers(folder)
  local list = {}
  clear(nil, false, true, folder, account(function(text, problem)
    list[#list + 1] = { text = text, problem = problem }
  end))
  return list
end

--- Clear it.
-- @tparam {string,...} words
-- @tparam table options
-- @treturn integer exit status
function M.run(words, options)
  local dry, all, only = options["dry-run"], options.all, words[1]
  if all and not only then say.usage "gc: --all needs a network" end
  local network = only and job_of.network(only, options)
  only = network and network.name
  if network and network.disable_gc then
    host.log(("luacni: network %s says disableGC: nothing is done"):format(only))
    if options.json then say.json(json.list {}) end
    return 0
  end
  local list = json.list {}
  local told = account(function(text, problem, found)
    if options.json then
      found.cleared, found.problem = not dry and not problem, problem and tostring(problem) or nil
      list[#list + 1] = found
      return
    end
    if problem then return host.log(("luacni: %s: %s"):format(text, tostring(problem))) end
    say.lines { text .. (dry and "" or ": taken away") }
  end)
  local valid, alive = clear(only, all, dry, job_of.folder(options), told)
  if network and not dry then collect(network, valid, alive, told) end
  if options.json then
    say.json(list)
  else
    if told.count == 0 and not told.failed then host.log "nothing is left of anything dead" end
    for _, entry in ipairs((attachments.all(only))) do
      if entry.state == "unplugged" then
        host.log(("%s of container %s, network %s, is gone, but its namespace lives: %s takes back the rest")
          :format(entry.interface, entry.container, entry.network, attachments.del_command(entry)))
      end
    end
  end
  return told.failed and 1 or 0
end

return M
