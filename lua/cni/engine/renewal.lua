-- SPDX-License-Identifier: MIT
--- Keeping leases of DHCP servers: what is due for one is done, whoever calls for it, and when. A call does
-- one exchange of messages and ends; what the next one has to know stands in the lease (cni.step.dhcp).
--
-- What a server grants with other values is written down first (`is_news`). An update makes the attachment
-- like it, and is due until it has come to its end. So it is with an address that is given up: by an update
-- the attachment has none, until there is another.
--
-- @module cni.engine.renewal

local fail = require "cni.fail"
local journal = require "cni.record.journal"
local json = require "cni.json"
local plans = require "cni.engine.plan"
local records = require "cni.engine.records"
local sandbox = require "cni.record.sandbox"
local step_of = require "cni.step.dhcp"
local sys = require("netlink").sys

local M = {}

-- Seconds to wait for an answer; and for one of a server that has just not given one to another attachment.
local patience <const>, short_patience <const> = 2, 0.2

-- What could not be made so is tried again after so many seconds.
local update_pause <const> = 10

-- How long a new address is looked for in one call: others are waiting too.
local anew_patience <const> = 5

-- When a server is to be asked; nil: never.
local function ask_at(lease)
  local tried, client = lease.tried_at, step_of.client(lease)
  if lease.is_over then return tried and tried + client.anew_pause(lease) or 0 end
  return tried and lease.renew_at and client.retry_at(lease) or lease.renew_at
end

-- Note that it was asked in vain.
local function note_tried(lease, is_in_vain)
  lease.tried_at = sys.uptime()
  if is_in_vain then lease.tries = (lease.tries or 0) + 1 end
  step_of.write(lease)
end

--- When something is to be done for a lease, on the clock of netlink.sys.uptime.
-- @tparam table lease of cni.step.dhcp
-- @treturn number|nil nil: never, it is for ever
function M.due_at(lease)
  local due = ask_at(lease)
  if not lease.is_news then return due end
  local update_at = lease.failed_at and lease.failed_at + update_pause or 0
  return due and math.min(due, update_at) or update_at
end

-- What an attachment has of a lease.
local function effect(lease)
  local parts = { table.concat(step_of.addresses(lease), " "), lease.gateway or "", lease.mtu or "" }
  for _, route in ipairs(lease.routes or {}) do parts[#parts + 1] = route.dst .. " " .. route.gw end
  local dns = lease.dns or {}
  for _, key in ipairs { "nameservers", "search" } do
    parts[#parts + 1] = key .. " " .. table.concat(dns[key] or {}, " ")
  end
  parts[#parts + 1] = dns.domain
  return table.concat(parts, "\n")
end

-- The step of a record that has asked for the lease, and the record.
local function find_step(book, of)
  for _, record in ipairs(book:living()) do
    for _, step in ipairs(record:is_whole() and record.steps or {}) do
      if step_of.is_of(step, of) and step.did then return step, record end
    end
  end
end

local function keep(old, new)
  new.of, new.link_mtu = old.of, old.link_mtu
  step_of.write(new)
  return step_of.read(new.of)
end

-- The address is not to be used for a moment longer: not until an update has ended.
local function give_up(plan, step, lease)
  lease.is_over, lease.is_news, lease.tried_at, lease.tries, lease.failed_at = true, true, nil, nil, nil
  step_of.write(lease)
  for _, address in ipairs(step_of.addresses(lease)) do
    local want = { link = step.want.link, address = address }
    require("cni.step.addr").undo({ kind = "addr", ns = "pod", want = want }, plan)
  end
end

local function acquire(plan, step, link, lease)
  local want = setmetatable({ address = lease.address:match "^[^/]+" },
    { __index = step_of.asked(step, link) })
  note_tried(lease, true)
  local new = step_of.client(lease).acquire(plan.pod.where, link, want, anew_patience)
  new.is_news = true
  return keep(lease, new), "anew"
end

-- One exchange for a lease that is due. Returns what is kept from now on, and what was done; or nil and why
-- there is no answer.
local function ask(plan, step, link, lease, seconds)
  if lease.is_over then return acquire(plan, step, link, lease) end
  local new, why = false, "its time was up"
  if not lease.expires_at or lease.expires_at > sys.uptime() then
    new, why = step_of.client(lease).renew(plan.pod.where, link, step_of.asked(step, link), lease, seconds)
  end
  if new then
    local differs = effect(new) ~= effect(lease)
    new.is_news = differs or lease.is_news
    local kept = keep(lease, new)
    step_of.prolong(plan.pod, link, kept)
    return kept, differs and "changed" or "renewed"
  elseif new == false then
    give_up(plan, step, lease)
    return step_of.read(lease.of), "given up", why
  end
  note_tried(lease, true)
  return nil, why
end

local function exchange(lease, step, record, seconds)
  local header = record.header
  local ns = sandbox.find(header)
  if not ns then
    fail.throw { msg = "its namespace is gone", hint = "luacni gc takes back what is left" }
  end
  local plan <close> = plans.new("look", { owner = lease.of, record = record,
    pod = records.place(ns, header.netns) })
  local link = step_of.link(plan.pod, step.want.link)
  if not link then fail.throw { msg = ("%s is not in its sandbox any more"):format(step.want.link) } end
  return ask(plan, step, link, lease, seconds)
end

--- Ask for more time for a lease, if that is due.
-- @tparam table lease of cni.step.dhcp
-- @tparam table silent by server, whether it has not answered for another one; is added to
-- @treturn table|nil the lease as it is now: `is_news` says that the attachment is to be updated. nil:
-- nothing is known of the attachment any more
-- @treturn ?string what was done: renewed; changed; given up, and then why; anew, which is another lease in
-- the place of one that was given up. nil: nothing
-- @raise why the server does not grant it
function M.renew(lease, silent)
  local of = lease.of
  local book <close> = journal.open(of, of.type)
  -- It may have been renewed, or be gone, by now.
  lease = step_of.read(of)
  local step, record = find_step(book, of)
  if not lease or not step then return nil end
  local due = ask_at(lease)
  if not due or due > sys.uptime() then return lease end
  local ok, new, what, why = pcall(exchange, lease, step, record,
    silent[lease.server] and short_patience or patience)
  if not ok then
    note_tried(lease)
    error(new, 0)
  elseif not new then
    silent[lease.server] = true
    fail.throw { code = fail.codes.again, msg = ("the server %s does not renew %s: %s"):format(lease.server,
      lease.address, what), details = lease.expires_at
        and ("the lease ends in %.0f seconds"):format(lease.expires_at - sys.uptime()) or nil }
  end
  return new, what, why
end

--- Tell the neighbours of the address of a lease, when the attachment has it.
-- @tparam table lease
-- @raise why they cannot be told
function M.announce(lease)
  local book <close> = journal.open(lease.of, lease.of.type)
  local step, record = find_step(book, lease.of)
  local ns = step and not lease.is_over and sandbox.find(record.header)
  if not ns then return end
  local plan <close> = plans.new("look", { owner = lease.of, record = record,
    pod = records.place(ns, record.header.netns) })
  local link = step_of.link(plan.pod, step.want.link)
  for _, address in ipairs(link and step_of.addresses(lease) or {}) do
    step_of.client(lease).announce(plan.pod.where, link, address:match "^[^/]+")
  end
end

--- Note that an attachment is as its lease says; or that it could not be made so, and is to be later.
-- @tparam table lease
-- @tparam boolean is_done
function M.note_updated(lease, is_done)
  local book <close> = journal.open(lease.of, lease.of.type)
  local now = step_of.read(lease.of)
  if not now or json.note(now) ~= json.note(lease) or not find_step(book, lease.of) then return end
  now.is_news, now.failed_at = not is_done or nil, not is_done and sys.uptime() or nil
  step_of.write(now)
end

return M
