-- SPDX-License-Identifier: MIT
-- Nothing runs beside us: no verb of any type, on any of its paths, executes a program or listens for somebody, told by
-- strace. (The deletion of a link, which nobody waits for, may be left to a copy of ourselves, which executes nothing.) The two
-- exceptions are here too: what there is to be said to iptables' older tables and to firewalld only programs of theirs
-- can say.

local t = require "support"
local plugins = require "plugins"
local world = require "world"

local trace <const> = "/run/spec/trace"
local under <const> = "strace -f -qq -o " .. trace ..
  " -e signal=none -e trace=execve,execveat,fork,vfork,clone,clone3,listen "

-- What a call has executed, and what it has listened at, but for the programs by which it is made, the plugin's last;
-- and how often it has made a process.
local function done()
  local lines, copies = {}, 0
  for line in t.read(trace):gmatch "[^\n]+" do
    if line:find "^%d+%s+v?fork%(" or line:find "^%d+%s+clone" and not line:find "CLONE_THREAD" then
      copies = copies + 1
    elseif line:find "^%d+%s+execve.*= 0$" or line:find "^%d+%s+listen" or line:find "^%d+%s+execve.*unfinished" then
      lines[#lines + 1] = line
    end
  end
  local first
  for i, line in ipairs(lines) do
    if line:find(t.bin.ours .. "/", 1, true) and not line:find '%("[^"]*/nsenter"' and not line:find '%("[^"]*/env"'
        and not line:find '%("[^"]*/sh"' then
      first = first or i
    end
  end
  assert(first and first <= 4, "the plugin was not seen: " .. t.read(trace))
  return table.move(lines, first + 1, #lines, 1, {}), copies
end

-- Programs among those lines, without their folders.
local function programs(lines)
  local list = {}
  for _, line in ipairs(lines) do list[#list + 1] = line:match 'execve%("[^"]*/([^"/]+)"' or line end
  return list
end

describe("No program is executed, and no socket listened at, by", function()
  for _, entry in t.due(plugins.list, 3) do
    -- A site's own script executes what it likes.
    if not entry.script then it(entry.name, function()
      t.needs(table.unpack(entry.needs or {}))
      t.needs("strace", "calls")
      t.wipe()
      local w, prev
      local function start()
        t.cleanup()
        w = plugins.world(entry, nil, false)
        prev = plugins.prev(entry, w.pods[1])
      end
      local function quiet(verb, what, call, fails)
        call = call or {}
        call.under = call.under or under
        local got = w:call(verb, call)
        assert.equal(fails or false, got.rc ~= 0, ("%s, %s: %s%s"):format(verb, what, got.out, got.err))
        local lines, copies = done()
        t.same({}, lines, verb .. ", " .. what)
        -- Two that delete links, and one that closes sockets.
        assert.is_true(copies <= 3, verb .. ", " .. what .. " makes processes: " .. copies)
      end
      start()
      quiet("STATUS", "with nothing there")
      quiet("ADD", "the first", { prev = prev })
      quiet("CHECK", "content")
      quiet("DEL", "with a record")
      quiet("DEL", "with nothing left")
      start()
      quiet("ADD", "taken back for want of a reader", { prev = prev, under = under .. "sh -c 'exec \"$@\" >/dev/full' sh" }, true)
      quiet("ADD", "the second", { prev = prev })
      w:lose_records()
      quiet("DEL", "without a record")
      start()
      quiet("ADD", "the third", { prev = prev })
      quiet("GC", "of all", { conf = { ["cni.dev/valid-attachments"] = t.list() } })
      local broken = entry.breaks[1]
      if not broken then return end
      start()
      w:add { prev = prev }
      local command = broken.sh:gsub("@PORT@", function() return w:port().ifname end)
      t.run(command, { host = broken.at == "host" and w.host or w.pods[1] })
      w:so_be_it()
      quiet("CHECK", "of what is broken", nil, true)
    end) end
  end
end)

describe("The programs that firewall executes are", function()
  local function new()
    t.needs("strace", "calls", "nft-nat")
    local w = world.new({ type = "firewall" }, { lived_in = false, neighbours = false })
    w.prev_of = { cniVersion = "1.1.0", interfaces = { { name = "eth0", sandbox = w.pods[1].path } },
      ips = { { address = "10.1.0.2/24", interface = 0 }, { address = "fd01::2/64", interface = 0 } } }
    return w
  end
  local function executed(w, verb, conf)
    w:ok(verb, { prev = w.prev_of, conf = conf, under = under })
    return programs((done()))
  end

  it("iptables' own where its older tables drop what is forwarded, and none otherwise", function()
    t.needs "iptables-legacy"
    local w = new()
    t.same({}, executed(w, "ADD"))
    t.same({}, executed(w, "DEL"))
    w:sh "iptables-legacy -P FORWARD DROP; ip6tables-legacy -P FORWARD DROP"
    for _, verb in ipairs { "ADD", "CHECK", "DEL" } do
      local list = executed(w, verb)
      assert.is_true(#list > 0)
      for _, name in ipairs(list) do assert.matches("^x?i?p?6?tables%-legacy", name) end
    end
  end)
end)
