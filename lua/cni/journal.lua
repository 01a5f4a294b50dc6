-- SPDX-License-Identifier: MIT
--- Records of attachments: what was done, written down before it is done.
--
--     /run/luacni/attachments/NETWORK/ID:IFNAME/SEQ:TYPE:DIGEST
--
-- is one plugin's part in one attachment. Its first line says whose it is; then follows a line a
-- step, `{"done":...}` once the ADD has answered, and `{"undone":K}` when all steps from K on are
-- taken back. The running process holds a lock on the file, so an unfinished record that nobody
-- locks is debris of a dead ADD. SEQ is the order of the ADDs; DIGEST is of the configuration, which tells
-- two plugins of one type in a chain apart. A file that ends in `.gone` remembers a part that is deleted
-- while a sibling of the same type lives on: a second DEL must not take the sibling's.
--
-- @module cni.journal

local cjson = require "cjson"
local fail = require "cni.fail"
local json = require "cni.json"
local netlink = require "netlink"

local sys = netlink.sys

local M = {}
local Record = {}
Record.__index = Record

--- Where the records live; dies with the boot, as namespaces do.
M.root = "/run/luacni/attachments"

-- A file name from free text: what is too long keeps its start and ends in a digest.
local function component(text)
  if #text <= 200 then return text end
  return text:sub(1, 150) .. "~" .. sys.hash64(text)
end

local function directory(owner)
  return M.root .. "/" .. component(owner.network) .. "/"
    .. component(owner.id .. ":" .. owner.ifname)
end

--- A digest of a plugin's configuration: what the runtime adds for one call does not count.
-- @tparam table raw the decoded configuration
-- @treturn string 16 hexadecimal digits
function M.digest(raw)
  local own = {}
  for key, value in pairs(raw) do
    if key ~= "prevResult" and key ~= "runtimeConfig" and key:sub(1, 8) ~= "cni.dev/" then
      own[key] = value
    end
  end
  return sys.hash64(json.compact(own))
end

local function io_error(what, path, msg)
  fail.throw { code = fail.codes.io, msg = what .. " " .. path .. ": " .. tostring(msg) }
end

local function parse_name(name)
  local seq, type_name, digest, rest = name:match("^(%d+):([^:]+):(%x+)(.*)$")
  if not seq or (rest ~= "" and rest ~= ".gone") then return nil end
  return { seq = tonumber(seq), type = type_name, digest = digest, gone = rest == ".gone" }
end

-- The entries of an attachment's directory, oldest first.
local function entries(dir)
  local found = {}
  for _, name in ipairs(sys.list(dir) or {}) do
    local entry = parse_name(name)
    if entry then
      entry.name = name
      found[#found + 1] = entry
    end
  end
  table.sort(found, function(a, b) return a.seq < b.seq end)
  return found
end

-- Fill a record from its text. A last line without its newline was never acted upon.
local function load(record, text)
  record.steps, record.done, record.header = {}, nil, nil
  for line in text:gmatch("([^\n]*)\n") do
    local ok, value = pcall(json.decode, line, "record")
    if not ok then break end
    if value.kind then
      value.did = true
      record.steps[#record.steps + 1] = value
    elseif value.undone then
      for i = value.undone + 1, #record.steps do record.steps[i].did = nil end
    elseif value.done then
      record.done = value.done
    elseif not record.header then
      record.header = value
    end
  end
  return record
end

local function open(dir, entry, how, timeout)
  local path = dir .. "/" .. entry.name
  local file, msg, errno = sys.open_locked_existing(path, how, timeout)
  if not file then return nil, msg, errno end
  local record = setmetatable({ file = file, path = path, dir = dir, type = entry.type,
    digest = entry.digest, seq = entry.seq }, Record)
  return load(record, file:read() or "")
end

--- Write steps down.
-- @tparam table steps list of steps
-- @tparam int first index of the first to write
-- @tparam int last index of the last
function Record:append(steps, first, last)
  local lines = {}
  for i = first, last do
    local step = steps[i]
    lines[#lines + 1] = cjson.encode {
      kind = step.kind, ns = step.ns, want = step.want, had = step.had, covered = step.covered,
    }
  end
  lines[#lines + 1] = ""
  self:write(table.concat(lines, "\n"))
end

function Record:write(bytes)
  local ok, msg = self.file:append(bytes)
  if not ok then io_error("write record", self.path, msg) end
end

--- Say that the ADD is complete.
-- @tparam table|nil result the result, in its internal form
function Record:finish(result)
  self:write(cjson.encode { done = { result = result } } .. "\n")
end

--- Say that every step after `index` is taken back.
function Record:note_undone(index)
  self:write(cjson.encode { undone = index } .. "\n")
end

--- Forget the record: its attachment is gone.
function Record:remove()
  local siblings = false
  for _, entry in ipairs(entries(self.dir)) do
    local mine = self.dir .. "/" .. entry.name == self.path
    if entry.type == self.type and not entry.gone and not mine then siblings = true end
  end
  if siblings then
    sys.rename(self.path, self.path .. ".gone")
  else
    for _, entry in ipairs(entries(self.dir)) do
      if entry.gone and entry.type == self.type then sys.unlink(self.dir .. "/" .. entry.name) end
    end
    sys.unlink(self.path)
  end
  self.file:close()
  if sys.rmdir(self.dir) then sys.rmdir((self.dir:gsub("/[^/]*$", ""))) end
end

function Record:close()
  self.file:close()
end

--- Begin a record for an ADD. Call @{M.of} first and clear what is debris.
-- @tparam table owner {network, id, ifname}
-- @tparam string type_name the plugin's type
-- @tparam string digest see @{M.digest}
-- @tparam table header who asked: netns, cookie, config, args, path; written as the first line
-- @treturn[1] Record locked by this process
-- @return[2] nil when another process was faster: look again at what there is
function M.begin(owner, type_name, digest, header)
  local dir = directory(owner)
  header.network, header.id, header.ifname = owner.network, owner.id, owner.ifname
  header.type = type_name
  for _ = 1, 100 do -- a DEL may remove the directory between our two steps
    local made, msg = sys.mkdirs(dir, 448)
    if made == nil then io_error("create", dir, msg) end
    local seq = 1
    if made == false then
      local all = entries(dir)
      seq = #all > 0 and all[#all].seq + 1 or 1
    end
    local path = ("%s/%d:%s:%s"):format(dir, seq, type_name, digest)
    local file, why, errno = sys.open_locked(path, "exclusive", 10000)
    if file then
      if (file:read() or "") ~= "" then
        file:close()
        return nil
      end
      local record = setmetatable({ file = file, path = path, dir = dir, type = type_name,
        digest = digest, seq = seq, header = header, steps = {} }, Record)
      record:write(cjson.encode(header) .. "\n")
      return record
    end
    if errno ~= sys.errno.ENOENT then io_error("create record", path, why) end
  end
  io_error("create record in", dir, "the directory keeps vanishing")
end

--- The records of one attachment, newest first, each locked.
-- @tparam table owner {network, id, ifname}
-- @tparam[opt] function wanted given {seq, type, digest, gone}; default: all that are not gone
-- @treturn table list of Records; close or remove each
function M.of(owner, wanted)
  local dir, records = directory(owner), {}
  local all = entries(dir)
  for i = #all, 1, -1 do
    local entry = all[i]
    if not entry.gone and (not wanted or wanted(entry)) then
      local record, msg, errno = open(dir, entry, "exclusive", 30000)
      if record then
        records[#records + 1] = record
      elseif errno == sys.errno.ETIMEDOUT then
        fail.throw { code = fail.codes.again,
          msg = "another process still works on this attachment", details = dir }
      elseif errno and errno ~= sys.errno.ENOENT then
        io_error("open record", dir .. "/" .. entry.name, msg)
      end
    end
  end
  return records
end

--- The record that a DEL of this plugin takes back: the newest with the same configuration; or,
-- when none has and no such part was deleted before, the newest of the type.
-- @tparam table owner {network, id, ifname}
-- @tparam string type_name the plugin's type
-- @tparam string digest of the configuration the DEL came with
-- @treturn[1] Record locked
-- @treturn[2] nil no record
-- @treturn[2] boolean true when this part is known to be deleted already
function M.find(owner, type_name, digest)
  local deleted, other = false, nil
  local all = entries(directory(owner))
  for i = #all, 1, -1 do
    local entry = all[i]
    if entry.type == type_name then
      if entry.gone then
        deleted = deleted or entry.digest == digest
      elseif entry.digest == digest then
        other = entry
        deleted = false
        break
      else
        other = other or entry
      end
    end
  end
  if deleted or not other then return nil, deleted end
  return M.of(owner, function(entry) return entry.name == other.name end)[1], false
end

--- Whether a living process works on an attachment right now.
-- @tparam table owner {network, id, ifname}
-- @treturn boolean
function M.busy(owner)
  local dir = directory(owner)
  for _, entry in ipairs(entries(dir)) do
    local file, _, errno = sys.open_locked_existing(dir .. "/" .. entry.name, "try")
    if file then
      file:close()
    elseif errno == sys.errno.EAGAIN then
      return true
    end
  end
  return false
end

--- Whether another network has records of the same container's interface: what stands under that
-- name is then the other one's.
-- @tparam table owner {network, id, ifname}
-- @treturn boolean
function M.elsewhere(owner)
  local own, name = component(owner.network), component(owner.id .. ":" .. owner.ifname)
  for _, network in ipairs(sys.list(M.root) or {}) do
    if network ~= own and sys.stat(M.root .. "/" .. network .. "/" .. name) then return true end
  end
  return false
end

--- Every record of a network and type that no living process works on.
-- @tparam string network the network's name
-- @tparam string|nil type_name nil: of every type
-- @treturn function iterator over locked Records, newest of an attachment first
function M.each(network, type_name)
  local base = M.root .. "/" .. component(network)
  local found = {}
  for _, attachment in ipairs(sys.list(base) or {}) do
    local all = entries(base .. "/" .. attachment)
    for i = #all, 1, -1 do
      if not all[i].gone and (not type_name or all[i].type == type_name) then
        found[#found + 1] = { base .. "/" .. attachment, all[i] }
      end
    end
  end
  local i = 0
  return function()
    while i < #found do
      i = i + 1
      local record = open(found[i][1], found[i][2], "try")
      if record then return record end
    end
  end
end

--- Every record there is, to look at: not locked, and perhaps in the middle of being written.
-- @treturn table list of { header =, steps =, done =, type = }, by network and attachment
function M.all()
  local found = {}
  local function sorted(path)
    local names = sys.list(path) or {}
    table.sort(names)
    return names
  end
  for _, network in ipairs(sorted(M.root)) do
    for _, attachment in ipairs(sorted(M.root .. "/" .. network)) do
      local dir = ("%s/%s/%s"):format(M.root, network, attachment)
      for _, entry in ipairs(entries(dir)) do
        local text = not entry.gone and sys.read_file(dir .. "/" .. entry.name)
        local record = text and load({ type = entry.type }, text)
        if record and record.header then found[#found + 1] = record end
      end
    end
  end
  return found
end

return M
