-- SPDX-License-Identifier: MIT
-- Holes that network plugins have had, and what keeps each of them shut here: the spec that would fail.

local t = require "support"
local world = require "world"

-- Which test of which spec proves it. The last word of a row is what was possible.
local shut = {
  { "CVE-2021-20206", "delegation", "is never a path", "a type with ../ ran any program" },
  { "CVE-2021-20206", "host", "never takes a name for a path" },
  { "CVE-2025-67499", "portmap", "is for no other port, protocol, or address, and for nobody once it is taken back",
    "traffic that is routed through went to a container" },
  { "CVE-2019-9946", "portmap", "goes after others that translate the same, and leaves the administrator's chain as it is",
    "a published port went before a service" },
  { "CVE-2020-10749", "holes", "sends the host no router", "a container took the host's IPv6 traffic" },
  { "CVE-2020-8558", "portmap", "keeps neighbours off 127.0.0.0/8, which the host lets out by the bridge",
    "neighbours reached what listens on 127.0.0.1" },
  { "CVE-2024-33522", "host", "refuses to run set-user-ID", "a set-user-ID installer ran what the caller chose" },
  { "CVE-2023-27593", "host", "is refused when ", "whoever could write to a folder of plugins had the node" },
  { "CVE-2022-29178", "execs", "No program is executed, and no socket listened at, by", "a group could use root's socket" },
  { "a token in a log", "holes", "keeps what is secret to root" },
  { "keys that all could read", "holes", "keeps what is secret to root" },
  { "any sysctl could be set", "tuning", "that no line of the list matches as a whole" },
  { "any sysctl could be set", "tuning", "while the list is broken or cannot be read" },
  { "bytes of a configuration as a format, stdin without an end, a file in /tmp", "hostile_bytes", " reach no answer, " },
  { "stdin without an end", "json", "a mebibyte" },
  { "a file in /tmp", "host", "opens nothing at start but what the loader does" },
}

local v4 = { type = "host-local", subnet = "10.1.0.0/24" }

describe("A hole that others had", function()
  it("has a spec that would fail", function()
    local files = {}
    for path in t.run("ls spec-tests/*/*_spec.lua"):gmatch "%S+" do files[path:match "([^/]+)_spec%.lua$"] = t.read(path) end
    for _, row in ipairs(shut) do
      local text = files[row[2]] or error("no spec " .. row[2])
      -- This table names them too.
      local first = row[2] == "holes" and text:find("\ndescribe(", 1, true) or 1
      assert.is_truthy(text:find(row[3], first, true), ("%s: %s has no test %q"):format(row[1], row[2], row[3]))
    end
  end)
end)

describe("A container that says it is a router", function()
  -- The host takes its routes where it does not forward IPv6, as on a node of IPv4 alone; r0 is the container's end.
  local function new(conf, ifname)
    local w = world.new(conf, { lived_in = false, neighbours = false })
    w:add { ifname = ifname }
    w:in_pod("echo 0 >/proc/sys/net/ipv6/conf/r0/accept_dad; ip -6 addr add fe80::66/64 dev r0 nodad")
    return w
  end

  local function learnt(w)
    local found = {}
    for _, route in ipairs(t.ip(w.host, "-6 route show")) do
      if route.dst == "default" or route.dst:find("^2001:") then found[#found + 1] = route.dst end
    end
    for _, link in ipairs(t.ip(w.host, "-6 addr show scope global")) do
      for _, a in ipairs(link.addr_info) do found[#found + 1] = a["local"] end
    end
    table.sort(found)
    return table.concat(found, " ")
  end

  -- What comes before a link is quite up is lost, so it is said several times.
  local function advertise(w, times)
    for _ = 1, times do
      t.run({ t.helper "advertise", "r0", "20010db800000066" }, { host = w.pods[1] })
      t.sh "sleep 0.15"
      if learnt(w) ~= "" then break end
    end
  end

  for _, conf in ipairs { { type = "bridge", bridge = "br0", isGateway = true, ipMasq = true, ipam = v4 },
    { type = "bridge", bridge = "br0", isGateway = true, ipam = v4, vlan = 5 }, { type = "ptp", ipam = v4 } } do
    it(("sends the host no router: %s%s"):format(conf.type, conf.vlan and " with a VLAN" or ""), function()
      if conf.vlan then t.needs "bridge-vlan" end
      if conf.ipMasq then t.needs "nft-nat" end
      local w = new(conf, "r0")
      local port = w:port(1, "r0").ifname
      advertise(w, 8)
      assert.equal("", learnt(w))
      -- The negative twin: with what the kernel does by itself, the host goes by the container.
      local gateway = conf.type == "ptp" and port or conf.vlan and "br0.5" or "br0"
      w:sh(("for i in $(seq 60); do ip -6 addr show dev %s scope link -tentative | grep -q fe80 && break; sleep 0.05; done; " ..
        "echo 1 >/proc/sys/net/ipv6/conf/%s/accept_ra"):format(gateway, gateway))
      advertise(w, 40)
      assert.is_truthy(learnt(w):find("default", 1, true), learnt(w))
    end)
  end
end)

describe("luacni", function()
  it("keeps what is secret to root, whatever umask the caller has", function()
    local token <const> = "s3cr3t-t0k3n"
    t.write("/etc/luacni/plugins/tells.lua", [[
      local schema = require "cni.schema"
      return { conf = schema.record { token = schema.string }, add = function(req)
        local _, eth = req.host:add_veth { peer = { ns = req.pod, name = req.ifname } }
        return { interfaces = { eth } }
      end }]])
    local w = world.new({ type = "tells", token = token, ipam = false }, { neighbours = false })
    w:ok("ADD", { type = "luacni", under = "sh -c 'umask 0; exec \"$@\"' sh" })
    local found = t.run("find /run/luacni /var/lib/cni -mindepth 1 -perm /077 ! -type l -printf '%m %p\\n' 2>/dev/null || true")
    local open = {}
    for mode, path in found:gmatch "(%d+) (%S+)\n" do
      -- Folders and leases are for all to read, as the reference's; nobody else writes.
      if tonumber(mode, 8) & 18 ~= 0 then open[#open + 1] = path end
      assert.is_falsy((t.read(path) or ""):find(token, 1, true), path)
    end
    t.same({}, open)
    w:ok("DEL", { type = "luacni" })
  end)
end)
