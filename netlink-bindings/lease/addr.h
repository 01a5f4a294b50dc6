/* SPDX-License-Identifier: MIT */
/*
 * IP addresses as numbers, which is what walking through a range needs, and as the one spelling
 * that may be the name of a lease file. No Lua.
 */
#ifndef NETLINK_BINDINGS_LEASE_ADDR_H
#define NETLINK_BINDINGS_LEASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEASE_ADDR_TEXT 48 /* as IP_TEXT_MAX */

typedef unsigned __int128 lease_number;

struct lease_addr {
	bool v6;
	lease_number n;
};

/* Read a text that ends in a zero byte. An IPv4-mapped IPv6 address is the IPv4 address. */
bool lease_addr_parse(const char *text, size_t len, struct lease_addr *ret);

/*
 * Write the canonical spelling: RFC 5952, and no dotted tail. It is what Go prints, so the reference
 * finds a file of this name again.
 */
void lease_addr_text(const struct lease_addr *addr, char text[LEASE_ADDR_TEXT]);

/* Read a file name: only the canonical spelling is an address, all else is somebody's own file. */
bool lease_addr_from_name(const char *name, struct lease_addr *ret);

static inline bool lease_addr_equal(const struct lease_addr *a, const struct lease_addr *b)
{
	return a->v6 == b->v6 && a->n == b->n;
}

#endif
