-- SPDX-License-Identifier: MIT
--- A call that is watched: when it began and ended, and each of its steps.
--
-- A step that is done alone has a span of its own. Steps whose requests travel to the kernel together are
-- done by it in one go, and nobody learns when each of them was: such a *send* has a span, and its steps have
-- spans below that, each of its whole duration.
--
-- @module cni.watch.call

local context = require "cni.watch.context"
local fail = require "cni.fail"
local sys = require("netlink").sys

local M = {}
M.__index = M

-- A GC may have any number of steps.
local most_spans <const> = 2000

--- A span's id. The first one is random, and the others count on from it: none can be missing once a call has
-- begun.
-- @treturn string
function M:new_id()
  self.last_id = self.last_id + 1
  return ("%016x"):format(self.last_id)
end

local function new_span(self, name, parent)
  local span = { id = self:new_id(), name = name, parent = parent, first = sys.clock() }
  if #self.spans < most_spans then
    self.spans[#self.spans + 1] = span
  else
    self.dropped = self.dropped + 1
  end
  return span
end

local function unheard(host, problem)
  host.log(("luacni: %s: nobody is told of this call"):format(tostring(fail.wrap(problem))))
end

local function begin(host, name, text, problem)
  local settings
  if text then settings, problem = require("cni.watch.settings").of(text) end
  if not settings then fail.throw { msg = problem } end
  if not settings.traces and not settings.journald then return nil end
  local self = setmetatable({ host = host, settings = settings, spans = {}, dropped = 0,
    -- Open spans, by coroutine: GC takes several attachments back by turns.
    open = setmetatable({}, { __mode = "k" }),
    last_id = math.tointeger("0x" .. context.new_id(8)),
    context = context.of(host.getenv "TRACEPARENT", host.getenv "TRACESTATE") }, M)
  self.records = settings.traces ~= nil and self.context.sampled
  self.clock_to_time = sys.time() - sys.clock()
  self.root = new_span(self, name:sub(1, 64), { id = self.context.parent })
  return self
end

--- Begin, if there is anybody to tell. What keeps it from that is logged: it is none of the call's errors.
-- @tparam table host the module of that name
-- @string name of the call's span, as far as it is known
-- @string[opt] text of the settings
-- @string[opt] problem why they cannot be read
-- @treturn table|nil
function M.begin(host, name, text, problem)
  local ok, self = pcall(begin, host, name, text, problem)
  if ok then return self end
  unheard(host, self)
end

local function innermost(self)
  return self.open[coroutine.running()] or self.root
end

-- Each step of a list once: it may have had several requests.
local function distinct(steps)
  local list, seen = {}, {}
  for _, step in ipairs(steps) do
    if not seen[step] then seen[step], list[#list + 1] = true, step end
  end
  return list
end

local function ended(self, span, around, ok, ...)
  self.open[coroutine.running()] = around
  span.last = sys.clock()
  if not ok then
    span.problem = ...
    error(span.problem, 0)
  end
  if span.compares then span.problem = ... end
  return ...
end

--- Do something about steps.
-- @tparam table owner of the attachment that they are of: in a GC there are several
-- @tparam string what `do`, `compare` (what the action returns says what differs) or `undo`
-- @tparam table steps one, or a list of those that are sent together
-- @tparam function action
-- @param ... its arguments
-- @return what it returns
-- @raise what it raises
function M:about(owner, what, steps, action, ...)
  local list, around = steps.kind and { steps } or distinct(steps), self.open[coroutine.running()]
  local span = new_span(self, nil, innermost(self))
  span.owner, span.what, span.compares = owner, what, what == "compare"
  if list[2] then span.steps = list else span.step = list[1] end
  self.open[coroutine.running()] = span
  return ended(self, span, around, pcall(action, ...))
end

--- What is told to whoever is started now: that the span which is open is its parent.
-- @treturn {string,...} entries of an environment
function M:entries()
  return context.entries(self.context, innermost(self).id)
end

--- The environment of whoever is started now.
-- @treturn {string,...}
function M:environ()
  local env = self:entries()
  for _, entry in ipairs(self.host.environ()) do
    if not entry:find "^TRACEPARENT=" and not entry:find "^TRACESTATE=" then env[#env + 1] = entry end
  end
  return env
end

-- Verbs that are about a network, whatever their caller has left in the environment.
local about_network <const> = { GC = true, STATUS = true, VERSION = true }

--- What a call is about, as far as its caller has said it.
-- @tparam table host
-- @tparam ?table req the request, as far as there is one
-- @string type_name what the program was called as
-- @treturn table see cni.watch.otlp
function M.subject(host, req, type_name)
  local getenv = host.getenv
  local command = getenv "CNI_COMMAND"
  local function given(name)
    local value = getenv(name)
    return not about_network[command] and value ~= "" and value or nil
  end
  return { command = command, id = given "CNI_CONTAINERID", ifname = given "CNI_IFNAME",
    netns = given "CNI_NETNS", network = req and req.network, type = req and req.type or type_name }
end

local function finish(self, call, err)
  local root = self.root
  root.last = sys.clock()
  root.problem = err
  call.error = err and fail.wrap(err)
  call.seconds = root.last - root.first
  if self.records then
    local ok, why = self.host.append(self.settings.traces, require("cni.watch.otlp").line(self, call))
    if not ok then self.host.log("luacni: the spans of this call are lost: " .. why) end
  end
  if self.settings.journald then
    local journald = require "cni.watch.journald"
    self.host.datagram(journald.socket, journald.entry(self, call))
  end
end

--- The call has ended: tell who wants to know. What cannot be told is lost, and logged.
-- @tparam table call of @{subject}
-- @param err what was raised, or nil
function M:finish(call, err)
  local ok, problem = pcall(finish, self, call, err)
  if not ok then unheard(self.host, problem) end
end

return M
