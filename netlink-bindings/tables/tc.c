/* SPDX-License-Identifier: MIT */
/*
 * Traffic control as data: queueing disciplines, their classes, filters and what those do with a packet.
 * Rates are in bytes a second, 64 bits wide, sizes in bytes. A buffer is in ticks of 64 ns, as the kernel
 * tells it: the time that a burst takes at the rate.
 */

#include "tables/tables.h"

#include <inttypes.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_gact.h>
#include <linux/tc_act/tc_mirred.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*** Names of disciplines and classes: "1:", "1:10", in hexadecimal ***/

enum { NAME_MAX_LEN = 10 }; /* "ffff:ffff" */

static const struct attr_word place_words[] = {
	{ "root", TC_H_ROOT },
	{ "ingress", TC_H_INGRESS },
};

/* Four digits at most; an empty half is 0. */
static bool half_of_name(const char *text, size_t len, uint32_t *ret)
{
	char digits[5] = "", *end;

	if (len >= sizeof digits || strspn(text, "0123456789abcdefABCDEF") < len)
		return false;
	memcpy(digits, text, len);
	*ret = (uint32_t)strtoul(digits, &end, 16);
	return true;
}

static uint32_t read_name(struct attr_out *out, const struct attr_row *row, int idx)
{
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : "";
	const char *colon = strchr(text, ':');
	uint32_t major, minor;

	for (size_t i = 0; i < ARRAY_SIZE(place_words); i++)
		if (!strcmp(text, place_words[i].word))
			return place_words[i].value;
	if (!colon || colon == text || !half_of_name(text, (size_t)(colon - text), &major) ||
	    !half_of_name(colon + 1, strlen(colon + 1), &minor))
		attr_error(out, row, "expected a name such as \"1:\" or \"1:10\"");
	return major << 16 | minor;
}

static int push_name(lua_State *L, uint32_t value)
{
	char text[NAME_MAX_LEN];

	for (size_t i = 0; i < ARRAY_SIZE(place_words); i++) {
		if (value == place_words[i].value) {
			lua_pushstring(L, place_words[i].word);
			return 1;
		}
	}
	if (value & 0xffff)
		snprintf(text, sizeof text, "%" PRIx32 ":%" PRIx32, value >> 16, value & 0xffff);
	else
		snprintf(text, sizeof text, "%" PRIx32 ":", value >> 16);
	lua_pushstring(L, text);
	return 1;
}

static void encode_name(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint32_t value = read_name(out, row, idx);

	memcpy((uint8_t *)attr_header(out) + row->offset, &value, sizeof value);
}

static int decode_name(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	uint32_t value;

	(void)attr;
	if (in->header_len < row->offset + sizeof value)
		return 0;
	memcpy(&value, (const uint8_t *)in->header + row->offset, sizeof value);
	return value ? push_name(in->L, value) : 0;
}

/* In the header, where 0 is none. */
static const struct attr_hook hook_name = { .encode = encode_name, .decode = decode_name };

static void encode_class_name(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint32_t value = read_name(out, row, idx);

	attr_put(out, row->type, &value, sizeof value);
}

static int decode_class_name(struct attr_in *in, const struct attr_row *row,
			     const struct nlattr *attr)
{
	(void)row;
	if (!attr || mnl_attr_get_payload_len(attr) < sizeof(uint32_t))
		return 0;
	return push_name(in->L, mnl_attr_get_u32(attr));
}

static const struct attr_hook hook_class_name = {
	.encode = encode_class_name,
	.decode = decode_class_name,
};

/*** Rates: a field of a struct, and an attribute for those that do not fit ***/

struct rate {
	uint16_t parms;  /* the attribute with the struct */
	uint16_t size;   /* of the struct */
	uint16_t offset; /* of its struct tc_ratespec */
	uint16_t rate64; /* the attribute for a large one */
};

/* The struct that is being encoded: its other fields have been laid out, or there are none. */
static struct tc_ratespec *put_ratespec(struct attr_out *out, const struct rate *rate)
{
	static const uint8_t zero[sizeof(struct tc_tbf_qopt) + sizeof(struct tc_htb_opt)];
	const struct nlattr *attr;
	size_t at;

	for (;;) {
		const uint8_t *first = out->buf->data + out->header;
		size_t len = out->buf->len - out->header;

		for (at = 0; (attr = nl_attr(first, len, at)); at += NL_PAD(attr->nla_len))
			if ((attr->nla_type & (uint16_t)NLA_TYPE_MASK) == rate->parms)
				return (void *)(out->buf->data + out->header + at + NL_ATTR_HDR +
						rate->offset);
		attr_put(out, rate->parms, zero, rate->size);
	}
}

static void encode_rate(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct attr_row number = { .kind = ATTR_U64, .min = 1, .max = INT64_MAX };
	const struct rate *rate = row->data;
	struct attr_row as = number;
	struct tc_ratespec *spec;
	uint64_t value;

	as.key = row->key;
	value = (uint64_t)attr_integer(out, &as, idx);
	spec = put_ratespec(out, rate);
	spec->rate = value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
	/* Whoever says this need not send tables of how long each packet takes. */
	spec->linklayer = TC_LINKLAYER_ETHERNET;
	if (value >= UINT32_MAX)
		attr_put(out, rate->rate64, &value, sizeof value);
}

static int decode_rate(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	const struct rate *rate = row->data;
	const struct nlattr *wide = attr_find(in, rate->rate64);
	struct tc_ratespec spec;
	uint64_t value;

	attr = attr_find(in, rate->parms);
	if (!attr || mnl_attr_get_payload_len(attr) < rate->size)
		return 0;
	memcpy(&spec, (const uint8_t *)mnl_attr_get_payload(attr) + rate->offset, sizeof spec);
	value = spec.rate;
	if (wide && mnl_attr_get_payload_len(wide) == sizeof value)
		memcpy(&value, mnl_attr_get_payload(wide), sizeof value);
	if (!value)
		return 0;
	lua_pushinteger(in->L, (lua_Integer)value);
	return 1;
}

static const struct attr_hook hook_rate = { .encode = encode_rate, .decode = decode_rate };

#define RATE(struct_, member_, parms_, rate64_) \
	.type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_rate, \
	.data = &(const struct rate){ (parms_), sizeof(struct_), offsetof(struct_, member_), \
				      (rate64_) }

/*** Disciplines ***/

static const struct attr_row tbf_parms_rows[] = {
	{ .key = "limit", ATTR_FIELD(struct tc_tbf_qopt, limit), .kind = ATTR_U32 },
	{ .key = "buffer", ATTR_FIELD(struct tc_tbf_qopt, buffer), .kind = ATTR_U32 },
	{ .key = "mtu", ATTR_FIELD(struct tc_tbf_qopt, mtu), .kind = ATTR_U32 },
};

static const struct attr_table tbf_parms =
	ATTR_TABLE("tbf", tbf_parms_rows, sizeof(struct tc_tbf_qopt));

static const struct attr_row tbf_rows[] = {
	{ .type = TCA_TBF_PARMS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED, .table = &tbf_parms },
	{ .key = "rate", RATE(struct tc_tbf_qopt, rate, TCA_TBF_PARMS, TCA_TBF_RATE64) },
	{ .key = "peakrate", RATE(struct tc_tbf_qopt, peakrate, TCA_TBF_PARMS, TCA_TBF_PRATE64) },
	{ .key = "burst", .type = TCA_TBF_BURST, .kind = ATTR_U32, .min = 1, .max = UINT32_MAX,
	  .flags = ATTR_WRITEONLY },
	{ .key = "peakburst", .type = TCA_TBF_PBURST, .kind = ATTR_U32, .min = 1,
	  .max = UINT32_MAX, .flags = ATTR_WRITEONLY },
};

static const struct attr_table tbf_table = ATTR_TABLE("tbf", tbf_rows, 0);

enum { HTB_VERSION = 3, HTB_RATE_TO_QUANTUM = 10 };

/* Where packets go that no filter has a class for; without one they go out unshaped. */
static void encode_default(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct attr_row number = { .key = "default", .kind = ATTR_U16 };
	struct tc_htb_glob glob = {
		.version = HTB_VERSION,
		.rate2quantum = HTB_RATE_TO_QUANTUM,
		.defcls = (uint32_t)attr_integer(out, &number, idx),
	};

	attr_put(out, row->type, &glob, sizeof glob);
}

static int decode_default(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct tc_htb_glob glob;

	(void)row;
	if (!attr || mnl_attr_get_payload_len(attr) < sizeof glob)
		return 0;
	memcpy(&glob, mnl_attr_get_payload(attr), sizeof glob);
	lua_pushinteger(in->L, glob.defcls);
	return 1;
}

static const struct attr_hook hook_default = { .encode = encode_default, .decode = decode_default };

static const struct attr_row htb_rows[] = {
	{ .key = "default", .type = TCA_HTB_INIT, .kind = ATTR_HOOK, .hook = &hook_default },
	{ .key = "direct_qlen", .type = TCA_HTB_DIRECT_QLEN, .kind = ATTR_U32 },
};

static const struct attr_table htb_table = ATTR_TABLE("htb", htb_rows, 0);

static const struct attr_row fq_codel_rows[] = {
	{ .key = "limit", .type = TCA_FQ_CODEL_LIMIT, .kind = ATTR_U32 },
	{ .key = "target", .type = TCA_FQ_CODEL_TARGET, .kind = ATTR_U32 },
	{ .key = "interval", .type = TCA_FQ_CODEL_INTERVAL, .kind = ATTR_U32 },
	{ .key = "ecn", .type = TCA_FQ_CODEL_ECN, .kind = ATTR_BOOL32 },
	{ .key = "flows", .type = TCA_FQ_CODEL_FLOWS, .kind = ATTR_U32 },
	{ .key = "quantum", .type = TCA_FQ_CODEL_QUANTUM, .kind = ATTR_U32 },
	{ .key = "ce_threshold", .type = TCA_FQ_CODEL_CE_THRESHOLD, .kind = ATTR_U32 },
	{ .key = "drop_batch", .type = TCA_FQ_CODEL_DROP_BATCH_SIZE, .kind = ATTR_U32 },
	{ .key = "memory_limit", .type = TCA_FQ_CODEL_MEMORY_LIMIT, .kind = ATTR_U32 },
};

static const struct attr_table fq_codel_table = ATTR_TABLE("fq_codel", fq_codel_rows, 0);

static const struct attr_word diffserv_words[] = {
	{ "diffserv3", CAKE_DIFFSERV_DIFFSERV3 }, { "diffserv4", CAKE_DIFFSERV_DIFFSERV4 },
	{ "diffserv8", CAKE_DIFFSERV_DIFFSERV8 }, { "besteffort", CAKE_DIFFSERV_BESTEFFORT },
	{ "precedence", CAKE_DIFFSERV_PRECEDENCE },
};

static const struct attr_word flow_mode_words[] = {
	{ "flowblind", CAKE_FLOW_NONE },	 { "srchost", CAKE_FLOW_SRC_IP },
	{ "dsthost", CAKE_FLOW_DST_IP },	 { "hosts", CAKE_FLOW_HOSTS },
	{ "flows", CAKE_FLOW_FLOWS },		 { "dual-srchost", CAKE_FLOW_DUAL_SRC },
	{ "dual-dsthost", CAKE_FLOW_DUAL_DST },  { "triple-isolate", CAKE_FLOW_TRIPLE },
};

static const struct attr_row cake_rows[] = {
	{ .key = "bandwidth", .type = TCA_CAKE_BASE_RATE64, .kind = ATTR_U64 },
	{ .key = "diffserv", .type = TCA_CAKE_DIFFSERV_MODE, .kind = ATTR_U32,
	  .words = ATTR_WORDS(diffserv_words) },
	{ .key = "flow_mode", .type = TCA_CAKE_FLOW_MODE, .kind = ATTR_U32,
	  .words = ATTR_WORDS(flow_mode_words) },
	{ .key = "overhead", .type = TCA_CAKE_OVERHEAD, .kind = ATTR_S32 },
	{ .key = "rtt", .type = TCA_CAKE_RTT, .kind = ATTR_U32 },
	{ .key = "memory_limit", .type = TCA_CAKE_MEMORY, .kind = ATTR_U32 },
	{ .key = "nat", .type = TCA_CAKE_NAT, .kind = ATTR_BOOL32 },
	{ .key = "wash", .type = TCA_CAKE_WASH, .kind = ATTR_BOOL32 },
	{ .key = "mpu", .type = TCA_CAKE_MPU, .kind = ATTR_U32 },
	{ .key = "ingress", .type = TCA_CAKE_INGRESS, .kind = ATTR_BOOL32 },
	{ .key = "split_gso", .type = TCA_CAKE_SPLIT_GSO, .kind = ATTR_BOOL32 },
	{ .key = "fwmark", .type = TCA_CAKE_FWMARK, .kind = ATTR_U32 },
};

static const struct attr_table cake_table = ATTR_TABLE("cake", cake_rows, 0);

/* pfifo counts packets, bfifo bytes. */
static const struct attr_row fifo_rows[] = {
	{ .key = "limit", ATTR_FIELD(struct tc_fifo_qopt, limit), .kind = ATTR_U32 },
};

static const struct attr_table fifo_table =
	ATTR_TABLE("fifo", fifo_rows, sizeof(struct tc_fifo_qopt));

static const struct attr_case qdisc_cases[] = {
	{ "tbf", &tbf_table },   { "htb", &htb_table },    { "fq_codel", &fq_codel_table },
	{ "cake", &cake_table }, { "pfifo", &fifo_table }, { "bfifo", &fifo_table },
};

static const struct attr_switch qdisc_switch = {
	.key = "kind", .cases = qdisc_cases, .count = ARRAY_SIZE(qdisc_cases),
};

#define TC_INDEX \
	{ .key = "index", ATTR_FIELD(struct tcmsg, tcm_ifindex), .kind = ATTR_S32, .min = 1, \
	  .max = INT32_MAX }
#define TC_NAME(key_, member_) \
	{ .key = (key_), .type = ATTR_WHOLE, .kind = ATTR_HOOK, .hook = &hook_name, \
	  .offset = offsetof(struct tcmsg, member_) }
#define TC_KIND { .key = "kind", .type = TCA_KIND, .kind = ATTR_STRING, .min = 1, .max = 15 }

static const struct attr_row qdisc_rows[] = {
	TC_INDEX,
	TC_NAME("handle", tcm_handle),
	TC_NAME("parent", tcm_parent),
	TC_KIND,
	{ .type = TCA_OPTIONS, .kind = ATTR_FLAT, .choose = &qdisc_switch },
	{ .key = "kind_data", .type = TCA_OPTIONS, .kind = ATTR_HOOK, .hook = &hook_raw,
	  .flags = ATTR_WRITEONLY },
};

const struct attr_table rtnl_qdisc_table =
	ATTR_TABLE("qdisc", qdisc_rows, sizeof(struct tcmsg));

/*** Classes ***/

static const struct attr_row htb_class_parms_rows[] = {
	{ .key = "buffer", ATTR_FIELD(struct tc_htb_opt, buffer), .kind = ATTR_U32 },
	{ .key = "cbuffer", ATTR_FIELD(struct tc_htb_opt, cbuffer), .kind = ATTR_U32 },
	{ .key = "quantum", ATTR_FIELD(struct tc_htb_opt, quantum), .kind = ATTR_U32 },
	{ .key = "prio", ATTR_FIELD(struct tc_htb_opt, prio), .kind = ATTR_U32 },
};

static const struct attr_table htb_class_parms =
	ATTR_TABLE("htb", htb_class_parms_rows, sizeof(struct tc_htb_opt));

static const struct attr_row htb_class_rows[] = {
	{ .type = TCA_HTB_PARMS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &htb_class_parms },
	{ .key = "rate", RATE(struct tc_htb_opt, rate, TCA_HTB_PARMS, TCA_HTB_RATE64) },
	{ .key = "ceil", RATE(struct tc_htb_opt, ceil, TCA_HTB_PARMS, TCA_HTB_CEIL64) },
};

static const struct attr_table htb_class_table = ATTR_TABLE("htb", htb_class_rows, 0);

static const struct attr_case class_cases[] = {
	{ "htb", &htb_class_table },
};

static const struct attr_switch class_switch = {
	.key = "kind", .cases = class_cases, .count = ARRAY_SIZE(class_cases),
};

static const struct attr_row class_rows[] = {
	TC_INDEX,
	TC_NAME("handle", tcm_handle),
	TC_NAME("parent", tcm_parent),
	TC_KIND,
	{ .type = TCA_OPTIONS, .kind = ATTR_FLAT, .choose = &class_switch },
	{ .key = "kind_data", .type = TCA_OPTIONS, .kind = ATTR_HOOK, .hook = &hook_raw,
	  .flags = ATTR_WRITEONLY },
};

const struct attr_table rtnl_class_table =
	ATTR_TABLE("class", class_rows, sizeof(struct tcmsg));

/* By what one of either is asked for. */
static const struct attr_row lookup_rows[] = {
	TC_INDEX,
	TC_NAME("handle", tcm_handle),
};

const struct attr_table rtnl_tc_lookup = ATTR_TABLE("qdisc", lookup_rows, sizeof(struct tcmsg));

/* The kernel lists classes and filters of one link. */
static const struct attr_row filter_of_dump_rows[] = {
	TC_INDEX,
	TC_NAME("parent", tcm_parent),
};

const struct attr_table rtnl_tc_filter =
	ATTR_TABLE("filter", filter_of_dump_rows, sizeof(struct tcmsg));

/*** Filters ***/

static const struct attr_word verdict_words[] = {
	{ "ok", TC_ACT_OK },	   { "reclassify", TC_ACT_RECLASSIFY }, { "drop", TC_ACT_SHOT },
	{ "pipe", TC_ACT_PIPE },   { "stolen", TC_ACT_STOLEN },
};

static const struct attr_word mirred_words[] = {
	{ "redirect", TCA_EGRESS_REDIR },
	{ "mirror", TCA_EGRESS_MIRROR },
	{ "ingress-redirect", TCA_INGRESS_REDIR },
	{ "ingress-mirror", TCA_INGRESS_MIRROR },
};

static const struct attr_row mirred_parms_rows[] = {
	{ .key = "verdict", ATTR_FIELD(struct tc_mirred, action), .kind = ATTR_S32,
	  .words = ATTR_WORDS(verdict_words) },
	{ .key = "how", ATTR_FIELD(struct tc_mirred, eaction), .kind = ATTR_U32,
	  .words = ATTR_WORDS(mirred_words) },
	{ .key = "link", ATTR_FIELD(struct tc_mirred, ifindex), .kind = ATTR_U32 },
};

static const struct attr_table mirred_parms =
	ATTR_TABLE("mirred", mirred_parms_rows, sizeof(struct tc_mirred));

static const struct attr_row mirred_rows[] = {
	{ .type = TCA_MIRRED_PARMS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &mirred_parms },
};

static const struct attr_table mirred_table = ATTR_TABLE("mirred", mirred_rows, 0);

static const struct attr_row gact_parms_rows[] = {
	{ .key = "verdict", ATTR_FIELD(struct tc_gact, action), .kind = ATTR_S32,
	  .words = ATTR_WORDS(verdict_words) },
};

static const struct attr_table gact_parms =
	ATTR_TABLE("gact", gact_parms_rows, sizeof(struct tc_gact));

static const struct attr_row gact_rows[] = {
	{ .type = TCA_GACT_PARMS, .kind = ATTR_FLAT, .flags = ATTR_UNNESTED,
	  .table = &gact_parms },
};

static const struct attr_table gact_table = ATTR_TABLE("gact", gact_rows, 0);

static const struct attr_case action_cases[] = {
	{ "mirred", &mirred_table },
	{ "gact", &gact_table },
};

static const struct attr_switch action_switch = {
	.key = "kind", .cases = action_cases, .count = ARRAY_SIZE(action_cases),
};

static const struct attr_row action_rows[] = {
	{ .key = "kind", .type = TCA_ACT_KIND, .kind = ATTR_STRING, .min = 1, .max = 15 },
	{ .type = TCA_ACT_OPTIONS, .kind = ATTR_FLAT, .choose = &action_switch },
};

static const struct attr_table action_table = ATTR_TABLE("action", action_rows, 0);

enum { FIRST_ACTION = 1 };

/* The kernel takes several, one behind the other; there is no use for that here. */
static const struct attr_row actions_rows[] = {
	{ .key = "action", .type = FIRST_ACTION, .kind = ATTR_NEST, .table = &action_table },
};

static const struct attr_table actions_table = ATTR_TABLE("filter", actions_rows, 0);

/* Words of a packet, from its network header on. */
static const struct attr_row match_rows[] = {
	{ .key = "at", ATTR_FIELD(struct tc_u32_key, off), .kind = ATTR_S32 },
	{ .key = "value", ATTR_FIELD(struct tc_u32_key, val), .kind = ATTR_BE32 },
	{ .key = "mask", ATTR_FIELD(struct tc_u32_key, mask), .kind = ATTR_BE32 },
};

static const struct attr_table match_table =
	ATTR_TABLE("match", match_rows, sizeof(struct tc_u32_key));

enum { MOST_MATCHES = 32 };

static void encode_matches(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct tc_u32_sel none = { .flags = TC_U32_TERMINAL };
	size_t count = lua_type(out->L, idx) == LUA_TTABLE ? lua_rawlen(out->L, idx) : 0, at;

	if (!count || count > MOST_MATCHES)
		attr_error(out, row, "expected a list of 1 to %d matches", MOST_MATCHES);
	attr_put(out, row->type, &none, sizeof none);
	at = out->buf->len - sizeof none;
	for (size_t i = 1; i <= count; i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i);
		attr_put_table(out, row->table, lua_gettop(out->L), row->key, (lua_Integer)i);
		lua_pop(out->L, 1);
	}
	((struct tc_u32_sel *)(void *)(out->buf->data + at))->nkeys = (uint8_t)count;
	attr_nest_end(out, at - NL_ATTR_HDR);
}

static int decode_matches(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	const uint8_t *bytes = attr ? mnl_attr_get_payload(attr) : NULL;
	size_t left = attr ? mnl_attr_get_payload_len(attr) : 0;
	struct tc_u32_sel sel;

	if (left < sizeof sel)
		return 0;
	memcpy(&sel, bytes, sizeof sel);
	bytes += sizeof sel;
	left -= sizeof sel;
	if (left < sel.nkeys * sizeof(struct tc_u32_key))
		return 0;
	lua_newtable(in->L);
	for (lua_Integer i = 1; i <= sel.nkeys; i++) {
		attr_decode_below(in, row->table, bytes, sizeof(struct tc_u32_key));
		lua_rawseti(in->L, -2, i);
		bytes += sizeof(struct tc_u32_key);
	}
	return 1;
}

static const struct attr_hook hook_matches = { .encode = encode_matches, .decode = decode_matches };

static const struct attr_row u32_rows[] = {
	{ .key = "class", .type = TCA_U32_CLASSID, .kind = ATTR_HOOK, .hook = &hook_class_name },
	{ .key = "match", .type = TCA_U32_SEL, .kind = ATTR_HOOK, .hook = &hook_matches,
	  .table = &match_table },
	{ .type = TCA_U32_ACT, .kind = ATTR_FLAT, .table = &actions_table },
};

static const struct attr_table u32_table = ATTR_TABLE("u32", u32_rows, 0);

static const struct attr_row matchall_rows[] = {
	{ .key = "class", .type = TCA_MATCHALL_CLASSID, .kind = ATTR_HOOK,
	  .hook = &hook_class_name },
	{ .type = TCA_MATCHALL_ACT, .kind = ATTR_FLAT, .table = &actions_table },
};

static const struct attr_table matchall_table = ATTR_TABLE("matchall", matchall_rows, 0);

static const struct attr_case filter_cases[] = {
	{ "u32", &u32_table },
	{ "matchall", &matchall_table },
};

static const struct attr_switch filter_switch = {
	.key = "kind", .cases = filter_cases, .count = ARRAY_SIZE(filter_cases),
};

static const struct attr_word ether_words[] = {
	{ "all", ETH_P_ALL }, { "ip", ETH_P_IP }, { "ipv6", ETH_P_IPV6 }, { "arp", ETH_P_ARP },
	{ "802.1Q", ETH_P_8021Q },
};

/* The lower half of a number is the protocol, as it is on the wire; the upper one the priority. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { LOWER_HALF = 0, UPPER_HALF = 2 };
#else
enum { LOWER_HALF = 2, UPPER_HALF = 0 };
#endif

static const struct attr_row filter_rows[] = {
	TC_INDEX,
	{ .key = "handle", ATTR_FIELD(struct tcmsg, tcm_handle), .kind = ATTR_U32 },
	TC_NAME("parent", tcm_parent),
	{ .key = "protocol", .type = ATTR_HEADER, .kind = ATTR_BE16,
	  .offset = offsetof(struct tcmsg, tcm_info) + LOWER_HALF,
	  .words = ATTR_WORDS(ether_words), .flags = ATTR_NUMBER },
	{ .key = "priority", .type = ATTR_HEADER, .kind = ATTR_U16,
	  .offset = offsetof(struct tcmsg, tcm_info) + UPPER_HALF },
	TC_KIND,
	{ .key = "chain", .type = TCA_CHAIN, .kind = ATTR_U32 },
	{ .type = TCA_OPTIONS, .kind = ATTR_FLAT, .choose = &filter_switch },
	{ .key = "kind_data", .type = TCA_OPTIONS, .kind = ATTR_HOOK, .hook = &hook_raw,
	  .flags = ATTR_WRITEONLY },
};

const struct attr_table rtnl_tfilter_table =
	ATTR_TABLE("filter", filter_rows, sizeof(struct tcmsg));
