/* SPDX-License-Identifier: MIT */
/*
 * The limit: what a bridge ADD and DEL cost when nothing but the kernel's work is done. A bare
 * program over libmnl makes the requests of an ideal plugin, for the same result as
 * `bridge` with `host-local`: veth born in place, addresses, routes, lease in host-local's format,
 * masquerading on demand. It is a yardstick, not a plugin: no configuration, IPv4 only.
 *
 *     limit [-m] [-l] [-w] [-k KIND] NETWORK BRIDGE GATEWAY/LEN     with a plugin's CNI_* variables
 *
 * -m masquerades; -l does what host-local alone would; -w lets DEL wait for the kernel's ack
 * instead of for the link to be gone; -k does what another plugin would, its master, device or VRF
 * in the place of the bridge.
 */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void configure_pod(const struct call *call)
{
	struct nl nl;

	nl_open(&nl, NETLINK_ROUTE, 0);
	sysctl("ipv6", call->ifname, "accept_dad", "0");
	sysctl("ipv4", call->ifname, "arp_notify", "1");
	put_addr(&nl, call->pod.index, call->address, call->subnet.len, 0);
	put_up(&nl, call->pod.index);
	put_default_route(&nl, call->pod.index, call->subnet.gateway);
	check("pod", nl_exchange(&nl, NULL, NULL));
}

/* The port goes up, and the bridge has the gateway's address: for the EEXIST, nothing was read. */
static void configure_host(struct nl *nl, const struct call *call)
{
	int rc;

	put_up(nl, call->host.index);
	put_addr(nl, call->bridge.index, call->subnet.gateway, call->subnet.len, 0);
	rc = nl_exchange(nl, NULL, NULL);
	if (rc != -EEXIST)
		check("host", rc);
	forward();
}

/* ADD */

static void add(struct call *call)
{
	int netns = open(call->netns, O_RDONLY | O_CLOEXEC);
	struct nl host, nft;
	int rc;

	if (netns < 0)
		give_up(call->netns, errno);
	nl_open(&host, NETLINK_ROUTE, 0);
	if (call->masq)
		nl_open(&nft, NETLINK_NETFILTER, 0);
	rc = get_link(&host, &call->bridge);
	if (rc == -ENODEV)
		make_bridge(&host, &call->bridge);
	else
		check(call->bridge.name, rc);
	make_veth(&host, call, netns);
	take_lease(call);
	write_record(call);
	configure_host(&host, call);
	/* The sockets stay in the host's namespace, so there is no way back to go. */
	if (setns(netns, CLONE_NEWNET) < 0)
		give_up(call->netns, errno);
	configure_pod(call);
	if (call->masq)
		check("masquerade", masq_add(&nft, &call->subnet, call->address));
	await_carrier(&host, &call->host);
	print_result(call);
}

/* DEL */

/*
 * Closing an nf_tables socket waits for RCU, with the transaction lock held, as long as a deleted
 * element is not yet freed: 10 ms and more. The child that deletes the link has a copy of the
 * socket and closes it later, which is why the element goes first.
 */
static void del(struct call *call)
{
	bool known = read_record(call);
	struct nl nft;

	if (known && call->masq) {
		nl_open(&nft, NETLINK_NETFILTER, 0);
		check("masquerade", masq_del(&nft, &call->subnet, call->address));
	}
	if (!call->lease)
		del_link(call);
	if (!known)
		return;
	free_lease(call);
	unlink(call->record);
}

static void lease(struct call *call)
{
	take_lease(call);
	write_record(call);
	print_result(call);
}

static void parse_subnet(struct subnet *subnet, char *text)
{
	char *slash = strchr(text, '/');
	long len = slash ? strtol(slash + 1, NULL, 10) : 0;

	if (slash)
		*slash = '\0';
	if (len < 1 || len > 30 || inet_pton(AF_INET, text, &subnet->gateway) != 1)
		give_up(text, EINVAL);
	subnet->len = (uint8_t)len;
}

static const char *required(const char *name)
{
	const char *value = getenv(name);

	if (!value || !*value)
		give_up(name, EINVAL);
	return value;
}

static void read_arguments(struct call *call, int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "mlwk:")) != -1) {
		call->masq |= opt == 'm';
		call->lease |= opt == 'l';
		call->wait |= opt == 'w';
		if (opt == 'k')
			call->kind = optarg;
	}
	if (argc - optind != 3)
		give_up("limit [-m] [-l] [-w] [-k KIND] NETWORK BRIDGE GATEWAY/LEN", EINVAL);
	call->network = argv[optind];
	snprintf(call->bridge.name, sizeof(call->bridge.name), "%s", argv[optind + 1]);
	parse_subnet(&call->subnet, argv[optind + 2]);
	call->id = required("CNI_CONTAINERID");
	call->netns = required("CNI_NETNS");
	call->ifname = required("CNI_IFNAME");
	snprintf(call->record, sizeof(call->record), "/run/limit/%s-%s-%s", call->network, call->id,
		 call->ifname);
}

int main(int argc, char **argv)
{
	const char *command = required("CNI_COMMAND");
	struct call call = { 0 };
	char input[4096];

	read_arguments(&call, argc, argv);
	/* A plugin has to take its configuration from the pipe, read or not. */
	while (read(STDIN_FILENO, input, sizeof(input)) > 0)
		;
	if (strcmp(command, "DEL") == 0 && call.kind)
		del_kind(&call);
	else if (strcmp(command, "DEL") == 0)
		del(&call);
	else if (strcmp(command, "ADD") != 0)
		give_up(command, EOPNOTSUPP);
	else if (call.kind)
		add_kind(&call);
	else if (call.lease)
		lease(&call);
	else
		add(&call);
	return 0;
}
