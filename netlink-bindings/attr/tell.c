/* SPDX-License-Identifier: MIT */
/* About attributes: which one the kernel objects to, do two sets agree, which are there. */

#include "attr/internal.h"

#include <stdio.h>
#include <string.h>

/*** Naming what the kernel objects to ***/

struct place {
	char text[160];
	size_t at;
};

static void add_step(struct place *place, const char *key, int index)
{
	size_t room = sizeof place->text - place->at;
	int n;

	if (!key)
		n = snprintf(place->text + place->at, room, "[%d]", index);
	else if (!strcmp(key, ATTR_FIRST))
		n = snprintf(place->text + place->at, room, "[1]");
	else
		n = snprintf(place->text + place->at, room, "%s%s", place->at ? "." : "", key);
	place->at += (size_t)n < room ? (size_t)n : room - 1;
}

/* The table that a row of an encoded message follows. */
static const struct attr_table *chosen_in(struct attr_in *in, const struct attr_table *table,
					  const struct attr_row *row)
{
	if (!row->choose)
		return row->table;
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *selector = &table->rows[i];
		const struct nlattr *attr;

		if (!selector->key || strcmp(selector->key, row->choose->key))
			continue;
		attr = attr_find(in, selector->type);
		for (size_t j = 0; attr && j < row->choose->count; j++) {
			const char *name = row->choose->cases[j].name;
			size_t len = strnlen(attr_payload(attr), attr_len(attr));

			if (strlen(name) == len && !memcmp(name, attr_payload(attr), len))
				return row->choose->cases[j].table;
		}
	}
	return row->choose->otherwise;
}

static void locate(const struct attr_table *table, const void *body, size_t len, size_t offset,
		   struct place *place, int depth);

static void locate_element(const struct attr_row *row, const struct nlattr *list, size_t offset,
			   struct place *place, int depth)
{
	const struct nlattr *attr;
	size_t at = 0;
	int n = 0;

	for (; (attr = nl_attr(attr_payload(list), attr_len(list), at));
	     at += NL_PAD(attr->nla_len)) {
		n++;
		if (offset < at || offset >= at + attr->nla_len)
			continue;
		add_step(place, NULL, n);
		if (row->each->kind == ATTR_NEST && row->each->table && offset >= at + NL_ATTR_HDR)
			locate(row->each->table, attr_payload(attr), attr_len(attr),
			       offset - at - NL_ATTR_HDR, place, depth + 1);
		return;
	}
}

static void locate(const struct attr_table *table, const void *body, size_t len, size_t offset,
		   struct place *place, int depth)
{
	struct attr_in in = attr_body(table, body, len);
	size_t base = len - in.len, at = 0;
	const struct nlattr *attr;

	if (offset < base || depth > ATTR_MAX_DEPTH)
		return;
	offset -= base;
	while ((attr = nl_attr(in.attrs, in.len, at)) && offset >= at + attr->nla_len)
		at += NL_PAD(attr->nla_len);
	if (!attr || offset < at)
		return;
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];
		const struct attr_table *sub;

		if (row->type != (attr->nla_type & (uint16_t)NLA_TYPE_MASK) ||
		    row->kind == ATTR_SKIP)
			continue;
		if (row->key)
			add_step(place, row->key, 0);
		if (offset < at + NL_ATTR_HDR)
			return;
		sub = row->kind == ATTR_NEST || row->kind == ATTR_FLAT ? chosen_in(&in, table, row)
								       : NULL;
		if (sub)
			locate(sub, attr_payload(attr), attr_len(attr), offset - at - NL_ATTR_HDR,
			       place, depth + 1);
		else if (row->kind == ATTR_LIST)
			locate_element(row, attr, offset - at - NL_ATTR_HDR, place, depth + 1);
		return;
	}
}

int attr_locate(lua_State *L, const struct attr_table *table, const void *body, size_t len,
		size_t offset)
{
	struct place place = { .at = 0 };

	locate(table, body, len, offset, &place, 0);
	if (!place.at)
		return 0;
	lua_pushlstring(L, place.text, place.at);
	return 1;
}

int attr_name(lua_State *L, const struct attr_table *table, uint16_t type)
{
	for (size_t i = 0; i < table->count; i++) {
		if (table->rows[i].type != type || !table->rows[i].key)
			continue;
		lua_pushstring(L, table->rows[i].key);
		return 1;
	}
	return 0;
}

/*** Comparing and describing ***/

static bool equal(lua_State *L, int a, int b, int depth)
{
	bool same = true;

	if (lua_type(L, a) != LUA_TTABLE || lua_type(L, b) != LUA_TTABLE)
		return lua_rawequal(L, a, b);
	if (depth > ATTR_MAX_DEPTH || lua_rawlen(L, a) != lua_rawlen(L, b))
		return false;
	luaL_checkstack(L, 6, "comparison");
	lua_pushnil(L);
	while (same && lua_next(L, b)) {
		int value = lua_gettop(L);

		lua_pushvalue(L, value - 1);
		lua_rawget(L, a);
		same = equal(L, value + 1, value, depth + 1);
		lua_settop(L, value - 1);
	}
	if (!same)
		lua_pop(L, 1);
	return same;
}

bool attr_match(lua_State *L, int have, int wanted)
{
	return equal(L, lua_absindex(L, have), lua_absindex(L, wanted), 0);
}

static const char *kind_name(const struct attr_row *row)
{
	static const char *const names[] = {
		[ATTR_U8] = "integer",     [ATTR_U16] = "integer",  [ATTR_U32] = "integer",
		[ATTR_U64] = "integer",    [ATTR_S32] = "integer",  [ATTR_BE16] = "integer",
		[ATTR_BE32] = "integer",   [ATTR_BE64] = "integer", [ATTR_BOOL] = "boolean",
		[ATTR_BOOL32] = "boolean", [ATTR_FLAG] = "boolean", [ATTR_STRING] = "string",
		[ATTR_TEXT] = "string",    [ATTR_MAC] = "mac",      [ATTR_IP] = "ip",
		[ATTR_BYTES] = "bytes",    [ATTR_NEST] = "table",   [ATTR_LIST] = "list",
		[ATTR_HOOK] = "other",
	};

	if (row->mask)
		return "boolean";
	if (row->words)
		return row->flags & ATTR_BITS ? "words" : "word";
	return row->kind < ARRAY_SIZE(names) && names[row->kind] ? names[row->kind] : "other";
}

static void describe(lua_State *L, const struct attr_table *table, const char *when, lua_Integer *n,
		     bool below);

/* The rows of each table that a row may stand for. */
static void describe_below(lua_State *L, const struct attr_row *row, const char *when, lua_Integer *n,
			   bool below)
{
	if (row->table)
		describe(L, row->table, when, n, below);
	for (size_t i = 0; row->choose && i < row->choose->count; i++)
		if (row->choose->cases[i].table)
			describe(L, row->choose->cases[i].table, row->choose->cases[i].name, n, below);
}

static void describe_row(lua_State *L, const struct attr_row *row, const char *when, bool below)
{
	lua_Integer n = 0;

	lua_newtable(L);
	lua_pushstring(L, strcmp(row->key, ATTR_FIRST) ? row->key : "1");
	lua_setfield(L, -2, "key");
	lua_pushstring(L, kind_name(row));
	lua_setfield(L, -2, "kind");
	if (row->min || row->max) {
		lua_pushinteger(L, row->min);
		lua_setfield(L, -2, "min");
		lua_pushinteger(L, row->max);
		lua_setfield(L, -2, "max");
	}
	if (row->flags & ATTR_READONLY) {
		lua_pushboolean(L, 1);
		lua_setfield(L, -2, "readonly");
	}
	if (when) {
		lua_pushstring(L, when);
		lua_setfield(L, -2, "when");
	}
	if (row->words) {
		lua_newtable(L);
		for (size_t i = 0; i < row->words->count; i++) {
			lua_pushstring(L, row->words->list[i].word);
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		lua_setfield(L, -2, "words");
	}
	/* One level only: a link has a peer, which is a link. */
	if (row->kind == ATTR_NEST && !below) {
		lua_newtable(L);
		describe_below(L, row, NULL, &n, true);
		lua_setfield(L, -2, "fields");
	}
}

static void describe(lua_State *L, const struct attr_table *table, const char *when, lua_Integer *n,
		     bool below)
{
	luaL_checkstack(L, 6, "description");
	for (size_t i = 0; i < table->count; i++) {
		const struct attr_row *row = &table->rows[i];

		if (row->kind == ATTR_FLAT)
			describe_below(L, row, when, n, below);
		if (!row->key || row->kind == ATTR_SKIP || row->kind == ATTR_FLAT)
			continue;
		describe_row(L, row, when, below);
		lua_rawseti(L, -2, ++*n);
	}
}

void attr_describe(lua_State *L, const struct attr_table *table)
{
	lua_Integer n = 0;

	lua_newtable(L);
	describe(L, table, NULL, &n, false);
}
