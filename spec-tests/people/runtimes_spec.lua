-- SPDX-License-Identifier: MIT
-- The lines of the README's "Under a runtime", as they stand: in a world of their own, with the clients that
-- Debian has; with those that it has not, what these ask of the programs.

local lfs = require "lfs"
local t = require "support"

local section = assert(t.read("README.md"):match "\n## Under a runtime\n(.-)\n## ")

-- The lines below a client's name, of a language.
local function lines_of(client, language)
  local text = assert(section:match("%*%*" .. client .. ".*"), client)
  return assert(text:match("```" .. language .. "\n(.-)```"), client)
end

-- What is private to the world, and the two folders filled as the first lines say. (install_spec has `make
-- install` itself: it would build, and that is done.)
local common = section:match "```sh\n(.-)```"
local world = [[
set -eu
umount /sys 2>/dev/null || true
image=/run/world/image
for dir in /run /opt /var/lib/cni /etc/cni /var/tmp /dev/shm; do mount -t tmpfs -o mode=0755 world $dir; done
ip link set lo up
mkdir -p /run/netns /opt/cni/bin $image/bin
cp BUILD/luacni /opt/cni/bin
for type in $(ls BUILD/cni-bin); do [ $type = luacni ] || ln -s luacni /opt/cni/bin/$type; done
export PATH=/opt/cni/bin:$PATH
cp $(command -v busybox) $image/bin/busybox
for name in ip sleep; do ln -s busybox $image/bin/$name; done
tar -C $image -cf /run/world/layer.tar .
cd /run/world
until_answers() { i=0; until "$@" >/dev/null 2>&1; do i=$((i + 1)); [ $i -lt 100 ] || { cat /run/world/log; exit 9; }; sleep 0.1; done; }
nothing_left() {
	[ "$(luacni list --json)" = "[]" ] && [ "$(luacni list --leases --json)" = "[]" ] || { luacni list --leases; exit 8; }
	[ -z "$(ip -o link show type veth)" ] || { ip link; exit 8; }
}
]]

-- Run shell lines in that world, and return what they print. Whatever they start ends with them.
local function run(before, lines, after)
  local build = t.build:sub(1, 1) == "/" and t.build or lfs.currentdir() .. "/" .. t.build
  local network, made = common:gsub("make install CNI_BIN=/opt/cni/bin\n", "")
  assert.equal(1, made)
  t.write("/run/spec/lines.sh", (world:gsub("BUILD", build)) .. network .. before .. "\n" .. lines .. "\n" .. after)
  local script = t.read "/run/spec/lines.sh"
  return t.run({ "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation",
    "private", "sh", "-c", script }, { timeout = 120 })
end

local function has(text, wanted) assert.is_truthy(text:find(wanted, 1, true), text) end

local needed = { "guests", "busybox", "runc", "nft-nat" }
local function needs(...)
  local all = { ... }
  table.move(needed, 1, #needed, #all + 1, all)
  t.needs(table.unpack(all))
end

after_each(function()
  os.remove "/run/spec/lines.sh"
  t.cleanup()
end)

local containerd = [[
printf 'version = 2\nroot = "/run/root"\nstate = "/run/state"\n' >/run/world/config.toml
containerd -c /run/world/config.toml >/run/world/log 2>&1 &
until_answers ctr version
sum=$(sha256sum layer.tar | cut -d' ' -f1)
printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	$sum >config.json
echo '[{"Config":"config.json","RepoTags":["docker.io/library/busybox:latest"],"Layers":["layer.tar"]}]' >manifest.json
tar -cf image.tar manifest.json config.json layer.tar
ctr image import --snapshotter native image.tar
export CONTAINERD_SNAPSHOTTER=native
]]

describe("The README's lines", function()
  it("attach a container of containerd", function()
    needs "containerd"
    local out = run(containerd, lines_of("containerd", "sh"), "nothing_left; ip -br link show demo0")
    has(out, "inet 10.22.0.2/24")
    has(out, "demo0 ")
  end)

  it("leave what containerd has attached to luacni as well: it is listed, checked, and taken away", function()
    needs "containerd"
    local out = run(containerd, [[
ctr run --detach --null-io --cni docker.io/library/busybox:latest kept sleep 600
luacni list demo
set -- $(luacni list demo --json | sed -n 's/.*"\(container\|sandbox\)": "\(.*\)".*/\2/p')
[ $# = 2 ]
luacni check demo --id $1
nsenter --net=$2 ip address flush dev eth0
luacni check demo --id $1 2>&1 && exit 7
luacni del demo --id $1
]], [[
nothing_left
ctr task kill --signal KILL kept
until_answers ctr task delete kept
ctr container delete kept]])
    has(out, "10.22.0.2/24")
    has(out, "10.22.0.2/24 is not on eth0")
  end)

  it("say what containerd's CRI plugin reads: it knows each key, and what stands there goes", function()
    needs "containerd"
    local lines = lines_of("containerd", "toml"):gsub("/opt/cni/bin", "/opt/cni/BIN"):gsub("/etc/cni/net.d", "/etc/cni/NET.d")
    local out = run("printf 'version = 2\\n' >/run/world/c.toml; cat >>/run/world/c.toml <<'END'\n" .. lines .. "END",
      "containerd -c /run/world/c.toml config dump", "")
    local cni = assert(out:match '%[plugins%."io%.containerd%.grpc%.v1%.cri"%.cni%]\n(.-)\n\n', out)
    local read = {}
    for key, value in cni:gmatch "(%S+) = (%S+)" do read[key] = value end
    t.same({ '"/opt/cni/BIN"', '"/etc/cni/NET.d"' }, { read.bin_dir, read.conf_dir })
    -- And these are its defaults.
    out = run("printf 'version = 2\\n' >/run/world/c.toml", "containerd -c /run/world/c.toml config dump", "")
    for line in lines_of("containerd", "toml"):gmatch "  ([^\n]+)" do has(out, line) end
  end)

  it("attach a container of podman", function()
    needs("podman", "reference", "iptables")
    local out = run([[
cp -r /etc/containers /run/world/containers
mount --bind /run/world/containers /etc/containers
printf '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n[containers]\nlog_driver = "k8s-file"\n
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n' >/etc/containers/containers.conf
printf '[storage]\ndriver = "vfs"\nrunroot = "/run/podman-run"\ngraphroot = "/run/podman-root"\n' >/etc/containers/storage.conf
podman import layer.tar docker.io/library/busybox:latest
]], lines_of("podman 4", "sh"), "nothing_left; podman info --format 'backend {{.Host.NetworkBackend}}'")
    has(out, "inet 10.77.0.2/24")
    has(out, "backend cni")
  end)

  it("attach a container of docker's", function()
    needs("docker", "dockerd", "containerd")
    local out = run([[
dockerd -H unix:///run/docker.sock --data-root /run/data --exec-root /run/exec -p /run/docker.pid --bridge none \
	--iptables=false --ip-forward=false >/run/world/log 2>&1 &
until_answers docker version
docker import layer.tar busybox:latest
]], lines_of("docker", "sh"), "nothing_left; docker ps --all --quiet")
    has(out, '"address": "10.22.0.2/24"')
    has(out, "inet 10.22.0.2/24")
  end)

  -- As CRI-O and nomad, which are not here, use the folders that their lines name.
  local function ask(bin, networks, before, after)
    return run(([[export CNI_PATH=%s NETCONFPATH=%s PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip netns add pod
luacni() { %s/luacni "$@"; }
]]):format(bin, networks, bin), "luacni version demo", before .. [[
luacni add demo pod
luacni check demo pod
luacni status demo pod
ip netns exec pod ip address show eth0
ip netns del pod
luacni del demo pod
]] .. after .. "nothing_left")
  end

  it("name the folders for CRI-O, in which every plugin says its versions, and CHECK follows ADD", function()
    needs()
    local lines = lines_of("CRI%-O", "toml")
    local out = ask(lines:match 'plugin_dirs = %["([^"]+)"%]', lines:match 'network_dir = "([^"]+)"', "", "")
    has(out, "inet 10.22.0.2/24")
  end)

  it("name the folders for nomad, where lo comes first", function()
    needs()
    local lines = lines_of("CRI%-O", "hcl")
    local out = ask(lines:match 'cni_path = "([^"]+)"', lines:match 'cni_config_dir = "([^"]+)"', [[
echo '{ "cniVersion": "0.3.1", "name": "lo", "plugins": [ { "type": "loopback" } ] }' >/run/world/lo.conflist
luacni add /run/world/lo.conflist pod --ifname lo
]], "luacni del /run/world/lo.conflist pod --ifname lo\n")
    has(out, "inet 10.22.0.2/24")
    -- `mode` names a network of that folder.
    assert.equal("demo", section:match 'mode = "cni/(%w+)"')
    has(common, '"name": "demo"')
  end)
end)
