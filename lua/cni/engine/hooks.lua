-- SPDX-License-Identifier: MIT
--- Hooks: what a site has done round every attachment, whatever its type. Scripts in /etc/luacni/hooks.d,
-- in the order of their names.
--
-- A hook sees an attachment as a script does that delegates to the attachment's type (cni.engine.req): that
-- is what happens. What its functions ask of handles are steps of the same plan and record. So DEL, CHECK,
-- GC, rollback and the dry run need nothing of a hook, and a DEL that finds the record not even its file.
--
-- Which hooks an ADD has run is written down. Its CHECK runs those that are there of them, and none that the
-- site has got since.
--
-- @module cni.engine.hooks

local args = require "cni.engine.args"
local changing = require "cni.engine.changes"
local facts = require "cni.engine.facts"
local fail = require "cni.fail"
local once = require "cni.step.once"
local scripts = require "cni.engine.script"

local M = {}

--- Where they are.
M.folder = "/etc/luacni/hooks.d"

--- What a hook's table may have, in the order in which it is told: name, type, what it is.
M.fields = {
  { "after", "function", "is given `req` and the result once the type's `add` has run: it may ask for more, "
    .. "change the result, or return another one" },
  { "api", "integer", "as of a script" },
  { "before", "function", "is given `req` before the type's `add` runs: it may ask for changes, and return "
    .. "what is to be laid over the configuration, as `req:delegate` takes it" },
  { "doc", "string", "what it is for" },
  { "match", "table", "the attachments that it is for, by the keys below; absent: all, once each, round the "
    .. "type that makes the interface" },
}

--- What `match` may have: all that is there has to match. A value is a text in which `*` is anything and `?`
-- one character, or a list of such, of which one has to match.
M.matches = {
  { "annotations", "annotations of the pod, by their names, where the runtime passes them on (capability "
    .. "`io.kubernetes.cri.pod-annotations`)" },
  { "args", "keys of CNI_ARGS, such as K8S_POD_NAMESPACE" },
  { "ifname", "name of the interface" },
  { "network", "name of the network" },
  { "type", "the plugin's type. Only so is a hook called round a type of a chain that makes no interface, or "
    .. "that gives addresses" },
}

local function names_of(rows)
  local names, set = {}, {}
  for i, row in ipairs(rows) do
    names[i], set[row[1]] = row[1], row
  end
  return names, set
end

local field_names, fields = names_of(M.fields)
local match_names, matches = names_of(M.matches)

local function refuse(file, text, hint)
  fail.throw { msg = file .. ": " .. text, hint = hint }
end

local function check_texts(file, key, value)
  local list = type(value) == "table" and value or { value }
  local count = 0
  for _ in next, list do count = count + 1 end
  if count == 0 or count ~= #list then
    refuse(file, ("field 'match.%s' must be a text or a list of texts"):format(key))
  end
  for _, text in ipairs(list) do
    if type(text) ~= "string" then
      refuse(file, ("field 'match.%s' must be a text or a list of texts, there is a %s"):format(key,
        type(text)))
    end
  end
end

local by_key <const> = { annotations = true, args = true }

local function check_match(file, match)
  for key, value in next, match do
    if not matches[key] then
      refuse(file, args.unknown(key, match_names, "field", false), "match has " ..
        table.concat(match_names, ", "))
    end
    if by_key[key] and type(value) ~= "table" then
      refuse(file, ("field 'match.%s' must be a table, with a text for each key; it is a %s"):format(key,
        type(value)))
    end
    for name, texts in next, by_key[key] and value or { [false] = value } do
      if name and type(name) ~= "string" then
        refuse(file, ("field 'match.%s' must have names for keys, there is %s"):format(key, tostring(name)))
      end
      check_texts(file, name and key .. "." .. name or key, texts)
    end
  end
end

--- Raise unless a value is what a hook has to return.
-- @param hook what it has returned
-- @tparam string file what to call the script
function M.check(hook, file)
  if type(hook) ~= "table" then
    refuse(file, "a hook returns a table with a function 'before' or 'after'; this returns a " .. type(hook))
  end
  for key, value in next, hook do
    local field = fields[key]
    if not field then
      refuse(file, args.unknown(key, field_names, "field", false), key == "add" and
        "a type's script is in /etc/luacni/plugins; a hook has before and after" or "a hook has " ..
        table.concat(field_names, ", "))
    end
    if type(value) ~= field[2] and math.type(value) ~= field[2] then
      refuse(file, ("field '%s' must be %s %s, it is a %s"):format(key, field[2] == "integer" and "an" or "a",
        field[2], type(value)))
    end
  end
  if hook.api and hook.api ~= scripts.api then
    refuse(file, ("field 'api' is %d, and this program speaks version %d of the interface"):format(hook.api,
      scripts.api))
  end
  if not hook.before and not hook.after then refuse(file, "field 'before' or 'after' is missing") end
  check_match(file, hook.match or {})
end

-- Which hooks are for an attachment ----------------------------------------------------

local is_one <const> = facts.is_one

local function are_all(values, wanted)
  for key, texts in next, wanted or {} do
    if not is_one(values[key], texts) then return false end
  end
  return true
end

local function is_for(hook, req, plugin)
  local match = hook.match or {}
  if match.type then
    if not is_one(plugin.type, match.type) then return false end
  elseif plugin.chained or plugin.ipam then
    return false
  end
  return (not match.network or is_one(req.network, match.network))
    and (not match.ifname or is_one(req.ifname, match.ifname))
    and (not match.args or are_all(req.workload.args, match.args))
    and (not match.annotations or are_all(req.workload.annotations, match.annotations))
end

-- Running them -------------------------------------------------------------------------

local function load(req, name)
  local hook, msg, errno = req.load_hook(name)
  if msg then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return hook
end

-- What a call that finds no record does not stop for.
local function goes_without(req, name, err)
  req.log(("luacni: DEL goes without the hook %s: %s"):format(name, tostring(err)))
end

-- The hooks that are for this call: a list of name, hook.
local function find(req, plugin, names, lenient)
  local found = {}
  for _, name in ipairs(names) do
    local ok, hook = true, not lenient and load(req, name)
    if lenient then ok, hook = pcall(scripts.bounded, load, req, name) end
    if not ok then
      goes_without(req, name, hook)
    elseif hook and is_for(hook, req, plugin) then
      found[#found + 1] = { name = name, hook = hook }
    end
  end
  return found
end

-- In a CHECK that finds the ADD's record: those that the ADD has run.
local function same_as_then(plan, found)
  local record = plan.attached and plan:past()
  if not record then return found end
  local _, names = once.find(record.steps, M.folder, "hooks")
  local had, still = {}, {}
  for _, name in ipairs(names or {}) do had[name] = true end
  for _, item in ipairs(found) do
    if had[item.name] then still[#still + 1] = item end
  end
  return still
end

local function keep_names(plan, found)
  if plan.mode ~= "apply" and plan.mode ~= "update" or not found[1] then return end
  local names = {}
  for i, item in ipairs(found) do names[i] = item.name end
  once.keep(plan, M.folder, "hooks", names)
end

-- Call a function of a hook, if it has it. Its steps bear its name.
local function call(item, what, req, ...)
  if not item.hook[what] then return nil end
  local plan = req.plan
  plan.by = item.name
  local ok, answer = pcall(scripts.call, item.hook, what, req, ...)
  plan.by = nil
  if ok then return answer end
  if plan.mode ~= "erase" then error(answer, 0) end
  goes_without(req, item.name, answer)
end

-- Call each `before`. Returns the changes of all, and the last function that gave some.
local function before(req, found)
  local base <const> = req.raw
  local all, last = {}, nil
  for _, item in ipairs(found) do
    local changes = call(item, "before", req)
    if changes ~= nil and type(changes) ~= "table" then
      args.refuse("what before returns", nil, args.expected("nothing, or a table of changes", changes), nil,
        args.place_of(item.hook.before))
    elseif changes then
      all, last = changing.both(all, changes), item.hook.before
      req.raw = changing.merge(base, all)
      req.conf = req.raw
    end
  end
  return all, last
end

local function run(req, plugin, found)
  keep_names(req.plan, found)
  -- What the hooks see of the request, and what the type is to see.
  local function request()
    return setmetatable({ within = {}, conf = req.raw, raw = req.raw }, { __index = req })
  end
  local own = request()
  local changes, last = before(own, found)
  -- What is changed wrongly is told as the mistake of who has changed it.
  local entry = args.entry
  args.entry = last or entry
  local ok, result = pcall(req.delegate, request(), plugin.type, changes)
  args.entry = entry
  if not ok then error(result, 0) end
  for _, item in ipairs(found) do
    if item.hook.after then
      local answer = call(item, "after", own, result)
      if answer == nil then answer = result end
      result = scripts.answer(answer, req, item.hook.after)
    end
  end
  return result
end

-- What is the type's own business, and done when the type is delegated to.
local of_type <const> = { args = true, check = true, conf = true, del = true }

--- The hooks that there are.
-- @tparam table source the module `host`, or a request
-- @treturn {string,...} their names, in the order in which they are called
-- @raise when the folder cannot be read
function M.names(source)
  local names, msg, errno = source.hooks()
  if msg then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  table.sort(names or {})
  return names or {}
end

--- In words, for which attachments a hook is.
-- @tparam table hook
-- @treturn string
function M.told(hook)
  local words = {}
  local function put(key, texts)
    words[#words + 1] = key .. "=" .. (type(texts) == "table" and table.concat(texts, "|") or texts)
  end
  for _, name in ipairs(match_names) do
    local wanted = (hook.match or {})[name]
    local keys = {}
    for key in next, wanted and by_key[name] and wanted or {} do keys[#keys + 1] = key end
    table.sort(keys)
    for _, key in ipairs(keys) do put(("%s[%s]"):format(name, key), wanted[key]) end
    if wanted and not by_key[name] then put(name, wanted) end
  end
  return words[1] and table.concat(words, " ") or "all"
end

--- A plugin with the site's hooks round its `add`.
-- @tparam table req
-- @tparam table plugin
-- @tparam {string,...} names of the hooks that there are, in their order
-- @tparam[opt] boolean lenient a hook that cannot be loaded is passed over, and the log says so
-- @treturn table the same plugin when no hook is for this call
-- @raise when a hook cannot be loaded: it may be for this call
function M.around(req, plugin, names, lenient)
  local found = find(req, plugin, names, lenient)
  if not found[1] then return plugin end
  local function add(current) return run(current, plugin, same_as_then(current.plan, found)) end
  scripts.trust(add)
  return setmetatable({ type = plugin.type, add = add }, {
    __index = function(_, key)
      if of_type[key] then return nil end
      return plugin[key]
    end,
  })
end

return M
