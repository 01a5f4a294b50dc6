-- SPDX-License-Identifier: MIT
-- luacni as a person calls it, in the namespace `M.host`, which each test sets.

local assert = require "luassert"
local t = require "support"

local M = {}

--- Call it. `opts` as of t.sh, and `cwd`: the folder that it is called in.
function M.luacni(words, opts)
  local from = opts and opts.cwd and { "env", "-C", opts.cwd } or {}
  from[#from + 1] = t.build .. "/luacni"
  table.move(words, 1, #words, #from + 1, from)
  return t.sh(from, t.merge({ host = M.host }, opts or {}))
end

--- What it prints, when it ends with 0.
function M.succeeds(words, opts)
  local out, status, err = M.luacni(words, opts)
  assert.equal(0, status, table.concat(words, " ") .. ": " .. out .. err)
  return out, err
end

--- It ends with a status, and says one line, with a text in it.
function M.fails(status, words, text, opts)
  local out, got, err = M.luacni(words, opts)
  t.same({ "", status, 1 }, { out, got, select(2, err:gsub("\n", "\n")) }, out .. err)
  assert.is_truthy(err:find(text, 1, true), err)
  return err
end

return M
