-- SPDX-License-Identifier: MIT
--- Lend the sandbox a device of the host, until it is deleted.

local common = require "cni.common"
local devices = require "cni.devices"
local ipam = require "cni.ipam"
local schema = require "cni.schema"

local conf = schema.record {
  device = schema.ifname { empty = "absent", doc = "The device by its name;" },
  hwaddr = schema.mac { doc = "or by its MAC;" },
  kernelpath = schema.string { empty = "absent", pattern = "/sys/devices/[^\0]+",
    wanted = "a path below /sys/devices", doc = "or by its path in sysfs;" },
  pciBusID = schema.string { empty = "absent", pattern = "[%x:.]+",
    wanted = "a PCI address such as 0000:3b:00.1", doc = "or by its PCI address." },
  dns = common.dns, ipam = common.ipam,
  runtimeConfig = schema.record {
    deviceID = schema.string { empty = "absent", pattern = "[%w._:-]+",
      wanted = "a PCI address or the name of an auxiliary device",
      doc = "PCI or auxiliary device (capability `deviceID`)." },
  },
}

conf:check(function(c)
  if c.device == "lo" then return "device: every namespace keeps its own lo, which cannot be lent" end
end)

local function add(req)
  local c = req.conf
  local wanted = devices.wanted(c)
  -- A program in the sandbox drives the device itself: the kernel has no link for it.
  if devices.is_userspace(wanted) then
    return ipam.answer(req, ipam.add(req), { { name = req.ifname, sandbox = req.pod.sandbox,
      pciID = wanted.pci } })
  end
  local eth = req.host:lend_link(function() return devices.link_of(req.host, wanted) end,
    { ns = req.pod, name = req.ifname, wanted = wanted })
  eth.pciID = wanted.pci
  local lease = ipam.add(req)
  ipam.apply(lease, req.pod, eth)
  return ipam.answer(req, lease, { eth })
end

return { conf = conf, add = add }
