-- SPDX-License-Identifier: MIT
-- luacni doc

local files = require "cni.record.files"
local host = require "host"
local manual = require "cni.command.manual"
local pages = require "cni.command.pages"
local say = require "cni.command.say"
local sys = require("netlink").sys

-- Rows of cells, the first of which is a key; all of them when there is no `only`.
local function print_rows(heading, rows, only)
  rows = only and pages.rows_of(rows, only) or rows
  if not rows[1] then return false end
  say.columns { heading, table.unpack(rows) }
  return true
end

local key_heading = { "key", "type", "default", "" }

-- A key of a type, or of CNI_ARGS, and the rules that it is in.
local function print_key(name, only)
  local plugin = say.plugin(name)
  local rows, rules = manual.keys(plugin)
  local found = print_rows(key_heading, rows, only)
  if print_rows({ "CNI_ARGS", "type", "default", "" }, manual.args(plugin), only) then found = true end
  if not found then
    say.usage(("type %s has no key %q"):format(name, only), only, pages.entries(name))
  end
  local key = only:match "[%w_]+$"
  for _, rule in ipairs(rules) do
    if key and rule:find("%f[%w_]" .. key .. "%f[^%w_]") then say.lines { "", rule } end
  end
end

local function print_type(name)
  local plugin, about = say.plugin(name), manual.about(name)
  if not about[1] and not plugin.conf then
    about[1] = name .. " says nothing of itself: a comment at the head of its script would stand here"
  end
  if about[1] then say.lines(about) end
  local rows, rules = manual.keys(plugin)
  if rows[1] and about[1] then say.lines { "" } end
  print_rows(key_heading, rows)
  if rules[1] then
    say.lines { "" }
    say.lines(rules)
  end
  local words = manual.args(plugin)
  if words[1] and (about[1] or rows[1]) then say.lines { "" } end
  print_rows({ "CNI_ARGS", "type", "default", "" }, words)
end

-- What a link, an address ... may have: the options of a kind of link, or one key, by its name.
local function print_keys(object, only)
  local kinds = pages.kinds(object)
  local heading, of_kind = { "key", "type", "" }, only and pages.keys(object, only) or {}
  if of_kind[1] and kinds[1] then return print_rows(heading, of_kind) end
  local rows = pages.keys(object)
  for _, kind in ipairs(only and kinds or {}) do
    for _, row in ipairs(pages.keys(object, kind)) do rows[#rows + 1] = row end
  end
  if not print_rows(heading, rows, only) then
    say.usage(("there is no key%s %q of %s"):format(kinds[1] and " or kind" or "", only, object), only,
      pages.entries(object))
  end
  if kinds[1] and not only then
    local list = table.concat(kinds, " ")
    say.lines { "", ("Options of a kind: luacni doc %s KIND, of %s"):format(object, list) }
  end
end

-- What a module's own text lists by name, in a table of names and what they are: the lines of one of them.
local function listed(name, only)
  local found, is_it = {}, false
  for _, line in ipairs(pages.module(name).text) do
    local words = line:match "^    (%l[%w_, ]-)  +%S"
    if words then is_it = (", " .. words .. ","):find(", " .. only .. ",", 1, true) ~= nil end
    if not line:find "^    " then is_it = false end
    if is_it then found[#found + 1] = line:sub(5) end
  end
  return found[1] and found or nil
end

-- A module, and where its name is that of an object too, what that has.
local function print_module(page, name, only, owner)
  local lines = pages.lines(page, name, only, owner) or only and listed(name, only)
  if lines then say.lines(lines) end
  if pages.objects[name] and not only then
    say.lines { "", "Keys: " .. pages.objects[name], "" }
    print_keys(name)
  elseif pages.objects[name] and not lines then
    print_keys(name, only)
  elseif not lines then
    say.usage(("there is no %s in %s"):format(only, name), only, pages.entries(name))
  end
end

-- What the table may have that a script returns.
local function print_script(only)
  if not print_rows({ "name", "type", "" }, require("cni.engine.script").fields, only) then
    say.usage(("a script's table has no %q"):format(only), only, pages.entries "script")
  end
end

-- What the table may have that a hook returns, and its `match`.
local function print_hook(only)
  local hooks = require "cni.engine.hooks"
  local found = print_rows({ "name", "type", "" }, hooks.fields, only)
  if found and only then return end
  if not only then
    say.lines { "", "Scripts in " .. hooks.folder .. ", called in the order of their names. What they ask of",
      "req.host, req.pod and req is taken back, and compared, with the type's own work. `req.conf` is the",
      "configuration as it is given. All of `match` has to match: a text in which * is anything and ? one",
      "character, or a list of such, of which one has to.", "" }
  end
  if not print_rows({ "match", "" }, hooks.matches, only) then
    say.usage(("a hook's table has no %q"):format(only), only, pages.entries "hook")
  end
end

-- What /etc/luacni/settings.json may have.
local function print_settings(only)
  local settings = require "cni.watch.settings"
  local rows = manual.keys { conf = settings.record }
  if not only then
    say.lines { "Settings of this machine, in " .. settings.path .. ", which is root's:", "" }
  end
  if not print_rows(key_heading, rows, only) then
    say.usage(("there is no setting %q"):format(only), only, pages.entries "settings")
  end
end

-- The first sentence of some lines.
local function sentence(lines)
  local text = table.concat(lines, " "):gsub("%s+", " ")
  return text:match("^(.-%.)%f[%s\0]") or text
end

-- What there is, a line each, a group each.
local function print_list()
  local rows = { { "Types", "" } }
  for _, name in ipairs(say.type_names()) do
    rows[#rows + 1] = { "  " .. name, sentence(manual.about(name)) }
  end
  rows[#rows + 1] = { "", "" }
  rows[#rows + 1] = { "For scripts", "" }
  rows[#rows + 1] = { "  script", "What the table may have that a script returns." }
  rows[#rows + 1] = { "  hook", "The same for what a site has done round all attachments." }
  for _, name in ipairs(host.pages()) do
    rows[#rows + 1] = { "  " .. name, sentence(pages.module(name).text) }
  end
  rows[#rows + 1] = { "", "" }
  rows[#rows + 1] = { "Keys", "" }
  rows[#rows + 1] = { "  settings", "What /etc/luacni/settings.json may have." }
  local objects = {}
  for object in next, pages.objects do objects[#objects + 1] = object end
  table.sort(objects)
  for _, object in ipairs(objects) do rows[#rows + 1] = { "  " .. object, pages.objects[object] } end
  say.columns(rows)
end

local function write_meta(folder)
  for path, text in next, require("cni.command.meta").files() do
    path = folder .. "/" .. path
    files.must(sys.mkdirs(path:match("^(.*)/"), 493))
    files.must(sys.write_file(path, text, 420))
  end
  say.lines { folder .. " is for the setting Lua.workspace.library" }
end

-- A word, and the name behind it where both are written as one: as pages print them (schema.cidr,
-- req:call(what), cidr:host()), and as scripts have them (req.host:add_veth, cni.schema). With whose method
-- it is, where that has no page of its own.
local function apart(word)
  local bare = word:gsub("%b()$", ""):gsub("^req%.%a+:", "handle:")
  local module = bare:match "^cni%.(.+)$" or bare:match "^luacni%.(.+)$"
  bare = module or bare
  local before, name = bare:match "^([%w_-]+)[.:](.+)$"
  if host.has_plugin(word) or not before then return module or word end
  if pages.module(before) then return before, name end
  local page = pages.of_class(before)
  return page or before, name, page and before
end

return {
  words = "[WORD [ENTRY]]",
  about = "look up a type, a verb or module for scripts, the keys of a link or address",
  text = "Without a word: what there is. Of a type, what the comment at the head of its script says, a " ..
    "row for each key that it declares, and the rules between keys; of a module, its functions; of a " ..
    "link, an address and so on, the keys that it may have. ENTRY is one of these alone, or a kind of " ..
    "link, whose options are told; `luacni doc schema.cidr` is `luacni doc schema cidr`.",
  least = 0, most = math.huge,
  options = {
    markdown = { about = "of several types, or all, for a document" },
    meta = { value = "DIR", about = "write it there as declarations for lua-language-server" },
  },
  examples = { "luacni doc bridge", "luacni doc bridge mtu", "luacni doc script",
    "luacni doc handle add_veth", "luacni doc link vxlan", "luacni doc --markdown bridge vlan",
    "luacni doc --meta ~/luacni-meta" },
  run = function(words, options)
    if options.markdown then
      for _, name in ipairs(words) do say.plugin(name) end
      return say.lines(manual.markdown(words[1] and words or say.type_names()))
    end
    if options.meta then return write_meta(options.meta) end
    local word, name, more = words[1], words[2], words[3]
    if more then say.usage(("doc takes a word and a name, and not %q as well"):format(more)) end
    if not word then return print_list() end
    local owner
    if not name then word, name, owner = apart(word) end
    local page = pages.module(word)
    if host.has_plugin(word) then
      return (name and print_key or print_type)(word, name)
    elseif word == "script" then
      print_script(name)
    elseif word == "hook" then
      print_hook(name)
    elseif word == "settings" then
      print_settings(name)
    elseif page then
      print_module(page, word, name, owner)
    elseif pages.objects[word] then
      print_keys(word, name)
    elseif not name and pages.owner(word) then
      print_module(pages.module(pages.owner(word)), pages.owner(word), word)
    else
      say.usage(("there is nothing about %q"):format(words[1]), word, pages.words())
    end
  end,
}
