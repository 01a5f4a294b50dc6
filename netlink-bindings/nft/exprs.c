/* SPDX-License-Identifier: MIT */
/*
 * The expressions of nf_tables rules: a table of rows each, and words where the kernel has numbers,
 * those of the program nft where it has one.
 */

#include "nft/rows.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <string.h>

static const struct attr_word registers[] = {
	{ "verdict", NFT_REG_VERDICT },
};

#define REGISTER NFT_WORD(registers), .max = NFT_REG32_15
#define SREG(attr_) { ROW("sreg", attr_, BE32), REGISTER }
#define DREG(attr_) { ROW("dreg", attr_, BE32), REGISTER }
#define DATA(key_, attr_) { ROW(key_, attr_, HOOK), .hook = &nft_data_hook }

static const struct attr_word nat_flags[] = {
	{ "random", NF_NAT_RANGE_PROTO_RANDOM },
	{ "fully_random", NF_NAT_RANGE_PROTO_RANDOM_FULLY },
	{ "persistent", NF_NAT_RANGE_PERSISTENT },
	{ "netmap", NF_NAT_RANGE_NETMAP },
	{ "map_ips", NF_NAT_RANGE_MAP_IPS },
	{ "proto_specified", NF_NAT_RANGE_PROTO_SPECIFIED },
	{ "proto_offset", NF_NAT_RANGE_PROTO_OFFSET },
};

static const struct attr_word meta_keys[] = {
	{ "length", NFT_META_LEN },           { "protocol", NFT_META_PROTOCOL },
	{ "priority", NFT_META_PRIORITY },    { "mark", NFT_META_MARK },
	{ "iif", NFT_META_IIF },              { "oif", NFT_META_OIF },
	{ "iifname", NFT_META_IIFNAME },      { "oifname", NFT_META_OIFNAME },
	{ "iiftype", NFT_META_IIFTYPE },      { "oiftype", NFT_META_OIFTYPE },
	{ "skuid", NFT_META_SKUID },          { "skgid", NFT_META_SKGID },
	{ "nftrace", NFT_META_NFTRACE },      { "rtclassid", NFT_META_RTCLASSID },
	{ "secmark", NFT_META_SECMARK },      { "nfproto", NFT_META_NFPROTO },
	{ "l4proto", NFT_META_L4PROTO },      { "ibrname", NFT_META_BRI_IIFNAME },
	{ "obrname", NFT_META_BRI_OIFNAME },  { "pkttype", NFT_META_PKTTYPE },
	{ "cpu", NFT_META_CPU },              { "iifgroup", NFT_META_IIFGROUP },
	{ "oifgroup", NFT_META_OIFGROUP },    { "cgroup", NFT_META_CGROUP },
	{ "random", NFT_META_PRANDOM },       { "secpath", NFT_META_SECPATH },
	{ "iifkind", NFT_META_IIFKIND },      { "oifkind", NFT_META_OIFKIND },
	{ "ibrpvid", NFT_META_BRI_IIFPVID },  { "ibrvproto", NFT_META_BRI_IIFVPROTO },
	{ "time", NFT_META_TIME_NS },         { "day", NFT_META_TIME_DAY },
	{ "hour", NFT_META_TIME_HOUR },       { "sdif", NFT_META_SDIF },
	{ "sdifname", NFT_META_SDIFNAME },
};

static const struct attr_row meta_rows[] = {
	{ ROW("key", NFTA_META_KEY, BE32), NFT_WORD(meta_keys) },
	DREG(NFTA_META_DREG),
	SREG(NFTA_META_SREG),
};

static const struct attr_word payload_bases[] = {
	{ "link", NFT_PAYLOAD_LL_HEADER },
	{ "network", NFT_PAYLOAD_NETWORK_HEADER },
	{ "transport", NFT_PAYLOAD_TRANSPORT_HEADER },
	{ "inner", NFT_PAYLOAD_INNER_HEADER },
};

static const struct attr_word payload_csums[] = {
	{ "none", NFT_PAYLOAD_CSUM_NONE },
	{ "inet", NFT_PAYLOAD_CSUM_INET },
	{ "sctp", NFT_PAYLOAD_CSUM_SCTP },
};

static const struct attr_word payload_csum_flags[] = {
	{ "pseudo_header", NFT_PAYLOAD_L4CSUM_PSEUDOHDR },
};

static const struct attr_row payload_rows[] = {
	{ ROW("base", NFTA_PAYLOAD_BASE, BE32), NFT_WORD(payload_bases) },
	{ ROW("offset", NFTA_PAYLOAD_OFFSET, BE32) },
	{ ROW("len", NFTA_PAYLOAD_LEN, BE32) },
	DREG(NFTA_PAYLOAD_DREG),
	SREG(NFTA_PAYLOAD_SREG),
	{ ROW("csum_type", NFTA_PAYLOAD_CSUM_TYPE, BE32), NFT_WORD(payload_csums) },
	{ ROW("csum_offset", NFTA_PAYLOAD_CSUM_OFFSET, BE32) },
	{ ROW("csum_flags", NFTA_PAYLOAD_CSUM_FLAGS, BE32), NFT_BITS(payload_csum_flags) },
};

static const struct attr_word cmp_ops[] = {
	{ "eq", NFT_CMP_EQ },   { "neq", NFT_CMP_NEQ }, { "lt", NFT_CMP_LT },
	{ "lte", NFT_CMP_LTE }, { "gt", NFT_CMP_GT },   { "gte", NFT_CMP_GTE },
};

static const struct attr_row cmp_rows[] = {
	SREG(NFTA_CMP_SREG),
	{ ROW("op", NFTA_CMP_OP, BE32), NFT_WORDS(cmp_ops) },
	DATA("data", NFTA_CMP_DATA),
};

static const struct attr_word range_ops[] = {
	{ "eq", NFT_RANGE_EQ },
	{ "neq", NFT_RANGE_NEQ },
};

static const struct attr_row range_rows[] = {
	SREG(NFTA_RANGE_SREG),
	{ ROW("op", NFTA_RANGE_OP, BE32), NFT_WORDS(range_ops) },
	DATA("from", NFTA_RANGE_FROM_DATA),
	DATA("to", NFTA_RANGE_TO_DATA),
};

static const struct attr_word bitwise_ops[] = {
	{ "bool", NFT_BITWISE_BOOL },
	{ "lshift", NFT_BITWISE_LSHIFT },
	{ "rshift", NFT_BITWISE_RSHIFT },
};

static const struct attr_row bitwise_rows[] = {
	SREG(NFTA_BITWISE_SREG),
	DREG(NFTA_BITWISE_DREG),
	{ ROW("op", NFTA_BITWISE_OP, BE32), NFT_WORD(bitwise_ops) },
	{ ROW("len", NFTA_BITWISE_LEN, BE32) },
	DATA("mask", NFTA_BITWISE_MASK),
	DATA("xor", NFTA_BITWISE_XOR),
	DATA("data", NFTA_BITWISE_DATA),
};

static const struct attr_word byteorder_ops[] = {
	{ "ntoh", NFT_BYTEORDER_NTOH },
	{ "hton", NFT_BYTEORDER_HTON },
};

static const struct attr_row byteorder_rows[] = {
	SREG(NFTA_BYTEORDER_SREG),
	DREG(NFTA_BYTEORDER_DREG),
	{ ROW("op", NFTA_BYTEORDER_OP, BE32), NFT_WORDS(byteorder_ops) },
	{ ROW("len", NFTA_BYTEORDER_LEN, BE32) },
	{ ROW("size", NFTA_BYTEORDER_SIZE, BE32) },
};

static const struct attr_row immediate_rows[] = {
	DREG(NFTA_IMMEDIATE_DREG),
	DATA("data", NFTA_IMMEDIATE_DATA),
};

static const struct attr_word lookup_flags[] = {
	{ "inverted", NFT_LOOKUP_F_INV },
};

static const struct attr_row lookup_rows[] = {
	NFT_NAME("set", NFTA_LOOKUP_SET),
	{ ROW("set_id", NFTA_LOOKUP_SET_ID, BE32) },
	SREG(NFTA_LOOKUP_SREG),
	DREG(NFTA_LOOKUP_DREG),
	{ ROW("flags", NFTA_LOOKUP_FLAGS, BE32), NFT_BITS(lookup_flags) },
};

static const struct attr_row counter_rows[] = {
	{ ROW("packets", NFTA_COUNTER_PACKETS, BE64) },
	{ ROW("bytes", NFTA_COUNTER_BYTES, BE64) },
};

static const struct attr_word ct_keys[] = {
	{ "state", NFT_CT_STATE },           { "direction", NFT_CT_DIRECTION },
	{ "status", NFT_CT_STATUS },         { "mark", NFT_CT_MARK },
	{ "secmark", NFT_CT_SECMARK },       { "expiration", NFT_CT_EXPIRATION },
	{ "helper", NFT_CT_HELPER },         { "l3proto", NFT_CT_L3PROTOCOL },
	{ "src", NFT_CT_SRC },               { "dst", NFT_CT_DST },
	{ "protocol", NFT_CT_PROTOCOL },     { "proto_src", NFT_CT_PROTO_SRC },
	{ "proto_dst", NFT_CT_PROTO_DST },   { "label", NFT_CT_LABELS },
	{ "packets", NFT_CT_PKTS },          { "bytes", NFT_CT_BYTES },
	{ "avgpkt", NFT_CT_AVGPKT },         { "zone", NFT_CT_ZONE },
	{ "event", NFT_CT_EVENTMASK },       { "src_ip", NFT_CT_SRC_IP },
	{ "dst_ip", NFT_CT_DST_IP },         { "src_ip6", NFT_CT_SRC_IP6 },
	{ "dst_ip6", NFT_CT_DST_IP6 },       { "id", NFT_CT_ID },
};

static const struct attr_word ct_directions[] = {
	{ "original", 0 },
	{ "reply", 1 },
};

static const struct attr_row ct_rows[] = {
	{ ROW("key", NFTA_CT_KEY, BE32), NFT_WORD(ct_keys) },
	DREG(NFTA_CT_DREG),
	SREG(NFTA_CT_SREG),
	{ ROW("direction", NFTA_CT_DIRECTION, U8), NFT_WORD(ct_directions) },
};

static const struct attr_word fib_results[] = {
	{ "oif", NFT_FIB_RESULT_OIF },
	{ "oifname", NFT_FIB_RESULT_OIFNAME },
	{ "type", NFT_FIB_RESULT_ADDRTYPE },
};

static const struct attr_word fib_flags[] = {
	{ "saddr", NFTA_FIB_F_SADDR }, { "daddr", NFTA_FIB_F_DADDR }, { "mark", NFTA_FIB_F_MARK },
	{ "iif", NFTA_FIB_F_IIF },     { "oif", NFTA_FIB_F_OIF },
	{ "present", NFTA_FIB_F_PRESENT },
};

static const struct attr_row fib_rows[] = {
	{ ROW("result", NFTA_FIB_RESULT, BE32), NFT_WORDS(fib_results) },
	{ ROW("flags", NFTA_FIB_FLAGS, BE32), NFT_BITS(fib_flags) },
	DREG(NFTA_FIB_DREG),
};

static const struct attr_word nat_types[] = {
	{ "snat", NFT_NAT_SNAT },
	{ "dnat", NFT_NAT_DNAT },
};

static const struct attr_row nat_rows[] = {
	{ ROW("type", NFTA_NAT_TYPE, BE32), NFT_WORDS(nat_types) },
	{ ROW("family", NFTA_NAT_FAMILY, BE32), .words = &nft_families },
	{ ROW("addr_min", NFTA_NAT_REG_ADDR_MIN, BE32), REGISTER },
	{ ROW("addr_max", NFTA_NAT_REG_ADDR_MAX, BE32), REGISTER },
	{ ROW("port_min", NFTA_NAT_REG_PROTO_MIN, BE32), REGISTER },
	{ ROW("port_max", NFTA_NAT_REG_PROTO_MAX, BE32), REGISTER },
	{ ROW("flags", NFTA_NAT_FLAGS, BE32), NFT_BITS(nat_flags) },
};

static const struct attr_row masq_rows[] = {
	{ ROW("flags", NFTA_MASQ_FLAGS, BE32), NFT_BITS(nat_flags) },
	{ ROW("port_min", NFTA_MASQ_REG_PROTO_MIN, BE32), REGISTER },
	{ ROW("port_max", NFTA_MASQ_REG_PROTO_MAX, BE32), REGISTER },
};

static const struct attr_row redir_rows[] = {
	{ ROW("flags", NFTA_REDIR_FLAGS, BE32), NFT_BITS(nat_flags) },
	{ ROW("port_min", NFTA_REDIR_REG_PROTO_MIN, BE32), REGISTER },
	{ ROW("port_max", NFTA_REDIR_REG_PROTO_MAX, BE32), REGISTER },
};

static const struct attr_word reject_types[] = {
	{ "icmp", NFT_REJECT_ICMP_UNREACH },
	{ "tcp_reset", NFT_REJECT_TCP_RST },
	{ "icmpx", NFT_REJECT_ICMPX_UNREACH },
};

static const struct attr_row reject_rows[] = {
	{ ROW("type", NFTA_REJECT_TYPE, BE32), NFT_WORDS(reject_types) },
	{ ROW("code", NFTA_REJECT_ICMP_CODE, U8) },
};

static const struct attr_word limit_types[] = {
	{ "packets", NFT_LIMIT_PKTS },
	{ "bytes", NFT_LIMIT_PKT_BYTES },
};

static const struct attr_word inverted_flag[] = {
	{ "inverted", NFT_LIMIT_F_INV },
};

static const struct attr_row limit_rows[] = {
	{ ROW("rate", NFTA_LIMIT_RATE, BE64) },
	{ ROW("unit", NFTA_LIMIT_UNIT, BE64) },
	{ ROW("burst", NFTA_LIMIT_BURST, BE32) },
	{ ROW("type", NFTA_LIMIT_TYPE, BE32), NFT_WORDS(limit_types) },
	{ ROW("flags", NFTA_LIMIT_FLAGS, BE32), NFT_BITS(inverted_flag) },
};

static const struct attr_row connlimit_rows[] = {
	{ ROW("count", NFTA_CONNLIMIT_COUNT, BE32) },
	{ ROW("flags", NFTA_CONNLIMIT_FLAGS, BE32), NFT_BITS(inverted_flag) },
};

static const struct attr_word quota_flags[] = {
	{ "over", NFT_QUOTA_F_INV },
	{ "depleted", NFT_QUOTA_F_DEPLETED },
};

static const struct attr_row quota_rows[] = {
	{ ROW("bytes", NFTA_QUOTA_BYTES, BE64) },
	{ ROW("consumed", NFTA_QUOTA_CONSUMED, BE64) },
	{ ROW("flags", NFTA_QUOTA_FLAGS, BE32), NFT_BITS(quota_flags) },
};

static const struct attr_word log_levels[] = {
	{ "emerg", NFT_LOGLEVEL_EMERG },     { "alert", NFT_LOGLEVEL_ALERT },
	{ "crit", NFT_LOGLEVEL_CRIT },       { "err", NFT_LOGLEVEL_ERR },
	{ "warn", NFT_LOGLEVEL_WARNING },    { "notice", NFT_LOGLEVEL_NOTICE },
	{ "info", NFT_LOGLEVEL_INFO },       { "debug", NFT_LOGLEVEL_DEBUG },
	{ "audit", NFT_LOGLEVEL_AUDIT },
};

static const struct attr_row log_rows[] = {
	{ ROW("prefix", NFTA_LOG_PREFIX, STRING), .max = 127 },
	{ ROW("level", NFTA_LOG_LEVEL, BE32), NFT_WORD(log_levels) },
	{ ROW("flags", NFTA_LOG_FLAGS, BE32) },
	{ ROW("group", NFTA_LOG_GROUP, BE16) },
	{ ROW("snaplen", NFTA_LOG_SNAPLEN, BE32) },
	{ ROW("qthreshold", NFTA_LOG_QTHRESHOLD, BE16) },
};

static const struct attr_word dynset_ops[] = {
	{ "add", NFT_DYNSET_OP_ADD },
	{ "update", NFT_DYNSET_OP_UPDATE },
	{ "delete", NFT_DYNSET_OP_DELETE },
};

static const struct attr_word dynset_flags[] = {
	{ "inverted", NFT_DYNSET_F_INV },
	{ "expressions", NFT_DYNSET_F_EXPR },
};

static const struct attr_row dynset_rows[] = {
	NFT_NAME("set", NFTA_DYNSET_SET_NAME),
	{ ROW("set_id", NFTA_DYNSET_SET_ID, BE32) },
	{ ROW("op", NFTA_DYNSET_OP, BE32), NFT_WORDS(dynset_ops) },
	{ ROW("sreg_key", NFTA_DYNSET_SREG_KEY, BE32), REGISTER },
	{ ROW("sreg_data", NFTA_DYNSET_SREG_DATA, BE32), REGISTER },
	{ ROW("timeout", NFTA_DYNSET_TIMEOUT, BE64) },
	{ ROW("flags", NFTA_DYNSET_FLAGS, BE32), NFT_BITS(dynset_flags) },
	{ ROW("expr", NFTA_DYNSET_EXPR, NEST), .table = &nft_expression_table },
};

static const struct attr_word object_types[] = {
	{ "counter", NFT_OBJECT_COUNTER },       { "quota", NFT_OBJECT_QUOTA },
	{ "ct_helper", NFT_OBJECT_CT_HELPER },   { "limit", NFT_OBJECT_LIMIT },
	{ "connlimit", NFT_OBJECT_CONNLIMIT },   { "tunnel", NFT_OBJECT_TUNNEL },
	{ "ct_timeout", NFT_OBJECT_CT_TIMEOUT }, { "secmark", NFT_OBJECT_SECMARK },
	{ "ct_expectation", NFT_OBJECT_CT_EXPECT }, { "synproxy", NFT_OBJECT_SYNPROXY },
};

const struct attr_words nft_object_types = { object_types, ARRAY_SIZE(object_types) };

static const struct attr_row objref_rows[] = {
	{ ROW("type", NFTA_OBJREF_IMM_TYPE, BE32), .flags = ATTR_NUMBER,
	  .words = &nft_object_types },
	NFT_NAME("name", NFTA_OBJREF_IMM_NAME),
	SREG(NFTA_OBJREF_SET_SREG),
	NFT_NAME("set", NFTA_OBJREF_SET_NAME),
	{ ROW("set_id", NFTA_OBJREF_SET_ID, BE32) },
};

static const struct attr_word numgen_types[] = {
	{ "inc", NFT_NG_INCREMENTAL },
	{ "random", NFT_NG_RANDOM },
};

static const struct attr_row numgen_rows[] = {
	DREG(NFTA_NG_DREG),
	{ ROW("modulus", NFTA_NG_MODULUS, BE32) },
	{ ROW("type", NFTA_NG_TYPE, BE32), NFT_WORDS(numgen_types) },
	{ ROW("offset", NFTA_NG_OFFSET, BE32) },
};

static const struct attr_word hash_types[] = {
	{ "jenkins", NFT_HASH_JENKINS },
	{ "symmetric", NFT_HASH_SYM },
};

static const struct attr_row hash_rows[] = {
	SREG(NFTA_HASH_SREG),
	DREG(NFTA_HASH_DREG),
	{ ROW("len", NFTA_HASH_LEN, BE32) },
	{ ROW("modulus", NFTA_HASH_MODULUS, BE32) },
	{ ROW("seed", NFTA_HASH_SEED, BE32) },
	{ ROW("offset", NFTA_HASH_OFFSET, BE32) },
	{ ROW("type", NFTA_HASH_TYPE, BE32), NFT_WORDS(hash_types) },
};

static const struct attr_word exthdr_ops[] = {
	{ "ipv6", NFT_EXTHDR_OP_IPV6 }, { "tcp_option", NFT_EXTHDR_OP_TCPOPT },
	{ "ipv4", NFT_EXTHDR_OP_IPV4 }, { "sctp", NFT_EXTHDR_OP_SCTP },
	{ "dccp", NFT_EXTHDR_OP_DCCP },
};

static const struct attr_word exthdr_flags[] = {
	{ "present", NFT_EXTHDR_F_PRESENT },
};

static const struct attr_row exthdr_rows[] = {
	DREG(NFTA_EXTHDR_DREG),
	SREG(NFTA_EXTHDR_SREG),
	{ ROW("type", NFTA_EXTHDR_TYPE, U8) },
	{ ROW("offset", NFTA_EXTHDR_OFFSET, BE32) },
	{ ROW("len", NFTA_EXTHDR_LEN, BE32) },
	{ ROW("flags", NFTA_EXTHDR_FLAGS, BE32), NFT_BITS(exthdr_flags) },
	{ ROW("op", NFTA_EXTHDR_OP, BE32), NFT_WORDS(exthdr_ops) },
};

static const struct attr_row tproxy_rows[] = {
	{ ROW("family", NFTA_TPROXY_FAMILY, BE32), .words = &nft_families },
	{ ROW("addr", NFTA_TPROXY_REG_ADDR, BE32), REGISTER },
	{ ROW("port", NFTA_TPROXY_REG_PORT, BE32), REGISTER },
};

static const struct attr_word rt_keys[] = {
	{ "classid", NFT_RT_CLASSID },   { "nexthop4", NFT_RT_NEXTHOP4 },
	{ "nexthop6", NFT_RT_NEXTHOP6 }, { "mtu", NFT_RT_TCPMSS },
	{ "ipsec", NFT_RT_XFRM },
};

static const struct attr_row rt_rows[] = {
	DREG(NFTA_RT_DREG),
	{ ROW("key", NFTA_RT_KEY, BE32), NFT_WORDS(rt_keys) },
};

static const struct attr_word socket_keys[] = {
	{ "transparent", NFT_SOCKET_TRANSPARENT }, { "mark", NFT_SOCKET_MARK },
	{ "wildcard", NFT_SOCKET_WILDCARD },       { "cgroupv2", NFT_SOCKET_CGROUPV2 },
};

static const struct attr_row socket_rows[] = {
	DREG(NFTA_SOCKET_DREG),
	{ ROW("key", NFTA_SOCKET_KEY, BE32), NFT_WORDS(socket_keys) },
	{ ROW("level", NFTA_SOCKET_LEVEL, BE32) },
};

static const struct attr_row dup_rows[] = {
	{ ROW("addr", NFTA_DUP_SREG_ADDR, BE32), REGISTER },
	{ ROW("device", NFTA_DUP_SREG_DEV, BE32), REGISTER },
};

static const struct attr_row fwd_rows[] = {
	{ ROW("device", NFTA_FWD_SREG_DEV, BE32), REGISTER },
	{ ROW("addr", NFTA_FWD_SREG_ADDR, BE32), REGISTER },
	{ ROW("family", NFTA_FWD_NFPROTO, BE32), .words = &nft_families },
};

static const struct attr_row last_rows[] = {
	{ ROW("set", NFTA_LAST_SET, BE32) },
	{ ROW("ms", NFTA_LAST_MSECS, BE64) },
};

#define TABLE(name_) ATTR_TABLE(#name_, name_##_rows, 0)

static const struct attr_table meta_table = TABLE(meta);
static const struct attr_table payload_table = TABLE(payload);
static const struct attr_table cmp_table = TABLE(cmp);
static const struct attr_table range_table = TABLE(range);
static const struct attr_table bitwise_table = TABLE(bitwise);
static const struct attr_table byteorder_table = TABLE(byteorder);
static const struct attr_table immediate_table = TABLE(immediate);
static const struct attr_table lookup_table = TABLE(lookup);
const struct attr_table nft_counter_table = TABLE(counter);
static const struct attr_table ct_table = TABLE(ct);
static const struct attr_table fib_table = TABLE(fib);
static const struct attr_table nat_table = TABLE(nat);
static const struct attr_table masq_table = TABLE(masq);
static const struct attr_table redir_table = TABLE(redir);
static const struct attr_table reject_table = TABLE(reject);
const struct attr_table nft_limit_table = TABLE(limit);
const struct attr_table nft_connlimit_table = TABLE(connlimit);
const struct attr_table nft_quota_table = TABLE(quota);
static const struct attr_table log_table = TABLE(log);
static const struct attr_table dynset_table = TABLE(dynset);
static const struct attr_table objref_table = TABLE(objref);
static const struct attr_table numgen_table = TABLE(numgen);
static const struct attr_table hash_table = TABLE(hash);
static const struct attr_table exthdr_table = TABLE(exthdr);
static const struct attr_table tproxy_table = TABLE(tproxy);
static const struct attr_table rt_table = TABLE(rt);
static const struct attr_table socket_table = TABLE(socket);
static const struct attr_table dup_table = TABLE(dup);
static const struct attr_table fwd_table = TABLE(fwd);
static const struct attr_table last_table = TABLE(last);
static const struct attr_table notrack_table = { "notrack", NULL, 0, 0 };

static const struct attr_case expressions[] = {
	{ "meta", &meta_table },           { "payload", &payload_table },
	{ "cmp", &cmp_table },             { "range", &range_table },
	{ "bitwise", &bitwise_table },     { "byteorder", &byteorder_table },
	{ "immediate", &immediate_table }, { "lookup", &lookup_table },
	{ "counter", &nft_counter_table },     { "ct", &ct_table },
	{ "fib", &fib_table },             { "nat", &nat_table },
	{ "masq", &masq_table },           { "redir", &redir_table },
	{ "reject", &reject_table },       { "limit", &nft_limit_table },
	{ "connlimit", &nft_connlimit_table }, { "quota", &nft_quota_table },
	{ "log", &log_table },             { "dynset", &dynset_table },
	{ "objref", &objref_table },
	{ "numgen", &numgen_table },       { "hash", &hash_table },
	{ "exthdr", &exthdr_table },       { "tproxy", &tproxy_table },
	{ "rt", &rt_table },               { "socket", &socket_table },
	{ "dup", &dup_table },             { "fwd", &fwd_table },
	{ "last", &last_table },           { "notrack", &notrack_table },
};

static const struct attr_switch expression_switch = {
	ATTR_FIRST, expressions, ARRAY_SIZE(expressions), NULL,
};

/* The kernel would say of an unknown one no more than that it is not there. */
static void name_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	const char *names[ARRAY_SIZE(expressions) + 1] = { 0 }, *name, *near;
	size_t len;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, row, "expected the name of an expression, got a %s",
			   luaL_typename(out->L, idx));
	name = lua_tolstring(out->L, idx, &len);
	for (size_t i = 0; i < ARRAY_SIZE(expressions); i++) {
		names[i] = expressions[i].name;
		if (!strcmp(names[i], name)) {
			attr_put(out, row->type, name, len + 1);
			return;
		}
	}
	near = nearest_word(name, names);
	if (near)
		attr_error(out, row, "unknown expression '%s' (did you mean '%s'?)", name, near);
	attr_error(out, row, "unknown expression '%s'", name);
}

static int name_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	static const struct attr_row text = { .kind = ATTR_STRING };

	(void)row;
	return attr_push(in->L, &text, mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
}

static const struct attr_hook name_hook = { name_encode, name_decode };

static const struct attr_row expression_rows[] = {
	{ ROW(ATTR_FIRST, NFTA_EXPR_NAME, HOOK), .hook = &name_hook },
	{ ROW(NULL, NFTA_EXPR_DATA, FLAT), .choose = &expression_switch },
};

const struct attr_table nft_expression_table = ATTR_TABLE("expression", expression_rows, 0);

const struct attr_row nft_expression_row = {
	ROW(NULL, NFTA_LIST_ELEM, NEST), .table = &nft_expression_table,
};
