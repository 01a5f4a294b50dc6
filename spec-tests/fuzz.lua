-- SPDX-License-Identifier: MIT
-- Everything that listens to the kernel, over and over, with bend.so (bend.c) preloaded, which changes
-- what the kernel says. Whatever comes, an operation gives a value, or nil, a message and an errno.
--   LD_PRELOAD=bend.so lua5.4 fuzz.lua BEND.SO SEED COUNT LAST
-- COUNT answers are bent, at 0 none of a thousand; LAST gets the last of them, for when it was one too many. Runs in a
-- namespace that fuzz_spec.lua has filled, and says at the end what came of it.

local netlink = require "netlink"
local lib, seed, count, last = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4]
local bend = assert(package.loadlib(lib, "luaopen_bend"))()

local TIMEOUT = 0 -- ms: what the kernel answers at all is there when the question is asked
local ETIMEDOUT = 110

local rt, nft = assert(netlink.open()), assert(netlink.nft())
local dice = math.random

local function pick(list) return list[dice(#list)] end

local filters = {
  link = { {}, { kind = "bridge" }, { name = "v0" }, { up = true } },
  addr = { {}, { family = "inet6" }, { address = "10.1.2.3/24" } },
  group = { { family = "inet6" }, { family = "inet6", index = 1 } },
  route = { {}, { table = "main" }, { dst = "default" }, { table = 100 } },
  rule = { {}, { family = "inet" } },
  neigh = { {}, { index = 1 } },
  vlan = { {} },
  qdisc = { {}, { kind = "htb" } },
  class = { { index = 1 } },
  filter = { { index = 1, parent = "1:" }, { index = 1 } },
}
local keys = { link = { "name", "mac", "mtu", "master" }, addr = { "address", "scope" }, route = { "dst",
  "gw" } }
local rt_objects, nft_objects = {}, { "table", "chain", "rule", "set", "map", "object" }
for object in pairs(filters) do rt_objects[#rt_objects + 1] = object end
table.sort(rt_objects)

local up = { "set", "link", { name = "v0", up = true } }

local operations = {
  function()
    local object = pick(rt_objects)
    return rt:dump(object, pick(filters[object]), dice(2) == 1 and keys[object] or nil, TIMEOUT)
  end,
  function() return rt:get("link", { name = pick { "v0", "br0", "none" } }, nil, TIMEOUT) end,
  function() return rt:get("neigh", { index = 1, dst = "10.1.2.9" }, nil, TIMEOUT) end,
  function() return rt:get(pick { "qdisc", "class" }, { index = 1, handle = pick { "1:", "1:10", "2:" } }, nil, TIMEOUT) end,
  function() return rt:send({ up, up, { "del", "link", { name = "none" } } }, TIMEOUT) end,
  function() return rt:del_link_quick({ name = "none" }, 2) end,
  function() return nft:dump(pick(nft_objects), { family = "inet" }, TIMEOUT) end,
  function() return nft:dump(pick(nft_objects), {}, TIMEOUT) end,
  function()
    return nft:dump("element", { family = "inet", table = "t", set = pick { "s", "m", "i", "none" },
      key_type = pick { "ipv4_addr", "inet_service", "ipv4_addr . inet_service" }, data_type =
      pick { "verdict", "ipv4_addr" } }, TIMEOUT)
  end,
  function()
    return nft:get("element", { family = "inet", table = "t", set = "s", key = "10.0.0.1",
      key_type = "ipv4_addr" }, TIMEOUT)
  end,
  function() return nft:get("chain", { family = "inet", table = "t", name = "c" }, TIMEOUT) end,
  function() return nft:generation(TIMEOUT) end,
  function()
    return nft:flows(pick { { proto = 17 }, { proto = 17, family = "inet", port = 5001 },
      { proto = 17, family = "inet", dst = "127.0.0.1", port = 5002 }, { proto = 6, family = "inet6" } }, TIMEOUT)
  end,
  function() return nft:commit({ { "add", "table", { family = "inet", name = "t" } } }, TIMEOUT) end,
}

-- Those that wait longer, for the kernel or for what it no longer says.
local slow = {
  function()
    local flows, msg, errno = nft:flows({ proto = 17, family = "inet", port = 5003 }, TIMEOUT)
    if not flows then return flows, msg, errno end
    return nft:forget(flows, TIMEOUT)
  end,
  function() return rt:await("link", { name = "v0" }, { up = dice(2) == 1 }, nil, 2) end,
  function() return rt:await("addr", { index = 1 }, { tentative = false }, nil, 2) end,
  function()
    return nft:commit({ { "add", "table", { family = "inet", name = "t" } }, { "create", "chain",
      { family = "inet", table = "t", name = "c" } } }, TIMEOUT)
  end,
  function()
    local made, msg, errno = rt:send({ { "add", "link", { name = "made", kind = "bridge" },
      echo = { "index", "mac" } } }, TIMEOUT)
    rt:send({ { "del", "link", { name = "made" } } }, TIMEOUT)
    return made, msg, errno
  end,
  function()
    rt:send({ { "add", "link", { name = "gone", kind = "bridge" } } }, TIMEOUT)
    return rt:del_link_quick({ name = "gone" }, 30)
  end,
}

-- Replies of before may still come, or somebody may hold the one dump there can be.
local function afresh()
  rt:close()
  nft:close()
  rt, nft = assert(netlink.open()), assert(netlink.nft())
end

local values, refusals, errnos, n = 0, 0, {}, 0
math.randomseed(seed)
if count > 0 then bend.begin(seed, last) end
while bend.count() < count or n < 1000 do
  n = n + 1
  local value, msg, errno = pick(n % (count > 0 and 500 or 10) == 0 and slow or operations)()
  if value ~= nil then
    values = values + 1
  elseif msg ~= nil then
    refusals = refusals + 1
    errnos[errno] = true
    assert(type(msg) == "string" and math.type(errno) == "integer" and errno > 0 and errno < 4096,
      ("%s (%s)"):format(msg, errno))
    if errno == ETIMEDOUT or dice(10) == 1 then afresh() end
  end
end
print(("%d bent, %d values, %d refusals"):format(bend.count(), values, refusals))
local list = {}
for errno in pairs(errnos) do list[#list + 1] = errno end
table.sort(list)
print("errnos: " .. table.concat(list, " "))
