-- SPDX-License-Identifier: MIT
--- Step `shared_addr`: an address on a shared link, such as a network's gateway on its bridge.
-- It goes with the last attachment that wants it, if it was put there for one, unless somebody else needs
-- it (cni.links.ports). With `keep` it stays on a link that was made here, as the link does
-- (cni.step.shared_link).
-- @module cni.step.shared_addr

local addr = require "cni.addr"
local along = require "cni.links.along"
local fail = require "cni.fail"
local netlink = require "netlink"
local ports = require "cni.links.ports"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local none = "00:00:00:00:00:00"
local M = { along = true }

local function group_of(step, h)
  return shared.group(step, h, step.want.link)
end

local function in_the_way(step, h, have, used)
  local want = step.want
  local user = used and shared.a_user(group_of(step, h), have)
  local network = user and user:match("^[^:]*")
  fail.throw {
    code = fail.codes.config,
    msg = ("%s has the address %s, which overlaps %s"):format(want.link, have, want.address),
    details = network and ("it belongs to network %s (%s)"):format(network, user) or nil,
    hint = used and "give this network another subnet, or remove that network's attachments first"
      or ("`ip addr del %s dev %s`%s"):format(have, want.link,
        want.replace == false and ", or forceAddress" or ""),
  }
end

-- Look at what is on the link: whether the address is there, and what must go for it.
local function survey(step, h)
  local want = step.want
  local wanted, present, foreign = addr.parse(want.address), false, {}
  -- Only what is taken away must be known in full.
  local keys = not want.replace and { "address", "scope" } or nil
  for _, entry in ipairs(h:addrs(want.link, wanted.family, keys)) do
    local have = addr.parse(entry.address)
    if have == wanted then
      present = true
    elseif have and have.family == wanted.family and entry.scope ~= "link" then
      local used = shared.used(group_of(step, h), entry.address)
      if have:overlaps(wanted) and (used or not want.replace) then
        in_the_way(step, h, entry.address, used)
      elseif want.replace and not used and (have:overlaps(wanted) or have.family == "inet") then
        foreign[#foreign + 1] = entry
      end
    end
  end
  return present, foreign
end

-- The attributes of an address that are remembered, to add it again.
local remembered = { "index", "address", "peer", "broadcast", "label", "scope", "priority", "proto",
  "nodad", "home", "noprefixroute", "mngtmpaddr", "mcautojoin" }
local lifetimes = { "valid_lft", "preferred_lft" }
local forever = 0xffffffff

local function now()
  return math.floor(netlink.sys.clock())
end

-- Write down what is about to be taken away. A time to live becomes the moment of its end.
local function remember(facts, address, foreign)
  local list = facts.removed[address] or {}
  for _, entry in ipairs(foreign) do
    for i = #list, 1, -1 do
      if list[i].address == entry.address then table.remove(list, i) end
    end
    local copy = {}
    for _, key in ipairs(remembered) do copy[key] = entry[key] or nil end
    for _, key in ipairs(lifetimes) do
      if entry[key] ~= forever then copy[key] = now() + entry[key] end
    end
    list[#list + 1] = copy
  end
  facts.removed[address] = #list > 0 and list or nil
end

-- Add the requests that put back what was taken away for an address that is no longer wanted. What overlaps
-- another address, which still is wanted, is put back when that one goes.
local function put_back(facts, address, link, requests)
  for _, entry in ipairs(facts.removed[address] or {}) do
    local cidr, heir = addr.parse(entry.address), nil
    for other in pairs(facts.addrs) do
      if other ~= address and addr.parse(other):overlaps(cidr) then heir = other end
    end
    if heir then
      facts.removed[heir] = facts.removed[heir] or {}
      table.insert(facts.removed[heir], entry)
    elseif link and entry.index == link.index then
      local expired = false
      for _, key in ipairs(lifetimes) do
        if entry[key] then
          entry[key] = math.max(entry[key] - now(), 0)
          expired = expired or key == "valid_lft" and entry[key] == 0
        end
      end
      if not expired then requests[#requests + 1] = { "add", "addr", entry } end
    end
  end
  facts.removed[address] = nil
end

-- Errnos that mean that it is so already: an address that goes takes along the later ones of its subnet.
local content = { add = errors.EEXIST, del = errors.EADDRNOTAVAIL }

local function refused(h, want, what, msg, errno)
  fail.kernel(what, msg, errno, nil, addr.parse(want.address).family == "inet6"
    and require("cni.protocol.hints").ipv6_off(h, want.link) or nil)
end

local function send(h, requests, what, want)
  local ok, msg, errno, at, statuses = h:socket():send(requests)
  if ok then return end
  if not statuses then refused(h, want, what, msg, errno) end
  for i, request in ipairs(requests) do
    local status, verb = math.abs(statuses[i]), request[1]
    if status ~= 0 and status ~= content[verb]
        and not (verb == "del" and h.has_no(status, request[3].address)) then
      refused(h, want, what, i == at and msg or netlink.sys.strerror(status), status)
    end
  end
end

local function put(step, h, foreign)
  local want = step.want
  local index, cidr = h:index(want.link), addr.parse(want.address)
  local requests = {}
  for _, entry in ipairs(foreign) do
    requests[#requests + 1] = { "del", "addr", { index = index, address = entry.address,
      peer = entry.peer } }
  end
  requests[#requests + 1] = { "add", "addr", {
    index = index, address = want.address, nodad = cidr.family == "inet6" or nil,
    broadcast = cidr.family == "inet" and cidr.len < 31 and addr.text(cidr:last()) or nil,
  } }
  send(h, requests, M.say(step), want)
end

-- Whether the bridge needs a MAC of its own. One that nobody gave a MAC takes the lowest of its ports', which
-- come and go; but a gateway's MAC must stay, whoever made the bridge and put the address on it. So it is
-- given the MAC that it had before it got a port of ours.
local function needs_pin(facts, present)
  local known = facts.link
  if not known then return not present end
  return not known.mac and not known.pinned
end

local function pin_mac(step, h, group, facts)
  local known = facts.link or {}
  local link = h:link(step.want.link)
  local mac = known.before and known.before.mac or link.mac
  if mac == none then mac = h.random_mac() end
  local ok, msg, errno = h:socket():send { { "set", "link", { index = link.index, mac = mac } } }
  if not ok then fail.kernel("keep the MAC of " .. link.name, msg, errno) end
  known.pinned = true
  shared.save(group, facts)
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  local function join(how)
    plan:lock(group, how)
    shared.join(group, want.address, plan.owner)
    local present, foreign = survey(step, h)
    local facts = shared.facts(group)
    local pin = needs_pin(facts, present)
    return present and #foreign == 0 and not pin, facts, present, foreign, pin
  end
  if join("shared") then return end
  local done, facts, present, foreign, pin = join("exclusive")
  if done then return end
  remember(facts, want.address, foreign)
  if not present then facts.addrs[want.address] = true end
  shared.save(group, facts)
  if pin then pin_mac(step, h, group, facts) end
  if not present or #foreign > 0 then put(step, h, foreign) end
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local wanted = addr.parse(want.address)
  for _, entry in ipairs(h:addrs(want.link)) do
    if addr.parse(entry.address) == wanted then return nil end
  end
  return ("address %s is not on %s"):format(want.address, want.link)
end

-- Remove the address if no attachment uses it any more, and put back what was there. `held`: the group whose
-- lock is held already.
local function take_back(step, plan, whole, held)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  local lock <close> = held ~= group and shared.lock(group, "exclusive") or nil
  if shared.used(group, want.address) then return end
  local facts, requests = shared.facts(group), {}
  local ours, made = facts.addrs[want.address], facts.link and not facts.link.before
  local stays = ours == "stays"
  if whole then stays = made and ours and want.keep end
  if stays then return lock and shared.tidy(group, lock) end
  local link = (ours or facts.removed[want.address])
    and h:link(want.link, { "kind", "link", "link_netnsid" })
  if link and ours then
    if ports.need(plan, h, link, want.address) then return end
    requests[1] = { "del", "addr", { index = link.index, address = want.address } }
  end
  facts.addrs[want.address] = nil
  put_back(facts, want.address, link, requests)
  if #requests > 0 then send(h, requests, "remove address " .. want.address, want) end
  shared.save(group, facts)
  if lock then shared.tidy(group, lock) end
end

function M.undo(step, plan)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  local whole = plan:was_whole()
  if want.keep and whole then
    shared.note(group, function(facts)
      local made = facts.link and not facts.link.before
      if not made or facts.addrs[want.address] ~= true then return false end
      facts.addrs[want.address] = "stays"
      return true
    end)
  end
  if not shared.leave(group, want.address, plan.owner) then return end
  -- Not that of a VLAN's gateway, whose link is put off itself.
  local function later(gone)
    local done, held = gone { address = want.address }
    if not done then take_back(step, plan, whole, held) end
  end
  if along.may_go(plan, want.link, h, "bridge") then return along.later(plan, later) end
  take_back(step, plan, whole)
end

function M.key(step) return step.want.link .. " " .. step.want.address end

function M.change(_, to, plan) M.run(to, plan) end

function M.say(step)
  return ("make sure of address %s on %s"):format(step.want.address, step.want.link)
end

return M
