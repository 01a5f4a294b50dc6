/* SPDX-License-Identifier: MIT */
/*
 * Data types of nf_tables, with the numbers that the program nft gave them, and concatenations. To
 * the kernel all of it is bytes: types are for people, and for nft to show.
 */

#include "nft/rows.h"

#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

enum { TYPE_BITS = 6, FIELD_ALIGN = 4 };

static const struct attr_word nfprotos[] = {
	{ "ipv4", NFPROTO_IPV4 },
	{ "ipv6", NFPROTO_IPV6 },
};

static const struct attr_word inet_protos[] = {
	{ "icmp", IPPROTO_ICMP },     { "igmp", IPPROTO_IGMP },     { "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },       { "dccp", IPPROTO_DCCP },     { "gre", IPPROTO_GRE },
	{ "esp", IPPROTO_ESP },       { "ah", IPPROTO_AH },         { "icmpv6", IPPROTO_ICMPV6 },
	{ "sctp", IPPROTO_SCTP },     { "udplite", IPPROTO_UDPLITE },
};

static const struct attr_word ether_types[] = {
	{ "ip", 0x0800 }, { "arp", 0x0806 }, { "ip6", 0x86dd }, { "8021q", 0x8100 },
	{ "8021ad", 0x88a8 },
};

static const struct attr_word fib_types[] = {
	{ "unspec", 0 },    { "unicast", 1 },   { "local", 2 },        { "broadcast", 3 },
	{ "anycast", 4 },   { "multicast", 5 }, { "blackhole", 6 },    { "unreachable", 7 },
	{ "prohibit", 8 },
};

static const struct attr_word ct_states[] = {
	{ "invalid", 1 }, { "established", 2 }, { "related", 4 }, { "new", 8 }, { "untracked", 64 },
};

static const struct attr_word ct_statuses[] = {
	{ "expected", 1 },  { "seen-reply", 2 }, { "assured", 4 }, { "confirmed", 8 },
	{ "snat", 16 },     { "dnat", 32 },      { "dying", 512 },
};

static const struct attr_word ct_directions[] = {
	{ "original", 0 },
	{ "reply", 1 },
};

static const struct attr_word pkt_types[] = {
	{ "host", 0 }, { "broadcast", 1 }, { "multicast", 2 }, { "other", 3 },
};

static const struct nft_type types[] = {
	{ "nf_proto", 2, 1, NFT_ORDER_HOST, NFT_FORM_NUMBER, ATTR_WORDS(nfprotos) },
	{ "ipv4_addr", 7, 4, NFT_ORDER_BIG, NFT_FORM_IP, NULL },
	{ "ipv6_addr", 8, 16, NFT_ORDER_BIG, NFT_FORM_IP, NULL },
	{ "ether_addr", 9, 6, NFT_ORDER_BIG, NFT_FORM_MAC, NULL },
	{ "ether_type", 10, 2, NFT_ORDER_BIG, NFT_FORM_NUMBER, ATTR_WORDS(ether_types) },
	{ "inet_proto", 12, 1, NFT_ORDER_BIG, NFT_FORM_NUMBER, ATTR_WORDS(inet_protos) },
	{ "inet_service", 13, 2, NFT_ORDER_BIG, NFT_FORM_NUMBER, NULL },
	{ "icmp_type", 14, 1, NFT_ORDER_BIG, NFT_FORM_NUMBER, NULL },
	{ "mark", 19, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "iface_index", 20, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "classid", 23, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "uid", 24, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "gid", 25, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "ct_state", 26, 4, NFT_ORDER_HOST, NFT_FORM_BITS, ATTR_WORDS(ct_states) },
	{ "ct_dir", 27, 1, NFT_ORDER_BIG, NFT_FORM_NUMBER, ATTR_WORDS(ct_directions) },
	{ "ct_status", 28, 4, NFT_ORDER_HOST, NFT_FORM_BITS, ATTR_WORDS(ct_statuses) },
	{ "icmpv6_type", 29, 1, NFT_ORDER_BIG, NFT_FORM_NUMBER, NULL },
	{ "pkt_type", 31, 1, NFT_ORDER_HOST, NFT_FORM_NUMBER, ATTR_WORDS(pkt_types) },
	{ "devgroup", 35, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
	{ "fib_addrtype", 38, 4, NFT_ORDER_HOST, NFT_FORM_NUMBER, ATTR_WORDS(fib_types) },
	{ "ifname", 41, IFNAMSIZ, NFT_ORDER_HOST, NFT_FORM_NAME, NULL },
	{ "cgroupsv2", 46, 8, NFT_ORDER_HOST, NFT_FORM_NUMBER, NULL },
};

/* Data only: no key, no field of a concatenation. */
static const struct nft_type verdict_type = {
	"verdict", 1, 0, NFT_ORDER_NONE, NFT_FORM_VERDICT, NULL,
};

/*** Types ***/

static const struct nft_type *type_by_number(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].number == number)
			return &types[i];
	return NULL;
}

/* Add the type of that name, `len` bytes long, to a concatenation. */
static void add_type(struct attr_out *out, const struct attr_row *row, const char *name,
		     size_t len, struct nft_types *ret)
{
	const char *names[ARRAY_SIZE(types) + 2] = { 0 }, *near;
	char word[32];

	snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), name);
	if (ret->count == NFT_FIELDS_MAX)
		attr_error(out, row, "more than %d types", NFT_FIELDS_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		names[i] = types[i].word;
		if (!strcmp(types[i].word, word)) {
			ret->field[ret->count++] = &types[i];
			return;
		}
	}
	names[ARRAY_SIZE(types)] = verdict_type.word;
	if (!strcmp(word, verdict_type.word) && !ret->count) {
		ret->field[ret->count++] = &verdict_type;
		return;
	}
	near = nearest_word(word, names);
	if (near)
		attr_error(out, row, "unknown type '%s' (did you mean '%s'?)", word, near);
	attr_error(out, row, "unknown type '%s'", word);
}

static void add_named(struct attr_out *out, const struct attr_row *row, int idx,
		      struct nft_types *ret)
{
	const char *at, *dot;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, row, "expected the name of a type, got a %s",
			   luaL_typename(out->L, idx));
	for (at = lua_tostring(out->L, idx); (dot = strstr(at, " . ")); at = dot + 3)
		add_type(out, row, at, (size_t)(dot - at), ret);
	add_type(out, row, at, strlen(at), ret);
}

void nft_types_read(struct attr_out *out, const struct attr_row *row, int idx,
		    struct nft_types *ret)
{
	*ret = (struct nft_types){ 0 };
	if (lua_type(out->L, idx) != LUA_TTABLE) {
		add_named(out, row, idx, ret);
	} else {
		for (lua_Unsigned i = 1; i <= lua_rawlen(out->L, idx); i++) {
			lua_rawgeti(out->L, idx, (lua_Integer)i);
			add_named(out, row, lua_gettop(out->L), ret);
			lua_pop(out->L, 1);
		}
		if (!ret->count)
			attr_error(out, row, "expected a list of types");
	}
	if (ret->count > 1 && ret->field[0] == &verdict_type)
		attr_error(out, row, "a verdict cannot be concatenated");
	if (nft_types_len(ret) > NFT_VALUE_MAX)
		attr_error(out, row, "longer than %d bytes", NFT_VALUE_MAX);
}

void nft_types_beside(struct attr_out *out, const char *key, struct nft_types *ret)
{
	const struct attr_row row = { .key = key };

	*ret = (struct nft_types){ 0 };
	lua_pushstring(out->L, key);
	if (lua_rawget(out->L, out->idx) != LUA_TNIL)
		nft_types_read(out, &row, lua_gettop(out->L), ret);
	lua_pop(out->L, 1);
}

bool nft_types_verdict(const struct nft_types *t)
{
	return t->count == 1 && t->field[0] == &verdict_type;
}

uint32_t nft_types_number(const struct nft_types *t)
{
	uint32_t number = 0;

	if (nft_types_verdict(t))
		return NFT_DATA_VERDICT;
	for (size_t i = 0; i < t->count; i++)
		number = number << TYPE_BITS | t->field[i]->number;
	return number;
}

void nft_types_from_number(uint32_t number, struct nft_types *ret)
{
	*ret = (struct nft_types){ 0 };
	if (number == NFT_DATA_VERDICT) {
		ret->field[ret->count++] = &verdict_type;
		return;
	}
	for (int shift = TYPE_BITS * (NFT_FIELDS_MAX - 1); shift >= 0; shift -= TYPE_BITS) {
		uint32_t one = number >> shift & ((1U << TYPE_BITS) - 1);
		const struct nft_type *type = type_by_number(one);

		if (!type && (one || ret->count)) {
			ret->count = 0;
			return;
		}
		if (type)
			ret->field[ret->count++] = type;
	}
}

/* Fields of a concatenation fill whole registers of four bytes. */
size_t nft_field_room(const struct nft_types *t, size_t i)
{
	size_t len = t->field[i]->len;

	return t->count == 1 ? len : (len + FIELD_ALIGN - 1) / FIELD_ALIGN * FIELD_ALIGN;
}

size_t nft_types_len(const struct nft_types *t)
{
	size_t len = 0;

	for (size_t i = 0; i < t->count; i++)
		len += nft_field_room(t, i);
	return len;
}

size_t nft_field_len(const struct nft_types *t, size_t i)
{
	return t->field[i]->len;
}

uint32_t nft_types_order(const struct nft_types *t)
{
	return t->count == 1 ? t->field[0]->order : NFT_ORDER_NONE;
}

void nft_push_types(lua_State *L, const struct nft_types *t)
{
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	for (size_t i = 0; i < t->count; i++) {
		if (i)
			luaL_addstring(&b, " . ");
		luaL_addstring(&b, t->field[i]->word);
	}
	luaL_pushresult(&b);
}
