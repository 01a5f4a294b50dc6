-- SPDX-License-Identifier: MIT
--- Network configurations as runtimes read them: what a file says, and which file is a network's.
--
-- A folder is searched as libcni does it: every `.conflist` in the order of the names, then every `.conf` and
-- `.json`. The first file with the wanted network name counts. An unreadable file before it ends the search:
-- it could have been the one. A list is completed by the plugins in `FOLDER/NETWORK/*.conf`, unless it says
-- `loadOnlyInlinedPlugins`.
--
-- @module cni.runtime.config

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local names = require "cni.names"
local request = require "cni.protocol.request"
local splice = require "cni.runtime.splice"
local sys = require("netlink").sys

local M = {}

--- Where runtimes have their networks.
M.folder = "/etc/cni/net.d"

local limit <const> = 1 << 20

-- The newest version that the list offers and we speak; without an offer, what it says.
local function version_of(raw)
  local written, best = raw.cniVersion, nil
  if written ~= nil and type(written) ~= "string" then
    fail.config("cniVersion", json.show(written) .. " is not a string")
  end
  local offers = raw.cniVersions
  if offers == nil then return written or "" end
  if not json.is_list(offers) then
    fail.config("cniVersions", json.show(offers) .. " is not a list of versions")
  end
  local newest = request.versions[#request.versions]
  local function consider(version, where)
    if type(version) ~= "string" or not request.at_least(version, "0") then
      fail.config(where, json.show(version) .. " is not a version")
    end
    local is_known = request.at_least(newest, version)
    if is_known and (not best or request.at_least(version, best)) then best = version end
  end
  for i, version in ipairs(offers) do consider(version, ("cniVersions[%d]"):format(i - 1)) end
  if (written or "") ~= "" then consider(written, "cniVersion") end
  return best or written or ""
end

-- A boolean, or its name in any case.
local function flag(raw, key)
  local given = raw[key]
  if given == nil or type(given) == "boolean" then return given or false end
  local word = type(given) == "string" and given:lower()
  if word ~= "true" and word ~= "false" then
    fail.config(key, json.show(given) .. " is neither true nor false")
  end
  return word == "true"
end

-- Where a key that is missing may stand by another name: these are not folded as a plugin's own are.
local function mistyped(raw, key)
  local keys = {}
  for name in pairs(raw) do keys[#keys + 1] = name end
  table.sort(keys)
  local near = require("cni.protocol.hints").nearest(key, keys)
  return near and ("%q is there: it is written %q"):format(near, key) or nil
end

local add_list

local function add_plugin(network, text, where, around)
  local raw = json.decode(text, where, { object = true }) or {}
  if type(raw.type) ~= "string" or raw.type == "" or raw.type:find("/", 1, true) then
    fail.config(where .. ".type", raw.type == nil and "is missing: it names the plugin"
      or json.show(raw.type) .. " is not the name of a plugin",
      raw.type == nil and mistyped(raw, "type") or nil)
  end
  -- A chain in one process (cni.runtime.chain) is the same chain.
  if raw.type == "luacni" and raw.plugins ~= nil then
    network.is_bundled = true
    return add_list(network, raw, text, where .. ".")
  end
  network.plugins[#network.plugins + 1] = { type = raw.type, text = text, raw = raw, where = where,
    around = around }
end

function add_list(network, raw, text, where)
  if not json.is_list(raw.plugins) or #raw.plugins == 0 then
    fail.config(where .. "plugins", json.is_list(raw.plugins)
      and "has no plugin in it" or json.show(raw.plugins) .. " is not a list of plugins")
  end
  for i, element in ipairs(splice.elements(splice.get(text, "plugins"))) do
    add_plugin(network, element, ("%splugins[%d]"):format(where, i - 1), raw.type == "luacni" and raw or nil)
  end
end

local function add_inlined(network, raw, text)
  if raw.plugins == nil then
    if network.only_inlined then
      fail.config("plugins", "is missing, and loadOnlyInlinedPlugins lets no other file have them")
    end
    return
  end
  add_list(network, raw, text, "")
end

local function read_file(path)
  local text, msg, errno = sys.read_file(path, limit)
  if text then return text end
  if errno == sys.errno.EFBIG then msg = path .. " is longer than 1 MiB" end
  fail.throw { code = fail.codes.io, msg = msg, errno = errno }
end

-- The names of a folder's files with one of these endings.
local function files_of(folder, endings)
  local found = {}
  for _, name in ipairs(files.list(folder)) do
    if endings[name:match "%.[^.]*$" or ""] then
      local stat = files.unless_absent(sys.stat(folder .. "/" .. name))
      if stat and stat.type ~= "dir" then found[#found + 1] = name end
    end
  end
  return found
end

local function add_siblings(network, folder)
  if network.only_inlined or not names.is_id(network.name) then return end
  folder = folder .. "/" .. network.name
  for _, name in ipairs(files_of(folder, { [".conf"] = true })) do
    add_plugin(network, read_file(folder .. "/" .. name), folder .. "/" .. name)
    network.plugins[#network.plugins].is_sibling, network.is_changed = true, true
  end
end

-- Older configurations are one plugin's. Runtimes make a list of them.
local function as_list(network, text)
  return splice.set("{}", { name = json.compact(network.name), cniVersion = json.compact(network.version),
    plugins = "[" .. text .. "]" })
end

--- A network's list as it is stored for the DEL: as it was written; or, when it was changed or has plugins
-- from other files, with all its plugins in line, and `loadOnlyInlinedPlugins`.
-- @tparam table network of @{read}
-- @treturn string JSON
function M.stored(network)
  if not network.is_changed then return network.bytes end
  local texts = {}
  for i, plugin in ipairs(network.plugins) do texts[i] = plugin.text end
  return splice.set(network.bytes, { plugins = "[" .. table.concat(texts, ",") .. "]",
    loadOnlyInlinedPlugins = "true" })
end

--- Set a key of a plugin's part.
-- @tparam table network
-- @tparam table plugin one of its
-- @string key
-- @param value
function M.set(network, plugin, key, value)
  plugin.raw[key] = value
  plugin.text = splice.set(plugin.text, { [key] = json.compact(value) })
  network.is_changed = true
end

--- Read a network configuration: a list (`.conflist`), or the single object of older files.
-- @string text
-- @string what the text is, for messages
-- @string[opt] folder that the text is from: lists are completed by files below it; nil: none are
-- @treturn table
--   name, version
--   plugins     list of `type`, `text` (as written), `raw`, `where` (for messages), `is_sibling` (it is from
--               another file), `around` (of a part: its chain in one process, decoded)
--   text        as it was given
--   bytes       the text as a list, without other files
--   is_changed  @{stored} gives something else than `bytes`
--   is_single   it was no list
--   is_bundled  `plugins` has parts of chains in one process, each as if it stood for itself
--   disable_check, disable_gc
-- @raise code 6, 7; 5 for a file that cannot be read
function M.read(text, what, folder)
  local raw = json.decode(text, what, { object = true })
  if raw == nil then fail.config(what, "null is not a configuration") end
  if type(raw.name) ~= "string" or raw.name == "" then
    fail.config("name", raw.name == nil and "is missing: it names the network"
      or json.show(raw.name) .. " is not the name of a network",
      raw.name == nil and mistyped(raw, "name") or nil)
  end
  local network = { name = raw.name, version = version_of(raw), plugins = {}, text = text, bytes = text,
    disable_check = flag(raw, "disableCheck"), disable_gc = flag(raw, "disableGC"),
    only_inlined = flag(raw, "loadOnlyInlinedPlugins") }
  -- What has both is a chain in one process, or a list with a key that nobody reads.
  if raw.type ~= nil and (raw.plugins == nil or raw.type == "luacni") then
    if raw.plugins == nil then
      add_plugin(network, text, what)
    else
      network.is_bundled = true
      add_list(network, raw, text, "")
    end
    network.bytes, network.is_single = as_list(network, text), true
    return network
  end
  add_inlined(network, raw, text)
  if folder then add_siblings(network, folder) end
  if not network.plugins[1] then
    fail.config("plugins", "is missing, and no other file has them", mistyped(raw, "plugins"))
  end
  return network
end

--- Read a file.
-- @string path
-- @treturn table as @{read}, and `file`
-- @raise as @{read}; the error says which file
function M.read_file(path)
  local text = read_file(path)
  local ok, network = pcall(M.read, text, path, path:match "^(.*)/[^/]*$" or ".")
  if ok then
    network.file = path
    return network
  end
  network = fail.wrap(network)
  if not network.msg:find(path, 1, true) then network.msg = path .. ": " .. network.msg end
  error(network, 0)
end

local rounds = { { [".conflist"] = true }, { [".conf"] = true, [".json"] = true } }

-- The paths of a folder's files in the order of the search.
local function each_file(folder)
  local found = {}
  for _, endings in ipairs(rounds) do
    for _, name in ipairs(files_of(folder, endings)) do found[#found + 1] = folder .. "/" .. name end
  end
  return found
end

--- What keeps runtimes from reading a network's file, by its name.
-- @tparam table network of @{read_file}
-- @treturn ?string nil: nothing does
function M.misnamed(network)
  local ending = network.file:match "%.[^./]*$" or ""
  if not rounds[1][ending] and not rounds[2][ending] then
    return "its name ends in none of .conflist, .conf and .json: no runtime reads it"
  elseif rounds[1][ending] and network.is_single then
    return "is one plugin: a list has them in \"plugins\""
  elseif rounds[2][ending] and not network.is_single then
    return "is a list of plugins: its name has to end in .conflist"
  end
end

local function load(path)
  local network = M.read_file(path)
  local problem = M.misnamed(network)
  if problem then fail.config(path, problem) end
  return network
end

--- The networks of a folder. Of several of one name, the first is the one that runtimes use.
-- @string folder
-- @treturn {table,...} as @{read_file}
-- @treturn {table,...} `file` and `problem` (a fail) of each file that cannot be read or is no network
-- @treturn {table,...} networks whose name an earlier file has: `name`, `file`, and `by`, that earlier file
function M.all(folder)
  local networks, problems, others, seen = {}, {}, {}, {}
  for _, path in ipairs(each_file(folder)) do
    local ok, network = pcall(load, path)
    if not ok then
      problems[#problems + 1] = { file = path, problem = fail.wrap(network) }
    elseif seen[network.name] then
      others[#others + 1] = { name = network.name, file = network.file, by = seen[network.name] }
    else
      seen[network.name] = network.file
      networks[#networks + 1] = network
    end
  end
  return networks, problems, others
end

--- The network of a name.
-- @string name
-- @string folder
-- @treturn table|nil as @{read_file}; nil: no file has it
-- @treturn {string,...} the names of others, when none has it
-- @raise the error of a file that stands before it and cannot be read
function M.find(name, folder)
  local others = {}
  for _, path in ipairs(each_file(folder)) do
    local network = load(path)
    if network.name == name then return network end
    others[#others + 1] = network.name
  end
  return nil, others
end

return M
