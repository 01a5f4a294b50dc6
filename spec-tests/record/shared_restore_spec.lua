-- SPDX-License-Identifier: MIT
-- A bridge of others is left as it was found: addresses that forceAddress took away come back, and
-- the MAC stays what it was, whatever ends the attachment. What somebody did to the bridge in the
-- meantime stays.

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }

-- A bridge of others; ipv6's own addresses would come at times of their own.
local function new(more, opts)
  opts = opts or {}
  opts.forwarding = true
  local conf = { type = "bridge", bridge = "br0",
    removeUnused = true, isGateway = true, forceAddress = true, ipam = v4 }
  for key, value in pairs(more or {}) do conf[key] = value or nil end
  local w = world.new(conf, opts)
  w:sh("ip link add br0 type bridge; echo 1 >/proc/sys/net/ipv6/conf/br0/addr_gen_mode; " ..
    "ip link set br0 up")
  return w
end

-- What the kernel derives from the MAC, and not before it changes, is left out.
local function picture(w)
  local shot = w:picture()
  for _, link in pairs(shot.kernel.host.links) do
    local data = link.linkinfo and link.linkinfo.info_data
    if data then data.bridge_id, data.root_id = nil, nil end
  end
  return shot
end

local function mac(w) return t.link(w.host, "br0").address end

describe("An address that forceAddress took away", function()
  local cases = {
    ["10.1.0.77/24"] = "in the same subnet",
    ["10.99.0.1/24"] = "in another subnet",
    ["10.99.0.1/24 broadcast 10.99.0.250 label br0:old scope host"] = "with a label and a broadcast",
    ["10.99.0.1 peer 10.99.0.2/32"] = "with a peer",
    ["10.99.0.1/24 noprefixroute metric 77"] = "without its route",
  }
  for address, what in pairs(cases) do
    it(what .. " comes back with DEL as it was", function()
      local w = new()
      w:sh("ip addr add " .. address .. " dev br0")
      local before = picture(w)
      w:add()
      t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
      w:check()
      w:del()
      t.same(before, picture(w))
    end)
  end

  it("comes back together with others of its subnet, in their order", function()
    local w = new()
    w:sh("ip addr add 10.1.0.77/24 dev br0; ip addr add 10.1.0.78/24 dev br0; " ..
      "ip addr add 10.99.0.1/24 dev br0")
    local before = picture(w)
    w:add()
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
    w:del()
    t.same(before, picture(w))
  end)

  it("of IPv6 comes back too, if it was in the way", function()
    local w = new({ ipam = { type = "host-local", subnet = "fd01::/64" } })
    w:sh("ip addr add fd01::99/64 dev br0 nodad; ip addr add fd09::1/64 dev br0 nodad")
    local before = picture(w)
    w:add()
    t.same({ "fd01::1/64", "fd09::1/64" }, world.addrs(w.host, "br0"))
    w:del()
    t.same(before, picture(w))
  end)

  it("waits for the last attachment that needs its place", function()
    local w = new(nil, { pods = 2 })
    w:sh("ip addr add 10.1.0.77/24 dev br0")
    local before = picture(w)
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:del()
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
    w:del({ id = "c2", pod = 2 })
    t.same(before, picture(w))
  end)

  it("waits for an attachment of another network that needs its place", function()
    local w = new(nil, { pods = 2 })
    w:sh("ip addr add 10.1.0.77/16 dev br0")
    local before = picture(w)
    local other = { name = "other", ipam = { type = "host-local", subnet = "10.1.7.0/24" } }
    w:add()
    w:add({ id = "c2", pod = 2, conf = other })
    w:del()
    t.same({ "10.1.7.1/24" }, world.addrs(w.host, "br0"))
    w:del({ id = "c2", pod = 2, conf = other })
    t.same(before, picture(w))
  end)

  it("comes back when the ADD fails", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.1.0.0/24",
      routes = { { dst = "10.77.0.0/16", gw = "172.16.0.1" } } } })
    w:sh("ip addr add 10.1.0.77/24 dev br0")
    local before = picture(w)
    w:fails("ADD")
    t.same(before, picture(w))
  end)

  it("comes back with a GC", function()
    local w = new()
    w:sh("ip addr add 10.1.0.77/24 dev br0")
    local before = picture(w)
    w:add()
    w:gc({})
    t.same(before, picture(w))
  end)

  it("that somebody has put there again is left alone", function()
    local w = new()
    w:sh("ip addr add 10.99.0.1/24 dev br0")
    w:add()
    w:sh("ip addr add 10.99.0.1/24 dev br0 label br0:new")
    local before = picture(w)
    w:add({ ifname = "net1", conf = { forceAddress = false } })
    w:del({ ifname = "net1", conf = { forceAddress = false } })
    t.same(before, picture(w))
    w:del()
    local list = t.ip(w.host, "addr show dev br0")[1].addr_info
    assert.equal(1, #list)
    assert.equal("10.99.0.1", list[1]["local"])
    assert.equal("br0:new", list[1].label)
  end)

  it("does not go to another link that has the name by then", function()
    local w = new()
    w:sh("ip addr add 10.99.0.1/24 dev br0")
    w:add()
    w:sh("ip link del br0; ip link add br0 type bridge; ip link set br0 up")
    w:del()
    t.same({}, world.addrs(w.host, "br0"))
  end)

  it("and had a time to live gets what is left of it", function()
    local w = new()
    w:sh("ip addr add 10.99.0.1/24 dev br0 valid_lft 1000 preferred_lft 900")
    w:add()
    t.run("sleep 2")
    w:del()
    local list = t.ip(w.host, "addr show dev br0")[1].addr_info
    assert.equal(1, #list)
    assert.is_true(list[1].valid_life_time <= 998 and list[1].valid_life_time > 900)
    assert.is_true(list[1].preferred_life_time <= 898 and list[1].preferred_life_time > 800)
  end)

  it("and has outlived itself does not come back", function()
    local w = new()
    w:sh("ip addr add 10.99.0.1/24 dev br0 valid_lft 2 preferred_lft 1")
    w:add()
    t.run("sleep 2")
    w:del()
    t.same({}, world.addrs(w.host, "br0"))
  end)

  it("without forceAddress nothing is taken away", function()
    local w = new({ forceAddress = false })
    w:sh("ip addr add 10.99.0.1/24 dev br0")
    w:add()
    t.same({ "10.1.0.1/24", "10.99.0.1/24" }, world.addrs(w.host, "br0"))
    w:del()
    t.same({ "10.99.0.1/24" }, world.addrs(w.host, "br0"))
  end)
end)

describe("The MAC of a bridge of others", function()
  it("is the same before, with and after an attachment whose gateway lives on it", function()
    local w = new()
    local was = mac(w)
    local result = w:add()
    assert.equal(was, mac(w))
    assert.equal(was, result.interfaces[1].mac)
    w:del()
    assert.equal(was, mac(w))
  end)

  it("stays while attachments come and go", function()
    local w = new(nil, { pods = 4 })
    local was = mac(w)
    for i = 1, 4 do
      w:add({ id = "c" .. i, pod = i })
      assert.equal(was, mac(w))
    end
    for i = 1, 4 do
      w:del({ id = "c" .. i, pod = i })
      assert.equal(was, mac(w))
    end
  end)

  it("comes back after an attachment of layer 2, whose port the kernel named it by", function()
    local w = new({ ipam = false, isGateway = false, forceAddress = false })
    local before = picture(w)
    w:add()
    w:del()
    t.same(before, picture(w))
  end)

  it("comes back when the ADD fails", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.1.0.0/24",
      routes = { { dst = "10.77.0.0/16", gw = "172.16.0.1" } } } })
    local before = picture(w)
    w:fails("ADD")
    t.same(before, picture(w))
  end)

  it("that somebody changed in the meantime stays changed", function()
    local w = new()
    w:add()
    w:sh("ip link set br0 address 0a:00:00:00:00:77")
    w:del()
    assert.equal("0a:00:00:00:00:77", mac(w))
  end)

  it("is made up, and stays, where there was none", function()
    local w = new()
    w:sh("ip link add x type veth peer name y; ip link set x master br0; ip link del x")
    assert.equal("00:00:00:00:00:00", mac(w))
    w:add()
    local is = mac(w)
    assert.not_equal("00:00:00:00:00:00", is)
    w:del()
    assert.equal(is, mac(w))
  end)
end)

describe("A bridge of others", function()
  it("that a later attachment made promiscuous is not so after the last", function()
    local w = new({ forceAddress = false }, { pods = 2 })
    w:sh("ip link set br0 down")
    local before = picture(w)
    w:add()
    w:add({ id = "c2", pod = 2, conf = { promiscMode = true } })
    w:del({ id = "c2", pod = 2, conf = { promiscMode = true } })
    w:del()
    t.same(before, picture(w))
  end)
end)

describe("What attachments share is told apart by names that no link can have:", function()
  it("a bridge called like our own table of rules is a bridge like any other", function()
    local w = new({ bridge = "nft-masq", ipMasq = true }, { pods = 2 })
    local before = picture(w)
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:del()
    w:check({ id = "c2", pod = 2 })
    w:del({ id = "c2", pod = 2 })
    t.same(before, picture(w))
  end)
end)

describe("Killed at every change, with an address taken away,", function()
  local function sweep(verb, recover)
    local w = new()
    w:sh("ip addr add 10.1.0.77/24 dev br0; ip addr add 10.99.0.1/24 dev br0")
    w:add()
    w:del()
    local before, swept = picture(w), 0
    for n = 1, 200, t.stride(3, { sanitized = 6 }) do
      if verb == "DEL" then w:add() end
      local line = t.cni_words({ verb = verb, type = "bridge", host = w.host, netns = w.pods[1],
        under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = t.conf_bytes(w:config()) })
      if status == 100 then break end
      assert.equal(101, status)
      swept = n
      recover(w)
      t.same(before, picture(w), ("%s killed at change %d"):format(verb, n))
    end
    assert.is_true(swept > 10 and swept < 200)
  end

  it("an ADD is mended by a DEL", function() sweep("ADD", function(w) w:del() end) end)
  it("a DEL is mended by a DEL", function() sweep("DEL", function(w) w:del() end) end)
  it("a DEL is mended by a GC", function() sweep("DEL", function(w) w:gc({}) end) end)
end)
