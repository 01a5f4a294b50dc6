-- SPDX-License-Identifier: MIT
-- Calls for one attachment come one after the other: whoever comes second finds a whole attachment
-- or none. The first call is held open where somebody has locked the bridge it wants to join, so
-- that nothing here depends on time. A delegate inside a call does not wait for its caller.

local t = require "support"
local world = require "world"

local conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true, ipMasq = true,
  ipam = { type = "host-local", subnet = "10.9.0.0/24" } }
local out = "/run/spec/out"

local function new(more, opts)
  local c = {}
  for key, value in pairs(conf) do c[key] = value end
  for key, value in pairs(more or {}) do c[key] = value end
  opts = opts or {}
  opts.forwarding = true
  local w = world.new(c, opts)
  t.run("rm -rf " .. out .. "; mkdir -p " .. out)
  return w
end

-- A shell line that makes a call and leaves what it said in OUT/NAME and its status in OUT/NAME.rc.
local function line(w, name, verb, more)
  t.write(out .. "/" .. name .. ".conf", t.conf_bytes(w:config(more)))
  local gc = verb == "GC"
  return ("(%s <%s/%s.conf >%s/%s 2>&1; echo $? >%s/%s.rc) 9>&-"):format(t.cni_words {
    verb = verb, type = w.conf.type, host = w.host, netns = not gc and w.pods[1] or false,
    id = gc and false or nil, ifname = gc and false or nil, path = w.path,
  }, out, name, out, name, out, name)
end

-- Run `first`, held before it joins the bridge, and `second` beside it; then `meanwhile`; then let go
-- and wait for both.
local function held(w, first, second, meanwhile)
  local dir = t.shared_dir(w.host, "br0")
  t.sh(([[
    mkdir -p %s
    exec 9>%s/lock
    flock 9
    %s &
    for i in $(seq 200); do
      grep -qs shared_link /run/luacni/attachments/net/c1:eth0/bridge && break; sleep 0.05
    done
    %s &
    sleep 0.5
    %s
    flock -u 9
    wait
  ]]):format(dir, dir, first, second, meanwhile or ":"), { timeout = 100 })
end

local function rc(name) return tonumber(t.read(out .. "/" .. name .. ".rc")) end
local function said(name) return t.read(out .. "/" .. name) end

local function users()
  local list = {}
  for name in pairs(t.files("/run/luacni/shared")) do
    if name:find("/net:c1:eth0$") then list[#list + 1] = name:gsub("%f[:]:%d+/", "/") end
  end
  table.sort(list)
  return table.concat(list, " ")
end

describe("A second ADD of an attachment whose first is under way", function()
  it("waits, is told that it is attached, and takes nothing from the first", function()
    local w = new()
    local before = w:picture()
    held(w, line(w, "one", "ADD"), line(w, "two", "ADD"), "ls " .. out .. " >" .. out .. "/then")
    assert.is_nil(said("then"):find("two.rc", 1, true), "it did not wait")
    assert.equal(0, rc("one"), said("one"))
    assert.equal(1, rc("two"))
    local e = t.decode(said("two"))
    assert.equal(999, e.code)
    assert.truthy(e.msg:find("already attached", 1, true), e.msg)
    assert.equal("br0/10.9.0.1,24/net:c1:eth0 br0/link/net:c1:eth0 " ..
      "nft:luacni.masked/masked4_24/net:c1:eth0", users())
    w.results["c1 eth0"] = t.decode(said("one"))
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("attaches when the first one fails", function()
    local w = new()
    local before = w:picture()
    -- The kernel refuses its route, long after it has joined the bridge.
    local bad = { ipam = { type = "host-local", subnet = "10.9.0.0/24",
      routes = { { dst = "10.77.0.0/16", gw = "172.16.0.1" } } } }
    held(w, line(w, "one", "ADD", bad), line(w, "two", "ADD"))
    assert.equal(1, rc("one"), said("one"))
    assert.truthy(said("one"):find("10.77.0.0/16", 1, true), said("one"))
    assert.equal(0, rc("two"), said("two"))
    w.results["c1 eth0"] = t.decode(said("two"))
    w:check()
    w:del()
    t.same(before, w:picture())
  end)

  it("of another interface does not wait", function()
    local w = new()
    local other = line(w, "two", "ADD", { name = "other", bridge = "br2",
      ipam = { type = "host-local", subnet = "10.8.0.0/24" } }):gsub("CNI_IFNAME=eth0",
      "CNI_IFNAME=net1")
    held(w, line(w, "one", "ADD"), other, "for i in $(seq 100); do [ -e " .. out ..
      "/two.rc ] && break; sleep 0.05; done; cp " .. out .. "/two.rc " .. out .. "/then")
    assert.equal("0\n", said("then"), said("two"))
    assert.equal(0, rc("one"), said("one"))
  end)
end)

describe("A DEL of an attachment whose ADD is under way", function()
  it("waits, and takes all of it back", function()
    local w = new()
    local before = w:picture()
    held(w, line(w, "one", "ADD"), line(w, "two", "DEL"), "ls " .. out .. " >" .. out .. "/then")
    assert.is_nil(said("then"):find("two.rc", 1, true), "it did not wait")
    assert.equal(0, rc("one"), said("one"))
    assert.equal(0, rc("two"), said("two"))
    t.same(before, w:picture())
  end)

  it("and another ADD behind it leave one whole attachment or none", function()
    local w = new()
    local before = w:picture()
    held(w, line(w, "one", "ADD"), line(w, "two", "DEL") .. "& " .. line(w, "three", "ADD"))
    assert.equal(0, rc("one"), said("one"))
    assert.equal(0, rc("two"), said("two"))
    if rc("three") == 0 then
      w.results["c1 eth0"] = t.decode(said("three"))
      w:check()
    end
    w:del()
    t.same(before, w:picture())
  end)
end)

describe("A GC that lists nothing", function()
  it("leaves an ADD under way alone, and a second GC takes it", function()
    local w = new()
    local before = w:picture()
    local gc = line(w, "two", "GC", { ["cni.dev/valid-attachments"] = t.list() })
    held(w, line(w, "one", "ADD"), gc, "for i in $(seq 100); do [ -e " .. out ..
      "/two.rc ] && break; sleep 0.05; done; ls " .. out .. " >" .. out .. "/then")
    assert.truthy(said("then"):find("two.rc", 1, true), "it waited")
    assert.equal(0, rc("two"), said("two"))
    assert.equal(0, rc("one"), said("one"))
    w.results["c1 eth0"] = t.decode(said("one"))
    w:check()
    w:gc({})
    t.same(before, w:picture())
  end)
end)

describe("A DEL that finds no record", function()
  -- Held where it has left the users of the gateway's address: the ADD behind it must find nothing half taken away.
  it("keeps an ADD waiting until it has taken everything back", function()
    local w = new()
    local before = w:picture()
    w:add()
    t.run("rm -rf /run/luacni/attachments")
    local dir = t.shared_dir(w.host, "br0")
    t.sh(([[
      exec 9>%s/lock
      flock 9
      %s &
      for i in $(seq 200); do
        [ -e %s/10.9.0.1,24/net:c1:eth0 ] || break; sleep 0.05
      done
      %s &
      sleep 0.5
      ls %s >%s/then
      flock -u 9
      wait
    ]]):format(dir, line(w, "one", "DEL"), dir, line(w, "two", "ADD"), out, out))
    assert.is_nil(said("then"):find("two.rc", 1, true), "it did not wait")
    assert.equal(0, rc("one"), said("one"))
    assert.equal(0, rc("two"), said("two"))
    w.results["c1 eth0"] = t.decode(said("two"))
    w:check()
    assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
    w:del()
    t.same(before, w:picture())
  end)

  it("leaves no file of its own", function()
    local w = new()
    local before = w:picture()
    w:del()
    w:del()
    t.same(before, w:picture())
    assert.equal("", (t.sh("find /run/luacni -mindepth 2 -path '*net*'")))
  end)
end)

describe("A call that waits in vain", function()
  -- The module alone, with less patience than the program has.
  local function attempt(type_name)
    return t.sh({ "env", "LD_PRELOAD=" .. (os.getenv("LD_PRELOAD") or ""), "lua5.4", "-e", ([[
      local journal = require "cni.record.journal"
      journal.patience = 200
      local ok, err = pcall(journal.open, { network = "net", id = "c1", ifname = "eth0" }, %q)
      print(ok and "open" or err.code .. " " .. err.msg)
      if ok then err:close() end
    ]]):format(type_name) })
  end

  it("says so with code 11, which asks for another try; other types do not wait", function()
    t.run("mkdir -p /run/luacni/attachments/net/c1:eth0")
    t.sh([[
      exec 9>/run/luacni/attachments/net/c1:eth0/bridge
      flock 9
      sleep 60 >/dev/null 2>&1 & echo $! >/run/spec/holder
    ]])
    local blocked, free = attempt("bridge"), attempt("host-local")
    t.sh("kill $(cat /run/spec/holder)")
    assert.truthy(blocked:find("^11 another bridge call still works on eth0 of container c1"), blocked)
    assert.equal("open\n", free)
    assert.equal("open\n", attempt("bridge"))
  end)
end)

describe("A delegate of ours inside our own call", function()
  -- A site's wrapper round host-local, as people write one to log its calls.
  it("gets through without waiting for its caller", function()
    local w = new({ ipam = { type = "wrapper", subnet = "10.9.0.0/24" } },
      { path = "/run/spec/bin" })
    t.run("mkdir -p /run/spec/bin; ln -sf " .. t.bin.ours .. "/host-local /run/spec/bin/")
    t.write("/run/spec/bin/wrapper", "#!/bin/sh\necho called >&2\n" ..
      "exec /run/spec/bin/host-local\n")
    t.run("chmod +x /run/spec/bin/wrapper")
    local before = w:picture()
    local started = os.time()
    w:add()
    t.same({ "10.9.0.2/24" }, world.addrs(w.pods[1], "eth0"))
    w:check()
    assert.truthy(w:fails("ADD").text:find("already attached", 1, true))
    w:check()
    w:del()
    assert.is_true(os.time() - started < 30, "somebody waited for a lock, which takes 30 seconds")
    t.same(before, w:picture())
  end)
end)

describe("A storm of ADDs and DELs on one attachment", function()
  it("ends in one whole attachment or none, and in nothing after a DEL", function()
    local w = new()
    local before = w:picture()
    for _ = 1, 3 do
      local lines, verbs = {}, { "ADD", "DEL", "ADD", "ADD", "DEL", "ADD" }
      for i = 1, 24 do lines[i] = line(w, "s" .. i, verbs[i % #verbs + 1]) end
      t.sh(table.concat(lines, " & ") .. " & wait", { timeout = 200 })
      local last
      for i = 1, 24 do
        local name = "s" .. i
        if verbs[i % #verbs + 1] == "DEL" then
          assert.equal(0, rc(name), said(name))
        elseif rc(name) ~= 0 then
          local answer = t.decode(said(name))
          assert.truthy(answer and answer.msg:find("already attached", 1, true), said(name))
        else
          last = t.decode(said(name))
        end
      end
      assert.truthy(last, "no ADD came through")
      if t.link(w.pods[1], "eth0") then
        assert.truthy(users():find("br0/link/net:c1:eth0", 1, true), users())
        assert.is_true(t.ping(w.pods[1], "10.9.0.1"))
      else
        t.same(before, w:picture())
      end
      w:del({ prev = false })
      t.same(before, w:picture())
    end
  end)
end)
