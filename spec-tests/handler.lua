-- SPDX-License-Identifier: MIT
-- The output handler of spec-tests/run: prints failures and skips in plain
-- lines, counts exactly, and holds every test to leaving nothing behind (open
-- descriptors, namespaces, mounts, processes, links, addresses, routes, rules).
-- Tests that another kernel is to run are written to a list; given such a list
-- (LUACNI_SPEC_LIST), nothing else runs.

local busted = require "busted"
local leaks = require "leaks"
local t = require "support"

local verbose = os.getenv("LUACNI_SPEC_VERBOSE")
local later = os.getenv("LUACNI_SPEC_LATER")
local with_trace = os.getenv("LUACNI_SPEC_TRACE")
local tests = {}
local broken = {}
local last

local function full_name(element)
  local names = {}
  while element and element.descriptor ~= "file" do
    if element.name then table.insert(names, 1, tostring(element.name)) end
    element = busted.parent(element)
  end
  return table.concat(names, " ")
end

local function indent(text)
  return (tostring(text):gsub("\n+$", ""):gsub("\n", "\n    "))
end

local function write(suffix, text)
  local f <close> = assert(io.open(os.getenv("report") .. suffix, "w"))
  f:write(text)
end

-- The tests named in a list, or nil for all.
local function listed()
  local path = os.getenv("LUACNI_SPEC_LIST")
  if not path then return nil end
  local names = {}
  for line in io.lines(path) do names[line:match("^[^\t]*")] = true end
  return names
end

local wanted = listed()
local block

-- A block's tests are registered when it starts, all of them before the next one starts.
local function on_block(element)
  block = element
  return nil, true
end

local function on_register(name)
  local outer = full_name(block)
  return nil, wanted[outer == "" and name or outer .. " " .. name] ~= nil
end

local function on_start(element)
  last = { name = full_name(element), notes = {}, began = busted.monotime() }
  tests[#tests + 1] = last
  t.current = { pending = element.env and element.env.pending, name = last.name }
  write(".now", last.name .. "\n")
  return nil, true
end

local function on_end(element, _, status)
  last.status = element.descriptor == "pending" and "pending" or status
  last.took = busted.monotime() - last.began
  last.lacks = t.current.lacks
  return nil, true
end

-- Trouble in a test or while clearing up after it belongs to that test; trouble
-- before it, or in a file or block, is a failure of its own (the test or tests
-- it kept from running are not counted as anything).
local function on_trouble(element, _, message, trace)
  local where = element.descriptor
  if last and (where == "it" or where == "after_each") then
    last.bad = true
    table.insert(last.notes, tostring(message))
    if with_trace and trace then table.insert(last.notes, trace.traceback) end
  else
    table.insert(broken, ("%s %s: %s"):format(where, full_name(element), message))
  end
  return nil, true
end

local function on_pending(_, _, message)
  table.insert(last.notes, (tostring(message):gsub("^[^%s:]+:%d+: ", "")))
  return nil, true
end

-- Where the time of a file goes.
local function print_slowest()
  local list, total = {}, 0
  for _, test in ipairs(tests) do
    if test.took then
      list[#list + 1], total = test, total + test.took
    end
  end
  table.sort(list, function(a, b) return a.took > b.took end)
  print(("%.1f s, of which the slowest:"):format(total))
  for i = 1, math.min(5, #list) do print(("%7.2f s  %s"):format(list[i].took, list[i].name)) end
end

local function report()
  local passed, failed, skipped, lacks = 0, 0, 0, {}
  for _, test in ipairs(tests) do
    local notes = indent(table.concat(test.notes, "\n"))
    if test.bad or (test.status ~= "success" and test.status ~= "pending") then
      failed = failed + 1
      print("FAILED  " .. test.name .. "\n    " .. notes)
    elseif test.status == "pending" and later and test.lacks then
      lacks[#lacks + 1] = test.name .. "\t" .. notes .. "\n"
    elseif test.status == "pending" then
      skipped = skipped + 1
      print("skipped " .. test.name .. ": " .. notes)
    else
      passed = passed + 1
      if verbose then print(("ok      %s (%.2f s)"):format(test.name, test.took)) end
    end
  end
  for _, text in ipairs(broken) do
    failed = failed + 1
    print("FAILED  outside of a test: " .. indent(text))
  end
  if verbose then print_slowest() end
  write(".lacks", table.concat(lacks))
  write(".count", ("%d %d %d %d\n"):format(passed, failed, skipped, #lacks))
  return nil, true
end

return function()
  return {
    subscribe = function()
      if wanted then
        busted.subscribe({ "file", "start" }, on_block)
        busted.subscribe({ "describe", "start" }, on_block)
        busted.subscribe({ "register", "it" }, on_register, { priority = 1 })
      end
      busted.subscribe({ "test", "start" }, on_start)
      busted.subscribe({ "test", "end" }, on_end)
      busted.subscribe({ "pending" }, on_pending)
      busted.subscribe({ "failure" }, on_trouble)
      busted.subscribe({ "error" }, on_trouble)
      busted.subscribe({ "suite", "end" }, report)
      busted.before_each(function() leaks.watch() end)
      busted.after_each(function()
        t.cleanup()
        local left = leaks.left()
        if #left > 0 then error("left behind:\n" .. table.concat(left, "\n"), 0) end
      end)
    end,
  }
end
