-- SPDX-License-Identifier: MIT
-- What somebody sees who waits at a terminal: python3's pty is one.

local t = require "support"

local bin, folder = "/run/spec/bin", "/etc/cni/net.d"
local host

-- Runs words with a terminal as standard error, and as standard output too if the first argument says so. Prints
-- what came there, each piece with the time since the start, and the status.
local terminal = [==[
import json, os, pty, select, struct, subprocess, sys, fcntl, termios, time
both, columns, words = sys.argv[1] == "both", int(sys.argv[2]), sys.argv[3:]
ours, theirs = pty.openpty()
fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
start = time.monotonic()
p = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs if both else subprocess.PIPE, stderr=theirs)
os.close(theirs)
pieces, out = [], b""
while True:
    ready = select.select([ours] + ([p.stdout] if p.stdout else []), [], [], 20)[0]
    if not ready: break
    if ours in ready:
        try: data = os.read(ours, 65536)
        except OSError: data = b""
        if not data: break
        pieces.append([time.monotonic() - start, data.decode("latin-1")])
    if p.stdout in ready:
        data = os.read(p.stdout.fileno(), 65536)
        if not data: p.stdout = None
        out += data
# The terminal may be seen to end first.
if p.stdout: out += p.stdout.read()
print(json.dumps({ "pieces": pieces, "out": out.decode(), "status": p.wait(),
    "seen": "".join(data for _, data in pieces) }))
]==]

local function at_terminal(words, opts)
  opts = opts or {}
  t.write("/run/spec/terminal.py", terminal)
  local line = { "python3", "/run/spec/terminal.py", opts.both and "both" or "stderr", opts.columns or 80,
    t.build .. "/luacni", table.unpack(words) }
  local env = { "CNI_PATH=" .. bin, "TERM=" .. (opts.term or "xterm"), "NO_COLOR=" .. (opts.no_color or "") }
  local seen = assert(t.decode(t.run(line, { host = host, env = env })))
  -- What stays on the screen: a line that begins anew writes over what was there.
  local rows = { "" }
  for piece in (seen.seen:gsub("\r\n", "\n") .. "\0"):gmatch "[^\r\n%z]*[\r\n%z]" do
    local text, stop = piece:sub(1, -2), piece:sub(-1)
    if text:find("\27[K", 1, true) then text = text:gsub("\27%[K", "") rows[#rows] = "" end
    if text ~= "" then rows[#rows] = text end
    if stop == "\n" then rows[#rows + 1] = "" end
    if stop == "\r" and rows[#rows] == "" then rows[#rows] = "" end
  end
  if rows[#rows] == "" then rows[#rows] = nil end
  seen.rows = rows
  return seen
end

local function network(type_name)
  t.write(folder .. "/demo.conflist", t.json { cniVersion = "1.0.0", name = "demo", plugins = { { type = type_name } } })
end

before_each(function()
  host = t.host("node", { lived_in = false })
  t.netns "blue"
  t.write(bin .. "/slow", [[
#!/bin/sh
cat >/dev/null
[ ! -e /run/spec/say ] || cat /run/spec/say >&2
sleep "$(cat /run/spec/seconds)"
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.0.0","ips":[{"address":"10.3.0.2/16"}]}'
]])
  t.run("chmod +x " .. bin .. "/slow")
  t.write("/run/spec/seconds", "1.7")
  network "slow"
end)
after_each(function()
  t.run("rm -rf /var/lib/cni/results /run/spec/say /run/spec/seconds /etc/luacni/plugins " .. bin .. " " .. folder)
  t.cleanup()
end)

describe("progress", function()
  it("is a line on the terminal after a second, which goes again", function()
    local got = at_terminal { "add", "demo", "blue" }
    assert.equal(0, got.status)
    assert.equal("10.3.0.2/16", t.decode(got.out).ips[1].address)
    local at, text = got.pieces[1][1], got.pieces[1][2]
    assert.is_true(at >= 0.99 and at < 1.6, at)
    assert.matches("^\rADD by slow, network demo, container [%w-]+\27%[K$", text)
    assert.equal("\r\27[K", got.seen:sub(-4))
    t.same({}, got.rows)
  end)

  for what, case in pairs {
    ["what is done within a second"] = { { "del", "demo", "blue" }, seconds = "0.3" },
    ["NO_COLOR"] = { { "del", "demo", "blue" }, no_color = "1" },
    ["a terminal that cannot take a line away"] = { { "del", "demo", "blue" }, term = "dumb" },
  } do
    it("is not there for " .. what, function()
      if case.seconds then t.write("/run/spec/seconds", case.seconds) end
      local got = at_terminal(case[1], case)
      t.same({ 0, "" }, { got.status, got.seen })
    end)
  end

  it("is not there for a pipe or a file", function()
    local out, status, err = t.sh({ t.build .. "/luacni", "del", "demo", "blue" }, { host = host,
      env = { "CNI_PATH=" .. bin, "TERM=xterm" } })
    t.same({ "", 0, "" }, { out, status, err })
  end)

  it("makes room for what else is said", function()
    t.write("/run/spec/say", "a plugin's own words\n")
    local got = at_terminal({ "add", "demo", "blue" }, { both = true })
    assert.equal("a plugin's own words", got.rows[1])
    assert.matches("^{", got.rows[2])
    assert.is_truthy(got.seen:find("\r\27[Ka plugin's own words\r\n", 1, true), got.seen)
    assert.is_nil(table.concat(got.rows, "\n"):find("ADD by slow", 1, true))
  end)

  it("has no more letters than the terminal has room for", function()
    local got = at_terminal({ "del", "demo", "blue" }, { columns = 20 })
    assert.equal("\rDEL by slow, networ\27[K", got.pieces[1][2])
  end)

  it("counts in a gc of many", function()
    t.write("/run/spec/seconds", "0")
    for i = 1, 5 do
      local ns = t.netns("g" .. i)
      t.run({ t.build .. "/luacni", "add", "demo", ns.name }, { host = host, env = { "CNI_PATH=" .. bin } })
      t.remove_netns(ns)
    end
    t.write("/run/spec/seconds", "0.5")
    local got = at_terminal { "gc" }
    assert.equal(0, got.status)
    assert.equal(5, select(2, got.out:gsub("taken away", "")))
    assert.matches("DEL by slow, network demo, container", got.seen)
    assert.equal("\r\27[K", got.seen:sub(-4))
  end)

  it("says at which script validate, check-scripts and doctor are, whatever that does; names are no commands", function()
    -- Stopped after five seconds.
    t.write("/etc/luacni/plugins/busy.lua", "while true do end")
    t.run("ln -s ../luacni " .. bin .. "/busy")
    network "busy"
    t.run "printf 'while true do end' >\"$(printf '/run/spec/x\\033[31my.lua')\""
    local got = at_terminal { "validate", "demo" }
    assert.matches("\rvalidate: network demo, 1 of 1\27%[K", got.seen)
    got = at_terminal { "doctor" }
    assert.matches("\rdoctor: %l+\27%[K", got.seen)
    t.run "rm /etc/luacni/plugins/busy.lua"
    got = at_terminal { "check-scripts", "/run/spec/x\27[31my.lua" }
    assert.matches("\rcheck%-scripts: /run/spec/x%?%[31my.lua, 1 of 1\27%[K", got.seen)
    t.run "rm /run/spec/x*"
  end)

  it("says at which script types, schema, doc and a dry run are", function()
    t.write("/etc/luacni/plugins/busy.lua", "while true do end")
    network "busy"
    for line, said in pairs { ["types"] = "types: busy, %d+ of %d+", ["schema"] = "schema: type busy",
      ["doc busy"] = "load the script of type busy",
      ["run demo --dry-run"] = "load the script of type busy, network demo" } do
      local words = {}
      for word in line:gmatch "%S+" do words[#words + 1] = word end
      local got = at_terminal(words)
      assert.matches("\r" .. said .. "\27%[K", got.seen)
      assert.is_nil(table.concat(got.rows, "\n"):find(said), line)
    end
  end)

  it("leaves the terminal to the command of a run, and comes again behind it", function()
    t.write("/run/spec/seconds", "1.3")
    local got = at_terminal({ "run", folder .. "/demo.conflist", "--", "sh", "-c", "echo here; sleep 1.5; echo there" },
      { both = true })
    assert.equal(0, got.status)
    t.same({ "here", "there" }, got.rows)
    local first, second = got.seen:find("here\r\nthere\r\n", 1, true)
    assert.is_truthy(first, got.seen)
    assert.matches("ADD by slow", got.seen:sub(1, first))
    assert.matches("DEL by slow", got.seen:sub(second))
  end)
end)
