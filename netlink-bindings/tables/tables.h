/* SPDX-License-Identifier: MIT */
/*
 * The rtnetlink objects as data: which messages carry them, and a row for every attribute.
 *
 *   tables/tables.c        objects; addresses, routes, rules, neighbours, bridge VLANs
 *   tables/links.c   links: what all have
 *   tables/kinds.c   links: each kind's own
 *   tables/tc.c      queueing disciplines, classes, filters
 *   tables/hooks.c  the values that are more than one attribute (prefixes, next hops, ...)
 */
#ifndef NETLINK_BINDINGS_TABLES_TABLES_H
#define NETLINK_BINDINGS_TABLES_TABLES_H

#include "attr/attr.h"

struct rtnl_object {
	const char *name;
	const struct attr_table *table;  /* to write, and what answers look like */
	const struct attr_table *filter; /* the keys by which the kernel filters a dump */
	const struct attr_table *lookup; /* the keys of a keyed RTM_GET; NULL: dump and compare */
	const struct attr_table *answer; /* when answers look different from requests */
	uint16_t add, del, get;          /* RTM_* */
	uint8_t family;                  /* always in the header; 0: as the values say */
	bool echoes;                     /* an answer to a keyed RTM_GET has to be asked for as an echo */
	unsigned int group, group6;      /* RTNLGRP_* of its notifications; 0: none */
};

extern const struct rtnl_object rtnl_objects[];
extern const size_t rtnl_object_count;

/*
 * The object that a message of this type is about, and by which of its tables it is read; NULL: there
 * are no rows for it. The family is the first byte of the message's body.
 */
const struct rtnl_object *rtnl_object_of(uint16_t type, uint8_t family,
					 const struct attr_table **ret_table);

extern const struct attr_table rtnl_link_table, rtnl_link_lookup, rtnl_link_filter;
extern const struct attr_switch rtnl_kind_switch, rtnl_port_switch;
extern const struct attr_table rtnl_route_table;
extern const struct attr_table rtnl_qdisc_table, rtnl_class_table, rtnl_tfilter_table, rtnl_tc_lookup,
	rtnl_tc_filter;

/* With hook_prefix, hook_destination, hook_table, hook_lifetime, .offset is where the rest goes. */
extern const struct attr_hook hook_raw, hook_netns, hook_link_name, hook_address, hook_peer, hook_lifetime,
	hook_prefix, hook_destination, hook_family_ip, hook_gateway, hook_table, hook_multipath,
	hook_vlan, hook_vlan_part, hook_vlan_entries;

#endif
