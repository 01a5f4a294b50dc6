-- SPDX-License-Identifier: MIT
-- netlink.store and cni.leases: what is promised about addresses, whoever else writes the
-- directory, is killed, or cuts the power.

local t = require "support"
local lfs = require "lfs"

local fail = require "cni.fail"
local leases = require "cni.leases"
local netlink = require "netlink"
local ranges = require "cni.ranges"
local store = netlink.store

local base = "/var/lib/cni/networks"
local dir = base .. "/net"
local boot_file = "/proc/sys/kernel/random/boot_id"

local function sets_of(...)
  local raw = {}
  for i, list in ipairs { ... } do raw[i] = list end
  return ranges.read { { where = "ranges", sets = raw } }
end

local function spec_of(sets, requested)
  return { dir = base, network = "net", sets = sets, requested = requested }
end

local function owner(id, ifname)
  return { id = id, ifname = ifname or "eth0" }
end

local function content(id, ifname)
  return id .. "\r\n" .. (ifname or "eth0")
end

local function addresses(ips)
  local list = {}
  for i, ip in ipairs(ips) do list[i] = ip.address:match("^[^/]*") end
  return table.concat(list, " ")
end

local function allocate(spec, id) return addresses(leases.allocate(spec, owner(id))) end

local function refused(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_true(fail.is(err), tostring(err))
  return err
end

-- Files that are leases, name -> content.
local function files(of)
  local found = {}
  for name, bytes in pairs(t.files(of or dir)) do
    if name ~= "lock" and not name:find("^last_reserved_ip") then found[name] = bytes end
  end
  return found
end

-- A child of ours: Lua code with the store's modules at hand.
local function lua(code, opts)
  t.write("/run/spec/child.lua", 'local leases = require "cni.leases"\n'
    .. 'local ranges, netlink = require "cni.ranges", require "netlink"\n' .. code)
  return t.sh("exec lua5.4 /run/spec/child.lua", opts)
end

local net24 = sets_of({ { subnet = "10.1.0.0/24" } })
local dual = sets_of({ { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } })

local function open() return assert(store.open(dir, leases.index_dir)) end

local function held_by(id, ifname)
  return addresses(leases.held(spec_of(dual), owner(id, ifname)))
end

after_each(t.cleanup)

describe("a lease", function()
  it("is a file with the reference's name, content and mode, beside its lock", function()
    assert.are.equal("10.1.0.2 fd01::2", allocate(spec_of(dual), "c1"))
    assert.are.same({ ["10.1.0.2"] = "c1\r\neth0", ["fd01::2"] = "c1\r\neth0", lock = "",
      ["last_reserved_ip.0"] = "10.1.0.2", ["last_reserved_ip.1"] = "fd01::2" }, t.files(dir))
    assert.are.equal("rw-------", lfs.attributes(dir .. "/10.1.0.2", "permissions"))
    assert.are.equal("rw-------", lfs.attributes(dir .. "/last_reserved_ip.0", "permissions"))
    assert.are.equal("rwxr-x---", lfs.attributes(dir .. "/lock", "permissions"))
    assert.are.equal("rwxr-xr-x", lfs.attributes(dir, "permissions"))
  end)

  it("comes with the subnet's prefix length and the gateway", function()
    assert.are.same({ { address = "10.1.0.2/24", gateway = "10.1.0.1" },
      { address = "fd01::2/64", gateway = "fd01::1" } },
      leases.allocate(spec_of(dual), owner("c1")))
  end)

  it("is found by its owner, and by nobody else", function()
    allocate(spec_of(dual), "c1")
    assert.are.equal("10.1.0.2 fd01::2", held_by("c1"))
    assert.are.equal("", held_by("c1", "eth1"))
    assert.are.equal("", held_by("c"))
    assert.are.equal("", held_by("c11"))
  end)

  it("is freed for its owner, twice is fine, and nobody else's goes with it", function()
    allocate(spec_of(dual), "c1")
    allocate(spec_of(dual), "c2")
    local freed = leases.release({ dir = base, network = "net" }, owner("c1"))
    table.sort(freed)
    assert.are.same({ "10.1.0.2", "fd01::2" }, freed)
    assert.are.same({}, leases.release({ dir = base, network = "net" }, owner("c1")))
    assert.are.same({ ["10.1.0.3"] = "c2\r\neth0", ["fd01::3"] = "c2\r\neth0" }, files())
  end)

  it("of another interface of the container is another lease", function()
    local spec = spec_of(net24)
    leases.allocate(spec, owner("c1", "eth0"))
    leases.allocate(spec, owner("c1", "eth1"))
    leases.release(spec, owner("c1", "eth1"))
    assert.are.same({ ["10.1.0.2"] = "c1\r\neth0" }, files())
  end)

  it("of an old version, with the ID alone, is found and freed", function()
    t.write(dir .. "/10.1.0.7", "old")
    t.write(dir .. "/10.1.0.8", " older\n")
    assert.are.equal("10.1.0.7", held_by("old"))
    assert.are.equal("10.1.0.8", held_by("older", "net7"))
    assert.are.same({ "10.1.0.7" }, leases.release(spec_of(net24), owner("old")))
    assert.are.same({ ["10.1.0.8"] = " older\n" }, files())
  end)

  it("of an old version stays when the container has newer ones to free", function()
    t.write(dir .. "/10.1.0.7", "c1")
    t.write(dir .. "/10.1.0.8", "c1\r\neth0")
    assert.are.same({ "10.1.0.8" }, leases.release(spec_of(net24), owner("c1")))
    assert.are.same({ "10.1.0.7" }, leases.release(spec_of(net24), owner("c1")))
  end)

  it("with an ID of 200 bytes is one like any other", function()
    local id = ("x"):rep(200)
    assert.are.equal("10.1.0.2", allocate(spec_of(net24), id))
    assert.are.equal("10.1.0.2", held_by(id))
    assert.are.equal("", held_by(("x"):rep(199)))
  end)
end)

describe("looking", function()
  it("makes nothing where there is nothing", function()
    local spec = spec_of(dual)
    assert.are.same({}, leases.held(spec, owner("c1")))
    assert.are.same({}, leases.release(spec, owner("c1")))
    assert.are.same({}, leases.gc(spec, {}))
    assert.are.equal("10.1.0.2 fd01::2", addresses(leases.peek(spec, owner("c1"))))
    assert.are.same({ used = 0, size = 253, full = false }, leases.usage(spec)[1])
    leases.status(spec)
    assert.is_nil(lfs.attributes(base))
    assert.is_nil(lfs.attributes(leases.index_dir))
  end)

  it("P-STA-09: changes no file, not even debris", function()
    allocate(spec_of(dual), "c1")
    t.write(dir .. "/10.1.0.9", "")
    local before = t.files(dir)
    leases.held(spec_of(dual), owner("c1"))
    leases.peek(spec_of(dual), owner("c2"))
    leases.usage(spec_of(dual))
    leases.status(spec_of(dual))
    assert.are.same(before, t.files(dir))
  end)

  it("a dry run says what the next ADD gets", function()
    for i = 1, 5 do
      local would = addresses(leases.peek(spec_of(dual), owner("c" .. i)))
      assert.are.equal(would, allocate(spec_of(dual), "c" .. i))
    end
    refused(leases.peek, spec_of(dual), owner("c1"))
  end)
end)

describe("an allocation", function()
  local few = sets_of({ { subnet = "10.1.0.0/24", rangeStart = "10.1.0.10",
    rangeEnd = "10.1.0.12" } })

  it("W-66: is for all sets or for none", function()
    local second = sets_of({ { subnet = "10.1.0.0/24" } }, { { subnet = "10.2.0.0/24",
      rangeStart = "10.2.0.9", rangeEnd = "10.2.0.9" } })
    assert.are.equal("10.1.0.2 10.2.0.9", allocate(spec_of(second), "c1"))
    local before = t.files(dir)
    local err = refused(leases.allocate, spec_of(second), owner("c2"))
    assert.matches("range set 1 is full: 1 of 1", err.msg)
    assert.are.same(before, t.files(dir))
  end)

  it("from a full set is an error with the count, until something is freed", function()
    for i = 1, 3 do allocate(spec_of(few), "c" .. i) end
    local err = refused(leases.allocate, spec_of(few), owner("c4"))
    assert.matches("3 of 3", err.msg)
    assert.are.equal("10.1.0.10-10.1.0.12", err.details)
    leases.release(spec_of(few), owner("c2"))
    assert.are.equal("10.1.0.11", allocate(spec_of(few), "c4"))
  end)

  it("never gives the gateway, nor counts it", function()
    local spec = spec_of(sets_of({ { subnet = "10.1.0.0/29", gateway = "10.1.0.3" } }))
    local got = {}
    for i = 1, 5 do got[i] = allocate(spec, "c" .. i) end
    assert.are.same({ "10.1.0.1", "10.1.0.2", "10.1.0.4", "10.1.0.5", "10.1.0.6" }, got)
    assert.are.same({ used = 5, size = 5, full = true }, leases.usage(spec)[1])
    local err = refused(leases.status, spec)
    assert.are.equal(50, err.code)
    assert.matches("5 of 5", err.msg)
  end)

  it("W-67: a second one for the same owner is an error, requested or not", function()
    allocate(spec_of(net24), "c1")
    local err = refused(leases.allocate, spec_of(net24), owner("c1"))
    assert.matches("holds 10.1.0.2 of range set 0 already", err.msg)
    err = refused(leases.allocate, spec_of(net24, { "10.1.0.50" }), owner("c1"))
    assert.matches("holds 10.1.0.2 of range set 0 already", err.msg)
    err = refused(leases.allocate, spec_of(net24, { "10.1.0.2" }), owner("c1"))
    assert.matches("holds 10.1.0.2 of range set 0 already", err.msg)
    assert.are.same({ ["10.1.0.2"] = "c1\r\neth0" }, files())
  end)

  it("an owner of another range may have one of this", function()
    t.write(dir .. "/192.168.0.9", content("c1"))
    assert.are.equal("10.1.0.2", allocate(spec_of(net24), "c1"))
  end)

  it("gives what is asked for, and goes on behind it", function()
    assert.are.equal("10.1.0.50", allocate(spec_of(net24, { "10.1.0.50" }), "c1"))
    assert.are.equal("10.1.0.50", t.read(dir .. "/last_reserved_ip.0"))
    assert.are.equal("10.1.0.51", allocate(spec_of(net24), "c2"))
  end)

  it("takes requests in their order, each for the set it lies in", function()
    assert.are.equal("10.1.0.7 fd01::7",
      allocate(spec_of(dual, { "fd01::7", "10.1.0.7" }), "c1"))
    assert.are.equal("10.1.0.8 fd01::9", allocate(spec_of(dual, { "fd01::9" }), "c2"))
  end)

  it("W-68: with a request that has no set of its own is an error naming it, always the same",
    function()
      for _ = 1, 5 do
        local err = refused(leases.allocate,
          spec_of(net24, { "10.1.0.9", "10.1.0.8", "10.9.0.1" }), owner("c1"))
        assert.matches(": 10.1.0.8, 10.9.0.1$", err.msg)
      end
      assert.are.same({}, files())
    end)

  it("refuses a request for the gateway, or for what is taken", function()
    assert.matches("is the gateway",
      refused(leases.allocate, spec_of(net24, { "10.1.0.1" }), owner("c1")).msg)
    allocate(spec_of(net24, { "10.1.0.5" }), "c1")
    assert.matches("10.1.0.5 of range set 0 .* is leased already",
      refused(leases.allocate, spec_of(net24, { "10.1.0.5" }), owner("c2")).msg)
    assert.are.same({ ["10.1.0.5"] = "c1\r\neth0" }, files())
  end)

  it("W-65: that cannot write where it went on keeps no address", function()
    t.run({ "mkdir", "-p", dir .. "/last_reserved_ip.1" })
    refused(leases.allocate, spec_of(dual), owner("c1"))
    assert.are.same({}, files())
    assert.are.equal("", held_by("c1"))
  end)

  it("starts over when last_reserved_ip holds no address of the set", function()
    for _, text in ipairs { "", "10.9.0.1", "nonsense", "10.1.0.4\n", "fd01::4" } do
      t.write(dir .. "/last_reserved_ip.0", text)
      assert.are.equal("10.1.0.2", addresses(leases.peek(spec_of(net24), owner("c1"))))
    end
    t.write(dir .. "/last_reserved_ip.0", "10.1.0.4")
    assert.are.equal("10.1.0.5", addresses(leases.peek(spec_of(net24), owner("c1"))))
  end)

  it("finds the one free address among 60000, and counts them", function()
    local spec = spec_of(sets_of({ { subnet = "10.0.0.0/14" } }))
    lua([[
      local s = assert(netlink.store.open("]] .. dir .. [[", leases.index_dir))
      for i = 2, 60001 do
        if i ~= 40000 then
          assert(s:reserve(("10.0.%d.%d"):format(i >> 8, i & 255), "c" .. i, "eth0"))
        end
      end
      assert(s:set_last(0, "10.0.234.97"))]])
    assert.are.equal(59999, leases.usage(spec)[1].used)
    local s <close> = open()
    assert.are.equal("10.0.156.64", s:next_free("10.0.0.2", "10.3.255.254"))
    assert.are.equal("10.0.234.98", s:next_free("10.0.156.65", "10.3.255.254"))
    assert.are.same({ "10.0.1.0" }, s:find("c256", "eth0"))
  end)
end)

describe("the directory of the reference", function()
  local function reference(verb, id, network, config)
    local a = t.cni { verb = verb, type = "host-local", bin = "reference", id = id,
      netns = "/run/netns/none", ifname = "eth0", conf = { cniVersion = "1.0.0", name = network,
        ipam = { type = "host-local", ranges = config } } }
    if a.rc ~= 0 or verb ~= "ADD" then return nil, a.rc end
    return addresses(a.json.ips), 0
  end

  local configs = {
    { { { subnet = "10.1.0.0/28" } } },
    { { { subnet = "10.1.0.0/28", rangeStart = "10.1.0.3", rangeEnd = "10.1.0.9",
      gateway = "10.1.0.5" } } },
    { { { subnet = "10.1.0.0/28", gateway = "10.1.0.14" } }, { { subnet = "fd01::/124" } } },
    { { { subnet = "10.1.0.0/24", rangeStart = "10.1.0.5", rangeEnd = "10.1.0.7" },
      { subnet = "10.2.0.0/24", rangeStart = "10.2.0.1", rangeEnd = "10.2.0.4" },
      { subnet = "10.3.0.0/30" } } },
    { { { subnet = "10.1.0.248/29", rangeEnd = "10.1.0.255" },
      { subnet = "10.1.1.0/24", rangeEnd = "10.1.1.4" } } },
  }

  for n, config in ipairs(configs) do
    it("is read and written in turns, and addresses come in its order, case " .. n, function()
      math.randomseed(n)
      local sets = sets_of(table.unpack(config))
      local spec = { dir = base, network = "mixed", sets = sets }
      local live = {}
      for _ = 1, 60 do
        local id = "c" .. math.random(12)
        local other
        if live[id] then
          live[id] = nil
          reference("DEL", id, "pure", config)
          if math.random(2) == 1 then
            reference("DEL", id, "mixed", config)
          else
            leases.release(spec, owner(id))
          end
        else
          local wanted = reference("ADD", id, "pure", config)
          if math.random(2) == 1 then
            other = reference("ADD", id, "mixed", config)
          else
            local ok, ips = pcall(leases.allocate, spec, owner(id))
            other = ok and addresses(ips) or nil
          end
          assert.are.equal(wanted, other)
          live[id] = wanted
        end
      end
      assert.are.same(t.files(base .. "/pure"), t.files(base .. "/mixed"))
    end)
  end

  it("checks our leases, frees them, and we its", function()
    local config = { { { subnet = "10.1.0.0/24" } } }
    allocate(spec_of(net24), "ours")
    assert.are.equal("10.1.0.3", reference("ADD", "theirs", "net", config))
    local _, rc = reference("CHECK", "ours", "net", config)
    assert.are.equal(0, rc)
    assert.are.equal("10.1.0.3", held_by("theirs"))
    reference("DEL", "ours", "net", config)
    assert.are.equal("", held_by("ours"))
    assert.are.same({ "10.1.0.3" }, leases.release(spec_of(net24), owner("theirs")))
    assert.are.same({}, files())
  end)
end)

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

describe("STATUS", function()
  it("names a directory that cannot be written, by code 50", function()
    t.run("mkdir -p /var/lib/cni && mount -t tmpfs -o ro tmpfs /var/lib/cni")
    finally(function() t.sh("umount /var/lib/cni") end)
    local err = refused(leases.status, spec_of(net24))
    assert.are.equal(50, err.code)
    assert.matches("Read%-only", err.msg)
  end)

  it("names one that has no room", function()
    t.run("mkdir -p " .. base .. " && mount -t tmpfs -o nr_inodes=1 tmpfs " .. base)
    finally(function() t.sh("umount " .. base) end)
    assert.are.equal(50, refused(leases.status, spec_of(net24)).code)
    refused(leases.allocate, spec_of(net24), owner("c1"))
  end)
end)

describe("GC", function()
  it("P-GC-01: frees what is not valid, by container and interface", function()
    leases.allocate(spec_of(dual), owner("c1"))
    leases.allocate(spec_of(dual), owner("c1", "eth1"))
    leases.allocate(spec_of(dual), owner("c2"))
    t.write(dir .. "/10.1.0.77", "c1")
    t.write(dir .. "/10.1.0.78", "c3")
    local freed = leases.gc({ dir = base, network = "net" }, { ["c1/eth0"] = true })
    table.sort(freed)
    assert.are.same({ "10.1.0.3", "10.1.0.4", "10.1.0.78", "fd01::3", "fd01::4" }, freed)
    assert.are.same({ ["10.1.0.2"] = content "c1", ["fd01::2"] = content "c1",
      ["10.1.0.77"] = "c1" }, files())
    assert.are.equal("10.1.0.2 10.1.0.77 fd01::2",
      addresses(leases.held(spec_of(nil), owner("c1"))))
  end)

  it("P-GC-05: leaves other networks alone", function()
    leases.allocate({ dir = base, network = "other", sets = net24 }, owner("c1"))
    allocate(spec_of(net24), "c1")
    leases.gc({ dir = base, network = "net" }, {})
    assert.are.same({}, files())
    assert.are.same({ ["10.1.0.2"] = content "c1" }, files(base .. "/other"))
  end)
end)

-- What must hold for a directory in whatever state it was left.
local function check_sound(spec)
  local taken = {}
  for name, bytes in pairs(files()) do
    assert.matches("^%w+\r\neth0$", bytes, nil, name)
    taken[#taken + 1] = name
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
    local code = [[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/24", rangeStart = "10.1.0.98" } } } } } }
      local id = io.read("l")
      io.stdout:write(leases.allocate(spec, { id = id, ifname = "eth0" })[1].address, "\n")
      io.stdout:flush()
      leases.release(spec, { id = id, ifname = "eth0" })
      io.stdout:write("freed\n")]]
    t.write("/run/spec/child.lua", 'local leases = require "cni.leases"\n'
      .. 'local ranges = require "cni.ranges"\n' .. code)
    allocate(spec, "keep")
    local calls = "openat,write,pwrite64,linkat,unlinkat,renameat,renameat2,ftruncate,"
      .. "utimensat,fsetxattr,pread64,close,flock,mkdir"
    local function child(inject, id)
      return t.sh(("exec strace -o /run/spec/trace -e trace=%s -e %s lua5.4 /run/spec/child.lua")
        :format(calls, inject), { stdin = id .. "\n" })
    end
    child("signal=none", "first")
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
      local out, status = child("inject=" .. place, "k" .. i)
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

  it("at random moments of many processes leaves a directory that is right", function()
    local spec = spec_of(sets_of({ { subnet = "10.1.0.0/22" } }))
    t.write("/run/spec/child.lua", 'local leases = require "cni.leases"\n'
      .. 'local ranges = require "cni.ranges"\n' .. [[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/22" } } } } } }
      for i = 1, 400 do
        local o = { id = arg[1] .. "x" .. i, ifname = "eth0" }
        leases.allocate(spec, o)
        if i % 3 > 0 then leases.release(spec, o) end
      end]])
    for round = 1, 12 do
      t.sh(("for p in 1 2 3; do timeout -s KILL 0.%03d lua5.4 /run/spec/child.lua r%dp$p "
        .. "2>/dev/null & done; wait"):format(20 + round * 13, round))
      check_sound(spec)
    end
  end)
end)

describe("many processes at once", function()
  it("P-STT-01: 50 of them get 50 addresses, and free them all", function()
    t.write("/run/spec/child.lua", 'local leases = require "cni.leases"\n'
      .. 'local ranges = require "cni.ranges"\n' .. [[
      local spec = { dir = "]] .. base .. [[", network = "net", sets = ranges.read { {
        where = "r", sets = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } } }
      local o = { id = arg[2], ifname = "eth0" }
      if arg[1] == "DEL" then return leases.release(spec, o) end
      for _, ip in ipairs(leases.allocate(spec, o)) do print(ip.address) end]])
    local out = t.run("seq 50 | xargs -P 50 -I{} lua5.4 /run/spec/child.lua ADD c{}")
    local seen, n = {}, 0
    for address in out:gmatch("%S+") do
      assert.is_nil(seen[address], address)
      seen[address], n = true, n + 1
    end
    assert.are.equal(100, n)
    assert.are.equal(50, leases.usage(spec_of(dual))[2].used)
    t.run("seq 50 | xargs -P 50 -I{} lua5.4 /run/spec/child.lua DEL c{}")
    assert.are.same({}, files())
    assert.are.equal(0, leases.usage(spec_of(dual))[1].used)
  end)
end)

describe("the store's arguments", function()
  it("that are no addresses, or of two families, are refused by name", function()
    local s <close> = open()
    assert.has_error(function() s:reserve("10.1.0", "c1", "eth0") end)
    assert.has_error(function() s:next_free("10.1.0.1", "fd01::1") end)
    assert.has_error(function() s:reserve("10.1.0.1", "", "eth0") end)
    assert.has_error(function() s:reserve("10.1.0.1", "a\0b", "eth0") end)
    assert.has_error(function() s:last(-1) end)
  end)

  it("count spans of any size", function()
    assert.are.equal(256, store.size("10.1.0.0", "10.1.0.255"))
    assert.are.equal(0, store.size("10.1.0.5", "10.1.0.4"))
    assert.are.equal(2.0 ^ 64, store.size("fd01::", "fd01::ffff:ffff:ffff:ffff"))
    assert.are.equal(2.0 ^ 128, store.size("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
  end)
end)
