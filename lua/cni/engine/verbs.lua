-- SPDX-License-Identifier: MIT
--- The verbs: what ADD, DEL, CHECK, GC and STATUS do with a plugin and the journal.
--
-- A plugin's `add` is run in a mode of the plan (cni.engine.plan): apply for ADD, verify for CHECK, erase
-- for a DEL that finds no record, dry for a dry run. A DEL that finds one takes the record back.
--
-- A record is the best witness of what was done, the kernel of what is there; a path or a name that a
-- caller gives is a hint. So:
--
--     whose      A record is for the namespace with its cookie, wherever that is by now, and for no
--                other, whatever the caller's path says (cni.record.sandbox).
--     debris     A record whose ADD was not answered, or which a DEL has begun to take back, in a book that
--                nobody holds. The next ADD, DEL or GC takes back what is there of it.
--     gone       The record of an answered ADD whose namespace is nowhere. It is treated as debris.
--     outlived   The record of an answered ADD whose namespace lives, while nothing that it made for
--                itself is there: neither link nor lease. Somebody else has done the DEL. Also as debris.
--     live       Any other record. A second ADD is refused, even with another namespace. Not so behind other
--                plugins: a chain may have a type twice. But when a type that makes no interface (`chained`)
--                is called again with the record's configuration, prevResult included, that replaces the
--                record: both may have one DEL.
--     renamed    A record of another network for the same container's interface, whose answer prevResult
--                repeats (name, MAC and sandbox of the interface): the network has got another name. A DEL
--                takes it back. When prevResult says otherwise, it is a stale DEL, and the record is left.
--     no record  A DEL takes back what its configuration would make, in the namespace that the caller
--                names; but nothing in there when another container's record is for it, or when the MAC of
--                its interface is not that of prevResult (cni.engine.erase).
--
-- None of this needs the script, which may be gone or broken: DEL and GC go by the record, and without one by
-- name, owner and prevResult. Steps that only a newer version of this program knows are left, and the log
-- says so.
--
-- @module cni.engine.verbs

local args = require "cni.engine.args"
local fail = require "cni.fail"
local journal = require "cni.record.journal"
local netlink = require "netlink"
local plans = require "cni.engine.plan"
local records = require "cni.engine.records"
local request = require "cni.protocol.request"
local sandbox = require "cni.record.sandbox"
local scripts = require "cni.engine.script"

local M = {}

-- The names that a request may have: fields, of which some are often absent, and verbs.
local names_of_req = { args = true, command = true, conf = true, container_id = true, environ = true,
  host = true, ifname = true, log = true, netns = true, network = true, node = true, path = true, plan = true,
  pod = true, prev = true, raw = true, runtime = true, stdin = true, time_left = true, type = true,
  version = true, watch = true, workload = true }
for name in next, (require "cni.engine.req") do names_of_req[name] = true end

--- Give a request what only the program has.
-- @tparam table req it gets the verbs of cni.engine.req, and
--   log, environ, time_left  of the program
--   deliver(text)            gives the answer to the caller, or raises
--   hooks(), load_hook(name) of the site, as of host
--   load_plugin(type)        our own IPAM script of a type, or nil
--   load_script(type, true)  the script of any type; with true the one that came with the program
--   near(word)               a hint: the type that was meant
-- @tparam table host the module of that name
-- @tparam[opt] table watch of cni.watch.call: takes note of the steps
function M.equip(req, host, watch)
  req.environ, req.time_left = host.environ, host.time_left
  req.hooks, req.load_hook = host.hooks, host.load_hook
  -- Among verbs it is called like one, too.
  req.log = function(text, more)
    if text == req then text = more end
    if type(text) ~= "string" and type(text) ~= "number" then
      args.refuse("req.log", nil, args.expected("a text", text), "tostring(value) makes one of anything")
    end
    host.log(text)
  end
  if watch and watch.records then
    req.watch = watch
    req.environ = function() return watch:environ() end
  end
  req.deliver = function(text)
    local ok, msg, errno = host.write(1, text)
    if not ok then
      fail.throw { code = fail.codes.io, msg = "give the caller the result: " .. msg, errno = errno }
    end
  end
  req.load_plugin = function(type_name)
    local script = scripts.load(host, req.command, type_name)
    if script and not script.ipam then
      fail.config("ipam.type", ("%s is no IPAM plugin"):format(type_name))
    end
    return script
  end
  req.load_script = function(type_name, builtin)
    return scripts.load(host, req.command, type_name, builtin)
  end
  req.near = function(type_name)
    local types = {}
    for i, entry in ipairs(host.types()) do types[i] = entry.name end
    return require("cni.protocol.hints").did_you_mean(type_name, types)
  end
  req.valid_attachments = request.valid_attachments
  for name, verb in next, (require "cni.engine.req") do req[name] = verb end
  for _, name in ipairs { "node", "workload" } do
    req[name] = setmetatable({}, { __index = function(facts, key)
      local real = require("cni.engine.facts")[name](req)
      setmetatable(facts, { __index = real })
      return real[key]
    end })
  end
  args.guard(req, "req", names_of_req, req)
end

-- The plugin with the site's hooks for this call round it. `lenient`: a hook that is not to be had is none.
local function with_hooks(req, plugin, lenient)
  local some, msg = req.hooks()
  if not (some or msg) then return plugin end
  local hooks = require "cni.engine.hooks"
  local ok, names = pcall(hooks.names, req)
  if not ok and not lenient then error(names, 0) end
  if not ok then req.log("luacni: DEL goes without hooks: " .. tostring(names)) end
  return ok and hooks.around(req, plugin, names, lenient) or plugin
end

local function owner_of(req)
  return { network = req.network, id = req.container_id, ifname = req.ifname }
end

local function read_conf(req, plugin)
  scripts.read_args(plugin, req)
  if not plugin.conf then
    req.conf = req.raw
    return
  end
  req.conf = args.guard(require("cni.schema").read(plugin.conf, req.raw), "req.conf", plugin.conf.fields, req)
end

local function read_prev(req)
  if req.raw.prevResult ~= nil then
    req.prev = require("cni.protocol.result").parse(req.raw.prevResult, req.version)
  end
end

-- The namespace that the caller names, unless it is the one we run in. nil and why when there is none.
local function open_namespace(req)
  if not req.netns then return nil, "CNI_NETNS is not given" end
  local ns, msg = sandbox.open(req.netns)
  if not ns then return nil, msg end
  local own <close>, why, errno = netlink.ns.self()
  if not own then fail.throw { code = fail.codes.io, msg = why, errno = errno } end
  request.same_namespace(req, own:id(), ns:id())
  return ns
end

local function new_plan(mode, req, ns, record)
  local planned = mode == "dry" and { absent = true, sandbox = req.netns } or nil
  local plan = plans.new(mode, {
    owner = owner_of(req), pod = records.place(ns, req.netns) or planned, record = record, prev = req.prev,
    request = req,
  })
  req.plan, req.host, req.pod = plan, plan.host, plan.pod
  return plan
end

-- What a script's `gc` and `status` look by: there is no attachment, and no sandbox. Close it.
local function look(req)
  local plan = new_plan("look", req, nil, nil)
  req.pod = nil
  return plan
end

-- An ADD looks for a link to lend. When the record of a dead ADD, or of a sandbox that is gone, has borrowed
-- it, that record is taken back first. True: there was such a record.
local function reclaim(req, wanted, link)
  local lent, errors, found = require("cni.step.move").lent, {}, false
  for idle in journal.with_step "move" do
    local book <close> = idle
    for _, record in ipairs(book:living()) do
      local is_for = false
      for _, step in ipairs(record.steps) do
        is_for = is_for or step.kind == "move" and step.did and lent(step, wanted, link)
      end
      if is_for and not (record:is_whole() and sandbox.find(record.header)) then
        found = true
        local failed = records.undo(record, nil, req)
        table.move(failed, 1, #failed, #errors + 1, errors)
      end
    end
  end
  if #errors > 0 then error(fail.join(errors), 0) end
  return found
end

-- Seconds that a call may spend on tidying up what is not its own.
local patience <const> = 1

-- Other programs work on the network too, such as the reference plugins: take back the records of attachments
-- that they have deleted. What fails, or takes too long, is left to the next time.
local function sweep(req)
  local late = netlink.sys.clock() + patience
  for found in journal.each(req.network) do
    local book <close> = found
    if found then pcall(records.settle, book, req) end
    for _, record in ipairs(found and book:living() or {}) do
      local ok, stale = pcall(records.is_stale, record)
      if ok and stale then pcall(records.undo, record, nil, req) end
    end
    if netlink.sys.clock() > late then return end
  end
end

-- Take back what an earlier call has left, before this one begins.
local function take_back(record, caller, req)
  local errors = records.undo(record, caller, req)
  if #errors == 0 then return end
  local err = fail.join(errors)
  err.msg = ("%s of container %s was attached before, and that cannot be taken back: %s"):format(
    record.header.ifname, record.header.id, err.msg)
  error(err, 0)
end

-- Take back the records in a book that are not live. Returns those that are, or that this call has begun: a
-- chain in one process may have the type twice.
local function clear_debris(book, caller, req)
  local live = {}
  for _, record in ipairs(book:living()) do
    if record.is_begun_here or records.is_live(record, caller) then
      live[#live + 1] = record
    else
      take_back(record, caller, req)
    end
  end
  return live
end

local function already(req, record)
  fail.throw {
    code = fail.codes.internal,
    msg = ("%s of container %s is already attached to network %s"):format(req.ifname,
      req.container_id, req.network),
    details = "in " .. (record.header.netns or "no namespace"),
    hint = "delete this attachment before it is added anew",
  }
end

-- Whether a record has nothing but leases in other directories than the request's: an IPAM plugin that is
-- given another directory does not see them.
local function leased_elsewhere(record, req)
  local place = require("cni.leases").place(req.raw)
  for _, step in ipairs(record.steps) do
    local want = step.want
    if step.kind ~= "lease" or want.dir == place.dir and want.network == place.network then return false end
  end
  return true
end

-- Clear what dead ADDs and sandboxes that are gone have left of this attachment, and begin a record.
local function claim(req, plugin, ns, book, alone)
  local caller = { ns = ns }
  local cookie, id, mnt = sandbox.identity(ns)
  for _, record in ipairs(clear_debris(book, caller, req)) do
    -- A chain may have the type again, in the same sandbox.
    local again = req.prev and record.header.cookie == cookie
    if again and plugin.chained and record.header.config == req.stdin and not record.is_begun_here then
      take_back(record, caller, req)
    elseif not again and not (plugin.ipam and leased_elsewhere(record, req)) then
      already(req, record)
    end
  end
  if not alone then
    for found in book:others(plugin.type) do
      local other <close> = found
      -- What this chain has made so far stands: its first plugin has looked at what was there before.
      if not (req.prev and other:is_settled(cookie)) then
        records.settle(other, req)
        clear_debris(other, caller, req)
      end
    end
  end
  local record = book:begin {
    network = req.network, id = req.container_id, ifname = req.ifname, type = plugin.type,
    digest = journal.digest(req.raw), netns = req.netns, cookie = cookie, ns = id, mnt = mnt,
    config = req.stdin, args = request.args_text(req), path = req.path, chain = req.chain,
  }
  record.is_begun_here = true
  return record
end

-- The plugin's answer as a result: objects become entries, behind what the chain has so far, or
-- instead of it if the answer says so.
local function result_of(req, answer, plugin)
  if answer == nil or answer == req.prev then return req.prev or {} end
  local so_far = not plugin.ipam and not answer.instead and req.prev
  local result = so_far and require("cni.protocol.result").copy(so_far) or {}
  for _, key in ipairs { "interfaces", "ips", "routes" } do result[key] = result[key] or {} end
  result.dns = answer.dns or result.dns
  local entry, own = {}, nil
  local newest = request.at_least(req.version, "1.1.0")
  for _, link in ipairs(answer.interfaces or {}) do
    local copy = { name = link.name, mac = link.mac, sandbox = link.sandbox,
      socketPath = newest and link.socketPath or nil, pciID = newest and link.pciID or nil }
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

-- One try of an ADD. Returns nil when the caller has its answer; or the error: then everything is taken back,
-- or the error says that it is not. The record is finished before the answer is given: a call that is killed
-- right after its answer must not look like debris. An answer that cannot be given makes the ADD fail.
local function attempt(req, plugin, ns, book, alone)
  local record = claim(req, plugin, ns, book, alone)
  local plan = new_plan("apply", req, ns, record)
  record.steps = plan.steps -- for a part of the same chain and type
  plan.reclaim = function(wanted, link) return reclaim(req, wanted, link) end
  local ok, err = xpcall(function()
    local given = scripts.add(plugin, req)
    plan:flush()
    local result = result_of(req, given, plugin)
    local text = require("cni.protocol.result").render(result, req.version)
    local outline = require("cni.engine.outline").of(result)
    if req.go_on then return req.go_on(text, function() record:finish(outline) end) end
    record:finish(outline)
    req.deliver(text)
  end, fail.wrap)
  if ok then
    plan:close()
    return nil
  end
  err = fail.wrap(err)
  record:note_leaving()
  local errors = plan:undo()
  plan:close()
  if #errors == 0 then
    record:remove()
  else
    local more = ("taking it back failed too: %s"):format(fail.join(errors))
    err.details = err.details and err.details .. "; " .. more or more
    err.retry = nil
    -- "Unknown container" would tell the runtime that there is nothing to clean up.
    if err.code == fail.codes.unknown_container then err.code = fail.codes.internal end
  end
  return err
end

-- What ADD and CHECK need: the namespace (an IPAM plugin can do without it) and a request with
-- everything in it.
local function prepare(req, plugin)
  read_conf(req, plugin)
  read_prev(req)
  local ns, why = open_namespace(req)
  if not ns and not plugin.ipam then
    fail.throw { code = fail.codes.netns,
      msg = ("failed to open netns %q: %s"):format(req.netns, why) }
  end
  return ns
end

-- The book of a call, and what is to be closed behind it: a chain in one process keeps its parts' books.
local function open_book(req, plugin)
  local kept = req.books and req.books[plugin.type]
  if kept then return kept, req.alone[plugin.type], nil end
  local book, alone = journal.open(owner_of(req), plugin.type)
  return book, alone, book
end

--- Before a chain in one process is added: take back what a part of it has left that was killed.
-- @tparam table req the request, of the whole chain
-- @tparam Book book the part's, open
function M.clear(req, book)
  if not book:living()[1] then return end
  records.settle(book, req)
  clear_debris(book, { ns = open_namespace(req) }, req)
end

--- ADD. The result has been given to the caller when it returns.
-- @tparam table req the request; in a chain in one process with `books` and `alone`, by type, as of
-- cni.record.journal.open_all: they are not closed; with `chain` for the record, and `go_on(text, commit)`,
-- which is given the result instead, and does what comes behind: the attachment counts once it has called
-- `commit`
-- @tparam table plugin what the script returned
function M.add(req, plugin)
  plugin = with_hooks(req, plugin)
  local ns = prepare(req, plugin)
  if plugin.conf and plugin.conf.notes then
    for _, note in ipairs(require("cni.schema").notes(plugin.conf, req.conf)) do
      req.log(("luacni: %s: %s"):format(plugin.type, note))
    end
  end
  local book, alone, opened = open_book(req, plugin)
  local _ <close> = opened
  local err
  records.settle(book, req)
  for _ = 1, 4 do
    err = attempt(req, plugin, ns, book, alone)
    if not err and req.plan.foreign then pcall(sweep, req) end
    if not err then return end
    if not err.retry then break end
    read_conf(req, plugin) -- the script may have written into its req.conf
  end
  error(err, 0)
end

-- Whether a plugin is called for the addresses alone.
local function is_ipam(req, plugin)
  local loads, ipam = pcall(function() return plugin.ipam end)
  local named = req.raw.ipam
  return loads and ipam or type(named) == "table" and named.type == plugin.type
end

local function leaves_something(plan)
  local steps = {}
  for _, step in ipairs(plan.steps) do
    if plans.kind_of(step).telling then steps[#steps + 1] = step end
  end
  return #steps > 0 and plan:stands(steps)
end

-- A DEL without a record: take back what `add` would make, by name and by owner, and what the reference
-- plugins have made, which write no records.
local function erase(req, plugin, ns)
  plugin = with_hooks(req, plugin, true)
  local plan = new_plan("erase", req, ns, nil)
  local shared = journal.elsewhere(owner_of(req))
  local ok, err = pcall(require("cni.engine.erase").find, req, plugin, shared)
  local told, strange = pcall(leaves_something, plan)
  local errors = plan:undo()
  if #errors == 0 and not is_ipam(req, plugin) then
    local leftovers, place = require "cni.reference.leftovers", require("cni.leases").place(req.raw)
    local cleared, why = pcall(leftovers.clear, plan, place)
    if not cleared then errors[1] = fail.wrap(why) end
  end
  plan:close()
  if not ok then errors[#errors + 1] = fail.wrap(err) end
  if #errors > 0 then error(fail.join(errors), 0) end
  if told and strange then pcall(sweep, req) end
end

-- The namespace that a DEL names; or nil and the error, when that cannot be told: a DEL that finds a record
-- may not need it.
local function caller_of(req)
  local ok, ns = pcall(open_namespace, req)
  if ok then return ns end
  local problem = fail.wrap(ns)
  if problem.code == fail.codes.netns then error(problem, 0) end
  return nil, problem
end

-- The namespace that a DEL without a record names; nil when it is the sandbox of another container: because
-- that one has a record for it, or because the interface has another MAC than prevResult says.
local function its_own(req, ns)
  if not ns or journal.occupied(sandbox.cookie(ns), req.container_id) then return nil end
  local entry = require("cni.engine.erase").reported(req.prev, req.ifname)
  if not entry or (entry.mac or "") == "" then return ns end
  local socket <close>, why, errno = netlink.open(ns)
  if not socket then fail.kernel("open netlink in the sandbox", why, errno) end
  local link
  link, why, errno = socket:get("link", { name = req.ifname }, { "mac" })
  if errno then fail.kernel("look up link " .. req.ifname, why, errno) end
  return (not link or link.mac == entry.mac:lower()) and ns or nil
end

-- Take back the record that the network had under another name. False: there is none.
local function undo_renamed(req, plugin, caller)
  for found in journal.namesakes(owner_of(req), plugin.type) do
    local book <close> = found
    local record = book:find(journal.digest(req.raw))
    if record and require("cni.engine.outline").is_reported(record, req) then
      local errors = records.undo(record, caller, req, true)
      if #errors > 0 then error(fail.join(errors), 0) end
      return true
    end
  end
  return false
end

--- DEL. Prints nothing; absent is fine, and so is a second time.
-- @tparam table req the request
-- @tparam table plugin what the script returned
function M.del(req, plugin)
  local ns, problem = caller_of(req)
  local book <close> = journal.open(owner_of(req), plugin.type)
  local caller = { ns = ns, problem = problem }
  records.settle(book, req, caller)
  local record, deleted = book:find(journal.digest(req.raw))
  local missed
  if record then
    local errors
    local whole = record:is_whole()
    errors, missed = records.undo(record, caller, req, true)
    for _, other in ipairs(book:living()) do
      local more = other.replaced and records.undo(other, caller, req, true) or {}
      table.move(more, 1, #more, #errors + 1, errors)
    end
    if #errors > 0 then error(fail.join(errors), 0) end
    -- Somebody else may have made it anew; or the record has lost a part.
    missed = book.damaged or missed and whole and ns and #book:living() == 0
  end
  if missed or not record and not deleted then
    pcall(read_prev, req) -- what cannot be read tells nothing
    if not record and undo_renamed(req, plugin, caller) then return end
    if problem then error(problem, 0) end
    erase(req, plugin, its_own(req, ns))
  end
end

-- A function that gives the ADD's record, to those few steps of a CHECK that ask; it is looked up once.
local function recorded(req, plugin)
  local looked, record = false, nil
  return function()
    if not looked then
      looked, record = true, journal.peek(owner_of(req), plugin.type, journal.digest(req.raw))
    end
    return record
  end
end

--- CHECK. Prints nothing when all is as `add` would have it.
-- @tparam table req the request
-- @tparam table plugin what the script returned
function M.check(req, plugin)
  plugin = with_hooks(req, plugin)
  local sound, ns = pcall(prepare, req, plugin)
  local bad_args = not sound and fail.wrap(ns)
  if bad_args and bad_args.code ~= fail.codes.env then error(bad_args, 0) end
  if bad_args then ns = caller_of(req) end
  local plan <const> = new_plan("verify", req, ns, nil)
  plan.past = recorded(req, plugin)
  local ok, err = pcall(function()
    if bad_args then error(bad_args, 0) end
    if plugin.check then return scripts.call(plugin, "check", req) end
    scripts.add(plugin, req)
    local differences = plan:differences()
    if #differences > 0 then
      fail.throw { msg = differences[1], details = table.concat(differences, "; ", 2) }
    end
  end)
  local is_conf = fail.is(err) and err.code == fail.codes.config
  if not ok and not plugin.ipam and not is_conf and not fail.of_system(err) then
    err = require("cni.engine.unattached").error(req, plan, ns, plan:past()) or err
  end
  plan:close()
  if not ok then error(err, 0) end
end

--- What an ADD would ask for now, of what is attached already: for cni.engine.update.
-- @tparam table req the request, an ADD's
-- @tparam table plugin what the script returned
-- @tparam ?ns ns the sandbox
-- @tparam ?Record record of what is attached; nil: this plugin is new in the chain
-- @treturn table the plan, whose steps are what it asks for
-- @treturn table the result of the chain
function M.wanted(req, plugin, ns, record)
  plugin = with_hooks(req, plugin)
  read_conf(req, plugin)
  read_prev(req)
  local plan = new_plan("update", req, ns, nil)
  plan.past = function() return record end
  local ok, given = pcall(scripts.add, plugin, req)
  if ok then
    -- Of what is there already nothing will tell the MAC.
    for _, step in ipairs(plan.steps) do
      local link = step.object and plan[step.ns]:link(step.object.name, { "mac" })
      if link then step.object.mac = link.mac end
    end
    return plan, result_of(req, given, plugin)
  end
  plan:close()
  error(given, 0)
end

-- In a dry run, links that the plugins before would have made are found, as far as the result so far tells.
local function foresee_links(req)
  for _, entry in ipairs(req.prev and req.prev.interfaces or {}) do
    local h = (entry.sandbox or "") ~= "" and req.pod or req.host
    h.planned[entry.name] = { name = entry.name, mac = entry.mac, sandbox = entry.sandbox }
  end
end

--- A dry run of ADD.
-- @tparam table req the request
-- @tparam table plugin what the script returned
-- @tparam[opt] table made the links that the chain would have made by now, as of cni.engine.lacks; those of
-- this plugin come to it
-- @treturn {string,...} the steps in words
-- @treturn ?string what the ADD would answer, for a dry run of the next plugin in the chain; nil when that
-- cannot be told
-- @treturn {fail,...} with `made`: what the ADD would say of links that are not there
-- @treturn {fail,...} with `made`: links that two plugins would make
function M.dry_run(req, plugin, made)
  plugin = with_hooks(req, plugin)
  read_conf(req, plugin)
  read_prev(req)
  local plan = new_plan("dry", req, nil, nil)
  foresee_links(req)
  local given = scripts.add(plugin, req)
  local words = plan:words()
  local ok, text = pcall(function()
    return require("cni.protocol.result").render(result_of(req, given, plugin), req.version)
  end)
  local lacks = made and require "cni.engine.lacks"
  local twice = lacks and lacks.twice(plan, made) or {}
  local lacking = lacks and lacks.links(plan, made) or {}
  plan:close()
  return words, ok and text or nil, lacking, twice
end

local function is_valid(record, valid)
  return valid[record.header.id .. "/" .. record.header.ifname] ~= nil
end

-- Whether GC takes a record back. A valid attachment stays when it cannot be told whether it is stale.
local function is_to_go(record, valid)
  if not is_valid(record, valid) then return true end
  local ok, stale = pcall(records.is_stale, record)
  return ok and stale
end

--- GC: take back what belongs to no valid attachment, or to a namespace that is gone. Failures
-- do not stop it; they are reported together at the end.
-- @tparam table req the request
-- @tparam table plugin what the script returned
function M.gc(req, plugin)
  local _, valid = request.valid_attachments(req)
  local errors, batch = {}, require("cni.links.batch").new()
  local function collect(failed) table.move(failed, 1, #failed, #errors + 1, errors) end
  for found, unreadable in journal.each(req.network, plugin.type) do
    if not found then errors[#errors + 1] = unreadable end
    batch:start(function()
      local book <close> = found
      local newest = book and book:living()[1]
      if newest and is_valid(newest, valid) then
        local settled, why = pcall(records.settle, book, req)
        if not settled then collect { fail.wrap(why) } end
      end
      for _, record in ipairs(book and book:living() or {}) do
        if is_to_go(record, valid) then
          collect(records.undo(record, nil, req, false, batch))
        end
      end
    end)
  end
  collect(batch:finish())
  local _ <close> = look(req)
  local ok, err = pcall(function()
    local loads, why = fail.try(function() return plugin.gc end)
    if not loads then
      req.log(("luacni: GC goes without the script of %s: %s"):format(plugin.type, tostring(why)))
    end
    -- What could not be taken back may still have its address.
    if #errors > 0 then return end
    if loads and plugin.gc then
      -- Leases are freed even when the configuration has gone bad.
      pcall(scripts.bounded, read_conf, req, plugin)
      scripts.call(plugin, "gc", req)
    elseif not loads or not plugin.ipam then
      require("cni.ipam").gc(req)
    end
  end)
  if not ok then errors[#errors + 1] = fail.wrap(err) end
  if #errors > 0 then error(fail.join(errors), 0) end
end

--- STATUS. Raises code 50 or 51 when an ADD could not be served.
-- @tparam table req the request
-- @tparam table plugin what the script returned
function M.status(req, plugin)
  local ok, err = pcall(read_conf, req, plugin)
  if not ok then
    -- What it lacks a hook may add.
    if not req.hooks() then error(err, 0) end
    req.conf = require("cni.schema").salvage(plugin.conf, req.raw)
  end
  local _ <close> = look(req)
  if plugin.status then
    scripts.call(plugin, "status", req)
  elseif not plugin.ipam then
    require("cni.ipam").status(req)
  end
end

return M
