-- SPDX-License-Identifier: MIT
--- One plugin, called as a runtime calls it: its program along CNI_PATH, its standard input, its environment,
-- its answer.
--
-- A *job* says for which attachment:
--
--     network           of cni.runtime.config
--     id, netns, ifname of the attachment; nil for what is about the network
--     args              CNI_ARGS, as text
--     capability_args   what the caller has for plugins that say they take it, by capability
--     path              CNI_PATH, as text
--     environ           function: the environment that plugins inherit, a list of NAME=value
--     log               function that is given what a plugin wrote to standard error
--     progress          function that is told what is being done: a text; or nil
--     begun             of cni.runtime.begun: goes when the attachment is stored, or taken back; or nil
--     own               `exe` and `source` (function by type): the program that has types without a link
--
-- @module cni.runtime.plugin

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local request = require "cni.protocol.request"
local splice = require "cni.runtime.splice"
local sys = require("netlink").sys

local M = {}

-- Above this a plugin is taken to hang; libcni knows no limit at all.
local timeout_ms <const> = 120000

--- The program for a type.
-- @tparam table job
-- @string type_name
-- @treturn string|nil path; nil: no folder has it, and it is none of our own
-- @raise when a folder that might have it cannot be looked into
function M.program(job, type_name)
  local path, problem, errno = files.program(request.split_path(job.path), type_name)
  if path then return path end
  if problem then
    fail.throw { code = fail.codes.io, errno = errno,
      msg = ("look for plugin %s: %s"):format(type_name, problem) }
  end
  -- One of our own types needs no link: we are its program under any name.
  return job.own and job.own.source(type_name) and job.own.exe or nil
end

--- As @{program}, for one that is to be called.
-- @tparam table job
-- @string type_name
-- @treturn string path
-- @raise when there is none as well
function M.find(job, type_name)
  local path = M.program(job, type_name)
  if path then return path end
  local near = {}
  for _, folder in ipairs(request.split_path(job.path)) do
    for _, name in ipairs(sys.list(folder) or {}) do near[#near + 1] = name end
  end
  fail.throw {
    code = fail.codes.config,
    msg = ("there is no plugin %q in %s"):format(type_name, job.path),
    hint = require("cni.protocol.hints").did_you_mean(type_name, near),
  }
end

-- What of the caller's capability arguments a plugin says it takes.
local function runtime_config(plugin, capability_args)
  local given, takes = {}, plugin.raw.capabilities
  for key, wanted in pairs(type(takes) == "table" and takes or {}) do
    if wanted == true then given[key] = capability_args[key] end
  end
  return next(given) ~= nil and json.compact(given) or nil
end

--- The standard input of a plugin: its part of the configuration as it was written, and what the runtime
-- adds.
-- @tparam table job
-- @tparam table plugin one of its network's
-- @tparam[opt] table more members to set, by key: JSON text, or false for none
-- @treturn string
function M.stdin(job, plugin, more)
  local members = {
    name = json.compact(job.network.name), cniVersion = json.compact(job.network.version), prevResult = false,
    runtimeConfig = job.ifname and runtime_config(plugin, job.capability_args or {}) or nil,
  }
  for key, text in pairs(more or {}) do members[key] = text end
  return splice.set(plugin.text, members)
end

local function environment(job, verb)
  local own = { CNI_COMMAND = verb, CNI_CONTAINERID = job.id or "", CNI_NETNS = job.netns or "",
    CNI_IFNAME = job.ifname or "", CNI_ARGS = job.args or "", CNI_PATH = job.path }
  local list = {}
  for _, entry in ipairs(job.environ()) do
    if not own[entry:match "^[^=]*"] then list[#list + 1] = entry end
  end
  for name, value in pairs(own) do list[#list + 1] = name .. "=" .. value end
  return list
end

-- What a plugin's failure says: its error object, or else whatever it has printed.
local function complaint(answer)
  local ok, object = pcall(json.decode, answer.stdout, "answer", { object = true })
  if ok and type(object) == "table" and type(object.msg) == "string" then
    return { code = object.code, msg = object.msg,
      details = type(object.details) == "string" and object.details or nil }
  end
  local text = (answer.stderr .. answer.stdout):gsub("%s+$", "")
  local how = answer.signal and "ended by signal " .. answer.signal or "exit status " .. answer.status
  return { msg = text ~= "" and text .. " (" .. how .. ")" or how }
end

--- Call a plugin.
-- @tparam table job
-- @string verb
-- @tparam table plugin one of its network's
-- @tparam[opt] string input its standard input; nil: that of @{stdin}
-- @tparam[opt] boolean heed a signal that the caller holds back ends the plugin; the error's errno is EINTR
-- @treturn string what it printed
-- @raise the plugin's own error, with its code; the message begins with verb and type
function M.call(job, verb, plugin, input, heed)
  local what = ("%s %s: "):format(verb, plugin.type)
  if job.progress then
    job.progress(("%s by %s, network %s%s"):format(verb, plugin.type, job.network.name,
      job.id and ", container " .. job.id or ""))
  end
  local answer, msg, errno = sys.exec {
    path = M.find(job, plugin.type), argv = { plugin.type }, env = environment(job, verb),
    stdin = input or M.stdin(job, plugin), timeout_ms = timeout_ms, heed = heed,
  }
  if not answer then fail.throw { msg = what .. msg, errno = errno } end
  if answer.status ~= 0 then
    local err = complaint(answer)
    err.msg = what .. err.msg
    fail.throw(err)
  end
  if answer.stderr ~= "" and job.log then job.log(answer.stderr) end
  return answer.stdout
end

return M
