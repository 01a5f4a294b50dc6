-- SPDX-License-Identifier: MIT
-- State is lost between two verbs: our records, the leases, the link, the rules, the sandbox. For every
-- plugin of the table, after ADD, after CHECK and after DEL: DEL takes back what is left of the attachment,
-- CHECK says what is missing, ADD makes it anew, GC is content; another container of the same network
-- notices nothing. What cannot be as it was is named here.
--
-- Seconds a test takes on the second kernel: 8

local plugins = require "plugins"
local t = require "support"

local function with_masquerade(entry) return plugins.conf(entry).ipMasq end
local function with_leases(entry) return (entry.ips or 0) > 0 end
local function with_link(entry) return not entry.ipam and plugins.type(entry) ~= "loopback" end
local function any() return true end

-- The interface is not that of a plugin before it in the chain.
local function makes_link(entry)
  return with_link(entry) and not (entry.prev and entry.prev.interfaces[1].name == "eth0")
end

-- What is lost: name, whether an entry has it, `lose` (of a world's first pod), `expected` (changes a picture
-- of the world to one without it), `complains` (whether CHECK has to), `shared` (the other container loses
-- it too, so that its CHECK complains as well), `stays` (what DEL cannot make as it was: which entries'
-- names match, which lines of the difference, and why; it has to occur).
local losses = {
  { "the records", any, lose = function() t.run("rm -rf /run/luacni") end,
    expected = function(shot) shot.records = {} end,
    stays = {
      { "^loopback", "kernel%.pod1%..*lo", why = "whether lo was up before, the record alone tells" },
      { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
        why = "whether a device was up, and its alias, the record alone tells" } } },
  { "the leases", with_leases, shared = true, complains = true,
    lose = function() t.run("rm -rf " .. t.lease_dir .. "/*") end,
    expected = function(shot) shot.leases = {} end },
  { "the link", makes_link, complains = true,
    lose = function(w) w:in_pod("ip link del eth0") end, expected = function() end,
    stays = { { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
      why = "a device that was deleted in the sandbox is no more" } } },
  { "the rules", with_masquerade, shared = true, complains = true,
    lose = function(w) w:sh(t.flush) end,
    expected = function(shot)
      for rule in pairs(shot.kernel.host.nft) do
        if rule:find('"luacni"', 1, true) then shot.kernel.host.nft[rule] = nil end
      end
    end },
  { "the namespace", with_link, complains = true,
    lose = function(w)
      t.remove_netns(w.pods[1])
      w.gone, w.pods[1] = w.pods[1], nil
    end,
    expected = function(shot) shot.kernel.pod1 = nil end,
    stays = { { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
      why = "a pair of links goes with the namespace of either" } } },
}

-- A picture of what must be the same: the pods that there are, in order.
local function picture(w)
  local ns = { w.host }
  for n = 1, 2 do ns[#ns + 1] = w.pods[n] end
  return t.snapshot({ ns = ns })
end

local function first(w, entry)
  return { prev = plugins.prev(entry, w.pods[1] or w.gone), pod = not w.pods[1] and w.gone.path or nil }
end

-- The configurations of entries can be those of a pod each.
local function second(w, entry)
  return { id = "c2", pod = 2, conf = plugins.conf(entry, 2), prev = plugins.prev(entry, w.pods[2]) }
end

local function without_prev(call) return t.with(call, { prev = false }) end

-- The other container has all that it had.
local function other_is_content(w, entry, loss)
  if not loss.shared then w:check(without_prev(second(w, entry))) end
  for _, address in ipairs(w.reached) do
    assert.is_true(t.ping(w.pods[2], address), "the other container does not reach " .. address)
  end
end

-- Raise for each difference that is not named, and for a name that nothing bears.
local function compare(w, expected, entry, loss)
  local bad, named = {}, nil
  for _, item in ipairs(loss and loss.stays or {}) do
    if entry.name:find(item[1]) then named = item end
  end
  local occurs = false
  for _, line in ipairs(t.differences(expected, picture(w))) do
    if named and line:find(named[2]) then
      occurs = true
    elseif not line:find("fe80::", 1, true) then
      bad[#bad + 1] = line
    end
  end
  if named and not occurs then bad[#bad + 1] = "nothing stays, though " .. named.why end
  if #bad > 0 then error(table.concat(bad, "\n"), 2) end
end

local function prepared(entry, loss)
  t.wipe()
  local w = plugins.world(entry, 2)
  w:add(second(w, entry))
  w.reached = {}
  for _, address in ipairs(entry.reach or {}) do
    -- Where pods have configurations of their own, the far side may know the first one's alone.
    if t.ping(w.pods[2], address) then
      w.reached[#w.reached + 1] = address
    else
      assert.is_function(entry.conf, "the other container never reaches " .. address)
    end
  end
  local before = picture(w)
  if loss then loss.expected(before) end
  return w, before
end

for _, entry in ipairs(plugins.list) do
  describe(entry.name .. ":", function()
    for _, loss in ipairs(losses) do
      if loss[2](entry) then
        it("with " .. loss[1] .. " of an attachment lost, CHECK and DEL do what is right", function()
          t.needs(table.unpack(entry.needs or {}))
          local w, expected = prepared(entry, loss)
          w:add(first(w, entry))
          w:check()
          loss.lose(w)
          if loss.complains then
            w:fails("CHECK", { pod = w.gone and w.gone.path or nil })
          else
            w:check()
          end
          other_is_content(w, entry, loss)
          for _ = 1, 2 do
            w:del({ pod = w.gone and w.gone.path or nil })
            compare(w, expected, entry, loss)
            other_is_content(w, entry, loss)
          end
        end)

        if loss[1] == "the records" then
          it("with " .. loss[1] .. " lost after DEL, DEL, GC and the next ADD do what is right", function()
            t.needs(table.unpack(entry.needs or {}))
            local w, expected = prepared(entry, loss)
            w:add(first(w, entry))
            w:del()
            loss.lose(w)
            w:del()
            compare(w, expected, entry)
            w:gc({ { "c2" } })
            compare(w, expected, entry)
            w:add(first(w, entry))
            w:check()
            other_is_content(w, entry, loss)
            w:del()
            compare(w, expected, entry)
            other_is_content(w, entry, loss)
          end)
        end
      end
    end

    if with_link(entry) and not entry.pod and not entry.each then
      for what, lose in pairs({ [""] = function() end, [" and the record is lost"] = losses[1].lose }) do
        it("when the sandbox's path names another by then" .. what .. ", DEL leaves that one's link", function()
          t.needs(table.unpack(entry.needs or {}))
          local w, expected = prepared(entry)
          w:add()
          lose()
          local port = w:port(1)
          t.remove_netns(w.pods[1])
          -- The kernel takes a namespace apart some time after it was removed.
          for _ = 1, 100 do
            if not port or not t.link(w.host, port.ifname) then break end
            t.sh("sleep 0.05")
          end
          w.pods[1] = t.netns("pod1", { lo = "down" })
          w:add({ id = "c9" })
          w:del()
          w:del({ prev = false })
          w:check({ id = "c9" })
          for _, address in ipairs(entry.reach or {}) do
            assert.is_true(t.ping(w.pods[1], address), address)
          end
          other_is_content(w, entry, { shared = what ~= "" })
          w:del({ id = "c9" })
          if what ~= "" then expected.records = {} end
          compare(w, expected)
        end)
      end
    end
  end)
end
