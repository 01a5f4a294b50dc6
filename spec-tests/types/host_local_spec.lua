-- SPDX-License-Identifier: MIT
-- The host-local script: what its configuration may say, which range sets and requests come of it.
-- How leases are kept is leases_spec's matter.

local t = require "support"

local fail = require "cni.fail"
local json = require "cni.json"
local leases = require "cni.leases"
local schema = require "cni.schema"

local plugin = dofile("plugins/host-local.lua")

local dir = "/var/lib/cni/networks/net"

-- A request as the library makes it; leases are taken at once instead of by the journal.
local function request(conf, more)
  local raw = json.decode(t.json(conf), "conf", {})
  raw.name = raw.name or "net"
  local req = { command = "ADD", version = "1.0.0", network = raw.name, container_id = "c1",
    ifname = "eth0", raw = raw }
  for key, value in pairs(more or {}) do req[key] = value end
  req.valid_attachments = require("cni.protocol.request").valid_attachments
  req.lease = function(self, spec)
    return leases.allocate(spec, { id = self.container_id, ifname = self.ifname })
  end
  req.conf = schema.read(plugin.conf, raw)
  return req
end

local function add(conf, more) return plugin.add(request(conf, more)) end

local function addresses(result)
  local list = {}
  for i, ip in ipairs(result.ips) do list[i] = ip.address end
  return table.concat(list, " ")
end

local function refused(conf, more)
  local ok, err = pcall(add, conf, more)
  assert.is_false(ok)
  assert.is_true(fail.is(err), tostring(err))
  return err
end

local function config_error(conf, pattern, more)
  local err = refused(conf, more)
  assert.are.equal(7, err.code, tostring(err))
  assert.matches(pattern, err.msg)
  assert.are.same({}, t.files("/var/lib/cni"))
end

local function ipam(fields) return { ipam = fields } end

after_each(t.cleanup)

describe("ranges", function()
  it("of one subnet need nothing else", function()
    assert.are.same({ ips = { { address = "10.1.2.2/24", gateway = "10.1.2.1" } } },
      add(ipam { subnet = "10.1.2.0/24" }))
  end)

  it("an attachment gets an address of each set: subnet first, then ranges", function()
    local conf = ipam { subnet = "10.1.0.0/24", ranges = { { { subnet = "fd01::/64" } },
      { { subnet = "10.3.0.0/24", rangeStart = "10.3.0.9" } } } }
    assert.are.equal("10.1.0.2/24 fd01::2/64 10.3.0.9/24", addresses(add(conf)))
    assert.are.equal("10.1.0.2", t.read(dir .. "/last_reserved_ip.0"))
    assert.are.equal("10.3.0.9", t.read(dir .. "/last_reserved_ip.2"))
  end)

  it("of the capability ipRanges come before all others, and shift their numbers", function()
    local conf = ipam { subnet = "10.1.0.0/24" }
    conf.runtimeConfig = { ipRanges = { { { subnet = "10.4.0.0/24" } } } }
    assert.are.equal("10.4.0.2/24 10.1.0.2/24", addresses(add(conf)))
    assert.are.equal("10.4.0.2", t.read(dir .. "/last_reserved_ip.0"))
    assert.are.equal("10.1.0.2", t.read(dir .. "/last_reserved_ip.1"))
  end)

  it("of the capability ipRanges are enough", function()
    local conf = ipam { type = "host-local" }
    conf.runtimeConfig = { ipRanges = { { { subnet = "10.4.0.0/24" } } } }
    assert.are.equal("10.4.0.2/24", addresses(add(conf)))
  end)

  it("end before IPv4's broadcast, and at IPv6's last address", function()
    local conf = ipam { ranges = { { { subnet = "10.1.0.0/30" } }, { { subnet = "fd01::/126" } } } }
    assert.are.equal("10.1.0.2/30 fd01::2/126", addresses(add(conf)))
    assert.matches("range set 0 is full: 1 of 1", refused(conf, { container_id = "c2" }).msg)
    conf = ipam { ranges = { { { subnet = "fd01::/126" } } } }
    assert.are.equal("fd01::3/126", addresses(add(conf, { container_id = "c2" })))
    assert.matches("range set 0 is full: 2 of 2", refused(conf, { container_id = "c3" }).msg)
  end)

  it("start and end where they are told to, broadcast and all", function()
    local conf = ipam { subnet = "10.1.0.0/29", rangeStart = "10.1.0.7", rangeEnd = "10.1.0.7" }
    assert.are.equal("10.1.0.7/29", addresses(add(conf)))
  end)

  it("have a gateway wherever they like", function()
    local result = add(ipam { subnet = "10.1.0.0/24", gateway = "192.168.0.1" })
    assert.are.same({ { address = "10.1.0.1/24", gateway = "192.168.0.1" } }, result.ips)
  end)

  it("keys are read in any letter case", function()
    local conf = ipam { SUBNET = "10.1.0.0/24", rangestart = "10.1.0.9", datadir = "/run/spec/d" }
    assert.are.equal("10.1.0.9/24", addresses(add(conf)))
    assert.are.equal("c1\r\neth0", t.read("/run/spec/d/net/10.1.0.9"))
  end)

  it("an empty dataDir is the usual one", function()
    add(ipam { subnet = "10.1.0.0/24", dataDir = "" })
    assert.are.equal("c1\r\neth0", t.read(dir .. "/10.1.0.2"))
  end)

  local net = { subnet = "10.1.0.0/24" }
  local bad = {
    { "no ipam", {}, "ipam" },
    { "no range", ipam { type = "host-local" }, "ipam.ranges: is missing" },
    { "an empty set", ipam { ranges = { t.list() } }, "ipam.ranges%[0%]: is empty" },
    { "a missing subnet", ipam { ranges = { { { rangeStart = "10.1.0.3" } } } },
      "ipam.ranges%[0%]%[0%].subnet: is missing" },
    { "host bits", ipam { subnet = "10.1.0.5/24" }, "ipam.subnet: .*host bits" },
    { "no length", ipam { subnet = "10.1.0.0" }, "ipam.subnet" },
    { "a /31", ipam { subnet = "10.1.0.0/31" }, "ipam.subnet: 10.1.0.0/31 is too small" },
    { "a /127", ipam { subnet = "fd01::/127" }, "ipam.subnet: fd01::/127 is too small" },
    { "a start outside", ipam { subnet = "10.1.0.0/24", rangeStart = "10.2.0.9" },
      "ipam.rangeStart: 10.2.0.9 is not in 10.1.0.0/24" },
    { "an end outside", ipam { subnet = "10.1.0.0/24", rangeEnd = "fd01::1" },
      "ipam.rangeEnd: fd01::1 is not in 10.1.0.0/24" },
    { "an end before the start", ipam { subnet = "10.1.0.0/24", rangeStart = "10.1.0.9",
      rangeEnd = "10.1.0.5" }, "rangeStart 10.1.0.9 is behind rangeEnd 10.1.0.5" },
    { "a gateway of the other family", ipam { subnet = "10.1.0.0/24", gateway = "fd01::1" },
      "ipam.gateway: fd01::1 is of another family" },
    { "two families in a set", ipam { ranges = { { net, { subnet = "fd01::/64" } } } },
      "ipam.ranges%[0%]%[1%]: .*family" },
    { "overlap in a set", ipam { ranges = { { net, { subnet = "10.1.0.0/25" } } } },
      "ipam.ranges%[0%]%[1%]: .* overlaps" },
    { "overlap of sets", ipam { subnet = "10.1.0.0/16", ranges = { { net } } },
      "ipam.ranges%[0%]: .* overlaps" },
    { "a null range", { ipam = { ranges = { { t.null } } } }, "ipam.ranges%[0%]%[0%]" },
    { "a null set", { ipam = { ranges = { t.null } } }, "ipam.ranges%[0%]" },
    { "a number for a subnet", ipam { subnet = 10 }, "ipam.subnet" },
    { "a list for ipam", { ipam = t.list() }, "ipam" },
  }
  for _, case in ipairs(bad) do
    it("refuse " .. case[1] .. ", and make nothing", function()
      config_error(case[2], case[3])
    end)
  end

  it("that touch, or lie apart in one subnet, are fine", function()
    local conf = ipam { ranges = { { { subnet = "10.1.0.0/24", rangeEnd = "10.1.0.5" },
      { subnet = "10.1.0.0/24", rangeStart = "10.1.0.6" } },
      { { subnet = "10.1.1.0/24" } } } }
    assert.are.equal("10.1.0.2/24 10.1.1.2/24", addresses(add(conf)))
  end)

  it("two sets of a family need protocol 0.3.0; one of each does not", function()
    local two = ipam { subnet = "10.1.0.0/24", ranges = { { { subnet = "10.2.0.0/24" } } } }
    config_error(two, "0.3.0", { version = "0.2.0" })
    local each = ipam { subnet = "10.1.0.0/24", ranges = { { { subnet = "fd01::/64" } } } }
    assert.are.equal("10.1.0.2/24 fd01::2/64", addresses(add(each, { version = "0.2.0" })))
    assert.are.equal("10.1.0.3/24 10.2.0.2/24",
      addresses(add(two, { version = "0.3.0", container_id = "c2" })))
  end)
end)

describe("requested addresses", function()
  local conf = ipam { ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

  local function with(fields)
    local copy = { ipam = conf.ipam }
    for key, value in pairs(fields) do copy[key] = value end
    return copy
  end

  it("come from CNI_ARGS, args.cni and the capability, all of them", function()
    assert.are.equal("10.1.0.50/24 fd01::2/64",
      addresses(add(conf, { args = "IP=10.1.0.50" })))
    assert.are.equal("10.1.0.60/24 fd01::60/64", addresses(add(with { args = { cni = {
      ips = { "fd01::60" } } }, runtimeConfig = { ips = { "10.1.0.60" } } },
      { container_id = "c2" })))
  end)

  it("are taken without their prefix length, and once when they come twice", function()
    assert.are.equal("10.1.0.50/24 fd01::5/64", addresses(add(with { runtimeConfig = {
      ips = { "10.1.0.50/8", "::ffff:10.1.0.50", "fd01:0::5/128" } } },
      { args = "IP=10.1.0.50/16" })))
  end)

  it("keep their order: the first of a set is it, the rest is the error", function()
    local err = refused(with { runtimeConfig = { ips = { "10.1.0.9", "10.1.0.8" } } },
      { args = "IP=10.1.0.7" })
    assert.matches("10.1.0.9, 10.1.0.8$", err.msg)
    assert.is_nil(t.read(dir .. "/10.1.0.7"))
  end)

  it("that are no addresses are errors naming the place", function()
    config_error(with { runtimeConfig = { ips = { "10.1.0.5", "ten" } } },
      "runtimeConfig.ips%[1%]: \"ten\"")
    config_error(with { args = { cni = { ips = { "10.1.0.05" } } } }, "args.cni.ips%[0%]")
    local err = refused(conf, { args = "IP=ten" })
    assert.are.equal(4, err.code)
    assert.matches("CNI_ARGS: IP", err.msg)
  end)

  it("P-ARG-05: other keys of CNI_ARGS are ignored when that is asked for", function()
    local args = "IgnoreUnknown=1;K8S_POD_NAME=p;IP=10.1.0.50;MAC=0a:00:00:00:00:01"
    assert.are.equal("10.1.0.50/24 fd01::2/64", addresses(add(conf, { args = args })))
    assert.are.equal(4, refused(conf, { args = "K8S_POD_NAME=p", container_id = "c2" }).code)
  end)
end)

describe("routes", function()
  it("are passed on, the host bits of their destinations set to zero", function()
    local routes = { { dst = "0.0.0.0/0" }, { dst = "10.5.0.1/16", gw = "10.1.0.9", mtu = 1400,
      advmss = 1360, priority = 5, table = 100, scope = 0 } }
    local given = add(ipam { subnet = "10.1.0.0/24", routes = routes }).routes
    routes[2].dst = "10.5.0.0/16"
    assert.are.same(routes, given)
  end)

  it("with a bad destination or a negative metric are refused", function()
    config_error(ipam { subnet = "10.1.0.0/24", routes = { { dst = "10.5.0.0" } } },
      "ipam.routes%[0%].dst")
    config_error(ipam { subnet = "10.1.0.0/24", routes = { { gw = "10.1.0.1" } } },
      "ipam.routes%[0%].dst")
    config_error(ipam { subnet = "10.1.0.0/24", routes = { { dst = "::/0", mtu = -1 } } },
      "ipam.routes%[0%].mtu")
  end)
end)

describe("resolvConf", function()
  local conf = ipam { subnet = "10.1.0.0/24", resolvConf = "/run/spec/resolv.conf" }

  it("gives the result its dns", function()
    t.write("/run/spec/resolv.conf", "# a comment\n; another\n\n  nameserver 1.2.3.4 \n"
      .. "nameserver\nnameserver fd00::1 5.6.7.8\ndomain a.b\ndomain c.d\nsearch x y\nsearch z\n"
      .. "options ndots:3 rotate\nsortlist 10.0.0.0\n")
    assert.are.same({ nameservers = { "1.2.3.4", "fd00::1" }, domain = "c.d",
      search = { "x", "y", "z" }, options = { "ndots:3", "rotate" } }, add(conf).dns)
  end)

  it("that says nothing gives none", function()
    t.write("/run/spec/resolv.conf", "")
    assert.are.same({}, add(conf).dns)
  end)

  it("that cannot be read is an error of ADD, and of ADD alone", function()
    config_error(ipam { subnet = "10.1.0.0/24", resolvConf = "/nowhere/resolv.conf" },
      "ipam.resolvConf: .*/nowhere")
    add(ipam { subnet = "10.1.0.0/24", resolvConf = "/nowhere" },
      { command = "CHECK", container_id = "c2" })
  end)
end)

describe("STATUS", function()
  local conf = ipam { ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "10.2.0.0/30" } } } }

  it("is fine while every set has an address, and makes nothing", function()
    plugin.status(request(conf))
    assert.are.same({}, t.files("/var/lib/cni"))
  end)

  it("P-STA-04: is 50 with the count when a set is full", function()
    add(conf)
    local ok, err = pcall(plugin.status, request(conf))
    assert.is_false(ok)
    assert.are.equal(50, err.code)
    assert.matches("range set 1 is full: 1 of 1", err.msg)
  end)
end)

describe("GC", function()
  local conf = ipam { subnet = "10.1.0.0/24" }
  local key = "cni.dev/valid-attachments"

  local function live(list)
    return { ipam = conf.ipam, [key] = list }
  end

  it("P-GC-01: frees leases of attachments that are not listed", function()
    add(conf)
    add(conf, { container_id = "c2" })
    add(conf, { container_id = "c2", ifname = "eth1" })
    plugin.gc(request(live { { containerID = "c2", ifname = "eth0" } }))
    assert.is_nil(t.read(dir .. "/10.1.0.2"))
    assert.are.equal("c2\r\neth0", t.read(dir .. "/10.1.0.3"))
    assert.is_nil(t.read(dir .. "/10.1.0.4"))
  end)

  it("P-GC-04: an empty list means that nothing is valid", function()
    add(conf)
    plugin.gc(request(live(t.list())))
    assert.is_nil(t.read(dir .. "/10.1.0.2"))
  end)

  it("a list that is none frees nothing", function()
    add(conf)
    local ok, err = pcall(plugin.gc, request(live { "c1" }))
    assert.is_false(ok)
    assert.are.equal(7, err.code)
    assert.are.equal("c1\r\neth0", t.read(dir .. "/10.1.0.2"))
  end)
end)

describe("DEL", function()
  it("W-70: needs no more of the configuration than where the leases are", function()
    add(ipam { subnet = "10.1.0.0/24", dataDir = "/run/spec/e" })
    local spec
    plugin.del { container_id = "c1", ifname = "eth0",
      raw = { name = "net", ipam = { subnet = "nonsense", DataDir = "/run/spec/e" } },
      lease = function(_, place) spec = place end }
    assert.are.same({ dir = "/run/spec/e", network = "net" }, spec)
    assert.are.same({ "10.1.0.2" }, leases.release(spec, { id = "c1", ifname = "eth0" }))
  end)

  it("finds nothing in a file that lies where the leases would; an ADD says so, and leaves it", function()
    t.write("/run/spec/f/net", "not a folder")
    local place = { dir = "/run/spec/f", network = "net" }
    assert.are.same({}, leases.release(place, { id = "c1", ifname = "eth0" }))
    local ok, err = pcall(add, ipam { subnet = "10.1.0.0/24", dataDir = "/run/spec/f" })
    assert.is_false(ok)
    assert.equal(5, err.code, tostring(err))
    assert.equal("not a folder", t.read("/run/spec/f/net"))
  end)

  it("who holds an address is nobody only if that was seen", function()
    t.run("mkdir -p /run/spec/h/net/10.1.0.2")
    local place = { dir = "/run/spec/h", network = "net" }
    assert.is_nil(leases.holder(place, "10.1.0.3"))
    local ok, err = pcall(leases.holder, place, "10.1.0.2")
    assert.is_false(ok)
    assert.equal(5, err.code, tostring(err))
  end)

  it("finds the usual place when the configuration does not say", function()
    for _, raw in ipairs { { name = "n" }, { name = "n", ipam = "x" }, { name = "n",
      ipam = { dataDir = 5 } }, { name = "n", ipam = { dataDir = "" } } } do
      assert.are.same({ dir = "/var/lib/cni/networks", network = "n" }, leases.place(raw))
    end
  end)
end)

describe("as a program", function()
  local function call(verb, bin, more)
    local c = { verb = verb, bin = bin, type = "host-local", netns = "/run/netns/none",
      conf = { cniVersion = "1.0.0", name = "net",
        ipam = { type = "host-local", subnet = "10.1.0.0/24" } } }
    for key, value in pairs(more or {}) do c[key] = value end
    return t.cni(c)
  end

  it("a second ADD is an error that leaves the first one's lease, whoever wrote it", function()
    for _, first in ipairs { "reference", "ours" } do
      assert.are.equal(0, call("ADD", first).rc)
      local before = t.read(dir .. "/10.1.0.2")
      local again = call("ADD", "ours")
      assert.are.equal(1, again.rc)
      assert.matches("already", again.json.msg)
      assert.are.equal(before, t.read(dir .. "/10.1.0.2"))
      assert.are.equal(0, call("CHECK", "ours").rc)
      assert.are.equal(0, call("DEL", "ours").rc)
      assert.is_nil(t.read(dir .. "/10.1.0.2"))
      t.wipe()
    end
  end)

  it("an ADD that is refused keeps nothing", function()
    call("ADD", "ours", { id = "c9", args = "IP=10.1.0.9" })
    local before = t.files(dir)
    for _, args in ipairs { "IP=10.1.0.9", "IP=10.1.0.1", "IP=10.2.0.1", "IP=x" } do
      assert.are.equal(1, call("ADD", "ours", { args = args }).rc)
      assert.are.same(before, t.files(dir))
    end
    assert.are.equal(1, call("CHECK", "ours").rc)
  end)

  it("DEL of what was never there is fine, and makes nothing", function()
    assert.are.equal(0, call("DEL", "ours").rc)
    assert.are.same({}, t.files("/var/lib/cni"))
  end)
end)
