-- SPDX-License-Identifier: MIT
--- What the busted specs of a site's types stand on, inside `luacni test`: a node with an uplink, pods, and
-- a runtime that attaches them. For specs alone, `require "luacni.spec"`; a type's script cannot have it.
--
--     local spec = require "luacni.spec"
--     local node = spec.node { type = "wire", ipam = { type = "host-local", subnet = "10.9.8.0/24" } }
--     local pod = node:pod()
--     local result = pod:add()
--     assert.equal("10.9.8.2/24", pod:addresses("eth0")[1])
--     pod:check()
--     pod:del()
--     node:leaves_nothing()
--
-- @module luacni.spec

local json = require "dkjson"

local M = {}

-- The folder of this world: luacni with a link for each type in bin/, and what a command has said.
local folder = "/run/luacni-test"
local conf_file = folder .. "/network.conflist"

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(text))
end

-- Run a shell line in a namespace: what it printed, whether it succeeded, what it said beside.
local function shell(netns, line)
  local inside = netns and "nsenter --net=/run/netns/" .. netns .. " " or ""
  local ok = os.execute(("%ssh -c %s </dev/null >%s/out 2>%s/err")
    :format(inside, quote(line), folder, folder))
  return read(folder .. "/out"), ok == true, read(folder .. "/err")
end

-- As `shell`; a failure is an error of the function that is so many levels above. (A tail call would leave no
-- level behind, hence the parentheses around some calls.)
local function must(level, netns, line)
  local out, ok, err = shell(netns, line)
  if not ok then error(("%s\n%s%s"):format(line, out, err), level + 1) end
  return out
end

--- What a node and a pod have in common: a namespace to look at.
-- @type Place
local Place = {}
Place.__index = Place

--- Run a shell line in the namespace.
-- @tparam string line
-- @treturn string what it printed
-- @raise what it said, when it fails
function Place:sh(line) return (must(2, self.netns, line)) end

--- Ask iproute2.
-- @tparam string arguments such as `route show`
-- @treturn table what `ip -j -d` says, decoded
-- @raise what it said, when it fails
function Place:ip(arguments)
  local out = must(2, self.netns, "ip -j -d " .. arguments)
  return out:find "%S" and assert(json.decode(out)) or {}
end

--- Look for a link.
-- @tparam string name
-- @treturn ?table what `ip -j -d address` says of it, its addresses in `addr_info`; nil when there is none
function Place:link(name)
  local out, ok = shell(self.netns, "ip -j -d address show dev " .. quote(name))
  return ok and json.decode(out)[1] or nil
end

--- The addresses of a link, but for link-local ones.
-- @tparam string name
-- @treturn {string,...} ADDRESS/LENGTH each; none when there is no such link
function Place:addresses(name)
  local list, link = {}, self:link(name)
  for _, item in ipairs(link and link.addr_info or {}) do
    if item.scope ~= "link" then list[#list + 1] = item["local"] .. "/" .. item.prefixlen end
  end
  return list
end

--- Whether an address answers from here.
-- @tparam string address
-- @treturn boolean
function Place:reaches(address)
  return (select(2, shell(self.netns, "ping -n -c1 -W2 " .. quote(address))))
end

-- What comes and goes by itself: numbers, lifetimes, what follows the carrier.
local passing = { "^%d+: ", " state %u+", " qlen %d+", "valid_lft %S+", "preferred_lft %S+", " expires %S+",
  " linkdown", " dead", " tentative", ",?NO%-CARRIER", ",?LOWER_UP" }

-- The values that a sysctl may have afterwards, whatever it was before: forwarding, once switched on, stays
-- on, and so does what keeps learnt routes beside it; the kernel believes no redirects then.
local stays = { ip_forward = "1", forwarding = "1", accept_ra = "2",
  ["net/ipv4/conf/all/accept_redirects"] = "0" }

-- The sysctls of a namespace, by path, but for those that count something.
local function sysctls(netns)
  local values = {}
  for line in shell(netns, "grep -rs ^ /proc/sys/net"):gmatch "[^\n]+" do
    local path, value = line:match "^/proc/sys/([^:]*):(.*)$"
    if path and not path:find "_count$" then
      values[path] = values[path] and values[path] .. " | " .. value or value
    end
  end
  return values
end

-- All that is to see in a namespace but for sysctls, as a set of lines.
local function picture(netns)
  local seen = {}
  local out = must(1, netns, "ip -o link; ip -o address; ip route show table all; " ..
    "ip -6 route show table all; ip rule; ip -6 rule; " ..
    "if command -v nft >/dev/null; then nft list ruleset; fi")
  for line in out:gmatch "[^\n]+" do
    for _, pattern in ipairs(passing) do line = line:gsub(pattern, "") end
    -- With the first VRF of a namespace comes a rule that the kernel never takes away; with forwarding of
    -- IPv6, addresses that say "any router".
    if not line:find("[l3mdev-table]", 1, true) and not line:find "^anycast " then seen[line] = true end
  end
  return seen
end

-- Only what was there before is looked at: the rest is of links that are new.
local function compare_sysctls(before, netns, problems)
  for path, value in pairs(sysctls(netns)) do
    local was = before[path]
    local may = stays[path] or stays[path:match "[^/]*$"]
    if was and was ~= value and may ~= value then
      problems[#problems + 1] = ("%s has: %s = %s, which was %s"):format(netns, path, value, was)
    end
  end
end

local function compare(before, after, name, problems)
  for line in pairs(after) do
    if not before[line] then problems[#problems + 1] = name .. " has: " .. line end
  end
  for line in pairs(before) do
    if not after[line] then problems[#problems + 1] = name .. " has lost: " .. line end
  end
end

--- The machine that pods are on. Has what a place has.
-- @type Node
-- @extends Place
local Node = setmetatable({}, Place)
Node.__index = Node

--- A container, as far as its network goes. Has what a place has.
-- @type Pod
-- @extends Place
local Pod = setmetatable({}, Place)
Pod.__index = Pod

-- The namespaces that are there now.
local current = {}

local function add_netns(name, what)
  must(3, nil, "ip netns add " .. quote(name))
  current[#current + 1] = name
  must(3, name, what)
end

-- The uplink, and what is behind it. Addresses that the kernel would give some time later are not wanted.
local uplink = [[
ip link add up0 type veth peer name up0 netns beyond
for ns in host beyond; do
	at() { nsenter --net=/run/netns/$ns "$@"; }
	[ $ns = host ] && n=1 far=2 || n=2 far=1
	at ip link set lo up
	at ip link set up0 addrgenmode none
	at ip address add 192.0.2.$n/24 dev up0
	at ip address add 2001:db8::$n/64 dev up0 nodad
	at ip link set up0 up
	at ip route add default via 192.0.2.$far
	at ip -6 route add default via 2001:db8::$far
done
i=0
until ip -o link show up0 | grep -q 'state UP' || [ $i -ge 50 ]; do i=$((i + 1)); sleep 0.05; done]]

local function forget()
  for i = #current, 1, -1 do
    shell(nil, "ip netns del " .. quote(current[i]))
    current[i] = nil
  end
  shell(nil, "rm -rf /run/luacni /run/cni /var/lib/cni/*")
end

--- A node, in a namespace of its own: lo, and an uplink up0 with 192.0.2.1/24, 2001:db8::1/64 and the default
-- routes, behind which 192.0.2.2 and 2001:db8::2 answer. The node that was there before goes, with its pods,
-- addresses and records.
-- @tparam table conf configuration of a plugin, or of a network that has a list of them in `plugins`; `name`
--   and `cniVersion` may be left out
-- @treturn Node
-- @raise when it cannot be made
function M.node(conf)
  forget()
  local network = { cniVersion = "1.0.0", name = "spec", plugins = conf.plugins or { {} } }
  for key, value in pairs(conf) do
    if conf.plugins or key == "name" or key == "cniVersion" then
      network[key] = value
    else
      network.plugins[1][key] = value
    end
  end
  write(conf_file, assert(json.encode(network)))
  add_netns("beyond", "true")
  add_netns("host", uplink)
  return setmetatable({ netns = "host", pods = {}, before = {} }, Node)
end

--- A pod: a namespace that is not attached yet.
-- @tparam[opt] string name `pod1`, `pod2` and so on without
-- @treturn Pod
-- @raise when it cannot be made
function Node:pod(name)
  name = name or "pod" .. #self.pods + 1
  add_netns(name, "ip link set lo up")
  local pod = setmetatable({ netns = name, node = self }, Pod)
  self.pods[#self.pods + 1] = name
  return pod
end

-- What is there before anything is attached.
local function look(node)
  for _, netns in ipairs { "host", table.unpack(node.pods) } do
    node.before[netns] = node.before[netns] or { seen = picture(netns), sysctls = sysctls(netns) }
  end
end

--- Hold that the node and its pods are as they were before the first ADD: links, addresses, routes, rules,
-- those of nf_tables too, sysctls; that no address is leased, and nothing attached. Forwarding may be on.
-- @raise what is there still, and what has been lost
function Node:leaves_nothing()
  local problems = {}
  for netns, before in pairs(self.before) do
    compare(before.seen, picture(netns), netns, problems)
    compare_sysctls(before.sysctls, netns, problems)
  end
  for _, what in ipairs { "list", "list --leases" } do
    local out = must(2, self.netns, "luacni " .. what .. " --json")
    for _, entry in ipairs(json.decode(out)) do
      problems[#problems + 1] = ("luacni %s has: %s"):format(what, json.encode(entry))
    end
  end
  table.sort(problems)
  if problems[1] then error("something is left:\n" .. table.concat(problems, "\n"), 2) end
end

-- The command line of a verb.
local function line_of(pod, verb, options)
  local words = { "luacni", verb, conf_file, pod.netns }
  for _, name in ipairs { "ifname", "args", "id" } do
    if options and options[name] then words[#words + 1] = ("--%s=%s"):format(name, options[name]) end
  end
  if options and options.capabilities then
    words[#words + 1] = "--cap-args=" .. json.encode(options.capabilities)
  end
  for i, word in ipairs(words) do words[i] = quote(word) end
  return table.concat(words, " ")
end

local function fails(pod, verb, options)
  local line = line_of(pod, verb, options)
  local _, ok, err = shell(pod.node.netns, line)
  if ok then error(line .. " has not failed", 3) end
  return err
end

-- What an ADD says where the kernel lacks something.
local lacks = { "this kernel makes no links of kind [^\n]*", "this kernel has no [^\n]*",
  "this kernel's bridges do not filter VLANs[^\n]*" }

-- As `must`, for an ADD. One that cannot work on this kernel ends the test as pending: on another one the
-- type may be fine.
local function must_add(level, pod, line)
  local out, ok, err = shell(pod.node.netns, line)
  for _, pattern in ipairs(not ok and lacks or {}) do
    local what = err:match(pattern)
    if what then require("busted.core")().pending(what) end
  end
  if not ok then error(("%s\n%s%s"):format(line, out, err), level + 1) end
  return out
end

--- Attach the pod. Where the kernel lacks what that takes, such as a kind of link, the test ends as pending.
-- @tparam[opt] table options `ifname` (eth0), `args` (CNI_ARGS), `capabilities` (a table, by capability),
--   `id` (of the container)
-- @treturn table the result, decoded
-- @raise what luacni said, when it fails
function Pod:add(options)
  look(self.node)
  return assert(json.decode(must_add(2, self, line_of(self, "add", options))))
end

--- Hold that the pod cannot be attached.
-- @tparam[opt] table options as of `add`
-- @treturn string what was said
-- @raise when it does not fail
function Pod:add_fails(options)
  look(self.node)
  return (fails(self, "add", options))
end

--- Hold that the pod is attached as it should be.
-- @tparam[opt] table options `ifname`, `id`
-- @raise what luacni said, when it fails
function Pod:check(options) must(2, self.node.netns, line_of(self, "check", options)) end

--- Hold that CHECK finds something.
-- @tparam[opt] table options `ifname`, `id`
-- @treturn string what was said
-- @raise when it does not fail
function Pod:check_fails(options) return (fails(self, "check", options)) end

--- Detach the pod. A second time is fine too.
-- @tparam[opt] table options `ifname`, `id`
-- @raise what luacni said, when it fails
function Pod:del(options) must(2, self.node.netns, line_of(self, "del", options)) end

local moments <const> = 20

--- Hold that an ADD that is killed leaves nothing once DEL was called: it is killed at twenty moments, from
-- its begin to when it would have ended.
-- @tparam[opt] table options as of `add`
-- @raise what is left, or what luacni said, and when it was killed
function Pod:killed(options)
  look(self.node)
  -- A plugin is in a process group of its own, and would outlive luacni: with a pid namespace all are killed.
  local add = "unshare --pid --fork --kill-child " .. line_of(self, "add", options)
  local times = must_add(2, self, ("date +%%s.%%N; %s >/dev/null && date +%%s.%%N"):format(add))
  local from, to = times:match "^(%S+)%s+(%S+)"
  local seconds = to - from
  local function taken_back(how)
    local ok, err = pcall(function()
      self:del(options)
      self.node:leaves_nothing()
    end)
    if not ok then error(how .. ": " .. tostring(err):gsub("^%S+/spec%.lua:%d+: ", ""), 3) end
  end
  taken_back "not killed"
  for moment = 0, moments - 1 do
    local after = seconds * moment / moments + 0.0005
    shell(self.node.netns, ("timeout -s KILL %f %s"):format(after, add))
    taken_back(("killed after %.1f ms"):format(after * 1000))
  end
end

return M
