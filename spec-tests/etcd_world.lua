-- SPDX-License-Identifier: MIT
-- A cluster of etcd in a namespace of its own, of one member or several: what specs of what nodes share play with.
-- Its data lie in memory. It ends with the test, by stop_all in after_each.

local base64 = require "cni.protocol.base64"
local etcd = require "cni.pool.etcd"
local t = require "support"

local M = {}
local Cluster = {}
Cluster.__index = Cluster

local folder <const> = "/run/spec/etcd"
local certs <const> = "/run/spec/etcd-certificates"
local running = {}

-- Certificates ---------------------------------------------------------------------------

-- The server's is the client's too where a member asks itself, as its gateway does, and so has no name: etcd would
-- take that for a user.
local make_certs <const> = [[
set -e
mkdir -p DIR && cd DIR
key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
for ca in ca other-ca; do
  key $ca
  openssl req -x509 -new -key $ca.key -out $ca.pem -days 2 -subj "/CN=$ca of the specs"
done
signed() { # NAME CA SUBJECT
  key $1
  printf 'subjectAltName = IP:127.0.0.1, IP:203.0.113.2\nextendedKeyUsage = serverAuth, clientAuth\n' >ext
  openssl req -new -key $1.key -subj "$3" |
    openssl x509 -req -CA $2.pem -CAkey $2.key -CAcreateserial -days 2 -extfile ext -out $1.pem
}
signed server ca /O=specs
signed client ca /CN=client
signed stranger other-ca /CN=stranger
touch ready
]]

--- The path of a certificate or key, made when it is not there: "ca.pem", "client.pem", "client.key"; those of
-- nobody known are "other-ca.pem", "stranger.pem", "stranger.key".
function M.cert(name)
  if not t.read(certs .. "/ready") then t.run((make_certs:gsub("DIR", certs))) end
  return certs .. "/" .. name
end

-- Members --------------------------------------------------------------------------------

local function ports(i) return 2379 + 10 * (i - 1), 2380 + 10 * (i - 1) end

-- A member's words, in the cluster's first life or a later one.
local function words(c, i)
  local port, peer = ports(i)
  local peers = {}
  for n = 1, c.members do
    peers[n] = ("m%d=http://127.0.0.1:%d"):format(n, select(2, ports(n)))
  end
  local list = { "etcd", "--name", "m" .. i, "--data-dir", folder .. "/" .. i, "--log-level", "warn",
    "--listen-client-urls", c.scheme .. "://0.0.0.0:" .. port, "--advertise-client-urls", c.endpoints[i],
    "--listen-peer-urls", "http://127.0.0.1:" .. peer, "--initial-advertise-peer-urls", "http://127.0.0.1:" .. peer,
    "--initial-cluster", table.concat(peers, ","), "--heartbeat-interval", "50", "--election-timeout", "500",
    "--bcrypt-cost", "4" }
  local function add(...) table.move({ ... }, 1, select("#", ...), #list + 1, list) end
  if c.tls then add("--cert-file", M.cert "server.pem", "--key-file", M.cert "server.key") end
  if c.client_certs then add("--client-cert-auth", "--trusted-ca-file", M.cert "ca.pem") end
  if c.quota then add("--quota-backend-bytes", tostring(c.quota)) end
  for i_word, word in ipairs(list) do list[i_word] = t.quote(word) end
  return table.concat(list, " ")
end

-- A member is there when it serves its health, which it does with a leader.
local function await(c, i)
  local port = ports(i)
  local tls = c.tls and ("--cacert %s --cert %s --key %s"):format(M.cert "ca.pem", M.cert "client.pem",
    M.cert "client.key") or ""
  t.run(("for i in $(seq 300); do curl -s --max-time 1 --noproxy '*' %s %s://127.0.0.1:%d/health | grep -q true && exit; "
    .. "sleep 0.03; done; tail -n 20 %s/%d.log; exit 1"):format(tls, c.scheme, port, folder, i), { host = c.ns })
end

--- Start a member, which remembers what it knew. wait: false, not until it has a leader.
function Cluster:start(i, wait)
  local pid = t.run(("mkdir -p %s; %s >>%s/%d.log 2>&1 </dev/null & echo $!"):format(folder, words(self, i), folder, i),
    { host = self.ns }):match "%d+"
  self.pids[i], running[pid] = pid, true
  if wait ~= false then await(self, i) end
end

local function stop(pid)
  t.sh(("kill -KILL %s; while kill -0 %s 2>&-; do sleep 0.02; done"):format(pid, pid))
  running[pid] = nil
end

--- End a member, as a power cut would.
function Cluster:stop(i)
  stop(self.pids[i])
  self.pids[i] = nil
end

--- Have a member stand still: it takes connections, as its kernel does, and no more.
function Cluster:pause(i) t.run { "kill", "-STOP", self.pids[i] } end

--- Have it go on.
function Cluster:resume(i) t.run { "kill", "-CONT", self.pids[i] } end

--- End all members: for after_each.
function M.stop_all()
  for pid in pairs(running) do stop(pid) end
  t.sh { "rm", "-rf", folder }
end

-- The cluster ----------------------------------------------------------------------------

--- A new cluster. opts, all of which may be absent:
--
--   members       how many (1)
--   host          a namespace that it is reached from, at 203.0.113.2; absent: 127.0.0.1 of its own, `ns`
--   tls           with certificates; client_certs: it wants those of clients too
--   user, password, prefix: who may read and write what is below the prefix; root has the password "root"
--   quota         bytes that it may keep
function M.new(opts)
  t.needs "etcd"
  opts = opts or {}
  local c = setmetatable({ members = opts.members or 1, tls = opts.tls or opts.client_certs, quota = opts.quota,
    client_certs = opts.client_certs, user = opts.user, password = opts.password, pids = {}, endpoints = {},
    host = opts.host, scheme = (opts.tls or opts.client_certs) and "https" or "http" }, Cluster)
  t.sh { "rm", "-rf", folder }
  -- A member takes 64 MB for its log before it has one.
  if tonumber(t.run("df --output=avail -m /run | tail -n 1")) < 100 * c.members then
    t.current.lacks = false
    t.current.pending "this machine has too little room in /run"
  end
  c.ns = t.netns("etcd", { lo = "up" })
  if c.host then
    t.run([[
      ip link add etcd0 type veth peer name etcd0 netns etcd
      ip addr add 203.0.113.1/24 dev etcd0
      ip link set etcd0 addrgenmode none up
      nsenter --net=/run/netns/etcd sh -c 'ip addr add 203.0.113.2/24 dev etcd0; ip link set etcd0 addrgenmode none up'
    ]], { host = c.host })
  end
  -- The second kernel has none of it; see `count`.
  local counter = t.has "nft-nat" and [[nft 'table inet seen {
    counter requests { }
    chain c {
      type filter hook input priority -400
      tcp dport { 2379, 2389, 2399, 2409, 2419 } tcp flags & (syn | ack) == syn counter name requests
    }
  }']]
  if counter then t.run(counter, { host = c.ns }) end
  for i = 1, c.members do
    c.endpoints[i] = ("%s://%s:%d"):format(c.scheme, c.host and "203.0.113.2" or "127.0.0.1", (ports(i)))
  end
  for i = 1, c.members do c:start(i, false) end
  for i = 1, c.members do await(c, i) end
  if c.user then c:enable_auth(opts.prefix) end
  return c
end

--- Options of cni.pool.etcd.new for it, with changes, of which false takes one out.
function Cluster:options(more)
  return t.with({ endpoints = self.endpoints, ns = (self.host or self.ns).path, user = self.user,
    password = self.password, ca = self.tls and M.cert "ca.pem" or nil,
    cert = self.client_certs and M.cert "client.pem" or nil,
    key = self.client_certs and M.cert "client.key" or nil }, more)
end

--- A client of ours.
function Cluster:client(more) return etcd.new(self:options(more)) end

--- Shell in which `e` is etcdctl; what it prints.
function Cluster:ctl(script)
  local addresses = {}
  for i in pairs(self.pids) do addresses[#addresses + 1] = ("%s://127.0.0.1:%d"):format(self.scheme, (ports(i))) end
  local tls = self.tls and ("--cacert %s --cert %s --key %s"):format(M.cert "ca.pem", M.cert "client.pem",
    M.cert "client.key") or ""
  return t.run(("set -e; e() { ETCDCTL_API=3 etcdctl --endpoints %s %s %s \"$@\"; }\n"):format(
    table.concat(addresses, ","), tls, self.has_auth and "--user root:root" or "") .. script, { host = self.ns })
end

--- Have it ask who somebody is.
function Cluster:enable_auth(prefix)
  self:ctl(([[
    e user add root:root; e user grant-role root root
    e role add part; e role grant-permission part --prefix=true readwrite %s
    e user add %s; e user grant-role %s part
    e auth enable]]):format(t.quote(prefix), t.quote(self.user .. ":" .. self.password), t.quote(self.user)))
  self.has_auth = true
end

--- All that it keeps, below a prefix: key -> value.
function Cluster:keys(prefix)
  local list = {}
  local found = t.decode(self:ctl("e get -w json --prefix " .. t.quote(prefix or "")))
  for _, entry in ipairs(found.kvs or {}) do
    list[base64.decode(entry.key)] = base64.decode(entry.value or "")
  end
  return list
end

-- What a relay does with a connection, by what is written into `mode`.
local relay_script <const> = [[
read -r mode after <FOLDER/mode
if [ "$after" -gt 0 ]; then
  echo "$mode $((after - 1))" >FOLDER/mode
  mode=pass
fi
case $mode in
hold) exec cat >FOLDER/$(date +%s%N).held ;;
mute) exec socat - TCP:127.0.0.1:2379 >/dev/null ;;
*) exec socat - TCP:127.0.0.1:2379 ;;
esac
]]

local Relay = {}
Relay.__index = Relay

--- Something between machines and the first member, at `endpoint`: it passes requests on, and their answers. See
-- `mute`, `hold` and `deliver`.
function Cluster:relay()
  local r = setmetatable({ host = self.ns, folder = folder .. "/relay", endpoint = "http://127.0.0.1:3379" }, Relay)
  t.write(r.folder .. "/script", (relay_script:gsub("FOLDER", r.folder)))
  r:pass()
  local pid = t.run(("setsid socat TCP-LISTEN:3379,reuseaddr,fork EXEC:'sh %s/script' >/dev/null 2>&1 </dev/null & echo $!")
    :format(r.folder), { host = self.ns }):match "%d+"
  running["-" .. pid] = true
  t.run("for i in $(seq 200); do ss -Hltn sport = :3379 | grep -q . && exit; sleep 0.02; done; exit 1", { host = self.ns })
  return r
end

--- Have it pass on all that comes from now on.
function Relay:pass() t.write(self.folder .. "/mode", "pass 0\n") end

--- Have it pass requests on, and no answers, after some that go well.
function Relay:mute(after) t.write(self.folder .. "/mode", ("mute %d\n"):format(after or 0)) end

--- Have it keep requests for later, after some that go well.
function Relay:hold(after) t.write(self.folder .. "/mode", ("hold %d\n"):format(after or 0)) end

--- Whether not as many requests have come as were to go well.
function Relay:is_unspent() return t.read(self.folder .. "/mode"):match "%d+" ~= "0" end

--- Pass on what was kept, in its order; how many requests that are.
function Relay:deliver()
  return tonumber(t.run(([[
    n=0
    for f in %s/*.held; do
      [ -s "$f" ] || continue
      (cat $f; sleep 0.3) | socat - TCP:127.0.0.1:2379 >$f.answer
      mv $f $f.passed
      n=$((n + 1))
    done
    echo $n]]):format(self.folder), { host = self.host }))
end

--- A function that says how many connections members have got since; a request of ours is one.
function Cluster:count()
  t.needs "nft-nat"
  local function seen()
    return tonumber(t.run("nft list counter inet seen requests", { host = self.ns }):match "packets (%d+)")
  end
  local before = seen()
  return function() return seen() - before end
end

return M
