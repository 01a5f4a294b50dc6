-- SPDX-License-Identifier: MIT
-- luacni dhcp

local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local journal = require "cni.record.journal"
local json = require "cni.json"
local renewal = require "cni.engine.renewal"
local say = require "cni.command.say"
local step = require "cni.step.dhcp"
local sys = require("netlink").sys

-- So long a lease that has just come may wait to be seen; and what has failed, before it is tried again.
local longest_sleep <const>, after_problem <const> = 5, 10

-- Neighbours are told of an address twice, so long apart (RFC 5227, 2.3).
local told_again <const> = 2

local function text_of(err) return say.mistake(err) or tostring(fail.wrap(err)) end

local function seconds_to(time)
  return time and math.max(0, math.ceil(time - sys.uptime())) or nil
end

local function words_of(lease)
  return ("%s  %s %s  "):format(lease.of.network, lease.of.id, lease.of.ifname)
end

-- The attachment as its lease says: by an update; and where an address was given up and is granted again, a
-- repair brings it back.
local function apply(lease)
  if renewal.put(lease) then return end
  local of = lease.of
  local function records() return journal.of(of) end
  require("cni.command.update").attachment(of.network, { network = of.network, container = of.id,
    interface = of.ifname, records = records() }, { set = {} })
  if lease.is_over then return end
  local failed
  require("cni.engine.repair").attachment(records(), { log = host.log, environ = host.environ },
    { step = function() end, left = function(_, err) failed = failed or err end })
  if failed then error(failed, 0) end
end

-- Whoever is not told will ask.
local function announce(lease) pcall(renewal.announce, lease) end

-- Do what is due for one lease. Returns the lease as it is then, nil: it is no more; and what is told, nil:
-- nothing was done.
local function look_after(lease, silent, anew)
  local now, what, why
  local ok, err = pcall(function() now, what, why = renewal.renew(lease, silent) end)
  if not ok then return step.read(lease.of), { problem = text_of(err) } end
  local told = what and { done = what, why = why } or nil
  if now and now.is_news then
    ok, err = pcall(apply, now)
    renewal.note_updated(now, ok)
    if ok then
      announce(now)
      anew[#anew + 1] = { lease = now, at = sys.clock() + told_again }
    end
    now, told = step.read(lease.of), told or { done = "changed" }
    told.problem = not ok and text_of(err) or nil
  end
  return now, told
end

local function report(lease, told, options, out)
  local of = lease.of
  if options.json then
    out[#out + 1] = { network = of.network, container = of.id, interface = of.ifname,
      address = lease.address, done = told.done, why = told.why, problem = told.problem,
      ends_in = not lease.is_over and seconds_to(lease.expires_at) or nil }
  elseif told.problem then
    host.log("luacni: " .. words_of(lease) .. told.problem)
  else
    local rest = not lease.is_over and seconds_to(lease.expires_at)
    say.lines { words_of(lease) .. lease.address .. " " .. (told.done == "anew" and "granted" or told.done)
      .. (told.why and ": " .. told.why or "") .. (rest and (", for %d seconds"):format(rest) or "") }
  end
end

-- Do all that is due. `anew`: list, to which leases are added that neighbours were told of. `between` is
-- called before each lease: true ends it. Returns whether something failed, and when something is due again.
local function pass(options, out, anew, between)
  local failed, next_at, silent, count = false, nil, {}, 0
  for lease, problem in step.each() do
    if between and between() then break end
    if problem then
      failed = true
      host.log("luacni: " .. text_of(problem))
    end
    local due = lease and renewal.due_at(lease)
    -- An address that was given up, then another.
    while lease and due and due <= sys.uptime() do
      count = count + 1
      local told
      lease, told = look_after(lease, silent, anew)
      if lease and told then report(lease, told, options, out) end
      if count % 4 == 0 then host.collect() end
      failed = failed or told and told.problem ~= nil
      due = lease and renewal.due_at(lease)
      if told and told.problem then due = due and math.max(due, sys.uptime() + after_problem) end
      if not told then break end
    end
    if lease and due and (not next_at or due < next_at) then next_at = due end
  end
  return failed, next_at, count
end

local function renew(options)
  local out = json.list {}
  local failed, next_at, count = pass(options, out, {})
  local rest = seconds_to(next_at)
  if options.json then
    say.json { leases = out, next_in = rest }
  elseif count == 0 or rest then
    host.log(rest and ("the next lease is to be renewed in %d seconds"):format(rest)
      or "no lease is to be renewed")
  end
  return failed and 1 or 0
end

-- Where the reference's plugin finds its daemon.
local function listen(path)
  files.must(sys.mkdirs(files.absolute(path):match "^(.*)/", 448)) -- 0700
  local listener, msg, errno = sys.listen(path)
  if not listener then
    fail.throw { msg = msg, errno = errno,
      hint = errno == sys.errno.EADDRINUSE and "another daemon listens there: end that one first" or nil }
  end
  return listener
end

local function serve_one(listener)
  local ok, msg = sys.exec { path = "/proc/self/exe", argv = { "luacni", "dhcp", "serve" },
    env = host.environ(), detached = true, connection = listener }
  if not ok then host.log("luacni: " .. msg) end
end

-- Serve who comes in so much time, each by a process of its own. Who cannot be let in is no reason to let
-- leases come to their end.
local function receive(listener, ms)
  local till = sys.clock() + ms / 1000
  local function left() return math.max(till - sys.clock(), 0) * 1000 // 1 | 0 end
  repeat
    local came, msg = listener:accept(left())
    if came then serve_one(listener) end
    if came == nil then
      host.log("luacni: " .. msg)
      sys.sleep(math.min(left(), 1000))
    end
  until not came
end

-- Tell neighbours again who were told a while ago. Returns when the next are to be.
local function remind(anew)
  while anew[1] and anew[1].at <= sys.clock() do announce(table.remove(anew, 1).lease) end
  return anew[1] and anew[1].at - sys.clock()
end

-- Until a signal ends it. Without a socket that may be at any moment: the next call goes on from there. The
-- file of a socket would keep another daemon from listening there, and is removed first.
local function daemon(options)
  if options.socket then host.hold_signals() end
  local listener <close> = options.socket and listen(options.socket) or nil
  local anew, ended = {}, nil
  local function between(ms)
    if not listener then return false end
    receive(listener, ms or 0)
    ended = ended or host.held_signal()
    return ended ~= nil
  end
  host.log "luacni: renewing leases"
  while not ended do
    local out = json.list {}
    local next_at
    local ok, err = pcall(function() next_at = select(2, pass(options, out, anew, between)) end)
    if not ok then host.log("luacni: " .. text_of(err)) end
    if options.json and out[1] then pcall(say.lines, { json.compact(out) }) end
    local rest = math.min(seconds_to(next_at) or longest_sleep, remind(anew) or longest_sleep, longest_sleep)
    local ms = math.max(rest, 1) * 1000 // 1 | 0
    if listener then between(ms) else sys.sleep(ms) end
  end
  return 0
end

local function list(options)
  local out, rows = json.list {}, { { "NETWORK", "CONTAINER", "INTERFACE", "ADDRESS", "SERVER", "ENDS IN" } }
  local function add(lease)
    local of, rest = lease.of, seconds_to(lease.expires_at)
    out[#out + 1] = { network = of.network, container = of.id, interface = of.ifname, address = lease.address,
      server = lease.server, renew_in = seconds_to(renewal.due_at(lease)), ends_in = rest,
      over = lease.is_over or false }
    rows[#rows + 1] = { of.network, of.id, of.ifname, lease.address, lease.server,
      lease.is_over and "over" or rest and rest .. " s" or "never" }
  end
  for lease, problem in step.each() do
    if lease then add(lease) else host.log("luacni: " .. text_of(problem)) end
  end
  if options.json then return say.json(out) end
  if not out[1] then return say.nothing(nil, nil, "no address is leased from a DHCP server") end
  say.columns(rows)
end

local function serve() return require("cni.command.dhcp_rpc").serve() end

local verbs <const> = { renew = renew, daemon = daemon, list = list, serve = serve }

return {
  words = "VERB",
  about = "keep the addresses that DHCP servers have leased",
  text = "VERB is renew, daemon, list or serve. renew does what is due, once: it asks for more time at " ..
    "half of a lease's time, or when the server has said. What the server answers with other values " ..
    "is made so by an update. An address whose time is up, or that the server refuses to renew, is " ..
    "given up at once, and another asked for. It says on standard error when it is to be called " ..
    "again. daemon goes on doing that until a signal comes; it sees new leases by itself. The unit " ..
    "luacni-dhcp runs it, or the timer luacni-dhcp-renew calls renew; where there is no systemd, " ..
    "start the daemon at boot. list shows the leases. With --socket the daemon also listens where " ..
    "the reference's plugin dhcp looks for its own daemon, and has what that asks for done by the " ..
    "type dhcp: so a node's containers may have been attached by either. serve does that for one " ..
    "client, on standard input and output; the unit luacni-dhcp.socket has systemd listen and call " ..
    "it.",
  least = 1, most = 1,
  options = {
    socket = { value = "PATH", about = "of daemon: listen there too, as /run/cni/dhcp.sock" },
    json = { about = "as JSON: renew says the `leases` that it did something for, and `next_in` seconds; " ..
      "daemon a list of them a line; list all leases" },
  },
  examples = { "luacni dhcp renew", "luacni dhcp list --json", "luacni dhcp daemon" },
  run = function(words, options)
    local verb = verbs[words[1]]
    if not verb then
      say.usage(("dhcp: there is no %q"):format(words[1]), words[1], { "renew", "daemon", "list", "serve" })
    end
    if options.socket and verb ~= daemon then say.usage "dhcp: --socket is for daemon" end
    return verb(options)
  end,
}
