-- SPDX-License-Identifier: MIT
-- luacni new

local files = require "cni.record.files"
local host = require "host"
local names = require "cni.names"
local say = require "cni.command.say"
local sys = require("netlink").sys

local folder <const> = "/etc/luacni/plugins"
local spec_folder <const> = "/etc/luacni/spec"

local template = [[
-- What @NAME@ does, in a sentence: `luacni doc @NAME@` prints it.

local ipam = require "cni.ipam"
local schema = require "cni.schema"

return {
  conf = schema.record {
    mtu = schema.mtu { doc = "MTU of both ends." },
  },

  add = function(req)
    local port, eth = req.host:add_veth {
      mtu = req.conf.mtu, peer = { ns = req.pod, name = req.ifname },
    }
    req.host:set_link(port, { up = true })
    local lease = ipam.add(req)
    ipam.apply(lease, req.pod, eth)
    return { interfaces = { port, eth }, ips = lease.ips, routes = lease.routes, dns = lease.dns }
  end,
}
]]

-- Where the two files go: in the site's folders, or both in one that was given.
local function places(name, dir)
  if dir then return dir .. "/" .. name .. ".lua", dir .. "/" .. name .. "_spec.lua" end
  return folder .. "/" .. name .. ".lua", spec_folder .. "/" .. name .. "_spec.lua"
end

local function write(path, text)
  files.must(sys.mkdirs(path:match "^(.*)/", 493))
  files.must(sys.write_file(path, text, 420))
end

return {
  words = "NAME",
  about = "begin a type of this site's own, and its spec",
  text = "Writes " .. folder .. "/NAME.lua: a pair of links with addresses, or a copy of the " ..
    "script of another type; and " .. spec_folder .. "/NAME_spec.lua, which luacni test NAME runs. " ..
    "Under the name of a built-in type it takes that one's place. What is there already stays.",
  least = 1, most = 1,
  options = {
    from = { value = "TYPE", about = "begin with a copy of this type's script" },
    dir = { value = "DIR", about = "write both files there" },
  },
  examples = { "luacni new wire", "luacni new bridge --from bridge", "luacni new wire --dir ." },
  run = function(words, options)
    local name, from = words[1], options.from
    if not names.is_id(name) or name == "luacni" then
      say.usage(("new: %q cannot be the name of a type"):format(name))
    end
    if name:find "_spec$" then say.usage "new: what ends in _spec is a spec, and no type" end
    local path, spec_path = places(name, options.dir)
    for _, file in ipairs { path, spec_path } do
      if files.exists(file) then say.usage(("new: %s is there already"):format(file)) end
    end
    local shipped = host.source(name) ~= nil
    if shipped and not from then
      say.usage(("new: %s is a built-in type; --from %s begins with a copy of it"):format(name, name))
    end
    local text = from and host.source(from) or template:gsub("@NAME@", name)
    if from and not host.source(from) then
      say.usage(("there is no type %q"):format(from), from, say.type_names())
    end
    local spec = require("cni.command.new_spec").text(name, from)
    write(path, text)
    write(spec_path, spec)
    say.lines { path, spec_path }
    if not shipped and not options.dir then
      host.log(("luacni run uses it at once; for a runtime: luacni link %s"):format(name))
    end
  end,
}
