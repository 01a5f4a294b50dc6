-- SPDX-License-Identifier: MIT
--- Who is attached to what: from the records of luacni's types, from what runtimes have stored, from what
-- luacni has begun and not ended, and from the lease directories. For people: what cannot be read is left
-- out, but for what has begun.
-- @module cni.command.attachments

local addr = require "cni.addr"
local begun = require "cni.runtime.begun"
local cache = require "cni.runtime.cache"
local files = require "cni.record.files"
local job = require "cni.command.job"
local journal = require "cni.record.journal"
local json = require "cni.json"
local leases = require "cni.leases"
local netlink = require "netlink"
local sandbox = require "cni.record.sandbox"

local M = {}

local function key_of(network, id, ifname)
  return ("%s\0%s\0%s"):format(network, id, ifname)
end

local function add(list, value)
  for _, known in ipairs(list) do
    if known == value then return end
  end
  table.insert(list, value)
end

-- A record's sandbox, or what a path names; nil, and whether it is certainly gone.
local function namespace_of(entry)
  local ok, ns
  if entry.header then
    ok, ns = pcall(sandbox.find, entry.header)
  elseif entry.sandbox then
    ok, ns = pcall(sandbox.open, entry.sandbox)
  end
  if ok and ns then return ns end
  local none = not entry.sandbox or entry.header and entry.header.cookie == ""
  return nil, ok and not none
end

local function of_record(entry, record)
  local header = record.header
  entry.header, entry.sandbox, entry.recorded = header, header.netns, true
  table.insert(entry.records, record)
  entry.since = entry.since or record.since and math.floor(record.since)
  add(entry.types, header.type)
  if record.leaving then
    entry.state = "half deleted"
  elseif not record.done then
    entry.state = "unfinished"
  end
  for _, address in ipairs(record.done and record.done.ips or {}) do add(entry.addresses, address) end
end

local function of_cache(entry, stored)
  entry.sandbox = entry.sandbox or stored.netns
  entry.since, entry.stored = entry.since or math.floor(stored.since), true
  local ok, network = pcall(require("cni.runtime.config").read, stored.config or "", "what is stored")
  for _, plugin in ipairs(ok and network.plugins or {}) do add(entry.types, plugin.type) end
  if entry.recorded then return end
  local read, result = pcall(function()
    return require("cni.protocol.result").parse_any(json.decode(stored.result), "1.0.0")
  end)
  for _, ip in ipairs(read and result.ips or {}) do add(entry.addresses, ip.address) end
end

-- What is at work is no news, but that it is not ended.
local function of_begun(entry, mark)
  local kept = mark.kept
  for _, plugin in ipairs(kept and kept.list.plugins or {}) do add(entry.types, plugin.type) end
  entry.sandbox = entry.sandbox or kept and kept.netns ~= "" and kept.netns or nil
  entry.since = entry.since or mark.since and math.floor(mark.since)
  if not mark.living then
    entry.state, entry.problem = "begun", mark.problem and tostring(mark.problem) or nil
  elseif not entry.stored then
    entry.state = "unfinished"
  end
end

-- The folders that have leases, by what is attached. A script may lease in one of another name than its
-- network's: then the record is what tells whose the lease is.
-- Returns by folder a set of the names in it that records give; and by lease the key of the attachment.
local function lease_folders(records)
  local found, keys = { [leases.default_dir] = {} }, {}
  for _, record in ipairs(records) do
    local header = record.header
    for _, step in ipairs(record.steps) do
      local want = step.want
      if step.kind == "lease" and step.did and leases.is_place(want) then
        found[want.dir] = found[want.dir] or {}
        found[want.dir][want.network] = true
        keys[want.dir .. "\0" .. key_of(want.network, header.id, header.ifname)] =
          key_of(header.network, header.id, header.ifname)
      end
    end
  end
  return found, keys
end

local function read_leases(folder, named, only, list)
  for _, network in ipairs(files.list(folder)) do
    local meant = not only or only == network or named[network]
    for _, name in ipairs(meant and files.list(folder .. "/" .. network) or {}) do
      local text = addr.ip(name) and files.read(folder .. "/" .. network .. "/" .. name)
      -- Older host-locals wrote the ID alone.
      local id, ifname = (text or ""):match "^%s*([^\r\n]*)[\r\n]*([^\r\n]*)"
      if text then
        list[#list + 1] = { network = network, address = name, folder = folder, container = id,
          interface = ifname }
      end
    end
  end
end

-- Returns by lease the attachment that has it.
local function give_leases(list, keys, by_key, by_id)
  local holders = {}
  for _, lease in ipairs(list) do
    local key = key_of(lease.network, lease.container, lease.interface)
    local recorded = keys[lease.folder .. "\0" .. key]
    local entry = by_key[recorded] or by_key[key]
      or lease.interface == "" and by_id[lease.network .. "\0" .. lease.container]
    lease.attached = (entry or recorded) and true
    if entry then
      holders[lease] = entry
      table.insert(entry.leases, lease.address)
    end
  end
  return holders
end

-- Whether a step has brought the interface of an attachment into its namespace.
local function brings(step, ifname)
  local want = step.want
  if step.kind == "move" then return want.into == "pod" and want.name == ifname end
  if step.kind ~= "link" and step.kind ~= "tap" then return false end
  local peer = want.peer
  return (want.into or step.ns) == "pod" and want.name == ifname
    or peer ~= nil and peer.ns == "pod" and peer.name == ifname
end

-- Whether the interface that was made for an attachment is not there any more. What cannot be looked at is.
local function is_unplugged(entry, ns)
  for _, record in ipairs(entry.records) do
    for _, step in ipairs(record.steps) do
      if step.did and brings(step, entry.interface) then
        local h <close> = netlink.open(ns)
        if not h then return false end
        local link, _, errno = h:get("link", { name = entry.interface }, { "index" })
        return not link and not errno
      end
    end
  end
  return false
end

-- The state of an attachment whose namespace, or interface, is gone; and whether it is the one that a word
-- means.
local function look_at(entry, is_meant)
  local ns <close>, gone = namespace_of(entry)
  if entry.state == "attached" then
    if not ns and gone then entry.state = "gone" end
    if ns and is_unplugged(entry, ns) then entry.state = "unplugged" end
  end
  return is_meant(entry.container, ns, entry.sandbox)
end

local function anyone() return true end

--- All attachments: one for each container's interface in a network.
-- @string[opt] network only of this one
-- @string[opt] word only of this container: its ID, or its namespace's name or path
-- @treturn {table,...} `network`, `container`, `interface`, `sandbox` (path), `types`, `addresses`, `leases`,
-- `state` (attached, unfinished, half deleted, gone: its namespace is, unplugged: its interface is, begun:
-- its ADD was killed), `since`;
-- `recorded`, `stored`: whether luacni's records or what runtimes store know it; `problem`: why it cannot be
-- told what was begun; `records`, and `header` of one
-- @treturn {table,...} leases, those of a container whose ID is the word and of its attachments, or all:
-- `network`, `address`, `folder`, `container`, `interface`, `attached`: whether an attachment has it
function M.all(network, word)
  local list, by_key, by_id = json.list {}, {}, {}
  local function entry_of(net, container, ifname)
    local key = key_of(net, container, ifname)
    local entry = by_key[key]
    if not entry then
      entry = { network = net, container = container, interface = ifname, types = json.list {},
        addresses = json.list {}, leases = json.list {}, state = "attached", recorded = false, stored = false,
        records = {} }
      by_key[key], by_id[net .. "\0" .. container] = entry, entry
      list[#list + 1] = entry
    end
    return entry
  end
  local records = journal.all(network)
  for _, record in ipairs(records) do
    of_record(entry_of(record.header.network, record.header.id, record.header.ifname), record)
  end
  for _, stored in ipairs(cache.all(network)) do
    of_cache(entry_of(stored.network, stored.id, stored.ifname), stored)
  end
  for item in begun.each(network) do
    local mark <close> = item
    -- One in which nothing is said had not begun.
    if mark.kept or mark.problem then
      of_begun(entry_of(mark.network or "?", mark.id or mark.path:match "[^/]*$", mark.ifname or "?"), mark)
    end
  end
  table.sort(list, function(a, b)
    return key_of(a.network, a.container, a.interface) < key_of(b.network, b.container, b.interface)
  end)
  local is_meant, meant, of_meant = word and job.meaning(word) or anyone, json.list {}, {}
  for _, entry in ipairs(list) do
    if look_at(entry, is_meant) then
      meant[#meant + 1], of_meant[entry] = entry, true
    end
  end
  local held = json.list {}
  local folders, keys = lease_folders(network and journal.all() or records)
  for folder, named in pairs(folders) do read_leases(folder, named, network, held) end
  table.sort(held, function(a, b)
    if a.network ~= b.network then return a.network < b.network end
    return addr.cmp(addr.ip(a.address), addr.ip(b.address)) < 0
  end)
  local holders, wanted = give_leases(held, keys, by_key, by_id), json.list {}
  for _, lease in ipairs(held) do
    -- In a folder of another name are leases of other networks too.
    local here = not network or lease.network == network
    if of_meant[holders[lease]] or here and is_meant(lease.container) then wanted[#wanted + 1] = lease end
  end
  return meant, wanted
end

--- The namespace of an attachment, opened.
-- @tparam table entry of @{all}
-- @treturn ns|nil nil: it is gone, or cannot be looked at
function M.namespace(entry)
  return (namespace_of(entry))
end

--- An attachment without what is for the program alone.
-- @tparam table entry of @{all}
-- @treturn table for JSON
function M.told(entry)
  local copy = {}
  for key, value in pairs(entry) do copy[key] = value end
  copy.header, copy.records = nil, nil
  return copy
end

--- The command that takes an attachment away.
-- @tparam table entry of @{all}, whose namespace lives
-- @treturn string
function M.del_command(entry)
  local words = { "luacni del", entry.network, job.netns_name(entry.sandbox) }
  if entry.container ~= job.id_of(entry.sandbox) then words[#words + 1] = "--id " .. entry.container end
  if entry.interface ~= "eth0" then words[#words + 1] = "--ifname " .. entry.interface end
  return table.concat(words, " ")
end

local unusual = { gone = "its namespace is gone", begun = "begun and not ended",
  unplugged = "its interface is gone" }

--- What is unusual about the state of an attachment, for people.
-- @tparam table entry of @{all}
-- @treturn string|nil nil: nothing
function M.unusual(entry)
  return entry.state ~= "attached" and (unusual[entry.state] or entry.state) or nil
end

return M
