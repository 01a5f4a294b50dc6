-- SPDX-License-Identifier: MIT
-- The words of a command line: which namespace and network they mean, what is said of those that mean none, and
-- with what exit status.

local cli = require "cli"
local t = require "support"

local folder = "/etc/cni/net.d"
local host
local luacni, succeeds, fails = cli.luacni, cli.succeeds, cli.fails

local function put(name, list) t.write(("%s/%s.conflist"):format(folder, name), t.json(list)) end

local function demo(more)
  put("demo", t.merge({ cniVersion = "1.0.0", name = "demo", plugins = { { type = "bridge", bridge = "demo0",
    removeUnused = true, ipam = { type = "host-local", subnet = "10.9.8.0/24" } } } }, more or {}))
end

before_each(function()
  host = t.host()
  cli.host = host
  t.run { "mkdir", "-p", folder, "/run/spec/here" }
  demo()
end)
after_each(function()
  t.run "rm -rf /etc/cni/net.d /etc/luacni/plugins /run/spec/here"
  t.cleanup()
end)

describe("the words of a command line", function()
  it("name a namespace before they name a file of this folder", function()
    t.run "touch /run/spec/here/blue; ip netns add blue"
    finally(function() t.run "ip netns del blue" end)
    local there = { cwd = "/run/spec/here" }
    local result = t.decode((succeeds({ "add", "demo", "blue" }, there)))
    assert.equal("/run/netns/blue", result.interfaces[3].sandbox)
    succeeds({ "check", "demo", "blue" }, there)
    succeeds({ "del", "demo", "blue" }, there)
    -- With a slash it is the file; and what `ip netns` does not know.
    fails(1, { "add", "demo", "./blue" }, "/run/spec/here/blue", there)
    t.run "touch /run/spec/here/green"
    fails(1, { "add", "demo", "green" }, "/run/spec/here/green", there)
  end)

  it("say whose file is in the way of a network, and a way round", function()
    t.write(folder .. "/05-other.conflist", "")
    local way = "name the network's own file"
    for _, verb in ipairs { "add", "check", "del", "status" } do
      local said = fails(1, { verb, "demo", verb ~= "status" and "blue" or nil }, way)
      assert.is_truthy(said:find("05-other.conflist: it is empty", 1, true), said)
    end
    succeeds { "status", folder .. "/demo.conflist" }
    os.remove(folder .. "/05-other.conflist")
    succeeds { "status", "demo" }
  end)

  it("are mistakes when they are empty, as what a shell makes of a variable that is not set", function()
    for _, case in ipairs { { "NETWORK", "add", "", "blue" }, { "NETNS", "add", "demo", "" },
      { "NETNS", "del", "demo", "" }, { "NETNS", "check", "demo", "" }, { "NETWORK", "gc", "" },
      { "NETWORK", "status", "" }, { "NETWORK", "version", "" }, { "NETWORK", "list", "" },
      { "WHO", "list", "demo", "" }, { "WHO", "tree", "demo", "" }, { "WHO", "explain", "demo", "" }, { "WHO", "repair", "demo", "" },
      { "CONF", "validate", "" }, { "CONF", "run", "", "--", "true" }, { "FILE", "check-scripts", "" },
      { "FILE", "check-scripts", "x", "" }, { "NAME", "new", "" }, { "TYPE", "link", "" }, { "TYPE", "show", "" },
      { "the value of --conf-dir", "add", "demo", "blue", "--conf-dir", "" },
      { "the value of --ifname", "add", "demo", "blue", "--ifname=" } } do
      fails(2, { table.unpack(case, 2) }, ("luacni: %s: %s is empty"):format(case[2], case[1]))
    end
    assert.equal("", (t.sh "ls /var/lib/cni"))
    -- No argument at all is what a runtime gives as an empty text, and a command may have any words.
    t.run "ip netns add blue"
    finally(function() t.run "ip netns del blue" end)
    succeeds { "add", "demo", "blue", "--args", "" }
    succeeds { "del", "demo", "blue" }
    succeeds { "run", "demo", "--", "test", "-z", "" }
  end)

  it("are mistakes when arguments cannot be read", function()
    fails(2, { "add", "demo", "blue", "--cap-args", "{" }, "--cap-args")
    fails(2, { "add", "demo", "blue", "--args", "x" }, "CNI_ARGS")
    fails(2, { "add", "demo", "blue" }, "CAP_ARGS", { env = { "CAP_ARGS=[]" } })
  end)
end)

describe("one without rights", function()
  it("is told by each command that root is needed, once, and not that there is nothing", function()
    t.netns "blue"
    succeeds { "add", "demo", "blue" }
    local before = t.snapshot { ns = { host } }
    for _, words in ipairs { "add demo blue", "check demo blue", "del demo blue", "gc", "gc demo", "list", "list --leases",
      "explain", "repair", "tree" } do
      local out, status, err = t.sh(("setpriv --reuid 1000 --clear-groups %s/luacni %s"):format(t.build, words),
        { host = host })
      t.same({ "", 1 }, { out, status }, words .. ": " .. err)
      t.same({ 1, 1 }, { select(2, err:gsub("root", "")), select(2, err:gsub("\n", "")) }, words .. ": " .. err)
    end
    t.same(before, t.snapshot { ns = { host } })
    assert.matches("\ndemo ", (succeeds { "list" }))
    succeeds { "del", "demo", "blue" }
  end)
end)

describe("luacni run", function()
  it("exits with 125 when there is no network to run in, whatever the command would have said", function()
    fails(125, { "run", "-", "--", "true" }, "standard input", { stdin = "" })
    fails(125, { "run", "dmo", "--", "true" }, 'did you mean "demo"?')
    fails(125, { "run", "/no/such/file", "--", "true" }, "No such file")
    fails(2, { "run", "demo" }, "there is no command")
    fails(1, { "run", "-", "--dry-run" }, "standard input", { stdin = "" })
    assert.equal(1, (select(2, luacni { "run", "demo", "--", "false" })))
  end)

  it("tells one without rights that root is needed, once", function()
    local words = { "setpriv", "--reuid", "1000", "--clear-groups", t.build .. "/luacni", "run", folder .. "/demo.conflist",
      "--", "true" }
    local out, status, err = t.sh(words, { host = host })
    t.same({ "", 125 }, { out, status })
    assert.is_truthy(err:find("Permission denied", 1, true), err)
    assert.equal(1, select(2, err:gsub("root", "")), err)
    assert.is_nil(err:find("%.lua:%d"), err)
  end)

  it("prints no heading of a dry run that fails", function()
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req)
      if req.conf.bad then require("cni.fail").throw "no such thing" end
      return { interfaces = { req.host:add_link { kind = "bridge", name = "own0" } } } end }]])
    put("own", { cniVersion = "1.0.0", name = "own", plugins = { { type = "own", bad = true } } })
    fails(1, { "run", "own", "--dry-run" }, "no such thing")
    put("own", { cniVersion = "1.0.0", name = "own", plugins = { { type = "own" } } })
    assert.matches("^own:\n  .*own0", (succeeds { "run", "own", "--dry-run" }))
  end)
end)

describe("what is said of this site's scripts", function()
  local plugins, good = "/etc/luacni/plugins/", "return { add = function(req) return { dns = {} } end }"

  it("is said once for all that one folder keeps from being loaded, with what mends it", function()
    for _, name in ipairs { "a", "b", "c" } do t.write(plugins .. name .. ".lua", good) end
    assert.equal("all 3 are fine\n", (succeeds { "check-scripts" }))
    t.run { "chmod", "777", "/etc/luacni" }
    finally(function() t.run { "chmod", "755", "/etc/luacni" } end)
    local out, status = luacni { "check-scripts" }
    assert.equal(1, status)
    assert.equal(plugins .. "a.lua: refused: /etc/luacni can be written by everybody; chmod go-w /etc/luacni mends it "
      .. "(and 2 more for the same reason)\n", out)
    local list = t.decode((luacni { "check-scripts", "--json" }))
    for i = 1, 3 do assert.matches("refused: ", list[i].problem) end
    -- What each is to blame for itself is said of each.
    t.run { "chmod", "755", "/etc/luacni" }
    for _, name in ipairs { "a", "b" } do t.write(plugins .. name .. ".lua", "return {") end
    assert.equal(2, select(2, (luacni { "check-scripts" }):gsub("\n", "\n")))
  end)

  it("is marked in the list of types", function()
    t.write(plugins .. "good.lua", good)
    t.write(plugins .. "bad.lua", "return {")
    local out = succeeds { "types" }
    assert.matches("\nbad [^\n]*cannot be loaded: luacni check%-scripts says why\n", out)
    assert.equal(1, select(2, out:gsub("cannot be loaded", "")))
    for _, entry in ipairs(t.decode((succeeds { "types", "--json" }))) do
      assert.equal(entry.type == "bad", entry.problem ~= nil)
    end
  end)
end)

describe("luacni types --json", function()
  it("says whether the program of a type is this one", function()
    local bin = "/run/spec/some"
    t.run { "mkdir", "-p", bin }
    succeeds { "link", "bridge", "--dir", bin }
    t.write(bin .. "/ptp", "#!/bin/sh\n")
    t.run { "chmod", "+x", bin .. "/ptp" }
    local found = {}
    for _, entry in ipairs(t.decode((succeeds({ "types", "--json" }, { env = { "CNI_PATH=" .. bin } })))) do
      found[entry.type] = tostring(entry.luacni)
    end
    t.same({ "true", "false", "nil" }, { found.bridge, found.ptp, found.vlan })
  end)
end)

describe("luacni link", function()
  it("knows this program by any name, links to it from any folder, and leaves others alone", function()
    local bin = "/run/spec/here"
    local words = { "link", "bridge", "--dir", bin }
    fails(2, { "link", "bridge", "brigde", "--dir", bin }, 'there is no type "brigde"; did you mean "bridge"?')
    assert.equal("", t.run { "ls", bin })
    assert.equal(bin .. "/bridge\n", (succeeds(words)))
    assert.equal(t.run { "readlink", "-f", t.build .. "/luacni" }, t.run { "readlink", "-f", bin .. "/bridge" })
    assert.equal(bin .. "/bridge\n", (succeeds(words)))
    t.run("ln -sf luacni " .. bin .. "/bridge; ln -s " .. t.build .. "/luacni " .. bin .. "/luacni")
    succeeds(words)
    t.run("rm " .. bin .. "/bridge; cp /bin/true " .. bin .. "/bridge")
    fails(1, words, "is no link to luacni")
    fails(2, { "link", "bridge", "--dir", "/no/such" }, "there is no folder /no/such")
  end)
end)
