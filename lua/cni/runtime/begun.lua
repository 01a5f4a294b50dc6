-- SPDX-License-Identifier: MIT
--- Attachments that have begun to be made and are not ended: said before the first plugin is called.
--
--     /run/luacni/runs/NETWORK:CONTAINER:INTERFACE
--
-- is one line of JSON, what the ADD was given. Whoever makes the attachment holds the file's lock, and
-- removes the file when the attachment is stored (cni.runtime.cache), or all of it is taken back. So a file
-- whose lock is free is of one who was killed, or could not take all back. In a file without a whole line
-- nothing had begun: no plugin was called.
--
-- `luacni run` makes a namespace first, and has such a file until all is taken down.
--
-- @module cni.runtime.begun

local config = require "cni.runtime.config"
local fail = require "cni.fail"
local files = require "cni.record.files"
local journal = require "cni.record.journal"
local json = require "cni.json"
local request = require "cni.protocol.request"
local sandbox = require "cni.record.sandbox"
local sys = require("netlink").sys

local M = {}
local Begun = {}
Begun.__index = Begun

--- Where the files are; dies with the boot, as namespaces do.
M.folder = "/run/luacni/runs"

-- A network's name that a file is given need not be one that a plugin takes.
local function path_of(owner)
  local name = ("%s:%s:%s"):format(owner.network, owner.id, owner.ifname):gsub("/", "|")
  return M.folder .. "/" .. files.component(name)
end

local texts <const> = { "network", "id", "ifname", "netns", "cookie", "path", "config" }

local function understand(text, path)
  local lines = json.decode_lines(text, path)
  local kept = lines[1]
  for _, key in ipairs(texts) do
    if type(kept) ~= "table" or lines[2] or type(kept[key]) ~= "string" then
      fail.config(path, ("is not one line with %s in it"):format(key))
    end
  end
  kept.list = config.read(kept.config, "the network in " .. path)
  if kept.list.name ~= kept.network or path_of(kept) ~= path then
    fail.config(path, ("is of another attachment, %s of %s on %s"):format(kept.ifname, kept.id, kept.network))
  end
  return kept
end

-- What a file's text says; or nil, and what is wrong with it. Nothing at all: nothing had begun.
local function meaning(text, path)
  if not text:find "\n$" then return nil end
  local ok, kept = pcall(understand, text, path)
  if ok then return kept end
  local err = fail.wrap(kept)
  err.msg = "what has begun cannot be told: " .. err.msg
  err.hint = "luacni del with --id and --ifname takes it back by the network's configuration as it is now"
  return nil, err
end

-- A file that is open and locked.
local function taken(file, path)
  local text, msg, errno = file:read()
  if not text then
    file:close()
    fail.throw { code = fail.codes.io, msg = ("%s: %s"):format(path, msg), errno = errno }
  end
  local self = setmetatable({ file = file, path = path }, Begun)
  self.kept, self.problem = meaning(text, path)
  return self
end

local function locked(owner, opener)
  local path = path_of(owner)
  local file, msg, errno = opener(path, "exclusive", journal.patience)
  if file then
    local self = taken(file, path)
    self.is_ours = true
    return self
  elseif errno == sys.errno.ETIMEDOUT then
    fail.throw { code = fail.codes.again, errno = errno, details = path,
      msg = ("luacni still works on %s of container %s, network %s"):format(owner.ifname, owner.id,
        owner.network),
      hint = require("cni.record.holder").of_lock(path) }
  end
  return files.unless_absent(nil, msg, errno)
end

--- The file of an attachment, locked; it is made when it is not there. Waits for who holds it, as a plugin's
-- call does.
-- @tparam table owner `network`, `id`, `ifname`
-- @treturn Begun close it. `kept`: what was begun and not ended, a table of `network`, `id`, `ifname`,
-- `netns`, `cookie`, `path`, `config` (the list's bytes), `list` (the same, read), `args` and
-- `capability_args` if there are, `namespace`: true: it was to be made as well; nil: nothing was begun.
-- `problem`: why the file does not say what was
-- @raise code 11 when it is held for 30 seconds, 5 when it cannot be read or made
function M.open(owner)
  local self = locked(owner, sys.open_locked)
  if self then return self end
  files.must(sys.mkdirs(M.folder, 448))
  return files.must(locked(owner, sys.open_locked), "cannot make " .. path_of(owner))
end

--- As @{open}, but it is not made.
-- @tparam table owner `network`, `id`, `ifname`
-- @treturn Begun|nil nil: there is none
-- @raise as @{open}
function M.find(owner)
  return locked(owner, sys.open_locked_existing)
end

--- What was begun of an attachment, only to look at: without a lock, and so without a wait.
-- @tparam table owner `network`, `id`, `ifname`
-- @treturn table|nil `kept`, as of @{open}
-- @treturn ?fail why the file does not say it
-- @raise code 5 when it cannot be read
function M.look(owner)
  local path = path_of(owner)
  local text = files.read(path)
  if text then return meaning(text, path) end
end

-- One that somebody holds: he lives.
local function living(path)
  local self = setmetatable({ path = path, living = true }, Begun)
  self.kept, self.problem = meaning(files.read(path) or "", path)
  return self
end

local function look_into(path, how)
  local file, msg, errno = sys.open_locked_existing(path, how, 0)
  if file then return taken(file, path) end
  if errno == sys.errno.ETIMEDOUT then return living(path) end
  return files.unless_absent(nil, msg, errno)
end

local function item(name, how)
  local path = M.folder .. "/" .. name
  local ok, self = pcall(look_into, path, how)
  if not ok then self = setmetatable({ path = path, problem = fail.wrap(self) }, Begun) end
  if not self then return nil end
  self.network, self.id, self.ifname = name:match "^([^:]+):([^:]+):([^:]+)$"
  for _, key in ipairs(self.kept and { "network", "id", "ifname" } or {}) do self[key] = self.kept[key] end
  local stat = sys.stat(path)
  self.since = stat and stat.mtime
  return self
end

--- All that have begun and not ended, in the order of the files' names.
-- @string[opt] network only of this one
-- @string[opt="shared"] how `try`: each that nobody holds is locked against others, to be taken back
-- @treturn function iterator over Begun; close each. As of @{open}, and `network`, `id`, `ifname` (nil where
-- that cannot be told), `since`, when it began, `living`: somebody holds it. One without `kept`, `problem`
-- and `living` had not begun
function M.each(network, how)
  local names, i = files.list(M.folder), 0
  return function()
    while i < #names do
      i = i + 1
      local self = item(names[i], how or "shared")
      if self and (not network or self.network == network) then return self end
      if self then self:close() end
    end
  end
end

--- Where a namespace is that an attachment was begun for.
-- @tparam table kept of @{open}
-- @string[opt] path where the caller believes it to be
-- @treturn string "": it is not there any more, and what is in its place is somebody else's
-- @raise when that cannot be told
function M.netns(kept, path)
  if kept.namespace then return kept.netns end
  for _, place in ipairs { path or kept.netns, kept.netns } do
    local ns <close> = kept.cookie ~= "" and sandbox.open(place) or nil
    if ns and sandbox.cookie(ns) == kept.cookie then return place end
  end
  return ""
end

--- The job of what was begun, to take it back.
-- @tparam table kept of @{open}
-- @tparam table job whose `environ`, `log`, `progress` and `own` it gets
-- @treturn table of cni.runtime.plugin
function M.job(kept, job)
  return { network = kept.list, id = kept.id, ifname = kept.ifname, netns = M.netns(kept), args = kept.args,
    capability_args = kept.capability_args, path = kept.path, environ = job.environ, log = job.log,
    progress = job.progress, own = job.own }
end

local function written(self, what, ok, msg, errno)
  if ok then return end
  fail.throw { code = fail.codes.io, msg = ("%s in %s: %s"):format(what, self.path, msg), errno = errno }
end

--- Write down that a job begins. Nothing else may be written there.
-- @tparam table job
-- @tparam[opt] boolean namespace true: its namespace is made by whoever begins this
-- @raise code 5; then nothing is written
function Begun:note(job, namespace)
  local ns <close> = not namespace and job.netns and sandbox.open(job.netns) or nil
  local kept = { network = job.network.name, id = job.id, ifname = job.ifname, netns = job.netns or "",
    namespace = namespace, args = job.args, capability_args = job.capability_args,
    path = table.concat(request.split_path(job.path), ":"), config = config.stored(job.network) }
  kept.cookie = ns and sandbox.cookie(ns) or ""
  written(self, "note what begins", self.file:append(json.note(kept) .. "\n"))
  self.kept = kept
end

--- Say that nothing is begun any more: it was taken back. The lock stays.
-- @raise code 5
function Begun:forget()
  written(self, "forget what began", self.file:truncate())
  self.kept, self.problem = nil, nil
end

--- Remove the file: the attachment is stored, or all is taken back. Twice is fine.
-- @raise code 5
function Begun:remove()
  if not self.file then return end
  files.must(sys.unlink(self.path))
  self.is_ours = false
  self:close()
end

--- Let go of the file. Of one that was opened to begin something and in which nothing is said, nothing stays.
-- Twice is fine.
function Begun:close()
  local file = self.file
  if not file then return end
  self.file = nil
  -- Where it stays all the same, it says that nothing had begun.
  if self.is_ours and not self.kept and not self.problem then sys.unlink(self.path) end
  file:close()
end
Begun.__close = Begun.close

return M
