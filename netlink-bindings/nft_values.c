/* SPDX-License-Identifier: MIT */
/*
 * Values of nf_tables: data types with the numbers that the program nft gave them, concatenations,
 * verdicts, and comments in user data. To the kernel all of it is bytes; the types are for people,
 * and for nft to show.
 */
#include "nft_specs.h"

#include <netinet/in.h>

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "bindings.h"

enum form {
	FORM_NUMBER,
	FORM_BITS, /* a word, a list of words, or a number */
	FORM_IP,
	FORM_MAC,
	FORM_NAME, /* text, padded with zero bytes */
	FORM_BYTES,
	FORM_VERDICT,
};

struct nft_type {
	const char *word;
	uint8_t number; /* enum datatypes of nft */
	uint8_t len;
	uint8_t order; /* NFT_ORDER_* */
	uint8_t form;
	const struct attr_words *words;
};

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
	{ "nf_proto", 2, 1, NFT_ORDER_HOST, FORM_NUMBER, ATTR_WORDS(nfprotos) },
	{ "integer", 4, 4, NFT_ORDER_BIG, FORM_NUMBER, NULL },
	{ "ipv4_addr", 7, 4, NFT_ORDER_BIG, FORM_IP, NULL },
	{ "ipv6_addr", 8, 16, NFT_ORDER_BIG, FORM_IP, NULL },
	{ "ether_addr", 9, 6, NFT_ORDER_BIG, FORM_MAC, NULL },
	{ "ether_type", 10, 2, NFT_ORDER_BIG, FORM_NUMBER, ATTR_WORDS(ether_types) },
	{ "inet_proto", 12, 1, NFT_ORDER_BIG, FORM_NUMBER, ATTR_WORDS(inet_protos) },
	{ "inet_service", 13, 2, NFT_ORDER_BIG, FORM_NUMBER, NULL },
	{ "icmp_type", 14, 1, NFT_ORDER_BIG, FORM_NUMBER, NULL },
	{ "mark", 19, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "iface_index", 20, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "classid", 23, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "uid", 24, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "gid", 25, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "ct_state", 26, 4, NFT_ORDER_HOST, FORM_BITS, ATTR_WORDS(ct_states) },
	{ "ct_dir", 27, 1, NFT_ORDER_BIG, FORM_NUMBER, ATTR_WORDS(ct_directions) },
	{ "ct_status", 28, 4, NFT_ORDER_HOST, FORM_BITS, ATTR_WORDS(ct_statuses) },
	{ "icmpv6_type", 29, 1, NFT_ORDER_BIG, FORM_NUMBER, NULL },
	{ "pkt_type", 31, 1, NFT_ORDER_HOST, FORM_NUMBER, ATTR_WORDS(pkt_types) },
	{ "devgroup", 35, 4, NFT_ORDER_HOST, FORM_NUMBER, NULL },
	{ "fib_addrtype", 38, 4, NFT_ORDER_HOST, FORM_NUMBER, ATTR_WORDS(fib_types) },
	{ "ifname", 41, IFNAMSIZ, NFT_ORDER_HOST, FORM_NAME, NULL },
	{ "cgroupsv2", 46, 8, NFT_ORDER_HOST, FORM_NUMBER, NULL },
};

/* Data only: no key, no field of a concatenation. */
static const struct nft_type verdict_type = { "verdict", 1, 0, NFT_ORDER_NONE, FORM_VERDICT, NULL };


/*** Types ***/

static const struct nft_type *type_by_number(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].number == number)
			return &types[i];
	return NULL;
}


/* Add the type of that name, `len` bytes long, to a concatenation. */
static void add_type(struct attr_out *out, const struct attr_spec *spec, const char *name,
		     size_t len, struct nft_types *ret)
{
	const char *names[ARRAY_SIZE(types) + 2] = { 0 }, *near;
	char word[32];

	snprintf(word, sizeof word, "%.*s", (int)(len < 31 ? len : 31), name);
	if (ret->count == NFT_FIELDS_MAX)
		attr_error(out, spec, "more than %d types", NFT_FIELDS_MAX);
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
		attr_error(out, spec, "unknown type '%s' (did you mean '%s'?)", word, near);
	attr_error(out, spec, "unknown type '%s'", word);
}


static void add_named(struct attr_out *out, const struct attr_spec *spec, int idx,
		      struct nft_types *ret)
{
	const char *at, *dot;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, spec, "expected the name of a type, got a %s",
			   luaL_typename(out->L, idx));
	for (at = lua_tostring(out->L, idx); (dot = strstr(at, " . ")); at = dot + 3)
		add_type(out, spec, at, (size_t)(dot - at), ret);
	add_type(out, spec, at, strlen(at), ret);
}


void nft_types_read(struct attr_out *out, const struct attr_spec *spec, int idx,
		    struct nft_types *ret)
{
	*ret = (struct nft_types){ 0 };
	if (lua_type(out->L, idx) != LUA_TTABLE) {
		add_named(out, spec, idx, ret);
	} else {
		for (lua_Unsigned i = 1; i <= lua_rawlen(out->L, idx); i++) {
			lua_rawgeti(out->L, idx, (lua_Integer)i);
			add_named(out, spec, lua_gettop(out->L), ret);
			lua_pop(out->L, 1);
		}
		if (!ret->count)
			attr_error(out, spec, "expected a list of types");
	}
	if (ret->count > 1 && ret->field[0] == &verdict_type)
		attr_error(out, spec, "a verdict cannot be concatenated");
	if (nft_types_len(ret) > NFT_VALUE_MAX)
		attr_error(out, spec, "longer than %d bytes", NFT_VALUE_MAX);
}


void nft_types_beside(struct attr_out *out, const char *key, struct nft_types *ret)
{
	const struct attr_spec spec = { .key = key };

	*ret = (struct nft_types){ 0 };
	lua_pushstring(out->L, key);
	if (lua_rawget(out->L, out->idx) != LUA_TNIL)
		nft_types_read(out, &spec, lua_gettop(out->L), ret);
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
static size_t padded(const struct nft_types *t, size_t i)
{
	size_t len = t->field[i]->len;

	return t->count == 1 ? len : (len + FIELD_ALIGN - 1) / FIELD_ALIGN * FIELD_ALIGN;
}


size_t nft_types_len(const struct nft_types *t)
{
	size_t len = 0;

	for (size_t i = 0; i < t->count; i++)
		len += padded(t, i);
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


/*** Values, writing ***/

static void store(uint8_t *to, const struct nft_type *type, uint64_t value)
{
	bool big = type->order == NFT_ORDER_BIG || __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

	for (size_t i = 0; i < type->len; i++)
		to[i] = (uint8_t)(value >> 8 * (big ? type->len - 1U - i : i));
}


static uint64_t load(const uint8_t *from, const struct nft_type *type)
{
	bool big = type->order == NFT_ORDER_BIG || __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
	uint64_t value = 0;

	for (size_t i = 0; i < type->len; i++)
		value = value << 8 | from[big ? i : type->len - 1U - i];
	return value;
}


static uint64_t number_of(struct attr_out *out, const struct attr_spec *spec,
			  const struct nft_type *type, int idx)
{
	uint64_t max = type->len == 8 ? INT64_MAX : (UINT64_C(1) << 8 * type->len) - 1;
	const char *word;
	lua_Integer value;
	int exact;

	if (lua_type(out->L, idx) == LUA_TNUMBER) {
		value = lua_tointegerx(out->L, idx, &exact);
		if (!exact || value < 0 || (uint64_t)value > max)
			attr_error(out, spec, "not a number that %s can hold", type->word);
		return (uint64_t)value;
	}
	word = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : NULL;
	for (size_t i = 0; word && type->words && i < type->words->count; i++)
		if (!strcmp(type->words->list[i].word, word))
			return type->words->list[i].value;
	attr_error(out, spec, "expected %s%s", type->word,
		   type->words ? ", as a word or number" : ", as a number");
}


static uint64_t bits_of(struct attr_out *out, const struct attr_spec *spec,
			const struct nft_type *type, int idx)
{
	uint64_t bits = 0;

	if (lua_type(out->L, idx) != LUA_TTABLE)
		return number_of(out, spec, type, idx);
	for (lua_Unsigned i = 1; i <= lua_rawlen(out->L, idx); i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i);
		bits |= number_of(out, spec, type, lua_gettop(out->L));
		lua_pop(out->L, 1);
	}
	return bits;
}


/* An address or a prefix: what `last` says beyond `first` is every host bit set. */
static void ip_of(struct attr_out *out, const struct attr_spec *spec, const struct nft_type *type,
		  int idx, uint8_t *first, uint8_t *last)
{
	uint8_t bytes[16], bits;

	if (lua_type(out->L, idx) != LUA_TSTRING ||
	    attr_prefix(out, spec, idx, bytes, &bits) != type->len)
		attr_error(out, spec, "expected an %s", type->word);
	for (unsigned int i = 0; i < type->len; i++) {
		unsigned int host = bits >= 8 * (i + 1) ? 0 :
				    bits <= 8 * i ? 0xff : 0xffU >> (bits - 8 * i);

		if (bytes[i] & host)
			attr_error(out, spec, "'%.60s' has bits beyond its prefix length",
				   lua_tostring(out->L, idx));
		first[i] = bytes[i];
		last[i] = (uint8_t)(bytes[i] | host);
	}
}


static void mac_of(struct attr_out *out, const struct attr_spec *spec, int idx, uint8_t *to)
{
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : "";
	unsigned int b[6];
	int end = 0, n;

	n = sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", b, b + 1, b + 2, b + 3, b + 4, b + 5, &end);
	if (n != 6 || end != 17 || text[17] || strspn(text, "0123456789abcdefABCDEF:") != 17)
		attr_error(out, spec, "expected a hardware address");
	for (size_t i = 0; i < 6; i++)
		to[i] = (uint8_t)b[i];
}


static void name_of(struct attr_out *out, const struct attr_spec *spec, const struct nft_type *type,
		    int idx, uint8_t *to)
{
	size_t len = 0;
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ?
				   lua_tolstring(out->L, idx, &len) : NULL;

	if (!len || len >= type->len || memchr(text, 0, len))
		attr_error(out, spec, "expected a name of 1 to %d bytes", type->len - 1);
	memcpy(to, text, len);
}


static void field_of(struct attr_out *out, const struct attr_spec *spec,
		     const struct nft_type *type, int idx, uint8_t *first, uint8_t *last)
{
	switch (type->form) {
	case FORM_IP:
		ip_of(out, spec, type, idx, first, last);
		return;
	case FORM_MAC:
		mac_of(out, spec, idx, first);
		break;
	case FORM_NAME:
		name_of(out, spec, type, idx, first);
		break;
	default:
		store(first, type, type->form == FORM_BITS ? bits_of(out, spec, type, idx)
							   : number_of(out, spec, type, idx));
	}
	memcpy(last, first, type->len);
}


size_t nft_value_read(struct attr_out *out, const struct attr_spec *spec, const struct nft_types *t,
		      int idx, uint8_t first[NFT_VALUE_MAX], uint8_t last[NFT_VALUE_MAX])
{
	size_t at = 0;

	memset(first, 0, NFT_VALUE_MAX);
	memset(last, 0, NFT_VALUE_MAX);
	if (t->count == 1) {
		field_of(out, spec, t->field[0], idx, first, last);
		return t->field[0]->len;
	}
	if (lua_type(out->L, idx) != LUA_TTABLE || lua_rawlen(out->L, idx) != t->count)
		attr_error(out, spec, "expected a list of %zu values", t->count);
	for (size_t i = 0; i < t->count; i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i + 1);
		field_of(out, spec, t->field[i], lua_gettop(out->L), first + at, last + at);
		lua_pop(out->L, 1);
		at += padded(t, i);
	}
	return at;
}


/*** Values, reading ***/

static void push_bits(lua_State *L, const struct nft_type *type, uint64_t value)
{
	lua_Integer n = 0;

	lua_newtable(L);
	for (size_t i = 0; i < type->words->count; i++) {
		if (!(value & type->words->list[i].value))
			continue;
		lua_pushstring(L, type->words->list[i].word);
		lua_rawseti(L, -2, ++n);
	}
}


static void push_field(lua_State *L, const struct nft_type *type, const uint8_t *bytes)
{
	uint64_t value;
	char text[3 * 6];

	switch (type->form) {
	case FORM_IP:
		attr_push_ip(L, bytes, type->len);
		return;
	case FORM_MAC:
		snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1],
			 bytes[2], bytes[3], bytes[4], bytes[5]);
		lua_pushstring(L, text);
		return;
	case FORM_NAME:
		lua_pushlstring(L, (const char *)bytes, strnlen((const char *)bytes, type->len));
		return;
	}
	value = load(bytes, type);
	if (type->form == FORM_BITS) {
		push_bits(L, type, value);
		return;
	}
	for (size_t i = 0; type->words && i < type->words->count; i++) {
		if (type->words->list[i].value == value) {
			lua_pushstring(L, type->words->list[i].word);
			return;
		}
	}
	lua_pushinteger(L, (lua_Integer)value);
}


void nft_push_value(lua_State *L, const struct nft_types *t, const void *bytes, size_t len)
{
	size_t at = 0;

	if (!t->count || nft_types_len(t) != len || nft_types_verdict(t)) {
		lua_pushlstring(L, bytes, len);
		return;
	}
	if (t->count == 1) {
		push_field(L, t->field[0], bytes);
		return;
	}
	lua_createtable(L, (int)t->count, 0);
	for (size_t i = 0; i < t->count; i++) {
		push_field(L, t->field[i], (const uint8_t *)bytes + at);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
		at += padded(t, i);
	}
}


/*** Data: a value or a verdict ***/

static const struct attr_word verdicts[] = {
	{ "accept", NF_ACCEPT },
	{ "drop", NF_DROP },
	{ "queue", NF_QUEUE },
	{ "stolen", NF_STOLEN },
	{ "continue", (uint32_t)NFT_CONTINUE },
	{ "break", (uint32_t)NFT_BREAK },
	{ "jump", (uint32_t)NFT_JUMP },
	{ "goto", (uint32_t)NFT_GOTO },
	{ "return", (uint32_t)NFT_RETURN },
};

static const struct attr_spec verdict_rows[] = {
	{ ROW("verdict", NFTA_VERDICT_CODE, BE32), NFT_WORDS(verdicts) },
	NFT_NAME("chain", NFTA_VERDICT_CHAIN),
	{ ROW("chain_id", NFTA_VERDICT_CHAIN_ID, BE32), .flags = ATTR_WRITEONLY },
};

static const struct attr_table verdict_table = ATTR_TABLE("verdict", verdict_rows, 0);


void nft_put_bytes(struct attr_out *out, uint16_t type, const void *bytes, size_t len)
{
	size_t at = attr_nest(out, type);

	attr_put(out, NFTA_DATA_VALUE, bytes, len);
	attr_nest_end(out, at);
}


static void put_verdict(struct attr_out *out, const struct attr_spec *spec, int idx)
{
	size_t data = attr_nest(out, spec->type), verdict = attr_nest(out, NFTA_DATA_VERDICT);

	attr_put_table(out, &verdict_table, idx, spec->key, 0);
	attr_nest_end(out, verdict);
	attr_nest_end(out, data);
}


/* { ipv4_addr = "10.1.2.3" }: one pair. */
static void put_typed(struct attr_out *out, const struct attr_spec *spec, int idx)
{
	uint8_t first[NFT_VALUE_MAX], last[NFT_VALUE_MAX];
	struct nft_types t;
	size_t len;

	lua_pushnil(out->L);
	if (!lua_next(out->L, idx))
		attr_error(out, spec, "expected bytes, { verdict = } or { type = value }");
	nft_types_read(out, spec, lua_gettop(out->L) - 1, &t);
	if (nft_types_verdict(&t))
		attr_error(out, spec, "verdict is not a value");
	len = nft_value_read(out, spec, &t, lua_gettop(out->L), first, last);
	if (memcmp(first, last, len))
		attr_error(out, spec, "expected one value, not a prefix");
	lua_pop(out->L, 1);
	if (lua_next(out->L, idx))
		attr_error(out, spec, "expected one { type = value } only");
	nft_put_bytes(out, spec->type, first, len);
}


static void data_encode(struct attr_out *out, const struct attr_spec *spec, int idx)
{
	const char *bytes;
	size_t len;

	if (lua_type(out->L, idx) == LUA_TSTRING) {
		bytes = lua_tolstring(out->L, idx, &len);
		if (!len || len > NFT_VALUE_MAX)
			attr_error(out, spec, "%zu bytes are not in 1..%d", len, NFT_VALUE_MAX);
		nft_put_bytes(out, spec->type, bytes, len);
		return;
	}
	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, spec, "expected bytes, { verdict = } or { type = value }, got a %s",
			   luaL_typename(out->L, idx));
	lua_pushliteral(out->L, "verdict");
	lua_rawget(out->L, idx);
	if (lua_isnil(out->L, -1))
		put_typed(out, spec, idx);
	else
		put_verdict(out, spec, idx);
	lua_pop(out->L, 1);
}


static int data_decode(struct attr_in *in, const struct attr_spec *spec, const struct nlattr *attr)
{
	struct attr_in data = {
		.L = in->L, .attrs = mnl_attr_get_payload(attr),
		.len = mnl_attr_get_payload_len(attr),
	};
	const struct nlattr *found = attr_find(&data, NFTA_DATA_VALUE);

	(void)spec;
	if (found) {
		lua_pushlstring(in->L, mnl_attr_get_payload(found),
				mnl_attr_get_payload_len(found));
		return 1;
	}
	found = attr_find(&data, NFTA_DATA_VERDICT);
	if (!found)
		return 0;
	attr_decode(in->L, &verdict_table, mnl_attr_get_payload(found),
		    mnl_attr_get_payload_len(found));
	return 1;
}

const struct attr_hook nft_data_hook = { data_encode, data_decode };


/*** Comments ***/

size_t nft_comment_read(struct attr_out *out, const struct attr_spec *spec, int idx,
			uint8_t tlv[NFT_COMMENT_MAX + 3])
{
	const uint8_t *type = spec->data;
	const char *text;
	size_t len;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, spec, "expected a string, got a %s", luaL_typename(out->L, idx));
	text = lua_tolstring(out->L, idx, &len);
	if (len > NFT_COMMENT_MAX)
		attr_error(out, spec, "%zu bytes are more than the %d that nft can read back", len,
			   NFT_COMMENT_MAX);
	/* nft prints them between quotes as they are, and knows no escapes when it reads. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == '"' || text[i] == 0x7f)
			attr_error(out, spec, "a character that nft cannot read back: \\x%02x",
				   (unsigned char)text[i]);
	tlv[0] = *type;
	tlv[1] = (uint8_t)(len + 1);
	memcpy(tlv + 2, text, len + 1);
	return len + 3;
}


static void comment_encode(struct attr_out *out, const struct attr_spec *spec, int idx)
{
	uint8_t tlv[NFT_COMMENT_MAX + 3];

	attr_put(out, spec->type, tlv, nft_comment_read(out, spec, idx, tlv));
}


static int comment_decode(struct attr_in *in, const struct attr_spec *spec,
			  const struct nlattr *attr)
{
	const uint8_t *type = spec->data, *p = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);

	while (left >= 2 && left - 2 >= p[1]) {
		if (p[0] == *type) {
			lua_pushlstring(in->L, (const char *)p + 2,
					strnlen((const char *)p + 2, p[1]));
			return 1;
		}
		left -= 2U + p[1];
		p += 2U + p[1];
	}
	return 0;
}

const struct attr_hook nft_comment_hook = { comment_encode, comment_decode };
