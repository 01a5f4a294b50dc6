-- SPDX-License-Identifier: MIT
--- Keeping leases of DHCP servers: what is due for one is done, whoever calls for it, and when. A call does
-- one exchange of messages and ends; what the next one has to know stands in the lease (cni.step.dhcp).
--
-- What a server grants with other values is written down first (`is_news`). An update makes the attachment
-- like it, and is due until it has come to its end. So it is with an address that is given up: by an update
-- the attachment has none, until there is another. Where the interface is another program's, there is nothing
-- to update, and it is changed from here.
--
-- @module cni.engine.renewal

local addr = require "cni.addr"
local client = require "cni.dhcp.client"
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

-- A server that is silent is asked again at half of what is left, but not within a minute (RFC 2131, 4.4.5).
-- One that has nothing more to give is asked for another address by and by.
local least_pause <const>, anew_pause <const> = 60, 10

-- How long a new address is looked for in one call: others are waiting too.
local anew_patience <const> = 5

-- When a server is to be asked; nil: never.
local function ask_at(lease)
  local tried = lease.tried_at
  if lease.is_over then return tried and tried + anew_pause or 0 end
  if not lease.expires_at then return nil end
  if not tried then return lease.renew_at end
  local limit = tried < lease.rebind_at and lease.rebind_at or lease.expires_at
  return math.min(limit, tried + math.max(least_pause, (limit - tried) / 2))
end

--- When something is to be done for a lease, on the clock of netlink.sys.uptime.
-- @tparam table lease of cni.step.dhcp
-- @treturn number|nil nil: never, it is for ever
function M.due_at(lease)
  local due = ask_at(lease)
  if not lease.is_news then return due end
  local update_at = lease.failed_at and lease.failed_at + anew_pause or 0
  return due and math.min(due, update_at) or update_at
end

-- What an attachment has of a lease.
local function effect(lease)
  local parts = { lease.address, lease.gateway or "", lease.mtu or "" }
  for _, route in ipairs(lease.routes or {}) do parts[#parts + 1] = route.dst .. " " .. route.gw end
  local dns = lease.dns or {}
  for _, key in ipairs { "nameservers", "search" } do
    parts[#parts + 1] = key .. " " .. table.concat(dns[key] or {}, " ")
  end
  parts[#parts + 1] = dns.domain
  return table.concat(parts, "\n")
end

-- The step of a record that has asked for the lease, and the record.
local function find_step(book)
  for _, record in ipairs(book:living()) do
    for _, step in ipairs(record:is_whole() and record.steps or {}) do
      if step.kind == "dhcp" and step.did then return step, record end
    end
  end
end

-- What the attachment has as long as no update has ended.
local function had(lease) return lease.was or { address = lease.address, routes = lease.routes } end

local function keep(old, new)
  new.of, new.link_mtu = old.of, old.link_mtu
  if new.is_news then new.was = had(old) end
  step_of.write(new)
  return step_of.read(new.of)
end

-- The address is not to be used for a moment longer: not until an update has ended.
local function give_up(plan, step, lease)
  lease.was = had(lease)
  lease.is_over, lease.is_news, lease.tried_at, lease.failed_at = true, true, nil, nil
  step_of.write(lease)
  local want = { link = step.want.link, address = lease.address }
  require("cni.step.addr").undo({ kind = "addr", ns = "pod", want = want }, plan)
end

local function acquire(plan, step, link, lease)
  local want = setmetatable({ address = lease.address:match "^[^/]+" },
    { __index = step_of.asked(step, link) })
  lease.tried_at = sys.uptime()
  step_of.write(lease)
  local new = client.acquire(plan.pod.where, link, want, anew_patience)
  new.is_news = true
  return keep(lease, new), "anew"
end

-- One exchange for a lease that is due. Returns what is kept from now on, and what was done; or nil and why
-- there is no answer.
local function ask(plan, step, link, lease, seconds)
  if lease.is_over then return acquire(plan, step, link, lease) end
  local new, why = false, "its time was up"
  if not lease.expires_at or lease.expires_at > sys.uptime() then
    new, why = client.renew(plan.pod.where, link, step_of.asked(step, link), lease, seconds)
  end
  if new then
    local differs = effect(new) ~= effect(lease)
    new.is_news = differs or lease.is_news or nil
    return keep(lease, new), differs and "changed" or "renewed"
  elseif new == false then
    give_up(plan, step, lease)
    return step_of.read(lease.of), "given up", why
  end
  lease.tried_at = sys.uptime()
  step_of.write(lease)
  return nil, why
end

-- A plan that has the sandbox, and its link. Close it.
local function open(lease, step, record)
  local header = record.header
  local ns = sandbox.find(header)
  if not ns then
    fail.throw { msg = "its namespace is gone", hint = "luacni gc takes back what is left" }
  end
  local plan = plans.new("look", { owner = lease.of, record = record, pod = records.place(ns, header.netns) })
  local link = step_of.link(plan.pod, step.want.link)
  if link then return plan, link end
  plan:close()
  fail.throw { msg = ("%s is not in its sandbox any more"):format(step.want.link) }
end

local function exchange(lease, step, record, seconds)
  local opened, link = open(lease, step, record)
  local plan <close> = opened
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
  local step, record = find_step(book)
  if not lease or not step then return nil end
  local due = ask_at(lease)
  if not due or due > sys.uptime() then return lease end
  local ok, new, what, why = pcall(exchange, lease, step, record,
    silent[lease.server] and short_patience or patience)
  if not ok then
    lease.tried_at = sys.uptime()
    step_of.write(lease)
    error(new, 0)
  elseif not new then
    silent[lease.server] = true
    fail.throw { code = fail.codes.again, msg = ("the server %s does not renew %s: %s"):format(lease.server,
      lease.address, what), details = lease.expires_at
        and ("the lease ends in %.0f seconds"):format(lease.expires_at - sys.uptime()) or nil }
  end
  return new, what, why
end

--- Tell the neighbours of the address of a lease, when the attachment has it still.
-- @tparam table lease
-- @raise why they cannot be told
function M.announce(lease)
  local book <close> = journal.open(lease.of, lease.of.type)
  local step, record = find_step(book)
  local now = step and step_of.read(lease.of)
  if not now or now.is_over or now.address ~= lease.address then return end
  local opened, link = open(now, step, record)
  local plan <close> = opened
  client.announce(plan.pod.where, link, now.address:match "^[^/]+")
end

-- The configuration of another program's plugin that has executed a type of ours for addresses alone; nil:
-- the record is of no such call.
local function executed_for(record)
  local raw = json.decode(record.header.config, "record")
  return raw.type ~= record.header.type and raw or nil
end

local function put_address(plan, link, address)
  local want = { kind = "addr", ns = "pod", want = { link = link.name, address = address } }
  local ok, msg, errno = plan.pod:socket():send(require("cni.step.addr").requests(want, plan.pod))
  if not ok and errno ~= sys.errno.EEXIST then
    fail.kernel(("give %s the address %s"):format(link.name, address), msg, errno)
  end
end

-- What another's plugin has made of a lease becomes what it would make of this one.
local function replace(plan, link, lease, priority)
  local was, routes_of = lease.was or {}, require("cni.dhcp_lease").routes
  local has_moved = lease.is_over or was.address ~= lease.address
  if was.address and has_moved then
    require("cni.step.addr").undo({ ns = "pod", want = { link = link.name, address = was.address } }, plan)
  end
  if lease.is_over then return end
  put_address(plan, link, lease.address)
  local old, new = was.address and routes_of(was, priority) or {}, routes_of(lease, priority)
  local stays = {}
  for _, route in ipairs(new) do stays[json.note(route)] = true end
  local gone = {}
  for _, route in ipairs(old) do
    if not stays[json.note(route)] then gone[#gone + 1] = route end
  end
  for _, route in ipairs(table.move(gone, 1, #gone, #new + 1, table.move(new, 1, #new, 1, {}))) do
    if addr.is_unspecified(addr.ip(route.gw)) then route.gw = nil end
  end
  require("cni.step.routes").run({ ns = "pod", want = { link = link.name, add = new, remove = gone } }, plan)
end

--- Make an interface that another program's plugin has made like its lease, in place of an update: of that
-- plugin nothing is in the records, and it would do nothing. Its address and routes are changed.
-- @tparam table lease
-- @treturn boolean false: the interface is of a type of ours, and an update is to be made
-- @raise what the kernel refuses
function M.put(lease)
  local book <close> = journal.open(lease.of, lease.of.type)
  local step, record = find_step(book)
  local raw = step and executed_for(record)
  if not raw then return false end
  local opened, link = open(lease, step, record)
  local plan <close> = opened
  replace(plan, link, lease, type(raw.ipam) == "table" and raw.ipam.priority or 0)
  return true
end

--- Note that an attachment is as its lease says; or that it could not be made so, and is to be later.
-- @tparam table lease
-- @tparam boolean is_done
function M.note_updated(lease, is_done)
  local book <close> = journal.open(lease.of, lease.of.type)
  local now = step_of.read(lease.of)
  if not now or json.note(now) ~= json.note(lease) or not find_step(book) then return end
  now.is_news, now.failed_at = not is_done or nil, not is_done and sys.uptime() or nil
  if is_done then now.was = nil end
  step_of.write(now)
end

return M
