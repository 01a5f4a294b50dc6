-- SPDX-License-Identifier: MIT
-- make lint: what no compiler looks for. Every function that Lua can call from outside has a
-- comment for LDoc above it, every file says what it is for, no file and no line is too long, and what a
-- C file includes lies below it: there are no circles.
--   lua5.4 host/lint.lua FILE...
local problems = 0

local function complain(path, line, text)
  io.stderr:write(("%s:%d: %s\n"):format(path, line, text))
  problems = problems + 1
end

local function read_lines(path)
  local lines = {}
  for line in io.lines(path) do lines[#lines + 1] = line end
  return lines
end

-- Whether the comment that ends above line n is one for LDoc.
local function documented_in_lua(lines, n)
  n = n - 1
  while lines[n] and lines[n]:find("^%s*%-%-") do
    if lines[n]:find("^%s*%-%-%-") then return true end
    n = n - 1
  end
  return false
end

local function documented_in_c(lines, n)
  n = n - 1
  if not (lines[n] and lines[n]:find("%*/%s*$")) then return false end
  while lines[n] and not lines[n]:find("^/%*") do n = n - 1 end
  return lines[n] ~= nil and lines[n]:find("^/%*%*%*") ~= nil
end

local function check_lua(path, lines)
  -- The kinds of step share one interface, which cni.plan describes.
  if path:find("^lua/cni/step/") then return end
  for n, line in ipairs(lines) do
    if (line:find("^function M[.:][%a]") or line:find("^function M:[%a]"))
      and not documented_in_lua(lines, n)
    then
      complain(path, n, "no --- comment above " .. line:match("^function ([%w_.:]+)"))
    end
  end
end

-- Bindings are the functions that a luaL_Reg row gives a public name.
local function check_c(path, lines, all)
  local bound = {}
  for name, func in all:gmatch('{%s*"([%w_]+)",%s*([%w_]+)%s*}') do
    if not name:find("^__") then bound[func] = true end
  end
  for n, line in ipairs(lines) do
    local func = line:match("^[%a].-([%w_]+)%(lua_State %*L%)$")
    if func and bound[func] and not documented_in_c(lines, n) then
      complain(path, n, "no /*** comment above " .. func)
    end
  end
end

-- The folders of netlink-bindings, from the ground up: each uses those of rows before its own.
local floors = { { "nl" }, { "ns" }, { "sys" }, { "lease", "attr" }, { "tables", "nft" }, { "rtnl" } }
local floor_of = { [""] = #floors + 1 }
for n, wings in ipairs(floors) do
  for _, wing in ipairs(wings) do floor_of[wing] = n end
end

local function check_includes(path, lines)
  local wing = path:match("^netlink%-bindings/(.-)/?[^/]+%.[ch]$")
  if not wing then return end
  if not floor_of[wing] then return complain(path, 1, "its folder is on no floor, see host/lint.lua") end
  for n, line in ipairs(lines) do
    local other = line:match('^#include "([^"]+)/[^"/]+"')
    if other and other ~= wing and (floor_of[other] or #floors) >= floor_of[wing] then
      complain(path, n, ("%s is not below %s"):format(other, wing))
    end
  end
end

-- In host/, a file and its header are one: what each includes, and in which line.
local includes = {}

local function note_includes(path, lines)
  local name = path:match("^host/([^/]+)%.[ch]$")
  if not name then return end
  includes[name] = includes[name] or {}
  for n, line in ipairs(lines) do
    local other = line:match('^#include "([^"/]+)%.h"')
    if other and other ~= name then includes[name][other] = n end
  end
end

-- Go down from a file; one that is met again below itself closes a circle.
local function check_circles(name, way, done)
  for other, n in pairs(includes[name] or {}) do
    if way[other] then
      complain("host/" .. name, n, other .. " includes what includes it")
    elseif not done[other] then
      way[other] = true
      check_circles(other, way, done)
      way[other], done[other] = nil, true
    end
  end
end

for _, path in ipairs(arg) do
  local lines = read_lines(path)
  if not (lines[1] or ""):find("SPDX-License-Identifier: MIT", 1, true) then
    complain(path, 1, "the first line has no SPDX-License-Identifier")
  end
  if #lines > 700 then complain(path, #lines, "more than 700 lines") end
  if path:find("%.lua$") then
    check_lua(path, lines)
  else
    check_c(path, lines, table.concat(lines, "\n"))
    check_includes(path, lines)
    note_includes(path, lines)
    for n, line in ipairs(lines) do
      if #line:gsub("\t", "        ") > 110 then complain(path, n, "longer than 110 columns") end
    end
  end
end

local done = {}
for name in pairs(includes) do check_circles(name, { [name] = true }, done) end

os.exit(problems == 0)
