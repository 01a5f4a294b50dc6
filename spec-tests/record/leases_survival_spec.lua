-- SPDX-License-Identifier: MIT
-- Leases outlive whoever else writes the directory, is killed in the middle, or cuts the power.

local t = require "support"
local lfs = require "lfs"
local world = require "lease_world"

local leases = require "cni.leases"
local netlink = require "netlink"

local base, dir, sets_of, spec_of, owner, content =
  world.base, world.dir, world.sets_of, world.spec_of, world.owner, world.content
local addresses, allocate, refused, files, child, open =
  world.addresses, world.allocate, world.refused, world.files, world.child, world.open
local held_by, net24, dual =
  world.held_by, world.net24, world.dual
local boot_file = "/proc/sys/kernel/random/boot_id"

after_each(t.cleanup)

describe("a change by somebody else", function()
  it("is noticed: a lease made, removed, renamed, given to another owner", function()
    allocate(spec_of(net24), "c1")
    t.write(dir .. "/10.1.0.3", content("f1"))
    assert.are.equal("10.1.0.4", allocate(spec_of(net24), "c2"))
    os.remove(dir .. "/10.1.0.4")
    assert.are.equal("", held_by("c2"))
    os.rename(dir .. "/10.1.0.3", dir .. "/10.1.0.9")
    assert.are.equal("10.1.0.9", held_by("f1"))
    os.remove(dir .. "/10.1.0.9")
    t.write(dir .. "/10.1.0.9", content("f2"))
    assert.are.equal("", held_by("f1"))
    assert.are.equal("10.1.0.9", held_by("f2"))
  end)

  it("is noticed however soon it comes, and however often", function()
    for i = 2, 120 do
      local s = open()
      assert.is_true(s:reserve("10.2.0." .. i, "c" .. i, "eth0"))
      s:close()
      os.remove(dir .. "/10.2.0." .. i)
      t.write(dir .. "/10.2.1." .. i, content("f" .. i))
      s = open()
      assert.are.same({}, s:find("c" .. i, "eth0"))
      assert.are.same({ "10.2.1." .. i }, s:find("f" .. i, "eth0"))
      s:close()
    end
  end)

  it("is noticed when it keeps the directory's mtime", function()
    allocate(spec_of(net24), "c1")
    t.run("touch -r " .. dir .. " /run/spec/ref && echo x >" .. dir .. "/10.1.0.8 && "
      .. "touch -r /run/spec/ref " .. dir)
    local s <close> = open()
    assert.is_false(s:reserve("10.1.0.8", "c2", "eth0"))
  end)

  it("is met with an index that is gone, cut, full of zeros, or another directory's", function()
    local spec = spec_of(net24)
    local damage = { "rm -r %s", "truncate -s 100 %s/*", "truncate -s -1 %s/*",
      "for f in %s/*; do s=$(stat -c %%s $f); truncate -s 0 $f; truncate -s $s $f; done",
      "for f in %s/*; do printf xxxx | dd of=$f bs=1 seek=60 conv=notrunc 2>/dev/null; done" }
    for i, command in ipairs(damage) do
      allocate(spec, "c" .. i)
      t.run(command:format(leases.index_dir))
      for j = 1, i do assert.are.equal("10.1.0." .. j + 1, held_by("c" .. j)) end
      refused(leases.allocate, spec, owner("c" .. i))
    end
  end)

  it("a directory that was removed and made anew is another directory", function()
    allocate(spec_of(net24), "c1")
    t.run({ "rm", "-r", dir })
    assert.are.equal("", held_by("c1"))
    assert.are.equal("10.1.0.2", allocate(spec_of(net24), "c2"))
  end)

  it("files that are no leases are left alone", function()
    local own = { ["README"] = "hello", ["10.1.0.02"] = "x", ["FD01::5"] = "y",
      ["10.1.0.5.bak"] = "", ["fd01:0:0::6"] = "z", ["sub/10.1.0.6"] = "c9\r\neth0" }
    for name, bytes in pairs(own) do t.write(dir .. "/" .. name, bytes) end
    allocate(spec_of(dual), "c1")
    leases.gc(spec_of(dual), {})
    assert.are.same(own, files())
  end)

  it("an address that somebody keeps with a note is neither given nor collected", function()
    t.write(dir .. "/10.1.0.2", "the printer, see ticket 12")
    t.run({ "mkdir", "-p", dir .. "/10.1.0.3" })
    t.run({ "ln", "-s", "/nowhere", dir .. "/10.1.0.4" })
    assert.are.equal("10.1.0.5", allocate(spec_of(net24), "c1"))
    assert.are.same({ "10.1.0.5" }, leases.gc(spec_of(net24), {}))
    assert.are.equal("the printer, see ticket 12", t.read(dir .. "/10.1.0.2"))
  end)
end)

describe("debris", function()
  it("W-64: files that are empty, blank, zeros or cut off are reclaimed by the next change",
    function()
      allocate(spec_of(net24), "c1")
      t.write(dir .. "/10.1.0.3", "")
      t.write(dir .. "/10.1.0.4", " \n")
      t.write(dir .. "/10.1.0.5", ("\0"):rep(9))
      t.write(dir .. "/10.1.0.6", "c9\r\n")
      t.write(dir .. "/10.1.0.7", "c9\r")
      assert.are.equal("10.1.0.3", allocate(spec_of(net24), "c2"))
      assert.are.same({ ["10.1.0.2"] = content "c1", ["10.1.0.3"] = content "c2" }, files())
    end)

  it("whole files are not debris, whatever white space is around", function()
    local whole = { ["10.1.0.2"] = "a", ["10.1.0.3"] = "b\n", ["10.1.0.4"] = "c\r\neth0\r\n",
      ["10.1.0.5"] = "\td\r\neth0 " }
    for name, bytes in pairs(whole) do t.write(dir .. "/" .. name, bytes) end
    assert.are.equal("10.1.0.6", allocate(spec_of(net24), "n"))
    leases.release(spec_of(net24), owner("n"))
    assert.are.same(whole, files())
    for _, id in ipairs { "a", "b", "c", "d" } do
      assert.are.equal(1, #leases.release(spec_of(net24), owner(id)))
    end
  end)

  it("that cannot be removed keeps its address taken, and nothing hangs", function()
    t.needs("chattr")
    allocate(spec_of(net24), "c1")
    t.write(dir .. "/10.1.0.3", "")
    if select(2, t.sh({ "chattr", "+i", dir .. "/10.1.0.3" })) ~= 0 then
      return pending("no immutable files here")
    end
    local got = allocate(spec_of(net24), "c2")
    t.run({ "chattr", "-i", dir .. "/10.1.0.3" })
    assert.are.equal("10.1.0.4", got)
  end)
end)

describe("a boot", function()
  local function other_boot(id)
    t.write("/run/spec/boot_id", (id or "11111111-2222-3333-4444-555555555555") .. "\n")
    t.run({ "mount", "--bind", "/run/spec/boot_id", boot_file })
  end

  after_each(function() t.sh({ "umount", "-l", boot_file }) end)

  it("voids our leases of the one before, and none of its own", function()
    allocate(spec_of(net24), "c1")
    other_boot()
    t.run({ "rm", "-r", leases.index_dir })
    assert.are.equal("", held_by("c1"))
    assert.are.equal("10.1.0.3", allocate(spec_of(net24), "c2"))
    assert.are.same({ ["10.1.0.3"] = content "c2" }, files())
    assert.are.equal("10.1.0.3", held_by("c2"))
  end)

  it("is noticed where /run outlives it", function()
    allocate(spec_of(net24), "c1")
    other_boot()
    assert.are.equal("", held_by("c1"))
    t.sh({ "umount", boot_file })
    assert.are.equal("10.1.0.2", held_by("c1"))
  end)

  it("keeps the reference's leases that are younger than it", function()
    t.write(dir .. "/10.1.0.2", content("c1"))
    t.write(dir .. "/10.1.0.3", "old")
    assert.are.equal("10.1.0.4", allocate(spec_of(net24), "c2"))
    t.run({ "rm", "-r", leases.index_dir })
    assert.are.equal("10.1.0.5", allocate(spec_of(net24), "c3"))
  end)

  -- ctime cannot be set from outside: a disk image that is written while it is not mounted.
  local function image_with_old_lease()
    t.needs("mkfs.ext4", "debugfs", "losetup")
    t.run("mkdir -p /run/spec/image/net /run/spec/disk && cd /run/spec/image/net && "
      .. "printf 'old1\\r\\neth0' >10.1.0.2 && printf 'old2\\r\\neth0' >10.1.0.3 && "
      .. "printf 'the printer' >10.1.0.4 && truncate -s 8M /run/spec/disk.img && "
      .. "mkfs.ext4 -q -d /run/spec/image /run/spec/disk.img && for n in 2 4; do "
      .. "debugfs -w -R \"set_inode_field /net/10.1.0.$n ctime 20200101\" /run/spec/disk.img; "
      .. "done 2>/dev/null && { "
      .. "test -e /dev/loop-control && mount -o loop /run/spec/disk.img /run/spec/disk; }")
  end

  it("voids the reference's leases that are older, and only those, on a disk", function()
    if not lfs.attributes("/dev/loop-control") then return pending("no loop devices here") end
    image_with_old_lease()
    local spec = { dir = "/run/spec/disk", network = "net", sets = net24 }
    finally(function() t.sh({ "umount", "/run/spec/disk" }) end)
    assert.are.equal("", addresses(leases.held(spec, owner("old1"))))
    assert.are.equal("10.1.0.3", addresses(leases.held(spec, owner("old2"))))
    assert.are.equal("10.1.0.2", allocate(spec, "c1"))
    assert.are.equal("10.1.0.5", allocate(spec, "c2"))
    local found = files("/run/spec/disk/net")
    assert.are.same({ ["10.1.0.2"] = content "c1", ["10.1.0.3"] = content "old2",
      ["10.1.0.4"] = "the printer", ["10.1.0.5"] = content "c2" }, found)
  end)
end)

describe("the lock", function()
  local function hold(seconds)
    t.run({ "mkdir", "-p", dir })
    t.run(("(flock %s/lock sleep %s >/dev/null 2>&1 &)"):format(dir, seconds))
    t.run(("until ! flock -n %s/lock true; do sleep 0.01; done"):format(dir))
  end

  it("is the reference's: whoever holds it makes us wait", function()
    hold(0.4)
    local before = netlink.sys.clock()
    allocate(spec_of(net24), "c1")
    assert.is_true(netlink.sys.clock() - before > 0.2)
  end)

  it("is waited for until a deadline; then the runtime is told to try again (11)", function()
    hold(3)
    leases.timeout_ms = 150
    finally(function() leases.timeout_ms = 30000 end)
    local before = netlink.sys.clock()
    local err = refused(leases.allocate, spec_of(net24), owner("c1"))
    assert.are.equal(11, err.code)
    assert.is_true(netlink.sys.clock() - before < 2)
  end)

  it("is given back on close, once, and twice is fine", function()
    local s = open()
    assert.are.equal("lease store (open)", tostring(s))
    s:close()
    s:close()
    assert.are.equal("lease store (closed)", tostring(s))
    assert.has_error(function() s:find("c1", "eth0") end)
    open():close()
  end)

  it("of a directory that is removed meanwhile guards nothing: it is made anew", function()
    hold(0.3)
    t.run(("(sleep 0.1; rm -r %s) >/dev/null 2>&1 &"):format(dir))
    assert.are.equal("10.1.0.2", allocate(spec_of(net24), "c1"))
    assert.are.same({ ["10.1.0.2"] = content "c1" }, files())
  end)
end)

describe("a place where no index can be", function()
  it("costs time, and nothing else", function()
    t.write("/run/luacni", "in the way")
    finally(function() os.remove("/run/luacni") end)
    for i = 1, 20 do assert.are.equal("10.1.0." .. i + 1, allocate(spec_of(net24), "c" .. i)) end
    assert.are.equal("10.1.0.7", held_by("c6"))
    leases.release(spec_of(net24), owner("c6"))
    refused(leases.allocate, spec_of(net24), owner("c7"))
    assert.are.equal(19, leases.usage(spec_of(net24))[1].used)
  end)

  it("a full /run does no harm either", function()
    t.run("mkdir -p /run/luacni && mount -t tmpfs -o size=8k tmpfs /run/luacni")
    finally(function() t.sh("umount /run/luacni") end)
    for i = 1, 200 do allocate(spec_of(net24), "c" .. i) end
    assert.are.equal(200, leases.usage(spec_of(net24))[1].used)
    for i = 1, 200 do assert.are.equal("10.1.0." .. i + 1, held_by("c" .. i)) end
  end)
end)

-- What must hold for a directory in whatever state it was left.
local function check_sound(spec)
  local taken = {}
  for name, bytes in pairs(files()) do
    -- A file that was not whole yet; the next change removes it.
    if name ~= ".luacni-new" then
      assert.matches("^%w+\r\neth0$", bytes, nil, name)
      taken[#taken + 1] = name
    end
  end
  assert.are.equal(#taken, leases.usage(spec)[1].used)
  for _, name in ipairs(taken) do
    local id = t.read(dir .. "/" .. name):match("^%w+")
    assert.are.equal(name, addresses(leases.held(spec, owner(id))))
  end
  local last = t.read(dir .. "/last_reserved_ip.0")
  assert.is_truthy(not last or netlink.ip.pack(last), last)
end

describe("SIGKILL", function()
  it("at any system call of an ADD or DEL loses and doubles no address", function()
    t.needs("strace")
    local spec = spec_of(sets_of({ { subnet = "10.1.0.0/24", rangeStart = "10.1.0.98" } }))
    local program = child([[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/24", rangeStart = "10.1.0.98" } } } } } }
      local id = io.read("l")
      io.stdout:write(leases.allocate(spec, { id = id, ifname = "eth0" })[1].address, "\n")
      io.stdout:flush()
      leases.release(spec, { id = id, ifname = "eth0" })
      io.stdout:write("freed\n")]])
    allocate(spec, "keep")
    local calls = "openat,write,pwrite64,linkat,unlinkat,renameat,renameat2,ftruncate,"
      .. "utimensat,fsetxattr,pread64,close,flock,mkdir"
    local function run(inject, id)
      return t.sh(("exec strace -o /run/spec/trace -e trace=%s -e %s %s"):format(calls, inject,
        program), { stdin = id .. "\n" })
    end
    run("signal=none", "first")
    -- strace counts each kind of call for itself.
    local places, count = {}, {}
    for line in t.read("/run/spec/trace"):gmatch("[^\n]+") do
      local name = line:match("^[%w_]+") or "end"
      count[name] = (count[name] or 0) + 1
      if name ~= "end" and (places[1] or line:find(dir, 1, true)) then
        places[#places + 1] = ("%s:signal=KILL:when=%d"):format(name, count[name])
      end
    end
    local killed = 0
    for i, place in ipairs(places) do
      local out, status = run("inject=" .. place, "k" .. i)
      if status ~= 0 then killed = killed + 1 end
      check_sound(spec)
      local mine = addresses(leases.held(spec, owner("k" .. i)))
      if out:find("^%d") and not out:find("freed") then
        assert.is_true(mine == "" or mine == out:match("^[^/]*"))
      end
      leases.release(spec, owner("k" .. i))
      assert.are.equal("10.1.0.98", addresses(leases.held(spec, owner("keep"))))
    end
    assert.is_true(killed > 40, "only " .. killed .. " places to kill at")
    assert.are.same({ ["10.1.0.98"] = content "keep" }, files())
  end)

  it("in the middle of an overwrite leaves a file that the next change removes, and a look does not", function()
    local spec = spec_of(net24)
    allocate(spec, "keep")
    -- As the killed one leaves it: it had said that the index is not to be trusted.
    t.run("rm -r " .. leases.index_dir .. "; printf 10.1.0.9 >" .. dir .. "/.luacni-new")
    assert.equal("10.1.0.2", held_by("keep"))
    assert.equal("10.1.0.9", t.read(dir .. "/.luacni-new"))
    leases.release(spec, owner("none"))
    assert.equal("10.1.0.9", t.read(dir .. "/.luacni-new"))
    leases.release(spec, owner("keep"))
    assert.is_nil(t.read(dir .. "/.luacni-new"))
  end)

  it("at random moments of many processes leaves a directory that is right", function()
    local spec = spec_of(sets_of({ { subnet = "10.1.0.0/22" } }))
    local program = child([[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/22" } } } } } }
      for i = 1, 400 do
        local o = { id = arg[1] .. "x" .. i, ifname = "eth0" }
        leases.allocate(spec, o)
        if i % 3 > 0 then leases.release(spec, o) end
      end]])
    for round = 1, 12 do
      t.sh(("for p in 1 2 3; do timeout -s KILL 0.%03d %s r%dp$p "
        .. "2>/dev/null & done; wait"):format(20 + round * 13, program, round))
      check_sound(spec)
    end
  end)
end)

describe("many processes at once", function()
  it("P-STT-01: 50 of them get 50 addresses, and free them all", function()
    local program = child([[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } } }
      local o = { id = arg[2], ifname = "eth0" }
      if arg[1] == "DEL" then return leases.release(spec, o) end
      for _, ip in ipairs(leases.allocate(spec, o)) do print(ip.address) end]])
    local out = t.run("seq 50 | xargs -P 50 -I{} " .. program .. " ADD c{}")
    local seen, n = {}, 0
    for address in out:gmatch("%S+") do
      assert.is_nil(seen[address], address)
      seen[address], n = true, n + 1
    end
    assert.are.equal(100, n)
    assert.are.equal(50, leases.usage(spec_of(dual))[2].used)
    t.run("seq 50 | xargs -P 50 -I{} " .. program .. " DEL c{}")
    assert.are.same({}, files())
    assert.are.equal(0, leases.usage(spec_of(dual))[1].used)
  end)
end)
