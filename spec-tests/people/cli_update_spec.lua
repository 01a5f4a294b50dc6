-- SPDX-License-Identifier: MIT
-- luacni update as a person calls it: a chain with containers that are talking; what is said, refused, stored;
-- several attachments, two updates at once, one that fails in the middle.

local cli = require "cli"
local t = require "support"

local folder = "/etc/cni/net.d"
local host, blue, red, clean

local bridge = { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true,
  ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } }
local chain = { bridge, { type = "portmap", capabilities = { portMappings = true } }, { type = "firewall" },
  { type = "bandwidth", ingressRate = 80000000, ingressBurst = 8000000 },
  { type = "tuning", sysctl = { ["net.ipv4.conf.all.arp_filter"] = "1" } } }

local function changed(n, more)
  local list = {}
  for i, plugin in ipairs(chain) do list[i] = i == n and t.merge(plugin, more) or plugin end
  return list
end

local function put(list, name)
  t.write(name or folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = list })
end

local function ports(...)
  local list = {}
  for i, port in ipairs { ... } do list[i] = { hostPort = port, containerPort = 80, protocol = "tcp" } end
  return { "--cap-args", t.json { portMappings = list } }
end

local function attach(name, more) cli.succeeds { "add", "net", name, table.unpack(more or {}) } end
local function update(...) return cli.succeeds { "update", "net", ... } end
local function in_host(words) return t.run(words, { host = host }) end
local function picture() return t.snapshot { ns = { host, blue, red } } end

local function changes(before)
  local lines = {}
  for _, line in ipairs(t.differences(before, picture())) do
    if not line:find("fe80::", 1, true) then lines[#lines + 1] = line end
  end
  return lines
end

-- The same, but for records.
local function is_as(before)
  local lines = {}
  for _, line in ipairs(changes(before)) do
    if not line:find "^records%." then lines[#lines + 1] = line end
  end
  t.same({}, lines)
end

before_each(function()
  t.needs("ifb", "nft-nat")
  t.wipe()
  host = t.host "node"
  cli.host = host
  blue, red = t.netns "blue", t.netns "red"
  clean = picture()
  put(chain)
end)
after_each(function()
  cli.luacni { "del", "net", "blue" }
  cli.luacni { "del", "net", "red" }
  t.run("rm -rf " .. folder .. " /var/lib/cni/results")
  t.cleanup()
end)

describe("luacni update", function()
  it("has nothing to do where nothing is another, and says so; the result is that of the ADD", function()
    local result = t.decode((cli.succeeds { "add", "net", "blue", table.unpack(ports(8080)) }))
    local before = picture()
    local out, err = update("blue", table.unpack(ports(8080)))
    t.same({ result, "nothing has changed\n" }, { t.decode(out), err })
    t.same({}, changes(before))
    t.same({ "", "nothing would change\n" }, { update("blue", "--dry-run", table.unpack(ports(8080))) })
    t.same({}, t.decode((update("blue", "--json", table.unpack(ports(8080))))).steps)
  end)

  it("says before what would be another, and changes nothing then", function()
    attach("blue", ports(8080))
    local before = picture()
    local out = update("blue", "--dry-run", "--set", "ingressRate=40000000", "--set", "isDefaultGateway=false",
      table.unpack(ports(8081)))
    assert.matches("\n~ bandwidth  add tbf qdisc 1: on veth", "\n" .. out)
    assert.matches("\n%- bridge  route 0%.0%.0%.0/0 via 10%.1%.0%.1 dev eth0", "\n" .. out)
    assert.matches("\n~ portmap  publish %*:8081/tcp to 10%.1%.0%.2:80 %(it was: publish %*:8080/tcp", "\n" .. out)
    t.same({}, changes(before))
  end)

  it("changes keys of one plugin, and what a runtime gives; what was changed before stays changed", function()
    attach("blue", ports(8080))
    update("blue", "--set", "ingressRate=40000000", "--plugin", "4")
    assert.matches("rate 40Mbit", in_host "tc qdisc show root")
    update("blue", table.unpack(ports(8081)))
    assert.matches("rate 40Mbit", in_host "tc qdisc show root")
    assert.is_truthy(in_host "nft list map inet luacni any_ports4":find "8081")
    assert.is_nil(in_host "nft list map inet luacni any_ports4":find "8080")
    update("blue", "--set", "sysctl={\"net.ipv4.conf.all.arp_filter\":\"0\"}")
    assert.equal("0\n", t.run("cat /proc/sys/net/ipv4/conf/all/arp_filter", { host = blue }))
    assert.matches("rate 40Mbit", in_host "tc qdisc show root")
    -- Without --set it becomes what the file says.
    update "blue"
    assert.matches("rate 80Mbit", in_host "tc qdisc show root")
    assert.equal("1\n", t.run("cat /proc/sys/net/ipv4/conf/all/arp_filter", { host = blue }))
    cli.succeeds { "check", "net", "blue", table.unpack(ports(8081)) }
  end)

  it("adds plugins to the chain, and takes them out of it", function()
    put { bridge }
    attach "blue"
    local bare = picture()
    put(chain)
    update("blue", "--file", folder .. "/net.conflist", table.unpack(ports(8080)))
    assert.matches("rate 80Mbit", in_host "tc qdisc show root")
    assert.is_truthy(in_host "nft list ruleset":find("8080", 1, true))
    cli.succeeds { "check", "net", "blue", table.unpack(ports(8080)) }
    put { bridge }
    update "blue"
    is_as(bare)
    cli.succeeds { "del", "net", "blue" }
    is_as(clean)
  end)

  it("is taken back by a DEL with the old configuration, and by one with the new", function()
    for n, list in ipairs { chain, changed(4, { ingressRate = 40000000 }) } do
      put(chain)
      attach "blue"
      t.run "cp -a /var/lib/cni/results /run/spec/before"
      update("blue", "--set", "ingressRate=40000000", "--plugin", n == 1 and "4" or "bandwidth")
      update("blue", "--set", "mtu=1400", "--plugin", "bridge")
      put(list)
      if n == 1 then t.run "rm -rf /var/lib/cni/results; mv /run/spec/before /var/lib/cni/results" end
      t.run "rm -rf /run/spec/before"
      cli.succeeds { "del", "net", "blue" }
      is_as(clean)
    end
  end)

  it("stores for the runtime what is so now", function()
    attach "blue"
    update("blue", "--set", "ingressRate=40000000")
    t.run("rm " .. folder .. "/net.conflist")
    local stored = t.decode(t.read((t.run "ls /var/lib/cni/results/net-*"):match "[^\n]+"))
    local list = t.decode((t.run { "sh", "-c", "printf %s '" .. stored.config .. "' | base64 -d" }))
    assert.equal(40000000, list.plugins[4].ingressRate)
    cli.succeeds { "del", "net", "blue" }
    is_as(clean)
  end)

  it("changes every attachment of a network whose file has changed, and says of which it could not", function()
    attach "blue"
    attach "red"
    put(changed(4, { ingressRate = 40000000 }))
    local dry = update("--all", "--dry-run")
    assert.equal(2, select(2, dry:gsub("eth0  ~ bandwidth  add tbf qdisc 1: on veth%x+ in the host %(limit", "")))
    assert.matches("\n2 of 2 would change\n$", dry)
    assert.equal("2 of 2 have changed\n", (update "--all"))
    assert.equal(2, select(2, in_host "tc qdisc show root":gsub("rate 40Mbit", "")))
    assert.equal("0 of 2 have changed\n", (update "--all"))
    t.run "ip netns del red"
    put(chain)
    local out, status, err = cli.luacni { "update", "net", "--all" }
    t.same({ "1 of 2 have changed\n", 1 }, { out, status })
    assert.matches("namespace of container .* is gone", err)
    red = t.netns "red"
  end)

  it("is all or nothing: one plugin that fails leaves the others as they were", function()
    attach("blue", ports(8080))
    attach("red", ports(8081))
    local before = picture()
    -- The port is the other container's.
    cli.fails(1, { "update", "net", "blue", "--set", "ingressRate=40000000", table.unpack(ports(8081)) },
      "has it already")
    is_as(before)
    cli.succeeds { "check", "net", "blue", table.unpack(ports(8080)) }
  end)

  it("waits for one that is at work", function()
    attach "blue"
    local command = ("%s/luacni update net blue --set ingressRate=%%d --plugin 4"):format(t.build)
    local _, status = t.sh(("(%s & p=$!; %s; s=$?; wait $p && exit $s) >/dev/null 2>&1"):format(
      command:format(40000000), command:format(20000000)), { host = host })
    assert.equal(0, status)
    local shown = in_host "tc qdisc show root"
    assert.is_truthy(shown:find "rate 40Mbit" or shown:find "rate 20Mbit", shown)
    cli.succeeds { "del", "net", "blue" }
    is_as(clean)
  end)

  it("says what only an ADD can do, and what it would cost, and leaves all as it is", function()
    attach "blue"
    local before = picture()
    cli.fails(1, { "update", "net", "blue", "--plugin", "1", "--set",
      "ipam={\"type\":\"host-local\",\"subnet\":\"10.2.0.0/24\"}" }, "addresses are leased by an ADD, and no update")
    is_as(before)
    cli.fails(1, { "update", "net", "blue", "--plugin", "1", "--set", "bridge=br9" }, "it is plugged into br9, and was into br0")
    is_as(before)
    cli.fails(1, { "update", "net", "blue", "--plugin", "1", "--set", "ipam.subnet=10.2.0.0/24" }, "leased by an ADD")
    is_as(before)
  end)

  it("says in one line what is wrong with the words", function()
    attach "blue"
    local before = picture()
    put(chain, "/run/spec/other.conflist")
    t.run "sed -i 's/\"net\"/\"other\"/' /run/spec/other.conflist"
    for text, words in pairs {
      ["which attachment?"] = {},
      ['nothing of blu is attached to network net; did you mean "blue"?'] = { "blu" },
      ['no eth1 of blue is attached to network net; did you mean "eth0"?'] = { "blue", "eth1" },
      ["--all is for every attachment"] = { "blue", "--all" },
      ['--set ingressRat: no plugin of the network has that key; did you mean "ingressRate"?'] = { "blue", "--set", "ingressRat=1" },
      ["bandwidth has no such key (did you mean \"ingressRate\"?)"] = { "blue", "--plugin", "4", "--set", "ingressRat=1" },
      ["it is KEY=VALUE"] = { "blue", "--set", "ingressRate" },
      ['network net has no plugin "bandwith"; did you mean "bandwidth"?'] = { "blue", "--set", "mtu=1", "--plugin", "bandwith" },
      ["several plugins of the network have that key; --plugin says which"] = { "blue", "--set", "mtu=1400" },
      ["that is a configuration of network other, not of net"] = { "blue", "--file", "/run/spec/other.conflist" },
    } do
      cli.fails(2, { "update", "net", table.unpack(words) }, text)
    end
    cli.fails(1, { "update", "net", "blue", "--set", "ingressRate=many" }, "ingressRate")
    t.same({}, changes(before))
  end)

  it("lets a stream go on while rate, ports, policy, sysctl, route, MTU, isolation and guard become others", function()
    t.needs "nft-bridge"
    attach("blue", ports(8080))
    attach "red"
    put(changed(1, { mtu = 1400, portIsolation = true, macspoofchk = true,
      ipam = t.merge(bridge.ipam, { routes = { { dst = "192.0.2.0/24" } } }) }), "/run/spec/new.conflist")
    local got = t.run({ "bash", "-c", ([[
      nsenter --net=%s socat -u TCP4-LISTEN:80,reuseaddr OPEN:/run/spec/received,creat,trunc & server=$!
      for i in $(seq 100); do nsenter --net=%s ss -Hln | grep -q :80 && break; sleep 0.02; done
      (for i in $(seq 60); do echo $i; sleep 0.05; done) | nsenter --net=%s socat -u - TCP4:10.1.0.2:80 & client=$!
      sleep 0.3
      cd /run/spec; u="nsenter --net=%s %s/luacni update net blue"
      $u --set ingressRate=40000000 --plugin 4 2>&1 >/dev/null || echo failed
      $u --cap-args '{"portMappings":[{"hostPort":8082,"containerPort":80,"protocol":"tcp"}]}' 2>&1 >/dev/null || echo failed
      $u --set ingressPolicy=same-bridge 2>&1 >/dev/null || echo failed
      $u --set 'sysctl={"net.ipv4.conf.all.arp_filter":"0"}' 2>&1 >/dev/null || echo failed
      $u --file /run/spec/new.conflist 2>&1 >/dev/null || echo failed
      wait $client $server
      nsenter --net=%s nstat -asz TcpRetransSegs | awk '/TcpRetrans/ { print "again", $2 }'
      wc -l </run/spec/received]]):format(blue.path, blue.path, host.path, host.path, t.build, host.path) })
    assert.is_nil(got:find "failed", got)
    assert.matches("again 0\n60\n$", got)
    for _, text in ipairs { "~ bandwidth", "~ portmap", "+ firewall", "~ tuning", "~ bridge", "+ bridge  route 192.0.2.0/24" } do
      assert.is_truthy(got:find(text, 1, true), text .. "\n" .. got)
    end
  end)
end)
