-- SPDX-License-Identifier: MIT
-- What the bindings make of a kernel that interrupts, loses, lies: the spec plays
-- the kernel, at the other end of a socket in the place of the handle's own.

local lfs = require "lfs"
local t = require "support"
local netlink = require "netlink"

local NOOP, ERROR, DONE = 1, 2, 3
local NEWLINK, NEWADDR = 16, 20
local MULTI, INTERRUPTED, CAPPED, TLVS = 2, 16, 256, 512
local EAGAIN, ETIMEDOUT, EPERM, EEXIST, EBADMSG, EINVAL = 11, 110, 1, 17, 74, 22

local function helper(name)
  local path = t.build .. "/" .. name .. ".so"
  if not lfs.attributes(path) then
    path = "/run/spec/" .. name .. ".so"
    if not lfs.attributes(path) then
      t.run({ "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC",
        "-I/usr/include/lua5.4", "-o", path, "spec-tests/" .. name .. ".c" })
    end
  end
  return assert(package.loadlib(path, "luaopen_" .. name))()
end

local fake, h, kernel

local function message(kind, flags, seq, body)
  return ("=I4I2I2I4I4"):pack(16 + #body, kind, flags, seq, 0) .. body
    .. ("\0"):rep(-#body % 4)
end

local function attr(kind, payload)
  return ("=I2I2"):pack(4 + #payload, kind) .. payload .. ("\0"):rep(-#payload % 4)
end

local function link(seq, index, name, flags)
  return message(NEWLINK, flags or MULTI, seq,
    ("=BBI2i4I4I4"):pack(0, 0, 1, index, 0, 0) .. attr(3, name .. "\0"))
end

local function done(seq, flags, code) return message(DONE, MULTI | (flags or 0), seq, ("=i4"):pack(code or 0)) end

--- An acknowledgement; text is the kernel's own words.
local function ack(seq, errno, text)
  local body = ("=i4"):pack(-errno) .. ("=I4I2I2I4I4"):pack(100, NEWLINK, 0, seq, 0)
  if not text then return message(ERROR, CAPPED, seq, body) end
  return message(ERROR, CAPPED | TLVS, seq, body .. attr(1, text .. "\0"))
end

local function say(...) fake.say(kernel, table.concat({ ... })) end

local function names(list)
  local out = {}
  for i, l in ipairs(list) do out[i] = l.name end
  return table.concat(out, " ")
end

--- Requests that were heard: a list of { type, flags, seq }.
local function requests()
  local out = {}
  for bytes in function() return fake.heard(kernel) end do
    local at, datagram = 1, {}
    while at < #bytes do
      local len, kind, flags, seq = ("=I4I2I2I4"):unpack(bytes, at)
      datagram[#datagram + 1] = { kind = kind, flags = flags, seq = seq }
      at = at + len + -len % 4
    end
    out[#out + 1] = datagram
  end
  return out
end

setup(function()
  fake = helper("fake_kernel")
  -- Room for all the answers that are queued before the question.
  t.run("echo 500 >/proc/sys/net/unix/max_dgram_qlen")
end)

before_each(function()
  h = netlink.open()
  kernel = fake.take(h:fd())
end)

after_each(function()
  h:close()
  fake.hang_up(kernel)
end)

describe("a dump", function()
  it("comes in several datagrams", function()
    say(link(1, 1, "a"), link(1, 2, "b"))
    say(link(1, 3, "c"))
    say(done(1))
    assert.equal("a b c", names(h:dump("link")))
  end)

  it("that was interrupted is asked for again, from nothing", function()
    say(link(1, 1, "old"), link(1, 2, "old2", MULTI | INTERRUPTED))
    say(done(1))
    say(link(2, 1, "new"), done(2, INTERRUPTED))
    say(link(3, 1, "newest"), done(3))
    assert.equal("newest", names(h:dump("link")))
    assert.equal(3, #requests())
  end)

  it("that is interrupted for ever is EAGAIN, after so many times", function()
    for seq = 1, 10 do say(link(seq, 1, "a"), done(seq, INTERRUPTED)) end
    local list, msg, errno = h:dump("link")
    assert.is_nil(list)
    assert.equal(EAGAIN, errno)
    assert.matches("list link", msg)
    assert.equal(10, #requests())
  end)

  it("that lost a piece is read to its end and asked for again", function()
    say(link(1, 1, "a"))
    say(link(1, 2, ("x"):rep(50000)), link(1, 3, ("y"):rep(50000)))
    say(done(1))
    say(link(2, 1, "a"), link(2, 2, "b"), done(2))
    assert.equal("a b", names(h:dump("link")))
  end)

  it("without an end is over in time", function()
    say(link(1, 1, "a"))
    local list, _, errno = h:dump("link", {}, nil, 50)
    assert.is_nil(list)
    assert.equal(ETIMEDOUT, errno)
  end)

  it("passes over answers to others, and what is no answer", function()
    say(link(7, 1, "stale"), message(NOOP, 0, 1, ""), message(NEWADDR, MULTI, 0, ("\0"):rep(8)))
    say(link(1, 2, "a"), link(0, 3, "event"))
    say(done(9), done(1))
    assert.equal("a", names(h:dump("link")))
  end)

  it("that ends with an error is one, with the kernel's words", function()
    say(link(1, 1, "a"), message(DONE, MULTI | TLVS, 1, ("=i4"):pack(-EPERM) .. attr(1, "go away\0")))
    local list, msg, errno = h:dump("link")
    assert.is_nil(list)
    assert.equal(EPERM, errno)
    assert.matches("list link: Operation not permitted (go away)", msg, 1, true)
  end)

  it("that is refused is an error", function()
    say(ack(1, EINVAL, "no"))
    assert.equal(EINVAL, select(3, h:dump("link")))
    say(message(ERROR, 0, 2, "\1"))
    assert.equal(EBADMSG, select(3, h:dump("link")))
  end)
end)

describe("a batch", function()
  local up = { "set", "link", { name = "lo", up = true } }

  it("takes answers in any order, and twice", function()
    say(ack(3, 0))
    say(ack(1, 0))
    say(ack(1, 0))
    say(ack(2, EEXIST, "there is one"))
    local ok, msg, errno, index, statuses = h:send({ up, up, up })
    assert.is_nil(ok)
    assert.equal(EEXIST, errno)
    assert.equal(2, index)
    assert.equal("set link lo: File exists (there is one)", msg)
    t.same({ 0, EEXIST, 0 }, statuses)
  end)

  it("reports the first refusal, not the first answer", function()
    say(ack(3, EPERM, "third"))
    say(ack(2, EEXIST, "second"))
    say(ack(1, 0))
    local _, msg, errno, index = h:send({ up, up, up })
    assert.equal(EEXIST, errno)
    assert.equal(2, index)
    assert.matches("second", msg)
  end)

  it("that is not answered in time is ETIMEDOUT for the rest", function()
    say(ack(1, 0))
    local ok, _, errno, index, statuses = h:send({ up, up, up }, 50)
    assert.is_nil(ok)
    assert.equal(ETIMEDOUT, errno)
    assert.equal(2, index)
    -- They may have been carried out.
    t.same({ 0, -ETIMEDOUT, -ETIMEDOUT }, statuses)
  end)

  it("is not taken in by answers to an earlier one", function()
    h:send({ up }, 0)
    say(ack(1, EPERM))
    say(ack(2, 0))
    assert.is_true(h:send({ up }))
  end)

  it("numbers its messages and asks for each answer", function()
    say(ack(1, 0))
    say(ack(2, 0))
    assert.is_true(h:send({ up, up }))
    local sent = requests()
    assert.equal(1, #sent)
    t.same({ { kind = NEWLINK, flags = 5, seq = 1 }, { kind = NEWLINK, flags = 5, seq = 2 } }, sent[1])
  end)

  it("leaves in pieces of 64", function()
    local many = {}
    for i = 1, 100 do
      many[i] = up
      say(ack(i, 0))
    end
    assert.is_true(h:send(many))
    local sent = requests()
    assert.equal(2, #sent)
    assert.equal(64, #sent[1])
    assert.equal(36, #sent[2])
  end)

  it("does not send what continues a refused message", function()
    say(ack(1, EEXIST))
    say(ack(2, 0))
    local _, _, errno, index, statuses = h:send({ { "add", "link", { name = "a", kind = "bridge",
      alias = "x" } }, up })
    assert.equal(EEXIST, errno)
    assert.equal(1, index)
    t.same({ EEXIST, 0 }, statuses)
    local sent = requests()
    assert.equal(2, #sent)
    t.same({ { kind = NEWLINK, flags = 5, seq = 2 } }, sent[2])
  end)

  it("cuts short a text without end", function()
    say(ack(1, EPERM, ("x"):rep(300)))
    local _, msg = h:send({ up })
    assert.matches("%(x+%)$", msg)
    assert.is_true(#msg < 300)
  end)

  it("to nobody is an error", function()
    fake.hang_up(kernel)
    local ok, _, errno = h:send({ up })
    assert.is_nil(ok)
    assert.equal(32, errno)
    kernel = fake.take(h:fd())
  end)
end)

-- A length, an error code, that no kernel gives: each place where one is read.
describe("a kernel that lies", function()
  local up = { "set", "link", { name = "lo", up = true } }
  local codes = { -2147483648, -4096, -2147483647, 1, 2147483647 }
  local lengths = { 0, 15, 0x7fffffff, 0x80000000, 0x80000024, 0xfffffff0, 0xffffffff }

  --- The message with another length in its header.
  local function sized(bytes, len) return ("=I4"):pack(len) .. bytes:sub(5) end

  it("about an error code is not believed: a refusal is one, with an errno", function()
    for n, code in ipairs(codes) do
      say(message(ERROR, CAPPED, n, ("=i4"):pack(code) .. ("=I4I2I2I4I4"):pack(100, NEWLINK, 0, n, 0)))
      local ok, msg, errno, index, statuses = h:send({ up })
      assert.is_nil(ok)
      assert.equal(EBADMSG, errno, msg)
      assert.equal(1, index)
      t.same({ EBADMSG }, statuses)
    end
  end)

  it("about a dump's end or its refusal likewise", function()
    for n, code in ipairs(codes) do
      say(link(2 * n - 1, 1, "a"), done(2 * n - 1, 0, code))
      assert.equal(EBADMSG, select(3, h:dump("link")))
      say(message(ERROR, 0, 2 * n, ("=i4"):pack(code) .. ("\0"):rep(16)))
      assert.equal(EBADMSG, select(3, h:dump("link")))
    end
  end)

  it("tells an errno all the same", function()
    say(ack(1, 4095))
    assert.equal(4095, select(3, h:send({ up })))
    say(done(2, 0, -1))
    assert.equal(EPERM, select(3, h:dump("link")))
  end)

  it("about a length in an acknowledgement has said nothing", function()
    for n, len in ipairs(lengths) do
      say(sized(ack(n, 0), len))
      assert.equal(ETIMEDOUT, select(3, h:send({ up }, 20)), ("%x"):format(len))
    end
    say(ack(#lengths + 1, 0))
    assert.is_true(h:send({ up }))
  end)

  it("about a length in a dump has said nothing from there on", function()
    for n, len in ipairs(lengths) do
      say(link(n, 1, "a"), sized(link(n, 2, "b"), len), done(n))
      assert.equal(ETIMEDOUT, select(3, h:dump("link", {}, nil, 20)), ("%x"):format(len))
    end
    say(link(#lengths + 1, 3, "c"), done(#lengths + 1))
    assert.equal("c", names(h:dump("link")))
  end)

  it("about the length of its own words gives those that are there", function()
    local body = ("=i4"):pack(-EPERM) .. ("=I4I2I2I4I4"):pack(0xffffffff, NEWLINK, 0, 1, 0)
    say(message(ERROR, TLVS, 1, body .. attr(1, "never seen\0")))
    local _, msg, errno = h:send({ up })
    assert.equal(EPERM, errno)
    assert.equal("set link lo: Operation not permitted", msg)
    say(message(ERROR, CAPPED | TLVS, 2, body .. ("=I2I2"):pack(65535, 1) .. "cut"))
    assert.equal("set link lo: Operation not permitted", select(2, h:send({ up })))
  end)

  it("and leaves the padding of the last message out is understood", function()
    local bare = link(1, 2, "abcd"):sub(1, -4)
    say(link(1, 1, "abc"), sized(bare, #bare))
    say(link(1, 3, "e"), done(1))
    assert.equal("abc abcd e", names(h:dump("link")))
  end)

  it("shows a hardware address of any length that there is", function()
    for n, len in ipairs({ 1, 6, 20, 31, 32 }) do
      say(message(NEWLINK, MULTI, n, ("=BBI2i4I4I4"):pack(0, 0, 1, 5, 0, 0)
        .. attr(1, ("\254"):rep(len))), done(n))
      assert.equal(("fe:"):rep(len):sub(1, -2), h:dump("link")[1].mac)
    end
    for n, len in ipairs({ 0, 33, 255, 4096 }) do
      say(message(NEWLINK, MULTI, 5 + n, ("=BBI2i4I4I4"):pack(0, 0, 1, 5, 0, 0)
        .. attr(1, ("\254"):rep(len))), done(5 + n))
      assert.is_nil(h:dump("link")[1].mac)
    end
  end)
end)

describe("whatever the bytes", function()
  local count = 3000

  --- Real messages to bend.
  local function samples()
    local real <close> = netlink.open()
    assert(real:send({ { "ensure", "link", { name = "fz0", kind = "bridge", mcast_snooping = false } },
      { "set", "link", { name = "lo", up = true } } }))
    local nest = attr(18, attr(1, "vxlan\0") .. attr(2, attr(1, "\1\0\0\0") .. attr(10, "\1\2\3\4")))
    local route = ("=BBBBBBBBI4"):pack(2, 24, 0, 0, 254, 3, 0, 1, 0)
    assert(real:send({ { "del", "link", { name = "fz0" } } }))
    return {
      { "link", NEWLINK, ("=BBI2i4I4I4"):pack(0, 0, 1, 5, 0, 0) .. attr(3, "name\0") .. nest
        .. attr(1, "\2\0\0\0\0\1") .. attr(52, attr(53, "other\0")) .. attr(26, attr(10, attr(8, "\1"))) },
      { "route", 24, route .. attr(1, "\10\1\2\0") .. attr(9, ("=I2BBi4"):pack(16, 0, 0, 3)
        .. attr(5, "\10\1\2\1")) .. attr(8, attr(1, "\4\0\0\0") .. attr(2, "\0\5\0\0") .. attr(16, "reno\0"))
        .. attr(18, ("=I2"):pack(10) .. ("\1"):rep(16)) },
      { "addr", NEWADDR, ("=BBBBI4"):pack(2, 24, 0, 0, 1) .. attr(2, "\10\1\2\3") .. attr(1, "\10\1\2\4")
        .. attr(6, ("\1"):rep(16)) .. attr(8, "\128\0\0\0") },
      { "vlan", 112, ("=BBI2I4"):pack(7, 0, 0, 5) .. attr(1, attr(1, "\6\0\5\0") .. attr(2, "\9\0")) },
      { "rule", 32, ("=BBBBBBBBI4"):pack(2, 0, 32, 0, 254, 0, 0, 1, 0) .. attr(2, "\10\1\2\3") .. attr(15,
        "\254\0\0\0") .. attr(23, "\1\0\2\0") },
    }
  end

  it("a dump is a list or an error", function()
    local seeds, seq = samples(), 0
    math.randomseed(4711)
    for _ = 1, count do
      local object, kind, body = table.unpack(seeds[math.random(#seeds)])
      local bytes = { body:byte(1, -1) }
      for _ = 1, math.random(4) do bytes[math.random(#bytes)] = math.random(0, 255) end
      body = string.char(table.unpack(bytes)):sub(1, math.random(#bytes + 20))
      seq = seq + 1
      say(message(kind, MULTI, seq, body), done(seq))
      local list, msg = h:dump(object)
      assert.is_true(type(list) == "table" or type(msg) == "string")
      while fake.heard(kernel) do end
    end
  end)

  it("a datagram of noise is passed over", function()
    math.randomseed(4712)
    for _ = 1, 50 do
      local noise = {}
      for i = 1, math.random(200) do noise[i] = string.char(math.random(0, 255)) end
      say(table.concat(noise))
    end
    local list, _, errno = h:dump("link", {}, nil, 20)
    assert.is_nil(list)
    assert.is_true(errno ~= nil)
  end)
end)
