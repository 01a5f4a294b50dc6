-- SPDX-License-Identifier: MIT
--- Results of ADD, in every version of the protocol.
-- Inside the program a result has the shape of 1.1.0, whatever the configuration says:
-- `interfaces`, `ips` (`address` and `gateway` as text, `interface` a zero-based index or
-- one of the tables in `interfaces`), `routes`, `dns`; each may be absent. It is read
-- into that shape, and printed from it in the shape that was asked for.
-- @module cni.protocol.result

local addr = require "cni.addr"
local fail = require "cni.fail"
local json = require "cni.json"

local M = {}

-- Versions whose results have the same shape are a family. Between families a result is
-- converted; within one, even keys that are not known here are passed on.
local families = {
  ["0.1.0"] = "0.1", ["0.2.0"] = "0.1",
  ["0.3.0"] = "0.3", ["0.3.1"] = "0.3", ["0.4.0"] = "0.3",
  ["1.0.0"] = "1", ["1.1.0"] = "1",
}
local members = {
  ["0.1"] = "[0.1.0 0.2.0]", ["0.3"] = "[0.3.0 0.3.1 0.4.0]", ["1"] = "[1.0.0 1.1.0]",
}

-- Objects that came with keys that are not known here, each with its family.
local foreign = setmetatable({}, { __mode = "k" })

--- Whether an object of a result came with keys that are not known here.
-- @tparam table object
-- @treturn boolean
function M.is_foreign(object)
  return foreign[object] ~= nil
end

--- Make a copy of an object print as the object does, with the keys that are not known here.
-- @tparam table copy
-- @tparam table object
-- @treturn table the copy
function M.as_foreign(copy, object)
  foreign[copy] = foreign[object]
  return copy
end

-- Values -----------------------------------------------------------------------------

-- Each reader is given the value, and where it stands, for errors; "" counts as absent.

local function wrong(value, what, where, key)
  fail.config(where .. "." .. key, json.show(value) .. " is not " .. what)
end

local function text(value, where, key)
  if type(value) ~= "string" then wrong(value, "a string", where, key) end
  return value ~= "" and value or nil
end

local function count(value, where, key)
  local n = math.tointeger(value)
  if not n or type(value) == "string" or n < 0 then
    wrong(value, "a whole number", where, key)
  end
  return n
end

local function address(value, where, key)
  if value == "" then return nil end
  local bytes = addr.ip(value)
  if not bytes then wrong(value, "an IP address", where, key) end
  return addr.text(bytes)
end

local function prefix(value, where, key)
  local cidr = addr.is_cidr(value) and value or addr.parse(value)
  if not cidr then
    wrong(value, "an address with prefix length such as 10.1.2.3/24", where, key)
  end
  return tostring(cidr)
end

-- An index is checked when the interfaces are known. Old plugins say -1 for none.
local function index(value, where, key)
  if value == -1 then return nil end
  return count(value, where, key)
end

local function index_or_table(value, where, key)
  if type(value) == "table" then return value end
  return count(value, where, key)
end

-- A list, each element read by `read`; nil stays nil.
local function list_of(value, where, key, read)
  if value == nil then return nil end
  if type(value) ~= "table" or next(value) ~= nil and value[1] == nil then
    wrong(value, "a list", where, key)
  end
  local list, at = {}, where .. "." .. key
  for i = 1, #value do list[i] = read(value[i], at .. "[" .. i - 1 .. "]") end
  return list
end

local function string_item(value, where)
  if type(value) ~= "string" then
    fail.config(where, json.show(value) .. " is not a string")
  end
  return value
end

local function texts(value, where, key)
  local list = list_of(value, where, key, string_item)
  return list[1] and json.list(list) or nil
end

local function skip() return nil end

-- Objects: the keys we know, and how to read each.

local interface_keys = {
  name = text, mac = text, sandbox = text, mtu = count, socketPath = text, pciID = text,
}
local ip_keys = { address = prefix, gateway = address, interface = index }
local ip_keys_out = { address = prefix, gateway = address, interface = index_or_table }
local ip_keys_0_3 = { address = prefix, gateway = address, interface = index,
  version = skip }
local route_keys = {
  dst = prefix, gw = address, mtu = count, advmss = count, priority = count,
  table = count, scope = count,
}
local dns_keys = { nameservers = texts, domain = text, search = texts, options = texts }

local function read_object(raw, where, keys, family)
  if type(raw) ~= "table" or json.is_list(raw) and next(raw) ~= nil then
    fail.config(where, json.show(raw) .. " is not an object")
  end
  local object = {}
  for key, value in next, raw do
    local read = keys[key]
    if read then
      object[key] = read(value, where, key)
    else
      object[key] = value
      foreign[object] = family
    end
  end
  return object
end

local function read_dns(raw, where, family)
  if raw == nil then return nil end
  return read_object(raw, where .. ".dns", dns_keys, family)
end

local function need(object, key, where)
  if object[key] == nil then fail.config(where .. "." .. key, "is missing") end
  return object
end

-- Reading ----------------------------------------------------------------------------

local function read_interfaces(raw, where, family)
  return list_of(raw, where, "interfaces", function(item, at)
    local interface = read_object(item, at, interface_keys, family)
    interface.name = interface.name or ""
    return interface
  end)
end

local function beyond(i, n, where)
  fail.config(where .. ".interface",
    i .. " is beyond the last of " .. n .. " interfaces, which count from 0")
end

-- Without any interface an index says nothing; beyond the last one it is a mistake.
local function check_index(ip, interfaces, where)
  local i = ip.interface
  if type(i) ~= "number" then return end
  if #interfaces == 0 then
    ip.interface = nil
  elseif i >= #interfaces then
    beyond(i, #interfaces, where)
  end
end

local function read_ips(raw, where, family, interfaces)
  local keys = family == "0.3" and ip_keys_0_3 or ip_keys
  return list_of(raw, where, "ips", function(item, at)
    local ip = need(read_object(item, at, keys, family), "address", at)
    check_index(ip, interfaces, at)
    return ip
  end)
end

local function read_routes(raw, where, family)
  return list_of(raw, where, "routes", function(item, at)
    return need(read_object(item, at, route_keys, family), "dst", at)
  end)
end

local modern_keys = { cniVersion = skip, interfaces = skip, ips = skip, routes = skip,
  dns = skip }

local function read_modern(raw, where, family)
  local result = read_object(raw, where, modern_keys, family)
  local interfaces = read_interfaces(raw.interfaces, where, family)
  result.interfaces = interfaces
  result.ips = read_ips(raw.ips, where, family, interfaces or {})
  result.routes = read_routes(raw.routes, where, family)
  result.dns = read_dns(raw.dns, where, family)
  return result
end

local function read_first(raw, where)
  local result = { ips = {}, routes = {} }
  for _, key in ipairs { "ip4", "ip6" } do
    local half, at = raw[key], where .. "." .. key
    if half ~= nil then
      if type(half) ~= "table" then wrong(half, "an object", where, key) end
      if half.ip == nil then fail.config(at .. ".ip", "is missing") end
      local ip = { address = prefix(half.ip, at, "ip") }
      if half.gateway ~= nil then ip.gateway = address(half.gateway, at, "gateway") end
      result.ips[#result.ips + 1] = ip
      local routes = read_routes(half.routes, at, "0.1") or {}
      table.move(routes, 1, #routes, #result.routes + 1, result.routes)
    end
  end
  result.dns = read_dns(raw.dns, where, "0.1")
  return result
end

--- Read a result of any version we know, such as an IPAM plugin's.
-- @tparam ?table raw decoded JSON; nil is an empty result
-- @string default_version version of a result that does not say its own
-- @string[opt="result"] what name of the whole, for errors
-- @treturn table in the shape of 1.1.0
-- @raise code 1 for an unknown version, 7 for a malformed result
function M.parse_any(raw, default_version, what)
  what = what or "result"
  if raw == nil then return {} end
  if type(raw) ~= "table" or json.is_list(raw) then
    fail.config(what, json.show(raw) .. " is not an object")
  end
  local version = raw.cniVersion
  if version == nil or version == "" then version = default_version end
  local family = families[version]
  if not family then
    fail.throw {
      code = fail.codes.version,
      msg = what .. ": unsupported CNI result version " .. json.show(version),
    }
  end
  if family == "0.1" then return read_first(raw, what) end
  return read_modern(raw, what, family)
end

--- Read the result that the chain has so far. It must be of the configuration's family
-- of versions: runtimes do not convert between plugins.
-- @tparam ?table raw `req.raw.prevResult`; nil is an empty result
-- @string version the configuration's
-- @string[opt="prevResult"] what name of the whole, for errors
-- @treturn table in the shape of 1.1.0
-- @raise code 1 for another family or an unknown version, 7 for a malformed result
function M.parse(raw, version, what)
  what = what or "prevResult"
  local given = type(raw) == "table" and raw.cniVersion or nil
  if given ~= nil and given ~= "" and families[given] ~= families[version] then
    local details
    if not families[given] then
      details = "unsupported CNI result version " .. json.show(given)
    end
    fail.throw {
      code = fail.codes.version,
      msg = "could not parse " .. what .. ": result type supports "
        .. (members[families[version]] or "[]") .. " but unmarshalled CNIVersion is "
        .. json.show(given),
      details = details,
    }
  end
  return M.parse_any(raw, version, what)
end

-- Printing ---------------------------------------------------------------------------

-- The order in which the members of an old result were always printed; newer results are sorted.
local rank = {}
for i, key in ipairs { "cniVersion", "interfaces", "ip4", "ip6", "ips", "version",
  "interface", "address", "ip", "gateway", "name", "mac", "sandbox", "dst", "gw",
  "routes", "dns", "nameservers", "domain", "search", "options" } do
  rank[key] = i
end

local newer_interface = { mtu = true, socketPath = true, pciID = true }
local zero_is_absent = { mtu = true, advmss = true, priority = true }

-- A copy with the keys that are known here, and with the others too if they came in this family.
local function shape(object, where, keys, family)
  if type(object) ~= "table" then fail.config(where, "is not an object") end
  local out = {}
  for key, read in next, keys do
    local value = object[key]
    if value ~= nil then
      value = read(value, where, key)
      if value ~= 0 or not zero_is_absent[key] then out[key] = value end
    end
  end
  if foreign[object] == family then
    for key, value in next, object do
      if not keys[key] then out[key] = value end
    end
  end
  return out
end

local function shape_interfaces(result, family)
  return list_of(result.interfaces or {}, "result", "interfaces", function(item, at)
    local out = shape(item, at, interface_keys, family)
    if family ~= "1" then
      for key in next, newer_interface do out[key] = nil end
    end
    if item.name == nil then fail.config(at .. ".name", "is missing") end
    out.name = item.name
    return out
  end)
end

local function shape_ips(result, family)
  local interfaces, position = result.interfaces or {}, {}
  for i, interface in ipairs(interfaces) do position[interface] = i - 1 end
  return list_of(result.ips or {}, "result", "ips", function(item, at)
    local out = need(shape(item, at, ip_keys_out, family), "address", at)
    if type(out.interface) == "table" then
      out.interface = position[out.interface]
      if not out.interface then
        fail.config(at .. ".interface", "is none of the result's interfaces")
      end
    elseif out.interface and out.interface >= #interfaces then
      beyond(out.interface, #interfaces, at)
    end
    if family == "0.3" then
      out.version = out.address:find(":", 1, true) and "6" or "4"
    end
    return out
  end)
end

local function shape_routes(result, family)
  return list_of(result.routes or {}, "result", "routes", function(item, at)
    return need(shape(item, at, route_keys, family), "dst", at)
  end)
end

local function full(list)
  return list[1] and json.list(list) or nil
end

local function shape_modern(result, version, family)
  local out = shape(result, "result", modern_keys, family)
  out.cniVersion = version
  out.interfaces = full(shape_interfaces(result, family))
  out.ips = full(shape_ips(result, family))
  out.routes = full(shape_routes(result, family))
  local dns = shape(result.dns or {}, "result.dns", dns_keys, family)
  if family ~= "1" or next(dns) then out.dns = dns end
  return out
end

-- The shape of 0.1 and 0.2 has room for one address of IPv4 and one of IPv6, with their routes; others are
-- lost.
local function shape_first(result, version)
  local out = { cniVersion = version }
  for _, ip in ipairs(shape_ips(result, "0.1")) do
    local key = ip.address:find(":", 1, true) and "ip6" or "ip4"
    out[key] = out[key] or { ip = ip.address, gateway = ip.gateway }
  end
  if not out.ip4 and not out.ip6 then
    fail.throw {
      msg = "cannot convert: no valid IP addresses",
      details = "a result of version " .. version .. " needs one; cniVersion 0.3.0 and "
        .. "later can do without",
    }
  end
  for _, route in ipairs(shape_routes(result, "0.1")) do
    local half = out[route.dst:find(":", 1, true) and "ip6" or "ip4"]
    if half then
      half.routes = half.routes or json.list {}
      table.insert(half.routes, { dst = route.dst, gw = route.gw })
    end
  end
  out.dns = shape(result.dns or {}, "result.dns", dns_keys, "0.1")
  return out
end

--- Put a result into the shape of a version.
-- @tparam ?table result in the shape of 1.1.0
-- @string version "" stands for 0.1.0
-- @treturn table ready to print
-- @raise code 1 for an unknown version, 999 for what cannot be printed
function M.convert(result, version)
  if version == nil or version == "" then version = "0.1.0" end
  local family = families[version]
  if not family then
    fail.throw {
      code = fail.codes.version,
      msg = "no converter for CNI result version 1.1.0 to " .. tostring(version),
    }
  end
  local shaped, out = pcall(family == "0.1" and shape_first or shape_modern,
    result or {}, version, family)
  if shaped then return out end
  -- The readers blame the configuration; here it is the plugin that is wrong.
  out = fail.wrap(out)
  if out.code == fail.codes.config then out.code = fail.codes.internal end
  error(out, 0)
end

--- Print a result.
-- @tparam ?table result in the shape of 1.1.0
-- @string version the configuration's
-- @treturn string JSON
function M.render(result, version)
  local out = M.convert(result, version)
  return json.encode(out, nil, families[out.cniVersion] ~= "1" and rank or nil)
end

local function copy(value, seen)
  if type(value) ~= "table" then return value end
  if seen[value] then return seen[value] end
  local out = setmetatable({}, getmetatable(value))
  seen[value], foreign[out] = out, foreign[value]
  for k, v in next, value do out[k] = copy(v, seen) end
  return out
end

--- A deep copy, as faithful when printed as the original.
-- @tparam table result
-- @treturn table
function M.copy(result)
  return copy(result, {})
end

return M
