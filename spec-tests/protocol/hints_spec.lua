-- SPDX-License-Identifier: MIT
-- Hints say what was seen. Each case has a twin that fails in the same way for another reason, or for
-- none that can be seen, and does not get the hint.

local holder = require "cni.record.holder"
local journal = require "cni.record.journal"
local leases = require "cni.leases"
local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }

local function new(conf, opts)
  return world.new(t.with({ type = "bridge", bridge = "br0", isGateway = true, ipam = v4 }, conf), opts)
end

local function says(text, what) assert.truthy(text:find(what, 1, true), text) end
local function says_not(text, what) assert.falsy(text:find(what, 1, true), text) end

local function script(w, body)
  w.conf = { type = "mine" }
  t.write("/etc/luacni/plugins/mine.lua", "return { add = function(req) " .. body .. " return {} end }")
end

local function count(text, what)
  return select(2, text:gsub(what:gsub("%p", "%%%0"), ""))
end

describe("A call that may not do what it has to", function()
  -- here: a world. Who may not enter its host's namespace is called where the spec is, and gets no further.
  local function called_by(under, here)
    local w = here or new()
    local got = t.cni { verb = "ADD", conf = w:config(), host = not here and w.host or nil, netns = w.pods[1],
      under = under }
    assert.not_equal(0, got.rc)
    return got.out
  end

  it("is told what it may not open for want of which capability, or of descriptors", function()
    t.needs("strace")
    local w = new()
    says(called_by("setpriv --bounding-set=-sys_admin", w), "no CAP_SYS_ADMIN: run as root")
    local out = called_by("setpriv --reuid=65534 --clear-groups", w)
    says(out, "Permission denied")
    says(out, "no CAP_DAC_OVERRIDE: run as root")
    says(called_by("prlimit --nofile=6", w), "this process may have 6 files open (ulimit -n)")
    -- Root with all of that is told none of it.
    out = called_by("strace -qq -o /dev/null -e trace=flock -e inject=flock:error=EACCES", w)
    says(out, "Permission denied")
    says_not(out, "run as root")
    says_not(out, "files open")
  end)

  it("is told which capability is missing", function()
    says(called_by("setpriv --bounding-set=-net_admin --inh-caps=-net_admin"), "no CAP_NET_ADMIN: run as root")
  end)

  it("is not told so when it has it", function()
    local w = new()
    script(w, [[require("cni.fail").kernel("try", "Operation not permitted", 1)]])
    local e = w:fails("ADD", { type = "luacni" })
    says_not(e.text, "root")
  end)
end)

describe("Where IPv6 is switched off", function()
  local off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; " ..
    "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"

  for _, type_name in ipairs { "bridge", "ptp" } do
    it("in the host, the message of a dual-stack " .. type_name .. " says so", function()
      local w = new { type = type_name, ipam = dual }
      w:sh(off)
      w:so_be_it()
      local before = w:picture()
      local e = w:fails("ADD")
      says(e.text, "IPv6 is switched off on ")
      says_not(e.text, "root")
      t.same(before, w:picture())
    end)

    it("in the host, IPv4 alone works: " .. type_name, function()
      local w = new { type = type_name }
      w:sh(off)
      w:so_be_it()
      w:add()
      assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
      w:check()
      w:del()
    end)

    it("in the sandbox, both families work: " .. type_name, function()
      local w = new { type = type_name, ipam = dual }
      w:in_pod(off)
      w:add()
      assert.is_true(t.ping(w.pods[1], "fd01::1"))
      w:check()
      w:del()
    end)
  end

  it("an address that is refused for another reason has no such hint", function()
    local w = new { ipam = { type = "static", addresses = { { address = "ff02::5/64" } } } }
    says_not(w:fails("ADD").text, "switched off")
  end)
end)

describe("A link whose name is taken", function()
  it("by a stranger's is said to be nobody's on record", function()
    local w = new()
    w:in_pod("ip link add eth0 type veth peer name x0")
    local e = w:fails("ADD")
    says(e.text, "eth0 exists already in the sandbox")
    says(e.text, "no attachment on record has made it")
    says_not(e.text, "DEL first")
  end)

  it("by another network's names that attachment", function()
    local w = new()
    w:add()
    local e = w:fails("ADD", { conf = { name = "other", bridge = "br1", ipam = false } })
    says(e.text, "it is eth0 of container c1, network net")
  end)

  it("by the attachment's own says where that is", function()
    local w = new()
    w:add()
    says(w:fails("ADD").text, "in " .. w.pods[1].path)
  end)

  it("in a sandbox for a lent device names the owner too", function()
    local w = new()
    w:sh("ip link add dev0 type veth peer name end0")
    w:add()
    local e = w:fails("ADD", { type = "host-device",
      conf = { name = "lent", type = "host-device", device = "dev0", ipam = false } })
    says(e.text, "it is eth0 of container c1, network net")
  end)

  it("and a device that is lent names who has it", function()
    local w = new({ type = "host-device", device = "dev0", ipam = false }, { pods = 2 })
    w:sh("ip link add dev0 type veth peer name end0")
    w:add()
    says(w:fails("ADD", { id = "c2", pod = 2 }).text, "it is lent to container c1, network net")
    w:del()
    w:sh("ip link del dev0")
    says_not(w:fails("ADD").text, "lent")
  end)
end)

describe("An address in the way", function()
  it("is to be forced away only by plugins that have such a key", function()
    local w = new()
    w:sh("ip link add br0 type bridge; ip addr add 10.1.0.9/16 dev br0")
    says(w:fails("ADD").text, "forceAddress")
    script(w, [[
      local br = req.host:ensure_link { kind = "bridge", name = "br0", up = true }
      req.host:ensure_addr(br, "10.1.0.1/24")]])
    local e = w:fails("ADD", { type = "luacni" })
    says(e.text, "ip addr del 10.1.0.9/16 dev br0")
    says_not(e.text, "forceAddress")
  end)
end)

describe("A setting", function()
  local function set(w, path)
    script(w, ([[req.host:set_sysctl { { "%s", "1" } }]]):format(path))
    return w:fails("ADD", { type = "luacni" }).text
  end

  it("that is misspelt is one that the kernel does not know", function()
    says(set(new(), "net/ipv4/ip_forwrad"), "this kernel knows no such setting")
  end)

  it("of a link that is not there names the link", function()
    local text = set(new(), "net/ipv4/conf/nope0/forwarding")
    says(text, "link nope0 is not there")
    says_not(text, "knows no such setting")
  end)

  it("that is refused has no such hint", function()
    local w = new()
    script(w, [[req.host:set_sysctl { { "net/ipv4/ip_forward", "many" } }]])
    says_not(w:fails("ADD", { type = "luacni" }).text, "such setting")
  end)
end)

describe("A gateway", function()
  local function refused(gw)
    local w = new()
    w:sh("ip link add x0 type veth peer name x1; ip link set x0 up; ip addr add 10.7.0.1/24 dev x0")
    script(w, ([[req.host:add_route { dst = "10.9.0.0/24", gw = "%s", link = "x0" }]]):format(gw))
    return w:fails("ADD", { type = "luacni" }).text
  end

  it("outside the link's networks is named", function()
    says(refused("10.8.0.1"), "no address of x0 is in one network with the gateway 10.8.0.1")
  end)

  it("inside them that is refused has no such hint", function()
    says_not(refused("10.7.0.255"), "in one network")
  end)
end)

describe("CHECK", function()
  it("says once that the interface is gone, and nothing of what was on it", function()
    local w = new({ ipam = dual, isDefaultGateway = true })
    w:add()
    w:in_pod("ip link del eth0")
    local e = w:fails("CHECK")
    says(e.text, "eth0 is not in the sandbox")
    assert.equal(1, count(e.text, "eth0 is not in the sandbox"))
    says_not(e.text, "(gone)")
    says_not(e.text, "10.1.0.2/24")
  end)

  it("says all that differs on one that is there", function()
    local w = new({ ipam = dual })
    w:add()
    w:in_pod("ip addr flush dev eth0 scope global")
    local e = w:fails("CHECK")
    says(e.text, "10.1.0.2/24")
    says(e.text, "fd01::2/64")
  end)
end)

describe("A configuration", function()
  it("of another version is not said to mean 0.1.0", function()
    local w = new()
    local e = w:fails("ADD", { conf = { cniVersion = "9.1.0" } }, 1)
    says(e.text, "1.1.0")
    says_not(e.text, "did you mean")
  end)

  it("without plugins is not told that a list is no list", function()
    local run = require "cni.runtime.config"
    local ok, err = pcall(run.read, '{"cniVersion":"1.1.0","name":"n","plugins":[]}', "x")
    assert.is_false(ok)
    assert.equal("plugins: has no plugin in it", err.msg)
    ok, err = pcall(run.read, '{"cniVersion":"1.1.0","name":"n","plugins":{"a":1}}', "x")
    assert.is_false(ok)
    assert.equal("plugins: an object is not a list of plugins", err.msg)
  end)

  it("gives the prefix length of the address's own family as an example", function()
    for address, example in pairs { ["10.0.0.5"] = "10.0.0.5/24", ["fd00::5"] = "fd00::5/64" } do
      local w = new { ipam = { type = "static", addresses = { { address = address } } } }
      says(w:fails("ADD").text, "such as " .. example)
      t.cleanup()
    end
  end)

  it("that wants VLANs of a bridge is told when the kernel has none", function()
    if t.has("bridge-vlan") then return end
    says(new({ vlan = 5 }):fails("ADD").text, "CONFIG_BRIDGE_VLAN_FILTERING is off")
    t.cleanup()
    says_not(new({ bridge = "b/r" }):fails("ADD").text, "CONFIG")
  end)
end)

describe("A range", function()
  local one = { type = "host-local", subnet = "10.1.0.0/24", rangeStart = "10.1.0.5", rangeEnd = "10.1.0.5" }

  it("that is full says where the leases are, not that somebody will free them", function()
    local w = new({ ipam = one }, { pods = 2 })
    w:add()
    local e = w:fails("ADD", { id = "c2", pod = 2 })
    says(e.text, t.lease_dir .. "/net")
    says_not(e.text, "GC")
  end)

  it("with the address that is asked for taken names the container", function()
    local w = new({ ipam = v4 }, { pods = 2 })
    w:add()
    local e = w:fails("ADD", { id = "c2", pod = 2, args = "IP=10.1.0.2" })
    says(e.text, "it is held by eth0 of container c1")
    e = w:fails("ADD", { id = "c2", pod = 2, args = "IP=10.1.0.1" })
    says_not(e.text, "held by")
  end)
end)

describe("The nearest word", function()
  local nearest = require("cni.protocol.hints").nearest

  it("is one that a word was cut short of, where it is the only one and none is nearer", function()
    assert.equal("integer", nearest("int", { "any", "integer", "list" }))
    assert.equal("max_items", nearest("MAX", { "min_items", "max_items" }))
    assert.is_nil(nearest("add", { "add_link", "add_addr" }))
    assert.is_nil(nearest("in", { "integer" }))
    assert.equal("mut", nearest("mtu", { "mtu_of_it", "mut" }))
  end)
end)

describe("Who holds a lock", function()
  local path = "/run/spec/held"

  -- Run `action` while a process, whose words are given, holds the lock of a file.
  local function while_held(file, action, env)
    t.write(file, "")
    local pid = t.run(([[%s flock -n %s sleep 20 </dev/null >/dev/null 2>&1 & echo $!; sleep 0.3]])
      :format(env or "", file)):match("%d+")
    local ok, err = pcall(action, pid)
    t.sh({ "kill", "--", "-" .. t.run({ "ps", "-o", "pgid=", pid }):match("%d+") })
    t.sh("sleep 0.1")
    os.remove(file)
    assert(ok, err)
  end

  it("is named, with its command", function()
    while_held(path, function(pid)
      local text = holder.of_lock(path)
      says(text, "process " .. pid .. " (flock -n " .. path)
    end)
  end)

  it("is told with the call that it makes", function()
    while_held(path, function()
      says(holder.of_lock(path), ", ADD of eth0 of container c7")
    end, "CNI_COMMAND=ADD CNI_CONTAINERID=c7 CNI_IFNAME=eth0")
  end)

  it("is nobody when nobody does, also of another file", function()
    t.write(path .. "2", "")
    while_held(path, function() assert.is_nil(holder.of_lock(path .. "2")) end)
    assert.is_nil(holder.of_lock(path))
    assert.is_nil(holder.of_lock("/nonexistent"))
  end)

  it("is in the message of a call that waited in vain for an attachment", function()
    local patience = journal.patience
    journal.patience = 100
    local owner = { network = "net", id = "c1", ifname = "eth0" }
    while_held(journal.root .. "/net/c1:eth0/bridge", function(pid)
      local ok, err = pcall(journal.open, owner, "bridge")
      journal.patience = patience
      assert.is_false(ok)
      assert.equal(11, err.code)
      says(err.hint, "process " .. pid)
    end)
  end)

  it("is in the message of a call that waited in vain for the leases", function()
    local timeout = leases.timeout_ms
    leases.timeout_ms = 100
    local spec = { dir = t.lease_dir, network = "net", sets = {} }
    while_held(t.lease_dir .. "/net/lock", function(pid)
      local ok, err = pcall(leases.allocate, spec, { id = "c1", ifname = "eth0" })
      leases.timeout_ms = timeout
      assert.is_false(ok)
      assert.equal(11, err.code)
      says(err.hint, "process " .. pid)
    end)
  end)
end)
