-- SPDX-License-Identifier: MIT
--- Step `masq`: the attachment's elements in the masquerading maps; see cni.masq for the whole.
-- @module cni.step.masq

local fail = require "cni.fail"
local netlink = require "netlink"
local nft = require "cni.nft"

local errors = netlink.sys.errno
local M = {}

local family, table_name = "inet", "luacni"
local maps = { inet = "masq4", inet6 = "masq6" }
local types = { inet = "ipv4_addr", inet6 = "ipv6_addr" }

local function open(h)
  local socket, msg, errno = netlink.nft(h:namespace())
  if not socket then fail.kernel("open nf_tables", msg, errno) end
  return socket
end

local function in_table(fields)
  fields.family, fields.table = family, table_name
  return fields
end

-- A name that nft can list and read back.
local function chain_of(subnet)
  return "net_" .. subnet:gsub(":", "_")
end

local function element(want, owner)
  local comment = owner and ("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)
  return in_table {
    set = maps[want.family],
    elements = { {
      key = want.address,
      data = owner and { verdict = "goto", chain = chain_of(want.subnet) } or nil,
      comment = comment and comment:sub(1, 120),
    } },
  }
end

local function rule(chain, ...)
  return { "add", "rule", in_table { chain = chain, exprs = nft.rule(...) } }
end

local function add_table(batch)
  batch[#batch + 1] = { "create", "table", { family = family, name = table_name,
    comment = "luacni: masquerading for containers" } }
  batch[#batch + 1] = { "add", "chain", in_table { name = "postrouting", type = "nat",
    hook = "postrouting", priority = 100, policy = "accept" } }
  for _, inet in ipairs { "inet", "inet6" } do
    batch[#batch + 1] = { "add", "set", in_table { name = maps[inet], key_type = types[inet],
      data_type = "verdict" } }
  end
  batch[#batch + 1] = rule("postrouting", nft.daddr("224.0.0.0/4"), nft.verdict("return"))
  batch[#batch + 1] = rule("postrouting", nft.daddr("ff00::/8"), nft.verdict("return"))
  batch[#batch + 1] = rule("postrouting", nft.saddr_vmap("ip", maps.inet))
  batch[#batch + 1] = rule("postrouting", nft.saddr_vmap("ip6", maps.inet6))
end

local function add_chain(batch, subnet)
  local name = chain_of(subnet)
  batch[#batch + 1] = { "create", "chain", in_table { name = name } }
  batch[#batch + 1] = rule(name, nft.daddr(subnet), nft.verdict("return"))
  batch[#batch + 1] = rule(name, nft.masquerade())
end

local function get(socket, object, key)
  local found, msg, errno = socket:get(object, key)
  if not found and errno and errno ~= errors.ENOENT then
    fail.kernel("look at the masquerading rules", msg, errno)
  end
  return found
end

local function find_chain(socket, name)
  return get(socket, "chain", in_table { name = name })
end

-- Everything that is missing, and the elements; `stale` takes an element of a dead owner out first.
local function whole_batch(socket, step, owner)
  local batch, made = {}, {}
  local present = get(socket, "table", { family = family, name = table_name })
  if not present then add_table(batch) end
  for _, want in ipairs(step.want.addresses) do
    if not made[want.subnet] and not (present and find_chain(socket, chain_of(want.subnet))) then
      made[want.subnet] = true
      add_chain(batch, want.subnet)
    end
    if present and get(socket, "element", in_table { set = maps[want.family], key = want.address }) then
      batch[#batch + 1] = { "del", "element", element(want) }
    end
    batch[#batch + 1] = { "create", "element", element(want, owner) }
  end
  return batch
end

function M.run(step, plan)
  local socket <close> = open(plan[step.ns])
  local batch = {}
  for i, want in ipairs(step.want.addresses) do
    batch[i] = { "create", "element", element(want, plan.owner) }
  end
  local msg, errno
  for _ = 1, 20 do -- others make and remove chains meanwhile
    local ok
    ok, msg, errno = socket:commit(batch)
    if ok then return end
    if errno ~= errors.ENOENT and errno ~= errors.EEXIST and errno ~= errors.EBUSY then break end
    batch = whole_batch(socket, step, plan.owner)
  end
  fail.kernel(M.say(step), msg, errno)
end

function M.verify(step, plan)
  local socket <close> = open(plan[step.ns])
  for _, want in ipairs(step.want.addresses) do
    local key = in_table { set = maps[want.family], key = want.address }
    local found = get(socket, "element", key)
    local chain = found and find_chain(socket, chain_of(want.subnet))
    if not chain then
      return ("address %s is not masqueraded: it is not in map %s of table inet luacni"):format(
        want.address, maps[want.family])
    end
    for name, count in pairs { postrouting = 4, [chain_of(want.subnet)] = 2 } do
      local rules = socket:dump("rule", in_table { chain = name }) or {}
      if #rules < count then
        return ("address %s is not masqueraded: chain %s has lost rules"):format(want.address, name)
      end
    end
  end
end

-- Remove what nothing refers to any more. Each batch is refused as a whole if an ADD was faster.
local function sweep(socket, subnets)
  local removed = false
  for subnet in pairs(subnets) do
    local name = chain_of(subnet)
    local chain = find_chain(socket, name)
    if chain then
      local ok, msg, errno = socket:commit {
        { "flush", "chain", in_table { name = name } },
        { "del", "chain", in_table { name = name } },
      }
      removed = removed or ok
      if not ok and errno ~= errors.EBUSY and errno ~= errors.ENOENT then
        fail.kernel("remove chain " .. name, msg, errno)
      end
    end
  end
  if not removed and next(subnets) then return end
  socket:commit {
    { "flush", "chain", in_table { name = "postrouting" } },
    { "del", "chain", in_table { name = "postrouting" } },
    { "del", "set", in_table { name = maps.inet } },
    { "del", "set", in_table { name = maps.inet6 } },
    { "del", "table", { family = family, name = table_name, if_empty = true } },
  }
end

function M.undo(step, plan)
  local socket <close> = open(plan:at(step.ns))
  local subnets = {}
  for _, want in ipairs(step.want.addresses) do
    local ok, msg, errno = socket:commit { { "del", "element", element(want) } }
    if not ok and errno ~= errors.ENOENT then
      fail.kernel("stop masquerading " .. want.address, msg, errno)
    end
    local chain = find_chain(socket, chain_of(want.subnet))
    if chain and chain.use <= 2 then subnets[want.subnet] = true end
  end
  if next(subnets) then sweep(socket, subnets) end
end

function M.say(step)
  local list = {}
  for i, want in ipairs(step.want.addresses) do list[i] = want.address end
  return "masquerade " .. table.concat(list, ", ")
end

return M
