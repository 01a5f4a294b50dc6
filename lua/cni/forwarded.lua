-- SPDX-License-Identifier: MIT
--- What this host forwards to and from sandboxes: what passes although a later rule of the host drops, and
-- what ends although none does.
--
--     table inet luacni
--       set   forwarded4, forwarded6     addresses of attachments
--       chain forwarded                  before the host's own filter: marks what is from these, and what
--                                        answers them, or comes by a published port
--       chain forwarded_end              after it: takes the mark away again
--       chain admin_forward              the administrator's: sees it all first, never changed by us
--       set   same_bridge4, isolated4, unpublished4   link of the host . address: whom not all may reach
--       chain ingress                    ends what others send to these
--     table bridge luacni
--       set   isolated4                  MAC . address; isolated_all4: address
--       chain isolated                   ends what a neighbour on the bridge sends to these
--
-- The same with a 6. Accepting in a table of our own does not help where another one drops. So the packets
-- get a mark, and one rule for each family at the head of iptables' FORWARD accepts what has it
-- (cni.step.head).
-- The mark is a single bit, which nobody else may use; what had it when it came keeps it no longer. It is set
-- after the last routing decision about a packet, and gone before the packet leaves: nobody else sees it but
-- the rules of the hook forward.
--
-- A packet costs the same with one attachment and with thousands. What an attachment has in the sets, the
-- comments of the elements say. A port that is published leads to the sandbox whatever the policy is, since
-- its packets are known by their translated destination.
--
-- @module cni.forwarded

local addr = require "cni.addr"
local args = require "cni.engine.args"
local layouts = require "cni.step.layout"
local nft = require "cni.nft"

local M = {}

--- The bit of the mark, when none is chosen: 0x1000. It is none of those that others take: AWS's VPC 0x80,
-- Cilium 0x0f00, portmap 0x2000, kube-proxy 0x4000 and 0x8000, Calico and Tailscale 0xffff0000.
M.bit = 12

local protos, order = layouts.protos, layouts.families

-- A register of 16 bytes.
local first <const> = 1

local function bytes_of(number) return string.pack("=I4", number) end

local zero <const> = bytes_of(0)

-- Expressions -----------------------------------------------------------------------------

-- Match a bit of the mark.
local function has_mark(bit)
  local mask = bytes_of(1 << bit)
  return { { "meta", key = "mark", dreg = first },
    { "bitwise", sreg = first, dreg = first, len = 4, mask = mask, xor = zero },
    { "cmp", sreg = first, op = "eq", data = mask } }
end

-- Set it, or take it away.
local function put_mark(bit, on)
  local mask = 1 << bit
  return { { "meta", key = "mark", dreg = first },
    { "bitwise", sreg = first, dreg = first, len = 4, mask = bytes_of(~mask & 0xffffffff),
      xor = bytes_of(on and mask or 0) },
    { "meta", key = "mark", sreg = first } }
end

local function is_reply() return { { "ct", key = "direction", dreg = first },
  { "cmp", sreg = first, op = "eq", data = "\1" } } end

local function by_a_bridge() return { { "meta", key = "iifkind", dreg = first },
  { "cmp", sreg = first, op = "eq", data = "bridge" .. ("\0"):rep(10) } } end

-- Marks -------------------------------------------------------------------------------------

local function named(name, bit) return bit == M.bit and name or ("%s_bit%d"):format(name, bit) end

local function marking(bit)
  local admin = named("admin_forward", bit)
  local rules, sets = { nft.rule(nft.verdict("jump", admin)) }, {}
  local function mark(...) rules[#rules + 1] = nft.rule(...) end
  for _, family in ipairs(order) do
    local p = protos[family]
    local set = named("forwarded" .. p.suffix, bit)
    sets[#sets + 1] = { name = set, key_type = p.type, comment = "addresses of sandboxes" }
    mark(nft.saddr_in(p.word, set), put_mark(bit, true))
    mark(nft.daddr_in(p.word, set), nft.ct_state("established", "related"), put_mark(bit, true))
    mark(nft.daddr_in(p.word, set), nft.is_dnatted(), put_mark(bit, true))
  end
  return {
    table = "luacni", name = named("forwarded", bit), version = "1", comment = layouts.of_luacni,
    sets = sets, chains = {
      { name = admin, kept = true, comment = "yours: sees first what is forwarded, and is never changed" },
      { name = named("forwarded", bit), type = "filter", hook = "forward", priority = -20, rules = rules,
        comment = "marks what passes, for the rule in iptables' FORWARD" },
      { name = named("forwarded_end", bit), type = "filter", hook = "forward", priority = 300,
        rules = { nft.rule(has_mark(bit), put_mark(bit, false)) }, comment = "takes the mark away again" },
    },
  }
end

-- Policies ----------------------------------------------------------------------------------

-- Whether a link and an address are together in a set: the attachment's own link and address.
local function together(p, link, address, set, op)
  return nft.fields_in(p.word, { link, address }, set .. p.suffix, op)
end

local function ingress()
  local sets, chains, look_up = {}, {}, {}
  for _, family in ipairs(order) do
    local p = protos[family]
    local s = p.suffix
    for _, name in ipairs { "same_bridge", "isolated", "unpublished" } do
      sets[#sets + 1] = { name = name .. s, key_type = "ifname . " .. p.type }
    end
    local function chain(name, comment, rules) chains[#chains + 1] = { name = name .. s, comment = comment,
      rules = rules } end
    chain("strangers", "what comes from another network", {
      nft.rule(by_a_bridge(), nft.verdict "drop"),
      nft.rule(together(p, "iifname", "saddr", "same_bridge"), nft.verdict "drop"),
      nft.rule(together(p, "iifname", "saddr", "isolated"), nft.verdict "drop"),
    })
    chain("to_isolated", "neighbours are strangers too", {
      nft.rule(together(p, "iifname", "daddr", "isolated"), nft.verdict "drop"),
      nft.rule(nft.verdict("jump", "strangers" .. s)),
    })
    chain("to_same_bridge", "all but neighbours are strangers", {
      nft.rule(together(p, "iifname", "daddr", "same_bridge"), nft.verdict "return"),
      nft.rule(nft.verdict("jump", "strangers" .. s)),
    })
    chain("ingress", "who may reach which sandbox", {
      nft.rule(together(p, "oifname", "daddr", "isolated"), nft.verdict("jump", "to_isolated" .. s)),
      nft.rule(together(p, "oifname", "daddr", "same_bridge"), nft.verdict("jump", "to_same_bridge" .. s)),
      nft.rule(together(p, "oifname", "daddr", "unpublished"),
        together(p, "iifname", "daddr", "unpublished", "!="), nft.verdict "drop"),
    })
    look_up[#look_up + 1] = nft.rule(nft.nfproto(p.nfproto), nft.verdict("jump", "ingress" .. s))
  end
  table.insert(look_up, 1, nft.rule(nft.is_dnatted(), nft.verdict "return"))
  table.insert(look_up, 2, nft.rule(is_reply(), nft.verdict "return"))
  chains[#chains + 1] = { name = "ingress", type = "filter", hook = "forward", priority = -10,
    rules = look_up, comment = "published ports and answers pass; what else may, the sets say" }
  return { table = "luacni", name = "ingress", version = "1", comment = layouts.of_luacni,
    sets = sets, chains = chains }
end

-- What a bridge sends on by itself. It is known by its destination's MAC: what goes to a published port has
-- the host's at this point, and so have answers that come by the host. A group's MAC is no way around.
local function isolated()
  local sets, rules = {}, {}
  for _, family in ipairs(order) do
    local p = protos[family]
    local v4 = family == "inet"
    local function set(name, key, comment)
      sets[#sets + 1] = { name = name .. p.suffix, key_type = key, comment = comment }
    end
    set("isolated", "ether_addr . " .. p.type, "sandboxes that no neighbour reaches")
    set("isolated_all", p.type, "their addresses")
    local function rule(...)
      local about = nft.meta("protocol", { ether_type = p.word })
      rules[#rules + 1] = nft.rule("bridge", about, ..., nft.verdict "drop")
    end
    local function destination(register)
      return { "payload", base = "network", offset = v4 and 16 or 24, len = v4 and 4 or 16, dreg = register }
    end
    -- Registers of four bytes: six are two of them.
    rule { { "payload", base = "link", offset = 0, len = 6, dreg = 8 }, destination(10),
      { "lookup", set = "isolated" .. p.suffix, sreg = 8 } }
    rule { { "payload", base = "link", offset = 0, len = 1, dreg = first },
      { "bitwise", sreg = first, dreg = first, len = 1, mask = "\1", xor = "\0" },
      { "cmp", sreg = first, op = "eq", data = "\1" }, destination(first),
      { "lookup", set = "isolated_all" .. p.suffix, sreg = first } }
  end
  return { family = "bridge", table = "luacni", name = "isolated", version = "1", sets = sets, chains = {
    { name = "isolated", type = "filter", hook = "prerouting", priority = -300, rules = rules,
      comment = "what neighbours send to isolated sandboxes ends here" } } }
end

-- Layouts by name: `marks12` is that of bit 12.
layouts.when_asked(M, function(name)
  local bit = name:match "^marks(%d+)$"
  return bit and marking(math.tointeger(bit)) or name == "ingress" and ingress()
    or name == "isolated" and isolated()
end)

-- Steps -------------------------------------------------------------------------------------

local takes = args.call("forwarded.add", { "req", args.request }, { "ips", args.list(args.cidr) },
  { "options", args.record({
    bit = args.integer(0, 31), admin = args.string, policy = args.string, links = args.list(args.string),
    mac = args.string, unpublished = args.boolean, zone = args.string,
  }) })

local function push(req, layout, elements, addresses)
  if #elements == 0 and req.plan.mode ~= "erase" then return end
  req.plan:push { kind = "elements", ns = "host", want = { module = "forwarded", layout = layout,
    elements = elements, addresses = addresses, instead = "accepts" } }
end

--- Let pass what sandboxes send from their addresses, and what answers it, whatever the host's FORWARD drops;
-- and say who may reach them. DEL takes that back.
-- @tparam table req the request
-- @tparam {string,...} ips addresses of the attachment, with their prefix lengths
-- @tparam table options
--   bit         number of the bit of the mark, 0 to 31; nil: @{bit}
--   admin       chain of iptables that its FORWARD jumps to first, the administrator's; nil: CNI-ADMIN
--   policy      who reaches them: `open`, all (the default); `same-bridge`, not from other bridges;
--               `isolated`, not from the own one either
--   links       names of the host's links that lead there; a policy needs them
--   mac         of the sandbox's interface; without, `isolated` does not keep off who is on the same bridge
--   unpublished true: nobody may reach them by another link than those but by a published port
--   zone        make the addresses sources of this zone of firewalld; nil: firewalld is not asked
-- @raise that another process changes the rules all the time; what the kernel refuses
function M.add(req, ips, options)
  req, ips, options = takes(req, ips, options)
  local bit, families, addresses, marks = options.bit or M.bit, {}, {}, {}
  local restricted, frames = {}, {}
  local links, policy = options.links or {}, options.policy or "open"
  for _, text in ipairs(ips) do
    local cidr = addr.parse(text)
    local ip, p = cidr:text(), protos[cidr.family]
    if not families[p.word] then
      families[p.word] = true
      families[#families + 1] = p.word
    end
    addresses[#addresses + 1] = ip
    marks[#marks + 1] = { set = named("forwarded" .. p.suffix, bit), key = ip, replace = true,
      says = ("let pass what %s sends, and what answers it"):format(ip) }
    if policy == "isolated" and options.mac then
      frames[#frames + 1] = { set = "isolated" .. p.suffix, key = { options.mac, ip }, replace = true,
        says = ("keep neighbours off %s"):format(ip) }
      frames[#frames + 1] = { set = "isolated_all" .. p.suffix, key = ip, replace = true, says = "" }
    end
    for i, link in ipairs(links) do
      local function restrict(list, set, says)
        list[#list + 1] = { set = set .. p.suffix, key = { link, ip }, replace = true,
          says = i == 1 and says or "" }
      end
      if policy == "same-bridge" then
        restrict(restricted, "same_bridge", ("keep other bridges off %s"):format(ip))
      elseif policy == "isolated" then
        restrict(restricted, "isolated", ("keep all bridges off %s"):format(ip))
      end
      if options.unpublished then
        restrict(restricted, "unpublished", ("keep all off %s but for published ports"):format(ip))
      end
    end
  end
  if options.zone and #addresses > 0 then
    req.plan:push { kind = "zone", ns = "host", want = { zone = options.zone, addresses = addresses,
      group = req.host:group("firewalld:" .. options.zone:gsub("/", ",")) } }
  end
  if #families > 0 or req.plan.mode == "erase" then
    req.plan:push { kind = "head", ns = "host", want = { bit = bit, chain = options.admin or "CNI-ADMIN",
      families = #families > 0 and { table.unpack(families) } or { "ip", "ip6" }, addresses = addresses,
      marks = named("forwarded", bit), group = req.host:group "nft:FORWARD" } }
  end
  push(req, "marks" .. bit, marks, addresses)
  push(req, "ingress", restricted, addresses)
  push(req, "isolated", frames, addresses)
end

--- Whether firewalld runs on this host, and can be asked.
-- @treturn boolean
function M.has_firewalld() return require("cni.step.zone").is_there() end

--- Whether firewalld runs and has `StrictForwardPorts`: then it lets no port pass that others publish.
-- @treturn boolean
function M.is_strict() return require("cni.step.zone").is_strict() end

return M
