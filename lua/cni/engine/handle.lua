-- SPDX-License-Identifier: MIT
--- A handle: the links, addresses and routes of one network namespace, as a script sees them.
--
-- A request has two handles side by side, `req.host` and `req.pod`; no script enters a namespace. The name of
-- a verb says what it does:
--
--     link      finds a link, or gives nil
--     add_      makes something new: one that is there already is an error
--     ensure_   makes something unless it is there. Attachments share it; it goes with the last of them
--     set_      changes something
--     await_    waits for an event
--
-- Each change becomes a step of the plan (cni.engine.plan): it is written down, and can be taken back. A verb
-- gives *objects*: pass them on to other verbs. Their `name` and `mac` are those of the result. A verb checks
-- what it is given when it is called (cni.engine.takes), and never writes into it.
--
-- @module cni.engine.handle

local addr = require "cni.addr"
local args = require "cni.engine.args"
local fail = require "cni.fail"
local files = require "cni.record.files"
local former = require "cni.engine.former"
local kinds = require "cni.links.kinds"
local netlink = require "netlink"
local takes = require "cni.engine.takes"

local M = {}
M.__index = M
args.handles_are(M)

for name, what in next, (require "cni.engine.namespace") do M[name] = what end
for name, what in next, (require "cni.engine.shaping") do M[name] = what end
for name, what in next, (require "cni.engine.filtering") do M[name] = what end

--- Make a handle.
-- @tparam table plan the plan that its verbs add steps to
-- @tparam string ns "host" or "pod"
-- @tparam[opt] table where `ns`: a namespace object (nil: the process's own); `sandbox`: the path
-- that results name it by; `absent`: the namespace is gone, so that nothing is found in it
-- @local
function M.new(plan, ns, where)
  return setmetatable({
    plan = plan, name = ns, where = where and where.ns, sandbox = where and where.sandbox,
    absent = where and where.absent or false, sock = false, nft = false, cookie = false, known = {},
    fresh = {}, planned = {},
  }, M)
end

-- Fields of a handle that may be nil.
local optional = { where = true, sandbox = true }

setmetatable(M, { __index = function(_, key)
  if optional[key] then return nil end
  local verbs = {}
  for name, value in next, M do
    if type(value) == "function" then verbs[#verbs + 1] = name end
  end
  args.refuse("a handle", nil, args.unknown(key, verbs, "verb", "handle"))
end })

local function push(self, kind, want, more)
  local step = { kind = kind, ns = self.name, want = want }
  for key, value in pairs(more or {}) do step[key] = value end
  return self.plan:push(step)
end

local function random(count) return files.must(netlink.sys.random(count)) end

-- A random MAC: locally administered, unicast. It is part of the request that makes the link: so it need not
-- be read back, and no other program on the host replaces it.
local function random_mac()
  local a, b, c, d, e, f = random(6):byte(1, 6)
  return ("%02x:%02x:%02x:%02x:%02x:%02x"):format(a & 0xfc | 2, b, c, d, e, f)
end
M.random_mac = random_mac

--- Whether the kernel refused to delete an address or a route because it has no IPv6 (ipv6.disable=1): then
-- there can be none to delete.
-- @tparam integer errno
-- @string text address or destination
-- @treturn boolean
-- @local
function M.has_no(errno, text)
  return errno == netlink.sys.errno.EOPNOTSUPP and addr.parse(text).family == "inet6"
    and require("cni.protocol.hints").no_ipv6() ~= nil
end

local function name_of(link)
  return type(link) == "table" and link.name or link
end

local function object(self, name, mac)
  self.fresh[name] = true
  local link = args.own({ name = name, mac = mac, sandbox = self.sandbox }, self)
  self.planned[name] = link
  return link
end

-- Kinds of link that get their MAC from the link they stand on; a vlan does so only when none is given.
local function takes_mac(want)
  return want.kind == "vlan" or want.kind == "ipvlan" or want.macvlan_mode == "passthru"
end

--- Make a link, born where it belongs with its final name, MAC and MTU.
-- @tparam table want
--   name    of the link
--   kind    such as macvlan: `luacni doc link` lists them, `luacni doc link KIND` what each takes
--   ns      handle of the namespace that it is for; default: this one
--   link    object or name here: what it stands on
--   master  object or name here: what it is plugged into
--   mac     chosen when absent, but for kinds that take that of `link`
--   mtu, up, and whatever else a link has
--   owned   true: its name is made of the container's ID or the like, so that it is certainly this
--           attachment's; a DEL without a record takes it away
-- @treturn table the link
function M:add_link(want)
  want = takes.add_link(self, want)
  local home, parent = want.ns or self, want.link
  want.ns, want.into = nil, home ~= self and home.name or nil
  want.master, want.link = name_of(want.master), name_of(parent)
  local later
  if not takes_mac(want) then
    want.mac = want.mac or former.link(self, "link", want.name, home.name).mac
      or kinds.has_mac(want) and random_mac() or nil
  elseif want.macvlan_mode == "passthru" then
    later, want.mac = want.mac, nil
  end
  push(self, "link", want)
  local link = object(home, want.name, want.mac or type(parent) == "table" and parent.mac or nil)
  -- A passthru link begins with the MAC of the link below, and that one's changes along with it.
  if later then home:set_link(link, { mac = later }) end
  return link
end

--- Make a persistent tap link, for a program to open.
-- @tparam table want
--   name                   of the link
--   mac                    chosen when absent
--   mtu
--   multi_queue, vnet_hdr  true or false
--   owner, group           numbers: who may open it
--   label                  SELinux context of who makes it
-- @treturn table the link
function M:add_tap(want)
  want = takes.add_tap(self, want)
  local mac = want.mac or former.link(self, "tap", want.name, self.name).mac or random_mac()
  push(self, "tap", {
    name = want.name, kind = "tun", mac = not want.label and mac or nil, label = want.label,
    tun_type = "tap", tun_multi_queue = want.multi_queue or nil,
    tun_vnet_hdr = want.vnet_hdr or nil, tun_owner = want.owner, tun_group = want.group,
  })
  local tap = object(self, want.name, mac)
  if want.mtu or want.label then
    self:set_link(tap, { mtu = want.mtu, mac = want.label and mac or nil })
  end
  return tap
end

-- Call `find`. Returns true and the name that it gives; or false and its error, when it says that there is no
-- such device. Any other error is raised: it does not say whether there is one.
local function look_for(find)
  local ok, found = pcall(find)
  if not ok and fail.wrap(found).code ~= fail.codes.config then error(found, 0) end
  return ok, found
end

-- The link to lend, and its name. If its last borrower died, the kernel has given the link a name of its own
-- choice, or it is still in a namespace that is ending: then the record that lent it is taken back first. If
-- that record is lost, the link is found by its alias, which is its old name.
local function find_to_lend(self, find, wanted)
  local ok, name = look_for(find)
  local device = ok and self:link(name)
  local reclaim = (not device or (device.alias or "") ~= "") and self.plan.reclaim
  if reclaim and reclaim(wanted, device or nil) then
    ok, name = look_for(find)
    device = ok and self:link(name)
  end
  if not ok and wanted.device then
    local strayed = self:dump("link", { alias = wanted.device })
    if #strayed == 1 then
      self:learn(wanted.device, strayed[1].index)
      strayed[1].alias = nil -- which alias it had before it was lent, only the lost record knew
      return strayed[1], wanted.device
    end
  end
  if not ok then error(name, 0) end
  return device, name
end

--- Lend a link of this namespace to another one. When it comes back it has its name, alias, MAC, MTU,
-- addresses and routes again, and is up if it was. Its sysctls are lost on the way.
-- @tparam function find gives its name. CHECK and a DEL without a record do not call it: the link has been
-- moved by then
-- @tparam table want
--   ns      handle of the other namespace
--   name    what it is called there
--   wanted  what is looked for, as cni.devices has it
-- @treturn table the link there
function M:lend_link(find, want)
  find, want = takes.lend_link(self, find, want)
  local home, mode = want.ns, self.plan.mode
  if self.plan.attached or mode == "erase" then
    local before = mode == "update" and former.lent(self, home, want)
    if before then
      push(self, "move", before.want, { had = before.had })
      return object(home, want.name, before.had and before.had.mac)
    end
    -- The reference plugin keeps the old name in the alias too: so each can return the other's link.
    local lent = home:link(want.name)
    local name = lent and lent.alias ~= "" and lent.alias or nil
    if mode == "erase" and not name then return object(home, want.name) end
    push(self, "move", { link = name, into = home.name, name = want.name, alias = name })
    return object(home, want.name, lent and lent.mac)
  end
  local device, name = find_to_lend(self, find, want.wanted or {})
  if not device then
    fail.config("device", ("there is no link %s in the host"):format(name))
  end
  push(self, "move", { link = name, into = home.name, name = want.name, alias = name },
    { had = require("cni.step.move").before(self, device) })
  return object(home, want.name, device.mac)
end

local function random_name()
  return ("veth%02x%02x%02x%02x"):format(random(4):byte(1, 4))
end

-- Name and MAC of this end, and MAC of the peer, of a pair that an ADD has made. The name of this end may be
-- unknown: the peer leads to it.
local function find_port(self, peer_ns, peer_name)
  local port, eth = self:other_end(peer_ns, peer_name)
  if port then return port.name, port.mac, eth.mac end
end

--- Make a veth pair, both ends born in place; or a pair of another kind.
--
--     req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
--     req.host:add_veth { kind = "netkit", netkit_mode = "l2", peer = { ns = req.pod, name = req.ifname } }
--
-- @tparam table want
--   name    of this end; default: random
--   peer    the other end: { ns = handle, name =, mac = }
--   master  object or name here: what this end is plugged into
--   mac     of this end; chosen when absent
--   mtu     of both
--   kind    default: veth; or netkit, with its options (`luacni doc link netkit`), where the kernel has it.
--           It has MACs with netkit_mode = "l2" alone
-- @treturn table this end
-- @treturn table the peer
function M:add_veth(want)
  want = takes.add_veth(self, want)
  local plan, peer = self.plan, want.peer
  local kind = want.kind or "veth"
  local name, mac, peer_mac = want.name, want.mac, nil
  if plan.attached or plan.mode == "erase" then
    name, mac, peer_mac = find_port(self, peer.ns, peer.name)
    local had = plan.mode == "update" and former.pair(self, peer)
    if had then
      if not name then
        fail.throw { msg = ("link %s in the %s has no other end here"):format(peer.name, peer.ns.name),
          hint = "luacni repair does anew what is missing" }
      end
      name, mac, peer_mac = had.name, want.mac or had.mac, had.peer.mac
    elseif plan.mode == "update" then
      name, mac, peer_mac = want.name, want.mac, nil
    else
      name = name or M.gone
    end
  end
  name = name or random_name()
  if kinds.has_mac { kind = kind, netkit_mode = want.netkit_mode } then
    mac, peer_mac = mac or random_mac(), peer.mac or peer_mac or random_mac()
  else
    mac, peer_mac = nil, nil
  end
  local step = {
    name = name, kind = kind, mac = mac, mtu = want.mtu, master = name_of(want.master),
    named = want.name,
    peer = { ns = peer.ns.name, name = peer.name, mac = peer_mac },
  }
  if kind ~= "veth" then
    for key, value in next, want do
      if step[key] == nil and key ~= "mac" then step[key] = value end
    end
  end
  push(self, "link", step)
  return object(self, name, mac), object(peer.ns, peer.name, peer_mac)
end

--- Make sure of a link that attachments share. It is made by the first that needs it and
-- removed with the last, if it was made here and nobody else plugged into it.
-- @tparam table want most keys count only when the link is made. A link that is there already must be of
-- this kind, on this link, and the same tunnel or VLAN (ID, port, addresses); `up`, `promisc`,
-- `vlan_filtering` and `master` are set on it. CHECK compares all options of a link that was made here, and
-- its MTU, but for a bridge's, which goes with its ports
--   name        of the link
--   kind        and its options, as for `add_link`
--   link        object or name: what it stands on
--   master      object or name: what it is plugged into; one that is plugged into another is an error
--   vrf_table   of a VRF that must have that one; by default it is given one that nothing uses
--   peer        of a veth pair: { master = object }
--   port_vlans  of a veth pair: the VLANs of that port
--   keep        true: it stays, once an attachment was whole
-- @treturn table the link; its MAC is known once the plan has run
function M:ensure_link(want)
  want = takes.ensure_link(self, want)
  local had = former.link(self, "shared_link", want.name, self.name)
  if want.peer then
    want.peer = { master = name_of(want.peer.master),
      name = want.peer.name or had.peer and had.peer.name or random_name() }
  end
  want.mac, want.link = want.mac or had.mac or random_mac(), name_of(want.link)
  want.master = name_of(want.master)
  want.group = self:group(want.name)
  local link = args.own({ name = want.name, mac = want.mac, sandbox = self.sandbox }, self)
  self.planned[want.name] = link
  push(self, "shared_link", want, { object = link })
  return link
end

--- Agree with other attachments on a value that the kernel keeps once for all links of a kind on one master;
-- see cni.step.agree. Call it before the link is added.
-- @tparam table link what they stand on; nothing is done when it is gone
-- @tparam string kind such as ipvlan
-- @tparam string value in words
function M:agree(link, kind, value)
  link, kind, value = takes.agree(self, link, kind, value)
  if not link.index then return end
  push(self, "agree", { link = link.name, of = kind, value = value,
    group = self:group(("%s:%d"):format(kind, link.index)) })
end

--- Put a link under a VRF, together with its addresses and routes.
-- @tparam string name of the link
-- @tparam table vrf object
function M:enslave(name, vrf)
  name, vrf = takes.enslave(self, name, vrf)
  name = name_of(name)
  local link = (self.plan.mode == "apply" or self.plan.mode == "update") and self:link(name)
  push(self, "enslave", { link = name, master = name_of(vrf) },
    { had = link and require("cni.step.enslave").before(self, link) or nil })
end

--- Make sure of an address on a shared link; it goes with the last attachment that wants it.
-- @tparam table link object from `ensure_link`
-- @tparam string address such as 10.22.0.1/16
-- @tparam[opt] table options
--   replace  true: take an address that is in the way off the link, unless an attachment needs it
--   keep     true: on a link that was made here it stays, once an attachment was whole
function M:ensure_addr(link, address, options)
  link, address, options = takes.ensure_addr(self, link, address, options)
  local name = name_of(link)
  options = options or {}
  push(self, "shared_addr", {
    link = name, address = address, replace = options.replace,
    keep = options.keep or nil, group = self:group(name),
  })
end

-- A text that no other step has, or ever had.
local function new_id()
  return (random(8):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- Refuse a change by which a link loses what the same script has given it before: a link that goes down loses
-- routes and addresses, one with another MAC its neighbours. CHECK would miss them straight after the ADD.
local function check_losses(self, name, want)
  local key = want.up == false and "up" or want.mac and "mac"
  if not key or args.trusted then return end
  for _, step in ipairs(self.plan.steps) do
    local kind = step.kind
    local lost = kind == "neigh" and not step.want.entry.proxy and "neighbours"
      or key == "up" and (kind == "route" or kind == "shared_route") and "routes"
      or key == "up" and kind == "addr" and step.want.address:find(":", 1, true) and "addresses of IPv6"
    if lost and step.ns == self.name and step.want.link == name then
      args.refuse("set_link", key,
        ("%s loses its %s with this, which it has been given before: change it first"):format(name, lost))
    end
  end
end

-- Refuse another MAC where a guard would drop all that is sent from it.
local function check_guard(self, name, mac)
  local plan, guard = self.plan, require "cni.guard"
  if self.fresh[name] then return guard.need_planned(plan, name, mac) end
  local port = (plan.mode == "apply" or plan.mode == "update") and find_port(plan.host, self, name)
  if port then guard.need_known(plan.host, port, name, mac) end
end

--- Change a link. What was there before comes back after the last attachment that sets the same.
-- @tparam table|string link object or name
-- @tparam table want such as { up = true }; keys as `luacni doc link` lists them, options of its kind as
-- `luacni doc link KIND` does, `port` as `doc bridge-port`
-- @treturn table the link
function M:set_link(link, want)
  link, want = takes.set_link(self, link, want)
  local name = name_of(link)
  if self.plan.mode ~= "verify" and self.plan.mode ~= "erase" then
    check_losses(self, name, want)
    if want.mac and self.name == "pod" then check_guard(self, name, want.mac) end
  end
  local planned = self.planned[name]
  local found = not planned and not self.plan.attached and self:link(name, { "mac" })
  if planned then
    link = planned
  elseif found then
    link = args.own({ name = name, mac = found.mac, sandbox = self.sandbox }, self)
  elseif type(link) == "string" then
    link = args.own({ name = name, sandbox = self.sandbox }, self)
  end
  if want.mac then
    -- Never write into a table that a script has made itself.
    if link ~= planned and not args.is_ours(link) then
      link = args.own({ name = name, sandbox = self.sandbox }, self)
    end
    link.mac = want.mac
  end
  want.master = name_of(want.master)
  if self.fresh[name] then
    want.link = name
    push(self, "set", want, { covered = true })
  else
    push(self, "shared_set", { link = name, set = want, group = self:group("values:"), id = new_id() })
  end
  return link
end

--- Write what a link has into a file, as the reference's tuning does; call it before `set_link` changes the
-- link. If that plugin does the DEL, it restores the link from our file. If we do a DEL without a record, we
-- restore the link from its file.
-- @tparam table|string link object or name
-- @tparam table want as of `set_link`: of mac, promisc, mtu, allmulti and txqlen those that will be changed
-- @tparam string dir where such files are: its `dataDir`
function M:back_up(link, want, dir)
  link, want, dir = takes.back_up(self, link, want, dir)
  push(self, "back_up", { link = name_of(link), set = want, dir = dir })
end

--- Give a link an address.
-- @tparam table|string link object or name
-- @tparam string address such as 10.22.0.5/16
-- @tparam[opt] table options
--   nodad          true: no duplicate detection
--   noprefixroute  true: no route to the address's network
--   leased         true: it may be used as long as the lease says that the type dhcp has of it
function M:add_addr(link, address, options)
  link, address, options = takes.add_addr(self, link, address, options)
  local name = name_of(link)
  local want = { link = name, address = address }
  for key, value in pairs(options or {}) do want[key] = value end
  push(self, "addr", want, { covered = self.fresh[name] and true or nil })
end

-- Push a step of cni.step.entry. An entry on a link that this plan makes goes with the link.
local function push_entry(self, kind, want, new)
  local covered = want.link and self.fresh[want.link]
  want.new = new
  want.group = not covered and self:group("entries:") or nil
  push(self, kind, want, { covered = covered or nil })
end

local function push_shared_route(self, want, new)
  want.link = name_of(want.link)
  push_entry(self, "shared_route", require("cni.step.shared_route").want(want), new)
end

--- Add a route. In the host it is an error when a route to the same destination is there already, unless the
-- new one is on a link that the same plan makes.
-- @tparam table want
--   dst       where to, such as 10.0.0.0/8
--   link      object or name: the way
--   gw, src   addresses: the next hop, the sender
--   priority, table, scope, mtu, advmss, onlink ...: as `luacni doc route` lists them
--   type      in place of link and gw: blackhole, unreachable, prohibit or throw. One of those is of the
--             whole namespace: when it is there already, that is an error
-- @tparam[opt] table options
--   reported  true: the script's result lists it. When the result of the whole chain does so no longer, CHECK
--             does not ask for it
function M:add_route(want, options)
  want, options = takes.add_route(self, want, options)
  if want.type and require("cni.step.shared_route").is_linkless(want.type) then
    push_shared_route(self, want, true)
    return -- as a tail call it would take the name of this verb out of errors
  end
  want.link = name_of(want.link)
  want.dst = tostring(addr.parse(want.dst):network())
  if want.gw and addr.is_unspecified(addr.ip(want.gw)) then want.gw = nil end
  local covered = self.fresh[want.link] and true or nil
  want.new = self.name == "host" and not covered or nil
  push(self, "route", want, { covered = covered,
    reported = options and options.reported })
end

--- The routes by a link, for `change_routes`: on-link ones first, those that the kernel makes for addresses
-- among them. Where the kernel has joined routes of several links, the part by this one.
-- @tparam table|string link object or name
-- @tparam[opt=254] int number of the table
-- @treturn {table,...} as `luacni doc route` lists their keys; none without such a link
function M:routes_of(link, number)
  link, number = takes.routes_of(self, link, number)
  local found = self:link(name_of(link), {})
  return found and found.index
    and require("cni.links.carry").routes(self, found, { table = number or 254, kernel = true }) or {}
end

--- Have other routes by a link that is there: some more, some no longer, at once. DEL takes away what was
-- added and gives back what was removed.
--
--     local taken = req:once("routes", function() return req.pod:routes_of(req.ifname) end)
--     req.pod:change_routes(req.ifname, { remove = taken })
--
-- Which routes there are is decided by the ADD: so keep the lists with `req:once`.
-- @tparam table|string link object or name
-- @tparam table change `add` and `remove`, lists of routes with keys as `luacni doc route` lists them; what
-- is removed has all that it has, as of `routes_of`
function M:change_routes(link, change)
  link, change = takes.change_routes(self, link, change)
  push(self, "routes", { link = name_of(link), add = change.add or {}, remove = change.remove or {} })
end

--- Make sure of a route that attachments share; it goes with the last of them, if it was made here.
--
--     req.host:ensure_route { dst = "10.128.0.0/9", type = "blackhole" }
--     req.host:ensure_route { dst = "10.64.0.0/16", gw = "192.0.2.9", link = "eth1" }
--
-- @tparam table want as for `add_route`
function M:ensure_route(want)
  push_shared_route(self, takes.ensure_route(self, want))
end

--- Add a rule that says which routing table counts for what. One that is there already is an error.
--
--     req.host:add_rule { from = "10.1.0.5", table = 100 }
--
-- @tparam table want
--   from, to          address or network
--   iif, oif          names of links
--   fwmark, fwmask, ip_proto, invert: what else selects
--   table             that counts then; default: 254, the main one
--   action            in place of a table: blackhole, unreachable or prohibit
--   priority          default: 32765, just ahead of the main table
--   family            inet or inet6, where no address tells it; default: inet
function M:add_rule(want)
  push_entry(self, "rule", require("cni.step.rule").want(takes.add_rule(self, want)), true)
end

--- Make sure of a rule that attachments share; it goes with the last of them, if it was made here.
-- @tparam table want as for `add_rule`
function M:ensure_rule(want)
  push_entry(self, "rule", require("cni.step.rule").want(takes.ensure_rule(self, want)))
end

--- Tell a link the MAC of a neighbour, so that it asks nobody; or have it answer for an address.
--
--     req.pod:add_neigh(eth, { dst = "10.1.0.1", mac = "02:00:00:00:00:01" })
--     req.host:add_neigh("eth1", { dst = "10.1.0.5", proxy = true })
--
-- One that is there already, on a link that was there before, is an error.
-- @tparam table|string link object or name
-- @tparam table want
--   dst     address of the neighbour
--   mac     its MAC
--   proxy   true, in place of a MAC: the link answers for it
--   router  true of an IPv6 router
function M:add_neigh(link, want)
  link, want = takes.add_neigh(self, link, want)
  push_entry(self, "neigh", require("cni.step.neigh").want(want, name_of(link)), true)
end

--- Make sure of a neighbour that attachments share; it goes with the last of them, if it was made here.
-- @tparam table|string link object or name
-- @tparam table want as for `add_neigh`
function M:ensure_neigh(link, want)
  link, want = takes.ensure_neigh(self, link, want)
  push_entry(self, "neigh", require("cni.step.neigh").want(want, name_of(link)))
end

--- Say where frames to a MAC go: by a bridge's port, or through a tunnel.
--
--     req.host:add_fdb(port, { mac = eth.mac, master = true })
--     req.host:add_fdb("vxlan0", { mac = "00:00:00:00:00:00", dst = "192.0.2.9" })
--
-- One that is there already, on a link that was there before, is an error.
-- @tparam table|string link object or name
-- @tparam table want
--   mac        where frames go that have it
--   master     true: `link` is a bridge's port
--   dst        address: `link` is a tunnel
--   vni, port  of a tunnel
--   vlan       of a bridge
function M:add_fdb(link, want)
  link, want = takes.add_fdb(self, link, want)
  push_entry(self, "fdb", require("cni.step.fdb").want(want, name_of(link)), true)
end

--- Make sure of a forwarding entry that attachments share; it goes with the last of them, if it was made
-- here.
-- @tparam table|string link object or name
-- @tparam table want as for `add_fdb`
function M:ensure_fdb(link, want)
  link, want = takes.ensure_fdb(self, link, want)
  push_entry(self, "fdb", require("cni.step.fdb").want(want, name_of(link)))
end

--- Add a VLAN to a bridge port.
-- @tparam table|string port object or name
-- @tparam table want
--   vid, vid_end    one VLAN, or all from the first to the last
--   pvid, untagged  true or false
--   absent          true: removed
function M:set_vlan(port, want)
  port, want = takes.set_vlan(self, port, want)
  want.link = name_of(port)
  push(self, "vlan", want, { covered = self.fresh[want.link] and true or nil })
end

--- Write sysctls, in order, in one visit to the namespace. What was there before comes back after the last
-- attachment that sets the same.
-- @tparam table list of { path, value [, optional] }, paths below /proc/sys that begin with net/
-- @tparam[opt] table options
--   keep  true: nothing comes back, the values stay
--   link  object that the sysctls belong to
function M:set_sysctl(list, options)
  list, options = takes.set_sysctl(self, list, options)
  options = options or {}
  if options.keep or options.link and self.fresh[name_of(options.link)] then
    push(self, "sysctl", { list = list, keep = options.keep }, { covered = true })
  else
    push(self, "shared_sysctl", { list = list, group = self:group("values:"), id = new_id() })
  end
end

--- Keep a link of the host from believing what its other end says of routes: no router
-- advertisements, no redirects. Call it before the link is up.
-- @tparam table link object
-- @tparam[opt] table options
--   nodad  true: no duplicate detection, its addresses are unique. (Until the link's own address is accepted,
--          nothing is forwarded to its neighbours.)
function M:lock_down(link, options)
  link, options = takes.lock_down(self, link, options)
  local name = name_of(link)
  local list = M.locked_down(name)
  if options and options.nodad then
    list[#list + 1] = { "net/ipv6/conf/" .. name .. "/accept_dad", "0", true }
  end
  self:set_sysctl(list, { link = link })
end

--- The sysctls of `lock_down`.
-- @tparam string name of the link
-- @treturn {table,...} as set_sysctl takes them
-- @local
function M.locked_down(name)
  return {
    { "net/ipv6/conf/" .. name .. "/accept_ra", "0", true },
    { "net/ipv6/conf/" .. name .. "/accept_redirects", "0", true },
  }
end

--- Let the kernel forward packets of a family. It stays on: others may rely on it by the time
-- the attachment goes. Links that have routes of IPv6 by router advertisements keep them, and go on
-- listening: their accept_ra becomes 2, and stays so too.
-- @tparam string family inet or inet6
function M:enable_forwarding(family)
  family = takes.enable_forwarding(self, family)
  local path = family == "inet6" and "net/ipv6/conf/all/forwarding" or "net/ipv4/ip_forward"
  self:set_sysctl({ { path, "1" } }, { keep = true })
end

--- Wait until a link is operational. The wait is a step, done after those that were asked for before it.
-- @tparam table link object
-- @tparam[opt=5] number seconds
function M:await_up(link, seconds)
  link, seconds = takes.await_up(self, link, seconds)
  push(self, "await", { link = name_of(link), up = true, seconds = seconds or 5 })
end

--- Wait until duplicate address detection has accepted every address of a link.
-- @tparam table link object
-- @tparam[opt=5] number seconds
function M:await_addrs(link, seconds)
  link, seconds = takes.await_addrs(self, link, seconds)
  push(self, "await", { link = name_of(link), addrs = true, seconds = seconds or 5 })
end

--- Wait until the kernel has begun to look for duplicates of a link's own address, if it does: what switches
-- that off is for other addresses from then on. The kernel asks for routers when it has ended, a second later
-- at the soonest; without it, it does so at once.
-- @tparam table link object
-- @local
function M:await_dad(link)
  push(self, "await", { link = name_of(link), dad = true })
end

return M
