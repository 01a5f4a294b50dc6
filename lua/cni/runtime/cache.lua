-- SPDX-License-Identifier: MIT
--- What runtimes remember of attachments: libcni's cache, in its own format and place, so that what podman's,
-- containerd's, CRI-O's or cnitool's ADD has stored is read here, and ours there.
--
--     /var/lib/cni/results/NETWORK-CONTAINER-INTERFACE
--
-- is one line of JSON: the attachment (`networkName`, `containerId`, `ifName`, `netns`), what the ADD was
-- given (`config`, the list's bytes in base64; `cniArgs`; `capabilityArgs`) and the `result`. Libraries
-- before 0.8 stored the result alone. Nothing is locked: an attachment belongs to one runtime, which does one
-- thing at a time with it.
--
-- @module cni.runtime.cache

local base64 = require "cni.protocol.base64"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local splice = require "cni.runtime.splice"
local sys = require("netlink").sys

local M = {}

--- Where it is.
M.folder = "/var/lib/cni/results"

local kind <const> = "cniCacheV1"

local function path_of(owner)
  return ("%s/%s-%s-%s"):format(M.folder, owner.network, owner.id, owner.ifname)
end

--- Take CNI_ARGS apart.
-- @string text `KEY=VALUE;KEY=VALUE`
-- @treturn {{string,string},...}
-- @raise code 4
function M.args(text)
  local pairs_of = {}
  if text == "" then return pairs_of end
  for pair in (text .. ";"):gmatch "([^;]*);" do
    local key, value = pair:match "^([^=]+)=([^=]+)$"
    if not key then
      fail.throw { code = fail.codes.env, msg = ("invalid CNI_ARGS pair %s"):format(json.show(pair)),
        hint = "wanted is KEY=VALUE;KEY=VALUE" }
    end
    pairs_of[#pairs_of + 1] = { key, value }
  end
  return pairs_of
end

local function joined(args)
  local list = {}
  for _, pair in ipairs(json.is_list(args) and args or {}) do
    if json.is_list(pair) and pair[2] then list[#list + 1] = tostring(pair[1]) .. "=" .. tostring(pair[2]) end
  end
  return list[1] and table.concat(list, ";") or nil
end

--- Store an attachment.
-- @tparam table entry `network`, `id`, `ifname`, `netns`, `config` (the list's bytes), `result` (JSON text
-- that has its cniVersion), `args` (text) and `capability_args` (table) if there are
-- @raise code 5
function M.store(entry)
  files.must(sys.mkdirs((M.folder:gsub("/[^/]*$", "")), 493))
  files.must(sys.mkdir(M.folder, 448))
  local args = entry.args and M.args(entry.args) or {}
  for i, pair in ipairs(args) do args[i] = json.list(pair) end
  local members = {
    ('"kind":%q'):format(kind),
    '"containerId":' .. json.compact(entry.id),
    '"config":"' .. base64.encode(entry.config) .. '"',
    '"ifName":' .. json.compact(entry.ifname),
    '"networkName":' .. json.compact(entry.network),
  }
  local function add(key, text) members[#members + 1] = ('"%s":%s'):format(key, text) end
  if (entry.netns or "") ~= "" then add("netns", json.compact(entry.netns)) end
  if args[1] then add("cniArgs", json.compact(args)) end
  if entry.capability_args and next(entry.capability_args) then
    add("capabilityArgs", json.compact(entry.capability_args))
  end
  add("result", splice.compact(entry.result))
  files.must(sys.write_file(path_of(entry), "{" .. table.concat(members, ",") .. "}", 384))
end

local function text_of(raw, key)
  return type(raw[key]) == "string" and raw[key] ~= "" and raw[key] or nil
end

-- Libraries before 1.2 do not store the namespace; the result names it.
local function sandbox_of(result, ifname)
  local interfaces = type(result) == "table" and result.interfaces
  for _, entry in ipairs(json.is_list(interfaces) and interfaces or {}) do
    if type(entry) == "table" and entry.name == ifname then return text_of(entry, "sandbox") end
  end
end

local function read(text, what)
  local raw = json.decode(text, what, { object = true }) or {}
  if raw.kind ~= kind then
    if raw.kind ~= nil then fail.config(what .. ".kind", json.show(raw.kind) .. " is not known") end
    return { result = text, version = raw.cniVersion }
  end
  local config = text_of(raw, "config")
  return {
    network = text_of(raw, "networkName"), id = text_of(raw, "containerId"), ifname = text_of(raw, "ifName"),
    netns = text_of(raw, "netns") or sandbox_of(raw.result, raw.ifName),
    config = config and base64.decode(config), args = joined(raw.cniArgs),
    capability_args = type(raw.capabilityArgs) == "table" and raw.capabilityArgs or nil,
    result = type(raw.result) == "table" and splice.get(text, "result") or nil,
    version = type(raw.result) == "table" and raw.result.cniVersion or nil,
  }
end

--- What is stored of an attachment.
-- @tparam table owner `network`, `id`, `ifname`
-- @treturn table|nil as for @{store}, and `version` of the result; from an old library `result` and `version`
-- alone. nil: nothing is stored
-- @raise code 5, 6 or 7 for what cannot be read
function M.load(owner)
  local path = path_of(owner)
  local text = files.read(path)
  return text and read(text, path)
end

--- Forget an attachment; absent is fine.
-- @tparam table owner `network`, `id`, `ifname`
-- @raise code 5
function M.remove(owner)
  local path = path_of(owner)
  files.must(sys.unlink(path))
  -- Also the temporary file of a writer that was killed.
  local beginning = "." .. path:match "[^/]*$" .. "."
  for _, name in ipairs(files.list(M.folder)) do
    if name:sub(1, #beginning) == beginning then files.must(sys.unlink(M.folder .. "/" .. name)) end
  end
end

--- All attachments that are stored, in the order of the files' names; what is no such file is passed over, as
-- libcni does.
-- @string[opt] network only of this one
-- @treturn {table,...} as @{load}, and `since`, when it was stored
function M.all(network)
  local list = {}
  for _, name in ipairs(files.list(M.folder)) do
    local path = M.folder .. "/" .. name
    local stat = files.unless_absent(sys.stat(path))
    local text = stat and stat.type == "file" and files.read(path)
    local ok, entry = pcall(read, text or "null", path)
    if ok and entry.network and entry.id and entry.ifname and (not network or entry.network == network) then
      entry.since = stat.mtime
      list[#list + 1] = entry
    end
  end
  return list
end

return M
