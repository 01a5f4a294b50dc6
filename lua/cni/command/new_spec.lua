-- SPDX-License-Identifier: MIT
--- The spec that `luacni new` writes beside a script.
-- @module cni.command.new_spec

local manual = require "cni.command.manual"
local say = require "cni.command.say"

local M = {}

local template <const> = [[
-- What @NAME@ promises: `luacni test` runs this, `luacni doc spec` tells what there is for it.

local spec = require "luacni.spec"

describe("@NAME@", function()
  local node, pod

  before_each(function()
    node = spec.node {
@CONF@
    }
@BEFORE@    pod = node:pod()
  end)

  it("attaches a pod, and takes that back", function()
    local result = pod:add@OPTIONS@
    local addresses = {}
    for i, ip in ipairs(result.ips or {}) do addresses[i] = ip.address end
    assert.same(addresses, pod:addresses "@LINK@")
@MORE@    pod:check@OPTIONS@
    pod:del@OPTIONS@
    node:leaves_nothing()
    pod:del@OPTIONS@ -- once more, as runtimes do
  end)

  it("notices what somebody has changed", function()
    pod:add@OPTIONS@
    pod:sh "ip link set @LINK@ down"
    assert.matches("@LINK@", pod:check_fails@OPTIONS@)
  end)

  it("leaves nothing when it is killed", function()
    pod:killed@OPTIONS@
  end)
end)
]]

-- A value that a key may have, as Lua text; nil where its type alone does not tell.
local function value_of(key, kind)
  if kind == "interface name" then return key == "master" and '"up0"' or '"spec0"' end
  if kind:find "^integer" then return kind:match "from (%-?%d+)" or "1" end
  local first = kind:match "^one of ([^,]+)"
  return first and ("%q"):format(first)
    or ({ boolean = "true", string = '"spec"', ["MAC address"] = '"02:00:00:00:00:01"' })[kind]
end

-- The keys of a configuration that a script cannot do without, as lines of Lua.
local function keys_of(script)
  local lines, has = {}, {}
  for _, row in ipairs((manual.keys(script))) do
    local key, kind, default, doc = row[1], row[2], row[3], row[4]
    has[key] = true
    if default == "required" and key ~= "ipam" and not key:find("[.%[]") then
      local value = value_of(key, kind)
      lines[#lines + 1] = value and ("%s = %s,"):format(key, value)
        or ("-- %s = %s: %s"):format(key, kind, doc)
    end
  end
  -- What would be kept for the next pod goes with the last one.
  if has.removeUnused then lines[#lines + 1] = "removeUnused = true," end
  if has.delegate then lines[#lines + 1] = "delegate = { removeUnused = true }," end
  return lines, has
end

local subnet <const> = 'subnet = "10.9.8.0/24"'
local addresses <const> = 'addresses = { { address = "10.9.8.7/24", gateway = "10.9.8.1" } }'
local blocks <const> = 'subnets = { { ' .. subnet .. ' } }, blocksFile = "/run/spec-blocks"'
local ipam <const> = 'ipam = { type = "host-local", ' .. subnet .. " },"

-- What somebody else has written on a node before.
local written <const> = {
  cluster = "echo 10.9.8.0/26 >/run/spec-blocks",
  flannel = "mkdir -p /run/flannel && printf 'FLANNEL_NETWORK=10.9.0.0/16\\n"
    .. "FLANNEL_SUBNET=10.9.8.1/24\\nFLANNEL_MTU=1400\\nFLANNEL_IPMASQ=true\\n' >/run/flannel/subnet.env",
}

-- The configuration for what a script is: it makes an interface, or stands behind what does, or gives
-- addresses.
local function conf_of(name, script)
  local lines, has = keys_of(script)
  local own = ("type = %q,"):format(name)
  if script.ipam then
    local keys = has["ipam.addresses"] and addresses or has["ipam.blocksFile"] and blocks or subnet
    return { 'type = "ptp",', ("ipam = { type = %q, %s },"):format(name, keys) }
  elseif script.chained then
    return { "plugins = {", '  { type = "ptp", ' .. ipam:gsub(",$", "") .. " },", "  {", "    " .. own,
      "    " .. table.concat(lines, "\n          "), "  },", "}," }
  end
  table.insert(lines, 1, own)
  -- Who has it made by another type gets its addresses elsewhere.
  if has.ipam and not has.delegate then lines[#lines + 1] = ipam end
  return lines
end

--- Write a spec.
-- @string name of the new type
-- @string[opt] from the type whose script is copied; without, it is `luacni new`'s own
-- @treturn string
-- @raise when that type's script cannot be loaded
function M.text(name, from)
  local part = { NAME = name, LINK = "eth0", OPTIONS = "()", BEFORE = "", MORE = "" }
  local lines
  if not from then
    lines = { ("type = %q,"):format(name), "mtu = 1400,", ipam }
    part.MORE = '    assert.equal(1400, pod:link("eth0").mtu)\n'
  else
    lines = conf_of(name, say.plugin(from))
  end
  if from == "loopback" then part.LINK, part.OPTIONS = "lo", ' { ifname = "lo" }' end
  if from == "host-device" then
    table.insert(lines, 2, 'device = "spare0",')
    part.BEFORE = '    node:sh "ip link add spare0 type veth peer name spare1"\n'
  end
  if written[from] then part.BEFORE = ("    node:sh %q\n"):format(written[from]) end
  part.CONF = "      " .. table.concat(lines, "\n      ")
  return (template:gsub("@(%u+)@", part))
end

return M
