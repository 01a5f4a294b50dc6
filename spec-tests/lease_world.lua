-- SPDX-License-Identifier: MIT
-- What the specs of leases share: specs of range sets, owners, the files of a directory, and
-- programs that use the library in processes of their own.

local assert = require "luassert"
local t = require "support"

local fail = require "cni.fail"
local leases = require "cni.leases"
local netlink = require "netlink"
local ranges = require "cni.ranges"

local M = {}

M.base = "/var/lib/cni/networks"
M.dir = M.base .. "/net"

--- Range sets, from the ranges of each.
function M.sets_of(...)
  local raw = {}
  for i, list in ipairs { ... } do raw[i] = list end
  return ranges.read { { where = "ranges", sets = raw } }
end

--- What cni.leases is asked with.
function M.spec_of(sets, requested)
  return { dir = M.base, network = "net", sets = sets, requested = requested }
end

function M.owner(id, ifname)
  return { id = id, ifname = ifname or "eth0" }
end

--- What a lease file of an owner holds.
function M.content(id, ifname)
  return id .. "\r\n" .. (ifname or "eth0")
end

--- The addresses of a lease, as one text.
function M.addresses(ips)
  local list = {}
  for i, ip in ipairs(ips) do list[i] = ip.address:match("^[^/]*") end
  return table.concat(list, " ")
end

function M.allocate(spec, id) return M.addresses(leases.allocate(spec, M.owner(id))) end

--- Call what must raise an error value, and give that.
function M.refused(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_true(fail.is(err), tostring(err))
  return err
end

--- Files that are leases, name -> content.
function M.files(of)
  local found = {}
  for name, bytes in pairs(t.files(of or M.dir)) do
    if name ~= "lock" and not name:find("^last_reserved_ip") then found[name] = bytes end
  end
  return found
end

-- A sanitized module needs its runtime in the children too, and nowhere else.
local preload = os.getenv("LD_PRELOAD")
local interpreter = (preload and "env LD_PRELOAD=" .. preload .. " " or "") .. "lua5.4"

--- Write down a program that has the library, and give the command that runs it.
function M.child(code)
  t.write("/run/spec/child.lua", 'local leases = require "cni.leases"\n'
    .. 'local ranges, netlink = require "cni.ranges", require "netlink"\n' .. code)
  return interpreter .. " /run/spec/child.lua"
end

M.net24 = M.sets_of({ { subnet = "10.1.0.0/24" } })
M.dual = M.sets_of({ { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } })

function M.open() return assert(netlink.store.open(M.dir, leases.index_dir)) end

function M.held_by(id, ifname)
  return M.addresses(leases.held(M.spec_of(M.dual), M.owner(id, ifname)))
end

return M
