/* SPDX-License-Identifier: MIT */
/*
 * Values of nf_tables: typed ones to bytes and back, verdicts, and comments in user data.
 */

#include "nft/rows.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>
#include <string.h>

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

static uint64_t number_of(struct attr_out *out, const struct attr_row *row,
			  const struct nft_type *type, int idx)
{
	uint64_t max = type->len == 8 ? INT64_MAX : (UINT64_C(1) << 8 * type->len) - 1;
	const char *word;
	lua_Integer value;
	int exact;

	if (lua_type(out->L, idx) == LUA_TNUMBER) {
		value = lua_tointegerx(out->L, idx, &exact);
		if (!exact || value < 0 || (uint64_t)value > max)
			attr_error(out, row, "not a number that %s can hold", type->word);
		return (uint64_t)value;
	}
	word = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : NULL;
	for (size_t i = 0; word && type->words && i < type->words->count; i++)
		if (!strcmp(type->words->list[i].word, word))
			return type->words->list[i].value;
	attr_error(out, row, "expected %s%s", type->word,
		   type->words ? ", as a word or number" : ", as a number");
}

static uint64_t bits_of(struct attr_out *out, const struct attr_row *row,
			const struct nft_type *type, int idx)
{
	uint64_t bits = 0;

	if (lua_type(out->L, idx) != LUA_TTABLE)
		return number_of(out, row, type, idx);
	for (lua_Unsigned i = 1; i <= lua_rawlen(out->L, idx); i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i);
		bits |= number_of(out, row, type, lua_gettop(out->L));
		lua_pop(out->L, 1);
	}
	return bits;
}

/* An address or a prefix: what `last` says beyond `first` is every host bit set. */
static void ip_of(struct attr_out *out, const struct attr_row *row, const struct nft_type *type,
		  int idx, uint8_t *first, uint8_t *last)
{
	uint8_t bytes[16], bits;

	if (lua_type(out->L, idx) != LUA_TSTRING ||
	    attr_prefix(out, row, idx, bytes, &bits) != type->len)
		attr_error(out, row, "expected an %s", type->word);
	for (unsigned int i = 0; i < type->len; i++) {
		unsigned int host = bits >= 8 * (i + 1) ? 0 :
				    bits <= 8 * i ? 0xff : 0xffU >> (bits - 8 * i);

		if (bytes[i] & host)
			attr_error(out, row, "'%.60s' has bits beyond its prefix length",
				   lua_tostring(out->L, idx));
		first[i] = bytes[i];
		last[i] = (uint8_t)(bytes[i] | host);
	}
}

static void mac_of(struct attr_out *out, const struct attr_row *row, int idx, uint8_t *to)
{
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ? lua_tostring(out->L, idx) : "";
	unsigned int b[6];
	int end = 0, n;

	n = sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", b, b + 1, b + 2, b + 3, b + 4, b + 5, &end);
	if (n != 6 || end != 17 || text[17] || strspn(text, "0123456789abcdefABCDEF:") != 17)
		attr_error(out, row, "expected a hardware address");
	for (size_t i = 0; i < 6; i++)
		to[i] = (uint8_t)b[i];
}

static void name_of(struct attr_out *out, const struct attr_row *row, const struct nft_type *type,
		    int idx, uint8_t *to)
{
	size_t len = 0;
	const char *text = lua_type(out->L, idx) == LUA_TSTRING ?
				   lua_tolstring(out->L, idx, &len) : NULL;

	if (!len || len >= type->len || memchr(text, 0, len))
		attr_error(out, row, "expected a name of 1 to %d bytes", type->len - 1);
	memcpy(to, text, len);
}

static void field_of(struct attr_out *out, const struct attr_row *row,
		     const struct nft_type *type, int idx, uint8_t *first, uint8_t *last)
{
	switch (type->form) {
	case NFT_FORM_IP:
		ip_of(out, row, type, idx, first, last);
		return;
	case NFT_FORM_MAC:
		mac_of(out, row, idx, first);
		break;
	case NFT_FORM_NAME:
		name_of(out, row, type, idx, first);
		break;
	default:
		store(first, type, type->form == NFT_FORM_BITS ? bits_of(out, row, type, idx)
							   : number_of(out, row, type, idx));
	}
	memcpy(last, first, type->len);
}

size_t nft_value_read(struct attr_out *out, const struct attr_row *row, const struct nft_types *t,
		      int idx, uint8_t first[NFT_VALUE_MAX], uint8_t last[NFT_VALUE_MAX])
{
	size_t at = 0;

	memset(first, 0, NFT_VALUE_MAX);
	memset(last, 0, NFT_VALUE_MAX);
	if (t->count == 1) {
		field_of(out, row, t->field[0], idx, first, last);
		return t->field[0]->len;
	}
	if (lua_type(out->L, idx) != LUA_TTABLE || lua_rawlen(out->L, idx) != t->count)
		attr_error(out, row, "expected a list of %zu values", t->count);
	for (size_t i = 0; i < t->count; i++) {
		lua_rawgeti(out->L, idx, (lua_Integer)i + 1);
		field_of(out, row, t->field[i], lua_gettop(out->L), first + at, last + at);
		lua_pop(out->L, 1);
		at += nft_field_room(t, i);
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
	case NFT_FORM_IP:
		attr_push_ip(L, bytes, type->len);
		return;
	case NFT_FORM_MAC:
		snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1],
			 bytes[2], bytes[3], bytes[4], bytes[5]);
		lua_pushstring(L, text);
		return;
	case NFT_FORM_NAME:
		lua_pushlstring(L, (const char *)bytes, strnlen((const char *)bytes, type->len));
		return;
	}
	value = load(bytes, type);
	if (type->form == NFT_FORM_BITS) {
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
		at += nft_field_room(t, i);
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

static const struct attr_row verdict_rows[] = {
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

static void put_verdict(struct attr_out *out, const struct attr_row *row, int idx)
{
	size_t data = attr_nest(out, row->type), verdict = attr_nest(out, NFTA_DATA_VERDICT);

	attr_put_table(out, &verdict_table, idx, row->key, 0);
	attr_nest_end(out, verdict);
	attr_nest_end(out, data);
}

/* { ipv4_addr = "10.1.2.3" }: one pair. */
static void put_typed(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t first[NFT_VALUE_MAX], last[NFT_VALUE_MAX];
	struct nft_types t;
	size_t len;

	lua_pushnil(out->L);
	if (!lua_next(out->L, idx))
		attr_error(out, row, "expected bytes, { verdict = } or { type = value }");
	nft_types_read(out, row, lua_gettop(out->L) - 1, &t);
	if (nft_types_verdict(&t))
		attr_error(out, row, "verdict is not a value");
	len = nft_value_read(out, row, &t, lua_gettop(out->L), first, last);
	if (memcmp(first, last, len))
		attr_error(out, row, "expected one value, not a prefix");
	lua_pop(out->L, 1);
	if (lua_next(out->L, idx))
		attr_error(out, row, "expected one { type = value } only");
	nft_put_bytes(out, row->type, first, len);
}

static void data_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	const char *bytes;
	size_t len;

	if (lua_type(out->L, idx) == LUA_TSTRING) {
		bytes = lua_tolstring(out->L, idx, &len);
		if (!len || len > NFT_VALUE_MAX)
			attr_error(out, row, "%zu bytes are not in 1..%d", len, NFT_VALUE_MAX);
		nft_put_bytes(out, row->type, bytes, len);
		return;
	}
	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, row, "expected bytes, { verdict = } or { type = value }, got a %s",
			   luaL_typename(out->L, idx));
	lua_pushliteral(out->L, "verdict");
	lua_rawget(out->L, idx);
	if (lua_isnil(out->L, -1))
		put_typed(out, row, idx);
	else
		put_verdict(out, row, idx);
	lua_pop(out->L, 1);
}

static int data_decode(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct attr_in data = {
		.L = in->L, .attrs = mnl_attr_get_payload(attr),
		.len = mnl_attr_get_payload_len(attr),
	};
	const struct nlattr *found = attr_find(&data, NFTA_DATA_VALUE);

	(void)row;
	if (found) {
		attr_push_bytes(in, mnl_attr_get_payload(found), mnl_attr_get_payload_len(found));
		return 1;
	}
	found = attr_find(&data, NFTA_DATA_VERDICT);
	if (!found)
		return 0;
	attr_decode_below(in, &verdict_table, mnl_attr_get_payload(found),
			  mnl_attr_get_payload_len(found));
	return 1;
}

const struct attr_hook nft_data_hook = { data_encode, data_decode };

/*** Comments ***/

size_t nft_comment_read(struct attr_out *out, const struct attr_row *row, int idx,
			uint8_t tlv[NFT_COMMENT_MAX + 3])
{
	const uint8_t *type = row->data;
	const char *text;
	size_t len;

	if (lua_type(out->L, idx) != LUA_TSTRING)
		attr_error(out, row, "expected a string, got a %s", luaL_typename(out->L, idx));
	text = lua_tolstring(out->L, idx, &len);
	if (len > NFT_COMMENT_MAX)
		attr_error(out, row, "%zu bytes are more than the %d that nft can read back", len,
			   NFT_COMMENT_MAX);
	/* nft prints them between quotes as they are, and knows no escapes when it reads. */
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < ' ' || text[i] == '"' || text[i] == 0x7f)
			attr_error(out, row, "a character that nft cannot read back: \\x%02x",
				   (unsigned char)text[i]);
	tlv[0] = *type;
	tlv[1] = (uint8_t)(len + 1);
	memcpy(tlv + 2, text, len + 1);
	return len + 3;
}

static void comment_encode(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t tlv[NFT_COMMENT_MAX + 3];

	attr_put(out, row->type, tlv, nft_comment_read(out, row, idx, tlv));
}

static int comment_decode(struct attr_in *in, const struct attr_row *row,
			  const struct nlattr *attr)
{
	const uint8_t *type = row->data, *p = mnl_attr_get_payload(attr);
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
