-- SPDX-License-Identifier: MIT
-- Who is meant by the words of list, explain and tree; what they say of a network that is none here and of an
-- attachment that no record knows; and the same as JSON, of gc, status and version too.

local cli = require "cli"
local t = require "support"

local folder = "/etc/cni/net.d"
local host
local luacni, succeeds = cli.luacni, cli.succeeds

local function as_json(status, words)
  local out, got, err = luacni { words[1], "--json", table.unpack(words, 2) }
  t.same({ status, "" }, { got, err }, out)
  return t.decode(out)
end

local function put(name, plugin, version)
  t.write(("%s/%s.conflist"):format(folder, name), t.json { cniVersion = version or "1.1.0", name = name,
    plugins = { plugin } })
end

local function bridge(number)
  return { type = "bridge", bridge = "demo" .. number, removeUnused = true,
    ipam = { type = "host-local", subnet = ("10.9.%d.0/24"):format(number) } }
end

-- The containers that a command's answer is about, in their order.
local function containers(words)
  local ids = {}
  for i, entry in ipairs(as_json(0, words)) do ids[i] = entry.container end
  return ids
end

local function lose_records() t.run "rm -rf /run/luacni/attachments" end

before_each(function()
  host = t.host("node", { lived_in = false })
  cli.host = host
  put("demo", bridge(1))
  put("other", bridge(2))
  for _, name in ipairs { "blue", "red", "none" } do t.netns(name) end
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results /etc/luacni/plugins " .. folder)
  t.cleanup()
end)

-- A script of the type bridge that leases one address more, in the folder `pool` beside its network's.
local own_bridge = [[
local ranges = require "cni.ranges"
return { add = function(req)
  local result = req:delegate "bridge"
  local sets = ranges.read { { where = "own", sets = { { { subnet = "10.60.0.0/24" } } } } }
  for _, ip in ipairs(req:lease { dir = "/var/lib/cni/pools", network = "pool", sets = sets }) do
    table.insert(result.ips, { address = ip.address, interface = result.interfaces[3] })
  end
  return result
end }]]

describe("A lease in a folder of another name", function()
  local function leased(...)
    local found = {}
    for i, lease in ipairs(as_json(0, { "list", "--leases", ... })) do
      found[i] = ("%s/%s %s %s%s"):format(lease.network, lease.address, lease.container, lease.interface,
        lease.attached and "" or " nobody's")
    end
    return found
  end

  it("is that of the attachment whose record has it, and no other's", function()
    t.write("/etc/luacni/plugins/bridge.lua", own_bridge)
    succeeds { "add", "demo", "blue", "--id", "c1" }
    succeeds { "add", "other", "red", "--id", "c2" }
    t.write("/var/lib/cni/pools/pool/10.60.0.9", "c1\r\neth9")
    local last = { "pool/10.60.0.2 c1 eth0", "pool/10.60.0.3 c2 eth0", "pool/10.60.0.9 c1 eth9 nobody's" }
    t.same({ "demo/10.9.1.2 c1 eth0", "other/10.9.2.2 c2 eth0", table.unpack(last) }, leased())
    t.same({ "demo/10.9.1.2 c1 eth0", last[1] }, leased "demo")
    t.same({ "demo/10.9.1.2 c1 eth0", last[1] }, leased("demo", "blue"))
    t.same({ "other/10.9.2.2 c2 eth0", last[2] }, leased("other", "c2"))
    t.same({ "10.9.1.2", "10.60.0.2" }, as_json(0, { "list", "demo" })[1].leases)
    -- Records alone know of the folder.
    lose_records()
    t.same({ "demo/10.9.1.2 c1 eth0", "other/10.9.2.2 c2 eth0" }, leased())
    t.run "rm -rf /var/lib/cni/pools /var/lib/cni/networks"
  end)

  it("is none of the network that has the folder's name by chance", function()
    t.write("/etc/luacni/plugins/bridge.lua", (own_bridge:gsub('"pool"', '"other"')))
    succeeds { "add", "demo", "blue", "--id", "c1" }
    t.same({ "demo/10.9.1.2 c1 eth0", "other/10.60.0.2 c1 eth0" }, leased "demo")
    t.same({}, containers { "list", "other" })
    t.run "rm -rf /var/lib/cni/pools /var/lib/cni/networks"
  end)
end)

describe("WHO of list, explain and tree", function()
  it("is a container's ID, or the name or path of its namespace", function()
    succeeds { "add", "demo", "blue" }
    succeeds { "add", "demo", "red", "--id", "c2" }
    succeeds { "add", "other", "red", "--id", "c3", "-i", "eth1" }
    local blue = containers({ "list", "demo", "blue" })[1]
    assert.matches("^cnitool%-%x+$", blue)
    local meant = { [blue] = { blue }, blue = { blue }, ["/run/netns/blue"] = { blue },
      ["/var/run/netns/../../run/netns/blue"] = { blue }, red = { "c2" }, c2 = { "c2" }, c3 = {}, none = {}, nobody = {} }
    for word, ids in pairs(meant) do
      t.same(ids, containers { "list", "demo", word }, word)
      t.same(ids, containers { "explain", "demo", word }, word)
      local out = succeeds { "tree", "demo", word }
      for _, id in ipairs { blue, "c2", "c3" } do
        assert.equal(id == ids[1], out:find(id .. " eth", 1, true) ~= nil, word .. ": " .. out)
      end
    end
    t.same({ "c3" }, containers { "list", "other", "red" })
    t.same({ "c2" }, containers { "list", "demo", "red", "--leases" })
    t.same({}, containers { "list", "demo", "none", "--leases" })
    t.same({ "", "nothing is attached to network demo for container none\n" }, { succeeds { "list", "demo", "none" } })
    -- It is meant by the name of its namespace when that is gone, as for del; and not when another one has the name.
    t.run "ip netns del red"
    t.same({ "c2" }, containers { "list", "demo", "red" })
    t.same({}, containers { "list", "demo", "none" })
  end)

  it("is no namespace that has taken the name of one that lives on", function()
    succeeds { "add", "demo", "red", "--id", "c2" }
    t.run "touch /run/netns/moved; mount --bind /run/netns/red /run/netns/moved; ip netns del red; ip netns add red"
    finally(function() t.run "ip netns del moved" end)
    t.same({ "c2" }, containers { "list", "demo", "moved" })
    t.same({}, containers { "list", "demo", "red" })
  end)
end)

describe("A network that is none here", function()
  it("is told as status tells it; one that somebody is attached to is listed", function()
    local out, status, err = luacni { "status", "dmo" }
    t.same({ "", 2 }, { out, status })
    assert.matches('did you mean "demo"?', err, 1, true)
    for _, words in ipairs { { "list" }, { "list", "--leases" }, { "list", "--json" }, { "explain" }, { "tree" } } do
      local command = table.remove(words, 1)
      t.same({ out, status, err }, { luacni { command, "dmo", table.unpack(words) } })
      t.same({ out, status, err }, { luacni { command, "dmo", "blue", table.unpack(words) } })
      local _, _, said = luacni { command, "demo", table.unpack(words) }
      assert.is_nil(said:find("no network", 1, true), said)
    end
    succeeds { "add", "demo", "blue", "--id", "c1" }
    os.remove(folder .. "/demo.conflist")
    t.same({ "c1" }, containers { "list", "demo" })
    t.same({ "c1" }, containers { "explain", "demo" })
    t.same({ "c1" }, containers { "list", "demo", "--leases" })
    lose_records()
    t.same({ "c1" }, containers { "list", "demo" })
    -- A file is a network too, as for add; --conf-dir names other ones.
    t.write("/run/spec/here/demo.conflist", t.json { cniVersion = "1.0.0", name = "demo", plugins = { bridge(1) } })
    finally(function() t.run "rm -rf /run/spec/here" end)
    t.same({ "c1" }, containers { "list", "/run/spec/here/demo.conflist" })
    succeeds { "del", "demo", "blue", "--id", "c1" }
    assert.equal(2, select(2, luacni { "list", "demo" }))
    t.same({ "", "nothing is attached to network demo\n" },
      { succeeds { "list", "demo", "--conf-dir", "/run/spec/here" } })
  end)
end)

describe("An attachment that no record knows", function()
  it("is told as such by list and explain; one with a record is not", function()
    succeeds { "add", "demo", "blue", "--id", "c1" }
    local row = "\ndemo +c1 +eth0 +blue +bridge +%d+s +10%.9%.1%.2/24"
    assert.matches(row .. "\n", (succeeds { "list" }))
    assert.matches("^demo  c1 eth0  bridge  /run/netns/blue\n  lease", (succeeds { "explain" }))
    t.same({ true, true }, { as_json(0, { "list" })[1].recorded, as_json(0, { "list" })[1].stored })
    lose_records()
    assert.matches(row .. " %(no record%)\n", (succeeds { "list" }))
    t.same({ "demo  c1 eth0  bridge  /run/netns/blue  (no record of it)\n", "" }, { succeeds { "explain", "demo", "blue" } })
    local told = as_json(0, { "explain", "demo", "blue" })[1]
    t.same({ false, true, {} }, { told.recorded, told.stored, told.records })
    t.remove_netns { name = "blue", path = "/run/netns/blue" }
    assert.matches(row .. " %(its namespace is gone, no record%)\n", (succeeds { "list" }))
  end)
end)

describe("The age of an attachment", function()
  it("is that of its record, or of what a runtime has stored, in one unit", function()
    succeeds { "add", "demo", "blue", "--id", "c1" }
    for _, lost in ipairs { false, true } do
      if lost then lose_records() end
      for ago, said in pairs { ["90 seconds ago"] = "1m", ["3 hours ago"] = "3h", ["50 hours ago"] = "2d",
        ["1 hour"] = "0s" } do
        t.run(("find /run/luacni /var/lib/cni/results -type f -exec touch -d '%s' {} +"):format(ago))
        assert.matches("\ndemo +c1 +eth0 +blue +bridge +" .. said .. " +10%.9%.1%.2/24", (succeeds { "list" }))
      end
    end
  end)
end)

describe("As JSON", function()
  it("explain has the steps of each record, and how far it is", function()
    t.same({}, as_json(0, { "explain" }))
    succeeds { "add", "demo", "blue", "--id", "c1" }
    local plain, told = succeeds { "explain" }, as_json(0, { "explain" })
    t.same({ "demo", "c1", "eth0", 1 }, { told[1].network, told[1].container, told[1].interface, #told[1].records })
    local record = told[1].records[1]
    t.same({ "bridge", "attached", "/run/netns/blue" }, { record.type, record.state, record.sandbox })
    assert.equal(plain:match "\n(.*)", "  " .. table.concat(record.steps, "\n  ") .. "\n")
  end)

  it("gc has what it would clear, what it has cleared, and what would not go", function()
    succeeds { "add", "demo", "blue", "--id", "c1" }
    t.same({}, as_json(0, { "gc", "--dry-run" }))
    t.remove_netns { name = "blue", path = "/run/netns/blue" }
    local found = { network = "demo", container = "c1", interface = "eth0", what = "namespace /run/netns/blue is gone" }
    t.same({ t.merge(found, { cleared = false }) }, as_json(0, { "gc", "--dry-run" }))
    local stored = "/var/lib/cni/results/demo-c1-eth0"
    local kept = t.read(stored)
    t.same({ t.merge(found, { cleared = true }) }, as_json(0, { "gc" }))
    t.same({}, as_json(0, { "gc" }))
    os.remove(folder .. "/demo.conflist")
    t.write(stored, (kept:gsub('"config":"[^"]*"', '"config":""')))
    local list = as_json(1, { "gc" })
    t.same({ 1, "c1", false }, { #list, list[1].container, list[1].cleared })
    assert.matches("no file has the network", list[1].problem)
  end)

  it("status has whether plugins were asked, and what one said", function()
    put("old", bridge(3), "1.0.0")
    t.same({ network = "demo", asked = true }, as_json(0, { "status", "demo" }))
    t.same({ network = "old", asked = false }, as_json(0, { "status", "old" }))
    t.write("/etc/luacni/plugins/ill.lua", [[return { add = function() return {} end,
      status = function() require("cni.fail").throw { code = 50, msg = "the card is out" } end }]])
    put("ill", { type = "ill" })
    t.run("mkdir -p /run/spec/bin; ln -sf " .. t.build .. "/luacni /run/spec/bin/ill")
    finally(function() t.run "rm -rf /run/spec/bin" end)
    local out, status = luacni({ "status", "ill", "--json" }, { env = { "CNI_PATH=/run/spec/bin" } })
    assert.equal(1, status)
    t.same({ "ill", true }, { t.decode(out).network, t.decode(out).asked })
    assert.matches("the card is out", t.decode(out).problem)
  end)

  it("version without a network has luacni's", function()
    local plain = succeeds { "version" }
    assert.equal(plain, ("luacni %s\n"):format(as_json(0, { "version" }).luacni))
  end)
end)
