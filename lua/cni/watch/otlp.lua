-- SPDX-License-Identifier: MIT
--- Spans as OpenTelemetry's file exporter writes them: the JSON of an ExportTraceServiceRequest a line. In it
-- ids are hex, 64-bit numbers are strings, and enumerations are numbers.
-- @module cni.watch.otlp

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local kind_of = require("cni.engine.plan").kind_of

local M = {}

-- SpanKind: who is asked from outside, who asks another program, who does it himself. StatusCode: error.
local server <const>, client <const>, internal <const> = 2, 3, 1
local error_status <const> = 2

-- What a caller or a kernel says may have any length.
local longest <const> = 4096

local function attributes(values)
  local list, keys = json.list {}, {}
  for key in next, values do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = values[key]
    list[#list + 1] = { key = key, value = math.type(value) == "integer" and { intValue = tostring(value) }
      or { stringValue = tostring(value):sub(1, longest) } }
  end
  return list
end

local function status(problem)
  if problem == nil then return nil end
  return { code = error_status, message = tostring(fail.wrap(problem)):sub(1, longest) }
end

-- A span's fields that every one has. `span.first` and `last` are of a clock that only runs forward.
local function base(call, span)
  local function nanoseconds(clock) return ("%d"):format(math.floor((clock + call.clock_to_time) * 1e9)) end
  return { traceId = call.context.trace, spanId = span.id, parentSpanId = span.parent.id,
    startTimeUnixNano = nanoseconds(span.first), endTimeUnixNano = nanoseconds(span.last or call.root.last),
    flags = call.context.flags, traceState = call.context.state, status = status(span.problem),
    kind = internal, name = span.name }
end

local function named(what, kind)
  return what == "do" and kind or what .. " " .. kind
end

local asks_others <const> = { delegate = true, call = true, http = true }

-- What a step does; and for which attachment, where the call is about none or several.
local function describe(out, step, span, about)
  local ok, words = pcall(function() return kind_of(step).say(step) end)
  local owner = span.owner.id ~= about.id and span.owner or {}
  out.name = named(span.what, step.kind)
  out.kind = asks_others[step.kind] and client or internal
  out.attributes = attributes { ["luacni.step"] = ok and words or step.kind, ["luacni.namespace"] = step.ns,
    ["cni.container_id"] = owner.id, ["cni.ifname"] = owner.ifname }
end

-- The spans of steps that were sent together, all of the send's duration.
local function add_sent(list, call, span, about)
  for i, step in ipairs(span.steps) do
    local part = base(call, { id = call:new_id(), parent = span, first = span.first,
      last = span.last })
    describe(part, step, span, about)
    if span.problem ~= nil and not step.did then part.status = status "it was not done" end
    list[#list + 1] = part
    if i >= 1000 then break end
  end
end

local function add(list, call, span, about)
  local out = base(call, span)
  list[#list + 1] = out
  if span.step then describe(out, span.step, span, about) end
  if span.steps then
    out.name = "send"
    out.attributes = attributes { ["luacni.steps"] = #span.steps }
    add_sent(list, call, span, about)
  end
  return out
end

local function call_attributes(about, dropped)
  local err = about.error
  return attributes { ["cni.command"] = about.command, ["cni.container_id"] = about.id,
    ["cni.ifname"] = about.ifname, ["cni.netns"] = about.netns, ["cni.network"] = about.network,
    ["cni.type"] = about.type, ["cni.error.code"] = err and err.code, ["cni.error.msg"] = err and err.msg,
    ["cni.error.details"] = err and err.details, ["luacni.spans_dropped"] = dropped > 0 and dropped or nil }
end

--- All spans of a call, as one line.
-- @tparam table call of cni.watch.call
-- @tparam table about what it was about: `command`, `id`, `ifname`, `netns`, `network`, `type`, `error`
-- @treturn string with its end
function M.line(call, about)
  local list = json.list {}
  for _, span in ipairs(call.spans) do
    local out = add(list, call, span, about)
    if span == call.root then
      out.name = about.type and ("%s %s"):format(span.name, about.type) or span.name
      out.kind, out.attributes = server, call_attributes(about, call.dropped)
    end
  end
  local hostname = (files.read "/proc/sys/kernel/hostname" or ""):gsub("%s+$", "")
  return json.compact { resourceSpans = { {
    resource = { attributes = attributes { ["service.name"] = "luacni",
      ["service.version"] = call.host.version, ["host.name"] = hostname } },
    scopeSpans = { { scope = { name = "luacni", version = call.host.version }, spans = list } },
  } } } .. "\n"
end

return M
