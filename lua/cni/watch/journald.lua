-- SPDX-License-Identifier: MIT
--- One line of the system's journal for a call, as its native protocol has it: a datagram of fields.
-- @module cni.watch.journald

local M = {}

--- Where systemd-journald listens.
M.socket = "/run/systemd/journal/socket"

-- MESSAGE_ID: what kind of line it is, for `journalctl MESSAGE_ID=...`.
local done_id <const> = "2d21d96ae1e74c0abfa3a438dee51586"
local failed_id <const> = "797c3b7e3707485c9038bf121bf31e5f"
local info <const>, err <const> = 6, 3

-- A value that is longer is cut: all fields then fit in a datagram, whose size the kernel limits.
local longest <const> = 8192

local function field(name, value)
  value = tostring(value)
  if #value > longest then value = value:sub(1, longest) .. "..." end
  if not value:find("\n", 1, true) then return ("%s=%s\n"):format(name, value) end
  return ("%s\n%s\n"):format(name, ("<s8"):pack(value))
end

-- What happened, for people.
local function sentence(about)
  local what = about.command or "a call"
  if about.ifname and about.id then
    what = ("%s of %s of container %s"):format(what, about.ifname, about.id)
  end
  if about.network then what = ("%s, network %s"):format(what, about.network) end
  if about.type then what = ("%s (%s)"):format(what, about.type) end
  local time = ("%.1f ms"):format(about.seconds * 1000)
  if not about.error then return ("%s: done in %s"):format(what, time) end
  return ("%s: failed after %s: %s"):format(what, time, tostring(about.error))
end

--- The datagram.
-- @tparam table call of cni.watch.call
-- @tparam table about as of cni.watch.otlp, and `seconds`
-- @treturn string
function M.entry(call, about)
  local failed, fields = about.error, {}
  local function add(name, value)
    if value ~= nil then fields[#fields + 1] = field(name, value) end
  end
  add("MESSAGE", sentence(about))
  add("MESSAGE_ID", failed and failed_id or done_id)
  add("PRIORITY", failed and err or info)
  add("SYSLOG_IDENTIFIER", "luacni")
  add("CNI_COMMAND", about.command)
  add("CNI_CONTAINERID", about.id)
  add("CNI_IFNAME", about.ifname)
  add("CNI_NETNS", about.netns)
  add("CNI_NETWORK", about.network)
  add("CNI_TYPE", about.type)
  add("CNI_DURATION_USEC", ("%d"):format(about.seconds * 1e6 // 1))
  if failed then
    add("CNI_ERROR_CODE", failed.code)
    add("CNI_ERROR_MSG", failed.msg)
    add("CNI_ERROR_DETAILS", failed.details)
    add("ERRNO", failed.errno)
  end
  add("TRACE_ID", call.context.trace)
  if call.records then add("SPAN_ID", call.root.id) end
  return table.concat(fields)
end

return M
