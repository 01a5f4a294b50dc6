-- SPDX-License-Identifier: MIT
--- Step `masq`: masquerading as versions before wrote it down (cni.masq has how it is done now). There is a
-- set and a rule for each subnet of a network, and the sets are shared objects (cni.record.shared) of a group
-- of their own. No script takes such a step any more: it is what records have, and what a DEL without a
-- record looks for.
--
--     table inet luacni
--       set masq_10.22.0.0/16_net  one element an address; its comment says whose
--       chain postrouting          ip daddr 224.0.0.0/4 return, ip6 daddr ff00::/8 return; and a set:
--                                  ip saddr @masq_10.22.0.0/16_net ip daddr != 10.22.0.0/16 masquerade
--
-- Set and rule go with the last address in the set, the chain with the last set.
--
-- @module cni.step.masq

local addr = require "cni.addr"
local fail = require "cni.fail"
local layout = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.record.shared"

local errors = netlink.sys.errno
local M = {}

-- How often it is tried again when somebody else changes the rules at the same moment.
local patience <const> = 100

-- No link can have such a name.
local function group_of(step, h)
  return shared.group(step, h, "nft:masq")
end

local function in_table(fields)
  fields.family, fields.table = "inet", "luacni"
  return fields
end

-- A name that nft can list and read back; it is the comment of the rule too, which has room for 128
-- bytes. A network's name never has a slash.
local function name_of(subnet, network)
  if #network > 60 then network = network:sub(1, 40) .. "/" .. netlink.sys.hash64(network) end
  return ("masq_%s_%s"):format(subnet:gsub(":", "_"), network)
end

-- The oldest versions had one set for all networks of a subnet: their steps name no set.
local function set_of(want)
  return want.set or "masq_" .. want.subnet:gsub(":", "_")
end

-- The object of the group, and the comment of the rule.
local function mark_of(want)
  return want.set or want.subnet
end

local types = { inet = "ipv4_addr", inet6 = "ipv6_addr" }

local function key_of(want)
  return { [types[want.family]] = want.address }
end

local function comment_of(want, owner)
  local text = ("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)
  if want.set and #text > 128 then text = text:sub(1, 100) .. "/" .. netlink.sys.hash64(text) end
  return nft.comment(text)
end

local function element(want, owner)
  return in_table {
    set = set_of(want),
    elements = { { key = key_of(want), comment = owner and comment_of(want, owner) } },
  }
end

local function checked(found, msg, errno)
  if not found and errno and errno ~= errors.ENOENT then
    fail.kernel("look at the masquerading rules", msg, errno)
  end
  return found
end

local function get(socket, object, key)
  return checked(socket:get(object, key))
end

local function list(socket, object, filter)
  return checked(socket:dump(object, filter)) or {}
end

-- Somebody else's set of that name may be of other keys: then the kernel refuses the question, and the
-- element is not in it.
local function get_element(socket, want)
  local found, msg, errno = socket:get("element", in_table { set = set_of(want), key = key_of(want) })
  if not found and errno == errors.EINVAL then
    local set = get(socket, "set", in_table { name = set_of(want) })
    if set and set.key_type ~= types[want.family] then return nil end
  end
  return checked(found, msg, errno)
end

-- The rules of the chain by their comments; nil without the chain.
local function rules_by_mark(socket)
  if not get(socket, "chain", in_table { name = "postrouting" }) then return nil end
  local by = {}
  for _, rule in ipairs(list(socket, "rule", in_table { chain = "postrouting" })) do
    by[rule.comment or ""] = rule
  end
  return by
end

-- What was done for an address: one of those of a step.
local function want_of(owner, address, subnet)
  return { address = address, subnet = subnet, family = addr.parse(subnet).family,
    set = name_of(subnet, owner.network) }
end

-- As the oldest versions have written it down.
local function of_old(want)
  return { address = want.address, subnet = want.subnet, family = want.family }
end

--- Whether an address is masqueraded so.
-- @tparam table h handle of the host
-- @tparam table owner
-- @tparam table today element of a step of today, see cni.masq
-- @treturn boolean
function M.stands_for(h, owner, today)
  local address, network = table.unpack(today.key)
  local subnet = network .. "/" .. today.set:match "%d+$"
  local socket = nft.open_if_any(h)
  local rules = socket and rules_by_mark(socket) or {}
  local want = want_of(owner, address, subnet)
  for _, one in ipairs { want, of_old(want) } do
    local found = rules[mark_of(one)] and get_element(socket, one)
    if found and found.comment == comment_of(one, owner) then return true end
  end
  return false
end

--- Have what there is of addresses taken back.
-- @tparam table req in the mode erase
-- @tparam table ips list of { address = "10.22.0.5/16" }
function M.push(req, ips)
  local wants = {}
  for i, ip in ipairs(ips) do
    local cidr = addr.parse(ip.address)
    wants[i] = want_of(req.plan.owner, cidr:text(), tostring(cidr:network()))
  end
  req.plan:push { kind = "masq", ns = "host",
    want = { addresses = wants, group = req.host:group("nft:masq") } }
end

-- Remove a set that has no users in our files any more, if it has no element in the kernel either; and the
-- table, if it was the last set.
local function remove(socket, group, want)
  local lock <close> = shared.lock(group, "exclusive")
  local mark, name = mark_of(want), set_of(want)
  if shared.used(group, mark) then return end
  local function batch_of()
    if #list(socket, "element", in_table { set = name }) > 0 then return {} end
    local batch, last = {}, true
    for _, set in ipairs(list(socket, "set", in_table {})) do
      if set.name == name then
        batch[1] = { "del", "set", in_table { name = name } }
      elseif set.name:find("^masq_") then
        last = false
      end
    end
    local rules = rules_by_mark(socket)
    if last then
      if rules then
        table.insert(batch, 1, { "flush", "chain", in_table { name = "postrouting" } })
        table.insert(batch, 2, { "del", "chain", in_table { name = "postrouting" } })
      end
      -- Published ports are in the table too.
      layout.drop_table(batch, socket, "inet", "luacni", { [name] = true, postrouting = true })
    elseif rules and rules[mark] then
      table.insert(batch, 1, { "del", "rule", in_table { chain = "postrouting",
        handle = rules[mark].handle } })
    end
    return batch
  end
  if socket then layout.change(socket, "stop masquerading " .. want.subnet, batch_of) end
  -- Older versions wrote facts about it.
  local facts = shared.facts(group)
  facts.addrs[mark] = nil
  shared.save(group, facts)
  shared.tidy(group, lock)
end

-- Remove the elements of an owner. An element with another owner's comment is that one's.
local function take_out(socket, wants, owner)
  local batch = {}
  for _, want in ipairs(wants) do
    local found = get_element(socket, want)
    if found and found.comment == comment_of(want, owner) then
      batch[#batch + 1] = { "del", "element", element(want) }
    end
  end
  if #batch == 0 then return true end
  local ok, msg, errno = socket:commit(batch)
  if not ok and errno ~= errors.ENOENT then fail.kernel("stop masquerading", msg, errno) end
  return ok
end

-- Without a socket there are no nf_tables: only the books are to be kept.
local function undo(socket, step, plan)
  local group = group_of(step, plan[step.ns])
  local wants = table.move(step.want.addresses, 1, #step.want.addresses, 1, {})
  if plan.mode == "erase" then
    -- Without a record nobody knows which version made the elements.
    for i = 1, #wants do wants[#wants + 1] = of_old(wants[i]) end
  end
  for _ = 1, patience do
    if not socket or take_out(socket, wants, plan.owner) then break end
  end
  for _, want in ipairs(wants) do
    if shared.leave(group, mark_of(want), plan.owner) then remove(socket, group, want) end
  end
end

function M.undo(step, plan)
  undo(nft.open_if_any(plan[step.ns]), step, plan)
end

function M.say(step)
  local words = {}
  for i, want in ipairs(step.want.addresses) do words[i] = want.address end
  return "masquerade " .. table.concat(words, ", ")
end

return M
