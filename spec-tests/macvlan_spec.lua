-- SPDX-License-Identifier: MIT
-- What plugin `macvlan` promises: a link of its own MAC on the wire of a host's link, and a shim
-- by which the host reaches it.

local t = require "support"
local world = require "world"
local on_master = require "on_master"

local with, refused = on_master.with, on_master.refused

on_master.promises({ describe = describe, it = it }, {
  needs = "macvlan", conf = { type = "macvlan" }, second = {}, finds = true, optional_ipam = true,
  far = "ip addr add 10.1.0.250/24 dev up0; ip -6 addr add fd01::fa/64 dev up0 nodad",
  wire = "up0",
  other = { "ip link set eth0 type macvlan mode vepa", "mode is vepa, not bridge" },
  like = "nsenter --net=/run/netns/host ip link add link up1 name eth0 netns pod1 " ..
    "address @MAC@ type macvlan mode bridge",
})
