-- SPDX-License-Identifier: MIT
--- What is known of the node and of the workload, for scripts and hooks: `req.node` and `req.workload`. Each
-- fact is asked for when it is read.
--
-- @module cni.engine.facts

local addr = require "cni.addr"
local args = require "cni.engine.args"
local files = require "cni.record.files"
local json = require "cni.json"
local request = require "cni.protocol.request"

local sys = require("netlink").sys
local M = {}

-- Texts with * and ? ---------------------------------------------------------------------

--- Whether a value is a text that is wanted.
-- @param value
-- @tparam string|{string,...} texts in which `*` is anything and `?` one character; one has to match
-- @treturn boolean
function M.is_one(value, texts)
  if type(value) ~= "string" then return false end
  for _, text in ipairs(type(texts) == "table" and texts or { texts }) do
    local pattern = text:gsub("%W", "%%%0"):gsub("%%%*", ".*"):gsub("%%%?", ".")
    if value:find("^" .. pattern .. "$") then return true end
  end
  return false
end

-- The node ----------------------------------------------------------------------------

local function driver_of(link)
  if not (link.parent_bus and link.parent_dev) then return nil end
  local path = files.unless_absent(sys.readlink(("/sys/bus/%s/devices/%s/driver"):format(link.parent_bus,
    link.parent_dev)))
  return path and path:match "[^/]*$"
end

local function texts(value)
  if type(value) == "string" then return value end
  return args.list(args.string)(value)
end

local function facts_of_node(value)
  if type(value) == "table" and getmetatable(value) then return value end
  return nil, "it is called as req.node:links { ... }"
end

local takes_links = args.call("req.node:links", { nil, facts_of_node }, { nil, args.optional(args.record {
  name = texts, altname = texts, driver = texts, subnet = args.cidr }) })

-- Indexes of the links that have an address in a network.
local function within(host, text)
  local network, found = addr.parse(text), {}
  for _, have in ipairs(host:dump("addr", { family = network.family })) do
    if network:contains(addr.parse(have.address).ip) then found[have.index] = true end
  end
  return found
end

local function links(req, want)
  local list, host = {}, req.host
  local addressed = want.subnet and within(host, want.subnet)
  for _, link in ipairs(host:dump("link")) do
    local is_wanted = (not want.name or M.is_one(link.name, want.name))
      and (not addressed or addressed[link.index] ~= nil)
      and (not want.driver or M.is_one(driver_of(link), want.driver))
    local named = not want.altname
    for _, name in ipairs(is_wanted and not named and link.altnames or {}) do
      named = named or M.is_one(name, want.altname)
    end
    if is_wanted and named then list[#list + 1] = host:link(link.index) end
  end
  return list
end

local node = {
  name = function() return ((files.read "/proc/sys/kernel/hostname" or ""):gsub("%s+$", "")) end,
  uplink = function(req) return req.host:default_link "inet" end,
  uplink6 = function(req) return req.host:default_link "inet6" end,
  links = function(req)
    return function(self, want)
      return links(req, select(2, takes_links(self, want)) or {})
    end
  end,
}

-- The workload ------------------------------------------------------------------------

-- Somebody has written all of this who may make a pod. What is too long, or no text, is not there.
local function text(value, most)
  return type(value) == "string" and #value <= most and value ~= "" and value or nil
end

local longest <const> = 253

-- CNI_ARGS, whichever keys it has. One that is no list of pairs has none: the type says so, if it minds.
local function arguments(req)
  local any = setmetatable({}, { __index = function() return true end })
  local ok, found = pcall(request.args, request.args_text(req), any)
  return ok and found or {}
end

local function strings(given)
  local found = {}
  for key, value in next, type(given) == "table" and not json.is_list(given) and given or {} do
    if text(key, 2 * longest) and type(value) == "string" then found[key] = value end
  end
  return found
end

local function labels(req)
  local found, given = {}, req.raw.args
  for _, key in ipairs { "cni", "labels" } do
    given = type(given) == "table" and given[key] or nil
  end
  for _, item in ipairs(type(given) == "table" and given or {}) do
    local key = type(item) == "table" and text(item.key, 2 * longest)
    if key and type(item.value) == "string" then found[key] = item.value end
  end
  return found
end

local function argument(key)
  return function(req) return text(arguments(req)[key], longest) end
end

local workload = {
  name = argument "K8S_POD_NAME", namespace = argument "K8S_POD_NAMESPACE", uid = argument "K8S_POD_UID",
  args = function(req) return strings(arguments(req)) end,
  annotations = function(req)
    local runtime = type(req.raw.runtimeConfig) == "table" and req.raw.runtimeConfig or {}
    return strings(runtime["io.kubernetes.cri.pod-annotations"])
  end,
  labels = labels,
}

local function lazy(what, facts)
  local names = {}
  for name in next, facts do names[#names + 1] = name end
  table.sort(names)
  return function(req)
    -- The plan is for those who check what a method is given.
    return setmetatable({ plan = req.plan }, { __index = function(self, key)
      local ask = facts[key]
      if not ask then args.refuse(what, nil, args.unknown(tostring(key), names, "name")) end
      local value = ask(req)
      rawset(self, key, value)
      return value
    end })
  end
end

--- Facts of the node: see `luacni doc req`.
-- @function node
-- @tparam table req
-- @treturn table
M.node = lazy("req.node", node)

--- Facts of the workload, likewise.
-- @function workload
-- @tparam table req
-- @treturn table
M.workload = lazy("req.workload", workload)

return M
