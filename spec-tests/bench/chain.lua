-- SPDX-License-Identifier: MIT
-- What a node's usual chain costs, each plugin a process as runtimes have it: bridge that masquerades, portmap of
-- two ports, firewall, bandwidth, tuning; ours and the reference plugins in turns. Then ours on a node with 5,000
-- attachments, and portmap of many ports. `make bench` prints it.
--
--   CHAIN_N=20      rounds in turns

local cjson = require "cjson"

package.path = arg[0]:match("^(.-)[^/]*$") .. "?.lua;" .. package.path
local fill = require "fill"
local sh, output, write = fill.sh, fill.output, fill.write

local BUILD = os.getenv("BUILD") or "build"
local REFERENCE = os.getenv("REFERENCE") or "/usr/lib/cni"
local ROUNDS = tonumber(os.getenv("CHAIN_N")) or 20
local FULL, MAPPINGS, PORTS_OF_A_BRIDGE = 5000, 5000, 1000
local TARGETS = { chain = 7, bundle = 18, full = 1.2, many = 1.5, offset = 20 }
local RATE <const> = 100000000
local CALLED <const> = 300

local function text_of(conf) return cjson.encode(conf):sub(2, -2) end

--- Configurations -----------------------------------------------------------------------------

local function plugins_of(number)
  local mappings = { { hostPort = number, containerPort = 80, protocol = "tcp" },
    { hostPort = number, containerPort = 53, protocol = "udp" } }
  return {
    { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true,
      ipam = { type = "static", addresses = { { address = fill.address(number) .. "/16", gateway = "10.8.0.1" } } } },
    { type = "portmap", capabilities = { portMappings = true }, runtimeConfig = { portMappings = mappings } },
    { type = "firewall" },
    { type = "bandwidth", ingressRate = RATE, ingressBurst = RATE, egressRate = RATE, egressBurst = RATE },
    { type = "tuning", sysctl = { ["net.core.somaxconn"] = "500" }, mtu = 1400 },
  }
end

local function chain(node, number)
  local list, lines = plugins_of(number), {}
  for i, conf in ipairs(list) do
    conf.cniVersion, conf.name = "1.0.0", node
    lines[i] = conf.type .. " " .. text_of(conf)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- The same in one process.
local function bundle(node, number)
  local list = plugins_of(number)
  local given = list[2].runtimeConfig
  list[2].runtimeConfig = nil
  return "luacni " .. text_of { cniVersion = "1.0.0", name = node, type = "luacni",
    capabilities = list[2].capabilities, runtimeConfig = given, plugins = list } .. "\n"
end

local function portmap(node, mappings)
  return cjson.encode { cniVersion = "1.0.0", name = node, type = "portmap",
    runtimeConfig = { portMappings = mappings }, prevResult = { cniVersion = "1.0.0",
      interfaces = { { name = "eth0", sandbox = "/run/netns/pod" .. CALLED } },
      ips = { { address = fill.address(CALLED) .. "/16", interface = 0 } } } }
end

local function ports(count, offset)
  local list = {}
  for i = 1, count do
    list[i] = { hostPort = 50000 + 2 * i, containerPort = 50000 + 2 * i + offset, protocol = "tcp" }
  end
  return list
end

local function range(count)
  return { { hostPort = 50000, containerPort = 60000, protocol = "tcp", range = count } }
end

--- Nodes --------------------------------------------------------------------------------------

local function new_node(name)
  sh("ip netns add %s && ip -n %s link set lo up", name, name)
  sh("ip netns add %s-%d", name, fill.sample)
  return name
end

-- Links of attachments, on as many bridges as they need.
local function add_links(node, count)
  local lines = {}
  sh("ip netns add %s-pods", node)
  for number = 1, count do
    local bridge = "full" .. number // PORTS_OF_A_BRIDGE
    if number == 1 or number % PORTS_OF_A_BRIDGE == 0 then
      lines[#lines + 1] = ("link add %s up type bridge"):format(bridge)
    end
    lines[#lines + 1] = ("link add v%d master %s up type veth peer name p%d netns %s-pods"):format(number, bridge,
      number, node)
  end
  write("/run/links", table.concat(lines, "\n") .. "\n")
  sh("ip -n %s -batch /run/links", node)
end

local function our_node(name, dir, attachments, links)
  local node = new_node(name)
  fill.call(dir, node, fill.sample, fill.chain(fill.sample, true))
  if attachments > 1 then fill.fill(node, 1000, 1000 + attachments - 2) end
  if links then add_links(node, attachments) end
  return node
end

--- Calls --------------------------------------------------------------------------------------

local function plan_writer(dirs)
  local plan = { lines = {} }
  function plan.line(...) plan.lines[#plan.lines + 1] = string.format(...) end
  function plan.node(who, node)
    plan.line("node /run/netns/%s", node)
    plan.line("set CNI_PATH %s", dirs[who])
    plan.line("set CNI_IFNAME eth0")
  end
  function plan.chain(how, who, node, number, verb)
    plan.node(who, node)
    plan.line("chain /run/%s-%d", node, number)
    plan.line("set CNI_COMMAND %s", verb)
    plan.line("%s %s:%s %d 1 %s", how, node, verb, number, dirs[who])
  end
  function plan.portmap(how, node, what)
    plan.node("ours", node)
    plan.line("config /run/%s-%s", node, what)
    for _, verb in ipairs { "ADD", "DEL" } do
      plan.line("set CNI_COMMAND %s", verb)
      plan.line("%s %s:%s:%s %d 1 %s/portmap", how, node, what, verb, CALLED, dirs.ours)
    end
  end
  return plan
end

-- label -> { wall, cpu: lists, ms; processes }
local function read_raw()
  local figures = {}
  for line in io.lines("/run/raw") do
    local label, wall, cpu, processes = line:match("^all (%S+) %d+ (%d+) (%d+) %d+ (-?%d+)")
    if label then
      local f = figures[label] or { wall = {}, cpu = {}, processes = 0 }
      figures[label] = f
      if tonumber(processes) >= 0 then
        f.processes = processes
      else
        f.wall[#f.wall + 1], f.cpu[#f.cpu + 1] = wall / 1000, cpu / 1000
      end
    end
  end
  for _, f in pairs(figures) do
    for _, key in ipairs { "wall", "cpu" } do
      table.sort(f[key])
      f[key] = f[key][(#f[key] + 1) // 2]
    end
  end
  return figures
end

local function print_all(f)
  print()
  print("bridge, portmap, firewall, bandwidth, tuning, a process each; ms, median of " .. ROUNDS)
  print(("  %-12s %10s %12s   %s"):format("", "ours", "reference", "reference/ours"))
  for _, verb in ipairs { "ADD", "DEL" } do
    local ours, theirs = f["ours:" .. verb], f["reference:" .. verb]
    for _, key in ipairs { "wall", "cpu" } do
      print(("  %-12s %10.2f %12s   %s"):format(verb .. " " .. key, ours[key], theirs and ("%.2f"):format(theirs[key])
        or "-", theirs and ("%.2f (>= %g)"):format(theirs[key] / ours[key], TARGETS.chain) or "-"))
    end
    print(("  %-12s %10d %12s"):format("processes", ours.processes, theirs and theirs.processes or "-"))
  end
  for _, verb in ipairs { "ADD", "DEL" } do
    local one, theirs = f["bundle:" .. verb], f["reference:" .. verb]
    print(("  in one process, %s: wall %.2f, CPU %.2f%s"):format(verb, one.wall, one.cpu, theirs
      and ("; reference/ours %.2f%s, %.2f"):format(theirs.wall / one.wall,
        verb == "ADD" and (" (>= %g)"):format(TARGETS.bundle) or "", theirs.cpu / one.cpu) or ""))
  end
  local function compare(what, many, one, target)
    print(("%s: wall %.2f against %.2f ms, %.2f; CPU %.2f; <= %g"):format(what, many.wall, one.wall,
      many.wall / one.wall, many.cpu / one.cpu, target))
  end
  print()
  compare(("The chain's ADD on a node with %d attachments, and on one with none"):format(FULL), f["full:ADD"],
    f["empty:ADD"], TARGETS.full)
  compare(("portmap of 206 ports beside %d mappings, and beside none"):format(MAPPINGS), f["ports:many:ADD"],
    f["empty:many:ADD"], TARGETS.many)
  for _, what in ipairs { "range", "offset" } do
    local words = what == "range" and "a range of 1000 ports" or "1000 mappings, no two side by side,"
    print(("portmap of %s with an offset: ADD %.2f ms (<= %d), DEL %.2f"):format(words,
      f[("ports:%s:ADD"):format(what)].wall, TARGETS.offset, f[("ports:%s:DEL"):format(what)].wall))
  end
end

local function main()
  sh("mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib/cni && mkdir -p /run/netns && ip link set lo up")
  local dirs = { ours = output("realpath %s/cni-bin", BUILD), reference = REFERENCE }
  local chains = { { "ours", new_node "ours" }, { "ours", new_node "bundle" } }
  if os.execute("test -x " .. REFERENCE .. "/portmap") then
    chains[3] = { "reference", new_node "reference" }
  end
  chains[#chains + 1] = { "ours", our_node("empty", dirs.ours, 1) }
  chains[#chains + 1] = { "ours", our_node("full", dirs.ours, FULL, true) }
  our_node("ports", dirs.ours, MAPPINGS // fill.ports)
  sh("ip netns add pod%d", CALLED)
  local plan = plan_writer(dirs)
  plan.line("settle 30")
  -- One attachment stays, as on any node in use.
  for i, entry in ipairs(chains) do
    sh("ip netns add pod%d", CALLED + i)
    for _, number in ipairs { CALLED + i, CALLED } do
      local form = entry[2] == "bundle" and bundle or chain
      write(("/run/%s-%d"):format(entry[2], number), form(entry[2], number))
    end
    plan.chain("run", entry[1], entry[2], CALLED + i, "ADD")
  end
  for _, node in ipairs { "empty", "ports" } do
    write(("/run/%s-many"):format(node), portmap(node, ports(206, 0)))
    write(("/run/%s-offset"):format(node), portmap(node, ports(1000, 1)))
    write(("/run/%s-range"):format(node), portmap(node, range(1000)))
  end
  for round = 0, ROUNDS do
    local how = round == 0 and "count" or "run"
    for _, entry in ipairs(chains) do
      for _, verb in ipairs { "ADD", "DEL" } do plan.chain(how, entry[1], entry[2], CALLED, verb) end
    end
    plan.portmap(how, "empty", "many")
    plan.portmap(how, "ports", "many")
    plan.portmap(how, "ports", "offset")
    plan.portmap(how, "ports", "range")
  end
  write("/run/plan", table.concat(plan.lines, "\n") .. "\n")
  sh("%s/bench/measure </run/plan >/run/raw", BUILD)
  print_all(read_raw())
end

-- All happens in namespaces of its own, processes too: what is left dies with them.
if os.getenv("CHAIN_INSIDE") then
  main()
else
  local ok = os.execute("CHAIN_INSIDE=1 exec unshare --mount --net --pid --fork --kill-child --mount-proc "
    .. arg[-1] .. " " .. arg[0])
  os.exit(ok and 0 or 1)
end
