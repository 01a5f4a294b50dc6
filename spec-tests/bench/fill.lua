-- SPDX-License-Identifier: MIT
-- Nodes with thousands of attachments, made as the plugins would make them: what one ADD has left, the sample's,
-- is written down again and again with other addresses, ports and names. For the benches.

local cjson = require "cjson"

local M = { ports = 6, sample = 258 }

--- Run a command of the shell; a failure is an error.
function M.sh(...)
  local command = string.format(...)
  if not os.execute(command) then error("failed: " .. command, 0) end
end

--- What a command prints.
function M.output(...)
  local pipe = assert(io.popen(string.format(...)))
  local text = pipe:read("a")
  pipe:close()
  return (text:gsub("%s+$", ""))
end

--- Write a file.
function M.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

--- Address and ports of an attachment by its number, as texts of the same form.
function M.address(number) return ("10.8.%d.%d"):format(number >> 8, number & 255) end
function M.port(number, nth) return tostring(10000 + number * M.ports + nth) end

--- A text of the sample as another attachment has it.
function M.as(text, number, hash)
  text = text:gsub("%f[%d]" .. M.address(M.sample):gsub("%.", "%%.") .. "%f[^%d]", M.address(number))
  for nth = 0, M.ports - 1 do
    text = text:gsub("%f[%d]" .. M.port(M.sample, nth) .. "%f[^%d]", M.port(number, nth))
  end
  text = text:gsub('"([^"]*)c' .. M.sample, '"%1c' .. number)
  if hash then text = text:gsub(hash, hash:sub(1, -6) .. ("%05x"):format(number)) end
  return text
end

--- Have plugins of a folder make an attachment to a node, whose name the network has.
function M.call(dir, node, number, plugins)
  local prev
  for _, plugin in ipairs(plugins) do
    local conf = { cniVersion = "1.0.0", name = node, prevResult = prev }
    for key, value in pairs(plugin) do conf[key] = value end
    M.write("/run/conf", cjson.encode(conf))
    prev = cjson.decode(M.output("ip netns exec %s env -i PATH=$PATH CNI_COMMAND=ADD CNI_CONTAINERID=c%d "
      .. "CNI_NETNS=/run/netns/%s-%d CNI_IFNAME=eth0 CNI_PATH=%s %s/%s </run/conf", node, number, node, number, dir,
      dir, plugin.type))
    if prev.code then error(plugin.type .. ": " .. prev.msg, 0) end
  end
end

--- The configurations of the plugins that make one.
function M.chain(number, publishes)
  local mappings = {}
  for nth = 0, M.ports - 1 do
    mappings[nth + 1] = { hostPort = math.tointeger(M.port(number, nth)), containerPort = 80 + nth,
      protocol = nth == 0 and "udp" or "tcp" }
  end
  local list = { { type = "bridge", bridge = "br0", isDefaultGateway = true, ipMasq = true, ipam = { type = "static",
    addresses = { { address = M.address(number) .. "/16", gateway = "10.8.0.1" } } } },
    { type = "portmap", runtimeConfig = { portMappings = mappings } }, { type = "firewall" } }
  if not publishes then table.remove(list, 2) end
  return list
end

--- More attachments like the sample in our sets; `nft list` shows elements as it reads them.
function M.fill(node, first, last)
  local text, lines = M.output("ip netns exec %s nft list table inet luacni", node), {}
  for kind, name, body in text:gmatch("\n%s(%a+) ([%w_./]+) (%b{})") do
    local elements = (kind == "set" or kind == "map") and body:match("elements = (%b{})")
    local sample = {}
    for element in (elements or ""):sub(2, -2):gmatch("[^,]+") do
      if element:find("/c" .. M.sample .. "/", 1, true) then sample[#sample + 1] = element end
    end
    for number = first, #sample > 0 and last or 0 do
      lines[#lines + 1] = ("add element inet luacni %s {%s}"):format(name, M.as(table.concat(sample, ","), number))
    end
  end
  if #lines < 5 * (last - first + 1) then error("the sample has left nothing to fill a node with", 0) end
  M.write("/run/fill", table.concat(lines, "\n") .. "\n")
  M.sh("ip netns exec %s nft -f /run/fill", node)
end

return M
