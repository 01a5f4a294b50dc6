-- SPDX-License-Identifier: MIT
-- Where the kernel has no nf_tables: what needs none is served as ever, what needs them fails and leaves nothing,
-- and nothing that is to be taken back waits for them.

local t = require "support"
local world = require "world"

local function new()
  return world.new({ type = "bridge", bridge = "br0", isGateway = true, removeUnused = true,
    ipam = { type = "host-local", subnet = "10.1.0.0/24" } }, { forwarding = true, neighbours = false })
end

local asks = { masquerading = { ipMasq = true }, ["a guard"] = { macspoofchk = true },
  both = { ipMasq = true, macspoofchk = true } }

describe("Where the kernel has no nf_tables,", function()
  local under
  setup(function() under = t.helper "no_nfnetlink" end)

  it("what needs none of them is served, and taken back with a record and without", function()
    for _, lost in ipairs { false, true } do
      local w = new()
      local before = w:picture()
      w:ok("ADD", { under = under })
      assert.is_true(t.ping(w.pods[1], "10.1.0.1"))
      w:ok("CHECK", { under = under })
      if lost then t.run "rm -r /run/luacni/attachments" end
      w:ok("DEL", { under = under })
      t.same(before, w:picture())
      w:ok("DEL", { under = under })
      w:ok("GC", { under = under, conf = { ["cni.dev/valid-attachments"] = t.list {} } })
      t.same(before, w:picture())
      t.cleanup()
    end
  end)

  for what, more in pairs(asks) do
    it("an ADD that asks for " .. what .. " says so, leaves nothing, and its DEL is content", function()
      local w = new()
      local before = w:picture()
      local e = w:fails("ADD", { under = under, conf = more })
      assert.truthy(e.text:find("open nf_tables", 1, true), e.text)
      assert.is_nil(e.text:find("taking it back failed", 1, true), e.text)
      t.same(before, w:picture())
      w:ok("DEL", { under = under, conf = more, prev = false })
      t.same(before, w:picture())
      -- With them it is served.
      w:add { conf = more }
      w:del { conf = more }
      t.same(before, w:picture())
    end)

    it("a DEL that finds no record, of what asks for " .. what .. ", takes back all else", function()
      local w = new()
      local before = w:picture()
      w:add()
      t.run "rm -r /run/luacni/attachments"
      w:ok("DEL", { under = under, conf = more })
      t.same(before, w:picture())
    end)
  end

  for chained, more in pairs { firewall = {},
    portmap = { runtimeConfig = { portMappings = { { hostPort = 8080, containerPort = 80, protocol = "tcp" } } } } } do
    it("an ADD of " .. chained .. " says so, leaves nothing, and its DEL is content", function()
      local w = new()
      w:add()
      local before = w:picture()
      local call = { type = chained, under = under, prev = w.results["c1 eth0"], conf = t.merge({ type = chained,
        bridge = false, isGateway = false, removeUnused = false, ipam = false }, more) }
      local e = w:fails("ADD", call)
      assert.truthy(e.text:find("open nf_tables", 1, true), e.text)
      assert.is_nil(e.text:find("taking it back failed", 1, true), e.text)
      t.same(before, w:picture())
      w:ok("DEL", call)
      t.same(before, w:picture())
    end)
  end
end)
