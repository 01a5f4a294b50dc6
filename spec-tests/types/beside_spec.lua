-- SPDX-License-Identifier: MIT
-- Other people's plugins beside ours: in any place of a list, as IPAM plugin, as delegate. What is theirs goes
-- through us unharmed: large numbers, empty lists and objects, keys that nobody knows.

local cli = require "cli"
local t = require "support"

local folder, log = "/etc/cni/net.d", "/run/spec/log"
local bin = t.bin.ours .. ":/run/spec/bin"
local env = { env = { "CNI_PATH=" .. bin } }
local host, blue, clean

-- What a configuration of theirs has, as they write it.
local odd = [["big": 18446744073709551615, "bigger": 123456789012345678901234567890, "exact": 9007199254740993, ]]
  .. [["least": -9223372036854775808, "none": [], "nobody": {}, "deep": {"a": [{"b": [], "c": {}}, 12345678901234567]}, ]]
  .. [["text": "ü\u00e9\n\"/", "yes": true]]

-- A plugin that writes down what it is given, and does what it is told: `answers` is its ADD's answer in shell, which
-- has the configuration as $conf.
local function plugin(name, answers)
  t.write("/run/spec/bin/" .. name, ([[#!/bin/sh
conf=$(cat)
mkdir -p %s
n=$(ls %s | wc -l)
printf %%s "$conf" >%s/$(printf %%02d $n).$CNI_COMMAND.%s
if [ -e /run/spec/fails.%s.$CNI_COMMAND ]; then
  echo '{"cniVersion":"1.1.0","code":123,"msg":"not today"}'
  exit 1
fi
[ $CNI_COMMAND = ADD ] || exit 0
%s
]]):format(log, log, log, name, name, answers))
  t.run("chmod 755 /run/spec/bin/" .. name)
end

-- The result of somebody who knows more than we: the interface in the sandbox is there.
local its_result = [[ip link add cali0 type veth peer name $CNI_IFNAME netns ${CNI_NETNS##*/} && ip link set cali0 up &&
ip route add 10.66.0.5/32 dev cali0 &&
ip -n ${CNI_NETNS##*/} addr add 10.66.0.5/32 dev $CNI_IFNAME && ip -n ${CNI_NETNS##*/} link set $CNI_IFNAME up || exit 1
mac=$(ip netns exec ${CNI_NETNS##*/} cat /sys/class/net/$CNI_IFNAME/address)
echo '{"cniVersion":"1.1.0","interfaces":[{"name":"cali0","theirs":12345678901234567890},
{"name":"'$CNI_IFNAME'","mac":"'$mac'","sandbox":"'$CNI_NETNS'","list":[]}],
"ips":[{"address":"10.66.0.5/32","interface":1,"token":9007199254740993}],"routes":[],"dns":{},
"future":{"n":18446744073709551615,"none":[],"nobody":{}}}']]
local its_del = "[ $CNI_COMMAND != DEL ] || ip link del cali0 2>/dev/null\n"
local passes_on = [[printf %s "$conf" | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)["prevResult"]))']]

local function main(name)
  plugin(name, its_result)
  local path = "/run/spec/bin/" .. name
  t.write(path, (t.read(path):gsub("%[ %$CNI_COMMAND = ADD %]", function(word) return its_del .. word end)))
end

-- What they were given, in turn: the verb, who, and the text.
local function given()
  local names, list = {}, {}
  for name in pairs(t.files(log)) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local verb, who = name:match "^%d+%.(%u+)%.(.*)$"
    list[#list + 1] = { verb = verb, who = who, text = t.read(log .. "/" .. name) }
  end
  t.run("rm -rf " .. log)
  return list
end

local function calls(list)
  local words = {}
  for _, call in ipairs(list) do words[#words + 1] = call.verb .. " " .. call.who end
  return table.concat(words, ", ")
end

-- The pieces of a text that have to be in another, whatever stands between.
local function has_all(text, ...)
  local bare = text:gsub("[ \n\t]", "")
  for _, piece in ipairs { ... } do assert.is_truthy(bare:find(piece, 1, true), piece .. " is not in\n" .. text) end
end

local function unharmed(text)
  has_all(text, '"big":18446744073709551615', '"bigger":123456789012345678901234567890', '"exact":9007199254740993',
    '"least":-9223372036854775808', '"none":[]', '"nobody":{}', '12345678901234567]')
  local one = t.run({ "python3", "-c", "import json,sys; c=json.load(sys.stdin); print(json.dumps([c['deep'], c['text'], c['yes']]))" },
    { stdin = text })
  assert.equal([=[[{"a": [{"b": [], "c": {}}, 12345678901234567]}, "\u00fc\u00e9\n\"/", true]]=], (one:gsub("\n$", "")))
end

local function result_unharmed(text)
  has_all(text, '"theirs":12345678901234567890', '"token":9007199254740993', '"list":[]',
    '"n":18446744073709551615', '"nobody":{}')
end

local function put(...)
  t.write(folder .. "/net.conflist", ('{"cniVersion":"1.1.0","name":"net","plugins":[%s]}'):format(table.concat({ ... }, ",")))
end

local function picture() return t.snapshot { ns = { host, blue } } end

local function luacni(...) return cli.succeeds({ ... }, env) end

before_each(function()
  t.wipe()
  host = t.host("node", { lived_in = false })
  blue = t.netns "blue"
  cli.host = host
  t.run("rm -rf /run/spec/bin /run/spec/fails.* " .. log .. "; mkdir -p /run/spec/bin")
  clean = picture()
end)
after_each(function()
  t.run("rm -rf /run/spec/bin /run/spec/fails.* " .. log .. " " .. folder .. " /var/lib/cni/results")
  t.cleanup()
end)

local ours = [[{"type":"tuning","sysctl":{"net.ipv4.conf.IFNAME.arp_filter":"1"}},{"type":"portmap","capabilities":{"portMappings":true}},]]
  .. [[{"type":"firewall"},{"type":"bandwidth","capabilities":{"bandwidth":true}}]]

describe("A plugin of somebody else's in a list", function()
  it("that is first is given its keys as written, and its result goes through ours as it is", function()
    t.needs "nft-nat"
    main "theirs"
    plugin("last", passes_on)
    put('{"type":"theirs",' .. odd .. '}', ours, '{"type":"last",' .. odd .. '}')
    local out = luacni("add", "net", "blue", "--cap-args",
      '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}')
    local list = given()
    assert.equal("ADD theirs, ADD last", calls(list))
    unharmed(list[1].text)
    unharmed(list[2].text)
    result_unharmed(list[2].text)
    result_unharmed(out)
    assert.equal("10.66.0.5", t.ip(blue, "addr show eth0")[1].addr_info[1]["local"])
    has_all(t.run("nft list table inet luacni", { host = host }), "10.66.0.5.80")
    luacni("check", "net", "blue")
    list = given()
    assert.equal("CHECK theirs, CHECK last", calls(list))
    for _, call in ipairs(list) do
      unharmed(call.text)
      result_unharmed(call.text)
    end
    luacni("del", "net", "blue")
    list = given()
    assert.equal("DEL last, DEL theirs", calls(list))
    for _, call in ipairs(list) do
      unharmed(call.text)
      result_unharmed(call.text)
    end
    t.same(clean, picture())
  end)

  it("that is in the middle, or last, likewise, behind a bridge of ours", function()
    plugin("mid", [[printf %s "$conf" | python3 -c 'import json,sys
r = json.load(sys.stdin)["prevResult"]; r["mine"] = [18446744073709551615, [], {}]; print(json.dumps(r))']])
    plugin("last", passes_on)
    put('{"type":"bridge","bridge":"br0","removeUnused":true,"ipam":{"type":"host-local","subnet":"10.67.0.0/24"}}',
      '{"type":"mid",' .. odd .. '}', '{"type":"tuning","mtu":1400}', '{"type":"last",' .. odd .. '}')
    local out = luacni("add", "net", "blue")
    has_all(out, '"mine":[18446744073709551615,[],{}]')
    local list = given()
    unharmed(list[1].text)
    unharmed(list[2].text)
    has_all(list[2].text, '"mine":[18446744073709551615,[],{}]')
    assert.equal(1400, t.link(blue, "eth0").mtu)
    luacni("check", "net", "blue")
    luacni("del", "net", "blue")
    assert.equal("CHECK mid, CHECK last, DEL last, DEL mid", calls(given()))
    t.same(clean, picture())
  end)

  it("in a list that is run in one process, likewise", function()
    main "theirs"
    plugin("last", passes_on)
    put('{"type":"theirs",' .. odd .. '},{"type":"tuning","mtu":1400},{"type":"last",' .. odd .. "}")
    luacni("bundle", folder .. "/net.conflist", "--write")
    local out = luacni("add", "net", "blue")
    result_unharmed(out)
    local list = given()
    assert.equal("ADD theirs, ADD last", calls(list))
    unharmed(list[1].text)
    unharmed(list[2].text)
    result_unharmed(list[2].text)
    luacni("check", "net", "blue")
    luacni("del", "net", "blue")
    list = given()
    assert.equal("CHECK theirs, CHECK last, DEL last, DEL theirs", calls(list))
    for _, call in ipairs(list) do unharmed(call.text) end
    t.same(clean, picture())
  end)

  it("that refuses its ADD leaves nothing of the others, which hear a DEL", function()
    main "theirs"
    plugin("last", passes_on)
    put('{"type":"theirs",' .. odd .. '}', '{"type":"tuning","mtu":1400}', '{"type":"last"}')
    t.write("/run/spec/fails.last.ADD", "")
    local _, status, err = cli.luacni({ "add", "net", "blue" }, env)
    assert.equal(1, status)
    has_all(err, "nottoday")
    assert.equal("ADD theirs, ADD last, DEL last, DEL theirs", calls(given()))
    t.same(clean, picture())
  end)

  it("hears GC and STATUS, and what it answers is the list's answer", function()
    main "theirs"
    put('{"type":"theirs",' .. odd .. '}', '{"type":"tuning","mtu":1400}')
    luacni("add", "net", "blue")
    given()
    luacni("status", "net")
    luacni("gc", "net")
    local list = given()
    assert.equal("STATUS theirs, GC theirs", calls(list))
    unharmed(list[1].text)
    unharmed(list[2].text)
    has_all(list[2].text, '"ifname":"eth0"')
    t.write("/run/spec/fails.theirs.STATUS", "")
    local _, status, err = cli.luacni({ "status", "net" }, env)
    assert.equal(1, status)
    has_all(err, "nottoday")
    luacni("del", "net", "blue")
    t.same(clean, picture())
  end)

  it("that has made an interface by Multus's shape of configuration is beside ours in one sandbox", function()
    main "multus"
    put('{"type":"multus","kubeconfig":"/etc/cni/net.d/multus.d/multus.kubeconfig","delegates":[{"cniVersion":"1.0.0",'
      .. '"name":"default-cni-network","plugins":[{"type":"flannel","delegate":{"isDefaultGateway":true}},{"type":"portmap",'
      .. '"capabilities":{"portMappings":true}}]}],' .. odd .. '}')
    t.write(folder .. "/second.conflist", t.json { cniVersion = "1.0.0", name = "second", plugins = {
      { type = "bridge", bridge = "br1", removeUnused = true, ipam = { type = "host-local", subnet = "10.68.0.0/24" } },
      { type = "sbr" } } })
    luacni("add", "net", "blue")
    luacni("add", "second", "blue", "--ifname", "net1")
    unharmed(given()[1].text)
    luacni("check", "net", "blue")
    luacni("check", "second", "blue", "--ifname", "net1")
    luacni("del", "second", "blue", "--ifname", "net1")
    assert.is_truthy(t.link(blue, "eth0"))
    luacni("del", "net", "blue")
    t.same(clean, picture())
  end)
end)

describe("Somebody else's IPAM plugin", function()
  local answer = [[echo '{"cniVersion":"1.1.0","ips":[{"address":"10.66.0.9/32"}],"future":18446744073709551615}']]

  it("is given the very bytes by each type that asks it, with all that only it knows", function()
    plugin("calico-ipam", answer)
    for _, form in ipairs { '"type":"bridge","bridge":"br0","removeUnused":true', '"type":"ptp"', '"type":"tap"' } do
      local conf = ('{ %s, "name":"net","cniVersion":"1.1.0", "ipam": {"type":"calico-ipam", "subnet": "usePodCidr", %s}, %s}')
        :format(form, odd, odd)
      local type_name = form:match '"type":"(%w+)"'
      local call = { type = type_name, conf = conf, host = host, netns = blue, path = bin }
      local is_refused = type_name == "ptp"
      local got = t.cni(t.with({ verb = "ADD" }, call))
      -- Calico's addresses have no gateway, which ptp needs.
      assert.equal(is_refused and 1 or 0, got.rc, got.out)
      if not is_refused then t.cni_ok(t.with({ verb = "CHECK", prev = got.json }, call)) end
      t.cni_ok(t.with({ verb = "DEL" }, call))
      for _, one in ipairs(given()) do
        if one.verb ~= "CHECK" then assert.equal(conf, one.text) end
        unharmed(one.text)
      end
      t.same(clean, picture())
    end
  end)

  it("may be Calico's, or have whereabouts' shape: addresses without gateway and routes", function()
    plugin("whereabouts", [[echo '{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.66.0.9/24"}],"dns":{}}']])
    put('{"type":"bridge","bridge":"br0","removeUnused":true,"ipam":{"type":"whereabouts","range":"10.66.0.0/24","exclude":[],'
      .. '"kubernetes":{"kubeconfig":"/x"},"gateway_ip":"","enable_overlapping_ranges":true,"sleep_for_race":9007199254740993}}')
    luacni("add", "net", "blue")
    has_all(given()[1].text, '"exclude":[]', '"sleep_for_race":9007199254740993')
    luacni("check", "net", "blue")
    luacni("del", "net", "blue")
    t.same(clean, picture())
  end)
end)

describe("Somebody else's plugin for interfaces", function()
  it("has our IPAM plugins do their part, from the CNI_PATH that it was given", function()
    plugin("foreign", [[printf %s "$conf" | ]] .. t.bin.ours .. "/$(printf %s \"$conf\" | "
      .. [[python3 -c 'import json,sys; print(json.load(sys.stdin)["ipam"]["type"])')]])
    local path = "/run/spec/bin/foreign"
    t.write(path, (t.read(path):gsub("%[ %$CNI_COMMAND = ADD %] || exit 0\n", "")))
    for _, ipam in ipairs { '{"type":"host-local","subnet":"10.69.0.0/24","x":[]}', '{"type":"static","addresses":[{"address":"10.69.0.2/24"}]}' } do
      put('{"type":"foreign",' .. odd .. ',"ipam":' .. ipam .. "}")
      has_all(luacni("add", "net", "blue"), "10.69.0.2/24")
      luacni("check", "net", "blue")
      luacni("del", "net", "blue")
      unharmed(given()[1].text)
      t.same({}, t.files "/run/luacni/attachments")
    end
    t.same(clean, picture())
  end)
end)
