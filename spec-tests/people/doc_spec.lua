-- SPDX-License-Identifier: MIT
-- luacni doc: what authors of scripts look up is in the program, all of it, and says what is so.

local t = require "support"

local function doc(...)
  return t.sh { t.build .. "/luacni", "doc", ... }
end

local function printed(...)
  local out, status, err = doc(...)
  assert.equal(0, status, err)
  assert.equal("", err)
  return out
end

local function refused(pattern, ...)
  local out, status, err = doc(...)
  assert.equal(2, status)
  assert.equal("", out)
  assert.truthy(err:find(pattern, 1, true), err)
end

-- Words of the first column below a heading of `luacni doc`.
local function listed(heading)
  local words, below = {}, false
  for line in printed():gmatch("[^\n]+") do
    local word = line:match("^  (%S+)")
    if not word then below = line == heading elseif below then words[#words + 1] = word end
  end
  assert.truthy(words[1], heading)
  return words
end

-- Those of them that are modules, or verbs.
local function modules()
  local words = {}
  for _, word in ipairs(listed "For scripts") do
    if word ~= "script" and word ~= "hook" then words[#words + 1] = word end
  end
  return words
end

describe("luacni doc without a word", function()
  it("lists every type, every module that a script or its spec can require, and the handles and req", function()
    local out = printed()
    local there = { handle = true, hook = true, req = true, script = true, spec = true }
    for path in t.run("ls lua/cni/*.lua"):gmatch("([%w_]+)%.lua") do there[path] = true end
    for _, word in ipairs(listed "For scripts") do
      assert.truthy(there[word], word)
      there[word] = nil
    end
    assert.same({}, there)
    for path in t.run("ls plugins/*.lua"):gmatch("([%w-]+)%.lua") do
      assert.truthy(out:find("\n  " .. path:gsub("%-", "%%-") .. " +%u%l"), path)
    end
  end)

  it("tells what a script's table may have: each name is taken, any other refused", function()
    for name in printed("script"):gmatch("\n(%l+) ") do
      t.write("/etc/luacni/plugins/told.lua", ("return { add = function() end, %s = %s }"):format(
        name == "add" and "chained" or name, name == "api" and "1" or name == "doc" and "'x'"
        or (name == "conf" or name == "args") and "require('cni.schema').record {}" or (name == "ipam" or name == "chained"
        or name == "add") and "true" or "function() end"))
      local _, status, err = t.sh { t.build .. "/luacni", "check-scripts" }
      assert.equal(0, status, name .. err)
    end
    t.write("/etc/luacni/plugins/told.lua", "return { add = function() end, chaind = true }")
    local out, status, err = t.sh { t.build .. "/luacni", "check-scripts" }
    assert.equal(1, status)
    assert.truthy((out .. err):find("chained", 1, true), out .. err)
    os.remove "/etc/luacni/plugins/told.lua"
    assert.truthy(printed("script", "api"):find("a version that the program does not speak is refused", 1, true))
    assert.matches("^name +type *\nchained +boolean [^\n]*\n$", printed("script", "chained"))
    refused('did you mean "chained"?', "script", "chaind")
    refused('did you mean "traces"?', "settings", "trace")
  end)

  it("lists no word that it has no page for, and no page is empty", function()
    for _, heading in ipairs { "Types", "For scripts", "Keys" } do
      for _, word in ipairs(listed(heading)) do assert.truthy(#printed(word) > 40, word) end
    end
  end)
end)

describe("The page of a module", function()
  it("has every function that a module for scripts has, and nothing that is not for scripts", function()
    for _, word in ipairs(modules()) do
      local page, path = "\n" .. printed(word), "lua/cni/" .. word .. ".lua"
      local text = t.read(path) or t.read("lua/cni/engine/" .. word .. ".lua") or t.read("lua/luacni/" .. word .. ".lua")
      for before, name in text:gmatch("([^\n]*)\nfunction M[.:]([%w_]+)") do
        local there = page:find("\n" .. word .. "[.:]" .. name .. "%(") ~= nil
        assert.equal(not before:find("@local", 1, true), there, word .. "." .. name)
      end
    end
    assert.is_nil(printed("handle"):find("handle:socket", 1, true))
  end)

  it("has the methods of what a module gives, and what that is", function()
    for _, case in ipairs {
      { "schema", "record:check(check, doc)", "record:implies(a, b)", "record:never_both(a, b, why)",
        "record:idle(key, idle, why)" },
      { "addr", "cidr:first_host()", "cidr:with_ip(bytes)", "cidr:contains(what)" },
      { "ipam", "lease:default_via(gateway)" },
      { "spec", "node:leaves_nothing()", "pod:killed(options)", "place:sh(line)" },
    } do
      local page = printed(case[1])
      for i = 2, #case do
        assert.truthy(page:find("\n" .. case[i] .. "\n", 1, true), case[i])
        assert.equal(1, select(2, printed(case[1], case[i]:match ":([%w_]+)"):gsub(case[i]:match "^%a+:[%w_]+", "")))
      end
    end
    assert.truthy(printed("addr", "cidr"):find("\n +len: prefix length\n"))
    assert.truthy(printed("ipam", "lease"):find("\n +routes: list of"))
    refused('did you mean "with_ip"?', "addr", "with_pi")
    -- What has no comment is no part of the page.
    assert.is_nil(printed("addr"):find("__eq", 1, true))
  end)

  it("has every verb that a shipped script uses", function()
    local page = printed "handle"
    for name in t.run("cat plugins/*.lua"):gmatch("req%.%a+:([%w_]+)%(") do
      assert.truthy(page:find("handle:" .. name .. "(", 1, true), name)
    end
  end)

  it("says what a function takes and gives, and shows no mark of a comment", function()
    for _, word in ipairs(modules()) do
      local page = printed(word)
      assert.is_nil(page:find("\n%s*@") or page:find("@{", 1, true) or page:find("\n%s*%-%-"), word)
    end
    local out = printed("handle", "add_addr")
    assert.equal(1, select(2, out:gsub("handle:", "")))
    assert.truthy(out:find("\n +address  string"), out)
    assert.truthy(out:find("\n +options  table, optional"), out)
  end)

  it("of what req has beside its verbs is that one's alone, however it is asked for", function()
    local count = 0
    for names in printed("req"):gmatch "\n    (%l[%w_, ]-)  +%S" do
      for name in names:gmatch "[%w_]+" do
        count = count + 1
        local line = printed("req", name)
        assert.truthy(line:find("^%l[%w_, ]*" .. name) or line:find("^" .. name), line)
        assert.equal(line, printed("req." .. name))
        assert.equal(line, printed("req:" .. name))
      end
    end
    assert.is_true(count >= 15, count)
    assert.equal("log                     a function that prints a line to standard error\n", printed("req", "log"))
    refused("there is no lgo in req", "req", "lgo")
  end)

  it("of one function is that one's alone; another name gets the nearest", function()
    refused('did you mean "add_veth"?', "handle", "add_vteh")
    refused("there is no xyzzy in schema", "schema", "xyzzy")
    refused("as well", "handle", "add_veth", "add_link")
    refused('did you mean "schema"?', "schmea")
    assert.equal(printed("handle", "add_veth"), printed "add_veth")
    assert.equal(printed("req", "once"), printed "once")
    refused('did you mean "add_veth"?', "add_vteh")
  end)
end)

describe("What a page prints the name of", function()
  local function names_on(word)
    local names = {}
    for line in ("\n" .. printed(word)):gmatch "\n(%l[%w_]*[.:][%w_]+%(?[^%s]*[^\n]*)" do
      if line:match "^[%w_]+[.:][%w_]+$" or line:match "^[%w_]+[.:][%w_]+%b()$" then names[#names + 1] = line end
    end
    return names
  end

  it("is found by that name, with its arguments or without, and alone", function()
    local count = 0
    for _, word in ipairs(modules()) do
      for _, name in ipairs(names_on(word)) do
        local bare = name:gsub("%b()$", "")
        for _, asked in ipairs { name, bare } do
          local out = printed(asked)
          assert.truthy(("\n" .. out):find("\n" .. name .. "\n", 1, true), asked)
          -- Whatever else is on it has the name too: a record is a type as well.
          for _, other in ipairs(names_on(asked)) do
            assert.equal(bare:match "[%w_]+$", other:match "^[%w_]+[.:]([%w_]+)", asked)
          end
        end
        count = count + 1
      end
    end
    assert.truthy(count > 150, count)
    assert.equal(printed("handle", "add_veth"), printed "req.host:add_veth")
    assert.equal(printed "schema", printed "cni.schema")
    assert.equal(printed("names", "is_id"), printed "cni.names.is_id")
    -- A method of one is not that of another.
    assert.is_nil(printed("pod:del"):find("place:", 1, true))
  end)

  it("is not found by another name, which gets the nearest", function()
    refused('did you mean "cidr"?', "schema.cidrr")
    refused('did you mean "next"?', "addr.nxt")
    refused('did you mean "call"?', "req:cal")
    refused('there is nothing about "nosuch.cidr"', "nosuch.cidr")
    refused('there is nothing about "cni.nosuch"', "cni.nosuch")
  end)

  it("is each key of a type, with the rules that it is in", function()
    local function line_of(name, key) return printed(name):match("\n(" .. key:gsub("%W", "%%%0") .. " [^\n]*)") end
    for _, case in ipairs { { "bridge", "mtu" }, { "bridge", "vlanTrunk[].id" }, { "vlan", "vlanId" } } do
      local out = printed(case[1], case[2])
      assert.equal(2, select(2, out:gsub("\n", "\n")), out)
      local function words(text) return (text:gsub(" +", " "):gsub("\n", "")) end
      assert.equal(words(line_of(case[1], case[2])), words(out:match "\n([^\n]*)"))
      assert.equal(out, printed(case[1] .. "." .. case[2]))
    end
    assert.matches("\n\nisDefaultGateway implies isGateway.\n$", printed("bridge", "isGateway"))
    assert.equal(printed("bridge", "vlanTrunk[].id"), printed("bridge", "id"))
    assert.equal(3, select(2, printed("host-local", "subnet"):gsub("subnet ", "")))
    refused('did you mean "mtu"?', "bridge", "mtuu")
    refused("has no key", "bridge", "tu")
    assert.matches("^key +type *\nvxlan_id ", printed("link", "vxlan_id"))
    assert.equal(2, select(2, printed("link", "vxlan_id"):gsub("\n", "\n")))
    assert.truthy(printed("addr"):find("\npreferred_lft ", 1, true))
    assert.matches("\npreferred_lft ", printed("addr", "preferred_lft"))
    refused('did you mean "vxlan"?', "link", "vxlna")
  end)
end)

describe("luacni doc --meta", function()
  local folder = "/run/spec/meta"

  after_each(function() t.run("rm -rf " .. folder) end)

  it("writes declarations that are Lua, of every module, verb and key", function()
    printed("--meta", folder)
    local count = 0
    for path in t.run("find " .. folder .. " -name '*.lua'"):gmatch("%S+") do
      assert(loadfile(path))
      assert.truthy(t.read(path):find("^%-%-%-@meta "))
      count = count + 1
    end
    assert.equal(#modules() - 1, count)
    local text = t.read(folder .. "/luacni.lua")
    for name in printed("handle"):gmatch("\nhandle(:[%w_]+%()") do
      assert.truthy(text:find("function handle" .. name, 1, true), name)
    end
    local pages = { { "link" }, { "route" }, { "bridge-port" } }
    for kind in printed("link"):match("luacni doc link KIND, of ([^\n]+)"):gmatch "%S+" do
      pages[#pages + 1] = { "link", kind }
    end
    for _, words in ipairs(pages) do
      for key in printed(table.unpack(words)):gmatch("\n([%l_][%w_]+) ") do
        assert.truthy(text:find("---@field " .. key .. "? ", 1, true), key)
      end
    end
    local classes = t.read(folder .. "/cni/addr.lua")
    for _, line in ipairs { "---@class luacni.cidr", "---@field len any prefix length", "---@return luacni.cidr",
      "function Cidr:with_ip(bytes) end" } do
      assert.truthy(classes:find("\n" .. line .. "\n", 1, true), line)
    end
    assert.is_nil(classes:find("function addr.with_ip", 1, true))
    assert.truthy(text:find('---@field macvlan_mode? "private"', 1, true))
  end)

  it("says which folder cannot be written", function()
    local out, status, err = doc("--meta", "/proc/nowhere")
    assert.equal("", out)
    assert.equal(1, status)
    assert.truthy(err:find("/proc/nowhere", 1, true), err)
  end)
end)

describe("What a script of the site's says of itself", function()
  local path = "/etc/luacni/plugins/told.lua"

  after_each(function() os.remove(path) end)

  it("is the comment at its head, with two dashes or three, but for the licence", function()
    for _, mark in ipairs { "--", "---" } do
      t.write(path, "-- SPDX-License-Identifier: MIT\n" .. mark .. " Told in\n-- two lines.\n\n-- Not this.\n"
        .. "return { add = function() end }")
      assert.equal("Told in\ntwo lines.\n", printed "told")
    end
  end)

  it("may be nothing, which is said", function()
    t.write(path, "return { add = function() end }")
    assert.truthy(printed("told"):find("says nothing of itself", 1, true))
  end)
end)

describe("The keys of a link", function()
  it("are those that the kernel's tool has for its kind, as far as both name them alike", function()
    local help = t.sh("ip link help vxlan 2>&1")
    local page = printed("link", "vxlan")
    for _, key in ipairs { "id", "ttl", "learning", "gbp" } do
      assert.truthy(help:find(key, 1, true), key)
      assert.truthy(page:find("\n[%w_]*" .. key), key)
    end
    assert.is_nil(page:find("\nmacvlan_mode", 1, true))
    assert.truthy(printed("link", "macvlan"):find("\nmacvlan_mode +[^\n]*bridge"))
    assert.truthy(printed("link"):find("\nmtu +integer"))
    refused('did you mean "vxlan"?', "link", "vxlann")
  end)

  it("can be given as they are told", function()
    t.write("/etc/luacni/plugins/told.lua", [[
      return { add = function(req)
        local link = req.pod:add_link { name = req.ifname, kind = "vxlan", vxlan_id = 16777215 }
        return { interfaces = { link } }
      end }]])
    local pod = t.netns("pod")
    local result = t.cni_ok { verb = "ADD", type = "luacni", netns = pod, host = t.host("host"),
      conf = { cniVersion = "1.0.0", name = "net", type = "told", vxlan = 1 } }
    assert.equal("eth0", result.interfaces[1].name)
    assert.truthy(printed("link", "vxlan"):find("vxlan_id +integer, 0 to 16777215"))
    assert.truthy(t.run({ "ip", "-d", "link", "show", "eth0" }, { host = pod }):find("id 16777215", 1, true))
    os.remove "/etc/luacni/plugins/told.lua"
    t.cleanup()
    t.wipe()
  end)

  it("of a bridge's port are its own", function()
    assert.truthy(printed("bridge-port"):find("\nisolated +boolean"))
    assert.is_nil(printed("bridge-port"):find("\nvxlan", 1, true))
  end)
end)
