-- SPDX-License-Identifier: MIT
--- An address of a DHCP server on the sandbox's own network: what is said to it, and what its answer is to
-- an attachment.
-- @module cni.dhcp_lease

local addr = require "cni.addr"
local fail = require "cni.fail"
local message = require "cni.dhcp.message"
local netlink = require "netlink"
local request = require "cni.protocol.request"
local schema = require "cni.schema"
local text_of_file = require("cni.record.files").read

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

-- How it is known to servers of DHCPv6: a DUID of the kind UUID (RFC 6355), made of the same names and of the
-- machine's, as two machines may have a container of one name.
local function duid(req)
  local machine = text_of_file "/etc/machine-id" or ""
  local name = ("%s/%s/%s/%s"):format(req.container_id, req.network, req.ifname, machine)
  local function half(salt) return (netlink.sys.hash64("luacni dhcp6 " .. salt .. " " .. name)) end
  local hex = half "a" .. half "b"
  -- Of version 8, whose bits are made as one likes (RFC 9562, 5.8).
  return "0004" .. hex:sub(1, 12) .. "8" .. hex:sub(14, 16) .. "8" .. hex:sub(18)
end

local function first_of(list, bytes)
  for _, text in ipairs(list or {}) do
    if #addr.ip(text) == bytes then return text end
  end
end

-- The name that servers of DHCPv6 are told (RFC 4704), and asked to make the entry for: as for those of DHCP.
local function fqdn6(provide)
  local name, host = provide[tostring(code.fqdn)], provide[tostring(code.host_name)]
  name = name or host and fqdn(host)
  return name and "\1" .. name:sub(4) or nil
end

-- Routes as those of a result. What is on the link comes first, since others may lead by it: so does a router
-- that no network of the lease has, as where each machine has a network of its own (a mask of 32 bits).
local function routes_of(lease, priority)
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

local function family_of(text) return addr.parse(text).family end

-- What the runtime knows of a family, where the records are lost.
local function known(req, family)
  local ips, routes = {}, {}
  for _, ip in ipairs(req.prev and req.prev.ips or {}) do
    if family_of(ip.address) == family then
      ips[#ips + 1] = { address = ip.address, gateway = ip.gateway, advertised = family == "inet6" or nil }
    end
  end
  for _, route in ipairs(req.prev and req.prev.routes or {}) do
    if family_of(route.dst) == family then
      routes[#routes + 1] = { dst = route.dst, gw = route.gw, scope = route.scope, priority = route.priority }
    end
  end
  return { ips = ips, routes = routes, dns = req.prev and req.prev.dns }
end

-- Another's plugin may ask for addresses before it has brought the link up. IPv6 has to be on before it is
-- asked by it.
local function bring_up(req, ipv6)
  local link = req.plan.mode == "apply" and req.pod:link(req.ifname, { "up" })
  if link and not link.up then req.pod:set_link(req.ifname, { up = true }) end
  if ipv6 then
    req.pod:set_sysctl({ { ("net/ipv6/conf/%s/disable_ipv6"):format(req.ifname), "0", true } },
      { link = { name = req.ifname } })
  end
end

local function ipv4(req, want, provide)
  local lease = require("cni.step.dhcp").obtain(req.plan, {
    link = req.ifname, client = identifier(req, provide), wanted = asked_for(want.request),
    provide = provide, address = first_of(want.requested, 4), rapid = want.rapid or nil,
    probe_ms = want.probe,
  })
  if not lease then return known(req, "inet") end
  if lease.is_over then return { ips = {}, routes = {} } end
  return { ips = { { address = lease.address, gateway = lease.gateway } },
    routes = routes_of(lease, want.priority), dns = lease.dns,
    mtu = lease.mtu and lease.mtu < (lease.link_mtu or 0) and lease.mtu or nil }
end

local function ipv6(req, want, provide)
  local step = require "cni.step.dhcp"
  local lease = step.obtain(req.plan, {
    link = req.ifname, ipv6 = want.ipv6, client = duid(req), address = first_of(want.requested, 16),
    fqdn = fqdn6(provide), rapid = want.rapid or nil, probe_ms = want.probe,
  })
  if not lease then return known(req, "inet6") end
  if lease.is_over then return { ips = {}, routes = {} } end
  local ips, there = {}, step.is_kernels(lease) or nil
  for i, address in ipairs(step.addresses(lease)) do
    ips[i] = { address = address, gateway = lease.gateway, advertised = true, there = there,
      leased = not there or nil }
  end
  return { ips = ips, routes = {}, dns = lease.dns }
end

-- Lists behind each other, each text once.
local function joined(a, b)
  local list, seen = {}, {}
  for _, from in ipairs { a or {}, b or {} } do
    for _, text in ipairs(from) do
      if not seen[text] then list[#list + 1] = text end
      seen[text] = true
    end
  end
  return list[1] and list or nil
end

-- What two families have together.
local function together(a, b)
  local one, other = a.dns or {}, b.dns or {}
  local dns = { nameservers = joined(one.nameservers, other.nameservers),
    search = joined(one.search, other.search), domain = one.domain or other.domain }
  return { ips = table.move(b.ips, 1, #b.ips, #a.ips + 1, a.ips),
    routes = table.move(b.routes, 1, #b.routes, #a.routes + 1, a.routes),
    dns = next(dns) and dns or nil, mtu = a.mtu }
end

--- Get addresses of the sandbox's interface from a DHCP server, of IPv6 as routers say too, keep them, know
-- them in CHECK, give them back in DEL, GC and rollback. The link has to be there: a type that calls this
-- says `on_link = true`.
-- @tparam table req
-- @tparam table want
--
-- - `ipv4`: false: none
-- - `ipv6`: stateful, stateless, slaac or auto, as cni.dhcp6.client has them; absent: none
-- - `provide`, `request`: as the schemas of these names read them
-- - `requested`: addresses to ask for, of which the first of each family counts
-- - `priority`: metric of the routes; 0: none
-- - `rapid`: be content with two messages, where the server is
-- - `probe`: how long, in milliseconds, others have to say that they have the address
-- @treturn table `ips`, `routes`, `dns`, `mtu`, `stays_up`; where no lease is known, what the runtime knows
-- @raise code 7 for what is no option; code 11 where no server gives an address
function M.obtain(req, want)
  bring_up(req, want.ipv6)
  local provide = provided(req, want.provide)
  local lease = want.ipv4 ~= false and ipv4(req, want, provide)
  if not want.ipv6 then return lease end
  local other = ipv6(req, want, provide)
  lease = lease and together(lease, other) or other
  -- The kernel would forget what routers have told it.
  lease.stays_up = true
  return lease
end

return M
