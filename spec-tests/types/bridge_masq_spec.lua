-- SPDX-License-Identifier: MIT
-- ipMasq of plugin `bridge`, as the world behind the host sees it: who is hidden
-- behind the host's address, who is not, and what it costs in rules.

local t = require "support"
local world = require "world"

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }
local dual = { type = "host-local",
  ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } }
local far4, far6 = "192.0.2.2", "2001:db8::2"
local host4, host6 = "192.0.2.1", "2001:db8::1"

local function new(conf, opts)
  local full = { type = "bridge", bridge = "br0", removeUnused = true, isDefaultGateway = true, ipMasq = true,
    ipam = dual }
  for key, value in pairs(conf or {}) do full[key] = value or nil end
  opts = opts or {}
  opts.far, opts.forwarding = true, true
  -- The rules of all are counted here, so that the neighbours have none.
  opts.neighbours = { masked = false }
  return world.new(full, opts)
end

-- How many there are of each kind that are ours.
local function kinds(ns)
  local count = { rule = 0, element = 0, set = 0, chain = 0, table = 0, map = 0 }
  for _, item in ipairs(t.many(ns, { "nft -j list ruleset" })[1].nftables) do
    for kind, object in pairs(item) do
      local ours = kind == "table" and object.name == "luacni" or object.table == "luacni"
      if ours and count[kind] then count[kind] = count[kind] + 1 end
      if ours and (kind == "set" or kind == "map") then
        count.element = count.element + #(object.elem or {})
      end
    end
  end
  return count
end

describe("ipMasq", function()
  it("hides the pod behind the host's address, both families", function()
    local w = new()
    w:add()
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
    assert.equal(host6, t.tcp_source(w.pods[1], w.far, far6))
  end)

  it("is not done without ipMasq", function()
    local w = new({ ipMasq = false })
    w:add()
    assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.far, far4))
    assert.equal("fd01::2", t.tcp_source(w.pods[1], w.far, far6))
    assert.equal(0, kinds(w.host).rule)
  end)

  it("is not done for a neighbour without it on the same bridge", function()
    local w = new(nil, { pods = 2 })
    w:add()
    w:add({ id = "c2", pod = 2, conf = { ipMasq = false } })
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
    assert.equal("10.1.0.3", t.tcp_source(w.pods[2], w.far, far4))
    assert.equal("fd01::3", t.tcp_source(w.pods[2], w.far, far6))
  end)

  it("spares the pod's own subnet, also when the packets go through the host", function()
    -- Two bridges share one subnet; the host routes a single address to the other.
    local w = new({ ipam = { type = "host-local", ranges = {
      { { subnet = "10.1.0.0/16", rangeStart = "10.1.0.2", rangeEnd = "10.1.0.9",
        gateway = "10.1.0.1" } } } } })
    w:add()
    w:sh([[ip addr add 10.1.9.1/32 dev up0; ip route add 10.1.9.2/32 dev up0
      ip neigh add proxy 10.1.9.2 dev br0; echo 1 >/proc/sys/net/ipv4/conf/br0/proxy_arp
      ip -n far addr add 10.1.9.2/32 dev up0]])
    assert.equal("10.1.0.2", t.tcp_source(w.pods[1], w.far, "10.1.9.2"))
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
  end)

  it("spares multicast, both families", function()
    local w = new()
    w:add()
    local text = t.run("nft list ruleset", { host = w.host })
    assert.truthy(text:find("224.0.0.0/4", 1, true), text)
    assert.truthy(text:find("ff00::/8", 1, true), text)
  end)

  it("ends with the attachment", function()
    local w = new(nil, { pods = 2 })
    w:add({ id = "c2", pod = 2 })
    local before = w:picture()
    w:add()
    w:del()
    t.same(before, w:picture())
    assert.equal(host4, t.tcp_source(w.pods[2], w.far, far4))
    w:del({ id = "c2", pod = 2 })
    assert.equal(0, kinds(w.host).element)
  end)

  it("does not fall on the next owner of the address", function()
    local w = new({ ipam = { type = "host-local", subnet = "10.1.0.0/24",
      rangeStart = "10.1.0.5", rangeEnd = "10.1.0.5" } }, { pods = 2 })
    w:add()
    w:del()
    w:add({ id = "c2", pod = 2, conf = { ipMasq = false } })
    assert.equal("10.1.0.5", t.tcp_source(w.pods[2], w.far, far4))
  end)

  it("ends when the namespace is gone", function()
    local w = new()
    local before = w:picture()
    w:add()
    t.remove_netns(w.pods[1])
    w.pods[1], before.kernel.pod1 = nil, nil
    w:del({ pod = "/run/netns/pod1", prev = false })
    t.same(before, w:picture())
  end)

  it("costs no further rule, chain or set for further containers", function()
    local w = new(nil, { pods = 4 })
    w:add()
    local one = kinds(w.host)
    for i = 2, 4 do w:add({ id = "c" .. i, pod = i }) end
    local four = kinds(w.host)
    assert.equal(one.rule, four.rule)
    assert.equal(one.chain, four.chain)
    assert.equal(one.set, four.set)
    assert.equal(one.map, four.map)
    assert.is_true(four.element >= one.element + 6)
  end)

  it("needs no second table for a second network", function()
    local w = new(nil, { pods = 2 })
    w:add()
    local one = kinds(w.host)
    w:add({ id = "c2", pod = 2, conf = { name = "other", bridge = "br1",
      ipam = { type = "host-local", subnet = "10.2.0.0/24" } } })
    assert.equal(one.table, kinds(w.host).table)
    assert.equal(host4, t.tcp_source(w.pods[2], w.far, far4))
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
  end)

  it("leaves rules of others alone", function()
    local w = new()
    w:sh([[nft 'add table inet mine
      add chain inet mine c { type filter hook forward priority 0; }
      add rule inet mine c ip saddr 10.1.0.0/24 counter']])
    local before = w:picture()
    w:add()
    w:del()
    t.same(before, w:picture())
  end)

  it("works beside iptables rules", function()
    t.needs("iptables")
    local w = new()
    w:sh("iptables -t nat -A POSTROUTING -s 172.31.0.0/16 -j MASQUERADE")
    w:so_be_it()
    local before = w:picture()
    w:add()
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
    w:del()
    t.same(before, w:picture())
  end)

  it("without IPAM means nothing", function()
    local w = new({ ipam = false, isDefaultGateway = false })
    w:add()
    assert.equal(0, kinds(w.host).element)
    w:del()
  end)
end)

describe("A set of somebody else's", function()
  local set = "masked4_24"

  local function with_set(key_type, element, rule)
    local w = new({ ipam = v4 })
    w:sh(("nft 'add table inet luacni; add set inet luacni %s { type %s; elements = { %s }; }'")
      :format(set, key_type, element))
    if rule then w:sh(("nft 'add chain inet luacni c; add rule inet luacni c %s'"):format(rule)) end
    return w, w:picture()
  end

  it("of the name that ours would have, other keys and a rule fails the ADD, and not the DEL", function()
    local w, before = with_set("ipv6_addr", "2001:db8::77", "ip6 saddr @masked4_24")
    local e = w:fails("ADD")
    assert.is_nil(e.text:find("taking it back failed", 1, true), e.text)
    t.same(before, w:picture())
    w:del()
    t.same(before, w:picture())
  end)

  it("of that name and the same keys is used", function()
    local w = with_set("ipv4_addr . ipv4_addr", "192.0.2.77 . 192.0.2.0")
    w:add()
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
    w:check()
    w:del()
  end)

  it("stands where the rules were flushed: an ADD makes them anew", function()
    local w = new({ ipam = v4 }, { pods = 2 })
    w:add()
    w:sh("nft flush chain inet luacni masquerade4_24")
    w:add({ id = "c2", pod = 2 })
    for _, pod in ipairs(w.pods) do assert.equal(host4, t.tcp_source(pod, w.far, far4)) end
    w:check()
  end)
end)

describe("ipMasqBackend", function()
  for _, backend in ipairs({ "iptables", "nftables" }) do
    it(backend .. " has the same effect", function()
      local w = new({ ipMasqBackend = backend })
      local before = w:picture()
      w:add()
      assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
      assert.equal(host6, t.tcp_source(w.pods[1], w.far, far6))
      w:check()
      w:del()
      t.same(before, w:picture())
    end)
  end

  it("null is as if it were absent", function()
    local w = new()
    local conf = t.json(w:config()):gsub("}$", ',"ipMasqBackend":null}')
    w:add({ conf = conf })
    assert.equal(host4, t.tcp_source(w.pods[1], w.far, far4))
  end)
end)

describe("ipMasq and CHECK", function()
  it("names the masquerade when the rules were flushed", function()
    local w = new()
    w:add()
    w:check()
    w:lose_rules()
    local e = w:fails("CHECK")
    assert.truthy(e.text:lower():find("masq"), e.text)
  end)

  it("names the address whose element was removed", function()
    local w = new({ ipam = v4 }, { pods = 2 })
    w:add()
    w:add({ id = "c2", pod = 2 })
    -- Empty every set that holds the address of c1, then put c2's back by ADD order:
    -- an element is found by its text in the listing.
    local removed = 0
    for _, item in ipairs(t.many(w.host, { "nft -j list ruleset" })[1].nftables) do
      local set = item.set or item.map
      for _, elem in ipairs(set and set.elem or {}) do
        if t.json(elem):find("10.1.0.2", 1, true) then
          local what = item.set and "set" or "map"
          local full = t.run(("nft list %s %s %s %s"):format(what, set.family, set.table,
            set.name), { host = w.host })
          local text = full:match("(10%.1%.0%.2[^,}\n]*)")
          w:sh(("nft delete element %s %s %s '{ %s }'"):format(set.family, set.table,
            set.name, text:gsub(" comment \".-\"", "")))
          removed = removed + 1
        end
      end
    end
    assert.is_true(removed > 0)
    local e = w:fails("CHECK")
    assert.truthy(e.text:find("10.1.0.2", 1, true), e.text)
    w:check({ id = "c2", pod = 2 })
  end)

  it("does not mind rules of others", function()
    local w = new()
    w:add()
    w:sh([[nft 'add table inet mine
      add chain inet mine c { type filter hook forward priority 0; }']])
    w:check()
  end)
end)
