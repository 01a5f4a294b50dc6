-- SPDX-License-Identifier: MIT
-- What every plugin of an interface promises alike, as tests for the spec of one: DEL in
-- every state of the world, GC, a failed ADD, the shape of its result in every version.
-- Only a spec itself has `it`: require "promises".for_spec(it).

local assert = require "luassert"
local t = require "support"

local M = {}
local it

--- This module, for a spec.
function M.for_spec(its)
  it = its
  return M
end

-- A pod that is gone is no longer in the picture.
local function forget_pod(picture, pod)
  picture.kernel[pod] = nil
  return picture
end

local deletions = {
  { "with all that a runtime knows" },
  { "without prevResult", { prev = false } },
  { "without CNI_NETNS", { pod = false } },
  { "without its record", nil, function(w, before) w:lose_records(before) end },
}

--- Tests of DEL: everything is taken back, once and twice.
-- new: makes a world, forwarding on; opts: call (of ADD), spared (set of the names of what
-- the spec proves in another way), needs, more (entries like those above)
function M.del(new, opts)
  opts = opts or {}
  local function deleted(what, call, prepare)
    it("takes everything back " .. what .. ", and again", function()
      t.needs(table.unpack(opts.needs or {}))
      local w = new()
      local before = w:picture()
      w:add(opts.call)
      if prepare then prepare(w, before) end
      w:del(call)
      w:del(call)
      t.same(before, w:picture())
    end)
  end

  for _, entry in ipairs(deletions) do
    if not (opts.spared or {})[entry[1]] then deleted(table.unpack(entry)) end
  end
  for _, entry in ipairs(opts.more or {}) do deleted(table.unpack(entry)) end

  if not (opts.spared or {})["when the namespace is gone"] then
    it("takes everything back when the namespace is gone, and again", function()
      t.needs(table.unpack(opts.needs or {}))
      local w = new()
      w:leave_interface()
      local before = forget_pod(w:picture(), "pod1")
      w:add(opts.call)
      t.remove_netns(w.pods[1])
      w.pods[1] = nil
      w:del({ pod = "/run/netns/pod1" })
      w:del({ pod = "/run/netns/pod1" })
      t.same(before, w:picture())
    end)
  end

  it("of what never was is content", function()
    t.needs(table.unpack(opts.needs or {}))
    local w = new()
    local before = w:picture()
    w:del()
    w:del({ pod = false })
    t.same(before, w:picture())
  end)
end

--- Tests of the MAC: where it is taken from, and that it is a good one when nobody says.
-- new: makes a world of a configuration; opts: interface (its number in the result), needs, conf
-- (what is configured, and counts less), look (called with world and MAC after each ADD)
-- Returns a function that makes a world of changes to `conf` and CNI_ARGS, and gives its MAC.
function M.mac(new, opts)
  local a, b, c = "0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"

  local function mac_of(conf, args)
    t.needs(table.unpack(opts.needs or {}))
    local w = new(t.with(opts.conf or {}, conf))
    local result = w:add({ args = args })
    local mac = t.link(w.pods[1], "eth0").address
    assert.equal(mac, result.interfaces[opts.interface].mac)
    if opts.look then opts.look(w, mac) end
    w:check({ args = args })
    return mac
  end

  it("is taken from CNI_ARGS", function() assert.equal(a, mac_of({}, "MAC=" .. a)) end)
  it("is taken from args.cni before CNI_ARGS", function()
    assert.equal(b, mac_of({ args = { cni = { mac = b } } }, "MAC=" .. a))
  end)
  it("is taken from runtimeConfig before all", function()
    assert.equal(c, mac_of({ args = { cni = { mac = b } }, runtimeConfig = { mac = c },
      capabilities = { mac = true } }, "MAC=" .. a))
  end)
  it("of its own is local, no group address, and not twice the same", function()
    local mac = mac_of({ mac = false })
    assert.equal(2, tonumber(mac:sub(1, 2), 16) & 3)
    t.cleanup()
    assert.not_equal(mac, mac_of({ mac = false }))
  end)
  return mac_of
end

--- Tests of GC: what is not valid goes, what is stays and is whole.
-- new: makes a world of so many pods; opts: call (of ADD, for a pod's number), needs
function M.gc(new, opts)
  opts = opts or {}
  local call = opts.call or function(n) return { id = "c" .. n, pod = n } end
  -- A link's own address comes a moment later than the link.
  local function quiet(w)
    for _, ns in ipairs { w.host, table.unpack(w.pods) } do
      t.run("echo 1 >/proc/sys/net/ipv6/conf/default/addr_gen_mode", { host = ns })
    end
    return w
  end

  it("takes back what is not in the list, and leaves what is", function()
    t.needs(table.unpack(opts.needs or {}))
    local w = quiet(new(2))
    w:add(call(2))
    local before = w:picture()
    w:add(call(1))
    w:gc({ { "c2" } })
    t.same(before, w:picture())
    w:check(call(2))
    w:gc({ { "c2" } })
    t.same(before, w:picture())
  end)

  it("takes back what a namespace that is gone has left, though it is in the list", function()
    t.needs(table.unpack(opts.needs or {}))
    local w = new(1)
    w:leave_interface()
    local before = forget_pod(w:picture(), "pod1")
    w:add(call(1))
    t.remove_netns(w.pods[1])
    w.pods[1] = nil
    w:gc({ { "c1" } })
    t.same(before, w:picture())
  end)
end

--- A test of a failed ADD: nothing is left of it, and the DEL that follows is content.
-- prepare(w) puts something in the way; says: what the message has to name; w:fails' code
function M.fails(name, new, opts)
  it(name, function()
    t.needs(table.unpack(opts.needs or {}))
    local w = new()
    if opts.prepare then opts.prepare(w) end
    local before = w:picture()
    local e = w:fails("ADD", opts.call, opts.code)
    for _, text in ipairs(type(opts.says) == "table" and opts.says or { opts.says }) do
      if not e.text:find(text, 1, true) then error(e.text .. "\nhas no " .. text) end
    end
    t.same(before, w:picture())
    w:del(opts.call)
    t.same(before, w:picture())
  end)
end

-- A result of version 1.1.0 as an older one has it.
local function in_version(result, version)
  local out = { cniVersion = version, interfaces = {}, ips = result.ips and {},
    routes = result.routes, dns = result.dns }
  local old = version:find("^0")
  for i, interface in ipairs(result.interfaces) do
    out.interfaces[i] = { name = interface.name, mac = interface.mac,
      sandbox = interface.sandbox, pciID = not old and interface.pciID or nil }
  end
  for i, ip in ipairs(result.ips or {}) do
    out.ips[i] = { address = ip.address, gateway = ip.gateway, interface = ip.interface,
      version = old and (ip.address:find(":", 1, true) and "6" or "4") or nil }
  end
  if old then out.dns = result.dns or {} end
  return out
end

--- Tests of the result in each version.
-- new: makes a world; opts: expected(w) gives the result of version 1.1.0, call (of ADD),
-- before(version): `prevResult`, for chained ones; needs
function M.results(new, opts)
  for _, version in ipairs { "0.3.1", "0.4.0", "1.0.0", "1.1.0" } do
    it("in version " .. version, function()
      t.needs(table.unpack(opts.needs or {}))
      local w = new()
      local call = { conf = { cniVersion = version } }
      for key, value in pairs(opts.call or {}) do call[key] = value end
      if opts.before then call.prev = opts.before(w, version) end
      local result = w:add(call)
      t.same(in_version(opts.expected(w), version), result)
      call.prev = nil
      if version ~= "0.3.1" then w:check(call) end
      w:del(call)
    end)
  end
end

M.in_version = in_version

return M
