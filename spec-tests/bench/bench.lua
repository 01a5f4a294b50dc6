-- SPDX-License-Identifier: MIT
-- What an ADD and a DEL cost: ours, the reference plugins, and the limit (a bare program
-- that makes the same kernel requests), in turns within one run. `make bench` prints the
-- tables. Targets stand beside the figures. It fails when the limit leaves anything else in
-- the kernel than ours does, since then it is none.
--
--   BENCH_N=30      rounds of a case (fewer where the reference takes seconds)
--   BENCH_CASES=    comma list; a case runs if its name begins with one of them:
--                   bridge-0-1 bridge-60000-1 masq-0-1 masq-60000-1 lease-0-1
--                   lease-60000-1 bridge-0-50 bridge-60000-50 masq-0-50 masq-60000-50
--                   vlan-0-1 macvlan-0-1 ipvlan-0-1 dummy-0-1 ptp-0-1 tap-0-1
--                   host-device-0-1 vrf-0-1 first-0-1 unused-0-1 collect
--
-- What this kernel cannot do is left out, and what `make bench KERNEL=second` measures; its
-- list is what BENCH_CASES=missing prints. BENCH_CASES=rows prints what the rows of the tables are called.

local cjson = require "cjson"

local BUILD = os.getenv("BUILD") or "build"
local REFERENCE = os.getenv("REFERENCE") or "/usr/lib/cni"
local ROUNDS = tonumber(os.getenv("BENCH_N")) or 30
local WANTED = os.getenv("BENCH_CASES") or ""
local CALLS, FULL, COLLECTED = 50, 60000, 1000
local TARGETS = {
  add_limit = 1.6, bridge = 10, masq = 20, del = 8, memory = 4, size = 3, growth = 1.2, last = 1.3, collect = 4,
  other = { wall = 8, cpu = 10 },
}

-- What is measured: the plugin's type, what the limit program is told, and for the types
-- beside bridge a part of the configuration, the link that is there before, and a line
-- for a scratch namespace that fails where the kernel cannot do it. `empty`: the node has no other
-- attachment, nor the bridge before ADD; in this subnet, and with `more` in the configuration. (The limit
-- leaves the bridge, whatever that says.)
local KINDS = {
  { name = "bridge", type = "bridge", title = "bridge" },
  { name = "masq", type = "bridge", title = "bridge ipMasq", limit = "-m ",
    probe = "nft add table inet t && nft 'add chain inet t c { type nat hook postrouting "
      .. "priority 100; }'" },
  { name = "lease", type = "host-local", title = "host-local alone", limit = "-l " },
  { name = "first", type = "bridge", empty = "10.4", more = "",
    title = { ADD = "bridge, first of an empty node", DEL = "bridge, the last attachment" } },
  { name = "unused", type = "bridge", empty = "10.5", more = [["removeUnused":true,]],
    title = { ADD = "bridge removeUnused, first", DEL = "bridge removeUnused, the last" } },
  { name = "vlan", conf = [["master":"up0","vlanId":100,]], link = "up0",
    probe = "ip link add link up0 x0 type vlan id 5" },
  { name = "macvlan", conf = [["master":"up0",]], link = "up0",
    probe = "ip link add link up0 x0 type macvlan" },
  { name = "ipvlan", conf = [["master":"up0",]], link = "up0",
    probe = "ip link add link up0 x0 type ipvlan" },
  { name = "dummy", conf = "", link = "-", probe = "ip link add x0 type dummy" },
  { name = "ptp", conf = "", link = "-" },
  { name = "tap", conf = "", link = "-", probe = "ip tuntap add x0 mode tap" },
  { name = "host-device", conf = [["device":"dev0",]], link = "dev0" },
  { name = "vrf", conf = [["vrfname":"red","table":10,]], link = "red", chained = true,
    probe = "ip link add x0 type vrf table 5" },
}

local function sh(...)
  local command = string.format(...)
  if not os.execute(command) then error("failed: " .. command, 0) end
end

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

--- Cases ------------------------------------------------------------------------------

local SUBNETS = { [0] = "10.1", [FULL] = "10.2" }

local function can(kind)
  return not kind.probe or os.execute("unshare -n sh -c 'ip link add up0 type veth; "
    .. kind.probe:gsub("'", "'\\''") .. "' >/dev/null 2>&1") == true
end

local function is_wanted(name)
  for part in WANTED:gmatch("[^,]+") do
    if name:sub(1, #part) == part then return true end
  end
  return WANTED == ""
end

local function missing()
  local list = {}
  for _, kind in ipairs(KINDS) do
    if not can(kind) then list[#list + 1] = kind.name .. "-" end
  end
  return table.concat(list, ",")
end

--- Those that are wanted and that this kernel can do; or all.
local function cases(all)
  local list = {}
  for _, calls in ipairs { 1, CALLS } do
    for _, kind in ipairs(KINDS) do
      for _, leases in ipairs((kind.conf or kind.empty) and { 0 } or { 0, FULL }) do
        local name = string.format("%s-%d-%d", kind.name, leases, calls)
        local alone = kind.conf or kind.empty or kind.name == "lease"
        if not (alone and calls > 1) and (all or is_wanted(name) and can(kind)) then
          list[#list + 1] = { name = name, kind = kind, leases = leases, calls = calls }
        end
      end
    end
  end
  return list
end

local function title(verb, case)
  local words = case.kind.title or case.kind.name
  return string.format("%s %s%s%s", verb, type(words) == "table" and words[verb] or words,
    case.leases > 0 and ", " .. case.leases .. " leases" or "",
    case.calls > 1 and ", " .. case.calls .. " at once" or "")
end

--- Contestants: how to start each for a case ------------------------------------------

local function plugin_dir(dir)
  return function(case)
    return dir .. "/" .. (case.kind.type or case.kind.name)
  end
end

-- What comes behind a contestant's name in the network's, its bridge, and the network's subnet.
local function network(case)
  local kind = case.kind
  if kind.conf then return "other", nil, "10.3" end
  if kind.empty then return kind.name, "br-" .. kind.name, kind.empty end
  return tostring(case.leases), "br" .. case.leases, SUBNETS[case.leases]
end

local function limit(case)
  local kind = case.kind
  local name, bridge, subnet = network(case)
  if kind.conf then
    return string.format("%s/bench/limit -k %s limit-other %s 10.3.0.1/16", BUILD, kind.name,
      kind.link)
  end
  return string.format("%s/bench/limit %slimit-%s %s %s.0.1/16", BUILD, kind.limit or "", name, bridge,
    subnet)
end

local function contestants()
  local list = { { name = "limit", command = limit, path = REFERENCE } }
  local ours = io.open(BUILD .. "/cni-bin/bridge")
  if ours then
    ours:close()
    local dir = output("realpath " .. BUILD .. "/cni-bin")
    list[#list + 1] = { name = "ours", command = plugin_dir(dir), path = dir }
  end
  list[#list + 1] =
    { name = "reference", command = plugin_dir(REFERENCE), path = REFERENCE, slow = true }
  return list
end

--- A slow contestant gets fewer turns where its calls take longest. 50 calls that search
--- 60000 leases each take it half a minute, masquerading or not: once is enough.
local function rounds(who, case)
  if not io.open((who.command(case):match("^%S+"))) then return -1 end
  local few = math.max(3, ROUNDS // 6)
  if who.slow and case.leases > 0 then
    if case.calls > 1 then return case.kind.name == "masq" and 0 or 1 end
    return math.min(few, ROUNDS)
  end
  return math.min(case.calls > 1 and few or ROUNDS, ROUNDS)
end

--- The world: private mounts, a node for each contestant, pods -------

local function config_path(who, case)
  return string.format("/run/bench/%s-%s-%d.json", who.name, case.kind.name, case.leases)
end

local IPAM = [=["ipam":{"type":"host-local","ranges":[[{"subnet":"%s.0.0/16"}]]%s}]=]
local CHAIN = [=["prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"net0",]=]
  .. [=["sandbox":"/run/netns/pod1"}],"ips":[{"address":"10.9.0.2/24","interface":0}]}]=]

local function config(who, case)
  local kind = case.kind
  if kind.conf then
    return string.format([=[{"cniVersion":"1.0.0","name":"%s-other","type":"%s",%s%s}]=],
      who.name, kind.name, kind.conf,
      kind.chained and CHAIN or IPAM:format("10.3", [=[,"routes":[{"dst":"0.0.0.0/0"}]]=]))
  end
  local name, bridge, subnet = network(case)
  return string.format([=[{"cniVersion":"1.0.0","name":"%s-%s","type":"bridge",]=]
    .. [=["bridge":"%s","isDefaultGateway":true,"ipMasq":%s,%s%s}]=],
    who.name, name, bridge, kind.name == "masq", kind.more or "", IPAM:format(subnet, ""))
end

local function write_config(who, case)
  local file = assert(io.open(config_path(who, case), "w"))
  file:write(config(who, case))
  file:close()
end

local function build_world(who_all, list)
  for _, dir in ipairs { "/run", "/var/lib/cni" } do
    sh("mkdir -p %s && mount -t tmpfs tmpfs %s", dir, dir)
  end
  sh("mkdir -p /run/bench && ip link set lo up")
  for _, who in ipairs(who_all) do
    sh("ip netns add node-%s && ip -n node-%s link set lo up", who.name, who.name)
    for _, case in ipairs(list) do
      sh("mkdir -p /var/lib/cni/networks/%s-%s", who.name, (network(case)))
    end
    for _, pair in ipairs { "up", "dev" } do
      sh("ip -n node-%s link add %s0 up type veth peer name %s1", who.name, pair, pair)
      sh("ip -n node-%s link set %s1 up", who.name, pair)
    end
    for _, case in ipairs(list) do write_config(who, case) end
  end
  for number = 1, CALLS do sh("ip netns add pod%d", number) end
  sh("ip -n pod1 link add net0 type veth peer name net1; ip -n pod1 addr add 10.9.0.2/24 dev net0")
  sh("ip -n pod1 link set net0 up; ip -n pod1 link set net1 up")
end

--- The limit does what ours does -------------------------------------------------------

-- What comes by itself or is random: each contestant has another.
local PASSING = {
  ifindex = true, link_index = true, link_netnsid = true, address = true, operstate = true,
  permaddr = true, bridge_id = true, root_id = true,
}
local FLAGS = { ["NO-CARRIER"] = true, LOWER_UP = true, linkdown = true }

-- Everything in a list or table that `ip -j` gives, a line each, into `lines`.
local function flatten(value, path, lines)
  if type(value) ~= "table" then
    lines[path .. "=" .. tostring(value)] = true
  elseif value.family ~= "inet6" then
    for key, item in pairs(value) do
      local name = type(item) == "table" and (item.ifname or item.dst or item["local"])
        or type(key) == "string" and key or ""
      local passing = PASSING[key] or FLAGS[item] or type(key) == "string"
        and key:find("timer") ~= nil
      if not passing then flatten(item, path .. "." .. name, lines) end
    end
  end
  return lines
end

-- What is set in a namespace: links, IPv4 addresses and routes, sysctls.
local function picture(ns)
  local lines = {}
  for _, what in ipairs { "-d addr", "-4 route show table all", "rule" } do
    local text = output(("ip -n %s -j %s"):format(ns, what)):gsub("veth%x%x%x%x%x%x%x%x", "veth")
    flatten(cjson.decode(text == "" and "[]" or text), what, lines)
  end
  local sysctls = output(("nsenter --net=/run/netns/%s grep -rsH . /proc/sys/net/ipv4/conf "
    .. "/proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward"):format(ns))
  for line in sysctls:gmatch("[^\n]+") do
    lines[line:gsub("^/proc/sys/net/", ""):gsub("veth%x+", "veth")] = true
  end
  return lines
end

local function call_once(who, case, verb)
  sh("nsenter --net=/run/netns/node-%s env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CNI_COMMAND=%s "
    .. "CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/pod1 CNI_IFNAME=%s CNI_PATH=%s %s <%s >/run/bench/said"
    .. " || { cat /run/bench/said; exit 1; }", who.name, verb,
    case.kind.chained and "net0" or "eth0", who.path, who.command(case), config_path(who, case))
end

-- What it has done by the end of an ADD: namespace and line -> true.
local function effect(who, case)
  local lines = {}
  call_once(who, case, "ADD")
  for _, ns in ipairs { "node-" .. who.name, "pod1" } do
    for line in pairs(picture(ns)) do lines[ns:gsub("-.*", "") .. ": " .. line] = true end
  end
  call_once(who, case, "DEL")
  local _, bridge = network(case)
  if bridge then os.execute(("ip -n node-%s link del %s 2>/dev/null"):format(who.name, bridge)) end
  return lines
end

local function compare(limit_program, ours, case)
  local mine, theirs, found = effect(ours, case), effect(limit_program, case), {}
  for line in pairs(mine) do
    if not theirs[line] then found[#found + 1] = "  ours alone   " .. line end
  end
  for line in pairs(theirs) do
    if not mine[line] then found[#found + 1] = "  limit alone  " .. line end
  end
  table.sort(found)
  if #found > 0 then
    error(("the limit is not that of %s:\n%s"):format(case.name, table.concat(found, "\n")), 0)
  end
end

--- The plan: see measure.c ------------------------------------------------------------

local function plan_writer()
  local lines = {}
  local plan = { lines = lines }
  function plan.line(...) lines[#lines + 1] = string.format(...) end
  function plan.call(how, who, case, verb, first)
    plan.line("node /run/netns/node-%s", who.name)
    plan.line("set CNI_PATH %s", who.path)
    plan.line("set CNI_COMMAND %s", verb)
    plan.line("set CNI_IFNAME %s", case.kind.chained and "net0" or "eth0")
    plan.line("config %s", config_path(who, case))
    plan.line("%s %s:%s:%s %d %d %s", how, who.name, verb, case.name or "resident", first,
      case.calls or 1, who.command(case))
  end
  return plan
end

--- One attachment stays on each network, as on any node in use.
local function plan_residents(plan, who_all, wanted)
  local number = CALLS
  for _, who in ipairs(who_all) do
    for leases, prefix in pairs(SUBNETS) do
      if wanted[leases] then
        number = number + 1
        sh("ip netns add pod%d", number)
        local case = { kind = wanted[leases], leases = leases }
        write_config(who, case)
        plan.call("run", who, case, "ADD", number)
        if leases > 0 then
          plan.line("fill /var/lib/cni/networks/%s-%d %s 3 %d", who.name, leases, prefix,
            leases)
        end
      end
    end
  end
end

local function plan_case(plan, who_all, case)
  plan.line("settle %d", case.calls > 1 and 200 or 20)
  -- The round before the first warms up and counts; it enters no median.
  for round = case.calls > 1 and 1 or 0, ROUNDS do
    for turn = 1, #who_all do
      local who = who_all[(turn + round) % #who_all + 1]
      if round <= rounds(who, case) then
        if case.kind.empty then
          plan.line("node /run/netns/node-%s", who.name)
          plan.line("do ip link del %s", select(2, network(case)))
        end
        local how = (round == 0 or case.calls > 1) and "count" or "run"
        plan.call(how, who, case, "ADD", 1)
        plan.call(how, who, case, "DEL", 1)
      end
    end
  end
end

-- A GC that finds COLLECTED attachments, none of them valid any more; and what the kernel alone takes to delete
-- as many pairs, on a bridge too and in as many namespaces, by one request.
local function plan_collection(plan, ours)
  local file, links = "/run/bench/collect.json", assert(io.open("/run/bench/links", "w"))
  local conf = [=[{"cniVersion":"1.1.0","name":"collect","type":"bridge","bridge":"br0","isGateway":true,]=]
    .. [=["ipMasq":true,"cni.dev/valid-attachments":[],]=] .. IPAM:format("10.6", "") .. "}"
  local at = assert(io.open(file, "w"))
  at:write(conf)
  at:close()
  links:write("link add br0 up type bridge\n")
  for number = 1, COLLECTED do
    sh("ip netns add pod%d", 1000 + number)
    links:write(("link add v%d master br0 group 7 up type veth peer name eth7 netns pod%d\n")
      :format(number, 1000 + number))
  end
  links:close()
  for _, node in ipairs { "collect", "bare" } do
    sh("ip netns add node-%s && ip -n node-%s link set lo up", node, node)
  end
  plan.line("node /run/netns/node-bare")
  plan.line("do ip -batch /run/bench/links")
  plan.line("settle 500")
  plan.line("run limit:GC:collect 1 1 %s link del group 7", output("command -v ip"))
  plan.line("node /run/netns/node-collect")
  plan.line("set CNI_PATH %s", ours.path)
  plan.line("set CNI_IFNAME eth0")
  plan.line("config %s", file)
  plan.line("set CNI_COMMAND ADD")
  for first = 1001, 1000 + COLLECTED, CALLS do
    plan.line("run ours:ADD:collect %d %d %s/bridge", first, CALLS, ours.path)
  end
  plan.line("settle 500")
  plan.line("set CNI_COMMAND GC")
  plan.line("run ours:GC:collect 1 1 %s/bridge", ours.path)
end

local function run_plan(plan)
  local file = assert(io.open("/run/bench/plan", "w"))
  file:write(table.concat(plan.lines, "\n"), "\n")
  file:close()
  sh("%s/bench/measure < /run/bench/plan > /run/bench/raw", BUILD)
end

--- Figures ----------------------------------------------------------------------------

local function quantile(values, part)
  if not values or #values == 0 then return nil end
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  return sorted[math.max(1, math.ceil(part * #sorted))]
end

--- label -> { wall, each, cpu, settled = lists in ms; rss = MiB; processes = number }
local function read_raw()
  local figures = {}
  local function entry(label)
    figures[label] = figures[label]
      or { wall = {}, each = {}, cpu = {}, settled = {}, rss = 0, seen = {} }
    return figures[label]
  end
  local pending = {}
  for line in io.lines("/run/bench/raw") do
    local words = {}
    for word in line:gmatch("%S+") do words[#words + 1] = tonumber(word) or word end
    local f = entry(words[2])
    if words[1] == "one" then
      pending[#pending + 1] = words[3] / 1000
      f.rss = math.max(f.rss, words[4] / 1024)
    else
      local calls = words[3]
      if words[7] >= 0 then f.processes = words[7] / calls end
      if words[7] < 0 or calls > 1 then
        f.wall[#f.wall + 1] = calls > 1 and words[4] / 1000 or pending[1]
        f.cpu[#f.cpu + 1] = words[5] / 1000 / calls
        f.settled[#f.settled + 1] = words[6] / 1000
        table.move(pending, 1, #pending, #f.each + 1, f.each)
      end
      pending = {}
    end
  end
  return figures
end

--- Tables -----------------------------------------------------------------------------

local ROW = "  %-44s %15s %15s %17s  %-14s %s"

local function rows(list)
  local all = {}
  for _, case in ipairs(list) do
    for _, verb in ipairs { "ADD", "DEL" } do
      all[#all + 1] = { verb = verb, case = case }
    end
  end
  return all
end

local function ratio(a, b, target, sign)
  if not a or not b or b == 0 then return "-" end
  local text = string.format("%.2f", a / b)
  return target and string.format("%s (%s %g)", text, sign, target) or text
end

local function target_of(row, what)
  if row.case.kind.conf then return TARGETS.other[what or "wall"] end
  if row.verb == "DEL" then return not what and TARGETS.del or nil end
  return TARGETS[row.case.kind.name]
end

--- metric(figure) -> number, text; targets: which of the two ratios carry one
local function print_table(heading, list, figures, metric, targets)
  print()
  print(heading)
  print(string.format(ROW, "", "limit", "ours", "reference", "ours/limit",
    "reference/ours"))
  for _, row in ipairs(rows(list)) do
    local number, text = {}, {}
    for _, who in ipairs { "limit", "ours", "reference" } do
      local figure = figures[string.format("%s:%s:%s", who, row.verb, row.case.name)]
      if figure then number[who], text[who] = metric(figure) end
    end
    local limit_target = targets.limit and row.verb == "ADD" and row.case.kind.name ~= "lease"
      and TARGETS.add_limit or nil
    local reference_target = targets.reference and targets.reference(row) or nil
    print(string.format(ROW, title(row.verb, row.case),
      text.limit or "-", text.ours or "-", text.reference or "-",
      ratio(number.ours, number.limit, limit_target, "<="),
      ratio(number.reference, number.ours, reference_target, ">=")))
  end
end

local function milliseconds(value)
  return string.format(value < 1000 and "%.2f" or "%.0f", value)
end

local function timed(list_name)
  return function(figure)
    local median = quantile(figure[list_name], 0.5)
    if not median then return nil, "-" end
    local high = quantile(figure[list_name], 0.95)
    return median, milliseconds(median) .. " (" .. milliseconds(high) .. ")"
  end
end

local function print_all(list, figures)
  local alone, crowd = {}, {}
  for _, case in ipairs(list) do
    table.insert(case.calls > 1 and crowd or alone, case)
  end
  local both = { limit = true, reference = target_of }
  if #alone > 0 then
    print_table("Wall time of a call alone, ms: median (p95)", alone, figures,
      timed("wall"), both)
  end
  if #crowd > 0 then
    print_table(CALLS .. " calls at once: until the last has answered, ms: median (p95)",
      crowd, figures, timed("wall"), both)
    print_table(CALLS .. " calls at once: wall time of each, ms: median (p95)", crowd,
      figures, timed("each"), {})
  end
  print_table("CPU time of all processes of a call, user and system, ms: median (p95)",
    list, figures, timed("cpu"), {
      reference = function(row) return target_of(row, "cpu") end,
    })
  print_table("Until the last process of the call or calls is gone, ms: median (p95)",
    list, figures, timed("settled"), {})
  print_table("Peak memory of a process, MiB; ours: <= " .. TARGETS.memory, list, figures,
    function(figure) return figure.rss, string.format("%.1f", figure.rss) end, {})
  print_table("Processes a call starts, itself included", list, figures, function(figure)
    if not figure.processes then return nil, "-" end
    return figure.processes, string.format("%.3g", figure.processes)
  end, {})
end

local function print_lease_cost(figures)
  if not figures[string.format("ours:ADD:bridge-%d-1", FULL)] then return end
  print()
  print(string.format("An ADD of ours at %d leases divided by one at none; <= %g", FULL,
    TARGETS.growth))
  for _, kind in ipairs { "bridge", "masq", "lease" } do
    local full = figures[string.format("ours:ADD:%s-%d-1", kind, FULL)]
    local none = figures[string.format("ours:ADD:%s-0-1", kind)]
    print(string.format("  %-18s wall %s  CPU %s", kind,
      ratio(full and quantile(full.wall, 0.5), none and quantile(none.wall, 0.5)),
      ratio(full and quantile(full.cpu, 0.5), none and quantile(none.cpu, 0.5))))
  end
end

local function print_last_cost(figures)
  local function median(who, case)
    local figure = figures[("%s:DEL:%s-0-1"):format(who, case)]
    return figure and quantile(figure.wall, 0.5)
  end
  if not (median("ours", "bridge") and median("ours", "unused")) then return end
  print()
  print("The DEL of the last attachment to a bridge divided by one of any other, wall; ours: <= " .. TARGETS.last)
  for _, kind in ipairs { "first", "unused" } do
    print(string.format("  %-18s ours %s  reference %s", kind == "first" and "bridge" or "removeUnused",
      ratio(median("ours", kind), median("ours", "bridge")),
      ratio(median("reference", kind), median("reference", "bridge"))))
  end
end

local function print_collection(figures)
  local ours, bare = figures["ours:GC:collect"], figures["limit:GC:collect"]
  if not ours then return end
  print()
  print(("A GC of %d attachments, wall: ours %.2f s (<= %g); one request that deletes as many pairs %.2f s")
    :format(COLLECTED, ours.wall[1] / 1000, TARGETS.collect, bare.wall[1] / 1000))
end

local function print_sizes()
  print()
  print(string.format("Size of the program, stripped, MB (ours: <= %g)", TARGETS.size))
  for _, path in ipairs { BUILD .. "/luacni", BUILD .. "/bench/limit",
    REFERENCE .. "/bridge", REFERENCE .. "/host-local" } do
    if os.execute("strip -o /run/bench/stripped " .. path .. " 2>/dev/null") then
      local file = assert(io.open("/run/bench/stripped"))
      print(string.format("  %-44s %.2f", path, file:seek("end") / 1e6))
      file:close()
    end
  end
end

local function main()
  local list, who_all = cases(), contestants()
  local wanted = {}
  -- The attachment that stays masquerades, where the kernel can.
  local resident = can(KINDS[2]) and KINDS[2] or KINDS[1]
  for _, case in ipairs(list) do
    if not case.kind.conf and not case.kind.empty then wanted[case.leases] = resident end
  end
  build_world(who_all, list)
  for _, case in ipairs(list) do
    if case.calls == 1 and case.leases == 0 and #who_all == 3 then
      compare(who_all[1], who_all[2], case)
    end
  end
  local plan = plan_writer()
  plan_residents(plan, who_all, wanted)
  for _, case in ipairs(list) do plan_case(plan, who_all, case) end
  if is_wanted "collect" and who_all[2].name == "ours" then plan_collection(plan, who_all[2]) end
  local began = os.time()
  run_plan(plan)
  local figures = read_raw()
  print(string.format("%s, %s processors, kernel %s; %d rounds in turns, %d s",
    os.date("%Y-%m-%d %H:%M"), output("nproc"), output("uname -r"), ROUNDS,
    os.time() - began))
  print_all(list, figures)
  print_lease_cost(figures)
  print_last_cost(figures)
  print_collection(figures)
  print_sizes()
end

-- All happens in namespaces of its own, processes too: what is left dies with them.
if WANTED == "missing" then
  print(missing())
elseif WANTED == "rows" then
  for _, row in ipairs(rows(cases(true))) do print(title(row.verb, row.case)) end
elseif os.getenv("BENCH_INSIDE") then
  main()
else
  local ok = os.execute("BENCH_INSIDE=1 exec unshare --mount --net --pid --fork"
    .. " --kill-child --mount-proc " .. arg[-1] .. " " .. arg[0])
  os.exit(ok and 0 or 1)
end
