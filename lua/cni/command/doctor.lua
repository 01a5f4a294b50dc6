-- SPDX-License-Identifier: MIT
-- luacni doctor

local checks = require "cni.command.checks"
local config = require "cni.runtime.config"
local fail = require "cni.fail"
local host = require "host"
local job_of = require "cni.command.job"
local json = require "cni.json"
local say = require "cni.command.say"

local function survey(options)
  local on = { folder = job_of.folder(options), used = {}, job = job_of.new(nil, {}) }
  on.networks, on.problems, on.shadowed = config.all(on.folder)
  for _, network in ipairs(on.networks) do
    for _, plugin in ipairs(network.plugins) do
      local ipam = type(plugin.raw.ipam) == "table" and plugin.raw.ipam.type
      for _, name in ipairs { plugin.type, type(ipam) == "string" and ipam ~= "" and ipam or nil } do
        on.used[name] = on.used[name] or network.name
      end
    end
  end
  return on
end

local function examine(options)
  local on, list = survey(options), json.list {}
  for _, check in ipairs(checks) do
    local before = #list
    host.progress("doctor: " .. check[1])
    local function note(level)
      return function(text, mend)
        list[#list + 1] = { check = check[1], level = level, text = text, mend = mend }
      end
    end
    local ok, fine = pcall(check[2], on, note "error", note "warning")
    if not ok then
      note "error"("this cannot be looked at: " .. tostring(fail.wrap(fine)))
    elseif #list == before and fine then
      note "ok"(fine)
    end
  end
  return list
end

return {
  words = "",
  about = "look for what is wrong with this machine, and say how to mend it",
  text = "Rights, what the kernel can do (tried in a namespace of its own), networks, their programs, " ..
    "links in CNI_PATH, PATH, folders and their modes, this site's scripts and settings, what dead " ..
    "attachments have left. Each problem comes with the command that mends it, if there is one. Changes " ..
    "nothing. Exit status 1 when something is broken; what may be wrong (warning) is none.",
  options = job_of.options({ "conf-dir" }, { json = { about = "as JSON" } }),
  examples = { "luacni doctor" },
  run = function(_, options)
    local list, status = examine(options), 0
    local lines = {}
    for _, found in ipairs(list) do
      if found.level == "error" then status = 1 end
      lines[#lines + 1] = ("%-8s %s: %s"):format(found.level, found.check, found.text)
      if found.mend then lines[#lines + 1] = ("%-8s   %s"):format("", found.mend) end
    end
    if options.json then say.json(list) else say.lines(lines) end
    return status
  end,
}
