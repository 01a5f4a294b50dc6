-- SPDX-License-Identifier: MIT
-- luacni test

local fail = require "cni.fail"
local files = require "cni.record.files"
local host = require "host"
local request = require "cni.protocol.request"
local say = require "cni.command.say"
local sys = require("netlink").sys

local folder <const> = "/etc/luacni/spec"

-- Runs in namespaces of its own, as root there. Makes a root that nobody else sees, in the place of /run:
-- what the machine has, but for /run, /etc/cni, /etc/luacni and /var/lib/cni, which are empty but for
-- scripts. Folders above the scripts have to be root's, so they are no links.
local world <const> = [==[
set -eu
exe=$1 file=$2 module=$3 types=$4
shift 4
dir=$(dirname "$file")
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
exec 3<"$exe"
cd "$dir"
mount -t tmpfs -o mode=0755 luacni /run
root=/run
# Links to all in a folder but the words that follow.
links() {
	from=$1 to=$2
	shift 2
	for entry in "$from"/* "$from"/.[!.]*; do
		case " $* " in *" ${entry##*/} "*) continue ;; esac
		[ ! -e "$entry" ] && [ ! -L "$entry" ] || ln -s "$to/${entry##*/}" "$root$from/"
	done
}
for entry in /* /.[!.]*; do
	case $entry in /run | /etc | /var | /sys) continue ;; esac
	if [ -L "$entry" ]; then cp -P "$entry" "$root$entry"
	elif [ -d "$entry" ]; then mkdir "$root$entry"; mount --rbind "$entry" "$root$entry"; fi
done
for entry in etc var; do
	mkdir "$root/.$entry"
	mount --rbind "/$entry" "$root/.$entry"
done
mkdir -p $root/run/netns $root/run/luacni-test/bin $root/run/luacni-test/luacni $root/etc/cni/net.d \
	$root/etc/luacni/plugins $root/var/lib/cni $root/sys
links /etc /.etc cni luacni
[ ! -d /etc/luacni/spec ] || ln -s /.etc/luacni/spec $root/etc/luacni/spec
links /var /.var lib
links /var/lib /.var/lib cni
mount -t sysfs sysfs $root/sys 2>/dev/null || mount --rbind /sys $root/sys
# What is made there must not land in the machine's own /run.
case $dir/ in
/run/ | /run/netns/* | /run/luacni-test/*)
	mkdir -p "$root$dir"
	for entry in ./*; do [ ! -f "$entry" ] || cp "$entry" "$root$dir/"; done ;;
/run/*) mkdir -p "$root$dir"; mount --no-canonicalize --rbind . "$root$dir" ;;
esac
# The site's scripts, those of a folder plugins beside that of the spec, those beside the spec.
for script in /etc/luacni/plugins/*.lua ../plugins/*.lua ./*.lua; do
	case $script in *_spec.lua) continue ;; esac
	[ ! -r "$script" ] || cat "$script" >"$root/etc/luacni/plugins/${script##*/}"
done
here=$root/run/luacni-test
cat <&3 >$here/bin/luacni
chmod 0755 $here/bin/luacni
for script in $root/etc/luacni/plugins/*.lua; do
	[ ! -f "$script" ] || { script=${script##*/}; types="$types ${script%.lua}"; }
done
for type in $types; do ln -sf luacni "$here/bin/$type"; done
printf %s "$module" >$here/luacni/spec.lua
exec 3<&-
unset LUA_INIT LUA_INIT_5_4 LUA_PATH_5_4 NETCONFPATH CNI_IFNAME CNI_ARGS CAP_ARGS
exec chroot $root env -C "$dir" PATH="/run/luacni-test/bin:$PATH" LUA_PATH='/run/luacni-test/?.lua;;' \
	CNI_PATH=/run/luacni-test/bin:/opt/cni/bin:/usr/lib/cni "$@"
]==]

local function is_spec(name) return name:find "_spec%.lua$" ~= nil end

-- What the words mean: a file, or the name of a type whose spec is in the site's folder.
local function spec_files(words)
  local list = {}
  for _, word in ipairs(words) do
    local is_file = word:find("/", 1, true) or word:find "%.lua$"
    local path = files.absolute(is_file and word:gsub("^%./+", "") or ("%s/%s_spec.lua"):format(folder, word))
    if not files.exists(path) then
      local names = {}
      for _, name in ipairs(files.list(folder)) do names[#names + 1] = name:match "^(.*)_spec%.lua$" end
      say.usage("test: there is no " .. path, not is_file and word or nil, names)
    end
    list[#list + 1] = path
  end
  if words[1] then return list end
  for _, name in ipairs(files.list(folder)) do
    if is_spec(name) then list[#list + 1] = folder .. "/" .. name end
  end
  return list
end

-- The path of a program, or the error that says how it is had.
local function program(name)
  local path = files.program(request.split_path(host.getenv "PATH" or "/usr/bin"), name)
  return path or fail.throw { msg = name .. " is not in PATH, and specs need it",
    hint = "apt-get install lua-busted lua5.4" }
end

local function run(command)
  local status, msg, errno = host.run(command)
  if not status then fail.throw { code = fail.codes.io, msg = msg, errno = errno } end
  return status
end

-- The command that gives what follows it namespaces of its own.
local function apart()
  local command = { "unshare", "--mount", "--net", "--propagation", "private" }
  if assert(sys.stat "/proc/self").uid == 0 then return command end
  table.insert(command, 2, "--map-root-user")
  if run { "unshare", "--map-root-user", "true" } ~= 0 then
    fail.throw { msg = "without root, specs need a user namespace, and this machine gives none",
      hint = "see the sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and " ..
        "kernel.apparmor_restrict_unprivileged_userns, or run it as root" }
  end
  return command
end

local function builtin_types()
  local names = {}
  for _, entry in ipairs(host.types() or {}) do
    if entry.origin == "built in" or host.source(entry.name) then names[#names + 1] = entry.name end
  end
  return table.concat(names, " ")
end

return {
  words = "[SPEC...] [-- OPTION...]",
  about = "run the specs of this site's types, with busted",
  text = "SPEC is a file, or a type's name, for " .. folder .. "/NAME_spec.lua; none: all of that folder. " ..
    "Each runs in user (without root), mount and network namespaces of its own, where /run, /etc/cni and " ..
    "/var/lib/cni are empty: nothing of the machine's network is seen or touched. The scripts there are " ..
    "those beside the spec, before those in a folder `plugins` beside its folder, before those of " ..
    "/etc/luacni/plugins. What a spec stands on, `luacni doc spec` tells. OPTIONs are busted's. " ..
    "The exit status is busted's, of several files the greatest.",
  least = 0, most = math.huge,
  options = {},
  examples = { "luacni test wire", "luacni test ./wire_spec.lua -- --filter=killed" },
  run = function(words)
    local specs, options = {}, {}
    for _, word in ipairs(words) do table.insert(word:find "^%-" and options or specs, word) end
    specs = spec_files(specs)
    if not specs[1] then return say.nothing(nil, nil, "there is no spec in " .. folder) end
    local lua, busted, greatest = program "lua5.4", program "busted", 0
    local before = apart()
    for _, file in ipairs(specs) do
      local command = table.move(before, 1, #before, 1, {})
      local after = { "sh", "-c", world, "luacni-test", assert(host.exe()), file, host.text "luacni.spec",
        builtin_types(), lua, busted, table.unpack(options) }
      table.move(after, 1, #after, #command + 1, command)
      command[#command + 1] = file
      if specs[2] then host.log(file) end
      greatest = math.max(greatest, run(command))
    end
    return greatest
  end,
}
