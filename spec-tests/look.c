/* SPDX-License-Identifier: MIT */
/*
 * look: print what there is of links, addresses, routes, rules, bridge VLANs and
 * nf_tables in some network namespaces, and of files below /run/luacni and the
 * lease directory, one line each, as the kernel gives it.
 *
 *	look [-c FILE] NETNS...
 *
 * With -c nothing is printed: the status is 0 when FILE holds the same, else 1.
 * A glance for specs that look hundreds of times: what nobody sets (counters,
 * timers, a carrier's state) is left out as far as that is simple, so that a
 * difference may be none, but no difference is certain.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static FILE *out;

/* Attributes left out, by the way that leads to them; 0 ends a way. */
struct way {
	unsigned short type[4];
};

static const struct way link_skip[] = {
	{ { IFLA_STATS } }, { { IFLA_STATS64 } }, { { IFLA_OPERSTATE } }, { { IFLA_CARRIER } },
	{ { IFLA_CARRIER_CHANGES } }, { { IFLA_CARRIER_UP_COUNT } },
	{ { IFLA_CARRIER_DOWN_COUNT } }, { { IFLA_AF_SPEC } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_HELLO_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_TCN_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_TOPOLOGY_CHANGE_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_BR_GC_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_MESSAGE_AGE_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_FORWARD_DELAY_TIMER } },
	{ { IFLA_LINKINFO, IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_HOLD_TIMER } },
};
static const struct way addr_skip[] = { { { IFA_CACHEINFO } }, { { IFA_FLAGS } } };
static const struct way route_skip[] = { { { RTA_CACHEINFO } }, { { RTA_EXPIRES } } };
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

static void attributes(const char *data, size_t length, const struct way *skip, size_t count,
		       unsigned short *way, size_t depth)
{
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
static bool settle_link(void *header)
{
	struct ifinfomsg *link = header;

	link->ifi_index = 0;
	link->ifi_flags &= ~(unsigned int)(IFF_RUNNING | IFF_LOWER_UP);
	return true;
}

static bool settle_addr(void *header)
{
	struct ifaddrmsg *addr = header;

	addr->ifa_flags &= (unsigned char)~IFA_F_TENTATIVE;
	return true;
}

/* IPv6's own local routes come when duplicate address detection is through. */
static bool settle_route(void *header)
{
	struct rtmsg *route = header;

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
	bool (*settle)(void *header);
	const struct way *skip;
	size_t skips;
	bool vlans;
} dumps[] = {
	{ "link", NETLINK_ROUTE, RTM_GETLINK, AF_UNSPEC, sizeof(struct ifinfomsg), settle_link,
	  SKIPPING(link_skip), false },
	{ "vlan", NETLINK_ROUTE, RTM_GETLINK, AF_BRIDGE, sizeof(struct ifinfomsg), settle_link,
	  SKIPPING(vlan_skip), true },
	{ "addr", NETLINK_ROUTE, RTM_GETADDR, AF_UNSPEC, sizeof(struct ifaddrmsg), settle_addr,
	  SKIPPING(addr_skip), false },
	{ "route4", NETLINK_ROUTE, RTM_GETROUTE, AF_INET, sizeof(struct rtmsg), settle_route,
	  SKIPPING(route_skip), false },
	{ "route6", NETLINK_ROUTE, RTM_GETROUTE, AF_INET6, sizeof(struct rtmsg), settle_route,
	  SKIPPING(route_skip), false },
	{ "rule", NETLINK_ROUTE, RTM_GETRULE, AF_UNSPEC, sizeof(struct fib_rule_hdr), NULL, NULL, 0,
	  false },
	{ "table", NETLINK_NETFILTER, NFT(NFT_MSG_GETTABLE), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false },
	{ "chain", NETLINK_NETFILTER, NFT(NFT_MSG_GETCHAIN), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false },
	{ "rules", NETLINK_NETFILTER, NFT(NFT_MSG_GETRULE), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false },
	{ "set", NETLINK_NETFILTER, NFT(NFT_MSG_GETSET), AF_UNSPEC, sizeof(struct nfgenmsg),
	  NULL, NULL, 0, false },
};

static void line(const char *where, const struct dump *dump, struct nlmsghdr *message)
{
	char *header = NLMSG_DATA(message);
	unsigned short way[8] = { 0 };
	size_t room = message->nlmsg_len - NLMSG_HDRLEN;
	size_t after = NLMSG_ALIGN(dump->header);

	if (room < dump->header || (dump->settle && !dump->settle(header)))
		return;
	fprintf(out, "%s %s ", where, dump->name);
	/* An nf_tables header's last field is the generation of the rule set. */
	hex(header, dump->protocol == NETLINK_NETFILTER ? 2 : dump->header);
	if (room > after)
		attributes(header + after, room - after, dump->skip, dump->skips, way, 0);
	fputc('\n', out);
}

static int ask(int sock, const struct dump *dump)
{
	struct {
		struct nlmsghdr h;
		char body[64];
	} request = { 0 };
	struct rtattr mask = { RTA_LENGTH(4), IFLA_EXT_MASK };
	unsigned int vlans = RTEXT_FILTER_BRVLAN;
	size_t length = NLMSG_ALIGN(dump->header);

	request.body[0] = (char)dump->family;
	if (dump->vlans) {
		memcpy(request.body + length, &mask, sizeof(mask));
		memcpy(request.body + length + sizeof(mask), &vlans, sizeof(vlans));
		length += mask.rta_len;
	}
	request.h.nlmsg_len = (unsigned int)NLMSG_LENGTH(length);
	request.h.nlmsg_type = dump->type;
	request.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	return send(sock, &request, request.h.nlmsg_len, 0) < 0 ? -errno : 0;
}

/* A kernel without the subsystem has nothing of it. */
static int show(const char *where, const struct dump *dump)
{
	static _Alignas(struct nlmsghdr) char buffer[1 << 17];
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, dump->protocol);
	int err;

	if (sock < 0)
		return dump->protocol == NETLINK_NETFILTER ? 0 : -errno;
	err = ask(sock, dump);
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

static int namespace(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int err = fd < 0 || setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	for (size_t i = 0; !err && i < ARRAY_SIZE(dumps); i++)
		err = show(path, &dumps[i]);
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
	int first = 1, status = 0;

	if (argc > 2 && strcmp(argv[1], "-c") == 0) {
		with = argv[2];
		first = 3;
	}
	out = with ? open_memstream(&now, &size) : stdout;
	if (!out)
		return 2;
	nftw("/run/luacni", file, 16, FTW_PHYS);
	nftw("/var/lib/cni/networks", file, 16, FTW_PHYS);
	for (int i = first; i < argc; i++) {
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
