-- SPDX-License-Identifier: MIT
--- The program curl: where it is, and how it is told what to do.
--
-- It reads that from its standard input, as a file of options: so the list of processes shows no secret.
-- @module cni.protocol.curl

local fail = require "cni.fail"
local files = require "cni.record.files"
local sys = require("netlink").sys

local M = {}

--- Its arguments; all else stands in the file of options.
M.args = { "-q", "--config", "-" }

--- The line of the file of options that has it send what it finds at descriptor 3, where `netlink.sys.exec`
-- puts a `file`. curl 7.88 takes no line above 100 KB, so that a body cannot stand in one.
M.body = 'data-binary = "@/proc/self/fd/3"'

local folders <const> = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" }

--- Look for the program.
-- @string who needs it, for the error
-- @treturn string its path
-- @treturn[2] nil
-- @treturn[2] fail it is not there
function M.find(who)
  local path, problem, errno = files.program(folders, "curl")
  if path then return path end
  return nil, fail.new { errno = errno or sys.errno.ENOENT, details = problem,
    msg = ("%s needs the program curl, which is in none of %s"):format(who, table.concat(folders, ", ")),
    hint = "apt-get install curl" }
end

local escapes <const> = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
  ["\v"] = "\\v" }

--- A line of the file of options.
-- @string option its long name, without dashes
-- @string value any text without a zero byte
-- @treturn string without an end of line
function M.option(option, value)
  return ('%s = "%s"'):format(option, (value:gsub('[\\"\n\r\t\v]', escapes)))
end

--- What curl said of why it failed.
-- @string stderr all that it printed there
-- @treturn string without its own name and number; empty: it said nothing
function M.complaint(stderr)
  return (stderr:gsub("^.-%f[^\n\0]curl: %(%d+%) ", "", 1):gsub("%s+$", ""))
end

return M
