-- SPDX-License-Identifier: MIT
--- Step `elements`: elements of this attachment in sets of nf_tables. The table, with chains and sets, is
-- there for all attachments (cni.step.layout): made by the first, removed with the last.
--
-- `want.elements` is a list of
--
--     set, key, key_end, data   as netlink.nft has them, key and data by the types of the set
--     excludes                  names of sets with such keys, too: what is in one of them for any of the keys
--                               is in the way
--     replace                   true: an element that is there already is replaced, whoever it belonged to
--     says                      the element in words
--     each                      how many elements it stands for: the last number of key and of data goes up
--                               by one from each to the next; `says_each` has one in words, with %d for both
--
-- `want.flows` are those of connection tracking that end with such a change, see cni.step.flows.
--
-- `want.before` names the kind of step that versions before took for such elements. `want.instead` names a
-- function of cni.reference.leftovers which tells whether the reference has done the same, `want.theirs` one
-- that takes back what it has done.
--
-- To whom an element belongs, its comment says. One batch adds all of them, and one removes them. An element
-- that somebody else has is an error which names him; nothing is added then. But for sets with `shared`: of
-- what is in these the first attachment is the owner. Those of other networks wait in the set of that name,
-- with a number behind the key, for the owner to go; then the last of them becomes the owner. So the kernel
-- alone tells who has what, whatever became of our books. Another attachment of the owner's network replaces
-- him: it has been given an address that was his. What another attachment of the same container has is left
-- to it until it goes (cni.step.siblings), but for a script's own tables.
--
-- @module cni.step.elements

local fail = require "cni.fail"
local flows = require "cni.step.flows"
local layouts = require "cni.step.layout"
local netlink = require "netlink"
local nft = require "cni.nft"
local shared = require "cni.record.shared"
local sets = require "cni.step.sets"
local siblings = require "cni.step.siblings"

local errors = netlink.sys.errno
local M = {}

local all_of, set_of, listed, answer = sets.all_of, sets.set_of, sets.listed, sets.answer
local find, find_all, add_to = sets.find, sets.find_all, sets.add_to
local layouts_of, group_of, whole, take = sets.layouts_of, sets.group_of, sets.whole, sets.take
local keys_of, said = sets.keys_of, sets.said

local patience <const> = 100

local owner_comment = layouts.owner_comment

-- Elements that are left out, since another attachment of an owner's container has them: itself a key of it.
local function left_out(owner, want) return { owner = owner, known = {}, never = not want.module } end

local function is_siblings(apart, comment)
  local known = apart.known
  if comment and not apart.never and known[comment] == nil then
    known[comment] = siblings.any(apart.owner, function(other) return owner_comment(other) == comment end)
  end
  return comment ~= nil and known[comment]
end

-- Somebody has an element: it is left out when that is a sibling, or else an error.
local function occupied(apart, element, found)
  local by = found.comment or "somebody"
  if is_siblings(apart, found.comment) then
    apart[element], apart.some = true, true
    return
  end
  fail.throw { msg = ("%s: %s has it already"):format(said(element), by),
    details = "its owner is written network/container/interface" }
end

-- See who has one of the keys of elements in another set, or in its own between its ends.
local function look_for_others(socket, all, elements, group, comment, apart)
  local used = {}
  local function is_used(name)
    if used[name] == nil then
      used[name] = not set_of(all, name).noted or shared.used(group, name)
    end
    return used[name]
  end
  local asked = {}
  for _, element in ipairs(elements) do
    for _, name in ipairs(element.excludes or {}) do
      for _, key in ipairs(is_used(name) and keys_of(element) or {}) do
        asked[#asked + 1] = { set = name, key = key, of = element }
      end
    end
  end
  for i, found in ipairs(find_all(socket, all, asked)) do
    if found and found.comment ~= comment then occupied(apart, asked[i].of, found) end
  end
end

-- Elements that several have --------------------------------------------------------------

local function network_of(comment) return comment and comment:match "^[^/]*" end

-- The place with a number among those who wait for an element.
local function place(set, element, number)
  local key = table.move(element.key, 1, #element.key, 1, {})
  key[#key + 1] = number
  return { set = set.shared, key = key }
end

-- Who waits for an element: the last number, who has that, and the number of one owner.
local function waiting(socket, all, element, comment)
  local set, count, last, own = set_of(all, element.set), 0, nil, nil
  while true do
    local found = find(socket, all, set.shared, place(set, element, count + 1).key)
    if not found then return count, last, own end
    count, last = count + 1, found.comment
    if last == comment then own = count end
  end
end

-- Put into a batch that an owner waits.
local function queue(batch, socket, all, element, comment)
  local count, _, own = waiting(socket, all, element, comment)
  if not own then
    add_to(batch, all, "create", { place(set_of(all, element.set), element, count + 1) }, comment)
  end
end

-- Put into a batch that an owner has such an element no longer. Gives whether somebody else is concerned.
local function release(batch, socket, all, element, comment)
  local set = set_of(all, element.set)
  local found = find(socket, all, element.set, element.key)
  local count, last, own = waiting(socket, all, element, comment)
  local final = place(set, element, math.max(count, 1))
  if found and found.comment == comment then
    -- That nobody waits is looked at in the batch itself: it is refused if somebody has come.
    if count == 0 then add_to(batch, all, "create", { final }, comment) end
    add_to(batch, all, "del", { final, element })
    if count > 0 then add_to(batch, all, "create", { element }, last) end
    return count > 0
  elseif own then
    add_to(batch, all, "del", { final })
    if own < count then
      local left = place(set, element, own)
      add_to(batch, all, "del", { left })
      add_to(batch, all, "create", { left }, last)
    end
    return true
  elseif not found and count > 0 then -- somebody else has taken the element out
    add_to(batch, all, "del", { final })
    add_to(batch, all, "create", { element }, last)
    return true
  end
end

-- Making ----------------------------------------------------------------------------------

-- What is to be made; what of it is there, and replaced; and who waits. All are looked at, or only those that
-- may be in the way of none.
local function sort_out(socket, all, elements, comment, apart, every)
  local made, replaced, waits, asked = {}, {}, {}, {}
  for _, element in ipairs(elements) do
    local look = every or element.replace or set_of(all, element.set).shared
    local list = look and asked or made
    list[#list + 1] = element
  end
  local there = find_all(socket, all, asked)
  for i, element in ipairs(asked) do
    local is_shared, found = set_of(all, element.set).shared, there[i]
    local own = found and found.comment == comment
    if found and is_shared and network_of(found.comment) ~= network_of(comment) then
      waits[#waits + 1] = element
    else
      if own or found and (is_shared or element.replace) then
        replaced[#replaced + 1] = element
      elseif found then
        occupied(apart, element, found)
      end
    end
  end
  -- Those that are somebody else's have been told by now.
  for _, element in ipairs(asked) do made[#made + 1] = element end
  local waiting_ones, list = {}, {}
  for _, element in ipairs(waits) do waiting_ones[element] = true end
  for _, element in ipairs(made) do
    if not apart[element] and not waiting_ones[element] then list[#list + 1] = element end
  end
  return list, replaced, waits
end

-- Commit; nil and the errno when that is refused.
local function commit(socket, all, elements, comment, apart, every)
  local made, replaced, waits = sort_out(socket, all, elements, comment, apart, every)
  local generation
  if #waits > 0 then
    generation = socket:generation()
    made, replaced, waits = sort_out(socket, all, elements, comment, apart, every)
  end
  local batch = {}
  add_to(batch, all, "del", replaced)
  add_to(batch, all, "create", made, comment)
  for _, element in ipairs(waits) do queue(batch, socket, all, element, comment) end
  if #batch == 0 then return true end
  local ok, msg, errno = layouts.commit(socket, batch, generation)
  return ok, errno, msg
end

-- Whether there is an element that would be in the way of an interval, without having its first key.
local function overlap(socket, all, elements, comment, apart)
  for _, element in ipairs(elements) do
    local found = element.key_end and find(socket, all, element.set, element.key_end)
    if found and found.comment ~= comment then occupied(apart, element, found) end
  end
end

--- Have connection tracking forget the flows of a step (`want.flows`) that its elements change the way of.
-- @tparam table step
-- @tparam handle h of its namespace
-- @param socket of nf_tables; nil: there is nothing to forget
-- @tparam {table,...} all layouts
-- @tparam boolean removed whether the elements are gone now; otherwise they have come
-- @string comment whose they are
function M.forget(step, h, socket, all, removed, comment)
  if not socket or not step.want.flows or h.absent then return end
  local tracked = step.want.flows
  for _, layout in ipairs(all) do
    if not removed or not layouts.missing(socket, layout) then
      tracked = layouts.may_track(socket, layout, tracked)
    end
  end
  flows.forget(h, socket, tracked, removed, function(name, flow)
    local found = find(socket, all, name, { flow.dst, flow.proto, flow.port })
    return found ~= nil and found.comment ~= comment
  end)
end

local again = { [errors.ENOENT] = true, [errors.EEXIST] = true, [errors.ERESTART] = true }

function M.run(step, plan)
  local h, all, want = plan[step.ns], layouts_of(step), step.want
  local socket, comment = nft.open(h), owner_comment(plan.owner)
  local elements = all_of(want.elements)
  take(plan, h, all, want)
  local group = group_of(all[1], h, want)
  local ok, errno, msg, waits
  local function try()
    local apart = left_out(plan.owner, want)
    look_for_others(socket, all, elements, group, comment, apart)
    ok, errno, msg = commit(socket, all, elements, comment, apart)
    if not ok and (errno == errors.EEXIST or errno == errors.ENOTEMPTY) then
      -- Somebody has one of them: that is said. Or a killed call of this very attachment has left some.
      overlap(socket, all, elements, comment, apart)
      ok, errno, msg = commit(socket, all, elements, comment, apart, true)
    end
    return ok and apart.some
  end
  for _ = 1, patience do
    for _, layout in ipairs(all) do
      if layouts.missing(socket, layout) then
        plan:lock(group_of(layout, h, want), "exclusive")
        take(plan, h, all, want)
        layouts.make(socket, layout, M.say(step))
      end
    end
    if try() and not waits then
      siblings.wait(group, plan.owner)
      waits = true
      try()
    end
    if ok then return M.forget(step, h, socket, all, false, comment) end
    -- Gone since we looked, or come.
    if not again[errno] then break end
  end
  fail.kernel(M.say(step), msg, errno)
end

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not same(value, b[key]) then return false end
  end
  return true
end

-- What is wrong with an element, of which this was found; nil: nothing. `lacking`: what layouts lack.
local function wrong(socket, all, element, found, comment, lacking, apart)
  local set, layout = set_of(all, element.set)
  if lacking[layout] then return ("%s: %s"):format(said(element), lacking[layout]) end
  if not found then return ("%s: its element in set %s is missing"):format(said(element), element.set) end
  if found.comment ~= comment and is_siblings(apart, found.comment) then return nil end
  local ours = found.comment == comment or element.replace
    or set.shared and select(3, waiting(socket, all, element, comment))
  if not ours then
    return ("%s: its element in set %s belongs to %s"):format(said(element), element.set,
      found.comment or "somebody")
  elseif set.data_type and set.data_type ~= "verdict" and not same(element.data, found.data) then
    return ("%s: its element in set %s leads elsewhere"):format(said(element), element.set)
  end
end

-- What a reference plugin has made may stand in the place of the elements (`want.instead`), or what versions
-- before have (`want.before`).
function M.verify(step, plan)
  local h, all, want = plan[step.ns], layouts_of(step), step.want
  local socket, comment, lacking = nft.open(h), owner_comment(plan.owner), {}
  for _, layout in ipairs(all) do
    local missing = layouts.missing(socket, layout)
    lacking[layout] = missing and ("%s is missing from table %s %s"):format(missing, layout.family or "inet",
      layout.table)
    if #want.elements == 0 and missing then return lacking[layout] end
  end
  local elements = all_of(want.elements)
  local there, apart = find_all(socket, all, elements), left_out(plan.owner, want)
  for i, element in ipairs(elements) do
    local text = wrong(socket, all, element, there[i], comment, lacking, apart)
    if text and want.before and require("cni.step." .. want.before).stands_for(h, plan.owner, element) then
      text = nil
    end
    if text and want.instead then
      local stands, alone = require("cni.reference.leftovers")[want.instead](h, plan.owner, want, element)
      -- One that is asked of a single element has told nothing of the others.
      if stands and not alone then return nil end
      if stands then text = nil end
    end
    if text then return text end
  end
end

-- Elements of an owner that no record tells of.
local function unrecorded(socket, all, comment)
  local list = {}
  local function look_at(layout, set, put)
    local found = not set.tracks
      and answer(socket, layout, set, socket:dump("element", listed(layout, set, {})))
    for _, element in ipairs(found or {}) do
      if element.comment == comment then put(element) end
    end
  end
  for _, layout in ipairs(all) do
    local behind = {}
    for _, set in ipairs(layout.sets) do
      if set.shared then behind[set.shared] = set end
    end
    for _, set in ipairs(layout.sets) do
      look_at(layout, set, function(element)
        local of = behind[set.name]
        -- One that waits for an element.
        if of then table.remove(element.key) end
        list[#list + 1] = { set = (of or set).name, key = element.key, key_end = element.key_end }
      end)
    end
  end
  return list
end

local function take_out(step, plan, socket, all)
  local comment, batch, wary = owner_comment(plan.owner), {}, false
  local elements = plan.mode == "erase" and unrecorded(socket, all, comment) or all_of(step.want.elements)
  local generation = nil
  local function gather()
    local own, asked = {}, {}
    batch, wary = {}, false
    for _, element in ipairs(elements) do
      if set_of(all, element.set).shared then
        wary = release(batch, socket, all, element, comment) or wary
      else
        asked[#asked + 1] = element
      end
    end
    for i, found in ipairs(find_all(socket, all, asked)) do
      if found and found.comment == comment then own[#own + 1] = asked[i] end
    end
    add_to(batch, all, "del", own)
  end
  gather()
  if wary then
    generation = socket:generation()
    gather()
  end
  if #batch == 0 then return true end
  local ok, msg, errno = socket:commit(batch, nil, generation)
  if not ok and not again[errno] then fail.kernel("undo: " .. M.say(step), msg, errno) end
  return ok
end

-- Without a record, and without books, nothing tells whether others use a table that has rules alone.
local function let_go(socket, layout, group, owner, is_lost)
  for _, set in ipairs(layout.sets) do
    if set.noted then shared.leave(group, set.name, owner) end
  end
  if not shared.leave(group, whole(layout), owner) then return end
  local lock <close> = shared.lock(group, "exclusive")
  if shared.used(group, whole(layout)) then return end
  if socket and not (is_lost and layout.own and #layout.sets == 0) then layouts.drop(socket, layout) end
  shared.tidy(group, lock)
end

-- What is gone is made for those who have waited for it; one by one where a third has some of it.
local function hand_on(step, plan, socket, all, group)
  siblings.hand_on(group, plan.owner, step.want, function(owner, elements)
    local comment, list, missing = owner_comment(owner), all_of(elements), {}
    for i, found in ipairs(find_all(socket, all, list)) do
      if not found then missing[#missing + 1] = list[i] end
    end
    local function make(some)
      local batch = {}
      add_to(batch, all, "create", some, comment)
      if #batch == 0 then return true end
      return socket:commit(batch)
    end
    local ok, msg, errno = make(missing)
    for i = 1, not ok and errno == errors.EEXIST and #missing or 0 do
      ok, msg, errno = make { missing[i] }
      if not ok and errno ~= errors.EEXIST then break end
      ok = true
    end
    if not ok then fail.kernel("hand on what waits in set " .. missing[1].set, msg, errno) end
  end)
end

-- Without a socket there are no nf_tables: only the books are to be kept.
local function undo(step, plan, socket)
  local h, all = plan[step.ns], layouts_of(step)
  local group = group_of(all[1], h, step.want)
  siblings.go(group, plan.owner)
  for _ = 1, patience do
    if not socket or take_out(step, plan, socket, all) then break end
  end
  if socket then hand_on(step, plan, socket, all, group) end
  if step.want.theirs then require("cni.reference.leftovers")[step.want.theirs](plan) end
  M.forget(step, h, socket, all, true, owner_comment(plan.owner))
  for _, layout in ipairs(all) do
    let_go(socket, layout, group_of(layout, h, step.want), plan.owner, plan.mode == "erase")
  end
end

-- A newer version may have layouts and sets that this one has not.
function M.knows(step)
  local ok, all = pcall(layouts_of, step)
  if not ok and not tostring(all):find("there is no module", 1, true) then error(all, 0) end
  for _, element in ipairs(ok and all and step.want.elements or {}) do
    if not set_of(all, element.set) then return false end
  end
  return ok and all ~= nil
end

function M.undo(step, plan)
  local h = plan[step.ns]
  if not h.absent then return undo(step, plan, nft.open_if_any(h)) end
  if step.want.group then undo(step, plan, nil) end
end

-- Updates ---------------------------------------------------------------------------------

--- All elements of an attachment in the same tables are one thing; which tables there are may depend on the
-- families of its addresses.
function M.key(step)
  local want = step.want
  local layout = want.layout or "layout"
  if not want.module then return ("%s %s"):format(layout.family, layout.table) end
  local first = type(layout) == "table" and layout[1] or layout
  return want.module .. " " .. first:gsub("%d.*$", "")
end

local function text_of(value)
  return type(value) == "table" and table.concat(value, "\0") or tostring(value)
end

-- Set, first key and last key of an element.
local function where(element)
  return ("%s\0%s\0%s"):format(element.set, text_of(element.key), text_of(element.key_end))
end

local function by_place(elements)
  local places = {}
  for _, element in ipairs(elements) do places[where(element)] = element end
  return places
end

-- What elements of one step have that those of another have not: by their places, and by what they lead to.
local function difference(elements, others)
  local list, places = {}, by_place(others)
  for _, element in ipairs(elements) do
    local other = places[where(element)]
    if not other or not (same(element.data, other.data) and same(other.data, element.data)) then
      list[#list + 1] = element
    end
  end
  return list
end

-- Whether what was found by the first key of an element is that one: an interval may end elsewhere.
local function is_one(found, element)
  return found and (found.key_end == nil or text_of(found.key_end) == text_of(element.key_end))
end

-- Take some elements out and put others in, at once.
local function exchange(plan, socket, all, gone, made, apart)
  local comment, own, shared_ones = owner_comment(plan.owner), {}, {}
  for _, element in ipairs(gone) do
    local list = set_of(all, element.set).shared and shared_ones or own
    list[#list + 1] = element
  end
  local ok, msg, errno
  for _ = 1, patience do
    local generation = socket:generation()
    local batch, taken = {}, {}
    for i, found in ipairs(find_all(socket, all, own)) do
      if is_one(found, own[i]) and found.comment == comment then taken[#taken + 1] = own[i] end
    end
    add_to(batch, all, "del", taken)
    for _, element in ipairs(shared_ones) do release(batch, socket, all, element, comment) end
    local out, new, replaced, waits = by_place(taken), sort_out(socket, all, made, comment, apart, true)
    for _, element in ipairs(replaced) do
      local there = not set_of(all, element.set).interval
        or is_one(find(socket, all, element.set, element.key), element)
      if there and not out[where(element)] then add_to(batch, all, "del", { element }) end
    end
    add_to(batch, all, "create", new, comment)
    for _, element in ipairs(waits) do queue(batch, socket, all, element, comment) end
    if #batch == 0 then return true end
    ok, msg, errno = layouts.commit(socket, batch, generation)
    if ok or not again[errno] then break end
  end
  return ok, msg, errno
end

-- Those flows of a step that another one has not.
local function flows_of(step, other)
  local list = {}
  for _, flow in ipairs(step.want.flows or {}) do
    local known = false
    for _, own in ipairs(other.want.flows or {}) do known = known or same(flow, own) and same(own, flow) end
    if not known then list[#list + 1] = flow end
  end
  return { want = { flows = list[1] and list } }
end

-- The elements of steps that stay, in the same namespace.
local function of_rest(plan, step)
  local list = {}
  for _, other in ipairs(plan.rest or {}) do
    local is_other = other.kind == step.kind and other.ns == step.ns and M.knows(other)
    for _, element in ipairs(is_other and all_of(other.want.elements) or {}) do list[#list + 1] = element end
  end
  return list
end

-- The layouts of a step that no step which stays has.
local function layouts_alone(plan, step)
  local used, alone = {}, {}
  for _, other in ipairs(plan.rest or {}) do
    if other.kind == step.kind and other.ns == step.ns then
      for _, layout in ipairs(layouts_of(other) or {}) do
        used[("%s %s %s"):format(layout.family or "inet", layout.table, layout.name)] = true
      end
    end
  end
  for _, layout in ipairs(layouts_of(step) or {}) do
    if not used[("%s %s %s"):format(layout.family or "inet", layout.table, layout.name)] then
      alone[#alone + 1] = layout
    end
  end
  return alone
end

-- Layouts that are used no more.
local function let_go_of(plan, step)
  local h = plan[step.ns]
  local socket = nft.open_if_any(h)
  for _, layout in ipairs(layouts_alone(plan, step)) do
    let_go(socket, layout, group_of(layout, h, step.want), plan.owner, false)
  end
end

local function renew(from, to, plan, made, gone)
  local h, all, want = plan[to.ns], layouts_of(to), to.want
  local known = {}
  for _, layout in ipairs(all) do known[layout] = true end
  for _, layout in ipairs(layouts_of(from) or {}) do
    if not known[layout] then
      all = table.move(all, 1, #all, 1, {})
      all[#all + 1] = layout
    end
  end
  gone = difference(gone, of_rest(plan, to))
  local socket, comment = nft.open(h), owner_comment(plan.owner)
  local apart = left_out(plan.owner, want)
  local own = layouts_of(to)
  take(plan, h, own, want)
  for _, layout in ipairs(own) do
    if layouts.missing(socket, layout) then
      plan:lock(group_of(layout, h, want), "exclusive")
      take(plan, h, own, want)
      layouts.make(socket, layout, M.say(to))
    end
  end
  look_for_others(socket, all, made, group_of(all[1], h, want), comment, apart)
  local ok, msg, errno = exchange(plan, socket, all, gone, made, apart)
  if not ok then
    overlap(socket, all, made, comment, apart)
    fail.kernel(M.say(to), msg, errno)
  end
  -- Another attachment of the container may have waited for what is out now.
  plan:unlock()
  if gone[1] then hand_on(from, plan, socket, all, group_of(all[1], h, want)) end
  M.forget(flows_of(from, to), h, socket, all, true, comment)
  M.forget(flows_of(to, from), h, socket, all, false, comment)
end

--- In one batch: what both have is not touched, and nobody sees a moment without either.
function M.change(from, to, plan)
  local old, new = all_of(from.want.elements), all_of(to.want.elements)
  renew(from, to, plan, difference(new, old), difference(old, new))
  let_go_of(plan, from)
end

--- Those elements alone that no step which stays has, and then what no such step uses.
function M.drop(step, plan)
  local all, h = layouts_of(step), plan[step.ns]
  if #layouts_alone(plan, step) == #all and not of_rest(plan, step)[1] then return M.undo(step, plan) end
  local socket = not h.absent and nft.open_if_any(h)
  local gone = difference(all_of(step.want.elements), of_rest(plan, step))
  if socket then
    local ok, msg, errno = exchange(plan, socket, all, gone, {}, left_out(plan.owner, step.want))
    if not ok then fail.kernel("undo: " .. M.say(step), msg, errno) end
    if gone[1] then hand_on(step, plan, socket, all, group_of(all[1], h, step.want)) end
    M.forget(flows_of(step, { want = {} }), h, socket, all, true, owner_comment(plan.owner))
  end
  if not h.absent or step.want.group then let_go_of(plan, step) end
end

function M.say(step)
  local words = {}
  for i, element in ipairs(step.want.elements) do
    if element.says ~= "" then words[#words + 1] = said(step.want.elements[i]) end
  end
  local layout = #words == 0 and not step.want.module and step.want.layout
  if layout then return ("have table %s %s of nf_tables"):format(layout.family, layout.table) end
  return #words == 0 and "add nothing to nf_tables" or table.concat(words, ", ")
end

return M
