-- SPDX-License-Identifier: MIT
-- What /etc/luacni/settings.json has calls tell: spans in a file, judged by a strict reader of OTLP JSON of its own
-- (python3), and a line for a journald that is python3's socket. Off: neither, and whatever is wrong with it: the
-- call is as it was.

local t = require "support"
local world = require "world"
local lfs = require "lfs"

local settings, folder = "/etc/luacni/settings.json", "/run/spec/traces"
local file, journal = folder .. "/spans.jsonl", "/run/systemd/journal/socket"
local conf = { type = "bridge", bridge = "br0", removeUnused = true, isGateway = true,
  ipam = { type = "host-local", subnet = "10.1.0.0/24" } }
local trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
local parent = ("00-%s-%s-01"):format(trace, caller)

-- Reads the file as the proto's JSON mapping has it, and no more: what is not in it is an error. Prints spans.
local reader = [==[
import json, re, sys

def only(value, where, required, optional=()):
    assert isinstance(value, dict), where
    assert set(required) <= set(value) <= set(required) | set(optional), (where, sorted(value))

def attributes(items, where):
    assert isinstance(items, list)
    out = {}
    for item in items:
        only(item, where, ["key", "value"])
        (kind, value), = item["value"].items()
        if kind == "intValue":
            assert isinstance(value, str) and re.fullmatch(r"-?\d+", value), (where, item)
            assert -2**63 <= int(value) < 2**63
            value = int(value)
        else:
            assert kind == "stringValue" and isinstance(value, str), (where, item)
        assert item["key"] and item["key"] not in out, (where, item)
        out[item["key"]] = value
    return out

text = open(sys.argv[1], encoding="utf-8").read()
assert text == "" or text.endswith("\n"), "a half line"
spans, ids = [], set()
for n, line in enumerate(text.splitlines()):
    top = json.loads(line)
    only(top, "top", ["resourceSpans"])
    for resource in top["resourceSpans"]:
        only(resource, "resourceSpans", ["resource", "scopeSpans"])
        only(resource["resource"], "resource", ["attributes"])
        assert attributes(resource["resource"]["attributes"], "resource")["service.name"] == "luacni"
        for scope in resource["scopeSpans"]:
            only(scope, "scopeSpans", ["scope", "spans"])
            only(scope["scope"], "scope", ["name", "version"])
            for span in scope["spans"]:
                only(span, "span", ["traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "flags"],
                     ["parentSpanId", "attributes", "status", "traceState"])
                assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and int(span["traceId"], 16)
                for key in ["spanId", "parentSpanId"]:
                    assert key not in span or re.fullmatch("[0-9a-f]{16}", span[key]) and int(span[key], 16)
                assert span["spanId"] not in ids
                ids.add(span["spanId"])
                assert span["name"] and type(span["kind"]) is int and 1 <= span["kind"] <= 5
                first, last = span["startTimeUnixNano"], span["endTimeUnixNano"]
                assert isinstance(first, str) and isinstance(last, str) and 0 < int(first) <= int(last) < 2**64
                if "status" in span:
                    only(span["status"], "status", ["code", "message"])
                    assert span["status"]["code"] == 2
                spans.append({ "line": n, "trace": span["traceId"], "id": span["spanId"],
                    "parent": span.get("parentSpanId"), "name": span["name"], "kind": span["kind"],
                    "first": int(first) / 1e9, "last": int(last) / 1e9, "state": span.get("traceState"),
                    "problem": span.get("status", {}).get("message"),
                    "attributes": attributes(span.get("attributes", []), "span") })
print(json.dumps([{ k: v for k, v in s.items() if v is not None } for s in spans]))
]==]

-- Waits for datagrams, and writes each to a file of its number: MESSAGE and the others, decoded.
local journald = [==[
import json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
open(sys.argv[2], "w").close()
while True:
    data, fields = s.recv(1 << 20), {}
    while data:
        line, data = data.split(b"\n", 1)
        if b"=" in line:
            name, value = line.split(b"=", 1)
        else:
            size, = struct.unpack("<Q", data[:8])
            name, value, end, data = line, data[8:8 + size], data[8 + size:9 + size], data[9 + size:]
            assert end == b"\n"
        assert name.decode() not in fields
        fields[name.decode()] = value.decode()
    with open(sys.argv[2], "a") as out:
        out.write(json.dumps(fields) + "\n")
]==]

local w
local function set(value) t.write(settings, type(value) == "string" and value or t.json(value)) end

local function read(path)
  t.write("/run/spec/reader.py", reader)
  return t.decode(t.run { "python3", "/run/spec/reader.py", path or file })
end

-- A span's children, and those of a name.
local function below(spans, span, name)
  local list = {}
  for _, other in ipairs(spans) do
    if other.parent == span.id and (not name or other.name == name) then list[#list + 1] = other end
  end
  return list
end

local listener
local function listen()
  t.write("/run/spec/journald.py", journald)
  t.run("mkdir -p /run/systemd/journal; rm -f " .. journal)
  listener = t.run(("python3 /run/spec/journald.py %s /run/spec/journal >/dev/null 2>&1 & echo $!"):format(journal))
  for _ = 1, 500 do
    if lfs.attributes(journal) and lfs.attributes "/run/spec/journal" then return end
    t.run "sleep 0.01"
  end
  error "nobody listens"
end

-- What has come, when there are so many.
local function heard(count)
  local list
  for _ = 1, 200 do
    list = {}
    for line in (t.read "/run/spec/journal" or ""):gmatch "[^\n]+" do list[#list + 1] = t.decode(line) end
    if #list >= count then break end
    t.run "sleep 0.01"
  end
  assert.equal(count, #list)
  return list
end

before_each(function()
  t.wipe()
  w = world.new(conf, { pods = 2, neighbours = false })
  t.run(("rm -rf %s /run/spec/journal /run/spec/bin; mkdir -p %s"):format(folder, folder))
  set { traces = file }
end)
after_each(function()
  if listener then t.run("kill " .. listener) end
  listener = nil
  t.run("rm -rf /run/systemd/journal " .. settings)
end)

describe("traces", function()
  it("have a call, its steps below it, in the caller's trace", function()
    w:add { env = { TRACEPARENT = parent, TRACESTATE = "a=1,b=2" } }
    local spans = read()
    local root = spans[1]
    t.same({ trace, caller, "ADD bridge", 2, "a=1,b=2" }, { root.trace, root.parent, root.name, root.kind, root.state })
    t.same({ ["cni.command"] = "ADD", ["cni.container_id"] = "c1", ["cni.ifname"] = "eth0", ["cni.network"] = "net",
      ["cni.netns"] = "/run/netns/pod1", ["cni.type"] = "bridge" }, root.attributes)
    local ids = { [root.id] = root }
    for _, span in ipairs(spans) do
      ids[span.id] = span
      assert.equal(trace, span.trace)
      if span ~= root then
        local around = assert(ids[span.parent], "its parent is not in the line")
        assert.is_true(around.first <= span.first and span.last <= around.last)
        assert.is_true(span.name == "send" or #span.attributes["luacni.step"] > 0)
      end
    end
    t.same({ 1, 1, 1 }, { #below(spans, root, "lease"), #below(spans, root, "link"), #below(spans, root, "shared_link") })
    assert.matches("create veth pair", below(spans, root, "link")[1].attributes["luacni.step"])
    -- What is sent together says so, and how many steps it is.
    local sends = below(spans, root, "send")
    assert.is_true(#sends > 0)
    for _, send in ipairs(sends) do
      local parts = below(spans, send)
      assert.equal(send.attributes["luacni.steps"], #parts)
      assert.is_true(#parts > 1)
      for _, part in ipairs(parts) do t.same({ send.first, send.last }, { part.first, part.last }) end
    end
    t.same({ "file", "rw-r-----" }, { lfs.attributes(file, "mode"), lfs.attributes(file, "permissions") })
  end)

  it("have the time that a step took", function()
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req)
      req:call { program = "/bin/sleep", args = { req.raw.seconds } }
      return { interfaces = { req.host:add_link { kind = "bridge", name = "own0" } } } end }]])
    for seconds, fits in pairs { ["0.4"] = function(took) return took >= 0.4 end,
      ["0"] = function(took) return took < 0.4 end } do
      w.conf = { type = "own", seconds = seconds }
      w:add { type = "luacni" }
      local spans = read()
      local root = spans[1]
      local call, link = below(spans, root, "call")[1], below(spans, root, "link")[1]
      assert.is_true(fits(call.last - call.first), call.last - call.first)
      assert.is_true(root.last - root.first >= call.last - call.first)
      -- The link is made behind it.
      assert.is_true(link.first >= call.last)
      w:del { type = "luacni" }
      os.remove(file)
    end
  end)

  it("have CHECK, DEL, GC, STATUS and VERSION too, a line each", function()
    w:add()
    w:check()
    w:call("STATUS")
    w:gc { { "c1", "eth0" } }
    w:sh("ip link set br0 down")
    w:fails("CHECK")
    w:sh("ip link set br0 up")
    w:del()
    t.cni { verb = "VERSION", type = "bridge", conf = {}, id = false, ifname = false }
    local spans, names, traces, n = read(), {}, {}, 0
    for _, span in ipairs(spans) do
      if not span.parent then
        names[span.line + 1], traces[span.trace], n = span.name, true, n + 1
        if n == 5 then assert.matches("br0", span.problem) end
      end
    end
    t.same({ "ADD bridge", "CHECK bridge", "STATUS bridge", "GC bridge", "CHECK bridge", "DEL bridge", "VERSION bridge" },
      names)
    -- Each has begun a trace of its own.
    n = 0
    for _ in pairs(traces) do n = n + 1 end
    assert.equal(7, n)
    local found = {}
    for _, span in ipairs(spans) do found[span.name] = span.problem or found[span.name] or true end
    assert.is_true(found["undo link"] and found["undo lease"])
    assert.matches("br0", found["compare shared_link"])
  end)

  it("say in a GC of several for which container each step is", function()
    w:add()
    w:add { id = "c2", pod = 2 }
    os.remove(file)
    w:gc {}
    local spans, of = read(), {}
    for _, span in ipairs(below(spans, spans[1], "undo link")) do of[#of + 1] = span.attributes["cni.container_id"] end
    table.sort(of)
    t.same({ "c1", "c2" }, of)
    assert.is_nil(spans[1].attributes["cni.container_id"])
    -- All is below the call, though links are waited for together.
    for _, span in ipairs(spans) do assert.is_true(span == spans[1] or span.parent == spans[1].id) end
  end)

  it("say which step failed, and what was taken back", function()
    w:sh("ip link add br0 type dummy || ip link add br0 type veth peer name br0x")
    local text = w:fails("ADD", { env = { TRACEPARENT = parent } }, 7).text
    local spans = read()
    local root = spans[1]
    assert.is_string(root.problem)
    assert.equal(7, root.attributes["cni.error.code"])
    assert.is_truthy(text:find(root.attributes["cni.error.msg"], 1, true))
    local failed = below(spans, root, "shared_link")[1]
    assert.equal(root.problem, failed.problem)
    assert.equal(1, #below(spans, root, "undo lease"))
    assert.is_nil(below(spans, root, "lease")[1].problem)
  end)

  it("have calls that come with mistakes", function()
    w:fails("ADD", { conf = { mtu = "x" } }, 7)
    w:fails("ADD", { conf = "{" }, 6)
    w:fails("ADD", { ifname = "not/a/name" }, 4)
    local codes = {}
    for _, span in ipairs(read()) do codes[#codes + 1] = span.attributes["cni.error.code"] end
    t.same({ 7, 6, 4 }, codes)
  end)

  for what, case in pairs {
    ["a version to come, with more behind it"] = { "01-" .. parent:sub(4) .. "-more", trace },
    ["flags that nobody knows"] = { parent:sub(1, -3) .. "f9", trace },
    ["no version"] = { "ff" .. parent:sub(3) },
    ["more behind it"] = { parent .. "-more" },
    ["a version to come, with more at it"] = { "01" .. parent:sub(3) .. "0" },
    ["upper case"] = { parent:upper() },
    ["an end that is missing"] = { parent:sub(1, -2) },
    ["a trace of zeros"] = { ("00-%s-%s-01"):format(("0"):rep(32), caller) },
    ["a span of zeros"] = { ("00-%s-%s-01"):format(trace, ("0"):rep(16)) },
    ["a state that is longer than it may be"] = { parent, trace, false, ("a"):rep(513) },
    ["a state of two lines"] = { parent, trace, false, "a=1\nb=2" },
    ["a line behind it"] = { parent .. "\n" },
    ["nothing"] = { "" },
  } do
    it((case[2] and "take a TRACEPARENT with " or "begin anew at a TRACEPARENT with ") .. what, function()
      w:call("STATUS", { env = { TRACEPARENT = case[1], TRACESTATE = case[4] or "a=1" } })
      local root = read()[1]
      if case[2] then
        local state = case[3] == nil and "a=1" or nil
        return t.same({ case[2], caller, state }, { root.trace, root.parent, root.state })
      end
      assert.not_equal(trace, root.trace)
      t.same({}, { root.parent, root.state })
    end)
  end

  it("are not written where the caller's span is not", function()
    w:add { env = { TRACEPARENT = parent:sub(1, -3) .. "00" } }
    w:del { env = { TRACEPARENT = parent:sub(1, -3) .. "02" } }
    assert.is_nil(lfs.attributes(file))
    w:add { env = { TRACEPARENT = parent:sub(1, -3) .. "03" } }
    assert.is_table(lfs.attributes(file))
  end)

  it("go on in plugins and programs that a call starts", function()
    t.write("/run/spec/bin/fake", [[
#!/bin/sh
echo "$CNI_COMMAND $TRACEPARENT $TRACESTATE" >>/run/spec/bin/log
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.3.0.2/16"}]}'
]])
    t.run(("chmod +x /run/spec/bin/fake; cp %s/luacni /run/spec/bin/; ln -s luacni /run/spec/bin/bridge"):format(t.build))
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req)
      local text = req:call { program = "/bin/sh", args = { "-c", "echo CALL $TRACEPARENT >>/run/spec/bin/log" } }
      return req:delegate "bridge" end }]])
    w.conf = { type = "own", bridge = "br0", removeUnused = true, ipam = { type = "fake" } }
    local how = { type = "luacni", path = "/run/spec/bin", env = { TRACEPARENT = parent, TRACESTATE = "a=1" } }
    w:add(how)
    w:check(how)
    w:del(how)
    local spans, by_id, told = read(), {}, {}
    for _, span in ipairs(spans) do by_id[span.id] = span end
    for verb, id in t.read("/run/spec/bin/log"):gmatch("(%u+) 00%-" .. trace .. "%-(%x+)%-01") do
      told[#told + 1] = ("%s %s %d"):format(verb, by_id[id].name, by_id[id].kind)
    end
    t.same({ "CALL call 3", "ADD delegate 3", "CHECK check delegate 3", "DEL undo delegate 3" }, told)
    assert.is_truthy(t.read("/run/spec/bin/log"):find(" a=1\n", 1, true))
    -- Where nobody records, they are told what the caller was, whatever that is.
    set { journald = true }
    os.remove "/run/spec/bin/log"
    how.env.TRACEPARENT = "odd"
    w:add(how)
    assert.is_truthy(t.read("/run/spec/bin/log"):find("ADD odd a=1\n", 1, true))
    w:del(how)
  end)

  it("hang together from one luacni to another, an IPAM plugin that a foreign type executes", function()
    t.write("/run/spec/bin/fake", [[
#!/bin/sh
exec "$CNI_PATH/host-local"
]])
    t.run(("chmod +x /run/spec/bin/fake; cp %s/luacni /run/spec/bin/; ln -s luacni /run/spec/bin/host-local")
      :format(t.build))
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req) return req:delegate("fake") end }]])
    w.conf = { type = "own", ipam = { type = "host-local", subnet = "10.1.0.0/24" } }
    w:add { type = "luacni", path = "/run/spec/bin" }
    local spans = read()
    local by_id = {}
    for _, span in ipairs(spans) do by_id[span.id] = span end
    local inner = spans[1]
    assert.equal("ADD host-local", inner.name)
    local outer = by_id[inner.parent]
    t.same({ "delegate", "ADD own" }, { outer.name, by_id[outer.parent].name })
    w:del { type = "luacni", path = "/run/spec/bin" }
  end)

  it("of the plugins of a chain hang below luacni add, as of what its gc takes back", function()
    t.write("/etc/cni/net.d/demo.conflist", t.json { cniVersion = "1.1.0", name = "demo", plugins = {
      w:config { name = false, cniVersion = false }, { type = "loopback" } } })
    local function luacni(words, env)
      return t.sh({ t.build .. "/luacni", table.unpack(words) }, { host = w.host, env = { "CNI_PATH=" .. t.bin.ours,
        "TRACEPARENT=" .. (env or parent) } })
    end
    assert.equal(0, select(2, luacni { "add", "demo", "pod2" }))
    local spans = read()
    local own
    for _, span in ipairs(spans) do
      assert.equal(trace, span.trace)
      if span.parent == caller then own = span end
    end
    assert.equal("luacni add", own.name)
    t.same({ 1, 1 }, { #below(spans, own, "ADD bridge"), #below(spans, own, "ADD loopback") })
    os.remove(file)
    -- A mistake is no call; what has failed says so.
    assert.equal(2, select(2, luacni { "add", "dmeo", "pod2" }))
    assert.is_nil(lfs.attributes(file))
    assert.equal(1, select(2, luacni { "add", "demo", "pod2" }))
    assert.matches("is already attached", read()[1].problem)
    os.remove(file)
    t.remove_netns(w.pods[2])
    assert.equal(0, select(2, luacni { "gc" }))
    spans = read()
    for _, span in ipairs(spans) do own = span.name == "luacni gc" and span or own end
    assert.equal(1, #below(spans, own, "DEL bridge"))
    -- Not sampled, there is none of all that.
    os.remove(file)
    luacni({ "status", "demo" }, parent:sub(1, -3) .. "00")
    assert.is_nil(lfs.attributes(file))
    t.run "rm -r /etc/cni/net.d"
  end)

  it("of many calls at once are whole lines", function()
    t.netns_many("q", 20)
    t.write("/run/spec/conf", t.conf_bytes(w:config()))
    local words = t.cni_words { verb = "ADD", type = "bridge", host = w.host, id = "ID", netns = "/run/netns/qID" }
    t.write("/run/spec/one", "sed_id=$1\n" .. words:gsub("ID=ID", 'ID="$1"'):gsub("qID", '"q$1"') .. " </run/spec/conf")
    t.run "seq 20 | xargs -P 20 -n 1 sh /run/spec/one"
    local seen, count = {}, 0
    for _, span in ipairs(read()) do
      if span.name == "ADD bridge" then
        seen[span.attributes["cni.container_id"]], count = true, count + 1
        assert.is_nil(span.problem)
      end
    end
    assert.equal(20, count)
    for i = 1, 20 do assert.is_true(seen[tostring(i)]) end
  end)

  it("of a call that is killed leave no half line", function()
    local killed, whole = 0, 0
    for n = 40, 400, t.stride(7) do
      os.remove(file)
      w:call("ADD", { id = "k", pod = 2, under = t.helper "killat" .. " -a -o /run/spec/report " .. n })
      local report = t.read "/run/spec/report" or ""
      if report:find "^finished" then break end
      killed = killed + 1
      if lfs.attributes(file) and #read() > 0 then whole = whole + 1 end
      w:call("DEL", { id = "k", pod = 2 })
    end
    assert.is_true(killed > 8)
    assert.is_true(whole < killed)
  end)

  it("begin a line of their own behind a half one, and leave none where the disk is full", function()
    t.write(file, '{"half')
    w:call("STATUS")
    local first, second = t.read(file):match '^({"half)\n(.*)$'
    assert.is_truthy(first)
    t.write("/run/spec/second", second)
    assert.equal("STATUS bridge", read("/run/spec/second")[1].name)
    os.remove(file)
    t.run(("mount -t tmpfs -o size=4k,mode=755 t %s"):format(folder))
    t.write(file, "")
    w:call("STATUS")
    local before = t.read(file)
    assert.equal(1, #read())
    local got = w:call("ADD")
    t.run("cp " .. file .. " /run/spec/after; umount " .. folder)
    assert.equal(0, got.rc)
    assert.matches("the spans of this call are lost: .*No space left", got.err)
    assert.equal(before, t.read "/run/spec/after")
  end)

  -- What is at the file's path, and what a call says of it.
  for what, case in pairs {
    ["a fifo that nobody reads"] = { "mkfifo FILE", "is not a file" },
    ["a fifo that somebody has, and does not read"] = { "mkfifo FILE; sleep 20 <>FILE >/dev/null 2>&1 & echo $! >/run/spec/sleeper",
      "is not a file" },
    ["a folder"] = { "mkdir FILE", "Is a directory" },
    ["a symbolic link"] = { "touch /run/spec/target; ln -s /run/spec/target FILE", "is a symbolic link" },
    ["a folder that is missing"] = { "rmdir FOLDER", "No such file or directory" },
    ["a folder that is a link"] = { "rmdir FOLDER; mkdir /run/spec/elsewhere; ln -s /run/spec/elsewhere FOLDER",
      "is a symbolic link" },
    ["a folder that others can write to"] = { "chmod 777 FOLDER", "can be written by everybody" },
    ["a folder that is not root's"] = { "chown 1000 FOLDER", "is not owned by root" },
    ["a folder that is read-only"] = { "mount -t tmpfs -o ro,mode=755 t FOLDER", "Read%-only" },
  } do
    it("that cannot be written are lost and no more: " .. what, function()
      t.run((case[1]:gsub("FILE", file):gsub("FOLDER", folder)))
      local got = w:call("ADD", { timeout = 10 })
      local content = t.read "/run/spec/target"
      t.run(("umount %s 2>/dev/null; kill $(cat /run/spec/sleeper 2>/dev/null) 2>/dev/null; rm -rf %s /run/spec/target "
        .. "/run/spec/elsewhere /run/spec/sleeper; true"):format(folder, folder))
      assert.equal(0, got.rc)
      assert.equal("10.1.0.2/24", got.json.ips[1].address)
      assert.matches("luacni: the spans of this call are lost: .*" .. case[2], got.err)
      assert.is_true(content == nil or content == "")
    end)
  end

  it("that the kernel refuses at any call are lost and no more", function()
    set { traces = file, journald = true }
    listen()
    local words, failed = "strace -qq -e trace=lseek,writev,sendto,pread64 -o /run/spec/strace", 0
    w:call("STATUS", { under = words })
    assert.is_truthy(t.read "/run/spec/strace":find("writev(", 1, true))
    for _, case in ipairs { { "writev", "EIO" }, { "writev", "EDQUOT" }, { "flock", "ENOLCK" }, { "sendto", "EAGAIN" },
      { "sendto", "EMSGSIZE" }, { "socket", "EMFILE" } } do
      local got = w:call("STATUS", { under = ("strace -qq -o /dev/null -e inject=%s:error=%s"):format(case[1], case[2]) })
      assert.equal(0, got.rc, t.json(case))
      if got.err ~= "" then failed = failed + 1 end
    end
    -- Only the writes were missed; without its lock a line is written all the same.
    t.same({ 2, 5 }, { failed, #read() })
  end)

  -- (An ADD, and what deletes one, has random numbers of its own, without which it does fail.)
  it("that have no random numbers for their names are lost and no more", function()
    set { traces = file, journald = true }
    for _, verb in ipairs { "STATUS", "VERSION" } do
      local told = {}
      for from = 1, 9 do
        w:add()
        local lines = #read()
        local got = w:call(verb, { conf = { ["cni.dev/valid-attachments"] = t.list {} },
          under = "strace -qq -o /dev/null -e inject=getrandom:error=EPERM:when=" .. from .. "+" })
        local why = "luacni: read random bytes: Operation not permitted: nobody is told of this call\n"
        told[from] = #read() - lines
        t.same({ 0, told[from] == 0 and why or "" }, { got.rc, got.err }, verb .. from)
        w:del()
      end
      t.same({ 0, 1 }, { told[1], told[9] })
    end
  end)

  it("that a command with calls cannot begin are lost and no more", function()
    t.write("/etc/cni/net.d/own.conflist", t.json { cniVersion = "1.1.0", name = "own",
      plugins = t.list { { type = "loopback" } } })
    local _, status, err = t.sh("strace -f -qq -o /dev/null -e inject=getrandom:error=EPERM " .. t.build
      .. "/luacni status own", { host = w.host, env = { "CNI_PATH=" .. t.bin.ours } })
    t.run "rm -rf /etc/cni/net.d"
    t.same({ 0, 2 }, { status, select(2, err:gsub("nobody is told of this call", "")) }, err)
    t.same({}, t.files(folder))
  end)

  it("go to a folder below one that others may write to", function()
    t.run(("chmod 1777 /run/spec; ls -d %s"):format(folder))
    local got = w:call("STATUS")
    t.run "chmod 755 /run/spec"
    t.same({ 0, "" }, { got.rc, got.err })
    assert.equal(1, #read())
  end)
end)

describe("the journal", function()
  it("is told of a call in one line, with fields", function()
    set { journald = true }
    listen()
    w:add { env = { TRACEPARENT = parent } }
    local fields = heard(1)[1]
    assert.matches("^ADD of eth0 of container c1, network net %(bridge%): done in %d+%.%d ms$", fields.MESSAGE)
    assert.matches("^%x+$", fields.MESSAGE_ID)
    assert.equal(32, #fields.MESSAGE_ID)
    assert.is_true(tonumber(fields.CNI_DURATION_USEC) > 100)
    fields.MESSAGE, fields.MESSAGE_ID, fields.CNI_DURATION_USEC = nil, nil, nil
    t.same({ PRIORITY = "6", SYSLOG_IDENTIFIER = "luacni", CNI_COMMAND = "ADD", CNI_CONTAINERID = "c1",
      CNI_IFNAME = "eth0", CNI_NETNS = "/run/netns/pod1", CNI_NETWORK = "net", CNI_TYPE = "bridge", TRACE_ID = trace },
      fields)
    assert.is_nil(lfs.attributes(file))
  end)

  it("is told what failed, whatever bytes that has, and not more than fits", function()
    set { journald = true }
    listen()
    t.write("/etc/luacni/plugins/own.lua", [[local fail = require "cni.fail"
      return { add = function(req) fail.throw { code = 123, msg = "one\nCNI_TYPE=two", details = ("x"):rep(500000) } end }]])
    w:fails("ADD", { type = "luacni", conf = { type = "own" } }, 123)
    local fields = heard(1)[1]
    t.same({ "3", "123", "one\nCNI_TYPE=two", "own" },
      { fields.PRIORITY, fields.CNI_ERROR_CODE, fields.CNI_ERROR_MSG, fields.CNI_TYPE })
    assert.matches("^ADD of eth0 .*%(own%): failed after .* ms: one | CNI_TYPE=two", fields.MESSAGE)
    t.same({ 8195, "..." }, { #fields.CNI_ERROR_DETAILS, fields.CNI_ERROR_DETAILS:sub(-3) })
  end)

  it("that does not listen, or does not read, holds no call", function()
    set { journald = true }
    local got = w:call("ADD")
    t.same({ 0, "" }, { got.rc, got.err })
    t.run "mkdir -p /run/systemd/journal"
    listener = t.run(("python3 -c 'import socket,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); "
      .. "s.bind(\"%s\"); time.sleep(60)' >/dev/null 2>&1 & echo $!"):format(journal))
    while not lfs.attributes(journal) do t.run "sleep 0.01" end
    for _ = 1, 30 do
      got = w:call("STATUS", { timeout = 5 })
      t.same({ 0, "" }, { got.rc, got.err })
    end
  end)
end)

describe("settings", function()
  it("that are not there leave no file and no datagram, and what is started is told what we were", function()
    os.remove(settings)
    listen()
    w:add { env = { TRACEPARENT = parent } }
    w:del()
    t.same({}, t.files(folder))
    heard(0)
    set {}
    w:add()
    t.same({}, t.files(folder))
    heard(0)
    t.write("/run/spec/bin/fake", [[
#!/bin/sh
echo "$TRACEPARENT $BAGGAGE" >>/run/spec/bin/told
[ $CNI_COMMAND != ADD ] || echo '{"cniVersion":"1.1.0","ips":[{"address":"10.3.0.2/16"}]}'
]])
    t.run "chmod +x /run/spec/bin/fake"
    t.write("/etc/luacni/plugins/own.lua", [[return { add = function(req) return req:delegate "fake" end }]])
    w.conf = { type = "own" }
    for _, id in ipairs { "c2", "c3" } do
      w:add { id = id, pod = 2, type = "luacni", path = "/run/spec/bin",
        env = { TRACEPARENT = parent, BAGGAGE = "of=them" } }
      os.remove(settings)
    end
    assert.equal((parent .. " of=them\n"):rep(2), t.read "/run/spec/bin/told")
    t.same({}, t.files(folder))
  end)

  it("are looked for once, and nothing else is done for them", function()
    os.remove(settings)
    local _, _, said = t.sh("command -v strace")
    assert.equal("", said)
    w:call("STATUS", { under = "strace -o /run/spec/strace" })
    local lines = {}
    for line in t.read "/run/spec/strace":gmatch "[^\n]*settings[^\n]*" do lines[#lines + 1] = line end
    assert.equal(1, #lines)
    assert.matches("ENOENT", lines[1])
    assert.is_nil(t.read "/run/spec/strace":find("AF_UNIX", 1, true))
  end)

  -- What is wrong with them, and what a call and the doctor say.
  for what, case in pairs {
    ["a key that is none"] = { '{"trace":"/x"}', "unknown key 'trace' %(did you mean 'traces'%?%)" },
    ["a value of another kind"] = { '{"journald":"true"}', 'journald: "true" is not true or false' },
    ["a path that is none"] = { '{"traces":"spans"}', 'traces: "spans" is not the absolute path of a file' },
    ["no object"] = { "[]", "not an object" },
    ["no JSON"] = { '{"traces":', "cannot decode it: .* end of the text" },
    ["too much"] = { (" "):rep(9000), "File too large" },
    ["what others can write"] = { "{}", "can be written by everybody", "chmod 666 " .. settings },
    ["a link that is not root's"] = { "{}", "is a symbolic link that is not root's",
      ("mv %s /run/spec/s; ln -s /run/spec/s %s; chown -h 1 %s"):format(settings, settings, settings) },
    ["a link to what others can write"] = { "{}", "can be written by everybody",
      ("mv %s /run/spec/s; chmod 666 /run/spec/s; ln -s /run/spec/s %s"):format(settings, settings) },
  } do
    it("hold no call when they have " .. what, function()
      set(case[1])
      if case[3] then t.run(case[3]) end
      local got = w:call("ADD")
      assert.equal(0, got.rc)
      assert.matches("^luacni: /etc/luacni/settings.json: .*" .. case[2] .. ".*: nobody is told of this call\n$", got.err)
      w:del()
      t.same({}, t.files(folder))
      local list = t.decode((t.sh { t.build .. "/luacni", "doctor", "--json" }))
      local found = {}
      for _, item in ipairs(list) do
        if item.check == "settings" then found[#found + 1] = item end
      end
      t.same({ 1, "error" }, { #found, found[1].level })
      assert.matches(case[2], found[1].text)
    end)
  end

  it("are looked at by doctor, which makes no file", function()
    local function told()
      for _, item in ipairs(t.decode((t.sh { t.build .. "/luacni", "doctor", "--json" }))) do
        if item.check == "settings" then return item end
      end
    end
    assert.equal("ok", told().level)
    t.same({}, t.files(folder))
    t.run("rmdir " .. folder)
    local item = told()
    t.same({ "error", "mkdir -p " .. folder }, { item.level, item.mend })
    t.run(item.mend)
    assert.equal("ok", told().level)
    t.run("mkfifo " .. file)
    assert.matches("is not a file", told().text)
    set { journald = true }
    item = told()
    assert.equal("warning", item.level)
    assert.matches("journal/socket is not there", item.text)
    os.remove(settings)
    assert.equal("there is no /etc/luacni/settings.json", told().text)
    assert.matches("\ntraces +string", t.run { t.build .. "/luacni", "doc", "settings" })
  end)
end)
