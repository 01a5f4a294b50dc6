-- SPDX-License-Identifier: MIT
-- The lists that k3s and kubeadm's flannel bring along, unchanged, by ours and the reference's plugins in any
-- mixture; and a node that changes over with them, in either direction.

local cli = require "cli"
local t = require "support"

local env, data_dir = "/run/flannel/subnet.env", "/var/lib/cni/flannel"

after_each(function()
  t.run("rm -rf /run/flannel /run/spec/bin /run/spec/net.conflist /var/lib/cni/results")
  t.cleanup()
end)

-- The lists as k3s writes its own to /var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist, and as
-- flannel's manifest for kubeadm has it.
local lists <const> = { k3s = [[{
  "name":"cbr0",
  "cniVersion":"1.0.0",
  "plugins":[
    {
      "type":"flannel",
      "delegate":{
        "hairpinMode":true,
        "forceAddress":true,
        "isDefaultGateway":true
      }
    },
    {
      "type":"portmap",
      "capabilities":{
        "portMappings":true
      }
    },
    {
      "type":"bandwidth",
      "capabilities":{
        "bandwidth":true
      }
    }
  ]
}
]], kubeadm = [[{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
]] }
local published <const> = '{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],' ..
  '"bandwidth":{"ingressRate":80000000,"ingressBurst":8000000,"egressRate":80000000,"egressBurst":8000000}}'

-- Flannel's own plugin, as far as this node sees it: it writes the file and executes the delegate along CNI_PATH,
-- or reads it and executes that.
local theirs <const> = [=[#!/bin/sh
kept=/var/lib/cni/flannel/$CNI_CONTAINERID
input=$(cat)
type=bridge
find_bridge() { for dir in $(echo $CNI_PATH | tr : ' '); do [ ! -x $dir/$type ] || { echo $dir/$type; return; }; done; }
case $CNI_COMMAND in
ADD) mkdir -p -m 700 ${kept%/*}
  version=$(printf %s "$input" | sed -n 's/.*"cniVersion": *"\([^"]*\)".*/\1/p' | head -1)
  printf '{"bridge":"cni0","cniVersion":"%s","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.42.3.0/24"}]],"routes":[{"dst":"10.42.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1450,"name":"cbr0","type":"bridge"}' $version >$kept
  exec $(find_bridge) <$kept ;;
CHECK) exit 0 ;;
DEL) [ -e $kept ] || exit 0
  $(find_bridge) <$kept || exit 1
  rm $kept ;;
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}' ;;
esac
]=]

describe("The list of", function()
  local dir, file = "/run/spec/bin", "/run/spec/net.conflist"

  -- A folder of programs: `reference` those of the reference, all others ours.
  local function programs(name, reference)
    local folder = dir .. "/" .. name
    t.run("mkdir -p " .. folder)
    for _, type_name in ipairs { "flannel", "bridge", "host-local", "portmap", "bandwidth" } do
      local is_theirs = reference[type_name]
      if is_theirs and type_name == "flannel" then
        t.write(folder .. "/flannel", theirs)
        t.run("chmod 755 " .. folder .. "/flannel")
      else
        t.run(("ln -sf %s/%s %s"):format(is_theirs and t.bin.reference or t.bin.ours, type_name, folder))
      end
    end
    return { env = { "CNI_PATH=" .. folder } }
  end

  local function host_of(version)
    t.needs("reference", "iptables", "nft-nat")
    t.write(env, "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
    t.write(file, lists[version])
    local host, pod = t.host("host", { lived_in = false, forwarding = true }), t.netns "pod1"
    cli.host = host
    return host, pod
  end

  local function reaches(host, pod)
    t.run("socat TCP-LISTEN:80,fork SYSTEM:'echo here' >/dev/null 2>&1 & echo $! >/run/spec/pid", { host = pod })
    t.ends_with_test "/run/spec/pid"
    local said = t.run("for i in $(seq 20); do socat -T2 - TCP:10.42.3.1:8080,connect-timeout=2 </dev/null && exit; "
      .. "sleep 0.05; done", { host = host })
    -- It would keep the namespace.
    t.run "read -r p </run/spec/pid; kill $p; while kill -0 $p 2>/dev/null; do sleep 0.02; done"
    return said == "here\n"
  end

  -- Nothing of the attachment: interface, address, file, rules that name it, shaping.
  local function is_clean(host, pod)
    assert.is_nil(pod and t.link(pod, "eth0"))
    assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
    t.same({}, t.files(data_dir))
    local rules = t.run("nft list ruleset", { host = host })
    for line in rules:gmatch "[^\n]+" do
      for _, trace in ipairs { "10.42.3.2", "8080" } do assert.is_nil(line:find(trace, 1, true), line) end
    end
    for _, link in ipairs(t.ip(host, "link show")) do assert.is_nil(link.ifname:find "^bw", link.ifname) end
  end

  local mixtures <const> = {
    ["luacni alone"] = {}, ["the reference's portmap"] = { portmap = true },
    ["the reference's bandwidth"] = { bandwidth = true },
    ["flannel's own plugin, which calls our bridge"] = { flannel = true },
    ["flannel's own plugin, our bridge, and the reference's portmap"] = { flannel = true, portmap = true },
  }
  for whose in pairs(lists) do
    for how, reference in pairs(mixtures) do
      it(("%s is served, unchanged, by %s"):format(whose, how), function()
        local host, pod = host_of(whose)
        local path = programs("mixed", reference)
        local result = t.decode((cli.succeeds({ "add", file, "pod1", "--cap-args", published }, path)))
        assert.equal("10.42.3.2/24", result.ips[1].address)
        assert.equal(1450, t.link(pod, "eth0").mtu)
        assert.is_true(reaches(host, pod))
        -- That one is content with no port of an IPv4 address.
        if whose == "k3s" and not reference.portmap then cli.succeeds({ "check", file, "pod1" }, path) end
        cli.succeeds({ "gc", file }, path)
        assert.is_truthy(t.link(pod, "eth0"))
        cli.succeeds({ "del", file, "pod1" }, path)
        cli.succeeds({ "del", file, "pod1" }, path)
        is_clean(host, pod)
        t.same({}, t.files "/run/luacni/attachments")
      end)
    end

    it(whose .. " changes over: what the reference's plugins have attached ours take away", function()
      local host, pod = host_of(whose)
      local all = { flannel = true, bridge = true, ["host-local"] = true, portmap = true, bandwidth = true }
      cli.succeeds({ "add", file, "pod1", "--cap-args", published }, programs("theirs", all))
      assert.is_true(reaches(host, pod))
      local ours = programs("ours", {})
      if whose == "k3s" then cli.succeeds({ "check", file, "pod1" }, ours) end
      os.remove(env)
      cli.succeeds({ "del", file, "pod1" }, ours)
      is_clean(host, pod)
    end)

    it(whose .. " changes back: what ours have attached theirs take away, and a GC our books", function()
      local host, pod = host_of(whose)
      local all = { flannel = true, bridge = true, ["host-local"] = true, portmap = true, bandwidth = true }
      cli.succeeds({ "add", file, "pod1", "--cap-args", published }, programs("ours", {}))
      assert.is_true(reaches(host, pod))
      cli.succeeds({ "del", file, "pod1" }, programs("theirs", all))
      assert.is_nil(t.link(pod, "eth0"))
      assert.is_nil(t.read "/var/lib/cni/networks/cbr0/10.42.3.2")
      t.same({}, t.files(data_dir))
      t.remove_netns(pod)
      cli.succeeds({ "gc" }, programs("ours", {}))
      is_clean(host, nil)
      t.same({}, t.files "/run/luacni/attachments")
    end)
  end
end)
