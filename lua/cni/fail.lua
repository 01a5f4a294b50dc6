-- SPDX-License-Identifier: MIT
--- The one error value of the Lua side.
-- Everything that goes wrong is raised as a `cni.fail` value: a code from the CNI
-- specification, a message that names step and object, details, and a hint where the
-- cause is a known one. The host prints it as the CNI error object.
-- @module cni.fail

local M = {}

--- The codes of the specification, by name. Codes from 100 on are a plugin's own.
M.codes = {
  version = 1, unsupported = 2, unknown_container = 3, env = 4, io = 5, decode = 6,
  config = 7, netns = 8, again = 11, no_add = 50, limited = 51, internal = 999,
}

--- Printed as the protocol version of an error when the request's is not known yet.
M.newest = "1.1.0"

local Fail = {}
Fail.__index = Fail
Fail.__name = "cni.fail"

-- Of a file or a namespace that could not be opened the cause is looked for when it is to be said.
local function hint_of(self)
  local of_file = self.code == M.codes.io or self.code == M.codes.again
  return self.hint or of_file and self.errno and require("cni.protocol.hints").file(self.errno) or nil
end

-- Runtimes show "MSG; DETAILS", so a hint travels at the end of the details.
local function details_of(self)
  local details, hint = self.details, hint_of(self)
  if not details or not hint then return details or hint end
  -- Once is enough, when an error is made of another one's text.
  if details:find(hint, 1, true) then return details end
  return details .. "; " .. hint
end

function Fail:__tostring()
  local details = details_of(self)
  local text = details and self.msg .. "; " .. details or self.msg
  return (text:gsub("%s*\n%s*", " | "))
end

--- The error object as JSON text.
-- @tparam[opt] string cni_version protocol version in use
-- @treturn string
function Fail:json(cni_version)
  return require("netlink").json.encode({
    cniVersion = cni_version or M.newest,
    code = self.code,
    msg = self.msg,
    details = details_of(self),
  }, {}, "    ")
end

-- What runtimes take a code for: an unsigned number of 32 bits, and not that of success.
local function code_of(value)
  local code = type(value) == "number" and math.tointeger(value)
  return code and code > 0 and code <= 0xffffffff and code or M.codes.internal
end

local function text_of(value)
  return value ~= nil and tostring(value) or nil
end

local known = { msg = true, code = true, details = true, hint = true, errno = true, retry = true,
  mistake = true }

-- What was given in place of a message, so that it is not lost.
local function strange(fields)
  local found = {}
  for key, value in next, fields do
    if not known[key] then found[#found + 1] = ("%s = %s"):format(tostring(key), tostring(value)) end
  end
  table.sort(found)
  return found[1] and "there is no msg, and " .. table.concat(found, ", ") or nil
end

--- Make an error value without raising it.
-- @tparam table|string fields the message alone, or `msg`; `code` (999 when absent, or none), `details`;
-- `hint`: what to do about it, which runtimes are given at the end of the details; `errno`; `retry`: chance
-- was to blame, so that the ADD may go well when it is made once more; `mistake`: a script is to blame,
-- whatever the machine is like; or `runtime`, unless what only a runtime says was missing
-- @treturn fail
function M.new(fields)
  if type(fields) ~= "table" then fields = { msg = fields } end
  local msg, details = fields.msg, fields.details
  if msg == nil or msg == "" then
    msg = "unknown error"
    details = details or strange(fields)
  end
  return setmetatable({
    code = code_of(fields.code),
    msg = tostring(msg),
    details = details ~= "" and text_of(details) or nil,
    hint = text_of(fields.hint),
    errno = fields.errno,
    retry = fields.retry,
    mistake = fields.mistake,
  }, Fail)
end

--- Raise an error value.
-- @tparam table|string fields as for @{new}
function M.throw(fields)
  error(M.new(fields), 0)
end

--- Whether a value is one of ours.
-- @param v anything
-- @treturn boolean
function M.is(v)
  return getmetatable(v) == Fail
end

--- Turn whatever `pcall` caught into an error value. A Lua error string keeps its
-- file and line; a traceback below it goes to the details. Of a table that has a text as `msg` the fields are
-- taken as by @{new}.
-- @param v anything
-- @treturn fail
function M.wrap(v)
  if getmetatable(v) == Fail then return v end
  if type(v) == "table" and not getmetatable(v) and type(v.msg) == "string" then return M.new(v) end
  if type(v) ~= "string" then
    return M.new { msg = "error without a text: " .. tostring(v) }
  end
  if v == "not enough memory" then
    return M.new { msg = v, details = "a script may use 64 MiB" }
  end
  local msg, trace = v:match("^(.-)\n(stack traceback:.*)$")
  return M.new { msg = msg or v, details = trace }
end

--- One error of several: the first, and what the others say that was not said before.
-- @tparam {fail,...} list at least one
-- @treturn fail
function M.join(list)
  local first, said = list[1], { [list[1].msg] = true }
  local details, hints = {}, {}
  local function say(texts, text)
    if text and not said[text] then
      said[text], texts[#texts + 1] = true, text
    end
  end
  say(details, first.details)
  for i, err in ipairs(list) do
    if i > 1 then
      say(details, err.msg)
      say(details, err.details)
    end
    say(hints, err.hint)
  end
  return M.new { code = first.code, msg = first.msg, errno = first.errno,
    details = table.concat(details, "; "), hint = hints[1] and table.concat(hints, "; ") }
end

--- Whether an error is that of a system call: it says that the call failed, and of what was asked nothing.
-- @param err what was caught
-- @treturn boolean
function M.of_system(err)
  return M.is(err) and err.errno ~= nil
end

--- Whether an error is that of a script that was stopped, since it had not ended by itself.
-- @param err what was caught
-- @treturn boolean
function M.stopped(err)
  local text = M.is(err) and err.msg or err
  return type(text) == "string" and text:find("stopped: it ran for more than", 1, true) ~= nil
end

-- Whether a script that is being run has to end, since its time is over.
local function is_over(err)
  if not M.stopped(err) then return false end
  local is_program, host = pcall(require, "host")
  return is_program and host.script_line ~= nil and host.is_over() and host.script_line() ~= nil
end

--- As pcall, for what may be refused with good reason; but what failed in a system call fails here too, and
-- a script whose time is over ends.
-- @tparam function fn
-- @param ... its arguments
function M.try(fn, ...)
  local results = table.pack(pcall(fn, ...))
  if not results[1] and (M.of_system(results[2]) or is_over(results[2])) then error(results[2], 0) end
  return table.unpack(results, 1, results.n)
end

--- Raise code 7 (invalid network configuration).
-- @string where path of the key, "" for the whole
-- @string msg what is wrong, and what is wanted
-- @string[opt] hint
function M.config(where, msg, hint)
  msg = text_of(msg) or "unknown error"
  if where and where ~= "" then msg = where .. ": " .. msg end
  error(M.new { code = M.codes.config, msg = msg, hint = hint }, 0)
end

--- Raise code 999 for a request that the kernel refused.
-- @string what step and object: "add link veth1"
-- @string msg the failure's text, extended ack included
-- @tparam[opt] integer errno
-- @string[opt] kind of the link that was to be made
-- @string[opt] hint the cause, where the caller has seen it
function M.kernel(what, msg, errno, kind, hint)
  local text = what .. ": " .. (msg or "unknown error")
  error(M.new {
    msg = text,
    errno = errno,
    hint = hint or errno and require("cni.protocol.hints").kernel(errno, text, kind),
  }, 0)
end

return M
