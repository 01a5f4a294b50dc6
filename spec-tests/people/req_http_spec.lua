-- SPDX-License-Identifier: MIT
-- req:http: a script asks a service. The service is python3's http.server, on a unix socket and on TCP in the
-- host's namespace; what it gives is files, what it was asked a log.

local lfs = require "lfs"
local t = require "support"
local world = require "world"

local folder = "/run/spec/service"
local socket = folder .. "/sock"

local service = [==[
import http.server, json, os, socket, socketserver, sys, threading, time
root = sys.argv[1]
os.makedirs(root + "/given", exist_ok=True)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return "-"
    def log_message(self, *args): pass
    def say(self, status, body=b"", kind=None, headers=()):
        self.send_response(status)
        if kind: self.send_header("Content-Type", kind)
        for name, value in headers: self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(root + "/log", "a") as log:
            log.write(json.dumps({ "method": self.command, "path": self.path, "body": body.decode(),
                "headers": { k.lower(): v for k, v in self.headers.items() } }) + "\n")
        path, what = self.path, self.path.split("/")[1]
        if what == "addresses":
            if self.command == "POST":
                n = len(os.listdir(root + "/given")) + 1
                open(root + "/given/%d" % n, "w").write(json.loads(body)["owner"])
                return self.say(201, json.dumps({ "id": "a b/%d" % n, "address": "10.5.0.%d/24" % n }).encode(),
                    "application/json; charset=utf-8", [("X-Twice", "1"), ("X-Twice", "2")])
            file = root + "/given/" + path.rsplit("%2F", 1)[-1]
            if not path.startswith("/addresses/a%20b%2F"): return self.say(400, b"no such id")
            if not os.path.exists(file): return self.say(404, b"nothing of that id")
            if self.command == "DELETE": os.remove(file)
            return self.say(204)
        if what == "status": return self.say(int(path.split("/")[2]), b"because\n")
        if what == "early":
            self.send_response_only(103)
            self.send_header("Link", "x"); self.end_headers()
            return self.say(200, b"late", "text/plain")
        if what == "problem": return self.say(200, b'{"a":[1,null]}', "Application/Problem+JSON")
        if what == "odd": return self.say(200, b"{", "application/json")
        if what == "bytes": return self.say(200, b"\xff\x00\r\n\r\n\xfe")
        if what == "big": return self.say(200, b"x" * int(path.split("/")[2]))
        if what == "away": return self.say(302, b"", None, [("Location", "/status/200")])
        if what == "slow":
            time.sleep(20)
            return
        if what == "rude":
            self.wfile.write(b"hello\n"); self.close_connection = True
            return
        self.say(200, path.encode())
    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = do_HEAD = any
    def do_HEAD(self): self.say(200, b"", None, [("X-Head", "yes")])

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer): daemon_threads = True
class Tcp(socketserver.ThreadingMixIn, http.server.HTTPServer): daemon_threads = True
unix, tcp = Unix(root + "/sock", Handler), Tcp(("127.0.0.1", 8099), Handler)
threading.Thread(target=unix.serve_forever, daemon=True).start()
open(root + "/ready", "w").close()
tcp.serve_forever()
]==]

local pid

local function serve(w)
  t.write("/run/spec/service.py", service)
  pid = t.run(("mkdir -p %s; python3 /run/spec/service.py %s >/dev/null 2>&1 & echo $!"):format(folder, folder),
    { host = w.host })
  for _ = 1, 500 do
    if lfs.attributes(folder .. "/ready") then return end
    t.run "sleep 0.01"
  end
  error "the service does not start"
end

-- A site's script of a type, and a world whose network is of it.
local function new(body, more, opts)
  t.run("rm -rf " .. folder)
  t.write("/etc/luacni/plugins/own.lua", ([[
local json = require "cni.json"
return { add = function(req) %s end }
]]):format(body))
  local w = world.new(t.merge({ type = "own" }, more or {}), opts or { neighbours = false })
  serve(w)
  return w
end

local function with(c)
  c = c or {}
  c.type = "luacni"
  return c
end

local function asked()
  local list = {}
  for line in (t.read(folder .. "/log") or ""):gmatch "[^\n]+" do list[#list + 1] = t.decode(line) end
  return list
end

local function given() return (t.sh("ls " .. folder .. "/given")) end

before_each(function() t.wipe() end)
after_each(function()
  if pid then t.run("kill " .. pid) end
  pid = nil
  t.run("rm -rf " .. folder)
end)

local lease = ([[
  local lease = req:http { socket = "SOCKET", url = "/addresses", json = { owner = req.container_id },
    headers = { Authorization = "Bearer secret" }, undo = { url = "/addresses/{id}" },
    check = { url = "/addresses/{id}" } }
  return { ips = lease and { { address = lease.json.address } } or {} }
]]):gsub("SOCKET", socket)

describe("req:http", function()
  it("gives what a service on a socket answers; CHECK asks; DEL takes it back, by what was answered", function()
    local w = new(lease, nil, { pods = 2, neighbours = false })
    local before = w:picture()
    t.same({ { address = "10.5.0.1/24" } }, w:add(with()).ips)
    t.same({ { address = "10.5.0.2/24" } }, w:add(with { id = "c2", pod = 2 }).ips)
    w:check(with())
    t.run("mv " .. folder .. "/given/1 " .. folder .. "/away")
    assert.matches("GET http://localhost/addresses/{id} at .*sock: the service answers with status 404",
      w:fails("CHECK", with()).text)
    t.run("mv " .. folder .. "/away " .. folder .. "/given/1")
    w:del(with())
    assert.equal("2\n", given())
    w:del(with { id = "c2", pod = 2 })
    assert.equal("", given())
    t.same(before, w:picture())
    local log = asked()
    t.same({ "POST", "/addresses", '{"owner":"c1"}', "application/json", "Bearer secret" }, { log[1].method, log[1].path,
      log[1].body, log[1].headers["content-type"], log[1].headers.authorization })
    local last = log[#log]
    t.same({ "DELETE", "/addresses/a%20b%2F2", "", "Bearer secret" }, { last.method, last.path, last.body,
      last.headers.authorization })
    assert.is_nil(last.headers["content-type"])
  end)

  it("is taken back when the script fails later, by GC, and what is taken back twice is content", function()
    local w = new((lease:gsub("return", 'if req.raw.fails then error "no more" end return')))
    local before = w:picture()
    assert.matches("no more", w:fails("ADD", with { conf = { fails = true } }).text)
    assert.equal("", given())
    w:add(with())
    w:gc({}, { type = "luacni" })
    assert.equal("", given())
    w:add(with())
    t.run("rm " .. folder .. "/given/*")
    w:del(with())
    t.same(before, w:picture())
    -- A service that is away keeps the DEL for later; without a program there would be no end of that.
    w:add(with())
    t.run("mv " .. socket .. " " .. socket .. ".away")
    assert.matches("DELETE http://localhost/addresses/{id} at .*: there is no such socket", w:fails("DEL", with()).text)
    t.run("mv " .. socket .. ".away " .. socket)
    w:del(with())
    assert.equal("", given())
    t.same(before, w:picture())
  end)

  it("asks nobody in a DEL without a record when only the answer would say for what, and says so", function()
    local w = new(lease)
    w:add(with())
    w:lose_records()
    local got = w:call("DEL", with())
    assert.equal(0, got.rc)
    assert.matches("DEL goes without DELETE .*: no answer of the service is known", got.err)
    assert.equal(1, #asked())
  end)

  it("asks in a DEL without a record for what the script itself has a name for", function()
    local own = new(([[ req:http { method = "PUT", socket = "%s", url = "/of/" .. req.container_id, undo = {} } ]])
      :format(socket))
    own:add(with())
    own:lose_records()
    own:del(with())
    local log = asked()
    t.same({ "PUT /of/c1", "DELETE /of/c1" }, { log[1].method .. " " .. log[1].path, log[2].method .. " " .. log[2].path })
    assert.equal("0", log[1].headers["content-length"])
  end)

  it("leaves nothing when an ADD is killed, where the service knows the attachment by name", function()
    local w = new(([[ req:http { method = "PUT", socket = "%s", url = "/of/" .. req.container_id, undo = {} } ]])
      :format(socket))
    local before, n = w:picture(), 1
    while true do
      os.remove(folder .. "/log")
      local call = with { under = ("%s -o /run/spec/report %d"):format(t.helper "killat", n) }
      w:call("ADD", call)
      local killed = t.read "/run/spec/report":find "^killed" ~= nil
      w:del(with())
      local log = asked()
      -- Whatever was asked last is the undo.
      assert.is_true(#log == 0 or log[#log].method == "DELETE", ("change %d"):format(n))
      t.same(before, w:picture())
      if not killed then break end
      n = n + 1
    end
    assert.is_true(n > 5)
  end)

  it("reads status, headers and body, by TCP too", function()
    local w = new([[
      local function get(path, more)
        local what = { url = "http://127.0.0.1:8099" .. path }
        for key, value in pairs(more or {}) do what[key] = value end
        return req:http(what)
      end
      local early, problem, bytes = get "/early", get "/problem", get "/bytes"
      local head, missing = get("/x", { method = "HEAD" }), get("/status/404", { accept = { 404 } })
      local first = get("/addresses", { json = { owner = "x" } })
      return { dns = { search = { early.status .. early.body .. tostring(early.json), json.compact(problem.json),
        ("%d %d %d"):format(#bytes.body, bytes.body:byte(1), bytes.body:byte(7)),
        head.status .. head.headers["x-head"] .. head.body, missing.status .. missing.body,
        first.status .. first.headers["x-twice"] } } }
    ]])
    local want = { "200latenil", '{"a":[1,null]}', "7 255 254", "200yes", "404because\n", "2011, 2" }
    t.same(want, w:add(with()).dns.search)
    -- CHECK is given the same, and asks nothing.
    local count = #asked()
    w:check(with())
    assert.equal(count, #asked())
  end)

  it("sends what it is given, byte by byte, and shows nothing of it on a command line", function()
    local w = new((([[
      local s = "SOCKET"
      req:http { socket = s, url = "/a", body = 'x"\\y\n\t\r@z\v' }
      req:http { socket = s, url = "http://name/a?b=[1-3]&c=%7B", method = "PATCH", body = "@/etc/passwd",
        headers = { ["content-type"] = "a/b", Empty = "", Quoted = 'a "b" \\c', Host = "other" } }
      req:http { socket = s, url = "/b", json = json.list {}, headers = { ["content-type"] = "a/b" } }
      req:http { socket = s, url = "/c", body = ("y"):rep(300000) }
      req:http { socket = s, url = "http://user:pass@name/d" }
    ]]):gsub("SOCKET", socket)))
    w:add(with { under = "strace -f -qq -s 4096 -e trace=execve -o /run/spec/strace" })
    local log = asked()
    local function sent(n) return log[n].method .. " " .. log[n].path .. " " .. log[n].body end
    assert.equal('POST /a x"\\y\n\t\r@z\v', sent(1))
    assert.is_nil(log[1].headers["content-type"])
    assert.equal("PATCH /a?b=[1-3]&c=%7B @/etc/passwd", sent(2))
    t.same({ "a/b", "", 'a "b" \\c', "other" }, { log[2].headers["content-type"], log[2].headers.empty,
      log[2].headers.quoted, log[2].headers.host })
    t.same({ "POST /b []", "a/b" }, { sent(3), log[3].headers["content-type"] })
    assert.equal(300000, #log[4].body)
    assert.is_nil(log[4].headers.expect)
    assert.matches("^Basic ", log[5].headers.authorization)
    local lines = t.read "/run/spec/strace"
    assert.matches('"/usr/bin/curl", "%-q", "%-%-config", "%-"%]', lines)
    assert.is_nil(lines:find("pass", 1, true))
    -- Nor in what is said of it.
    assert.is_nil(t.run { t.build .. "/luacni", "explain" }:find("pass", 1, true))
    assert.matches("request GET http://name/d at ", (t.run { t.build .. "/luacni", "explain" }))
    w:del(with())
  end)

  it("tells the service of the trace that the call belongs to", function()
    t.write("/etc/luacni/settings.json", '{"traces":"/run/spec/spans.jsonl"}')
    local w = new(([[ req:http { socket = "%s", url = "/a" } ]]):format(socket))
    w:add(with { env = { TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } })
    local span = asked()[1].headers.traceparent:match "^00%-0af7651916cd43dd8448eb211c80319c%-(%x+)%-01$"
    assert.is_truthy(t.read "/run/spec/spans.jsonl":find('"spanId":"' .. span, 1, true))
    os.remove "/etc/luacni/settings.json"
    os.remove "/run/spec/spans.jsonl"
    w:del(with())
    w:add(with())
    assert.is_nil(asked()[2].headers.traceparent)
    w:del(with())
  end)

  it("asks from the sandbox when it is told, and nobody in a dry run", function()
    local w = new([[ req:http { url = "http://127.0.0.1:8099/a", ns = req.pod } ]])
    w:in_pod("ip link set lo up")
    assert.matches("GET http://127.0.0.1:8099/a: Failed to connect", w:fails("ADD", with()).text)
    assert.equal(0, #asked())
    t.write("/run/spec/dry.conflist", t.json { cniVersion = "1.1.0", name = "net", plugins = t.list { { type = "own" } } })
    local said = t.run({ t.build .. "/luacni", "run", "/run/spec/dry.conflist", "--dry-run" }, { host = w.host })
    assert.matches("request GET http://127.0.0.1:8099/a\n", said)
    assert.equal(0, #asked())
  end)

  -- What is asked, what the error says, its code; everything is as before then.
  for what, case in pairs {
    ["a status that is not 2xx"] = { "/status/409", "GET http://localhost/status/409 at .*: the service answers "
      .. "with status 409.*because", 999 },
    ["a service that is busy"] = { "/status/503", "status 503", 11 },
    ["a redirection"] = { "/away", "status 302", 999 },
    ["an answer that is too long"] = { "/big/70000", "/big/70000 at .*: it says more than 64 KiB", 999 },
    ["a service that is slow"] = { "/slow", "/slow at .* did not end within 0%.6 seconds", 11 },
    ["what is no HTTP"] = { "/rude", "GET http://localhost/rude at ", 999 },
    ["JSON that is none"] = { "/odd",
      "GET http://localhost/odd at .*: cannot decode what the service answered: .*line 1, column 2", 999 },
  } do
    it("fails on " .. what, function()
      local w = new(([[ req:http { socket = "%s", url = "%s", timeout = 0.6 } ]]):format(socket, case[1]))
      local before = w:picture()
      assert.matches(case[2], w:fails("ADD", with(), case[3]).text)
      t.same(before, w:picture())
    end)
  end

  it("fails when a later request could not be made of the answer, and when there is no curl", function()
    local w = new(([[ req:http { socket = "%s", url = "/problem", undo = { url = "/x/{id}" } } ]]):format(socket))
    local before = w:picture()
    assert.matches("DELETE http://localhost/x/{id} at .*: what the service answered has no id",
      w:fails("ADD", with()).text)
    t.same(before, w:picture())
    for key, what in pairs { undo = "DELETE", check = "GET" } do
      t.write("/etc/luacni/plugins/own.lua", ([[ return { add = function(req)
        req:http { socket = "%s", url = "/odd", %s = { url = "/x/{id}" } } end } ]]):format(socket, key))
      assert.matches(what .. " http://localhost/x/{id} at .*: cannot decode what the service answered: .*column 2",
        w:fails("ADD", with()).text)
      t.same(before, w:picture())
    end
  end)

  it("names a socket that takes no connection, and says what is there", function()
    local w = new(([[ req:http { socket = "%s/" .. req.conf.at, url = "/status/200" } ]]):format(folder))
    t.write(folder .. "/file", "")
    t.run { "python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])", folder .. "/dead" }
    local before = w:picture()
    for at, says in pairs { none = "there is no such socket", file = folder .. "/file is no socket",
      dead = "the socket is there, but takes no connection: is the service running?", sock = false } do
      local text = says and w:fails("ADD", with { conf = { at = at } }, 999).text
      if says then
        assert.truthy(text:find(("GET http://localhost/status/200 at %s/%s: %s"):format(folder, at, says), 1, true), text)
      else
        w:add(with { conf = { at = at } })
        w:del(with { conf = { at = at } })
      end
      t.same(before, w:picture())
    end
  end)

  it("says what is missing when there is no curl; what was asked for with it holds no DEL", function()
    local w = new(([[ req:http { socket = "%s", url = "/x", undo = {} } ]]):format(socket))
    local before = w:picture()
    w:add(with())
    -- The folders in which it is looked for, without it.
    t.run "cd /run/spec; mkdir real less; mount --bind /usr/bin real; cp -rs /run/spec/real/. less; rm less/curl"
    local without = "sh -c 'mount --bind /run/spec/less /usr/bin; exec \"$@\"' sh"
    local got = w:call("DEL", with { under = "unshare -m " .. without })
    assert.equal(0, got.rc)
    assert.matches("DEL goes without req:http needs the program curl, which is in none of .*apt%-get install curl", got.err)
    t.same(before, w:picture())
    got = w:call("ADD", with { under = "unshare -m " .. without })
    t.run "umount /run/spec/real; rm -r /run/spec/less /run/spec/real"
    assert.equal(1, got.rc)
    assert.matches("req:http needs the program curl", got.json.msg)
    assert.equal("apt-get install curl", got.json.details)
    t.same(before, w:picture())
  end)

  for what, case in pairs {
    ["no address"] = { "method = 'GET'", "req:http: url: is missing" },
    ["a key that there is not, naming the nearest"] = { "url = 'http://x/', header = {}",
      "req:http: unknown key 'header' %(did you mean 'headers'%?%)" },
    ["an address of another kind"] = { "url = 'file:///etc/passwd'", "req:http: url: expected an address" },
    ["an address with a blank"] = { "url = 'http://x/a b'", "req:http: url: an address has" },
    ["an address with another line"] = { "url = 'http://x/\\noutput = \"/etc/passwd\"'", "req:http: url: an address has" },
    ["an address without a host and no socket"] = { "url = '/x'", "req:http: url: an address without a host" },
    ["a member of an answer to come"] = { "url = 'http://x/{id}'", "req:http: url: {KEY} is of the answer" },
    ["a path that is none as a socket"] = { "url = '/x', socket = 'sock'", "req:http: socket: expected the absolute path" },
    ["a method in small letters"] = { "url = 'http://x/', method = 'get'", "req:http: method: expected a method" },
    ["a header of two lines"] = { "url = 'http://x/', headers = { A = 'b\\nC: d' }", "req:http: headers.A: expected a text" },
    ["the name of a header that is none"] = { "url = 'http://x/', headers = { ['@/etc/passwd'] = 'b' }",
      "is not the name of a header" },
    ["a list of headers"] = { "url = 'http://x/', headers = { 'A: b' }", "req:http: headers: expected a table" },
    ["a body twice"] = { "url = 'http://x/', body = 'a', json = {}", "req:http: json: either this or body" },
    ["a zero byte"] = { "url = 'http://x/', body = '\\0'", "req:http: body: a zero byte" },
    ["what JSON has no word for"] = { "url = 'http://x/', json = { f = print }", "req:http: json: " },
    ["a status that is none"] = { "url = 'http://x/', accept = { 42 }", "req:http: accept%[1%]: " },
    ["an undo of an undo"] = { "url = 'http://x/', undo = { undo = {} }", "req:http: undo: unknown key 'undo'" },
    ["an undo that is wrong"] = { "url = 'http://x/', undo = { method = 1 }", "req:http: undo.method: " },
  } do
    it("refuses " .. what, function()
      t.write("/etc/luacni/plugins/own.lua", ("return { add = function(req)\n req:http { %s } end }"):format(case[1]))
      local w = world.new({ type = "own" }, { neighbours = false })
      local before = w:picture()
      assert.matches("own.lua:2: " .. case[2]:gsub("^([^r])", ".*%1"), w:fails("ADD", with()).text)
      t.same(before, w:picture())
    end)
  end
end)
