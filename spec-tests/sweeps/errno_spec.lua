-- SPDX-License-Identifier: MIT
-- An error is not an absence: what one system call's failure must not be taken for. The sweep over
-- every call of every plugin is in errno_sweep_spec.lua; here are the single places where something
-- was lost once.

local p = require "protocol"
local t = require "support"
local world = require "world"

local report = "/run/spec/report"

-- Let every call of a name (nil: of any) fail, one a run: `run(under, n)` makes the plugin's call, under what
-- makes its n-th such system call fail; `judge(got, n)` looks at what came of it. Ends with the run that has
-- no n-th. `errno` may be a list, of which each call gets another one. Of calls of any name a sample fails, as
-- of those of a name with a `step`.
local stride = t.stride(23)
local function each_call(errno, name, run, judge, step)
  for n = 1, 800, name and (step or 1) or stride do
    local this = type(errno) == "table" and errno[n % #errno + 1] or errno
    local only = name and "-s " .. name or ""
    local got = run(("%s -e %s %s -o %s %d"):format(t.helper("killat"), this, only, report, n), n)
    if t.read(report):find("^finished") then
      assert.is_true(n > 1, "no such call in this run")
      return
    end
    if judge then judge(got, n) end
  end
  error("it never came to its end")
end

local leases = "/var/lib/cni/networks/net"

describe("a lease", function()
  local conf = { cniVersion = "1.1.0", name = "net", type = "host-local",
    ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/16" } } } } }

  local function add(id, under)
    return t.cni { verb = "ADD", type = "host-local", conf = conf, id = id, under = under,
      netns = "/run/netns/none", timeout = 20 }
  end

  for _, errno in ipairs { "EPERM", "ENOENT", "ENOSPC", "EIO" } do
    it("that cannot be written is not given: " .. errno, function()
      t.wipe()
      local given, n = {}, 0
      each_call(errno, "write", function(under)
        n = n + 1
        return add("c" .. n, under)
      end)
      for i = n + 1, n + 3 do
        local address = add("c" .. i).json.ips[1].address:match("^[^/]*")
        assert.is_nil(given[address])
        given[address] = true
        assert.equal("c" .. i .. "\r\neth0", t.read(leases .. "/" .. address))
      end
      for name, bytes in pairs(t.files(leases)) do
        assert.is_true(bytes ~= "" or name == "lock", name .. " is empty")
      end
    end)
  end
end)

describe("a lease directory", function()
  local conf = { cniVersion = "1.1.0", name = "net", type = "host-local",
    ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } }
  local index = "/run/luacni/leases"

  local function call(verb, id, under)
    return t.cni { verb = verb, type = "host-local", conf = conf, id = id, under = under,
      netns = "/run/netns/none", timeout = 20 }
  end

  -- Who has which address, by the files.
  local function held()
    local by = {}
    for name, bytes in pairs(t.files(leases)) do
      if name:find("^10%.") then by[name] = bytes end
    end
    return by
  end

  local function count(by)
    local n = 0
    for _ in pairs(by) do n = n + 1 end
    return n
  end

  -- What is done to the index before each call.
  local states = {
    { "the index gone", function() t.run("rm -rf " .. index) end },
    { "the index cut short",
      function() t.run(("for f in %s/*; do truncate -s 100 $f; done"):format(index)) end },
    { "a lease removed by somebody else", function() os.remove(leases .. "/10.1.0.200") end },
  }

  for _, state in ipairs(states) do
    local what, spoil = table.unpack(state)
    for _, errnos in ipairs { { "ENOSPC" }, { "EIO", "EPERM", "ENOMEM", "EACCES", "EMFILE" } } do
      it(("gives each address once, with %s and any call failing (%s)"):format(what,
        table.concat(errnos, ", ")), function()
        t.wipe()
        for i = 1, 9 do assert.equal(0, call("ADD", "other" .. i).rc) end
        each_call(errnos, nil, function(under, n)
          t.write(leases .. "/10.1.0.200", "theirs\r\neth0")
          assert.equal(0, call("DEL", "none").rc)
          spoil()
          return call("ADD", "c" .. n, under)
        end, function(got, n)
          local mine = got.rc == 0 and got.json.ips[1].address:match("^[^/]*")
          for address, owner in pairs(held()) do
            if owner == "c" .. n .. "\r\neth0" then
              assert.equal(mine, address)
              mine = nil
            end
          end
          assert.is_true(not mine, "given and not written down")
          -- And so with DEL.
          got = call("DEL", "c" .. n, ("%s -e %s -o /dev/null %d"):format(t.helper("killat"),
            errnos[n % #errnos + 1], n))
          if got.rc ~= 0 then assert.equal(0, call("DEL", "c" .. n).rc) end
          os.remove(leases .. "/10.1.0.200")
          assert.equal(9, count(held()))
        end)
      end)
    end
  end
end)

describe("a book", function()
  local l2 = { type = "bridge", bridge = "br0", removeUnused = true }

  it("that cannot be read is not an empty one", function()
    local w = world.new(l2)
    local clean = w:picture()
    each_call("EIO", "pread64", function(under)
      w:del()
      w:add()
      return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
        netns = w.pods[1], under = under }
    end, function(got)
      assert.equal(1, got.rc)
      assert.equal(5, got.json.code)
      assert.is_not_nil(t.link(w.pods[1], "eth0"))
      w:fails("ADD", nil, 999)
    end)
    w:del()
    t.same(clean, w:picture())
  end)

  it("that cannot be removed is an error of the DEL", function()
    local w = world.new(l2)
    local clean = w:picture()
    each_call("EIO", "unlink", function(under)
      w:add()
      local got = t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] },
        host = w.host, netns = w.pods[1], under = under }
      if got.rc ~= 0 then w:del() end
      return got
    end, function()
      assert.equal("", t.records())
      t.same(clean.kernel, w:picture().kernel)
    end)
  end)

  it("that cannot be opened is an error of the GC, which goes on with the others", function()
    local w = world.new(l2, { pods = 3 })
    local function gc(under)
      return t.cni { verb = "GC", conf = w:config { ["cni.dev/valid-attachments"] = t.list() },
        host = w.host, netns = false, id = false, ifname = false, under = under }
    end
    local failed = 0
    each_call("EMFILE", "openat", function(under)
      for i = 1, 3 do w:add { id = "c" .. i, pod = i } end
      local got = gc(under)
      for i = 1, 3 do w:let_go { id = "c" .. i } end
      if got.rc ~= 0 then
        failed = failed + 1
        assert.equal(0, gc().rc)
      end
      return got
    end, function()
      assert.equal("", t.records())
      for i = 1, 3 do assert.is_nil(t.link(w.pods[i], "eth0")) end
    end)
    assert.is_true(failed > 0)
  end)
end)

describe("A namespace: whatever a call says of it,", function()
  local ipam = { type = "host-local", subnet = "10.1.0.0/24" }
  local bridge = { type = "bridge", bridge = "br0", removeUnused = true, ipam = ipam }
  local errnos = { "ENOMEM", "EPERM", "EACCES", "EIO", "EMFILE", "ENFILE", "EINTR", "EAGAIN", "ENOBUFS", "ELOOP" }

  -- No neighbours: each call would ask them.
  local function new(conf) return world.new(conf or bridge, { neighbours = false }) end

  it("a GC takes nothing that is listed", function()
    local w = new()
    w:add()
    local before = w:picture()
    for _, errno in ipairs(errnos) do
      each_call(errno, "getsockopt", function(under)
        return t.cni { verb = "GC", host = w.host, netns = false, id = false, ifname = false, under = under,
          conf = w:config { ["cni.dev/valid-attachments"] = t.list { { containerID = "c1", ifname = "eth0" } } } }
      end, function() assert.is_not_nil(t.link(w.pods[1], "eth0"), errno) end)
    end
    t.same(before, w:picture())
    w:check()
  end)

  -- One call that fails may be made good by another look; so here all that ask for its path do.
  local function shut(w, errno)
    return ("strace -f -qq -o /dev/null -P %s -e trace=openat -e inject=openat:error=%s"):format(w.pods[1].path, errno)
  end

  it("one that cannot be opened at all is not gone, unless it is not there", function()
    t.needs("strace")
    local w = new { type = "tap", ipam = ipam }
    local function call(verb, errno)
      local gc = verb == "GC"
      return t.cni { verb = verb, host = w.host, netns = not gc and w.pods[1] or false, id = gc and false or nil,
        ifname = gc and false or nil, under = shut(w, errno), conf = w:config { prevResult = not gc
        and w.results["c1 eth0"] or nil, ["cni.dev/valid-attachments"] = gc
        and t.list { { containerID = "c1", ifname = "eth0" } } or nil } }
    end
    for _, errno in ipairs(errnos) do
      w:add()
      local before = w:picture()
      call("GC", errno)
      assert.not_equal(0, call("ADD", errno).rc)
      t.same(before, w:picture(), errno)
      assert.not_equal(0, call("DEL", errno).rc, errno)
      assert.is_not_nil(t.link(w.pods[1], "eth0"), errno)
      assert.is_not_nil(t.read(leases .. "/" .. w.results["c1 eth0"].ips[1].address:match("[^/]+")), errno)
      assert.not_equal("", t.records(), errno)
      w:del()
    end
    w:add()
    for _, verb in ipairs { "GC", "DEL" } do
      assert.equal(0, call(verb, "ENOENT").rc)
      assert.equal("", t.records())
      w:in_pod("ip link del eth0")
      w:add()
    end
  end)

  it("an ADD that answers is on record, and the next one is told so", function()
    local w, failed = new(), 0
    for _, errno in ipairs(errnos) do
      each_call(errno, "getsockopt", function(under)
        w:del { prev = false }
        return t.cni { verb = "ADD", conf = w:config(), host = w.host, netns = w.pods[1], under = under }
      end, function(got)
        if got.rc == 0 then
          w:fails("ADD", nil, 999)
          w:check { prev = got.json }
        else
          failed = failed + 1
          assert.is_nil(t.link(w.pods[1], "eth0"))
          assert.equal("", t.records())
        end
      end)
    end
    assert.is_true(failed >= #errnos)
  end)

  it("a DEL that answers has taken the link back, one that does not keeps the record", function()
    -- A link that is in the sandbox alone.
    local w, failed = new { type = "tap", ipam = ipam }, 0
    local before = w:picture()
    for _, errno in ipairs(errnos) do
      each_call(errno, "getsockopt", function(under)
        w:add()
        return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under }
      end, function(got)
        if got.rc ~= 0 then
          failed = failed + 1
          assert.not_equal("", t.records())
          w:del()
        end
        assert.is_nil(t.link(w.pods[1], "eth0"))
      end)
      w:del()
    end
    assert.is_true(failed >= #errnos)
    t.same(before.kernel.pod1, w:picture().kernel.pod1)
  end)
end)

describe("The folder of who uses a bridge", function()
  local conf = { type = "bridge", bridge = "br0", removeUnused = true }

  -- How often a DEL answered though the bridge is there.
  local function stayed(errno)
    local w, count, failed = world.new(conf, { neighbours = false }), 0, 0
    local before = w:picture()
    each_call(errno, "rmdir", function(under)
      w:add()
      return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
        netns = w.pods[1], under = under }
    end, function(got)
      if got.rc ~= 0 then
        failed = failed + 1
        w:del()
      end
      if t.link(w.host, "br0") then
        count = count + 1
        w:sh("ip link del br0")
      end
      t.run("rm -rf /run/luacni/*")
    end)
    t.same(before.kernel.pod1, w:picture().kernel.pod1)
    t.cleanup()
    return count, failed
  end

  it("that cannot be removed is not one that others use", function()
    for _, errno in ipairs { "EIO", "EPERM", "EACCES", "EINTR", "ENOMEM" } do
      local count, failed = stayed(errno)
      assert.equal(0, count, errno)
      assert.is_true(failed > 0, errno)
    end
  end)

  it("is one that others use when it is not empty", function()
    assert.equal(1, (stayed("ENOTEMPTY")))
  end)
end)

describe("What is on a link", function()
  it("that goes between two looks is nothing, and what cannot be listed is an error", function()
    local h = require("cni.engine.handle").new({ flush = function() end }, "host", {})
    h:learn("gone0", 4242)
    assert.same({}, h:addrs("gone0"))
    assert.same({}, h:addrs("gone0", "inet6"))
    assert.equal("127.0.0.1/8", h:addrs("lo", "inet")[1].address)
    assert.error_matches(function() h:dump("addr", { index = 4242, netnsid = 77 }) end, "list addrs: ")
    h:close()
  end)
end)

describe("Without a record", function()
  it("a look that fails is an error of the DEL", function()
    local w = world.new({ type = "host-device", device = "dev1" })
    w:sh(t.pair("dev1", "end1"))
    for _, name in ipairs { "socket", "sendto", "recvmsg" } do
      each_call("ENOMEM", name, function(under)
        w:add()
        t.run("rm -r /run/luacni/attachments")
        return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under }
      end, function(got)
        if got.rc ~= 0 then w:del() end
        assert.is_not_nil(t.link(w.host, "dev1"))
      end)
      w:del()
    end
  end)
end)

describe("Without a record, whatever call fails,", function()
  for name, guarded in pairs { ["a DEL"] = false, ["a DEL of a guarded port"] = true } do
    it(name .. " that answers has taken all back, and one that does not can be repeated", function()
      local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, macspoofchk = guarded },
        { neighbours = false })
      w:add()
      w:del()
      local before, failed = w:picture(), 0
      each_call({ "ENOMEM", "EIO", "EMFILE", "EACCES", "EINTR", "ENOBUFS", "ENFILE" }, nil, function(under)
        w:add()
        t.run("rm -r /run/luacni/attachments")
        return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under }
      end, function(got, n)
        if got.rc ~= 0 then
          failed = failed + 1
          w:del()
        end
        t.same(before, w:picture(), "call " .. n)
      end)
      assert.is_true(failed > 0)
      w:del()
    end)
  end
end)

describe("Without a record, where the kernel calls a question invalid,", function()
  it("a DEL of a guarded port does not take that for an answer", function()
    local w = world.new({ type = "bridge", bridge = "br0", macspoofchk = true }, { neighbours = false })
    w:add()
    w:del()
    local before, failed = w:picture(), 0
    each_call("EINVAL", "sendto", function(under)
      w:add()
      t.run("rm -r /run/luacni/attachments")
      return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
        netns = w.pods[1], under = under }
    end, function(got, n)
      if got.rc ~= 0 then
        failed = failed + 1
        w:del()
      end
      t.same(before, w:picture(), "call " .. n)
    end)
    assert.is_true(failed > 0)
    w:del()
  end)
end)

describe("Without a record, and without random bytes to be had,", function()
  it("a DEL takes all back or fails, and the next one does", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true }, { neighbours = false })
    local failed = 0
    for _, errno in ipairs { "EPERM", "EIO", "ENOMEM" } do
      each_call(errno, "getrandom", function(under)
        w:add()
        t.run("rm -r /run/luacni/attachments")
        return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under }
      end, function(got)
        if got.rc ~= 0 then
          failed = failed + 1
          assert.equal(5, got.json.code, got.out)
          w:del()
        end
        assert.is_nil(t.link(w.pods[1], "eth0"))
        assert.is_nil(t.link(w.host, "br0"))
      end)
    end
    assert.is_true(failed > 0)
  end)
end)

describe("What the reference left in iptables' legacy tables", function()
  it("is gone when a DEL says so, whatever failed", function()
    t.needs("reference", "iptables-legacy", "nft-nat")
    local dir = "/run/spec/legacy"
    t.run(("mkdir -p %s; for i in iptables ip6tables; do ln -sf /usr/sbin/$i-legacy %s/$i; done"):format(dir, dir))
    local w = world.new({ cniVersion = "1.0.0", type = "bridge", bridge = "br0", ipMasq = true,
      ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } })
    local function rules() return (w:sh("iptables-legacy-save -t nat"):gsub("[^\n]*%[%d+:%d+%]", ""):gsub("#[^\n]*", "")) end
    local env = { PATH = dir .. ":/usr/sbin:/usr/bin:/sbin:/bin" }
    w:add { bin = "reference", env = env }
    w:del { bin = "reference", env = env }
    local before, failed = rules(), 0
    for _, name in ipairs { "openat", "newfstatat" } do
      each_call("EIO", name, function(under)
        w:add { bin = "reference", env = env }
        assert.not_equal(before, rules())
        local got = t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under, timeout = 20 }
        if got.rc ~= 0 then
          failed = failed + 1
          w:del()
        end
        return got
      end, function() assert.equal(before, rules()) end, t.stride(7))
    end
    assert.is_true(failed > 0)
  end)
end)

describe("A foreign IPAM plugin that cannot be looked for", function()
  it("is not one that is not there", function()
    p.foreign("lender", 'cat >/dev/null; test $CNI_COMMAND = DEL || ' ..
      [[echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.2/24"}]}']])
    local w = world.new({ type = "bridge", bridge = "br0", ipam = { type = "lender" } },
      { path = p.foreign_dir, neighbours = false })
    local calls, failed = p.foreign_dir .. "/lender.calls", 0
    each_call("EIO", "newfstatat", function(under)
      w:add()
      t.run("rm -r /run/luacni/attachments " .. calls)
      local got = t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
        netns = w.pods[1], under = under, path = p.foreign_dir }
      if got.rc ~= 0 then
        failed = failed + 1
        w:del()
      end
      return got
    end, function() assert.truthy((t.read(calls) or ""):find("DEL")) end)
    assert.is_true(failed > 0)
  end)
end)

describe("GC", function()
  it("says why the leases could not be listed", function()
    t.needs("strace")
    local conf = { cniVersion = "1.1.0", name = "net", type = "host-local",
      ipam = { type = "host-local", subnet = "10.1.0.0/24" } }
    assert.equal(0, t.cni { verb = "ADD", conf = conf, netns = "/run/netns/none" }.rc)
    local script = [[
      local leases, fail = require "cni.leases", require "cni.fail"
      local ok, err = pcall(leases.gc, { dir = "/var/lib/cni/networks", network = "net" }, { ["c1/eth0"] = true })
      io.write(ok and "done" or ("%s %s %s"):format(fail.is(err), err.code, err.errno), "\n")]]
    local function gc(under) return t.run(under .. " lua5.4 -e " .. t.quote(script)) end
    assert.equal("true 5 5\n", gc("strace -qq -o /dev/null -e trace=getdents64 -e inject=getdents64:error=EIO"))
    assert.equal("done\n", gc("env"))
    assert.is_not_nil(t.read(leases .. "/10.1.0.2"))
  end)

  it("frees no address whose link it could not take back", function()
    local w = world.new({ type = "bridge", bridge = "br0",
      ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } })
    local stood = 0
    each_call("EIO", "sendto", function(under)
      w:del()
      w:add()
      return t.cni { verb = "GC", conf = w:config { ["cni.dev/valid-attachments"] = t.list() },
        host = w.host, netns = false, id = false, ifname = false, under = under }
    end, function(got)
      if not t.link(w.pods[1], "eth0") then return end
      stood = stood + 1
      assert.equal(1, got.rc)
      local address = w.results["c1 eth0"].ips[1].address:match("^[^/]*")
      assert.is_not_nil(t.read(leases .. "/" .. address))
    end)
    assert.is_true(stood > 0)
  end)
end)

describe("GC with few descriptors to be had", function()
  local conf = { type = "bridge", bridge = "br0", isGateway = true, ipMasq = true, removeUnused = true,
    ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } }
  local theirs = { id = "c2", pod = 2, conf = { name = "net2", bridge = "br1",
    ipam = { type = "host-local", ranges = { { { subnet = "10.2.0.0/24" } } } } } }

  local function gc(w, limit, ...)
    local valid = {}
    for i, id in ipairs { ... } do valid[i] = { containerID = id, ifname = "eth0" } end
    return t.cni { verb = "GC", conf = w:config { ["cni.dev/valid-attachments"] = t.list(valid) },
      host = w.host, netns = false, id = false, ifname = false, under = "prlimit --nofile=" .. limit }
  end

  it("loses nothing that is listed, and says so when it could not take what is not", function()
    t.needs("nft-nat")
    local w = world.new(conf, { pods = 3, forwarding = true })
    w:add { id = "c3", pod = 3 }
    w:add(theirs)
    local failed = 0
    for limit = 4, 20 do
      w:add()
      local got = gc(w, limit, "c1", "c3")
      w:check()
      w:check { id = "c3", pod = 3 }
      w:check(theirs)
      failed = failed + (got.rc ~= 0 and 1 or 0)
      w:let_go()
      got = gc(w, limit, "c3")
      failed = failed + (got.rc ~= 0 and 1 or 0)
      if got.rc == 0 then
        assert.is_nil(t.link(w.pods[1], "eth0"))
      else
        w:gc { { "c3" } }
      end
      assert.is_nil(t.link(w.pods[1], "eth0"))
      assert.same({}, t.files("/run/luacni/attachments/net/c1:eth0"))
      w:check { id = "c3", pod = 3 }
      w:check(theirs)
    end
    assert.is_true(failed > 3, "the limit was never felt")
  end)
end)

describe("A device that was lent", function()
  it("is not taken for gone because the sandbox could not be searched", function()
    local w = world.new({ type = "host-device", device = "dev1" })
    w:sh(t.pair("dev1", "end1"))
    for _, name in ipairs { "sendto", "recvmsg" } do
      each_call("ENOMEM", name, function(under)
        w:del()
        w:add()
        w:in_pod("ip link set eth0 down; ip link set eth0 name eth9")
        return t.cni { verb = "DEL", conf = w:config { prevResult = w.results["c1 eth0"] }, host = w.host,
          netns = w.pods[1], under = under }
      end, function(got)
        if got.rc ~= 0 then w:del() end
        assert.is_not_nil(t.link(w.host, "dev1"))
      end)
    end
  end)
end)

describe("A device that is there", function()
  it("is not looked for by somebody's alias because the look at its name failed", function()
    local w = world.new({ type = "host-device", device = "dev1" }, { neighbours = false })
    w:sh(t.pair("dev1", "end1") .. t.pair("dev2", "end2") .. "ip link set dev2 alias dev1")
    local failed = 0
    for _, name in ipairs { "sendto", "recvmsg" } do
      each_call({ "ENOMEM", "EIO", "EPERM" }, name, function(under)
        return t.cni { verb = "ADD", conf = w:config(), host = w.host, netns = w.pods[1], under = under }
      end, function(got)
        assert.is_not_nil(t.link(w.host, "dev2"))
        failed = failed + (got.rc ~= 0 and 1 or 0)
        w:del { prev = false }
        assert.is_not_nil(t.link(w.host, "dev1"))
      end)
      w:del { prev = false }
    end
    assert.is_true(failed > 0)
  end)
end)

describe("A sysctl", function()
  local path = "net/ipv4/conf/all/arp_ignore"

  -- Let the calls of a name fail in an ADD that writes it, which answers 0 when it has done so.
  local function each_write(name, optional)
    t.write("/etc/luacni/plugins/quiet.lua", ([[
      return { add = function(req) req.pod:set_sysctl { { "%s", "1", %s } } return {} end }
    ]]):format(path, optional))
    local w = world.new({ type = "quiet" })
    each_call("ENOMEM", name, function(under)
      assert.equal("0", t.sysctl(w.pods[1], path))
      return t.cni { verb = "ADD", type = "luacni", conf = w:config(), host = w.host, netns = w.pods[1],
        under = under }
    end, function(got)
      if got.rc == 0 then assert.equal("1", t.sysctl(w.pods[1], path)) end
      w:del { type = "luacni" }
      assert.equal("0", t.sysctl(w.pods[1], path))
    end)
  end

  it("that could not be read before it is written is an error of the ADD", function()
    each_write("read", false)
  end)

  it("that need not be is passed over when it is not there, and not when the call fails", function()
    local sysctl = require("netlink").ns.sysctl
    assert.is_true(sysctl(nil, { { "net/ipv4/none", "1", true } }))
    assert.is_nil((sysctl(nil, { { "net/ipv4/none", "1" } })))
    each_write("openat", true)
  end)
end)

describe("a bridge", function()
  it("that could not be locked down is not given to anybody", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true })
    local failed = 0
    each_call({ "EMFILE", "ENOMEM" }, "openat", function(under)
      w:del()
      return t.cni { verb = "ADD", type = "bridge", conf = w:config(), host = w.host, netns = w.pods[1],
        under = under, timeout = 20 }
    end, function(got, n)
      failed = failed + (got.rc ~= 0 and 1 or 0)
      local heard = got.rc == 0 and t.sysctl(w.host, "net/ipv6/conf/br0/accept_ra") or "0"
      assert.equal("0", heard, "call " .. n)
    end)
    assert.is_true(failed > 0)
    w:del()
  end)
end)
