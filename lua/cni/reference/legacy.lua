-- SPDX-License-Identifier: MIT
--- The tables of iptables as they were before nf_tables. Netlink does not reach them: where there are such
-- tables, the program that belongs to them is asked.
-- @module cni.reference.legacy

local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"

local sys = netlink.sys
local M = {}

local programs = {
  ip = { tables = "net/ip_tables_names", "iptables-legacy", "iptables" },
  ip6 = { tables = "net/ip6_tables_names", "ip6tables-legacy", "ip6tables" },
}

-- Whether the namespace we are in has a nat table of that kind.
local function has_nat(family)
  local names = files.read("/proc/thread-self/" .. programs[family].tables)
  return names ~= nil and ("\n" .. names):find("\nnat\n", 1, true) ~= nil
end

local function execute(path, argv)
  table.insert(argv, 1, path)
  local run, msg, errno = sys.exec { path = path, argv = argv, timeout_ms = 20000 }
  if not run then fail.kernel("execute " .. path, msg, errno) end
  return run
end

local function failed(path, what, run)
  local why = run.stderr ~= "" and run.stderr:gsub("%s+$", "")
    or ("ended with %s"):format(run.signal and "signal " .. run.signal or "status " .. run.status)
  fail.throw { msg = ("remove the rules of another plugin: %s %s: %s"):format(path, what, why) }
end

-- The program for a family; nil when it is not installed. One without a suffix may be nf_tables'.
local function find(family)
  for _, name in ipairs(programs[family]) do
    for dir in ("/usr/sbin /sbin /usr/bin /bin"):gmatch("%S+") do
      local path = dir .. "/" .. name
      if files.exists(path) and (name:find("legacy", 1, true)
          or not execute(path, { "--version" }).stdout:find("nf_tables", 1, true)) then
        return path
      end
    end
  end
end

-- The rules of a chain of the nat table, a line each; nil without the chain.
local function lines_of(path, chain)
  local run = execute(path, { "-w", "10", "-t", "nat", "-S", chain })
  if run.status == 1 then return nil end
  if run.status ~= 0 then failed(path, "list", run) end
  local lines = {}
  for line in run.stdout:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return lines
end

-- The addresses whose packets go from POSTROUTING to a chain.
local function senders(path, chain)
  local found = {}
  for _, line in ipairs(lines_of(path, "POSTROUTING") or {}) do
    if line:sub(-#chain - 4) == " -j " .. chain then
      found[#found + 1] = line:match(" %-s ([%x.:]+)")
    end
  end
  return found
end

local function change(path, argv)
  local run = execute(path, table.move(argv, 1, #argv, 5, { "-w", "10", "-t", "nat" }))
  if run.status ~= 0 then
    failed(path, table.concat(argv, " "), run)
  end
end

local function clear(path, chain, comment, kept)
  if not lines_of(path, chain) then return end
  local last = true
  for _, address in ipairs(senders(path, chain)) do
    if kept(address) then
      last = false
    else
      change(path, { "-D", "POSTROUTING", "-s", address, "-m", "comment", "--comment", comment,
        "-j", chain })
    end
  end
  if not last then return end
  change(path, { "-F", chain })
  change(path, { "-X", chain })
end

--- Take a chain of the reference away, and the rules that lead to it.
-- @tparam plan plan
-- @string chain
-- @string comment of its rules
-- @tparam function kept whether an address is another attachment's, whose rule stays
function M.clear(plan, chain, comment, kept)
  for family in pairs(programs) do
    local path = not has_nat(family) or find(family)
    if type(path) == "string" then
      clear(path, chain, comment, kept)
    elseif not path then
      plan:tell(("there is a legacy nat table of %s, and no program %s to look whether there is a chain %s "
        .. "in it"):format(family, programs[family][1], chain))
    end
  end
end

--- Whether such rules masquerade an address.
-- @string family ip or ip6
-- @string chain
-- @string address
-- @treturn boolean
function M.masquerades(family, chain, address)
  local path = has_nat(family) and find(family)
  if not path then return false end
  for _, sender in ipairs(senders(path, chain)) do
    if sender == address then
      for _, line in ipairs(lines_of(path, chain) or {}) do
        if line:find(" -j MASQUERADE", 1, true) then return true end
      end
    end
  end
  return false
end

return M
