-- SPDX-License-Identifier: MIT
-- What plugin `dummy` promises: a link that leads nowhere, with addresses; nothing left of it
-- after DEL or a failed ADD.
--
-- Seconds a test takes on the second kernel: 5

local promises = require("promises").for_spec(it)
local t = require "support"
local world = require "world"

local needs = { "dummy" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

local with = t.merge

local function dummy(conf, opts) return world.new(with({ type = "dummy" }, conf), opts) end

describe("dummy ADD", function()
  it("makes an up link with addresses, routes, mtu and the dns of the configuration", function()
    t.needs("dummy")
    local dns = { nameservers = { "10.1.0.53" } }
    local w = dummy({ mtu = 1300, dns = dns,
      ipam = with(dual, { routes = { { dst = "10.9.0.0/16" } } }) })
    local result = w:add()
    local eth = t.link(w.pods[1], "eth0")
    t.same({ "dummy", 1300, "UNKNOWN" }, { eth.linkinfo.info_kind, eth.mtu, eth.operstate })
    t.same({ "10.1.0.2/24", "fd01::2/64" }, world.addrs(w.pods[1], "eth0"))
    assert.equal("10.1.0.1", t.ip(w.pods[1], "route show 10.9.0.0/16")[1].gateway)
    t.same(dns, result.dns)
    w:in_pod("ip link set lo up")
    assert.is_true(t.ping(w.pods[1], "10.1.0.2"))
    assert.is_true(t.ping(w.pods[1], "fd01::2"))
    -- Nobody is at the other end.
    assert.is_false(t.ping(w.pods[1], "10.1.0.1"))
    w:check()
  end)
end)

describe("dummy MAC", function()
  promises.mac(function(conf) return dummy(with({ ipam = dual }, conf)) end, { interface = 1,
    needs = needs,
    look = function(w) assert.equal(1500, t.link(w.pods[1], "eth0").mtu) end })
end)

describe("dummy CHECK", function()
  it("notices a link that is down, one of another kind, and one that is gone", function()
    t.needs("dummy")
    local w = dummy({ ipam = dual })
    w:add()
    local function notices(says, sh)
      w:in_pod(sh)
      local e = w:fails("CHECK")
      assert.truthy(e.text:find(says), e.text)
    end
    notices("10%.1%.0%.2/24", "ip -4 addr del 10.1.0.2/24 dev eth0")
    notices("eth0", "ip addr add 10.1.0.2/24 dev eth0; ip link set eth0 down")
    notices("kind is veth, not dummy", "ip link del eth0; ip link add eth0 type veth peer name x")
    notices("eth0 is not in the sandbox", "ip link del eth0")
  end)
end)

describe("dummy DEL", function()
  promises.del(function() return dummy({ ipam = dual }) end, { needs = needs,
    spared = { ["without prevResult"] = true } })
end)

describe("dummy GC", function()
  promises.gc(function(pods) return dummy({ ipam = dual }, { pods = pods }) end,
    { needs = needs })
end)

describe("dummy result", function()
  promises.results(function() return dummy({ ipam = dual }) end, { needs = needs,
    expected = function(w)
      return {
        interfaces = { { name = "eth0", mac = t.link(w.pods[1], "eth0").address,
          sandbox = w.pods[1].path } },
        ips = { { address = "10.1.0.2/24", gateway = "10.1.0.1", interface = 0 },
          { address = "fd01::2/64", gateway = "fd01::1", interface = 0 } },
      }
    end })
end)

describe("dummy ADD that fails leaves nothing behind:", function()
  local function fails(name, conf, opts)
    promises.fails(name, function() return dummy(conf) end, with({ needs = needs }, opts))
  end

  -- A configuration that is refused does not get as far as the kernel.
  promises.fails("no ipam", function() return dummy({}) end, { code = 7, says = "ipam" })
  fails("a route whose gateway is out of reach", { ipam = with(dual, { routes = {
    { dst = "10.9.0.0/16", gw = "172.16.0.1" } } }) }, { says = "10.9.0.0/16" })
  fails("the name is taken", { ipam = dual }, { says = { "eth0", "exists already" },
    prepare = function(w) w:in_pod("ip link add eth0 type veth peer name x") end })
end)
