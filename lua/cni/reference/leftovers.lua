-- SPDX-License-Identifier: MIT
--- What the reference plugins have left of an attachment that they made, so that a node can change over
-- while it runs: rules of its masquerading, of its guard against forged MACs, of published ports and of its
-- firewall.
--
--     ip nat, ip6 nat                    -s ADDRESS -j CNI-HASH in POSTROUTING, and that chain; iptables'
--                                        own tables, in nf_tables or the legacy ones; HASH is of network and
--                                        container
--     inet cni_plugins_masquerade        rules in masq_checks, known by their comment
--     bridge nat                         macspoofchk: two chains an interface, and a rule in PREROUTING
--     ip nat, ip6 nat                    portmap: -j CNI-DN-HASH in CNI-HOSTPORT-DNAT, and that chain; older
--                                        ones had -j CNI-SN-HASH in CNI-HOSTPORT-SNAT too
--     ip cni_hostport, ip6 cni_hostport  portmap: rules whose comment is the container's ID
--     ip filter, ip6 filter              firewall: two rules an address in CNI-FORWARD, which tell no owner
--
-- The chain CNI-HASH is of all interfaces that a container has in the network, and so is CNI-DN-HASH. Links
-- and routes go as links and routes do; bridges stay, as with the reference, and so do chains that all
-- containers share. Loaded when a DEL finds no record, or a CHECK no rule of ours, and by a DEL of published
-- ports.
-- @module cni.reference.leftovers

local addr = require "cni.addr"
local fail = require "cni.fail"
local legacy = require "cni.reference.legacy"
local netlink = require "netlink"
local nft = require "cni.nft"
local sha512 = require "cni.reference.sha512"

local errors = netlink.sys.errno
local M = {}

-- How often it is tried again when somebody else changes the rules at the same moment.
local patience <const> = 100

local families = { ip = "inet", ip6 = "inet6" }

local function chain_of(owner)
  return "CNI-" .. sha512(owner.network .. owner.id):sub(1, 24)
end

local function comment_of(owner)
  return ("%s-%s"):format(sha512(owner.network):sub(1, 16),
    sha512(owner.ifname .. ":" .. owner.id):sub(1, 16))
end

-- A family of tables that the kernel lacks has none.
local function checked(found, msg, errno)
  if found == nil and errno and errno ~= errors.ENOENT and errno ~= errors.EAFNOSUPPORT then
    fail.kernel("look at the rules of other plugins", msg, errno)
  end
  return found
end

local function get_chain(socket, family, table_name, name)
  return checked(socket:get("chain", { family = family, table = table_name, name = name }))
end

local function rules_of(socket, family, table_name, chain)
  return checked(socket:dump("rule", { family = family, table = table_name, chain = chain })) or {}
end

local open = nft.open_if_any

-- The bytes of the address whose packets a rule sends to a chain, or nil.
local function sends(rule, chain)
  local to, from = false, nil
  for i, expr in ipairs(rule.exprs or {}) do
    local data = expr.data
    if expr[1] == "immediate" and data and data.chain == chain then to = true end
    local load = rule.exprs[i - 1]
    if expr[1] == "cmp" and load and load[1] == "payload" and #data == load.len then from = data end
  end
  return to and from
end

-- The rules that send to the chain of an attachment: rule by address.
local function senders(socket, family, chain)
  local found = {}
  if not get_chain(socket, family, "nat", chain) then return nil end
  for _, rule in ipairs(rules_of(socket, family, "nat", "POSTROUTING")) do
    local bytes = sends(rule, chain)
    if bytes then found[#found + 1] = { handle = rule.handle, address = addr.text(bytes) } end
  end
  return found
end

-- Masquerading by iptables in nf_tables. `kept`: whether an address is another attachment's.
local function drop_chain(batch, socket, family, chain, kept)
  local found = senders(socket, family, chain)
  if not found then return end
  local last = true
  for _, rule in ipairs(found) do
    if kept(rule.address) then
      last = false
    else
      batch[#batch + 1] = { "del", "rule",
        { family = family, table = "nat", chain = "POSTROUTING", handle = rule.handle } }
    end
  end
  if not last then return end
  batch[#batch + 1] = { "flush", "chain", { family = family, table = "nat", name = chain } }
  batch[#batch + 1] = { "del", "chain", { family = family, table = "nat", name = chain } }
end

local masquerade = { family = "inet", table = "cni_plugins_masquerade", chain = "masq_checks" }

-- The rules with a comment that begins so.
local function marked(socket, where, comment)
  local found = {}
  if not get_chain(socket, where.family, where.table, where.chain) then return found end
  for _, rule in ipairs(rules_of(socket, where.family, where.table, where.chain)) do
    if (rule.comment or ""):sub(1, #comment) == comment then found[#found + 1] = rule end
  end
  return found
end

local function drop_marked(batch, socket, where, comment)
  for _, rule in ipairs(marked(socket, where, comment)) do
    batch[#batch + 1] = { "del", "rule", { family = where.family, table = where.table,
      chain = where.chain, handle = rule.handle } }
  end
end

local function guard_of(owner) return ("cni-br-iface-%s-%s"):format(owner.id, owner.ifname) end

-- The guard against forged MACs: the jump first, then the chains that it leads to.
local function drop_guard(batch, socket, owner)
  local name = guard_of(owner)
  if not get_chain(socket, "bridge", "nat", name) then return end
  for _, rule in ipairs(rules_of(socket, "bridge", "nat", "PREROUTING")) do
    for _, expr in ipairs(rule.exprs or {}) do
      if expr[1] == "immediate" and expr.data and expr.data.chain == name then
        batch[#batch + 1] = { "del", "rule",
          { family = "bridge", table = "nat", chain = "PREROUTING", handle = rule.handle } }
      end
    end
  end
  for _, verb in ipairs { "flush", "del" } do
    for _, chain in ipairs { name, name .. "-mac" } do
      if get_chain(socket, "bridge", "nat", chain) then
        batch[#batch + 1] = { verb, "chain", { family = "bridge", table = "nat", name = chain } }
      end
    end
  end
end

-- Look at the rules and take out what is to go, so that nobody else's change comes between.
local function change(socket, build)
  local ok, msg, errno
  for _ = 1, patience do
    local generation, batch = checked(socket:generation()), {}
    build(batch)
    if #batch == 0 then return end
    ok, msg, errno = socket:commit(batch, nil, generation)
    if ok then return end
    if errno ~= errors.ERESTART then break end
  end
  fail.kernel("remove the rules of another plugin", msg, errno)
end

local function take_out(socket, owner, kept)
  local chain, comment = chain_of(owner), comment_of(owner)
  change(socket, function(batch)
    for family in pairs(families) do drop_chain(batch, socket, family, chain, kept) end
    drop_marked(batch, socket, masquerade, comment)
    drop_guard(batch, socket, owner)
  end)
end

-- Which addresses the container's other interfaces have in the network: what is on a link of the
-- sandbox, and what is leased.
local function others(plan, place)
  local on_links = {}
  for _, entry in ipairs(plan:at("pod") and plan.pod:dump("addr") or {}) do
    local cidr = addr.parse(entry.address)
    if cidr then on_links[cidr:text()] = true end
  end
  local leases = require "cni.leases"
  return function(address)
    if on_links[address] then return true end
    local id, ifname = leases.holder(place, address)
    return id == plan.owner.id and ifname ~= "" and ifname ~= plan.owner.ifname
  end
end

--- Take away what there is of an attachment; none is fine. Its link and its lease are gone by now.
-- @tparam table plan its `owner` and handles
-- @tparam table place of the network's leases, as of cni.leases
function M.clear(plan, place)
  local kept, owner = others(plan, place), plan.owner
  local socket = open(plan.host)
  if socket then take_out(socket, owner, kept) end
  legacy.clear(plan, chain_of(owner), ('name: "%s" id: "%s"'):format(owner.network, owner.id), kept)
end

-- Published ports: the chain of a container, by the one that leads to it.
local function port_chains(owner)
  local hash = sha512(owner.network .. owner.id):sub(1, 21)
  return { ["CNI-HOSTPORT-DNAT"] = "CNI-DN-" .. hash, ["CNI-HOSTPORT-SNAT"] = "CNI-SN-" .. hash }
end

local function jumps_to(rule, chain)
  for _, expr in ipairs(rule.exprs or {}) do
    if expr[1] == "immediate" and expr.data and expr.data.chain == chain then return true end
  end
  return false
end

local function drop_port_chain(batch, socket, family, from, chain)
  if not get_chain(socket, family, "nat", chain) then return end
  local function add(verb, kind, fields)
    fields.family, fields.table = family, "nat"
    batch[#batch + 1] = { verb, kind, fields }
  end
  for _, rule in ipairs(rules_of(socket, family, "nat", from)) do
    if jumps_to(rule, chain) then add("del", "rule", { chain = from, handle = rule.handle }) end
  end
  add("flush", "chain", { name = chain })
  add("del", "chain", { name = chain })
end

-- Whether a rule names an address.
local function names_one(rule, addresses)
  for _, expr in ipairs(rule.exprs or {}) do
    if type(expr.data) == "string" and addresses[expr.data] then return true end
  end
  return false
end

local port_rules <const> = { "hostports", "hostip_hostports", "masquerading" }

-- The rules of a container in a chain of `cni_hostport`. They tell its ID, and of its networks the address
-- alone: where addresses are known, those of its other networks are not meant.
local function of_container(socket, family, chain, owner, addresses)
  local found, where = {}, { family = family, table = "cni_hostport", chain = chain }
  for _, rule in ipairs(marked(socket, where, owner.id)) do
    if rule.comment == owner.id and (not next(addresses) or names_one(rule, addresses)) then
      found[#found + 1] = rule
    end
  end
  return found
end

local function addresses_of(plan)
  local found, prev = {}, plan.request and plan.request.prev
  for _, ip in ipairs(prev and prev.ips or {}) do
    local cidr = addr.parse(ip.address)
    if cidr then found[addr.ip(cidr:text())] = true end
  end
  return found
end

-- Whether the reference publishes ports on this host at all.
local function publishes_here(socket)
  for family in pairs(families) do
    for where, name in pairs { nat = "CNI-HOSTPORT-DNAT", cni_hostport = "hostports" } do
      if get_chain(socket, family, where, name) then return true end
    end
  end
  return false
end

local function drop_ports(batch, socket, owner, addresses)
  for family in pairs(families) do
    for from, chain in pairs(port_chains(owner)) do drop_port_chain(batch, socket, family, from, chain) end
    for _, chain in ipairs(port_rules) do
      for _, rule in ipairs(of_container(socket, family, chain, owner, addresses)) do
        batch[#batch + 1] = { "del", "rule",
          { family = family, table = "cni_hostport", chain = chain, handle = rule.handle } }
      end
    end
  end
end

--- Take away what publishes ports of an attachment; none is fine. iptables of before nf_tables is looked
-- at only when nothing is known of the attachment.
-- @tparam table plan its `owner` and handles
function M.unpublish(plan)
  local addresses = addresses_of(plan)
  local socket = open(plan.host)
  if socket and publishes_here(socket) then
    change(socket, function(batch) drop_ports(batch, socket, plan.owner, addresses) end)
  end
  if plan.mode == "erase" then legacy.clear_ports(plan, port_chains(plan.owner)) end
end

--- Whether the reference's rules publish ports of an attachment, in each family that ours would.
-- @tparam table h handle of the host
-- @tparam table owner
-- @tparam table want of the step whose elements are not there
-- @treturn boolean
function M.publishes(h, owner, want)
  local wanted = {}
  for _, element in ipairs(want.elements) do
    if element.data then wanted[element.set:find("6$") and "ip6" or "ip"] = true end
  end
  local from, chain = "CNI-HOSTPORT-DNAT", port_chains(owner)["CNI-HOSTPORT-DNAT"]
  local socket = open(h)
  local function is_published(family)
    if socket and #of_container(socket, family, "hostports", owner, {}) > 0 then return true end
    if socket and get_chain(socket, family, "nat", chain) and #rules_of(socket, family, "nat", chain) > 0 then
      for _, rule in ipairs(rules_of(socket, family, "nat", from)) do
        if jumps_to(rule, chain) then return true end
      end
    end
    return legacy.publishes(family, from, chain)
  end
  for family in pairs(wanted) do
    if not is_published(family) then return false end
  end
  return next(wanted) ~= nil
end

-- Whether the chain of the container hides what comes to it.
local function hides(socket, family, chain)
  for _, rule in ipairs(rules_of(socket, family, "nat", chain)) do
    for _, expr in ipairs(rule.exprs or {}) do
      if expr[1] == "masq" or expr[1] == "target" then return true end
    end
  end
  return false
end

--- Whether the reference's rules keep forged MACs of an attachment from its bridge.
-- @tparam table h handle of the host
-- @tparam table owner
-- @treturn boolean
function M.guards(h, owner)
  local socket = open(h)
  local rules = socket and rules_of(socket, "bridge", "nat", guard_of(owner) .. "-mac") or {}
  local last = rules[#rules] and rules[#rules].exprs
  return last ~= nil and last[#last][1] == "immediate" and last[#last].data.verdict == "drop"
end

local function masquerades(h, owner, address)
  local bytes, chain = addr.ip(address), chain_of(owner)
  local family = #bytes == 4 and "ip" or "ip6"
  local socket = open(h)
  for _, rule in ipairs(socket and senders(socket, family, chain) or {}) do
    if rule.address == address and hides(socket, family, chain) then return true end
  end
  for _, rule in ipairs(socket and marked(socket, masquerade, comment_of(owner)) or {}) do
    for _, expr in ipairs(rule.exprs or {}) do
      if expr[1] == "cmp" and expr.data == bytes then return true end
    end
  end
  return legacy.masquerades(family, chain, address)
end

--- Whether the reference's rules masquerade an address of an attachment.
-- @tparam table h handle of the host
-- @tparam table owner
-- @tparam table _ want of the step
-- @tparam table element of the step, see cni.masq
-- @treturn boolean
-- @treturn boolean true: that is said of this element alone
function M.masquerades(h, owner, _, element)
  return masquerades(h, owner, element.key[1]), true
end

-- The chain of its firewall, and where an address stands in the rules for it.
local forward <const> = "CNI-FORWARD"

-- The address that a rule of that chain accepts, or nil.
local function accepted(rule)
  local exprs = rule.exprs or {}
  local load, cmp, last = exprs[1], exprs[2], exprs[#exprs]
  local compares = load and load[1] == "payload" and load.base == "network" and cmp and cmp[1] == "cmp"
  if not compares or cmp.op ~= "eq" or type(cmp.data) ~= "string" or #cmp.data ~= load.len then return nil end
  local accepts = last[1] == "immediate" and last.data.verdict == "accept" or last[1] == "target"
  return accepts and addr.text(cmp.data) or nil
end

-- Those rules, of addresses: a list of { family =, handle =, address = }.
local function accepting(socket, addresses)
  local wanted, found = {}, {}
  for _, address in ipairs(addresses) do wanted[address] = true end
  for family in pairs(families) do
    local rules = get_chain(socket, family, "filter", forward) and rules_of(socket, family, "filter", forward)
    for _, rule in ipairs(rules or {}) do
      local address = accepted(rule)
      if address and wanted[address] then
        found[#found + 1] = { family = family, handle = rule.handle, address = address }
      end
    end
  end
  return found
end

--- Whether the reference's firewall lets pass all addresses of an attachment.
-- @tparam table h handle of the host
-- @tparam table _ owner: its rules tell none
-- @tparam table want of a step: `addresses`
-- @treturn boolean
function M.accepts(h, _, want)
  local socket = open(h)
  local found = {}
  for _, rule in ipairs(socket and accepting(socket, want.addresses) or {}) do found[rule.address] = true end
  for _, address in ipairs(want.addresses) do
    if not found[address] and not legacy.accepts(address, forward) then return false end
  end
  return #want.addresses > 0
end

--- Take away what the reference's firewall has for addresses; its chains stay, as with the reference.
-- @param socket of nf_tables, in the host
-- @tparam {string,...} addresses
function M.accept_no_more(socket, addresses)
  if #addresses == 0 then return end
  local ok, msg, errno
  for _ = 1, patience do
    local generation, batch = checked(socket:generation()), {}
    for i, rule in ipairs(accepting(socket, addresses)) do
      batch[i] = { "del", "rule",
        { family = rule.family, table = "filter", chain = forward, handle = rule.handle } }
    end
    if #batch == 0 then return legacy.accept_no_more(addresses, forward) end
    ok, msg, errno = socket:commit(batch, nil, generation)
    if ok then return legacy.accept_no_more(addresses, forward) end
    if errno ~= errors.ERESTART then break end
  end
  fail.kernel("remove the rules of another plugin", msg, errno)
end

return M
