-- SPDX-License-Identifier: MIT
--- Step `file`: a file of a container in a network, for another program to read; JSON, with the network's
-- `name`. What was there before is of an ADD that was never taken back, or of another network. Other
-- interfaces that the container has in the network use it too, and the last one takes it along; when all else
-- is taken back, for until then a DEL may need it.
-- @module cni.step.file

local files = require "cni.record.files"
local json = require "cni.json"
local siblings = require "cni.step.siblings"
local sys = require("netlink").sys

local M = { last = true }

function M.run(step)
  files.must(sys.mkdirs(step.want.path:match "^(.*)/", 448)) -- 0700
  files.must(sys.write_file(step.want.path, step.want.text))
end

function M.key(step) return step.want.path end

function M.change(_, to) M.run(to) end

-- Only a repair looks for it: nothing of the attachment depends on it while it lives.
function M.verify(step, plan)
  if plan.mode == "repair" and not files.exists(step.want.path) then return step.want.path .. " is gone" end
end

function M.mend(step)
  M.run(step)
  return true
end

-- What is there is another network's.
local function is_others(path, network)
  local ok, value = pcall(json.decode, files.read(path) or "")
  return ok and type(value) == "table" and type(value.name) == "string" and value.name ~= network
end

function M.undo(step, plan)
  local network = plan.owner.network
  if is_others(step.want.path, network) then return end
  if siblings.any(plan.owner, function(other) return other.network == network end) then return end
  files.unless_absent(sys.unlink(step.want.path))
end

--- Whether it is there: then something was made for which it was written.
function M.is_there(step) return files.exists(step.want.path) end

function M.say(step) return "write down what its DEL needs, in " .. step.want.path end

return M
