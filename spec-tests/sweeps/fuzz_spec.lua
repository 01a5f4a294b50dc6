-- SPDX-License-Identifier: MIT
-- A kernel that says anything at all: its own answers, changed on their way (bend.c), are taken in
-- by everything that listens to it (fuzz.lua). LUACNI_FUZZ, LUACNI_FUZZ_SEED: how many, and which.

local t = require "support"

local count = tonumber(os.getenv("LUACNI_FUZZ")) or t.sanitized and 10000 or 30000
local seed = tonumber(os.getenv("LUACNI_FUZZ_SEED")) or 1
local library, last = "/run/spec/bend.so", "/run/spec/bend.last"

setup(function()
  t.run({ "env", "-u", "LD_PRELOAD", "cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC",
    "-I/usr/include/lua5.4", "-o", library, "spec-tests/bend.c" })
end)

-- What the kernel gets to tell of. Each line by itself: not every kernel can do all.
local links = [[
link add br0 address 02:00:00:00:00:01 type bridge
link add v0 address 02:00:00:00:00:02 type veth peer name v1
link set v1 alias other master br0
link property add dev v0 altname veryveryverylongname
link add mv type macvlan mode source macaddr add 02:00:00:00:00:09 link v0
link add ipip0 type ipip local 10.1.2.3 remote 10.1.2.4
link add vx0 type vxlan id 5 dstport 4789 local 10.1.2.3 group 239.1.1.1 dev v0
link add gre0 type gretap local 10.1.2.3 remote 10.1.2.4
link add vlan5 link v0 type vlan id 5 ingress-qos-map 1:2
link add d0 type dummy
link add vrf0 type vrf table 100
link set v0 up
link set v1 up
link set br0 up
addr add 10.1.2.3/24 dev v0 label v0:x
addr add 10.9.0.1 peer 10.9.0.2/32 dev v0
addr add fd00::1/64 dev v0 valid_lft 1000 preferred_lft 100
route add 10.2.0.0/16 via 10.1.2.1 mtu lock 1400 advmss 1000 metric 7
route add 10.3.0.0/16 nexthop via 10.1.2.1 weight 2 nexthop via 10.1.2.2
route add default via 10.1.2.1 table 100
route add 10.4.0.0/16 via inet6 fd00::9 dev v0
-6 route add fd01::/64 via fd00::2 dev v0 metric 5
blackhole 10.5.0.0/16
rule add from 10.1.0.0/16 fwmark 0x1/0xff lookup 100 pref 50
rule add uidrange 5-6 ipproto tcp dport 80-90 lookup 100
neigh add 10.1.2.9 lladdr 02:00:00:00:00:99 dev v0
]]

local qdiscs = [[
qdisc add dev lo root handle 1: htb default 10
class add dev lo parent 1: classid 1:10 htb rate 5mbit
qdisc add dev lo parent 1:10 handle 2: tbf rate 1mbit burst 5000 limit 9000
filter add dev lo parent 1: protocol ip prio 1 u32 match ip dst 10.0.0.0/8 flowid 1:10
filter add dev lo parent 1: protocol all prio 3 u32 match u32 0 0 action mirred egress mirror dev v0
]]

local rules = [[
table inet t {
  comment "of ours"
  counter hits { }
  quota q { 10 mbytes }
  limit l { rate 5/second }
  set s { type ipv4_addr; elements = { 10.0.0.1 comment "one", 10.0.0.2 } }
  set i { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/24 . 80-90 } }
  set d { type ipv4_addr; flags dynamic,timeout; timeout 1h; size 100 }
  map m { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump c, 10.0.0.2 : drop } }
  chain c { counter accept comment "said" }
  chain f {
    type filter hook forward priority 10; policy accept;
    iifname "v0" ip saddr @s tcp dport { 80, 443 } ct state new counter name hits log prefix "x" accept
    ip daddr vmap @m
    fib daddr type local limit rate 3/second reject with icmpx port-unreachable
    update @d { ip saddr limit rate 1/second } meta mark set numgen inc mod 3
  }
  chain n { type nat hook postrouting priority 100; ip saddr 10.0.0.0/8 masquerade random }
}
]]

local function filled()
  -- Nobody lives there: a changed answer may have a link deleted that was not meant.
  local host = t.netns(nil, { lo = "up" })
  for line in links:gmatch("[^\n]+") do t.sh("ip " .. line, { host = host }) end
  for line in qdiscs:gmatch("[^\n]+") do t.sh("tc " .. line, { host = host }) end
  t.sh({ "nft", "-f", "-" }, { host = host, stdin = rules })
  -- Flows, which are tracked where there are such rules.
  t.sh("for p in 5001 5002 5003; do echo x | socat -u - UDP4-SENDTO:127.0.0.1:$p; " ..
    "echo x | socat -u - UDP6-SENDTO:[::1]:$p; done", { host = host })
  return host
end

local function fuzz(host, how_many)
  local preload = (os.getenv("LD_PRELOAD") or "") .. " " .. library
  os.remove(last)
  return t.sh({ "env", "LD_PRELOAD=" .. preload, "lua5.4", "spec-tests/fuzz.lua", library, seed,
    how_many, last }, { host = host, timeout = 60 + count // 100 })
end

local function last_answer()
  local bytes = t.read(last) or ""
  if #bytes < 4 then return "" end
  return ("seed %d, last answer:"):format(seed)
    .. bytes:sub(5, 4 + ("=I4"):unpack(bytes)):gsub("()(.)", function(at, c)
      return ((at - 1) % 16 == 0 and "\n  " or " ") .. ("%02x"):format(c:byte())
    end)
end

describe("Answers of the kernel that were changed", function()
  it("are taken in or refused, whatever they are", function()
    local out, status, err = fuzz(filled(), count)
    assert.equal(0, status, out .. err .. last_answer())
    local bent, values, refusals = out:match("^(%d+) bent, (%d+) values, (%d+) refusals")
    assert.is_true(tonumber(bent) >= count, out)
    -- Neither is all lost, nor all passed on.
    assert.is_true(tonumber(values) > count / 20, out)
    assert.is_true(tonumber(refusals) > count / 20, out)
  end)

  it("are understood as long as they are not", function()
    local out, status, err = fuzz(filled(), 0)
    assert.equal(0, status, out .. err)
    assert.is_truthy(out:find("^0 bent, "), out)
    -- What is not there or there already, what a kernel cannot do, what is waited for in vain.
    assert.is_truthy(out:find("errnos: 2 17 19 [%d ]*110\n"), out)
    for errno in out:match("errnos: (.*)"):gmatch("%d+") do
      assert.is_truthy(("2 17 19 95 110"):find(errno, 1, true), out)
    end
  end)
end)
