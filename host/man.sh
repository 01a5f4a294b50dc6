#!/bin/sh
# SPDX-License-Identifier: MIT
# Build time: a man page as scdoc(5) has it, of what the program says of itself.
#   host/man.sh PROGRAM luacni.8 | luacni-plugin.7 | luacni-conf.5
set -eu
luacni=$1 page=$2
version=$("$luacni" --version)

# What the program prints, as it is.
literal() {
	echo '```'
	"$luacni" "$@"
	echo '```'
	echo
}

head() {
	printf '%s(%s) "" "%s"\n\n# NAME\n\n%s - %s\n\n' "${page%.*}" "${page##*.}" "$version" "${page%.*}" "$1"
}

case $page in
luacni.8)
	head "a host for CNI network plugins"
	cat <<-'END'
	# SYNOPSIS

	*luacni* _COMMAND_ [_OPTION_...] [_WORD_...]

	# DESCRIPTION

	Container runtimes execute this program under the name of a plugin, such as bridge, with the CNI_\* variables in
	the environment and a network configuration on standard input, as the CNI specification says. Under its own
	name it is for people.

	# COMMANDS

	END
	for command in $("$luacni" --help | sed -n 's/^  luacni \([a-z][a-z-]*\).*/\1/p'); do
		printf '## luacni %s\n\n' "$command"
		literal "$command" --help
	done
	cat <<-'END'
	# FILES

	_/etc/luacni/plugins/TYPE.lua_
		Types of this site's own; owned and writable by root alone, or refused.

	_/etc/luacni/hooks.d/NAME.lua_
		Hooks of this site, round every attachment, see *luacni doc hook*; likewise.

	_/etc/luacni/settings.json_
		Settings of this machine, see *luacni doc settings* and below; owned and writable by root alone, or refused.

	_/etc/cni/net.d_
		Networks.

	_/run/luacni_
		Records of attachments, users of what they share, what *luacni add* and *run* have begun, the index of leases.
		Dies with the boot.

	_/var/lib/cni/networks_
		Leases, as the reference plugin host-local has them.

	_/var/lib/cni/results_
		What runtimes have attached, as libcni has it.

	# TRACES

	What the file of settings may have:

	END
	literal doc settings
	cat <<-'END'
	*traces* names a file of lines of OTLP JSON, as the file exporter of OpenTelemetry writes them and the receiver
	_otlpjsonfile_ of its collector reads them. A call is a span, each of its steps one below; steps whose requests
	travel to the kernel together are below a span _send_, whose duration they have. The caller's trace is taken from
	TRACEPARENT, and goes on to the plugins and programs that a call starts; where the caller's span is not sampled,
	nothing is written. Whatever is wrong with the file, a call does not fail. It is opened anew by each call, so that
	it can be rotated by renaming it.

	*journald* sends one line for each call to _/run/systemd/journal/socket_, with the fields CNI_COMMAND,
	CNI_CONTAINERID, CNI_IFNAME, CNI_NETNS, CNI_NETWORK, CNI_TYPE, CNI_DURATION_USEC, CNI_ERROR_CODE, CNI_ERROR_MSG,
	CNI_ERROR_DETAILS, ERRNO, TRACE_ID, SPAN_ID. A value of more than 8 KiB is shortened.

	# SEE ALSO

	*luacni-conf*(5), *luacni-plugin*(7), *ip-netns*(8)
	END
	;;
luacni-plugin.7)
	head "scripts of luacni's plugins"
	cat <<-'END'
	# DESCRIPTION

	A type of plugin is a script in Lua 5.4 that returns a table; its function *add* is all that it needs. The
	program writes down each step before it takes it, and from that record come rollback, DEL, CHECK, GC and dry
	runs. *luacni new* begins one, *luacni show* prints those that came with the program.

	# WHAT A SCRIPT RETURNS

	END
	literal doc script
	printf '# THE REQUEST\n\n'
	literal doc req
	printf '# HANDLES\n\n'
	literal doc handle
	printf '# MODULES\n\n'
	for module in $("$luacni" doc | sed -n '/^For scripts/,/^$/s/^  \([a-z_]*\).*/\1/p'); do
		case $module in script | req | handle) continue ;; esac
		printf '## cni.%s\n\n' "$module"
		literal doc "$module"
	done
	printf '# SEE ALSO\n\n*luacni*(8), *luacni-conf*(5)\n'
	;;
luacni-conf.5)
	head "keys of network configurations"
	cat <<-'END'
	# DESCRIPTION

	What each of luacni's types reads in its network configuration. A list of plugins (.conflist) has *cniVersion*,
	*name* and *plugins*, a list of such configurations.

	# TYPES

	END
	for type in $("$luacni" doc | sed -n '/^Types/,/^$/s/^  \([a-z-]*\).*/\1/p'); do
		printf '## %s\n\n' "$type"
		literal doc "$type"
	done
	printf '# SEE ALSO\n\n*luacni*(8), *luacni-plugin*(7)\n'
	;;
*)
	echo "host/man.sh: there is no page $page" >&2
	exit 2
	;;
esac
