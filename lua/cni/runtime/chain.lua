-- SPDX-License-Identifier: MIT
--- A chain in one process: a plugin of type `luacni` whose configuration has `plugins` of its own runs them
-- one after the other as a runtime would, and answers as the last one does. To the records it is the same
-- chain: each part has its own, by which DEL, CHECK, GC, update and repair go, in whichever form.
--
--     ADD      all or nothing: the parts' records count once the first does, which is the last to be ended.
--              What is killed before is debris, and what fails takes back all, the last part first
--     DEL      the last part first; one that fails keeps no other from it
--     CHECK    each in order; the first that is not content ends it
--     GC       each; failures are told together at the end
--     STATUS   each in order; the first that fails ends it
--
-- A part whose type has no script here is another's program along CNI_PATH.
--
-- @module cni.runtime.chain

local config = require "cni.runtime.config"
local fail = require "cni.fail"
local journal = require "cni.record.journal"
local json = require "cni.json"
local plugins = require "cni.runtime.plugin"
local request = require "cni.protocol.request"
local scripts = require "cni.engine.script"
local splice = require "cni.runtime.splice"
local verbs = require "cni.engine.verbs"

local M = {}

-- Seconds that a part has, as a call of its own would.
local patience <const> = 60

local Chain = {}
Chain.__index = Chain

-- What the runtime gives by capability, as far as a part says that it takes it, as it was written.
local function runtime_config(part, given)
  local takes, changes = type(part.raw.capabilities) == "table" and part.raw.capabilities or {}, {}
  local members = splice.members(given)
  for _, member in ipairs(members) do
    if takes[member.key] ~= true then changes[member.key] = false end
  end
  local text = splice.set(given, changes)
  return #splice.members(text) > 0 and text or false
end

local function missing(where)
  fail.config(where .. "plugins",
    "is missing: type luacni is a chain in one process, of the plugins listed there")
end

local function read(bytes)
  local network = config.read(bytes, "the configuration")
  for _, part in ipairs(network.plugins) do
    if part.type == "luacni" then missing(network.is_bundled and part.where .. "." or "") end
  end
  return network
end

-- The plugins of the chain. A DEL goes by the records where nobody can tell from the configuration.
local function network_of(req, bytes)
  local ok, network = pcall(read, bytes)
  if ok then return network end
  local parts = {}
  local owner = { network = req.network, id = req.container_id, ifname = req.ifname }
  for _, record in ipairs(req.command == "DEL" and journal.of(owner) or {}) do
    local text = splice.set(record.header.config, { runtimeConfig = false, prevResult = false })
    parts[#parts + 1] = { type = record.header.type, text = text, raw = json.decode(text), where = "plugins" }
  end
  if not parts[1] then error(network, 0) end
  return { name = req.network, plugins = parts }
end

-- Members of the whole configuration that a runtime means for each plugin.
local for_all <const> = { "cni.dev/valid-attachments", "cni.dev/attachments" }

--- The chain that a request is about.
-- @tparam table req of main, with its configuration read
-- @tparam string bytes that configuration
-- @tparam table host the module of that name
-- @tparam[opt] table watch of cni.watch.call
-- @treturn Chain
-- @raise code 7 for what is no list of plugins
function M.new(req, bytes, host, watch)
  local network = network_of(req, bytes)
  local self = setmetatable({ req = req, host = host, watch = watch, parts = network.plugins, members = {},
    job = { network = network, id = req.container_id, netns = req.netns, ifname = req.ifname, args = req.args,
      path = req.path_text or "", environ = req.environ, log = function(text) host.write(2, text) end },
  }, Chain)
  self.given = splice.get(bytes, "runtimeConfig") or "{}"
  for _, key in ipairs(for_all) do self.members[key] = splice.get(bytes, key) end
  self.prev = splice.get(bytes, "prevResult") or false
  network.version = req.raw.cniVersion or ""
  local seen = {}
  for _, part in ipairs(self.parts) do
    part.plugin = scripts.plugin(host, part.type, nil, req.command)
    part.is_foreign = not part.plugin and plugins.program(self.job, part.type) ~= nil
    -- What changes nothing the second time has one record in a list too.
    local key = part.type .. splice.compact(part.text)
    part.is_again = seen[key] and part.plugin and req.command == "ADD" and part.plugin.chained
    seen[key] = true
  end
  return self
end

function Chain:stdin(part, prev)
  local more = { prevResult = prev, runtimeConfig = runtime_config(part, self.given) }
  for key, text in pairs(self.members) do more[key] = text end
  return plugins.stdin(self.job, part, more)
end

-- An error of a part says which.
local function named(part, err)
  err = fail.wrap(err)
  if not err.part then
    local is_named = err.msg:find(part.type, 1, true)
    err.msg, err.part = is_named and err.msg or ("%s: %s"):format(part.type, err.msg), part.type
  end
  -- It has been tried again by the part itself.
  err.retry = nil
  return err
end

-- Make a call to one of our own parts.
function Chain:call(part, prev, more)
  local req = request.from_env(self.host.getenv)
  request.read_config(req, self:stdin(part, prev))
  verbs.equip(req, self.host, self.watch)
  for key, value in pairs(more or {}) do req[key] = value end
  local plugin = part.plugin
  if not plugin then
    -- Of a DEL or GC the record may know enough; any other call has to find the program.
    if req.command ~= "DEL" and req.command ~= "GC" then plugins.find(self.job, part.type) end
    plugin = setmetatable({ type = part.type }, { __index = function()
      plugins.find(self.job, part.type)
    end })
  end
  req.type = plugin.type
  self.host.deadline(patience)
  verbs[req.command:lower()](req, plugin)
end

-- Raise what can be told before anything is done: a program that is not there, a value that is refused.
function Chain:foresee()
  for _, part in ipairs(self.parts) do
    local ok, err = pcall(function()
      if part.is_foreign then return end
      if not part.plugin then plugins.find(self.job, part.type) end
      local conf = part.plugin.conf
      if conf then require("cni.schema").read(conf, json.decode(self:stdin(part, false))) end
    end)
    if not ok then error(named(part, err), 0) end
  end
end

-- Call a part, which tells nothing but whether it fails.
function Chain:ask(part)
  local ok, err = pcall(function()
    if not part.is_foreign then return self:call(part, self.prev) end
    plugins.call(self.job, self.req.command, part, self:stdin(part, self.prev))
  end)
  return not ok and named(part, err) or nil
end

-- Call all parts, from one end; what fails is told together at the end.
function Chain:ask_all(first, last, step)
  local errors = {}
  for i = first, last, step do errors[#errors + 1] = self:ask(self.parts[i]) end
  if errors[1] then error(fail.join(errors), 0) end
end

-- Call all parts; the first that fails ends it.
function Chain:ask_each()
  for _, part in ipairs(self.parts) do
    local err = self:ask(part)
    if err then error(err, 0) end
  end
end

function Chain:del() self:ask_all(#self.parts, 1, -1) end
function Chain:gc() self:ask_all(1, #self.parts, 1) end
Chain.check, Chain.status = Chain.ask_each, Chain.ask_each

-- Run the program of a part, and what comes behind it; what fails there takes it back.
function Chain:add_foreign(part, prev, go_on)
  local ok, err = pcall(function()
    local text = plugins.call(self.job, "ADD", part, self:stdin(part, prev))
    go_on(require("cni.runtime.verbs").result(part, text))
  end)
  if ok then return end
  err = named(part, err)
  local undone, why = pcall(plugins.call, self.job, "DEL", part, self:stdin(part, prev))
  if not undone and not err.msg:find(fail.wrap(why).msg:gsub("^DEL ", "ADD "), 1, true) then
    local more = "taking it back failed too: " .. tostring(fail.wrap(why))
    err.details = err.details and err.details .. "; " .. more or more
  end
  error(err, 0)
end

function Chain:add()
  self:foresee()
  local req, parts, commits, first = self.req, self.parts, {}, nil
  local id, types = journal.new_id(), {}
  for _, part in ipairs(parts) do types[part.type] = part.plugin end
  local books, alone, problem = journal.open_all({ network = req.network, id = req.container_id,
    ifname = req.ifname }, types)
  -- Each part runs inside the one before, which takes back what it did when anything behind it fails.
  local function run(i, prev)
    local part = parts[i]
    if not part then
      for k = #commits, 1, -1 do commits[k]() end
      return req.deliver(prev)
    end
    local ok, err = pcall(function()
      if part.is_again then
        commits[i] = function() end
        return run(i + 1, prev)
      elseif part.is_foreign then
        commits[i] = function() end
        return self:add_foreign(part, prev, function(text) run(i + 1, text) end)
      end
      first = first or i
      local chain = { id = id, first = parts[first].type, is_first = i == first or nil }
      self:call(part, prev, { books = books, alone = alone, chain = chain, go_on = function(text, commit)
        commits[i] = commit
        run(i + 1, text)
      end })
    end)
    if not ok then error(named(part, err), 0) end
  end
  local ok, err = pcall(function()
    if problem then error(problem, 0) end
    for i = #parts, 1, -1 do
      local book = books[parts[i].type]
      if book then verbs.clear(req, book) end
    end
    run(1, self.prev)
  end)
  for _, book in pairs(books) do
    local closed, why = pcall(book.close, book, not ok)
    if ok and not closed then ok, err = false, why end
  end
  if not ok then error(err, 0) end
end

--- Do what the request asks for.
function Chain:run()
  local command = self.req.command
  self[command:lower()](self)
end

--- The network in the other form: all its plugins, in order, as one of type luacni.
-- @tparam table network of cni.runtime.config
-- @treturn string its text
function M.bundle(network)
  local texts, takes = {}, {}
  for _, plugin in ipairs(network.plugins) do
    if not plugin.is_sibling then texts[#texts + 1] = plugin.text end
    local capabilities = type(plugin.raw.capabilities) == "table" and plugin.raw.capabilities or {}
    for key, wanted in pairs(capabilities) do
      if wanted == true then takes[key] = true end
    end
  end
  local members = { plugins = "[" .. table.concat(texts, ",") .. "]",
    capabilities = next(takes) and json.compact(takes) or nil }
  return splice.set(network.bytes, { plugins = "[" .. splice.set('{"type":"luacni"}', members) .. "]" })
end

--- The network with each plugin for itself.
-- @tparam table network of cni.runtime.config
-- @treturn string its text
function M.unbundle(network)
  local texts = {}
  for _, plugin in ipairs(network.plugins) do
    if not plugin.is_sibling then texts[#texts + 1] = plugin.text end
  end
  return splice.set(network.bytes, { plugins = "[" .. table.concat(texts, ",") .. "]" })
end

return M
