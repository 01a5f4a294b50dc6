-- SPDX-License-Identifier: MIT
-- What the protocol specs share: calls of IPAM plugins that need no namespace, the
-- judgement of errors, and a reader of results as strict as Go's.

local dkjson = require "dkjson"
local t = require "support"
local world = require "world"

local M = {}

--- Every version, oldest first.
M.versions = { "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" }

--- The versions from one on.
function M.since(first)
  local list = {}
  for _, version in ipairs(M.versions) do
    if version >= first then list[#list + 1] = version end
  end
  return list
end

--- A configuration for host-local or static alone. changes: false takes a key out.
function M.conf(changes)
  return t.with({ cniVersion = "1.1.0", name = "net", type = "host-local",
    ipam = { type = "host-local", subnet = "10.1.0.0/24" } }, changes)
end

--- A call without any attachment.
M.empty = { id = false, ifname = false, path = false, netns = false }

--- An IPAM configuration of both families, with default routes.
M.dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } },
  routes = { { dst = "0.0.0.0/0" }, { dst = "::/0" } } }

--- A world with a masquerading bridge of both families.
function M.bridge(more, opts)
  local w = world.new(t.with({ type = "bridge", bridge = "br0", removeUnused = true, isGateway = true,
    ipMasq = true, ipam = M.dual }, more), t.with({ forwarding = true }, opts))
  -- Addresses that ripen by themselves would make two pictures differ.
  local still = "for c in all default; do echo 0 >/proc/sys/net/ipv6/conf/$c/accept_dad; done"
  w:sh(still)
  for i = 1, #w.pods do w:in_pod(still, i) end
  return w
end

--- A picture without one pod: that of a namespace made anew is not the old one's.
function M.without(w, pod)
  local shot = w:picture()
  shot.kernel[pod] = nil
  return shot
end

--- The IPAM configuration of a world, with room for one container.
function M.narrow_pool(w)
  return t.with(w.conf.ipam, { ranges = { { { subnet = "10.1.0.0/24",
    rangeStart = "10.1.0.9", rangeEnd = "10.1.0.9" } } } })
end

--- Put a foreign IPAM plugin into M.foreign_dir, for `path` of a world. `body` is shell; its
-- calls are in NAME.calls there.
M.foreign_dir = "/run/spec/foreign"
function M.foreign(name, body)
  t.write(M.foreign_dir .. "/" .. name, ("#!/bin/sh\necho $CNI_COMMAND >>$0.calls\n%s\n"):format(body))
  t.run(("cd %s; rm -f *.calls; chmod +x %s"):format(M.foreign_dir, name))
end

--- The names of a namespace's links, sorted, in one text.
function M.links(ns)
  local names = {}
  for _, link in ipairs(t.ip(ns, "link show")) do
    -- A neighbour's.
    if link.ifname ~= "side0" then names[#names + 1] = link.ifname end
  end
  table.sort(names)
  return table.concat(names, " ")
end

--- Call host-local, which wants no namespace of its own to work.
-- c: as for t.cni; `conf` a text, or changes to M.conf; netns a path nobody opens.
function M.call(verb, c)
  local call = { verb = verb, type = "host-local", netns = "/run/netns/nowhere" }
  for key, value in pairs(c or {}) do call[key] = value end
  if type(call.conf) ~= "string" then call.conf = M.conf(call.conf) end
  return t.cni(call)
end

local function describe_call(got)
  return ("status %d\nstdout: %s\nstderr: %s"):format(got.rc, got.out, got.err)
end

--- Insist on success; returns the answer as a Go reader would take it.
function M.ok(got)
  if got.rc ~= 0 then error("failed: " .. describe_call(got), 2) end
  if got.out == "" then return nil end
  return M.strict(got.out)
end

--- Insist on success without a word on stdout.
function M.silent(got)
  if got.rc ~= 0 then error("failed: " .. describe_call(got), 2) end
  if got.out ~= "" then error("printed " .. got.out, 2) end
end

local error_keys = { cniVersion = "string", code = "number", msg = "string",
  details = "string" }

--- Insist on an error as the specification has it: exit status, one object, its types.
-- code may be nil for any. Returns the object, with `text` for looking into.
function M.error(got, code, text)
  if got.rc == 0 then error("succeeded: " .. describe_call(got), 2) end
  local object = M.strict(got.out)
  for key, value in pairs(object) do
    if type(value) ~= error_keys[key] then
      error(("key %s of %s"):format(key, got.out), 2)
    end
  end
  if math.type(object.code) ~= "integer" or object.code < 0 then
    error("code of " .. got.out, 2)
  end
  if not object.msg or object.msg == "" then error("no msg in " .. got.out, 2) end
  if not object.cniVersion then error("no cniVersion in " .. got.out, 2) end
  if code and object.code ~= code then
    error(("code %d and not %d: %s"):format(object.code, code, got.out), 2)
  end
  object.text = object.msg .. "\n" .. (object.details or "")
  if text and not object.text:find(text, 1, true) then
    error(("no %q in %s"):format(text, got.out), 2)
  end
  return object
end

--- Decode one JSON document, nothing before or after it; integers and lists told from
-- what looks like them.
function M.strict(text)
  if not utf8.len(text) then error("not UTF-8: " .. text, 2) end
  local value, at, err = dkjson.decode(text)
  if err or text:sub(at):find("%S") or type(value) ~= "table" then
    error("not one JSON object: " .. text, 2)
  end
  return value
end

-- The shape of results -----------------------------------------------------------------

local function is_list(value)
  return type(value) == "table" and getmetatable(value).__jsontype == "array"
end

local function is_object(value)
  return type(value) == "table" and getmetatable(value).__jsontype == "object"
end

local function list_of(item)
  return function(value)
    if not is_list(value) then return false end
    for _, v in ipairs(value) do
      if not item(v) then return false end
    end
    return true
  end
end

local function text(value) return type(value) == "string" and value ~= "" end
local function count(value) return math.type(value) == "integer" and value >= 0 end
local function address(value) return text(value) and not value:find("[^%x.:]") end
local function cidr(value)
  return text(value) and value:find("^[%x.:]+/%d+$") ~= nil
end

local function object_of(keys, required)
  return function(value)
    if not is_object(value) then return false end
    for key, item in pairs(value) do
      if not keys[key] or not keys[key](item) then return false, key end
    end
    for _, key in ipairs(required or {}) do
      if value[key] == nil then return false, key end
    end
    return true
  end
end

local dns = object_of { nameservers = list_of(address), domain = text,
  search = list_of(text), options = list_of(text) }
local route_old = object_of({ dst = cidr, gw = address }, { "dst" })
-- Conversions keep the newer keys of routes in every version that has a list of routes.
local route = object_of({ dst = cidr, gw = address, mtu = count, advmss = count,
  priority = count, table = count, scope = count }, { "dst" })
local half = object_of({ ip = cidr, gateway = address, routes = list_of(route_old) },
  { "ip" })
local interface = object_of({ name = text, mac = text, sandbox = text }, { "name" })
local interface_1 = object_of({ name = text, mac = text, sandbox = text, mtu = count,
  socketPath = text, pciID = text }, { "name" })
local function family(value) return value == "4" or value == "6" end
local ip = object_of({ version = family, address = cidr, gateway = address,
  interface = count }, { "version", "address" })
local ip_1 = object_of({ address = cidr, gateway = address, interface = count },
  { "address" })

local shape_0_1 = { cniVersion = text, ip4 = half, ip6 = half, dns = dns }
local shape_0_3 = { cniVersion = text, interfaces = list_of(interface), ips = list_of(ip),
  routes = list_of(route), dns = dns }
local shape_1 = { cniVersion = text, interfaces = list_of(interface_1),
  ips = list_of(ip_1), routes = list_of(route), dns = dns }
local shapes = { ["0.1.0"] = shape_0_1, ["0.2.0"] = shape_0_1, ["0.3.0"] = shape_0_3,
  ["0.3.1"] = shape_0_3, ["0.4.0"] = shape_0_3, ["1.0.0"] = shape_1, ["1.1.0"] = shape_1 }

--- Insist that a result has the shape of a version, and its indexes are in range.
function M.shaped(out, version)
  local result = M.strict(out)
  if result.cniVersion ~= version then
    error(("version %s and not %s: %s"):format(result.cniVersion, version, out), 2)
  end
  for key, value in pairs(result) do
    if not shapes[version][key] or not shapes[version][key](value) then
      error(("%s in a result of %s: %s"):format(key, version, out), 2)
    end
  end
  for _, item in ipairs(result.ips or {}) do
    if item.interface and item.interface >= #(result.interfaces or {}) then
      error("an index is out of range: " .. out, 2)
    end
  end
  if version < "0.3.0" and not result.ip4 and not result.ip6 then
    error("no address: " .. out, 2)
  end
  if version < "1.0.0" and not result.dns then error("no dns: " .. out, 2) end
  if version >= "1.0.0" and result.dns and not next(result.dns) then
    error("an empty dns: " .. out, 2)
  end
  return result
end

return M
