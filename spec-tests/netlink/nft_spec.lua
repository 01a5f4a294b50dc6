-- SPDX-License-Identifier: MIT
-- The nf_tables binding: objects, batches and their refusals, queries, looked at through
-- the program nft. Sets are in nft_sets_spec.lua, expressions in nft_rules_spec.lua.

local t = require "support"
local netlink = require "netlink"
local fixture = require "nft_fixture"

local errno = { ENOENT = 2, EBUSY = 16, EEXIST = 17, ERESTART = 85 }
local listed, text, in_t = fixture.listed, fixture.text, fixture.in_t
local commit, refuses, elements_of = fixture.commit, fixture.refuses, fixture.elements_of
local new_table = fixture.new_table
local ns, h

describe("nft", function()
  before_each(function() ns, h = fixture.open() end)
  after_each(fixture.close)

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
        { family = "ip6", name = "six", flags = { "dormant" },
          comment = "hello there" } } }))
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
        in_t({ name = "plain" }),
        in_t({ name = "pre", type = "filter", hook = "prerouting", prio = -300,
          policy = "drop" }),
        in_t({ name = "in", type = "filter", hook = "ingress", prio = 5,
          policy = "accept" }),
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
      local hooks = { netdev = "ingress", arp = "output", bridge = "postrouting" }
      for family, hook in pairs(hooks) do
        local chain = { family = family, table = "f", name = "c", type = "filter",
          hook = hook, priority = 0, device = family == "netdev" and "lo" or nil }
        assert(h:commit({ { "add", "table", { family = family, name = "f" } },
          { "add", "chain", chain } }))
        assert.equal(hook,
          h:get("chain", { family = family, table = "f", name = "c" }).hook)
      end
      for _, chain in ipairs(listed("chain")) do
        assert.equal(hooks[chain.family], chain.hook)
      end
      refuses("unknown value 'postrouting'", { { "add", "chain", { family = "arp",
        table = "f", name = "d", type = "filter", hook = "postrouting" } } })
    end)

    it("are rules: added, inserted, replaced, deleted by handle", function()
      local function mark(n)
        return in_t({ chain = "c", comment = "rule " .. n,
          exprs = { { "immediate", dreg = 1, data = { mark = n } },
            { "meta", key = "mark", sreg = 1 } } })
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
      commit(
        { "add", "object", in_t({ name = "c", type = "counter", data = {},
          comment = "x" }) },
        { "add", "object", in_t({ name = "q", type = "quota",
          data = { bytes = 1000000, flags = { "over" } } }) },
        { "add", "chain", in_t({ name = "ch" }) },
        { "add", "rule", in_t({ chain = "ch",
          exprs = { { "objref", type = "counter", name = "c" } } }) })
      assert.same({ { family = "inet", table = "t", name = "c", packets = 0, bytes = 0,
        comment = "x" } }, listed("counter"))
      assert.equal(1000000, listed("quota")[1].bytes)
      assert.same({ { counter = "c" } }, listed("rule")[1].expr)
      assert.equal(1000000,
        h:get("object", in_t({ name = "q", type = "quota" })).data.bytes)
    end)

    it("are emptied by flush", function()
      commit(
        { "add", "chain", in_t({ name = "c" }) },
        { "add", "chain", in_t({ name = "d" }) },
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
      t.needs("nft-destroy")
      commit({ "add", "chain", in_t({ name = "c" }) })
      for _ = 1, 2 do commit({ "destroy", "chain", in_t({ name = "c" }) }) end
      assert.same({}, listed("chain"))
      local ok, _, code = h:commit({ { "del", "chain", in_t({ name = "c" }) } })
      assert.is_nil(ok)
      assert.equal(errno.ENOENT, code)
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
      commit(
        { "create", "chain", in_t({ name = "c" }) },
        { "add", "chain", in_t({ name = "d" }) },
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
      local del = { "del", "table", new_table[3] }
      local ok, msg, code, index = h:commit({ del }, nil, now)
      assert.is_nil(ok)
      assert.same({ errno.ERESTART }, { code, index })
      assert.matches("has changed", msg)
      assert.equal(1, #h:dump("table"))
      assert(h:commit({ del }, nil, h:generation()))
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
        batch[i] = { "del", "element",
          in_t({ set = "s", elements = { { key = { mark = i } } } }) }
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
      local rule = in_t({ chain = "c", exprs = {} })
      local function with(expression)
        rule.exprs[1] = expression
        return { { "add", "rule", rule } }
      end
      refuses("did you mean 'del'", { { "dle", "rule", {} } })
      refuses("did you mean 'element'", { { "add", "elemnt", {} } })
      refuses("request 2: table: unknown key 'coment' %(did you mean 'comment'",
        { new_table, { "add", "table", { family = "inet", name = "x", coment = "" } } })
      refuses("did you mean 'ip6'",
        { { "add", "table", { family = "ipv6", name = "x" } } })
      refuses("rule.exprs%[1%]%[1%]: .*did you mean 'payload'", with({ "payloda" }))
      refuses("rule.exprs%[1%]: unknown key 'xyz'",
        with({ "meta", key = "mark", xyz = 1 }))
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
      assert.has_error(function() h:dump("element", in_t({})) end,
        "dump element needs 'set'")
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

    -- A stray generation in the middle of a dump would cost or double some elements.
    it("list every element once while the rule set changes", function()
      local list = {}
      for i = 1, 20000 do list[i] = { key = i } end
      elements_of({ key_type = "mark" }, list)
      local busy <close> = assert(io.popen("nsenter --net=" .. ns.path ..
        " sh -c 'for i in $(seq 40); do nft add table ip x; nft delete table ip x;" ..
        " done'"))
      local before = h:generation()
      for _ = 1, 10 do
        local seen = {}
        for _, element in ipairs(assert(h:dump("element", in_t({ set = "s" })))) do
          seen[element.key] = true
        end
        local count = 0
        for _ in pairs(seen) do count = count + 1 end
        assert.equal(20000, count)
      end
      busy:read("a")
      assert.is_true(h:generation() > before)
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
