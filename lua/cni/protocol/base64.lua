-- SPDX-License-Identifier: MIT
--- Base64 (RFC 4648, with padding): how bytes are written in JSON, by Go's encoder for one.
-- @module cni.protocol.base64

local M = {}

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local char = string.char
-- A digit by its value, the value by the digit's byte.
local digit, value = {}, { [("="):byte()] = 0 }
for i = 1, #alphabet do digit[i - 1], value[alphabet:byte(i)] = alphabet:sub(i, i), i - 1 end

--- Print bytes.
-- @string bytes
-- @treturn string
function M.encode(bytes)
  local parts = {}
  for at = 1, #bytes, 3 do
    local a, b, c = bytes:byte(at, at + 2)
    local bits = a << 16 | (b or 0) << 8 | (c or 0)
    parts[#parts + 1] = digit[bits >> 18] .. digit[bits >> 12 & 63]
      .. (b and digit[bits >> 6 & 63] or "=") .. (c and digit[bits & 63] or "=")
  end
  return table.concat(parts)
end

--- Read what @{encode} prints.
-- @string text
-- @treturn string|nil nil: it is no such text
function M.decode(text)
  if #text % 4 ~= 0 or not text:find "^[A-Za-z0-9+/]*=?=?$" then return nil end
  local parts = {}
  for at = 1, #text, 4 do
    local a, b, c, d = text:byte(at, at + 3)
    local bits = value[a] << 18 | value[b] << 12 | value[c] << 6 | value[d]
    parts[#parts + 1] = char(bits >> 16, bits >> 8 & 255, bits & 255)
  end
  return table.concat(parts):sub(1, -1 - #text:match "=*$")
end

return M
