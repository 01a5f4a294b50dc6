-- SPDX-License-Identifier: MIT
-- What a packet to a published port costs: on a node with 5,000 attachments that have 30,000 mappings, and on one
-- with a single attachment. Ours, and the reference plugins' two ways to publish ports. `make bench` prints it.
--
-- The nodes are filled as the plugins would do it: what one ADD has left is written down 5,000 times, with other
-- addresses and ports. Half of it is older than what is measured.
--
--   PACKETS_N=5      rounds in turns

local cjson = require "cjson"

local BUILD = os.getenv("BUILD") or "build"
local REFERENCE = os.getenv("REFERENCE") or "/usr/lib/cni"
local ROUNDS = tonumber(os.getenv("PACKETS_N")) or 5
local ATTACHMENTS, TARGET = 5000, 1.1
local ESTABLISHED, NEW = 32000, 3200

package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local fill = require "fill"
local sh, output, write, address, port, as = fill.sh, fill.output, fill.write, fill.address, fill.port, fill.as
local call, chain = fill.call, fill.chain
local SAMPLE <const>, PORTS <const>, MEASURED <const> = fill.sample, fill.ports, 259

--- Contestants: how each makes an attachment, and many more like the sample ------------------

-- Chains and rules that have a name made of the sample's, or its address.
local function fill_iptables(node, first, last)
  local tables = {}
  for name, body in output("ip netns exec %s iptables-save", node):gmatch("%*(%a+)\n(.-)COMMIT") do
    local sample, hashes = {}, {}
    for line in body:gmatch("[^\n]+") do
      local is_address = line:find(address(SAMPLE) .. "/32", 1, true)
      local is_named = line:find("c" .. SAMPLE .. '"', 1, true)
      for hash in line:gmatch(" (CNI%-[%w-]*%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x)") do
        if is_address or is_named then hashes[hash] = true end
      end
      if is_address or is_named then sample[#sample + 1] = line end
    end
    local chains, rules = {}, {}
    for number = first, last do
      local function of(text)
        for hash in pairs(hashes) do text = as(text, number, hash:match("%x+$")) end
        return as(text, number)
      end
      for hash in pairs(hashes) do chains[#chains + 1] = ":" .. of(hash) .. " - [0:0]" end
      for _, line in ipairs(sample) do rules[#rules + 1] = of(line) end
    end
    tables[#tables + 1] = ("*%s\n%s\n%s\nCOMMIT\n"):format(name, table.concat(chains, "\n"), table.concat(rules, "\n"))
  end
  write("/run/fill", table.concat(tables))
  sh("ip netns exec %s iptables-restore --noflush </run/fill", node)
end

-- The reference's table for nf_tables, as its newer versions make it.
local nft_head = [[
  table ip cni_hostport {
    chain hostports { }
    chain hostip_hostports { }
    chain hostports_all { jump hostip_hostports; jump hostports; }
    chain prerouting { type nat hook prerouting priority -100; fib daddr type local jump hostports_all; }
    chain output { type nat hook output priority -100; fib daddr type local jump hostports_all; }
    chain masquerading { type nat hook postrouting priority 100; }
  }
]]

local function fill_nft(node, first, last)
  local lines = { nft_head }
  for number = first, last do
    local ip = address(number)
    for nth = 0, PORTS - 1 do
      lines[#lines + 1] = ('add rule ip cni_hostport hostports %s dport %s dnat to %s:%d comment "c%d"'):format(
        nth == 0 and "udp" or "tcp", port(number, nth), ip, 80 + nth, number)
    end
    for _, from in ipairs { ip, "127.0.0.1" } do
      lines[#lines + 1] = ('add rule ip cni_hostport masquerading ip saddr %s ip daddr %s masquerade comment "c%d"')
        :format(from, ip, number)
    end
  end
  write("/run/fill", table.concat(lines, "\n") .. "\n")
  sh("ip netns exec %s nft -f /run/fill", node)
end

local function contestants()
  local dir = output("realpath %s/cni-bin", BUILD)
  return {
    { name = "ours", make = function(node, number) call(dir, node, number, chain(number, true)) end,
      fill = fill.fill },
    { name = "iptables", make = function(node, number) call(REFERENCE, node, number, chain(number, true)) end,
      fill = fill_iptables },
    { name = "nftables", make = function(node, number)
      call(REFERENCE, node, number, chain(number, false))
      fill_nft(node, number, number)
    end, fill = function(node, first, last)
      fill_iptables(node, first, last)
      fill_nft(node, first, last)
    end },
  }
end

--- The world ----------------------------------------------------------------------------------

local function build_node(who, size)
  local node = who.name .. size
  sh("ip netns add %s && ip -n %s link set lo up && ip netns add %s-far", node, node, node)
  for _, number in ipairs { SAMPLE, MEASURED } do sh("ip netns add %s-%d", node, number) end
  sh("ip -n %s link add up0 up type veth peer name far0 netns %s-far && ip -n %s addr add 192.0.2.1/24 dev up0",
    node, node, node)
  sh("ip -n %s-far link set far0 up && ip -n %s-far addr add 192.0.2.2/24 dev far0", node, node)
  if size > 1 then
    who.make(node, SAMPLE)
    who.fill(node, 1000, 1000 + size // 2 - 2)
  end
  who.make(node, MEASURED)
  if size > 1 then who.fill(node, 1000 + size // 2, 1000 + size - 2) end
  sh("ip netns exec %s-%d %s/bench/flood sink 80 &", node, MEASURED, BUILD)
  return { name = node, who = who.name, size = size, costs = { new = {}, old = {} },
    mac = output("ip netns exec %s cat /sys/class/net/up0/address", node) }
end

local function received(node)
  local link = cjson.decode(output("ip -n %s-%d -j -s link show eth0", node.name, MEASURED))[1]
  return link.stats64.rx.packets
end

local function flood(node, list, count, flows, first)
  local before = received(node)
  list[#list + 1] = tonumber(output("ip netns exec %s-far %s/bench/flood far0 %s 192.0.2.2 192.0.2.1 %s %d %d %d",
    node.name, BUILD, node.mac, port(MEASURED, 0), count, flows, first))
  local came = received(node) - before
  if came < 0.99 * count then
    error(("%s: of %d packets %d have come"):format(node.name, count, came), 0)
  end
end

local function median(list)
  table.sort(list)
  return list[(#list + 1) // 2]
end

local function main()
  sh("mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/cni && mkdir -p /run/netns && ip link set lo up")
  local nodes = {}
  for _, who in ipairs(contestants()) do
    for _, size in ipairs { 1, ATTACHMENTS } do
      io.stderr:write(("filling: %s, %d attachments\n"):format(who.name, size))
      nodes[#nodes + 1] = build_node(who, size)
    end
  end
  for round = 0, ROUNDS do
    for _, node in ipairs(nodes) do
      flood(node, node.costs.old, ESTABLISHED, 1, 1000)
      flood(node, node.costs.new, NEW, NEW, 2000 + round * NEW)
      if round == 0 then node.costs = { new = {}, old = {} } end
    end
  end
  print()
  print(("A packet to a published port of one attachment, and of %d with %d ports, ns of a processor: median of %d")
    :format(ATTACHMENTS, ATTACHMENTS * PORTS, ROUNDS))
  print(("  %-12s %28s %28s"):format("", "first of a flow", "any other"))
  for i = 1, #nodes, 2 do
    local text = {}
    for _, what in ipairs { "new", "old" } do
      local one, many = median(nodes[i].costs[what]), median(nodes[i + 1].costs[what])
      text[#text + 1] = ("%7d %9d  %.2f%s"):format(one, many, many / one,
        i == 1 and (" (<= %g)"):format(TARGET) or "")
    end
    print(("  %-12s %28s %28s"):format(nodes[i].who, text[1], text[2]))
  end
end

-- All happens in namespaces of its own, processes too: what is left dies with them.
if os.getenv("PACKETS_INSIDE") then
  main()
else
  local ok = os.execute("PACKETS_INSIDE=1 exec unshare --mount --net --pid --fork --kill-child --mount-proc "
    .. arg[-1] .. " " .. arg[0])
  os.exit(ok and 0 or 1)
end
