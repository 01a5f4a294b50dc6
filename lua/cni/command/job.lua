-- SPDX-License-Identifier: MIT
--- What the commands share that play a runtime: which network, which attachment, asked for with what.
-- @module cni.command.job

local begun = require "cni.runtime.begun"
local cache = require "cni.runtime.cache"
local config = require "cni.runtime.config"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local json = require "cni.json"
local names = require "cni.names"
local netlink = require "netlink"
local say = require "cni.command.say"

local sys = netlink.sys

local M = {}

local rows = {
  ["conf-dir"] = { value = "DIR", about = "where the networks are (NETCONFPATH, else /etc/cni/net.d)" },
  ifname = { value = "NAME", short = "i", about = "name of the interface inside (CNI_IFNAME, else eth0)" },
  args = { value = "ARGS", may_be_empty = true, about = "KEY=VALUE;KEY=VALUE for the plugins (CNI_ARGS)" },
  ["cap-args"] = { value = "JSON", about = "by capability, for plugins that say they take it (CAP_ARGS)" },
  id = { value = "ID", about = "the container's ID, where the namespace does not tell it" },
}

--- Options of a command.
-- @tparam {string,...} list of those above
-- @tparam[opt] table more of its own, by name
-- @treturn table for cni.command.main
function M.options(list, more)
  local options = {}
  for name, option in pairs(more or {}) do options[name] = option end
  for _, name in ipairs(list) do options[name] = rows[name] end
  return options
end

local function given(name)
  local value = host.getenv(name)
  return value ~= "" and value or nil
end

--- The folder with the networks.
-- @tparam table options
-- @treturn string
function M.folder(options)
  return options["conf-dir"] or given "NETCONFPATH" or config.folder
end

--- Where plugins are looked for: CNI_PATH, or when that does not say, beside this program, in the build
-- tree's folder of links, where packages put them.
-- @treturn string folders, colons between them
function M.path()
  local path = given "CNI_PATH"
  if path then return path end
  local here = assert(host.exe()):match "^(.*)/[^/]*$"
  return table.concat({ here, here .. "/cni-bin", "/opt/cni/bin", "/usr/lib/cni" }, ":")
end

local stdin_limit <const> = 1 << 20

local function from_stdin()
  local text, msg, errno = host.read_stdin(stdin_limit)
  if text then return config.read(text, "standard input") end
  say.usage(errno == sys.errno.EFBIG and "standard input is longer than 1 MiB" or msg)
end

-- A mistake in the command line, when there is no such file.
local function from_file(path)
  local ok, network = pcall(config.read_file, path)
  if ok then return network end
  if fail.is(network) and files.absent(network.errno) then say.usage(network.msg) end
  error(network, 0)
end

--- The network that a word of the command line means: - is standard input; what has a slash in it, or a
-- file's ending, is a file; any other is the name of one in the folder of networks, or else a file.
-- @string word
-- @tparam table options
-- @treturn table as of cni.runtime.config
function M.network(word, options)
  if word == "-" then return from_stdin() end
  local ending = word:match "%.[^./]*$"
  if word:find("/", 1, true) or ending == ".conf" or ending == ".conflist" or ending == ".json" then
    return from_file(word)
  end
  local folder = M.folder(options)
  local ok, network, others = pcall(config.find, word, folder)
  if not ok then
    local err = fail.wrap(network)
    err.hint = err.hint or ("a runtime that looks for network %s stops at this file too, since it could be "
      .. "that network's: mend it or move it away, or name the network's own file, with a slash in its path")
      :format(word)
    error(err, 0)
  elseif network then
    return network
  end
  local stat = sys.stat(word)
  if stat and stat.type == "file" then return from_file(word) end
  if not others[1] then
    say.usage(("there is no network in %s; --conf-dir names another folder"):format(folder))
  end
  say.usage(("no network in %s has the name %q"):format(folder, word), word, others)
end

-- As Go's filepath.Clean does it with an absolute path: by the text alone.
local function clean(path)
  local parts = {}
  for part in path:gmatch "[^/]+" do
    if part == ".." then
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  return "/" .. table.concat(parts, "/")
end

local named <const> = "/run/netns/"

--- The path of the namespace that a word of the command line means: a plain word is a name that `ip netns`
-- knows, and only when it knows none such a file of this folder; any other is a path.
-- @string word
-- @treturn string
function M.netns(word)
  local is_plain = not word:find("/", 1, true)
  if is_plain and (sys.stat(named .. word) or not sys.stat(word)) then word = named .. word end
  return clean(files.absolute(word))
end

--- How a namespace is called in a command line: by its name, where it has one.
-- @tparam[opt] string path
-- @treturn string
function M.netns_name(path)
  if not path then return "none" end
  return path:match "^/run/netns/([^/]+)$" or path:match "^/var/run/netns/([^/]+)$" or path
end

--- The ID that cnitool gives to what is in a namespace.
-- @string netns path
-- @treturn string
function M.id_of(netns)
  return "cnitool-" .. require("cni.reference.sha512")(netns):sub(1, 20)
end

-- The namespace of a path, to be compared by; a path that names none is compared as text.
local function identity(path)
  local ns <close> = path and netlink.ns.open(path)
  return ns and ns:id() or path
end

--- Which attachments a word means, ID of a container or NETNS, where there may be several.
-- @string word
-- @treturn function(id, ns, path) whether it means that container: by its ID, that of cnitool for the
-- namespace, or the namespace; `ns`: open, nil: gone; `path`: what it was, nil: not known
function M.meaning(word)
  local path = M.netns(word)
  local id, place = M.id_of(path), identity(path)
  return function(container, ns, was)
    return container == word or container == id or place == (ns and ns:id() or was and clean(was))
  end
end

--- The name of the network that a word means. No file need have a network of that name any more:
-- something may be attached to it.
-- @string[opt] word
-- @tparam table options
-- @treturn string|nil nil: there is no word
function M.network_name(word, options)
  if not word or names.is_id(word) then return word end
  return M.network(word, options).name
end

--- Refuse the name of a network that is none here: for commands that have found nothing of it.
-- @string[opt] word as for @{network_name}; a file is known
-- @tparam table options
-- @raise a mistake that says what name is near
function M.must_be_known(word, options)
  if word and names.is_id(word) then M.network(word, options) end
end

local function capability_args(options)
  local text, name = options["cap-args"], "--cap-args"
  if not text then text, name = given "CAP_ARGS", "CAP_ARGS" end
  if not text then return nil end
  local ok, args = pcall(json.decode, text, name, { object = true })
  if not ok then say.usage(tostring(args)) end
  return args
end

--- What the command line and the environment say of an attachment: `ifname`, `args`, `capability_args`.
-- @tparam table options
-- @treturn table nil for what they do not say; `ifname` is always there
function M.given(options)
  local want = { ifname = options.ifname or given "CNI_IFNAME" or "eth0",
    args = options.args or given "CNI_ARGS", capability_args = capability_args(options) }
  local ok, err = pcall(cache.args, want.args or "")
  if not ok then say.usage(tostring(err)) end
  if options.id and not names.is_id(options.id) then
    say.usage(("%q cannot be a container's ID"):format(options.id))
  end
  local problem, hint = names.ifname_problem(want.ifname)
  if problem then say.usage(hint and problem .. "; " .. hint or problem) end
  return want
end

-- The one attachment of a network, by that interface name, that is stored for a namespace, or was begun.
local function stored_in(netns, network, ifname)
  local found, place, known = {}, identity(netns), {}
  local function consider(entry)
    if entry.ifname ~= ifname or identity(entry.netns) ~= place or known[entry.id] then return end
    found[#found + 1], known[entry.id] = entry, true
  end
  for _, entry in ipairs(cache.all(network)) do consider(entry) end
  for item in begun.each(network) do
    local mark <close> = item
    if mark.kept then consider(mark.kept) end
  end
  if not found[2] then return found[1] end
  local ids = {}
  for i, entry in ipairs(found) do ids[i] = entry.id end
  say.usage(("%s of network %s is attached several times in %s; --id says which: %s"):format(ifname, network,
    netns, table.concat(ids, ", ")))
end

--- The attachment that the words NETWORK NETNS of a command line mean: cnitool's of that namespace, or else
-- whoever's is stored for it, or has begun and not ended.
-- @string network its name
-- @string[opt] word NETNS; nil: --id tells
-- @tparam table options
-- @treturn table `id`, `netns`, `ifname`, `args`, `capability_args`, `path`: what is not given is as stored
-- @treturn table|nil what is stored of it; or was begun: then `list` is its network
-- @treturn ?fail why it cannot be told what was begun
function M.attachment(network, word, options)
  local want = M.given(options)
  want.netns, want.id = word and M.netns(word), options.id
  if not word and not options.id then
    say.usage "which namespace? Its path or name comes behind the network's"
  end
  want.id = want.id or M.id_of(want.netns)
  local owner = { network = network, id = want.id, ifname = want.ifname }
  local ok, entry = pcall(cache.load, owner)
  entry = ok and entry or nil
  local problem
  if not entry then entry, problem = begun.look(owner) end
  if not entry and not problem and not options.id then
    entry = stored_in(want.netns, network, want.ifname)
    want.id = entry and entry.id or want.id
  end
  for _, key in ipairs(entry and { "netns", "args", "capability_args" } or {}) do
    if want[key] == nil then want[key] = entry[key] end
  end
  if entry and entry.list then
    want.netns = begun.netns(entry, want.netns)
    want.path = not given "CNI_PATH" and entry.path or nil
  end
  return want, entry, problem
end

-- Of cni.watch.call, in a command whose plugins' spans go below one of its own.
local watch = nil

--- What takes note of this command, if anything does.
-- @treturn table|nil of cni.watch.call
function M.watch() return watch end

--- Run a command that calls plugins. Where root's settings want spans of calls, theirs hang below one of the
-- command: without it each plugin of a chain would begin a trace.
-- @string name
-- @tparam function run the command's
-- @tparam {string,...} words
-- @tparam table options
-- @return what `run` returns
function M.watched(name, run, words, options)
  local text = host.settings()
  watch = text and require("cni.watch.call").begin(host, "luacni " .. name, text) or nil
  if watch and not watch.records then watch = nil end
  if not watch then return run(words, options) end
  watch.settings.journald = false -- the plugins tell of themselves
  local results = table.pack(pcall(run, words, options))
  local err = not results[1] and say.status_of(results[2]) or nil
  if not say.mistake(err) then watch:finish({ command = "luacni " .. name }, err) end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

--- A job of cni.runtime.verbs, for this program.
-- @tparam table network
-- @tparam table fields `id`, `netns`, `ifname`, `args`, `capability_args`, `path`; nil: that of @{path}
-- @treturn table
function M.new(network, fields)
  return {
    network = network, id = fields.id, netns = fields.netns, ifname = fields.ifname, args = fields.args,
    capability_args = fields.capability_args, path = fields.path or M.path(),
    environ = watch and function() return watch:environ() end or host.environ,
    log = function(text) host.write(2, text) end, progress = host.progress,
    own = { exe = assert(host.exe()), source = host.source },
  }
end

return M
