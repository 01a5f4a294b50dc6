-- SPDX-License-Identifier: MIT
-- Worlds of dhcp_world.lua whose uplink leads to a router and servers of IPv6: dnsmasq, which is both.

local dhcp = require "dhcp_world"
local json = require "cni.json"
local t = require "support"

local M = {}

local leases = "/run/spec/dnsmasq.leases"

--- What dnsmasq serves by its name here: words of its command line.
M.ranges = {
  stateful = "--dhcp-range=fd09::10,fd09::20,64,1h --enable-ra",
  stateless = "--dhcp-range=fd09::,ra-stateless --enable-ra",
  slaac = "--dhcp-range=fd09::,ra-only --enable-ra",
  ["stateful and slaac"] = "--dhcp-range=fd09::10,fd09::20,slaac,64,1h --enable-ra",
}

local names <const> = "--dhcp-option=option6:dns-server,[fd09::1],[fd09::2] "
  .. "--dhcp-option=option6:domain-search,one.example,two.example "

--- Start dnsmasq on up0 of the far namespace. opts: `by` (of M.ranges; "stateful"), `range` (words in its place),
-- `ipv4` (true: 10.9.0.0/24 too), `options` (more words), `keeps` (true: it knows the leases of the one before),
-- `wire`
function M.serve(w, opts)
  opts = opts or {}
  if not opts.keeps then os.remove(leases) end
  os.remove "/run/spec/dnsmasq.pid"
  w.server = dhcp.start(("dnsmasq --conf-file=/dev/null --keep-in-foreground --user=root --port=0 --interface=%s "
    .. "--bind-dynamic --dhcp-authoritative --no-ping --dhcp-sequential-ip --dhcp-leasefile=%s "
    .. "--pid-file=/run/spec/dnsmasq.pid --log-dhcp --log-facility=- %s %s %s %s"):format(opts.wire or "up0", leases,
      opts.range or M.ranges[opts.by or "stateful"],
      opts.ipv4 and "--dhcp-range=10.9.0.10,10.9.0.20,1h --dhcp-option=3,10.9.0.1" or "", names, opts.options or ""),
    w.far)
  t.run "for i in $(seq 200); do [ -s /run/spec/dnsmasq.pid ] && exit; sleep 0.02; done; cat /run/spec/daemon.out; exit 1"
end

--- A world in which the far end of the wire is fd09::1/64, and 10.9.0.1/24, on its up0. ipam: changes to the
-- configuration's; opts: of dhcp_world.new, and `type`, `conf` (changes to the rest of it); `server`: of @{serve};
-- false: none
function M.new(ipam, opts)
  opts = opts or {}
  local w = dhcp.new(t.merge({ type = opts.type or "macvlan",
    ipam = t.merge({ type = "dhcp", ipv4 = false, ipv6 = "stateful", probe = 0 }, ipam) }, opts.conf),
    t.with(t.with({ needs = { "macvlan" } }, opts), { server = false, far = (opts.far or "true")
      .. ("; ip addr add fd09::1/64 dev %s nodad; ip addr del 2001:db8::2/64 dev up0; echo 0 >/proc/sys/net/ipv6/conf/%s/accept_ra"):format(opts.wire or "up0", opts.wire or "up0") }))
  if opts.server ~= false then
    t.needs "dnsmasq"
    M.serve(w, t.with({ wire = opts.wire }, opts.server))
  end
  return w
end

--- What the server has given and not got back, of IPv6: a list of { address, name, client }.
function M.leases()
  local list, is_behind = {}, false
  for line in (t.read(leases) or ""):gmatch "[^\n]+" do
    is_behind = is_behind or line:find "^duid"
    local _, address, name, client = line:match "^%d+ (%S+) (%x+:%S+) (%S+) (%S+)"
    if is_behind and address then list[#list + 1] = { address = address, name = name, client = client } end
  end
  return list
end

--- The addresses of these.
function M.given()
  local list = {}
  for i, lease in ipairs(M.leases()) do list[i] = lease.address end
  return list
end

--- Wait until the server has given so many.
function M.await_given(count)
  for _ = 1, 100 do
    if #M.given() == count then return end
    t.sh "sleep 0.05"
  end
  error(("the server has given %s, which is not %d"):format(t.json(M.given()), count))
end

--- What the server has been told, as it says itself: "SOLICIT", ...
function M.told()
  local list = {}
  for word in (t.read "/run/spec/daemon.out" or ""):gmatch "DHCP(%u+)%(" do list[#list + 1] = word end
  return list
end

--- The file of the lease.
M.path = "/run/luacni/dhcp/net/c1:eth0:6"

--- The lease.
function M.lease() return json.decode(assert(t.read(M.path), "there is no lease")) end

--- As if so many seconds had gone by for our own file; the kernel counts by itself.
function M.wait(seconds)
  local now = M.lease()
  for _, key in ipairs { "granted", "renew_at", "rebind_at", "expires_at", "tried_at" } do
    now[key] = now[key] and now[key] - seconds
  end
  for _, entry in ipairs(now.addresses) do
    for _, key in ipairs { "preferred_until", "valid_until" } do entry[key] = entry[key] and entry[key] - seconds end
  end
  t.write(M.path, json.note(now))
end

--- The addresses of a link in a namespace that are not link-local, as `ip -j` lists them.
function M.addrs(ns, link)
  local list = {}
  for _, entry in ipairs(t.ip(ns, "-6 addr show dev " .. (link or "eth0"))[1].addr_info) do
    if entry.scope == "global" then list[#list + 1] = entry end
  end
  return list
end

return M
