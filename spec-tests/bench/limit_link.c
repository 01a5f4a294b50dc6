/* SPDX-License-Identifier: MIT */
/* Links of the limit program: a bridge, a veth pair born in place, its end without the wait. */
#include "limit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { OPER_UP = 6 };

struct nlmsghdr *link_request(struct nl *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = nl_request(nl, type, NLM_F_ACK | flags);
	struct ifinfomsg *head = mnl_nlmsg_put_extra_header(nlh, sizeof(*head));

	head->ifi_family = AF_UNSPEC;
	return nlh;
}

void put_up(struct nl *nl, int index)
{
	struct nlmsghdr *nlh = link_request(nl, RTM_NEWLINK, 0);
	struct ifinfomsg *head = mnl_nlmsg_get_payload(nlh);

	head->ifi_index = index;
	head->ifi_flags = IFF_UP;
	head->ifi_change = IFF_UP;
}

static int read_link_attr(const struct nlattr *attr, void *data)
{
	struct link *link = data;

	switch (mnl_attr_get_type(attr)) {
	case IFLA_IFNAME:
		snprintf(link->name, sizeof(link->name), "%s", mnl_attr_get_str(attr));
		break;
	case IFLA_ADDRESS:
		memcpy(link->mac, mnl_attr_get_payload(attr), sizeof(link->mac));
		break;
	case IFLA_LINK:
		link->peer = (int)mnl_attr_get_u32(attr);
		break;
	case IFLA_OPERSTATE:
		link->operstate = mnl_attr_get_u8(attr);
		break;
	default:
		break;
	}
	return MNL_CB_OK;
}

int read_link(const struct nlmsghdr *nlh, void *data)
{
	const struct ifinfomsg *head = mnl_nlmsg_get_payload(nlh);
	struct link *link = data;

	if (nlh->nlmsg_type != RTM_NEWLINK)
		return MNL_CB_OK;
	link->index = head->ifi_index;
	return mnl_attr_parse(nlh, sizeof(*head), read_link_attr, link);
}

int get_link(struct nl *nl, struct link *link)
{
	struct nlmsghdr *nlh = link_request(nl, RTM_GETLINK, 0);

	if (link->index)
		((struct ifinfomsg *)mnl_nlmsg_get_payload(nlh))->ifi_index = link->index;
	else
		mnl_attr_put_strz(nlh, IFLA_IFNAME, link->name);
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return nl_exchange(nl, read_link, link);
}

void random_mac(uint8_t *mac)
{
	if (getrandom(mac, 6, 0) != 6)
		give_up("getrandom", errno);
	mac[0] = (uint8_t)((mac[0] & 0xfe) | 0x02);
}

void sysctl(const char *family, const char *link, const char *name, const char *value)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, link, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		give_up(path, errno);
	close(fd);
}

static void lock_down(const char *link)
{
	sysctl("ipv6", link, "accept_ra", "0");
	sysctl("ipv6", link, "accept_redirects", "0");
}

void make_bridge(struct nl *nl, struct link *bridge)
{
	struct nlmsghdr *nlh = link_request(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info;
	int rc;

	random_mac(bridge->mac);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, bridge->name);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(bridge->mac), bridge->mac);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "bridge");
	mnl_attr_nest_end(nlh, info);
	rc = nl_exchange(nl, NULL, NULL);
	if (rc != -EEXIST)
		check("bridge", rc);
	check("bridge", get_link(nl, bridge));
	lock_down(bridge->name);
	put_up(nl, bridge->index);
	check("bridge up", nl_exchange(nl, NULL, NULL));
}

/* One request: both ends with their final name and MAC, the peer in the pod, the port enslaved. */
void make_veth(struct nl *nl, struct call *call, int netns)
{
	struct nlattr *info, *data, *peer;
	struct nlmsghdr *nlh;
	uint8_t name[4];

	if (getrandom(name, sizeof(name), 0) != sizeof(name))
		give_up("getrandom", errno);
	snprintf(call->host.name, sizeof(call->host.name), "veth%02x%02x%02x%02x", name[0],
		 name[1], name[2], name[3]);
	random_mac(call->host.mac);
	random_mac(call->pod.mac);
	/* The echo tells both indices: the link's own, and the peer's as the one it is tied to. */
	nlh = link_request(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->host.name);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(call->host.mac), call->host.mac);
	if (call->bridge.index)
		mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)call->bridge.index);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->ifname);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(call->pod.mac), call->pod.mac);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)netns);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	check("veth", nl_exchange(nl, read_link, &call->host));
	call->pod.index = call->host.peer;
	lock_down(call->host.name);
}

void await_carrier(struct nl *nl, struct link *port)
{
	struct nl events;

	check("port", get_link(nl, port));
	if (port->operstate == OPER_UP)
		return;
	nl_open(&events, NETLINK_ROUTE, RTMGRP_LINK);
	check("port", get_link(nl, port));
	while (port->operstate != OPER_UP) {
		char in[8192];
		struct link seen = *port;
		ssize_t len = mnl_socket_recvfrom(events.sock, in, sizeof(in));

		if (len < 0)
			give_up("notification", errno);
		mnl_cb_run(in, (size_t)len, 0, 0, read_link, &seen);
		if (seen.index == port->index)
			*port = seen;
	}
}

static int send_and_exit(void *data)
{
	struct nl *nl = data;

	setsid();
	close(STDIN_FILENO);
	close(STDOUT_FILENO);
	close(STDERR_FILENO);
	mnl_socket_sendto(nl->sock, nl->out, nl->used);
	_exit(0);
}

/* The end of the wait: the notification for this link, or an ack (there was nothing to delete). */
static int seen_gone(const struct nlmsghdr *nlh, void *data)
{
	struct link gone = { 0 };

	if (nlh->nlmsg_type == NLMSG_ERROR)
		return MNL_CB_STOP;
	if (nlh->nlmsg_type != RTM_DELLINK)
		return MNL_CB_OK;
	mnl_attr_parse(nlh, sizeof(struct ifinfomsg), read_link_attr, &gone);
	return strcmp(gone.name, data) == 0 ? MNL_CB_STOP : MNL_CB_OK;
}

/* A link is gone for everybody long before the request that deleted it returns. */
static void del_link_quick(struct nl *nl, const struct call *call)
{
	static char stack[16384] __attribute__((aligned(16)));
	char in[8192] __attribute__((aligned(8)));
	int rc = MNL_CB_OK, got;
	struct nlmsghdr *nlh;
	ssize_t len;

	nl_finish(nl);
	/* Sharing the memory spares copying the page tables, and the parent the wait for exit. */
	if (clone(send_and_exit, stack + sizeof(stack), CLONE_VM | SIGCHLD, nl) < 0)
		give_up("clone", errno);
	while (rc == MNL_CB_OK) {
		len = mnl_socket_recvfrom(nl->sock, in, sizeof(in));
		if (len < 0)
			give_up("notification", errno);
		got = (int)len;
		for (nlh = (void *)in; rc == MNL_CB_OK && mnl_nlmsg_ok(nlh, got);
		     nlh = mnl_nlmsg_next(nlh, &got))
			rc = seen_gone(nlh, (void *)(uintptr_t)call->ifname);
	}
}

void del_link(const struct call *call)
{
	int netns = open(call->netns, O_RDONLY | O_CLOEXEC);
	struct nlmsghdr *nlh;
	struct nl nl;
	int rc;

	if (netns < 0)
		return;
	if (setns(netns, CLONE_NEWNET) < 0)
		give_up(call->netns, errno);
	nl_open(&nl, NETLINK_ROUTE, call->wait ? 0 : RTMGRP_LINK);
	nlh = link_request(&nl, RTM_DELLINK, 0);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->ifname);
	if (!call->wait) {
		del_link_quick(&nl, call);
		return;
	}
	rc = nl_exchange(&nl, NULL, NULL);
	if (rc != -ENODEV)
		check(call->ifname, rc);
}
