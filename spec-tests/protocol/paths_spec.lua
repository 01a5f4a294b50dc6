-- SPDX-License-Identifier: MIT
-- Paths that somebody else has a hand in: what others have put where leases are is not followed, and a
-- program that was named from one directory is not looked for from another.

local lfs = require "lfs"
local p = require "protocol"
local t = require "support"
local world = require "world"

describe("A lease directory that everybody may write", function()
  local dir = "/run/spec/open"

  local function call(verb)
    return t.cni({ verb = verb, type = "host-local", netns = "/run/netns/nowhere", conf = p.conf {
      ipam = { type = "host-local", subnet = "10.1.0.0/24", dataDir = dir } }, timeout = 20 })
  end

  before_each(function() t.run(("mkdir -p -m 1777 %s %s/net"):format(dir, dir)) end)
  after_each(function() t.run({ "rm", "-rf", dir, "/run/spec/victim" }) end)

  it("has its lock; a link in its place leads nowhere", function()
    p.ok(call("ADD"))
    p.silent(call("DEL"))
    t.run(("rm %s/net/lock; ln -s /run/spec/victim %s/net/lock"):format(dir, dir))
    p.error(call("ADD"), 5, "symbolic links")
    assert.is_nil(lfs.symlinkattributes("/run/spec/victim"))
    os.remove(dir .. "/net/lock")
    p.ok(call("ADD"))
    p.silent(call("DEL"))
  end)

  it("does not hold a call by a pipe in the lock's place", function()
    t.run(("mkfifo %s/net/lock"):format(dir))
    p.ok(call("ADD"))
    p.silent(call("DEL"))
  end)

  for _, name in ipairs({ "10.1.0.2", "last_reserved_ip.0" }) do
    it("has others' links read as no lease, and not written through: " .. name, function()
      t.write("/run/spec/victim", "mine")
      t.run(("ln -s /run/spec/victim %s/net/%s"):format(dir, name))
      call("ADD")
      call("DEL")
      assert.equal("mine", t.read("/run/spec/victim"))
    end)
  end
end)

describe("CNI_PATH with relative elements", function()
  local function place(name, says)
    local dir = "/run/spec/" .. name
    t.run({ "mkdir", "-p", dir .. "/bin" })
    t.write(dir .. "/bin/tell", "#!/bin/sh\necho " .. says .. " $CNI_COMMAND >>/run/spec/calls\n"
      .. [[cat >/dev/null; echo '{"cniVersion":"1.0.0","ips":[{"address":"10.7.0.2/24"}]}']])
    t.run({ "chmod", "+x", dir .. "/bin/tell" })
    return dir
  end

  it("is that of the ADD, wherever its undoing is called from", function()
    local here, elsewhere = place("here", "ours"), place("elsewhere", "planted")
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "tell" } })
    for _, paths in ipairs({ "bin", "./bin", "none:bin", "../here/bin" }) do
      os.remove("/run/spec/calls")
      local function from(dir, verb, conf)
        t.write("/run/spec/conf.json", t.conf_bytes(w:config(conf)))
        t.run(("cd %s && %s </run/spec/conf.json"):format(dir, t.cni_words({ verb = verb, type = "bridge", path = paths,
          host = w.host, netns = verb ~= "GC" and w.pods[1] or false, id = verb == "GC" and false or nil,
          ifname = verb == "GC" and false or nil })))
      end
      from(here, "ADD")
      from(elsewhere, "GC", { ["cni.dev/valid-attachments"] = t.list() })
      assert.is_nil(t.link(w.pods[1], "eth0"))
      local calls = t.read("/run/spec/calls")
      assert.equal("ours ADD\nours DEL\n", calls:sub(1, 18), paths)
    end
  end)
end)

describe("A lease directory with a relative path", function()
  it("is that of the ADD, wherever the DEL is called from", function()
    t.run({ "mkdir", "-p", "/run/spec/a", "/run/spec/b" })
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "host-local",
      subnet = "10.5.0.0/24", dataDir = "leases" } })
    local function from(dir, verb)
      t.write("/run/spec/conf.json", t.conf_bytes(w:config()))
      t.run(("cd %s && %s </run/spec/conf.json"):format(dir, t.cni_words({ verb = verb, type = "bridge", host = w.host,
        netns = w.pods[1] })))
    end
    from("/run/spec/a", "ADD")
    assert.is_truthy(t.read("/run/spec/a/leases/net/10.5.0.2"))
    from("/run/spec/b", "DEL")
    assert.is_nil(t.read("/run/spec/a/leases/net/10.5.0.2"))
    assert.is_nil(lfs.attributes("/run/spec/b/leases"))
  end)
end)
