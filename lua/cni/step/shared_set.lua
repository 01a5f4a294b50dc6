-- SPDX-License-Identifier: MIT
--- Step `shared_set`: attributes of a link that was there before: other attachments may set them too
-- (cni.record.values). For a link that the same plan makes there is `set`.
-- @module cni.step.shared_set

local fail = require "cni.fail"
local netlink = require "netlink"
local set = require "cni.step.set"
local values = require "cni.record.values"

local M = { chosen = { id = true }, of_interface = true }

-- The attributes by name, those of the port with its own.
local function flat(attrs)
  local list = {}
  for key, value in pairs(attrs) do
    if key == "port" then
      for option, setting in pairs(value) do list["port." .. option] = setting end
    else
      list[key] = value
    end
  end
  return list
end

local function now_of(h, link, name)
  local option = name:match "^port%.(.*)"
  if option then return link.port and link.port[option] end
  if name ~= "master" then return link[name] end
  local master = link.master and h:link(link.master, {})
  return master and master.name or 0
end

local function looker(step, h)
  return function()
    local want, items = step.want, {}
    local link = h:link(want.link)
    for name, value in pairs(flat(want.set)) do
      items[#items + 1] = { key = ("link %s %s"):format(want.link, name), name = name, value = value,
        now = link and now_of(h, link, name), of = link and link.index }
    end
    return items
  end
end

-- As cni.record.values wants it; `send` gets the attributes, and returns what a socket does.
local function writer(step, h, what, send)
  return function(list)
    -- The kernel understands the options of a kind only beside the kind.
    local attrs = { index = h:index(step.want.link), kind = step.want.set.kind }
    for _, item in ipairs(list) do
      local option = item.name:match "^port%.(.*)"
      if option then
        attrs.port = attrs.port or {}
        attrs.port[option] = item.value
      elseif item.name == "master" and item.value ~= 0 then
        local master = h:link(item.value, {})
        -- A master that has gone since cannot be given back.
        attrs.master = master and master.index or 0
      else
        attrs[item.name] = item.value
      end
    end
    local ok, msg, errno = send(attrs)
    if not ok then fail.kernel(what, msg, errno) end
  end
end

function M.run(step, plan)
  local h = plan[step.ns]
  h:index(step.want.link) -- or an error
  local kind = step.want.set.kind
  local found = kind and h:link(step.want.link, { "kind" })
  if found and found.kind ~= kind then
    fail.throw { msg = ("%s: it is no %s but %s"):format(M.say(step), kind,
      found.kind and "a " .. found.kind or "a device") }
  end
  if step.want.set.master and step.want.set.master ~= 0 then h:index(step.want.set.master) end
  values.set(step, plan, looker(step, h), writer(step, h, M.say(step), function(attrs)
    return h:socket():send { { "set", "link", attrs } }
  end))
end

-- As a step `set` has it, without the attributes in `but`.
local function plain(step, but)
  local want = { link = step.want.link }
  for name, value in pairs(step.want.set) do
    if name == "port" then
      want.port = {}
      for option, setting in pairs(value) do
        want.port[option] = not but["port." .. option] and setting or nil
      end
    elseif not but[name] then
      want[name] = value
    end
  end
  return { kind = "set", ns = step.ns, want = want }
end

function M.verify(step, plan)
  local difference = set.verify(plain(step, {}), plan)
  if not difference then return nil end
  local others = {}
  for _, item in ipairs(looker(step, plan[step.ns])()) do
    others[item.name] = values.overruled(step, plan, item)
  end
  return set.verify(plain(step, others), plan)
end

function M.without(step, later)
  local want = {}
  for key, value in pairs(step.want) do want[key] = value end
  want.set = set.left(want.set, later, ("%s %s"):format(step.ns, want.link))
  return setmetatable({ want = want }, { __index = step })
end

function M.key(step)
  local keys = {}
  for key in pairs(flat(step.want.set)) do keys[#keys + 1] = key end
  table.sort(keys)
  return step.want.link .. " " .. table.concat(keys, " ")
end

--- The new values above the old ones, which then go from below them.
function M.change(from, to, plan)
  M.run(to, plan)
  M.undo(from, plan)
end

function M.undo(step, plan)
  local h = plan[step.ns]
  local what = "restore link " .. step.want.link
  values.give_back(step, plan, looker(step, h), writer(step, h, what, function(attrs)
    local ok, msg, errno = set.give_back(h, plan, what, attrs)
    return ok or errno == netlink.sys.errno.ENODEV, msg, errno
  end))
end

function M.stands(step, plan)
  return step.ns == "pod" and not M.verify(step, plan)
end

function M.say(step)
  return set.say(plain(step, {}))
end

return M
