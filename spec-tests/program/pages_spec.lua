-- SPDX-License-Identifier: MIT
-- The README.md of a folder: a stranger guesses from it which file a question leads to. And the figures of the one
-- at the root.

local t = require "support"

-- Folders whose files are told of by their names alone, as their page says: a type each, a command each.
local by_name = { plugins = "A file a type", ["lua/cni/command"] = "A file a command" }

local function names(command)
  local list = {}
  for name in t.run(command):gmatch "[^\n]+" do list[#list + 1] = name end
  return list
end

-- Whether a page has a name as a word of its own: `files.lua`, `files` or `files/`.
local function tells_of(page, name)
  local stem = name:gsub("%.[^.]*$", "")
  for at in page:gmatch("()" .. stem:gsub("%p", "%%%0")) do
    local before, after = page:sub(at - 1, at - 1), page:sub(at + #stem, at + #stem)
    if not before:find "[%w_-]" and not after:find "[%w_-]" then return true end
  end
  return false
end

-- The rows of README's table of costs, and what the bench calls the figures in them.
local figures = {
  ["ADD bridge"] = { "ADD bridge" },
  ["ADD bridge with ipMasq; its DEL"] = { "ADD bridge ipMasq", "DEL bridge ipMasq" },
  ["50 such ADDs at once, until the last has answered"] = { "ADD bridge ipMasq, 50 at once" },
  ["ADD bridge where 60,000 addresses are leased"] = { "ADD bridge, 60000 leases" },
  ["ADD macvlan; its DEL"] = { "ADD macvlan", "DEL macvlan" },
}

describe("README", function()
  it("has no figure that make bench does not measure", function()
    local measured, told = {}, {}
    for _, row in ipairs(names "BENCH_CASES=rows lua5.4 spec-tests/bench/bench.lua") do measured[row] = true end
    local rows = t.read("README.md"):match "\n| wall time, ms |[^\n]*\n|[-|]*\n(.-)\n\n" .. "\n"
    for name, cells in rows:gmatch "| ([^|]*) |([^\n]*)\n" do
      assert.is_table(figures[name], name)
      told[name] = true
      for _, row in ipairs(figures[name]) do assert.is_true(measured[row], row) end
      -- A figure for each, in each column.
      for cell in cells:gmatch "([^|]+)|" do
        assert.equal(#figures[name], select(2, cell:gsub("%d[%d.]*", "")), name .. ":" .. cell)
      end
    end
    for name in pairs(figures) do assert.is_true(told[name], name) end
  end)
end)

describe("The page of a folder", function()
  local folders = names "find lua host netlink-bindings plugins examples -name README.md -printf '%h\n' | sort"

  it("is there for each folder of the library", function()
    local have = {}
    for _, folder in ipairs(folders) do have[folder] = true end
    for _, folder in ipairs(names "find lua/cni -type d") do assert.is_true(have[folder], folder) end
    assert.is_true(have.lua and have.host and have["netlink-bindings"] and have.plugins and have.examples)
  end)

  it("tells of each file and each folder in it", function()
    local told = 0
    for _, folder in ipairs(folders) do
      local page = t.read(folder .. "/README.md")
      local announced = by_name[folder]
      if announced then assert.is_truthy(page:find(announced, 1, true), folder) end
      for _, name in ipairs(names(("find %s -mindepth 1 -maxdepth 1 ! -name README.md -printf '%%f\n'"):format(folder))) do
        if not announced then
          assert.is_true(tells_of(page, name), ("%s/README.md does not tell of %s"):format(folder, name))
          told = told + 1
        end
      end
    end
    assert.is_true(told > 80, told)
  end)

  it("of commands tells of each file that is no command", function()
    local page, help = t.read "lua/cni/command/README.md", t.run { t.build .. "/luacni", "--help" }
    for _, name in ipairs(names "find lua/cni/command -name '*.lua' -printf '%f\n'") do
      local stem = name:gsub("%.lua$", "")
      local is_command = help:find("\n  luacni " .. stem:gsub("%p", "%%%0") .. "%f[^%w-]")
      assert.is_true(is_command ~= nil or tells_of(page, name), name)
    end
  end)

  it("names nothing that is not there", function()
    for _, folder in ipairs(folders) do
      for first in t.read(folder .. "/README.md"):gmatch "\n| (`[^|]*) |" do
        for name in first:gmatch "`([^`]+)`" do
          local there = names(("ls -d %s/%s %s/%s.* 2>/dev/null || true"):format(folder, name, folder, name))
          assert.is_true(#there > 0, ("%s/README.md: %s"):format(folder, name))
        end
      end
    end
  end)
end)
