-- SPDX-License-Identifier: MIT
-- The nf_tables binding: objects, values, batches and their refusals, looked at
-- through the program nft. Expressions and rules are in nft_rules_spec.lua.

local t = require "support"
local netlink = require "netlink"

local errno = { ENOENT = 2, EBUSY = 16, EEXIST = 17, EINVAL = 22, ERESTART = 85 }
local ns, h

-- What `nft -j list ruleset` has of one kind: a list, without handles.
local function listed(kind)
  local out = {}
  for _, item in ipairs(t.many(ns, { "nft -j list ruleset" })[1].nftables) do
    local object = item[kind]
    if object then
      object.handle = nil
      out[#out + 1] = object
    end
  end
  return out
end

local function text() return t.run("nft list ruleset", { host = ns }) end

-- The attributes of something in table `inet t`.
local function in_t(fields)
  fields.family, fields.table = "inet", "t"
  return fields
end

local new_table = { "add", "table", { family = "inet", name = "t" } }

local function commit(...) return assert(h:commit({ new_table, ... })) end

-- Add a set and give it elements; returns them as `nft -j` lists them.
local function elements_of(set, elements, more)
  set.name = set.name or "s"
  local list = in_t({ set = set.name, elements = elements, key_type = set.key_type,
    data_type = set.data_type })
  for key, value in pairs(more or {}) do list[key] = value end
  commit({ "add", "set", in_t(set) }, { "add", "element", list })
  return listed(set.data_type and "map" or "set")[1].elem
end

-- So long that 65 KiB hold a few hundred elements with it.
local function long_comment(n) return ("-"):rep(110) .. n end

local function refuses(pattern, batch)
  local ok, msg = pcall(h.commit, h, batch)
  assert.is_false(ok)
  assert.matches(pattern, msg)
end

describe("nft", function()
  before_each(function()
    ns = t.netns("nft")
    h = assert(netlink.nft(ns.path))
  end)
  after_each(function() h:close() end)

  describe("handle", function()
    it("belongs to the namespace it was opened in", function()
      local other = t.netns("nft2")
      local at_home <close> = assert(netlink.nft())
      local there <close> = assert(netlink.nft(other.path))
      commit()
      assert.equal(1, #h:dump("table"))
      assert.same({}, there:dump("table"))
      assert.same({}, at_home:dump("table"))
    end)

    it("closes, twice, and says so", function()
      assert.equal("nft handle (open)", tostring(h))
      h:close()
      h:close()
      assert.equal("nft handle (closed)", tostring(h))
      assert.has_error(function() h:commit({}) end, "the nft handle is closed")
      assert.has_error(function() h:get("table", {}) end, "the nft handle is closed")
    end)

    it("tells why it cannot be opened", function()
      local none, msg, code = netlink.nft("/nonexistent")
      assert.is_nil(none)
      assert.equal(errno.ENOENT, code)
      assert.matches("nftables", msg)
    end)
  end)

  describe("objects", function()
    it("are tables, with flags and comments", function()
      assert(h:commit({ { "create", "table",
        { family = "ip6", name = "six", flags = { "dormant" }, comment = "hello there" } } }))
      assert.matches("table ip6 six {\n%s*flags dormant\n", text())
      assert.matches('comment "hello there"', text())
      local six = h:get("table", { family = "ip6", name = "six" })
      assert.equal("hello there", six.comment)
      assert.same({ "dormant" }, six.flags)
      assert.is_nil(h:get("table", { family = "ip", name = "six" }))
    end)

    it("are chains, of hooks and plain, with negative priorities", function()
      commit(
        { "add", "chain", in_t({ name = "plain", comment = "c" }) },
        { "add", "chain", in_t({ name = "pre", type = "filter", hook = "prerouting",
          priority = -300, policy = "drop" }) },
        { "add", "chain", in_t({ name = "in", type = "filter", hook = "ingress",
          priority = 5, device = "lo" }) })
      assert.same({
        { family = "inet", table = "t", name = "plain" },
        { family = "inet", table = "t", name = "pre", type = "filter", hook = "prerouting",
          prio = -300, policy = "drop" },
        { family = "inet", table = "t", name = "in", type = "filter", hook = "ingress",
          prio = 5, policy = "accept" },
      }, listed("chain"))
      assert.matches('hook ingress device "lo" priority filter %+ 5', text())
      assert.matches('comment "c"', text())
      local pre = h:get("chain", in_t({ name = "pre" }))
      assert.same({ "prerouting", -300, "drop", "filter" },
        { pre.hook, pre.priority, pre.policy, pre.type })
      assert.equal("ingress", h:get("chain", in_t({ name = "in" })).hook)
      assert.is_nil(h:get("chain", in_t({ name = "none" })))
    end)

    it("are hooks whose numbers depend on the family", function()
      for family, hook in pairs({ netdev = "ingress", arp = "output", bridge = "postrouting" }) do
        local chain = { family = family, table = "f", name = "c", type = "filter", hook = hook,
          priority = 0, device = family == "netdev" and "lo" or nil }
        assert(h:commit({ { "add", "table", { family = family, name = "f" } },
          { "add", "chain", chain } }))
        assert.equal(hook, h:get("chain", { family = family, table = "f", name = "c" }).hook)
      end
      for _, chain in ipairs(listed("chain")) do
        assert.equal(({ netdev = "ingress", arp = "output", bridge = "postrouting" })
          [chain.family], chain.hook)
      end
      refuses("unknown value 'postrouting'", { { "add", "chain",
        { family = "arp", table = "f", name = "d", type = "filter", hook = "postrouting" } } })
    end)

    it("are rules: added, inserted, replaced, deleted by handle", function()
      local function mark(n)
        return in_t({ chain = "c", comment = "rule " .. n,
          exprs = { { "immediate", dreg = 1, data = { mark = n } }, { "meta", key = "mark", sreg = 1 } } })
      end
      local function comments()
        local out = {}
        for i, rule in ipairs(listed("rule")) do out[i] = rule.comment end
        return out
      end
      commit({ "add", "chain", in_t({ name = "c" }) }, { "add", "rule", mark(1) },
        { "add", "rule", mark(2) }, { "insert", "rule", mark(3) })
      assert.same({ "rule 3", "rule 1", "rule 2" }, comments())
      local rules = h:dump("rule", in_t({ chain = "c" }))
      local handle = rules[2].handle
      local four = mark(4)
      four.handle = handle
      commit({ "replace", "rule", four })
      assert.same({ "rule 3", "rule 4", "rule 2" }, comments())
      local five = mark(5)
      five.position = h:dump("rule", in_t({ chain = "c" }))[3].handle
      commit({ "insert", "rule", five })
      assert.same({ "rule 3", "rule 4", "rule 5", "rule 2" }, comments())
      commit({ "del", "rule", in_t({ chain = "c", handle = rules[1].handle }) })
      assert.same({ "rule 4", "rule 5", "rule 2" }, comments())
      assert.equal("rule 2",
        h:get("rule", in_t({ chain = "c", handle = rules[3].handle })).comment)
      assert.is_nil(h:get("rule", in_t({ chain = "c", handle = rules[1].handle })))
    end)

    it("are listed by table and chain", function()
      commit({ "add", "table", { family = "inet", name = "u" } })
      for _, place in ipairs({ { "t", "a" }, { "t", "b" }, { "u", "a" } }) do
        assert(h:commit({
          { "add", "chain", { family = "inet", table = place[1], name = place[2] } },
          { "add", "rule", { family = "inet", table = place[1], chain = place[2],
            exprs = { { "counter" } } } } }))
      end
      assert.equal(3, #h:dump("rule"))
      assert.equal(2, #h:dump("rule", in_t({})))
      assert.equal(1, #h:dump("rule", in_t({ chain = "b" })))
      assert.equal(2, #h:dump("chain", in_t({})))
      assert.equal(1, #h:dump("table", { name = "u" }))
      assert.same({}, h:dump("rule", { family = "ip" }))
      assert.same({}, h:dump("table", { name = "none" }))
    end)

    it("are named counters, quotas and limits", function()
      commit({ "add", "object", in_t({ name = "c", type = "counter", data = {}, comment = "x" }) },
        { "add", "object", in_t({ name = "q", type = "quota",
          data = { bytes = 1000000, flags = { "over" } } }) },
        { "add", "chain", in_t({ name = "ch" }) },
        { "add", "rule", in_t({ chain = "ch", exprs = { { "objref", type = "counter", name = "c" } } }) })
      assert.same({ { family = "inet", table = "t", name = "c", packets = 0, bytes = 0,
        comment = "x" } }, listed("counter"))
      assert.equal(1000000, listed("quota")[1].bytes)
      assert.same({ { counter = "c" } }, listed("rule")[1].expr)
      assert.equal(1000000,
        h:get("object", in_t({ name = "q", type = "quota" })).data.bytes)
    end)

    it("are emptied by flush", function()
      commit({ "add", "chain", in_t({ name = "c" }) }, { "add", "chain", in_t({ name = "d" }) },
        { "add", "rule", in_t({ chain = "c", exprs = { { "counter" } } }) },
        { "add", "rule", in_t({ chain = "d", exprs = { { "counter" } } }) })
      commit({ "flush", "chain", in_t({ name = "c" }) })
      assert.equal("d", listed("rule")[1].chain)
      commit({ "flush", "table", { family = "inet", name = "t" } })
      assert.same({}, listed("rule"))
      assert.equal(2, #listed("chain"))
      assert.equal(1, #elements_of({ key_type = "mark" }, { { key = 1 } }))
      commit({ "flush", "set", in_t({ name = "s" }) })
      assert.is_nil(listed("set")[1].elem)
    end)

    it("are destroyed whether there or not", function()
      commit({ "add", "chain", in_t({ name = "c" }) })
      for _ = 1, 2 do assert(h:commit({ { "destroy", "chain", in_t({ name = "c" }) } })) end
      assert.same({}, listed("chain"))
      local ok, _, code = h:commit({ { "del", "chain", in_t({ name = "c" }) } })
      assert.is_nil(ok)
      assert.equal(errno.ENOENT, code)
    end)
  end)

  describe("sets", function()
    local words = { "nf_proto", "ipv4_addr", "ipv6_addr", "ether_addr", "ether_type",
      "inet_proto", "inet_service", "icmp_type", "mark", "iface_index", "classid", "uid", "gid",
      "ct_state", "ct_dir", "ct_status", "icmpv6_type", "pkt_type", "devgroup", "fib_addrtype",
      "ifname" }

    it("have the key types that nft knows by the same names", function()
      for i, word in ipairs(words) do
        commit({ "add", "set", in_t({ name = "s" .. i, key_type = word }) })
      end
      local sets = listed("set")
      assert.equal(#words, #sets)
      for i, set in ipairs(sets) do assert.equal(words[i], set.type) end
      for i, set in ipairs(h:dump("set")) do assert.equal(words[i], set.key_type) end
    end)

    it("say what they are: flags, size, timeout, policy, comment", function()
      commit({ "add", "set", in_t({ name = "s", key_type = "ipv4_addr", flags = { "interval" },
        comment = "for you" }) },
        { "add", "map", in_t({ name = "m", key_type = "ifname", data_type = "verdict",
          size = 100, timeout = 90000, gc_interval = 5000 }) },
        { "add", "set", in_t({ name = "p", key_type = "mark", policy = "memory" }) })
      assert.same({
        { family = "inet", table = "t", name = "s", type = "ipv4_addr", flags = { "interval" },
          comment = "for you" },
        { family = "inet", table = "t", name = "p", type = "mark", policy = "memory" },
      }, listed("set"))
      assert.same({ { family = "inet", table = "t", name = "m", type = "ifname", map = "verdict",
        size = 100, timeout = 90, flags = { "timeout" }, ["gc-interval"] = 5 } }, listed("map"))
      local map = h:get("map", in_t({ name = "m" }))
      assert.same({ "ifname", "verdict", 100, 90000 },
        { map.key_type, map.data_type, map.size, map.timeout })
      assert.equal("for you", h:get("set", in_t({ name = "s" })).comment)
    end)

    it("hold values of their type", function()
      local cases = {
        { "ipv4_addr", "10.1.2.3" }, { "ipv6_addr", "fd00::1" },
        { "ether_addr", "02:42:ac:11:00:02" }, { "inet_service", 8080 }, { "mark", 7 },
        { "ifname", "veth0" }, { "inet_proto", "tcp" }, { "ct_state", { "established", "related" } },
        { "nf_proto", "ipv6" }, { "pkt_type", "multicast" }, { "ether_type", "arp" },
      }
      for i, case in ipairs(cases) do
        local set = { name = "s" .. i, key_type = case[1] }
        elements_of(set, { { key = case[2] } })
        local one = in_t({ set = set.name, key = case[2], key_type = case[1] })
        assert.same({ key = case[2] }, h:get("element", one))
        assert.same({ { key = case[2] } },
          h:dump("element", in_t({ set = set.name, key_type = case[1] })))
      end
      local sets = listed("set")
      assert.same({ "10.1.2.3" }, sets[1].elem)
      assert.same({ "fd00::1" }, sets[2].elem)
      assert.same({ "02:42:ac:11:00:02" }, sets[3].elem)
      assert.same({ 8080 }, sets[4].elem)
      assert.same({ 7 }, sets[5].elem)
      assert.same({ "veth0" }, sets[6].elem)
      assert.same({ "tcp" }, sets[7].elem)
    end)

    it("take keys as bytes, or with a type of their own", function()
      commit({ "add", "set", in_t({ name = "s", key_type = "ipv4_addr" }) },
        { "add", "element", in_t({ set = "s", elements = {
          { key = "\10\0\0\1" }, { key = { ipv4_addr = "10.0.0.2" } } } }) })
      local got = listed("set")[1].elem
      table.sort(got)
      assert.same({ "10.0.0.1", "10.0.0.2" }, got)
      assert.equal("\10\0\0\2",
        h:get("element", in_t({ set = "s", key = { ipv4_addr = "10.0.0.2" } })).key)
      assert.is_nil(h:get("element", in_t({ set = "s", key = "\10\0\0\3" })))
    end)

    it("refuse values that are not of their type", function()
      for _, case in ipairs({ { "ipv4_addr", "fd00::1" }, { "ipv4_addr", "10.0.0.256" },
        { "ipv6_addr", "10.0.0.1" }, { "inet_service", 65536 }, { "inet_service", -1 },
        { "inet_service", "http" }, { "inet_proto", "tpc" }, { "ifname", "" },
        { "ifname", "sixteen-byte-nam" }, { "ether_addr", "02:42:ac:11:00" }, { "mark", 1.5 },
        { "ipv4_addr . inet_service", "10.0.0.1" }, { "ipv4_addr", { "10.0.0.1" } } }) do
        local ok, msg = pcall(h.commit, h, { { "add", "element", in_t({ set = "s",
          key_type = case[1], elements = { { key = case[2] } } }) } })
        assert.is_false(ok, case[1] .. " took " .. tostring(case[2]))
        assert.matches("elements%[1%]%.key", msg)
      end
    end)

    it("are concatenations, spelt as a list or as nft does", function()
      local got = elements_of({ key_type = { "ipv4_addr", "inet_proto", "inet_service" } },
        { { key = { "10.0.0.1", "udp", 53 } } })
      assert.same({ { concat = { "10.0.0.1", "udp", 53 } } }, got)
      assert.same({ "ipv4_addr", "inet_proto", "inet_service" }, listed("set")[1].type)
      assert.equal("ipv4_addr . inet_proto . inet_service",
        h:get("set", in_t({ name = "s" })).key_type)
      assert.same({ { key = { "10.0.0.1", "udp", 53 } } }, h:dump("element",
        in_t({ set = "s", key_type = "ipv4_addr . inet_proto . inet_service" })))
      assert.is_nil(h:get("element", in_t({ set = "s", key = { "10.0.0.1", "tcp", 53 },
        key_type = "ipv4_addr . inet_proto . inet_service" })))
    end)

    it("are maps of values and concatenations", function()
      local set = { key_type = "inet_service", data_type = "ipv4_addr . inet_service" }
      assert.same({ { 80, { concat = { "10.0.0.1", 8080 } } } },
        elements_of(set, { { key = 80, data = { "10.0.0.1", 8080 } } }))
      assert.same({ key = 80, data = { "10.0.0.1", 8080 } }, h:get("element",
        in_t({ set = "s", key = 80, key_type = set.key_type, data_type = set.data_type })))
    end)

    it("are maps of verdicts", function()
      commit({ "add", "chain", in_t({ name = "c" }) })
      local got = elements_of({ key_type = "mark", data_type = "verdict" }, {
        { key = 1, data = { verdict = "goto", chain = "c" } },
        { key = 2, data = { verdict = "jump", chain = "c" } },
        { key = 3, data = { verdict = "accept" } }, { key = 4, data = { verdict = "drop" } },
        { key = 5, data = { verdict = "return" } } })
      table.sort(got, function(a, b) return a[1] < b[1] end)
      assert.same({ { 1, { ["goto"] = { target = "c" } } }, { 2, { jump = { target = "c" } } },
        { 3, { accept = t.null } }, { 4, { drop = t.null } }, { 5, { ["return"] = t.null } } }, got)
      assert.same({ verdict = "jump", chain = "c" },
        h:get("element", in_t({ set = "s", key = { mark = 2 } })).data)
    end)

    it("have intervals, from prefixes and ranges", function()
      local got = elements_of({ key_type = "ipv4_addr", flags = { "interval" } }, {
        { key = "10.0.0.0/8", comment = "net" }, { key = "192.168.1.1", key_end = "192.168.1.5" },
        { key = "172.16.0.1" }, { key = "255.255.255.0/24" } }, { interval = true })
      assert.same({ { elem = { val = { prefix = { addr = "10.0.0.0", len = 8 } }, comment = "net" } },
        "172.16.0.1", { range = { "192.168.1.1", "192.168.1.5" } },
        { prefix = { addr = "255.255.255.0", len = 24 } } }, got)
      commit({ "del", "element", in_t({ set = "s", key_type = "ipv4_addr", interval = true,
        elements = { { key = "10.0.0.0/8" } } }) })
      assert.equal("172.16.0.1", listed("set")[1].elem[1])
    end)

    it("have intervals in concatenations", function()
      local got = elements_of({ key_type = "ipv4_addr . inet_service", flags = { "interval" } },
        { { key = { "10.1.0.0/16", 80 } }, { key = { "10.2.0.1", 80 }, key_end = { "10.2.0.9", 90 } } },
        { interval = true })
      assert.same({ { concat = { { prefix = { addr = "10.1.0.0", len = 16 } }, 80 } },
        { concat = { { range = { "10.2.0.1", "10.2.0.9" } }, { range = { 80, 90 } } } } }, got)
    end)

    it("take a prefix for an interval only", function()
      local set = in_t({ set = "s", key_type = "ipv4_addr", elements = { { key = "10.0.0.0/8" } } })
      refuses("needs interval = true", { { "add", "element", set } })
      set.interval = true
      set.elements[1].key = "10.0.0.1/8"
      refuses("beyond its prefix length", { { "add", "element", set } })
      set.elements[1] = { key = "10.0.0.9", key_end = "10.0.0.1" }
      refuses("before key", { { "add", "element", set } })
    end)

    it("have elements that expire", function()
      local got = elements_of({ key_type = "mark", timeout = 3600000 },
        { { key = 1 }, { key = 2, timeout = 60000, comment = "soon" } })
      table.sort(got, function(a, b) return a.elem.val < b.elem.val end)
      assert.equal(60, got[2].elem.timeout)
      local two = h:get("element", in_t({ set = "s", key = { mark = 2 } }))
      assert.equal(60000, two.timeout)
      assert.equal("soon", two.comment)
      assert.is_true(two.expiration > 50000 and two.expiration <= 60000)
      assert.is_true(h:get("element", in_t({ set = "s", key = { mark = 1 } })).expiration > 3500000)
    end)

    it("are given more elements than a message can hold, and listed whole", function()
      local list = {}
      for i = 1, 5000 do list[i] = { key = i, comment = long_comment(i) } end
      elements_of({ key_type = "mark" }, list)
      local seen = {}
      for _, element in ipairs(h:dump("element", in_t({ set = "s", key_type = "mark" }))) do
        assert.equal(long_comment(element.key), element.comment)
        seen[element.key] = true
      end
      assert.equal(5000, #seen)
      local dup = { new_table, { "create", "element", in_t({ set = "s", key_type = "mark",
        elements = { { key = 6000 }, { key = 4711 } } }) } }
      local ok, msg, code, index = h:commit(dup)
      assert.is_nil(ok)
      assert.same({ errno.EEXIST, 2 }, { code, index })
      assert.matches("create element inet t s %(elements%[2%]%): File exists", msg)
      assert.is_nil(h:get("element", in_t({ set = "s", key = { mark = 6000 } })))
      list[3000] = { key = 3000, nonsense = 1 }
      refuses("elements%[3000%]: unknown key 'nonsense'", { { "add", "element",
        in_t({ set = "s", key_type = "mark", elements = list }) } })
    end)

    it("lose the very element of a long list that is not there", function()
      local list = {}
      for i = 1, 3000 do list[i] = { key = i, comment = long_comment(i) } end
      elements_of({ key_type = "mark" }, list)
      list[2718] = { key = 9999 }
      local _, msg = h:commit({ { "del", "element",
        in_t({ set = "s", key_type = "mark", elements = list }) } })
      assert.matches("%(elements%[2718%]%): No such file", msg)
      assert.equal(3000, #h:dump("element", in_t({ set = "s" })))
    end)
  end)

  describe("comments", function()
    it("are whatever nft can read back, up to 128 bytes", function()
      local long = ("ä/.:'\\$`"):rep(15):sub(1, 128)
      elements_of({ key_type = "mark", comment = long }, { { key = 1, comment = long } })
      assert.equal(long, listed("set")[1].comment)
      assert.equal(long, listed("set")[1].elem[1].elem.comment)
      assert.equal(long, h:get("element", in_t({ set = "s", key = { mark = 1 } })).comment)
      local saved = text()
      t.run("nft flush ruleset; nft -f -", { host = ns, stdin = saved })
      assert.equal(saved, text())
    end)

    it("are refused otherwise", function()
      for _, bad in ipairs({ ("x"):rep(129), 'say "hi"', "two\nlines", "nul\0", "\127" }) do
        refuses("comment: ", { { "add", "table",
          { family = "inet", name = "t", comment = bad } } })
        refuses("comment: ", { { "add", "set",
          in_t({ name = "s", key_type = "mark", comment = bad }) } })
      end
    end)
  end)

  describe("batches", function()
    it("are all or nothing, and name the entry that was refused", function()
      local ok, msg, code, index = h:commit({ new_table,
        { "add", "chain", in_t({ name = "a" }) },
        { "add", "rule", in_t({ chain = "none", exprs = { { "counter" } } }) },
        { "add", "chain", in_t({ name = "b" }) } })
      assert.is_nil(ok)
      assert.same({ errno.ENOENT, 3 }, { code, index })
      assert.equal("add rule inet t none (chain): No such file or directory", msg)
      assert.equal("", text())
      assert(h:commit({ new_table, { "add", "chain", in_t({ name = "a" }) } }))
      assert.equal(1, #listed("chain"))
    end)

    it("tell what exists, what is missing and what is in use", function()
      commit({ "create", "chain", in_t({ name = "c" }) }, { "add", "chain", in_t({ name = "d" }) },
        { "add", "rule", in_t({ chain = "d", exprs = { { "immediate", dreg = "verdict",
          data = { verdict = "jump", chain = "c" } } } }) })
      local function fails(...)
        local _, _, code, index = h:commit({ new_table, ... })
        return { code, index }
      end
      assert.same({ errno.EEXIST, 2 }, fails({ "create", "chain", in_t({ name = "c" }) }))
      assert.same({}, fails({ "add", "chain", in_t({ name = "c" }) }))
      assert.same({ errno.EBUSY, 2 }, fails({ "del", "chain", in_t({ name = "c" }) }))
      assert.same({ errno.ENOENT, 2 }, fails({ "del", "set", in_t({ name = "c" }) }))
    end)

    it("go ahead only for the generation asked for", function()
      local now = assert(h:generation())
      commit()
      local ok, msg, code, index = h:commit({ { "del", "table", new_table[3] } }, nil, now)
      assert.is_nil(ok)
      assert.same({ errno.ERESTART }, { code, index })
      assert.matches("has changed", msg)
      assert.equal(1, #h:dump("table"))
      assert(h:commit({ { "del", "table", new_table[3] } }, nil, h:generation()))
      assert.same({}, h:dump("table"))
    end)

    it("change nothing when empty", function()
      local before = h:generation()
      assert.is_true(h:commit({}))
      elements_of({ key_type = "mark" }, { { key = 1 } })
      local after = h:generation()
      assert.is_true(after > before)
      local none = in_t({ set = "s", elements = {} })
      assert.is_true(h:commit({ { "del", "element", none }, { "add", "element", none } }))
      assert.equal(after, h:generation())
      assert.equal(1, #h:dump("element", in_t({ set = "s" })))
    end)

    it("name the first refusal of thousands", function()
      commit({ "add", "set", in_t({ name = "s", key_type = "mark" }) })
      local batch = { new_table }
      for i = 2, 3000 do
        batch[i] = { "del", "element", in_t({ set = "s", elements = { { key = { mark = i } } } }) }
      end
      local _, _, code, index = h:commit(batch)
      assert.same({ errno.ENOENT, 2 }, { code, index })
      assert.is_true(h:commit({ new_table }))
    end)

    it("are refused before they leave when a deletion names nothing", function()
      commit({ "add", "chain", in_t({ name = "c" }) },
        { "add", "rule", in_t({ chain = "c", exprs = { { "counter" } } }) },
        { "add", "set", in_t({ name = "s", key_type = "mark" }) },
        { "add", "element", in_t({ set = "s", elements = { { key = { mark = 1 } } } }) })
      refuses("request 1: del rule needs 'handle|id'",
        { { "del", "rule", in_t({ chain = "c" }) } })
      refuses("needs 'elements'", { { "del", "element", in_t({ set = "s" }) } })
      refuses("needs 'name|handle'", { { "del", "table", { family = "inet" } } })
      refuses("needs 'name'", { { "flush", "chain", in_t({}) } })
      refuses("needs 'handle'",
        { { "replace", "rule", in_t({ chain = "c", exprs = {} }) } })
      refuses("nothing to flush", { { "flush", "rule", in_t({ chain = "c" }) } })
      assert.equal(1, #listed("rule"))
      assert.equal(1, #listed("set")[1].elem)
    end)

    it("are refused with the nearest word for a misspelt one", function()
      local rule = in_t({ chain = "c", exprs = { { "meta", key = "nfproto", dreg = 1 } } })
      local function with(expression)
        rule.exprs[1] = expression
        return { { "add", "rule", rule } }
      end
      refuses("did you mean 'del'", { { "dle", "rule", {} } })
      refuses("did you mean 'element'", { { "add", "elemnt", {} } })
      refuses("request 2: table: unknown key 'coment' %(did you mean 'comment'",
        { new_table, { "add", "table", { family = "inet", name = "x", coment = "" } } })
      refuses("did you mean 'ip6'", { { "add", "table", { family = "ipv6", name = "x" } } })
      refuses("rule.exprs%[1%]%[1%]: .*did you mean 'payload'", with({ "payloda" }))
      refuses("rule.exprs%[1%]: unknown key 'dergs'", with({ "meta", key = "mark", dergs = 1 }))
      refuses("did you mean 'dreg'", with({ "meta", key = "mark", drge = 1 }))
      refuses("did you mean 'iifname'", with({ "meta", key = "iifnam", dreg = 1 }))
      refuses("24 is not in 0..23", with({ "meta", key = "mark", dreg = 24 }))
      refuses("did you mean 'ipv4_addr'", { { "add", "set",
        in_t({ name = "s", key_type = "ipv4_adr" }) } })
      refuses("did you mean 'interval'", { { "add", "set",
        in_t({ name = "s", key_type = "mark", flags = { "intervall" } }) } })
      refuses("elements%[1%]%.data%.verdict: unknown value 'got'.*did you mean 'goto'",
        { { "add", "element", in_t({ set = "s",
          elements = { { key = "\1", data = { verdict = "got", chain = "c" } } } }) } })
      refuses("request 1: expected { verb", { { "add", "table" } })
      assert.equal("", text())
    end)
  end)

  describe("queries", function()
    it("want a whole key", function()
      assert.has_error(function() h:get("chain", { family = "inet", table = "t" }) end,
        "get chain needs 'name|handle'")
      assert.has_error(function() h:dump("element", in_t({})) end, "dump element needs 'set'")
      assert.has_error(function() h:get("chian", {}) end,
        "unknown object 'chian' (did you mean 'chain'?)")
    end)

    it("tell a missing set from an empty one", function()
      commit({ "add", "set", in_t({ name = "s", key_type = "mark" }) })
      assert.same({}, h:dump("element", in_t({ set = "s" })))
      local none, msg, code = h:dump("element", in_t({ set = "none" }))
      assert.is_nil(none)
      assert.equal(errno.ENOENT, code)
      assert.matches("dump element", msg)
    end)

    it("survive a rule set that others keep changing", function()
      commit({ "add", "set", in_t({ name = "s", key_type = "mark" }) })
      local list = {}
      for i = 1, 20000 do list[i] = { key = i } end
      commit({ "add", "element", in_t({ set = "s", key_type = "mark", elements = list }) })
      t.run([[(for i in 1 2 3 4 5 6 7 8 9; do nft add table ip x$i; nft delete table ip x$i; done) &
        wait]], { host = ns })
      assert.equal(20000, #h:dump("element", in_t({ set = "s" })))
    end)
  end)

  it("describes its keys", function()
    local keys = {}
    for _, row in ipairs(h:keys("chain")) do keys[row.key] = row end
    assert.same({ "drop", "accept" }, keys.policy.words)
    assert.is_true(keys.use.readonly)
    assert.is_true(#h:keys("expression") > 60)
  end)
end)
