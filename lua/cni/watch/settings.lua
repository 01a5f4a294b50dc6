-- SPDX-License-Identifier: MIT
--- The file of settings, /etc/luacni/settings.json: root's, and looked at by every call. A broken one holds
-- no pod: a call goes on without it, and says so.
-- @module cni.watch.settings

local args = require "cni.engine.args"
local fail = require "cni.fail"
local json = require "cni.json"
local schema = require "cni.schema"

local M = {}

--- Where it is.
M.path = "/etc/luacni/settings.json"

--- What it may have.
M.record = schema.record {
  traces = schema.string { pattern = "/.*[^/]", wanted = "the absolute path of a file",
    doc = "Append the spans of each call to this file, in lines of OTLP JSON." },
  journald = schema.boolean { doc = "Tell the system's journal of each call, in one line." },
}

local function read(text)
  local raw = json.decode(text, "it", { object = true })
  local fields, spelling = M.record.fields, M.record.spelling
  for key in next, raw or {} do
    if not fields[key] and not spelling[key:lower()] then
      fail.config("", args.unknown(key, M.record.keys))
    end
  end
  return schema.read(M.record, raw)
end

--- What a text says.
-- @string text of the file
-- @treturn table the settings, complete with defaults
-- @treturn[2] nil
-- @treturn[2] string what is wrong with it
function M.of(text)
  local ok, settings = pcall(read, text)
  if ok then return settings end
  return nil, ("%s: %s"):format(M.path, tostring(fail.wrap(settings)))
end

return M
