-- SPDX-License-Identifier: MIT
--- An address of a DHCP server on the sandbox's own network: what is said to it, and what its answer is to
-- an attachment.
-- @module cni.dhcp_lease

local addr = require "cni.addr"
local fail = require "cni.fail"
local message = require "cni.dhcp.message"
local request = require "cni.protocol.request"
local schema = require "cni.schema"

local M = {}

local code = message.options

-- Options by the names that configurations have for them.
local names <const> = {
  ["dhcp-client-identifier"] = code.client, ["subnet-mask"] = code.subnet_mask, routers = code.routers,
  ["host-name"] = code.host_name, ["user-class"] = 77, ["vendor-class-identifier"] = 60, fqdn = code.fqdn,
}

local option = schema.string { required = true,
  doc = "dhcp-client-identifier, subnet-mask, routers, host-name, user-class, vendor-class-identifier, " ..
    "fqdn, or a number." }

--- `provide`: options that are sent.
M.provide = schema.list(schema.record {
  option = option,
  value = schema.string { doc = "Its value, at most 255 bytes." },
  fromArg = schema.string { empty = "absent",
    doc = "The key of CNI_ARGS that has its value; stands before `value`." },
}, { doc = "Options to send to the server." })

--- `request`: options that are asked for.
M.request = schema.list(schema.record {
  option = option,
  skipDefault = schema.boolean { doc = "Ask for those of this list alone." },
}, { doc = "Options to ask the server for, before those that are asked for anyway." })

-- What is asked for anyway, in the order that servers are to prefer.
local wanted <const> = { code.classless_routes, code.routers, code.subnet_mask, code.dns, code.domain_name,
  code.mtu, code.domain_search }

local function number_of(text, where)
  local number = names[text] or text:find "^%d+$" and math.tointeger(tonumber(text))
  if number and number >= 0 and number <= 255 then return number end
  local known = {}
  for name in next, names do known[#known + 1] = name end
  table.sort(known)
  fail.config(where, ("%q is no option of DHCP"):format(text), "a number from 0 to 255, or one of "
    .. table.concat(known, ", "))
end

-- CNI_ARGS, of which others' keys and what is no pair are nobody's business here.
local function args_of(req)
  local args = {}
  for key, value in (request.args_text(req) or ""):gmatch "([^=;]+)=([^;]*)" do args[key] = value end
  return args
end

-- A name as option 81 has it (RFC 4702): the server is to make the entry.
local function fqdn(name)
  local labels = name:gsub("%.$", ""):gsub("([^.]+)%.?", function(label)
    return string.pack("s1", label:sub(1, 63))
  end)
  return "\5\0\0" .. labels .. (name:find "%." and "\0" or "")
end

local function provided(req, list)
  local args, out = args_of(req), {}
  for i, entry in ipairs(list or {}) do
    local where = ("ipam.provide[%d]"):format(i - 1)
    local number = number_of(entry.option, where .. ".option")
    local value = entry.fromArg and args[entry.fromArg] or entry.value
    if number == code.kind or number == 0 or number == 255 then
      fail.config(where .. ".option", ("%d cannot be chosen: it is of the message itself"):format(number))
    end
    if value and #value > 255 then fail.config(where, ("is %d bytes long, of at most 255"):format(#value)) end
    -- An argument that a runtime gives empty is none.
    if value and value ~= "" then
      out[tostring(number)] = number == code.fqdn and fqdn(value) or value
    end
  end
  return out
end

local function asked_for(list)
  local out, seen, alone = {}, {}, false
  local function add(number)
    if not seen[number] then out[#out + 1] = number end
    seen[number] = true
  end
  for i, entry in ipairs(list or {}) do
    add(number_of(entry.option, ("ipam.request[%d].option"):format(i - 1)))
    alone = alone or entry.skipDefault
  end
  for _, number in ipairs(alone and {} or wanted) do add(number) end
  return out
end

-- How this attachment is known to servers, in all messages: as by the reference's plugin, so that a container
-- keeps its address when a node changes over; unless the configuration has another name for it.
local function identifier(req, provide)
  local name = ("%s/%s/%s"):format(req.container_id, req.network, req.ifname):sub(1, 254)
  local bytes = provide[tostring(code.client)] or "\0" .. name
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function first_ipv4(list)
  for _, text in ipairs(list or {}) do
    if #addr.ip(text) == 4 then return text end
  end
end

--- The routes of a lease, as those of a result. What is on the link comes first, since others may lead by it:
-- so does a router that no network of the lease has, as where each machine has a network of its own (a mask of
-- 32 bits).
-- @tparam table lease `address`, `routes`
-- @tparam integer priority metric; 0: none
-- @treturn {table,...} `dst`, `gw` (0.0.0.0 for what is on the link), `scope`, `priority`
function M.routes(lease, priority)
  local near, far, reached = {}, {}, { addr.parse(lease.address) }
  local function add(list, dst, gw, scope)
    list[#list + 1] = { dst = dst, gw = gw, scope = scope, priority = priority ~= 0 and priority or nil }
  end
  local function is_on_link(route) return addr.is_unspecified(addr.ip(route.gw)) end
  local function reaches(gw)
    for _, net in ipairs(reached) do
      if net:contains(addr.ip(gw)) then return true end
    end
    return false
  end
  for _, route in ipairs(lease.routes or {}) do
    if is_on_link(route) then
      add(near, route.dst, route.gw, 253)
      reached[#reached + 1] = addr.parse(route.dst)
    end
  end
  for _, route in ipairs(lease.routes or {}) do
    if not is_on_link(route) and not reaches(route.gw) then
      add(near, route.gw .. "/32", "0.0.0.0", 253)
      reached[#reached + 1] = addr.parse(route.gw .. "/32")
    end
    if not is_on_link(route) then add(far, route.dst, route.gw) end
  end
  return table.move(far, 1, #far, #near + 1, near)
end

-- What the runtime knows, where the records are lost.
local function known(req)
  local ips, routes = {}, {}
  for i, ip in ipairs(req.prev and req.prev.ips or {}) do
    ips[i] = { address = ip.address, gateway = ip.gateway }
  end
  for i, route in ipairs(req.prev and req.prev.routes or {}) do
    routes[i] = { dst = route.dst, gw = route.gw, scope = route.scope, priority = route.priority }
  end
  return { ips = ips, routes = routes, dns = req.prev and req.prev.dns }
end

-- Another's plugin may ask for addresses before it has brought the link up.
local function bring_up(req)
  local link = req.plan.mode == "apply" and req.pod:link(req.ifname, { "up" })
  if link and not link.up then req.pod:set_link(req.ifname, { up = true }) end
end

--- Get an address of the sandbox's interface from a DHCP server, keep it, know it in CHECK, give it back in
-- DEL, GC and rollback. The link has to be there: a type that calls this says `on_link = true`.
-- @tparam table req
-- @tparam table want
--
-- - `provide`, `request`: as the schemas of these names read them
-- - `requested`: addresses to ask for, of which the first of IPv4 counts
-- - `priority`: metric of the routes; 0: none
-- - `rapid`: be content with two messages, where the server is
-- - `probe`: how long, in milliseconds, others have to say that they have the address
-- @treturn table `ips`, `routes`, `dns`, `mtu`; where no lease is known, what the runtime knows
-- @raise code 7 for what is no option; code 11 where no server gives an address
function M.obtain(req, want)
  bring_up(req)
  local provide = provided(req, want.provide)
  local lease = require("cni.step.dhcp").obtain(req.plan, {
    link = req.ifname, client = identifier(req, provide), wanted = asked_for(want.request),
    provide = provide, address = first_ipv4(want.requested), rapid = want.rapid or nil,
    probe_ms = want.probe,
  })
  if not lease then return known(req) end
  if lease.is_over then return { ips = {}, routes = {} } end
  return { ips = { { address = lease.address, gateway = lease.gateway } },
    routes = M.routes(lease, want.priority), dns = lease.dns,
    mtu = lease.mtu and lease.mtu < (lease.link_mtu or 0) and lease.mtu or nil }
end

return M
