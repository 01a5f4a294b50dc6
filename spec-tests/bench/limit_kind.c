/* SPDX-License-Identifier: MIT */
/*
 * The limit program in the place of the other interface plugins: one request makes the link in the
 * pod, another batch configures it there.
 */
#include "limit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { VLAN_ID = 100, VRF_TABLE = 10 };

struct world {
	struct nl host;
	int netns;
};

static void enter(const struct world *world, const struct call *call)
{
	if (setns(world->netns, CLONE_NEWNET) < 0)
		give_up(call->netns, errno);
}

/* --- links with a kind of their own ---------------------------------------------------------- */

static void vlan_data(struct nlmsghdr *nlh)
{
	mnl_attr_put_u16(nlh, IFLA_VLAN_ID, VLAN_ID);
}

static void macvlan_data(struct nlmsghdr *nlh)
{
	mnl_attr_put_u32(nlh, IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE);
}

static void ipvlan_data(struct nlmsghdr *nlh)
{
	mnl_attr_put_u16(nlh, IFLA_IPVLAN_MODE, IPVLAN_MODE_L2);
}

static void vrf_data(struct nlmsghdr *nlh)
{
	mnl_attr_put_u32(nlh, IFLA_VRF_TABLE, VRF_TABLE);
}

static void put_info(struct nlmsghdr *nlh, const char *kind, void (*put_data)(struct nlmsghdr *))
{
	struct nlattr *info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);

	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, kind);
	if (put_data) {
		struct nlattr *data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);

		put_data(nlh);
		mnl_attr_nest_end(nlh, data);
	}
	mnl_attr_nest_end(nlh, info);
}

struct kind;

static void make_on_master(struct world *world, struct call *call, const struct kind *kind);
static void make_alone(struct world *world, struct call *call, const struct kind *kind);
static void make_tap(struct world *world, struct call *call, const struct kind *kind);
static void make_pair(struct world *world, struct call *call, const struct kind *kind);
static void lend(struct world *world, struct call *call, const struct kind *kind);

static const struct kind {
	const char *name;
	void (*make)(struct world *world, struct call *call, const struct kind *kind);
	void (*put_data)(struct nlmsghdr *nlh);
	bool own_mac;
	bool shared;    /* the wire, so that addresses are announced and duplicates looked for */
	bool announces; /* addresses, without looking for duplicates */
} kinds[] = {
	{ "vlan", make_on_master, vlan_data, false, true, false },
	{ "macvlan", make_on_master, macvlan_data, true, true, false },
	{ "ipvlan", make_on_master, ipvlan_data, false, true, false },
	{ "dummy", make_alone, NULL, true, false, false },
	{ "tap", make_tap, NULL, false, false, true },
	{ "ptp", make_pair, NULL, true, false, false },
	{ "host-device", lend, NULL, false, false, false },
};

static struct nlmsghdr *new_link(struct nl *nl, struct call *call, const struct kind *kind)
{
	struct nlmsghdr *nlh = link_request(nl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);

	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->ifname);
	if (kind->own_mac) {
		random_mac(call->pod.mac);
		mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(call->pod.mac), call->pod.mac);
	}
	return nlh;
}

static void make_on_master(struct world *world, struct call *call, const struct kind *kind)
{
	struct nlmsghdr *nlh;

	check(call->bridge.name, get_link(&world->host, &call->bridge));
	nlh = new_link(&world->host, call, kind);
	mnl_attr_put_u32(nlh, IFLA_LINK, (uint32_t)call->bridge.index);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)world->netns);
	put_info(nlh, kind->name, kind->put_data);
	check(kind->name, nl_exchange(&world->host, NULL, NULL));
	enter(world, call);
}

static void make_alone(struct world *world, struct call *call, const struct kind *kind)
{
	struct nl pod;

	enter(world, call);
	nl_open(&pod, NETLINK_ROUTE, 0);
	put_info(new_link(&pod, call, kind), kind->name, kind->put_data);
	check(kind->name, nl_exchange(&pod, NULL, NULL));
	mnl_socket_close(pod.sock);
}

static void make_tap(struct world *world, struct call *call, const struct kind *kind)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd;

	/* Its links are of the namespace it was opened in. */
	enter(world, call);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", call->ifname);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		give_up(kind->name, errno);
	close(fd);
}

/* The host's end: up, the gateway's address, the route to the pod. */
static void make_pair(struct world *world, struct call *call, const struct kind *kind)
{
	(void)kind;
	make_veth(&world->host, call, world->netns);
	put_up(&world->host, call->host.index);
	put_addr(&world->host, call->host.index, call->subnet.gateway, 32, 0);
	put_route(&world->host, call->host.index, call->address, 32, (struct in_addr){ 0 },
		  (struct in_addr){ 0 })->rtm_scope = RT_SCOPE_HOST;
	sysctl("ipv6", call->host.name, "accept_dad", "0");
	check("host", nl_exchange(&world->host, NULL, NULL));
	forward();
	enter(world, call);
}

static void lend(struct world *world, struct call *call, const struct kind *kind)
{
	struct nlmsghdr *nlh;

	check(call->bridge.name, get_link(&world->host, &call->bridge));
	nlh = link_request(&world->host, RTM_SETLINK, 0);
	((struct ifinfomsg *)mnl_nlmsg_get_payload(nlh))->ifi_index = call->bridge.index;
	mnl_attr_put_strz(nlh, IFLA_IFALIAS, call->bridge.name);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->ifname);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)world->netns);
	check(kind->name, nl_exchange(&world->host, NULL, NULL));
	enter(world, call);
}

/* --- the pod ---------------------------------------------------------------------------------- */

static void configure(struct call *call, const struct kind *kind)
{
	struct in_addr gateway = call->subnet.gateway, none = { 0 };
	struct in_addr network = { gateway.s_addr & ~htonl(UINT32_MAX >> call->subnet.len) };
	bool pair = kind->make == make_pair;
	struct nl pod;

	nl_open(&pod, NETLINK_ROUTE, 0);
	snprintf(call->pod.name, sizeof(call->pod.name), "%s", call->ifname);
	call->pod.index = 0;
	check("pod", get_link(&pod, &call->pod));
	if (kind->shared || kind->announces)
		sysctl("ipv4", call->ifname, "arp_notify", "1");
	put_addr(&pod, call->pod.index, call->address, call->subnet.len,
		    pair ? IFA_F_NOPREFIXROUTE : 0);
	put_up(&pod, call->pod.index);
	if (pair) {
		put_route(&pod, call->pod.index, gateway, 32, none, call->address);
		put_route(&pod, call->pod.index, network, call->subnet.len, gateway, call->address);
	}
	put_default_route(&pod, call->pod.index, gateway);
	check("pod", nl_exchange(&pod, NULL, NULL));
}

/* --- VRF: no link and no address of its own --------------------------------------------------- */

static void put_master(struct nl *nl, int index, int master)
{
	struct nlmsghdr *nlh = link_request(nl, RTM_SETLINK, 0);

	((struct ifinfomsg *)mnl_nlmsg_get_payload(nlh))->ifi_index = index;
	mnl_attr_put_u32(nlh, IFLA_MASTER, (uint32_t)master);
}

static void add_vrf(const struct world *world, struct call *call)
{
	struct nlmsghdr *nlh;
	struct nl pod;
	int rc;

	enter(world, call);
	nl_open(&pod, NETLINK_ROUTE, 0);
	write_record(call);
	snprintf(call->pod.name, sizeof(call->pod.name), "%s", call->ifname);
	check(call->ifname, get_link(&pod, &call->pod));
	rc = get_link(&pod, &call->bridge);
	if (rc == -ENODEV) {
		nlh = link_request(&pod, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
		mnl_attr_put_strz(nlh, IFLA_IFNAME, call->bridge.name);
		put_info(nlh, "vrf", vrf_data);
		check("vrf", nl_exchange(&pod, NULL, NULL));
		rc = get_link(&pod, &call->bridge);
		put_up(&pod, call->bridge.index);
	}
	check("vrf", rc);
	put_master(&pod, call->pod.index, call->bridge.index);
	check("vrf", nl_exchange(&pod, NULL, NULL));
	print_result(call);
}

static void del_vrf(const struct world *world, struct call *call)
{
	struct nlmsghdr *nlh;
	struct nl pod;

	enter(world, call);
	nl_open(&pod, NETLINK_ROUTE, 0);
	snprintf(call->pod.name, sizeof(call->pod.name), "%s", call->ifname);
	check(call->ifname, get_link(&pod, &call->pod));
	put_master(&pod, call->pod.index, 0);
	nlh = link_request(&pod, RTM_DELLINK, 0);
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->bridge.name);
	check("vrf", nl_exchange(&pod, NULL, NULL));
	if (read_record(call))
		unlink(call->record);
}

/* --- ADD and DEL ------------------------------------------------------------------------------ */

static struct world open_world(const struct call *call)
{
	struct world world = { .netns = open(call->netns, O_RDONLY | O_CLOEXEC) };

	if (world.netns < 0)
		give_up(call->netns, errno);
	nl_open(&world.host, NETLINK_ROUTE, 0);
	return world;
}

static const struct kind *find_kind(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return &kinds[i];
	give_up(name, EINVAL);
}

void add_kind(struct call *call)
{
	struct world world = open_world(call);
	const struct kind *kind;

	if (strcmp(call->kind, "vrf") == 0) {
		add_vrf(&world, call);
		return;
	}
	kind = find_kind(call->kind);
	take_lease(call);
	write_record(call);
	kind->make(&world, call, kind);
	configure(call, kind);
	print_result(call);
}

static void give_back(struct world *world, struct call *call)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct nlmsghdr *nlh;
	struct nl pod;

	enter(world, call);
	nl_open(&pod, NETLINK_ROUTE, 0);
	snprintf(call->pod.name, sizeof(call->pod.name), "%s", call->ifname);
	check(call->ifname, get_link(&pod, &call->pod));
	nlh = link_request(&pod, RTM_SETLINK, 0);
	((struct ifinfomsg *)mnl_nlmsg_get_payload(nlh))->ifi_index = call->pod.index;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, call->bridge.name);
	mnl_attr_put_strz(nlh, IFLA_IFALIAS, "");
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)home);
	check("return", nl_exchange(&pod, NULL, NULL));
	check(call->bridge.name, get_link(&world->host, &call->bridge));
	put_up(&world->host, call->bridge.index);
	check("return", nl_exchange(&world->host, NULL, NULL));
}

void del_kind(struct call *call)
{
	bool known = read_record(call);
	struct world world;

	if (strcmp(call->kind, "vrf") == 0) {
		world = open_world(call);
		del_vrf(&world, call);
		return;
	}
	if (find_kind(call->kind)->make == lend) {
		world = open_world(call);
		give_back(&world, call);
	} else {
		del_link(call);
	}
	if (!known)
		return;
	free_lease(call);
	unlink(call->record);
}
