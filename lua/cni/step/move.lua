-- SPDX-License-Identifier: MIT
--- Step `move`: a link of the host that is lent to the sandbox. It is known again wherever it is and
-- whatever it is called by then: by its permanent MAC and its place on the bus, or, when it has
-- neither, by its alias, which in the sandbox is the name it had in the host.
-- @module cni.step.move

local fail = require "cni.fail"
local netlink = require "netlink"

local M = {}

-- What of a link says which it is, beside its alias.
local marks = { "kind", "permanent_mac", "parent_bus", "parent_dev", "phys_port_name" }

--- What there is to remember of a link before it is moved.
-- @tparam table link as netlink gives it
-- @treturn table for the step's `had`
function M.before(link)
  local had = { mac = link.mac, up = link.up, alias = link.alias }
  for _, mark in ipairs(marks) do had[mark] = link[mark] end
  return had
end

local function is_it(step, link)
  local had = step.had or {}
  for _, mark in ipairs(marks) do
    if step.had and link[mark] ~= had[mark] then return false end
  end
  return (had.permanent_mac or had.parent_dev) ~= nil or link.alias == step.want.alias
end

-- In a namespace: under the name it ought to have, else under whichever.
local function find(step, h, name)
  local link = h:link(name)
  if link and is_it(step, link) then return link end
  for _, other in ipairs(h:socket():dump("link") or {}) do
    if is_it(step, other) then
      h.known[other.name] = other
      return other
    end
  end
end

function M.links(step)
  return { step.want.link }
end

function M.requests(step, handle)
  local want = step.want
  local index = handle:index(want.link)
  -- The kernel moves it before it finds the name taken: then the alias has to be there already.
  return {
    { "set", "link", { index = index, alias = want.alias } },
    { "set", "link", { index = index, netns = handle.plan[want.into]:namespace(),
      name = want.name } },
  }
end

function M.refused(step, handle, errno)
  if errno == netlink.sys.errno.EEXIST and handle.plan[step.want.into]:link(step.want.name) then
    fail.throw {
      msg = ("%s: link %s exists already in the sandbox"):format(M.say(step), step.want.name),
      hint = "a second ADD needs a DEL first; a link of another origin is left as it is",
    }
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

-- Back under its old name, in one request; the kernel takes it down for that. The alias stays: by
-- it the link is known should this be as far as it gets.
local function fetch(step, h, link, host)
  local want = step.want
  local ok, msg, errno = h:socket():send { { "set", "link", {
    index = link.index, netns = host:namespace() or netlink.ns.self(), name = want.link,
  } } }
  if ok then return end
  local taken = errno == netlink.sys.errno.EEXIST and host:link(want.link)
  fail.throw {
    msg = ("return %s to the host as %s: %s"):format(link.name, want.link,
      taken and "another link there has that name" or msg),
    hint = taken and "rename that link, and delete the attachment again" or nil, errno = errno,
  }
end

function M.undo(step, plan)
  local want, host, home = step.want, plan[step.ns], plan:at(step.want.into)
  local lent = home and find(step, home, want.name)
  if lent then
    fetch(step, home, lent, host)
    home:forget(lent.name)
  end
  host:forget(want.link)
  -- When its namespace has gone, the kernel has brought it home under a name of its own choice; and
  -- whoever was killed may have left it down.
  local had = step.had or {}
  local link = lent and host:link(want.link) or find(step, host, want.link)
  if not link then return end
  local ok, msg, errno = host:socket():send { { "set", "link", {
    index = link.index, name = link.name ~= want.link and want.link or nil,
    alias = link.alias ~= had.alias and (had.alias or "") or nil, up = had.up,
  } } }
  if not ok then fail.kernel("return " .. want.link .. " to the host", msg, errno) end
end

function M.say(step)
  return ("move %s of the host to the sandbox, as %s"):format(step.want.link or "the device",
    step.want.name)
end

return M
