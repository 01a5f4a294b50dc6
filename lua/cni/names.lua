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

--- Why a text cannot be the name of a network interface.
-- @string text
-- @treturn ?string nil when it can
-- @treturn ?string details
function M.ifname_problem(text)
  if text == "" then return "interface name is empty" end
  if #text > 15 then
    return "interface name is too long",
      "it has " .. #text .. " bytes, and must have less than 16"
  end
  if text == "." or text == ".." then return "interface name is . or .." end
  if text:find("[/:%s]") then
    return "interface name contains / or : or whitespace characters"
  end
  if not text:find("[\128-\255%%\0]") then return nil end
  if text:find("\0", 1, true) then return "interface name contains a zero byte" end
  if not utf8.len(text) then return "interface name is not UTF-8" end
  if has_wide_space(text) then
    return "interface name contains / or : or whitespace characters"
  end
  -- The kernel reads it as a pattern (eth%d) and picks another name than was asked for.
  if text:find("%", 1, true) then return "interface name contains %" end
  return nil
end

return M
