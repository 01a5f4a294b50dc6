-- SPDX-License-Identifier: MIT
-- What attachments share, where our own memory of it is not the whole truth: networks with one subnet,
-- hosts that share a /run and hosts that have several, books that are lost, unreadable or of an older
-- program. Whoever goes takes back what is its own, and nobody else notices.
--
-- Seconds a test takes on the second kernel: 25

local cjson = require "cjson"
local t = require "support"
local world = require "world"

local far4, host4 = "192.0.2.2", "192.0.2.1"
local subnet = { type = "host-local", subnet = "10.1.0.0/24" }

local function new(more, opts)
  opts = opts or {}
  opts.far, opts.forwarding = true, true
  -- The rules of all are counted here, so that the neighbours have none.
  opts.neighbours = { masked = false }
  return world.new(t.with({ type = "bridge", bridge = "br0",
    removeUnused = true, isDefaultGateway = true, ipMasq = true,
    ipam = subnet }, more), opts)
end

local other = { name = "other", bridge = "br1" }

local function masqueraded(w, pod) return t.tcp_source(w.pods[pod], w.far, far4) == host4 end

-- The elements of all our sets, "SET ADDRESS OWNER".
local function elements(w)
  local list = {}
  for _, item in ipairs(t.many(w.host, { "nft -j list ruleset" })[1].nftables) do
    local ours = item.set and item.set.table == "luacni" and item.set.elem
    for _, elem in ipairs(ours or {}) do
      local value = elem.elem and elem.elem.val or elem
      list[#list + 1] = ("%s %s %s"):format(item.set.name, type(value) == "table" and value.concat[1] or value,
        elem.elem and elem.elem.comment or "nobody's")
    end
  end
  table.sort(list)
  return list
end

local function rules(w) return t.our_rules(w.host) end

describe("Two networks with one subnet, each on its own bridge,", function()
  for first, second in pairs({ [1] = 2, [2] = 1 }) do
    it(("keep their masquerading when number %d goes first, though addresses are equal"):format(first),
      function()
        local w = new(nil, { pods = 2 })
        local before = w:picture()
        local calls = { { id = "c1", pod = 1 }, { id = "c2", pod = 2, conf = other } }
        w:add(calls[1])
        w:add(calls[2])
        t.same({ "masked4_24 10.1.0.2 net/c1/eth0", "shared4_24 10.1.0.2 other/c2/eth0" }, elements(w))
        w:check(calls[1])
        w:check(calls[2])
        w:del(calls[first])
        w:check(calls[second])
        assert.is_true(masqueraded(w, second))
        t.same({ "masked4_24 10.1.0.2 " .. (second == 1 and "net/c1/eth0" or "other/c2/eth0") }, elements(w))
        w:del(calls[second])
        t.same(before, w:picture())
      end)
  end

  it("and two more, go in any order: who is left is masqueraded, and named, whatever is known of them", function()
    local w = new(nil, { pods = 4 })
    local before = w:picture()
    local calls = {}
    for n = 1, 4 do calls[n] = { id = "c" .. n, pod = n, conf = { name = "n" .. n, bridge = "br" .. n } } end
    for _, order in ipairs { { 2, 1, 4, 3 }, { 3, 4, 2, 1, lost = true }, { 1, 2, 3, 4 } } do
      for n = 1, 4 do w:add(calls[n]) end
      if order.lost then t.run("rm -rf /run/luacni") end
      for gone, n in ipairs(order) do
        w:del(calls[n])
        for later = gone + 1, 4 do w:check(calls[order[later]]) end
        assert.equal(4 - gone, #elements(w))
      end
      -- Without books the bridges stay.
      if order.lost then t.run("for n in 1 2 3 4; do ip link del br$n; done", { host = w.host }) end
      t.same(before, w:picture())
    end
  end)

  it("one within the other's, are each masqueraded towards all but their own", function()
    local wide = { type = "host-local", subnet = "10.1.0.0/16", rangeStart = "10.1.9.2", gateway = "10.1.9.1" }
    local w = new(nil, { pods = 2 })
    for _, order in ipairs { { {}, { id = "c2", pod = 2, conf = { name = "other", bridge = "br1", ipam = wide } } },
      { { id = "c2", pod = 2, conf = { name = "other", bridge = "br1", ipam = wide } }, {} } } do
      for _, call in ipairs(order) do w:add(call) end
      w:sh("ip addr add 10.1.77.1/32 dev up0; ip route add 10.1.77.2/32 dev up0; ip -n far addr add 10.1.77.2/32 dev up0")
      assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
      assert.equal(host4, t.tcp_source(w.pods[2], w.far, far4))
      -- It is in the subnet of the second alone.
      assert.equal(host4, t.tcp_source(w.pods[1], w.far, "10.1.77.2"))
      w:sh("ip neigh add proxy 10.1.77.2 dev br1; echo 1 >/proc/sys/net/ipv4/conf/br1/proxy_arp")
      assert.matches("^10%.1%.9%.", t.tcp_source(w.pods[2], w.far, "10.1.77.2"))
      w:sh("ip addr del 10.1.77.1/32 dev up0; ip -n far addr del 10.1.77.2/32 dev up0; ip route flush 10.1.77.2")
      for _, call in ipairs(order) do w:del(call) end
    end
  end)

  it("have sets that nft can list and read back, whatever the network is called", function()
    local w = new({ name = ("N-a.b_c"):rep(20) .. "end" })
    w:add()
    local listed = rules(w)
    assert.truthy(listed:find('comment "N-a.b_c', 1, true), listed)
    w:sh("nft list table inet luacni >/run/spec/rules; nft delete table inet luacni; nft -f /run/spec/rules")
    assert.equal(listed, rules(w))
    w:check()
    w:del()
    assert.equal("", rules(w))
  end)
end)

describe("With /run/luacni lost,", function()
  it("a DEL takes its own masquerading and no one else's; the last one takes all", function()
    local w = new(nil, { pods = 4 })
    w:add()
    w:add({ id = "c2", pod = 2 })
    w:add({ id = "c3", pod = 3, conf = other })
    t.run("rm -rf /run/luacni")
    w:del()
    assert.equal(2, #elements(w))
    assert.is_true(masqueraded(w, 2))
    w:check({ id = "c2", pod = 2 })
    w:check({ id = "c3", pod = 3, conf = other })
    -- One that is there for the new books comes and goes.
    w:add({ id = "c4", pod = 4 })
    w:del({ id = "c4", pod = 4 })
    assert.is_true(masqueraded(w, 2))
    w:del({ id = "c2", pod = 2 })
    w:check({ id = "c3", pod = 3, conf = other })
    w:del({ id = "c3", pod = 3, conf = other })
    assert.equal("", rules(w))
  end)

  it("an element is left to another container that has the address by now", function()
    local w = new({ ipam = { type = "static", addresses = { { address = "10.1.0.9/24" } } } },
      { pods = 2 })
    w:add()
    w:in_pod("ip link del eth0")
    w:let_go()
    w:add({ id = "c2", pod = 2 })
    t.run("rm -rf /run/luacni")
    w:del({ prev = false })
    assert.is_true(masqueraded(w, 2))
    w:del({ id = "c2", pod = 2 })
    assert.equal("", rules(w))
  end)
end)

describe("A second runtime with a /run of its own in the same network namespace", function()
  local apart = "unshare -m sh -c 'mkdir -p /run/spec/run2 /run/luacni && " ..
    "mount --bind /run/spec/run2 /run/luacni && exec \"$@\"' -"

  local function call(w, verb, c)
    local got = t.cni({ verb = verb, type = "bridge", conf = w:config(c.conf), host = w.host,
      netns = w.pods[c.pod], id = c.id, under = apart })
    assert.equal(0, got.rc, got.out .. got.err)
  end

  for what, conf in pairs({ ["of another network"] = other, ["of the same network"] = {} }) do
    it(what .. " takes its own masquerading, and the first one its own", function()
      local w = new(nil, { pods = 2 })
      local theirs = { id = "c2", pod = 2, conf = conf }
      for _, order in ipairs({ "their DEL first", "our DEL first" }) do
        w:add()
        call(w, "ADD", theirs)
        if order == "their DEL first" then
          call(w, "DEL", theirs)
          assert.is_true(masqueraded(w, 1))
          w:check()
          w:del()
        else
          w:del()
          assert.equal(1, #elements(w))
          call(w, "DEL", theirs)
        end
        assert.equal("", rules(w), order)
      end
      t.run("rm -rf /run/spec/run2")
    end)
  end

  local subnets = { type = "host-local", subnet = "10.2.0.0/24" }
  local masq = { ipMasq = t.has("nft-nat") }
  local vlan = { ipMasq = false, vlan = 100 }

  for what, more in pairs({ ["a bridge"] = masq, ["a VLAN of a bridge"] = vlan }) do
    local on = more.vlan and "br0.100" or "br0"
    local c1, c2 = {}, { id = "c2", pod = 2, conf = {} }

    local function shared_by_both()
      t.needs(more.vlan and "bridge-vlan" or nil)
      local w = new(more, { pods = 3 })
      local before = w:picture()
      w:add(c1)
      call(w, "ADD", c2)
      return w, before
    end

    it("on " .. what .. " that the other one made goes first, and takes nothing", function()
      local w, before = shared_by_both()
      call(w, "DEL", c2)
      w:check(c1)
      assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
      w:del(c1)
      t.run("rm -rf /run/spec/run2")
      t.same(before, w:picture())
    end)

    it("keeps " .. what .. " and the address from the other one that made them, until nobody is left", function()
      local w, before = shared_by_both()
      w:del(c1)
      call(w, "CHECK", c2)
      w:add(c1)
      w:add({ id = "c3", pod = 3 })
      w:gc({ { "c2" } }) -- the leases are of both
      call(w, "CHECK", c2)
      t.same({ "10.1.0.1/24" }, world.addrs(w.host, on))
      assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
      -- Another attachment of the first one's comes and goes, and has nothing to do with that address.
      local c3 = { conf = { name = "third", ipam = subnets } }
      w:add(c3)
      w:del(c3)
      assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
      t.same({ "10.1.0.1/24" }, world.addrs(w.host, on))
      call(w, "DEL", c2)
      w:add(c3)
      w:del(c3)
      t.run("rm -rf /run/spec/run2")
      t.same(before, w:picture())
    end)
  end

  it("keeps the address on a bridge of others while it has a container of that network", function()
    local w = new(masq, { pods = 3 })
    w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none up; " ..
      "ip link add uplink type veth peer name wire; ip link set uplink master br0 up; ip link set wire up")
    local before = w:picture()
    local c1, c2 = {}, { id = "c2", pod = 2, conf = {} }
    w:add(c1)
    call(w, "ADD", c2)
    w:del(c1)
    t.same({ "10.1.0.1/24" }, world.addrs(w.host, "br0"))
    assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
    w:add(c1)
    call(w, "DEL", c2)
    -- Of another network, its container does not count, nor does the administrator's port.
    c2.conf = { name = "other", ipam = subnets }
    call(w, "ADD", c2)
    w:del(c1)
    t.same({ "10.2.0.1/24" }, world.addrs(w.host, "br0"))
    call(w, "DEL", c2)
    t.run("rm -rf /run/spec/run2")
    t.same(before, w:picture())
  end)

  it("is not taken for one when it is another network of the same runtime", function()
    local w = new(masq, { pods = 2 })
    local before = w:picture()
    local c2 = { id = "c2", pod = 2, conf = { name = "other", ipam = subnets } }
    w:add()
    w:add(c2)
    w:del()
    t.same({ "10.2.0.1/24" }, world.addrs(w.host, "br0"))
    w:del(c2)
    t.same(before, w:picture())
  end)
end)

describe("Two hosts that share a /run", function()
  it("have each a bridge of their own, of one name", function()
    local w = new(nil, { pods = 2 })
    local host2 = t.host("host2")
    local before, before2 = w:picture(), t.snapshot({ ns = { host2 } })
    local function second(verb)
      local got = t.cni({ verb = verb, type = "bridge", conf = w:config(), host = host2,
        netns = w.pods[2], id = "c2" })
      assert.equal(0, got.rc, got.out .. got.err)
    end
    w:add()
    second("ADD")
    w:del()
    assert.is_nil(t.link(w.host, "br0"))
    assert.equal("", rules(w))
    t.same({ "10.1.0.1/24" }, world.addrs(host2, "br0"))
    assert.is_true(t.ping(w.pods[2], "10.1.0.1"))
    second("CHECK")
    second("DEL")
    t.same(before2.kernel, t.snapshot({ ns = { host2 } }).kernel)
    t.same(before, w:picture())
  end)
end)

describe("Facts that cannot be read", function()
  local cases = {
    ["are garbage"] = "printf '{\"link\":' >facts",
    ["are of another shape"] = "echo '{\"addrs\":7}' >facts",
    ["are a folder"] = "mkdir facts",
  }
  for what, harm in pairs(cases) do
    it(what .. ": a DEL says so, and goes through when they are back", function()
      local w = new(nil, { pods = 2 })
      w:sh("ip link add br0 type bridge; echo 1 >/proc/sys/net/ipv6/conf/br0/addr_gen_mode")
      local before = w:picture()
      w:add()
      local dir = t.shared_dir(w.host, "br0")
      t.run(("cd %s && mv facts /run/spec/kept && %s"):format(dir, harm))
      local e = w:fails("DEL", nil, 5)
      assert.truthy(e.text:find(dir .. "/facts", 1, true), e.text)
      assert.truthy(w:fails("ADD", { id = "c2", pod = 2 }, 5).text:find("/facts", 1, true))
      t.run(("cd %s && rm -rf facts && mv /run/spec/kept facts"):format(dir))
      w:del()
      w:del({ id = "c2", pod = 2 })
      -- bridge_id and root_id follow the MAC that the kernel gave it.
      t.same(before.records, w:picture().records)
      assert.is_false(t.has_flag(t.link(w.host, "br0"), "UP"))
      t.same({}, world.addrs(w.host, "br0"))
    end)
  end

  it("for want of descriptors: a DEL takes nothing of others, and can be repeated", function()
    local w = new(nil, { pods = 2 })
    local before = w:picture()
    local theirs = { id = "c2", pod = 2, conf = other }
    local failed = 0
    for limit = 3, 24, t.stride(2) do
      w:add()
      w:add(theirs)
      local got = t.cni({ verb = "DEL", type = "bridge", conf = w:config(), host = w.host,
        netns = w.pods[1], under = "prlimit --nofile=" .. limit })
      w:let_go()
      failed = failed + (got.rc ~= 0 and 1 or 0)
      w:check(theirs)
      assert.equal(1, got.rc == 0 and #elements(w) or 1, "limit " .. limit)
      w:del()
      w:del(theirs)
      t.same(before, w:picture(), "limit " .. limit)
    end
    assert.is_true(failed > 3, "the limit was never felt")
  end)
end)

-- Rules changed by somebody else at the worst moment: between a look and a commit.
describe("Masquerading while others change the rules:", function()
  local child = [[
    local netlink = require "netlink"
    local real, armed = netlink.nft, true
    local function interfere(method)
      return function(self, ...)
        local now = armed and when(method, ...)
        if now == "before" then armed = false os.execute(command) end
        local result = table.pack(self.real[method](self.real, ...))
        if now == "after" then armed = false os.execute(command) end
        return table.unpack(result, 1, result.n)
      end
    end
    local proxy = { __close = function(self) self.real:close() end, __index = {} }
    for _, method in ipairs { "get", "dump", "commit", "generation", "leave_open", "close" } do
      proxy.__index[method] = interfere(method)
    end
    netlink.nft = function(ns) return setmetatable({ real = assert(real(ns)) }, proxy) end
    local plans = require "cni.engine.plan"
    local owner = { network = "net", id = "c1", ifname = "eth0" }
    local plan = plans.new("apply", { owner = owner,
      record = { append = function() end, note_undone = function() end } })
    local function add()
      require("cni.masq").add({ host = plan.host, plan = plan, network = "net" },
        { { address = "10.1.0.2/24" } })
      plan:flush()
    end
  ]]

  local function run(w, code)
    t.write("/run/spec/child.lua", code .. child .. "add()\n" ..
      (code:find("undo") and "armed = true; assert(#plan:undo() == 0)\n" or "") ..
      "assert(not armed, 'nobody interfered')")
    t.run({ "env", "LD_PRELOAD=" .. (os.getenv("LD_PRELOAD") or ""), "lua5.4", "/run/spec/child.lua" },
      { host = w.host })
  end

  it("a rule set flushed between making a set and filling it is made again", function()
    local w = new()
    run(w, [[
      command = "nft delete table inet luacni"
      function when(method, batch)
        return method == "commit" and batch[1][1] == "create" and "before"
      end
    ]])
    t.same({ "masked4_24 10.1.0.2 net/c1/eth0" }, elements(w))
    assert.truthy(rules(w):find("masquerade", 1, true))
  end)

  it("a set that somebody fills while it is about to be taken out stays", function()
    local w = new()
    run(w, [[ -- undo
      local count = 0
      command = "nft add element inet luacni masked4_24 { 10.1.0.7 . 10.1.0.0 }"
      function when(method, batch)
        count = count + (method == "dump" and batch == "rule" and 1 or 0)
        return method == "commit" and batch[#batch][2] == "table" and batch[#batch][1] == "del"
          and "before"
      end
    ]])
    t.same({ "masked4_24 10.1.0.7 nobody's" }, elements(w))
  end)

  it("a set that somebody makes beside it is not made twice, nor its rule", function()
    local w = new()
    w:add({ conf = { ipMasq = true } })
    local whole = rules(w)
    w:del()
    t.write("/run/spec/rules", (whole:gsub("elements = {[^}]*}", "")))
    run(w, [[
      command = "nft -f /run/spec/rules"
      function when(method, batch)
        return method == "commit" and batch[1][2] == "table" and "before"
      end
    ]])
    local _, count = rules(w):gsub("masquerade\n?", "")
    local _, before = whole:gsub("masquerade\n?", "")
    assert.equal(before, count)
  end)
end)

-- Versions before: what they called the set of 10.1.0.0/24, the mark of its rule, and whether steps named the set.
local eras = {
  ["had a set for each subnet of a network"] = { set = "masq_10.1.0.0/24_net", mark = "masq_10.1.0.0/24_net", named = true },
  ["had one set for a subnet"] = { set = "masq_10.1.0.0/24", mark = "10.1.0.0/24" },
}

for what, era in pairs(eras) do describe("An attachment that was made when masquerading " .. what, function()
  -- As the program wrote it down then.
  local function grow_old(w)
    local base = "/run/luacni/attachments/"
    local group = t.shared_dir(w.host, "nft:luacni.masked")
    local old = group:gsub("nft:luacni%.masked", "nft:masq")
    for name, bytes in pairs(t.files(base)) do
      local lines = {}
      for line in bytes:gmatch("[^\n]+") do
        local step = cjson.decode(line)
        if step.kind == "elements" then
          local address = { address = "10.1.0.2", subnet = "10.1.0.0/24", family = "inet", set = era.named and era.set or nil }
          step.kind, step.want = "masq", { addresses = { address }, group = era.named and old:match "[^/]*$" or nil }
        end
        if step.want and not era.named then step.want.group = nil end
        lines[#lines + 1] = cjson.encode(step) .. "\n"
      end
      t.write(base .. name, table.concat(lines))
    end
    t.run(("cd /run/luacni/shared; mv %s %s; mv %s/masked4_24 %s/%s"):format(group, old, old, old, era.mark:gsub("/", ",")))
    if not era.named then
      t.run(([[cd /run/luacni/shared; mv %s br0; mv %s nft:masq
        echo '{"addrs":{"10.1.0.0/24":true},"removed":{}}' >nft:masq/facts]]):format(t.shared_dir(w.host, "br0"), old))
    end
    t.run("nft delete table inet luacni; nft -f -", { host = w.host, stdin = ([[table inet luacni {
      set SET { type ipv4_addr; elements = { 10.1.0.2 comment "net/c1/eth0" } }
      chain postrouting {
        type nat hook postrouting priority 100
        ip daddr 224.0.0.0/4 return comment "224.0.0.0/4"
        ip6 daddr ff00::/8 return comment "ff00::/8"
        ip saddr @SET ip daddr != 10.1.0.0/24 masquerade comment "MARK"
      }
    }]]):gsub("SET", era.set):gsub("MARK", (era.mark)) })
  end

  it("passes CHECK, and its DEL leaves nothing", function()
    local w = new()
    local before = w:picture()
    w:add()
    grow_old(w)
    t.same({ era.set .. " 10.1.0.2 net/c1/eth0" }, elements(w))
    w:check()
    assert.is_true(masqueraded(w, 1))
    w:del()
    t.same(before, w:picture())
  end)

  it("lives beside new ones; whichever goes first takes nothing from the other", function()
    for first, second in pairs({ c1 = "c2", c2 = "c1" }) do
      local w = new(nil, { pods = 2 })
      local before = w:picture()
      local calls = { c1 = {}, c2 = { id = "c2", pod = 2 } }
      w:add()
      grow_old(w)
      w:add(calls.c2)
      w:check()
      w:check(calls.c2)
      w:del(calls[first])
      w:check(calls[second])
      assert.is_true(masqueraded(w, second == "c1" and 1 or 2))
      w:del(calls[second])
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("is found by a DEL without the record", function()
    local w = new()
    w:add()
    grow_old(w)
    t.run("rm -rf /run/luacni")
    w:del()
    assert.equal("", rules(w))
  end)
end) end

describe("A bridge that somebody removes while an ADD is under way", function()
  it("is made anew or the ADD's error, whenever that is", function()
    t.needs("strace")
    local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = subnet }, { neighbours = false })
    local before, went, n = w:picture(), 0, 0
    repeat
      n = n + 1
      w:sh("ip link add br0 type bridge; ip link set br0 addrgenmode none up; (sleep 0.2; ip link del br0) >/dev/null 2>&1 &")
      local got = t.cni { verb = "ADD", conf = w:config(), host = w.host, netns = w.pods[1],
        under = ("strace -qq -o /run/spec/calls -e trace=sendto -e inject=sendto:delay_enter=400000:when=%d"):format(n) }
      assert.falsy(got.out:find(".lua:", 1, true), got.out)
      if got.rc == 0 then went = went + 1 else assert.truthy(got.out:find("br0", 1, true), got.out) end
      w:del({ prev = false })
      w:sh("sleep 0.2; ip link del br0 2>/dev/null || true")
      t.same(before, w:picture(), "delayed at " .. n)
      local _, calls = t.read("/run/spec/calls"):gsub("sendto", "")
    until calls < n
    assert.is_true(n > 4 and went > 0)
  end)
end)
