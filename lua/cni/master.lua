-- SPDX-License-Identifier: MIT
--- The master of an attachment: the link that a vlan, macvlan or ipvlan interface stands on.
--
-- It is named by the configuration's `master`, or found; it lies in the host, or in the sandbox
-- with `linkInContainer`.
--
-- @module cni.master

local fail = require "cni.fail"
local schema = require "cni.schema"

local M = {}

--- `master`, where it has to be given.
M.required = schema.ifname { required = true, doc = "The link to stand on." }

--- `master`, where it can be found.
M.optional = schema.ifname { empty = "absent",
  doc = "The link to stand on; default: that of the default route." }

--- `linkInContainer`.
M.in_container = schema.boolean { doc = "The master lies in the sandbox, not in the host." }

local function absent(home, name)
  local where = home.name == "pod" and "sandbox" or "host"
  if not name then
    fail.config("master", ("is not given, and there is no default route in the %s"):format(where),
      "name the link to use")
  end
  fail.config("master", ("there is no link %s in the %s"):format(name, where),
    home.name == "host" and "linkInContainer looks for it in the sandbox"
      or "without linkInContainer it is looked for in the host")
end

--- Find the master.
-- @tparam table req its `conf` has `master`, `linkInContainer` and `mtu`
-- @tparam[opt] string name used when `conf.master` is absent, before the default route's
-- @treturn handle of the namespace it is in
-- @treturn table the link; when the attachment is being erased, it may be a name alone
-- @raise code 7 when there is none, or when `mtu` is above its MTU
function M.find(req, name)
  local conf = req.conf
  local home = conf.linkInContainer and req.pod or req.host
  name = conf.master or name
  local link
  if name then link = home:link(name) elseif not home.absent then link = home:default_link() end
  if not link then
    -- What is to be taken back is known by its own name; and a sandbox that a dry run only
    -- imagines has no links.
    if req.plan.mode == "erase" or home.absent then return home, { name = name or home.gone } end
    absent(home, name)
  end
  if conf.mtu and conf.mtu > link.mtu and req.plan.mode ~= "erase" then
    fail.config("mtu", ("%d is more than the %d of the master, %s"):format(conf.mtu, link.mtu,
      link.name))
  end
  return home, link
end

return M
