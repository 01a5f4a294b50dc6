-- SPDX-License-Identifier: MIT
-- What the specs of nf_tables share: a namespace with a handle on its rule set, and
-- what the program nft sees there.

local t = require "support"
local netlink = require "netlink"

local M = { new_table = { "add", "table", { family = "inet", name = "t" } } }

--- Before each test: a namespace and a handle. Returns both; `close` ends it.
function M.open()
  M.ns = t.netns("nft")
  M.h = assert(netlink.nft(M.ns.path))
  return M.ns, M.h
end

function M.close() M.h:close() end

--- What `nft -j list ruleset` has of one kind: a list, without handles.
function M.listed(kind)
  local out = {}
  for _, item in ipairs(t.many(M.ns, { "nft -j list ruleset" })[1].nftables) do
    local object = item[kind]
    if object then
      object.handle = nil
      out[#out + 1] = object
    end
  end
  return out
end

--- The rule set as people read it.
function M.text() return t.run("nft list ruleset", { host = M.ns }) end

--- The attributes of something in table `inet t`.
function M.in_t(fields)
  fields.family, fields.table = "inet", "t"
  return fields
end

--- Commit, with the table made first; an error is an error.
function M.commit(...) return assert(M.h:commit({ M.new_table, ... })) end

--- Add a set and give it elements; returns them as `nft -j` lists them.
function M.elements_of(set, elements, more)
  set.name = set.name or "s"
  local list = M.in_t({ set = set.name, elements = elements, key_type = set.key_type,
    data_type = set.data_type })
  for key, value in pairs(more or {}) do list[key] = value end
  M.commit({ "add", "set", M.in_t(set) }, { "add", "element", list })
  return M.listed(set.data_type and "map" or "set")[1].elem
end

--- A batch is a mistake, and the error says so.
function M.refuses(pattern, batch)
  local ok, msg = pcall(M.h.commit, M.h, batch)
  require("luassert").is_false(ok)
  require("luassert").matches(pattern, msg)
end

return M
