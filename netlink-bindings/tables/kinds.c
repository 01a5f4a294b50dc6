/* SPDX-License-Identifier: MIT */
/*
 * The options of each kind of link, and of a port of a bridge, as data. All keys of a link live in
 * one Lua table; a key that two kinds share, or that every link has, carries its kind as a prefix.
 * Times of a bridge are in hundredths of a second, as the kernel has them.
 */

#include "tables/tables.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_vlan.h>
#include <linux/veth.h>
#include <stddef.h>

/* Attribute numbers that kernel headers before 6.8 lack. */
enum {
	NUM_BR_FDB_N_LEARNED = 48,
	NUM_BR_FDB_MAX_LEARNED = 49,
	NUM_BRPORT_MAB = 40,
	NUM_BRPORT_MCAST_N_GROUPS = 41,
	NUM_BRPORT_MCAST_MAX_GROUPS = 42,
	NUM_BRPORT_NEIGH_VLAN_SUPPRESS = 43,
	NUM_BRPORT_BACKUP_NHID = 44,
	NUM_MACVLAN_BC_CUTOFF = 9,
	NUM_VXLAN_LOCALBYPASS = 31,
	NUM_VXLAN_LABEL_POLICY = 32,
	NUM_GENEVE_PORT_RANGE = 15,
	NUM_NETKIT_PEER_INFO = 1,
	NUM_NETKIT_PRIMARY = 2,
	NUM_NETKIT_POLICY = 3,
	NUM_NETKIT_PEER_POLICY = 4,
	NUM_NETKIT_MODE = 5,
	NUM_NETKIT_SCRUB = 6,
	NUM_NETKIT_PEER_SCRUB = 7,
	NUM_NETKIT_HEADROOM = 8,
	NUM_NETKIT_TAILROOM = 9,
};

static const struct attr_word ether_type_words[] = {
	{ "802.1Q", 0x8100 },
	{ "802.1ad", 0x88a8 },
};

/*** Bridges ***/

static const struct attr_row bridge_options_rows[] = {
	{ .key = "no_linklocal_learn", ATTR_FIELD(struct br_boolopt_multi, optval),
	  .kind = ATTR_U32,
	  .mask = 1U << BR_BOOLOPT_NO_LL_LEARN,
	  .change = offsetof(struct br_boolopt_multi, optmask) },
	{ .key = "mcast_vlan_snooping", ATTR_FIELD(struct br_boolopt_multi, optval),
	  .kind = ATTR_U32,
	  .mask = 1U << BR_BOOLOPT_MCAST_VLAN_SNOOPING,
	  .change = offsetof(struct br_boolopt_multi, optmask) },
	{ .key = "mst_enabled", ATTR_FIELD(struct br_boolopt_multi, optval), .kind = ATTR_U32,
	  .mask = 1U << BR_BOOLOPT_MST_ENABLE,
	  .change = offsetof(struct br_boolopt_multi, optmask) },
};

static const struct attr_table bridge_options =
	ATTR_TABLE("bridge", bridge_options_rows, sizeof(struct br_boolopt_multi));

static const struct attr_row bridge_rows[] = {
	{ .key = "forward_delay", .type = IFLA_BR_FORWARD_DELAY, .kind = ATTR_U32 },
	{ .key = "hello_time", .type = IFLA_BR_HELLO_TIME, .kind = ATTR_U32 },
	{ .key = "max_age", .type = IFLA_BR_MAX_AGE, .kind = ATTR_U32 },
	{ .key = "ageing_time", .type = IFLA_BR_AGEING_TIME, .kind = ATTR_U32 },
	{ .key = "stp", .type = IFLA_BR_STP_STATE, .kind = ATTR_BOOL32 },
	{ .key = "bridge_priority", .type = IFLA_BR_PRIORITY, .kind = ATTR_U16 },
	{ .key = "vlan_filtering", .type = IFLA_BR_VLAN_FILTERING, .kind = ATTR_BOOL },
	{ .key = "bridge_vlan_protocol", .type = IFLA_BR_VLAN_PROTOCOL, .kind = ATTR_BE16,
	  .words = ATTR_WORDS(ether_type_words) },
	{ .key = "bridge_group_fwd_mask", .type = IFLA_BR_GROUP_FWD_MASK, .kind = ATTR_U16 },
	{ .key = "root_port", .type = IFLA_BR_ROOT_PORT, .kind = ATTR_U16, .flags = ATTR_READONLY },
	{ .key = "root_path_cost", .type = IFLA_BR_ROOT_PATH_COST, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
	{ .key = "group_addr", .type = IFLA_BR_GROUP_ADDR, .kind = ATTR_MAC },
	{ .key = "fdb_flush", .type = IFLA_BR_FDB_FLUSH, .kind = ATTR_FLAG,
	  .flags = ATTR_WRITEONLY },
	{ .key = "mcast_router", .type = IFLA_BR_MCAST_ROUTER, .kind = ATTR_U8, .max = 2 },
	{ .key = "mcast_snooping", .type = IFLA_BR_MCAST_SNOOPING, .kind = ATTR_BOOL },
	{ .key = "mcast_query_use_ifaddr", .type = IFLA_BR_MCAST_QUERY_USE_IFADDR,
	  .kind = ATTR_BOOL },
	{ .key = "mcast_querier", .type = IFLA_BR_MCAST_QUERIER, .kind = ATTR_BOOL },
	{ .key = "mcast_hash_elasticity", .type = IFLA_BR_MCAST_HASH_ELASTICITY, .kind = ATTR_U32 },
	{ .key = "mcast_hash_max", .type = IFLA_BR_MCAST_HASH_MAX, .kind = ATTR_U32 },
	{ .key = "mcast_last_member_count", .type = IFLA_BR_MCAST_LAST_MEMBER_CNT,
	  .kind = ATTR_U32 },
	{ .key = "mcast_startup_query_count", .type = IFLA_BR_MCAST_STARTUP_QUERY_CNT,
	  .kind = ATTR_U32 },
	{ .key = "mcast_last_member_interval", .type = IFLA_BR_MCAST_LAST_MEMBER_INTVL,
	  .kind = ATTR_U64 },
	{ .key = "mcast_membership_interval", .type = IFLA_BR_MCAST_MEMBERSHIP_INTVL,
	  .kind = ATTR_U64 },
	{ .key = "mcast_querier_interval", .type = IFLA_BR_MCAST_QUERIER_INTVL, .kind = ATTR_U64 },
	{ .key = "mcast_query_interval", .type = IFLA_BR_MCAST_QUERY_INTVL, .kind = ATTR_U64 },
	{ .key = "mcast_query_response_interval", .type = IFLA_BR_MCAST_QUERY_RESPONSE_INTVL,
	  .kind = ATTR_U64 },
	{ .key = "mcast_startup_query_interval", .type = IFLA_BR_MCAST_STARTUP_QUERY_INTVL,
	  .kind = ATTR_U64 },
	{ .key = "nf_call_iptables", .type = IFLA_BR_NF_CALL_IPTABLES, .kind = ATTR_BOOL },
	{ .key = "nf_call_ip6tables", .type = IFLA_BR_NF_CALL_IP6TABLES, .kind = ATTR_BOOL },
	{ .key = "nf_call_arptables", .type = IFLA_BR_NF_CALL_ARPTABLES, .kind = ATTR_BOOL },
	{ .key = "vlan_default_pvid", .type = IFLA_BR_VLAN_DEFAULT_PVID, .kind = ATTR_U16,
	  .max = 4094 },
	{ .key = "vlan_stats", .type = IFLA_BR_VLAN_STATS_ENABLED, .kind = ATTR_BOOL },
	{ .key = "mcast_stats", .type = IFLA_BR_MCAST_STATS_ENABLED, .kind = ATTR_BOOL },
	{ .key = "mcast_igmp_version", .type = IFLA_BR_MCAST_IGMP_VERSION, .kind = ATTR_U8,
	  .min = 2, .max = 3 },
	{ .key = "mcast_mld_version", .type = IFLA_BR_MCAST_MLD_VERSION, .kind = ATTR_U8,
	  .min = 1, .max = 2 },
	{ .key = "vlan_stats_per_port", .type = IFLA_BR_VLAN_STATS_PER_PORT, .kind = ATTR_BOOL },
	{ .type = IFLA_BR_MULTI_BOOLOPT, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &bridge_options },
	{ .key = "fdb_learned", .type = NUM_BR_FDB_N_LEARNED, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
	{ .key = "fdb_max_learned", .type = NUM_BR_FDB_MAX_LEARNED, .kind = ATTR_U32 },
};

static const struct attr_table bridge_table = ATTR_TABLE("bridge", bridge_rows, 0);

static const struct attr_word port_state_words[] = {
	{ "disabled", BR_STATE_DISABLED },     { "listening", BR_STATE_LISTENING },
	{ "learning", BR_STATE_LEARNING },     { "forwarding", BR_STATE_FORWARDING },
	{ "blocking", BR_STATE_BLOCKING },
};

static const struct attr_row bridge_port_rows[] = {
	{ .key = "state", .type = IFLA_BRPORT_STATE, .kind = ATTR_U8,
	  .words = ATTR_WORDS(port_state_words) },
	{ .key = "priority", .type = IFLA_BRPORT_PRIORITY, .kind = ATTR_U16, .max = 63 },
	{ .key = "cost", .type = IFLA_BRPORT_COST, .kind = ATTR_U32, .min = 1, .max = 65535 },
	{ .key = "hairpin", .type = IFLA_BRPORT_MODE, .kind = ATTR_BOOL },
	{ .key = "bpdu_guard", .type = IFLA_BRPORT_GUARD, .kind = ATTR_BOOL },
	{ .key = "root_block", .type = IFLA_BRPORT_PROTECT, .kind = ATTR_BOOL },
	{ .key = "fast_leave", .type = IFLA_BRPORT_FAST_LEAVE, .kind = ATTR_BOOL },
	{ .key = "learning", .type = IFLA_BRPORT_LEARNING, .kind = ATTR_BOOL },
	{ .key = "flood", .type = IFLA_BRPORT_UNICAST_FLOOD, .kind = ATTR_BOOL },
	{ .key = "proxy_arp", .type = IFLA_BRPORT_PROXYARP, .kind = ATTR_BOOL },
	{ .key = "proxy_arp_wifi", .type = IFLA_BRPORT_PROXYARP_WIFI, .kind = ATTR_BOOL },
	{ .key = "designated_port", .type = IFLA_BRPORT_DESIGNATED_PORT, .kind = ATTR_U16,
	  .flags = ATTR_READONLY },
	{ .key = "designated_cost", .type = IFLA_BRPORT_DESIGNATED_COST, .kind = ATTR_U16,
	  .flags = ATTR_READONLY },
	{ .key = "port_id", .type = IFLA_BRPORT_ID, .kind = ATTR_U16, .flags = ATTR_READONLY },
	{ .key = "port_number", .type = IFLA_BRPORT_NO, .kind = ATTR_U16, .flags = ATTR_READONLY },
	{ .key = "fdb_flush", .type = IFLA_BRPORT_FLUSH, .kind = ATTR_FLAG,
	  .flags = ATTR_WRITEONLY },
	{ .key = "mcast_router", .type = IFLA_BRPORT_MULTICAST_ROUTER, .kind = ATTR_U8, .max = 3 },
	{ .key = "mcast_flood", .type = IFLA_BRPORT_MCAST_FLOOD, .kind = ATTR_BOOL },
	{ .key = "mcast_to_unicast", .type = IFLA_BRPORT_MCAST_TO_UCAST, .kind = ATTR_BOOL },
	{ .key = "vlan_tunnel", .type = IFLA_BRPORT_VLAN_TUNNEL, .kind = ATTR_BOOL },
	{ .key = "bcast_flood", .type = IFLA_BRPORT_BCAST_FLOOD, .kind = ATTR_BOOL },
	{ .key = "group_fwd_mask", .type = IFLA_BRPORT_GROUP_FWD_MASK, .kind = ATTR_U16 },
	{ .key = "neigh_suppress", .type = IFLA_BRPORT_NEIGH_SUPPRESS, .kind = ATTR_BOOL },
	{ .key = "isolated", .type = IFLA_BRPORT_ISOLATED, .kind = ATTR_BOOL },
	{ .key = "backup_port", .type = IFLA_BRPORT_BACKUP_PORT, .kind = ATTR_U32 },
	{ .key = "mcast_eht_hosts_limit", .type = IFLA_BRPORT_MCAST_EHT_HOSTS_LIMIT,
	  .kind = ATTR_U32 },
	{ .key = "locked", .type = IFLA_BRPORT_LOCKED, .kind = ATTR_BOOL },
	{ .key = "mab", .type = NUM_BRPORT_MAB, .kind = ATTR_BOOL },
	{ .key = "mcast_groups", .type = NUM_BRPORT_MCAST_N_GROUPS, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
	{ .key = "mcast_max_groups", .type = NUM_BRPORT_MCAST_MAX_GROUPS, .kind = ATTR_U32 },
	{ .key = "neigh_vlan_suppress", .type = NUM_BRPORT_NEIGH_VLAN_SUPPRESS, .kind = ATTR_BOOL },
	{ .key = "backup_nhid", .type = NUM_BRPORT_BACKUP_NHID, .kind = ATTR_U32 },
};

static const struct attr_table bridge_port_table = ATTR_TABLE("bridge port", bridge_port_rows, 0);

/*** VLANs ***/

static const struct attr_row vlan_flag_rows[] = {
	{ .key = "reorder_hdr", ATTR_FIELD(struct ifla_vlan_flags, flags), .kind = ATTR_U32,
	  .mask = VLAN_FLAG_REORDER_HDR, .change = offsetof(struct ifla_vlan_flags, mask) },
	{ .key = "gvrp", ATTR_FIELD(struct ifla_vlan_flags, flags), .kind = ATTR_U32,
	  .mask = VLAN_FLAG_GVRP, .change = offsetof(struct ifla_vlan_flags, mask) },
	{ .key = "mvrp", ATTR_FIELD(struct ifla_vlan_flags, flags), .kind = ATTR_U32,
	  .mask = VLAN_FLAG_MVRP, .change = offsetof(struct ifla_vlan_flags, mask) },
	{ .key = "loose_binding", ATTR_FIELD(struct ifla_vlan_flags, flags), .kind = ATTR_U32,
	  .mask = VLAN_FLAG_LOOSE_BINDING, .change = offsetof(struct ifla_vlan_flags, mask) },
	{ .key = "bridge_binding", ATTR_FIELD(struct ifla_vlan_flags, flags), .kind = ATTR_U32,
	  .mask = VLAN_FLAG_BRIDGE_BINDING, .change = offsetof(struct ifla_vlan_flags, mask) },
};

static const struct attr_table vlan_flags =
	ATTR_TABLE("vlan", vlan_flag_rows, sizeof(struct ifla_vlan_flags));

static const struct attr_row vlan_qos_rows[] = {
	{ .key = "from", ATTR_FIELD(struct ifla_vlan_qos_mapping, from), .kind = ATTR_U32 },
	{ .key = "to", ATTR_FIELD(struct ifla_vlan_qos_mapping, to), .kind = ATTR_U32 },
};

static const struct attr_table vlan_qos_table =
	ATTR_TABLE("mapping", vlan_qos_rows, sizeof(struct ifla_vlan_qos_mapping));

static const struct attr_row vlan_qos = {
	.type = IFLA_VLAN_QOS_MAPPING, .kind = ATTR_NEST, .flags = ATTR_UNNESTED,
	.table = &vlan_qos_table,
};

static const struct attr_row vlan_rows[] = {
	{ .key = "vlan_id", .type = IFLA_VLAN_ID, .kind = ATTR_U16, .max = 4095 },
	{ .key = "vlan_protocol", .type = IFLA_VLAN_PROTOCOL, .kind = ATTR_BE16,
	  .words = ATTR_WORDS(ether_type_words) },
	{ .type = IFLA_VLAN_FLAGS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &vlan_flags },
	{ .key = "egress_qos", .type = IFLA_VLAN_EGRESS_QOS, .kind = ATTR_LIST, .each = &vlan_qos },
	{ .key = "ingress_qos", .type = IFLA_VLAN_INGRESS_QOS, .kind = ATTR_LIST,
	  .each = &vlan_qos },
};

static const struct attr_table vlan_table = ATTR_TABLE("vlan", vlan_rows, 0);

/*** macvlan, macvtap, ipvlan, ipvtap ***/

static const struct attr_word macvlan_mode_words[] = {
	{ "private", MACVLAN_MODE_PRIVATE },   { "vepa", MACVLAN_MODE_VEPA },
	{ "bridge", MACVLAN_MODE_BRIDGE },     { "passthru", MACVLAN_MODE_PASSTHRU },
	{ "source", MACVLAN_MODE_SOURCE },
};

static const struct attr_word macvlan_flag_words[] = {
	{ "nopromisc", MACVLAN_FLAG_NOPROMISC },
	{ "nodst", MACVLAN_FLAG_NODST },
};

static const struct attr_word macvlan_source_words[] = {
	{ "add", MACVLAN_MACADDR_ADD },
	{ "del", MACVLAN_MACADDR_DEL },
	{ "flush", MACVLAN_MACADDR_FLUSH },
	{ "set", MACVLAN_MACADDR_SET },
};

static const struct attr_row macvlan_source = {
	.type = IFLA_MACVLAN_MACADDR, .kind = ATTR_MAC,
};

static const struct attr_row macvlan_rows[] = {
	{ .key = "macvlan_mode", .type = IFLA_MACVLAN_MODE, .kind = ATTR_U32,
	  .words = ATTR_WORDS(macvlan_mode_words) },
	{ .key = "macvlan_flags", .type = IFLA_MACVLAN_FLAGS, .kind = ATTR_U16, .flags = ATTR_BITS,
	  .words = ATTR_WORDS(macvlan_flag_words) },
	{ .key = "macvlan_source_action", .type = IFLA_MACVLAN_MACADDR_MODE, .kind = ATTR_U32,
	  .words = ATTR_WORDS(macvlan_source_words), .flags = ATTR_WRITEONLY },
	{ .key = "macvlan_source", .type = IFLA_MACVLAN_MACADDR, .kind = ATTR_MAC,
	  .flags = ATTR_WRITEONLY },
	{ .key = "macvlan_sources", .type = IFLA_MACVLAN_MACADDR_DATA, .kind = ATTR_LIST,
	  .each = &macvlan_source },
	{ .key = "macvlan_bc_queue_len", .type = IFLA_MACVLAN_BC_QUEUE_LEN, .kind = ATTR_U32 },
	{ .key = "macvlan_bc_queue_len_used", .type = IFLA_MACVLAN_BC_QUEUE_LEN_USED,
	  .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "macvlan_bc_cutoff", .type = NUM_MACVLAN_BC_CUTOFF, .kind = ATTR_S32 },
};

static const struct attr_table macvlan_table = ATTR_TABLE("macvlan", macvlan_rows, 0);

static const struct attr_word ipvlan_mode_words[] = {
	{ "l2", IPVLAN_MODE_L2 },
	{ "l3", IPVLAN_MODE_L3 },
	{ "l3s", IPVLAN_MODE_L3S },
};

static const struct attr_word ipvlan_flag_words[] = {
	{ "bridge", 0 },
	{ "private", IPVLAN_F_PRIVATE },
	{ "vepa", IPVLAN_F_VEPA },
};

static const struct attr_row ipvlan_rows[] = {
	{ .key = "ipvlan_mode", .type = IFLA_IPVLAN_MODE, .kind = ATTR_U16,
	  .words = ATTR_WORDS(ipvlan_mode_words) },
	{ .key = "ipvlan_flag", .type = IFLA_IPVLAN_FLAGS, .kind = ATTR_U16,
	  .words = ATTR_WORDS(ipvlan_flag_words) },
};

static const struct attr_table ipvlan_table = ATTR_TABLE("ipvlan", ipvlan_rows, 0);

/*** Tunnels ***/

static const struct attr_word df_words[] = {
	{ "unset", VXLAN_DF_UNSET },
	{ "set", VXLAN_DF_SET },
	{ "inherit", VXLAN_DF_INHERIT },
};

static const struct attr_row vxlan_port_range_rows[] = {
	{ .key = "vxlan_port_low", ATTR_FIELD(struct ifla_vxlan_port_range, low),
	  .kind = ATTR_BE16 },
	{ .key = "vxlan_port_high", ATTR_FIELD(struct ifla_vxlan_port_range, high),
	  .kind = ATTR_BE16 },
};

static const struct attr_table vxlan_port_range =
	ATTR_TABLE("vxlan", vxlan_port_range_rows, sizeof(struct ifla_vxlan_port_range));

static const struct attr_row vxlan_rows[] = {
	{ .key = "vxlan_id", .type = IFLA_VXLAN_ID, .kind = ATTR_U32, .max = 0xffffff },
	{ .key = "vxlan_group", .type = IFLA_VXLAN_GROUP, .kind = ATTR_IP, .max = 4 },
	{ .key = "vxlan_group6", .type = IFLA_VXLAN_GROUP6, .kind = ATTR_IP, .max = 16 },
	{ .key = "vxlan_link", .type = IFLA_VXLAN_LINK, .kind = ATTR_U32 },
	{ .key = "vxlan_local", .type = IFLA_VXLAN_LOCAL, .kind = ATTR_IP, .max = 4 },
	{ .key = "vxlan_local6", .type = IFLA_VXLAN_LOCAL6, .kind = ATTR_IP, .max = 16 },
	{ .key = "vxlan_ttl", .type = IFLA_VXLAN_TTL, .kind = ATTR_U8 },
	{ .key = "vxlan_ttl_inherit", .type = IFLA_VXLAN_TTL_INHERIT, .kind = ATTR_FLAG },
	{ .key = "vxlan_tos", .type = IFLA_VXLAN_TOS, .kind = ATTR_U8 },
	{ .key = "vxlan_df", .type = IFLA_VXLAN_DF, .kind = ATTR_U8,
	  .words = ATTR_WORDS(df_words) },
	{ .key = "vxlan_label", .type = IFLA_VXLAN_LABEL, .kind = ATTR_BE32, .max = 0xfffff },
	{ .key = "vxlan_label_policy", .type = NUM_VXLAN_LABEL_POLICY, .kind = ATTR_U32 },
	{ .key = "vxlan_learning", .type = IFLA_VXLAN_LEARNING, .kind = ATTR_BOOL },
	{ .key = "vxlan_ageing", .type = IFLA_VXLAN_AGEING, .kind = ATTR_U32 },
	{ .key = "vxlan_limit", .type = IFLA_VXLAN_LIMIT, .kind = ATTR_U32 },
	{ .type = IFLA_VXLAN_PORT_RANGE, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &vxlan_port_range },
	{ .key = "vxlan_port", .type = IFLA_VXLAN_PORT, .kind = ATTR_BE16 },
	{ .key = "vxlan_proxy", .type = IFLA_VXLAN_PROXY, .kind = ATTR_BOOL },
	{ .key = "vxlan_rsc", .type = IFLA_VXLAN_RSC, .kind = ATTR_BOOL },
	{ .key = "vxlan_l2miss", .type = IFLA_VXLAN_L2MISS, .kind = ATTR_BOOL },
	{ .key = "vxlan_l3miss", .type = IFLA_VXLAN_L3MISS, .kind = ATTR_BOOL },
	{ .key = "vxlan_udp_csum", .type = IFLA_VXLAN_UDP_CSUM, .kind = ATTR_BOOL },
	{ .key = "vxlan_udp_zero_csum6_tx", .type = IFLA_VXLAN_UDP_ZERO_CSUM6_TX,
	  .kind = ATTR_BOOL },
	{ .key = "vxlan_udp_zero_csum6_rx", .type = IFLA_VXLAN_UDP_ZERO_CSUM6_RX,
	  .kind = ATTR_BOOL },
	{ .key = "vxlan_remcsum_tx", .type = IFLA_VXLAN_REMCSUM_TX, .kind = ATTR_BOOL },
	{ .key = "vxlan_remcsum_rx", .type = IFLA_VXLAN_REMCSUM_RX, .kind = ATTR_BOOL },
	{ .key = "vxlan_remcsum_nopartial", .type = IFLA_VXLAN_REMCSUM_NOPARTIAL,
	  .kind = ATTR_FLAG },
	{ .key = "vxlan_gbp", .type = IFLA_VXLAN_GBP, .kind = ATTR_FLAG },
	{ .key = "vxlan_gpe", .type = IFLA_VXLAN_GPE, .kind = ATTR_FLAG },
	{ .key = "vxlan_external", .type = IFLA_VXLAN_COLLECT_METADATA, .kind = ATTR_BOOL },
	{ .key = "vxlan_vnifilter", .type = IFLA_VXLAN_VNIFILTER, .kind = ATTR_BOOL },
	{ .key = "vxlan_localbypass", .type = NUM_VXLAN_LOCALBYPASS, .kind = ATTR_BOOL },
};

static const struct attr_table vxlan_table = ATTR_TABLE("vxlan", vxlan_rows, 0);

static const struct attr_row geneve_port_range_rows[] = {
	{ .key = "geneve_port_low", .type = ATTR_HEADER, .offset = 0, .kind = ATTR_BE16 },
	{ .key = "geneve_port_high", .type = ATTR_HEADER, .offset = 2, .kind = ATTR_BE16 },
};

static const struct attr_table geneve_port_range =
	ATTR_TABLE("geneve", geneve_port_range_rows, 4);

static const struct attr_row geneve_rows[] = {
	{ .key = "geneve_id", .type = IFLA_GENEVE_ID, .kind = ATTR_U32, .max = 0xffffff },
	{ .key = "geneve_remote", .type = IFLA_GENEVE_REMOTE, .kind = ATTR_IP, .max = 4 },
	{ .key = "geneve_remote6", .type = IFLA_GENEVE_REMOTE6, .kind = ATTR_IP, .max = 16 },
	{ .key = "geneve_ttl", .type = IFLA_GENEVE_TTL, .kind = ATTR_U8 },
	{ .key = "geneve_ttl_inherit", .type = IFLA_GENEVE_TTL_INHERIT, .kind = ATTR_BOOL },
	{ .key = "geneve_tos", .type = IFLA_GENEVE_TOS, .kind = ATTR_U8 },
	{ .key = "geneve_df", .type = IFLA_GENEVE_DF, .kind = ATTR_U8,
	  .words = ATTR_WORDS(df_words) },
	{ .key = "geneve_label", .type = IFLA_GENEVE_LABEL, .kind = ATTR_BE32, .max = 0xfffff },
	{ .key = "geneve_port", .type = IFLA_GENEVE_PORT, .kind = ATTR_BE16 },
	{ .key = "geneve_external", .type = IFLA_GENEVE_COLLECT_METADATA, .kind = ATTR_FLAG },
	{ .key = "geneve_udp_csum", .type = IFLA_GENEVE_UDP_CSUM, .kind = ATTR_BOOL },
	{ .key = "geneve_udp_zero_csum6_tx", .type = IFLA_GENEVE_UDP_ZERO_CSUM6_TX,
	  .kind = ATTR_BOOL },
	{ .key = "geneve_udp_zero_csum6_rx", .type = IFLA_GENEVE_UDP_ZERO_CSUM6_RX,
	  .kind = ATTR_BOOL },
	{ .key = "geneve_inner_proto_inherit", .type = IFLA_GENEVE_INNER_PROTO_INHERIT,
	  .kind = ATTR_FLAG },
	{ .type = NUM_GENEVE_PORT_RANGE, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &geneve_port_range },
};

static const struct attr_table geneve_table = ATTR_TABLE("geneve", geneve_rows, 0);

/*** Pairs: veth, netkit ***/

static const struct attr_row veth_rows[] = {
	{ .key = "peer", .type = VETH_INFO_PEER, .kind = ATTR_NEST, .table = &rtnl_link_table },
};

static const struct attr_table veth_table = ATTR_TABLE("veth", veth_rows, 0);

static const struct attr_word netkit_mode_words[] = { { "l2", 0 }, { "l3", 1 } };
static const struct attr_word netkit_policy_words[] = { { "pass", 0 }, { "drop", 2 } };
static const struct attr_word netkit_scrub_words[] = { { "none", 0 }, { "default", 1 } };

static const struct attr_row netkit_rows[] = {
	{ .key = "peer", .type = NUM_NETKIT_PEER_INFO, .kind = ATTR_NEST,
	  .table = &rtnl_link_table },
	{ .key = "netkit_primary", .type = NUM_NETKIT_PRIMARY, .kind = ATTR_BOOL,
	  .flags = ATTR_READONLY },
	{ .key = "netkit_mode", .type = NUM_NETKIT_MODE, .kind = ATTR_U32,
	  .words = ATTR_WORDS(netkit_mode_words) },
	{ .key = "netkit_policy", .type = NUM_NETKIT_POLICY, .kind = ATTR_U32,
	  .words = ATTR_WORDS(netkit_policy_words) },
	{ .key = "netkit_peer_policy", .type = NUM_NETKIT_PEER_POLICY, .kind = ATTR_U32,
	  .words = ATTR_WORDS(netkit_policy_words) },
	{ .key = "netkit_scrub", .type = NUM_NETKIT_SCRUB, .kind = ATTR_U32,
	  .words = ATTR_WORDS(netkit_scrub_words) },
	{ .key = "netkit_peer_scrub", .type = NUM_NETKIT_PEER_SCRUB, .kind = ATTR_U32,
	  .words = ATTR_WORDS(netkit_scrub_words) },
	{ .key = "netkit_headroom", .type = NUM_NETKIT_HEADROOM, .kind = ATTR_U16 },
	{ .key = "netkit_tailroom", .type = NUM_NETKIT_TAILROOM, .kind = ATTR_U16 },
};

static const struct attr_table netkit_table = ATTR_TABLE("netkit", netkit_rows, 0);

/*** vrf, tun, bond, xfrm; dummy and ifb have no options ***/

static const struct attr_row vrf_rows[] = {
	{ .key = "vrf_table", .type = IFLA_VRF_TABLE, .kind = ATTR_U32, .min = 1,
	  .max = UINT32_MAX },
};

static const struct attr_table vrf_table = ATTR_TABLE("vrf", vrf_rows, 0);

static const struct attr_row vrf_port_rows[] = {
	{ .key = "vrf_table", .type = IFLA_VRF_PORT_TABLE, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
};

static const struct attr_table vrf_port_table = ATTR_TABLE("vrf port", vrf_port_rows, 0);

static const struct attr_word tun_type_words[] = {
	{ "tun", 1 },
	{ "tap", 2 },
};

/* The kernel makes these by ioctl only; here to be read. */
static const struct attr_row tun_rows[] = {
	{ .key = "tun_owner", .type = IFLA_TUN_OWNER, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "tun_group", .type = IFLA_TUN_GROUP, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "tun_type", .type = IFLA_TUN_TYPE, .kind = ATTR_U8, .flags = ATTR_READONLY,
	  .words = ATTR_WORDS(tun_type_words) },
	{ .key = "tun_pi", .type = IFLA_TUN_PI, .kind = ATTR_BOOL, .flags = ATTR_READONLY },
	{ .key = "tun_vnet_hdr", .type = IFLA_TUN_VNET_HDR, .kind = ATTR_BOOL,
	  .flags = ATTR_READONLY },
	{ .key = "tun_persist", .type = IFLA_TUN_PERSIST, .kind = ATTR_BOOL,
	  .flags = ATTR_READONLY },
	{ .key = "tun_multi_queue", .type = IFLA_TUN_MULTI_QUEUE, .kind = ATTR_BOOL,
	  .flags = ATTR_READONLY },
	{ .key = "tun_queues", .type = IFLA_TUN_NUM_QUEUES, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
};

static const struct attr_table tun_table = ATTR_TABLE("tun", tun_rows, 0);

static const struct attr_word bond_mode_words[] = {
	{ "balance-rr", 0 },   { "active-backup", 1 }, { "balance-xor", 2 }, { "broadcast", 3 },
	{ "802.3ad", 4 },      { "balance-tlb", 5 },   { "balance-alb", 6 },
};

static const struct attr_word bond_hash_words[] = {
	{ "layer2", 0 },   { "layer3+4", 1 }, { "layer2+3", 2 },
	{ "encap2+3", 3 }, { "encap3+4", 4 }, { "vlan+srcmac", 5 },
};

static const struct attr_word lacp_rate_words[] = { { "slow", 0 }, { "fast", 1 } };

static const struct attr_row bond_rows[] = {
	{ .key = "bond_mode", .type = IFLA_BOND_MODE, .kind = ATTR_U8,
	  .words = ATTR_WORDS(bond_mode_words) },
	{ .key = "bond_active_port", .type = IFLA_BOND_ACTIVE_SLAVE, .kind = ATTR_U32 },
	{ .key = "bond_miimon", .type = IFLA_BOND_MIIMON, .kind = ATTR_U32 },
	{ .key = "bond_updelay", .type = IFLA_BOND_UPDELAY, .kind = ATTR_U32 },
	{ .key = "bond_downdelay", .type = IFLA_BOND_DOWNDELAY, .kind = ATTR_U32 },
	{ .key = "bond_primary", .type = IFLA_BOND_PRIMARY, .kind = ATTR_U32 },
	{ .key = "bond_xmit_hash_policy", .type = IFLA_BOND_XMIT_HASH_POLICY, .kind = ATTR_U8,
	  .words = ATTR_WORDS(bond_hash_words) },
	{ .key = "bond_min_links", .type = IFLA_BOND_MIN_LINKS, .kind = ATTR_U32 },
	{ .key = "bond_lacp_rate", .type = IFLA_BOND_AD_LACP_RATE, .kind = ATTR_U8,
	  .words = ATTR_WORDS(lacp_rate_words) },
};

static const struct attr_table bond_table = ATTR_TABLE("bond", bond_rows, 0);

static const struct attr_row xfrm_rows[] = {
	{ .key = "xfrm_link", .type = IFLA_XFRM_LINK, .kind = ATTR_U32 },
	{ .key = "xfrm_if_id", .type = IFLA_XFRM_IF_ID, .kind = ATTR_U32 },
	{ .key = "xfrm_external", .type = IFLA_XFRM_COLLECT_METADATA, .kind = ATTR_FLAG },
};

static const struct attr_table xfrm_table = ATTR_TABLE("xfrm", xfrm_rows, 0);

static const struct attr_case kind_cases[] = {
	{ "bridge", &bridge_table },   { "veth", &veth_table },     { "vlan", &vlan_table },
	{ "macvlan", &macvlan_table }, { "macvtap", &macvlan_table }, { "ipvlan", &ipvlan_table },
	{ "ipvtap", &ipvlan_table },   { "vxlan", &vxlan_table },   { "geneve", &geneve_table },
	{ "netkit", &netkit_table },   { "vrf", &vrf_table },       { "tun", &tun_table },
	{ "bond", &bond_table },       { "xfrm", &xfrm_table },
};

static const struct attr_case port_cases[] = {
	{ "bridge", &bridge_port_table },
	{ "vrf", &vrf_port_table },
};

const struct attr_switch rtnl_port_switch = {
	.key = "port_kind", .cases = port_cases, .count = ARRAY_SIZE(port_cases),
	.otherwise = &bridge_port_table,
};

const struct attr_switch rtnl_kind_switch = {
	.key = "kind", .cases = kind_cases, .count = ARRAY_SIZE(kind_cases),
};
