-- SPDX-License-Identifier: MIT
--- Step `move`: a link of the host that is lent to the sandbox. It is recognised wherever it is and
-- whatever it is called: by its permanent MAC and its place on the bus; or, when it has neither, by its
-- alias (in the sandbox that is its name in the host) or its MAC. It comes back as it was, with the addresses
-- and routes that it had (cni.links.carry).
-- @module cni.step.move

local carry = require "cni.links.carry"
local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"
local set = require "cni.step.set"

local M = { new_only = "a link is lent by an ADD", of_interface = true, telling = true }

function M.at_add() return true end

-- Milliseconds that we wait for a namespace without a name to end.
local patience = 5000

-- Attributes that say which link it is, beside its alias.
local marks = { "kind", "permanent_mac", "parent_bus", "parent_dev", "phys_port_name" }

--- What there is to remember of a link before it is moved.
-- @tparam handle h the host's
-- @tparam table link as netlink gives it
-- @treturn table for the step's `had`
function M.before(h, link)
  local had = { mac = link.mac, mtu = link.mtu, up = link.up, alias = link.alias,
    addrs = carry.addrs(h, link, { lasting = true }), routes = carry.routes(h, link, { lasting = true }) }
  for _, mark in ipairs(marks) do had[mark] = link[mark] end
  return had
end

local function has_marks(step, link)
  for _, mark in ipairs(marks) do
    if step.had and link[mark] ~= step.had[mark] then return false end
  end
  return true
end

local function is_it(step, link)
  local had = step.had or {}
  return has_marks(step, link)
    and ((had.permanent_mac or had.parent_dev) ~= nil or link.alias == step.want.alias)
end

-- The link in a namespace: under the name it ought to have, else under any. Somebody in the sandbox may have
-- changed its alias: then its MAC tells, if only one link there has it.
local function find(step, h, name)
  local link = h:link(name)
  if link and is_it(step, link) then return link end
  local alike = {}
  for _, other in ipairs(h:dump("link")) do
    if is_it(step, other) then
      h.known[other.name] = other
      return other
    elseif h.name == step.want.into and step.had and other.mac == step.had.mac
      and has_marks(step, other) then
      alike[#alike + 1] = other
    end
  end
  return #alike == 1 and alike[1] or nil
end

function M.links(step)
  return { step.want.link }
end

local function need_free_name(step, home)
  if not home:link(step.want.name) then return end
  fail.throw {
    msg = ("%s: link %s exists already in the sandbox"):format(M.say(step), step.want.name),
    hint = require("cni.links.obstacle").owner(home, step.want.name),
  }
end

-- The kernel moves a link first and renames it then: when it answers that the name is taken, the link may
-- have moved. So the name is looked for before, and the link has its alias before, by which undo finds it.
function M.requests(step, handle)
  local want, index = step.want, handle:index(step.want.link)
  local home = handle.plan[want.into]
  need_free_name(step, home)
  return {
    { "set", "link", { index = index, alias = want.alias } },
    { "set", "link", { index = index, netns = home:namespace(), name = want.name } },
  }
end

function M.refused(step, handle, errno)
  if errno == netlink.sys.errno.EEXIST then
    need_free_name(step, handle.plan[step.want.into])
  end
end

function M.verify(step, plan)
  local want = step.want
  local link = plan[want.into]:link(want.name)
  if not link then return ("link %s is not in the sandbox"):format(want.name) end
  if (link.alias or "") == "" then
    return ("link %s is not one that was lent by the host"):format(want.name)
  end
  return require("cni.step.link").same_mac(plan, link, "sandbox")
end

-- Send it back under its old name, which must be free: see M.requests. The kernel takes the link down.
local function fetch(step, h, link, host)
  local want, taken = step.want, host:link(step.want.link)
  local ok, msg, errno
  if not taken then
    local home = host:namespace()
    if not home then home, msg, errno = netlink.ns.self() end
    if home then
      ok, msg, errno = h:socket():send { { "set", "link", {
        index = link.index, netns = home, name = want.link,
      } } }
    end
  end
  if ok then return end
  taken = taken or errno == netlink.sys.errno.EEXIST and host:link(want.link)
  fail.throw {
    msg = ("return %s to the host as %s: %s"):format(link.name, want.link,
      taken and "another link there has that name" or msg),
    hint = taken and "rename that link, and delete the attachment again" or nil, errno = errno,
  }
end

-- What is not as it was, other than its name and whether it is up.
local function differences(link, had)
  local change = {}
  if (link.alias or "") ~= (had.alias or "") then change.alias = had.alias or "" end
  for _, key in ipairs { "mac", "mtu" } do
    if had[key] and link[key] ~= had[key] then change[key] = had[key] end
  end
  return change
end

-- When its namespace has gone, the kernel brings the link of a real device home, under a name of its
-- own choice, as soon as nobody is in there any more. Sysfs tells whether there is a link at all,
-- wherever it is.
local function await_home(step, host)
  local had = step.had or {}
  local device = had.parent_dev and ("/sys/bus/%s/devices/%s"):format(had.parent_bus, had.parent_dev)
  if not device or not files.exists(device .. "/net") then return end
  host:socket():await("link", { parent_bus = had.parent_bus, parent_dev = had.parent_dev,
    phys_port_name = had.phys_port_name }, {}, {}, patience)
  local link = find(step, host, step.want.link)
  if link then return link end
  fail.throw { code = fail.codes.again,
    msg = ("return %s to the host: it is in a namespace that nothing names any more")
      :format(step.want.link),
    hint = "the kernel gives it back when the last process in there has ended" }
end

function M.undo(step, plan)
  local want, host, home = step.want, plan[step.ns], plan:at(step.want.into)
  local lent = home and find(step, home, want.name)
  if lent then
    fetch(step, home, lent, host)
    home:forget(lent.name)
  end
  host:forget(want.link)
  -- It may be back already: a call that was killed may have left the rest undone.
  local had = step.had or {}
  local link = lent and host:link(want.link) or find(step, host, want.link)
    or await_home(step, host)
  if not link then return end
  local change = differences(link, had)
  change.index, change.up = link.index, had.up
  change.name = link.name ~= want.link and want.link or nil
  local what = ("return %s to the host"):format(want.link)
  local ok, msg, errno = set.give_back(host, plan, what, change)
  if not ok then fail.kernel(what, msg, errno) end
  carry.restore(host, { index = link.index, name = want.link }, had)
end

--- Whether a step has lent the link that an ADD looks for now.
-- @tparam table step
-- @tparam table wanted as of cni.devices
-- @tparam table|nil link what has been found of it in the host
-- @treturn boolean
function M.lent(step, wanted, link)
  local had = step.had or {}
  local place = wanted.pci or wanted.auxiliary or wanted.kernelpath and wanted.kernelpath:match "[^/]*$"
  return step.want.link == wanted.device or had.mac ~= nil and had.mac == wanted.hwaddr
    or place ~= nil and had.parent_dev == place or link ~= nil and is_it(step, link)
end

function M.stands(step, plan)
  local home = plan:at(step.want.into)
  return home ~= nil and find(step, home, step.want.name) ~= nil
end

function M.say(step)
  return ("move %s of the host to the sandbox, as %s"):format(step.want.link or "the device",
    step.want.name)
end

return M
