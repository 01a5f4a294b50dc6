-- SPDX-License-Identifier: MIT
-- luacni repair --watch: what is flushed or removed comes back by itself; what is nobody's loss starts nothing.

local cli = require "cli"
local t = require "support"

local folder, out_file, err_file, trace = "/etc/cni/net.d", "/run/spec/out", "/run/spec/err", "/run/spec/trace"
local host, blue, red, pid

local bridge = { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, removeUnused = true,
  ipam = { type = "host-local", ranges = { { { subnet = "10.1.0.0/24" } }, { { subnet = "fd01::/64" } } } } }
local firewall = { type = "firewall" }

local function in_host(words) return t.run(words, { host = host }) end

-- Whether something is so within a few seconds.
local function comes(what)
  for _ = 1, 100 do
    if what() then return true end
    t.sh "sleep 0.1"
  end
  return false
end

local function said() return t.read(out_file) or "" end

local function has_said(text)
  return comes(function() return said():find(text, 1, true) end) or false
end

-- Programs that it has started, its own start left out. Only where it is traced.
local function repairs()
  return select(2, (t.read(trace) or ""):gsub("execve%([^\n]*\"repair\"", "")) - 1
end

local function rests()
  local before
  repeat
    before = repairs()
    t.sh "sleep 2.5"
  until repairs() == before
  return before
end

local function watch(words, traced)
  os.remove(out_file)
  local strace = traced and "strace -f -qq -e trace=execve -s 200 -o " .. trace or ""
  in_host(("%s sh -c 'echo $$ >/run/spec/pid; exec \"$@\"' sh %s/luacni repair --watch %s </dev/null >>%s 2>%s &"
    ):format(strace, t.build, words or "", out_file, err_file))
  assert.is_truthy(comes(function() return (t.read(err_file) or ""):find("watching", 1, true) end), t.read(err_file))
  pid = t.read("/run/spec/pid"):match "%d+"
end

local function stop()
  if not pid then return end
  local status = t.run(("kill %s; for i in $(seq 100); do kill -0 %s 2>/dev/null || break; sleep 0.1; done; "
    .. "kill -0 %s 2>/dev/null; echo $?; sleep 0.2"):format(pid, pid, pid))
  pid = nil
  assert.equal("1\n", status)
end

local function attach(name) cli.succeeds { "add", "net", name } end

before_each(function()
  t.wipe()
  host = t.host "node"
  cli.host = host
  blue, red = t.netns "blue", t.netns "red"
  t.write(folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { bridge, firewall } })
end)
after_each(function()
  stop()
  cli.luacni { "del", "net", "blue" }
  cli.luacni { "del", "net", "red" }
  t.run("rm -rf " .. folder .. " /var/lib/cni/results " .. trace)
  t.cleanup()
end)

describe("luacni repair --watch", function()
  it("brings back what was missing before, and rules that are flushed, again and again", function()
    attach "blue"
    local rules = t.our_rules(host)
    in_host(t.flush)
    watch()
    t.same(rules, t.our_rules(host))
    for _ = 1, 3 do
      in_host(t.flush)
      assert.is_true(comes(function() return #t.differences(rules, t.our_rules(host)) == 0 end))
    end
    assert.is_true(has_said "is missing from table inet luacni")
    assert.is_true(t.answers(blue, "192.0.2.2") or t.answers(blue, "10.1.0.1"))
  end)

  it("brings back a bridge, an address on it, a port, a setting, and what was in the sandbox", function()
    attach "blue"
    watch()
    for _, broken in ipairs {
      { host, "ip link del br0", "bridge br0 is gone" },
      { host, "ip addr del 10.1.0.1/24 dev br0", "10.1.0.1/24" },
      { host, "ip -o link show master br0 | sed 's/^[0-9]*: \\([^@:]*\\).*/\\1/' | xargs -n1 -I{} ip link set {} nomaster",
        "is not plugged into br0" },
      { host, "echo 0 >/proc/sys/net/ipv4/ip_forward", "ip_forward" },
      { blue, "ip addr del 10.1.0.2/24 dev eth0", "10.1.0.2/24" },
      { blue, "ip route del default", "route 0.0.0.0/0" },
    } do
      t.write(out_file, "")
      t.run(broken[2], { host = broken[1] })
      assert.is_true(has_said(broken[3]), broken[2] .. "\n" .. said() .. t.read(err_file))
    end
    assert.is_true(comes(function() return t.ping(blue, "10.1.0.1") end))
    cli.succeeds { "check", "net", "blue" }
  end)

  it("starts no repair where nothing is lost: attachments that work, rules and links of others that come", function()
    t.needs("calls", "ifb")
    t.write(folder .. "/net.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = { bridge, firewall,
      { type = "bandwidth", ingressRate = 8000000, ingressBurst = 800000, egressRate = 8000000, egressBurst = 800000 } } })
    attach "blue"
    watch("", true)
    local before = rests()
    assert.is_true(t.ping(blue, "10.1.0.1"))
    in_host "ip addr add 198.18.0.1/32 dev lo; nft add table inet theirs; nft add chain inet theirs c"
    t.sh "sleep 2"
    cli.succeeds { "check", "net", "blue" }
    t.sh "sleep 1"
    assert.equal(before, repairs())
    in_host "nft delete table inet theirs"
    assert.is_true(comes(function() return repairs() > before end))
    assert.equal("", said())
    in_host "ip addr del 198.18.0.1/32 dev lo"
  end)

  it("says nothing of attachments that come and go, which go as without it", function()
    attach "blue"
    watch()
    for _ = 1, 8 do
      attach "red"
      cli.succeeds { "check", "net", "red" }
      cli.succeeds { "del", "net", "red" }
    end
    t.sh "sleep 5"
    t.same({ "", "luacni: watching\n" }, { said(), t.read(err_file) })
    assert.equal(0, #t.ip(red, "link show type veth"))
  end)

  it("tells a problem once, and goes on", function()
    attach "blue"
    attach "red"
    watch()
    t.run("ip link del eth0; ip link add eth0 type veth peer name x", { host = blue })
    local function times() return select(2, t.read(err_file):gsub("eth0  bridge", "")) end
    assert.is_true(comes(function() return times() > 0 end))
    in_host(t.flush)
    assert.is_true(has_said "is missing from table inet luacni")
    t.sh "sleep 5"
    assert.equal(1, times(), t.read(err_file))
    t.run("ip link del eth0", { host = blue })
  end)

  it("has a limit: a node on which things are lost all the time is not repaired all the time", function()
    t.needs "calls"
    attach "blue"
    watch("", true)
    local before = rests()
    in_host "for i in $(seq 150); do nft add table inet theirs; nft delete table inet theirs; sleep 0.02; done"
    local count = rests() - before
    assert.is_true(count >= 1 and count < 75, count)
  end)

  it("with --json says a list in a line for each repair that did something", function()
    attach "blue"
    watch "net blue --json"
    in_host(t.flush)
    assert.is_true(has_said "\n")
    local line = said():match "^[^\n]+"
    local list = t.decode(line)
    assert.is_table(list, line)
    t.same({ "net", "eth0", {} }, { list[1].network, list[1].interface, list[1].problems })
    assert.is_truthy(list[1].steps[1].differs:find("missing", 1, true))
  end)

  it("takes what is no network, an option too many, or a socket that is not to be had, as any command does", function()
    attach "blue"
    cli.fails(2, { "repair", "--watch", "ned" }, [[no network in /etc/cni/net.d has the name "ned"]])
    cli.fails(2, { "repair", "--watch", "--dry-run" }, "--watch repairs, and --dry-run does not")
    local out, status, err = t.sh({ "prlimit", "--nofile=4", t.build .. "/luacni", "repair", "--watch" }, { host = host })
    t.same({ "", 1 }, { out, status })
    assert.is_truthy(err:find("Too many open files", 1, true), err)
  end)

  it("goes on where nobody can read what it says, and where its program is gone or another", function()
    attach "blue"
    local rules = t.our_rules(host)
    t.run("cp " .. t.build .. "/luacni /run/spec/own")
    os.remove "/run/spec/pid"
    in_host "sh -c 'echo $$ >/run/spec/pid; exec /run/spec/own repair --watch' </dev/null >/dev/full 2>/dev/full &"
    assert.is_true(comes(function() return t.read "/run/spec/pid" ~= nil end))
    pid = t.read("/run/spec/pid"):match "%d+"
    t.sh "sleep 0.5; rm /run/spec/own"
    for _ = 1, 3 do
      in_host(t.flush)
      assert.is_true(comes(function() return #t.differences(rules, t.our_rules(host)) == 0 end))
    end
  end)

  it("does not rest for the time that it has waited for somebody", function()
    attach "blue"
    watch()
    local rules = t.our_rules(host)
    in_host("flock $(ls -d /run/luacni/shared/nft:luacni.masked*/lock | head -1) sleep 3 & sleep 0.3; " .. t.flush .. "; wait")
    assert.is_true(comes(function() return #t.differences(rules, t.our_rules(host)) == 0 end))
    in_host(t.flush)
    assert.is_true(comes(function() return #t.differences(rules, t.our_rules(host)) == 0 end))
  end)

  it("that is ended takes the repair along, whose work the next one does", function()
    attach "blue"
    watch()
    local rules = t.our_rules(host)
    for _ = 1, 5 do
      in_host(t.flush)
      t.sh "sleep 0.03"
      stop()
      watch()
      assert.is_true(comes(function() return #t.differences(rules, t.our_rules(host)) == 0 end))
    end
    stop()
    assert.equal("", t.sh { "pgrep", "-f", t.build .. "/luacni repair" })
  end)
end)
