-- SPDX-License-Identifier: MIT
--- Step `shared_addr`: an address on a shared link, such as a network's gateway on its bridge.
-- It goes with the last attachment that wants it, if it was put there for one.
-- @module cni.step.shared_addr

local addr = require "cni.addr"
local fail = require "cni.fail"
local netlink = require "netlink"
local shared = require "cni.shared"

local errors = netlink.sys.errno
local M = {}

local function in_the_way(step, have, used)
  local want = step.want
  local user = used and shared.a_user(want.link, have)
  local network = user and user:match("^[^:]*")
  fail.throw {
    code = fail.codes.config,
    msg = ("%s has the address %s, which overlaps %s"):format(want.link, have, want.address),
    details = network and ("it belongs to network %s (%s)"):format(network, user) or nil,
    hint = used and "give this network another subnet, or remove that network's attachments first"
      or ("`ip addr del %s dev %s`, or forceAddress"):format(have, want.link),
  }
end

-- Look at what is on the link: whether the address is there, and what must go for it.
local function survey(step, h)
  local want = step.want
  local wanted, present, foreign = addr.parse(want.address), false, {}
  for _, entry in ipairs(h:addrs(want.link)) do
    local have = addr.parse(entry.address)
    if have == wanted then
      present = true
    elseif have and have.family == wanted.family and entry.scope ~= "link" then
      local used = shared.used(want.link, entry.address)
      if have:overlaps(wanted) and (used or not want.replace) then
        in_the_way(step, entry.address, used)
      elseif want.replace and not used and (have:overlaps(wanted) or have.family == "inet") then
        foreign[#foreign + 1] = entry.address
      end
    end
  end
  return present, foreign
end

local function put(step, h, foreign)
  local want = step.want
  local index, cidr = h:index(want.link), addr.parse(want.address)
  local requests = {}
  for _, address in ipairs(foreign) do
    requests[#requests + 1] = { "del", "addr", { index = index, address = address } }
  end
  requests[#requests + 1] = { "add", "addr", {
    index = index, address = want.address, nodad = cidr.family == "inet6" or nil,
    broadcast = cidr.family == "inet" and cidr.len < 31 and addr.text(cidr:last()) or nil,
  } }
  local ok, msg, errno, at = h:socket():send(requests)
  if not ok and not (errno == errors.EEXIST and at == #requests) then
    fail.kernel(M.say(step), msg, errno)
  end
end

-- A bridge that nobody gave a MAC takes the lowest of its ports', which come and go; a gateway's
-- must stay.
local function pin_mac(step, h, facts)
  if facts.link and facts.link.mac then return end
  local link = h:link(step.want.link)
  local mac = link.mac
  if mac == "00:00:00:00:00:00" then
    local bytes = { netlink.sys.random(6):byte(1, 6) }
    bytes[1] = bytes[1] & 0xfc | 2
    mac = ("%02x:%02x:%02x:%02x:%02x:%02x"):format(table.unpack(bytes))
  end
  local ok, msg, errno = h:socket():send { { "set", "link", { index = link.index, mac = mac } } }
  if not ok then fail.kernel("keep the MAC of " .. link.name, msg, errno) end
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  plan:lock(want.link, "shared")
  shared.join(want.link, want.address, plan.owner)
  local present, foreign = survey(step, h)
  if present and #foreign == 0 then return end

  plan:lock(want.link, "exclusive")
  shared.join(want.link, want.address, plan.owner)
  present, foreign = survey(step, h)
  if present and #foreign == 0 then return end
  local facts = shared.facts(want.link)
  if not present then
    facts.addrs[want.address] = true
    shared.save(want.link, facts)
    pin_mac(step, h, facts)
  end
  put(step, h, foreign)
end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local wanted = addr.parse(want.address)
  for _, entry in ipairs(h:addrs(want.link)) do
    if addr.parse(entry.address) == wanted then return nil end
  end
  return ("address %s is not on %s"):format(want.address, want.link)
end

function M.undo(step, plan)
  local want, h = step.want, plan:at(step.ns)
  if not shared.leave(want.link, want.address, plan.owner) then return end
  local lock <close> = shared.lock(want.link, "exclusive")
  if shared.used(want.link, want.address) then return end
  local facts = shared.facts(want.link)
  if facts.addrs[want.address] then
    local link = h:link(want.link)
    if link then
      local ok, msg, errno = h:socket():send {
        { "del", "addr", { index = link.index, address = want.address } },
      }
      if not ok and errno ~= errors.EADDRNOTAVAIL then
        fail.kernel("remove address " .. want.address, msg, errno)
      end
    end
    facts.addrs[want.address] = nil
    shared.save(want.link, facts)
  end
  shared.tidy(want.link, lock)
end

function M.say(step)
  return ("make sure of address %s on %s"):format(step.want.address, step.want.link)
end

return M
