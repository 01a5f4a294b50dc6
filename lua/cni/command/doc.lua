-- SPDX-License-Identifier: MIT
-- luacni doc

local files = require "cni.record.files"
local host = require "host"
local say = require "cni.command.say"
local sys = require("netlink").sys

local function print_type(name)
  local manual = require "cni.command.manual"
  local about = manual.about(name)
  if not about[1] and not say.plugin(name).conf then
    about[1] = name .. " says nothing of itself: a comment at the head of its script would stand here"
  end
  if about[1] then say.lines(about) end
  local rows, rules = manual.keys(say.plugin(name))
  if rows[1] then
    if about[1] then say.lines { "" } end
    table.insert(rows, 1, { "key", "type", "default", "" })
    say.columns(rows)
  end
  if rules[1] then
    say.lines { "" }
    say.lines(rules)
  end
  local words = manual.args(say.plugin(name))
  if words[1] then
    if about[1] or rows[1] then say.lines { "" } end
    table.insert(words, 1, { "CNI_ARGS", "type", "default", "" })
    say.columns(words)
  end
end

local function print_keys(object, kind)
  local pages = require "cni.command.pages"
  local kinds = object == "link" and pages.kinds() or {}
  local rows = pages.keys(object, kind)
  if kind and not rows[1] then
    say.usage(("there is no kind of link %q with options of its own"):format(kind), kind, kinds)
  end
  table.insert(rows, 1, { "key", "type", "" })
  say.columns(rows)
  if kinds[1] and not kind then
    say.lines { "", "Options of a kind: luacni doc link KIND, of " .. table.concat(kinds, " ") }
  end
end

local function print_module(page, name, only)
  local pages = require "cni.command.pages"
  local lines = pages.lines(page, name, only)
  if lines then return say.lines(lines) end
  local names = {}
  for i, entry in ipairs(page) do names[i] = entry.name end
  say.usage(("there is no %s in %s"):format(only, name), only, names)
end

-- What the table may have that a script returns.
local function print_script()
  local rows = { { "name", "type", "" } }
  for _, field in ipairs(require("cni.engine.script").fields) do rows[#rows + 1] = field end
  say.columns(rows)
end

-- What /etc/luacni/settings.json may have.
local function print_settings()
  local settings = require "cni.watch.settings"
  local rows = require("cni.command.manual").keys { conf = settings.record }
  table.insert(rows, 1, { "key", "type", "default", "" })
  say.lines { "Settings of this machine, in " .. settings.path .. ", which is root's:", "" }
  say.columns(rows)
end

-- The first sentence of some lines.
local function sentence(lines)
  local text = table.concat(lines, " "):gsub("%s+", " ")
  return text:match("^(.-%.)%f[%s\0]") or text
end

-- What there is, a line each, a group each.
local function print_list()
  local manual, pages = require "cni.command.manual", require "cni.command.pages"
  local rows = { { "Types", "" } }
  for _, name in ipairs(say.type_names()) do
    rows[#rows + 1] = { "  " .. name, sentence(manual.about(name)) }
  end
  rows[#rows + 1] = { "", "" }
  rows[#rows + 1] = { "For scripts", "" }
  rows[#rows + 1] = { "  script", "What the table may have that a script returns." }
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

return {
  words = "[WORD [NAME]]",
  about = "look up a type, a verb or module for scripts, the keys of a link or address",
  text = "Without a word: what there is. Of a type, what the comment at the head of its script says, a " ..
    "row for each key that it declares, and the rules between keys. Of a module, its functions, or the " ..
    "one that is named. Of a link, an address and so on, the keys that it may have; the options of a kind " ..
    "of link by its name.",
  least = 0, most = math.huge,
  options = {
    markdown = { about = "of several types, or all, for a document" },
    meta = { value = "DIR", about = "write it there as declarations for lua-language-server" },
  },
  examples = { "luacni doc bridge", "luacni doc script", "luacni doc handle add_veth",
    "luacni doc link vxlan", "luacni doc --markdown bridge vlan", "luacni doc --meta ~/luacni-meta" },
  run = function(words, options)
    if options.markdown then
      for _, name in ipairs(words) do say.plugin(name) end
      return say.lines(require("cni.command.manual").markdown(words[1] and words or say.type_names()))
    end
    if options.meta then return write_meta(options.meta) end
    local word, name, more = words[1], words[2], words[3]
    if more then say.usage(("doc takes a word and a name, and not %q as well"):format(more)) end
    if not word then return print_list() end
    local pages = require "cni.command.pages"
    local page = pages.module(word)
    if host.has_plugin(word) then
      if name then say.usage(("%s is a type, and %q nothing of it"):format(word, name)) end
      print_type(word)
    elseif word == "script" or word == "settings" then
      if name then say.usage(("%q is looked up without a name"):format(word)) end
      if word == "script" then print_script() else print_settings() end
    elseif page then
      print_module(page, word, name)
    elseif pages.objects[word] then
      print_keys(word, name)
    elseif not name and pages.owner(word) then
      print_module(pages.module(pages.owner(word)), pages.owner(word), word)
    else
      local known = pages.verbs()
      table.move(say.type_names(), 1, #say.type_names(), #known + 1, known)
      table.move({ "script", "settings" }, 1, 2, #known + 1, known)
      table.move(host.pages(), 1, #host.pages(), #known + 1, known)
      for object in next, pages.objects do known[#known + 1] = object end
      say.usage(("there is nothing about %q"):format(word), word, known)
    end
  end,
}
