-- SPDX-License-Identifier: MIT
--- What a pool has in etcd, below PREFIX/v1/POOL/:
--
--     grid                       the subnets, and how long the prefixes of their blocks are
--     machines/NODE              which machine has that name
--     blocks/BLOCK               whose it is
--     singles/BLOCK/ADDRESS      likewise, of an address that is claimed alone; `spare`: it is set apart by
--                                the owner of the block, for whoever is in want
--     nodes/NODE/BLOCK           what a node has; a single address is a block, too. `leave` asks the node to
--                                give it back, `to` another node
--     fences/NODE/NETWORK        see cni.pool.transaction
--     wanted/NODE                that node is in want of addresses, and there is no free block
--
-- Nothing there has a time to live, and nobody watches it.
-- @module cni.pool.keys

local addr = require "cni.addr"
local blocks = require "cni.pool.blocks"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local sys = require("netlink").sys

local M = {}

--- A key of a pool.
-- @tparam table settings of cni.pool.blocks
-- @string ... its parts
-- @treturn string
function M.at(settings, ...)
  return table.concat({ settings.etcd.prefix, "v1", settings.pool, ... }, "/")
end

--- What tells this machine from another one of its name. The system's identifier is nobody's business: its
-- hash does as well. Where there is none, one is made up that lasts as long as the leases.
-- @tparam table place of cni.pool.blocks
-- @treturn string
function M.machine(place)
  local text = files.read "/etc/machine-id"
  if not text or text:match "^%s*$" then
    local path = place.root .. "/machine"
    text = files.read(path)
    if not text then
      text = files.must(sys.random(16)):gsub(".", function(c) return ("%02x"):format(c:byte()) end) .. "\n"
      files.must(sys.write_file(path, text))
    end
  end
  return sys.hash64("luacni " .. text)
end

--- Whose a block of this machine is, as its key says it.
-- @tparam table settings
-- @string machine
-- @treturn string
function M.owner(settings, machine)
  return json.sorted_note { machine = machine, network = settings.network, node = settings.node }
end

-- The subnets of a grid, as of settings.
local function subnets_of(grid)
  local ok, decoded = pcall(json.decode, grid or "", "the grid")
  local list = {}
  for subnet, len in pairs(ok and type(decoded) == "table" and type(decoded.subnets) == "table"
    and decoded.subnets or {}) do
    if M.is_block(subnet) and math.type(len) == "integer" and addr.parse(subnet).len <= len then
      list[#list + 1] = { subnet = subnet, block = len }
    end
  end
  return list
end

--- Where it stands whose a block is.
-- @tparam table settings with `grid`, as of etcd: it tells the block of a single address that the
-- configuration does not speak of any more
-- @string block
-- @treturn string
function M.of(settings, block)
  local cidr = addr.parse(block)
  if not blocks.is_single(cidr) then return M.at(settings, "blocks", block) end
  local _, around = blocks.block_of(settings, cidr:text())
  if not around then _, around = blocks.block_of({ subnets = subnets_of(settings.grid) }, cidr:text()) end
  return M.at(settings, "singles", around or "?", cidr:text())
end

--- Where it stands that this node has a block.
-- @tparam table settings
-- @string block
-- @treturn string
function M.index(settings, block) return M.at(settings, "nodes", settings.node, block) end

--- Where the fence of this node stands.
-- @tparam table settings
-- @treturn string
function M.fence(settings) return M.at(settings, "fences", settings.node, settings.network) end

--- What is written under a key.
-- @string value
-- @treturn table empty when it is nothing of ours
function M.decoded(value)
  local ok, entry = pcall(json.decode, value, "etcd")
  if not ok or type(entry) ~= "table" then return {} end
  for _, name in ipairs { "machine", "network", "node", "to" } do
    if type(entry[name]) ~= "string" then entry[name] = nil end
  end
  return entry
end

--- Whether a text is a block as keys have it.
-- @string text
-- @treturn boolean
function M.is_block(text)
  local cidr = addr.parse(text)
  return cidr ~= nil and cidr:is_network() and tostring(cidr) == text
end

--- The last part of a key.
-- @string text
-- @treturn string
function M.last(text) return text:match "([^/]*)$" end

-- The grid ----------------------------------------------------------------------------------

--- The grid as a network's configuration has it.
-- @tparam table settings
-- @tparam[opt] table others lengths of blocks by subnet: what is in it beside
-- @treturn string
function M.grid(settings, others)
  local subnets = {}
  for subnet, len in pairs(others or {}) do subnets[subnet] = len end
  for _, entry in ipairs(settings.subnets) do subnets[entry.subnet] = entry.block end
  return json.sorted_note { version = 1, subnets = subnets }
end

--- The grid of etcd, with the subnets of a configuration in it.
-- @tparam table settings
-- @string text what stands in etcd
-- @treturn string
-- @raise code 7 where they do not go together
function M.merged(settings, text)
  local ok, grid = pcall(json.decode, text, "the grid")
  local subnets = ok and type(grid) == "table" and grid.version == 1 and grid.subnets
  if type(subnets) ~= "table" then
    fail.throw { msg = ("etcd: %s is of no known version"):format(M.at(settings, "grid")) }
  end
  for subnet, len in pairs(subnets) do
    for _, entry in ipairs(settings.subnets) do
      local same = entry.subnet == subnet
      local clash = same and entry.block ~= len or
        not same and addr.parse(entry.subnet):overlaps(addr.parse(subnet))
      if clash then
        fail.config("ipam.subnets", ("%s with blocks of /%d: the pool %s has %s with blocks of /%d"):format(
          entry.subnet, entry.block, settings.pool, subnet, len),
          "all machines of a pool divide it alike; another name is another pool")
      end
    end
  end
  return M.grid(settings, subnets)
end

return M
