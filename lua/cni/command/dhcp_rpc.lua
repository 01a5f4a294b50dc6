-- SPDX-License-Identifier: MIT
--- What the reference's plugin `dhcp` asks of its daemon, served by this program: one connection, on
-- standard input and output. (Who listens is another: `luacni dhcp daemon`, or systemd.) The plugin speaks
-- net/rpc of Go: a line of HTTP, then values of cni.protocol.gob, a request and its arguments, a response and
-- its result.
--
-- Allocate is an ADD of our own type dhcp for that attachment, Release its DEL: so the lease is in the
-- records, and is renewed, listed, repaired and collected as any other. An attachment that has one is told it
-- again, as by the reference: its plugin asks for it in CHECK too.
-- @module cni.command.dhcp_rpc

local addr = require "cni.addr"
local fail = require "cni.fail"
local gob = require "cni.protocol.gob"
local host = require "host"
local journal = require "cni.record.journal"
local json = require "cni.json"
local records = require "cni.engine.records"
local step = require "cni.step.dhcp"
local sys = require("netlink").sys

local M = {}

-- How long a client may be silent, in the middle of what it says and before it says anything more.
local silence_ms <const> = 10000

local greeting <const> = "^CONNECT /_goRPC_ HTTP/1%.%d\r?\n"
local longest_greeting <const> = 4096

local response = gob.struct("Response", { { "ServiceMethod", gob.string }, { "Seq", gob.uint },
  { "Error", gob.string } })
local nothing = gob.struct("", {})

-- As the library of CNI has a result.
local network = gob.struct("IPNet", { { "IP", gob.bytes }, { "Mask", gob.bytes } })
local ip = gob.struct("", { { "Interface", gob.int }, { "Address", network }, { "Gateway", gob.bytes } })
local route = gob.struct("", { { "Dst", network }, { "GW", gob.bytes } })
local texts = gob.list("[]string", gob.string)
local dns = gob.struct("DNS", { { "Nameservers", texts }, { "Domain", gob.string }, { "Search", texts } })
local result = gob.struct("Result", { { "CNIVersion", gob.string }, { "IPs", gob.list("[]*IPConfig", ip) },
  { "Routes", gob.list("[]*Route", route) }, { "DNS", dns } })

-- Reading -----------------------------------------------------------------------------------

-- So many bytes; nil at the end, when it comes before the first of them.
local function take(count)
  local parts, got = {}, 0
  while got < count do
    local bytes, msg = sys.receive(count - got, silence_ms)
    if not bytes then fail.throw { msg = msg } end
    if bytes == "" and got == 0 then return nil end
    if bytes == "" then fail.throw { msg = "the client has ended in the middle of what it said" } end
    parts[#parts + 1], got = bytes, got + #bytes
  end
  return table.concat(parts)
end

local function greeted()
  local text = ""
  repeat
    local byte = take(1)
    if not byte then return false end
    text = text .. byte
  until text:find "\n\r?\n$" or #text > longest_greeting
  return text:find(greeting) ~= nil
end

-- Values ------------------------------------------------------------------------------------

local function mask_of(len, bytes)
  local mask = {}
  for i = 1, bytes do
    local bits = math.max(0, math.min(8, len - 8 * (i - 1)))
    mask[i] = string.char(0xff << (8 - bits) & 0xff)
  end
  return table.concat(mask)
end

local function network_of(text)
  local cidr = addr.parse(text)
  return { IP = cidr.ip, Mask = mask_of(cidr.len, #cidr.ip) }
end

local function result_of(ips, routes, names)
  local out = { CNIVersion = "1.0.0", IPs = {}, Routes = {}, DNS = {} }
  for i, one in ipairs(ips) do
    out.IPs[i] = { Address = network_of(one.address), Gateway = one.gateway and addr.ip(one.gateway) }
  end
  for i, one in ipairs(routes or {}) do
    out.Routes[i] = { Dst = network_of(one.dst), GW = one.gw and addr.ip(one.gw) }
  end
  names = names or {}
  out.DNS = { Nameservers = names.nameservers, Domain = names.domain, Search = names.search }
  return out
end

-- Doing -------------------------------------------------------------------------------------

local function environ_of(args, verb)
  local env = { "CNI_COMMAND=" .. verb, "CNI_CONTAINERID=" .. (args.ContainerID or ""),
    "CNI_NETNS=" .. (args.Netns or ""), "CNI_IFNAME=" .. (args.IfName or ""),
    "CNI_ARGS=" .. (args.Args or ""), "CNI_PATH=" .. (args.Path or ""),
    "CNI_NETNS_OVERRIDE=" .. (args.NetnsOverride or "") }
  for _, entry in ipairs(host.environ()) do
    if not entry:find "^CNI_" then env[#env + 1] = entry end
  end
  return env
end

-- Call our own plugin. Returns what it prints. Of an ADD that nobody waits for any more the lease would be
-- nobody's, and the DEL that comes then would have to wait for it.
local function call(verb, args)
  local ran, msg, errno = sys.exec { path = "/proc/self/exe", argv = { "dhcp" }, env = environ_of(args, verb),
    stdin = args.StdinData or "", timeout_ms = 60000, heard = verb == "ADD" }
  if not ran then fail.kernel("dhcp", msg, errno) end
  if ran.status == 0 then return ran.stdout end
  local ok, told = pcall(json.decode, ran.stdout)
  fail.throw { msg = ok and type(told) == "table" and told.msg or "dhcp has ended without an answer",
    details = ok and type(told) == "table" and told.details or nil }
end

-- The lease that an attachment has already. One whose lease is no good is not given a second one: its CHECK is
-- to say so.
local function known(args)
  local ok, conf = pcall(json.decode, args.StdinData or "")
  local name = ok and type(conf) == "table" and conf.name
  if type(name) ~= "string" or not args.ContainerID or not args.IfName then return nil end
  local owner = { network = name, id = args.ContainerID, ifname = args.IfName }
  local lease = step.read(owner)
  local of_type = lease and lease.of.type or "dhcp"
  for _, record in ipairs(journal.of(owner)) do
    local lives = record.header.type == of_type and record.header.netns == args.Netns
      and records.is_live(record)
    local problem = lives and step.verify(nil, { owner = owner })
    if problem then fail.throw { msg = problem } end
    if lives then return lease end
  end
end

local methods = {}

methods["DHCP.Allocate"] = function(args)
  local lease = known(args)
  if lease then return result_of({ lease }, lease.routes, lease.dns) end
  local given = require("cni.protocol.result").parse_any(json.decode(call("ADD", args)), "1.0.0")
  return result_of(given.ips or {}, given.routes, given.dns)
end

methods["DHCP.Release"] = function(args) call("DEL", args) end

local function text_of(err)
  err = fail.wrap(err)
  return err.details and ("%s (%s)"):format(err.msg, err.details) or err.msg
end

-- Do what is asked. Returns the response and what comes behind it.
local function answer(asked, args)
  local head = { ServiceMethod = asked.ServiceMethod, Seq = asked.Seq }
  local method = methods[asked.ServiceMethod or ""]
  if not method then
    head.Error = ("there is no method %s"):format(json.show(asked.ServiceMethod))
    return head
  end
  local ok, value = pcall(method, args)
  if ok then return head, value end
  head.Error = text_of(value)
  return head
end

--- Serve one connection, until the client ends it.
-- @treturn integer exit status
function M.serve()
  if not greeted() then
    host.write(1, "HTTP/1.0 405 must CONNECT\nContent-Type: text/plain\n\n")
    return 1
  end
  host.write(1, "HTTP/1.0 200 Connected to Go RPC\n\n")
  local reader, writer = gob.reader(take), gob.writer()
  while true do
    local ok, asked = pcall(reader.value, reader)
    local args
    if ok and asked then ok, args = pcall(reader.value, reader) end
    if not ok then
      host.log("luacni dhcp serve: " .. text_of(args or asked))
      return 1
    elseif not asked or not args then
      return 0
    end
    local head, value = answer(asked, args)
    host.write(1, writer:value(response, head) .. writer:value(value and result or nothing, value or {}))
  end
end

return M
