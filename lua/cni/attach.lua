-- SPDX-License-Identifier: MIT
--- The verbs: what ADD, DEL, CHECK, GC and STATUS do with a plugin and the journal.
--
-- A plugin's `add` is run in a mode of the plan (cni.plan): apply for ADD, verify for CHECK, erase for a
-- DEL that finds no record, dry for a dry run. A DEL that finds one takes the record back.
--
-- @module cni.attach

local fail = require "cni.fail"
local journal = require "cni.journal"
local netlink = require "netlink"
local plans = require "cni.plan"
local request = require "cni.request"

local M = {}

-- `req:lease(spec)`: addresses from a lease directory, journalled; see cni.step.lease.
local function lease(req, spec)
  return require("cni.step.lease").obtain(req.plan, spec)
end

--- Give a request what only the program has.
-- @tparam table req sets `log`, `environ` and `load_plugin` (own IPAM scripts by type, or nil)
-- @tparam table host the module of that name
function M.equip(req, host)
  req.log, req.environ = host.log, host.environ
  req.load_plugin = function(type_name)
    local script = host.load_plugin(type_name)
    return script and script.ipam and script or nil
  end
  req.lease = lease
end

--- A plugin by its type.
-- @tparam table host
-- @tparam string type_name
-- @treturn table|nil what the script returned, and its `type`
function M.plugin(host, type_name)
  local script = host.load_plugin(type_name)
  return script and setmetatable({ type = type_name }, { __index = script })
end

local function owner_of(req)
  return { network = req.network, id = req.container_id, ifname = req.ifname }
end

local function read_conf(req, plugin)
  req.conf = plugin.conf and require("cni.schema").read(plugin.conf, req.raw) or req.raw
end

local function read_prev(req)
  if req.raw.prevResult ~= nil then
    req.prev = require("cni.result").parse(req.raw.prevResult, req.version)
  end
end

-- The namespace that a path names, unless it is the one we run in. nil and why when there is none.
local function open_namespace(req, path)
  if not path then return nil, "CNI_NETNS is not given" end
  local ns, msg = netlink.ns.open(path)
  if not ns then return nil, msg end
  request.same_namespace(req, netlink.ns.self():id(), ns:id())
  return ns
end

-- Who a namespace is, for as long as the machine runs; inode numbers are used again.
local function cookie_of(ns)
  return ns and ns:cookie() or ""
end

local function sandbox_of(ns, path)
  return ns and { ns = ns, sandbox = path } or nil
end

local function new_plan(mode, req, ns, record)
  local plan = plans.new(mode, {
    owner = owner_of(req), pod = sandbox_of(ns, req.netns), record = record, prev = req.prev,
    request = req,
  })
  req.plan, req.host, req.pod = plan, plan.host, plan.pod
  return plan
end

-- Errors of an undo are one error: the first, and the others with it.
local function joined(errors)
  local texts = {}
  for i, err in ipairs(errors) do texts[i] = tostring(err) end
  return fail.new { code = errors[1].code, msg = texts[1],
    details = table.concat(texts, "; ", 2) }
end

-- The sandbox a record was for: the namespace we have, or the one its path names, if it is that one.
local function its_sandbox(record, ns)
  local header = record.header
  if ns and cookie_of(ns) == header.cookie then return sandbox_of(ns, header.netns) end
  if not ns and header.netns then
    local other <const> = netlink.ns.open(header.netns)
    if other and cookie_of(other) == header.cookie then return sandbox_of(other, header.netns) end
  end
end

-- Take a record back and forget it. On failure it stays, for a later try.
local function undo_record(record, ns, req)
  local header = record.header
  record:note_leaving()
  local plan = plans.new("undo", {
    owner = { network = header.network, id = header.id, ifname = header.ifname },
    pod = its_sandbox(record, ns), record = record, request = req,
  })
  plan.steps = record.steps
  local errors = plan:undo()
  plan:close()
  if #errors == 0 then record:remove() end
  return errors
end

-- Whether the ADD of a record was answered and no DEL has begun to take it back.
local function is_whole(record)
  return record.done and not record.leaving
end

-- Whether the attachment that a record is of is there: not what a dead ADD or DEL has left, and not of
-- a namespace that was replaced.
local function is_live(record, cookie)
  return is_whole(record) and record.header.cookie == cookie
end

local function clear_debris(book, cookie)
  for _, record in ipairs(book:living()) do
    if not is_live(record, cookie) then
      local errors = undo_record(record, nil, nil)
      if #errors > 0 then error(joined(errors), 0) end
    end
  end
end

local function already(req)
  fail.throw {
    code = fail.codes.internal,
    msg = ("%s of container %s is already attached to network %s"):format(req.ifname,
      req.container_id, req.network),
    hint = "a second ADD needs a DEL first",
  }
end

-- Clear what dead ADDs and replaced namespaces have left of this attachment, and begin a record.
local function claim(req, plugin_type, cookie, book, alone)
  clear_debris(book, cookie)
  if not req.prev and #book:living() > 0 then already(req) end
  if not alone then
    for found in book:others(plugin_type) do
      local other <close> = found
      clear_debris(other, cookie)
    end
  end
  return book:begin {
    network = req.network, id = req.container_id, ifname = req.ifname, type = plugin_type,
    digest = journal.digest(req.raw), netns = req.netns, cookie = cookie, config = req.stdin,
    args = req.args, path = req.path,
  }
end

-- The plugin's answer as a result: objects become entries, behind what the chain has so far, or
-- instead of it if the answer says so.
local function result_of(req, answer, plugin)
  if answer == nil or answer == req.prev then return req.prev or {} end
  local so_far = not plugin.ipam and not answer.instead and req.prev
  local result = so_far and require("cni.result").copy(so_far) or {}
  for _, key in ipairs { "interfaces", "ips", "routes" } do result[key] = result[key] or {} end
  result.dns = answer.dns or result.dns
  local entry, own = {}, nil
  for _, link in ipairs(answer.interfaces or {}) do
    local copy = { name = link.name, mac = link.mac, sandbox = link.sandbox,
      socketPath = link.socketPath, pciID = link.pciID }
    result.interfaces[#result.interfaces + 1] = copy
    entry[link] = copy
    if link.sandbox and (not own or link.name == req.ifname) then own = copy end
  end
  for _, ip in ipairs(answer.ips or {}) do
    result.ips[#result.ips + 1] = { address = ip.address, gateway = ip.gateway,
      interface = entry[ip.interface] or own }
  end
  for _, route in ipairs(answer.routes or {}) do result.routes[#result.routes + 1] = route end
  return result
end

-- One try of an ADD: the text to print; or nil and the error, everything taken back or the error
-- saying that it is not.
local function attempt(req, plugin, ns, book, alone)
  local record = claim(req, plugin.type, cookie_of(ns), book, alone)
  local plan = new_plan("apply", req, ns, record)
  local ok, answer = xpcall(function()
    local given = plugin.add(req)
    plan:flush()
    local text = require("cni.result").render(result_of(req, given, plugin), req.version)
    record:finish()
    return text
  end, fail.wrap)
  if ok then
    plan:close()
    return answer
  end
  answer = fail.wrap(answer)
  local errors = plan:undo()
  plan:close()
  if #errors == 0 then
    record:remove()
  else
    local more = ("taking it back failed too: %s"):format(joined(errors))
    answer.details = answer.details and answer.details .. "; " .. more or more
    answer.retry = nil
    -- "Unknown container" would tell the runtime that there is nothing to clean up.
    if answer.code == fail.codes.unknown_container then answer.code = fail.codes.internal end
  end
  return nil, answer
end

-- What ADD and CHECK need: the namespace (an IPAM plugin can do without it) and a request with
-- everything in it.
local function prepare(req, plugin)
  local ns, why = open_namespace(req, req.netns)
  if not ns and not plugin.ipam then
    fail.throw { code = fail.codes.netns,
      msg = ("failed to open netns %q: %s"):format(req.netns, why) }
  end
  read_conf(req, plugin)
  read_prev(req)
  return ns
end

--- ADD.
-- @tparam table req the request
-- @tparam table plugin what the script returned
-- @treturn string the result, as it is to be printed
function M.add(req, plugin)
  local ns = prepare(req, plugin)
  local book <close>, alone = journal.open(owner_of(req), plugin.type)
  local text, err
  for _ = 1, 4 do
    text, err = attempt(req, plugin, ns, book, alone)
    if text then return text end
    if not err.retry then break end
    read_conf(req, plugin) -- a script may have filled in what it was given
  end
  error(err, 0)
end

-- Steps for links, which another network's attachment of the same container may have made.
local of_links = { link = true, set = true, addr = true, route = true, tap = true, move = true,
  enslave = true }

-- Without a record: what `add` would make is taken back, by name and by owner. A configuration
-- that `add` refuses has made nothing; an IPAM script's `del` can do without a good one.
local function erase(req, plugin, ns)
  local plan = new_plan("erase", req, ns, nil)
  local ok, err = pcall(function()
    local valid = pcall(read_conf, req, plugin)
    if plugin.del then return plugin.del(req) end
    if valid and pcall(read_prev, req) then pcall(plugin.add, req) end
  end)
  local elsewhere = journal.elsewhere(owner_of(req))
  for _, step in ipairs(plan.steps) do
    step.did = not (elsewhere and of_links[step.kind])
  end
  local errors = plan:undo()
  plan:close()
  if not ok then errors[#errors + 1] = fail.wrap(err) end
  if #errors > 0 then error(joined(errors), 0) end
end

--- DEL. Prints nothing; absent is fine, and so is a second time.
function M.del(req, plugin)
  local ns = open_namespace(req, req.netns)
  local book <close> = journal.open(owner_of(req), plugin.type)
  local record, deleted = book:find(journal.digest(req.raw))
  if record then
    local errors = undo_record(record, ns, req)
    if #errors > 0 then error(joined(errors), 0) end
  elseif not deleted then
    erase(req, plugin, ns)
  end
end

--- CHECK. Prints nothing when all is as `add` would have it.
function M.check(req, plugin)
  local ns = prepare(req, plugin)
  local plan <const> = new_plan("verify", req, ns, nil)
  if plugin.check then return plugin.check(req) end
  plugin.add(req)
  local differences = plan:differences()
  plan:close()
  if #differences > 0 then
    fail.throw { msg = differences[1], details = table.concat(differences, "; ", 2) }
  end
end

--- A dry run of ADD.
-- @treturn table the steps in words
function M.dry_run(req, plugin)
  read_conf(req, plugin)
  local plan = new_plan("dry", req, nil, nil)
  plugin.add(req)
  local words = plan:words()
  plan:close()
  return words
end

-- A namespace is dead when its path is gone or names another one. A path of a process says nothing: the
-- process may be gone and the namespace still in use.
local function is_dead(header)
  if header.cookie == "" or not header.netns or header.netns:find("^/proc/") then return false end
  local ns = netlink.ns.open(header.netns)
  return not ns or cookie_of(ns) ~= header.cookie
end

--- GC: take back what belongs to no valid attachment, or to a namespace that is gone. Failures
-- do not stop it; they are reported together at the end.
function M.gc(req, plugin)
  local _, valid = request.valid_attachments(req)
  local errors = {}
  for found in journal.each(req.network, plugin.type) do
    local book <close> = found
    for _, record in ipairs(book:living()) do
      local header = record.header
      if not (is_whole(record) and valid[header.id .. "/" .. header.ifname]) or is_dead(header) then
        local failed = undo_record(record, nil, nil)
        table.move(failed, 1, #failed, #errors + 1, errors)
      end
    end
  end
  local ok, err = pcall(function()
    if plugin.gc then
      pcall(read_conf, req, plugin) -- what was leased is freed although the configuration has gone bad
      plugin.gc(req)
    elseif not plugin.ipam then
      require("cni.ipam").gc(req)
    end
  end)
  if not ok then errors[#errors + 1] = fail.wrap(err) end
  if #errors > 0 then error(joined(errors), 0) end
end

--- STATUS. Raises code 50 or 51 when an ADD could not be served.
function M.status(req, plugin)
  read_conf(req, plugin)
  if plugin.status then
    plugin.status(req)
  elseif not plugin.ipam then
    require("cni.ipam").status(req)
  end
end

return M
