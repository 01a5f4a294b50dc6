-- SPDX-License-Identifier: MIT
-- Networks as runtimes find and read them: cni.runtime.config, and what is stored of attachments:
-- cni.runtime.cache. In plain Lua, as another program would use them.

local t = require "support"
local cache = require "cni.runtime.cache"
local config = require "cni.runtime.config"
local base64 = require "cni.protocol.base64"

local folder = "/run/spec/net.d"

local function put(files)
  t.run("rm -rf " .. folder .. "; mkdir -p " .. folder)
  for name, text in pairs(files) do t.write(folder .. "/" .. name, text) end
end

local function list(name, more)
  return t.json(t.merge({ cniVersion = "1.0.0", name = name, plugins = { { type = "loopback" } } }, more))
end

local function single(name) return t.json { cniVersion = "0.4.0", name = name, type = "loopback" } end

local function fails(pattern, f, ...)
  local ok, err = pcall(f, ...)
  assert.is_false(ok)
  assert.is_truthy(tostring(err):find(pattern, 1, true), tostring(err))
end

local function types(network)
  local names = {}
  for i, plugin in ipairs(network.plugins) do names[i] = plugin.type end
  return table.concat(names, " ")
end

after_each(function()
  t.run("rm -rf /var/lib/cni/results " .. folder)
  t.cleanup()
end)

describe("the search for a network", function()
  it("takes the first list of the name, and a single configuration where no list has it", function()
    put {
      ["20-b.conflist"] = list "net", ["10-a.conflist"] = list("other"), ["30-c.conflist"] = list "net",
      ["05-d.conf"] = single "net", ["07-e.json"] = single "only", ["06-f.conf"] = single "only",
      ["00-broken.yaml"] = "{", ["folder.conflist/x"] = "{", [".hidden.conflist"] = list "hidden",
    }
    assert.equal(folder .. "/20-b.conflist", config.find("net", folder).file)
    assert.equal(folder .. "/06-f.conf", config.find("only", folder).file)
    assert.equal("hidden", config.find("hidden", folder).name)
    local found, others = config.find("none", folder)
    assert.is_nil(found)
    table.sort(others)
    t.same({ "hidden", "net", "net", "net", "only", "only", "other" }, others)
    t.same({ nil, {} }, { config.find("net", "/no/such/folder") })
    t.run(("mv %s/20-b.conflist /run/spec/target && ln -s /run/spec/target %s/20-b.conflist"):format(folder, folder))
    assert.equal(folder .. "/20-b.conflist", config.find("net", folder).file)
  end)

  it("ends at a file that cannot be read, and not at one behind the match", function()
    put { ["10-a.conflist"] = list "net", ["20-broken.conflist"] = "{ nonsense" }
    assert.equal("net", config.find("net", folder).name)
    fails("20-broken.conflist", config.find, "none", folder)
    put { ["10-a.conflist"] = list "net", ["05-broken.conflist"] = '{ "name": "x", "plugins": [] }' }
    fails("05-broken.conflist: plugins: has no plugin in it", config.find, "net", folder)
    put { ["10-a.conf"] = list "net" }
    fails("its name has to end in .conflist", config.find, "net", folder)
    put { ["10-a.conflist"] = single "net" }
    fails('a list has them in "plugins"', config.find, "net", folder)
    local networks, problems = config.all(folder)
    t.same({ 0, 1 }, { #networks, #problems })
  end)

  it("completes a list by the files of its own folder, unless it says otherwise", function()
    put {
      ["net.conflist"] = list "net", ["net/20-b.conf"] = '{ "type": "vrf", "x": 1.50 }',
      ["net/10-a.conf"] = '{ "type": "tuning" }', ["net/00.conflist"] = "{", ["net/5.json"] = "{",
      ["bare.conflist"] = '{ "cniVersion": "1.0.0", "name": "bare" }', ["bare/1.conf"] = '{ "type": "loopback" }',
    }
    local network = config.find("net", folder)
    assert.equal("loopback tuning vrf", types(network))
    assert.equal("loopback", types(config.read(network.bytes, "bytes")))
    -- What is stored for those who have no folder holds them all, once.
    local stored = config.read(config.stored(network), "stored", folder)
    assert.equal("loopback tuning vrf", types(stored))
    assert.is_truthy(config.stored(network):find("1.50", 1, true))
    assert.equal("loopback", types(config.find("bare", folder)))
    t.write(folder .. "/net.conflist", list("net", { loadOnlyInlinedPlugins = true }))
    network = config.find("net", folder)
    assert.equal("loopback", types(network))
    assert.equal(t.read(folder .. "/net.conflist"), config.stored(network))
    t.write(folder .. "/net.conflist", list "net")
    t.write(folder .. "/net/30.conf", "{}")
    fails(folder .. "/net/30.conf.type: is missing", config.find, "net", folder)
    -- A name is no path.
    put { ["x.conflist"] = list "../y", ["z/../../y/1.conf"] = "{" }
    assert.equal("loopback", types(config.find("../y", folder)))
  end)

  it("chooses the newest version that both sides know", function()
    for _, case in ipairs {
      { { cniVersions = { "0.4.0", "1.0.0", "1.1.0" } }, "1.1.0" },
      { { cniVersions = { "1.0.0", "7.0.0" }, cniVersion = "8.0.0" }, "1.0.0" },
      { { cniVersions = { "0.4.0" }, cniVersion = "1.0.0" }, "1.0.0" },
      { { cniVersions = { "7.0.0" }, cniVersion = "8.0.0" }, "8.0.0" },
      { { cniVersion = "0.3.1" }, "0.3.1" }, { { cniVersion = "9.9.9" }, "9.9.9" },
    } do
      assert.equal(case[2], config.read(list("net", case[1]), "x").version)
    end
    assert.equal("", config.read('{ "name": "n", "type": "loopback" }', "x").version)
    fails("cniVersions[1]: ", config.read, list("net", { cniVersions = { "1.0.0", 7 } }), "x")
    fails("cniVersions: ", config.read, list("net", { cniVersions = "1.0.0" }), "x")
    fails("cniVersion: ", config.read, list("net", { cniVersion = 1 }), "x")
  end)

  it("reads the switches, as booleans and as words", function()
    for _, case in ipairs { { true, true }, { "TRUE", true }, { false, false }, { "False", false } } do
      local network = config.read(list("net", { disableCheck = case[1], disableGC = case[1] }), "x")
      t.same({ case[2], case[2] }, { network.disable_check, network.disable_gc })
    end
    fails('disableCheck: "yes" is neither', config.read, list("net", { disableCheck = "yes" }), "x")
    fails("disableGC: 1 is neither", config.read, list("net", { disableGC = 1 }), "x")
    fails("plugins: is missing", config.read, '{ "name": "n", "loadOnlyInlinedPlugins": true }', "x", folder)
    fails("plugins: is missing", config.read, '{ "name": "n" }', "x")
    fails("plugins: 7 is not a list", config.read, '{ "name": "n", "plugins": 7 }', "x")
    fails("plugins[0].type: is missing", config.read, '{ "name": "n", "plugins": [{}] }', "x")
    fails('plugins[0].type: "a/b" is not', config.read, '{ "name": "n", "plugins": [{ "type": "a/b" }] }', "x")
    fails("name: is missing", config.read, "{}", "x")
    fails("name: 7 is not", config.read, '{ "name": 7 }', "x")
  end)
end)

describe("what is stored of attachments", function()
  local owner = { network = "net", id = "c-1", ifname = "eth0" }
  local entry = t.merge(owner, { netns = "/run/netns/n", config = '{"name":"net"}', result = '{"cniVersion":"1.0.0"}' })
  local file = cache.folder .. "/net-c-1-eth0"

  it("is libcni's file, byte for byte", function()
    cache.store(entry)
    assert.equal('{"kind":"cniCacheV1","containerId":"c-1","config":"eyJuYW1lIjoibmV0In0=","ifName":"eth0",'
      .. '"networkName":"net","netns":"/run/netns/n","result":{"cniVersion":"1.0.0"}}', t.read(file))
    assert.equal("600 700 755\n", t.run(("stat -c %%a %s %s /var/lib/cni | paste -sd' '"):format(file, cache.folder)))
    cache.store(t.merge(entry, { args = "A=b;IgnoreUnknown=1", capability_args = { aliases = { net = { "x" } } } }))
    assert.is_truthy(t.read(file):find('"netns":"/run/netns/n","cniArgs":[["A","b"],["IgnoreUnknown","1"]],'
      .. '"capabilityArgs":{"aliases":{"net":["x"]}},"result":', 1, true))
    local read = cache.load(owner)
    t.same({ "A=b;IgnoreUnknown=1", { aliases = { net = { "x" } } }, '{"name":"net"}', "1.0.0", "/run/netns/n" },
      { read.args, read.capability_args, read.config, read.version, read.netns })
    assert.equal(1, #cache.all "net")
    assert.equal(0, #cache.all "other")
    cache.remove(owner)
    cache.remove(owner)
    assert.is_nil(cache.load(owner))
  end)

  it("is read as older libraries have left it", function()
    t.write(file, '{"cniVersion":"0.4.0","ips":[]}')
    t.same({ '{"cniVersion":"0.4.0","ips":[]}', "0.4.0" }, { cache.load(owner).result, cache.load(owner).version })
    t.same({}, cache.all())
    -- Before 1.2 without the namespace.
    t.write(file, t.json { kind = "cniCacheV1", containerId = "c-1", networkName = "net", ifName = "eth0",
      result = { cniVersion = "0.4.0", interfaces = { { name = "br0" }, { name = "eth0", sandbox = "/run/netns/p" } } } })
    assert.equal("/run/netns/p", cache.load(owner).netns)
    t.write(file, "{ nonsense")
    fails(file, cache.load, owner)
    t.write(file, '{"kind":"cniCacheV9"}')
    fails("cniCacheV9", cache.load, owner)
    t.same({}, cache.all())
  end)

  it("holds bytes in base64 that others read", function()
    for length = 0, 70 do
      local bytes = ("\0\xff\x10 az{}"):rep(9):sub(1, length)
      t.write("/run/spec/bytes", bytes)
      assert.equal(t.run "base64 -w0 /run/spec/bytes", base64.encode(bytes))
      assert.equal(bytes, base64.decode(base64.encode(bytes)))
    end
    for _, bad in ipairs { "a", "abc", "ab=c", "a===", "ab!=", "abcde" } do assert.is_nil(base64.decode(bad)) end
  end)

  it("has arguments that are pairs", function()
    for _, bad in ipairs { "A", "A=", "=b", "A=b=c", "A=b;", ";A=b" } do fails("invalid CNI_ARGS pair", cache.args, bad) end
    t.same({ { "A", "b" }, { "C", "d e" } }, cache.args "A=b;C=d e")
    t.same({}, cache.args "")
  end)
end)
