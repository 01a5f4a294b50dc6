-- SPDX-License-Identifier: MIT
-- luacni trace

local calls = require "cni.command.calls"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local messages = require "cni.command.messages"
local netlink = require "netlink"
local say = require "cni.command.say"

local sys = netlink.sys

-- Namespaces by the number of their inode ------------------------------------------------

local function inode_of(link)
  return link and link:match "^net:%[(%d+)%]$"
end

local function space_of_thread(tid)
  return inode_of(sys.readlink(("/proc/%d/ns/net"):format(tid)))
end

-- The number of what a path names, when that is a namespace. It is not opened: it may be anything that the
-- traced program likes, a pipe that nobody writes to for one.
local function inode_at(path)
  local stat, own = sys.stat(path), sys.stat "/proc/self/ns/net"
  return stat and own and stat.dev == own.dev and tostring(stat.ino) or nil
end

-- The first namespace that is called CNI_NETNS, or is named on the command line, is the pod.
local function name_pod(on, path)
  local inode = inode_at(path)
  if not inode or on.spaces[inode] then return inode ~= nil end
  on.spaces[inode], on.pod = on.pod and path:match "[^/]*$" or "pod", true
  return true
end

local function space(on, inode)
  return inode and (on.spaces[inode] or "net:" .. inode) or "?"
end

-- Which namespace a descriptor of a process is; or the number, when it is none any more.
local function space_of_fd(on, pid, fd)
  local inode = inode_at(("/proc/%d/fd/%d"):format(pid, fd))
  return inode and space(on, inode) or tostring(fd)
end

-- In attributes a namespace is a descriptor, which says nothing to anybody later.
local function name_spaces(on, pid, attrs)
  if type(attrs) ~= "table" then return end
  if math.type(attrs.netns) == "integer" then attrs.netns = space_of_fd(on, pid, attrs.netns) end
  name_spaces(on, pid, attrs.peer)
end

-- Processes ------------------------------------------------------------------------------

local function process(on, pid)
  local name = on.names[pid]
  if not name then
    name = (sys.read_file(("/proc/%d/comm"):format(pid)) or "?"):gsub("%s+$", "")
    on.names[pid] = name
  end
  return name
end

local shown <const> = { "COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS" }

local function became(on, e)
  on.names[e.pid], on.ran = nil, true
  local env, words, cni = {}, {}, {}
  for entry in (sys.read_file(("/proc/%d/environ"):format(e.pid)) or ""):gmatch "[^%z]+" do
    local key, value = entry:match "^CNI_(%u+)=(.*)$"
    if key then env[key] = value end
  end
  for word in (sys.read_file(("/proc/%d/cmdline"):format(e.pid)) or ""):gmatch "[^%z]+" do
    words[#words + 1] = word
  end
  for _, key in ipairs(shown) do
    if env[key] and env[key] ~= "" then cni[#cni + 1] = ("CNI_%s=%s"):format(key, env[key]) end
  end
  if env.NETNS then name_pod(on, env.NETNS) end
  return { what = "call", call = "exec", text = table.concat(words, " "), environment = cni }
end

-- Events ---------------------------------------------------------------------------------

local sends <const> = { sendto = true, sendmsg = true, sendmmsg = true, write = true, writev = true }
local receives <const> = { recvfrom = true, recvmsg = true, recvmmsg = true, read = true, readv = true }

-- What a call on a netlink socket says; nil: it is on something else.
local function conversation(on, e)
  local protocol, inode, socket = on.trace:socket(e[1])
  if not protocol then return end
  local place = { protocol = protocol, ns = inode or space_of_thread(e.tid), socket = socket }
  local list, peeked = {}, e.call:find "^recv" and e[e.call == "recvmsg" and 3 or 4] & 2 ~= 0
  -- What is looked at beforehand comes again; that nothing is there yet is no news.
  if receives[e.call] and (peeked or e.error == "EAGAIN" or e.error == "EINTR") then return list, place end
  if receives[e.call] and e.error then
    return { { what = "call", call = e.call, error = e.error, meaning = e.meaning } }, place
  end
  for _, bytes in ipairs(on.trace:datagrams()) do
    if receives[e.call] then
      messages.received(on.talk, place, bytes, on.whole, list)
    else
      messages.sent(on.talk, place, bytes, list)
    end
  end
  local last = list[#list]
  if last and sends[e.call] then
    last.took_ms = e.took
    last.error, last.meaning = e.error, e.meaning
  elseif last then
    list[1].waited_ms = e.took
  end
  return list, place
end

-- Who looks whether something is there by trying to make it changes nothing.
local expected <const> = { ENOENT = true, EEXIST = true, EINTR = true, EAGAIN = true, ENOTEMPTY = true }

local function change(on, e)
  local verb, text, now = calls.change(on.trace, e)
  if e.call == "execve" and (e.error ~= "ENOENT" or not on.refusal) then on.refusal = e.meaning end
  if not verb or expected[e.error] and not on.whole then return {} end
  if now then text = ("%s: %s"):format(text, space(on, inode_of(now))) end
  return { { what = "call", call = verb, text = text, took_ms = e.took, error = e.error,
    meaning = e.meaning } }
end

-- The records that an event is told by.
local function records(on, e)
  local list, place
  if e.kind == "exec" then
    list = { became(on, e) }
  elseif e.kind == "exit" then
    list = { { what = "call", call = "exit", status = e.status, signal = e.signal } }
  elseif sends[e.call] or receives[e.call] then
    list, place = conversation(on, e)
  end
  list = list or change(on, e)
  if not list[1] then return list end
  local inode = place and place.ns
  if not place and e.kind ~= "exit" then inode = space_of_thread(e.tid) end
  for _, record in ipairs(list) do
    name_spaces(on, e.pid, record.attributes)
    record.ms, record.pid, record.process = e.at, e.pid, process(on, e.pid)
    record.ns, record.ns_inode = inode and space(on, inode), math.tointeger(inode)
  end
  return list
end

-- Lines ----------------------------------------------------------------------------------

local function numbers(list)
  local words = {}
  for i, n in ipairs(list or {}) do words[i] = "#" .. n end
  return table.concat(words, " ")
end

local function told_outcome(record)
  local words = { "<-", numbers(record.answers) }
  local function add(format, ...) words[#words + 1] = format:format(...) end
  if record.error then
    add("%s refused: %s, %s", record.message or "a request", record.error, record.meaning or "")
  elseif record.dump then
    local parts = {}
    for i, part in ipairs(record.dump) do parts[i] = ("%d %s"):format(part.count, part.message) end
    add("dump of %s", parts[1] and table.concat(parts, ", ") or "nothing")
  else
    add "done"
  end
  if record.text then add("%s%q", record.error and ": " or "", record.text) end
  if record.at then add("at %s", record.at) end
  if record.missing then add("without attribute %d", record.missing) end
  return (table.concat(words, " "):gsub("%s+:", ":"):gsub("  ", " "))
end

local function told_message(on, record)
  local words = { record.direction == "sent" and "->" or "<-", record.request and "#" .. record.request
    or numbers(record.answers), record.message, table.concat(record.flags, ",") }
  if record.protocol ~= "route" then table.insert(words, 2, tostring(record.protocol)) end
  if words[#words] ~= "" then words[#words] = "(" .. words[#words] .. ")" end
  if record.attributes then
    words[#words + 1] = messages.text(record.attributes, {
      brief = not on.verbose and record.direction ~= "sent",
      links = on.talk.links[tostring(record.ns_inode)] })
  elseif record.body then
    local body = record.body
    words[#words + 1] = #body > 64 and not on.verbose
      and ("%s..(%d bytes)"):format(body:sub(1, 64), #body // 2 - 1) or body
  end
  return (table.concat(words, " "):gsub("  +", " "))
end

local function told_call(on, record)
  if record.status or record.signal then
    return record.signal and ("exit by signal %d"):format(record.signal) or ("exit %d"):format(record.status)
  end
  local text, said = record.call .. " " .. (record.text or ""), on.environment
  if not record.environment then return text end
  -- What a plugin runs in its turn has the same ones.
  on.environment = table.concat(record.environment, " ")
  return on.environment == said and text or text .. " " .. on.environment
end

local slow <const> = 1 -- ms; what takes less is not worth a word where it is no request

local function line_of(on, record)
  local text
  if record.what == "outcome" then
    text = told_outcome(record)
  elseif record.what == "message" then
    text = told_message(on, record)
  elseif record.what == "bytes" then
    local arrow = record.direction == "sent" and "->" or "<-"
    text = ("%s %d bytes that are no message"):format(arrow, record.length)
  else
    text = told_call(on, record)
  end
  text = text:gsub("%s+$", "")
  if record.error and record.what ~= "outcome" then
    text = ("%s = %s, %s"):format(text, record.error, record.meaning)
  end
  local took = record.took_ms
  local waited = record.waited_ms or 0
  if took and (record.what == "message" or took >= slow) then text = ("%s [%.2f ms]"):format(text, took) end
  if waited >= slow then text = ("%s [waited %.2f ms]"):format(text, waited) end
  text = ("%9.3f %-10s %-4s %s"):format(record.ms, record.process, record.ns or "", text)
  return text:gsub("[%c\128-\255]", function(c) return ("\\x%02x"):format(c:byte()) end) .. "\n"
end

-- A value as JSON has it: without the order of keys, and in UTF-8.
local function plain(value)
  if type(value) == "string" and not utf8.len(value) then
    return (value:gsub("[\128-\255]", function(c) return ("\\x%02x"):format(c:byte()) end))
  elseif type(value) == "number" and math.type(value) == "float" then
    return math.floor(value * 1000 + 0.5) / 1000
  elseif type(value) ~= "table" then
    return value
  end
  local copy = {}
  if not value[0] and (value[1] ~= nil or not next(value)) then
    for i, item in ipairs(value) do copy[i] = plain(item) end
    return json.list(copy)
  end
  for key, item in pairs(value) do
    if key ~= 0 then copy[key == 1 and "expression" or key] = plain(item) end
  end
  return copy
end

-- The command ----------------------------------------------------------------------------

-- What the trace is written to: function(text).
local function output(path)
  if not path then return function(text) return host.write(2, text) end end
  path = files.absolute(path)
  local about = sys.stat(path)
  if about and about.type ~= "file" then
    say.usage(("trace: %s is no file: without --to the trace goes to standard error"):format(path))
  end
  local file, msg, errno = sys.open_locked(path, "try")
  if errno == sys.errno.ETIMEDOUT then say.usage(("trace: somebody else writes to %s"):format(path)) end
  if not file then
    fail.throw { code = fail.codes.io, msg = "write the trace to a file: " .. msg, errno = errno }
  end
  file:truncate()
  return function(text) return file:append(text) end
end

local function refused(msg, errno)
  local status = sys.read_file "/proc/self/status" or ""
  local tracer = tonumber(status:match "TracerPid:%s*(%d+)" or 0)
  local scope = tonumber(sys.read_file "/proc/sys/kernel/yama/ptrace_scope" or 0)
  local hint
  if errno == sys.errno.EPERM and tracer ~= 0 then
    hint = ("process %d traces luacni itself, as strace does: a process has one tracer"):format(tracer)
  elseif errno == sys.errno.EPERM and scope == 3 then
    hint = "kernel.yama.ptrace_scope is 3: nobody may trace until the machine is started anew without it"
  elseif errno == sys.errno.EPERM then
    hint = "it takes CAP_SYS_PTRACE, as root has it; in a container, --cap-add SYS_PTRACE"
  elseif errno == sys.errno.ENOSYS then
    hint = "PTRACE_GET_SYSCALL_INFO, which Linux has since 5.3, is needed; user-mode Linux has it not"
  end
  fail.throw { msg = msg, errno = errno, hint = hint }
end

local function follow(on, write)
  while true do
    local e, msg, errno = on.trace:next()
    if not e then refused(msg, errno) end
    if e.kind == "end" then return e.status or 128 + e.signal end
    local list = records(on, e)
    if e.kind == "exit" then on.names[e.pid] = nil end
    for _, record in ipairs(list) do
      local text = on.json and json.compact(plain(record)) .. "\n" or line_of(on, record)
      local ok, why = true, nil
      if write then ok, why = write(text) end
      -- The call goes on all the same.
      if not ok then
        host.log("luacni: the trace cannot be written: " .. why)
        write = nil
      end
    end
  end
end

return {
  words = "[OPTION...] [--] COMMAND...",
  about = "show what plugins say to the kernel in a call, and what it answers",
  text = "Runs a command of luacni, such as add, or behind -- a program, such as a plugin with the CNI_* " ..
    "variables in the environment, and tells each netlink message of it and its children, decoded, and " ..
    "what else they change: namespaces, mounts, settings, files, programs, locks. A line has the " ..
    "milliseconds since the start, the process, its namespace (host: the caller's; pod: that of " ..
    "CNI_NETNS), and what was done. -> is to the kernel: #N numbers requests, [ms] is how long the " ..
    "kernel took for all that were sent at once, being traced included. <- is its answer, to the " ..
    "request of that number. What luacni's own messages do not have is told by its number, in " ..
    "hexadecimal. Dumps are counted, and of answers only what is known and not false is told (+N: so " ..
    "much is left out), unless -v is given. What is traced keeps its standard streams and its exit " ..
    "status; a process that it leaves behind is let go half a second later. --json gives an object a " ..
    "line: ms, process, pid, ns, and what: a message (direction, protocol, message, flags, attributes, " ..
    "request or answers, took_ms), an outcome (answers, error, text, at: the value that the kernel " ..
    "objects to), or a call (call, text, error).",
  least = 1, most = math.huge, command = true, verbatim = true,
  options = {
    to = { value = "FILE", about = "write the trace there, not to standard error" },
    json = { about = "a JSON object a line, with everything there is to tell" },
    verbose = { short = "v", about = "dumps and long values whole" },
  },
  examples = { "luacni trace add demo blue",
    "CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/blue CNI_IFNAME=eth0 \\",
    "    CNI_PATH=/usr/lib/cni luacni trace -- /usr/lib/cni/bridge <demo.conf",
    "luacni trace --to /tmp/trace run net.conflist -- true" },
  run = function(words, options)
    local main = require "cni.command.main"
    local on = { talk = messages.new(), spaces = {}, names = {}, json = options.json,
      verbose = options.verbose, whole = options.json or options.verbose }
    local argv = words
    on.spaces[inode_of(sys.readlink "/proc/self/ns/net") or ""] = "host"
    if not words.behind then
      local known = {}
      for i, name in ipairs(main.names) do
        known[i] = name
        known[name] = true
      end
      if not known[words[1]] then
        say.usage(("trace: luacni has no command %q; put -- before a program"):format(words[1]), words[1],
          known)
      elseif words[1] == "trace" then
        say.usage "trace: it does not trace itself"
      end
      argv = table.move(words, 1, #words, 2, { assert(host.exe()) })
    end
    local netns = host.getenv "CNI_NETNS"
    if netns and netns ~= "" then name_pod(on, netns) end
    for i = 2, words.behind and 0 or #words do
      local ok, path = pcall(job_of.netns, words[i])
      if ok and name_pod(on, path) then break end
    end
    local write = output(options.to)
    local trace <close>, msg, errno = netlink.trace(argv)
    if not trace then refused(msg, errno) end
    on.trace = trace
    local status = follow(on, write)
    if not on.ran and on.refusal then
      host.log(("luacni: trace: %s cannot be run: %s"):format(argv[1], on.refusal))
    end
    return status
  end,
}
