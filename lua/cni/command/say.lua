-- SPDX-License-Identifier: MIT
--- How a command of `luacni` speaks: its answer to standard output, a mistake of the caller's in one line.
-- @module cni.command.say

local fail = require "cni.fail"
local host = require "host"
local json = require "cni.json"
local sys = require("netlink").sys

local M = {}

local usage_mark = {}

--- A mistake in the command line: told in one line, exit status 2.
-- @string text what is wrong
-- @string[opt] word that is not known
-- @tparam[opt] {string,...} valid what it could have been
-- @raise always
function M.usage(text, word, valid)
  local near = word and require("cni.protocol.hints").did_you_mean(word, valid)
  error({ [usage_mark] = near and text .. "; " .. near or text }, 0)
end

--- The text of a mistake that @{usage} raised.
-- @param err what was caught
-- @treturn ?string nil: it is another error
function M.mistake(err)
  return type(err) == "table" and err[usage_mark] or nil
end

local status_mark = {}

--- Call what exits with a status of its own when it fails.
-- @tparam integer status
-- @tparam function f
-- @return what it returns
-- @raise what it raises; @{status_of} knows the status then
function M.or_status(status, f)
  local ok, result = pcall(f)
  if ok then return result end
  error({ [status_mark] = status, cause = result }, 0)
end

--- What was raised, and the exit status that @{or_status} has given it.
-- @param err what was caught
-- @return what f raised
-- @treturn ?integer nil: none in particular
function M.status_of(err)
  local status = type(err) == "table" and err[status_mark]
  if status then return err.cause, status end
  return err
end

--- Whether a path leads to this program.
-- @string path
-- @treturn boolean
function M.is_own(path)
  local own, found = sys.stat(assert(host.exe())), sys.stat(path)
  return own ~= nil and found ~= nil and found.dev == own.dev and found.ino == own.ino
end

--- Print bytes as they are.
-- @string bytes
-- @raise when they cannot be written
function M.bytes(bytes)
  local ok, msg, errno = host.write(1, bytes)
  if ok then return end
  fail.throw { code = fail.codes.io, msg = "the answer cannot be given: " .. msg, errno = errno }
end

--- Print lines.
-- @tparam {string,...} lines
function M.lines(lines)
  M.bytes(table.concat(lines, "\n") .. "\n")
end

--- Print rows of cells in columns; the last column runs free.
-- @tparam {{string,...},...} rows
function M.columns(rows)
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
  M.lines(lines)
end

--- Print a value as JSON.
-- @param value
function M.json(value)
  M.bytes(json.encode(value) .. "\n")
end

--- Say that there is nothing of what was asked for, to standard error.
-- @string[opt] network only of this one
-- @string[opt] container only of this one: its ID, or its namespace
-- @string[opt="nothing is attached"] what
-- @treturn integer exit status 0
function M.nothing(network, container, what)
  host.log((what or "nothing is attached") .. (network and " to network " .. network or "")
    .. (container and " for container " .. container or ""))
  return 0
end

--- The names of the types there are.
-- @treturn {string,...}
function M.type_names()
  local names = {}
  for i, entry in ipairs(host.types()) do names[i] = entry.name end
  return names
end

--- Call what has a script of the site's run, which may never end by itself.
-- @tparam function f
-- @param ... what it is given
-- @return as of pcall; after five seconds false and the error that says so, with the script's line
function M.bounded(f, ...)
  return pcall(require("cni.engine.script").bounded, f, ...)
end

--- What the script of a type returns, if there is one.
-- @string name
-- @treturn ?table nil: no script has this name, or it cannot be loaded
-- @treturn ?fail why it cannot be loaded; nil: there is none
function M.script(name)
  local ok, plugin, msg, errno = M.bounded(host.load_plugin, name)
  if not ok then return nil, fail.wrap(plugin) end
  if msg then return nil, fail.new { code = fail.codes.io, msg = msg, errno = errno } end
  return plugin
end

--- What the script of a type returns.
-- @string name
-- @treturn table
-- @raise a mistake when there is no such type
function M.plugin(name)
  host.progress("load the script of type " .. name)
  local plugin, problem = M.script(name)
  if problem then error(problem, 0) end
  if plugin then return plugin end
  M.usage(("there is no type %q"):format(name), name, M.type_names())
end

return M
