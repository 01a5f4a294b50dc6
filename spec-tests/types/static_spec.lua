-- SPDX-License-Identifier: MIT
-- The static script: where addresses come from, and what CHECK makes of them.

local t = require "support"

local fail = require "cni.fail"
local json = require "cni.json"
local schema = require "cni.schema"

local plugin = dofile("plugins/static.lua")

local function request(conf, more)
  local raw = json.decode(t.json(conf), "conf", {})
  local req = { command = "ADD", version = "1.0.0", network = "net", container_id = "c1",
    ifname = "eth0", raw = raw }
  for key, value in pairs(more or {}) do req[key] = value end
  req.conf = schema.read(plugin.conf, raw)
  return req
end

local function ips(conf, more)
  local list = {}
  for i, ip in ipairs(plugin.add(request(conf, more)).ips) do
    list[i] = ip.gateway and ip.address .. ">" .. ip.gateway or ip.address
  end
  return table.concat(list, " ")
end

local function refused(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  assert.is_true(fail.is(err), tostring(err))
  return err
end

local function ipam(fields, more)
  local conf = { ipam = fields }
  for key, value in pairs(more or {}) do conf[key] = value end
  return conf
end

local one = { addresses = { { address = "10.1.0.5/24", gateway = "10.1.0.1" } } }

describe("addresses", function()
  it("are the configured ones, with routes and dns", function()
    local routes = { { dst = "0.0.0.0/0" }, { dst = "fd07::/64", gw = "fd01::9" } }
    local dns = { nameservers = { "9.9.9.9" }, domain = "d", search = { "s" }, options = { "o" } }
    assert.are.same({ ips = { { address = "10.1.0.5/24", gateway = "10.1.0.1" },
      { address = "fd01::5/64" } }, routes = routes, dns = dns },
      plugin.add(request(ipam { addresses = { { address = "10.1.0.5/24", gateway = "10.1.0.1" },
        { address = "fd01:0::5/64" } }, routes = routes, dns = dns })))
  end)

  it("of CNI_ARGS are added, each gateway given to the addresses it can serve", function()
    assert.are.equal("10.1.0.5/24>10.1.0.1 10.2.0.7/24>10.2.0.1 fd02::7/64>fd02::1",
      ips(ipam(one), { args = "IP=10.2.0.7/24,fd02::7/64;GATEWAY=10.2.0.1,fd02::1,10.9.0.1" }))
  end)

  it("W-71: a gateway of CNI_ARGS serves configured addresses too, but replaces none", function()
    local conf = ipam { addresses = { { address = "10.1.0.5/24" },
      { address = "10.2.0.5/24", gateway = "10.2.0.1" } } }
    assert.are.equal("10.1.0.5/24>10.1.0.254 10.2.0.5/24>10.2.0.1",
      ips(conf, { args = "GATEWAY=10.1.0.254,10.2.0.254" }))
  end)

  it("of args.cni replace them, those of the capability replace these", function()
    local args = { cni = { ips = { "10.3.0.7/24" } } }
    assert.are.equal("10.3.0.7/24", ips(ipam(one, { args = args }), { args = "IP=10.2.0.7/24" }))
    assert.are.equal("10.4.0.7/24 fd04::7/64", ips(ipam(one, { args = args,
      runtimeConfig = { ips = { "10.4.0.7/24", "fd04::7/64" } } })))
  end)

  it("lists that are empty replace nothing", function()
    assert.are.equal("10.1.0.5/24>10.1.0.1", ips(ipam(one, { args = { cni = { ips = t.list() } },
      runtimeConfig = { ips = t.list() } })))
  end)

  it("may be none at all", function()
    assert.are.equal("", ips(ipam { type = "static" }))
  end)

  it("need a prefix length, wherever they come from", function()
    assert.matches("ipam.addresses%[0%].address",
      refused(ips, ipam { addresses = { { address = "10.1.0.5" } } }).msg)
    assert.matches("args.cni.ips%[0%]",
      refused(ips, ipam(one, { args = { cni = { ips = { "10.1.0.5" } } } })).msg)
    assert.matches("runtimeConfig.ips%[0%]",
      refused(ips, ipam(one, { runtimeConfig = { ips = { "10.1.0.5" } } })).msg)
    assert.are.equal(4, refused(ips, ipam(one), { args = "IP=10.1.0.5" }).code)
    assert.are.equal(4, refused(ips, ipam(one), { args = "GATEWAY=x" }).code)
  end)

  it("two of a family need protocol 0.3.0; one of each does not", function()
    local conf = ipam { addresses = { { address = "10.1.0.5/24" }, { address = "10.1.0.6/24" } } }
    assert.are.equal(7, refused(ips, conf, { version = "0.2.0" }).code)
    assert.are.equal("10.1.0.5/24 10.1.0.6/24", ips(conf, { version = "0.3.0" }))
    conf = ipam { addresses = { { address = "10.1.0.5/24" }, { address = "fd01::6/64" } } }
    assert.are.equal("10.1.0.5/24 fd01::6/64", ips(conf, { version = "0.2.0" }))
  end)

  it("a configuration without ipam, or with null among them, is refused", function()
    assert.are.equal(7, refused(ips, {}).code)
    assert.are.equal(7, refused(ips, ipam { addresses = { t.null } }).code)
  end)
end)

describe("CHECK", function()
  local function check(prev) return plugin.check(request(ipam(one), { prev = prev })) end

  it("is content with the result of ADD", function()
    check { ips = { { address = "fd01::1/64" },
      { address = "10.1.0.5/24", gateway = "10.1.0.1", interface = 0 } } }
  end)

  it("W-71: names an address that is missing there", function()
    assert.matches("10.1.0.5/24", refused(check, { ips = {} }).msg)
    assert.matches("10.1.0.5/24", refused(check, {}).msg)
    assert.matches("10.1.0.5/24", refused(check, { ips = { { address = "10.1.0.5/16" } } }).msg)
  end)

  it("names a gateway that is another one", function()
    assert.matches("gateway of 10.1.0.5/24 is 10.1.0.9",
      refused(check, { ips = { { address = "10.1.0.5/24", gateway = "10.1.0.9" } } }).msg)
    assert.matches("absent", refused(check, { ips = { { address = "10.1.0.5/24" } } }).msg)
  end)

  it("needs a result to compare with", function()
    assert.are.equal(7, refused(check, nil).code)
  end)
end)
