-- SPDX-License-Identifier: MIT
--- The error of a CHECK when the attachment does not exist at all: it says that, and who holds the interface
-- or the sandbox, in place of every piece that is missing. Loaded when a CHECK has failed, never before.
-- @module cni.engine.unattached

local fail = require "cni.fail"
local journal = require "cni.record.journal"
local sandbox = require "cni.record.sandbox"

local M = {}

-- How many other attachments are named.
local most_named <const> = 4

-- Attachments that the caller may have meant: another interface of the container, another network, another
-- container in the same sandbox. Returns them as text, and whether one of them has this very interface.
local function others(req, cookie)
  local list, is_held = {}, false
  for _, record in ipairs(journal.all()) do
    local header = record.header
    local own = header.id == req.container_id
    local same = own and header.network == req.network and header.ifname == req.ifname
    if record:is_whole() and not same and (own or cookie ~= "" and header.cookie == cookie) then
      list[#list + 1] = ("%s of container %s is attached to network %s, in %s"):format(header.ifname,
        header.id, header.network, header.netns or "no namespace")
      is_held = is_held or header.ifname == req.ifname and header.cookie == cookie
    end
  end
  if #list > most_named then
    list[most_named + 1] = ("and %d more"):format(#list - most_named)
  end
  return table.concat(list, "; ", 1, math.min(#list, most_named + 1)), is_held
end

local function err(req, why, details, hint)
  return fail.new { msg = ("%s of container %s is not attached to network %s%s"):format(req.ifname,
    req.container_id, req.network, why), details = details, hint = hint }
end

--- Why there is nothing that a CHECK could compare.
-- @tparam table req the request
-- @tparam plan plan in the mode verify
-- @tparam[opt] userdata ns the namespace that the caller names
-- @tparam ?Record record what its ADD has written down
-- @treturn ?fail nil: it is attached, as far as can be told, and the error is what differs
function M.error(req, plan, ns, record)
  if not ns then return nil end
  local cookie = sandbox.identity(ns)
  if record and not record:is_whole() then
    return err(req, record.done and ": its DEL has begun" or ": its ADD did not come to an end", nil,
      "delete it, or add it anew")
  elseif record and record.header.cookie ~= cookie then
    return err(req, (" in %s, but in another namespace"):format(req.netns), ("that was %s at its ADD")
      :format(record.header.netns or "none"))
  elseif record then
    return nil
  end
  local named, is_held = others(req, cookie)
  local is_there = plan.pod:link(req.ifname) ~= nil
  -- The reference plugins may have made it: they write no records.
  if is_there and not is_held then return nil end
  return err(req, is_there and (": %s in %s is another one's"):format(req.ifname, req.netns)
    or (": there is no record of it, and no link %s in %s"):format(req.ifname, req.netns), named)
end

return M
