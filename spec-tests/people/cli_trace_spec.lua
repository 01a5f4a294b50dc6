-- SPDX-License-Identifier: MIT
-- luacni trace: what is traced does what it did before, and what the trace says of it is what the kernel shows.

local t = require "support"
local lfs = require "lfs"

local program = t.build .. "/luacni"
local conf, file = "/run/spec/demo.conflist", "/run/spec/trace"
local host, pod

local function network(changes)
  local plugin = { type = "bridge", bridge = "demo0", isGateway = true,
    ipam = { type = "host-local", subnet = "10.9.8.0/24" } }
  for key, value in pairs(changes or {}) do plugin[key] = value end
  t.write(conf, t.json { cniVersion = "1.0.0", name = "demo", plugins = { plugin } })
end

before_each(function()
  host, pod = t.host("node", { lived_in = false }), t.netns "blue"
  network()
end)
after_each(function()
  os.remove(file)
  t.cleanup()
end)

local function path_of(bin) return "CNI_PATH=" .. t.bin[bin] end

-- A script of Lua with our bindings: as words of a command line.
local function script(text)
  return { "--", "env", "LD_PRELOAD=" .. (os.getenv "LD_PRELOAD" or ""), "lua5.4", "-e",
    ("package.cpath = %q; local netlink = require 'netlink'; "):format(t.build .. "/?.so") .. text }
end

local function trace(words, opts)
  t.needs "calls"
  opts = opts or {}
  return t.sh({ program, "trace", table.unpack(words) }, { host = host, stdin = opts.stdin, env = opts.env,
    timeout = opts.timeout })
end

-- The records of a trace that went well, and what the call has printed.
local function records(words, opts)
  local out, status, err = trace({ "--json", "--to", file, table.unpack(words) }, opts)
  if not (opts or {}).may_fail then assert.equal(0, status, out .. err) end
  local list = {}
  for line in t.read(file):gmatch "[^\n]+" do list[#list + 1] = assert(t.decode(line), line) end
  return list, out, status, err
end

local function where(list, fits)
  local found = {}
  for _, record in ipairs(list) do
    if fits(record) then found[#found + 1] = record end
  end
  return found
end

local function sent(list, message, fits)
  return where(list, function(r)
    return r.direction == "sent" and r.message == message and (not fits or fits(r.attributes, r))
  end)
end

local function one(list)
  assert.equal(1, #list, t.json(list))
  return list[1]
end

local function outcome_of(list, request)
  return one(where(list, function(r)
    for _, n in ipairs(r.what == "outcome" and r.answers or {}) do
      if n == request.request then return true end
    end
  end))
end

-- Of each set of plugins, which end of the pair is made where.
local ways = {
  ours = function(out) return "host", out.interfaces[2].name end,
  reference = function() return "pod", "eth0" end,
}

describe("luacni trace", function()
  for bin, way in pairs(ways) do
    it("tells what an ADD and a DEL say to the kernel: " .. bin, function()
      t.needs "reference"
      local env = { path_of(bin) }
      local list, out = records({ "add", conf, "blue" }, { env = env })
      local result = assert(t.decode(out), out)
      local ns, name = way(result)
      local veth = one(sent(list, "RTM_NEWLINK", function(a) return a.kind == "veth" end))
      t.same({ ns, name, "route" }, { veth.ns, veth.attributes.name, veth.protocol })
      t.same(bin == "ours" and { "eth0", "pod" } or { result.interfaces[2].name, "host" },
        { veth.attributes.peer.name, veth.attributes.peer.netns })
      t.same({ "create", "excl", "ack" }, { table.unpack(veth.flags, 1, 3) })
      assert.is_true(veth.took_ms > 0 and veth.took_ms < 60000)
      assert.is_nil(outcome_of(list, veth).error)

      local link = t.link(pod, "eth0")
      if bin == "ours" then assert.equal(link.address, veth.attributes.peer.mac) end
      local bridge = t.link(host, "demo0").ifindex
      local addr = one(sent(list, "RTM_NEWADDR", function(_, r) return r.ns == "pod" end))
      t.same({ link.ifindex, result.ips[1].address }, { addr.attributes.index, addr.attributes.address })
      local shown = where(t.ip(pod, "addr show dev eth0")[1].addr_info, function(a) return a.family == "inet" end)[1]
      assert.equal(addr.attributes.address, ("%s/%d"):format(shown["local"], shown.prefixlen))
      t.same({ bridge, "10.9.8.1/24" }, (function(a) return { a.index, a.address } end)(
        one(sent(list, "RTM_NEWADDR", function(_, r) return r.ns == "host" end)).attributes))
      -- Requests have a number each, which their answers have.
      local seen = {}
      for _, r in ipairs(where(list, function(r) return r.request end)) do
        assert.is_nil(seen[r.request])
        seen[r.request] = true
      end

      local peer = t.link(host, result.interfaces[2].name)
      list = records({ "del", conf, "blue" }, { env = env })
      local gone = one(sent(list, "RTM_DELLINK"))
      assert.equal(gone.ns == "host" and peer.ifindex or link.ifindex, gone.attributes.index)
      -- Ours has answered by then, and leaves the waiting to a child that asks no more.
      if bin == "reference" then assert.is_nil(outcome_of(list, gone).error) end
      assert.is_nil(t.link(pod, "eth0"))
    end)
  end

  it("tells what changes beside netlink, and of which program", function()
    t.needs "reference"
    local list = records({ "add", conf, "blue" }, { env = { path_of "reference" } })
    local function changed(call, text, process)
      return where(list, function(r)
        return r.call == call and r.text and r.text:find(text, 1, true) and (not process or r.process == process)
      end)[1]
    end
    local exec = changed("exec", "/usr/lib/cni/host-local", "host-local")
    local said = table.concat(exec.environment, " ")
    assert.is_truthy(said:find("CNI_COMMAND=ADD", 1, true) and said:find("CNI_NETNS=" .. pod.path, 1, true), said)
    assert.is_truthy(changed("open", "/var/lib/cni/networks/demo/10.9.8.2 for writing", "host-local"))
    assert.is_truthy(changed("flock", "/var/lib/cni/networks/demo/lock exclusive", "host-local"))
    assert.is_truthy(changed("setns", "net: pod", "bridge"))
    assert.is_truthy(changed("write", '/proc/sys/net/ipv4/ip_forward "1"', "bridge"))
    assert.equal("1", t.sysctl(host, "net/ipv4/ip_forward"))
    for _, process in ipairs { "bridge", "host-local", "luacni" } do
      t.same(0, one(where(list, function(r) return r.call == "exit" and r.process == process end)).status)
    end
    -- What was opened to be read is none.
    assert.is_nil(changed("open", "demo.conflist"))
  end)

  it("is lines for a person, with requests and answers by number", function()
    local _, status, err = trace({ "add", conf, "blue" }, { env = { path_of "ours" } })
    assert.equal(0, status)
    local n = err:match "\n *[%d.]+ bridge +host +%-> #(%d+) RTM_NEWLINK %([%l,]+%) name=veth%x+ mac=[%x:]+ master=%d+%(demo0%) kind=veth peer={name=eth0 mac=[%x:]+ netns=pod} %[[%d.]+ ms%]\n"
    assert.is_string(n, err)
    assert.is_truthy(err:find("\n[%d. ]+ bridge +host +<%- #" .. n .. " done\n"), err)
    assert.is_truthy(err:find("bridge +pod +%-> #%d+ RTM_NEWADDR %(create,excl,ack%) family=inet index=2 broadcast=10.9.8.255 address=10.9.8.2/24"), err)
    assert.is_nil(err:find("[^\n\32-\126]"))
    -- The same call without it says nothing.
    local quiet = { t.sh({ program, "del", conf, "blue" }, { host = host, env = { path_of "ours" } }) }
    t.same({ "", 0, "" }, quiet)
    assert.is_nil(lfs.attributes(file))
  end)

  it("tells of nf_tables by table, chain and set", function()
    network { ipMasq = true }
    local list = records({ "add", conf, "blue" }, { env = { path_of "ours" } })
    local chain = one(sent(list, "NFT_MSG_NEWCHAIN")).attributes
    t.same({ "inet", "luacni", "masquerade4_24", "nat", "postrouting", 100 },
      { chain.family, chain.table, chain.name, chain.type, chain.hook, chain.priority })
    local set = one(sent(list, "NFT_MSG_NEWSET", function(a) return a.name == "masked4_24" end)).attributes
    local element = one(sent(list, "NFT_MSG_NEWSETELEM")).attributes
    t.same({ set.name, "0x0a0908020a090800" }, { element.set, element.elements[1].key })
    assert.is_truthy(t.our_rules(host):find("set " .. set.name, 1, true) or
      t.our_rules(host):find('set "' .. set.name, 1, true), t.our_rules(host))
    local rule = sent(list, "NFT_MSG_NEWRULE", function(a) return a.exprs[#a.exprs].expression == "masq" end)
    assert.equal("masquerade4_24", one(rule).attributes.chain)
  end)

  it("tells what the kernel refuses, with errno, its own words, and what it objects to", function()
    t.needs "reference"
    local list, _, status = records({ "--", "ip", "link", "add", "v0", "mtu", "100000", "type", "veth" },
      { may_fail = true })
    local request = one(sent(list, "RTM_NEWLINK", function(a) return a.name == "v0" end))
    t.same({ "veth", 100000, 2 }, { request.attributes.kind, request.attributes.mtu, status })
    local refusal = outcome_of(list, request)
    t.same({ "EINVAL", 22, "Invalid argument" }, { refusal.error, refusal.errno, refusal.meaning })
    -- nf_tables names the attribute.
    list = records(script [[netlink.nft():get("chain", { family = "inet", table = "none", name = "c" })]])
    refusal = where(list, function(r) return r.what == "outcome" and r.error end)[1]
    t.same({ "ENOENT", "table" }, { refusal.error, refusal.at })
    -- A plugin's, in a line.
    network { ipam = { type = "host-local", subnet = "10.9.8.0/24",
      routes = { { dst = "10.77.0.0/16", gw = "10.99.9.9" } } } }
    for bin in pairs(ways) do
      local _, rc, err = trace({ "add", conf, "blue" }, { env = { path_of(bin) } })
      assert.equal(1, rc)
      local n = err:match " pod +%-> #(%d+) RTM_NEWROUTE [^\n]*dst=10.77.0.0/16 [^\n]*gw=10.99.9.9"
      -- The reference does not ask for the kernel's own words.
      local words = bin == "ours" and ': "Nexthop has invalid gateway"' or ""
      assert.is_truthy(n and err:find((" pod +<%%- #%s RTM_NEWROUTE refused: ENETUNREACH, Network is unreachable%s[^\n]*\n")
        :format(n, words)), err)
    end
  end)

  it("counts dumps, and tells them whole when asked to", function()
    for i = 1, 3 do t.run("ip link add d" .. i .. " type bridge", { host = host }) end
    local _, _, err = trace { "--", "ip", "link" }
    assert.is_truthy(err:find("RTM_GETLINK %(dump%)[^\n]*\n[^\n]*<%- #%d+ dump of 4 RTM_NEWLINK\n"), err)
    assert.is_nil(err:find("name=d2", 1, true))
    _, _, err = trace { "-v", "--", "ip", "link" }
    for i = 1, 3 do assert.is_truthy(err:find("RTM_NEWLINK %(multi[^\n]* name=d" .. i), err) end
    local list = records { "--", "ip", "link" }
    local parts = where(list, function(r) return r.message == "RTM_NEWLINK" and r.direction == "received" end)
    local names = {}
    for _, link in ipairs(t.ip(host, "link")) do names[link.ifname] = link.ifindex end
    for _, r in ipairs(parts) do
      if r.attributes.name then
        assert.equal(names[r.attributes.name], r.attributes.index)
        names[r.attributes.name] = nil
      end
    end
    t.same({}, names)
  end)

  it("gives what is in no row by its number, in hexadecimal, and nothing that is", function()
    local words = script [[print((select(3, netlink.open():send { { "add", "link", { name = "x0", kind = "nokind",
      kind_data = { { 77, "\1\2" }, { 78, { { 5, "abc" } } } } } } })))]]
    local list, out = records(words)
    local request = one(sent(list, "RTM_NEWLINK"))
    t.same({ name = "x0", kind = "nokind", ["#18.2"] = "{77=0x0102 78={5=0x616263}}" }, request.attributes)
    t.same({ "95\n", "EOPNOTSUPP" }, { out, outcome_of(list, request).error })
    local _, _, err = trace(words)
    assert.is_truthy(err:find(" name=x0 kind=nokind #18.2={77=0x0102 78={5=0x616263}} [", 1, true), err)
  end)

  it("leaves streams and status as they are", function()
    local out, status, err = trace({ "--", "sh", "-c", "cat; echo said >&2; exit 7" }, { stdin = "in\0put" })
    t.same({ "in\0put", 7 }, { out, status })
    assert.is_truthy(err:find("\nsaid\n", 1, true), err)
    assert.is_truthy(err:find(" exit 7\n", 1, true), err)
    out, status, err = trace { "--to", file, "--", "sh", "-c", "kill -KILL $$" }
    t.same({ "", 137, "" }, { out, status, err })
    assert.is_truthy(t.read(file):find("exit by signal 9", 1, true))
    out, status, err = trace { "--to", file, "--", "true" }
    t.same({ "", 0, "" }, { out, status, err })
    -- An error of the traced command is its own.
    local plain = { t.sh({ program, "add", conf, "nowhere" }, { host = host }) }
    t.same(plain, { trace { "--to", file, "add", conf, "nowhere" } })
    -- A signal that asks it to end is for it.
    out, status = t.sh({ "timeout", "-s", "TERM", "3", program, "trace", "--to", file, "--", "sh", "-c",
      "trap 'echo told; exit 3' TERM; while :; do sleep 0.1; done" }, { host = host })
    t.same({ "told\n", 124 }, { out, status })
    -- Who traces and is killed takes it along.
    t.sh({ "timeout", "-s", "KILL", "0.3", program, "trace", "--to", file, "--", "sleep", "4711" }, { host = host })
    assert.equal(1, select(2, t.sh { "pgrep", "-f", "^sleep 4711" }))
  end)

  it("traces a bare plugin, with its variables and its input", function()
    t.needs "reference"
    for bin, name in pairs { ours = t.bin.ours, reference = t.bin.reference } do
      local env = { "CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=" .. pod.path, "CNI_IFNAME=lo", path_of(bin) }
      local list, out = records({ "--", name .. "/loopback" },
        { env = env, stdin = '{ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" }' })
      t.same("lo", t.decode(out).interfaces[1].name)
      local up = sent(list, "RTM_NEWLINK", function(a) return a.up end)
      t.same({ "pod", 1 }, { one(up).ns, one(up).attributes.index }, bin)
      assert.is_truthy(table.concat(t.link(pod, "lo").flags, " "):find "UP")
      t.run("ip link set lo down", { host = pod })
    end
  end)

  it("lets a server that a call leaves behind live", function()
    local out, status = trace { "--to", file, "--", "sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!" }
    assert.equal(0, status)
    local pid = out:match "%d+"
    assert.equal("sleep\n", t.read(("/proc/%s/comm"):format(pid)))
    assert.is_truthy(t.read(("/proc/%s/status"):format(pid)):find "TracerPid:%s*0\n")
    t.run("kill " .. pid)
  end)

  it("says what is wrong, before anything is done", function()
    for words, pattern in pairs {
      ["trace"] = "usage: luacni trace", ["trace ad x y"] = 'no command "ad"; put -- before a program; did you mean "add"?',
      ["trace ip link"] = 'no command "ip"; put -- before a program', ["trace trace add"] = "does not trace itself",
      ["trace --jso add"] = 'did you mean "--json"?', ["trace --to"] = "--to needs a value",
    } do
      local out, status, err = t.sh(program .. " " .. words, { host = host })
      t.same({ "", 2 }, { out, status })
      assert.is_truthy(err:find(pattern, 1, true), err)
    end
    local out, status, err = trace { "--", "/no/such/program" }
    t.same({ "", 127 }, { out, status })
    assert.is_truthy(err:find("luacni: trace: /no/such/program cannot be run: No such file or directory\n", 1, true), err)
    assert.is_nil(err:find("->", 1, true))
    out, status, err = trace { "--", "/etc" }
    t.same({ "", 126 }, { out, status })
    assert.is_truthy(err:find("/etc cannot be run: Permission denied", 1, true), err)
    out, status, err = trace { "--to", "/no/such/folder/x", "add", conf, "blue" }
    t.same({ "", 1 }, { out, status })
    assert.is_truthy(err:find("/no/such/folder/x: No such file", 1, true), err)
    assert.is_nil(t.link(pod, "eth0"))
    -- Who is traced cannot be traced.
    out, status, err = t.sh({ t.helper "killat", "0", program, "trace", "add", conf, "blue" }, { host = host })
    t.same({ "", 100 }, { out, status })
    assert.is_truthy(err:find("Operation not permitted; process %d+ traces luacni itself"), err)
    assert.is_nil(t.link(pod, "eth0"))
    -- A trace that cannot be written stops, the call does not.
    t.run "mkdir /run/spec/small; mount -t tmpfs -o size=4k small /run/spec/small; yes >/run/spec/small/full || true"
    out, status, err = trace { "--to", "/run/spec/small/trace", "--", "echo", "done" }
    t.run "umount /run/spec/small; rmdir /run/spec/small"
    t.same({ "done\n", 0 }, { out, status })
    assert.is_truthy(err:find("luacni: the trace cannot be written: .*No space left on device"), err)
    -- What is no file is said before.
    t.run "mkfifo /run/spec/fifo"
    for _, path in ipairs { "/dev/full", "/run/spec/fifo", "/run" } do
      out, status, err = trace { "--to", path, "--", "echo", "done" }
      t.same({ "", 2 }, { out, status })
      assert.is_truthy(err:find(path .. " is no file", 1, true), err)
    end
    os.remove "/run/spec/fifo"
  end)

  -- Bytes, lengths and addresses that no honest program uses.
  local hostile = [[
import ctypes, os, random, socket, struct
random.seed(1)
libc = ctypes.CDLL(None, use_errno=True)
def attr(t, data): return struct.pack("HH", len(data) + 4, t) + data + bytes(-len(data) % 4)
def message(t, flags, body, length=None, seq=1):
    return struct.pack("IHHII", length if length is not None else 16 + len(body), t, flags, seq, 0) + body
deep = b""
for i in range(200): deep = attr(18 | 0x8000, deep)
link = struct.pack("BxHiII", 0, 0, 0, 0, 0)
good = message(16, 5, link + attr(3, b"x" * 15 + b"\0") + attr(18 | 0x8000, attr(1, b"veth\0") + attr(2 | 0x8000,
    attr(1, link + attr(3, b"\xff\n\x1b[2J\0")))))
odd = [b"", b"\0", b"\0" * 15, message(16, 1, link, 8), message(16, 1, link, 0xffffffff), message(16, 1, link + deep),
    message(24, 1, b""), message(20, 1, b"\2"), message(16, 1, link + b"\3\0\3\0"), message(2, 0, b"\0" * 3),
    message(2, 0x300, b"\0" * 20 + b"\xff" * 40), message(3, 2, b"\1"), message(0xffff, 0xffff, b"x" * 100), good * 3 + b"xyz"]
for protocol in (0, 12, 16):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
    s.setblocking(False)
    for i in range(300):
        data = bytearray(random.choice(odd))
        for j in range(random.randrange(4) if data else 0): data[random.randrange(len(data))] = random.randrange(256)
        try: s.send(bytes(data))
        except OSError: pass
        try: s.recv(65536)
        except OSError: pass
    fd = s.fileno()
    for address in (0, 1, 0x7fffffffffff, 0xffffffffffffffff):
        p = ctypes.c_void_p(address)
        for length in (0, 1, 1 << 20, (1 << 62)):
            libc.sendto(fd, p, ctypes.c_size_t(length), 0, None, 0)
            libc.recvfrom(fd, p, ctypes.c_size_t(length), 64, None, None)
            libc.write(fd, p, ctypes.c_size_t(length))
            libc.syscall(ctypes.c_long(20), fd, p, length)
        libc.sendmsg(fd, p, 0)
        libc.recvmsg(fd, p, 64)
        libc.sendmmsg(fd, p, 1 << 20, 0)
        libc.recvmmsg(fd, p, 1 << 20, 64, None)
        libc.open(p, 65)
        libc.syscall(ctypes.c_long(59), p, p, p)
        libc.mount(p, p, p, 0, p)
    page = ctypes.create_string_buffer(4096)
    vector = (ctypes.c_uint64 * 2048)(*([ctypes.addressof(page), 1 << 50] * 1024))
    header = (ctypes.c_uint64 * 7)(0, 0, ctypes.addressof(vector), 1 << 40, 0, 0, 0)
    libc.sendmsg(fd, header, 0)
    libc.recvmsg(fd, header, 64)
libc.unlink(b"/run/spec/\xff\n\x1b")
libc.mkdir(b"a" * 5000, 0)
libc.setns(-1, 0x40000000); libc.flock(-1, 2); libc.ioctl(-1, 0x400454ca, None)
print("survived")
]]

  it("takes whatever a hostile program says", function()
    for _, how in ipairs { {}, { "-v" }, { "--json" } } do
      -- What is called a namespace is a pipe that nobody writes to.
      t.run "rm -f /run/spec/pipe; mkfifo /run/spec/pipe"
      local words = table.move({ "--to", file, "--", "env", "-u", "LD_PRELOAD", "CNI_NETNS=/run/spec/pipe", "python3",
        "-c", hostile }, 1, 10, #how + 1, how)
      local out, status, err = trace(words, { timeout = 120 })
      t.same({ "survived\n", 0, "" }, { out, status, err })
      local text = t.read(file)
      assert.is_nil(text:find("[^\n\32-\126]"), "a control character")
      assert.is_truthy(text:find("RTM_NEWLINK", 1, true) and text:find("NFT", 1, true) or text:find("subsystem", 1, true))
      for line in how[1] == "--json" and text:gmatch "[^\n]+" or function() end do assert(t.decode(line), line) end
    end
  end)
end)
