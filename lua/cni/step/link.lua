-- SPDX-License-Identifier: MIT
--- Step `link`: a link that this attachment alone has. It is born complete (name, MAC, MTU, master,
-- peer) and taken back by its name; when it is not certain that the link of that name is ours (the
-- ADD died in the middle), its kind, the MAC we chose and the attributes of its kind decide.
-- @module cni.step.link

local along = require "cni.links.along"
local fail = require "cni.fail"
local kinds = require "cni.links.kinds"
local netlink = require "netlink"
local set = require "cni.step.set"

local M = { along = true, of_interface = true, telling = true }

-- Kinds whose attribute for the link they stand on is not `link`.
local own_link <const> = { vxlan = "vxlan_link", xfrm = "xfrm_link" }

local function key_of_link(want) return own_link[want.kind] or "link" end

--- The namespace that the link is born in: "host" or "pod".
function M.home(step)
  return step.want.into or step.ns
end
local home = M.home

function M.links(step)
  local want = step.want
  local names = { want.master }
  names[#names + 1] = want.link
  return names
end

function M.requests(step, handle)
  local want, plan = step.want, handle.plan
  local attrs = {}
  for key, value in pairs(want) do attrs[key] = value end
  attrs.named, attrs.into, attrs.owned = nil, nil, nil
  attrs.master = want.master and handle:index(want.master)
  attrs.link = nil
  if want.link then attrs[key_of_link(want)] = handle:index(want.link) end
  attrs.netns = want.into and plan[want.into]:as_target()
  if want.peer then
    attrs.peer = {
      name = want.peer.name, mac = want.peer.mac, mtu = want.mtu,
      netns = want.peer.ns ~= step.ns and plan[want.peer.ns]:as_target() or nil,
    }
  end
  -- What is born elsewhere is not echoed here.
  local echo = not want.into and { "index", "link" } or nil
  return { { "add", "link", attrs, echo = echo } }
end

--- Take note of the indices that the kernel has given.
function M.made(step, handle, echo)
  local want = step.want
  handle:learn(want.name, echo.index)
  if want.peer and echo.link then handle.plan[want.peer.ns]:learn(want.peer.name, echo.link) end
end

--- Raise unless the kernel has kept what a script has asked for: it rounds some values, and replaces others.
function M.kept(step, plan)
  local want = step.want
  local link = next(kinds.options(want)) and plan[home(step)]:link(want.name)
  local key = link and kinds.odd_option(want, link)
  if not key then return end
  local have = type(want[key]) ~= "table" and tostring(link[key])
  fail.throw { msg = ("%s: the kernel does not keep %s as asked for%s"):format(M.say(step), key,
    have and (", %s: it has made %s of it"):format(tostring(want[key]), have) or "") }
end

-- The name that a link has on its way into another namespace. It is made of the owner, so that an undo
-- knows it too.
local function name_on_the_way(step, owner)
  return "tmp" .. netlink.sys.hash64(("%s %s %s %s"):format(owner.network, owner.id, owner.ifname,
    step.want.name)):sub(1, 12)
end

-- Before Linux 6.15 a link that is born in another namespace needs a name that is free here too. So when the
-- kernel refuses its name, it is born under another one and renamed there. Returns what `send` does; or
-- nothing when the name is taken there too.
local function make_by_another_name(step, handle)
  local want, plan = step.want, handle.plan
  local elsewhere = plan[want.into]
  if elsewhere:link(want.name, { "index" }) then return end
  local request = M.requests(step, handle)[1]
  local name = name_on_the_way(step, plan.owner)
  request[3].name, request[3].up = name, nil
  local ok, msg, errno, _, statuses = handle:socket():send { request }
  -- Until it is renamed, a link of the wanted name is not ours.
  step.unsure = true
  step.did = ok or statuses and statuses[1] < 0 or nil
  if not ok then return ok, msg, errno end
  ok, msg, errno = elsewhere:socket():send {
    { "set", "link", { index = elsewhere:index(name), name = want.name, up = want.up } },
  }
  elsewhere:forget(name)
  if ok then step.unsure = nil end
  return ok, msg, errno
end

--- Say what is in the way, since the kernel does not; or make the link in another way.
function M.refused(step, handle, errno)
  local want = step.want
  local ok, msg, other
  if errno == netlink.sys.errno.EEXIST and want.into then
    ok, msg, other = make_by_another_name(step, handle)
    if ok then return true end
    errno = other or errno
  end
  local peer = not want.named and want.peer
  if peer and errno == netlink.sys.errno.EEXIST and not handle.plan[peer.ns]:link(peer.name) then
    fail.throw { retry = true,
      msg = ("%s: link %s exists already in the host"):format(M.say(step), want.name) }
  end
  local why, hint = require("cni.links.obstacle").explain(step, handle, errno, home(step))
  if why then fail.throw { msg = M.say(step) .. ": " .. why, hint = hint } end
  if msg then fail.kernel(M.say(step), msg, errno) end
end

-- The MAC that the runtime knows a link by; a later plugin of the chain may have changed it.
local function reported_mac(plan, name, sandbox)
  for _, interface in ipairs(plan.prev and plan.prev.interfaces or {}) do
    if interface.name == name and (interface.sandbox or "") == (sandbox or "") then
      return interface.mac and interface.mac ~= "" and interface.mac:lower() or nil
    end
  end
end

--- Compare a link's MAC with the one that the runtime was told.
-- @tparam table plan
-- @tparam table link
-- @tparam string place where it is, in words
-- @treturn string|nil what differs
function M.same_mac(plan, link, place)
  local mac = reported_mac(plan, link.name, link.sandbox)
  if mac and link.mac ~= mac then
    return ("link %s in the %s: mac is %s, not %s"):format(link.name, place, link.mac, mac)
  end
end

function M.verify(step, plan)
  local want, h = step.want, plan[home(step)]
  local place = h.name == "pod" and "sandbox" or "host"
  local peer_place = want.peer and want.peer.ns == "pod" and "sandbox" or "host"
  local peer = want.peer and plan[want.peer.ns]:link(want.peer.name)
  if want.peer and not peer then
    return ("link %s is not in the %s"):format(want.peer.name, peer_place)
  end
  local link = h:link(want.name)
  if not link then
    return want.peer and ("link %s in the %s has no %s end %s"):format(want.peer.name, peer_place, want.kind,
      h.name == "pod" and "in the sandbox" or "here")
      or ("link %s is not in the %s"):format(want.name, place)
  end
  if link.kind ~= want.kind then
    return ("link %s: kind is %s, not %s"):format(want.name, link.kind or "none", want.kind)
  end
  if want.master then
    local master = h:link(want.master)
    if not master or link.master ~= master.index then
      return ("link %s is not plugged into %s"):format(want.name, want.master)
    end
  end
  for key, value in pairs(want.port or {}) do
    if not link.port or link.port[key] ~= value then
      return ("port %s: %s is not %s"):format(want.name, key, tostring(value))
    end
  end
  -- MTU and MAC of the container's end may have been changed by later plugins of the chain.
  if want.mtu and h.name == "host" and link.mtu ~= want.mtu then
    return ("link %s: mtu is %d, not %d"):format(want.name, link.mtu, want.mtu)
  end
  if want.up and h.name == "host" and not link.up then return ("link %s is down"):format(want.name) end
  if want.link then
    -- When the link below is in another namespace, that one's number stands beside its index.
    local parent = plan[step.ns]:link(want.link)
    local is_on = parent and link[key_of_link(want)] == parent.index
    if not is_on or (link.link_netnsid ~= nil) ~= (want.into ~= nil) then
      return ("link %s does not stand on %s"):format(want.name, want.link)
    end
  end
  -- The script has chosen the name of this end: somebody will look for it by that.
  if want.named and want.named ~= link.name then
    return ("the end of %s in the %s is called %s, not %s"):format(want.peer.name, place, link.name,
      want.named)
  end
  local key = kinds.odd_option(want, link)
  if key then return ("link %s: %s"):format(want.name, kinds.difference(want, link, key)) end
  return M.same_mac(plan, link, place) or (peer and M.same_mac(plan, peer, peer_place))
end

-- The MAC that the runtime was told of, where a link has another one.
local function lost_mac(plan, link)
  local mac = reported_mac(plan, link.name, link.sandbox)
  return mac ~= link.mac and mac or nil
end

local function send(h, link, attrs)
  attrs.index = link.index
  local ok, msg, errno = h:socket():send { { "set", "link", attrs } }
  if not ok then fail.kernel("set link " .. link.name, msg, errno) end
end

-- Raise when a link is there under another name.
local function look_for_renamed(step, plan)
  local want, h = step.want, plan[home(step)]
  local mac = reported_mac(plan, want.name, h.sandbox)
  for _, link in ipairs(mac and h:dump("link", { kind = want.kind }) or {}) do
    if link.mac == mac then fail.throw { msg = ("link %s is called %s now"):format(want.name, link.name) } end
  end
end

-- What has to be set of a link for it to be as wanted; nil: nothing.
local function changes(step, plan, link)
  local want, h = step.want, plan[home(step)]
  local attrs, now = {}, setmetatable({}, { __index = link })
  attrs.mtu = want.mtu ~= link.mtu and h.name == "host" and want.mtu or nil
  attrs.mac = lost_mac(plan, link)
  local master = want.master and h:index(want.master)
  attrs.master = link.master ~= master and master or nil
  for key, value in pairs(want.port or {}) do
    local have = not attrs.master and link.port or {}
    if have[key] ~= value then
      attrs.port = attrs.port or {}
      attrs.port[key] = value
    end
  end
  local key = kinds.odd_option(want, now)
  while key do
    attrs.kind, attrs[key], now[key] = want.kind, want[key], want[key]
    key = kinds.odd_option(want, now)
  end
  if want.up and h.name == "host" and not link.up then attrs.up = true end
  return next(attrs) ~= nil and attrs or nil
end

--- Plug it in again, and set what of it others have set. One of another kind is left alone.
function M.mend(step, plan)
  local want, h = step.want, plan[home(step)]
  local link, peer = h:link(want.name), want.peer and plan[want.peer.ns]:link(want.peer.name)
  if not (link or peer) then
    if not want.peer then look_for_renamed(step, plan) end
    return false
  end
  local differs = M.verify(step, plan)
  if not link or link.kind ~= want.kind or want.peer and not peer then fail.throw { msg = differs } end
  local mac = peer and lost_mac(plan, peer)
  if mac then send(plan[want.peer.ns], peer, { mac = mac }) end
  local attrs = changes(step, plan, link)
  if attrs then send(h, link, attrs) end
  return true
end

--- Without what the link was born with and a later step has set anew.
function M.without(step, later)
  local want, about = {}, home(step) .. " " .. step.want.name .. " "
  for key, value in pairs(step.want) do
    if not later[about .. key] then want[key] = value end
  end
  return setmetatable({ want = want }, { __index = step })
end

-- What is set once a link is there: an ADD that died may not have come so far.
local set_later <const> = { alias = true, carrier = true, proto_down = true, addr_gen_mode = true,
  ipv6_token = true }

-- Whether a link may be the one that an ADD has begun to make.
local function may_be(want, link)
  if want.mac and link.mac ~= want.mac then return false end
  local at_birth = {}
  for key, value in pairs(want) do
    if not set_later[key] then at_birth[key] = value end
  end
  return not kinds.odd_option(at_birth, link)
end

-- Remove the link of a name if it is the step's. When that is not certain, MAC and options have to be right.
local function remove(step, h, name, certain)
  local want = step.want
  local link = h:link(name, certain and { "kind" } or nil)
  h.plan.missed = h.plan.missed or not link
  if not link or link.kind ~= want.kind then return end
  if not certain and not may_be(want, link) then return end
  if h.plan.batch and h.name == "host" then
    h.plan.batch:gone(h, link.index)
    if not h:link(link.index, {}) then return h:forget(name) end
  end
  local function delete(gone)
    if not (gone and gone { link = link.index }) then
      local ok, msg, errno = h:socket():del_link_quick({ index = link.index }, 5000)
      if not ok then fail.kernel("remove link " .. name, msg, errno) end
    end
    h:forget(name)
  end
  if want.master and along.may_go(h.plan, want.master, h) then return along.later(h.plan, delete) end
  delete()
end

function M.key(step)
  local want = step.want
  local peer = want.peer
  return peer and ("%s %s peer"):format(peer.ns, peer.name) or ("%s %s"):format(home(step), want.name)
end

-- What a link is born with, and is not to be changed.
local for_life <const> = { kind = true, link = true, into = true, name = true }

-- What a link has that is no attribute of it alone.
local others <const> = { peer = true, named = true, owned = true }

local function attributes_of(want)
  local attrs = {}
  for key, value in pairs(want) do
    if not others[key] and not for_life[key] then attrs[key] = value end
  end
  return attrs
end

-- Why a link is not to be changed, but to be made anew.
local function obstacle(from, to)
  if from.want.master ~= to.want.master then
    return ("it is plugged into %s, and was into %s"):format(to.want.master or "nothing",
      from.want.master or "nothing")
  end
  for key in pairs(for_life) do
    if from.want[key] ~= to.want[key] then
      return ("its %s is %s, and was %s"):format(key, tostring(to.want[key]), tostring(from.want[key]))
    end
  end
  for key in pairs(kinds.identity) do
    if from.want[key] ~= to.want[key] then
      return ("its %s is %s, and was %s"):format(key, tostring(to.want[key]), tostring(from.want[key]))
    end
  end
  if to.want.named and to.want.named ~= from.want.name then
    return ("it is called %s, and was %s"):format(to.want.named, from.want.name)
  end
end

--- Refuse what a link can only be born with.
function M.adopt(to, from)
  local why = obstacle(from, to)
  if why then
    fail.throw { msg = ("link %s cannot be changed: %s"):format(to.want.name, why),
      hint = "DEL and ADD make it anew; what runs in the sandbox loses its connections" }
  end
end

-- The least MTU of IPv6: below it the kernel takes the link's addresses of that family away.
local ipv6_mtu <const> = 1280

local function must_keep_addresses(h, name, mtu)
  for _, have in ipairs(mtu and mtu < ipv6_mtu and h:addrs(name, "inet6") or {}) do
    if not have.address:find "^fe80:" then
      fail.throw { msg = ("link %s would lose %s: IPv6 needs an MTU of %d"):format(name, have.address,
        ipv6_mtu) }
    end
  end
end

--- Set on a link, and on the other end of a pair, what is another.
function M.change(from, to, plan)
  local want, h = to.want, plan[home(to)]
  local old, new = attributes_of(from.want), attributes_of(want)
  local attrs = set.exchange(h, want.name, old, new)
  local peer = want.peer and plan[want.peer.ns]:link(want.peer.name)
  local was = from.want.peer or {}
  must_keep_addresses(h, want.name, attrs.mtu)
  if peer then must_keep_addresses(plan[want.peer.ns], want.peer.name, attrs.mtu) end
  if peer then
    -- A later plugin of the chain may have set them anew.
    local own = {}
    if attrs.mtu and peer.mtu == (h:link(want.name) or {}).mtu then own.mtu = attrs.mtu end
    if want.peer.mac ~= was.mac and peer.mac == was.mac then own.mac = want.peer.mac end
    if next(own) then send(plan[want.peer.ns], peer, own) end
  end
  if next(attrs) == nil then return end
  for key in pairs(attrs) do
    if kinds.options(want)[key] ~= nil then attrs.kind = want.kind end
  end
  send(h, h:link(want.name) or { name = want.name, index = h:index(want.name) }, attrs)
  local odd = kinds.odd_option(want, h:link(want.name))
  if odd then
    fail.throw { msg = ("link %s: the kernel does not change its %s"):format(want.name, odd),
      hint = "DEL and ADD make it anew; what runs in the sandbox loses its connections" }
  end
end

function M.undo(step, plan)
  local want, h = step.want, plan:at(home(step))
  if not h then return end
  local certain = not step.unsure and (plan.mode ~= "undo" or plan.record and plan.record.done)
  remove(step, h, want.name, certain)
  -- Once the ADD has answered, the link is no longer on its way.
  if want.into and not (plan.record and plan.record.done) then
    remove(step, h, name_on_the_way(step, plan.owner), true)
  end
end

function M.stands(step, plan)
  local link = plan[home(step)]:link(step.want.name, { "kind" })
  return link ~= nil and link.kind == step.want.kind
end

function M.say(step)
  local want = step.want
  if want.peer then
    return ("create %s pair %s%s, peer %s in the %s"):format(want.kind, want.name,
      want.master and " on " .. want.master or "", want.peer.name,
      want.peer.ns == "pod" and "sandbox" or "host")
  end
  return ("create %s link %s%s in the %s%s"):format(want.kind, want.name,
    want.link and " on " .. want.link or "", home(step) == "pod" and "sandbox" or "host",
    want.master and ", plugged into " .. want.master or "")
end

return M
