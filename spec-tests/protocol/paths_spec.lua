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

describe("A relative dataDir", function()
  local with_leases = { type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "host-local",
    subnet = "10.5.0.0/24", dataDir = "/run/spec/a/leases" } }
  local relative = { ipam = t.merge(with_leases.ipam, { dataDir = "leases" }) }
  local tuned = { type = "tuning", mtu = 1400, dataDir = "/run/spec/a/tuned", ipam = false }

  local function new()
    t.run "rm -rf /run/spec/a; mkdir -p /run/spec/a /run/spec/b"
    return world.new(with_leases, { neighbours = false })
  end

  -- A call from a directory: its status, and what it prints.
  local function from(dir, w, verb, conf)
    local whole = verb == "GC" or verb == "STATUS"
    conf = w:config(t.merge({ prevResult = (verb == "CHECK" or verb == "DEL") and w.results["c1 eth0"] or nil }, conf))
    t.write("/run/spec/conf.json", t.conf_bytes(conf))
    local out, rc, err = t.sh(("cd %s && %s </run/spec/conf.json"):format(dir, t.cni_words({ verb = verb,
      type = conf.type, host = w.host, netns = not whole and w.pods[1] or false, id = whole and false or nil,
      ifname = whole and false or nil })))
    return rc, out .. err
  end

  local function refused(key, value, ...)
    local rc, out = from(...)
    assert.equal(1, rc, out)
    local e = t.decode(out)
    assert.equal(7, e.code)
    assert.equal(('%s: "%s" is not an absolute path'):format(key, value), e.msg)
    assert.equal("a relative path would depend on the caller's working directory", e.details)
  end

  it("is refused by ADD and STATUS, and nothing is made", function()
    local w = new()
    local before = w:picture()
    for _, verb in ipairs { "ADD", "STATUS" } do
      refused("ipam.dataDir", "leases", "/run/spec/a", w, verb, relative)
      refused("ipam.dataDir", "./leases", "/run/spec/a", w, verb,
        { ipam = t.merge(with_leases.ipam, { dataDir = "./leases" }) })
    end
    assert.is_nil(lfs.attributes "/run/spec/a/leases")
    t.same(before, w:picture())
    t.same({ 0, "" }, { from("/run/spec/b", w, "STATUS") })
    local made = w:add()
    local attached = w:picture()
    local behind = t.merge(tuned, { dataDir = "tuned", prevResult = made })
    for _, verb in ipairs { "ADD", "STATUS" } do refused("dataDir", "tuned", "/run/spec/a", w, verb, behind) end
    assert.is_nil(lfs.attributes "/run/spec/a/tuned")
    t.same(attached, w:picture())
    t.same({ 0, "" }, { from("/run/spec/b", w, "STATUS", t.merge(tuned, { prevResult = made })) })
    w:del()
    t.same(before, w:picture())
  end)

  it("holds up neither CHECK nor DEL nor GC of what is attached", function()
    for _, last in ipairs { "DEL", "GC" } do
      for _, lost in ipairs { false, true } do
        local w = new()
        local before = w:picture()
        w:add()
        assert.is_truthy(t.read "/run/spec/a/leases/net/10.5.0.2")
        if lost then t.run "rm -r /run/luacni/attachments" end
        t.same({ 0, "" }, { from("/run/spec/a", w, "CHECK", relative) })
        local function ends(valid)
          t.same({ 0, "" }, { from("/run/spec/a", w, last,
            t.merge(relative, { ["cni.dev/valid-attachments"] = last == "GC" and t.list(valid) or nil })) })
        end
        ends { { containerID = "c1", ifname = "eth0" } }
        assert.equal(last == "GC", t.read "/run/spec/a/leases/net/10.5.0.2" ~= nil)
        ends {}
        assert.is_nil(t.read "/run/spec/a/leases/net/10.5.0.2")
        if last == "DEL" or not lost then t.same(before, w:picture()) end
        t.cleanup()
      end
    end
  end)

  it("of the tuning holds up neither its CHECK nor its DEL", function()
    for _, lost in ipairs { false, true } do
      local w = new()
      local before = w:picture()
      local made = w:add()
      local behind = t.merge(tuned, { prevResult = made })
      assert.equal(0, (from("/run/spec/a", w, "ADD", behind)))
      assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
      if lost then t.run "rm -r /run/luacni/attachments" end
      behind = t.merge(behind, { dataDir = "tuned" })
      t.same({ 0, "" }, { from("/run/spec/a", w, "CHECK", behind) })
      t.same({ 0, "" }, { from("/run/spec/a", w, "DEL", behind) })
      assert.equal(1500, t.link(w.pods[1], "eth0").mtu)
      t.same({}, t.files "/run/spec/a/tuned")
      w:del()
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("that a script gives its leases is its mistake, and no DEL's or CHECK's", function()
    local w = world.new({ type = "own", ipam = false })
    t.run { "mkdir", "-p", "/run/spec/a" }
    local function write(dir)
      t.write("/etc/luacni/plugins/own.lua", ([[
        return { add = function(req)
          return { ips = req:lease { dir = %q, network = "net", requested = {}, sets = {
            { { subnet = "10.5.0.0/24", first = "10.5.0.2", last = "10.5.0.9", gateway = "10.5.0.1" } } } } }
        end }]]):format(dir))
    end
    write "leases"
    local call = { type = "luacni", prev = false }
    local e = w:fails("ADD", call)
    assert.matches("own.lua:2: req:lease: dir: expected an absolute path", e.msg, 1, true)
    assert.is_nil(lfs.attributes "leases")
  end)
end)
