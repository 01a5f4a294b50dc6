-- SPDX-License-Identifier: MIT
-- A world whose uplink leads to a DHCP server, dnsmasq: what specs of addresses by DHCP play with.

local t = require "support"
local world = require "world"

local M = {}

local leases = "/run/spec/dnsmasq.leases"
local running = {}

-- Start a program in a namespace; it ends with the test. What it says is added to a file. Returns its process ID.
local function start(command, ns, log)
  local pid = t.run(("%s >>%s 2>&1 </dev/null & echo $!"):format(command, log or "/run/spec/daemon.out"),
    { host = ns }):match "%d+"
  running[pid] = true
  return pid
end

--- Start a program in a namespace; it ends with the test.
M.start = start

--- End a program that was started here, a stopped one too.
function M.stop(pid)
  t.sh(("kill %s; kill -CONT %s; while kill -0 %s 2>&-; do sleep 0.02; done"):format(pid, pid, pid))
  running[pid] = nil
end

--- End all programs: for after_each.
function M.stop_all()
  for pid in pairs(running) do M.stop(pid) end
end

--- Start the server on a link of the far namespace. opts: `range` ("10.9.0.10,10.9.0.20,1h"), `options` (more
-- words), `wire` ("up0"), `keeps` (true: it knows the leases of the one before)
function M.serve(w, opts)
  opts = opts or {}
  if not opts.keeps then os.remove(leases) end
  os.remove "/run/spec/dnsmasq.pid"
  w.server = start(("dnsmasq --conf-file=/dev/null --keep-in-foreground --user=root --port=0 --interface=%s "
    .. "--bind-interfaces --dhcp-range=%s --no-ping --dhcp-authoritative --dhcp-sequential-ip "
    .. "--dhcp-leasefile=%s --pid-file=/run/spec/dnsmasq.pid --log-dhcp --log-facility=- %s")
    :format(opts.wire or "up0", opts.range or "10.9.0.10,10.9.0.20,1h", leases,
      opts.options or "--dhcp-option=3,10.9.0.1"), w.far)
  t.run("for i in $(seq 200); do [ -s /run/spec/dnsmasq.pid ] && exit; sleep 0.02; done; cat /run/spec/daemon.out; exit 1")
end

--- End the server.
function M.silence(w)
  M.stop(w.server)
  w.server = nil
end

--- A world in which the far end of the wire serves 10.9.0.0/24 on the link `wire`, made by `far`. conf: of the
-- network; opts: of world.new, and `host`, `far` (shell), `wire`, `needs`, `server` (of @{serve}; false: none)
function M.new(conf, opts)
  opts = opts or {}
  if opts.server ~= false then t.needs "dnsmasq" end
  t.needs(table.unpack(opts.needs or {}))
  local w = world.new(t.with({ cniVersion = "1.0.0", type = "macvlan", master = "up0", enabledad = false,
    ipam = { type = "dhcp" } }, conf),
    t.with({ far = true, forwarding = true, accepts = { "br0" } }, opts)) -- where iptables sees what is bridged
  if opts.host then w:sh(opts.host) end
  t.run((opts.far or "true") .. ("; ip addr add 10.9.0.1/24 dev %s"):format(opts.wire or "up0"), { host = w.far })
  os.remove "/run/spec/daemon.out"
  if opts.server ~= false then M.serve(w, t.with({ wire = opts.wire }, opts.server)) end
  return w
end

--- Leases of the server: what it has given and not got back, a list of { address, name, client }.
function M.leases()
  local list = {}
  for line in (t.read(leases) or ""):gmatch "[^\n]+" do
    local address, name, client = line:match "^%d+ %S+ (%d%S+) (%S+) (%S+)"
    list[#list + 1] = address and { address = address, name = name, client = client }
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

--- What the server has been told, as it says itself: "DHCPREQUEST", ...
function M.told()
  local list = {}
  for word in (t.read "/run/spec/daemon.out" or ""):gmatch "DHCP(%u+)%(" do list[#list + 1] = word end
  return list
end

return M
