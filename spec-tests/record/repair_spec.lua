-- SPDX-License-Identifier: MIT
-- `luacni repair` brings back what is missing of attachments, for every plugin and everything that can be
-- broken of it (plugins.lua); it touches nothing else, and DEL takes all of it back.
--
-- Seconds a test takes on the second kernel: 30

local cli = require "cli"
local plugins = require "plugins"
local t = require "support"

-- Differences, but for link-local addresses, which come some time after the carrier, and the numbers that the
-- kernel gives to what is new.
local function changes(before, after)
  local lines = {}
  for _, line in ipairs(t.differences(before, after)) do
    -- Ports are listed by them, too; CHECK compares their VLANs.
    local numbers = line:find("link_index: ", 1, true) or line:find("^records%.shared/.*/facts: ")
      or line:find("kernel%.%w+%.vlans%.%d")
    if not line:find("fe80::", 1, true) and not numbers then lines[#lines + 1] = line end
  end
  return table.concat(lines, "\n")
end

-- What a repair leaves as it is: what is broken, of which entries, and why.
local left = {
  { "lease", why = "an ADD alone decides who has an address" },
  { "interface is gone", of = "layer 2", why = "nothing tells that it was not a DEL, done by somebody else" },
  { "lo is down", why = "likewise" },
  { "interface is gone", of = "^host%-device", why = "there is no such device any more" },
  { "name", of = "^host%-device", why = "a device is moved by an ADD alone" },
  { "MAC", of = "^host%-device", why = "likewise" },
  { "interface is gone", of = "^sbr", why = "it is another plugin's" },
  { "interface is gone", of = "^tuning", why = "likewise" },
  { "kind is another", why = "the link is not ours" },
  { "VLAN is another", why = "the kernel changes the VLAN of no link" },
  { "protocol is another", why = "nor its protocol" },
  { "interface is gone", of = "^ipvlan on top", why = "nothing tells that it was not a DEL" },
  { "master is gone", of = "sandbox", why = "it is not ours" },
  { "bridge is gone", of = "^tap", why = "nor is that" },
  { "range leads elsewhere", of = "^portmap", why = "another attachment has it" },
  { "interface is not in it", of = "^vrf", why = "nothing tells that it was not a DEL: it is all that is its own" },
  { "VRF is gone", of = "^vrf", why = "likewise" },
  { "the interface is gone", of = "^dhcp", why = "likewise, where no runtime has stored the attachment" },
}

-- On the second kernel, which is slow, what is no different there is not broken once more, and of the rest one.
local known = { ["the IPv4 address is gone"] = true, ["the IPv6 address is gone"] = true, ["the MAC is another"] = true,
  ["the interface is down"] = true, ["the lease is gone"] = true, ["the kind is another"] = true }

-- What somebody has added stays after DEL.
local theirs = { ["the default route has another gateway"] = true }

-- What a server tells again has other times.
local retold = { ["what the server has granted is not known"] = true }

local function is_left(entry, broken)
  for _, item in ipairs(left) do
    if broken[1]:find(item[1]) and entry.name:find(item.of or "") then
      item.occurs = true
      return true
    end
  end
end

-- What is wrong with a repair of a world in which something was broken, or nil.
local function judge(w, entry, broken, whole)
  local command = broken.sh:gsub("@PORT@", function() return w:port().ifname end)
  t.run(command, { host = broken.at == "host" and w.host or w.pods[1] })
  w:so_be_it()
  w:fails "CHECK"
  local out, status, err = cli.luacni { "repair" }
  w:so_be_it()
  local stays = is_left(entry, broken)
  if stays and status == 0 then return "a repair brings it back, although " .. broken[1] end
  if stays then return end
  if status ~= 0 then return "repair fails: " .. out .. err end
  if out == "" then return "repair says nothing" end
  local got = w:call "CHECK"
  if got.rc ~= 0 then return "CHECK is not content: " .. got.out .. "; repair said " .. out end
  if not whole then return end
  local lines = changes(whole, w:picture())
  if lines ~= "" and not theirs[broken[1]] and not retold[broken[1]] then return "it is not as it was: " .. lines end
  out, status, err = cli.luacni { "repair" }
  if out ~= "" or status ~= 0 then return "a second repair says: " .. out .. err end
end

for _, entry in t.due(plugins.list, 3) do
  describe(entry.name .. ":", function()
    it("what is broken is repaired, CHECK is content, and DEL leaves nothing", function()
      t.needs(table.unpack(entry.needs or {}))
      local complaints, w, before = {}, nil, nil
      local count = 0
      for i, broken in ipairs(entry.breaks) do
        if t.guest and (known[broken[1]] or count == 1) then goto next end
        count = count + 1
        if not w then
          t.wipe()
          w = plugins.world(entry)
          before = w:picture()
        end
        w:add { prev = plugins.prev(entry, w.pods[1]) }
        cli.host = w.host
        -- A picture takes long on the second kernel.
        local looks = not t.guest or i == 1
        local why = judge(w, entry, broken, looks and w:picture() or nil)
        w:call "DEL"
        w:so_be_it()
        local rest = changes(before, w:picture())
        local expected = is_left(entry, broken) or theirs[broken[1]]
        if rest ~= "" and not expected then why = (why or "") .. " after DEL: " .. rest end
        if why then complaints[#complaints + 1] = broken[1] .. ": " .. why end
        -- Only what is not the plugin's own is still broken.
        if rest ~= "" or why then
          t.cleanup()
          w = nil
        end
        ::next::
      end
      if #complaints > 0 then error(table.concat(complaints, "\n"), 0) end
    end)
  end)
end
