-- SPDX-License-Identifier: MIT
--- Update: what is attached becomes what the configuration says now. `add` is run once more, in a plan that
-- finds what is there; what it asks for is compared with the steps of the record, and the difference is done.
--
-- Steps are about the same thing when they have the same kind, namespace and `key` (cni.engine.plan). Then
--
--     kept      both want the same: nothing is sent
--     changed   the kind makes the one of the other, in place where the kernel can
--     added     no step of the record is about it: done as in an ADD
--     removed   the configuration asks for it no more: taken back, after all else
--
-- It is all or nothing, for the whole chain. A new record is written behind the old one before anything is
-- done; until it counts, all is taken back: by this call when it fails, by the next one on the attachment
-- when it is killed (cni.engine.records, `settle`). From the moment at which the first of the new records
-- counts, it is only finished. What is removed is by then debris of the old record: any call takes it away.
--
-- @module cni.engine.update

local args = require "cni.engine.args"
local fail = require "cni.fail"
local journal = require "cni.record.journal"
local json = require "cni.json"
local outline = require "cni.engine.outline"
local plans = require "cni.engine.plan"
local records = require "cni.engine.records"
local request = require "cni.protocol.request"
local sandbox = require "cni.record.sandbox"
local verbs = require "cni.engine.verbs"

local M = {}

-- Comparing --------------------------------------------------------------------------------

-- A text that two values have in common exactly when they are equal.
local function signature(value)
  if type(value) ~= "table" then
    return math.type(value) == "float" and value % 1 == 0 and ("%d"):format(value) or json.show(value)
  end
  local keys, parts = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for i, key in ipairs(keys) do parts[i] = ("%s=%s"):format(tostring(key), signature(value[key])) end
  return "{" .. table.concat(parts, ",") .. "}"
end

local wishes = setmetatable({}, { __mode = "k" })

-- What a step wants, as its record would have it, without what an ADD chooses by itself. A step of a record
-- has been written and read.
local function wish(step, kind, of_record)
  if wishes[step] then return wishes[step] end
  local want = {}
  for key, value in pairs(step.want) do
    if not (kind.chosen and kind.chosen[key]) then want[key] = value end
  end
  if not of_record then want = json.decode_lines(json.note(want) .. "\n", "step")[1] end
  wishes[step] = json.sorted_note(want)
  return wishes[step]
end

local function name_of(step, about)
  return ("%s %s %s"):format(step.kind, step.ns, about)
end

-- Find for each step the one of the record that is about the same thing, and take it out of `left`: first
-- those that want the same, then those of the same key.
local function pair_up(steps, left)
  local pairs_of, taken = {}, {}
  local function pass(name)
    local by = {}
    for i, old in ipairs(left) do
      local text = old.did and not taken[i] and name(old, plans.kind_of(old), true)
      if text then
        by[text] = by[text] or {}
        table.insert(by[text], i)
      end
    end
    for n, step in ipairs(steps) do
      local list = not pairs_of[n] and by[name(step, plans.kind_of(step)) or false]
      local i = list and table.remove(list, 1)
      if i then pairs_of[n], taken[i] = i, true end
    end
  end
  pass(function(step, kind, of_record) return name_of(step, wish(step, kind, of_record)) end)
  pass(function(step, kind)
    local key = kind.key and kind.key(step)
    return key and name_of(step, key)
  end)
  return pairs_of, taken
end

local function refuse(step, kind)
  fail.throw { msg = ("%s: %s, and no update"):format(plans.say(step), kind.new_only),
    hint = "DEL and ADD make it anew; what runs in the sandbox loses its connections" }
end

-- What of a part is added, changed, removed: the steps of its plan are marked, and told.
local function compare(part)
  local plan, old = part.plan, part.old and part.old.steps or {}
  local of, taken = pair_up(plan.steps, old)
  for n, step in ipairs(plan.steps) do
    local kind, from = plans.kind_of(step), old[of[n]]
    if from then
      if kind.adopt then
        kind.adopt(step, from)
        wishes[step] = nil
      end
      step.was, step.had = of[n], from.had
      if wish(step, kind) == wish(from, kind, true) then
        step.kept, step.want = true, from.want
      else
        part.differs = true
        if kind.new_only then refuse(step, kind) end
        if kind.before then step.had = kind.before(step, plan, from) end
        part.told("~", step, from)
      end
    else
      if kind.new_only then refuse(step, kind) end
      if kind.before then step.had = kind.before(step, plan) end
      part.differs = true
      part.told("+", step)
    end
  end
  for i, step in ipairs(old) do
    local kind = plans.kind_of(step)
    -- What was decided once, and is not asked for now, may be asked for again.
    if step.did and not taken[i] and step.kind == "once" then
      table.insert(plan.steps, { kind = step.kind, ns = step.ns, want = step.want, by = step.by, was = i,
        kept = true })
      taken[i] = true
    end
    if step.did and not taken[i] and (kind.undo or kind.drop) then
      if kind.new_only then refuse(step, kind) end
      part.differs = true
      part.told("-", step)
    end
  end
end

-- Parts ------------------------------------------------------------------------------------

-- The request of a part of a chain, as its ADD would come now.
local function request_of(part, owner, env)
  local header = part.header
  local words = { CNI_COMMAND = "ADD", CNI_CONTAINERID = owner.id, CNI_IFNAME = owner.ifname,
    CNI_NETNS = header.netns or "", CNI_ARGS = header.args or "",
    CNI_PATH = table.concat(header.path or {}, ":") }
  if words.CNI_NETNS == "" then words.CNI_NETNS = "none" end
  local req = request.from_env(function(name) return words[name] end)
  request.read_config(req, part.input)
  verbs.equip(req, env.host, env.watch)
  req.type, req.netns = part.type, header.netns
  return req
end

-- The books of a chain's types, each locked. What an earlier update has left in them is done with.
local function open_books(owner, types, env)
  local books, _, problem = journal.open_all(owner, types)
  local ok, err = pcall(function()
    if problem then error(problem, 0) end
    for _, book in pairs(books) do records.finish(book, env) end
  end)
  return books, not ok and err or nil
end

-- The records of a type, the first plugin's first. A plugin that another one has executed, for addresses, was
-- given that one's configuration: its record is no part of the chain.
local function in_chain(book)
  local list, living = {}, book:living()
  for i = #living, 1, -1 do
    local header = living[i].header
    local ok, raw = pcall(json.decode, header.config, "record")
    if not ok or type(raw) ~= "table" or raw.type == header.type then list[#list + 1] = living[i] end
  end
  return list
end

-- Give each part its record; of what is in the chain no more, a part that wants nothing.
local function assign(parts, books, owner, env)
  local lists, used, any = {}, {}, nil
  for name, book in pairs(books) do
    lists[name], used[name] = in_chain(book), 0
    for _, record in ipairs(lists[name]) do
      if book.damaged or not record:is_whole() then
        fail.throw { msg = ("%s: the record of %s %s"):format(owner.id, name,
          book.damaged and "was damaged" or "is of an ADD or a DEL that did not come to an end"),
          hint = "DEL and ADD make it anew" }
      end
      any = any or record.header
    end
  end
  if not any then
    fail.throw { msg = ("there is no record of %s of container %s in network %s"):format(owner.ifname,
      owner.id, owner.network),
      hint = "what another's plugin has made, or what lost its record, DEL and ADD make anew" }
  end
  for _, part in ipairs(parts) do
    local name = part.type
    if not part.foreign then
      used[name] = used[name] + 1
      part.book, part.old = books[name], lists[name][used[name]]
      part.header = part.old and part.old.header or any
      if not part.old and (part.is_stored or not env.stores) then
        fail.throw { msg = part.is_stored and ("%s has no record of this attachment any more"):format(name)
          or ("%s is new in the chain, and no runtime would take it back: none has stored the attachment")
          :format(name), hint = "DEL and ADD make it anew" }
      end
    end
  end
  for name, list in pairs(lists) do
    for i = used[name] + 1, #list do
      parts[#parts + 1] = { type = name, book = books[name], old = list[i], header = list[i].header,
        gone = true, input = list[i].header.config }
    end
  end
end

-- What the chain has so far behind a plugin that is not ours: what it was, unless that cannot be told.
local function behind_foreign(parts, at, result, env)
  local known
  for i = at + 1, #parts do
    local old = parts[i].old
    if not known and old and not parts[i].gone then
      local told = json.decode(old.header.config, "record").prevResult
      known = told and require("cni.protocol.result").parse_any(told, env.version)
    end
  end
  known = known or env.result
  local same = known and result and signature(known.ips) == signature(result.ips)
    and signature(known.interfaces) == signature(result.interfaces)
  if parts[at].changed or not known or at > 1 and not same then
    fail.throw { msg = ("%s is not one of luacni's types: an update cannot ask it for another result"):format(
      parts[at].type), hint = "DEL and ADD make the attachment anew" }
  end
  return known
end

-- The sandbox of a part; nil: an address without one.
local function namespace_of(part, owner)
  local ns = sandbox.find(part.header)
  if not ns and part.header.cookie ~= "" then
    fail.throw { msg = ("the namespace of container %s is gone"):format(owner.id),
      hint = "luacni gc takes back what is left" }
  end
  return ns
end

-- Refuse to change what is not as it was made: half of it would be taken for something else.
local function must_be_whole(part, owner, ns, env)
  if not part.old then return end
  local raw = json.decode(part.gone and part.input or part.stdin(false), "configuration")
  local before = json.decode(part.old.header.config, "record")
  if not part.gone and part.old.header.digest == journal.digest(raw)
    and signature(raw.runtimeConfig) == signature(before.runtimeConfig) then return end
  local plan <close> = plans.new("repair", { owner = owner, record = part.old, prev = env.result,
    again = true, request = env, pod = records.place(ns, part.header.netns) })
  plan.steps = part.old.steps
  local lacking, left = plan:lacking()
  local why = lacking[1] and lacking[1].differs or left[1] and left[1].msg
  if why then
    fail.throw { msg = ("%s is not as it was made: %s"):format(part.type, why),
      hint = "luacni repair does anew what is missing" }
  end
end

local function look_at(part, owner, ns, env, result)
  local req = request_of(part, owner, env)
  part.req = req
  if part.gone then
    part.plan = plans.new("update", { owner = owner, request = req,
      pod = records.place(ns, part.header.netns) })
  else
    local plugin = require("cni.engine.script").plugin(env.host, part.type)
    part.plan, part.result = verbs.wanted(req, plugin, ns, part.old)
  end
  compare(part)
  local done = part.old and part.old.done
  part.is_new = part.differs or part.gone or not done or not part.old:is_of(journal.digest(req.raw))
    or signature(done.ips) ~= signature(outline.of(part.result or result or {}).ips)
end

-- Doing ------------------------------------------------------------------------------------

local function begin(part, id)
  local old, header = part.old, {}
  for key, value in pairs(part.header) do header[key] = value end
  local before = old and old.header.update and old.header.update.digests or {}
  local digests, digest = table.move(before, 1, #before, 1, {}), journal.digest(part.req.raw)
  if old and not part.gone and old.header.digest ~= digest then digests[#digests + 1] = old.header.digest end
  header.type, header.digest, header.config = part.type, digest, part.input
  header.update = { id = id, of = old and old:number() or nil, digests = digests[1] and digests or nil }
  part.record = part.book:begin(header)
  part.plan.record = part.record
  part.record:append(part.plan.steps, 1, #part.plan.steps)
  part.record.steps = part.plan.steps
end

local function old_steps(part) return part.old and part.old.steps or {} end

-- Take back what was done of all parts, the last first. Returns the error, and what failed beside.
local function take_back(parts, err)
  local errors = {}
  for i = #parts, 1, -1 do
    local part = parts[i]
    local ok, why = pcall(function() if part.record then records.revert(part.record, part.plan) end end)
    if not ok then errors[#errors + 1] = fail.wrap(why) end
  end
  err = fail.wrap(err)
  if errors[1] then
    local more = ("taking it back failed too: %s"):format(fail.join(errors))
    err.details = err.details and err.details .. "; " .. more or more
  end
  return err
end

-- What is wanted no more, the last part's first.
local function sweep(parts, env)
  local errors = {}
  for i = #parts, 1, -1 do
    local part = parts[i]
    local failed = part.old and records.undo(part.old, nil, env) or {}
    table.move(failed, 1, #failed, #errors + 1, errors)
    if part.gone and not failed[1] then part.record:remove() end
  end
  if errors[1] then
    local err = fail.join(errors)
    err.msg = "it is as the configuration says now, but for what could not be taken back: " .. err.msg
    err.hint = err.hint or "the next luacni gc, repair, update or DEL tries again"
    error(err, 0)
  end
end

--- Bring an attachment to what its configuration says now.
-- @tparam table owner {network, id, ifname}
-- @tparam {table,...} parts the plugins of the chain, in order: `type`; `foreign`: it is none of ours, and
-- `changed`: its configuration is another; or `stdin`, function(prevResult as JSON or false): its input, and
-- `is_stored`: the chain that a runtime has stored has it
-- @tparam table env `host`, `log`, `time_left`, `watch` of the program; `result`: what a runtime has stored;
-- `stores`: the new chain will be stored for it; `dry`: only tell; `version` of the result
-- @tparam function told(part, sign, step, from) is told of what is added (`+`), changed (`~`), removed (`-`)
-- @treturn string the result of the chain
-- @treturn boolean whether anything was another
-- @raise what failed: then all is as before, or the details say what is not
function M.attachment(owner, parts, env, told)
  local types = {}
  for _, part in ipairs(parts) do
    if not part.foreign then types[part.type] = true end
  end
  for _, record in ipairs(journal.of(owner)) do types[record.header.type] = true end
  local books, problem = open_books(owner, types, env)
  local chain = table.move(parts, 1, #parts, 1, {})
  local text, begun, counts, at = nil, {}, false, nil
  local ok, err = pcall(function()
    if problem then error(problem, 0) end
    assign(chain, books, owner, env)
    local id, result = journal.new_id(), nil
    for _, part in ipairs(chain) do
      part.told = function(...) told(part, ...) end
      if not part.foreign then
        part.ns = namespace_of(part, owner)
        must_be_whole(part, owner, part.ns, env)
      end
    end
    -- One after the other, as in an ADD: each plugin finds what those before it have made.
    for i, part in ipairs(chain) do
      if part.foreign then
        result = behind_foreign(chain, i, result, env)
      else
        if not part.gone then
          part.input = part.stdin(result and require("cni.protocol.result").render(result, env.version)
            or false)
        end
        look_at(part, owner, part.ns, env, result)
        result = part.result or result
        if part.is_new then
          begun[#begun + 1], at = part, part
          if not env.dry then
            begin(part, id)
            part.plan:renew(old_steps(part))
          end
          at = nil
        end
      end
    end
    text = require("cni.protocol.result").render(result, env.version)
    if env.dry or not begun[1] then return end
    for _, part in ipairs(begun) do part.record:note_ready(outline.of(part.result or result)) end
    for _, part in ipairs(begun) do
      part.record:finish(part.record.ready)
      -- With the first of these all counts: what goes wrong is finished by the next call.
      counts = true
    end
    sweep(begun, env)
  end)
  if not ok and not counts and not env.dry then
    err = take_back(begun, at and at.plan and args.placed(err, at.plan.doing) or err)
  end
  for _, part in ipairs(chain) do
    if part.plan then part.plan:close() end
  end
  for _, book in pairs(books) do
    local closed, why = pcall(book.close, book, not ok)
    if ok and not closed then ok, err = false, why end
  end
  if not ok then error(err, 0) end
  return text, begun[1] ~= nil
end

return M
