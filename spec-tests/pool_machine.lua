-- SPDX-License-Identifier: MIT
-- A machine of a large pool, as a process: it leases addresses of it, releases some, and claims blocks when little is
-- left, by the library. Called with a folder, the node's name, the endpoint of etcd, how many addresses are to be held
-- in the end, and a number for chance. What it has got, and what it is about to give, it writes to FOLDER/log, a line
-- at once. It prints, in microseconds, how long each lease took that had not to wait for a claim, and how often etcd
-- was asked.
--
-- Called with the word "tend" in the place of the number of addresses it does what is due, once; with "leave" it
-- gives all addresses back before.

local blocks = require "cni.pool.blocks"
local claim = require "cni.pool.claim"
local fail = require "cni.fail"
local leases = require "cni.leases"
local sys = require("netlink").sys

local folder, node, endpoint, wanted, seed = table.unpack(arg)
math.randomseed(tonumber(seed) or 0)

local place = blocks.place(folder .. "/" .. node, "default", "pods")
local spec = setmetatable({ settings = { pool = "default", network = "pods", node = node, low = 25,
  keep = wanted == "leave" and 0 or 600, subnets = { { subnet = "10.0.0.0/12", block = 26, gateway = "10.0.0.1" } },
  etcd = { endpoints = { endpoint }, prefix = "/luacni" } } }, { __index = place })

local held = {}

-- How often etcd is asked.
local etcd, asked = require "cni.pool.etcd", 0
local new_client = etcd.new
function etcd.new(...)
  local client = new_client(...)
  local known = client.requests
  return setmetatable({}, { __index = function(_, key)
    local value = client[key]
    if type(value) ~= "function" then return value end
    return function(_, ...)
      local results = table.pack(pcall(value, client, ...))
      asked, known = asked + client.requests - known, client.requests
      if not results[1] then error(results[2], 0) end
      return table.unpack(results, 2, results.n)
    end
  end, __newindex = client })
end

-- How often until now, a line.
local function tell_requests()
  if asked > 0 then print("asked " .. asked) end
  asked = 0
end

io.stdout:setvbuf "line"

local log = assert(io.open(folder .. "/log", "a"))
log:setvbuf "full"

local function note(what, address)
  log:write(("%s %s %s\n"):format(what, address, node))
  log:flush()
end

local function owner(id) return { id = id, ifname = "eth0" } end

local is_low = false

local function lease(id)
  return leases.allocate(spec, owner(id), function(choice)
    is_low = choice.is_low
    return choice.commit(choice)
  end)
end

-- What a former life of this machine has got is held, whether it came to say so or not.
local s <close> = require("netlink").store.open(place.dir .. "/pods", blocks.index_dir)
for address, id in s:each() do
  note("got", address)
  held[#held + 1] = { id = id, address = address }
end
s:close()

local function release(n)
  local entry = table.remove(held, n)
  note("gives", entry.address)
  leases.release(place, owner(entry.id))
end

if wanted == "tend" or wanted == "leave" then
  while wanted == "leave" and held[1] do release(#held) end
  blocks.change(place, function(state) state.settings = spec.settings end)
  claim.tend(place, { look = true })
  os.exit(0)
end

local life, count = ("%d-%d"):format(sys.pid(), seed), 0
while #held < tonumber(wanted) do
  count = count + 1
  local id = ("%s-%d"):format(life, count)
  local began = sys.clock()
  local ok, ips = pcall(lease, id)
  local took = ok and sys.clock() - began
  if not ok and fail.is(ips) and ips.lacking then
    ok, ips = pcall(claim.until_had, spec, function() return lease(id) end)
  end
  tell_requests()
  if ok then
    local address = ips[1].address:match "^[^/]*"
    note("got", address)
    held[#held + 1] = { id = id, address = address }
    if took then print(math.floor(took * 1e6)) end
    -- By another process, where it is a plugin; and nobody hears of it when it fails.
    if is_low then pcall(claim.tend, spec, { try = true, seconds = 5 }) end
    tell_requests()
    if math.random() < 0.1 then release(math.random(#held)) end
    sys.sleep(math.random(0, 4))
  else
    io.stderr:write(tostring(ips), "\n")
    sys.sleep(200)
  end
end
