-- SPDX-License-Identifier: MIT
-- The type cluster: addresses of a pool that several machines share, as containers get them.

local pool = require "pool_world"
local t = require "support"

after_each(function()
  pool.stop_all()
  t.cleanup()
end)

local dual = { subnets = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "fd05::/64", blockSize = 124 } } }

local function ends(text, pattern)
  assert.truthy(tostring(text):find(pattern), ("%s: %s"):format(tostring(text), pattern))
end

-- The block of 16 that an address is of.
local function block_of(address)
  local a, b, c, d = address:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)"
  return ("%d.%d.%d.%d/28"):format(a, b, c, d // 16 * 16)
end

describe("An address of a pool", function()
  it("comes of a block that the first ADD claims, with the pool's prefix and gateway; DEL gives it back, twice is fine", function()
    local p = pool.new(dual)
    local m = p:machine "n1"
    local got = m:does("ADD", "c1").json
    assert.equal(2, #got.ips)
    ends(got.ips[1].address, "^10%.5%.%d+%.%d+/16$")
    ends(got.ips[2].address, "^fd05::.*/64$")
    assert.equal("10.5.0.1", got.ips[1].gateway)
    assert.equal("fd05::1", got.ips[2].gateway)
    local owners, count = p:owners(), 0
    for _, node in pairs(owners) do
      assert.equal("n1", node)
      count = count + 1
    end
    assert.equal(2, count)
    assert.equal("n1", owners[block_of(got.ips[1].address)])
    local ids = {}
    for _, id in pairs(m:leases()) do ids[#ids + 1] = id end
    t.same({ "c1", "c1" }, ids)
    m:does("CHECK", "c1", { conf = { prevResult = got } })
    m:does "DEL"
    m:does "DEL"
    t.same({}, m:leases())
    p:assert_sane { m }
  end)

  it("is not given twice, and none of those that are the network's, the gateway's, or excluded", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/27", blockSize = 28, gateway = "10.5.0.17" } },
      exclude = { "10.5.0.3", "10.5.0.8/30" } }
    local m, seen = p:machine "n1", {}
    for i = 1, 32 - 3 - 5 do
      local address = m:add("c" .. i):match "^[^/]*"
      assert.is_nil(seen[address], address)
      seen[address] = true
    end
    for _, last in ipairs { 0, 3, 8, 9, 10, 11, 17, 31 } do assert.is_nil(seen["10.5.0." .. last]) end
    local err = m:fails("ADD", "more")
    assert.equal(11, err.code)
    ends(err.text, "all 2 are claimed")
  end)

  it("is of a network of its block alone where each block has its gateway", function()
    local p = pool.new { gatewayPerBlock = true }
    local m, seen = p:machine "n1", 0
    for i = 1, 13 do
      local got = m:does("ADD", "c" .. i).json.ips[1]
      local block = block_of(got.address)
      ends(got.address, "/28$")
      local base = tonumber(block:match "(%d+)/28$")
      assert.equal(block:gsub("%d+/28$", base + 1), got.gateway)
      local last = tonumber(got.address:match "(%d+)/28$")
      assert.is_true(last > base + 1 and last < base + 15)
      seen = seen + 1
    end
    assert.equal(13, seen)
  end)

  it("is missed by CHECK when its lease is gone, and freed by GC when nobody names its container", function()
    local p = pool.new()
    local m = p:machine "n1"
    local address = m:add "c1":match "^[^/]*"
    local other = m:add "c2":match "^[^/]*"
    m:does("CHECK", "c1")
    t.run(("rm %s/leases/default/pods/%s"):format(m.dir, address))
    ends(m:fails("CHECK", "c1").text, "is leased to this attachment")
    m:does("CHECK", "c2")
    m:does("GC", false, { ifname = false, conf = { ["cni.dev/valid-attachments"] = t.list {
      { containerID = "c2", ifname = "eth0" } } } })
    t.same({ [other] = "c2" }, m:leases())
    m:does("GC", false, { ifname = false, conf = { ["cni.dev/valid-attachments"] = t.list {} } })
    t.same({}, m:leases())
  end)

  it("asks nobody while there are addresses: no connection, no program, the next block off its way", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    local connections = p.etcd:count()
    for i = 2, 11 do m:add("c" .. i) end
    t.write("/run/spec/conf", t.json(m:conf()))
    t.run(("strace -f -qq -e trace=connect,sendto,execve -o /run/spec/calls %s </run/spec/conf"):format(t.cni_words {
      verb = "ADD", type = "cluster", id = "c12", netns = "/run/none" }), { host = p.host })
    local calls = t.read "/run/spec/calls"
    assert.equal(2, select(2, calls:gsub("execve", "")), "env, and the plugin: " .. calls)
    assert.is_nil(calls:find("AF_INET", 1, true), calls)
    assert.equal(0, connections())
    -- The twelfth of thirteen leaves less than a quarter: the next one starts what claims.
    m:add "c13"
    m:settle()
    assert.is_true(connections() > 0)
    p:assert_sane { m }
  end)

  it("waits for nobody when little is left: with an etcd that says nothing it comes as soon", function()
    local p = pool.new()
    local m = p:machine "n1"
    m:add "c1"
    p.etcd:pause(1)
    local clock = require("netlink").sys.clock
    local began = clock()
    for i = 2, 16 do m:add("c" .. i) end
    assert.is_true(clock() - began < 5, clock() - began)
    p.etcd:resume(1)
    m:settle()
    assert.is_true(m:refill())
    p:assert_sane { m }
  end)

  it("is to be had as long as there are blocks, when etcd is down; then the error names it, and so does STATUS", function()
    local p = pool.new()
    local m = p:machine "n1"
    for i = 1, 3 do m:add("c" .. i) end
    p.etcd:stop(1)
    m:does("STATUS", false, { ifname = false })
    for i = 4, 16 do m:add("c" .. i) end
    m:settle()
    local err = m:fails("ADD", "c17")
    assert.equal(11, err.code)
    ends(err.text, "no address of the pool default left.*127%.0%.0%.1:2379: Connection refused")
    err = m:fails("STATUS", false, { ifname = false })
    assert.equal(50, err.code)
    ends(err.text, "127%.0%.0%.1:2379")
    m:does("DEL", "c5")
    m:add "c17"
    p.etcd:start(1)
    m:add "c18"
    m:does("STATUS", false, { ifname = false })
    p:assert_sane { m }
  end)

  it("is refused to 20 at once within their time when etcd says nothing", function()
    local p = pool.new()
    local m = p:machine "n1"
    p.etcd:pause(1)
    t.write("/run/spec/conf", t.json(m:conf()))
    local script = { "mkdir -p /run/spec/many" }
    for i = 1, 20 do
      script[i + 1] = t.cni_words { verb = "ADD", type = "cluster", id = "c" .. i, netns = "/run/none" }
        .. " </run/spec/conf >/run/spec/many/" .. i .. " &"
    end
    local began = require("netlink").sys.clock()
    t.run(table.concat(script, "\n") .. "\nwait", { host = p.host, timeout = 60 })
    assert.is_true(require("netlink").sys.clock() - began < 20)
    for i = 1, 20 do assert.equal(11, t.decode(t.read("/run/spec/many/" .. i)).code) end
    p.etcd:resume(1)
    for i = 1, 20 do m:add("c" .. i) end
    p:assert_sane { m }
  end)

  it("comes of a file where there is no etcd, and of what the file says by then", function()
    local p = pool.new()
    local m = p:machine("n1", { etcd = false, blocksFile = "/run/spec/blocks" })
    m.ipam.etcd = nil
    local err = m:fails "ADD"
    assert.equal(11, err.code)
    ends(err.text, "/run/spec/blocks.*one a line")
    t.write("/run/spec/blocks", "# of this machine\n10.5.7.0/28\n10.5.9.0\n")
    err = m:fails "ADD"
    assert.equal(7, err.code)
    ends(err.text, "/run/spec/blocks:3: \"10%.5%.9%.0\" is no network")
    t.write("/run/spec/blocks", "10.5.7.0/28\n")
    for i = 1, 16 do ends(m:add("c" .. i), "^10%.5%.7%.%d+/16$") end
    ends(m:fails("ADD", "c17").text, "full: 16 of 16")
    t.write("/run/spec/blocks", "10.5.7.0/28\n10.5.9.0/28\n")
    ends(m:add "c17", "^10%.5%.9%.%d+/16$")
    assert.same({}, p:keys())
  end)
end)

describe("An address that is asked for", function()
  local function args(address) return { args = "IP=" .. address } end

  it("is given of an own block, and claimed alone where it is of nobody's; then it is back for others after DEL", function()
    local p = pool.new()
    local m, n = p:machine "n1", p:machine "n2"
    local a, b, c, d = m:add "c1":match "^(%d+)%.(%d+)%.(%d+)%.(%d+)"
    local own = ("%d.%d.%d.%d"):format(a, b, c, d // 16 * 16 + 9)
    assert.equal(own .. "/16", m:add("c2", args(own)))
    assert.equal("10.5.250.7/16", m:add("c3", args "10.5.250.7"))
    assert.equal("10.5.250.8/16", m:add("c4", { conf = { args = { cni = { ips = { "10.5.250.8" } } } } }))
    assert.equal("10.5.250.9/16", m:add("c5", { conf = { runtimeConfig = { ips = { "10.5.250.9/16" } } } }))
    p:assert_sane { m }
    local err = n:fails("ADD", "c1", args "10.5.250.7")
    ends(err.text, "10%.5%.250%.7 is of the node n1")
    m:does("DEL", "c3")
    m:settle()
    assert.equal("10.5.250.7/16", n:add("c1", args "10.5.250.7"))
    p:assert_sane { m, n }
    for _, id in ipairs { "c1", "c2", "c4", "c5" } do m:does("DEL", id) end
    m:settle()
    assert.is_true(m:refill())
    p:assert_sane { m, n }
  end)

  it("is refused where it is of another's block, excluded, or of no subnet", function()
    local p = pool.new { exclude = { "10.5.200.0/24" } }
    local m, n = p:machine "n1", p:machine "n2"
    local theirs = m:add "c1":match "^[^/]*":gsub("%d+$", function(last) return last // 16 * 16 + 11 end)
    n:add "c1"
    ends(n:fails("ADD", "c2", args(theirs)).text, "is of the node n1")
    ends(n:fails("ADD", "c2", args "10.5.200.9").text, "not all requested addresses can be given: 10%.5%.200%.9")
    ends(n:fails("ADD", "c2", args "10.6.0.9").text, "not all requested addresses can be given: 10%.6%.0%.9")
    ends(m:fails("ADD", "c2", args(m:add "c3":match "^[^/]*")).text, "leased already")
    p:assert_sane { m, n }
  end)

  it("is a hole in the block that somebody else claims later", function()
    local p = pool.new { subnets = { { subnet = "10.5.0.0/27", blockSize = 28 } } }
    local m, n = p:machine "n1", p:machine "n2"
    local is_first = block_of(m:add "c0") == "10.5.0.0/28"
    local address, rest = is_first and "10.5.0.21/27" or "10.5.0.5/27", is_first and 14 or 13
    assert.equal(address, m:add("c1", args(address)))
    for i = 1, rest do assert.not_equal(address, n:add("c" .. i)) end
    n:settle()
    assert.equal(11, n:fails("ADD", "more").code)
    p:assert_sane { m, n }
    m:does "DEL"
    m:settle()
    assert.is_true(n:refill "--look" or true)
    assert.equal(address, n:add "more")
    p:assert_sane { m, n }
  end)
end)

describe("A pool", function()
  it("is chosen by the pod's namespace and the node's labels, once for each attachment", function()
    local p = pool.new()
    local m = p:machine("n1", { labelsFile = "/run/spec/labels", pools = {
      { name = "web", subnets = { { subnet = "10.6.0.0/24", blockSize = 28 } }, namespaces = { "web-*" } },
      { name = "zone", subnets = { { subnet = "10.7.0.0/24", blockSize = 28 } }, nodeLabels = { ["x/zone"] = "a" } },
      { name = "rest", subnets = { { subnet = "10.8.0.0/24", blockSize = 28 } } } } })
    m.ipam.subnets = nil
    local function of(namespace) return { args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=" .. namespace } end
    ends(m:add("c1", of "web-front"), "^10%.6%.")
    ends(m:add("c2", of "kube-system"), "^10%.8%.")
    t.write("/run/spec/labels", "kubernetes.io/hostname=n1\nx/zone=a\n")
    ends(m:add("c3", of "kube-system"), "^10%.7%.")
    for i = 1, 3 do m:does("CHECK", "c" .. i, of(i == 1 and "web-front" or "kube-system")) end
    assert.equal("n1", (function()
      for key, value in pairs(p:keys "zone") do
        if key:find "^blocks/" then return t.decode(value).node end
      end
    end)())
    for i = 1, 3 do m:does("DEL", "c" .. i) end
    for _, name in ipairs { "web", "zone", "rest" } do t.same({}, m:leases(name)) end
    m.ipam.pools[3].nodeLabels = { nowhere = "x" }
    os.remove "/run/spec/labels"
    local err = m:fails("ADD", "c4", of "kube-system")
    assert.equal(7, err.code)
    ends(err.text, "none is for this node and this pod")
  end)

  it("is divided alike by all machines: who has it otherwise is told", function()
    local p = pool.new()
    p:machine "n1":add "c1"
    for _, subnets in ipairs { { { subnet = "10.5.0.0/16", blockSize = 26 } }, { { subnet = "10.5.0.0/17" } } } do
      local err = p:machine("n2", { subnets = subnets }):fails "ADD"
      assert.equal(7, err.code)
      ends(err.text, "the pool default has 10%.5%.0%.0/16 with blocks of /28")
    end
    -- One that has more, or less of it, is no other.
    local more = { { subnet = "10.5.0.0/16", blockSize = 28 }, { subnet = "fd05::/64" } }
    assert.equal(2, select("#", p:machine("n3", { subnets = more }):add()))
    p:machine "n4":add()
    p:machine("n5", { subnets = { more[2] } }):add()
    p:owners()
  end)

  for what, case in pairs {
    ["no etcd and no file"] = { { etcd = false }, "ipam%.etcd.*blocksFile" },
    ["both"] = { { blocksFile = "/run/spec/blocks" }, "ipam%.etcd.*blocksFile" },
    ["no subnet"] = { { subnets = {} }, "ipam%.subnets" },
    ["subnets that overlap"] = { { subnets = { { subnet = "10.5.0.0/16" }, { subnet = "10.5.9.0/24" } } },
      "subnets%[1%]%.subnet.*overlaps 10%.5%.0%.0/16" },
    ["blocks that are larger than it"] = { { subnets = { { subnet = "10.5.0.0/24", blockSize = 20 } } }, "from /24 to /30" },
    ["blocks of one address"] = { { subnets = { { subnet = "10.5.0.0/24", blockSize = 32 } } }, "from /24 to /30" },
    ["a gateway of another family"] = { { subnets = { { subnet = "10.5.0.0/24", gateway = "fd05::1" } } }, "another family" },
    ["an exclusion that is none"] = { { exclude = { "10.5.0" } }, "exclude%[0%]" },
    ["a name with a slash"] = { { pool = "a/b" }, "is no name" },
    ["a node with a slash"] = { { node = "../n1" }, "is no name" },
    ["a mark of nothing"] = { { lowWater = 0 }, "lowWater" },
    ["a folder that depends on where one is"] = { { dataDir = "pools" }, "ipam%.dataDir" },
    ["no password where the file says"] = { { etcd = { endpoints = { "http://127.0.0.1:1" }, user = "u",
      passwordFile = "/run/spec/none" } }, "passwordFile" },
  } do
    it("is refused with " .. what, function()
      local m = pool.machine_of(t.netns("host", { lo = "up" }), t.with({ type = "cluster", node = "n1",
        subnets = { { subnet = "10.5.0.0/16" } }, etcd = { endpoints = { "http://127.0.0.1:1" } } }, case[1]))
      local err = m:fails "ADD"
      assert.equal(7, err.code, err.text)
      ends(err.text, case[2])
      t.same({}, t.files "/var/lib/cni")
      m:does "DEL"
    end)
  end
end)

describe("An etcd", function()
  for what, opts in pairs {
    ["of three members, one of them dead"] = { members = 3 },
    ["with certificates of both sides"] = { client_certs = true },
    ["with users"] = { user = "luacni", password = "s3cret", prefix = "/luacni/" },
  } do
    it(what .. " serves", function()
      local p = pool.new(nil, opts)
      if opts.members then p.etcd:stop(1) end
      local m = p:machine "n1"
      for i = 1, 20 do m:add("c" .. i) end
      m:settle()
      assert.is_true(m:refill())
      p:assert_sane { m }
      if opts.members then p.etcd:stop(2) end
      local broken = p:machine("n2", { etcd = t.with(m.ipam.etcd, { password = opts.user and "another",
        caFile = opts.client_certs and false }) })
      if opts.client_certs then broken.ipam.etcd.caFile = nil end
      ends(broken:fails "ADD".text, opts.members and "no endpoint has given an answer"
        or opts.user and "luacni" or "certificate")
    end)
  end
end)
