-- SPDX-License-Identifier: MIT
-- luacni tree and list: what is plugged in where, and who has which address, whoever has attached it.

local t = require "support"

local folder = "/etc/cni/net.d"
local host

local function luacni(words, env)
  local out, status, err = t.sh({ t.build .. "/luacni", table.unpack(words) }, { host = host, env = env })
  assert.equal(0, status, table.concat(words, " ") .. ": " .. out .. err)
  return out, err
end

local function network(name, plugin)
  t.write(("%s/%s.conflist"):format(folder, name), t.json { cniVersion = "1.0.0", name = name, plugins = { plugin } })
end

local function host_local(subnet) return { type = "host-local", subnet = subnet } end

local plain = { "LC_ALL=C" }

before_each(function()
  host = t.host("node", { lived_in = false })
  network("demo", { type = "bridge", bridge = "demo0", isGateway = true, ipam = host_local "10.9.8.0/24" })
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results " .. folder)
  t.cleanup()
end)

describe("luacni tree", function()
  it("draws bridges with all that is plugged in, and who is behind it", function()
    t.needs "reference"
    network("pair", { type = "ptp", ipam = host_local "10.3.0.0/24" })
    network("lo", { type = "loopback" })
    for _, name in ipairs { "blue", "red" } do t.netns(name) end
    luacni { "add", "demo", "blue", "--id", "c1" }
    luacni({ "add", "demo", "red", "--id", "c2" }, { "CNI_PATH=/usr/lib/cni" })
    luacni { "add", "pair", "red", "--id", "c3", "-i", "p0" }
    luacni { "add", "lo", "red", "--id", "c4", "-i", "lo" }
    t.run("ip link add x0 type veth peer name x1; ip link set x0 master demo0; ip link add other type bridge",
      { host = host })
    local function port_of(ns, name)
      local index = t.ip(ns, "link show " .. name)[1].link_index
      for _, link in ipairs(t.ip(host, "link show")) do
        if link.ifindex == index then return link.ifname end
      end
    end
    local one, two, three = port_of("blue", "eth0"), port_of("red", "eth0"), port_of("red", "p0")
    assert.equal(([[
demo0  bridge  10.9.8.1/24
|- %s  veth
|  `- c1 eth0  network demo  10.9.8.2/24
|- %s  veth
|  `- c2 eth0  network demo  10.9.8.3/24
`- x0  veth, down
%s  veth  10.3.0.1/32
`- c3 p0  network pair  10.3.0.2/24
on no link of the host
`- c4 lo  network lo  127.0.0.1/8 ::1/128
]]):format(one, two, three), (luacni({ "tree" }, plain)))
    assert.equal(("%s  veth  10.3.0.1/32\n└─ c3 p0  network pair  10.3.0.2/24\n"):format(three),
      (luacni({ "tree", "pair" }, { "LC_ALL=", "LC_CTYPE=", "LANG=en_US.UTF-8" })))
    local json = t.decode((luacni { "tree", "--json" }))
    t.same({ "demo0", 3, "c4", "x0" }, { json.links[1].name, #json.links[1].below, json.others[1].container,
      json.links[1].below[3].name })
    t.same({ "attachment", "c2", { "10.9.8.3/24" }, "veth" }, { json.links[1].below[2].below[1].kind,
      json.links[1].below[2].below[1].container, json.links[1].below[2].below[1].addresses,
      json.links[1].below[2].below[1].link.kind })
    local dot = luacni { "tree", "--dot" }
    local nodes, edges = select(2, dot:gsub("%[label=", "")), select(2, dot:gsub(" %-%- ", ""))
    t.same({ 9, 6, "graph luacni {\n" }, { nodes, edges, dot:match "^[^\n]*\n" })

    -- What is not as it was is said. The interface's addresses are those that it has now.
    t.run("ip addr add 10.9.8.77/24 dev eth0", { host = "red" })
    t.run("ip link del p0", { host = "red" })
    t.remove_netns { name = "blue", path = "/run/netns/blue" }
    local out = luacni({ "tree" }, plain)
    assert.is_truthy(out:find("\n|  `- c2 eth0  network demo  10.9.8.3/24 10.9.8.77/24\n", 1, true), out)
    assert.is_truthy(out:find("\n|- c1 eth0  network demo  10.9.8.2/24  (its namespace is gone)\n", 1, true), out)
    assert.is_truthy(out:find("\n`- c3 p0  network pair  10.3.0.2/24  (its interface is gone)\n", 1, true), out)
  end)

  it("puts what stands on a link below it", function()
    t.needs "macvlan"
    t.run("ip link add up0 type veth peer name up1; ip link set up0 up; ip addr add 192.0.2.1/24 dev up0",
      { host = host })
    network("lan", { type = "macvlan", master = "up0",
      ipam = { type = "static", addresses = { { address = "192.0.2.9/24" } } } })
    t.netns "blue"
    luacni { "add", "lan", "blue", "--id", "c1" }
    assert.equal("up0  veth  192.0.2.1/24\n`- c1 eth0  network lan  192.0.2.9/24\n", (luacni({ "tree" }, plain)))
  end)

  it("says that there is nothing, and takes one form", function()
    t.same({ "", "nothing is attached to network demo\n" }, { luacni { "tree", "demo" } })
    t.same({ {}, {} }, { t.decode((luacni { "tree", "--json" })).links, t.decode((luacni { "tree", "--json" })).others })
    local _, status = t.sh({ t.build .. "/luacni", "tree", "--dot", "--json" }, { host = host })
    assert.equal(2, status)
  end)
end)

describe("luacni list", function()
  it("knows what others have attached, what is gone, and whose addresses are nobody's", function()
    t.needs "reference"
    for _, name in ipairs { "blue", "red" } do t.netns(name) end
    luacni { "add", "demo", "blue", "--id", "c1" }
    luacni({ "add", "demo", "red", "--id", "c2" }, { "CNI_PATH=/usr/lib/cni" })
    local out = luacni { "list" }
    assert.is_truthy(out:find "\ndemo +c1 +eth0 +blue +bridge +%d+s +10%.9%.8%.2/24\n", out)
    assert.is_truthy(out:find "\ndemo +c2 +eth0 +red +bridge +%d+s +10%.9%.8%.3/24 %(no record%)\n", out)
    local list = t.decode((luacni { "list", "--json" }))
    t.same({ true, true, { "10.9.8.2" }, false, true, { "10.9.8.3" } }, { list[1].recorded, list[1].stored,
      list[1].leases, list[2].recorded, list[2].stored, list[2].leases })
    t.write("/var/lib/cni/networks/demo/10.9.8.99", "c9\r\neth0")
    t.write("/var/lib/cni/networks/demo/10.9.8.9", "c2")
    out = luacni { "list", "--leases" }
    assert.is_truthy(out:find("\ndemo +10%.9%.8%.2 +c1 +eth0\ndemo +10%.9%.8%.3 +c2 +eth0\ndemo +10%.9%.8%.9 +c2 +%?\n"
      .. "demo +10%.9%.8%.99 +c9 +eth0 +nobody that is known here\n$"), out)
    local of_one = t.decode((luacni { "list", "demo", "c9", "--leases", "--json" }))
    t.same({ 1, "10.9.8.99" }, { #of_one, of_one[1].address })
    network("net", { type = "loopback" })
    t.same({ "", "no address is leased to network net\n" }, { luacni { "list", "net", "--leases" } })
    t.remove_netns { name = "red", path = "/run/netns/red" }
    assert.is_truthy(luacni { "list" }:find("10.9.8.3/24 (its namespace is gone, no record)", 1, true))
  end)
end)
