-- SPDX-License-Identifier: MIT
-- Let a plugin's system calls fail, one a run, in ADD, DEL, GC and CHECK. A verb that answers 0 all the
-- same has done all of it; one that fails can be repeated, and a DEL then leaves nothing. A CHECK of
-- what is broken never answers 0. A second attachment of the same network stands beside it, and
-- nothing of it changes.
--
-- What is sampled: in each test every `stride`th call fails, beginning with another one in each, and each with
-- one of the ten errnos, in turns. ERRNO_SWEEP=N in the environment has every call fail, with N of them each:
-- with 10 nothing is left out. ERRNO_SWEEP=M-N has the Mth to the Nth of them, for a sweep in parts.
--
-- Seconds a test takes on the second kernel: 30

local t = require "support"
local plugins = require "plugins"

local errnos = { "ENOMEM", "EPERM", "EACCES", "EIO", "EMFILE", "ENFILE", "ENOSPC", "EINTR", "EAGAIN",
  "ENOBUFS" }
local first_turn, last_turn = (os.getenv("ERRNO_SWEEP") or ""):match("^(%d-)%-?(%d+)$")
local stride = t.stride(53, { second = 211, stock = 211 })
local limit = 3600
local dir = "/run/spec/sweep"

-- One script makes all the runs of a sweep, so that a run costs the processes that it is about and few
-- others. It ends with `finished`, or with a line that says what went wrong, leaving everything as it is
-- then: "NUMBER ERRNO CALL: what".
local script = [[
call() {
  CNI_COMMAND=$1 $plugin <$dir/${2-conf} >$dir/out 2>$dir/err
}
trouble() {
  echo "$n $errno $name: $1"
  cat $dir/out $dir/err
  [ ! -s $dir/first ] || { echo "It had answered:"; cat $dir/first; }
  exit 1
}
must() { call "$@" || trouble "$1 fails"; }
unbound() { (unset CNI_CONTAINERID CNI_IFNAME CNI_NETNS; call GC $1) || trouble "GC fails"; }
with_result() {
  { printf '%s,"prevResult":' "$(sed 's/}$//' $dir/bare)"; cat $dir/out; printf '}'; } >$dir/checked
}
same() {
  $look -c $dir/$1 $namespaces && return
  $look $namespaces | diff $dir/$1 - >>$dir/err
  trouble "something is another"
}

detach() { must DEL bare; same before; }

# What each run begins with, and what is made of a call that answers 0, and of one that fails.
begin() { :; }
case $what in
add)
  verb=ADD conf=conf
  good() { with_result; must CHECK checked; detach; }
  bad() {
    if [ $((n / 2 % 2)) = 0 ]; then
      must ADD
      good
    else
      detach
    fi
  } ;;
del)
  verb=DEL conf=bare
  begin() { must ADD; }
  good() { same before; }
  bad() { if [ $((n / 2 % 2)) = 0 ]; then must DEL bare; else unbound gone; fi; same before; } ;;
gc)
  verb=GC conf=gone
  begin() { must ADD; }
  good() { same before; }
  bad() { unbound gone; same before; } ;;
keep)
  verb=GC conf=valid
  good() { same attached; }
  bad() { same attached; } ;;
check)
  verb=CHECK conf=checked
  good() { same attached; }
  bad() { same attached; } ;;
broken)
  verb=CHECK conf=checked
  good() { trouble "CHECK is content with what is broken"; }
  bad() { :; } ;;
esac

n=$from
while :; do
  set -- $errnos
  shift $(((n + turn) % $#))
  errno=$1 name=
  begin
  : >$dir/report
  : >$dir/first
  (
    [ $verb != GC ] || unset CNI_CONTAINERID CNI_IFNAME CNI_NETNS
    CNI_COMMAND=$verb exec $killat -e $errno -o $dir/report $n $plugin <$dir/$conf >$dir/out 2>$dir/err
  )
  status=$?
  read -r how number name ended <$dir/report || trouble "killat ends with $status"
  if [ $how = finished ]; then
    [ $status = 0 ] || [ $what = broken ] || trouble "$verb fails by itself"
    [ $what != add ] || good
    break
  fi
  cp $dir/out $dir/first
  if [ $verb$name$errno$status = GCflockEAGAIN0 ]; then
    # With that word flock() says that somebody else holds the book, which GC leaves to them.
    bad
  elif [ $status = 0 ]; then
    good
  else
    # Whoever cannot find the way home from a namespace stops where they stand.
    [ $name = write ] || [ $name = setns ] || grep -q '"code"' $dir/out ||
      grep -q 'the answer cannot be given' $dir/err || trouble "it fails without a word"
    bad
  fi
  n=$((n + step))
done
# What the run that came to its end without a failure was begun with.
case $what in del|gc) must DEL bare; same before ;; esac
echo finished $n
]]

local Sweep = {}
Sweep.__index = Sweep

-- A world, once round in it (for the folders that stay), perhaps with a neighbour, and what it is like.
local function new_sweep(entry, neighbour)
  t.cleanup()
  t.wipe()
  local w = plugins.world(entry, 2)
  local s = setmetatable({ entry = entry, world = w, namespaces = w.pods[1].path .. " " .. w.host.path }, Sweep)
  t.run("rm -rf " .. dir .. "; mkdir -p " .. dir)
  t.write(dir .. "/script", script)
  local valid = {}
  for n, suffix in ipairs({ "", "2" }) do
    t.write(dir .. "/bare" .. suffix, t.json(plugins.conf(entry, n)))
    t.write(dir .. "/conf" .. suffix, t.json(plugins.conf(entry, n,
      { prevResult = plugins.prev(entry, w.pods[n]) })))
    valid[n] = { containerID = "c" .. n, ifname = "eth0" }
  end
  for name, list in pairs { valid = valid, gone = neighbour and { valid[2] } or {} } do
    t.write(dir .. "/" .. name, t.json(plugins.conf(entry, 1,
      { ["cni.dev/valid-attachments"] = t.list(list) })))
  end
  s:must("ADD", 1, "conf")
  s:must("DEL", 1, "bare")
  if neighbour then
    s:must("ADD", 2, "conf2")
    s.namespaces = s.namespaces .. " " .. w.pods[2].path
  end
  s:look("before")
  return s
end

-- What it is like now, as `before` or `attached`.
function Sweep:look(as)
  self[as] = self.world:picture()
  t.run(t.helper("look") .. " " .. self.namespaces .. " >" .. dir .. "/" .. as)
end

function Sweep:must(verb, n, conf)
  return t.cni_ok({ verb = verb, type = plugins.type(self.entry), host = self.world.host, id = "c" .. n,
    netns = self.world.pods[n], conf = t.read(dir .. "/" .. conf) })
end

-- Attach the first container for the tests that are about a living one. Links give themselves addresses
-- some time after they are up.
function Sweep:attach()
  local result = self:must("ADD", 1, "conf")
  t.write(dir .. "/checked", t.json(plugins.conf(self.entry, 1, { prevResult = result })))
  local settled
  repeat
    settled = self.world:picture()
    t.run("sleep 0.3")
  until #t.differences(settled, self.world:picture()) == 0
  self:look("attached")
end

-- One test: what is done, the first call that fails, and the errno that it begins with.
function Sweep:run(what, from, step, turn)
  local then_is = (what == "keep" or what == "check") and "attached" or "before"
  repeat
    local words = t.cni_words({ verb = "-", type = "-", host = self.world.host, netns = self.world.pods[1] })
    local line = words:gsub(" %S+$", "") .. (" what=%s from=%d step=%d turn=%d errnos=%s dir=%s "
      .. "plugin=%s/%s killat=%s look=%s namespaces=%s sh %s/script"):format(what, from, step, turn,
      t.quote(table.concat(errnos, " ")), dir, t.bin.ours, plugins.type(self.entry), t.helper("killat"),
      t.helper("look"), t.quote(self.namespaces), dir)
    local out, status, err = t.sh(line, { timeout = limit })
    if status == 0 then return end
    local n = out:match("(%d+) ")
    local ok, why = pcall(t.same, self[then_is], self.world:picture())
    if not n or not out:find("something is another", 1, true) or not ok then
      error(("%s: %s\n%s"):format(what, out .. err, ok and "" or why), 0)
    end
    -- Another at a glance, the same at a closer look.
    self:look(then_is)
    from = tonumber(n) + step
  until false
end

-- Shell that breaks an attachment as the table of plugins says, where its names are known beforehand.
local function breaking(entry, w)
  for _, broken in ipairs(entry.breaks) do
    if not broken.sh:find("@", 1, true) then
      local at = broken.at == "host" and w.host or w.pods[1]
      return "nsenter --net=" .. at.path .. " sh -ec " .. t.quote(broken.sh)
    end
  end
end

-- The tests of a world: with a neighbour, and alone, where DEL takes what is shared along.
local tests = { [true] = { "add", "del", "gc", "keep", "check", "broken" }, [false] = { "del", "add" } }
local of_living = { keep = true, check = true, broken = true }

local function sweep(entry, nth, neighbour)
  local s, attached = new_sweep(entry, neighbour), false
  for i, what in ipairs(tests[neighbour]) do
    if of_living[what] and not attached then
      s:attach()
      attached = true
    end
    local line = what == "broken" and breaking(entry, s.world)
    if line then
      s:must("CHECK", 1, "checked")
      t.run(line)
    end
    if what ~= "broken" or line then
      for turn = tonumber(first_turn) or 1, tonumber(last_turn) or 0 do
        s:run(what, 1, 1, nth + i + turn)
      end
      if not last_turn then s:run(what, 1 + (nth + 2 * i) % stride, stride, nth + i) end
    end
  end
  if attached then s:must("DEL", 1, "bare") end
end

describe("a system call that fails in ADD, DEL, GC or CHECK of", function()
  for nth, entry in t.due(plugins.list, 3) do
    it(entry.name .. " is an error, or else all is done", function()
      t.needs(table.unpack(entry.needs or {}))
      sweep(entry, nth, true)
      sweep(entry, nth, false)
    end)
  end
end)

describe("killat -e", function()
  it("has one call fail, and says which", function()
    local killat = t.helper("killat")
    local line = ("CNI_COMMAND=VERSION %s -e EIO -s write -o /run/spec/report %%d %s/bridge")
      :format(killat, t.bin.ours)
    local _, status = t.sh(line:format(1), { stdin = "{}" })
    assert.equal(1, status)
    assert.equal("failed 1 write 1\n", t.read("/run/spec/report"))
    local out
    out, status = t.sh(line:format(2), { stdin = "{}" })
    assert.equal(0, status)
    assert.truthy(out:find("cniVersion", 1, true))
    assert.equal("finished 1 0\n", t.read("/run/spec/report"))
  end)

  it("does not count another program that the command starts", function()
    local _, status = t.sh({ t.helper("killat"), "-e", "EIO", "-o", "/run/spec/report", 1, "sh", "-c",
      t.bin.ours .. "/luacni --version" })
    assert.equal(0, status)
    assert.truthy(t.read("/run/spec/report"):find("^finished 0 0"))
  end)
end)
