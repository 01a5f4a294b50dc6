-- SPDX-License-Identifier: MIT
--- Step `dhcp`: an address that a DHCP server has granted. What it granted last stands in a file beside the
-- records, which a renewal replaces:
--
--     /run/luacni/dhcp/NETWORK/ID:IFNAME
--
-- Beside the lease it has `of`, whose it is: `network`, `id`, `ifname`, and `type`, in whose book the step
-- is; `link_mtu`, what the link had; `tried_at`, when more time was last asked for in vain; `is_over`: its
-- time is up, or the server has refused to renew it, and the address is nobody's any more; `is_news`: the
-- attachment is not yet as it says, but as `was` says (`address`, `routes`), and `failed_at`, when that was
-- last tried. See cni.engine.renewal.
--
-- It is given back while the link is there, for only on that can it be said. Where the file is not there (the
-- ADD was killed, or it is lost), the server is asked what it has for this client.
-- @module cni.step.dhcp

local client = require "cni.dhcp.client"
local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local sys = require("netlink").sys

local M = { new_only = "an address is asked for by an ADD", last = true, of_interface = true }

--- Where the leases are.
M.root = "/run/luacni/dhcp"

-- The link is gone, or down, or too narrow: then nobody can be told.
local unheard <const> = { [sys.errno.ENODEV] = true, [sys.errno.ENXIO] = true, [sys.errno.ENETDOWN] = true,
  [sys.errno.EMSGSIZE] = true }

-- So long a server that is there takes to make an offer that it need not look for; and so long a repair
-- waits, which has others to look after.
local remembering <const>, mending <const> = 1, 5

--- The file of an attachment's lease.
-- @tparam table owner {network, id, ifname}
-- @treturn string
function M.path(owner)
  return ("%s/%s/%s"):format(M.root, files.component(owner.network),
    files.component(owner.id .. ":" .. owner.ifname))
end

--- What a server has granted an attachment.
-- @tparam table owner
-- @treturn table|nil as of cni.dhcp.client; nil: nothing that is known
function M.read(owner)
  local text = files.read(M.path(owner))
  local ok, lease = pcall(json.decode, text or "", "lease")
  return ok and type(lease) == "table" and lease.address and lease or nil
end

-- The files of all leases.
local function paths()
  local list = {}
  for _, network in ipairs(files.list(M.root)) do
    for _, name in ipairs(files.list(M.root .. "/" .. network)) do
      list[#list + 1] = ("%s/%s/%s"):format(M.root, network, name)
    end
  end
  return list
end

-- The lease in a file; nil: it has gone. An error says that it cannot be read.
local function read_file(path)
  local text = files.read(path)
  local lease = text and json.decode(text, path)
  if not text or type(lease) == "table" and type(lease.of) == "table" and lease.address then return lease end
  fail.throw { msg = path .. " is no lease", hint = "luacni repair asks the server again" }
end

--- The leases of all attachments, one after the other: there may be thousands.
-- @treturn function iterator; in place of one that cannot be read: false, and a fail value
function M.each()
  local list, i = paths(), 0
  return function()
    while i < #list do
      i = i + 1
      -- What a killed call has left is not yet a lease.
      local ok, lease = true, nil
      if not list[i]:find "/%.[^/]*$" then ok, lease = pcall(read_file, list[i]) end
      if not ok then return false, fail.wrap(lease) end
      if lease then return lease end
    end
  end
end

--- Keep what a server has granted.
-- @tparam table lease
function M.write(lease)
  local path = M.path(lease.of)
  files.must(sys.mkdirs(path:match "^(.*)/", 448)) -- 0700
  files.must(sys.write_file(path, json.note(lease) .. "\n"))
end

local function remove(owner)
  local folder, name = M.path(owner):match "^(.*)/([^/]*)$"
  files.unless_absent(sys.unlink(folder .. "/" .. name))
  -- What a call has left that was killed before it was to be the file's new content.
  local begun = "." .. name .. "."
  for _, other in ipairs(files.list(folder)) do
    if other:sub(1, #begun) == begun then files.unless_absent(sys.unlink(folder .. "/" .. other)) end
  end
  sys.rmdir(folder)
end

--- The link that a lease is for.
-- @tparam table h a handle on the sandbox
-- @string name
-- @treturn table|nil `name`, `index`, `mac`, `mtu`, `kind`
function M.link(h, name) return h:link(name, { "mac", "mtu", "kind" }) end

--- What is asked for, as cni.dhcp.client takes it.
-- @tparam table step
-- @tparam table link
-- @treturn table
function M.asked(step, link)
  local want, provide = step.want, {}
  for number, text in pairs(want.provide or {}) do provide[math.tointeger(tonumber(number))] = text end
  -- Links of ipvlan have one MAC, and hear only what is for their addresses.
  return setmetatable({ wanted = string.char(table.unpack(want.wanted)), provide = provide,
    broadcast = link.kind == "ipvlan" }, { __index = want })
end

local function acquire(step, plan, seconds)
  local h, want = plan[step.ns], step.want
  local link = M.link(h, want.link)
  if not link then
    step.did = nil
    fail.throw { msg = ("link %s is not in the sandbox"):format(want.link),
      hint = "DHCP is spoken on the link that the addresses are for: it is made before ipam.add" }
  end
  local ok, lease = pcall(client.acquire, h.where, link, M.asked(step, link), seconds)
  if not ok then
    if lease.unasked then step.did = nil end
    error(lease, 0)
  end
  local owner = plan.owner
  lease.link_mtu = link.mtu
  lease.of = { network = owner.network, id = owner.id, ifname = owner.ifname, type = plan.record.header.type }
  M.write(lease)
  return lease
end

function M.run(step, plan)
  return acquire(step, plan, require("cni.step.delegate").patience(plan.request, "ADD") / 1000)
end

function M.verify(_, plan)
  local lease = M.read(plan.owner)
  -- Where the record is lost too, nothing says that there was one.
  if not lease and plan.past and not plan:past() then return nil end
  if not lease then return "what the DHCP server has granted is not known any more" end
  if lease.is_over or lease.expires_at and lease.expires_at <= sys.uptime() then
    return ("the lease of %s came to its end, and was not renewed"):format(lease.address)
  end
end

-- What is over is for a renewal, and what comes after it is about that address.
function M.at_add(_, plan) return M.read(plan.owner) ~= nil end

-- What is not known any more the server tells again.
function M.mend(step, plan)
  local lease = acquire(step, plan, mending)
  lease.is_news = true
  M.write(lease)
  return true
end

-- Tell the server; nil and why not.
local function give_back(step, plan, lease)
  local h, name = plan:at(step.ns), step.want.link
  local link = h and M.link(h, name)
  if not link then return nil, ("%s is gone"):format(h and name or "the sandbox") end
  if lease and lease.is_over then return true end
  if lease then return pcall(client.release, h.where, link, lease) end
  return pcall(client.forget, h.where, link, M.asked(step, link), remembering)
end

function M.undo(step, plan)
  local lease = M.read(plan.owner)
  local ok, err = give_back(step, plan, lease)
  if not ok and type(err) == "table" and not unheard[err.errno] then error(err, 0) end
  if not ok and lease then
    plan:tell(("the DHCP server %s keeps %s until the lease ends: %s"):format(lease.server, lease.address,
      tostring(err)))
  end
  remove(plan.owner)
end

function M.say(step)
  return "ask a DHCP server for an address, on " .. step.want.link
end

--- What the server gives, by the plan's mode.
-- @tparam table plan
-- @tparam table want `link`, a name in the sandbox; `client`, `wanted` (a list of numbers), `provide`,
-- `address`, `rapid`, `probe_ms` as of cni.dhcp.client
-- @treturn table|nil a lease; nil: none is known
function M.obtain(plan, want)
  local step = { kind = "dhcp", ns = "pod", want = want }
  if plan.mode == "apply" then
    plan:flush()
    return plan:now(step)
  end
  plan:push(step)
  local lease = plan.mode ~= "dry" and M.read(plan.owner) or nil
  if not lease and plan.mode == "update" then
    fail.throw { msg = M.verify(step, plan), hint = "DEL and ADD make the attachment anew" }
  end
  return lease
end

return M
