-- SPDX-License-Identifier: MIT
--- Source based routing: what leaves from an address of the sandbox's interface goes by this interface. Used
-- in a chain, behind the plugin that makes the interface. Each address gets a routing table of its own, with
-- the routes that the interface has, and a rule that leads there; the main table keeps those of other
-- interfaces. DEL gives the routes back.

local common = require "cni.common"
local fail = require "cni.fail"
local schema = require "cni.schema"
local source_routing = require "cni.source_routing"

local conf = schema.record {
  table = schema.integer { min = 1, max = 0xffffffff,
    doc = "An existing table: there is a rule for each address, and nothing else is done." },
  gateways = schema.list(schema.string, {
    doc = "Gateways of the default routes, at most one a family, in place of those that the result has." }),
  addSourceHints = schema.boolean {
    doc = "Leave routes to the interface's own networks in the main table, with its address as source." },
}

-- With a table of its own the gateways count for nothing.
conf:check(function(c)
  if c.table then return nil end
  local _, problem = source_routing.gateways(c.gateways)
  return problem and "gateways: " .. problem
end, "gateways has addresses, at most one of each family.")

local function need_addresses(req)
  if #(req.prev.ips or {}) == 0 then
    fail.config("prevResult.ips", "is empty: there is no source to route by")
  end
  if not req.pod:link(req.ifname, {}) then
    fail.throw { msg = ("link %s is not in the sandbox"):format(req.ifname) }
  end
end

local function add(req)
  common.need_chain(req)
  local c = req.conf
  if common.expects_all(req) then need_addresses(req) end
  local ips = source_routing.ips_of(req, req.ifname)
  -- What the chain tells is of other interfaces alone.
  if ips and #ips == 0 then return end
  source_routing.add(req, req.ifname, ips, { table = c.table, gateways = c.gateways,
    hints = c.addSourceHints, routes = req.prev and req.prev.routes })
end

return { conf = conf, add = add, chained = true }
