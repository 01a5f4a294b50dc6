# SPDX-License-Identifier: MIT
# A command on another kernel, with this machine's file system as its root: what second-kernel and
# stock-kernel share. Each of them documents itself, then has
#   guest_boots        seconds to boot in
#   guest_limit        seconds to end in, boot and all, where LUACNI_GUEST_LIMIT says nothing
#   guest_needs        refuse with the reason what cannot be (a function)
#   guest_machine      the words that start a guest for $dir (a function: sets the array machine)
# and reads this file. In the guest, guest-init comes first.
set -u

here=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$here")
build=$(realpath -m "${LUACNI_BUILD:-$top/build}")

refuse() { echo "$*" >&2; exit 125; }

# Whether one guest ran, to its end or its deadline; $why when not.
guest_tried() {
	rm -f "$dir/booted" "$dir/status"
	: >"$dir/output"
	# A process namespace of its own, so that nothing of the guest outlives it, however it ends; not
	# as its first process, for which signals would mean something else. A network of its own too: the
	# card's packets go by multicast to whoever listens in it, which is nobody.
	timeout -s KILL "${LUACNI_GUEST_LIMIT:-$guest_limit}" \
		unshare --net --pid --fork --kill-child --mount-proc sh -c \
		'ip link set lo up; ip route add 239.192.0.0/16 dev lo; "$@"; exit $?' sh \
		"${machine[@]}" >"$dir/console" 2>&1 </dev/null &
	guest=$!
	# timeout leads a group of its own.
	trap 'kill -KILL -- -$guest 2>/dev/null' EXIT
	trap 'exit 130' INT TERM HUP
	for ((tenths = 0; tenths < guest_boots * 10; tenths++)); do
		[ ! -f "$dir/booted" ] && kill -0 $guest 2>/dev/null || break
		sleep 0.1
	done
	[ -f "$dir/booted" ] || [ "$tenths" -lt $((guest_boots * 10)) ] || kill -KILL -- -$guest
	wait $guest 2>/dev/null
	ended=$?
	trap - EXIT
	[ ! -f "$dir/booted" ] || return 0
	why="it did not boot within $guest_boots seconds"
	[ "$tenths" -eq $((guest_boots * 10)) ] || why="it did not boot: $(last_words)"
	return 1
}

# What a console ends with can be the end alone ("Aborted"), not the reason.
last_words() {
	grep -a -m 1 -E 'panic|errno' "$dir/console" || grep -a . "$dir/console" | tail -n 1
}

guest_runs() {
	dir=${1-}
	shift
	[ -d "$dir" ] && [ $# -gt 0 ] || { sed -n 's/^#   //p' "$0" >&2; exit 2; }
	guest_needs
	{
		export -p
		printf 'cd %q || exit 125\n' "$PWD"
		printf '%q ' "$@"
		echo
	} >"$dir/job"
	guest_machine
	guest_tried || guest_tried || refuse "$why (twice)"
	[ ! -f "$dir/status" ] || exit "$(cat "$dir/status")"
	[ "$ended" -ne 137 ] || exit 124
	exit 126
}
