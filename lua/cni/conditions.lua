-- SPDX-License-Identifier: MIT
--- Conditions on packets, as the reference's portmap takes them: words of iptables or of nft. Those about
-- source and destination addresses are understood; any other is refused, and never passed over.
--
--     -d 192.0.2.0/24 ! -s 10.0.0.0/8
--     ip daddr 192.0.2.0/24 ip saddr != { 10.0.0.0/8, 172.16.0.0/12 }
--
-- @module cni.conditions

local addr = require "cni.addr"
local published = require "cni.published"

local M = {}

local options = {
  ["-s"] = "from", ["--source"] = "from", ["--src"] = "from",
  ["-d"] = "at", ["--destination"] = "at", ["--dst"] = "at",
}
local fields = { saddr = "from", daddr = "at" }
local words = { inet = "ip", inet6 = "ip6" }

local function parse(text)
  local cidr = addr.parse(text)
  local bytes = not cidr and addr.ip(text)
  return cidr or bytes and addr.cidr(bytes)
end

-- The prefixes from a word on, one or several with commas or braces; and the place of the word behind them.
local function prefixes(list, at, family)
  local out, braces = {}, list[at] == "{"
  if braces then at = at + 1 end
  while true do
    local cidr = list[at] and parse(list[at])
    if not cidr then return nil, ("expected an address or a prefix, got %q"):format(list[at] or "") end
    if cidr.family ~= family then return nil, ("%s is not of this family"):format(list[at]) end
    out[#out + 1] = cidr
    at = at + 1
    if list[at] == "," then
      at = at + 1
    elseif not braces then
      return out, at
    elseif list[at] == "}" then
      return out, at + 1
    end
  end
end

-- Read the conditions: intervals by `from` and `at`; or nil and what is wrong.
local function read(tokens, family)
  local list, at = {}, 1
  for word in table.concat(tokens, " "):gsub("[{},!]=?", " %0 "):gmatch "%S+" do list[#list + 1] = word end
  local whole = published.others({}, family)
  local limits = { from = whole, at = whole }
  while list[at] do
    local inverted = list[at] == "!"
    if inverted then at = at + 1 end
    local side = options[list[at]]
    if side then
      at = at + 1
    elseif not inverted and list[at] == words[family] and fields[list[at + 1]] then
      side, at = fields[list[at + 1]], at + 2
      inverted = list[at] == "!="
      if inverted or list[at] == "==" then at = at + 1 end
    else
      local example = family == "inet" and "192.0.2.0/24" or "2001:db8::/32"
      return nil, ("%q is not served: conditions are about source and destination addresses, such as -d %s "
        .. "or %s daddr %s"):format(list[at] or "", example, words[family], example)
    end
    local found, next_at = prefixes(list, at, family)
    if not found then return nil, next_at end
    local intervals = published.intervals(found, family)
    limits[side] = published.both(limits[side], inverted and published.others(intervals, family) or intervals)
    at = next_at
  end
  return limits
end

--- What is wrong with conditions.
-- @tparam {string,...}|nil tokens
-- @tparam string family inet or inet6
-- @tparam string key of the configuration
-- @treturn string|nil
function M.problem(tokens, family, key)
  if not tokens then return nil end
  local limits, problem = read(tokens, family)
  return not limits and key .. ": " .. problem or nil
end

--- Which packets conditions are for.
-- @tparam {string,...}|nil tokens that have no problem
-- @tparam string family inet or inet6
-- @treturn table|nil `from` and `at`: intervals of source and destination addresses; nil: all
function M.limits(tokens, family)
  return tokens and #tokens > 0 and read(tokens, family) or nil
end

return M
