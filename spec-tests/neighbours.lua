-- SPDX-License-Identifier: MIT
-- The neighbours of a spec: attachments on its host that it does not speak of. A world (world.lua) has them
-- unless its spec says why not; after each of its calls and when the test is over they still reach what they
-- reached, and their CHECK is content, or the test has failed. (After a call it is one of them that is checked,
-- in turns; in a guest, where a process is dear, all of them at the end.)
--
--   network    the pod of another network of the same type, whose subnet is that of the spec's
--   interface  another interface of the spec's first pod, a device that was lent to it
--   its own    what the spec itself has attached, another container of the same network for the most part: a
--              neighbour to each call that is not about it. It reaches the gateways that the host has for it.
--
-- What they reach is an address of the host's (a bridge's, a gateway's) or beyond their master; and, where
-- the host forwards, the uplink's router, which knows no way to them and answers what was masqueraded alone.

local lfs = require "lfs"
local spawn = require "spawn"
local t = require "support"

local M = {}

local router = { v4 = "198.51.100.1", v6 = "2001:db8:5::1" }
local defaults = { v4 = "0.0.0.0/0", v6 = "::/0" }

-- ---------------------------------------------------------------------------
-- Addresses
-- ---------------------------------------------------------------------------

-- The last two addresses of an IPv4 network, its broadcast address left out, and two of an IPv6 one.
local function last_of(subnet)
  local prefix, length = subnet:match("^(.*)/(%d+)$")
  if not prefix or prefix:find("^ff") then return nil end
  if prefix:find(":", 1, true) then
    return prefix:find("::$") and tonumber(length) < 120
      and { subnet = subnet, pod = prefix .. "fffe", gateway = prefix .. "ffff", bits = 128 } or nil
  end
  local hosts = 0xffffffff >> tonumber(length)
  if not prefix:find("^%d+%.%d+%.%d+%.%d+$") or hosts < 255 then return nil end
  local last = string.unpack(">I4", (prefix:gsub("(%d+)%.?", function(n) return string.char(n) end))) | hosts
  local function text(n) return ("%d.%d.%d.%d"):format(string.pack(">I4", n):byte(1, 4)) end
  return { subnet = text(last & ~hosts) .. "/" .. length, pod = text(last - 2), gateway = text(last - 1),
    bits = 32 }
end

-- Every subnet and address of an IPAM configuration, in order.
local function subnets(ipam)
  local out = {}
  if type(ipam) ~= "table" then return out end
  for _, set in ipairs(type(ipam.ranges) == "table" and ipam.ranges or {}) do
    for _, range in ipairs(type(set) == "table" and set or {}) do out[#out + 1] = range.subnet end
  end
  for _, item in ipairs(type(ipam.addresses) == "table" and ipam.addresses or {}) do
    out[#out + 1] = item.address and item.address:gsub("%d+/2[0-4]$", "0/24"):gsub("::%x+/", "::/")
  end
  out[#out + 1] = ipam.subnet
  return out
end

-- Where a neighbour lives: { v4 =, v6 = }, in the subnets of the spec's network where those are wide enough.
local function place_of(conf)
  local place = {}
  for _, subnet in ipairs(subnets(conf.ipam)) do
    local found = type(subnet) == "string" and last_of(subnet)
    local family = found and (found.bits == 32 and "v4" or "v6")
    if found and not place[family] then place[family] = found end
  end
  return next(place) and place or { v4 = last_of("10.66.0.0/24"), v6 = last_of("fd66::/64") }
end

local function ipam_of(place, with_routes)
  local ranges, routes = {}, {}
  for family, at in pairs(place) do
    ranges[#ranges + 1] = { { subnet = at.subnet, rangeStart = at.pod, rangeEnd = at.pod,
      gateway = at.gateway } }
    routes[#routes + 1] = with_routes and { dst = defaults[family] } or nil
  end
  return { type = "host-local", ranges = ranges, routes = with_routes and routes or nil }
end

-- Lines of `ip -b` that give a link the gateway's addresses, and the host the way to the pod.
local function gateway_on(link, place)
  local lines = {}
  for _, at in pairs(place) do
    lines[#lines + 1] = ("addr add %s/%d dev %s%s"):format(at.gateway, at.bits, link,
      at.bits == 128 and " nodad" or "")
    if at.bits == 128 then lines[#lines + 1] = ("addr add fe80::ffff/64 dev %s nodad"):format(link) end
    lines[#lines + 1] = ("route add %s/%d dev %s"):format(at.pod, at.bits, link)
  end
  return lines
end

local function gateways(place)
  local list = {}
  for _, at in pairs(place) do list[#list + 1] = at.gateway end
  return list
end

-- ---------------------------------------------------------------------------
-- Kinds
-- ---------------------------------------------------------------------------

-- What a neighbour of a type is like: { conf, host = lines of `ip -b`, pod = the same there, behind = lines
-- for the namespace behind nup0, reaches = list of addresses, prev }.
local kinds = {}

local function pair(name, peer, there)
  return { ("link add %s type veth peer name %s%s"):format(name, peer, there and " netns " .. there or ""),
    ("link set %s addrgenmode none up"):format(name) }
end

local function with(list, more) return table.move(more, 1, #more, #list + 1, list) end

function kinds.bridge(place, masked, n)
  local name = "nbr" .. (n or 0)
  return { conf = { type = "bridge", bridge = name, ipMasq = masked, ipam = ipam_of(place, true) },
    host = with({ "link add " .. name .. " type bridge", "link set " .. name .. " addrgenmode none up" },
      gateway_on(name, place)), reaches = gateways(place) }
end

function kinds.ptp(place, masked)
  return { conf = { type = "ptp", ipMasq = masked, ipam = ipam_of(place, true) }, reaches = gateways(place) }
end

local function on_master(conf)
  return function(place)
    local wire = conf.type == "vlan" and "nvlan" or "nlan0"
    local behind = { "link set nlan0 addrgenmode none up" }
    if wire ~= "nlan0" then
      with(behind, { "link add link nlan0 name nvlan type vlan id 4000", "link set nvlan addrgenmode none up" })
    end
    return { conf = t.merge(conf, { master = "nup0", enabledad = false, ipam = ipam_of(place) }),
      host = pair("nup0", "nlan0", "behind"), behind = with(behind, gateway_on(wire, place)),
      reaches = gateways(place) }
  end
end

kinds.macvlan = on_master { type = "macvlan" }
kinds.ipvlan = on_master { type = "ipvlan" }
kinds.vlan = on_master { type = "vlan", vlanId = 4000 }

kinds["host-device"] = function(place, _, n)
  local device, peer = "ndev" .. (n or 0), "nend" .. (n or 0)
  return { conf = { type = "host-device", device = device, ipam = ipam_of(place) },
    host = pair(device, peer, "behind"), reaches = gateways(place),
    behind = with({ ("link set %s addrgenmode none up"):format(peer) }, gateway_on(peer, place)) }
end

function kinds.dummy(place) return { conf = { type = "dummy", ipam = ipam_of(place) }, reaches = {} } end
function kinds.tap(place) return { conf = { type = "tap", ipam = ipam_of(place) }, reaches = {} } end
function kinds.loopback() return { conf = { type = "loopback" }, reaches = { "127.0.0.1" } } end

kinds["host-local"] = function(place)
  return { conf = { type = "host-local", ipam = ipam_of(place) }, reaches = {} }
end
function kinds.static(place)
  return { conf = { type = "static", ipam = { type = "static",
    addresses = { { address = place.v4 and place.v4.pod .. "/24" or place.v6.pod .. "/64" } } } }, reaches = {} }
end

function kinds.vrf()
  return { conf = { type = "vrf", vrfname = "nvrf", table = 4000 }, pod = pair("eth0", "e1"), reaches = {},
    prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = "/run/netns/beside" } } } }
end

-- What not every kernel has; without, a bridge takes its place.
local needed = { macvlan = true, ipvlan = true, vlan = true, dummy = true, vrf = true }

-- Where forwarding is off at first, what would switch it on has another in its place.
local quiet = { ptp = "bridge" }

-- ---------------------------------------------------------------------------
-- Putting them there
-- ---------------------------------------------------------------------------

M.network, M.interface = "the other network's pod", "the pod's other interface"

-- Worlds of this test that have neighbours.
local worlds = {}

--- Which neighbours a world is going to have: what `put` takes, and the list of addresses that the host's
-- administrator has to let pass. opts: those of world.new
function M.plan(conf, opts)
  if opts.neighbours == false then return nil, {} end
  local wanted = opts.neighbours or {}
  local place, passing = place_of(conf), {}
  local type = kinds[conf.type] and (not needed[conf.type] or t.has(conf.type)) and conf.type or "bridge"
  local plan = {}
  if wanted.network ~= false then
    local masked = wanted.masked ~= false and opts.forwarding and t.has("nft-nat") or nil
    plan.network = kinds[not opts.forwarding and quiet[type] or type](place, masked)
    if plan.network.conf.ipMasq and opts.lived_in ~= false then
      for family, at in pairs(place) do
        passing[#passing + 1] = at.pod
        table.insert(plan.network.reaches, router[family])
      end
    end
  end
  if wanted.interface ~= false and opts.pods ~= 0 then
    -- A device that moved in leaves nothing in the host.
    plan.interface = kinds["host-device"]({ v4 = last_of("10.67.0.0/24") }, nil, 1)
    plan.interface.conf.ipam.routes = nil
  end
  return plan, passing
end

local function batch(ns, lines)
  if lines and #lines > 0 then
    t.run({ "ip", "-b", "-" }, { host = ns, stdin = table.concat(lines, "\n") .. "\n" })
  end
end

-- Links that are made give themselves no addresses: those would come while the spec takes its pictures. (By
-- such an address, though, a gateway asks where the other one is.)
local function quietly(namespaces, make)
  local setting, before = "net/ipv6/conf/default/addr_gen_mode", {}
  for i, ns in ipairs(namespaces) do before[i] = spawn.sysctl(ns.path, setting, "1") end
  make()
  for i, ns in ipairs(namespaces) do spawn.sysctl(ns.path, setting, before[i]) end
end

-- What is wrong with a neighbour, or nil. unchecked: without its CHECK
local function trouble(neighbour, unchecked)
  for address in pairs(neighbour.reaches) do
    if not spawn.pings(neighbour.call.netns.path, address) then
      return ("%s no longer reaches %s"):format(neighbour.name, address)
    end
  end
  local got = neighbour.content and not unchecked and t.cni(neighbour.call)
  if got and got.rc ~= 0 then
    return ("the CHECK of %s says: %s%s"):format(neighbour.name, got.out, got.err)
  end
end

-- What a link that has just come up asks first may be lost: it asks again a moment later, not a second.
local function ask_soon(ns, link, addresses)
  for _, address in ipairs(addresses) do
    if not address:find("^127%.") then
      local family = address:find(":", 1, true) and "ipv6" or "ipv4"
      spawn.sysctl(ns.path, ("net/%s/neigh/%s/retrans_time_ms"):format(family, link), "50")
    end
  end
end

--- Attach a neighbour. name: what it is; call: id, netns, ifname, conf (with name and cniVersion);
-- reaches: list of the addresses that have to answer it from now on
function M.attach(w, name, call, reaches)
  call = t.merge(call, { host = w.host, verb = "ADD" })
  local result = t.cni_ok(call)
  local neighbour = { name = name, cookie = spawn.cookie(call.netns.path), reaches = {}, content = true,
    call = t.merge(call, { verb = "CHECK", conf = t.merge(call.conf, { prevResult = result }) }) }
  for _, address in ipairs(reaches) do neighbour.reaches[address] = true end
  ask_soon(call.netns, call.ifname or "eth0", reaches)
  if not w.neighbours then w.neighbours, worlds[#worlds + 1] = {}, w end
  table.insert(w.neighbours, neighbour)
  local why = trouble(neighbour, t.guest)
  if why then error("from the beginning " .. why, 0) end
end

--- Put the neighbours of a plan into a world.
function M.put(w, plan)
  local network, interface = plan.network, plan.interface
  local beside = network and t.netns("beside", { lo = "down" })
  local host, behind = {}, {}
  for _, like in pairs(plan) do
    with(host, like.host or {})
    with(behind, like.behind or {})
  end
  local peers = #behind > 0 and t.netns("behind")
  batch(beside, network and network.pod)
  local still = { interface and w.pods[1] or nil }
  if not network or network.conf.type ~= "ptp" then still[#still + 1] = w.host end
  quietly(still, function()
    batch(w.host, host)
    batch(peers, behind)
    if network then
      M.attach(w, M.network, { id = "beside", netns = beside, conf = t.merge({ cniVersion = "1.1.0",
        name = "beside", prevResult = network.prev }, network.conf) }, network.reaches)
    end
    if interface then
      M.attach(w, M.interface, { netns = w.pods[1], ifname = "side0",
        conf = t.merge({ cniVersion = "1.1.0", name = "side" }, interface.conf) }, interface.reaches)
    end
  end)
end

-- Records and leases of the networks `beside` and `side`, their links, and their uses of what is shared; and the
-- lock of what is masqueraded, which they alone may have made.
local own_files = { "^attachments/beside/", "^attachments/side/", "^beside/", "^side/", "^shared/nbr", "/beside:",
  "/side:", "^shared/nft:luacni%.masked:%d+/lock$" }

--- Whether a file below /run/luacni, or a lease, is of a neighbour put there by `put`: their own CHECK tells.
function M.owns(name)
  for _, pattern in ipairs(own_files) do
    if name:find(pattern) then return true end
  end
  return false
end

-- ---------------------------------------------------------------------------
-- Asking them
-- ---------------------------------------------------------------------------

-- Those that are still there: a sandbox that the spec has removed takes its interfaces along.
local function present(w)
  local list = {}
  for _, neighbour in ipairs(w.neighbours or {}) do
    if spawn.cookie(neighbour.call.netns.path) == neighbour.cookie then list[#list + 1] = neighbour end
  end
  return list
end

-- The gateways that an attachment of a world's own reaches on the host.
local function reached(call, result)
  local conf, out = call.conf, {}
  local has_gateway = call.type == "bridge" and (conf.isGateway or conf.isDefaultGateway)
  if not has_gateway and call.type ~= "ptp" then return out end
  for _, ip in ipairs(result.ips or {}) do
    if ip.gateway and spawn.pings(call.netns.path, ip.gateway) then out[ip.gateway] = true end
  end
  return out
end

-- Whether a neighbour is one that the spec itself attached, and which. key: of one, nil: any
local function own(neighbour, key) return neighbour.key and (not key or neighbour.key == key) end

--- An attachment of the spec's own is there: a neighbour from now on. key: which; call: the ADD's
function M.joined(w, key, call, result)
  local conf = call.conf
  if not w.neighbours or type(conf) ~= "table" or type(call.netns) ~= "table" or call.bin == "reference" then
    return
  end
  table.insert(w.neighbours, { name = key, key = key, cookie = spawn.cookie(call.netns.path),
    reaches = reached(call, result), content = not conf.cniVersion:find("^0%.[123]%."),
    call = t.merge(call, { verb = "CHECK", conf = t.merge(conf, { prevResult = result }) }) })
end

--- An attachment of the spec's own, or each of them, is no neighbour any more. key: which; valid: a GC's list,
-- whose items stay
function M.leave(w, key, valid)
  local spared = {}
  for _, item in ipairs(type(valid) == "table" and valid or {}) do
    if type(item) == "table" then spared[("%s %s"):format(item.containerID, item.ifname)] = true end
  end
  for i = #(w.neighbours or {}), 1, -1 do
    local neighbour = w.neighbours[i]
    if own(neighbour, key) and not spared[neighbour.key] then table.remove(w.neighbours, i) end
  end
end

--- What a world's neighbours have noticed: a list of lines. Their CHECKs cost most of it. in_turns: that of
-- one of them, another one each time. key: the attachment of the spec's own that the call was about; without,
-- none of its own is asked
function M.noticed_in(w, in_turns, key)
  local out, list = {}, {}
  for _, neighbour in ipairs(present(w)) do
    if not neighbour.key or key and neighbour.key ~= key then list[#list + 1] = neighbour end
  end
  w.turn = (w.turn or 0) + 1
  for i, neighbour in ipairs(list) do
    out[#out + 1] = trouble(neighbour, in_turns and (t.guest or i ~= w.turn % #list + 1))
  end
  return out
end

--- Take a neighbour away as its runtime would, where the spec is to take its sandbox.
function M.detach(w, name)
  for i, neighbour in ipairs(w.neighbours or {}) do
    if neighbour.name == name then
      t.cni_ok(t.merge(neighbour.call, { verb = "DEL" }))
      table.remove(w.neighbours, i)
      return
    end
  end
end

--- What the spec itself did to neighbours is so from now on.
function M.so_be_it(w)
  for _, neighbour in ipairs(present(w)) do
    for address in pairs(neighbour.reaches) do
      if not spawn.pings(neighbour.call.netns.path, address) then neighbour.reaches[address] = nil end
    end
    neighbour.content = neighbour.content and t.cni(neighbour.call).rc == 0
  end
end

--- What the neighbours in the worlds of this test have noticed by its end. The worlds are forgotten.
function M.noticed()
  local out = {}
  for _, w in ipairs(worlds) do
    if lfs.attributes(w.host.path) then with(out, M.noticed_in(w)) end
  end
  worlds = {}
  return out
end

return M
