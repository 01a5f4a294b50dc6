-- SPDX-License-Identifier: MIT
-- Updates whose new thing is in the place of the old one: an address in the same network, the same rule with
-- another content, a table that both use, what other attachments share. After each the container has what it
-- is to have, CHECK and repair are content; back again it is as before, and DEL leaves nothing.

local cli = require "cli"
local t = require "support"

local folder = "/etc/cni/net.d"
local host, blue, red, clean

local function put(...)
  t.write(folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { ... } })
end

local function script(name, text)
  t.write(("/etc/luacni/plugins/%s.lua"):format(name), text)
end

local function static(...)
  local list = {}
  for i, address in ipairs { ... } do list[i] = { address = address } end
  return { type = "static", addresses = list, routes = { { dst = "0.0.0.0/0" } } }
end

local function bridge(more)
  return t.merge({ type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true,
    ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } } } } }, more)
end

local function in_host(words) return t.run(words, { host = host }) end
local function in_blue(words) return t.run(words, { host = blue }) end
local function picture() return t.snapshot { ns = { host, blue, red } } end

local function is_as(before, what)
  local lines = {}
  for _, line in ipairs(t.differences(before, picture())) do
    if not line:find("fe80::", 1, true) and not line:find "^records%." then lines[#lines + 1] = line end
  end
  t.same({}, lines, what)
end

-- As the file says, and all of it: nobody has anything to complain of.
local function update(what)
  cli.succeeds { "update", "net", "blue" }
  local _, status, err = cli.luacni { "check", "net", "blue" }
  assert.equal(0, status, (what or "") .. ": CHECK: " .. err)
  local out
  out, status, err = cli.luacni { "repair" }
  t.same({ "", 0, "nothing is missing\n" }, { out, status, err }, what)
end

-- From one chain to another and back.
local function there_and_back(one, other, look)
  put(table.unpack(one))
  cli.succeeds { "add", "net", "blue" }
  local before = picture()
  put(table.unpack(other))
  update "there"
  look()
  put(table.unpack(one))
  update "back"
  is_as(before, "back")
  cli.succeeds { "del", "net", "blue" }
  is_as(clean, "DEL")
end

before_each(function()
  t.needs "nft-nat"
  t.wipe()
  host = t.host "node"
  cli.host = host
  blue, red = t.netns "blue", t.netns "red"
  clean = picture()
end)
after_each(function()
  cli.luacni { "del", "net", "blue" }
  cli.luacni { "del", "net", "red" }
  t.run("rm -rf " .. folder .. " /var/lib/cni/results /etc/luacni/plugins /run/spec/bin")
  t.cleanup()
end)

describe("An update to", function()
  it("another address of the same network leaves the container that one, its routes, and its masquerade", function()
    there_and_back({ bridge { ipam = static "10.1.0.5/24" } }, { bridge { ipam = static "10.1.0.6/24" } }, function()
      assert.matches(" 10%.1%.0%.6/24 ", in_blue "ip -o -4 addr show eth0")
      assert.is_nil(in_blue "ip -o -4 addr show eth0":find("10.1.0.5", 1, true))
      assert.is_true(t.ping(blue, "10.1.0.1"))
    end)
  end)

  it("fewer addresses of a network keeps the others", function()
    script("many", [[return { add = function(req)
      local port, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
      for _, address in ipairs(req.raw.addresses) do req.pod:add_addr(eth, address) end
      return { interfaces = { port, eth } } end }]])
    local function many(...) return { type = "many", addresses = { ... } } end
    -- Back again the first one is another: so it is not as before.
    put(many("10.8.0.1/24", "10.8.0.2/24", "10.8.0.3/24"))
    cli.succeeds { "add", "net", "blue" }
    put(many("10.8.0.2/24", "10.8.0.3/24"))
    update()
    assert.equal(2, select(2, in_blue "ip -o -4 addr show eth0":gsub("\n", "")))
    put(many("10.8.0.1/24", "10.8.0.2/24", "10.8.0.3/24"))
    update()
    cli.succeeds { "del", "net", "blue" }
    is_as(clean)
  end)

  it("addresses of both families masquerades both, and of one that one", function()
    there_and_back({ bridge { ipam = static "10.1.0.5/24" } }, { bridge { ipam = static("10.1.0.5/24", "fd01::5/64") } },
      function()
        local rules = in_host "nft list ruleset"
        assert.is_truthy(rules:find("10.1.0.5 . 10.1.0.0", 1, true), rules)
        assert.is_truthy(rules:find("fd01::5 . fd01::", 1, true), rules)
      end)
  end)

  it("forceAddress leaves the attachment its use of the gateway's address", function()
    put(bridge())
    cli.succeeds { "add", "net", "blue" }
    cli.succeeds { "add", "net", "red" }
    put(bridge { forceAddress = true })
    update()
    cli.succeeds { "del", "net", "red" }
    assert.is_true(t.ping(blue, "10.1.0.1"))
    cli.succeeds { "del", "net", "blue" }
    is_as(clean)
  end)

  it("another mark keeps the administrator's chain where it is", function()
    there_and_back({ bridge(), { type = "firewall" } }, { bridge(), { type = "firewall", markBit = 13 } }, function()
      assert.matches("jump CNI%-ADMIN", in_host "nft list chain ip filter FORWARD")
    end)
  end)

  it("other rules and elements of a script has them, in its own tables and in those of others", function()
    script("ruled", [[local nft = require "cni.nft"
      return { chained = true, add = function(req)
        local own = req.host:ensure_nft_table { name = "own", chains = { { name = "each" } },
          sets = { { name = "known", key_type = "ipv4_addr" }, { name = "wide", key_type = "ipv4_addr", interval = true } } }
        for _, list in ipairs(req.raw.lists) do
          local elements = {}
          for i, address in ipairs(list) do elements[i] = { set = "known", key = address } end
          req.host:add_nft_elements(own, elements)
        end
        req.host:add_nft_elements(own, { { set = "wide", key = req.raw.wide } })
        for _, address in ipairs(req.raw.rules) do
          req.host:add_nft_rule(own, "each", nft.rule(nft.saddr(address), nft.verdict "drop"))
        end
      end }]])
    local function ruled(lists, wide, ...) return { type = "ruled", lists = lists, wide = wide, rules = { ... } } end
    there_and_back({ bridge(), ruled({ { "1.1.1.1" }, { "1.1.1.2", "1.1.1.3" } }, "10.0.0.0/8", "1.0.0.1", "1.0.0.2") },
      { bridge(), ruled({ { "1.1.1.1", "1.1.1.2" }, { "1.1.1.3" } }, "11.1.0.0/16", "1.0.0.2", "1.0.0.1", "1.0.0.3") },
      function()
        local set = in_host "nft list table inet own"
        for _, text in ipairs { "1.1.1.1", "1.1.1.2", "1.1.1.3", "11.1.0.0/16", "saddr 1.0.0.1", "saddr 1.0.0.2",
          "saddr 1.0.0.3" } do assert.is_truthy(set:find(text, 1, true), text .. "\n" .. set) end
        assert.is_nil(set:find("10.0.0.0/8", 1, true))
      end)
  end)

  it("a pair that a script makes gives it its name, and takes it away again", function()
    script("paired", [[return { chained = true, add = function(req)
      if req.raw.link then
        req.host:add_veth { name = req.raw.link, peer = { ns = req.pod, name = req.raw.link .. "p" } }
      end
    end }]])
    there_and_back({ bridge(), { type = "paired" } }, { bridge(), { type = "paired", link = "lx0" } }, function()
      assert.is_truthy(t.link(host, "lx0"))
      assert.is_truthy(t.link(blue, "lx0p"))
    end)
  end)

  it("another MTU reaches what later plugins have made of it", function()
    t.needs "ifb"
    local limit = { type = "bandwidth", egressRate = 8000000, egressBurst = 800000 }
    there_and_back({ bridge(), limit }, { bridge { mtu = 1400 }, limit }, function()
      assert.matches("mtu 1400", in_host "ip -o link show type ifb")
    end)
  end)

  it("a MAC by tuning is one for the next update, and goes with it", function()
    there_and_back({ bridge(), { type = "tuning" } }, { bridge(), { type = "tuning", mac = "02:00:00:00:00:66" } }, function()
      assert.equal("02:00:00:00:00:66", t.link(blue, "eth0").address)
      update "once more"
    end)
  end)
end)

describe("An update that is refused leaves all as it was, and the attachment is attached:", function()
  local function refused(text, words)
    local before = picture()
    local out, status, err = cli.luacni { "update", "net", "blue", table.unpack(words or {}) }
    t.same({ "", 1 }, { out, status }, err)
    assert.is_truthy(err:find(text, 1, true), err)
    is_as(before)
    assert.is_nil((cli.succeeds { "list" }):find("unfinished", 1, true))
  end

  it("a MAC that the guard of its port would drop", function()
    t.needs "nft-bridge"
    put(bridge { macspoofchk = true }, { type = "tuning" })
    cli.succeeds { "add", "net", "blue" }
    put(bridge { macspoofchk = true }, { type = "tuning", mac = "02:00:00:00:00:66" })
    refused "02:00:00:00:00:66"
    put(bridge(), { type = "tuning" })
    update()
    put(bridge(), { type = "tuning", mac = "02:00:00:00:00:66" })
    update()
    put(bridge { macspoofchk = true }, { type = "tuning", mac = "02:00:00:00:00:66" })
    refused "02:00:00:00:00:66"
  end)

  it("an MTU with which its addresses of IPv6 would go", function()
    put(bridge { ipam = static("10.1.0.5/24", "fd01::5/64") })
    cli.succeeds { "add", "net", "blue" }
    put(bridge { ipam = static("10.1.0.5/24", "fd01::5/64"), mtu = 1279 })
    refused "would lose fd01::5/64: IPv6 needs an MTU of 1280"
  end)

  it("an address of the gateway that overlaps", function()
    put(bridge { ipam = static "10.1.0.5/24" })
    cli.succeeds { "add", "net", "blue" }
    put(bridge { ipam = static "10.1.0.5/16" })
    refused "overlaps"
    put(bridge { ipam = static "10.1.0.5/24" })
    cli.succeeds { "check", "net", "blue" }
  end)

  it("a rule that it has twice", function()
    script("rules", [[return { chained = true, add = function(req)
      for _, from in ipairs(req.raw.from) do req.host:add_rule { from = from, table = 77 } end
    end }]])
    put(bridge(), { type = "rules", from = { "10.9.0.1" } })
    cli.succeeds { "add", "net", "blue" }
    put(bridge(), { type = "rules", from = { "10.9.0.1", "10.9.0.1" } })
    refused "is there already"
    assert.matches("10%.9%.0%.1 lookup 77", in_host "ip rule")
  end)

  it("what is not as it was made, until a repair", function()
    t.needs "ifb"
    put(bridge(), { type = "bandwidth", egressRate = 8000000, egressBurst = 800000 })
    cli.succeeds { "add", "net", "blue" }
    in_host "ip link del $(ip -o link show type ifb | grep -o 'bwp[0-9a-f]*')"
    put(bridge(), { type = "bandwidth", egressRate = 7000000, egressBurst = 800000 })
    refused "luacni repair does anew what is missing"
    cli.succeeds { "repair" }
    update()
  end)

  it("routing by source with other tables, another device, a tap with another owner", function()
    put(bridge { ipam = static "10.1.0.5/24" }, { type = "sbr" })
    cli.succeeds { "add", "net", "blue" }
    refused("routing by source is decided by an ADD", { "--plugin", "sbr", "--set", "table=77" })
    put(bridge { ipam = static "10.1.0.6/24" }, { type = "sbr" })
    refused "routing by source is decided by an ADD"
    put(bridge { ipam = static "10.1.0.5/24" }, { type = "sbr" })
    cli.succeeds { "del", "net", "blue" }
    in_host "ip link add dev1 type veth peer name dev2"
    put { type = "host-device", device = "dev1" }
    cli.succeeds { "add", "net", "blue" }
    put { type = "host-device", device = "dev2" }
    refused "another device is lent by an ADD"
    cli.succeeds { "del", "net", "blue" }
    put { type = "tap", owner = 1000 }
    cli.succeeds { "add", "net", "blue" }
    put { type = "tap", owner = 1001 }
    refused "its tun_owner is 1001, and was 1000"
  end)

  it("another's plugin that comes, goes, or is given something else", function()
    t.write("/run/spec/bin/foreign", [[#!/bin/sh
case $CNI_COMMAND in
ADD) sed 's/.*"prevResult"://; s/}$//' ;;
*) cat >/dev/null ;;
esac]])
    t.run("chmod 755 /run/spec/bin/foreign; cp -a " .. t.build .. "/cni-bin/* /run/spec/bin")
    t.run("rm /run/spec/bin/luacni; ln -s " .. t.build .. "/luacni /run/spec/bin/luacni")
    put(bridge(), { type = "tuning" })
    cli.succeeds({ "add", "net", "blue" }, { env = { "CNI_PATH=/run/spec/bin" } })
    put(bridge(), { type = "foreign" }, { type = "tuning" })
    refused "foreign is not one of luacni's types"
  end)
end)

it("An update by which one network lets go of a port hands it to the container's other one", function()
  put(bridge(), { type = "portmap", capabilities = { portMappings = true } })
  t.write(folder .. "/two.conflist", t.json { cniVersion = "1.1.0", name = "two", plugins = {
    bridge { bridge = "br2", ipam = { type = "host-local", subnet = "10.2.0.0/24" } },
    { type = "portmap", capabilities = { portMappings = true } } } })
  local function ports(port)
    return t.json { portMappings = { { hostPort = port, containerPort = 80, protocol = "tcp" } } }
  end
  cli.succeeds { "add", "net", "blue", "--cap-args", ports(8080) }
  cli.succeeds { "add", "two", "blue", "-i", "eth1", "--cap-args", ports(8080) }
  cli.succeeds { "update", "net", "blue", "--cap-args", ports(8081) }
  local map = in_host "nft list map inet luacni any_ports4"
  assert.matches("tcp %. 8080[^,]*10%.2%.0%.2", map)
  assert.matches("tcp %. 8081[^,]*10%.1%.0%.2", map)
  cli.succeeds { "del", "two", "blue", "-i", "eth1" }
end)
