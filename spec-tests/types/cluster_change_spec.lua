-- SPDX-License-Identifier: MIT
-- The type cluster where its configuration changes while containers live, and what it tells of itself then.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local function says(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

local function asked(address) return { args = "IP=" .. address } end

local function of(namespace) return { args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=" .. namespace } end

-- GC where some containers are valid.
local function gc(m, ...)
  local valid = {}
  for i, id in ipairs { ... } do valid[i] = { containerID = id, ifname = "eth0" } end
  m:does("GC", false, { ifname = false, conf = { ["cni.dev/valid-attachments"] = t.list(valid) } })
  m:settle()
end

local function status(m) return m:call("STATUS", false, { ifname = false }) end

-- What etcd has of a pool that is somebody's.
local function owned(p, name)
  local list = {}
  for key in pairs(p:keys(name)) do
    if key:find "^blocks/" or key:find "^nodes/" or key:find "^singles/" then list[#list + 1] = key end
  end
  table.sort(list)
  return list
end

local web = { name = "web", subnets = { { subnet = "10.6.0.0/24", blockSize = 28 } }, namespaces = { "web-*" } }
local rest = { name = "rest", subnets = { { subnet = "10.8.0.0/24", blockSize = 28 } }, namespaces = { "k*" } }

local function machine_of_pools(p, ...)
  local m = p:machine("n1", { pools = { ... }, labelsFile = "/run/spec/labels" })
  m.ipam.subnets = nil
  return m
end

describe("Blocks of another size", function()
  it("are claimed by no machine that has blocks of the first one, and its containers keep what they have", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    for i = 1, 3 do
      m:add("c" .. i)
      n:add("d" .. i)
    end
    local before = owned(p)
    m.ipam.subnets = { { subnet = "10.5.0.0/16", blockSize = 26 } }
    for i = 4, 16 do m:add("c" .. i) end
    m:settle()
    local err = m:fails("ADD", "c17")
    assert.equal(7, err.code)
    says(err.text, "the pool default has 10%.5%.0%.0/16 with blocks of /28")
    says(select(2, m:refill "--look"), "with blocks of /28")
    err = m:fails("STATUS", false, { ifname = false })
    assert.equal(50, err.code)
    says(err.text, "with blocks of /28")
    m:does("CHECK", "c1")
    m:does("DEL", "c1")
    t.same(before, owned(p))
    m.ipam.subnets = nil
    m.ipam.subnets = p.ipam.subnets
    m:add "c18"
    m:add "c19"
    m:settle()
    m:does("STATUS", false, { ifname = false })
    p:assert_sane { m, n }
  end)

  it("are claimed where etcd knows of the first one no more", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    p.etcd:ctl "e del --prefix /luacni/"
    m.ipam.subnets = { { subnet = "10.5.0.0/16", blockSize = 26 } }
    m:add "c2"
    m:settle()
    m:refill "--look"
    says(p:keys().grid, '"10%.5%.0%.0/16":26')
    local states = {}
    for block, state in pairs(m:blocks()) do states[block:match "/%d+$"] = state end
    t.same({ ["/28"] = "lost", ["/26"] = "confirmed" }, states)
  end)
end)

describe("A subnet", function()
  it("that is new is of the grid before a block of it is claimed", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c1"
    m.ipam.subnets = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "10.9.0.0/24", blockSize = 28 } }
    m:add "c2"
    m:settle()
    m:add("c3", asked "10.9.0.77")
    says(p:keys().grid, '"10%.9%.0%.0/24":28')
    n.ipam.subnets = { { subnet = "10.9.0.0/24", blockSize = 26 } }
    says(n:fails "ADD".text, "has 10%.9%.0%.0/24 with blocks of /28")
    p:assert_sane { m }
  end)

  it("that is taken out leaves no address of it in etcd when its containers have gone, nor with a machine's release", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "10.9.0.0/24", blockSize = 28 } } }
    local m, n = p:machine "n1", p:machine("n2", { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 } } })
    m:add("c1", asked "10.9.0.77")
    m:add("c2", asked "10.9.0.78")
    m.ipam.subnets = { m.ipam.subnets[1] }
    m:add "c3"
    m:does("CHECK", "c1")
    m:does("DEL", "c1")
    m:settle()
    assert.is_true(m:refill())
    assert.is_nil(p:keys()["singles/10.9.0.64/28/10.9.0.77"])
    assert.not_nil(p:keys()["singles/10.9.0.64/28/10.9.0.78"])
    p:assert_sane { m }
    n:add "d1"
    says(n:tool("release", "pods", "n1", "--data-dir", n.dir), "10%.9%.0%.78/32")
    p:assert_sane { n }
  end)
end)

describe("A pool that is taken out of `pools`", function()
  it("keeps its containers: CHECK, DEL and GC go on; and gives all back after the last of them", function()
    local p = pool.new()
    local m = machine_of_pools(p, web, rest)
    local address = m:add("c1", of "web-front"):match "^[^/]*"
    m:add("c2", of "kube")
    m.ipam.pools = { rest }
    m:does("CHECK", "c1", of "web-front")
    assert.equal(0, status(m).rc)
    gc(m, "c1", "c2")
    t.same({ [address] = "c1" }, m:leases "web")
    assert.is_true(m:refill())
    assert.equal(2, #owned(p, "web"))
    m:does("DEL", "c1", of "web-front")
    gc(m, "c2")
    t.same({}, m:leases "web")
    t.same({}, owned(p, "web"))
    assert.is_true(m:refill())
    t.same({}, owned(p, "web"))
    assert.equal(2, #owned(p, "rest"))
    -- It may come back.
    m.ipam.pools = { web, rest }
    says(m:add("c3", of "web-front"), "^10%.6%.0%.")
    gc(m, "c2", "c3")
    assert.equal(2, #owned(p, "web"))
    -- A dead container's goes, too, by the GC alone.
    m.ipam.pools = { rest }
    gc(m, "c2")
    t.same({}, m:leases "web")
    t.same({}, owned(p, "web"))
  end)

  it("is one whose node has another label, too; GC with a configuration that is none gives up nothing", function()
    local p = pool.new()
    local zone = t.with(web, { nodeLabels = { ["x/zone"] = "a" } })
    local m = machine_of_pools(p, zone, rest)
    t.write("/run/spec/labels", "x/zone=a\n")
    m:add("c1", of "web-front")
    m:does("DEL", "c1", of "web-front")
    m.ipam.pools = { { name = "rest" }, 7 }
    gc(m)
    m.ipam.pools = { zone, rest }
    gc(m)
    assert.equal(2, #owned(p, "web"))
    t.write("/run/spec/labels", "x/zone=b\n")
    gc(m)
    t.same({}, owned(p, "web"))
  end)

  it("or whose last block is asked for by `pool free` claims none anew, until an ADD wants one", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    local block = next(m:blocks())
    m:does("DEL", "c1")
    m:tool("free", "pods", block, "--data-dir", m.dir)
    assert.is_true(m:refill "--look")
    assert.is_true(m:refill())
    t.same({}, owned(p))
    t.same({}, m:blocks())
    m:add "c2"
    assert.equal(2, #owned(p))
    p:assert_sane { m }
  end)

  for what, case in pairs {
    ["the name of another one"] = { t.with(rest, { name = "web" }), "pools%[1%]%.name: web is the name of another" },
    ["a subnet of another one's"] = { t.with(rest, { subnets = { { subnet = "10.6.0.0/23" } } }),
      "pools%[1%]%.subnets%[0%]%.subnet: 10%.6%.0%.0/23 overlaps 10%.6%.0%.0/24 of the pool web" },
  } do
    it("is refused when it is put in with " .. what .. ", and who is there stays", function()
      local p = pool.new()
      local m = machine_of_pools(p, web)
      m:add("c1", of "web-front")
      local before = owned(p, "web")
      m.ipam.pools = { web, case[1] }
      local err = m:fails("ADD", "c2", of "kube")
      assert.equal(7, err.code)
      says(err.text, case[2])
      t.same(before, owned(p, "web"))
      m:does("CHECK", "c1", of "web-front")
      m:does("DEL", "c1", of "web-front")
      t.same({}, m:leases "web")
    end)
  end
end)

describe("STATUS", function()
  it("is about the pools of this node: one of them is enough, and none is an error", function()
    local p = pool.new()
    local m = machine_of_pools(p, t.with(web, { nodeLabels = { ["x/zone"] = "a" } }), rest)
    assert.equal(0, status(m).rc)
    m:add("c1", of "kube")
    assert.equal(0, status(m).rc)
    m.ipam.pools = { m.ipam.pools[1] }
    local got = status(m)
    assert.equal(7, got.json.code)
    says(got.json.msg, "none is for this node")
    t.write("/run/spec/labels", "x/zone=a\n")
    assert.equal(0, status(m).rc)
  end)

  it("says how many addresses are left where no more are to be had, and `luacni status` and `pool list` do", function()
    local p = pool.new()
    local m = p:machine "n1"
    for i = 1, 3 do m:add("c" .. i) end
    p.etcd:stop(1)
    for i = 4, 14 do m:add("c" .. i) end
    m:settle()
    local words = "no more addresses are to be had since %d+ s %(.*127%.0%.0%.1:2379: Connection refused%); left are 2 of IPv4"
    local got = status(m)
    assert.equal(0, got.rc)
    assert.equal("", got.out)
    says(got.err, "^luacni: pool default: " .. words)
    says(select(3, m:tool("list", "--data-dir", m.dir)), words)
    t.write("/etc/cni/net.d/10-pods.conflist", t.json { cniVersion = "1.1.0", name = "pods", plugins = { m:conf() } })
    local out, rc, err = t.sh({ "build/luacni", "status", "pods" }, { host = p.host })
    assert.equal(0, rc, out .. err)
    says(err, words)
    for i = 15, 16 do m:add("c" .. i) end
    m:settle()
    got = status(m)
    assert.equal(50, got.json.code)
    says(got.json.msg, "^this machine has no address of the pool default left, and can claim none$")
    says(got.json.details, "127%.0%.0%.1:2379: Connection refused")
    -- What answers again is seen without an ADD, which a runtime makes no more after that.
    p.etcd:start(1)
    t.run "sleep 11"
    status(m)
    m:settle()
    got = status(m)
    assert.equal(0, got.rc, got.out)
    assert.equal("", got.err)
    p:assert_sane { m }
  end)
end)

describe("A machine without a name", function()
  it("is told to have one", function()
    local m = pool.machine_of(t.netns("host", { lo = "up" }), { type = "cluster", subnets = { { subnet = "10.5.0.0/16" } },
      etcd = { endpoints = { "http://127.0.0.1:1" } } })
    t.write("/run/spec/hostname", "(none)\n")
    t.run "mount --bind /run/spec/hostname /proc/sys/kernel/hostname"
    local ok, err = pcall(m.fails, m, "ADD", "c1")
    t.run "umount /proc/sys/kernel/hostname"
    assert(ok, err)
    assert.equal(7, err.code)
    says(err.text, "ipam%.node: is missing, and this machine's host name is none: \"%(none%)\"")
    t.same({}, t.files "/var/lib/cni")
  end)
end)

describe("A prefix in etcd", function()
  it("that is another one has nothing of the machine's: no address is given that is not claimed there", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    local address = m:add "c1":match "^[^/]*"
    for _, each in ipairs { m, n } do each.ipam.etcd = t.with(each.ipam.etcd, { prefix = "/other" }) end
    local second = m:add "c2":match "^[^/]*"
    m:settle()
    local there = {}
    for key in pairs(p.etcd:keys "/other/v1/default/blocks/") do there[#there + 1] = key:match "blocks/(.*)$" end
    assert.equal(1, #there)
    assert.equal("confirmed", m:blocks()[there[1]])
    says(status(m).json.msg, "is not this machine's any more")
    m:does("CHECK", "c1")
    m:does("DEL", "c1")
    assert.not_equal(address, second)
    assert.is_true(m:refill "--look")
    assert.equal(0, status(m).rc)
    assert.not_equal(second, n:add "d1":match "^[^/]*")
  end)
end)

describe("A machine's former name", function()
  it("is not released while its containers have addresses of that, and is afterwards", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    m:add "c1"
    n:add "d1"
    m.ipam.node = "n3"
    m:add "c2"
    m:settle()
    m:refill "--look"
    local before = owned(p)
    local out, rc, err = m:tool("release", "pods", "n1", "--data-dir", m.dir)
    assert.equal("", out)
    assert.equal(1, rc)
    says(err, "n1 is a former name of this machine: containers of network pods have %d addresses? ?e?s? ?of 10%.5%.")
    t.same(before, owned(p))
    m:does("DEL", "c1")
    m:does("DEL", "c2")
    out, rc, err = m:tool("release", "pods", "n1", "--data-dir", m.dir)
    assert.equal(0, rc, err)
    says(out, "^free now: 10%.5%.")
    for _, node in pairs(p:owners()) do assert.not_equal("n1", node) end
  end)
end)

describe("A machine that is another one's copy, name and identifier too,", function()
  it("is found out when both ask etcd in turn: one of them gives no more addresses, until it has a name of its own", function()
    local p = pool.new()
    local m = p:machine "n1"
    local n = p:machine("n1", { dataDir = "/var/lib/cni/pools/copy" })
    n.dir = n.ipam.dataDir
    m:add "c1"
    n:add "d1"
    for _ = 1, 3 do
      if not m:refill "--look" then break end
      assert.is_true(n:refill "--look")
    end
    m, n = n, m
    local text = "another machine has the name n1 too, and the same identifier %(/etc/machine%-id%)"
    local err = n:fails("ADD", "d2")
    assert.equal(7, err.code)
    says(err.text, text)
    says(status(n).json.msg, text)
    says(select(2, n:refill "--look"), text)
    assert.is_true(m:refill "--look")
    m:add "c2"
    m:does("STATUS", false, { ifname = false })
    n:does("DEL", "c1")
    n.node, n.ipam.node = "n2", "n2"
    n:add "d3"
    n:settle()
    n:refill "--look"
    n:add "d4"
    p:assert_sane { m, n }
  end)

  it("is not what one is whose file was put back from a copy: it asks what is its own", function()
    local p = pool.new { giveBackAfter = 0 }
    local m = p:machine "n1"
    for i = 1, 14 do m:add("c" .. i) end
    m:settle()
    t.run(("cp -a %s /run/spec/saved"):format(m.dir))
    for i = 1, 14 do m:does("DEL", "c" .. i) end
    assert.is_true(m:refill())
    -- What has come of a request was not known, and so the fence is another one since.
    t.run(("sed -i 's/\"claiming\": *false/\"claiming\": true/' %s/blocks/default/pods.json"):format(m.dir))
    assert.is_true(m:refill())
    t.run(("rm -r %s; mv /run/spec/saved %s"):format(m.dir, m.dir))
    local stale = m:blocks()
    m.ipam.giveBackAfter = 600
    for i = 1, 14 do m:does("DEL", "c" .. i) end
    m:add "c20"
    m:settle()
    assert.is_true(m:refill())
    local lost = 0
    for block in pairs(stale) do lost = lost + (m:blocks()[block] ~= "confirmed" and 1 or 0) end
    assert.equal(1, lost, t.json(stale))
    m:does("DEL", "c20")
    assert.is_true(m:refill())
    m:does("STATUS", false, { ifname = false })
    p:assert_sane { m }
  end)
end)

describe("Addresses that are asked for", function()
  it("and of which one is not to be had are none claimed; so is a gateway, and a second one of a family", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "fd05::/64", blockSize = 124 } } }
    local m, n = p:machine "n1", p:machine "n2"
    local theirs = select(2, n:add "d1")
    m:add "c0"
    local before = owned(p)
    local more = asked "10.5.80.3"
    more.conf = { runtimeConfig = { ips = { theirs } } }
    says(m:fails("ADD", "c1", more).text, "is of the node n2")
    says(m:fails("ADD", "c2", asked "10.5.80.3,10.5.80.4").text, "10%.5%.80%.3 and 10%.5%.80%.4; .*one of each family")
    says(m:fails("ADD", "c3", asked "10.5.0.1").text, "10%.5%.0%.1 is a gateway of the pool default")
    says(m:fails("ADD", "c4", asked "10.5.255.255").text, "not all requested addresses can be given")
    m:settle()
    assert.is_true(m:refill())
    t.same(before, owned(p))
    local four, six = m:add("c5", { args = "IP=10.5.80.3", conf = { runtimeConfig = { ips = { "fd05::7777" } } } })
    t.same({ "10.5.80.3/16", "fd05::7777/64" }, { four, six })
    p:assert_sane { m, n }
  end)

  it("are given where they are set apart for others: to whom they are lent, and to their lender", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/27", blockSize = 28 } } }
    local m, n, poor, other = p:machine "n1", p:machine "n2", p:machine "n3", p:machine "n4"
    m:add "c1"
    n:add "d1"
    assert.equal(11, poor:fails "ADD".code)
    assert.is_true(m:refill "--look")
    local spare = {}
    for key, value in pairs(p:keys()) do
      if key:find "^singles/" and t.decode(value).spare then spare[#spare + 1] = key:match "[^/]*$" end
    end
    table.sort(spare)
    assert.is_true(#spare >= 2, t.json(spare))
    assert.equal(spare[2] .. "/27", m:add("c2", asked(spare[2])))
    assert.equal(spare[1] .. "/27", other:add("o1", asked(spare[1])))
    says(n:fails("ADD", "c9", asked(spare[2])).text, "is of the node n1")
    for _, each in ipairs { m, n, other } do each:settle() end
    p:assert_sane { m, n, other }
    -- Back it is the block's.
    other:does("DEL", "o1")
    m:does("DEL", "c2")
    other:settle()
    m:settle()
    for i = 1, 2 do assert.is_nil(p:keys()["singles/" .. m:state().blocks[1].block .. "/" .. spare[i]]) end
    p.etcd:ctl "e del --prefix /luacni/v1/default/wanted/"
    assert.is_true(m:refill "--look")
    assert.equal(spare[1] .. "/27", m:add("c3", asked(spare[1])))
    p:assert_sane { m, n, other }
  end)
end)

describe("A lock", function()
  it("that another call holds is named, with who holds it, when an address is waited for in vain", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    t.run(("flock -F %s/blocks/default/pods.lock sleep 30 >/dev/null 2>&1 & echo $! >/run/spec/flock; sleep 0.3"):format(m.dir))
    for i = 2, 16 do m:add("c" .. i) end
    local err = m:fails("ADD", "c17")
    t.sh "kill $(cat /run/spec/flock)"
    assert.equal(11, err.code)
    says(err.text, "claim addresses: another call has held the lock /.*/n1/blocks/default/pods%.lock for 10 s")
    says(err.text .. t.json(err), "it is locked by process %d+")
  end)
end)
