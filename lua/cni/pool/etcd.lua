-- SPDX-License-Identifier: MIT
--- A client of etcd: keys and values, which are bytes, in transactions.
--
--     local client = etcd.new { endpoints = { "https://10.0.0.1:2379", "https://10.0.0.2:2379" } }
--     local answer = client:txn {
--       compare = { etcd.absent "/pool/10.1.0.7" },
--       success = { etcd.put("/pool/10.1.0.7", "c1") },
--       failure = { etcd.get "/pool/10.1.0.7" },
--     }
--     if not answer.succeeded then print(answer[1][1].value) end
--
-- An endpoint that has not answered may have carried out what it was asked, and may do so later; the next one
-- is asked the same. So a transaction has to be such that it does no harm the second time: by what it
-- compares.
--
-- @module cni.pool.etcd

local base64 = require "cni.protocol.base64"
local fail = require "cni.fail"
local gateway = require "cni.pool.gateway"
local json = require "cni.json"
local sys = require("netlink").sys

local M = {}
local Client = {}
Client.__index = Client

local page <const> = 1000

-- Operations and comparisons ---------------------------------------------------------

-- An operation or a comparison has `keys`, those that it is about. An operation also: `request`, as etcd has
-- it; `writes`; and `read`, which gives what etcd's answer to it says, or nil and what is wrong with that.

local function comparison(key, target, result, field, value)
  return { keys = { key }, request = { key = base64.encode(key), target = target, result = result,
    [field] = value } }
end

--- A comparison: a key is there and has a value.
-- @string key
-- @string value
-- @treturn table
function M.is(key, value)
  return comparison(key, "VALUE", "EQUAL", "value", base64.encode(value))
end

--- A comparison: a key is not there.
-- @string key
-- @treturn table
function M.absent(key)
  return comparison(key, "VERSION", "EQUAL", "version", "0")
end

--- A comparison: a key is there.
-- @string key
-- @treturn table
function M.present(key)
  return comparison(key, "VERSION", "GREATER", "version", "0")
end

-- etcd writes whole numbers as text, and leaves out what is zero.
local function count_of(value)
  if value == nil then return 0 end
  return (type(value) == "string" or type(value) == "number") and math.tointeger(tonumber(value)) or nil
end

local function bytes_of(value)
  if value == nil then return "" end
  return type(value) == "string" and base64.decode(value) or nil
end

--- An operation: have a key have a value. Its answer is true.
-- @string key
-- @string value
-- @treturn table
function M.put(key, value)
  return { keys = { key }, writes = true, name = "put",
    request = { request_put = { key = base64.encode(key), value = base64.encode(value) } },
    read = function(response)
      if type(response.response_put) == "table" then return true end
      return nil, "no answer to a put"
    end }
end

--- An operation: remove a key. Its answer is the number of keys that were removed, 0 or 1.
-- @string key
-- @treturn table
function M.delete(key)
  return { keys = { key }, writes = true, name = "delete",
    request = { request_delete_range = { key = base64.encode(key) } },
    read = function(response)
      local given = response.response_delete_range
      local count = type(given) == "table" and count_of(given.deleted)
      if count then return count end
      return nil, "no answer to a delete"
    end }
end

-- Read a range: keys that are in order, each accepted by `fits`.
local function read_range(given, keys_only, fits)
  if type(given) ~= "table" then return nil, "no answer to a range" end
  local kvs, count = given.kvs or {}, count_of(given.count)
  if type(kvs) ~= "table" or not count then return nil, "a range without a list of keys or a count" end
  local list, before = { more = given.more == true, count = count }, nil
  for i, entry in ipairs(kvs) do
    local key = type(entry) == "table" and bytes_of(entry.key)
    local value = key and bytes_of(entry.value)
    if not value then return nil, "a key or a value that is not base64" end
    if not fits(key) or before and key <= before then return nil, "a key that was not asked for" end
    list[i], before = { key = key, value = not keys_only and value or nil }, key
  end
  return list
end

local function range(key, request, keys_only, fits)
  return { keys = { key }, name = "range", request = { request_range = request },
    read = function(response) return read_range(response.response_range, keys_only, fits) end }
end

--- An operation: get a key. Its answer is as that of @{list}, of one key or none.
-- @string key
-- @treturn table
function M.get(key)
  return range(key, { key = base64.encode(key) }, false, function(found) return found == key end)
end

-- The first key behind all that begin with a prefix; "\0" is the end of all.
local function behind(prefix)
  local head = prefix:gsub("\xff*$", "")
  if head == "" then return "\0" end
  return head:sub(1, -2) .. string.char(head:byte(-1) + 1)
end

--- An operation: all keys that begin with a prefix, in the order of their bytes. Its answer is a list of
-- `key`, and `value` unless only keys are asked for; it has `more`, true when there are more than the limit,
-- and `count`, how many there are without a limit.
-- @string prefix empty: all keys
-- @tparam[opt] table opts `keys_only`; `limit`, the most of them; `after`: only those behind that key
-- @treturn table
function M.list(prefix, opts)
  local o = opts or {}
  local after = o.after and o.after >= prefix and o.after or nil
  local first = after and after .. "\0" or prefix
  local request = { key = base64.encode(first == "" and "\0" or first),
    range_end = base64.encode(behind(prefix)), limit = o.limit and tostring(o.limit) or nil,
    keys_only = o.keys_only or nil }
  return range(prefix, request, o.keys_only, function(key)
    return key:sub(1, #prefix) == prefix and (not after or key > after)
  end)
end

-- The list of what each operation is for etcd; nil for none.
local function requests_of(list)
  local requests = json.list {}
  for i, item in ipairs(list or {}) do requests[i] = item.request end
  return requests[1] and requests or nil
end

-- What etcd's answer to a transaction says.
local function read_txn(given, what)
  if type(given) ~= "table" then return nil, "no answer to a transaction" end
  local succeeded, responses = given.succeeded or false, given.responses or {}
  if type(succeeded) ~= "boolean" or type(responses) ~= "table" then
    return nil, "a transaction without a list of answers, or one that neither succeeds nor fails"
  end
  local ops = (succeeded and what.success or what.failure) or {}
  if #responses ~= #ops then return nil, ("%d answers to %d operations"):format(#responses, #ops) end
  local answer = { succeeded = succeeded }
  for i, op in ipairs(ops) do
    if type(responses[i]) ~= "table" then return nil, "no answer to an operation" end
    local value, why = op.read(responses[i])
    if value == nil then return nil, why end
    answer[i] = value
  end
  return answer
end

--- An operation: a transaction in the place of one. Its answer is as that of @{Client:txn}.
-- @tparam table what `compare`, `success`, `failure`: lists of comparisons and operations; absent: none
-- @treturn table
function M.txn(what)
  local keys, writes = {}, false
  for _, part in ipairs { "compare", "success", "failure" } do
    for _, item in ipairs(what[part] or {}) do
      table.move(item.keys, 1, #item.keys, #keys + 1, keys)
      writes = writes or item.writes == true
    end
  end
  return { keys = keys, writes = writes, name = "txn",
    request = { request_txn = { compare = requests_of(what.compare), success = requests_of(what.success),
      failure = requests_of(what.failure) } },
    read = function(response) return read_txn(response.response_txn, what) end }
end

-- The client -------------------------------------------------------------------------

local function check_text(where, value, pattern, wanted)
  if value ~= nil and (type(value) ~= "string" or not value:find(pattern)) then
    fail.config(where, wanted)
  end
end

--- A client. Nothing is asked yet.
-- @tparam table opts `endpoints`, a list of addresses of members, as "https://10.0.0.1:2379". All others may
-- be absent: `ca`, `cert`, `key`, paths: of the certificates that a member's has to be signed by (the
-- system's), of the client's certificate, and of its key; `user` and `password`; `timeout`: seconds for all
-- of one call (10); `prefer`: the endpoint that is asked first; `ns`: the network namespace, object or path,
-- that it asks in (ours)
-- @treturn Client `requests`: how many were sent; `endpoint`: which one answered last
-- @raise code 7
function M.new(opts)
  if type(opts.endpoints) ~= "table" or not opts.endpoints[1] then
    fail.config("endpoints", "a list of addresses is wanted, such as https://10.0.0.1:2379")
  end
  local client = { endpoints = {}, requests = 0, timeout = opts.timeout or 10, user = opts.user,
    password = opts.password, ca = opts.ca, cert = opts.cert, key = opts.key, ns = opts.ns }
  for i, endpoint in ipairs(opts.endpoints) do
    check_text(("endpoints[%d]"):format(i), endpoint, "^https?://[^/%s@?#%c]+/?$",
      "an address is wanted, such as https://10.0.0.1:2379")
    client.endpoints[i] = endpoint:gsub("/$", "")
  end
  client.prefer = opts.prefer and opts.prefer:gsub("/$", "") or nil
  for _, name in ipairs { "ca", "cert", "key" } do
    check_text(name, opts[name], "^[^%c]+$", "a path is wanted")
  end
  for _, name in ipairs { "user", "password" } do
    check_text(name, opts[name], "", "a text is wanted")
    if opts[name] and not utf8.len(opts[name]) then fail.config(name, "it is not UTF-8") end
  end
  if client.user and not client.password then fail.config("password", "the user has none") end
  if type(client.timeout) ~= "number" or client.timeout <= 0 then
    fail.config("timeout", "seconds are wanted")
  end
  return setmetatable(client, Client)
end

--- Carry out a transaction.
-- @tparam table what as for @{txn}
-- @treturn table `succeeded`: whether all comparisons were true; at i the answer to the i-th operation of
-- `success`, or else of `failure`; `retried`: an endpoint that did not answer was asked the same before, so
-- that it may have been carried out already when it was compared
-- @raise as @{cni.pool.gateway.ask}
function Client:txn(what)
  local op = M.txn(what)
  local answer, retried = gateway.ask(self, { path = "/v3/kv/txn", body = op.request.request_txn,
    what = "txn", keys = op.keys, writes = op.writes,
    read = function(given) return read_txn(given, what) end }, sys.clock() + self.timeout)
  answer.retried = retried
  return answer
end

local function ask_range(client, op, what, till)
  return (gateway.ask(client, { path = "/v3/kv/range", body = op.request.request_range, keys = op.keys,
    what = what .. json.show(op.keys[1]),
    read = function(given) return op.read { response_range = given } end }, till))
end

--- Get a key's value.
-- @string key
-- @treturn string|nil nil: it is not there
-- @raise as @{cni.pool.gateway.ask}
function Client:get(key)
  local found = ask_range(self, M.get(key), "get ", sys.clock() + self.timeout)[1]
  return found and found.value
end

--- Get all keys that begin with a prefix, in as many requests as it takes. What is put or removed meanwhile
-- may be among them or not.
-- @string prefix empty: all keys
-- @tparam[opt] table opts as for @{list}
-- @treturn {table,...} of `key`, and `value` unless only keys are asked for
-- @raise as @{cni.pool.gateway.ask}
function Client:list(prefix, opts)
  local o = opts or {}
  local till, all, after = sys.clock() + self.timeout, {}, o.after
  while true do
    local limit = math.min(page, o.limit and o.limit - #all or page)
    if limit <= 0 then return all end
    local found = ask_range(self, M.list(prefix, { keys_only = o.keys_only, limit = limit, after = after }),
      "list ", till)
    table.move(found, 1, #found, #all + 1, all)
    if not found.more or #found == 0 then return all end
    after = found[#found].key
  end
end

return M
