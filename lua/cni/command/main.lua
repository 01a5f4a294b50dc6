-- SPDX-License-Identifier: MIT
--- What a person gets who types `luacni`: a command a file, in this folder.
--
-- A file returns a table:
--
--     words     what comes behind the command's name, as the help shows it
--     about     what it does, in half a line
--     text      more of it; the help breaks the lines
--     least, most   how many words there may be that are no options (0)
--     options   by name: `about`; `value`, what the help calls its value, nil: it takes none; `short`:
--               a letter for it; `may_be_empty`: the value; `many`: it may be repeated, and is a list
--     conf      its first word is a configuration
--     network   its first word is a network
--     calls     it calls plugins
--     command   its last words are a command with options of its own, behind --
--     verbatim  its first word and all behind it are a command, whose options are not looked at; words that
--               came behind -- have a field `behind`
--     examples  command lines
--     attachment  of update: function for other commands
--     run       function(words, options); returns the exit status, nil for 0
--
-- @module cni.command.main

local fail = require "cni.fail"
local host = require "host"
local say = require "cni.command.say"
local sys = require("netlink").sys

local M = {}

--- The commands, in the order of the help.
M.names = { "types", "show", "doc", "new", "test", "link", "validate", "schema", "check-scripts",
  "bundle", "unbundle", "run", "add", "check", "del", "gc", "status", "version", "list", "tree", "explain",
  "repair", "update", "dhcp", "pool", "trace", "doctor", "completion" }

local function command_of(name)
  return require("cni.command." .. name)
end

local function usage_of(name)
  return (("luacni %s %s"):format(name, command_of(name).words):gsub("%s+$", ""))
end

local function option_names(command)
  local list = { "--help" }
  for name in pairs(command.options or {}) do list[#list + 1] = "--" .. name end
  table.sort(list)
  return list
end

local function option_rows(command)
  local rows = {}
  for _, name in ipairs(option_names(command)) do
    local option = (command.options or {})[name:sub(3)] or { about = "print this" }
    local short = option.short and "-" .. option.short .. ", " or ""
    rows[#rows + 1] = { "  " .. short .. name .. (option.value and " " .. option.value or ""), option.about }
  end
  return rows
end

local about_conf <const> = " CONF is a file: a network configuration or a list of plugins (.conflist); " ..
  "- is standard input; a plain word is the name of a network in the folder of networks."
local about_network <const> = " NETWORK is the name of one in the folder of networks, or a file with a " ..
  "slash in its path."
local exit_statuses <const> = "Exit status: 0; 1 when something failed; 2 for a mistake in the command line."

local function help()
  say.lines {
    "luacni " .. host.version .. ": a CNI plugin host. A container runtime calls it by the names of",
    "plugins; a person can use it like this:",
    "",
  }
  local rows = {}
  for i, name in ipairs(M.names) do rows[i] = { "  " .. usage_of(name), command_of(name).about } end
  rows[#rows + 1] = { "  luacni --version", "print the version" }
  rows[#rows + 1] = { "  luacni --help, luacni COMMAND --help", "print this; more about a command" }
  say.columns(rows)
  say.lines { "",
    "CONF is a file: a network configuration or a list of plugins (.conflist); or the name of a network;",
    "or - for standard input. NETWORK is the name of one in /etc/cni/net.d, or a file with a slash in its",
    "path. NETNS is a namespace's name for `ip netns`, or its path; WHO is that, or a container's ID.",
    exit_statuses,
    "A site's own plugins are in /etc/luacni/plugins.",
  }
end

local width <const> = 78

local function wrapped(text)
  local lines, line = {}, ""
  for word in text:gmatch("%S+") do
    if line ~= "" and #line + 1 + #word > width then
      lines[#lines + 1], line = line, ""
    end
    line = line == "" and word or line .. " " .. word
  end
  lines[#lines + 1] = line
  return lines
end

local function help_of(name)
  local command = command_of(name)
  say.lines { "usage: " .. usage_of(name), "", command.about:gsub("^%l", string.upper) .. ".", "" }
  say.lines(wrapped(command.text .. (command.conf and about_conf or command.network and about_network or "")))
  say.lines { "" }
  say.columns(option_rows(command))
  if not command.command then say.lines { "", exit_statuses } end
  say.lines { "" }
  for _, example in ipairs(command.examples) do say.lines { "  " .. example } end
end

-- The long name of an option that is given by its letter.
local function spelled_out(command, arg)
  local letter = arg:match "^%-(%a)$"
  for name, option in pairs(letter and command.options or {}) do
    if option.short == letter then return "--" .. name end
  end
  return arg
end

-- What the help calls the nth word of a command.
local function word_name(command, n)
  local name
  for one in command.words:gsub("%[OPTION%.%.%.%]", ""):gmatch "%u+" do
    name, n = one, n - 1
    if n == 0 then break end
  end
  return name
end

-- Words and options apart. Everything behind -- is a word. `help` is an option of every command.
local function parse(name, command, args)
  local words, options, i = {}, {}, 2
  local function mistake(text, word)
    if command.command and #words > 1 then text = text .. "; put -- before the command" end
    say.usage(("%s: %s"):format(name, text), word, option_names(command))
  end
  local function not_empty(value, what)
    if value == "" then mistake(what .. " is empty (a variable of the shell that is not set?)") end
  end
  while i <= #args do
    local arg = args[i]
    if not command.command or #words < 2 then arg = spelled_out(command, arg) end
    local key, value = arg:match("^%-%-([^=]+)=?(.*)$")
    if arg == "--" then
      table.move(args, i + 1, #args, #words + 1, words)
      words.behind = true
      break
    elseif command.verbatim and arg:sub(1, 1) ~= "-" then
      table.move(args, i, #args, 1, words)
      break
    elseif key == "help" or arg == "-h" and #words < 2 then
      return words, { help = true }
    elseif not key then
      -- From the second word on it may be a command's that is to be run.
      if #words == 0 or not command.command then not_empty(arg, word_name(command, #words + 1)) end
      words[#words + 1] = arg
    else
      local option, has_value = (command.options or {})[key], arg:find("=", 1, true)
      if not option then
        mistake("unknown option --" .. key, "--" .. key)
      elseif option.value and not has_value then
        i = i + 1
        value = args[i]
        if not value then mistake(("--%s needs a value"):format(key)) end
      elseif not option.value and has_value then
        mistake(("--%s takes no value"):format(key))
      end
      if option.value and not option.may_be_empty then not_empty(value, "the value of --" .. key) end
      if option.many then
        options[key] = options[key] or {}
        table.insert(options[key], value)
      else
        options[key] = option.value and value or true
      end
    end
    i = i + 1
  end
  return words, options
end

local function dispatch(args)
  local word = args[1]
  if word == "--help" or word == "-h" or word == "help" and not args[2] then return help() end
  if word == "help" then args = { args[2], "--help" } end
  if word == "--version" then return say.lines { "luacni " .. host.version } end
  if not word then say.usage "what is to be done? luacni --help lists what there is" end
  local known = { "--help", "--version" }
  for _, name in ipairs(M.names) do
    if name == args[1] then
      local command = command_of(name)
      local words, options = parse(name, command, args)
      if options.help then return help_of(name) end
      local least = command.least or 0
      if #words < least or #words > (command.most or least) then say.usage("usage: " .. usage_of(name)) end
      if command.calls then return require("cni.command.job").watched(name, command.run, words, options) end
      return command.run(words, options)
    end
    known[#known + 1] = name
  end
  say.usage(("unknown command %q"):format(args[1]), args[1], known)
end

-- Where a right was missing, and the caller has not all of them.
local function remedy(err)
  local missing = err.errno == sys.errno.EACCES or err.errno == sys.errno.EPERM
  local self = missing and not tostring(err):find("as root", 1, true) and sys.stat "/proc/self"
  return self and self.uid ~= 0 and "; this needs root" or ""
end

--- Run a person's command line.
-- @tparam {string,...} args without the program's name
-- @treturn integer exit status: 2 for a mistake in the command line, 1 for a failure
function M.main(args)
  local ok, result = pcall(dispatch, args)
  host.progress()
  if ok then return result or 0 end
  local err, status = say.status_of(result)
  local mistake = say.mistake(err)
  if mistake then
    host.log("luacni: " .. mistake)
    return status or 2
  end
  result = fail.wrap(err)
  -- Nobody reads on: that is no news.
  if result.errno ~= sys.errno.EPIPE then host.log("luacni: " .. tostring(result) .. remedy(result)) end
  return status or 1
end

return M
