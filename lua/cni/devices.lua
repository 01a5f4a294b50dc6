-- SPDX-License-Identifier: MIT
--- Devices of the host, as a configuration names them: by link, MAC, or place in sysfs.
-- @module cni.devices

local fail = require "cni.fail"
local files = require "cni.record.files"
local netlink = require "netlink"

local sys = netlink.sys
local M = {}

--- Where sysfs lists the devices of a bus.
M.buses = "/sys/bus"

local function device_path(bus, id)
  return ("%s/%s/devices/%s"):format(M.buses, bus, id)
end

--- Which device a configuration names.
-- @tparam table conf `device`, `hwaddr`, `kernelpath`, `pciBusID`, `runtimeConfig.deviceID`
-- @treturn table `device`, `hwaddr`, `kernelpath`, `pci` (address), `auxiliary` (name)
-- @raise code 7 when it names none, or one by an ID that no bus knows
function M.wanted(conf)
  local wanted = { device = conf.device, hwaddr = conf.hwaddr, kernelpath = conf.kernelpath,
    pci = conf.pciBusID }
  local id = conf.runtimeConfig and conf.runtimeConfig.deviceID
  if id and files.exists(device_path("pci", id)) then
    wanted.pci = id
  elseif id and files.exists(device_path("auxiliary", id)) then
    wanted.pci, wanted.auxiliary = nil, id
  elseif id then
    fail.config("runtimeConfig.deviceID",
      ("%s is neither a PCI nor an auxiliary device of this host"):format(id))
  end
  if not next(wanted) then
    fail.config("", "none of device, hwaddr, kernelpath, pciBusID and runtimeConfig.deviceID "
      .. "is given", "one of them names the device to lend")
  end
  return wanted
end

-- Drivers that hand a PCI device to a program.
local userspace = { ["vfio-pci"] = true, uio_pci_generic = true, igb_uio = true }

--- Whether a program drives the device itself (DPDK), so that it has no link.
-- @tparam table wanted from @{wanted}
-- @treturn boolean
-- @raise code 7 when it is a PCI device without a driver
function M.is_userspace(wanted)
  if not wanted.pci then return false end
  local driver = files.unless_absent(sys.readlink(device_path("pci", wanted.pci) .. "/driver"))
  if not driver then
    fail.config("pciBusID", ("PCI device %s is not there, or has no driver"):format(wanted.pci))
  end
  return userspace[driver:match("[^/]*$")] == true
end

-- The first link that a device has, by sysfs.
local function link_below(path)
  return files.list(path .. "/net")[1]
end

local function link_of_pci(path)
  local name = link_below(path)
  if name then return name end
  for _, entry in ipairs(files.list(path)) do
    name = entry:find("^virtio") and link_below(path .. "/" .. entry)
    if name then return name end
  end
end

local function link_by_mac(host, mac)
  for _, link in ipairs(host:dump("link")) do
    if link.mac == mac then return link.name end
  end
end

--- The name of the device's link.
-- @tparam handle host
-- @tparam table wanted from @{wanted}
-- @treturn string
-- @raise code 7 when there is no such link in the host
function M.link_of(host, wanted)
  local key, value, name
  if wanted.device then
    key, value = "device", wanted.device
    name = host:link(value) and value
  elseif wanted.hwaddr then
    key, value = "hwaddr", wanted.hwaddr
    name = link_by_mac(host, value)
  elseif wanted.kernelpath then
    key, value = "kernelpath", wanted.kernelpath
    name = link_below(value)
  elseif wanted.pci then
    key, value = "pciBusID", wanted.pci
    name = link_of_pci(device_path("pci", value))
  else
    key, value = "runtimeConfig.deviceID", wanted.auxiliary
    name = link_below(device_path("auxiliary", value))
  end
  if not name then
    fail.config(key, ("the host has no link for %s"):format(value),
      wanted.device and require("cni.links.obstacle").borrower(value) or nil)
  end
  return name
end

return M
