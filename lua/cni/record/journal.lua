-- SPDX-License-Identifier: MIT
--- Records of attachments: what was done, written down before it is done.
--
--     /run/luacni/attachments/NETWORK/ID:IFNAME/TYPE
--
-- is a *book*: what plugins of one type did for one attachment. A plugin's part in it is a *record*;
-- there are several when a chain has the type more than once. A record begins with a line that says
-- whose it is; then follows a line a step, `{"done":...}`, with what the ADD has answered,
-- `{"leaving":true}` when it begins to be taken back, `{"undone":K}` when all steps after K are, and
-- `{"gone":true}` when it is deleted while a sibling lives on: a second DEL must not take the
-- sibling's; `{"damaged":true}` stands for lines that could not be read. `{"record":N}` says that the
-- lines from here on are of the N-th record. The book goes with its last record.
--
-- An update (cni.engine.update) writes a new record behind the one that it replaces: the `update` of its
-- first line says which one that is, and which update, for the books of a chain. Steps of the new record that
-- are about what some step of the old one did say which (`was`); `kept` are those that want the same.
-- `{"ready":...}` has what the attachment is from now on, once all is done that an update adds or changes.
-- With `done` the new record counts: what it has taken over is the old one's no more, and what is left in
-- that is to be taken back.
--
-- A call that works on an attachment holds the book's lock from its beginning to its end. So calls of one
-- type for one attachment come one after the other, and an unfinished record in a book that nobody holds is
-- debris of a dead ADD. The lock is the type's: a delegate of another type
-- runs inside its caller's call, for the same attachment, and must not wait for its caller's lock.
--
-- @module cni.record.journal

local fail = require "cni.fail"
local files = require "cni.record.files"
local json = require "cni.json"
local netlink = require "netlink"

local sys = netlink.sys

local M = {}
local Book = {}
Book.__index = Book
local Record = {}
Record.__index = Record

--- Where the records live; dies with the boot, as namespaces do.
M.root = "/run/luacni/attachments"

--- How long a call waits for another one that works on the same attachment, in milliseconds.
M.patience = 30000

local component = files.component

local function directory(owner)
  return M.root .. "/" .. component(owner.network) .. "/"
    .. component(owner.id .. ":" .. owner.ifname)
end

--- A digest of a plugin's configuration, without what the runtime adds for one call, and without the name of
-- the network: the folder has that, and a record is to be found also when the network was renamed since.
-- @tparam table raw the decoded configuration
-- @treturn string 16 hexadecimal digits
function M.digest(raw)
  local own = {}
  for key, value in pairs(raw) do
    if key ~= "prevResult" and key ~= "runtimeConfig" and key ~= "name"
      and key:sub(1, 8) ~= "cni.dev/" then
      own[key] = value
    end
  end
  return sys.hash64(json.compact(own))
end

local function io_error(what, path, msg, errno)
  fail.throw { code = fail.codes.io, msg = what .. " " .. path .. ": " .. tostring(msg), errno = errno }
end

-- What a line says, by its key.
local says = {}

function says.kind(record, step)
  step.did = not step.kept or nil
  record.steps[#record.steps + 1] = step
end

function says.undone(record, line)
  for i = line.undone + 1, #record.steps do record.steps[i].did = nil end
end

-- A record of an update counts: it has taken over what it kept or changed of the one before.
local function succeed(record)
  local update = record.header.update
  local old = update and record.book.records[update.of]
  if not old then return end
  for _, step in ipairs(record.steps) do
    if step.kept then step.did, step.kept = true, nil end
    if step.was then old.steps[step.was].did, step.was = nil, nil end
  end
  old.leaving, old.replaced = true, true
end

function says.done(record, line)
  record.done = line.done
  succeed(record)
end

function says.ready(record, line) record.ready = line.ready end

function says.leaving(record) record.leaving = true end

function says.gone(record) record.gone = true end

function says.damaged(record) record.book.damaged = true end

local function take(book, line)
  if line.network then
    local record = setmetatable({ book = book, header = line, steps = {} }, Record)
    book.records[#book.records + 1] = record
    book.at = record
  elseif line.record then
    book.at = book.records[line.record]
  else
    for key, action in pairs(says) do
      if line[key] ~= nil then return action(book.at, line) end
    end
  end
end

local function take_all(book, lines)
  book.records, book.at = {}, nil
  for _, line in ipairs(lines) do take(book, line) end
end

-- Fill a book from its text. What stands behind a line that has no end was never acted upon; but when a line
-- that has one is bad, the book is `damaged`: what was done by those behind it is not known any more.
-- Returns how many bytes of the text are good.
local function load(book, text)
  local whole = text:match ".*()\n" or 0
  local ok, lines = pcall(json.decode_lines, text:sub(1, whole), "record")
  if ok and pcall(take_all, book, lines) then return whole end
  -- Some line is bad: which one?
  book.records, book.at = {}, nil
  local good = 0
  for line, stop in text:gmatch("([^\n]*)\n()") do
    local decoded, values = pcall(json.decode_lines, line .. "\n", "record")
    if not decoded or not pcall(take, book, values[1]) then break end
    good = stop - 1
  end
  book.damaged = book.damaged or good < whole
  return good
end

-- Lock and read a book; or nil, message, errno. A book that cannot be read is an error, not an empty book.
local function open(path, dir, opener, how)
  local file, msg, errno = opener(path, how, M.patience)
  if not file then return nil, msg, errno end
  local book = setmetatable({ file = file, path = path, dir = dir }, Book)
  local text, ok
  text, msg, errno = file:read()
  if text then
    local good = load(book, text)
    if good == #text then return book end
    -- What is written from here on must not end up behind half a line.
    ok, msg, errno = file:truncate(good)
    -- Where a full /run has no room for that, at least this call knows it.
    if ok and book.damaged and good > 0 then file:append '{"damaged":true}\n' end
    if ok then return book end
  end
  file:close()
  return nil, msg, errno
end

-- Open a book, unless it is not there or another process works with it: then nil.
local function open_idle(path, dir)
  local book, msg, errno = open(path, dir, sys.open_locked_existing, "try")
  if book or errno == sys.errno.ETIMEDOUT or files.absent(errno) then return book end
  io_error("open record", path, msg, errno)
end

--- Open the book of an attachment for a type of plugin, and lock it. It is made when it is not there.
-- @tparam table owner {network, id, ifname}
-- @tparam string type_name the plugin's type
-- @treturn Book close it; it closes itself in a `<close>` variable
-- @treturn boolean true when no type has anything written down of this attachment
-- @raise code 11 when somebody else works on it for 30 seconds
function M.open(owner, type_name)
  local dir = directory(owner)
  local path = dir .. "/" .. component(type_name)
  local alone = false
  for _ = 1, 1000 do -- another call may remove the folder between our mkdirs and our open
    local book, why, errno = open(path, dir, sys.open_locked, "exclusive")
    if book then return book, alone end
    if errno == sys.errno.ETIMEDOUT then
      fail.throw { code = fail.codes.again,
        msg = ("another %s call still works on %s of container %s"):format(type_name, owner.ifname,
          owner.id), details = path, hint = require("cni.record.holder").of_lock(path) }
    elseif errno ~= sys.errno.ENOENT then
      io_error("open record", path, why, errno)
    end
    local made, msg, number = sys.mkdirs(dir, 448)
    if made == nil then io_error("create", dir, msg, number) end
    alone = made
  end
  io_error("create record in", dir, "the directory keeps vanishing")
end

--- Open the book of an attachment for a type, and lock it, where it is there and nobody else works with it.
-- @tparam table owner
-- @tparam string type_name
-- @treturn Book|nil
-- @raise code 5 where it cannot be read
function M.open_idle(owner, type_name)
  local dir = directory(owner)
  return (open_idle(dir .. "/" .. component(type_name), dir))
end

--- Open the books of several types, in the order of their names: two calls do not wait for each other.
-- @tparam table owner
-- @tparam table types a set of types
-- @treturn {[string]=Book} those that were opened, to be closed
-- @treturn {[string]=boolean} as the second value of @{open}
-- @treturn ?fail why not all could be
function M.open_all(owner, types)
  local names, books, alone = {}, {}, {}
  for name in pairs(types) do names[#names + 1] = name end
  table.sort(names)
  local ok, err = pcall(function()
    for _, name in ipairs(names) do books[name], alone[name] = M.open(owner, name) end
  end)
  return books, alone, not ok and err or nil
end

--- A name for several records that belong together.
-- @treturn string
function M.new_id()
  local bytes, msg, errno = sys.random(8)
  if not bytes then fail.kernel("name a record", msg, errno) end
  return ("%016x"):format((string.unpack("I8", bytes)))
end

--- The books of other types on the same attachment that nobody works with, each locked.
-- @tparam string type_name
-- @treturn function iterator over Books; close each
function Book:others(type_name)
  local names, i = files.list(self.dir), 0
  local own = component(type_name)
  return function()
    while i < #names do
      i = i + 1
      local book = names[i] ~= own and open_idle(self.dir .. "/" .. names[i], self.dir)
      if book then return book end
    end
  end
end

--- The records that are not gone.
-- @treturn table list, newest first
function Book:living()
  local list = {}
  for i = #self.records, 1, -1 do
    if not self.records[i].gone then list[#list + 1] = self.records[i] end
  end
  return list
end

--- Whether it has only records of answered ADDs for one sandbox.
-- @tparam string cookie of the sandbox
-- @treturn boolean
function Book:is_settled(cookie)
  for _, record in ipairs(self:living()) do
    if not record:is_whole() or record.header.cookie ~= cookie then return false end
  end
  return true
end

--- Begin a record for an ADD.
-- @tparam table header who asked: network, id, ifname, type, digest (see @{digest}), netns, cookie,
-- config, args, path; of a part of a chain in one process `chain`: `id`, `first` (the type of its first
-- part of ours), `is_first`
-- @treturn Record
function Book:begin(header)
  if #self.records > 0 and #self:living() == 0 then
    local ok, msg, errno = self.file:truncate()
    if not ok then io_error("write record", self.path, msg, errno) end
    self.records = {}
  end
  self:write(json.note(header) .. "\n")
  local record = setmetatable({ book = self, header = header, steps = {} }, Record)
  self.records[#self.records + 1] = record
  self.at = record
  return record
end

--- The record that a DEL takes back: the newest with the same configuration, or that had it before it was
-- updated; or, when none has and no such part was deleted before, the newest.
-- @tparam string digest of the configuration the DEL came with
-- @treturn[1] Record
-- @treturn[2] nil no record
-- @treturn[2] boolean true when this part is known to be deleted already
function Book:find(digest)
  local deleted, other = false, nil
  for i = #self.records, 1, -1 do
    local record = self.records[i]
    local same = record:is_of(digest)
    -- That of an update that has not ended does not count yet.
    local counts = not record.gone and not record:is_update()
    if same and counts then return record end
    if same and record.gone and not record.replaced then deleted = true end
    if counts then other = other or record end
  end
  if deleted then return nil, true end
  return other, false
end

--- The record that @{Book:find} would find, only to be read: without a lock, and so without a wait.
-- @tparam table owner {network, id, ifname}
-- @tparam string type_name
-- @tparam string digest
-- @treturn Record|nil
function M.peek(owner, type_name, digest)
  local book = {}
  load(book, files.read(directory(owner) .. "/" .. component(type_name)) or "")
  return (Book.find(book, digest))
end

function Book:write(bytes)
  local ok, msg, errno = self.file:append(bytes)
  if not ok then io_error("write record", self.path, msg, errno) end
end

--- Let go of the book; it is removed when all its records are gone. Twice is fine.
-- @param problem in a `<close>` variable, the error that ends its scope: then an error of ours is not raised
-- @raise code 5 when it cannot be removed: a record that stays would be of something that is gone
function Book:close(problem)
  if not self.file then return end
  local file <close> = self.file
  self.file = nil
  if #self:living() > 0 then return end
  local gone, msg, errno = sys.unlink(self.path)
  if gone == nil then
    file:truncate()
    if not problem then io_error("remove record", self.path, msg, errno) end
    return
  end
  -- A folder stays when other books are in it. The last call to leave removes it, and the next one makes it.
  if sys.rmdir(self.dir) then sys.rmdir((self.dir:gsub("/[^/]*$", ""))) end
end
Book.__close = Book.close

-- A line of this record, behind whatever the book ends with.
function Record:write(bytes)
  local book = self.book
  if book.at ~= self then
    for i, record in ipairs(book.records) do
      if record == self then bytes = ('{"record":%d}\n'):format(i) .. bytes end
    end
    book.at = self
  end
  book:write(bytes)
end

--- Write steps down.
-- @tparam table steps list of steps
-- @tparam int first index of the first to write
-- @tparam int last index of the last
function Record:append(steps, first, last)
  local lines = {}
  for i = first, last do
    local step = steps[i]
    lines[#lines + 1] = json.note {
      kind = step.kind, ns = step.ns, want = step.want, had = step.had, covered = step.covered,
      by = step.by, was = step.was, kept = step.kept,
    }
  end
  lines[#lines + 1] = ""
  self:write(table.concat(lines, "\n"))
end

--- Say that the ADD is complete.
-- @tparam table outline of the answer, to know it again by: `interfaces` of the sandbox (`name`, `mac`,
-- `sandbox`), `ips` (addresses); a list that is empty is left out
function Record:finish(outline)
  self.done = outline
  self:write(json.note { done = outline } .. "\n")
  succeed(self)
end

--- Say that all is done that an update adds or changes: from here on it is only finished, never taken back,
-- once the first of its records is.
-- @tparam table outline as for @{Record:finish}
function Record:note_ready(outline)
  self.ready = outline
  self:write(json.note { ready = outline } .. "\n")
end

--- Whether a record is of a configuration, or was before an update.
-- @tparam string digest
-- @treturn boolean
function Record:is_of(digest)
  if self.header.digest == digest then return true end
  for _, before in ipairs(self.header.update and self.header.update.digests or {}) do
    if before == digest then return true end
  end
  return false
end

--- Which one of its book it is.
-- @treturn integer
function Record:number()
  for i, record in ipairs(self.book.records) do
    if record == self then return i end
  end
end

--- The record of an update that has replaced this one.
-- @treturn Record|nil nil: there is none, or it is gone
function Record:successor()
  local records = self.book.records
  for _, record in ipairs(records) do
    local update = record.header.update
    if update and record.done and not record.gone and records[update.of] == self then return record end
  end
end

--- Whether it is the record of an update that has not ended.
-- @treturn boolean
function Record:is_update()
  return self.header.update ~= nil and self.done == nil
end

-- Whether the ADD of a chain in one process has come to its end: its first record, which is there from the
-- beginning, is not without an end. One that is not there any more, or was updated, had one.
local function has_ended(header)
  local book = {}
  load(book, files.read(directory(header) .. "/" .. component(header.chain.first)) or "")
  for _, record in ipairs(book.records) do
    local chain, is_open = record.header.chain, not record.done and not record.gone
    if is_open and chain and chain.is_first and chain.id == header.chain.id and not record.header.update then
      return false
    end
  end
  return true
end

--- Whether the ADD of a record was answered and no DEL has begun to take it back. Of a chain in one process
-- that is so for all records when it is for the first, which is the last to be done.
-- @treturn boolean
function Record:is_whole()
  local chain = self.header.chain
  return self.done ~= nil and not self.leaving and (not chain or chain.is_first or has_ended(self.header))
end

--- Whether an update has ended, as another book of the attachment has it.
-- @tparam table owner {network, id, ifname}
-- @tparam string id of the update
-- @treturn boolean
function M.is_updated(owner, id)
  for _, record in ipairs(M.of(owner)) do
    local update = record.header.update
    if update and update.id == id and record.done then return true end
  end
  return false
end

--- Say that a complete record is about to be taken back: when that is cut short, it is debris. It is
-- not the end when that cannot be written, see @{Record:note_undone}.
function Record:note_leaving()
  if self.done and not self.leaving then pcall(self.write, self, '{"leaving":true}\n') end
  self.leaving = true
end

--- Say that every step after `index` is taken back. It is not the end when that cannot be written: a
-- full /run must not keep what is left from being taken back.
-- @tparam integer index
function Record:note_undone(index)
  pcall(self.write, self, json.note { undone = index } .. "\n")
end

--- Forget the record: its part of the attachment is gone. Closing the book does the rest.
function Record:remove()
  self.gone = true
  if #self.book:living() > 0 then self:write('{"gone":true}\n') end
end

--- Whether a living process works on an attachment right now.
-- @tparam table owner {network, id, ifname}
-- @treturn boolean
function M.busy(owner)
  local dir = directory(owner)
  for _, name in ipairs(files.list(dir)) do
    local file, msg, errno = sys.open_locked_existing(dir .. "/" .. name, "try")
    if file then
      file:close()
    elseif errno == sys.errno.ETIMEDOUT then
      return true
    else
      files.unless_absent(nil, msg, errno)
    end
  end
  return false
end

-- Books of other networks on the same container's interface: folder and file names. Empty ones do not count:
-- a DEL without a record holds such a book open.
local function elsewhere(owner)
  local own, name, found = component(owner.network), component(owner.id .. ":" .. owner.ifname), {}
  for _, network in ipairs(files.list(M.root)) do
    local dir = M.root .. "/" .. network .. "/" .. name
    for _, book in ipairs(network ~= own and files.list(dir) or {}) do
      if (files.read(dir .. "/" .. book) or "") ~= "" then found[#found + 1] = { dir, book } end
    end
  end
  return found
end

--- Whether another network has records of the same container's interface: what stands under that
-- name is then the other one's.
-- @tparam table owner {network, id, ifname}
-- @treturn boolean
function M.elsewhere(owner)
  return #elsewhere(owner) > 0
end

--- The books of other networks on the same container's interface, each locked: the network may have had
-- another name when the ADD came.
-- @tparam table owner {network, id, ifname}
-- @tparam string type_name
-- @treturn function iterator over Books; close each
function M.namesakes(owner, type_name)
  local found, i = elsewhere(owner), 0
  return function()
    while i < #found do
      i = i + 1
      local dir, name = found[i][1], found[i][2]
      if name == component(type_name) then
        local book, msg, errno = open(dir .. "/" .. name, dir, sys.open_locked_existing, "exclusive")
        if book then return book end
        if not files.absent(errno) then io_error("open record", dir .. "/" .. name, msg, errno) end
      end
    end
  end
end

-- Every book that has a text in it, locked or not: folder, file name, the whole text.
local function containing(part)
  local found = {}
  for _, network in ipairs(files.list(M.root)) do
    for _, attachment in ipairs(files.list(M.root .. "/" .. network)) do
      local dir = ("%s/%s/%s"):format(M.root, network, attachment)
      for _, name in ipairs(files.list(dir)) do
        local text = files.read(dir .. "/" .. name) or ""
        if text:find(part, 1, true) then found[#found + 1] = { dir, name, text } end
      end
    end
  end
  return found
end

--- Whether records of other containers are for a namespace.
-- @tparam string cookie of the namespace
-- @tparam string id of the container whose records do not count
-- @treturn boolean
function M.occupied(cookie, id)
  for _, found in ipairs(containing(json.note(cookie))) do
    local book = {}
    load(book, found[3])
    for _, record in ipairs(book.records) do
      local header = record.header
      if not record.gone and header.cookie == cookie and header.id ~= id then return true end
    end
  end
  return false
end

--- The books of all networks that have a step of a kind, but for those that another process works with.
-- @tparam string kind
-- @treturn function iterator over locked Books; close each
function M.with_step(kind)
  local found, i = containing('"kind":' .. json.note(kind)), 0
  return function()
    while i < #found do
      i = i + 1
      local dir, name = found[i][1], found[i][2]
      local book = open_idle(dir .. "/" .. name, dir)
      if book then return book end
    end
  end
end

--- The books of a network and type, but for those that another process works with.
-- @tparam string network the network's name
-- @tparam[opt] string type_name nil: of all types
-- @treturn function iterator over locked Books; close each. In place of one that cannot be read: false, and
-- a fail value
function M.each(network, type_name)
  local base, file = M.root .. "/" .. component(network), type_name and component(type_name)
  local paths, i = {}, 0
  for _, attachment in ipairs(files.list(base)) do
    local dir = base .. "/" .. attachment
    for _, name in ipairs(file and { file } or files.list(dir)) do
      paths[#paths + 1] = { dir .. "/" .. name, dir }
    end
  end
  return function()
    while i < #paths do
      i = i + 1
      local ok, book = pcall(open_idle, paths[i][1], paths[i][2])
      if not ok then return false, book end
      if book then return book end
    end
  end
end

-- The records of a folder that are not gone, behind those that were found.
local function read_all(dir, found)
  for _, name in ipairs(files.list(dir)) do
    local book = {}
    load(book, files.read(dir .. "/" .. name) or "")
    for _, record in ipairs(book.records) do
      if not record.gone then
        record.since = (files.unless_absent(sys.stat(dir .. "/" .. name)) or {}).mtime
        found[#found + 1] = record
      end
    end
  end
  return found
end

--- Every record of an attachment, of all types, as @{all} gives them.
-- @tparam table owner {network, id, ifname}
-- @treturn table list
function M.of(owner)
  return read_all(directory(owner), {})
end

--- Every record of a container, of all its attachments, as @{all} gives them.
-- @tparam string id the container's
-- @treturn table list
function M.of_container(id)
  local found, prefix = {}, component(id .. ":")
  for _, network in ipairs(files.list(M.root)) do
    for _, attachment in ipairs(files.list(M.root .. "/" .. network)) do
      if attachment:sub(1, #prefix) == prefix then
        read_all(("%s/%s/%s"):format(M.root, network, attachment), found)
      end
    end
  end
  local list = {}
  for _, record in ipairs(found) do
    if record.header.id == id then list[#list + 1] = record end
  end
  return list
end

--- Every record there is, to look at: not locked, and perhaps in the middle of being written.
-- @tparam[opt] string only the network to look at; nil: all
-- @treturn table list of { header =, steps =, done =, since = when it was written last }, by network and
-- attachment
function M.all(only)
  local found = {}
  for _, network in ipairs(only and { component(only) } or files.list(M.root)) do
    for _, attachment in ipairs(files.list(M.root .. "/" .. network)) do
      read_all(("%s/%s/%s"):format(M.root, network, attachment), found)
    end
  end
  return found
end

return M
