-- SPDX-License-Identifier: MIT
--- A runtime's verbs: what ADD, CHECK, DEL, GC, STATUS and VERSION do with a network's chain of plugins and
-- with what is stored of attachments. As libcni does it, so that either takes over from the other:
--
--     ADD      each plugin in order, given the result of the one before as it was printed. The last result is
--              stored when all have succeeded; when one fails, all are taken back by DEL of the whole chain
--     CHECK    each in order, given the stored result; from 0.4.0 on, and unless the list says disableCheck
--     DEL      each, the last one first, given the stored result, which is removed when all have succeeded
--     GC       DEL for what is stored and not valid any more; then GC of each plugin, from 1.1.0 on
--     STATUS   each in order, from 1.1.0 on
--
-- That an ADD has begun is written down before its first plugin (cni.runtime.begun): when the process is
-- killed, the next ADD or DEL of the attachment, or `luacni gc`, takes back what it has left.
--
-- A job (cni.runtime.plugin) says for which attachment. Programs in plain Lua can use this as well.
--
-- @module cni.runtime.verbs

local begun = require "cni.runtime.begun"
local cache = require "cni.runtime.cache"
local fail = require "cni.fail"
local json = require "cni.json"
local names = require "cni.names"
local plugins = require "cni.runtime.plugin"
local request = require "cni.protocol.request"

local M = {}

local call, at_least = plugins.call, request.at_least

local function owner_of(job)
  return { network = job.network.name, id = job.id, ifname = job.ifname }
end

local function check_words(job)
  local problem, hint
  if not names.is_id(job.network.name) then
    problem = "invalid characters found in network name; " .. json.show(job.network.name)
  elseif not names.is_id(job.id or "") then
    problem = "invalid characters in containerID; " .. json.show(job.id)
  else
    problem, hint = names.ifname_problem(job.ifname or "")
  end
  if problem then fail.throw { code = fail.codes.env, msg = problem, hint = hint } end
end

-- CNI_ARGS have to be pairs, since the cache stores pairs. Those that other runtimes have stored are taken as
-- they are: this is for ADD alone.
local function check_request(job)
  check_words(job)
  cache.args(job.args or "")
end

--- A plugin's answer to ADD. Nothing, as null and {} say it, is an empty result.
-- @tparam table plugin one of a network's
-- @string text what it has printed
-- @treturn string the result
-- @raise code 1 for a version that we do not speak, 6 for what is no JSON
function M.result(plugin, text)
  local what = "the result of " .. plugin.type
  local raw = json.decode(text, what, { object = true })
  if raw == nil then raw, text = {}, "{}" end
  local version = raw.cniVersion
  for _, known in ipairs(request.versions) do
    if (version or "") == "" or version == known then return text:match "^%s*(.-)%s*$" end
  end
  fail.throw { code = fail.codes.version,
    msg = ("%s: unsupported CNI result version %s"):format(what, json.show(version)) }
end

-- The version of a network; what stands for it when it is empty.
local function version_of(job)
  return job.network.version ~= "" and job.network.version or "0.1.0"
end

-- The result as it is stored: with its version.
local function with_version(job, text)
  if (json.decode(text).cniVersion or "") ~= "" then return text end
  return require("cni.runtime.splice").set(text, { cniVersion = json.compact(version_of(job)) })
end

local function store(job)
  cache.store {
    network = job.network.name, id = job.id, ifname = job.ifname, netns = job.netns, args = job.args,
    capability_args = job.capability_args, config = require("cni.runtime.config").stored(job.network),
    result = with_version(job, job.result),
  }
end

--- Call ADD for each plugin, and store the result. Nothing is taken back when it fails.
-- @tparam table job `result` is set to what the last plugin that succeeded has printed, `done` to how many
-- have
-- @tparam[opt] function stop asked before each plugin, when one has failed (a signal may have ended it), and
-- at the end: anything but nil ends the chain
-- @return what `stop` said; nil: the attachment is complete
-- @raise what the first failing plugin said
function M.attach(job, stop)
  stop = stop or function() end
  check_request(job)
  job.done = 0
  for i, plugin in ipairs(job.network.plugins) do
    local why = stop()
    if why ~= nil then return why end
    local ok, text = pcall(call, job, "ADD", plugin,
      plugins.stdin(job, plugin, { prevResult = job.result or false }), true)
    if not ok then
      why = stop()
      if why ~= nil then return why end
      error(text, 0)
    end
    job.result = M.result(plugin, text)
    job.done = i
  end
  local why = stop()
  if why ~= nil then return why end
  store(job)
  if job.begun then job.begun:remove() end
end

-- What is stored, in the configuration's version; nil when nothing is.
local function stored_result(job)
  local entry = cache.load(owner_of(job))
  if not entry or not entry.result then return nil end
  local version = version_of(job)
  if (entry.version or version) == version then return entry.result end
  local result = require "cni.protocol.result"
  local parsed = result.parse_any(json.decode(entry.result), version, "the stored result")
  return json.compact(result.convert(parsed, version))
end

-- DEL of one plugin; returns as pcall. Behind an ADD of the same job that has failed only one that has
-- attached something has something to tell, unless it fails.
local function take_away(job, i, stdin)
  local log = job.log
  if job.done and i > job.done then job.log = nil end
  local ok, err = pcall(call, job, "DEL", job.network.plugins[i], stdin)
  job.log = log
  return ok, err
end

--- Call DEL for each plugin, the last one first, and forget what is stored.
-- @tparam table job its `result`, if it has one, is given to the plugins in place of the stored one
-- @tparam[opt] boolean go_on true: a failure does not end it; what is stored stays then all the same
-- @treturn {fail,...} what failed
function M.detach(job, go_on)
  local failures, result = {}, job.result
  if not at_least(job.network.version, "0.4.0") then
    result = nil
  elseif not result then
    -- What cannot be read, or is of no version that the plugins know, does not hold a container.
    local ok, stored = pcall(stored_result, job)
    result = ok and stored or nil
  end
  for i = #job.network.plugins, 1, -1 do
    local ok, err = take_away(job, i,
      plugins.stdin(job, job.network.plugins[i], { prevResult = result or false }))
    if not ok then failures[#failures + 1] = fail.wrap(err) end
    if not ok and not go_on then return failures end
  end
  if failures[1] then return failures end
  cache.remove(owner_of(job))
  if job.begun then job.begun:remove() end
  return failures
end

-- The text of an error without the verb and the type that it begins with.
local function core(text)
  return (text:gsub("^%u+ [^%s:]+: ", ""))
end

--- Take back an ADD that has failed.
-- @tparam table job
-- @param err what has failed
-- @raise it, as a fail; other errors, of what could not be taken back, are in its details
function M.take_back(job, err)
  err = fail.wrap(err)
  local said, is_left = core(err.msg), false
  for _, failure in ipairs(M.detach(job, true)) do
    if core(failure.msg) ~= said then
      is_left = true
      local more = "taking it back failed too: " .. tostring(failure)
      err.details = err.details and err.details .. "; " .. more or more
    end
  end
  -- What does not come to anything in an ADD and a DEL alike, as a bad configuration, has made nothing.
  if job.begun and not is_left then job.begun:remove() end
  error(err, 0)
end

-- What has begun may have been asked of plugins that are gone by now, or in words that nobody takes.
local function with_way_out(err)
  err.hint = (err.hint and err.hint .. "; " or "")
    .. "luacni del goes by another configuration than that of its ADD when NETWORK is a file"
  return err
end

-- Detach what has begun and not ended. Half of what a plugin was killed over can be what its DEL fails at,
-- and not the next one: the reference's bridge 1.1 has removed all by then but a rule that was never made.
local function detach_begun(job, go_on)
  local failures = M.detach(job, go_on)
  return failures[1] and M.detach(job, go_on) or failures
end

--- Take back what an ADD that was killed has left. The file of it stays, and says that nothing is begun.
-- @tparam Begun mark of cni.runtime.begun, locked
-- @tparam table job any, for what it lends to that one's
-- @raise what failed, joined; the file says then what it said before
function M.recover(mark, job)
  if mark.problem then error(mark.problem, 0) end
  if not mark.kept then return end
  local failures = detach_begun(begun.job(mark.kept, job), true)
  if failures[1] then error(with_way_out(fail.join(failures)), 0) end
  mark:forget()
end

-- What is left of the same attachment's, before it is made again.
local function recover_own(mark, job)
  local was = mark.kept and ("an ADD of %s of container %s to network %s has not ended")
    :format(job.ifname, job.id, job.network.name)
  local ok, err = pcall(M.recover, mark, job)
  if not ok then
    err = fail.wrap(err)
    if was then err.msg = ("%s, and what it has left does not go: %s"):format(was, err.msg) end
    error(err, 0)
  end
  if was and job.log then job.log(was .. ": what it had left is taken back\n") end
end

--- ADD, all or nothing: what fails is taken back, and so is what an ADD of the same attachment that was
-- killed has left.
-- @tparam table job
-- @tparam[opt] function stop as for @{attach}; the chain is taken back then as well
-- @tparam[opt] function check asked before anything is done, when nobody else makes or takes away the same
-- attachment: it may raise an error
-- @return what `stop` said; nil: it is done, and `job.result` is the result
-- @raise what failed; what could not be taken back is in its details
function M.add(job, stop, check)
  check_request(job)
  local mark <close> = begun.open(owner_of(job))
  recover_own(mark, job)
  if check then check() end
  for _, plugin in ipairs(job.network.plugins) do plugins.find(job, plugin.type) end
  mark:note(job)
  job.begun = mark
  local ok, why = pcall(M.attach, job, stop)
  if not ok then M.take_back(job, why) end
  if why == nil then return nil end
  local failures = M.detach(job, true)
  if failures[1] then error(fail.join(failures), 0) end
  return why
end

--- DEL. It waits for an ADD of the same attachment that is at work.
-- @tparam table job
-- @raise what the first failing plugin said; what is stored stays then
function M.del(job)
  local mark <close> = begun.find(owner_of(job))
  -- What has a namespace of its own is done with when that is gone too.
  job.begun = not (mark and mark.kept and mark.kept.namespace) and mark or nil
  local failures = (mark and mark.kept and detach_begun or M.detach)(job)
  if failures[1] then error(mark and mark.kept and with_way_out(failures[1]) or failures[1], 0) end
end

--- CHECK.
-- @tparam table job
-- @treturn boolean false: the list says that it is not to be checked
-- @raise what the first failing plugin said
function M.check(job)
  local network = job.network
  if not at_least(network.version, "0.4.0") then
    fail.throw { code = fail.codes.version,
      msg = ("configuration version %s does not support the CHECK command")
        :format(json.show(network.version)) }
  end
  if network.disable_check then return false end
  check_words(job)
  local result = stored_result(job)
  for _, plugin in ipairs(network.plugins) do
    call(job, "CHECK", plugin, plugins.stdin(job, plugin, { prevResult = result or false }))
  end
  return true
end

--- STATUS.
-- @tparam table job without an attachment
-- @treturn boolean false: the network's version has no STATUS
-- @raise what the first failing plugin said
function M.status(job)
  if not at_least(job.network.version, "1.1.0") then return false end
  for _, plugin in ipairs(job.network.plugins) do call(job, "STATUS", plugin) end
  return true
end

--- GC of each plugin; one that fails does not keep the others from it.
-- @tparam table job without an attachment
-- @tparam {table,...} valid `containerID` and `ifname` of each attachment that is to stay
-- @treturn {fail,...} what failed
function M.gc(job, valid)
  local failures = {}
  if job.network.disable_gc or not at_least(job.network.version, "1.1.0") then return failures end
  local list = json.compact(json.list(valid))
  local more = { ["cni.dev/valid-attachments"] = list, ["cni.dev/attachments"] = list }
  for _, plugin in ipairs(job.network.plugins) do
    local ok, err = pcall(call, job, "GC", plugin, plugins.stdin(job, plugin, more))
    if not ok then failures[#failures + 1] = fail.wrap(err) end
  end
  return failures
end

--- VERSION of a plugin.
-- @tparam table job
-- @tparam table plugin one of its network's
-- @treturn {string,...} the versions that it says it speaks; of one that does not know the question, 0.1.0
-- @raise when it does not say
function M.versions(job, plugin)
  local asking = { network = job.network, id = "dummy", netns = "dummy", ifname = "dummy", path = job.path,
    environ = job.environ, log = job.log, own = job.own }
  local ok, text = pcall(call, asking, "VERSION", plugin,
    json.compact { cniVersion = request.versions[#request.versions] })
  if not ok then
    local err = fail.wrap(text)
    if err.msg:find("unknown CNI_COMMAND: VERSION", 1, true) then return { "0.1.0" } end
    error(err, 0)
  end
  local what = "the versions of " .. plugin.type
  local raw = json.decode(text, what, { object = true })
  local list = raw and raw.supportedVersions
  if not json.is_list(list) then fail.config(what, json.show(list) .. " is not a list of versions") end
  return list
end

return M
