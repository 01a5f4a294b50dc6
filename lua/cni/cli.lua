-- SPDX-License-Identifier: MIT
--- What a person gets who types `luacni`.
-- @module cni.cli

local host = require "host"
local fail = require "cni.fail"
local sys = require("netlink").sys

local M = {}

local stdin_limit = 1 << 20
local usage_mark = {}

-- A mistake in the command line: one line, exit status 2.
local function usage_error(text, word, valid)
  local near = word and require("cni.hints").did_you_mean(word, valid)
  error({ [usage_mark] = near and text .. "; " .. near or text }, 0)
end

local function print_lines(lines)
  host.write(1, table.concat(lines, "\n") .. "\n")
end

-- Rows of cells in columns; the last column runs free.
local function print_table(rows)
  local widths, lines = {}, {}
  for _, row in ipairs(rows) do
    for i = 1, #row - 1 do widths[i] = math.max(widths[i] or 0, #row[i]) end
  end
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(widths[i] - #cell) or cell
    end
    lines[n] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  print_lines(lines)
end

local function type_names()
  local names = {}
  for i, entry in ipairs(host.types()) do names[i] = entry.name end
  return names
end

local function plugin_of(type_name)
  local plugin = host.load_plugin(type_name)
  if plugin then return plugin end
  usage_error(("there is no type %q"):format(type_name), type_name, type_names())
end

local function show(args)
  local source = host.source(args[1])
  if not source then
    usage_error(("there is no type %q"):format(args[1]), args[1], type_names())
  end
  host.write(1, source)
  return 0
end

local function types()
  local rows = {}
  for i, entry in ipairs(assert(host.types())) do rows[i] = { entry.name, entry.origin } end
  print_table(rows)
  return 0
end

local function doc(args, options)
  local manual = require "cni.manual"
  for _, name in ipairs(args) do plugin_of(name) end
  if options.markdown then
    print_lines(manual.markdown(args[1] and args or type_names()))
    return 0
  elseif not args[1] then
    usage_error("usage: luacni doc TYPE")
  end
  local about = manual.about(args[1])
  if about[1] then print_lines(about) end
  local rows, rules = manual.keys(plugin_of(args[1]))
  if rows[1] then
    host.write(1, about[1] and "\n" or "")
    table.insert(rows, 1, { "key", "type", "default", "" })
    print_table(rows)
  end
  if rules[1] then
    host.write(1, "\n")
    print_lines(rules)
  end
  return 0
end

local function read_conf(path)
  local text, msg, errno
  if path == "-" then
    text, msg, errno = host.read_stdin(stdin_limit)
  else
    text, msg, errno = sys.read_file(path, stdin_limit)
  end
  if not text then
    usage_error(errno == sys.errno.EFBIG and path .. " is longer than 1 MiB" or msg)
  end
  return require("cni.run").read(text, path == "-" and "standard input" or path)
end

-- Keys that nothing reads. What is below ipam is for the IPAM plugin to read.
local function unknown_keys(plugin, raw)
  local schema = require "cni.schema"
  local found = {}
  local ipam = type(raw.ipam) == "table" and type(raw.ipam.type) == "string"
    and host.load_plugin(raw.ipam.type)
  for _, key in ipairs(schema.unknown_keys(plugin.conf, raw)) do
    if not key.path:find("^ipam%.") then found[#found + 1] = key end
  end
  if ipam and ipam ~= plugin and ipam.conf then
    for _, key in ipairs(schema.unknown_keys(ipam.conf, raw)) do
      if key.path:find("^ipam%.") then found[#found + 1] = key end
    end
  end
  return found
end

-- What is wrong with one plugin's configuration, as lines.
local function problems_of(network, entry, plugin)
  local problems, notes = {}, {}
  local req = { command = "ADD" }
  local ok, err = pcall(function()
    require("cni.request").read_config(req, require("cni.run").stdin(network, entry))
    local schema = require "cni.schema"
    notes = schema.notes(plugin.conf, schema.read(plugin.conf, req.raw))
  end)
  if not ok then problems[1] = tostring(fail.wrap(err)) end
  table.move(notes, 1, #notes, #problems + 1, problems)
  for _, key in ipairs(unknown_keys(plugin, req.raw or entry.raw)) do
    problems[#problems + 1] = ("nothing reads the key %q%s"):format(key.path,
      key.nearest and (', did you mean "%s"?'):format(key.nearest) or "")
  end
  return problems
end

local function validate(args)
  local network = read_conf(args[1])
  local lines = {}
  for i, entry in ipairs(network.plugins) do
    local plugin = host.load_plugin(entry.type)
    local problems = plugin and plugin.conf and problems_of(network, entry, plugin) or {}
    if not plugin then problems[1] = "not one of luacni's types, so nobody here can tell" end
    for _, text in ipairs(problems) do
      lines[#lines + 1] = ("plugins[%d] (%s): %s"):format(i - 1, entry.type, text)
    end
  end
  if not lines[1] then return 0 end
  print_lines(lines)
  return 1
end

local function dry_run(run)
  local request, attach = require "cni.request", require "cni.attach"
  for _, entry in ipairs(run.network.plugins) do
    local env = { CNI_COMMAND = "ADD", CNI_CONTAINERID = run.id, CNI_NETNS = run.netns,
      CNI_IFNAME = run.ifname, CNI_PATH = run.path, CNI_ARGS = run.args }
    local req = request.from_env(function(name) return env[name] end)
    local text = require("cni.run").stdin(run.network, entry, nil, run.capability_args)
    request.read_config(req, text)
    attach.equip(req, host)
    local plugin = attach.plugin(host, entry.type)
    print_lines { entry.type .. (plugin and ":" or ": not one of luacni's types") }
    if plugin then
      for _, line in ipairs(attach.dry_run(req, plugin)) do print_lines { "  " .. line } end
    end
  end
  return 0
end

local function run(args, options)
  local runner = require "cni.run"
  local capability_args
  if options["cap-args"] then
    capability_args = require("cni.json").decode(options["cap-args"], "--cap-args",
      { object = true })
  end
  local job = runner.new(host, read_conf(args[1]),
    { ifname = options.ifname, args = options.args, capability_args = capability_args })
  if options["dry-run"] then return dry_run(job) end
  local command = table.move(args, 2, #args, 1, {})
  if not command[1] then usage_error("run: there is no command to run, give one behind --") end
  return runner.command(job, command)
end

local function explain(args)
  local lines = require("cni.explain").lines(args[1], args[2])
  if lines[1] then print_lines(lines) end
  return 0
end

-- In the order of the help. `least` and `most` count words that are not options.
local commands = {
  { "types", "", "list the types of plugins there are", run = types, most = 0 },
  { "show", "TYPE", "print the source of a plugin, to copy and edit", run = show, least = 1 },
  { "doc", "TYPE", "say what a plugin does, and list its configuration keys", run = doc,
    least = 0, most = math.huge, options = { markdown = false } },
  { "validate", "CONF", "look for faults and unknown keys in a configuration",
    run = validate, least = 1 },
  { "run", "CONF [OPTION...] -- COMMAND...", "run a command in a network made for it",
    run = run, least = 1, most = math.huge,
    options = { ["dry-run"] = false, ifname = true, args = true, ["cap-args"] = true } },
  { "explain", "[NETWORK [ID]]", "say what was done for attachments", run = explain,
    least = 0, most = 2 },
}

local function help()
  local lines = {
    "luacni " .. host.version .. ": a CNI plugin host. A container runtime calls it by the names of",
    "plugins; a person can use it like this:",
    "",
  }
  local rows = {}
  for i, command in ipairs(commands) do
    rows[i] = { ("  luacni %s %s"):format(command[1], command[2]), command[3] }
  end
  rows[#rows + 1] = { "  luacni --version", "print the version" }
  rows[#rows + 1] = { "  luacni --help", "print this" }
  print_lines(lines)
  print_table(rows)
  print_lines { "",
    "CONF is a network configuration or a list of plugins (.conflist); - is standard input.",
    "Options of run:",
    "  --dry-run        print what would be done, and do nothing",
    "  --ifname NAME    name of the interface inside (eth0)",
    "  --args ARGS      CNI_ARGS, as KEY=VALUE;KEY=VALUE",
    "  --cap-args JSON  capability arguments, for plugins that say they take them",
    "Plugins are looked for in CNI_PATH. The exit status is the command's; 125 when the network",
    "could not be made or taken down, 126 or 127 when the command could not be run.",
    "A site's own plugins are in /etc/luacni/plugins.",
  }
  return 0
end

local function option_names(command)
  local names = {}
  for name in pairs(command.options or {}) do names[#names + 1] = "--" .. name end
  table.sort(names)
  return names
end

-- Words and options apart. Everything behind -- is a word.
local function parse(command, args)
  local words, options, i = {}, {}, 2
  while i <= #args do
    local arg = args[i]
    local name, value = arg:match("^%-%-([^=]+)=?(.*)$")
    if arg == "--" then
      table.move(args, i + 1, #args, #words + 1, words)
      break
    elseif not name then
      words[#words + 1] = arg
    else
      local takes = command.options and command.options[name]
      if takes == nil then
        usage_error(("%s: unknown option --%s"):format(command[1], name), "--" .. name,
          option_names(command))
      end
      if takes and not arg:find("=", 1, true) then
        i = i + 1
        value = args[i]
        if not value then usage_error(("%s: --%s needs a value"):format(command[1], name)) end
      elseif not takes and arg:find("=", 1, true) then
        usage_error(("%s: --%s takes no value"):format(command[1], name))
      end
      options[name] = takes and value or true
    end
    i = i + 1
  end
  return words, options
end

local function dispatch(args)
  local word = args[1]
  if word == "--help" or word == "-h" or word == "help" then return help() end
  if word == "--version" or word == "version" then
    print_lines { "luacni " .. host.version }
    return 0
  end
  local names = { "--help", "--version" }
  for _, command in ipairs(commands) do
    if command[1] == word then
      local words, options = parse(command, args)
      local least = command.least or 0
      if #words < least or #words > (command.most or least) then
        usage_error(("usage: luacni %s %s"):format(command[1], command[2]))
      end
      return command.run(words, options)
    end
    names[#names + 1] = command[1]
  end
  if not word then usage_error("what is to be done? luacni --help lists what there is") end
  usage_error(("unknown command %q"):format(word), word, names)
end

--- Run a person's command line.
-- @tparam {string,...} args without the program's name
-- @treturn integer exit status: 2 for a mistake in the command line, 1 for a failure
function M.main(args)
  local ok, result = xpcall(dispatch, function(err)
    return type(err) == "table" and err[usage_mark] and err or fail.wrap(err)
  end, args)
  if ok then return result end
  if result[usage_mark] then
    host.log("luacni: " .. result[usage_mark])
    return 2
  end
  host.log("luacni: " .. tostring(result))
  return 1
end

return M
