-- SPDX-License-Identifier: MIT
-- make doc: the comments as HTML; what is undocumented, or uses what lies above it, is an error. In a copy of
-- the tree.

local t = require "support"

local tree = "/run/spec/tree"

local function make_doc()
  local out, status, err = t.sh(("cd %s && exec make -s doc"):format(tree), { timeout = 120 })
  return status, out .. err
end

-- Change a file of the copy, have the HTML made, and put the file back.
local function with(path, from, to)
  path = tree .. "/" .. path
  local text = t.read(path)
  local first, last = text:find(from, 1, true)
  assert.is_truthy(first, from)
  t.write(path, text:sub(1, first - 1) .. to .. text:sub(last + 1))
  local status, said = make_doc()
  t.write(path, text)
  return status, said
end

local function refused(wanted, ...)
  local status, said = with(...)
  assert.equal(2, status, said)
  assert.is_truthy(said:find(wanted, 1, true), said)
end

describe("make doc", function()
  setup(function()
    t.run(("rm -rf %s; mkdir -p %s; cp -r Makefile packages.txt host lua netlink-bindings plugins spec-tests %s")
      :format(tree, tree, tree))
  end)
  teardown(function() t.run("rm -rf " .. tree) end)

  it("has the library's functions and the bindings'", function()
    t.same({ 0, "" }, { make_doc() })
    for page, texts in pairs {
      ["cni.schema"] = { "implies" }, ["cni.addr"] = { "Cidr:with_ip", "prefix length" },
      ["cni.engine.handle"] = { "#add_veth" }, ["luacni.spec"] = { "Pod:killed" }, ["netlink"] = { "rtnl:get", "describe" },
      ["netlink.sys"] = { "mkdirs", "file:append", "exec" }, ["netlink.store"] = { "store:" }, ["host"] = { "hold_signals" },
    } do
      local html = t.read(("%s/build/doc/modules/%s.html"):format(tree, page))
      for _, text in ipairs(texts) do assert.is_truthy((html or ""):find(text, 1, true), page .. ": " .. text) end
    end
  end)

  it("refuses a function without a comment, and an argument that it does not tell of", function()
    refused("lua/cni/vlans.lua:", "lua/cni/vlans.lua", "\nreturn M", "\nfunction M.bare() end\n\nreturn M")
    refused("no --- comment above M.bare", "lua/cni/vlans.lua", "\nreturn M", "\nfunction M.bare() end\n\nreturn M")
    refused("the comment above M.half does not tell of mode", "lua/cni/vlans.lua", "\nreturn M",
      "\n--- Halve.\n-- @tparam string name\nfunction M.half(name, mode) return name, mode end\n\nreturn M")
    assert.equal(0, (with("lua/cni/vlans.lua", "\nreturn M",
      "\n--- Halve.\n-- @tparam string name\nfunction M.half(name) return name end\n\nreturn M")))
  end)

  it("refuses a file that uses what is above it, and files that use each other", function()
    refused("rtnl is not below nl", "netlink-bindings/nl/buf.c", "#include ", '#include "rtnl/rtnl.h"\n#include ')
    refused("uses what uses it", "netlink-bindings/lease/addr.h", "#include ", '#include "lease/dir.h"\n#include ')
    refused("uses what uses it", "host/alloc.h", "#include ", '#include "image.h"\n#include ')
    refused("engine is not below record", "lua/cni/record/files.lua", "\nlocal M", '\nrequire "cni.engine.plan"\nlocal M')
    refused("uses what uses it", "lua/cni/names.lua", "\nlocal M", '\nrequire "cni.ipam"\nlocal M')
    refused("a plugin cannot require cni.engine.plan", "plugins/dummy.lua", "\nlocal ", '\nrequire "cni.engine.plan"\nlocal ')
  end)

  it("refuses a binding without a comment, and a file of bindings that names no module", function()
    refused("no /*** comment above sys_mkdir", "netlink-bindings/sys/sys.c", "/***\nMake one folder.", "/*\nMake one folder.")
    refused("no @module or @submodule", "netlink-bindings/sys/regex.c", "@submodule netlink.sys", "")
  end)

  it("takes LDoc's warnings for errors", function()
    refused("nobody_there", "lua/cni/vlans.lua", "\nreturn M",
      "\n--- Halve, as @{nobody_there}.\n-- @tparam string name\nfunction M.half(name) return name end\n\nreturn M")
    refused("unknown tag", "netlink-bindings/sys/regex.c", "@function matches\n", "@function matches\n@tparm string more\n")
  end)
end)
