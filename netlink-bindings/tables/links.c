/* SPDX-License-Identifier: MIT */
/* What every link has, whatever its kind, as data; and the keys by which links are asked for. */

#include "tables/tables.h"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <sys/socket.h>

/* Interface flags that <linux/if.h> hides behind other headers. */
enum {
	FLAG_LOWER_UP = 1 << 16,
};

/*** What every link has ***/

static const struct attr_row info_rows[] = {
	{ .key = "kind", .type = IFLA_INFO_KIND, .kind = ATTR_STRING, .min = 1, .max = 55 },
	{ .type = IFLA_INFO_DATA, .kind = ATTR_FLAT, .choose = &rtnl_kind_switch },
	{ .key = "kind_data", .type = IFLA_INFO_DATA, .kind = ATTR_HOOK, .hook = &hook_raw,
	  .flags = ATTR_WRITEONLY },
	{ .key = "port_kind", .type = IFLA_INFO_SLAVE_KIND, .kind = ATTR_STRING, .max = 55 },
	{ .key = "port", .type = IFLA_INFO_SLAVE_DATA, .kind = ATTR_NEST,
	  .choose = &rtnl_port_switch },
};

static const struct attr_table info_table = ATTR_TABLE("link", info_rows, 0);

static const struct attr_word addr_gen_words[] = {
	{ "eui64", IN6_ADDR_GEN_MODE_EUI64 },
	{ "none", IN6_ADDR_GEN_MODE_NONE },
	{ "stable_secret", IN6_ADDR_GEN_MODE_STABLE_PRIVACY },
	{ "random", IN6_ADDR_GEN_MODE_RANDOM },
};

static const struct attr_row inet6_rows[] = {
	{ .key = "addr_gen_mode", .type = IFLA_INET6_ADDR_GEN_MODE, .kind = ATTR_U8,
	  .words = ATTR_WORDS(addr_gen_words) },
	{ .key = "ipv6_token", .type = IFLA_INET6_TOKEN, .kind = ATTR_IP, .max = 16 },
};

static const struct attr_table inet6_table = ATTR_TABLE("link", inet6_rows, 0);

static const struct attr_row af_spec_rows[] = {
	{ .type = AF_INET6, .kind = ATTR_FLAT, .table = &inet6_table },
};

static const struct attr_table af_spec_table = ATTR_TABLE("link", af_spec_rows, 0);

static const struct attr_row altname = {
	.type = IFLA_ALT_IFNAME, .kind = ATTR_STRING, .min = 1, .max = 127,
};

static const struct attr_word operstate_words[] = {
	{ "unknown", IF_OPER_UNKNOWN },   { "notpresent", IF_OPER_NOTPRESENT },
	{ "down", IF_OPER_DOWN },         { "lowerlayerdown", IF_OPER_LOWERLAYERDOWN },
	{ "testing", IF_OPER_TESTING },   { "dormant", IF_OPER_DORMANT },
	{ "up", IF_OPER_UP },
};

static const struct attr_word link_mode_words[] = {
	{ "default", IF_LINK_MODE_DEFAULT },
	{ "dormant", IF_LINK_MODE_DORMANT },
	{ "testing", IF_LINK_MODE_TESTING },
};

#define LINK_FLAG ATTR_FIELD(struct ifinfomsg, ifi_flags), .kind = ATTR_U32, \
	.change = offsetof(struct ifinfomsg, ifi_change)

static const struct attr_row link_rows[] = {
	{ .key = "index", ATTR_FIELD(struct ifinfomsg, ifi_index), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "type", ATTR_FIELD(struct ifinfomsg, ifi_type), .kind = ATTR_U16,
	  .flags = ATTR_READONLY },
	{ .key = "up", LINK_FLAG, .mask = IFF_UP },
	{ .key = "arp", LINK_FLAG, .mask = IFF_NOARP, .flags = ATTR_INVERT },
	{ .key = "promisc", LINK_FLAG, .mask = IFF_PROMISC },
	{ .key = "allmulti", LINK_FLAG, .mask = IFF_ALLMULTI },
	{ .key = "multicast", LINK_FLAG, .mask = IFF_MULTICAST },
	{ .key = "dynamic", LINK_FLAG, .mask = IFF_DYNAMIC },
	{ .key = "running", LINK_FLAG, .mask = IFF_RUNNING, .flags = ATTR_READONLY },
	{ .key = "lower_up", LINK_FLAG, .mask = FLAG_LOWER_UP, .flags = ATTR_READONLY },
	{ .key = "loopback", LINK_FLAG, .mask = IFF_LOOPBACK, .flags = ATTR_READONLY },
	{ .key = "name", .type = IFLA_IFNAME, .kind = ATTR_STRING, .min = 1, .max = IFNAMSIZ - 1 },
	{ .key = "mac", .type = IFLA_ADDRESS, .kind = ATTR_MAC },
	{ .key = "broadcast", .type = IFLA_BROADCAST, .kind = ATTR_MAC },
	{ .key = "permanent_mac", .type = IFLA_PERM_ADDRESS, .kind = ATTR_MAC,
	  .flags = ATTR_READONLY },
	{ .key = "mtu", .type = IFLA_MTU, .kind = ATTR_U32, .max = INT32_MAX },
	{ .key = "min_mtu", .type = IFLA_MIN_MTU, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "max_mtu", .type = IFLA_MAX_MTU, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "link", .type = IFLA_LINK, .kind = ATTR_S32, .max = INT32_MAX },
	{ .key = "link_netnsid", .type = IFLA_LINK_NETNSID, .kind = ATTR_S32 },
	{ .key = "master", .type = IFLA_MASTER, .kind = ATTR_U32, .max = INT32_MAX },
	{ .key = "txqlen", .type = IFLA_TXQLEN, .kind = ATTR_U32, .max = INT32_MAX },
	{ .key = "qdisc", .type = IFLA_QDISC, .kind = ATTR_STRING, .flags = ATTR_READONLY },
	{ .key = "operstate", .type = IFLA_OPERSTATE, .kind = ATTR_U8, .flags = ATTR_READONLY,
	  .words = ATTR_WORDS(operstate_words) },
	{ .key = "link_mode", .type = IFLA_LINKMODE, .kind = ATTR_U8,
	  .words = ATTR_WORDS(link_mode_words) },
	{ .key = "alias", .type = IFLA_IFALIAS, .kind = ATTR_STRING, .max = 255 },
	{ .key = "group", .type = IFLA_GROUP, .kind = ATTR_U32 },
	{ .key = "carrier", .type = IFLA_CARRIER, .kind = ATTR_BOOL },
	{ .key = "carrier_changes", .type = IFLA_CARRIER_CHANGES, .kind = ATTR_U32,
	  .flags = ATTR_READONLY },
	{ .key = "proto_down", .type = IFLA_PROTO_DOWN, .kind = ATTR_BOOL },
	{ .key = "num_tx_queues", .type = IFLA_NUM_TX_QUEUES, .kind = ATTR_U32, .min = 1,
	  .max = 4096 },
	{ .key = "num_rx_queues", .type = IFLA_NUM_RX_QUEUES, .kind = ATTR_U32, .min = 1,
	  .max = 4096 },
	{ .key = "gso_max_segs", .type = IFLA_GSO_MAX_SEGS, .kind = ATTR_U32 },
	{ .key = "gso_max_size", .type = IFLA_GSO_MAX_SIZE, .kind = ATTR_U32 },
	{ .key = "gro_max_size", .type = IFLA_GRO_MAX_SIZE, .kind = ATTR_U32 },
	{ .key = "netns", .type = IFLA_NET_NS_FD, .kind = ATTR_HOOK, .hook = &hook_netns,
	  .flags = ATTR_WRITEONLY },
	{ .key = "netns_pid", .type = IFLA_NET_NS_PID, .kind = ATTR_U32, .min = 1,
	  .max = INT32_MAX, .flags = ATTR_WRITEONLY },
	{ .key = "new_netnsid", .type = IFLA_NEW_NETNSID, .kind = ATTR_S32,
	  .flags = ATTR_READONLY },
	{ .key = "new_index", .type = IFLA_NEW_IFINDEX, .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "ext_mask", .type = IFLA_EXT_MASK, .kind = ATTR_U32, .flags = ATTR_READONLY },
	{ .key = "netnsid", .type = IFLA_TARGET_NETNSID, .kind = ATTR_S32, .flags = ATTR_READONLY },
	{ .key = "altnames", .type = IFLA_PROP_LIST, .kind = ATTR_LIST, .each = &altname,
	  .flags = ATTR_READONLY },
	{ .key = "phys_port_name", .type = IFLA_PHYS_PORT_NAME, .kind = ATTR_STRING,
	  .flags = ATTR_READONLY },
	{ .key = "parent_dev", .type = IFLA_PARENT_DEV_NAME, .kind = ATTR_STRING,
	  .flags = ATTR_READONLY },
	{ .key = "parent_bus", .type = IFLA_PARENT_DEV_BUS_NAME, .kind = ATTR_STRING,
	  .flags = ATTR_READONLY },
	{ .type = IFLA_LINKINFO, .kind = ATTR_FLAT, .table = &info_table },
	{ .type = IFLA_AF_SPEC, .kind = ATTR_FLAT, .table = &af_spec_table },
};

const struct attr_table rtnl_link_table =
	ATTR_TABLE("link", link_rows, sizeof(struct ifinfomsg));

/*** Asking for links ***/

static const struct attr_row link_lookup_rows[] = {
	{ .key = "index", ATTR_FIELD(struct ifinfomsg, ifi_index), .kind = ATTR_S32, .min = 1,
	  .max = INT32_MAX },
	{ .key = "name", .type = IFLA_IFNAME, .kind = ATTR_HOOK, .hook = &hook_link_name },
	/* Of the namespace that has this number where it is asked, as in link_netnsid. */
	{ .key = "netnsid", .type = IFLA_TARGET_NETNSID, .kind = ATTR_S32, .min = 0,
	  .max = INT32_MAX },
};

const struct attr_table rtnl_link_lookup =
	ATTR_TABLE("link", link_lookup_rows, sizeof(struct ifinfomsg));

static const struct attr_row info_filter_rows[] = {
	{ .key = "kind", .type = IFLA_INFO_KIND, .kind = ATTR_STRING, .min = 1, .max = 55 },
};

static const struct attr_table info_filter = ATTR_TABLE("link", info_filter_rows, 0);

static const struct attr_row link_filter_rows[] = {
	{ .key = "master", .type = IFLA_MASTER, .kind = ATTR_U32, .max = INT32_MAX },
	{ .type = IFLA_LINKINFO, .kind = ATTR_FLAT, .table = &info_filter },
};

const struct attr_table rtnl_link_filter =
	ATTR_TABLE("link", link_filter_rows, sizeof(struct ifinfomsg));
