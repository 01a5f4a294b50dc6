-- SPDX-License-Identifier: MIT
--- One network namespace, as a handle sees it: its socket, and the links, addresses and routes there are.
-- Each handle has these functions beside its verbs (cni.engine.handle).
-- @module cni.engine.namespace

local addr = require "cni.addr"
local args = require "cni.engine.args"
local fail = require "cni.fail"
local files = require "cni.record.files"
local kinds = require "cni.links.kinds"
local netlink = require "netlink"
local sandbox = require "cni.record.sandbox"
local takes = require "cni.engine.takes"

local M = {}

--- The namespace object; nil for the process's own. One that is gone is an error.
-- @local
function M:namespace()
  if self.absent then
    fail.throw { code = fail.codes.netns, msg = "the sandbox's network namespace is gone" }
  end
  return self.where
end

--- The namespace object, to be named in a request that is sent in another namespace.
-- @local
function M:as_target()
  return self:namespace() or files.must(netlink.ns.self())
end

--- The netlink socket, opened when it is first needed.
-- @local
function M:socket()
  if not self.sock then
    local sock, msg, errno = netlink.open(self:namespace())
    if not sock then fail.kernel("open netlink in the " .. self.name, msg, errno) end
    self.sock = sock
  end
  return self.sock
end

-- The cookie of the namespace; "" when it is gone.
local function cookie_of(self)
  if self.absent then return "" end
  if self.where then return sandbox.cookie(self.where) end
  local own <close>, msg, errno = netlink.ns.self()
  if not own then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return sandbox.cookie(own)
end

--- The group (cni.record.shared) of something in this namespace.
-- @tparam string name such as a link's
-- @treturn string the name, and the cookie of the namespace: hosts that share a /run share no links
-- @local
function M:group(name)
  self.cookie = self.cookie or cookie_of(self)
  return name .. ":" .. self.cookie
end

--- Close the sockets that there are.
-- @local
function M:close()
  if self.sock then self.sock:close() end
  if self.nft then self.nft:leave_open() end
  self.sock, self.nft = false, false
end

--- Stands for the name of a link that is gone, when a step needs one and the name is not known any more. No
-- user sees it.
-- @local
M.gone = "(gone)"

-- What every look at a link asks for: the index is remembered by the name.
local identity <const> = { "index", "name" }

-- Ask the kernel. A mistake in the question is an error of the script that asked.
local function ask(self, verb, method, ...)
  local sock = self:socket()
  local sound, answer, msg, errno = pcall(sock[method], sock, ...)
  if sound then return answer, msg, errno end
  if fail.is(answer) then error(answer, 0) end
  args.refuse(verb, nil, (answer:gsub("^%a+: ", "", 1))) -- without the object, with which it begins
end

--- Find a link.
-- @tparam string|int key its name, or its index
-- @tparam[opt] {string,...} keys the attributes that are wanted beside `index` and `name`; a look
-- for a few costs much less than one for all
-- @treturn[1] table attributes as netlink gives them; in a dry run a link that the plan would make has its
-- `name` and `mac` alone
-- @return[2] nil absent
function M:link(key, keys)
  if type(key) ~= "string" and math.type(key) ~= "integer" then takes.key(self, key) end
  if self.absent or key == M.gone then return self.plan.mode == "dry" and self.planned[key] or nil end
  -- One that this plan makes is made before it is looked for.
  if self.planned[key] then self.plan:flush() end
  local by = math.type(key) == "integer" and { index = key } or { name = key }
  if keys and keys ~= identity then keys = takes.keys(self, keys) end
  local link, msg, errno = ask(self, "link", "get", "link", by, keys)
  if link then
    self.known[link.name] = link
    link.sandbox = self.sandbox
    args.own(link, self)
  elseif errno then
    fail.kernel("look up link " .. key, msg, errno)
  end
  return link or self.plan.mode == "dry" and self.planned[key] or nil
end

--- The link of the default route of the main table.
--
--     local uplink = req.host:default_link() or fail.throw "this node has no default route"
--
-- @tparam[opt] string family inet or inet6; by default IPv4's, else IPv6's
-- @treturn[1] table the link, as `link` gives it
-- @return[2] nil there is no default route
function M:default_link(family)
  family = takes.default_link(self, family)
  for _, name in ipairs { family or "inet", not family and "inet6" or nil } do
    local default = addr.default(name)
    for _, route in ipairs(self:routes { family = name, table = 254 }) do
      local oif = route.oif or route.multipath and route.multipath[1].oif
      if oif and addr.parse(route.dst) == default then return self:link(oif) end
    end
  end
end

--- The link here that is one end of a veth pair, or another pair, whose other end is in another namespace.
--
--     local port = req.host:other_end(req.pod, req.ifname)
--
-- @tparam handle ns of that namespace
-- @tparam table|string link there, object or name
-- @treturn[1] table the link, as `link` gives it
-- @treturn[1] table the one there, likewise
-- @return[2] nil it is of no pair, or its other end is not here
function M:other_end(ns, link)
  ns, link = takes.other_end(self, ns, link)
  local eth = ns:link(type(link) == "table" and link.name or link)
  if not eth or not kinds.pairs[eth.kind] or not eth.link or not eth.link_netnsid then return nil end
  -- The index is one of an unknown namespace: only if name and MAC are the same there as here, it is the link
  -- here.
  local here, there = self:link(eth.link), { index = eth.link, netnsid = eth.link_netnsid }
  if not here or here.kind ~= eth.kind then return nil end
  local end_of, msg, errno = ns:socket():get("link", there, { "name", "mac" })
  if errno then fail.kernel("look up the other end of " .. eth.name, msg, errno) end
  if end_of and end_of.name == here.name and end_of.mac == here.mac then return here, eth end
end

--- The first of some names that no link has. In an ADD nobody else is given one in this namespace before the
-- steps that are asked for next are done.
--
--     local name = req.host:free_name { "shim0", "shim1" }
--
-- @tparam {string,...} names
-- @treturn[1] string
-- @return[2] nil all are taken
function M:free_name(names)
  names = takes.free_name(self, names)
  self.plan:flush()
  self.plan:lock_namespace(self)
  for _, name in ipairs(names) do
    if not self:link(name, identity) then return name end
  end
end

--- Numbers of routing tables that no VRF, rule or route has, once the pending steps are done. In an ADD
-- nobody else is given one in this namespace before the steps that are asked for next are done.
--
--     local first, second = req.pod:free_table(100, 2)
--
-- @tparam[opt=1] int least the smallest number that will do
-- @tparam[opt=1] int count how many
-- @treturn int ... the smallest ones
function M:free_table(least, count)
  least, count = takes.free_table(self, least, count)
  self.plan:flush()
  self.plan:lock_namespace(self)
  local used, found = { [0] = true, [253] = true, [254] = true, [255] = true }, {}
  if not self.absent then
    for _, what in ipairs { "rule", "route" } do
      for _, entry in ipairs(self:dump(what)) do used[entry.table or 0] = true end
    end
    for _, link in ipairs(self:dump("link", { kind = "vrf" })) do used[link.vrf_table] = true end
  end
  local number = least or 1
  while #found < (count or 1) do
    if not used[number] then found[#found + 1] = number end
    number = number + 1
  end
  return table.unpack(found)
end

--- Take note of a link's index that came with something else.
-- @tparam string name
-- @tparam int index
-- @local
function M:learn(name, index)
  self.known[name] = { name = name, index = index }
end

--- Whether a link's index is known without asking.
-- @tparam string name
-- @treturn boolean
-- @local
function M:knows(name)
  return self.known[name] ~= nil
end

--- A link's index, asked for once.
-- @tparam string name
-- @treturn int the index; a link that is not there is an error
-- @local
function M:index(name)
  local link = self.known[name] or self:link(name, identity)
  if not link then
    fail.throw { code = fail.codes.internal,
      msg = ("link %s is not in the %s"):format(name, self.name) }
  end
  return link.index
end

--- Forget what is known of a link.
-- @tparam string name
-- @local
function M:forget(name)
  self.known[name] = nil
end

--- All objects of a kind, once the pending steps are done. There is nothing on a link that has just gone.
-- @tparam string object link, addr, route, rule, ...
-- @tparam[opt] table filter what the objects have, such as { kind = "vrf" }
-- @tparam[opt] {string,...} keys the attributes that are wanted
-- @treturn table list
function M:dump(object, filter, keys)
  object, filter, keys = takes.dump(self, object, filter, keys)
  self.plan:flush()
  local list, msg, errno = ask(self, "dump", "dump", object, filter, keys)
  if not list and filter and filter.index and errno == netlink.sys.errno.ENODEV then return {} end
  if not list then fail.kernel(("list %ss"):format(object), msg, errno) end
  return list
end

--- The addresses of a link, once the pending steps are done.
-- @tparam table|string link object or name
-- @tparam[opt] string family inet or inet6; default: both
-- @tparam[opt] {string,...} keys the attributes that are wanted
-- @treturn table list of { address = "10.0.0.2/24", scope = ... }
function M:addrs(link, family, keys)
  link, family = takes.addrs(self, link, family)
  self.plan:flush()
  local name = type(link) == "table" and link.name or link
  local found = self.known[name] or self:link(name, identity)
  return found and found.index and self:dump("addr", { index = found.index, family = family }, keys) or {}
end

--- The routes of the namespace.
-- @tparam table filter such as { family = "inet", table = 254 }
-- @treturn table list
function M:routes(filter)
  return self:dump("route", filter)
end

return M
