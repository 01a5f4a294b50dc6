-- SPDX-License-Identifier: MIT
--- Which address a workload had last on this machine, so that it gets it again when it comes back. That is a
-- wish: where the address is somebody else's by then, or in no block of this machine, it gets another one.
--
-- A folder has a file for each workload, with its addresses, and one for each address, with who had it last.
-- With another user of an address goes the file of the one before: so there are never more than addresses.
-- @module cni.pool.sticky

local addr = require "cni.addr"
local files = require "cni.record.files"
local sys = require("netlink").sys

local M = {}

--- What is kept of a workload.
-- @string dir the folder
-- @string namespace
-- @string name
-- @treturn table `dir`, and `key`, which is the name of its file
function M.of(dir, namespace, name)
  return { dir = dir, key = sys.hash64(namespace .. "/" .. name) }
end

--- The addresses that it had last.
-- @tparam table sticky of @{of}
-- @treturn {string,...}
function M.wished(sticky)
  local list = {}
  for word in (sys.read_file(sticky.dir .. "/" .. sticky.key) or ""):gmatch "%S+" do
    if addr.ip(word) then list[#list + 1] = word end
  end
  return list
end

local function remember(sticky, list)
  local text = table.concat(list, "\n") .. "\n"
  local path = sticky.dir .. "/" .. sticky.key
  if files.read(path) == text then return end
  files.must(sys.mkdirs(sticky.dir, 448)) -- 0700
  local is_new = {}
  for _, address in ipairs(list) do is_new[address] = true end
  for _, address in ipairs(M.wished(sticky)) do
    if not is_new[address] then files.must(sys.unlink(sticky.dir .. "/" .. address)) end
  end
  for _, address in ipairs(list) do
    local at = sticky.dir .. "/" .. address
    local before = (files.read(at) or ""):match "^%x+"
    if before and before ~= sticky.key then files.must(sys.unlink(sticky.dir .. "/" .. before)) end
    files.must(sys.write_file(at, sticky.key .. "\n"))
  end
  files.must(sys.write_file(path, text))
end

--- Note what it has now. Where that cannot be written, it gets any address the next time.
-- @tparam table sticky of @{of}
-- @tparam {table,...} ips of a lease
function M.note(sticky, ips)
  local list = {}
  for i, ip in ipairs(ips) do list[i] = addr.text(addr.parse(ip.address).ip) end
  pcall(remember, sticky, list)
end

return M
