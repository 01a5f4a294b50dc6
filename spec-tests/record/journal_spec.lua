-- SPDX-License-Identifier: MIT
-- What follows from the journal without a line in a plugin: CHECK names what was
-- tampered with, a second ADD is refused, debris is cleared, GC sweeps, and two
-- plugins of one type in a chain each take back their own part.

local neighbours = require "neighbours"
local t = require "support"
local world = require "world"

local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local full = { type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true, ipMasq = true,
  ipam = { type = "host-local", ranges = dual.ranges,
    routes = { { dst = "10.77.0.0/16", gw = "10.1.0.9" } } } }

local with = t.merge

local function new(opts, conf)
  opts = opts or {}
  opts.forwarding = true
  return world.new(with(full, conf), opts)
end

describe("CHECK", function()
  it("passes right after ADD, again and again, and changes nothing", function()
    local w = new()
    w:add()
    local before = w:settled()
    for _ = 1, 3 do w:check() end
    t.same(before, w:picture())
  end)

  it("passes wherever the memory of the process lies", function()
    t.needs("setarch")
    local w = new()
    local result = w:add()
    local line = t.cni_words({ verb = "CHECK", type = "bridge", host = w.host,
      netns = w.pods[1], under = "setarch -R" })
    local out, status = t.sh(line, { stdin = t.conf_bytes(w:config({ prevResult = result })) })
    assert.equal(0, status, out)
  end)

  it("passes on a layer-2 network", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true })
    w:add()
    w:check()
  end)

  it("passes with a /32 address and with a route in another table", function()
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = { type = "static",
      addresses = { { address = "10.3.0.5/32" }, { address = "10.1.0.5/24" } },
      routes = { { dst = "10.8.0.0/16", gw = "10.1.0.1", table = 77 } } } })
    w:add()
    w:check()
  end)

  -- What somebody did, and words of which each has to be in the message.
  local function names(what, command, words, in_pod)
    it("names it when " .. what, function()
      local w = new()
      w:add()
      w:check()
      w:settled()
      local text = command:gsub("PORT", w:port().ifname)
      if in_pod then w:in_pod(text) else w:sh(text) end
      neighbours.so_be_it(w)
      local before = w:picture()
      local e = w:fails("CHECK")
      for _, word in ipairs(words) do
        assert.truthy(e.text:lower():find(word:lower(), 1, true),
          ("no %q in: %s"):format(word, e.text))
      end
      t.same(before, w:picture())
      w:del()
    end)
  end

  names("the pod's link is down", "ip link set eth0 down", { "eth0" }, true)
  names("the pod's link was deleted", "ip link del eth0", { "eth0" }, true)
  names("the pod's MAC was changed", "ip link set eth0 address 0a:00:00:00:00:77",
    { "eth0", "mac" }, true)
  names("the IPv4 address was removed", "ip addr del 10.1.0.2/24 dev eth0",
    { "10.1.0.2" }, true)
  names("the IPv6 address was removed", "ip addr del fd01::2/64 dev eth0",
    { "fd01::2" }, true)
  names("a prefix length was changed", "ip addr del 10.1.0.2/24 dev eth0; " ..
    "ip addr add 10.1.0.2/16 dev eth0", { "10.1.0.2/24" }, true)
  names("the default route was removed", "ip route del default", { "0.0.0.0/0" }, true)
  names("the IPv6 default route was removed", "ip -6 route del default", { "::/0" }, true)
  names("another route was removed", "ip route del 10.77.0.0/16", { "10.77.0.0/16" }, true)
  names("a route has another gateway", "ip route replace 10.77.0.0/16 via 10.1.0.8",
    { "10.77.0.0/16" }, true)
  names("the port was detached from the bridge", "ip link set PORT nomaster", { "br0" })
  names("the port is in another bridge", "ip link add br9 type bridge; " ..
    "ip link set PORT master br9", { "br0" })
  names("the host's end is down", "ip link set PORT down", { "veth" })
  names("the bridge was deleted", "ip link del br0", { "br0" })
  names("the bridge is down", "ip link set br0 down", { "br0" })
  names("the gateway's address was removed", "ip addr del 10.1.0.1/24 dev br0",
    { "10.1.0.1" })
  names("the IPv6 gateway's address was removed", "ip addr del fd01::1/64 dev br0",
    { "fd01::1" })
  names("the masquerade rules were flushed", t.flush, { "masq" })
  names("the lease file was removed", "rm " .. t.lease_dir .. "/net/10.1.0.2",
    { "10.1.0.2" })
  names("the lease is somebody else's", "printf 'x9\\r\\neth0' >" .. t.lease_dir ..
    "/net/10.1.0.2", { "10.1.0.2" })

  local function tolerates(what, command, in_pod)
    it("does not mind when " .. what, function()
      local w = new()
      w:add()
      local text = command:gsub("PORT", w:port().ifname)
      if in_pod then w:in_pod(text) else w:sh(text) end
      w:check()
    end)
  end

  tolerates("the pod has an address more", "ip addr add 10.9.0.1/24 dev eth0", true)
  tolerates("the pod has a route more", "ip route add 10.50.0.0/16 via 10.1.0.1", true)
  tolerates("the pod has a link more", "ip link add x type veth peer name y", true)
  tolerates("the bridge has an address more", "ip addr add 10.99.0.1/24 dev br0")
  tolerates("the bridge has a port more", "ip link add x type veth peer name y; " ..
    "ip link set x master br0")
  tolerates("somebody listens on the bridge", "ip link set br0 promisc on")
  tolerates("another table was added", "nft add table inet other")
  tolerates("the MTU was lowered for all of it by somebody else",
    "ip link set br0 mtu 1500")

  it("without prevResult is a clean error or a pass, no crash", function()
    local w = new()
    w:add()
    local got = w:call("CHECK", { prev = false })
    assert.is_truthy(got.rc == 0 or got.json.code, got.out .. got.err)
  end)

  it("of what was never added fails", function()
    local w = new()
    w:fails("CHECK", { prev = { cniVersion = "1.1.0" } })
  end)

  it("needs version 0.4.0", function()
    local w = new(nil, { cniVersion = "0.3.1" })
    w:add()
    w:fails("CHECK", { prev = false }, 1)
  end)
end)

describe("A second ADD", function()
  it("over a live attachment is an error and changes nothing", function()
    local w = new()
    w:add()
    local before = w:settled()
    local e = w:fails("ADD")
    assert.truthy(e.text:find("c1", 1, true), e.text)
    t.same(before, w:picture())
    w:check()
    assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
  end)

  it("of another interface, container or network is none", function()
    local w = new({ pods = 2 })
    w:add()
    w:add({ ifname = "net1", conf = { isDefaultGateway = false, isGateway = true,
      ipam = dual } })
    w:add({ id = "c2", pod = 2 })
    w:add({ ifname = "net2", conf = { name = "other", bridge = "br2",
      isDefaultGateway = false, ipam = { type = "host-local", subnet = "10.2.0.0/24" } } })
    w:check()
  end)

  it("after the namespace was replaced by one of the same path goes through", function()
    local w = new()
    w:leave_interface()
    local before = w:picture()
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1] = t.netns("pod1")
    t.run("ip link set lo up; ip link set lo down", { host = w.pods[1] })
    w:add()
    w:check()
    -- The lease of the dead one was not kept.
    local leases = 0
    for name in pairs(t.files(t.lease_dir .. "/net")) do
      if name:find("^10%.") then leases = leases + 1 end
    end
    assert.equal(1, leases)
    w:del()
    t.same(before, w:picture())
  end)

  it("over the debris of a killed one cleans up and goes through", function()
    local w = new()
    local before = w:picture()
    local conf = w:config()
    for _, n in ipairs({ 3, 8, 13, 18, 23 }) do
      local line = t.cni_words({ verb = "ADD", type = "bridge", host = w.host,
        netns = w.pods[1], under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = t.conf_bytes(conf) })
      if status ~= 101 then break end
      w:add()
      w:check()
      w:del()
      t.same(before, w:picture())
    end
  end)

  it("over what a killed DEL has left cleans up and goes through", function()
    local w = new()
    local before, times = w:picture(), 0
    for n = 6, 26, 4 do
      w:add()
      local line = t.cni_words({ verb = "DEL", type = "bridge", host = w.host,
        netns = w.pods[1], under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = t.conf_bytes(w:config()) })
      -- One that had not begun has left a live attachment.
      if t.sh("grep -rs leaving /run/luacni/attachments") ~= "" then
        times = times + 1
        w:add()
        w:check()
      end
      w:del()
      t.same(before, w:picture(), n)
      if status ~= 101 then break end
    end
    assert.is_true(times > 1)
  end)

  it("is told from the first while that one still runs", function()
    local w = new()
    -- An IPAM plugin that takes its time holds the first ADD open.
    t.write("/run/spec/bin/slow", "#!/bin/sh\n" ..
      "[ $CNI_COMMAND = ADD ] || exit 0\nsleep 0.5\n" ..
      'echo \'{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.7/24"}]}\'\n')
    t.run("chmod +x /run/spec/bin/slow")
    local conf = t.json(w:config({ ipam = { type = "slow" }, isDefaultGateway = false }))
    t.write("/run/spec/slow.conf", conf)
    local line = t.cni_words({ verb = "ADD", type = "bridge", host = w.host,
      netns = w.pods[1], path = "/run/spec/bin" })
    local out = t.sh(("for i in 1 2; do (%s </run/spec/slow.conf >/dev/null; echo $?) & done; wait")
      :format(line))
    local sum = 0
    for rc in out:gmatch("%d+") do sum = sum + tonumber(rc) end
    assert.equal(1, sum, "one succeeds, one fails: " .. out)
    assert.truthy(t.link(w.pods[1], "eth0"))
    w:del({ path = "/run/spec/bin", conf = { ipam = { type = "slow" },
      isDefaultGateway = false } })
    assert.is_nil(t.link(w.pods[1], "eth0"))
  end)
end)

describe("GC", function()
  local function three()
    local w = new({ pods = 3 })
    for i = 1, 3 do w:add({ id = "c" .. i, pod = i }) end
    return w
  end

  it("takes back what is not listed and leaves what is", function()
    local w = new({ pods = 3 })
    w:add({ id = "c2", pod = 2 })
    local before = w:settled()
    w:add()
    w:add({ id = "c3", pod = 3 })
    w:gc({ { "c2" } })
    t.same(before, w:picture())
    w:check({ id = "c2", pod = 2 })
  end)

  it("compares container ID and interface name", function()
    local w = new()
    w:add()
    local before = w:settled()
    w:add({ ifname = "net1", conf = { isDefaultGateway = false, isGateway = true,
      ipam = dual } })
    w:gc({ { "c1", "eth0" }, { "c2", "net1" } })
    t.same(before, w:picture())
  end)

  it("of everything, with every way to say none", function()
    for _, said in ipairs({ "[]", "null", "absent" }) do
      local w = new({ pods = 2 })
      local before = w:picture()
      w:add()
      w:add({ id = "c2", pod = 2 })
      local text = t.json(w:config())
      if said ~= "absent" then
        text = text:gsub("}$", ',"cni.dev/valid-attachments":' .. said .. "}")
      end
      w:ok("GC", { conf = text })
      t.same(before, w:picture(), said)
      t.cleanup()
    end
  end)

  it("reads the list under its older name too", function()
    local w = new()
    w:add()
    local before = w:settled()
    w:ok("GC", { conf = { ["cni.dev/attachments"] = t.list({ { containerID = "c1",
      ifname = "eth0" } }) } })
    t.same(before, w:picture())
  end)

  it("takes back what is listed but whose namespace is gone", function()
    local w = three()
    t.remove_netns(w.pods[3])
    w.pods[3] = nil
    w:gc({ { "c1" }, { "c2" }, { "c3" } })
    assert.is_nil(world.lease("10.1.0.4"))
    assert.truthy(world.lease("10.1.0.2"))
    w:check()
    w:check({ id = "c2", pod = 2 })
    w:gc({})
    t.same({}, t.snapshot().records)
  end)

  it("leaves other networks alone", function()
    local w = new({ pods = 2 })
    local other = { name = "other", bridge = "br2",
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } }
    w:add({ id = "c2", pod = 2, conf = other })
    local before = w:settled("br2")
    w:add()
    w:gc({})
    t.same(before, w:picture())
    w:check({ id = "c2", pod = 2, conf = other })
  end)

  it("frees leases that no record knows", function()
    local w = new()
    w:add()
    t.write(t.lease_dir .. "/net/10.1.0.50", "old1\r\neth0")
    t.write(t.lease_dir .. "/net/10.1.0.51", "old2")
    w:gc({ { "c1" } })
    assert.is_nil(world.lease("10.1.0.50"))
    assert.is_nil(world.lease("10.1.0.51"))
    assert.truthy(world.lease("10.1.0.2"))
  end)

  it("on a node without anything is content, twice", function()
    local w = new()
    local before = w:picture()
    w:gc({})
    w:gc({ { "c1" } })
    t.same(before, w:picture())
  end)

  it("needs version 1.1.0", function()
    new(nil, { cniVersion = "1.0.0" }):fails("GC", nil, 1)
  end)

  it("followed by the DEL that comes late is fine", function()
    local w = three()
    w:gc({})
    for i = 1, 3 do w:del({ id = "c" .. i, pod = i }) end
    t.same({}, t.snapshot().records)
  end)
end)

describe("The records", function()
  it("are there after ADD, name the attachment, and go with DEL", function()
    local w = new()
    w:add()
    local found
    for name, bytes in pairs(t.files("/run/luacni")) do
      if name:find("net", 1, true) and (name .. bytes):find("c1", 1, true) then found = true end
    end
    assert.is_true(found)
    w:del()
    t.same({}, t.snapshot().records)
  end)

  it("are for root alone", function()
    local w = new()
    w:add()
    assert.equal("", (t.run("find /run/luacni ! -user root -o -perm /077 ! -type d " ..
      "-o -type d -perm /022")))
  end)

  it("that were lost (a wiped /run) do not keep DEL from its work", function()
    local w = new()
    local before, links = w:picture(), #t.ip(w.host, "link show type veth")
    w:add()
    t.run("rm -rf /run/luacni")
    w:del()
    assert.is_nil(t.link(w.pods[1], "eth0"))
    assert.is_nil(world.lease("10.1.0.2"))
    t.same(before.kernel.pod1, w:picture().kernel.pod1)
    assert.equal(links, #t.ip(w.host, "link show type veth"))
    local rules = t.run("nft list ruleset", { host = w.host })
    assert.is_nil(rules:find("10%.1%.0%.2%D"), rules)
  end)

  it("that are nonsense do not stop an ADD or a DEL", function()
    local w = new()
    w:add()
    for name in pairs(t.files("/run/luacni/attachments")) do
      t.write("/run/luacni/attachments/" .. name, "\0garbage{{{\n")
    end
    w:del()
    w:del()
    local got = w:call("ADD")
    assert.is_truthy(got.rc == 0 or got.json, got.out .. got.err)
  end)

  it("that have a bad line, wherever, let DEL take back what is known of them, and what the script would make", function()
    local w = new()
    local before, lines = w:picture(), 1
    local path = "/run/luacni/attachments/net/c1:eth0/bridge"
    for bad = 1, 40 do
      w:add()
      local n = 0
      local text = t.read(path):gsub("[^\n]*\n", function()
        n = n + 1
        return n == bad and '{"kind":\n' or nil
      end)
      lines = n
      if bad > n then break end
      t.write(path, text)
      -- It is valid, and stays as it is.
      local whole = w:picture().kernel
      w:gc { { "c1" } }
      t.same(whole, w:picture().kernel, "line " .. bad)
      w:del()
      t.same(before, w:picture(), "line " .. bad)
      w:del()
    end
    assert.is_true(lines > 5 and lines < 40)
    w:del()
  end)

  it("survive container IDs and networks of any length the specification allows", function()
    local w = new()
    local before = w:picture()
    local id = ("a"):rep(250)
    w:add({ id = id })
    w:check({ id = id })
    w:add({ id = id .. "b", ifname = "net1", conf = { isDefaultGateway = false, ipam = dual } })
    w:del({ id = id })
    w:check({ id = id .. "b", ifname = "net1", conf = { isDefaultGateway = false, ipam = dual } })
    w:del({ id = id .. "b", ifname = "net1", conf = { isDefaultGateway = false, ipam = dual } })
    t.same(before, w:picture())
  end)
end)

describe("Two plugins of one type in a chain", function()
  -- A site's own type that makes one link on the host, named by its configuration.
  local script = [[
    local schema = require "cni.schema"
    return {
      conf = schema.record { link = schema.ifname },
      add = function(req)
        req.host:add_link { name = req.conf.link, kind = "bridge" }
      end,
    }
  ]]

  local function chain()
    t.write("/etc/luacni/plugins/marker.lua", script)
    local w = world.new({ type = "marker" })
    local step = function(link) return { type = "luacni", conf = { link = link } } end
    return w, step
  end

  local prev = { cniVersion = "1.1.0", interfaces = { { name = "eth0",
    sandbox = "/run/netns/pod1" } } }

  it("each take back their own part, in the order of runtimes", function()
    local w, step = chain()
    local before = w:picture()
    w:ok("ADD", { type = "luacni", conf = { link = "one" }, prev = prev })
    w:ok("ADD", { type = "luacni", conf = { link = "two" }, prev = prev })
    assert.truthy(t.link(w.host, "one"))
    assert.truthy(t.link(w.host, "two"))
    w:del(step("two"))
    assert.truthy(t.link(w.host, "one"))
    assert.is_nil(t.link(w.host, "two"))
    w:del(step("two"))
    assert.truthy(t.link(w.host, "one"), "a second DEL took the sibling's")
    w:del(step("one"))
    t.same(before, w:picture())
  end)

  it("and in the other order", function()
    local w, step = chain()
    local before = w:picture()
    w:ok("ADD", { type = "luacni", conf = { link = "one" }, prev = prev })
    w:ok("ADD", { type = "luacni", conf = { link = "two" }, prev = prev })
    w:del(step("one"))
    assert.is_nil(t.link(w.host, "one"))
    assert.truthy(t.link(w.host, "two"))
    w:del(step("two"))
    t.same(before, w:picture())
  end)

  it("begin anew where a DEL was killed", function()
    local w, step = chain()
    local before = w:picture()
    local conf = w:config({ link = "one" })
    for n = 1, 30, t.stride(3) do
      w:ok("ADD", { type = "luacni", conf = { link = "one" }, prev = prev })
      local line = t.cni_words({ verb = "DEL", type = "luacni", host = w.host, netns = w.pods[1],
        under = ("%s %d"):format(t.helper("killat"), n) })
      local _, status = t.sh(line, { stdin = t.conf_bytes(conf) })
      -- Before its first change it had not begun.
      if t.link(w.host, "one") then w:del(step("one")) end
      w:ok("ADD", { type = "luacni", conf = { link = "one" }, prev = prev })
      w:del(step("one"))
      t.same(before, w:picture(), n)
      if status ~= 101 then return end
    end
    error("DEL never came to its end")
  end)

  it("go together with a GC", function()
    local w = chain()
    local before = w:picture()
    w:ok("ADD", { type = "luacni", conf = { link = "one" }, prev = prev })
    w:ok("ADD", { type = "luacni", conf = { link = "two" }, prev = prev })
    w:gc({}, { type = "luacni" })
    t.same(before, w:picture())
  end)
end)

describe("A script that fails half way", function()
  local function site(body)
    t.write("/etc/luacni/plugins/half.lua", "return { add = function(req)\n" .. body ..
      "\nend }\n")
    return world.new({ type = "half" })
  end

  it("leaves nothing of what it had done, and names file and line", function()
    local w = site([[
      req.host:add_link { name = "half0", kind = "bridge" }
      req.host:set_link("half0", { up = true })
      req.host:addrs("half0")
      error("on purpose")]])
    local before = w:picture()
    local e = w:fails("ADD", { type = "luacni" })
    assert.truthy(e.text:find("half.lua:5", 1, true), e.text)
    assert.truthy(e.text:find("on purpose", 1, true), e.text)
    t.same(before, w:picture())
  end)

  it("and one that does not fail keeps it", function()
    local w = site([[
      return { interfaces = { req.host:add_link { name = "half0", kind = "bridge" } } }]])
    w:ok("ADD", { type = "luacni" })
    assert.truthy(t.link(w.host, "half0"))
    w:del({ type = "luacni" })
    assert.is_nil(t.link(w.host, "half0"))
  end)
end)

describe("A GC while an ADD is under way", function()
  local conf = { type = "bridge", bridge = "br0", removeUnused = true,
    ipam = { type = "host-local", subnet = "10.9.0.0/24" } }
  local dir = "/var/lib/cni/networks/spec"

  it("leaves it the address that it has just been given, and takes those of the dead", function()
    local w = world.new(conf, { pods = 1 })
    local shared = t.shared_dir(w.host, "br0")
    t.run("mkdir -p " .. dir .. " " .. shared .. " && "
      .. "printf 'gone\\r\\neth0' > " .. dir .. "/10.9.0.77")
    t.write("/run/spec/conf", t.conf_bytes({ cniVersion = "1.1.0", name = "spec",
      type = "bridge", bridge = "br0", removeUnused = true, ipam = conf.ipam }))
    local add = t.cni_words({ verb = "ADD", type = "bridge", host = w.host, netns = w.pods[1],
      id = "young" })
    local gc = t.cni_words({ verb = "GC", type = "bridge", host = w.host, netns = false,
      id = false, ifname = false })
    -- The ADD has its address, and waits for the bridge that somebody has locked.
    t.sh(([[
      exec 9>%s/lock
      flock 9
      %s </run/spec/conf >/run/spec/added 2>&1 9>&- &
      for i in $(seq 100); do [ -e %s/10.9.0.2 ] && break; sleep 0.1; done
      %s </run/spec/conf 9>&-
      ls %s | grep ^10 >/run/spec/then
      flock -u 9
      wait
    ]]):format(shared, add, dir, gc, dir))
    assert.equal("10.9.0.2\n", t.read("/run/spec/then"))
    assert.truthy(t.read("/run/spec/added"):find("10.9.0.2/24", 1, true), t.read("/run/spec/added"))
    assert.equal("10.9.0.2\n", (t.sh("ls " .. dir .. " | grep ^10")))
    t.sh(gc .. " </run/spec/conf")
    assert.equal("", (t.sh("ls " .. dir .. " | grep ^10")), "a GC after it does take it")
  end)
end)
