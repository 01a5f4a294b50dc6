-- SPDX-License-Identifier: MIT
--- Resolver settings from a file in the format of resolv.conf(5).
-- @module cni.resolv

local sys = require("netlink").sys
local fail = require "cni.fail"

local M = {}

local size_limit = 1 << 20

--- Read the settings in a text.
-- @string text
-- @treturn table `nameservers`, `domain`, `search`, `options`; absent what the text does not have
function M.parse(text)
  local dns, nameservers, search, options = {}, {}, {}, {}
  local function append(list, words)
    table.move(words, 2, #words, #list + 1, list)
  end
  for line in text:gmatch("[^\n]+") do
    local words = {}
    for word in line:gmatch("%S+") do words[#words + 1] = word end
    local key, value = words[1], words[2]
    if key == "nameserver" then
      nameservers[#nameservers + 1] = value
    elseif key == "domain" then
      dns.domain = value or dns.domain
    elseif key == "search" then
      append(search, words)
    elseif key == "options" then
      append(options, words)
    end
  end
  dns.nameservers = nameservers[1] and nameservers or nil
  dns.search = search[1] and search or nil
  dns.options = options[1] and options or nil
  return dns
end

--- What the key `resolvConf` of an IPAM configuration gives. Only an ADD has a use for it, and only an ADD
-- may fail for want of it.
-- @tparam table req
-- @treturn table|nil of @{parse}
-- @raise code 7 when it cannot be read
function M.of(req)
  local path = req.conf.ipam.resolvConf
  if not path or req.command == "CHECK" or req.command == "DEL" then return nil end
  return M.read(path)
end

--- Read the settings in a file.
-- @string path
-- @treturn table of @{parse}
-- @raise code 7 when it cannot be read
function M.read(path)
  local text, msg, errno = sys.read_file(path, size_limit)
  if not text then
    fail.throw { code = fail.codes.config, msg = "ipam.resolvConf: " .. msg, errno = errno }
  end
  return M.parse(text)
end

return M
