-- SPDX-License-Identifier: MIT
--- Requests to etcd's JSON gateway (etcd 3.4 or later), to one member of a cluster or the next, by the
-- program curl.
--
-- What was sent and not answered may have been carried out, or is carried out later: a member that was
-- stopped reads it when it goes on. So the same request is sent to the next member only under what its sender
-- says of that: see `retried` and `unknown`.
--
-- @module cni.pool.gateway

local curl = require "cni.protocol.curl"
local fail = require "cni.fail"
local json = require "cni.json"
local sys = require("netlink").sys

local M = {}

-- Seconds: for a connection, TLS included; for a member's answer while others are there to be asked; before
-- all are asked once more; with less left none is asked. curl ends by itself so much before it is ended.
local to_connect <const>, to_answer <const>, pause <const>, too_short <const> = 1, 3, 0.5, 0.05
local grace_ms <const> = 200

-- etcd takes 1.5 MB at once, and gives no more of a key.
local longest <const> = 8 << 20

-- Exit statuses of curl.
local status <const> = { resolve = 6, connect = 7, time = 28, certificate = 60 }

-- Codes of gRPC.
local code <const> = { invalid = 3, denied = 7, exhausted = 8, failed = 9, unauthenticated = 16 }
-- Cancelled, unknown, deadline exceeded, aborted, internal, unavailable: another member may do better.
local passing <const> = { [1] = true, [2] = true, [4] = true, [10] = true, [13] = true, [14] = true }

-- Of these a member says so before it does anything.
local not_begun <const> = { "no leader", "too many requests", "not supported for learner", "not capable" }

local function contains_any(text, list)
  for _, part in ipairs(list) do
    if text:find(part, 1, true) then return true end
  end
  return false
end

-- A colon stands between the path and a password.
local function path_option(name, path)
  return curl.option(name, (path:gsub("[\\:]", "\\%0")))
end

-- A request as curl's file of options.
local function options(client, endpoint, request, seconds)
  local lines = { "silent", "show-error", "globoff", "http1.1", "verbose",
    curl.option("proto", "=http,https"), curl.option("noproxy", "*"),
    curl.option("connect-timeout", ("%.3f"):format(math.min(to_connect, seconds))),
    curl.option("max-time", ("%.3f"):format(seconds)),
    curl.option("write-out", "\n%{http_code} %{time_pretransfer}"),
    curl.option("header", "Content-Type: application/json"), curl.option("header", "Expect:"),
    curl.option("url", endpoint .. request.path), curl.body,
  }
  if client.ca then lines[#lines + 1] = curl.option("cacert", client.ca) end
  if client.cert then lines[#lines + 1] = path_option("cert", client.cert) end
  if client.key then lines[#lines + 1] = curl.option("key", client.key) end
  if client.token and not request.open then
    lines[#lines + 1] = curl.option("header", "Authorization: " .. client.token)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- What keeps an endpoint from answering, a *trouble*, is a table of:
--
--   said    of the endpoint, in words
--   later   it may have passed by later
--   sent    it has got the request, as far as is known
--   hint    what to do about it, where the cause was seen
--   refused the error of a member that has understood the request: no other will do better
--   stale   it knows the token no longer
--   again   it may do better at once

-- What curl says of a request that has come to no answer.
local function not_answered(client, ran, seconds, pretransfer)
  local said = curl.complaint(ran.stderr):match "^[^\n]*"
  local sent = pretransfer == nil or pretransfer > 0
  if ran.status == status.time then
    local what = said:find "^Resolving" and "its name is not resolved" or sent and "no answer"
      or "no connection"
    local time = sent and seconds or math.min(to_connect, seconds)
    return { said = ("%s within %.1f s"):format(what, time), later = true, again = sent, sent = sent }
  elseif ran.status == status.connect then
    -- With several addresses the last one's; curl's own summary does not have it.
    local why = ran.stderr:match ".*\n%* connect to [^\n]- failed: ([^\n]*)"
    return { said = why or said, later = true, sent = false }
  elseif ran.status == status.resolve then
    return { said = said, later = true, sent = false }
  elseif ran.status == status.certificate then
    return { said = "its certificate is not accepted: " .. said, sent = false }
  end
  -- By TLS 1.3 a member says so after the request has come, which it does not read; or has gone before that.
  local alert, has_asked = said:match "alert ([%a ]+)", ran.stderr:find("Request CERT", 1, true)
  local is_bare = has_asked and not client.cert
  if alert or is_bare then
    return { said = "it refuses the connection: " .. (alert or said), sent = false,
      hint = is_bare and "it wants a client's certificate: set cert and key" or nil }
  end
  if said == "" then
    said = ran.signal and "curl: signal " .. ran.signal or "curl: exit status " .. ran.status
  end
  if has_asked then said = said .. ", after it has asked for the client's certificate" end
  return { said = said, later = sent, sent = sent }
end

local function shown(keys)
  local list = {}
  for i, key in ipairs(keys) do
    list[i] = i <= 3 and json.show(key) or i == 4 and "..." or nil
  end
  return table.concat(list, ", ")
end

-- What etcd itself says against a request.
local function refusal(client, request, number, message)
  local text = message:gsub("^etcdserver: ", "")
  local user = client.user and ("user %s"):format(json.show(client.user))
  if number == code.unauthenticated or text:find("auth store is old", 1, true) then
    return { said = text, stale = true, sent = false, refused = { msg = text } }
  elseif passing[number] or contains_any(text, not_begun) then
    return { said = text, later = true, again = true, sent = not contains_any(text, not_begun) }
  elseif number == code.exhausted and text:find("space exceeded", 1, true) then
    return { said = text, refused = { msg = text, code = fail.codes.again,
      hint = "etcd has no room: etcdctl compact, defrag, alarm disarm" } }
  elseif number == code.denied then
    local who = (user or "a client without a user") .. " has no right to "
    return { said = text, refused = { msg = who .. (shown(request.keys) or "this"), details = text } }
  elseif number == code.invalid and text:find("authentication failed", 1, true) then
    return { said = text, refused = { msg = "the password is not that of " .. (user or "a user"),
      details = text } }
  elseif number == code.invalid and text:find("user name is empty", 1, true) then
    return { said = text, refused = { msg = "it wants a user and a password", details = text } }
  end
  local is_disabled = number == code.failed and text:find "not enabled" ~= nil
  return { said = text, refused = { msg = text }, is_disabled = is_disabled }
end

-- What an answer of HTTP means: what the request's `read` makes of it, or nil and a trouble.
local function understood(client, request, http_status, body)
  local ok, value = pcall(json.decode, body, "what it answers")
  if http_status == 200 then
    local why
    if not ok then
      why = tostring(fail.wrap(value))
    elseif type(value) ~= "table" or type(value.header) ~= "table" then
      why = "what it answers is none of etcd's answers"
    else
      value, why = request.read(value)
      if value ~= nil then return value end
      why = "what it answers is broken: " .. why
    end
    return nil, { said = why, sent = true }
  end
  if ok and type(value) == "table" and math.type(value.code) == "integer" then
    local message = value.message or value.error
    if type(message) == "string" then return nil, refusal(client, request, value.code, message) end
  end
  local later = http_status >= 500 or http_status == 429
  return nil, { said = ("it answers with status %d, and not as etcd does"):format(http_status), later = later,
    again = later, sent = http_status >= 500 }
end

local function throw(request, fields)
  local err = fail.new(fields)
  err.msg = ("etcd: %s: %s"):format(request.what, err.msg)
  err.unknown = request.writes == true and request.sent == true
  error(err, 0)
end

-- Ask one endpoint; what the request's `read` makes of the answer, or nil and a trouble.
local function try(client, endpoint, request, seconds)
  client.requests = client.requests + 1
  local ran, msg, errno = sys.exec { path = client.curl, argv = { client.curl, table.unpack(curl.args) },
    env = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin" }, stdin = options(client, endpoint, request, seconds),
    file = request.text,
    ns = client.ns, timeout_ms = (seconds * 1000 + grace_ms) // 1 | 0, stdout_limit = longest }
  if not ran then
    if errno == sys.errno.ETIMEDOUT then
      return nil, { said = ("no answer within %.1f s"):format(seconds), later = true, again = true,
        sent = true }
    elseif errno == sys.errno.EFBIG then
      return nil, { said = ("it answers with more than %d MiB"):format(longest >> 20), sent = true }
    end
    request.sent = request.sent or errno == sys.errno.EINTR
    throw(request, { msg = msg, errno = errno, code = errno == sys.errno.EINTR and fail.codes.again or nil })
  end
  local body, http_status, pretransfer = ran.stdout:match "^(.*)\n(%d%d%d) ([%d.]+)$"
  if ran.status ~= 0 then return nil, not_answered(client, ran, seconds, tonumber(pretransfer)) end
  if not body then return nil, { said = "curl says nothing of the answer", sent = true } end
  return understood(client, request, tonumber(http_status), body)
end

-- The endpoints, the best known first.
local function in_order(client)
  local first, list = client.endpoint or client.prefer, {}
  for _, endpoint in ipairs(client.endpoints) do
    if endpoint == first then table.insert(list, 1, endpoint) else list[#list + 1] = endpoint end
  end
  return list
end

local function throw_all(request, order, troubles)
  local details, later, hint = {}, false, nil
  for i, endpoint in ipairs(order) do
    local trouble = troubles[endpoint] or { said = "not asked, as there was no time left", later = true }
    details[i] = endpoint .. ": " .. trouble.said
    later, hint = later or trouble.later, hint or trouble.hint
  end
  throw(request, { msg = "no endpoint has given an answer", details = table.concat(details, "; "),
    hint = hint, code = later and fail.codes.again or nil })
end

-- Ask the endpoints in turn. What one of them answers; or nil and a trouble that is none of the endpoint's.
local function ask_each(client, request, till)
  local order, troubles = in_order(client), {}
  for round = 1, 2 do
    local is_passing = false
    for i, endpoint in ipairs(order) do
      local seconds = till - sys.clock()
      if seconds < too_short then throw_all(request, order, troubles) end
      if i < #order then seconds = math.min(to_answer, seconds / (#order - i + 1)) end
      local answer, trouble = try(client, endpoint, request, seconds)
      if answer ~= nil or trouble.refused then
        client.endpoint = endpoint
        return answer, trouble
      end
      request.sent = request.sent or trouble.sent
      troubles[endpoint] = trouble
      is_passing = is_passing or trouble.again
    end
    if round == 2 or not is_passing then break end
    sys.sleep(math.max(0, math.min(pause, till - sys.clock())) * 1000 // 1 | 0)
  end
  throw_all(request, order, troubles)
end

local function read_token(answer)
  local token = answer.token
  if type(token) == "string" and token:find "^[%w%p]+$" then return token end
  return nil, "it has no token"
end

-- Get a token for the user. A cluster that asks nobody who he is has none.
local function log_in(client, till)
  local request = { path = "/v3/auth/authenticate", open = true, read = read_token,
    what = "authentication", keys = {},
    text = json.compact { name = client.user, password = client.password } }
  local token, trouble = ask_each(client, request, till)
  if trouble and not trouble.is_disabled then throw(request, trouble.refused) end
  client.token, client.is_open = token, token == nil
end

--- Ask a cluster.
-- @tparam table client `endpoints`, `requests`; the rest may be absent: `endpoint`, `prefer`, `ca`, `cert`,
-- `key`, `user`, `password`, `ns`, as @{cni.pool.etcd.new} makes it
-- @tparam table request `path`; `body`, a table; `what`, in words; `keys`, a list of those that it is about;
-- `writes`: it changes something; `read`: function(answer) that gives what the answer says, or nil and what
-- is wrong with it
-- @number till when all has to be done, on the clock of `netlink.sys.clock`
-- @return what `read` gives
-- @treturn boolean whether it was sent before, to an endpoint that has not answered: it may have been carried
-- out twice, or before
-- @raise an error with `unknown`: whether the request may have been carried out all the same; code 11 where
-- later it may go well
function M.ask(client, request, till)
  if not client.curl then
    local program, absent = curl.find "etcd"
    if not program then error(absent, 0) end
    client.curl = program
  end
  request.text = json.compact(request.body)
  local answer, trouble
  for _ = 1, 2 do
    if client.user and not client.token and not client.is_open then log_in(client, till) end
    answer, trouble = ask_each(client, request, till)
    if answer ~= nil then return answer, request.sent == true end
    if not trouble.stale or not client.user then break end
    client.token, client.is_open = nil, nil
  end
  throw(request, trouble.refused)
end

return M
