-- SPDX-License-Identifier: MIT
--- Step `http`: a request to a service by HTTP, which is a `call` of the program curl. The answer is written
-- down for CHECK and undo. Its undo is another request, and comes last, as that of a call.
-- @module cni.step.http

local calls = require "cni.step.call"
local curl = require "cni.protocol.curl"
local fail = require "cni.fail"
local json = require "cni.json"
local sys = require("netlink").sys
local once = require "cni.step.once"

local M = { new_only = "it is asked by an ADD", last = true }

-- An exit status of curl.
local cannot_connect <const> = 7

-- A request in words, without the parts of its address that may be secret: the password and the query.
local function words(request)
  local url = request.url:gsub("^(%w+://)[^/@]*@", "%1"):gsub("[?#].*$", "")
  return ("%s %s%s"):format(request.method, url, request.socket and " at " .. request.socket or "")
end

local function sorted(map)
  local keys = {}
  for key in next, map do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

-- A request as curl's file of options.
local function options(plan, request, url)
  local lines, given = { "silent", "show-error", "include", "globoff" }, {}
  local function add(option, value)
    lines[#lines + 1] = curl.option(option, value)
  end
  -- "NAME;" is a header without a value; "NAME:" leaves out one that curl would send.
  local function add_header(name, value)
    given[name:lower()] = true
    add("header", value == "" and name .. ";" or ("%s: %s"):format(name, value))
  end
  add("proto", "=http,https")
  add("url", url)
  if request.socket then add("unix-socket", request.socket) end
  for _, name in ipairs(sorted(request.headers or {})) do add_header(name, request.headers[name]) end
  for _, entry in ipairs(plan.watch and plan.watch:entries() or {}) do
    local name, value = entry:match "^(%u+)=(.*)$"
    if not given[name:lower()] then add_header(name:lower(), value) end
  end
  for _, name in ipairs { "Expect", "Content-Type" } do
    if not given[name:lower()] then add("header", name .. ":") end
  end
  if request.method == "HEAD" then
    lines[#lines + 1] = "head"
  else
    add("request", request.method)
    -- Without a length there are servers that wait for more.
    local sends = request.method == "POST" or request.method == "PUT" or request.method == "PATCH"
    if request.body or sends then lines[#lines + 1] = curl.body end
  end
  return table.concat(lines, "\n") .. "\n"
end

-- What curl prints: blocks of headers, the last of them with the body behind it.
local function parsed(text)
  local at = 1
  while true do
    local first, last = text:find("\r?\n\r?\n", at)
    local head = first and text:sub(at, first - 1)
    local status = head and tonumber(head:match "^HTTP/%S+ (%d%d%d)")
    if not status then return nil end
    at = last + 1
    if status >= 200 or status == 101 then
      local headers = {}
      for name, value in head:gmatch "\n([^:\r\n]+):[ \t]*([^\r\n]*)" do
        name, value = name:lower(), value:gsub("%s+$", "")
        headers[name] = headers[name] and headers[name] .. ", " .. value or value
      end
      return { status = status, headers = headers, body = text:sub(at) }
    end
  end
end

local function is_json(answer)
  local type_of = ((answer.headers or {})["content-type"] or ""):lower():match "^[^;%s]*" or ""
  return answer.body ~= "" and (type_of == "application/json" or type_of:find "%+json$" ~= nil)
end

-- The body of an answer; nil, and a fail that says why it cannot be read. It is not the configuration
-- that cannot: so the error has no code of that.
local function decoded(answer, what)
  local ok, value = pcall(json.decode, answer.body, "what the service answered")
  if ok then return value end
  value = fail.wrap(value)
  return nil, fail.new { msg = ("%s: %s"):format(what, value.msg), details = value.details }
end

-- An address with members of the answer in place of {KEY}; nil and why not. `what` was asked for it.
local function filled(url, answer, what)
  local members, problem
  local text = url:gsub("{([%w_]+)}", function(key)
    if not answer then
      problem = fail.new(what .. ": no answer of the service is known")
    elseif not members then
      members, problem = decoded(answer, what)
      members = type(members) == "table" and members or {}
    end
    local value = members and members[key]
    if type(value) ~= "string" and math.type(value) ~= "integer" then
      problem = problem or fail.new(("%s: what the service answered has no %s"):format(what, key))
      return ""
    end
    value = tostring(value)
    return (value:gsub("[^%w_.~-]", function(char) return ("%%%02X"):format(char:byte()) end))
  end)
  if problem then return nil, problem end
  return text
end

local function is_fine(request, status)
  if status // 100 == 2 then return true end
  for _, other in ipairs(request.accept or {}) do
    if status == other then return true end
  end
  return false
end

local function refused(what, answer)
  local busy = answer.status == 429 or answer.status == 503
  return fail.new { code = busy and fail.codes.again or nil, details = answer.body:sub(1, 2000),
    msg = ("%s: the service answers with status %d"):format(what, answer.status) }
end

-- What a socket is that no connection could be made to. curl speaks of the host and the port of the address.
local function no_connection(path)
  local stat, msg, errno = sys.stat(path)
  if not stat then
    return errno == sys.errno.ENOENT and "there is no such socket" or "the socket: " .. tostring(msg)
  elseif stat.type ~= "socket" then
    return path .. " is no socket"
  end
  return "the socket is there, but takes no connection: is the service running?"
end

-- Make a request; nil and what went wrong.
local function ask(step, plan, command, request, url)
  local what = words(request)
  local program, absent = curl.find "req:http"
  if not program then return nil, absent end
  local ran, err = calls.exec(step, plan, command, what, { program = program,
    ns = request.ns, args = curl.args, timeout = request.timeout,
    stdin = options(plan, request, url), file = request.body or "" })
  if not ran then return nil, err end
  if ran.status ~= 0 then
    local said = curl.complaint(ran.stderr)
    if ran.status == cannot_connect and request.socket then said = no_connection(request.socket) end
    local how = ran.signal and "signal " .. ran.signal or "exit status " .. ran.status
    return nil, fail.new(("%s: %s"):format(what, said ~= "" and said or "curl ended with " .. how))
  end
  local answer = parsed(ran.stdout)
  if not answer then return nil, fail.new(what .. ": what the service answers is no HTTP") end
  if not is_fine(request, answer.status) then return nil, refused(what, answer) end
  return answer
end

function M.run(step, plan)
  local want = step.want
  local answer, err = ask(step, plan, "ADD", want.call, want.call.url)
  if not answer then error(err, 0) end
  once.keep(plan, "http", want.nth, answer)
  -- An answer that `undo` or `check` cannot be made with is an error now, not in the DEL.
  for _, key in ipairs { "undo", "check" } do
    if want[key] then
      local url, why = filled(want[key].url, answer, words(want[key]))
      if not url then error(why, 0) end
    end
  end
  return answer
end

function M.verify(step, plan)
  local check = step.want.check
  if not check then return nil end
  local url, err = filled(check.url, calls.printed(step, plan), words(check))
  local answer
  if url then answer, err = ask(step, plan, "CHECK", check, url) end
  return not answer and tostring(err) or nil
end

function M.undo(step, plan)
  local undo = step.want.undo
  if not undo then return end
  if plan[undo.ns or step.ns].absent then
    return calls.goes_without(plan, words(undo) .. ": its sandbox is gone")
  end
  local url, unknown = filled(undo.url, calls.printed(step, plan), words(undo))
  -- No answer was written down: what the service has given, if anything, cannot be named.
  if not url then return calls.goes_without(plan, unknown) end
  local answer, err = ask(step, plan, "DEL", undo, url)
  if not answer then calls.unless_gone(plan, err) end
end

function M.say(step)
  return "request " .. words(step.want.call)
end

--- Make a request, by the plan's mode.
-- @tparam table plan
-- @tparam string ns "host" or "pod"
-- @tparam table want `call`, `check`, `undo`
-- @treturn table|nil `status`, `headers`, `body`, and `json` where the body is that
function M.obtain(plan, ns, want)
  local answer = calls.obtain(plan, ns, want, "http")
  if not answer then return nil end
  local copy = { status = answer.status, headers = answer.headers or {}, body = answer.body }
  if is_json(copy) then
    local value, err = decoded(copy, words(want.call))
    if err then error(err, 0) end
    copy.json = value
  end
  return copy
end

return M
