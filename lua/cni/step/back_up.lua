-- SPDX-License-Identifier: MIT
--- Step `back_up`: what a link has before a later step changes it, in a file as the reference's tuning
-- writes it. The file has those of `keys` that will be changed:
--
--     <dir>/<container ID>_<interface>.json    { "mac": ..., "mtu": ... }
--
-- So a DEL by that plugin gives back what our ADD has changed, and our DEL without a record gives back what
-- that plugin's ADD has changed. With a record, the steps that changed the link restore it, and the file is
-- only removed.
-- @module cni.step.back_up

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local netlink = require "netlink"
local sets = require "cni.step.set"

local sys = netlink.sys
local M = { of_interface = true, telling = true }

-- In the order of the file: its key, and the key of a link.
local keys <const> = { { "mac", "mac" }, { "promisc", "promisc" }, { "mtu", "mtu" },
  { "allmulti", "allmulti" }, { "txQLen", "txqlen" } }

local types <const> = { mac = "string", promisc = "boolean", mtu = "number", allmulti = "boolean",
  txQLen = "number" }

local function path_of(step, plan)
  return ("%s/%s_%s.json"):format(step.want.dir, plan.owner.id, plan.owner.ifname)
end

-- The values in the file that are of the right type, by its keys; nil: there is no file.
local function read(path)
  local text = files.read(path)
  if not text then return nil end
  local ok, said = pcall(json.decode, text)
  local values = {}
  for _, key in ipairs(ok and type(said) == "table" and keys or {}) do
    local value = said[key[1]]
    if type(value) == "number" then value = math.tointeger(value) end
    if type(value) == types[key[1]] then values[key[1]] = value end
  end
  return values
end

local function text_of(values)
  local lines = {}
  for _, key in ipairs(keys) do
    local value = values[key[1]]
    if value ~= nil then lines[#lines + 1] = (" %q: %s"):format(key[1], json.show(value)) end
  end
  return "{\n" .. table.concat(lines, ",\n") .. "\n}"
end

local function restore(values, h, name, plan)
  local link = h:link(name, {})
  local set = { index = link and link.index }
  for _, key in ipairs(keys) do set[key[2]] = values[key[1]] end
  if not link or not next(values) then return end
  local what = "restore link " .. name
  local ok, msg, errno = sets.give_back(h, plan, what, set)
  if not ok then fail.kernel(what, msg, errno) end
end

-- Whether an earlier plugin of the chain has written this file.
local function is_second(step, plan)
  for _, record in ipairs(plan.record.book:living()) do
    for _, other in ipairs(record ~= plan.record and record.steps or {}) do
      if other.kind == step.kind and other.want.dir == step.want.dir then return true end
    end
  end
  return false
end

function M.run(step, plan)
  local path, h = path_of(step, plan), plan[step.ns]
  local name = step.want.link
  h:index(name) -- or an error
  local values = read(path)
  -- A file that the chain did not write is of an earlier ADD, which was never taken back.
  if values and not is_second(step, plan) then
    restore(values, h, name, plan)
    values = nil
  end
  values = values or {}
  local link = h:link(name)
  for _, key in ipairs(keys) do
    if values[key[1]] == nil and step.want.set[key[2]] ~= nil then values[key[1]] = link[key[2]] end
  end
  files.must(sys.mkdirs(step.want.dir, 448)) -- 0700
  files.must(sys.write_file(path, text_of(values)))
end

function M.key(step) return step.want.link end

--- What was there before the ADD stays written down; what is set now beside it comes to it.
function M.change(_, to, plan) M.run(to, plan) end

function M.undo(step, plan)
  local path, h = path_of(step, plan), plan:at(step.ns)
  if plan.mode == "erase" then
    -- When the sandbox is not known, the file stays for a DEL that knows it.
    if not h then return end
    restore(read(path) or {}, h, step.want.link, plan)
  end
  files.unless_absent(sys.unlink(path))
end

-- When somebody else has done the DEL, the file is gone and the link is as it was.
function M.stands(step, plan)
  if files.exists(path_of(step, plan)) then return true end
  local link = plan[step.ns]:link(step.want.link) or {}
  for key, value in pairs(step.want.set) do
    if link[key] == value then return true end
  end
  return false
end

function M.say(step)
  return ("write down what %s has, in %s"):format(step.want.link, step.want.dir)
end

return M
