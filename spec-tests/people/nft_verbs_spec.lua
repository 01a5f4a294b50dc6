-- SPDX-License-Identifier: MIT
-- Tables of nf_tables, elements and rules that a site's script asks for: whose they are, what is refused, what
-- comes of them when things are lost. What all plugins promise, the table of plugins tries with such a script
-- too.

local cjson = require "cjson"
local t = require "support"
local world = require "world"

local file = "/etc/luacni/plugins/own.lua"

-- A script whose `add` has these lines. `own` is its table.
local function script(lines, rules)
  return ([[local nft = require "cni.nft"
return { add = function(req)
  local function own() return req.host:ensure_nft_table { name = "own", comment = "a spec's",
    sets = { { name = "known", key_type = "ipv4_addr" }, { name = "ways", key_type = "inet_service", data_type = "mark" },
      { name = "spans", key_type = "ipv4_addr", interval = true } },
    chains = { { name = "each" }, { name = "out", type = "filter", hook = "output", priority = 0,
      rules = { RULES } } } } end
  LINES
end }
]]):gsub("RULES", { RULES = rules or 'nft.rule(nft.daddr_in("ip", "known"), nft.verdict("jump", "each"))' })
    :gsub("LINES", { LINES = lines })
end

local function new(lines, options)
  t.needs "nft-nat"
  t.wipe()
  t.write(file, (script(lines)))
  return world.new({ type = "own" }, t.merge({ pods = 2, far = true, neighbours = false, lived_in = false }, options or {}))
end

local first, second = { type = "luacni", id = "c1", pod = 1 }, { type = "luacni", id = "c2", pod = 2 }

local function listed(w, family)
  return (t.sh(("nft list table %s own 2>/dev/null"):format(family or "inet"), { host = w.host }))
end

local function reaches(w, address) return t.ping(w.host, address) end

describe("A script's table of nf_tables", function()
  it("is shared, says whose its elements and rules are, and goes with the last attachment", function()
    local w = new [[
      local table, own = own(), req.container_id == "c1" and "192.0.2.2" or "192.0.2.3"
      req.host:add_nft_elements(table, { { set = "known", key = own } })
      req.host:add_nft_rule(table, "each", nft.rule(nft.daddr(own), nft.verdict "drop"))]]
    t.run("ip addr add 192.0.2.3/24 dev up0", { host = w.far })
    local before = w:picture()
    assert.is_true(reaches(w, "192.0.2.2"))
    w:ok("ADD", first)
    assert.is_false(reaches(w, "192.0.2.2"))
    assert.is_true(reaches(w, "192.0.2.3"))
    w:ok("ADD", second)
    local text = listed(w)
    for _, words in ipairs { 'elements = { 192.0.2.2 comment "net/c1/eth0"', 'ip daddr 192.0.2.3 drop comment "net/c2/eth0 1"',
      "a spec's (made and removed by luacni)" } do
      assert.truthy(text:find(words, 1, true), text)
    end
    w:ok("DEL", first)
    assert.is_true(reaches(w, "192.0.2.2"))
    assert.is_false(reaches(w, "192.0.2.3"))
    w:ok("CHECK", second)
    w:ok("DEL", second)
    t.same(before, w:picture())
  end)

  it("has maps, and intervals by prefix", function()
    local w = new [[req.host:add_nft_elements(own(), { { set = "ways", key = 80, data = 7 }, { set = "spans", key = "10.1.0.0/16" },
      { set = "spans", key = "10.3.0.1", key_end = "10.3.0.9" } })]]
    w:ok("ADD", first)
    local text = listed(w)
    for _, words in ipairs { '80 comment "net/c1/eth0" : 0x00000007', "10.1.0.0/16 comment", "10.3.0.1-10.3.0.9 comment" } do
      assert.truthy(text:find(words, 1, true), text)
    end
    w:ok("CHECK", first)
    w:sh "nft 'delete element inet own ways { 80 }; add element inet own ways { 80 comment \"net/c1/eth0\" : 8 }'"
    assert.matches("leads elsewhere", w:fails("CHECK", first).text)
    w:ok("DEL", first)
    assert.equal("", listed(w))
  end)

  it("refuses an element that another attachment has, and names it; nothing has changed", function()
    local w = new [[local table = own()
      req.host:add_nft_elements(table, { { set = "known", key = "192.0.2." .. req.container_id:byte(2) },
        { set = "known", key = "192.0.2.9" } })]]
    w:ok("ADD", first)
    local before = w:picture()
    local e = w:fails("ADD", second)
    assert.matches("own%.lua:9: add_nft_elements: 192%.0%.2%.9 in known: net/c1/eth0 has it already", e.text)
    t.same(before, w:picture())
    w:ok("CHECK", first)
    w:ok("DEL", first)
  end)

  it("of a name that somebody else's table has is an error, which changes nothing; nor does the DEL", function()
    local w = new [[req.host:add_nft_elements(own(), { { set = "known", key = "192.0.2.9" } })]]
    w:sh "nft 'add table inet own; add chain inet own each; add rule inet own each counter'"
    local before = w:picture()
    assert.matches("own%.lua:8: table inet own is there, and somebody else's", w:fails("ADD", first).text)
    t.same(before, w:picture())
    w:ok("DEL", first)
    t.same(before, w:picture())
  end)

  it("has its rules made anew by the next ADD when the script has changed; elements stay", function()
    local lines = [[req.host:add_nft_elements(own(), { { set = "known", key = "192.0.2." .. req.container_id:byte(2) } })]]
    local w = new(lines)
    local before = w:picture()
    w:ok("ADD", first)
    t.write(file, (script(lines, 'nft.rule(nft.daddr_in("ip", "known"), nft.counter(), nft.verdict "drop")')))
    assert.matches("chain out, as this version makes it, is missing", w:fails("CHECK", first).text)
    w:ok("ADD", second)
    w:ok("CHECK", first)
    assert.matches("ip daddr @known counter packets %d+ bytes %d+ drop", listed(w))
    w:ok("DEL", first)
    w:ok("DEL", second)
    t.same(before, w:picture())
  end)

  it("keeps what another has in it when records are lost, and goes with the last", function()
    local w = new [[local table, own = own(), "192.0.2." .. req.container_id:byte(2)
      req.host:add_nft_elements(table, { { set = "known", key = own } })
      req.host:add_nft_rule(table, "each", nft.rule(nft.daddr(own), nft.counter()))]]
    local before = w:picture()
    w:ok("ADD", first)
    w:ok("ADD", second)
    t.run "rm -rf /run/luacni"
    w:ok("DEL", first)
    w:ok("CHECK", second)
    assert.is_nil(listed(w):find("c1", 1, true))
    w:ok("DEL", second)
    t.same(before, w:picture())
  end)

  it("that somebody flushed is made anew by the next ADD, and DEL is content without it", function()
    local w = new [[req.host:add_nft_elements(own(), { { set = "known", key = "192.0.2." .. req.container_id:byte(2) } })]]
    w:ok("ADD", first)
    w:sh "nft flush ruleset"
    assert.matches("set known is missing from table inet own", w:fails("CHECK", first).text)
    w:ok("ADD", second)
    w:ok("CHECK", second)
    w:ok("DEL", first)
    w:ok("DEL", second)
    assert.equal("", listed(w))
  end)

  it("may be the sandbox's", function()
    local w = new [[req.pod:add_nft_elements(req.pod:ensure_nft_table { name = "own", family = "ip",
      sets = { { name = "known", key_type = "ipv4_addr" } } }, { { set = "known", key = "192.0.2.9" } })]]
    local before = w:picture()
    w:ok("ADD", first)
    w:ok("CHECK", first)
    assert.matches('192.0.2.9 comment "net/c1/eth0"', t.run("nft list table ip own", { host = w.pods[1] }))
    w:ok("DEL", first)
    t.same(before, w:picture())
    w:ok("ADD", first)
    t.remove_netns(w.pods[1])
    w:ok("DEL", t.merge({ pod = "/run/netns/pod1" }, { type = "luacni", id = "c1" }))
    assert.is_nil(next(t.files "/run/luacni/shared"))
  end)
end)

describe("A rule in the administrator's chain", function()
  it("stands beside his, is the attachment's, and the chain stays while it has one", function()
    local w = new [[req.host:add_nft_rule(nil, "admin_forward", nft.rule(nft.saddr "192.0.2.9", nft.verdict "drop"))]]
    w:ok("ADD", first)
    w:sh "nft insert rule inet luacni admin_forward counter"
    w:ok("CHECK", first)
    w:ok("ADD", second)
    w:ok("DEL", first)
    local text = t.our_rules(w.host)
    assert.truthy(text:find('ip saddr 192.0.2.9 drop comment "net/c2/eth0 1"', 1, true), text)
    assert.is_nil(text:find("c1", 1, true))
    w:ok("DEL", second)
    assert.matches("chain admin_forward {[^}]*counter packets %d+ bytes %d+\n[^}]*}", t.our_rules(w.host))
    w:sh "nft delete table inet luacni"
  end)
end)

describe("The verbs of nf_tables tell a script what is wrong, and where:", function()
  local mistakes = {
    { 'req.host:ensure_nft_table { name = "luacni" }', "ensure_nft_table: name: luacni is this program's table" },
    { 'req.host:ensure_nft_table { name = "a b" }', 'ensure_nft_table: name: "a b" is no name' },
    { 'req.host:ensure_nft_table { name = "a", set = {} }', "ensure_nft_table: unknown key 'set' %(did you mean 'sets'%?%)" },
    { 'req.host:ensure_nft_table { name = "a", sets = { { name = "b" } } }', "ensure_nft_table: sets%[1%]%.key_type: is missing" },
    { 'req.host:ensure_nft_table { name = "a", chains = { { name = "b", hook = "input" } } }',
      "ensure_nft_table: chains%[1%]%.type: is missing: the chain has a hook" },
    { 'req.host:ensure_nft_table { name = "a", family = "inet6" }', "ensure_nft_table: family: unknown value 'inet6'" },
    { 'req.host:add_nft_elements({ name = "own" }, {})', "add_nft_elements: table: expected a table as ensure_nft_table gives it" },
    { 'req.host:add_nft_elements(own(), { { set = "know", key = "10.0.0.1" } })',
      "add_nft_elements: %[1%]%.set: unknown set 'know' %(did you mean 'known'%?%)" },
    { 'req.host:add_nft_elements(own(), { { set = "known" } })', "add_nft_elements: %[1%]%.key: is missing" },
    { 'req.host:add_nft_elements(own(), { { set = "known", key = "10.0.0.300" } })', "add_nft_elements: .*10%.0%.0%.300" },
    { 'req.host:add_nft_rule(own(), "eahc", {})', "add_nft_rule: chain: unknown chain 'eahc' %(did you mean 'each'%?%)" },
    { 'req.host:add_nft_rule(own(), "out", {})', "add_nft_rule: chain: out has the table's rules" },
    { 'req.host:add_nft_rule(nil, "forwarded", {})', "add_nft_rule: chain: unknown chain 'forwarded'" },
    { 'req.host:add_nft_rule(own(), "each", { { "payloda" } })', "add_nft_rule: .*payloda" },
  }
  for _, mistake in ipairs(mistakes) do
    it(mistake[1], function()
      local w = new(mistake[1])
      local before = w:picture()
      assert.matches("own%.lua:8: " .. mistake[2], w:fails("ADD", first).text)
      t.same(before, w:picture())
      -- The DEL behind it takes nothing and holds nothing.
      assert.equal(0, w:call("DEL", first).rc)
      t.same(before, w:picture())
    end)
  end
end)

describe("What a script has of nf_tables", function()
  it("is said in a dry run, and by `explain`", function()
    local w = new [[local table = own()
      req.host:add_nft_elements(table, { { set = "known", key = "192.0.2.9", says = "know 192.0.2.9" } })
      req.host:add_nft_rule(table, "each", nft.rule(nft.counter()))]]
    w:ok("ADD", first)
    local said = t.run({ t.build .. "/luacni", "explain", "net", "c1" }, { host = w.host })
    for _, words in ipairs { "have table inet own of nf_tables", "know 192.0.2.9", "add rule 1 to chain each of table inet own" } do
      assert.truthy(said:find(words, 1, true), said)
    end
    w:ok("DEL", first)
    local conf = "/run/spec/own.conflist"
    t.write(conf, cjson.encode { cniVersion = "1.1.0", name = "net", plugins = t.list { { type = "own" } } })
    said = t.run({ t.build .. "/luacni", "run", conf, "--dry-run" }, { host = w.host })
    assert.truthy(said:find("know 192.0.2.9", 1, true), said)
    assert.equal("", listed(w))
  end)
end)
