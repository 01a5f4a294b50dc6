-- SPDX-License-Identifier: MIT
--- What routers say on a link of a sandbox, and what the kernel has made of it: the link's own address, the
-- addresses that it has given itself, the way out. Nothing is changed here: which routers the kernel listens
-- to, its settings say.
-- @module cni.dhcp6.routers

local addr = require "cni.addr"
local fail = require "cni.fail"
local icmp = require "cni.dhcp6.icmp"
local netlink = require "netlink"

local sys, ns = netlink.sys, netlink.ns

local M = {}

local ip_type <const> = 0x86dd

-- Routers are asked three times (RFC 4861, 6.3.7), and have a moment for the last answer.
local asks <const>, ask_seconds <const> = 3, 4

-- The kernel looks for duplicates of the link's own address for a second, after up to one more.
local own_seconds <const> = 10

-- So long it takes with addresses, once it knows their prefix.
local settle_seconds <const> = 6

-- How often the kernel's addresses are looked at, while there is nothing to be heard.
local look_ms <const> = 20

-- So long the kernel may take over what we have heard already.
local lag_ms <const> = 100

local Watch = {}
Watch.__index = Watch

function Watch:__close()
  self.wire:close()
  self.kernel:close()
end

local function must(value, what, msg, errno)
  return value or fail.kernel(what, msg, errno)
end

--- Listen to the routers on a link. Close it.
-- @param where the sandbox, for netlink.ns
-- @tparam table link of it: `name`, `index`, `mac`
-- @treturn watch
function M.watch(where, link)
  local wire, msg, errno = ns.frames(where, link.index, ip_type, icmp.types.router)
  must(wire, "listen to routers on " .. link.name, msg, errno)
  local kernel
  kernel, msg, errno = netlink.open(where)
  if not kernel then wire:close() end
  must(kernel, "look at " .. link.name, msg, errno)
  local mac = link.mac:gsub("%x%x:?", function(pair) return string.char(tonumber(pair:sub(1, 2), 16)) end)
  return setmetatable({ wire = wire, kernel = kernel, where = where, link = link, mac = mac, heard = {},
    asked = 0 }, Watch)
end

local function ms_left(till) return math.max(0, (till - sys.clock()) * 1000 + 0.5) // 1 | 0 end

-- Hear at most one router. What a router says later counts, and the first one is the first.
function Watch:hear(ms)
  local bytes, msg, is_summed = self.wire:receive(ms)
  if not bytes then
    if is_summed == sys.errno.ETIMEDOUT then return nil end
    fail.kernel("listen to routers on " .. self.link.name, msg, is_summed)
  end
  local router = icmp.read_router(bytes, is_summed)
  for i, known in ipairs(router and self.heard or {}) do
    if known.router == router.router then
      self.heard[i] = router
      return router
    end
  end
  self.heard[#self.heard + 1] = router
  return router
end

--- The addresses of the link.
-- @treturn {table,...} as `luacni doc addr` lists their keys
function Watch:addrs()
  local list, msg, errno = self.kernel:dump("addr", { family = "inet6", index = self.link.index })
  return must(list, "look at the addresses of " .. self.link.name, msg, errno)
end

local function setting(self, name)
  local path = ("net/ipv6/conf/%s/%s"):format(self.link.name, name)
  local values = ns.sysctl_get(self.where, { path })
  return values and values[1] or nil
end

-- Why the link has no address of its own, as far as that is seen; and whether it will have none.
local function why_none(self)
  local disabled = setting(self, "disable_ipv6")
  if not disabled then return "this kernel has no IPv6", true end
  if disabled ~= "0" then return "IPv6 is off there: disable_ipv6 is 1", true end
  local link = self.kernel:get("link", { index = self.link.index }, { "carrier", "addr_gen_mode" }) or {}
  if link.addr_gen_mode == "none" then return "its addr_gen_mode is none", true end
  if link.carrier == false then return "it has no carrier" end
end

--- Wait for the link's own address: with that one is it spoken to servers and routers.
-- @tparam number seconds at most
-- @treturn string 16 bytes
-- @raise errno EADDRNOTAVAIL: it has none
function Watch:own_address(seconds)
  local till, began = sys.clock() + math.min(seconds, own_seconds), sys.clock()
  local why, is_hopeless, found
  repeat
    found = nil
    for _, have in ipairs(self:addrs()) do
      local bytes = addr.parse(have.address).ip
      if addr.is_link_local(bytes) then
        if not have.tentative and not have.dadfailed then return bytes end
        found = have
      end
    end
    if found and found.dadfailed then break end
    if not found then why, is_hopeless = why_none(self) end
    -- What the kernel does by itself may come some microseconds after the link is up.
    if is_hopeless and sys.clock() - began > lag_ms / 1000 then break end
    self:hear(math.min(look_ms, ms_left(till)))
  until sys.clock() >= till
  if found then
    why = found.dadfailed and ("another machine has %s"):format(found.address:match "^[^/]+")
      or "the kernel still looks for duplicates of it"
  end
  fail.throw { code = fail.codes.again, errno = sys.errno.EADDRNOTAVAIL,
    msg = ("%s has no link-local address of IPv6 to ask from%s"):format(self.link.name,
      why and ": " .. why or "") }
end

--- Ask routers to say what they are.
-- @tparam string own the link's own address, 16 bytes
function Watch:ask(own)
  local bytes, mac = icmp.ask_routers(own, self.mac)
  local ok, msg, errno = self.wire:send(bytes, mac)
  must(ok, "ask routers on " .. self.link.name, msg, errno)
  self.own, self.asked, self.asked_at = own, self.asked + 1, sys.clock()
  self.began = self.began or self.asked_at
end

-- Hear routers until `take` gives a value; nil: it did not in time. They are asked again, a few times.
local function await(self, till, take)
  while true do
    local value = take(self)
    if value ~= nil then return value end
    local now = sys.clock()
    if now >= till then return nil end
    if self.asked < asks and now >= self.asked_at + ask_seconds then self:ask(self.own) end
    self:hear(math.min(look_ms, ms_left(till)))
  end
end

--- What was heard first.
-- @treturn table|nil as of cni.dhcp6.icmp
function Watch:first() return self.heard[1] end

--- Wait for a router to say what it is.
-- @tparam number seconds at most
-- @treturn table as of cni.dhcp6.icmp
-- @raise code 11: none has
function Watch:await_router(seconds)
  local till = sys.clock() + math.min(seconds, asks * ask_seconds)
  local router = await(self, till, Watch.first)
  if router then return router end
  fail.throw { code = fail.codes.again,
    msg = ("no router advertises itself on %s: asked %d times in %.0f seconds"):format(self.link.name,
      self.asked, sys.clock() - self.began),
    hint = "is there one on this network that sends router advertisements (radvd, dnsmasq --enable-ra)?" }
end

-- The prefixes that addresses can be made of, of all routers.
local function autonomous(self)
  local list = {}
  for _, router in ipairs(self.heard) do
    for _, prefix in ipairs(router.prefixes) do
      local makes = prefix.is_autonomous and prefix.valid > 0 and prefix.len == 64
        and not addr.is_link_local(addr.parse(prefix.prefix).ip)
      if makes then list[#list + 1] = prefix end
    end
  end
  return list
end

-- Addresses that the kernel has made of a prefix; those for privacy come and go.
local function made_of(prefix, addrs)
  local net, list = addr.parse(prefix.prefix), {}
  for _, have in ipairs(addrs) do
    local own = addr.parse(have.address)
    local counts = net:contains(own.ip) and not have.permanent and not have.secondary
    if counts and own.len == 64 then list[#list + 1] = have end
  end
  return list
end

-- The addresses that are there of all prefixes; nil: one is not, or not yet; and which one.
local function settled(self)
  local list, seen, addrs = {}, {}, self:addrs()
  for _, prefix in ipairs(autonomous(self)) do
    local own = made_of(prefix, addrs)
    if not own[1] then return nil, prefix end
    for _, have in ipairs(own) do
      if have.dadfailed then
        fail.throw { code = fail.codes.again,
          msg = ("another machine has %s, which %s has given itself"):format(have.address, self.link.name) }
      end
      if have.tentative then return nil, prefix end
      if not seen[have.address] then list[#list + 1] = have.address end
      seen[have.address] = true
    end
  end
  return list[1] and list or nil
end

local function words_of(prefix)
  local why = prefix.len ~= 64 and "only networks of 64 bits do" or prefix.valid == 0 and "its time is over"
    or "its flag A is off"
  return ("%s (%s)"):format(prefix.prefix, why)
end

-- What was heard, where no address can be made of it.
local function nothing_to_make(self)
  local said = {}
  for i, router in ipairs(self.heard) do
    local prefixes = {}
    for n, prefix in ipairs(router.prefixes) do prefixes[n] = words_of(prefix) end
    said[i] = ("%s advertises %s"):format(router.router, prefixes[1] and table.concat(prefixes, ", ")
      or "no prefix")
  end
  fail.throw { code = fail.codes.again,
    msg = ("no router on %s advertises a prefix that addresses are made of: %s"):format(self.link.name,
      table.concat(said, "; ")),
    hint = self.heard[1].is_managed and 'it says that DHCPv6 gives the addresses: "ipv6": "stateful"' or nil }
end

-- Settings that keep the kernel from believing a router.
local function deaf(self)
  local accepts, forwards = setting(self, "accept_ra"), setting(self, "forwarding")
  if accepts == "0" then return "accept_ra is 0 in the sandbox" end
  if accepts == "1" and forwards == "1" then return "the sandbox forwards, and accept_ra is 1, not 2" end
  if setting(self, "autoconf") == "0" then return "autoconf is 0 in the sandbox" end
end

--- Wait until the kernel has given the link an address of each prefix that routers advertise for that.
-- @tparam number seconds at most
-- @treturn {string,...} such as fd00::1/64
-- @raise code 11: no router, no such prefix, or no address; which
function Watch:await_addresses(seconds)
  local deadline = sys.clock() + seconds
  self:await_router(seconds)
  if not autonomous(self)[1] then
    -- Another router may have one.
    await(self, math.min(deadline, sys.clock() + 1), function() return autonomous(self)[1] end)
  end
  if not autonomous(self)[1] then nothing_to_make(self) end
  local lacking
  local found = await(self, math.min(deadline, sys.clock() + settle_seconds), function()
    local list
    list, lacking = settled(self)
    return list
  end)
  if found then return found end
  fail.throw { code = fail.codes.again,
    msg = ("%s has given itself no address of %s, which %s advertises"):format(self.link.name, lacking.prefix,
      self.heard[1].router), details = deaf(self) }
end

local function default_by(self)
  local list = self.kernel:dump("route", { family = "inet6", oif = self.link.index })
  for _, route in ipairs(list or {}) do
    local dst = route.dst and addr.parse(route.dst)
    if route.gw and (not dst or dst.len == 0) and (route.oif or self.link.index) == self.link.index then
      return route.gw
    end
  end
end

--- The router by which the kernel sends what has no other way, if it has one within a time since routers were
-- asked first. When a router has said that it is no way out, nothing more is waited for.
-- @tparam number seconds
-- @treturn string|nil an address
function Watch:gateway(seconds)
  local heard_at
  return await(self, self.began + seconds, function()
    local found, router = default_by(self), self.heard[1]
    heard_at = heard_at or router and sys.clock()
    local is_none = router and (router.lifetime == 0 or sys.clock() > heard_at + lag_ms / 1000)
    return found or is_none and false or nil
  end) or nil
end

--- What routers say of names.
-- @treturn table|nil `nameservers`, `search`
function Watch:dns()
  local dns = { nameservers = {}, search = {} }
  for key, list in pairs(dns) do
    local seen = {}
    for _, router in ipairs(self.heard) do
      for _, text in ipairs(router[key]) do
        if not seen[text] then list[#list + 1] = text end
        seen[text] = true
      end
    end
    if not list[1] then dns[key] = nil end
  end
  return next(dns) and dns or nil
end

return M
