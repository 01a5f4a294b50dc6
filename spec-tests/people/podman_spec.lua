-- SPDX-License-Identifier: MIT
-- What podman has attached, and what luacni has, in the same cache: each takes over from the other. podman 4's
-- CNI backend, with the reference plugins; luacni with its own.

local t = require "support"

local place, results = "/run/spec/podman", "/var/lib/cni/results"
-- The specs' own /sys has no cgroups; the machine's lies below it.
local command = ("umount /sys; podman --root %s/root --runroot %s/run --tmpdir %s/tmp --storage-driver vfs "):format(place, place,
  place)
local options = { env = { "CONTAINERS_CONF=" .. place .. "/containers.conf" }, timeout = 60 }

local settings = [[
[network]
network_backend = "cni"
cni_plugin_dirs = ["/usr/lib/cni"]
network_config_dir = "/etc/cni/net.d"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
log_driver = "k8s-file"
]]

local function podman(words)
  local out = t.run({ "unshare", "-m", "--propagation", "unchanged", "sh", "-c", command .. words }, options)
  return (out:gsub("%s+$", ""))
end

local function luacni(words, env)
  return t.sh({ t.build .. "/luacni", table.unpack(words) }, { env = env })
end

local function stored(id) return ("%s/net-%s-eth0"):format(results, id) end

describe("podman", function()
  local id, netns

  before_each(function()
    t.needs("guests", "podman", "runc", "busybox", "reference", "nft-nat", "iptables")
    t.write(place .. "/containers.conf", settings)
    t.run(("mkdir -p %s/fs/bin; cp $(command -v busybox) %s/fs/bin/sleep; tar -C %s/fs -cf %s/fs.tar .")
      :format(place, place, place, place))
    podman("import " .. place .. "/fs.tar localhost/box:latest 2>&1")
    podman "network create --subnet 10.77.0.0/24 net"
    podman("run -d --pull never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network net --name c1 "
      .. "localhost/box:latest /bin/sleep 300")
    id, netns = podman "inspect c1 --format '{{.Id}}'", podman "inspect c1 --format '{{.NetworkSettings.SandboxKey}}'"
  end)
  after_each(function()
    pcall(podman, "rm -f -t 0 c1")
    t.run(("rm -rf %s %s /etc/cni/net.d; ip link del cni-podman1 2>/dev/null; nft flush ruleset"):format(place, results))
    t.cleanup()
  end)

  it("and luacni read each other's attachments", function()
    local theirs = t.decode(t.read(stored(id)))
    -- CHECK by namespace, and by the container's ID, with our plugins and with theirs.
    t.same({ "", 0, "" }, { luacni { "check", "net", netns } })
    t.same({ "", 0, "" }, { luacni({ "check", "net", "--id", id }, { "CNI_PATH=/usr/lib/cni" }) })
    t.run("ip addr flush dev eth0", { host = netns })
    local _, status, err = luacni { "check", "net", netns }
    assert.equal(1, status)
    assert.is_truthy(err:find("10.77.0.2/24 is not on eth0", 1, true), err)

    t.same({ "", 0, "" }, { luacni { "del", "net", netns } })
    t.same({ nil, nil }, { t.read(stored(id)), t.read "/var/lib/cni/networks/net/10.77.0.2" })
    assert.is_nil(t.link(netns, "eth0"))

    -- What luacni attaches for the container, podman takes away with it.
    local out
    out, status, err = luacni({ "add", "net", netns, "--id", id, "--args", "IgnoreUnknown=1;K8S_POD_NAME=c1" },
      { "CNI_PATH=/usr/lib/cni" })
    t.same({ 0, "" }, { status, err })
    assert.equal("10.77.0.3/24", t.decode(out).ips[1].address)
    local ours = t.decode(t.read(stored(id)))
    for _, key in ipairs { "kind", "containerId", "ifName", "networkName", "config", "cniArgs" } do
      t.same(theirs[key], ours[key], key)
    end
    local said = podman "rm -f -t 0 c1 2>&1"
    assert.equal("c1", said)
    t.same({ nil, nil }, { t.read(stored(id)), t.read "/var/lib/cni/networks/net/10.77.0.3" })
  end)

  it("runs a list that luacni bundle has written: attaches, and takes away what was attached before", function()
    t.same({ "", 0, "" }, { luacni { "bundle", "net", "--write" } })
    t.write(place .. "/containers.conf", (settings:gsub("/usr/lib/cni", t.bin.ours)))
    podman("run -d --pull never --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network net --name c2 -p 8077:80 "
      .. "localhost/box:latest /bin/sleep 300")
    local second, ns = podman "inspect c2 --format '{{.Id}}'", podman "inspect c2 --format '{{.NetworkSettings.SandboxKey}}'"
    assert.equal("10.77.0.3", podman "inspect c2 --format '{{.NetworkSettings.Networks.net.IPAddress}}'")
    assert.matches("bridge\n", t.run("ls /run/luacni/attachments/net/*"))
    assert.is_truthy(t.our_rules():find("8077", 1, true))
    assert.is_true(t.answers(ns, "10.77.0.1"))
    t.same({ "", 0, "" }, { luacni { "check", "net", ns } })
    assert.equal("c2", podman "rm -f -t 0 c2 2>&1")
    assert.equal("c1", podman "rm -f -t 0 c1 2>&1")
    t.same({ nil, nil, nil, "" }, { t.read(stored(second)), t.read "/var/lib/cni/networks/net/10.77.0.3",
      t.read "/var/lib/cni/networks/net/10.77.0.2", t.records() })
    assert.equal(0, #t.ip(nil, "link show type veth"))
  end)

  it("leaves attachments that luacni gc finds, when it is gone with the namespace", function()
    t.same({ "", 0, "nothing is left of anything dead\n" }, { luacni { "gc" } })
    assert.is_truthy(t.read(stored(id)))
    -- As a reboot does it.
    podman "kill c1"
    t.run(("umount -l %s; rm -f %s"):format(netns, netns))
    t.same({ ("net  %s eth0  namespace %s is gone: taken away\n"):format(id, netns), 0, "" }, { luacni { "gc" } })
    t.same({ nil, nil }, { t.read(stored(id)), t.read "/var/lib/cni/networks/net/10.77.0.2" })
  end)
end)
