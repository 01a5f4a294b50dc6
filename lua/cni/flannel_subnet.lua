-- SPDX-License-Identifier: MIT
--- What flannel has written down on this node: the subnet that its containers get their addresses of, for
-- every plugin; and, for a plugin of its own, the configuration by which a container was attached.
--
--     /run/flannel/subnet.env            FLANNEL_NETWORK=10.244.0.0/16
--                                        FLANNEL_SUBNET=10.244.3.1/24
--                                        FLANNEL_MTU=1450
--                                        FLANNEL_IPMASQ=true
--     /var/lib/cni/flannel/CONTAINER-ID  {"type":"bridge","ipam":{...},...}
--
-- @module cni.flannel_subnet

local addr = require "cni.addr"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local names = require "cni.names"
local sys = require("netlink").sys

local M = {}

local longest <const> = 1 << 16

-- Keys of networks, in the order in which they count: what they are read into, and their family.
local networks <const> = {
  { "FLANNEL_NETWORK", "networks", "inet" }, { "FLANNEL_IPV6_NETWORK", "networks", "inet6" },
  { "FLANNEL_SUBNET", "subnets", "inet" }, { "FLANNEL_IPV6_SUBNET", "subnets", "inet6" },
}

local function bad(path, text, ...)
  fail.config("subnetFile", path .. ": " .. text:format(...), "flanneld writes it when it starts")
end

-- 0, as the kernel's own.
local function mtu(text, path)
  local value = text:find "^%d+$" and math.tointeger(tonumber(text))
  if value and (value == 0 or value >= 68 and value <= 65535) then return value end
  bad(path, "FLANNEL_MTU: %s is no MTU", json.show(text))
end

-- The networks in a value, with commas between, each once.
local function networks_in(text, key, family, path)
  local list, seen = {}, {}
  for net in text:gmatch "[^,]+" do
    local parsed = addr.parse(net)
    if not parsed or parsed.family ~= family then
      bad(path, "%s: %s is no such network", key, json.show(net))
    end
    local said = tostring(parsed:network())
    if not seen[said] then seen[said], list[#list + 1] = true, said end
  end
  return list
end

--- What flannel has given this node.
-- @string path of the file that it writes
-- @treturn table `subnets`, one of each family that there is, and `networks`, all that flannel connects:
-- lists of texts; `mtu`; `masquerades`: whether flannel hides containers behind the host's address
-- @raise code 11 where there is no such file: flannel may be starting; 7 where it lacks something
function M.read(path)
  local text, msg, errno = sys.read_file(path, longest)
  if not text then
    local absent = files.absent(errno)
    fail.throw { code = absent and fail.codes.again or fail.codes.io, msg = msg, errno = errno,
      hint = absent and "flanneld writes it when it has a subnet for this node: does it run here?" or nil }
  end
  local values, found = {}, { subnets = {}, networks = {} }
  for line in text:gmatch "[^\n]+" do
    local key, value = line:match "^([^=]*)=%s*(.-)%s*$"
    if key then values[key] = value end
  end
  for _, entry in ipairs(networks) do
    local key, list = entry[1], found[entry[2]]
    local given = networks_in(values[key] or "", key, entry[3], path)
    if list == found.subnets and given[2] then
      bad(path, "%s: %s is more than one", key, json.show(values[key]))
    end
    table.move(given, 1, #given, #list + 1, list)
  end
  if not found.subnets[1] then bad(path, "it has no FLANNEL_SUBNET") end
  if not found.networks[1] then bad(path, "it has no FLANNEL_NETWORK") end
  for _, key in ipairs { "FLANNEL_MTU", "FLANNEL_IPMASQ" } do
    if not values[key] then bad(path, "it has no %s", key) end
  end
  found.mtu, found.masquerades = mtu(values.FLANNEL_MTU, path), values.FLANNEL_IPMASQ == "true"
  return found
end

--- The `ipam` of a configuration, completed by what flannel has given.
-- @tparam ?table ipam
-- @tparam table given as @{read} gives it
-- @treturn table a copy: `type` is host-local unless it says another one, `ranges` are the node's subnets,
-- and behind its `routes` are those to the networks
function M.ipam(ipam, given)
  local out, ranges, routes = {}, json.list {}, json.list {}
  for key, value in next, ipam or {} do out[key] = value end
  if type(out.routes) == "table" then table.move(out.routes, 1, #out.routes, 1, routes) end
  for i, subnet in ipairs(given.subnets) do ranges[i] = json.list { { subnet = subnet } } end
  for _, network in ipairs(given.networks) do routes[#routes + 1] = { dst = network } end
  out.type, out.ranges, out.routes = out.type or "host-local", ranges, routes
  return out
end

local function path_of(req) return req.conf.dataDir .. "/" .. req.container_id end

--- The configuration that was kept for the DEL of a container.
-- @tparam table req its `conf` has `dataDir`
-- @treturn table|nil nil: none was, or one of another network; or it cannot be read, or is none, which is
-- logged: the network's configuration tells as much, and what cannot be read cannot be removed
function M.kept(req)
  local text, msg, errno = sys.read_file(path_of(req), longest)
  if not text and not files.absent(errno) then req.log("luacni: " .. msg) end
  local ok, conf = pcall(json.decode, text or "")
  local is_one = ok and type(conf) == "table" and type(conf.type) == "string" and names.is_id(conf.type)
  if text and not is_one then
    req.log("luacni: DEL goes without " .. path_of(req) .. ": it is no plugin's configuration")
  end
  return is_one and conf.name == req.raw.name and conf or nil
end

--- Have a configuration kept, as flannel's own plugin does. It goes with the last interface that the
-- container has in the network.
-- @tparam table req its `conf` has `dataDir`
-- @tparam table conf of the type that makes the interface
function M.keep(req, conf)
  local whole = {}
  for key, value in next, conf do whole[key] = value end
  for _, key in ipairs { "name", "cniVersion", "runtimeConfig" } do
    if req.raw[key] ~= nil then whole[key] = req.raw[key] end
  end
  req.plan:push { kind = "file", ns = "host", want = { path = path_of(req), text = json.compact(whole) } }
end

return M
