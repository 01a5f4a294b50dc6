-- SPDX-License-Identifier: MIT
--- The keys of a request by HTTP: they are checked when `req:http` is called.
-- @module cni.engine.web

local args = require "cni.engine.args"
local json = require "cni.json"

local M = {}

local expected = args.expected

local function method(value)
  if type(value) == "string" and value:find "^%u+$" and #value <= 20 then return value end
  return nil, expected("a method of HTTP in capital letters", value)
end

-- curl takes the address apart. Refused here is what would end a line of its options, or is no address.
local function url(value)
  if type(value) ~= "string" or not (value:find "^https?://[^/?#]" or value:find "^/") then
    return nil, expected("an address that begins with http:// or https://, or with / on a socket", value)
  end
  if value:find "[^\x21-\x7e]" or #value > 4096 then
    return nil, "an address has up to 4096 printable characters and no blanks: write others as %20"
  end
  return value
end

local function socket(value)
  if type(value) == "string" and value:find "^/[^%c]+$" and #value < 108 then return value end
  return nil, expected("the absolute path of a socket, shorter than 108 bytes", value)
end

local function headers(value)
  if type(value) ~= "table" or json.is_list(value) and next(value) then
    return nil, expected("a table of headers by name", value)
  end
  local out = {}
  for name, content in next, value do
    if type(name) ~= "string" or not name:find "^[%w!#$%%&'*+.^_`|~-]+$" then
      return nil, ("%s is not the name of a header"):format(args.said(name))
    end
    if type(content) ~= "string" or content:find "[\0\r\n]" then
      return nil, expected("a text of one line", content), name
    end
    out[name] = content
  end
  return out
end

local function body(value)
  if type(value) ~= "string" then return nil, expected("a string", value) end
  if value:find("\0", 1, true) then return nil, "a zero byte cannot be sent" end
  if #value > 1 << 20 then return nil, "it is longer than 1 MiB" end
  return value
end

local function as_json(value)
  local ok, text = pcall(json.compact, value)
  if not ok then return nil, tostring(text) end
  return body(text)
end

local status = args.integer(100, 599)

local fields = { method = method, url = url, socket = socket, headers = headers, body = body, json = as_json,
  accept = args.list(status), ns = args.handle, timeout = args.number(0, 86400, "seconds") }

local function one_body(out)
  if out.body and out.json then return "either this or body is sent", "json" end
end

--- A request, and what may belong to it.
-- @tparam[opt] table more readers of other keys
-- @tparam[opt] {string,...} required
-- @treturn function a reader
function M.request(more, required)
  local all = {}
  for key, read in next, fields do all[key] = read end
  for key, read in next, more or {} do all[key] = read end
  return args.record(all, { required = required, check = one_body })
end

-- The headers of a request whose body was given as `json`: the type is added unless they have one.
local function with_type(headers_of)
  local out, typed = {}, false
  for name, value in next, headers_of or {} do
    typed = typed or name:lower() == "content-type"
    out[name] = value
  end
  if not typed then out["Content-Type"] = "application/json" end
  return out
end

--- A request as its step has it, complete.
-- @tparam table given of @{request}
-- @tparam[opt] table first the request that this one belongs to: where it is from, and with which headers
-- @tparam string method_of what it does unless it says so
-- @treturn table
-- @treturn[2] nil
-- @treturn[2] string what is wrong
function M.complete(given, first, method_of)
  first = first or {}
  local own_headers = given.headers or first.headers
  local out = { url = given.url or first.url, socket = given.socket or not given.url and first.socket or nil,
    timeout = given.timeout or first.timeout or 10, accept = given.accept, body = given.body or given.json,
    headers = given.json and with_type(own_headers) or own_headers }
  out.method = given.method or out.body and method_of == "GET" and "POST" or method_of
  if out.url:find "^/" then
    out.socket = out.socket or first.socket
    if not out.socket then return nil, "an address without a host needs a socket" end
    out.url = "http://localhost" .. out.url
  end
  return out
end

return M
