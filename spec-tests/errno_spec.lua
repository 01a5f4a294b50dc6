-- SPDX-License-Identifier: MIT
-- An error is not an absence: what one system call's failure must not be taken for. The sweep over
-- every call of every plugin is in errno_sweep_spec.lua; here are the single places where something
-- was lost once.

local t = require "support"
local world = require "world"

local report = "/run/spec/report"

-- Let every call of a name fail, one a run: `run(under)` makes the plugin's call, under what makes its n-th
-- system call of that name fail; `judge(got)` looks at what came of it. Ends with the run that has no n-th.
local function each_call(errno, name, run, judge)
  for n = 1, 200 do
    local got = run(("%s -e %s -s %s -o %s %d"):format(t.helper("killat"), errno, name, report, n))
    if t.read(report):find("^finished") then
      assert.is_true(n > 1, "no " .. name .. " in this run")
      return
    end
    if judge then judge(got) end
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
      assert.same({}, t.files("/run/luacni/attachments"))
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
      if got.rc ~= 0 then
        failed = failed + 1
        assert.equal(0, gc().rc)
      end
      return got
    end, function()
      assert.same({}, t.files("/run/luacni/attachments"))
      for i = 1, 3 do assert.is_nil(t.link(w.pods[i], "eth0")) end
    end)
    assert.is_true(failed > 0)
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

describe("GC", function()
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
