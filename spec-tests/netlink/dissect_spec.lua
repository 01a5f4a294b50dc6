-- SPDX-License-Identifier: MIT
-- netlink.dissect: what bytes say, by the rows that write them; what no row makes sense of is there as bytes, and
-- whatever the bytes are, they are taken. LUACNI_FUZZ, LUACNI_FUZZ_SEED: how many of them, and which.

local t = require "support"
package.cpath = t.build .. "/?.so;" .. package.cpath
local netlink = require "netlink"
local dissect = netlink.dissect

local function attr(type, data) return ("<I2I2"):pack(#data + 4, type) .. data .. ("\0"):rep(-#data % 4) end
local function nest(type, ...) return attr(type | 0x8000, table.concat { ... }) end
local function message(type, flags, body, seq) return ("<I4I2I2I4I4"):pack(16 + #body, type, flags, seq or 7, 0) .. body end
local function link(index, flags, change) return ("<BBI2i4I4I4"):pack(0, 0, 0, index, flags, change) end

-- Without the order of keys, which comes beside.
local function plain(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do
    if key ~= 0 then copy[key] = plain(item) end
  end
  return copy
end

local function attrs(type, body, flags)
  local list, left = dissect.messages(0, message(type, flags or 1, body))
  assert.same({ 1, 0 }, { #list, left })
  return plain(list[1].attrs), list[1]
end

local port = attr(3, "port0\0")
local veth = nest(18, attr(1, "veth\0"), nest(2, nest(1, link(0, 0, 0), attr(3, "eth0\0"), attr(28, "\5\0\0\0"))))

describe("netlink.dissect", function()
  it("reads what is only written, too, and names keys in their order", function()
    local got, whole = attrs(16, link(0, 1, 1) .. port .. veth)
    t.same({ up = true, name = "port0", kind = "veth", peer = { name = "eth0", netns = 5 } }, got)
    t.same({ "up", "name", "kind", "peer" }, whole.attrs[0])
    t.same({ "new", "link", 16, 1, 7 }, { whole.verb, whole.object, whole.type, whole.flags, whole.seq })
  end)

  it("leaves out of a header what is neither set nor meant", function()
    t.same({ index = 3, up = false }, (attrs(16, link(3, 0, 1))))
    t.same({ index = 3 }, (attrs(16, link(3, 0, 0))))
    t.same({ index = 3, arp = false, promisc = true }, (attrs(16, link(3, 0x180, 0))))
  end)

  it("gives by number what is in no row, too short for its row, or of an unknown kind", function()
    t.same({ name = "port0", ["#200"] = "0x0102", ["#4"] = "0xff" }, (attrs(16, link(0, 0, 0) .. port .. attr(200, "\1\2")
      .. attr(4, "\255"))))
    t.same({ kind = "odd", ["#18.2"] = "{7=0x31 7=0x3233}", ["#18.9"] = "0x" },
      (attrs(16, link(0, 0, 0) .. nest(18, attr(1, "odd\0"), nest(2, attr(7, "1"), attr(7, "23")), attr(9, "")))))
    -- What is marked as a nest and is none is bytes; the same number twice is told twice.
    t.same({ ["#201"] = "0x0300 0x05" }, (attrs(16, link(0, 0, 0) .. attr(201 | 0x8000, "\3\0") .. attr(201, "\5"))))
    -- Addresses of a length that there is none of, where it is a hook that reads them.
    local addr = ("<BBBBI4"):pack(2, 24, 0, 0, 3)
    t.same({ family = "inet", index = 3, address = "10.0.0.1/24" },
      (attrs(20, addr .. attr(1, "\10\0\0\1") .. attr(2, "\10\0\0\1"))))
    t.same({ family = "inet", index = 3, ["#2"] = "0x0a0000" }, (attrs(20, addr .. attr(2, "\10\0\0"))))
    local route = ("<BBBBBBBBI4"):pack(2, 16, 0, 0, 254, 4, 0, 1, 0)
    local got = attrs(24, route .. attr(1, "\10\1\0\0") .. attr(5, "\10\0\0\9"))
    t.same({ "10.1.0.0/16", "10.0.0.9" }, { got.dst, got.gw })
    got = attrs(24, route .. attr(1, "\10\1\0"))
    t.same({ ["#1"] = "0x0a0100" }, { ["#1"] = got["#1"], dst = got.dst })
  end)

  it("reads requests for VLANs of a port, which are links by their numbers", function()
    local bridge = ("<BBI2i4I4I4"):pack(7, 0, 0, 4, 0, 0)
    local function info(flags, vid) return attr(2, ("<I2I2"):pack(flags, vid)) end
    t.same({ index = 4, vid = 10, vid_end = 20, untagged = true, self = true },
      (attrs(19, bridge .. nest(26, attr(0, "\2\0"), info(12, 10), info(20, 20)))))
    t.same({ index = 4, vid = 5, pvid = true }, (attrs(17, bridge .. nest(26, info(2, 5)))))
    -- Three are no range.
    t.same({ index = 4, ["#26"] = "{2=0x00000100 2=0x00000200 2=0x00000300}" },
      (attrs(19, bridge .. nest(26, info(0, 1), info(0, 2), info(0, 3)))))
    -- For a link that is no bridge's port it is a link.
    t.same({ index = 4, master = 9 }, (attrs(19, link(4, 0, 0) .. attr(10, "\9\0\0\0"))))
  end)

  it("reads outcomes, with what the kernel says beside, and finds what it objects to", function()
    local request = message(16, 5, link(0, 0, 0) .. port .. veth)
    local function outcome(errno, tlvs)
      local list = dissect.messages(0, message(2, 0x300, ("<i4"):pack(errno) .. request:sub(1, 16) .. (tlvs or "")))
      return list[1]
    end
    t.same(0, outcome(0).errno)
    local got = outcome(-17, attr(1, "is there\0") .. attr(2, ("<I4"):pack(36)))
    t.same({ 17, "EEXIST", "File exists", "is there", 36 }, { got.errno, got.error, got.meaning, got.text, got.offset })
    assert.equal("name", dissect.locate(0, request, 36))
    assert.equal("peer.name", dissect.locate(0, request, request:find("eth0", 1, true) - 1))
    assert.is_nil(dissect.locate(0, request, 4))
    assert.is_nil(dissect.locate(0, request, 100000))
    -- The end of a dump may be one as well.
    t.same("EINTR", dissect.messages(0, message(3, 2, ("<i4"):pack(-4)))[1].error)
  end)

  it("gives the body of what it has no rows for, and counts what is no message", function()
    local list, left = dissect.messages(0, message(104, 1, "abcd") .. "rest")
    t.same({ "0x61626364", 4 }, { list[1].body, left })
    assert.is_nil(list[1].attrs)
    t.same("0x616263", dissect.messages(16, message(30, 1, "abc"))[1].body)
    list, left = dissect.messages(0, "")
    t.same({ 0, 0 }, { #list, left })
    list, left = dissect.messages(0, ("<I4"):pack(0xffffffff) .. ("x"):rep(60))
    t.same({ 0, 64 }, { #list, left })
  end)

  it("takes whatever it gets", function()
    local dice = math.random
    math.randomseed(tonumber(os.getenv("LUACNI_FUZZ_SEED")) or 1)
    local deep = port
    for _ = 1, 60 do deep = nest(18, attr(1, "veth\0"), nest(2, nest(1, link(0, 0, 0), deep))) end
    local table_name = attr(1, "t\0")
    local rule = "\1\0\0\0" .. table_name .. attr(2, "c\0") .. nest(4, nest(1, attr(1, "cmp\0"), nest(2, attr(1, "\0\0\0\1"),
      attr(2, "\0\0\0\0"), nest(3, attr(1, "\10\0\0\1")))), nest(1, attr(1, "immediate\0"), nest(2, attr(1, "\0\0\0\0"),
      nest(2, nest(2, attr(1, "\255\255\255\253"), attr(2, "c\0"))))))
    local tc = ("<BBI2i4I4I4I4"):pack(0, 0, 0, 1, 0x10000, 0xffffffff, 0)
    local hop = ("<I2BBI4"):pack(16, 0, 0, 3) .. attr(5, "\10\0\0\9")
    local seeds = {
      { 0, message(16, 1, link(0, 1, 1) .. port .. veth) }, { 0, message(16, 1, link(0, 0, 0) .. deep) },
      { 0, message(24, 1, ("<BBBBBBBBI4"):pack(2, 16, 0, 0, 254, 4, 0, 1, 0) .. attr(1, "\10\1\0\0") .. nest(9, hop, hop)
        .. nest(8, attr(2, "\0\5\0\0"))) },
      { 0, message(20, 1, ("<BBBBI4"):pack(10, 64, 0, 0, 3) .. attr(2, ("\1"):rep(16)) .. attr(6, ("\2"):rep(16))) },
      { 0, message(19, 1, ("<BBI2i4I4I4"):pack(7, 0, 0, 4, 0, 0) .. nest(26, attr(2, "\0\0\1\0"))) },
      { 0, message(112, 1, ("<BBI2I4"):pack(7, 0, 0, 4) .. nest(1, attr(1, "\0\0\1\0"), attr(2, "\5\0"))) },
      { 0, message(36, 1, tc .. attr(1, "tbf\0") .. nest(2, attr(1, ("\1"):rep(36)), attr(4, "\0\0\0\0\0\0\0\1"))) },
      { 0, message(36, 1, tc .. attr(1, "htb\0") .. nest(2, attr(2, ("\3"):rep(20)), attr(5, "\0\0\0\9"))) },
      { 0, message(40, 1, tc .. attr(1, "htb\0") .. nest(2, attr(1, ("\1"):rep(48)))) },
      { 0, message(44, 1, tc .. attr(1, "u32\0") .. nest(2, attr(1, "\1\0\1\0"), attr(5, ("\2"):rep(32)), nest(7, nest(1,
        attr(1, "mirred\0"), nest(2, attr(2, ("\4"):rep(28))))))) },
      -- A flow, of which there are no rows.
      { 12, message(0x100, 1, "\2\0\0\0" .. nest(1, nest(1, attr(1, "\10\0\0\1"), attr(2, "\10\0\0\2")), nest(2, attr(1, "\17"),
        attr(2, "\0\80"), attr(3, "\0\81")))) },
      { 12, message(0xa06, 1, rule) },
      { 12, message(0xa0c, 1, "\1\0\0\0" .. table_name .. attr(2, "s\0") .. nest(3, nest(1, nest(1, attr(1, "\10\0\0\1"))))) },
      { 12, message(0xa09, 1, "\1\0\0\0" .. table_name .. attr(2, "s\0") .. attr(4, "\0\0\0\7") .. nest(9, attr(1, "\0\0\0\9"))) },
      { 0, message(2, 0x200, ("<i4"):pack(-17) .. message(16, 1, link(0, 0, 0)) .. attr(1, "said\0") .. attr(2, "\8\0\0\0")) },
    }
    local told, count = 0, tonumber(os.getenv("LUACNI_FUZZ")) or 20000
    for _ = 1, count do
      local seed = seeds[dice(#seeds)]
      local bytes = seed[2]
      for _ = 1, dice(0, 6) do
        local at = dice(#bytes)
        bytes = bytes:sub(1, at - 1) .. string.char(dice(4) == 1 and dice(0, 8) or dice(0, 255)) .. bytes:sub(at + 1)
      end
      if dice(5) == 1 then bytes = bytes:sub(1, dice(0, #bytes)) end
      local list, left = dissect.messages(dice(20) == 1 and dice(0, 20) or seed[1], bytes)
      assert(left >= 0 and left <= #bytes)
      for _, m in ipairs(list) do
        told = told + (m.attrs and 1 or 0)
        assert(m.attrs == nil or type(m.attrs[0]) == "table")
      end
      dissect.locate(seed[1], bytes, dice(0, #bytes + 4))
    end
    assert.is_true(told > count / 4, tostring(told))
  end)
end)
