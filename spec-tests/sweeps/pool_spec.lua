-- SPDX-License-Identifier: MIT
-- Many machines of one pool, each a process, beside an etcd that is restarted, stands still, and is cut off, while
-- machines are killed and start again, or are dead for ever. Where nothing is sampled it is a thousand machines.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local machines <const>, each <const> = t.stride(20) == 1 and 1000 or 20, t.stride(20) == 1 and 300 or 100

local at_once <const> = 40

-- So many turns have three disturbances of etcd: what it is asked then is asked again.
local calm <const> = t.stride(20) == 1 and 40 or 4

local folder <const> = "/var/lib/cni/pools/many"
local preload = os.getenv "LD_PRELOAD"
local program = (preload and "env LD_PRELOAD=" .. preload .. " " or "") .. "lua5.4 spec-tests/pool_machine.lua " .. folder

local function is_alive(pid) return t.read("/proc/" .. pid .. "/stat") and not t.read("/proc/" .. pid .. "/stat"):find "%) Z " end

describe("A pool of many machines", function()
  it("gives no address twice and loses none, whatever is killed, restarted or cut off", function()
    local seed = tonumber(os.getenv "LUACNI_SPEC_SEED") or math.floor(require("netlink").sys.time() % 1e6)
    math.randomseed(seed)
    local p = pool.new()
    local running, dead, lives = {}, {}, 0
    local function endpoint(k) return ("http://127.0.0.%d:2379"):format(k % 4 + 2) end
    local function node(k) return "node" .. k end
    local function start(k)
      lives = lives + 1
      running[k] = t.run(("%s %s %s %d %d >>%s/%d.times 2>>%s/%d.err </dev/null & echo $!"):format(program, node(k),
        endpoint(k), each, seed + lives, folder, k, folder, k), { host = p.host }):match "%d+"
    end
    local function kill(k)
      t.sh("kill -KILL " .. running[k])
      running[k] = nil
    end
    local function cut(k, is_cut)
      t.run(is_cut and ("nft add table inet cut; nft 'add chain inet cut c { type filter hook output priority 0; }'; "
        .. "nft add rule inet cut c ip daddr 127.0.0.%d drop"):format(k + 2) or "nft delete table inet cut", { host = p.host })
    end
    t.run("mkdir -p " .. folder)

    -- A disturbance now and then, as long as machines are at work: as many at once as this one can bear.
    local clock = require("netlink").sys.clock
    local began, turn, kills, started = clock(), 0, 0, 0
    while true do
      local at_work = {}
      for k, pid in pairs(running) do
        if is_alive(pid) then at_work[#at_work + 1] = k else running[k] = nil end
      end
      while #at_work < at_once and started < machines do
        started = started + 1
        start(started)
        at_work[#at_work + 1] = started
      end
      if not at_work[1] or clock() - began > 1500 then break end
      turn = turn + 1
      for _ = 1, math.max(1, #at_work // 20) do
        local k = at_work[math.random(#at_work)]
        if running[k] then
          kill(k)
          kills = kills + 1
          if math.random() < 0.1 then dead[k] = true else start(k) end
        end
      end
      if turn % calm == 1 then
        p.etcd:stop(1)
        p.etcd:start(1)
      elseif turn % calm == 2 then
        cut(turn % 3, true)
        t.sh "sleep 0.5"
        cut(turn % 3, false)
      elseif turn % calm == 3 then
        p.etcd:pause(1)
        t.sh "sleep 0.5"
        p.etcd:resume(1)
      end
      t.sh "sleep 0.3"
    end
    local said = ("seed %d: "):format(seed)
    assert.is_true(turn > 1, said .. "nothing was disturbed")

    -- No address is held by two at any moment, by what they have written down.
    local holder, got = {}, 0
    for line in t.read(folder .. "/log"):gmatch "[^\n]+" do
      local what, address, who = line:match "^(%S+) (%S+) (%S+)$"
      if what == "got" then
        got = got + 1
        assert.is_true(holder[address] == nil or holder[address] == who,
          said .. ("%s: %s and %s"):format(address, tostring(holder[address]), tostring(who)))
        holder[address] = who
      elseif holder[address] == who then
        holder[address] = nil
      end
    end

    -- What is dead for ever is released; all others do what is due.
    local living = {}
    for k = 1, machines do
      local m = p:machine(node(k), { dataDir = folder .. "/" .. node(k) })
      m.dir = folder .. "/" .. node(k)
      if not dead[k] then living[#living + 1] = m end
    end
    local function all(word)
      local script = {}
      for k = 1, machines do
        if not dead[k] then
          script[#script + 1] = ("%s %s %s %s %d 2>>%s/tend.err || echo %d failed"):format(program, node(k), endpoint(k), word,
            k, folder, k)
        end
      end
      t.write(folder .. "/script", table.concat(script, "\n") .. "\n")
      local out = t.run(("xargs -P 4 -d '\n' -n 1 sh -c <%s/script"):format(folder), { host = p.host, timeout = 900 })
      assert.equal("", out, said .. (t.read(folder .. "/tend.err") or ""))
    end
    all "tend"
    -- It may have claimed one that it had no time to write down.
    for k in pairs(dead) do
      local _, status, err = living[1]:tool("release", "pods", node(k), "--data-dir", living[1].dir)
      assert.equal(0, status, said .. err)
    end
    p:assert_sane(living)
    for _, m in ipairs(living) do
      local n = 0
      for _ in pairs(m:leases()) do n = n + 1 end
      assert.equal(each, n, said .. m.node)
    end

    all "leave"
    p:assert_sane(living)
    local left = 0
    for _, m in ipairs(living) do
      t.same({}, m:leases())
      for _ in pairs(m:blocks()) do left = left + 1 end
    end
    assert.is_true(left <= #living, said .. left)

    local times, asked = {}, 0
    for k = 1, machines do
      for word, n in (t.read(("%s/%d.times"):format(folder, k)) or ""):gmatch "(%a*) ?(%d+)\n" do
        if word == "" then times[#times + 1] = tonumber(n) else asked = asked + tonumber(n) end
      end
    end
    table.sort(times)
    local figures = ("%d machines, %d ADDs, %d kills, %d dead; %.1f requests to etcd for 1,000 ADDs; a lease takes %d us, 99 of 100 "
      .. "at most %d us"):format(machines, got, kills, machines - #living, asked * 1000 / got, times[#times // 2] or 0,
      times[#times * 99 // 100] or 0)
    if os.getenv "LUACNI_SPEC_VERBOSE" or machines > 100 then print(figures) end
  end)
end)
