-- SPDX-License-Identifier: MIT
-- The scripts of examples/, each as a site would have it: ADD, CHECK, a second container, an ADD that is killed
-- at some of its changes, DEL, and nothing is left. What each is for is looked at from outside.

local lfs = require "lfs"
local t = require "support"
local world = require "world"

local bin = "/run/spec/bin"
local subnet = { type = "host-local", subnet = "10.22.0.0/24" }

local function addresses(w, pod) return table.concat(world.addrs(w.pods[pod or 1], "eth0"), " ") end

-- In front of a chained one: what the plugin before it has made and said.
local chained_prev = { cniVersion = "1.1.0", interfaces = t.list { { name = "eth0", sandbox = "@NETNS@" } },
  ips = t.list { { address = "10.22.0.2/24", interface = 0 } } }
local chained_pod = "ip link add eth0 type veth peer name peer; ip addr add 10.22.0.2/24 dev eth0; " ..
  "ip link set eth0 up; ip link set peer up"

-- A service that gives addresses by HTTP, one request a process.
local service = [[
#!/bin/sh
read -r verb path rest
f=BIN/given.$(echo "$path" | tr / .)
say() { printf 'HTTP/1.0 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "$1" ${#2} "$2"; }
case $verb in
POST) n=$(ls BIN | grep -c given); : >$f
      say "200 OK" '{"address":"10.22.0.'$((n + 7))'/24","gateway":"10.22.0.1"}' ;;
DELETE) rm -f $f; say "200 OK" "" ;;
*) [ -e $f ] && say "200 OK" "" || say "404 Not Found" "" ;;
esac
]]

-- conf: of the network; calls: what beside the ordinary two of them is given; works(w, results): looks whether
-- the example does what it says, with two containers attached; breaks: shell on the host, or in the pod, that
-- CHECK has to notice, and what it says; ipam: it is one for addresses of that bridge
local examples = {
  ["proxy-arp"] = { conf = { bridge = "br0", removeUnused = true, isGateway = true, ipam = subnet }, far = true,
    works = function(w)
      -- Behind the host, and as if it were on the link.
      w:in_pod("ip route add 192.0.2.2 dev eth0")
      assert.is_true(t.ping(w.pods[1], "192.0.2.2"))
      w:sh("echo 0 >/proc/sys/net/ipv4/conf/br0/proxy_arp")
      w:in_pod("ip neigh flush dev eth0")
      assert.is_false(t.ping(w.pods[1], "192.0.2.2"))
      w:sh("echo 1 >/proc/sys/net/ipv4/conf/br0/proxy_arp")
    end,
    breaks = { "echo 0 >/proc/sys/net/ipv4/conf/br0/proxy_arp", "proxy_arp is 0, not 1" } },

  ["other-exit"] = { conf = { table = 200, uplink = "up0", gateway = "192.0.2.2", bridge = "br0", removeUnused = true,
      isDefaultGateway = true, ipam = subnet }, far = true,
    works = function(w)
      -- The host itself has no way there.
      t.run("ip addr replace 198.51.100.9/32 dev lo", { host = w.far })
      assert.is_true(t.ping(w.pods[1], "198.51.100.9"))
      w:sh("ip rule add priority 100 from 10.22.0.0/24 lookup main; ip rule add priority 101 from 10.22.0.0/24 unreachable")
      assert.is_false(t.ping(w.pods[1], "198.51.100.9"))
      w:sh("ip rule del priority 100; ip rule del priority 101")
      assert.is_true(t.ping(w.pods[1], "10.22.0.1"))
    end,
    breaks = { "ip rule del table 200", "rule 32765 from 10%.22%.0%.%d+/32 lookup 200 is missing" } },

  ["isolated"] = { conf = { server = "registry-0", bridge = "br0", removeUnused = true, isGateway = true,
      ipam = subnet }, pods = 3,
    calls = { { args = "IgnoreUnknown=1;K8S_POD_NAME=registry-0" }, { args = "IgnoreUnknown=1;K8S_POD_NAME=web-1" },
      { args = "IgnoreUnknown=1;K8S_POD_NAME=web-2" } },
    works = function(w)
      assert.is_true(t.ping(w.pods[2], "10.22.0.2"))
      assert.is_true(t.ping(w.pods[3], "10.22.0.2"))
      assert.is_true(t.ping(w.pods[2], "10.22.0.1"))
      assert.is_false(t.ping(w.pods[2], "10.22.0.4"))
    end,
    breaks = { "ip link set @PORT@ nomaster", "not plugged into br0" } },

  ["extra-routes"] = { conf = { routes = { { dst = "10.96.0.0/12", gw = "10.22.0.9" }, { dst = "10.64.0.0/16" } } },
    pod = chained_pod, prev = chained_prev,
    works = function(w, results)
      assert.equal("10.22.0.9", t.ip(w.pods[1], "route show 10.96.0.0/12")[1].gateway)
      assert.equal("eth0", t.ip(w.pods[1], "route show 10.64.0.0/16")[1].dev)
      t.same({ { dst = "10.96.0.0/12", gw = "10.22.0.9" }, { dst = "10.64.0.0/16" } }, results[1].routes)
    end,
    breaks = { "ip route del 10.64.0.0/16", "10%.64%.0%.0/16 on eth0 is missing", "pod" } },

  ["macvlan-in"] = { conf = { network = "192.0.2.0/24", ipam = subnet }, far = true, needs = "macvlan",
    works = function(w)
      local up0 = t.link(w.host, "up0")
      assert.equal(up0.ifindex, t.link(w.pods[1], "eth0").link_index)
      w:sh("ip addr del 192.0.2.1/24 dev up0")
      w:check { type = "luacni" }
      w:sh("ip addr add 192.0.2.1/24 dev up0")
    end,
    breaks = { "ip link set eth0 down", "eth0", "pod" } },

  ["own-way"] = { conf = { master = "up0", gateway = "10.22.0.254", ipam = subnet }, far = true, needs = "macvlan",
    works = function(w)
      t.run("ip addr replace 10.22.0.254/24 dev up0; ip addr replace 198.51.100.9/32 dev lo", { host = w.far })
      local _, status = t.sh("ping -n -c 1 -W 1 -I 10.22.0.2 198.51.100.9", { host = w.pods[1] })
      assert.equal(0, status)
      -- The sandbox itself has no way there: no other source goes by it.
      assert.is_false(t.ping(w.pods[1], "198.51.100.9"))
      t.run("ip addr del 10.22.0.254/24 dev up0; ip addr del 198.51.100.9/32 dev lo", { host = w.far })
    end,
    breaks = { "ip route del default table 100", "route 0.0.0.0/0 via 10%.22%.0%.254 in table 100 on eth0 is missing", "pod" } },

  ["sticky"] = { ipam = true, conf = { ipam = { type = "sticky", subnet = "10.22.0.0/24",
      rangeStart = "10.22.0.100" } },
    calls = { { args = "IgnoreUnknown=1;K8S_POD_NAME=web-3;X=y" }, { args = "IgnoreUnknown=1;K8S_POD_NAME=other" } },
    works = function(w)
      assert.equal("10.22.0.103/24", addresses(w))
      assert.equal("10.22.0.104/24", addresses(w, 2))
    end },

  ["address-list"] = { ipam = true, pods = 3, conf = { ipam = { type = "address-list", subnet = "10.22.0.0/24",
      addresses = { "10.22.0.7", "10.22.0.12" } } }, count = 2,
    works = function(w)
      assert.equal("10.22.0.7/24", addresses(w))
      assert.equal("10.22.0.12/24", addresses(w, 2))
      assert.matches("range set 0 is full: 2 of 2",
        w:fails("ADD", { type = "luacni", pod = 3, id = "c3" }).text)
    end },

  ["pod-sysctls"] = { conf = { allowed = { "net/ipv4/ip_unprivileged_port_start" }, runtimeConfig = {
      ["io.kubernetes.cri.pod-annotations"] = { ["sysctl.example.org/net.ipv4.ip_unprivileged_port_start"] = "80",
        ["sysctl.example.org/net.ipv4.ip_forward"] = "1" } } },
    pod = chained_pod, prev = chained_prev,
    works = function(w)
      assert.equal("80", t.sysctl(w.pods[1], "net/ipv4/ip_unprivileged_port_start"))
      assert.equal("0", t.sysctl(w.pods[1], "net/ipv4/ip_forward"))
    end,
    breaks = { "echo 81 >/proc/sys/net/ipv4/ip_unprivileged_port_start", "port_start is 81, not 80", "pod" } },

  ["address-service"] = { ipam = true, needs = "curl",
    conf = { ipam = { type = "address-service", socket = bin .. "/service.sock" } },
    before = function()
      t.run("rm -rf " .. bin)
      t.write(bin .. "/service", (service:gsub("BIN", bin)))
      t.run((("chmod +x %s/service; (socat UNIX-LISTEN:%s/service.sock,fork EXEC:%s/service >/dev/null 2>&1 & " ..
        "echo $! >%s/pid); for i in $(seq 100); do [ -S %s/service.sock ] && exit; sleep 0.05; done"):gsub("%%s", bin)))
    end,
    after = function()
      t.run("kill $(cat " .. bin .. "/pid)")
      assert.equal("", (t.sh("ls " .. bin .. " | grep given")))
    end,
    works = function(w)
      assert.equal("10.22.0.7/24", addresses(w))
      assert.equal("10.22.0.8/24", addresses(w, 2))
    end,
    breaks = { "rm " .. bin .. "/given..addresses.c1.eth0", "GET http://localhost/addresses/c1/eth0 at .*: the service answers with status 404" } },

  ["allow-list"] = { conf = { from = { "192.0.2.0/24", "198.51.100.7/32" }, bridge = "br0", removeUnused = true,
      isDefaultGateway = true, ipam = subnet }, far = true, needs = "nft-nat",
    calls = { {}, { conf = { from = { "198.51.100.0/24" } } } },
    works = function(w)
      local function speaks(from, to)
        local _, status = t.sh(("ping -n -c 1 -W 1 -I %s %s"):format(from, to), { host = w.far })
        return status == 0
      end
      t.run("ip addr add 198.51.100.9/32 dev lo; ip route add 10.22.0.0/24 via 192.0.2.1", { host = w.far })
      w:sh("ip route add 198.51.100.9 via 192.0.2.2")
      assert.is_true(speaks("192.0.2.2", "10.22.0.2"))
      assert.is_false(speaks("198.51.100.9", "10.22.0.2"))
      assert.is_true(speaks("198.51.100.9", "10.22.0.3"))
      assert.is_false(speaks("192.0.2.2", "10.22.0.3"))
      -- What it asks itself is answered.
      assert.is_true(t.ping(w.pods[2], "192.0.2.2"))
      t.run("ip addr del 198.51.100.9/32 dev lo; ip route del 10.22.0.0/24", { host = w.far })
      w:sh("ip route del 198.51.100.9")
    end,
    breaks = { "nft flush set inet allow-list own", "its element in set own is missing" } },

  ["figures"] = { conf = { folder = bin }, pod = chained_pod, prev = chained_prev,
    before = function() t.run("rm -rf " .. bin .. "; mkdir -p " .. bin) end,
    works = function()
      assert.matches('^cni_attached{network="net",container="c1"} %d+\n$', t.read(bin .. "/cni_c1_eth0.prom"))
    end,
    after = function() assert.equal("", (t.sh("ls " .. bin))) end,
    breaks = { "rm " .. bin .. "/cni_c1_eth0.prom", "/bin/sh .* failed" } },

  ["tunnelled"] = { conf = { overhead = 60, bridge = "br0", removeUnused = true, isDefaultGateway = true,
      ipam = subnet },
    works = function(w)
      assert.equal(1440, t.link(w.pods[1], "eth0").mtu)
      assert.is_true(t.ping(w.pods[1], "10.22.0.1"))
      assert.equal("unreachable", t.ip(w.host, "route show 10.22.0.0/24 metric 9999")[1].type)
    end,
    breaks = { "ip route del unreachable 10.22.0.0/24 metric 9999", "unreachable 10%.22%.0%.0/24 .*is missing" } },

  ["cluster-dns"] = { conf = { server = "10.96.0.10", domain = "cluster.local", mtu = 1400 },
    pod = chained_pod, prev = chained_prev,
    calls = { { args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod" } },
    works = function(w, results)
      t.same({ nameservers = { "10.96.0.10" }, search = { "prod.svc.cluster.local" } }, results[1].dns)
      t.same({ "default.svc.cluster.local" }, results[2].dns.search)
      t.same({ { address = "10.22.0.2/24", interface = 0 } }, results[1].ips)
      assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    end,
    breaks = { "ip link set eth0 mtu 1300", "mtu is 1300, not 1400", "pod" } },

  ["tenant-subnet"] = { ipam = true, conf = { ipam = { type = "tenant-subnet", tenant = "blue" } },
    calls = { {}, { conf = { ipam = { type = "tenant-subnet", tenant = "red" } } } },
    works = function(w)
      assert.equal("10.200.0.2/24", addresses(w))
      assert.equal("10.200.1.2/24", addresses(w, 2))
    end },
}

local function install(name)
  t.write(("/etc/luacni/plugins/%s.lua"):format(name), t.read(("examples/%s.lua"):format(name)))
end

-- One for addresses serves our bridge.
local function conf_of(name, example)
  if not example.ipam then return t.merge({ type = name }, example.conf) end
  return t.merge({ type = "bridge", bridge = "br0", removeUnused = true }, example.conf)
end

local function new(name, example)
  t.needs(example.needs)
  t.wipe()
  install(name)
  if example.before then example.before() end
  local w = world.new(conf_of(name, example), { pods = example.pods or 2, far = example.far, forwarding = true,
    neighbours = false, accepts = { "br0" } })
  for n = 1, example.pod and #w.pods or 0 do w:in_pod(example.pod, n) end
  return w
end

-- The call of a container's number. What was before in the chain has its namespace's path.
local function call_of(w, example, n)
  local prev = example.prev and t.decode((t.json(example.prev):gsub("@NETNS@", w.pods[n].path)))
  return t.merge({ type = "luacni", id = "c" .. n, pod = n, prev = prev },
    (example.calls or {})[n] or {})
end

for name, example in pairs(examples) do
  describe(name, function()
    it("does what it says, for two containers; CHECK misses what is gone; DEL leaves nothing", function()
      local w = new(name, example)
      local before, results = w:picture(), {}
      local count = example.count or #w.pods
      local calls = {}
      for n = 1, count do
        calls[n] = call_of(w, example, n)
        results[n] = w:add(calls[n])
        calls[n].prev = results[n]
      end
      for n = 1, count do w:check(calls[n]) end
      example.works(w, results)
      for n = 1, count do w:check(calls[n]) end
      w:del(calls[1])
      for n = 2, count do w:check(calls[n]) end
      w:add(call_of(w, example, 1))
      for n = 1, count do w:del(calls[n]) end
      t.same(before, w:picture())
      if example.breaks then
        local sh, says, at = table.unpack(example.breaks)
        calls[1].prev = w:add(call_of(w, example, 1))
        w[at == "pod" and "in_pod" or "sh"](w, (sh:gsub("@PORT@", function() return w:port().ifname end)))
        assert.matches(says, w:fails("CHECK", calls[1]).text)
        w:del(calls[1])
      end
      if example.after then example.after() end
    end)

    it("says in a dry run what it would do, and does nothing", function()
      local w = new(name, example)
      local before = w:picture()
      local file = "/run/spec/example.conflist"
      t.write(file, t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { w:config { name = false,
        cniVersion = false } } })
      local said = t.run({ t.build .. "/luacni", "run", file, "--dry-run" }, { host = w.host })
      assert.truthy(said:find("^[^\n]+:\n  %w"), said)
      t.same(before, w:picture())
      if example.after then example.after() end
    end)

    it("leaves nothing when an ADD is killed, after a DEL or the next ADD and its DEL", function()
      local w = new(name, example)
      w:add(call_of(w, example, 1))
      w:del(call_of(w, example, 1))
      local before, killed, n, step = w:picture(), 0, 1, t.stride(11, { sanitized = 19 })
      while true do
        local call = call_of(w, example, 1)
        call.under = ("%s -o /run/spec/report %d"):format(t.helper "killat", n)
        w:call("ADD", call)
        call.under = nil
        if not (t.read("/run/spec/report") or ""):find("^killed") then
          w:del(call)
          break
        end
        killed, n = killed + 1, n + step
        if killed % 2 == 0 then w:call("ADD", call) end
        w:del(call)
        t.same(before, w:picture(), ("killed at change %d"):format(n - step))
      end
      assert.is_true(killed > (t.sanitized and 0 or 1), killed .. " kills")
      if example.after then example.after() end
    end)
  end)
end

describe("tenant-subnet", function()
  it("serves the reference's bridge too, which executes it", function()
    t.needs("reference")
    t.wipe()
    install "tenant-subnet"
    t.run(("rm -rf %s; mkdir -p %s; ln -s %s/luacni %s/tenant-subnet"):format(bin, bin, t.build, bin))
    local w = world.new({ type = "bridge", bridge = "br0", cniVersion = "1.0.0",
      ipam = { type = "tenant-subnet", tenant = "blue" } }, { bin = "reference", path = "/usr/lib/cni:" .. bin, forwarding = true, neighbours = false })
    w:add()
    assert.equal("10.200.0.2/24", addresses(w))
    w:check()
    w:del()
    assert.is_nil(world.lease("10.200.0.2"))
    assert.is_nil(next(t.files("/run/luacni/shared")))
  end)
end)

describe("cluster-dns", function()
  it("stands behind the reference's bridge", function()
    t.needs("reference")
    t.wipe()
    install "cluster-dns"
    local w = world.new({ type = "bridge", bridge = "br0", cniVersion = "1.0.0", ipam = subnet }, { bin = "reference",
      path = "/usr/lib/cni", forwarding = true, neighbours = false })
    local before = w:picture()
    local behind = { type = "luacni", bin = "ours", conf = { type = "cluster-dns", server = "10.96.0.10",
      domain = "cluster.local", mtu = 1400, bridge = false, ipam = false } }
    local first = w:add()
    local result = w:add(t.merge(behind, { prev = first }))
    t.same({ nameservers = { "10.96.0.10" }, search = { "default.svc.cluster.local" } }, result.dns)
    t.same(first.ips, result.ips)
    t.same(first.interfaces, result.interfaces)
    assert.equal(1400, t.link(w.pods[1], "eth0").mtu)
    w:check(t.merge(behind, { prev = result }))
    w:del(t.merge(behind, { prev = result }))
    w:del({ prev = result })
    w:sh("ip link del br0")
    t.same(before.kernel, w:picture().kernel)
  end)
end)

describe("The examples", function()
  it("are all here, have at most 20 lines, and say what they are and how they are used", function()
    for file in lfs.dir("examples") do
      local name = file:match "^(.*)%.lua$"
      if name then
        assert.truthy(examples[name], name .. " is not tried here")
        local text, lines = t.read("examples/" .. file), 0
        for line in text:gmatch "[^\n]+" do
          if not line:find "^%s*%-%-" then lines = lines + 1 end
        end
        assert.is_true(lines <= 20, ("%s has %d lines"):format(name, lines))
        assert.matches("^%-%- SPDX.-\n%-%-%- %u.-\n%-%-     .*\"" .. name:gsub("%-", "%%-"), text)
      end
    end
    for name in pairs(examples) do assert.truthy(t.read(("examples/%s.lua"):format(name)), name) end
  end)

  it("are no types of the program", function()
    assert.is_nil((t.run({ t.build .. "/luacni", "types" })):find("proxy-arp", 1, true))
  end)
end)
