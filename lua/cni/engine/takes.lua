-- SPDX-License-Identifier: MIT
--- What each verb of a handle takes (cni.engine.handle), as data: a verb calls the function of its name
-- first, which gives it copies of what is right, and raises for what is not; see cni.engine.args.
-- @module cni.engine.takes

local args = require "cni.engine.args"
local kinds = require "cni.links.kinds"

local attributes = require("cni.engine.attributes").reader
local list, optional, record = args.list, args.optional, args.record
local boolean, link = args.boolean, args.link

local function set(text)
  local words = {}
  for word in text:gmatch "%S+" do words[word] = true end
  return words
end

-- Pieces -----------------------------------------------------------------------------

-- The name of a link to be made. In CHECK and DEL any text will do: no link has an impossible name.
local function new_name(value, self)
  if type(value) ~= "string" then return args.string(value) end
  local mode = self.plan.mode
  if mode ~= "apply" and mode ~= "dry" then return value end
  local problem, hint = require("cni.names").link_problem(value)
  if not problem then return value end
  return nil, ("link %s: %s%s"):format(require("cni.json").show(value), problem,
    hint and " (" .. hint .. ")" or "")
end

-- A kind that is a misspelt one, or a link that lacks the one that it stands on.
local function a_kind(want, self)
  local kind = want.kind
  local meant = type(kind) == "string" and kinds.meant(kind)
  if meant then return ("unknown kind '%s' (did you mean '%s'?)"):format(kind, meant), "kind" end
  if kinds.stands_on[kind] and want.link == nil and not args.is_lenient(self) then
    return ("is missing: a %s stands on another link"):format(kind), "link"
  end
end

-- Keys that a script cannot give, and why.
local not_of_link <const> = {
  index = "is given by the kernel", new_index = "is given by the kernel",
  netns = "is not given as such: ns = req.pod", netns_pid = "is not given as such: ns = req.pod",
  link_netnsid = "is given by the kernel",
}

local function but_for(more)
  local never = {}
  for key, why in pairs(not_of_link) do never[key] = why end
  for key, why in pairs(more) do never[key] = why end
  return never
end

local function one_family(want)
  local function is_ipv6(text) return text:find(":", 1, true) ~= nil end
  local ipv6 = want.dst and is_ipv6(want.dst)
  for _, key in ipairs { "gw", "src" } do
    if want.dst and want[key] and is_ipv6(want[key]) ~= ipv6 then
      return ("%s is not of the family of dst, %s"):format(want[key], want.dst), key
    end
  end
end

local vlan = attributes { object = "vlan",
  own = { absent = boolean }, only = set "vid vid_end pvid untagged",
  required = { "vid" } }

local slash <const> = ("/"):byte()

-- One setting: { path, value [, true: it need not exist] }.
local function sysctl(entry)
  if type(entry) ~= "table" then return nil, "expected { path, value }" end
  local path, value, is_optional = entry[1], entry[2], entry[3]
  if type(path) ~= "string" or path == "" then return nil, "[1] is no path below /proc/sys" end
  if path:byte() == slash or path:find("..", 1, true) and ("/" .. path .. "/"):find("/../", 1, true) then
    return nil, ("%q is no path below /proc/sys, such as net/ipv4/ip_forward"):format(path)
  end
  if not path:find("/", 1, true) then
    return nil, ("%q is written with slashes: %s"):format(path, (path:gsub("%.", "/")))
  end
  if path:sub(1, 4) ~= "net/" then
    return nil, ("%q does not begin with net/: the rest of /proc/sys is no network namespace's"):format(path)
  end
  if math.type(value) == "integer" then value = tostring(value) end
  if type(value) ~= "string" then return nil, ("the value of %s is no text"):format(path) end
  if is_optional ~= nil and type(is_optional) ~= "boolean" then return nil, "[3] is not true or false" end
  for key in next, entry do
    if key ~= 1 and key ~= 2 and key ~= 3 then
      return nil, ("unknown key '%s', expected { path, value }"):format(tostring(key))
    end
  end
  return { path, value, is_optional }
end

local family = args.word { "inet", "inet6" }
local seconds = optional(args.number(0, 3600, "seconds"))
local id = args.integer(0, 0xffffffff)

local tables = { default = 253, main = 254, ["local"] = 255 }
local number = args.integer(1, 0xffffffff)

-- A table of routes, by its number, which the kernel tells, or by its name.
local function route_table(value, self) return number(tables[value] or value, self) end

-- Verbs ------------------------------------------------------------------------------

local M = {}

M.add_link = args.verb("add_link", { nil, attributes {
  object = "link",
  own = { ns = args.handle, master = link, link = link, name = new_name, owned = boolean },
  required = { "name", "kind" }, first = a_kind,
  never = but_for { peer = "is of add_veth" },
} })

M.add_tap = args.verb("add_tap", { nil, attributes {
  object = "link",
  own = { name = new_name, multi_queue = boolean, vnet_hdr = boolean, owner = id, group = id,
    label = args.string },
  only = set "mac mtu", required = { "name" },
} })

M.lend_link = args.verb("lend_link", { "find", args.func }, { nil, record({
  ns = args.handle, name = new_name, wanted = args.any,
}, { required = { "ns", "name" } }) })

-- A pair's kind; and no MAC where there is none.
local function a_pair(want)
  if want.kind and not kinds.pairs[want.kind] then
    return args.unknown(want.kind, { "netkit", "veth" }, "kind of pair"), "kind"
  end
  if kinds.has_mac(want) then return nil end
  local key = want.mac and "mac" or want.peer.mac and "peer.mac"
  if key then return 'a netkit has one with netkit_mode = "l2" alone', key end
end

M.add_veth = args.verb("add_veth", { nil, attributes {
  object = "link",
  own = { name = new_name, master = link, peer = attributes {
    object = "link", own = { ns = args.handle, name = new_name },
    only = set "mac", required = { "ns", "name" },
  } },
  only = set("kind mac mtu netkit_mode netkit_policy netkit_peer_policy netkit_scrub netkit_peer_scrub "
    .. "netkit_headroom netkit_tailroom"), required = { "peer" }, first = a_pair,
} })

M.ensure_link = args.verb("ensure_link", { nil, attributes {
  object = "link",
  own = { name = new_name, link = link, master = link, keep = boolean, port_vlans = list(vlan),
    peer = record { master = link, name = new_name } },
  required = { "name", "kind" }, first = a_kind, never = but_for {},
} })

M.agree = args.verb("agree", { "link", link }, { "kind", args.string }, { "value", args.string })

M.enslave = args.verb("enslave", { "link", link }, { "vrf", link })

-- The kernel says "done" to 0.0.0.0, and gives the link nothing.
local function address(value, self)
  local text, problem = args.cidr(value, self)
  if text and (text:find("^0%.0%.0%.0/") or text:find("^::/")) then
    return nil, text .. " is no address that a link can have"
  end
  return text, problem
end

M.ensure_addr = args.verb("ensure_addr", { "link", link }, { "address", address },
  { "options", optional(record { replace = boolean, keep = boolean }) })

-- 0: not plugged into anything.
local function link_or_none(value, self)
  if value == 0 then return value end
  return link(value, self)
end

local stays <const> = "is given when a link is made, and stays"

M.set_link = args.verb("set_link", { "link", link }, { nil, attributes {
  object = "link",
  own = { master = link_or_none },
  never = but_for { name = stays, link = stays }, infers = true,
} })

M.back_up = args.verb("back_up", { "link", link }, { nil, attributes {
  object = "link", only = set "mac promisc mtu allmulti txqlen",
} }, { "dir", args.folder })

M.add_addr = args.verb("add_addr", { "link", link }, { "address", address },
  { "options", optional(record { nodad = boolean, noprefixroute = boolean, leased = boolean }) })

-- The kernel cuts larger values down to these.
local most <const> = { mtu = 65520, advmss = 65495 }

local function route_is_whole(want)
  for key, limit in next, most do
    if want[key] and want[key] > limit then return ("%d is above %d"):format(want[key], limit), key end
  end
  if want.type and require("cni.step.shared_route").is_linkless(want.type) then
    local key = want.link and "link" or want.gw and "gw"
    if key then return want.type .. " has no link and no gateway", key end
  elseif not want.link and want.gw then
    return ("is missing: by which link %s is reached is not looked up"):format(want.gw), "link"
  elseif not want.link then
    return "is missing (without one a route has a type: blackhole, unreachable, prohibit or throw)", "link"
  end
  return one_family(want)
end

local route = { nil, attributes {
  object = "route",
  own = { link = link, dst = args.network, gw = args.ip, src = args.ip, table = route_table },
  required = { "dst" }, check = route_is_whole,
  never = { oif = "is not given as such: link = a link", multipath = "is not for one link" },
} }

M.add_route = args.verb("add_route", route, { "options", optional(record { reported = boolean }) })

M.ensure_route = args.always_verb("ensure_route", route)

M.routes_of = args.verb("routes_of", { "link", link }, { "number", optional(id) })

local routes = optional(list(attributes {
  object = "route", required = { "dst" }, check = one_family,
  own = { dst = args.network, gw = args.ip, src = args.ip, multipath = list(args.table) },
}))

M.change_routes = args.verb("change_routes", { "link", link },
  { nil, record { add = routes, remove = routes } })

local function selects(want)
  local of_rule = want.family
  for _, key in ipairs { "from", "to" } do
    local own = want[key] and (want[key]:find(":", 1, true) and "inet6" or "inet")
    if own and of_rule and own ~= of_rule then
      return ("%s is not of the family of the rule, %s"):format(want[key], of_rule), key
    end
    of_rule = of_rule or own
  end
  if want.ip_proto == 0 then return "0 selects nothing: the kernel takes it for none", "ip_proto" end
end

local rule = { nil, attributes {
  object = "rule", own = { from = args.networks, to = args.networks, table = route_table },
  only = set "family iif oif fwmark fwmask ip_proto invert table action priority", check = selects,
} }

M.add_rule = args.always_verb("add_rule", rule)

M.ensure_rule = args.always_verb("ensure_rule", rule)

local function mac_or_proxy(want)
  if (want.mac ~= nil) == (want.proxy == true) then return "either a mac or proxy = true is given" end
end

local neigh = { nil, attributes {
  object = "neigh",
  own = { dst = args.ip, proxy = boolean, router = boolean }, only = set "mac",
  required = { "dst" }, check = mac_or_proxy,
} }

M.add_neigh = args.always_verb("add_neigh", { "link", link }, neigh)

M.ensure_neigh = args.always_verb("ensure_neigh", { "link", link }, neigh)

local function one_table(want)
  for _, key in ipairs(want.master and { "dst", "vni", "port" } or {}) do
    if want[key] then return "is of a tunnel, and master = true of a bridge's port", key end
  end
end

local fdb = { nil, attributes {
  object = "neigh", own = { dst = args.ip, master = boolean },
  only = set "mac vlan vni port", required = { "mac" }, check = one_table,
} }

M.add_fdb = args.always_verb("add_fdb", { "link", link }, fdb)

M.ensure_fdb = args.always_verb("ensure_fdb", { "link", link }, fdb)

M.set_vlan = args.verb("set_vlan", { "port", link }, { nil, vlan })

-- Traffic control --------------------------------------------------------------------

local no_index <const> = { index = "is not given as such: the link comes before" }

-- The kernel counts the time that a burst takes at its rate, and gets no further than this.
local function burst_fits(want)
  local fits = want.burst and want.rate and require("cni.step.tc").most_burst(want.rate)
  if fits and want.burst > fits then
    local text = "%d takes longer at this rate than the kernel can count: at most %d"
    return text:format(want.burst, fits), "burst"
  end
end

local function tbf_is_whole(want)
  for _, key in ipairs(want.kind == "tbf" and { "rate", "burst", "limit" } or {}) do
    if not want[key] then return "is missing", key end
  end
  return burst_fits(want)
end

M.add_qdisc = args.verb("add_qdisc", { "link", link }, { nil, attributes {
  object = "qdisc", required = { "kind" }, never = no_index, check = tbf_is_whole,
} })

local bytes = args.integer(1, 0xffffffff)

M.add_class = args.verb("add_class", { "link", link }, { nil, attributes {
  object = "class", own = { burst = bytes }, required = { "kind", "handle", "rate" }, never = no_index,
  check = burst_fits,
} })

local function selects_packets(want)
  local of_one
  for _, key in ipairs { "from", "to" } do
    local own = want[key] and (want[key]:find(":", 1, true) and "ipv6" or "ip")
    if own and want.match then return "and match are not given both", key end
    if own and want.kind == "matchall" then return "is not looked at by matchall", key end
    if own and (of_one or want.protocol or own) ~= own then
      return ("is not of the protocol %s"):format(of_one or want.protocol), key
    end
    of_one = of_one or own
  end
  if want.redirect and want.action then return "and action are not given both", "redirect" end
end

local read_filter = attributes {
  object = "filter", own = { from = args.networks, to = args.networks, redirect = link },
  required = { "parent" }, check = selects_packets,
  never = { index = no_index.index, handle = "is given by the kernel" },
}

local function filter(value, self)
  if type(value) ~= "table" or value.kind ~= nil then return read_filter(value, self) end
  local want = { kind = "u32" }
  for key, item in next, value do want[key] = item end
  return read_filter(want, self)
end

M.add_filter = args.verb("add_filter", { "link", link }, { nil, filter })

-- nf_tables ----------------------------------------------------------------------------

-- A name that nft can read back.
local function nft_name(value)
  if type(value) ~= "string" then return args.string(value) end
  if value:find "^%a[%w_.-]*$" and #value <= 60 then return value end
  return nil, ("%s is no name: a letter, and up to 59 more letters, digits, _ . or -"):format(
    require("cni.json").show(value))
end

local nft_set = record({ name = nft_name, key_type = args.string, data_type = args.string, interval = boolean,
  comment = args.string }, { required = { "name", "key_type" } })

local function is_base(chain)
  for _, key in ipairs(chain.hook and { "type", "priority" } or {}) do
    if not chain[key] then return "is missing: the chain has a hook", key end
  end
  if not chain.hook and (chain.type or chain.priority) then
    return "is missing: the chain has a type or a priority", "hook"
  end
end

local nft_chain = record({ name = nft_name, comment = args.string, type = args.string, hook = args.string,
  priority = args.integer(-0x7fffffff, 0x7fffffff), rules = list(args.any) },
  { required = { "name" }, check = is_base })

local function own_table(want)
  if want.name == "luacni" then
    return "luacni is this program's table: a script's has another name", "name"
  end
  if #(want.sets or {}) + #(want.chains or {}) == 0 then return "it has neither sets nor chains" end
end

M.ensure_nft_table = args.verb("ensure_nft_table", { nil, record({ name = nft_name,
  family = args.word { "inet", "ip", "ip6", "bridge", "netdev" }, comment = args.string,
  sets = list(nft_set), chains = list(nft_chain) }, { required = { "name" }, check = own_table }) })

M.add_nft_elements = args.verb("add_nft_elements", { "table", args.table }, { nil, list(record({
  set = args.string, key = args.any, key_end = args.any, data = args.any, says = args.string,
}, { required = { "set", "key" } })) })

M.add_nft_rule = args.verb("add_nft_rule", { "table", optional(args.table) }, { "chain", args.string },
  { "rule", args.list(args.any) })

local function name_or_any_link(value)
  if type(value) == "string" and value ~= "" then return value end
  return args.any_link(value)
end

M.default_link = args.verb("default_link", { "family", optional(family) })

M.other_end = args.verb("other_end", { "ns", args.handle }, { "link", name_or_any_link })

M.free_name = args.verb("free_name", { "names", list(args.string) })

M.set_sysctl = args.verb("set_sysctl", { "list", list(sysctl) },
  { "options", optional(record { keep = boolean, link = link }) })

M.lock_down = args.verb("lock_down", { "link", link }, { "options", optional(record { nodad = boolean }) })

M.enable_forwarding = args.verb("enable_forwarding", { "family", family })

M.await_up = args.verb("await_up", { "link", link }, { "seconds", seconds })

M.await_addrs = args.verb("await_addrs", { "link", link }, { "seconds", seconds })

local function name_or_index(value)
  return nil, args.expected("the name of a link, or its index", value)
end

M.key = args.verb("link", { nil, name_or_index })

local wanted_keys = args.verb("link", { "keys", list(args.string) })

--- The keys that a look at a link is for.
-- @tparam table self handle
-- @tparam {string,...} keys
-- @treturn {string,...} those, and what tells which link it is
function M.keys(self, keys)
  return { "index", "name", table.unpack(wanted_keys(self, keys)) }
end

M.dump = args.verb("dump", { "object", args.word { "addr", "class", "filter", "link", "neigh",
  "qdisc", "route", "rule", "vlan" } },
  { "filter", optional(args.table) }, { "keys", optional(list(args.string)) })

local some = optional(args.integer(1, 0xffff))

M.free_table = args.verb("free_table", { "least", some }, { "count", some })

M.addrs = args.verb("addrs", { "link", link }, { "family", optional(family) })

return M
