-- SPDX-License-Identifier: MIT
-- CHECK is the plugin's own `add`, run against the kernel in plan mode: for every
-- plugin of the table it is content right after ADD, names exactly what somebody has
-- broken since, and changes nothing itself.
--
-- Seconds a test takes on the second kernel: 10

local lfs = require "lfs"
local t = require "support"
local plugins = require "plugins"

-- A world of an entry with one attachment in it.
local function attached(entry)
  t.wipe()
  local w = plugins.world(entry)
  local before = w:picture()
  w:add({ prev = plugins.prev(entry, w.pods[1]) })
  return w, before
end

local function reaches(w, entry, expected)
  for _, address in ipairs(entry.reach or {}) do
    assert.equal(expected, t.ping(w.pods[1], address), address)
  end
end

-- Differences, but for the link-local addresses that come some time after the carrier.
local function changes(before, after)
  local lines = {}
  for _, line in ipairs(t.differences(before, after)) do
    if not line:find("fe80::", 1, true) then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

-- What is wrong with CHECK of a world in which something was broken, or nil.
local function judge(w, broken)
  local command = broken.sh:gsub("@PORT@", function() return w:port().ifname end)
  t.run(command, { host = broken.at == "host" and w.host or w.pods[1] })
  w:so_be_it()
  local before = w:picture()
  local got = w:call("CHECK")
  local changed = changes(before, w:picture())
  if changed ~= "" then return "CHECK changes something: " .. changed end
  if got.rc == 0 then return "CHECK notices nothing" end
  if not got.json or type(got.json.msg) ~= "string" then
    return "no error object: " .. got.out .. got.err
  end
  local said = got.json.msg .. "\n" .. tostring(got.json.details or "")
  if not said:find(broken.says) then
    return ("CHECK says %q, nothing of %q"):format(said, broken.says)
  end
end

for _, entry in t.due(plugins.list, 1, { stock = 3 }) do
  describe(entry.name .. ":", function()
    it("CHECK is content after ADD, twice, and changes nothing; DEL leaves nothing", function()
      t.needs(table.unpack(entry.needs or {}))
      t.wipe()
      local w = plugins.world(entry)
      reaches(w, entry, false)
      local before = w:picture()
      w:add({ prev = plugins.prev(entry, w.pods[1]) })
      local made = w:picture()
      w:check()
      w:check()
      assert.equal("", changes(made, w:picture()))
      reaches(w, entry, true)
      w:del()
      t.same(before, w:picture(), "after DEL")
      if not entry.ipam then
        w:fails("CHECK", { prev = { cniVersion = "1.1.0", interfaces = t.list() } })
      end
    end)

    it("CHECK names what is broken", function()
      t.needs(table.unpack(entry.needs or {}))
      local complaints = {}
      local w, before
      for _, broken in ipairs(entry.breaks) do
        if w then
          -- Only what is not the plugin's own is still broken after DEL.
          w:call("DEL")
          if #t.differences(before, w:picture()) == 0 then
            w:add({ prev = plugins.prev(entry, w.pods[1]) })
          else
            t.cleanup()
            w = nil
          end
        end
        if not w then w, before = attached(entry) end
        local why = judge(w, broken)
        if why then complaints[#complaints + 1] = broken[1] .. ": " .. why end
      end
      if #complaints > 0 then error(table.concat(complaints, "\n"), 0) end
    end)
  end)
end

describe("the table of plugins", function()
  it("has every type that is shipped, and no other", function()
    local listed, shipped = {}, {}
    for _, entry in ipairs(plugins.list) do
      listed[plugins.type(entry)] = true
      listed[(plugins.conf(entry).ipam or {}).type or "luacni"] = true
    end
    for name in lfs.dir("plugins") do
      local type = name:match("^(.*)%.lua$")
      if type then
        shipped[type] = true
        assert.is_true(listed[type], type .. " has no entry in spec-tests/plugins.lua")
      end
    end
    listed.luacni = nil -- a chain in one process, of others
    for type in pairs(listed) do
      assert.is_true(shipped[type], type .. " has an entry, and is not shipped")
    end
  end)

  it("has a name of its own for each, and something that breaks it", function()
    local names = {}
    for _, entry in ipairs(plugins.list) do
      assert.is_nil(names[entry.name], entry.name)
      names[entry.name] = true
      assert.is_true(#entry.breaks > 0 or plugins.type(entry) == "static", entry.name)
    end
  end)
end)
