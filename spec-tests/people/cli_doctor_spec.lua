-- SPDX-License-Identifier: MIT
-- luacni doctor: each kind of fault is found, with the command that mends it; after that command it is gone.

local t = require "support"

local folder, bin = "/etc/cni/net.d", "/run/spec/bin"
local host
local env

local function doctor(more)
  local out, status, err = t.sh({ t.build .. "/luacni", "doctor", "--json" }, { host = host, env = more or env })
  assert.equal("", err)
  return t.decode(out), status
end

-- What is found beyond the kernel's own limits, which are the machine's.
local function findings(more)
  local list, status = doctor(more)
  local found = {}
  for _, item in ipairs(list) do
    if item.level ~= "ok" and item.check ~= "kernel" then found[#found + 1] = item end
  end
  return found, status
end

-- One finding of a check, with a text; its command mends it.
local function mends(check, pattern, more)
  local found, status = findings(more)
  assert.equal(1, #found, t.json(found))
  local item = found[1]
  t.same({ check, item.level == "error" and 1 or 0 }, { item.check, status })
  assert.is_truthy(item.text:find(pattern, 1, true), item.text)
  assert.is_string(item.mend)
  t.run({ "sh", "-c", item.mend }, { env = more or env, host = host })
  t.same({}, (findings(more)))
  return item
end

local function network(name, plugins, file)
  t.write(("%s/%s.conflist"):format(folder, file or name),
    t.json { cniVersion = "1.0.0", name = name, plugins = plugins })
end

before_each(function()
  host = t.host("node", { lived_in = false })
  env = { "PATH=/run/spec/first:" .. os.getenv "PATH" .. ":" .. bin, "CNI_PATH=" .. bin }
  t.run(("mkdir -p %s; cp %s/luacni %s; for t in %s/cni-bin/*; do t=${t##*/}; [ $t = luacni ] || "
    .. "ln -s luacni %s/$t; done; mkdir -p /run/spec/first; ln -s %s/luacni /run/spec/first/luacni")
    :format(bin, t.build, bin, t.build, bin, bin))
  network("demo", { { type = "bridge", bridge = "demo0", ipam = { type = "host-local", subnet = "10.9.8.0/24" } } })
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results /run/spec/bin /run/spec/first /etc/luacni/plugins " .. folder)
  t.cleanup()
end)

local function luacni(words) return t.sh({ bin .. "/luacni", table.unpack(words) }, { host = host, env = env }) end

describe("luacni doctor", function()
  it("leaves no namespace of its own, and takes that of one that was killed", function()
    local left = "/run/luacni-doctor-4194305" -- beyond every process number
    t.run(("touch %s; unshare -n mount --bind /proc/self/ns/net %s"):format(left, left))
    t.run(("mountpoint -q %s"):format(left))
    t.sh { t.build .. "/luacni", "doctor" }
    for name in pairs(t.files "/run") do assert.is_nil(name:find("luacni-doctor", 1, true), name) end
  end)

  it("finds nothing where nothing is wrong, and changes nothing", function()
    t.netns "blue"
    assert.equal(0, select(2, luacni { "add", "demo", "blue" }))
    local before = t.snapshot { ns = { host } }
    local found, status = findings()
    t.same({ {}, 0 }, { found, status })
    t.same(before, t.snapshot { ns = { host } })
    assert.equal("", (t.sh "ls /run | grep doctor"))
    local out = luacni { "doctor" }
    for _, check in ipairs { "networks", "programs", "links", "path", "folders", "leftovers" } do
      assert.is_truthy(out:find("\nok       " .. check .. ": ", 1, true), out)
    end
    assert.is_nil(out:find("\27", 1, true))
  end)

  it("finds files of networks that are none, or are not used", function()
    t.write(folder .. "/30-bad.conflist", "{ nonsense")
    local found, status = findings()
    t.same({ 1, 1, "networks", "luacni validate /etc/cni/net.d/30-bad.conflist" }, { status, #found, found[1].check,
      found[1].mend })
    os.remove(folder .. "/30-bad.conflist")
    network("demo", { { type = "loopback" } }, "zz-late")
    network("odd", { { type = "bridge", isGatway = true, vlan = 5000, ipam = { type = "host-local",
      subnet = "10.7.0.0/24" } } })
    found = findings()
    t.same({ "networks", "luacni validate /etc/cni/net.d/odd.conflist",
      "network odd: plugins[0] (bridge): vlan: 5000 is not an integer from 0 to 4094 (and 1 more)" },
      { found[2].check, found[2].mend, found[2].text })
    os.remove(folder .. "/odd.conflist")
    mends("networks", "/etc/cni/net.d/zz-late.conflist is not used: network demo is in a file before it")
    t.run("rm -r " .. folder)
    assert.is_truthy(findings()[1].text:find("there is no network in /etc/cni/net.d", 1, true))
  end)

  it("finds programs that are missing, or cannot be executed, and links that lead nowhere", function()
    network("other", { { type = "wire" } })
    local found, status = findings()
    t.same({ 1, 1, "programs", nil }, { status, #found, found[1].check, found[1].mend })
    assert.is_truthy(found[1].text:find("network other uses type wire, and no folder of " .. bin, 1, true))
    t.write(bin .. "/wire", "#!/bin/sh\n")
    t.run("chmod 644 " .. bin .. "/wire")
    mends("programs", bin .. "/wire, which network other uses, is not executable")
    os.remove(folder .. "/other.conflist")
    os.remove(bin .. "/vlan")
    mends("links", "nothing calls luacni for type vlan")
    os.remove(bin .. "/bridge")
    found = findings()
    t.same({ "programs", "luacni link bridge", "links", "luacni link bridge" }, { found[1].check, found[1].mend,
      found[2].check, found[2].mend })
    t.run(("ln -s luacni %s/bridge; ln -s /no/such %s/ghost"):format(bin, bin))
    mends("links", bin .. "/ghost is a link to nothing")
    t.run(("ln -s luacni %s/ghost"):format(bin))
    mends("links", bin .. "/ghost is a link to luacni, which has no type of that name")
  end)

  it("finds plugins that stand in PATH before iproute2's bridge", function()
    local with = { "PATH=" .. bin .. ":" .. os.getenv "PATH", "CNI_PATH=" .. bin }
    local found, status = findings(with)
    t.same({ 1, 1, "path" }, { status, #found, found[1].check })
    assert.is_truthy(found[1].text:find(t.run "command -v bridge":gsub("%s+$", ""), 1, true), found[1].text)
    local path = t.run({ "sh", "-c", found[1].mend .. "; echo $PATH" }, { env = with }):gsub("%s+$", "")
    t.same({}, (findings { "PATH=" .. path, "CNI_PATH=" .. bin }))
  end)

  it("finds folders that others can write, or that nobody can", function()
    t.run "mkdir -p /var/lib/cni/networks; chmod 775 /var/lib/cni/networks"
    mends("folders", "/var/lib/cni/networks can be written by others than root")
    t.run("chown 1000 " .. bin)
    mends("folders", bin .. " is not root's")
    t.run "mount -o remount,ro /var/lib/cni"
    mends("folders", "/var/lib/cni is on /var/lib/cni, which is mounted read-only")
    t.write("/run/spec/first/file", "")
    mends("folders", "/run/spec/first/file is no folder", { env[1], env[2] .. ":/run/spec/first/file" })
  end)

  it("finds records that a reboot would not take away", function()
    -- Whatever is no tmpfs is taken for a disk.
    t.run "mkdir /run/luacni; mount --bind /proc /run/luacni"
    local found, status = findings()
    t.run "umount /run/luacni; rmdir /run/luacni"
    t.same({ 0, 1, "folders", "warning" }, { status, #found, found[1].check, found[1].level })
    assert.is_truthy(found[1].text:find("it outlives a reboot", 1, true), found[1].text)
    t.same({}, (findings()))
  end)

  it("says that it sees little without being root", function()
    local out, status = t.sh({ "setpriv", "--reuid", "1000", "--clear-groups", bin .. "/luacni", "doctor", "--json" },
      { host = host, env = env })
    local list = t.decode(out)
    t.same({ 1, "rights", "error", "sudo luacni doctor" }, { status, list[1].check, list[1].level, list[1].mend })
    list = doctor()
    t.same({ "rights", "ok" }, { list[1].check, list[1].level })
  end)

  it("finds scripts of this site that are refused", function()
    t.write("/etc/luacni/plugins/own.lua", "return { add = function() end }")
    t.run(("chmod 666 /etc/luacni/plugins/own.lua; ln -s luacni %s/own"):format(bin))
    local item = mends("scripts", "a script of this site cannot be loaded: /etc/luacni/plugins/own.lua: refused")
    assert.equal("chmod go-w /etc/luacni/plugins/own.lua", item.mend)
    t.write("/etc/luacni/plugins/own.lua", "return {")
    local found, status = findings()
    t.same({ 1, 1, "scripts" }, { status, #found, found[1].check })
    assert.is_truthy(found[1].text:find("own.lua:1", 1, true), found[1].text)
  end)

  it("finds what is left of dead attachments, and addresses that nobody has", function()
    t.netns "blue"
    luacni { "add", "demo", "blue" }
    t.remove_netns { name = "blue", path = "/run/netns/blue" }
    mends("leftovers", "namespace /run/netns/blue is gone")
    t.write("/var/lib/cni/networks/demo/10.9.8.7", "c7\r\neth0")
    local found, status = findings()
    t.same({ 0, 1, "warning" }, { status, #found, found[1].level })
    mends("leftovers", "10.9.8.7 of network demo is leased to container c7")
  end)

  it("finds a kernel that is too old to be stood on", function()
    local release = "/proc/sys/kernel/osrelease"
    local function told(version)
      t.write("/run/spec/first/release", version .. "\n")
      t.run(("mount --bind /run/spec/first/release %s"):format(release))
      local list, status = doctor()
      t.run("umount " .. release)
      for _, item in ipairs(list) do
        if item.check == "kernel" and item.text:find("needs 5.14", 1, true) then return item.level, item.text, status end
      end
    end
    for _, version in ipairs { "5.13.19-generic", "5.4.0", "4.19.0-27-amd64", "3.10.0" } do
      t.same({ "error", ("the kernel is %s; luacni needs 5.14, for the cookies of namespaces"):format(version), 1 },
        { told(version) })
    end
    for _, version in ipairs { "5.14.0-362.el9.x86_64", "6.1.0-44-amd64", "10.0-rc1", "no number" } do
      assert.is_nil(told(version), version)
    end
  end)

  it("takes no lease of a living pod for a leftover, in whatever folder a script has leased it", function()
    t.write("/etc/luacni/plugins/bridge.lua", [[
      local ranges = require "cni.ranges"
      return { add = function(req)
        local result = req:delegate "bridge"
        req:lease { dir = "/var/lib/cni/pools", network = "pool",
          sets = ranges.read { { where = "own", sets = { { { subnet = "10.60.0.0/24" } } } } } }
        return result
      end }]])
    t.netns "blue"
    luacni { "add", "demo", "blue" }
    assert.truthy(t.read "/var/lib/cni/pools/pool/10.60.0.2")
    t.same({}, (findings()))
    t.write("/var/lib/cni/pools/pool/10.60.0.9", "c9\r\neth0")
    mends("leftovers", "10.60.0.9 of network pool is leased to container c9")
    luacni { "del", "demo", "blue" }
    assert.is_nil(t.read "/var/lib/cni/pools/pool/10.60.0.2")
  end)

  it("says what the kernel cannot do: broken is what a network needs", function()
    local function levels()
      local by = {}
      for _, item in ipairs((doctor())) do
        for kind in pairs { ipvlan = 1, vlan = 1, dummy = 1, vrf = 1, macvlan = 1 } do
          if item.check == "kernel" and item.text:find("type " .. kind .. ":", 1, true) then by[kind] = item.level end
        end
      end
      return by
    end
    local before = levels()
    for kind, level in pairs(before) do t.same({ "warning", false }, { level, t.has(kind) }, kind) end
    for _, kind in ipairs { "ipvlan", "vlan", "dummy", "vrf", "macvlan" } do
      if not t.has(kind) then assert.equal("warning", before[kind], kind) end
    end
    network("other", { { type = "dummy", ipam = { type = "static" } } })
    assert.equal(not t.has "dummy" and "error" or nil, levels().dummy)
  end)
end)
