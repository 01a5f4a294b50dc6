-- SPDX-License-Identifier: MIT
-- The end of a call: an answer that nobody gets, a foreign IPAM plugin that hangs, refuses or
-- calls us again, a deadline that the caller is in the way of, and the codes of others' errors.

local t = require "support"
local world = require "world"

local bin = "/run/spec/bin"

local function new(ipam, opts)
  t.run("rm -rf " .. bin .. "; mkdir -p " .. bin)
  local w = world.new({ type = "bridge", bridge = "br0", removeUnused = true, ipam = ipam or { type = "host-local",
    subnet = "10.1.0.0/24" } }, t.merge({ forwarding = true, path = bin .. ":" .. t.bin.ours }, opts))
  for _, ns in ipairs { w.host, table.unpack(w.pods) } do
    t.run("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode", { host = ns })
  end
  return w
end

local records = t.records

-- ------------------------------------------------------------------------------------

-- A call as words of the shell, its configuration in a file.
local function line(w, verb, conf)
  t.write("/run/spec/" .. verb .. ".conf", t.conf_bytes(w:config(conf)))
  return t.cni_words({ verb = verb, type = w.conf.type, host = w.host, netns = w.pods[1],
    path = w.path }) .. " </run/spec/" .. verb .. ".conf"
end

-- Shell in front of a call that gives it a full pipe to write to, as descriptor 9.
local full = "rm -f /run/spec/fifo; mkfifo /run/spec/fifo; exec 9<>/run/spec/fifo; " ..
  "dd if=/dev/zero bs=4096 count=1000 oflag=nonblock >&9 2>/dev/null; "
-- One that does block again: the flag is of the pipe's end, which dd has left as it is.
local blocking = "rm -f /run/spec/fifo; mkfifo /run/spec/fifo; exec 8<>/run/spec/fifo; " ..
  "dd if=/dev/zero bs=4096 count=1000 oflag=nonblock >&8 2>/dev/null; exec 9<>/run/spec/fifo; "

describe("An ADD whose answer cannot be written", function()
  local function failed(name, shell)
    it("has failed, and is taken back: " .. name, function()
      local w = new()
      local before = w:picture()
      local out, _, err = t.sh((shell:gsub("ADD", function() return line(w, "ADD") end)))
      assert.equal("1", out:match("rc (%d+)"), out .. err)
      assert.truthy(err:find("cannot be given", 1, true), err)
      t.same(before, w:picture())
      assert.equal("", records())
      -- The next one goes well.
      w:add()
      w:check()
      w:del()
      t.same(before, w:picture())
    end)
  end

  failed("the disk is full", "ADD >/dev/full; echo rc $?")
  failed("there is no reader", "rm -f /run/spec/rc; " ..
    "{ sleep 0.2; ADD 2>/run/spec/err; echo rc $? >/run/spec/rc; } | true; " ..
    "while ! [ -s /run/spec/rc ]; do sleep 0.05; done; cat /run/spec/rc; cat /run/spec/err >&2")
  failed("standard output is no output", "ADD >&- 1</dev/null; echo rc $?")
  failed("standard output is closed", "ADD >&-; echo rc $?")
  failed("the pipe is full, and does not block", full .. "ADD >&9; echo rc $?")
  failed("the pipe is full, and blocks", blocking .. "ADD >&9; echo rc $?")

  it("has failed when no file may grow, and says so; a DEL too, and the next one takes back", function()
    local w = new()
    local before = w:picture()
    local function limited(verb)
      return t.cni({ verb = verb, type = "bridge", conf = w:config(), host = w.host, netns = w.pods[1],
        path = w.path, under = "prlimit --fsize=0" })
    end
    local got = limited("ADD")
    assert.equal(1, got.rc, got.err)
    assert.truthy(got.json and got.json.msg:find("File too large", 1, true), got.out .. got.err)
    w:add()
    w:check()
    limited("DEL")
    w:del()
    t.same(before, w:picture())
  end)

  it("has not failed when the pipe is read a little later", function()
    for _, pipe in ipairs { full, blocking } do
      local w = new()
      local out = t.sh(pipe .. line(w, "ADD") .. " >&9 & pid=$!; sleep 1; timeout 3 cat /run/spec/fifo " ..
        "| tr -d '\\000' >/run/spec/read & wait $pid; echo rc $?; exec 8>&- 9>&-; wait")
      assert.equal("rc 0\n", out)
      w.results["c1 eth0"] = assert(t.decode(t.read("/run/spec/read")))
      w:check()
      t.cleanup()
    end
  end)

  it("nor has one whose log cannot be written", function()
    t.write(bin .. "/x", "")
    local w = new({ type = "talker" })
    t.write(bin .. "/talker", "#!/bin/sh\necho a note >&2\n" ..
      "echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.4.0.9/24\"}]}'\n")
    t.run("chmod +x " .. bin .. "/talker")
    local out = t.sh(full .. line(w, "ADD") .. " 2>&9 >/run/spec/read; echo rc $?")
    assert.equal("rc 0\n", out)
  end)

  it("and so have the other verbs", function()
    local out = t.sh("CNI_COMMAND=VERSION " .. t.bin.ours .. "/bridge >/dev/full 2>/dev/null; echo rc $?")
    assert.equal("rc 1\n", out)
  end)
end)

-- ------------------------------------------------------------------------------------

-- A foreign IPAM plugin: notes its verbs; `body` is shell that may do something else.
local function foreign(body, name)
  t.write(bin .. "/" .. (name or "fake"), ("#!/bin/sh\necho $CNI_COMMAND >>%s/verbs\n%s\n" ..
    "[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.1.0\",\"ips\":[{\"address\":\"10.4.0.9/24\"}]}'\n" ..
    "exit 0\n"):format(bin, body or ""))
  t.run { "chmod", "+x", bin .. "/" .. (name or "fake") }
end

local function verbs()
  return (t.read(bin .. "/verbs") or ""):gsub("\n", " ")
end

describe("A foreign IPAM plugin that hangs", function()
  local seconds = 18
  -- One that is to be told from those of another run of this file.
  local sleep = "sleep 654." .. t.run("echo $$"):match("%d+")

  local function hanging(verb, deadline)
    local w = new({ type = "fake" })
    t.impatient(deadline or seconds, bin .. "/bridge")
    w.bin = bin
    foreign(("if [ $CNI_COMMAND = %s ]; then %s & %s; fi"):format(verb, sleep, sleep))
    return w
  end

  local function hung()
    return (t.sh("for p in /proc/[0-9]*; do tr '\\000' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -c '^" .. sleep .. " '"))
  end

  it("in ADD is ended with its children, told to give back what it took, and leaves nothing", function()
    local w = hanging("ADD")
    local before = w:picture()
    local started = os.time()
    local e = w:fails("ADD", nil, 11)
    assert.is_true(os.time() - started < seconds - 10, "it took too long")
    assert.truthy(e.msg:find("fake", 1, true), e.msg)
    assert.equal("ADD DEL ", verbs())
    assert.equal("0\n", hung())
    t.same(before, w:picture())
    assert.equal("", records())
  end)

  it("in ADD and in DEL keeps the record, and is asked again by the next DEL", function()
    local w = hanging("ADD")
    local before = w:picture()
    foreign(sleep .. " & " .. sleep)
    local e = w:fails("ADD", nil, 11)
    assert.truthy(e.text:find("taking it back failed", 1, true), e.text)
    assert.equal("0\n", hung())
    assert.truthy(records() ~= "")
    foreign()
    w:del()
    assert.equal("ADD DEL DEL ", verbs())
    t.same(before, w:picture())
    assert.equal("", records())
  end)

  for _, verb in ipairs { "CHECK", "STATUS", "GC" } do
    it(("in %s is ended with its children too, and nothing is taken"):format(verb), function()
      local w = hanging(verb, 3)
      w:add()
      local before = w:picture()
      local e = w:fails(verb, { conf = verb == "GC" and { ["cni.dev/valid-attachments"] =
        t.list { { containerID = "c1", ifname = "eth0" } } } or nil }, 11)
      assert.truthy(e.msg:find("fake", 1, true), e.msg)
      assert.truthy(verbs():find("^ADD " .. verb .. " "), (verbs()))
      assert.equal("0\n", hung())
      t.same(before, w:picture())
      w:del()
      assert.equal("", records())
    end)
  end
end)

describe("A foreign IPAM plugin that refuses an ADD", function()
  it("and fails at DEL too leaves no record, and nothing that GC or DEL trip over", function()
    local w = new({ type = "fake" })
    local before = w:picture()
    foreign([[echo '{"cniVersion":"1.1.0","code":11,"msg":"full"}'; exit 1]])
    local e = w:fails("ADD", nil, 11)
    assert.equal("full", e.msg)
    assert.equal("ADD DEL ", verbs())
    assert.equal("", records())
    t.same(before, w:picture())
    foreign()
    w:gc({})
    w:del()
  end)

  it("by dying keeps one while its DEL fails: it may have taken something", function()
    local w = new({ type = "fake" })
    local before = w:picture()
    foreign("[ $CNI_COMMAND = ADD ] && kill -SEGV $$; exit 3")
    w:fails("ADD")
    assert.truthy(records() ~= "")
    foreign()
    w:gc({})
    t.same(before, w:picture())
    assert.equal("", records())
  end)
end)

describe("The code of an error", function()
  local codes = { ["0"] = 999, ["-1"] = 999, ["4294967296"] = 999, ["4294967295"] = 4294967295,
    ["7.0"] = 7, ["1.5"] = 999, ["1e300"] = 999, ['"7"'] = 999, ["true"] = 999, ["123"] = 123 }

  it("that a delegate gives is an unsigned number, and not 0", function()
    local w = new({ type = "fake" })
    for code, expected in pairs(codes) do
      foreign(("[ $CNI_COMMAND = DEL ] || { echo '{\"code\":%s,\"msg\":\"no\"}'; exit 1; }"):format(code))
      w:fails("ADD", nil, expected)
    end
  end)

  it("that a script gives too", function()
    for code, expected in pairs(codes) do
      t.write("/etc/luacni/plugins/odd.lua", ("return { add = function() require('cni.fail').throw " ..
        "{ code = %s, msg = {}, details = 7, hint = true } end }"):format(code))
      world.new({ type = "odd" }):fails("ADD", { type = "luacni" }, expected)
      t.cleanup()
    end
  end)
end)

-- ------------------------------------------------------------------------------------

describe("ipam.type naming what is no IPAM plugin", function()
  -- Calls of a verb, with a CHECK as a runtime would make it.
  local function each(w, judge)
    for _, verb in ipairs { "STATUS", "GC", "ADD", "CHECK" } do
      local e = w:fails(verb, { prev = { cniVersion = "1.1.0" } })
      judge(verb, e)
      assert.equal("", records())
    end
    w:del()
    w:del({ prev = false })
  end

  it("such as the plugin itself, or another of ours, is refused by all verbs but DEL", function()
    for _, name in ipairs { "bridge", "macvlan", "loopback" } do
      local w = new({ type = name })
      local before = w:picture()
      each(w, function(verb, e)
        assert.equal(7, e.code, verb)
        assert.truthy(e.msg:find("no IPAM plugin", 1, true), e.msg)
      end)
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("such as a link to this program, or a copy of it, is refused", function()
    for _, how in ipairs { "ln -s", "cp" } do
      local w = new({ type = "mine" })
      t.run(("%s $(readlink -f %s/bridge) %s/mine"):format(how, t.bin.ours, bin))
      local before = w:picture()
      each(w, function(_, e) assert.equal(7, e.code, e.msg) end)
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  it("such as a script that calls the plugin again, is called once", function()
    local w = new({ type = "again" })
    local before = w:picture()
    foreign("exec " .. t.bin.ours .. "/bridge", "again")
    each(w, function(verb, e)
      assert.equal(7, e.code, verb .. e.msg)
      assert.equal(verb == "ADD" and "ADD DEL " or verb .. " ", verbs())
      os.remove(bin .. "/verbs")
    end)
    t.same(before, w:picture())
  end)

  it("is content when DEL is asked to use a name that no plugin can have", function()
    for _, name in ipairs { "../x", "a/b", "none-such" } do
      new({ type = name }):del()
      t.cleanup()
    end
  end)
end)

-- ------------------------------------------------------------------------------------

describe("A caller that blocks or ignores SIGALRM", function()
  it("does not take the deadline away", function()
    t.impatient(1, "/run/spec/luacni")
    finally(function() os.remove("/run/spec/luacni") end)
    t.write("/etc/luacni/plugins/odd.lua", "return { add = function() while true do end end }")
    for _, how in ipairs { "--block-signal=ALRM", "--ignore-signal=ALRM" } do
      local got = t.cni({ verb = "ADD", type = "luacni", bin = "/run/spec", netns = t.netns(),
        under = "env " .. how, timeout = 20, conf = { cniVersion = "1.0.0", name = "net", type = "odd" } })
      assert.equal(1, got.rc, how)
      assert.truthy(got.json.msg:find("stopped", 1, true), got.out)
    end
  end)
end)
