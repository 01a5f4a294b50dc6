-- SPDX-License-Identifier: MIT
-- cni.dhcp.message: what it writes is what the RFCs have, and what it reads is from anybody on the wire.

local addr = require "cni.addr"
local client = require "cni.dhcp.client"
local json = require "cni.json"
local message = require "cni.dhcp.message"
local netlink = require "netlink"
local t = require "support"

local sys = netlink.sys
local code = message.options
local cookie <const> = "\x63\x82\x53\x63"
local mac <const> = "\2\0\0\0\0\7"

local function bytes_of(hex)
  return (hex:gsub("%s", ""):gsub("%x%x", function(x) return string.char(tonumber(x, 16)) end))
end

local function zeros(count) return ("\0"):rep(count) end

-- The field of options, from { number, value } in a row.
local function field(list)
  local parts = {}
  for i, entry in ipairs(list) do parts[i] = string.pack("Bs1", entry[1], entry[2]) end
  return table.concat(parts)
end

-- The message of a server; `options` are bytes, ended or not.
local function answer(options, more)
  more = more or {}
  return string.pack(">BBBBI4I2I2c4c4c4c4c16c64c128", more.op or 2, more.htype or 1, more.hlen or 6, 0,
    more.xid or 0x01020304, 0, more.flags or 0, zeros(4), more.yiaddr or "\10\1\0\9", zeros(4),
    more.giaddr or zeros(4), more.chaddr or mac, more.sname or "", more.file or "") .. (more.cookie or cookie)
    .. options
end

local offer <const> = "\53\1\2"

local function read(options, more)
  local found, why = message.decode(answer(offer .. options, more))
  return assert(found, why).options
end

local function refused(bytes, want)
  local found, why = message.decode(bytes)
  assert.is_nil(found)
  assert.equal(want, why)
end

describe("A message that is written", function()
  it("is as RFC 2131 has it, field for field", function()
    local bytes = message.encode { kind = "request", xid = 0xdeadbeef, secs = 0x0102, flags = message.broadcast,
      ciaddr = "\10\1\0\9", chaddr = mac, options = { [50] = "\10\1\0\9", [12] = "blue" } }
    local want = bytes_of "01 01 06 00 de ad be ef 01 02 80 00 0a 01 00 09" .. zeros(12) .. mac .. zeros(10 + 64 + 128)
      .. bytes_of "63 82 53 63  0c 04 62 6c 75 65  32 04 0a 01 00 09  35 01 03  ff"
    assert.equal(want .. zeros(300 - #want), bytes)
  end)

  it("has zeros where nothing is said, and the number of its kind", function()
    for name, number in pairs { discover = 1, offer = 2, request = 3, decline = 4, ack = 5, nak = 6, release = 7 } do
      local bytes = message.encode { kind = name, chaddr = mac }
      local want = "\1\1\6" .. zeros(25) .. mac .. zeros(202) .. cookie .. "\53\1" .. string.char(number) .. "\255"
      assert.equal(want .. zeros(300 - #want), bytes)
    end
    assert.is_false((pcall(message.encode, { kind = "inform", chaddr = mac })))
  end)

  it("is filled up to 300 bytes, and is longer where there is more to say", function()
    for len = 0, 255 do
      local bytes = message.encode { kind = "discover", chaddr = mac, options = { [60] = ("x"):rep(len) } }
      assert.equal(math.max(300, 240 + 3 + 2 + len + 1), #bytes)
      assert.matches("\255%z*$", bytes)
    end
  end)

  it("says its kind once, whatever the options have", function()
    local bytes = message.encode { kind = "discover", chaddr = mac, options = { [53] = "\7" } }
    assert.equal("\53\1\1\255", bytes:sub(241, 244))
  end)

  it("has an option without a value, and one that is too long several times (RFC 3396)", function()
    for len, lens in pairs { [0] = { 0 }, [1] = { 1 }, [255] = { 255 }, [256] = { 255, 1 }, [510] = { 255, 255 },
      [700] = { 255, 255, 190 } } do
      local value = ("0123456789"):rep(70):sub(1, len)
      local bytes = message.encode { kind = "discover", chaddr = mac, options = { [43] = value } }
      local at, joined = 241, {}
      for _, want in ipairs(lens) do
        local number, piece
        number, piece, at = string.unpack("Bs1", bytes, at)
        t.same({ 43, want }, { number, #piece })
        joined[#joined + 1] = piece
      end
      assert.equal(value, table.concat(joined))
      assert.equal("\53\1\1\255", bytes:sub(at, at + 3))
    end
  end)

  it("is read as it was written, once it is a server's", function()
    local options = { [53] = "\5", [3] = "\10\1\0\1", [43] = ("abc"):rep(300), [80] = "", [254] = "x" }
    local found = assert(message.decode("\2" .. message.encode { kind = "ack", xid = 7, flags = message.broadcast,
      chaddr = mac, options = options }:sub(2)))
    t.same({ kind = "ack", xid = 7, flags = 0x8000, yiaddr = zeros(4), giaddr = zeros(4), chaddr = mac,
      options = options }, found)
    refused(message.encode { kind = "ack", chaddr = mac }, "it is no answer")
  end)
end)

describe("A message that is read", function()
  it("is a table of what a server says", function()
    local found = assert(message.decode(answer("\53\1\2\54\4\10\1\0\1\255", { xid = 0xfffffffe, flags = 0x8000,
      yiaddr = "\10\1\0\9", giaddr = "\10\1\0\3" })))
    t.same({ kind = "offer", xid = 0xfffffffe, flags = 0x8000, yiaddr = "\10\1\0\9", giaddr = "\10\1\0\3", chaddr = mac,
      options = { [53] = "\2", [54] = "\10\1\0\1" } }, found)
  end)

  it("says why it is none", function()
    for len = 0, 239 do refused(answer(""):sub(1, len), "it is too short") end
    refused(answer(offer, { cookie = "\x63\x82\x53\x64" }), "it has not the cookie of DHCP")
    for _, op in ipairs { 0, 1, 3, 255 } do refused(answer(offer, { op = op }), "it is no answer") end
    refused(answer(offer, { htype = 6 }), "its hardware address is none of Ethernet")
    refused(answer(offer, { hlen = 17 }), "its hardware address is none of Ethernet")
    for _, options in ipairs { "", "\255", "\53\0\255", "\53\1\0\255", "\53\1\8\255", "\53\1\255" } do
      refused(answer(options), "it does not say what it is")
    end
    assert.equal("nak", message.decode(answer "\53\1\6").kind)
    assert.equal(16, #message.decode(answer(offer, { hlen = 16 })).chaddr)
    assert.equal("", message.decode(answer(offer, { hlen = 0 })).chaddr)
  end)

  it("is none where an option leads out of it, and one where it ends there, with an end or without", function()
    for _, options in ipairs { "\3", "\3\4", "\3\4\10\1\0", "\3\1", "\3\255" .. zeros(254) } do
      refused(answer(offer .. options), "an option leads out of it")
    end
    for _, options in ipairs { "", "\3\4\10\1\0\1", "\3\0", "\0\0\0", "\3\255" .. zeros(255) } do
      for _, ending in ipairs { "", "\255", "\255\3\4\10", "\0\255", "\255" .. zeros(60) } do
        assert.is_table((message.decode(answer(offer .. options .. ending))))
      end
    end
  end)

  it("has nothing in it that stands behind its end, and what stands behind padding", function()
    local options = read "\0\0\3\4\10\1\0\1\0\0\0\6\4\10\1\0\2\255\15\1x"
    t.same({ [53] = "\2", [3] = "\10\1\0\1", [6] = "\10\1\0\2" }, options)
  end)

  it("joins an option that stands several times, in whatever order, wherever it is cut (RFC 3396)", function()
    local long = ("0123456789"):rep(70)
    for _, cut in ipairs { 0, 1, 250, 255 } do
      local pieces, rest = {}, long:sub(cut + 1)
      pieces[1] = { 43, long:sub(1, cut) }
      while rest ~= "" do
        pieces[#pieces + 1] = { 6, "\10\1\0\1" }
        pieces[#pieces + 1] = { 43, rest:sub(1, 255) }
        rest = rest:sub(256)
      end
      local options = read(field(pieces) .. "\255")
      assert.equal(long, options[43])
      assert.equal(("\10\1\0\1"):rep((#pieces - 1) // 2), options[6])
    end
  end)

  it("goes on in the fields for a file and a server's name where it says so (RFC 2132, 9.3)", function()
    local fields = { file = "\6\4\10\1\0\2\255", sname = "\6\4\10\1\0\3\15\1x\255" }
    for overload, want in pairs { [0] = { "\10\1\0\1" }, { "\10\1\0\1\10\1\0\2" }, { "\10\1\0\1\10\1\0\3", "x" },
      { "\10\1\0\1\10\1\0\2\10\1\0\3", "x" } } do
      local options = read("\52\1" .. string.char(overload) .. "\6\4\10\1\0\1\255", fields)
      t.same(want, { options[6], options[15] })
    end
    t.same({ "\10\1\0\1" }, { read("\6\4\10\1\0\1\255", fields)[6] })
    -- A server is to say what it is where every client looks; some clients find it there too.
    local found = assert(message.decode(answer("\52\1\1\255", { file = "\53\1\5\255" })))
    assert.equal("ack", found.kind)
  end)

  it("is not taken on by those fields to others, and is none where an option leads out of one", function()
    local options = read("\52\1\1\255", { file = "\52\1\3\255", sname = "\15\1x\255" })
    assert.is_nil(options[15])
    local broken = { file = "\6\127\10", sname = "\6\63\10" }
    for overload = 1, 3 do
      refused(answer(offer .. "\52\1" .. string.char(overload) .. "\255", broken), "an option leads out of its field")
    end
    assert.is_table(read("\52\1\0\255", broken))
    assert.is_table(read("\52\0\255", broken))
    -- To the last byte of them.
    options = read("\52\1\3\255", { file = "\15\126" .. ("f"):rep(126), sname = "\15\62" .. ("s"):rep(62) })
    assert.equal(("f"):rep(126) .. ("s"):rep(62), options[15])
  end)

  it("of the longest datagram is read in time", function()
    local began = sys.clock()
    local options = read(("\15\1x"):rep(21000))
    assert.equal(21000, #options[15])
    read(zeros(65000))
    read(("\15\0"):rep(32000))
    assert.is_true(sys.clock() - began < (t.guest and 20 or 5))
  end)
end)

describe("The value of an option", function()
  it("is a number where it has as many bytes", function()
    t.same({ 0, 255, 0x0102, 0x01020304, 0xffffffff }, { message.number("\0", 1), message.number("\255", 1),
      message.number("\1\2", 2), message.number("\1\2\3\4", 4), message.number("\255\255\255\255", 4) })
    for _, case in ipairs { { nil, 4 }, { "", 1 }, { "\1", 2 }, { "\1\2\3", 2 }, { "\1\2\3", 4 },
      { "\1\2\3\4\5", 4 } } do
      assert.is_nil((message.number(case[1], case[2])))
    end
  end)

  it("is as many addresses as there are whole ones", function()
    t.same({ "\10\1\0\1", "\10\1\0\2" }, message.addresses "\10\1\0\1\10\1\0\2")
    t.same({ "\10\1\0\1" }, message.addresses "\10\1\0\1\10\1\0")
    for _, value in ipairs { "", "\10", "\10\1\0" } do t.same({}, message.addresses(value)) end
    t.same({}, message.addresses(nil))
  end)

  it("is a text without the zeros that end it, and none where it is empty", function()
    for value, want in pairs { a = "a", ["a\0\0"] = "a", ["a\0b\0"] = "a\0b", [" "] = " " } do
      assert.equal(want, (message.text(value)))
    end
    for _, value in ipairs { "", "\0", "\0\0\0" } do assert.is_nil((message.text(value))) end
    assert.is_nil((message.text(nil)))
  end)

  it("is a domain where a resolver's file can have it", function()
    for _, text in ipairs { "a", "example.net", "example.net.", "_tcp.a-b.C9", ("x"):rep(253) } do
      assert.is_true(message.is_domain(text), text)
    end
    for _, text in ipairs { "", ".", "-a", ".a", "a b", "a\nnameserver 10.1.0.1", "a\0", "\0", "a\tb", "a#b", "a;b",
      "\u{e9}", ("x"):rep(254) } do
      assert.is_false(message.is_domain(text), ("%q"):format(text))
    end
    assert.is_false(message.is_domain(nil))
  end)
end)

describe("A search list (RFC 3397)", function()
  local function domains(value) return table.concat(message.domains(value), " ") end

  it("is names in a row", function()
    assert.equal("", domains(nil))
    assert.equal("", domains "")
    assert.equal("a", domains "\1a\0")
    assert.equal("one.example two.example", domains "\3one\7example\0\3two\7example\0")
    assert.equal(("x"):rep(63), domains("\63" .. ("x"):rep(63) .. "\0"))
  end)

  it("is compressed, with names that go on in others before them", function()
    -- The example of the RFC: eng.apple.com. and marketing.apple.com.
    assert.equal("eng.apple.com marketing.apple.com", domains "\3eng\5apple\3com\0\9marketing\xc0\4")
    assert.equal("a.b a.b b c.a.b", domains "\1a\1b\0\xc0\0\xc0\2\1c\xc0\0")
    -- A pointer to what ends with a pointer.
    assert.equal("a x.a y.x.a", domains "\1a\0\1x\xc0\0\1y\xc0\3")
    -- Past what one byte says.
    local long = ("\60" .. ("x"):rep(60)):rep(4) .. "\0"
    assert.equal("a", message.domains(long .. "\1b\0" .. long .. "\1a\0\xc1\xed")[5])
  end)

  it("ends before a name that goes round, forward, to itself, or out of it", function()
    for _, bad in ipairs { "\xc0\5", "\xc0\6", "\xc0\7", "\1b\xc0\5", "\1b\xc0\7", "\xff\xff", "\xc0\5\1c\0",
      "\xc0", "\1b\xc0", "\1b", "\2b", "\63", "\64", "\1b\64", "\x80\0", "\1b\xbf" } do
      assert.equal("a a", domains("\1a\0\xc0\0" .. bad), ("%q"):format(bad))
    end
    assert.equal("a a z", domains "\1a\0\xc0\0\1z\0")
    for _, bad in ipairs { "\xc0\0", "\1a\xc0\0", "\xc0\2\xc0\0", "\1a\xc0\2", "\0", "\xc0\1\0" } do
      assert.equal("", domains(bad), ("%q"):format(bad))
    end
  end)

  it("ends before a name that no resolver's file can have", function()
    for _, bad in ipairs { "\3a b\0", "\1\n\0", "\2-a\0", "\1\0\0", "\0", "\4a;b\n\0" } do
      assert.equal("a", domains("\1a\0" .. bad .. "\1z\0"), ("%q"):format(bad))
    end
    assert.equal("a", domains("\1a\0" .. ("\63" .. ("x"):rep(63)):rep(4) .. "\0"))
    assert.equal("a z", domains "\1a\0\1z\0")
  end)

  it("is read in time, however its pointers lie", function()
    -- As many labels as a name can have, each with a pointer before it, and one more pointer.
    local chain = { "\1a\0" }
    for i = 1, 126 do chain[i + 1] = string.pack(">BBI2", 1, 97, 0xc000 | (i == 1 and 0 or 3 + 4 * (i - 2))) end
    local list = message.domains(table.concat(chain))
    assert.equal(32, #list)
    assert.equal(("a."):rep(31) .. "a", list[32])
    local began = sys.clock()
    local pointers = { "\1a\0" }
    for i = 1, 8000 do pointers[i + 1] = string.pack(">I2", 0xc000 | (i == 1 and 0 or 3 + 2 * (i - 2))) end
    list = message.domains(table.concat(pointers))
    assert.equal(32, #list)
    t.same({}, message.domains(("\1a"):rep(8000) .. ("\xc0\0"):rep(20)))
    message.domains(("\1\xc0"):rep(8000))
    assert.is_true(sys.clock() - began < (t.guest and 10 or 1))
  end)
end)

local function shown(list)
  local out = {}
  for i, entry in ipairs(list) do out[i] = entry.dst .. " " .. addr.text(entry.router) end
  return table.concat(out, ", ")
end

describe("Classless routes (RFC 3442)", function()
  local function classless(value) return shown(message.classless(value)) end

  it("have as many bytes of the destination as their length takes", function()
    -- The table of the RFC.
    for value, dst in pairs { ["\0"] = "0.0.0.0/0", ["\8\10"] = "10.0.0.0/8", ["\24\10\0\0"] = "10.0.0.0/24",
      ["\16\10\17"] = "10.17.0.0/16", ["\24\10\27\129"] = "10.27.129.0/24", ["\25\10\229\0\128"] = "10.229.0.128/25",
      ["\32\10\198\122\47"] = "10.198.122.47/32", ["\1\128"] = "128.0.0.0/1", ["\9\10\128"] = "10.128.0.0/9",
      ["\31\10\1\0\2"] = "10.1.0.2/31" } do
      assert.equal(dst .. " 10.1.0.1", classless(value .. "\10\1\0\1"))
    end
    assert.equal("10.0.0.0/8 10.1.0.1, 0.0.0.0/0 0.0.0.0, 10.1.0.7/32 10.1.0.2",
      classless "\8\10\10\1\0\1\0\0\0\0\0\32\10\1\0\7\10\1\0\2")
    assert.equal("", classless "")
    assert.equal("", classless(nil))
  end)

  it("have no bits behind their length", function()
    assert.equal("10.128.0.0/9 10.1.0.1", classless "\9\10\255\10\1\0\1")
    assert.equal("10.1.0.128/25 10.1.0.1", classless "\25\10\1\0\255\10\1\0\1")
  end)

  it("are none where one is cut short or too long", function()
    local whole = "\24\10\1\0\10\1\0\1\0\10\1\0\1\32\10\1\0\7\10\1\0\2"
    local fine = { [0] = true, [8] = true, [13] = true, [22] = true }
    for len = 0, #whole do
      assert.equal(fine[len] == true and len > 0, classless(whole:sub(1, len)) ~= "", tostring(len))
    end
    for _, len in ipairs { 33, 64, 128, 255 } do
      assert.equal("", classless("\8\10\10\1\0\1" .. string.char(len) .. ("\10"):rep(40)))
    end
  end)
end)

describe("Static routes (RFC 2132, 5.8)", function()
  local function static(value) return shown(message.static(value)) end

  it("go by the class of their destination", function()
    for dst, want in pairs { ["\1\2\3\4"] = "1.0.0.0/8", ["\127\255\3\4"] = "127.0.0.0/8",
      ["\128\0\0\4"] = "128.0.0.0/16", ["\191\255\3\4"] = "191.255.0.0/16",
      ["\192\0\2\4"] = "192.0.2.0/24", ["\223\2\3\4"] = "223.2.3.0/24" } do
      assert.equal(want .. " 10.1.0.1", static(dst .. "\10\1\0\1"))
    end
    assert.equal("10.0.0.0/8 10.1.0.1, 192.0.2.0/24 10.1.0.2", static "\10\2\0\0\10\1\0\1\192\0\2\0\10\1\0\2")
  end)

  it("are none to what has no class, nor a default; the others count", function()
    for _, dst in ipairs { "\0\0\0\0", "\0\1\2\3", "\224\0\0\1", "\240\0\0\0", "\255\255\255\255" } do
      assert.equal("192.0.2.0/24 10.1.0.2", static(dst .. "\10\1\0\1\192\0\2\0\10\1\0\2"))
    end
  end)

  it("are as many as there are whole ones", function()
    local first = "10.0.0.0/8 10.1.0.1"
    for len, want in pairs { [0] = "", [4] = "", [7] = "", [8] = first, [15] = first } do
      assert.equal(want, static(("\10\2\0\0\10\1\0\1\192\0\2\0\10\1\0\2"):sub(1, len)))
    end
    assert.equal("", static(nil))
  end)
end)

local own, server, all = "\10\1\0\9", "\10\1\0\1", "\255\255\255\255"

-- RFC 1071, in 32 bits at a time: not as it is done there.
local function checksum(bytes)
  local total = 0
  for word in (bytes .. zeros(-#bytes % 4)):gmatch "...." do total = total + string.unpack(">I4", word) end
  while total > 0xffff do total = (total >> 16) + (total & 0xffff) end
  return ~total & 0xffff
end

-- A packet to a client. `more`: fields of it that are to be otherwise, and `check` of UDP (nil: the right one).
local function packet(text, more)
  more = more or {}
  local options, from, to, len = more.options or "", more.from or server, more.to or all, more.len or #text + 8
  local function udp(check) return string.pack(">I2I2I2I2", 67, more.port or 68, len, check) .. text end
  local right = checksum(from .. to .. string.pack(">I2I2", 17, len) .. udp(0))
  local payload = udp(more.check or (right == 0 and 0xffff or right))
  local first = (more.version or 4) << 4 | (more.words or 5 + #options // 4)
  local function head(check)
    return string.pack(">BBI2I2I2BBI2c4c4", first, 0, more.total or 20 + #options + #payload, 7, more.fragment or 0, 64,
      more.protocol or 17, check, from, to) .. options
  end
  return head(more.head_check or checksum(head(0))) .. payload
end

describe("A packet that is written", function()
  it("is one from a client to a server, with its checksums, at odd lengths too", function()
    for _, text in ipairs { "", "x", "xy", "\255", "\255\255\255", ("x"):rep(301), zeros(300) } do
      local bytes = message.wrap(own, server, text)
      assert.equal(28 + #text, #bytes)
      t.same({ 0x45, #bytes, 0, 17, own, server, 68, 67, 8 + #text }, { bytes:byte(), (string.unpack(">I2", bytes, 3)),
        (string.unpack(">I2", bytes, 7)), bytes:byte(10), bytes:sub(13, 16), bytes:sub(17, 20),
        (string.unpack(">I2", bytes, 21)), (string.unpack(">I2", bytes, 23)), (string.unpack(">I2", bytes, 25)) })
      assert.equal(text, bytes:sub(29))
      assert.equal(0, checksum(bytes:sub(1, 20)))
      assert.equal(0, checksum(bytes:sub(13, 20) .. string.pack(">I2I2", 17, 8 + #text) .. bytes:sub(21)))
    end
  end)

  it("never says that it has no checksum: 0 is written as 65535", function()
    local seen = false
    for n = 0, 0xffff do
      local check = string.unpack(">I2", message.wrap(own, server, string.pack(">I2", n)), 27)
      assert.not_equal(0, check)
      seen = seen or check == 0xffff
    end
    assert.is_true(seen)
  end)

  it("is taken by the kernel as what it is, and not with a byte of it changed", function()
    local far, near = t.netns "far", t.netns "near"
    t.run([[ip link add v0 type veth peer name eth0 netns near
      ip addr add 10.1.0.1/24 dev v0; ip link set v0 up; ip -n near link set eth0 up]], { host = far })
    local heard = "/run/spec/heard"
    local pid = t.run(("timeout 20 socat -u UDP4-RECV:67 OPEN:%s,creat,append </dev/null >/dev/null 2>&1 & echo $!")
      :format(heard), { host = far })
    t.run("for i in $(seq 100); do ss -lun | grep -q ':67 ' && exit 0; sleep 0.05; done; exit 1", { host = far })
    for _ = 1, 200 do
      if t.link(far, "v0").operstate == "UP" and t.link(near, "eth0").operstate == "UP" then break end
      sys.sleep(20)
    end
    local wire <close> = assert(netlink.ns.frames(near.path, t.link(near, "eth0").ifindex, 0x0800))
    for _, text in ipairs { "one,", "two!,", "three," } do
      local bytes = message.wrap(own, server, text)
      assert.is_true(wire:send(bytes:sub(1, -2) .. ";", all .. "\255\255"))
      assert.is_true(wire:send(bytes:sub(1, 10) .. "\0\0" .. bytes:sub(13), all .. "\255\255"))
      assert.is_true(wire:send(bytes, all .. "\255\255"))
    end
    for _ = 1, 100 do
      if #(t.read(heard) or "") >= 15 then break end
      sys.sleep(20)
    end
    t.sh("kill " .. pid)
    assert.equal("one,two!,three,", t.read(heard))
    t.cleanup()
  end)
end)

describe("A packet that is read", function()
  local function texts(bytes, is_summed) return { message.unwrap(bytes, is_summed) } end

  it("gives the message and who sent it, at odd lengths too", function()
    for _, text in ipairs { "", "x", "xy", "\255\255\255", ("x"):rep(301), zeros(300) } do
      t.same({ text, server }, texts(packet(text), true))
      t.same({ text, server }, texts(packet(text), false))
    end
  end)

  it("is none with a wrong checksum of UDP, unless that was not filled in, or there is none", function()
    for _, text in ipairs { "text", "texts" } do
      for _, check in ipairs { 1, 0x1234, 0xffff } do
        t.same({}, texts(packet(text, { check = check }), true))
        t.same({ text, server }, texts(packet(text, { check = check }), false))
      end
      t.same({ text, server }, texts(packet(text, { check = 0 }), true))
      for at = 29, 28 + #text do
        local bytes = packet(text)
        bytes = bytes:sub(1, at - 1) .. "\1" .. bytes:sub(at + 1)
        t.same({}, texts(bytes, true))
      end
    end
  end)

  it("is none with a wrong checksum of its header, whatever the other one is", function()
    local whole = packet "text"
    for at = 1, 20 do
      for bit = 0, 7 do
        local bytes = whole:sub(1, at - 1) .. string.char(whole:byte(at) ~ 1 << bit) .. whole:sub(at + 1)
        t.same({}, texts(bytes, false))
        t.same({}, texts(bytes, true))
      end
    end
    t.same({ "text", server }, texts(whole, true))
  end)

  it("may have options in its header", function()
    for _, options in ipairs { "\1\1\1\1", ("\1"):rep(40), zeros(12) } do
      for _, is_summed in ipairs { true, false } do
        t.same({ "text", server }, texts(packet("text", { options = options }), is_summed))
      end
    end
    for words = 0, 4 do t.same({}, texts(packet("text", { words = words }), true)) end
    for words = 6, 15 do t.same({}, texts(packet("text", { words = words }), true)) end
  end)

  it("is none as a fragment, and one where it says not to be made such", function()
    for _, fragment in ipairs { 0x2000, 1, 0x1fff, 0x2001, 0x3fff } do
      t.same({}, texts(packet("text", { fragment = fragment }), true))
    end
    t.same({ "text", server }, texts(packet("text", { fragment = 0x4000 }), true))
  end)

  it("may have what a link fills it up with, which is no part of it", function()
    for _, rest in ipairs { "\0", zeros(18), ("\255"):rep(18) } do
      t.same({ "", server }, texts(packet "" .. rest, true))
      t.same({ "text", server }, texts(packet "text" .. rest, true))
    end
    -- So may a datagram be shorter than its packet.
    t.same({ "text", server }, texts(packet("text++", { len = 12, check = 0 }), true))
  end)

  it("is none where it is cut short, or a length in it leads out of it", function()
    local whole = packet "text"
    for len = 0, #whole - 1 do
      t.same({}, texts(whole:sub(1, len), true))
      t.same({}, texts(whole:sub(1, len), false))
    end
    for _, total in ipairs { 0, 19, 20, 27, 31, 33, 65535 } do
      t.same({}, texts(packet("text", { total = total }), true))
    end
    for _, len in ipairs { 0, 7, 13, 65535 } do t.same({}, texts(packet("text", { len = len, check = 0 }), false)) end
    t.same({ "", server }, texts(packet("text", { len = 8, check = 0 }), false))
  end)

  it("is none that is no datagram of IPv4 to a client", function()
    for _, more in ipairs { { version = 6 }, { version = 0 }, { protocol = 6 }, { protocol = 1 }, { port = 67 },
      { port = 0 } } do
      t.same({}, texts(packet("text", more), true))
      t.same({}, texts(packet("text", more), false))
    end
    -- What is for a server is not for a client.
    t.same({}, texts(message.wrap(own, server, "text"), true))
    t.same({ "text", server }, texts(packet("text", { to = own }), true))
  end)
end)

-- Whatever comes ---------------------------------------------------------------------------

-- A seed that can be given again, where one has found something: LUACNI_FUZZ_SEED.
local seed = tonumber(os.getenv "LUACNI_FUZZ_SEED") or os.time()
local count = t.thorough and 1000000 or (t.sanitized or t.guest) and 4000 or 20000
local dice = math.random

local function pick(list) return list[dice(#list)] end

local function noise(len)
  local bytes = {}
  for i = 1, len do bytes[i] = string.char(dice(0, 255)) end
  return table.concat(bytes)
end

local samples = {
  [code.subnet_mask] = "\255\255\255\0", [code.routers] = "\10\1\0\1", [code.dns] = "\10\1\0\2\10\1\0\3",
  [code.host_name] = "blue", [code.domain_name] = "example.net\0", [code.mtu] = "\5\120",
  [code.static_routes] = "\192\0\2\0\10\1\0\1\10\1\0\0\10\1\0\1", [code.duration] = "\0\0\14\16",
  [code.overload] = "\3", [code.kind] = "\5", [code.server] = "\10\1\0\1", [code.message] = "no\0",
  [code.renew] = "\0\0\7\8", [code.rebind] = "\0\0\12\78", [code.rapid_commit] = "",
  [code.domain_search] = "\3eng\5apple\3com\0\9marketing\xc0\4",
  [code.classless_routes] = "\0\10\1\0\1\24\10\1\0\0\0\0\0",
}
local numbers = {}
for number in next, samples do numbers[#numbers + 1] = number end
table.sort(numbers)

-- Change, cut out, double some bytes.
local function bend(bytes)
  for _ = 1, dice(0, 4) do
    if bytes == "" then return noise(dice(0, 8)) end
    local at, kind = dice(#bytes), dice(6)
    local byte = pick { 0, 1, 2, 63, 64, 127, 128, 191, 192, 223, 224, 254, 255, dice(0, 255) }
    if kind <= 3 then bytes = bytes:sub(1, at - 1) .. string.char(byte) .. bytes:sub(at + 1)
    elseif kind == 4 then bytes = bytes:sub(1, at - 1) .. bytes:sub(at + dice(4))
    elseif kind == 5 then bytes = bytes:sub(1, at) .. bytes:sub(math.max(1, at - dice(8)))
    else bytes = bytes:sub(1, at) end
  end
  return bytes
end

-- The options of a server that is not in its right mind. `always`: numbers that are left as they are.
local function odd_options(always)
  local parts = {}
  for _, number in ipairs(numbers) do
    local value = samples[number]
    if always and always[number] then
      parts[#parts + 1] = string.pack("Bs1", number, value)
    elseif dice(8) > 1 then
      if dice(3) == 1 then value = bend(value) elseif dice(20) == 1 then value = noise(dice(0, 255)) end
      parts[#parts + 1] = string.pack("Bs1", number, value:sub(1, 255))
    end
  end
  return table.concat(parts)
end

local function odd_answer(xid, always)
  local options = odd_options(always)
  if not always and dice(2) == 1 then options = bend(options) end
  if always or dice(4) > 1 then options = options .. "\255" end
  local function field_of(len)
    if dice(8) == 1 then return noise(dice(0, len)) end
    return (dice(2) == 1 and bend "\6\4\10\1\0\5\255" or "\6\4\10\1\0\5\255"):sub(1, len)
  end
  return answer(options, { xid = xid, yiaddr = dice(10) == 1 and noise(4) or nil, sname = field_of(64),
    file = field_of(128) })
end

-- Run `try` with so many things at hand; what is raised says by which seed and which of them.
local function each(times, try)
  math.randomseed(seed)
  for i = 1, times do
    local ok, err = xpcall(try, debug.traceback, i)
    if not ok then error(("LUACNI_FUZZ_SEED=%d, number %d: %s"):format(seed, i, tostring(err)), 0) end
  end
end

local function is_address(text) return type(text) == "string" and #(addr.ip(text) or "") == 4 end
local function check_routes(list, key, fits)
  for _, route in ipairs(list) do
    local dst = addr.parse(route.dst)
    assert(dst and dst.family == "inet" and dst:is_network() and tostring(dst) == route.dst, route.dst)
    assert(fits(route[key]))
  end
end
local function is_four(bytes) return type(bytes) == "string" and #bytes == 4 end

local function check_values(value)
  local list = message.domains(value)
  for _, name in ipairs(list) do assert(message.is_domain(name) and #name <= 253 and not name:find "[^%w_.-]") end
  check_routes(message.classless(value), "router", is_four)
  check_routes(message.static(value), "router", is_four)
  local addresses = message.addresses(value)
  assert(#addresses == #(value or "") // 4)
  for _, bytes in ipairs(addresses) do assert(is_four(bytes)) end
  for _, len in ipairs { 1, 2, 4 } do
    local number = message.number(value, len)
    if value and #value == len then
      assert(math.type(number) == "integer" and number >= 0 and number < 1 << 8 * len)
    else
      assert(number == nil)
    end
  end
  local text = message.text(value)
  assert(text == nil or type(text) == "string" and text ~= "" and text:byte(-1) ~= 0)
end

local function check_decoded(bytes)
  local found, why = message.decode(bytes)
  if not found then
    assert(type(why) == "string")
    return false
  end
  assert(message.kinds[found.kind] and math.type(found.xid) == "integer" and math.type(found.flags) == "integer")
  assert(is_four(found.yiaddr) and is_four(found.giaddr) and #found.chaddr <= 16)
  for number, value in next, found.options do
    assert(math.type(number) == "integer" and number > 0 and number < 255)
    check_values(value)
  end
  return true
end

describe("Whatever comes, of " .. count, function()
  it("a message is one or says why not, and so are its values", function()
    local good = 0
    each(count, function(i)
      local bytes = i % 50 == 0 and noise(dice(0, 600)) or odd_answer(7)
      if dice(2) == 1 then bytes = bend(bytes) end
      if check_decoded(bytes) then good = good + 1 end
    end)
    -- Else they would tell nothing of the half that is.
    assert.is_true(good > count // 5 and good < count, good)
  end)

  it("a value is read or not, by itself", function()
    each(count, function(i)
      check_values(i % 10 == 0 and noise(dice(0, 300)) or bend(bend(samples[pick(numbers)])))
    end)
    check_values(nil)
  end)

  it("a packet is a message or none", function()
    local good = 0
    each(count, function(i)
      local text = noise(dice(0, 40))
      local bytes = i % 50 == 0 and noise(dice(0, 200))
        or packet(text, { options = zeros(4 * dice(0, 2)), from = noise(4) })
      local is_bent = i % 50 == 0 or dice(2) == 1
      if is_bent then bytes = bend(bytes) end
      local found, from = message.unwrap(bytes, dice(2) == 1)
      assert(found == nil and from == nil or type(found) == "string" and is_four(from) and #found + 28 <= #bytes)
      if not is_bent then assert(found == text and from == bytes:sub(13, 16)) end
      good = good + (found and 1 or 0)
    end)
    assert.is_true(good > count // 5 and good < count, good)
  end)

  local real = { frames = netlink.ns.frames, datagrams = netlink.ns.datagrams }
  after_each(function() netlink.ns.frames, netlink.ns.datagrams = real.frames, real.datagrams end)

  -- Sockets are played: what is sent says by which number the answer is to come. `others`: what comes besides, and
  -- always.
  local function play(reply, others)
    local waiting
    local Wire = { close = function() end }
    Wire.__index, Wire.__close = Wire, Wire.close
    function Wire:send(bytes) -- luacheck: ignore self
      -- Alone, or behind two headers; or it asks for an address.
      if bytes:byte(2) ~= 1 or bytes:byte() ~= 0 then
        waiting = reply(string.unpack(">I4", bytes, (bytes:byte() == 0x45 and 29 or 1) + 4))
      end
      return true
    end
    function Wire:receive() -- luacheck: ignore self
      local bytes = waiting and packet(waiting) or others
      waiting = nil
      if bytes then return bytes, "\2\0\0\0\0\1", true end
      return nil, "receive: timed out", sys.errno.ETIMEDOUT
    end
    local function open() return setmetatable({}, Wire) end
    netlink.ns.frames, netlink.ns.datagrams = open, open
  end

  local function check_lease(lease)
    local address = addr.parse(lease.address)
    assert(address and address.family == "inet" and address.len > 0)
    assert(lease.gateway == nil or is_address(lease.gateway))
    check_routes(lease.routes, "gw", is_address)
    local dns = lease.dns or {}
    for _, text in ipairs(dns.nameservers or {}) do assert(is_address(text)) end
    assert(dns.domain == nil or message.is_domain(dns.domain))
    for _, name in ipairs(dns.search or {}) do assert(message.is_domain(name)) end
    assert(lease.mtu == nil or lease.mtu >= 68 and lease.mtu < 65536)
    assert(is_address(lease.server) and lease.server_mac == "02:00:00:00:00:01" and lease.client == "0102")
    assert(type(lease.granted) == "number")
    if lease.expires_at then
      assert(lease.granted <= lease.renew_at and lease.renew_at <= lease.rebind_at
        and lease.rebind_at <= lease.expires_at)
    else
      assert(not lease.renew_at and not lease.rebind_at)
    end
    assert(json.decode(json.note(lease)).address == lease.address)
  end

  local link = { name = "eth0", index = 1, mac = "02:00:00:00:00:07" }
  local want = { client = "0102", wanted = "\1\3\6", rapid = true, probe_ms = 0 }
  -- What gets an answer past the first look at it; most of them leave some of that out.
  local always = { [code.kind] = true, [code.server] = true, [code.duration] = true, [code.rapid_commit] = true,
    [code.subnet_mask] = true }
  local function play_odd()
    play(function(xid) return odd_answer(xid, dice(4) > 1 and always or nil) end)
  end

  it("an answer is a lease of which all can be used, or none, and that is an error with its code", function()
    play_odd()
    local good = 0
    each(count // 4, function()
      local ok, lease = pcall(client.acquire, "/run/netns/none", link, want, 0)
      if ok then
        good = good + 1
        check_lease(lease)
      else
        assert(type(lease) == "table" and lease.code == 11, tostring(lease))
      end
    end)
    assert.is_true(good > count // 20 and good < count // 4, good)
  end)

  it("an answer renews a lease with what can be used, or is told of, or has refused it", function()
    play_odd()
    local good = 0
    local old = { address = "10.1.0.9/24", server = "10.1.0.1", rebind_at = 0 }
    each(count // 4, function(i)
      old.rebind_at = i % 2 == 0 and 0 or sys.uptime() + 1000
      local lease, why = client.renew("/run/netns/none", link, want, old, 0)
      if lease then
        good = good + 1
        check_lease(lease)
      else
        assert(type(why) == "string")
      end
    end)
    assert.is_true(good > count // 20 and good < count // 4, good)
  end)

  local fine = { [53] = "\5", [54] = server, [51] = "\0\0\14\16", [80] = "", [1] = "\255\255\255\0" }
  local function fine_answer(more)
    return function(xid)
      local list = {}
      for number, value in next, t.with(fine, more) do list[#list + 1] = { number, value } end
      return answer(field(list) .. "\255", { xid = xid })
    end
  end

  it("much of it for others keeps nobody longer than an answer that does not come", function()
    local arp = string.pack(">I2I2BBI2c6c4c6c4", 1, 0x0800, 6, 4, 1, "\2\0\0\0\0\9", server, "", own)
    local began = sys.clock()
    play(function() end, packet(answer(offer, { xid = 1 })))
    local ok, err = pcall(client.acquire, "/run/netns/none", link, want, 0.3)
    t.same({ false, 11 }, { ok, err.code })
    assert.is_nil((client.renew("/run/netns/none", link, want, { address = "10.1.0.9/24", server = "10.1.0.1" }, 0.3)))
    play(fine_answer(), arp)
    assert.equal("10.1.0.9/24", client.acquire("/run/netns/none", link, t.with(want, { probe_ms = 200 }), 1).address)
    assert.is_true(sys.clock() - began < (t.guest and 20 or 3))
  end)

  it("times that make no sense are as if they were not said", function()
    local function times(t1, t2, lasts)
      play(fine_answer { [58] = t1 and string.pack(">I4", t1), [59] = t2 and string.pack(">I4", t2),
        [51] = string.pack(">I4", lasts) })
      local lease = client.acquire("/run/netns/none", link, want, 0)
      return lease.renew_at - lease.granted, lease.rebind_at - lease.granted, lease.expires_at - lease.granted
    end
    for _, case in ipairs { { false, false, 1000, 500, 875 }, { 0, 0, 1000, 500, 875 }, { 0, 600, 1000, 500, 600 },
      { 300, 0, 1000, 300, 875 }, { 300, 600, 1000, 300, 600 }, { 600, 300, 1000, 300, 300 },
      { 1000, 1000, 1000, 500, 875 }, { 2000, 3000, 1000, 500, 875 } } do
      local t1, t2, lasts = times(case[1], case[2], case[3])
      -- Up to a twentieth sooner, by chance.
      assert.is_true(t1 <= case[4] + 0.001 and t1 >= case[4] * 0.95 - 0.001, t1)
      assert.is_true(math.abs(t2 - case[5]) < 0.001 and math.abs(lasts - case[3]) < 0.001, t2)
    end
  end)
end)
