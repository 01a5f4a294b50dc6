-- SPDX-License-Identifier: MIT
--- What authors of scripts look up: the verbs and modules, as the comments in the program tell of them, and
-- the keys of links, addresses, routes and so on, as the rows do that they are encoded by.
-- @module cni.command.pages

local host = require "host"
local netlink = require "netlink"

local M = {}

-- Types that have a tag of their own in LDoc.
local typed = { string = "string", int = "int", number = "number", func = "function", bool = "boolean" }

-- `@{cni.schema.read}` is a link where there are links.
local function plain(text)
  return (text:gsub("@{([^}]*)}", "%1"))
end

-- A type as LDoc has it, such as `?{table,...}`, and what follows.
local function split_type(text)
  local kind = text:match("^%??%b{}%S*") or text:match("^%S+") or ""
  return kind, text:sub(#kind + 1):gsub("^%s+", "")
end

-- One comment: its text, what it takes, gives, raises; of a class its name and fields. Lines behind a tag
-- belong to it.
local function parse(block)
  local entry = { text = {}, takes = {}, gives = {}, raises = {}, fields = {} }
  local current
  for line in (block .. "\n"):gmatch("(.-)\n") do
    local tag, options, rest = line:match("^@(%a+)(%b[])%s*(.*)$")
    if not tag then
      tag, rest = line:match("^@(%a+)%s*(.*)$")
    end
    local optional = options and options:find("opt", 1, true) ~= nil
    if tag == "tparam" or tag == "param" or typed[tag] then
      local kind = typed[tag] or ""
      if tag == "tparam" then kind, rest = split_type(rest) end
      local name, about = rest:match("^(%S+)%s*(.*)$")
      current = { name = name, kind = kind, optional = optional or kind:sub(1, 1) == "?",
        default = options and options:match("opt=([^%]]*)"), about }
      table.insert(entry.takes, current)
    elseif tag == "treturn" or tag == "return" then
      local kind, about = "", rest
      if tag == "treturn" then kind, about = split_type(rest) end
      current = { kind = kind, about }
      table.insert(entry.gives, current)
    elseif tag == "field" then
      local name, about = rest:match("^(%S+)%s*(.*)$")
      current = { name = name, about }
      table.insert(entry.fields, current)
    elseif tag == "type" then
      entry.class, current = rest, nil
    elseif tag == "extends" then
      entry.extends, current = rest, nil
    elseif tag == "raise" then
      current = { rest }
      table.insert(entry.raises, current)
    elseif tag then
      current = {}
    else
      table.insert(current or entry.text, line)
    end
  end
  while entry.text[#entry.text] == "" do table.remove(entry.text) end
  return entry
end

-- A method of what a module gives to scripts, by the line that its comment is above: the class, as a script's
-- author calls it, the name and the arguments.
local function method_of(line)
  local class, name, arguments = line:match("^function (%u%w+)[%w_.]*:([%w_]+)(%b())")
  if class then return class:lower(), name, arguments end
end

-- How something of a module is written in a script, by the line that its comment is above.
local function usage(page, line)
  local name, arguments = line:match("^function M[.:]([%w_]+)(%b())")
  if not name then return page .. "." .. (line:match("^M%.([%w_]+)") or line) end
  if page == "handle" then return "handle:" .. name .. arguments end
  if page == "req" then return "req:" .. name .. arguments:gsub("^%(req,? ?", "(") end
  return page .. "." .. name .. arguments
end

--- How a module is required that has a page of its own.
-- @tparam string name of the page
-- @treturn string
function M.require_name(name)
  return (name == "spec" and "luacni." or "cni.") .. name
end

--- A module for scripts, by the name of its page.
-- @tparam string name such as `schema`, `handle` or `req`
-- @treturn ?table `text` (lines), and a list of entries: `name`, `usage`, `text`, `takes` and `gives`
-- (`name`, `kind`, `optional`, and lines), `raises` (lines), `owner` of a method, and of what has methods
-- `class` and `fields`; nil when there is no such page
function M.module(name)
  local comments = host.page(name)
  if not comments then return nil end
  local page
  for block in (comments .. "\n---\n"):gmatch("(.-)\n%-%-%-\n") do
    if not page then
      page = parse(block)
    else
      local text, line = block:match("^(.*)\n([^\n]*)$")
      local entry = parse(text)
      local class, method, arguments = method_of(line)
      if class then
        entry.owner, entry.name, entry.usage = class, method, class .. ":" .. method .. arguments
      elseif entry.class then
        entry.name, entry.usage = entry.class, entry.class
      else
        entry.name, entry.usage = line:match("M[.:]([%w_]+)"), usage(name, line)
      end
      page[#page + 1] = entry
    end
  end
  return page
end

local function put(lines, indent, words)
  for i, text in ipairs(words) do
    local margin = (" "):rep(i == 1 and indent or indent + words.hang)
    lines[#lines + 1] = text == "" and "" or margin .. plain(text)
  end
end

-- One thing that a function takes, gives or raises: what it is, and the first of its lines behind that.
local function put_item(lines, item, what)
  local words = table.move(item, 1, #item, 1, { hang = 4 })
  if words[1] ~= "" then what = what .. (what:find("%s") and ": " or " ") end
  words[1] = what .. words[1]
  put(lines, 8, words)
end

local function put_entry(lines, entry, page)
  table.move({ "", entry.usage }, 1, 2, #lines + 1, lines)
  entry.text.hang = 0
  put(lines, 4, entry.text)
  -- An example is set off from what follows.
  if lines[#lines]:find("^     ") then lines[#lines + 1] = "" end
  for _, item in ipairs(entry.fields) do put_item(lines, item, item.name .. ":") end
  for _, item in ipairs(entry.takes) do
    if page ~= "req" or item.name ~= "req" then
      local kind = item.kind:gsub("^%?", "")
      put_item(lines, item, item.name .. "  " .. kind .. (item.optional and ", optional" or ""))
    end
  end
  for _, item in ipairs(entry.gives) do
    put_item(lines, item, item.kind == "" and "gives" or "gives " .. item.kind)
  end
  for _, item in ipairs(entry.raises) do put_item(lines, item, "raises") end
end

--- The page of a module as lines.
-- @tparam table page from @{module}
-- @tparam string name
-- @tparam[opt] string only one entry of it
-- @tparam[opt] string owner whose method that is; nil: anyone's
-- @treturn ?{string,...} nil when there is no such entry
function M.lines(page, name, only, owner)
  local lines, found = {}, false
  if not only then
    page.text.hang = 0
    put(lines, 0, page.text)
  end
  for _, entry in ipairs(page) do
    if not only or entry.name == only and (not owner or entry.owner == owner) then
      put_entry(lines, entry, name)
      found = true
    end
  end
  if only and lines[1] == "" then table.remove(lines, 1) end
  return (found or not only) and lines or nil
end

--- Whose verb a word is.
-- @tparam string word
-- @treturn ?string the page that has it: handle or req
function M.owner(word)
  for _, name in ipairs { "handle", "req" } do
    for _, entry in ipairs(M.module(name)) do
      if entry.name == word then return name end
    end
  end
end

--- The page that tells of what a method belongs to, such as a cidr.
-- @tparam string class as scripts' authors call it
-- @treturn ?string nil: nothing with methods is called so
function M.of_class(class)
  for _, name in ipairs(host.pages()) do
    for _, entry in ipairs(M.module(name)) do
      if entry.owner == class then return name end
    end
  end
end

-- Keys -----------------------------------------------------------------------------------

-- The objects of a namespace, by the word for them, and where their rows are.
local objects = {
  link = "what add_link and ensure_link take, and a link has",
  ["bridge-port"] = "what `port` of a link may have, where its master is a bridge",
  addr = "what an address has",
  route = "what a route has, and add_route takes",
  rule = "what a policy rule has",
  neigh = "what a neighbour, or an entry of a bridge's table, has",
  qdisc = "what a queueing discipline has, and add_qdisc takes",
  class = "what a class of one has, and add_class takes",
  filter = "what a filter of traffic control has, and add_filter takes",
}

--- The words that @{keys} knows.
-- @treturn {[string]=string,...} a sentence each
M.objects = objects

local function type_of(row)
  if row.words then return table.concat(row.words, " | ") end
  if row.kind == "integer" and row.min then return ("%s, %d to %d"):format(row.kind, row.min, row.max) end
  return row.kind
end

local function rows_of(object)
  if object ~= "bridge-port" then return netlink.describe(object) end
  for _, row in ipairs(netlink.describe("link")) do
    if row.key == "port" then return row.fields end
  end
end

--- The kinds of link, queueing discipline and so on that have options of their own.
-- @tparam string object a word of @{objects}
-- @treturn {string,...} sorted
function M.kinds(object)
  local kinds, seen = {}, {}
  for _, row in ipairs(rows_of(object)) do
    if row.when and not seen[row.when] then
      seen[row.when] = true
      kinds[#kinds + 1] = row.when
    end
  end
  table.sort(kinds)
  return kinds
end

--- The keys that an object has.
-- @tparam string object a word of @{objects}
-- @tparam[opt] string kind of it: only its options. Without, what every kind has.
-- @treturn {table,...} rows of cells: key, type, and "read only" where it is
function M.keys(object, kind)
  local cells, wanted = {}, object == "bridge-port" and "bridge" or kind
  for _, row in ipairs(rows_of(object)) do
    if row.when == wanted then
      cells[#cells + 1] = { row.key, type_of(row), row.readonly and "read only" or "" }
    end
  end
  return cells
end

local function ends_with(key, name)
  return ("." .. key):sub(-#name - 1) == "." .. name
end

-- Whether a key is one, or lies below it.
local function is_in(key, path)
  return key == path or key:sub(1, #path) == path and key:find("^[.%[]", #path + 1) ~= nil
end

--- The rows of a key, which may be told by its last parts (subnet for ranges[].subnet), and of what is below
-- it.
-- @tparam {table,...} rows the first cell of each is a key
-- @tparam string name
-- @treturn {table,...} those of the key whose whole name this is, else of all that end so; empty: there is
-- none
function M.rows_of(rows, name)
  local paths, found = {}, {}
  for _, row in ipairs(rows) do
    if row[1] == name then
      paths = { name }
      break
    elseif ends_with(row[1], name) then
      paths[#paths + 1] = row[1]
    end
  end
  for _, row in ipairs(rows) do
    for _, path in ipairs(paths) do
      if is_in(row[1], path) then
        found[#found + 1] = row
        break
      end
    end
  end
  return found
end

-- The names of entries, or the first cells of rows.
local function names_of(list, names)
  for _, entry in ipairs(list) do names[#names + 1] = entry.name or entry[1] end
  return names
end

--- What can be looked up of a word.
-- @tparam string word
-- @treturn {string,...} empty: nothing, or it is not known
function M.entries(word)
  local names, page = {}, M.module(word)
  if host.has_plugin(word) then
    local manual, plugin = require "cni.command.manual", require("cni.command.say").script(word)
    if not plugin then return {} end
    names_of(manual.keys(plugin), names)
    return names_of(manual.args(plugin), names)
  elseif word == "script" then
    return names_of(require("cni.engine.script").fields, names)
  elseif word == "hook" then
    local hooks = require "cni.engine.hooks"
    return names_of(hooks.matches, names_of(hooks.fields, names))
  elseif word == "settings" then
    return names_of(require("cni.command.manual").keys { conf = require("cni.watch.settings").record }, names)
  end
  if page then names_of(page, names) end
  if objects[word] then names_of(M.keys(word), names) end
  for _, kind in ipairs(objects[word] and M.kinds(word) or {}) do
    names[#names + 1] = kind
    names_of(M.keys(word, kind), names)
  end
  return names
end

--- All words that can be looked up.
-- @treturn {string,...}
function M.words()
  local words = { "script", "hook", "settings", table.unpack(host.pages()) }
  for _, entry in ipairs(host.types()) do words[#words + 1] = entry.name end
  for object in next, objects do
    if not M.module(object) then words[#words + 1] = object end
  end
  for _, name in ipairs { "handle", "req" } do names_of(M.module(name), words) end
  return words
end

return M
