/* SPDX-License-Identifier: MIT */
/* The rtnetlink objects, and every row of addresses, routes, rules, neighbours and bridge VLANs. */

#include "tables/tables.h"

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>

static const struct attr_word family_words[] = {
	{ "inet", AF_INET },
	{ "inet6", AF_INET6 },
	{ "bridge", AF_BRIDGE },
};

static const struct attr_word scope_words[] = {
	{ "global", RT_SCOPE_UNIVERSE }, { "site", RT_SCOPE_SITE }, { "link", RT_SCOPE_LINK },
	{ "host", RT_SCOPE_HOST },       { "nowhere", RT_SCOPE_NOWHERE },
};

static const struct attr_word protocol_words[] = {
	{ "unspec", RTPROT_UNSPEC },   { "redirect", RTPROT_REDIRECT },
	{ "kernel", RTPROT_KERNEL },   { "boot", RTPROT_BOOT },
	{ "static", RTPROT_STATIC },   { "ra", RTPROT_RA },
	{ "bird", RTPROT_BIRD },       { "dhcp", RTPROT_DHCP },
	{ "keepalived", RTPROT_KEEPALIVED }, { "bgp", RTPROT_BGP },
	{ "isis", RTPROT_ISIS },       { "ospf", RTPROT_OSPF },
	{ "rip", RTPROT_RIP },         { "eigrp", RTPROT_EIGRP },
	{ "zebra", RTPROT_ZEBRA },     { "babel", RTPROT_BABEL },
};

/*** Addresses ***/

static const struct attr_row addr_flag_rows[] = {
	{ .key = "secondary", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_SECONDARY,
	  .flags = ATTR_READONLY },
	{ .key = "nodad", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_NODAD },
	{ .key = "optimistic", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_OPTIMISTIC },
	{ .key = "dadfailed", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_DADFAILED,
	  .flags = ATTR_READONLY },
	{ .key = "home", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_HOMEADDRESS },
	{ .key = "deprecated", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_DEPRECATED,
	  .flags = ATTR_READONLY },
	{ .key = "tentative", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_TENTATIVE,
	  .flags = ATTR_READONLY },
	{ .key = "permanent", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_PERMANENT,
	  .flags = ATTR_READONLY },
	{ .key = "mngtmpaddr", .type = ATTR_HEADER, .kind = ATTR_U32,
	  .mask = IFA_F_MANAGETEMPADDR },
	{ .key = "noprefixroute", .type = ATTR_HEADER, .kind = ATTR_U32,
	  .mask = IFA_F_NOPREFIXROUTE },
	{ .key = "mcautojoin", .type = ATTR_HEADER, .kind = ATTR_U32, .mask = IFA_F_MCAUTOJOIN },
	{ .key = "stable_privacy", .type = ATTR_HEADER, .kind = ATTR_U32,
	  .mask = IFA_F_STABLE_PRIVACY, .flags = ATTR_READONLY },
};

static const struct attr_table addr_flags = ATTR_TABLE("addr", addr_flag_rows, sizeof(uint32_t));

static const struct attr_row addr_rows[] = {
	{ .key = "family", ATTR_FIELD(struct ifaddrmsg, ifa_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "index", ATTR_FIELD(struct ifaddrmsg, ifa_index), .kind = ATTR_U32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "scope", ATTR_FIELD(struct ifaddrmsg, ifa_scope), .kind = ATTR_U8,
	  .words = ATTR_WORDS(scope_words), .flags = ATTR_NUMBER },
	{ .key = "address", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_address },
	{ .key = "peer", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_peer },
	{ .key = "broadcast", .type = IFA_BROADCAST, .kind = ATTR_IP, .max = 4 },
	{ .key = "anycast", .type = IFA_ANYCAST, .kind = ATTR_IP, .flags = ATTR_READONLY },
	{ .key = "label", .type = IFA_LABEL, .kind = ATTR_STRING, .min = 1, .max = 15 },
	{ .key = "valid_lft", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_lifetime,
	  .offset = offsetof(struct ifa_cacheinfo, ifa_valid) },
	{ .key = "preferred_lft", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_lifetime,
	  .offset = offsetof(struct ifa_cacheinfo, ifa_prefered) },
	{ .key = "priority", .type = IFA_RT_PRIORITY, .kind = ATTR_U32 },
	{ .key = "proto", .type = IFA_PROTO, .kind = ATTR_U8 },
	{ .key = "netnsid", .type = IFA_TARGET_NETNSID, .kind = ATTR_S32, .flags = ATTR_READONLY },
	{ .type = IFA_FLAGS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED, .table = &addr_flags },
};

static const struct attr_table addr_table =
	ATTR_TABLE("addr", addr_rows, sizeof(struct ifaddrmsg));

static const struct attr_row addr_filter_rows[] = {
	{ .key = "family", ATTR_FIELD(struct ifaddrmsg, ifa_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "index", ATTR_FIELD(struct ifaddrmsg, ifa_index), .kind = ATTR_U32, .min = 1,
	  .max = INT32_MAX },
	/* Of the namespace that has this number here, as in link_netnsid of a link. */
	{ .key = "netnsid", .type = IFA_TARGET_NETNSID, .kind = ATTR_S32, .min = 0,
	  .max = INT32_MAX },
};

static const struct attr_table addr_filter =
	ATTR_TABLE("addr", addr_filter_rows, sizeof(struct ifaddrmsg));

/*** Groups that a link has joined ***/

static const struct attr_row group_rows[] = {
	{ .key = "family", ATTR_FIELD(struct ifaddrmsg, ifa_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "index", ATTR_FIELD(struct ifaddrmsg, ifa_index), .kind = ATTR_U32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "address", .type = IFA_MULTICAST, .kind = ATTR_IP, .max = 16, .flags = ATTR_READONLY },
};

static const struct attr_table group_table =
	ATTR_TABLE("group", group_rows, sizeof(struct ifaddrmsg));

/*** Routes ***/

static const struct attr_word route_type_words[] = {
	{ "unicast", RTN_UNICAST },         { "local", RTN_LOCAL },
	{ "broadcast", RTN_BROADCAST },     { "anycast", RTN_ANYCAST },
	{ "multicast", RTN_MULTICAST },     { "blackhole", RTN_BLACKHOLE },
	{ "unreachable", RTN_UNREACHABLE }, { "prohibit", RTN_PROHIBIT },
	{ "throw", RTN_THROW },             { "nat", RTN_NAT },
};

static const struct attr_word preference_words[] = {
	{ "medium", 0 },
	{ "high", 1 },
	{ "low", 3 },
};

static const struct attr_word feature_words[] = {
	{ "ecn", RTAX_FEATURE_ECN },
	{ "sack", RTAX_FEATURE_SACK },
	{ "timestamp", RTAX_FEATURE_TIMESTAMP },
};

/* Bit n of the lock holds metric n. */
static const struct attr_word metric_lock_words[] = {
	{ "mtu", 1U << RTAX_MTU },           { "window", 1U << RTAX_WINDOW },
	{ "rtt", 1U << RTAX_RTT },           { "rttvar", 1U << RTAX_RTTVAR },
	{ "ssthresh", 1U << RTAX_SSTHRESH }, { "cwnd", 1U << RTAX_CWND },
	{ "advmss", 1U << RTAX_ADVMSS },     { "reordering", 1U << RTAX_REORDERING },
	{ "hoplimit", 1U << RTAX_HOPLIMIT }, { "rto_min", 1U << RTAX_RTO_MIN },
};

static const struct attr_row metric_rows[] = {
	{ .key = "lock", .type = RTAX_LOCK, .kind = ATTR_U32, .flags = ATTR_BITS,
	  .words = ATTR_WORDS(metric_lock_words) },
	{ .key = "mtu", .type = RTAX_MTU, .kind = ATTR_U32 },
	{ .key = "window", .type = RTAX_WINDOW, .kind = ATTR_U32 },
	{ .key = "rtt", .type = RTAX_RTT, .kind = ATTR_U32 },
	{ .key = "rttvar", .type = RTAX_RTTVAR, .kind = ATTR_U32 },
	{ .key = "ssthresh", .type = RTAX_SSTHRESH, .kind = ATTR_U32 },
	{ .key = "cwnd", .type = RTAX_CWND, .kind = ATTR_U32 },
	{ .key = "advmss", .type = RTAX_ADVMSS, .kind = ATTR_U32 },
	{ .key = "reordering", .type = RTAX_REORDERING, .kind = ATTR_U32 },
	{ .key = "hoplimit", .type = RTAX_HOPLIMIT, .kind = ATTR_U32, .max = 255 },
	{ .key = "initcwnd", .type = RTAX_INITCWND, .kind = ATTR_U32 },
	{ .key = "features", .type = RTAX_FEATURES, .kind = ATTR_U32, .flags = ATTR_BITS,
	  .words = ATTR_WORDS(feature_words) },
	{ .key = "rto_min", .type = RTAX_RTO_MIN, .kind = ATTR_U32 },
	{ .key = "initrwnd", .type = RTAX_INITRWND, .kind = ATTR_U32 },
	{ .key = "quickack", .type = RTAX_QUICKACK, .kind = ATTR_BOOL32 },
	{ .key = "congestion", .type = RTAX_CC_ALGO, .kind = ATTR_STRING, .min = 1, .max = 15 },
	{ .key = "fastopen_no_cookie", .type = RTAX_FASTOPEN_NO_COOKIE, .kind = ATTR_BOOL32 },
};

static const struct attr_table metric_table = ATTR_TABLE("route", metric_rows, 0);

static const struct attr_row nexthop_rows[] = {
	{ .key = "oif", ATTR_FIELD(struct rtnexthop, rtnh_ifindex), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "weight", ATTR_FIELD(struct rtnexthop, rtnh_hops), .kind = ATTR_U8, .min = 1,
	  .max = 255 },
	{ .key = "onlink", ATTR_FIELD(struct rtnexthop, rtnh_flags), .kind = ATTR_U8,
	  .mask = RTNH_F_ONLINK },
	{ .key = "dead", ATTR_FIELD(struct rtnexthop, rtnh_flags), .kind = ATTR_U8,
	  .mask = RTNH_F_DEAD, .flags = ATTR_READONLY },
	{ .key = "linkdown", ATTR_FIELD(struct rtnexthop, rtnh_flags), .kind = ATTR_U8,
	  .mask = RTNH_F_LINKDOWN, .flags = ATTR_READONLY },
	{ .key = "gw", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_gateway },
	{ .key = "realms", .type = RTA_FLOW, .kind = ATTR_U32 },
};

static const struct attr_table nexthop_table =
	ATTR_TABLE("nexthop", nexthop_rows, sizeof(struct rtnexthop));

/* The family comes first, then the values it may follow from: the order of the rows matters. */
static const struct attr_row route_rows[] = {
	{ .key = "family", ATTR_FIELD(struct rtmsg, rtm_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "dst", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_destination,
	  .offset = offsetof(struct rtmsg, rtm_dst_len) },
	{ .key = "from", .type = RTA_SRC, .kind = ATTR_HOOK, .hook = &hook_prefix,
	  .offset = offsetof(struct rtmsg, rtm_src_len) },
	{ .key = "gw", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_gateway },
	{ .key = "src", .type = RTA_PREFSRC, .kind = ATTR_HOOK, .hook = &hook_family_ip },
	{ .key = "tos", ATTR_FIELD(struct rtmsg, rtm_tos), .kind = ATTR_U8 },
	{ .key = "protocol", ATTR_FIELD(struct rtmsg, rtm_protocol), .kind = ATTR_U8,
	  .words = ATTR_WORDS(protocol_words), .flags = ATTR_NUMBER },
	{ .key = "scope", ATTR_FIELD(struct rtmsg, rtm_scope), .kind = ATTR_U8,
	  .words = ATTR_WORDS(scope_words), .flags = ATTR_NUMBER },
	{ .key = "type", ATTR_FIELD(struct rtmsg, rtm_type), .kind = ATTR_U8,
	  .words = ATTR_WORDS(route_type_words) },
	{ .key = "onlink", ATTR_FIELD(struct rtmsg, rtm_flags), .kind = ATTR_U32,
	  .mask = RTNH_F_ONLINK },
	{ .key = "dead", ATTR_FIELD(struct rtmsg, rtm_flags), .kind = ATTR_U32,
	  .mask = RTNH_F_DEAD, .flags = ATTR_READONLY },
	{ .key = "linkdown", ATTR_FIELD(struct rtmsg, rtm_flags), .kind = ATTR_U32,
	  .mask = RTNH_F_LINKDOWN, .flags = ATTR_READONLY },
	{ .key = "table", .type = RTA_TABLE, .kind = ATTR_HOOK, .hook = &hook_table,
	  .offset = offsetof(struct rtmsg, rtm_table) },
	{ .key = "oif", .type = RTA_OIF, .kind = ATTR_U32, .min = 1, .max = INT32_MAX },
	{ .key = "iif", .type = RTA_IIF, .kind = ATTR_U32, .min = 1, .max = INT32_MAX },
	{ .key = "priority", .type = RTA_PRIORITY, .kind = ATTR_U32 },
	{ .key = "mark", .type = RTA_MARK, .kind = ATTR_U32 },
	{ .key = "realms", .type = RTA_FLOW, .kind = ATTR_U32 },
	{ .key = "pref", .type = RTA_PREF, .kind = ATTR_U8, .words = ATTR_WORDS(preference_words) },
	{ .key = "expires", .type = RTA_EXPIRES, .kind = ATTR_U32 },
	{ .key = "nexthop_id", .type = RTA_NH_ID, .kind = ATTR_U32 },
	{ .key = "ttl_propagate", .type = RTA_TTL_PROPAGATE, .kind = ATTR_BOOL },
	{ .key = "multipath", .type = RTA_MULTIPATH, .kind = ATTR_HOOK, .hook = &hook_multipath,
	  .table = &nexthop_table },
	{ .type = RTA_METRICS, .kind = ATTR_FLAT, .table = &metric_table },
};

const struct attr_table rtnl_route_table = ATTR_TABLE("route", route_rows, sizeof(struct rtmsg));

static const struct attr_row route_filter_rows[] = {
	{ .key = "family", ATTR_FIELD(struct rtmsg, rtm_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "protocol", ATTR_FIELD(struct rtmsg, rtm_protocol), .kind = ATTR_U8,
	  .words = ATTR_WORDS(protocol_words), .flags = ATTR_NUMBER },
	{ .key = "type", ATTR_FIELD(struct rtmsg, rtm_type), .kind = ATTR_U8,
	  .words = ATTR_WORDS(route_type_words) },
	{ .key = "table", .type = RTA_TABLE, .kind = ATTR_HOOK, .hook = &hook_table,
	  .offset = offsetof(struct rtmsg, rtm_table) },
	{ .key = "oif", .type = RTA_OIF, .kind = ATTR_U32, .min = 1, .max = INT32_MAX },
};

static const struct attr_table route_filter =
	ATTR_TABLE("route", route_filter_rows, sizeof(struct rtmsg));

/*** Rules ***/

static const struct attr_word rule_action_words[] = {
	{ "lookup", FR_ACT_TO_TBL },     { "goto", FR_ACT_GOTO },
	{ "nop", FR_ACT_NOP },           { "blackhole", FR_ACT_BLACKHOLE },
	{ "unreachable", FR_ACT_UNREACHABLE }, { "prohibit", FR_ACT_PROHIBIT },
};

static const struct attr_row sport_rows[] = {
	{ .key = "sport_first", ATTR_FIELD(struct fib_rule_port_range, start), .kind = ATTR_U16 },
	{ .key = "sport_last", ATTR_FIELD(struct fib_rule_port_range, end), .kind = ATTR_U16 },
};

static const struct attr_table sport_table =
	ATTR_TABLE("rule", sport_rows, sizeof(struct fib_rule_port_range));

static const struct attr_row dport_rows[] = {
	{ .key = "dport_first", ATTR_FIELD(struct fib_rule_port_range, start), .kind = ATTR_U16 },
	{ .key = "dport_last", ATTR_FIELD(struct fib_rule_port_range, end), .kind = ATTR_U16 },
};

static const struct attr_table dport_table =
	ATTR_TABLE("rule", dport_rows, sizeof(struct fib_rule_port_range));

static const struct attr_row uid_rows[] = {
	{ .key = "uid_first", ATTR_FIELD(struct fib_rule_uid_range, start), .kind = ATTR_U32 },
	{ .key = "uid_last", ATTR_FIELD(struct fib_rule_uid_range, end), .kind = ATTR_U32 },
};

static const struct attr_table uid_table =
	ATTR_TABLE("rule", uid_rows, sizeof(struct fib_rule_uid_range));

static const struct attr_row rule_rows[] = {
	{ .key = "family", ATTR_FIELD(struct fib_rule_hdr, family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "from", .type = FRA_SRC, .kind = ATTR_HOOK, .hook = &hook_prefix,
	  .offset = offsetof(struct fib_rule_hdr, src_len) },
	{ .key = "to", .type = FRA_DST, .kind = ATTR_HOOK, .hook = &hook_prefix,
	  .offset = offsetof(struct fib_rule_hdr, dst_len) },
	{ .key = "tos", ATTR_FIELD(struct fib_rule_hdr, tos), .kind = ATTR_U8 },
	{ .key = "action", ATTR_FIELD(struct fib_rule_hdr, action), .kind = ATTR_U8,
	  .words = ATTR_WORDS(rule_action_words) },
	{ .key = "invert", ATTR_FIELD(struct fib_rule_hdr, flags), .kind = ATTR_U32,
	  .mask = FIB_RULE_INVERT },
	{ .key = "table", .type = FRA_TABLE, .kind = ATTR_HOOK, .hook = &hook_table,
	  .offset = offsetof(struct fib_rule_hdr, table) },
	{ .key = "priority", .type = FRA_PRIORITY, .kind = ATTR_U32 },
	{ .key = "goto", .type = FRA_GOTO, .kind = ATTR_U32 },
	{ .key = "fwmark", .type = FRA_FWMARK, .kind = ATTR_U32 },
	{ .key = "fwmask", .type = FRA_FWMASK, .kind = ATTR_U32 },
	{ .key = "iif", .type = FRA_IIFNAME, .kind = ATTR_STRING, .min = 1, .max = 15 },
	{ .key = "oif", .type = FRA_OIFNAME, .kind = ATTR_STRING, .min = 1, .max = 15 },
	{ .key = "suppress_prefixlength", .type = FRA_SUPPRESS_PREFIXLEN, .kind = ATTR_S32,
	  .min = -1, .max = 128 },
	{ .key = "suppress_ifgroup", .type = FRA_SUPPRESS_IFGROUP, .kind = ATTR_S32, .min = -1,
	  .max = INT32_MAX },
	{ .key = "realms", .type = FRA_FLOW, .kind = ATTR_U32 },
	{ .key = "tun_id", .type = FRA_TUN_ID, .kind = ATTR_BE64 },
	{ .key = "l3mdev", .type = FRA_L3MDEV, .kind = ATTR_BOOL },
	{ .key = "protocol", .type = FRA_PROTOCOL, .kind = ATTR_U8,
	  .words = ATTR_WORDS(protocol_words), .flags = ATTR_NUMBER },
	{ .key = "ip_proto", .type = FRA_IP_PROTO, .kind = ATTR_U8 },
	{ .type = FRA_SPORT_RANGE, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &sport_table },
	{ .type = FRA_DPORT_RANGE, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &dport_table },
	{ .type = FRA_UID_RANGE, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED, .table = &uid_table },
};

static const struct attr_table rule_table =
	ATTR_TABLE("rule", rule_rows, sizeof(struct fib_rule_hdr));

static const struct attr_row rule_filter_rows[] = {
	{ .key = "family", ATTR_FIELD(struct fib_rule_hdr, family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
};

static const struct attr_table rule_filter =
	ATTR_TABLE("rule", rule_filter_rows, sizeof(struct fib_rule_hdr));

/*** Neighbours ***/

static const struct attr_word neigh_state_words[] = {
	{ "none", NUD_NONE },     { "incomplete", NUD_INCOMPLETE }, { "reachable", NUD_REACHABLE },
	{ "stale", NUD_STALE },   { "delay", NUD_DELAY },           { "probe", NUD_PROBE },
	{ "failed", NUD_FAILED }, { "noarp", NUD_NOARP },           { "permanent", NUD_PERMANENT },
};

static const struct attr_word neigh_flag_words[] = {
	{ "use", NTF_USE },           { "self", NTF_SELF },
	{ "master", NTF_MASTER },     { "proxy", NTF_PROXY },
	{ "ext_learned", NTF_EXT_LEARNED }, { "offloaded", NTF_OFFLOADED },
	{ "sticky", NTF_STICKY },     { "router", NTF_ROUTER },
};

static const struct attr_row neigh_rows[] = {
	{ .key = "family", ATTR_FIELD(struct ndmsg, ndm_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	{ .key = "index", ATTR_FIELD(struct ndmsg, ndm_ifindex), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "state", ATTR_FIELD(struct ndmsg, ndm_state), .kind = ATTR_U16,
	  .words = ATTR_WORDS(neigh_state_words) },
	{ .key = "flags", ATTR_FIELD(struct ndmsg, ndm_flags), .kind = ATTR_U8,
	  .flags = ATTR_BITS, .words = ATTR_WORDS(neigh_flag_words) },
	{ .key = "dst", .type = NDA_DST, .kind = ATTR_HOOK, .hook = &hook_family_ip },
	{ .key = "mac", .type = NDA_LLADDR, .kind = ATTR_MAC },
	{ .key = "probes", .type = NDA_PROBES, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "vlan", .type = NDA_VLAN, .kind = ATTR_U16, .min = 1, .max = 4094 },
	{ .key = "port", .type = NDA_PORT, .kind = ATTR_BE16 },
	{ .key = "vni", .type = NDA_VNI, .kind = ATTR_U32, .max = 0xffffff },
	{ .key = "link", .type = NDA_IFINDEX, .kind = ATTR_U32 },
	{ .key = "master", .type = NDA_MASTER, .kind = ATTR_U32 },
	{ .key = "protocol", .type = NDA_PROTOCOL, .kind = ATTR_U8,
	  .words = ATTR_WORDS(protocol_words), .flags = ATTR_NUMBER },
};

static const struct attr_table neigh_table = ATTR_TABLE("neigh", neigh_rows, sizeof(struct ndmsg));

static const struct attr_row neigh_filter_rows[] = {
	{ .key = "family", ATTR_FIELD(struct ndmsg, ndm_family), .kind = ATTR_U8,
	  .words = ATTR_WORDS(family_words) },
	/* Proxies alone, which are listed when they are asked for. */
	{ .key = "flags", ATTR_FIELD(struct ndmsg, ndm_flags), .kind = ATTR_U8,
	  .flags = ATTR_BITS, .words = ATTR_WORDS(neigh_flag_words) },
	{ .key = "index", .type = NDA_IFINDEX, .kind = ATTR_U32, .min = 1, .max = INT32_MAX },
};

static const struct attr_table neigh_filter =
	ATTR_TABLE("neigh", neigh_filter_rows, sizeof(struct ndmsg));

static const struct attr_row neigh_lookup_rows[] = {
	{ .key = "index", ATTR_FIELD(struct ndmsg, ndm_ifindex), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "dst", .type = NDA_DST, .kind = ATTR_HOOK, .hook = &hook_family_ip },
};

static const struct attr_table neigh_lookup =
	ATTR_TABLE("neigh", neigh_lookup_rows, sizeof(struct ndmsg));

/*** Bridge VLANs ***/

static const struct attr_row vlan_rows[] = {
	{ .key = "index", ATTR_FIELD(struct ifinfomsg, ifi_index), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "vid", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan },
	{ .key = "vid_end", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_part },
	{ .key = "pvid", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_part,
	  .mask = 1 },
	{ .key = "untagged", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_part,
	  .mask = 1 },
	{ .key = "self", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_part,
	  .mask = 1 },
	{ .key = "master", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_part,
	  .mask = 1 },
};

static const struct attr_table vlan_table = ATTR_TABLE("vlan", vlan_rows, sizeof(struct ifinfomsg));

static const struct attr_row vlan_filter_rows[] = {
	{ .key = "index", ATTR_FIELD(struct br_vlan_msg, ifindex), .kind = ATTR_U32, .min = 1,
	  .max = INT32_MAX },
};

static const struct attr_table vlan_filter =
	ATTR_TABLE("vlan", vlan_filter_rows, sizeof(struct br_vlan_msg));

/* What a dump says of one VLAN, or of a run of equal ones. */
static const struct attr_row vlan_info_rows[] = {
	{ .key = "vid", ATTR_FIELD(struct bridge_vlan_info, vid), .kind = ATTR_U16 },
	{ .key = "pvid", ATTR_FIELD(struct bridge_vlan_info, flags), .kind = ATTR_U16,
	  .mask = BRIDGE_VLAN_INFO_PVID },
	{ .key = "untagged", ATTR_FIELD(struct bridge_vlan_info, flags), .kind = ATTR_U16,
	  .mask = BRIDGE_VLAN_INFO_UNTAGGED },
};

static const struct attr_table vlan_info =
	ATTR_TABLE("vlan", vlan_info_rows, sizeof(struct bridge_vlan_info));

static const struct attr_row vlan_entry_rows[] = {
	{ .type = BRIDGE_VLANDB_ENTRY_INFO, .kind = ATTR_FLAT, .table = &vlan_info },
	{ .key = "vid_end", .type = BRIDGE_VLANDB_ENTRY_RANGE, .kind = ATTR_U16 },
};

static const struct attr_table vlan_entry_table = ATTR_TABLE("vlan", vlan_entry_rows, 0);

static const struct attr_row vlan_entry = {
	.type = BRIDGE_VLANDB_ENTRY, .kind = ATTR_NEST, .table = &vlan_entry_table,
};

static const struct attr_row vlan_answer_rows[] = {
	{ .key = "index", ATTR_FIELD(struct br_vlan_msg, ifindex), .kind = ATTR_U32 },
	{ .key = "vlans", .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_vlan_entries,
	  .each = &vlan_entry },
};

static const struct attr_table vlan_answer =
	ATTR_TABLE("vlan", vlan_answer_rows, sizeof(struct br_vlan_msg));

/*** Objects ***/

const struct rtnl_object rtnl_objects[] = {
	{ .name = "link", .table = &rtnl_link_table, .filter = &rtnl_link_filter,
	  .lookup = &rtnl_link_lookup, .add = RTM_NEWLINK, .del = RTM_DELLINK, .get = RTM_GETLINK,
	  .group = RTNLGRP_LINK },
	{ .name = "addr", .table = &addr_table, .filter = &addr_filter, .add = RTM_NEWADDR,
	  .del = RTM_DELADDR, .get = RTM_GETADDR, .group = RTNLGRP_IPV4_IFADDR,
	  .group6 = RTNLGRP_IPV6_IFADDR },
	/* Only to be looked at; the kernel refuses the other two. */
	{ .name = "group", .table = &group_table, .filter = &addr_filter,
	  .add = RTM_GETMULTICAST - 2, .del = RTM_GETMULTICAST - 1, .get = RTM_GETMULTICAST },
	{ .name = "route", .table = &rtnl_route_table, .filter = &route_filter,
	  .add = RTM_NEWROUTE, .del = RTM_DELROUTE, .get = RTM_GETROUTE,
	  .group = RTNLGRP_IPV4_ROUTE, .group6 = RTNLGRP_IPV6_ROUTE },
	{ .name = "rule", .table = &rule_table, .filter = &rule_filter, .add = RTM_NEWRULE,
	  .del = RTM_DELRULE, .get = RTM_GETRULE, .group = RTNLGRP_IPV4_RULE,
	  .group6 = RTNLGRP_IPV6_RULE },
	{ .name = "neigh", .table = &neigh_table, .filter = &neigh_filter,
	  .lookup = &neigh_lookup, .add = RTM_NEWNEIGH, .del = RTM_DELNEIGH, .get = RTM_GETNEIGH,
	  .group = RTNLGRP_NEIGH },
	{ .name = "vlan", .table = &vlan_table, .filter = &vlan_filter, .answer = &vlan_answer,
	  .add = RTM_SETLINK, .del = RTM_DELLINK, .get = RTM_GETVLAN, .family = AF_BRIDGE,
	  .group = RTNLGRP_BRVLAN },
	{ .name = "qdisc", .table = &rtnl_qdisc_table, .filter = &rtnl_tc_filter,
	  .lookup = &rtnl_tc_lookup, .add = RTM_NEWQDISC, .del = RTM_DELQDISC,
	  .get = RTM_GETQDISC, .group = RTNLGRP_TC, .echoes = true },
	{ .name = "class", .table = &rtnl_class_table, .filter = &rtnl_tc_filter,
	  .lookup = &rtnl_tc_lookup, .add = RTM_NEWTCLASS, .del = RTM_DELTCLASS,
	  .get = RTM_GETTCLASS, .group = RTNLGRP_TC, .echoes = true },
	{ .name = "filter", .table = &rtnl_tfilter_table, .filter = &rtnl_tc_filter,
	  .add = RTM_NEWTFILTER, .del = RTM_DELTFILTER, .get = RTM_GETTFILTER,
	  .group = RTNLGRP_TC },
};

const size_t rtnl_object_count = ARRAY_SIZE(rtnl_objects);

/* The kernel numbers the messages about one thing in fours. */
static bool akin(uint16_t a, uint16_t b)
{
	return a >> 2 == b >> 2;
}

const struct rtnl_object *rtnl_object_of(uint16_t type, uint8_t family,
					 const struct attr_table **ret_table)
{
	const struct rtnl_object *found = NULL;

	for (size_t i = 0; i < rtnl_object_count; i++) {
		const struct rtnl_object *o = &rtnl_objects[i];

		if (o->answer && akin(type, o->get)) {
			*ret_table = o->answer;
			return o;
		}
		/* One whose family is fixed borrows the messages of another. */
		if (o->family ? family == o->family && (type == o->add || type == o->del)
			      : !found && akin(type, o->add))
			found = o;
	}
	if (found)
		*ret_table = found->table;
	return found;
}
