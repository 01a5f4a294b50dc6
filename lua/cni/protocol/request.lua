-- SPDX-License-Identifier: MIT
--- What the runtime asks for: the environment, the configuration on stdin, CNI_ARGS.
-- Checks come in one fixed order, so that a request with several faults gets the same
-- error code here as from every other plugin.
-- @module cni.protocol.request

local fail = require "cni.fail"
local json = require "cni.json"
local names = require "cni.names"

local M = {}

--- The protocol versions this program speaks, oldest first.
M.versions = { "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" }

local codes = fail.codes

-- What each verb must be told. The order of the names is that of the check.
local order = { "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH" }
local attachment = { CNI_CONTAINERID = true, CNI_NETNS = true, CNI_IFNAME = true,
  CNI_PATH = true }
local node = { CNI_PATH = true }
local required = {
  ADD = attachment,
  CHECK = attachment,
  DEL = { CNI_CONTAINERID = true, CNI_IFNAME = true, CNI_PATH = true },
  GC = node,
  STATUS = node,
  VERSION = {},
}

-- The first protocol version that has the verb.
local since = { CHECK = "0.4.0", GC = "1.1.0", STATUS = "1.1.0" }

-- Environment ------------------------------------------------------------------------

local function check_container_id(value)
  if not names.is_id(value) then
    fail.throw {
      code = codes.env,
      msg = "invalid characters in containerID (CNI_CONTAINERID)",
      details = value,
    }
  end
end

-- A link with a name that the kernel refuses was never made: its DEL has nothing to do, and is no error.
local function check_ifname(value, command)
  local judge = command == "DEL" and names.ifname_problem or names.link_problem
  local problem, hint = judge(value)
  if problem then
    fail.throw { code = codes.env, msg = problem .. " (CNI_IFNAME)", details = json.show(value), hint = hint }
  end
end

-- Results have the path in their JSON.
local function check_netns(value)
  if not utf8.len(value) then
    fail.throw { code = codes.env, msg = "not UTF-8 (CNI_NETNS)", details = value }
  end
end

local checks = { CNI_CONTAINERID = check_container_id, CNI_IFNAME = check_ifname, CNI_NETNS = check_netns }

--- Split a search path at its colons; an empty element is the current directory.
-- @string text
-- @treturn {string,...} absolute, each
function M.split_path(text)
  local list = {}
  if text == "" then return list end
  for folder in (text .. ":"):gmatch("([^:]*):") do
    list[#list + 1] = folder:sub(1, 1) == "/" and folder or require("cni.record.files").absolute(folder)
  end
  return list
end

--- Read the request from the environment. A variable that the verb has no use for is
-- not looked at. An unknown verb passes here: stdin is judged first, as everywhere.
-- @tparam function getenv name to value or nil
-- @treturn table `command`, `container_id`, `netns`, `ifname`, `args` (text), `path`
--   (list), `path_text`, `netns_override`; what is not given is nil
-- @raise code 4
function M.from_env(getenv)
  local command = getenv("CNI_COMMAND")
  if not command or command == "" then
    fail.throw { code = codes.env, msg = "required env variables [CNI_COMMAND] missing" }
  end
  local needs = required[command] or required.VERSION
  local values, missing = {}, {}
  for _, name in ipairs(order) do
    local value = getenv(name)
    if value == "" then value = nil end
    if needs[name] then
      if not value then
        missing[#missing + 1] = name
      elseif checks[name] then
        checks[name](value, command)
      end
    end
    values[name] = value
  end
  if missing[1] then
    fail.throw {
      code = codes.env,
      msg = "required env variables [" .. table.concat(missing, ",") .. "] missing",
    }
  end

  local per_attachment = needs.CNI_IFNAME
  local args, override = getenv("CNI_ARGS"), getenv("CNI_NETNS_OVERRIDE")
  return {
    command = command,
    container_id = per_attachment and values.CNI_CONTAINERID or nil,
    netns = per_attachment and values.CNI_NETNS or nil,
    ifname = per_attachment and values.CNI_IFNAME or nil,
    args = args ~= "" and args or nil,
    path = M.split_path(values.CNI_PATH or ""),
    path_text = values.CNI_PATH,
    netns_override = override == "1"
      or override ~= nil and override:lower() == "true",
  }
end

-- Configuration ----------------------------------------------------------------------

-- Keys with a meaning for everybody, by their lower-case form.
local standard = {
  cniversion = "cniVersion", name = "name", type = "type", prevresult = "prevResult",
  runtimeconfig = "runtimeConfig", capabilities = "capabilities", args = "args",
  ipam = "ipam", dns = "dns", ipmasq = "ipMasq",
}

-- Configurations written for Go readers may spell a key in any case.
local function canonical_keys(raw)
  local odd
  for key in next, raw do
    local right = standard[key:lower()]
    if right and right ~= key and raw[right] == nil then
      odd = odd or {}
      -- Of several spellings the same one wins every time.
      if not odd[right] or key < odd[right] then odd[right] = key end
    end
  end
  for right, key in next, odd or {} do
    raw[right], raw[key] = raw[key], nil
  end
end

local function check_name(raw)
  local name = raw.name
  if name == nil or name == "" then
    fail.throw { code = codes.config, msg = "missing network name" }
  end
  if type(name) ~= "string" then
    fail.throw {
      code = codes.decode,
      msg = "cannot decode stdin: name: " .. json.show(name) .. " is not a string",
    }
  end
  if not names.is_id(name) then
    fail.throw {
      code = codes.config, msg = "invalid characters found in network name",
      details = name,
    }
  end
  return name
end

-- Like the Go library: up to three numbers, the absent ones zero.
local function parse_version(text)
  local a, b, c = text:match("^(%d+)%.?(%d*)%.?(%d*)$")
  if not a or #a > 9 or #b > 9 or #c > 9
    or text:sub(-1) == "." or text:find("..", 1, true)
  then
    return nil
  end
  return tonumber(a), tonumber(b) or 0, tonumber(c) or 0
end

--- Compare two protocol versions.
-- @string version
-- @string least
-- @treturn boolean whether the first is not below the second
function M.at_least(version, least)
  local a, b, c = parse_version(version)
  local x, y, z = parse_version(least)
  if not a or not x then return false end
  if a ~= x then return a > x end
  if b ~= y then return b > y end
  return c >= z
end

local function contains(list, value)
  for _, v in ipairs(list) do
    if v == value then return true end
  end
  return false
end

local function check_version_of_verb(command, version, supported)
  if not parse_version(version) then
    fail.throw {
      code = codes.decode,
      msg = "cannot decode stdin: cniVersion: " .. json.show(version)
        .. " is not a version",
    }
  end
  if not M.at_least(version, since[command]) then
    fail.throw {
      code = codes.version,
      msg = "config version does not allow " .. command,
      details = "cniVersion is " .. json.show(version) .. ", " .. command
        .. " exists since " .. since[command],
    }
  end
  if not M.at_least(supported[#supported], version) then
    fail.throw {
      code = codes.version,
      msg = "plugin version does not allow " .. command,
      details = "cniVersion is " .. json.show(version) .. ", the newest supported is "
        .. supported[#supported],
    }
  end
end

-- An absent version is 0.1.0, the protocol before there was the field.
local function read_version(raw)
  local version = raw.cniVersion
  if version == nil or version == "" then return "0.1.0" end
  if type(version) ~= "string" then
    fail.throw {
      code = codes.decode,
      msg = "cannot decode stdin: cniVersion: " .. json.show(version)
        .. " is not a string",
      hint = type(version) == "number" and 'it is written in quotes, with three numbers: "1.0.0"' or nil,
    }
  end
  return version
end

local function check_version(command, version, supported)
  if since[command] then check_version_of_verb(command, version, supported) end
  if not contains(supported, version) then
    fail.throw {
      code = codes.version,
      msg = "incompatible CNI versions",
      details = "config is " .. json.show(version) .. ", plugin supports "
        .. json.compact(supported),
    }
  end
end

local function check_object(raw, key)
  local value = raw[key]
  if value ~= nil and (type(value) ~= "table" or json.is_list(value)) then
    fail.config(key, json.show(value) .. " is not an object")
  end
end

--- Read the configuration: what every verb but VERSION has on stdin. Sets `stdin` (the
-- bytes, for delegates), `raw` (decoded, well-known keys in their proper spelling),
-- `network`, `version` (only once it is known to be one we speak) and `runtime` (the
-- capability arguments, never nil).
-- @tparam table req from @{from_env}
-- @tparam string bytes
-- @tparam[opt] {string,...} supported versions of this plugin, oldest first
-- @raise code 6, 7, 4 (unknown verb) or 1, in this order
function M.read_config(req, bytes, supported)
  local raw = json.decode(bytes, "stdin", { object = true }) or {}
  canonical_keys(raw)
  req.stdin, req.raw = bytes, raw
  req.network = check_name(raw)
  if not required[req.command] then
    fail.throw {
      code = codes.env, msg = "unknown CNI_COMMAND: " .. req.command,
      hint = require("cni.protocol.hints").did_you_mean(req.command,
        { "ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION" }),
    }
  end
  local version = read_version(raw)
  check_version(req.command, version, supported or M.versions)
  req.version = version
  check_object(raw, "runtimeConfig")
  req.runtime = raw.runtimeConfig or {}
end

--- Raise the error for a stdin that could not be read.
-- @string msg why
-- @string[opt] hint
-- @raise code 5
function M.no_stdin(msg, hint)
  fail.throw { code = codes.io, msg = "error reading from stdin: " .. msg, hint = hint }
end

--- Refuse to work on the namespace that the program runs in. ADD and DEL ask this
-- before they act, with the identity of both namespaces; when CNI_NETNS is not given
-- or does not open, there is nothing to compare and nothing to ask.
-- @tparam table req
-- @string own identity of the program's own namespace
-- @string pod identity of the one CNI_NETNS names
-- @raise code 8
function M.same_namespace(req, own, pod)
  if own ~= pod or req.netns_override then return end
  if req.command ~= "ADD" and req.command ~= "DEL" then return end
  fail.throw {
    code = codes.netns,
    msg = "plugin's netns and netns from CNI_NETNS should not be the same",
    details = req.netns,
    hint = "CNI_NETNS_OVERRIDE=1 allows it",
  }
end

-- CNI_ARGS ---------------------------------------------------------------------------

local flags = { ["1"] = true, ["true"] = true, ["0"] = false, ["false"] = false }

local function unknown_args(unknown, known)
  table.sort(unknown)
  local words, hint = {}, nil
  for word in next, known do words[#words + 1] = word end
  table.sort(words)
  for _, pair in ipairs(unknown) do
    local word = pair:match("^[^=]*")
    local near = require("cni.protocol.hints").nearest(word, words)
    hint = hint or near and ('did you mean "%s"?%s'):format(near,
      near:lower() == word:lower() and " (keys are case-sensitive)" or "")
  end
  fail.throw {
    code = codes.env,
    msg = "ARGS: unknown args [" .. table.concat(unknown, " ") .. "] in CNI_ARGS",
    details = "known here: " .. (words[1] and table.concat(words, ", ") or "none")
      .. "; IgnoreUnknown=1 allows others",
    hint = hint,
  }
end

--- CNI_ARGS as it was given: `req.args` may be a table by now.
-- @tparam table req
-- @treturn ?string
function M.args_text(req)
  return req.args_text or req.args
end

--- Parse CNI_ARGS: `K=V` pairs between semicolons.
-- @tparam ?string text
-- @tparam table known set of the keys understood here: `{ IP = true }`
-- @treturn table value by key; unknown keys left out when IgnoreUnknown is set
-- @raise code 4 for a broken pair, or an unknown key without IgnoreUnknown
function M.args(text, known)
  local args, unknown, ignore = {}, {}, false
  if not text or text == "" then return args end
  for pair in (text .. ";"):gmatch("([^;]*);") do
    local key, value = pair:match("^([^=]*)=([^=]*)$")
    if not key then
      fail.throw {
        code = codes.env,
        msg = "ARGS: invalid pair " .. json.show(pair) .. " in CNI_ARGS",
        details = "wanted is KEY=VALUE between semicolons, none after the last",
      }
    end
    if key == "IgnoreUnknown" then
      ignore = flags[value:lower()]
      if ignore == nil then
        fail.throw {
          code = codes.env,
          msg = "ARGS: IgnoreUnknown: " .. json.show(value)
            .. " is none of 1, true, 0, false in CNI_ARGS",
        }
      end
    elseif known[key] then
      args[key] = value
    else
      unknown[#unknown + 1] = pair
    end
  end
  if unknown[1] and not ignore then unknown_args(unknown, known) end
  return args
end

-- Garbage collection -----------------------------------------------------------------

local function member(object, key)
  if object[key] ~= nil then return object[key] end
  local folded = key:lower()
  for k, v in next, object do
    if type(k) == "string" and k:lower() == folded then return v end
  end
  return nil
end

--- The attachments of this network that are alive, as GC is told. Null, absent and []
-- all mean none. A list that cannot be understood is an error: taking it for empty
-- would cut off every container.
-- @tparam table req
-- @treturn {table,...} `containerID`, `ifname` each
-- @treturn table the same as a set, keyed "containerID/ifname"
-- @raise code 7
function M.valid_attachments(req)
  local key = "cni.dev/valid-attachments"
  local given = req.raw[key]
  if given == nil then
    key = "cni.dev/attachments"
    given = req.raw[key]
  end
  local list, set = {}, {}
  if given == nil then return list, set end
  if not json.is_list(given) then
    fail.config(key, json.show(given) .. " is not a list")
  end
  for i, item in ipairs(given) do
    local where = key .. "[" .. i - 1 .. "]"
    if type(item) ~= "table" then
      fail.config(where, json.show(item) .. " is not an object")
    end
    local id, ifname = member(item, "containerID"), member(item, "ifname")
    if type(id) ~= "string" then
      fail.config(where .. ".containerID", json.show(id) .. " is not a string")
    end
    if type(ifname) ~= "string" then
      fail.config(where .. ".ifname", json.show(ifname) .. " is not a string")
    end
    list[i] = { containerID = id, ifname = ifname }
    set[id .. "/" .. ifname] = true
  end
  return list, set
end

return M
