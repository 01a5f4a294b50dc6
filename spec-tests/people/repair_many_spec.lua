-- SPDX-License-Identifier: MIT
-- luacni repair on a node with many containers whose rules were flushed: they come back together, before each
-- container is looked at.

local cli = require "cli"
local t = require "support"
local talk = require "talk"

local folder = "/etc/cni/net.d"
local host

local function put(name, subnet)
  t.write(("%s/%s.conflist"):format(folder, name), t.json { cniVersion = "1.0.0", name = name, plugins = {
    { type = "bridge", bridge = "br-" .. name, isDefaultGateway = true, ipMasq = true,
      ipam = { type = "host-local", ranges = { { { subnet = subnet } }, { { subnet = "fd07::/64" } } } } },
    { type = "portmap", capabilities = { portMappings = true } }, { type = "firewall" } } })
end

local function attach(network, name, port, protocol)
  cli.succeeds { "add", network, name, "--cap-args", t.json { portMappings = {
    { hostPort = port, containerPort = 80, protocol = protocol or "tcp" } } } }
end

-- All that nft tells of us, whatever the order in which it came.
local function rules()
  local lines = {}
  for line in t.run("nft -s list table inet luacni", { host = host }):gmatch "[^\n]+" do
    for part in line:gsub("^%s*elements = {", ""):gmatch "[^,}]+" do lines[#lines + 1] = part:match "^%s*(.-)%s*$" end
  end
  table.sort(lines)
  return lines
end

local function count(text, word)
  local n = 0
  for _ in text:gmatch(word) do n = n + 1 end
  return n
end

before_each(function()
  t.wipe()
  host = t.host "node"
  cli.host = host
  put("one", "10.7.0.0/24")
end)
after_each(function()
  for _, entry in ipairs(t.decode((cli.luacni { "list", "--json" }))) do
    cli.luacni { "del", entry.network, entry.sandbox }
  end
  t.run("rm -rf " .. folder .. " /var/lib/cni/results")
  t.cleanup()
end)

describe("luacni repair of many, when their rules were flushed,", function()
  it("makes a batch of what many have lost, not one each, and it is as it was", function()
    t.needs("strace", "calls")
    for i = 1, 10 do
      t.netns("pod" .. i)
      attach("one", "pod" .. i, 8000 + i)
    end
    local before = rules()
    t.run(t.flush, { host = host })
    local trace = "/run/spec/trace"
    local out = t.run({ "strace", "-f", "-o", trace, "-e", "trace=sendto,sendmsg", t.build .. "/luacni", "repair" },
      { host = host })
    t.same(before, rules())
    assert.equal(10, count(out, "publish %*:80%d%d/tcp"))
    assert.equal(10, count(out, "masquerade 10%.7"))
    -- A layout and its elements: masquerading of two families, ports, firewall; and FORWARD's two heads.
    local batches = count(t.read(trace), "NFNL_MSG_BATCH_BEGIN")
    assert.is_true(batches >= 3 and batches <= 12, batches .. " batches")
    for i = 1, 10 do cli.succeeds { "check", "one", "pod" .. i } end
    t.same({ "", "nothing is missing\n" }, { cli.succeeds { "repair" } })
  end)

  it("leaves what has become another's to him, tells it, and brings the others back", function()
    for i = 1, 3 do
      t.netns("pod" .. i)
      attach("one", "pod" .. i, 8000 + i)
    end
    t.run("nft flush map inet luacni any_ports4; nft add element inet luacni any_ports4 "
      .. [['{ tcp . 8002 comment "two/other/eth0" : 192.0.2.1 . 80 }']], { host = host })
    local out, status, err = cli.luacni { "repair" }
    assert.equal(1, status)
    assert.equal(2, count(out, "publish %*:800[13]/tcp"))
    assert.is_truthy(err:find("publish *:8002/tcp", 1, true) and err:find("two/other/eth0", 1, true), err)
    local map = t.run("nft list map inet luacni any_ports4", { host = host })
    assert.is_truthy(map:find("192.0.2.1 . 80", 1, true))
    cli.succeeds { "check", "one", "pod1" }
    cli.succeeds { "check", "one", "pod3" }
    t.run("nft delete element inet luacni any_ports4 '{ tcp . 8002 }'", { host = host })
    cli.succeeds { "repair" }
    cli.succeeds { "check", "one", "pod2" }
  end)

  it("gives what two networks have to the same one as before, and the other waits for it", function()
    put("two", "10.7.0.0/24")
    t.netns "pod1"
    t.netns "pod2"
    attach("two", "pod2", 8002)
    attach("one", "pod1", 8001)
    local before = rules()
    t.run(t.flush, { host = host })
    cli.succeeds { "repair" }
    t.same(before, rules())
    cli.succeeds { "del", "two", "pod2" }
    cli.succeeds { "check", "one", "pod1" }
  end)

  it("leaves the rules of one that is being deleted alone, whose DEL goes on", function()
    t.netns "pod1"
    t.netns "pod2"
    attach("one", "pod1", 8001)
    attach("one", "pod2", 8002)
    local id = t.decode((cli.succeeds { "list", "one", "pod1", "--json" }))[1].container
    t.run(t.flush, { host = host })
    t.sh(("echo '{\"leaving\":true}' >>/run/luacni/attachments/one/%s:eth0/portmap"):format(id))
    cli.luacni { "repair", "one", "pod2" }
    cli.luacni { "repair" }
    local map = t.run("nft list map inet luacni any_ports4", { host = host })
    assert.is_truthy(map:find("8002", 1, true))
    assert.is_nil(map:find("8001", 1, true))
    cli.succeeds { "del", "one", "pod1" }
    cli.succeeds { "check", "one", "pod2" }
  end)

  it("brings nothing back of one that goes meanwhile, and leaves those alone that come", function()
    for i = 1, 3 do
      t.netns("pod" .. i)
      attach("one", "pod" .. i, 8000 + i)
    end
    local text = ([[
      luacni=%s/luacni
      ( for k in 1 2 3 4 5 6 7 8 9 10 11 12; do i=$((k %% 3 + 1))
          $luacni del one pod$i && $luacni add one pod$i --cap-args \
            '{"portMappings":[{"hostPort":'$((8000 + i))',"containerPort":80,"protocol":"tcp"}]}' >/dev/null || echo broken
        done; touch /run/spec/stop ) &
      while [ ! -e /run/spec/stop ]; do nft delete table inet luacni 2>/dev/null; $luacni repair >/dev/null 2>&1; done
      wait
      $luacni repair >/dev/null
      for i in 1 2 3; do $luacni check one pod$i && $luacni del one pod$i || echo broken; done
      nft list table inet luacni 2>/dev/null; rm /run/spec/stop]]):format(t.build)
    assert.equal("", (t.sh(text, { host = host, timeout = 120 })))
    t.same({}, t.files "/run/luacni/attachments")
  end)

  it("has tracked flows go the new way: a client of UDP that has gone on sending meanwhile arrives", function()
    local pod, client = t.netns "pod1", t.netns "client"
    t.netns "pod2"
    attach("one", "pod1", 8001, "udp")
    attach("one", "pod2", 8002, "udp")
    t.sh(("ip link add c0 type veth peer name c1 netns %s; ip addr add 10.8.0.1/24 dev c0; ip link set c0 up"):format(
      client.name), { host = host })
    t.sh("ip addr add 10.8.0.2/24 dev c1; ip link set c1 up; ip route add default via 10.8.0.1", { host = client })
    t.run(t.flush, { host = host })
    t.sh("echo x | socat -t0 - UDP4:10.8.0.1:8001,sourceport=5555", { host = client })
    cli.succeeds { "repair" }
    t.same({ "pod 10.8.0.2" }, talk({ { pod, "UDP4", 80, "pod" } }, { { client, "UDP4", "10.8.0.1", 8001, 5555 } }))
  end)
end)
