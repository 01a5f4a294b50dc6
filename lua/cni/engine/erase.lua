-- SPDX-License-Identifier: MIT
--- DEL without a record: what is to be taken back, as far as it can be told. The script says it, by an
-- `add` that does nothing; where that fails, or there is no script that loads, the name of the interface,
-- its owner and prevResult do. No value of the configuration that is not needed for it is asked for.
--
-- @module cni.engine.erase

local fail = require "cni.fail"
local plans = require "cni.engine.plan"
local scripts = require "cni.engine.script"

local M = {}

local function has_step(plan, ...)
  for _, step in ipairs(plan.steps) do
    for _, kind in ipairs { ... } do
      if step.kind == kind then return true end
    end
  end
  return false
end

--- What the result of the chain says of the sandbox's interface.
-- @tparam table|nil prev result, as cni.protocol.result gives it
-- @tparam string ifname
-- @treturn table|nil its entry
function M.reported(prev, ifname)
  for _, entry in ipairs(prev and prev.interfaces or {}) do
    if entry.name == ifname and (entry.sandbox or "") ~= "" then return entry end
  end
end

-- The lease, unless the script has told of it.
local function find_lease(req, plugin)
  local plan, named = req.plan, req.raw.ipam
  if has_step(plan, "lease", "delegate") then return end
  if type(named) == "table" and named.type == plugin.type then
    req:lease(require("cni.leases").place(req.raw))
  else
    fail.try(require("cni.ipam").add, req)
  end
end

-- The link under the interface's name, unless it is a device, which nobody has made.
local function find_link(req)
  local plan, link = req.plan, req.pod:link(req.ifname)
  if not link or not link.kind or has_step(plan, "link", "tap", "move") then return end
  plan:push { kind = "link", ns = "pod", want = { name = link.name, kind = link.kind } }
end

local function find_masquerade(req)
  local ips = req.prev and req.prev.ips or {}
  if not req.raw.ipMasq or has_step(req.plan, "masq") then return end
  fail.try(require("cni.masq").add, req, ips)
end

local function find_all(req, plugin)
  local loads, del = fail.try(function() return plugin.del end)
  if loads and del then return scripts.call(plugin, "del", req) end
  local ok = loads and fail.try(function()
    req.conf = plugin.conf and require("cni.schema").salvage(plugin.conf, req.raw) or req.raw
    scripts.call(plugin, "add", req)
  end)
  if not loads then
    req.log(("luacni: DEL goes without the script of %s: %s"):format(plugin.type, tostring(del)))
  end
  if not ok then
    find_lease(req, plugin)
    if not (loads and plugin.chained) then find_link(req) end
    find_masquerade(req)
  end
end

--- Fill a plan with the steps that an ADD would have taken.
-- @tparam table req `plan` in the mode erase; `prev` as far as it is readable
-- @tparam table plugin its `type`; its script may not load. `chained` says that the interface is made by
-- a plugin before it, and so is not its to remove
-- @tparam boolean shared whether another network has this interface too
-- @raise what the script's own `del` says; the plan has its steps all the same
function M.find(req, plugin, shared)
  local ok, err = pcall(find_all, req, plugin)
  for _, step in ipairs(req.plan.steps) do
    -- Another network's attachment of the same container may have made what it has.
    step.did = not (shared and (plans.kind_of(step).of_interface or step.want.interface))
  end
  if not ok then error(err, 0) end
end

return M
