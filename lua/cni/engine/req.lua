-- SPDX-License-Identifier: MIT
--- What a script can ask of `req` itself, as it asks its handles for links: addresses, the work of another
-- type, a value that is decided once, a number that goes with a key, a program. Like theirs, these verbs are
-- written down, and taken back.
--
-- Beside them a request has:
--
--     host, pod               handles on the two namespaces: `luacni doc handle`. In GC and STATUS pod is
--                             nil, and the verbs of host that change something, as those of req, are refused:
--                             nothing is attached there
--     conf                    the configuration as the script's `conf` reads it; without one as `raw`
--     raw                     the configuration as it was given, decoded
--     command                 ADD, CHECK, DEL, GC or STATUS: what is for the ADD alone, such as who may
--                             have an attachment, asks it
--     network                 the name of the network
--     container_id, ifname    of the attachment, as the runtime calls them; nil in GC and STATUS
--     netns                   the path of the sandbox; nil where the runtime gave none
--     version                 of the protocol, such as 1.0.0
--     args                    CNI_ARGS as the script's `args` reads it; without one as text, or nil
--     runtime                 what the runtime gave for capabilities, by their names
--     prev                    the result that the chain has so far; nil in the first plugin of one
--     node                    of the node, asked for when it is read: `name`, its host name; `uplink`
--                             and `uplink6`, the link of the default route of IPv4 and of IPv6, or nil;
--                             `links { name =, altname =, driver =, subnet = }`, a method: the links that
--                             have all of these, in a list. `*` in a text is anything, `?` one character;
--                             a list has several, of which one is enough; `subnet` that of an address
--     workload                whose attachment it is, as far as the runtime tells: `name`, `namespace`,
--                             `uid` (the pod's; nil: not told), `annotations`, `labels` and `args` (all of
--                             CNI_ARGS), tables of texts by their names. Whoever may make a pod has written
--                             them: they are texts, and nothing more is sure
--     log                     a function that prints a line to standard error
--     valid_attachments       a method for GC: the list that the runtime gave, and the same as a set
--
-- What `add` returns is the result: `interfaces` (links), `ips` (`address`, `gateway`, `interface`: one of
-- those links), `routes`, `dns`. In a chain it comes behind what that has so far; with `instead = true` it
-- stands in its place. To change what the chain has, change `req.prev` and return that. nil leaves it.
--
-- @module cni.engine.req

local args = require "cni.engine.args"
local changing = require "cni.engine.changes"
local fail = require "cni.fail"
local json = require "cni.json"
local once = require "cni.step.once"
local scripts = require "cni.engine.script"
local web = require "cni.engine.web"

local M = {}

local request, optional = { nil, args.request }, args.optional

local function pool_name(value)
  if type(value) == "string" and #value <= 60 and value:find "^%w[%w._-]*$" then return value end
  return nil, args.expected("a name of letters, digits, and . _ - behind the first", value)
end

local function text(value)
  if value == "" then return nil, "is empty" end
  return args.string(value)
end

local function directory_name(value)
  if type(value) ~= "string" then return args.string(value) end
  if require("cni.names").is_id(value) then return value end
  return nil, ("%q cannot be the name of a directory: it has letters, digits, and . _ - behind the first")
    :format(value)
end

-- A part of a verb's argument that a script gets from a function, and does not write itself.
local function as_given(read, by)
  return function(value, self)
    local out, problem, at = read(value, self)
    return out, problem and ("%s (it is to be as %s gives it)"):format(problem, by), at
  end
end

local range = args.record({ subnet = args.network, first = args.ip, last = args.ip, gateway = args.ip },
  { required = { "subnet", "first", "last" } })

local read_sets = args.record({ dir = args.folder, network = directory_name,
  sets = as_given(args.list(args.list(range)), "ranges.read"), requested = args.list(args.ip),
}, { required = { "dir", "network", "sets" } })

local read_blocks = args.record({ dir = args.folder, network = directory_name,
  requested = args.list(args.ip), blocks = args.absolute, lock = args.absolute, root = args.absolute,
  settings = args.table,
}, { required = { "dir", "network", "blocks", "lock", "root", "settings" } })

local function read_spec(value, self)
  if type(value) == "table" and value.blocks then
    return as_given(read_blocks, "cluster_pool.spec")(value, self)
  end
  return read_sets(value, self)
end

-- A DEL without a record goes by the place alone; and where no place can be, nothing was leased.
local function a_spec(value, self)
  local spec, problem, at = read_spec(value, self)
  if not problem or self.plan.mode ~= "erase" then return spec, problem, at end
  return type(value) == "table" and { dir = value.dir, network = value.network } or {}
end

local function a_type(value)
  if type(value) ~= "string" then return args.string(value) end
  if require("cni.names").is_id(value) then return value end
  return nil, ("%q is not the name of a plugin"):format(value)
end

local number = args.integer(0, 0xffffffff)

-- A reader for a call, with its own keys and those in `more`.
local function a_call(more, options)
  local fields = { program = args.absolute, args = args.list(args.string), stdin = args.string,
    ns = args.handle, timeout = args.number(0, 86400, "seconds") }
  for key, read in next, more or {} do fields[key] = read end
  return args.record(fields, options)
end

local takes = {
  lease = args.call("req:lease", request, { nil, a_spec }),
  once = args.call("req:once", request, { "name", args.string }, { "decide", args.func }),
  number = args.call("req:number", request, { "pool", pool_name }, { "key", text }, { "min", number },
    { "max", number }),
  call = args.call("req:call", request, { nil,
    a_call({ undo = a_call(), check = a_call() }, { required = { "program" } }) }),
  http = args.call("req:http", request, { nil, web.request({ undo = web.request(), check = web.request() },
    { "url" }) }),
  delegate = args.call("req:delegate", request, { "type", a_type }, { "changes", optional(args.table) },
    { "whole", optional(args.boolean) }),
}

--- Addresses from a lease directory of this machine, one of each range set: all or none.
--
--     local sets = ranges.read { { where = "pool", sets = { { { subnet = req.conf.pool } } } } }
--     local ips = req:lease { dir = "/var/lib/cni/tenants", network = req.conf.tenant, sets = sets }
--
-- An attachment may lease several times, in one directory too, but no two addresses of the same set. DEL, GC
-- and rollback give back what this call took.
-- @tparam table req
-- @tparam table spec
--
-- - `dir`: the data directory, an absolute path
-- - `network`: the directory in it: letters, digits, and . _ - behind the first
-- - `sets`: range sets, as `read` or `of` of `cni.ranges` gives them; `spec` of `cni.cluster_pool` gives a
-- table with `blocks` and others in its place
-- - `requested`: addresses asked for by name, a list; each lies in another set
-- @treturn {table,...} `address` with its prefix length, and `gateway`, a set each; in CHECK what the ADD
-- took, in a DEL without a record what is found
function M.lease(req, spec)
  req, spec = takes.lease(req, spec)
  return args.at_once(req.plan, "req:lease", require("cni.step.lease").obtain, req.plan, spec)
end

--- A value that is decided once, by the ADD: its CHECK is given the same one, whatever has changed since.
--
--     local mtu = req:once("mtu", function()
--       local uplink = req.host:default_link() or fail.throw "this node has no default route"
--       return uplink.mtu
--     end)
--
-- @tparam table req
-- @tparam string name what the script calls it; the same name gives the same value
-- @tparam function decide gives the value: a string, number, boolean, or a table of such. It is called by
-- an ADD, and wherever no ADD has written a value down: in a dry run, in a DEL that finds no record, in the
-- CHECK of what an older script has attached.
-- @return the value
function M.once(req, name, decide)
  req, name, decide = takes.once(req, name, decide)
  local plan = req.plan
  local of = plan.by and "hook " .. plan.by or req.type
  args.may_change(plan, "req:once")
  local found, value = once.find(plan.steps, of, name)
  if not found and plan.past then
    local record = plan:past()
    found, value = once.find(record and record.steps or {}, of, name)
  end
  if found then return value end
  value = decide()
  local problem, at = once.problem(value, args.object_of_ours)
  if problem then args.refuse("req:once", at and name .. at or name, problem) end
  return once.keep(plan, of, name, value)
end

--- A number that goes with a key, such as the VLAN of a tenant.
--
--     local vid = req:number("vlans", req.conf.tenant, 100, 199)
--
-- All attachments of the host that name the key are given the same number; it is free for another key when
-- the last of them is gone. CHECK and DEL are given the one that the ADD took.
-- @tparam table req
-- @tparam string pool what the numbers are of; pools know nothing of each other
-- @tparam string key
-- @tparam int min
-- @tparam int max
-- @treturn int the key's number, else the lowest from `min` to `max` that no key has
-- @raise when all are taken; when the key has one that is not from `min` to `max`; in CHECK when the
-- attachment has none
function M.number(req, pool, key, min, max)
  req, pool, key, min, max = takes.number(req, pool, key, min, max)
  if min > max then args.refuse("req:number", "max", ("%d is below min, %d"):format(max, min)) end
  return args.at_once(req.plan, "req:number", require("cni.step.number").obtain, req.plan, { pool = pool,
    key = key, min = min, max = max, group = req.host:group("number." .. pool) })
end

--- Run a program, without a shell. It is written down before it runs, and ended at its deadline with all that
-- it has started.
--
--     local text = req:call { program = "/usr/bin/ipam-client", args = { "get", req.container_id },
--       undo = { args = { "put" } } }
--
-- Steps that are pending are done before. The program finds CNI_COMMAND (ADD; CHECK for `check`, DEL for
-- `undo`), CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS, CNI_ARGS and LUACNI_NETWORK in its environment. An exit
-- status that is not 0 is an error, with what it said.
-- @tparam table req
-- @tparam table what
--
-- - `program`: absolute path
-- - `args`: list of strings
-- - `stdin`: text
-- - `timeout`: seconds (10)
-- - `ns`: the handle of the namespace that it runs in (`req.host`). An `undo` in a sandbox that is gone is
--   not run, which is logged
-- - `undo`: the call that takes it back in DEL, GC and rollback, last of all. It has the same keys; its
--   `program` and `ns` are those of the first call unless it names others. Its `stdin` is what the first
--   call printed, if that came to an end. It must succeed also when there is nothing to take back: its error
--   is an error of the DEL, which is tried again. A program that has been removed is passed over
-- - `check`: the call that CHECK makes, with the same keys. Its error is what differs. Without it CHECK calls
--   nothing
-- @treturn string|nil what it printed; in CHECK what it printed then. nil where nothing was called: in a dry
-- run, and in a DEL that finds no record
function M.call(req, what)
  req, what = takes.call(req, what)
  local want = {}
  for _, key in ipairs { "call", "undo", "check" } do
    local one = what
    if key ~= "call" then one = what[key] end
    local ns = one ~= what and one and one.ns
    want[key] = one and { program = one.program or what.program, args = one.args, stdin = one.stdin,
      timeout = one.timeout or 10, ns = ns and ns.name or nil } or nil
  end
  return args.at_once(req.plan, "req:call", require("cni.step.call").obtain, req.plan,
    what.ns and what.ns.name or "host", want)
end

--- Ask a service by HTTP, with the program curl. Like a call it is written down before it is made, and taken
-- back.
--
--     local lease = req:http { socket = "/run/ipam.sock", url = "/addresses",
--       json = { owner = req.container_id }, undo = { url = "/addresses/{id}" } }
--     return { ips = lease and { { address = lease.json.address } } or {} }
--
-- Steps that are pending are done before. A status that is not 2xx is an error, with what the service says;
-- so is an answer of more than 64 KiB. Redirections are not followed. All that is given is in the record,
-- which only root can read, and none of it on curl's command line.
-- @tparam table req
-- @tparam table what
--
-- - `url`: begins with http:// or https://; with `socket`, the path of a unix socket, / and the rest will do
-- - `method`: by default GET, with a body POST
-- - `headers`: values by name
-- - `body`: text; or `json`: a value that is sent as JSON
-- - `timeout`: seconds (10)
-- - `accept`: a list of statuses that are no error either
-- - `ns`: the handle of the namespace that it is sent from (`req.host`). An `undo` from a sandbox that is
--   gone is not sent
-- - `undo`: the request that takes it back in DEL, GC and rollback, last of all, with the same keys. `url`,
--   `socket`, `headers`, `timeout` and `ns` are those of the first request unless it has its own; its
--   `method` is DELETE, and it accepts 404 and 410. In its `url` `{KEY}` is that member of the JSON that the
--   service answered. Where no answer is known (the ADD was killed before) such a request is not made: so
--   better let the service know the attachment by a name of yours
-- - `check`: the request that CHECK makes, likewise, with GET. Its error is what differs. Without it CHECK
--   asks nothing
-- @treturn table|nil `status`, `headers` (by name in small letters), `body`, and `json`: the body decoded,
-- where its type is JSON; in CHECK what was answered then. nil where nothing was asked: in a dry run, and in
-- a DEL that finds no record
function M.http(req, what)
  req, what = takes.http(req, what)
  local want = {}
  for key, method in next, { call = "GET", undo = "DELETE", check = "GET" } do
    local one = what
    if key ~= "call" then one = what[key] end
    if one then
      local problem
      want[key], problem = web.complete(one, key ~= "call" and what or nil, method)
      if problem then args.refuse("req:http", key ~= "call" and key .. ".url" or "url", problem) end
      want[key].ns = key ~= "call" and one.ns and one.ns.name or nil
    end
  end
  if want.call.url:find "[{}]" then
    args.refuse("req:http", "url", "{KEY} is of the answer, and there is none yet: write %7B and %7D")
  end
  if want.undo then want.undo.accept = want.undo.accept or { 404, 410 } end
  return args.at_once(req.plan, "req:http", require("cni.step.http").obtain, req.plan,
    what.ns and what.ns.name or "host", want)
end

-- Keys that say which call this is: they cannot be changed.
local fixed = { "cniVersion", "name", "type", "prevResult" }

local function check_changes(changes)
  if json.is_list(changes) then
    args.refuse("req:delegate", "changes", "a list is no table of configuration keys")
  end
  for _, key in ipairs(fixed) do
    if changes[key] ~= nil then
      args.refuse("req:delegate", "changes", key .. " cannot be changed: it says what the call is about")
    end
  end
end

-- What a runtime adds for one call.
local of_runtime = { "runtimeConfig", "cni.dev/valid-attachments", "cni.dev/attachments" }

-- Somebody's configuration in place of the caller's: as much as the runtime says stays.
local function in_place(raw, conf)
  local out = {}
  for key, value in next, conf do out[key] = value end
  for _, key in ipairs(fixed) do out[key] = raw[key] end
  for _, key in ipairs(of_runtime) do
    if raw[key] ~= nil then out[key] = raw[key] end
  end
  return out
end

local function is_object(value)
  return type(value) == "table" and not json.is_list(value)
end

-- Keys that are not read by the type itself, but by its caller, by its IPAM plugin or by a later plugin.
local for_others <const> = { ipam = true, dns = true, args = true, capabilities = true, runtimeConfig = true,
  ipMasq = true }

-- What is changed has to be something that the type reads. (The caller's own keys are its business.)
local function check_keys(script, changes)
  local fields = script.conf and script.conf.fields
  for key in next, fields and changes or {} do
    if not fields[key] and not for_others[key] then
      local names = {}
      for name in next, fields do names[#names + 1] = name end
      args.refuse("req:delegate", "changes", args.unknown(key, names))
    end
  end
end

-- The script of a type. A site's script that asks for its own name gets the one that came with the program.
local function find_script(req, type_name)
  local within = req.within or { [req.type] = "site" }
  local before = within[type_name]
  req.plan.delegates = req.plan.delegates or {}
  table.insert(req.plan.delegates, type_name)
  local script = before ~= "builtin" and req.load_script(type_name, before ~= nil)
  if before and not script then
    fail.throw { msg = ("delegate: %s leads to itself"):format(type_name),
      details = "a script can delegate to its own name where that is a type that came with the program" }
  end
  within = setmetatable({ [type_name] = before and "builtin" or "site" }, { __index = within })
  return script, within
end

-- Call `own`, the `check` or `del` of a delegate's script, in place of comparing or taking back the steps of
-- its `add`. The `add` runs all the same, for its answer.
local function run_instead(req, add, own)
  local plan = req.plan
  local steps = table.move(plan.steps, 1, #plan.steps, 1, {})
  local ok, answer = pcall(add, req)
  plan.steps = steps
  if not ok and plan.mode ~= "erase" then error(answer, 0) end
  own(req)
  return ok and answer or {}
end

-- The configuration as a type reads it. When it refuses only what is changed of `base`, the script is to
-- blame that has changed it.
local function read_conf(script, req, base)
  local schema = require "cni.schema"
  if not script.conf then return req.raw end
  if req.plan.mode == "erase" then return scripts.bounded(schema.salvage, script.conf, req.raw) end
  local ok, conf = pcall(schema.read, script.conf, req.raw)
  if ok then return conf end
  conf = fail.wrap(conf)
  if base and pcall(schema.read, script.conf, base) then
    args.refuse("req:delegate", "changes", conf.msg, conf.hint)
  end
  error(conf, 0)
end

local function run_script(req, script, base)
  local mode = req.plan.mode
  scripts.read_args(script, req, mode == "erase")
  req.conf = read_conf(script, req, base)
  local own = mode == "verify" and script.check or mode == "erase" and script.del
  local function add(sub) return scripts.add(script, sub) end
  if own then return run_instead(req, add, own) end
  return add(req)
end

-- The answer with all its lists: a copy for the caller to change, or the chain's result itself if it is that.
local function opened(answer, prev)
  if answer == nil or answer == prev then
    answer = prev or {}
  else
    local copy = {}
    for key, value in next, answer do copy[key] = value end
    answer = require("cni.protocol.result").as_foreign(copy, answer)
  end
  for _, key in ipairs { "interfaces", "ips", "routes" } do answer[key] = answer[key] or {} end
  return answer
end

-- What a delegate is asked: its configuration, and whether it is for addresses.
local function asked(req, type_name, changes, whole)
  local raw = whole and in_place(req.raw, changes) or changing.merge(req.raw, changes)
  local function names(conf, type_of) return is_object(conf.ipam) and conf.ipam.type == type_of end
  -- It is for addresses when the caller is an IPAM plugin, or when its configuration has it as ipam.type. Any
  -- other type makes an interface.
  local for_addresses = names(req.raw, req.type) or not whole and names(raw, type_name)
  if for_addresses then
    raw.ipam = changing.merge(is_object(raw.ipam) and raw.ipam or {}, { type = type_name })
  else
    raw.type = type_name
  end
  local script, within = find_script(req, type_name)
  if script and script.ipam and not for_addresses and req.plan.mode ~= "erase" then
    fail.config("delegate", ("%s gives addresses, and makes no interface"):format(type_name),
      "ipam.type is for it")
  end
  return setmetatable({ type = type_name, raw = raw, stdin = json.compact(raw), changed = true,
    within = within }, { __index = req }), script, for_addresses
end

-- GC and STATUS: what the type does then, with its configuration.
local function relay(req, type_name, changes, whole)
  local sub, script, for_addresses = asked(req, type_name, changes, whole)
  local verb = req.command:lower()
  if not script then
    local foreign = require "cni.step.delegate"
    foreign.call(req.command, type_name, for_addresses and sub or foreign.as_interface(sub, req.type))
    return
  end
  local schema = require "cni.schema"
  scripts.read_args(script, sub, true)
  if script.conf then
    sub.conf = verb == "gc" and scripts.bounded(schema.salvage, script.conf, sub.raw)
      or schema.read(script.conf, sub.raw)
  end
  if script[verb] then
    scripts.call(script, verb, sub)
  elseif not script.ipam then
    require("cni.ipam")[verb](sub)
  end
end

local function delegate(req, type_name, changes, whole)
  local sub, script, for_addresses = asked(req, type_name, changes, whole)
  if script and req.plan.mode ~= "erase" and not whole then check_keys(script, changes) end
  if script then return opened(run_script(sub, script, not whole and req.raw or nil), req.prev) end
  local foreign = require "cni.step.delegate"
  return opened(foreign.obtain(req.plan, type_name, sub, not for_addresses), req.prev)
end

--- Have another type do its work for this attachment: "like bridge, but also ...".
--
--     add = function(req)
--       local result = req:delegate("bridge", { mtu = 1400, ipam = { type = "host-local" } })
--       req.host:set_sysctl { { "net/ipv4/conf/" .. result.interfaces[1].name .. "/proxy_arp", "1" } }
--       return result
--     end
--
-- A type that has a script runs here: its steps are this script's, taken back by DEL, GC and rollback and
-- compared by CHECK with all others; where it has a `check` or a `del` of its own, that is asked instead.
-- What it answers has objects, to be passed on to verbs. A site's script called `bridge` that delegates to
-- `bridge` gets the one that came with the program.
--
-- Any other type is an executable in CNI_PATH, called as the specification says: ADD; CHECK; and DEL with the
-- configuration that its ADD was given.
--
-- In a script's `status` and `gc` it is that type's that is asked; without one there, they go by the caller's
-- own configuration.
-- @tparam table req
-- @tparam string type_name
-- @tparam[opt] table changes laid over the configuration: the keys of objects one by one, anything else as a
-- whole; `json.null` takes a key out. `name`, `type`, `cniVersion` and `prevResult` stay what they are
-- @tparam[opt] boolean whole the changes are somebody's configuration, and stand in place of the caller's: of
-- that only `name`, `cniVersion`, `prevResult` and `runtimeConfig` stay, as far as it has them. As in any
-- configuration, a key that the type does not read is passed over, and a value that it refuses is that one's
-- mistake
-- @treturn table the result: `interfaces`, `ips`, `routes` (lists, empty when it has none) and `dns`; to be
-- returned as it is, or with changes. In GC and STATUS there is none
function M.delegate(req, type_name, changes, whole)
  req, type_name, changes, whole = takes.delegate(req, type_name, changes, whole)
  changes = changes or {}
  if not whole then check_changes(changes) end
  if req.command == "STATUS" or req.command == "GC" then return relay(req, type_name, changes, whole) end
  return args.at_once(req.plan, "req:delegate", delegate, req, type_name, changes, whole)
end

return M
