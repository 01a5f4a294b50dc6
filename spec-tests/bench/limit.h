/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the limit program share: a call and what is known of it, a netlink socket that
 * gathers requests, sends them in one go and notes one status for each, leases, masquerading.
 */
#ifndef BENCH_LIMIT_H
#define BENCH_LIMIT_H

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NL_REQUESTS = 16 };

struct nl {
	struct mnl_socket *sock;
	struct nlmsghdr *last;
	size_t used;
	uint32_t seq;
	unsigned int count;
	int status[NL_REQUESTS];
	char out[4096];
};

struct subnet {
	struct in_addr gateway;
	uint8_t len;
};

struct link {
	char name[IFNAMSIZ];
	uint8_t mac[6];
	int index;
	int peer;
	uint8_t operstate;
};

struct call {
	const char *id, *netns, *ifname, *network, *kind;
	struct subnet subnet;
	bool masq, lease, wait;
	struct link bridge, host, pod;
	struct in_addr address;
	char record[512];
};

void nl_open(struct nl *nl, int bus, unsigned int groups);
struct nlmsghdr *nl_request(struct nl *nl, uint16_t type, uint16_t flags);
void nl_finish(struct nl *nl);
int nl_exchange(struct nl *nl, mnl_cb_t answer, void *data);
_Noreturn void give_up(const char *what, int err);
void check(const char *what, int rc);

struct nlmsghdr *link_request(struct nl *nl, uint16_t type, uint16_t flags);
int read_link(const struct nlmsghdr *nlh, void *data);
void random_mac(uint8_t *mac);
int get_link(struct nl *nl, struct link *link);
void put_up(struct nl *nl, int index);
void make_bridge(struct nl *nl, struct link *bridge);
void make_veth(struct nl *nl, struct call *call, int netns);
void await_carrier(struct nl *nl, struct link *port);
void del_link(const struct call *call);
void sysctl(const char *family, const char *link, const char *name, const char *value);

void put_addr(struct nl *nl, int index, struct in_addr address, uint8_t len, uint32_t flags);
struct rtmsg *put_route(struct nl *nl, int index, struct in_addr to, uint8_t len,
			struct in_addr gateway, struct in_addr source);
void put_default_route(struct nl *nl, int index, struct in_addr gateway);
void forward(void);
void print_result(const struct call *call);

void add_kind(struct call *call);
void del_kind(struct call *call);

void take_lease(struct call *call);
void free_lease(const struct call *call);
void write_record(struct call *call);
bool read_record(struct call *call);

int masq_add(struct nl *nl, const struct subnet *subnet, struct in_addr address);
int masq_del(struct nl *nl, const struct subnet *subnet, struct in_addr address);

#endif
