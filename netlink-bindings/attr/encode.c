/* SPDX-License-Identifier: MIT */
/*
 * Lua table -> attributes. The keys of a table are collected once, then every row of the attribute
 * table looks for its own: the order on the wire is the order of the rows, and a key that no row
 * took is an error.
 */

#include "attr/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_KEYS = 128,
	MAX_NAMES = 256,
};

struct key {
	const char *text; /* NULL: the integer key 1 */
	size_t len;
	bool used;
};

struct keys {
	size_t count, hits;
	struct key list[MAX_KEYS];
};

static void encode_rows(struct attr_out *out, const struct attr_table *table, struct keys *keys);

/*** Choosing a table ***/

/* The table a nest follows: its own, or the one that the selector's value names. */
static const struct attr_table *chosen(struct attr_out *out, const struct attr_row *row)
{
	const struct attr_table *found = NULL;
	const char *name;

	if (!row->choose)
		return row->table;
	if (!strcmp(row->choose->key, ATTR_FIRST)) {
		lua_rawgeti(out->L, out->idx, 1);
	} else {
		lua_pushstring(out->L, row->choose->key);
		lua_rawget(out->L, out->idx);
	}
	name = lua_type(out->L, -1) == LUA_TSTRING ? lua_tostring(out->L, -1) : NULL;
	for (size_t i = 0; name && i < row->choose->count && !found; i++)
		if (!strcmp(row->choose->cases[i].name, name))
			found = row->choose->cases[i].table;
	if (lua_isnil(out->L, -1))
		found = row->choose->otherwise;
	lua_pop(out->L, 1);
	return found;
}

/* Collect the keys that fit into the Lua table of `out`. */
static void key_names(struct attr_out *out, const struct attr_table *table, const char **names,
		      size_t *count)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];
		const struct attr_table *sub;

		if (row->kind == ATTR_FLAT) {
			sub = chosen(out, row);
			if (sub)
				key_names(out, sub, names, count);
		} else if (row->key && row->kind != ATTR_SKIP && row->key[0] != ATTR_FIRST[0] &&
			   (out->query || !(row->flags & ATTR_READONLY)) &&
			   *count < MAX_NAMES - 1) {
			names[(*count)++] = row->key;
		}
	}
}

/* The row by whose choice `key` would be known, and in *ret_name the selector's value for that; or NULL. */
static const struct attr_row *other_case(const struct attr_table *table, const char *key,
					  const char **ret_name)
{
	const struct attr_row *found = NULL;

	for (size_t i = 0; i < table->count && !found; i++) {
		const struct attr_row *row = &table->rows[i];

		if (row->kind == ATTR_FLAT && row->table)
			found = other_case(row->table, key, ret_name);
		for (size_t j = 0; row->kind == ATTR_FLAT && row->choose && j < row->choose->count;
		     j++) {
			const struct attr_case *c = &row->choose->cases[j];

			for (size_t k = 0; c->table && k < c->table->count; k++) {
				const char *name = c->table->rows[k].key;

				if (!found && name && !strcmp(name, key)) {
					*ret_name = c->name;
					found = row;
				}
			}
		}
	}
	return found;
}

/* All keys that an answer may have. */
static void answer_names(const struct attr_table *table, const char **names, size_t *count)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];

		if (row->kind == ATTR_FLAT && row->table)
			answer_names(row->table, names, count);
		for (size_t j = 0; row->kind == ATTR_FLAT && row->choose && j < row->choose->count;
		     j++)
			if (row->choose->cases[j].table)
				answer_names(row->choose->cases[j].table, names, count);
		if (row->kind != ATTR_FLAT && row->kind != ATTR_SKIP && row->key &&
		    *count < MAX_NAMES - 1)
			names[(*count)++] = row->key;
	}
}

_Noreturn void attr_no_such_key(lua_State *L, const struct attr_table *table, const char *key)
{
	const char *names[MAX_NAMES], *near;
	size_t count = 0;

	answer_names(table, names, &count);
	names[count] = NULL;
	near = nearest_word(key, names);
	if (near)
		luaL_error(L, "%s: unknown key '%s' (did you mean '%s'?)", table->name, key, near);
	luaL_error(L, "%s: unknown key '%s'", table->name, key);
	abort();
}

static void unknown_key(struct attr_out *out, const struct attr_table *table, const struct key *key)
{
	const char *names[MAX_NAMES], *near, *name;
	const struct attr_row *other;
	size_t count = 0;

	if (!key->text)
		attr_error(out, NULL, "unexpected list element");
	other = other_case(table, key->text, &name);
	if (other && strcmp(other->choose->key, ATTR_FIRST))
		attr_error(out, NULL, "key '%s' needs %s = \"%s\"", key->text, other->choose->key,
			   name);
	key_names(out, table, names, &count);
	names[count] = NULL;
	near = nearest_word(key->text, names);
	if (near)
		attr_error(out, NULL, "unknown key '%s' (did you mean '%s'?)", key->text, near);
	attr_error(out, NULL, "unknown key '%s'", key->text);
}

/*** Keys ***/

static void collect_keys(struct attr_out *out, struct keys *keys)
{
	lua_State *L = out->L;

	keys->count = keys->hits = 0;
	lua_pushnil(L);
	while (lua_next(L, out->idx)) {
		struct key *key = &keys->list[keys->count];

		lua_pop(L, 1);
		if (keys->count == MAX_KEYS)
			attr_error(out, NULL, "more than %d keys", MAX_KEYS);
		*key = (struct key){ 0 };
		if (lua_type(L, -1) == LUA_TSTRING)
			key->text = lua_tolstring(L, -1, &key->len);
		else if (!lua_isinteger(L, -1))
			attr_error(out, NULL, "a key is a %s", luaL_typename(L, -1));
		else if (lua_tointeger(L, -1) != 1)
			attr_error(out, NULL, "unexpected list element");
		keys->count++;
	}
}

/* For nearly every row the answer is no, and the first letter says so. */
static struct key *find_key(struct keys *keys, const char *name)
{
	for (size_t i = 0; i < keys->count; i++) {
		struct key *key = &keys->list[i];

		if (!key->text) {
			if (name[0] == ATTR_FIRST[0])
				return key;
		} else if (key->text[0] == name[0] && !strcmp(key->text, name) &&
			   key->len == strlen(name)) {
			return key;
		}
	}
	return NULL;
}

/*** Building blocks ***/

/* Append the zeroed struct that precedes a table's attributes. */
static void put_header(struct attr_out *out, const struct attr_table *table)
{
	size_t len = NL_PAD(table->header);

	attr_check(out, nl_buf_reserve(out->buf, len));
	memset(out->buf->data + out->buf->len, 0, len);
	out->header = out->buf->len;
	out->buf->len += len;
}

static void check_table(struct attr_out *out, const struct attr_row *row, int idx)
{
	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(out, row, "expected a table, got a %s", luaL_typename(out->L, idx));
}

static void put_list(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct attr_out item = *out;
	size_t at, count = 0;

	check_table(out, row, idx);
	lua_pushnil(out->L);
	while (lua_next(out->L, idx)) {
		lua_pop(out->L, 1);
		count++;
	}
	if (count != lua_rawlen(out->L, idx))
		attr_error(out, row, "expected a list");
	at = attr_nest(out, row->type);
	item.parent = out;
	item.key = row->key;
	item.index = 0;
	for (size_t i = 1; i <= count; i++) {
		item.index++;
		lua_rawgeti(out->L, idx, item.index);
		attr_put_value(&item, row->each, lua_gettop(out->L));
		lua_pop(out->L, 1);
	}
	attr_nest_end(out, at);
}

void attr_put_table(struct attr_out *out, const struct attr_table *table, int idx, const char *key,
		    lua_Integer index)
{
	struct attr_out inner = {
		.L = out->L,
		.buf = out->buf,
		.table = table,
		.idx = idx,
		.parent = out,
		.key = key,
		.index = index,
		.depth = out->depth + 1,
		.query = out->query,
	};
	struct keys keys;

	if (lua_type(out->L, idx) != LUA_TTABLE)
		attr_error(&inner, NULL, "expected a table, got a %s", luaL_typename(out->L, idx));
	if (inner.depth > ATTR_MAX_DEPTH)
		attr_error(&inner, NULL, "tables nested too deep");
	luaL_checkstack(out->L, 8, "nested attributes");
	collect_keys(&inner, &keys);
	put_header(&inner, table);
	encode_rows(&inner, table, &keys);
	for (size_t i = 0; i < keys.count; i++)
		if (!keys.list[i].used)
			unknown_key(&inner, table, &keys.list[i]);
}

static void put_nest(struct attr_out *out, const struct attr_row *row, int idx)
{
	struct attr_out sub = *out;
	const struct attr_table *table;
	size_t at;

	table = chosen(&sub, row);
	if (!table)
		attr_error(out, row, "does not go with this %s", row->choose->key);
	at = attr_nest(out, row->type);
	if (row->flags & ATTR_UNNESTED)
		((struct nlattr *)(void *)(out->buf->data + at))->nla_type = row->type;
	attr_put_table(out, table, idx, row->key, 0);
	attr_nest_end(out, at);
}

void attr_put_value(struct attr_out *out, const struct attr_row *row, int idx)
{
	uint8_t bytes[16];

	if (row->flags & ATTR_READONLY && !out->query)
		attr_error(out, row, "is read-only");
	if (row->kind == ATTR_HOOK) {
		row->hook->encode(out, row, idx);
		return;
	}
	if (row->type == ATTR_HEADER) {
		attr_put_field(out, row, idx);
		return;
	}
	switch (row->kind) {
	case ATTR_FLAG:
		if (attr_boolean(out, row, idx))
			attr_put(out, row->type, NULL, 0);
		break;
	case ATTR_STRING:
	case ATTR_TEXT:
	case ATTR_BYTES:
		attr_put_text(out, row, idx);
		break;
	case ATTR_MAC:
		attr_put_mac(out, row, idx);
		break;
	case ATTR_IP:
		attr_put(out, row->type, bytes, attr_ip(out, row, idx, bytes));
		break;
	case ATTR_NEST:
		put_nest(out, row, idx);
		break;
	case ATTR_LIST:
		put_list(out, row, idx);
		break;
	default:
		attr_put(out, row->type, bytes,
			 attr_store(bytes, row->kind, attr_number(out, row, idx)));
	}
}

/*** Rows ***/

/* A nest whose keys live in the same Lua table; taken back when none of them was there. */
static void encode_flat(struct attr_out *out, const struct attr_row *row, struct keys *keys)
{
	const struct attr_table *table = chosen(out, row);
	struct attr_out inner = *out;
	size_t hits = keys->hits, at;

	if (!table)
		return;
	at = attr_nest(out, row->type);
	/* A struct alone is a plain payload, and old parsers compare the type as it is. */
	if (row->flags & ATTR_UNNESTED)
		((struct nlattr *)(void *)(out->buf->data + at))->nla_type = row->type;
	put_header(&inner, table);
	encode_rows(&inner, table, keys);
	if (keys->hits == hits)
		out->buf->len = at;
	else
		attr_nest_end(out, at);
}

static void encode_rows(struct attr_out *out, const struct attr_table *table, struct keys *keys)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];
		struct key *key;

		if (row->kind == ATTR_FLAT) {
			encode_flat(out, row, keys);
			continue;
		}
		key = row->key && row->kind != ATTR_SKIP ? find_key(keys, row->key) : NULL;
		if (!key)
			continue;
		key->used = true;
		keys->hits++;
		/* The key is there, so no metamethod is asked. */
		if (key->text)
			lua_getfield(out->L, out->idx, row->key);
		else
			lua_rawgeti(out->L, out->idx, 1);
		attr_put_value(out, row, lua_gettop(out->L));
		lua_pop(out->L, 1);
	}
}

/*** Whole messages ***/

static void encode(struct attr_out *out, const struct attr_table *full)
{
	struct keys keys;

	if (lua_type(out->L, out->idx) != LUA_TTABLE)
		attr_error(out, NULL, "expected a table, got a %s",
			   luaL_typename(out->L, out->idx));
	luaL_checkstack(out->L, 8, "attributes");
	collect_keys(out, &keys);
	put_header(out, out->table);
	encode_rows(out, out->table, &keys);
	for (size_t i = 0; i < keys.count; i++) {
		const char *names[MAX_NAMES];
		size_t count = 0;

		if (keys.list[i].used)
			continue;
		key_names(out, full, names, &count);
		while (count && keys.list[i].text && strcmp(names[count - 1], keys.list[i].text))
			count--;
		if (!count || !out->query || !keys.list[i].text)
			unknown_key(out, full, &keys.list[i]);
	}
}

void attr_encode_nth(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table,
		     lua_Integer nth)
{
	struct attr_out out = { .L = L, .buf = buf, .table = table, .idx = idx, .index = nth };

	encode(&out, table);
}

void attr_encode(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table)
{
	attr_encode_nth(L, buf, idx, table, 0);
}

void attr_encode_some(lua_State *L, struct nl_buf *buf, int idx, const struct attr_table *table,
		      const struct attr_table *full)
{
	struct attr_out out = { .L = L, .buf = buf, .table = table, .idx = idx, .query = true };

	encode(&out, full);
}
