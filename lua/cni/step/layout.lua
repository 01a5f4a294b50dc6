-- SPDX-License-Identifier: MIT
--- A layout: what a table of nf_tables has whatever is attached, its chains with their rules, and sets. What
-- attachments have is in the sets (cni.step.elements).
--
--     { table = "luacni", name = "ports", comment = "...", family = "inet" (the default),
--       sets = { { name =, key_type =, data_type =, interval =, comment = }, ... },
--       chains = { { name =, comment =, rules = { { ... }, ... } }, ... } }
--
-- A set that `tracks` a protocol has the ports that its flows go to: rules put them there, and when these are
-- made, what is tracked already is looked at. Until that is done it has port 0.
--
-- A chain comes behind those that it jumps to; a base chain has `type`, `hook`, `priority` too. A chain with
-- `kept` is the administrator's: what is in it is never changed, and the chain stays while it has a rule.
--
-- A layout with `own` is a script's (cni.engine.filtering): a table of that name that luacni has not made is
-- left alone. A record has it without rules: there `jumps` of a chain is how often they lead to it; and, to
-- make it anew, as it was frozen in `frozen`.
--
-- Layouts of one `group` are locked together, and attachments may have elements in several of them. A set
-- whose elements several may have has `shared`, the name of another: see cni.step.elements.
--
-- Which layout is there, the comments of its chains say: a change of its text is a new layout, and so is a
-- change of its `version`. Chains of another one are made anew, in one batch; sets of the same types, and all
-- that is in them, stay. So a newer version of this program takes over what an older one has made while
-- packets flow.
--
-- @module cni.step.layout

local fail = require "cni.fail"
local netlink = require "netlink"
local nft = require "cni.nft"

local errors = netlink.sys.errno
local M = {}

--- What the table of this program says of itself; its chains say what each is for.
M.of_luacni = "made and removed by luacni, but for chains whose name begins with admin"

--- How the two families differ: what names end in, what rules and types call them.
M.protos = {
  inet = { suffix = "4", word = "ip", nfproto = "ipv4", type = "ipv4_addr" },
  inet6 = { suffix = "6", word = "ip6", nfproto = "ipv6", type = "ipv6_addr" },
}

--- The families, in the order in which layouts have them.
M.families = { "inet", "inet6" }

--- Have a module make its layouts when they are first asked for, as fields.
-- @tparam table module
-- @tparam function build is given the name of a field that the module does not have; gives the layout, or nil
function M.when_asked(module, build)
  setmetatable(module, { __index = function(_, key)
    local layout = type(key) == "string" and build(key) or nil
    if layout then rawset(module, key, layout) end
    return layout
  end })
end

-- How often it is tried again when somebody else changes the rules at the same moment.
local patience <const> = 100

local function checked(found, msg, errno)
  if found == nil and errno and errno ~= errors.ENOENT then fail.kernel("look at nf_tables", msg, errno) end
  return found
end

local function of(layout, fields)
  fields.family, fields.table = layout.family or "inet", layout.table
  return fields
end
M.of = of

--- How often the chains of a layout are jumped to.
-- @tparam table layout
-- @treturn table by name of the chain
local function jumps_of(layout)
  local jumps = {}
  for _, chain in ipairs(layout.chains) do
    if chain.jumps then jumps[chain.name] = chain.jumps end
    for _, rule in ipairs(chain.rules or {}) do
      for _, expr in ipairs(rule) do
        local target = expr.data and type(expr.data) == "table" and expr.data.chain
        if target then jumps[target] = (jumps[target] or 0) + 1 end
      end
    end
  end
  return jumps
end

--- To whom an element or a rule belongs, as its comment says it.
-- @tparam table owner
-- @tparam[opt] int number which of the owner's it is
-- @treturn string
function M.owner_comment(owner, number)
  local text = ("%s/%s/%s"):format(owner.network, owner.id, owner.ifname)
  local more = number and " " .. number or ""
  if #text + #more > 128 then text = text:sub(1, 100) .. "/" .. netlink.sys.hash64(text) end
  return nft.comment(text .. more)
end

M.jumps_of = jumps_of

-- The key of what is a list, in a table that has fields as well.
local listed <const> = "[]"

--- A definition as a record can have it: an expression is a list that has fields.
-- @param value
-- @return plain data, for @{thaw}
function M.freeze(value)
  if type(value) ~= "table" then return value end
  local copy, fields = {}, false
  for key, item in next, value do
    if math.type(key) ~= "integer" then copy[key], fields = M.freeze(item), true end
  end
  local list = fields and {} or copy
  for i, item in ipairs(value) do list[i] = M.freeze(item) end
  if fields and list[1] ~= nil then copy[listed] = list end
  return copy
end

--- What was frozen.
-- @param value
-- @return as it was
function M.thaw(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in next, value do
    if key ~= listed then copy[key] = M.thaw(item) end
  end
  for i, item in ipairs(value[listed] or {}) do copy[i] = M.thaw(item) end
  return copy
end

--- Commit what a script may have got wrong: that is an error of its own words, and not of ours.
-- @param socket
-- @tparam table batch
-- @tparam[opt] int generation
-- @return what the socket's `commit` returns
-- @raise where the batch cannot be put together
function M.commit(socket, batch, generation)
  local answer = table.pack(pcall(socket.commit, socket, batch, nil, generation))
  if answer[1] then return table.unpack(answer, 2, answer.n) end
  fail.throw { msg = (tostring(answer[2]):gsub("^.-request %d+: %a+%.", "")) }
end

local function comment_of(layout, chain)
  return ("%s [%s %s]"):format(chain.comment or chain.name, layout.name, layout.version)
end

--- What of a layout is missing.
-- @param socket
-- @tparam table layout
-- @treturn string|nil in words
function M.missing(socket, layout)
  local jumps, lacking = jumps_of(layout), nil
  -- Those of this program's are held by its rules.
  for _, set in ipairs(layout.own and layout.sets or {}) do
    if not checked(socket:get("set", of(layout, { name = set.name }))) then return "set " .. set.name end
  end
  for _, chain in ipairs(layout.chains) do
    local found = checked(socket:get("chain", of(layout, { name = chain.name })))
    if not found then return "chain " .. chain.name end
    if not chain.kept and found.comment ~= comment_of(layout, chain) then
      return ("chain %s, as this version makes it,"):format(chain.name)
    end
    if (found.use or 0) < #(chain.rules or {}) + (jumps[chain.name] or 0) then lacking = chain.name end
  end
  return lacking and ("a rule of chain %s, or one that leads to it,"):format(lacking)
end

--- Look at nf_tables and change it, so that nobody else's change comes between.
-- @param socket
-- @tparam string what it is for
-- @tparam function build gives the batch
function M.change(socket, what, build)
  local ok, msg, errno, at
  local batch
  for _ = 1, patience do
    local generation = checked(socket:generation())
    batch = build()
    if #batch == 0 then return end
    ok, msg, errno, at = M.commit(socket, batch, generation)
    if ok then return end
    if errno ~= errors.ERESTART then break end
  end
  fail.kernel(what, msg, errno, nil, batch[at] and require("cni.protocol.hints").batch(batch[at], msg, errno))
end

local function flags_of(set)
  return set.interval and { "interval" } or set.tracks and { "dynamic" } or nil
end

local function port_of(layout, set, ports)
  local list = {}
  for i, port in ipairs(ports) do list[i] = { key = port } end
  return of(layout, { set = set.name, key_type = set.key_type, elements = list })
end

-- What is tracked was sent before there was a rule to see it.
local function look_back(socket, layout, set)
  local list, msg, errno = socket:flows { proto = set.tracks }
  -- The kernel has no tracking that can be asked.
  if not list and errno ~= errors.EINVAL then fail.kernel("list tracked flows", msg, errno) end
  local ports, seen = {}, { [0] = true }
  for _, flow in ipairs(list or {}) do
    if not seen[flow.port] then ports[#ports + 1], seen[flow.port] = flow.port, true end
  end
  local ok
  ok, msg, errno = socket:commit { { "add", "element", port_of(layout, set, ports) },
    { "del", "element", port_of(layout, set, { 0 }) } }
  if not ok and errno ~= errors.ENOENT then fail.kernel("look at nf_tables", msg, errno) end
end

-- To look for so many ports costs less than to list what is tracked.
local few <const> = 200

--- Which flows (cni.step.flows) there may be.
-- @param socket
-- @tparam table layout which stands
-- @tparam {table,...} flows
-- @treturn {table,...} those that nothing is known of are among them
function M.may_track(socket, layout, flows)
  local count, list = 0, {}
  for _, flow in ipairs(flows) do count = count + flow.last - flow.first + 1 end
  if count > few then return flows end
  local function has(name, from, to)
    for port = from, to do
      local key = of(layout, { set = name, key_type = "inet_service", key = port })
      if checked(socket:get("element", key)) then return true end
    end
    return false
  end
  for _, flow in ipairs(flows) do
    if not flow.asked or has(flow.asked, 0, 0) or has(flow.asked, flow.first, flow.last) then
      list[#list + 1] = flow
    end
  end
  return list
end

local function add_set(layout, set)
  return { "add", "set", of(layout, { name = set.name, key_type = set.key_type, data_type = set.data_type,
    flags = flags_of(set), comment = set.comment }) }
end

-- Whether a table is somebody else's than a script's that has one of that name.
local function is_foreign(socket, layout)
  local found = layout.own and checked(socket:get("table",
    { family = layout.family or "inet", name = layout.table }))
  return found and found.comment ~= layout.comment
end

--- Make what is missing of a layout.
-- @param socket
-- @tparam table layout
-- @tparam string what it is for
function M.make(socket, layout, what)
  if not layout.version then
    fail.throw { msg = what .. ": its record is of a version that did not write rules down",
      hint = "DEL and ADD make it anew" }
  end
  M.change(socket, what, function()
    if is_foreign(socket, layout) then
      fail.throw { msg = ("table %s %s is there, and somebody else's"):format(layout.family, layout.table),
        hint = "choose another name for the table" }
    end
    local batch, old = {}, {}
    local function add(verb, kind, fields) batch[#batch + 1] = { verb, kind, fields } end
    add("add", "table", { family = layout.family or "inet", name = layout.table, comment = layout.comment })
    for i = #layout.chains, 1, -1 do
      local chain = layout.chains[i]
      if not chain.kept and checked(socket:get("chain", of(layout, { name = chain.name }))) then
        add("flush", "chain", of(layout, { name = chain.name }))
        old[#old + 1] = chain.name
      end
    end
    for _, name in ipairs(old) do add("del", "chain", of(layout, { name = name })) end
    for _, set in ipairs(layout.sets) do
      local found = checked(socket:get("set", of(layout, { name = set.name })))
      if found and (found.key_type ~= set.key_type or found.data_type ~= set.data_type) then
        add("del", "set", of(layout, { name = set.name }))
      end
      batch[#batch + 1] = add_set(layout, set)
      if set.tracks then add("add", "element", port_of(layout, set, { 0 })) end
    end
    for _, chain in ipairs(layout.chains) do
      add("add", "chain", of(layout, { name = chain.name, type = chain.type, hook = chain.hook,
        priority = chain.priority, policy = chain.type and "accept" or nil,
        comment = comment_of(layout, chain) }))
    end
    for _, chain in ipairs(layout.chains) do
      for _, rule in ipairs(chain.rules or {}) do
        add("add", "rule", of(layout, { chain = chain.name, exprs = table.move(rule, 1, #rule, 1, {}),
          comment = rule.comment }))
      end
    end
    return batch
  end)
  for _, set in ipairs(layout.sets) do
    if set.tracks then look_back(socket, layout, set) end
  end
end

--- The end of a batch that removes chains and sets of a table: the table itself, when nothing else is in it.
-- @tparam table batch
-- @param socket
-- @tparam string family of the table
-- @tparam string name of the table
-- @tparam table gone the names of chains and sets that the batch removes
function M.drop_table(batch, socket, family, name, gone)
  for _, kind in ipairs { "chain", "set" } do
    for _, found in ipairs(checked(socket:dump(kind, { family = family, table = name })) or {}) do
      if not gone[found.name] then return end
    end
  end
  if checked(socket:get("table", { family = family, name = name })) then
    batch[#batch + 1] = { "del", "table", { family = family, name = name } }
  end
end

--- Remove a layout that nobody uses, unless there is something in one of its sets: then somebody does whom
-- our books do not know.
-- @param socket
-- @tparam table layout
function M.drop(socket, layout)
  M.change(socket, ("remove the chains of %s"):format(layout.name), function()
    if is_foreign(socket, layout) then return {} end
    local batch, gone, jumps = {}, {}, jumps_of(layout)
    local there = {}
    for _, set in ipairs(layout.sets) do
      local found = checked(socket:get("set", of(layout, { name = set.name })))
      -- One of other keys is somebody else's.
      if found and found.key_type == set.key_type and found.data_type == set.data_type then
        there[#there + 1], gone[set.name] = set.name, true
        local elements = set.tracks and {} or checked(socket:dump("element", of(layout, { set = set.name })))
        if #(elements or {}) > 0 then return {} end
      end
    end
    local chains = {}
    for i = #layout.chains, 1, -1 do
      local chain = layout.chains[i]
      local found = checked(socket:get("chain", of(layout, { name = chain.name })))
      -- It has rules, or others lead to it.
      local stays = found and chain.kept and (found.use or 0) > (jumps[chain.name] or 0)
      if stays and layout.own then return {} end
      if found and not stays then chains[#chains + 1], gone[chain.name] = chain, true end
    end
    for _, chain in ipairs(chains) do
      if not chain.kept then batch[#batch + 1] = { "flush", "chain", of(layout, { name = chain.name }) } end
    end
    for _, chain in ipairs(chains) do
      batch[#batch + 1] = { "del", "chain", of(layout, { name = chain.name }) }
    end
    for _, name in ipairs(there) do batch[#batch + 1] = { "del", "set", of(layout, { name = name }) } end
    if #batch > 0 then M.drop_table(batch, socket, layout.family or "inet", layout.table, gone) end
    return batch
  end)
end

return M
