-- SPDX-License-Identifier: MIT
--- What somebody else's netlink messages say, for `luacni trace`: each datagram becomes records, and an
-- answer is told by the number of the request that it is to.
-- @module cni.command.messages

local netlink = require "netlink"

local M = {}

local route <const>, netfilter <const> = 0, 12

local protocols <const> = { [0] = "route", [4] = "sock_diag", [6] = "xfrm", [9] = "audit",
  [10] = "fib_lookup", [12] = "netfilter", [15] = "uevent", [16] = "generic" }

-- Messages of rtnetlink, four numbers each, by what they are about.
local about <const> = { [0] = "LINK", "ADDR", "ROUTE", "NEIGH", "RULE", "QDISC", "TCLASS", "TFILTER",
  "ACTION", "PREFIX", "MULTICAST", "ANYCAST", "NEIGHTBL", "NDUSEROPT", "ADDRLABEL", "DCB", "NETCONF", "MDB",
  "NSID", "STATS", "CACHEREPORT", "CHAIN", "NEXTHOP", "LINKPROP", "VLAN", "NEXTHOPBUCKET", "TUNNEL" }
local subsystems <const> = { [1] = "conntrack", [2] = "conntrack_exp", [5] = "log", [6] = "ipset",
  [11] = "compat" }
local short <const> = { element = "SETELEM", object = "OBJ" }
local control <const> = { [1] = "NLMSG_NOOP", [2] = "NLMSG_ERROR", [3] = "NLMSG_DONE", [4] = "NLMSG_OVERRUN" }

local function name_of(protocol, message)
  local type, verb = message.type, (message.verb or ""):upper()
  if type < 16 and control[type] then return control[type] end
  if protocol == route then
    local what = about[(type - 16) // 4]
    return what and "RTM_" .. verb .. what or ("RTM type %d"):format(type)
  elseif protocol ~= netfilter then
    return ("type %d"):format(type)
  elseif type == 16 or type == 17 then
    return type == 16 and "NFNL_MSG_BATCH_BEGIN" or "NFNL_MSG_BATCH_END"
  elseif type >> 8 == 10 then
    local object = message.object
    if object then return "NFT_MSG_" .. verb .. (short[object] or object:upper()) end
    local generation = { [15] = "NFT_MSG_NEWGEN", [16] = "NFT_MSG_GETGEN" }
    return generation[type & 0xff] or ("nf_tables message %d"):format(type & 0xff)
  end
  return ("%s message %d"):format(subsystems[type >> 8] or "subsystem " .. (type >> 8), type & 0xff)
end

local common <const> = { { 2, "multi" }, { 4, "ack" }, { 8, "echo" }, { 0x10, "dump_intr" },
  { 0x20, "dump_filtered" } }
local of_verb <const> = {
  get = { { 0x300, "dump" }, { 0x100, "root" }, { 0x200, "match" }, { 0x400, "atomic" } },
  new = { { 0x400, "create" }, { 0x200, "excl" }, { 0x100, "replace" }, { 0x800, "append" } },
  del = { { 0x100, "nonrec" }, { 0x200, "bulk" } },
}

local function flags_of(message)
  local list, left = {}, message.flags & ~1
  for _, rows in ipairs { of_verb[message.verb] or {}, common } do
    for _, row in ipairs(rows) do
      if left & row[1] == row[1] then
        list[#list + 1], left = row[2], left & ~row[1]
      end
    end
  end
  if left ~= 0 then list[#list + 1] = ("0x%x"):format(left) end
  return list
end

--- A conversation: what was asked, by socket and sequence number, and the names of links.
-- @treturn table for @{sent} and @{received}
function M.new()
  return { count = 0, requests = {}, dumps = {}, links = {} }
end

-- Whatever is said of links tells which number has which name, in that namespace.
local function learn(talk, ns, attrs)
  if not attrs or math.type(attrs.index) ~= "integer" or type(attrs.name) ~= "string" then return end
  talk.links[ns or ""] = talk.links[ns or ""] or {}
  talk.links[ns or ""][attrs.index] = attrs.name
end

local function record_of(place, message, direction)
  return { what = "message", direction = direction, protocol = protocols[place.protocol] or place.protocol,
    message = name_of(place.protocol, message), flags = flags_of(message), attributes = message.attrs,
    body = message.body, length = message.length, seq = message.seq }
end

--- What was sent.
-- @tparam table talk of @{new}
-- @tparam table place where: `protocol`, `socket` (who it is), `ns`
-- @string bytes
-- @tparam {table,...} list records are added to: `what` ("message", "bytes"), `direction`, `protocol`,
-- `message` (its name), `flags`, `attributes` or `body`, `length`, `seq`, `request` (its number)
function M.sent(talk, place, bytes, list)
  local at = 1
  local messages, left = netlink.dissect.messages(place.protocol, bytes)
  for _, message in ipairs(messages) do
    local record = record_of(place, message, "sent")
    if message.flags & 1 ~= 0 then
      talk.count = talk.count + 1
      record.request = talk.count
      talk.requests[("%s:%d"):format(place.socket, message.seq)] = { number = talk.count,
        name = record.message, bytes = bytes:sub(at, at + message.length - 1) }
    end
    list[#list + 1], at = record, at + (message.length + 3 & ~3)
  end
  if left > 0 then list[#list + 1] = { what = "bytes", direction = "sent", length = left } end
end

-- What the kernel says of a refusal; beside one that went well it may have a word of warning.
local function add_reason(place, record, message, request)
  record.text = message.text
  if message.errno ~= 0 then
    record.error, record.errno = message.error or tostring(message.errno), message.errno
    record.meaning = message.meaning
  end
  if message.offset and request then
    record.at = netlink.dissect.locate(place.protocol, request.bytes, message.offset)
      or ("offset %d"):format(message.offset)
  end
  record.missing = message.missing
end

-- An outcome, of one request or of several that went well.
local function outcome(talk, place, list, message)
  local key = ("%s:%d"):format(place.socket, message.seq)
  local request, last = talk.requests[key], list[#list]
  local record = { what = "outcome", direction = "received", protocol = protocols[place.protocol]
    or place.protocol, answers = { request and request.number }, message = request and request.name }
  talk.requests[key] = nil
  if message.errno ~= 0 or message.text then
    add_reason(place, record, message, request)
  elseif message.type == 2 and request and last and last.what == "outcome"
    and not (last.error or last.dump or last.text) then
    table.insert(last.answers, request.number)
    last.message = nil
    return
  end
  if message.type == 3 then
    record.dump = talk.dumps[key] or {}
    talk.dumps[key] = nil
  end
  list[#list + 1] = record
end

-- A part of a dump is counted.
local function count(talk, key, record)
  local dump = talk.dumps[key] or {}
  talk.dumps[key] = dump
  for _, entry in ipairs(dump) do
    if entry.message == record.message then
      entry.count = entry.count + 1
      return
    end
  end
  dump[#dump + 1] = { message = record.message, count = 1 }
end

--- What was received.
-- @tparam table talk of @{new}
-- @tparam table place as of @{sent}
-- @string bytes
-- @tparam[opt] boolean whole parts of dumps are told too, not counted alone
-- @tparam {table,...} list records are added to; as of @{sent}, with `answers`, the numbers of requests; one
-- whose `what` is "outcome" may have `error`, `errno`, `meaning`, `text`, `at` (the value that the kernel
-- objects to), `missing`; at the end of a dump `dump`, how many of which message it was
function M.received(talk, place, bytes, whole, list)
  local messages, left = netlink.dissect.messages(place.protocol, bytes)
  for _, message in ipairs(messages) do
    if message.errno then
      outcome(talk, place, list, message)
    else
      local key = ("%s:%d"):format(place.socket, message.seq)
      local request = talk.requests[key]
      local record = record_of(place, message, "received")
      record.answers = request and { request.number } or nil
      if message.object == "link" then learn(talk, place.ns, message.attrs) end
      local part = request and message.flags & 2 ~= 0
      if part then count(talk, key, record) end
      if whole or not part then list[#list + 1] = record end
    end
  end
  if left > 0 then list[#list + 1] = { what = "bytes", direction = "received", length = left } end
end

local is_index <const> = { index = true, master = true, oif = true, iif = true }

local function show(value, how)
  if type(value) == "string" then
    if value:find "^[%w_./:@%%+*#-]+$" then return value end
    return '"' .. value:gsub('[%c"\\\128-\255]', function(c) return ("\\x%02x"):format(c:byte()) end) .. '"'
  elseif type(value) ~= "table" then
    return tostring(value)
  elseif value[0] then
    return "{" .. M.text(value, how) .. "}"
  end
  local words = {}
  for i, item in ipairs(value) do words[i] = show(item, how) end
  return "[" .. table.concat(words, " ") .. "]"
end

--- Attributes, as a person reads them.
-- @tparam table attrs
-- @tparam table how `brief`: what is false, and what is in no row, is only counted; `links`: names by number
-- @treturn string
function M.text(attrs, how)
  local words, left_out = {}, 0
  for _, key in ipairs(attrs[0]) do
    local value, word = attrs[key == "\1" and 1 or key], nil
    if how.brief and (value == false or key:find "^#") then
      left_out = left_out + 1
    elseif key == "\1" then
      word = show(value, how)
    elseif value == true then
      word = key
    elseif key:find "^#" then
      word = key .. "=" .. value
    else
      word = key .. "=" .. show(value, how)
      local name = is_index[key] and how.links and how.links[value]
      if name then word = ("%s(%s)"):format(word, show(name, how)) end
    end
    words[#words + 1] = word
  end
  if left_out > 0 then words[#words + 1] = ("+%d"):format(left_out) end
  return table.concat(words, " ")
end

return M
