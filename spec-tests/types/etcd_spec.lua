-- SPDX-License-Identifier: MIT
-- cni.pool.etcd: a client of etcd, beside etcdctl; clusters with dead and silent members, certificates and users;
-- and servers that are none.

local etcd = require "cni.pool.etcd"
local etcd_world = require "etcd_world"
local fail = require "cni.fail"
local t = require "support"

local again <const> = fail.codes.again
local servers = {}

after_each(function()
  etcd_world.stop_all()
  for pid in pairs(servers) do
    t.sh(("kill -KILL -%s; while kill -0 -%s 2>&-; do sleep 0.02; done"):format(pid, pid))
    servers[pid] = nil
  end
end)

-- The error of a call, and how long that took.
local function refused(fn, ...)
  local clock = require("netlink").sys.clock
  local began = clock()
  local ok, err = pcall(fn, ...)
  assert(not ok, "nothing is wrong")
  assert(fail.is(err), tostring(err))
  return err, clock() - began
end

local function holds(err, ...)
  for _, text in ipairs { ... } do
    assert(tostring(err):find(text, 1, true), ("%q is not in: %s"):format(text, tostring(err)))
  end
end

local function lacks(err, ...)
  for _, text in ipairs { ... } do
    assert(not tostring(err):find(text, 1, true), ("%q is in: %s"):format(text, tostring(err)))
  end
end

local function put(client, key, value) return client:txn { success = { etcd.put(key, value) } } end

local odd = { "\0", "\0\xff", "a\nb", "\xff\xff\xff", "a b\"\\'$", "\xc3\xa4", ("k"):rep(2000) }

describe("a client of etcd", function()
  it("puts, gets and deletes in a transaction, which others see", function()
    local c = etcd_world.new()
    local client = c:client()
    assert.is_nil(client:get "/a")
    local count = c:count()
    local answer = client:txn { success = { etcd.put("/a", "1"), etcd.put("/b", ""), etcd.get "/a", etcd.get "/no",
      etcd.delete "/no" } }
    t.same({ succeeded = true, true, true, { { key = "/a", value = "1" }, count = 1, more = false },
      { count = 0, more = false }, 0, retried = false }, answer)
    assert.equal(1, count())
    t.same({ ["/a"] = "1", ["/b"] = "" }, c:keys())
    t.same({ 1, succeeded = true, retried = false }, client:txn { success = { etcd.delete "/b" } })
    t.same({ ["/a"] = "1" }, c:keys())
    assert.equal("1", client:get "/a")
    assert.equal(4, client.requests)
    assert.equal(c.endpoints[1], client.endpoint)
    c:ctl "e put /a 2"
    assert.equal("2", client:get "/a")
    t.same({ succeeded = true, retried = false }, client:txn {})
  end)

  it("compares", function()
    local c = etcd_world.new()
    local client = c:client()
    put(client, "/a", "1")
    put(client, "/empty", "")
    local function is(...)
      local answer = client:txn { compare = { ... }, success = { etcd.put("/seen", "yes") },
        failure = { etcd.get "/a", etcd.get "/no" } }
      if not answer.succeeded then
        assert.equal("1", answer[1][1].value)
        assert.equal(0, #answer[2])
        assert.is_nil(client:get "/seen")
      else
        t.same({ true, succeeded = true, retried = false }, answer)
        client:txn { success = { etcd.delete "/seen" } }
      end
      return answer.succeeded
    end
    for _, case in ipairs {
      { true, etcd.is("/a", "1") }, { false, etcd.is("/a", "2") }, { false, etcd.is("/a", "") },
      { false, etcd.is("/no", "1") }, { false, etcd.is("/no", "") }, { true, etcd.is("/empty", "") },
      { true, etcd.absent "/no" }, { false, etcd.absent "/a" }, { false, etcd.absent "/empty" },
      { true, etcd.present "/a" }, { true, etcd.present "/empty" }, { false, etcd.present "/no" },
      { true, etcd.present "/a", etcd.absent "/no" }, { false, etcd.present "/a", etcd.absent "/a" },
    } do
      assert.equal(case[1], is(table.unpack(case, 2)), t.json(case[2].request))
    end
  end)

  it("carries out transactions in transactions", function()
    local c = etcd_world.new()
    local client = c:client()
    put(client, "/a", "1")
    local function nested(value)
      return client:txn {
        compare = { etcd.present "/a" },
        success = { etcd.txn { compare = { etcd.is("/a", value) }, success = { etcd.put("/b", "x"), etcd.txn {} },
          failure = { etcd.get "/a", etcd.list "/" } }, etcd.get "/a" },
      }
    end
    t.same({ succeeded = true, retried = false, { succeeded = false, { { key = "/a", value = "1" }, count = 1, more = false },
      { { key = "/a", value = "1" }, count = 1, more = false } }, { { key = "/a", value = "1" }, count = 1, more = false } },
      nested "2")
    t.same({ ["/a"] = "1" }, c:keys())
    assert.equal(true, nested("1")[1][1])
    t.same({ ["/a"] = "1", ["/b"] = "x" }, c:keys())
    assert.is_false(client:txn({ compare = { etcd.absent "/a" }, success = { etcd.txn {} } }).succeeded)
  end)

  it("takes any bytes for a key and a value", function()
    local c = etcd_world.new()
    local client = c:client()
    local want = {}
    for i, key in ipairs(odd) do
      want[key] = odd[#odd - i + 1]
      put(client, key, want[key])
    end
    t.same(want, c:keys())
    for key, value in pairs(want) do
      assert.equal(value, client:get(key))
      local answer = client:txn { compare = { etcd.is(key, value), etcd.present(key) }, success = { etcd.list(key) } }
      assert.equal(value, answer[1][1].value)
    end
    local all = {}
    for _, entry in ipairs(client:list "") do all[entry.key] = entry.value end
    t.same(want, all)
    t.same({ { key = "\xff\xff\xff", value = want["\xff\xff\xff"] } }, client:list "\xff")
    holds(refused(client.get, client, ""), "etcd: get", "key is not provided")
  end)

  it("sends and gets a megabyte, and is told when it is too much", function()
    local c = etcd_world.new()
    local client = c:client()
    local big = ("\0\xffluacni "):rep(1 << 20):sub(1, 1000 << 10)
    put(client, "/big", big)
    assert.equal(big, client:get "/big")
    local err = refused(put, client, "/big", big .. big)
    holds(err, "etcd: txn: request is too large")
    assert.is_false(err.unknown)
    assert.equal(999, err.code)
    local ops = {}
    for i = 1, 200 do ops[i] = etcd.get(tostring(i)) end
    holds(refused(client.txn, client, { success = ops }), "too many operations in txn request")
    holds(refused(client.txn, client, { success = { etcd.put("a", "1"), etcd.put("a", "2") } }), "duplicate key")
  end)

  it("lists, all of it or in parts", function()
    local c = etcd_world.new()
    local client = c:client()
    for first = 0, 2400, 100 do
      local ops = {}
      for i = 1, 100 do ops[i] = etcd.put(("/p/%05d"):format(first + i), tostring(first + i)) end
      client:txn { success = ops }
    end
    client:txn { success = { etcd.put("/o", "before"), etcd.put("/p0", "behind"), etcd.put("/p", "itself") } }
    local requests = client.requests
    local all = client:list "/p/"
    assert.equal(2500, #all)
    for i, entry in ipairs(all) do t.same({ key = ("/p/%05d"):format(i), value = tostring(i) }, entry) end
    assert.equal(requests + 3, client.requests)
    local keys = client:list("/p/", { keys_only = true, after = "/p/00010", limit = 1500 })
    assert.equal(1500, #keys)
    t.same({ key = "/p/00011" }, keys[1])
    t.same({ key = "/p/01510" }, keys[1500])
    assert.equal(requests + 5, client.requests)
    t.same({}, client:list "/q")
    t.same({}, client:list("/p/", { after = "/p/99999" }))
    assert.equal(2503, #client:list "")
    local answer = client:txn { success = { etcd.list("/p/", { limit = 2, keys_only = true }),
      etcd.list("/p/", { limit = 2, after = "/p/02499" }), etcd.list("/p/", { limit = 1, after = "/a" }) } }
    t.same({ { key = "/p/00001" }, { key = "/p/00002" }, more = true, count = 2500 }, answer[1])
    t.same({ { key = "/p/02500", value = "2500" }, more = false, count = 1 }, answer[2])
    t.same({ { key = "/p/00001", value = "1" }, more = true, count = 2500 }, answer[3])
  end)

  it("shows no secret in the list of processes, and heeds no file or proxy of whoever calls", function()
    local c = etcd_world.new { user = "app", password = "se cret\"\\", prefix = "/" }
    local log = "/run/spec/commands"
    t.write("/run/spec/curl", "#!/bin/sh\ntr '\\0' ' ' </proc/$$/cmdline >>" .. log .. "\nenv >>" .. log
      .. "\nexec /usr/bin/curl \"$@\"\n")
    t.run "chmod +x /run/spec/curl"
    local client = c:client()
    client.curl = "/run/spec/curl"
    put(client, "/name", "value")
    local seen = t.read(log)
    assert(seen:find("-q --config -", 1, true), seen)
    lacks(seen, "cret", "name", "token", "Authorization", "proxy")
    t.run("rm " .. log .. " /run/spec/curl")
  end)

  it("says what is wrong with its options", function()
    for name, opts in pairs {
      ["endpoints: a list"] = {}, ["endpoints[1]: an address"] = { endpoints = { "10.0.0.1:2379" } },
      ["endpoints[2]: an address"] = { endpoints = { "http://a:1", "http://b:1/v3" } },
      ["endpoints[1]"] = { endpoints = { "http://me:secret@a:1" } },
      ["password: the user has none"] = { endpoints = { "http://a:1" }, user = "me" },
      ["password: it is not UTF-8"] = { endpoints = { "http://a:1" }, user = "me", password = "\xff" },
      ["ca: a path"] = { endpoints = { "http://a:1" }, ca = "a\nb" },
      ["timeout: seconds"] = { endpoints = { "http://a:1" }, timeout = 0 },
    } do
      local err = refused(etcd.new, opts)
      holds(err, name)
      assert.equal(fail.codes.config, err.code)
    end
  end)
end)

describe("a cluster", function()
  it("of three is served by the next when one is dead", function()
    local c = etcd_world.new { members = 3 }
    local client = c:client()
    put(client, "/a", "1")
    assert.equal(c.endpoints[1], client.endpoint)
    c:stop(1)
    local answer = put(client, "/a", "2")
    assert.is_false(answer.retried)
    assert.equal(c.endpoints[2], client.endpoint)
    assert.equal("2", client:get "/a")
    local requests = client.requests
    client:get "/a"
    assert.equal(requests + 1, client.requests)
    c:start(1)
    local other = c:client { prefer = c.endpoints[3] .. "/" }
    assert.equal("2", other:get "/a")
    assert.equal(c.endpoints[3], other.endpoint)
    local third = c:client { prefer = "http://127.0.0.1:1" }
    assert.equal("2", third:get "/a")
    assert.equal(c.endpoints[1], third.endpoint)
  end)

  it("of three is served by the next when one stands still; what it was sent it may do later", function()
    local c = etcd_world.new { members = 3 }
    local client = c:client()
    local function take(who)
      return client:txn { compare = { etcd.absent "/a" }, success = { etcd.put("/a", who) },
        failure = { etcd.get "/a" } }
    end
    c:pause(1)
    local answer = take "me"
    assert.is_true(answer.retried)
    -- The second may have done it and been too slow to say so, while a leader was chosen.
    if not answer.succeeded then assert.equal("me", answer[1][1].value) end
    local endpoint = client.endpoint
    assert.not_equal(c.endpoints[1], endpoint)
    answer = take "you"
    assert.is_false(answer.succeeded)
    assert.is_false(answer.retried)
    c:resume(1)
    t.sh "sleep 0.3"
    t.same({ ["/a"] = "me" }, c:keys())
    assert.equal(endpoint, client.endpoint)
  end)

  it("without a quorum is told of within the time, and works when it is back", function()
    local c = etcd_world.new { members = 3 }
    local client = c:client { timeout = 2 }
    put(client, "/a", "1")
    c:stop(1)
    c:stop(2)
    local err, seconds = refused(put, client, "/a", "2")
    assert.equal(again, err.code)
    assert.is_true(err.unknown)
    assert(seconds < 3, seconds)
    holds(err, "etcd: txn: no endpoint has given an answer", c.endpoints[1] .. ": Connection refused",
      c.endpoints[2] .. ": Connection refused", c.endpoints[3] .. ": ")
    err = refused(client.get, client, "/a")
    assert.equal(again, err.code)
    assert.is_false(err.unknown)
    c:start(2)
    put(client, "/b", "3")
    assert.equal("3", c:keys()["/b"])
  end)

  it("that is nowhere is told of, by what was seen of each endpoint", function()
    local c = etcd_world.new()
    t.run("ip link add d0 type veth peer name d1 && ip link set d1 up && ip addr add 192.0.2.1/24 dev d0 && ip link set d0 up", { host = c.ns })
    local client = etcd.new { ns = c.ns.path, timeout = 5, endpoints = { "http://127.0.0.1:1", "http://[::1]:1",
      "http://192.0.2.77:2379", "http://nobody.invalid:2379" } }
    local err, seconds = refused(put, client, "/a", "1")
    assert.equal(again, err.code)
    assert.is_false(err.unknown)
    assert(seconds < 3, seconds)
    holds(err, "http://127.0.0.1:1: Connection refused", "http://[::1]:1: Connection refused",
      "http://192.0.2.77:2379: no connection within 1.0 s",
      "http://nobody.invalid:2379: Could not resolve host: nobody.invalid")
    client = etcd.new { ns = c.ns.path, endpoints = { "http://127.0.0.1:1" } }
    err, seconds = refused(put, client, "/a", "1")
    assert.equal("etcd: txn: no endpoint has given an answer; http://127.0.0.1:1: Connection refused", tostring(err))
    assert(seconds < 1, seconds)
    assert.equal(1, client.requests)
  end)

  it("is reached from another namespace", function()
    local host = t.netns("host", { lo = "up" })
    local c = etcd_world.new { host = host }
    put(c:client(), "/a", "1")
    t.same({ ["/a"] = "1" }, c:keys())
  end)

  it("that has no room says so, and what to do", function()
    local c = etcd_world.new { quota = 1 << 20 }
    local client = c:client()
    local err
    for i = 1, 40 do
      local ok
      ok, err = pcall(put, client, "/" .. i, ("x"):rep(100000))
      if not ok then break end
    end
    assert(fail.is(err), tostring(err))
    assert.equal(again, err.code)
    assert.is_false(err.unknown)
    holds(err, "database space exceeded", "etcdctl compact, defrag, alarm disarm")
    assert.equal(("x"):rep(100000), client:get "/1")
    c:ctl [[
      e del --prefix /
      e compact $(e get -w json /1 | sed 's/.*"revision":\([0-9]*\).*/\1/')
      e defrag
      e alarm disarm]]
    put(client, "/1", "1")
  end)
end)

describe("certificates", function()
  it("of members are looked at", function()
    local c = etcd_world.new { tls = true }
    put(c:client(), "/a", "1")
    for _, ca in ipairs { etcd_world.cert "other-ca.pem", false } do
      local err = refused(put, c:client { ca = ca }, "/a", "2")
      holds(err, c.endpoints[1] .. ": its certificate is not accepted: SSL certificate problem: unable to get local issuer")
      assert.is_false(err.unknown)
      assert.equal(999, err.code)
    end
    holds(refused(put, c:client { ca = "/run/spec/nowhere" }, "/a", "2"), "/run/spec/nowhere")
    -- A member's certificate is for its addresses.
    t.run("ip addr add 203.0.113.9/32 dev lo", { host = c.ns })
    local err = refused(put, c:client { endpoints = { "https://203.0.113.9:2379" } }, "/a", "2")
    holds(err, "its certificate is not accepted", "203.0.113.9")
    -- Of several, one that is not accepted is gone by.
    local client = c:client { endpoints = { "https://203.0.113.9:2379", c.endpoints[1] } }
    assert.is_false(put(client, "/b", "2").retried)
    t.same({ ["/a"] = "1", ["/b"] = "2" }, c:keys())
    -- Nor does it go without them.
    holds(refused(put, c:client { endpoints = { "http://127.0.0.1:2379" } }, "/a", "2"), "Empty reply from server")
  end)

  it("of clients are shown", function()
    local c = etcd_world.new { client_certs = true }
    put(c:client(), "/a", "1")
    assert.equal("1", c:client():get "/a")
    local err = refused(put, c:client { cert = false, key = false }, "/a", "2")
    holds(err, "it refuses the connection", "set cert and key")
    assert.is_false(err.unknown)
    err = refused(put, c:client { cert = etcd_world.cert "stranger.pem", key = etcd_world.cert "stranger.key" }, "/a", "2")
    -- It says why, and ends the connection, which is what is seen first at times.
    assert(tostring(err):find "it refuses the connection" or tostring(err):find "asked for the client's certificate", tostring(err))
    lacks(err, "set cert and key")
    holds(refused(put, c:client { cert = "/run/spec/nowhere" }, "/a", "2"), "certificate")
    local odd_path = "/run/spec/a:b\\c \"d.pem"
    t.write(odd_path, t.read(etcd_world.cert "client.pem"))
    put(c:client { cert = odd_path }, "/a", "3")
    t.same({ ["/a"] = "3" }, c:keys())
    os.remove(odd_path)
  end)
end)

describe("a user", function()
  local opts = { user = "app", password = "pass\"\\wörd", prefix = "/app/" }

  it("is told by one token, which is got anew when it is no more known", function()
    local c = etcd_world.new(opts)
    local client = c:client()
    put(client, "/app/a", "1")
    assert.equal("1", client:get "/app/a")
    assert.equal(3, client.requests)
    c:stop(1)
    c:start(1)
    assert.equal("1", client:get "/app/a")
    -- Who may do what has changed; or who the user is.
    c:ctl "e role add more"
    put(client, "/app/a", "2")
    local requests = client.requests
    c:ctl("printf '%s\\n' " .. t.quote(opts.password) .. " | e user passwd --interactive=false app")
    put(client, "/app/a", "3")
    assert.equal(requests + 3, client.requests)
    client.token = "nonsense"
    put(client, "/app/a", "2")
    assert.equal(requests + 6, client.requests)
    client.token, client.password = "nonsense", "wrong"
    holds(refused(client.get, client, "/app/a"), "etcd: authentication: the password is not that of")
    t.same({ ["/app/a"] = "2" }, c:keys())
  end)

  it("with a wrong password, or without any, is refused", function()
    local c = etcd_world.new(opts)
    local err = refused(put, c:client { password = "wrong" }, "/app/a", "1")
    holds(err, "etcd: authentication: the password is not that of user \"app\"")
    lacks(err, "wrong\"")
    assert.equal(999, err.code)
    assert.is_false(err.unknown)
    holds(refused(put, c:client { user = "nobody" }, "/app/a", "1"), "user \"nobody\"")
    holds(refused(put, c:client { user = false }, "/app/a", "1"), "etcd: txn: it wants a user and a password")
    t.same({}, c:keys())
  end)

  it("without a right to a key is told which", function()
    local c = etcd_world.new(opts)
    local client = c:client()
    local err = refused(put, client, "/other/a", "1")
    holds(err, "etcd: txn: user \"app\" has no right to \"/other/a\"", "permission denied")
    assert.equal(999, err.code)
    assert.is_false(err.unknown)
    holds(refused(client.get, client, "/other"), "has no right to \"/other\"")
    holds(refused(client.list, client, "/"), "has no right to \"/\"")
    put(client, "/app/a", "1")
    t.same({ ["/app/a"] = "1" }, c:keys())
  end)

  it("of a cluster that asks nobody is nobody", function()
    local c = etcd_world.new()
    local client = c:client { user = "app", password = "x" }
    put(client, "/a", "1")
    put(client, "/a", "2")
    assert.equal(3, client.requests)
  end)
end)

-- A server at 127.0.0.1:PORT that has a shell answer each connection, once its request has begun.
local function serve(ns, port, script)
  local file = ("/run/spec/server%d.sh"):format(port)
  t.write(file, "head -c 5 >/dev/null\n" .. script .. "\n")
  local pid = t.run(("setsid socat TCP-LISTEN:%d,reuseaddr,fork EXEC:'sh %s' >/dev/null 2>&1 </dev/null & echo $!")
    :format(port, file), { host = ns }):match "%d+"
  servers[pid] = true
  t.run(("for i in $(seq 200); do ss -Hltn sport = :%d | grep -q . && exit; sleep 0.02; done; exit 1"):format(port),
    { host = ns })
end

local function http(body, status, more)
  return ("printf 'HTTP/1.1 %s\\r\\nContent-Length: %d\\r\\nConnection: close\\r\\n%s\\r\\n'; printf '%%s' %s; sleep 0.1"):format(
    status or "200 OK", #body, more or "", t.quote(body))
end

local header = '"header":{"revision":"1"}'
local range = '{' .. header .. ',"kvs":[%s],"count":"1"}'

describe("a server that is no etcd, or a broken one,", function()
  local cases = {
    -- what it does; a text of the error; whether the request may have been carried out
    { "garbage", "printf 'hello\\r\\n\\r\\n'; sleep 0.1", "", true },
    { "nothing", "exit", "", true },
    { "HTML", http "<html></html>", "cannot decode what it answers", true },
    { "HTML of its own", http("<html></html>", "404 Not Found"), "status 404, and not as etcd does", false },
    { "another JSON of its own", http('{"error":[]}', "404 Not Found"), "status 404", false },
    { "a redirection", http("", "302 Found", "Location: http://127.0.0.1:4000/\\r\\n"), "status 302", false },
    { "a gateway's error", http("<html>", "502 Bad Gateway"), "status 502", true, again },
    { "nothing to 200", http "", "it is empty", true },
    { "half a JSON", http('{' .. header .. ',"succ'), "cannot decode what it answers", true },
    { "less than it promised", "printf 'HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\n{'; sleep 0.1", "", true, again },
    { "a list", http "[]", "none of etcd's answers", true },
    { "a text", http '"x"', "none of etcd's answers", true },
    { "an object", http "{}", "none of etcd's answers", true },
    { "too few answers", http('{' .. header .. ',"succeeded":true}'), "0 answers to 1 operations", true },
    { "too many", http('{' .. header .. ',"responses":[{"response_put":{}}]}'), "1 answers to 0 operations", true },
    { "another answer", http('{' .. header .. ',"succeeded":true,"responses":[{"response_range":{}}]}'),
      "no answer to a put", true },
    { "no answer", http('{' .. header .. ',"succeeded":true,"responses":[7]}'), "no answer to an operation", true },
    { "a strange truth", http('{' .. header .. ',"succeeded":"maybe"}'), "neither succeeds nor fails", true },
    { "100 MB", "printf 'HTTP/1.1 200 OK\\r\\n\\r\\n'; head -c 100000000 /dev/zero", "more than 8 MiB", true },
    { "100 MB of headers", "printf 'HTTP/1.1 200 OK\\r\\n'; yes 'A: bbbbbbbbbbbbbbbbbbbbbbb' | head -c 100000000", "", true },
    { "a long status line", "printf 'HTTP/1.1 200 '; head -c 10000000 /dev/zero | tr '\\0' x", "", true },
    { "drop by drop", "printf 'HTTP/1.1 200 OK\\r\\n\\r\\n'; while printf x; do sleep 0.1; done",
      "no answer within", true, again },
    { "headers drop by drop", "printf 'HTTP/1.1 200 OK\\r\\n'; while printf 'A: b\\r\\n'; do sleep 0.1; done",
      "no answer within", true, again },
    { "silence", "sleep 5", "no answer within", true, again },
    { "no leader", http('{"error":"etcdserver: no leader","code":14}', "503 Service Unavailable"), "no leader",
      false, again },
    { "a timeout of its own", http('{"error":"etcdserver: request timed out","code":14}', "503 Service Unavailable"),
      "request timed out", true, again },
    { "an error of later versions", http('{"code":13,"message":"what","details":[]}', "500 Internal Server Error"),
      "what", true, again },
    { "a denial", http('{"code":7,"message":"etcdserver: permission denied"}', "403 Forbidden"),
      'a client without a user has no right to "/a"', false },
    { "a wrong password, of nobody", http('{"code":3,"message":"etcdserver: authentication failed"}', "400 Bad Request"),
      "the password is not that of", false },
  }

  it("has an error that says so, in time", function()
    t.needs "etcd"
    local ns = t.netns("lying", { lo = "up" })
    for i, case in ipairs(cases) do
      serve(ns, 3000 + i, case[2])
      local endpoint = "http://127.0.0.1:" .. 3000 + i
      local client = etcd.new { endpoints = { endpoint }, timeout = 1.2, ns = ns.path }
      local err, seconds = refused(put, client, "/a", "1")
      local what = ("%s: %s"):format(case[1], tostring(err))
      assert(seconds < 2.2, what .. seconds)
      assert(tostring(err):find(case[3], 1, true), what)
      assert(#tostring(err) < 600, what)
      assert.equal(case[4], err.unknown, what)
      if case[5] then assert.equal(case[5], err.code, what) end
    end
  end)

  it("is followed by the next", function()
    local c = etcd_world.new()
    for i, case in ipairs(cases) do
      if not case[1]:find "^a denial" and not case[1]:find "^a wrong" then
        serve(c.ns, 3000 + i, case[2])
        local client = c:client { endpoints = { "http://127.0.0.1:" .. 3000 + i, c.endpoints[1] }, timeout = 2 }
        local answer = put(client, "/a", tostring(i))
        assert.equal(case[4], answer.retried, case[1])
        assert.equal(tostring(i), client:get "/a")
      end
    end
  end)

  it("gives no keys but those that were asked for", function()
    t.needs "etcd"
    local ns = t.netns("lying", { lo = "up" })
    for i, case in ipairs {
      { '{"key":"YQ==","value":"?"}', "not base64" }, { '{"key":7}', "not base64" }, { "7", "not base64" },
      { '{"key":"Yg=="}', "not asked for" }, { '{"key":"YQ=="},{"key":"YQ=="}', "not asked for" },
      { "{}", "not asked for" },
    } do
      serve(ns, 3100 + i, http(range:format(case[1])))
      local client = etcd.new { endpoints = { "http://127.0.0.1:" .. 3100 + i }, ns = ns.path }
      local err = refused(client.get, client, "a")
      holds(err, case[2])
      assert.is_false(err.unknown)
      if i ~= 5 then holds(refused(client.list, client, "a"), case[2]) end
    end
    -- There is always more, and it is always the same.
    serve(ns, 3200, http('{' .. header .. ',"kvs":[{"key":"YQ=="}],"more":true,"count":"9"}'))
    local client = etcd.new { endpoints = { "http://127.0.0.1:3200" }, ns = ns.path }
    holds(refused(client.list, client, "a"), "not asked for")
    assert.equal("", client:get "a")
  end)

  it("has no token that would be more than that", function()
    t.needs "etcd"
    local ns = t.netns("lying", { lo = "up" })
    for i, token in ipairs { '"a\\r\\nX: y"', '""', "7", "null" } do
      serve(ns, 3300 + i, http(('{%s,"token":%s}'):format(header, token)))
      local client = etcd.new { endpoints = { "http://127.0.0.1:" .. 3300 + i }, ns = ns.path, user = "me", password = "x" }
      local err = refused(put, client, "/a", "1")
      holds(err, "etcd: authentication", "it has no token")
      assert.is_false(err.unknown)
    end
  end)
end)
