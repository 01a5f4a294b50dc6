-- SPDX-License-Identifier: MIT
--- Published ports: what comes to a port of this host goes to a container.
--
--     table inet luacni
--       chain admin                the administrator's: seen first by all that arrives, never changed by us
--       chain guard                keeps neighbours off 127.0.0.0/8, before any destination is translated
--       chain published_in, _out   what goes to an address of this host is looked up: published4, published6
--       chain published_back       hides the sender where the answer would not come back by this host
--       map   ports4               address, protocol, port : container's address and port
--       map   ranges4              address, protocol, ports : container's address; the port stays
--       set   limited4, permits4   mappings that not all may use, and who may
--       map   any_ports4, ...      the same for every address of this host; looked at after those
--       set   hairpin4, neighbours4, from_loopback4, masquerade_all4   whose senders are hidden
--       set   asked_udp            ports of this host that somebody has sent a datagram to: of others no flow
--                                  is tracked, and none is looked for when they are published
--
-- The same with a 6. A packet costs the same with one mapping and with thirty thousand: only the first
-- packet of a connection comes here, and no rule is of an attachment. What an attachment has in the sets,
-- the comments of the elements say. The most specific mapping counts: of one address before that of all, a
-- port before a range.
--
-- The chains come after those of others who translate destinations at the customary priority, kube-proxy's
-- before all: services go before published ports (CVE-2019-9946). Only what goes to an address of this host
-- is looked up, never what is routed through (CVE-2025-67499).
--
-- @module cni.published

local addr = require "cni.addr"
local args = require "cni.engine.args"
local common = require "cni.common"
local fail = require "cni.fail"
local layouts = require "cni.step.layout"
local nft = require "cni.nft"

local M = {}

-- Layout ------------------------------------------------------------------------------

local protos, order = layouts.protos, layouts.families
local loopback <const> = "127.0.0.0/8"

local target <const> = " . inet_proto . inet_service"
local asked <const> = "asked_udp"

local function sets()
  local list = {}
  for _, family in ipairs(order) do
    local p = protos[family]
    local function set(name, key, fields)
      fields.name, fields.key_type = name .. p.suffix, key
      list[#list + 1] = fields
    end
    for _, kind in ipairs { { "", p.type .. target }, { "any_", target:sub(4) } } do
      local any, key = kind[1], kind[2]
      set(any .. "ports", key, { data_type = p.type .. " . inet_service" })
      set(any .. "ranges", key, { data_type = p.type, interval = true, noted = true })
      set(any .. "limited", key, { interval = true })
      set(any .. "permits", p.type .. " . " .. p.type .. target, { interval = true })
    end
    set("hairpin", p.type .. " . " .. p.type, { comment = "containers, and themselves" })
    set("neighbours", p.type .. " . ifname", { comment = "containers, and the link of neighbours" })
    if family == "inet" then set("from_loopback", p.type, {}) end
    set("masquerade_all", p.type, {})
  end
  list[#list + 1] = { name = asked, key_type = "inet_service", tracks = 17,
    comment = "ports of this host that were sent to" }
  return list
end

-- The look-ups of one family, first by address, protocol and port, then without the address.
local function look_ups(p)
  local rules = { nft.rule(nft.meta("l4proto", "\17"), nft.fields_into(p.word, { "dport" }, asked)) }
  for _, any in ipairs { "", "any_" } do
    local key = any == "" and { "daddr", "l4proto", "dport" } or { "l4proto", "dport" }
    local function name(what) return any .. what .. p.suffix end
    rules[#rules + 1] = nft.rule(nft.fields_in(p.word, key, name "limited"),
      nft.fields_in(p.word, { "saddr", "daddr", "l4proto", "dport" }, name "permits", "!="),
      nft.verdict "return")
    rules[#rules + 1] = nft.rule(nft.dnat_by(p.word, key, name "ports", true))
    rules[#rules + 1] = nft.rule(nft.dnat_by(p.word, key, name "ranges"))
  end
  return rules
end

local function hiding()
  local rules = {}
  for _, family in ipairs(order) do
    local p = protos[family]
    local function hide(...) rules[#rules + 1] = nft.rule(nft.is_dnatted(), ...) end
    if family == "inet" then
      hide(nft.saddr(loopback), nft.daddr_in(p.word, "from_loopback4"), nft.masquerade())
    end
    hide(nft.fields_in(p.word, { "daddr", "saddr" }, "hairpin" .. p.suffix), nft.masquerade())
    hide(nft.fields_in(p.word, { "daddr", "iifname" }, "neighbours" .. p.suffix), nft.masquerade())
    hide(nft.daddr_in(p.word, "masquerade_all" .. p.suffix), nft.masquerade())
  end
  return rules
end

local function build()
  local look_up = { nft.rule(nft.fib_daddr "local", nft.nfproto "ipv4", nft.verdict("jump", "published4")),
    nft.rule(nft.fib_daddr "local", nft.nfproto "ipv6", nft.verdict("jump", "published6")) }
  return {
    table = "luacni", name = "published", version = "2", comment = layouts.of_luacni,
    sets = sets(),
    chains = {
      { name = "admin", kept = true, comment = "yours: sees first what arrives, and is never changed" },
      { name = "guard", type = "filter", hook = "prerouting", priority = -110,
        comment = "no neighbour speaks to or as 127.0.0.0/8, whatever route_localnet is", rules = {
          nft.rule(nft.verdict("jump", "admin")),
          nft.rule(nft.iifname("lo", "!="), nft.daddr(loopback), nft.verdict "drop"),
          nft.rule(nft.iifname("lo", "!="), nft.saddr(loopback), nft.verdict "drop"),
        } },
      { name = "published4", comment = "which container a port leads to", rules = look_ups(protos.inet) },
      { name = "published6", comment = "which container a port leads to", rules = look_ups(protos.inet6) },
      { name = "published_in", type = "nat", hook = "prerouting", priority = -90,
        comment = "published ports: what arrives for this host, after kube-proxy", rules = look_up },
      { name = "published_out", type = "nat", hook = "output", priority = -90,
        comment = "published ports: what this host sends to itself", rules = look_up },
      { name = "published_back", type = "nat", hook = "postrouting", priority = 100,
        comment = "hides senders whose answers would not come by this host", rules = hiding() },
    },
  }
end

layouts.when_asked(M, function(name) return name == "layout" and build() end)

-- Intervals of addresses ----------------------------------------------------------------

local function all_of(family)
  local default = addr.default(family)
  return { { default.ip, default:last() } }
end

--- The addresses of prefixes of one family, as intervals that do not touch.
-- @tparam {cidr,...} prefixes
-- @tparam string family inet or inet6; prefixes of the other do not count
-- @treturn {table,...} first and last address of each, bytes
function M.intervals(prefixes, family)
  local list, out = {}, {}
  for _, prefix in ipairs(prefixes) do
    if prefix.family == family then list[#list + 1] = { prefix:network().ip, prefix:last() } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  for _, item in ipairs(list) do
    local before = out[#out]
    if before and item[1] <= before[2] then
      if item[2] > before[2] then before[2] = item[2] end
    else
      out[#out + 1] = item
    end
  end
  return out
end

--- All other addresses.
-- @tparam {table,...} list intervals, in order
-- @tparam string family
-- @treturn {table,...} intervals
function M.others(list, family)
  local whole, out = all_of(family)[1], {}
  local from = whole[1]
  for _, item in ipairs(list) do
    if item[1] > from then out[#out + 1] = { from, addr.prev(item[1]) } end
    from = addr.next(item[2])
    if not from then return out end
  end
  out[#out + 1] = { from, whole[2] }
  return out
end

--- What is in both of two lists.
-- @tparam {table,...} a intervals
-- @tparam {table,...} b intervals
-- @treturn {table,...} intervals
function M.both(a, b)
  local out = {}
  for _, one in ipairs(a) do
    for _, other in ipairs(b) do
      local from, to = one[1] > other[1] and one[1] or other[1], one[2] < other[2] and one[2] or other[2]
      if from <= to then out[#out + 1] = { from, to } end
    end
  end
  return out
end

-- Elements ------------------------------------------------------------------------------

-- So many ports in a row, each to the same of the container, are an interval though they were given one by
-- one.
local many <const> = 16

local function is_before(a, b) return a.place < b.place end

local function of_host(mapping)
  local host = mapping.host or "*"
  return host:find(":", 1, true) and "[" .. host .. "]" or host
end

local function in_words(mapping)
  local to = mapping.last > mapping.first and "-" .. mapping.last or ""
  return ("%s:%d%s/%s"):format(of_host(mapping), mapping.first, to, mapping.proto)
end

-- The mappings of a family in order, neighbours joined; two for one port are an error.
local function joined(mappings)
  local list, out = table.move(mappings, 1, #mappings, 1, {}), {}
  for _, item in ipairs(list) do
    item.place = ("%s %s %05d"):format(item.proto, item.host or "", item.first)
  end
  table.sort(list, is_before)
  for _, item in ipairs(list) do
    local before = out[#out]
    local alike = before and before.proto == item.proto and before.host == item.host
    local same_rest = alike and before.limits == item.limits and before.offset == item.offset
    if alike and item.first <= before.last then
      if not (same_rest and item.last <= before.last) then
        fail.config("portMappings", ("%s is mapped twice"):format(in_words(item)))
      end
    elseif same_rest and item.first == before.last + 1 then
      before.last = item.last
      before.together = before.together and item.together
    else
      local copy = {}
      for key, value in pairs(item) do copy[key] = value end
      out[#out + 1] = copy
    end
  end
  return out
end

local function publish(elements, p, ip, mapping)
  local any, host = mapping.host and "" or "any_", mapping.host
  local function key(port)
    if host then return { host, mapping.proto, port } end
    return { mapping.proto, port }
  end
  local function name(what) return any .. what .. p.suffix end
  local function add(element) elements[#elements + 1] = element end
  local count = mapping.last - mapping.first + 1
  local to = p.suffix == "6" and "[" .. ip .. "]" or ip
  if mapping.offset == 0 and count > 1 and (mapping.together or count >= many) then
    add { set = name "ranges", key = key(mapping.first), key_end = key(mapping.last), data = ip,
      excludes = { name "ports", name "ranges" }, says = ("publish %s to %s"):format(in_words(mapping), to) }
  else
    local first = mapping.first + mapping.offset
    local one = { set = name "ports", key = key(mapping.first), data = { ip, first },
      excludes = { name "ranges" }, says = ("publish %s to %s:%d"):format(in_words(mapping), to, first) }
    if count > 1 then
      one.each, one.says = count, ("%s-%d"):format(one.says, first + count - 1)
      one.says_each = ("publish %s:%%d/%s to %s:%%d"):format(of_host(mapping), mapping.proto, to)
    end
    add(one)
  end
  local limits = mapping.limits
  if not limits then return end
  add { set = name "limited", key = key(mapping.first), key_end = key(mapping.last), says = "" }
  for _, from in ipairs(limits.from) do
    for _, at in ipairs(limits.at) do
      add { set = name "permits", says = ("to %s-%s alone"):format(addr.text(from[1]), addr.text(from[2])),
        key = { addr.text(from[1]), addr.text(at[1]), mapping.proto, mapping.first },
        key_end = { addr.text(from[2]), addr.text(at[2]), mapping.proto, mapping.last } }
    end
  end
end

-- The name of the link of the host that leads to an address; nil: none does.
local function way_to(req, ip)
  local route, msg, errno = req.host:socket():way(ip)
  if not route and errno then fail.kernel("look for the way to " .. ip, msg, errno) end
  local link = route and route.oif and req.host:link(route.oif, {})
  return link and link.name
end

-- What comes by the link that leads to the sandbox is from those who answer each other without this host: the
-- sandbox itself, and its neighbours. (What a bridge alone has handled while its packets are shown to
-- nf_tables came by no link; then nf_tables sees the neighbours' answers too.)
local function hide_senders(elements, p, ip, way, options)
  local function add(set, key)
    elements[#elements + 1] = { set = set .. p.suffix, key = key, replace = true, says = "" }
  end
  if options.masq_all then return add("masquerade_all", ip) end
  add("hairpin", { ip, ip })
  if way then add("neighbours", { ip, way }) end
  if p.suffix == "4" then add("from_loopback", ip) end
end

-- What comes to 127.0.0.1 goes by that link, too.
local function widen(req, ip, way)
  if way then
    req.host:set_sysctl { { "net/ipv4/conf/" .. way .. "/route_localnet", "1" } }
  elseif common.expects_all(req) then
    fail.throw { msg = ("no route leads from the host to %s"):format(ip),
      hint = "ports are published to an address that the host can reach" }
  end
end

local function of_loopback(mappings)
  for _, mapping in ipairs(mappings) do
    if not mapping.host or mapping.host:find("^127%.") then return true end
  end
end

local function push(req, elements, flows)
  req.plan:push { kind = "elements", ns = "host", want = { module = "published", elements = elements,
    flows = flows, instead = "publishes", theirs = "unpublish" } }
end

--- Nothing is known of what an attachment had: what is its is taken back.
-- @tparam table req in the mode erase
-- @local
function M.forget(req) push(req, {}) end

local takes = args.call("published.add", { "req", args.request },
  { "ips", args.list(args.cidr) }, { "mappings", args.list(args.table) }, { "options", args.table })

--- Publish ports of an attachment. DEL takes them back, and connection tracking forgets the flows of those
-- ports by UDP both times.
-- @tparam table req the request
-- @tparam {string,...} ips the container's addresses with their prefix lengths, at most one of a family
-- @tparam {table,...} mappings each for one family or for both:
--   proto     tcp, udp or sctp
--   host      address of the host; nil: all of them
--   family    inet or inet6; nil: both
--   first, last  ports of the host
--   offset    what is to be added to get the container's
--   together  true: a range, and not ports that happen to lie beside each other
--   allow     list of cidr: who may connect; nil: all
-- @tparam table options
--   hide      true: hide the sender where the answer would not come by this host
--   masq_all  true: hide all senders
--   limits    by family, `from` and `at`: intervals of source and destination addresses that all mappings of
--             the family are for; nil: all
function M.add(req, ips, mappings, options)
  req, ips, mappings, options = takes(req, ips, mappings, options)
  local elements, flows, known, looped = {}, {}, {}, nil
  local function limits_of(family, allow)
    local general = options.limits and options.limits[family]
    if not general and not allow then return nil end
    local from, at = general and general.from or all_of(family), general and general.at or all_of(family)
    if allow then from = M.both(from, M.intervals(allow, family)) end
    local key = ""
    for _, item in ipairs(from) do key = key .. item[1] .. item[2] end
    known[family .. key] = known[family .. key] or { from = from, at = at }
    return known[family .. key]
  end
  for _, text in ipairs(ips) do
    local cidr = addr.parse(text)
    local ip, family = cidr:text(), cidr.family
    local p, list = protos[family], {}
    for _, mapping in ipairs(mappings) do
      local limits = limits_of(family, mapping.allow)
      if (mapping.family or family) == family and not (limits and (#limits.from == 0 or #limits.at == 0)) then
        list[#list + 1] = { proto = mapping.proto, host = mapping.host,
          first = mapping.first, last = mapping.last, offset = mapping.offset,
          together = mapping.together, limits = limits }
      end
    end
    list = joined(list)
    for _, mapping in ipairs(list) do
      publish(elements, p, ip, mapping)
      if mapping.proto == "udp" then
        flows[#flows + 1] = { family = family, proto = 17, first = mapping.first, last = mapping.last,
          dst = mapping.host, to = ip, asked = asked,
          unless = not mapping.host and { "ports" .. p.suffix, "ranges" .. p.suffix } or nil }
      end
    end
    if options.hide and #list > 0 then
      local way = way_to(req, ip)
      hide_senders(elements, p, ip, way, options)
      if family == "inet" and of_loopback(list) then looped = { ip, way } end
    end
  end
  if #elements == 0 and req.plan.mode ~= "erase" then return end
  push(req, elements, #flows > 0 and flows or nil)
  -- After the guard: and so taken back before it.
  if looped then widen(req, table.unpack(looped, 1, 2)) end
end

return M
