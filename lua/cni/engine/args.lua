-- SPDX-License-Identifier: MIT
--- The arguments of verbs: each verb declares what it takes; what a call gives is checked and copied.
--
-- A script that makes a mistake is told at once, with its own file and line:
--
--     /etc/luacni/plugins/wire.lua:7: add_veth: unknown key 'mut' (did you mean 'mtu'?)
--
-- `verb` makes of a declaration a function that a verb calls first. Each argument has a *reader*:
-- `read(value, self)` gives the value as the verb is to have it, a copy of it where it is a table; or nil and
-- what is wrong, and where in the value. What a netlink object takes is not written down here again:
-- `attributes` asks the rows of netlink-bindings.
--
-- In a DEL without a record, unknown keys are left out and not refused: a script that has gone bad must not
-- hold a pod.
--
-- @module cni.engine.args

local addr = require "cni.addr"
local fail = require "cni.fail"

local M = {}

--- The function of a script that is being run, to name when its call of a verb has left the stack (a tail
-- call: `return req.pod:set_link(...)`).
M.entry = nil

--- Whether the script that is being run came with the program; what that gives to verbs is taken as it is.
M.trusted = false

local function host()
  local has_host, module = pcall(require, "host")
  return has_host and module.script_line and module or nil
end

--- The module of the program around this library.
-- @treturn table|nil nil: there is none, or one of another kind
M.program = host

--- Where in a script the program is.
-- @treturn string|nil FILE:LINE; nil outside of any
function M.place()
  local module = host()
  if not module then return nil end
  return module.script_line() or M.entry and module.script_line(M.entry) or nil
end

-- The verb that a script has called, while it is done at once; see `at_once`.
local doing = {}

--- Note in a step which line of a site's script has asked for it: by the time that the step is done, the
-- script is elsewhere. @{placed} makes words of it. Nothing is noted while no script of the site runs. In
-- what a script has another type do, it is the line that delegates.
-- @tparam table step
function M.note_place(step)
  local entry = M.entry
  local module = entry and host()
  if not module then return end
  step.at, step.verb = module.script_at(entry)
  step.entry, step.by_site = entry, not M.trusted
  if doing.entry == entry then step.verb = doing.verb end
end

-- The file of the script that a step was noted for, and the line there. Of a verb that is called last
-- (`return req:delegate(...)`) the line is known no more: it is that where the script's function begins.
local function noted(step)
  local file, begin = M.place_of(step.entry):match "^(.*):(%d+)$"
  return file, step.at or begin
end

--- An error of a step, with the place in the script that has asked for it.
-- @param err what was raised
-- @tparam table|nil step
-- @return the same error
function M.placed(err, step)
  if not (step and step.entry) then return err end
  local file, line = noted(step)
  local place = ("%s:%s: %s"):format(file, line, step.verb and step.verb .. ": " or "")
  if type(err) == "string" then
    return err:sub(1, #file + 1) == file .. ":" and err or place .. err
  end
  -- One that names a script already, be it another one's that this one delegates to, stays as it is.
  if fail.is(err) and not err.msg:find "^/[^:]*%.lua:%d+: " then err.msg = place .. err.msg end
  return err
end

--- Raise where nothing is attached, and a script only looks: in its `gc` and its `status`.
-- @tparam table plan
-- @string[opt] verb as scripts call it; default: what the script has called
function M.may_change(plan, verb)
  if plan.mode ~= "look" then return end
  local called = { verb = verb }
  if not verb then M.note_place(called) end
  M.refuse(called.verb or "a verb", nil, ("a script's '%s' only looks, it changes nothing"):format(
    plan.request.command:lower()), "what an attachment needs is asked for in add")
end

--- Call what a verb does at once, and not as a step that is done later: its error gets the place in the
-- script that has called the verb. One of the configuration does not: that is not the script's.
-- @tparam table plan
-- @string verb as scripts call it: "req:call"
-- @tparam function action
-- @param ... its arguments
-- @return what it returns
function M.at_once(plan, verb, action, ...)
  M.may_change(plan, verb)
  local called = {}
  if plan.mode == "apply" or plan.mode == "dry" then M.note_place(called) end
  -- One that another verb has called is told as that one.
  if not called.entry or called.entry == doing.entry then return action(...) end
  called.verb = verb
  local outer = doing
  doing = called
  local results = table.pack(pcall(action, ...))
  doing = outer
  if not results[1] then
    local err = results[2]
    error(fail.is(err) and err.code == fail.codes.config and err or M.placed(err, called), 0)
  end
  return table.unpack(results, 2, results.n)
end

--- Where a function begins.
-- @tparam function f
-- @treturn string|nil FILE:LINE
function M.place_of(f)
  local module = host()
  return module and module.script_line(f)
end

--- The line of a script that reads a key which a table does not have; to be called by the table's `__index`.
-- @treturn string|nil FILE:LINE; nil when it is not a script that reads the key
function M.reader()
  local module = host()
  return module and module.script_line(3)
end

--- Raise an error about what a script has given.
-- @tparam string what the verb
-- @tparam string|nil where the argument, or its key
-- @tparam string problem
-- @tparam[opt] string hint
-- @tparam[opt] string place where in the script, if it is not where the program is
function M.refuse(what, where, problem, hint, place)
  place = place or M.place()
  fail.throw { hint = hint, mistake = true, msg = ("%s%s: %s%s"):format(place and place .. ": " or "", what,
    where and where ~= "" and where .. ": " or "", problem) }
end

-- Whether this is a DEL without a record: then nothing is refused whose meaning can be guessed.
local function is_lenient(self)
  local plan = self.plan
  return plan ~= nil and plan.mode == "erase"
end
M.is_lenient = is_lenient

-- Values in words --------------------------------------------------------------------

local Handle -- the metatable of handles, once it is known

--- Say by which metatable a handle is recognised.
-- @tparam table metatable
function M.handles_are(metatable)
  Handle = metatable
end

--- Whether a value is a handle.
-- @param value anything
-- @treturn boolean
local function is_handle(value)
  return Handle ~= nil and getmetatable(value) == Handle
end
M.is_handle = is_handle

-- A value in words.
local function said(value)
  if is_handle(value) then return "a handle" end
  if addr.is_cidr(value) then return tostring(value) end
  if type(value) == "function" then return "a function" end
  if type(value) == "table" then return "a table" end
  return value == nil and "nil" or require("cni.json").show(value)
end

--- What a table is, when it is one that its fields alone do not make: a handle, a request, a cidr.
-- @tparam table value
-- @treturn ?string in words; nil: it is another
function M.object_of_ours(value)
  if is_handle(value) then return "a handle" end
  if addr.is_cidr(value) then return ("the cidr %s: tostring(it) can"):format(tostring(value)) end
  if value.plan ~= nil and value.host ~= nil then return "req" end
end

--- What is wrong with a value of another kind.
-- @tparam string what is wanted, in words
-- @param value what was given
-- @treturn string
local function expected(what, value)
  return ("expected %s, got %s"):format(what, said(value))
end

M.said, M.expected = said, expected

--- What is wrong with a name that is not among the valid ones.
-- @param key what was given, a word or another value
-- @tparam {string,...} valid
-- @string[opt="key"] what it is
-- @tparam[opt] string|boolean page of `luacni doc` that lists the valid ones; false: they are told elsewhere
-- @treturn string
function M.unknown(key, valid, what, page)
  return ("unknown %s '%s'%s"):format(what or "key", tostring(key),
    require("cni.protocol.hints").instead(tostring(key), valid, page))
end

--- The keys of some sets.
-- @tparam table ... sets
-- @treturn {string,...} sorted
local function sorted(...)
  local names = {}
  for _, set in ipairs { ... } do
    for name in pairs(set) do names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

--- Where in a value: keys and places in lists, one behind the other.
-- @tparam string|integer key
-- @tparam ?string at where in what is there
-- @treturn string
local function below(key, at)
  if type(key) ~= "string" then key = ("[%s]"):format(tostring(key)) end
  if not at then return key end
  return at:find("^%[") and key .. at or key .. "." .. at
end

--- A copy of a value, the tables in it too, but for objects.
-- @param value
-- @return the copy
local function copy(value)
  if type(value) ~= "table" or getmetatable(value) then return value end
  local out = {}
  for key, item in next, value do out[key] = copy(item) end
  return out
end

M.sorted, M.below, M.copy = sorted, below, copy

-- Links ------------------------------------------------------------------------------

local owners = setmetatable({}, { __mode = "k" })

--- Remember of which handle a link is that a verb gives to a site's script.
-- @tparam table link
-- @tparam table handle
-- @treturn table the link
function M.own(link, handle)
  if not M.trusted then owners[link] = handle end
  return link
end

--- Whether a link is one that a verb has given, and not a table of a script's own.
-- @tparam table link
-- @treturn boolean
function M.is_ours(link)
  return owners[link] ~= nil
end

local place_of = { host = "host", pod = "sandbox" }

--- A link of this handle: an object, or its name.
-- @param value a link, or its name
-- @tparam table self the handle whose verb was given it
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.link(value, self)
  if type(value) == "string" and value ~= "" then return value end
  if type(value) ~= "table" or Handle and getmetatable(value) == Handle or type(value.name) ~= "string" then
    return nil, expected("a link or the name of one", value)
  end
  local owner = owners[value]
  if owner and owner.name ~= self.name then
    return nil, ("%s is a link of the %s, and this is the handle of the %s"):format(value.name,
      place_of[owner.name], place_of[self.name])
  end
  return value
end

--- A link as an object, since a name does not tell its MAC or its master.
-- @param value a link
-- @tparam table self the handle whose verb was given it
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.object(value, self)
  if type(value) == "string" then
    return nil, ("expected a link as a verb gives it, got the name %q"):format(value)
  end
  return M.link(value, self)
end

--- A link of any handle, for what does not act on it.
-- @param value a link
-- @return the same; nil when it is none
-- @treturn ?string why not
function M.any_link(value)
  if type(value) == "table" and not is_handle(value) and type(value.name) == "string" then return value end
  return nil, expected("a link as a verb gives it", value)
end

--- A handle.
-- @param value a handle
-- @return the same; nil when it is none
-- @treturn ?string why not
function M.handle(value)
  if is_handle(value) then return value end
  return nil, expected("a handle, req.host or req.pod", value)
end

--- The request, as a script's functions get it.
-- @param value the request
-- @return the same; nil when it is none
-- @treturn ?string why not
function M.request(value)
  if type(value) == "table" and not is_handle(value) and value.plan then return value end
  return nil, expected("req, as the script's function has got it", value)
end

-- Plain values -----------------------------------------------------------------------

local function plain(kind, what)
  return function(value)
    if type(value) == kind then return value end
    return nil, expected(what, value)
  end
end

--- Text, true or false, a function, a table that is only read.
M.string = plain("string", "a string")
M.boolean = plain("boolean", "true or false")
M.func = plain("function", "a function")
M.table = plain("table", "a table")

--- Anything; a table is copied.
-- @param value
-- @return what the verb gets
function M.any(value) return copy(value) end

--- A number within bounds.
-- @tparam number least
-- @tparam number most
-- @string[opt] unit
function M.number(least, most, unit)
  return function(value)
    if type(value) == "number" and value >= least and value <= most then return value end
    local what = unit and "a number of " .. unit or "a number"
    return nil, expected(("%s from %s to %s"):format(what, least, most), value)
  end
end

--- A whole number within bounds.
-- @tparam integer least
-- @tparam integer most
function M.integer(least, most)
  return function(value)
    local n = type(value) == "number" and math.tointeger(value)
    if n and n >= least and n <= most then return n end
    return nil, expected(("a whole number from %d to %d"):format(least, most), value)
  end
end

--- One of some words.
-- @tparam {string,...} list
function M.word(list)
  local valid = {}
  for _, word in ipairs(list) do valid[word] = true end
  return function(value)
    if valid[value] then return value end
    if type(value) ~= "string" then return nil, expected("one of " .. table.concat(list, ", "), value) end
    return nil, M.unknown(value, list, "value", false) .. ", expected one of " .. table.concat(list, ", ")
  end
end

-- Addresses --------------------------------------------------------------------------

local function no_cidr(value)
  if type(value) == "string" and addr.ip(value) then
    return ("expected an address with its prefix length, such as %s/%d, got %q"):format(value,
      #addr.ip(value) * 8, value)
  end
  return expected("an address with its prefix length, such as 10.1.2.3/24", value)
end

--- An address with its prefix length, as text or as a cidr of cni.addr; text is given.
-- @param value text, or a cidr
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.cidr(value)
  local cidr = type(value) == "string" and addr.parse(value) or addr.is_cidr(value) and value
  if cidr then return tostring(cidr) end
  return nil, no_cidr(value)
end

-- A network with host bits set is refused, as the kernel does: nobody can tell whether the network or the one
-- address was meant. In a DEL without a record it is the network, as older versions of this program took it.
local function network_of(cidr, self)
  local network = cidr:network()
  if cidr == network or is_lenient(self) then return tostring(network) end
  return nil, ("%s is no network, it has host bits set: the network is %s, the one address %s/%d"):format(
    tostring(cidr), tostring(network), cidr:text(), #cidr.ip * 8)
end

--- A network, as text or as a cidr; text is given. One with host bits is refused.
-- @param value text, or a cidr
-- @param self what the verb is of
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.network(value, self)
  local cidr = type(value) == "string" and addr.parse(value) or addr.is_cidr(value) and value
  if cidr then return network_of(cidr, self) end
  if value == "default" then return nil, "a default route is written 0.0.0.0/0 or ::/0" end
  return nil, no_cidr(value)
end

--- An address or a network, as text or as a cidr; the network as text is given, and host bits are refused.
-- @param value text, or a cidr
-- @param self what the verb is of
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.networks(value, self)
  local bytes = type(value) == "string" and addr.ip(value)
  if bytes then return tostring(addr.cidr(bytes)) end
  local cidr = type(value) == "string" and addr.parse(value) or addr.is_cidr(value) and value
  if cidr then return network_of(cidr, self) end
  return nil, expected("an address or a network", value)
end

--- An address by itself, as text or as that of a cidr; text is given.
-- @param value text, or a cidr
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.ip(value)
  local bytes = type(value) == "string" and addr.ip(value)
  if bytes then return addr.text(bytes) end
  if addr.is_cidr(value) then return value:text() end
  return nil, expected("an address without a prefix length, such as 10.1.2.3", value)
end

-- Tables -----------------------------------------------------------------------------

--- What may be nil.
-- @tparam function read
function M.optional(read)
  return function(value, self)
    if value == nil then return nil end
    return read(value, self)
  end
end

--- A path from the root.
-- @param value
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.absolute(value)
  if type(value) == "string" and value:sub(1, 1) == "/" then return value end
  return nil, expected("an absolute path", value)
end

--- Where something is kept: a path from the root, since another would depend on the caller's working
-- directory. What is attached already is compared and taken back wherever it is.
-- @param value
-- @tparam table self a handle or a request: its `plan`
-- @return what the verb gets; nil when it is none
-- @treturn ?string why not
function M.folder(value, self)
  local mode = self.plan and self.plan.mode
  if mode == "apply" or mode == "dry" then return M.absolute(value) end
  return M.string(value)
end

-- What is wrong with a table that is no list: it has this key.
local function no_list(value)
  local strange
  for key in next, value do
    if math.type(key) ~= "integer" or key < 1 or key > #value then
      key = tostring(key)
      strange = strange and strange < key and strange or key
    end
  end
  return ("expected a list, got a table with the key '%s'"):format(strange)
end

--- A list of values of one kind.
-- @tparam function read
function M.list(read)
  return function(list, self)
    if type(list) ~= "table" or is_handle(list) then return nil, expected("a list", list) end
    local out, count = {}, #list
    for i = 1, count do
      local problem, at
      out[i], problem, at = read(list[i], self)
      if problem then return nil, problem, below(i, at) end
    end
    for _ in next, list do count = count - 1 end
    if count < 0 then return nil, no_list(list) end
    return out
  end
end

-- The first of some keys that is missing.
local function missing(out, required)
  for i = 1, #required do
    if out[required[i]] == nil then return required[i] end
  end
end

-- What is said of a required key that is missing: it may be there by the name that others have for it.
local function absence(value, absent)
  for key in next, value do
    if type(key) == "string" and require("cni.protocol.hints").here(key, { absent }) then
      return M.unknown(key, { absent })
    end
  end
  return "is missing", absent
end

--- What is wrong with a table that lacks a key.
-- @tparam table value as it was given
-- @tparam table out what was read of it
-- @tparam {string,...} required
-- @treturn ?string nil: it has all
-- @treturn ?string where
function M.lacking(value, out, required)
  local absent = missing(out, required)
  if absent then return absence(value, absent) end
end

--- For `loose`: a table may have anything else.
function M.always() return true end

--- A table of named values.
-- @tparam table fields reader by key
-- @tparam[opt] table more
--   required           list of keys
--   loose(value)       whether keys that are not in `fields` may stay in this table
--   check(copy, self)  gives what is wrong with the table as a whole, and where
function M.record(fields, more)
  more = more or {}
  local required, loose, check_whole = more.required or {}, more.loose, more.check
  return function(value, self)
    if type(value) ~= "table" or is_handle(value) then return nil, expected("a table", value) end
    local out = {}
    for key, item in next, value do
      local read = fields[key]
      if read then
        local problem, at
        out[key], problem, at = read(item, self)
        if problem then return nil, problem, below(key, at) end
      elseif not is_lenient(self) then
        if not (loose and loose(value)) then return nil, M.unknown(key, sorted(fields)) end
        out[key] = item
      end
    end
    local problem, at = M.lacking(value, out, required)
    if problem then return nil, problem, at end
    if check_whole then
      problem, at = check_whole(out, self)
      if problem then return nil, problem, at end
    end
    return out
  end
end

-- Verbs ------------------------------------------------------------------------------

local function no_self(name, value)
  M.refuse(name, nil, expected("a handle before it", value),
    ("it is called with a colon: req.host:%s"):format(name))
end

local function refuse(name, label, at, problem)
  M.refuse(name, label and at and below(label, at) or label or at, problem)
end

--- Declare what a verb of a handle takes, checked even when a script that came with the program calls it: the
-- verb needs its arguments in the form that the readers give.
-- @tparam string name of the verb
-- @tparam table ... each { name of the argument, reader }; without a name where the table is the verb's main
-- one, whose keys speak for themselves
-- @treturn function that is given the verb's arguments, and returns copies; or raises, with a script's line
function M.always_verb(name, ...)
  local count, list = select("#", ...), { ... }
  local first, second, third = list[1], list[2], list[3]
  local one, two, three = first[2], second and second[2], third and third[2]
  return function(self, a, b, c)
    if getmetatable(self) ~= Handle then no_self(name, self) end
    local problem, at
    a, problem, at = one(a, self)
    if problem then refuse(name, first[1], at, problem) end
    if count > 1 then
      b, problem, at = two(b, self)
      if problem then refuse(name, second[1], at, problem) end
    end
    if count > 2 then
      c, problem, at = three(c, self)
      if problem then refuse(name, third[1], at, problem) end
    end
    return a, b, c
  end
end

--- Declare what a verb of a handle takes.
-- @tparam string name of the verb
-- @tparam table ... as for `always_verb`
-- @treturn function likewise; a trusted script's arguments it returns as they are
function M.verb(name, ...)
  local look = M.always_verb(name, ...)
  return function(self, a, b, c)
    if M.trusted then return a, b, c end
    return look(self, a, b, c)
  end
end

--- Declare what a function takes that is no verb of a handle, such as one of a module or of `req`.
-- @tparam string name as a script calls it: "ipam.apply"
-- @tparam table ... as for `verb`, of every argument; what readers get as `self` is the first argument, and
-- they get the list of all as well
-- @treturn function as for `verb`
function M.call(name, ...)
  local list = { ... }
  return function(...)
    if M.trusted then return ... end
    local values = { ... }
    for i, parameter in ipairs(list) do
      local problem, at
      values[i], problem, at = parameter[2](values[i], values[1], values)
      if problem then refuse(name, parameter[1], at, problem) end
    end
    return table.unpack(values, 1, #list)
  end
end

-- Tables that a script reads ---------------------------------------------------------

--- Make it an error that a site's script reads a key which a table can never have. Other code that reads it,
-- such as a module that the script calls, gets nil.
-- @tparam table t
-- @tparam string what how the script calls it: "req.conf"
-- @tparam table names set of the keys that it can have; each may be nil
-- @tparam table req
-- @treturn table t
function M.guard(t, what, names, req)
  return setmetatable(t, { __index = function(_, key)
    local module = not names[key] and not M.trusted and M.entry and not is_lenient(req) and host()
    -- 1 is this function, 2 is who reads.
    local place = module and module.script_line(2)
    if not place then return nil end
    local verb = what == "req" and type(rawget(Handle, key)) == "function" and not key:find "^_"
    local problem = verb and ("'%s' is a verb of its handles: req.host:%s, req.pod:%s"):format(key, key, key)
    M.refuse(what, nil, problem or M.unknown(key, sorted(names), "name", what == "req" and what), nil,
      place)
  end })
end

return M
