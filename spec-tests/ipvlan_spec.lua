-- SPDX-License-Identifier: MIT
-- What plugin `ipvlan` promises: a link that shares the MAC of a host's link and has addresses
-- of its own, alone or behind another plugin.

local t = require "support"
local world = require "world"
local on_master = require "on_master"

local refused, with = on_master.refused, on_master.with

on_master.promises({ describe = describe, it = it }, {
  needs = "ipvlan", conf = { type = "ipvlan" }, second = {}, finds = true,
  optional_ipam = true, shared_mac = true,
  far = "ip addr add 10.1.0.250/24 dev up0; ip -6 addr add fd01::fa/64 dev up0 nodad",
  wire = "up0",
  other = { "ip link set eth0 type ipvlan mode l3", "mode is l3, not l2" },
  like = "nsenter --net=/run/netns/host ip link add link up1 name eth0 netns pod1 " ..
    "type ipvlan mode l2",
})
