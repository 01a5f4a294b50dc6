/* SPDX-License-Identifier: MIT */
/* Values of rtnetlink that are more than one attribute: prefixes, next hops, VLAN ranges. */

#include "tables/tables.h"

#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "ns/ns.h"

/* Push a sibling of the value being encoded. [-0, +1, m] */
static int push_sibling(struct attr_out *out, const char *key)
{
	lua_pushstring(out->L, key);
	lua_rawget(out->L, out->idx);
	return lua_gettop(out->L);
}

static bool has_sibling(struct attr_out *out, const char *key)
{
	bool there = !lua_isnil(out->L, push_sibling(out, key));

	lua_pop(out->L, 1);
	return there;
}

/* Every family header begins with the family; values of two families do not go together. */
static void set_family(struct attr_out *out, const struct attr_row *row, size_t len)
{
	uint8_t *family = attr_header(out);
	uint8_t want = len == 4 ? AF_INET : AF_INET6;

	/* Where a tunnel sends to: the entry is a bridge's whatever the address. */
	if (*family == AF_BRIDGE)
		return;
	if (*family && *family != want)
		attr_error(out, row, "is an IPv%c address where IPv%c is meant",
			   len == 4 ? '4' : '6', *family == AF_INET ? '4' : '6');
	*family = want;
}

/*** Links ***/

enum { MAX_RAW_DEPTH = 8 };

/* { { 4, "bytes" }, { 7, { { 1, "bytes" } } } }: attributes by number, of kinds without a table. */
static void put_raw(struct attr_out *out, const struct attr_row *row, int idx, int depth)
{
	static const struct attr_row number = { .key = "kind_data",
						 .kind = ATTR_U16,
						 .max = 0x3fff };
	lua_State *L = out->L;
	int top = lua_gettop(L);

	if (!lua_istable(L, idx) || depth > MAX_RAW_DEPTH)
		attr_error(out, row, "expected a list of { number, bytes or list }");
	luaL_checkstack(L, 6, "attributes");
	for (lua_Integer i = 1; lua_rawgeti(L, idx, i) != LUA_TNIL; i++) {
		uint16_t type;
		size_t at, len;

		if (!lua_istable(L, top + 1))
			attr_error(out, row, "expected a list of { number, bytes or list }");
		lua_rawgeti(L, top + 1, 1);
		type = (uint16_t)attr_integer(out, &number, top + 2);
		if (lua_rawgeti(L, top + 1, 2) == LUA_TSTRING) {
			const char *bytes = lua_tolstring(L, top + 3, &len);

			attr_put(out, type, bytes, len);
		} else {
			at = attr_nest(out, type);
			put_raw(out, row, top + 3, depth + 1);
			attr_nest_end(out, at);
		}
		lua_settop(L, top);
	}
	lua_settop(L, top);
}

static void encode_raw(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t at = attr_nest(out, row->type);

	put_raw(out, row, idx, 0);
	attr_nest_end(out, at);
}

const struct attr_hook hook_raw = { .encode = encode_raw };

static void encode_netns(struct attr_out *out, const struct attr_row *row, int idx)
{
	int fd = netns_fd(out->L, idx);
	int exact = 0;
	uint32_t value;

	if (fd < 0 && lua_type(out->L, idx) == LUA_TNUMBER) {
		lua_Integer n = lua_tointegerx(out->L, idx, &exact);

		fd = exact && n >= 0 && n <= INT32_MAX ? (int)n : -1;
	}
	if (fd < 0)
		attr_error(out, row, "expected an open ns object or a descriptor");
	value = (uint32_t)fd;
	attr_put(out, row->type, &value, sizeof value);
}

static int decode_netns(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	static const struct attr_row number = { .kind = ATTR_U32 };

	(void)row;
	return attr_push(in->L, &number, mnl_attr_get_payload(attr),
			 mnl_attr_get_payload_len(attr));
}

const struct attr_hook hook_netns = { .encode = encode_netns, .decode = decode_netns };

/* To look a link up, a name too long for a name is an alternative one. */
static void encode_link_name(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t len;
	const char *name;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, row, "expected a string, got a %s", luaL_typename(out->L, idx));
	name = lua_tolstring(out->L, idx, &len);
	if (!len || len > 127 || strlen(name) != len)
		attr_error(out, row, "'%.60s' is not an interface name", name);
	attr_put(out, len < IF_NAMESIZE ? IFLA_IFNAME : IFLA_ALT_IFNAME, name, len + 1);
}

const struct attr_hook hook_link_name = { .encode = encode_link_name };

/*** Addresses ***/

static void encode_address(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16], bits;
	size_t len = attr_prefix(out, row, idx, bytes, &bits);

	set_family(out, row, len);
	((struct ifaddrmsg *)attr_header(out))->ifa_prefixlen = bits;
	attr_put(out, IFA_LOCAL, bytes, len);
	if (!has_sibling(out, "peer"))
		attr_put(out, IFA_ADDRESS, bytes, len);
}

static int decode_address(struct attr_in *in, const struct attr_row *row,
			  const struct nlattr *attr)
{
	const struct ifaddrmsg *header = in->header;
	const struct nlattr *other = attr_find(in, IFA_ADDRESS);

	(void)row;
	attr = attr_find(in, IFA_LOCAL);
	if (!attr)
		attr = other;
	if (!attr || in->header_len < sizeof *header ||
	    (mnl_attr_get_payload_len(attr) != 4 && mnl_attr_get_payload_len(attr) != 16))
		return 0;
	attr_push_prefix(in->L, mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr),
			 header->ifa_prefixlen);
	return 1;
}

const struct attr_hook hook_address = { .encode = encode_address, .decode = decode_address };

/* The other end of a point-to-point address; the prefix length is of the peer's network. */
static void encode_peer(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16], bits;
	size_t len = attr_prefix(out, row, idx, bytes, &bits);

	set_family(out, row, len);
	((struct ifaddrmsg *)attr_header(out))->ifa_prefixlen = bits;
	attr_put(out, IFA_ADDRESS, bytes, len);
}

static int decode_peer(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	const struct nlattr *local = attr_find(in, IFA_LOCAL);
	size_t len;

	(void)row;
	attr = attr_find(in, IFA_ADDRESS);
	len = attr ? mnl_attr_get_payload_len(attr) : 0;
	if (!local || mnl_attr_get_payload_len(local) != len || (len != 4 && len != 16) ||
	    in->header_len < sizeof(struct ifaddrmsg) ||
	    !memcmp(mnl_attr_get_payload(local), mnl_attr_get_payload(attr), len))
		return 0;
	attr_push_prefix(in->L, mnl_attr_get_payload(attr), len,
			 ((const struct ifaddrmsg *)in->header)->ifa_prefixlen);
	return 1;
}

const struct attr_hook hook_peer = { .encode = encode_peer, .decode = decode_peer };

/* Both lifetimes are one attribute; the one that was not given follows from the other. */
static void encode_lifetime(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct attr_row seconds = { .key = "lifetime", .kind = ATTR_U32 };
	bool preferred = row->offset == offsetof(struct ifa_cacheinfo, ifa_prefered);
	struct ifa_cacheinfo info = { .ifa_prefered = UINT32_MAX, .ifa_valid = UINT32_MAX };
	uint32_t value = (uint32_t)attr_integer(out, &seconds, idx);

	if (preferred) {
		if (has_sibling(out, "valid_lft"))
			return;
		info.ifa_prefered = value;
	} else {
		int other = push_sibling(out, "preferred_lft");

		info.ifa_valid = value;
		info.ifa_prefered = lua_isnil(out->L, other)
					    ? value
					    : (uint32_t)attr_integer(out, &seconds, other);
		lua_pop(out->L, 1);
	}
	attr_put(out, IFA_CACHEINFO, &info, sizeof info);
}

static int decode_lifetime(struct attr_in *in, const struct attr_row *row,
			   const struct nlattr *attr)
{
	uint32_t value;

	attr = attr_find(in, IFA_CACHEINFO);
	if (!attr || mnl_attr_get_payload_len(attr) < sizeof(struct ifa_cacheinfo))
		return 0;
	memcpy(&value, (const uint8_t *)mnl_attr_get_payload(attr) + row->offset, sizeof value);
	lua_pushinteger(in->L, value);
	return 1;
}

const struct attr_hook hook_lifetime = { .encode = encode_lifetime, .decode = decode_lifetime };

/*** Prefixes, addresses that decide the family ***/

static void encode_prefix(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16], bits;
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : "";
	size_t len;

	/* Of which family "default" is, other values say. */
	if (!strcmp(text, "default"))
		return;
	len = attr_prefix(out, row, idx, bytes, &bits);
	set_family(out, row, len);
	((uint8_t *)attr_header(out))[row->offset] = bits;
	if (bits)
		attr_put(out, row->type, bytes, len);
}

static int push_prefix(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	static const uint8_t zero[16];
	const uint8_t *header = in->header;
	const void *bytes = zero;
	size_t len;

	if (in->header_len <= row->offset || (header[0] != AF_INET && header[0] != AF_INET6))
		return 0;
	len = header[0] == AF_INET ? 4 : 16;
	if (attr && mnl_attr_get_payload_len(attr) != len)
		return 0;
	if (attr)
		bytes = mnl_attr_get_payload(attr);
	attr_push_prefix(in->L, bytes, len, header[row->offset]);
	return 1;
}

static int decode_prefix(struct attr_in *in, const struct attr_row *row,
			 const struct nlattr *attr)
{
	return attr ? push_prefix(in, row, attr) : 0;
}

const struct attr_hook hook_prefix = { .encode = encode_prefix, .decode = decode_prefix };

/* A route's destination is there even when it is the default. */
static void encode_destination(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct attr_row as = *row;

	as.type = RTA_DST;
	encode_prefix(out, &as, idx);
}

static int decode_destination(struct attr_in *in, const struct attr_row *row,
			      const struct nlattr *attr)
{
	(void)attr;
	return push_prefix(in, row, attr_find(in, RTA_DST));
}

const struct attr_hook hook_destination = {
	.encode = encode_destination,
	.decode = decode_destination,
};

static void encode_family_ip(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16];
	size_t len = attr_ip(out, row, idx, bytes);

	set_family(out, row, len);
	attr_put(out, row->type, bytes, len);
}

static int decode_ip(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	size_t len = attr ? mnl_attr_get_payload_len(attr) : 0;

	(void)row;
	if (len != 4 && len != 16)
		return 0;
	attr_push_ip(in->L, mnl_attr_get_payload(attr), len);
	return 1;
}

const struct attr_hook hook_family_ip = { .encode = encode_family_ip, .decode = decode_ip };

/*** Routes ***/

struct via {
	uint16_t family;
	uint8_t bytes[16];
};

/* The route that a next hop belongs to, or the value itself. */
static struct attr_out *route_of(struct attr_out *out)
{
	while (out->table != &rtnl_route_table && out->parent)
		out = (struct attr_out *)(uintptr_t)out->parent;
	return out;
}

/* An IPv4 route may go by an IPv6 gateway, and then has another attribute for it. */
static void encode_gateway(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16];
	size_t len = attr_ip(out, row, idx, bytes);
	struct attr_out *route = route_of(out);
	uint8_t family = *(uint8_t *)attr_header(route);
	struct via via = { .family = AF_INET6 };

	if (family != AF_INET || len == 4) {
		set_family(route, row, len);
		attr_put(out, RTA_GATEWAY, bytes, len);
	} else {
		memcpy(via.bytes, bytes, len);
		attr_put(out, RTA_VIA, &via, offsetof(struct via, bytes) + len);
	}
}

static int decode_gateway(struct attr_in *in, const struct attr_row *row,
			  const struct nlattr *attr)
{
	const uint8_t *bytes;
	size_t len;

	(void)row;
	attr = attr_find(in, RTA_GATEWAY);
	if (attr)
		return decode_ip(in, row, attr);
	attr = attr_find(in, RTA_VIA);
	if (!attr || mnl_attr_get_payload_len(attr) < offsetof(struct via, bytes))
		return 0;
	bytes = (const uint8_t *)mnl_attr_get_payload(attr) + offsetof(struct via, bytes);
	len = mnl_attr_get_payload_len(attr) - offsetof(struct via, bytes);
	if (len != 4 && len != 16)
		return 0;
	attr_push_ip(in->L, bytes, len);
	return 1;
}

const struct attr_hook hook_gateway = { .encode = encode_gateway, .decode = decode_gateway };

/* Table numbers: a byte of the header, and an attribute for those that do not fit. */
static void encode_table(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct attr_row number = {
		.key = "table",
		.kind = ATTR_U32,
		.min = 1,
		.max = UINT32_MAX,
	};
	const char *name = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : NULL;
	uint32_t id;

	if (name && !strcmp(name, "main"))
		id = RT_TABLE_MAIN;
	else if (name && !strcmp(name, "local"))
		id = RT_TABLE_LOCAL;
	else if (name && !strcmp(name, "default"))
		id = RT_TABLE_DEFAULT;
	else
		id = (uint32_t)attr_integer(out, &number, idx);
	if (id < 256)
		((uint8_t *)attr_header(out))[row->offset] = (uint8_t)id;
	/* To filter a dump, only the attribute counts. */
	if (id >= 256 || out->query)
		attr_put(out, row->type, &id, sizeof id);
}

static int decode_table(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	if (!attr || mnl_attr_get_payload_len(attr) < sizeof(uint32_t))
		return 0;
	(void)row;
	lua_pushinteger(in->L, mnl_attr_get_u32(attr));
	return 1;
}

const struct attr_hook hook_table = { .encode = encode_table, .decode = decode_table };

/* Next hops lie behind one another, each a struct with attributes of its own. */
static void encode_multipath(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t at, hop_at;

	if (lua_type(out->L, idx) != LUA_TTABLE || !lua_rawlen(out->L, idx))
		attr_error(out, row, "expected a list of next hops");
	at = attr_nest(out, row->type);
	((struct nlattr *)(void *)(out->buf->data + at))->nla_type = row->type;
	for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(out->L, idx); i++) {
		struct rtnexthop *hop;

		lua_rawgeti(out->L, idx, i);
		hop_at = out->buf->len;
		attr_put_table(out, row->table, lua_gettop(out->L), row->key, i);
		lua_pop(out->L, 1);
		hop = (struct rtnexthop *)(void *)(out->buf->data + hop_at);
		hop->rtnh_len = (uint16_t)(out->buf->len - hop_at);
		/* The weight is written as it is meant, and sent as one less. */
		hop->rtnh_hops = (uint8_t)(hop->rtnh_hops ? hop->rtnh_hops - 1 : 0);
	}
	attr_nest_end(out, at);
}

static int decode_multipath(struct attr_in *in, const struct attr_row *row,
			    const struct nlattr *attr)
{
	const uint8_t *p = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);
	lua_Integer n = 0;

	lua_newtable(in->L);
	while (left >= sizeof(struct rtnexthop)) {
		const struct rtnexthop *hop = (const struct rtnexthop *)(const void *)p;
		size_t len = hop->rtnh_len;

		if (len < sizeof *hop || len > left)
			break;
		attr_decode_below(in, row->table, hop, len);
		lua_pushinteger(in->L, hop->rtnh_hops + 1);
		lua_setfield(in->L, -2, "weight");
		lua_rawseti(in->L, -2, ++n);
		len = NL_PAD(len);
		p += len;
		left -= len < left ? len : left;
	}
	return 1;
}

const struct attr_hook hook_multipath = {
	.encode = encode_multipath,
	.decode = decode_multipath,
};

/*** Bridge VLANs ***/

static bool true_sibling(struct attr_out *out, const char *key)
{
	bool value = lua_toboolean(out->L, push_sibling(out, key));

	lua_pop(out->L, 1);
	return value;
}

/* One VLAN, or the two ends of a range; and whose: the port's, the bridge's own, or both. */
static void encode_vlan(struct attr_out *out, const struct attr_row *row, int idx)
{
	static const struct attr_row id = {
		.key = "vid", .kind = ATTR_U16, .min = 1, .max = 4094
	};
	struct attr_row last = { .key = "vid_end", .kind = ATTR_U16, .max = 4094 };
	struct bridge_vlan_info info = { .vid = (uint16_t)attr_integer(out, &id, idx) };
	struct bridge_vlan_info end = info;
	uint16_t whose = 0;
	size_t at;
	int end_idx = push_sibling(out, "vid_end");

	(void)row;
	if (!lua_isnil(out->L, end_idx)) {
		last.min = info.vid;
		end.vid = (uint16_t)attr_integer(out, &last, end_idx);
	}
	lua_pop(out->L, 1);
	info.flags |= true_sibling(out, "pvid") ? BRIDGE_VLAN_INFO_PVID : 0;
	info.flags |= true_sibling(out, "untagged") ? BRIDGE_VLAN_INFO_UNTAGGED : 0;
	whose = (uint16_t)(whose | (true_sibling(out, "master") ? BRIDGE_FLAGS_MASTER : 0));
	whose = (uint16_t)(whose | (true_sibling(out, "self") ? BRIDGE_FLAGS_SELF : 0));

	at = attr_nest(out, IFLA_AF_SPEC);
	if (whose)
		attr_put(out, IFLA_BRIDGE_FLAGS, &whose, sizeof whose);
	if (end.vid > info.vid) {
		end.flags = (uint16_t)(info.flags | BRIDGE_VLAN_INFO_RANGE_END);
		info.flags |= BRIDGE_VLAN_INFO_RANGE_BEGIN;
		attr_put(out, IFLA_BRIDGE_VLAN_INFO, &info, sizeof info);
		attr_put(out, IFLA_BRIDGE_VLAN_INFO, &end, sizeof end);
	} else {
		attr_put(out, IFLA_BRIDGE_VLAN_INFO, &info, sizeof info);
	}
	attr_nest_end(out, at);
}

/* What a request says of VLANs; nothing else is asked of, or answered to, a table with hook_vlan. */
struct vlan_request {
	struct bridge_vlan_info first, last;
	uint16_t whose;
};

static bool read_vlan(struct attr_in *in, struct vlan_request *ret)
{
	const struct nlattr *spec = attr_find(in, IFLA_AF_SPEC), *attr;
	size_t at = 0, count = 0;

	*ret = (struct vlan_request){ 0 };
	if (!spec)
		return false;
	for (; (attr = nl_attr(spec + 1, spec->nla_len - NL_ATTR_HDR, at));
	     at += NL_PAD(attr->nla_len)) {
		uint16_t type = attr->nla_type & (uint16_t)NLA_TYPE_MASK;
		size_t len = attr->nla_len - NL_ATTR_HDR;

		if (type == IFLA_BRIDGE_FLAGS && len == sizeof ret->whose)
			memcpy(&ret->whose, attr + 1, len);
		else if (type != IFLA_BRIDGE_VLAN_INFO || len != sizeof ret->last || count == 2)
			return false;
		else
			memcpy(count++ ? &ret->last : &ret->first, attr + 1, len);
	}
	return count && (count == 1 || ret->last.flags & BRIDGE_VLAN_INFO_RANGE_END);
}

static int decode_vlan(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct vlan_request vlan;

	(void)row, (void)attr;
	if (!read_vlan(in, &vlan))
		return 0;
	lua_pushinteger(in->L, vlan.first.vid);
	return 1;
}

const struct attr_hook hook_vlan = { .encode = encode_vlan, .decode = decode_vlan };

/* Keys that encode_vlan() has looked at already. */
static void encode_vlan_part(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (!has_sibling(out, "vid"))
		attr_error(out, row, "means nothing without 'vid'");
	if (row->mask && lua_type(out->L, idx) != LUA_TBOOLEAN)
		attr_error(out, row, "expected a boolean, got a %s", luaL_typename(out->L, idx));
}

static int decode_vlan_part(struct attr_in *in, const struct attr_row *row,
			    const struct nlattr *attr)
{
	struct vlan_request vlan;
	bool is;

	(void)attr;
	if (!read_vlan(in, &vlan))
		return 0;
	if (!row->mask && vlan.last.vid) {
		lua_pushinteger(in->L, vlan.last.vid);
		return 1;
	}
	is = !row->mask			     ? 0
	     : !strcmp(row->key, "pvid")     ? vlan.first.flags & BRIDGE_VLAN_INFO_PVID
	     : !strcmp(row->key, "untagged") ? vlan.first.flags & BRIDGE_VLAN_INFO_UNTAGGED
	     : !strcmp(row->key, "self")     ? vlan.whose & BRIDGE_FLAGS_SELF
					     : vlan.whose & BRIDGE_FLAGS_MASTER;
	if (is)
		lua_pushboolean(in->L, 1);
	return is;
}

const struct attr_hook hook_vlan_part = { .encode = encode_vlan_part, .decode = decode_vlan_part };

/* Entries lie side by side in the message; each becomes a table of the list. */
static int decode_vlan_entries(struct attr_in *in, const struct attr_row *row,
			       const struct nlattr *attr)
{
	const uint8_t *p = in->attrs;
	size_t left = in->len;
	lua_Integer n = 0;

	lua_newtable(in->L);
	while (left >= NL_ATTR_HDR) {
		size_t len;

		attr = (const struct nlattr *)(const void *)p;
		len = attr->nla_len;
		if (len < NL_ATTR_HDR || len > left)
			break;
		if ((attr->nla_type & NLA_TYPE_MASK) == row->each->type) {
			attr_decode_below(in, row->each->table, attr + 1, len - NL_ATTR_HDR);
			lua_rawseti(in->L, -2, ++n);
		}
		len = NL_PAD(len) < left ? NL_PAD(len) : left;
		p += len;
		left -= len;
	}
	return 1;
}

const struct attr_hook hook_vlan_entries = { .decode = decode_vlan_entries };
