-- SPDX-License-Identifier: MIT
--- DEL without a record: what is to be taken back, as far as it can be told. The script tells it, since its
-- `add` is run in a plan that does nothing. When that fails, or the script does not load, the name of the
-- interface, the owner and prevResult tell. Values of the configuration that are not needed may be wrong.
--
-- An `add` that would make a thing may never have made it: a DEL also follows an ADD that was refused because
-- somebody else has such a thing. A route, rule, address or link in the host does not tell who made it. So it
-- is taken back only when it certainly belongs to this attachment: it names an address that was given to the
-- attachment and is nobody else's, or the interface of prevResult is still there. Otherwise it stays, and the
-- log says so.
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

-- Whether there is a step with elements in nf_tables that a module of ours asks for.
local function has_elements(plan, module)
  for _, step in ipairs(plan.steps) do
    if step.kind == "elements" and step.want.module == module then return true end
  end
  return false
end

-- Add the step of the lease, unless the script has.
local function find_lease(req, plugin)
  local plan, named = req.plan, req.raw.ipam
  if has_step(plan, "lease", "delegate") then return end
  if type(named) == "table" and named.type == plugin.type then
    req:lease(require("cni.leases").place(req.raw))
  else
    fail.try(require("cni.ipam").add, req)
  end
end

-- Add a step for the link that has the interface's name. A device has no kind: nobody has made it.
local function find_link(req)
  local plan, link = req.plan, req.pod:link(req.ifname)
  if not link or not link.kind or has_step(plan, "link", "tap", "move") then return end
  plan:push { kind = "link", ns = "pod", want = { name = link.name, kind = link.kind } }
end

local function find_masquerade(req)
  local ips = req.prev and req.prev.ips or {}
  if not req.raw.ipMasq or has_elements(req.plan, "masq") then return end
  fail.try(require("cni.masq").add, req, ips)
end

-- What a script that does not load would have guarded is found by its owner.
local function find_guard(req)
  if not (req.raw.macspoofchk or req.raw.ipSpoofChk) or has_elements(req.plan, "guard") then return end
  require("cni.guard").forget(req)
end

local function find_ports(req, plugin)
  local runtime = req.raw.runtimeConfig
  local said = plugin.type == "portmap" or type(runtime) == "table" and runtime.portMappings
  if not said or has_elements(req.plan, "published") then return end
  require("cni.published").forget(req)
end

local function read(req, plugin)
  scripts.read_args(plugin, req, true)
  req.conf = plugin.conf and require("cni.schema").salvage(plugin.conf, req.raw) or req.raw
end

local function find_all(req, plugin)
  local loads, del = fail.try(function() return plugin.del end)
  if loads and del then return scripts.call(plugin, "del", req) end
  local problem, ok = del, nil
  if loads then loads, problem = fail.try(scripts.bounded, read, req, plugin) end
  if loads then
    -- One that never ends has had the time of the ADD already.
    ok = fail.try(scripts.bounded, scripts.call, plugin, "add", req)
  else
    req.log(("luacni: DEL goes without the script of %s: %s"):format(plugin.type, tostring(problem)))
  end
  if not ok then
    find_lease(req, plugin)
    if not (loads and plugin.chained) then find_link(req) end
    find_masquerade(req)
    find_guard(req)
    find_ports(req, plugin)
  end
end

-- Kinds of step whose things in the host do not tell who has made them. Pairs are no such links: they are
-- found by their end in the sandbox; nor are those whose name is made of the owner.
local unmarked <const> = { route = true, addr = true, rule = true, neigh = true, fdb = true, vlan = true,
  shared_route = true, link = true, tap = true }

local function is_unmarked(step)
  local want = step.want
  return unmarked[step.kind] and (want.into or step.ns) == "host" and not want.peer and not want.owned
end

-- The addresses of the attachment: those that are leased to it, and those of prevResult, unless they are
-- leased to another attachment by now.
local function addresses_of(req)
  local found, leases = {}, require "cni.leases"
  local place = leases.place(req.raw)
  for _, ip in ipairs(req.prev and req.prev.ips or {}) do
    local text = ip.address:match "^[^/]+"
    local id, ifname = leases.holder(place, text)
    if not id or id == req.container_id and ifname == req.ifname then found[text] = true end
  end
  for _, step in ipairs(req.plan.steps) do
    for _, ip in ipairs(step.kind == "lease" and plans.kind_of(step).held(step, req.plan) or {}) do
      found[ip.address:match "^[^/]+"] = true
    end
  end
  return found
end

local function names(step, addresses)
  for _, want in ipairs { step.want, step.want.entry or {} } do
    for _, key in ipairs { "dst", "src", "from", "to", "address" } do
      local text = type(want[key]) == "string" and want[key]:match "^[^/]+"
      if text and addresses[text] then return true end
    end
  end
  return false
end

-- Whether the interface of prevResult is there, as it was given.
local function still_stands(req)
  local entry = M.reported(req.prev, req.ifname)
  if not entry or (entry.mac or "") == "" or req.pod.absent then return false end
  local link = req.pod:link(req.ifname, { "mac" })
  return link ~= nil and link.mac == entry.mac:lower()
end

local function is_there(step, plan)
  local kind = plans.kind_of(step)
  local ok, differs = pcall(kind.verify, step, plan)
  return ok and not differs
end

-- The steps whose things may be somebody else's: they are not taken back.
local function steps_to_leave(req)
  local left, addresses, stands = {}, nil, nil
  for _, step in ipairs(req.plan.steps) do
    if is_unmarked(step) then
      if stands == nil then stands, addresses = still_stands(req), addresses_of(req) end
      left[step] = not stands and not names(step, addresses) or nil
    end
  end
  for step in pairs(left) do
    if is_there(step, req.plan) then
      req.log(("luacni: there is no record of %s of container %s, and what may be somebody else's stays: %s")
        :format(req.ifname, req.container_id, plans.kind_of(step).say(step)))
    end
  end
  return left
end

--- Fill a plan with the steps that an ADD would have taken.
-- @tparam table req `plan` in the mode erase; `prev` as far as it is readable
-- @tparam table plugin its `type`; its script may not load. `chained` says that the interface is made by
-- a plugin before it, and so is not its to remove
-- @tparam boolean shared whether another network has this interface too
-- @raise what the script's own `del` says; the plan has its steps all the same
function M.find(req, plugin, shared)
  local ok, err = pcall(find_all, req, plugin)
  local left = steps_to_leave(req)
  for _, step in ipairs(req.plan.steps) do
    -- When another network has this interface too, its attachment may have made what is on it.
    local of_interface = plans.kind_of(step).of_interface and not step.want.owned or step.want.interface
    step.did = not left[step] and not (shared and of_interface)
  end
  if not ok then error(err, 0) end
end

return M
