-- SPDX-License-Identifier: MIT
-- DHCP servers other than dnsmasq, for worlds of dhcp_world.lua: kea and dhcpd, each by the same few words; and
-- the relay of dhcpd.

local dhcp = require "dhcp_world"
local json = require "cni.json"
local t = require "support"

local M = {}

local function base(name) return "/run/spec/" .. (name or "server") end

-- Start a program in a namespace, and wait until it says that it is there.
local function launch(command, ns, log, ready)
  os.remove(log)
  local pid = dhcp.start(command, ns, log)
  t.run(("for i in $(seq 500); do grep -q %s %s && exit; sleep 0.02; done; cat %s; exit 1"):format(t.quote(ready),
    log, log))
  return pid
end

M.forever = 0xffffffff

-- opts of `serve`, for both:
--
--   name      of the server, where there are several ("server")
--   wire      the link it serves on ("up0"); address: its own there ("10.9.0.1"), by which it calls itself
--   network   "10.9.0" and "10.9.0.0/24"; first, last: what it gives of that (10, 20)
--   seconds   for how long (3600; M.forever); options: by the names that dhcpd has for them, each the value's text
--   more      text of the subnet's for dhcpd, a table of the subnet's for kea
--   refused   an address that it lets nobody have
--   keeps     it knows the leases of the one before

local function settings(opts)
  return t.with({ wire = "up0", address = "10.9.0.1", network = "10.9.0", first = 10, last = 20, seconds = 3600,
    options = { routers = "10.9.0.1" } }, opts)
end

-- dhcpd ------------------------------------------------------------------------------------

-- message: a line of the log like this is about a DISCOVER or a REQUEST that it has got
M.dhcpd = { name = "dhcpd", needs = "dhcpd", message = "^DHCP\\(DISCOVER\\|REQUEST\\)" }

local function dhcpd_conf(o)
  local lines = {
    "authoritative; ping-check false; one-lease-per-client false; ddns-update-style none;",
    "option classless-routes code 121 = array of unsigned integer 8;",
    ("default-lease-time %d; max-lease-time %d; min-lease-time %d;"):format(o.seconds, o.seconds, o.seconds),
    o.relayed and ("subnet %s netmask 255.255.255.0 { }"):format(o.relayed) or "",
    ("subnet %s.0 netmask 255.255.255.0 {"):format(o.network),
    ("  server-identifier %s;"):format(o.address),
    ("  pool { range %s.%d %s.%d; }"):format(o.network, o.first, o.network, o.last),
    o.refused and ("  pool { deny all clients; range %s; }"):format(o.refused) or "",
  }
  for key, value in pairs(o.options) do lines[#lines + 1] = ("  option %s %s;"):format(key, value) end
  lines[#lines + 1] = (o.more or "") .. "\n}\n"
  return table.concat(lines, "\n")
end

--- Start the server. Returns its process ID.
function M.dhcpd.serve(w, opts)
  local o = settings(opts)
  local at = base(o.name)
  t.write(at .. ".conf", dhcpd_conf(o))
  if not o.keeps then t.write(at .. ".leases", "") end
  return launch(("dhcpd -4 -f -d --no-pid -cf %s.conf -lf %s.leases %s"):format(at, at, o.wire), o.ns or w.far,
    at .. ".log", "Server starting service")
end

--- What it has given and not got back: addresses.
function M.dhcpd.given(name)
  local state, list = {}, {}
  for address, body in (t.read(base(name) .. ".leases") or ""):gmatch "\nlease (%S+) (%b{})" do
    state[address] = body:match "\n  binding state (%a+);"
  end
  for address, word in pairs(state) do list[#list + 1] = word == "active" and address or nil end
  table.sort(list)
  return list
end

-- kea --------------------------------------------------------------------------------------

M.kea = { name = "kea", needs = "kea", message = "DHCP4_BUFFER_RECEIVED" }

local names <const> = { routers = "routers", ["domain-name-servers"] = "domain-name-servers",
  ["domain-name"] = "domain-name", ["interface-mtu"] = "interface-mtu" }

local function kea_conf(o, at)
  local options = json.list {}
  for key, value in pairs(o.options) do
    options[#options + 1] = names[key] and { name = key, data = (value:gsub('"', "")) }
      or { code = 121, space = "dhcp4", ["csv-format"] = false,
        data = (value:gsub("%d+,? ?", function(number) return ("%02x"):format(tonumber(number:match "%d+")) end)) }
  end
  options[#options + 1] = { name = "dhcp-server-identifier", data = o.address }
  return json.compact { Dhcp4 = {
    ["interfaces-config"] = { interfaces = json.list { o.wire }, ["dhcp-socket-type"] = "raw" },
    ["lease-database"] = { type = "memfile", persist = true, name = at .. ".leases", ["lfc-interval"] = 0 },
    authoritative = true, ["valid-lifetime"] = o.seconds, ["calculate-tee-times"] = true,
    loggers = json.list { { name = "kea-dhcp4", severity = "DEBUG", debuglevel = 50,
      ["output_options"] = json.list { { output = "stdout", flush = true } } } },
    subnet4 = json.list { t.with({ id = 1, subnet = o.network .. ".0/24", ["option-data"] = options,
      pools = json.list { { pool = ("%s.%d - %s.%d"):format(o.network, o.first, o.network, o.last) } },
      reservations = json.list { o.refused and { ["hw-address"] = "02:00:00:00:00:99", ["ip-address"] = o.refused } },
    }, o.more) },
  } }
end

--- Start the server. Returns its process ID.
function M.kea.serve(w, opts)
  local o = settings(opts)
  local at = base(o.name)
  t.write(at .. ".conf", kea_conf(o, at))
  if not o.keeps then os.remove(at .. ".leases") end
  t.run("mkdir -p " .. at .. ".d")
  return launch(("env LD_LIBRARY_PATH=%s KEA_PIDFILE_DIR=%s.d KEA_LOCKFILE_DIR=%s.d kea-dhcp4 -c %s.conf"):format(
    t.kea_libraries, at, at, at), o.ns or w.far, at .. ".log", "DHCP4_STARTED")
end

--- What it has given and not got back: addresses.
function M.kea.given(name)
  local state, list = {}, {}
  for line in (t.read(base(name) .. ".leases") or ""):gmatch "[^\n]+" do
    local fields = {}
    for field in (line .. ","):gmatch "([^,]*)," do fields[#fields + 1] = field end
    -- address, hwaddr, client_id, valid_lifetime, expire, subnet_id, fqdn_fwd, fqdn_rev, hostname, state
    if fields[1]:find "^%d" then state[fields[1]] = fields[4] ~= "0" and fields[10] == "0" end
  end
  for address, is_given in pairs(state) do list[#list + 1] = is_given and address or nil end
  table.sort(list)
  return list
end

-- Both -------------------------------------------------------------------------------------

--- Wait until a server has given so many.
function M.await_given(server, count, name)
  for _ = 1, 100 do
    if #server.given(name) == count then return end
    t.sh "sleep 0.05"
  end
  error(("%s has given %s, which is not %d"):format(server.name, t.json(server.given(name)), count))
end

--- Shell that waits until a server has got so many messages.
function M.heard(server, count, name)
  return ("for i in $(seq 500); do [ $(grep -c '%s' %s.log) -ge %d ] && break; sleep 0.02; done"):format(server.message,
    base(name), count)
end

--- The far end of a wire that such a server is on: shell. What a relay or a server takes for the wire's own
-- address is the first one.
M.far = "ip addr del 192.0.2.2/24 dev up0"

--- A relay in the far namespace, between a link to clients and one to the server.
function M.relay(w, down, up, server)
  return launch(("dhcrelay -4 -d --no-pid -id %s -iu %s %s"):format(down, up, server), w.far, base "relay" .. ".log",
    "Sending on   Socket/fallback")
end

return M
