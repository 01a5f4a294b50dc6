-- SPDX-License-Identifier: MIT
-- luacni tree

local attachments = require "cni.command.attachments"
local fail = require "cni.fail"
local host = require "host"
local job = require "cni.command.job"
local json = require "cni.json"
local kinds = require "cni.links.kinds"
local netlink = require "netlink"
local say = require "cni.command.say"

local link_keys = { "index", "name", "kind", "up", "loopback", "master", "link", "link_netnsid" }

local function checked(what, value, msg, errno)
  if not value then fail.kernel(what, msg, errno) end
  return value
end

local function addresses_of(h, index)
  local list = json.list {}
  for _, entry in ipairs(h:dump("addr", { index = index }, { "address", "scope" }) or {}) do
    if entry.scope ~= "link" then list[#list + 1] = tostring(entry.address) end
  end
  return list
end

-- A link as it is told.
local function node_of(link, addresses)
  return { name = link.name, kind = link.kind or (link.loopback and "loopback" or "device"), up = link.up,
    addresses = addresses, below = json.list {} }
end

-- The interface of an attachment. A script may call its link otherwise than the runtime: the result tells.
local function interface_of(h, entry)
  local link = h:get("link", { name = entry.interface }, link_keys)
  for _, record in ipairs(entry.records) do
    for _, interface in ipairs(record.done and record.done.interfaces or {}) do
      link = link or h:get("link", { name = interface.name }, link_keys)
    end
  end
  return link
end

-- The end of an attachment: what its interface is, and the index of the host's link that it hangs on.
local function leaf_of(entry)
  local leaf = attachments.told(entry)
  leaf.kind = "attachment"
  local ns <close> = attachments.namespace(entry)
  local h <close> = ns and netlink.open(ns)
  local link = h and interface_of(h, entry)
  if not link then return leaf end
  leaf.link = { name = link.name, kind = link.kind or "device", up = link.up }
  leaf.addresses = addresses_of(h, link.index)
  -- Without a number the other link is in the same namespace.
  return leaf, link.link_netnsid and link.link, link.index
end

-- A pair's ends name each other; other kinds name the link that they stand on.
local function belongs(link, leaf, index)
  local kind = leaf.link.kind
  return link ~= nil and (not kinds.pairs[kind] or link.kind == kind and link.link == index)
end

-- The index of the link that one is plugged into or stands on. A pair's ends stand side by side.
local function parent_of(link)
  return link.master or not kinds.pairs[link.kind] and not link.link_netnsid and link.link or nil
end

-- The nodes of the host's links, hung together: those with an attachment below them, and what else is plugged
-- into the same bridge. Attachments that hang on no link of the host come beside.
local function picture(list)
  local h <close> = checked("open netlink", netlink.open())
  local links = checked("list the links", h:dump("link", nil, link_keys))
  local nodes, by_index, wanted, loose = {}, {}, {}, json.list {}
  for _, link in ipairs(links) do
    by_index[link.index] = link
    nodes[link.index] = node_of(link, addresses_of(h, link.index))
  end
  -- What is wanted of a link is wanted of what it hangs on.
  local function want(index)
    while index and by_index[index] and not wanted[index] do
      wanted[index] = true
      index = parent_of(by_index[index])
    end
  end
  for _, entry in ipairs(list) do
    local leaf, on, index = leaf_of(entry)
    if on and belongs(by_index[on], leaf, index) then
      table.insert(nodes[on].below, leaf)
      want(on)
    else
      loose[#loose + 1] = leaf
    end
  end
  local roots = json.list {}
  for _, link in ipairs(links) do
    local on = parent_of(link)
    local beside = link.master and wanted[link.master]
    if (wanted[link.index] or beside) and nodes[on] and on ~= link.index then
      table.insert(nodes[on].below, nodes[link.index])
    elseif wanted[link.index] then
      roots[#roots + 1] = nodes[link.index]
    end
  end
  return roots, loose
end

local function words_of(node)
  if node.kind ~= "attachment" then
    return ("%s  %s%s%s"):format(node.name, node.kind, node.up and "" or ", down",
      node.addresses[1] and "  " .. table.concat(node.addresses, " ") or "")
  end
  local note = attachments.unusual(node) or not node.link and "there is no such interface"
  local other = node.link and node.link.name ~= node.interface and (" (%s)"):format(node.link.name) or ""
  return ("%s %s%s  network %s%s%s"):format(node.container, node.interface, other, node.network,
    node.addresses[1] and "  " .. table.concat(node.addresses, " ") or "",
    note and ("  (%s)"):format(note) or "")
end

local function is_utf8()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = host.getenv(name)
    if value and value ~= "" then return value:upper():find "UTF%-?8" ~= nil end
  end
  return false
end

local function draw(nodes, before, marks, lines)
  for i, node in ipairs(nodes) do
    local last = i == #nodes
    lines[#lines + 1] = before .. (last and marks.last or marks.mid) .. words_of(node)
    draw(node.below or {}, before .. (last and marks.none or marks.on), marks, lines)
  end
end

local function tell(roots, loose)
  local marks = is_utf8() and { mid = "├─ ", last = "└─ ", on = "│  ", none = "   " }
    or { mid = "|- ", last = "`- ", on = "|  ", none = "   " }
  local lines = {}
  for _, root in ipairs(roots) do
    lines[#lines + 1] = words_of(root)
    draw(root.below, "", marks, lines)
  end
  if loose[1] then
    lines[#lines + 1] = "on no link of the host"
    draw(loose, "", marks, lines)
  end
  say.lines(lines)
end

-- Graphviz: links are boxes, attachments are ovals.
local function dot(roots, loose)
  local lines, count = { "graph luacni {", "  rankdir=LR; node [shape=box];" }, 0
  local function quote(text) return '"' .. text:gsub('[\\"]', "\\%0") .. '"' end
  local function put(node, parent)
    count = count + 1
    local name = "n" .. count
    local label = quote((words_of(node):gsub("  +", "\n"))):gsub("\n", "\\n")
    lines[#lines + 1] = ("  %s [label=%s%s];"):format(name, label,
      node.kind == "attachment" and ", shape=ellipse" or "")
    if parent then lines[#lines + 1] = ("  %s -- %s;"):format(parent, name) end
    for _, below in ipairs(node.below or {}) do put(below, name) end
  end
  for _, root in ipairs(roots) do put(root) end
  for _, leaf in ipairs(loose) do put(leaf) end
  lines[#lines + 1] = "}"
  say.lines(lines)
end

return {
  words = "[NETWORK [WHO]]",
  about = "draw what is plugged in where",
  text = "The host's bridges and other links that attachments hang on, with their addresses, what else " ..
    "is plugged into those bridges, and the attachments with the addresses that their interfaces have " ..
    "now. WHO is a namespace's name or path, or a container's ID: of this one's attachments alone.",
  least = 0, most = 2, network = true,
  options = job.options({ "conf-dir" }, {
    dot = { about = "for graphviz: luacni tree --dot | dot -Tsvg >net.svg" },
    json = { about = "as JSON: links, what hangs on each in `below`" },
  }),
  examples = { "luacni tree", "luacni tree demo --json" },
  run = function(words, options)
    if options.dot and options.json then say.usage "tree: either --dot or --json" end
    local list = attachments.all(job.network_name(words[1], options), words[2])
    if not list[1] then job.must_be_known(words[1], options) end
    local roots, loose = picture(list)
    if options.json then return say.json { links = roots, others = loose } end
    if options.dot then return dot(roots, loose) end
    if not list[1] then return say.nothing(words[1], words[2]) end
    tell(roots, loose)
  end,
}
