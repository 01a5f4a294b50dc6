-- SPDX-License-Identifier: MIT
-- The worlds of differential_spec and bundled_spec: the same namespaces, names and steps for the reference
-- plugins, for ours, and for ours run by the type luacni ("bundled"); and what came of each step as a flat
-- table of facts (text -> text) in which random names and addresses are replaced.

local system = require "system"
local t = require "support"
local talk = require "talk"

local M = {}

local zero_mac = "00:00:00:00:00:00"

local sysctls = "cd /proc/sys/net; exec grep -Hs . ipv4/ip_forward ipv6/conf/all/forwarding " ..
  "ipv4/conf/*/arp_notify ipv4/conf/*/proxy_arp " ..
  "ipv6/conf/*/accept_ra ipv6/conf/*/accept_dad ipv6/conf/*/enhanced_dad " ..
  "ipv6/conf/*/keep_addr_on_down ipv6/conf/*/disable_ipv6"

local function look(ns)
  local seen = {}
  seen.links, seen.neigh = t.ip_batch(ns, nil, { "addr show", "neigh show nud permanent" })
  seen.route4, seen.rule4 = t.ip_batch(ns, "-4", { "route show table all", "rule show" })
  seen.route6, seen.rule6 = t.ip_batch(ns, "-6", { "route show table all", "rule show" })
  seen.settings = t.sh(sysctls, { host = ns })
  seen.qdiscs = {}
  for _, link in ipairs(seen.links) do
    if link.qdisc == "tbf" or link.qdisc == "htb" then
      local list = t.decode(t.run({ "tc", "-j", "qdisc", "show", "dev", link.ifname }, { host = ns }))
      table.move(list, 1, #list, #seen.qdiscs + 1, seen.qdiscs)
      for _, qdisc in ipairs(list) do qdisc.dev = link.ifname end
    end
  end
  if t.has("bridge-vlan") then seen.vlans = t.bridge(ns, "-compressvlans vlan show") end
  return seen
end

-- What a glance stands for.
local known = {}

local function has(list, word)
  for _, item in ipairs(list or {}) do
    if item == word then return true end
  end
  return false
end

-- Names for what a side may choose freely: veth1, veth2 in the order the links
-- were made, <mac> for MACs the configuration does not name.
local function new_names(literal)
  return { veth = {}, count = 0, mac = {}, literal = literal:lower() }
end

local function learn(names, where, links)
  table.sort(links, function(a, b) return a.ifindex < b.ifindex end)
  for _, link in ipairs(links) do
    local name = link.ifname
    if name:find("^veth%x+$") and not names.veth[name] then
      names.count = names.count + 1
      names.veth[name] = "veth" .. names.count
    end
    names.mac[name .. (where == "host" and "" or " /run/netns/" .. where)] = link.address
  end
end

local function plain(names, text)
  text = text:gsub("veth%x%x%x%x%x%x%x%x", names.veth)
  return (text:gsub("%x%x:%x%x:%x%x:%x%x:%x%x:%x%x", function(mac)
    return (mac == zero_mac or names.literal:find(mac, 1, true)) and mac or "<mac>"
  end))
end

-- Whether the interfaces of a result have the MACs that the kernel has.
local function judge_macs(names, result)
  for _, entry in ipairs(type(result.interfaces) == "table" and result.interfaces or {}) do
    local key = entry.name .. (entry.sandbox and " " .. entry.sandbox or "")
    entry["mac is the kernel's"] = entry.mac == names.mac[key]
    if entry.mac then entry.mac = plain(names, entry.mac) end
    entry.name = plain(names, entry.name)
  end
  return result
end

-- What a kind of link has of its own, by the names of `ip -j -d link`.
local of_kind = {
  bridge = { "vlan_filtering" },
  vlan = { "protocol", "id", "flags", "ingress_qos", "egress_qos" },
  macvlan = { "mode", "flags", "bcqueuelen" },
  ipvlan = { "mode", "bridge", "private", "vepa" },
  vrf = { "table" },
  tun = { "type", "pi", "vnet_hdr", "multi_queue", "persist", "user", "group" },
}
local with_parent = { vlan = true, macvlan = true, ipvlan = true }

-- The link that another stands on: in the same namespace it has a name, in the
-- host an index.
local function parent_of(names, link, host)
  if link.link then return plain(names, link.link) end
  for _, other in ipairs(host or {}) do
    if other.ifindex == link.link_index then return plain(names, other.ifname) .. " of the host" end
  end
  return "-"
end

local function link_facts(names, where, link, into, host)
  local info = link.linkinfo or {}
  local port = info.info_slave_data or {}
  local mac = link.address and plain(names, link.address) or "-"
  local key = ("%s link %s"):format(where, plain(names, link.ifname))
  local function fact(name, value) into[key .. " " .. name] = tostring(value) end
  into[key] = info.info_kind or "-"
  fact("up", has(link.flags, "UP"))
  fact("promisc", has(link.flags, "PROMISC"))
  fact("mtu", link.mtu // 1 | 0)
  fact("txqlen", (link.txqlen or 0) // 1 | 0)
  fact("master", plain(names, link.master or "-"))
  fact("group", link.group)
  fact("mac", mac == "<mac>" and "any" or mac)
  if info.info_slave_kind then
    for _, name in ipairs({ "hairpin", "isolated", "learning" }) do fact(name, port[name]) end
  end
  for _, name in ipairs(of_kind[info.info_kind] or {}) do
    local value = (info.info_data or {})[name]
    if math.type(value) == "float" then value = value // 1 | 0 end
    fact(name, type(value) == "table" and t.json(value) or value)
  end
  if with_parent[info.info_kind] then fact("parent", parent_of(names, link, host)) end
  fact("alias", link.ifalias or "-")
end

local function vlan_facts(names, where, ports, into)
  for _, port in ipairs(ports) do
    for _, entry in ipairs(port.vlans or {}) do
      into[("%s vlan %s %d-%d"):format(where, plain(names, port.ifname), entry.vlan,
        entry.vlanEnd or entry.vlan)] = table.concat(entry.flags or {}, " ")
    end
  end
end

-- Link-local addresses come some time after the carrier.
local function passing(text) return text and text:find("^fe80:") ~= nil end

local function facts_of(names, where, seen, into, host)
  for _, link in ipairs(seen.links) do
    link_facts(names, where, link, into, host)
    for _, a in ipairs(link.addr_info or {}) do
      if passing(a["local"]) then goto next_addr end
      local at = ("%s/%d"):format(a["local"], a.prefixlen)
      into[("%s addr %s %s"):format(where, plain(names, link.ifname), at)] =
        ("broadcast=%s scope=%s label=%s permanent=%s nodad=%s dadfailed=%s"):format(
          a.broadcast or "-", a.scope, plain(names, a.label or "-"),
          tostring(not a.dynamic), tostring(a.nodad or false), tostring(a.dadfailed or false))
      ::next_addr::
    end
  end
  for family, routes in pairs({ inet = seen.route4, inet6 = seen.route6 }) do
    for _, r in ipairs(routes) do
      -- IPv6's own local routes come when duplicate detection is through.
      if family == "inet6" and r.table == "local" or passing(r.dst) then goto next_route end
      local key = ("%s route %s %s %s dev %s via %s metric %d"):format(where,
        r.table or "main", r.dst == "default" and family .. " default" or r.dst,
        r.type or "unicast", plain(names, r.dev or "-"), r.gateway or "-",
        r.metric or 0)
      while into[key] do key = key .. "+" end
      into[key] = ("scope=%s protocol=%s src=%s flags=%s metrics=%s"):format(
        r.scope or "-", r.protocol or "-", r.prefsrc or "-",
        has(r.flags, "onlink") and "onlink" or "", t.json(r.metrics or {}))
      ::next_route::
    end
  end
  for _, list in ipairs({ seen.rule4, seen.rule6 }) do
    for _, rule in ipairs(list) do
      local key = ("%s rule %s"):format(where, t.json(rule))
      while into[key] do key = key .. "+" end
      into[key] = "yes"
    end
  end
  for line in seen.settings:gmatch("[^\n]+") do
    local key, value = line:match("^([^:]+):(.*)$")
    into[("%s sysctl %s"):format(where, plain(names, key))] = value
  end
  for _, qdisc in ipairs(seen.qdiscs) do
    local options = qdisc.options or {}
    into[("%s qdisc %s %s %s"):format(where, plain(names, qdisc.dev), qdisc.kind, qdisc.handle)] =
      ("rate=%s burst=%s lat=%s"):format(options.rate or "-", options.burst or "-", options.lat or "-")
  end
  for _, n in ipairs(seen.neigh) do
    into[("%s neigh %s"):format(where, n.dst)] = plain(names, n.dev .. " " .. (n.lladdr or "-"))
  end
end

local function flatten(value, path, into)
  if type(value) ~= "table" then
    into[path] = math.type(value) == "float" and ("%.14g"):format(value) or tostring(value)
    return
  end
  if next(value) == nil then into[path] = "(empty)" end
  for key, item in pairs(value) do
    flatten(item, type(key) == "number" and ("%s[%d]"):format(path, key - 1)
      or path .. "." .. key, into)
  end
end

-- ---------------------------------------------------------------------------

local World = {}
World.__index = World

--- Make the namespaces: `host`, the pods pa and pb and, for traffic, `far`
-- behind the host's uplink at 192.0.2.2 and 2001:db8::2.
-- That takes a router's advertisements though it forwards: the reference does not care for them.
function M.new(side, case)
  t.wipe()
  local literal = t.conf_bytes(case.conf) .. t.json(case.steps or {}) .. (case.args or "")
  local w = setmetatable({
    side = side, case = case, names = new_names(literal), results = {},
    host = t.host("host", { accepts = { "up0" }, watched = side == "ours", accept_ra = 2,
      lived_in = not case.bare }), pods = { pa = t.netns("pa") },
    leases_only = case.type == "host-local" or case.type == "static",
  }, World)
  if literal:find('"pb"', 1, true) then w.pods.pb = t.netns("pb") end
  if case.traffic then
    w.far = t.netns("far", { lo = "up" })
    t.run("echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad", { host = w.far })
    t.run([[
      ip link add up0 type veth peer name up0 netns far
      echo 0 >/proc/sys/net/ipv6/conf/up0/accept_dad
      ip addr add 192.0.2.1/24 dev up0
      ip -6 addr add 2001:db8::1/64 dev up0 nodad
      ip link set up0 up
      ip -n far addr add 192.0.2.2/24 dev up0
      ip -n far -6 addr add 2001:db8::2/64 dev up0 nodad
      ip -n far link set up0 up
      ip -n far route add default via 192.0.2.1
      ip -n far -6 route add default via 2001:db8::1
]], { host = w.host })
  end
  if case.setup then t.run(case.setup, { host = w.host }) end
  for _, pod in pairs(w.pods) do
    if case.setup_pod then t.run(case.setup_pod, { host = pod }) end
  end
  return w
end

--- Everything there is to see, as facts. IPAM plugins touch no kernel: for them
-- it is looked at once, at the end.
function World:facts(last)
  local into, seen = {}, {}
  if not self.leases_only or last then
    seen.host = t.look_again(known, look, self.host, true)
    for name, ns in pairs(self.pods) do seen[name] = t.look_again(known, look, ns, true) end
  end
  for _, where in ipairs({ "pa", "pb", "host" }) do
    if seen[where] then learn(self.names, where, seen[where].links) end
  end
  for where, part in pairs(seen) do
    facts_of(self.names, where, part, into, seen.host.links)
  end
  if seen.host then vlan_facts(self.names, "host", seen.host.vlans or {}, into) end
  for _, dir in ipairs({ t.lease_dir, "/var/lib/cni/other" }) do
    for name, bytes in pairs(t.files(dir)) do
      into["lease " .. dir:match("[^/]*$") .. "/" .. name] = ("%q"):format(bytes)
    end
  end
  return into
end

local function conf_of(world, step)
  local case = world.case
  local conf = step.conf or (world.side == "reference" and case.reference_conf) or case.conf
  if type(conf) ~= "table" then return conf end
  local full = { cniVersion = "1.0.0", name = "net", type = case.type }
  for key, value in pairs(conf) do full[key] = value ~= false and value or nil end
  -- The runtime's part: prevResult for CHECK and DEL from 0.4.0 on.
  local version = full.cniVersion or "0.1.0"
  local prev = world.results[(step.id or "c1") .. (step.ifname or "eth0")]
  if (step.verb == "CHECK" or step.verb == "DEL") and step.prev ~= false
    and version >= "0.4.0" and prev then
    full.prevResult = prev
  end
  if step.verb == "ADD" then full.prevResult = full.prevResult or case.prev end
  if step.prev then full.prevResult = step.prev end
  return full
end

-- A plugin's configuration as a chain in one process that has it alone.
local function bundled(conf)
  local around, part, asked = { type = "luacni" }, {}, {}
  for _, key in ipairs { "cniVersion", "name", "prevResult", "runtimeConfig" } do around[key] = conf[key] end
  for key, value in pairs(conf) do if around[key] == nil or key == "type" then part[key] = value end end
  for key in pairs(conf.runtimeConfig or {}) do asked[key] = true end
  if next(asked) then part.capabilities, around.capabilities = asked, asked end
  around.plugins = { part }
  return around
end

--- Whether the configuration of a step has a version that has CHECK.
function World:checks(step)
  local conf = conf_of(self, step)
  return type(conf) == "table" and (conf.cniVersion or "0.1.0") >= "0.4.0"
end

--- One plugin call; returns its facts.
function World:call(step)
  local case = self.case
  local pod = step.netns
  if pod == nil then pod = "pa" end
  local conf, is_bundled = conf_of(self, step), self.side == "bundled"
  local got = t.cni({
    verb = step.verb, type = is_bundled and "luacni" or case.type, conf = is_bundled and bundled(conf) or conf,
    bin = self.side == "reference" and "reference" or "ours",
    host = self.host, netns = pod ~= "" and (self.pods[pod] or pod), id = step.id,
    ifname = step.ifname, args = step.args or case.args, path = step.path,
    env = pod == "" and { CNI_NETNS = "" } or step.env,
  })
  local facts = self:facts(step.last)
  facts.status = tostring(got.rc)
  if got.rc == 0 then
    if step.verb == "ADD" and got.json then
      self.results[(step.id or "c1") .. (step.ifname or "eth0")] = got.json
    end
    local text = plain(self.names, got.out)
    -- From 1.0.0 on the older reference prints members in another order.
    if not text:find('"cniVersion": "1', 1, true) then facts.stdout = ("%q"):format(text) end
    flatten(got.json and judge_macs(self.names, t.decode(got.out)) or "nothing", "result",
      facts)
  else
    facts["error code"] = got.json and ("%.14g"):format(got.json.code) or "no error object"
  end
  return facts, got
end

--- All cases, of the lists that have them.
function M.cases()
  local cases = {}
  for _, list in ipairs { "cases", "ipam_cases", "interface_cases", "port_cases" } do
    for _, case in ipairs(require("differential_" .. list)) do cases[#cases + 1] = case end
  end
  return cases
end

-- ---------------------------------------------------------------------------

local standard = { "ADD", "CHECK", "DEL", "DEL" }

local function step_name(number, step)
  return ("%d %s"):format(number, step.verb or step.sh and "sh" or step.tcp and "tcp"
    or step.ping and "ping" or step.dial and "dial")
end

-- Each of a list of { from, kind, address, port }: who answers, and as whom it sees the client.
local function dial(world, step)
  local clients, servers, facts = {}, {}, {}
  local function at(name) return world.pods[name] or world[name] end
  for i, d in ipairs(step.dial) do clients[i] = { at(d[1]), d[2], d[3], d[4] } end
  for _, name in ipairs(step.servers or { "pa" }) do
    for _, kind in ipairs { "TCP4", "TCP6", "UDP4", "UDP6" } do
      servers[#servers + 1] = { at(name), kind, 80, name }
    end
  end
  for i, answer in ipairs(talk(servers, clients)) do
    facts["dial " .. table.concat(step.dial[i], " ")] = answer == "" and "none" or answer
  end
  return facts
end

-- Run one step on one side; returns its facts.
local function take(world, step)
  if step.sh then
    t.run(step.sh, { host = step.at and world.pods[step.at] or world.host })
    return {}
  elseif step.tcp then
    local to = step.to == "far" and world.far or world.pods[step.to]
    return { source = t.tcp_source(world.pods[step.from or "pa"], to, step.tcp) or "none" }
  elseif step.dial then
    return dial(world, step)
  elseif step.ping then
    return { answers = tostring(t.ping(world.pods[step.from or "pa"], step.ping)) }
  elseif step.remove_ns then
    -- The kernel takes the other ends of its links away a little later.
    local function ends()
      local count = 0
      for _, link in ipairs(t.ip(world.host, "link show type veth")) do
        if link.link_netnsid then count = count + 1 end
      end
      return count
    end
    local before = ends()
    t.remove_netns(world.pods[step.remove_ns])
    for _ = 1, 100 do
      if before == 0 or ends() < before then break end
      system.sleep(0.02)
    end
    world.pods[step.remove_ns] = nil
    return {}
  end
  return world:call(step)
end

-- What ADD has accepted, CHECK is content with straight after.
local function check_again(world, step)
  local facts, got = world:call(t.merge(step, { verb = "CHECK" }))
  return facts.status ~= "0" and got.out .. got.err or nil
end

--- Play a case's steps on one side.
-- @treturn {table,...} of each step, the start included: name, facts, said (what came with an error), discontent
-- (what a CHECK straight after the ADD says)
function M.play(side, case)
  local world = M.new(side, case)
  local history = { { name = "0 start", facts = world:facts() } }
  local steps = case.steps or standard
  for number, step in ipairs(steps) do
    if type(step) == "string" then step = { verb = step } end
    step.last = number == #steps or nil
    local facts, got = take(world, step)
    history[#history + 1] = {
      name = step.remove_ns and number .. " namespace gone" or step_name(number, step),
      facts = facts, said = got and got.rc ~= 0 and got.out .. got.err or nil,
      discontent = side ~= "reference" and step.verb == "ADD" and facts.status == "0" and world:checks(step)
        and check_again(world, step) or nil,
    }
  end
  t.cleanup()
  t.wipe()
  return history
end

--- Raise what there is to complain about, and what CHECK was not content with straight after an ADD.
function M.judge(history, complaints)
  for _, entry in ipairs(history) do
    if entry.discontent then
      complaints[#complaints + 1] = entry.name .. ": CHECK straight after: " .. entry.discontent
    end
  end
  if #complaints > 0 then error(table.concat(complaints, "\n"), 0) end
end

--- Differences of two sides as { step, key, reference, ours }.
function M.compare(reference, ours)
  local found = {}
  for i, theirs in ipairs(reference) do
    local mine = ours[i].facts
    local keys = {}
    for key in pairs(theirs.facts) do keys[key] = true end
    for key in pairs(mine) do keys[key] = true end
    for key in pairs(keys) do
      if theirs.facts[key] ~= mine[key] then
        found[#found + 1] = { step = theirs.name, key = key,
          reference = theirs.facts[key] or "(none)", ours = mine[key] or "(none)",
          facts = mine, said = key == "status" and (theirs.said or ours[i].said) or nil }
      end
    end
  end
  table.sort(found, function(a, b)
    if a.step ~= b.step then return a.step < b.step end
    return a.key < b.key
  end)
  return found
end

return M
