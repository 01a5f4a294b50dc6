-- SPDX-License-Identifier: MIT
-- netlink.store and cni.leases: which address is given, in which order, and how it is kept.

local t = require "support"
local lfs = require "lfs"
local world = require "lease_world"

local leases = require "cni.leases"
local store = require("netlink").store

local base, dir, sets_of, spec_of, owner, content =
  world.base, world.dir, world.sets_of, world.spec_of, world.owner, world.content
local addresses, allocate, refused, files, child, open =
  world.addresses, world.allocate, world.refused, world.files, world.child, world.open
local held_by, net24, dual =
  world.held_by, world.net24, world.dual

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

describe("CHECK", function()
  local ips = { { address = "10.1.0.2/24" }, { address = "fd01::2/64" },
    { address = "192.168.7.7/24" } }
  local function problem(expected, id)
    return leases.problem(spec_of(dual), owner(id or "c1"), expected)
  end

  it("P-IPM-04: is content while what was given is held", function()
    allocate(spec_of(dual), "c1")
    assert.is_nil(problem(ips))
    assert.is_nil(problem(nil))
  end)

  it("names an address that is gone, or somebody else's", function()
    allocate(spec_of(dual), "c1")
    os.remove(dir .. "/10.1.0.2")
    assert.matches("^10.1.0.2 of network net is not leased", problem(ips))
    assert.matches("range set 0 ", problem(nil))
    t.write(dir .. "/10.1.0.2", "x9\r\neth0")
    assert.matches("^10.1.0.2 of network net is not leased", problem(ips))
  end)

  it("sees a lease that was given to another owner in place", function()
    allocate(spec_of(dual), "c1")
    assert.is_nil(problem(ips))
    t.run("printf 'x9\\r\\neth0' >" .. dir .. "/10.1.0.2")
    assert.matches("^10.1.0.2 of network net is not leased", problem(ips))
  end)

  it("names the network when nothing is held, and when there is no directory", function()
    assert.matches("no address of network net", problem({}))
    allocate(spec_of(dual), "c1")
    assert.matches("^10.1.0.2 of network net is not leased", problem(ips, "c2"))
    assert.matches("no address of network net", problem({}, "c2"))
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
    t.run(child([[
      local s = assert(netlink.store.open("]] .. dir .. [[", leases.index_dir))
      for i = 2, 60001 do
        if i ~= 40000 then
          assert(s:reserve(("10.0.%d.%d"):format(i >> 8, i & 255), "c" .. i, "eth0"))
        end
      end
      assert(s:set_last(0, "10.0.234.97"))]]))
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
