-- SPDX-License-Identifier: MIT
--- The tables of iptables as they were before nf_tables. Netlink does not reach them: where there are such
-- tables, the program that belongs to them is asked for what the reference has left there, and to let pass
-- what is marked (cni.step.head).
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

-- Whether the namespace we are in has a table of that kind.
local function has(family, table_name)
  local names = files.read("/proc/thread-self/" .. programs[family].tables)
  return names ~= nil and ("\n" .. names):find("\n" .. table_name .. "\n", 1, true) ~= nil
end

local function has_nat(family) return has(family, "nat") end

--- Whether the namespace we are in has a filter table of that kind.
-- @tparam string family ip or ip6
-- @treturn boolean
function M.has_filter(family) return has(family, "filter") end

local function execute(path, argv)
  table.insert(argv, 1, path)
  local run, msg, errno = sys.exec { path = path, argv = argv, timeout_ms = 20000 }
  if not run then fail.kernel("execute " .. path, msg, errno) end
  return run
end

local function failed(path, what, run, aim)
  local why = run.stderr ~= "" and run.stderr:gsub("%s+$", "")
    or ("ended with %s"):format(run.signal and "signal " .. run.signal or "status " .. run.status)
  fail.throw { msg = ("%s: %s %s: %s"):format(aim or "remove the rules of another plugin", path, what, why) }
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

-- The rules of a chain, by default of the nat table, a line each; nil without the chain.
local function lines_of(path, chain, table_name)
  local run = execute(path, { "-w", "10", "-t", table_name or "nat", "-S", chain })
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

-- Do something with the program of each family that has such a table.
local function each_program(plan, act, what)
  for family in pairs(programs) do
    local path = not has_nat(family) or find(family)
    if type(path) == "string" then
      act(path)
    elseif not path then
      plan:tell(("there is a legacy nat table of %s, and no program %s to look whether there is %s in it")
        :format(family, programs[family][1], what))
    end
  end
end

-- The rules of a chain that lead to another.
local function leading(path, from, chain)
  local found = {}
  for _, line in ipairs(lines_of(path, from) or {}) do
    if line:sub(-#chain - 4) == " -j " .. chain then found[#found + 1] = line end
  end
  return found
end

-- The words of a line of `iptables -S`.
local function words_of(line)
  local words, at = {}, 1
  while at <= #line do
    local from, to = line:find('^%s*"', at)
    local word = ""
    if from then
      at = to + 1
      while at <= #line and line:sub(at, at) ~= '"' do
        if line:sub(at, at) == "\\" then at = at + 1 end
        word, at = word .. line:sub(at, at), at + 1
      end
      at = at + 1
    else
      from, to, word = line:find("^%s*(%S+)", at)
      if not from then break end
      at = to + 1
    end
    words[#words + 1] = word
  end
  return words
end

--- Take chains of published ports away, and the rules that lead to them.
-- @tparam plan plan
-- @tparam table chains a container's chain, by the one that leads to it
function M.clear_ports(plan, chains)
  each_program(plan, function(path)
    for from, chain in pairs(chains) do
      if lines_of(path, chain) then
        for _, line in ipairs(leading(path, from, chain)) do
          local words = words_of(line)
          words[1] = "-D"
          change(path, words)
        end
        change(path, { "-F", chain })
        change(path, { "-X", chain })
      end
    end
  end, "chains of published ports")
end

--- Whether such rules publish ports.
-- @string family ip or ip6
-- @string from the chain that leads to a container's
-- @string chain the container's
-- @treturn boolean
function M.publishes(family, from, chain)
  local path = has_nat(family) and find(family)
  return path ~= nil and path ~= false and #leading(path, from, chain) > 0 and #lines_of(path, chain) > 1
end

--- Take a chain of the reference away, and the rules that lead to it.
-- @tparam plan plan
-- @string chain
-- @string comment of its rules
-- @tparam function kept whether an address is another attachment's, whose rule stays
function M.clear(plan, chain, comment, kept)
  each_program(plan, function(path) clear(path, chain, comment, kept) end, "a chain " .. chain)
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

-- The head of FORWARD ---------------------------------------------------------------------

local aim <const> = "let pass what is marked"

local function filter(path, ...)
  local argv = { "-w", "10", "-t", "filter", ... }
  local run = execute(path, argv)
  if run.status ~= 0 then failed(path, table.concat({ ... }, " "), run, aim) end
end

local function mark_words(bit) return ("-m mark --mark 0x%x/0x%x -j ACCEPT"):format(1 << bit, 1 << bit) end

local function split(words)
  local list = {}
  for word in words:gmatch "%S+" do list[#list + 1] = word end
  return table.unpack(list)
end

-- The program, and which of the two rules FORWARD has; nil where there is no such table, or one that is empty
-- and lets all pass.
local function look_at(family, bit, chain)
  if not has(family, "filter") then return nil end
  local path = find(family)
  if not path then
    fail.throw { msg = ("%s has a filter table of the older kind here, and there is no program %s to let "
      .. "anything pass in it"):format(family == "ip" and "iptables" or "ip6tables", programs[family][1]),
      hint = "apt-get install iptables" }
  end
  local lines = lines_of(path, "FORWARD", "filter")
  if not lines or #lines == 1 and lines[1] == "-P FORWARD ACCEPT" then return nil end
  local accept, jump
  for i, line in ipairs(lines) do
    if line == "-A FORWARD " .. mark_words(bit) then accept = accept or i end
    if line == "-A FORWARD -j " .. chain then jump = jump or i end
  end
  return path, accept, jump
end

--- Have FORWARD of the older filter table, where there is one, jump to the administrator's chain and accept
-- what is marked.
-- @string family ip or ip6
-- @tparam int bit of the mark
-- @string chain
-- @raise what its program says; that there is none
function M.accept(family, bit, chain)
  local path, accept, jump = look_at(family, bit, chain)
  if not path or accept and jump and jump < accept then return end
  if not accept then filter(path, "-I", "FORWARD", "1", split(mark_words(bit))) end
  if not lines_of(path, chain, "filter") then filter(path, "-N", chain) end
  if jump then filter(path, "-D", "FORWARD", "-j", chain) end
  filter(path, "-I", "FORWARD", "1", "-j", chain)
end

--- What of that is missing.
-- @string family ip or ip6
-- @tparam int bit of the mark
-- @string chain
-- @treturn string|nil in words
function M.lacks(family, bit, chain)
  local path, accept, jump = look_at(family, bit, chain)
  if not path or accept and jump and jump < accept then return nil end
  return ("FORWARD of the older filter table of %s does not accept what has the mark 0x%x, after chain %s")
    :format(family, 1 << bit, chain)
end

--- Take it away; a chain that has rules stays, and the jump to it.
-- @string family ip or ip6
-- @tparam int|nil bit of a mark that nobody uses any more
-- @tparam string|nil chain that nobody names any more
function M.lets_go(family, bit, chain)
  if not has(family, "filter") then return end
  local path = find(family)
  local lines = path and lines_of(path, "FORWARD", "filter")
  for _, line in ipairs(lines or {}) do
    if bit and line == "-A FORWARD " .. mark_words(bit) then
      filter(path, "-D", "FORWARD", split(mark_words(bit)))
    end
    if chain and line == "-A FORWARD -j " .. chain and #(lines_of(path, chain, "filter") or {}) == 1 then
      filter(path, "-D", "FORWARD", "-j", chain)
      filter(path, "-X", chain)
    end
  end
end

-- The rules of the reference's firewall for an address, as they are listed.
local function about(address, line)
  local host = address .. (address:find(":", 1, true) and "/128 " or "/32 ")
  return line:find(" -s " .. host, 1, true) or line:find(" -d " .. host, 1, true)
end

local function family_of(address) return address:find(":", 1, true) and "ip6" or "ip" end

--- Whether the reference's firewall lets pass an address there.
-- @string address
-- @string chain of it
-- @treturn boolean
function M.accepts(address, chain)
  local family = family_of(address)
  local path = has(family, "filter") and find(family)
  for _, line in ipairs(path and lines_of(path, chain, "filter") or {}) do
    if about(address, line) then return true end
  end
  return false
end

--- Take away what it has for addresses there.
-- @tparam {string,...} addresses
-- @string chain of it
function M.accept_no_more(addresses, chain)
  for _, address in ipairs(addresses) do
    local family = family_of(address)
    local path = has(family, "filter") and find(family)
    for _, line in ipairs(path and lines_of(path, chain, "filter") or {}) do
      if about(address, line) then filter(path, "-D", split(line:sub(4))) end
    end
  end
end

return M
