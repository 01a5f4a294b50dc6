-- SPDX-License-Identifier: MIT
-- A node as its users have it: an uplink `eth0` with addresses of both families and default routes,
-- IPv6's learnt from a router; Docker with its bridge, its chains and a container; tables of nf_tables
-- that somebody wrote; a policy rule; rp_filter. `furnish` makes it. When the test is over, all that is
-- as it was, or the test has failed.

local lfs = require "lfs"
local spawn = require "spawn"
local t = require "support"

local M = {}

-- What every packet of a container passes on a node with Docker. @USER@: the administrator's own rules.
local filter = [[
*filter
:INPUT ACCEPT
:FORWARD DROP
:OUTPUT ACCEPT
:DOCKER -
:DOCKER-CT -
:DOCKER-FORWARD -
:DOCKER-ISOLATION-STAGE-1 -
:DOCKER-ISOLATION-STAGE-2 -
:DOCKER-USER -
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
@USER@-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -i docker0 -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -o docker0 -j DOCKER
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
]]

local nat = [[
*nat
:PREROUTING ACCEPT
:INPUT ACCEPT
:OUTPUT ACCEPT
:POSTROUTING ACCEPT
:DOCKER -
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
]]

local native = [[
table inet filter {
  set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.192/26, 203.0.113.0/24 }; }
  set ports { type inet_service; elements = { 22, 10250 }; }
  map verdicts { type ipv4_addr : verdict; elements = { 203.0.113.9 : drop }; }
  chain input {
    type filter hook input priority 10; policy accept;
    iifname "eth0" ip saddr @blocked drop
    iifname "eth0" tcp dport @ports accept
    ip saddr vmap @verdicts
  }
  chain forward { type filter hook forward priority 10; policy accept; ip daddr @blocked drop; }
}
table ip nat {
  set own { type ipv4_addr; elements = { 198.51.100.77 }; }
  chain own { ip daddr @own return; }
}
table ip6 filter {
  chain DOCKER-USER { @USER6@; }
  chain FORWARD { type filter hook forward priority 0; policy drop; counter jump DOCKER-USER; }
}
]]

-- What `ip -b` reads in the host, at its router and in Docker's container; @N@ is the host's name. Addresses
-- are given, and none made by the kernel, so that nothing waits.
local links = { host = [[
link add eth0 address 02:00:00:aa:00:01 type veth peer name lan0 address 02:00:00:aa:00:02 netns @N@-router
link set eth0 addrgenmode none
link add docker0 address 02:42:00:00:00:01 type bridge
link set docker0 addrgenmode none up
link add veth5d1c9e0 address 02:42:00:00:00:02 type veth peer name eth0 address 02:42:00:00:00:03 netns @N@-theirs
link set veth5d1c9e0 master docker0 addrgenmode none up
addr add 198.51.100.10/24 brd + dev eth0
link set eth0 up
addr add 2001:db8:5::10/64 dev eth0 nodad
addr add fe80::10/64 dev eth0 nodad
addr add 172.17.0.1/16 brd + dev docker0
route add default via 198.51.100.1 proto static
route add default via 198.51.100.1 table 100
rule add pref 1000 from 198.51.100.10 lookup 100
]], router = [[
link set lan0 addrgenmode none up
addr add 198.51.100.1/24 dev lan0
addr add 2001:db8:5::1/64 dev lan0 nodad
addr add fe80::1/64 dev lan0 nodad
]], theirs = [[
link set eth0 addrgenmode none up
addr add 172.17.0.2/16 dev eth0
route add default via 172.17.0.1
]] }

local function fill(text, values)
  return (text:gsub("@(%u+%d?)@", values))
end

-- Rules that accept what comes or goes by the links named, and what is from or to the addresses.
local function accepting(passed, addresses)
  local user, user6 = {}, {}
  for _, address in ipairs(addresses or {}) do
    if address:find(":", 1, true) then
      user6[#user6 + 1] = ("ip6 saddr %s accept; ip6 daddr %s accept"):format(address, address)
    else
      user[#user + 1] = ("-A DOCKER-USER -s %s -j ACCEPT\n-A DOCKER-USER -d %s -j ACCEPT\n"):format(address,
        address)
    end
  end
  for _, link in ipairs(passed or {}) do
    user[#user + 1] = ("-A DOCKER-USER -i %s -j ACCEPT\n-A DOCKER-USER -o %s -j ACCEPT\n"):format(link, link)
    local globbed = link:gsub("%+$", "*")
    user6[#user6 + 1] = ('iifname "%s" accept; oifname "%s" accept'):format(globbed, globbed)
  end
  return table.concat(user), table.concat(user6, "; ")
end

-- A kernel without nf_tables has the older iptables.
local function put_rules(host, filtering, tables)
  local modern = t.has("nft-nat")
  t.run({ modern and "iptables-nft-restore" or "iptables-legacy-restore" }, { host = host, stdin = filtering .. nat })
  t.run(modern and { "nft", "-f", "-" } or { "ip6tables-legacy-restore" },
    { host = host, stdin = modern and tables or filtering })
end

-- Texts in what `look` gives as bytes, for people.
local function readable(line)
  local names = {}
  for bytes in line:gmatch("%x%x%x%x+") do
    local text = bytes:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)
    for word in text:gmatch("[%w_.-]+") do
      if #word > 2 then names[#names + 1] = word end
    end
  end
  return ("%s (%s)"):format(line:sub(1, 120), table.concat(names, " "))
end

-- Settings that a plugin may raise: forwarding, and what keeps a learnt route when it is on.
local function settings_apart(line, risen)
  if line:find("forwarding ", 1, true) or line:find("ip_forward ", 1, true) then
    local name, value = line:match("(%S+) (%d)$")
    risen[name] = tonumber(value)
    return nil
  end
  local name = line:match("^link %x+ 3:(%x+)")
  if not name then return line end
  -- A port's state follows its carrier, some time later.
  line = line:gsub(" 5{ 1:%x%x ", " 5{ ")
  line = line:gsub("( 26{ 2:%x%x%x%x%x%x%x%x)%x%x%x%x%x%x%x%x", "%1~")
  return (line:gsub("( 10{ 2:)%x%x%x%x%x%x%x%x(%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x)(%x%x)%x%x%x%x%x%x",
    function(before, between, accept_ra)
      risen["accept_ra " .. name] = tonumber(accept_ra)
      return before .. "~" .. between .. "~"
    end))
end

local watched_settings = { rp_filter = true, accept_ra = true, proxy_arp = true, disable_ipv6 = true }

-- How many things are in a table, and lead to a chain, and which rule a rule stands behind: whoever adds one
-- changes that.
local function without_counts(line)
  local kind = line:match "^%a+"
  if kind == "table" then return (line:gsub(" 3:%x+", " 3:~", 1)) end
  if kind == "chain" then return (line:gsub(" 6:0000%x+", " 6:~")) end
  if kind == "rules" then return (line:gsub(" 6:%x+", "", 1)) end
  return line
end

-- What a glance shows: lines -> true, and what may have risen.
local function read(ns)
  local lines, risen = {}, {}
  for line in t.glance(ns, true):gmatch("[^\n]+") do
    line = settings_apart(line:sub(#"/proc/self/ns/net " + 1), risen)
    local setting = line and line:match("^/proc/sys/.*/(%S+) ")
    line = line and without_counts(line)
    if line and line ~= "" and (not setting or watched_settings[setting]) then
      while lines[line] do line = line .. " (again)" end
      lines[line] = true
    end
  end
  return lines, risen
end

-- Whose a line is: a table of nf_tables, or a link that an address or a route is of.
local function owner(line)
  local kind = line:match("^%S+")
  if kind == "table" or kind == "chain" or kind == "rules" or kind == "set" or kind == "element" then
    return line:match(" (%x+ 1:%x+)")
  elseif kind == "addr" then
    return "link " .. line:match("^addr %x%x%x%x%x%x%x%x(%x+)")
  elseif kind == "route4" or kind == "route6" then
    local index = line:match(" 4:(%x+)")
    return index and index ~= "01000000" and "link " .. index
  end
end

local function owners_of(lines)
  local owners = {}
  for line in pairs(lines) do
    local whose = owner(line)
    if whose and whose ~= "link 01000000" then owners[whose] = true end
  end
  return owners
end

-- What the reference's plugins have in Docker's tables is theirs.
local of_reference = "434e492d"

-- At the head of FORWARD there is what our firewall's attachments share: a jump to a chain CNI-ADMIN, and the
-- rule for a mark, 0x1000.
local of_firewall = { "434e492d41444d494e00", "62697477697365.*00100000" }

local function is_firewalls(line)
  return line:find(of_firewall[1], 1, true) or line:find "^rules" and line:find(of_firewall[2])
end

local function changes(place)
  local lines, risen = read(place.ns)
  local out = {}
  for line in pairs(place.lines) do
    if not lines[line] then out[#out + 1] = "- " .. readable(line) end
  end
  for line in pairs(lines) do
    if not place.lines[line] and place.owners[owner(line) or ""]
      and not (place.reference and line:find(of_reference, 1, true)) and not is_firewalls(line) then
      out[#out + 1] = "+ " .. readable(line)
    end
  end
  for name, was in pairs(place.risen) do
    local is = risen[name]
    local kept = name:find("^accept_ra") and was == 1 and is == 2 or was == 0 and is == 1
    if is ~= was and not kept then
      out[#out + 1] = ("%s: %d -> %s"):format(name, was, is)
    end
  end
  table.sort(out)
  if #out > 6 then out = { ("%d differences, such as"):format(#out), table.unpack(out, 1, 5) } end
  if not spawn.pings(place.theirs.path, "172.17.0.1") then
    out[#out + 1] = "Docker's container no longer reaches its gateway"
  elseif (risen["/proc/sys/net/ipv4/ip_forward"] or 0) ~= 0
    and not spawn.pings(place.theirs.path, "198.51.100.1") then
    out[#out + 1] = "Docker's container no longer reaches the uplink's router"
  end
  return out
end

-- What a glance shows once the host has learnt its default route from the router: the kernel may take
-- a packet from a link a while after it was sent. Without IPv6 there is none to wait for.
local function read_settled(host)
  local lines, risen
  for _ = 1, lfs.attributes("/proc/sys/net/ipv6") and 20 or 1 do
    lines, risen = read(host)
    for line in pairs(lines) do
      -- Inet6, of all destinations, in the main table, by a router's advertisement.
      if line:find("^route6 0a000000fe09") then return lines, risen end
    end
    t.sh("sleep 0.05")
  end
  return lines, risen
end

local places = {}

--- Make a host a lived-in one. opts: forwarding (true: on, and then the uplink goes on taking router
-- advertisements), accepts (list of links by which the administrator lets everything pass, as iptables
-- writes them), passing (list of addresses that he lets pass),
-- accept_ra (number, for the uplink), watched (false: somebody who may change what is others' is at work)
function M.furnish(host, opts)
  opts = opts or {}
  local router = t.netns(host.name .. "-router")
  local theirs = t.netns(host.name .. "-theirs")
  local user, user6 = accepting(opts.accepts, opts.passing)
  for _, which in ipairs { "all", "default" } do
    spawn.sysctl(host.path, "net/ipv4/conf/" .. which .. "/rp_filter", "1")
  end
  local forward = opts.forwarding and "1" or "0"
  spawn.sysctl(host.path, "net/ipv4/ip_forward", forward)
  spawn.sysctl(host.path, "net/ipv6/conf/all/forwarding", forward)
  t.run({ "ip", "-b", "-" }, { host = host, stdin = fill(links.host, { N = host.name }) })
  spawn.sysctl(host.path, "net/ipv6/conf/eth0/accept_ra", tostring(opts.accept_ra or opts.forwarding and 2 or 1))
  t.run({ "ip", "-b", "-" }, { host = router, stdin = links.router })
  t.run({ "ip", "-b", "-" }, { host = theirs, stdin = links.theirs })
  put_rules(host, fill(filter, { USER = user }), fill(native, { USER6 = user6 }))
  -- What says of itself that it is no router (when it is asked where it is) is a default route's no longer.
  spawn.sysctl(router.path, "net/ipv6/conf/all/forwarding", "1")
  spawn.advertise(router.path, "lan0")
  if opts.watched == false then return end
  local lines, risen = read_settled(host)
  places[host.name] = { ns = host, theirs = theirs, lines = lines, risen = risen,
    owners = owners_of(lines) }
end

--- What a test did itself, to what is others' on a host, is so from now on.
function M.so_be_it(host)
  local place = places[host.name]
  if not place then return end
  place.lines, place.risen = read(host)
  -- Our own table is not others', and goes when it is done with.
  for line in pairs(place.lines) do
    if line:find("6c7561636e6900", 1, true) or is_firewalls(line) then place.lines[line] = nil end
  end
end

--- What of others is not as it was on the hosts of this test: a list of lines. They are forgotten.
function M.noticed()
  local out = {}
  for name, place in pairs(places) do
    local there = lfs.attributes(place.ns.path) and lfs.attributes(place.theirs.path)
    for _, line in ipairs(there and changes(place) or {}) do
      out[#out + 1] = ("on %s: %s"):format(name, line)
    end
  end
  places = {}
  return out
end

return M
