-- SPDX-License-Identifier: MIT
--- What `luacni doctor` looks at.
--
-- A check gets `on`: what it is asked about (`networks`, `problems`, `shadowed`: what the folder of
-- networks has, see cni.runtime.config; `folder`; `job`; `used`: by type, the name of a network that uses
-- it), and two functions: say what is broken, or what may be; each is given the text, and a command that
-- mends it, if there is one. What the check returns is said when nothing was.
-- @module cni.command.checks

local attachments = require "cni.command.attachments"
local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local request = require "cni.protocol.request"
local sys = require("netlink").sys

local function quote(word)
  return word:find "^[%w_./:=@,+-]+$" and word or "'" .. word:gsub("'", "'\\''") .. "'"
end

local function names_of(list)
  return table.concat(list, ", ")
end

local function rights(_, broken)
  local self = sys.stat "/proc/self"
  if self and self.uid ~= 0 then
    broken("luacni runs as a user: it attaches nothing then, and sees not everything here",
      "sudo luacni doctor")
  end
  return "luacni runs as root"
end

local function kernel(on, broken, doubtful)
  local kernels = require "cni.command.kernel"
  local version, is_new = kernels.version()
  if not is_new then
    broken(("the kernel is %s; luacni needs 5.14, for the cookies of namespaces"):format(version))
  end
  local ok, features = pcall(kernels.features)
  if not ok then
    doubtful("what the kernel can do cannot be tried: " .. tostring(fail.wrap(features)))
    return
  end
  for _, feature in ipairs(features) do
    local users = {}
    for type_name in feature.types:gmatch "%S+" do
      users[#users + 1] = not feature.key and on.used[type_name] or nil
    end
    if feature.problem then
      local what = feature.types ~= "" and ("type %s%s: "):format(feature.types:gsub(" ", ", "),
        feature.key and " with " .. feature.key or "") or ""
      local tell = users[1] and broken or doubtful
      tell(what .. feature.problem, feature.module and "modprobe " .. feature.module)
    end
  end
  return ("kernel %s has all that luacni's types ask for"):format(version)
end

local function networks(on, broken, doubtful)
  for _, bad in ipairs(on.problems) do
    broken(tostring(bad.problem), "luacni validate " .. quote(bad.file))
  end
  for _, network in ipairs(on.shadowed) do
    doubtful(("%s is not used: network %s is in a file before it, %s"):format(network.file, network.name,
      network.by), "rm " .. quote(network.file))
  end
  if not on.networks[1] then
    doubtful("there is no network in " .. on.folder .. ": a runtime finds none there")
    return
  end
  local found = {}
  for i, network in ipairs(on.networks) do
    found[i] = network.name
    local ok, list = pcall(require("cni.command.validate").findings, network)
    local faults = {}
    for _, finding in ipairs(ok and list or {}) do
      if finding.level == "fault" and not finding.program then
        faults[#faults + 1] = finding.where .. ": " .. finding.text
      end
    end
    if faults[1] then
      local more = faults[2] and (" (and %d more)"):format(#faults - 1) or ""
      broken(("network %s: %s%s"):format(network.name, faults[1], more),
        "luacni validate " .. quote(network.file))
    end
  end
  return ("%s: %s"):format(on.folder, names_of(found))
end

-- What Debian's containernetworking-plugins has.
local reference = {}
for name in ("bandwidth bridge dhcp firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr "
  .. "static tuning vlan vrf"):gmatch "%S+" do reference[name] = true end

local function program_of_folder(folder, name)
  return files.unless_absent(sys.stat(folder .. "/" .. name))
end

local any_executes <const>, others_write <const> = 73, 18 -- 0111, 0022

local function programs(on, broken)
  local list = {}
  for type_name, network in pairs(on.used) do list[#list + 1] = { type_name, network } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  local folders = request.split_path(on.job.path)
  for _, item in ipairs(list) do
    local name, network = item[1], item[2]
    local path, unseen = files.program(folders, name)
    local stat = path and files.unless_absent(sys.stat(path))
    if stat and stat.mode & any_executes == 0 then
      broken(("%s, which network %s uses, is not executable"):format(path, network),
        "chmod 755 " .. quote(path))
    elseif unseen then
      broken(("the program of type %s, which network %s uses, cannot be looked for: %s"):format(name, network,
        unseen))
    elseif not path then
      broken(("network %s uses type %s, and no folder of %s has a program of that name"):format(network, name,
        on.job.path), host.source(name) and "luacni link " .. name
        or reference[name] and "apt-get install containernetworking-plugins" or nil)
    end
  end
  return "every type that a network uses has its program"
end

local function identity(path)
  local stat = sys.stat(path)
  return stat and stat.dev .. ":" .. stat.ino
end

local function links(on, broken, doubtful)
  local known, linked, place = { luacni = true }, {}, nil
  for _, entry in ipairs(host.types()) do known[entry.name] = true end
  for _, folder in ipairs(request.split_path(on.job.path)) do
    if files.exists(folder .. "/luacni") and files.exists(folder .. "/loopback") then
      place = place or folder
    end
    -- The one that runs, or the one that is installed there.
    local own, installed = identity(assert(host.exe())), identity(folder .. "/luacni")
    for _, name in ipairs(files.list(folder)) do
      local path = folder .. "/" .. name
      local itself, target = sys.lstat(path), identity(path)
      if itself and itself.type == "link" and not target then
        broken(path .. " is a link to nothing", "rm " .. quote(path))
      elseif target and (target == own or target == installed) then
        linked[name] = true
        if not known[name] and itself.type == "link" then
          doubtful(("%s is a link to luacni, which has no type of that name"):format(path),
            "rm " .. quote(path))
        end
      end
    end
  end
  local missing = {}
  for name in pairs(known) do
    if name ~= "luacni" and not linked[name] then missing[#missing + 1] = name end
  end
  table.sort(missing)
  if missing[1] and place then
    doubtful(("nothing calls luacni for type %s: a runtime does not find it, or finds another's")
      :format(names_of(missing)), "luacni link " .. table.concat(missing, " "))
  end
  return "links to luacni are whole"
end

-- Plugins have names that other programs have too: iproute2's `bridge` for one.
local function search_path(on, broken)
  local path = host.getenv "PATH" or ""
  local is_cni, order = {}, {}
  for _, folder in ipairs(request.split_path(on.job.path)) do is_cni[folder] = true end
  for folder in path:gmatch "[^:]+" do order[#order + 1] = folder end
  for i, folder in ipairs(order) do
    local shadowed = {}
    for _, entry in ipairs(is_cni[folder] and host.types() or {}) do
      for j = i + 1, #order do
        local stat = program_of_folder(folder, entry.name) and program_of_folder(order[j], entry.name)
        if stat and stat.type == "file" and not is_cni[order[j]] then
          shadowed[#shadowed + 1] = order[j] .. "/" .. entry.name
          break
        end
      end
    end
    if shadowed[1] then
      local others = {}
      for _, other in ipairs(order) do
        if other ~= folder then others[#others + 1] = other end
      end
      others[#others + 1] = folder
      broken(("PATH has %s before other folders, so that its plugins are found in the place of %s")
        :format(folder, names_of(shadowed)), "export PATH=" .. quote(table.concat(others, ":")))
    end
  end
  return "no plugin stands in PATH before another program of its name"
end

-- The mount that a path lies on: its place, its kind, whether it is read-only.
local function mount_of(path)
  local best, kind, options = "", "?", ""
  local mounts = files.read "/proc/self/mountinfo" or ""
  for place, flags, fs in mounts:gmatch "%d+ %d+ %S+ %S+ (%S+) (%S+)[^\n]- %- (%S+)[^\n]*" do
    local prefix = place == "/" and "/" or place .. "/"
    if (path .. "/"):sub(1, #prefix) == prefix and #place >= #best then
      best, kind, options = place, fs, flags
    end
  end
  return best, kind, ("," .. options .. ","):find(",ro,", 1, true) ~= nil
end

local function folders(on, broken, doubtful)
  local list = { "/run/luacni", "/var/lib/cni", "/var/lib/cni/networks", "/var/lib/cni/results", on.folder,
    "/etc/luacni/plugins", "/etc/luacni/hooks.d" }
  table.move(request.split_path(on.job.path), 1, #request.split_path(on.job.path), #list + 1, list)
  for _, path in ipairs(list) do
    local stat = files.unless_absent(sys.stat(path))
    if stat and stat.type ~= "dir" then
      broken(path .. " is no folder", "rm " .. quote(path))
    elseif stat and stat.uid ~= 0 then
      broken(path .. " is not root's: who it is of decides what root runs, or who has which address",
        "chown root " .. quote(path))
    elseif stat and stat.mode & others_write ~= 0 then
      broken(path .. " can be written by others than root", "chmod go-w " .. quote(path))
    end
  end
  for _, path in ipairs { "/run/luacni", "/var/lib/cni" } do
    local place, _, is_read_only = mount_of(path)
    if is_read_only then
      broken(("%s is on %s, which is mounted read-only"):format(path, place),
        "mount -o remount,rw " .. quote(place))
    end
  end
  local place, kind = mount_of "/run/luacni"
  if kind ~= "tmpfs" and kind ~= "ramfs" then
    doubtful(("/run/luacni is on %s (%s): it outlives a reboot, and namespaces do not"):format(place, kind),
      "mount -t tmpfs -o mode=755 tmpfs /run")
  end
  return "folders are root's, and can be written"
end

local function scripts(_, broken)
  local check = require "cni.command.check-scripts"
  local list, hooks = check.of_site()
  for _, why in ipairs((check.problems(list))) do
    local command = why:match "; (ch%l+ .-) mends it"
    local plain = command and why:gsub("; ch%l+ .- mends it", "") or why
    broken("a script of this site cannot be loaded: " .. plain, command)
  end
  return ("this site has %d types of its own, %d hooks"):format(#list - hooks, hooks)
end

local function settings(_, broken, doubtful)
  local own = require "cni.watch.settings"
  local text, problem = host.settings()
  if not text and not problem then return "there is no " .. own.path end
  local set
  if text then set, problem = own.of(text) end
  if not set then
    local named = problem:match "(/%S+) can be written by" or problem:match "(/%S+) is not owned by root"
    broken(problem .. " (calls go on without it)", named
      and (problem:find "owned" and "chown root " or "chmod go-w ") .. quote(named) or nil)
    return
  end
  local path = set.traces
  local ok, why, errno = true, nil, nil
  if path then ok, why, errno = host.append(path) end
  local folder = path and path:match "^(.*)/" or ""
  if errno == sys.errno.ENOENT then
    if folder ~= "" and not files.exists(folder) then
      broken("spans of calls are lost: there is no folder " .. folder, "mkdir -p " .. quote(folder))
    end
  elseif not ok then
    broken("spans of calls are lost: " .. why)
  end
  local journal = require("cni.watch.journald").socket
  if set.journald and not files.exists(journal) then
    doubtful(("there is no journald to tell of calls: %s is not there"):format(journal))
  end
  return own.path .. " is read by every call"
end

local function leftovers(on, broken, doubtful)
  for _, found in ipairs(require("cni.command.gc").leftovers(on.folder)) do
    if found.problem then
      broken(("%s: %s"):format(found.text, tostring(found.problem)))
    else
      broken(found.text, "luacni gc")
    end
  end
  local list, leases = attachments.all()
  for _, entry in ipairs(list) do
    if entry.state == "unplugged" then
      doubtful(("%s of container %s, network %s, is gone, and its namespace lives: a DEL takes back the rest")
        :format(entry.interface, entry.container, entry.network), attachments.del_command(entry))
    end
  end
  for _, lease in ipairs(leases) do
    if not lease.attached then
      local path = ("%s/%s/%s"):format(lease.folder, lease.network, lease.address)
      doubtful(("%s of network %s is leased to container %s, whom nobody here knows to be attached")
        :format(lease.address, lease.network, lease.container), "rm " .. quote(path))
    end
  end
  return "nothing is left of anything dead"
end

--- The checks, in their order: a name and a function each.
return {
  { "rights", rights }, { "kernel", kernel }, { "networks", networks }, { "programs", programs },
  { "links", links }, { "path", search_path }, { "folders", folders }, { "scripts", scripts },
  { "settings", settings }, { "leftovers", leftovers },
}
