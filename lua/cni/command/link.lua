-- SPDX-License-Identifier: MIT
--- luacni link
-- @module cni.command.link

local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local request = require "cni.protocol.request"
local say = require "cni.command.say"
local sys = require("netlink").sys

local M = {
  words = "TYPE...",
  about = "make the program that a runtime calls a type by",
  text = "A runtime executes a program of the type's name: that is a link to luacni, in the folder " ..
    "that it looks in. It is made beside those of the built-in types, in the first folder of " ..
    "CNI_PATH (without it: of the usual ones) that has them. What else is there under that name " ..
    "is left alone, and an error.",
  least = 1, most = math.huge,
  options = { dir = { value = "DIR", about = "the folder, if it is another one" } },
  examples = { "luacni link wire" },
}

--- The folders in which a runtime would look for plugins, as far as can be told here.
-- @treturn {string,...}
function M.folders()
  return request.split_path(require("cni.command.job").path())
end

local function folder_of_links()
  for _, folder in ipairs(M.folders()) do
    if files.exists(folder .. "/luacni") and files.exists(folder .. "/loopback") then return folder end
  end
  say.usage("link: no folder of CNI_PATH has luacni and its types in it; --dir says which is meant")
end

-- Whether two paths lead to one file.
local function is_same(a, b)
  local one, other = sys.stat(a), sys.stat(b)
  return one and other and one.dev == other.dev and one.ino == other.ino
end

local function make(folder, name)
  local path, own = folder .. "/" .. name, assert(host.exe())
  local ok, msg, errno = sys.symlink(files.exists(folder .. "/luacni") and "luacni" or own, path)
  if ok then return say.lines { path } end
  if errno ~= sys.errno.EEXIST then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  if sys.readlink(path) ~= "luacni" and not is_same(path, own) then
    fail.throw { code = fail.codes.io, msg = path .. " is there, and is no link to luacni",
      hint = "a runtime calls that program for the type" }
  end
  say.lines { path }
end

--- Make the links.
-- @tparam {string,...} words types
-- @tparam table options
function M.run(words, options)
  for _, name in ipairs(words) do say.plugin(name) end
  local folder = options.dir or folder_of_links()
  if not files.exists(folder) then say.usage(("link: there is no folder %s"):format(folder)) end
  for _, name in ipairs(words) do make(folder, name) end
end

return M
