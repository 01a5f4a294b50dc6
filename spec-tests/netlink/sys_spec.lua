-- SPDX-License-Identifier: MIT
-- netlink.sys: files that appear whole, locks that hold what their path names, programs that are
-- done with in time. Each function with its failure: nil, a text that names the path, the errno.

local t = require "support"
local sys = require("netlink").sys

local dir = "/run/spec/sys"
local function path(name) return dir .. "/" .. name end

local function fails(errno, ...)
  local ok, msg, got = ...
  assert.is_nil(ok)
  assert.is_string(msg)
  assert.equal(sys.errno[errno], got, msg)
  return msg
end

-- A process that holds the lock of a file for some seconds.
local function holder(file, seconds, how)
  local ready = path("ready")
  os.remove(ready)
  os.execute(("(flock %s %s -c 'touch %s; exec sleep %s' </dev/null >/dev/null 2>&1 &)")
    :format(how or "-x", file, ready, seconds))
  for _ = 1, 200 do
    if t.read(ready) then return end
    t.sh "sleep 0.02"
  end
  error("nobody took the lock")
end

before_each(function() t.run { "mkdir", "-p", dir } end)
after_each(function() t.run { "rm", "-rf", dir } end)

describe("folders", function()
  it("are made once, with their mode", function()
    assert.is_true(sys.mkdir(path("a"), 448))
    assert.equal(448, sys.stat(path("a")).mode)
    assert.is_false(sys.mkdir(path("a")))
    assert.is_truthy(fails("ENOENT", sys.mkdir(path("b/c"))):find(path("b/c"), 1, true))
    assert.is_true(sys.mkdirs(path("b/c/d"), 493))
    assert.is_false(sys.mkdirs(path("b/c/d")))
    sys.touch(path("file"))
    fails("ENOTDIR", sys.mkdirs(path("file/x")))
  end)

  it("are removed when empty", function()
    sys.mkdirs(path("a/b"))
    fails("ENOTEMPTY", sys.rmdir(path("a")))
    assert.is_true(sys.rmdir(path("a/b")))
    assert.is_false(sys.rmdir(path("a/b")))
  end)

  it("list their names, many as few", function()
    assert.same({}, sys.list(dir))
    for i = 1, 2000 do assert(sys.touch(path(("name-of-some-length-%04d"):format(i)))) end
    local names = sys.list(dir)
    table.sort(names)
    assert.equal(2000, #names)
    assert.equal("name-of-some-length-2000", names[2000])
    fails("ENOENT", sys.list(path("none")))
  end)
end)

describe("files", function()
  it("are read whole, up to the limit", function()
    for _, size in ipairs { 0, 1, 4095, 4096, 4097, 200000 } do
      local bytes = ("x\0y"):rep(size):sub(1, size)
      assert(sys.write_file(path("f"), bytes))
      assert.equal(bytes, sys.read_file(path("f")))
      assert.equal(bytes, sys.read_file(path("f"), size))
      if size > 0 then fails("EFBIG", sys.read_file(path("f"), size - 1)) end
    end
    assert.is_truthy(sys.read_file("/proc/self/status"):find("Pid:"))
    fails("ENOENT", sys.read_file(path("none")))
    fails("EISDIR", sys.read_file(dir))
  end)

  it("are replaced whole, and leave nothing beside them", function()
    assert(sys.write_file(path("f"), "old", 420))
    local before = sys.stat(path("f"))
    assert(sys.write_file(path("f"), "new", 384))
    local after = sys.stat(path("f"))
    assert.not_equal(before.ino, after.ino)
    assert.equal(384, after.mode)
    assert.same({ "f" }, sys.list(dir))
    fails("ENOENT", sys.write_file(path("none/f"), "x"))
    fails("EISDIR", sys.write_file(dir, "x"))
    assert.same({ "f" }, sys.list(dir))
  end)

  it("are touched, renamed, removed", function()
    assert(sys.touch(path("f"), 416))
    assert.equal(416, sys.stat(path("f")).mode)
    assert(sys.write_file(path("g"), "g"))
    assert(sys.touch(path("g")))
    assert.equal("g", sys.read_file(path("g")))
    assert.is_true(sys.rename(path("g"), path("f")))
    assert.equal("g", sys.read_file(path("f")))
    fails("ENOENT", sys.rename(path("g"), path("f")))
    assert.is_true(sys.unlink(path("f")))
    assert.is_false(sys.unlink(path("f")))
    fails("EISDIR", sys.unlink(dir))
  end)

  it("are looked at, a link followed or not", function()
    sys.write_file(path("f"), "12345")
    t.run { "ln", "-s", "f", path("l") }
    local file = sys.stat(path("l"))
    assert.same({ "file", 5, 0, 0 }, { file.type, file.size, file.uid, file.gid })
    assert.is_true(math.abs(file.mtime - sys.time()) < 60)
    assert.equal("link", sys.lstat(path("l")).type)
    assert.equal("dir", sys.stat(dir).type)
    fails("ENOENT", sys.stat(path("none")))
  end)

  it("that are links name what is written there, there or not", function()
    local long = ("x/"):rep(2000)
    for name, target in pairs { relative = "f", dangling = "/no/such/file", long = long } do
      t.run { "ln", "-s", target, path(name) }
      assert.equal(target, sys.readlink(path(name)))
    end
    assert.matches("^net:%[%d+%]$", sys.readlink("/proc/self/ns/net"))
    sys.write_file(path("f"), "")
    for name, errno in pairs { f = "EINVAL", none = "ENOENT", ["f/l"] = "ENOTDIR" } do
      assert.is_truthy(fails(errno, sys.readlink(path(name))):find(path(name), 1, true))
    end
    fails("EINVAL", sys.readlink(dir))
    assert.has_error(function() sys.readlink("a\0b") end)
  end)

  it("have paths, not texts with zero bytes", function()
    for _, bad in ipairs { "", "a\0b", ("x"):rep(5000) } do
      assert.has_error(function() sys.mkdir(bad) end)
      assert.has_error(function() sys.open_locked(bad, "exclusive") end)
    end
    assert.has_error(function() sys.mkdir(path("x"), 4096) end)
  end)
end)

describe("a locked file", function()
  it("is made for its owner alone, read, appended to, cut", function()
    local f <close> = sys.open_locked(path("l"), "exclusive")
    assert.equal(384, sys.stat(path("l")).mode)
    assert.equal("", f:read())
    assert.is_true(f:append("one"))
    assert.is_true(f:append(("two"):rep(20000)))
    assert.equal("one" .. ("two"):rep(20000), f:read())
    assert.is_true(f:truncate(2))
    assert.equal("on", f:read())
    assert.is_true(f:truncate())
    assert.equal("", f:read())
    assert.is_truthy(tostring(f):find("locked file"))
    assert.is_number(f:fd())
  end)

  it("of a namespace keeps others out until it is given back, and leaves nothing", function()
    local ns = require("netlink").ns
    local one, other = ns.self(), ns.self()
    assert.is_true(sys.lock_netns(one, 0))
    fails("ETIMEDOUT", sys.lock_netns(other, 0))
    assert.is_true(sys.unlock_netns(one))
    assert.is_true(sys.lock_netns(other, 0))
    fails("ETIMEDOUT", sys.lock_netns(one, 20))
    other:close()
    assert.is_true(sys.lock_netns(one, 0))
    assert.has_error(function() sys.lock_netns(other) end)
    one:close()
  end)

  it("is given back by close, by leaving its block, and by the collector", function()
    local f = sys.open_locked(path("l"), "exclusive")
    fails("ETIMEDOUT", sys.open_locked(path("l"), "try"))
    f:close()
    f:close()
    assert.has_error(function() f:read() end)
    assert.is_truthy(tostring(f):find("closed"))
    do
      local g <close> = assert(sys.open_locked(path("l"), "try"))
      fails("ETIMEDOUT", sys.open_locked(path("l"), "try"))
      assert.is_not_nil(g)
    end
    assert(sys.open_locked(path("l"), "try"))
    collectgarbage()
    collectgarbage()
    assert(sys.open_locked(path("l"), "try")):close()
    assert.is_false(getmetatable(f))
  end)

  it("is shared by readers and not by writers", function()
    local a <close> = sys.open_locked(path("l"), "shared")
    local b <close> = sys.open_locked(path("l"), "shared")
    fails("ETIMEDOUT", sys.open_locked(path("l"), "try"))
    assert.is_not_nil(a, b)
    assert.has_error(function() sys.open_locked(path("l"), "both") end)
  end)

  it("is not made when an existing one was asked for", function()
    fails("ENOENT", sys.open_locked_existing(path("l"), "exclusive"))
    assert.same({}, sys.list(dir))
    sys.touch(path("l"))
    assert(sys.open_locked_existing(path("l"), "exclusive")):close()
  end)

  it("is never a symbolic link", function()
    t.run { "ln", "-s", "/run/spec/elsewhere", path("l") }
    fails("ELOOP", sys.open_locked(path("l"), "exclusive"))
    assert.is_nil(t.read("/run/spec/elsewhere"))
  end)

  it("is waited for until the deadline, asleep", function()
    sys.touch(path("l"))
    holder(path("l"), 3)
    local wall, cpu = sys.clock(), os.clock()
    fails("ETIMEDOUT", sys.open_locked(path("l"), "exclusive", 400))
    wall, cpu = sys.clock() - wall, os.clock() - cpu
    assert.is_true(wall >= 0.38 and wall < 2.5, wall)
    assert.is_true(cpu < 0.1, cpu)
    fails("ETIMEDOUT", sys.open_locked(path("l"), "shared", 0))
    local f <close> = assert(sys.open_locked(path("l"), "exclusive", 20000))
    assert.equal("", f:read())
  end)

  it("is the one that the path names after the wait", function()
    for _, change in ipairs { "rm FILE", "rm FILE; echo other > FILE",
      "echo other > FILE.new; mv FILE.new FILE" } do
      assert(sys.write_file(path("l"), "old"))
      os.execute(("(flock -x %s -c 'touch %s; sleep 0.3; %s' </dev/null >/dev/null 2>&1 &)")
        :format(path("l"), path("ready"), change:gsub("FILE", path("l"))))
      while not t.read(path("ready")) do t.sh "sleep 0.02" end
      os.remove(path("ready"))
      local f <close> = assert(sys.open_locked(path("l"), "exclusive", 10000))
      assert.equal(change == "rm FILE" and "" or "other\n", f:read())
      fails("ETIMEDOUT", sys.open_locked(path("l"), "try"))
    end
  end)

  it("keeps its lock against a crowd that removes it", function()
    local line = ([[lua5.4 -e 'local sys = require("netlink").sys
      for i = 1, 150 do
        local f = assert(sys.open_locked("%s", "exclusive", 30000))
        local n = tonumber(sys.read_file("%s") or "0")
        assert(sys.write_file("%s", tostring(n + 1)))
        if i %% 3 == 0 then assert(sys.unlink("%s")) end
        f:close()
      end' &]]):format(path("l"), path("count"), path("count"), path("l"))
    t.run(line:rep(6, "\n") .. "\nwait", { timeout = 120, env = {
      "LUA_CPATH=" .. t.build .. "/?.so", "LD_PRELOAD=" .. (os.getenv("LD_PRELOAD") or ""),
      "ASAN_OPTIONS=" .. (os.getenv("ASAN_OPTIONS") or "") } })
    assert.equal("900", sys.read_file(path("count")))
  end)
end)

describe("exec", function()
  it("gives words, environment and input, and takes both outputs", function()
    local got = sys.exec { path = "/bin/sh", argv = { "name", "-c",
      'cat; echo "$0 $1 $A $(env | wc -l)"; echo err >&2; exit 7', "zero", "one two" },
      env = { "A=b c", "PATH=/usr/bin:/bin" }, stdin = "in\n" }
    assert.equal(7, got.status)
    assert.is_nil(got.signal)
    assert.equal("in\nzero one two b c ", got.stdout:match("^in\nzero one two b c "))
    assert.equal("err\n", got.stderr)
  end)

  it("passes nothing of ours on", function()
    local ls = { path = "/bin/ls", argv = { "ls", "/proc/self/fd" } }
    local before = sys.exec(ls).stdout
    local f <close> = sys.open_locked(path("l"), "exclusive")
    assert.equal(before, sys.exec(ls).stdout, tostring(f))
    local got = sys.exec { path = "/usr/bin/env" }
    assert.equal("", got.stdout)
    got = sys.exec { path = "/bin/cat", argv = { "cat", "/proc/self/status" } }
    assert.equal("0000000000000000", got.stdout:match("SigBlk:%s*(%x+)"))
    -- The C library keeps signals 32 and 33 to itself.
    assert.equal(0, tonumber(got.stdout:match("SigIgn:%s*(%x+)"), 16) & 0x7fffffff)
  end)

  it("moves much both ways at once", function()
    local much = ("0123456789abcdef"):rep(60000)
    assert.equal(much, sys.exec { path = "/bin/cat", stdin = much }.stdout)
    assert.equal(0, sys.exec { path = "/bin/true", stdin = much }.status)
    -- A file beside it.
    assert.equal(much .. "in", sys.exec { path = "/bin/cat", argv = { "cat", "/proc/self/fd/3", "-" }, file = much,
      stdin = "in" }.stdout)
    assert.equal("", sys.exec { path = "/bin/cat", argv = { "cat", "/dev/fd/3" }, file = "" }.stdout)
    assert.equal(1, sys.exec({ path = "/bin/cat", argv = { "cat", "/proc/self/fd/3" } }).status)
    assert.has_error(function() sys.exec { path = "/bin/cat", file = 7 } end)
  end)

  it("leaves who has connected to a detached program, and to nobody else", function()
    local at, said = path "listen.sock", path "said"
    local listener = assert(sys.listen(at))
    assert.equal("srw-------\n", t.run { "stat", "-c", "%A", at })
    assert.is_false(listener:accept(0))
    os.execute(("(echo hello | socat -t5 - UNIX-CONNECT:%s >%s.new 2>&1; mv %s.new %s) </dev/null >/dev/null 2>&1 &")
      :format(at, said, said, said))
    assert.is_true(listener:accept(5000))
    assert(sys.exec { path = "/bin/sed", argv = { "sed", "s/^/well, /" }, detached = true, connection = listener })
    while not t.read(said) do t.sh "sleep 0.02" end
    assert.equal("well, hello\n", t.read(said))
    assert.is_false(listener:accept(0))
    assert.has_error(function() sys.exec { path = "/bin/true", detached = true, connection = listener } end)
    assert.has_error(function() sys.exec { path = "/bin/true", detached = true, connection = {} } end)
    fails("EADDRINUSE", sys.listen(at))
    listener:close()
    listener:close()
    assert.equal(1, select(2, t.sh { "stat", at }))
    assert.has_error(function() listener:accept(0) end)
  end)

  it("ends a program for whom nobody waits any more, but not at the end of what he says", function()
    local at, said = path "heard.sock", path "heard"
    local listener <close> = assert(sys.listen(at))
    local text = ([[local sys = require("netlink").sys
      local ran, msg, errno = sys.exec { path = "/bin/sleep", argv = { "sleep", "%%s" }, heard = true }
      local f <close> = io.open("%s", "w")
      f:write(ran and ran.status or msg)]]):format(said)
    for seconds, want in pairs { ["0.5"] = "0", ["20"] = "run /bin/sleep: Connection reset by peer" } do
      os.execute(("(: | socat -t%s - UNIX-CONNECT:%s) </dev/null >/dev/null 2>&1 &"):format(
        seconds == "20" and "0.1" or "5", at))
      assert.is_true(listener:accept(5000))
      assert(sys.exec { path = "/usr/bin/lua5.4", argv = { "lua5.4", "-e", text:format(seconds) }, detached = true,
        env = { "LUA_CPATH=" .. os.getenv "LUA_CPATH" }, connection = listener })
      assert.is_false(listener:accept(0))
      local told
      for _ = 1, 200 do
        told = t.read(said)
        if told and told ~= "" then break end
        t.sh "sleep 0.02"
      end
      assert.equal(want, told)
      os.remove(said)
    end
  end)

  it("listens where nobody does any more, but takes no file for a socket, and leaves another's", function()
    local at = path "left.sock"
    os.execute(([[lua5.4 -e 'require("netlink").sys.listen("%s"); os.exit(0, false)']]):format(at))
    assert.equal("socket\n", t.run { "stat", "-c", "%F", at })
    local listener = assert(sys.listen(at))
    os.remove(at)
    t.write(at, "somebody's")
    listener:close()
    assert.equal("somebody's", t.read(at))
    fails("EADDRINUSE", sys.listen(at))
    fails("ENAMETOOLONG", sys.listen("/" .. ("x"):rep(108)))
    fails("ENOENT", sys.listen "/nonexistent/x.sock")
    assert.equal("somebody's", t.read(at))
  end)

  it("leaves a detached program to itself: it holds nothing of ours open, is not waited for, and goes on", function()
    local out, go = path "detached", path "go"
    local pipe = io.popen(([[lua5.4 -e 'local sys = require("netlink").sys
      local got = assert(sys.exec { path = "/bin/sh", detached = true, env = { "PATH=/usr/bin:/bin" }, argv = { "sh", "-c",
        "while ! [ -e %s ]; do sleep 0.02; done; readlink /proc/$$/fd/0 /proc/$$/fd/2 /proc/$$/cwd >%s.new; mv %s.new %s" } })
      assert(next(got) == nil)']]):format(go, out, out, out), "r")
    assert.equal("", pipe:read("a"), "who reads to the end is not kept")
    pipe:close()
    assert.is_nil(t.read(out))
    t.write(go, "")
    while not t.read(out) do t.sh "sleep 0.02" end
    assert.equal("/dev/null\n/dev/null\n/\n", t.read(out))
    fails("ENOENT", sys.exec { path = "/nonexistent", detached = true })
  end)

  it("stops what says too much, and keeps the first of the errors", function()
    fails("EFBIG", sys.exec { path = "/bin/cat", stdin = ("x"):rep(1001), stdout_limit = 1000 })
    assert.equal(1000, #sys.exec { path = "/bin/cat", stdin = ("x"):rep(1000),
      stdout_limit = 1000 }.stdout)
    fails("EFBIG", sys.exec { path = "/usr/bin/yes" })
    local got = sys.exec { path = "/bin/sh", argv = { "sh", "-c", "yes | head -c 200000 >&2" },
      env = { "PATH=/usr/bin:/bin" } }
    assert.equal(65536, #got.stderr)
  end)

  it("ends the program and its children at the deadline", function()
    local began = sys.clock()
    fails("ETIMEDOUT", sys.exec { path = "/bin/sh", timeout_ms = 300, argv = { "sh", "-c",
      "sleep 77 & sleep 77" }, env = { "PATH=/usr/bin:/bin" } })
    assert.is_true(sys.clock() - began < 3)
    assert.equal("", (t.sh "sleep 0.1; pgrep -x -f 'sleep 77' --ns $$ --nslist mnt"))
  end)

  it("does not wait for a background process that keeps the pipes", function()
    local began = sys.clock()
    local got = sys.exec { path = "/bin/sh", argv = { "sh", "-c", "setsid sleep 2.5 & echo done" },
      env = { "PATH=/usr/bin:/bin" } }
    assert.equal("done\n", got.stdout)
    assert.is_true(sys.clock() - began < 2)
    t.sh "sleep 2.6"
  end)

  it("tells a signal from a status, and a program that is not there", function()
    local got = sys.exec { path = "/bin/sh", argv = { "sh", "-c", "kill -TERM $$" } }
    assert.equal(15, got.signal)
    assert.is_nil(got.status)
    assert.is_truthy(fails("ENOENT", sys.exec { path = "/no/such" }):find("/no/such", 1, true))
    fails("EACCES", sys.exec { path = "/etc/passwd" })
  end)

  it("happens in the namespace that was named, and leaves us in ours", function()
    local ns, other = require("netlink").ns, t.netns()
    local where <close> = assert(ns.open(other.path))
    local look = { path = "/bin/readlink", argv = { "readlink", "/proc/self/ns/net" } }
    local function seen() return sys.exec(look).stdout:gsub("%s+$", "") end
    local ours = sys.readlink("/proc/self/ns/net")
    local theirs = "net:[" .. where:id():match(":(%d+)$") .. "]"
    assert.not_equal(ours, theirs)
    assert.equal(ours, (seen()))
    for _, named in ipairs { other.path, where } do
      look.ns = named
      assert.equal(theirs, (seen()))
      assert.equal(ours, sys.readlink("/proc/self/ns/net"))
      fails("ENOENT", sys.exec { path = "/no/such", ns = named })
      assert.equal(ours, sys.readlink("/proc/self/ns/net"))
    end
    look.ns = nil
    assert.equal(ours, (seen()))
    t.remove_netns(other)
  end)

  it("does not happen in a namespace that is not there", function()
    local touch = { path = "/bin/touch", argv = { "touch", path("made") } }
    touch.ns = "/run/netns/none"
    fails("ENOENT", sys.exec(touch))
    touch.ns = "/proc/self/ns/mnt"
    fails("EINVAL", sys.exec(touch))
    for _, bad in ipairs { 1, {}, true } do
      touch.ns = bad
      assert.has_error(function() sys.exec(touch) end)
    end
    assert.is_nil(t.read(path("made")))
    touch.ns = nil
    assert.equal(0, sys.exec(touch).status)
    assert.equal("", t.read(path("made")))
  end)

  local label = "system_u:system_r:container_t:s0"

  it("gives a program its label, and nothing after it", function()
    t.needs("selinux")
    local cat = { path = "/bin/cat", argv = { "cat", "/proc/self/attr/current" } }
    local plain = sys.exec(cat)
    cat.label = label
    assert.equal(0, sys.exec(cat).status)
    assert.equal("", sys.read_file("/proc/thread-self/attr/exec"))
    fails("ENOENT", sys.exec { path = "/no/such", label = label })
    assert.equal("", sys.read_file("/proc/thread-self/attr/exec"))
    cat.label = nil
    assert.same(plain, sys.exec(cat))
  end)

  it("with a label that cannot be given does not happen", function()
    local touch = { path = "/bin/touch", argv = { "touch", path("made") }, label = label }
    if not t.has("selinux") then
      fails("EINVAL", sys.exec(touch))
      assert.is_nil(t.read(path("made")))
    end
    touch.label = {}
    assert.has_error(function() sys.exec(touch) end)
    assert.is_nil(t.read(path("made")))
    touch.label = nil
    assert.equal(0, sys.exec(touch).status)
  end)

  it("names a key that it does not know", function()
    for _, bad in ipairs { { path = "/bin/true", arg = {} }, { argv = {} }, { path = 1 },
      { path = "/bin/true", argv = { 1 } }, { path = "/bin/true", env = { "A\0B" } },
      { path = "/bin/true", timeout_ms = -1 }, { path = "/bin/true", stdin = {} } } do
      assert.has_error(function() sys.exec(bad) end)
    end
  end)

  it("loses no descriptor, whatever happens", function()
    local before = #sys.list("/proc/self/fd")
    for _ = 1, 20 do
      sys.exec { path = "/no/such" }
      sys.exec { path = "/bin/true" }
      sys.exec { path = "/bin/true", label = "none", ns = "/proc/self/ns/net" }
      sys.exec { path = "/bin/true", ns = "/run/netns/none" }
      sys.exec { path = "/usr/bin/yes", stdout_limit = 10 }
      sys.open_locked(path("none/l"), "exclusive")
      sys.list(path("none"))
      sys.read_file(path("none"))
    end
    assert.equal(before, #sys.list("/proc/self/fd"))
  end)
end)

describe("small things", function()
  it("digest, randomness, clocks, numbers of errors", function()
    assert.equal("cbf29ce484222325", sys.hash64(""))
    assert.equal("af63dc4c8601ec8c", sys.hash64("a"))
    assert.equal("85944171f73967e8", sys.hash64("foobar"))
    assert.equal(32, #sys.random(32))
    assert.not_equal(sys.random(16), sys.random(16))
    assert.has_error(function() sys.random(0) end)
    assert.has_error(function() sys.random(257) end)
    local a, b = sys.clock(), sys.clock()
    assert.is_true(b >= a)
    assert.is_true(math.abs(sys.time() - os.time()) < 2)
    assert.equal(2, sys.errno.ENOENT)
    assert.equal("No such file or directory", sys.strerror(2))
    assert.has_error(function() return sys.errno.ENOTHING end)
    assert.is_true(sys.pid() > 1)
  end)

  it("uptime is the kernel's, and runs forward", function()
    local before = tonumber(t.read("/proc/uptime"):match "^[%d.]+")
    local uptime = sys.uptime()
    local after = tonumber(t.read("/proc/uptime"):match "^[%d.]+")
    -- The kernel writes hundredths, and cuts off the rest.
    assert.is_true(uptime >= before and uptime < after + 0.02, uptime)
    local a, b = sys.uptime(), sys.uptime()
    assert.is_true(b >= a)
    assert.equal("float", math.type(a))
    -- The other one stands still while the machine sleeps.
    assert.is_true(sys.uptime() - sys.clock() > -0.01)
  end)

  it("sleep takes its time, asleep", function()
    for _, ms in ipairs { 0, 1, 300 } do
      local wall, up, cpu = sys.clock(), sys.uptime(), os.clock()
      assert.equal(0, select("#", sys.sleep(ms)))
      wall, up, cpu = sys.clock() - wall, sys.uptime() - up, os.clock() - cpu
      assert.is_true(wall >= ms / 1000 and wall < 2, wall)
      assert.is_true(up >= ms / 1000 and up < 2, up)
      assert.is_true(cpu < 0.1, cpu)
    end
    for _, bad in ipairs { -1, 0x80000000, 0.5, "long", {} } do
      assert.has_error(function() sys.sleep(bad) end)
    end
    assert.has_error(function() sys.sleep() end)
  end)

  it("sleep is over when a signal comes that is taken", function()
    -- The interpreter takes SIGINT, and none of the others.
    local chunk = [[local sys = require("netlink").sys
      assert(sys.touch "%s")
      local ok, why = pcall(sys.sleep, 20000)
      print(ok, why)]]
    local env = { "LUA_CPATH=" .. t.build .. "/?.so", "LD_PRELOAD=" .. (os.getenv("LD_PRELOAD") or ""),
      "ASAN_OPTIONS=" .. (os.getenv("ASAN_OPTIONS") or "") }
    local began = sys.clock()
    local said = t.run(([[lua5.4 -e %s & pid=$!
      until [ -e %s ]; do sleep 0.02; done; sleep 0.1
      kill -INT $pid; wait $pid]]):format(t.quote(chunk:format(path("asleep"))), path("asleep")), { env = env })
    assert.truthy(said:find("interrupted", 1, true), said)
    assert.is_true(sys.clock() - began < 15)
  end)

  it("regular expressions match the whole of a text, anchored or not", function()
    for _, pattern in ipairs { "a.c", "^a.c$", "abc|ab", "ab|abc", "(a|b|c)+", "[[:lower:]]{3}" } do
      assert.is_true(sys.matches(pattern, "abc"), pattern)
    end
    for _, pattern in ipairs { "", "ab", "bc", "a.c.", "^ab", "bc$", "ABC", "a{4}" } do
      assert.is_false(sys.matches(pattern, "abc"), pattern)
    end
    assert.is_true(sys.matches("", ""))
    for _, pattern in ipairs { "(", "a)|(abc", "[", "a{2,1}", "*" } do
      local ok, why = sys.matches(pattern, "abc")
      if ok ~= false then
        assert.is_nil(ok, pattern)
        assert.equal("string", type(why))
      end
    end
    assert.is_nil((sys.matches("(", "(")))
  end)
end)
