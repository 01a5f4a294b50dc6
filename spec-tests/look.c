/* SPDX-License-Identifier: MIT */
/*
 * look: print what there is of links, addresses, routes, rules, bridge VLANs, queueing disciplines
 * and nf_tables in some network namespaces, and of files below /run/luacni and the
 * lease directory, one line each, as the kernel gives it.
 *
 *	look [-c FILE] [-n] [-s] NETNS...
 *
 * With -c nothing is printed: the status is 0 when FILE holds the same, else 1. With -n no
 * files; with -s also settings of links (/proc/sys/net) and permanent neighbours.
 * A glance for specs that look hundreds of times: what nobody sets (counters,
 * timers, a carrier's state) is left out as far as that is simple, so that a
 * difference may be none, but no difference is certain.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static FILE *out;
static bool with_files = true, with_settings;

/* Attributes left out, by the way that leads to them; 0 ends a way. */
struct way {
	unsigned short type[4];
};

/* What a bridge has learnt; newer than many a machine's headers. */
enum { BRPORT_MCAST_N_GROUPS = 41, BR_FDB_N_LEARNED = 48 };

static const struct way link_skip[] = {
	{ { IFLA_STATS } }, { { IFLA_STATS64 } }, { { IFLA_OPERSTATE } }, { { IFLA_CARRIER } },
	{ { IFLA_CARRIER_CHANGES } }, { { IFLA_CARRIER_UP_COUNT } },
	{ { IFLA_CARRIER_DOWN_COUNT } },
	{ { IFLA_AF_SPEC, AF_INET6, IFLA_INET6_FLAGS } },
	{ { IFLA_AF_SPEC, AF_INET6, IFLA_INET6_CACHEINFO } },
	{ { IFLA_AF_SPEC, AF_INET6, IFLA_INET6_STATS } },
	{ { IFLA_AF_SPEC, AF_INET6, IFLA_INET6_ICMP6STATS } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_HELLO_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_TCN_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_TOPOLOGY_CHANGE_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_GC_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MESSAGE_AGE_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_FORWARD_DELAY_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_HOLD_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, BR_FDB_N_LEARNED } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, BRPORT_MCAST_N_GROUPS } },
	/* The last ones, SETTINGS of them, unless settings are wanted. */
	{ { IFLA_AF_SPEC, AF_INET } }, { { IFLA_AF_SPEC, AF_INET6, IFLA_INET6_CONF } },
};
enum { SETTINGS = 2 };
static const struct way addr_skip[] = { { { IFA_CACHEINFO } } };
static const struct way route_skip[] = { { { RTA_CACHEINFO } }, { { RTA_EXPIRES } } };
static const struct way neigh_skip[] = { { { NDA_CACHEINFO } }, { { NDA_PROBES } } };
static const struct way chain_skip[] = { { { NFTA_CHAIN_COUNTERS } } };
/* Entered, for what is_counter() says. */
static const struct way rule_skip[] = {
	{ { NFTA_RULE_EXPRESSIONS, NFTA_LIST_ELEM, USHRT_MAX } },
};
static const struct way element_skip[] = {
	{ { NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_LIST_ELEM, NFTA_SET_ELEM_EXPIRATION } },
};
static const struct way qdisc_skip[] = {
	{ { TCA_STATS } }, { { TCA_STATS2 } }, { { TCA_XSTATS } },
};
static const struct way vlan_skip[] = {
	{ { IFLA_OPERSTATE } }, { { IFLA_PROTINFO } }, { { IFLA_MTU } },
};

static void hex(const void *data, size_t length)
{
	const unsigned char *byte = data;

	for (size_t i = 0; i < length; i++)
		fprintf(out, "%02x", byte[i]);
}

enum verdict { KEEP, SKIP, ENTER };

static enum verdict judge(const struct way *skip, size_t count, const unsigned short *way,
			  size_t depth)
{
	enum verdict verdict = KEEP;

	for (size_t i = 0; i < count; i++) {
		if (memcmp(skip[i].type, way, depth * sizeof(*way)) != 0)
			continue;
		if (depth == ARRAY_SIZE(skip[i].type) || !skip[i].type[depth])
			return SKIP;
		verdict = ENTER;
	}
	return verdict;
}

/* An expression of a rule, that counts what passes. */
static bool is_counter(const char *data, size_t length)
{
	static const char name[] = "counter";

	return length >= sizeof(struct rtattr) + sizeof(name) &&
		memcmp(data + sizeof(struct rtattr), name, sizeof(name)) == 0;
}

static void attributes(const char *data, size_t length, const struct way *skip, size_t count,
		       unsigned short *way, size_t depth)
{
	if (skip == rule_skip && depth == 2 && is_counter(data, length))
		return;
	while (length >= sizeof(struct rtattr)) {
		struct rtattr attr;
		size_t step;

		memcpy(&attr, data, sizeof(attr));
		if (attr.rta_len < sizeof(attr) || attr.rta_len > length)
			return;
		way[depth] = attr.rta_type & 0x3fff;	/* without the flags */
		switch (judge(skip, count, way, depth + 1)) {
		case KEEP:
			fprintf(out, " %u:", way[depth]);
			hex(data + sizeof(attr), attr.rta_len - sizeof(attr));
			break;
		case ENTER:
			fprintf(out, " %u{", way[depth]);
			attributes(data + sizeof(attr), attr.rta_len - sizeof(attr), skip, count,
				   way, depth + 1);
			fputs(" }", out);
			break;
		case SKIP:
			break;
		}
		step = RTA_ALIGN(attr.rta_len);
		if (step > length)
			return;
		data += step;
		length -= step;
	}
}

/* What a header has that passes by itself; false: the whole message is left out. */
static bool settle_link(void *header, size_t length)
{
	struct ifinfomsg *link = header;

	(void)length;
	link->ifi_index = 0;
	link->ifi_flags &= ~(unsigned int)(IFF_RUNNING | IFF_LOWER_UP);
	return true;
}

static bool settle_addr(void *header, size_t length)
{
	struct ifaddrmsg *addr = header;
	struct rtattr *attr = IFA_RTA(addr);
	size_t left = length - NLMSG_ALIGN(sizeof(*addr));

	addr->ifa_flags &= (unsigned char)~IFA_F_TENTATIVE;
	for (; RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
		if (attr->rta_type == IFA_FLAGS)
			*(unsigned int *)RTA_DATA(attr) &= ~(unsigned int)IFA_F_TENTATIVE;
	return true;
}

static bool settle_neigh(void *header, size_t length)
{
	struct ndmsg *neigh = header;

	(void)length;
	neigh->ndm_ifindex = 0;
	return neigh->ndm_state & NUD_PERMANENT;
}

/* What it says of itself is how many refer to it. */
static bool settle_qdisc(void *header, size_t length)
{
	struct tcmsg *qdisc = header;

	(void)length;
	qdisc->tcm_ifindex = 0;
	qdisc->tcm_info = 0;
	return true;
}

/* IPv6's own local routes come when duplicate address detection is through. */
static bool settle_route(void *header, size_t length)
{
	struct rtmsg *route = header;

	(void)length;
	route->rtm_flags &= ~(unsigned int)(RTNH_F_DEAD | RTNH_F_LINKDOWN);
	return route->rtm_family != AF_INET6 || route->rtm_table != RT_TABLE_LOCAL;
}

#define NFT(get) (NFNL_SUBSYS_NFTABLES << 8 | (get))
#define SKIPPING(list) list, ARRAY_SIZE(list)

static const struct dump {
	const char *name;
	int protocol;
	unsigned short type;
	unsigned char family;
	size_t header;
	bool (*settle)(void *header, size_t length);
	const struct way *skip;
	size_t skips;
	bool vlans, setting;
} dumps[] = {
	{ "link", NETLINK_ROUTE, RTM_GETLINK, AF_UNSPEC, sizeof(struct ifinfomsg), settle_link,
	  SKIPPING(link_skip), false, false },
	{ "vlan", NETLINK_ROUTE, RTM_GETLINK, AF_BRIDGE, sizeof(struct ifinfomsg), settle_link,
	  SKIPPING(vlan_skip), true, false },
	{ "addr", NETLINK_ROUTE, RTM_GETADDR, AF_UNSPEC, sizeof(struct ifaddrmsg), settle_addr,
	  SKIPPING(addr_skip), false, false },
	{ "route4", NETLINK_ROUTE, RTM_GETROUTE, AF_INET, sizeof(struct rtmsg), settle_route,
	  SKIPPING(route_skip), false, false },
	{ "route6", NETLINK_ROUTE, RTM_GETROUTE, AF_INET6, sizeof(struct rtmsg), settle_route,
	  SKIPPING(route_skip), false, false },
	{ "neigh", NETLINK_ROUTE, RTM_GETNEIGH, AF_UNSPEC, sizeof(struct ndmsg), settle_neigh,
	  SKIPPING(neigh_skip), false, true },
	{ "rule", NETLINK_ROUTE, RTM_GETRULE, AF_UNSPEC, sizeof(struct fib_rule_hdr), NULL, NULL, 0,
	  false, false },
	{ "qdisc", NETLINK_ROUTE, RTM_GETQDISC, AF_UNSPEC, sizeof(struct tcmsg), settle_qdisc,
	  SKIPPING(qdisc_skip), false, false },
	{ "table", NETLINK_NETFILTER, NFT(NFT_MSG_GETTABLE), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false, false },
	{ "chain", NETLINK_NETFILTER, NFT(NFT_MSG_GETCHAIN), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, SKIPPING(chain_skip), false, false },
	{ "rules", NETLINK_NETFILTER, NFT(NFT_MSG_GETRULE), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, SKIPPING(rule_skip), false, false },
	{ "set", NETLINK_NETFILTER, NFT(NFT_MSG_GETSET), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false, false },
};

static const struct dump elements = {
	"element", NETLINK_NETFILTER, NFT(NFT_MSG_GETSETELEM), AF_UNSPEC, sizeof(struct nfgenmsg),
	NULL, SKIPPING(element_skip), false, false
};

/* Sets seen in a namespace, whose elements have to be asked for one by one. */
static struct set {
	unsigned char family;
	char table[NFT_NAME_MAXLEN], name[NFT_NAME_MAXLEN];
} sets[64];
static size_t set_count;

static void note_set(const char *header, size_t length)
{
	struct set *set = &sets[set_count];
	struct rtattr *attr = (struct rtattr *)(header + NLMSG_ALIGN(sizeof(struct nfgenmsg)));

	if (set_count == ARRAY_SIZE(sets))
		return;
	set_count++;
	set->family = (unsigned char)header[0];
	length -= NLMSG_ALIGN(sizeof(struct nfgenmsg));
	for (; RTA_OK(attr, length); attr = RTA_NEXT(attr, length)) {
		if (attr->rta_type == NFTA_SET_TABLE)
			snprintf(set->table, sizeof(set->table), "%s", (char *)RTA_DATA(attr));
		else if (attr->rta_type == NFTA_SET_NAME)
			snprintf(set->name, sizeof(set->name), "%s", (char *)RTA_DATA(attr));
	}
}

static void line(const char *where, const struct dump *dump, struct nlmsghdr *message)
{
	char *header = NLMSG_DATA(message);
	unsigned short way[8] = { 0 };
	size_t room = message->nlmsg_len - NLMSG_HDRLEN;
	size_t after = NLMSG_ALIGN(dump->header);

	if (room < dump->header || (dump->settle && !dump->settle(header, room)))
		return;
	if (dump->type == NFT(NFT_MSG_GETSET))
		note_set(header, room);
	fprintf(out, "%s %s ", where, dump->name);
	/* An nf_tables header's last field is the generation of the rule set. */
	hex(header, dump->protocol == NETLINK_NETFILTER ? 2 : dump->header);
	if (room > after)
		attributes(header + after, room - after, dump->skip,
			   dump->skips - (dump->skip == link_skip && with_settings ? SETTINGS : 0),
			   way, 0);
	fputc('\n', out);
}

static size_t put(char *body, size_t at, unsigned short type, const void *data, size_t length)
{
	struct rtattr attr = { (unsigned short)RTA_LENGTH(length), type };

	memcpy(body + at, &attr, sizeof(attr));
	memcpy(body + at + sizeof(attr), data, length);
	return at + RTA_SPACE(length);
}

static int ask(int sock, const struct dump *dump, const struct set *set)
{
	struct {
		struct nlmsghdr h;
		char body[64 + 2 * NFT_NAME_MAXLEN];
	} request = { 0 };
	unsigned int vlans = RTEXT_FILTER_BRVLAN;
	size_t length = NLMSG_ALIGN(dump->header);

	request.body[0] = (char)(set ? set->family : dump->family);
	if (dump->vlans)
		length = put(request.body, length, IFLA_EXT_MASK, &vlans, sizeof(vlans));
	if (set) {
		length = put(request.body, length, NFTA_SET_ELEM_LIST_TABLE, set->table,
			     strlen(set->table) + 1);
		length = put(request.body, length, NFTA_SET_ELEM_LIST_SET, set->name,
			     strlen(set->name) + 1);
	}
	request.h.nlmsg_len = (unsigned int)NLMSG_LENGTH(length);
	request.h.nlmsg_type = dump->type;
	request.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	return send(sock, &request, request.h.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* A kernel without the subsystem has nothing of it. */
static int show(const char *where, const struct dump *dump, const struct set *set)
{
	static _Alignas(struct nlmsghdr) char buffer[1 << 17];
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, dump->protocol);
	int err;

	if (sock < 0)
		return dump->protocol == NETLINK_NETFILTER ? 0 : -errno;
	err = ask(sock, dump, set);
	while (!err) {
		ssize_t got = recv(sock, buffer, sizeof(buffer), 0);
		struct nlmsghdr *message = (struct nlmsghdr *)buffer;
		unsigned int left = got < 0 ? 0 : (unsigned int)got;

		if (got < 0)
			err = -errno;
		for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
			if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
				close(sock);
				return 0;
			}
			line(where, dump, message);
		}
	}
	close(sock);
	return err;
}

/* Those of no link; a link's are among its attributes. */
static void settings(const char *where)
{
	static const char *const names[] = {
		"ipv4/ip_forward", "ipv4/conf/*/rp_filter", "ipv4/conf/*/arp_notify", "ipv4/conf/*/proxy_arp",
		"ipv6/conf/*/forwarding", "ipv6/conf/*/accept_ra", "ipv6/conf/*/accept_dad",
		"ipv6/conf/*/enhanced_dad", "ipv6/conf/*/keep_addr_on_down",
		"ipv6/conf/*/disable_ipv6",
	};
	static const char *const all[] = { "all", "default" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *star = strchr(names[i], '*');

		for (size_t k = 0; k < (star ? ARRAY_SIZE(all) : 1); k++) {
			char path[128], value[32];
			int fd;
			ssize_t got;

			snprintf(path, sizeof(path), "/proc/sys/net/%.*s%s%s",
				 (int)(star ? star - names[i] : (ptrdiff_t)strlen(names[i])),
				 names[i], star ? all[k] : "", star ? star + 1 : "");
			fd = open(path, O_RDONLY | O_CLOEXEC);
			got = fd < 0 ? 0 : read(fd, value, sizeof(value) - 1);
			if (fd >= 0)
				close(fd);
			value[got > 0 ? got : 0] = '\0';
			fprintf(out, "%s %s %s\n", where, path, value);
		}
	}
}

static int namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err = fd < 0 || setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	set_count = 0;
	for (size_t i = 0; !err && i < ARRAY_SIZE(dumps); i++)
		if (with_settings || !dumps[i].setting)
			err = show(path, &dumps[i], NULL);
	for (size_t i = 0; !err && i < set_count; i++)
		err = show(path, &elements, &sets[i]);
	if (!err && with_settings)
		settings(path);
	return err;
}

/* Locks and the place where a search goes on may stay, and an index is a cache. */
static bool passing(const char *path, const char *name)
{
	return strcmp(name, "lock") == 0 || strncmp(name, "last_reserved_ip.", 17) == 0 ||
		strncmp(path, "/run/luacni/leases/", 19) == 0;
}

static int file(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	char bytes[4096];
	size_t got;
	FILE *f;

	(void)st;
	if (type != FTW_F || passing(path, path + walk->base))
		return 0;
	f = fopen(path, "r");
	if (!f)
		return 0;
	fprintf(out, "file %s ", path);
	while ((got = fread(bytes, 1, sizeof(bytes), f)) > 0)
		hex(bytes, got);
	fputc('\n', out);
	fclose(f);
	return 0;
}

static int compare(const char *path, const char *now, size_t size)
{
	FILE *f = fopen(path, "r");
	char *was = malloc(size + 1);
	bool same = f && was && fread(was, 1, size + 1, f) == size && memcmp(was, now, size) == 0;

	free(was);
	if (f)
		fclose(f);
	return same ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *with = NULL;
	char *now = NULL;
	size_t size = 0;
	int opt, status = 0;

	while ((opt = getopt(argc, argv, "c:ns")) != -1) {
		if (opt == 'c')
			with = optarg;
		else if (opt == 'n')
			with_files = false;
		else if (opt == 's')
			with_settings = true;
		else
			return 2;
	}
	out = with ? open_memstream(&now, &size) : stdout;
	if (!out)
		return 2;
	if (with_files) {
		nftw("/run/luacni", file, 16, FTW_PHYS);
		nftw("/var/lib/cni/networks", file, 16, FTW_PHYS);
	}
	for (int i = optind; i < argc; i++) {
		int err = namespace(argv[i]);

		if (err) {
			fprintf(stderr, "look: %s: %s\n", argv[i], strerror(-err));
			return 2;
		}
	}
	if (fclose(out) != 0)
		return 2;
	if (with)
		status = compare(with, now, size);
	free(now);
	return status;
}
