/* SPDX-License-Identifier: MIT */
/***
@submodule netlink.nft
*/
/*
 * Connection tracking: which flows there are, and forgetting some of them. The kernel has one table for
 * all namespaces and walks all of it for each list, 12 ms where it has 262,144 buckets; how many flows it
 * has in one namespace it knows. So it is asked that first. It picks by addresses and ports of one family
 * while it walks (since 5.8), so only what was asked for is copied; an older one gives all of a family, and
 * the rest is left out here.
 */

#include "nft/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>
#include <sys/socket.h>

#include "nl/push.h"
#include "sys/ip.h"

/* Bits of CTA_FILTER_ORIG_FLAGS, which no header of the kernel's tells to programs. */
enum { BY_DESTINATION = 1 << 1, BY_PROTOCOL = 1 << 3, BY_PORT = 1 << 5 };

/* So many flows of both families cost less to copy than a second walk. */
enum { FEW_FLOWS = 10000 };

/* Which flows are meant, by their first packet. */
struct flow_filter {
	uint8_t family; /* AF_UNSPEC: both */
	uint8_t proto;
	uint8_t dst[16];
	size_t dst_len;  /* 0: any */
	lua_Integer port; /* -1: any */
};

/* One direction of a flow. */
struct tuple {
	const void *src, *dst;
	size_t src_len, dst_len;
	uint16_t sport, dport;
	uint8_t proto;
};

static struct attr_in attributes_in(const struct nlattr *nest)
{
	return (struct attr_in){ .attrs = mnl_attr_get_payload(nest),
				 .len = mnl_attr_get_payload_len(nest) };
}

static const void *address_in(struct attr_in *ip, uint16_t v4, uint16_t v6, size_t *ret_len)
{
	const struct nlattr *attr = attr_find(ip, v4);

	*ret_len = 4;
	if (!attr) {
		attr = attr_find(ip, v6);
		*ret_len = 16;
	}
	if (attr && mnl_attr_get_payload_len(attr) == *ret_len)
		return mnl_attr_get_payload(attr);
	*ret_len = 0;
	return NULL;
}

static uint16_t port_in(struct attr_in *proto, uint16_t type)
{
	const struct nlattr *attr = attr_find(proto, type);

	return attr && mnl_attr_get_payload_len(attr) >= 2 ? ntohs(mnl_attr_get_u16(attr)) : 0;
}

/* False: there is no such direction in it, or it is of no protocol that has addresses. */
static bool read_tuple(struct attr_in *flow, uint16_t type, struct tuple *ret)
{
	const struct nlattr *nest = attr_find(flow, type), *ip, *proto, *number;
	struct attr_in tuple, in;

	*ret = (struct tuple){ 0 };
	if (!nest)
		return false;
	tuple = attributes_in(nest);
	ip = attr_find(&tuple, CTA_TUPLE_IP);
	proto = attr_find(&tuple, CTA_TUPLE_PROTO);
	if (!ip || !proto)
		return false;
	in = attributes_in(ip);
	ret->src = address_in(&in, CTA_IP_V4_SRC, CTA_IP_V6_SRC, &ret->src_len);
	ret->dst = address_in(&in, CTA_IP_V4_DST, CTA_IP_V6_DST, &ret->dst_len);
	in = attributes_in(proto);
	number = attr_find(&in, CTA_PROTO_NUM);
	if (number && mnl_attr_get_payload_len(number) >= 1)
		ret->proto = mnl_attr_get_u8(number);
	ret->sport = port_in(&in, CTA_PROTO_SRC_PORT);
	ret->dport = port_in(&in, CTA_PROTO_DST_PORT);
	return ret->src && ret->dst;
}

static bool is_meant(const struct flow_filter *filter, const struct tuple *orig)
{
	return orig->proto == filter->proto && (filter->port < 0 || orig->dport == filter->port) &&
	       (!filter->dst_len || (filter->dst_len == orig->dst_len &&
				     !memcmp(filter->dst, orig->dst, orig->dst_len)));
}

/*** Arguments ***/

static lua_Integer number_field(lua_State *L, const char *key, lua_Integer max, lua_Integer absent)
{
	lua_Integer value = absent;
	int exact = 1;

	if (lua_getfield(L, 2, key) != LUA_TNIL)
		value = lua_tointegerx(L, -1, &exact);
	if (!exact || (value != absent && (value < 0 || value > max)) || (value < 0 && absent < -1))
		luaL_error(L, "flows: '%s' is no number from 0 to %d", key, (int)max);
	lua_pop(L, 1);
	return value;
}

static struct flow_filter filter_arg(lua_State *L)
{
	struct flow_filter filter = { 0 };
	const char *text;
	size_t len;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_getfield(L, 2, "family");
	text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
	filter.family = !strcmp(text, "inet") ? AF_INET : !strcmp(text, "inet6") ? AF_INET6 : AF_UNSPEC;
	if (!filter.family && !lua_isnil(L, -1))
		luaL_error(L, "flows: 'family' is neither inet nor inet6");
	lua_pop(L, 1);
	filter.proto = (uint8_t)number_field(L, "proto", 255, -2);
	filter.port = number_field(L, "port", 65535, -1);
	if (lua_getfield(L, 2, "dst") != LUA_TNIL) {
		text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
		filter.dst_len = text ? ip_parse(text, len, filter.dst) : 0;
		if (!filter.dst_len || filter.dst_len != (filter.family == AF_INET ? 4 : 16))
			luaL_error(L, "flows: 'dst' is no address of that family");
	}
	lua_pop(L, 1);
	return filter;
}

/*** Messages ***/

static void put_header(lua_State *L, struct nl_buf *buf, uint8_t family)
{
	const struct nfgenmsg header = { .nfgen_family = family, .version = NFNETLINK_V0 };

	nft_check_room(L, nl_buf_reserve(buf, sizeof header));
	memcpy(buf->data + buf->len, &header, sizeof header);
	buf->len += sizeof header;
}

static size_t begin(lua_State *L, struct nl_buf *buf, uint8_t message, uint16_t flags, uint8_t family)
{
	long at = nl_begin(buf, (uint16_t)(NFNL_SUBSYS_CTNETLINK << 8 | message), flags, 0);

	nft_check_room(L, at);
	put_header(L, buf, family);
	return (size_t)at;
}

static void put(lua_State *L, struct nl_buf *buf, uint16_t type, const void *data, size_t len)
{
	nft_check_room(L, nl_put(buf, type, data, len));
}

static size_t nest(lua_State *L, struct nl_buf *buf, uint16_t type)
{
	long at = nl_nest(buf, type);

	nft_check_room(L, at);
	return (size_t)at;
}

static void nest_end(lua_State *L, struct nl_buf *buf, size_t at)
{
	nft_check_room(L, nl_nest_end(buf, at));
}

static void put_filter(lua_State *L, struct nl_buf *buf, const struct flow_filter *filter)
{
	uint32_t by = BY_PROTOCOL | (filter->dst_len ? BY_DESTINATION : 0U) |
		      (filter->port >= 0 ? BY_PORT : 0U);
	uint16_t port = htons((uint16_t)filter->port);
	size_t tuple = nest(L, buf, CTA_TUPLE_ORIG), part;

	if (filter->dst_len) {
		part = nest(L, buf, CTA_TUPLE_IP);
		put(L, buf, filter->dst_len == 4 ? CTA_IP_V4_DST : CTA_IP_V6_DST, filter->dst,
		    filter->dst_len);
		nest_end(L, buf, part);
	}
	part = nest(L, buf, CTA_TUPLE_PROTO);
	put(L, buf, CTA_PROTO_NUM, &filter->proto, sizeof filter->proto);
	if (filter->port >= 0)
		put(L, buf, CTA_PROTO_DST_PORT, &port, sizeof port);
	nest_end(L, buf, part);
	nest_end(L, buf, tuple);
	tuple = nest(L, buf, CTA_FILTER);
	put(L, buf, CTA_FILTER_ORIG_FLAGS, &by, sizeof by);
	nest_end(L, buf, tuple);
}

static void set_bytes(lua_State *L, const char *key, const struct nlattr *attr)
{
	if (!attr)
		return;
	lua_pushlstring(L, mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
	lua_setfield(L, -2, key);
}

static void set_address(lua_State *L, const char *key, const void *bytes, size_t len)
{
	attr_push_ip(L, bytes, len);
	lua_setfield(L, -2, key);
}

static void set_number(lua_State *L, const char *key, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, key);
}

static void push_flow(lua_State *L, struct attr_in *flow, const struct tuple *orig,
		      const struct tuple *reply)
{
	lua_createtable(L, 0, 10);
	lua_pushstring(L, orig->dst_len == 4 ? "inet" : "inet6");
	lua_setfield(L, -2, "family");
	set_number(L, "proto", orig->proto);
	set_address(L, "src", orig->src, orig->src_len);
	set_address(L, "dst", orig->dst, orig->dst_len);
	set_number(L, "sport", orig->sport);
	set_number(L, "port", orig->dport);
	if (reply->src) {
		set_address(L, "to", reply->src, reply->src_len);
		set_number(L, "to_port", reply->sport);
	}
	set_bytes(L, "tuple", attr_find(flow, CTA_TUPLE_ORIG));
	set_bytes(L, "id", attr_find(flow, CTA_ID));
	set_bytes(L, "zone", attr_find(flow, CTA_ZONE));
}

/*** Methods ***/

/* How many flows the namespace has; a negative errno where the kernel does not say. */
static long count_flows(lua_State *L, struct nft *h, int timeout_ms, struct nl_failure *fail)
{
	const struct nlmsghdr *msg;
	struct attr_in stats = { 0 };
	const struct nlattr *count;
	int err;

	nl_clear(&h->nl);
	/* The answer says that more will follow, and only the acknowledgement does. */
	nl_end(&h->nl.out, begin(L, &h->nl.out, IPCTNL_MSG_CT_GET_STATS, NLM_F_ACK, AF_UNSPEC));
	err = nl_query(&h->nl, timeout_ms, fail);
	if (err)
		return err;
	msg = nl_first(&h->nl);
	if (!msg || mnl_nlmsg_get_payload_len(msg) < sizeof(struct nfgenmsg))
		return -ENODATA;
	stats.attrs = mnl_nlmsg_get_payload_offset(msg, sizeof(struct nfgenmsg));
	stats.len = mnl_nlmsg_get_payload_len(msg) - sizeof(struct nfgenmsg);
	count = attr_find(&stats, CTA_STATS_GLOBAL_ENTRIES);
	if (!count || mnl_attr_get_payload_len(count) < 4)
		return -ENODATA;
	return (long)ntohl(mnl_attr_get_u32(count));
}

/* Add what is meant to the list at the top, which has `n`; of one family only what the kernel has picked. */
static int list_flows(lua_State *L, struct nft *h, const struct flow_filter *filter, lua_Integer n,
		      int timeout_ms, struct nl_failure *fail)
{
	size_t at;
	int err;

	nl_clear(&h->nl);
	at = begin(L, &h->nl.out, IPCTNL_MSG_CT_GET, NLM_F_DUMP, filter->family);
	if (filter->family)
		put_filter(L, &h->nl.out, filter);
	nl_end(&h->nl.out, at);
	err = nl_query(&h->nl, timeout_ms, fail);
	if (err)
		return err;
	for (const struct nlmsghdr *msg = nl_first(&h->nl); msg; msg = nl_next(&h->nl, msg)) {
		struct attr_in flow = { 0 };
		struct tuple orig, reply;

		if (mnl_nlmsg_get_payload_len(msg) < sizeof(struct nfgenmsg))
			continue;
		flow.attrs = mnl_nlmsg_get_payload_offset(msg, sizeof(struct nfgenmsg));
		flow.len = mnl_nlmsg_get_payload_len(msg) - sizeof(struct nfgenmsg);
		if (!read_tuple(&flow, CTA_TUPLE_ORIG, &orig) || !is_meant(filter, &orig))
			continue;
		read_tuple(&flow, CTA_TUPLE_REPLY, &reply);
		push_flow(L, &flow, &orig, &reply);
		lua_rawseti(L, -2, ++n);
	}
	return 0;
}

/***
List tracked flows.
@function nft:flows
@tparam table filter `proto` (a number); `family` (inet or inet6), `port` and, with a family, `dst`: that
of the first packet, and where it went to, if these are to count
@int[opt=5000] timeout_ms
@treturn[1] {table,...} `family`, `proto`, `src`, `sport`, `dst`, `port` of the first packet; `to`,
`to_port`, who answers: another than `dst` when the destination was translated; and what `forget` needs
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno; `EINVAL`: the kernel has no connection tracking that can be asked
@see nft:forget
*/
int nft_flows(lua_State *L)
{
	struct nft *h = nft_check(L);
	struct flow_filter filter = filter_arg(L);
	int timeout_ms = nft_timeout_arg(L, 3), err;
	struct nl_failure fail;
	long count;

	lua_newtable(L);
	count = count_flows(L, h, timeout_ms, &fail);
	if (!count)
		return 1;
	if (filter.family || (count > 0 && count < FEW_FLOWS)) {
		err = list_flows(L, h, &filter, 0, timeout_ms, &fail);
	} else {
		filter.family = AF_INET;
		err = list_flows(L, h, &filter, 0, timeout_ms, &fail);
		filter.family = AF_INET6;
		if (!err)
			err = list_flows(L, h, &filter, (lua_Integer)lua_rawlen(L, -1), timeout_ms, &fail);
	}
	return err ? push_nl_failure(L, &fail, "list flows") : 1;
}

/* Append the bytes that the flow at the top of the stack has under `key`. */
static void put_kept(lua_State *L, struct nl_buf *buf, const char *key, uint16_t type,
		     lua_Integer nth)
{
	const char *bytes;
	size_t len;

	if (lua_getfield(L, -1, key) == LUA_TSTRING) {
		bytes = lua_tolstring(L, -1, &len);
		put(L, buf, type, bytes, len);
	} else if (strcmp(key, "zone")) {
		luaL_error(L, "forget: flow %I is not one that flows() gave", (LUAI_UACINT)nth);
	}
	lua_pop(L, 1);
}

/***
Forget flows: the next packet of each is looked at as if it were a first one. A flow that has ended by
itself is none to forget, and one that came in its place is another.
@function nft:forget
@tparam {table,...} flows as `flows` gives them
@int[opt=5000] timeout_ms
@treturn[1] int how many were there
@return[2] nil
@treturn[2] string what went wrong
@treturn[2] int errno
@see nft:flows
*/
int nft_forget(lua_State *L)
{
	struct nft *h = nft_check(L);
	int timeout_ms = nft_timeout_arg(L, 3), err;
	struct nl_failure fail;
	lua_Integer count, there = 0;

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	count = (lua_Integer)lua_rawlen(L, 2);
	nl_clear(&h->nl);
	for (lua_Integer i = 1; i <= count; i++) {
		uint8_t family = AF_INET;
		size_t at;

		lua_rawgeti(L, 2, i);
		luaL_argcheck(L, lua_istable(L, -1), 2, "not a list of flows");
		if (lua_getfield(L, -1, "family") == LUA_TSTRING && !strcmp(lua_tostring(L, -1), "inet6"))
			family = AF_INET6;
		lua_pop(L, 1);
		at = begin(L, &h->nl.out, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family);
		put_kept(L, &h->nl.out, "tuple", CTA_TUPLE_ORIG | NLA_F_NESTED, i);
		put_kept(L, &h->nl.out, "id", CTA_ID, i);
		put_kept(L, &h->nl.out, "zone", CTA_ZONE, i);
		nl_end(&h->nl.out, at);
		lua_pop(L, 1);
	}
	err = count ? nl_transact(&h->nl, 0, timeout_ms, &fail) : 0;
	if (err && !h->nl.status)
		return push_nl_failure(L, &fail, "forget flows");
	for (lua_Integer i = 0; i < count; i++) {
		int status = h->nl.status[i];

		if (status && status != ENOENT)
			return push_failure(L, status, "forget a flow");
		there += !status;
	}
	lua_pushinteger(L, there);
	return 1;
}
