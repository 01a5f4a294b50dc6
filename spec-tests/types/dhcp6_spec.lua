-- SPDX-License-Identifier: MIT
-- The type dhcp and IPv6.
--
-- Seconds a test takes on the second kernel: 20

local t = require "support"
local dhcp = require "dhcp_world"
local dhcp6 = require "dhcp6_world"
local on_master = require "on_master"

after_each(dhcp.stop_all)

describe("The type dhcp", function()
  it("gets an address of a DHCPv6 server, and gives it back", function()
    local w = dhcp6.new()
    local before = on_master.glance(w)
    local began = require("netlink").sys.clock()
    local got = w:call("ADD"); if got.rc ~= 0 then print(got.out, t.read "/run/spec/daemon.out", t.run("ip -6 addr; ip -6 route; ss -lunp; cat /proc/net/snmp6 | grep -v [^0-9]0$", { host = w.far })) end
    local result = got.json
    print(require("netlink").sys.clock() - began, t.json(result))
    print(t.read(dhcp6.path))
    print(t.run("ip -6 addr; ip -6 route", { host = w.pods[1] }))
    w:check()
    w:del()
    print(t.read "/run/spec/daemon.out")
    dhcp6.await_given(0)
    on_master.unchanged(w, before)
  end)
end)
