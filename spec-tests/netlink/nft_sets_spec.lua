-- SPDX-License-Identifier: MIT
-- Sets and maps of nf_tables, what is in them, and comments, looked at through nft.

local t = require "support"
local fixture = require "nft_fixture"

local errno = { ENOENT = 2, EEXIST = 17 }
local listed, text, in_t = fixture.listed, fixture.text, fixture.in_t
local commit, refuses, elements_of = fixture.commit, fixture.refuses, fixture.elements_of
local new_table = fixture.new_table
local ns, h

-- So long that 64 KiB hold a few hundred elements with it.
local function long_comment(n) return ("-"):rep(110) .. n end

describe("nft", function()
  before_each(function() ns, h = fixture.open() end)
  after_each(fixture.close)

  describe("sets", function()
    local words = { "nf_proto", "ipv4_addr", "ipv6_addr", "ether_addr", "ether_type",
      "inet_proto", "inet_service", "icmp_type", "mark", "iface_index", "classid", "uid",
      "gid", "ct_state", "ct_dir", "ct_status", "icmpv6_type", "pkt_type", "devgroup",
      "fib_addrtype", "ifname" }

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
      commit(
        { "add", "set", in_t({ name = "s", key_type = "ipv4_addr",
          flags = { "interval" }, comment = "for you" }) },
        { "add", "map", in_t({ name = "m", key_type = "ifname", data_type = "verdict",
          size = 100, timeout = 90000, gc_interval = 5000 }) },
        { "add", "set", in_t({ name = "p", key_type = "mark", policy = "memory" }) })
      assert.same({
        in_t({ name = "s", type = "ipv4_addr", flags = { "interval" },
          comment = "for you" }),
        in_t({ name = "p", type = "mark", policy = "memory" }),
      }, listed("set"))
      assert.same({ in_t({ name = "m", type = "ifname", map = "verdict", size = 100,
        timeout = 90, flags = { "timeout" }, ["gc-interval"] = 5 }) }, listed("map"))
      local map = h:get("map", in_t({ name = "m" }))
      assert.same({ "ifname", "verdict", 100, 90000 },
        { map.key_type, map.data_type, map.size, map.timeout })
      assert.equal("for you", h:get("set", in_t({ name = "s" })).comment)
    end)

    it("hold values of their type", function()
      local cases = {
        { "ipv4_addr", "10.1.2.3" }, { "ipv6_addr", "fd00::1" },
        { "ether_addr", "02:42:ac:11:00:02" }, { "inet_service", 8080 }, { "mark", 7 },
        { "ifname", "veth0" }, { "inet_proto", "tcp" },
        { "ct_state", { "established", "related" } },
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
        { "ifname", "sixteen-byte-nam" }, { "ether_addr", "02:42:ac:11:00" },
        { "mark", 1.5 }, { "ipv4_addr . inet_service", "10.0.0.1" },
        { "ipv4_addr", { "10.0.0.1" } } }) do
        local ok, msg = pcall(h.commit, h, { { "add", "element", in_t({ set = "s",
          key_type = case[1], elements = { { key = case[2] } } }) } })
        assert.is_false(ok, case[1] .. " took " .. tostring(case[2]))
        assert.matches("elements%[1%]%.key", msg)
      end
    end)

    it("are concatenations, spelt as a list or as nft does", function()
      local types = { "ipv4_addr", "inet_proto", "inet_service" }
      local got = elements_of({ key_type = types },
        { { key = { "10.0.0.1", "udp", 53 } } })
      assert.same({ { concat = { "10.0.0.1", "udp", 53 } } }, got)
      assert.same(types, listed("set")[1].type)
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
        in_t({ set = "s", key = 80, key_type = set.key_type,
          data_type = set.data_type })))
    end)

    it("are maps of verdicts", function()
      commit({ "add", "chain", in_t({ name = "c" }) })
      local got = elements_of({ key_type = "mark", data_type = "verdict" }, {
        { key = 1, data = { verdict = "goto", chain = "c" } },
        { key = 2, data = { verdict = "jump", chain = "c" } },
        { key = 3, data = { verdict = "accept" } },
        { key = 4, data = { verdict = "drop" } },
        { key = 5, data = { verdict = "return" } } })
      table.sort(got, function(a, b) return a[1] < b[1] end)
      assert.same({ { 1, { ["goto"] = { target = "c" } } },
        { 2, { jump = { target = "c" } } }, { 3, { accept = t.null } },
        { 4, { drop = t.null } }, { 5, { ["return"] = t.null } } }, got)
      assert.same({ verdict = "jump", chain = "c" },
        h:get("element", in_t({ set = "s", key = { mark = 2 } })).data)
    end)

    it("have intervals, from prefixes and ranges", function()
      local got = elements_of({ key_type = "ipv4_addr", flags = { "interval" } }, {
        { key = "10.0.0.0/8", comment = "net" },
        { key = "192.168.1.1", key_end = "192.168.1.5" },
        { key = "172.16.0.1" }, { key = "255.255.255.0/24" } }, { interval = true })
      assert.same({
        { elem = { val = { prefix = { addr = "10.0.0.0", len = 8 } }, comment = "net" } },
        "172.16.0.1", { range = { "192.168.1.1", "192.168.1.5" } },
        { prefix = { addr = "255.255.255.0", len = 24 } } }, got)
      commit({ "del", "element", in_t({ set = "s", key_type = "ipv4_addr",
        interval = true, elements = { { key = "10.0.0.0/8" } } }) })
      assert.equal("172.16.0.1", listed("set")[1].elem[1])
    end)

    it("have intervals in concatenations", function()
      local set = { key_type = "ipv4_addr . inet_service", flags = { "interval" } }
      local got = elements_of(set, { { key = { "10.1.0.0/16", 80 } },
        { key = { "10.2.0.1", 80 }, key_end = { "10.2.0.9", 90 } } }, { interval = true })
      assert.same({ { concat = { { prefix = { addr = "10.1.0.0", len = 16 } }, 80 } },
        { concat = { { range = { "10.2.0.1", "10.2.0.9" } }, { range = { 80, 90 } } } },
      }, got)
    end)

    it("take a prefix for an interval only", function()
      local set = in_t({ set = "s", key_type = "ipv4_addr",
        elements = { { key = "10.0.0.0/8" } } })
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
      local one = h:get("element", in_t({ set = "s", key = { mark = 1 } }))
      assert.is_true(one.expiration > 3500000)
    end)

    it("are given more elements than a message can hold, and listed whole", function()
      local list = {}
      for i = 1, 5000 do list[i] = { key = i, comment = long_comment(i) } end
      elements_of({ key_type = "mark" }, list)
      local seen = {}
      local all = h:dump("element", in_t({ set = "s", key_type = "mark" }))
      for _, element in ipairs(all) do
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

    it("tell which of many keys they have, each in its place", function()
      local types = { key_type = "inet_proto . inet_service", data_type = "ipv4_addr . inet_service" }
      local elements, keys = {}, {}
      for i = 1, 200 do
        elements[i] = { key = { "tcp", 1000 + i }, data = { "10.0.0.1", i }, comment = "c" .. i }
        keys[i] = { key = { "tcp", 1000 + i } }
      end
      keys[1], keys[64], keys[65], keys[201] = { key = { "udp", 1001 } }, { key = { "tcp", 1 } }, { key = { "tcp", 2 } },
        { key = { "tcp", 3 } }
      types.name = "m"
      elements_of(types, elements)
      local function find(set, asked)
        return h:find(in_t { set = set, key_type = types.key_type, data_type = types.data_type, elements = asked })
      end
      local found = find("m", keys)
      assert.equal(201, #found)
      for i = 1, 201 do
        local absent = i == 1 or i == 64 or i == 65 or i == 201
        assert.same(not absent and { "c" .. i, { "10.0.0.1", i } }, found[i] and { found[i].comment, found[i].data })
      end
      assert.same({}, find("m", {}))
      assert.same({ false, false }, find("none", { keys[2], keys[3] }))
    end)
  end)

  describe("comments", function()
    it("are whatever nft can read back, up to 128 bytes", function()
      local long = ("ä/.:'\\$`"):rep(15):sub(1, 128)
      elements_of({ key_type = "mark", comment = long }, { { key = 1, comment = long } })
      assert.equal(long, listed("set")[1].comment)
      assert.equal(long, listed("set")[1].elem[1].elem.comment)
      local one = h:get("element", in_t({ set = "s", key = { mark = 1 } }))
      assert.equal(long, one.comment)
      local saved = text()
      t.run("nft flush ruleset; nft -f -", { host = ns, stdin = saved })
      assert.equal(saved, text())
    end)

    it("are refused otherwise", function()
      local long = ("x"):rep(129)
      for _, bad in ipairs({ long, 'say "hi"', "two\nlines", "nul\0", "\127" }) do
        refuses("comment: ", { { "add", "table",
          { family = "inet", name = "t", comment = bad } } })
        refuses("comment: ", { { "add", "set",
          in_t({ name = "s", key_type = "mark", comment = bad }) } })
      end
    end)
  end)
end)
