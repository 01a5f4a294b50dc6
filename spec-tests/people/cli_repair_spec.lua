-- SPDX-License-Identifier: MIT
-- luacni repair on a node whose firewall was reloaded, whose bridge somebody has removed, whose settings were set
-- back: what the containers notice, what is said, and what a killed or failing repair leaves.

local cli = require "cli"
local t = require "support"

local folder = "/etc/cni/net.d"
local host, blue, red

local function put(...)
  t.write(folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { ... } })
end

local bridge = { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true,
  ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } }
local chain = { bridge, { type = "portmap", capabilities = { portMappings = true } }, { type = "firewall" },
  { type = "bandwidth", ingressRate = 80000000, ingressBurst = 800000 },
  { type = "tuning", sysctl = { ["net.ipv4.conf.all.arp_filter"] = "1" } } }

local published = { "--cap-args", '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}' }

local function attach(name, more) cli.succeeds { "add", "net", name, table.unpack(more or {}) } end

local function in_host(words) return t.run(words, { host = host }) end

local function repair(...) return cli.succeeds { "repair", ... } end

local function says(text, ...)
  for _, part in ipairs { ... } do assert.is_truthy(text:find(part, 1, true), part .. "\n" .. text) end
end

local function picture() return t.snapshot { ns = { host, blue, red } } end

local clean

-- As it was; numbers that the kernel gives to what is new may be others.
local function as_before(before)
  local lines = {}
  for _, line in ipairs(t.differences(before, picture())) do
    local numbers = line:find("link_index: ", 1, true) or line:find("^records%.shared/.*/facts: ")
      or line:find("info_slave_data%.[dein][^:]*: ")
    -- Where a killed call has not looked what was sent to before, the set says so.
    local unseen = line:find('"asked_udp"', 1, true)
    -- What a killed call had not yet renamed goes with the bridge's folder.
    unseen = unseen or before ~= clean and line:find "^%+ records%.shared/[^/]*/%.facts%.%d+ "
    if not line:find("fe80::", 1, true) and not numbers and not unseen then lines[#lines + 1] = line end
  end
  t.same({}, lines)
end

before_each(function()
  t.wipe()
  host = t.host "node"
  cli.host = host
  blue, red = t.netns "blue", t.netns "red"
  clean = picture()
  put(table.unpack(chain))
end)
after_each(function()
  cli.luacni { "del", "net", "blue" }
  cli.luacni { "del", "net", "red" }
  t.run("rm -rf " .. folder .. " /var/lib/cni/results")
  t.cleanup()
end)

describe("luacni repair", function()
  it("has nothing to do where nothing is missing: says so, and changes nothing", function()
    t.needs "ifb"
    attach("blue", published)
    local before, out, err = picture(), repair()
    t.same({ "", "nothing is missing\n" }, { out, err })
    t.same(before, picture())
    t.same({}, t.decode((repair "--json")))
  end)

  it("sends no request that changes something then", function()
    t.needs("ifb", "strace", "calls")
    attach("blue", published)
    local trace = "/run/spec/trace"
    t.run({ "strace", "-f", "-o", trace, "-e", "trace=sendto,sendmsg", t.build .. "/luacni", "repair" }, { host = host })
    local text = t.read(trace)
    assert.is_truthy(text:find("RTM_GETLINK", 1, true))
    assert.is_nil(text:find "RTM_NEW" or text:find "RTM_DEL" or text:find "RTM_SET" or text:find "NFNL_MSG_BATCH")
  end)

  it("brings all containers back when the rules were flushed and the bridge was removed", function()
    t.needs "ifb"
    attach("blue", published)
    attach "red"
    local whole, mac = picture(), t.link(host, "br0").address
    in_host(t.flush)
    in_host "ip link del br0"
    assert.is_false(t.ping(blue, "10.1.0.1"))
    local dry = repair "--dry-run"
    says(dry, "bridge br0 is gone", "is missing from table inet luacni")
    assert.is_false(t.ping(blue, "10.1.0.1"))
    local out = repair()
    says(out, "bridge br0 is gone", "is not plugged into br0")
    as_before(whole)
    assert.equal(mac, t.link(host, "br0").address)
    for _, pod in ipairs { blue, red } do
      assert.is_true(t.answers(pod, "10.1.0.1"))
      assert.is_true(t.answers(pod, "fd01::1"))
    end
    cli.succeeds { "check", "net", "blue" }
    cli.succeeds { "check", "net", "red" }
    t.same({ "", "nothing is missing\n" }, { repair() })
    cli.succeeds { "del", "net", "blue" }
    cli.succeeds { "del", "net", "red" }
    assert.is_nil(t.link(host, "br0"))
  end)

  it("does it for those alone that are named", function()
    t.needs "ifb"
    attach "blue"
    attach "red"
    in_host(t.flush)
    repair("net", "blue")
    cli.succeeds { "check", "net", "blue" }
    assert.equal(1, select(2, cli.luacni { "check", "net", "red" }))
    cli.fails(2, { "repair", "nte" }, 'did you mean "net"?')
  end)

  it("makes an interface anew that was deleted, with its MAC and addresses, and what is behind it in the chain", function()
    t.needs "ifb"
    attach("blue", published)
    local mac = t.link(blue, "eth0").address
    t.run("ip link del eth0", { host = blue })
    says(repair(), "link eth0 is not in the sandbox", "tbf qdisc 1:")
    assert.equal(mac, t.link(blue, "eth0").address)
    assert.is_true(t.answers(blue, "10.1.0.1"))
    cli.succeeds { "check", "net", "blue" }
  end)

  it("brings back what was set back: forwarding, a setting of the sandbox, a rate, a route", function()
    t.needs "ifb"
    attach "blue"
    local whole = picture()
    in_host("echo 0 >/proc/sys/net/ipv4/ip_forward")
    t.run("echo 0 >/proc/sys/net/ipv4/conf/all/arp_filter; ip route del default", { host = blue })
    local port
    for _, link in ipairs(t.ip(host, "-d link show type veth")) do
      if link.master == "br0" then port = link.ifname end
    end
    in_host("tc qdisc del dev " .. port .. " root")
    says(repair(), "sysctl net/ipv4/ip_forward is 0, not 1", "sysctl net/ipv4/conf/all/arp_filter is 0, not 1",
      "route 0.0.0.0/0", "tbf qdisc 1:")
    as_before(whole)
  end)

  it("says what it cannot bring back, and brings back the rest", function()
    t.needs "ifb"
    attach "blue"
    in_host(t.flush)
    t.run "rm /var/lib/cni/networks/net/10.1.0.2"
    local out, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "10.1.0.2 of network net is not leased to this attachment")
    says(out, "is missing from table inet luacni")
    local list = t.decode((cli.luacni { "repair", "--json" }))
    t.same({ { "net", "eth0", 0, 1 } }, { { list[1].network, list[1].interface, #list[1].steps, #list[1].problems } })
    -- Somebody's link of the bridge's name.
    cli.succeeds { "del", "net", "blue" }
    attach "blue"
    in_host "ip link del br0; ip link add br0 type veth peer name other"
    out, status, err = cli.luacni { "repair" }
    assert.equal(1, status, out .. err)
    says(err, "br0 exists and is no bridge but a veth")
    in_host "ip link del br0"
    repair()
    cli.succeeds { "check", "net", "blue" }
  end)

  it("leaves a link of somebody else's alone, and so do the types behind the one whose link it was", function()
    t.needs "ifb"
    put(bridge, chain[4], { type = "tuning", mtu = 1300, promisc = true })
    attach "blue"
    t.run("ip link del eth0; ip link add eth0 type bridge", { host = blue })
    local port = "veth0"
    local before = t.snapshot({ ns = { blue } }).kernel
    local _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "link eth0")
    t.same(before, t.snapshot({ ns = { blue } }).kernel)
    t.run("ip link del eth0", { host = blue })
    repair()
    for _, link in ipairs(t.ip(host, "-d link show type veth")) do
      if link.master == "br0" then port = link.ifname end
    end
    in_host(("ip link del %s; ip link add %s type bridge"):format(port, port))
    _, status, err = cli.luacni { "repair" }
    assert.equal(1, status, err)
    assert.is_nil((t.run("tc qdisc show dev " .. port, { host = host }):find "tbf"))
    in_host("ip link del " .. port)
    repair()
    cli.succeeds { "check", "net", "blue" }
    -- It has got another name.
    put { type = "macvlan", master = "up0", ipam = bridge.ipam }
    cli.succeeds { "del", "net", "blue" }
    in_host "ip link add up0 type veth peer name up1; ip link set up0 up"
    attach "blue"
    t.run("ip link set eth0 name foo", { host = blue })
    _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "link eth0 is called foo now")
    assert.is_nil(t.link(blue, "eth0"))
    t.run("ip link set foo name eth0", { host = blue })
    cli.succeeds { "del", "net", "blue" }
    in_host "ip link del up0"
  end)

  it("goes round the chain: what a later type has changed on purpose, or gives back first, is no failure", function()
    put(bridge, { type = "tuning", mtu = 1400 }, { type = "sbr" })
    attach "blue"
    local whole = picture()
    for _, broken in ipairs { "ip rule del pref 32765", "ip route flush table 100", "ip link set eth0 mtu 1200" } do
      t.run(broken, { host = blue })
      local _, status, err = cli.luacni { "repair" }
      assert.equal(0, status, broken .. ": " .. err)
      as_before(whole)
      cli.succeeds { "check", "net", "blue" }
    end
  end)

  it("brings back settings of an interface that need not be there", function()
    put(bridge)
    attach "blue"
    local function settings()
      return t.run("cd /proc/sys/net; cat ipv6/conf/eth0/accept_dad ipv6/conf/eth0/keep_addr_on_down ipv4/conf/eth0/arp_notify",
        { host = blue })
    end
    local before = settings()
    t.run("ip link del eth0", { host = blue })
    repair()
    assert.equal(before, settings())
    t.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down", { host = blue })
    says(repair(), "keep_addr_on_down is 0, not 1")
    assert.equal(before, settings())
    t.run("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6", { host = blue })
    repair()
    cli.succeeds { "check", "net", "blue" }
    t.same({ "", "nothing is missing\n" }, { repair() })
  end)

  it("sets a link up that somebody has set down", function()
    t.needs "ifb"
    put(bridge, { type = "bandwidth", egressRate = 20000000, egressBurst = 1000000 })
    attach "blue"
    in_host "ip link set $(ip -o link show type ifb | grep -o 'bwp[0-9a-f]*' | head -1) down"
    assert.equal(1, select(2, cli.luacni { "check", "net", "blue" }))
    says(repair(), "is down")
    cli.succeeds { "check", "net", "blue" }
    assert.is_true(t.answers(blue, "10.1.0.1"))
  end)

  it("brings back a type of which nothing is left, where the attachment lives and no runtime's file says so", function()
    t.needs "ifb"
    put(bridge, { type = "bandwidth", egressRate = 20000000, egressBurst = 1000000 })
    attach "blue"
    local ifb = t.ip(host, "link show type ifb")[1].ifname
    t.run("rm -r /var/lib/cni/results; ip link del eth0", { host = blue })
    in_host("ip link del " .. ifb)
    repair()
    assert.equal(ifb, t.ip(host, "link show type ifb")[1].ifname)
    cli.succeeds { "gc" }
    t.same({ "", "nothing is missing\n" }, { repair() })
    cli.succeeds { "del", "net", "blue" }
    t.same({}, t.ip(host, "link show type ifb"))
  end)

  it("makes FORWARD anew where it had made it, for those who let it drop later", function()
    put(bridge, { type = "firewall" })
    -- A node without rules of others.
    host = t.host("bare", { lived_in = false })
    cli.host = host
    local function has_forward()
      return select(2, t.sh("nft list chain ip filter FORWARD", { host = host })) == 0
    end
    assert.is_false(has_forward())
    attach "blue"
    local makes = has_forward()
    in_host "nft delete table ip filter 2>/dev/null; nft delete table ip6 filter 2>/dev/null; true"
    cli.luacni { "repair" }
    assert.equal(makes, has_forward())
    cli.succeeds { "del", "net", "blue" }
    assert.is_false(has_forward())
  end)

  it("names records that are lost or unfinished, and namespaces that are gone", function()
    put(bridge, { type = "firewall" })
    attach "blue"
    local id = t.decode((cli.succeeds { "list", "net", "blue", "--json" }))[1].container
    local book = ("/run/luacni/attachments/net/%s:eth0/bridge"):format(id)
    local text = t.read(book)
    t.write(book, text:sub(1, -2))
    local _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "its ADD or DEL did not come to an end; luacni del takes back what there is of it")
    t.write(book, "")
    _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "bridge  there is no record; DEL and ADD make it anew")
    t.write(book, text)
    t.same({ "", "nothing is missing\n" }, { repair() })
    t.remove_netns(blue)
    local out
    out, err = repair()
    assert.equal("", out)
    assert.matches("its namespace is gone; luacni gc takes back what is left\n$", err)
    cli.succeeds { "gc" }
  end)

  it("goes on with the others when a call works on one, and says which", function()
    put(bridge)
    attach "blue"
    attach "red"
    in_host(t.flush)
    local id = t.decode((cli.succeeds { "list", "net", "blue", "--json" }))[1].container
    local book = ("/run/luacni/attachments/net/%s:eth0/bridge"):format(id)
    local out, status = t.sh(("flock %s %s/luacni repair 2>&1"):format(book, t.build), { host = host, timeout = 90 })
    assert.equal(1, status)
    says(out, "another bridge call still works on eth0 of container " .. id)
    cli.succeeds { "check", "net", "red" }
    repair()
    cli.succeeds { "check", "net", "blue" }
  end)

  it("does not go by a record that was damaged", function()
    put(bridge)
    attach "blue"
    local id = t.decode((cli.succeeds { "list", "net", "blue", "--json" }))[1].container
    local book = ("/run/luacni/attachments/net/%s:eth0/bridge"):format(id)
    t.write(book, (t.read(book):gsub('\n{[^\n]*', "\n{nonsense", 2)))
    local before = t.snapshot({ ns = { host, blue } }).kernel
    local _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "its record was damaged, and does not tell all that was done; DEL and ADD make it anew")
    t.same(before, t.snapshot({ ns = { host, blue } }).kernel)
  end)

  it("leaves what a DEL that somebody else did has left to gc", function()
    put(bridge)
    attach "blue"
    t.run("ip link del eth0", { host = blue })
    t.run "rm -rf /var/lib/cni/networks/net /var/lib/cni/results"
    local _, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    says(err, "nothing of it is there any more; luacni gc takes its record away")
    assert.is_nil(t.link(blue, "eth0"))
    cli.succeeds { "gc" }
    t.same({ "", "nothing is attached\n" }, { repair() })
  end)

  it("that is killed is finished by the next one; and a DEL takes all of it back", function()
    t.needs "ifb"
    attach("blue", published)
    local whole, killed, finished = picture(), 0, false
    for n = 1, 2000, t.stride(5, { sanitized = 19 }) do
      in_host(t.flush)
      in_host "ip link del br0"
      local _, status = t.sh({ t.helper "killat", "-o", "/run/spec/report", tostring(n), t.build .. "/luacni", "repair" },
        { host = host })
      finished = status == 100
      if finished then break end
      killed = killed + 1
      if n % 2 == 0 then
        cli.succeeds { "del", "net", "blue" }
        as_before(clean)
        attach("blue", published)
        whole = picture()
      else
        repair()
        as_before(whole)
      end
    end
    assert.is_true(finished)
    assert.is_true(killed > (t.sanitized and 1 or 3), killed .. " kills")
  end)

  it("keeps a connection through the flush and the repair", function()
    t.needs "ifb"
    attach("blue", published)
    local script = [[
      exec 2>/dev/null
      nsenter --net=%s socat -u TCP4-LISTEN:80,reuseaddr OPEN:/run/spec/received,creat,trunc & server=$!
      sleep 0.3
      (for i in $(seq 30); do echo $i; sleep 0.05; done) | nsenter --net=%s socat -u - TCP4:10.1.0.2:80 & client=$!
      sleep 0.4; nsenter --net=%s sh -c '%s'; nsenter --net=%s %s/luacni repair
      wait $client; sleep 0.2; kill $server; wait
      tail -1 /run/spec/received
    ]]
    local out = t.sh(script:format(blue.path, host.path, host.path, t.flush, host.path, t.build))
    assert.matches("30\n$", out)
  end)
end)
