-- SPDX-License-Identifier: MIT
-- State is lost between two verbs. One table: for every plugin, every loss and every point between two
-- verbs, what the next verb does. DEL takes back what is left of the attachment, CHECK says what is missing,
-- ADD makes it anew or is refused, GC takes what is not valid and nothing else; another container of the same
-- network notices nothing. What cannot be as it was, and what a verb leaves for the next one, is named here.
--
-- All points of a loss share a world: each begins with the files and rules that the other container's ADD
-- has left, and has to end with them, but for what is lost.
--
-- Seconds a test takes on the second kernel: 15

local plugins = require "plugins"
local t = require "support"

local function with_masquerade(entry) return plugins.conf(entry).ipMasq end
local function publishes(entry) return plugins.type(entry) == "portmap" or plugins.type(entry) == "firewall" end
local function with_rules(entry) return with_masquerade(entry) or publishes(entry) end
local function with_leases(entry) return (entry.ips or 0) > 0 end
local function with_link(entry) return not entry.ipam and plugins.type(entry) ~= "loopback" end
local function any() return true end

-- The interface is not that of a plugin before it in the chain.
local function makes_link(entry)
  return with_link(entry) and not (entry.prev and entry.prev.interfaces[1].name == "eth0")
end

-- Without a record nothing tells that an attachment is there; but for a VRF, which the interface is in,
-- tables of sbr that no other attachment has, and what limits a link.
local function is_untold(entry)
  local conf = plugins.conf(entry)
  return not makes_link(entry) and not with_leases(entry) and conf.type ~= "vrf" and conf.type ~= "bandwidth"
    and not (conf.type == "sbr" and not conf.table)
end

-- A device would have to be made anew.
local function has_no_device(entry) return makes_link(entry) and not entry.each end

-- ---------------------------------------------------------------------------
-- What is lost
-- ---------------------------------------------------------------------------

local untold = {
  { "^loopback", "kernel%.pod1%..*lo", why = "whether lo was up before, the record alone tells" },
  { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
    why = "whether a device was up, and its alias, the record alone tells" },
  { "^sbr, a table", "kernel%.pod1%.rules", at = "ADD$",
    why = "who made a rule to a table that others may have too, the record alone tells" },
}

local function forget() t.run("rm -rf /run/luacni") end

-- Somebody removes the sandbox, and waits until the kernel has taken it apart.
local function remove_sandbox(w)
  local eth = t.link(w.pods[1], "eth0")
  local port = eth and eth.linkinfo and eth.linkinfo.info_kind == "veth" and w:port(1)
  t.remove_netns(w.pods[1])
  for _ = 1, 100 do
    if not port or not t.link(w.host, port.ifname) then break end
    t.sh("sleep 0.05")
  end
end

-- A sandbox of the first one's name.
local function new_sandbox(w, entry)
  w.pods[1] = t.netns("pod1", { lo = "down" })
  if entry.pod then w:in_pod(entry.pod) end
end

local function replace_sandbox(w, entry)
  remove_sandbox(w)
  new_sandbox(w, entry)
  w:add { id = "c9", prev = plugins.prev(entry, w.pods[1]) }
  w.other = true
end

-- Two links with the one MAC that the configuration gives are not told apart.
local function has_own_mac(entry) return not (plugins.conf(entry).runtimeConfig or {}).mac end

-- The container that comes in the place of one that is gone cannot have its ports before a DEL or GC.
local function publishes_nothing(entry) return has_no_device(entry) and not plugins.conf(entry).plugins end

local function no_pod(shot) shot.kernel.pod1 = nil end
local function no_records(shot) shot.records = {} end
local function nothing() end

local theirs = "/run/spec/theirs"

-- What is lost:
--   has        whether an entry has it
--   lose       of a world's first pod
--   back       it comes back (another runtime has it)
--   expected   changes a picture of the world to one without it
--   own        it is the first container's: nothing is lost before its ADD
--   attached   nor after its DEL
--   shared     the other container loses it too, so that its CHECK complains as well
--   complains  CHECK has to
--   again      whether a second ADD makes the attachment anew (or is refused); a function of the entry
--   given_back an ADD gives the other container back what it lost; a function of the entry
--   elsewhere  the first pod is another sandbox afterwards
--   stays      what is not as it was in the end: which entries' names match, which lines of the difference,
--              at which point (any), and why; it has to occur
local losses = {
  { "the records", has = any, lose = forget, expected = no_records,
    again = is_untold, stays = untold },
  { "the leases", has = with_leases, shared = true, complains = true,
    lose = function() t.run("rm -rf " .. t.lease_dir .. "/*") end,
    given_back = with_link,
    again = function(entry) return entry.ipam end,
    expected = function(shot) shot.leases = {} end,
    stays = { { "^host%-local", "^%- records%.attachments/every/c2",
      why = "an attachment that is a lease alone is none without it" },
      { "^cluster", "^%- records%.attachments/every/c2", why = "likewise" } } },
  { "the link", has = makes_link, own = true, complains = true, attached = true,
    lose = function(w) w:in_pod("ip link del eth0") end, expected = nothing,
    again = function(entry) return not with_leases(entry) end,
    stays = { { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
      why = "a device that was deleted in the sandbox is no more" } } },
  { "the rules", has = with_rules, shared = true, complains = true,
    lose = function(w) w:sh(t.flush) end, again = is_untold,
    expected = function(shot)
      for rule in pairs(shot.kernel.host.nft) do
        if rule:find('"luacni"', 1, true) then shot.kernel.host.nft[rule] = nil end
      end
    end,
    stays = { { "", '^%+ kernel%.host%.nft%.{"%a+":{"[cf]', at = "ADDs?$",
      why = "the empty set is the other container's too, by its record, until its DEL" },
      { "^portmap", '^%+ kernel%.host%.nft%.{"%a+":{', at = "ADDs?$",
        why = "chains and empty sets are the other container's too, by its record, until its DEL" } } },
  { "the namespace", has = with_link, own = true, complains = true, elsewhere = true,
    lose = function(w)
      w.gone = w.pods[1]
      remove_sandbox(w)
      w.pods[1] = nil
    end, again = any, expected = no_pod,
    stays = { { "^host%-device", "kernel%.host%.links%.%a%a%a1[ .]",
      why = "a pair of links goes with the namespace of either" },
      { "^bandwidth$", "kernel%.host%.links%.dev1 ", why = "likewise" } } },
  { "the namespace, whose path names another by then,", has = publishes_nothing, own = true,
    complains = has_own_mac, elsewhere = true, lose = replace_sandbox, again = function() return false end, expected = no_pod },
  { "the records and the namespace, whose path names another by then,", has = publishes_nothing, own = true,
    elsewhere = true, complains = has_own_mac, again = function() return false end, lose = function(w, entry)
      forget()
      replace_sandbox(w, entry)
    end, expected = function(shot) no_pod(shot) no_records(shot) end },
  { "the /run, which is another runtime's,", has = any, expected = nothing,
    lose = function() t.run(("rm -rf %s; mv /run/luacni %s"):format(theirs, theirs)) end,
    back = function() t.run("rm -rf /run/luacni; mv " .. theirs .. " /run/luacni") end,
    again = is_untold, stays = untold },
}

-- ---------------------------------------------------------------------------
-- A row: one loss, at one point
-- ---------------------------------------------------------------------------

local Row = {}
Row.__index = Row

-- A picture of what must be the same: the pods that there are, in order.
local function picture(w, loss)
  local ns = { w.host }
  if w.pods[1] and not loss.elsewhere then ns[2] = w.pods[1] end
  ns[#ns + 1] = w.pods[2]
  return t.snapshot({ ns = ns })
end

-- The configurations of entries can be those of a pod each.
local function second(w, entry)
  return { id = "c2", pod = 2, conf = plugins.conf(entry, 2), prev = plugins.prev(entry, w.pods[2]) }
end

function Row:call(more)
  local w = self.w
  local c = { pod = not w.pods[1] and w.gone.path or nil }
  for key, value in pairs(more or {}) do c[key] = value end
  return c
end

function Row:first()
  return self:call { prev = plugins.prev(self.entry, self.w.pods[1] or self.w.gone) }
end

function Row:add()
  self.w:add(self:first())
  self.w:check(self:call())
  local loss = self.loss
  if self.lost and loss.given_back and loss.given_back(self.entry) then
    self.lost, self.expected = false, self.whole
  end
end

function Row:lose()
  self.loss.lose(self.w, self.entry)
  self.lost = true
end

function Row:complains()
  local complains = self.loss.complains
  return type(complains) == "function" and complains(self.entry) or complains == true
end

function Row:check()
  if self:complains() then self.w:fails("CHECK", self:call()) else self.w:check(self:call()) end
end

-- The other container has all that it had, and so has one that lives where the first one's path leads.
function Row:others()
  local w, entry = self.w, self.entry
  if not (self.loss.shared and self.lost) then
    w:check(t.with(second(w, entry), { prev = false }))
  end
  if w.other then w:check { id = "c9" } end
  for _, address in ipairs(w.reached) do
    assert.is_true(t.answers(w.pods[2], address), "the other container does not reach " .. address)
    if w.other then assert.is_true(t.answers(w.pods[1], address), "nor does the new one: " .. address) end
  end
end

-- The first container has all that it had but for what was lost.
function Row:unharmed()
  local w, loss = self.w, self.loss
  if not self:complains() then w:check(self:call()) end
  if loss.own or not makes_link(self.entry) then return end
  assert.truthy(t.link(w.pods[1], "eth0"))
  for _, address in ipairs(w.reached) do
    assert.is_true(t.answers(w.pods[1], address), "the container does not reach " .. address)
  end
end

function Row:add_again(deleted)
  local w = self.w
  if deleted and not w.other or self.loss.again(self.entry) then
    if not w.pods[1] then new_sandbox(w, self.entry) end
    if self.entry.each and not t.link(w.host, "dev1") then w:sh((self.entry.each:gsub("@N@", 1))) end
    self:add()
  else
    w:fails("ADD", self:first())
    self:unharmed()
  end
end

-- GC: c2 is valid, c9 if there is one, and the first container if said so.
function Row:gc(valid)
  self.w:gc { { "c2" }, { "c9" }, valid and { "c1" } or nil }
end

function Row:back()
  if self.loss.back then self.loss.back() end
end

-- What stays of an entry at a point: `stays` of a loss that applies.
local function named(loss, entry)
  local items = {}
  for _, item in ipairs(loss.stays or {}) do
    if entry.name:find(item[1]) then items[#items + 1] = item end
  end
  return items
end

-- Raise for each difference that is not named.
function Row:compare()
  local bad = {}
  for _, line in ipairs(t.differences(self.expected, picture(self.w, self.loss))) do
    local excused = line:find("fe80::", 1, true)
    for _, item in ipairs(named(self.loss, self.entry)) do
      if line:find(item[2]) and self.point:find(item.at or "") then excused, self.occurred[item] = true, true end
    end
    if not excused then bad[#bad + 1] = line end
  end
  if #bad > 0 then error(table.concat(bad, "\n"), 2) end
end

function Row:ends()
  local w = self.w
  self:others()
  for _ = 1, 2 do
    w:del(self:call())
    if not w.other then self:compare() end
    self:others()
  end
  if not w.other then return end
  w:del { id = "c9" }
  w.other = nil
  self:compare()
end

-- The points between two verbs. `own`: also when what is lost is of the first container alone; `deleted`: it
-- has nothing of its own any more.
local points = {
  { "between two ADDs", function(row)
    row:lose()
    row:add()
    row:others()
    if row.loss.back then row.w:del() end
    row:back()
  end },
  { "after ADD, before CHECK and DEL", own = true, function(row)
    row:add()
    row:lose()
    row:check()
    row.w:del(row:call())
    row:back()
  end },
  { "after ADD, before ADD", own = true, function(row)
    row:add()
    row:lose()
    row:add_again()
    row:back()
  end },
  { "after ADD, before a GC for which it is valid", own = true, function(row)
    row:add()
    row:lose()
    row:gc(true)
    row:unharmed()
    row:back()
  end },
  { "after ADD, before a GC for which it is not", own = true, function(row)
    row:add()
    row:lose()
    row:gc(false)
    row:back()
  end },
  { "after DEL, before DEL, GC and ADD", own = true, deleted = true, function(row)
    row:add()
    row.w:del()
    row:lose()
    row.w:del(row:call())
    row:gc(false)
    row:add_again(true)
    row:back()
  end },
}

-- ---------------------------------------------------------------------------
-- The table
-- ---------------------------------------------------------------------------

local kept = "/run/spec/kept"

local function keep(w)
  t.run(([[rm -rf %s; mkdir -p %s %s; cp -a /run/luacni %s/run; cp -a %s %s/leases
    nft list table inet luacni >%s/rules 2>/dev/null || true]]):format(kept, kept, t.lease_dir, kept,
    t.lease_dir, kept, kept), { host = w.host })
end

local function restore(w, entry, loss)
  t.run(("rm -rf /run/luacni %s/*; cp -a %s/run /run/luacni; cp -a %s/leases/. %s"):format(t.lease_dir,
    kept, kept, t.lease_dir))
  if loss.has == with_rules then
    w:sh(t.flush .. " 2>/dev/null; nft -f " .. kept .. "/rules")
  end
  if not w.pods[1] then new_sandbox(w, entry) end
  if entry.each and not t.link(w.host, "dev1") then w:sh((entry.each:gsub("@N@", 1))) end
end

-- A world in which the other container lives, and pictures of it without what will be lost and with it.
local function prepared(entry, loss, prepare)
  t.wipe()
  -- Beside the other container no neighbours: records, leases and rules are lost as a whole, theirs too.
  local w = plugins.world(entry, 2, false)
  if prepare then prepare(w) end
  w:add(second(w, entry))
  w.reached = {}
  for _, address in ipairs(entry.reach or {}) do
    -- Where pods have configurations of their own, the far side may know the first one's alone.
    if t.answers(w.pods[2], address) then
      w.reached[#w.reached + 1] = address
    else
      assert.is_function(entry.conf, "the other container never reaches " .. address)
    end
  end
  keep(w)
  local expected = picture(w, loss)
  loss.expected(expected)
  return w, expected, picture(w, loss)
end

-- Go through points; each that fails is told, and gives the next one a new world. Which is gone to first is
-- another in each test.
local nth, stride = 0, t.stride(5, { second = 7, stock = 7 })
local function walk(entry, loss, list, prepare)
  local w, expected, whole = prepared(entry, loss, prepare)
  local bad, occurred = {}, {}
  nth = nth + 1
  for i, point in ipairs(list) do
    local is_left_out = (i + nth) % stride ~= 0
    if not (is_left_out or loss.own and not point.own or loss.attached and point.deleted) then
      local row = setmetatable({ w = w, entry = entry, loss = loss, point = point[1], expected = expected,
        whole = whole, occurred = occurred }, Row)
      local ok, err = pcall(function()
        restore(w, entry, loss)
        point[2](row)
        row:ends()
      end)
      if not ok then
        bad[#bad + 1] = point[1] .. ": " .. tostring(type(err) == "table" and err.message or err)
        t.cleanup()
        w, expected, whole = prepared(entry, loss, prepare)
      end
    end
  end
  for _, item in ipairs(stride > 1 and {} or named(loss, entry)) do
    if not occurred[item] then bad[#bad + 1] = "nothing stays, though " .. item.why end
  end
  if #bad > 0 then error(table.concat(bad, "\n"), 0) end
end

for _, entry in t.due(plugins.list, 3) do
  describe(entry.name .. ":", function()
    for _, loss in ipairs(losses) do
      if loss.has(entry) then
        it(loss[1] .. " lost at any point, the next verb does what is right", function()
          t.needs(table.unpack(entry.needs or {}))
          walk(entry, loss, points)
        end)
      end
    end
  end)
end

-- ---------------------------------------------------------------------------
-- The reference has done the verb before
-- ---------------------------------------------------------------------------

-- In the versions that Debian has: without its own keys, or types that it does not know.
local known = {
  ["loopback"] = {}, ["host-local, two sets"] = {}, ["static"] = {}, ["bridge, layer 2"] = {},
  ["bridge, dual stack with masquerade"] = {}, ["macvlan"] = {}, ["ipvlan"] = {}, ["ptp"] = {},
  ["vlan"] = { ingressQosMap = false, egressQosMap = false },
  ["host-device"] = {}, ["host-device, no addresses"] = {}, ["vrf"] = {}, ["vrf, the table chosen"] = {},
  ["portmap, by every address of the host"] = {}, ["firewall, open"] = {},
}

-- The reference asks for all of what it has made; what it made itself, our `lo` is told of alone.
local by_the_reference = { "", expected = nothing, has = with_rules, again = is_untold, stays = untold }

local version = { cniVersion = "1.0.0" }

local function call_of(row, verb)
  local c = row:first()
  if verb ~= "ADD" then c.prev = row.w.results["c1 eth0"] end
  c.bin, c.conf, c.prev = "reference", version, c.prev and t.with(c.prev, version)
  return c
end

local function reference(row, verb) row.w:ok(verb, call_of(row, verb)) end

-- Version 1.1 says once, when all is done, that iptables has no chain of the container.
local function undone(row)
  local got = row.w:call("DEL", call_of(row, "DEL"))
  if got.rc ~= 0 then
    assert.truthy(got.json.msg:find("Chain 'CNI%-%x+' does not exist"), got.out)
    reference(row, "DEL")
  end
end

local function ours(row)
  row:add()
  undone(row)
end

local turns = {
  { "ADD by the reference, then CHECK, ADD and a GC for which it is valid", function(row)
    reference(row, "ADD")
    row.w:check { conf = version }
    row:add_again()
    row:gc(true)
    row:unharmed()
  end },
  { "ADD by the reference, then a GC for which it is not valid", function(row)
    reference(row, "ADD")
    row:gc(false)
  end },
  { "DEL by the reference, then CHECK and DEL", function(row)
    ours(row)
    if row.entry.name ~= "static" and not publishes(row.entry) then row.w:fails("CHECK") end
  end },
  { "DEL by the reference, then ADD", function(row)
    ours(row)
    row:add()
  end },
  { "DEL by the reference, then a GC for which it is valid", function(row)
    ours(row)
    row:gc(true)
  end },
}

for _, entry in t.due(plugins.list, 3) do
  local changes = known[entry.name]
  if changes then
    it(entry.name .. ": after any verb of the reference, the next verb does what is right", function()
      t.needs("reference", table.unpack(entry.needs or {}))
      if with_rules(entry) then t.needs("iptables") end
      local plain = t.merge(entry, { conf = t.with(plugins.conf(entry), changes) })
      if type(entry.conf) == "function" then
        plain.conf = function(n) return t.with(entry.conf(n), changes) end
      end
      walk(plain, by_the_reference, turns, function(w)
        -- What it leaves for good is there from the beginning.
        local row = setmetatable({ w = w, entry = plain }, Row)
        reference(row, "ADD")
        undone(row)
        -- Its chains stay in others' tables.
        if publishes(entry) then w:so_be_it() end
        t.wipe()
      end)
    end)
  end
end
