-- SPDX-License-Identifier: MIT
-- Who answers at a port, and whom does it see? Servers and clients of TCP and UDP, in any namespaces.

local t = require "support"

-- socat writes an IPv4 client of an IPv6 socket in full.
local function short(line)
  return (line:gsub("[%[%]]", ""):gsub("0000:0000:0000:0000:0000:ffff:(%x%x)(%x%x):(%x%x)(%x%x)", function(...)
    local bytes = { ... }
    for i, hex in ipairs(bytes) do bytes[i] = tonumber(hex, 16) end
    return table.concat(bytes, ".")
  end))
end

-- Listeners, { ns, "TCP4", port, name }, and clients, { ns, "TCP4", address, port }. Gives what each client was
-- answered, "name source", or "" when nobody did.
return function(listeners, clients)
  local sh = { "exec 2>/dev/null; trap 'kill $pids' EXIT" }
  for _, l in ipairs(listeners) do
    local kind = l[2] .. (l[2]:find("UDP") and "-RECVFROM" or "-LISTEN")
    sh[#sh + 1] = ("nsenter --net=%s socat -t5 %s:%d,reuseaddr,fork%s SYSTEM:'read x; echo %s $SOCAT_PEERADDR' & pids=\"$pids $!\"")
      :format(l[1].path, kind, l[3], l[2]:find("6") and ",ipv6only=1" or "", l[4])
  end
  for _, l in ipairs(listeners) do
    sh[#sh + 1] = ("for i in $(seq 60); do nsenter --net=%s ss -Hln --%s -%s sport = :%d | grep -q . && break; sleep 0.05; done")
      :format(l[1].path, l[2]:sub(1, 3):lower(), l[2]:sub(4), l[3])
  end
  for _, c in ipairs(clients) do
    local at = c[2]:find("6") and "[" .. c[3] .. "]" or c[3]
    sh[#sh + 1] = ("for i in 1 2; do a=$(echo x | nsenter --net=%s timeout 4 socat -t2 - %s:%s:%d%s); [ \"$a\" ] && break; done; echo \"=$a\"")
      :format(c[1].path, c[2], at, c[4],
      c[2]:find("TCP") and ",connect-timeout=2" or (c[5] and ",sourceport=" .. c[5] or ""))
  end
  sh[#sh + 1] = "trap - EXIT; kill $pids; wait"
  local answers = {}
  for line in t.sh(table.concat(sh, "\n")):gmatch "=([^\n]*)" do answers[#answers + 1] = short(line) end
  return answers
end
