-- SPDX-License-Identifier: MIT
-- What the program promises whatever plugin it runs: it needs no file but itself and two
-- libraries, nothing in the environment changes what is loaded, a site's scripts are found and
-- refused for the right reasons, and a script out of bounds ends as an error.

local lfs = require "lfs"
local t = require "support"

local site = "/etc/luacni/plugins"

local function call(type_name, more)
  local given = { verb = "ADD", type = "luacni", netns = t.netns(),
    conf = { cniVersion = "1.0.0", name = "net", type = type_name } }
  for key, value in pairs(more or {}) do given[key] = value end
  return t.cni(given)
end

local function write_script(type_name, text)
  t.write(("%s/%s.lua"):format(site, type_name), text)
end

-- A script whose ADD answers with `dns = { domain = VALUE }`.
local function answering(value)
  return ('return { add = function() return { dns = { domain = %s } } end }'):format(value)
end

local function refusal(text, more)
  write_script("odd", text)
  local got = call("odd", more)
  assert.equal(1, got.rc)
  assert.is_table(got.json)
  assert.equal("", got.err)
  return got.json.msg
end

local function answer(text)
  write_script("good", text)
  local got = call("good")
  assert.equal(0, got.rc, got.out)
  return got.json.dns.domain
end

before_each(function() t.run { "mkdir", "-p", site } end)
after_each(t.cleanup)

describe("the program", function()
  local function traced(words, env)
    local list = { "CNI_COMMAND=VERSION", table.unpack(env or {}) }
    local out, status = t.sh("strace -f -o /run/spec/trace " .. words, { env = list })
    assert.equal(0, status)
    return out, t.read("/run/spec/trace")
  end

  local function opened(trace)
    local files = {}
    for line in trace:gmatch("[^\n]+") do
      local path = line:match('open[at2]*%(.-"([^"]+)"')
      if path and not line:find("ENOENT", 1, true) then files[#files + 1] = path end
    end
    return files
  end

  it("opens nothing at start but what the loader does", function()
    if os.getenv("ASAN_OPTIONS") then return end
    t.needs("strace")
    local _, trace = traced(t.bin.ours .. "/bridge")
    for _, path in ipairs(opened(trace)) do
      assert.is_truthy(path:find("^/etc/ld%.so%.cache$") or path:find("/lib[%w_+-]+%.so")
        or path:find("^/proc/self/"), path)
    end
  end)

  it("takes nothing from the LUA variables", function()
    t.write("/run/spec/evil/cni/main.lua", "error 'loaded from disk'")
    t.write("/run/spec/evil/cjson.lua", "error 'loaded from disk'")
    local env = { "LUA_INIT=error 'ran LUA_INIT'", "LUA_INIT_5_4=error 'ran LUA_INIT'",
      "LUA_PATH=/run/spec/evil/?.lua", "LUA_PATH_5_4=/run/spec/evil/?.lua",
      "LUA_CPATH=/run/spec/evil/?.so" }
    local out, trace = traced(t.bin.ours .. "/bridge", env)
    assert.is_truthy(t.decode(out))
    assert.is_nil(trace:find("evil", 1, true))
    -- The same variables do get to a plain interpreter, so the test would notice.
    local _, status = t.sh({ "lua5.4", "-e", "" }, { env = env })
    assert.not_equal(0, status)
  end)

  it("answers under a link's name, as luacni by type, and to a person", function()
    for _, name in ipairs { "bridge", "luacni" } do
      assert.is_table(t.cni({ verb = "VERSION", type = name }).json.supportedVersions)
    end
    assert.equal(0, t.cni({ verb = "ADD", type = "loopback", netns = t.netns(),
      conf = { cniVersion = "1.0.0", name = "net", type = "bridge" } }).rc)
    assert.equal(0, call("loopback", { id = "c2" }).rc)
    assert.is_truthy(t.run({ t.build .. "/luacni", "--version" }):find("^luacni %d"))
  end)

  it("looks at the type when its own name is no plugin's", function()
    t.run { "ln", "-s", t.build .. "/luacni", "/run/spec/some-name" }
    assert.equal(0, call("loopback", { bin = "/run/spec", type = "some-name" }).rc)
    local got = call("brigde", { bin = "/run/spec", type = "some-name" })
    assert.equal(1, got.rc)
    assert.is_truthy(got.out:find('did you mean \\"bridge\\"', 1, true))
  end)

  it("never takes a name for a path", function()
    write_script("good", answering('"x"'))
    for _, name in ipairs { "../plugins/good", site .. "/good", ".good", "", "good.lua/" } do
      local got = call(name)
      assert.equal(1, got.rc)
      assert.is_table(got.json)
    end
    assert.equal(0, call("good").rc)
  end)

  it("works with its standard descriptors closed", function()
    local env = { "CNI_COMMAND=VERSION" }
    local _, status = t.sh(t.bin.ours .. "/bridge <&- >&- 2>&-", { env = env })
    assert.equal(1, status) -- nobody has the answer
    local out = t.sh(t.bin.ours .. "/bridge <&- 2>&-", { env = env })
    assert.is_truthy(t.decode(out))
    local got = t.sh(t.cni_words { verb = "ADD", type = "loopback", netns = t.netns() } .. " <&-")
    assert.equal(6, t.decode(got).code)
  end)

  it("survives a reader that has gone", function()
    local out = t.run("{ CNI_COMMAND=VERSION " .. t.bin.ours .. "/bridge; echo $? >&2; } 2>&1 | "
      .. "{ exec <&-; sleep 0.2; }; { CNI_COMMAND=VERSION " .. t.bin.ours .. "/bridge >/dev/full; "
      .. "echo full $?; }")
    assert.is_truthy(out:find("^full [01]\n"))
  end)

  it("refuses to run set-user-ID", function()
    if os.getenv("ASAN_OPTIONS") then return end
    t.run { "cp", t.build .. "/luacni", "/run/spec/suid" }
    t.run("chmod 4755 /run/spec/suid; chmod 711 /run/spec")
    finally(function() t.run("rm -f /run/spec/suid; chmod 755 /run/spec") end)
    local line = "setpriv --reuid 65534 --clear-groups /run/spec/suid"
    local out, status = t.sh(line, { env = { "CNI_COMMAND=VERSION" } })
    assert.equal(1, status)
    assert.is_truthy(t.decode(out).msg:find("more rights", 1, true))
    t.run("chmod 755 /run/spec/suid")
    out, status = t.sh(line, { env = { "CNI_COMMAND=VERSION" } })
    assert.equal(0, status, out)
  end)
end)

describe("a site's script", function()
  it("adds a type", function()
    assert.equal("here", answer(answering('"here"')))
  end)

  it("goes before the built-in one, and is the one that is shown", function()
    write_script("loopback", answering('"site"'))
    assert.equal("site", call("loopback").json.dns.domain)
    assert.equal("site", t.cni({ verb = "ADD", type = "loopback", netns = t.netns(),
      conf = { cniVersion = "1.0.0", name = "net", type = "loopback" } }).json.dns.domain)
    assert.equal(answering('"site"'), t.run { t.build .. "/luacni", "show", "loopback" })
    t.run { "rm", site .. "/loopback.lua" }
    assert.is_nil(call("loopback").json.dns)
  end)

  for _, case in ipairs {
    { "the file is not root's", "chown 65534 FILE", "odd.lua is not owned by root" },
    { "everybody can write the file", "chmod 666 FILE", "odd.lua can be written by everybody" },
    { "its group can write the file", "chmod 664 FILE", "odd.lua can be written by its group" },
    { "a link leads to what others can write", "mkdir -m 777 /run/spec/p; mv FILE /run/spec/p/t.lua; ln -s /run/spec/p/t.lua FILE",
      "/run/spec/p can be written by everybody; chmod go-w /run/spec/p mends it" },
    { "a link leads there round corners", "mkdir -m 775 /run/spec/p; mv FILE /run/spec/t.lua; ln -s ../t.lua /run/spec/p/l; "
      .. "ln -s ../../../run/spec/p/l FILE", "/run/spec/p can be written by its group" },
    { "the file behind a link is not root's", "mv FILE /run/spec/t.lua; chown 65534 /run/spec/t.lua; ln -s /run/spec/t.lua FILE",
      "/run/spec/t.lua is not owned by root; chown root /run/spec/t.lua mends it" },
    { "the link is not root's", "mv FILE /run/spec/t.lua; ln -s /run/spec/t.lua FILE; chown -h 65534 FILE",
      "odd.lua is a symbolic link that is not root's" },
    { "a link leads to nothing", "rm FILE; ln -s /run/spec/t.lua FILE", "/run/spec/t.lua is not there, and a symbolic link" },
    { "links go round", "rm FILE; ln -s odd.lua FILE", "odd.lua is a symbolic link behind too many others" },
    { "the file is a pipe", "rm FILE; mkfifo FILE", "odd.lua is not a file" },
    { "the folder is not root's", "chown 65534 DIR", "plugins is not owned by root" },
    { "everybody can write the folder", "chmod 1777 DIR", "plugins can be written by everybody" },
    { "the folder above can be written", "chmod 775 DIR/..", "luacni can be written by its group" },
    { "the folder is a link to what others can write", "mv DIR /run/spec/p; chmod 777 /run/spec/p; ln -s /run/spec/p DIR",
      "/run/spec/p can be written by everybody" },
  } do
    it("is refused when " .. case[1], function()
      write_script("odd", answering('"run"'))
      assert.equal(0, call("odd").rc)
      t.run((case[2]:gsub("FILE", site .. "/odd.lua"):gsub("DIR", site)))
      finally(function()
        t.run("rm -rf /etc/luacni/plugins /run/spec/p /run/spec/t.lua; chmod 755 /etc/luacni")
      end)
      local got = call("odd", { netns = t.netns() })
      assert.equal(1, got.rc)
      assert.is_truthy(got.json.msg:find("refused: .*" .. case[3]:gsub("%p", "%%%0")), got.out)
      -- A built-in type is refused as well: a script in its place was meant to be run.
      if case[2]:find("DIR") then assert.equal(0, call("loopback", { netns = t.netns() }).rc) end
    end)
  end

  it("is found where links of root's lead", function()
    local function is_run(line)
      write_script("odd", answering('"run"'))
      t.run((line:gsub("FILE", site .. "/odd.lua"):gsub("DIR", site)))
      local got = call("odd")
      t.run("rm -rf /etc/luacni/plugins /run/spec/p /run/spec/t.lua")
      assert.equal("run", got.json.dns and got.json.dns.domain, got.out)
    end
    is_run "mv FILE /run/spec/t.lua; ln -s /run/spec/t.lua FILE"
    is_run "mv FILE DIR/../t.lua; ln -s ../t.lua FILE"
    t.run "rm -f /etc/luacni/t.lua"
    is_run "mv DIR /run/spec/p; ln -s /run/spec/p DIR"
    -- As Kubernetes puts files into a folder: the names are links through one that is changed for all at once.
    is_run "mkdir DIR/..v1; mv FILE DIR/..v1; ln -s ..v1 DIR/..data; ln -s ..data/odd.lua FILE"
  end)

  it("is refused as bytecode", function()
    local code = string.dump(assert(load(answering('"run"'))))
    assert.is_truthy(refusal(code):find("bytecode", 1, true))
    assert.equal("run", answer(answering('"run"')))
  end)

  for name, case in pairs {
    ["assignment to a global"] = { "total = 1 return {}", "odd%.lua:1: .*'total'" },
    ["a misspelt global"] = { "local x = tabel.concat", "odd%.lua:1: .*'tabel'" },
    ["io"] = { "io.open '/etc/passwd'", "odd%.lua:1: .*'io'" },
    ["os"] = { "os.exit()", "odd%.lua:1: .*'os'" },
    ["load"] = { "load 'return 1'", "odd%.lua:1: .*'load'" },
    ["debug"] = { "debug.getregistry()", "odd%.lua:1: .*'debug'" },
    ["rawset"] = { "rawset(string, 'x', 1)", "odd%.lua:1: .*'rawset'" },
    ["require of C modules"] = { "require 'netlink'", "odd%.lua:1: .*'netlink'" },
    ["require of the program"] = { "require 'cni.command.run'", "odd%.lua:1: .*'cni%.command%.run'" },
    ["changing a library"] = { "string.format = nil", "odd%.lua:1: .*'format'" },
    ["the strings' metatable"] = { "getmetatable('').__index = nil", "odd%.lua:1: " },
    ["leaving its room"] = { "setmetatable(_ENV, nil)", "odd%.lua:1: " },
    ["a syntax error"] = { "return {\n add = }", "odd%.lua:2: " },
    ["no table"] = { "return 7", "odd%.lua: .*number" },
    ["nothing"] = { "", "odd%.lua: .*nil" },
    ["no add"] = { "return { del = function() end }", "odd%.lua: field 'add'" },
    ["add that is no function"] = { "return { add = {} }", "odd%.lua: field 'add'.*table" },
    ["a field nobody knows"] = { "return { add = print, chek = print }", "odd%.lua: unknown field 'chek' %(did you mean 'check'%?%)" },
  } do
    it("is refused for " .. name, function()
      assert.is_truthy(refusal(case[1]):find(case[2]))
    end)
  end

  it("requires the modules that are for scripts, and no other", function()
    local public = {}
    for name in ("addr common devices fail guard ipam ipam_conf json leases masq master names nft ranges resolv "
      .. "schema shaper source_routing sysctls vlans forwarded published conditions flannel_subnet dhcp_lease cluster_pool"):gmatch("%S+") do public["cni." .. name] = true end
    local others = { "host", "netlink", "cjson", "cjson.safe", "io", "os", "debug", "cni", "cni.", "cni.none", "cni.addr\0",
      "cni/addr", "..", "cni.step.link.x" }
    for path in t.run("find lua -name '*.lua'"):gmatch("lua/(%S+)%.lua") do
      others[#others + 1] = path
      others[#others + 1] = path:gsub("/", ".")
    end
    local seen = 0
    for _, name in ipairs(others) do
      local text = ("local m = require %q return { add = function() return { dns = { domain = type(m) } } end }")
        :format(name)
      if public[name] then
        seen = seen + 1
        assert.equal("table", answer(text))
      else
        local said = refusal(text)
        assert.is_truthy(said:find("cannot require '" .. name:gsub("%z.*", "") .. "'", 1, true), said)
        assert.is_truthy(said:find("req.host and req.pod", 1, true) and said:find("cni.schema", 1, true), said)
      end
    end
    assert.equal(26, seen)
  end)

  it("can be a copy of any shipped one", function()
    for name in lfs.dir("plugins") do
      local text = name:find("%.lua$") and t.read("plugins/" .. name)
      for module in (text or ""):gmatch('require%s*%(?%s*["\']([^"\']+)') do
        assert.equal("table", answer(("local m = require %q return { add = function() return { dns = { domain = "
          .. "type(m) } } end }"):format(module)), name)
      end
    end
  end)

  it("reaches nothing else by a global", function()
    local names = {}
    for name in pairs(_G) do names[#names + 1] = name end
    for _, name in ipairs({ "coroutine", "package", "host", "netlink", "loadfile", "dofile", "collectgarbage", "arg" }) do
      names[#names + 1] = name
    end
    local allowed = {}
    for name in ("assert error getmetatable ipairs next pairs pcall print rawequal rawget rawlen select setmetatable "
      .. "tonumber tostring type xpcall require math string table utf8"):gmatch("%S+") do allowed[name] = true end
    for _, name in ipairs(names) do
      if name:find("^[%a_][%w_]*$") and name ~= "_G" then
        local text = ("local v = %s return { add = function() return { dns = { domain = type(v) } } end }"):format(name)
        if allowed[name] then
          assert.is_truthy(answer(text):find("^[ft]"))
        elseif name ~= "rawset" then
          assert.is_truthy(refusal(text):find("'" .. name .. "' is not defined", 1, true), name)
        end
      end
    end
    refusal "local v = _G"
  end)

  it("has the libraries it needs", function()
    assert.equal("3 a-b 4.0 é 2", answer([[
      local addr = require "cni.addr"
      return { add = function()
        local text = table.concat({ #addr.ip("10.0.0.1") - 1, ("a-b"), 2 ^ 2, utf8.char(233),
          math.floor(2.5) }, " ")
        return { dns = { domain = text } }
      end }]]))
  end)

  it("prints to standard error", function()
    write_script("good", 'print("hello", 1) ' .. answering('"x"'))
    local got = call("good")
    assert.equal("x", got.json.dns.domain)
    assert.equal("hello\t1\n", got.err)
  end)
end)

describe("a script out of bounds", function()
  it("is told that memory is at its end", function()
    for _, text in ipairs {
      "local t = {} for i = 1, math.huge do t[i] = ('x'):rep(1000) .. i end",
      "local t = {} for i = 1, math.huge do t[i] = {} end",
      "return ('x'):rep(1 << 30)",
    } do
      local msg = refusal(("return { add = function() %s end }"):format(text))
      assert.is_truthy(msg:find("memory", 1, true), msg)
    end
  end)

  it("is not, however much it throws away", function()
    assert.equal("done", answer([[return { add = function()
      for i = 1, 400000 do local t = { i, ("x"):rep(100) .. i } end
      return { dns = { domain = "done" } }
    end }]]))
  end)

  it("is stopped at the deadline, with its file and line", function()
    t.impatient(1, "/run/spec/luacni")
    finally(function() os.remove("/run/spec/luacni") end)
    write_script("odd", "return { add = function()\nwhile true do end\nend }")
    local got = call("odd", { bin = "/run/spec" })
    assert.equal(1, got.rc)
    assert.is_truthy(got.json.msg:find("odd%.lua:2: stopped"), got.out)
    -- One call of C that does not return: the program ends all the same.
    write_script("odd", [[return { add = function()
      return (("a"):rep(60)):find((".-"):rep(30) .. "b") end }]])
    got = call("odd", { bin = "/run/spec", netns = t.netns() })
    assert.equal(1, got.rc)
    assert.equal("the script did not end in time", got.json.msg)
    -- And one that catches every error.
    write_script("odd", [[return { add = function()
      while true do pcall(function() while true do end end) end end }]])
    got = call("odd", { bin = "/run/spec", netns = t.netns() })
    assert.equal(1, got.rc)
    assert.is_truthy(got.json.msg:find("odd%.lua:2: stopped"), got.out)
    write_script("good", answering('"in time"'))
    assert.equal("in time", call("good", { bin = "/run/spec", netns = t.netns() }).json.dns.domain)
  end)
end)

describe("the stored state", function()
  it("was made without a look at the machine it was made on", function()
    if os.getenv("ASAN_OPTIONS") then return end
    t.needs("strace")
    t.run(("strace -o /run/spec/trace env -i %s/luacni.bare --make-image /run/spec/image")
      :format(t.build))
    local trace = t.read("/run/spec/trace")
    local from = trace:find("SIGCHLD", 1, true)
    local seen = {}
    for name in trace:sub(from):gmatch("\n(%l[%w_]*)%(") do seen[name] = true end
    for _, name in ipairs { "rt_sigaction", "brk", "mmap", "munmap", "openat", "write", "close",
      "exit_group", "getrandom", "clock_gettime", "poll" } do
      seen[name] = nil
    end
    assert.same({}, seen)
    os.remove("/run/spec/image")
  end)
end)
