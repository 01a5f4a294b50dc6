-- SPDX-License-Identifier: MIT
--- Which names the specification and the kernel allow.
-- @module cni.names

local M = {}

--- Whether a text can be a container ID or a network name: a letter or digit, then
-- letters, digits, `_`, `.` and `-`. Such a name is also safe as a file name.
-- @string text
-- @treturn boolean
function M.is_id(text)
  return text:find("^[A-Za-z0-9][A-Za-z0-9_.-]*$") ~= nil
end

-- Unicode white space beyond ASCII, by code point.
local function is_wide_space(c)
  return c == 0x85 or c == 0xA0 or c == 0x1680 or c >= 0x2000 and c <= 0x200A
    or c == 0x2028 or c == 0x2029 or c == 0x202F or c == 0x205F or c == 0x3000
end

local function has_wide_space(text)
  for _, c in utf8.codes(text) do
    if is_wide_space(c) then return true end
  end
  return false
end

--- Why the specification does not allow a text as the name of a network interface.
-- @string text
-- @treturn ?string nil when it does
-- @treturn ?string hint
function M.ifname_problem(text)
  if text == "" then return "interface name is empty" end
  if #text > 15 then
    return "interface name is too long",
      "it has " .. #text .. " bytes, and must have less than 16"
  end
  if text == "." or text == ".." then
    return "interface name is . or ..", "a link has a folder of its name in /sys/class/net"
  end
  if text:find("[/:%s]") or text:find("[\128-\255]") and utf8.len(text) and has_wide_space(text) then
    return "interface name contains / or : or whitespace characters", "a name has none of them"
  end
  return nil
end

-- Folders of settings that are no link's.
local no_links = { all = true, default = true }

--- Why no link can have a name: the specification does not allow it, or the kernel does not.
-- @string text
-- @treturn ?string nil when one can
-- @treturn ?string hint
function M.link_problem(text)
  local problem, hint = M.ifname_problem(text)
  if problem then return problem, hint end
  if no_links[text] then
    return "interface name is all or default", ("/proc/sys/net/ipv4/conf/%s is no link's"):format(text)
  end
  if not text:find("[\128-\255%%\0]") then return nil end
  if text:find("\0", 1, true) then return "interface name contains a zero byte" end
  if not utf8.len(text) then return "interface name is not UTF-8", "no result could name it" end
  if text:find("\xa0", 1, true) then
    return "interface name contains the byte A0",
      "the kernel takes it for white space, though it is a part of letters such as \u{e0}"
  end
  if text:find("%", 1, true) then
    return "interface name contains %",
      "the kernel takes it for a pattern, such as eth%d, and chooses a name itself"
  end
  return nil
end

return M
