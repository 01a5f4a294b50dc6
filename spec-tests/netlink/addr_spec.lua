-- SPDX-License-Identifier: MIT
-- cni.addr: addresses as bytes, prefixes as values.

local addr = require "cni.addr"

local function ip(text) return (assert(addr.ip(text), text)) end
local function cidr(text) return (assert(addr.parse(text), text)) end

describe("addr.ip", function()
  it("reads both families", function()
    assert.are.equal("\10\1\2\3", ip "10.1.2.3")
    assert.are.equal("\xfd" .. ("\0"):rep(14) .. "\1", ip "fd00::1")
  end)

  it("P-CNV: takes IPv4-mapped IPv6 for IPv4", function()
    assert.are.equal("\10\1\2\3", ip "::ffff:10.1.2.3")
    assert.are.equal("10.1.2.3", addr.text(ip "::FFFF:0a01:0203"))
  end)

  local bad = { "", "10.1.2", "10.1.2.3.4", "256.0.0.1", "10.1.2.03", "010.1.2.3", " 10.1.2.3",
    "10.1.2.3 ", "10.1.2.3/24", "10.1.2.3\0", "0x0a.1.2.3", "167838211", "fe80::1%eth0",
    "::1::", ":::", "fd00:::1", "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "[::1]",
    "default", "10.1.2.-3", "10,1,2,3" }
  for _, text in ipairs(bad) do
    it(("P-RES-11: refuses %q"):format(text), function() assert.is_nil(addr.ip(text)) end)
  end

  it("refuses what is no text", function()
    assert.is_nil(addr.ip(5))
    assert.is_nil(addr.ip(nil))
    assert.is_nil(addr.ip({}))
  end)

  it("prints the canonical form", function()
    for given, wanted in pairs {
      ["FD00:0:0:0:0:0:0:1"] = "fd00::1", ["0:0:0:0:0:0:0:0"] = "::", ["::1"] = "::1",
      ["1:0:0:2:0:0:0:3"] = "1:0:0:2::3", ["1:0:2:3:4:5:6:7"] = "1:0:2:3:4:5:6:7",
      ["1:0:0:2:3:0:0:4"] = "1::2:3:0:0:4", ["fe80:0:0:0::"] = "fe80::",
      ["64:ff9b::192.0.2.1"] = "64:ff9b::c000:201", ["10.1.2.3"] = "10.1.2.3",
    } do
      assert.are.equal(wanted, addr.text(ip(given)))
    end
  end)
end)

describe("addr.parse", function()
  it("keeps host bits", function()
    local c = cidr "10.1.2.3/24"
    assert.are.equal("10.1.2.3/24", tostring(c))
    assert.are.equal(24, c.len)
    assert.are.equal("inet", c.family)
    assert.are.equal("10.1.2.3", c:text())
    assert.are.equal("inet6", cidr("fd00::1/64").family)
  end)

  local bad = { "10.1.2.3", "10.1.2.3/", "10.1.2.3/33", "fd00::/129", "10.1.2.3/-1", "10.1.2.3/024",
    "10.1.2.3/24 ", "10.1.2.3/255.255.255.0", "/24", "10.1.2/24", "default", "10.1.2.3/1e1",
    "10.1.2.3/24/24", "10.1.2.3/99999999999", "::ffff:10.0.0.1/95", "" }
  for _, text in ipairs(bad) do
    it(("refuses %q"):format(text), function() assert.is_nil(addr.parse(text)) end)
  end

  it("refuses what is no text", function()
    assert.is_nil(addr.parse(24))
    assert.is_nil(addr.parse(nil))
  end)

  it("gives a mapped prefix IPv4's length", function()
    assert.are.equal("10.0.0.1/24", tostring(cidr "::ffff:10.0.0.1/120"))
  end)

  it("accepts the extremes", function()
    for _, text in ipairs { "0.0.0.0/0", "255.255.255.255/32", "::/0", "::1/128" } do
      assert.are.equal(text, tostring(cidr(text)))
    end
  end)
end)

describe("a cidr", function()
  it("compares by value", function()
    assert.is_true(cidr "10.1.2.3/24" == cidr "10.1.2.3/24")
    assert.is_true(cidr "fd00:0::1/64" == cidr "fd00::1/64")
    assert.is_false(cidr "10.1.2.3/24" == cidr "10.1.2.3/25")
    assert.is_false(cidr "10.1.2.3/24" == cidr "10.1.2.4/24")
  end)

  it("has its network", function()
    for given, wanted in pairs {
      ["10.1.2.3/24"] = "10.1.2.0/24", ["10.1.2.3/31"] = "10.1.2.2/31",
      ["10.1.2.3/32"] = "10.1.2.3/32", ["10.1.2.3/0"] = "0.0.0.0/0",
      ["255.255.255.255/1"] = "128.0.0.0/1", ["fd00:1:2:3:ffff::9/64"] = "fd00:1:2:3::/64",
      ["fd00::ffff/127"] = "fd00::fffe/127", ["fd00::ffff/128"] = "fd00::ffff/128",
      ["ffff:ffff::/17"] = "ffff:8000::/17", ["ffff::1/0"] = "::/0",
      ["fd00::ffff:ffff:ffff:ffff/65"] = "fd00::8000:0:0:0/65",
    } do
      assert.are.equal(wanted, tostring(cidr(given):network()), given)
      assert.are.equal(given == wanted, cidr(given):is_network(), given)
    end
  end)

  it("has a first host and a last address", function()
    for given, wanted in pairs {
      ["10.1.2.3/24"] = { "10.1.2.1", "10.1.2.255" },
      ["10.1.2.3/30"] = { "10.1.2.1", "10.1.2.3" },
      ["0.0.0.0/0"] = { "0.0.0.1", "255.255.255.255" },
      ["fd00::5/64"] = { "fd00::1", "fd00::ffff:ffff:ffff:ffff" },
      ["fd00::5/126"] = { "fd00::5", "fd00::7" },
      ["::/0"] = { "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
    } do
      assert.are.equal(wanted[1], addr.text(cidr(given):first_host()), given)
      assert.are.equal(wanted[2], addr.text(cidr(given):last()), given)
    end
  end)

  it("has a broadcast address only where IPv4 has room for one", function()
    assert.are.equal("10.1.2.255", addr.text(cidr("10.1.2.3/24"):broadcast()))
    assert.are.equal("10.1.2.3", addr.text(cidr("10.1.2.1/30"):broadcast()))
    assert.is_nil(cidr("10.1.2.3/31"):broadcast())
    assert.is_nil(cidr("10.1.2.3/32"):broadcast())
    assert.is_nil(cidr("fd00::1/64"):broadcast())
  end)

  it("contains its addresses and no others", function()
    local c = cidr "10.1.2.0/24"
    assert.is_true(c:contains(ip "10.1.2.0"))
    assert.is_true(c:contains(ip "10.1.2.255"))
    assert.is_false(c:contains(ip "10.1.3.0"))
    assert.is_false(c:contains(ip "::a01:200"))
    assert.is_true(cidr("fd00::/64"):contains(ip "fd00::1:2:3:4"))
    assert.is_false(cidr("fd00::/64"):contains(ip "fd00:0:0:1::"))
    assert.is_false(cidr("::/0"):contains(ip "10.0.0.1"))
    assert.is_true(cidr("0.0.0.0/0"):contains(ip "10.0.0.1"))
  end)

  it("contains narrower prefixes and not wider ones", function()
    assert.is_true(cidr("10.0.0.0/8"):contains(cidr "10.1.2.3/24"))
    assert.is_true(cidr("10.0.0.0/8"):contains(cidr "10.0.0.0/8"))
    assert.is_false(cidr("10.1.2.0/24"):contains(cidr "10.0.0.0/8"))
    assert.is_false(cidr("10.0.0.0/8"):contains(cidr "fd00::/64"))
  end)

  it("overlaps what it has an address in common with", function()
    assert.is_true(cidr("10.1.2.0/24"):overlaps(cidr "10.0.0.0/8"))
    assert.is_true(cidr("10.0.0.0/8"):overlaps(cidr "10.1.2.0/24"))
    assert.is_false(cidr("10.1.2.0/24"):overlaps(cidr "10.1.3.0/24"))
    assert.is_false(cidr("0.0.0.0/0"):overlaps(cidr "::/0"))
  end)

  it("can be had for another address, and for one alone", function()
    assert.are.equal("10.1.2.9/24", tostring(cidr("10.1.2.3/24"):with_ip(ip "10.1.2.9")))
    assert.are.equal("10.1.2.3/32", tostring(cidr("10.1.2.3/24"):host()))
    assert.are.equal("fd00::1/128", tostring(cidr("fd00::1/64"):host()))
    assert.are.equal("10.1.2.3/32", tostring(addr.cidr(ip "10.1.2.3")))
    assert.are.equal("10.1.2.3/8", tostring(addr.cidr(ip "10.1.2.3", 8)))
  end)

  it("is told from everything else", function()
    assert.is_true(addr.is_cidr(cidr "10.1.2.3/24"))
    for _, v in ipairs { "10.1.2.3/24", { ip = ip "10.1.2.3", len = 24 }, 5, true } do
      assert.is_false(addr.is_cidr(v))
    end
    assert.is_false(addr.is_cidr(nil))
  end)

  it("is not changed by what is asked of it", function()
    local c = cidr "10.1.2.3/24"
    for _, method in ipairs { "network", "host", "last", "first_host", "broadcast" } do
      c[method](c)
    end
    c:with_ip(ip "1.2.3.4")
    assert.are.equal("10.1.2.3/24", tostring(c))
  end)
end)

describe("addresses", function()
  it("have neighbours, across every byte", function()
    for a, b in pairs {
      ["10.1.2.3"] = "10.1.2.4", ["10.1.255.255"] = "10.2.0.0", ["127.255.255.255"] = "128.0.0.0",
      ["fd00::ffff"] = "fd00::1:0", ["fd00::ffff:ffff:ffff:ffff"] = "fd00:0:0:1::",
      ["7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] = "8000::",
      ["fd00::7fff:ffff:ffff:ffff"] = "fd00::8000:0:0:0",
    } do
      assert.are.equal(b, addr.text(addr.next(ip(a))))
      assert.are.equal(a, addr.text(addr.prev(ip(b))))
    end
  end)

  it("end at both ends", function()
    assert.is_nil(addr.next(ip "255.255.255.255"))
    assert.is_nil(addr.prev(ip "0.0.0.0"))
    assert.is_nil(addr.next(("\xff"):rep(16)))
    assert.is_nil(addr.prev(("\0"):rep(16)))
  end)

  it("are in order, unsigned, IPv4 first", function()
    local sorted = { "0.0.0.0", "9.255.255.255", "10.0.0.0", "127.0.0.1", "128.0.0.0",
      "255.255.255.255", "::", "::1", "7fff::", "8000::", "8000::1", "8000::8000:0:0:0", "ffff::" }
    for i, a in ipairs(sorted) do
      for j, b in ipairs(sorted) do
        local d = addr.cmp(ip(a), ip(b))
        assert.are.equal(i < j and -1 or i > j and 1 or 0, d < 0 and -1 or d > 0 and 1 or 0)
      end
    end
  end)

  it("have a family and a default route", function()
    assert.are.equal("inet", addr.family(ip "10.1.2.3"))
    assert.are.equal("inet6", addr.family(ip "fd00::1"))
    assert.are.equal("0.0.0.0/0", tostring(addr.default "inet"))
    assert.are.equal("::/0", tostring(addr.default "inet6"))
    assert.is_true(addr.default "inet" == cidr "0.0.0.0/0")
  end)

  it("are sorted by kind", function()
    local function kinds(text)
      local b = ip(text)
      return addr.is_multicast(b), addr.is_link_local(b), addr.is_loopback(b),
        addr.is_unspecified(b)
    end
    assert.are.same({ true, false, false, false }, { kinds "224.0.0.1" })
    assert.are.same({ true, false, false, false }, { kinds "239.255.255.255" })
    assert.are.same({ true, false, false, false }, { kinds "ff02::1" })
    assert.are.same({ false, true, false, false }, { kinds "169.254.0.1" })
    assert.are.same({ false, true, false, false }, { kinds "fe80::1" })
    assert.are.same({ false, true, false, false }, { kinds "febf::1" })
    assert.are.same({ false, false, true, false }, { kinds "127.0.0.1" })
    assert.are.same({ false, false, true, false }, { kinds "::1" })
    assert.are.same({ false, false, false, true }, { kinds "0.0.0.0" })
    assert.are.same({ false, false, false, true }, { kinds "::" })
    for _, plain in ipairs { "10.0.0.1", "223.0.0.1", "240.0.0.1", "169.253.0.1", "fec0::1",
      "fd00::1", "::2", "0.0.0.1", "1::1" } do
      assert.are.same({ false, false, false, false }, { kinds(plain) }, plain)
    end
  end)
end)
