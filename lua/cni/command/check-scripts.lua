-- SPDX-License-Identifier: MIT
--- luacni check-scripts
-- @module cni.command.check-scripts

local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local json = require "cni.json"
local say = require "cni.command.say"
local sys = require("netlink").sys

local folder <const> = "/etc/luacni/plugins"
local hooks <const> = require("cni.engine.hooks").folder

local M = {
  words = "[FILE...]",
  about = "look for what is wrong with this site's scripts",
  text = "Loads each script of " .. folder .. " and " .. hooks .. ", or those that " ..
    "are given, as a call of a runtime would: who can write it (only of those in these folders), its " ..
    "syntax, what it requires, what is in the table that it returns, and the keys that it declares. One " ..
    "in a folder hooks.d is a hook. Nothing is attached; what its functions do with a request, `luacni " ..
    "run --dry-run` shows. Exit status 1 when a script is bad; what is said goes to standard output.",
  most = math.huge,
  options = { json = { about = "as JSON" } },
  examples = { "luacni check-scripts", "luacni check-scripts ./wire.lua" },
}

local function name_in(where, path)
  return files.absolute(path):match("^" .. where:gsub("%p", "%%%0") .. "/([^/]+)%.lua$")
end

local function load(path)
  local hook = name_in(hooks, path)
  if hook and files.exists(path) then return host.load_hook(hook) end
  local name = name_in(folder, path)
  if name and host.has_plugin(name) then return host.load_plugin(name) end
  if name and files.exists(path) then
    fail.throw { msg = path .. ": no type can have this name",
      hint = "a name has letters and digits, and behind the first also . _ -" }
  end
  local text, msg, errno = sys.read_file(path)
  if not text then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return host.load_script(path, text, files.absolute(path):find "/hooks%.d/[^/]+$" ~= nil)
end

--- Look at one script.
-- @tparam string path
-- @treturn string|nil what is wrong with it; it begins with the path
function M.problem(path)
  local ok, plugin, msg = say.bounded(load, path)
  if not ok then return tostring(fail.wrap(plugin)) end
  return not plugin and (msg or path .. ": it is gone") or nil
end

--- What is wrong with scripts, one reason for several of them said once.
-- @tparam {string,...} paths
-- @treturn {string,...} by their order: each begins with the path of the first script that it is about
-- @treturn {string,...} what is wrong by script, nil for one that is fine
function M.problems(paths)
  local list, by_path, at, more = {}, {}, {}, {}
  for i, path in ipairs(paths) do
    host.progress(("check-scripts: %s, %d of %d"):format(path, i, #paths))
    local problem = M.problem(path)
    by_path[path] = problem
    -- What a script's own text is to blame for has its path in it.
    local why = problem and problem:sub(1, #path + 2) == path .. ": " and problem:sub(#path + 3) or problem
    local place = why and why:find("^refused: ") and at[why]
    if place then
      more[place] = (more[place] or 0) + 1
    elseif why then
      list[#list + 1] = problem
      at[why] = #list
    end
  end
  for place, count in pairs(more) do
    list[place] = ("%s (and %d more for the same reason)"):format(list[place], count)
  end
  return list, by_path
end

--- The scripts of this site.
-- @treturn {string,...} their paths: types, then hooks
-- @treturn integer how many of them are hooks
function M.of_site()
  local list = {}
  for _, name in ipairs(files.list(folder)) do
    if name:find "%.lua$" then list[#list + 1] = folder .. "/" .. name end
  end
  local types = #list
  for _, name in ipairs(require("cni.engine.hooks").names(host)) do
    list[#list + 1] = ("%s/%s.lua"):format(hooks, name)
  end
  return list, #list - types
end

--- Look at scripts.
-- @tparam {string,...} words their paths; none: all of the site
-- @tparam table options
-- @treturn integer exit status
function M.run(words, options)
  local paths, found = words[1] and words or M.of_site(), json.list {}
  local bad, problems = M.problems(paths)
  for i, path in ipairs(paths) do found[i] = { script = path, problem = problems[path] } end
  if options.json then
    say.json(found)
  elseif #paths == 0 then
    return say.nothing(nil, nil, "there is no script in " .. folder .. ", and none in " .. hooks)
  elseif #bad == 0 then
    say.lines { #paths == 1 and "the only one is fine" or ("all %d are fine"):format(#paths) }
  else
    say.lines(bad)
  end
  return #bad > 0 and 1 or 0
end

return M
