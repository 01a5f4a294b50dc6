-- SPDX-License-Identifier: MIT
--- A script's own part: the table that it returns, how its functions are called, and what `add` answers.
--
-- What is wrong with any of them is told with the script's file, and the line where there is one.
--
-- @module cni.engine.script

local args = require "cni.engine.args"
local fail = require "cni.fail"

local M = {}

--- The version of the interface between scripts and this program: `api = 1` in a script's table.
M.api = 1

--- What a script's table may have, in the order in which it is told: name, type, what it is.
M.fields = {
  { "add", "function", "what an ADD does, by verbs of handles; DEL, CHECK, GC and the dry run come from it" },
  { "api", "integer", "the version of this interface that the script is written for; absent: 1. Within "
    .. "a version things are added, none goes or changes; a version that the program does not speak is "
    .. "refused" },
  { "args", "table", "the keys of CNI_ARGS that it reads: a schema.record, whose values req.args has" },
  { "chained", "boolean", "the interface is made by a plugin before it: a DEL without a record leaves it" },
  { "check", "function", "what a CHECK does, instead of `add` compared with the kernel" },
  { "conf", "table", "the keys of its configuration: a schema.record" },
  { "del", "function", "what a DEL does that finds no record, instead of `add` taken back" },
  { "doc", "string", "what it is for" },
  { "gc", "function", "what a GC does beside taking back the records of what is gone" },
  { "ipam", "boolean", "it gives addresses to other plugins, and makes no interface" },
  { "on_link", "boolean", "it gives addresses by way of the interface, which is made, and up, before `add`" },
  { "status", "function", "what a STATUS does: it raises when an ADD could not be served" },
}

local type_of, names = {}, {}
for i, field in ipairs(M.fields) do
  type_of[field[1]], names[i] = field[2], field[1]
end

local function refuse(file, text, hint)
  fail.throw { msg = file .. ": " .. text, hint = hint }
end

local function check_field(file, key, value)
  local wanted = type_of[key]
  if not wanted then refuse(file, args.unknown(key, names, "field", false), "a script's table has " ..
    table.concat(names, ", ")) end
  if type(value) ~= wanted and math.type(value) ~= wanted then
    refuse(file, ("field '%s' must be %s %s, it is a %s"):format(key, wanted == "integer" and "an" or "a",
      wanted, type(value)))
  end
end

-- The types that a key of CNI_ARGS can have, each with what makes its value of the text.
local flags <const> = { ["1"] = true, ["true"] = true, ["0"] = false, ["false"] = false }

local function number_of(text)
  return text:find "^%-?%d+$" and math.tointeger(tonumber(text)) or text
end

local function same(text) return text end

local readers <const> = { string = same, enum = same, ifname = same, mac = same, ip = same, cidr = same,
  any = same, integer = number_of, mtu = number_of,
  boolean = function(text)
    local flag = flags[text:lower()]
    if flag == nil then return text end
    return flag
  end }

local function check_args(file, declared)
  if not require("cni.schema").is_record(declared) then
    refuse(file, "field 'args' must be a schema.record, it is a table",
      "schema.record { TENANT = schema.string }")
  end
  for _, key in ipairs(declared.keys) do
    local field = declared.fields[key]
    if not readers[field.name] then
      refuse(file, ("field 'args': %s is a %s, and a value of CNI_ARGS is one text"):format(key, field.name))
    end
  end
end

-- For what a script says of itself; what it does has the whole call's deadline.
local patience <const> = 5

--- Call what has a script read, and may never end by itself, where there is more to do than the script: a DEL
-- or GC that goes without it, a command that looks at several.
-- @tparam function f
-- @param ... what it is given
-- @return what it returns
-- @raise what it raises; after five seconds that it was stopped, with the script's line
function M.bounded(f, ...)
  local is_program, host = pcall(require, "host")
  if not is_program then return f(...) end
  return host.bounded(patience, f, ...)
end

local goes_without <const> = { DEL = true, GC = true }

--- The script of a type.
-- @tparam table host
-- @tparam ?string command the verb it is for: for DEL and GC, which can do without, it has to load quickly
-- @string type_name
-- @tparam[opt] boolean builtin the one that came with the program, whether the site has its own or not
-- @treturn ?table nil: there is none
-- @raise when it cannot be read, or does not load
function M.load(host, command, type_name, builtin)
  local script, msg, errno
  if goes_without[command] then
    script, msg, errno = M.bounded(host.load_plugin, type_name, builtin)
  else
    script, msg, errno = host.load_plugin(type_name, builtin)
  end
  if msg then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return script
end

--- A plugin by its type. Its script is run when it is first asked for: a record can do without.
-- @tparam table host
-- @tparam string type_name
-- @tparam[opt] boolean known that it has a script
-- @tparam[opt] string command as for @{load}
-- @treturn table|nil what the script returns, and its `type`
function M.plugin(host, type_name, known, command)
  if not known and not host.has_plugin(type_name) then return nil end
  local problem
  local function load(plugin, key)
    if problem then error(problem, 0) end
    local loads, script = pcall(M.load, host, command, type_name)
    if not loads then
      problem = script
      error(problem, 0)
    end
    setmetatable(plugin, { __index = script })
    return script[key]
  end
  return setmetatable({ type = type_name }, { __index = load })
end

-- Functions of the scripts that came with the program. The specs have checked all that these give to verbs:
-- it is not checked again at run time.
local is_own = setmetatable({}, { __mode = "k" })

--- Take what a function gives to verbs, and returns, as it is.
-- @tparam function f of this program
function M.trust(f) is_own[f] = true end

--- Raise unless a value is what a script has to return.
-- @param plugin what it has returned
-- @tparam string file what to call the script
-- @tparam[opt] boolean own it came with the program
function M.check(plugin, file, own)
  if type(plugin) ~= "table" then
    refuse(file, "a plugin returns a table with a function 'add'; this returns a " .. type(plugin))
  end
  local keys = {}
  for key in next, plugin do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do check_field(file, key, plugin[key]) end
  if plugin.api and plugin.api ~= M.api then
    refuse(file, ("field 'api' is %d, and this program speaks version %d of the interface"):format(plugin.api,
      M.api))
  end
  if not plugin.add then refuse(file, "field 'add' is missing") end
  if plugin.conf and not require("cni.schema").is_record(plugin.conf) then
    refuse(file, "field 'conf' must be a schema.record, it is a table",
      "schema.record { key = schema.string }")
  end
  if plugin.args then check_args(file, plugin.args) end
  for _, value in next, plugin do
    if own and type(value) == "function" then M.trust(value) end
  end
end

-- Calls ------------------------------------------------------------------------------

-- What tells of a table that was raised in place of an error.
local function key_of(value)
  local key = type(value) == "table" and not getmetatable(value) and next(value)
  return key and (" with the key '%s'"):format(tostring(key)) or ""
end

local function has_text(value)
  if fail.is(value) or type(value) == "string" then return true end
  local meta = getmetatable(value)
  if type(meta) == "table" and rawget(meta, "__tostring") then return true end
  return type(value) == "table" and not meta and type(value.msg) == "string"
end

-- What a script has called that has raised an error of Lua's: its name as scripts have it, and where it is
-- looked up, as far as the place of the error tells them.
local function called(err, verb)
  local name = err:match "^cni/([%w_]+)%.lua:"
  local module = name and require("cni." .. name)
  if not (verb and module and rawget(module, verb)) then return verb end
  return name .. "." .. verb, ("`luacni doc %s %s` says what it takes"):format(name, verb)
end

-- An error that was raised in the library, because of what a script gave it, gets the script's line too. What
-- Lua or the library has raised, and not the script of its own accord, is the script's mistake.
local function with_place(err)
  if fail.is(err) then return err end
  local module, place = args.program(), args.place()
  if not place then return err end
  if not has_text(err) then
    return fail.new { mistake = "runtime", msg = place .. ": error: " ..
      args.expected("a text, or a table with a text as msg", err) .. key_of(err) }
  end
  if type(err) ~= "string" or err == "not enough memory" then return err end
  local file = place:match "^(.*):%d+$"
  local text, hint = err:sub(1, #file + 1) == file .. ":" and err or nil, nil
  if not text and err:find "^cni/[%w_/]*%.lua:%d+: " then
    local name
    if args.entry then name, hint = called(err, select(2, module.script_at(args.entry))) end
    text = ("%s: %scannot do with what it is given: %s"):format(place, name and name .. ": " or "", err)
  end
  text = text or place .. ": " .. err
  if fail.stopped(text) or module.script_raised() then return text end
  return fail.new { msg = text, hint = hint, mistake = text:find("lobal '", 1, true) and true or "runtime" }
end

local function call(f, req, ...)
  local entry, trusted = args.entry, args.trusted
  local own = is_own[f] or false
  -- What a script has one of ours do is told as what it does itself.
  args.entry, args.trusted = not own and f or entry, own
  local ok, answer = xpcall(f, with_place, req, ...)
  args.entry, args.trusted = entry, trusted
  if not ok then error(answer, 0) end
  return answer
end

-- What a record declares, of CNI_ARGS.
local function args_of(declared, req, known)
  local raw = {}
  for key, text in next, require("cni.protocol.request").args(req.args_text, known) do
    local field = declared.fields[key]
    raw[key] = field and readers[field.name](text)
  end
  return require("cni.schema").read(declared, raw, "CNI_ARGS")
end

--- Set `req.args` to the keys of CNI_ARGS that a script declares, if it declares any. Keys that it does not
-- declare are refused, but for MAC, IP and GATEWAY, and unless IgnoreUnknown is given.
-- @tparam table plugin
-- @tparam table req
-- @tparam[opt] boolean lenient no error, `req.args` is empty when they cannot be read; as in GC and STATUS
-- @raise code 4
function M.read_args(plugin, req, lenient)
  local text, declared = require("cni.protocol.request").args_text(req), plugin.args
  if not declared then
    -- A script that declares none, run within one that does, has the text.
    if type(req.args) == "table" then req.args = text ~= "" and text or nil end
    return
  end
  local known = { MAC = true, IP = true, GATEWAY = true }
  for key in next, declared.fields do known[key] = true end
  req.args_text, req.known_args = text or "", known
  local ok, values = pcall(args_of, declared, req, known)
  if not ok and not (lenient or not req.container_id) then
    values = fail.wrap(values)
    values.code = fail.codes.env
    error(values, 0)
  end
  req.args = args.guard(ok and values or {}, "req.args", declared.fields, req)
end

--- Call a function of a script.
-- @tparam table plugin
-- @tparam string name `check`, `del`, `gc`, `status`; for `add` see there
-- @tparam table req
-- @param ... what it is given beside
-- @return what it returns
function M.call(plugin, name, req, ...)
  return call(plugin[name], req, ...)
end

-- Answers ----------------------------------------------------------------------------

local list, record = args.list, args.record

-- What a foreign plugin has given may have keys that we do not know, and is passed on as it is.
local is_foreign = require("cni.protocol.result").is_foreign

-- An address as a handle lists it has all that the kernel knows of it.
local function is_listed(ip)
  return ip.index ~= nil and ip.family ~= nil or is_foreign(ip)
end

local function or_foreign(read)
  return function(value, self)
    local clean, problem, at = read(value, self)
    if problem then return nil, problem, at end
    return is_foreign(value) and value or clean
  end
end

local number = args.integer(0, 0xffffffff)

-- A link of the answer, or its place among them, which count from 0 as in results.
local function link_or_place(value)
  if math.type(value) == "integer" then return value end
  return args.any_link(value)
end

-- Places become links.
local function places(answer)
  for i, ip in ipairs(answer.ips or {}) do
    if math.type(ip.interface) == "integer" then
      local link = (answer.interfaces or {})[ip.interface + 1]
      if not link then
        return ("%d is beyond the last of %d interfaces, which count from 0"):format(ip.interface,
          #(answer.interfaces or {})), ("ips[%d].interface"):format(i)
      end
      ip.interface = link
    end
  end
end

local function route_to(dst, more)
  return record({ dst = dst, gw = args.ip, mtu = number, advmss = number, priority = number, table = number,
    scope = args.integer(0, 255) }, more)
end

local own_route = route_to(args.network, { required = { "dst" } })
local foreign_route = or_foreign(route_to(args.cidr, { required = { "dst" }, loose = args.always }))

local function route(value, self)
  return (is_foreign(value) and foreign_route or own_route)(value, self)
end

local read_answer = record({
  interfaces = list(args.any_link),
  ips = list(record({ address = args.cidr, gateway = args.ip, interface = link_or_place },
    { required = { "address" }, loose = is_listed })),
  routes = list(route),
  dns = or_foreign(record({ nameservers = list(args.string), domain = args.string, search = list(args.string),
    options = list(args.string) }, { loose = is_foreign })),
  instead = args.boolean,
  -- Keys of a lease, for scripts that return the lease itself.
  early = args.any, none = args.any, mtu = args.any,
}, { loose = is_foreign, check = places })

-- What the steps after `last` have made that a result has to tell of: a list, in words. And `own`, the one
-- that is about the sandbox's interface; nil when none of these steps made it.
local function made_behind(steps, last, ifname)
  local words, own = {}, nil
  local function link(name, ns)
    words[#words + 1] = ("%s in the %s"):format(name, ns == "pod" and "sandbox" or "host")
    if ns == "pod" and name == ifname then own = words[#words] end
  end
  local first = #steps + 1
  while first > 1 and steps[first - 1] ~= last do first = first - 1 end
  for i = first, #steps do
    local step = steps[i]
    local kind, want = step.kind, step.want
    if kind == "link" or kind == "tap" or kind == "move" then
      link(want.name or want.link, want.into or step.ns)
      if want.peer then link(want.peer.name, want.peer.ns) end
    elseif kind == "lease" or kind == "delegate" then
      words[#words + 1] = kind == "lease" and "a lease of addresses" or "what another plugin made"
    end
  end
  return words, own
end

-- Refuse an `add` that has made something and does not return it: the runtime would take the container for
-- one without a network. In a chain, returning nothing passes on what the plugins before have made.
local function check_told(add, req, last, answer)
  local plan = req.plan
  if req.prev or plan.mode ~= "apply" and plan.mode ~= "dry" then return end
  local words, own = made_behind(plan.steps, last, req.ifname)
  if answer == nil and words[1] then
    args.refuse("what add returns", nil, "nothing, though it has made " .. table.concat(words, ", "),
      "return { interfaces = { the links }, ips = lease.ips, routes = lease.routes, dns = lease.dns }, or "
      .. "what req:delegate gave", args.place_of(add))
  end
  for _, entry in ipairs(answer and answer.interfaces or {}) do
    if entry.name == req.ifname then own = nil end
  end
  if answer and own then
    args.refuse("what add returns", "interfaces", ("%s is missing, which add has made"):format(own),
      "interfaces = { the links that verbs gave }", args.place_of(add))
  end
end

--- Look at an answer: what `add` returns, or a result that a script has changed.
-- @param answer
-- @tparam table req
-- @tparam function f that has returned it
-- @treturn table a copy; what the chain had so far is given as it is
function M.answer(answer, req, f)
  local clean, problem, at = read_answer(answer, req)
  if problem then args.refuse("what add returns", at, problem, nil, args.place_of(f)) end
  return answer == req.prev and answer or clean
end

--- Call a script's `add`, and look at what it returns.
-- @tparam table plugin
-- @tparam table req
-- @treturn table|nil a copy of its answer; what the chain had so far is given as it is
function M.add(plugin, req)
  local add, steps = plugin.add, req.plan.steps
  local last = steps[#steps]
  local answer = call(add, req)
  if is_own[add] then return answer end
  local clean = answer ~= nil and M.answer(answer, req, add) or nil
  check_told(add, req, last, answer)
  return clean
end

return M
