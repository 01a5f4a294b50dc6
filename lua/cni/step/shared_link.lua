-- SPDX-License-Identifier: MIT
--- Step `shared_link`: a link that attachments share, such as a bridge. The first makes it, locked
-- down before it is up; the last removes it, if it was made here and nobody else has plugged
-- anything into it or put an address on it. With `keep` it stays, from the first attachment on that was
-- whole: a failed ADD takes back what it made, unless it has served somebody since.
-- @module cni.step.shared_link

local along = require "cni.links.along"
local fail = require "cni.fail"
local kinds = require "cni.links.kinds"
local netlink = require "netlink"
local ports = require "cni.links.ports"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local none = "00:00:00:00:00:00"
local M = { along = true }

-- Options that are also set on a link that exists already; all others count only when it is made.
local switches = { "up", "promisc", "vlan_filtering" }

local function group_of(step, h)
  return shared.group(step, h, step.want.name)
end

local function lacks(link, want)
  for _, key in ipairs(switches) do
    if want[key] and not link[key] then return true end
  end
  return want.master ~= nil and not link.master
end

-- The attributes that are looked at here; `switches` only where they are wanted.
local function keys_of(want)
  local keys = { "kind", "mac", "link" }
  for _, key in ipairs(switches) do
    if want[key] then keys[#keys + 1] = key end
  end
  if want.kind == "vrf" then keys[#keys + 1] = "vrf_table" end
  if want.master then keys[#keys + 1] = "master" end
  for key in pairs(want) do
    if kinds.identity[key] then keys[#keys + 1] = key end
  end
  return keys
end

-- The first option by which a link is another tunnel or VLAN than the wanted one.
local function odd_identity(want, link)
  for key, value in pairs(want) do
    if kinds.identity[key] and link[key] ~= value then return key end
  end
end

local function find(step, h)
  local want = step.want
  local link = h:link(want.name, keys_of(want))
  if link and link.kind ~= want.kind then
    fail.throw {
      code = fail.codes.config,
      msg = ("%s exists and is no %s but %s"):format(want.name, want.kind,
        link.kind and "a " .. link.kind or "a device"),
      hint = "name another link in the configuration",
    }
  end
  if link and want.link and link.link ~= h:index(want.link) then
    fail.throw {
      code = fail.codes.config,
      msg = ("%s exists and stands on another link than %s"):format(want.name, want.link),
      hint = "name another link in the configuration",
    }
  end
  local key = link and odd_identity(want, link)
  if key then
    fail.throw {
      code = fail.codes.config,
      msg = ("%s exists, and its %s"):format(want.name, kinds.difference(want, link, key)),
      hint = "name another link in the configuration",
    }
  end
  if link and want.master and link.master and link.master ~= h:index(want.master) then
    fail.throw {
      code = fail.codes.config,
      msg = ("%s exists and is plugged into another link than %s"):format(want.name, want.master),
      hint = "name another link in the configuration",
    }
  end
  if link and want.vrf_table and link.vrf_table ~= want.vrf_table then
    fail.throw {
      code = fail.codes.config,
      msg = ("VRF %s exists and has the table %d, not %d"):format(want.name, link.vrf_table,
        want.vrf_table),
      hint = "name another VRF in the configuration, or no table",
    }
  end
  return link
end

-- A VRF hears nothing itself: what its links hear of routes is theirs. A setting that is not there, or not in
-- our power, is passed over; a link that could not be locked down for another reason does not come up.
local function lock_down(h, want, name)
  if want.kind == "vrf" then return end
  local ok, msg, errno = netlink.ns.sysctl(h.where, h.locked_down(name))
  if not ok then fail.kernel("lock down " .. name, msg, errno) end
end

-- A hint. VLAN filtering is the only option of a bridge that the kernel refuses as not supported.
local function no_filter(want, msg, errno)
  return want.vlan_filtering and errno == errors.EOPNOTSUPP
    and not msg:find("Unknown device type", 1, true)
    and "this kernel's bridges do not filter VLANs: CONFIG_BRIDGE_VLAN_FILTERING is off" or nil
end

local function make(step, h, vrf_table)
  local want = step.want
  local group = group_of(step, h)
  local facts = shared.facts(group)
  -- Made anew it has the MAC that its neighbours know, whoever's step it was.
  local known = h.plan.mode == "repair" and facts.link
  local mac = known and known.kind == want.kind and known.mac or want.mac
  -- The MTU of a bridge goes with its ports'.
  facts.link = { kind = want.kind, mac = mac, vrf_table = vrf_table,
    mtu = want.kind ~= "bridge" and want.mtu or nil, options = kinds.options(want) }
  facts.addrs = {} -- those were of a link that is gone
  shared.save(group, facts)
  local attrs = {}
  for key, value in pairs(want) do attrs[key] = value end
  attrs.up, attrs.promisc, attrs.port_vlans, attrs.group = nil, nil, nil, nil
  attrs.keep, attrs.mac = nil, mac
  attrs.vrf_table = vrf_table
  attrs.link = want.link and h:index(want.link)
  attrs.master = want.master and h:index(want.master)
  attrs.peer = want.peer and { name = want.peer.name, mtu = want.mtu }
  local ok, msg, errno = h:socket():send { { "add", "link", attrs } }
  if not ok and errno ~= errors.EEXIST then
    fail.kernel(M.say(step), msg, errno, want.kind, no_filter(want, msg, errno))
  end
  if not want.up then lock_down(h, want, want.name) end -- or before it comes up
  return msg
end

-- Whether we choose the table of a VRF.
local function chooses_table(step)
  return step.want.kind == "vrf" and not step.want.vrf_table
end

local function plug_peer(step, h)
  local peer = step.want.peer
  lock_down(h, step.want, peer.name)
  local index = h:index(peer.name)
  local requests = { { "set", "link", { index = index, master = h:index(peer.master), up = true } } }
  for _, vlan in ipairs(step.want.port_vlans or {}) do
    requests[#requests + 1] = { vlan.absent and "del" or "add", "vlan",
      { index = index, vid = vlan.vid, vid_end = vlan.vid_end, pvid = vlan.pvid,
        untagged = vlan.untagged } }
  end
  local ok, msg, errno = h:socket():send(requests)
  if not ok then fail.kernel("plug " .. peer.name .. " into " .. peer.master, msg, errno) end
end

-- Whether a link is the one that was made here: somebody may have given it another MAC since, but nobody
-- makes one anew with its index.
local function is_same(known, link)
  return link.kind == known.kind and (link.mac == known.mac or link.index == known.index)
end

-- Write down what a link of others is like before anything is done to it; and of ours, which it is.
local function remember(step, h, link, facts)
  local want = step.want
  facts.link = facts.link or { before = { mac = link.mac } }
  if not facts.link.before and link.mac == facts.link.mac then facts.link.index = link.index end
  local before = facts.link.before
  for _, key in ipairs(before and switches or {}) do
    if want[key] and not link[key] then before[key] = false end
  end
  if before and want.master and not link.master then before.master = 0 end
  shared.save(group_of(step, h), facts)
end

-- Bring an existing link to what is wanted.
local function adjust(step, h, link)
  local want, change = step.want, { index = link.index }
  for _, key in ipairs(switches) do
    if want[key] and not link[key] then change[key] = true end
  end
  if want.master and not link.master then change.master = h:index(want.master) end
  if change.vlan_filtering then change.kind = want.kind end
  if change.up then lock_down(h, want, want.name) end
  local ok, msg, errno = h:socket():send { { "set", "link", change } }
  if not ok then
    fail.kernel("set " .. want.name, msg, errno, nil, no_filter(change, msg, errno))
  end
end

-- Somebody has just removed it; or a link already has the name that chance picked for its other end, or is
-- the same tunnel under another name. `why`: what the kernel said.
local function vanished(step, why)
  fail.throw { code = fail.codes.again, retry = true, details = why,
    msg = ("link %s could not be made, or has vanished at once"):format(step.want.name) }
end

-- The MAC for the result. A bridge that nobody gave one takes its ports', ours included: look again
-- when all is done.
local function learn(step, link, plan, facts)
  local object = step.object
  if not object then return end -- that of a record
  object.mac = link.mac
  if plan.mode == "apply" and not (facts.link and facts.link.mac) then
    plan:finally(function()
      local now = plan[step.ns]:link(link.name, { "mac" })
      if not now then vanished(step) end
      object.mac = now.mac
    end)
  end
end

-- What is known of the link, if it is still the same one.
local function facts_of(group, link)
  local facts = shared.facts(group)
  local made = facts.link and not facts.link.before
  if link and made and not is_same(facts.link, link) then
    facts.link, facts.addrs = nil, {}
  end
  return facts
end

function M.run(step, plan)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  plan:lock(group, "shared")
  shared.join(group, "link", plan.owner)
  local link = find(step, h)
  local facts = facts_of(group, link)
  if link and facts.link and not lacks(link, want) then return learn(step, link, plan, facts) end

  plan:lock(group, "exclusive")
  shared.join(group, "link", plan.owner)
  link = find(step, h)
  local made = not link
  if made then
    local why = make(step, h, chooses_table(step) and h:free_table() or want.vrf_table)
    link = find(step, h)
    if not link then vanished(step, why) end
  end
  facts = facts_of(group, link)
  remember(step, h, link, facts)
  if lacks(link, want) then adjust(step, h, link) end
  if made and want.peer then plug_peer(step, h) end
  learn(step, link, plan, facts)
end

-- How the other end of a pair differs; its name is chosen when the pair is made.
local function peer_difference(want, h, link)
  local port, master = link.link and h:link(link.link), h:link(want.peer.master)
  if not port or not master or port.master ~= master.index then
    return ("%s is not plugged into %s"):format(want.name, want.peer.master)
  end
  for _, vlan in ipairs(want.port_vlans or {}) do
    local difference = require("cni.step.vlan").difference(h, port, vlan)
    if difference then return difference end
  end
end

function M.key(step) return step.want.name end

--- As an ADD finds it; whose options it has, its first attachment has said.
function M.change(_, to, plan) M.run(to, plan) end

function M.verify(step, plan)
  local want, h = step.want, plan[step.ns]
  local link = find(step, h)
  if not link then return ("%s %s is gone"):format(want.kind, want.name) end
  for _, key in ipairs(switches) do
    if want[key] and not link[key] then return ("%s %s: %s is off"):format(want.kind, want.name, key) end
  end
  if want.master and not link.master then
    return ("%s is not plugged into %s"):format(want.name, want.master)
  end
  local difference = want.peer and peer_difference(want, h, link)
  if difference then return difference end
  local facts = shared.facts(group_of(step, h))
  local chosen = facts.link and facts.link.vrf_table
  if chosen and link.vrf_table ~= chosen then
    return ("vrf %s: its table is %d, not %d"):format(want.name, link.vrf_table, chosen)
  end
  local made = facts.link or {}
  local options = made.options or {}
  local now = (next(options) or made.mtu) and h:link(want.name) or {}
  if made.mtu and now.mtu ~= made.mtu then
    return ("%s %s: mtu is %d, not %d"):format(want.kind, want.name, now.mtu, made.mtu)
  end
  local odd = kinds.odd_option(options, now)
  if odd then return ("%s %s: %s"):format(want.kind, want.name, kinds.difference(options, now, odd)) end
  learn(step, link, plan, facts)
end

-- Whether ports or addresses of others keep a link that we made. `ports_of`: all its ports; `going`: what
-- goes with it, of cni.links.along. An address of ours that nobody wants any more is there when somebody
-- else's port needed it (cni.step.shared_addr); on a bridge, such a port is found here.
local function in_use(step, plan, link, ports_of, going, facts)
  local h = plan[step.ns]
  local function is_idle(address)
    local ours = facts.addrs[address]
    return (ours == true or ours and going.addresses[address]) and not shared.used(group_of(step, h), address)
      and (link.kind == "bridge" or not ports.need(plan, h, link, address))
  end
  for _, port in ipairs(ports_of) do
    if not going.ports[port.index] then return true end
  end
  for _, have in ipairs(h:dump("addr", { index = link.index })) do
    if have.scope ~= "link" and have.scope ~= 253 and not is_idle(have.address) then return true end
  end
  return false
end

-- The link by its name, and its ports; third, all links, where they had to be listed anyway.
local identity <const> = { "name", "index", "kind", "mac", "link", "link_netnsid", "master", "group" }
local function look(h, name, whole_list)
  local all, link, found = whole_list and h:socket():dump("link", nil, identity), nil, {}
  for _, one in ipairs(all or {}) do
    if one.name == name then link = one end
  end
  link = link or h:link(name, identity)
  if not link then return nil end
  if not all then return link, h:dump("link", { master = link.index }, identity) end
  for _, one in ipairs(all) do
    if one.master == link.index then found[#found + 1] = one end
  end
  return link, found, all
end

-- A MAC is put back only where the kernel took it: a bridge that nobody gave one has its ports', and
-- none when the last of them has gone. Any other MAC is somebody's wish.
local function restore(h, link, before)
  if link.mac ~= none or before.mac == none then before.mac = nil end
  if next(before) == nil then return end
  before.index = link.index
  if before.vlan_filtering ~= nil then before.kind = link.kind end
  local ok, msg, errno = h:socket():send { { "set", "link", before } }
  if not ok then fail.kernel("restore " .. link.name, msg, errno) end
end

-- Remove a link that was made here. True: it has to stay, being in use. `gone`: a function of
-- cni.links.along, when the link may be deleted together with its master.
local function remove(step, plan, facts, gone)
  local want, h = step.want, plan[step.ns]
  local others <close> = along.begin(plan, group_of(step, h))
  local link, ports_of, all = look(h, want.name, #others.links > 0)
  if not link then return end
  if not is_same(facts.link, link) then
    plan.missed = true -- somebody has made it anew
    return
  end
  -- It stays ours: the last attachment of the next time may find it unused.
  if in_use(step, plan, link, ports_of, others, facts) then return true end
  local done
  if gone then
    done = gone { link = link.index, port = not link.link_netnsid and link.link or nil }
  elseif #others.links > 0 then
    done = require("cni.links.batch").delete_few(h, { link.index, table.unpack(others.links) }, all)
    others:finish(done)
  end
  if not done then
    local ok, msg, errno = h:socket():del_link_quick({ index = link.index }, 5000)
    if not ok then fail.kernel("remove " .. want.name, msg, errno) end
  end
  h:forget(want.name)
end

-- Note that it has served an attachment that wants it to stay.
local function note_staying(facts)
  local link = facts.link
  if not link or link.before or link.stays then return false end
  link.stays = true
  return true
end

-- Remove or restore the link if no attachment uses it any more. `gone`: as for remove().
local function take_back(step, plan, whole, gone)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  local lock <close> = shared.lock(group, "exclusive")
  if shared.used(group, "link") then return end
  local facts = shared.facts(group)
  -- Of a VRF without a record nothing is written down; as with the reference, it goes when it is empty.
  local vrf = plan.mode == "erase" and want.kind == "vrf" and not facts.link and h:link(want.name, { "mac" })
  if vrf then facts.link = { kind = "vrf", mac = vrf.mac } end
  local made = facts.link and not facts.link.before
  if facts.link and not made then
    along.let_go(plan, group) -- ports first: its MAC may be that of one
    facts = shared.facts(group)
    local link = h:link(want.name, { "kind", "mac" })
    if link then restore(h, link, facts.link.before) end
    facts.link = nil
    shared.save(group, facts)
  elseif made then
    local stays
    if whole then stays = want.keep else stays = facts.link.stays end
    if not stays and not remove(step, plan, facts, gone) then
      facts.link, facts.addrs, facts.removed = nil, {}, {}
      shared.save(group, facts)
    end
  end
  shared.tidy(group, lock)
end

--- This attachment's own ports, made before the link was asked for: they would keep it.
function M.ahead(step, plan)
  return ports.older(plan, plan[step.ns], step.want.name, step)
end

function M.undo(step, plan)
  local want, h = step.want, plan[step.ns]
  local group = group_of(step, h)
  local whole = plan:was_whole()
  if want.keep and whole then shared.note(group, note_staying) end
  if not shared.leave(group, "link", plan.owner) then
    -- The last user may have gone while our port was still plugged in: it has left the link to us.
    along.let_go(plan)
    if shared.used(group, "link") then return end
  end
  -- With both ends in bridges it goes at once: each would wait for the other.
  if want.peer and not want.master and along.may_go(plan, want.peer.master, h) then
    return along.later(plan, function(gone) take_back(step, plan, whole, gone) end)
  end
  take_back(step, plan, whole)
end

local said <const> = { up = "up", promisc = "promiscuous", vlan_filtering = "filtering VLANs" }

function M.say(step)
  local want = step.want
  local words = {}
  for _, key in ipairs { "up", "promisc", "vlan_filtering" } do
    if want[key] then words[#words + 1] = said[key] end
  end
  if want.master then words[#words + 1] = "plugged into " .. want.master end
  if want.peer then words[#words + 1] = ("its other end %s plugged into %s"):format(want.peer.name,
    want.peer.master) end
  return ("make sure of %s %s%s in the %s%s"):format(want.kind, want.name,
    want.link and " on " .. want.link or "", step.ns == "pod" and "sandbox" or "host",
    words[1] and ": " .. table.concat(words, ", ") or "")
end

return M
