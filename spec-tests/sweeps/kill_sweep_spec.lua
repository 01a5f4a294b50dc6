-- SPDX-License-Identifier: MIT
-- Kill a plugin at every system call that changes something, one run for each,
-- in ADD and in DEL. Whatever it had done by then, a DEL, or the next ADD and its
-- DEL, or a GC takes everything back: kernel, leases and records are as before
-- the first ADD. (Forwarding, once switched on, stays on, as with every other
-- tool; empty directories may stay.)
--
-- Seconds a test takes on the second kernel: 35

local t = require "support"
local plugins = require "plugins"

local most = 2000
local limit = 600
local dir = "/run/spec/sweep"

-- One script makes all the runs of a sweep, so that a run costs the processes that it is
-- about and few others. It ends with `finished`, or with a line that says what went wrong,
-- leaving everything as it is then: "NUMBER CALL: what".
local script = [[
call() {
  CNI_COMMAND=$1 $plugin <$dir/${2-conf} >$dir/out 2>$dir/err
}
trouble() {
  echo "$n $name: $1"
  cat $dir/out $dir/err
  exit 1
}
must() { call "$@" || trouble "$1 fails"; }

# An ADD killed in giving its answer, and a DEL killed before its first change, leave a
# live attachment, and a second ADD is the error that it has to be.
may_live() { [ $verb = DEL ] || grep -rqs '"done"' /run/luacni/attachments; }

with_result() {
  { printf '%s,"prevResult":' "$(sed 's/}$//' $dir/bare)"; cat $dir/out; printf '}'; } >$dir/checked
}

recover_del() { must DEL bare; }
recover_add() {
  live=false
  may_live && live=true
  if call ADD; then
    with_result
    must CHECK checked
  else
    $live || trouble "the next ADD fails"
  fi
  must DEL bare
}
recover_gc() {
  (unset CNI_CONTAINERID CNI_IFNAME CNI_NETNS; call GC gc) || trouble "GC fails"
}
recover_other() {
  (
    CNI_CONTAINERID=c2 CNI_NETNS=$other
    must ADD conf2
    must DEL bare2
  ) || exit 1
  must DEL bare
}
same() { $look -c $dir/before $namespaces; }

n=$from
while [ $n -lt $most ]; do
  name=
  [ $verb = ADD ] || must ADD
  conf=conf
  [ $verb = ADD ] || conf=bare
  : >$dir/report
  CNI_COMMAND=$verb $killat $flags -o $dir/report $n $plugin <$dir/$conf >$dir/out 2>$dir/err
  status=$?
  read -r how number name <$dir/report || trouble "killat ends with $status"
  if [ $status = 100 ]; then
    [ "$name" = 0 ] || trouble "$verb fails by itself"
    [ $n -gt 1 ] || [ -n "$flags" ] || trouble "nothing was killed"
    [ $verb = DEL ] || must DEL bare
    break
  fi
  [ $status = 101 ] || trouble "killat ends with $status"
  set -- $ways
  shift $((n % $#))
  recover_$1
  same || trouble "something is left"
  n=$((n + step))
done
[ $n -lt $most ] || trouble "it never came to its end"
echo finished $n
]]

local Sweep = {}
Sweep.__index = Sweep

-- A world, once round in it (for the folders that stay), and what it is like.
local function new_sweep(entry)
  t.wipe()
  local w = plugins.world(entry, 2)
  local s = setmetatable({ entry = entry, world = w, pod = w.pods[1] }, Sweep)
  t.run("rm -rf " .. dir .. "; mkdir -p " .. dir)
  t.write(dir .. "/script", script)
  for n, suffix in ipairs({ "", "2" }) do
    t.write(dir .. "/bare" .. suffix, t.json(plugins.conf(entry, n)))
    t.write(dir .. "/conf" .. suffix, t.json(plugins.conf(entry, n,
      { prevResult = plugins.prev(entry, w.pods[n]) })))
  end
  t.write(dir .. "/gc", t.json(plugins.conf(entry, 1,
    { ["cni.dev/valid-attachments"] = t.list() })))
  s.before = w:picture()
  s:must("ADD", "conf")
  s:must("DEL", "bare")
  t.same(s.before, w:picture(), "ADD and DEL alone")
  s.namespaces = s.pod.path .. " " .. w.host.path
  s:look()
  return s
end

function Sweep:look()
  t.run(t.helper("look") .. " " .. self.namespaces .. " >" .. dir .. "/before")
end

function Sweep:must(verb, conf)
  return t.cni_ok({ verb = verb, type = plugins.type(self.entry), host = self.world.host,
    netns = self.pod, conf = t.read(dir .. "/" .. conf) })
end

-- Kill `verb` at every change, or every `step`th, and recover in one of the `ways`.
function Sweep:run(verb, ways, step, flags)
  local from = 1
  repeat
    local words = t.cni_words({ verb = "-", type = "-", host = self.world.host, netns = self.pod })
    local line = words:gsub(" %S+$", "") .. (" verb=%s from=%d most=%d step=%d ways=%s flags=%s "
      .. "dir=%s plugin=%s/%s killat=%s look=%s namespaces=%s other=%s sh %s/script"):format(verb, from,
      most, step or 1, t.quote(ways), flags or "''", dir, t.bin.ours, plugins.type(self.entry),
      t.helper("killat"), t.helper("look"), t.quote(self.namespaces), self.world.pods[2].path, dir)
    local out, status, err = t.sh(line, { timeout = limit })
    if status == 0 then return tonumber(out:match("finished (%d+)")) end
    local n, what = out:match("(%d+) ([^\n]*)")
    local ok, why = pcall(t.same, self.before, self.world:picture())
    if not n or not what:find("something is left", 1, true) or not ok then
      error(("%s killed at change %s, then %s: %s\n%s"):format(verb, out .. err, ways,
        "status " .. status, ok and "" or why), 0)
    end
    -- Different at a glance, the same at a closer look.
    self:look()
    from = tonumber(n) + (step or 1)
  until false
end

-- What is done in one world: { verb, ways, step, flags of killat }. Each change is mended in each of the ways;
-- of a sample, in one of them, in turns.
local stride = t.stride(4, { second = 7, stock = 7 })
local sweeps = stride > 1 and {
  { "ADD", "del add gc", stride }, { "DEL", "del add gc", stride }, { "ADD", "other", 19 }, { "DEL", "del", stride, "-d" },
} or {
  { "ADD", "del" }, { "DEL", "del" }, { "ADD", "add" }, { "DEL", "add" }, { "ADD", "gc" },
  { "DEL", "gc" }, { "ADD", "other", 3 }, { "DEL", "del", 1, "-d" },
}

describe("killed at every change of ADD and DEL, and mended by DEL, ADD or GC,", function()
  for _, entry in t.due(plugins.list, 3) do
    it(entry.name .. " leaves nothing and disturbs no other container", function()
      t.needs(table.unpack(entry.needs or {}))
      local s = new_sweep(entry)
      for _, run in ipairs(sweeps) do s:run(table.unpack(run, 1, 4)) end
      t.same(s.before, s.world:picture(), "at the end")
    end)
  end
end)

describe("killat", function()
  it("kills before the call is carried out, and counts", function()
    local killat = t.helper("killat")
    for n, made in pairs({ [1] = "no", [2] = "yes" }) do
      os.remove("/run/spec/made")
      local _, status = t.sh({ killat, n, "mkdir", "/run/spec/made", "/run/spec/made2" })
      assert.equal(101, status)
      assert.equal(made == "yes" and 0 or 1,
        select(2, t.sh("test -d /run/spec/made")))
      t.sh("rm -rf /run/spec/made /run/spec/made2")
    end
  end)

  it("says so when the command ends first", function()
    local _, status = t.sh({ t.helper("killat"), 99, "true" })
    assert.equal(100, status)
  end)

  it("takes children along", function()
    local _, status = t.sh({ t.helper("killat"), 2, "sh", "-c",
      "(sleep 30; touch /run/spec/late) & mkdir /run/spec/made" })
    assert.equal(101, status)
  end)
end)
