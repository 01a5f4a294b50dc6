-- SPDX-License-Identifier: MIT
-- Rules of nf_tables: every expression as nft shows it, rules in the words of cni.nft,
-- and masquerading of some addresses with traffic through it.

local t = require "support"
local world = require "world"
local netlink = require "netlink"
local nft = require "cni.nft"
local fixture = require "nft_fixture"

local in_t, commit = fixture.in_t, fixture.commit
local ns, h

-- Chains of every sort that expressions want to be in, and sets to look into.
local function stage()
  commit(
    { "add", "chain", in_t { name = "pre", type = "filter", hook = "prerouting",
      priority = -150 } },
    { "add", "chain", in_t { name = "raw", type = "filter", hook = "prerouting",
      priority = -300 } },
    { "add", "chain", in_t { name = "input", type = "filter", hook = "input",
      priority = 0 } },
    { "add", "chain", in_t { name = "dstnat", type = "nat", hook = "prerouting",
      priority = -100 } },
    { "add", "chain", in_t { name = "srcnat", type = "nat", hook = "postrouting",
      priority = 100 } },
    { "add", "chain", in_t { name = "other" } },
    { "add", "set", in_t { name = "s", key_type = "ipv4_addr", timeout = 60000,
      flags = { "dynamic" } } },
    { "add", "set", in_t { name = "s6", key_type = "ipv6_addr" } },
    { "add", "set", in_t { name = "pairs", key_type = "ipv4_addr . ipv4_addr" } },
    { "add", "set", in_t { name = "pairs6", key_type = "ipv6_addr . ipv6_addr" } },
    { "add", "map", in_t { name = "v", key_type = "ipv4_addr", data_type = "verdict" } },
    { "add", "map", in_t { name = "m", key_type = "ipv4_addr", data_type = "mark" } },
    { "add", "object", in_t { name = "cnt", type = "counter", data = {} } })
end

-- The text of the only rule of a chain.
local function shown(chain)
  local text = t.run({ "nft", "list", "chain", "inet", "t", chain }, { host = ns })
  return text:match("policy accept;\n\t\t(.-)\n\t}\n}\n$") or text
end

local tcp = { { "meta", key = "l4proto", dreg = 1 },
  { "cmp", op = "eq", sreg = 1, data = { inet_proto = "tcp" } } }
local ipv4 = { { "meta", key = "nfproto", dreg = 1 },
  { "cmp", op = "eq", sreg = 1, data = { nf_proto = "ipv4" } } }
local saddr = { "payload", base = "network", offset = 12, len = 4, dreg = 1 }
local dport = { "payload", base = "transport", offset = 2, len = 2, dreg = 1 }

local function after(first, ...)
  local list = { table.unpack(first) }
  for _, expression in ipairs { ... } do list[#list + 1] = expression end
  return list
end

local function load(data, dreg) return { "immediate", dreg = dreg or 1, data = data } end
local function is(data, op) return { "cmp", op = op or "eq", sreg = 1, data = data } end

-- What nft shows, the chain, the expressions.
local expressions = {
  { 'iifname "eth0"', "pre", { { "meta", key = "iifname", dreg = 1 },
    is { ifname = "eth0" } } },
  { "meta mark set 0x00000007", "pre", { load { mark = 7 },
    { "meta", key = "mark", sreg = 1 } } },
  { "tcp dport 80-90", "pre", after(tcp, dport, { "range", sreg = 1, op = "eq",
    from = { inet_service = 80 }, to = { inet_service = 90 } }) },
  { "tcp dport != 80", "pre", after(tcp, dport, is({ inet_service = 80 }, "neq")) },
  { "tcp dport >= 80", "pre", after(tcp, dport, is("\0\80", "gte")) },
  { "tcp dport set 80", "pre", after(tcp, load { inet_service = 80 },
    { "payload", base = "transport", offset = 2, len = 2, sreg = 1, csum_type = "inet",
      csum_offset = 16 }) },
  { "meta mark & 0x000000ff == 0x00000005", "pre", { { "meta", key = "mark", dreg = 1 },
    { "bitwise", sreg = 1, dreg = 1, len = 4, mask = { mark = 0xff },
      xor = { mark = 0 } },
    is { mark = 5 } } },
  { "meta mark << 2 == 0x00000004", "pre", { { "meta", key = "mark", dreg = 1 },
    { "bitwise", op = "lshift", sreg = 1, dreg = 1, len = 4, data = { mark = 2 } },
    is { mark = 4 } } },
  { "ip saddr != 10.0.0.1-10.0.0.5", "pre", after(ipv4, saddr,
    { "byteorder", sreg = 1, dreg = 1, op = "ntoh", len = 4, size = 4 },
    { "range", sreg = 1, op = "neq", from = "\1\0\0\10", to = "\5\0\0\10" }) },
  { "jump other", "pre", { load({ verdict = "jump", chain = "other" }, "verdict") } },
  { "ip saddr != @s", "pre", after(ipv4, saddr,
    { "lookup", set = "s", sreg = 1, flags = { "inverted" } }) },
  { "ip saddr vmap @v", "pre", after(ipv4, saddr,
    { "lookup", set = "v", sreg = 1, dreg = "verdict" }) },
  { "meta mark set ip saddr map @m", "pre", after(ipv4, saddr,
    { "lookup", set = "m", sreg = 1, dreg = 1 }, { "meta", key = "mark", sreg = 1 }) },
  { "counter packets 3 bytes 400", "pre", { { "counter", packets = 3, bytes = 400 } } },
  { "ct state established,related", "pre", { { "ct", key = "state", dreg = 1 },
    { "bitwise", sreg = 1, dreg = 1, len = 4, xor = "\0\0\0\0",
      mask = { ct_state = { "established", "related" } } }, is("\0\0\0\0", "neq") } },
  { "ct direction reply", "pre", { { "ct", key = "direction", dreg = 1 },
    is { ct_dir = "reply" } } },
  { "ct mark set 0x00000007", "pre", { load { mark = 7 },
    { "ct", key = "mark", sreg = 1 } } },
  { "ct original packets 5", "pre", { { "ct", key = "packets", direction = "original",
    dreg = 1 }, is(string.pack("=I8", 5)) } },
  { "fib daddr type local", "pre", { { "fib", result = "type", flags = { "daddr" },
    dreg = 1 }, is { fib_addrtype = "local" } } },
  { "fib saddr . iif oif 0", "pre", { { "fib", result = "oif", flags = { "saddr", "iif" },
    dreg = 1 }, is { iface_index = 0 } } },
  { "meta l4proto tcp dnat ip to 10.0.0.1:80", "dstnat", after(tcp,
    load { ipv4_addr = "10.0.0.1" }, load({ inet_service = 80 }, 2),
    { "nat", type = "dnat", family = "ip", addr_min = 1, port_min = 2 }) },
  { "snat ip6 to fd00::1 random,persistent", "srcnat", { load { ipv6_addr = "fd00::1" },
    { "nat", type = "snat", family = "ip6", addr_min = 1,
      flags = { "random", "persistent" } } } },
  { "masquerade", "srcnat", { { "masq" } } },
  { "masquerade random,fully-random", "srcnat",
    { { "masq", flags = { "random", "fully_random" } } } },
  { "meta l4proto tcp masquerade to :1024-2048", "srcnat", after(tcp,
    load { inet_service = 1024 }, load({ inet_service = 2048 }, 2),
    { "masq", port_min = 1, port_max = 2 }) },
  { "meta l4proto tcp redirect to :8080", "dstnat", after(tcp,
    load { inet_service = 8080 }, { "redir", port_min = 1 }) },
  { "reject", "input", { { "reject", type = "icmpx", code = 1 } } },
  { "reject with icmp port-unreachable", "input",
    after(ipv4, { "reject", type = "icmp", code = 3 }) },
  { "meta l4proto tcp reject with tcp reset", "input",
    after(tcp, { "reject", type = "tcp_reset" }) },
  { "limit rate 10/second burst 20 packets", "pre",
    { { "limit", rate = 10, unit = 1, burst = 20, type = "packets" } } },
  { "limit rate over 1 kbytes/hour", "pre",
    { { "limit", rate = 1024, unit = 3600, burst = 0, type = "bytes",
      flags = { "inverted" } } } },
  { 'log prefix "hello " level info', "pre",
    { { "log", prefix = "hello ", level = "info" } } },
  { "log group 3 snaplen 100 queue-threshold 2", "pre",
    { { "log", group = 3, snaplen = 100, qthreshold = 2 } } },
  { "update @s { ip saddr timeout 30s }", "pre", after(ipv4, saddr,
    { "dynset", set = "s", op = "update", sreg_key = 1, timeout = 30000 }) },
  { "add @s { ip saddr limit rate 3/minute }", "pre", after(ipv4, saddr,
    { "dynset", set = "s", op = "add", sreg_key = 1, flags = { "expressions" },
      expr = { "limit", rate = 3, unit = 60, burst = 5, type = "packets" } }) },
  { 'counter name "cnt"', "pre", { { "objref", type = "counter", name = "cnt" } } },
  { "meta mark set numgen random mod 10 offset 2", "pre",
    { { "numgen", type = "random", modulus = 10, offset = 2, dreg = 1 },
      { "meta", key = "mark", sreg = 1 } } },
  { "meta mark set jhash ip saddr mod 8 seed 0x5", "pre", after(ipv4, saddr,
    { "hash", type = "jenkins", sreg = 1, len = 4, modulus = 8, seed = 5, dreg = 1 },
    { "meta", key = "mark", sreg = 1 }) },
  { "meta mark set symhash mod 8 offset 1", "pre",
    { { "hash", type = "symmetric", modulus = 8, offset = 1, dreg = 1 },
      { "meta", key = "mark", sreg = 1 } } },
  { "tcp option maxseg size 1400", "pre", after(tcp,
    { "exthdr", op = "tcp_option", type = 2, offset = 2, len = 2, dreg = 1 },
    is("\5\120")) },
  { "exthdr frag exists", "pre", { { "exthdr", op = "ipv6", type = 44, offset = 0,
    len = 1, flags = { "present" }, dreg = 1 }, is("\1") } },
  { "meta l4proto tcp tproxy to :50080", "pre", after(tcp, load { inet_service = 50080 },
    { "tproxy", family = "unspec", port = 1 }) },
  { "notrack", "raw", { { "notrack" } } },
  { "rt classid 10", "input", { { "rt", key = "classid", dreg = 1 },
    is { classid = 10 } } },
  { "socket transparent 1", "pre", { { "socket", key = "transparent", dreg = 1 },
    is("\1") } },
  { "quota over 5000 bytes", "pre", { { "quota", bytes = 5000, flags = { "over" } } } },
  { "ct count over 10", "pre", { { "connlimit", count = 10, flags = { "inverted" } } } },
}

describe("nft expressions", function()
  before_each(function() ns, h = fixture.open() end)
  after_each(fixture.close)

  for _, case in ipairs(expressions) do
    local text, chain, exprs = table.unpack(case)
    it("say " .. text, function()
      stage()
      assert(h:commit { { "add", "rule", in_t { chain = chain, exprs = exprs } } })
      assert.equal(text, shown(chain))
      -- What is read can be written, and means the same.
      local read = h:dump("rule", in_t { chain = chain })[1].exprs
      assert(h:commit { { "flush", "chain", in_t { name = chain } },
        { "add", "rule", in_t { chain = chain, exprs = read } } })
      assert.equal(text, shown(chain))
      assert.same(read, h:dump("rule", in_t { chain = chain })[1].exprs)
    end)
  end

  local rules = {
    { "ip saddr 10.1.0.0/16", nft.saddr("10.1.0.0/16") },
    { "ip saddr != 10.1.2.0/23", nft.saddr("10.1.2.3/23", "!=") },
    { "ip daddr 10.1.2.3", nft.daddr("10.1.2.3") },
    { "ip daddr 224.0.0.0/4", nft.daddr("224.0.0.0/4") },
    { "ip6 daddr ff00::/8", nft.daddr("ff00::/8") },
    { "ip6 saddr fd00:1::/49 accept", nft.saddr("fd00:1::/49"), nft.verdict("accept") },
    { "ip6 saddr != fd00::1", nft.saddr("fd00::1", "!=") },
    { "meta nfproto ipv4", nft.saddr("0.0.0.0/0") },
    { "meta nfproto ipv6 drop", nft.nfproto("ipv6"), nft.verdict("drop") },
    { "ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/8 masquerade", nft.saddr("10.0.0.0/8"),
      nft.daddr("10.0.0.0/8", "!="), nft.masquerade(), chain = "srcnat" },
    { 'iifname "br0" oifname != "br0"', nft.iifname("br0"), nft.oifname("br0", "!="),
      chain = "srcnat" },
    { "fib daddr type local jump other", nft.fib_daddr("local"),
      nft.verdict("jump", "other") },
    { "ip saddr @s counter packets 0 bytes 0 goto other", nft.saddr_in("ip", "s"),
      nft.counter(), nft.verdict("goto", "other") },
    { "ip6 daddr != @s6", nft.daddr_in("ip6", "s6", "!=") },
    { "ip saddr vmap @v", nft.saddr_vmap("ip", "v") },
    { "ip daddr vmap @v", nft.daddr_vmap("ip", "v") },
    { "meta mark 0x00000005", nft.meta("mark", { mark = 5 }) },
    { "ip saddr . ip daddr & 255.255.252.0 @pairs", nft.fields_in("ip", { "saddr", { "daddr", 22 } }, "pairs") },
    { "ip saddr . ip daddr != @pairs", nft.fields_in("ip", { "saddr", { "daddr", 32 } }, "pairs", "!=") },
    { "ip6 saddr . ip6 daddr & ffff:ffff:ffff:ffff:: @pairs6",
      nft.fields_in("ip6", { "saddr", { "daddr", 64 } }, "pairs6") },
    { "ct state established,related", nft.ct_state("established", "related") },
    { "ct state new", nft.ct_state "new" },
  }
  for _, case in ipairs(rules) do
    it("are put together to say " .. case[1], function()
      stage()
      local chain = case.chain or "pre"
      commit({ "add", "rule", in_t { chain = chain,
        exprs = nft.rule(table.unpack(case, 2)) } })
      assert.equal(case[1], shown(chain))
    end)
  end

  it("ask for the protocol where the family does not say it", function()
    assert.equal(2, #nft.rule("ip", nft.saddr("10.0.0.0/8")))
    assert.equal(4, #nft.rule("inet", nft.saddr("10.0.0.0/8")))
    assert(h:commit { { "add", "table", { family = "bridge", name = "t" } },
      { "add", "chain", { family = "bridge", table = "t", name = "c" } },
      { "add", "rule", { family = "bridge", table = "t", chain = "c",
        exprs = nft.rule("bridge", nft.daddr("fd00::1"), nft.verdict("drop")) } } })
    assert.matches("ip6 daddr fd00::1 drop", t.run("nft list ruleset", { host = ns }))
    assert.has_error(function() nft.rule("ip6", nft.saddr("10.0.0.0/8")) end)
  end)

  it("are refused when they make no sense", function()
    assert.has_error(function() nft.saddr("10.0.0.300") end)
    assert.has_error(function() nft.saddr("10.0.0.1", "=") end)
    assert.has_error(function() nft.saddr("::/0", "!=") end)
    assert.has_error(function() nft.saddr_in("ipv4", "s") end)
    assert.has_error(function() nft.ct_state "old" end, 'unknown state "old"')
  end)

  it("have comments that nft can read back", function()
    assert.equal('a?b?c?', nft.comment('a"b\nc\127'))
    assert.equal(128, #nft.comment(("x"):rep(300)))
  end)
end)

-- ---------------------------------------------------------------------------
-- Masquerading
-- ---------------------------------------------------------------------------

local function of(fields)
  fields.family, fields.table = "inet", "luacni"
  return fields
end

local function rule(chain, ...)
  return { "add", "rule", of { chain = chain, exprs = nft.rule(...) } }
end

local function net_chain(subnet)
  local name = "net_" .. subnet:gsub(":", "_")
  return name, { "add", "chain", of { name = name } },
    rule(name, nft.daddr(subnet), nft.verdict("return")), rule(name, nft.masquerade())
end

local function element(map, key_type, key, chain, comment)
  local verdict = chain and { verdict = "goto", chain = chain }
  return of { set = map, key_type = key_type,
    elements = { { key = key, data = verdict, comment = comment } } }
end

-- One table, one base chain, a map a family, a chain a subnet.
local function masquerade()
  local net4, chain4, own4, hide4 = net_chain("10.22.0.0/16")
  local net6, chain6, own6, hide6 = net_chain("fd00::/64")
  return {
    { "add", "table", { family = "inet", name = "luacni" } },
    { "add", "chain", of { name = "postrouting", type = "nat", hook = "postrouting",
      priority = 100 } },
    { "add", "map", of { name = "masq4", key_type = "ipv4_addr",
      data_type = "verdict" } },
    { "add", "map", of { name = "masq6", key_type = "ipv6_addr",
      data_type = "verdict" } },
    chain4, own4, hide4, chain6, own6, hide6,
    rule("postrouting", nft.daddr("224.0.0.0/4"), nft.verdict("return")),
    rule("postrouting", nft.daddr("ff00::/8"), nft.verdict("return")),
    rule("postrouting", nft.saddr_vmap("ip", "masq4")),
    rule("postrouting", nft.saddr_vmap("ip6", "masq6")),
    { "add", "element", element("masq4", "ipv4_addr", "10.22.0.2", net4, "net/c1/eth0") },
    { "add", "element", element("masq6", "ipv6_addr", "fd00::2", net6, "net/c1/eth0") },
  }
end

local ruleset = [[
table inet luacni {
	map masq4 {
		type ipv4_addr : verdict
		elements = { 10.22.0.2 comment "net/c1/eth0" : goto net_10.22.0.0/16 }
	}

	map masq6 {
		type ipv6_addr : verdict
		elements = { fd00::2 comment "net/c1/eth0" : goto net_fd00__/64 }
	}

	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip daddr 224.0.0.0/4 return
		ip6 daddr ff00::/8 return
		ip saddr vmap @masq4
		ip6 saddr vmap @masq6
	}

	chain net_10.22.0.0/16 {
		ip daddr 10.22.0.0/16 return
		masquerade
	}

	chain net_fd00__/64 {
		ip6 daddr fd00::/64 return
		masquerade
	}
}
]]

-- Pods of one subnet, each by a wire of its own, so that the host routes between them.
local pod = [[
  ip link add pN type veth peer name eth0 netns podN
  ip addr add 10.22.0.1/32 dev pN
  ip -6 addr add fd00::1/128 dev pN nodad
  ip link set pN up
  ip route add 10.22.0.M dev pN
  ip -6 route add fd00::M dev pN
  ip -n podN link set eth0 up
  ip -n podN addr add 10.22.0.M/32 dev eth0
  ip -n podN -6 addr add fd00::M/128 dev eth0 nodad
  ip -n podN route add 10.22.0.1 dev eth0
  ip -n podN route add default via 10.22.0.1
  ip -n podN -6 route add fd00::1 dev eth0
  ip -n podN -6 route add default via fd00::1]]

-- Neighbours are looked for with a link-local address, once it is known to be unique.
local settle = [[
  for ns in host far pod1 pod2; do
    i=0
    while ip -n $ns -6 addr show tentative | grep -q . && [ $i -lt 100 ]; do
      i=$((i + 1)); sleep 0.05
    done
  done]]

local multicast = [[
  far=%s
  nsenter --net=$far timeout 9 socat -u \
    UDP4-RECVFROM:5353,ip-add-membership=224.0.0.251:up0 SYSTEM:'echo $SOCAT_PEERADDR' &
  server=$!
  until nsenter --net=$far ip maddr show dev up0 | grep -q 224.0.0.251; do
    kill -0 $server || break
    sleep 0.05
  done
  echo x | nsenter --net=%s socat -u - \
    UDP4-DATAGRAM:%s:5353,bind=10.22.0.1,ip-multicast-if=192.0.2.1
  wait $server]]

describe("nft masquerading", function()
  local w, handle

  before_each(function()
    -- The rules of all are listed here, so that the neighbours have none.
    w = world.new({}, { far = true, forwarding = true, pods = 2, accepts = { "p1", "p2" },
      neighbours = { masked = false } })
    for n = 1, 2 do
      t.run((pod:gsub("N", n):gsub("M", n + 1)), { host = w.host })
    end
    t.run(settle)
    handle = assert(netlink.nft(w.host.path))
  end)
  after_each(function() handle:close() end)

  local function text() return t.our_rules(w.host) end

  local function source(number, address)
    return t.tcp_source(w.pods[number], w.far, address)
  end

  -- The source the far end sees of a datagram from the router's own 10.22.0.1.
  local function udp_source(address)
    return t.sh(multicast:format(w.far.path, w.host.path, address)):match("[%d.]+")
  end

  it("is listed as it was meant, and can be saved and loaded", function()
    assert(handle:commit(masquerade()))
    local saved = text()
    assert.equal(ruleset, saved)
    local before = t.nft(w.host)
    t.run(t.flush .. "; nft -f -", { host = w.host, stdin = saved })
    t.same(before, t.nft(w.host))
    assert.equal("192.0.2.1", source(1, "192.0.2.2"))
  end)

  it("hides what is in the map, and that only", function()
    assert.equal("10.22.0.2", source(1, "192.0.2.2"))
    assert.equal("fd00::2", source(1, "2001:db8::2"))
    assert(handle:commit(masquerade()))
    assert.equal("192.0.2.1", source(1, "192.0.2.2"))
    assert.equal("2001:db8::1", source(1, "2001:db8::2"))
    assert.is_true(t.ping(w.pods[1], "192.0.2.2"))
    assert.is_true(t.ping(w.pods[1], "2001:db8::2"))
    assert.equal("10.22.0.3", source(2, "192.0.2.2"))
    assert.equal("fd00::3", source(2, "2001:db8::2"))
  end)

  it("stops with the element", function()
    assert(handle:commit(masquerade()))
    assert(handle:commit {
      { "del", "element", element("masq4", "ipv4_addr", "10.22.0.2") },
      { "del", "element", element("masq6", "ipv6_addr", "fd00::2") } })
    assert.equal("10.22.0.2", source(1, "192.0.2.2"))
    assert.equal("fd00::2", source(1, "2001:db8::2"))
  end)

  it("leaves the own subnet alone", function()
    assert(handle:commit(masquerade()))
    assert.equal("10.22.0.2", t.tcp_source(w.pods[1], w.pods[2], "10.22.0.3"))
    assert.equal("fd00::2", t.tcp_source(w.pods[1], w.pods[2], "fd00::3"))
    -- It is that rule that does it.
    for _, chain in ipairs { "net_10.22.0.0/16", "net_fd00__/64" } do
      local first = handle:dump("rule", of { chain = chain })[1].handle
      assert(handle:commit { { "del", "rule", of { chain = chain, handle = first } } })
    end
    assert.equal("10.22.0.1", t.tcp_source(w.pods[1], w.pods[2], "10.22.0.3"))
    assert.equal("fd00::1", t.tcp_source(w.pods[1], w.pods[2], "fd00::3"))
  end)

  -- The other way to say it: a commit costs the same however many are in the set.
  it("does the same with a set for each subnet", function()
    local batch = {
      { "add", "table", { family = "inet", name = "luacni" } },
      { "add", "chain", of { name = "postrouting", type = "nat", hook = "postrouting",
        priority = 100 } },
    }
    for subnet, key_type in pairs { ["10.22.0.0/16"] = "ipv4_addr",
      ["fd00::/64"] = "ipv6_addr" } do
      local proto = key_type == "ipv4_addr" and "ip" or "ip6"
      local name = net_chain(subnet)
      batch[#batch + 1] = { "add", "set", of { name = name, key_type = key_type } }
      batch[#batch + 1] = rule("postrouting", nft.saddr_in(proto, name),
        nft.daddr(subnet, "!="), nft.masquerade())
    end
    assert(handle:commit(batch))
    assert.equal("10.22.0.2", source(1, "192.0.2.2"))
    assert(handle:commit {
      { "add", "element", element("net_10.22.0.0/16", "ipv4_addr", "10.22.0.2") },
      { "add", "element", element("net_fd00__/64", "ipv6_addr", "fd00::2") } })
    assert.matches("ip saddr @net_10.22.0.0/16 ip daddr != 10.22.0.0/16 masquerade", text(),
      1, true)
    t.run(t.flush .. "; nft -f -", { host = w.host, stdin = text() })
    assert.equal("192.0.2.1", source(1, "192.0.2.2"))
    assert.equal("2001:db8::1", source(1, "2001:db8::2"))
    assert.equal("10.22.0.3", source(2, "192.0.2.2"))
    assert.equal("10.22.0.2", t.tcp_source(w.pods[1], w.pods[2], "10.22.0.3"))
    assert.equal("fd00::2", t.tcp_source(w.pods[1], w.pods[2], "fd00::3"))
  end)

  it("leaves multicast alone", function()
    local own = element("masq4", "ipv4_addr", "10.22.0.1", "net_10.22.0.0/16", "host")
    local batch = masquerade()
    batch[#batch + 1] = { "add", "element", own }
    assert(handle:commit(batch))
    assert.equal("10.22.0.1", udp_source("224.0.0.251"))
    assert.equal("192.0.2.1", udp_source("192.0.2.2"))
  end)
end)
