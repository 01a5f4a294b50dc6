-- SPDX-License-Identifier: MIT
--- Leases that were lost: their directory was emptied, or some of its files are gone, while containers live
-- on with the addresses. The directory shows them as free; the records and the kernel know better.
-- @module cni.record.relet

local addr = require "cni.addr"
local journal = require "cni.record.journal"
local netlink = require "netlink"
local ranges = require "cni.ranges"
local sandbox = require "cni.record.sandbox"

local M = {}

-- The addresses that a record says were leased from a directory.
local function leased(record, spec)
  local found = {}
  for _, step in ipairs(record.steps) do
    local want = step.want
    local here = step.kind == "lease" and step.did and want.dir == spec.dir and want.network == spec.network
    if here and want.taken then
      table.move(want.taken, 1, #want.taken, #found + 1, found)
    elseif here then
      -- Of an older version: it has not written down what it took.
      for _, address in ipairs(record.done.ips or {}) do
        local text = addr.text(addr.parse(address).ip)
        for _, set in ipairs(want.sets or {}) do
          if ranges.find(set, text) then found[#found + 1] = text end
        end
      end
    end
  end
  return found
end

-- Whether the interface is still there: the reference's DEL removes it and the lease, but not our record.
local function has_interface(header)
  local ns = sandbox.find(header)
  if not ns then return false end
  local socket <close>, _, errno = netlink.open(ns)
  if not socket then return errno ~= nil end
  local link
  link, _, errno = socket:get("link", { name = header.ifname }, { "name" })
  return link ~= nil or errno ~= nil
end

--- Lease again the addresses that live attachments were given from a directory and that have no lease any
-- more. When it cannot be told whether an attachment lives, it counts as live.
-- @tparam store s of the directory
-- @tparam table spec `dir` and `network`, see cni.leases
-- @tparam table owner of the call: its own addresses are not looked at
-- @treturn[1] boolean true
-- @treturn[2] nil
-- @treturn[2] string what went wrong
-- @treturn[2] integer errno
function M.all(s, spec, owner)
  for _, record in ipairs(journal.all(spec.network)) do
    local header, lives = record.header, nil
    local own = header.id == owner.id and header.ifname == owner.ifname
    for _, text in ipairs(not own and record:is_whole() and leased(record, spec) or {}) do
      local free, msg, errno = s:next_free(text, text)
      if not free and msg then return nil, msg, errno end
      if free and lives == nil then
        local told, answer = pcall(has_interface, header)
        lives = not told or answer
      end
      if free and lives then
        free, msg, errno = s:reserve(text, header.id, header.ifname)
        if free == nil then return nil, msg, errno end
      end
    end
  end
  s:known()
  return true
end

return M
