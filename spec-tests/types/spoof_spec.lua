-- SPDX-License-Identifier: MIT
-- macspoofchk and ipSpoofChk of plugin `bridge`: frames that a sandbox sends by a raw socket, and whether the
-- sandbox beside it sees them.

local t = require "support"
local world = require "world"

local dual = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local forged = "02:00:00:00:00:66"

-- Sends the frames of stdin (a line of hexadecimal digits each) from a namespace's eth0; says 1 for each that
-- the eth0 of another one sees within a fifth of a second, else 0.
local program = [[
import ctypes, select, socket, sys, time
libc = ctypes.CDLL(None)
def at(path):
    with open(path) as f:
        assert libc.setns(f.fileno(), 0x40000000) == 0
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.bind(("eth0", 0))
    return s
out, seen = at(sys.argv[1]), at(sys.argv[2])
frames = [bytes.fromhex(line) for line in sys.stdin.read().split()]
for frame in frames:
    out.send(frame)
found, end = set(), time.time() + 0.2
while time.time() < end:
    if select.select([seen], [], [], 0.05)[0]:
        data = seen.recv(4096)
        found |= {i for i, frame in enumerate(frames) if frame[-8:] in data}
print(*[int(i in found) for i in range(len(frames))])
]]

local function mac_bytes(mac) return (mac:gsub("%x%x:?", function(b) return string.char(tonumber(b:sub(1, 2), 16)) end)) end

local ip_bytes = require("cni.addr").ip

-- Each frame ends in eight bytes of its own.
local count = 0
local function mark()
  count = count + 1
  return ("mark%04d"):format(count)
end

local function eth(source, proto, payload, tags, to)
  local head = mac_bytes(to or "ff:ff:ff:ff:ff:ff") .. mac_bytes(source)
  for _, tag in ipairs(tags or {}) do head = head .. string.pack(">I2I2", 0x8100, tag) end
  return head .. string.pack(">I2", proto) .. payload
end

local function arp(source, sha, spa, tpa, tags, op)
  return eth(source, 0x0806, string.pack(">I2I2BBI2", 1, 0x0800, 6, 4, op or 1) .. mac_bytes(sha) .. ip_bytes(spa)
    .. mac_bytes("00:00:00:00:00:00") .. ip_bytes(tpa) .. ("\0"):rep(10) .. mark(), tags)
end

local function udp4(source, from, sport, dport, tags)
  local data = string.pack(">I2I2I2I2", sport, dport, 40, 0) .. ("\0"):rep(24) .. mark()
  local head = string.pack(">BBI2I2I2BBI2", 0x45, 0, 20 + #data, 1, 0, 64, 17, 0)
    .. ip_bytes(from) .. ip_bytes("255.255.255.255")
  local sum = 0
  for i = 1, 20, 2 do sum = sum + string.unpack(">I2", head, i) end
  sum = (sum & 0xffff) + (sum >> 16)
  head = head:sub(1, 10) .. string.pack(">I2", ~((sum & 0xffff) + (sum >> 16)) & 0xffff) .. head:sub(13)
  return eth(source, 0x0800, head .. data, tags)
end

local function ip6(source, from, proto, data, tags)
  return eth(source, 0x86dd, string.pack(">I4I2BB", 0x60000000, #data, proto, 255) .. ip_bytes(from)
    .. ip_bytes("ff02::1") .. data, tags, "33:33:00:00:00:01")
end

local function icmp6(source, from, kind, target, tags)
  return ip6(source, from, 58, string.pack(">BBI2I4", kind, 0, 0, 0) .. ip_bytes(target) .. mark(), tags)
end

local function udp6(source, from, tags)
  return ip6(source, from, 17, string.pack(">I2I2I2I2", 546, 547, 16, 0) .. mark(), tags)
end

local function new(conf, opts)
  local full = { type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true, ipam = dual }
  for key, value in pairs(conf) do full[key] = value or nil end
  -- A node whose FORWARD drops what bridges forward would hide what is looked for.
  return world.new(full, opts or { pods = 2, lived_in = false, neighbours = false })
end

-- Attach both; what the first is known by.
local function attach(w)
  local result = w:add()
  w:add({ id = "c2", pod = 2, conf = { macspoofchk = false, ipSpoofChk = false } })
  local me = { mac = result.interfaces[3].mac, port = result.interfaces[2].name }
  for _, ip in ipairs(result.ips or {}) do
    me[ip.address:find(":", 1, true) and "v6" or "v4"] = ip.address:match("^[^/]+")
  end
  local b = { mac_bytes(me.mac):byte(1, 6) }
  me.ll = ("fe80::%02x%02x:%02xff:fe%02x:%02x%02x"):format(b[1] ~ 2, b[2], b[3], b[4], b[5], b[6])
  return me
end

-- Compare for every frame { what, bytes, passes } whether it was seen; from: number of the sandbox that sends.
local function passes(w, frames, from)
  from = from or 1
  t.write("/run/spec/frames.py", program)
  local hex, got = {}, {}
  for i, frame in ipairs(frames) do
    hex[i] = frame[2]:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
  end
  local seen = t.run({ "python3", "/run/spec/frames.py", w.pods[from].path, w.pods[3 - from].path },
    { host = w.host, stdin = table.concat(hex, "\n") })
  for flag in seen:gmatch("%d") do got[#got + 1] = flag == "1" end
  assert.equal(#frames, #got)
  local wrong = {}
  for i, frame in ipairs(frames) do
    if got[i] ~= frame[3] then
      wrong[#wrong + 1] = ("%s: %s"):format(frame[1], got[i] and "passes" or "is dropped")
    end
  end
  t.same({}, wrong)
end

-- What a sandbox may send, and what of it only where the keys are not set: 1 MACs, 2 addresses, 0 never dropped.
local function frames_of(me, tags)
  local m, other, far4, far6 = me.mac, me.forged or forged, "10.1.0.99", "fd01::99"
  return {
    { "own ARP", arp(m, m, me.v4, "10.1.0.1", tags), 0 },
    { "ARP probe for the own address", arp(m, m, "0.0.0.0", me.v4, tags), 0 },
    { "own IPv4", udp4(m, me.v4, 1000, 2000, tags), 0 },
    { "DHCP", udp4(m, "0.0.0.0", 68, 67, tags), 0 },
    { "own IPv6", udp6(m, me.v6, tags), 0 },
    { "link-local", udp6(m, me.ll, tags), 0 },
    { "own solicitation", icmp6(m, me.v6, 135, far6, tags), 0 },
    { "own advertisement", icmp6(m, me.v6, 136, me.v6, tags), 0 },
    { "link-local advertisement", icmp6(m, me.ll, 136, me.ll, tags), 0 },
    { "duplicate address detection", icmp6(m, "::", 135, me.v6, tags), 0 },
    { "duplicate address detection, link-local", icmp6(m, "::", 135, me.ll, tags), 0 },
    { "router solicitation", icmp6(m, "::", 133, "::", tags), 0 },
    { "another protocol", eth(m, 0x88b5, ("\0"):rep(40) .. mark(), tags), 0 },
    { "forged source MAC, ARP", arp(other, m, me.v4, "10.1.0.1", tags), 1 },
    { "forged source MAC, IPv4", udp4(other, me.v4, 1000, 2000, tags), 1 },
    { "forged source MAC, IPv6", udp6(other, me.v6, tags), 1 },
    { "forged source MAC, another protocol", eth(other, 0x88b5, ("\0"):rep(40) .. mark(), tags), 1 },
    { "forged source MAC, to a group of the bridge's own", eth(me.lldp or "02:00:00:00:00:6e", 0x88cc,
      ("\0"):rep(40) .. mark(), tags, "01:80:c2:00:00:0e"), "never" },
    { "forged IPv4", udp4(m, far4, 1000, 2000, tags), 2 },
    { "no IPv4 address, no DHCP", udp4(m, "0.0.0.0", 1000, 2000, tags), 2 },
    { "DHCP server", udp4(m, "0.0.0.0", 67, 68, tags), 2 },
    { "forged IPv6", udp6(m, far6, tags), 2 },
    { "forged link-local", udp6(m, "fe80::99", tags), 2 },
    { "no IPv6 address", udp6(m, "::", tags), 2 },
    { "forged ARP sender", arp(m, m, far4, "10.1.0.1", tags), 2 },
    { "forged ARP reply", arp(m, m, far4, "10.1.0.1", tags, 2), 2 },
    { "forged MAC inside ARP", arp(m, other, me.v4, "10.1.0.1", tags), 2 },
    { "ARP probe for another address", arp(m, m, "0.0.0.0", far4, tags), 2 },
    { "forged target", icmp6(m, me.v6, 136, far6, tags), 2 },
    { "duplicate address detection of another address", icmp6(m, "::", 135, far6, tags), 2 },
    { "solicitation from a forged address", icmp6(m, far6, 135, me.v6, tags), 2 },
  }
end

local levels = { { "neither", {}, 0 }, { "macspoofchk", { macspoofchk = true }, 1 },
  { "ipSpoofChk", { ipSpoofChk = true }, 2 } }

local function judged(frames, level)
  for _, frame in ipairs(frames) do
    frame[3] = frame[3] == 0 or frame[3] ~= "never" and frame[3] > level
  end
  return frames
end

for _, level in ipairs(levels) do
  describe("With " .. level[1], function()
    it("this passes, and that does not; the sandbox beside it is not guarded", function()
      t.needs("nft-bridge")
      local w = new(level[2])
      local me = attach(w)
      passes(w, judged(frames_of(me), level[3]))
      passes(w, judged(frames_of({ mac = "02:00:00:00:00:77", lldp = "02:00:00:00:00:78", forged = "02:00:00:00:00:79",
        v4 = "10.1.0.77", v6 = "fd01::77", ll = "fe80::77" }), 0), 2)
      local learnt = t.run("bridge fdb show br br0", { host = w.host })
      for _, mac in ipairs({ forged, "02:00:00:00:00:6e" }) do
        assert.equal(level[3] == 0, learnt:find(mac .. " dev " .. me.port, 1, true) ~= nil, learnt)
      end
      assert.truthy(learnt:find(me.mac .. " dev " .. me.port, 1, true), learnt)
    end)

    it("it is the same in a VLAN, and a second tag hides nothing", function()
      t.needs("nft-bridge")
      local w = new(level[2])
      local me = attach(w)
      local frames = judged(frames_of(me, { 5 }), level[3])
      frames[#frames + 1] = { "a second tag", udp4(me.mac, "10.1.0.99", 1, 2, { 5, 6 }), level[3] < 2 }
      frames[#frames + 1] = { "forged MAC, two tags", udp4(forged, me.v4, 1, 2, { 5, 6 }), level[3] < 1 }
      passes(w, frames)
    end)

    it("a trunk has its VLANs", function()
      t.needs("nft-bridge", "bridge-vlan")
      local trunk = { vlanTrunk = { { minID = 5, maxID = 6 } }, ipam = dual }
      for key, value in pairs(level[2]) do trunk[key] = value end
      local w = new(trunk)
      passes(w, judged(frames_of(attach(w), { 5 }), level[3]))
    end)
  end)
end

describe("A guarded port", function()
  it("is one of many: no rule more for the second, and what is there goes with the last", function()
    t.needs("nft-bridge")
    local w = new({ ipSpoofChk = true })
    local before = w:picture()
    local function rules()
      return select(2, t.run("nft list table bridge luacni", { host = w.host }):gsub("\n\t\t[^\n]*iifname", ""))
    end
    w:add()
    local one = rules()
    assert.is_true(one > 3)
    w:add({ id = "c2", pod = 2 })
    assert.equal(one, rules())
    w:check()
    w:del()
    w:check({ id = "c2", pod = 2 })
    w:del({ id = "c2", pod = 2 })
    t.same(before, w:picture())
  end)

  it("answers and is answered: neighbour discovery, DAD and ARP by the kernel itself", function()
    t.needs("nft-bridge")
    local w = new({ ipSpoofChk = true, enabledad = true })
    w:add()
    w:add({ id = "c2", pod = 2 })
    for _, address in ipairs({ "10.1.0.1", "10.1.0.3", "fd01::1", "fd01::3" }) do
      t.run({ "ping", "-c1", "-W3", address }, { host = w.pods[1] })
    end
    local _, status = t.sh("ip addr add 10.1.0.99/24 dev eth0; ping -c1 -W1 -I 10.1.0.99 10.1.0.3", { host = w.pods[1] })
    assert.not_equal(0, status)
  end)

  it("is in rules that nft reads back", function()
    t.needs("nft-bridge")
    local w = new({ macspoofchk = true })
    local me = attach(w)
    local saved = t.our_rules(w.host)
    t.run(t.flush .. "; nft -f -", { host = w.host, stdin = saved })
    assert.equal(saved, t.our_rules(w.host))
    passes(w, judged(frames_of(me), 1))
    w:del()
    w:del({ id = "c2", pod = 2 })
  end)

  it("that lost its rules is found by CHECK, and guarded again by the next ADD", function()
    t.needs("nft-bridge")
    local w = new({ ipSpoofChk = true })
    w:add()
    for _, loss in ipairs({ "nft flush ruleset", "nft flush set bridge luacni macs", "nft flush set bridge luacni ipv6",
      "nft flush chain bridge luacni forged_macs", "nft flush chain bridge luacni by_address" }) do
      w:sh(loss)
      local e = w:fails("CHECK")
      assert.truthy(e.text:find("bridge luacni", 1, true) or e.text:find("its element in set", 1, true), e.text)
      w:del()
      w:add()
      w:check()
    end
  end)

  it("ends by owner where the record is lost", function()
    t.needs("nft-bridge")
    local w = new({ ipSpoofChk = true })
    w:add({ id = "c2", pod = 2 })
    local before = w:picture()
    w:add()
    w:lose_records()
    w:del()
    t.same(before.kernel[w.host.name].nft, w:picture().kernel[w.host.name].nft)
  end)
end)

describe("Another MAC behind a guarded port", function()
  local other, given = "02:00:00:00:00:66", "02:00:00:00:00:55"

  -- The call of tuning in a chain, behind an attachment.
  local function tuning(w, conf, c)
    local call = t.merge({ type = "tuning", prev = w.results[(c and c.id or "c1") .. " eth0"] }, c)
    call.conf = t.merge({ type = "tuning", ipam = false, bridge = false }, conf)
    return call
  end

  for _, key in ipairs { "macspoofchk", "ipSpoofChk" } do
    it("is refused to tuning, with " .. key .. ": its frames would be dropped; nothing is changed", function()
      t.needs("nft-bridge")
      local w = new({ [key] = true })
      w:add()
      local before = w:settled()
      for _, from in ipairs { { { mac = other } }, { nil, { args = "MAC=" .. other } },
        { { runtimeConfig = { mac = other } } }, { { args = { cni = { mac = other } } } } } do
        local e = w:fails("ADD", tuning(w, t.merge({ mtu = 1400, sysctl = { ["net.ipv4.conf.IFNAME.arp_filter"] = "1" } },
          from[1]), from[2]), 7)
        assert.equal(("mac: %s cannot become the MAC of eth0: what is not from the MAC that it was given is dropped "
          .. "(macspoofchk of net/c1/eth0)"):format(other), e.msg)
        assert.matches("for a bridge that is `mac` in args.cni or runtimeConfig, or MAC in CNI_ARGS", e.details, 1, true)
        t.same(before, w:settled())
      end
      -- What the reference lets happen: nothing that is sent from it arrives.
      assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
      w:in_pod("ip link set eth0 address " .. other)
      assert.is_false(t.ping(w.pods[1], "10.1.0.1"))
    end)
  end

  it("is not another one where the bridge was told it too; and nothing else of tuning is refused", function()
    t.needs("nft-bridge")
    local w = new({ macspoofchk = true })
    for _, c in ipairs { { args = "MAC=" .. given }, { conf = { runtimeConfig = { mac = given } } },
      { conf = { args = { cni = { mac = given } } } } } do
      w:add(c)
      local call = tuning(w, { mac = given:upper(), mtu = 1400 })
      w:add(call)
      assert.equal(given, t.link(w.pods[1], "eth0").address)
      assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
      w:check(call)
      w:check(c)
      w:del(call)
      w:del(c)
    end
  end)

  it("is set where the port is not guarded, though the one beside it is; and behind what is no bridge", function()
    t.needs("nft-bridge")
    local w = new({})
    local beside = { id = "c2", pod = 2, conf = { macspoofchk = true } }
    w:add(beside)
    w:add()
    w:add(tuning(w, { mac = other }))
    assert.equal(other, t.link(w.pods[1], "eth0").address)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:fails("ADD", tuning(w, { mac = given }, { id = "c2", pod = 2 }), 7)
    -- When the attachment goes its guard goes too.
    w:del(beside)
    local alone = { id = "c2", pod = 2, conf = { type = "ptp", bridge = false, removeUnused = false,
      isDefaultGateway = false, name = "alone" }, type = "ptp" }
    w:add(alone)
    w:add(tuning(w, { mac = given, name = "alone" }, { id = "c2", pod = 2 }))
    assert.equal(given, t.link(w.pods[2], "eth0").address)
  end)

  it("is not set while the guards cannot be looked at", function()
    t.needs("nft-bridge")
    local w = new({ macspoofchk = true })
    w:add()
    local before, failed = t.link(w.pods[1], "eth0").address, 0
    for n = 1, 60 do
      local call = tuning(w, { mac = other })
      call.under = ("%s -e ENOBUFS -s sendto -o /run/spec/report %d"):format(t.helper "killat", n)
      local got = w:call("ADD", call)
      assert.not_equal(0, got.rc)
      assert.equal(before, t.link(w.pods[1], "eth0").address)
      failed = failed + (got.json.code ~= 7 and 1 or 0)
      if t.read("/run/spec/report"):find "^finished" then break end
    end
    assert.is_true(failed > 0)
  end)

  it("is refused to a site's script too, also for a link that the script has made by delegating", function()
    t.needs("nft-bridge")
    local path = "/etc/luacni/plugins/remac.lua"
    finally(function() os.remove(path) end)
    local function script(body)
      t.write(path, ("return { add = function(req)\n%s\nend }"):format(body))
    end
    script(("local r = req:delegate 'bridge'\nr.interfaces[3] = req.pod:set_link(req.ifname, { mac = %q })\nreturn r")
      :format(other))
    local w = new({ macspoofchk = true, type = "remac" })
    local before = w:picture()
    local e = w:fails("ADD", { type = "luacni" }, 7)
    assert.truthy(e.msg:find(other .. " cannot become the MAC of eth0", 1, true), e.text)
    t.same(before, w:picture())
    w:add({ type = "luacni", conf = { macspoofchk = false } })
    assert.equal(other, t.link(w.pods[1], "eth0").address)
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
    w:del({ type = "luacni", conf = { macspoofchk = false } })
    t.same(before, w:picture())
  end)
end)

describe("Where the kernel refuses the guard", function()
  it("no link is made, and all is as it was", function()
    t.needs("nft-bridge")
    local w = new({ macspoofchk = true })
    w:sh([[nft 'add table bridge luacni; add set bridge luacni macs { type ipv4_addr; }
      add chain bridge luacni c; add rule bridge luacni c ip saddr @macs drop']])
    local before = w:picture()
    w:sh("ip monitor link >/run/spec/links & echo $! >/run/spec/monitor; sleep 0.2")
    assert.truthy(w:fails("ADD").text:find("bridge luacni macs", 1, true))
    w:sh("sleep 0.2; kill $(cat /run/spec/monitor)")
    assert.equal("", t.read("/run/spec/links"))
    t.same(before, w:picture())
    w:add({ conf = { macspoofchk = false } })
  end)

  it("for want of such tables, it says so", function()
    local hints = require("cni.protocol.hints")
    local entry = { "add", "chain", { family = "bridge", table = "luacni", name = "c", type = "filter" } }
    local errno = require("netlink").sys.errno
    assert.truthy(hints.batch(entry, "", errno.ENOENT):find("CONFIG_NF_TABLES_BRIDGE", 1, true))
    assert.is_nil(hints.batch(entry, "", errno.EBUSY))
  end)
end)

describe("ipSpoofChk", function()
  it("without addresses is refused", function()
    local w = new({ ipSpoofChk = true, ipam = false, isDefaultGateway = false })
    assert.truthy(w:fails("ADD", nil, 7).msg:find("ipSpoofChk", 1, true))
  end)
end)
