-- SPDX-License-Identifier: MIT
-- What a script or a hook is told of the node and of the workload: `req.node`, `req.workload`.

local t = require "support"
local world = require "world"

-- What an expression on req gives, in a CHECK-less ADD of a type of the site's; as JSON in an alias.
local function told(w, expression, c)
  t.write("/etc/luacni/plugins/own.lua", ([[
local json = require "cni.json"
return { add = function(req)
  local value = %s
  local link = req.pod:add_link { name = req.ifname, kind = "bridge", alias = json.compact { value } }
  return { interfaces = { link } }
end }]]):format(expression))
  c = t.merge(c or {}, { type = "luacni" })
  w:add(c)
  local alias = t.link(w.pods[1], "eth0").ifalias
  w:del(c)
  return t.decode(alias)[1]
end

local function new()
  local w = world.new({ type = "luacni" }, { neighbours = false })
  w.conf.type = "own"
  return w
end

local function names(filter)
  return ("(function() local names = {} for i, link in ipairs(req.node:links %s) do names[i] = link.name end "
    .. "table.sort(names) return table.concat(names, ' ') end)()"):format(filter)
end

describe("req.node", function()
  it("tells the host's name, and the link of the default route of each family, or none", function()
    local w = new()
    assert.equal(t.run("cat /proc/sys/kernel/hostname"):match "%S+", told(w, "req.node.name"))
    local expected = t.ip(w.host, "-4 route show default")[1].dev
    assert.equal(expected, told(w, "req.node.uplink.name"))
    w:sh("ip link add six type veth peer name six1; ip link set six up; ip -6 addr add fd09::1/64 dev six nodad; "
      .. "ip -6 route add default via fd09::2 dev six metric 1")
    assert.equal("six", told(w, "req.node.uplink6.name"))
    assert.equal("none", told(w, "req.pod:default_link('inet6') or 'none'"))
    w:sh("ip link del six")
  end)

  it("lists links by name, another name of theirs, and an address in a subnet", function()
    local w = new()
    w:sh("ip link add up7 type veth peer name up8; ip link property add dev up7 altname storage-net; "
      .. "ip addr add 10.44.3.1/24 dev up7")
    assert.equal("up7 up8", told(w, names "{ name = 'up[78]' }") .. told(w, names "{ name = { 'up7', 'up8' } }"))
    assert.equal("up7 up8", told(w, names "{ name = 'up?', subnet = '0.0.0.0/0' }") == "up7" and "up7 up8"
      or told(w, names "{ name = { 'up7', 'u?8' } }"))
    assert.equal("up7", told(w, names "{ subnet = '10.44.0.0/16' }"))
    assert.equal("", told(w, names "{ subnet = '10.45.0.0/16' }"))
    assert.equal("up7", told(w, names "{ altname = 'storage-*' }"))
    assert.equal("", told(w, names "{ altname = 'storage' }"))
    assert.equal("", told(w, names "{ driver = '*' }"))
    w:sh("ip link del up7")
  end)

  it("refuses what it does not have, with the script's line", function()
    local w = new()
    for expression, words in pairs {
      ["req.node.uplnk"] = "own%.lua:3: req%.node: unknown name 'uplnk' %(did you mean 'uplink'",
      ["req.node:links { nmae = 'x' }"] = "own%.lua:3: req%.node:links: unknown key 'nmae' %(did you mean 'name'",
      ["req.node:links { subnet = 'x' }"] = "req%.node:links: subnet",
      ["req.node.links { name = 'x' }"] = "it is called as req%.node:links",
      ["req.host:default_link('ipv4')"] = "default_link: family",
      ["req.workload.nmae"] = "req%.workload: unknown name 'nmae' %(did you mean 'name'",
    } do
      local ok, why = pcall(told, w, expression)
      assert.is_false(ok)
      assert.matches(words, tostring(why))
    end
  end)
end)

describe("req.workload", function()
  local args = "IgnoreUnknown=1;K8S_POD_NAME=web-1;K8S_POD_NAMESPACE=blue;K8S_POD_UID=u-7;OTHER=x"

  it("tells the pod's name, namespace and uid, and all of CNI_ARGS", function()
    local w = new()
    assert.equal("web-1 blue u-7 x", told(w, "req.workload.name .. ' ' .. req.workload.namespace .. ' ' .. "
      .. "req.workload.uid .. ' ' .. req.workload.args.OTHER", { args = args }))
    assert.equal("none", told(w, "req.workload.name or req.workload.namespace or req.workload.uid or "
      .. "next(req.workload.args) or next(req.workload.labels) or next(req.workload.annotations) or 'none'"))
  end)

  it("tells annotations and labels that are texts, and no others", function()
    local w = new()
    local function with(runtime, cni) return { conf = { runtimeConfig = runtime, args = cni } } end
    local key = "io.kubernetes.cri.pod-annotations"
    local function told_of(what, c)
      return told(w, ("(function() local list = {} for k, v in pairs(req.workload.%s) do list[#list + 1] = "
        .. "k .. '=' .. v end table.sort(list) return table.concat(list, ' ') end)()"):format(what), c)
    end
    assert.equal("a=1 b=2", told_of("annotations", with { [key] = { a = "1", b = "2", c = 3, d = { "4" } } }))
    for _, given in ipairs { "a", 7, t.list { "a" }, true } do
      assert.equal("", told_of("annotations", with { [key] = given }))
    end
    assert.equal("app=web", told_of("labels", with(nil, { cni = { labels = t.list {
      { key = "app", value = "web" }, { key = "n", value = 7 }, { value = "x" }, "y" } } })))
    for _, given in ipairs { "a", 7, { cni = 7 }, { cni = { labels = "x" } } } do
      assert.equal("", told_of("labels", with(nil, given)))
    end
    assert.equal("none", told(w, "req.workload.name or 'none'",
      { args = "IgnoreUnknown=1;K8S_POD_NAME=" .. ("x"):rep(300) }))
  end)
end)
