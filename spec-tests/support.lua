-- SPDX-License-Identifier: MIT
-- What every spec stands on: run commands, make namespaces, call a plugin of
-- ours or of the reference set as a runtime would, take a picture of the
-- kernel's state and compare two; has(), needs() tell what the machine can do.
-- Looks through ip, bridge, nft and /proc, never through our own bindings. Works
-- inside spec-tests/run only.

local cjson = require "cjson"
local lfs = require "lfs"
local spawn = require "spawn"

local M = {}

if os.getenv("LUACNI_SPEC") ~= "1" then
  error("specs run inside spec-tests/run: they would touch this machine", 0)
end

M.build = os.getenv("LUACNI_BUILD")
-- LUACNI_SPEC_OURS: another set in the place of ours, to test the specs themselves.
M.bin = {
  ours = os.getenv("LUACNI_SPEC_OURS") or M.build .. "/cni-bin",
  reference = "/usr/lib/cni",
}
--- Whether this is the build that watches memory: it takes several times as long, so that what
-- goes the same way many times goes it less often.
M.sanitized = (os.getenv("LD_PRELOAD") or ""):find("libasan", 1, true) ~= nil
--- Whether nothing is to be sampled: `spec-tests/run -a`, which is `make test ALL=1`.
M.thorough = os.getenv("LUACNI_SPEC_ALL") == "1"
M.lease_dir = "/var/lib/cni/networks"
M.current = {}
M.null = cjson.null

-- ---------------------------------------------------------------------------
-- Files and JSON
-- ---------------------------------------------------------------------------

--- A file's bytes, or nil.
function M.read(path)
  local f = io.open(path, "rb")
  if not f then return nil end
  local bytes = f:read("a")
  f:close()
  return bytes
end

--- "second" or "stock" in a guest of spec-tests/second-kernel or stock-kernel, where whatever is done
-- takes ten times as long; else nil.
M.guest = (M.read("/proc/1/cmdline") or ""):match("guest%-init%z(%a+)")

--- How far apart the points are that a sweep goes to: a number, and others where that is too many, by
-- "second", "stock" (a guest's name) and "sanitized". 1, which is each, where nothing is sampled.
function M.stride(usual, others)
  if M.thorough then return 1 end
  return others and others[M.sanitized and "sanitized" or M.guest] or usual
end

--- Whether the i-th of many alike is gone to today: of `count` in a row one is, another one tomorrow; each, where
-- nothing is sampled.
function M.is_due(i, count)
  return M.thorough or (i + tonumber(os.getenv "LUACNI_SPEC_DAY")) % count == 0
end

--- Those of a list that are due today, one of `usual` in a row, of others as for `stride`: an iterator of index and item.
function M.due(list, usual, others)
  local count = M.stride(usual, others)
  return coroutine.wrap(function()
    for i, item in ipairs(list) do
      if M.is_due(i, count) then coroutine.yield(i, item) end
    end
  end)
end

--- Write a file; its folder is made.
function M.write(path, bytes)
  local dir = path:match("^(.*)/[^/]*$")
  if dir and dir ~= "" and not lfs.attributes(dir) then M.sh({ "mkdir", "-p", dir }) end
  local f <close> = assert(io.open(path, "wb"))
  f:write(bytes)
end

--- Every regular file below `dir`: relative name -> bytes.
function M.files(dir, into, prefix)
  into, prefix = into or {}, prefix or ""
  if lfs.attributes(dir, "mode") ~= "directory" then return into end
  for name in lfs.dir(dir) do
    if name ~= "." and name ~= ".." then
      local path = dir .. "/" .. name
      if lfs.symlinkattributes(path, "mode") == "directory" then
        M.files(path, into, prefix .. name .. "/")
      else
        into[prefix .. name] = M.read(path) or "(unreadable)"
      end
    end
  end
  return into
end

local array_mt = {}

--- Mark a table as a list, so that an empty one is written as [].
function M.list(items) return setmetatable(items or {}, array_mt) end

--- JSON text, keys sorted. Empty tables are objects unless made by `list`.
function M.json(value)
  if type(value) ~= "table" then return (cjson.encode({ value }):match("^%[(.*)%]$")) end
  local out = {}
  if getmetatable(value) == array_mt or #value > 0 then
    for i, item in ipairs(value) do out[i] = M.json(item) end
    return "[" .. table.concat(out, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do out[i] = M.json(key) .. ":" .. M.json(value[key]) end
  return "{" .. table.concat(out, ",") .. "}"
end

--- Decoded JSON, or nil and why.
function M.decode(text)
  local ok, value = pcall(cjson.decode, text)
  if ok then return value end
  return nil, value
end

-- ---------------------------------------------------------------------------
-- Commands
-- ---------------------------------------------------------------------------

--- Quote one word for the shell.
function M.quote(word)
  if word:find("^[%w_./:=@,+-]+$") then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

local function command_line(command)
  if type(command) == "string" then return command end
  local words = {}
  for i, word in ipairs(command) do words[i] = M.quote(tostring(word)) end
  return table.concat(words, " ")
end

local function ns_path(ns)
  if type(ns) == "table" then return ns.path end
  if ns and not ns:find("/", 1, true) then return "/run/netns/" .. ns end
  return ns
end

--- How many commands were run so far.
M.spawned = 0

--- The path of a C helper of the specs (killat), built when make has not.
function M.helper(name)
  local path = M.build .. "/" .. name
  if lfs.attributes(path) then return path end
  path = "/run/spec/" .. name
  if not lfs.attributes(path) then
    assert(os.execute(("unset LD_PRELOAD; cc -std=c11 -D_GNU_SOURCE -O2 -o %s spec-tests/%s.c")
      :format(path, name)))
  end
  return path
end

--- The same program, but with so many seconds where there is a minute.
function M.impatient(seconds, path)
  local objects = ("find host netlink-bindings -name '*.c' ! -name main.c | sed 's|^|%s/|; s|c$|o|'"):format(M.build)
  local flags = "-O2 -D_GNU_SOURCE -I/usr/include/lua5.4 -Ihost -Inetlink-bindings"
  if os.getenv("ASAN_OPTIONS") then flags = flags .. " -fsanitize=address,undefined" end
  M.run(("cc %s -DDEADLINE_SECONDS=%d -no-pie -o %s host/main.c $(%s) "
    .. "%s/embedded.o -Wl,--wrap=malloc,--wrap=realloc,--wrap=free "
    .. "-Wl,-Bstatic -llua5.4 -llua5.4-cjson -Wl,-Bdynamic -lmnl")
    :format(flags, seconds, path, objects, M.build))
end

-- The words of a line that a shell would do nothing for but start the program.
local function plain(line)
  if not line:find("^ip [%w _./:,@+-]+$") and not line:find("^bridge [%w _./:,@+-]+$") then
    return nil
  end
  local words = {}
  for word in line:gmatch("%S+") do words[#words + 1] = word end
  return words
end

local function words_of(command)
  if type(command) == "string" then return plain(command) or { "sh", "-c", command } end
  local words = {}
  for i, word in ipairs(command) do words[i] = tostring(word) end
  return words
end

--- Run a command: a shell line or a list of words.
-- opts: stdin (bytes), host (network namespace to run in), timeout (seconds, 60),
-- env (list of "K=V"), only_env (the same; it has no other). Returns stdout, exit status
-- (128 + n after a signal), stderr.
function M.sh(command, opts)
  opts = opts or {}
  M.spawned = M.spawned + 1
  local words = words_of(command)
  if opts.env then
    words = table.move(words, 1, #words, #opts.env + 2, { "env" })
    table.move(opts.env, 1, #opts.env, 2, words)
  end
  return spawn.run(words, opts.only_env, opts.host and ns_path(opts.host), opts.stdin,
    opts.timeout)
end

--- As `sh`, but a failure is an error showing what the command said.
function M.run(command, opts)
  local out, status, err = M.sh(command, opts)
  if status ~= 0 then
    error(("%s: status %d\n%s%s"):format(command_line(command), status, out, err), 2)
  end
  return out
end

--- `ip -j ARGS` in a namespace (nil: the spec's own), decoded; ARGS is one string.
function M.ip(ns, args)
  local out = M.run("ip -j " .. args, { host = ns })
  if out:find("^%s*$") then return {} end
  return assert(M.decode(out))
end

--- `bridge -j ARGS`, decoded.
function M.bridge(ns, args)
  local out = M.run("bridge -j " .. args, { host = ns })
  if out:find("^%s*$") then return {} end
  return assert(M.decode(out))
end

--- One link as `ip -j -d link show` gives it, or nil.
function M.link(ns, name)
  local out, status = M.sh({ "ip", "-j", "-d", "link", "show", name }, { host = ns })
  if status ~= 0 then return nil end
  return assert(M.decode(out))[1]
end

--- A /proc/sys value in a namespace, e.g. sysctl(ns, "net/ipv4/ip_forward"), or nil.
function M.sysctl(ns, path)
  local out, status = M.sh({ "cat", "/proc/sys/" .. path }, { host = ns })
  return status == 0 and out:gsub("%s+$", "") or nil
end

-- ---------------------------------------------------------------------------
-- Namespaces
-- ---------------------------------------------------------------------------

local made = {}
local counter = 0

--- A new network namespace { name, path }, removed by `cleanup`.
-- opts.lo: "up": lo is up in it; "down": it was up, so that it keeps 127.0.0.1.
function M.netns(name, opts)
  counter = counter + 1
  name = name or ("n%d"):format(counter)
  local ns = { name = name, path = "/run/netns/" .. name }
  spawn.add_netns(ns.path, opts and opts.lo)
  made[#made + 1] = ns
  return ns
end

--- Many namespaces at once, PREFIX1 to PREFIXn, removed by `cleanup`.
function M.netns_many(prefix, count)
  for i = 1, count do M.netns(prefix .. i) end
end

--- Remove one namespace now.
function M.remove_netns(ns)
  for i, other in ipairs(made) do
    if other.name == ns.name then table.remove(made, i) break end
  end
  assert(spawn.del_netns(ns.path), ns.path)
end

--- A namespace to play the host: lo up, and lived in (see lived_in.lua) but for `lived_in = false`.
-- opts: those of lived_in.furnish
function M.host(name, opts)
  local ns = M.netns(name, { lo = "up" })
  if not opts or opts.lived_in ~= false then require "lived_in".furnish(ns, opts) end
  return ns
end

local ends = {}

--- Have a program ended with the test, whose process ID is in a file.
function M.ends_with_test(pid_file) ends[pid_file] = true end

--- Remove what the test made: namespaces, leases, records. Runs after each test. Raises when what
-- is others' on a host is not as it was.
function M.cleanup()
  local noticed = require "neighbours".noticed()
  table.move(require "lived_in".noticed(), 1, 1000, #noticed + 1, noticed)
  for pid_file in pairs(ends) do
    M.sh(("read -r p <%s && kill $p && while kill -0 $p; do sleep 0.02; done; rm -f %s"):format(pid_file, pid_file))
    ends[pid_file] = nil
  end
  for i = #made, 1, -1 do
    spawn.del_netns(made[i].path)
    made[i] = nil
  end
  for name in lfs.dir("/run/netns") do
    local path = "/run/netns/" .. name
    -- A plain file in the place of a namespace, put there by a test.
    if lfs.attributes(path, "mode") == "file"
      and lfs.attributes(path, "dev") == lfs.attributes("/run/netns", "dev") then
      os.remove(path)
    end
  end
  if next(M.files("/var/lib/cni")) or next(M.files("/etc/luacni"))
    or lfs.attributes("/run/luacni") or lfs.attributes("/run/cni") then
    M.wipe()
  end
  if #noticed > 0 then
    error("what is others' is not as it was:\n" .. table.concat(noticed, "\n"), 0)
  end
end

-- Remove a file or folder, or what is in a folder.
local function remove(path, content_only)
  if lfs.symlinkattributes(path, "mode") == "directory" then
    for name in lfs.dir(path) do
      if name ~= "." and name ~= ".." then remove(path .. "/" .. name) end
    end
  end
  if not content_only then os.remove(path) end
end

--- Forget every lease, record and site file, as a reboot and a reinstall would.
function M.wipe()
  remove("/run/luacni")
  remove("/run/cni")
  remove("/var/lib/cni", true)
  remove("/etc/luacni", true)
end

--- The folder in which attachments share an object of a namespace, such as a bridge.
function M.shared_dir(ns, name)
  local object <close> = require("netlink").ns.open(ns_path(ns))
  return ("/run/luacni/shared/%s:%s"):format(name, object:cookie())
end

--- Shell that makes a veth pair, up, that gives itself no addresses.
function M.pair(name, peer)
  return (([[
ip -b - <<.
  link add A type veth peer name B
  link set A addrgenmode none
  link set B addrgenmode none
  link set A up
  link set B up
.
]]):gsub("%f[%w]%u%f[%W]", { A = name, B = peer }))
end

-- ---------------------------------------------------------------------------
-- Plugins
-- ---------------------------------------------------------------------------

--- Shell that takes away the rules that are ours. (The whole rule set is others' too.)
M.flush = "for f in inet bridge; do nft delete table $f luacni 2>/dev/null; done; true"

--- The rules that are ours, as nft lists them; "" when there are none.
function M.our_rules(ns)
  return (M.sh("for f in inet bridge; do nft list table $f luacni 2>/dev/null; done", { host = ns }))
end

local function plugin_env(call)
  local dir = M.bin[call.bin or "ours"] or call.bin
  local env = {
    PATH = "/usr/sbin:/usr/bin:/sbin:/bin",
    CNI_COMMAND = call.verb,
    CNI_CONTAINERID = call.id == nil and "c1" or call.id,
    CNI_IFNAME = call.ifname == nil and "eth0" or call.ifname,
    CNI_PATH = call.path == nil and dir or call.path,
    CNI_NETNS = ns_path(call.netns or nil),
    CNI_ARGS = call.args,
    ASAN_OPTIONS = os.getenv("ASAN_OPTIONS"),
    UBSAN_OPTIONS = os.getenv("UBSAN_OPTIONS"),
  }
  for key, value in pairs(call.env or {}) do env[key] = value end
  local pairs_of = {}
  for key, value in pairs(env) do
    if value ~= false then pairs_of[#pairs_of + 1] = key .. "=" .. value end
  end
  table.sort(pairs_of)
  return dir .. "/" .. call.type, pairs_of
end

--- The shell words that make a plugin call, for specs that run many at once:
-- `env -i ... /path/to/plugin`. Same argument as `cni`; the caller redirects stdin.
function M.cni_words(call)
  local path, env = plugin_env(call)
  local words = { "env", "-i", table.unpack(env) }
  words[#words + 1] = path
  local line = command_line(words)
  if call.host then
    line = "nsenter --net=" .. M.quote(ns_path(call.host)) .. " " .. line
  end
  if call.under then line = call.under .. " " .. line end
  return line
end

--- The configuration bytes of a call: text as it is, a table as JSON.
function M.conf_bytes(conf)
  if conf == nil then return "" end
  return type(conf) == "string" and conf or M.json(conf)
end

--- Call a plugin as a runtime would.
-- { verb, type, conf = table|string, id = "c1", netns = ns|path|false,
--   ifname = "eth0", args =, env = { K = V|false }, path =, bin = "ours"|"reference"|dir,
--   host = namespace to run it in, timeout = 60 }
-- An id, ifname or path of false leaves the variable out. Returns { rc, out, err,
-- json } where json is stdout decoded, nil when it is not one JSON document.
function M.cni(call)
  call.type = call.type or (type(call.conf) == "table" and call.conf.type)
  local opts = { stdin = M.conf_bytes(call.conf), timeout = call.timeout }
  local command
  if call.under then
    command = M.cni_words(call)
  else
    local path, env = plugin_env(call)
    command, opts.only_env, opts.host = { path }, env, call.host
  end
  local out, rc, err = M.sh(command, opts)
  return { rc = rc, out = out, err = err, json = out ~= "" and M.decode(out) or nil }
end

--- As `cni`, but failure is an error; returns the decoded result.
function M.cni_ok(call)
  local got = M.cni(call)
  if got.rc ~= 0 then
    error(("%s %s: status %d\n%s%s"):format(call.verb, call.type, got.rc, got.out,
      got.err), 2)
  end
  return got.json
end

-- ---------------------------------------------------------------------------
-- Pictures of the kernel
-- ---------------------------------------------------------------------------

-- What nobody sets: counters, indexes, what follows from others a moment later
-- (carrier, duplicate address detection).
local transient = {
  link = { stats = true, stats64 = true, ifindex = true, num_tx_queues = true,
    operstate = true, tso_max_size = true, tso_max_segs = true },
  addr = { valid_life_time = true, preferred_life_time = true, ifindex = true,
    tentative = true },
}
local passing_flags = { ["NO-CARRIER"] = true, LOWER_UP = true, linkdown = true, dead = true }

local function steady(flags)
  local kept = {}
  for _, flag in ipairs(flags or {}) do
    if not passing_flags[flag] then kept[#kept + 1] = flag end
  end
  return kept
end

local function scrub(value, drop)
  if type(value) ~= "table" then return value end
  local out = {}
  for key, item in pairs(value) do
    if not drop[key] then out[key] = scrub(item, drop) end
  end
  return out
end

local route_drop = { expires = true, cache = true }
local nft_drop = { handle = true, packets = true, bytes = true }

-- A list as a set of texts, so that order and indexes do not matter.
local function as_set(list)
  local set = {}
  for _, item in ipairs(list) do
    local text = M.json(item)
    while set[text] do text = text .. " (again)" end
    set[text] = true
  end
  return set
end

local function links_of(list)
  local links = {}
  for _, link in ipairs(list) do
    links[link.ifname] = scrub(link, transient.link)
    links[link.ifname].flags = steady(link.flags)
    -- Timers of a bridge run, and its ports' states follow the carrier: nobody sets them.
    for _, part in pairs(links[link.ifname].linkinfo or {}) do
      if type(part) == "table" then
        part.state = nil
        for key in pairs(part) do
          if key:find("timer") then part[key] = nil end
        end
      end
    end
  end
  return links
end

local function nft_set(list)
  local kept = {}
  for _, item in ipairs(list.nftables) do
    if not item.metainfo then kept[#kept + 1] = scrub(item, nft_drop) end
  end
  return as_set(kept)
end

--- The nftables rule set of a namespace as a set of texts, handles left out.
function M.nft(ns) return nft_set(M.many(ns, { "nft -j list ruleset" })[1]) end

--- Run several commands in one namespace, in one go; returns their outputs in
-- order: decoded what is JSON, a table; an empty one too; the rest as text.
function M.many(ns, commands)
  local mark = "\1"
  local out = M.run(table.concat(commands, "; printf '\\001'; "), { host = ns }) .. mark
  local decoded = {}
  for text in out:gmatch("([^\1]*)\1") do
    local is_json = text:find("^%s*[%[{]")
    decoded[#decoded + 1] = is_json and assert(M.decode(text))
      or text:find("%S") and text or {}
  end
  assert(#decoded == #commands, "an output is missing")
  return decoded
end

--- `ip -j -d -b`, several commands in one process; returns their outputs in order. One that
-- fails gives {}; what comes after it then has to fail too. family: "-4", "-6" or nil.
function M.ip_batch(ns, family, commands)
  local words = { "ip", "-j", "-d", "-force", "-b", "-" }
  if family then table.insert(words, 2, family) end
  local out, _, err = M.sh(words, { host = ns, stdin = table.concat(commands, "\n") .. "\n" })
  local decoded = {}
  for line in out:gmatch("[^\n]+") do decoded[#decoded + 1] = assert(M.decode(line)) end
  assert(#decoded > 0 and #decoded <= #commands, err)
  for i = #decoded + 1, #commands do decoded[i] = {} end
  return table.unpack(decoded)
end

--- All there is to see in a namespace (nil: the spec's own), as text that says more than a
-- picture and is not made to be read: when it is the same, so is everything. settings: sysctls
-- of links and permanent neighbours too.
function M.glance(ns, settings)
  return M.run({ M.helper("look"), settings and "-ns" or "-n", "/proc/self/ns/net" }, { host = ns })
end

-- What was seen at a glance, text -> picture. On a slow kernel a closer look takes seconds.
local pictures = {}

-- Whether a link has not yet the IPv6 address that the kernel gives it some time after it came up.
local function lacks_own(link)
  -- Its state follows the carrier a second later, when much is going on.
  if not M.has_flag(link, "LOWER_UP") or link.link_type == "loopback" then return false end
  for _, item in ipairs(link.addr_info or {}) do
    if item.family == "inet6" and item.scope == "link" then return false end
  end
  return true
end

-- Links with their addresses. Where IPv6 is off the wait is in vain, and a second long.
local function settled_links(ns)
  for attempt = 1, 20 do
    local addr, links = M.ip_batch(ns, nil, { "addr show", "link show" })
    local makes_own, waits = {}, false
    for _, link in ipairs(links) do
      makes_own[link.ifname] = link.inet6_addr_gen_mode == "eui64"
    end
    for _, link in ipairs(addr) do
      waits = waits or makes_own[link.ifname] and lacks_own(link)
    end
    if not waits or attempt == 20 then return addr end
    M.sh("sleep 0.05")
  end
end

local function closer(ns)
  local addr = settled_links(ns)
  local route4, rule4 = M.ip_batch(ns, "-4", { "route show table all", "rule show" })
  local route6, rule6 = M.ip_batch(ns, "-6", { "route show table all", "rule show" })
  local nft, vlans, qdiscs = table.unpack(M.many(ns, { "nft -j list ruleset", "bridge -j vlan show",
    "tc -j qdisc show" }))
  local addrs, routes, rules, given = {}, {}, {}, {}
  for _, qdisc in ipairs(qdiscs) do
    qdisc.refcnt = nil
    -- Packets that found no class are counted among htb's options.
    if qdisc.options then qdisc.options.direct_packets_stat = nil end
    -- The kernel itself gives a link one that has no name.
    if qdisc.handle ~= "0:" then given[#given + 1] = qdisc end
  end
  for _, link in ipairs(addr) do
    for _, item in ipairs(link.addr_info or {}) do
      item.dev = link.ifname
      addrs[#addrs + 1] = scrub(item, transient.addr)
    end
    link.addr_info = nil
  end
  for family, list in pairs({ ["-4"] = route4, ["-6"] = route6 }) do
    for _, route in ipairs(list) do
      route.family, route.flags = family, steady(route.flags)
      -- IPv6's own local routes come when duplicate address detection is through.
      if family == "-4" or route.table ~= "local" then
        routes[#routes + 1] = scrub(route, route_drop)
      end
    end
  end
  for family, list in pairs({ ["-4"] = rule4, ["-6"] = rule6 }) do
    for _, rule in ipairs(list) do
      rule.family = family
      rules[#rules + 1] = rule
    end
  end
  return {
    links = links_of(addr), addrs = as_set(addrs), routes = as_set(routes),
    rules = as_set(rules), nft = nft_set(nft), vlans = vlans, qdiscs = as_set(given),
  }
end

--- What `look(ns)` gives, taken from `known` when a glance shows what it showed before. What
-- changes while it is looked at is not kept.
function M.look_again(known, look, ns, settings)
  local seen = M.glance(ns, settings)
  local found = known[seen]
  if not found then
    found = look(ns)
    if M.glance(ns, settings) == seen then known[seen] = found end
  end
  return scrub(found, {})
end

local function picture(ns) return M.look_again(pictures, closer, ns) end

--- Everything a plugin could have changed, as a table to compare with `same`.
-- opts.ns: list of namespaces (the first plays the host; default the spec's own);
-- opts.leases: lease directory. Lock files and last_reserved_ip.N are left out, and blocks of pools.
function M.snapshot(opts)
  opts = opts or {}
  local shot = { kernel = {}, leases = {}, records = M.files("/run/luacni") }
  for name in pairs(shot.records) do
    -- The index of leases is a cache, checked against the directory by its reader.
    if name:find("^leases/") or require "neighbours".owns(name) then shot.records[name] = nil end
  end
  for _, ns in ipairs(opts.ns or { false }) do
    shot.kernel[ns and (ns.name or ns) or "own"] = picture(ns or nil)
  end
  for name, bytes in pairs(M.files(opts.leases or M.lease_dir)) do
    local last = name:match("[^/]*$")
    -- What a machine has of a pool stays its own.
    local is_block = name:find "^pool/blocks/"
    if last ~= "lock" and not is_block and not last:find("^last_reserved_ip%.%d+$") and not require "neighbours".owns(name) then
      shot.leases[name] = bytes
    end
  end
  return shot
end

--- The records of attachments that there are, but for neighbours': their paths, a line each.
function M.records()
  local names = {}
  for name in pairs(M.files("/run/luacni/attachments")) do
    if not require "neighbours".owns("attachments/" .. name) then names[#names + 1] = name .. "\n" end
  end
  table.sort(names)
  return table.concat(names)
end

local function show(value)
  if type(value) == "table" then return M.json(value) end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function compare(a, b, path, out)
  if type(a) ~= "table" or type(b) ~= "table" then
    if a ~= b then out[#out + 1] = ("%s: %s -> %s"):format(path, show(a), show(b)) end
    return out
  end
  local keys = {}
  for key in pairs(a) do keys[key] = true end
  for key in pairs(b) do keys[key] = true end
  local sorted = {}
  for key in pairs(keys) do sorted[#sorted + 1] = key end
  table.sort(sorted, function(x, y) return tostring(x) < tostring(y) end)
  for _, key in ipairs(sorted) do
    local at = path == "" and tostring(key) or path .. "." .. tostring(key)
    if b[key] == nil then
      out[#out + 1] = ("- %s = %s"):format(at, show(a[key]))
    elseif a[key] == nil then
      out[#out + 1] = ("+ %s = %s"):format(at, show(b[key]))
    else
      compare(a[key], b[key], at, out)
    end
  end
  return out
end

--- The differences between two tables: a list of lines, empty when they are equal.
function M.differences(a, b) return compare(a, b, "", {}) end

--- Whether a link of `ip -j` has a flag, such as "UP".
function M.has_flag(link, flag)
  for _, f in ipairs(link.flags) do
    if f == flag then return true end
  end
  return false
end

--- A copy with changes, all of them kept: in a call, false leaves a variable out.
function M.merge(base, more)
  local out = {}
  for key, value in pairs(base) do out[key] = value end
  for key, value in pairs(more or {}) do out[key] = value end
  return out
end

--- A copy with changes, of which false takes a key out.
function M.with(base, more)
  local out = M.merge(base)
  for key, value in pairs(more or {}) do out[key] = value or nil end
  return out
end

--- Raise unless two tables are equal, naming every difference.
function M.same(a, b, what)
  local lines = compare(a, b, "", {})
  if #lines > 40 then
    lines = table.move(lines, 1, 40, 1, { [41] = ("and %d more"):format(#lines - 40) })
  end
  if #lines > 0 then
    error((what and what .. ": " or "") .. "differs:\n" .. table.concat(lines, "\n"), 2)
  end
end

-- ---------------------------------------------------------------------------
-- Traffic
-- ---------------------------------------------------------------------------

-- fd00:0000:...:0001 -> fd00::1, as ip(8) writes it.
local function short_ip6(text)
  local groups = {}
  for group in text:gmatch("%x+") do groups[#groups + 1] = ("%x"):format(tonumber(group, 16)) end
  local full = ":" .. table.concat(groups, ":") .. ":"
  for run = 8, 2, -1 do
    local zeros = ":" .. ("0:"):rep(run)
    local at = full:find(zeros, 1, true)
    if at then
      full = full:sub(1, at - 1) .. "::" .. full:sub(at + #zeros)
      return (full:gsub("^:(%x)", "%1"):gsub("(%x):$", "%1"))
    end
  end
  return full:sub(2, -2)
end

-- Seconds for a server's life, a client's, and for an answer once the client has no more to say:
-- processes of a guest are slow to start.
local server_lives, client_lives, patience = 9, 8, 2
if M.guest then server_lives, client_lives, patience = 45, 40, 10 end

local tcp = [[
  nsenter --net=%s timeout %d socat -t%d %s-LISTEN:7777,reuseaddr,fork \
    SYSTEM:'echo $SOCAT_PEERADDR' 2>/dev/null & server=$!
  nsenter --net=%s timeout %d socat -t%d - \
    %s:%s:7777,retry=80,interval=0.05,connect-timeout=2 2>/dev/null </dev/null
  kill $server 2>/dev/null; wait]]

--- Connect by TCP from one namespace to `address` in another; returns the source
-- address the listener saw, nil when no connection came about.
function M.tcp_source(from, to, address)
  local kind, at = "TCP4", address
  if address:find(":", 1, true) then kind, at = "TCP6", "[" .. address .. "]" end
  local out = M.sh(tcp:format(ns_path(to), server_lives, patience, kind, ns_path(from), client_lives,
    patience, kind, at))
  local peer = out:match("[%x.:]+")
  return peer and (kind == "TCP6" and short_ip6(peer) or peer)
end

--- Whether `address` answers a ping from a namespace.
function M.ping(from, address)
  return select(2, M.sh({ "ping", "-n", "-q", "-c", 1, "-W", 1, address },
    { host = from })) == 0
end

--- The same; one that has just learnt of an address, or come back, may take a moment.
function M.answers(from, address)
  for _ = 1, 3 do
    if M.ping(from, address) then return true end
  end
  return false
end

-- ---------------------------------------------------------------------------
-- What this kernel and machine have
-- ---------------------------------------------------------------------------

local function can_make(kind)
  return function()
    local ns = M.netns()
    local _, status = M.sh("ip link add p0 type veth peer name p1 && " .. kind,
      { host = ns })
    M.remove_netns(ns)
    return status == 0
  end
end

-- A network card in the first namespace that is there to be tested with: a guest's.
local function has_card() return M.guest and M.link("/proc/1/ns/net", "eth0") ~= nil end

-- A link that is born elsewhere has to have a name that is free here too (before 6.15).
local function clashes()
  local here, there = M.netns(), M.netns()
  local _, status = M.sh(("ip link add p0 type veth peer name p1 && " ..
    "! ip link add p1 link p0 netns %s type macvlan"):format(there.name), { host = here })
  M.remove_netns(here)
  M.remove_netns(there)
  return status == 0
end

-- Where no program here could ask for it.
local function since(major, minor)
  return function()
    local a, b = M.read("/proc/sys/kernel/osrelease"):match("^(%d+)%.(%d+)")
    return tonumber(a) > major or tonumber(a) == major and tonumber(b) >= minor
  end
end

--- Where the libraries of kea are, as it is not installed.
M.kea_libraries = "$(echo $PWD/build/unpacked/kea-common/usr/lib/*-linux-gnu*)"

-- A program that is there may lack a library.
local function runs(command)
  return function() return select(2, M.sh(command)) == 0 end
end

-- What a kernel has; what this one lacks another may have.
local kernel = {
  ["card"] = has_card,
  ["selinux"] = function()
    return select(2, M.sh("echo system_u:system_r:kernel_t:s0 >/proc/thread-self/attr/exec")) == 0
  end,
  ["bridge-vlan"] = can_make("ip link add b0 type bridge vlan_filtering 1"),
  ["vlan"] = can_make("ip link add link p0 v0 type vlan id 5"),
  ["dummy"] = can_make("ip link add d0 type dummy"),
  ["macvlan"] = can_make("ip link add link p0 m0 type macvlan mode bridge"),
  ["ipvlan"] = can_make("ip link add link p0 i0 type ipvlan mode l2"),
  ["vrf"] = can_make("ip link add r0 type vrf table 10"),
  ["ip6-rules"] = can_make("ip -6 rule add from fd01::1 lookup 7"),
  ["clash"] = clashes,
  ["vxlan"] = can_make("ip link add x0 type vxlan id 7 dstport 4789"),
  ["ifb"] = can_make("ip link add i0 type ifb && tc qdisc add dev p0 root tbf rate 1mbit burst 5000 limit 9000"),
  ["fq_codel"] = can_make("tc qdisc add dev p0 root fq_codel"),
  ["cake"] = can_make("tc qdisc add dev p0 root cake"),
  ["nft-destroy"] = since(6, 3),
  ["nft-nat"] = can_make("nft add table inet t; nft 'add chain inet t c " ..
    "{ type nat hook postrouting priority 100; }'"),
  ["nft-bridge"] = can_make("nft add table bridge t; nft 'add chain bridge t c " ..
    "{ type filter hook prerouting priority -300; }'"),
  ["iptables"] = can_make("iptables -t nat -S && ip6tables -t nat -S"),
}

-- What a machine has, whatever its kernel; and what none of the kernels that these tests know has.
local machine = {
  ["netkit"] = can_make("ip link add n0 type netkit"),
  ["reference"] = function() return lfs.attributes("/usr/lib/cni/bridge") ~= nil end,
  ["guests"] = function() return not M.guest end,
  -- User-mode Linux does not tell which system call a traced process is in.
  ["calls"] = function() return M.guest ~= "second" end,
  ["firewalld"] = function()
    return lfs.attributes("build/unpacked/firewalld/.fetched") ~= nil
      and select(2, M.sh("/usr/bin/python3 -c 'import dbus, gi'")) == 0
  end,
  ["jsonschema"] = function() return select(2, M.sh("python3 -c 'import jsonschema'")) == 0 end,
}
for _, name in ipairs({ "busybox", "chattr", "containerd", "curl", "debugfs", "docker", "dockerd", "dnsmasq", "fish",
  "iptables-legacy", "losetup",
  "mkfs.ext4", "podman", "prlimit", "runc", "scdoc", "setarch", "strace", "zsh" }) do
  machine[name] = function() return select(2, M.sh("command -v " .. name)) == 0 end
end
machine.etcd = runs "etcd --version && etcdctl version && openssl version && curl --version"
machine.dhcpd, machine.dhcrelay = runs "dhcpd --version", runs "dhcrelay --version"
machine.kea = runs(("LD_LIBRARY_PATH=%s kea-dhcp4 -v"):format(M.kea_libraries))
local found = {}

--- Whether this machine has a feature: one of the two tables above this function; another word
-- is an error.
function M.has(feature)
  if found[feature] == nil then
    local probe = kernel[feature] or machine[feature]
    if not probe then
      error(("nobody knows how to tell whether a machine has %q"):format(feature), 2)
    end
    found[feature] = probe()
  end
  return found[feature]
end

--- Skip the running test, counted and with the reason, unless the machine has
-- every feature named. Call it first thing inside `it`. If only its kernel is in the
-- way, the test runs on the second kernel.
function M.needs(...)
  local missing, elsewhere = {}, true
  for _, feature in ipairs({ ... }) do
    if not M.has(feature) then
      missing[#missing + 1] = feature
      elsewhere = elsewhere and kernel[feature] ~= nil
    end
  end
  if #missing == 0 then return end
  M.current.lacks = elsewhere
  M.current.pending("this machine has no " .. table.concat(missing, ", "))
end

return M
