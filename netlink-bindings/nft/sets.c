/* SPDX-License-Identifier: MIT */
/*
 * Sets, maps and their elements, where a Lua key is not simply an attribute: types with lengths and
 * flags, keys that are values of a type, intervals. And the hook of a base chain, whose number
 * depends on the family.
 */

#include "nft/rows.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter_arp.h>
#include <string.h>

/* Of user data of a set, as the program nft has it. */
enum {
	UDATA_KEY_ORDER = 0,
	UDATA_DATA_ORDER = 1,
	UDATA_ROOM = 2 * 6 + NFT_COMMENT_MAX + 3,
};

static const struct attr_word set_flags[] = {
	{ "constant", NFT_SET_CONSTANT },   { "interval", NFT_SET_INTERVAL },
	{ "timeout", NFT_SET_TIMEOUT },     { "dynamic", NFT_SET_EVAL },
	{ "anonymous", NFT_SET_ANONYMOUS }, { "map", NFT_SET_MAP },
	{ "object", NFT_SET_OBJECT },       { "concat", NFT_SET_CONCAT },
	{ "expressions", NFT_SET_EXPR },
};

static const struct attr_row flags_row = {
	ROW("flags", NFTA_SET_FLAGS, BE32), NFT_BITS(set_flags),
};

static const struct attr_row size_row = {
	ROW("size", NFTA_SET_DESC_SIZE, BE32), .min = 1, .max = INT32_MAX,
};

/* Push the key of the same Lua table as `out`. Returns its index, or 0 when it is absent. */
static int beside(struct attr_out *out, const char *key)
{
	lua_pushstring(out->L, key);
	return lua_rawget(out->L, out->idx) == LUA_TNIL ? 0 : lua_gettop(out->L);
}

static void put_u32(struct attr_out *out, uint16_t type, uint32_t value)
{
	const uint8_t be[4] = {
		(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
		(uint8_t)value,
	};

	attr_put(out, type, be, sizeof be);
}

/*** Sets ***/

/* The or-ed flags given, with those that follow from the other keys. */
static uint32_t flags_of(struct attr_out *out, const struct nft_types *key,
			 const struct nft_types *data)
{
	static const struct { const char *key; uint32_t flag; } implied[] = {
		{ "object_type", NFT_SET_OBJECT },
		{ "timeout", NFT_SET_TIMEOUT },
	};
	int idx = beside(out, "flags");
	uint32_t flags = 0;

	if (idx) {
		/* The engine reads the words; the attribute it writes is taken back. */
		size_t at = out->buf->len;

		attr_put_value(out, &flags_row, idx);
		for (size_t i = 0; i < 4; i++)
			flags = flags << 8 | out->buf->data[at + NL_ATTR_HDR + i];
		out->buf->len = at;
	}
	lua_pop(out->L, 1);
	for (size_t i = 0; i < ARRAY_SIZE(implied); i++) {
		flags |= beside(out, implied[i].key) ? implied[i].flag : 0;
		lua_pop(out->L, 1);
	}
	flags |= data->count ? NFT_SET_MAP : 0;
	/* Only intervals have to know where one field ends; the rest is a longer key. */
	if (key->count > 1 && flags & NFT_SET_INTERVAL)
		flags |= NFT_SET_CONCAT;
	return flags;
}

static void put_description(struct attr_out *out, const struct nft_types *key, uint32_t flags)
{
	int size = beside(out, "size");
	size_t desc, list, field;

	if (size || flags & NFT_SET_CONCAT) {
		desc = attr_nest(out, NFTA_SET_DESC);
		if (size)
			attr_put_value(out, &size_row, size);
		if (flags & NFT_SET_CONCAT) {
			list = attr_nest(out, NFTA_SET_DESC_CONCAT);
			for (size_t i = 0; i < key->count; i++) {
				field = attr_nest(out, NFTA_LIST_ELEM);
				put_u32(out, NFTA_SET_FIELD_LEN, (uint32_t)nft_field_len(key, i));
				attr_nest_end(out, field);
			}
			attr_nest_end(out, list);
		}
		attr_nest_end(out, desc);
	}
	lua_pop(out->L, 1);
}

static size_t udata_u32(uint8_t *to, uint8_t type, uint32_t value)
{
	to[0] = type;
	to[1] = sizeof value;
	memcpy(to + 2, &value, sizeof value);
	return 2 + sizeof value;
}

static void put_userdata(struct attr_out *out, const struct nft_types *key,
			 const struct nft_types *data)
{
	static const uint8_t comment_type = 7;
	static const struct attr_row row = { .key = "comment", .data = &comment_type };
	uint8_t udata[UDATA_ROOM];
	size_t len = udata_u32(udata, UDATA_KEY_ORDER, nft_types_order(key));
	int comment = beside(out, "comment");

	if (data->count)
		len += udata_u32(udata + len, UDATA_DATA_ORDER, nft_types_order(data));
	if (comment)
		len += nft_comment_read(out, &row, comment, udata + len);
	lua_pop(out->L, 1);
	attr_put(out, NFTA_SET_USERDATA, udata, len);
}

static void set_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct nft_types key, data;
	uint32_t flags;

	nft_types_read(out, row, idx, &key);
	if (nft_types_verdict(&key))
		attr_error(out, row, "a verdict cannot be a key");
	nft_types_beside(out, "data_type", &data);
	put_u32(out, NFTA_SET_KEY_TYPE, nft_types_number(&key));
	put_u32(out, NFTA_SET_KEY_LEN, (uint32_t)nft_types_len(&key));
	if (data.count) {
		put_u32(out, NFTA_SET_DATA_TYPE, nft_types_number(&data));
		put_u32(out, NFTA_SET_DATA_LEN, (uint32_t)nft_types_len(&data));
	}
	flags = flags_of(out, &key, &data);
	put_u32(out, NFTA_SET_FLAGS, flags);
	put_description(out, &key, flags);
	put_userdata(out, &key, &data);
	/* The kernel wants one that no other new set of the batch has. */
	if (!beside(out, "id"))
		put_u32(out, NFTA_SET_ID, (uint32_t)out->header);
	lua_pop(out->L, 1);
}

static int types_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct nft_types types;

	(void)row;
	if (mnl_attr_get_payload_len(attr) < 4)
		return 0;
	nft_types_from_number(ntohl(mnl_attr_get_u32(attr)), &types);
	if (!types.count)
		return 0;
	nft_push_types(in->L, &types);
	return 1;
}

/* What set_encode() has written already, or what the key is no part of: a deletion. */
static void nothing_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	(void)out, (void)row, (void)idx;
}

static void types_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct nft_types types;

	nft_types_read(out, row, idx, &types);
}

static int flags_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	(void)row;
	return attr_push(in->L, &flags_row, mnl_attr_get_payload(attr),
			 mnl_attr_get_payload_len(attr));
}

static int size_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct attr_in desc = {
		.L = in->L, .attrs = mnl_attr_get_payload(attr),
		.len = mnl_attr_get_payload_len(attr),
	};

	(void)row;
	attr = attr_find(&desc, NFTA_SET_DESC_SIZE);
	return attr ? attr_push(in->L, &size_row, mnl_attr_get_payload(attr),
				mnl_attr_get_payload_len(attr)) : 0;
}

static int comment_decode(struct attr_in *in, const struct attr_row *row,
			  const struct nlattr *attr)
{
	return nft_comment_hook.decode(in, row, attr);
}

const struct attr_hook nft_set_type_hook = { set_encode, types_decode };
const struct attr_hook nft_set_data_hook = { types_encode, types_decode };
const struct attr_hook nft_set_flags_hook = { nothing_encode, flags_decode };
const struct attr_hook nft_set_size_hook = { nothing_encode, size_decode };
const struct attr_hook nft_set_comment_hook = { nothing_encode, comment_decode };
const struct attr_hook nft_type_hook = { types_encode, NULL };

static void boolean_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (lua_type(out->L, idx) != LUA_TBOOLEAN)
		attr_error(out, row, "expected a boolean, got a %s", luaL_typename(out->L, idx));
}

const struct attr_hook nft_boolean_hook = { boolean_encode, NULL };

/*** Elements ***/

/* What the keys beside a list of elements say about those in it. */
struct listed {
	struct nft_types key, data;
	bool interval;
};

struct bounds {
	uint8_t first[NFT_VALUE_MAX], last[NFT_VALUE_MAX];
	size_t len;
};

static void list_of(struct attr_out *out, struct listed *ret)
{
	nft_types_beside(out, "key_type", &ret->key);
	nft_types_beside(out, "data_type", &ret->data);
	ret->interval = beside(out, "interval") && lua_toboolean(out->L, -1);
	lua_pop(out->L, 1);
}

/* One key as bytes: a string as it is, or a value of the list's type or of its own. */
static void key_bytes(struct attr_out *out, const struct attr_row *row, const struct nft_types *t,
		      int idx, struct bounds *ret)
{
	struct nft_types own;
	const char *bytes;

	if (t->count) {
		ret->len = nft_value_read(out, row, t, idx, ret->first, ret->last);
		return;
	}
	if (lua_type(out->L, idx) == LUA_TSTRING) {
		bytes = lua_tolstring(out->L, idx, &ret->len);
		if (!ret->len || ret->len > NFT_VALUE_MAX)
			attr_error(out, row, "%zu bytes are not in 1..%d", ret->len,
				   NFT_VALUE_MAX);
		memcpy(ret->first, bytes, ret->len);
		memcpy(ret->last, bytes, ret->len);
		return;
	}
	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, row, "expected bytes or { type = value }, got a %s",
			   luaL_typename(out->L, idx));
	lua_pushnil(out->L);
	if (!lua_next(out->L, idx))
		attr_error(out, row, "expected bytes or { type = value }");
	nft_types_read(out, row, lua_gettop(out->L) - 1, &own);
	if (nft_types_verdict(&own))
		attr_error(out, row, "a verdict cannot be a key");
	ret->len = nft_value_read(out, row, &own, lua_gettop(out->L), ret->first, ret->last);
	lua_pop(out->L, 2);
}

/* From key to key_end, the prefix that key is, or key alone. False: the element has no key. */
static bool bounds_of(struct attr_out *out, const struct listed *list, struct bounds *ret)
{
	static const struct attr_row key_row = { .key = "key" }, end_row = { .key = "key_end" };
	struct bounds end;
	int idx = beside(out, "key");

	if (idx)
		key_bytes(out, &key_row, &list->key, idx, ret);
	lua_pop(out->L, 1);
	if (!idx)
		return false;
	idx = beside(out, "key_end");
	if (idx) {
		key_bytes(out, &end_row, &list->key, idx, &end);
		if (end.len != ret->len)
			attr_error(out, &end_row, "not as long as key");
		if (memcmp(ret->first, ret->last, ret->len) || memcmp(end.first, end.last, end.len))
			attr_error(out, &end_row, "a prefix is a range of its own");
		memcpy(ret->last, end.first, end.len);
	}
	lua_pop(out->L, 1);
	if (memcmp(ret->first, ret->last, ret->len) && !list->interval)
		attr_error(out, idx ? &end_row : &key_row, "a range needs interval = true");
	if (list->key.count <= 1 && memcmp(ret->first, ret->last, ret->len) > 0)
		attr_error(out, &end_row, "lies before key");
	if (list->interval && nft_types_order(&list->key) == NFT_ORDER_HOST)
		attr_error(out, &key_row, "no intervals of values in host order");
	return true;
}

static void key_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct attr_out list_out = *out->parent;
	struct listed list;
	struct bounds bounds;

	(void)idx;
	list_of(&list_out, &list);
	bounds_of(out, &list, &bounds);
	nft_put_bytes(out, row->type, bounds.first, bounds.len);
	/* Concatenations carry their end; single ranges end with an element of its own. */
	if (list.interval && list.key.count > 1)
		nft_put_bytes(out, NFTA_SET_ELEM_KEY_END, bounds.last, bounds.len);
}

static void key_end_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	(void)idx;
	if (!beside(out, "key"))
		attr_error(out, row, "without key");
	lua_pop(out->L, 1);
}

static void element_data_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t first[NFT_VALUE_MAX], last[NFT_VALUE_MAX];
	struct attr_out list_out = *out->parent;
	struct listed list;
	size_t len;

	list_of(&list_out, &list);
	if (!list.data.count || nft_types_verdict(&list.data)) {
		nft_data_hook.encode(out, row, idx);
		return;
	}
	len = nft_value_read(out, row, &list.data, idx, first, last);
	if (memcmp(first, last, len))
		attr_error(out, row, "expected one value, not a prefix");
	nft_put_bytes(out, row->type, first, len);
}

static int data_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	return nft_data_hook.decode(in, row, attr);
}

const struct attr_hook nft_key_hook = { key_encode, data_decode };
const struct attr_hook nft_key_end_hook = { key_end_encode, data_decode };
const struct attr_hook nft_element_data_hook = { element_data_encode, data_decode };

/* An interval of a set of single keys ends where the next value does not belong to it. */
static void put_interval_end(struct attr_out *out, const struct listed *list, int idx)
{
	struct attr_out element = *out;
	struct bounds bounds;
	size_t at, i;

	element.idx = idx;
	if (!bounds_of(&element, list, &bounds))
		return;
	for (i = bounds.len; i > 0 && ++bounds.last[i - 1] == 0; i--)
		;
	if (!i)
		return; /* up to the last value there is */
	at = attr_nest(out, NFTA_LIST_ELEM);
	nft_put_bytes(out, NFTA_SET_ELEM_KEY, bounds.last, bounds.len);
	put_u32(out, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
	attr_nest_end(out, at);
}

void nft_put_element(struct attr_out *out, int idx, lua_Integer index)
{
	struct listed list;
	size_t at = attr_nest(out, NFTA_LIST_ELEM);

	attr_put_table(out, &nft_element_table, idx, "elements", index);
	attr_nest_end(out, at);
	list_of(out, &list);
	if (list.interval && list.key.count <= 1)
		put_interval_end(out, &list, idx);
}

static void one_key_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct listed list;
	struct bounds bounds;
	size_t elements, element;

	list_of(out, &list);
	key_bytes(out, row, &list.key, idx, &bounds);
	elements = attr_nest(out, row->type);
	element = attr_nest(out, NFTA_LIST_ELEM);
	nft_put_bytes(out, NFTA_SET_ELEM_KEY, bounds.first, bounds.len);
	if (list.interval && list.key.count > 1)
		nft_put_bytes(out, NFTA_SET_ELEM_KEY_END, bounds.last, bounds.len);
	attr_nest_end(out, element);
	attr_nest_end(out, elements);
}

const struct attr_hook nft_one_key_hook = { one_key_encode, NULL };

/*** Hooks of base chains ***/

static const struct attr_word inet_hooks[] = {
	{ "prerouting", NF_INET_PRE_ROUTING }, { "input", NF_INET_LOCAL_IN },
	{ "forward", NF_INET_FORWARD },        { "output", NF_INET_LOCAL_OUT },
	{ "postrouting", NF_INET_POST_ROUTING }, { "ingress", NF_INET_INGRESS },
};

static const struct attr_word arp_hooks[] = {
	{ "input", NF_ARP_IN },
	{ "output", NF_ARP_OUT },
	{ "forward", NF_ARP_FORWARD },
};

static const struct attr_word netdev_hooks[] = {
	{ "ingress", NF_NETDEV_INGRESS },
	{ "egress", NF_NETDEV_EGRESS },
};

#define HOOK ROW("hook", NFTA_HOOK_HOOKNUM, BE32)

static const struct attr_row inet_row = { HOOK, NFT_WORD(inet_hooks) };
static const struct attr_row arp_row = { HOOK, NFT_WORD(arp_hooks) };
static const struct attr_row netdev_row = { HOOK, NFT_WORD(netdev_hooks) };

/* The row that fits the family in the Lua table at `idx`. */
static const struct attr_row *hooks_of(lua_State *L, int idx)
{
	const struct attr_row *row = &inet_row;
	const char *family;

	lua_pushliteral(L, "family");
	lua_rawget(L, idx);
	family = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
	if (!strcmp(family, "arp"))
		row = &arp_row;
	else if (!strcmp(family, "netdev"))
		row = &netdev_row;
	lua_pop(L, 1);
	return row;
}

static void hook_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	(void)row;
	attr_put_value(out, hooks_of(out->L, out->idx), idx);
}

static int hook_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	(void)row;
	return attr_push(in->L, hooks_of(in->L, in->idx), mnl_attr_get_payload(attr),
			 mnl_attr_get_payload_len(attr));
}

const struct attr_hook nft_hook_hook = { hook_encode, hook_decode };
