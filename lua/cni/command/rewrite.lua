-- SPDX-License-Identifier: MIT
--- A network's file in another form, printed or written.
-- @module cni.command.rewrite

local fail = require "cni.fail"
local host = require "host"
local job = require "cni.command.job"
local say = require "cni.command.say"
local splice = require "cni.runtime.splice"
local sys = require("netlink").sys

local M = {}

-- A link stays one: what it leads to is written.
local function write(path, text)
  local target = sys.readlink(path)
  for _ = 1, target and 40 or 0 do
    path = target:sub(1, 1) == "/" and target or (path:match "^(.*/)" or "") .. target
    target = sys.readlink(path)
    if not target then break end
  end
  local stat, why, number = sys.stat(path)
  local ok, msg, errno = stat, why, number
  if stat then ok, msg, errno = sys.write_file(path, text, stat.mode) end
  if not ok then fail.kernel("rewrite " .. path, msg, errno) end
end

--- The options of such a command.
M.options = job.options({ "conf-dir" }, {
  write = { short = "w", about = "write the file, in place of printing it" },
})

--- Print or write a network in another form.
-- @string name the command's
-- @tparam {string,...} words
-- @tparam table options
-- @tparam function form gives the text, of a network of cni.runtime.config
function M.run(name, words, options, form)
  local network = job.network(words[1], options)
  if network.is_single and not network.is_bundled then
    say.usage(name .. ": that is one plugin, and no list")
  end
  for _, plugin in ipairs(network.plugins) do
    if plugin.is_sibling then host.log(("luacni: %s stays a plugin of its own"):format(plugin.where)) end
  end
  local text = splice.indented(form(network)) .. "\n"
  if not options.write then return say.bytes(text) end
  if not network.file then say.usage(name .. ": --write is for a file") end
  if network.is_single then say.usage(name .. ": a list has a name that ends in .conflist") end
  write(network.file, text)
end

return M
