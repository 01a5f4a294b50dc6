-- SPDX-License-Identifier: MIT
--- Step `zone`: addresses as sources of a zone of firewalld, which is asked by D-Bus. There is no library for
-- that: one of the programs that speak it is run, a call for each address. firewalld forgets it when it is
-- loaded anew; then CHECK says what is missing.
--
-- Several attachments may have one address, in networks of their own: it goes with the last of them.
-- @module cni.step.zone

local calls = require "cni.step.call"
local fail = require "cni.fail"
local files = require "cni.record.files"
local shared = require "cni.record.shared"

local M = {}

local folders <const> = { "/usr/sbin", "/usr/bin", "/sbin", "/bin" }
local name <const>, path <const> = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
local interface <const> = name .. ".zone"

-- How a method with two texts as arguments is called by each program.
local programs <const> = {
  { "busctl", function(method, zone, source)
    return { "--system", "call", name, path, interface, method, "ss", zone, source }
  end },
  { "dbus-send", function(method, zone, source)
    return { "--system", "--print-reply", "--dest=" .. name, path, interface .. "." .. method,
      "string:" .. zone, "string:" .. source }
  end },
  { "gdbus", function(method, zone, source)
    return { "call", "--system", "--dest", name, "--object-path", path,
      "--method", interface .. "." .. method, zone, source }
  end },
}

-- What is said when nobody has the name, or there is no bus: then there are no zones either.
local absent <const> = { "not provided by any", "ServiceUnknown", "NameHasNoOwner", "does not have an owner",
  "No such file or directory", "Connection refused", "Could not activate", "Failed to connect",
  "Unit .* not found", "is masked" }

local function says(text, patterns)
  for _, pattern in ipairs(patterns) do
    if text:find(pattern) then return true end
  end
  return false
end

local function source_of(address) return address .. (address:find(":", 1, true) and "/128" or "/32") end

local function installed()
  for _, program in ipairs(programs) do
    local found = files.program(folders, program[1])
    if found then return found, program[2] end
  end
end

local function find_program()
  local found, argv = installed()
  if found then return found, argv end
  fail.throw { msg = "firewalld is asked by busctl, dbus-send or gdbus, and none of them is installed",
    hint = "apt-get install dbus-bin" }
end

-- What a method answers; nil and what it says when it fails, and whether firewalld does not run.
local function ask(step, plan, command, method, address)
  local program, argv = find_program()
  local zone, source = step.want.zone, source_of(address)
  local what = ("ask firewalld: %s %s %s"):format(method, zone, source)
  local ran, err = calls.exec(step, plan, command, what,
    { program = program, args = argv(method, zone, source) })
  if not ran then error(err, 0) end
  if ran.status == 0 then return ran.stdout end
  local said = (ran.stderr ~= "" and ran.stderr or ran.stdout):gsub("%s+$", "")
  return nil, said, says(said, absent)
end

local function refused(step, said, gone)
  local zone = step.want.zone
  if said:find "INVALID_ZONE" then
    fail.config("firewalldZone", ("firewalld knows no zone %s"):format(zone),
      "firewall-cmd --get-zones lists them")
  end
  fail.throw { details = said, hint = gone and "start it, or choose another backend" or nil,
    msg = gone and "firewalld does not run" or "firewalld does not take an address into zone " .. zone }
end

local function take(plan, want, how)
  plan:lock(want.group, how)
  for _, address in ipairs(want.addresses) do shared.join(want.group, address, plan.owner) end
end

function M.run(step, plan)
  take(plan, step.want, "shared")
  for _, address in ipairs(step.want.addresses) do
    local done, said, gone = ask(step, plan, "ADD", "addSource", address)
    if not done and not said:find "ZONE_ALREADY_SET" and not said:find "ALREADY_ENABLED" then
      refused(step, said, gone)
    end
  end
end

function M.verify(step, plan)
  for _, address in ipairs(step.want.addresses) do
    local answer, said, gone = ask(step, plan, "CHECK", "querySource", address)
    if not answer then
      return gone and "firewalld does not run"
        or ("firewalld does not say whether %s is in zone %s: %s"):format(address, step.want.zone, said)
    end
    if not answer:find "true" then
      return ("%s is not a source of zone %s of firewalld"):format(address, step.want.zone)
    end
  end
end

function M.undo(step, plan)
  local want = step.want
  local lock <close> = shared.lock(want.group, "exclusive")
  for _, address in ipairs(want.addresses) do
    if shared.leave(want.group, address, plan.owner) then
      local done, said, gone = ask(step, plan, "DEL", "removeSource", address)
      if not done and not gone and not says(said, { "UNKNOWN_SOURCE", "NOT_ENABLED", "INVALID_ZONE" }) then
        fail.throw { details = said,
          msg = ("firewalld does not let %s go from zone %s"):format(address, want.zone) }
      end
    end
  end
  shared.tidy(want.group, lock)
end

function M.say(step)
  local want = step.want
  return ("make %s sources of firewalld's zone %s"):format(table.concat(want.addresses, ", "), want.zone)
end

--- Whether firewalld runs, as its file of a process says, and can be asked.
-- @treturn boolean
function M.is_there()
  local pid = files.read "/run/firewalld.pid" or files.read "/var/run/firewalld.pid"
  pid = pid and pid:match "%d+"
  return pid ~= nil and files.exists("/proc/" .. pid) and files.exists "/run/dbus/system_bus_socket"
    and installed() ~= nil
end

--- Whether firewalld runs and, from its version 2.3 on, lets nothing pass whose destination others have
-- translated, as its configuration says.
-- @treturn boolean
function M.is_strict()
  if not M.is_there() then return false end
  local text, value = "\n" .. (files.read "/etc/firewalld/firewalld.conf" or ""), nil
  for word in text:gmatch "\n%s*StrictForwardPorts%s*=%s*(%w+)" do value = word:lower() end
  return value == "yes" or value == "true"
end

return M
