-- SPDX-License-Identifier: MIT
-- `luacni update` makes of an attachment what its configuration says now, for every plugin (plugins.lua): what
-- is the same is not touched, there and back is as it was, and DEL leaves nothing. Killed at any change it
-- leaves the old or the new.
--
-- Seconds a test takes on the second kernel: 22

local cli = require "cli"
local plugins = require "plugins"
local t = require "support"

local file = "/run/spec/new.conflist"
local trace = "/run/spec/trace"

-- Differences, but for records, which know more than before, for link-local addresses, which come some time after
-- the carrier, and for the MAC of an ifb link that was made anew.
local function changes(before, after)
  local lines = {}
  for _, line in ipairs(t.differences(before, after)) do
    local expected = line:find("fe80::", 1, true) or line:find("^records%.") or line:find("%.bwp%x+%.address")
    if not expected then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

-- A list with the entry's plugin; before one that is used in a chain stands another's, which is not asked.
local function write_list(entry, more)
  local conf = plugins.conf(entry, 1, more)
  local list = { cniVersion = conf.cniVersion, name = conf.name, plugins = {} }
  conf.cniVersion, conf.name = nil, nil
  local takes, given = nil, conf.runtimeConfig
  for key in pairs(given or {}) do
    takes = takes or {}
    takes[key] = true
  end
  conf.runtimeConfig, conf.capabilities = nil, takes
  if entry.prev then list.plugins[1] = { type = "others" } end
  list.plugins[#list.plugins + 1] = conf
  t.write(file, t.json(list))
  return given
end

local function update(entry, more, ...)
  local given = write_list(entry, more)
  local words = { "update", "every", "pod1", "--file", file, ... }
  if given then table.move({ "--cap-args", t.json(given) }, 1, 2, #words + 1, words) end
  return words
end

local function attach(entry)
  t.wipe()
  local w = plugins.world(entry)
  cli.host = w.host
  local before = w:picture()
  w:add { prev = plugins.prev(entry, w.pods[1]) }
  return w, before
end

-- Update, and ask whether it is as it is to be then.
local function bring_to(entry, w, more)
  local result = t.decode(cli.succeeds(update(entry, more)))
  w:so_be_it()
  local got = w:call("CHECK", { conf = more, prev = result })
  if got.rc ~= 0 then error(("%s: CHECK is not content: %s"):format(t.json(more or {}), got.out), 0) end
end

for _, entry in t.due(plugins.list, 3) do
  describe(entry.name .. ":", function()
    it("what is the same is not touched, and what is changed there and back is as it was", function()
      t.needs(table.unpack(entry.needs or {}))
      local w, before = attach(entry)
      local whole = w:picture()
      -- The second kernel does not tell of the calls of others.
      local words = t.guest and {} or { "strace", "-f", "-o", trace, "-e", "trace=sendto,sendmsg" }
      words[#words + 1] = t.build .. "/luacni"
      local own = update(entry)
      t.run(table.move(own, 1, #own, #words + 1, words), { host = w.host })
      local text = t.guest and "" or t.read(trace)
      assert.is_nil(text:match "[^\n]*RTM_NEW[^\n]*NLM_F_ACK[^\n]*" or text:match "[^\n]*RTM_DEL[^\n]*"
        or text:match "[^\n]*RTM_SET[^\n]*" or text:match "[^\n]*NFNL_MSG_BATCH[^\n]*")
      t.same("", changes(whole, w:picture()), "the same")
      for _, change in ipairs(entry.updates or {}) do
        bring_to(entry, w, change.conf)
        local seen = t.run(change.sh:gsub("@PORT@", function() return w:port().ifname end),
          { host = change.at == "host" and w.host or w.pods[1] })
        if not seen:find(change.shows) then error(("%s: %s does not show %s: %s"):format(t.json(change.conf), change.sh,
          change.shows, seen), 0) end
        bring_to(entry, w)
        t.same("", changes(whole, w:picture()), t.json(change.conf))
      end
      assert.equal(0, w:call("DEL").rc)
      w:so_be_it()
      t.same("", changes(before, w:picture()), "after DEL")
    end)
  end)
end

-- What follows on an update that was killed.
local ways = {
  function() end,
  function() cli.succeeds { "repair" } end,
  function(entry, change) cli.succeeds(update(entry, change.conf)) end,
  function(_, _, w) w:gc { { "c1", "eth0" } } end,
}

-- Whether an attachment is as a configuration has it.
local function is(w, more)
  local result = t.decode(t.read "/run/spec/answer")
  return w:call("CHECK", { conf = more, prev = result }).rc == 0
end

describe("killed at any change, and whatever call comes next,", function()
  for _, entry in t.due(plugins.list, 3) do
    for _, change in ipairs { (entry.updates or {})[1] } do
    it(entry.name .. " is what it was or what it is to be, and DEL leaves nothing", function()
      t.needs(table.unpack(entry.needs or {}))
      t.wipe()
      local w = plugins.world(entry)
      cli.host = w.host
      local before, n, step = w:picture(), 1, t.stride(3, { second = 13, stock = 13 })
      while true do
        local answer = w:add { prev = plugins.prev(entry, w.pods[1]) }
        t.write("/run/spec/answer", t.json(answer))
        local words = update(entry, change.conf)
        local out, status, err = t.sh({ t.helper "killat", n, t.build .. "/luacni", table.unpack(words) },
          { host = w.host })
        if status == 100 then break end
        assert.equal(101, status, out .. err)
        local way = n // step % #ways
        ways[way + 1](entry, change, w)
        if way > 0 then
          local new, old = is(w, change.conf), is(w)
          if way == 2 and not new then error(n .. ": the next update does not make it new", 0) end
          if not (new or old) then error(n .. ": it is neither old nor new", 0) end
        end
        local got = w:call "DEL"
        if got.rc ~= 0 then error(n .. ": DEL fails: " .. got.out, 0) end
        w:so_be_it()
        t.same("", changes(before, w:picture()), n .. " in way " .. way)
        n = n + step
      end
      assert.is_true(n > 5, n .. " changes")
      assert.equal(0, w:call("DEL").rc)
    end)
    end
  end
end)
