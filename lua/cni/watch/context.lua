-- SPDX-License-Identifier: MIT
--- Whose trace a call belongs to, as W3C Trace Context says: the caller tells in TRACEPARENT
-- (`00-TRACE-SPAN-FLAGS`, in lower-case hex) and TRACESTATE; those whom we start are told in the same way.
-- @module cni.watch.context

local files = require "cni.record.files"
local sys = require("netlink").sys

local M = {}

-- Flags that are handed on: sampled, and that the trace's number is a random one.
local sampled <const>, known_flags <const> = 1, 3

--- A number that nobody else has.
-- @tparam integer bytes
-- @treturn string in hex
-- @raise code 5 when the kernel gives no random bytes
function M.new_id(bytes)
  local id = files.must(sys.random(bytes))
  return (id:gsub(".", function(char) return ("%02x"):format(char:byte()) end))
end

-- The parts of a TRACEPARENT; nil: it is none. What a version to come has behind them is passed over.
local function parsed(text)
  local hex = "[0-9a-f]"
  local pattern = ("^(%s)%%-(%s)%%-(%s)%%-(%s)(.*)$"):format(hex:rep(2), hex:rep(32), hex:rep(16), hex:rep(2))
  local version, trace, span, flags, rest = text:match(pattern)
  if not version or version == "ff" or not trace:find "[^0]" or not span:find "[^0]" then return nil end
  if rest ~= "" and (version == "00" or rest:sub(1, 1) ~= "-") then return nil end
  return trace, span, tonumber(flags, 16) & known_flags
end

--- The trace of a call.
-- @string[opt] parent TRACEPARENT; where that is absent or malformed, a trace begins, and `state` is no one's
-- @string[opt] state TRACESTATE
-- @treturn table `trace`, `parent` (the caller's span, or nil), `flags`, `state`; `sampled`: whether the
-- caller writes its spans down, and so we ours
-- @raise as @{new_id}
function M.of(parent, state)
  -- Who has more to say than the standard has room for is not asked to be read.
  if state and (#state > 512 or state:find "[^\t\x20-\x7e]") then state = nil end
  local trace, span, flags = parsed(parent or "")
  if not trace then return { trace = M.new_id(16), flags = sampled, sampled = true } end
  return { trace = trace, parent = span, flags = flags, state = state ~= "" and state or nil,
    sampled = flags & sampled ~= 0 }
end

--- What is told to whoever is started from a span.
-- @tparam table context of @{of}
-- @string span its id
-- @treturn {string,...} entries of an environment
function M.entries(context, span)
  return { ("TRACEPARENT=00-%s-%s-%02x"):format(context.trace, span, context.flags),
    context.state and "TRACESTATE=" .. context.state }
end

return M
