-- SPDX-License-Identifier: MIT
-- Many calls at once on one network: nothing fails, no address is given twice,
-- nothing is left. The runner is xargs, so the calls are as parallel as the
-- machine allows.
--
-- Seconds a test takes on the second kernel: 20

local t = require "support"
local plugins = require "plugins"

local many = t.thorough and 200 or t.sanitized and 40 or 100

local host
local conf = { cniVersion = "1.1.0", name = "crowd", type = "bridge", bridge = "br0", removeUnused = true,
  isDefaultGateway = true, ipMasq = true, ipam = { type = "host-local", ranges = {
    { { subnet = "10.30.0.0/22" } }, { { subnet = "fd30::/64" } } } } }

local function new_world(pods)
  host = t.host("host", { forwarding = true })
  t.netns_many("p", pods)
end

-- A script that makes one call: VERB ID NETNS IFNAME, its answer and status kept
-- under /run/spec/out/VERB.ID.IFNAME. A file conf.ID counts before the configuration.
local function prepare(config)
  t.run("rm -rf /run/spec/out /run/spec/conf.*; mkdir /run/spec/out")
  t.write("/run/spec/conf", t.conf_bytes(config or conf))
  local words = t.cni_words({ verb = "@VERB@", type = (config or conf).type, host = host,
    id = "@ID@", netns = "/run/netns/@NS@", ifname = "@IF@" })
  words = words:gsub("'?([%w_]+)=(/?[%w/]*)@(%u+)@'?", '"%1=%2$%3"')
  t.write("/run/spec/one", ([[
VERB=$1 ID=$2 NS=$3 IF=$4 OUT=/run/spec/out/$1.$2.$4
CONF=/run/spec/conf.$ID
[ -e $CONF ] || CONF=/run/spec/conf
timeout -s KILL 100 %s <$CONF >$OUT 2>$OUT.err
echo $? >$OUT.rc
]]):format(words))
end

-- Run calls { verb, id, ns, ifname } so many at a time; returns a list of
-- { verb, id, rc, json, text }.
local function run_all(calls, at_once)
  local lines = {}
  for i, c in ipairs(calls) do
    lines[i] = ("%s %s %s %s"):format(c[1], c[2], c[3], c[4] or "eth0")
  end
  t.run(("xargs -P %d -L 1 sh /run/spec/one"):format(at_once),
    { stdin = table.concat(lines, "\n") .. "\n", timeout = 300 })
  local answers = {}
  for i, c in ipairs(calls) do
    local base = ("/run/spec/out/%s.%s.%s"):format(c[1], c[2], c[4] or "eth0")
    local out = t.read(base) or ""
    answers[i] = { verb = c[1], id = c[2], rc = tonumber(t.read(base .. ".rc") or "-1"),
      json = t.decode(out), text = out .. (t.read(base .. ".err") or "") }
  end
  return answers
end

local function all_good(answers)
  local bad = {}
  for _, a in ipairs(answers) do
    if a.rc ~= 0 then bad[#bad + 1] = ("%s %s: %d %s"):format(a.verb, a.id, a.rc, a.text) end
  end
  if #bad > 0 then
    error(("%d of %d failed:\n%s"):format(#bad, #answers, table.concat(bad, "\n", 1,
      math.min(#bad, 5))), 0)
  end
end

local function no_address_twice(answers)
  local owner, count = {}, 0
  for _, a in ipairs(answers) do
    for _, ip in ipairs(a.json and a.json.ips or {}) do
      assert.is_nil(owner[ip.address], ip.address .. " was given twice")
      owner[ip.address], count = a.id, count + 1
    end
  end
  return count
end

local function each(verb, count, from)
  local calls = {}
  for i = from or 1, count do calls[#calls + 1] = { verb, "c" .. i, "p" .. i } end
  return calls
end

local function picture() return t.snapshot({ ns = { host } }) end

local function crowd(count, at_once)
  new_world(count)
  prepare()
  local before = picture()
  local answers = run_all(each("ADD", count), at_once)
  all_good(answers)
  assert.equal(2 * count, no_address_twice(answers))
  -- What was answered is what is: every lease is there, every port plugged in.
  local leases = 0
  for name in pairs(t.files(t.lease_dir .. "/crowd")) do
    if name:find("^10%.") then leases = leases + 1 end
  end
  assert.equal(count, leases)
  assert.equal(count, #t.ip(host, "link show master br0"))
  assert.is_true(t.ping({ path = "/run/netns/p1" }, "10.30.0.1"))
  all_good(run_all(each("DEL", count), at_once))
  t.same(before, picture())
end

describe(many .. " containers on one network", function()
  if not t.sanitized then
    it("are added and deleted 16 at a time", function() crowd(many, 16) end)
    it("are added and deleted 32 at a time", function() crowd(many, 32) end)
  end
  it("are added and deleted all at once", function() crowd(many, many) end)
end)

describe("ADD and DEL mixed", function()
  it("leave what was added and nothing of what was deleted", function()
    new_world(120)
    prepare()
    local before = picture()
    all_good(run_all(each("ADD", 60), 16))
    local storm = {}
    for i = 1, 60 do
      storm[#storm + 1] = { "DEL", "c" .. i, "p" .. i }
      storm[#storm + 1] = { "ADD", "c" .. 60 + i, "p" .. 60 + i }
    end
    local answers = run_all(storm, 24)
    all_good(answers)
    assert.equal(120, no_address_twice(answers))
    assert.equal(60, #t.ip(host, "link show master br0"))
    all_good(run_all(each("DEL", 120, 61), 16))
    t.same(before, picture())
  end)

  -- The bridge goes with its last attachment and comes with the first one: with
  -- few containers coming and going, both happen all the time.
  it("survive the race of the last attachment with the first", function()
    new_world(4)
    local before = picture()
    local lines = {}
    prepare()
    for i = 1, 4 do
      lines[i] = ("for r in $(seq %d); do for v in ADD DEL; do " ..
        "sh /run/spec/one $v c%d p%d eth0; read rc </run/spec/out/$v.c%d.eth0.rc; " ..
        "[ $rc = 0 ] || " ..
        "{ cat /run/spec/out/$v.c%d.eth0*; exit 1; }; done; done")
        :format(t.sanitized and 8 or 25, i, i, i, i)
    end
    local out, status = t.sh("(" .. table.concat(lines, ") & (") .. ") & " ..
      "wait %1 && wait %2 && wait %3 && wait %4", { timeout = 300 })
    assert.equal(0, status, out)
    t.same(before, picture())
  end)

  it("leave nothing when every container is added and deleted at the same time",
    function()
      new_world(40)
      prepare()
      local before = picture()
      local storm = {}
      for i = 1, 40 do
        storm[#storm + 1] = { "ADD", "c" .. i, "p" .. i }
        storm[#storm + 1] = { "DEL", "c" .. i, "p" .. i }
      end
      local answers = run_all(storm, 32)
      for _, a in ipairs(answers) do
        if a.verb == "DEL" then assert.equal(0, a.rc, a.text) end
        assert.is_truthy(a.rc == 0 or a.json, "no error object: " .. a.text)
      end
      all_good(run_all(each("DEL", 40), 16))
      t.same(before, picture())
    end)
end)

describe("two interfaces of one container at once", function()
  it("do not disturb each other, 20 times over", function()
    new_world(20)
    prepare()
    local before = picture()
    local adds, dels = {}, {}
    for i = 1, 20 do
      for _, name in ipairs({ "eth0", "eth1" }) do
        adds[#adds + 1] = { "ADD", "c" .. i, "p" .. i, name }
        dels[#dels + 1] = { "DEL", "c" .. i, "p" .. i, name }
      end
    end
    -- Two default routes into one table would be the runtime's mistake.
    local l3 = {}
    for key, value in pairs(conf) do l3[key] = value end
    l3.isDefaultGateway, l3.isGateway = nil, true
    prepare(l3)
    local answers = run_all(adds, 8)
    all_good(answers)
    assert.equal(80, no_address_twice(answers))
    for i = 1, 20 do
      assert.equal(3, #t.ip({ path = "/run/netns/p" .. i }, "link show"))
    end
    all_good(run_all(dels, 8))
    t.same(before, picture())
  end)
end)

describe("the same attachment added by several at once", function()
  it("is made once; the others are told so and take nothing of it away", function()
    new_world(10)
    prepare()
    local before = picture()
    for i = 1, 10 do
      local line = ("sh /run/spec/one ADD c%d p%d eth0"):format(i, i)
      -- Each writes to a file of its own.
      local parts = {}
      for k = 1, 3 do
        parts[k] = ("sed 's|OUT=.*|OUT=/run/spec/out/%d.%d|' /run/spec/one >/run/spec/one%d; %s")
          :format(i, k, k, (line:gsub("/run/spec/one", "/run/spec/one" .. k)))
      end
      t.run("(" .. table.concat(parts, ") & (") .. ") & wait", { timeout = 120 })
      local good = 0
      for k = 1, 3 do
        local rc = tonumber(t.read(("/run/spec/out/%d.%d.rc"):format(i, k)))
        if rc == 0 then good = good + 1 end
      end
      assert.equal(1, good, "for container " .. i)
      t.cni_ok({ verb = "CHECK", host = host, netns = "p" .. i, id = "c" .. i,
        conf = (function()
          local with_prev = {}
          for key, value in pairs(conf) do with_prev[key] = value end
          for k = 1, 3 do
            local out = t.read(("/run/spec/out/%d.%d"):format(i, k))
            if t.read(("/run/spec/out/%d.%d.rc"):format(i, k)) == "0\n" then
              with_prev.prevResult = t.decode(out)
            end
          end
          return with_prev
        end)() })
    end
    all_good(run_all(each("DEL", 10), 4))
    t.same(before, picture())
  end)
end)

describe("host-local alone", function()
  it(("gives %d at once %d addresses and takes them back"):format(many, many), function()
    new_world(1)
    local before = picture()
    prepare({ cniVersion = "1.1.0", name = "crowd", type = "host-local", ipam = conf.ipam })
    local adds, dels = {}, {}
    for i = 1, many do
      adds[i], dels[i] = { "ADD", "c" .. i, "p1" }, { "DEL", "c" .. i, "p1" }
    end
    local answers = run_all(adds, 32)
    all_good(answers)
    assert.equal(2 * many, no_address_twice(answers))
    all_good(run_all(dels, 32))
    t.same(before, picture())
  end)

  it("shares its directory with the reference host-local, both at once", function()
    t.needs("reference")
    new_world(1)
    local ipam = { type = "host-local", subnet = "10.31.0.0/24" }
    local config = { cniVersion = "1.0.0", name = "crowd", type = "host-local", ipam = ipam }
    prepare(config)
    t.run("sed 's|" .. t.bin.ours .. "/host-local|/usr/lib/cni/host-local|' " ..
      "/run/spec/one >/run/spec/theirs")
    local lines = {}
    for i = 1, 80 do
      lines[i] = ("sh /run/spec/%s ADD c%d p1 eth0"):format(i % 2 == 0 and "one" or "theirs", i)
    end
    t.run("xargs -P 16 -I @ sh -c @", { stdin = table.concat(lines, "\n") .. "\n",
      timeout = 120 })
    local seen = {}
    for i = 1, 80 do
      local base = ("/run/spec/out/ADD.c%d.eth0"):format(i)
      assert.equal("0\n", t.read(base .. ".rc"), t.read(base))
      local address = t.decode(t.read(base)).ips[1].address
      assert.is_nil(seen[address], address .. " was given twice")
      seen[address] = true
    end
  end)
end)

-- Give each pod a configuration of its own, changed by what `more(n)` gives.
local function prepare_each(entry, count, more)
  prepare(plugins.conf(entry))
  for n = 1, count do
    t.write("/run/spec/conf.c" .. n, t.json(plugins.conf(entry, n, more(n))))
  end
end

-- Every plugin of the table. A guest has fewer pods.
for _, entry in t.due(plugins.list, 3) do
  describe(entry.name .. ":", function()
    it("many are added, checked and deleted at the same time", function()
      t.needs(table.unpack(entry.needs or {}))
      local count = t.guest and 4 or 16
      local world = plugins.world(entry, count)
      host = world.host
      local pods = {}
      for n = 1, count do pods[n] = world.pods[n].name end
      local function all(verb)
        local calls = {}
        for n = 1, count do calls[n] = { verb, "c" .. n, pods[n] } end
        local answers = run_all(calls, 16)
        all_good(answers)
        return answers
      end
      local before = world:picture()
      prepare_each(entry, count, function(n)
        return { prevResult = plugins.prev(entry, world.pods[n]) }
      end)
      local added = all("ADD")
      if entry.ips then assert.equal(entry.ips * count, no_address_twice(added)) end
      prepare_each(entry, count, function(n) return { prevResult = added[n].json } end)
      all("CHECK")
      all("DEL")
      t.same(before, world:picture())
    end)
  end)
end
