/* SPDX-License-Identifier: MIT */
/*
 * Attributes -> Lua table. What has no row is skipped, what is too short is skipped, a number
 * without a word stays a number: kernels grow, and an answer is never refused.
 */

#include "attr/internal.h"

#include <stdio.h>
#include <string.h>

#include "sys/ip.h"

enum {
	MAX_DEFERRED = 8,
};

static void decode_into(struct attr_in *in, const struct attr_table *table);

/*** Walking ***/

static uint64_t bit_of(uint16_t type)
{
	return type < 64 ? (uint64_t)1 << type : 0;
}

const struct nlattr *attr_find(struct attr_in *in, uint16_t type)
{
	const struct nlattr *attr;
	size_t at = 0;

	for (; (attr = nl_attr(in->attrs, in->len, at)); at += NL_PAD(attr->nla_len)) {
		if ((attr->nla_type & (uint16_t)NLA_TYPE_MASK) != type)
			continue;
		in->found |= bit_of(type);
		return attr;
	}
	return NULL;
}

struct attr_in attr_body(const struct attr_table *table, const void *body, size_t len)
{
	size_t header = NL_PAD(table->header) < len ? NL_PAD(table->header) : len;

	return (struct attr_in){
		.header = body,
		.header_len = table->header < len ? table->header : len,
		.attrs = (const uint8_t *)body + header,
		.len = len - header,
	};
}

/*** Values ***/

static uint64_t load(const void *from, int kind)
{
	const uint8_t *p = from;
	uint64_t value = 0;
	uint16_t u16;
	uint32_t u32;

	switch (kind) {
	case ATTR_BE16:
	case ATTR_BE32:
	case ATTR_BE64:
		for (size_t i = 0; i < attr_width(kind); i++)
			value = value << 8 | p[i];
		return value;
	case ATTR_U8:
	case ATTR_BOOL:
		return *p;
	case ATTR_U16:
		memcpy(&u16, p, sizeof u16);
		return u16;
	case ATTR_U64:
		memcpy(&value, p, sizeof value);
		return value;
	default:
		memcpy(&u32, p, sizeof u32);
		return u32;
	}
}

static void push_bits(lua_State *L, const struct attr_words *words, uint64_t value)
{
	lua_Integer n = 0;

	lua_newtable(L);
	for (size_t i = 0; i < words->count; i++) {
		uint32_t bit = words->list[i].value;

		if (!bit || (value & bit) != bit)
			continue;
		lua_pushstring(L, words->list[i].word);
		lua_rawseti(L, -2, ++n);
	}
}

static void push_number(lua_State *L, const struct attr_row *row, uint64_t value)
{
	if (row->kind == ATTR_BOOL || row->kind == ATTR_BOOL32) {
		lua_pushboolean(L, value != 0);
		return;
	}
	if (row->mask) {
		lua_pushboolean(L, ((value & row->mask) == row->mask) !=
					   !!(row->flags & ATTR_INVERT));
		return;
	}
	if (row->words && row->flags & ATTR_BITS) {
		push_bits(L, row->words, value);
		return;
	}
	for (size_t i = 0; row->words && i < row->words->count; i++) {
		if (row->words->list[i].value == value) {
			lua_pushstring(L, row->words->list[i].word);
			return;
		}
	}
	if (row->kind == ATTR_S32 || (row->kind == ATTR_BE32 && row->min < 0))
		lua_pushinteger(L, (int32_t)value);
	else
		lua_pushinteger(L, (lua_Integer)value);
}

void attr_push_ip(lua_State *L, const void *bytes, size_t len)
{
	char text[IP_TEXT_MAX];

	ip_format(bytes, len, text);
	lua_pushstring(L, text);
}

void attr_push_prefix(lua_State *L, const void *bytes, size_t len, int bits)
{
	char text[IP_TEXT_MAX];

	ip_format(bytes, len, text);
	lua_pushfstring(L, "%s/%d", text, bits);
}

static int push_mac(lua_State *L, const uint8_t *mac, size_t len)
{
	enum { LONGEST = 32 }; /* the kernel's MAX_ADDR_LEN */
	char text[3 * LONGEST + 1];

	if (!len || len > LONGEST)
		return 0;
	for (size_t i = 0; i < len; i++)
		snprintf(text + 3 * i, 4, "%02x:", mac[i]);
	lua_pushlstring(L, text, 3 * len - 1);
	return 1;
}

int attr_push(lua_State *L, const struct attr_row *row, const void *data, size_t len)
{
	switch (row->kind) {
	case ATTR_FLAG:
		lua_pushboolean(L, 1);
		return 1;
	case ATTR_STRING:
	case ATTR_TEXT:
		lua_pushlstring(L, data, strnlen(data, len));
		return 1;
	case ATTR_BYTES:
		lua_pushlstring(L, data, len);
		return 1;
	case ATTR_MAC:
		return push_mac(L, data, len);
	case ATTR_IP:
		if (len != 4 && len != 16)
			return 0;
		attr_push_ip(L, data, len);
		return 1;
	case ATTR_SKIP:
	case ATTR_NEST:
	case ATTR_FLAT:
	case ATTR_LIST:
	case ATTR_HOOK:
		return 0;
	}
	if (len < attr_width(row->kind))
		return 0;
	push_number(L, row, load(data, row->kind));
	return 1;
}

/*** Tables ***/

/* Pop a value into the Lua table under the row's key. */
static void set_key(struct attr_in *in, const struct attr_row *row)
{
	if (in->all)
		attr_list_key(in, row->key);
	if (!strcmp(row->key, ATTR_FIRST))
		lua_rawseti(in->L, in->idx, 1);
	else
		lua_setfield(in->L, in->idx, row->key);
}

static const struct attr_table *chosen(struct attr_in *in, const struct attr_row *row)
{
	const struct attr_switch *choose = row->choose;
	const struct attr_table *found = NULL;
	const char *name;

	if (!choose)
		return row->table;
	if (!strcmp(choose->key, ATTR_FIRST))
		lua_rawgeti(in->L, in->idx, 1);
	else
		lua_getfield(in->L, in->idx, choose->key);
	name = lua_type(in->L, -1) == LUA_TSTRING ? lua_tostring(in->L, -1) : NULL;
	for (size_t i = 0; name && i < choose->count && !found; i++)
		if (!strcmp(choose->cases[i].name, name))
			found = choose->cases[i].table;
	if (!name)
		found = choose->otherwise;
	lua_pop(in->L, 1);
	return found;
}

static int push_value(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr);

void attr_decode_below(struct attr_in *in, const struct attr_table *table, const void *body,
		       size_t len)
{
	struct attr_in inner = attr_body(table, body, len);

	lua_newtable(in->L);
	inner.L = in->L;
	inner.all = in->all;
	inner.idx = lua_gettop(in->L);
	if (in->all) {
		lua_newtable(in->L);
		lua_rawseti(in->L, inner.idx, 0);
	}
	inner.depth = in->depth + 1;
	decode_into(&inner, table);
}

/* Returns 0, with nothing pushed, when all is to be told and the list has elements that cannot be. */
static int push_list(struct attr_in *in, const struct attr_row *row, const struct nlattr *list)
{
	const struct nlattr *attr;
	lua_Integer n = 0, count = 0;
	size_t at = 0;

	lua_newtable(in->L);
	for (; (attr = nl_attr(attr_payload(list), attr_len(list), at));
	     at += NL_PAD(attr->nla_len)) {
		count++;
		if ((attr->nla_type & (uint16_t)NLA_TYPE_MASK) != row->each->type)
			continue;
		if (push_value(in, row->each, attr))
			lua_rawseti(in->L, -2, ++n);
	}
	if (!in->all || n == count)
		return 1;
	lua_pop(in->L, 1);
	return 0;
}

/* [-0, +(0|1), m] */
static int push_value(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	const struct attr_table *table;

	switch (row->kind) {
	case ATTR_NEST:
		table = chosen(in, row);
		if (!table)
			return 0;
		attr_decode_below(in, table, attr_payload(attr), attr_len(attr));
		return 1;
	case ATTR_LIST:
		return push_list(in, row, attr);
	case ATTR_BYTES:
		attr_push_bytes(in, attr_payload(attr), attr_len(attr));
		return 1;
	case ATTR_HOOK:
		return row->hook->decode ? row->hook->decode(in, row, attr) : 0;
	}
	return attr_push(in->L, row, attr_payload(attr), attr_len(attr));
}

/* Whether the row made sense of it. */
static bool decode_attr(struct attr_in *in, const struct attr_row *row, const struct nlattr *attr)
{
	struct attr_in inner;
	const struct attr_table *table;

	if (row->kind == ATTR_FLAT) {
		table = chosen(in, row);
		if (!table || (in->all && attr_len(attr) < table->header))
			return false;
		inner = attr_body(table, attr_payload(attr), attr_len(attr));
		inner.L = in->L;
		inner.only = in->only;
		inner.idx = in->idx;
		inner.depth = in->depth + 1;
		inner.all = in->all;
		inner.outer = in;
		inner.type = row->type;
		decode_into(&inner, table);
	} else if (row->key && push_value(in, row, attr)) {
		set_key(in, row);
	} else {
		return false;
	}
	return true;
}

/* The rows of one table that an answer is read by. */
struct rows {
	const struct attr_row *list[ATTR_MAX_ROWS];
	size_t count;
};

static void select_rows(struct attr_in *in, const struct attr_table *table, struct rows *rows)
{
	const struct attr_only *only = in->only;

	rows->count = 0;
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];

		if (row->flags & ATTR_WRITEONLY && !in->all)
			continue;
		if (!only || (row->kind == ATTR_FLAT ? !row->choose || only->deep
						     : row->key && attr_only_has(only, row->key)))
			rows->list[rows->count++] = row;
	}
}

/*
 * Whether a field of the header is worth telling. A zero is in a table that is nothing but a header, such as
 * the two ends of a mapping; in other tables it is a field that was not filled in.
 */
static bool is_meant(const struct attr_in *in, const struct attr_table *table,
		     const struct attr_row *row, uint64_t value)
{
	uint32_t meant = 0;

	if (row->change && row->change + sizeof meant <= in->header_len)
		memcpy(&meant, (const uint8_t *)in->header + row->change, sizeof meant);
	if (row->mask)
		return ((value | meant) & row->mask) != 0;
	return value || table->rows[table->count - 1].type == ATTR_HEADER;
}

static void decode_header(struct attr_in *in, const struct attr_table *table,
			  const struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct attr_row *row = rows->list[i];
		uint64_t value;

		if (row->type != ATTR_HEADER || !row->key ||
		    row->offset + attr_width(row->kind) > in->header_len)
			continue;
		if (row->kind == ATTR_HOOK || row->kind == ATTR_SKIP)
			continue;
		value = load((const uint8_t *)in->header + row->offset, row->kind);
		if (in->all && !is_meant(in, table, row, value))
			continue;
		push_number(in->L, row, value);
		set_key(in, row);
	}
}

/* Whether an attribute has been told. There is no bit for numbers from 64 on: for these a row is enough. */
static bool is_told(const struct rows *rows, uint64_t told, uint16_t type)
{
	if (type < 64)
		return told & bit_of(type);
	for (size_t i = 0; i < rows->count; i++)
		if (rows->list[i]->type == type)
			return true;
	return false;
}

static void decode_into(struct attr_in *in, const struct attr_table *table)
{
	struct {
		const struct attr_row *row;
		const struct nlattr *attr;
	} deferred[MAX_DEFERRED];
	const struct nlattr *attr;
	size_t at = 0, count = 0;
	uint64_t told = 0;
	struct rows rows;

	if (in->depth > ATTR_MAX_DEPTH)
		return;
	luaL_checkstack(in->L, 8, "attributes");
	select_rows(in, table, &rows);
	decode_header(in, table, &rows);
	for (; (attr = nl_attr(in->attrs, in->len, at)); at += NL_PAD(attr->nla_len)) {
		uint16_t type = (uint16_t)(attr->nla_type & NLA_TYPE_MASK);

		for (size_t i = 0; i < rows.count; i++) {
			const struct attr_row *row = rows.list[i];

			if (row->type != type)
				continue;
			/* What depends on another key waits until that one is there. */
			if (row->choose && count < MAX_DEFERRED) {
				deferred[count].row = row;
				deferred[count++].attr = attr;
			} else if (decode_attr(in, row, attr)) {
				told |= bit_of(type);
			}
		}
	}
	for (size_t i = 0; i < count; i++)
		if (decode_attr(in, deferred[i].row, deferred[i].attr))
			told |= bit_of(deferred[i].row->type);
	for (size_t i = 0; i < rows.count; i++) {
		const struct attr_row *row = rows.list[i];

		in->found = 0;
		if (row->type == ATTR_WHOLE && row->kind == ATTR_HOOK && row->hook->decode &&
		    row->hook->decode(in, row, NULL)) {
			told |= in->found;
			set_key(in, row);
		}
	}
	for (at = 0; in->all && (attr = nl_attr(in->attrs, in->len, at));
	     at += NL_PAD(attr->nla_len))
		if (!is_told(&rows, told, attr->nla_type & (uint16_t)NLA_TYPE_MASK))
			attr_tell_rest(in, attr);
}

void attr_decode(lua_State *L, const struct attr_table *table, const struct attr_only *only,
		 const void *body, size_t len)
{
	struct attr_in in = attr_body(table, body, len);

	lua_createtable(L, 0, only ? (int)only->count : 16);
	in.L = L;
	in.only = only;
	in.idx = lua_gettop(L);
	decode_into(&in, table);
}

void attr_decode_all(lua_State *L, const struct attr_table *table, const void *body, size_t len)
{
	struct attr_in in = { .L = L, .all = true };

	attr_decode_below(&in, table, body, len);
}
