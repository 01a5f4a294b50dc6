-- SPDX-License-Identifier: MIT
--- Many attachments taken back together, as GC does. The kernel waits for RCU, some 15 ms, whenever it
-- deletes a link; but only once for all links of a group. So each attachment is taken back as far as its
-- link; then all those links are put into a group of their own and deleted by it; then the attachments go on.
-- What is given back for reuse has an older step than the link, and so its turn comes after it, as always.
--
-- Each attachment is a coroutine that stops where a link of the host is to be deleted. A GC that is killed
-- meanwhile leaves links in a group that nobody knows; their records still name them.
--
-- @module cni.links.batch

local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"

local M = {}
M.__index = M

--- How many attachments are under way at a time: each has files and sockets open.
M.size = 64

--- Begin.
-- @treturn table the batch; finish it
function M.new()
  return setmetatable({ jobs = {}, links = {}, errors = {} }, M)
end

local function go_on(self, job)
  local ok, err = coroutine.resume(job)
  if not ok then self.errors[#self.errors + 1] = fail.wrap(err) end
  if coroutine.status(job) == "suspended" then self.jobs[#self.jobs + 1] = job end
end

-- All links, as far as their groups go; nil when they cannot be listed, for instance because links come and
-- go so fast that no list of them is whole.
local function all_links(h)
  h.plan:flush()
  return (h:socket():dump("link", nil, { "group" }))
end

-- Put links into a group that no link of a list has. Returns the group, or nil; and what `send` does. Links
-- that have gone do no harm.
local function gather(h, indices, all)
  if not all then return nil, false end
  local used, requests = { [0] = true }, {} -- 0 is the group of all other links
  for _, link in ipairs(all) do used[link.group or 0] = true end
  local group
  repeat group = ("<I4"):unpack(files.must(netlink.sys.random(4))) & 0x7fffffff until not used[group]
  for i, index in ipairs(indices) do
    requests[i] = { "set", "link", { index = index, group = group } }
  end
  return group, h:socket():send(requests)
end

--- Delete a few links of one attachment in one go: see `del_group_quick` of netlink.
-- @tparam handle h
-- @tparam {int,...} indices the oldest one's first
-- @tparam {table,...}|nil all links of the namespace, as far as their `group` goes
-- @treturn boolean false: it cannot be done in one go
function M.delete_few(h, indices, all)
  local group, ok = gather(h, indices, all)
  return ok and h:socket():del_group_quick(group, indices[1], 5000) or false
end

-- Delete links in one go. Links that are left then are deleted by their attachments, one by one.
local function delete(h, indices)
  if #indices < 2 then return end
  local group = gather(h, indices, all_links(h))
  if not group then return end
  h:socket():send { { "del", "link", { group = group } } }
end

-- Delete the links that have gathered, and go on with all jobs, until none waits for a link any more.
local function settle(self)
  while #self.jobs > 0 do
    local jobs, links, h = self.jobs, self.links, self.handle
    self.jobs, self.links, self.handle = {}, {}, nil
    local ok, err = pcall(delete, h, links)
    if not ok then self.errors[#self.errors + 1] = fail.wrap(err) end
    for _, job in ipairs(jobs) do go_on(self, job) end
  end
end

--- Begin to take something back.
-- @tparam function action does it; it may stop in @{gone}
function M:start(action)
  go_on(self, coroutine.create(action))
  if #self.jobs >= M.size then settle(self) end
end

--- Wait until a link of the host has been deleted with the others; the caller looks, and deletes it alone if
-- it is still there. To be called in an action only.
-- @tparam handle h
-- @tparam int index
function M:gone(h, index)
  self.handle = self.handle or h
  self.links[#self.links + 1] = index
  coroutine.yield()
end

--- Do what is left.
-- @treturn table fail values of actions that raised one
function M:finish()
  settle(self)
  if self.nft then self.nft:leave_open() end
  return self.errors
end

return M
