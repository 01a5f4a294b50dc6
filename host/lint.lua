-- SPDX-License-Identifier: MIT
-- make doc, and so make lint: what neither a compiler nor LDoc looks for. Every function that Lua can call
-- from outside has a comment for LDoc above it, which names each of its arguments, every file says what it is
-- for, no file and no line is too long, and what a file includes or requires lies below it: there are no
-- circles.
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

-- The comment for LDoc that ends above line n; nil when there is none.
local function comment_in_lua(lines, n)
  local first = n
  while (lines[first - 1] or ""):find("^%s*%-%-") do
    first = first - 1
    if lines[first]:find("^%s*%-%-%-") then return table.concat(lines, "\n", first, n - 1) end
  end
end

-- Whether a comment has a tag with an argument's name.
local function tells_of(comment, name)
  for tag, rest in comment:gmatch("%-%- @(%l+)([^\n]*)") do
    if tag ~= "treturn" and tag ~= "return" and tag ~= "raise"
      and (rest .. " "):find(" " .. name:gsub("%.", "%%.") .. " ")
    then
      return true
    end
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
  -- The kinds of step share one interface, which cni.engine.plan describes.
  if path:find("^lua/cni/step/") then return end
  for n, line in ipairs(lines) do
    local name, arguments = line:match("^function ([%u][%w_]*[.:]%a[%w_]*)(%b())")
    local comment = name and comment_in_lua(lines, n)
    if name and not comment and name:find("^M[.:]") then
      complain(path, n, "no --- comment above " .. name)
    end
    for argument in (comment and arguments or ""):gmatch("[%w_.]+") do
      if argument ~= "_" and not tells_of(comment, argument) then
        complain(path, n, ("the comment above %s does not tell of %s"):format(name, argument))
      end
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
  if all:find("\n@function ") and not all:find("\n@module ") and not all:find("\n@submodule ") then
    complain(path, 1, "no @module or @submodule says whose functions these are")
  end
end

-- Folders from the ground up: each uses those of rows before its own, and itself. What lies above all
-- folders, or beside them for everybody, is on no floor.
local function floors(rows)
  local floor_of = {}
  for n, wings in ipairs(rows) do
    for _, wing in ipairs(wings) do floor_of[wing] = n end
  end
  return floor_of
end

local bindings = floors {
  { "nl" }, { "ns" }, { "sys" }, { "lease", "attr" }, { "tables", "nft" }, { "rtnl", "trace" },
}
local library = floors {
  { "record" }, { "protocol" }, { "links" }, { "reference", "dhcp", "pool" }, { "dhcp6" }, { "step" },
  { "engine" }, { "watch" }, { "runtime" }, { "command" },
}

local function check_floor(floor_of, path, n, wing, other)
  if wing == "" or other == "" or wing == other then return end
  if not floor_of[wing] then return complain(path, n, "its folder is on no floor, see host/lint.lua") end
  if not floor_of[other] or floor_of[other] >= floor_of[wing] then
    complain(path, n, ("%s is not below %s"):format(other, wing))
  end
end

local function check_includes(path, lines)
  local wing = path:match("^netlink%-bindings/(.-)/?[^/]+%.[ch]$")
  if not wing then return end
  for n, line in ipairs(lines) do
    local other = line:match('^#include "([^"]+)/[^"/]+"')
    if other then check_floor(bindings, path, n, wing, other) end
  end
end

-- Who uses whom, and where: of the files in C, where a file and its header are one, and of the modules of
-- lua/, where a module that is only loaded when it is needed counts like any other.
local uses = {}

local function note_use(path, n, name, other)
  uses[name] = uses[name] or {}
  if other ~= name then uses[name][other] = { path = path, n = n } end
end

local function note_includes(path, lines)
  local name = path:match("^(.*)%.[ch]$")
  local folder = path:match("^host/") or "netlink-bindings/"
  for n, line in ipairs(name and lines or {}) do
    local other = line:match('^#include "([^"]+)%.h"')
    if other then note_use(path, n, name, folder .. other) end
  end
end

-- A module's folder below cni; "" for those that scripts may require, which are for everybody.
local function wing_of(module)
  return module:match("^cni%.([^.]+)%.") or ""
end

local function check_requires(path, lines)
  local module = path:match("^lua/(.*)%.lua$")
  module = module and module:gsub("/", ".")
  for n, line in ipairs(lines) do
    for other in line:gmatch('require *%(?"(cni%.[%w_.]*[%w_])"') do
      if module then
        check_floor(library, path, n, wing_of(module), wing_of(other))
        note_use(path, n, module, other)
      elseif wing_of(other) ~= "" then
        complain(path, n, "a plugin cannot require " .. other)
      end
    end
  end
end

-- Go down from a file; one that is met again below itself closes a circle.
local function check_circles(name, way, done)
  for other, at in pairs(uses[name] or {}) do
    if way[other] then
      complain(at.path, at.n, other .. " uses what uses it")
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
    check_requires(path, lines)
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
for name in pairs(uses) do check_circles(name, { [name] = true }, done) end

os.exit(problems == 0)
